"""What a trigger passes to the Python worker, and the Python object that a function gets.

The host sends each trigger's input and its metadata as typed values; the library's own converters
(`azure.functions.meta`) turn them into EventGridEvent, CloudEvent, QueueMessage and TimerRequest. So what a function
gets, and what fails before it runs, is the library's own behaviour.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import azure.functions  # noqa: F401  (registers the converters)
from azure.functions.meta import Datum, get_binding_registry

_converters: Callable[[], Any] = get_binding_registry  # the library does not annotate it
_ISO_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,7})?(?:Z|[+-]\d{2}:\d{2})?")


class NotBase64(Exception):
    """The queue's own client cannot read the message: the function is never invoked with it."""


class NotUtf8(Exception):
    """The message has no text: the invocation fails before the function's code."""


@dataclass(frozen=True)
class TriggerInput:
    """The typed value for the trigger's argument, and the trigger's metadata."""

    data: Datum
    metadata: Mapping[str, Datum] = field(default_factory=dict)

    def decode(self, binding: str) -> Any:
        """The Python object the function is called with; raises what the worker would raise."""
        converter = _converters().get(binding)
        return converter.decode(self.data, trigger_metadata=self.metadata)


def event_input(event: Mapping[str, Any]) -> TriggerInput:
    """One element of an Event Grid request."""
    metadata = {} if event.get("data") is None else {"data": _json(event["data"])}
    return TriggerInput(_json(event), metadata)


def timer_input(schedule_status: Mapping[str, str] | None, *, past_due: bool, now: dt.datetime) -> TriggerInput:
    info = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": schedule_status, "IsPastDue": past_due}
    return TriggerInput(_json(info), {"TimerTrigger": _text(now.strftime("%m/%d/%Y %H:%M:%S"))})


def message_body(content: str, *, is_base64: bool) -> bytes:
    """The body of a message as stored in the queue. Raises NotBase64."""
    if not is_base64:
        return content.encode()
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except ValueError as error:  # binascii.Error is one, and so is a letter beyond ASCII
        raise NotBase64(str(error)) from error


def body_text(body: bytes) -> str:
    """Raises NotUtf8."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotUtf8(str(error)) from error


def queue_input(text: str, message: Any) -> TriggerInput:
    """A received message (of the queue SDK) whose body is `text`."""
    metadata = {
        "QueueTrigger": _text(text),
        "DequeueCount": _json(message.dequeue_count),
        "ExpirationTime": _json(message.expires_on.isoformat()),
        "Id": _text(message.id),
        "InsertionTime": _json(message.inserted_on.isoformat()),
        "NextVisibleTime": _json(message.next_visible_on.isoformat()),
        "PopReceipt": _text(message.pop_receipt),
    }
    return TriggerInput(_text(text), _merged(metadata, text))


def _merged(metadata: dict[str, Datum], text: str) -> dict[str, Datum]:
    """A pitfall: top-level members of a JSON object body replace metadata of the same name, letter case aside."""
    names = {name.lower(): name for name in metadata}
    merged = dict(metadata)
    for key, value in _members(text).items():
        if value is None or isinstance(value, list):
            continue
        name = names.setdefault(key.lower(), key)
        merged[name] = _json(value) if isinstance(value, dict) else _text(_as_dotnet_text(value))
    return merged


def _members(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _as_dotnet_text(value: str | float | bool) -> str:
    """A JSON scalar as .NET's invariant culture writes it; a text that looks like a time was parsed as one."""
    if isinstance(value, str):
        return _as_dotnet_time(value) if _ISO_TIME.fullmatch(value) else value
    return str(value)


def _as_dotnet_time(text: str) -> str:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return (time.astimezone(dt.UTC) if time.tzinfo else time).strftime("%m/%d/%Y %H:%M:%S")


def _json(value: Any) -> Datum:
    return Datum(json.dumps(value, separators=(",", ":")), "json")


def _text(value: str) -> Datum:
    return Datum(value, "string")
