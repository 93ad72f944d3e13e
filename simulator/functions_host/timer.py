"""The timer trigger: when a function is due, on which host, and what is stored of it.

Follows the Timers extension: NCRONTAB schedules, one run at a time, missed ticks collapsed into one, the schedule
status in blob `azure-webjobs-hosts/timers/...`, and one host of many by a blob lease. Left out: time spans as
schedules (they work on dedicated plans only) and `WEBSITE_TIME_ZONE` (not on Flex Consumption); times are UTC.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from croniter import croniter

from simulator.functions_host.queue_listener import Scale
from simulator.functions_host.settings import SettingError
from simulator.functions_host.storage import BlobContainer

_LEASE_SECONDS = 60.0
_MIN_LEASE_SECONDS = 15  # what the blob service allows
_TAKE_OVER_SECONDS = 60.0  # how often the others try
_NEVER = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
_FIELD = re.compile(r"(?:\*|\w+(?:-\w+)?)(?:/\d+)?(?:,(?:\*|\w+(?:-\w+)?)(?:/\d+)?)*")


@dataclass(frozen=True)
class Schedule:
    """An NCRONTAB expression of six fields, or of five with second 0."""

    expression: str

    @classmethod
    def parse(cls, text: str) -> Schedule:
        fields = text.split()
        if len(fields) == 5:
            fields = ["0", *fields]
        # croniter knows more than NCRONTAB (L, #, H, @daily); what NCRONTAB refuses is refused here.
        if len(fields) != 6 or not all(_FIELD.fullmatch(field) for field in fields):
            raise SettingError(f"'{text}' is not an NCRONTAB expression")
        expression = " ".join(fields)
        if not croniter.is_valid(expression, second_at_beginning=True):
            raise SettingError(f"'{text}' is not an NCRONTAB expression")
        return cls(expression)

    def after(self, time: dt.datetime) -> dt.datetime:
        """The first tick after `time`. Day and weekday must both match, unlike in cron."""
        ticks = croniter(self.expression, time, second_at_beginning=True, day_or=False)
        following: dt.datetime = ticks.get_next(dt.datetime)
        return following

    def is_frequent(self, now: dt.datetime) -> bool:
        """More often than once per minute: then no status is kept."""
        first = self.after(now)
        return self.after(first) - first < dt.timedelta(minutes=1)


@dataclass(frozen=True)
class Status:
    """The stored schedule status."""

    last: dt.datetime
    next: dt.datetime
    last_updated: dt.datetime

    def as_json(self) -> dict[str, str]:
        return {
            "Last": self.last.isoformat(),
            "Next": self.next.isoformat(),
            "LastUpdated": self.last_updated.isoformat(),
        }

    @classmethod
    def from_json(cls, content: bytes) -> Status:
        values = json.loads(content)
        return cls(*(dt.datetime.fromisoformat(values[key]) for key in ("Last", "Next", "LastUpdated")))


def status_at_start(stored: Status | None, schedule: Schedule, now: dt.datetime) -> Status:
    """The status when the host starts. A `next` in the past means that a run is overdue."""
    if stored is None:
        return Status(_NEVER, schedule.after(now), now)
    basis = stored.last if stored.last > _NEVER else stored.last_updated
    expected = schedule.after(basis)
    if stored.next == expected:
        return stored
    # The schedule was changed: no run is due for its ticks in the past.
    return Status(_NEVER, schedule.after(now) if now > expected else expected, now)


@dataclass(frozen=True)
class Due:
    """One run that is due, as the function receives it."""

    past_due: bool
    status: Status | None


class TimerListener:
    """Runs one function on its schedule while this host holds the function's lease."""

    def __init__(
        self,
        function: str,
        schedule: Schedule,
        *,
        blobs: BlobContainer,
        host_id: str,
        scale: Scale,
        clock: Callable[[], dt.datetime],
        run: Callable[[Due], Awaitable[None]],
        use_monitor: bool = True,
        run_on_startup: bool = False,
    ) -> None:
        self._schedule = schedule
        self._blobs = blobs
        self._status_blob = f"timers/{host_id}/Host.Functions.{function}/status"
        self._lock_blob = f"locks/{host_id}/Host.Functions.{function}.Listener"
        self._scale = scale
        self._clock = clock
        self._run = run
        self._keeps_status = use_monitor and not schedule.is_frequent(clock())
        self._run_on_startup = run_on_startup
        self._stopping = asyncio.Event()
        self._lost = asyncio.Event()
        self.ticking = False  # this host holds the lease and has read the stored status

    async def run(self) -> None:
        """Wait for the lease, tick while it is held, and begin again when it is lost."""
        await self._blobs.create()
        await self._blobs.create_empty(self._lock_blob)
        while not self._stopping.is_set():
            lease_id = await self._blobs.acquire_lease(self._lock_blob, self._lease_seconds())
            if lease_id is None:
                await self._pause(self._scale.seconds(_TAKE_OVER_SECONDS), self._stopping)
                continue
            await self._tick_under(lease_id)

    def stop(self) -> None:
        """Start no more runs."""
        self._stopping.set()

    def _lease_seconds(self) -> int:
        return max(_MIN_LEASE_SECONDS, round(self._scale.seconds(_LEASE_SECONDS)))

    async def _tick_under(self, lease_id: str) -> None:
        self._lost.clear()
        renewing = asyncio.create_task(self._renew(lease_id))
        try:
            await self._tick()
        finally:
            renewing.cancel()
            self.ticking = False
        await self._blobs.release_lease(self._lock_blob, lease_id)

    async def _renew(self, lease_id: str) -> None:
        while await self._blobs.renew_lease(self._lock_blob, lease_id):  # noqa: ASYNC110  (the blob service decides)
            await asyncio.sleep(self._lease_seconds() / 2)
        self._lost.set()

    async def _tick(self) -> None:
        status = await self._status_at_start()
        self.ticking = True
        last = self._clock()
        if status is not None and status.next < last:
            status = await self._fire(Due(True, status), last)
        elif self._run_on_startup:
            status = await self._fire(Due(False, status), last)
        while not self._over():
            due_at = self._schedule.after(last)
            await self._until(due_at)
            if self._over():
                return
            last = self._clock()
            status = await self._fire(Due(False, status), last)

    def _over(self) -> bool:
        return self._stopping.is_set() or self._lost.is_set()

    async def _fire(self, due: Due, now: dt.datetime) -> Status | None:
        await self._run(due)  # a run that fails is a run: the schedule goes on
        if due.status is None:
            return None
        status = Status(now, self._schedule.after(now), now)
        await self._write(status)
        return status

    async def _status_at_start(self) -> Status | None:
        if not self._keeps_status:
            return None
        content = await self._blobs.read(self._status_blob)
        stored = Status.from_json(content) if content else None
        status = status_at_start(stored, self._schedule, self._clock())
        if status != stored:
            await self._write(status)
        return status

    async def _write(self, status: Status) -> None:
        await self._blobs.write(self._status_blob, json.dumps(status.as_json()).encode())

    async def _until(self, time: dt.datetime) -> None:
        # Checked again after each sleep: a sleep may end a little before the wall clock gets there.
        while (left := (time - self._clock()).total_seconds()) > 0 and not self._over():
            await self._pause(min(left, 60.0), self._stopping, self._lost)

    async def _pause(self, seconds: float, *events: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
