"""One seed, one history: which settings, which fleet, what people and the platform do, which faults; then the end.

run(seed) gives the same Result each time, in every process. `without` leaves faults, machines or happenings out, to
find the least that still fails.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from functions.cloud.ledger import APP
from functions.cloud.rows import image_key
from functions.model.machine import MachineId
from functions.steps import reconcile
from simulator.arm import machines
from simulator.azure import Behaviour, Refused, Timings
from tests.simulation import clock, oracle
from tests.simulation.faults import of_seed
from tests.simulation.graph import PredicateGraph
from tests.simulation.host import STEP, StepRun
from tests.simulation.invariants import Broken
from tests.simulation.world import JournalLines, SeededWorld
from tests.support.world import vm_body

SUBSCRIPTIONS = tuple(f"00000000-0000-0000-0000-00000000000{digit}" for digit in (1, 2, 3))
IMAGES = tuple(
    f"/subscriptions/{SUBSCRIPTIONS[0]}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries/g/images/{name}"
    "/versions/1.0.0"
    for name in ("web", "db", "batch")
)
MARKETPLACE = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
REGIONS = ("westeurope", "northeurope")
JUDGED = 12  # sweeps, 15 minutes apart, in which a machine may be found right
NEEDS_A_PERSON = {"held", "overdue", "powered-off", "agent-not-ready", "unsupported", "undetermined", "breaker-open"}
BREAKERS_CLOSED = 20  # sweeps without faults after which no breaker opens any more
SETTLE_SWEEPS = 48  # sweeps after the last fault in which every machine has come to its right end


@dataclass(frozen=True)
class Leave:
    """What to leave out of a seed's history."""

    faults: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()
    happenings: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Result:
    seed: int
    violations: tuple[Broken, ...]
    story: tuple[str, ...]
    lines: tuple[str, ...]
    faults: tuple[str, ...]
    machines: tuple[str, ...]
    happenings: int
    days: float
    operations: int
    hits: Mapping[str, int]  # how often each fault struck

    @property
    def log(self) -> str:
        return "\n".join((*self.story, *self.lines))


def run(seed: int, leave: Leave = Leave()) -> Result:
    """The history of one seed."""
    with journal_kept():
        return clock.run(_History(seed, leave).run())


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


class _History:
    def __init__(self, seed: int, leave: Leave) -> None:
        self.seed, self.leave = seed, leave
        self.dice = random.Random(seed)
        self.number = self.size = 0

    async def run(self) -> Result:
        dice = self.dice
        settings, size = self._settings(), self._size()
        self.size = size
        weather = of_seed(dice, self.leave.faults)
        pages = max(dice.choice((2, 5, 1000, 1000)), size // 8)  # rows: a large fleet in a few pages, not in hundreds
        timings = Timings(graph_lag_seconds=dice.choice((5, 20, 120, 900)), reboot_seconds=dice.choice((180, 2400)))
        world = SeededWorld(settings, random.Random(dice.getrandbits(64)), weather, timings=timings)
        handler = JournalLines(world)
        logging.getLogger("journal").addHandler(handler)
        days = self._days(size)
        assert isinstance(world.azure.graph, PredicateGraph)
        world.azure.graph.page_rows = pages
        names = self._fleet(world, size, days)
        self._life(world, names, days, size)
        idle = dice.choice((1800, 3600, 7200))
        ticking = asyncio.ensure_future(world.sweeps(lambda: idle * (0.5 + world.dice.random())))
        await self._until(world, timedelta(days=days))
        ticking.cancel()
        if not world.violated.is_set():
            await self._settle(world)
        return Result(
            self.seed, tuple(world.promises.violations), tuple(world.story), tuple(world.lines), tuple(weather.rates),
            tuple(names), self.number, world._loop.time() / 86400, len(world.promises.ours), weather.hits,
        )  # fmt: skip

    # -- what it is about

    def _settings(self) -> dict[str, str]:
        dice = self.dice
        return {
            "PATCH_SCOPE": ",".join(SUBSCRIPTIONS[:2]),
            "PATCH_MODE": dice.choice(("install", "install", "install", "assess")),
            "PATCH_WINDOW": dice.choice(("any", "any", *oracle.WINDOWS)),
            "PATCH_MAX_IN_FLIGHT": str(dice.choice((1, 2, 10, 1000))),
            "PATCH_MAX_PER_IMAGE": str(dice.choice((1, 2, 1000))),
            "PATCH_CANARIES": str(dice.choice((0, 1, 1, 2))),
            "PATCH_BAKE_MINUTES": str(dice.choice((0, 60))),
            "PATCH_BREAKER": dice.choice(("2 in 7 days", "3 in 7 days")),
            "PATCH_FRESH_HOURS": str(dice.choice((6, 24))),
            "PATCH_MIN_INTERVAL_HOURS": str(dice.choice((24, 144))),
            "PATCH_ROLLOUT_DAYS": str(dice.choice((2, 7))),
            "PATCH_MIN_AGE_MINUTES": str(dice.choice((0, 60))),
        }

    def _size(self) -> int:
        draw = self.dice.random()
        if draw < 0.0003:
            return 2000
        return self.dice.randint(50, 300) if draw < 0.006 else self.dice.choice((1, 1, 1, 2, 2, 3, 4, 5, 8, 12, 20))

    def _days(self, size: int) -> float:
        """Mostly a few days; now and then weeks, in which Graph forgets assessments and rounds begin and end."""
        long = self.dice.random() < (0.05 if size <= 20 else 0.1 if size <= 300 else 0)
        if long:
            return 8 + self.dice.random() * 13
        return 1 + self.dice.random() * (3 if size <= 20 else 1)

    def _fleet(self, world: SeededWorld, size: int, days: float) -> list[str]:
        names = [f"vm-{number:03d}" for number in range(size)]
        for name in names:
            places = _Place(self.dice)
            behaviour, body = self._behaviour(), self._body()
            late = 0.0 if self.dice.random() < 0.6 else self.dice.random() * days * 86400 / 2
            if name in self.leave.machines:
                continue
            machine = MachineId(places.subscription, "rg-web", name)
            world.at(world.now + timedelta(seconds=late), partial(create, world, machine, behaviour, body))
            world.known[name] = machine
        return [name for name in names if name not in self.leave.machines]

    def _behaviour(self) -> Behaviour:
        dice = self.dice
        state = dice.choice(("Supported",) * 12 + ("Unsupported", "Unknown", "UnableToDetermine", None))
        changes: dict[str, Any] = {"support_state": state, "needs_reboot": dice.random() < 0.7}
        if dice.random() < 0.1:
            changes["install_status"] = dice.choice(("Failed", "CompletedWithWarnings"))
        if dice.random() < 0.05:
            changes["assess_status"] = dice.choice(("Failed", "CompletedWithWarnings"))
        if dice.random() < 0.03:
            changes["never_ends"] = True
        if dice.random() < 0.03:
            changes["agent_never_ready"] = True
        if dice.random() < 0.05:
            changes["refuse"] = dice.choice(("conflict", "internal", "agent", "platform-update"))
        if dice.random() < 0.1:
            changes["install_seconds"] = dice.choice((60.0, 5400.0))
        return Behaviour(**changes)

    def _body(self) -> dict[str, Any]:
        dice = self.dice
        tags: dict[str, str] = {}
        if dice.random() < 0.2:
            tags["patch-group"] = f"quorum-{dice.randrange(1 + self.size // 10)}"
        if dice.random() < 0.2:
            tags["patch-ring"] = dice.choice("012")
        if dice.random() < 0.05:
            tags["patch-mode"] = dice.choice(("off", "assess"))
        if dice.random() < 0.05:
            tags["patch-window"] = dice.choice(tuple(oracle.WINDOWS)[1:])
        image: dict[str, Any] = {"id": dice.choice(IMAGES)}
        if dice.random() < 0.05:
            image = MARKETPLACE
        return vm_body(
            image=image, tags=tags, os=dice.choice(("Linux", "Linux", "Windows")), location=dice.choice(REGIONS)
        )

    # -- what people and the platform do

    def _life(self, world: SeededWorld, names: list[str], days: float, size: int) -> None:
        dice = self.dice
        count = dice.randint(0, min(6 + 2 * size, 60))
        for _ in range(count):
            self.number += 1
            at = world.now + timedelta(seconds=dice.random() * days * 86400)
            kind = dice.choice(tuple(HAPPENINGS))
            name, salt = dice.choice(names or ["none"]), dice.getrandbits(64)
            fresh, body = self._behaviour(), self._body()
            if self.number in self.leave.happenings or name not in world.known:
                continue

            def happen(
                kind: str = kind, name: str = name, salt: int = salt, fresh: Behaviour = fresh, body: Any = body
            ) -> None:
                try:
                    HAPPENINGS[kind](world, world.known[name], random.Random(salt), fresh, body)
                except (Refused, LookupError) as refused:
                    world.note(f"{kind} of {name} refused: {refused}")
                else:
                    world.note(f"{kind} of {name}")
                world.pump()

            world.at(at, happen)

    async def _until(self, world: SeededWorld, span: timedelta) -> None:
        """Lets time pass; stops early when a promise is broken."""
        broken = asyncio.ensure_future(world.violated.wait())
        await asyncio.wait(
            [broken, asyncio.ensure_future(asyncio.sleep(span.total_seconds()))], return_when="FIRST_COMPLETED"
        )
        broken.cancel()

    # -- the end

    async def _settle(self, world: SeededWorld) -> None:
        """The faults are over, people put right what is theirs, windows open: so many sweeps, and all is well."""
        world.weather.on = False
        world.note("-- the faults are over")
        await self._put_right(world)
        # They thin out as the waits grow, and come close again at the end: nothing is under way when all is judged.
        for number in range(SETTLE_SWEEPS):
            hours = 0.2 if number < 14 or number >= 40 else 1 if number < 24 else 7
            await self._until(world, timedelta(hours=hours))
            if world.violated.is_set():
                return
            if number < BREAKERS_CLOSED:
                await world.close_breakers()  # also one that what came before the faults were over has opened
            outcome = await world.one_sweep()
            if outcome != "done" and number > 2:
                world.promises.broken(1, "a sweep without any fault failed")
        await self._judge(world)

    async def _put_right(self, world: SeededWorld) -> None:
        for machine in world.azure.world.machines.values():
            now = world.azure.world.behaviour(machine)
            if healthy(now) != now:
                world.azure.behave(machine.id, healthy(now))
        world.azure.graph.resume_indexing()
        if world.paused:
            await world.resume()
        await world.close_breakers()
        world.roll_forward()
        world.set(PATCH_WINDOW="any", PATCH_MAX_IN_FLIGHT="1000", PATCH_MAX_PER_IMAGE="1000")

    async def _judge(self, world: SeededWorld) -> None:
        """Each machine is right, now or (it may be due for its next assessment just now) a few sweeps later."""
        wrong: dict[str, str] = {}
        for patience in range(JUDGED):
            wrong = {name: why async for name, why in self._wrong(world) if not patience or name in wrong}
            if not wrong or world.violated.is_set():
                break
            await self._until(world, timedelta(minutes=15))
            await world.one_sweep()
        for why in wrong.values():
            world.promises.broken(1, why)
        world.promises.every_operation_is_known()

    async def _wrong(self, world: SeededWorld) -> AsyncIterator[tuple[str, str]]:
        STEP.set(StepRun("the judge", world.now))
        seen = await reconcile.fleet_states(world.hosts[0].services)
        steps = {str(machine.id): step for machine, step in seen}
        if len(steps) != len(seen):
            world.promises.broken(7, "a machine has two states")
        for machine in world.azure.world.machines.values():
            if machine.subscription not in world.covered:
                continue
            step = steps.get(machine.id.lower())
            if step is None:
                yield machine.id, f"{machine.name} is not seen at all"
                continue
            right = oracle.right_end(world, machine, world.now)
            if step.state not in right:
                allowed = ", ".join(sorted(right)) or "patched"
                yield machine.id, f"{machine.name} ends {step.state} ({step.reason}); right: {allowed}"
            if not step.reason or (step.state in NEEDS_A_PERSON and not step.remedy):
                world.promises.broken(7, f"{machine.name} is {step.state} without a reason or remedy")


class _Place:
    def __init__(self, dice: random.Random) -> None:
        self.subscription = dice.choice(SUBSCRIPTIONS[:1] * 6 + SUBSCRIPTIONS[1:2] * 3 + SUBSCRIPTIONS[2:])


def healthy(behaviour: Behaviour) -> Behaviour:
    """What is left when people have put right what is theirs."""
    return replace(behaviour, install_status="Succeeded", assess_status="Succeeded", never_ends=False, refuse=None)


def create(world: SeededWorld, machine: MachineId, behaviour: Behaviour, body: dict[str, Any]) -> None:
    if str(machine) in world.azure.world.machines:
        return
    world.azure.behave(str(machine), behaviour if world.weather.on else healthy(behaviour))
    world.azure.create_machine(str(machine), body)
    world.note(f"{machine.name} created ({behaviour.support_state})")
    world.pump()


Happening = Callable[[SeededWorld, MachineId, random.Random, Behaviour, dict[str, Any]], None]


def _recreate(world: SeededWorld, machine: MachineId, dice: random.Random, fresh: Behaviour, body: Any) -> None:
    world.azure.delete_machine(str(machine))
    world.later(dice.uniform(0, 3600), lambda: _again(world, machine, fresh, body))


async def _again(world: SeededWorld, machine: MachineId, fresh: Behaviour, body: Any) -> None:
    create(world, machine, fresh, body)


def _power(kind: str) -> Happening:
    return lambda world, machine, dice, fresh, body: world.power(machine, kind)


def _delete(world: SeededWorld, machine: MachineId, dice: random.Random, fresh: Behaviour, body: Any) -> None:
    world.azure.delete_machine(str(machine))


def _patched(kind: str, by: Any) -> Happening:
    def start(world: SeededWorld, machine: MachineId, *_: Any) -> None:
        world.azure.start_operation(str(machine), kind, started_by=by)

    return start


def _goes_bad(world: SeededWorld, machine: MachineId, dice: random.Random, fresh: Behaviour, body: Any) -> None:
    """Every machine of this one's image fails from now on."""
    bad = world.azure.machine(str(machine))
    image = oracle.image_of(bad, world.now)
    for each in world.azure.world.machines.values():
        if oracle.image_of(each, world.now) == image:
            world.azure.behave(each.id, replace(world.azure.world.behaviour(each), install_status="Failed"))


def _new_patches(world: SeededWorld, machine: MachineId, *_: Any) -> None:
    found = world.azure.machine(str(machine))
    world.azure.behave(found.id, world.azure.world.behaviour(found))


def _retag(world: SeededWorld, machine: MachineId, dice: random.Random, fresh: Behaviour, body: Any) -> None:
    found = world.azure.machine(str(machine))
    tags = oracle.tags_of(world, found, world.now)
    name = dice.choice(("patch-mode", "patch-ring", "patch-window", "patch-hold-until", "note"))
    value = {
        "patch-mode": dice.choice(("off", "assess", "install")),
        "patch-ring": dice.choice("012"),
        "patch-window": dice.choice(tuple(oracle.WINDOWS)[1:]),
        "patch-hold-until": (world.now + timedelta(days=dice.randint(0, 3))).date().isoformat(),
        "note": str(dice.random()),
    }[name]
    world.retag(found, {**tags, name: value})


def _resize(world: SeededWorld, machine: MachineId, dice: random.Random, *_: Any) -> None:
    found = world.azure.machine(str(machine))
    machines.resize(world.azure.world, found, f"Standard_D{dice.choice((4, 8, 16))}s_v5")


def _freeze(world: SeededWorld, machine: MachineId, dice: random.Random, *_: Any) -> None:
    world.azure.graph.stop_indexing()
    world.at(world.now + timedelta(hours=dice.uniform(0.2, 8)), world.azure.graph.resume_indexing)


def _pause(world: SeededWorld, machine: MachineId, dice: random.Random, *_: Any) -> None:
    world.later(0, lambda: world.pause_for(dice.uniform(600, 6 * 3600)))


def _settings(world: SeededWorld, machine: MachineId, dice: random.Random, *_: Any) -> None:
    change: dict[str, str] = dice.choice(
        (
            {"PATCH_WINDOW": dice.choice(tuple(oracle.WINDOWS))},
            {"PATCH_MODE": dice.choice(("assess", "install"))},
            {"PATCH_BAKE_MINUTES": "0"},
        )
    )
    world.set(**change)


def _close(world: SeededWorld, machine: MachineId, *_: Any) -> None:
    """A person closes the breaker of its image."""
    key = (APP, image_key(oracle.image_of(world.azure.machine(str(machine)), world.now)))
    row = world.table.rows.get(key)
    if row and row.columns.get("opening"):
        world.later(0, lambda: world.table.replace(row, dict(row.columns) | {"closed": row.columns["opening"]}))
        world.later(0, world.promises.look_at_breakers)


def _roll_back(world: SeededWorld, machine: MachineId, dice: random.Random, *_: Any) -> None:
    """A newer app was here for a while and left some rows behind; later it is back."""
    world.roll_back(dice)
    world.at(world.now + timedelta(hours=dice.uniform(1, 12)), world.roll_forward)


HAPPENINGS: dict[str, Happening] = {
    "start": _power("start"),
    "deallocate": _power("deallocate"),
    "power off": _power("powerOff"),
    "start again": _power("start"),
    "delete": _delete,
    "re-create": _recreate,
    "assessment by somebody": _patched("assess", "User"),
    "assessment by the platform": _patched("assess", "Platform"),
    "installation by somebody": _patched("install", "User"),
    "image gone bad": _goes_bad,
    "new patches": _new_patches,
    "new patches again": _new_patches,
    "re-tag": _retag,
    "resize": _resize,
    "Graph frozen": _freeze,
    "pause": _pause,
    "settings": _settings,
    "breaker closed": _close,
    "rolled back": _roll_back,
}
