"""The four moves of the ledger on one row, over TLS: by the app, and by raw aiohttp against the same tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from benchmarks.programs import cpu_seconds, tell
from benchmarks.programs.connected import SETTINGS, raw, real_time
from functions.cloud.ledger import Ledger, Stored
from functions.cloud.rows import columns_of, place_of
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.model.record import Record
from functions.model.state import Phase
from functions.policy.settings import read_settings
from simulator import identity
from tests.support import NOW, OPERATION, OPERATION_URL, a_record, machine_id

Move = Callable[[int], Awaitable[None]]
_HEADERS = {
    "Accept": "application/json;odata=minimalmetadata",
    "DataServiceVersion": "3.0",
    "x-ms-version": "2019-02-02",
    "Prefer": "return-no-content",
}


def ours(storage: Mapping[str, str], rows: int) -> None:
    """Tells the CPU of each move, in seconds for all rows, and their sum as `cpu`."""
    asyncio.run(_ours(storage, rows))


def reference(table_url: str, rows: int) -> None:
    asyncio.run(_reference(table_url, rows))


def _record(number: int) -> Record:
    return a_record(machine=machine_id(f"vm-{number}"))


def _running(number: int) -> Record:
    return a_record(
        machine=machine_id(f"vm-{number}"),
        phase=Phase.RUNNING,
        operation_id=OPERATION,
        operation_url=OPERATION_URL,
        started_at=NOW,
    )


async def _ours(storage: Mapping[str, str], rows: int) -> None:
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith("AzureWebJobs")}
    access = Session(read_settings({**settings, **storage}), real_time, credential=identity.StaticCredential())
    ledger = Ledger(StorageTable(access))
    held: dict[int, Stored] = {}

    async def insert(number: int) -> None:
        held[number] = _there(await ledger.insert(_record(number)))

    async def replace_row(number: int) -> None:
        held[number] = _there(await ledger.replace(held[number], _running(number)))

    async def get(number: int) -> None:
        held[number] = _there(await ledger.read(machine_id(f"vm-{number}")))

    async def delete(number: int) -> None:
        assert await ledger.delete(held[number])

    await _measured({"insert": insert, "replace": replace_row, "get": get, "delete": delete}, rows)
    await access.close()


def _there(stored: Stored | None) -> Stored:
    assert stored is not None
    return stored


async def _reference(table_url: str, rows: int) -> None:
    server, _, account = table_url.rpartition("/")
    etags: dict[int, str] = {}
    async with raw(server, identity.STORAGE) as client:

        def url(number: int) -> str:
            partition, key = place_of(machine_id(f"vm-{number}"))
            return f"/{account}/ledger(PartitionKey='{partition}',RowKey='{key}')"

        def body(record: Record) -> Mapping[str, object]:
            partition, key = place_of(record.machine)
            return {**columns_of(record), "PartitionKey": partition, "RowKey": key}

        async def send(method: str, path: str, number: int, *, json: object = None) -> None:
            condition = {"If-Match": etags[number]} if number in etags and method != "GET" else {}
            async with client.request(method, path, json=json, headers=_HEADERS | condition) as answer:
                assert answer.status < 300, await answer.text()
                if method == "GET":
                    await answer.json(content_type=None)
                else:
                    await answer.read()
                etags[number] = answer.headers.get("ETag", "")

        await _measured(
            {
                "insert": lambda number: send("POST", f"/{account}/ledger", number, json=body(_record(number))),
                "replace": lambda number: send("PUT", url(number), number, json=body(_running(number))),
                "get": lambda number: send("GET", url(number), number),
                "delete": lambda number: send("DELETE", url(number), number),
            },
            rows,
        )


async def _measured(moves: Mapping[str, Move], rows: int) -> None:
    """One row first, for imports and connections, then all rows of each move, one after the other."""
    for move in moves.values():
        await move(-1)
    taken = {}
    for name, move in moves.items():
        began = cpu_seconds()
        for number in range(rows):
            await move(number)
        taken[name] = cpu_seconds() - began
    tell(**taken, cpu=sum(taken.values()))
