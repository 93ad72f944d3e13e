"""What a row of each table holds: machines, groups, subscriptions, assessments and patches, installations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from simulator.arm import configurations, hybrid, machines, patching, results, scale_sets, schedules
from simulator.identity.tokens import TENANT_ID
from simulator.wire import Json, milliseconds
from simulator.world import (
    Assignment,
    Configuration,
    Group,
    HybridMachine,
    Machine,
    Operation,
    Patch,
    Run,
    ScaleSet,
    SystemTopic,
    World,
)

PATCH_ROWS_SHOWN = 3  # child rows per machine; Azure has one per update

_GOOD = ("Succeeded", "CompletedWithWarnings")


Build = Callable[[Machine, Operation, datetime], list[Json]]


class OperationRows:
    """The row of an operation and those of a few updates in it, kept once it is over: they never change."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._finished: dict[tuple[str, str], list[Json]] = {}

    def of(self, machine: Machine, operation: Operation, when: datetime) -> list[Json]:
        runs = operation.runs_at(when)
        key = machine.id, operation.operation_id
        known = None if runs else self._finished.get(key)
        if known is not None:
            return known
        rows = self._build(machine, operation, when)
        if not runs:
            self._finished[key] = rows
        return rows


def assessment_rows() -> OperationRows:
    return OperationRows(
        lambda machine, operation, when: [
            assessment_row(machine, operation, when),
            *_found_rows(machine, operation, when),
        ]
    )


def installation_rows() -> OperationRows:
    return OperationRows(
        lambda machine, operation, when: [
            installation_row(machine, operation, when),
            *_installed_rows(machine, operation, when),
        ]
    )


def _row(full_id: str, name: str, kind: str, *, location: str, **more: Any) -> Json:
    parts = full_id.split("/")
    return {
        "id": full_id,
        "name": name,
        "type": kind,
        "tenantId": TENANT_ID,
        "kind": "",
        "location": location,
        "resourceGroup": parts[4].lower() if len(parts) > 4 else "",
        "subscriptionId": parts[2],
        "managedBy": "",
        "sku": None,
        "plan": None,
        "properties": {},
        "tags": None,
        "identity": None,
        "zones": None,
        "extendedLocation": None,
    } | more


def machine_row(world: World, machine: Machine, when: datetime) -> Json:
    body = machines.told(world, machine, when, copied=False)
    shown = {name: body.get(name) for name in ("tags", "plan", "identity", "zones", "extendedLocation")}
    power = machines.power_state(machine, when)
    view = {"hyperVGeneration": "V2", "powerState": power, **machines.guest(machine)}
    return _row(
        machine.id,
        machine.name,
        "microsoft.compute/virtualmachines",
        location=str(body["location"]),
        **shown,
        managedBy=body.get("managedBy") or "",
        properties=body["properties"] | {"extended": {"instanceView": view}},
    )


def hybrid_row(machine: HybridMachine, when: datetime) -> Json:
    body = hybrid.document(machine, when)
    shown = {"tags": body["tags"], "properties": body["properties"]}
    return _row(machine.id, machine.name, _type(machine), location=str(body["location"]), **shown)


def _type(machine: Machine) -> str:
    hybrid_too = isinstance(machine, HybridMachine)
    return "microsoft.hybridcompute/machines" if hybrid_too else "microsoft.compute/virtualmachines"


def group_row(group: Group, when: datetime) -> Json:
    body = group.body.at(when) or {}
    return _row(
        group.id,
        group.name,
        "microsoft.resources/subscriptions/resourcegroups",
        location=str(body.get("location", "")),
        tags=body.get("tags"),
        managedBy=body.get("managedBy") or "",
        properties={"provisioningState": group.provisioning_at(when)},
    )


def subscription_row(subscription: str, name: str) -> Json:
    properties = {"state": "Enabled"}
    return _row(
        f"/subscriptions/{subscription}", name, "microsoft.resources/subscriptions", location="", properties=properties
    )


def assignment_row(assignment: Assignment) -> Json:
    """Its id in lower case, and without the resource where it is a dynamic scope (seen in operators' queries)."""
    body = schedules.document(assignment)
    properties = {name: value for name, value in body["properties"].items() if value is not None}
    if "filter" in properties:
        properties.pop("resourceId")
    kind = "microsoft.maintenance/configurationassignments"
    return _row(assignment.id.lower(), assignment.name, kind, location="", properties=properties)


def configuration_row(configuration: Configuration) -> Json:
    body = configurations.document(configuration)
    shown = {"tags": body.get("tags"), "properties": body.get("properties") or {}}
    kind = "microsoft.maintenance/maintenanceconfigurations"
    return _row(body["id"], body["name"], kind, location=str(body.get("location", "")), **shown)


def scale_set_row(scale_set: ScaleSet) -> Json:
    body = scale_sets.document(scale_set)
    shown = {"tags": body.get("tags"), "properties": body["properties"]}
    kind = "microsoft.compute/virtualmachinescalesets"
    return _row(body["id"], body["name"], kind, location=str(body.get("location", "")), **shown)


def topic_row(topic: SystemTopic) -> Json:
    identity = {"type": "SystemAssigned", "principalId": topic.principal_id, "tenantId": TENANT_ID}
    shown = {"topicType": "Microsoft.Resources.Subscriptions", "source": topic.source, "provisioningState": "Succeeded"}
    kind, name = "microsoft.eventgrid/systemtopics", topic.id.rpartition("/")[2]
    return _row(
        topic.id, name, kind, location="global", properties=shown, identity=identity if topic.principal_id else None
    )


def run_rows(run: Run, when: datetime) -> list[Json]:
    """The row of a run, and one for each machine that it patches."""
    kind = "microsoft.maintenance/maintenanceconfigurations/applyupdates"
    configuration = configurations.document(run.configuration)
    states = [each.status_at(when) for each in run.operations]
    properties = _times_of_run(run.started, run.operations, when) | {
        "correlationId": run.id,
        "status": _status_of_run([*states, *("Failed" for _ in run.refused)]),
        "maintenanceConfigurationId": run.configuration.id,
        "maintenanceConfiguration": configuration,
        "resourceUpdateSummary": {
            "succeeded": sum(each in _GOOD for each in states),
            "total": len(states) + len(run.refused),
        },
    }
    row = _row(run.id, run.name, kind, location=str(configuration.get("location", "")), properties=properties)
    return [row, *(_machine_run_row(run, each, when) for each in run.operations)]


def _status_of_run(states: list[str]) -> str:
    if "InProgress" in states:
        return "InProgress"
    return "Succeeded" if all(each in _GOOD for each in states) else "Failed"


def _times_of_run(began: datetime, operations: list[Operation], when: datetime) -> Json:
    """No end while one of them runs."""
    ends = [None if each.runs_at(when) else each.ends for each in operations]
    over = [each for each in ends if each is not None]
    end = milliseconds(max(over)) if over and len(over) == len(ends) else None
    return {"startDateTime": milliseconds(began), "endDateTime": end}


def _machine_run_row(run: Run, operation: Operation, when: datetime) -> Json:
    properties = _times_of_run(operation.started, [operation], when) | {
        "maintenanceScope": (run.configuration.body.get("properties") or {}).get("maintenanceScope"),
        "maintenanceConfigurationId": run.configuration.id,
        "resourceId": operation.machine,
        "correlationId": run.id,
        "status": operation.status_at(when),
    }
    full_id = f"{operation.machine.lower()}/providers/microsoft.maintenance/applyupdates/{run.name}"
    return _row(
        full_id, run.name, "microsoft.maintenance/applyupdates", location=operation.region, properties=properties
    )


def _patch_table_id(machine: Machine) -> str:
    """These tables write the machine's id in another letter case than the machine itself does."""
    return machine.id.lower()


def assessment_row(machine: Machine, operation: Operation, when: datetime) -> Json:
    properties = results.assessed(operation, when, milliseconds)
    state = None if isinstance(machine, HybridMachine) else _support_state(operation, operation.runs_at(when))
    if state is not None:
        # Operators' queries read all three; what the modes say is inferred from the instance view's statuses.
        properties["configurationStatus"] = {
            "vmGuestPatchReadiness": {"detectedVMGuestPatchSupportState": state},
            "assessmentModeConfiguration": {"status": "Ready"},
            "patchModeConfiguration": {"status": "Ready"},
        }
    kind = f"{_type(machine)}/patchassessmentresults"
    full_id = f"{_patch_table_id(machine)}/patchAssessmentResults/latest"
    return _row(full_id, operation.operation_id, kind, location=machine.region, properties=properties)


def _support_state(operation: Operation, runs: bool) -> str | None:
    """No verdict before the assessment is over, and none from one that something else ended (inferred)."""
    state = operation.behaviour.support_state
    if state is None:
        return None
    return "Unknown" if runs or operation.ended_by else state


def _found_rows(machine: Machine, operation: Operation, when: datetime) -> Iterator[Json]:
    if operation.runs_at(when) or not patching.result(operation)["availablePatches"]:
        return
    kind = f"{_type(machine)}/patchassessmentresults/softwarepatches"
    for patch in operation.waiting[:PATCH_ROWS_SHOWN]:
        full_id = f"{_patch_table_id(machine)}/patchAssessmentResults/latest/softwarePatches/{patch.id}"
        properties = _found_properties(patch, operation)
        yield _row(full_id, patch.id, kind, location=machine.region, properties=properties)


def _found_properties(patch: Patch, operation: Operation) -> Json:
    """Windows rows have no version: the documented queries tell the two apart by it."""
    windows = operation.windows
    reboot = "CanRequestReboot" if operation.behaviour.needs_reboot else "NeverReboots"
    return {
        "lastModifiedDateTime": milliseconds(operation.ends or operation.started),
        "publishedDateTime": "2024-11-12T00:00:00.000Z" if windows else None,
        "classifications": [patch.classification],
        "rebootRequired": False,
        "rebootBehavior": reboot if windows else None,
        "patchName": patch.name,
        "patchId": patch.id,
        "kbId": patch.kb or None,
        **({} if windows else {"version": patch.version or None}),
        "msrcSeverity": None,
    }


def _installed_rows(machine: Machine, operation: Operation, when: datetime) -> Iterator[Json]:
    if operation.runs_at(when):
        return
    kind = f"{_type(machine)}/patchinstallationresults/softwarepatches"
    base = f"{_patch_table_id(machine)}/patchInstallationResults/{operation.operation_id}/softwarePatches"
    for patch in patching.result(operation)["patches"][:PATCH_ROWS_SHOWN]:
        properties = {
            "lastModifiedDateTime": milliseconds(operation.ends or operation.started),
            "patchName": patch["name"],
            **{name: value for name, value in patch.items() if name != "name"},
        }
        yield _row(f"{base}/{patch['patchId']}", patch["patchId"], kind, location=machine.region, properties=properties)


def installation_row(machine: Machine, operation: Operation, when: datetime) -> Json:
    properties = results.installed(operation, when, milliseconds)
    properties["maintenanceRunId"] = operation.run or patching.result(operation).get("maintenanceRunId", "")
    kind = f"{_type(machine)}/patchinstallationresults"
    full_id = f"{_patch_table_id(machine)}/patchInstallationResults/{operation.operation_id}"
    return _row(full_id, operation.operation_id, kind, location=machine.region, properties=properties)
