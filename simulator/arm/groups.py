"""Microsoft.Resources/subscriptions, its resourceGroups and its resource providers.

The deletion of a group is answered 202. Its Location answers 202 until the group is gone, and 200 from then on
(Microsoft's reference "Resource Groups - Delete"; PowerShell Gallery, Blue 1.0.78, Remove-ArmResourceGroup). That
everything in the group goes at the same moment is the simulator's own.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta

from simulator.arm import hybrid, machines, options, rules
from simulator.event_grid.events import EventDetails, event
from simulator.identity.tokens import TENANT_ID
from simulator.wire import Json, Refused, Request, Response
from simulator.world import Group, World

_PROVIDERS = ("Microsoft.Compute", "Microsoft.EventGrid", "Microsoft.Maintenance", "Microsoft.ResourceGraph")
# Preview features that pages of Microsoft named (tests/recordings/customized_images.json); Azure has many more.
_FEATURES = (
    "InGuestAutoAssessmentVMPreview",
    "InGuestScheduledPatchVMPreview",
    "InGuestPatchVMPreview",
    "InGuestAutoPatchVMPreview",
)
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
        _send_event(world, existing.id, "write", request=request)
        return Response(200, document(existing, world.now()))
    created = create(world, group_id(params), wanted)
    return Response(201, document(created, world.now()))


def create(world: World, full_id: str, body: Json) -> Group:
    _, _, subscription, _, name = full_id.split("/")
    group = Group(full_id, subscription, name, world.now())
    group.body.set(world.now(), body)
    world.groups[full_id.lower()] = group
    world.subscriptions.setdefault(subscription.lower(), f"Subscription {subscription[:8]}")
    _send_event(world, full_id, "write", request=None)
    return group


def get(world: World, request: Request, params: Mapping[str, str]) -> Response:
    return Response(200, document(find(world, params), world.now()))


def patch(world: World, request: Request, params: Mapping[str, str]) -> Response:
    group, body = find(world, params), request.json()
    rules.check_sections(body)
    changed: Json = {name: body[name] for name in ("tags", "managedBy") if body.get(name) is not None}
    group.body.set(world.now(), {**(group.body.at(world.now()) or {}), **changed})
    _send_event(world, group.id, "write", request=request)
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


def get_provider(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Providers - Get, without its list of resource types. Those that this cloud has are registered everywhere."""
    known = {each.lower(): each for each in _PROVIDERS}
    namespace = known.get(params["namespace"].lower())
    if namespace is None:
        text = f"The resource namespace '{params['namespace']}' is invalid."
        raise Refused(404, "InvalidResourceNamespace", text)
    return Response(
        200,
        {
            "id": f"/subscriptions/{params['subscription']}/providers/{namespace}",
            "namespace": namespace,
            "registrationPolicy": "RegistrationRequired",
            "registrationState": "Registered",
            "resourceTypes": [],
        },
    )


def list_features(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Features - List: the preview features of guest patching, NotRegistered where the world does not say otherwise."""
    if params["namespace"].lower() != "microsoft.compute":
        return Response(200, {"value": []})
    return Response(200, {"value": [_feature(world, params["subscription"], each) for each in _FEATURES]})


def _feature(world: World, subscription: str, name: str) -> Json:
    full = f"Microsoft.Compute/{name}"
    features = f"/subscriptions/{subscription}/providers/Microsoft.Features/providers/Microsoft.Compute/features"
    return {
        "id": f"{features}/{name}",
        "name": full,
        "properties": {"state": world.features.get((subscription, full.lower()), "NotRegistered")},
        "type": "Microsoft.Features/providers/features",
    }


def delete(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """The group and everything in it."""
    group = find(world, params)
    remove(world, group, request)
    return _followed(group, request)


def remove(world: World, group: Group, request: Request | None) -> None:
    """Begins its deletion and that of everything in it. Without effect a second time."""
    if group.deleting:
        return
    for machine in [each for each in world.machines.values() if each.id.lower().startswith(f"{group.id.lower()}/")]:
        machines.remove(world, machine, request)
    for server in [each for each in world.hybrid_at(world.now()) if each.id.lower().startswith(f"{group.id.lower()}/")]:
        hybrid.remove(world, server)
    group.deleting = world.now()
    group.deleted = group.deleting + timedelta(seconds=world.timings.delete_seconds)
    world.at(group.deleted, lambda: world.bury_group(group))
    _send_event(world, group.id, "delete", request=request, at=group.deleted)


def refuse_while_deleted(world: World, full_id: str) -> None:
    """Raises Refused (409): a group that is being deleted takes no write and no action on what is in it."""
    group = world.groups.get(full_id.lower())
    if group and group.deleting:
        text = f"The resource group '{group.name}' is in deprovisioning state and cannot perform this operation."
        raise Refused(409, "ResourceGroupBeingDeleted", text)


def deletion(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """What the Location of a deletion answers."""
    every = (*world.groups.values(), *world.gone_groups)
    group = next((each for each in every if each.deleting and _job(each) == params["job"]), None)
    if group is None:
        raise Refused(404, "NotFound", f"The operation '{params['job']}' was not found.")
    return _followed(group, request) if group.exists_at(world.now()) else Response(200)


def _followed(group: Group, request: Request) -> Response:
    path = f"/subscriptions/{group.subscription}/operationresults/{_job(group)}"
    location = f"{request.origin}{path}?api-version={request.query['api-version']}"
    return Response(202, None, {"location": location, "retry-after": _RETRY_SECONDS})


def _job(group: Group) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{group.id} {group.deleting}"))


def document(group: Group, when: datetime) -> Json:
    body = group.body.at(when) or {}
    return {
        "id": group.id,
        "name": group.name,
        "type": "Microsoft.Resources/resourceGroups",
        **body,
        "properties": {"provisioningState": group.provisioning_at(when)},
    }


def _send_event(world: World, subject: str, verb: str, *, request: Request | None, at: datetime | None = None) -> None:
    name = f"Microsoft.Resources/subscriptions/resourceGroups/{verb}"
    details = EventDetails(subject, name, at or world.now(), request=request)
    world.at(details.at, lambda: event(world, details))
