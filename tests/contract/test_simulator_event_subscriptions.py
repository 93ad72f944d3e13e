"""System topics and event subscriptions as Resource Manager and Resource Graph show them.

Factors: which topic, whose, with which right; what the deployment declared.
"""

from __future__ import annotations

import pytest

from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Grant, SystemTopic
from simulator.resource_graph import tables
from simulator.wire import Json
from tests.contract.simulator_client import GROUP, Clock, arm, payload

KIND = "Microsoft.EventGrid/systemTopics/eventSubscriptions"
TOPIC = f"{GROUP}/providers/Microsoft.EventGrid/systemTopics/machines"
BARE = f"{TOPIC}-2"
PRINCIPAL = "00000000-0000-0000-0000-00000000000b"
OPERATIONS = payload("azure_operations.json")["Microsoft.EventGrid"]["actions"]
TYPES = [each["value"] for each in payload("event_grid_delivery.json")["endpoint_types"]]
QUERY = {"api-version": "2022-06-15"}


def to_queue(account: str) -> Json:
    place = {"endpointType": "StorageQueue", "properties": {"resourceId": account, "queueName": "machine-events"}}
    return {"deliveryWithResourceIdentity": {"identity": {"type": "SystemAssigned"}, "destination": place}}


def to_function(site: str) -> Json:
    return {"destination": {"endpointType": "AzureFunction", "properties": {"resourceId": f"{site}/functions/x"}}}


SUBSCRIPTIONS = {
    f"{TOPIC}/eventSubscriptions/a": to_queue("/s/account"),
    f"{BARE}/eventSubscriptions/b": to_function("/s"),
}


def deployed() -> Azure:
    azure = Azure(Clock())
    azure.create_group(GROUP)
    source = f"/subscriptions/{SUBSCRIPTION}"
    azure.world.system_topics = [SystemTopic(TOPIC, source, PRINCIPAL), SystemTopic(BARE, source, "")]
    azure.world.event_subscriptions = dict(SUBSCRIPTIONS)
    return azure


@pytest.mark.parametrize("id_", SUBSCRIPTIONS)
async def test_a_topic_lists_its_own_event_subscriptions_as_declared(id_: str) -> None:
    declared = SUBSCRIPTIONS[id_]
    topic = id_.partition("/eventSubscriptions/")[0]
    async with arm(deployed()) as client:
        answer = await client.call("GET", f"{topic}/eventSubscriptions", query=QUERY)
        upper = await client.call("GET", f"{topic.upper()}/eventSubscriptions", query=QUERY)
    (found,) = answer.json()["value"]
    assert (found["id"], found["type"]) == (id_, KIND)
    assert found["properties"] == {"topic": topic, "provisioningState": "Succeeded", **declared}
    assert [each["id"] for each in upper.json()["value"]] == [id_], "ids are compared without their letter case"
    place = declared.get("destination") or declared["deliveryWithResourceIdentity"]["destination"]
    assert place["endpointType"] in TYPES


async def test_what_is_not_there_and_what_is_not_allowed_is_refused() -> None:
    action = f"{KIND}/read"
    assert action in OPERATIONS
    azure = deployed()
    async with arm(azure) as client:
        missing = await client.call("GET", f"{TOPIC}-9/eventSubscriptions", query=QUERY)
        azure.grants = [Grant(actions=("*",), not_actions=(action,))]
        refused = await client.call("GET", f"{TOPIC}/eventSubscriptions", query=QUERY)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceNotFound")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "AuthorizationFailed")


ASKED = """resources
| where type =~ 'microsoft.eventgrid/systemtopics'
| project id, topicType = tostring(properties.topicType), source = tostring(properties.source),
    principal = tostring(identity.principalId)
| order by id asc"""

# the caller's grant → the topics that it sees, each with its identity
SEEN: dict[str, tuple[Grant, list[tuple[str, str]]]] = {
    "a reader": (Grant(actions=("*/read",)), [(TOPIC, PRINCIPAL), (BARE, "")]),
    "a reader of their group": (Grant(GROUP, actions=("*/read",)), [(TOPIC, PRINCIPAL), (BARE, "")]),
    "the app": (Grant(actions=("Microsoft.Compute/virtualMachines/read",)), []),
}


@pytest.mark.parametrize(("grant", "expected"), SEEN.values(), ids=SEEN)
async def test_resource_graph_shows_the_topics_that_the_caller_may_read(
    grant: Grant, expected: list[tuple[str, str]]
) -> None:
    assert tables.TOPIC_READ in OPERATIONS
    azure = deployed()
    azure.grants = [grant]
    body = {"subscriptions": [SUBSCRIPTION], "query": ASKED, "options": {"resultFormat": "objectArray"}}
    async with arm(azure) as client:
        path, query = "/providers/Microsoft.ResourceGraph/resources", {"api-version": "2022-10-01"}
        rows = (await client.call("POST", path, body, query=query)).json()["data"]
    assert [(each["id"], each["principal"]) for each in rows] == expected
    assert {(each["topicType"], each["source"]) for each in rows} <= {
        ("Microsoft.Resources.Subscriptions", f"/subscriptions/{SUBSCRIPTION}")
    }
    assert not [each for each in azure.permission_checks if each.action == tables.TOPIC_READ], "the app reads none"
