"""One line for each change of a machine's state, and none for what stays: waits, plans, machines that leave both."""

import json
import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.cloud import notes
from functions.cloud.notes import BUCKETS, PREFIX, NoteBook, bucket_of
from functions.cloud.tables import MAX_CHANGES
from functions.decisions.plan import Plan
from functions.model.machine import MachineId, Provider
from functions.model.state import Assess, Install, Leave, State, Step, Wait
from functions.model.told import Note, Told, digest
from functions.steps import states
from functions.steps.sweep import read_ledger
from simulator.azure import Behaviour
from tests.support.process import Killed
from tests.support.tables import MemoryTable, TableCall
from tests.support.world import QUICK, World

GOOD = Behaviour(support_state="Supported", pending={"security": 2})
SATURDAY_NIGHT = "Sat 22:00-02:00 UTC"


def told(lines: list[str], event: str = "machine.changed") -> list[dict[str, Any]]:
    written = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in written if line["event"] == event]


def states_of(lines: list[str]) -> list[str]:
    return [line["state"] for line in told(lines)]


def writes_a_note(call: TableCall) -> bool:
    return call.operation == "transact" and "parts" in call.columns


async def waiting(caplog: pytest.LogCaptureFixture) -> World:
    """A machine that is assessed and waits for Saturday."""
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_WINDOW": SATURDAY_NIGHT, "PATCH_FIRST_HOURS": "0"}, timings=QUICK)
    world.create("vm-01", GOOD)
    await world.pass_time(minutes=40)
    return world


async def test_a_wait_for_the_window_is_reported_once_with_its_opening(caplog: pytest.LogCaptureFixture) -> None:
    world = await waiting(caplog)
    await world.pass_time(hours=3)
    waits = [line for line in told(caplog.messages) if line["state"] == State.WAITING_FOR_WINDOW]
    assert [(line["verb"], line["when"]) for line in waits] == [("wait", "2026-11-28T22:00:00+00:00")]
    assert waits[0]["image"].endswith("1.0.0")


async def test_a_machine_that_leaves_the_sweeps_hands_is_asked_for_by_name(caplog: pytest.LogCaptureFixture) -> None:
    world = await waiting(caplog)
    world.set(PATCH_WINDOW="any")
    await world.pass_time(hours=2)
    assert states_of(caplog.messages)[-1] == State.PATCHED
    assert told(caplog.messages)[-1]["was"] != State.PATCHED
    caplog.clear()
    await world.pass_time(minutes=30)
    assert told(caplog.messages) == []


async def test_a_sweep_killed_between_line_and_note_tells_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_WINDOW": SATURDAY_NIGHT, "PATCH_FIRST_HOURS": "0"}, timings=QUICK)
    world.create("vm-01", GOOD)
    world.set(PATCH_PAUSE="on")
    await world.pass_time(minutes=10)
    world.table.kill_once("before", writes_a_note)
    world.set(PATCH_PAUSE="off")
    with pytest.raises(Killed):
        await world.pass_time(hours=2)
    await world.pass_time(minutes=60)
    times = Counter(states_of(caplog.messages))
    assert times[State.WAITING_FOR_WINDOW] >= 1
    assert max(times.values()) <= 2


async def test_the_census_and_the_lines_of_waits_carry_the_expected_time(caplog: pytest.LogCaptureFixture) -> None:
    """Three machines, one at a time: each waits with the hour of its turn, and the census repeats it."""
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_WINDOW": SATURDAY_NIGHT, "PATCH_MAX_IN_FLIGHT": "1", "PATCH_CANARIES": "0"}, timings=QUICK)
    world.in_steps(timedelta(minutes=15))
    for number in range(3):
        world.create(f"vm-{number}", GOOD)
    await world.pass_time(hours=26)
    expected = {line["machine"][-4:]: line["expected"] for line in told(caplog.messages) if "expected" in line}
    hours = sorted(datetime.fromisoformat(each) for each in expected.values())
    assert hours[0] == datetime(2026, 11, 28, 22, tzinfo=UTC)
    assert len(set(hours)) == 3
    counted = {line["machine"][-4:]: line.get("expected") for line in told(caplog.messages, "machine.counted")}
    assert counted == expected


async def test_a_turn_that_never_comes_is_reported_with_what_it_waits_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    sweep = await read_ledger(World().services)
    machine = MachineId(SUBSCRIPTION, "rg", "vm-1")
    waits = {machine: Told(Wait(State.WAITING_FOR_SLOT, "another goes first"))}
    no_work = Plan([], {}, {})
    for forecast in ({machine: None}, {}):
        told_now = states.of_sweep({}, no_work, waits, now=sweep.services.clock())
        await states.tell(sweep, states.with_turns(told_now, forecast), in_hand=waits)
    reasons = [line["reason"] for line in told(caplog.messages)]
    assert reasons == ["its turn does not come within 400 days: another goes first"]


async def test_plan_mode_tells_a_plan_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    world.create("vm-01", GOOD)
    await world.pass_time(minutes=40)
    world.set(PATCH_MODE="plan")
    await world.pass_time(hours=6)
    plans = told(caplog.messages, "machine.planned")
    assert [line["ring"] for line in plans if line["verb"] == "install"] == ["of the untagged"]


SAME = [
    ("another count", Wait(State.WAITING_FOR_SLOT, "7 are under way"), Wait(State.WAITING_FOR_SLOT, "8 are under way")),
    ("another minute", Wait(State.WAITING_FOR_WINDOW, "only 9 minutes are left; opens 2026-11-28 22:00 UTC"),
     Wait(State.WAITING_FOR_WINDOW, "only 4 minutes are left; opens 2026-11-28 22:05 UTC")),
    ("another assessment", Leave(State.PATCHED, "nothing to install, assessed 2026-11-25 08:00 UTC"),
     Leave(State.PATCHED, "nothing to install, assessed 2026-11-26 08:00 UTC")),
]  # fmt: skip
OTHER = [
    ("another verb", Assess(State.DUE, "due"), Install(State.DUE, "due")),
    ("another state", Wait(State.PAUSED, "x"), Wait(State.BUSY, "x")),
    ("another rule", Wait(State.BUILDING, "it is starting"), Wait(State.BUILDING, "its provisioning failed")),
    ("another opening", Wait(State.WAITING_FOR_WINDOW, "opens 2026-11-28 22:00 UTC"),
     Wait(State.WAITING_FOR_WINDOW, "opens 2026-12-05 22:00 UTC")),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_what_is_not_news(one: Step, other: Step) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), [case[1:] for case in OTHER], ids=[case[0] for case in OTHER])
def test_what_is_news(one: Step, other: Step) -> None:
    assert digest(one) != digest(other)


# -- the notes


SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
A_NOTE = Note("waiting-for-window", "0123abcd", week=105_000, in_hand=True, never=True)


async def read_again(table: MemoryTable) -> dict[MachineId, Note]:
    book = NoteBook(table)
    book.load(table.rows.values())
    return book.notes


async def test_notes_come_back_and_only_changed_buckets_are_written() -> None:
    table = MemoryTable()
    many = {MachineId(SUBSCRIPTION, "rg", f"vm-{number}"): A_NOTE for number in range(2000)}
    many[MachineId(SUBSCRIPTION, "rg", "vm-0", Provider.ARC)] = A_NOTE  # a server of a machine's name
    book = NoteBook(table)
    book.load(table.rows.values())
    await book.write(many, A_NOTE.week)
    assert await read_again(table) == many
    assert len(table.rows) == BUCKETS
    assert table.calls == {"transact": math.ceil(BUCKETS / MAX_CHANGES)}
    table.calls.clear()
    first = MachineId(SUBSCRIPTION, "rg", "vm-0")
    await book.write({first: None}, A_NOTE.week)
    assert table.calls == {"transact": 1}
    assert first not in await read_again(table)


async def test_a_bucket_outgrows_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    table = MemoryTable()
    book = NoteBook(table)
    names = [MachineId(SUBSCRIPTION, "rg", digest(Wait(State.DUE, "x" * number)) * 9) for number in range(1, 800)]
    monkeypatch.setattr(notes, "BUCKETS", 1)
    monkeypatch.setattr(notes, "COLUMN_BYTES", 1000)
    await book.write(dict.fromkeys(names, A_NOTE), A_NOTE.week)
    (row,) = table.rows.values()
    assert row.columns["parts"] > 1
    assert all(len(part) <= 1000 for part in row.columns.values() if isinstance(part, bytes))
    assert set(await read_again(table)) == set(names)


async def test_buckets_that_are_too_large_for_one_transaction_take_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "TRANSACTION_BYTES", 200)
    table = MemoryTable()
    many = {MachineId(SUBSCRIPTION, "rg", f"vm-{number}"): A_NOTE for number in range(20)}
    await NoteBook(table).write(many, A_NOTE.week)
    assert await read_again(table) == many
    assert 1 < table.calls["transact"] < len(table.rows)


async def test_a_bucket_that_another_writer_changed_keeps_no_other_from_being_written() -> None:
    table = MemoryTable()
    book = NoteBook(table)
    mine, others = MachineId(SUBSCRIPTION, "rg", "vm-1"), MachineId(SUBSCRIPTION, "rg", "vm-2")
    assert bucket_of(mine) != bucket_of(others)
    await book.write({mine: A_NOTE, others: A_NOTE}, A_NOTE.week)
    theirs = dict(table.rows["app", bucket_of(others)].columns)
    table.put("app", bucket_of(others), theirs)
    reported_again = replace(A_NOTE, digest="89ef")
    await book.write({mine: reported_again, others: reported_again}, A_NOTE.week)
    assert await read_again(table) == {mine: reported_again, others: A_NOTE}


async def test_a_note_of_a_machine_that_is_not_named_any_more_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "BUCKETS", 1)
    table = MemoryTable()
    book = NoteBook(table)
    gone, here = MachineId(SUBSCRIPTION, "rg", "vm-1"), MachineId(SUBSCRIPTION, "rg", "vm-2")
    await book.write({gone: A_NOTE}, A_NOTE.week)
    later = replace(A_NOTE, week=A_NOTE.week + 3)
    await book.write({here: later}, later.week)
    assert await read_again(table) == {here: later}


@pytest.mark.parametrize(
    ("columns", "reported_again"),
    [({"v": 99}, False), ({"v": 1, "parts": 1, "notes0": b"x"}, True), ({"v": 1}, True)],
    ids=["newer", "damaged", "empty"],
)
async def test_a_bucket_that_cannot_be_read(columns: dict[str, Any], *, reported_again: bool) -> None:
    table = MemoryTable()
    for number in range(BUCKETS):
        table.put("app", f"{PREFIX}{number:02x}", columns)
    book = NoteBook(table)
    book.load(table.rows.values())
    machine = MachineId(SUBSCRIPTION, "rg", "vm-0")
    assert book.knows(machine) is reported_again
    await book.write({machine: A_NOTE}, A_NOTE.week)
    assert (machine in await read_again(table)) is reported_again
