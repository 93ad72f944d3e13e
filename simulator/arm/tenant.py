"""What stands above subscriptions: GET /subscriptions, and what is in a management group.

These calls count per principal and tenant. A management group holds subscriptions and no other group here. Answer and
version of descendants: Microsoft Learn, REST API "Management Groups - Get Descendants"; it pages, and the simulator
does not.
"""

from __future__ import annotations

import re

from simulator.arm import authorization, groups, options, throttling
from simulator.arm.pipeline import Context, Step, authenticate, require_api_version, run
from simulator.arm.state import State
from simulator.wire import Refused, Request, Response

_GROUP = "/providers/Microsoft.Management/managementGroups"
_DESCENDANTS = re.compile(rf"{_GROUP}/(?P<name>[^/]+)/descendants/?", re.IGNORECASE)
DESCENDANTS_READ = "Microsoft.Management/managementGroups/descendants/read"


def owns(request: Request) -> bool:
    """Whether a request is for the tenant's list, or for what is in a management group."""
    listed = request.path.lower().rstrip("/") == "/subscriptions"
    return request.method == "GET" and (listed or bool(_DESCENDANTS.fullmatch(request.path)))


def check_options(context: Context) -> None:
    """400 for any query option."""
    options.check_known(context.request, ())


def throttle(context: Context) -> None:
    """429 per caller."""
    context.headers |= throttling.take_tenant(context.state, context.caller)


STEPS: tuple[Step, ...] = (authenticate, require_api_version, check_options, throttle)


def answer(state: State, request: Request) -> Response:
    named = _DESCENDANTS.fullmatch(request.path)
    return run(
        Context(state, request), STEPS, lambda context: _below(context, named["name"]) if named else _seen(context)
    )


def _seen(context: Context) -> Response:
    """The subscriptions in which the caller has any right."""
    state, world, client_id = context.state, context.state.world, context.caller.client_id
    seen = [each for each in world.subscriptions if authorization.sees(state, client_id, f"/subscriptions/{each}")]
    total = {"type": "Total", "value": len(seen)}
    return Response(200, {"value": [groups.subscription(world, each) for each in seen], "count": total})


def _below(context: Context, name: str) -> Response:
    """Every subscription in the management group, whether or not the caller has a right in it."""
    authorization.require(context.state, context.caller, action=DESCENDANTS_READ, scope=f"{_GROUP}/{name}")
    held = context.state.world.management_groups.get(name.lower())
    if held is None:
        raise Refused(404, "NotFound", f"'{_GROUP}/{name}' not found")
    parent = {"parent": {"id": f"{_GROUP}/{name}"}}
    below = [
        {
            "id": f"/subscriptions/{each}",
            "type": "/subscriptions",
            "name": each,
            "properties": {"displayName": each} | parent,
        }
        for each in held
    ]
    return Response(200, {"value": below})
