"""POST /providers/Microsoft.ResourceGraph/resources: Resource Graph's route, on the same host as Resource Manager.

The first steps are Resource Manager's; the quota is Resource Graph's own. It needs no permission at a scope: rows that
the caller may not read are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.arm import authorization
from simulator.arm.pipeline import Context, Step, authenticate, require_api_version, run
from simulator.arm.state import PermissionCheck, State
from simulator.resource_graph.graph import Graph
from simulator.wire import Refused, Request, Response

_PATH = "/providers/microsoft.resourcegraph/resources"


def owns(request: Request) -> bool:
    """Whether a request is for Resource Graph."""
    return request.method == "POST" and request.path.lower().rstrip("/") == _PATH


def throttle(context: Context) -> None:
    """429 per caller."""
    state = context.state
    bucket = state.quotas.bucket(state.limits.graph, "graph", context.caller.client_id)
    wait = bucket.seconds_until(bucket.tokens + 1, state.now())
    if not bucket.has(1):
        text = "Client application has been throttled and should not attempt to repeat the request until a while. "
        text += "See https://aka.ms/resourcegraph-throttling"
        raise Refused(429, "RateLimiting", text, headers=_quota_headers(0, wait))
    bucket.take(1)
    context.headers |= _quota_headers(bucket.tokens, wait)


def _quota_headers(left: int, seconds: float) -> dict[str, str]:
    wait = max(0, math.ceil(seconds))
    clock = f"{wait // 3600:02d}:{wait // 60 % 60:02d}:{wait % 60:02d}"
    return {
        "x-ms-user-quota-remaining": str(left),
        "x-ms-user-quota-resets-after": clock,
        "x-ms-ratelimit-remaining-tenant-resource-requests": str(left),  # the same count in recorded traffic
    }


STEPS: tuple[Step, ...] = (authenticate, require_api_version, throttle)


def answer(state: State, graph: Graph, request: Request) -> Response:
    """Resource Graph's answer."""

    def handle(context: Context) -> Response:
        return graph.answer(request, CallerRights(state, context.caller.client_id))

    return run(Context(state, request), STEPS, handle)


@dataclass(frozen=True)
class CallerRights:
    """One caller's rights (graph.Rights)."""

    state: State
    client_id: str

    def permits(self, action: str, scope: str) -> bool:
        return authorization.permits(self.state, self.client_id, action=action, scope=scope)

    def record(self, action: str, scope: str, shown: bool) -> None:
        """A check stays granted once a row was shown thanks to it."""
        check = PermissionCheck(self.client_id, action, scope)
        self.state.permission_checks[check] = shown or self.state.permission_checks.get(check, False)
