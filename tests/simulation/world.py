"""One seed's world: the simulated Azure, the app's processes, the host's deliveries and people, in virtual time.

It extends the scenarios' World. There the test moves the clock, and one thing runs after the other. Here each event,
message and sweep runs as a task of its own on one of two processes, and meets the others wherever a call takes time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from functions import journal
from functions.cloud import event_grid
from functions.cloud.errors import CloudError
from functions.cloud.ledger import APP
from functions.cloud.queue import QUEUES, NewerMessage, read_message
from functions.cloud.rows import LeftAlone
from functions.cloud.runs import columns_of as run_columns
from functions.cloud.runs import run_key
from functions.cloud.stops import columns_of, key_of
from functions.model.machine import MachineId
from functions.model.state import OperationKind
from functions.model.stop import Scope, Stop
from functions.model.text import BadInput
from functions.steps import assess, install, poison, reconcile
from functions.steps.sweep import SweepFailed
from simulator.arm import machines
from simulator.azure import Machine, Operation, Refused, Request, Timings
from tests.simulation import oracle
from tests.simulation.faults import Faults
from tests.simulation.graph import PredicateGraph
from tests.simulation.host import STEP, Host, StepRun
from tests.simulation.invariants import Invariants, is_machine, open_breaker
from tests.simulation.orders import Orders, draw
from tests.simulation.starts import Starts, meddling
from tests.support.process import Killed, Side
from tests.support.queues import QueuedMessage
from tests.support.world import MAX_DEQUEUE_COUNT, START, SUPERSEDE, VISIBILITY_TIMEOUT, World

# Event Grid's own schedule of redelivery, in seconds; the last of them repeats until a day is over.
REDELIVERY_SECONDS = (10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200)
MESSAGE_LEASE = timedelta(minutes=10)  # a killed host's messages are invisible for as long
BUSY_SWEEP_SECONDS = (300, 900)
MAX_IN_FLIGHT = timedelta(hours=8)  # after a rollback is over, until whatever its rows held has ended
OVERLAP_SECONDS = 120
BEHIND_SECONDS = (30, 3600)  # a replica of Resource Graph


class SeededWorld(World):
    """Everything in one place. Created inside the virtual loop."""

    def __init__(
        self,
        settings: dict[str, str],
        rng: random.Random,
        faults: Faults,
        *,
        timings: Timings | None = None,
        kill_at: tuple[int, Side] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._origin = START
        self.rng, self.faults = rng, faults
        self.trace: list[str] = []
        self.lines: list[str] = []
        super().__init__(settings, timings, SUPERSEDE)
        self.azure.graph = PredicateGraph(self.azure.world, self.azure.graph.lag_seconds)
        self.azure.world.random = random.Random(rng.getrandbits(64))
        self.invariants = Invariants(self)
        self.orders, self.starts = Orders(), Starts()
        self.meddler: random.Random | None = None  # people who work on what the app started
        self.table_away_until = START
        self.kill_at = kill_at
        self.calls: list[str] = []  # of all processes, in order
        self.failed = asyncio.Event()  # an invariant is violated
        self.busy: set[asyncio.Task[None]] = set()
        self.azure.world.listeners.append(self._on_event)
        self.queue.transit, self.queue.arrived = self._transit, self._deliver_at
        self._pump_at: datetime | None = None
        self.known: dict[str, MachineId] = {}
        self.paused = False
        self.unsure_until = START  # what newer rows held in flight is not known to this app
        self._changed: list[tuple[datetime, str, str]] = [(START, self.mode, self.environment["PATCH_WINDOW"])]
        self.started_hosts = 0
        self.hosts = [self._new_host(), self._new_host()]

    # -- time

    @property
    def now(self) -> datetime:
        return self._origin + timedelta(seconds=self._loop.time())

    @now.setter
    def now(self, moment: datetime) -> None:
        self._origin = moment - timedelta(seconds=self._loop.time())

    @property
    def elapsed(self) -> timedelta:
        return timedelta(seconds=self._loop.time())

    def clock(self) -> datetime:
        return self.now

    def later(self, seconds: float, act: Callable[[], Awaitable[Any]]) -> None:
        """Acts after so many seconds, as a task of its own."""
        step = STEP.get(None)

        async def wait() -> None:
            await asyncio.sleep(seconds)
            if step:
                STEP.set(step)
            await act()

        self._keep(asyncio.ensure_future(wait()))

    def at(self, moment: datetime, act: Callable[[], None]) -> None:
        self._loop.call_later(max((moment - self.now).total_seconds(), 0), act)

    def pump(self) -> None:
        """Lets Azure send what is due, and runs again when more is."""
        due = self.azure.advance()
        if due and (self._pump_at is None or due < self._pump_at or self._pump_at <= self.now):
            self._pump_at = due
            self.at(due, self.pump)

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now:%m-%d %H:%M:%S} {text}")

    # -- what there is, for oracle and invariants

    def everything(self) -> list[Machine]:
        """The virtual machines and the Arc-enabled servers that exist."""
        return [*self.azure.world.machines.values(), *self.azure.world.hybrid_at(self.now)]

    def machine_there(self, machine_id: str) -> Machine | None:
        """The machine that has this id now."""
        server = self.azure.world.hybrid.get(machine_id.lower())
        return server if server and server.exists_at(self.now) else self.azure.world.machines.get(machine_id.lower())

    # -- what the settings say, for oracle and invariants

    @property
    def mode(self) -> str:
        return self.environment["PATCH_MODE"]

    @property
    def covered(self) -> list[str]:
        return self.environment["PATCH_SCOPE"].split(",")

    @property
    def fresh_hours(self) -> int:
        return int(self.environment["PATCH_FRESH_HOURS"])

    @property
    def interval_hours(self) -> int:
        return int(self.environment["PATCH_MIN_INTERVAL_HOURS"])

    @property
    def rollout_hours(self) -> int:
        return 24 * int(self.environment["PATCH_ROLLOUT_DAYS"])

    @property
    def canaries(self) -> int:
        return int(self.environment["PATCH_CANARIES"])

    @property
    def cap(self) -> int:
        """The most that PATCH_MAX_IN_FLIGHT has allowed: a percentage is of the machines in scope, with those gone."""
        number, percent, _ = self.environment["PATCH_MAX_IN_FLIGHT"].partition("%")
        ever = (*self.azure.world.machines.values(), *self.azure.world.gone, *self.azure.world.hybrid.values())
        in_scope = sum(machine.subscription.lower() in self.covered for machine in ever)
        return max(int(number) * in_scope // 100, 1) if percent else int(number)

    @property
    def image_cap(self) -> int:
        return int(self.environment["PATCH_MAX_PER_IMAGE"])

    def modes_at(self, since: datetime, until: datetime) -> set[str]:
        return {mode for mode, _ in self._settings_at(since, until)}

    def windows_at(self, since: datetime, until: datetime) -> set[str]:
        return {window for _, window in self._settings_at(since, until)}

    def _settings_at(self, since: datetime, until: datetime) -> list[tuple[str, str]]:
        before = [each for each in self._changed if each[0] <= since][-1:]
        return [(mode, window) for at, mode, window in (*before, *self._changed) if at <= until and at >= before[0][0]]

    # -- what people do

    def retag(self, machine: Machine, tags: dict[str, str]) -> None:
        """As a PATCH of the machine does it."""
        body = dict(machine.body.at(self.now) or {}) | {"tags": tags}
        machine.body.set(self.now, body)
        machines.begin(self.azure.world, machine, "update", seconds=0, request=None)
        self.note(f"{machine.name} tagged {tags}")

    async def close_breakers(self) -> None:
        """People close every open breaker."""
        for (partition, key), row in list(self.table.rows.items()):
            if partition == APP and key.startswith("image-") and (opening := open_breaker(row.columns)):
                await self.table.replace(row, dict(row.columns) | {"closed": opening})
                self.note(f"breaker {opening} closed")
        await self.invariants.look_at_breakers()

    async def pause_for(self, seconds: float) -> None:
        if self.paused:
            return
        self.paused, self.invariants.paused_since = True, self.now
        await self.pause("looking")
        self.note(f"paused for {seconds:.0f} s")
        await asyncio.sleep(seconds)
        if self.paused:
            await self.resume()

    async def resume(self) -> None:
        self.paused, self.invariants.paused_since = False, None
        await super().resume()

    async def stop_one(self, name: str, scope: Scope, span: timedelta, *, by_time: bool) -> None:
        """A person stops this machine, its image or its subscription for so long."""
        try:
            machine = self.azure.machine(str(self.known[name]))
        except LookupError:
            return  # not created yet, or gone
        if not self.faults.on:
            return
        value = {
            Scope.MACHINE: machine.id.lower(),
            Scope.IMAGE: oracle.image_of(machine, self.now),
            Scope.SUBSCRIPTION: machine.subscription.lower(),
        }[scope]
        key = key_of(scope, value)
        if not value or (APP, key) in self.table.rows:
            return
        stop = Stop(scope, value, "looking", "a person", until=self.now + span if by_time else None)
        self.table.put(APP, key, columns_of(stop))
        self.invariants.stopped[key] = stop, self.now
        self.note(f"{scope} {value} stopped for {span}")
        await asyncio.sleep(span.total_seconds())
        self.end_stops(key)

    def end_stops(self, *keys: str) -> None:
        """A person ends these stops, or all of them. One whose time has come is over by itself."""
        for key in keys or tuple(self.invariants.stopped):
            if known := self.invariants.stopped.pop(key, None):
                over = replace(known[0], ended=self.now, ended_by="a person")
                if known[0].in_force(self.now):
                    self.table.put(APP, key, columns_of(over))

    def powered(self, change: Operation, *, late: bool) -> None:
        """A call of the app that starts or deallocates a machine has reached Azure."""
        self.invariants.powered(change, late=late)
        if change.kind == "start" and self.meddler and self.faults.on:
            for seconds, kind in meddling(self.meddler):
                self.at(self.now + timedelta(seconds=seconds), partial(self.meddle, change, kind))

    def meddle(self, start: Operation, kind: str) -> None:
        """A person works on a machine, if it is still there."""
        machine = self.azure.world.machines.get(start.machine.lower())
        if machine and machine.vm_id == start.vm_id and self.faults.on:
            with suppress(Refused):
                self.power(MachineId.parse(machine.id), kind)
                self.note(f"{kind} of {machine.name} by a person")
            self.pump()

    async def order(self, rng: random.Random, number: int) -> None:
        """A person orders a run over some machines, and may stop it."""
        there = tuple(each for each in self.known.values() if str(each) in self.azure.world.machines)
        if not there or not self.faults.on:
            return
        run = draw(rng, number, there, now=self.now)
        self.orders.runs[run.id] = run
        self.table.put(APP, run_key(run.id), run_columns(run))
        self.note(f"run {run.id} ordered: {run.kind} of {', '.join(each.name for each in run.machines)}")
        if rng.random() < 0.4:
            await asyncio.sleep(rng.uniform(60, 3 * 3600))
            self.table.put(APP, run_key(run.id), run_columns(self.orders.stop(run.id, self.now)))
            self.note(f"run {run.id} stopped")

    def roll_back(self, rng: random.Random) -> None:
        """Makes some rows those of a newer app."""
        for place, row in list(self.table.rows.items()):
            if "phase" in row.columns and rng.random() < 0.3:
                self.table.put(*place, dict(row.columns) | {"v": 2})
                self.unsure_until = self.now + timedelta(days=365)
                self.note(f"a newer app wrote the row of {row.columns.get('machine', '')}")

    @property
    def rows_were_newer(self) -> bool:
        return self.now < self.unsure_until

    def roll_forward(self) -> None:
        if self.rows_were_newer:
            self.unsure_until = self.now + MAX_IN_FLIGHT
        for place, row in list(self.table.rows.items()):
            if row.columns.get("v") == 2:
                self.table.put(*place, dict(row.columns) | {"v": 1})

    def ask_graph(self, body: dict[str, Any]) -> dict[str, Any]:
        """Resource Graph's answer without a connection; sometimes from a replica that is behind."""
        self.azure.advance()
        behind = self.rng.uniform(*BEHIND_SECONDS) if self.faults.strikes("Graph stale") else 0
        with self.azure.graph.behind(behind):
            answer = self.azure.graph.answer(_Parsed(body), _AllRights())
        assert isinstance(answer.body, dict)
        return answer.body

    # -- processes

    def _new_host(self) -> Host:
        self.started_hosts += 1
        return Host(self, f"P{self.started_hosts}", self.settings)

    def host(self) -> Host:
        return self.rng.choice(self.hosts)

    def died(self, host: Host) -> None:
        """The platform starts another process."""
        self.hosts = [each for each in self.hosts if each is not host] + [self._new_host()]

    def set(self, **settings: str) -> None:
        """Other app settings: the host lets running steps end, and restarts the app."""
        super().set(**settings)
        self._changed.append((self.now, self.mode, self.environment["PATCH_WINDOW"]))
        self.note(f"settings {settings}")
        self.hosts = [self._new_host(), self._new_host()]

    def kills_here(self, when: Side, name: str) -> bool:
        """For the enumerated kills: whether this is the n-th call, before or after it."""
        if when == "before":
            self.calls.append(name)
        return self.kill_at == (len(self.calls), when)

    async def step(self, host: Host, run: StepRun, step: Coroutine[Any, Any, None]) -> str:
        """Runs a step in a process: "done", "failed" (the host delivers again) or "killed"."""

        async def inside() -> None:
            STEP.set(run)
            await step

        task = host.run(inside())
        await asyncio.wait([task])
        step.close()  # of one that was killed before it began
        self.pump()
        outcome = self._outcome(run, task)
        return outcome

    def _outcome(self, run: StepRun, task: asyncio.Task[None]) -> str:
        if task.cancelled():
            return "killed"
        error = task.exception()
        if error is None or isinstance(error, BadInput | NewerMessage | LeftAlone):
            return "done"
        if isinstance(error, Killed):
            return "killed"
        if isinstance(error, CloudError | SweepFailed):
            self.note(f"{run.name}: {error}")
            return "failed"
        self.invariants.violated(4, f"{run.name} raised {type(error).__name__}: {error}", error)
        return "failed"

    def _keep(self, task: asyncio.Task[None]) -> None:
        self.busy.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.busy.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, Killed | CloudError):
            from azure.core.exceptions import AzureError

            if not isinstance(error, AzureError):
                self.invariants.violated(0, f"the simulation itself raised {type(error).__name__}: {error}", error)

    # -- events

    def _on_event(self, body: dict[str, Any]) -> None:
        try:
            event = event_grid.event_in(body["eventType"], body["subject"], body["data"], at=body["eventTime"])
        except BadInput as problem:
            journal.write("event.malformed", problem=problem)  # as function_app.py does
            return
        if event is None:
            return
        strikes, rng = self.faults.strikes, self.rng
        if strikes("event lost"):
            self.note(f"event about {event.machine.name} lost")
            return
        for _ in range(2 if strikes("event doubled") else 1):
            delay = rng.uniform(0, 6 * 3600) if strikes("event late") else rng.uniform(0.5, 20)
            self.later(delay, lambda: self._deliver_event(event))

    async def _deliver_event(self, event: event_grid.MachineEvent) -> None:
        for seconds in (*REDELIVERY_SECONDS, None):
            host = self.host()
            run = StepRun(f"event of {event.machine.name}", self.now)
            if await self.step(host, run, assess.on_event(host.services, event)) == "done" or seconds is None:
                return
            await asyncio.sleep(seconds)

    # -- messages

    def _transit(self, queue: str, body: str, delay_seconds: float) -> Iterator[tuple[str, float]]:
        """What becomes of a message between the app and its queue."""
        strikes, rng = self.faults.strikes, self.rng
        copies = 2 if strikes("message doubled") else 1
        for _ in range(copies):
            late = rng.uniform(0, 2 * 3600) if strikes("message delayed") else rng.uniform(0, 2)
            if strikes("message expired"):
                self.note(f"a message of {queue} expired")
                continue
            yield body[: len(body) // 2] if strikes("message garbled") else body, delay_seconds + late

    def _deliver_at(self, queue: str, message: QueuedMessage) -> None:
        seconds = max((message.visible_at - self.now).total_seconds(), 0)
        self.later(seconds, lambda: self._take(queue, message))

    async def _take(self, queue: str, message: QueuedMessage) -> None:
        host = self.host()
        message.attempts += 1
        step, claim = self._step_of(queue, host, message.body)
        outcome = "done"
        if step is not None:
            run = StepRun(f"{queue} {_about(message.body)}", self.now, claim)
            outcome = await self.step(host, run, step)
        waiting = self.queue.messages[queue]
        if outcome == "done":
            waiting.remove(message)
            return
        if message.attempts >= MAX_DEQUEUE_COUNT and not queue.endswith("-poison"):
            waiting.remove(message)
            self.note(f"{queue} {_about(message.body)} poisoned")
            self.queue.put_poison(_kind(queue), message.body)
            return
        message.visible_at = self.now + (MESSAGE_LEASE if outcome == "killed" else VISIBILITY_TIMEOUT)
        self._deliver_at(queue, message)

    def _step_of(self, queue: str, host: Host, body: str) -> tuple[Coroutine[Any, Any, None] | None, str]:
        """The step that takes a message; none for an unreadable one, which the app reports and completes."""
        kind = _kind(queue)
        try:
            message = read_message(body)
        except (BadInput, NewerMessage):
            return None, ""
        if queue.endswith("-poison"):
            return poison.on_message(host.services, message, kind), message.claim
        step = assess.on_message if kind is OperationKind.ASSESS else install.on_message
        return step(host.services, message), message.claim

    # -- sweeps

    async def sweeps(self, idle_seconds: Callable[[], float]) -> None:
        """The timer: often while something is in flight, seldom otherwise."""
        while True:
            await asyncio.sleep(self.gap(idle_seconds()))
            self.later(0, self.one_sweep)
            if self.faults.strikes("sweeps overlap"):
                self.later(self.rng.uniform(0, OVERLAP_SECONDS), self.one_sweep)

    def gap(self, idle_seconds: float) -> float:
        moving = any(is_machine(row) and row.columns.get("phase") != "held" for row in self.table.rows.values())
        return self.rng.choice(BUSY_SWEEP_SECONDS) if moving else idle_seconds

    async def one_sweep(self) -> str:
        host = self.host()
        return await self.step(host, StepRun("sweep", self.now), reconcile.run(host.services))


class _Parsed(Request):
    """A request whose body needs no parsing."""

    def __init__(self, parsed: dict[str, Any]) -> None:
        super().__init__("POST", "/providers/Microsoft.ResourceGraph/resources")
        object.__setattr__(self, "parsed", parsed)

    def json(self) -> dict[str, Any]:
        return self.parsed  # type: ignore[attr-defined, no-any-return]


class _AllRights:
    """Other tests remove rights. Here, looking each of them up would be a tenth of a seed's CPU."""

    def permits(self, action: str, scope: str) -> bool:
        return True

    def record(self, action: str, scope: str, shown: bool) -> None: ...


class JournalLines(logging.Handler):
    """Hands each journal line to the world of the seed that runs."""

    def __init__(self, world: SeededWorld) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._world.lines.append(f"{self._world.now:%m-%d %H:%M:%S} {text}")
        self._world.invariants.line(text)


def _kind(queue: str) -> OperationKind:
    """What a work queue, or its poison queue, is for."""
    return next(kind for kind, name in QUEUES.items() if queue.startswith(name))


def _about(body: str) -> str:
    try:
        return str(json.loads(body)["job"]["machine"]).rsplit("/", 1)[-1]
    except (ValueError, KeyError, TypeError):
        return "garbled"
