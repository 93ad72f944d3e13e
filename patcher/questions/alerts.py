"""Whether the alerts of the app's resource group have a recipient."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from functions.cloud.errors import Gone
from functions.model.text import Json
from patcher.connection import App
from patcher.questions.check import Check

RULES, GROUPS = "2022-06-15", "2023-01-01"
EXAMPLES = 3
_REMEDY = "Set alertEmail or actionGroupIds and deploy again (docs/deploy.md)."


async def checks(app: App) -> AsyncIterator[Check]:
    """The log alerts beside the function app, and the action groups that they name."""
    path = f"{app.group}/providers/Microsoft.Insights/scheduledQueryRules"
    rules = [each async for each in app.arm.listed(path, RULES)]
    if not rules:
        yield Check("alerts", "note", "the app's resource group has no alert rule", "Deploy them (docs/deploy.md).")
        return
    off = [each for each in rules if _properties(each).get("enabled") is False]
    if off:
        yield Check("alerts", "note", f"{len(off)} of {len(rules)} are switched off: {_names(off)}", "Switch them on.")
    silent = [each for each in rules if not _groups(each)]
    if silent:
        yield Check("alerts", "bad", f"{len(silent)} of {len(rules)} have no recipient: {_names(silent)}", _REMEDY)
    used = sorted({group.lower() for each in rules for group in _groups(each)})
    for group in used:
        yield await _group(app, group)


def _properties(resource: Json) -> Json:
    found = resource.get("properties")
    return found if isinstance(found, Mapping) else {}


def _groups(rule: Json) -> list[str]:
    actions = _properties(rule).get("actions")
    groups = actions.get("actionGroups") if isinstance(actions, Mapping) else None
    return [str(each) for each in groups or []]


def _names(resources: Iterable[Json]) -> str:
    names = sorted(str(each.get("name")) for each in resources)
    return f"{', '.join(names[:EXAMPLES])}{', …' if len(names) > EXAMPLES else ''}"


async def _group(app: App, group: str) -> Check:
    """Whether an action group has a receiver. Raises CloudError."""
    name = group.rsplit("/", 1)[-1]
    try:
        properties = _properties(await app.arm.get(group, GROUPS))
    except Gone:
        return Check("alert mail", "bad", f"action group {name} does not exist", _REMEDY)
    receivers = [each for kind, items in properties.items() if kind.endswith("Receivers") for each in _each(items)]
    # A person who unsubscribed is Disabled (REST reference of action groups, ReceiverStatus).
    reached = [each for each in receivers if each.get("status") != "Disabled"]
    if properties.get("enabled") is False:
        return Check("alert mail", "bad", f"action group {name} is switched off", "Enable it.")
    if not reached:
        return Check(
            "alert mail", "bad", f"action group {name} has no active receiver", "Add a receiver to it, or renew one."
        )
    return Check("alert mail", "ok", f"action group {name} has {len(reached)} receivers")


def _each(items: Any) -> list[Json]:
    return [each for each in items if isinstance(each, Mapping)] if isinstance(items, list) else []
