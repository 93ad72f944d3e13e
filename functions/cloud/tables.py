"""Rows under an ETag: the conditional operations of a table that the ledger rests on.

The ones in Azure Table Storage and the tests' own in memory are held to one contract suite
(tests/contract/test_ledger.py). Nothing here knows what a row means.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from functions.cloud.errors import Gone, Refused, Unavailable
from functions.cloud.session import Session

TABLE = "ledger"


Entity = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One row as read: its keys, its columns, and the ETag that a later move must present."""

    partition: str
    key: str
    columns: Entity
    etag: str


class Table(Protocol):
    """A move returns the new row, or None when somebody else was faster: absent, present or changed since."""

    async def get(self, partition: str, key: str) -> Row | None: ...

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None: ...

    async def replace(self, row: Row, columns: Entity) -> Row | None: ...

    async def delete(self, row: Row) -> bool:
        """Whether the row is gone now: True also when somebody else deleted it before."""
        ...

    def scan(self, *, without: str) -> AsyncIterator[Row]:
        """Every row whose partition is not `without`."""
        ...


class StorageTable:
    """The table `ledger` in the storage account of the Functions host."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = None

    async def get(self, partition: str, key: str) -> Row | None:
        try:
            async with self._session.call("reading the ledger"):
                entity = await self._table().get_entity(partition, key)
        except Gone:
            return None
        return _row(entity)

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None:
        try:
            metadata = await self._move("create_entity", _entity(partition, key, columns))
        except Gone:  # an insert needs no row: the table itself is missing, and nobody was faster
            raise Unavailable(f"writing the ledger: the table {TABLE} does not exist") from None
        return metadata and Row(partition, key, dict(columns), metadata["etag"])

    async def replace(self, row: Row, columns: Entity) -> Row | None:
        from azure.core import MatchConditions
        from azure.data.tables import UpdateMode

        metadata = await self._move_existing(
            "update_entity",
            _entity(row.partition, row.key, columns),
            mode=UpdateMode.REPLACE,
            etag=row.etag,
            match_condition=MatchConditions.IfNotModified,
        )
        return metadata and Row(row.partition, row.key, dict(columns), metadata["etag"])

    async def delete(self, row: Row) -> bool:
        from azure.core import MatchConditions

        done = await self._move_existing(
            "delete_entity", row.partition, row.key, etag=row.etag, match_condition=MatchConditions.IfNotModified
        )
        return done is not None

    async def scan(self, *, without: str) -> AsyncIterator[Row]:
        pages = self._table().query_entities("PartitionKey ne @without", parameters={"without": without}).by_page()
        while True:
            async with self._session.call("reading the ledger"):
                page = await anext(pages, None)
                entities = [entity async for entity in page] if page is not None else None
            if entities is None:
                return
            for entity in entities:
                yield _row(entity)

    async def _move(self, name: str, *arguments: Any, **options: Any) -> Any:
        """One conditional write: None when the condition failed, a mapping otherwise.

        Never repeated by the SDK: after a lost answer a repetition would take its own row for somebody else's.
        """
        try:
            async with self._session.call("writing the ledger"):
                return await getattr(self._table(), name)(*arguments, retry_total=0, **options) or {}
        except Refused as refused:
            if refused.status in (409, 412):
                return None
            raise

    async def _move_existing(self, name: str, *arguments: Any, **options: Any) -> Any:
        """A move on a row that may be gone by now: None then too."""
        try:
            return await self._move(name, *arguments, **options)
        except Gone:
            return None

    def _table(self) -> Any:
        if self._client is None:
            from azure.data.tables.aio import TableClient

            self._client = TableClient(self._session.settings.table_endpoint, TABLE, **self._session.storage_options())
        return self._client


def _entity(partition: str, key: str, columns: Entity) -> dict[str, Any]:
    return {**columns, "PartitionKey": partition, "RowKey": key}


def _row(entity: Any) -> Row:
    columns = {name: value for name, value in entity.items() if name not in ("PartitionKey", "RowKey")}
    return Row(entity["PartitionKey"], entity["RowKey"], columns, entity.metadata["etag"])
