"""What each move tells others, and that it is as docs/notices.schema.json says, of which docs/notices.md has an example
for each type. The judge of a patch's name is Azure's own answer, as it was recorded."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest

from functions.cloud.notices import SOURCE, Outbox, pending_of
from functions.cloud.tables import Row
from functions.decisions import notices
from functions.model.image_record import ImageRecord, Tally
from functions.model.notice import Notice, NoticeType
from functions.model.record import Ending, Flight
from functions.model.state import OperationKind, State, Wait
from functions.policy.grammar import windows
from functions.policy.windows import ANY
from tests.support import (
    GALLERY_IMAGE,
    HOUR,
    MINUTE,
    NOW,
    OPERATION,
    REPOSITORY,
    a_machine,
    a_record,
    a_verdict,
    machine_id,
)

SCHEMA = json.loads((REPOSITORY / "docs" / "notices.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
GUIDE = (REPOSITORY / "docs" / "notices.md").read_text(encoding="utf-8")

FLIGHT = Flight(begun_at=NOW, started_at=NOW, operation_id=OPERATION)
INSTALLED = a_record(kind=OperationKind.INSTALL, flight=FLIGHT)
TROUBLE = Wait(State.FAILED, "some patches failed", "See which ones in the guest's own update log.")
ENDED = Ending("Succeeded", NOW + HOUR)
BADLY = Ending("Failed", NOW + HOUR, at_fault=True, trouble=TROUBLE)
RESULT = {
    "rebootStatus": "Completed",
    "installedPatchCount": 3,
    "failedPatchCount": 2,
    "patches": [
        {"kbId": "5034439", "name": "Security Update", "installationState": "Failed"},
        {"name": "openssl", "version": "3.0.2", "installationState": "Failed"},
        {"name": "curl", "version": "8.0", "installationState": "Installed"},
    ],
}
IMAGE = ImageRecord(GALLERY_IMAGE, "owner shop", opened=NOW, rings={0: Tally(2, 1)})
OPEN = replace(IMAGE, opening="20261125T082500", opened_because="its canary web-1: some patches failed")
DAY = notices.Day(NOW - timedelta(days=1), NOW, [], [machine_id()], (ANY,))

EACH: dict[NoticeType, Notice] = {
    NoticeType.ASSESSMENT_ENDED: notices.ended(a_record(), BADLY, {})[0],
    NoticeType.SUPPORT_DETECTED: notices.support_detected(a_record(), a_machine(verdict=a_verdict())),
    NoticeType.INSTALLATION_PLANNED: notices.installation_planned(machine_id(), GALLERY_IMAGE, NOW + HOUR),
    NoticeType.INSTALLATION_STARTED: notices.started(INSTALLED)[0],
    NoticeType.INSTALLATION_ENDED: notices.ended(INSTALLED, BADLY, RESULT)[0],
    NoticeType.MACHINE_HELD: notices.machine_held(INSTALLED, TROUBLE, NOW + HOUR),
    NoticeType.CANARY_PROVED: notices.proved(IMAGE, OPEN, machine_id(), canary=True, problem="")[0],
    NoticeType.CANARY_FAILED: notices.proved(IMAGE, OPEN, machine_id(), canary=True, problem="it is off")[0],
    NoticeType.BREAKER_OPENED: notices.proved(IMAGE, OPEN, machine_id(), canary=False, problem="it is off")[0],
    NoticeType.BREAKER_CLOSED: notices.breaker_closed(replace(OPEN, closed=OPEN.opening, closed_because="ok"), "Jane"),
    NoticeType.ROLLOUT_ENDED: notices.rollout_ended(IMAGE, replace(IMAGE, opened=NOW + 9 * HOUR))[0],
    NoticeType.RUN_PROGRESS: notices.run_progress("r1", machines=5, started=3, succeeded=1, failed=0, over=False),
    NoticeType.MORNING_SUMMARY: notices.summary(DAY),
}


def event(notice: Notice) -> dict[str, Any]:
    """As the topic takes it."""
    _, [insert] = Outbox(lambda: NOW).written_with(None, ("p", "k"), [notice])
    pending = pending_of(Row(insert.partition, insert.key, insert.columns, "etag"))
    assert pending is not None
    return {
        "specversion": "1.0",
        "id": pending.id,
        "source": SOURCE,
        "type": pending.notice.type.value,
        "subject": pending.notice.subject,
        "time": pending.at.isoformat(),
        "datacontenttype": "application/json",
        "sequence": pending.order,
        "data": pending.notice.data,
    }


def problems(body: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(body)]


# -- the schema and the guide


def test_every_type_has_a_schema_and_no_other_has() -> None:
    names = {kind.value.removeprefix("ImagePatcher.") for kind in NoticeType}
    assert set(SCHEMA["$defs"]) == names
    assert set(EACH) == set(NoticeType)


@pytest.mark.parametrize("kind", NoticeType)
def test_what_a_move_tells_is_as_the_schema_says(kind: NoticeType) -> None:
    assert EACH[kind].type is kind
    assert problems(event(EACH[kind])) == []


BROKEN: dict[str, dict[str, Any]] = {
    "another type": {"type": "ImagePatcher.Other"},
    "no data of its type": {"data": {}},
    "a field that its type does not have": {"data": {**EACH[NoticeType.INSTALLATION_PLANNED].data, "status": "x"}},
    "a sequence that cannot be compared": {"sequence": "12"},
    "a time that is none": {"time": 5},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_the_schema_refuses_what_is_not_a_notice(change: dict[str, Any]) -> None:
    assert problems({**event(EACH[NoticeType.INSTALLATION_PLANNED]), **change})


def test_the_guide_has_an_example_of_each_type_and_it_is_right() -> None:
    examples = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)]
    assert sorted(each["type"] for each in examples) == sorted(kind.value for kind in NoticeType)
    assert {each["type"]: problems(each) for each in examples} == {each["type"]: [] for each in examples}


def test_the_guide_explains_every_field() -> None:
    fields = {name for each in SCHEMA["$defs"].values() for name in each["properties"]}
    assert {name for name in fields if f"`{name}`" not in GUIDE} == set()


# -- what is sent, and what is not


def test_a_routine_assessment_sends_a_notice_where_it_went_wrong_only() -> None:
    routine = a_record(verdict=a_verdict())
    assert routine.is_routine
    assert notices.ended(routine, ENDED, {}) == ()
    assert [each.type for each in notices.ended(routine, BADLY, {})] == [NoticeType.ASSESSMENT_ENDED]
    assert notices.started(replace(routine, flight=FLIGHT)) == ()


def test_the_end_of_an_installation_names_the_patches_that_failed() -> None:
    [told] = notices.ended(INSTALLED, BADLY, RESULT)
    assert told.data["failed_patches"] == ["KB5034439", "openssl 3.0.2"]
    assert (told.data["installed"], told.data["failed"], told.data["succeeded"]) == (3, 2, False)


ODD: dict[str, Any] = {
    "no patches": {},
    "no list": {"patches": "none"},
    "patches that are none": {"patches": [None, 5, "openssl"]},
    "a patch without a state": {"patches": [{"name": "openssl"}]},
}


@pytest.mark.parametrize("result", ODD.values(), ids=ODD)
def test_an_answer_that_names_no_failed_patch_names_none(result: dict[str, Any]) -> None:
    assert notices.failed_patches(result) == []


def test_a_patch_without_a_name_is_counted_all_the_same() -> None:
    assert notices.failed_patches({"patches": [{"installationState": "failed"}]}) == ["a patch without a name"]


def test_no_notice_repeats_a_secret_and_none_is_without_end() -> None:
    wait = Wait(State.FAILED, f"cannot read https://u:hunter2@repo.example/x?sig=abc {'x' * 5_000}", "")
    text = notices.machine_held(INSTALLED, wait, NOW).data["reason"]
    assert "hunter2" not in text
    assert "abc" not in text
    assert len(text) <= notices.MAX_TEXT


def test_a_result_that_changes_nothing_tells_nothing() -> None:
    assert notices.proved(IMAGE, IMAGE, machine_id(), canary=True, problem="") == []
    assert notices.rollout_ended(IMAGE, IMAGE) == ()
    assert notices.rollout_ended(replace(IMAGE, opened=None), IMAGE) == ()


# -- the summary


def outcome(name: str, **fields: object) -> dict[str, object]:
    return {"machine": f"/x/{name}", "succeeded": True, **fields}


def test_a_summary_goes_by_the_last_installation_of_each_machine() -> None:
    ended = [
        outcome("a", succeeded=False, reason="it broke", failed_patches=["KB1"]),
        outcome("a", reboot="Completed"),
        outcome("b", succeeded=False, reason="it broke", failed_patches=["KB1", "KB2"], reboot="Completed"),
        outcome("c", reboot="NotNeeded"),
    ]
    told = notices.summary(replace(DAY, ended=ended)).data
    assert (told["installed"], told["failed"], told["machines"], told["not_reached"]) == (2, 1, 4, 1)
    assert told["failures"] == ["/x/b: it broke (KB1, KB2)"]
    assert told["rebooted"] == 2


MORNINGS = {
    "before six in Paris": (
        "any",
        datetime(2026, 7, 2, 3, 59, tzinfo=UTC),
        "2026-07-01",
        "Sat 22:00-02:00 Europe/Paris",
    ),
    "six in Paris, in summer": (
        "",
        datetime(2026, 7, 2, 4, 0, tzinfo=UTC),
        "2026-07-02",
        "Sat 22:00-02:00 Europe/Paris",
    ),
    "five in Paris, in winter": (
        "",
        datetime(2026, 1, 2, 4, 0, tzinfo=UTC),
        "2026-01-01",
        "Sat 22:00-02:00 Europe/Paris",
    ),
    "without a zone it is UTC": ("", datetime(2026, 1, 2, 6, 0, tzinfo=UTC), "2026-01-02", "any"),
}


@pytest.mark.parametrize(("now", "day", "window"), [case[1:] for case in MORNINGS.values()], ids=MORNINGS)
def test_the_morning_comes_at_six_by_the_clock_of_the_window(now: datetime, day: str, window: str) -> None:
    assert notices.morning_of(now, windows.read(window)) == day


# -- announcing

LEFT = {
    "announced now": (None, 70),
    "announced a while ago": (30, 40),
    "announced long ago": (600, 0),
}


@pytest.mark.parametrize(("minutes_ago", "left"), LEFT.values(), ids=LEFT)
def test_how_long_an_installation_waits_after_its_announcement(minutes_ago: int | None, left: int) -> None:
    announced = None if minutes_ago is None else NOW - minutes_ago * MINUTE
    assert notices.time_left(announced, HOUR, NOW) == left * MINUTE


# -- the order


def test_each_notice_is_later_than_the_last_of_its_row_whatever_the_clock_says() -> None:
    clock = [NOW, NOW, NOW - HOUR]
    first, second, third = (Outbox(clock[number : number + 1].pop) for number in range(3))
    row, orders = None, []
    for outbox in (first, second, third):
        noticed, [insert] = outbox.written_with(row, ("p", "k"), [EACH[NoticeType.RUN_PROGRESS]])
        row = Row("p", "k", noticed, "etag")
        orders.append(insert.columns["order"])
    assert orders == sorted(set(orders))


def test_two_notices_of_one_move_have_an_order_and_ids_of_their_own() -> None:
    _, rows = Outbox(lambda: NOW).written_with(None, ("p", "k"), [EACH[NoticeType.CANARY_FAILED]] * 2)
    found = [pending_of(Row(each.partition, each.key, each.columns, "e")) for each in rows]
    ids = [each.id for each in found if each]
    assert len(ids) == len(set(ids)) == 2
    assert ids == sorted(ids)


COLUMN = 32_768  # UTF-16 units: 64 KiB (learn.microsoft.com, Understanding the Table service data model)
NAMES = [f"linux-image-unsigned-6.8.0-{number}-generic 6.8.0-{number}.45~22.04.1" for number in range(40)]
WIDE = "\U0001f4a5 \\" * 500  # each character takes two units, or two characters of JSON
MANY_PATCHES = {"patches": [{"name": name, "installationState": "Failed"} for name in NAMES]}
LONG_NAMES = {"patches": [{"name": WIDE, "installationState": "Failed"} for _ in NAMES]}


def _ended_badly(number: int, result: dict[str, Any]) -> Notice:
    record = replace(INSTALLED, machine=replace(machine_id(f"{'shop-web-' * 6}{number:04}"), group="shop-" * 16 + "rg"))
    return notices.ended(record, replace(BADLY, trouble=replace(TROUBLE, reason="apt is broken " * 20)), result)[0]


def _a_bad_day(result: dict[str, Any]) -> Notice:
    ended = [_ended_badly(number, result) for number in range(50)]
    waiting = [replace(INSTALLED.machine, name=f"vm-{number}", group="shop-" * 16) for number in range(50)]
    return notices.summary(replace(DAY, ended=[each.data for each in ended], waiting=waiting))


LARGE: dict[str, Notice] = {
    "many patches failed": _ended_badly(1, MANY_PATCHES),
    "patches with names as no system has": _ended_badly(1, LONG_NAMES),
    "a morning after many failed and many were not reached": _a_bad_day(MANY_PATCHES),
    "the same with names as no system has": _a_bad_day(LONG_NAMES),
}


@pytest.mark.parametrize("notice", LARGE.values(), ids=LARGE)
def test_a_notice_fits_its_column_however_much_there_is_to_tell(notice: Notice) -> None:
    """Else its row could not be written, nor the move that it reports."""
    _, [insert] = Outbox(lambda: NOW).written_with(None, ("p", "k"), [notice])
    assert len(str(insert.columns["data"]).encode("utf-16-le")) // 2 <= COLUMN
    names = [len(value) for value in notice.data.values() if isinstance(value, list)]
    assert names
    assert min(names) >= 1
    VALIDATOR.validate(event(notice))
