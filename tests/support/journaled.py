"""The journal's lines of a test, by the names of their events."""

from collections.abc import Callable
from typing import Any

Told = Callable[..., list[dict[str, Any]]]
