"""One seed, one run: a workload under faults, then the time after the faults, in which every machine must come to its
right end.

run(seed) gives the same Result each time, in every process.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from functions.cloud.notices import is_notice
from functions.steps import reconcile
from simulator.azure import Timings
from tests.simulation import clock, oracle
from tests.simulation.faults import Faults
from tests.simulation.graph import PredicateGraph
from tests.simulation.host import STEP, StepRun
from tests.simulation.invariants import Violation
from tests.simulation.workload import NOTHING_LEFT_OUT, Without, Workload, healthy
from tests.simulation.world import JournalLines, SeededWorld

LIVENESS_SWEEPS = 48  # after the last fault: then every machine has come to its right end
BREAKERS_CLOSED = 20  # sweeps without faults after which no breaker opens any more
PATIENCE_SWEEPS = 12  # 15 minutes apart, in which a machine may still be found at its right end
NEEDS_A_PERSON = {"failed", "overdue", "powered-off", "agent-not-ready", "unsupported", "undetermined", "breaker-open"}


@dataclass(frozen=True)
class Result:
    seed: int
    violations: tuple[Violation, ...]
    trace: tuple[str, ...]  # what happened in the world
    lines: tuple[str, ...]  # the journal
    faults: tuple[str, ...]  # which were on
    machines: tuple[str, ...]
    events: int
    days: float
    operations: int  # started by the app
    hits: Mapping[str, int]  # how often each fault struck
    told: tuple[Mapping[str, Any], ...]  # the events that a topic of notices took, as often as it did
    to_tell: tuple[Mapping[str, Any], ...]  # the rows of its outbox that a sweep to come would send

    @property
    def log(self) -> str:
        return "\n".join((*self.trace, *self.lines))


def run(seed: int, without: Without = NOTHING_LEFT_OUT, settings: Mapping[str, str] | None = None) -> Result:
    """The run of one seed. `settings`: more than it draws."""
    with journal_kept():
        return clock.run(_run(seed, without, settings or {}))


@contextmanager
def journal_kept() -> Iterator[None]:
    """The journal goes to the seed's own log alone."""
    logger = logging.getLogger("journal")
    before = logger.level, logger.propagate, logger.handlers[:]
    logger.setLevel(logging.INFO)
    logger.propagate, logger.handlers = False, []
    try:
        yield
    finally:
        logger.level, logger.propagate, logger.handlers = before


async def _run(seed: int, without: Without, more: Mapping[str, str]) -> Result:
    workload = Workload(seed, without)
    rng = workload.rng
    settings, size = {**workload.settings(), **more}, workload.draw_size()
    faults = Faults.draw(rng, without.faults)
    page_rows = max(rng.choice((2, 5, 1000, 1000)), size // 8)  # a large fleet in a few pages, not in hundreds
    timings = Timings(graph_lag_seconds=rng.choice((5, 20, 120, 900)), reboot_seconds=rng.choice((180, 2400)))
    world = SeededWorld(settings, random.Random(rng.getrandbits(64)), faults, timings=timings)
    logging.getLogger("journal").addHandler(JournalLines(world))
    assert isinstance(world.azure.graph, PredicateGraph)
    world.azure.graph.page_rows = page_rows
    days = workload.days()
    names = workload.schedule_fleet(world, size, days)
    workload.schedule_events(world, names, size=size, days=days)
    names += workload.schedule_hostile(world, days)
    workload.schedule_stops(world, names, days)
    workload.schedule_runs(world, days)
    workload.schedule_starts(world, names, days)
    names += workload.schedule_servers(world, days)
    idle = rng.choice((1800, 3600, 7200))
    ticking = asyncio.ensure_future(world.sweeps(lambda: idle * (0.5 + world.rng.random())))
    await _pass(world, timedelta(days=days))
    ticking.cancel()
    if not world.failed.is_set():
        await _Liveness(world).check()
    return Result(
        seed=seed,
        violations=tuple(world.invariants.violations),
        trace=tuple(world.trace),
        lines=tuple(world.lines),
        faults=tuple(faults.rates),
        machines=tuple(names),
        events=workload.events,
        days=world.elapsed / timedelta(days=1),
        operations=len(world.invariants.ours),
        hits=faults.hits,
        told=tuple(world.topic.events),
        to_tell=tuple(
            row.columns for row in world.table.rows.values() if is_notice(row.key) and not row.columns.get("sent")
        ),
    )


async def _pass(world: SeededWorld, span: timedelta) -> None:
    """Lets time pass; stops early when an invariant is violated."""
    failed = asyncio.ensure_future(world.failed.wait())
    over = asyncio.ensure_future(asyncio.sleep(span.total_seconds()))
    await asyncio.wait([failed, over], return_when="FIRST_COMPLETED")
    failed.cancel()


class _Liveness:
    """The faults are over, people correct what is theirs, windows open: after so many sweeps every machine is right."""

    def __init__(self, world: SeededWorld) -> None:
        self.world = world

    async def check(self) -> None:
        world = self.world
        world.faults.on = False
        world.note("-- the faults are over")
        await self._correct()
        # Sweeps thin out as the waits grow, and are frequent again at the end: nothing is under way at the last look.
        for number in range(LIVENESS_SWEEPS):
            hours = 0.2 if number < 14 or number >= 40 else 1 if number < 24 else 7
            await _pass(world, timedelta(hours=hours))
            if world.failed.is_set():
                return
            if number < BREAKERS_CLOSED:
                await world.close_breakers()  # what began before the faults were over may open one
            outcome = await world.one_sweep()
            if outcome != "done" and number > 2:
                world.invariants.violated(1, "a sweep without any fault failed")
        await self._check_ends()

    async def _correct(self) -> None:
        world = self.world
        for server in world.azure.world.hybrid_at(world.now):
            server.status.set(world.now, "Connected")
        for machine in world.everything():
            now = world.azure.world.behaviour(machine)
            if healthy(now) != now:
                world.azure.behave(machine.id, healthy(now))
        world.azure.graph.resume_indexing()
        if world.paused:
            await world.resume()
        world.end_stops()
        await world.close_breakers()
        world.roll_forward()
        world.set(PATCH_START_STOPPED="off")  # what it has started is put back
        # What the app has started is put back though it starts no more.
        wide = {"PATCH_WINDOW": "any", "PATCH_MAX_IN_FLIGHT": "1000", "PATCH_MAX_PER_IMAGE": "1000"}
        world.set(**wide, PATCH_START_STOPPED="off")

    async def _check_ends(self) -> None:
        """Each machine is right, now or a few sweeps later: it may be due for its next assessment at this moment."""
        world = self.world
        wrong: dict[str, str] = {}
        for number in range(PATIENCE_SWEEPS):
            wrong = {name: why async for name, why in self._wrong() if not number or name in wrong}
            if not wrong or world.failed.is_set():
                break
            await _pass(world, timedelta(minutes=15))
            await world.one_sweep()
        for why in wrong.values():
            world.invariants.violated(1, why)
        world.invariants.every_operation_is_known()
        world.invariants.every_run_ended()
        world.invariants.every_start_is_put_back()

    async def _wrong(self) -> AsyncIterator[tuple[str, str]]:
        world = self.world
        STEP.set(StepRun("the oracle", world.now))
        seen = await reconcile.fleet_states(world.hosts[0].services)
        steps = {str(machine.id).lower(): step for machine, step in seen}
        if len(steps) != len(seen):
            world.invariants.violated(7, "a machine has two states")
        for machine in world.everything():
            if machine.subscription not in world.covered:
                continue
            step = steps.get(machine.id.lower())
            if oracle.unreadable(machine):
                if not any("machine.unreadable" in line and machine.name in line for line in world.lines):
                    yield machine.id, f"{machine.name} cannot be read, and no line says so"
                continue
            if step is None:
                yield machine.id, f"{machine.name} is not seen at all"
                continue
            right = oracle.right_end(world, machine, world.now)
            if step.state not in right:
                allowed = ", ".join(sorted(right)) or "patched"
                yield machine.id, f"{machine.name} ends {step.state} ({step.reason}); right: {allowed}"
            if not step.reason or (step.state in NEEDS_A_PERSON and not step.remedy):
                world.invariants.violated(7, f"{machine.name} is {step.state} without a reason or remedy")
