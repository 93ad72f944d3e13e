"""The host's timer trigger, case by case as the real host was recorded, and the schedule's own table.

Factors: what is stored of the schedule x the clock x how long and how the run ends x how many hosts.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from simulator.functions_host.settings import SettingError
from simulator.functions_host.timer import Schedule, Status, status_at_start
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import (
    EVENT,
    HandClock,
    Harness,
    RecordedCases,
    entries,
    gate,
    put,
    recorded,
    wanted_cases,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

recording = RecordedCases("timer")
_EVERY_SECOND = "* * * * * *"
_EVERY_MINUTE = "0 * * * * *"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def repetitions(
    request: pytest.FixtureRequest, tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    async with recording.side_by_side(
        wanted_cases(request), tls=tls, azurite=azurite, folder=tmp_path_factory.mktemp("timer")
    ) as tasks:
        yield tasks


async def test_every_recorded_case_is_repeated() -> None:
    assert recording.repeated.keys() == recorded("timer").keys()


def _time(hour: int = 12, minute: int = 0, second: float = 0.0, *, day: int = 1) -> dt.datetime:
    return dt.datetime(2027, 1, day, hour, minute, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


@recording.repeats("first start")
async def _first_start(harness: Harness, case: dict[str, Any]) -> None:
    clock = HandClock(_time(second=59.9))
    host = await harness.host(harness.settings(TICK_SCHEDULE=_EVERY_MINUTE), clock=clock)
    await host.until(lambda: _ticks(host))
    await asyncio.sleep(0.5)
    assert not host.invocations  # at the full minute, not at start
    clock.now = _time(minute=1)
    await host.until(lambda: bool(entries(host, "on_tick")))
    [entry] = entries(host, "on_tick")
    assert entry.argument.past_due is case["past_due"]
    assert dt.datetime.fromisoformat(entry.argument.schedule_status["Next"]) == _time(minute=1)


@recording.repeats("stopped over a tick")
async def _stopped_over_a_tick(harness: Harness, case: dict[str, Any]) -> None:
    settings = harness.settings(TICK_SCHEDULE=_EVERY_MINUTE)
    first = await harness.host(settings, clock=HandClock(_time(second=5)))
    await first.until(lambda: _ticks(first))
    await first.stop()
    assert not first.invocations
    second = await harness.host(settings, clock=HandClock(_time(second=70)))  # down for 65 s
    await second.until(lambda: bool(entries(second, "on_tick")))
    await asyncio.sleep(1)
    assert [entry.argument.past_due for entry in entries(second, "on_tick")] == [case["past_due"]]
    await second.stop()
    third = await harness.host(settings, clock=HandClock(_time(second=80)))  # the tick is not owed twice
    await third.until(lambda: _ticks(third))
    await asyncio.sleep(0.5)
    assert not third.invocations


@recording.repeats("takes longer than its interval")
async def _takes_longer(harness: Harness, case: dict[str, Any]) -> None:
    recorded_gaps = [later - earlier for earlier, later in itertools.pairwise(case["startedAt"])]
    assert all(12 <= gap < 12.2 for gap in recorded_gaps)  # a 12 s run: back to back
    settings = harness.settings(TICK_SCHEDULE="*/2 * * * * *", TICK_DOES='{"until": "the tick"}')
    clock = HandClock(_time(second=1.9))
    host = await harness.host(settings, clock=clock)
    await host.until(lambda: _ticks(host))
    for runs, second in enumerate((2, 5, 8, 11), start=1):  # each run takes 3 s, longer than to the tick after
        clock.now = _time(second=second)
        gate("the tick").open()
        await host.until(lambda: len(entries(host, "on_tick")) == runs)  # noqa: B023  (awaited here)
    assert [run.started for run in host.invocations] == [_time(second=second) for second in (2, 5, 8, 11)]
    assert host.running_at_once_peak == 1
    gate("the tick").open()


@recording.repeats("raises every time")
async def _raises(harness: Harness, case: dict[str, Any]) -> None:
    assert len(case["startedAt"]) == 4
    clock = HandClock(_time(second=0.9))
    settings = harness.settings(TICK_SCHEDULE=_EVERY_SECOND, TICK_DOES='{"raise": "no"}')
    host = await harness.host(settings, clock=clock)
    await host.until(lambda: _ticks(host))
    for second in range(1, 5):
        clock.now = _time(second=second)
        await host.until(lambda: len([run for run in host.invocations if run.ended]) == second)  # noqa: B023  (awaited here)
    assert [invocation.ok for invocation in host.invocations] == [False] * 4  # each at a tick of its own


@recording.repeats("two hosts")
async def _two_hosts(harness: Harness, case: dict[str, Any]) -> None:
    settings = harness.settings(TICK_SCHEDULE=_EVERY_SECOND)
    one = await harness.host(settings, time_scale=0.01)
    two = await harness.host(settings, time_scale=0.01)  # tries each 0.6 s; a lease lasts 15 s, storage's least
    await one.until(lambda: len(one.invocations) + len(two.invocations) >= 3)
    owner, other = (one, two) if one.invocations else (two, one)
    assert not other.invocations  # the owner's lease, which storage holds, keeps the other out
    await owner.kill()
    await other.until(lambda: bool(entries(other, "on_tick")))
    assert case["takeoverAfterKillSeconds"] <= 60  # within the recorded host's lease, as here


@recording.repeats("by hand")
async def _by_hand(harness: Harness, case: dict[str, Any]) -> None:
    host = await harness.host()
    url = f"{host.url}/admin/functions/on_tick"
    async with harness.http.post(url, json={"input": ""}, headers={"x-functions-key": host.master_key}) as answer:
        assert answer.status == case["answer"]["status"]
    async with harness.http.post(url, json={"input": ""}, headers={"x-functions-key": host.system_key}) as answer:
        assert answer.status == 401
    await host.until(lambda: bool(entries(host, "on_tick")))
    await host.run_timer("on_tick")
    assert [entry.argument.past_due for entry in entries(host, "on_tick")] == [case["past_due"]] * 2


@recording.repeats("schedule more often than once a minute")
async def _frequent(harness: Harness, case: dict[str, Any]) -> None:
    host = await harness.host(harness.settings(TICK_SCHEDULE=_EVERY_SECOND))
    await host.until(lambda: bool(entries(host, "on_tick")))
    assert entries(host, "on_tick")[0].argument.schedule_status == case["schedule_status"]


@recording.repeats("schedule setting missing or no cron expression")
async def _no_schedule(harness: Harness, case: dict[str, Any]) -> None:
    queue = await harness.queue()
    for schedule in (None, "every now and then", "61 * * * * *", "@daily"):
        host = await harness.host(harness.settings(TICK_SCHEDULE=schedule))
        assert host.state == "Running"
        assert host.functions["on_tick"].error
        assert (await harness.post(host, [EVENT])).status == 202
        with pytest.raises(LookupError, match="on_tick"):
            await host.run_timer("on_tick")
        await put(queue, {})
        await host.until(lambda host=host: bool(entries(host, "on_work")))  # type: ignore[misc]
        await host.stop()


def _ticks(host: Any) -> bool:
    """Whether the host holds the timer's lease and has read the stored status."""
    return any(getattr(listener, "ticking", False) for listener in host.listeners)


@pytest.mark.parametrize("case", recording.repeated)
async def test_as_recorded(case: str, repetitions: dict[str, asyncio.Task[None]]) -> None:
    await repetitions[case]


TICKS = {
    "every minute": (_EVERY_MINUTE, _time(second=1), _time(minute=1)),
    "exactly at a tick: the one after": (_EVERY_MINUTE, _time(), _time(minute=1)),
    "five fields: second 0": ("*/5 * * * *", _time(second=1), _time(minute=5)),
    "seconds": ("*/20 * * * * *", _time(second=21), _time(second=40)),
    "names": ("0 0 2 * * Sun", _time(), _time(2, day=3)),
    "day and weekday must both match": ("0 0 0 10 * Sun", _time(), _time(0, day=10)),
    "the 11th is not a Sunday before July": ("0 0 0 11 * Sun", _time(), dt.datetime(2027, 4, 11, tzinfo=dt.UTC)),
}


@pytest.mark.parametrize("name", TICKS)
async def test_the_next_tick(name: str) -> None:
    expression, now, expected = TICKS[name]
    assert Schedule.parse(expression).after(now) == expected


@pytest.mark.parametrize(
    "text", ["", "* * * *", "00:05:00", "0 0 L * * *", "0 0 0 ? * *", "0 0 0 * * 8", "60 * * * * *"]
)
async def test_what_is_not_a_schedule(text: str) -> None:
    with pytest.raises(SettingError, match="NCRONTAB"):
        Schedule.parse(text)


_NEVER = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
HOURLY = Schedule.parse("0 0 * * * *")
STATUSES = {
    "nothing stored: the next tick is noted": (None, Status(_NEVER, _time(13), _time(12, 10))),
    "noted at the first start, not reached yet": (
        Status(_NEVER, _time(13), _time(12, 5)),
        Status(_NEVER, _time(13), _time(12, 5)),
    ),
    "run, and a tick missed: it stays in the past": (
        Status(_time(10), _time(11), _time(10)),
        Status(_time(10), _time(11), _time(10)),
    ),
    "another schedule, its tick to come": (
        Status(_time(12), _time(12, 30), _time(12)),
        Status(_NEVER, _time(13), _time(12, 10)),
    ),
    "another schedule, its tick in the past: nothing is owed": (
        Status(_time(10), _time(10, 30), _time(10)),
        Status(_NEVER, _time(13), _time(12, 10)),
    ),
}


@pytest.mark.parametrize("name", STATUSES)
async def test_the_status_at_start(name: str) -> None:
    stored, expected = STATUSES[name]
    assert status_at_start(stored, HOURLY, _time(12, 10)) == expected
