"""The queue trigger: receive, run, then delete, release or move to the poison queue.

Follows the Storage.Queues extension 5.3: batches, the 10-minute visibility with its renewal, the back-off of empty
polls, and the attempts. It decides by the queue's dequeue count and keeps no count of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from simulator.functions_host.settings import QueueOptions
from simulator.functions_host.telemetry import HostCategory

_VISIBILITY_SECONDS = 600.0  # fixed: host.json's visibilityTimeout is about failed messages only
_MINIMUM_POLL_SECONDS = 0.1
_ATTEMPTS = 6  # of one storage call when the service cannot be reached
_FIRST_RETRY_SECONDS = 0.8
_LOST = ("PopReceiptMismatch", "MessageNotFound", "QueueNotFound")

_log = logging.getLogger(__name__)


class StorageUnreachable(Exception):
    """The queue service answered none of the attempts: the whole host stops."""


@dataclass(frozen=True)
class Scale:
    """Shortens the host's own long times, for tests. Azure's visibility is in whole seconds, so one is the least."""

    factor: float = 1.0

    def seconds(self, seconds: float) -> float:
        return seconds * self.factor

    def visibility(self, seconds: float) -> int:
        return 0 if seconds <= 0 else max(1, round(seconds * self.factor))


class QueueListener:
    """Reads one queue for one function.

    `invoke` runs a message and returns whether it succeeded. `fault` receives a storage error that no rule covers.
    `poison` is None for a poison queue: there a failing message stays invisible for its time.
    """

    def __init__(
        self,
        queue: Any,
        *,
        poison: Any | None,
        options: QueueOptions,
        scale: Scale,
        processors: int,
        invoke: Callable[[Any], Awaitable[bool]],
        fault: Callable[[BaseException], None],
        warn: Callable[[HostCategory, str], None],
    ) -> None:
        self._warn = warn
        self._queue = queue
        self._poison = poison
        self._options = options
        self._scale = scale
        threshold = options.new_batch_threshold
        self._new_batch_threshold = options.batch_size * processors // 2 if threshold is None else threshold
        self._invoke = invoke
        self._fault = fault
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Poll until `stop`; then finish what is running."""
        empty_polls = 0
        while not self._stopping.is_set():
            messages = await self._receive()
            for message in messages:
                self._start(message)
            if messages:
                empty_polls = 0
                await self._room_for_a_batch()
            else:
                empty_polls += 1
                await self._pause(self._back_off_seconds(empty_polls))
        while self._running:
            await self._one_done()

    def stop(self) -> None:
        """Fetch no more."""
        self._stopping.set()

    def abandon(self) -> None:
        """Drop everything at once: no message is released, deleted or moved."""
        for task in self._running:
            task.cancel()

    async def _receive(self) -> list[Any]:
        async def page() -> list[Any]:
            pages = self._queue.receive_messages(
                messages_per_page=self._options.batch_size,
                visibility_timeout=self._scale.visibility(_VISIBILITY_SECONDS),
            ).by_page()
            async for messages in pages:
                return [message async for message in messages]
            return []

        try:
            messages: list[Any] = await self._with_retries(page)
        except ResourceNotFoundError:
            _log.warning("the queue %s does not exist", self._queue.queue_name)
        except HttpResponseError as error:
            if (error.status_code or 0) < 500:
                raise
            _log.warning("polling %s: %s", self._queue.queue_name, error.status_code)
        else:
            return messages
        return []

    async def _with_retries(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Retry while the service cannot be reached, for about 28 s. Raises StorageUnreachable."""
        for attempt in range(_ATTEMPTS):
            try:
                return await call()
            except (ServiceRequestError, ServiceResponseError) as error:
                if attempt == _ATTEMPTS - 1:
                    raise StorageUnreachable(f"{self._queue.queue_name}: {error}") from error
            await asyncio.sleep(self._scale.seconds(_FIRST_RETRY_SECONDS * 2**attempt))

    def _back_off_seconds(self, empty_polls: int) -> float:
        longest = max(_MINIMUM_POLL_SECONDS, self._scale.seconds(self._options.max_polling_interval_seconds))
        spread = random.uniform(0.8, 1.2)
        step = _MINIMUM_POLL_SECONDS * 2 ** min(empty_polls - 1, 20)
        return min(_MINIMUM_POLL_SECONDS + spread * step if empty_polls > 1 else _MINIMUM_POLL_SECONDS, longest)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _room_for_a_batch(self) -> None:
        while len(self._running) > self._new_batch_threshold:
            await self._one_done()

    async def _one_done(self) -> None:
        await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    def _start(self, message: Any) -> None:
        task = asyncio.create_task(self._process(message))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fault(error)

    async def _process(self, message: Any) -> None:
        if self._poison is not None and message.dequeue_count > self._options.max_dequeue_count:
            await self._move_to_poison(message, message.pop_receipt)  # the host died in an earlier attempt
            return
        lease = _Renewal(self._queue, message, self._scale)
        renewing = asyncio.create_task(lease.run())
        try:
            succeeded = await self._invoke(message)
        except BaseException:
            renewing.cancel()  # the host is killed: the message keeps the visibility it has
            raise
        lease.stop()
        await renewing
        await self._complete(message, lease.pop_receipt, succeeded)

    async def _complete(self, message: Any, pop_receipt: str, succeeded: bool) -> None:
        if succeeded:
            await self._delete(message, pop_receipt)
        elif self._poison is None:
            return
        elif message.dequeue_count >= self._options.max_dequeue_count:
            await self._move_to_poison(message, pop_receipt)
        else:
            await self._release(message, pop_receipt)

    async def _delete(self, message: Any, pop_receipt: str) -> None:
        await self._unless_lost(lambda: self._queue.delete_message(message.id, pop_receipt))

    async def _release(self, message: Any, pop_receipt: str) -> None:
        away = self._scale.visibility(self._options.visibility_timeout_seconds)
        await self._unless_lost(lambda: self._queue.update_message(message.id, pop_receipt, visibility_timeout=away))

    async def _move_to_poison(self, message: Any, pop_receipt: str) -> None:
        poison = self._poison
        assert poison is not None
        most = self._options.max_dequeue_count
        self._warn(
            HostCategory.QUEUE_PROCESSOR,
            f"Message has reached MaxDequeueCount of {most}. Moving message to queue '{poison.queue_name}'.",
        )
        try:
            await self._with_retries(lambda: poison.send_message(message.content))
        except ResourceNotFoundError:
            await self._create(poison)
            await self._with_retries(lambda: poison.send_message(message.content))
        await self._delete(message, pop_receipt)

    async def _create(self, queue: Any) -> None:
        # Two messages may find the poison queue missing at the same time.
        with contextlib.suppress(ResourceExistsError):
            await self._with_retries(queue.create_queue)

    async def _unless_lost(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Only logs that another host has the message by now, or that it is gone."""
        try:
            await self._with_retries(call)
        except HttpResponseError as error:
            code = getattr(error, "error_code", "")
            if code not in _LOST:
                raise
            _log.warning("%s: %s", self._queue.queue_name, code)


class _Renewal:
    """Keeps one running message invisible. `pop_receipt` is the newest one."""

    def __init__(self, queue: Any, message: Any, scale: Scale) -> None:
        self._queue = queue
        self._id = message.id
        self._visibility = scale.visibility(_VISIBILITY_SECONDS)
        self._ended = asyncio.Event()
        self.pop_receipt: str = message.pop_receipt

    def stop(self) -> None:
        self._ended.set()

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._visibility / 2):
                    await self._ended.wait()
                return
            except TimeoutError:
                await self._renew()

    async def _renew(self) -> None:
        try:
            renewed = await self._queue.update_message(self._id, self.pop_receipt, visibility_timeout=self._visibility)
        except (HttpResponseError, ServiceRequestError, ServiceResponseError) as error:
            _log.warning("the visibility of a message could not be renewed: %s", type(error).__name__)
        else:
            self.pop_receipt = renewed.pop_receipt
