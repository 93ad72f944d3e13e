"""Microsoft.Maintenance/configurationAssignments: which machines a maintenance configuration patches.

Simulated: assignments to a machine, dynamic scopes at a resource group or subscription, and the list of a subscription.
The configurations themselves: configurations.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.wire import Json, Request, Response
from simulator.world import Assignment, World

KIND = "Microsoft.Maintenance/configurationAssignments"
MACHINE_PARTS = 9  # of the id of a machine, between its slashes


def assign(world: World, scope: str, *, name: str, configuration: str, selection: Json | None = None) -> Assignment:
    """Assigns a configuration at the id of a machine, a resource group or a subscription; `selection` is its filter."""
    parts = scope.split("/")
    if len(parts) not in (3, 5, MACHINE_PARTS) or parts[1].lower() != "subscriptions":
        raise ValueError("scope is the id of a machine, a resource group or a subscription")
    assignment = Assignment(f"{scope}/providers/{KIND}/{name}", scope, configuration, selection, world.now())
    unassign(world, assignment.id)
    world.assignments.append(assignment)
    return assignment


def unassign(world: World, full_id: str) -> None:
    for each in world.assignments:
        if each.id.lower() == full_id.lower() and each.exists_at(world.now()):
            each.deleted = world.now()


def list_all(world: World, request: Request, params: Mapping[str, str]) -> Response:
    wanted = params["subscription"].lower()
    found = (each for each in world.assignments if each.exists_at(world.now()) and each.subscription.lower() == wanted)
    return Response(200, {"value": [document(each) for each in found]})


def document(assignment: Assignment) -> Json:
    properties: Json = {"maintenanceConfigurationId": assignment.configuration, "resourceId": assignment.scope}
    if assignment.selection is not None:
        properties["filter"] = assignment.selection
    return {"id": assignment.id, "name": assignment.name, "type": KIND, "properties": properties}
