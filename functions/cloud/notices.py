"""The outbox of notices: rows that one transaction writes with the move they report, and the topic that takes them.

A notice's row lies in the partition of the row that moved. Its key names that row and the time, and the notices of one
row are in the order of its moves: the row remembers the time of its last one. Its key is the CloudEvent's id, so that
a notice that is sent twice has the same one.

An older release does not know these rows: it reports and leaves alone what has a newer version.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from functions.cloud.errors import Gone
from functions.cloud.rows import UNREADABLE, VERSION
from functions.cloud.session import Session
from functions.cloud.tables import Entity, Insert, Row
from functions.model.machine import MachineId
from functions.model.notice import Notice, NoticeType

if TYPE_CHECKING:
    from azure.eventgrid.aio import EventGridPublisherClient

PREFIX, PLANNED = "notice-", "planned-"
NOTICE_VERSION = VERSION + 1
NOTICED = "noticed"  # the column in which a row remembers its last notice
SOURCE = "/image-patcher"
SEND_SECONDS = 30
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def is_notice(key: str) -> bool:
    """Whether a row with this RowKey is a notice, and nothing else may read it."""
    return key.startswith((PREFIX, PLANNED))


def is_planned(key: str) -> bool:
    """Whether it is the announcement of an installation."""
    return key.startswith(PLANNED)


def planned_key(row_key: str) -> str:
    """RowKey of the announcement of a machine's installation: one row for each machine, given that of its row."""
    return f"{PLANNED}{row_key}"


@dataclass(frozen=True)
class Pending:
    """A notice as its row holds it."""

    row: Row
    notice: Notice
    id: str
    order: str  # of the notices of one row the later one has the greater text
    at: datetime
    sent: bool  # the topic has it, and the app still goes by it


class Outbox:
    """Makes rows of notices. In one process each is later than the one before, whatever rows they are of."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._last = ""

    def written_with(
        self, row: Row | None, place: tuple[str, str], notices: Sequence[Notice]
    ) -> tuple[Entity, list[Insert]]:
        """What the row itself has to remember, and the rows of its notices. `row`: as it was read."""
        last = str(row.columns.get(NOTICED, "")) if row else ""
        if not notices:
            return ({NOTICED: last} if last else {}), []
        partition, key = place
        now, rows = self._clock(), []
        for notice in notices:
            last = self._order(now, last)
            rows.append(Insert(partition, f"{PREFIX}{key}-{last}", self._columns(notice, last, now)))
        return {NOTICED: last}, rows

    def announcement(self, notice: Notice, row_key: str) -> tuple[str, Entity]:
        """RowKey and columns of the notice that a machine's installation is to come."""
        now = self._clock()
        return planned_key(row_key), self._columns(notice, self._order(now), now)

    def _order(self, now: datetime, last: str = "") -> str:
        """Later than `last`, which another process may have written by a clock that is ahead of this one's."""
        self._last = max(_order(now), _next(last), _next(self._last))
        return self._last

    @staticmethod
    def _columns(notice: Notice, order: str, now: datetime) -> dict[str, object]:
        kept = {"keep_until": notice.keep_until.isoformat()} if notice.keep_until else {}
        return {
            "v": NOTICE_VERSION,
            "type": notice.type.value,
            "subject": notice.subject,
            "order": order,
            "at": now.isoformat(),
            "data": json.dumps(notice.data, ensure_ascii=False),
            **kept,
        }


def pending_of(row: Row) -> Pending | None:
    """The notice of a row; None for one that cannot be read. Raises nothing."""
    columns = row.columns
    with suppress(*UNREADABLE):
        at, keep = datetime.fromisoformat(columns["at"]), columns.get("keep_until")
        data = json.loads(columns["data"])
        if at.tzinfo is None or not isinstance(data, dict):
            return None
        order = str(columns["order"])
        name = row.key.removeprefix(PREFIX)
        return Pending(
            row,
            Notice(
                NoticeType(columns["type"]),
                str(columns["subject"]),
                data,
                datetime.fromisoformat(keep).astimezone(UTC) if keep else None,
            ),
            f"{name}-{order}" if row.key.startswith(PLANNED) else name,
            order,
            at,
            bool(columns.get("sent")),
        )
    return None


@dataclass(frozen=True)
class Announced:
    """That a machine's installation is to come, as its row holds it."""

    row: Row
    machine: MachineId
    expected: datetime
    at: datetime


def announced_of(row: Row) -> Announced | None:
    """The announcement of a row; None for one that cannot be read. Raises nothing."""
    with suppress(*UNREADABLE):
        if (found := pending_of(row)) and found.notice.type is NoticeType.INSTALLATION_PLANNED:
            expected = datetime.fromisoformat(found.notice.data["expected"])
            return Announced(row, MachineId.parse(found.notice.subject), expected.astimezone(UTC), found.at)
    return None


def is_readable(row: Row) -> bool:
    """Whether the app can send this row, and go by it."""
    return (announced_of(row) if is_planned(row.key) else pending_of(row)) is not None


def is_newer(row: Row) -> bool:
    """Whether a newer release wrote the row: it is left alone."""
    version = row.columns.get("v", 0)
    return isinstance(version, int) and version > NOTICE_VERSION


def _order(now: datetime) -> str:
    return f"{(now - _EPOCH) // _MICROSECOND:014x}"


def _next(order: str) -> str:
    with suppress(ValueError):
        return f"{int(order, 16) + 1:014x}"
    return ""


# -- the topic


class Topic(Protocol):
    """Where notices go."""

    async def send(self, events: Sequence[Pending]) -> None:
        """All of them in one request. Raises the exceptions of cloud/errors.py."""
        ...


class EventGridTopic:
    """A custom topic of Event Grid whose input schema is CloudEvents 1.0, reached by the app's identity."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: EventGridPublisherClient | None = None

    async def send(self, events: Sequence[Pending]) -> None:
        from azure.core.exceptions import ResourceNotFoundError
        from azure.core.messaging import CloudEvent

        what = "a request to the topic of notices"
        batch = [
            CloudEvent(
                source=SOURCE,
                type=each.notice.type.value,
                id=each.id,
                time=each.at,
                subject=each.notice.subject,
                data=dict(each.notice.data),
                datacontenttype="application/json",
                extensions={"sequence": each.order},
            )
            for each in events
        ]
        async with self._session.call(what), asyncio.timeout(SEND_SECONDS):
            try:
                await self._topic().send(batch)
            except ResourceNotFoundError:  # the client leaves out the answer by which it is known elsewhere
                raise Gone(f"{what}: not found") from None

    def _topic(self) -> EventGridPublisherClient:
        if self._client is None:
            from azure.eventgrid.aio import EventGridPublisherClient

            self._client = EventGridPublisherClient(
                self._session.settings.notices, self._session.credential, **self._session.topic_options()
            )
        return self._client


def size_of(pending: Pending) -> int:
    """About how many bytes it takes in a request."""
    return 600 + len(json.dumps(dict(pending.notice.data)))


def batches(pending: Iterable[Pending], *, most: int, max_bytes: int) -> list[list[Pending]]:
    """In their order, cut into requests of so many notices and bytes."""
    found: list[list[Pending]] = []
    size = 0
    for each in pending:
        if not found or len(found[-1]) == most or size + size_of(each) > max_bytes:
            found.append([])
            size = 0
        found[-1].append(each)
        size += size_of(each)
    return found
