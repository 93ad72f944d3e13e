"""Role assignments as Resource Manager lists them, and the role of each.

Factors: where the role was assigned, to whom, what is asked for, and by whom.
"""

from __future__ import annotations

import pytest

from simulator import identity
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Grant
from simulator.wire import Json
from tests.contract.simulator_client import Clock, arm, payload

SCOPE = f"/subscriptions/{SUBSCRIPTION}"
ASSIGNMENTS = f"{SCOPE}/providers/Microsoft.Authorization/roleAssignments"
APP = "00000000-0000-0000-0000-00000000000a"
OBJECT = "00000000-0000-0000-0000-00000000000b"
VERSION = "2022-04-01"
OPERATOR = Grant(client_id=identity.CLIENT_ID)


def azure_with(*grants: Grant) -> Azure:
    azure = Azure(Clock())
    azure.grants, azure.principals = list(grants), {APP: OBJECT}
    return azure


async def assigned(azure: Azure, path: str) -> list[tuple[str, Json]]:
    """What a list has of the principal: where each role is assigned, and the one permission of the role."""
    query = {"$filter": f"assignedTo('{OBJECT}')", "api-version": VERSION}
    found = []
    async with arm(azure) as client:
        for each in (await client.call("GET", path, query=query)).json()["value"]:
            properties = each["properties"]
            role = await client.call("GET", properties["roleDefinitionId"], query={"api-version": VERSION})
            (permission,) = role.json()["properties"]["permissions"]
            found.append((properties["scope"], permission))
    return found


# where the role is assigned → whether the list of the subscription has it
PLACES = {
    "in the subscription": (SCOPE, True),
    "in a management group": ("/providers/Microsoft.Management/managementGroups/corp", True),
    "in a group of it": (f"{SCOPE}/resourceGroups/rg-prod", True),
    "elsewhere": ("/subscriptions/00000000-0000-0000-0000-000000000002", False),
}


@pytest.mark.parametrize(("scope", "listed"), PLACES.values(), ids=PLACES)
async def test_the_assignments_of_a_principal(scope: str, listed: bool) -> None:
    azure = azure_with(OPERATOR, Grant(scope, ("a/read",), ("a/b/read",), APP))
    found = await assigned(azure, ASSIGNMENTS)
    assert [at for at, _ in found] == [scope] * listed
    for _, permission in found:
        assert (permission["actions"], permission["notActions"]) == (["a/read"], ["a/b/read"])


# where the role is assigned → whether the list of the queue has it
QUEUE = f"{SCOPE}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/s/queueServices/default/queues/q"
AT_QUEUE = {
    "at the queue": (QUEUE, True),
    "above it": (QUEUE.partition("/queueServices/")[0], True),
    "at another queue": (f"{QUEUE}-2", False),
}


@pytest.mark.parametrize(("scope", "listed"), AT_QUEUE.values(), ids=AT_QUEUE)
async def test_a_role_for_data_at_one_queue(scope: str, listed: bool) -> None:
    add = "Microsoft.Storage/storageAccounts/queueServices/queues/messages/add/action"
    assert add in payload("azure_operations.json")["Microsoft.Storage"]["dataActions"]
    azure = azure_with(OPERATOR, Grant(scope, (), (), APP, (add,)))
    path = f"{QUEUE}/providers/Microsoft.Authorization/roleAssignments"
    found = await assigned(azure, path)
    assert [at for at, _ in found] == [scope] * listed
    for _, permission in found:
        assert (permission["actions"], permission["dataActions"]) == ([], [add])


# path, filter, caller's grants → status, code
REFUSED = {
    "without a filter": (ASSIGNMENTS, None, OPERATOR, 400, "BadRequest"),
    "a filter that is not simulated": (ASSIGNMENTS, "atScope()", OPERATOR, 400, "BadRequest"),
    "without the right": (ASSIGNMENTS, f"assignedTo('{OBJECT}')", Grant(actions=()), 403, "AuthorizationFailed"),
    "a role that is not there": (
        f"/providers/Microsoft.Authorization/roleDefinitions/{OBJECT}",
        None,
        OPERATOR,
        404,
        "RoleDefinitionDoesNotExist",
    ),
}


@pytest.mark.parametrize(("path", "condition", "grant", "status", "code"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused(path: str, condition: str | None, grant: Grant, status: int, code: str) -> None:
    query = {"api-version": VERSION, **({"$filter": condition} if condition else {})}
    async with arm(azure_with(grant)) as client:
        answer = await client.call("GET", path, query=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
