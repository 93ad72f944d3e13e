"""Microsoft.Compute/locations/{region}/operations/{guid}: the status of a long-running operation.

Shapes and headers: recorded traffic. The URL carries a signature (p, t, c, s, h, about 3 kB) and is refused
without it. What Azure answers to a wrong one is not documented: 403 is inferred.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

from simulator.arm import patching
from simulator.wire import Json, Refused, Request, Response, ticks
from simulator.world import PATCHING, Operation, World

_KEY = b"signs the simulator's operation URLs and nothing else"
_CERTIFICATE = base64.urlsafe_b64encode(hashlib.sha512(b"certificate").digest() * 30).decode().rstrip("=")
SIGNED = ("p", "t", "c", "s", "h")  # the names of the signature's parts
_TICKS_AT_EPOCH = 621_355_968_000_000_000


def accepted(world: World, operation: Operation, request: Request) -> dict[str, str]:
    """The headers of a 202. No Retry-After: there was none in the recording."""
    return {"azure-asyncnotification": "Enabled"} | polling(operation, request, world.limits.accepted_headers)


def polling(operation: Operation, request: Request, names: tuple[str, ...]) -> dict[str, str]:
    subscription = operation.machine.split("/")[2]
    path = f"/subscriptions/{subscription}/providers/Microsoft.Compute/locations/{operation.region}/operations"
    version = request.query.get("api-version", "")
    signed = "&".join(f"{name}={quote(value, safe='')}" for name, value in _signature(operation).items())
    url = f"{request.origin}{path}/{operation.operation_id}?p={_p(operation)}"
    urls = {
        "azure-asyncoperation": f"{url}&api-version={version}&{signed}",
        "location": f"{url}&monitor=true&api-version={version}&{signed}",
    }
    return {name: urls[name] for name in names}


def poll(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """GET …/operations/{guid}, and the same with monitor=true, which gives the bare result."""
    operation = world.by_operation_id.get(params["operation"].lower())
    known = operation is not None and _same_place(operation, params)
    if operation is None or not known:
        raise Refused(404, "NotFound", f"The entity was not found: operation '{params['operation']}'.")
    expected = {"p": _p(operation), **_signature(operation)}
    if any(not hmac.compare_digest(request.query.get(name, ""), value) for name, value in expected.items()):
        raise Refused(403, "AuthorizationFailed", "The signature of the operation's URL is missing or wrong.")
    if request.query.get("monitor", "").lower() == "true":
        return _result(operation, request)
    return Response(200, envelope(operation))


def envelope(operation: Operation) -> Json:
    body: Json = {"startTime": ticks(operation.started), "status": operation.status, "name": operation.operation_id}
    if operation.status == "InProgress" or operation.ends is None:
        return body
    warned = operation.final_status == "CompletedWithWarnings"
    body = {
        "startTime": ticks(operation.started),
        "endTime": ticks(operation.ends),
        "status": "Succeeded" if warned else operation.final_status,  # the envelope has no such status
        "name": operation.operation_id,
    }
    if operation.kind in PATCHING and operation.reported:
        body["properties"] = {"output": patching.result(operation)}
    if body["status"] in ("Failed", "Canceled"):
        code, message = operation.ended_by or ("VMGuestPatchOperationFailed", "The VM guest patch operation failed.")
        body["error"] = {"code": code, "message": message}
    return body


def _result(operation: Operation, request: Request) -> Response:
    if operation.status == "InProgress":
        return Response(202, None, polling(operation, request, ("location",)))
    return Response(200, patching.result(operation)) if operation.kind in PATCHING else Response(200)


def _same_place(operation: Operation, params: Mapping[str, str]) -> bool:
    here = (params["subscription"].lower(), params["region"].lower())
    return here == (operation.machine.split("/")[2].lower(), operation.region.lower())


def _p(operation: Operation) -> str:
    return operation.vm_id


def _signature(operation: Operation) -> dict[str, str]:
    stamp = str(_TICKS_AT_EPOCH + int(operation.started.timestamp() * 10_000_000))
    signed = hmac.new(_KEY, f"{operation.operation_id}|{stamp}".encode(), hashlib.sha512).digest()
    short = hashlib.sha256(signed).digest()
    return {
        "t": stamp,
        "c": _CERTIFICATE,
        "s": base64.urlsafe_b64encode(signed * 4).decode().rstrip("="),
        "h": base64.urlsafe_b64encode(short).decode().rstrip("="),
    }
