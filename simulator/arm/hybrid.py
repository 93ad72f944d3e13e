"""Microsoft.HybridCompute/machines: servers outside Azure, as their agent connected them (Azure Arc).

Fields of results, versions, and that a 202 names the operation by its Location alone: compute_patch_api.json (from
azure-mgmt-hybridcompute). Where the Location leads is inferred from the one action that Azure publishes for reading it,
and so is the refusal of a machine whose agent is not connected.

Not simulated: extensions, licences, run commands, the agent's own clock, quotas, and an operation whose machine loses
its connection meanwhile.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from simulator.arm import patching, results, rules
from simulator.arm.locations import normal
from simulator.behaviour import Kind
from simulator.event_grid.events import EventDetails, event
from simulator.wire import Json, Refused, Request, Response, ticks_z
from simulator.world import CANCELED, HybridMachine, Operation, World

KIND = "Microsoft.HybridCompute/machines"
_NAME = re.compile(r"[a-zA-Z0-9\-_.]{1,54}")
_RETRY_SINCE, _RETRY_SECONDS = "2026-07-15", "15"
Params = Mapping[str, str]


def machine_id(params: Params) -> str:
    group = f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"
    return f"{group}/providers/{KIND}/{params['name']}"


def find(world: World, params: Params) -> HybridMachine:
    machine = world.hybrid.get(machine_id(params).lower())
    if machine is None or not machine.exists_at(world.now()):
        text = f"The Resource '{KIND}/{params['name']}' under resource group '{params['group']}' was not found. "
        text += "For more details please go to https://aka.ms/ARMResourceNotFoundFix"
        raise Refused(404, "ResourceNotFound", text)
    return machine


def put(world: World, request: Request, params: Params) -> Response:
    """The agent connects its machine, or connects it again."""
    body = request.json()
    rules.check_sections(body)
    if not _NAME.fullmatch(params["name"]):
        raise Refused(400, "InvalidParameter", f"The name '{params['name']}' is invalid.", target="machineName")
    rules.check_location(body)
    return Response(200, document(connect(world, machine_id(params), body), world.now()))


def connect(world: World, full_id: str, body: Json) -> HybridMachine:
    """A machine whose agent reports from now on. One of this id keeps what it is, and is connected again."""
    now, parts = world.now(), full_id.split("/")
    machine = world.hybrid.get(full_id.lower())
    if machine is None or not machine.exists_at(now):
        machine = HybridMachine(
            id=full_id,
            subscription=parts[2],
            group=parts[4],
            name=parts[8],
            vm_id=world.guid(),
            windows=str((body.get("properties") or {}).get("osType", "linux")).lower() == "windows",
            region=normal(str(body["location"])),
            created=now,
            provisioned=now,
            agent_delay=timedelta(0),
            extensions_delay=timedelta(0),
        )
        world.hybrid[full_id.lower()] = machine
    machine.body.set(now, copy.deepcopy(body))
    machine.status.set(now, "Connected")
    _send(world, machine, "write")
    return machine


def get(world: World, request: Request, params: Params) -> Response:
    return Response(200, document(find(world, params), world.now()))


def delete(world: World, request: Request, params: Params) -> Response:
    """At once: nothing but the resource goes, and its server stays where it is."""
    machine = world.hybrid.get(machine_id(params).lower())
    if machine is None or not machine.exists_at(world.now()):
        return Response(204)
    remove(world, machine)
    return Response(200)


def remove(world: World, machine: HybridMachine) -> None:
    patching.end_all(world, machine, "Canceled", ended_by=CANCELED)
    machine.deleted = world.now()
    _send(world, machine, "delete")


def _send(world: World, machine: HybridMachine, verb: str) -> None:
    details = EventDetails(machine.id, f"{KIND}/{verb}", world.now())
    world.at(details.at, lambda: event(world, details))


def document(machine: HybridMachine, when: datetime) -> Json:
    """The machine as a client gets it, and as Resource Graph shows it."""
    body = copy.deepcopy(machine.body.at(when) or {})
    system = "windows" if machine.windows else "linux"
    changed = machine.status.since(when) or machine.created
    properties = (body.get("properties") or {}) | {
        "provisioningState": "Succeeded",
        "status": machine.status_at(when),
        "lastStatusChange": ticks_z(changed),
        "vmId": machine.vm_id,
        "osName": system,
        "osType": system,
    }
    return {
        "id": machine.id,
        "name": machine.name,
        "type": KIND,
        "location": str(body.get("location", machine.region)),
        "tags": body.get("tags") or {},
        "properties": properties,
    }


def action_of(kind: Kind) -> Callable[[World, Request, Params], Response]:
    def act(world: World, request: Request, params: Params) -> Response:
        machine = find(world, params)
        order = request.json() if kind == "install" else {}
        operation = patching.start(world, machine, kind, order=order, started_by="User", request=request)
        return _followed(operation, request)

    return act


def result_of(world: World, request: Request, params: Params) -> Response:
    """What the Location of an operation answers: 202 while it runs, then its result."""
    operation = world.by_operation_id.get(params["job"].lower())
    if operation is None or f"/{KIND}/".lower() not in operation.machine.lower():
        raise Refused(404, "NotFound", f"The operation '{params['job']}' was not found.")
    now = world.now()
    if operation.runs_at(now):
        return _followed(operation, request)
    shown = results.assessed if operation.kind == "assess" else results.installed
    return Response(200, shown(operation, now, ticks_z))


def _followed(operation: Operation, request: Request) -> Response:
    version = request.query["api-version"]
    path = f"/subscriptions/{operation.machine.split('/')[2]}/providers/Microsoft.HybridCompute/locations"
    path += f"/{operation.region}/updateCenterOperationResults/{operation.operation_id}"
    headers = {"location": f"{request.origin}{path}?api-version={version}"}
    if version >= _RETRY_SINCE:
        headers["retry-after"] = _RETRY_SECONDS
    return Response(202, None, headers)
