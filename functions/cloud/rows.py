"""How a record becomes a row of the table and a row a record again: flat columns that a person can read.

Rows carry a version; a newer one than this app knows is never written, only reported, so that going back to an older
app is safe.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from functions.cloud.tables import Row
from functions.model.image_record import ImageRecord, Tally
from functions.model.machine import LAST_RING, MachineId, PatchAssessment, SupportState, is_count
from functions.model.record import Record
from functions.model.state import Cause, OperationKind, Phase
from functions.model.text import quoted

VERSION = 1


_MAX_TEXT = 8_000  # characters; a column of the table holds 32,768, and one too long would fail the whole move


_MAX_NUMBER = 2**31 - 1


_MAX_LIMIT = timedelta(days=400)


# What reading a column raises that holds something else than this module wrote.
UNREADABLE = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


class LeftAlone(Exception):
    """A row to leave alone: of a version this app does not know, or not one of its own at all.

    `record` is what this app understands of it, to count the slot it may hold and for nothing else.
    """

    record: Record | None = None
    place: tuple[str, str] = ("", "")  # its PartitionKey and RowKey, when it is one of many


def row_key(machine: MachineId) -> str:
    """A key without the characters that table keys forbid, the same for every spelling of the id."""
    return hashlib.sha256(str(machine).encode()).hexdigest()[:40]


def place_of(machine: MachineId) -> tuple[str, str]:
    """PartitionKey and RowKey of its row."""
    return machine.subscription, row_key(machine)


def image_key(image: str) -> str:
    return f"image-{hashlib.sha256(image.encode()).hexdigest()[:24]}"


def image_columns(record: ImageRecord) -> dict[str, Any]:
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


def image_of_row(row: Row) -> ImageRecord:
    try:
        return _read_image(row)
    except UNREADABLE as error:
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


def columns_of(record: Record) -> dict[str, Any]:
    """Flat columns that a person can read in a storage explorer; empty ones are left out."""
    columns: dict[str, Any] = {"v": VERSION}
    for item in fields(record):
        value = getattr(record, item.name)
        if value not in (None, "", ()):
            columns[item.name] = _to_column(value)
    return columns


def _to_column(value: object) -> Any:
    if isinstance(value, str | MachineId):  # enumerations too
        return str(value)[:_MAX_TEXT]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return ",".join(value)
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
    try:
        _check_version("a ledger row", row.columns)
        return _read(row)
    except LeftAlone as newer:
        with suppress(*UNREADABLE):
            newer.record = _read(row)
        raise
    except UNREADABLE as error:
        raise _unreadable("a ledger row", row, error) from None


def _unreadable(what: str, row: Row, error: Exception) -> LeftAlone:
    place = f"PartitionKey {quoted(row.partition)}, RowKey {quoted(row.key)}"
    return LeftAlone(f"{what} cannot be read ({place}): {type(error).__name__}; correct or delete it")


def _check_version(what: str, columns: Mapping[str, Any]) -> None:
    if (version := _number(columns.get("v", 0))) > VERSION:
        raise LeftAlone(f"{what} has version {version}; this app knows {VERSION}")


def app_time(row: Row, column: str) -> datetime:
    """A time of one of the app's own rows. Raises NewerRow."""
    try:
        _check_version("a row of the app", row.columns)
        return _moment(row.columns[column])
    except UNREADABLE as error:
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
        kind=OperationKind(columns["kind"]),
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
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError
    return number


def _limit(value: Any) -> timedelta:
    limit = timedelta(seconds=float(value))
    if not timedelta(0) <= limit <= _MAX_LIMIT:
        raise ValueError
    return limit


def _verdict(text: Any) -> PatchAssessment | None:
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
