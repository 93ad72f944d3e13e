"""The ledger's table in memory: the one double of Azure Table Storage, held to the contract suite of the real one
(tests/contract/test_ledger.py).

A test may let something happen around each operation: the process dies, the service fails, time passes.
"""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from functions.cloud.errors import CloudError
from functions.cloud.tables import MAX_CHANGES, Change, Delete, Entity, Insert, Part, Row
from tests.support.process import Killed, Side

T = TypeVar("T")


@dataclass(frozen=True)
class TableCall:
    """One operation: the columns that it writes, and the row that its caller has read; of a transaction its first."""

    operation: Literal["get", "insert", "replace", "delete", "transact", "scan", "keys", "part"]
    columns: Entity = field(default_factory=dict)
    row: Row | None = None


Hook = Callable[[TableCall], Awaitable[None]]


async def _nothing(call: TableCall) -> None: ...


def _of(row: Row, columns: Sequence[str]) -> Entity:
    return {name: row.columns[name] for name in columns if name in row.columns}


@dataclass
class MemoryTable:
    """Rows under an ETag.

    `before` runs ahead of each operation, `after` once it has taken effect; the caller sees what they raise. While
    `outage` is set, each operation raises it. `calls` counts the operations by name.
    """

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    before: Hook = _nothing
    after: Hook = _nothing
    outage: CloudError | None = None
    calls: Counter[str] = field(default_factory=Counter)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def get(self, partition: str, key: str) -> Row | None:
        return await self._call(TableCall("get"), lambda: self.rows.get((partition, key)))

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None:
        def insert() -> Row | None:
            return None if (partition, key) in self.rows else self.put(partition, key, columns)

        return await self._call(TableCall("insert", columns), insert)

    async def replace(self, row: Row, columns: Entity) -> Row | None:
        def replace_row() -> Row | None:
            return self.put(row.partition, row.key, columns) if self._is_current(row) else None

        return await self._call(TableCall("replace", columns, row), replace_row)

    async def delete(self, row: Row) -> bool:
        def delete() -> bool:
            if self._is_current(row):
                del self.rows[row.partition, row.key]
            return (row.partition, row.key) not in self.rows

        return await self._call(TableCall("delete", row=row), delete)

    async def transact(self, changes: Sequence[Change]) -> Sequence[Row | None] | None:
        places = {(change.partition, change.key) for change in changes}
        assert len(places) == len(changes) <= MAX_CHANGES, "each row once, and so many of them"
        assert len({change.partition for change in changes}) == 1, "rows of one partition"

        def transact() -> Sequence[Row | None] | None:
            return [self._make(change) for change in changes] if all(map(self._may_be_made, changes)) else None

        first = changes[0]
        columns = {} if isinstance(first, Delete) else first.columns
        return await self._call(TableCall("transact", columns, getattr(first, "row", None)), transact)

    def _may_be_made(self, change: Change) -> bool:
        if isinstance(change, Insert):
            return (change.partition, change.key) not in self.rows
        return self._is_current(change.row)

    def _make(self, change: Change) -> Row | None:
        if isinstance(change, Delete):
            del self.rows[change.partition, change.key]
            return None
        return self.put(change.partition, change.key, change.columns)

    async def scan(self) -> AsyncIterator[Row]:
        for row in await self._call(TableCall("scan"), lambda: list(self.rows.values())):
            yield row

    async def keys(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        def keys() -> list[Row]:
            return [row for (held, key), row in self.rows.items() if held == partition and key.startswith(prefix)]

        for row in await self._call(TableCall("keys"), keys):
            yield row

    async def part(self, partition: str, first: str, end: str, *, columns: Sequence[str], most: int) -> Part:
        def part() -> Part:
            places = sorted(place for place in self.rows if place[0] == partition and first <= place[1] < end)
            rows = [self.rows[place] for place in places[:most]]
            some = [replace(row, columns=_of(row, columns)) for row in rows]
            return Part(some, whole=len(some) < most)

        return await self._call(TableCall("part"), part)

    def put(self, partition: str, key: str, columns: Entity) -> Row:
        """Writes a row whatever was there, as a person with a storage browser does."""
        row = Row(partition, key, dict(columns), f'W/"{next(self._versions)}"')
        self.rows[partition, key] = row
        return row

    def through(self, before: Hook, after: Hook) -> "MemoryTable":
        """The same rows, reached by a process with hooks of its own."""
        return replace(self, before=before, after=after)

    def kill_once(self, side: Side, at: Callable[[TableCall], object]) -> None:
        """The process dies before or after the first operation for which `at` is true."""

        async def die(call: TableCall) -> None:
            if at(call):
                setattr(self, side, _nothing)
                raise Killed

        setattr(self, side, die)

    async def _call(self, call: TableCall, act: Callable[[], T]) -> T:
        if self.outage:
            raise self.outage
        self.calls[call.operation] += 1
        await self.before(call)
        done = act()
        await self.after(call)
        return done

    def _is_current(self, row: Row) -> bool:
        found = self.rows.get((row.partition, row.key))
        return found is not None and found.etag == row.etag
