"""The state behind the simulated Azure: machines, resource groups, operations, and the events that follow from them.

Whatever takes time is recorded with its start and end when it starts. What is true at a moment is computed from these
times on demand. So nothing runs in the background, past moments can be read (Resource Graph lags), and a test can move
the clock by hand. Nothing here depends on HTTP.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import random
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from simulator.behaviour import Behaviour, Limits, Timings
from simulator.wire import Json, Request, guid

T = TypeVar("T")

PATCHING = ("assess", "install")
RESTARTS = ("restart", "redeploy", "reimage")
POWER = ("start", "deallocate", "powerOff", *RESTARTS)


class Timeline(Generic[T]):
    """A value that changes at known times, some of them in the future."""

    def __init__(self) -> None:
        self._times: list[datetime] = []
        self._values: list[T] = []

    def set(self, at: datetime, value: T) -> None:
        """From `at` on the value is this. Changes planned for later are dropped."""
        keep = bisect_right(self._times, at)
        self._times[keep:], self._values[keep:] = [at], [value]

    def at(self, when: datetime) -> T | None:
        index = bisect_right(self._times, when)
        return self._values[index - 1] if index else None

    def since(self, when: datetime) -> datetime | None:
        """When the value that holds at `when` began."""
        index = bisect_right(self._times, when)
        return self._times[index - 1] if index else None


@dataclass(frozen=True)
class Patch:
    """One update that waits on a machine."""

    id: str
    name: str
    classification: str  # as in a request: Critical, Security, Other, UpdateRollUp, …
    version: str = ""
    kb: str = ""


@dataclass(eq=False)
class Operation:
    """One operation on one machine: kind, origin, start, end and outcome."""

    kind: (
        str  # assess, install, create, update, start, deallocate, powerOff, restart, redeploy, reimage, reapply, delete
    )
    machine: str  # the machine's id as its creator spelled it
    vm_id: str
    operation_id: str  # the GUID of the 202, equal to the activity id in the results
    started: datetime
    ends: datetime | None  # None: it never does
    started_by: str  # User or Platform
    windows: bool
    region: str
    _now: Callable[[], datetime] = field(repr=False)
    final_status: str = "Succeeded"
    order: Json = field(default_factory=dict)  # the body of installPatches
    request: Request | None = field(default=None, repr=False)  # the one that started it, for its event
    behaviour: Behaviour = field(default_factory=Behaviour)
    waiting: tuple[Patch, ...] = ()  # the updates that waited when it started
    installs: frozenset[str] = frozenset()  # ids of the updates that it installs if it is not ended early
    output: Json = field(default_factory=dict)  # the result of an assessment or installation that was not ended early
    ended_by: tuple[str, str] | None = None  # (code, message) if it was ended early
    planned_end: datetime | None = None  # when it would have ended
    run: str = ""  # the id of the maintenance run that started it

    @property
    def reported(self) -> bool:
        """Whether the guest wrote a result: not where Azure itself ended the operation."""
        return self.behaviour.azure_error is None and (self.ended_by is None or self.ended_by[0] in GUEST_ENDS)

    @property
    def status(self) -> str:
        """InProgress, or how it ended."""
        return self.status_at(self._now())

    def status_at(self, when: datetime) -> str:
        return "InProgress" if self.runs_at(when) else self.final_status

    def runs_at(self, when: datetime) -> bool:
        return self.started <= when and (self.ends is None or when < self.ends)

    def end_early(self, at: datetime, status: str, ended_by: tuple[str, str]) -> None:
        self.planned_end, self.ends = self.ends, at
        self.final_status, self.ended_by, self.installs = status, ended_by, frozenset()


def overlaps(operations: Iterable[Operation]) -> list[tuple[Operation, Operation]]:
    """Pairs of assessments and installations on one machine of which the second began before the first ended.

    An operation that a newer one ended counts with its planned end, so that the overlap shows.
    """
    found = []
    by_machine: dict[str, list[Operation]] = {}
    for operation in sorted((each for each in operations if each.kind in PATCHING), key=lambda each: each.started):
        earlier = by_machine.setdefault(operation.vm_id, [])
        found += [(other, operation) for other in earlier if _reaches(other, operation.started)]
        earlier.append(operation)
    return found


def _reaches(operation: Operation, when: datetime) -> bool:
    cut_short = operation.ended_by is not None and operation.ended_by[0] == SUPERSEDED[0]
    end = operation.planned_end if cut_short else operation.ends
    return end is None or end > when


GUEST_ENDS = ("NEWER_OPERATION_SUPERSEDED", "ShutdownOrUnresponsive")  # that the second is one is a guess
CANCELED = ("OperationCanceled", "The operation was canceled.")
SUPERSEDED = (
    "NEWER_OPERATION_SUPERSEDED",
    "Patch operation terminated due to a newer operation taking precedence. [Activity id: newer]",
)


class _Lasting:
    """What exists from its creation to its deletion."""

    created: datetime
    deleted: datetime | None

    def exists_at(self, when: datetime) -> bool:
        return self.created <= when and (self.deleted is None or when < self.deleted)


class _Resource(_Lasting):
    """A resource whose id says the subscription."""

    id: str

    @property
    def subscription(self) -> str:
        return self.id.split("/")[2]


@dataclass(eq=False)
class Machine(_Lasting):
    """One virtual machine, from its PUT to its DELETE."""

    id: str
    subscription: str
    group: str
    name: str
    vm_id: str
    windows: bool
    region: str
    created: datetime
    provisioned: datetime
    agent_delay: timedelta
    extensions_delay: timedelta
    body: Timeline[Json] = field(default_factory=Timeline)
    power: Timeline[str] = field(default_factory=Timeline)
    operations: list[Operation] = field(default_factory=list)
    updates: list[tuple[datetime, datetime]] = field(default_factory=list)  # those that take time, as a new size does
    deleting: datetime | None = None  # when its deletion began
    deleted: datetime | None = None  # when that ends: the machine exists until then
    moved: datetime | None = None  # when it got the id that it has
    disk_since: datetime | None = None  # when its OS disk was swapped or re-created: what was installed before is gone

    @property
    def appeared(self) -> datetime:
        """When a machine first had its id."""
        return self.moved or self.created

    def exists_at(self, when: datetime) -> bool:
        return self.appeared <= when and super().exists_at(when)

    def provisioning_at(self, when: datetime) -> str:
        if self.deleting is not None and when >= self.deleting:
            return "deleting"
        if when < self.provisioned:
            return "creating"
        return "updating" if any(begun <= when < ends for begun, ends in self.updates) else "succeeded"

    def power_at(self, when: datetime) -> str:
        return self.power.at(when) or "starting"

    def agent_ready_at(self, when: datetime, behaviour: Behaviour) -> bool:
        since = self.power.since(when)
        if behaviour.agent_never_ready or since is None or self.power_at(when) != "running":
            return False
        ready, turn = since + self.agent_delay, behaviour.agent_turns_seconds
        return when >= ready and (turn is None or (when - ready).total_seconds() // turn % 2 == 0)

    @property
    def extensions_done(self) -> datetime:
        """When the extensions of its creation end: they begin with the agent's first report."""
        return self.provisioned + self.agent_delay + self.extensions_delay

    def extensions_busy_at(self, when: datetime, behaviour: Behaviour) -> bool:
        begun = self.provisioned + self.agent_delay
        return begun <= when and (behaviour.extensions_hang or when < self.extensions_done)

    def running_at(self, when: datetime, kinds: tuple[str, ...] = PATCHING) -> list[Operation]:
        return [each for each in self.operations if each.kind in kinds and each.runs_at(when)]

    def newest(self, kind: str, when: datetime) -> Operation | None:
        """The last operation of this kind that had begun at `when`."""
        for operation in reversed(self.operations):  # no generator: it is asked per machine and query
            if operation.kind == kind and operation.started <= when:
                return operation
        return None

    def installed_at(self, when: datetime) -> set[str]:
        since = self.disk_since or self.created
        ended = (each for each in self.operations if each.installs and each.ends is not None)
        done = (each for each in ended if each.ends is not None and since <= each.ends <= when)
        return set().union(*(each.installs for each in done))


@dataclass(eq=False)
class HybridMachine(Machine):
    """A server outside Azure that its agent connected (Azure Arc). It has no power state that Azure knows."""

    status: Timeline[str] = field(default_factory=Timeline)  # of the agent: Connected, Disconnected, Expired

    def status_at(self, when: datetime) -> str:
        return self.status.at(when) or "Disconnected"


@dataclass(eq=False)
class Group(_Lasting):
    """One resource group."""

    id: str
    subscription: str
    name: str
    created: datetime
    body: Timeline[Json] = field(default_factory=Timeline)
    deleting: datetime | None = None  # when its deletion began
    deleted: datetime | None = None  # when that ends: the group exists until then

    def provisioning_at(self, when: datetime) -> str:
        return "Deleting" if self.deleting is not None and when >= self.deleting else "Succeeded"


@dataclass(eq=False)
class Assignment(_Resource):
    """A maintenance configuration assigned to a machine, or at a group or subscription to what `selection` selects."""

    id: str
    scope: str
    configuration: str
    selection: Json | None
    created: datetime
    deleted: datetime | None = None

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]


@dataclass(eq=False)
class Configuration(_Resource):
    """One version of a maintenance configuration. `body` is that of its PUT."""

    id: str
    body: Json
    created: datetime
    deleted: datetime | None = None


@dataclass(eq=False)
class ScaleSet(_Resource):
    """One version of a scale set. `body` is that of its PUT."""

    id: str
    body: Json
    created: datetime
    deleted: datetime | None = None


@dataclass(frozen=True)
class SystemTopic:
    """A system topic: the scope whose events it carries, and the object id of its identity ("" without one)."""

    id: str
    source: str
    principal_id: str

    @property
    def subscription(self) -> str:
        return self.id.split("/")[2]


@dataclass(eq=False)
class Run:
    """One run of a maintenance configuration, with the installations that it started."""

    configuration: Configuration
    started: datetime
    operations: list[Operation] = field(default_factory=list)
    refused: list[Machine] = field(default_factory=list)  # those that did not let it start one

    @property
    def name(self) -> str:
        return self.started.strftime("%Y%m%d%H%M%S")

    @property
    def id(self) -> str:
        return f"{self.configuration.id.lower()}/providers/microsoft.maintenance/applyupdates/{self.name}"

    @property
    def subscription(self) -> str:
        return self.configuration.subscription

    def exists_at(self, when: datetime) -> bool:
        return self.started <= when


_ORDINARY = (0, Behaviour())  # of a machine of which nothing else was said


class World:
    """Everything that exists, and the events that are due."""

    def __init__(self, now: Callable[[], datetime], timings: Timings, *, limits: Limits, seed: int) -> None:
        self.now, self.timings, self.limits = now, timings, limits
        self.random = random.Random(seed)
        self.machines: dict[str, Machine] = {}
        self.gone: list[Machine] = []
        self.hybrid: dict[str, HybridMachine] = {}
        self.groups: dict[str, Group] = {}
        self.gone_groups: list[Group] = []
        self.assignments: list[Assignment] = []  # those that are gone too
        self.configurations: list[Configuration] = []  # earlier versions too
        self.scale_sets: list[ScaleSet] = []  # earlier versions too
        self.runs: list[Run] = []
        self.subscriptions: dict[str, str] = {}
        self.features: dict[
            tuple[str, str], str
        ] = {}  # states of preview features, by subscription and name in lower case
        self.system_topics: list[SystemTopic] = []  # of Event Grid, as deployed
        self.event_subscriptions: dict[str, Json] = {}  # their properties, by id
        self.alerts: dict[str, Json] = {}  # log alerts and action groups, by id in lower case
        self.management_groups: dict[str, list[str]] = {}  # their subscriptions, by name in lower case
        self.operations: list[Operation] = []  # assessments and installations
        self.changes: list[Operation] = []  # every other operation
        self.by_operation_id: dict[str, Operation] = {}
        self.events: list[Json] = []
        self.listeners: list[Callable[[Json], None]] = []
        self._behaviours: dict[str, tuple[int, Behaviour]] = {}
        self._due: list[tuple[datetime, int, Callable[[], Json | None]]] = []
        self._order = itertools.count()

    def guid(self) -> str:
        return guid(self.random)

    def behave(self, name: str, behaviour: Behaviour) -> None:
        """Applies from now on, with new updates waiting."""
        generation = self._behaviours.get(name.lower(), (0, behaviour))[0] + 1
        self._behaviours[name.lower()] = (generation, behaviour)

    def behaviour(self, machine: Machine) -> Behaviour:
        return self._behaviour(machine)[1]

    def _behaviour(self, machine: Machine) -> tuple[int, Behaviour]:
        by_id = self._behaviours.get(machine.id.lower())
        return by_id or self._behaviours.get(machine.name.lower()) or _ORDINARY

    def waiting(self, machine: Machine) -> tuple[Patch, ...]:
        """The updates that wait on it now."""
        generation, behaviour = self._behaviour(machine)
        installed = machine.installed_at(self.now())
        offered = patches_of(behaviour, generation, windows=machine.windows)
        return tuple(patch for patch in offered if patch.id not in installed)

    def machines_at(self, when: datetime) -> list[Machine]:
        return [each for each in itertools.chain(self.machines.values(), self.gone) if each.exists_at(when)]

    def hybrid_at(self, when: datetime) -> list[HybridMachine]:
        return [each for each in self.hybrid.values() if each.exists_at(when)]

    def groups_at(self, when: datetime) -> list[Group]:
        return [each for each in itertools.chain(self.groups.values(), self.gone_groups) if each.exists_at(when)]

    def assignments_at(self, when: datetime) -> list[Assignment]:
        return [each for each in self.assignments if each.exists_at(when)]

    def configurations_at(self, when: datetime) -> list[Configuration]:
        return [each for each in self.configurations if each.exists_at(when)]

    def scale_sets_at(self, when: datetime) -> list[ScaleSet]:
        return [each for each in self.scale_sets if each.exists_at(when)]

    def record(self, operation: Operation, machine: Machine) -> Operation:
        (self.operations if operation.kind in PATCHING else self.changes).append(operation)
        self.by_operation_id[operation.operation_id] = operation
        machine.operations.append(operation)
        return operation

    def rename(self, machine: Machine, new_id: str) -> None:
        """The same machine under another id: what was at the old one is gone."""
        now, old_id, parts = self.now(), machine.id.lower(), new_id.split("/")
        self.machines[new_id.lower()] = replace(machine, id=new_id, subscription=parts[2], group=parts[4], moved=now)
        machine.deleted = now
        self.bury(machine)
        if old_id in self._behaviours:
            self._behaviours[new_id.lower()] = self._behaviours.pop(old_id)

    def bury(self, machine: Machine) -> None:
        """Its deletion is over. Without effect a second time."""
        if self.machines.get(machine.id.lower()) is machine:
            self.gone.append(self.machines.pop(machine.id.lower()))

    def bury_group(self, group: Group) -> None:
        """Its deletion is over."""
        self.gone_groups.append(self.groups.pop(group.id.lower()))

    def at(self, due: datetime, make: Callable[[], Json | None]) -> None:
        """Sends the event at `due`, unless `make` then returns None."""
        heapq.heappush(self._due, (due, next(self._order), make))

    @property
    def next_due(self) -> datetime | None:
        return self._due[0][0] if self._due else None

    def advance(self) -> None:
        """Sends every event that is due by now."""
        now = self.now()
        while self._due and self._due[0][0] <= now:
            _, _, make = heapq.heappop(self._due)
            event = make()
            if event is not None:
                self.events.append(event)
                for listener in self.listeners:
                    listener(copy.deepcopy(event))


# Class names as a request spells them, by the name in Resource Graph's counts.
WINDOWS_CLASSES = {
    "critical": "Critical",
    "security": "Security",
    "updateRollup": "UpdateRollUp",
    "featurePack": "FeaturePack",
    "servicePack": "ServicePack",
    "definition": "Definition",
    "updates": "Updates",
    "tools": "Tools",
}
LINUX_CLASSES = {"critical": "Critical", "security": "Security", "other": "Other"}
ESM = "Security-ESM"  # a class of the Linux extension alone; it counts as Security
_LINUX_PENDING = {**LINUX_CLASSES, "securityEsm": ESM}
URGENT = ("Critical", "Security", ESM)


def patches_of(behaviour: Behaviour, generation: int, *, windows: bool) -> tuple[Patch, ...]:
    """Invented updates, as many as the behaviour says: the same ones for the same behaviour."""
    classes = WINDOWS_CLASSES if windows else _LINUX_PENDING
    make = _windows_patch if windows else _linux_patch
    wanted = [
        (classes[key], number) for key, count in behaviour.pending.items() if key in classes for number in range(count)
    ]
    return tuple(make(classification, generation, number) for classification, number in wanted)


def _windows_patch(classification: str, generation: int, number: int) -> Patch:
    kb = f"50{generation % 100:02d}{list(WINDOWS_CLASSES.values()).index(classification)}{number % 100:02d}"
    name = f"{classification} Update for Windows Server (KB{kb})"
    return Patch(str(uuid.uuid5(uuid.NAMESPACE_OID, name)), name, classification, kb=kb)


def _linux_patch(classification: str, generation: int, number: int) -> Patch:
    name, version = f"lib{classification.lower()}{number}", f"1.{generation}.{number}-1ubuntu1"
    return Patch(f"{name}_{version}_Ubuntu_22.04", name, classification, version=version)
