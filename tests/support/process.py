"""The death of a process, as far as a test in one process can show it."""

from typing import Literal

Side = Literal["before", "after"]


class Killed(BaseException):
    """The process dies here: no line after this one runs."""
