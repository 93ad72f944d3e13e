"""Microsoft.Resources/subscriptions/resourceGroups. Not simulated: the asynchronous delete (it ends at once)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from simulator.arm import machines, rules
from simulator.event_grid.events import EventDetails, event
from simulator.wire import Json, Refused, Request, Response
from simulator.world import Group, World


def find(world: World, params: Mapping[str, str]) -> Group:
    group = world.groups.get(group_id(params).lower())
    if group is None:
        raise Refused(404, "ResourceGroupNotFound", f"Resource group '{params['group']}' could not be found.")
    return group


def group_id(params: Mapping[str, str]) -> str:
    return f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"


def put(world: World, request: Request, params: Mapping[str, str]) -> Response:
    body = request.json()
    existing = world.groups.get(group_id(params).lower())
    rules.check_group_name(params["group"])
    rules.check_sections(body)
    rules.check_group_location(body, params["group"], existing.body.at(world.now()) if existing else None)
    wanted: Json = {name: body[name] for name in ("location", "tags", "managedBy") if body.get(name) is not None}
    if existing:
        existing.body.set(world.now(), wanted)
        _send_event(world, existing.id, "write", request)
        return Response(200, document(existing, world.now()))
    created = create(world, group_id(params), wanted)
    return Response(201, document(created, world.now()))


def create(world: World, full_id: str, body: Json) -> Group:
    _, _, subscription, _, name = full_id.split("/")
    group = Group(full_id, subscription, name, world.now())
    group.body.set(world.now(), body)
    world.groups[full_id.lower()] = group
    world.subscriptions.setdefault(subscription.lower(), f"Subscription {subscription[:8]}")
    _send_event(world, full_id, "write", None)
    return group


def get(world: World, request: Request, params: Mapping[str, str]) -> Response:
    return Response(200, document(find(world, params), world.now()))


def patch(world: World, request: Request, params: Mapping[str, str]) -> Response:
    group, body = find(world, params), request.json()
    rules.check_sections(body)
    changed: Json = {name: body[name] for name in ("tags", "managedBy") if body.get(name) is not None}
    group.body.set(world.now(), {**(group.body.at(world.now()) or {}), **changed})
    _send_event(world, group.id, "write", request)
    return Response(200, document(group, world.now()))


def delete(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """The group and everything in it."""
    group = find(world, params)
    inside = [each for each in world.machines.values() if each.id.lower().startswith(f"{group.id.lower()}/")]
    for machine in inside:
        machines.remove(world, machine, request)
    group.deleted = world.now()
    world.gone_groups.append(world.groups.pop(group.id.lower()))
    _send_event(world, group.id, "delete", request)
    return Response(200)


def document(group: Group, when: datetime) -> Json:
    body = group.body.at(when) or {}
    return {
        "id": group.id,
        "name": group.name,
        "type": "Microsoft.Resources/resourceGroups",
        **body,
        "properties": {"provisioningState": "Succeeded"},
    }


def _send_event(world: World, subject: str, verb: str, request: Request | None) -> None:
    name = f"Microsoft.Resources/subscriptions/resourceGroups/{verb}"
    details = EventDetails(subject, name, world.now(), request=request)
    world.at(world.now(), lambda: event(world, details))
