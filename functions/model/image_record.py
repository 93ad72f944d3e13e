"""What we remember of an image: its rollout, what proved it, and its breaker.

What follows from it: decisions/rollout.py.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import NamedTuple

from functions.model.machine import MachineId

NOT_CLOSED = "-"


@dataclass(frozen=True)
class Tally:
    """How the installations of one ring of a rollout ended."""

    succeeded: int = 0
    failed: int = 0
    last: datetime | None = None  # when the last result was recorded
    opened: datetime | None = None  # since when its machines may go


class Failure(NamedTuple):
    """The last failed installation of one machine. `machine`: its mark; "" in rows that did not tell machines apart."""

    at: datetime
    machine: str = ""


def mark(machine: MachineId) -> str:
    """Tells one machine from another where its whole id would take too much room."""
    return hashlib.sha256(str(machine).encode()).hexdigest()[:16]


def place(image: str, boundary: str) -> str:
    """Names an image within a trust boundary; "" is the whole fleet."""
    return f"{image} in {boundary}" if boundary else image


@dataclass(frozen=True)
class ImageRecord:
    """What is remembered of an image within a trust boundary (decisions/rollout.py).

    `opened`: the rollout's start and patch cut-off; None before the first. `ended`: the rollout that a person ended.
    """

    image: str
    boundary: str = ""  # "": the whole fleet
    opened: datetime | None = None
    ended: str = ""
    ended_by: str = ""  # who ended it, as far as that person wrote it
    ended_because: str = ""
    canaries: int = 0  # that succeeded and stayed healthy in this rollout
    proved: datetime | None = None  # when the last of their results was recorded
    rings: Mapping[int, Tally] = field(default_factory=dict)  # of this rollout
    failures: tuple[Failure, ...] = ()  # over all rollouts, one per machine, as far back as the breaker looks
    took: tuple[int, ...] = ()  # minutes of the last good installations
    counted: tuple[str, ...] = ()  # the last operations counted here: a sweep that is killed half-way counts none twice
    opening: str = ""  # the breaker's last opening: its id, which a person names to close it
    opened_because: str = ""
    closed: str = ""  # the opening that a person closed
    closed_by: str = ""  # who, as far as that person wrote it
    closed_because: str = ""  # and why
    closed_told: str = ""  # what `closed` held when the journal last reported it; NOT_CLOSED: nothing, at an opening

    fleet: "ImageRecord | None" = field(
        default=None, compare=False
    )  # the record of the whole fleet, in a boundary's one: never written with it

    @property
    def rollout(self) -> str:
        """The id of its rollout, which a person names to end it; "" before the first."""
        return self.opened.astimezone(UTC).strftime("%Y%m%dT%H%M%S") if self.opened else ""

    @property
    def usual(self) -> timedelta | None:
        """How long an installation takes, by the last ones; None where none is known."""
        return timedelta(minutes=median(self.took)) if self.took else None

    @property
    def place(self) -> str:
        return place(self.image, self.boundary)

    @property
    def breaker_open(self) -> bool:
        """Its own, or one that was opened for the whole fleet."""
        return self.open_breaker is not None

    @property
    def open_breaker(self) -> "ImageRecord | None":
        """The record whose breaker is open."""
        if self.opening and self.opening != self.closed:
            return self
        return self.fleet.open_breaker if self.fleet else None
