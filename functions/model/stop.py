"""What a person stopped: everything, or the machines of a subscription, an image, an owner, or one machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from functions.model.machine import Machine
from functions.model.state import State, Wait
from functions.model.text import format_utc


class Scope(StrEnum):
    """Which machines a stop is about."""

    EVERYTHING = "everything"
    SUBSCRIPTION = "subscription"  # value: its id
    IMAGE = "image"  # value: Image.key
    OWNER = "owner"  # value: the text of the tag that PATCH_OWNER_TAG names
    MACHINE = "machine"  # value: the machine's resource id


@dataclass(frozen=True)
class Stop:
    """No new call for these machines, until it ends or a person ends it."""

    scope: Scope
    value: str  # lower-cased, but of an owner; "" for everything
    reason: str
    by: str  # "": not known
    until: datetime | None = None  # None: until a person ends it
    ended: datetime | None = None  # when a person ended it
    ended_by: str = ""
    ended_because: str = ""
    since: datetime | None = None  # when it was placed; None: its row does not say
    told: bool = False  # whether its placing was reported
    problem: str = ""  # its row cannot be read: it stops everything, as what it was meant to stop is not known

    def in_force(self, now: datetime) -> bool:
        return self.ended is None and (self.until is None or now < self.until)

    @property
    def text(self) -> str:
        """Why, by whom and until when."""
        if self.problem:
            return self.problem
        what = "" if self.scope in (Scope.EVERYTHING, Scope.MACHINE) else f"{self.scope} {self.value}: "
        who = f"by {self.by}" if self.by else ""
        until = f"until {format_utc(self.until)}" if self.until else ""
        more = ", ".join(filter(None, (who, until)))
        return f"{what}{self.reason} ({more})" if more else f"{what}{self.reason}"

    @property
    def command(self) -> str:
        """What ends it, for a shell: an owner's text may hold anything."""
        if self.scope is Scope.MACHINE:
            return f"patcher release {self.value}"
        value = self.value.replace("'", "'\\''")
        return "patcher resume" if self.scope is Scope.EVERYTHING else f"patcher resume --{self.scope} '{value}'"

    def wait(self) -> Wait:
        """What a machine that it covers waits for."""
        if self.scope is Scope.MACHINE:
            return Wait(State.ON_HOLD, f"held by a person: {self.text}", f"Release it: {self.command}", self.until)
        ends = "Correct or delete the row" if self.problem else f"Resume when the cause is gone: {self.command}"
        return Wait(State.PAUSED, f"paused: {self.text}", f"{ends} (docs/stop.md).", self.until)


@dataclass(frozen=True)
class Stops:
    """The stops in force at a moment, by scope and value: ten thousand machines may be held."""

    by_what: Mapping[tuple[Scope, str], Stop] = field(default_factory=dict)

    @classmethod
    def in_force(cls, stops: Iterable[Stop], now: datetime) -> "Stops":
        """A row that cannot be read comes before the others: its text says what to correct."""
        known = sorted((stop for stop in stops if stop.in_force(now)), key=lambda stop: bool(stop.problem))
        return cls({(stop.scope, stop.value): stop for stop in known})

    @property
    def everything(self) -> Stop | None:
        """The one that stops the whole app."""
        return self.by_what.get((Scope.EVERYTHING, ""))

    def of(self, machine: Machine, owner_tag: str) -> Stop | None:
        """The widest that covers the machine."""
        of_machine = (
            (Scope.EVERYTHING, ""),
            (Scope.SUBSCRIPTION, machine.id.subscription),
            (Scope.IMAGE, machine.image.key),
            (Scope.OWNER, machine.tag(owner_tag)),
            (Scope.MACHINE, str(machine.id)),
        )
        return next((self.by_what[what] for what in of_machine if what in self.by_what), None)
