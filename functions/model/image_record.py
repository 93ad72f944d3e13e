"""What we remember of an image: its rollout, what proved it, and its breaker.

What follows from it: decisions/rollout.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Tally:
    """How the installations of one ring of a rollout ended."""

    succeeded: int = 0
    failed: int = 0
    last: datetime | None = None  # when the last result was recorded


@dataclass(frozen=True)
class ImageRecord:
    """What is remembered of an image. `opened`: the rollout's start and patch cut-off; None before the first."""

    image: str
    opened: datetime | None = None
    canaries: int = 0  # that succeeded and stayed healthy in this rollout
    proved: datetime | None = None  # when the last of their results was recorded
    rings: Mapping[int, Tally] = field(default_factory=dict)  # of this rollout
    failures: tuple[datetime, ...] = ()  # over all rollouts, as far back as the breaker looks
    counted: tuple[str, ...] = ()  # the last operations counted here: a sweep that is killed half-way counts none twice
    opening: str = ""  # the breaker's last opening: its id, which a person names to close it
    opened_because: str = ""
    closed: str = ""  # the opening that a person closed

    @property
    def breaker_open(self) -> bool:
        return bool(self.opening) and self.opening != self.closed
