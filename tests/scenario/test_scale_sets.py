"""Members of scale sets: left alone by default; with PATCH_SCALE_SETS=include patched where their set allows it.

Factors: the setting; what the set does with its machines; whether it may be read; what changes between claim and call.
No event comes of a member that the set itself makes: the sweep finds it.
"""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from azure.mgmt.compute.aio import ComputeManagementClient

from functions.model.state import OperationKind, State
from simulator.azure import Behaviour, Grant
from simulator.wire import Json
from tests.support.world import SUBSCRIPTION, World, arm

SET = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-web/providers/Microsoft.Compute/virtualMachineScaleSets/web"
READ = "Microsoft.Compute/virtualMachineScaleSets/read"
INCLUDE = {"PATCH_SCALE_SETS": "include", "PATCH_CANARIES": "0"}
FLEXIBLE: Json = {"orchestrationMode": "Flexible", "upgradePolicy": {"mode": "Manual"}}
REPAIRS: Json = FLEXIBLE | {"automaticRepairsPolicy": {"enabled": True, "gracePeriod": "PT10M"}}
ROLLING: Json = FLEXIBLE | {"upgradePolicy": {"mode": "Rolling"}}


async def scale_set(world: World, properties: Json) -> None:
    await arm(world.azure, "PUT", SET, {"location": "westeurope", "properties": properties})


def member(world: World, name: str) -> Any:
    return world.create(name, Behaviour(pending={"security": 3}), scale_set=SET)


# settings, what the set does → the machine's state, whether it was assessed and installed
PATCHED: dict[str, tuple[dict[str, str], Json, State, set[str]]] = {
    "left alone by default": ({}, FLEXIBLE, State.MANAGED_ELSEWHERE, set()),
    "taken in": (INCLUDE, FLEXIBLE, State.PATCHED, {"assess", "install"}),
    "its set repairs": (INCLUDE, REPAIRS, State.MANAGED_ELSEWHERE, set()),
    "its set upgrades": (INCLUDE, ROLLING, State.MANAGED_ELSEWHERE, set()),
    "its set is Uniform": (INCLUDE, {"orchestrationMode": "Uniform"}, State.MANAGED_ELSEWHERE, set()),
}


@pytest.mark.parametrize(("settings", "properties", "state", "kinds"), PATCHED.values(), ids=PATCHED)
async def test_a_member_is_patched_only_where_its_set_leaves_it_alone(
    settings: dict[str, str], properties: Json, state: State, kinds: set[str]
) -> None:
    world = World(settings)
    world.in_steps(timedelta(minutes=15))
    machine = member(world, "web_0a1b2c3d")
    await scale_set(world, properties)
    await world.pass_time(hours=12)
    assert (await world.states())[machine.name].state is state
    assert {each.kind for each in world.operations(machine)} == kinds


async def test_the_sweep_finds_a_member_of_which_no_event_came() -> None:
    world = World(INCLUDE)
    machine = member(world, "web_0a1b2c3d")
    await scale_set(world, FLEXIBLE)
    world.events_arrive = False
    await world.pass_time(hours=12)
    assert world.operations(machine, "install")


async def test_a_set_that_may_not_be_read_leaves_its_members_alone() -> None:
    world = World(INCLUDE)
    machine = member(world, "web_0a1b2c3d")
    await scale_set(world, FLEXIBLE)
    world.azure.grants = [Grant(not_actions=(READ,))]
    await world.pass_time(hours=6)
    step = (await world.states())[machine.name]
    assert (step.state, world.operations(machine)) == (State.MANAGED_ELSEWHERE, [])
    assert "may read virtual machine scale sets" in step.remedy


async def test_repairs_that_were_switched_on_after_the_claim_stop_the_call() -> None:
    """Resource Graph still shows the set as it was; the set itself is read right before the call."""
    world = World(INCLUDE)
    machine = member(world, "web_0a1b2c3d")
    await scale_set(world, FLEXIBLE)
    while not any(each.kind is OperationKind.INSTALL for each in await world.records()):
        await world.pass_time(minutes=1)
    assert not world.operations(machine, "install")
    await scale_set(world, REPAIRS)
    await world.pass_time(hours=3)
    assert world.operations(machine, "install") == []


async def test_members_of_one_set_go_one_at_a_time() -> None:
    world = World(INCLUDE | {"PATCH_MAX_PER_IMAGE": "5"})
    world.in_steps(timedelta(minutes=15))
    machines = [member(world, f"web_0000000{number}") for number in range(3)]
    await scale_set(world, FLEXIBLE)
    await world.pass_time(hours=24)
    installed = sorted(
        (each for machine in machines for each in world.operations(machine, "install")), key=lambda each: each.started
    )
    assert len(installed) == 3
    assert all(one.ends <= two.started for one, two in pairwise(installed) if one.ends)


async def test_the_sdks_own_client_reads_a_simulated_set() -> None:
    world = World()
    member(world, "web_0a1b2c3d")
    await scale_set(world, REPAIRS)
    async with ComputeManagementClient(world.credential, SUBSCRIPTION, transport=world.transport) as client:
        found = await client.virtual_machine_scale_sets.get("rg-web", "web")
    assert (found.orchestration_mode, found.automatic_repairs_policy.enabled) == ("Flexible", True)
