"""Stopped machines: left stopped by default; with PATCH_START_STOPPED started in their window, patched, and put back.

Factors: the setting and its cap; why a machine is off; tags; the window; how the installation ends; what people do
meanwhile; where a process ends.
"""

from typing import Any

from functions.model.machine import MachineId
from simulator.azure import Behaviour
from tests.support.world import World

ON = {"PATCH_START_STOPPED": "5", "PATCH_MIN_INTERVAL_HOURS": "144"}
WAITING = Behaviour(pending={"security": 3})


def off(
    world: World, name: str = "web-1", behaviour: Behaviour = WAITING, kind: str = "deallocate", **body: Any
) -> MachineId:
    """A machine that was created long ago and that a person stopped."""
    machine = world.create(name, behaviour, **body)
    return machine


async def stopped_world(settings: dict[str, str] | None = None, **about: Any) -> tuple[World, MachineId]:
    """A world in which one machine has been off for an hour before the app first looks."""
    world = World(ON | (settings or {}))
    machine = off(world, **about)
    world.events_arrive = False
    world._next_sweep = world.now.replace(year=2030)
    await world.pass_time(minutes=30)
    world.power(machine, about.get("kind", "deallocate"))
    await world.pass_time(minutes=30)
    world.fresh_events()
    world.events_arrive, world._next_sweep = True, world.now
    return world, machine


def calls(world: World, action: str) -> list[str]:
    """The machines of the app's calls of this kind, in order."""
    sent = [path for _, method, path, *_ in world.azure.requests if method == "POST" and f"/{action}" in path]
    return [path.split("/")[8] for path in sent]


async def power(world: World, machine: MachineId) -> str:
    return (await world.machine(machine)).power.value


async def test_a_stopped_machine_is_started_patched_and_put_back() -> None:
    world, machine = await stopped_world()
    await world.pass_time(hours=3)
    assert world.installed() == ["web-1"]
    assert (calls(world, "start"), calls(world, "deallocate")) == (["web-1"], ["web-1"])
    assert await power(world, machine) == "deallocated"


async def test_by_default_nothing_is_started() -> None:
    world, machine = await stopped_world({"PATCH_START_STOPPED": ""})
    await world.pass_time(hours=3)
    assert (calls(world, "start"), calls(world, "deallocate"), world.operations(machine)) == ([], [], [])
