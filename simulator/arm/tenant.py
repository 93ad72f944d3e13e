"""GET /subscriptions: what a caller sees of its tenant. These calls count per principal and tenant."""

from __future__ import annotations

from simulator.arm import authorization, groups, options, throttling
from simulator.arm.pipeline import Context, Step, authenticate, require_api_version, run
from simulator.arm.state import State
from simulator.wire import Request, Response


def owns(request: Request) -> bool:
    """Whether a request is for the tenant's list."""
    return request.method == "GET" and request.path.lower().rstrip("/") == "/subscriptions"


def check_options(context: Context) -> None:
    """400 for any query option."""
    options.check_known(context.request, ())


def throttle(context: Context) -> None:
    """429 per caller."""
    context.headers |= throttling.take_tenant(context.state, context.caller)


STEPS: tuple[Step, ...] = (authenticate, require_api_version, check_options, throttle)


def answer(state: State, request: Request) -> Response:
    """The subscriptions in which the caller has any right."""

    def handle(context: Context) -> Response:
        client_id, world = context.caller.client_id, state.world
        seen = [each for each in world.subscriptions if authorization.sees(state, client_id, f"/subscriptions/{each}")]
        total = {"type": "Total", "value": len(seen)}
        return Response(200, {"value": [groups.subscription(world, each) for each in seen], "count": total})

    return run(Context(state, request), STEPS, handle)
