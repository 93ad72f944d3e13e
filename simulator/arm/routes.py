"""Every route of Resource Manager, on one page: the permission it needs, the quota it counts against, its handler."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from simulator.arm import (
    alerts,
    configurations,
    event_subscriptions,
    groups,
    hybrid,
    machines,
    moves,
    operations,
    scale_sets,
    schedules,
)
from simulator.arm.throttling import Policy
from simulator.wire import Refused, Request, Response
from simulator.world import World

Params = Mapping[str, str]
Handler = Callable[[World, Request, Params], Response]

_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_COMPUTE = "providers/Microsoft.Compute"
_MACHINE = f"{_GROUP}/{_COMPUTE}/virtualMachines/{{name}}"
_OPERATION = f"{_SUBSCRIPTION}/{_COMPUTE}/locations/{{region}}/operations/{{operation}}"
_VM = "Microsoft.Compute/virtualMachines"
_CONFIGURATION = f"{_GROUP}/providers/{configurations.KIND}/{{name}}"
_SCALE_SET = f"{_GROUP}/providers/{scale_sets.KIND}/{{name}}"
_LOCATIONS = "Microsoft.Compute/locations"
_HYBRID = "Microsoft.HybridCompute/machines"
_HYBRID_MACHINE = f"{_GROUP}/providers/{_HYBRID}/{{name}}"
_HYBRID_RESULT = "Microsoft.HybridCompute/locations/updateCenterOperationResults"
_TOPIC = f"{_GROUP}/providers/{event_subscriptions.TOPICS}/{{name}}"
_GROUPS = "Microsoft.Resources/subscriptions/resourceGroups"


@dataclass(frozen=True)
class Route:
    """One route. `scope` is the template of the scope at which the action is checked; empty: the route's own."""

    method: str
    template: str
    action: str
    handler: Handler
    policy: Policy | None = None  # None: Compute does not count it
    scope: str = ""
    options: tuple[str, ...] = ()  # the query options that it has beside the api-version

    def __post_init__(self) -> None:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.template)
        object.__setattr__(self, "pattern", re.compile(pattern, re.IGNORECASE))

    pattern: re.Pattern[str] = re.compile("")

    def scope_of(self, params: Params) -> str:
        return (self.scope or self.template).format_map({**params})

    def actions_of(self, request: Request) -> tuple[str, ...]:
        """The actions that a request needs.

        That reading a machine with its instance view needs both is inferred. Of two possible answers this is the one
        under which a role that is too small is found here, and not in Azure.
        """
        if self.action != f"{_VM}/read":
            return (self.action,)
        asked = {name.lower(): value.lower() for name, value in request.query.items()}
        viewed = asked.get("$expand") == "instanceview" or asked.get("statusonly") == "true"
        return (self.action, f"{_VM}/instanceView/read") if viewed else (self.action,)


def _action(name: str, handler: Handler, policy: Policy, *options: str) -> Route:
    return Route("POST", f"{_MACHINE}/{name}", f"{_VM}/{name}/action", handler, policy, _MACHINE, options)


def _list(scope: str, path: str, *options: str) -> Route:
    return Route("GET", f"{scope}/{path}", f"{_VM}/read", machines.list_all, "list", scope, options)


ROUTES: tuple[Route, ...] = (
    Route("GET", _SUBSCRIPTION, "Microsoft.Resources/subscriptions/read", groups.get_subscription),
    Route(
        "GET", f"{_SUBSCRIPTION}/resourceGroups", f"{_GROUPS}/read", groups.list_all, None, _SUBSCRIPTION, ("$filter",)
    ),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/operationresults/{{job}}",
        "Microsoft.Resources/subscriptions/operationresults/read",
        groups.deletion,
        scope=_SUBSCRIPTION,
    ),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/providers/{{namespace}}",
        "Microsoft.Resources/subscriptions/providers/read",
        groups.get_provider,
        scope=_SUBSCRIPTION,
        options=("$expand",),
    ),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/providers/Microsoft.Features/providers/{{namespace}}/features",
        "Microsoft.Features/providers/features/read",
        groups.list_features,
        scope=_SUBSCRIPTION,
    ),
    Route("GET", f"{_GROUP}/providers/{alerts.RULES}", f"{alerts.RULES}/read", alerts.list_rules, scope=_GROUP),
    Route("GET", f"{_GROUP}/providers/{alerts.GROUPS}/{{name}}", f"{alerts.GROUPS}/read", alerts.get_group),
    Route(
        "GET",
        f"{_TOPIC}/eventSubscriptions",
        f"{event_subscriptions.KIND}/read",
        event_subscriptions.list_all,
        scope=_TOPIC,
    ),
    Route("POST", f"{_GROUP}/moveResources", moves.ACTION, moves.post, scope=_GROUP),
    Route("HEAD", _GROUP, f"{_GROUPS}/read", groups.head),
    Route("PUT", _GROUP, f"{_GROUPS}/write", groups.put),
    Route("GET", _GROUP, f"{_GROUPS}/read", groups.get),
    Route("PATCH", _GROUP, f"{_GROUPS}/write", groups.patch),
    Route("DELETE", _GROUP, f"{_GROUPS}/delete", groups.delete),
    Route("PUT", _MACHINE, f"{_VM}/write", machines.put, "update"),
    Route("GET", _MACHINE, f"{_VM}/read", machines.get, "get", options=("$expand",)),
    Route("PATCH", _MACHINE, f"{_VM}/write", machines.patch, "update"),
    Route("DELETE", _MACHINE, f"{_VM}/delete", machines.delete, "update", options=("forceDeletion",)),
    Route("GET", f"{_MACHINE}/instanceView", f"{_VM}/instanceView/read", machines.get_view, "get", _MACHINE),
    _action("start", machines.action_of("start"), "update"),
    _action("deallocate", machines.action_of("deallocate"), "update", "hibernate"),
    _action("powerOff", machines.action_of("powerOff"), "update", "skipShutdown"),
    _action("restart", machines.action_of("restart"), "update"),
    _action("redeploy", machines.action_of("redeploy"), "update"),
    _action("reimage", machines.action_of("reimage"), "update", "tempDisk"),
    _action("reapply", machines.action_of("reapply"), "update"),
    _action("assessPatches", machines.patch_action_of("assess"), "patch"),
    _action("installPatches", machines.patch_action_of("install"), "patch"),
    _action("cancelPatchInstallation", machines.cancel_installation, "patch"),
    _list(_SUBSCRIPTION, f"{_COMPUTE}/virtualMachines", "statusOnly", "$filter", "$expand"),
    _list(_SUBSCRIPTION, f"{_COMPUTE}/locations/{{region}}/virtualMachines"),
    _list(_GROUP, f"{_COMPUTE}/virtualMachines", "$filter", "$expand"),
    Route(
        "GET",
        _OPERATION,
        f"{_LOCATIONS}/operations/read",
        operations.poll,
        "operation",
        _SUBSCRIPTION,
        options=("monitor", *operations.SIGNED),
    ),
    Route("PUT", _HYBRID_MACHINE, f"{_HYBRID}/write", hybrid.put),
    Route("GET", _HYBRID_MACHINE, f"{_HYBRID}/read", hybrid.get),
    Route("DELETE", _HYBRID_MACHINE, f"{_HYBRID}/delete", hybrid.delete),
    Route(
        "POST",
        f"{_HYBRID_MACHINE}/assessPatches",
        f"{_HYBRID}/assessPatches/action",
        hybrid.action_of("assess"),
        scope=_HYBRID_MACHINE,
    ),
    Route(
        "POST",
        f"{_HYBRID_MACHINE}/installPatches",
        f"{_HYBRID}/installPatches/action",
        hybrid.action_of("install"),
        scope=_HYBRID_MACHINE,
    ),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/providers/Microsoft.HybridCompute/locations/{{region}}/updateCenterOperationResults/{{job}}",
        f"{_HYBRID_RESULT}/read",
        hybrid.result_of,
        scope=_SUBSCRIPTION,
    ),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/providers/{schedules.KIND}",
        f"{schedules.KIND}/read",
        schedules.list_all,
        scope=_SUBSCRIPTION,
    ),
    Route("PUT", _SCALE_SET, f"{scale_sets.KIND}/write", scale_sets.SETS.put),
    Route("GET", _SCALE_SET, f"{scale_sets.KIND}/read", scale_sets.SETS.get),
    Route("DELETE", _SCALE_SET, f"{scale_sets.KIND}/delete", scale_sets.SETS.delete),
    Route("PUT", _CONFIGURATION, f"{configurations.KIND}/write", configurations.CONFIGURATIONS.put),
    Route("GET", _CONFIGURATION, f"{configurations.KIND}/read", configurations.CONFIGURATIONS.get),
    Route("DELETE", _CONFIGURATION, f"{configurations.KIND}/delete", configurations.CONFIGURATIONS.delete),
    Route(
        "GET",
        f"{_SUBSCRIPTION}/providers/{configurations.KIND}",
        f"{configurations.KIND}/read",
        configurations.list_all,
        scope=_SUBSCRIPTION,
    ),
)

# By how many segments their paths have: a request is held against a few patterns, and not against all.
_BY_LENGTH = {
    length: [route for route in ROUTES if route.template.count("/") == length]
    for length in {route.template.count("/") for route in ROUTES}
}


@lru_cache(maxsize=4096)  # the same machines are asked for again and again
def _at(path: str) -> tuple[tuple[Route, re.Match[str]], ...]:
    """The routes of a path, whatever the method, and how each matches."""
    as_long = _BY_LENGTH.get(path.count("/"), ())
    return tuple((route, found) for route in as_long if (found := route.pattern.fullmatch(path)))


def find(request: Request) -> tuple[Route, dict[str, str]]:
    """The route and its parameters. Raises Refused: 405 for a known path, 404 for any other."""
    matches = _at(request.path.rstrip("/"))
    for route, found in matches:
        if route.method == request.method:
            return route, found.groupdict()
    if matches:
        raise Refused(405, "MethodNotAllowed", f"{request.method} is not allowed here.")
    raise Refused(404, "InvalidResourceType", f"The simulator has no resource at '{request.path}'.")
