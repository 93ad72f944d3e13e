"""What happens to a request on its way to its handler, as a list of small steps.

Each step takes the request's context and either raises Refused or passes it on. A new rule of Resource Manager is one
more function in STEPS; what depends on the body is in rules.py, and the handlers ask for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from simulator import identity
from simulator.arm import alerts, authorization, event_subscriptions, groups, options, routes, throttling, versions
from simulator.arm.locations import LOCATIONS
from simulator.arm.routes import Route
from simulator.arm.state import State
from simulator.identity.tokens import Caller, caller_of
from simulator.wire import Refused, Request, Response


@dataclass
class Context:
    """One request, and what the steps have found out about it. `headers` go with its answer, also with a refusal."""

    state: State
    request: Request
    headers: dict[str, str] = field(default_factory=dict)
    caller: Caller = field(init=False)
    route: Route = field(init=False)
    params: dict[str, str] = field(init=False)

    @property
    def scope(self) -> str:
        """The resource id at which the request acts."""
        return self.route.scope_of(self.params)


_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
Step = Callable[[Context], None]


def authenticate(context: Context) -> None:
    """401 for tokens that are missing, expired, forged, from another tenant, or meant for another service."""
    state, request = context.state, context.request
    header, now = request.headers.get("authorization"), state.now()
    if not header:
        raise _unauthenticated("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
    audiences = sorted({*state.audiences, request.origin}) if request.host in state.hosts else []
    try:
        context.caller = caller_of(identity.check_header(header, *audiences, now_seconds=state.token_seconds()))
    except identity.WrongAudience as wrong:
        allowed = ",".join(f"{each.rstrip('/')}{end}" for each in audiences for end in ("", "/"))
        text = (
            f"The access token has been obtained for wrong audience or resource '{wrong.audience}'. "
            f"It should exactly match with one of the allowed audiences '{allowed}'."
        )
        raise _unauthenticated("InvalidAuthenticationTokenAudience", text) from wrong
    except identity.Expired as expired:
        text = (
            f"The access token expiry UTC time '{_us_time(datetime.fromtimestamp(expired.at, UTC))}' is earlier than "
            f"current UTC time '{_us_time(now.astimezone(UTC))}'."
        )
        raise _unauthenticated("ExpiredAuthenticationToken", text) from expired
    except identity.WrongTenant as wrong:
        text = (
            f"The access token is from the wrong issuer 'https://sts.windows.net/{wrong.tenant_id}/'. It must match "
            f"the tenant 'https://sts.windows.net/{identity.TENANT_ID}/' associated with this subscription."
        )
        raise _unauthenticated("InvalidAuthenticationTokenTenant", text) from wrong
    except identity.TokenRefused as refused:
        raise _unauthenticated("InvalidAuthenticationToken", f"The access token is invalid: {refused}.") from refused


def _unauthenticated(code: str, text: str) -> Refused:
    challenge = {
        "www-authenticate": f'Bearer authorization_uri="https://login.windows.net/{identity.TENANT_ID}", '
        f'error="invalid_token", error_description="{text}"'
    }
    return Refused(401, code, text, headers=challenge)


def _us_time(at: datetime) -> str:
    """As in the recorded refusals: 11/25/2026 8:00:00 AM."""
    return f"{at.month}/{at.day}/{at.year} {at.hour % 12 or 12}:{at:%M:%S %p}"


def require_api_version(context: Context) -> None:
    """400 without an api-version, or with one that the type does not have."""
    version = context.request.query.get("api-version")
    if not version:
        text = "The api-version query parameter (?api-version=) is required for all requests."
        raise Refused(400, "MissingApiVersionParameter", text)
    kind = versions.type_of(context.request.path)
    if kind is None:
        return  # the next step says that there is no such type
    supported = versions.SUPPORTED[kind]
    if kind.provider == "Microsoft.Compute" and context.state.limits.api_versions:
        supported = context.state.limits.api_versions
    if version not in supported:
        text = (
            f"No registered resource provider found for location '{_location(context)}' and API version '{version}' "
            f"for type '{kind.name}'. The supported api-versions are '{', '.join(supported)}'. "
            f"The supported locations are '{', '.join(LOCATIONS)}'."
        )
        raise Refused(400, "NoRegisteredProviderFound", text)


def _location(context: Context) -> str:
    """Where the machine of the path is; empty for any other resource."""
    machine_id = "/".join(context.request.path.lower().split("/")[:9])
    machine = context.state.world.machines.get(machine_id)
    return machine.region if machine else ""


def find_route(context: Context) -> None:
    """404 and 405."""
    context.route, context.params = routes.find(context.request)


def check_options(context: Context) -> None:
    """400 for a query option that the operation does not have."""
    options.check_known(context.request, context.route.options)


def require_subscription(context: Context) -> None:
    """400 and 404. A subscription comes about with its first resource group, which is the simulator's own rule."""
    subscription, world = context.params["subscription"], context.state.world
    if not _GUID.fullmatch(subscription):
        text = f"The provided subscription identifier '{subscription}' is malformed or invalid."
        raise Refused(400, "InvalidSubscriptionId", text)
    wanted = subscription.lower()
    held = (each for subscriptions in world.management_groups.values() for each in subscriptions)
    known = wanted in world.subscriptions or any(each.lower() == wanted for each in held)
    if not known and context.route.handler is not groups.put:
        raise Refused(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")


def require_group(context: Context) -> None:
    """404 for whatever is in a group that does not exist. That of the deployment does, and is not simulated."""
    world, params = context.state.world, context.params
    deployed = alerts.has_group, event_subscriptions.has_group
    if "group" not in params or context.route.handler is groups.put or any(has(world, params) for has in deployed):
        return
    groups.find(world, params)


def throttle_caller(context: Context) -> None:
    """429 by Resource Manager, per caller and subscription."""
    subscription, polling = context.params["subscription"], context.route.policy == "operation"
    context.headers |= throttling.take_resource_manager(
        context.state, context.request.method, context.caller, subscription=subscription, polling=polling
    )


def authorise(context: Context) -> None:
    """403 without the permissions."""
    for action in context.route.actions_of(context.request):
        authorization.require(context.state, context.caller, action=action, scope=context.scope)


def check_locks(context: Context) -> None:
    """409 where a lock is in the way."""
    authorization.refuse_if_locked(context.state, context.request.method, context.scope)


def refuse_in_deleted_group(context: Context) -> None:
    """409 for a write or an action in a group that is being deleted."""
    if context.request.method in ("PUT", "PATCH", "POST") and "group" in context.params:
        groups.refuse_while_deleted(context.state.world, groups.group_id(context.params))


def throttle_compute(context: Context) -> None:
    """429 by Compute, per machine and region."""
    context.headers |= throttling.take_compute(context.state, context.route.policy, context.params)


STEPS: tuple[Step, ...] = (
    authenticate,
    require_api_version,
    find_route,
    check_options,
    require_subscription,
    throttle_caller,
    authorise,
    require_group,
    check_locks,
    refuse_in_deleted_group,
    throttle_compute,
)


def answer(state: State, request: Request) -> Response:
    """Resource Manager's answer."""
    return run(Context(state, request), STEPS, _handle)


def _handle(context: Context) -> Response:
    return context.route.handler(context.state.world, context.request, context.params)


def run(context: Context, steps: Sequence[Step], handle: Callable[[Context], Response]) -> Response:
    """The handler's answer, or that of the first step that refuses."""
    try:
        for step in steps:
            step(context)
        response = handle(context)
    except Refused as refusal:
        response = refusal.response()
    return response.with_headers({**context.headers, **response.headers}) if context.headers else response
