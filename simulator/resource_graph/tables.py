"""The tables of Resource Graph: which rows a caller may read at a given time. What a row holds: rows.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from simulator.arm import results
from simulator.resource_graph import rows
from simulator.resource_graph.rows import OperationRows
from simulator.wire import Json
from simulator.world import (
    Assignment,
    Configuration,
    Group,
    HybridMachine,
    Machine,
    Operation,
    Run,
    ScaleSet,
    SystemTopic,
    World,
)

ASSESSMENTS_KEPT = timedelta(days=7)
INSTALLATIONS_KEPT = timedelta(days=30)

MACHINE_READ = "Microsoft.Compute/virtualMachines/read"
SCALE_SET_READ = "Microsoft.Compute/virtualMachineScaleSets/read"
GROUP_READ = "Microsoft.Resources/subscriptions/resourceGroups/read"
ASSIGNMENT_READ = "Microsoft.Maintenance/configurationAssignments/read"
CONFIGURATION_READ = "Microsoft.Maintenance/maintenanceConfigurations/read"
TOPIC_READ = "Microsoft.EventGrid/systemTopics/read"
RUN_READ = "Microsoft.Maintenance/applyUpdates/read"
_ASSESSMENT = "Microsoft.Compute/virtualMachines/patchAssessmentResults"
# Azure publishes one operation for each of the two types of row.
_ASSESSMENT_READS = {
    _ASSESSMENT.lower(): f"{_ASSESSMENT}/latest/read",
    f"{_ASSESSMENT}/softwarePatches".lower(): f"{_ASSESSMENT}/latest/softwarePatches/read",
}
_INSTALLATION_READ = "Microsoft.Compute/virtualMachines/patchInstallationResults/read"
_INSTALLED_UPDATE_READ = "Microsoft.Compute/virtualMachines/patchInstallationResults/softwarePatches/read"
_HYBRID = "Microsoft.HybridCompute/machines"
HYBRID_READ = f"{_HYBRID}/read"
_HYBRID_ASSESSMENT_READS = {
    f"{_HYBRID}/patchAssessmentResults{child}".lower(): f"{_HYBRID}/patchAssessmentResults{child}/read"
    for child in ("", "/softwarePatches")
}
_HYBRID_INSTALLATION_READ = f"{_HYBRID}/patchInstallationResults/read"
_HYBRID_INSTALLED_UPDATE_READ = f"{_HYBRID}/patchInstallationResults/softwarePatches/read"

_Thing = TypeVar("_Thing", Machine, HybridMachine, Group, Assignment, Configuration, Run, ScaleSet)


class Rights(Protocol):
    """What the caller of a query may read."""

    def permits(self, action: str, scope: str) -> bool:
        """Whether the caller has the permission."""
        ...

    def record(self, action: str, scope: str, shown: bool) -> None:
        """A row of a subscription was shown thanks to this permission, or hidden because it is missing."""
        ...


class _LazyRows(Sequence[Json]):
    """Rows that are built when a query iterates over them: most queries read one table of five."""

    def __init__(self, build: Callable[[], Iterable[Json]]) -> None:
        self._build = build

    def __iter__(self) -> Iterator[Json]:
        return iter(self._build())

    def __len__(self) -> int:
        return sum(1 for _ in self._build())

    def __getitem__(self, index: Any) -> Any:
        return list(self._build())[index]


class Tables(Mapping[str, Sequence[Mapping[str, object]]]):
    """The rows of these subscriptions that the caller may read, as they were at `when`."""

    def __init__(
        self,
        world: World,
        when: datetime,
        *,
        scope: set[str],
        rights: Rights,
        orphans_stay: bool,
        assessment_rows: OperationRows,
        installation_rows: OperationRows,
    ) -> None:
        self._world, self._when, self._scope, self._rights = world, when, scope, rights
        self._orphans_stay = orphans_stay
        self._assessment_rows, self._installation_rows = assessment_rows, installation_rows
        self._builders: dict[str, Callable[[], Iterable[Json]]] = {
            "resources": self._resources,
            "resourcecontainers": self._containers,
            "patchassessmentresources": self._assessments,
            "patchinstallationresources": self._installations,
            "maintenanceresources": self._maintenance,
        }

    def __getitem__(self, table: str) -> Sequence[Json]:
        return _LazyRows(self._builders[table])

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)

    def machines(self) -> Iterator[Machine]:
        """The machines that the caller may read."""
        return self._readable(self._world.machines_at(self._when), MACHINE_READ)

    def assessment_of(self, machine: Machine) -> Operation | None:
        """The assessment that has a row: the newest one, for as long as it is kept."""
        operation = machine.newest("assess", self._when)
        if (
            operation is None
            or self._was_left_behind(machine, operation)
            or self._world.behaviour(machine).rows_missing
        ):
            return None
        return operation if self._world.now() - results.modified(operation, self._when) < ASSESSMENTS_KEPT else None

    def _resources(self) -> Iterator[Json]:
        yield from (rows.machine_row(self._world, machine, self._when) for machine in self.machines())
        hybrid = self._readable(self._world.hybrid_at(self._when), HYBRID_READ)
        yield from (rows.hybrid_row(machine, self._when) for machine in hybrid)
        found = self._readable(self._world.configurations_at(self._when), CONFIGURATION_READ)
        yield from (rows.configuration_row(each) for each in found)
        scale_sets = self._readable(self._world.scale_sets_at(self._when), SCALE_SET_READ)
        yield from (rows.scale_set_row(each) for each in scale_sets)
        # Without a record: the app reads no topic, and lacks nothing where it is shown none.
        inside = (each for each in self._world.system_topics if each.subscription.lower() in self._scope)
        yield from (rows.topic_row(each) for each in inside if self._permits(TOPIC_READ, each))

    def _containers(self) -> Iterator[Json]:
        for subscription in sorted(self._scope):
            yield rows.subscription_row(subscription, self._world.subscriptions.get(subscription, subscription))
        for group in self._readable(self._world.groups_at(self._when), GROUP_READ):
            yield rows.group_row(group, self._when)

    def _assessments(self) -> Iterator[Json]:
        yield from self._assessments_of(self._with_orphans(), _ASSESSMENT_READS)
        if self._world.hybrid:
            yield from self._assessments_of(self._world.hybrid_at(self._when), _HYBRID_ASSESSMENT_READS)

    def _assessments_of(self, machines: Iterable[Machine], reads: Mapping[str, str]) -> Iterator[Json]:
        newest = {each: found for each in machines if (found := self.assessment_of(each))}
        readable = {kind: set(self._readable(newest, read)) for kind, read in reads.items()}
        for machine in [each for each in newest if any(each in machines for machines in readable.values())]:
            built = self._assessment_rows.of(machine, newest[machine], self._when)
            yield from (row for row in built if machine in readable[row["type"]])

    def _installations(self) -> Iterator[Json]:
        yield from self._installations_on(self._with_orphans(), _INSTALLATION_READ, _INSTALLED_UPDATE_READ)
        if self._world.hybrid:
            hybrid = self._world.hybrid_at(self._when)
            yield from self._installations_on(hybrid, _HYBRID_INSTALLATION_READ, _HYBRID_INSTALLED_UPDATE_READ)

    def _installations_on(self, machines: Iterable[Machine], read: str, read_update: str) -> Iterator[Json]:
        kept = {each: found for each in machines if (found := self._installations_of(each))}
        for machine in self._readable(kept, read):
            whole = None if self._permits(read_update, machine) else 1
            for operation in kept[machine]:
                yield from self._installation_rows.of(machine, operation, self._when)[:whole]

    def _maintenance(self) -> Iterator[Json]:
        found = self._readable(self._world.assignments_at(self._when), ASSIGNMENT_READ)
        yield from (rows.assignment_row(each) for each in found)
        begun = [each for each in self._world.runs if each.exists_at(self._when)]
        for run in self._readable(begun, RUN_READ):
            yield from rows.run_rows(run, self._when)

    def _permits(self, action: str, thing: Machine | SystemTopic) -> bool:
        """Asked without a record: the rows of single updates come beside those of the installation."""
        scopes = (f"/subscriptions/{thing.subscription}", thing.id)
        return any(self._rights.permits(action, scope) for scope in scopes)

    def _installations_of(self, machine: Machine) -> list[Operation]:
        begun = (each for each in machine.operations if each.kind == "install" and each.started <= self._when)
        shown = (each for each in begun if not self._was_left_behind(machine, each))
        return [each for each in shown if self._world.now() - results.modified(each, self._when) < INSTALLATIONS_KEPT]

    def _was_left_behind(self, machine: Machine, operation: Operation) -> bool:
        """Whether its result stayed with the id that the machine had before."""
        keeps = self._world.limits.moves_keep_results
        return machine.moved is not None and operation.started <= machine.moved and not keeps

    def _with_orphans(self) -> list[Machine]:
        if not self._orphans_stay:
            return self._world.machines_at(self._when)
        every = [*self._world.gone, *self._world.machines.values()]
        return [each for each in every if each.appeared <= self._when]

    def _readable(self, found: Iterable[_Thing], action: str) -> Iterator[_Thing]:
        """Those that the caller may read. A right at the subscription is checked once, whatever is in it."""
        whole = {each: self._rights.permits(action, f"/subscriptions/{each}") for each in self._scope}
        recorded: set[tuple[str, bool]] = set()
        for thing in found:
            subscription = thing.subscription.lower()
            if subscription not in self._scope:
                continue
            shown = whole[subscription] or self._rights.permits(action, thing.id)
            if (subscription, shown) not in recorded:
                recorded.add((subscription, shown))
                self._rights.record(action, f"/subscriptions/{subscription}", shown)
            if shown:
                yield thing
