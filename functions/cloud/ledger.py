"""The ledger: one row for every machine with something in flight, and a few rows of the app itself.

PartitionKey is the subscription, RowKey a hash of the machine's id.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from functions.cloud.errors import CloudError
from functions.cloud.notices import Outbox, is_notice
from functions.cloud.rows import (
    UNREADABLE,
    VERSION,
    LeftAlone,
    app_time,
    columns_of,
    image_columns,
    image_key,
    image_of_row,
    place_of,
    record_of_row,
)
from functions.cloud.runs import run_key, run_of_row
from functions.cloud.started import StoredStart, started_columns, started_key, started_of_row
from functions.cloud.stops import COLUMNS, PAUSE, key_of, stops_of
from functions.cloud.tables import Delete, Insert, Replace, Row, Table
from functions.model.image_record import ImageRecord, place
from functions.model.machine import MachineId
from functions.model.notice import Notice
from functions.model.record import Record
from functions.model.run import Run
from functions.model.started import StartedMachine
from functions.model.stop import Scope, Stop

APP = "app"  # the partition of the app's own rows
SWEEP_LEASE = timedelta(minutes=5)
CLOCKS_DIFFER = timedelta(minutes=5)  # of two instances, at most
STOP_BEFORE_EXPIRY = timedelta(seconds=60)
RENEW_EVERY = timedelta(seconds=60)
WRITES_AT_ONCE = 20
STOPS_READ = 100  # rows: other machines' holds, images and notices, whose keys lie between a hold's and the pauses'


@dataclass(frozen=True)
class Stored:
    """A record as read, with the row whose ETag a write must present, and the notices of that write.

    `put_off`: the record is ahead of its row, and the next write of the row brings it there.
    """

    record: Record
    row: Row
    notices: tuple[Notice, ...] = ()
    put_off: bool = False

    def telling(self, *notices: Notice) -> "Stored":
        """Its next write carries these notices, too, or does not happen."""
        return replace(self, notices=(*self.notices, *notices))


@dataclass(frozen=True)
class StoredImage:
    """An image's record, with its row if it has one, and the notices of its next write."""

    record: ImageRecord
    row: Row | None
    notices: tuple[Notice, ...] = ()

    def telling(self, *notices: Notice) -> "StoredImage":
        """Its next write carries these notices, too, or does not happen."""
        return replace(self, notices=(*self.notices, *notices))


class Ledger:
    """The rows of machines. A write returns None (False) when another writer was first.

    `outbox`: a write that other programs learn of writes the notice in one transaction. None: no notices.
    """

    def __init__(self, table: Table, outbox: Outbox | None = None) -> None:
        self.table, self.outbox = table, outbox

    async def read(self, machine: MachineId) -> Stored | None:
        """The machine's record. Raises LeftAlone."""
        row = await self.table.get(*place_of(machine))
        try:
            return Stored(record_of_row(row), row) if row else None
        except LeftAlone as left_alone:
            left_alone.machine = machine
            raise

    async def insert(self, record: Record) -> Stored | None:
        row = await self.table.insert(*place_of(record.machine), columns_of(record))
        return Stored(record, row) if row else None

    async def replace(self, stored: Stored, record: Record) -> Stored | None:
        row = await self.put_row(stored.row, place_of(record.machine), columns_of(record), notices=stored.notices)
        return Stored(record, row) if row else None

    async def put_off(self, stored: Stored, record: Record) -> None:
        """A move that the row's next one may contain: what it records can be learned again. Here it is written at once.

        Only a sweep knows whether another move follows: see LedgerView.
        """
        await self.replace(stored, record)

    async def leave(self, stored: Stored) -> None:
        """The row goes, or becomes the machine's next claim: what its end records can be learned again.

        Here it goes at once. Only a sweep knows whether a claim follows: see LedgerView.
        """
        await self.delete(stored)

    async def put(self, stored: Stored | None, record: Record) -> Stored | None:
        """Insert where nothing was read, replace where something was."""
        return await (self.replace(stored, record) if stored else self.insert(record))

    async def delete(self, stored: Stored) -> bool:
        if self.outbox is None or not stored.notices:
            return await self.table.delete(stored.row)
        _, told = self.outbox.written_with(stored.row, place_of(stored.record.machine), stored.notices)
        return await self.table.transact([Delete(stored.row), *told]) is not None

    async def put_row(
        self, row: Row | None, place: tuple[str, str], columns: dict[str, object], *, notices: Sequence[Notice] = ()
    ) -> Row | None:
        """Inserts or replaces one row, with its notices. None when another writer was first."""
        noticed, told = self.outbox.written_with(row, place, notices) if self.outbox else ({}, [])
        columns = columns | dict(noticed)
        if told:
            written = await self.table.transact([Replace(row, columns) if row else Insert(*place, columns), *told])
            return written[0] if written else None
        return await (self.table.replace(row, columns) if row else self.table.insert(*place, columns))

    async def all(self) -> AsyncIterator[Stored | LeftAlone]:
        """Every machine's row; one that this app must not write comes as a LeftAlone."""
        async for row in self.table.scan():
            if row.partition != APP and not is_notice(row.key):
                yield _machine_of(row)

    # -- images: one row for each within each trust boundary

    async def image(self, image: str, boundary: str) -> StoredImage:
        """What is remembered of an image: an empty record where there is no row. Raises LeftAlone.

        The row of the whole fleet is read with each boundary's: its open breaker holds in all of them.
        """
        fleet = (await self.image(image, "")).record if boundary else None
        row = await self._image_row(image_key(place(image, boundary)))
        record = image_of_row(row) if row else ImageRecord(image, boundary)
        return StoredImage(replace(record, fleet=fleet), row)

    async def _image_row(self, key: str) -> Row | None:
        return await self.table.get(APP, key)

    async def put_image(self, stored: StoredImage, record: ImageRecord) -> StoredImage | None:
        """Written only by a sweep, under its lease; a person may close a breaker in between, and is not overwritten."""
        place = APP, image_key(record.place)
        row = await self.put_row(stored.row, place, image_columns(record), notices=stored.notices)
        return StoredImage(record, row) if row else None

    # -- the app's own rows

    async def stops(self, machine: MachineId | None = None) -> list[Stop]:
        """The pauses as they are now, and the hold of this machine (docs/stop.md)."""
        if machine is None:
            return stops_of([row async for row in self.table.keys(APP, PAUSE)])
        return stops_of(await self._stops_of(key_of(Scope.MACHINE, str(machine))))

    async def _stops_of(self, hold: str) -> list[Row]:
        """The rows of the pauses, and the one with this key: one range, as long as little else lies between them."""
        part = await self.table.part(APP, hold, f"{PAUSE}~", columns=COLUMNS, most=STOPS_READ)
        if part.whole:
            return [row for row in part.rows if row.key == hold or row.key.startswith(PAUSE)]
        # An answer without a row may end before the first one: it says nothing about the hold.
        first = part.rows[0] if part.rows else await self.table.get(APP, hold)
        pauses = [row async for row in self.table.keys(APP, PAUSE)]
        return [first, *pauses] if first and first.key == hold else pauses

    async def run(self, run_id: str) -> Run | None:
        """A run on demand as it is now; None: there is none, or it is a newer release's (docs/runs.md)."""
        row = await self.table.get(APP, run_key(run_id))
        with suppress(LeftAlone):
            return run_of_row(row) if row else None
        return None

    # -- machines that the app started

    async def started(self, machine: MachineId) -> StoredStart | None:
        """The machine's row as one that the app started. Raises LeftAlone."""
        row = await self.table.get(APP, started_key(machine))
        return StoredStart(started_of_row(row), row) if row else None

    async def put_started(self, stored: StoredStart | None, started: StartedMachine) -> StoredStart | None:
        """Inserts or replaces it. None when another writer was first."""
        row = await self.put_row(
            stored.row if stored else None, (APP, started_key(started.machine)), started_columns(started)
        )
        return StoredStart(started, row) if row else None

    async def forget_started(self, stored: StoredStart) -> None:
        await self.table.delete(stored.row)

    async def first_deployment(self, now: datetime) -> datetime:
        """The first writer's timestamp; a later deployment does not change it."""
        place = APP, "first-deployment"
        row = await self.table.get(*place)
        if row is None:
            written = await self.table.insert(*place, {"v": VERSION, "at": now.isoformat()})
            row = written or await self.table.get(*place)
        return app_time(row, "at") if row else now

    async def take_sweep(self, holder: str, now: datetime) -> "SweepLease | None":
        """The right to sweep, for five minutes; None while another sweep has it."""
        row = await self.table.get(APP, "sweep")
        columns = {"v": VERSION, "holder": holder, "until": (now + SWEEP_LEASE).isoformat()}
        if row is None:
            row = await self.table.insert(APP, "sweep", columns)
        elif now < app_time(row, "until") <= now + SWEEP_LEASE + CLOCKS_DIFFER:
            return None
        else:  # over, or of a clock that is wrong by more: it would keep every sweep away until then
            row = await self.table.replace(row, columns)
        return SweepLease(self.table, row, holder) if row else None

    async def remembered(self, name: str) -> dict[str, str]:
        """A small note of the app to itself (`census`, `poison`); empty when there is none that can be read."""
        return _note_of(await self.table.get(APP, name))

    async def remember(self, name: str, note: dict[str, str], *notices: Notice) -> None:
        """Replaces a note. If another writer is first, nothing is lost: it wrote the same."""
        row = await self.table.get(APP, name)
        await self.put_row(row, (APP, name), _note_columns(note), notices=notices)


def _note_columns(note: dict[str, str]) -> dict[str, object]:
    return {"v": VERSION, "note": json.dumps(note)}


def _note_of(row: Row | None) -> dict[str, str]:
    try:
        note = json.loads(row.columns["note"]) if row else {}
        return {str(key): str(value) for key, value in note.items()}
    except UNREADABLE:
        return {}


def _machine_of(row: Row) -> Stored | LeftAlone:
    try:
        return Stored(record_of_row(row), row)
    except LeftAlone as left_alone:
        left_alone.place = row.partition, row.key
        return left_alone


class LedgerView(Ledger):
    """The ledger as one sweep knows it: read once, then kept true by the sweep's own writes.

    `rows` are the machines' rows; `left_alone` those that must not be written, by PartitionKey and RowKey. A row that
    another writer changed first is read again. `app` are the other rows by RowKey, as they were when it was read, so an
    image is what it was then, until the sweep writes it; and `outbox_rows` those of notices.
    """

    def __init__(self, table: Table, outbox: Outbox | None = None) -> None:
        super().__init__(table, outbox)
        self.rows: dict[MachineId, Stored] = {}
        self.left_alone: dict[tuple[str, str], LeftAlone] = {}
        self.app: dict[str, Row] = {}
        self.outbox_rows: list[Row] = []
        self._leaving: dict[MachineId, Stored] = {}  # no longer among `rows`, and still in the table
        self._images: dict[tuple[str, str], StoredImage] = {}  # by image and boundary
        self._loaded = False

    async def load(self) -> None:
        """Reads every row: the table is as small as the work."""
        async for row in self.table.scan():
            if is_notice(row.key):
                self.outbox_rows.append(row)
            elif row.partition == APP:
                self.app[row.key] = row
            elif isinstance(item := _machine_of(row), LeftAlone):
                self.left_alone[item.place] = item
            else:
                self.rows[item.record.machine] = item
        self._loaded = True

    def noted(self, name: str) -> dict[str, str]:
        """A note as this sweep read or wrote it."""
        return _note_of(self.app.get(name))

    async def remembered(self, name: str) -> dict[str, str]:
        return self.noted(name)

    async def remember(self, name: str, note: dict[str, str], *notices: Notice) -> None:
        written = await self.put_row(self.app.get(name), (APP, name), _note_columns(note), notices=notices)
        if written:
            self.app[name] = written

    async def insert(self, record: Record) -> Stored | None:
        if leaving := self._leaving.get(record.machine):
            stored = await self.replace(leaving, record)
            del self._leaving[record.machine]
            return stored
        stored = await super().insert(record)
        await self._note(record.machine, stored)
        return stored

    async def replace(self, stored: Stored, record: Record) -> Stored | None:
        written = await super().replace(stored, record)
        await self._note(record.machine, written)
        return written

    async def put_off(self, stored: Stored, record: Record) -> None:
        """Only noted: the next move of the row in this sweep writes it, or write_put_off()."""
        self.rows[record.machine] = replace(stored, record=record, put_off=True)

    async def write_put_off(self) -> dict[MachineId, CloudError]:
        """Writes the moves that no other one followed. Returns the machines whose row could not be written, and why."""
        left = [stored for stored in self.rows.values() if stored.put_off]
        return await _each(left, lambda stored: self.replace(stored, stored.record))

    async def leave(self, stored: Stored) -> None:
        """Only noted: the machine's next claim in this sweep takes the row, or delete_leaving() deletes it."""
        self._leaving[stored.record.machine] = stored
        self.rows.pop(stored.record.machine, None)

    async def delete_leaving(self) -> dict[MachineId, CloudError]:
        """Deletes the rows that no claim took. Returns the machines whose row could not be deleted, and why."""
        left, self._leaving = list(self._leaving.values()), {}
        return await _each(left, self.delete)

    async def delete(self, stored: Stored) -> bool:
        deleted = await super().delete(stored)
        if deleted:
            self.rows.pop(stored.record.machine, None)
        else:
            await self._note(stored.record.machine, None)
        return deleted

    async def image(self, image: str, boundary: str) -> StoredImage:
        """As it was when the sweep began. A change made since is not overwritten: the write then fails."""
        if (known := self._images.get((image, boundary))) is None:
            known = self._images[image, boundary] = await super().image(image, boundary)
        return known

    async def put_image(self, stored: StoredImage, record: ImageRecord) -> StoredImage | None:
        written = await super().put_image(stored, record)
        key = image_key(record.place)
        self._note_app(key, written.row if written else await super()._image_row(key))
        known = self._images.pop((record.image, record.boundary), None)
        if not record.boundary:  # each boundary's was read with the fleet's
            self._images = {key: known for key, known in self._images.items() if key[0] != record.image}
        if written and known:  # one that was never asked for may lack the fleet's, which image() reads with it
            fleet = known.record.fleet
            self._images[record.image, record.boundary] = StoredImage(replace(written.record, fleet=fleet), written.row)
        return written

    async def put_started(self, stored: StoredStart | None, started: StartedMachine) -> StoredStart | None:
        written = await super().put_started(stored, started)
        if written:
            self._note_app(written.row.key, written.row)
        return written

    async def forget_started(self, stored: StoredStart) -> None:
        await super().forget_started(stored)
        self._note_app(stored.row.key, None)

    def _note_app(self, key: str, row: Row | None) -> None:
        if row:
            self.app[key] = row
        else:
            self.app.pop(key, None)

    async def _image_row(self, key: str) -> Row | None:
        return self.app.get(key) if self._loaded else await super()._image_row(key)

    async def _note(self, machine: MachineId, written: Stored | None) -> None:
        try:
            now = written or await self.read(machine)
        except LeftAlone as left_alone:
            self.left_alone[place_of(machine)], now = left_alone, None
        if now:
            self.rows[machine] = now
        else:
            self.rows.pop(machine, None)


async def _each(rows: Sequence[Stored], write: Callable[[Stored], Awaitable[object]]) -> dict[MachineId, CloudError]:
    """Writes each of these rows, some at once. Returns the machines whose row could not be written, and why."""
    problems: dict[MachineId, CloudError] = {}

    async def attempt(stored: Stored) -> None:
        try:
            await write(stored)
        except CloudError as problem:
            problems[stored.record.machine] = problem

    for first in range(0, len(rows), WRITES_AT_ONCE):
        await asyncio.gather(*map(attempt, rows[first : first + WRITES_AT_ONCE]))
    return problems


class SweepLease:
    """The right of one sweep to dispatch. Renewed before every batch; useless 60 s before it expires."""

    def __init__(self, table: Table, row: Row, holder: str) -> None:
        self._table, self._row, self._holder = table, row, holder

    async def renew(self, now: datetime) -> bool:
        """False: too late, or another sweep has it; nothing more may be dispatched."""
        if now >= datetime.fromisoformat(str(self._row.columns["until"])) - STOP_BEFORE_EXPIRY:
            return False
        return await self._write(now + SWEEP_LEASE)

    async def stay(self, now: datetime) -> bool:
        """Renews it once a minute, for a sweep that reads; whether it is lost is asked before a batch.

        Returns whether the minute was over.
        """
        due = now >= datetime.fromisoformat(str(self._row.columns["until"])) - SWEEP_LEASE + RENEW_EVERY
        if due:
            await self.renew(now)
        return due

    async def release(self, now: datetime) -> None:
        await self._write(now)

    async def _write(self, until: datetime) -> bool:
        columns = {"v": VERSION, "holder": self._holder, "until": until.isoformat()}
        row = await self._table.replace(self._row, columns)
        self._row = row or self._row
        return row is not None
