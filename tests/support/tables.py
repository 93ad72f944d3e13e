"""A table in memory, held to the same contract suite as Azure's (tests/contract/test_ledger.py)."""

from collections.abc import AsyncIterator

from functions.cloud.tables import Entity, Row


class MemoryTable:
    """The same moves in memory, for tests and plans."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self._version = 0

    async def get(self, partition: str, key: str) -> Row | None:
        return self.rows.get((partition, key))

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None:
        return None if (partition, key) in self.rows else self._put(partition, key, columns)

    async def replace(self, row: Row, columns: Entity) -> Row | None:
        if not self._current(row):
            return None
        return self._put(row.partition, row.key, columns)

    async def delete(self, row: Row) -> bool:
        if (row.partition, row.key) not in self.rows:
            return True
        current = self._current(row)
        if current:
            del self.rows[row.partition, row.key]
        return current

    async def scan(self, *, without: str) -> AsyncIterator[Row]:
        for row in list(self.rows.values()):
            if row.partition != without:
                yield row

    def _current(self, row: Row) -> bool:
        found = self.rows.get((row.partition, row.key))
        return found is not None and found.etag == row.etag

    def _put(self, partition: str, key: str, columns: Entity) -> Row:
        self._version += 1
        row = Row(partition, key, dict(columns), f'W/"{self._version}"')
        self.rows[partition, key] = row
        return row
