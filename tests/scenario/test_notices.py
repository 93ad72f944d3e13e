"""What other programs receive through a topic of Event Grid: each move once, in order, never at the cost of patching.

The topic is the simulator's, reached by azure-eventgrid's own client.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from functions.cloud.ledger import APP
from functions.cloud.notices import NOTICE_VERSION, PREFIX, Outbox, is_notice
from functions.cloud.stops import columns_of, key_of
from functions.model.notice import Notice, NoticeType
from functions.model.state import State
from functions.model.stop import Scope, Stop
from simulator.azure import Behaviour, Fault, Grant
from tests.support import REPOSITORY
from tests.support.journaled import Told
from tests.support.tables import MemoryTable
from tests.support.world import NOTICES, QUICK, World

GOOD = Behaviour(support_state="Supported", pending={"security": 2})
BAD = Behaviour(support_state="Supported", pending={"security": 2}, install_status="Failed")
TOPIC = r"^/api/events$"


def kinds(events: Iterable[dict[str, Any]]) -> list[str]:
    return [str(event["type"]).removeprefix("ImagePatcher.") for event in events]


def of(world: World, name: str) -> list[dict[str, Any]]:
    """The events about the machine of this name, in the order in which they came."""
    return [event for event in world.topic.events if event["subject"].endswith(f"/{name}")]


def when(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])


def outbox(world: World) -> list[str]:
    return [key for _, key in world.table.rows if is_notice(key)]


# -- what is sent


async def test_a_machine_from_its_assessment_to_the_end_of_its_installation() -> None:
    world = World(NOTICES | {"PATCH_CANARIES": "1"}, timings=QUICK)
    world.create("vm-01", GOOD)
    await world.pass_time(hours=3)
    assert kinds(of(world, "vm-01")) == [
        "AssessmentEnded",
        "SupportDetected",
        "InstallationStarted",
        "InstallationEnded",
        "SupportDetected",
    ]
    by_kind = {kind: event["data"] for kind, event in zip(kinds(world.topic.events), world.topic.events, strict=True)}
    [installation] = world.operations(kind="install")
    assert by_kind["InstallationEnded"]["operation"] == installation.operation_id
    assert by_kind["InstallationEnded"]["succeeded"] is True
    assert by_kind["InstallationEnded"]["installed"] == 2
    assert by_kind["SupportDetected"]["support_state"] == "Supported"
    assert by_kind["CanaryProved"]["name"] == "vm-01"
    assert world.errors == []


async def test_the_failure_of_a_canary_opens_the_breaker_and_a_person_closes_it() -> None:
    world = World(NOTICES | {"PATCH_CANARIES": "1"}, timings=QUICK)
    world.create("vm-01", BAD)
    await world.pass_time(hours=3)
    of_machine, of_image = of(world, "vm-01"), [e for e in world.topic.events if e["subject"].startswith("image/")]
    assert kinds(of_machine)[3:5] == ["InstallationEnded", "MachineHeld"]
    ended, held = of_machine[3]["data"], of_machine[4]["data"]
    assert ended["succeeded"] is False
    assert held["reason"] == ended["reason"]
    assert held["remedy"]
    assert kinds(of_image) == ["CanaryFailed", "BreakerOpened"]
    opening = of_image[1]["data"]["opening"]
    await world.close_breaker(opening, closed_by="Jane", closed_because="package repaired")
    await world.pass_time(minutes=20)
    [closed] = world.topic.of_type("BreakerClosed")
    assert (closed["data"]["by"], closed["data"]["opening"]) == ("Jane", opening)
    assert closed["data"]["reason"] == "package repaired"


async def test_a_rollout_ends_when_the_next_one_opens() -> None:
    world = World(NOTICES | {"PATCH_ROLLOUT_DAYS": "1", "PATCH_MIN_INTERVAL_HOURS": "24"}, timings=QUICK)
    world.in_long_steps()
    machine = world.create("vm-01", GOOD)
    await world.pass_time(hours=12)
    first = (await world.image()).rollout
    assert first
    world.azure.behave(
        str(machine), Behaviour(support_state="Supported", pending={"security": 1}, install_status="Failed")
    )
    await world.pass_time(days=4)
    told = [event["data"] for event in world.topic.of_type("RolloutEnded")]
    assert [data["rollout"] for data in told][:1] == [first]
    assert (told[0]["succeeded"], told[0]["failed"]) == (1, 0)


async def test_the_morning_summary_counts_each_machine_once() -> None:
    world = World(NOTICES | {"PATCH_WINDOW": "daily 00:00-24:00 Europe/Paris", "PATCH_BREAKER": "9 in 7 days"}, QUICK)
    world.in_steps(timedelta(minutes=15))
    world.create("vm-01", GOOD)
    world.create("vm-02", Behaviour(support_state="Supported", pending={"security": 2}, needs_reboot=False))
    world.create("vm-03", BAD)
    world.create("vm-04", Behaviour(support_state="Unsupported"))
    await world.pass_time(hours=24)
    [event] = world.topic.of_type("MorningSummary")
    assert when(event).hour == 5  # six o'clock in Paris, in winter
    data = event["data"]
    assert (data["installed"], data["failed"], data["machines"]) == (2, 1, 3)
    assert (data["rebooted"], data["not_reached"]) == (1, 0)
    [failure] = data["failures"]
    assert "/vm-03: " in failure
    assert data["windows"] == ["daily 00:00-24:00 Europe/Paris"]
    assert not [key for key in outbox(world) if key.startswith(PREFIX)]  # of what was summed up no row is left
    await world.pass_time(hours=24)
    again = world.topic.of_type("MorningSummary")[1]["data"]
    assert again["since"] == data["until"]
    assert again["installed"] == 0


# -- announcing


async def test_an_installation_is_announced_before_its_call_by_the_time_that_the_setting_asks_for() -> None:
    world = World(NOTICES | {"PATCH_NOTICE_MINUTES": "60"}, timings=QUICK)
    world.create("vm-01", GOOD)
    await world.pass_time(hours=4)
    [planned] = world.topic.of_type("InstallationPlanned")
    [installation] = world.operations(kind="install")
    assert installation.started - when(planned) >= timedelta(minutes=60)
    assert datetime.fromisoformat(planned["data"]["expected"]) <= installation.started


async def test_an_opening_that_is_foreseen_loses_no_time_to_the_announcement() -> None:
    settings = {"PATCH_NOTICE_MINUTES": "60", "PATCH_WINDOW": "daily 20:00-22:00 UTC", "PATCH_FIRST_HOURS": "0"}
    world = World(NOTICES | settings, timings=QUICK)
    world.create("vm-01", GOOD)
    await world.pass_time(hours=15)
    [planned] = world.topic.of_type("InstallationPlanned")
    [installation] = world.operations(kind="install")
    assert installation.started - when(planned) >= timedelta(minutes=60)
    assert installation.started.hour == 20
    assert installation.started.minute <= 10


async def test_each_installation_has_an_announcement_of_its_own() -> None:
    settings = {"PATCH_NOTICE_MINUTES": "30", "PATCH_RETRY_MINUTES": "15", "PATCH_BREAKER": "9 in 7 days"}
    world = World(NOTICES | settings, timings=QUICK)
    world.create("vm-01", BAD)
    await world.pass_time(hours=8)
    planned, begun = world.topic.of_type("InstallationPlanned"), world.operations(kind="install")
    assert len(begun) >= 2
    assert len(planned) >= len(begun)
    assert len({event["id"] for event in planned}) == len(planned)
    for operation in begun:
        before = [when(event) for event in planned if when(event) <= operation.started]
        assert operation.started - max(before) >= timedelta(minutes=30)


async def test_an_announced_installation_goes_by_what_is_true_at_its_time() -> None:
    """The other member of its group is stopped after the announcement: it must not be down beside it."""
    world = World(NOTICES | {"PATCH_NOTICE_MINUTES": "60"}, timings=QUICK)
    machines = [world.create(name, GOOD, tags={"patch-group": "quorum"}) for name in ("vm-01", "vm-02")]
    await world.until(lambda: bool(world.topic.of_type("InstallationPlanned")), hours=2)
    planned, *_ = world.topic.of_type("InstallationPlanned")
    [other] = [machine for machine in machines if str(machine) != planned["subject"]]
    world.power(other, "deallocate")
    await world.pass_time(hours=4)
    assert world.installed() == []
    assert (await world.states())[planned["data"]["name"]].state is State.WAITING_FOR_GROUP
    world.power(other, "start")
    await world.pass_time(hours=8)
    assert sorted(world.installed()) == ["vm-01", "vm-02"]


async def test_a_hold_that_answers_the_announcement_keeps_the_machine_from_being_installed() -> None:
    world = World(NOTICES | {"PATCH_NOTICE_MINUTES": "30"}, timings=QUICK)
    world.create("vm-01", GOOD)
    world.create("vm-02", GOOD)
    await world.until(lambda: len(world.topic.of_type("InstallationPlanned")) == 2, hours=2)
    [machine] = [
        event["subject"] for event in world.topic.of_type("InstallationPlanned") if "vm-01" in event["subject"]
    ]
    world.table.put(APP, key_of(Scope.MACHINE, machine), columns_of(Stop(Scope.MACHINE, machine, "backup runs", "job")))
    await world.pass_time(hours=6)
    assert world.installed() == ["vm-02"]


# -- no notices


async def test_without_the_setting_there_is_no_row_and_no_request() -> None:
    world = World(timings=QUICK)
    world.create("vm-01", GOOD)
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-01"]
    assert outbox(world) == []
    assert not any(row.columns.get("noticed") for row in world.table.rows.values())
    assert not [request for request in world.azure.requests if request.path == "/api/events"]


def test_without_the_setting_the_client_of_a_topic_is_not_loaded() -> None:
    program = (
        "import sys, functions.services, functions.steps.reconcile, functions.steps.assess; "
        "print([name for name in sys.modules if name.startswith('azure.eventgrid')])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_what_is_left_goes_once_notices_are_switched_off() -> None:
    world = World(NOTICES, timings=QUICK)
    world.azure.faults.add(Fault(path=TOPIC, status=503, times=None))
    world.create("vm-01", GOOD)
    await world.pass_time(hours=1)
    assert outbox(world)
    world.set(PATCH_NOTICES="")
    await world.pass_time(minutes=10)
    assert outbox(world) == []


# -- a topic that fails


def forbidden(world: World) -> None:
    world.azure.grants = [Grant(not_actions=("Microsoft.EventGrid/*",))]


def fault(**how: Any) -> Any:
    return lambda world: world.azure.faults.add(Fault(path=TOPIC, times=None, **how))


FAILURES = {
    "the role is missing": (forbidden, "EventGrid Data Sender"),
    "the token is refused": (fault(status=401), "managed identity"),
    "there is no such topic": (fault(status=404), "PATCH_NOTICES"),
    "its schema is another": (fault(status=400), "CloudEventSchemaV1_0"),
    "all is too large for it": (fault(status=413), "docs/notices.md"),
    "its quota is used up": (fault(status=429, headers={"retry-after": "30"}), "docs/notices.md"),
    "it is broken": (fault(status=503), "docs/notices.md"),
    "it is not there": (fault(drop="before"), "docs/notices.md"),
    "its answers are lost": (fault(drop="after"), "docs/notices.md"),
}


@pytest.mark.parametrize(("fail", "remedy"), FAILURES.values(), ids=FAILURES)
async def test_a_topic_that_fails_delays_no_machine_and_loses_no_notice(fail: Any, remedy: str, told: Told) -> None:
    well, ill = World(NOTICES, timings=QUICK), World(NOTICES, timings=QUICK)
    fail(ill)
    for world in (well, ill):
        world.answer_from_python()
        world.create("vm-01", GOOD)
        world.create("vm-02", GOOD)
        await world.pass_time(hours=3)
    assert [each.started for each in ill.operations()] == [each.started for each in well.operations()]
    assert ill.errors == []
    [line] = told("notices.failing")
    assert remedy in f"{line['problem']} {line['remedy']}"
    ill.azure.faults.clear()
    ill.azure.grants = [Grant()]
    await ill.pass_time(hours=1, minutes=30)
    assert len(told("notices.delivered")) == 1
    assert told("notices.dropped") == []
    by_id = {event["id"]: event for event in ill.topic.events}
    assert Counter(kinds(by_id.values())) == Counter(kinds(well.topic.events))
    for name in ("vm-01", "vm-02"):
        first_time = list(dict.fromkeys(event["sequence"] for event in of(ill, name)))
        assert first_time == sorted(first_time)


async def test_a_failing_topic_is_asked_ever_less_often() -> None:
    world = World(NOTICES, timings=QUICK)
    world.azure.faults.add(Fault(path=TOPIC, times=None, status=503))
    world.create("vm-01", GOOD)
    await world.pass_time(hours=6)
    asked = [request.time for request in world.azure.requests if request.path == "/api/events"]
    assert 5 <= len(asked) <= 10
    waits = [after - before for before, after in pairwise(asked)]
    assert waits == sorted(waits)


async def test_what_the_topic_did_not_take_within_a_day_is_dropped_and_counted(told: Told) -> None:
    world = World(NOTICES, timings=QUICK)
    world.in_long_steps()
    world.azure.faults.add(Fault(path=TOPIC, times=None, status=503))
    world.create("vm-01", GOOD)
    await world.pass_time(hours=6)
    kept = len(outbox(world))
    await world.pass_time(hours=26)
    dropped = told("notices.dropped")
    assert sum(line["count"] for line in dropped) >= kept > 0
    world.azure.faults.clear()
    await world.pass_time(hours=3)
    assert all(when(event) >= world.now - timedelta(hours=28) for event in world.topic.events)


def put_notice(world: World, number: int, text: str, **columns: Any) -> str:
    """A row of the outbox, as a move writes it."""
    place = APP, f"test-{number}"
    notice = Notice(NoticeType.RUN_PROGRESS, f"run/{number}", {"run": text})
    _, [insert] = Outbox(lambda: world.now).written_with(None, place, [notice])
    world.table.put(insert.partition, insert.key, {**insert.columns, **columns})
    return insert.key


async def test_a_notice_that_the_topic_refuses_alone_keeps_no_other_waiting(told: Told) -> None:
    world = World(NOTICES, timings=QUICK)
    for number in range(6):
        put_notice(world, number, "x" * 2_000_000 if number == 0 else "good")
    await world.pass_time(minutes=15)
    assert [event["subject"] for event in world.topic.events] == [f"run/{number}" for number in range(1, 6)]
    put_notice(world, 7, "good")
    await world.pass_time(hours=3)
    assert world.topic.events[-1]["subject"] == "run/7"


async def test_rows_that_cannot_be_read_are_dropped_and_those_of_a_newer_release_are_left(told: Told) -> None:
    world = World(NOTICES, timings=QUICK)
    broken = {"no data": {"data": "{"}, "no time": {"at": "soon"}, "another type": {"type": "ImagePatcher.Other"}}
    for number, columns in enumerate(broken.values()):
        put_notice(world, number, "text", **columns)
    newer = put_notice(world, 9, "text", v=NOTICE_VERSION + 1)
    good = put_notice(world, 10, "text")
    assert good.startswith(PREFIX)
    await world.pass_time(minutes=15)
    assert kinds(world.topic.events) == ["RunProgress"]
    assert outbox(world) == [newer]
    assert [line["count"] for line in told("notices.dropped")] == [3]


HARMED = {
    "no data": {"data": "{"},
    "no time": {"data": "{}"},
    "no machine": {"subject": "vm-01"},
    "a time without a meaning": {"data": '{"expected": 5}'},
    "another type": {"type": "ImagePatcher.MachineHeld"},
}


@pytest.mark.parametrize("columns", HARMED.values(), ids=HARMED)
async def test_an_announcement_that_cannot_be_read_stops_no_machine(columns: dict[str, Any], told: Told) -> None:
    world = World(NOTICES | {"PATCH_NOTICE_MINUTES": "30"}, timings=QUICK)
    world.create("vm-01", GOOD)
    world.create("vm-02", GOOD)
    await world.until(lambda: any(key.startswith("planned-") for _, key in world.table.rows), hours=2)
    [place, *_] = [place for place in world.table.rows if place[1].startswith("planned-")]
    world.table.put(*place, {**world.table.rows[place].columns, **columns})
    await world.pass_time(hours=4)
    assert sorted(world.installed()) == ["vm-01", "vm-02"]
    assert told("notices.dropped")
    assert world.errors == []


HARMED_NOTES = {
    "tries that are not a number": {"problem": "x", "since": "x", "tries": "many", "again": ""},
    "a next try in a far year": {"problem": "x", "since": "", "tries": "1", "again": "2999-01-01T00:00:00+00:00"},
    "a time without a zone": {"problem": "x", "since": "2026-11-25", "tries": "1", "again": "2026-11-25T09:00:00"},
}


@pytest.mark.parametrize("note", HARMED_NOTES.values(), ids=HARMED_NOTES)
@pytest.mark.parametrize("fails", [False, True], ids=["and the topic is well", "and the topic fails"])
async def test_a_note_that_was_harmed_stops_no_notice(note: dict[str, str], fails: bool, told: Told) -> None:
    world = World(NOTICES, timings=QUICK)
    await world.services.ledger.remember("notices", note)
    put_notice(world, 1, "text")
    if fails:
        world.azure.faults.add(Fault(path=TOPIC, status=503))
    await world.pass_time(minutes=30)
    assert kinds(world.topic.events) == ["RunProgress"]
    assert not [error for error in world.errors if "notices" in str(error)]


async def test_no_other_reader_of_the_ledger_sees_a_notice() -> None:
    world = World(NOTICES, timings=QUICK)
    world.azure.faults.add(Fault(path=TOPIC, times=None, status=503))
    world.create("vm-01", GOOD)
    await world.pass_time(hours=3)
    assert len(outbox(world)) >= 4
    assert {record.machine.name for record in await world.records()} <= {"vm-01"}
    assert (await world.states())["vm-01"].state == "patched"
    assert isinstance(world.table, MemoryTable)
