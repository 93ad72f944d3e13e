"""Microsoft.Insights: the log alerts and action groups of a deployment, to be read.

They are what the deployment says, and they fire nothing. Left out: everything else of Microsoft.Insights, and writes.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.wire import Json, Refused, Request, Response
from simulator.world import World

RULES, GROUPS = "Microsoft.Insights/scheduledQueryRules", "Microsoft.Insights/actionGroups"


def has_group(world: World, params: Mapping[str, str]) -> bool:
    """Whether the deployment put an alert into this resource group."""
    return any(each.startswith(f"{_group(params)}/".lower()) for each in world.alerts)


def list_rules(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Scheduled Query Rules - List By Resource Group."""
    inside = f"{_group(params)}/providers/{RULES}/".lower()
    return Response(200, {"value": [_shown(each) for id_, each in world.alerts.items() if id_.startswith(inside)]})


def get_group(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """Action Groups - Get."""
    path = f"{_group(params)}/providers/{GROUPS}/{params['name']}"
    found = world.alerts.get(path.lower())
    if found is None:
        text = f"The Resource '{GROUPS}/{params['name']}' under resource group '{params['group']}' was not found."
        raise Refused(404, "ResourceNotFound", text)
    return Response(200, _shown(found))


def _group(params: Mapping[str, str]) -> str:
    return f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"


def _shown(resource: Json) -> Json:
    names = ("id", "name", "type", "location", "tags", "kind", "properties")
    return {name: resource[name] for name in names if name in resource}
