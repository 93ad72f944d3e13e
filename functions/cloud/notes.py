"""What was last reported of each machine, in few rows of the ledger: read in one query, written where it changed.

A bucket holds the machines whose ids share a checksum: one line of text for each, compressed, because ids repeat. A
column of the table holds 64 KiB, so a bucket takes as many columns as it needs.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sys import intern

from functions.cloud.ledger import APP
from functions.cloud.rows import UNREADABLE, VERSION, LeftAlone, check_version
from functions.cloud.tables import MAX_CHANGES, Insert, Replace, Row, Table
from functions.model.machine import MachineId, Provider
from functions.model.told import Note

PREFIX = "told-"
BUCKETS = 256
COLUMN_BYTES = 60_000
TRANSACTION_BYTES = 2_000_000  # Base64 makes a third more of them, and a transaction takes 4 MiB
FORGOTTEN_WEEKS = 2  # the daily census names every machine, so an older note is of one that is gone
_SEPARATOR = "\t"


@dataclass
class NoteBook:
    """The notes of all machines as one sweep knows them."""

    table: Table
    notes: dict[MachineId, Note] = field(default_factory=dict)
    _rows: dict[str, Row] = field(default_factory=dict)
    _newer: set[str] = field(default_factory=set)

    def load(self, rows: Iterable[Row]) -> None:
        """Reads the buckets among the app's rows. One that cannot be read is empty: its machines are reported again."""
        for row in rows:
            if not row.key.startswith(PREFIX):
                continue
            self._rows[row.key] = row
            try:
                check_version("a row of notes", row.columns)
                self.notes |= _unpacked(row.columns)
            except LeftAlone:
                self._newer.add(row.key)
            except (*UNREADABLE, zlib.error):
                continue

    def knows(self, machine: MachineId) -> bool:
        """False for a bucket that a newer release wrote: it is neither read nor written."""
        return bucket_of(machine) not in self._newer

    async def write(self, changed: Mapping[MachineId, Note | None], week: int) -> None:
        """Writes the buckets of these machines; None forgets one. Another writer's bucket stays as that one wrote it.

        `week`: this one. Notes that are FORGOTTEN_WEEKS old go with the next write of their bucket.
        """
        for machine, note in changed.items():
            if note:
                self.notes[machine] = note
            else:
                self.notes.pop(machine, None)
        wanted = sorted({bucket_of(machine) for machine in changed} - self._newer)
        kept: dict[str, dict[MachineId, Note]] = {bucket: {} for bucket in wanted}
        for machine, note in self.notes.items():
            if (bucket := bucket_of(machine)) in kept and note.week >= week - FORGOTTEN_WEEKS:
                kept[bucket][machine] = note
        for some in _in_transactions(self._change(bucket, kept[bucket]) for bucket in wanted):
            if not await self._put(some) and len(some) > 1:
                for change in some:
                    await self._put([change])

    def _change(self, bucket: str, notes: Mapping[MachineId, Note]) -> Insert | Replace:
        columns, row = _packed(notes), self._rows.get(bucket)
        return Replace(row, columns) if row else Insert(APP, bucket, columns)

    async def _put(self, changes: Sequence[Insert | Replace]) -> bool:
        """All or none of these buckets; False: another writer was first."""
        written = await self.table.transact(changes)
        self._rows |= {row.key: row for row in written or () if row}
        return written is not None


def _in_transactions(changes: Iterable[Insert | Replace]) -> Iterator[list[Insert | Replace]]:
    """The changes, in as few transactions as hold them."""
    some: list[Insert | Replace] = []
    size = 0
    for change in changes:
        length = sum(len(value) for value in change.columns.values() if isinstance(value, bytes))
        if some and (len(some) == MAX_CHANGES or size + length > TRANSACTION_BYTES):
            yield some
            some, size = [], 0
        some.append(change)
        size += length
    if some:
        yield some


def bucket_of(machine: MachineId) -> str:
    """RowKey of the bucket that holds a machine's note."""
    return f"{PREFIX}{zlib.crc32(str(machine).encode()) % BUCKETS:02x}"


def _packed(notes: Mapping[MachineId, Note]) -> dict[str, object]:
    lines = sorted(_SEPARATOR.join(_fields(machine, note)) for machine, note in notes.items())
    data = zlib.compress("\n".join(lines).encode())
    parts = [data[first : first + COLUMN_BYTES] for first in range(0, len(data), COLUMN_BYTES)]
    return {"v": VERSION, "parts": len(parts)} | {f"notes{number}": part for number, part in enumerate(parts)}


def _fields(machine: MachineId, note: Note) -> Iterable[str]:
    expected = f"{int(note.expected.timestamp()) // 60:x}" if note.expected else ""
    marks = "h" * note.in_hand + "n" * note.never + "a" * machine.is_arc
    return machine.subscription, machine.group, machine.name, note.state, note.digest, str(note.week), marks, expected


def _unpacked(columns: Mapping[str, object]) -> dict[MachineId, Note]:
    data = b"".join(_part(columns[f"notes{number}"]) for number in range(int(str(columns["parts"]))))
    return dict(map(_note, zlib.decompress(data).decode().splitlines()))


def _part(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise TypeError


def _note(line: str) -> tuple[MachineId, Note]:
    subscription, group, name, state, digest, week, marks, expected = line.split(_SEPARATOR)
    at = datetime.fromtimestamp(int(expected, 16) * 60, UTC) if expected else None
    provider = Provider.ARC if "a" in marks else Provider.AZURE
    # Each sweep holds the notes of the whole fleet: what many of them share is held once.
    machine = MachineId(intern(subscription), intern(group), name, provider)
    return machine, Note(intern(state), intern(digest), int(week), "h" in marks, at, "n" in marks)
