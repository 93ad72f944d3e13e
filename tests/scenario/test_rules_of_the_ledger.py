"""The rules of the ledger, one by one: what may happen between a claim and its end."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.cloud.errors import Unavailable
from functions.cloud.queue import QUEUES, Message, read_message
from functions.cloud.rows import VERSION, LeftAlone
from functions.model.state import Cause, OperationKind, Phase, State
from functions.steps import install, reconcile
from functions.steps.sweep import read_ledger
from simulator.azure import Behaviour, Fault
from tests.support import held
from tests.support.world import GALLERY, QUICK, SUBSCRIPTION, World, arm

SUPPORTED = Behaviour(support_state="Supported", pending={"security": 3})


async def queued_installation(world: World) -> Message:
    """A machine whose installation has just been dispatched, and its message."""
    world.create("vm-01", SUPPORTED)
    await world.until_queued(OperationKind.INSTALL)
    return read_message(world.queue.messages[QUEUES[OperationKind.INSTALL]][0].body)


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    parsed = [json.loads(line) for line in caplog.messages]
    return [line for line in parsed if line["event"] == name]


async def test_a_doubled_message_loses_and_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    message = await queued_installation(world)
    await install.on_message(world.services, message)
    await install.on_message(world.services, message)
    assert len(world.operations(kind="install")) == 1
    assert lines(caplog, "message.stale")


async def test_a_message_with_another_claim_loses() -> None:
    world = World(timings=QUICK)
    message = await queued_installation(world)
    await install.on_message(world.services, replace(message, claim="another"))
    assert world.operations(kind="install") == []


async def test_a_message_for_an_installation_that_was_postponed_meanwhile_loses() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.until_queued(OperationKind.INSTALL)
    message = read_message(world.queue.messages[QUEUES[OperationKind.INSTALL]][0].body)
    await world.pause("looking")
    await install.on_message(world.services, message)
    await world.resume()
    await install.on_message(world.services, message)
    assert world.operations(machine, "install") == []
    record = await world.record(machine)
    assert record is not None
    assert (record.phase, record.sent) == (Phase.QUEUED, False)
    assert json.loads(message.body())["job"]["claim"] != record.token


async def test_a_claim_whose_message_is_lost_is_free_again_after_an_hour() -> None:
    world = World(timings=QUICK)
    message = await queued_installation(world)
    world.queue.messages[QUEUES[OperationKind.INSTALL]].clear()
    await world.pass_time(minutes=55)
    record = await world.record(message.machine)
    assert record is not None
    assert (record.phase, record.token) == (Phase.QUEUED, message.claim)
    await world.pass_time(minutes=30)
    assert len(world.operations(kind="install")) == 1


async def test_the_hand_out_carries_the_support_state_with_its_assessment() -> None:
    world = World(timings=QUICK)
    message = await queued_installation(world)
    record = await world.record(message.machine)
    assert record is not None
    assert record.verdict is not None
    (assessment,) = world.operations(kind="assess")
    assert (record.verdict.state, record.verdict.assessment_id) == ("Supported", assessment.operation_id)
    assert record.verdict.assessed == assessment.started


async def test_a_carried_support_state_that_is_too_old_goes_back_to_an_assessment() -> None:
    world = World({"PATCH_FRESH_HOURS": "0.5"}, timings=QUICK)
    message = await queued_installation(world)
    world.now += timedelta(minutes=45)
    await install.on_message(world.services, message)
    record = await world.record(message.machine)
    assert record is not None
    assert (record.kind, record.phase) == (OperationKind.ASSESS, Phase.QUEUED)
    assert world.operations(kind="install") == []


async def test_a_support_state_of_another_image_permits_nothing() -> None:
    world = World(timings=QUICK)
    message = await queued_installation(world)
    stored = await world.services.ledger.read(message.machine)
    assert stored is not None
    assert stored.record.image == GALLERY.lower()
    await world.services.ledger.replace(stored, replace(stored.record, image=GALLERY.lower().replace("1.0.0", "0.9.0")))
    await install.on_message(world.services, message)
    assert world.operations(kind="install") == []


@pytest.mark.parametrize(
    ("tags", "state"),
    [
        ({"patch-mode": "off"}, State.OPTED_OUT),
        ({"patch-hold-until": "2027-01-15"}, State.ON_HOLD),
        ({"patch-mode": "assess"}, State.ASSESSED),
        ({"patch-mode": "instal"}, State.BAD_TAG),
    ],
)
async def test_a_tag_set_after_the_hand_out_still_counts(tags: dict[str, str], state: State) -> None:
    world = World(timings=QUICK)
    message = await queued_installation(world)
    await arm(world.azure, "PATCH", str(message.machine), {"tags": tags})
    await install.on_message(world.services, message)
    record = await world.record(message.machine)
    assert record is not None
    assert held(record).state == state
    assert held(record).reason
    assert world.operations(kind="install") == []


async def test_a_post_that_could_not_leave_within_a_minute_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    """The slots for calls are taken for two minutes: what was read before begin is no longer fresh by then."""
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    message = await queued_installation(world)
    compute = world.services.compute
    start = compute.start

    async def late(*arguments: Any, **named: Any) -> object:
        world.now += timedelta(minutes=2)
        return await start(*arguments, **named)

    compute.start = late  # type: ignore[assignment,method-assign]
    await install.on_message(world.services, message)
    compute.start = start  # type: ignore[method-assign]
    assert world.operations(kind="install") == []
    assert lines(caplog, "operation.abandoned")
    await world.pass_time(minutes=20)
    assert len(world.operations(kind="install")) == 1


async def test_pending_counts_from_before_the_last_installation_are_void() -> None:
    """Another client installs just after our assessment: Graph still counts those patches, and nothing is installed."""
    world = World(timings=QUICK)
    message = await queued_installation(world)
    world.azure.start_operation(str(message.machine), "install", started_by="Platform")
    world.now += timedelta(hours=1)
    await install.on_message(world.services, message)
    await world.messages()
    assert [operation.kind for operation in world.operations()] == ["assess", "install", "assess"]
    assert [operation.started_by for operation in world.operations(kind="install")] == ["Platform"]


async def test_a_row_of_a_newer_version_is_left_alone_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    message = await queued_installation(world)
    stored = await world.services.ledger.read(message.machine)
    assert stored is not None
    newer = {**stored.row.columns, "v": VERSION + 1}
    await world.table.replace(stored.row, newer)
    with pytest.raises(LeftAlone):
        await install.on_message(world.services, message)
    await world.sweep()
    world.now += timedelta(minutes=1)
    await world.deliver_events()
    row = await world.table.get(stored.row.partition, stored.row.key)
    assert row is not None
    assert row.columns == newer
    assert world.operations(kind="install") == []
    assert lines(caplog, "ledger.newer")


@pytest.mark.parametrize(
    "columns", [{}, {"v": 1, "machine": "web-01"}, {"v": "one"}], ids=["empty", "no id", "no number"]
)
async def test_a_row_that_cannot_be_read_is_reported_and_stops_nothing(
    columns: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    await world.table.insert(SUBSCRIPTION, "oops", columns)
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]
    assert any("'oops'" in line and "correct or delete it" in line for line in caplog.messages)
    assert await world.table.get(SUBSCRIPTION, "oops") is not None


LEFT_ALONE = {
    "of a newer release": {"v": VERSION + 1, "phase": "held"},
    "that cannot be read": {"phase": "?"},
}


@pytest.mark.parametrize("columns", LEFT_ALONE.values(), ids=LEFT_ALONE)
@pytest.mark.parametrize("limit", ["PATCH_CANARIES", "PATCH_MAX_IN_FLIGHT"])
async def test_a_row_that_is_left_alone_takes_no_other_machines_place(columns: dict[str, object], limit: str) -> None:
    """First in every order, but not to be touched: it is neither canary nor in a slot, and the journal says why."""
    world = World({limit: "1"}, timings=QUICK)
    first = world.create("vm-0", SUPPORTED)
    for name in ("vm-1", "vm-2"):
        world.create(name, SUPPORTED)
    await world.until_queued(OperationKind.INSTALL)
    stored = await world.services.ledger.read(first)
    assert stored is not None
    await world.table.replace(stored.row, {**stored.row.columns, **columns})
    await world.pass_time(hours=4)
    assert sorted(world.installed()) == ["vm-1", "vm-2"]
    step = (await world.states())["vm-0"]
    assert (step.state, "left alone" in step.reason, bool(step.remedy)) == (State.FAILED, True, True)


async def test_what_a_newer_release_has_in_flight_fills_the_caps_until_its_time_is_over() -> None:
    """Rolled back while vm-0 is installed, and by now vm-0 is opted out."""
    world = World({"PATCH_MAX_IN_FLIGHT": "1"}, timings=QUICK)
    first = world.create("vm-0", replace(SUPPORTED, install_seconds=2 * 3600))
    world.create("vm-1", SUPPORTED)
    await world.until(lambda: world.installing() == ["vm-0"], hours=1)
    stored = await world.services.ledger.read(first)
    assert stored is not None
    await world.table.replace(stored.row, {**stored.row.columns, "v": VERSION + 1})
    await arm(world.azure, "PATCH", str(first), {"tags": {"patch-mode": "off"}})
    most = 0
    for _ in range(60):
        await world.pass_time(minutes=5)
        most = max(most, len(world.installing()))
    assert most == 1
    assert world.installed() == ["vm-0", "vm-1"]


async def test_in_a_storm_the_event_leaves_the_pace_to_the_sweep() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    world.now += timedelta(minutes=1)
    world.services.compute._left[SUBSCRIPTION, "westeurope"] = 149
    await world.deliver_events()
    record = await world.record(machine)
    assert record is not None
    assert (record.phase, record.sent) == (Phase.QUEUED, False)
    assert world.operations(machine) == []
    await world.pass_time(minutes=10)
    assert len(world.operations(machine, "assess")) == 1


async def test_a_machine_still_being_built_is_checked_after_2_4_8_and_16_minutes_then_held() -> None:
    world = World()
    machine = world.create("vm-01", Behaviour(agent_never_ready=True))
    world.now += timedelta(minutes=3)
    await world.deliver_events()
    waits = []
    for _ in range(4):
        record = await world.record(machine)
        assert record is not None
        waits.append(round((record.due_at - world.now).total_seconds() / 60))
        world.now = record.due_at
        await world.messages()
    assert waits == [2, 4, 8, 16]
    record = await world.record(machine)
    assert record is not None
    assert record.is_held(State.AGENT_NOT_READY)


async def test_an_update_of_a_machine_that_needs_nothing_costs_one_read_of_azure() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)
    asked = len(world.azure.requests)
    update = next(event for event in world.azure.events if event["subject"].lower() == str(machine))
    await world.event(update)
    assert len(world.azure.requests) - asked == 1


async def test_a_transient_failure_before_the_claim_is_raised_so_that_the_event_is_redelivered() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    world.now += timedelta(minutes=1)
    world.azure.faults.add(Fault("GET", r".*/virtualMachines/.*", times=1, status=503))
    await world.deliver_events()
    assert len(world.errors) == 1
    assert await world.record(machine) is None
    (event,) = [event for event in world.azure.events if event["subject"].lower() == str(machine)]
    await world.event(event)
    assert len(world.operations(machine)) == 1


async def test_a_missing_right_holds_the_machine_for_its_owner() -> None:
    from simulator.azure import Grant

    world = World(timings=QUICK)
    world.azure.grants = [Grant(actions=("*/read",))]
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(minutes=30)
    record = await world.record(machine)
    assert record is not None
    assert held(record).cause is Cause.OWNER
    assert "role" in held(record).remedy
    assert len(world.posts()) == 1


async def test_an_end_that_graph_does_not_answer_for_is_written_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.installing()), hours=1)
    world.azure.faults.add(Fault("POST", ".*/resources", times=1_000, status=503))
    await world.pass_time(minutes=40)
    assert world.errors
    record = await world.record(machine)
    assert record is not None
    assert record.phase is Phase.ENDED
    assert len(lines(caplog, "installation.ended")) == 1


async def test_the_row_of_an_assessment_that_ended_waits_a_minute_for_the_claim_that_takes_it() -> None:
    """A sweep that reads for longer, and is killed then, need not track again."""
    world = World(timings=QUICK)
    message = await queued_installation(world)
    lease = await world.services.ledger.take_sweep("large", world.now)
    sweep = await read_ledger(world.services)
    sweep.lease = lease
    await sweep.view.leave(sweep.rows[message.machine])
    world.now += timedelta(seconds=70)
    await sweep.stay()
    assert await world.record(message.machine) is not None  # tracking goes on: it still works on rows as it read them
    sweep.tracked = True
    world.now += timedelta(seconds=50)
    await sweep.stay()
    assert await world.record(message.machine) is not None
    world.now += timedelta(seconds=20)
    await sweep.stay()
    assert await world.record(message.machine) is None


async def test_a_sweep_that_fails_before_it_dispatches_deletes_the_rows_of_assessments_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.operations(machine, "assess")), hours=1)
    world.now += timedelta(hours=1)

    async def no_answer(*_: Any) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(reconcile, "make_sweep_plan", no_answer)
    with pytest.raises(Unavailable):
        await reconcile.run(world.services)
    assert await world.record(machine) is None


@pytest.mark.parametrize(
    ("events", "transactions"), [pytest.param(True, 18, id="by event"), pytest.param(False, 19, id="by sweep alone")]
)
async def test_what_one_machines_whole_life_costs_in_transactions_of_the_table(events: bool, transactions: int) -> None:
    """Assessed, installed, assessed again: what two machines more cost, since a sweep itself costs some."""
    calls = {}
    for machines in (1, 3):
        world = World({"PATCH_ASSESS_HOURS": "160", "PATCH_FRESH_HOURS": "160"}, timings=QUICK)
        world.events_arrive = events
        for number in range(machines):
            world.create(f"vm-{number}", SUPPORTED)
        await world.pass_time(hours=6)
        assert await world.records() == []
        assert len(world.operations()) == 3 * machines
        calls[machines] = world.table.calls.total()
    assert calls[3] - calls[1] == 2 * transactions
