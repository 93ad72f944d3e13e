"""One calendar lived through: how late each patch was, and whether everything came to its end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from functions.model.machine import OsType
from tests.calendars.life import START, Kept, Life, latencies, percentile
from tests.calendars.table import WEEK, Calendar, life
from tests.support import DAY

# When no machine is left the last rollout ends: after PATCH_ROLLOUT_DAYS, or the turn of those that are off.
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

    def crowd_p95(self, os: OsType) -> float:
        """The days after which 95 of 100 of this system's patches are on the crowd."""
        return percentile(latencies(self.lived.installations, canary=False, os=os), 95)

    def _missed_goals(self) -> list[str]:
        goals = {
            ("Patch Tuesday", OsType.WINDOWS): self.calendar.patch_tuesday,
            ("packages", OsType.LINUX): self.calendar.packages,
        }
        return [
            f"the crowd's p95 of {what} is {self.crowd_p95(os):.1f} days"
            for (what, os), goal in goals.items()
            if goal is not None and not 0 < self.crowd_p95(os) <= goal
        ]

    @property
    def promises(self) -> list[Kept]:
        """What the forecast promised at the beginning of each rollout, and what became of it."""
        return [*self.lived.kept, *self.lived.broken_promises()]

    @property
    def late_at_rest(self) -> list[Kept]:
        """Later than the forecast and one opening, while nothing changed that a forecast takes for unchanged."""
        return [each for each in self.promises if each.late and not each.meanwhile]

    def promised(self) -> str:
        """How many went in the opening of their forecast, or in the next; and why the others did not."""
        in_time = sum(each.in_time for each in self.promises)
        late = Counter(each.meanwhile or "AT REST" for each in self.promises if each.late)
        told = ", ".join(f"{count} {why}" for why, count in late.most_common())
        rest = len(self.promises) - in_time - late.total()
        return f"{self.calendar.name:37}{len(self.promises):9}{in_time:9}{rest:9}{late.total():9}  {told}".rstrip()

    def problems(self) -> list[str]:
        """What the calendar promises and did not keep."""
        promises = {
            f"never had their patches: {', '.join(self.left[:5])} and others, {len(self.left)} in all": not self.left,
            f"rollouts without an end: {', '.join(self.unfinished)}": not self.unfinished,
            f"later than forecast and one opening: {', '.join(sorted({m.machine.name for m in self.late_at_rest}))}": (
                not self.late_at_rest
            ),
            "no turn was forecast for a machine": all(each.promise.expected for each in self.promises),
            f"a patch took {self.worst:.1f} days, the bound is {self.calendar.worst}": self.worst
            <= self.calendar.worst,
        }
        return [promise for promise, kept in promises.items() if not kept] + self._missed_goals()

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

PROMISED = (
    f"{'promised by the forecast, and kept':37}{'machines':>9}{'in time':>9}{'in next':>9}{'later':>9}  as meanwhile"
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
