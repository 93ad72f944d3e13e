"""What Flex Consumption refuses of a site: properties and app settings that belong to other plans.

Some regions are laxer than others. The simulator is as strict as the strictest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from simulator.deployment.errors import refused
from simulator.wire import Json

_RULES = Path(__file__).parents[2] / "tests" / "recordings" / "flex_consumption.json"


@cache
def _forbidden(what: str) -> Mapping[str, str]:
    """Name and replacement of what is forbidden."""
    rules = json.loads(_RULES.read_text(encoding="utf-8"))
    return {each["name"]: each["replacement"] for each in rules[what]}


def require_setting(site: str, name: str) -> None:
    """Raises DeploymentError for an app setting that Flex Consumption refuses."""
    if name in _forbidden("app_settings_forbidden"):
        instead = _forbidden("app_settings_forbidden")[name]
        raise refused(site, "BadRequest", f"{name} is not valid for Flex Consumption sites; instead: {instead}")


def require_properties(site: Json) -> None:
    """Raises DeploymentError for a property of the site that Flex Consumption refuses (extended code 51021)."""
    for path in _forbidden("site_properties_forbidden"):
        value = site["properties"]
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            name = "Site." + ".".join(part[:1].upper() + part[1:] for part in path.split("."))
            why = f"The following site configuration property ({name}) for Flex Consumption sites is invalid"
            raise refused(site["name"], "BadRequest", why)
