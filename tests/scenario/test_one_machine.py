"""One machine from creation to patched, and what may happen to it on the way."""

from dataclasses import replace
from datetime import timedelta

import pytest

from functions.cloud.errors import Unavailable
from functions.model.state import Cause, Phase, State
from simulator.azure import Behaviour, Fault, overlaps
from tests.support import held
from tests.support.world import QUICK, World, arm

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


async def test_a_machine_at_rest_is_patched_again_in_the_next_rollout() -> None:
    world = World({"PATCH_ROLLOUT_DAYS": "6"})
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)
    world.in_long_steps()
    world.azure.behave(str(machine), SUPPORTED)  # next month's patches
    await world.pass_time(days=7)

    kinds = [operation.kind for operation in world.operations(machine)]
    assert kinds[:3] == ["assess", "install", "assess"]
    assert kinds.count("install") == 2
    assert 7 <= kinds.count("assess") <= 12, "daily, and after each installation"


@pytest.mark.parametrize(
    ("behaviour", "state"),
    [
        pytest.param(Behaviour(support_state="Unsupported"), State.UNSUPPORTED, id="Unsupported"),
        pytest.param(Behaviour(support_state=None), State.UNDETERMINED, id="null"),
        pytest.param(Behaviour(support_state="Unknown"), State.UNDETERMINED, id="Unknown"),
        pytest.param(Behaviour(support_state="UnableToDetermine"), State.UNDETERMINED, id="UnableToDetermine"),
        pytest.param(Behaviour(agent_never_ready=True), State.AGENT_NOT_READY, id="agent never ready"),
        pytest.param(Behaviour(extensions_hang=True), State.BUILDING, id="extensions that never finish"),
    ],
)
async def test_without_the_verdict_supported_nothing_is_ever_installed(behaviour: Behaviour, state: State) -> None:
    world = World()
    world.in_steps(timedelta(minutes=1), timedelta(minutes=15))
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
    assert len(world.posts()) == 1, "checked again weekly, not at every sweep"


async def test_what_should_have_passed_and_does_not_becomes_its_owners_with_a_remedy() -> None:
    world = World(timings=QUICK)
    world.in_long_steps()
    machine = world.create("vm-01", Behaviour(refuse="platform-update"))
    await world.pass_time(days=2)
    record = await world.record(machine)
    assert record is not None
    assert (held(record).cause, "restart" in held(record).remedy) == (Cause.OWNER, True)


async def test_a_deleted_machine_is_forgotten() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.operations(machine)), hours=6)
    world.delete(machine)
    await world.pass_time(hours=3)

    assert await world.records() == []
    assert world.operations(machine, "install") == []


async def test_a_machine_recreated_under_its_name_starts_as_new() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.operations(machine, "install")), hours=6)
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


async def test_a_resource_group_that_graph_does_not_show_is_asked_of_arm() -> None:
    world = World(timings=QUICK)
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    await arm(world.azure, "PATCH", machine.group_id, {"tags": {"patch-mode": "off"}})
    groups = world.services.graph.resource_groups

    async def none(ids: object) -> dict[str, object]:
        return {}

    world.services.graph.resource_groups = none  # type: ignore[assignment,method-assign]
    await world.pass_time(minutes=30)
    assert world.operations(machine) == [], "its tags count, wherever they were read"
    await arm(world.azure, "PATCH", machine.group_id, {"tags": {}})
    await world.pass_time(minutes=30)
    assert len(world.operations(machine, "assess")) == 1
    world.services.graph.resource_groups = groups  # type: ignore[method-assign]


async def test_a_start_event_releases_a_machine_held_because_it_was_off() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.operations(machine)), hours=1)
    await arm(world.azure, "POST", f"{machine}/deallocate")
    await world.pass_time(hours=2)
    assert world.operations(machine, "install") == []
    await arm(world.azure, "POST", f"{machine}/start")
    await world.pass_time(hours=2)
    assert len(world.operations(machine, "install")) == 1
