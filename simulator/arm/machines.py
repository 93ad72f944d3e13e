"""Microsoft.Compute/virtualMachines: from PUT to DELETE, with its instance view and power state.

A new size restarts a running machine (Azure's page "Resize a virtual machine"). A restart, a redeployment and a reimage
end what runs in the guest, as a stop does; a reimage re-creates its OS disk. That the view then still shows earlier
operations, that a reapplication leaves it alone, and that none of the four starts a deallocated
machine, is inferred.

Not simulated: run command, disks, networks, quotas of cores, allocation failures,
generalizing, Uniform scale sets, and extensions as resources: each machine gets one extension soon after its creation,
as a policy would install it, and the platform's patch extension with its first patch operation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from simulator.arm import operations, options, patching, preconditions, rules
from simulator.arm.locations import normal
from simulator.arm.summaries import patch_status
from simulator.behaviour import REFUSALS, Behaviour, Kind
from simulator.event_grid.events import EventDetails, event, operation_event
from simulator.wire import Json, Refused, Request, Response, ticks
from simulator.world import CANCELED, POWER, RESTARTS, Machine, Operation, World

_TOP = ("location", "tags", "zones", "plan", "identity", "managedBy", "extendedLocation")
_POWER_TEXT = {
    "running": "VM running",
    "starting": "VM starting",
    "stopping": "VM stopping",
    "stopped": "VM stopped",
    "deallocating": "VM deallocating",
    "deallocated": "VM deallocated",
}
_POWER_STEPS = {  # kind: (while it runs, at its end)
    "start": ("starting", "running"),
    "deallocate": ("deallocating", "deallocated"),
    "powerOff": ("stopping", "stopped"),
    "restart": ("starting", "running"),
    "redeploy": ("starting", "running"),
    "reimage": ("starting", "running"),
}
_CHANGES = ("create", *POWER, "reapply")  # one of them excludes the next
SHUTDOWN = ("ShutdownOrUnresponsive", "The machine was shut down, or its agent does not respond.")
PREEMPTED = ("OperationPreempted", "The operation has been preempted by a more recent operation.")


def machine_id(params: Mapping[str, str]) -> str:
    group = f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"
    return f"{group}/providers/Microsoft.Compute/virtualMachines/{params['name']}"


def find(world: World, params: Mapping[str, str]) -> Machine:
    machine = world.machines.get(machine_id(params).lower())
    if machine is None:
        what = f"Microsoft.Compute/virtualMachines/{params['name']}"
        text = f"The Resource '{what}' under resource group '{params['group']}' was not found. "
        text += "For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        raise Refused(404, "ResourceNotFound", text)
    return machine


# --- create, change, delete ----------------------------------------------------------------------------------------


def put(world: World, request: Request, params: Mapping[str, str]) -> Response:
    existing = world.machines.get(machine_id(params).lower())
    preconditions.check(existing, request, world.now())
    if existing:
        return _update(world, existing, request, replace=True)
    body = request.json()
    rules.check_sections(body)
    rules.check_new_machine(body, params["name"])
    rules.check_modes(body)
    machine = create(world, machine_id(params), body)
    return Response(201, shown(world, machine, world.now()), _followed(machine.operations[0], request))


def create(world: World, full_id: str, body: Json) -> Machine:
    """A new machine whose PUT was just accepted."""
    parts, now, timings = full_id.split("/"), world.now(), world.timings
    stored = _stored(body)
    provisioned = now + timedelta(seconds=timings.create_seconds)
    machine = Machine(
        id=full_id,
        subscription=parts[2],
        group=parts[4],
        name=parts[8],
        vm_id=world.guid(),
        windows=stored["properties"]["storageProfile"]["osDisk"]["osType"] == "Windows",
        region=normal(str(body["location"])),
        created=now,
        provisioned=provisioned,
        agent_delay=timedelta(seconds=timings.agent_ready_seconds),
        extensions_delay=timedelta(seconds=timings.extensions_seconds),
    )
    _refuse_platform_patches(world.behaviour(machine), body)
    machine.body.set(now, stored)
    machine.power.set(now, "starting")
    machine.power.set(provisioned, "running")
    world.machines[full_id.lower()] = machine
    begin(world, machine, "create", seconds=timings.create_seconds, request=None)
    _expect_extension(world, machine)
    return machine


def _expect_extension(world: World, machine: Machine) -> None:
    subject = f"{machine.id}/extensions/{_extension_name(machine)}"
    details = EventDetails(subject, "Microsoft.Compute/virtualMachines/extensions/write", machine.extensions_done)

    def make() -> Json | None:
        gone = not machine.exists_at(machine.extensions_done)
        behaviour = world.behaviour(machine)
        if gone or behaviour.extensions_hang or behaviour.agent_never_ready:
            return None
        return event(world, details)

    world.at(machine.extensions_done, make)


def begin(world: World, machine: Machine, kind: str, *, seconds: float, request: Request | None) -> Operation:
    """An operation other than an assessment or installation. Its event is sent at its end."""
    now = world.now()
    operation = Operation(
        kind=kind,
        machine=machine.id,
        vm_id=machine.vm_id,
        operation_id=world.guid(),
        started=now,
        ends=now + timedelta(seconds=seconds),
        started_by="User",
        windows=machine.windows,
        region=machine.region,
        _now=world.now,
        request=request,
    )
    end = now + timedelta(seconds=seconds)
    world.at(end, lambda: operation_event(world, operation) if operation.ends == end else None)
    return world.record(operation, machine)


def patch(world: World, request: Request, params: Mapping[str, str]) -> Response:
    machine = find(world, params)
    preconditions.check(machine, request, world.now())
    return _update(world, machine, request, replace=False)


def _update(world: World, machine: Machine, request: Request, *, replace: bool) -> Response:
    now, wanted = world.now(), request.json()
    before = machine.body.at(now) or {}
    rules.check_sections(wanted)
    rules.check_machine_location(wanted, name=machine.name, group=machine.group, location=str(before["location"]))
    _refuse_while(machine, ("create",), operation="write", now=now)
    rules.check_unchangeable(before, wanted)
    rules.check_modes(wanted)
    _refuse_platform_patches(world.behaviour(machine), wanted)
    after = copy.deepcopy(before)
    if replace:
        after.pop("tags", None)
    after |= {name: wanted[name] for name in _TOP if wanted.get(name) is not None and name != "location"}
    _merge(after["properties"], _properties_of(wanted))
    if _disk(after) != _disk(before):
        _swap_disk(machine, now)
    machine.body.set(now, after)
    seconds = _resize(world, machine) if _size(after) != _size(before) else 0
    operation = begin(world, machine, "update", seconds=seconds, request=request)
    _assess_after_mode_change(world, machine, before=before, after=after)
    return Response(200, shown(world, machine, now), _followed(operation, request) if seconds else {})


def _followed(operation: Operation, request: Request) -> dict[str, str]:
    """The headers of a PUT or PATCH that takes a while; one of tags alone has none (azure-sdk-for-ruby 2795)."""
    headers = {"azure-asyncnotification": "Enabled"}
    return headers | operations.polling(operation, request, ("azure-asyncoperation",))


def _refuse_platform_patches(behaviour: Behaviour, body: Json) -> None:
    """An image that the platform cannot patch cannot be set to be patched by it (public reports)."""
    unsupported = REFUSALS["unsupported-image"]
    if behaviour.refusal == unsupported and rules.wants_platform_patches(body):
        raise Refused(unsupported.status, unsupported.code, unsupported.message)


def resize(world: World, machine: Machine, size: str) -> Operation:
    """An operator changes its size, without a request."""
    body = copy.deepcopy(machine.body.at(world.now()) or {})
    body["properties"]["hardwareProfile"] = {"vmSize": size}
    machine.body.set(world.now(), body)
    return begin(world, machine, "update", seconds=_resize(world, machine), request=None)


def _resize(world: World, machine: Machine) -> float:
    """What runs in the guest ends with its restart. Returns how many seconds the update takes."""
    now, seconds = world.now(), world.timings.start_seconds
    if machine.power_at(now) != "running":
        return 0
    patching.end_all(world, machine, "Failed", ended_by=SHUTDOWN)
    machine.power.set(now, "starting")
    machine.power.set(now + timedelta(seconds=seconds), "running")
    machine.updates.append((now, now + timedelta(seconds=seconds)))
    return seconds


def _swap_disk(machine: Machine, now: datetime) -> None:
    """Another OS disk: the page "Change the OS disk" has the machine deallocated first, and the image stays as it was.

    That imageReference stays, and the code and text of the refusal, are inferred.
    """
    if machine.power_at(now) != "deallocated":
        text = "Changing the OS disk is allowed only when the VM is deallocated."
        raise Refused(409, "OperationNotAllowed", text, target="osDisk.managedDisk.id")
    machine.disk_since = now


def _disk(body: Json) -> object:
    return (body["properties"]["storageProfile"]["osDisk"].get("managedDisk") or {}).get("id")


def _size(body: Json) -> object:
    return (body["properties"].get("hardwareProfile") or {}).get("vmSize")


def _assess_after_mode_change(world: World, machine: Machine, *, before: Json, after: Json) -> None:
    """A changed patch or assessment mode makes the platform assess (documented), unless that is refused."""
    if _modes(before) == _modes(after):
        return
    try:
        patching.start(world, machine, "assess", order={}, started_by="Platform")
    except Refused:
        return  # the platform skips an assessment that cannot start


def _modes(body: Json) -> list[Any]:
    profile = body["properties"].get("osProfile") or {}
    settings = [
        (profile.get(name) or {}).get("patchSettings") or {} for name in ("windowsConfiguration", "linuxConfiguration")
    ]
    return [(each.get("patchMode"), each.get("assessmentMode")) for each in settings]


def delete(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """It ends whatever runs on the machine. One that is being deleted may be deleted again (documented)."""
    machine = world.machines.get(machine_id(params).lower())
    if machine is None:
        return Response(204)
    return Response(202, None, operations.accepted(world, remove(world, machine, request), request))


def remove(world: World, machine: Machine, request: Request | None) -> Operation:
    """Begins its deletion, or gives the one that runs already."""
    now = world.now()
    if ongoing := machine.running_at(now, ("delete",)):
        return ongoing[0]
    patching.end_all(world, machine, "Canceled", ended_by=PREEMPTED)
    for operation in machine.running_at(now, (*_CHANGES, "update")):
        operation.end_early(now, "Canceled", PREEMPTED)
    gone = begin(world, machine, "delete", seconds=world.timings.delete_seconds, request=request)
    machine.deleting, machine.deleted = now, gone.ends
    world.at(machine.deleted or now, lambda: world.bury(machine))
    return gone


# --- actions -------------------------------------------------------------------------------------------------------


def action_of(kind: str) -> Callable[[World, Request, Mapping[str, str]], Response]:
    def act(world: World, request: Request, params: Mapping[str, str]) -> Response:
        operation = act_on(world, find(world, params), kind, request=request)
        return Response(202, None, operations.accepted(world, operation, request))

    return act


def act_on(world: World, machine: Machine, kind: str, *, request: Request | None) -> Operation:
    """Starts a change of power, a restart, a redeployment or a reapplication. Raises Refused."""
    now, timings = world.now(), world.timings
    _refuse_while(machine, (*_CHANGES, "update"), operation=kind, now=now)
    if kind not in ("start", "deallocate", "powerOff") and machine.power_at(now) == "deallocated":
        raise patching.refused(REFUSALS["deallocated"], kind, machine.name)
    seconds = {
        "deallocate": timings.deallocate_seconds,
        "powerOff": timings.deallocate_seconds,
        "redeploy": timings.redeploy_seconds,
        "reimage": timings.redeploy_seconds,
        "reapply": timings.reapply_seconds,
    }.get(kind, timings.start_seconds)
    if kind in POWER:
        seconds = _change_power(world, machine, kind, seconds=seconds)
    if kind == "reimage":
        _reimage(machine, request, now)
    if kind in ("redeploy", "reimage", "reapply"):
        machine.updates.append((now, now + timedelta(seconds=seconds)))
    return begin(world, machine, kind, seconds=seconds, request=request)


def _reimage(machine: Machine, request: Request | None, now: datetime) -> None:
    """Its OS disk is re-created, of the image's version that the request names (documented), else of the same one."""
    machine.disk_since = now
    version = request.json().get("exactVersion") if request else None
    body = copy.deepcopy(machine.body.at(now) or {})
    if version and "imageReference" in body["properties"]["storageProfile"]:
        body["properties"]["storageProfile"]["imageReference"]["exactVersion"] = version
        machine.body.set(now, body)


def _change_power(world: World, machine: Machine, kind: str, *, seconds: float) -> float:
    """Returns how long it takes: no time where the machine is in that state already."""
    now, (during, end) = world.now(), _POWER_STEPS[kind]
    if kind != "start":
        patching.end_all(world, machine, "Failed", ended_by=SHUTDOWN)
    if kind not in RESTARTS and machine.power_at(now) == end:
        return 0
    machine.power.set(now, during)
    machine.power.set(now + timedelta(seconds=seconds), end)
    return seconds


def _refuse_while(machine: Machine, kinds: tuple[str, ...], *, operation: str, now: datetime) -> None:
    """Raises Refused while the machine is being deleted, or an operation of these kinds runs."""
    if machine.running_at(now, ("delete",)):
        raise patching.refused(REFUSALS["deletion"], operation, machine.name)
    if machine.running_at(now, kinds):
        raise patching.refused(REFUSALS["conflict"], operation, machine.name)


def patch_action_of(kind: Kind) -> Callable[[World, Request, Mapping[str, str]], Response]:
    def act(world: World, request: Request, params: Mapping[str, str]) -> Response:
        machine = find(world, params)
        order = request.json() if kind == "install" else {}
        operation = patching.start(world, machine, kind, order=order, started_by="User", request=request)
        return Response(202, None, operations.accepted(world, operation, request))

    return act


def cancel_installation(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """The action stands in Azure's published operations; how it answers, and how the installation ends, is inferred."""
    machine = find(world, params)
    for operation in machine.running_at(world.now(), ("install",)):
        operation.end_early(world.now(), "Canceled", CANCELED)
    return Response(202)


# --- read ----------------------------------------------------------------------------------------------------------


def get(world: World, request: Request, params: Mapping[str, str]) -> Response:
    expand = options.one_of(request, "$expand", ("instanceView", "userData"))
    machine = find(world, params)
    body = shown(world, machine, world.now(), user_data=expand == "userData")
    if expand == "instanceView":
        body["properties"]["instanceView"] = instance_view(world, machine)
    return Response(200, body)


def get_view(world: World, request: Request, params: Mapping[str, str]) -> Response:
    return Response(200, instance_view(world, find(world, params)))


def list_all(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Those of a subscription, group or location: one page, however many there are."""
    expand = options.one_of(request, "$expand", ("instanceView",))
    status_only = options.one_of(request, "statusOnly", ("true", "false"))
    scale_set = options.scale_set(request)
    if expand and not scale_set:  # documented
        raise Refused(400, "InvalidParameter", "$expand needs a $filter with a scale set.", target="$expand")
    found = [each for each in world.machines.values() if _is_within(each, params)]
    if scale_set:
        found = [each for each in found if _scale_set_of(each, world.now()) == scale_set]
    bodies = [shown(world, each, world.now()) for each in found]
    if expand or status_only == "true":
        for machine, body in zip(found, bodies, strict=True):
            body["properties"]["instanceView"] = instance_view(world, machine)
    return Response(200, {"value": bodies})


def _is_within(machine: Machine, params: Mapping[str, str]) -> bool:
    wanted = (
        (machine.subscription, params["subscription"]),
        (machine.group, params.get("group", machine.group)),
        (machine.region, normal(params.get("region", machine.region))),
    )
    return all(own.lower() == asked.lower() for own, asked in wanted)


def _scale_set_of(machine: Machine, when: datetime) -> str:
    held = ((machine.body.at(when) or {})["properties"].get("virtualMachineScaleSet") or {}).get("id", "")
    return str(held).lower()


def shown(world: World, machine: Machine, when: datetime, *, user_data: bool = False) -> Json:
    """The machine as a client gets it: with its entity tag, and with its user data only where that is asked for."""
    body = told(world, machine, when, copied=False)  # an answer is written at once, and nothing inside is changed
    if not user_data:
        body["properties"].pop("userData", None)
    return body | {"etag": preconditions.etag(machine, when)}


def document(machine: Machine, when: datetime, *, copied: bool = True) -> Json:
    """The machine as Azure keeps it. `copied=False` is for callers that only read: copying a whole fleet takes time."""
    stored = machine.body.at(when) or {}
    body = copy.deepcopy(stored) if copied else dict(stored)
    properties = body.pop("properties") | {
        "vmId": machine.vm_id,
        "provisioningState": machine.provisioning_at(when).capitalize(),
        "timeCreated": ticks(machine.created),
    }
    return {
        "name": machine.name,
        "id": machine.id,
        "type": "Microsoft.Compute/virtualMachines",
        **body,
        "properties": properties,
    }


def told(world: World, machine: Machine, when: datetime, *, copied: bool = True) -> Json:
    """The same as Azure shows it: for some machines it leaves out when they were created."""
    body = document(machine, when, copied=copied)
    if world.behaviour(machine).created_unsaid:
        del body["properties"]["timeCreated"]
    return body


def power_state(machine: Machine, when: datetime) -> Json:
    name = machine.power_at(when)
    return {"code": f"PowerState/{name}", "level": "Info", "displayStatus": _POWER_TEXT[name]}


def guest(machine: Machine) -> Json:
    if machine.windows:
        return {
            "computerName": machine.name,
            "osName": "Windows Server 2022 Datacenter",
            "osVersion": "10.0.20348.2849",
        }
    return {"computerName": machine.name, "osName": "ubuntu", "osVersion": "22.04"}


def instance_view(world: World, machine: Machine) -> Json:
    now = world.now()
    behaviour = world.behaviour(machine)
    ready = machine.agent_ready_at(now, behaviour)
    state, extensions = machine.provisioning_at(now), _extensions(world, machine, now)
    provisioning = {"code": f"ProvisioningState/{state}", "level": "Info", "displayStatus": f"Provisioning {state}"}
    if state == "succeeded":
        provisioning["time"] = ticks(_changed(machine, now))
    view: Json = {
        **(guest(machine) if ready else {}),
        "hyperVGeneration": "V2",
        "vmAgent": _agent(machine, now, ready=ready, extensions=extensions),
        "extensions": extensions,
        "patchStatus": patch_status(machine, now),
        "vmHealth": {"status": {"code": behaviour.health, "level": "Info"}} if behaviour.health else {},
        "statuses": [provisioning, *_further_statuses(machine, behaviour, now)],
    }
    return {name: value for name, value in view.items() if value not in ({}, [])}


def _changed(machine: Machine, now: datetime) -> datetime:
    """When its last operation but a patch operation ended: starts and deallocations are updates, too.

    Learn, "States and billing of virtual machines". That patch operations leave the time alone is inferred.
    """
    ends = [each.ends for each in machine.operations if each.kind in (*_CHANGES, "update")]
    return max([machine.provisioned, *(end for end in ends if end is not None and end <= now)])


def _further_statuses(machine: Machine, behaviour: Behaviour, now: datetime) -> list[Json]:
    found = [] if behaviour.power_unsaid else [power_state(machine, now)]
    if behaviour.hibernated and machine.power_at(now) in ("stopped", "deallocated"):
        code = {"code": "HibernationState/Hibernated", "level": "Info", "displayStatus": "VM hibernated"}
        found.append(code | {"time": ticks(machine.power.since(now) or now)})
    if behaviour.generalized:
        found.append({"code": "OSState/generalized", "level": "Info", "displayStatus": "VM generalized"})
    return found


def _agent(machine: Machine, now: datetime, *, ready: bool, extensions: list[Json]) -> Json:
    status = {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Ready", "time": ticks(now)}
    if ready:
        text = "GuestAgent is running and processing the extensions." if machine.windows else "Guest Agent is running"
        return {
            "vmAgentVersion": "2.7.41491.1139" if machine.windows else "2.12.0.2",
            "extensionHandlers": [_handler(each) for each in extensions],
            "statuses": [status | {"message": text}],
        }
    text = "VM status blob is found but not yet populated."
    code = {"code": "ProvisioningState/Unavailable", "level": "Warning", "displayStatus": "Not Ready", "message": text}
    return {"vmAgentVersion": "Unknown", "statuses": [code | {"time": ticks(now)}]}


def _handler(extension: Json) -> Json:
    """What the agent says of the handler of an extension (VirtualMachineExtensionHandlerInstanceView of the SDK)."""
    status = {"code": "ProvisioningState/succeeded", "level": "Info", "displayStatus": "Ready"}
    return {"type": extension["type"], "typeHandlerVersion": extension["typeHandlerVersion"], "status": status}


def _extension_name(machine: Machine) -> str:
    return "AzureMonitorWindowsAgent" if machine.windows else "AzureMonitorLinuxAgent"


def _extensions(world: World, machine: Machine, now: datetime) -> list[Json]:
    if now < machine.provisioned + machine.agent_delay:
        return []
    name = _extension_name(machine)
    busy = machine.extensions_busy_at(now, world.behaviour(machine))
    state, text = ("transitioning", "Transitioning") if busy else ("succeeded", "Provisioning succeeded")
    found = [_extension(name, f"Microsoft.Azure.Monitor.{name}", version="1.33", state=state, text=text)]
    if any(each.kind in ("assess", "install") for each in machine.operations):
        patcher = "WindowsPatchExtension" if machine.windows else "LinuxPatchExtension"
        kind = f"Microsoft.CPlat.Core.{patcher}"
        found.append(_extension(patcher, kind, version="1.6", state="succeeded", text="Provisioning succeeded"))
    return found


def _extension(name: str, kind: str, *, version: str, state: str, text: str) -> Json:
    status = {"code": f"ProvisioningState/{state}", "level": "Info", "displayStatus": text}
    return {"name": name, "type": kind, "typeHandlerVersion": version, "statuses": [status]}


# --- what is stored ------------------------------------------------------------------------------------------------


def _stored(body: Json) -> Json:
    """The body as ARM stores it: without secrets, with defaults."""
    kept: Json = {name: copy.deepcopy(body[name]) for name in _TOP if body.get(name) is not None}
    properties = _properties_of(body)
    storage = properties.setdefault("storageProfile", {})
    disk = storage.setdefault("osDisk", {})
    image = storage.get("imageReference")
    disk.setdefault("createOption", "FromImage" if image else "Attach")
    disk["osType"] = disk.get("osType") or _os_type(properties, image or {})
    if image and not image.get("exactVersion"):
        _fill_exact_version(image)
    if profile := properties.get("osProfile"):
        _fill_profile(profile, windows=disk["osType"] == "Windows")
    return kept | {"properties": properties}


def _properties_of(body: Json) -> Json:
    """What a client may set: without what Azure alone says, and without secrets."""
    properties: Json = copy.deepcopy(body.get("properties") or {})
    for name in ("vmId", "provisioningState", "timeCreated", "instanceView"):
        properties.pop(name, None)
    for name in ("adminPassword", "customData"):
        (properties.get("osProfile") or {}).pop(name, None)
    return properties


def _os_type(properties: Json, image: Json) -> str:
    profile = properties.get("osProfile") or {}
    publisher = str(image.get("publisher", "")).lower()
    return "Windows" if profile.get("windowsConfiguration") or "windowsserver" in publisher else "Linux"


def _fill_exact_version(image: Json) -> None:
    """Where the caller leaves the version open, Azure reports the one it chose."""
    parts = str(
        image.get("id") or image.get("sharedGalleryImageId") or image.get("communityGalleryImageId") or ""
    ).split("/")
    lowered = [part.lower() for part in parts]
    if image.get("publisher"):
        image.setdefault("version", "latest")
        image["exactVersion"] = image["version"] if image["version"] != "latest" else "20348.2849.241119"
        return
    named = parts[lowered.index("versions") + 1] if "versions" in lowered else "latest"
    if "galleries" in lowered or "sharedgalleries" in lowered or "communitygalleries" in lowered:
        image["exactVersion"] = named if named.lower() != "latest" else "1.0.0"


def _fill_profile(profile: Json, *, windows: bool) -> None:
    profile.setdefault("allowExtensionOperations", True)
    name, defaults = (
        ("windowsConfiguration", {"provisionVMAgent": True, "enableAutomaticUpdates": True})
        if windows
        else ("linuxConfiguration", {"disablePasswordAuthentication": True, "provisionVMAgent": True})
    )
    configuration = profile.setdefault(name, {})
    for key, value in defaults.items():
        configuration.setdefault(key, value)
    settings = configuration.setdefault("patchSettings", {})
    settings.setdefault("patchMode", "AutomaticByOS" if windows else "ImageDefault")
    settings.setdefault("assessmentMode", "ImageDefault")


def _merge(into: Json, changes: Json) -> None:
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        elif value is not None:
            into[name] = copy.deepcopy(value)
