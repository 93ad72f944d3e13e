"""Every operator's calendar, lived through in short: each machine gets its patches in time, and each rollout ends.

`make calendars` is the long form, and prints how late the patches were.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import pytest

from functions.decisions.forecast import Forecast, forecast
from functions.decisions.plan import Candidate, Fleet
from functions.model.machine import OsType
from functions.policy.settings import Settings
from functions.policy.values import Cap
from tests.calendars.life import START, SWEEP, percentile
from tests.calendars.outcome import outcome
from tests.calendars.table import CALENDARS, ROOMY, WEEK, WITH_CANARY, Calendar, life
from tests.support import DAY

DAYS, MACHINES = 60, 10
BY_NAME = {calendar.name: calendar for calendar in CALENDARS}


@pytest.mark.parametrize("calendar", CALENDARS, ids=lambda each: each.name)
def test_each_machine_gets_its_patches_and_each_rollout_ends(calendar: Calendar) -> None:
    found = outcome(calendar, days=DAYS, machines=MACHINES)
    assert found.problems() == []
    assert {each.patch for each in found.lived.installations} == {each for each in found.lived.patches if not each.bad}
    assert bool(found.off) == calendar.half_off_at_night


def test_a_bad_patch_reaches_the_canary_alone() -> None:
    lived = life(BY_NAME["a bad patch in December"], days=DAYS, machines=MACHINES)
    lived.run(START + DAYS * DAY)
    assert len(lived.broken) == 1
    assert [lived.fleet[name].machine.os_type for name in lived.failed] == [OsType.WINDOWS]


# A goal can be missed: what a calendar keeps that one with less room, or with a stage more, does not.
@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (WITH_CANARY | {"PATCH_BLACKOUT": "2026-11-09..2027-03-31"}, "never had their patches"),
        (WITH_CANARY | {"PATCH_WINDOW": "Sat 22:00-23:00", "PATCH_MAX_IN_FLIGHT": "1"}, "a patch took"),
        ({"PATCH_WINDOW": "Sat 22:00-02:00", **ROOMY}, "the crowd's p95 of Patch Tuesday"),
        (WITH_CANARY, "the crowd's p95 of packages"),
    ],
    ids=["black-out", "one at a time", "canaries in the crowd's window", "canaries once a week"],
)
def test_a_calendar_that_breaks_its_promise_is_reported(environ: dict[str, str], problem: str) -> None:
    found = outcome(
        Calendar("broken", environ, worst=WEEK + 4, patch_tuesday=8, packages=4), days=35, machines=MACHINES
    )
    assert any(each.startswith(problem) for each in found.problems())


def test_a_forecast_that_promises_too_much_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no cap into account: most are installed weeks after it, and nothing changed meanwhile."""

    def hasty(waiting: Iterable[Candidate], fleet: Fleet, limits: Settings, *, now: datetime) -> Forecast:
        roomy = replace(limits, max_in_flight=Cap(100), max_per_image=Cap(100))
        return forecast(waiting, fleet, roomy, now=now)

    monkeypatch.setattr("tests.calendars.life.forecast", hasty)
    environ = {"PATCH_WINDOW": "Sat 22:00-23:00", "PATCH_MAX_IN_FLIGHT": "1", "PATCH_CANARIES": "0"}
    found = outcome(Calendar("hasty", environ, worst=10 * WEEK, images=1), days=40, machines=MACHINES)
    assert any(each.startswith("later than forecast and one opening: vm-") for each in found.problems())
    assert "AT REST" in found.promised()


def test_a_moment_shows_a_forecast_whom_it_must_place() -> None:
    """Nothing is published from then on: a machine that waits is installed, once, and no other begins."""
    lived = life(BY_NAME["weekly, canaries on Wednesday"], days=DAYS, machines=MACHINES)
    lived.run(START + 11 * DAY)  # a Thursday: the canaries have gone
    moment = lived.moment()
    lived.stop_publishing()
    known = {member.machine.id for member in lived.fleet.values() if member.lacks}
    waiting = {item.machine.id for item in moment.waiting}
    assert waiting == known
    assert 0 < len(waiting) < MACHINES
    began = {machine: len(times) for machine, times in lived.began.items()}
    lived.run(moment.now + 3 * WEEK * DAY)
    more = {machine: len(times) - began.get(machine, 0) for machine, times in lived.began.items()}
    assert {machine: count for machine, count in more.items() if count} == dict.fromkeys(waiting, 1)
    assert all(lived.began[machine][-1] >= moment.now for machine in waiting)


@pytest.mark.parametrize(
    ("percent", "expected"), [(1, 1.0), (50, 2.0), (51, 3.0), (95, 4.0), (100, 4.0)], ids=lambda each: str(each)
)
def test_percentile_is_the_nearest_rank(percent: int, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], percent) == expected
    assert percentile([], percent) == 0


def test_a_seed_gives_the_same_life() -> None:
    first, second = (life(BY_NAME["daily"], days=20, machines=6) for _ in range(2))
    for each in (first, second):
        each.run(START + 20 * DAY + SWEEP)
    assert first.began == second.began != {}
