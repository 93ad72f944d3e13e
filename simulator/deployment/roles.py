"""Role definitions and their assignments: what a principal may do, and where.

Actions are rights at Resource Manager, data actions rights at storage and Application Insights. Both are limited to
the scope of the assignment. Left out: conditions, deny assignments, groups, and nested management groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from simulator.arm.authorization import is_within
from simulator.behaviour import Grant
from simulator.deployment import operations
from simulator.deployment.errors import DeploymentError, refused
from simulator.wire import Json

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers"
_MESSAGES = "Microsoft.Storage/storageAccounts/queueServices/queues/messages"
_ENTITIES = "Microsoft.Storage/storageAccounts/tableServices/tables/entities"

READ_BLOB, WRITE_BLOB = f"{_BLOBS}/blobs/read", f"{_BLOBS}/blobs/write"
READ_MESSAGE, WRITE_MESSAGE, DELETE_MESSAGE = (f"{_MESSAGES}/{each}" for each in ("read", "write", "delete"))
ADD_MESSAGE = f"{_MESSAGES}/add/action"
READ_ENTITY, WRITE_ENTITY, DELETE_ENTITY = (f"{_ENTITIES}/{each}" for each in ("read", "write", "delete"))
WRITE_TELEMETRY = "Microsoft.Insights/Telemetry/Write"

_ASSIGNMENT = "/providers/Microsoft.Authorization/roleAssignments/"


@dataclass(frozen=True)
class Role:
    """A role definition."""

    name: str
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    custom: bool = False

    def allows_data(self, action: str) -> bool:
        return any(fnmatchcase(action.lower(), each.lower()) for each in self.data_actions)


def _built_in() -> Mapping[str, Role]:
    """The built-in roles that hold rights for data, by id, as Azure returned them.

    Their actions at Resource Manager are left out: the app needs none of them, and granting them would hide a gap.
    """
    known = json.loads((Path(__file__).parents[2] / "tests/recordings/built_in_roles.json").read_text(encoding="utf-8"))
    return {
        each["id"]: Role(each["name"], data_actions=tuple(each["dataActions"]))
        for each in known["roles"]
        if each["dataActions"]
    }


BUILT_IN = _built_in()


@dataclass(frozen=True)
class Assignment:
    """One role for one principal at one scope."""

    role: Role
    principal_id: str
    scope: str

    def __str__(self) -> str:
        return f"{self.role.name} at {self.scope or '/'}"


def read_assignments(resources: Sequence[Json], principals: Mapping[str, str]) -> tuple[Assignment, ...]:
    """The assignments, checked as Azure checks them. `principals`: resource id by object id."""
    roles = {each["name"].lower(): each for each in resources if each["type"].endswith("/roleDefinitions")}
    for each in roles.values():
        _check_actions(each)
    found: list[Assignment] = []
    for resource in resources:
        if resource["type"].endswith("/roleAssignments"):
            found.append(_assignment(resource, roles, principals))
            if found[-1] in found[:-1]:
                raise refused(resource["name"], "RoleAssignmentExists", f"{found[-1]} already exists")
    return tuple(found)


def _assignment(resource: Json, roles: Mapping[str, Json], principals: Mapping[str, str]) -> Assignment:
    properties, scope = resource["properties"], resource["id"].rpartition(_ASSIGNMENT)[0]
    guid, principal_id = properties["roleDefinitionId"].rpartition("/")[2].lower(), properties["principalId"].lower()
    if properties.get("principalType", "ServicePrincipal") != "ServicePrincipal":
        raise DeploymentError(f"{resource['name']}: the simulator assigns roles to identities of the deployment only")
    if principal_id not in principals:
        why = f"no identity of the deployment has the object id {principal_id}"
        raise refused(resource["name"], "PrincipalNotFound", why)
    if guid in BUILT_IN:
        return Assignment(BUILT_IN[guid], principal_id, scope)
    if guid not in roles:
        raise refused(resource["name"], "RoleDefinitionDoesNotExist", f"no role has the id {guid}")
    scopes = roles[guid]["properties"]["assignableScopes"]
    if not any(is_within(scope, each) for each in scopes):
        raise refused(resource["name"], "InvalidRoleAssignment", f"{scope} is not among its role's {scopes}")
    return Assignment(_role(roles[guid]), principal_id, scope)


def _check_actions(role: Json) -> None:
    for permission in role["properties"]["permissions"]:
        for each in (*permission.get("actions", ()), *permission.get("notActions", ())):
            operations.require(role["name"], each, "actions")
        for each in (*permission.get("dataActions", ()), *permission.get("notDataActions", ())):
            operations.require(role["name"], each, "dataActions")


def _role(resource: Json) -> Role:
    properties = resource["properties"]
    permissions = properties["permissions"]
    if properties.get("type") != "CustomRole" or len(permissions) != 1:
        raise DeploymentError(f"{resource['name']}: one permission of a CustomRole is expected")
    (permission,) = permissions
    if permission.get("notDataActions"):
        raise DeploymentError(f"{resource['name']}: the simulator does not know notDataActions")
    return Role(
        properties["roleName"],
        tuple(permission.get("actions", ())),
        tuple(permission.get("notActions", ())),
        tuple(permission.get("dataActions", ())),
        custom=True,
    )


def grants(assignments: Sequence[Assignment], clients: Mapping[str, str]) -> Iterator[Grant]:
    """The rights as Resource Manager knows them. `clients`: client id by object id."""
    for each in assignments:
        if each.principal_id in clients:
            role, client = each.role, clients[each.principal_id]
            yield Grant(each.scope or "/", role.actions, role.not_actions, client, role.data_actions)


class Use(NamedTuple):
    """A principal's use of a data action at a scope."""

    principal_id: str
    action: str
    scope: str


def allowing(assignments: Sequence[Assignment], use: Use) -> list[Assignment]:
    """The assignments that allow this use. If there are none, it is refused."""
    return [
        each
        for each in assignments
        if each.principal_id == use.principal_id.lower()
        and each.role.allows_data(use.action)
        and is_within(use.scope, each.scope)
    ]
