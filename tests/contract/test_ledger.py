"""One suite for the ledger's table, in memory and in Azure Table Storage (Azurite): the same moves, the same answers.

First the table's moves under an ETag, then the ledger on top of it, in both; last, what only the stored form can show:
a record comes back as it was written, and a table that is missing is an error and no lost race.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient
from hypothesis import given
from hypothesis import strategies as st

from functions.cloud.errors import CloudError, Unavailable
from functions.cloud.ledger import (
    APP,
    STOP_BEFORE_EXPIRY,
    STOPS_READ,
    SWEEP_LEASE,
    Ledger,
    LedgerView,
    Stored,
    StoredImage,
)
from functions.cloud.notices import Outbox, is_notice, pending_of
from functions.cloud.rows import (
    VERSION,
    LeftAlone,
    Why,
    columns_of,
    image_columns,
    image_key,
    place_of,
    record_of_row,
    row_key,
)
from functions.cloud.runs import (
    PROGRESS,
    RUNS,
    progress_columns,
    progress_key,
    progress_of_row,
    run_key,
    run_of_row,
)
from functions.cloud.runs import columns_of as run_columns
from functions.cloud.session import Session
from functions.cloud.stops import columns_of as stop_columns
from functions.cloud.stops import key_of
from functions.cloud.tables import MAX_CHANGES, TABLE, Change, Delete, Insert, Part, Replace, Row, StorageTable, Table
from functions.decisions import rollout
from functions.model.image_record import Failure, ImageRecord, Tally
from functions.model.machine import LAST_RING, MachineId, PatchAssessment, Provider, SupportState
from functions.model.notice import Notice, NoticeType
from functions.model.record import Ending, Flight, History, Record, begin, hold, release
from functions.model.run import MAX_MACHINES, Item, Progress, Run, RunOutcome, Selection
from functions.model.state import Cause, OperationKind, Phase, State, Wait
from functions.model.stop import Scope, Stop
from functions.model.text import BadInput
from simulator.identity import StaticCredential
from simulator.storage.azurite import Azurite
from tests.support import (
    GALLERY_IMAGE,
    HOUR,
    MINUTE,
    NOW,
    OPERATION,
    OPERATION_URL,
    SUBSCRIPTION,
    a_machine,
    a_record,
    a_verdict,
    machine_id,
    settings,
)
from tests.support.tables import MemoryTable, TableCall

SECOND = timedelta(seconds=1)


@asynccontextmanager
async def storage(azurite: Azurite, *, create: bool = True) -> AsyncIterator[StorageTable]:
    """The real table in an account of its own, reached by identity over TLS as in Azure."""
    account = azurite.fresh_account()
    credential = StaticCredential()
    if create:
        async with TableServiceClient(account.table_url, credential=credential) as service:
            await service.create_table(TABLE)
    environ = {name: value for name, value in account.settings().items() if name.endswith("Uri")}
    access = Session(settings(**environ), lambda: NOW, credential=credential)
    try:
        yield StorageTable(access)
    finally:
        await access.close()


@pytest.fixture(params=["memory", "azurite"])
async def table(request: pytest.FixtureRequest) -> AsyncIterator[Table]:
    if request.param == "memory":
        yield MemoryTable()
        return
    async with storage(request.getfixturevalue("azurite")) as stored:
        yield stored


@pytest.fixture
def ledger(table: Table) -> Ledger:
    return Ledger(table)


# -- the table


async def test_a_row_is_read_as_it_was_written(table: Table) -> None:
    columns = {"v": 1, "text": "größe, 'quoted' & ?x=1", "flag": True, "number": 7, "seconds": 90.5, "empty": ""}
    written = await table.insert("p", "k", columns)
    read = await table.get("p", "k")
    assert written is not None
    assert read is not None
    assert (read.partition, read.key, dict(read.columns)) == ("p", "k", columns)
    assert read.etag == written.etag


async def test_no_row_is_none(table: Table) -> None:
    assert await table.get("p", "k") is None


async def test_of_two_inserts_one_wins(table: Table) -> None:
    rows = await asyncio.gather(*(table.insert("p", "k", {"v": number}) for number in range(4)))
    won = [row for row in rows if row]
    assert len(won) == 1
    read = await table.get("p", "k")
    assert read is not None
    assert read.columns == won[0].columns


async def test_a_row_is_replaced_whole_and_only_by_who_read_it_last(table: Table) -> None:
    first = await table.insert("p", "k", {"a": 1, "b": 2})
    assert first is not None
    second = await table.replace(first, {"a": 3})
    assert second is not None
    assert second.etag != first.etag
    assert await table.replace(first, {"a": 4}) is None
    read = await table.get("p", "k")
    assert read is not None
    assert dict(read.columns) == {"a": 3}
    assert await table.replace(second, {"a": 5}) is not None


async def test_of_two_replaces_one_wins(table: Table) -> None:
    row = await table.insert("p", "k", {"v": 0})
    assert row is not None
    replaced = await asyncio.gather(*(table.replace(row, {"v": number}) for number in range(1, 5)))
    assert sum(item is not None for item in replaced) == 1


async def test_only_who_read_it_last_deletes(table: Table) -> None:
    first = await table.insert("p", "k", {"v": 1})
    assert first is not None
    second = await table.replace(first, {"v": 2})
    assert second is not None
    assert await table.delete(first) is False
    assert await table.delete(second) is True
    assert await table.get("p", "k") is None


async def test_a_row_that_is_gone_cannot_be_moved(table: Table) -> None:
    row = await table.insert("p", "k", {"v": 1})
    assert row is not None
    assert await table.delete(row)
    assert await table.replace(row, {"v": 2}) is None
    assert await table.delete(row) is True  # it is gone, by another client
    again = await table.insert("p", "k", {"v": 3})
    assert again is not None
    assert await table.replace(row, {"v": 4}) is None  # the old ETag says nothing about the new row


async def test_a_scan_sees_every_row(table: Table) -> None:
    for start in range(0, 120, 20):
        await asyncio.gather(*(table.insert(f"p{n % 3}", f"k{n:03}", {"v": n}) for n in range(start, start + 20)))
    seen = [(row.partition, row.key, row.columns["v"]) async for row in table.scan()]
    assert sorted(seen) == sorted((f"p{n % 3}", f"k{n:03}", n) for n in range(120))


async def test_a_scan_gives_rows_that_can_be_moved(table: Table) -> None:
    await table.insert("p", "k", {"v": 1})
    rows = [row async for row in table.scan()]
    assert await table.replace(rows[0], {"v": 2}) is not None


async def test_keys_are_the_rows_of_one_partition_that_begin_alike(table: Table) -> None:
    for partition, key in (("p", "told-00"), ("p", "told-ff"), ("p", "tole"), ("p", "tol"), ("q", "told-00")):
        await table.insert(partition, key, {"v": 1, "notes0": b"\x00\xff"})
    seen = [(row.partition, row.key, row.columns["notes0"]) async for row in table.keys("p", "told-")]
    assert sorted(seen) == [("p", "told-00", b"\x00\xff"), ("p", "told-ff", b"\x00\xff")]


@pytest.mark.parametrize(
    "value",
    ["", "it's 5 % of ä & b", True, -1, 2**31 - 1, 2**31, 3600.0, 1e300, b"\x00\xff", NOW],
    ids=["empty", "text", "flag", "negative", "int32", "int64", "whole float", "float", "bytes", "time"],
)
async def test_a_value_comes_back_as_what_it_was(table: Table, value: object) -> None:
    inserted = await table.insert("p", "k", {"value": value, "other": 1})
    assert inserted is not None
    read = await table.get("p", "k")
    assert read == inserted
    assert await table.replace(read, read.columns) is not None
    (row,) = [each async for each in table.scan()]
    assert (row.columns["value"], type(row.columns["value"])) == (value, type(value))


@pytest.mark.parametrize("key", ["o'hara", "100 %25", "a b+c&d=e", "ä€", "(x)"])
async def test_a_key_is_taken_as_it_is(table: Table, key: str) -> None:
    row = await table.insert(key, key, {"v": 1})
    assert row is not None
    assert [each.key async for each in table.keys(key, key)] == [key]
    assert await table.get(key, key) == row
    assert (row := await table.replace(row, {"v": 2})) is not None
    assert await table.delete(row)
    assert await table.get(key, key) is None


async def test_a_scan_goes_through_all_pages(table: Table) -> None:
    """The service gives 1,000 entities at most in one answer."""
    for first in range(0, 1100, MAX_CHANGES):
        await table.transact([Insert("o'p", f"k{n:04}", {"v": n}) for n in range(first, first + MAX_CHANGES)])
    assert [row.columns["v"] async for row in table.scan()] == list(range(1100))
    assert [row.columns["v"] async for row in table.keys("o'p", "k")] == list(range(1100))


async def test_a_part_of_a_partition_is_the_first_rows_of_a_range_with_some_columns(table: Table) -> None:
    for number in (3, 1, 2, 4):
        await table.insert("o'p", f"k{number}", {"v": number, "text": "größe, 'quoted'", "long": "x" * 10_000})
    await table.insert("another", "k2", {"v": 2})
    part = await table.part("o'p", "k2", "k4", columns=("v", "text", "never"), most=10)
    assert [(row.partition, row.key) for row in part.rows] == [("o'p", "k2"), ("o'p", "k3")]
    assert [dict(row.columns) for row in part.rows] == [{"v": number, "text": "größe, 'quoted'"} for number in (2, 3)]
    assert part.whole
    assert await table.part("o'p", "k5", "k9", columns=("v",), most=10) == Part([], whole=True)


@pytest.mark.parametrize(("most", "whole"), [(2, False), (3, False), (4, True)])
async def test_a_part_says_whether_there_may_be_more(table: Table, most: int, whole: bool) -> None:
    await three_rows(table)
    part = await table.part("p", "k0", "k9", columns=("v",), most=most)
    assert ([row.key for row in part.rows], part.whole) == (["k0", "k1", "k2"][:most], whole)


async def test_a_scan_of_nothing(table: Table) -> None:
    assert [row async for row in table.scan()] == []


async def three_rows(table: Table) -> list[Row]:
    rows = [await table.insert("p", f"k{number}", {"v": number}) for number in range(3)]
    return [row for row in rows if row]


async def contents(table: Table) -> dict[str, object]:
    return {row.key: row.columns["v"] async for row in table.scan()}


async def test_a_transaction_inserts_replaces_and_deletes_together(table: Table) -> None:
    first, second, _ = await three_rows(table)
    written = await table.transact([Replace(first, {"v": 10}), Delete(second), Insert("p", "k9", {"v": 9})])
    assert written is not None
    replaced, deleted, inserted = written
    assert deleted is None
    assert await contents(table) == {"k0": 10, "k2": 2, "k9": 9}
    assert replaced is not None
    assert inserted is not None
    assert await table.replace(replaced, {"v": 11}) is not None  # the ETags are those of the new rows
    assert await table.replace(inserted, {"v": 12}) is not None


BROKEN: dict[str, Callable[[Row, Row], Change]] = {
    "an insert over a row": lambda row, gone: Insert("p", row.key, {"v": 7}),
    "a replace of a row that changed": lambda row, gone: Replace(Row("p", row.key, {}, gone.etag), {"v": 7}),
    "a replace of a row that is gone": lambda row, gone: Replace(gone, {"v": 7}),
    "a deletion of a row that changed": lambda row, gone: Delete(Row("p", row.key, {}, gone.etag)),
    "a deletion of a row that is gone": lambda row, gone: Delete(gone),
}


@pytest.mark.parametrize("last", [True, False], ids=["last", "first"])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_of_a_transaction_with_one_failed_condition_nothing_is_written(
    table: Table, broken: Callable[[Row, Row], Change], last: bool
) -> None:
    first, second, gone = await three_rows(table)
    assert await table.delete(gone)
    before = await contents(table)
    sound: list[Change] = [Insert("p", "new", {"v": 8}), Replace(first, {"v": 9})]
    failing = broken(second, gone)
    assert await table.transact([*sound, failing] if last else [failing, *sound]) is None
    assert await contents(table) == before
    assert await table.replace(first, {"v": 5}) is not None  # its ETag is still the one that was read


async def test_bytes_come_back_from_a_transaction(table: Table) -> None:
    (first, *_) = await three_rows(table)
    note = {"v": 1, "notes0": b"\x00\xff", "notes1": b""}
    assert await table.transact([Replace(first, note), Insert("p", "told-00", note)])
    for key in ("k0", "told-00"):
        row = await table.get("p", key)
        assert row is not None
        assert row.columns == note


async def test_of_two_transactions_on_one_row_one_wins(table: Table) -> None:
    first, *_ = await three_rows(table)
    done = await asyncio.gather(
        *(table.transact([Replace(first, {"v": 20 + n}), Insert("p", f"new{n}", {"v": n})]) for n in range(4))
    )
    assert sum(item is not None for item in done) == 1
    assert sum(key.startswith("new") for key in await contents(table)) == 1


# azure-core gives aiohttp the bytes of a transaction, and aiohttp warns of more than a mebibyte.
@pytest.mark.filterwarnings("ignore:Sending a large body directly with raw bytes:ResourceWarning:aiohttp.payload")
async def test_a_transaction_takes_as_many_rows_as_the_service_allows(table: Table) -> None:
    long = "x" * 30_000  # 3 MB in all
    assert await table.transact([Insert("p", f"k{n:03}", {"v": n, "text": long}) for n in range(MAX_CHANGES)])
    assert len(await contents(table)) == MAX_CHANGES


# -- the ledger: a move and what it tells


def told(number: int = 0) -> Notice:
    return Notice(NoticeType.RUN_PROGRESS, "run/1", {"run": str(number)})


async def notices_in(table: Table) -> list[str]:
    """What the notices in the table say, in the order of their keys."""
    found = [row async for row in table.scan() if is_notice(row.key)]
    pending = [pending_of(row) for row in sorted(found, key=lambda row: row.key)]
    return [str(each.notice.data["run"]) for each in pending if each]


async def test_a_move_and_its_notices_are_written_together(table: Table) -> None:
    ledger = Ledger(table, Outbox(lambda: NOW))
    stored = await ledger.insert(a_record())
    assert stored is not None
    moved = await ledger.replace(stored.telling(told(1), told(2)), a_record(phase=Phase.RUNNING))
    assert moved is not None
    assert await notices_in(table) == ["1", "2"]
    assert await ledger.replace(moved, a_record(phase=Phase.ENDED)) is not None  # the ETag is that of the new row
    assert await notices_in(table) == ["1", "2"]


async def test_a_move_that_loses_tells_nothing(table: Table) -> None:
    ledger = Ledger(table, Outbox(lambda: NOW))
    stored = await ledger.insert(a_record())
    assert stored is not None
    assert await ledger.replace(stored, a_record(token="another")) is not None
    assert await ledger.replace(stored.telling(told()), a_record(phase=Phase.RUNNING)) is None
    assert await ledger.delete(stored.telling(told())) is False
    assert await notices_in(table) == []


async def test_a_row_that_goes_leaves_its_notices(table: Table) -> None:
    ledger = Ledger(table, Outbox(lambda: NOW))
    stored = await ledger.insert(a_record())
    assert stored is not None
    assert await ledger.delete(stored.telling(told(1)))
    assert await ledger.read(stored.record.machine) is None
    assert await notices_in(table) == ["1"]


async def test_the_notices_of_a_row_stay_in_order_under_a_clock_that_goes_back(table: Table) -> None:
    clock = [NOW]
    stored = await Ledger(table).insert(a_record())
    for number in range(4):
        assert stored is not None
        ledger = Ledger(table, Outbox(lambda: clock[-1]))  # another process each time
        stored = await ledger.replace(stored.telling(told(number)), a_record(token=str(number)))
        assert stored is not None
        stored = await ledger.replace(stored, stored.record)
        clock.append(clock[-1] - HOUR)
    assert await notices_in(table) == ["0", "1", "2", "3"]


async def test_an_image_and_a_note_tell_as_a_machine_does(table: Table) -> None:
    ledger = Ledger(table, Outbox(lambda: NOW))
    first = await ledger.put_image((await ledger.image("image", "")).telling(told(1)), ImageRecord("image"))
    assert first is not None
    assert await ledger.put_image(first.telling(told(2)), ImageRecord("image", opening="x")) is not None
    assert await ledger.put_image(first.telling(told(3)), ImageRecord("image", opening="y")) is None
    await ledger.remember("census", {"day": "1"}, told(4))
    assert sorted(await notices_in(table)) == ["1", "2", "4"]
    assert await ledger.remembered("census") == {"day": "1"}


async def test_readers_of_rows_see_no_notice(table: Table) -> None:
    ledger = Ledger(table, Outbox(lambda: NOW))
    stored = await ledger.insert(a_record())
    assert stored is not None
    await ledger.replace(stored.telling(told()), a_record())
    await ledger.remember("census", {}, told())
    assert len([item async for item in ledger.all()]) == 1
    view = LedgerView(table)
    await view.load()
    assert (len(view.rows), view.left_alone, set(view.app)) == (1, {}, {"census"})
    assert len(view.outbox_rows) == 2


async def test_a_release_that_knows_no_notices_leaves_them_alone(table: Table) -> None:
    """It takes each for a row of a newer version, which holds no slot; and a machine's row reads as before."""
    ledger = Ledger(table, Outbox(lambda: NOW))
    stored = await ledger.insert(a_record())
    assert stored is not None
    await ledger.replace(stored.telling(told()), a_record())
    rows = {is_notice(row.key): row async for row in table.scan()}
    with pytest.raises(LeftAlone) as caught:
        record_of_row(rows[True])
    assert (caught.value.why, caught.value.record) == (Why.NEWER, None)
    assert record_of_row(rows[False]) == a_record()


async def test_without_an_outbox_nothing_is_sent_and_nothing_else_changes(table: Table) -> None:
    ledger = Ledger(table)
    stored = await ledger.insert(a_record())
    assert stored is not None
    moved = await ledger.replace(stored.telling(told()), a_record(phase=Phase.RUNNING))
    assert moved is not None
    assert await ledger.delete(moved.telling(told()))
    assert [row async for row in table.scan()] == []


# -- the ledger: a row that leaves in a sweep, and the claim that takes it


async def a_leaving_row(table: Table) -> LedgerView:
    """A sweep's view of a row that may go, and that tells something as it goes."""
    await Ledger(table).insert(a_record(phase=Phase.RUNNING))
    view = LedgerView(table, Outbox(lambda: NOW))
    await view.load()
    await view.leave(view.rows[machine_id()].telling(told(1)))
    assert view.rows == {}
    return view


async def test_a_claim_takes_the_row_that_leaves_in_one_write(table: Table) -> None:
    view = await a_leaving_row(table)
    claimed = await view.insert(a_record(token="next"))
    assert claimed is not None
    assert view.rows == {machine_id(): claimed}
    assert await notices_in(table) == ["1"]
    assert await view.delete_leaving() == {}
    assert await Ledger(table).read(machine_id()) is not None
    assert await view.replace(claimed, a_record(phase=Phase.STARTING)) is not None  # the ETag is that of the new row


async def test_a_row_that_no_claim_took_is_deleted(table: Table) -> None:
    view = await a_leaving_row(table)
    assert await Ledger(table).read(machine_id()) is not None
    assert await view.delete_leaving() == {}
    assert await Ledger(table).read(machine_id()) is None
    assert await notices_in(table) == ["1"]
    assert await view.insert(a_record(token="next")) is not None


async def test_a_row_that_another_writer_changed_as_it_left_is_neither_taken_nor_deleted(table: Table) -> None:
    for leave in (True, False):
        view = await a_leaving_row(table)
        stored = await Ledger(table).read(machine_id())
        assert stored is not None
        assert await Ledger(table).replace(stored, a_record(token="another")) is not None
        if leave:
            assert await view.delete_leaving() == {}
        else:
            assert await view.insert(a_record(token="next")) is None
        assert view.rows[machine_id()].record.token == "another"
        assert await notices_in(table) == []
        assert await Ledger(table).delete(view.rows[machine_id()])


async def test_a_row_whose_claim_got_no_answer_is_deleted_unless_the_claim_was_written() -> None:
    for side, token in (("before", None), ("after", "next")):
        view = await a_leaving_row(table := MemoryTable())

        async def fail(call: TableCall) -> None:
            raise Unavailable("no answer")

        setattr(table, side, fail)
        with pytest.raises(Unavailable):
            await view.insert(a_record(token="next"))
        table.before = table.after = MemoryTable().before
        assert await view.delete_leaving() == {}
        found = await Ledger(table).read(machine_id())
        assert (found.record.token if found else None) == token


async def test_a_row_that_cannot_be_deleted_is_named() -> None:
    view = await a_leaving_row(table := MemoryTable())
    table.outage = Unavailable("no answer")
    assert await view.delete_leaving() == {machine_id(): table.outage}


# -- the ledger: a machine's row


async def test_a_machine_at_rest_has_no_row(ledger: Ledger) -> None:
    assert await ledger.read(machine_id()) is None


async def test_a_claim_is_taken_once(ledger: Ledger) -> None:
    first = await ledger.insert(a_record(token="one"))
    second = await ledger.insert(a_record(token="two"))
    assert first is not None
    assert second is None
    stored = await ledger.read(machine_id())
    assert stored is not None
    assert stored.record.token == "one"


async def test_put_inserts_where_nothing_was_read_and_replaces_where_something_was(ledger: Ledger) -> None:
    first = await ledger.put(None, a_record(token="one"))
    assert first is not None
    assert await ledger.put(None, a_record(token="two")) is None
    assert await ledger.put(first, a_record(token="three")) is not None
    assert await ledger.put(first, a_record(token="four")) is None
    stored = await ledger.read(machine_id())
    assert stored is not None
    assert stored.record.token == "three"


async def test_of_two_who_begin_one_may_send(ledger: Ledger) -> None:
    """A doubled message: both read the claim, both want to begin."""
    await ledger.insert(a_record())
    one, two = await ledger.read(machine_id()), await ledger.read(machine_id())
    assert one is not None
    assert two is not None
    begun = begin(one.record, a_machine(), HOUR, now=NOW)
    answers = await asyncio.gather(ledger.replace(one, begun), ledger.replace(two, begun))
    assert sum(answer is not None for answer in answers) == 1


async def test_a_stored_move_can_be_followed_by_the_next(ledger: Ledger) -> None:
    stored: Stored | None = await ledger.insert(a_record())
    changes: tuple[Callable[[Record], Record], ...] = (
        lambda record: begin(record, a_machine(), HOUR, now=NOW),
        lambda record: hold(record, Wait(State.FAILED, "why", "what"), NOW + HOUR),
        lambda record: release(record, NOW),
    )
    for change in changes:
        assert stored is not None
        stored = await ledger.replace(stored, change(stored.record))
    assert stored is not None
    assert await ledger.delete(stored)
    assert await ledger.read(machine_id()) is None


async def test_a_column_that_is_empty_again_is_gone_from_the_row(ledger: Ledger) -> None:
    """The signed address of an operation must not outlive its use."""
    stored = await ledger.insert(a_record(phase=Phase.RUNNING, operation_id=OPERATION, operation_url=OPERATION_URL))
    assert stored is not None
    await ledger.replace(stored, release(stored.record, NOW))
    row = await ledger.table.get(stored.row.partition, stored.row.key)
    assert row is not None
    assert "operation_url" not in row.columns
    assert "signature" not in str(row.columns)


async def test_all_gives_every_machine_and_none_of_the_apps_own_rows(ledger: Ledger) -> None:
    machines = [machine_id(f"vm-{number}") for number in range(5)]
    for machine in machines:
        await ledger.insert(a_record(machine=machine))
    await ledger.first_deployment(NOW)
    await ledger.take_sweep("a", NOW)
    await ledger.remember("census", {"day": "2026-11-25"})
    found = [item.record.machine async for item in ledger.all() if isinstance(item, Stored)]
    assert sorted(map(str, found)) == sorted(map(str, machines))


async def test_a_row_of_a_newer_app_is_reported_and_left_alone(ledger: Ledger) -> None:
    await ledger.insert(a_record(machine=machine_id("known")))
    newer = {"v": VERSION + 1, "shape": "of no release"}
    await ledger.table.insert(machine_id().subscription, row_key(machine_id()), newer)
    with pytest.raises(LeftAlone, match=f"version {VERSION + 1}; this app knows {VERSION}"):
        await ledger.read(machine_id())
    assert await ledger.insert(a_record()) is None
    items = [item async for item in ledger.all()]
    assert sorted(type(item).__name__ for item in items) == ["LeftAlone", "Stored"]
    row = await ledger.table.get(machine_id().subscription, row_key(machine_id()))
    assert row is not None
    assert dict(row.columns) == newer


# -- the ledger: the app's own rows


async def test_the_first_deployment_is_written_once_and_never_moved(ledger: Ledger) -> None:
    assert await ledger.first_deployment(NOW) == NOW
    assert await ledger.first_deployment(NOW + HOUR) == NOW
    assert await Ledger(ledger.table).first_deployment(NOW - HOUR) == NOW


async def test_two_who_come_first_agree(ledger: Ledger) -> None:
    times = await asyncio.gather(*(ledger.first_deployment(NOW + number * MINUTE) for number in range(4)))
    assert len(set(times)) == 1


async def test_one_sweep_at_a_time(ledger: Ledger) -> None:
    leases = await asyncio.gather(*(ledger.take_sweep(f"sweep-{number}", NOW) for number in range(4)))
    assert sum(lease is not None for lease in leases) == 1
    assert await ledger.take_sweep("later", NOW + SWEEP_LEASE - SECOND) is None


async def test_a_lease_by_a_clock_that_was_wrong_keeps_no_sweep_away_until_then(ledger: Ledger) -> None:
    assert await ledger.take_sweep("a little ahead", NOW + 4 * MINUTE)
    assert await ledger.take_sweep("on time", NOW) is None
    wrong = await ledger.take_sweep("far ahead", NOW + timedelta(days=30))
    assert wrong
    assert await ledger.take_sweep("on time", NOW + MINUTE)
    assert not await wrong.renew(NOW + timedelta(days=30, minutes=1))


async def test_of_two_who_take_an_expired_lease_one_gets_it(ledger: Ledger) -> None:
    assert await ledger.take_sweep("dead", NOW)
    later = NOW + SWEEP_LEASE
    leases = await asyncio.gather(*(ledger.take_sweep(f"sweep-{number}", later) for number in range(4)))
    assert sum(lease is not None for lease in leases) == 1


async def test_a_lease_is_renewed_until_sixty_seconds_before_its_end(ledger: Ledger) -> None:
    lease = await ledger.take_sweep("a", NOW)
    assert lease is not None
    last = NOW + SWEEP_LEASE - STOP_BEFORE_EXPIRY
    assert await lease.renew(last - SECOND)
    assert await lease.renew(last + 3 * MINUTE)
    assert await lease.renew(last + 9 * MINUTE) is False
    assert await ledger.take_sweep("b", last + 3 * MINUTE + SWEEP_LEASE - SECOND) is None


async def test_a_lease_that_was_taken_over_is_worth_nothing_and_disturbs_no_sweep(ledger: Ledger) -> None:
    lost = await ledger.take_sweep("slow", NOW)
    assert lost is not None
    later = NOW + SWEEP_LEASE
    held = await ledger.take_sweep("quick", later)
    assert held is not None
    assert await lost.renew(NOW + MINUTE) is False  # even by a clock that still thinks it is in time
    await lost.release(later)
    assert await ledger.take_sweep("third", later + MINUTE) is None
    assert await held.renew(later + MINUTE)


async def test_a_lease_given_back_is_free_at_once(ledger: Ledger) -> None:
    lease = await ledger.take_sweep("a", NOW)
    assert lease is not None
    await lease.release(NOW + SECOND)
    assert await ledger.take_sweep("b", NOW + SECOND)


async def test_a_note_is_remembered_and_replaced(ledger: Ledger) -> None:
    assert await ledger.remembered("poison") == {}
    await ledger.remember("poison", {"q-poison": "2026-11-25T12:00:00+00:00"})
    await ledger.remember("poison", {})
    assert await ledger.remembered("poison") == {}
    await ledger.remember("census", {"day": "2026-11-25"})
    assert await ledger.remembered("census") == {"day": "2026-11-25"}


# -- the stored form


def test_one_machine_has_one_key_however_its_id_is_spelled() -> None:
    key = row_key(machine_id())
    assert key == row_key(MachineId.parse(str(machine_id()).upper()))
    assert key != row_key(machine_id("vm-02"))
    assert key.isalnum()
    assert len(key) == 40


FULL = Record(
    machine=machine_id(),
    phase=Phase.HELD,
    kind=OperationKind.INSTALL,
    token="token",
    vm_id="vm",
    image="image",
    region="westeurope",
    due_at=NOW,
    run="20261125T1200-7k2m",
    sent=True,
    checks=3,
    ring=4,
    boundary="owner web",
    group="quorum",
    availability_set="/set",
    created=NOW - HOUR,
    history=History(
        unanswered=2,
        attempts=7,
        failures=8,
        failure="some patches failed",
        tries=(NOW - 2 * HOUR, NOW - HOUR),
        void_before=NOW - HOUR,
    ),
    verdict=a_verdict(state=SupportState.UNABLE_TO_DETERMINE, reboot_pending=True),
    flight=Flight(
        begun_at=NOW,
        limit=timedelta(minutes=235),
        known_operations=("a", "b"),
        os="Ubuntu",
        agent="2.9.1.1",
        operation_id=OPERATION,
        operation_url=OPERATION_URL,
        started_at=NOW + SECOND,
        reboot_forbidden=True,
    ),
    ending=Ending("Failed", NOW + HOUR, at_fault=True, neutral=True, nothing_tried=True, unwell_since=NOW + 2 * HOUR),
    hold=Wait(State.OVERDUE, "größe", "do it", NOW + 2 * HOUR, Cause.NEVER),
)


async def test_a_record_with_every_field_comes_back_as_it_was(ledger: Ledger) -> None:
    plain = a_record()
    same = [item.name for item in fields(Record) if getattr(FULL, item.name) == getattr(plain, item.name)]
    assert set(same) == {"machine", "due_at", "sent", "region"}  # all others are away from their defaults
    await ledger.insert(FULL)
    stored = await ledger.read(machine_id())
    assert stored is not None
    assert stored.record == FULL


async def test_a_row_is_flat_and_readable(ledger: Ledger) -> None:
    stored = await ledger.insert(FULL)
    assert stored is not None
    row = await ledger.table.get(stored.row.partition, stored.row.key)
    assert row is not None
    assert row.partition == machine_id().subscription
    assert row.columns["machine"] == str(machine_id())
    assert row.columns["phase"] == "held"
    assert row.columns["due_at"] == "2026-11-25T12:00:00+00:00"
    assert all(isinstance(value, str | int | float | bool) for value in row.columns.values())


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
moments = st.integers(0, 4_000_000_000_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
perhaps = st.one_of(st.none(), moments)
verdicts = st.builds(
    PatchAssessment,
    state=st.sampled_from(SupportState),
    assessment_id=words,
    assessed=perhaps,
    status=words,
    counts=st.dictionaries(words, st.integers(0, 10**6)),
    reboot_pending=st.booleans(),
)
spans = st.timedeltas(timedelta(0), timedelta(days=30)).map(lambda span: timedelta(seconds=int(span.total_seconds())))
small = st.integers(0, 2**31 - 1)
waits = st.builds(
    Wait, state=st.sampled_from(State), reason=words, remedy=words, when=perhaps, cause=st.sampled_from(Cause)
)
flights = st.builds(
    Flight,
    begun_at=moments,
    limit=spans,
    known_operations=st.lists(st.uuids().map(str)).map(tuple),
    os=words,
    agent=words,
    operation_id=words,
    operation_url=words,
    started_at=perhaps,
    reboot_forbidden=st.booleans(),
)
endings = st.builds(
    Ending,
    outcome=words,
    at=moments,
    at_fault=st.booleans(),
    neutral=st.booleans(),
    nothing_tried=st.booleans(),
    unwell_since=st.one_of(st.none(), moments),
)
troubles = st.builds(replace, waits, reason=words.filter(bool))
histories = st.builds(
    History,
    unanswered=small,
    attempts=small,
    failures=small,
    failure=words,
    tries=st.lists(moments, max_size=3).map(tuple),
    void_before=st.none() | moments,
)
plain_record = st.builds(
    Record,
    machine=st.just(machine_id()),
    phase=st.sampled_from([Phase.QUEUED, Phase.STARTING, Phase.RUNNING]),
    kind=st.sampled_from(OperationKind),
    token=words,
    vm_id=words,
    image=words,
    region=words,
    due_at=moments,
    ring=st.integers(0, LAST_RING),
    group=words,
    availability_set=words,
    created=perhaps,
    run=words,
    sent=st.booleans(),
    checks=small,
    verdict=st.one_of(st.none(), verdicts),
    history=histories,
    flight=st.one_of(st.none(), flights),
)
any_record = st.one_of(
    plain_record,
    st.builds(replace, plain_record, phase=st.just(Phase.ENDED), ending=st.builds(replace, endings, trouble=troubles)),
    st.builds(replace, plain_record, phase=st.just(Phase.ENDED), ending=endings),
    st.builds(replace, plain_record, phase=st.just(Phase.HELD), ending=st.one_of(st.none(), endings), hold=waits),
)


@given(any_record)
def test_any_record_comes_back_as_it_was(record: Record) -> None:
    async def there_and_back() -> Stored | None:
        ledger = Ledger(MemoryTable())
        await ledger.insert(record)
        return await ledger.read(record.machine)

    stored = asyncio.run(there_and_back())
    assert stored is not None
    assert stored.record == record


def test_the_strategy_above_knows_every_field() -> None:
    known = tuple(len(fields(part)) for part in (Record, History, Flight, Ending))
    assert known == (21, 6, 9, 7), "a new field: give it to any_record and to FULL"
    assert len(fields(ImageRecord)) == 19, "a new field: give it to any_image and to FULL_IMAGE"


# -- an image's row

FULL_IMAGE = ImageRecord(
    image=GALLERY_IMAGE,
    boundary="owner größe",
    opened=NOW,
    canaries=2,
    proved=NOW + HOUR,
    ended="20261124T120000",
    ended_by="Jane",
    ended_because="the last ring is gone",
    rings={0: Tally(3, 1, NOW + HOUR, NOW), LAST_RING: Tally(1, 0, NOW + 2 * HOUR), 7: Tally()},
    failures=(Failure(NOW), Failure(NOW + MINUTE, "0123456789abcdef")),
    took=(31, 25),
    counted=(OPERATION, "operation-2"),
    opening="20261125T120000",
    opened_because="its canary größe: the package manager is broken",
    closed="20261101T080000",
    closed_by="größe@contoso.example",
    closed_because="the disk was full",
    closed_told="20261001T080000",
)
OPEN_IMAGE = replace(FULL_IMAGE, boundary="", closed="")


async def close_by_hand(table: Table, image: str, opening: str) -> None:
    """What docs/stop.md tells a person to do: merge one column, without looking at any ETag."""
    if isinstance(table, MemoryTable):
        row = table.rows[APP, image_key(image)]
        table.put(APP, row.key, {**row.columns, "closed": opening})
        return
    assert isinstance(table, StorageTable)
    entity = {"PartitionKey": APP, "RowKey": image_key(image), "closed": opening}
    await table._table().update_entity(entity, mode=UpdateMode.MERGE)


async def test_an_unknown_image_is_an_empty_record(ledger: Ledger) -> None:
    stored = await ledger.image(GALLERY_IMAGE, "")
    assert (stored.record, stored.row) == (ImageRecord(GALLERY_IMAGE), None)
    assert not stored.record.breaker_open


async def test_an_image_comes_back_as_it_was_written(ledger: Ledger) -> None:
    plain = ImageRecord("x")
    compared = [item.name for item in fields(plain) if item.compare]
    assert [name for name in compared if getattr(FULL_IMAGE, name) == getattr(plain, name)] == []
    assert await ledger.put_image(await ledger.image(GALLERY_IMAGE, FULL_IMAGE.boundary), FULL_IMAGE)
    stored = await ledger.image(GALLERY_IMAGE, FULL_IMAGE.boundary)
    assert stored.record == FULL_IMAGE
    assert stored.row is not None
    assert stored.row.columns["opened"] == "2026-11-25T12:00:00+00:00"
    assert all(isinstance(value, str | int | bool) for value in stored.row.columns.values())
    assert (await ledger.image("another", "")).record == ImageRecord("another")


async def test_an_images_row_is_moved_again_and_again(ledger: Ledger) -> None:
    stored: StoredImage | None = await ledger.image(GALLERY_IMAGE, "")
    for record in (ImageRecord(GALLERY_IMAGE, opened=NOW), OPEN_IMAGE, ImageRecord(GALLERY_IMAGE)):
        assert stored is not None
        stored = await ledger.put_image(stored, record)
    assert (await ledger.image(GALLERY_IMAGE, "")).record == ImageRecord(GALLERY_IMAGE)


async def test_of_two_who_move_an_images_row_one_wins(ledger: Ledger) -> None:
    for record in (ImageRecord(GALLERY_IMAGE, canaries=1), ImageRecord(GALLERY_IMAGE, canaries=2)):  # new, then known
        one, two = await ledger.image(GALLERY_IMAGE, ""), await ledger.image(GALLERY_IMAGE, "")
        answers = await asyncio.gather(ledger.put_image(one, record), ledger.put_image(two, record))
        assert sum(answer is not None for answer in answers) == 1


async def test_a_person_closes_the_breaker_with_one_column(ledger: Ledger) -> None:
    await ledger.put_image(await ledger.image(GALLERY_IMAGE, ""), OPEN_IMAGE)
    assert (await ledger.image(GALLERY_IMAGE, "")).record.breaker_open
    await close_by_hand(ledger.table, GALLERY_IMAGE, OPEN_IMAGE.opening)
    record = (await ledger.image(GALLERY_IMAGE, "")).record
    assert record == replace(OPEN_IMAGE, closed=OPEN_IMAGE.opening)
    assert not record.breaker_open


async def test_closing_another_opening_closes_nothing(ledger: Ledger) -> None:
    await ledger.put_image(await ledger.image(GALLERY_IMAGE, ""), OPEN_IMAGE)
    await close_by_hand(ledger.table, GALLERY_IMAGE, "20261101T080000")
    assert (await ledger.image(GALLERY_IMAGE, "")).record.breaker_open


async def test_a_sweep_that_read_before_a_person_closed_the_breaker_does_not_open_it_again(ledger: Ledger) -> None:
    await ledger.put_image(await ledger.image(GALLERY_IMAGE, ""), OPEN_IMAGE)
    seen = await ledger.image(GALLERY_IMAGE, "")
    await close_by_hand(ledger.table, GALLERY_IMAGE, OPEN_IMAGE.opening)
    result = rollout.Result("operation-3", machine_id(), 0, NOW, "")
    # What the sweep makes of what it read: the breaker is still open there.
    recorded = rollout.record_result(seen.record, result, settings(), now=NOW + HOUR)
    assert recorded.breaker_open
    assert await ledger.put_image(seen, recorded) is None
    again = await ledger.image(GALLERY_IMAGE, "")
    assert not again.record.breaker_open
    assert await ledger.put_image(again, replace(again.record, canaries=3))
    record = (await ledger.image(GALLERY_IMAGE, "")).record
    assert (record.canaries, record.closed, record.breaker_open) == (3, OPEN_IMAGE.opening, False)


@pytest.mark.parametrize("boundary", ["", "subscription x"])
async def test_a_sweep_reads_an_image_once_and_sees_its_own_writes(boundary: str) -> None:
    table = MemoryTable()
    view = LedgerView(table)
    written = await view.put_image(await view.image(GALLERY_IMAGE, boundary), replace(OPEN_IMAGE, boundary=boundary))
    read = table.calls["get"]
    assert await view.image(GALLERY_IMAGE, boundary) == written
    assert table.calls["get"] == read


@pytest.mark.parametrize("boundary", ["", "subscription x"])
async def test_a_sweep_knows_the_images_from_its_one_reading_of_the_ledger(boundary: str) -> None:
    table = MemoryTable()
    known = replace(OPEN_IMAGE, boundary=boundary)
    await Ledger(table).put_image(StoredImage(known, None), known)
    view = LedgerView(table)
    await view.load()
    assert (await view.image(GALLERY_IMAGE, boundary)).record == known
    assert (await view.image("of no machine", boundary)).row is None
    assert table.calls["get"] == 0


async def test_a_sweep_reads_an_image_again_that_a_person_deleted_since() -> None:
    table = MemoryTable()
    stored = await Ledger(table).put_image(StoredImage(OPEN_IMAGE, None), OPEN_IMAGE)
    view = LedgerView(table)
    await view.load()
    seen = await view.image(GALLERY_IMAGE, "")
    assert stored
    assert stored.row
    assert await table.delete(stored.row)
    assert await view.put_image(seen, replace(OPEN_IMAGE, canaries=3)) is None
    assert await view.image(GALLERY_IMAGE, "") == StoredImage(ImageRecord(GALLERY_IMAGE), None)


async def test_a_sweep_sees_what_it_wrote_of_the_fleets_image_in_each_boundary() -> None:
    view = LedgerView(MemoryTable())
    assert not (await view.image(GALLERY_IMAGE, "subscription x")).record.breaker_open
    await view.put_image(await view.image(GALLERY_IMAGE, ""), OPEN_IMAGE)
    assert (await view.image(GALLERY_IMAGE, "subscription x")).record.breaker_open


async def test_a_sweep_does_not_overwrite_an_image_that_a_person_changed_since_and_reads_it_again() -> None:
    view = LedgerView(table := MemoryTable())
    await view.put_image(await view.image(GALLERY_IMAGE, ""), OPEN_IMAGE)
    seen = await view.image(GALLERY_IMAGE, "")
    person = Ledger(table)
    await person.put_image(
        await person.image(GALLERY_IMAGE, ""), closed := replace(OPEN_IMAGE, closed=OPEN_IMAGE.opening)
    )
    assert await view.put_image(seen, replace(seen.record, canaries=3)) is None
    assert (await view.image(GALLERY_IMAGE, "")).record == closed


async def test_an_images_row_of_a_newer_app_is_reported_and_left_alone(ledger: Ledger) -> None:
    newer = {"v": VERSION + 1, "image": GALLERY_IMAGE, "shape": "of no release"}
    await ledger.table.insert(APP, image_key(GALLERY_IMAGE), newer)
    with pytest.raises(LeftAlone, match=f"version {VERSION + 1}; this app knows {VERSION}"):
        await ledger.image(GALLERY_IMAGE, "")
    assert await ledger.put_image(StoredImage(OPEN_IMAGE, None), OPEN_IMAGE) is None
    row = await ledger.table.get(APP, image_key(GALLERY_IMAGE))
    assert row is not None
    assert dict(row.columns) == newer


async def test_images_are_not_machines(ledger: Ledger) -> None:
    await ledger.put_image(await ledger.image(GALLERY_IMAGE, ""), replace(FULL_IMAGE, boundary=""))
    await ledger.table.insert(APP, "pause", {"reason": "night"})
    assert [item async for item in ledger.all()] == []


def test_every_image_has_a_key_of_its_own_that_a_table_may_hold() -> None:
    keys = {image_key(image) for image in (GALLERY_IMAGE, f"{GALLERY_IMAGE}1", "", "a:b#c?d/e\\f")}
    assert len(keys) == 4
    assert all(key.startswith("image-") and key.replace("-", "").isalnum() for key in keys)


any_image = st.builds(
    ImageRecord,
    image=words.filter(bool),
    opened=perhaps,
    ended=words,
    ended_by=words,
    ended_because=words,
    canaries=small,
    proved=perhaps,
    rings=st.dictionaries(st.integers(0, LAST_RING), st.builds(Tally, small, small, perhaps, perhaps), max_size=5),
    failures=st.lists(st.builds(Failure, moments, st.sampled_from(["", "0a1b"])), max_size=5).map(tuple),
    boundary=words,
    took=st.lists(small, max_size=3).map(tuple),
    counted=st.lists(st.uuids().map(str), max_size=5).map(tuple),
    opening=words,
    opened_because=words,
    closed=words,
    closed_by=words,
    closed_because=words,
    closed_told=words,
)


@given(any_image)
def test_any_image_comes_back_as_it_was(record: ImageRecord) -> None:
    async def there_and_back() -> StoredImage:
        ledger = Ledger(MemoryTable())
        await ledger.put_image(StoredImage(record, None), record)
        return await ledger.image(record.image, record.boundary)

    assert asyncio.run(there_and_back()).record == record


# -- the row that pauses


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        pytest.param({"reason": "storage incident, Kim"}, "storage incident, Kim", id="with a reason"),
        pytest.param({}, "no reason given", id="without"),
        pytest.param({"reason": ""}, "no reason given", id="with an empty one"),
    ],
)
async def test_a_row_pauses_the_app_until_it_is_deleted(ledger: Ledger, columns: dict[str, str], reason: str) -> None:
    assert await ledger.stops() == []
    row = await ledger.table.insert(APP, "pause", columns)
    assert await ledger.stops() == [Stop(Scope.EVERYTHING, "", reason, "")]
    assert row is not None
    assert await ledger.table.delete(row)
    assert await ledger.stops() == []


async def test_pauses_and_the_hold_of_one_machine_are_read_together(ledger: Ledger) -> None:
    held, other = machine_id("vm-01"), machine_id("another")
    stops = [
        Stop(Scope.EVERYTHING, "", "looking", "Jane"),
        Stop(Scope.IMAGE, "/i/web", "bad patch", "Jane", until=NOW),
        Stop(Scope.OWNER, "Shop & Co", "inventory", "Jim"),
        Stop(Scope.MACHINE, str(held), "a demo", "Jim", told=True),
    ]
    for stop in (*stops, Stop(Scope.MACHINE, str(other), "another", "Jim")):
        await ledger.table.insert(APP, key_of(stop.scope, stop.value), stop_columns(stop))
    assert sorted(await ledger.stops(held), key=str) == sorted(stops, key=str)
    assert sorted(await ledger.stops(), key=str) == sorted(stops[:3], key=str)


# others' holds and images lie between a machine's hold and the pauses: of one answer's rows how many are those
@pytest.mark.parametrize("between", [0, 1, STOPS_READ - 2, STOPS_READ - 1, STOPS_READ, 3 * STOPS_READ])
@pytest.mark.parametrize("held", [True, False], ids=["held", "not held"])
@pytest.mark.parametrize("paused", [True, False], ids=["paused", "not paused"])
async def test_a_stop_is_read_however_much_lies_between_it_and_the_pauses(
    between: int, held: bool, paused: bool
) -> None:
    ledger, machine = Ledger(table := MemoryTable()), machine_id("vm-01")
    hold = Stop(Scope.MACHINE, str(machine), "a demo", "Jim")
    pauses = [Stop(Scope.EVERYTHING, "", "looking", "Jane"), Stop(Scope.OWNER, "shop", "inventory", "Jim")]
    stops = [hold] * held + pauses * paused
    for stop in stops:
        table.put(APP, key_of(stop.scope, stop.value), stop_columns(stop))
    for number in range(between):
        table.put(APP, f"image-{number:024}", {"v": VERSION, "image": "x"})
    assert sorted(await ledger.stops(machine), key=str) == sorted(stops, key=str)
    assert table.calls.total() <= 2


async def test_an_answer_without_a_row_says_nothing_about_a_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service may end an answer anywhere and name the next page."""
    ledger, machine = Ledger(table := MemoryTable()), machine_id("vm-01")
    hold = Stop(Scope.MACHINE, str(machine), "a demo", "Jim")
    table.put(APP, key_of(hold.scope, hold.value), stop_columns(hold))

    async def nothing_yet(*_: Any, **__: Any) -> Part:
        return Part([], whole=False)

    monkeypatch.setattr(table, "part", nothing_yet)
    assert await ledger.stops(machine) == [hold]


# -- runs on demand: the order, and how far it has come

OTHER_SUBSCRIPTION = "11111111-0000-0000-0000-000000000001"
FULL_RUN = Run(
    id="20261125T1200-7k2m",
    kind=OperationKind.INSTALL,
    machines=(machine_id("vm-01"), machine_id("vm-02", "rg-\u00e9tat"), machine_id("vm-01", "rg", OTHER_SUBSCRIPTION)),
    reason="CVE-2026-0001, größe",
    by="00000000-0000-0000-0000-00000000000a",
    opened=NOW,
    until=NOW + 24 * HOUR,
    at=NOW + HOUR,
    selection=Selection(("Security", "Other"), ("openssl*", "kb5031364")),
    ignore_window=True,
    canaries=2,
    bake=30 * MINUTE,
    stopped=NOW + 2 * HOUR,
    stopped_by="Jim",
    stopped_because="wrong machines",
)
SHORT_RUN = Run("a", OperationKind.ASSESS, (machine_id(),), "look", "", opened=NOW, until=NOW + HOUR)


# The names are those of virtual machines in the same group.
ARC_RUN = replace(SHORT_RUN, machines=(machine_id(), replace(machine_id(), provider=Provider.ARC)))


@pytest.mark.parametrize(
    "run", [FULL_RUN, SHORT_RUN, ARC_RUN], ids=["every column", "as few as can be", "Arc-enabled servers"]
)
async def test_a_run_comes_back_as_it_was_written(table: Table, run: Run) -> None:
    await table.insert(APP, run_key(run.id), run_columns(run))
    row = await table.get(APP, run_key(run.id))
    assert row is not None
    assert run_of_row(row) == run


async def test_how_far_a_run_has_come_comes_back_as_it_was_written(table: Table) -> None:
    first, second, third = FULL_RUN.machines
    failed = Item(
        RunOutcome.FAILED,
        state="failed",
        reason="patch failed",
        started=NOW,
        ended=NOW + HOUR,
        at_fault=True,
        image=GALLERY_IMAGE,
    )
    progress = Progress({second: failed, third: Item(RunOutcome.LEFT, "opted-out", "tag patch-mode=off")}, ended=NOW)
    await table.insert(APP, progress_key(FULL_RUN.id), progress_columns(progress, FULL_RUN))
    row = await table.get(APP, progress_key(FULL_RUN.id))
    assert row is not None
    read = progress_of_row(row, FULL_RUN)
    assert read == progress
    assert read.of(first) == Item()


async def test_a_run_of_as_many_machines_as_it_may_name_fits_its_rows(table: Table) -> None:
    """Names without anything in common, each with a reason of its own."""
    names = [f"{number:05d}{row_key(machine_id(str(number)))}" for number in range(MAX_MACHINES)]
    run = replace(SHORT_RUN, machines=tuple(machine_id(name, f"rg-{name[:7]}") for name in names))
    await table.insert(APP, run_key(run.id), run_columns(run))
    row = await table.get(APP, run_key(run.id))
    assert row is not None
    assert run_of_row(row) == run
    items = {each: Item(RunOutcome.FAILED, "failed", f"of {each.name}", started=NOW) for each in run.machines}
    await table.insert(APP, progress_key(run.id), progress_columns(Progress(items), run))
    row = await table.get(APP, progress_key(run.id))
    assert row is not None
    assert progress_of_row(row, run).items == items


def test_a_run_that_names_too_many_machines_or_none_is_not_written() -> None:
    for machines in ((), tuple(machine_id(str(number)) for number in range(MAX_MACHINES + 1)), (machine_id(),) * 2):
        with pytest.raises(BadInput, match="machine"):
            run_columns(replace(SHORT_RUN, machines=machines))


def bytes_in(columns: Mapping[str, object], name: str) -> bytes:
    found = columns[name]
    assert isinstance(found, bytes)
    return found


BAD_RUNS: dict[str, tuple[dict[str, object], str]] = {
    "no machines": ({"machines0": None}, "machines0 is not what"),
    "a text for machines": ({"machines0": "vm-01"}, "machines0 is not what"),
    "damaged machines": ({"machines0": b"not compressed"}, "are damaged"),
    "half of the machines": (
        {"machines0": bytes_in(run_columns(FULL_RUN), "machines0")[:-9]},
        "too much, or too little",
    ),
    "machines of no kind": ({"machines0": zlib.compress(b"[1]")}, "AttributeError"),
    "a machine of no kind": ({"machines0": zlib.compress(b'{"x": {"rg": ["vm"]}}')}, "is not a virtual machine id"),
    "a machine twice": ({"machines0": zlib.compress(json.dumps({SUBSCRIPTION: {"rg": ["a", "a"]}}).encode())}, "twice"),
    "no kind": ({"kind": None}, "assess or install is right"),
    "a kind of its own": ({"kind": "reboot"}, "assess or install is right"),
    "no end": ({"until": None}, "until is empty"),
    "an end without a zone": ({"until": "2026-12-24T18:00:00"}, "no time zone"),
    "a beginning that is not a time": ({"at": "soon"}, "at is 'soon'"),
    "a window that is perhaps ignored": ({"ignore_window": "no"}, "true or false"),
    "canaries in words": ({"canaries": "two"}, "a number"),
    "fewer canaries than none": ({"canaries": -1}, "a number"),
    "a classification that Azure does not know": ({"classifications": "Urgent"}, "'Urgent'"),
}


@pytest.mark.parametrize(("columns", "problem"), BAD_RUNS.values(), ids=BAD_RUNS)
def test_a_run_that_cannot_be_read_wants_nothing_and_says_why(columns: dict[str, object], problem: str) -> None:
    right = run_columns(replace(FULL_RUN, stopped=None))
    written = {name: value for name, value in (right | columns).items() if value is not None}
    run = run_of_row(Row(APP, run_key("x"), written, "etag"))
    assert problem in run.problem
    assert "docs/runs.md" in run.problem
    assert not run.wants(NOW + HOUR)
    assert run.machines == ()


any_column = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["texts", "items", "x"]), inner, max_size=3)
        ),
    ).map(lambda content: zlib.compress(json.dumps(content).encode())),
)
any_items = st.lists(
    st.one_of(st.just([]), st.lists(st.one_of(st.just("failed"), st.integers()), min_size=7, max_size=7)),
    min_size=len(FULL_RUN.machines),
    max_size=len(FULL_RUN.machines),
).map(lambda items: zlib.compress(json.dumps({"texts": ["", "x"], "items": items}).encode()))


@given(st.dictionaries(st.sampled_from(sorted(run_columns(FULL_RUN))), any_column, max_size=3))
def test_whatever_the_row_of_a_run_holds_it_is_read_or_wants_nothing(columns: dict[str, object]) -> None:
    with suppress(LeftAlone):
        run = run_of_row(Row(APP, run_key("x"), {**run_columns(FULL_RUN), **columns}, "etag"))
        assert run.machines or run.problem


@given(any_column | any_items, any_column)
def test_whatever_the_row_of_progress_holds_it_is_read_or_refused(items: object, ended: object) -> None:
    with suppress(LeftAlone, BadInput):
        progress_of_row(Row(APP, progress_key("x"), {"v": 1, "items0": items, "ended": ended}, "etag"), FULL_RUN)


def test_a_run_of_a_newer_release_is_left_alone() -> None:
    with pytest.raises(LeftAlone, match="version 2"):
        run_of_row(Row(APP, run_key("x"), {**run_columns(FULL_RUN), "v": VERSION + 1}, "etag"))
    with pytest.raises(LeftAlone, match="version 2"):
        progress_of_row(Row(APP, progress_key("x"), {"v": VERSION + 1}, "etag"), FULL_RUN)


def test_progress_that_is_not_of_its_run_is_not_read() -> None:
    row = Row(APP, progress_key("a"), progress_columns(Progress(), FULL_RUN), "etag")
    with pytest.raises(BadInput, match="counts 3 machines, and its run names 1"):
        progress_of_row(row, SHORT_RUN)


def test_the_rows_of_runs_are_distinguished_from_all_others() -> None:
    others = ("pause", "sweep", "first-deployment", image_key(GALLERY_IMAGE), key_of(Scope.MACHINE, "x"))
    assert not any(key.startswith((RUNS, PROGRESS)) for key in others)


# -- what only storage can do


async def test_a_missing_table_is_an_error_and_no_lost_race(azurite: Azurite) -> None:
    async with storage(azurite, create=False) as missing:
        ledger = Ledger(missing)
        with pytest.raises(Unavailable, match="the table ledger does not exist"):
            await ledger.insert(a_record())
        with pytest.raises(Unavailable, match="the table ledger does not exist"):
            await ledger.take_sweep("a", NOW)
        with pytest.raises(CloudError):
            [item async for item in ledger.all()]


async def test_a_token_for_another_service_is_refused_in_words_of_ours(azurite: Azurite) -> None:
    account = azurite.fresh_account()
    environ = {name: value for name, value in account.settings().items() if name.endswith("Uri")}
    access = Session(settings(**environ), lambda: NOW, credential=StaticCredential("https://management.azure.com"))
    with pytest.raises(CloudError) as caught:
        await Ledger(StorageTable(access)).read(machine_id())
    await access.close()
    assert account.table_url not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("kind", "failures"), [(OperationKind.INSTALL, 4), (OperationKind.ASSESS, 0)])
async def test_a_row_that_knows_no_tries_yet_counts_its_failed_installations(
    kind: OperationKind, failures: int
) -> None:
    """As a release before this one wrote it."""
    record = a_record(phase=Phase.HELD, kind=kind, attempts=4)
    columns = {name: value for name, value in columns_of(record).items() if name != "failures"}
    row = Row(*place_of(record.machine), columns, "etag")
    assert record_of_row(row) == replace(record, history=replace(record.history, failures=failures))


def test_a_row_that_knows_no_runs_yet_is_of_none() -> None:
    """As a release before this one wrote it."""
    columns = {name: value for name, value in columns_of(a_record(run="1")).items() if name != "run"}
    assert record_of_row(Row(*place_of(machine_id()), columns, "etag")).run == ""


async def test_a_run_that_is_gone_or_of_a_newer_release_is_none(ledger: Ledger) -> None:
    assert await ledger.run(SHORT_RUN.id) is None
    row = await ledger.table.insert(APP, run_key(SHORT_RUN.id), run_columns(SHORT_RUN))
    assert row is not None
    assert await ledger.run(SHORT_RUN.id) == SHORT_RUN
    await ledger.table.replace(row, {**row.columns, "v": VERSION + 1})
    assert await ledger.run(SHORT_RUN.id) is None


TEAM, OTHER_TEAM = "subscription one", "subscription two"


async def test_each_boundary_has_a_row_of_its_own(ledger: Ledger) -> None:
    await ledger.put_image(await ledger.image(GALLERY_IMAGE, TEAM), replace(OPEN_IMAGE, boundary=TEAM))
    assert (await ledger.image(GALLERY_IMAGE, TEAM)).record.breaker_open
    for boundary in (OTHER_TEAM, ""):
        assert (await ledger.image(GALLERY_IMAGE, boundary)).record == ImageRecord(GALLERY_IMAGE, boundary)
        assert not (await ledger.image(GALLERY_IMAGE, boundary)).record.breaker_open


async def test_a_breaker_that_was_open_for_the_whole_fleet_stays_open_in_every_boundary_until_it_is_closed(
    ledger: Ledger,
) -> None:
    """As a release without boundaries left it."""
    columns = {name: value for name, value in image_columns(OPEN_IMAGE).items() if name != "failed_machines"}
    await ledger.table.insert(APP, image_key(GALLERY_IMAGE), columns)
    for boundary in (TEAM, OTHER_TEAM):
        stored = await ledger.image(GALLERY_IMAGE, boundary)
        assert rollout.breaker_wait(stored.record) == rollout.breaker_wait(OPEN_IMAGE)
        assert await ledger.put_image(stored, replace(stored.record, canaries=1))  # does not carry the opening over
    await close_by_hand(ledger.table, GALLERY_IMAGE, OPEN_IMAGE.opening)
    for boundary in (TEAM, OTHER_TEAM):
        assert not (await ledger.image(GALLERY_IMAGE, boundary)).record.breaker_open


async def test_failures_of_a_row_that_tells_no_machines_apart_are_each_anothers(ledger: Ledger) -> None:
    columns = {name: value for name, value in image_columns(OPEN_IMAGE).items() if name != "failed_machines"}
    await ledger.table.insert(APP, image_key(GALLERY_IMAGE), columns)
    assert (await ledger.image(GALLERY_IMAGE, "")).record.failures == (Failure(NOW), Failure(NOW + MINUTE))


async def test_what_a_person_closed_leaves_the_breaker_of_the_whole_fleet_open_in_the_same_sweep(table: Table) -> None:
    """The row of one boundary is written before a sweep asked for its image, as for a breaker that was closed."""
    fleet = ImageRecord(GALLERY_IMAGE, opening="20261124T120000")
    own = ImageRecord(GALLERY_IMAGE, "subscription 1", opening="20261125T120000", closed="20261125T120000")
    for record in (fleet, own):
        await table.insert(APP, image_key(record.place), image_columns(record))
    view = LedgerView(table)
    await view.load()
    row = view.app[image_key(own.place)]
    assert await view.put_image(StoredImage(own, row), replace(own, closed_told=own.closed))
    found = (await view.image(GALLERY_IMAGE, own.boundary)).record
    assert found.closed_told == own.closed
    assert found.open_breaker is not None
    assert found.open_breaker.opening == fleet.opening
