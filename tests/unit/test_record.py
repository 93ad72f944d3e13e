"""The moves of a machine's row that are pure: claim, begin, accepted, requeue, end, hold, release, and its clocks.

Factors: the phase, what was counted before, another machine or image under the same id, and each limit just before and
at its moment. Who moves the row and under which ETag: tests/contract/test_ledger.py.
"""

from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from functions.cloud.models import machine_from_arm
from functions.decisions.retry import MAX_RETRY, backoff
from functions.model.machine import LAST_RING, Image, ImageKind, Machine
from functions.model.record import (
    ADOPT_AFTER,
    CLAIM_LIFE,
    GRAPH_PATIENCE,
    OVERDUE_MARGIN,
    SEND_WITHIN,
    STALE_STATUS,
    UNKNOWN_DURATION,
    Ending,
    Flight,
    Record,
    accepted,
    begin,
    claim,
    end,
    hold,
    keep_asking,
    never_ran,
    release,
    requeue,
)
from functions.model.state import Cause, Leave, OperationKind, Phase, State, Wait
from functions.policy.windows import WEEK
from tests.support import (
    ASSESSMENT,
    DAY,
    GALLERY_IMAGE,
    HOUR,
    INSTALLATION,
    MINUTE,
    NOW,
    OPERATION,
    OPERATION_URL,
    SUBSCRIPTION,
    VM_ID,
    a_machine,
    a_record,
    a_status,
    an_arm_machine,
)

SECOND = timedelta(seconds=1)


def test_a_claim_is_about_one_machine_of_one_image_and_carries_what_graph_said() -> None:
    machine = a_machine()
    record = claim(machine, OperationKind.INSTALL, token="token-9", due_at=NOW, previous=None)
    assert (record.machine, record.vm_id, record.image, record.region) == (
        machine.id,
        VM_ID,
        GALLERY_IMAGE,
        "westeurope",
    )
    assert (record.phase, record.kind, record.token, record.due_at) == (
        Phase.QUEUED,
        OperationKind.INSTALL,
        "token-9",
        NOW,
    )
    assert record.verdict == machine.verdict
    assert record.sent
    assert record.quota_key == machine.quota_key
    assert record.in_flight


def test_a_claim_knows_its_neighbours_and_its_place_in_the_round() -> None:
    pair = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG/providers/Microsoft.Compute/availabilitySets/PAIR"
    arm = an_arm_machine(properties={"availabilitySet": {"id": pair}})
    machine = machine_from_arm(arm)
    record = claim(machine, OperationKind.INSTALL, token="token", due_at=NOW, ring=2, group="quorum")
    assert (record.ring, record.group, record.availability_set) == (2, "quorum", pair.lower())
    alone = machine_from_arm(an_arm_machine())
    record = claim(alone, OperationKind.INSTALL, token="token", due_at=NOW, ring=1, group="web", previous=record)
    assert (record.ring, record.group, record.availability_set) == (1, "web", "")
    record = claim(a_machine(), OperationKind.INSTALL, token="token", due_at=NOW, previous=record)
    assert (record.ring, record.group, record.availability_set) == (LAST_RING, "", "")


def test_a_fresh_claim_forgets_how_the_last_operation_ended() -> None:
    ended = a_record(
        phase=Phase.HELD, kind=OperationKind.INSTALL, at_fault=True, neutral=True, outcome="Failed", ended_at=NOW
    )
    record = claim(a_machine(), OperationKind.INSTALL, token="token", due_at=NOW, previous=ended)
    assert (record.flight, record.ending, record.hold) == (None, None, None)


COUNTED = a_record(phase=Phase.HELD, attempts=3, unanswered=2, reason="failed", operation_id=OPERATION)


@pytest.mark.parametrize(
    ("machine", "kept"),
    [
        pytest.param(a_machine(), True, id="the same machine"),
        pytest.param(a_machine(vm_id="another"), False, id="another machine under the same id"),
        pytest.param(a_machine(image=Image(ImageKind.GALLERY, "another")), False, id="another image"),
    ],
)
def test_failures_stay_counted_while_the_machine_is_the_same(machine: Machine, kept: bool) -> None:
    record = claim(machine, OperationKind.ASSESS, token="token-2", due_at=NOW, previous=COUNTED)
    assert (record.history.attempts, record.history.unanswered) == ((3, 2) if kept else (0, 0))
    assert (record.hold, record.operation_id) == (None, "")


def test_begin_remembers_what_the_machine_showed_before_the_post() -> None:
    machine = a_machine(assessment=a_status(), installation=a_status(operation_id=INSTALLATION))
    record = begin(a_record(), machine, 2 * HOUR, now=NOW)
    assert record.phase is Phase.STARTING
    assert record.flight == Flight(NOW, 2 * HOUR, (ASSESSMENT, INSTALLATION), os="Linux")
    assert record.token == "token-1"  # the same claim: a doubled message finds it no longer queued


def test_a_recorded_answer_makes_it_running() -> None:
    record = accepted(begin(a_record(), a_machine(), HOUR, now=NOW), OPERATION, OPERATION_URL, started_at=NOW + SECOND)
    assert record.phase is Phase.RUNNING
    assert record.flight == Flight(NOW, HOUR, (), "Linux", "", OPERATION, OPERATION_URL, NOW + SECOND)
    assert record.in_flight


@pytest.mark.parametrize("sent", [False, True])
def test_back_to_the_queue_under_a_fresh_claim(sent: bool) -> None:
    begun = begin(a_record(), a_machine(assessment=a_status()), HOUR, now=NOW)
    record = requeue(begun, "token-2", NOW + HOUR, sent=sent, checks=2)
    assert (record.phase, record.token, record.due_at) == (Phase.QUEUED, "token-2", NOW + HOUR)
    assert (record.sent, record.checks) == (sent, 2)
    assert record.flight is None


def test_an_end_keeps_the_operation_and_forgets_its_signed_address() -> None:
    running = accepted(begin(a_record(), a_machine(), HOUR, now=NOW - MINUTE), OPERATION, OPERATION_URL, started_at=NOW)
    ending = Ending("Succeeded", NOW + HOUR)
    record = end(running, ending)
    assert (record.phase, record.ending) == (Phase.ENDED, ending)
    assert record.flight == replace(running.flight, operation_url="")  # type: ignore[type-var]
    assert not record.in_flight


def test_an_end_of_an_operation_whose_start_was_never_recorded() -> None:
    begun = begin(a_record(), a_machine(), HOUR, now=NOW)
    assert begun.flight
    assert begun.flight.started_at is None
    record = end(begun, Ending("Failed", NOW + HOUR))
    assert record.flight
    assert record.flight.started_at == NOW


def test_a_hold_says_until_when_why_and_what_to_do() -> None:
    running = accepted(a_record(kind=OperationKind.INSTALL, attempts=2), OPERATION, OPERATION_URL, started_at=NOW)
    step = Leave(State.OVERDUE, "it is stuck", "restart it", cause=Cause.OWNER)
    record = hold(running, step, NOW + DAY)
    assert record.phase is Phase.HELD
    assert record.hold == Wait(State.OVERDUE, "it is stuck", "restart it", NOW + DAY, Cause.OWNER)
    assert running.flight
    assert record.flight == replace(running.flight, operation_url="")
    assert (record.sent, record.history.attempts) == (False, 2)
    assert not record.in_flight
    assert keep_asking(record, running).flight == running.flight


def test_a_released_machine_is_due_at_once_and_keeps_its_counts() -> None:
    record = release(a_record(phase=Phase.RUNNING, operation_url=OPERATION_URL, attempts=2, unanswered=1), NOW)
    assert record.due_again(NOW)
    assert not record.in_flight
    assert record.flight
    assert record.flight.operation_url == ""
    assert (record.history.attempts, record.history.unanswered) == (2, 1)


@pytest.mark.parametrize(
    ("move", "phase"),
    [
        (lambda record: begin(record, a_machine(), HOUR, now=NOW), Phase.STARTING),
        (lambda record: accepted(record, OPERATION, OPERATION_URL, started_at=NOW), Phase.RUNNING),
        (lambda record: requeue(record, "t", NOW, sent=False), Phase.QUEUED),
        (lambda record: end(record, Ending("Succeeded", NOW)), Phase.ENDED),
        (lambda record: hold(record, Wait(State.FAILED, "r", cause=Cause.NEVER), NOW), Phase.HELD),
        (lambda record: release(record, NOW), Phase.HELD),
    ],
    ids=["begin", "accepted", "requeue", "end", "hold", "release"],
)
def test_no_move_changes_whose_row_it_is_or_the_record_it_was_given(move, phase: Phase) -> None:  # type: ignore[no-untyped-def]
    before = a_record(
        phase=Phase.STARTING,
        begun_at=NOW,
        attempts=1,
        unanswered=1,
        verdict=a_machine().verdict,
        ring=3,
        group="quorum",
        availability_set="/set",
    )
    copy = replace(before)
    after = move(before)
    assert after.phase is phase
    for name in (
        "machine",
        "kind",
        "vm_id",
        "image",
        "region",
        "history",
        "verdict",
        "ring",
        "group",
        "availability_set",
    ):
        assert getattr(after, name) == getattr(before, name), name
    assert before == copy
    signed = [item.name for item in fields(Record) if "signature" in str(getattr(after, item.name))]
    assert signed == (["flight"] if phase is Phase.RUNNING else [])  # stored while it may be asked, no longer


# -- is it still the same VM?

ANOTHER_VM, ANOTHER_IMAGE = {"vm_id": "another"}, {"image": Image(ImageKind.GALLERY, "/galleries/other")}
HELD, OVERDUE = {"phase": Phase.HELD}, {"phase": Phase.HELD, "state": State.OVERDUE}


@pytest.mark.parametrize(
    ("row", "changes", "same_vm", "same_vm_and_image", "is_former_hold"),
    [
        pytest.param(HELD, {}, True, True, False, id="held, unchanged"),
        pytest.param(HELD, ANOTHER_VM, False, False, True, id="held, another VM"),
        pytest.param(HELD, ANOTHER_IMAGE, True, False, True, id="held, another image"),
        pytest.param(OVERDUE, {}, True, True, False, id="overdue, unchanged"),
        pytest.param(OVERDUE, ANOTHER_VM, False, False, True, id="overdue, another VM"),
        # Its operation may still be open in the VM, whatever the image is by now.
        pytest.param(OVERDUE, ANOTHER_IMAGE, True, False, False, id="overdue, another image"),
        pytest.param({}, ANOTHER_VM, False, False, False, id="queued, another VM"),
    ],
)
def test_whose_the_row_is(
    row: dict[str, Any], changes: dict[str, Any], same_vm: bool, same_vm_and_image: bool, is_former_hold: bool
) -> None:
    record, machine = a_record(**row), a_machine(**changes)
    assert record.same_vm(machine) is same_vm
    assert record.same_vm_and_image(machine) is same_vm_and_image
    assert record.is_former_hold(machine) is is_former_hold


# -- clocks: each limit just before and at its moment

CLOCKS: list[tuple[str, Record, str, datetime, bool]] = [
    ("held, not over", a_record(phase=Phase.HELD, not_before=NOW), "due_again", NOW - SECOND, False),
    ("held, over", a_record(phase=Phase.HELD, not_before=NOW), "due_again", NOW, True),
    ("held without an end", a_record(phase=Phase.HELD), "due_again", NOW, False),
    ("queued is not held", a_record(), "due_again", NOW + DAY, False),
    ("claim young", a_record(), "expired", NOW + CLAIM_LIFE - SECOND, False),
    ("claim old", a_record(), "expired", NOW + CLAIM_LIFE, True),
    ("claim never sent does not expire", a_record(sent=False), "expired", NOW + 9 * DAY, False),
    ("running does not expire", a_record(phase=Phase.RUNNING), "expired", NOW + 9 * DAY, False),
    (
        "within its limit and margin",
        a_record(phase=Phase.RUNNING, started_at=NOW, limit=HOUR),
        "overdue",
        NOW + HOUR + OVERDUE_MARGIN - SECOND,
        False,
    ),
    (
        "over its limit and margin",
        a_record(phase=Phase.RUNNING, started_at=NOW, limit=HOUR),
        "overdue",
        NOW + HOUR + OVERDUE_MARGIN,
        True,
    ),
    ("nothing in flight", a_record(), "overdue", NOW + 9 * DAY, False),
]


@pytest.mark.parametrize(
    ("record", "question", "now", "answer"), [row[1:] for row in CLOCKS], ids=[row[0] for row in CLOCKS]
)
def test_clocks(record: Record, question: str, now: datetime, answer: bool) -> None:
    assert getattr(record, question)(now) is answer


def test_the_limits_are_the_documented_ones_and_fit_into_each_other() -> None:
    assert (CLAIM_LIFE, SEND_WITHIN, ADOPT_AFTER, OVERDUE_MARGIN) == (HOUR, MINUTE, 15 * MINUTE, HOUR)
    assert (GRAPH_PATIENCE, STALE_STATUS, MAX_RETRY, WEEK) == (DAY, DAY, DAY, 7 * DAY)
    assert SEND_WITHIN < ADOPT_AFTER < CLAIM_LIFE
    assert Flight(NOW).limit == UNKNOWN_DURATION == 4 * HOUR


def test_a_new_claim_has_counted_nothing() -> None:
    record = claim(a_machine(), OperationKind.ASSESS, token="token", due_at=NOW, previous=None)
    assert (record.checks, record.history.unanswered, record.history.attempts, record.in_flight) == (0, 0, 0, True)
    assert not claim(a_machine(), OperationKind.ASSESS, token="token", due_at=NOW, previous=None, sent=False).sent


# -- backoff


@pytest.mark.parametrize(
    ("attempts", "wait"),
    [(1, 15 * MINUTE), (2, 30 * MINUTE), (3, HOUR), (7, 16 * HOUR), (8, DAY), (9, DAY), (1000, DAY)],
)
def test_the_wait_doubles_up_to_a_day(attempts: int, wait: timedelta) -> None:
    assert backoff(15 * MINUTE, attempts, 0) == wait
    assert backoff(15 * MINUTE, attempts, 1) == wait * 1.2


# -- installations that failed

TRIED = (NOW - 3 * HOUR, NOW - HOUR)


@pytest.mark.parametrize(
    ("kind", "before", "attempts"),
    [
        (OperationKind.INSTALL, OperationKind.INSTALL, 3),
        (OperationKind.INSTALL, OperationKind.ASSESS, 3),
        (OperationKind.ASSESS, OperationKind.ASSESS, 2),
        (OperationKind.ASSESS, OperationKind.INSTALL, 0),
    ],
)
def test_a_claim_counts_on_from_the_failures_of_its_kind(
    kind: OperationKind, before: OperationKind, attempts: int
) -> None:
    held = a_record(phase=Phase.HELD, kind=before, attempts=2, failures=3, tries=TRIED)
    record = claim(a_machine(), kind, token="t", due_at=NOW, previous=held)
    assert (record.history.attempts, record.history.failures, record.history.tries) == (attempts, 3, TRIED)


def test_another_machine_of_the_same_name_starts_without_failures() -> None:
    held = a_record(phase=Phase.HELD, attempts=2, failures=3, tries=TRIED)
    record = claim(a_machine(vm_id="another"), OperationKind.INSTALL, token="t", due_at=NOW, previous=held)
    assert not record.history.installs_badly


def test_an_accepted_installation_is_a_try_unless_it_never_ran() -> None:
    started = begin(a_record(kind=OperationKind.INSTALL, tries=TRIED), a_machine(), HOUR, now=NOW)
    running = accepted(started, OPERATION, OPERATION_URL, started_at=NOW)
    assert running.history.tries == (*TRIED, NOW)
    assert never_ran(running).history.tries == TRIED
    assert accepted(replace(started, kind=OperationKind.ASSESS), OPERATION, "", started_at=NOW).history.tries == TRIED


@pytest.mark.parametrize(
    ("status", "started", "left"),
    [
        ("Succeeded", NOW - 30 * MINUTE, ()),
        ("Succeeded", NOW - HOUR - MINUTE, ()),  # the last try itself: two clocks
        ("Succeeded", NOW - 2 * HOUR, TRIED),
        ("Failed", NOW - 30 * MINUTE, TRIED),
        ("Succeeded", None, TRIED),
    ],
)
def test_a_good_installation_that_the_machine_shows_ends_what_failed_before_it(
    status: str, started: datetime | None, left: tuple[datetime, ...]
) -> None:
    machine = a_machine(installation=a_status(status=status, started=started))
    record = begin(a_record(tries=TRIED, failures=2), machine, HOUR, now=NOW)
    assert record.history.tries == left
    assert record.history.failures == (2 if left else 0)
