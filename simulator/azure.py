"""Azure on this machine: what of it is simulated, on one page.

| route | file |
| --- | --- |
| PUT, GET, PATCH, DELETE resource groups | groups.py |
| PUT, GET, PATCH, DELETE virtual machines, their instance view, lists, start, deallocate, powerOff | machines.py |
| POST assessPatches, installPatches | patching.py |
| GET locations/{region}/operations/{guid}, also with monitor=true | operations.py |
| POST Microsoft.ResourceGraph/resources | graph.py |
| Event Grid: events of the above (events.py), their delivery | eventgrid.py |

Around every route: bearer token, api-version, faults, Resource Manager's and Compute's quotas, rights, locks; in that
order. Each file says what it leaves out. Left out here: Azure Arc, Resource Notifications, deployments, role
assignments and locks as resources (they are plain lists, `grants` and `locks`), nextLink, and correlation headers.

One handler serves both doors: `transport()` for SDK clients in this process, server.py for a TLS port. Time is the
clock that is handed in; nothing runs in the background.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from simulator import identity
from simulator.arm import groups, machines, operations, patching
from simulator.arm.quotas import Quotas
from simulator.behaviour import (
    REFUSALS,
    Behaviour,
    Fault,
    Grant,
    Kind,
    Limits,
    Lock,
    Rate,
    Refusal,
    Timings,
)
from simulator.resource_graph.graph import Graph, quota_headers
from simulator.wire import STANDING_HEADERS, ConnectionLost, Json, Refused, Request, Response
from simulator.world import Group, Machine, Operation, World, overlaps

__all__ = [
    "REFUSALS",
    "Azure",
    "Behaviour",
    "ConnectionLost",
    "Fault",
    "Grant",
    "Group",
    "Limits",
    "Lock",
    "Machine",
    "Operation",
    "Rate",
    "Refusal",
    "Refused",
    "Request",
    "Response",
    "Seen",
    "Timings",
    "overlaps",
]

HOST = "management.azure.com"
AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")

Params = Mapping[str, str]
Handler = Callable[[World, Request, Params], Response]
_Policy = Literal["patch", "get", "list", "operation", "update"]

_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_COMPUTE = "providers/Microsoft.Compute"
_MACHINE = f"{_GROUP}/{_COMPUTE}/virtualMachines/{{name}}"
_OPERATION = f"{_SUBSCRIPTION}/{_COMPUTE}/locations/{{region}}/operations/{{operation}}"
_VM = "Microsoft.Compute/virtualMachines"
_LOCATIONS = "Microsoft.Compute/locations"
_GROUPS = "Microsoft.Resources/subscriptions/resourceGroups"


@dataclass(frozen=True)
class Route:
    """One route: the right it needs, at the scope of `scope` (a template), and Compute's quota it counts against."""

    method: str
    template: str
    action: str
    handler: Handler
    policy: _Policy | None = None
    scope: str = ""

    def __post_init__(self) -> None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.template)
        object.__setattr__(self, "pattern", re.compile(pattern, re.IGNORECASE))

    pattern: re.Pattern[str] = re.compile("")


def _action(name: str, handler: Handler, policy: _Policy) -> Route:
    return Route("POST", f"{_MACHINE}/{name}", f"{_VM}/{name}/action", handler, policy, _MACHINE)


ROUTES: tuple[Route, ...] = (
    Route("PUT", _GROUP, f"{_GROUPS}/write", groups.put),
    Route("GET", _GROUP, f"{_GROUPS}/read", groups.get),
    Route("PATCH", _GROUP, f"{_GROUPS}/write", groups.patch),
    Route("DELETE", _GROUP, f"{_GROUPS}/delete", groups.delete),
    Route("PUT", _MACHINE, f"{_VM}/write", machines.put, "update"),
    Route("GET", _MACHINE, f"{_VM}/read", machines.get, "get"),
    Route("PATCH", _MACHINE, f"{_VM}/write", machines.patch, "update"),
    Route("DELETE", _MACHINE, f"{_VM}/delete", machines.delete, "update"),
    Route("GET", f"{_MACHINE}/instanceView", f"{_VM}/instanceView/read", machines.get_view, "get", _MACHINE),
    _action("start", machines.action_of("start"), "update"),
    _action("deallocate", machines.action_of("deallocate"), "update"),
    _action("powerOff", machines.action_of("powerOff"), "update"),
    _action("assessPatches", machines.patch_action_of("assess"), "patch"),
    _action("installPatches", machines.patch_action_of("install"), "patch"),
    Route(
        "GET", f"{_SUBSCRIPTION}/{_COMPUTE}/virtualMachines", f"{_VM}/read", machines.list_all, "list", _SUBSCRIPTION
    ),
    Route("GET", f"{_GROUP}/{_COMPUTE}/virtualMachines", f"{_VM}/read", machines.list_all, "list", _GROUP),
    Route("GET", _OPERATION, f"{_LOCATIONS}/operations/read", operations.poll, "operation", _SUBSCRIPTION),
)

_ARM_WRITES_AT_MOST = 200  # shown, also where the limit is off
_GRAPH_PATH = "/providers/microsoft.resourcegraph/resources"


class Seen(NamedTuple):
    """One request that came in, with the status of its answer (0: the connection was lost)."""

    time: datetime
    method: str
    path: str
    status: int


class Asked(NamedTuple):
    """A right that somebody asked for, or needed so that Resource Graph shows a row."""

    client_id: str
    action: str
    scope: str


class Faults(list[Fault]):
    """What goes wrong, in the order it was added."""

    def add(self, fault: Fault) -> Fault:
        self.append(fault)
        return fault

    def take(self, request: Request) -> Fault | None:
        """The first fault that matches, used up by one."""
        for fault in self:
            spent = fault.times is not None and fault.hits >= fault.times
            if (
                not spent
                and re.fullmatch(fault.method, request.method, re.I)
                and re.search(fault.path, request.path, re.I)
            ):
                fault.hits += 1
                return fault
        return None


class _Caller(NamedTuple):
    client_id: str
    object_id: str


class Azure:
    """The whole of it. Change `limits`, `grants`, `locks`, `faults` and `graph` at will while it runs."""

    def __init__(
        self,
        now: Callable[[], datetime],
        timings: Timings = Timings(),  # noqa: B008 - frozen
        limits: Limits = Limits(),  # noqa: B008 - frozen
        seed: int = 0,
        *,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.now = now
        self.world = World(now, timings, limits, seed)
        self.graph = Graph(self.world, timings.graph_lag_seconds)
        self.quotas = Quotas(now)
        self.grants: list[Grant] = [Grant()]
        self.locks: list[Lock] = []
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.asked: dict[Asked, bool] = {}  # whether it was there, the last time
        self.hosts: set[str] = {HOST}
        self.audiences: set[str] = set(AUDIENCES)
        self._sleep = sleep

    # --- for tests and drivers: the world without HTTP ---

    @property
    def limits(self) -> Limits:
        return self.world.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.world.limits = limits

    @property
    def operations(self) -> list[Operation]:
        """Every assessment and installation that ever started, in order, whoever asked for it."""
        return self.world.operations

    @property
    def changes(self) -> list[Operation]:
        """Every creation, update, start, stop and deletion of a machine, in order."""
        return self.world.changes

    @property
    def events(self) -> list[Json]:
        """Every event sent so far, in the Event Grid schema."""
        self.world.advance()
        return self.world.events

    def advance(self) -> datetime | None:
        """Sends the events that are due; gives the time of the next one, for a clock moved by hand."""
        self.world.advance()
        return self.world.next_due

    def behave(self, name: str, behaviour: Behaviour) -> None:
        """What the guest of the machine of this name or id does from now on, also before the machine is created."""
        self.world.behave(name, behaviour)

    def create_group(self, group_id: str, location: str = "westus", **more: Any) -> Group:
        """A resource group without a request: no token, no quota."""
        return groups.create(self.world, group_id, {"location": location, **more})

    def create_machine(self, machine_id: str, body: Json) -> Machine:
        """A machine (and its group, if it is not there) without a request: no token, no quota, the same world."""
        group_id = machine_id.split("/providers/")[0]
        if group_id.lower() not in self.world.groups:
            self.create_group(group_id, str(body.get("location", "westus")))
        return machines.create(self.world, machine_id, body)

    def machine(self, machine_id: str) -> Machine:
        """By id, or by name where only one machine has it."""
        if machine_id.lower() in self.world.machines:
            return self.world.machines[machine_id.lower()]
        found = [each for each in self.world.machines.values() if each.name.lower() == machine_id.lower()]
        if len(found) != 1:
            raise LookupError(f"{len(found)} machines are called {machine_id}")
        return found[0]

    def start_operation(
        self,
        machine_id: str,
        kind: str,
        started_by: Literal["User", "Platform"] = "Platform",
        order: Json | None = None,
    ) -> Operation:
        """Somebody else starts something: assess, install, start, deallocate, powerOff. Raises Refused as ARM would."""
        machine = self.machine(machine_id)
        if kind in ("start", "deallocate", "powerOff"):
            return machines.change_power(self.world, machine, kind, None)
        if kind not in ("assess", "install"):
            raise ValueError(f"{kind} is no kind of operation that can be started")
        which: Kind = "assess" if kind == "assess" else "install"
        return patching.start(self.world, machine, which, order or _everything(), started_by)

    def delete_machine(self, machine_id: str) -> None:
        machines.remove(self.world, self.machine(machine_id), None)

    # --- the one handler ---

    async def handle(self, request: Request) -> Response:
        """Answers a request. Raises ConnectionLost where a fault says so."""
        self.world.advance()
        fault = self.faults.take(request)
        if fault and fault.delay_seconds:
            await self._sleep(fault.delay_seconds)
        if fault and fault.drop == "before":
            self._saw(request, 0)
            raise ConnectionLost("before")
        if fault and fault.status is not None:
            body = fault.body or {"error": {"code": "InternalServerError", "message": "Injected by a fault."}}
            response = Response(fault.status, body, fault.headers)
        else:
            response = self._answer(request)
        self.world.advance()
        if fault and fault.drop == "after":
            self._saw(request, 0)
            raise ConnectionLost("after")
        self._saw(request, response.status)
        return self._dressed(response)

    def _saw(self, request: Request, status: int) -> None:
        self.requests.append(Seen(self.now(), request.method, request.path, status))

    def _answer(self, request: Request) -> Response:
        headers: dict[str, str] = {}
        try:
            response = self._dispatch(request, self._authenticate(request), headers)
        except Refused as refusal:
            response = refusal.response()
        return Response(response.status, response.body, {**headers, **response.headers})

    def _dressed(self, response: Response) -> Response:
        headers = {**STANDING_HEADERS, "x-msedge-ref": "Ref A: 0 Ref B: 0 Ref C: 0", "date": self._date()}
        dressed = Response(response.status, response.body, headers)
        headers["content-length"] = str(len(dressed.content))
        if dressed.content:
            headers["content-type"] = "application/json; charset=utf-8"
        headers |= response.headers
        return dressed

    def _date(self) -> str:
        return format_datetime(self.now().astimezone(UTC), usegmt=True)

    def _authenticate(self, request: Request) -> _Caller:
        """Who calls. Refuses tokens that are missing, old, forged, or meant for another service."""
        challenge = {"www-authenticate": f'Bearer authorization_uri="https://login.windows.net/{identity.TENANT_ID}"'}
        audiences = {*self.audiences, f"{request.scheme}://{request.host}"} if request.host in self.hosts else set()
        problem = "this host is not Resource Manager's"
        for audience in sorted(audiences):
            try:
                claims = identity.check_header(
                    request.headers.get("authorization"), audience, now_seconds=self.now().timestamp()
                )
            except identity.TokenRefused as error:
                problem = str(error)
            else:
                return _Caller(str(claims.get("appid", "")), str(claims.get("oid", "")))
        if not request.headers.get("authorization"):
            text = "Authentication failed. The 'Authorization' header is missing."
            raise Refused(401, "AuthenticationFailed", text, headers=challenge)
        text = f"The access token is invalid: {problem}."
        raise Refused(401, "InvalidAuthenticationToken", text, headers=challenge)

    def _dispatch(self, request: Request, caller: _Caller, headers: dict[str, str]) -> Response:
        if not request.query.get("api-version"):
            text = "The api-version query parameter (?api-version=) is required for all requests."
            raise Refused(400, "MissingApiVersionParameter", text)
        if request.path.lower().rstrip("/") == _GRAPH_PATH and request.method == "POST":
            headers |= self._graph_quota(caller.client_id)
            return self.graph.answer(request, _GraphRights(self, caller.client_id))
        route, params = _find(request)
        headers |= self._arm_quota(request.method, caller.client_id, params["subscription"])
        scope = (route.scope or route.template).format_map({**params})
        for action in _actions(route, request):
            self._authorize(action, scope, caller)
        self._check_locks(request.method, scope)
        headers |= self._compute_quota(route.policy, params)
        return route.handler(self.world, request, params)

    # --- rights and locks ---

    def permits(self, action: str, scope: str, client_id: str) -> bool:
        mine = (each for each in self.grants if each.client_id in ("", client_id))
        return any(_covers(each, action) and self._inside(scope, each.scope) for each in mine)

    def _inside(self, scope: str, outer: str) -> bool:
        """Whether a scope lies in another one; a management group holds its subscriptions."""
        group = outer.lower().partition("/managementgroups/")[2]
        if not group:
            return _within(scope, outer)
        return any(_within(scope, f"/subscriptions/{each}") for each in self.graph.management_groups.get(group, ()))

    def _authorize(self, action: str, scope: str, caller: _Caller) -> None:
        permitted = self.permits(action, scope, caller.client_id)
        self.asked[Asked(caller.client_id, action, scope)] = permitted
        if not permitted:
            text = (
                f"The client '{caller.client_id}' with object id '{caller.object_id}' does not have authorization to "
                f"perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently "
                "granted, please refresh your credentials."
            )
            raise Refused(403, "AuthorizationFailed", text)

    def _check_locks(self, method: str, scope: str) -> None:
        """ReadOnly blocks every write and action, CanNotDelete only DELETE."""
        for lock in self.locks:
            blocks = method == "DELETE" or (lock.level == "ReadOnly" and method in ("PUT", "PATCH", "POST"))
            if blocks and _within(scope, lock.scope):
                verb = "delete" if method == "DELETE" else "write"
                text = (
                    f"The scope '{scope}' cannot perform {verb} operation because following scope(s) are locked: "
                    f"'{lock.scope}'. Please remove the lock and try again."
                )
                raise Refused(409, "ScopeLocked", text)

    # --- quotas ---

    def _arm_quota(self, method: str, caller: str, subscription: str) -> dict[str, str]:
        """Resource Manager's own. The names and the capacity of the global headers are as recorded."""
        kind, rate, capacity = {
            "GET": ("reads", self.limits.arm_reads, 3750),
            "DELETE": ("deletes", self.limits.arm_deletes, 3000),
        }.get(method, ("writes", self.limits.arm_writes, 3000))
        bucket = self.quotas.bucket(rate, "arm", kind, caller, subscription.lower())
        if not bucket.has(1):
            wait = max(1, round(bucket.seconds_until(1, self.now())))
            text = f"Number of '{kind}' requests for subscription '{subscription}' exceeded the limit. Try again later."
            raise Refused(429, "SubscriptionRequestsThrottled", text, headers={"retry-after": str(wait)})
        bucket.take(1)
        headers = {f"x-ms-ratelimit-remaining-subscription-global-{kind}": str(capacity - 1)}
        if kind != "reads":
            left = _ARM_WRITES_AT_MOST - 1 if rate.maximum is None else bucket.tokens
            headers[f"x-ms-ratelimit-remaining-subscription-{kind}"] = str(left)
        return headers

    def _compute_quota(self, policy: _Policy | None, params: Params) -> dict[str, str]:
        """Compute's. The bucket names of "get", "list" and "update" are inferred; those of the others recorded."""
        region, machine = self._place(params)
        if policy is None or (machine is None and policy in ("patch", "get")):
            return {}
        limits, place = self.limits, f"{params['subscription'].lower()}/{region}"
        key = machine or (machines.machine_id(params).lower() if "name" in params else place)
        wanted, cost = {
            "patch": (
                (
                    ("VMGuestPatchOperationSubscriptionMaximum", limits.patch_subscription, place),
                    ("VMGuestPatchOperationResource", limits.patch_resource, key),
                ),
                limits.patch_cost,
            ),
            "operation": (
                (
                    ("GetOperationResource", limits.get_operation_resource, key),
                    ("GetOperationSubscriptionMaximum", limits.get_operation_subscription, place),
                ),
                1,
            ),
            "get": (
                (
                    ("LowCostGetSubscriptionMaximum", limits.get_machine_subscription, place),
                    ("LowCostGetResource", limits.get_machine_resource, key),
                ),
                1,
            ),
            "list": ((("HighCostGetSubscriptionMaximum", limits.list_subscription, place),), 1),
            "update": (
                (
                    ("UpdateVMSubscriptionMaximum", limits.update_subscription, place),
                    ("UpdateVMResource", limits.update_resource, key),
                ),
                1,
            ),
        }[policy]
        return {"x-ms-ratelimit-remaining-resource": self.quotas.take_compute(cost, *wanted)}

    def _place(self, params: Params) -> tuple[str, str | None]:
        """(region, machine id) that a request counts against: a machine re-created under its name starts anew."""
        if "operation" in params:
            operation = self.world.by_operation_id.get(params["operation"].lower())
            return params["region"].lower(), operation.vm_id if operation else None
        if "name" not in params:
            return "all", None
        machine = self.world.machines.get(machines.machine_id(params).lower())
        return (machine.region, machine.vm_id) if machine else ("all", None)

    def _graph_quota(self, caller: str) -> dict[str, str]:
        bucket = self.quotas.bucket(self.limits.graph, "graph", caller)
        wait = bucket.seconds_until(bucket.tokens + 1, self.now())
        if not bucket.has(1):
            text = "Client application has been throttled and should not attempt to repeat the request until a while."
            raise Refused(429, "RateLimiting", text, headers=quota_headers(0, wait))
        bucket.take(1)
        return quota_headers(bucket.tokens, wait)


def _find(request: Request) -> tuple[Route, dict[str, str]]:
    """The route and its parameters; 405 for a known path, 404 for any other."""
    path = request.path.rstrip("/")
    matches = [(route, found) for route in ROUTES if (found := route.pattern.fullmatch(path))]
    for route, found in matches:
        if route.method == request.method:
            return route, found.groupdict()
    if matches:
        raise Refused(405, "MethodNotAllowed", f"{request.method} is not allowed here.")
    raise Refused(404, "InvalidResourceType", f"The simulator has no resource at '{request.path}'.")


def _actions(route: Route, request: Request) -> tuple[str, ...]:
    """The rights that a request needs. That reading a machine with its instance view needs both is inferred: of two
    possible answers the one under which a role that is too small is found here, and not in Azure."""
    expands = route.action == f"{_VM}/read" and "instanceview" in request.query.get("$expand", "").lower()
    return (route.action, f"{_VM}/instanceView/read") if expands else (route.action,)


def _covers(grant: Grant, action: str) -> bool:
    return _named(action, grant.actions) and not _named(action, grant.not_actions)


def _named(action: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(action.lower(), each.lower()) for each in patterns)


def _within(scope: str, outer: str) -> bool:
    return f"{scope.rstrip('/')}/".lower().startswith(f"{outer.rstrip('/')}/".lower())


def _everything() -> Json:
    classes = {"classificationsToInclude": ["Critical", "Security"]}
    return {"rebootSetting": "IfRequired", "windowsParameters": classes, "linuxParameters": classes}


@dataclass(frozen=True)
class _GraphRights:
    """One caller's rights, as Resource Graph asks for them."""

    azure: Azure
    client_id: str

    def __call__(self, action: str, scope: str) -> bool:
        return self.azure.permits(action, scope, self.client_id)

    def counted(self, action: str, scope: str, shown: bool) -> None:
        asked = Asked(self.client_id, action, scope)
        self.azure.asked[asked] = shown or self.azure.asked.get(asked, False)
