"""One delivery: how often and how long Event Grid tries, and the dead letter at the end (delivery-and-retry.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from simulator.event_grid.events import as_cloud_event
from simulator.event_grid.subscriptions import EndpointType, EventSubscription
from simulator.wire import Json, ticks_z

_MINUTE, _HOUR = 60, 3600
RETRY_SECONDS = (10, 30, _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR)
# After these answers Event Grid gives up at once. The reasons for 401 and 403 are named by analogy: no source has them.
_FINAL = {
    400: "UndeliverableDueToHttpBadRequest",
    401: "UndeliverableDueToHttpUnauthorized",
    403: "UndeliverableDueToHttpForbidden",
    413: "UndeliverableDueToHttpRequestEntityTooLarge",
}


@dataclass(frozen=True)
class _Answers:
    """What Event Grid makes of an endpoint's answers."""

    final: frozenset[int]
    at_least_seconds: dict[int, int]  # it waits longer than the schedule says


_AZURE_RESOURCE = _Answers(frozenset({400, 403, 413}), {401: 5 * _MINUTE, 404: 5 * _MINUTE, 408: 2 * _MINUTE, 503: 30})
_ANSWERS: dict[EndpointType, _Answers] = {
    "AzureFunction": _AZURE_RESOURCE,
    "StorageQueue": _AZURE_RESOURCE,
    "WebHook": _Answers(frozenset({400, 401, 403, 413}), {408: 2 * _MINUTE, 503: 30}),
}
_OUTCOMES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "TimedOut",
    413: "BadRequest",
}
_SUCCESS = range(200, 205)


@dataclass
class Delivery:
    """Events that go to one endpoint together. `status` is the last answer's; 0: none came in time."""

    subscription: EventSubscription
    events: list[Json]
    published: datetime
    attempts: int = 0
    status: int = 0
    last: datetime | None = None

    @property
    def succeeded(self) -> bool:
        return self.status in _SUCCESS

    def wait_seconds(self, speed: float) -> float:
        """How long to wait until the next attempt."""
        scheduled = RETRY_SECONDS[min(self.attempts, len(RETRY_SECONDS)) - 1]
        return max(scheduled, self._answers.at_least_seconds.get(self.status, 0)) / speed

    @property
    def _answers(self) -> _Answers:
        return _ANSWERS[self.subscription.endpoint_type]

    def reason_to_give_up(self, speed: float) -> str | None:
        if self.status in self._answers.final:
            return _FINAL[self.status]
        if self.attempts >= self.subscription.max_attempts:
            return "MaxDeliveryAttemptsExceeded"
        age = (datetime.now(UTC) - self.published).total_seconds() + self.wait_seconds(speed)
        return "TimeToLiveExceeded" if age > self.subscription.ttl_minutes * _MINUTE / speed else None

    def one(self) -> Json:
        """The event of a delivery to a queue, which takes no batch: a message is one event, and no array."""
        (event,) = self.events
        return as_cloud_event(event) if self.subscription.schema == "CloudEventSchemaV1_0" else event

    def content(self) -> tuple[list[Json] | Json, dict[str, str]]:
        """Body and headers of the next attempt."""
        cloud = self.subscription.schema == "CloudEventSchemaV1_0"
        body: list[Json] | Json = [as_cloud_event(each) for each in self.events] if cloud else self.events
        kind = "application/json; charset=utf-8"
        if cloud and self.subscription.max_events_per_batch == 1:
            body, kind = as_cloud_event(self.events[0]), "application/cloudevents+json; charset=utf-8"
        elif cloud:
            kind = "application/cloudevents-batch+json; charset=utf-8"
        return body, {
            "content-type": kind,
            "aeg-event-type": "Notification",
            "aeg-subscription-name": self.subscription.name.upper(),
            "aeg-delivery-count": str(self.attempts - 1),
            "aeg-data-version": "" if cloud else "2",
            "aeg-metadata-version": "" if cloud else "1",
        }

    def dead_letter(self, event: Json, reason: str) -> Json:
        """The event, and why it was not delivered. In the CloudEvents schema the added names are lower-case."""
        outcome = _OUTCOMES.get(self.status, "TimedOut" if self.status == 0 else "GenericError")
        added: Json = {
            "deadLetterReason": reason,
            "deliveryAttempts": self.attempts,
            "lastDeliveryOutcome": outcome,
            "publishTime": ticks_z(self.published),
            "lastDeliveryAttemptTime": ticks_z(self.last or self.published),
        }
        if self.subscription.schema == "CloudEventSchemaV1_0":
            return as_cloud_event(event) | {name.lower(): value for name, value in added.items()}
        return event | added
