"""One line of the doctor."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "bad", "note", "not checked"]
NOT_CHECKED: Verdict = "not checked"


@dataclass(frozen=True)
class Check:
    """What was checked and found. `remedy` is "" where nothing is to be done."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""
