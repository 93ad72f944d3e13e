"""The ledger: one row for every machine with something in flight, and a few rows of the app itself.

PartitionKey is the subscription, RowKey a hash of the machine's id. Rows carry a version; a newer one than this app
knows is never touched, only reported, so that going back to an older app is safe.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from functions.cloud.tables import Row, Table
from functions.machine import LAST_RING, Kind, MachineId, SupportState, Verdict, is_count, shown
from functions.record import Cause, Phase, Record
from functions.rounds import ImageRecord, Tally

VERSION = 1
APP = "app"  # the partition of the app's own rows
SWEEP_LEASE = timedelta(minutes=5)
STOP_BEFORE_EXPIRY = timedelta(seconds=60)
_LONGEST_TEXT = 8_000  # characters; a column of the table holds 32,768, and one too long would fail the whole move
_LARGEST_NUMBER = 2**31 - 1
_LONGEST_LIMIT = timedelta(days=400)
# What reading a column raises that holds something else than this module wrote.
_UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


class NewerRow(Exception):
    """A row to leave alone: of a version this app does not know, or not one of its own at all.

    `record` is what this app understands of it, to count the slot it may hold and for nothing else.
    """

    record: Record | None = None
    place: tuple[str, str] = ("", "")  # its PartitionKey and RowKey, when it is one of many


@dataclass(frozen=True)
class Stored:
    """A record as read, with the row whose ETag a move must present."""

    record: Record
    row: Row


@dataclass(frozen=True)
class StoredImage:
    """An image's record, with its row if it has one."""

    record: ImageRecord
    row: Row | None


class Ledger:
    """The rows of machines. Moves return None (False) when somebody else moved first."""

    def __init__(self, table: Table) -> None:
        self.table = table

    async def read(self, machine: MachineId) -> Stored | None:
        """The machine's record. Raises NewerRow."""
        row = await self.table.get(machine.subscription, row_key(machine))
        return Stored(_record(row), row) if row else None

    async def insert(self, record: Record) -> Stored | None:
        row = await self.table.insert(record.machine.subscription, row_key(record.machine), _columns(record))
        return Stored(record, row) if row else None

    async def replace(self, stored: Stored, record: Record) -> Stored | None:
        row = await self.table.replace(stored.row, _columns(record))
        return Stored(record, row) if row else None

    async def put(self, stored: Stored | None, record: Record) -> Stored | None:
        """Insert where nothing was read, replace where something was."""
        return await (self.replace(stored, record) if stored else self.insert(record))

    async def delete(self, stored: Stored) -> bool:
        return await self.table.delete(stored.row)

    async def all(self) -> AsyncIterator[Stored | NewerRow]:
        """Every machine's row; one of a newer version comes as a NewerRow."""
        async for row in self.table.scan(without=APP):
            try:
                yield Stored(_record(row), row)
            except NewerRow as newer:
                newer.place = row.partition, row.key
                yield newer

    # -- images: one row each

    async def image(self, image: str) -> "StoredImage":
        """What is remembered of an image: an empty record where there is no row. Raises NewerRow."""
        row = await self.table.get(APP, image_key(image))
        return StoredImage(_image(row) if row else ImageRecord(image), row)

    async def put_image(self, stored: "StoredImage", record: ImageRecord) -> "StoredImage | None":
        """Written only by a sweep, under its lease; a person may close a breaker in between, and is not overwritten."""
        columns = _image_columns(record)
        if stored.row:
            row = await self.table.replace(stored.row, columns)
        else:
            row = await self.table.insert(APP, image_key(record.image), columns)
        return StoredImage(record, row) if row else None

    # -- the app's own rows

    async def paused(self) -> str:
        """Why a person paused the app (docs/stop.md); "" when nobody did."""
        row = await self.table.get(APP, "pause")
        return str(row.columns.get("reason") or "no reason given") if row else ""

    async def first_deployment(self, now: datetime) -> datetime:
        """The time written by whoever came first; never moved by a later deployment."""
        row = await self.table.get(APP, "first-deployment")
        if row is None:
            await self.table.insert(APP, "first-deployment", {"v": VERSION, "at": now.isoformat()})
            row = await self.table.get(APP, "first-deployment")
        return _app_time(row, "at") if row else now

    async def take_sweep(self, holder: str, now: datetime) -> "SweepLease | None":
        """The right to sweep, for five minutes; None while another sweep has it."""
        row = await self.table.get(APP, "sweep")
        columns = {"v": VERSION, "holder": holder, "until": (now + SWEEP_LEASE).isoformat()}
        if row is None:
            row = await self.table.insert(APP, "sweep", columns)
        elif _app_time(row, "until") <= now:
            row = await self.table.replace(row, columns)
        else:
            return None
        return SweepLease(self.table, row, holder) if row else None

    async def remembered(self, name: str) -> dict[str, str]:
        """A small note of the app to itself (`census`, `poison`); empty when there is none that can be read."""
        row = await self.table.get(APP, name)
        try:
            note = json.loads(row.columns["note"]) if row else {}
            return {str(key): str(value) for key, value in note.items()}
        except _UNREADABLE:
            return {}

    async def remember(self, name: str, note: dict[str, str]) -> None:
        """Replaces a note. Losing a race for it loses nothing: the winner wrote the same."""
        columns = {"v": VERSION, "note": json.dumps(note)}
        row = await self.table.get(APP, name)
        await (self.table.replace(row, columns) if row else self.table.insert(APP, name, columns))


class SweepLease:
    """The right of one sweep to hand out work. Renewed before every batch; useless 60 s before it expires."""

    def __init__(self, table: Table, row: Row, holder: str) -> None:
        self._table, self._row, self._holder = table, row, holder

    async def renew(self, now: datetime) -> bool:
        """False: too late, or another sweep has it; nothing more may be handed out."""
        if now >= datetime.fromisoformat(str(self._row.columns["until"])) - STOP_BEFORE_EXPIRY:
            return False
        return await self._write(now + SWEEP_LEASE)

    async def release(self, now: datetime) -> None:
        await self._write(now)

    async def _write(self, until: datetime) -> bool:
        columns = {"v": VERSION, "holder": self._holder, "until": until.isoformat()}
        row = await self._table.replace(self._row, columns)
        self._row = row or self._row
        return row is not None


def row_key(machine: MachineId) -> str:
    """A key without the characters that table keys forbid, the same for every spelling of the id."""
    return hashlib.sha256(str(machine).encode()).hexdigest()[:40]


def place_of(machine: MachineId) -> tuple[str, str]:
    """PartitionKey and RowKey of its row."""
    return machine.subscription, row_key(machine)


def image_key(image: str) -> str:
    return f"image-{hashlib.sha256(image.encode()).hexdigest()[:24]}"


def _image_columns(record: ImageRecord) -> dict[str, Any]:
    rings = {
        str(ring): [tally.succeeded, tally.failed, tally.last.isoformat() if tally.last else ""]
        for ring, tally in record.rings.items()
    }
    columns = {
        "v": VERSION,
        "image": record.image,
        "opened": record.opened.isoformat() if record.opened else "",
        "canaries": record.canaries,
        "proved": record.proved.isoformat() if record.proved else "",
        "rings": json.dumps(rings),
        "failures": ",".join(at.isoformat() for at in record.failures),
        "counted": ",".join(record.counted),
        "opening": record.opening,
        "opened_because": record.opened_because,
        "closed": record.closed,
    }
    return {name: value for name, value in columns.items() if value != ""}


def _image(row: Row) -> ImageRecord:
    try:
        return _read_image(row)
    except _UNREADABLE as error:
        raise _unreadable("an image's row", row, error) from None


def _read_image(row: Row) -> ImageRecord:
    columns = row.columns
    _check_version("an image's row", columns)
    if row.key != image_key(str(columns["image"])):
        raise ValueError
    rings = json.loads(columns.get("rings", "{}"))
    return ImageRecord(
        image=str(columns["image"]),
        opened=_time(columns.get("opened")),
        canaries=_number(columns.get("canaries", 0)),
        proved=_time(columns.get("proved")),
        rings={_number(ring): Tally(_number(ok), _number(bad), _time(last)) for ring, (ok, bad, last) in rings.items()},
        failures=tuple(_moment(at) for at in str(columns.get("failures", "")).split(",") if at),
        counted=tuple(part for part in str(columns.get("counted", "")).split(",") if part),
        opening=str(columns.get("opening", "")),
        opened_because=str(columns.get("opened_because", "")),
        closed=str(columns.get("closed", "")),
    )


def _columns(record: Record) -> dict[str, Any]:
    """Flat columns that a person can read in a storage explorer; empty ones are left out."""
    columns: dict[str, Any] = {"v": VERSION}
    for item in fields(record):
        value = getattr(record, item.name)
        if value not in (None, "", ()):
            columns[item.name] = _to_column(value)
    return columns


def _to_column(value: object) -> Any:
    if isinstance(value, str | MachineId):  # enumerations too
        return str(value)[:_LONGEST_TEXT]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Verdict):
        return json.dumps(
            {
                "state": value.state.value,
                "assessment_id": value.assessment_id,
                "assessed": value.assessed.isoformat() if value.assessed else None,
                "status": value.status,
                "counts": dict(value.counts),
                "reboot_pending": value.reboot_pending,
            }
        )
    return value


def _record(row: Row) -> Record:
    try:
        _check_version("a ledger row", row.columns)
        return _read(row)
    except NewerRow as newer:
        with suppress(*_UNREADABLE):
            newer.record = _read(row)
        raise
    except _UNREADABLE as error:
        raise _unreadable("a ledger row", row, error) from None


def _unreadable(what: str, row: Row, error: Exception) -> NewerRow:
    place = f"PartitionKey {shown(row.partition)}, RowKey {shown(row.key)}"
    return NewerRow(f"{what} cannot be read ({place}): {type(error).__name__}; correct or delete it")


def _check_version(what: str, columns: Mapping[str, Any]) -> None:
    if (version := _number(columns.get("v", 0))) > VERSION:
        raise NewerRow(f"{what} has version {version}; this app knows {VERSION}")


def _app_time(row: Row, column: str) -> datetime:
    """A time of one of the app's own rows. Raises NewerRow."""
    try:
        _check_version("a row of the app", row.columns)
        return _moment(row.columns[column])
    except _UNREADABLE as error:
        raise _unreadable("a row of the app", row, error) from None


def _read(row: Row) -> Record:
    columns = row.columns
    machine = MachineId.parse(columns["machine"])
    if (row.partition, row.key) != (machine.subscription, row_key(machine)):
        raise ValueError  # of another machine: whoever holds the claim of one must not reach the other
    plain: dict[str, Any] = {name: str(columns.get(name, "")) for name in _TEXTS}
    plain |= {name: _time(columns.get(name)) for name in _TIMES}
    plain |= {name: _number(columns.get(name, 0)) for name in _NUMBERS}
    return Record(
        machine=machine,
        phase=Phase(columns["phase"]),
        kind=Kind(columns["kind"]),
        due_at=_moment(columns["due_at"]),
        sent=bool(columns.get("sent", False)),
        ring=_number(columns.get("ring", LAST_RING)),
        at_fault=bool(columns.get("at_fault", False)),
        neutral=bool(columns.get("neutral", False)),
        verdict=_verdict(columns.get("verdict")),
        known_operations=tuple(part for part in str(columns.get("known_operations", "")).split(",") if part),
        limit=_limit(columns["limit"]),
        cause=Cause(columns.get("cause", Cause.TRANSIENT)),
        **plain,
    )


_TEXTS = (
    "token", "vm_id", "image", "region", "operation_id", "operation_url", "outcome", "state", "reason", "remedy",
    "group", "availability_set", "os", "agent",
)  # fmt: skip
_NUMBERS = ("looks", "unanswered", "attempts")
_TIMES = ("begun_at", "started_at", "ended_at", "not_before", "created")


def _time(value: Any) -> datetime | None:
    return _moment(value) if value else None


def _moment(value: Any) -> datetime:
    """A time as this module writes it: with a zone, and not so far off that nothing can be added to it."""
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None or not 1 < moment.year < 9000:
        raise ValueError
    return moment


def _number(value: Any) -> int:
    number = int(value)
    if not 0 <= number <= _LARGEST_NUMBER:
        raise ValueError
    return number


def _limit(value: Any) -> timedelta:
    limit = timedelta(seconds=float(value))
    if not timedelta(0) <= limit <= _LONGEST_LIMIT:
        raise ValueError
    return limit


def _verdict(text: Any) -> Verdict | None:
    if not text:
        return None
    content = json.loads(text)
    if not all(map(is_count, content["counts"].values())):
        raise ValueError
    return Verdict(
        state=SupportState(content["state"]),
        assessment_id=str(content["assessment_id"]),
        assessed=_time(content["assessed"]),
        status=str(content["status"]),
        counts=content["counts"],
        reboot_pending=content["reboot_pending"] is True,
    )
