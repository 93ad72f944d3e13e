"""Role definitions and their assignments: what a principal may do, and where.

Actions are rights at Resource Manager, data actions rights at storage and Application Insights. Both are limited to
the scope of the assignment. Left out: conditions, deny assignments, groups, and nested management groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from simulator.arm.authorization import is_within
from simulator.behaviour import Grant
from simulator.deployment.errors import DeploymentError, refused
from simulator.wire import Json

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers"
_MESSAGES = "Microsoft.Storage/storageAccounts/queueServices/queues/messages"
_ENTITIES = "Microsoft.Storage/storageAccounts/tableServices/tables/entities"

READ_BLOB, WRITE_BLOB = f"{_BLOBS}/blobs/read", f"{_BLOBS}/blobs/write"
READ_MESSAGE, WRITE_MESSAGE, DELETE_MESSAGE = (f"{_MESSAGES}/{each}" for each in ("read", "write", "delete"))
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


# The built-in roles that a deployment of this app may use, with their data actions (Azure's list of built-in roles).
# Their actions at Resource Manager are left out: the app needs none of them, and granting them would hide a gap.
BUILT_IN: Mapping[str, Role] = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": Role("Storage Blob Data Owner", data_actions=(f"{_BLOBS}/blobs/*",)),
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": Role(
        "Storage Blob Data Contributor",
        data_actions=tuple(
            f"{_BLOBS}/blobs/{each}" for each in ("read", "write", "delete", "move/action", "add/action")
        ),
    ),
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": Role(
        "Storage Queue Data Contributor",
        data_actions=tuple(f"{_MESSAGES}/{each}" for each in ("read", "write", "delete", "process/action")),
    ),
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": Role(
        "Storage Queue Data Message Sender", data_actions=(f"{_MESSAGES}/add/action",)
    ),
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": Role(
        "Storage Table Data Contributor",
        data_actions=tuple(
            f"{_ENTITIES}/{each}" for each in ("read", "write", "delete", "add/action", "update/action")
        ),
    ),
    "3913510d-42f4-4e42-8a64-420c390055eb": Role(
        "Monitoring Metrics Publisher", data_actions=("Microsoft.Insights/Metrics/Write", WRITE_TELEMETRY)
    ),
}


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
    """The rights at Resource Manager. `clients`: client id by object id."""
    for each in assignments:
        if each.principal_id in clients and each.role.actions:
            yield Grant(each.scope or "/", each.role.actions, each.role.not_actions, clients[each.principal_id])


def allowing(assignments: Sequence[Assignment], principal_id: str, action: str, scope: str) -> list[Assignment]:
    """The assignments that allow this data action. If there are none, it is refused."""
    return [
        each
        for each in assignments
        if each.principal_id == principal_id.lower() and each.role.allows_data(action) and is_within(scope, each.scope)
    ]
