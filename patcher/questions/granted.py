"""What an identity was allowed by its role assignments, as Resource Manager lists them."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal

from functions.model.text import Json
from patcher.connection import App

AUTHORIZATION = "2022-04-01"


async def granted_to(app: App, principal: str, scope: str) -> list[Json]:
    """The permissions of an identity, by its object id, that hold at the scope. Raises CloudError."""
    path = f"{scope}/providers/Microsoft.Authorization/roleAssignments"
    granted: list[Json] = []
    async for each in app.arm.listed(path, AUTHORIZATION, **{"$filter": f"assignedTo('{principal}')"}):
        properties = each.get("properties")
        if isinstance(properties, Mapping) and _covers(str(properties.get("scope")), scope):
            role = await app.arm.get(str(properties.get("roleDefinitionId")), AUTHORIZATION)
            granted += _permissions(role)
    return granted


def allows(permission: Json, action: str, kind: Literal["actions", "dataActions"] = "actions") -> bool:
    """Azure's rule: an action of the list, and none of the exceptions; `*` stands for any characters."""

    def names(which: str) -> bool:
        patterns = permission.get(which)
        return any(fnmatchcase(action.lower(), str(each).lower()) for each in patterns or [])

    return names(kind) and not names(f"not{kind[0].upper()}{kind[1:]}")


def _covers(scope: str, inner: str) -> bool:
    """Whether a role assigned there holds at the inner scope. One that is inherited comes from a management group."""
    inherited = scope == "/" or scope.lower().startswith("/providers/microsoft.management/managementgroups/")
    return inherited or f"{inner}/".lower().startswith(f"{scope.rstrip('/')}/".lower())


def _permissions(role: Json) -> list[Json]:
    properties = role.get("properties")
    permissions = properties.get("permissions") if isinstance(properties, Mapping) else None
    return [each for each in permissions or [] if isinstance(each, Mapping)]
