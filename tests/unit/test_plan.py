"""Fleet limits: which of the due machines now, and how far apart.

Factors: assessments and installations, slots taken by every phase, one and two quota buckets, claims that wait to be
sent, and how much is queued already. Below the examples, random fleets.
"""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from functions.decision import Assess, Install, State
from functions.machine import Kind, MachineId
from functions.plan import (
    HORIZON,
    TOKENS_A_CALL,
    TOKENS_A_MINUTE,
    Candidate,
    HandOut,
    Plan,
    installations_in_flight,
    make,
    waits_to_be_sent,
)
from functions.record import Phase, Record
from tests.support import DAY, HOUR, NOW, a_machine, a_record, machine_id, settings

REGIONS = ("westeurope", "northeurope")


def to_assess(name: str, region: str = "westeurope", age: timedelta = DAY) -> Candidate:
    machine = a_machine(id=machine_id(name), location=region, created=NOW - age)
    return Candidate(machine, Assess(State.DUE, "absent"))


def to_install(name: str, region: str = "westeurope", age: timedelta = DAY) -> Candidate:
    machine = a_machine(id=machine_id(name), location=region, created=NOW - age)
    return Candidate(machine, Install(State.DUE, "Supported"))


def names(plan: Plan) -> list[str]:
    return [item.machine.name for item in plan.hand_outs]


def fleet(count: int, region: str = "westeurope", prefix: str = "vm") -> list[Candidate]:
    return [to_assess(f"{prefix}-{number:04}", region) for number in range(count)]


def test_nothing_due_is_an_empty_plan() -> None:
    assert make([], [], settings(), NOW) == Plan([], 0, 0)


def test_assessments_first_then_the_oldest_machines() -> None:
    due = [to_install("new"), to_install("old", age=9 * DAY), to_assess("b"), to_assess("a", age=2 * DAY)]
    assert names(make(due, [], settings(), NOW)) == ["a", "b", "old", "new"]


def test_the_cap_counts_installations_alone() -> None:
    due = [to_install("i1", age=3 * DAY), to_install("i2", age=2 * DAY), to_install("i3"), *fleet(20)]
    plan = make(due, [], settings(PATCH_MAX_IN_FLIGHT="2"), NOW)
    assert [item.name for item in map(lambda hand_out: hand_out.machine, plan.hand_outs)][-2:] == ["i1", "i2"]
    assert len(plan.hand_outs) == 22
    assert plan.waiting_for_slot == 1


def test_a_cap_of_nought_installs_nothing_and_assesses_all() -> None:
    plan = make([to_install("i1"), to_assess("a1")], [], settings(PATCH_MAX_IN_FLIGHT="0"), NOW)
    assert names(plan) == ["a1"]
    assert plan.waiting_for_slot == 1


@pytest.mark.parametrize("phase", Phase)
def test_what_holds_a_slot(phase: Phase) -> None:
    held = installations_in_flight([a_record(kind=Kind.INSTALL, phase=phase), a_record(kind=Kind.ASSESS, phase=phase)])
    assert held == (1 if phase in (Phase.QUEUED, Phase.STARTING, Phase.RUNNING) else 0)


def test_slots_that_are_taken_are_not_given_again() -> None:
    rows = [a_record(machine=machine_id(f"r{number}"), kind=Kind.INSTALL, phase=Phase.RUNNING) for number in range(3)]
    plan = make([to_install("i1"), to_install("i2")], rows, settings(PATCH_MAX_IN_FLIGHT="4"), NOW)
    assert len(plan.hand_outs) == 1
    plan = make([to_install("i1")], rows, settings(PATCH_MAX_IN_FLIGHT="2"), NOW)  # a cap lowered under way
    assert (len(plan.hand_outs), plan.waiting_for_slot) == (0, 1)


def test_calls_of_one_bucket_are_spread_and_end_at_the_horizon() -> None:
    plan = make(fleet(1000), [], settings(PATCH_PACE_PERCENT="100"), NOW)
    delays = [item.delay for item in plan.hand_outs]
    assert delays[:3] == [timedelta(0), timedelta(milliseconds=600), timedelta(milliseconds=1200)]
    assert len(delays) == 500  # 200 tokens a minute, 2 a call, 5 minutes
    assert plan.waiting_for_pace == 500
    assert max(delays) < HORIZON


@pytest.mark.parametrize(("percent", "calls"), [("75", 375), ("50", 250), ("1", 5)])
def test_the_pace_leaves_room_for_others(percent: str, calls: int) -> None:
    assert len(make(fleet(600), [], settings(PATCH_PACE_PERCENT=percent), NOW).hand_outs) == calls


def test_two_buckets_go_side_by_side() -> None:
    due = fleet(300, "westeurope", "w") + fleet(300, "northeurope", "n")
    plan = make(due, [], settings(PATCH_PACE_PERCENT="50"), NOW)
    assert Counter(item.machine.name[0] for item in plan.hand_outs) == {"w": 250, "n": 250}
    assert sum(item.delay == timedelta(0) for item in plan.hand_outs) == 2


def test_two_subscriptions_of_one_region_are_two_buckets() -> None:
    other = "00000000-0000-0000-0000-000000000002"
    machine = a_machine(id=MachineId(other, "rg", "x"))
    due = [*fleet(3), Candidate(machine, Assess(State.DUE, "absent"))]
    assert sum(item.delay == timedelta(0) for item in make(due, [], settings(), NOW).hand_outs) == 2


def test_what_is_queued_already_is_taken_off_the_pace() -> None:
    rows = [a_record(machine=machine_id(f"q{number}")) for number in range(300)]
    plan = make(fleet(200), rows, settings(), NOW)
    assert len(plan.hand_outs) == 75
    assert plan.hand_outs[0].delay == 300 * timedelta(milliseconds=800)


def test_a_claim_that_was_never_sent_goes_first_and_takes_no_second_slot() -> None:
    unsent = a_record(machine=machine_id("unsent"), kind=Kind.INSTALL, sent=False)
    plan = make([to_install("new"), to_assess("a")], [unsent], settings(PATCH_MAX_IN_FLIGHT="1"), NOW)
    assert plan.hand_outs[0] == HandOut(machine_id("unsent"), None, timedelta(0))
    assert names(plan) == ["unsent", "a"]
    assert plan.waiting_for_slot == 1


@pytest.mark.parametrize(
    ("record", "waits"),
    [
        pytest.param(a_record(sent=False), True, id="its time has come"),
        pytest.param(a_record(sent=False, due_at=NOW + HOUR), False, id="postponed by a 429"),
        pytest.param(a_record(sent=True), False, id="a message is under way"),
        pytest.param(a_record(sent=False, phase=Phase.HELD), False, id="held"),
    ],
)
def test_claims_that_wait_to_be_sent(record: Record, waits: bool) -> None:
    assert waits_to_be_sent(record, NOW) is waits
    assert bool(make([], [record], settings(), NOW).hand_outs) is waits


# -- random fleets

candidates = st.lists(
    st.tuples(st.sampled_from([to_assess, to_install]), st.sampled_from(REGIONS), st.integers(0, 9)), max_size=60
).map(lambda rows: [make_one(f"c{n}", region, age * DAY) for n, (make_one, region, age) in enumerate(rows)])
records = st.lists(
    st.tuples(st.sampled_from(Phase), st.sampled_from(Kind), st.booleans(), st.sampled_from(REGIONS)), max_size=60
).map(
    lambda rows: [
        a_record(machine=machine_id(f"r{n}"), phase=phase, kind=kind, sent=sent, region=region)
        for n, (phase, kind, sent, region) in enumerate(rows)
    ]
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(candidates, records, st.integers(0, 12), st.integers(1, 100))
def test_in_every_fleet(due: list[Candidate], rows: list[Record], cap: int, percent: int) -> None:
    given_settings = settings(PATCH_MAX_IN_FLIGHT=str(cap), PATCH_PACE_PERCENT=str(percent))
    plan = make(due, rows, given_settings, NOW)
    unsent = [row for row in rows if waits_to_be_sent(row, NOW)]

    # nothing is lost and nothing is doubled
    assert len(plan.hand_outs) + plan.waiting_for_slot + plan.waiting_for_pace == len(due) + len(unsent)
    handed_out = [item.machine for item in plan.hand_outs]
    assert len(set(handed_out)) == len(handed_out)

    # the cap
    installs = sum(item.candidate is not None and item.candidate.kind is Kind.INSTALL for item in plan.hand_outs)
    assert installs == 0 or installs + installations_in_flight(rows) <= cap

    # the pace: within the horizon, evenly, and with what is queued never more than the quota's share
    calls_a_minute = TOKENS_A_MINUTE / TOKENS_A_CALL * percent / 100
    spacing = timedelta(minutes=1) / calls_a_minute
    regions = {row.machine: row.region for row in rows} | {item.machine.id: item.machine.location for item in due}
    for region in REGIONS:
        delays = [item.delay for item in plan.hand_outs if regions[item.machine] == region]
        queued = sum(row.phase is Phase.QUEUED and row.sent and row.region == region for row in rows)
        assert all(timedelta(0) <= delay < HORIZON for delay in delays)
        assert delays == [(queued + number) * spacing for number in range(len(delays))]
        assert not delays or (len(delays) + queued - 1) * spacing < HORIZON

    # the order: unsent claims, assessments, installations
    order = [0 if item.candidate is None else 1 if item.candidate.kind is Kind.ASSESS else 2 for item in plan.hand_outs]
    assert order == sorted(order)
