"""Rounds of one image: who goes first, when the next ring opens, and what stops them all.

Factors: the round (none, current, expired), canaries proved and in flight, rings before proved or not, the success
bar and the bake on both sides of their limits, failures by place and age, and the breaker open, closed, open again.
Below the tables, whole rollouts told result by result, and what must hold in every history.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.decisions.rollout import (
    COUNTED,
    Admission,
    InFlight,
    Member,
    Result,
    admit,
    boundary,
    breaker_wait,
    current,
    record_result,
    ring_name,
)
from functions.model.image_record import Failure, ImageRecord, Tally, mark
from functions.model.machine import LAST_RING, ResourceGroup
from functions.model.state import Cause, State, Step, Wait
from functions.policy.settings import Settings
from functions.policy.window_grammar import read_windows
from functions.policy.windows import Windows, both
from tests.support import DAY, GALLERY_IMAGE, HOUR, MINUTE, NOW, SUBSCRIPTION, a_machine, machine_id, settings

SECOND = timedelta(seconds=1)
OPENED = NOW - 2 * DAY
PROVED = NOW - DAY  # the bake of a day is just over
BROKEN = "the package manager is broken"


def an_image(**changes: Any) -> ImageRecord:
    """An image two days into its round, whose canary succeeded a day ago."""
    record = ImageRecord(
        GALLERY_IMAGE, opened=OPENED, canaries=1, proved=PROVED, rings={0: Tally(succeeded=1, last=PROVED)}
    )
    return replace(record, **changes)


def fresh(**changes: Any) -> ImageRecord:
    """An image an hour into its round, of which nothing is proved yet."""
    return replace(ImageRecord(GALLERY_IMAGE, opened=NOW - HOUR), **changes)


def ring_of(name: str) -> int:
    """`a0` is machine a0 of ring 0, `b` one without a ring."""
    return int(name[1:]) if name[1:] else LAST_RING


def members(*names: str, by: Settings) -> list[Member]:
    may = {name: by.may_be_canary(machine_id(name)) for name in names}
    return [Member(machine_id(name), ring_of(name), may_be_canary=may[name], canary_due=may[name]) for name in names]


def at_work(*names: str) -> list[InFlight]:
    return [InFlight(machine_id(name), ring_of(name)) for name in names]


def next_rollout(record: ImageRecord, by: Settings, now: datetime, due: str = "") -> ImageRecord:
    return current(record, members(*due.split(), by=by), [], settings=by, now=now)


def ask(
    record: ImageRecord, due: str, running: str = "", now: datetime = NOW, by: Settings | None = None
) -> tuple[str, dict[str, Step]]:
    """The names admitted, in order, and the waits by name."""
    by = by or settings()
    found: Admission = admit(record, members(*due.split(), by=by), at_work(*running.split()), settings=by, now=now)
    return " ".join(machine.name for machine in found.admitted), {
        machine.name: step for machine, step in found.waits.items()
    }


def end(
    record: ImageRecord,
    name: str,
    problem: str = "",
    *,
    at: datetime = NOW,
    begun: datetime | None = None,
    operation: str = "",
    by: Settings | None = None,
) -> ImageRecord:
    """Records the result of this machine; its installation began half an hour before, if nothing else is said."""
    machine = machine_id(name)
    result = Result(operation or f"{name} {at}", machine, ring_of(name), begun or at - 30 * MINUTE, problem)
    return record_result(record, result, by or settings(), now=at)


# -- a round opens, and ends

ROUNDS: dict[str, tuple[ImageRecord, str, datetime | None]] = {
    # record, PATCH_ROLLOUT_DAYS, the start of the round that holds now
    "no round yet": (ImageRecord(GALLERY_IMAGE), "7", NOW),
    "just opened": (fresh(opened=NOW), "7", NOW),
    "one second before its end": (fresh(opened=NOW - 7 * DAY + SECOND), "7", NOW - 7 * DAY + SECOND),
    "at its end": (fresh(opened=NOW - 7 * DAY), "7", NOW),
    "long ended": (fresh(opened=NOW - 60 * DAY), "7", NOW),
    "a longer one": (fresh(opened=NOW - 7 * DAY), "30", NOW - 7 * DAY),
}


@pytest.mark.parametrize(("record", "days", "opened"), ROUNDS.values(), ids=ROUNDS)
def test_rollouts(record: ImageRecord, days: str, opened: datetime) -> None:
    assert next_rollout(record, settings(PATCH_ROLLOUT_DAYS=days), NOW).opened == opened


def test_a_round_that_holds_is_kept_as_it_is() -> None:
    assert next_rollout(an_image(), settings(), NOW) == an_image()


def test_a_new_round_has_proved_nothing_and_forgives_nothing() -> None:
    old = an_image(
        opened=NOW - 14 * DAY,
        failures=(Failure(NOW - DAY),),
        counted=("op",),
        opening="o",
        opened_because="why",
        closed="c",
    )
    assert next_rollout(old, settings(), NOW) == replace(old, opened=NOW, canaries=0, proved=None, rings={})
    assert next_rollout(old, settings(), NOW).breaker_open


# -- who may go: `due` in any order, what is admitted in order, and the state of each that waits

CANARY, RING, BREAKER = State.WAITING_FOR_CANARY, State.WAITING_FOR_RING, State.BREAKER_OPEN
LATER = {"PATCH_CANARIES": "3"}
NONE = {"PATCH_CANARIES": "0"}
WHO: dict[str, tuple[ImageRecord, dict[str, str], str, str, str, dict[str, State]]] = {
    # record, settings, due, in flight, admitted, waits
    "none is due": (fresh(), {}, "", "", "", {}),
    "the canary goes alone": (fresh(), {}, "b c a", "", "a", {"b": CANARY, "c": CANARY}),
    "the canary is of the lowest ring": (fresh(), {}, "a b2 c0", "", "c0", {"a": CANARY, "b2": CANARY}),
    "the canary is in flight": (fresh(), {}, "b0 c", "a0", "", {"b0": CANARY, "c": CANARY}),
    "the canary went away: the next takes its place": (fresh(), {}, "b0 c", "", "b0", {"c": CANARY}),
    "a canary of a later ring is in flight: it is not doubled": (fresh(), {}, "a0", "z9", "", {"a0": CANARY}),
    "three canaries": (fresh(), LATER, "a b c d", "", "a b c", {"d": CANARY}),
    "one of three is in flight": (fresh(), LATER, "b c d", "a", "b c", {"d": CANARY}),
    "one of three is proved": (fresh(canaries=1), LATER, "b c d", "", "b c", {"d": CANARY}),
    "one proved, one in flight": (fresh(canaries=1), LATER, "c d", "b", "c", {"d": CANARY}),
    "one proved, two in flight": (fresh(canaries=1), LATER, "d", "b c", "", {"d": CANARY}),
    "more in flight than canaries (the setting was lowered)": (fresh(), {}, "d", "a b c", "", {"d": CANARY}),
    "fewer machines than canaries": (fresh(), LATER, "a b", "", "a b", {}),
    "no canaries at all": (fresh(), NONE, "a b1 c0 d0", "", "c0 d0", {"a": RING, "b1": RING}),
    "the canary bakes: its own ring waits": (an_image(proved=NOW - HOUR), {}, "a0 b", "", "", {"a0": RING, "b": RING}),
    "the canary is baked": (an_image(), {}, "a0 b0", "", "a0 b0", {}),
    "ring after ring": (an_image(), {}, "c2 a0 b1 d", "", "a0", {"b1": RING, "c2": RING, "d": RING}),
    "a ring is in flight": (an_image(), {}, "b1", "a0", "", {"b1": RING}),
    "more of the same ring may go": (an_image(), {}, "b0", "a0", "b0", {}),
    "a later ring in flight holds no other back": (an_image(), {}, "a0", "z9", "a0", {}),
    "ring 0 is done: ring 1 opens": (an_image(), {}, "a1 b2", "", "a1", {"b2": RING}),
    "an empty ring between is not a ring": (an_image(), {}, "a5", "", "a5", {}),
    "the untagged are last": (an_image(), {}, "a z99", "", "z99", {"a": RING}),
    "the untagged, when all others are done": (an_image(), {}, "a b", "", "a b", {}),
    "the ring before bakes": (an_image(rings={0: Tally(9, 0, NOW - HOUR)}), {}, "a1", "", "", {"a1": RING}),
    "the same ring does not wait for its own bake": (an_image(rings={0: Tally(9, 0, NOW)}), {}, "a0", "", "a0", {}),
    "a later ring's end is not a bake of this one": (an_image(rings={5: Tally(9, 0, NOW)}), {}, "a1", "", "a1", {}),
    "the breaker is open": (an_image(opening="o"), {}, "a0 b", "", "", {"a0": BREAKER, "b": BREAKER}),
    "the breaker is open before any canary": (fresh(opening="o"), NONE, "a0", "", "", {"a0": BREAKER}),
    "the breaker was closed": (an_image(opening="o", closed="o"), {}, "a0", "", "a0", {}),
    "another opening was closed": (an_image(opening="o", closed="older"), {}, "a0", "", "", {"a0": BREAKER}),
}


@pytest.mark.parametrize(("record", "environ", "due", "running", "admitted", "waits"), WHO.values(), ids=WHO)
def test_who_may_go(
    record: ImageRecord, environ: dict[str, str], due: str, running: str, admitted: str, waits: dict[str, State]
) -> None:
    names, steps = ask(record, due, running, by=settings(**environ))
    assert names == admitted
    assert {name: step.state for name, step in steps.items()} == waits
    assert all(isinstance(step, Wait) and step.reason for step in steps.values())


# The success bar: rings before, cumulative, and PATCH_SUCCESS_PERCENT. All are baked.
BAR: list[tuple[str, dict[int, tuple[int, int]], str, bool]] = [
    ("all succeeded", {0: (9, 0)}, "90", True),
    ("just at the bar", {0: (9, 1)}, "90", True),
    ("just under it", {0: (8, 1)}, "90", False),
    ("at 100 % one failure is too much", {0: (99, 1)}, "100", False),
    ("at 0 % none is", {0: (0, 2)}, "0", True),
    ("two rings add up to the bar", {0: (1, 1), 1: (17, 1)}, "90", True),
    ("two rings add up to less", {0: (1, 1), 1: (16, 1)}, "90", False),
    ("its own ring does not count", {2: (0, 2)}, "90", True),
    ("a later ring does not count", {3: (0, 2)}, "90", True),
    ("none went before", {}, "100", True),
]


@pytest.mark.parametrize(("tallies", "percent", "opens"), [row[1:] for row in BAR], ids=[row[0] for row in BAR])
def test_the_success_bar(tallies: dict[int, tuple[int, int]], percent: str, opens: bool) -> None:
    record = an_image(rings={ring: Tally(good, bad, PROVED) for ring, (good, bad) in tallies.items()})
    names, waits = ask(record, "x2", by=settings(PATCH_SUCCESS_PERCENT=percent))
    assert names == ("x2" if opens else "")
    if not opens:
        good, bad = (sum(column) for column in zip(*tallies.values(), strict=True))
        assert waits["x2"].reason == f"only {good} of {good + bad} installations before its ring succeeded"
        assert waits["x2"].remedy


@pytest.mark.parametrize(
    ("proved", "before", "minutes", "until"),
    [
        pytest.param(NOW, None, "1440", NOW + DAY, id="just proved"),
        pytest.param(NOW - DAY + SECOND, None, "1440", NOW + SECOND, id="one second is missing"),
        pytest.param(NOW - DAY, None, "1440", None, id="at its end"),
        pytest.param(NOW - 9 * DAY, NOW - HOUR, "1440", NOW + 23 * HOUR, id="the ring before ended later"),
        pytest.param(NOW - HOUR, NOW - 9 * DAY, "1440", NOW + 23 * HOUR, id="the canary ended later"),
        pytest.param(NOW, NOW, "0", None, id="no bake"),
    ],
)
def test_the_bake(proved: datetime, before: datetime | None, minutes: str, until: datetime | None) -> None:
    record = an_image(proved=proved, rings={0: Tally(2, 0, before)})
    names, waits = ask(record, "x1", by=settings(PATCH_BAKE_MINUTES=minutes))
    if until is None:
        assert (names, waits) == ("x1", {})
        return
    assert names == ""
    assert waits["x1"].when == until
    assert waits["x1"].reason == f"what went before it is watched until {until:%Y-%m-%d %H:%M} UTC"
    assert ask(record, "x1", now=until, by=settings(PATCH_BAKE_MINUTES=minutes))[0] == "x1"


# -- what the waits say


@pytest.mark.parametrize(
    ("record", "due", "running", "name", "reason"),
    [
        (fresh(), "a b", "", "b", "the rollout's canary goes first: a"),
        (fresh(), "b", "a", "b", "the rollout's canary goes first: a"),
        (an_image(), "a0 b1", "", "b1", "ring 0 goes first"),
        (an_image(), "c2", "b1 x0", "c2", "ring 0 goes first"),
        (an_image(), "a z7", "", "a", "ring 7 goes first"),
    ],
)
def test_a_wait_names_who_goes_first(record: ImageRecord, due: str, running: str, name: str, reason: str) -> None:
    step = ask(record, due, running)[1][name]
    assert step.reason == reason
    assert (step.cause, step.remedy) == (Cause.TRANSIENT, "")  # it passes by itself: a person has nothing to do


def test_a_wait_names_every_canary_in_flight_and_chosen() -> None:
    assert ask(fresh(), "b c d", "a", by=settings(**LATER))[1]["d"].reason == "the rollout's canary goes first: a, b, c"


def test_rings_by_name() -> None:
    assert (ring_name(0), ring_name(99), ring_name(LAST_RING)) == ("0", "99", "of the untagged")


def test_an_open_breaker_names_its_opening_its_reason_and_how_to_close_it() -> None:
    record = end(fresh(), "a0", BROKEN)
    step = breaker_wait(record)
    assert step.state is State.BREAKER_OPEN
    assert record.opening == "20261125T120000"
    assert record.opening in step.reason
    assert "its canary a0: the package manager is broken" in step.reason
    assert f"close opening {record.opening}" in step.remedy
    assert "docs/stop.md" in step.remedy
    assert ask(record, "b0")[1] == {"b0": step}


# -- what an installation proves


def test_a_canary_that_succeeds_is_proved_and_counted() -> None:
    record = end(fresh(), "a0", at=NOW + HOUR)
    assert (record.canaries, record.proved) == (1, NOW + HOUR)
    assert record.rings == {0: Tally(1, 0, NOW + HOUR)}
    assert (record.failures, record.breaker_open) == ((), False)


def test_after_the_canary_a_success_only_adds_up() -> None:
    record = end(an_image(), "b1")
    assert (record.canaries, record.proved) == (1, PROVED)
    assert record.rings == {0: Tally(1, 0, PROVED), 1: Tally(1, 0, NOW)}


def test_as_many_canaries_as_are_wanted_are_proved() -> None:
    record = fresh()
    for number, name in enumerate(("a", "b", "c", "d"), 1):
        record = end(record, name, at=NOW + number * HOUR, by=settings(**LATER))
    assert (record.canaries, record.proved) == (3, NOW + 3 * HOUR)
    assert record.rings == {LAST_RING: Tally(4, 0, NOW + 4 * HOUR)}


def test_an_operation_is_counted_once() -> None:
    once = end(fresh(), "a", BROKEN, operation="op-1")
    assert end(once, "a", BROKEN, operation="op-1", at=NOW + HOUR) == once
    assert end(once, "a", "", operation="op-1") == once
    assert end(once, "a", BROKEN, operation="op-2", at=NOW + HOUR).failures == (
        Failure(NOW + HOUR, mark(machine_id("a"))),
    ), "of one machine its last"


def test_as_many_operations_are_remembered_as_one_sweep_could_count_twice() -> None:
    record = an_image()
    for number in range(COUNTED + 10):
        record = end(record, "a", operation=f"op-{number}")
    assert record.counted == tuple(f"op-{number}" for number in range(10, COUNTED + 10))


BEFORE: list[tuple[str, datetime, str, int, int]] = [
    # begun, problem, canaries, failures
    ("begun at the round's start", NOW, "", 1, 0),
    ("begun before the round", NOW - SECOND, "", 0, 0),
    ("failed, begun before the round", NOW - SECOND, BROKEN, 0, 1),
]


@pytest.mark.parametrize(
    ("begun", "problem", "canaries", "failures"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE]
)
def test_what_began_before_the_round_proves_nothing_of_it(
    begun: datetime, problem: str, canaries: int, failures: int
) -> None:
    record = end(fresh(opened=NOW), "a0", problem, begun=begun, at=NOW + HOUR)
    assert (record.canaries, len(record.failures)) == (canaries, failures)
    assert bool(record.rings) is (begun >= NOW)
    assert not record.breaker_open  # a failure of last month's patches is not a failure of this round's canary


def test_what_ends_where_no_round_was_ever_opened_counts_its_failure_alone() -> None:
    record = end(ImageRecord(GALLERY_IMAGE), "a0", BROKEN)
    assert (record.opened, record.canaries, record.rings, record.failures) == (
        None,
        0,
        {},
        (Failure(NOW, mark(machine_id("a0"))),),
    )
    assert end(ImageRecord(GALLERY_IMAGE), "a0").canaries == 0


# -- the breaker


def test_the_canarys_failure_opens_it_at_once() -> None:
    record = end(fresh(), "a0", BROKEN)
    assert record.breaker_open
    assert record.opened_because == f"its canary a0: {BROKEN}"
    assert (record.canaries, record.rings) == (0, {0: Tally(0, 1, NOW)})


def test_any_of_several_canaries_opens_it() -> None:
    record = end(end(fresh(), "a", by=settings(**LATER)), "b", BROKEN, by=settings(**LATER))
    assert record.breaker_open
    assert record.opened_because == f"its canary b: {BROKEN}"


def test_without_canaries_only_the_limit_opens_it() -> None:
    record = end(fresh(), "a", BROKEN, by=settings(**NONE))
    assert not record.breaker_open


def failing(count: int, limit: str, apart: timedelta = HOUR) -> ImageRecord:
    """So many failures after the canary, so far apart; the last of them at NOW."""
    record = an_image()
    for number in range(count):
        record = end(
            record, f"m{number}", BROKEN, at=NOW - (count - 1 - number) * apart, by=settings(PATCH_BREAKER=limit)
        )
    return record


@pytest.mark.parametrize(
    ("count", "limit", "apart", "opened"),
    [
        pytest.param(1, "3 in 7 days", HOUR, False, id="one"),
        pytest.param(2, "3 in 7 days", HOUR, False, id="one fewer than the limit"),
        pytest.param(3, "3 in 7 days", HOUR, True, id="at the limit"),
        pytest.param(1, "1 in 1 day", HOUR, True, id="a limit of one"),
        pytest.param(3, "3 in 7 days", 3.5 * DAY, False, id="the first is exactly as old as the span"),
        pytest.param(3, "3 in 7 days", 3.5 * DAY - SECOND, True, id="the first is just young enough"),
        pytest.param(9, "3 in 7 days", 4 * DAY, False, id="ever and ever, but far apart"),
    ],
)
def test_cumulative_failures_open_it(count: int, limit: str, apart: timedelta, opened: bool) -> None:
    record = failing(count, limit, apart)
    assert record.breaker_open is opened
    if opened:
        machines = "1 machine" if count == 1 else f"{count} machines"
        assert record.opened_because == f"{machines} failed, last m{count - 1}"


def test_one_machine_is_not_the_voice_of_its_image() -> None:
    record = an_image()
    for number in range(10):
        record = end(record, "m", BROKEN, at=NOW + number * HOUR)
    assert not record.breaker_open
    record = end(end(record, "n", BROKEN, at=NOW + 10 * HOUR), "o", BROKEN, at=NOW + 10 * HOUR)
    assert record.opened_because == "3 machines failed, last o"


NAMED = {"PATCH_CANARY_MACHINES": "b?"}
NAMED_CANARIES: dict[str, tuple[str, str, str, str]] = {
    # due, in flight, admitted, what the others' reason says
    "the named one goes, whatever the rings": ("a0 b9 c", "", "b9", "goes first: b9"),
    "the named one is in flight": ("a0 c", "b9", "", "goes first: b9"),
    "another one is in flight: it proves nothing": ("b9 c", "a0", "b9", "goes first: b9"),
    "the named one is not due": ("a0 c", "", "", "no machine of this image that PATCH_CANARY_MACHINES names is due"),
}


@pytest.mark.parametrize(("due", "running", "admitted", "says"), NAMED_CANARIES.values(), ids=NAMED_CANARIES)
def test_only_named_machines_are_canaries(due: str, running: str, admitted: str, says: str) -> None:
    names, waits = ask(fresh(), due, running, by=settings(**NAMED))
    assert names == admitted
    assert set(waits) == {*due.split()} - {*admitted.split()}
    assert all(says in step.reason for step in waits.values())
    assert all(bool(step.remedy) is ("no machine" in says) for step in waits.values())


@pytest.mark.parametrize("problem", ["", BROKEN])
def test_a_machine_that_is_not_named_proves_and_stops_nothing_as_a_canary(problem: str) -> None:
    record = end(fresh(), "a0", problem, by=settings(**NAMED))
    assert (record.canaries, record.breaker_open) == (0, False)
    record = end(fresh(), "b0", problem, by=settings(**NAMED))
    assert (record.canaries, record.breaker_open) == ((0, True) if problem else (1, False))


TEAM = "00000000-0000-0000-0000-000000000002"
BOUNDARIES: dict[str, tuple[str, dict[str, Any], str]] = {
    # PATCH_ROLLOUT_SCOPE, the machine, its boundary
    "of a subscription": ("subscription", {"id": machine_id("a", subscription=TEAM)}, f"subscription {TEAM}"),
    "of a subscription, of any owner": ("subscription", {"tags": {"owner": "x"}}, f"subscription {SUBSCRIPTION}"),
    "of an owner": ("owner", {"tags": {"owner": "Web"}}, "owner web"),
    "of an owner, by the resource group's tag": (
        "owner",
        {"resource_group": ResourceGroup({"owner": "Web"})},
        "owner web",
    ),
    "without an owner": ("owner", {}, "owner"),
    "of the fleet": ("fleet", {"tags": {"owner": "x"}}, ""),
}


@pytest.mark.parametrize(("scope", "changes", "expected"), BOUNDARIES.values(), ids=BOUNDARIES)
def test_the_trust_boundary_of_a_machine(scope: str, changes: dict[str, Any], expected: str) -> None:
    assert boundary(a_machine(**changes), settings(PATCH_ROLLOUT_SCOPE=scope)) == expected


def test_failures_add_up_over_rounds_and_successes_between_take_none_away() -> None:
    record = end(an_image(), "a", BROKEN, at=NOW)
    record = end(record, "b", at=NOW + HOUR)
    record = next_rollout(record, settings(PATCH_BAKE_MINUTES="0", PATCH_ROLLOUT_DAYS="1"), NOW + DAY)
    record = end(record, "c", at=NOW + DAY + HOUR)  # the new round's canary
    record = end(record, "d", BROKEN, at=NOW + 2 * DAY)
    assert not record.breaker_open
    assert end(record, "e", BROKEN, at=NOW + 3 * DAY).breaker_open


def test_it_stays_open_whatever_happens_until_that_one_opening_is_closed() -> None:
    record = end(fresh(), "a0", BROKEN)
    opening = record.opening
    for number in range(1, 6):  # the rest in flight ends well, ends badly, and rounds pass
        record = end(record, f"m{number}", BROKEN if number % 2 else "", at=NOW + number * DAY)
        record = next_rollout(record, settings(), NOW + number * 8 * DAY)
        assert record.breaker_open
        assert (record.opening, record.opened_because) == (opening, f"its canary a0: {BROKEN}")
        assert ask(record, "x0", now=NOW + number * 8 * DAY)[0] == ""
    assert not replace(record, closed=opening).breaker_open


def test_after_it_was_closed_a_later_failure_opens_another() -> None:
    record = end(fresh(), "a0", BROKEN)
    record = replace(record, closed=record.opening)
    assert ask(record, "b0 c")[0] == "b0"  # a canary first, as before
    record = end(record, "b0", "it does not boot", at=NOW + HOUR)
    assert record.breaker_open
    assert record.opening == "20261125T130000"
    assert record.opened_because == "its canary b0: it does not boot"


def test_after_it_was_closed_at_the_limit_the_next_failure_within_the_span_opens_another() -> None:
    """Cumulative: a person who closes it has checked what failed; what fails on is news."""
    record = failing(3, "3 in 7 days")
    record = replace(record, closed=record.opening)
    assert end(record, "x", BROKEN, at=NOW + HOUR).breaker_open
    assert not end(record, "x", BROKEN, at=NOW + 8 * DAY).breaker_open  # the old ones are out of the span
    assert not end(record, "x", at=NOW + HOUR).breaker_open


# -- in every history

steps = st.lists(
    st.tuples(
        st.sampled_from(["a0", "b0", "c1", "d1", "e"]),
        st.sampled_from(["", "", "", BROKEN]),
        st.sampled_from([MINUTE, HOUR, DAY, 5 * DAY]),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(steps, st.sampled_from(["0", "1", "3"]), st.sampled_from(["1 in 1 day", "3 in 7 days"]))
def test_in_every_history(history: list[tuple[str, str, timedelta, int]], canaries: str, limit: str) -> None:
    environ = {"PATCH_CANARIES": canaries, "PATCH_BREAKER": limit}
    limits = settings(**environ)
    record, now, failed = ImageRecord(GALLERY_IMAGE), NOW, dict[str, datetime]()
    for number, (name, problem, pause, hand) in enumerate(history):
        now += pause
        record = next_rollout(record, limits, now)
        was_open, opening = record.breaker_open, record.opening
        record = end(record, name, problem, at=now, operation=str(number), by=limits)
        failed |= {name: now} if problem else {}

        assert record.opened is not None
        assert now < record.opened + limits.rollout_length
        assert record.canaries <= limits.canaries
        # a success never opens it, and whatever opened it stays until it is closed
        assert record.breaker_open is was_open or problem
        assert record.opening == opening or (problem and not was_open)
        # as many failed machines as the limit within the span leave none unnoticed
        recent = {at for at in failed.values() if at > now - limits.breaker.span}
        assert recent <= {each.at for each in record.failures} <= set(failed.values())
        if problem and len(recent) >= limits.breaker.failures:
            assert record.breaker_open
        # nothing goes past it; and before a canary is proved, no more than canaries go
        names, waits = ask(record, "v0 w0 x1 y2 z", now=now, by=limits)
        assert len(names.split()) + len(waits) == 5
        if record.breaker_open:
            assert names == ""
        elif record.canaries < limits.canaries:
            assert len(names.split()) == limits.canaries - record.canaries
        # the same operation again changes nothing
        assert end(record, name, problem, at=now + SECOND, operation=str(number), by=limits) == record
        if hand == 0 and record.breaker_open:
            record = replace(record, closed=record.opening)


# -- when a rollout ends: its windows, its rings, and what a person does

WEDNESDAY = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MONTHLY, WEEKLY = read_windows("2nd Tue 22:00-02:00 UTC"), read_windows("Sat 22:00-02:00 UTC")


def in_window(window: Windows, ring: int = LAST_RING, **changes: Any) -> Member:
    return Member(machine_id(f"m{ring}"), ring, window=window, due=False, canary_due=False, **changes)


def since(opened: datetime | None, ring: int = LAST_RING) -> dict[int, Tally]:
    return {ring: Tally(1, 0, opened, opened)}


ENDS: dict[str, tuple[ImageRecord, list[Member], bool]] = {
    # record (its canary was proved 20 days ago), the machines left, whether it is over
    "none is left": (an_image(), [], True),
    "its ring has not opened, but another": (an_image(rings=since(WEDNESDAY - 9 * DAY, 5)), [in_window(WEEKLY)], False),
    "none was left behind its canary, and their opening passed": (an_image(rings={}), [in_window(WEEKLY)], True),
    "none was left behind its canary, and their opening is to come": (
        an_image(rings={}),
        [in_window(read_windows("last Fri 22:00-02:00 UTC"))],
        False,
    ),
    "no full opening yet": (an_image(rings=since(WEDNESDAY - 3 * DAY)), [in_window(WEEKLY)], False),
    "a full opening passed": (an_image(rings=since(WEDNESDAY - 5 * DAY)), [in_window(WEEKLY)], True),
    "of a monthly window none passed": (an_image(rings=since(WEDNESDAY - 12 * DAY)), [in_window(MONTHLY)], False),
    "of two windows the later counts": (
        an_image(rings=since(WEDNESDAY - 12 * DAY)),
        [in_window(WEEKLY), in_window(MONTHLY)],
        False,
    ),
    "the window was changed meanwhile: the present one counts": (
        an_image(rings=since(WEDNESDAY - 5 * DAY)),
        [in_window(read_windows("Mon 22:00-02:00 UTC"))],
        True,
    ),
    "one left was installed in it": (
        an_image(rings={}),
        [in_window(WEEKLY, installed=WEDNESDAY - DAY)],
        True,
    ),
    "a machine was moved to an earlier ring, which has not opened": (
        an_image(rings=since(WEDNESDAY - 5 * DAY)),
        [in_window(WEEKLY, ring=0)],
        False,
    ),
    "its rings fell below the bar": (
        an_image(rings={0: Tally(1, 3, WEDNESDAY - 9 * DAY, WEDNESDAY - 9 * DAY)}),
        [in_window(WEEKLY, ring=1)],
        True,
    ),
    "it has proved nothing: the cut-off date may as well be new": (
        an_image(canaries=0, proved=None, rings={}),
        [in_window(WEEKLY)],
        True,
    ),
    "a person ended it": (
        an_image(rings={}, ended=(WEDNESDAY - 20 * DAY).strftime("%Y%m%dT%H%M%S")),
        [in_window(WEEKLY)],
        True,
    ),
    "a person ended an earlier one": (
        an_image(rings=since(WEDNESDAY - 3 * DAY), ended="20260101T000000"),
        [in_window(WEEKLY)],
        False,
    ),
}


@pytest.mark.parametrize(("record", "left", "over"), ENDS.values(), ids=ENDS)
def test_when_a_rollout_ends(record: ImageRecord, left: list[Member], over: bool) -> None:
    opened = WEDNESDAY - 20 * DAY
    record = replace(record, opened=opened, proved=record.proved and opened + HOUR)
    after = current(record, left, [], settings=settings(), now=WEDNESDAY)
    assert (after.opened == WEDNESDAY) is over
    busy = current(record, left, at_work("z"), settings=settings(), now=WEDNESDAY)
    assert (busy.opened == WEDNESDAY) is (record.ended == record.rollout), "what is at work is waited for"
    young = replace(record, opened=WEDNESDAY - DAY, ended="")
    assert current(young, left, [], settings=settings(), now=WEDNESDAY) == young, "PATCH_ROLLOUT_DAYS is the least"


def test_inside_a_ring_the_longest_in_need_goes_first() -> None:
    def one(name: str, **changes: Any) -> Member:
        return Member(machine_id(name), LAST_RING, **changes)

    due = [
        one("a", installed=NOW - 8 * DAY),
        one("b", installed=NOW - 9 * DAY),
        one("c", oldest_patch=NOW - DAY, installed=NOW - 7 * DAY),
        one("d", created=NOW - 99 * DAY),
        one("e", oldest_patch=NOW - 2 * DAY),
    ]
    found = admit(an_image(), due, [], settings=settings(), now=NOW)
    assert [machine.name for machine in found.admitted] == ["e", "c", "d", "b", "a"]


def test_an_earlier_ring_whose_window_is_still_to_come_goes_first() -> None:
    later, now_due = in_window(WEEKLY, ring=0), members("x", by=settings())
    found = admit(an_image(rings={}), [later, *now_due], [], settings=settings(), now=WEDNESDAY)
    assert (found.admitted, [step.reason for step in found.waits.values()]) == ((), ["ring 0 goes first"])
    passed = an_image(rings={0: Tally(0, 0, None, WEDNESDAY - 9 * DAY)})
    found = admit(passed, [later, *now_due], [], settings=settings(), now=WEDNESDAY)
    assert [machine.name for machine in found.admitted] == ["x"], "it had its turn"
    assert found.record.rings[LAST_RING].opened == WEDNESDAY


CANARY_WINDOW = {"PATCH_CANARY_WINDOW": "Wed 20:00-23:00 UTC"}


def test_in_the_window_of_the_others_everyone_waits_for_the_canary_of_the_next() -> None:
    by = settings(**CANARY_WINDOW)
    window = read_windows(CANARY_WINDOW["PATCH_CANARY_WINDOW"])
    due = [replace(each, canary_window=window, canary_due=False) for each in members("a", "b", by=by)]
    found = admit(fresh(), due, [], settings=by, now=WEDNESDAY)
    assert found.admitted == ()
    assert {step.when for step in found.waits.values()} == {datetime(2026, 11, 25, 20, 0, tzinfo=UTC)}
    assert {step.state for step in found.waits.values()} == {CANARY}


def test_where_no_window_meets_that_of_canaries_one_goes_in_its_own() -> None:
    never = read_windows("Wed 20:00-23:00 UTC"), read_windows("Sat 22:00-02:00 UTC")
    due = [replace(each, canary_window=both(*never), canary_due=False) for each in members("a", "b", by=settings())]
    found = admit(fresh(), due, [], settings=settings(**CANARY_WINDOW), now=WEDNESDAY)
    assert [machine.name for machine in found.admitted] == ["a"]


def test_after_its_canary_who_may_go_only_as_one_waits_for_its_own_window() -> None:
    one = Member(machine_id("a"), LAST_RING, window=WEEKLY, due=False)
    found = admit(an_image(), [one], [], settings=settings(**CANARY_WINDOW), now=WEDNESDAY)
    [step] = found.waits.values()
    assert (found.admitted, step.state, step.when) == (
        (),
        State.WAITING_FOR_WINDOW,
        datetime(2026, 11, 28, 22, 0, tzinfo=UTC),
    )
