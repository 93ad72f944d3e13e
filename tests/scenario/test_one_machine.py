"""One machine from creation to patched, and what may happen to it on the way."""

from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest

from functions.cloud.errors import Unavailable
from functions.model.state import OperationKind, Phase, State
from simulator.azure import Behaviour, Fault, Timings, overlaps
from tests.support import held
from tests.support.process import Killed
from tests.support.world import World, arm

SUPPORTED = Behaviour(support_state="Supported", pending={"security": 12, "critical": 1, "other": 3})


async def test_a_new_machine_is_assessed_patched_and_confirmed() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)

    operations = world.operations(machine)
    assert [operation.kind for operation in operations] == ["assess", "install", "assess"]
    assert not overlaps(operations)
    assert (await world.states())["vm-01"].state == State.NOTHING_SELECTED
    assert await world.record(machine) is None, "a machine at rest has no row"


async def test_the_default_mode_assesses_and_never_installs() -> None:
    world = World({"PATCH_MODE": "assess", "PATCH_WINDOW": ""})
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=12)

    assert [operation.kind for operation in world.operations(machine)] == ["assess"]
    assert (await world.states())["vm-01"].state == State.ASSESSED


async def test_the_sweep_alone_reaches_the_same_end() -> None:
    world = World()
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)

    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]


async def test_a_machine_at_rest_is_patched_again_in_the_next_round() -> None:
    world = World({"PATCH_ROLLOUT_DAYS": "6"})
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)
    world.in_long_steps()
    world.azure.behave(str(machine), SUPPORTED)  # next month's patches
    await world.pass_time(days=7)

    kinds = [operation.kind for operation in world.operations(machine)]
    assert kinds == ["assess", "install", "assess", "assess", "install", "assess"]


@pytest.mark.parametrize(
    ("behaviour", "state"),
    [
        pytest.param(Behaviour(support_state="Unsupported"), State.UNSUPPORTED, id="Unsupported"),
        pytest.param(Behaviour(support_state=None), State.UNDETERMINED, id="null"),
        pytest.param(Behaviour(support_state="Unknown"), State.UNDETERMINED, id="Unknown"),
        pytest.param(Behaviour(support_state="UnableToDetermine"), State.UNDETERMINED, id="UnableToDetermine"),
        pytest.param(Behaviour(agent_never_ready=True), State.AGENT_NOT_READY, id="agent never ready"),
        pytest.param(Behaviour(extensions_hang=True), State.BUILDING, id="extensions at work for ever"),
    ],
)
async def test_without_the_verdict_supported_nothing_is_ever_installed(behaviour: Behaviour, state: State) -> None:
    world = World()
    machine = world.create("vm-01", behaviour)
    await world.pass_time(hours=12)

    assert world.operations(machine, "install") == []
    step = (await world.states())["vm-01"]
    assert step.state == state
    assert step.reason


async def test_an_undetermined_machine_is_asked_three_times_then_weekly() -> None:
    world = World()
    world.in_long_steps()
    machine = world.create("vm-01", Behaviour(support_state=None))
    await world.pass_time(days=3)
    assert len(world.operations(machine)) == 3
    await world.pass_time(days=6)
    assert len(world.operations(machine)) == 4


async def test_graph_silent_for_hours_after_an_installation_leads_to_no_second_one() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    while not world.operations(machine, "install"):
        await world.pass_time(minutes=1)
    world.azure.graph.stop_indexing(world.now)
    await world.pass_time(hours=9)
    assert len(world.operations(machine, "install")) == 1
    assert len(world.operations(machine, "assess")) == 1

    world.azure.graph.resume_indexing()
    await world.pass_time(hours=2)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]


async def test_a_failing_graph_page_changes_nothing() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    world.events_arrive = False
    world.azure.faults.add(Fault("POST", r".*ResourceGraph.*", times=10_000, status=503))
    before = dict(world.table.rows)
    for _ in range(3):
        await world.sweep()

    assert world.operations(machine) == []
    assert {key: row for key, row in world.table.rows.items() if key[0] != "app"} == before
    assert len(world.errors) == 3, "each sweep fails and says so"


@pytest.mark.parametrize("finished", [True, False], ids=["finished by then", "still running"])
@pytest.mark.parametrize("kind", [OperationKind.ASSESS, OperationKind.INSTALL])
async def test_killed_between_post_and_ledger_the_operation_is_adopted(kind: OperationKind, finished: bool) -> None:
    """The process dies after the POST: its row says `starting`, and a sweep finds the operation on the machine."""
    slow = Timings(assess_seconds=60 if finished else 3600, install_seconds=60 if finished else 3600)
    world = World(timings=slow)
    world.table.kill_once(
        "before", lambda call: (call.columns.get("phase"), call.columns.get("kind")) == (Phase.RUNNING, kind)
    )
    machine = world.create("vm-01", SUPPORTED)
    with pytest.raises(Killed):
        await world.pass_time(hours=3)
    assert len(world.operations(machine, kind)) == 1
    # The message of a dead process becomes visible again.
    await world.pass_time(minutes=20)
    assert len(world.operations(machine, kind)) == 1, "not repeated"

    await world.pass_time(hours=5)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]
    assert not overlaps(world.operations())


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_lost_answer_to_the_post_starts_nothing_twice(drop: Literal["before", "after"]) -> None:
    world = World()
    world.azure.faults.add(Fault("POST", r".*/installPatches", times=1, drop=drop))
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=6)

    assert len(world.operations(machine, "install")) == 1
    assert not overlaps(world.operations())


async def test_a_conflict_waits_for_the_winner() -> None:
    world = World()
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(minutes=4)
    world.azure.start_operation(str(machine), "install", started_by="Platform")
    await world.pass_time(hours=8)

    assert not overlaps(world.operations())
    assert len([operation for operation in world.operations(machine) if operation.started_by != "Platform"]) >= 1


async def test_a_refused_image_is_the_same_verdict_as_unsupported() -> None:
    world = World()
    refused = replace(SUPPORTED, refuse="unsupported-image")
    world.in_long_steps()
    machine = world.create("vm-01", refused)
    await world.pass_time(days=2)

    assert world.operations(machine) == []
    step = (await world.states())["vm-01"]
    assert (step.state, bool(step.remedy)) == (State.UNSUPPORTED, True)
    assert len(world.posts()) == 1, "looked at again weekly, not at every sweep"


async def test_a_deleted_machine_is_forgotten() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    while not world.operations(machine):
        await world.pass_time(minutes=1)
    world.delete(machine)
    await world.pass_time(hours=3)

    assert await world.records() == []
    assert world.operations(machine, "install") == []


async def test_a_machine_recreated_under_its_name_starts_as_new() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    while not world.operations(machine, "install"):
        await world.pass_time(minutes=1)
    old = (await world.machine(machine)).vm_id
    world.delete(machine)
    await world.pass_time(minutes=2)
    world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=8)

    new = (await world.machine(machine)).vm_id
    assert new != old
    kinds = [operation.kind for operation in world.operations(machine) if operation.vm_id.lower() == new]
    assert kinds == ["assess", "install", "assess"]


async def test_a_message_poisoned_by_an_outage_is_recorded_and_its_machine_recovers() -> None:
    world = World()
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(minutes=5)
    world.azure.faults.add(Fault("GET", r".*/virtualMachines/.*", times=5, status=503))
    reasons: list[str] = []
    for _ in range(40):
        await world.pass_time(minutes=1)
        record = await world.record(machine)
        if record and record.phase is Phase.HELD:
            reasons.append(held(record).reason)
    assert reasons
    assert "failed five times" in reasons[0]
    await world.pass_time(hours=6)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]


async def test_an_outage_of_a_minute_poisons_nothing() -> None:
    world = World()
    world.events_arrive = False
    for number in range(10):
        world.create(f"vm-{number}", SUPPORTED)
    await world.pass_time(minutes=5)
    world.table.outage = Unavailable("the ledger is away")
    await world.messages()
    world.now += timedelta(minutes=1)
    await world.messages()
    world.table.outage = None
    await world.pass_time(hours=1)
    assert not any("poison" in name and messages for name, messages in world.queue.messages.items())
    assert len(world.operations(kind="assess")) >= 10


async def test_tags_of_the_group_count_too() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    await arm(world.azure, "PATCH", machine.group_id, {"tags": {"patch-mode": "off"}})
    await world.pass_time(hours=2)
    assert world.operations(machine) == []
    assert (await world.states())["vm-01"].state == State.OPTED_OUT


async def test_a_start_event_releases_a_machine_held_because_it_was_off() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    while not (await world.record(machine)) or not world.operations(machine):
        await world.pass_time(minutes=1)
    await arm(world.azure, "POST", f"{machine}/deallocate")
    await world.pass_time(hours=2)
    assert world.operations(machine, "install") == []
    await arm(world.azure, "POST", f"{machine}/start")
    await world.pass_time(hours=2)
    assert len(world.operations(machine, "install")) == 1


async def test_an_operation_that_never_ends_is_held_as_overdue_and_nothing_is_started_beside_it() -> None:
    world = World()
    world.in_long_steps()
    machine = world.create("vm-01", replace(SUPPORTED, never_ends=True))
    await world.pass_time(hours=9)

    step = (await world.states())["vm-01"]
    assert (step.state, bool(step.remedy)) == (State.OVERDUE, True)
    assert len(world.operations(machine)) == 1


@pytest.mark.parametrize("never_ends", [False, True], ids=["it ended", "it never does"])
async def test_where_the_operation_url_is_gone_the_instance_view_settles(never_ends: bool) -> None:
    world = World()
    world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=404))
    machine = world.create("vm-01", replace(SUPPORTED, never_ends=never_ends))
    await world.pass_time(hours=3)

    kinds = [operation.kind for operation in world.operations(machine)]
    assert kinds == (["assess"] if never_ends else ["assess", "install", "assess"])
