"""Microsoft.EventGrid: the event subscriptions of a deployed system topic, to be read.

They are what the deployment says, once their endpoint was found; event_grid/ delivers by them. Resource Graph lists the
topics. Shapes: learn.microsoft.com, System Topic Event Subscriptions - List By System Topic (2022-06-15).
Left out: everything else of Microsoft.EventGrid, and writes.
"""

from __future__ import annotations

from collections.abc import Mapping

from simulator.wire import Json, Refused, Request, Response
from simulator.world import World

TOPICS = "Microsoft.EventGrid/systemTopics"
KIND = f"{TOPICS}/eventSubscriptions"


def has_group(world: World, params: Mapping[str, str]) -> bool:
    """Whether the deployment put a topic into this resource group."""
    group = f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}/"
    return any(each.id.lower().startswith(group.lower()) for each in world.system_topics)


def list_all(world: World, request: Request, params: Mapping[str, str]) -> Response:
    """The event subscriptions of one topic."""
    group = f"/subscriptions/{params['subscription']}/resourceGroups/{params['group']}"
    topic = f"{group}/providers/{TOPICS}/{params['name']}"
    if not any(each.id.lower() == topic.lower() for each in world.system_topics):
        text = f"The Resource '{TOPICS}/{params['name']}' under resource group '{params['group']}' was not found."
        raise Refused(404, "ResourceNotFound", text)
    inside = f"{topic}/eventSubscriptions/".lower()
    found = [(id_, each) for id_, each in world.event_subscriptions.items() if id_.lower().startswith(inside)]
    return Response(200, {"value": [_document(topic, id_, each) for id_, each in found]})


def _document(topic: str, id_: str, declared: Json) -> Json:
    """A subscription whose endpoint did not answer never comes about here, so each one has succeeded."""
    properties = {"topic": topic, "provisioningState": "Succeeded", **declared}
    return {"id": id_, "name": id_.rpartition("/")[2], "type": KIND, "properties": properties}
