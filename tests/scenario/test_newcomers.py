"""A machine that comes to wait between two forecasts has its expected time at once, as a whole new forecast says it."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from functions.decisions import forecast as whole
from functions.decisions.plan import Candidate, Fleet
from functions.model.state import AWAIT_A_TURN
from functions.policy.settings import Settings
from functions.steps import outlook, planning, reconcile
from functions.steps.sweep import Sweep
from simulator.azure import Behaviour
from tests.support.world import QUICK, World

THURSDAY = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 28, 22, 0, tzinfo=UTC)
WEEKLY = {"PATCH_WINDOW": "Sat 22:00-02:00 UTC", "PATCH_CANARIES": "0"}
GOOD = Behaviour(pending={"security": 2})
TICK = timedelta(minutes=15)


class Watched:
    """A fleet, and the times of its waiting machines, with what a whole forecast of that moment says."""

    def __init__(self, lines: pytest.LogCaptureFixture, **settings: str) -> None:
        lines.set_level("INFO", logger="journal")
        lines.clear()
        self.lines = lines
        self.world = World(WEEKLY | settings, timings=QUICK, start=THURSDAY)
        self.world.in_steps(TICK)
        self.told: list[tuple[dict[str, Any], str | None]] = []

    def create(self, *machines: dict[str, str], name: str = "vm") -> None:
        for number, tags in enumerate(machines):
            self.world.create(f"{name}-{number}", GOOD, tags={tag: value for tag, value in tags.items() if value})

    async def watch(self, **span: float) -> None:
        until = self.world.now + timedelta(**span)
        while self.world.now < until:
            before = len(self.lines.messages)
            await self.world.pass_time(minutes=TICK.total_seconds() / 60)
            lines = [json.loads(each) for each in self.lines.messages[before:] if each.startswith("{")]
            told = [line for line in lines if line["event"] == "machine.changed" and line["state"] in AWAIT_A_TURN]
            if told := [line for line in told if line["verb"] != "assess"]:
                judged = await self.judge()
                self.told += [(line, judged.get(line["machine"])) for line in told]

    async def judge(self) -> dict[str, str | None]:
        """When each machine is expected, by a forecast of the whole fleet as it is now."""
        view = await reconcile.view_fleet(self.world.services)
        waiting, limits = await planning.waiting(view.sweep, view.due)
        found = whole.forecast(waiting, limits, self.world.settings, now=self.world.now)
        return {str(machine): to_the_minute(turn.at.isoformat()) for machine, turn in found.turns.items()}


def to_the_minute(moment: str | None) -> str | None:
    """A sweep takes seconds, and the judge looks at its end."""
    return moment and moment[:16]


def events(lines: pytest.LogCaptureFixture, name: str) -> int:
    return sum(f'"event":"{name}"' in each.replace(": ", ":") for each in lines.messages)


calendars = st.fixed_dictionaries(
    {
        "PATCH_WINDOW": st.sampled_from(["Sat 22:00-02:00 UTC", "daily 01:00-03:00 UTC", "Thu,Sat 11:00-15:00 UTC"]),
        "PATCH_CANARY_WINDOW": st.sampled_from(["", "Fri 20:00-23:00 UTC"]),
        "PATCH_CANARIES": st.sampled_from(["0", "1", "3"]),
        "PATCH_BAKE_MINUTES": st.sampled_from(["60", "1440"]),
        "PATCH_MAX_IN_FLIGHT": st.sampled_from(["1", "3", "50%"]),
        "PATCH_MAX_PER_IMAGE": st.sampled_from(["1", "50%"]),
    }
)
machines = st.fixed_dictionaries(
    {
        "patch-ring": st.sampled_from(["", "0", "3"]),
        "patch-group": st.sampled_from(["", "a"]),
        "patch-window": st.sampled_from(["", "", "Sat 21:00-24:00 UTC"]),
    }
)


@effort(max_examples=4, phases=(Phase.explicit, Phase.reuse, Phase.generate), suppress_health_check=[*HealthCheck])
@given(st.lists(machines, min_size=1, max_size=4), st.lists(machines, min_size=1, max_size=2), calendars)
async def test_its_time_is_that_of_a_whole_forecast(
    caplog: pytest.LogCaptureFixture,
    fleet: list[dict[str, str]],
    newcomers: list[dict[str, str]],
    calendar: dict[str, str],
) -> None:
    watched = Watched(caplog, **calendar)
    watched.create(*fleet)
    await watched.watch(hours=1)
    watched.create(*newcomers, name="new")
    await watched.watch(hours=1.5)
    assert watched.told, "a machine waits"
    assert [to_the_minute(line.get("expected")) for line, _ in watched.told] == [judged for _, judged in watched.told]


async def test_a_machine_created_between_two_forecasts_is_reported_with_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One machine at a time: the newcomer goes half an hour after the one that was there."""
    watched = Watched(caplog, PATCH_MAX_IN_FLIGHT="1")
    watched.create({})
    await watched.watch(hours=4)
    openings = events(caplog, "opening.forecast")
    watched.create({}, name="new")
    await watched.watch(hours=1)
    [first, second] = [(line["machine"].rsplit("/")[-1], line["expected"]) for line, _ in watched.told]
    assert first == ("vm-0", SATURDAY.isoformat())
    assert second == ("new-0", (SATURDAY + timedelta(minutes=30)).isoformat())
    assert events(caplog, "opening.forecast") == openings, "the openings are reported once a day"


async def test_newcomers_of_a_large_fleet_wait_for_the_next_forecast_of_its_pace(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forecast that takes its time is not made in every sweep: those that come too soon are reported again, once."""
    made: list[datetime] = []
    watched = Watched(caplog)

    def counted(waiting: Iterable[Candidate], fleet: Fleet, settings: Settings, *, now: datetime) -> whole.Forecast:
        made.append(now)
        return whole.forecast(waiting, fleet, settings, now=now)

    monkeypatch.setattr(outlook, "forecast", counted)
    monkeypatch.setattr(outlook, "PACE", timedelta(hours=1))
    for number in range(3):
        watched.create({}, name=f"new-{number}")
        await watched.watch(minutes=45)
    await watched.watch(hours=4)
    assert len(made) == 4, "while none waits, then for the first, the second, the third"
    assert [made[2] - made[1] >= timedelta(hours=1), made[3] - made[2] >= timedelta(hours=2)] == [True, True]
    at = SATURDAY.isoformat()
    times = [(line["machine"].rsplit("/")[-1], line.get("expected")) for line, _ in watched.told]
    assert times == [("new-0-0", at), ("new-1-0", None), ("new-1-0", at), ("new-2-0", None), ("new-2-0", at)]


async def test_nothing_is_read_for_a_forecast_that_is_not_made(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many waiting machines no forecast is made: their history is asked for when that is reported, once a day."""
    monkeypatch.setattr(outlook, "MAX_WAITING", 1)
    watched = Watched(caplog)
    watched.create({}, {})
    await watched.watch(hours=1)
    read: list[int] = []
    with_limits = planning.with_limits

    async def counted(sweep: Sweep, waiting: list[Candidate]) -> tuple[list[Candidate], Fleet]:
        read.append(len(waiting))
        return await with_limits(sweep, waiting)

    monkeypatch.setattr(planning, "with_limits", counted)
    watched.create({}, name="new")
    await watched.world.pass_time(hours=1)
    assert events(caplog, "machine.changed") == 6, "each of the three is assessed, and waits"
    assert read == []
    await watched.world.pass_time(hours=24)
    assert read == [3], "with the next day's outlook"
