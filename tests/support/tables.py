"""The ledger's table in memory: the one double of Azure Table Storage, held to the contract suite of the real one
(tests/contract/test_ledger.py).

A test may let something happen around each operation: the process dies, the service fails, time passes.
"""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from functions.cloud.errors import CloudError
from functions.cloud.tables import Entity, Row
from tests.support.process import Killed, Side

T = TypeVar("T")


@dataclass(frozen=True)
class TableCall:
    """One operation: the columns that it writes, and the row that its caller has read."""

    operation: Literal["get", "insert", "replace", "delete", "scan", "keys"]
    columns: Entity = field(default_factory=dict)
    row: Row | None = None


Hook = Callable[[TableCall], Awaitable[None]]


async def _nothing(call: TableCall) -> None: ...


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

    async def scan(self) -> AsyncIterator[Row]:
        for row in await self._call(TableCall("scan"), lambda: list(self.rows.values())):
            yield row

    async def keys(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        found = await self._call(TableCall("keys"), lambda: list(self.rows.values()))
        for row in found:
            if row.partition == partition and row.key.startswith(prefix):
                yield row

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
