"""The simulated Azure: its state, the one handler of every request, and a driver for tests.

Both ways in lead to `Azure.handle`: transport.py for SDK clients of this process, server.py for a TLS port. Time is the
clock that the caller passes; nothing runs in the background.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from simulator.arm import (
    assignments,
    authorization,
    configurations,
    groups,
    hybrid,
    machines,
    patching,
    pipeline,
    schedules,
    tenant,
)
from simulator.arm.state import State
from simulator.behaviour import REFUSALS, Behaviour, Grant, Kind, Limits, Lock, Rate, Refusal, Timings
from simulator.event_grid import topic as topics
from simulator.event_grid.topic import Topic
from simulator.faults import Fault, Faults
from simulator.resource_graph import endpoint
from simulator.resource_graph.graph import Graph
from simulator.wire import ConnectionLost, Json, Refused, Request, Response, guid, with_standard_headers
from simulator.world import POWER, Assignment, Group, HybridMachine, Machine, Operation, Run, SystemTopic, overlaps

__all__ = [
    "REFUSALS",
    "Azure",
    "Behaviour",
    "ConnectionLost",
    "Fault",
    "Grant",
    "Group",
    "Limits",
    "Lock",
    "LoggedRequest",
    "Machine",
    "Operation",
    "Rate",
    "Refusal",
    "Refused",
    "Request",
    "Response",
    "SystemTopic",
    "Timings",
    "overlaps",
]

_ALL_PATCHES = {"classificationsToInclude": ["Critical", "Security"]}
_DEFAULT_ORDER: Json = {
    "maximumDuration": "PT1H",
    "rebootSetting": "IfRequired",
    "windowsParameters": _ALL_PATCHES,
    "linuxParameters": _ALL_PATCHES,
}


class LoggedRequest(NamedTuple):
    """One request that came in, with the status of its answer (0: the connection was lost)."""

    time: datetime
    method: str
    path: str
    status: int


class HeldClock:
    """A clock that stands still while a request is answered: what it changes and shows is of one moment."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._held: datetime | None = None

    def __call__(self) -> datetime:
        return self._held or self._now()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Not across an await: others would see the past."""
        self._held = self._now()
        try:
            yield
        finally:
            self._held = None


class Azure(State):
    """The whole of it. Change `faults` and `graph`, too, at will while it runs."""

    def __init__(
        self,
        now: Callable[[], datetime],
        timings: Timings = Timings(),  # noqa: B008 - frozen
        *,
        limits: Limits = Limits().with_arm(),  # noqa: B008 - frozen
        seed: int = 0,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._clock = HeldClock(now)
        super().__init__(self._clock, timings, limits=limits, seed=seed)
        self.graph = Graph(self.world, timings.graph_lag_seconds)
        self.faults = Faults()
        self.topic: Topic | None = None
        self.requests: list[LoggedRequest] = []
        self._sleep = sleep
        self._request_ids = random.Random(seed)

    # --- the handler ---

    async def handle(self, request: Request) -> Response:
        """Answers a request. Raises ConnectionLost where a fault says so."""
        self.world.advance()
        fault = self.faults.take(request)
        if fault.delay_seconds:
            await self._sleep(fault.delay_seconds)
        if fault.drop == "before":
            self._log_request(request, 0)
            raise ConnectionLost("before")
        with self._clock.held():
            response = fault.response() or self._answer(request)
        self.world.advance()
        if fault.drop == "after":
            self._log_request(request, 0)
            raise ConnectionLost("after")
        self._log_request(request, response.status)
        return with_standard_headers(response, request, now=self.now(), guid=self._request_id)

    def _request_id(self) -> str:
        """From a sequence of its own: a world is the same, however often it is asked."""
        return guid(self._request_ids)

    def _answer(self, request: Request) -> Response:
        if endpoint.owns(request):
            return endpoint.answer(self, self.graph, request)
        if topics.owns(request):
            return topics.answer(
                self.topic, request, permits=partial(authorization.permits, self), token_seconds=self.token_seconds()
            )
        if tenant.owns(request):
            return tenant.answer(self, request)
        if assignments.owns(request):
            return assignments.answer(self, request)
        return pipeline.answer(self, request)

    def _log_request(self, request: Request, status: int) -> None:
        self.requests.append(LoggedRequest(self.now(), request.method, request.path, status))

    # --- the driver: the world without HTTP, tokens and quotas ---

    @property
    def operations(self) -> list[Operation]:
        """Every assessment and installation that ever started, in order, by any client."""
        return self.world.operations

    @property
    def changes(self) -> list[Operation]:
        """Every operation on a machine that is not an assessment or installation, in order."""
        return self.world.changes

    @property
    def events(self) -> list[Json]:
        """Every event sent so far, in the Event Grid schema."""
        self.world.advance()
        return self.world.events

    def advance(self) -> datetime | None:
        """Sends the events that are due; gives the time of the next one, for a clock moved by hand."""
        self.world.advance()
        return self.world.next_due

    def behave(self, name: str, behaviour: Behaviour) -> None:
        """What the guest of the machine of this name or id does from now on, also before the machine is created."""
        self.world.behave(name, behaviour)

    def create_topic(self, topic_id: str, host: str = "") -> Topic:
        """The one custom topic there is. `host`: its name; on a TLS port it has that of Azure."""
        host = host or f"{topic_id.rsplit('/', 1)[-1]}.westeurope-1.eventgrid.azure.net"
        self.topic = Topic(topic_id, host)
        self.hosts.add(host)
        return self.topic

    def create_group(self, group_id: str, location: str = "westus", **more: Any) -> Group:
        return groups.create(self.world, group_id, {"location": location, **more})

    def create_machine(self, machine_id: str, body: Json) -> Machine:
        """A machine, and its group if that does not exist."""
        group_id = machine_id.split("/providers/")[0]
        if group_id.lower() not in self.world.groups:
            self.create_group(group_id, str(body.get("location", "westus")))
        return machines.create(self.world, machine_id, body)

    def connect_machine(self, machine_id: str, body: Json) -> HybridMachine:
        """The agent of a server outside Azure connects it; its group comes about if that does not exist.

        `status` of what it returns says from when on the agent is Disconnected, Expired or Connected again.
        """
        group_id = machine_id.split("/providers/")[0]
        if group_id.lower() not in self.world.groups:
            self.create_group(group_id, str(body.get("location", "westus")))
        return hybrid.connect(self.world, machine_id, body)

    def machine(self, machine_id: str) -> Machine:
        """By id, or by name where only one machine has it. Raises LookupError."""
        wanted, world = machine_id.lower(), self.world
        if named := world.machines.get(wanted) or world.hybrid.get(wanted):
            return named
        found = [each for each in (*world.machines.values(), *world.hybrid.values()) if each.name.lower() == wanted]
        if len(found) != 1:
            raise LookupError(f"{len(found)} machines are called {machine_id}")
        return found[0]

    def start_operation(
        self,
        machine_id: str,
        kind: str,
        *,
        started_by: Literal["User", "Platform"] = "Platform",
        order: Json | None = None,
    ) -> Operation:
        """Another client than the app starts something: assess, install, a change of power, restart,
        redeploy or reapply.

        Raises Refused as Resource Manager would, and ValueError for another kind.
        """
        machine = self.machine(machine_id)
        if kind in (*POWER, "reapply") and not isinstance(machine, HybridMachine):
            return machines.act_on(self.world, machine, kind, request=None)
        if kind not in ("assess", "install"):
            raise ValueError(f"{kind} is not a kind of operation that can be started")
        which: Kind = "assess" if kind == "assess" else "install"
        return patching.start(self.world, machine, which, order=order or _DEFAULT_ORDER, started_by=started_by)

    def assign(
        self, scope: str, *, name: str = "weekly", configuration: str = "", selection: Json | None = None
    ) -> Assignment:
        """A maintenance configuration patches a machine, or what `selection` selects in a group or subscription.

        Raises ValueError for another scope.
        """
        default = "/".join(
            [*scope.split("/")[:3], "resourceGroups/rg-maintenance/providers", configurations.KIND, name]
        )
        return schedules.assign(
            self.world, scope, name=name, configuration=configuration or default, selection=selection
        )

    def run_schedule(self, configuration_id: str) -> Run:
        """A maintenance configuration begins a run now. Raises LookupError where there is none of this id."""
        return configurations.run(self.world, configuration_id)

    def delete_machine(self, machine_id: str) -> None:
        """Another client than the app begins its deletion."""
        machines.remove(self.world, self.machine(machine_id), None)

    def delete_group(self, group_id: str) -> None:
        """Another client begins the deletion of a group and of everything in it. Raises LookupError."""
        groups.remove(self.world, self.world.groups[group_id.lower()], None)
