"""How many events and messages the app works on at once, whatever the host hands it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import function_app
from functions.services import EVENTS_AT_ONCE
from functions.steps import assess, reconcile
from tests.fuzz.triggers import EVENT, Event
from tests.support.world import World


class Steps:
    """Stands in for a step: counts the calls in it, and lets none out before `leave` is set."""

    def __init__(self) -> None:
        self.inside = self.peak = 0
        self.leave = asyncio.Event()

    async def __call__(self, *_: Any) -> None:
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        await self.leave.wait()
        self.inside -= 1


async def _all_at_once(call: Callable[[], Awaitable[None]], steps: Steps, times: int) -> None:
    tasks = [asyncio.ensure_future(call()) for _ in range(times)]
    while steps.inside < min(times, EVENTS_AT_ONCE):  # noqa: ASYNC110  (every task gets its chance to enter)
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    steps.leave.set()
    await asyncio.gather(*tasks)


async def test_of_many_events_only_so_many_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds its turn from its first read to its answer, so that no read is old when its operation starts."""
    world, steps = World(), Steps()
    monkeypatch.setattr(function_app, "_services", lambda: world.services)
    monkeypatch.setattr(assess, "on_event", steps)
    event: Any = Event(EVENT)
    await _all_at_once(lambda: function_app.on_machine_written(event), steps, EVENTS_AT_ONCE * 3)
    assert steps.peak == EVENTS_AT_ONCE
    assert steps.inside == 0


async def test_a_sweep_waits_for_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    world, events, sweep = World(), Steps(), Steps()
    monkeypatch.setattr(function_app, "_services", lambda: world.services)
    monkeypatch.setattr(assess, "on_event", events)
    monkeypatch.setattr(reconcile, "run", sweep)
    sweep.leave.set()
    event: Any = Event(EVENT)
    waiting = [asyncio.ensure_future(function_app.on_machine_written(event)) for _ in range(EVENTS_AT_ONCE * 2)]
    while events.inside < EVENTS_AT_ONCE:  # noqa: ASYNC110
        await asyncio.sleep(0)
    timer: Any = None
    await function_app.on_reconcile(timer)
    assert sweep.peak == 1
    events.leave.set()
    await asyncio.gather(*waiting)
