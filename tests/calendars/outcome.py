"""One calendar lived through: how late each patch was, and whether everything came to its end."""

from collections.abc import Sequence
from dataclasses import dataclass

from functions.model.machine import OsType
from tests.calendars.life import START, Life, latencies, percentile
from tests.calendars.table import WEEK, Calendar, life
from tests.support import DAY

# When nobody is left the last rollout ends: after PATCH_ROLLOUT_DAYS, or the turn of those that are off.
LAST_ROLLOUT = 2 * WEEK * DAY


@dataclass(frozen=True)
class Outcome:
    """`left`: names of machines that lack a patch after the last was published `worst` days ago; `off`: see there."""

    calendar: Calendar
    lived: Life
    left: Sequence[str]
    off: Sequence[str]  # the same, of machines that are off whenever their window is open
    unfinished: Sequence[str]  # rollouts

    @property
    def worst(self) -> float:
        return max((each.latency / DAY for each in self.lived.installations), default=0.0)

    @property
    def patch_tuesday(self) -> float:
        """The days after which 95 of 100 of Windows' patches are on the crowd."""
        return percentile(latencies(self.lived.installations, canary=False, os=OsType.WINDOWS), 95)

    def problems(self) -> list[str]:
        """What the calendar promises and did not keep."""
        promises = {
            f"never had their patches: {', '.join(self.left[:5])} and others, {len(self.left)} in all": not self.left,
            f"rollouts without an end: {', '.join(self.unfinished)}": not self.unfinished,
            f"a patch took {self.worst:.1f} days, the bound is {self.calendar.worst}": self.worst
            <= self.calendar.worst,
            f"the crowd's p95 of Patch Tuesday is {self.patch_tuesday:.1f} days": self.calendar.patch_tuesday is None
            or 0 < self.patch_tuesday <= self.calendar.patch_tuesday,
        }
        return [promise for promise, kept in promises.items() if not kept]

    def row(self) -> str:
        parts = [
            self._figures(canary=True, os=None),
            self._figures(canary=False, os=OsType.WINDOWS),
            self._figures(canary=False, os=OsType.LINUX),
        ]
        fleet = f"{len(self.lived.fleet):5} {len(self.off):4} {len(self.left):4}"
        return f"{self.calendar.name:37}{fleet}  {'  '.join(parts)}  {self.calendar.worst:5}"

    def _figures(self, *, canary: bool, os: OsType | None) -> str:
        found = latencies(self.lived.installations, canary=canary, os=os)
        return " ".join(f"{percentile(found, percent):5.1f}" for percent in (50, 95, 100))


HEAD = (
    f"{'published to installed, in days':37}{'':15}  {'canaries':17}  {'crowd, Windows':17}  {'crowd, Linux':17}\n"
    f"{'calendar':37}{'size':>5} {'off':>4} {'left':>4}  " + "  ".join(["  p50   p95 worst"] * 3) + "  bound"
)


def outcome(calendar: Calendar, *, days: int, machines: int | None = None) -> Outcome:
    """The fleet over that many days in which patches are published, and then until the last may be in."""
    lived = life(calendar, days=days, machines=machines)
    end = START + days * DAY
    lived.run(end)
    while _left(lived, off_at_night=False) and lived.now < end + calendar.worst * DAY:
        lived.run(lived.now + DAY)
    lived.run(lived.now + LAST_ROLLOUT)
    off = _left(lived, off_at_night=True)
    return Outcome(calendar, lived, _left(lived, off_at_night=False), off, lived.unfinished())


def _left(lived: Life, *, off_at_night: bool) -> list[str]:
    members = (member for member in lived.fleet.values() if member.off_at_night == off_at_night)
    return [member.machine.id.name for member in members if member.lacks]
