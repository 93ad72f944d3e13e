"""System topics and event subscriptions: which events go to which function, how often, and where dead letters go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from simulator.deployment.errors import DeploymentError, refused
from simulator.event_grid.subscriptions import Filter, Operator, Schema
from simulator.wire import Json

_TOPIC = "Microsoft.EventGrid/systemTopics"
_SUBSCRIPTION = f"{_TOPIC}/eventSubscriptions"
_FUNCTION = re.compile(r"(?P<site>/subscriptions/.+/Microsoft\.Web/sites/[^/]+)/functions/(?P<name>[^/]+)", re.I)
# The one kind of topic whose events the simulator has; a subscription's source is the subscription itself.
_TOPIC_TYPE = "microsoft.resources.subscriptions"
_SOURCE = re.compile(r"/subscriptions/[0-9a-f-]{36}", re.I)
_WEEK_SECONDS = 7 * 24 * 3600  # a message's life where none is given
_MAX_FILTERS = _MAX_VALUES = 25


@dataclass(frozen=True)
class Topic:
    """A system topic: the subscription whose events it carries, and whether it has an identity."""

    id: str
    source: str
    has_identity: bool


@dataclass(frozen=True)
class DeadLetter:
    """The container for events that could not be delivered."""

    account_id: str
    container: str


@dataclass(frozen=True)
class Function:
    """A function as destination."""

    site_id: str
    name: str


@dataclass(frozen=True)
class Queue:
    """A storage queue as destination, which the topic's own identity writes to."""

    account_id: str
    name: str
    ttl_seconds: int


@dataclass(frozen=True)
class PlannedSubscription:
    """An event subscription as declared: its destination and its rules."""

    name: str
    topic: Topic
    destination: Function | Queue
    schema: Schema
    included_event_types: tuple[str, ...]
    filters: tuple[Filter, ...]
    subject_begins_with: str
    subject_ends_with: str
    subject_case_sensitive: bool
    max_events_per_batch: int
    max_attempts: int
    ttl_minutes: int
    dead_letter: DeadLetter | None
    declared: Json  # its properties in the templates

    @property
    def id(self) -> str:
        return f"{self.topic.id}/eventSubscriptions/{self.name}"


def read_topics(resources: Sequence[Json]) -> dict[str, Topic]:
    """The system topics by lower-cased id."""
    topics: dict[str, Topic] = {}
    for resource in resources:
        if resource["type"] != _TOPIC:
            continue
        properties = resource["properties"]
        if properties["topicType"].lower() != _TOPIC_TYPE or not _SOURCE.fullmatch(properties["source"]):
            raise DeploymentError(f"{resource['name']}: only topics of subscriptions are simulated")
        topic = Topic(resource["id"], properties["source"], _has_identity(resource))
        if any(each.source.lower() == topic.source.lower() for each in topics.values()):
            raise refused(resource["name"], "InvalidRequest", f"only one system topic is allowed for {topic.source}")
        topics[topic.id.lower()] = topic
    return topics


def _has_identity(topic: Json) -> bool:
    kind = topic.get("identity", {}).get("type", "None")
    if kind not in ("None", "SystemAssigned"):
        raise DeploymentError(f"{topic['name']}: the simulator does not know a topic's identity of type {kind}")
    return bool(kind == "SystemAssigned")


def read_subscriptions(resources: Sequence[Json], topics: Mapping[str, Topic]) -> tuple[PlannedSubscription, ...]:
    return tuple(_planned(each, topics) for each in resources if each["type"] == _SUBSCRIPTION)


def _planned(resource: Json, topics: Mapping[str, Topic]) -> PlannedSubscription:
    topic = topics.get(resource["id"].rpartition("/eventSubscriptions/")[0].lower())
    if topic is None:
        raise refused(resource["name"], "ParentResourceNotFound", "its system topic is not deployed")
    properties = resource["properties"]
    destination, chosen = _destination(resource, topic), properties.get("filter", {})
    schema = properties.get("eventDeliverySchema", "EventGridSchema")
    if schema not in get_args(Schema):
        raise DeploymentError(f"{resource['name']}: the simulator does not know the schema {schema}")
    retry = properties.get("retryPolicy", {})
    return PlannedSubscription(
        name=resource["name"].rpartition("/")[2],
        topic=topic,
        destination=destination,
        schema=schema,
        included_event_types=tuple(chosen.get("includedEventTypes") or ()),
        filters=_filters(resource["name"], chosen.get("advancedFilters") or []),
        subject_begins_with=chosen.get("subjectBeginsWith", ""),
        subject_ends_with=chosen.get("subjectEndsWith", ""),
        subject_case_sensitive=chosen.get("isSubjectCaseSensitive", False),
        max_events_per_batch=_number(
            resource,
            properties.get("destination", {}).get("properties", {}),
            "maxEventsPerBatch",
            default=1,
            least=1,
            most=5000,
        ),
        max_attempts=_number(resource, retry, "maxDeliveryAttempts", default=30, least=1, most=30),
        ttl_minutes=_number(resource, retry, "eventTimeToLiveInMinutes", default=1440, least=1, most=1440),
        dead_letter=_dead_letter(resource, topic),
        declared=properties,
    )


def _destination(resource: Json, topic: Topic) -> Function | Queue:
    properties = resource["properties"]
    given = properties.get("deliveryWithResourceIdentity")
    if (given is None) == ("destination" not in properties):
        raise refused(resource["name"], "InvalidRequest", "it needs one destination, with or without an identity")
    if given is not None:
        return _queue(resource, given, topic)
    destination = properties["destination"]
    function = _FUNCTION.fullmatch(destination["properties"].get("resourceId", ""))
    if destination["endpointType"] != "AzureFunction" or function is None:
        raise DeploymentError(f"{resource['name']}: without an identity only a function is simulated as destination")
    return Function(function["site"], function["name"])


def _queue(resource: Json, given: Json, topic: Topic) -> Queue:
    destination = given["destination"]
    if given["identity"]["type"] != "SystemAssigned" or destination["endpointType"] != "StorageQueue":
        raise DeploymentError(f"{resource['name']}: with an identity, the topic's own, only a queue is simulated")
    if not topic.has_identity:
        raise refused(resource["name"], "InvalidRequest", "its topic has no identity to deliver with")
    where = destination["properties"]
    ttl = where.get("queueMessageTimeToLiveInSeconds", _WEEK_SECONDS)
    return Queue(where["resourceId"], where["queueName"], ttl)


def _filters(name: str, advanced: Sequence[Json]) -> tuple[Filter, ...]:
    if len(advanced) > _MAX_FILTERS or sum(len(each.get("values", ())) for each in advanced) > _MAX_VALUES:
        raise refused(name, "InvalidRequest", f"more than {_MAX_VALUES} filters or values")
    for each in advanced:
        if each["operatorType"] not in get_args(Operator):
            raise DeploymentError(f"{name}: the simulator does not know the filter {each['operatorType']}")
    return tuple(Filter(each["key"], tuple(each.get("values", ())), each["operatorType"]) for each in advanced)


def _number(resource: Json, values: Mapping[str, Any], name: str, *, default: int, least: int, most: int) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or not least <= value <= most:
        raise refused(resource["name"], "InvalidRequest", f"{name} is {value}, not {least} to {most}")
    return value


def _dead_letter(resource: Json, topic: Topic) -> DeadLetter | None:
    given = resource["properties"].get("deadLetterWithResourceIdentity")
    if given is None:
        return None
    destination = given["deadLetterDestination"]
    if given["identity"]["type"] != "SystemAssigned" or destination["endpointType"] != "StorageBlob":
        raise DeploymentError(
            f"{resource['name']}: the simulator writes dead letters to a container, by the topic's own identity only"
        )
    if not topic.has_identity:
        raise refused(resource["name"], "InvalidRequest", "its topic has no identity to write dead letters with")
    return DeadLetter(destination["properties"]["resourceId"], destination["properties"]["blobContainerName"])
