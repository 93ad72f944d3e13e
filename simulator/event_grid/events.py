"""The events that Azure Resource Manager sends through Event Grid's subscription topic (event-schema-subscriptions.md).

One for every write, action and delete that came to its end, with its caller's claims: identities are in there, as in
Azure. `httpRequest` is present on updates, actions and deletes only (documented; a create has none).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from simulator.identity.tokens import TENANT_ID, app_of
from simulator.wire import Json, Request, ticks_z
from simulator.world import Operation, World

_ACTIONS = {
    "assess": "assessPatches/action",
    "install": "installPatches/action",
    "start": "start/action",
    "deallocate": "deallocate/action",
    "powerOff": "powerOff/action",
    "restart": "restart/action",
    "redeploy": "redeploy/action",
    "reimage": "reimage/action",
    "reapply": "reapply/action",
    "create": "write",
    "update": "write",
    "delete": "delete",
}
_TYPES = {"write": "Write", "action": "Action", "delete": "Delete"}
_PORTAL = "0c0c0c0c-0000-4000-8000-00000000a991"  # the client of people
_CALLER = "0b0b0b0b-0000-4000-8000-00000000ca11"


@dataclass(frozen=True)
class EventDetails:
    """What an event is about: resource, operation, time, and the request that caused it (None: a create)."""

    subject: str
    operation_name: str
    at: datetime
    succeeded: bool = True
    request: Request | None = None


def operation_event(world: World, operation: Operation) -> Json:
    """The event at the end of an operation on a machine."""
    good = operation.final_status in ("Succeeded", "CompletedWithWarnings")
    hybrid = "/microsoft.hybridcompute/" in operation.machine.lower()
    kind = "Microsoft.HybridCompute/machines" if hybrid else "Microsoft.Compute/virtualMachines"
    name = f"{kind}/{_ACTIONS[operation.kind]}"
    return event(
        world, EventDetails(operation.machine, name, operation.ends or operation.started, good, operation.request)
    )


def event(world: World, details: EventDetails) -> Json:
    subscription = details.subject.split("/")[2]
    kind = _TYPES[details.operation_name.rsplit("/", 1)[1]]
    data: Json = {
        "authorization": {
            "scope": details.subject,
            "action": details.operation_name,
            "evidence": {
                "role": "Contributor",
                "roleAssignmentScope": f"/subscriptions/{subscription}",
                "roleAssignmentId": world.guid().replace("-", ""),
                "roleDefinitionId": "b24988ac618042a0ab8820f7382dd24c",
                "principalId": _CALLER.replace("-", ""),
                "principalType": "ServicePrincipal",
            },
        },
        "claims": _claims(details),
        "correlationId": world.guid(),
        "resourceProvider": details.operation_name.split("/", 1)[0],
        "resourceUri": details.subject,
        "operationName": details.operation_name,
        "status": "Succeeded" if details.succeeded else "Failed",
        "subscriptionId": subscription,
        "tenantId": TENANT_ID,
    }
    if details.request is not None:
        data["httpRequest"] = {
            "clientRequestId": world.guid(),
            "clientIpAddress": "203.0.113.5",
            "method": details.request.method,
            "url": details.request.url,
        }
    return {
        "subject": details.subject,
        "eventType": f"Microsoft.Resources.Resource{kind}{'Success' if details.succeeded else 'Failure'}",
        "eventTime": ticks_z(details.at),
        "id": world.guid(),
        "data": data,
        "dataVersion": "2",
        "metadataVersion": "1",
        "topic": f"/subscriptions/{subscription}",
    }


def _claims(details: EventDetails) -> Json:
    """Invented people, but real claim names: what must never be logged. The client is that of the call, if known."""
    at, request = details.at, details.request
    schemas = "http://schemas.microsoft.com/identity/claims"
    return {
        "aud": "https://management.core.windows.net/",
        "iss": f"https://sts.windows.net/{TENANT_ID}/",
        "iat": str(int(at.timestamp()) - 60),
        "nbf": str(int(at.timestamp()) - 60),
        "exp": str(int(at.timestamp()) + 3600),
        "appid": (app_of(request.headers.get("authorization", "")) if request else "") or _PORTAL,
        "appidacr": "2",
        "ipaddr": "203.0.113.5",
        "name": "Pat Example",
        f"{schemas}/objectidentifier": _CALLER,
        f"{schemas}/tenantid": TENANT_ID,
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn": "pat@example.com",
        "uti": "AAAAAAAAAAAAAAAAAAAAAA",
        "ver": "1.0",
    }


def as_cloud_event(source: Json) -> Json:
    """The same event in the CloudEvents 1.0 schema (event-schema-subscriptions.md); one of a topic's own as it came."""
    if "specversion" in source:
        return {name: value for name, value in source.items() if name not in ("topic", "eventType")}
    return {
        "id": source["id"],
        "source": source["topic"],
        "subject": source["subject"],
        "data": source["data"],
        "type": source["eventType"],
        "time": source["eventTime"],
        "specversion": "1.0",
    }
