"""Event Grid: delivers the events of the simulated Azure over HTTP, as event subscriptions say.

Simulated: filters of texts, both schemas, the handshakes, batches, the retry schedule, attempts and time to live, dead
letters; at least once and in no order (delivery-and-retry.md, webhook-event-delivery.md, event-filtering.md). Not
simulated: the five minutes before a dead letter is written, an unhealthy endpoint's probation, delivery with an
identity, filters of numbers, truth values and nulls, and topics other than a subscription's. `Azure.events` has the
events without any of this.

Delivery takes real time: with a clock that is moved by hand, replay `Azure.events` instead.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import aiohttp

from simulator.event_grid.events import as_cloud_event
from simulator.wire import Json, ticks_z

if TYPE_CHECKING:
    from simulator.azure import Azure

Schema = Literal["EventGridSchema", "CloudEventSchemaV1_0"]
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
DeadLetterSink = Callable[[Json], Awaitable[bool]]  # False: it may not write there, and the event is dropped

_ORIGIN = "eventgrid.azure.net"
_MINUTE, _HOUR = 60, 3600
RETRY_SECONDS = (10, 30, _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR)
# Some answers make it wait longer than the schedule says; these two end the tries at once.
_AT_LEAST_SECONDS = {401: 5 * _MINUTE, 403: 5 * _MINUTE, 404: 5 * _MINUTE, 408: 2 * _MINUTE, 503: 30}
_FINAL = {400: "UndeliverableDueToHttpBadRequest", 413: "UndeliverableDueToHttpRequestEntityTooLarge"}
_OUTCOMES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "TimedOut",
    413: "BadRequest",
}
_SUCCESS = range(200, 205)
_PUMP_SECONDS = 0.05


class HandshakeFailed(Exception):
    """The endpoint did not prove that it wants the events. The text says what it answered."""


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
        """Whether this one value fits; of a filter with Not in its name, whether it is what must not be."""
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
    endpoint_url: str
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


@dataclass(frozen=True)
class Attempt:
    """One delivery attempt: of which events, and what came of it (an HTTP status, or 0 for no answer)."""

    subscription: str
    event_ids: tuple[str, ...]
    number: int
    status: int


@dataclass
class _Parcel:
    """Events on their way to one endpoint together."""

    subscription: EventSubscription
    events: list[Json]
    published: datetime
    attempts: int = 0
    status: int = 0
    last: datetime | None = None


@dataclass
class EventGrid:
    """Delivers while it is open: `async with EventGrid(azure) as grid: await grid.subscribe(...)`."""

    azure: Azure
    speed: float = 1.0  # schedule and time to live are divided by it; the 30 s for an answer are not
    tls: ssl.SSLContext | None = None
    answer_seconds: float = 30.0
    seed: int = 0
    subscriptions: list[EventSubscription] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    dead_letters: list[Json] = field(default_factory=list)
    dropped: list[Json] = field(default_factory=list)
    lost_subjects: frozenset[str] = frozenset()  # at least once is promised, not always: of these no event arrives

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[EventSubscription, list[Json]] = {}
        self._session: Any = None

    async def __aenter__(self) -> EventGrid:
        connector = aiohttp.TCPConnector(ssl=self.tls) if self.tls else aiohttp.TCPConnector()
        timeout = aiohttp.ClientTimeout(total=self.answer_seconds)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        self.azure.world.listeners.append(self._take)
        self._spawn(self._pump())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.azure.world.listeners.remove(self._take)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def subscribe(self, subscription: EventSubscription) -> None:
        """From now on. Raises HandshakeFailed when the endpoint does not answer as it must."""
        if subscription.handshake:
            shake = self._shake if subscription.schema == "EventGridSchema" else self._shake_cloud_events
            await shake(subscription)
        self.subscriptions.append(subscription)

    async def settle(self, seconds: float = 10.0) -> None:
        """Waits until nothing is on its way, retries included. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self._waiting or len(self._tasks) > 1:  # noqa: ASYNC110 - a tests' helper; nothing to signal
                await asyncio.sleep(0.01)

    # --- handshakes ---

    async def _shake(self, subscription: EventSubscription) -> None:
        code = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        now = self.azure.now()
        url = f"https://rp-westus.eventgrid.azure.net:553/eventsubscriptions/{subscription.name}/validate?id={code}"
        event = {
            "id": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "topic": subscription.topic or "/subscriptions/00000000-0000-0000-0000-000000000000",
            "subject": "",
            "data": {"validationCode": code, "validationUrl": url},
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": ticks_z(now),
            "metadataVersion": "1",
            "dataVersion": "1",
        }
        headers = {"aeg-event-type": "SubscriptionValidation", "aeg-subscription-name": subscription.name.upper()}
        async with self._session.post(subscription.endpoint_url, json=[event], headers=headers) as answer:
            body = await answer.text()
            good = answer.status == 200 and f'"{code}"' in body and "validationResponse" in body
            if not good:
                raise HandshakeFailed(f"{subscription.name}: {answer.status}, without the validation code in a 200")

    async def _shake_cloud_events(self, subscription: EventSubscription) -> None:
        """HTTP OPTIONS (CloudEvents webhook specification, abuse protection)."""
        headers = {"WebHook-Request-Origin": _ORIGIN}
        async with self._session.options(subscription.endpoint_url, headers=headers) as answer:
            allowed = answer.headers.get("WebHook-Allowed-Origin", "")
            if answer.status != 200 or allowed not in ("*", _ORIGIN):
                raise HandshakeFailed(f"{subscription.name}: {answer.status}, allowed origin '{allowed}'")

    # --- delivery ---

    async def _pump(self) -> None:
        """Looks for events that have become due, and sends what waits."""
        while True:
            self.azure.advance()
            for subscription in list(self._waiting):
                self._send_waiting(subscription)
            await asyncio.sleep(_PUMP_SECONDS)

    def _take(self, event: Json) -> None:
        if event["subject"] in self.lost_subjects:
            return
        for subscription in self.subscriptions:
            if subscription.wants(event):
                self._waiting.setdefault(subscription, []).append(event)

    def _send_waiting(self, subscription: EventSubscription) -> None:
        waiting, size = self._waiting.pop(subscription), subscription.max_events_per_batch
        self._random.shuffle(waiting)  # no order is promised
        for first in range(0, len(waiting), size):
            parcel = _Parcel(subscription, waiting[first : first + size], datetime.now(UTC))
            self._spawn(self._deliver(parcel))

    async def _deliver(self, parcel: _Parcel) -> None:
        subscription = parcel.subscription
        while True:
            parcel.attempts += 1
            parcel.last = datetime.now(UTC)
            parcel.status = await self._post(parcel)
            ids = tuple(event["id"] for event in parcel.events)
            self.attempts.append(Attempt(subscription.name, ids, parcel.attempts, parcel.status))
            if parcel.status in _SUCCESS:
                return
            reason = self._given_up(parcel)
            if reason:
                return await self._bury(parcel, reason)
            await asyncio.sleep(self._wait_seconds(parcel))

    def _given_up(self, parcel: _Parcel) -> str | None:
        if parcel.status in _FINAL:
            return _FINAL[parcel.status]
        if parcel.attempts >= parcel.subscription.max_attempts:
            return "MaxDeliveryAttemptsExceeded"
        age = (datetime.now(UTC) - parcel.published).total_seconds() + self._wait_seconds(parcel)
        return "TimeToLiveExceeded" if age > parcel.subscription.ttl_minutes * _MINUTE / self.speed else None

    def _wait_seconds(self, parcel: _Parcel) -> float:
        scheduled = RETRY_SECONDS[min(parcel.attempts, len(RETRY_SECONDS)) - 1]
        return max(scheduled, _AT_LEAST_SECONDS.get(parcel.status, 0)) / self.speed

    async def _post(self, parcel: _Parcel) -> int:
        """The status of the answer; 0 when none came in time."""
        subscription, cloud = parcel.subscription, parcel.subscription.schema == "CloudEventSchemaV1_0"
        body: Sequence[Json] | Json = [as_cloud_event(each) for each in parcel.events] if cloud else parcel.events
        kind = "application/json; charset=utf-8"
        if cloud and subscription.max_events_per_batch == 1:
            body, kind = as_cloud_event(parcel.events[0]), "application/cloudevents+json; charset=utf-8"
        elif cloud:
            kind = "application/cloudevents-batch+json; charset=utf-8"
        headers = {
            "content-type": kind,
            "aeg-event-type": "Notification",
            "aeg-subscription-name": subscription.name.upper(),
            "aeg-delivery-count": str(parcel.attempts - 1),
            "aeg-data-version": "" if cloud else "2",
            "aeg-metadata-version": "" if cloud else "1",
        }
        try:
            async with self._session.post(subscription.endpoint_url, json=body, headers=headers) as answer:
                await answer.read()
                return int(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0

    async def _bury(self, parcel: _Parcel, reason: str) -> None:
        for event in parcel.events:
            letter = dead_letter(parcel, event, reason)
            sink = parcel.subscription.dead_letter
            written = sink is not None and await sink(letter)
            (self.dead_letters if written else self.dropped).append(letter)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            # A programming error of the simulator must not look like an event that got lost.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "Event Grid failed", "exception": task.exception(), "task": task}
            )


def dead_letter(parcel: _Parcel, event: Json, reason: str) -> Json:
    """The event with what became of it. In the CloudEvents schema these names are lower-case."""
    cloud = parcel.subscription.schema == "CloudEventSchemaV1_0"
    outcome = _OUTCOMES.get(parcel.status, "TimedOut" if parcel.status == 0 else "GenericError")
    added: Json = {
        "deadLetterReason": reason,
        "deliveryAttempts": parcel.attempts,
        "lastDeliveryOutcome": outcome,
        "publishTime": ticks_z(parcel.published),
        "lastDeliveryAttemptTime": ticks_z(parcel.last or parcel.published),
    }
    if cloud:
        return as_cloud_event(event) | {name.lower(): value for name, value in added.items()}
    return event | added
