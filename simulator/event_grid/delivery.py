"""Event Grid: delivers the events of the simulated Azure over HTTP, as event subscriptions say.

Simulated: filters of texts, both schemas, the handshakes, batches, the retry schedule, attempts and time to live, dead
letters, a storage queue by the topic's identity; at least once and in no order (delivery-and-retry.md,
webhook-event-delivery.md, event-filtering.md, handler-storage-queues.md). Not simulated: the five minutes before a dead
letter is written, an unhealthy endpoint's probation, filters of numbers, truth values and nulls, and topics other than
a subscription's and a custom one of CloudEvents. `Azure.events` has the events without any of this.

Delivery takes real time: with a clock that is moved by hand, replay `Azure.events` instead.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

from simulator.event_grid.handshake import shake_hands
from simulator.event_grid.retries import Delivery
from simulator.event_grid.subscriptions import EventSubscription
from simulator.event_grid.topic import Topic
from simulator.wire import Json
from simulator.world import World

_PUMP_SECONDS = 0.05


@dataclass(frozen=True)
class Attempt:
    """One delivery attempt: of which events, and its outcome (an HTTP status, or 0 for no answer)."""

    subscription: str
    event_ids: tuple[str, ...]
    number: int
    status: int


@dataclass
class EventGrid:
    """Delivers while it is open: `async with EventGrid(azure.world) as grid: await grid.subscribe(...)`."""

    world: World
    speed: float = 1.0  # schedule and time to live are divided by it; the 30 s for an answer are not
    tls: ssl.SSLContext | None = None
    answer_seconds: float = 30.0
    seed: int = 0
    subscriptions: list[EventSubscription] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    dead_letters: list[Json] = field(default_factory=list)
    dropped: list[Json] = field(default_factory=list)  # events for which no dead letter could be written
    lost_subjects: frozenset[str] = frozenset()  # Event Grid may lose an event: of these subjects none arrives

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: dict[EventSubscription, list[Json]] = {}
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> EventGrid:
        connector = aiohttp.TCPConnector(ssl=self.tls) if self.tls else aiohttp.TCPConnector()
        timeout = aiohttp.ClientTimeout(total=self.answer_seconds)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        self.world.listeners.append(self._receive)
        self._spawn(self._pump())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.world.listeners.remove(self._receive)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def subscribe(self, subscription: EventSubscription) -> None:
        """From now on. Raises HandshakeFailed when the endpoint does not answer as it must."""
        if subscription.handshake:
            await shake_hands(self._session, subscription, now=self.world.now(), rng=self._random)
        self.subscriptions.append(subscription)

    def deliver_from(self, topic: Topic) -> None:
        """From now on the events that this topic takes go to the subscriptions that name it."""

        def receive(event: Json) -> None:
            self._receive({"subject": "", **event, "topic": topic.id, "eventType": event["type"]})

        topic.listeners.append(receive)

    async def until_idle(self, seconds: float = 120.0) -> None:
        """Waits until no delivery is under way, retries included. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self._waiting or len(self._tasks) > 1:  # noqa: ASYNC110 - for tests; nothing to signal
                await asyncio.sleep(0.01)

    def _receive(self, event: Json) -> None:
        if event["subject"] in self.lost_subjects:
            return
        for subscription in self.subscriptions:
            if subscription.wants(event):
                if "specversion" in event and subscription.schema != "CloudEventSchemaV1_0":
                    raise ValueError(f"{subscription.name}: a topic of CloudEvents delivers CloudEvents only")
                self._waiting.setdefault(subscription, []).append(event)

    async def _pump(self) -> None:
        """Sends the events that have become due."""
        while True:
            self.world.advance()
            for subscription in list(self._waiting):
                self._send_waiting(subscription)
            await asyncio.sleep(_PUMP_SECONDS)

    def _send_waiting(self, subscription: EventSubscription) -> None:
        waiting, size = self._waiting.pop(subscription), subscription.max_events_per_batch
        self._random.shuffle(waiting)  # no order is promised
        for first in range(0, len(waiting), size):
            delivery = Delivery(subscription, waiting[first : first + size], datetime.now(UTC))
            self._spawn(self._deliver(delivery))

    async def _deliver(self, delivery: Delivery) -> None:
        while True:
            delivery.attempts += 1
            delivery.last = datetime.now(UTC)
            delivery.status = await self._post(delivery)
            ids = tuple(event["id"] for event in delivery.events)
            self.attempts.append(Attempt(delivery.subscription.name, ids, delivery.attempts, delivery.status))
            if delivery.succeeded:
                return
            if reason := delivery.reason_to_give_up(self.speed):
                return await self._write_dead_letters(delivery, reason)
            await asyncio.sleep(delivery.wait_seconds(self.speed))

    async def _post(self, delivery: Delivery) -> int:
        """The status of the answer; 0 when none came in time."""
        if delivery.subscription.queue:
            return await delivery.subscription.queue(delivery.one())
        body, headers = delivery.content()
        try:
            async with self._session.post(delivery.subscription.endpoint_url, json=body, headers=headers) as answer:
                await answer.read()
                return int(answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0

    async def _write_dead_letters(self, delivery: Delivery, reason: str) -> None:
        for event in delivery.events:
            dead_letter = delivery.dead_letter(event, reason)
            sink = delivery.subscription.dead_letter
            written = sink is not None and await sink(dead_letter)
            (self.dead_letters if written else self.dropped).append(dead_letter)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            # A programming error of the simulator must not look like an event that got lost.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "Event Grid failed", "exception": task.exception(), "task": task}
            )
