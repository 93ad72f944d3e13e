"""What was last reported about a machine, so that it is reported again only when it changed."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from functions.model.state import State, Step

# The reasons of these states name the time of their end, and a new time is news.
_BY_CALENDAR = (State.WAITING_FOR_WINDOW, State.ON_HOLD)
_NUMBER = re.compile(r"\d+")
_NUMBER_BUT_NO_HOUR = re.compile(r"(\d{4}-\d\d-\d\d(?:[ T]\d\d)?)|\d+")


@dataclass(frozen=True, slots=True)
class Note:
    """What the app remembers of its last word about a machine."""

    state: str
    digest: str  # of what was reported; only its equality means something
    week: int  # of the last word; a machine that is not named for weeks is gone
    in_hand: bool = False  # a sweep had it in hand: once it has not, the state is asked for
    expected: datetime | None = None  # when its installation is expected
    never: bool = False  # the last forecast found no time for it

    def same_but_for_the_time(self, other: "Note") -> bool:
        mine = self.state, self.digest, self.week, self.in_hand, self.never
        return mine == (other.state, other.digest, other.week, other.in_hand, other.never)


@dataclass(frozen=True, slots=True)
class Told:
    """A machine's step as it is reported to people. A field that is not known is left out of the line."""

    step: Step
    expected: datetime | None = None  # when its installation is expected
    image: str = ""
    owner: str = ""
    never: bool = False  # a forecast found no time for it
    ring: str = ""
    canary: bool | None = None

    def with_step(self, step: Step) -> "Told":
        return Told(step, self.expected, self.image, self.owner, self.never, self.ring, self.canary)

    def note(self, now: datetime, *, in_hand: bool) -> Note:
        """What to remember once this was reported."""
        return Note(self.step.state, digest(self.step), week_of(now), in_hand, self.expected, self.never)


def week_of(moment: datetime) -> int:
    """The number of a week, counted from year 1."""
    return moment.toordinal() // 7


def digest(step: Step) -> str:
    """The same for two steps that say the same to people: numbers that count or measure do not matter."""
    if step.state in _BY_CALENDAR:
        rule = _NUMBER_BUT_NO_HOUR.sub(lambda found: found[1] or "#", step.reason)
    else:
        rule = _NUMBER.sub("#", step.reason)
    return hashlib.sha256(f"{step.verb}\n{step.state}\n{rule}".encode()).hexdigest()[:8]
