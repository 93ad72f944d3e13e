"""A machine that is being deleted is left alone by every step as one that is gone: no call, no row, no line of trouble.

Factors: what the app had in hand when the deletion began, and whether Resource Graph shows it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from functions.cloud.queue import QUEUES
from functions.model.machine import MachineId
from functions.model.state import OperationKind, Phase, State
from simulator.azure import Behaviour, Timings
from simulator.behaviour import Refusal
from tests.support.world import World, in_phase

# The deletion takes longer than all that the app would do meanwhile.
SLOW = replace(Timings(), delete_seconds=4 * 3600, graph_lag_seconds=900)
TROUBLE = ("machine.held", "machine.waiting", "machine.unreadable", "sweep.failed", "operation.refused")
SUPPORTED = Behaviour(pending={"security": 2})


async def created(world: World, machine: MachineId) -> None:
    """Its event is not delivered before the deletion, and no sweep is due."""
    world.events_arrive = False
    await world.pass_time(minutes=4)


async def to_be_assessed(world: World, machine: MachineId) -> None:
    await world.until_queued(OperationKind.ASSESS)


async def to_be_installed(world: World, machine: MachineId) -> None:
    await world.until_queued(OperationKind.INSTALL)


IN_HAND: dict[str, Callable[[World, MachineId], Awaitable[None]]] = {
    "its event": created,
    "a message to assess it": to_be_assessed,
    "a message to install on it": to_be_installed,
    "an assessment that runs": in_phase(OperationKind.ASSESS, Phase.RUNNING),
    "an installation that runs": in_phase(OperationKind.INSTALL, Phase.RUNNING),
    "an assessment that ended": in_phase(OperationKind.ASSESS, Phase.ENDED),
}


@pytest.mark.parametrize("shown", [True, False], ids=["Graph shows it", "Graph does not show it"])
@pytest.mark.parametrize("name", IN_HAND)
async def test_a_machine_that_is_being_deleted_is_let_go(
    name: str, shown: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(timings=SLOW)
    machine = world.create("vm-01", SUPPORTED)
    await IN_HAND[name](world, machine)
    before, requests = len(world.operations()), len(world.posts())
    caplog.clear()
    if not shown:
        world.azure.graph.stop_indexing()
    world.delete(machine)
    world.events_arrive = True
    await world.pass_time(minutes=30)
    world.azure.graph.resume_indexing()
    await world.pass_time(minutes=30)

    assert str((await world.machine(machine)).provisioning_state) == "Deleting", "all of it within the deletion"
    assert (len(world.operations()), len(world.posts())) == (before, requests)
    assert await world.records() == []
    assert [line for line in caplog.messages if any(event in line for event in TROUBLE)] == []
    assert not any(world.queue.messages[queue] for queue in QUEUES.values())
    assert world.errors == []


async def test_a_machine_whose_deletion_failed_is_found_again() -> None:
    world = World(timings=SLOW)
    machine = world.create("vm-01", SUPPORTED)
    await in_phase(OperationKind.ASSESS, Phase.RUNNING)(world, machine)
    world.delete(machine)
    await world.pass_time(minutes=30)
    assert await world.records() == []

    kept = world.azure.machine(str(machine))
    kept.running_at(world.now, ("delete",))[0].end_early(world.now, "Failed", ("InUseByAnother", "A disk is in use."))
    kept.deleting = kept.deleted = None
    await world.pass_time(hours=2)
    assert [each.status for each in world.operations(machine, "assess")][:2] == ["Canceled", "Succeeded"]


@pytest.mark.parametrize("goes", [True, False], ids=["it goes", "its deletion fails"])
@pytest.mark.parametrize("code", ["the machine's", "its group's"])
async def test_a_call_that_a_deletion_refuses_is_repeated_soon(code: str, goes: bool) -> None:
    """The machine was read a moment before its deletion began: only the answer to the call reports it."""
    group = Refusal(409, "ResourceGroupBeingDeleted", "The group is in deprovisioning state.")
    world = World()
    refuses = replace(SUPPORTED, refuse="deletion" if code == "the machine's" else group)
    machine = world.create("vm-01", refuses)

    async def held() -> bool:
        record = await world.record(machine)
        return record is not None and record.phase is Phase.HELD and bool(world.posts())

    await world.until(held, hours=6)
    step = (await world.states())["vm-01"]
    assert (step.state, "being deleted" in step.reason) == (State.BUSY, True)
    if goes:
        world.delete(machine)
    else:
        world.azure.behave(str(machine), SUPPORTED)
    await world.pass_time(hours=2)

    if goes:
        assert await world.records() == []
    else:
        assert [each.status for each in world.operations(machine, "assess")][:1] == ["Succeeded"]
