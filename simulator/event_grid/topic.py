"""A custom topic of Event Grid, whose input schema is CloudEvents 1.0: it keeps what it took, in order.

Simulated: the token and its audience, the role's data action, the batched content type, sizes, required attributes
(post-to-custom-topic.md, cloud-event-schema.md, authenticate-with-microsoft-entra-id.md). Not simulated: keys, other
schemas. Event subscriptions get what it took by `EventGrid.deliver_from`. `Azure.faults` makes it fail as a test asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from simulator.identity import tokens
from simulator.wire import Json, Refused, Request, Response

PATH = "/api/events"
SEND = "Microsoft.EventGrid/events/send/action"
API_VERSION = "2018-01-01"
BATCH = "application/cloudevents-batch+json"
LARGEST = 1024 * 1024  # bytes of one event, and of one request
_REQUIRED = ("id", "source", "specversion", "type")  # CloudEvents 1.0, required attributes


class Permits(Protocol):
    """Whether a caller, by its client id, may do this at a scope."""

    def __call__(self, client_id: str, *, action: str, scope: str) -> bool: ...


@dataclass
class Topic:
    """One topic. `events`: every event that it took, as often as it came; `listeners` are given each."""

    id: str
    host: str
    events: list[Json] = field(default_factory=list)
    requests: int = 0  # those that it took
    listeners: list[Callable[[Json], None]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"https://{self.host}{PATH}"

    def of_type(self, name: str) -> list[Json]:
        """The events whose type ends so, without its prefix."""
        return [event for event in self.events if str(event["type"]).endswith(name)]


def owns(request: Request) -> bool:
    """Whether a request is for a topic: no path of Resource Manager begins so."""
    return request.path.lower().rstrip("/") == PATH


def answer(topic: Topic | None, request: Request, *, permits: Permits, token_seconds: float) -> Response:
    """Takes all events of the request, or none. `token_seconds`: the time by which a token is judged, since 1970."""
    try:
        if topic is None:
            raise Refused(404, "ResourceNotFound", "The topic does not exist.")
        _authorize(topic, request, permits=permits, token_seconds=token_seconds)
        events = _read(request)
    except Refused as refused:
        return refused.response()
    topic.events += events
    topic.requests += 1
    for event in events:
        for listen in topic.listeners:
            listen(event)
    return Response(200)


def _authorize(topic: Topic, request: Request, *, permits: Permits, token_seconds: float) -> None:
    try:
        header = request.headers.get("authorization")
        claims = tokens.check_header(header, tokens.EVENT_GRID, now_seconds=token_seconds)
    except tokens.TokenRefused as refused:
        raise Refused(401, "Unauthorized", f"The request is not authorized: {refused}.") from refused
    caller = tokens.caller_of(claims)
    if not permits(caller.client_id, action=SEND, scope=topic.id):
        raise Refused(403, "Forbidden", f"The principal has no permission for {SEND} on the topic.")


def _read(request: Request) -> list[Json]:
    if request.method != "POST" or request.query.get("api-version") != API_VERSION:
        raise Refused(400, "BadRequest", f"Only POST with api-version {API_VERSION} is understood.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BATCH:
        raise Refused(400, "BadRequest", f"The topic takes {BATCH}: its input schema is CloudEventSchemaV1_0.")
    if len(request.body) > LARGEST:
        raise Refused(413, "PayloadTooLarge", f"The maximum size ({LARGEST}) has been exceeded.")
    try:
        events: Any = json.loads(request.body)
    except ValueError:
        raise Refused(400, "BadRequest", "The body is not JSON.") from None
    if not isinstance(events, list) or not events or not all(map(_is_cloud_event, events)):
        raise Refused(400, "BadRequest", "The body is not an array of CloudEvents 1.0.")
    return events


def _is_cloud_event(event: object) -> bool:
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        return False
    extensions = (name for name in event if name not in ("data", "data_base64"))
    named_right = all(name.isascii() and name.isalnum() and name == name.lower() for name in extensions)
    return named_right and all(isinstance(event.get(name), str) and event[name] for name in _REQUIRED)
