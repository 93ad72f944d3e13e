"""What seeds once found, each as a scenario of its own."""

import pytest

from functions.model.machine import MachineId
from functions.model.state import Phase, State
from simulator.azure import Behaviour, Fault, overlaps
from tests.support import held
from tests.support.world import QUICK, World, vm_body

NEVER_ENDS = Behaviour(never_ends=True)


async def recreated_while_graph_stands_still(world: World, machine: MachineId, behaviour: Behaviour) -> None:
    world.azure.graph.stop_indexing()
    world.delete(machine)
    await world.pass_time(minutes=5)
    world.azure.create_machine(str(machine), vm_body())
    world.azure.behave(str(machine), behaviour)


async def test_an_overdue_operation_that_cannot_be_asked_stands_until_it_was_asked() -> None:
    """On the day its hold ends Azure does not answer: nothing may start beside an operation that still runs."""
    world = World()
    world.in_long_steps()
    machine = world.create("vm-01", NEVER_ENDS)
    await world.pass_time(hours=7)
    record = await world.record(machine)
    assert record is not None
    assert record.is_held(State.OVERDUE)

    silent = world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=503))
    await world.pass_time(hours=30)
    assert [operation.kind for operation in world.operations(machine)] == ["assess"]
    assert (await world.states())["vm-01"].state is State.OVERDUE

    silent.times = silent.hits
    operation = world.operations(machine)[0]
    operation.ends = world.now
    world.azure.behave(str(machine), Behaviour())
    await world.pass_time(hours=8)
    assert not overlaps(world.operations())
    assert len(world.operations(machine, "install")) == 1, "once asked, it goes on"


async def test_an_operation_that_was_never_recorded_is_adopted_though_its_row_is_overdue() -> None:
    """The answer to the POST is lost, and Azure is silent for long: then the machine shows what became of it."""
    world = World({"PATCH_FRESH_HOURS": "100"}, timings=QUICK)
    world.azure.faults.add(Fault("POST", "assessPatches", drop="after"))
    machine = world.create("vm-01", Behaviour())
    await world.until(lambda: len(world.operations(machine)) == 1, hours=1)
    silent = world.azure.faults.add(Fault("GET", r"virtualMachines/vm-01$", times=None, status=503))
    world.in_long_steps()
    await world.pass_time(hours=7)
    record = await world.record(machine)
    assert record is not None
    assert (held(record).state, record.operation_id) == (State.OVERDUE, "")

    silent.times = silent.hits
    await world.pass_time(hours=30)
    assert [each.kind for each in world.operations(machine)] == ["assess", "install", "assess"]


async def test_graph_showing_the_former_machine_does_not_make_the_new_one_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Re-created under its name while Graph stands still: the new assessment is not thrown away."""
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    machine = world.create("vm-01", Behaviour(support_state="Unsupported"))
    await world.pass_time(hours=1)
    await recreated_while_graph_stands_still(world, machine, Behaviour())
    await world.pass_time(minutes=40)
    record = await world.record(machine)
    assert record is not None
    assert record.phase is Phase.ENDED
    assert not any('"machine.gone"' in line for line in caplog.messages)

    world.azure.graph.resume_indexing()
    await world.pass_time(hours=2)
    assert [each.kind for each in world.operations(machine)] == ["assess", "assess", "install", "assess"]


async def test_graph_showing_the_former_machine_does_not_end_the_hold_of_the_new_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The former one is due in a Graph that stands still; the row is about the one created since, and stays."""
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    machine = world.create("vm-01", Behaviour(refuse="agent"))
    await world.pass_time(minutes=10)
    await recreated_while_graph_stands_still(world, machine, Behaviour(agent_never_ready=True))
    await world.pass_time(hours=2)
    record = await world.record(machine)
    assert record is not None
    assert (held(record).state, record.vm_id) == (State.AGENT_NOT_READY, (await world.machine(machine)).vm_id)
    await world.pass_time(hours=2)
    assert await world.record(machine) == record
    assert not any('"machine.gone"' in line for line in caplog.messages)


async def test_a_failed_assessment_is_not_taken_for_a_patched_machine() -> None:
    """It knows the support state and counts nothing: the machine is assessed again, with growing waits."""
    world = World(timings=QUICK)
    machine = world.create("vm-01", Behaviour(assess_status="Failed"))
    await world.pass_time(hours=1)
    assert (await world.states())["vm-01"].state is not State.PATCHED
    world.azure.behave(str(machine), Behaviour())
    await world.pass_time(hours=3)
    assert len(world.operations(machine, "install")) == 1
