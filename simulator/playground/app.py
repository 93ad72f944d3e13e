"""The app's side of the playground: its settings reader, its services on the playground's clock, its windows.

The app is unchanged, and so are its times. It gets its clock from one function, `functions.services.connect`, and
`on_this_clock` wraps that function. A message's delay is the app's time too, and storage would count it by this
machine's clock: the playground keeps such a message until it is due, and sends it then.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

import functions.services
from functions.cloud.queue import Message, Poison, WorkQueue
from functions.model.state import OperationKind
from functions.policy.names import nearest
from functions.policy.settings import SETTINGS, Settings, SettingsError, read_settings
from functions.services import Services

# What the deployment gives besides, so that the reader misses nothing before there is a deployment.
_STORAGE = {f"AzureWebJobsStorage__{each}ServiceUri": "https://localhost/account" for each in ("queue", "table")}


def chosen(changes: Mapping[str, str], usual: Mapping[str, str], now: datetime) -> dict[str, str]:
    """The settings that differ from the deployment. Raises ValueError: a name is not a setting, or a value is wrong."""
    known = [each.name for each in SETTINGS]
    for name in changes:
        if name not in known:
            near = nearest(name.upper(), known)
            raise ValueError(f"{name} is not a setting; {f'did you mean {near}?' if near else 'see docs/settings.md'}")
    values = {**usual, **changes}
    try:
        read_settings({"RECONCILE_SCHEDULE": "0 */5 * * * *", **_STORAGE, **values}, now)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return values


def next_opening(settings: Settings, now: datetime) -> datetime | None:
    """When the next window opens after `now`; None where PATCH_WINDOW is always open, or never."""
    opens = (windows.opens(now, settings.blackouts) for windows in settings.windows)
    return min((each for each in opens if each), default=None)


class HeldQueue:
    """The work queues. A message with a delay is held here until the playground's clock shows its time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._held: list[tuple[datetime, int, OperationKind, Message]] = []
        self._order = itertools.count()
        self.inner: WorkQueue  # from the app's first call on
        self.sent = 0

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> None:
        due = self._clock() + timedelta(seconds=max(delay_seconds, 0))
        heapq.heappush(self._held, (due, next(self._order), kind, message))
        await self.release()

    async def poison(self) -> list[Poison]:
        return await self.inner.poison()

    @property
    def next_due(self) -> datetime | None:
        return self._held[0][0] if self._held else None

    async def release(self) -> None:
        """Sends what is due."""
        while self._held and self._held[0][0] <= self._clock():
            _, _, kind, message = heapq.heappop(self._held)
            await self.inner.send(kind, message, 0)
            self.sent += 1  # afterwards: who sees the number finds the message in the queue


@contextmanager
def on_this_clock(ours: Callable[[], datetime], queue: HeldQueue) -> Iterator[None]:
    """Inside the block an app that is loaded goes by this clock, and its messages go through this queue."""
    opened = functions.services.connect

    async def at_once(_: float) -> None:
        """A pause between calls spares Azure's quotas; it changes nothing where the clock stands still."""
        await asyncio.sleep(0)

    def on_ours(settings: Settings, clock: Callable[[], datetime]) -> Services:
        services = opened(settings, ours)
        queue.inner, services.queue, services.sleep = services.queue, queue, at_once
        return services

    functions.services.connect = on_ours
    try:
        yield
    finally:
        functions.services.connect = opened
