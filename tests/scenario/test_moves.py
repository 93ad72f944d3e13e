"""A machine that changes under the app: moved, resized, redeployed, reimaged, given another disk, re-created.

Factors: what happens to it × what the app had in hand. Whatever it is, two operations never meet on a machine, no row
is left of what is gone, and in the end nothing waits on the machine. Rules: docs/reliability.md, whose table has a row
for each.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from functions.model.machine import MachineId
from functions.model.state import OperationKind, Phase, State
from functions.steps import reconcile
from simulator.azure import Behaviour
from simulator.world import overlaps
from tests.support.world import GALLERY, QUICK, SUBSCRIPTION, SUPERSEDE, World, arm, in_phase, vm_body

GOOD = Behaviour(pending={"security": 3})
OTHER = "00000000-0000-0000-0000-000000000002"
TIMINGS = replace(QUICK, graph_lag_seconds=120, install_seconds=1800, delete_seconds=0)
SETTINGS = {
    "PATCH_ROLLOUT_DAYS": "1",
    "PATCH_CANARIES": "1",
    "PATCH_BAKE_MINUTES": "60",
    "PATCH_MIN_INTERVAL_HOURS": "24",
}

Change = Callable[[World, MachineId], Awaitable[MachineId]]  # returns the id that the machine has afterwards


# -- what happens to it


def moved_to(subscription: str, group: str) -> Change:
    async def change(world: World, machine: MachineId) -> MachineId:
        target = f"/subscriptions/{subscription}/resourceGroups/{group}"
        world.azure.create_group(target)
        body = {"resources": [str(machine)], "targetResourceGroup": target}
        await arm(world.azure, "POST", f"{machine.group_id}/moveResources", body)
        return MachineId(subscription, group, machine.name)

    return change


def acted_on(action: str) -> Change:
    async def change(world: World, machine: MachineId) -> MachineId:
        await arm(world.azure, "POST", f"{machine}/{action}")
        return machine

    return change


async def resized(world: World, machine: MachineId) -> MachineId:
    await arm(world.azure, "PATCH", str(machine), {"properties": {"hardwareProfile": {"vmSize": "Standard_D4s_v5"}}})
    return machine


async def swapped(world: World, machine: MachineId) -> MachineId:
    """Off, another OS disk, on: the page "Change the OS disk"."""
    await arm(world.azure, "POST", f"{machine}/deallocate")
    await world.pass_time(minutes=5)
    disk = {"managedDisk": {"id": f"{machine.group_id}/providers/Microsoft.Compute/disks/other"}}
    await arm(world.azure, "PATCH", str(machine), {"properties": {"storageProfile": {"osDisk": disk}}})
    await arm(world.azure, "POST", f"{machine}/start")
    return machine


async def recreated(world: World, machine: MachineId) -> MachineId:
    """Deleted, and created of the same image by the same name before the app has looked."""
    world.delete(machine)
    world.azure.advance()
    world.azure.behave(str(machine), GOOD)
    world.azure.create_machine(str(machine), vm_body())
    return machine


CHANGES: dict[str, Change] = {
    "moved to another group": moved_to(SUBSCRIPTION, "rg-other"),
    "moved to another subscription": moved_to(OTHER, "rg-web"),
    "resized": resized,
    "redeployed": acted_on("redeploy"),
    "reimaged": acted_on("reimage"),
    "its OS disk swapped": swapped,
    "re-created by its name": recreated,
}


# -- what the app had in hand


async def at_rest(world: World, machine: MachineId) -> None:
    await world.until(lambda: bool(world.installed()), hours=6)
    await world.pass_time(hours=3)
    assert await world.record(machine) is None


async def held(world: World, machine: MachineId) -> None:
    """Its installation failed; from now on none would."""
    world.azure.behave(str(machine), replace(GOOD, install_status="Failed", failed_patches=0))

    async def there() -> bool:
        record = await world.record(machine)
        return record is not None and record.hold is not None

    await world.until(there, hours=12)
    world.azure.behave(str(machine), GOOD)


async def in_a_rollout(world: World, machine: MachineId) -> None:
    """It is the canary of another machine of its image."""
    world.create("zz-crowd", GOOD)
    await in_phase(OperationKind.INSTALL, Phase.RUNNING)(world, machine)


IN_HAND: dict[str, Callable[[World, MachineId], Awaitable[None]]] = {
    "nothing": at_rest,
    "an assessment": in_phase(OperationKind.ASSESS, Phase.RUNNING),
    "a claim to install": in_phase(OperationKind.INSTALL, Phase.QUEUED),
    "an installation": in_phase(OperationKind.INSTALL, Phase.RUNNING),
    "a hold": held,
    "a rollout": in_a_rollout,
}


@pytest.mark.parametrize("in_hand", IN_HAND)
@pytest.mark.parametrize("name", CHANGES)
async def test_a_machine_that_changes_under_the_app(name: str, in_hand: str) -> None:
    world = World(SETTINGS, timings=TIMINGS)
    world.in_steps(timedelta(minutes=2), timedelta(minutes=6))
    before = world.create("aa-01", GOOD)
    await IN_HAND[in_hand](world, before)
    after = await CHANGES[name](world, before)
    await until_well(world, before, after)


async def until_well(world: World, before: MachineId, after: MachineId) -> None:
    """Lets time pass until nothing waits on the machine, every state says so, and its former id has no row."""

    async def well() -> bool:
        if world.azure.world.waiting(world.azure.machine(str(after))):
            return False
        if [record for record in await world.records() if record.machine == before != after]:
            return False
        states = {machine.id: step.state for machine, step in await reconcile.fleet_states(world.services)}
        return set(states.values()) == {State.PATCHED} and after in states

    world.in_steps(timedelta(minutes=30), timedelta(hours=1))
    await world.until(well, days=5)
    assert overlaps(world.azure.operations) == []
    firsts: dict[str, str] = {}
    for operation in world.operations():
        firsts.setdefault(operation.vm_id, operation.kind)
    assert set(firsts.values()) == {"assess"}, "no VM is installed before it was assessed itself"
    assert world.errors == []


async def test_a_claim_is_void_for_another_version_of_the_image() -> None:
    """A reimage may change the exact version of an image that is named without one: it is assessed before all else."""
    world = World(SETTINGS, timings=TIMINGS)
    machine = world.create("aa-01", GOOD, image={"id": GALLERY.partition("/versions")[0]})
    await in_phase(OperationKind.INSTALL, Phase.QUEUED)(world, machine)
    await arm(world.azure, "POST", f"{machine}/reimage", {"exactVersion": "2.0.0"})
    reimaged = world.now
    await world.until(lambda: bool(world.installed()), hours=6)
    kinds = [each.kind for each in world.operations(machine) if each.started >= reimaged]
    assert kinds[0] == "assess"
    assert kinds[-1] == "install"


async def test_a_reimaged_machine_at_rest_is_assessed_when_its_event_comes() -> None:
    """Not only when its daily assessment is due: until then the one of before would count."""
    world = World(SETTINGS, timings=TIMINGS)
    machine = world.create("aa-01", GOOD)
    await at_rest(world, machine)
    assessed = len(world.operations(machine, "assess"))
    await arm(world.azure, "POST", f"{machine}/reimage", {})
    await world.pass_time(hours=1)
    assert len(world.operations(machine, "assess")) == assessed + 1
    assert (await world.states())[machine.name].state is State.RECENTLY_PATCHED, "it lacks patches again"


def test_the_page_has_a_rule_for_each() -> None:
    page = Path("docs/reliability.md").read_text()
    table = page[page.index("| what happens |") :].split("\n\n")[0].splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in table] == list(CHANGES)


@pytest.mark.parametrize("in_hand", IN_HAND)
async def test_a_moved_machine_whose_results_stay_behind_is_assessed_again(in_hand: str) -> None:
    """No source says whether Graph shows earlier results under the new id: without them nothing is installed."""
    world = World(SETTINGS, timings=TIMINGS, limits=replace(SUPERSEDE, moves_keep_results=False))
    world.in_steps(timedelta(minutes=2), timedelta(minutes=6))
    before = world.create("aa-01", GOOD)
    await IN_HAND[in_hand](world, before)
    after = await CHANGES["moved to another group"](world, before)
    moved = world.now
    await until_well(world, before, after)
    later = [each for each in world.operations(after) if each.started >= moved]
    assert later, "it is found under its new id"
    assert later[0].kind == "assess"
