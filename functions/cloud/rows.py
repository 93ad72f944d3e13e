"""How a record becomes a row of the table and a row a record again: flat columns that a person can read.

Rows carry a version; a newer one than this app knows is never written, only reported, so that going back to an older
app is safe. Columns are never renamed: rows that an older app wrote are still read.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from functions.cloud.tables import Row
from functions.model.image_record import Failure, ImageRecord, Tally, place
from functions.model.machine import LAST_RING, MachineId, PatchAssessment, SupportState, is_count
from functions.model.record import UNKNOWN_DURATION, Ending, Flight, History, Record
from functions.model.state import Cause, OperationKind, Phase, State, Wait
from functions.model.text import BadInput, quoted, writable

VERSION = 1
_MAX_TEXT = 8_000  # characters; a column of the table holds 32,768, and one too long would fail the whole write
_UNKNOWN = "?"  # a machine that a row does not name
_MAX_NUMBER = 2**31 - 1
_MAX_LIMIT = timedelta(days=400)
# What reading a column raises that holds something else than this module wrote.
UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
# Columns that have kept their name while their field was renamed.
_COLUMN_OF = {"checks": "looks", "at": "ended_at", "when": "not_before"}


class Why(StrEnum):
    """Why a row is left alone."""

    NEWER = "newer"  # of a version this app does not know
    UNREADABLE = "unreadable"  # a column holds something else than this app writes
    FOREIGN = "foreign"  # it says that it is another machine's or image's row


class LeftAlone(Exception):
    """A row that is never written, only reported; the text names it and says what would be right.

    `record` is what this app understands of it, to count the slot it may hold and for nothing else.
    """

    def __init__(self, why: Why, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.record: Record | None = None
        self.place = ("", "")  # its PartitionKey and RowKey, when it is one of many
        self.machine: MachineId | None = None  # whose row was asked for


def row_key(machine: MachineId) -> str:
    """A key without the characters that table keys forbid, the same for every spelling of the id."""
    return hashlib.sha256(str(machine).encode()).hexdigest()[:40]


def place_of(machine: MachineId) -> tuple[str, str]:
    """PartitionKey and RowKey of its row."""
    return machine.subscription, row_key(machine)


def image_key(place: str) -> str:
    """RowKey of an image's row: ImageRecord.place, which is the image itself where its boundary is the whole fleet."""
    return f"image-{hashlib.sha256(place.encode()).hexdigest()[:24]}"


# -- a machine's row


def columns_of(record: Record) -> dict[str, object]:
    """Flat columns; empty ones are left out."""
    wait = record.hold or (record.ending.trouble if record.ending else None)
    columns: dict[str, object] = {"v": VERSION, "limit": UNKNOWN_DURATION.total_seconds()}
    for part in (record, record.history, record.flight, record.ending, wait):
        columns |= _written(part) if part else {}
    return columns


def _written(part: Record | History | Flight | Ending | Wait) -> dict[str, object]:
    values = {_COLUMN_OF.get(item.name, item.name): getattr(part, item.name) for item in fields(part)}
    nested = (History, Flight, Ending, Wait)
    kept = {name: value for name, value in values.items() if not isinstance(value, nested)}
    return {name: _to_column(value) for name, value in kept.items() if value not in (None, "", ())}


def _to_column(value: object) -> object:
    if isinstance(value, str | MachineId):  # enumerations too
        return writable(str(value)[:_MAX_TEXT])
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return ",".join(str(_to_column(each)) for each in value)
    if isinstance(value, PatchAssessment):
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


def record_of_row(row: Row) -> Record:
    """The record of a machine's row. Raises LeftAlone."""
    try:
        check_version("a ledger row", row.columns)
        return _record(row)
    except LeftAlone as left_alone:
        with suppress(*UNREADABLE, LeftAlone):
            left_alone.record = _record(row)
        raise
    except UNREADABLE as error:
        raise unreadable("a ledger row", row, error) from None


def _record(row: Row) -> Record:
    read = _Columns(row.columns)
    kind = OperationKind(row.columns["kind"])
    machine = MachineId.parse(row.columns["machine"])
    if (row.partition, row.key) != place_of(machine):  # else the claim of one machine could reach another
        raise LeftAlone(Why.FOREIGN, f"a ledger row is of another machine ({_place(row)}); delete it")
    phase = Phase(row.columns["phase"])
    wait = _wait(read)
    return Record(
        machine=machine,
        phase=phase,
        kind=kind,
        token=read.text("token"),
        vm_id=read.text("vm_id"),
        image=read.text("image"),
        region=read.text("region"),
        due_at=_moment(row.columns["due_at"]),
        ring=_number(row.columns.get("ring", LAST_RING)),
        group=read.text("group"),
        boundary=read.text("boundary"),
        availability_set=read.text("availability_set"),
        created=read.time("created"),
        run=read.text("run"),
        sent=read.flag("sent"),
        checks=read.number("looks"),
        verdict=_assessment(row.columns.get("verdict")),
        history=_history(read, kind),
        flight=_flight(read),
        ending=_ending(read, wait if phase is Phase.ENDED and wait.reason else None),
        hold=wait if phase is Phase.HELD else None,
    )


def _history(read: "_Columns", kind: OperationKind) -> History:
    """An older app counted the failures of installations as attempts alone."""
    failures = "failures" if "failures" in read.columns or kind is OperationKind.ASSESS else "attempts"
    return History(
        unanswered=read.number("unanswered"),
        attempts=read.number("attempts"),
        failures=read.number(failures),
        failure=read.text("failure"),
        tries=read.times("tries"),
        void_before=read.time("void_before"),
    )


def _flight(read: "_Columns") -> Flight | None:
    begun_at, started_at, operation_id = read.time("begun_at"), read.time("started_at"), read.text("operation_id")
    if not (begun_at or started_at or operation_id):
        return None
    return Flight(
        begun_at=begun_at or started_at or _moment(read.columns["due_at"]),
        limit=_limit(read.columns["limit"]),
        known_operations=read.texts("known_operations"),
        os=read.text("os"),
        agent=read.text("agent"),
        operation_id=operation_id,
        operation_url=read.text("operation_url"),
        started_at=started_at,
        reboot_forbidden=read.flag("reboot_forbidden"),
    )


def _ending(read: "_Columns", trouble: Wait | None) -> Ending | None:
    at, outcome = read.time("ended_at"), read.text("outcome")
    if not (at or outcome):
        return None
    return Ending(
        outcome=outcome,
        at=at or _moment(read.columns["due_at"]),
        at_fault=read.flag("at_fault"),
        neutral=read.flag("neutral"),
        nothing_tried=read.flag("nothing_tried"),
        unwell_since=read.time("unwell_since"),
        trouble=trouble,
    )


def _wait(read: "_Columns") -> Wait:
    return Wait(
        state=_state(read.text("state")),
        reason=read.text("reason"),
        remedy=read.text("remedy"),
        when=read.time("not_before"),
        cause=Cause(read.columns.get("cause", Cause.TRANSIENT)),
    )


def _state(text: str) -> State:
    """The state of a hold: none means released; one that a later app wrote is a hold like any other."""
    if not text:
        return State.DUE
    return State(text) if text in set(State) else State.FAILED


def _assessment(text: Any) -> PatchAssessment | None:
    if not text:
        return None
    content = json.loads(text)
    if not all(map(is_count, content["counts"].values())):
        raise ValueError
    return PatchAssessment(
        state=SupportState(content["state"]),
        assessment_id=str(content["assessment_id"]),
        assessed=_time(content["assessed"]),
        status=str(content["status"]),
        counts=content["counts"],
        reboot_pending=content["reboot_pending"] is True,
    )


# -- an image's row


def image_columns(record: ImageRecord) -> dict[str, object]:
    """Flat columns; empty ones are left out."""
    rings = {
        str(ring): [tally.succeeded, tally.failed, tally.last.isoformat() if tally.last else ""]
        for ring, tally in record.rings.items()
    }
    opened = {str(ring): tally.opened.isoformat() for ring, tally in record.rings.items() if tally.opened}
    columns = {
        "v": VERSION,
        "image": record.image,
        "boundary": record.boundary,
        "opened": record.opened.isoformat() if record.opened else "",
        "canaries": record.canaries,
        "proved": record.proved.isoformat() if record.proved else "",
        "rings": json.dumps(rings),
        # A column of its own: an older app reads three values per ring.
        "rings_opened": json.dumps(opened) if opened else "",
        "ended": record.ended,
        "ended_by": record.ended_by,
        "ended_because": record.ended_because,
        "failures": ",".join(failure.at.isoformat() for failure in record.failures),
        "failed_machines": ",".join(failure.machine or _UNKNOWN for failure in record.failures),
        "took": ",".join(map(str, record.took)),
        "counted": ",".join(record.counted),
        "opening": record.opening,
        "opened_because": record.opened_because,
        "closed": record.closed,
        "closed_by": record.closed_by,
        "closed_because": record.closed_because,
        "closed_told": record.closed_told,
    }
    return {name: value for name, value in columns.items() if value != ""}


def image_of_row(row: Row) -> ImageRecord:
    """The record of an image's row. Raises LeftAlone."""
    try:
        check_version("an image's row", row.columns)
        return _image_record(row)
    except UNREADABLE as error:
        raise unreadable("an image's row", row, error) from None


def _image_record(row: Row) -> ImageRecord:
    read = _Columns(row.columns)
    image, boundary = str(row.columns["image"]), read.text("boundary")
    if row.key != image_key(place(image, boundary)):
        raise LeftAlone(Why.FOREIGN, f"an image's row is of another image ({_place(row)}); delete it")
    rings = json.loads(row.columns.get("rings", "{}"))
    rings_opened = json.loads(row.columns.get("rings_opened", "{}"))
    return ImageRecord(
        image=image,
        boundary=boundary,
        opened=read.time("opened"),
        canaries=read.number("canaries"),
        proved=read.time("proved"),
        ended=read.text("ended"),
        ended_by=read.text("ended_by"),
        ended_because=read.text("ended_because"),
        rings={
            _number(ring): Tally(_number(ok), _number(bad), _time(last), _time(rings_opened.get(ring)))
            for ring, (ok, bad, last) in rings.items()
        },
        failures=_failures(read.times("failures"), read.texts("failed_machines")),
        took=tuple(map(_number, read.texts("took"))),
        counted=read.texts("counted"),
        opening=read.text("opening"),
        opened_because=read.text("opened_because"),
        closed=read.text("closed"),
        closed_by=read.text("closed_by"),
        closed_because=read.text("closed_because"),
        closed_told=read.text("closed_told"),
    )


def _failures(times: tuple[datetime, ...], machines: tuple[str, ...]) -> tuple[Failure, ...]:
    """An older app writes times alone: then each may be of another machine."""
    if len(machines) != len(times):
        return tuple(map(Failure, times))
    return tuple(Failure(at, "" if name == _UNKNOWN else name) for at, name in zip(times, machines, strict=True))


# -- columns


@dataclass(frozen=True)
class _Columns:
    """The columns of a row, each read as what it should be; an absent one is empty. Raises one of UNREADABLE."""

    columns: Mapping[str, Any]

    def text(self, name: str) -> str:
        return str(self.columns.get(name, ""))

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(part for part in self.text(name).split(",") if part)

    def times(self, name: str) -> tuple[datetime, ...]:
        return tuple(map(_moment, self.texts(name)))

    def number(self, name: str) -> int:
        return _number(self.columns.get(name, 0))

    def flag(self, name: str) -> bool:
        return bool(self.columns.get(name, False))

    def time(self, name: str) -> datetime | None:
        return _time(self.columns.get(name))


def check_version(what: str, columns: Mapping[str, Any]) -> None:
    """Raises LeftAlone for a version that this app does not know."""
    if (version := _number(columns.get("v", 0))) > VERSION:
        raise LeftAlone(Why.NEWER, f"{what} has version {version}; this app knows {VERSION}")


def unreadable(what: str, row: Row, error: Exception) -> LeftAlone:
    """The LeftAlone of a row whose columns cannot be read."""
    text = f"{what} cannot be read ({_place(row)}): {type(error).__name__}; correct or delete it"
    return LeftAlone(Why.UNREADABLE, text)


def app_time(row: Row, column: str) -> datetime:
    """A time of one of the app's own rows. Raises LeftAlone."""
    try:
        check_version("a row of the app", row.columns)
        return _moment(row.columns[column])
    except UNREADABLE as error:
        raise unreadable("a row of the app", row, error) from None


def _place(row: Row) -> str:
    return f"PartitionKey {quoted(row.partition)}, RowKey {quoted(row.key)}"


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
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError
    return number


def _limit(value: Any) -> timedelta:
    limit = timedelta(seconds=float(value))
    if not timedelta(0) <= limit <= _MAX_LIMIT:
        raise ValueError
    return limit


# -- what a person, or a person's tool, wrote


def time_in(columns: Mapping[str, Any], name: str) -> datetime | None:
    """The time in a column, in UTC; None where there is none. Raises BadInput."""
    found = columns.get(name)
    if not found:
        return None
    right = "a time such as 2026-12-24T18:00:00Z is right"
    try:
        moment = found if isinstance(found, datetime) else datetime.fromisoformat(str(found))
    except ValueError:
        raise BadInput(f"{name} is {quoted(str(found), limit=40)}; {right}") from None
    if moment.tzinfo is None:
        raise BadInput(f"{name} has no time zone; {right}")
    return moment.astimezone(UTC)
