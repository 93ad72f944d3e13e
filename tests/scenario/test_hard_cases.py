"""Hard cases, each of which once went wrong: what must hold when several rules, people and failures meet."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from functions import journal
from functions.cloud.queue import QUEUES, read_message
from functions.cloud.rows import VERSION
from functions.model.record import claim
from functions.model.state import Cause, OperationKind, Phase, State
from functions.steps import install
from simulator.azure import Behaviour, Fault, overlaps
from tests.support import held
from tests.support.world import GALLERY, QUICK, SUBSCRIPTION, World, arm

SUPPORTED = Behaviour(support_state="Supported", pending={"security": 3})


def running(world: World) -> list[str]:
    return [
        o.machine
        for o in world.operations(kind="install")
        if o.started <= world.now and world.now < (o.ends or world.now)
    ]


async def until_queued(world: World, kind: OperationKind) -> None:
    while not world.queue.messages.get(QUEUES[kind]):
        await world.pass_time(minutes=1)


async def test_a_patch_group_named_on_the_resource_group_goes_one_at_a_time() -> None:
    world = World(timings=QUICK)
    machines = [world.create(f"q-{letter}", SUPPORTED) for letter in "abc"]
    await arm(world.azure, "PATCH", machines[0].group_id, {"tags": {"patch-group": "quorum"}})
    most = 0
    for _ in range(90):
        await world.pass_time(minutes=2)
        most = max(most, len(running(world)))
    assert most == 1
    assert {o.machine.lower() for o in world.operations(kind="install")} == {str(machine) for machine in machines}


async def test_a_ring_named_on_the_resource_group_is_in_the_row() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await arm(world.azure, "PATCH", machine.group_id, {"tags": {"patch-ring": "3"}})
    await until_queued(world, OperationKind.INSTALL)
    record = await world.record(machine)
    assert record is not None
    assert record.ring == 3


@pytest.mark.parametrize("mode", ["plan", "off"])
async def test_a_mode_that_calls_nothing_stops_queued_messages_too(mode: str) -> None:
    world = World(timings=QUICK)
    world.create("vm-01", SUPPORTED)
    await until_queued(world, OperationKind.INSTALL)
    world.set(PATCH_MODE=mode, PATCH_WINDOW="")
    await world.pass_time(hours=2)
    assert world.operations(kind="install") == []

    world.set(PATCH_MODE="install", PATCH_WINDOW="any")
    await world.pass_time(hours=26)
    assert len(world.operations(kind="install")) == 1, "nothing is lost"


async def test_a_postponed_installation_asks_again_before_it_goes() -> None:
    """Paused with its message queued; when it is resumed, its partner of the group is off."""
    world = World({"PATCH_FRESH_HOURS": "48"}, timings=QUICK)
    first = world.create("q-a", SUPPORTED, tags={"patch-group": "quorum"})
    await until_queued(world, OperationKind.INSTALL)
    await world.pause("looking")
    await world.pass_time(minutes=15)
    partner = world.create("q-b", SUPPORTED, tags={"patch-group": "quorum"})
    await world.pass_time(minutes=5)
    await arm(world.azure, "POST", f"{partner}/deallocate")
    await world.pass_time(minutes=5)
    await world.resume()
    await world.pass_time(hours=2)
    assert world.operations(first, "install") == []
    step = (await world.states())["q-a"]
    assert (step.state, "q-b" in step.reason) == (State.WAITING_FOR_GROUP, True)


async def test_nothing_is_ever_started_beside_an_operation_of_ours_that_never_ends() -> None:
    world = World()
    world.in_long_steps()
    machine = world.create("vm-01", SUPPORTED)
    while not (await world.record(machine)) or world.operations(machine, "assess")[-1:] == []:
        await world.pass_time(minutes=15)
    world.azure.behave(str(machine), replace(SUPPORTED, never_ends=True))
    await world.pass_time(days=6)
    started = [operation.kind for operation in world.operations(machine)]
    assert started == ["assess", "install"]
    assert not overlaps(world.operations())
    step = (await world.states())["vm-01"]
    assert (step.state, bool(step.remedy)) == (State.OVERDUE, True)


async def test_an_event_does_not_release_a_machine_whose_operation_may_still_run() -> None:
    world = World()
    machine = world.create("vm-01", replace(SUPPORTED, never_ends=True))
    world.in_long_steps()
    await world.pass_time(hours=9)
    record = await world.record(machine)
    assert record is not None
    assert record.is_held(State.OVERDUE)
    await arm(world.azure, "PATCH", str(machine), {"tags": {"touched": "yes"}})
    await world.pass_time(hours=8)
    assert len(world.operations(machine)) == 1


async def test_an_operation_that_cannot_be_asked_does_not_hold_its_slot_for_ever() -> None:
    """The role is taken away while an installation runs: past its time it is its owner's, and others may go."""
    world = World({"PATCH_MAX_IN_FLIGHT": "1"}, timings=QUICK)
    stuck = world.create("vm-01", SUPPORTED)
    while not world.operations(stuck, "install"):
        await world.pass_time(minutes=1)
    denied = world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=403))
    world.in_long_steps()
    await world.pass_time(hours=6)
    step = (await world.states())["vm-01"]
    assert (step.state, bool(step.remedy)) == (State.OVERDUE, True)
    assert "cannot be asked" in step.reason
    denied.times = denied.hits
    other = world.create("vm-02", SUPPORTED)
    await world.pass_time(hours=3)
    assert len(world.operations(other, "install")) == 1

    await world.pass_time(hours=30)  # asked again, it turns out to have ended long ago: the machine goes on
    assert [operation.kind for operation in world.operations(stuck)] == ["assess", "install", "assess"]
    assert await world.record(stuck) is None


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


async def test_machines_deferred_for_hours_do_not_use_up_the_pace_of_now() -> None:
    world = World(timings=QUICK)
    template = await world.machine(world.create("vm-00", SUPPORTED))
    for number in range(600):
        far = replace(template, id=world.machine_id(f"far-{number}"))
        await world.services.ledger.insert(
            claim(far, OperationKind.ASSESS, token=f"t{number}", due_at=world.now + timedelta(hours=6), previous=None)
        )
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(minutes=12)
    assert len(world.operations(machine, "assess")) == 1


async def test_a_guests_message_is_journaled_without_the_secrets_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    text = "apt: 403 from https://bob:hunter2@repo.example/x?sig=SECRET-1 key=SECRET-2"
    machine = world.create("vm-01", replace(SUPPORTED, install_status="Failed", errors=(("OPERATION_FAILED", text),)))
    await world.pass_time(hours=2)
    assert world.operations(machine, "install")
    everything = "\n".join(caplog.messages)
    assert "apt: 403 from" in everything
    assert not any(secret in everything for secret in ("hunter2", "SECRET"))
    journal.write("step.failed", problem="https://a.example/b?code=SECRET-3")
    assert "SECRET" not in caplog.messages[-1]


async def test_throttled_reads_are_no_failure_of_the_machine() -> None:
    world = World(timings=QUICK)
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    world.azure.faults.add(Fault("GET", r".*/virtualMachines/.*", times=8, status=429, headers={"Retry-After": "300"}))
    for _ in range(45):
        await world.pass_time(minutes=1)
        record = await world.record(machine)
        assert record is None or record.attempts == 0
    assert not world.queue.messages.get(f"{QUEUES[OperationKind.ASSESS]}-poison")
    await world.pass_time(hours=3)
    assert len(world.operations(machine, "install")) == 1


async def test_a_page_of_graph_outlives_its_own_quota() -> None:
    world = World(timings=QUICK)
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    resets = {"x-ms-user-quota-remaining": "0", "x-ms-user-quota-resets-after": "00:00:04"}
    world.azure.faults.add(Fault("POST", r".*ResourceGraph.*", times=3, status=429, headers=resets))
    await world.pass_time(minutes=7)
    assert world.errors == []
    assert len(world.operations(machine, "assess")) == 1


async def test_a_resource_group_that_graph_does_not_show_is_asked_of_arm() -> None:
    world = World(timings=QUICK)
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    await arm(world.azure, "PATCH", machine.group_id, {"tags": {"patch-mode": "off"}})
    groups = world.services.graph.groups

    async def none(ids: object) -> dict[str, object]:
        return {}

    world.services.graph.groups = none  # type: ignore[assignment,method-assign]
    await world.pass_time(minutes=30)
    assert world.operations(machine) == [], "its tags count, wherever they were read"
    await arm(world.azure, "PATCH", machine.group_id, {"tags": {}})
    await world.pass_time(minutes=30)
    assert len(world.operations(machine, "assess")) == 1
    world.services.graph.groups = groups  # type: ignore[method-assign]


async def test_an_unproved_patch_reaches_no_machine_twice_in_a_round() -> None:
    """Between the interval (6 days) and the round (14) new patches come out: they wait for the next round's canary."""
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)
    world.in_long_steps()
    world.azure.behave(str(machine), SUPPORTED)
    await world.pass_time(days=9)
    assert len(world.operations(machine, "install")) == 1
    step = (await world.states())["vm-01"]
    assert step.state == State.RECENTLY_PATCHED
    assert "next one opens" in step.reason
    await world.pass_time(days=8)
    assert len(world.operations(machine, "install")) == 2


async def test_a_message_for_an_installation_that_was_postponed_meanwhile_loses() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await until_queued(world, OperationKind.INSTALL)
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


async def test_the_same_failure_on_three_machines_is_one_line_for_what_they_share(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Three images, so three canaries fail alike: what they share is the operating system and the agent's version."""
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_BREAKER": "100 in 90 days"}, timings=QUICK)
    failing = replace(SUPPORTED, install_status="Failed")
    for number in range(3):
        world.create(f"vm-{number}", failing, image={"id": GALLERY.replace("web", f"web-{number}")})
    world.create("vm-well", SUPPORTED, image={"id": GALLERY.replace("web", "well")})
    await world.pass_time(hours=2)
    assert len([record for record in await world.records() if record.is_held(State.HELD)]) == 3
    caplog.clear()
    await world.services.ledger.remember("census", {})
    await world.sweep()
    grouped = [json.loads(line) for line in caplog.messages if '"failures.grouped"' in line]
    assert {line["shared"] for line in grouped} == {"os", "agent"}
    assert all((line["count"], "vm-well" in line["machines"]) == (3, False) for line in grouped)


LEFT_ALONE = {
    "of a newer release": {"v": VERSION + 1, "phase": "held"},
    "that nobody can read": {"phase": "?"},
}


@pytest.mark.parametrize("columns", LEFT_ALONE.values(), ids=LEFT_ALONE)
@pytest.mark.parametrize("limit", ["PATCH_CANARIES", "PATCH_MAX_IN_FLIGHT"])
async def test_a_row_that_is_left_alone_takes_no_other_machines_place(columns: dict[str, object], limit: str) -> None:
    """First in every order, but not to be touched: it is neither canary nor in a slot, and a person is told why."""
    world = World({limit: "1"}, timings=QUICK)
    first = world.create("vm-0", SUPPORTED)
    for name in ("vm-1", "vm-2"):
        world.create(name, SUPPORTED)
    await world.until(lambda: bool(world.queue.messages.get(QUEUES[OperationKind.INSTALL])), hours=1)
    stored = await world.services.ledger.read(first)
    assert stored is not None
    await world.table.replace(stored.row, {**stored.row.columns, **columns})
    await world.pass_time(hours=4)
    assert sorted(world.installed()) == ["vm-1", "vm-2"]
    step = (await world.states())["vm-0"]
    assert (step.state, "left alone" in step.reason, bool(step.remedy)) == (State.HELD, True, True)


async def test_what_a_newer_release_has_in_flight_fills_the_caps_until_its_time_is_over() -> None:
    """Gone back a release while vm-0 is installed, and by now vm-0 is nobody's to patch."""
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


async def test_a_machine_that_waits_for_its_images_next_round_is_assessed_in_time_and_heeds_its_settings() -> None:
    """Its wait is longer than its assessment is good for, and nobody installs it any more."""
    world = World({"PATCH_MIN_INTERVAL_HOURS": "24", "PATCH_ROLLOUT_DAYS": "30"}, timings=QUICK)
    world.in_long_steps()
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: world.installed() == ["vm-01"], hours=5)
    await world.pass_time(hours=3)
    world.azure.behave(str(machine), SUPPORTED)  # new patches
    await world.pass_time(hours=30)
    assert (await world.states())["vm-01"].state is State.RECENTLY_PATCHED
    world.set(PATCH_MODE="assess")
    assert (await world.states())["vm-01"].state is State.ASSESSED
    world.set(PATCH_MODE="install")
    assessed = len(world.operations(machine, "assess"))
    await world.pass_time(days=4)
    assert len(world.operations(machine, "assess")) - assessed in (3, 4)
    assert world.installed() == ["vm-01"]


async def test_what_should_have_passed_and_does_not_becomes_its_owners_with_a_remedy() -> None:
    world = World(timings=QUICK)
    world.in_long_steps()
    machine = world.create("vm-01", Behaviour(refuse="platform-update"))
    await world.pass_time(days=2)
    record = await world.record(machine)
    assert record is not None
    assert (held(record).cause, "restart" in held(record).remedy) == (Cause.OWNER, True)


async def test_an_undetermined_machine_is_assessed_again_when_its_owner_restarts_it() -> None:
    world = World(timings=QUICK)
    world.in_long_steps()
    machine = world.create("vm-01", Behaviour(support_state=None))
    await world.pass_time(days=2)
    step = (await world.states())["vm-01"]
    assert (step.state, "restart" in step.remedy) == (State.UNDETERMINED, True)
    world.azure.behave(str(machine), SUPPORTED)
    world.power(machine, "deallocate")
    await world.pass_time(hours=1)
    world.power(machine, "start")
    await world.pass_time(hours=6)
    assert world.installed() == ["vm-01"]
