"""Rows under an ETag: the conditional operations of the table that holds the ledger.

Azure Table Storage and the tests' table in memory are held to one contract suite (tests/contract/test_ledger.py).
Nothing here knows what a row means.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from functions.cloud.errors import Gone, Refused, Unavailable
from functions.cloud.session import Session

if TYPE_CHECKING:
    from azure.core import AsyncPipelineClient
    from azure.core.exceptions import HttpResponseError
    from azure.core.rest import AsyncHttpResponse, HttpRequest
    from azure.data.tables.aio import TableClient

TABLE = "ledger"
Entity = Mapping[str, Any]
Operation = tuple[str, Entity] | tuple[str, Entity, Mapping[str, object]]  # what to do, and under which condition
_HEADERS = {
    "Accept": "application/json;odata=minimalmetadata",
    "DataServiceVersion": "3.0",
    "Prefer": "return-no-content",
    "x-ms-version": "2019-02-02",
}
_NEXT, _CONTINUATION = ("NextPartitionKey", "NextRowKey"), "x-ms-continuation-"
_TYPE, _INT32 = "@odata.type", 2**31
_OF_THE_SERVICE = ("PartitionKey", "RowKey", "Timestamp")
_READERS: Mapping[str, Callable[[Any], object]] = {
    "Edm.Binary": b64decode,
    "Edm.DateTime": datetime.fromisoformat,
    "Edm.Double": float,
    "Edm.Int64": int,
}
# Codes of a token that is not taken: a newer one may be. The first comes with 403.
_NOT_AUTHENTICATED = ("AuthenticationFailed", "InvalidAuthenticationInfo")


@dataclass(frozen=True)
class Row:
    """One row as read: its keys, its columns, and the ETag that a later write must present."""

    partition: str
    key: str
    columns: Entity
    etag: str


@dataclass(frozen=True)
class Part:
    """The first rows of a range, in the order of their keys, with some columns: to be read, never to be written.

    `whole`: there are no more.
    """

    rows: Sequence[Row]
    whole: bool


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
    """The row is overwritten."""

    columns: Entity


@dataclass(frozen=True)
class Delete(_OfRow):
    """It goes."""


Change = Insert | Replace | Delete
# Of an entity group transaction: 100 entities of one partition, each once, in 4 MiB (learn.microsoft.com, Performing
# entity group transactions).
MAX_CHANGES = 100


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
        """All of these writes or none: up to MAX_CHANGES rows of one partition, each once.

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

    async def part(self, partition: str, first: str, end: str, *, columns: Sequence[str], most: int) -> Part:
        """The first rows of one partition from the key `first` to before `end`, with these columns: one request.

        Never `most` of them or more than the service puts into one answer: then there may be more.
        """
        ...


class _ConditionFailed(Exception):
    """The row is not as the write required it to be."""


class StorageTable:
    """The table `ledger` in the storage account of the Functions host. Raises the exceptions of cloud/errors.py."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pipeline: AsyncPipelineClient[HttpRequest, AsyncHttpResponse] | None = None
        self._client: TableClient | None = None

    async def get(self, partition: str, key: str) -> Row | None:
        try:
            async with self._session.call("reading the ledger"):
                return _row((await self._send("GET", _path(partition, key))).json())
        except Gone:
            return None

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None:
        try:
            async with self._conditional_write():
                etag = await self._write("POST", TABLE, _entity(partition, key, columns))
        except _ConditionFailed:
            return None
        except Gone:  # an insert needs no row, so what does not exist is the table
            raise Unavailable(f"writing the ledger: the table {TABLE} does not exist") from None
        return Row(partition, key, dict(columns), etag)

    async def replace(self, row: Row, columns: Entity) -> Row | None:
        try:
            async with self._conditional_write():
                entity = _entity(row.partition, row.key, columns)
                etag = await self._write("PUT", _path(row.partition, row.key), entity, etag=row.etag)
        except (_ConditionFailed, Gone):
            return None
        return Row(row.partition, row.key, dict(columns), etag)

    async def delete(self, row: Row) -> bool:
        try:
            async with self._conditional_write():
                await self._write("DELETE", _path(row.partition, row.key), etag=row.etag)
        except _ConditionFailed:
            return False
        except Gone:
            return True
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

    def scan(self) -> AsyncIterator[Row]:
        return self._rows({})

    def keys(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        return self._rows({"$filter": _range(partition, prefix, f"{prefix}~")})

    async def part(self, partition: str, first: str, end: str, *, columns: Sequence[str], most: int) -> Part:
        selected = ",".join(("PartitionKey", "RowKey", *columns))
        query = {"$filter": _range(partition, first, end), "$select": selected, "$top": str(most)}
        rows, following = await self._page(query, _some_of_row)
        return Part(rows, whole=not following and len(rows) < most)

    async def _rows(self, query: dict[str, str]) -> AsyncIterator[Row]:
        """The rows of all pages."""
        page: dict[str, str] | None = {}
        while page is not None:
            rows, page = await self._page(query | page, _row)
            for row in rows:
                yield row

    async def _page(
        self, query: dict[str, str], read: Callable[[Entity], Row]
    ) -> tuple[list[Row], dict[str, str] | None]:
        """One page, which names its next one in headers."""
        async with self._session.call("reading the ledger"):
            answer = await self._send("GET", f"{TABLE}()", params=query)
            rows = [read(entity) for entity in answer.json()["value"]]
        following = {name: answer.headers.get(f"{_CONTINUATION}{name}") for name in _NEXT}
        return rows, {name: quote(key) for name, key in following.items() if key} or None

    async def _write(self, method: str, path: str, entity: Entity | None = None, *, etag: str = "") -> str:
        """Sends one conditional write, once. Returns the ETag of the new row; "" of a deletion."""
        headers = {"If-Match": etag} if etag else {}
        answer = await self._send(method, path, headers=headers, json=entity and _encoded(entity))
        return answer.headers.get("etag") or ""

    async def _send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **rest: Any
    ) -> AsyncHttpResponse:
        """One request about rows; a write is sent once. Raises azure-core's exceptions.

        Past the methods of TableClient, and past its policies: they validate, copy and convert each column several
        times, which takes as long as the rest of a move. Transactions go through them.
        """
        from azure.core.rest import HttpRequest

        sent = _HEADERS | {"x-ms-date": formatdate(usegmt=True)} | dict(headers or {})
        url = f"{self._session.settings.table_endpoint.rstrip('/')}/{path}"
        options: dict[str, Any] = {} if method == "GET" else {"retry_total": 0}
        answer = await self._connected().send_request(HttpRequest(method, url, headers=sent, **rest), **options)
        if answer.status_code >= 300:
            raise _refusal(answer)
        return answer

    def _connected(self) -> AsyncPipelineClient[HttpRequest, AsyncHttpResponse]:
        if self._pipeline is None:
            from azure.core import AsyncPipelineClient

            endpoint, session = self._session.settings.table_endpoint, self._session
            self._pipeline = AsyncPipelineClient(endpoint, policies=session.row_policies(), transport=session.transport)
        return self._pipeline

    @asynccontextmanager
    async def _conditional_write(self) -> AsyncIterator[None]:
        """Surrounds one conditional write. Raises _ConditionFailed and the exceptions of cloud/errors.py.

        Nothing may repeat the write (retry_total=0): after a lost answer it would mistake its own write for
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


def _operation(change: Change) -> Operation:
    """A change as the SDK takes it."""
    from azure.core import MatchConditions
    from azure.data.tables import UpdateMode

    if isinstance(change, Insert):
        return "create", _entity(change.partition, change.key, change.columns)
    unchanged = {"etag": change.row.etag, "match_condition": MatchConditions.IfNotModified}
    if isinstance(change, Delete):
        return "delete", _entity(change.partition, change.key, {}), unchanged
    return "update", _entity(change.partition, change.key, change.columns), {"mode": UpdateMode.REPLACE, **unchanged}


def _entity(partition: str, key: str, columns: Entity) -> dict[str, object]:
    return {**columns, "PartitionKey": partition, "RowKey": key}


# -- rows as the service writes them (learn.microsoft.com, Payload format for Table service operations)


def _path(partition: str, key: str) -> str:
    return f"{TABLE}(PartitionKey={quote(_literal(partition))},RowKey={quote(_literal(key))})"


def _range(partition: str, first: str, end: str) -> str:
    """A filter for the keys of one partition from `first` to before `end`."""
    within = (f"PartitionKey eq {_literal(partition)}", f"RowKey ge {_literal(first)}", f"RowKey lt {_literal(end)}")
    return quote(" and ".join(within))


def _literal(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _encoded(entity: Entity) -> dict[str, object]:
    """Its JSON. A value that would not be read as what it is has its type beside it."""
    found: dict[str, object] = {}
    for name, value in entity.items():
        if isinstance(value, bytes):
            found[f"{name}{_TYPE}"], value = "Edm.Binary", b64encode(value).decode()
        elif isinstance(value, datetime):
            found[f"{name}{_TYPE}"], value = "Edm.DateTime", value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        elif isinstance(value, float):
            found[f"{name}{_TYPE}"] = "Edm.Double"
        elif isinstance(value, int) and not -_INT32 <= value < _INT32:
            found[f"{name}{_TYPE}"], value = "Edm.Int64", str(value)
        found[name] = value
    return found


def _row(entity: Entity) -> Row:
    types = {name.removesuffix(_TYPE): value for name, value in entity.items() if name.endswith(_TYPE)}
    columns = {
        name: _READERS[types[name]](value) if types.get(name) in _READERS else value
        for name, value in entity.items()
        if name not in _OF_THE_SERVICE and not name.endswith(_TYPE) and not name.startswith("odata.")
    }
    return Row(entity["PartitionKey"], entity["RowKey"], columns, entity["odata.etag"])


def _some_of_row(entity: Entity) -> Row:
    """A row of which columns were selected: one that it lacks may be null, and its ETag may be missing."""
    return _row({"odata.etag": "", **{name: value for name, value in entity.items() if value is not None}})


def _refusal(answer: AsyncHttpResponse) -> HttpResponseError:
    """An answer that is none, as the SDK's own methods raise it. A redirect could lead our token to another host."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    code = answer.headers.get("x-ms-error-code") or ""
    with suppress(ValueError, TypeError, KeyError):
        code = code or str(answer.json()["odata.error"]["code"])
    kind = ClientAuthenticationError if code in _NOT_AUTHENTICATED else HttpResponseError
    error = kind(response=answer)
    setattr(error, "error_code", code)  # noqa: B010 - where cloud/translation.py finds that of the storage SDKs
    return error
