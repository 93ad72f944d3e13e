"""A quota is a speed limit: where Azure answers 429, one line of information says so, and the app asks again later.

Factors: which call is refused × which trigger makes it. No line is an error, no machine is at fault, nothing is lost.
"""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import function_app
from functions.cloud.errors import Throttled
from functions.model.machine import Machine
from functions.model.state import Phase, State
from functions.steps.find import find
from functions.steps.sweep import read_ledger
from simulator.azure import Behaviour, Fault
from tests.fuzz.triggers import EVENT, GOOD, Event, triggered
from tests.support import a_record
from tests.support.world import QUICK, World

GRAPH, MACHINES, GROUPS = r"ResourceGraph", r"/virtualMachines/[^/]+$", r"/resourceGroups/[^/]+$"
AN_HOUR = {"Retry-After": "3600"}


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str, float]]:
    """The lines about quotas: level, what was asked, where, for how long. No other line may report a failure."""
    lines = [(record.levelno, json_of(record)) for record in caplog.records if record.name == "journal"]
    assert [line["event"] for level, line in lines if level > logging.INFO] == []
    found = [(level, line) for level, line in lines if line["event"] == "quota.exhausted"]
    where = ("function", "stage", "subscription")
    return [
        (
            logging.getLevelName(level),
            *next((name, str(line[name])) for name in where if name in line),
            line["wait_seconds"],
        )
        for level, line in found
    ]


def json_of(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(record.getMessage())
    return line


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> World:
    """One machine that an assessment is due for."""
    caplog.set_level(logging.INFO, logger="journal")
    world = World(timings=QUICK)
    world.create(GOOD, Behaviour(pending={"security": 1}))
    world.fresh_events()
    world.now += timedelta(minutes=5)
    return world


def refuse(world: World, method: str, path: str) -> Fault:
    return world.azure.faults.add(Fault(method, path, times=None, status=429, headers=AN_HOUR))


async def an_event() -> None:
    event: Any = Event(EVENT)
    await function_app.on_machine_written(event)


async def a_sweep() -> None:
    timer: Any = None
    await function_app.on_reconcile(timer)


# -- a trigger whose call is refused: which call × which trigger → the lines, and whether the host is to deliver again

Trigger = Callable[[], Awaitable[None]]
CALLS: dict[str, tuple[Trigger, str, str, list[tuple[str, str]], bool]] = {
    "an event: the machine": (an_event, "GET", MACHINES, [("function", "on_machine_written")], True),
    "an event: its resource group": (an_event, "GET", GROUPS, [("function", "on_machine_written")], True),
    "a sweep: Resource Graph": (
        a_sweep,
        "POST",
        GRAPH,
        [("stage", "find"), ("stage", "fleet"), ("stage", "census")],
        False,
    ),
}


@pytest.mark.parametrize(("trigger", "method", "path", "places", "again"), CALLS.values(), ids=CALLS)
async def test_a_quota_that_is_used_up_is_not_a_failure_and_loses_nothing(
    world: World,
    caplog: pytest.LogCaptureFixture,
    trigger: Trigger,
    method: str,
    path: str,
    places: list[tuple[str, str]],
    again: bool,
) -> None:
    fault = refuse(world, method, path)
    raised = await triggered(world, trigger)
    assert told(caplog) == [("INFO", *place, 3600.0) for place in places]
    assert bool(raised) == again
    assert world.operations() == []
    assert await world.records() == []
    world.azure.faults.remove(fault)
    assert await triggered(world, trigger) == ""
    await world.messages()
    assert len(world.operations(kind="assess")) == 1


@pytest.mark.parametrize("trigger", [an_event, a_sweep], ids=["an event", "a sweep"])
async def test_a_quota_of_the_ledger_is_not_a_failure_either(
    world: World, caplog: pytest.LogCaptureFixture, trigger: Trigger
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise Throttled("reading the ledger: the quota is used up", 7)

    world.services.ledger.read = refused  # type: ignore[method-assign]
    world.services.ledger.take_sweep = refused  # type: ignore[method-assign]
    await triggered(world, trigger)
    assert [line[0] for line in told(caplog)] == ["INFO"]


# -- what the sweep reads beside Resource Graph: many machines → one line, and the rest is left in peace


async def test_machines_that_graph_does_not_show_are_asked_for_until_the_quota_is_used_up(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"vm-{number}" for number in range(5)]
    for name in names:
        await world.services.ledger.insert(
            a_record(machine=world.machine_id(name), phase=Phase.HELD, state=State.FAILED, not_before=world.now)
        )
    refuse(world, "GET", MACHINES)
    await triggered(world, a_sweep)
    assert [line[:2] for line in told(caplog)] == [("INFO", "subscription")]
    assert {record.machine.name for record in await world.records()} >= set(names)
    assert len([request for request in world.azure.requests if request.status == 429]) == 1


async def test_resource_groups_that_graph_does_not_show_are_asked_for_until_the_quota_is_used_up(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    template = await world.machine(world.machine_id(GOOD))
    due = [replace(template, id=world.machine_id("vm-01", f"rg-{number}")) for number in range(5)]

    async def machines(*_: Any, **__: Any) -> AsyncIterator[Machine]:
        for machine in due:
            yield machine

    async def no_groups(_: Any) -> dict[str, Any]:
        return {}

    world.services.graph.due_machines = machines  # type: ignore[method-assign]
    world.services.graph.resource_groups = no_groups  # type: ignore[assignment]
    refuse(world, "GET", GROUPS)
    sweep = await read_ledger(world.services)
    assert [candidate async for candidate in find(sweep)] == []
    assert [line[:2] for line in told(caplog)] == [("INFO", "subscription")]
    assert len([request for request in world.azure.requests if request.status == 429]) == 1
