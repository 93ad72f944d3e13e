"""Event subscriptions: which events go where, in which form, and how often Event Grid tries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from simulator.wire import Json

Schema = Literal["EventGridSchema", "CloudEventSchemaV1_0"]
EndpointType = Literal["AzureFunction", "StorageQueue", "WebHook"]
Operator = Literal[
    "StringIn",
    "StringNotIn",
    "StringBeginsWith",
    "StringNotBeginsWith",
    "StringEndsWith",
    "StringNotEndsWith",
    "StringContains",
    "StringNotContains",
]
DeadLetterSink = Callable[[Json], Awaitable[bool]]  # False: the topic may not write there, and the event is dropped
QueueSink = Callable[[Json], Awaitable[int]]  # the status with which the queue answers


@dataclass(frozen=True)
class Filter:
    """One advanced filter: any of the values, letter case aside. Keys reach into data with dots."""

    key: str
    values: tuple[str, ...]
    operator: Operator = "StringIn"

    def passes(self, event: Json) -> bool:
        found = any(self.matches(event, value) for value in self.values)
        return found != self.operator.startswith("StringNot")

    def matches(self, event: Json, value: str) -> bool:
        """Whether the event has this one value. A filter with Not in its name rejects the event then."""
        text: Any = event
        for name in self.key.split("."):
            text = text.get(name) if isinstance(text, dict) else None
        if not isinstance(text, str):
            return False
        text, value = text.lower(), value.lower()
        match self.operator.replace("StringNot", "String"):
            case "StringBeginsWith":
                return bool(text.startswith(value))
            case "StringEndsWith":
                return bool(text.endswith(value))
            case "StringContains":
                return value in text
            case _:
                return bool(text == value)


@dataclass(frozen=True)
class EventSubscription:
    """One event subscription of a subscription's topic, as Bicep would declare it."""

    name: str
    endpoint_url: str  # empty where a queue is the endpoint
    endpoint_type: EndpointType = "WebHook"
    topic: str = ""  # /subscriptions/{guid}; empty: every subscription
    included_event_types: tuple[str, ...] = ()  # empty: all
    filters: tuple[Filter, ...] = ()
    subject_begins_with: str = ""
    subject_ends_with: str = ""
    subject_case_sensitive: bool = False
    schema: Schema = "EventGridSchema"
    max_events_per_batch: int = 1
    max_attempts: int = 30
    ttl_minutes: float = 1440
    dead_letter: DeadLetterSink | None = None  # None: what cannot be delivered is dropped
    queue: QueueSink | None = None  # a storage queue, written with the topic's identity
    handshake: bool = True  # False: the Functions extension answers for its own trigger

    def wants(self, event: Json) -> bool:
        subject, begins, ends = event["subject"], self.subject_begins_with, self.subject_ends_with
        if not self.subject_case_sensitive:
            subject, begins, ends = subject.lower(), begins.lower(), ends.lower()
        return (
            (not self.topic or event["topic"].lower() == self.topic.lower())
            and (not self.included_event_types or event["eventType"] in self.included_event_types)
            and subject.startswith(begins)
            and subject.endswith(ends)
            and all(each.passes(event) for each in self.filters)
        )
