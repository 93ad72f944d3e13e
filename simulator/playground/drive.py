"""What happens while the clock moves: events arrive, messages become visible, the sweep runs, Azure's operations end.

The clock goes from one moment in which something is due to the next one. At each moment everything that is due is let
happen, and the clock waits until it is over: a run does not depend on how fast this machine is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from azure.storage.queue.aio import QueueClient

from simulator import identity
from simulator.embedded import Embedded
from simulator.functions_host import FunctionsHost
from simulator.functions_host.timer import Schedule
from simulator.playground.app import HeldQueue
from simulator.playground.clock import Clock

SWEEP = "on_reconcile"
QUEUES = ("assess-requests", "install-requests")
_MINUTE = timedelta(minutes=1)
_POLL_SECONDS = 0.02
_MAX_SECONDS = 1800.0  # of this machine: a message that never ends is a defect


class HostEnded(Exception):
    """The app's host ended itself: nothing can happen any more."""


class Drive:
    """Moves the clock. `happened` is called after each moment, to show what happened in it."""

    def __init__(
        self,
        embedded: Embedded,
        host: FunctionsHost,
        *,
        clock: Clock,
        queue: HeldQueue,
        happened: Callable[[], None],
    ) -> None:
        self._embedded, self._host, self._clock, self._queue, self._happened = embedded, host, clock, queue, happened
        self._schedule = Schedule.parse(host.settings["RECONCILE_SCHEDULE"])
        self._swept = clock()
        self._sent = 0
        self._new_patches = second_tuesday(clock())
        self._clients = [_client(embedded, name) for name in QUEUES]

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def move_to(self, until: datetime) -> None:
        """Lets everything happen up to this moment. Raises HostEnded."""
        while (moment := self._next()) <= until:
            self._clock.move_to(max(moment, self._clock()))
            await self._until_idle()
            if self._new_patches <= moment:
                self._offer_new_patches()
            if self._tick() <= moment:
                self._swept = moment
                await self._host.run_timer(SWEEP)
                await self._until_idle()
            self._happened()
            if self._host.gone:
                raise HostEnded(f"the Functions host has ended: {self._host.error}")
        self._clock.move_to(until)
        self._happened()

    def _tick(self) -> datetime:
        return self._schedule.after(self._swept)

    def _next(self) -> datetime:
        """The next moment in which something is due; what comes within one minute happens at its end, together."""
        soon = [_minute_after(each) for each in (self._embedded.azure.advance(), self._queue.next_due) if each]
        return min([*soon, self._tick(), self._new_patches])

    async def _until_idle(self) -> None:
        """Until nothing is on its way: no event, no message, no function that runs."""
        async with asyncio.timeout(_MAX_SECONDS):
            while True:
                self._embedded.azure.advance()
                await self._embedded.event_grid.until_idle(_MAX_SECONDS)
                await self._queue.release()
                if not self._host.running and await self._drained():
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def _drained(self) -> bool:
        """Whether every message that was sent has been handled."""
        sent = self._queue.sent
        if sent == self._sent:
            return True
        for client in self._clients:
            if (await client.get_queue_properties()).approximate_message_count:
                return False
        self._sent = sent
        return not self._host.running

    def _offer_new_patches(self) -> None:
        """The second Tuesday's: on every machine new patches wait, as many as before."""
        self._new_patches = second_tuesday(self._new_patches + timedelta(days=1))
        for machine in list(self._embedded.azure.world.machines.values()):
            world = self._embedded.azure.world
            world.behave(machine.id, world.behaviour(machine))


def _minute_after(moment: datetime) -> datetime:
    return moment if moment == moment.replace(second=0, microsecond=0) else _minute(moment) + _MINUTE


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def second_tuesday(now: datetime) -> datetime:
    """The next second Tuesday of a month at 18:00 UTC, when Microsoft publishes (10:00 in Redmond in winter)."""
    return next(each for each in _second_tuesdays(now) if each >= now)


def _second_tuesdays(now: datetime) -> Iterator[datetime]:
    month = datetime(now.year, now.month, 1, 18, tzinfo=UTC)
    while True:
        yield month + timedelta(days=(1 - month.weekday()) % 7 + 7)
        month = (month + timedelta(days=32)).replace(day=1)


def _client(embedded: Embedded, name: str) -> QueueClient:
    url = f"{embedded.account.queue_url}/{name}"
    return QueueClient.from_queue_url(url, credential=identity.StaticCredential(client_id=identity.OPERATOR))
