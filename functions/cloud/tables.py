"""Rows under an ETag: the conditional operations of the table that holds the ledger.

Azure Table Storage and the tests' table in memory are held to one contract suite (tests/contract/test_ledger.py).
Nothing here knows what a row means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from functions.cloud.errors import Gone, Refused, Unavailable
from functions.cloud.session import Session

if TYPE_CHECKING:
    from azure.data.tables import TableEntity
    from azure.data.tables.aio import TableClient

TABLE = "ledger"
Entity = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One row as read: its keys, its columns, and the ETag that a later write must present."""

    partition: str
    key: str
    columns: Entity
    etag: str


@dataclass(frozen=True)
class Insert:
    """One write of a transaction: a row that must not exist."""

    partition: str
    key: str
    columns: Entity


@dataclass(frozen=True)
class _OfRow:
    """One write of a transaction: a row that must be as it was read."""

    row: Row

    @property
    def partition(self) -> str:
        return self.row.partition

    @property
    def key(self) -> str:
        return self.row.key


@dataclass(frozen=True)
class Replace(_OfRow):
    """It is written anew."""

    columns: Entity


@dataclass(frozen=True)
class Delete(_OfRow):
    """It goes."""


Change = Insert | Replace | Delete
# Of an entity group transaction: 100 entities of one partition, each once, in 4 MiB (learn.microsoft.com, Performing
# entity group transactions).
MOST_CHANGES = 100


class Table(Protocol):
    """A write returns the new row, or None when its condition failed: another writer was first."""

    async def get(self, partition: str, key: str) -> Row | None: ...

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None:
        """None when the row exists."""
        ...

    async def replace(self, row: Row, columns: Entity) -> Row | None:
        """None when the row changed since it was read, or no longer exists."""
        ...

    async def delete(self, row: Row) -> bool:
        """Whether the row is gone now, also when another writer deleted it; False when it changed since it was read."""
        ...

    async def transact(self, changes: Sequence[Change]) -> Sequence[Row | None] | None:
        """All of these writes or none: up to MOST_CHANGES rows of one partition, each once.

        The new row of each, None of a deletion. None in place of all when the condition of one failed; unlike delete()
        it takes a row that is gone for such a failure.
        """
        ...

    def scan(self) -> AsyncIterator[Row]:
        """Every row."""
        ...

    def keys(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        """The rows of one partition whose key begins with `prefix`, in one query."""
        ...


class _ConditionFailed(Exception):
    """The row is not as the write required it to be."""


class StorageTable:
    """The table `ledger` in the storage account of the Functions host. Raises the exceptions of cloud/errors.py."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: TableClient | None = None

    async def get(self, partition: str, key: str) -> Row | None:
        try:
            async with self._session.call("reading the ledger"):
                entity = await self._table().get_entity(partition, key)
        except Gone:
            return None
        return _row(entity)

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None:
        try:
            async with self._conditional_write():
                written = await self._table().create_entity(_entity(partition, key, columns), retry_total=0)
        except _ConditionFailed:
            return None
        except Gone:  # an insert needs no row, so what does not exist is the table
            raise Unavailable(f"writing the ledger: the table {TABLE} does not exist") from None
        return Row(partition, key, dict(columns), written["etag"])

    async def replace(self, row: Row, columns: Entity) -> Row | None:
        from azure.core import MatchConditions
        from azure.data.tables import UpdateMode

        try:
            async with self._conditional_write():
                written = await self._table().update_entity(
                    _entity(row.partition, row.key, columns),
                    UpdateMode.REPLACE,
                    etag=row.etag,
                    match_condition=MatchConditions.IfNotModified,
                    retry_total=0,
                )
        except (_ConditionFailed, Gone):
            return None
        return Row(row.partition, row.key, dict(columns), written["etag"])

    async def delete(self, row: Row) -> bool:
        from azure.core import MatchConditions

        try:
            async with self._conditional_write():
                await self._table().delete_entity(  # returns without an error when the row does not exist
                    row.partition,
                    row.key,
                    etag=row.etag,
                    match_condition=MatchConditions.IfNotModified,
                    retry_total=0,
                )
        except _ConditionFailed:
            return False
        return True

    async def transact(self, changes: Sequence[Change]) -> Sequence[Row | None] | None:
        try:
            async with self._conditional_write():
                written = await self._table().submit_transaction(map(_operation, changes), retry_total=0)
        except _ConditionFailed:
            return None
        except Gone:
            if all(isinstance(change, Insert) for change in changes):
                raise Unavailable(f"writing the ledger: the table {TABLE} does not exist") from None
            return None
        return [
            None
            if isinstance(change, Delete)
            else Row(change.partition, change.key, dict(change.columns), part["etag"])
            for change, part in zip(changes, written, strict=True)
        ]

    async def scan(self) -> AsyncIterator[Row]:
        async for row in self._rows(self._table().list_entities().by_page()):
            yield row

    async def keys(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        within = "PartitionKey eq @partition and RowKey ge @prefix and RowKey lt @end"
        values = {"partition": partition, "prefix": prefix, "end": f"{prefix}~"}
        async for row in self._rows(self._table().query_entities(within, parameters=values).by_page()):
            yield row

    async def _rows(self, pages: AsyncIterator[Any]) -> AsyncIterator[Row]:
        while True:
            async with self._session.call("reading the ledger"):
                page = await anext(pages, None)
                entities = [entity async for entity in page] if page is not None else None
            if entities is None:
                return
            for entity in entities:
                yield _row(entity)

    @asynccontextmanager
    async def _conditional_write(self) -> AsyncIterator[None]:
        """Surrounds one conditional write. Raises _ConditionFailed and the exceptions of cloud/errors.py.

        The SDK must not repeat the write (retry_total=0): after a lost answer it would mistake its own write for
        another writer's.
        """
        try:
            async with self._session.call("writing the ledger"):
                yield
        except Refused as refused:
            if refused.status in (409, 412):
                raise _ConditionFailed from None
            raise

    def _table(self) -> TableClient:
        if self._client is None:
            from azure.data.tables.aio import TableClient

            self._client = TableClient(self._session.settings.table_endpoint, TABLE, **self._session.storage_options())
        return self._client


def _operation(change: Change) -> Any:
    """A change as the SDK takes it."""
    from azure.core import MatchConditions
    from azure.data.tables import UpdateMode

    if isinstance(change, Insert):
        return "create", _entity(change.partition, change.key, change.columns)
    unchanged = {"etag": change.row.etag, "match_condition": MatchConditions.IfNotModified}
    if isinstance(change, Delete):
        return "delete", _entity(change.partition, change.key, {}), unchanged
    return "update", _entity(change.partition, change.key, change.columns), {"mode": UpdateMode.REPLACE, **unchanged}


def _entity(partition: str, key: str, columns: Entity) -> dict[str, Any]:
    return {**columns, "PartitionKey": partition, "RowKey": key}


def _row(entity: TableEntity) -> Row:
    columns = {name: value for name, value in entity.items() if name not in ("PartitionKey", "RowKey")}
    etag = entity.metadata["etag"] or ""  # always sent; the SDK refuses a conditional write without one
    return Row(entity["PartitionKey"], entity["RowKey"], columns, etag)
