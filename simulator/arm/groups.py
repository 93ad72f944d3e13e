"""Microsoft.Resources/subscriptions and its resourceGroups.

Not simulated: the minutes that the deletion of a group takes. It is answered 202 and followed by its Location, but is
over at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime

from simulator.arm import machines, options, rules
from simulator.event_grid.events import EventDetails, event
from simulator.identity.tokens import TENANT_ID
from simulator.wire import Json, Refused, Request, Response
from simulator.world import Group, World

_RETRY_SECONDS = "15"  # of a deletion, as public traces show it


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


def head(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Whether it exists. A missing one is refused before."""
    return Response(204)


def list_all(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Those of a subscription, on one page; by a tag where `$filter` names one."""
    tag = options.tag(request)
    found = [each for each in world.groups.values() if each.subscription.lower() == params["subscription"].lower()]
    bodies = [document(each, world.now()) for each in found]
    return Response(200, {"value": [each for each in bodies if tag is None or tag.matches(each.get("tags"))]})


def get_subscription(world: World, request: Request, params: Mapping[str, str]) -> Response:
    return Response(200, subscription(world, params["subscription"].lower()))


def subscription(world: World, subscription_id: str) -> Json:
    """By its id in lower case."""
    return {
        "id": f"/subscriptions/{subscription_id}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription_id,
        "tenantId": TENANT_ID,
        "displayName": world.subscriptions.get(subscription_id, subscription_id),
        "state": "Enabled",
    }


def delete(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """The group and everything in it."""
    group = find(world, params)
    inside = [each for each in world.machines.values() if each.id.lower().startswith(f"{group.id.lower()}/")]
    for machine in inside:
        machines.remove(world, machine, request, seconds=0)
    group.deleted = world.now()
    world.gone_groups.append(world.groups.pop(group.id.lower()))
    _send_event(world, group.id, "delete", request)
    path = f"/subscriptions/{group.subscription}/operationresults/{_job(group)}"
    location = f"{request.origin}{path}?api-version={request.query['api-version']}"
    return Response(202, None, {"location": location, "retry-after": _RETRY_SECONDS})


def deletion(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """What the Location of a deletion answers."""
    if not any(_job(each) == params["job"] for each in world.gone_groups):
        raise Refused(404, "NotFound", f"The operation '{params['job']}' was not found.")
    return Response(200)


def _job(group: Group) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{group.id} {group.deleted}"))


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
