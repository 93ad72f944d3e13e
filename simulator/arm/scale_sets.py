"""Microsoft.Compute/virtualMachineScaleSets: what a Flexible one says of itself. Its members are machines.

Properties: Azure/bicep-types-az, microsoft.compute/2024-11-01; orchestrationMode, upgradePolicy and
automaticRepairsPolicy are kept as they were sent.
Not simulated: instances of a Uniform one, which are no machines; and that a set makes, repairs or upgrades its members.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.event_grid.events import EventDetails, event
from simulator.wire import Json, Refused, Request, Response
from simulator.world import ScaleSet, World

KIND = "Microsoft.Compute/virtualMachineScaleSets"


def put(world: World, request: Request, params: Mapping[str, str]) -> Response:
    body, existing = request.json(), _find(world, params)
    made = ScaleSet(existing.id if existing else _id(params), body, world.now())
    if existing:
        existing.deleted = world.now()
    world.scale_sets.append(made)
    world.at(world.now(), lambda: event(world, EventDetails(made.id, f"{KIND}/write", made.created, request=request)))
    return Response(200 if existing else 201, document(made))


def get(world: World, request: Request, params: Mapping[str, str]) -> Response:
    found = _find(world, params)
    if found is None:
        text = f"The Resource '{KIND}/{params['name']}' under resource group '{params['group']}' was not found."
        raise Refused(404, "ResourceNotFound", text)
    return Response(200, document(found))


def delete(world: World, request: Request, params: Mapping[str, str]) -> Response:
    found = _find(world, params)
    if found is None:
        return Response(204)
    found.deleted = world.now()
    return Response(200)


def document(scale_set: ScaleSet) -> Json:
    body, name = scale_set.body, scale_set.id.rpartition("/")[2]
    known: Json = {key: body[key] for key in ("location", "sku", "tags", "zones") if key in body}
    properties = {**body.get("properties", {}), "provisioningState": "Succeeded"}
    return {"id": scale_set.id, "name": name, "type": KIND, **known, "properties": properties}


def _id(params: Mapping[str, str]) -> str:
    group = f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"
    return f"{group}/providers/{KIND}/{params['name']}"


def _find(world: World, params: Mapping[str, str]) -> ScaleSet | None:
    wanted = _id(params).lower()
    return next((each for each in world.scale_sets_at(world.now()) if each.id.lower() == wanted), None)
