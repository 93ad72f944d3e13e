"""Resources - Move Resources, of machines: another id for the same virtual machine.

The page "Move Azure resources to a new resource group or subscription" says: the id changes, both groups are locked
against writes and deletions meanwhile, nothing is stopped. That vmId, instance view and operations under way stay with
the machine is inferred. Whether Resource Graph shows earlier results under the new id is not documented: a test chooses
(Limits.moves_keep_results). Simplified: the move takes no time, locks nothing, and moves machines only.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.arm import groups
from simulator.event_grid.events import EventDetails, event
from simulator.wire import Refused, Request, Response
from simulator.world import Machine, World

ACTION = "Microsoft.Resources/subscriptions/resourceGroups/moveResources/action"


def post(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """All or nothing: each of `resources` is a machine of this group, and the target exists."""
    source, body = groups.find(world, params), request.json()
    target = world.groups.get(str(body.get("targetResourceGroup")).lower())
    if target is None:
        raise Refused(404, "ResourceGroupNotFound", "The target resource group could not be found.")
    wanted = [str(each).lower() for each in body.get("resources") or []]
    found = [world.machines[each] for each in wanted if each in world.machines]
    if not found or len(found) < len(wanted) or any(each.group.lower() != source.name.lower() for each in found):
        raise Refused(400, "InvalidMoveResources", "Each resource to move is one of this resource group.")
    for machine in found:
        move(world, machine, target.id)
    details = EventDetails(source.id, ACTION, world.now(), request=request)
    world.at(world.now(), lambda: event(world, details))
    return Response(204)


def move(world: World, machine: Machine, group_id: str) -> str:
    """Gives the machine its id in that group, and returns it. No event names the machine itself."""
    new_id = f"{group_id}/providers/Microsoft.Compute/virtualMachines/{machine.name}"
    if new_id.lower() in world.machines:
        raise Refused(409, "MoveResourcesHasConflict", f"The target has a resource of the name '{machine.name}'.")
    world.rename(machine, new_id)
    return new_id
