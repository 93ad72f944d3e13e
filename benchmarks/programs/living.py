"""Machines' lives in simulated time: what they cost in storage calls and log, and how long they take."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from statistics import quantiles
from typing import Any

from benchmarks.fleet import NOW
from benchmarks.programs import tell
from benchmarks.programs.connected import services
from benchmarks.programs.sweeping import Lines, heard
from functions.cloud import event_grid
from functions.steps import reconcile
from simulator.azure import Behaviour
from tests.support.queues import QueuedMessage
from tests.support.world import QUICK, World

PATCHES = Behaviour(pending={"critical": 1, "security": 2})
LINE_BYTES = 700  # beside the message: 673 to 731 on host 4.1037.0 (tests/recordings/functions_host_product.json)
REQUEST_BYTES = 983  # of an invocation, from the same recording; host.json leaves the host's own lines out
SUNDAYS = "Sun 00:00-06:00 UTC"


# -- storage calls


def storage(machines: int) -> None:
    """Tells `calls`, of table and queues, from creation to the row's end: assessed, installed, assessed again."""
    asyncio.run(_storage(machines))


async def _storage(machines: int) -> None:
    world = World(timings=QUICK)
    sends = 0

    def arrived(queue: str, message: QueuedMessage) -> None:
        nonlocal sends
        sends += 1

    world.queue.arrived = arrived
    for number in range(machines):
        world.create(f"vm-{number}", PATCHES)
    await world.pass_time(hours=3)
    assert len(world.installed()) == machines
    assert not await world.records()
    table = world.table.calls
    tell(calls=sum(table.values()) + sends, table=sum(table.values()), sends=sends, replaces=table["replace"])


# -- time


def created(machines: int) -> None:
    """Tells `p95`, in minutes from due to the start of the installation: so many machines within one minute."""
    asyncio.run(_created(machines))


async def _created(machines: int) -> None:
    world = World(timings=QUICK)
    world.tick = timedelta(seconds=6)
    shown = timedelta(seconds=QUICK.assess_seconds + QUICK.graph_lag_seconds)
    # The worst moment: their assessments are seen just after a sweep, so that they wait for the next one.
    await world.pass_time(seconds=(world.sweep_every - shown).total_seconds())
    due: dict[str, datetime] = {}
    regions = ("westeurope", "northeurope", "eastus", "westus")  # so that no quota is in the way
    for tenth in range(10):
        for number in range(tenth * machines // 10, (tenth + 1) * machines // 10):
            due[str(world.create(f"vm-{number}", PATCHES, location=regions[number % 4]))] = world.now
        await world.pass_time(seconds=6)
    await world.until(lambda: len(world.operations(kind="install")) >= machines, hours=2)
    began = {each.machine.lower(): each.started for each in world.operations(kind="install")}
    waited = [(began[name] - at) / timedelta(minutes=1) for name, at in due.items()]
    tell(p95=quantiles(waited, n=20)[-1], longest=max(waited), floor=(shown + world.sweep_every) / timedelta(minutes=1))


# -- the log


class CountedWorld(World):
    """Counts the invocations that a machine causes: events that pass the filter, and messages."""

    invocations = 0

    async def event(self, body: dict[str, Any], *more: Any) -> None:
        if event_grid.machine_in(body["eventType"], body["subject"], body["data"]):
            self.invocations += 1
        await super().event(body, *more)

    async def _deliver(self, *what: Any) -> None:
        self.invocations += 1
        await super()._deliver(*what)


def month(machines: int) -> None:
    """Tells `kb`: lines and requests of 30 days with daily assessments and patches every week, in kB."""
    asyncio.run(_month(machines))


async def _month(machines: int) -> None:
    lines = heard()
    world = CountedWorld({"PATCH_ASSESS_HOURS": "24", "PATCH_WINDOW": SUNDAYS}, timings=QUICK)
    world.in_long_steps()
    names = [world.create(f"vm-{number}", PATCHES) for number in range(machines)]
    for _ in range(4):
        await world.pass_time(days=7)
        for name in names:
            world.azure.behave(str(name), PATCHES)
    await world.pass_time(days=2)
    installed = len(world.installed())
    assert 3 * machines <= installed <= 5 * machines, installed
    assessed = len(world.operations(kind="assess")) / machines
    tell(kb=_kb(lines, world.invocations), assessments=assessed, installations=installed / machines)


def rest(endpoint: str) -> None:
    """Tells `mb` of a day of sweeps, every five minutes, with nothing due, without the lines of the census."""
    asyncio.run(_rest(endpoint))


class RestLines(Lines):
    """Without the census, which grows with the fleet."""

    def emit(self, record: Any) -> None:
        if '"machine.counted"' not in record.getMessage():
            super().emit(record)


async def _rest(endpoint: str) -> None:
    now = NOW
    given = services(endpoint, lambda: now)
    await reconcile.run(given)  # the first day of a deployment tells everything once
    lines = heard(RestLines())
    sweeps = 288
    for _ in range(sweeps):
        now += timedelta(minutes=5)
        await reconcile.run(given)
    tell(mb=_kb(lines, sweeps) / 1000, lines=lines.lines)


def _kb(lines: Lines, invocations: int) -> float:
    return (lines.bytes + LINE_BYTES * lines.lines + REQUEST_BYTES * invocations) / 1000


# -- Graph pages


def idle(machines: int) -> None:
    """Tells `pages`: the requests to Resource Graph of a sweep over so many machines that need nothing."""
    asyncio.run(_idle(machines))


async def _idle(machines: int) -> None:
    world = World({"PATCH_MODE": "install"}, timings=QUICK.scaled(1_000_000))
    _at_rest(world, 0)
    await world.sweep()  # the census and the forecast of this moment, over one machine
    for number in range(1, machines):
        _at_rest(world, number)
    before = len(world.azure.requests)
    await world.sweep()
    asked = [each for each in world.azure.requests[before:] if each.path.endswith("Microsoft.ResourceGraph/resources")]
    assert not world.errors
    assert not await world.records()
    tell(pages=len(asked))


def _at_rest(world: World, number: int) -> None:
    """A machine that was assessed just now, and for which no patch waits."""
    machine = world.create(f"vm-{number}", Behaviour(pending={}))
    world.azure.start_operation(str(machine), "assess")
