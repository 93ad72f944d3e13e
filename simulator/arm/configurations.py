"""Microsoft.Maintenance/maintenanceConfigurations, and the runs of one on the machines it is assigned to.

Properties: Azure/bicep-types-az, microsoft.maintenance/2023-04-01. Type, id and properties of runs: what the public
queries of MicrosoftDocs/azure-docs (update-manager, pre- and post-events) and of operators read. The status of a run,
and the refusal of a duration, are inferred.
Not simulated: the clock of a schedule. The test that drives the simulator starts a run (`Azure.run_schedule`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from simulator.arm import machines, patching, schedules
from simulator.arm.kept import Kept
from simulator.wire import Json, Refused, Request, Response
from simulator.world import Assignment, Configuration, Machine, Run, World

KIND = "Microsoft.Maintenance/maintenanceConfigurations"
IN_GUEST = "InGuestPatch"
_DURATION = re.compile(r"(\d\d):([0-5]\d)")
_MINUTES = range(90, 236)  # from 1 h 30 min to 3 h 55 min (MicrosoftDocs/azure-docs, update-manager)


def list_all(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Those of a subscription."""
    wanted = params["subscription"].lower()
    found = (each for each in world.configurations_at(world.now()) if each.subscription.lower() == wanted)
    return Response(200, {"value": [document(each) for each in found]})


def document(configuration: Configuration) -> Json:
    name = configuration.id.rpartition("/")[2]
    known: Json = {
        key: configuration.body[key] for key in ("location", "tags", "properties") if key in configuration.body
    }
    return {"id": configuration.id, "name": name, "type": KIND, **known}


def run(world: World, configuration_id: str) -> Run:
    """Begins a run: the platform starts an installation on every machine that has the configuration.

    A machine that refuses stays out of it. Raises LookupError where there is no such configuration.
    """
    now, wanted = world.now(), configuration_id.lower()
    found = next((each for each in world.configurations_at(now) if each.id.lower() == wanted), None)
    if found is None:
        raise LookupError(f"there is no maintenance configuration {configuration_id}")
    made = Run(found, now)
    assigned = [each for each in world.assignments_at(now) if each.configuration.lower() == wanted]
    for machine in [each for each in world.machines_at(now) if any(has(each, one, now) for one in assigned)]:
        try:
            operation = patching.start(world, machine, "install", order=_order(found), started_by="Platform")
        except Refused:
            made.refused.append(machine)
            continue
        operation.run = made.id
        made.operations.append(operation)
    world.runs.append(made)
    return made


def has(machine: Machine, assignment: Assignment, when: datetime) -> bool:
    """Whether the assignment is the machine's own, or a dynamic scope that selects it by system, place and group."""
    scope = assignment.scope.lower()
    if len(scope.split("/")) == schedules.MACHINE_PARTS:
        return machine.id.lower() == scope
    selection = assignment.selection or {}
    body = machines.document(machine, when, copied=False)
    system = "Windows" if machine.windows else "Linux"
    own = {"osTypes": system, "locations": body["location"], "resourceGroups": machine.group}
    return machine.id.lower().startswith(f"{scope}/") and all(
        value.lower() in {str(each).lower() for each in selection.get(name) or (value,)} for name, value in own.items()
    )


def _order(configuration: Configuration) -> Json:
    wanted = (configuration.body.get("properties") or {}).get("installPatches") or {}
    everything = {"classificationsToInclude": ["Critical", "Security"]}
    return {
        "maximumDuration": "PT3H55M",
        "rebootSetting": wanted.get("rebootSetting", "IfRequired"),
        "windowsParameters": wanted.get("windowsParameters") or everything,
        "linuxParameters": wanted.get("linuxParameters") or everything,
    }


def _check(body: Json) -> None:
    properties = body.get("properties") or {}
    duration = (properties.get("maintenanceWindow") or {}).get("duration")
    if properties.get("maintenanceScope") != IN_GUEST or duration is None:
        return
    parts = _DURATION.fullmatch(str(duration))
    if parts is None or int(parts[1]) * 60 + int(parts[2]) not in _MINUTES:
        raise Refused(400, "InvalidParameter", f"The duration '{duration}' is not from 01:30 to 03:55.")


CONFIGURATIONS = Kept(KIND, Configuration, lambda world: world.configurations, document, _check)
