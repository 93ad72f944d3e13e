"""Microsoft.Authorization: who was assigned which role, and what a role allows. Read only: `State.grants` holds them.

Paths, filter and shape: learn.microsoft.com, List Azure role assignments using the REST API (api-version 2022-04-01).
Each grant of an identity with an object id is one assignment of a role of its own; ids are made of its text.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

from simulator.arm import authorization
from simulator.arm.pipeline import Context, Step, authenticate, require_api_version, run
from simulator.arm.state import State
from simulator.behaviour import Grant
from simulator.wire import Json, Refused, Request, Response

_PROVIDER = "/providers/Microsoft.Authorization"
_ASSIGNMENTS = re.compile(rf"(?P<scope>/subscriptions/.+?){_PROVIDER}/roleAssignments", re.IGNORECASE)
_DEFINITION = re.compile(rf"(?P<scope>.*){_PROVIDER}/roleDefinitions/(?P<id>[0-9a-f-]{{36}})", re.IGNORECASE)
_FILTER = re.compile(r"assignedTo\('(?P<principal>[0-9a-f-]{36})'\)", re.IGNORECASE)

STEPS: tuple[Step, ...] = (authenticate, require_api_version)


def owns(request: Request) -> bool:
    """Whether a request is for assignments or for a role."""
    return request.method == "GET" and bool(_ASSIGNMENTS.fullmatch(request.path) or _DEFINITION.fullmatch(request.path))


def answer(state: State, request: Request) -> Response:
    """The assignments of a principal that hold at a subscription or resource, or below it; or one role."""

    def handle(context: Context) -> Response:
        if match := _ASSIGNMENTS.fullmatch(request.path):
            authorization.require(
                state, context.caller, action="Microsoft.Authorization/roleAssignments/read", scope=match["scope"]
            )
            found = [each for each in _granted_to(state, _principal(request)) if _concerns(each, match["scope"])]
            return Response(200, {"value": [_assignment(state, each) for each in found]})
        match = _DEFINITION.fullmatch(request.path)
        wanted = match["id"].lower() if match else ""
        role = next((each for each in state.grants if _id_of(each) == wanted), None)
        if role is None:
            raise Refused(
                404, "RoleDefinitionDoesNotExist", f"The specified role definition '{wanted}' does not exist."
            )
        return Response(200, _definition(role))

    return run(Context(state, request), STEPS, handle)


def _principal(request: Request) -> str:
    asked = {name.lower(): value for name, value in request.query.items()}.get("$filter", "")
    match = _FILTER.fullmatch(asked)
    if not match:
        raise Refused(400, "BadRequest", "The simulator lists assignments by the filter assignedTo('…') only.")
    return match["principal"].lower()


def _granted_to(state: State, principal: str) -> Iterator[Grant]:
    return (each for each in state.grants if state.principals.get(each.client_id, "").lower() == principal)


def _concerns(grant: Grant, scope: str) -> bool:
    """At the scope, above it or below it. A management group is above."""
    above = authorization.is_within(scope, grant.scope) or "/managementgroups/" in grant.scope.lower()
    return above or authorization.is_within(grant.scope, scope)


def _id_of(grant: Grant) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, repr(grant)))


def _assignment(state: State, grant: Grant) -> Json:
    role = f"{_PROVIDER}/roleDefinitions/{_id_of(grant)}"
    scope = grant.scope.rstrip("/")
    return {
        "id": f"{scope}{_PROVIDER}/roleAssignments/{_id_of(grant)}",
        "name": _id_of(grant),
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "scope": grant.scope,
            "roleDefinitionId": role,
            "principalId": state.principals[grant.client_id],
            "principalType": "ServicePrincipal",
        },
    }


def _definition(grant: Grant) -> Json:
    permission = {
        "actions": list(grant.actions),
        "notActions": list(grant.not_actions),
        "dataActions": list(grant.data_actions),
        "notDataActions": [],
    }
    return {
        "id": f"{_PROVIDER}/roleDefinitions/{_id_of(grant)}",
        "name": _id_of(grant),
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {"roleName": _id_of(grant), "type": "CustomRole", "permissions": [permission]},
    }
