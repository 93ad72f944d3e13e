"""The workload of a seed: settings, fleet and events, all drawn from one random generator in a fixed order.

An event is what a person or the platform does to a machine: power, tags, settings, operations beside the app's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from functions.cloud.ledger import APP
from functions.cloud.rows import image_key
from functions.model.machine import MachineId
from functions.model.stop import Scope
from simulator.arm import hybrid, machines, shapes
from simulator.azure import Behaviour, Machine, Refused
from simulator.world import HybridMachine
from tests.simulation import oracle
from tests.simulation.world import SeededWorld
from tests.support.world import vm_body

SUBSCRIPTIONS = tuple(f"00000000-0000-0000-0000-00000000000{digit}" for digit in (1, 2, 3))
IMAGES = tuple(
    f"/subscriptions/{SUBSCRIPTIONS[0]}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries/g/images/{name}"
    "/versions/1.0.0"
    for name in ("web", "db", "batch")
)
MARKETPLACE = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
PERCENT_SEEDS = 0.1  # of the seeds have a cap in percent
HOSTILE_SEEDS = 0.3  # of the seeds have neighbours of oracle.HOSTILE
STOP_SEEDS = 0.3  # of the seeds have people who hold machines, and pause images and subscriptions
RUN_SEEDS = 0.3  # of the seeds have people who order runs
START_SEEDS = 0.3  # of the seeds have stopped machines that the app starts, and people who work on them meanwhile
ARC_SEEDS = 0.2  # of the seeds have PATCH_ARC=on and Arc-enabled servers
REGIONS = ("westeurope", "northeurope")


@dataclass(frozen=True)
class Without:
    """What to leave out of a seed's run: to find the least that still fails."""

    faults: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()
    events: frozenset[int] = frozenset()


NOTHING_LEFT_OUT = Without()


class Workload:
    """Draws what a run is about. Every method draws as much whatever is left out, so that the rest stays the same."""

    def __init__(self, seed: int, without: Without = NOTHING_LEFT_OUT) -> None:
        self.rng, self.without = random.Random(seed), without
        self.caps_rng = random.Random(f"caps {seed}")
        self.hostile_rng = random.Random(f"hostile {seed}")  # of their own, so that a seed's fleet stays as it was
        self.stops_rng = random.Random(f"stops {seed}")
        self.runs_rng = random.Random(f"runs {seed}")
        self.starts_rng = random.Random(f"starts {seed}")
        self.starts = self.starts_rng.random() < START_SEEDS
        self.arc_rng = random.Random(f"arcs {seed}")
        self.arc = self.arc_rng.random() < ARC_SEEDS
        self.size = 0  # machines
        self.events = 0

    def settings(self) -> dict[str, str]:
        rng, caps = self.rng, self.caps_rng
        drawn = {
            "PATCH_SCOPE": ",".join(SUBSCRIPTIONS[:2]),
            "PATCH_MODE": rng.choice(("install", "install", "install", "assess")),
            "PATCH_WINDOW": rng.choice(("any", "any", *oracle.WINDOWS)),
            "PATCH_MAX_IN_FLIGHT": str(rng.choice((1, 2, 10, 1000))),
            "PATCH_MAX_PER_IMAGE": str(rng.choice((1, 2, 1000))),
            "PATCH_CANARIES": str(rng.choice((0, 1, 1, 2))),
            "PATCH_BAKE_MINUTES": str(rng.choice((0, 60))),
            "PATCH_BREAKER": rng.choice(("2 in 7 days", "3 in 7 days")),
            "PATCH_FRESH_HOURS": str(rng.choice((6, 24))),
            "PATCH_MIN_INTERVAL_HOURS": str(rng.choice((24, 144))),
            "PATCH_ROLLOUT_DAYS": str(rng.choice((2, 7))),
            "PATCH_MIN_AGE_MINUTES": str(rng.choice((0, 60))),
            "PATCH_ASSESS_AFTER_MINUTES": "0",
        }
        percent = {"PATCH_MAX_IN_FLIGHT": caps.choice(("10%", "50%"))} if caps.random() < PERCENT_SEEDS else {}
        cap = {"PATCH_START_STOPPED": self.starts_rng.choice(("1", "5", "50%"))} if self.starts else {}
        return drawn | percent | cap | ({"PATCH_ARC": "on"} if self.arc else {})

    def draw_size(self) -> int:
        draw = self.rng.random()
        if draw < 0.0003:
            self.size = 2000
        elif draw < 0.006:
            self.size = self.rng.randint(50, 300)
        else:
            self.size = self.rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 8, 12, 20))
        return self.size

    def days(self) -> float:
        """Mostly a few days; sometimes weeks, in which Graph forgets assessments and rollouts begin and end."""
        long = self.rng.random() < (0.05 if self.size <= 20 else 0.1 if self.size <= 300 else 0)
        if long:
            return 8 + self.rng.random() * 13
        return 1 + self.rng.random() * (3 if self.size <= 20 else 1)

    def schedule_fleet(self, world: SeededWorld, size: int, days: float) -> list[str]:
        """Creates most machines at once and some later. Gives the names of those that are not left out."""
        names = [f"vm-{number:03d}" for number in range(size)]
        for name in names:
            subscription = self.rng.choice(SUBSCRIPTIONS[:1] * 6 + SUBSCRIPTIONS[1:2] * 3 + SUBSCRIPTIONS[2:])
            behaviour, body = self._behaviour(), self._body()
            late = 0.0 if self.rng.random() < 0.6 else self.rng.random() * days * 86400 / 2
            if name in self.without.machines:
                continue
            machine = MachineId(subscription, "rg-web", name)
            world.at(
                world.now + timedelta(seconds=late), partial(create, world, machine, behaviour=behaviour, body=body)
            )
            world.known[name] = machine
        return [name for name in names if name not in self.without.machines]

    def schedule_hostile(self, world: SeededWorld, days: float) -> list[str]:
        """Machines with tags, names and images that no release can read, now or later. They stop no other machine."""
        rng, names = self.hostile_rng, []
        count = rng.randint(1, 4) if rng.random() < HOSTILE_SEEDS else 0
        for number in range(count):
            kind = rng.choice(tuple(oracle.HOSTILE))
            name, group, tags, image = oracle.HOSTILE[kind]
            name = f"{oracle.HOSTILE_NAME}{number}{name}"
            body = vm_body(image={"id": image or rng.choice(IMAGES)}, tags=tags, location=rng.choice(REGIONS))
            machine = MachineId(rng.choice(SUBSCRIPTIONS), group, name)
            late = 0.0 if rng.random() < 0.6 else rng.random() * days * 86400 / 2
            if name not in self.without.machines:
                names.append(name)
                world.at(
                    world.now + timedelta(seconds=late),
                    partial(create, world, machine, behaviour=Behaviour(), body=body),
                )
        return names

    def schedule_stops(self, world: SeededWorld, names: Sequence[str], days: float) -> None:
        """A person stops machines, images or subscriptions for hours, until a time or until a person ends it."""
        rng = self.stops_rng
        count = rng.randint(1, 4) if rng.random() < STOP_SEEDS else 0
        for _ in range(count):
            name, scope = rng.choice(names), rng.choice((Scope.MACHINE, Scope.IMAGE, Scope.SUBSCRIPTION))
            span, by_time = timedelta(hours=rng.uniform(0.2, 30)), rng.random() < 0.5
            world.later(rng.random() * days * 86400, partial(world.stop_one, name, scope, span, by_time=by_time))

    def schedule_runs(self, world: SeededWorld, days: float) -> None:
        """A person orders assessments or installations of some machines, and stops some of these runs."""
        rng = self.runs_rng
        count = rng.randint(1, 4) if rng.random() < RUN_SEEDS else 0
        for number in range(count):
            drawn = random.Random(rng.getrandbits(64))
            world.later(rng.random() * days * 86400, partial(world.order, drawn, number))

    def schedule_starts(self, world: SeededWorld, names: Sequence[str], days: float) -> None:
        """People deallocate half of the machines, many before they are patched, and work on some of those that the app
        starts.
        """
        if not self.starts:
            return
        rng, world.meddler = self.starts_rng, random.Random(self.starts_rng.getrandbits(64))
        for name in names:
            stops, at = rng.random() < 0.5, rng.random() * rng.choice((1800, 7200, days * 43200))
            if stops and name in world.known:
                target = Target(world, world.known[name], rng, Behaviour(), {})
                world.at(world.now + timedelta(seconds=at), partial(_occur, "deallocate", target))

    def schedule_servers(self, world: SeededWorld, days: float) -> list[str]:
        """Arc-enabled servers, at once or later, and what happens to them. Gives the names of those not left out."""
        rng, names = self.arc_rng, []
        for number in range(rng.randint(1, 4) if self.arc else 0):
            name, drawn = f"srv-{number}", random.Random(rng.getrandbits(64))
            if name in self.without.machines:
                continue
            names.append(name)
            server = Server(world, shapes.hybrid_id(name, subscription=drawn.choice(SUBSCRIPTIONS[:2])), drawn)
            begins = world.now + timedelta(seconds=drawn.choice((0.0, drawn.random() * days * 43200)))
            world.at(begins, server.connect)
            for _ in range(drawn.randint(0, 8)):
                kind = drawn.choice(tuple(SERVER_EVENTS))
                world.at(begins + timedelta(seconds=drawn.random() * days * 86400), partial(server.occur, kind))
        return names

    def _behaviour(self) -> Behaviour:
        rng = self.rng
        state = rng.choice(("Supported",) * 12 + ("Unsupported", "Unknown", "UnableToDetermine", None))
        changes: dict[str, Any] = {"support_state": state, "needs_reboot": rng.random() < 0.7}
        if rng.random() < 0.1:
            changes["install_status"] = rng.choice(("Failed", "CompletedWithWarnings"))
        if rng.random() < 0.05:
            changes["assess_status"] = rng.choice(("Failed", "CompletedWithWarnings"))
        if rng.random() < 0.03:
            changes["never_ends"] = True
        if rng.random() < 0.03:
            changes["agent_never_ready"] = True
        if rng.random() < 0.05:
            changes["refuse"] = rng.choice(("conflict", "internal", "agent", "platform-update"))
        if rng.random() < 0.1:
            changes["install_seconds"] = rng.choice((60.0, 5400.0))
        return Behaviour(**changes)

    def _body(self) -> dict[str, Any]:
        rng = self.rng
        tags: dict[str, str] = {}
        if rng.random() < 0.2:
            tags["patch-group"] = f"quorum-{rng.randrange(1 + self.size // 10)}"
        if rng.random() < 0.2:
            tags["patch-ring"] = rng.choice("012")
        if rng.random() < 0.05:
            tags["patch-mode"] = rng.choice(("off", "assess"))
        if rng.random() < 0.05:
            tags["patch-window"] = rng.choice(tuple(oracle.WINDOWS)[1:])
        image: dict[str, Any] = {"id": rng.choice(IMAGES)}
        if (drawn := rng.random()) < 0.05:
            image = MARKETPLACE
        elif drawn < 0.1:
            image = {}  # a disk that was attached or restored
        return vm_body(
            image=image, tags=tags, os=rng.choice(("Linux", "Linux", "Windows")), location=rng.choice(REGIONS)
        )

    def schedule_events(self, world: SeededWorld, names: list[str], *, size: int, days: float) -> None:
        rng = self.rng
        for _ in range(rng.randint(0, min(6 + 2 * size, 60))):
            self.events += 1
            at = world.now + timedelta(seconds=rng.random() * days * 86400)
            kind = rng.choice(tuple(EVENTS))
            name, salt = rng.choice(names or ["none"]), rng.getrandbits(64)
            behaviour, body = self._behaviour(), self._body()
            if self.events in self.without.events or name not in world.known:
                continue
            target = Target(world, world.known[name], random.Random(salt), behaviour, body)
            world.at(at, partial(_occur, kind, target))


@dataclass(frozen=True)
class Target:
    """A machine that an event is about. `behaviour` and `body` are those of its replacement, if it is re-created."""

    world: SeededWorld
    machine: MachineId
    rng: random.Random
    behaviour: Behaviour
    body: dict[str, Any]

    def found(self) -> Machine:
        """The machine as Azure has it. Raises LookupError if it does not exist."""
        return self.world.azure.machine(str(self.machine))


def _occur(kind: str, target: Target) -> None:
    world, name = target.world, target.machine.name
    try:
        EVENTS[kind](target)
    except (Refused, LookupError) as refused:
        world.note(f"{kind} of {name} refused: {refused}")
    else:
        world.note(f"{kind} of {name}")
    world.pump()


def healthy(behaviour: Behaviour) -> Behaviour:
    """What is left when people have corrected what is theirs."""
    return replace(behaviour, install_status="Succeeded", assess_status="Succeeded", never_ends=False, refuse=None)


def create(world: SeededWorld, machine: MachineId, *, behaviour: Behaviour, body: dict[str, Any]) -> None:
    if str(machine) in world.azure.world.machines:
        return
    world.azure.behave(str(machine), behaviour if world.faults.on else healthy(behaviour))
    world.azure.create_machine(str(machine), body)
    world.note(f"{machine.name} created ({behaviour.support_state})")
    world.pump()


@dataclass(frozen=True)
class Server:
    """An Arc-enabled server, and what people and its agent do."""

    world: SeededWorld
    id: str
    rng: random.Random

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    def found(self) -> HybridMachine:
        """Raises LookupError if it is gone."""
        server = self.world.azure.world.hybrid.get(self.id.lower())
        if server is None or not server.exists_at(self.world.now):
            raise LookupError(f"{self.name} is not there")
        return server

    def connect(self) -> None:
        """Its agent connects it for the first time."""
        rng = self.rng
        failing = rng.choice(("Succeeded",) * 6 + ("Failed", "CompletedWithWarnings"))
        behaviour = Behaviour(
            install_status=failing,
            assess_status=rng.choice(("Succeeded",) * 8 + ("Failed", "CompletedWithWarnings")),
            never_ends=rng.random() < 0.05,
            install_seconds=rng.choice((60.0, 1200.0, 5400.0)),
        )
        self.world.azure.behave(self.id, behaviour if self.world.faults.on else healthy(behaviour))
        sku = rng.choice(tuple(oracle.ARC_SYSTEMS))
        self._put({"osType": oracle.ARC_SYSTEMS[sku][0], "osSku": sku}, {})
        self.world.note(f"{self.name} connected ({sku})")
        self.world.pump()

    def occur(self, kind: str) -> None:
        try:
            SERVER_EVENTS[kind](self)
        except (Refused, LookupError) as refused:
            self.world.note(f"{kind} of {self.name} refused: {refused}")
        else:
            self.world.note(f"{kind} of {self.name}")
        self.world.pump()

    def away(self, status: str) -> None:
        """Azure does not reach its agent, for some hours."""
        self.found().status.set(self.world.now, status)
        back = self.world.now + timedelta(hours=self.rng.uniform(0.1, 20))
        self.world.at(back, partial(self.occur, "connected again"))

    def again(self) -> None:
        body = self.found().body.at(self.world.now) or {}
        self._put(body["properties"], body["tags"])

    def retag(self) -> None:
        body, rng = self.found().body.at(self.world.now) or {}, self.rng
        tags = rng.choice(({"patch-mode": "off"}, {"patch-mode": "assess"}, {"patch-ring": "1"}, {"note": "x"}, {}))
        self._put(body["properties"], tags)

    def patches(self) -> None:
        self.world.azure.behave(self.found().id, self.world.azure.world.behaviour(self.found()))

    def remove(self) -> None:
        hybrid.remove(self.world.azure.world, self.found())

    def operate(self, kind: Literal["assess", "install"]) -> None:
        self.world.azure.start_operation(self.found().id, kind, started_by="User")

    def _put(self, properties: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        body = {"location": REGIONS[0], "tags": dict(tags), "properties": dict(properties)}
        self.world.azure.connect_machine(self.id, body)


SERVER_EVENTS: dict[str, Callable[[Server], None]] = {
    "disconnected": lambda server: server.away("Disconnected"),
    "disconnected once more": lambda server: server.away("Disconnected"),
    "expired": lambda server: server.away("Expired"),
    "connected again": Server.again,
    "re-tag": Server.retag,
    "new patches": Server.patches,
    "assessment by a person": lambda server: server.operate("assess"),
    "installation by a person": lambda server: server.operate("install"),
    "delete": Server.remove,
}

Event = Callable[[Target], None]


def _recreate(target: Target) -> None:
    world = target.world
    world.azure.delete_machine(str(target.machine))

    async def again() -> None:
        create(world, target.machine, behaviour=target.behaviour, body=target.body)

    deletion = world.azure.world.timings.delete_seconds
    world.later(deletion + target.rng.uniform(0, 3600), again)  # its name is free when it is gone


def _power(kind: str) -> Event:
    return lambda target: target.world.power(target.machine, kind)


def _delete(target: Target) -> None:
    target.world.azure.delete_machine(str(target.machine))


def _operation(kind: str, by: Literal["User", "Platform"]) -> Event:
    """An operation that the app did not start."""

    def start(target: Target) -> None:
        target.world.azure.start_operation(str(target.machine), kind, started_by=by)

    return start


def _goes_bad(target: Target) -> None:
    """Every machine of this one's image fails from now on."""
    world = target.world
    image = oracle.image_of(target.found(), world.now)
    for each in world.azure.world.machines.values():
        if oracle.image_of(each, world.now) == image:
            world.azure.behave(each.id, replace(world.azure.world.behaviour(each), install_status="Failed"))


def _new_patches(target: Target) -> None:
    found = target.found()
    target.world.azure.behave(found.id, target.world.azure.world.behaviour(found))


def _retag(target: Target) -> None:
    world, rng, found = target.world, target.rng, target.found()
    tags = oracle.tags_of(world, found, world.now)
    name = rng.choice(("patch-mode", "patch-ring", "patch-window", "patch-hold-until", "note"))
    value = {
        "patch-mode": rng.choice(("off", "assess", "install")),
        "patch-ring": rng.choice("012"),
        "patch-window": rng.choice(tuple(oracle.WINDOWS)[1:]),
        "patch-hold-until": (world.now + timedelta(days=rng.randint(0, 3))).date().isoformat(),
        "note": str(rng.random()),
    }[name]
    world.retag(found, {**tags, name: value})


def _resize(target: Target) -> None:
    machines.resize(target.world.azure.world, target.found(), f"Standard_D{target.rng.choice((4, 8, 16))}s_v5")


def _freeze_graph(target: Target) -> None:
    world = target.world
    world.azure.graph.stop_indexing()
    world.at(world.now + timedelta(hours=target.rng.uniform(0.2, 8)), world.azure.graph.resume_indexing)


def _pause(target: Target) -> None:
    target.world.later(0, lambda: target.world.pause_for(target.rng.uniform(600, 6 * 3600)))


def _change_settings(target: Target) -> None:
    rng = target.rng
    change: dict[str, str] = rng.choice(
        (
            {"PATCH_WINDOW": rng.choice(tuple(oracle.WINDOWS))},
            {"PATCH_MODE": rng.choice(("assess", "install"))},
            {"PATCH_BAKE_MINUTES": "0"},
        )
    )
    target.world.set(**change)


def _close_breaker(target: Target) -> None:
    """A person closes the breaker of its image."""
    world = target.world
    row = world.table.rows.get((APP, image_key(oracle.place_of(target.found(), world.now))))
    if row and row.columns.get("opening"):
        world.later(0, lambda: world.table.replace(row, dict(row.columns) | {"closed": row.columns["opening"]}))
        world.later(0, world.invariants.look_at_breakers)


def _roll_back(target: Target) -> None:
    """A newer app runs for a while and leaves some rows behind; hours later it runs again."""
    world = target.world
    world.roll_back(target.rng)
    world.at(world.now + timedelta(hours=target.rng.uniform(1, 12)), world.roll_forward)


EVENTS: dict[str, Event] = {
    "start": _power("start"),
    "deallocate": _power("deallocate"),
    "power off": _power("powerOff"),
    "start again": _power("start"),
    "delete": _delete,
    "re-create": _recreate,
    "assessment by a person": _operation("assess", "User"),
    "assessment by the platform": _operation("assess", "Platform"),
    "installation by a person": _operation("install", "User"),
    "image gone bad": _goes_bad,
    "new patches": _new_patches,
    "new patches again": _new_patches,
    "re-tag": _retag,
    "resize": _resize,
    "Graph frozen": _freeze_graph,
    "pause": _pause,
    "settings": _change_settings,
    "breaker closed": _close_breaker,
    "rolled back": _roll_back,
}
