"""What counts as evidence about an image, when Azure is slow, silent or forgetful.

Factors: how the canary's installation ended x what becomes of the machine x when Resource Graph shows it. Asserted is
which machines were installed, and whether the image's breaker is open.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from functions.cloud.arm import install_order
from functions.model.state import Phase
from functions.model.text import BadInput
from simulator.azure import Behaviour, Fault, Timings
from tests.support.world import World, arm

GOOD = Behaviour(pending={"security": 2})
BAD = Behaviour(pending={"security": 2}, install_status="Failed")
ONE_CANARY = {"PATCH_CANARIES": "1", "PATCH_BAKE_MINUTES": "0", "PATCH_BREAKER": "3 in 7 days"}
MINUTES = Timings(assess_seconds=60, install_seconds=600, reboot_seconds=60, graph_lag_seconds=60)


def a_world(timings: Timings = MINUTES, **settings: str) -> World:
    world = World(ONE_CANARY | settings, timings=timings)
    world.in_steps(timedelta(minutes=5))
    return world


async def breaker_open(world: World) -> bool:
    return (await world.image()).breaker_open


async def until_installed(world: World, count: int = 1) -> str:
    """The first machine that was installed, as soon as its installation has ended."""
    while (
        len([each for each in world.azure.operations if each.kind == "install" and each.status != "InProgress"]) < count
    ):
        await world.pass_time(minutes=5)
        assert world.now < world.azure.operations[0].started + timedelta(days=2)
    return world.installed()[0]


async def test_a_failed_canary_counts_though_its_owner_deletes_it_before_graph_shows_it() -> None:
    world = a_world(replace(MINUTES, graph_lag_seconds=1800))
    for number in range(3):
        world.create(f"vm-{number}", BAD)
    canary = await until_installed(world)
    await world.pass_time(minutes=10)
    world.delete(world.machine_id(canary))
    await world.pass_time(hours=8)
    assert await breaker_open(world)
    assert world.installed() == [canary]


async def test_an_installation_whose_url_is_unknown_at_once_is_not_taken_for_ended() -> None:
    """Right after the POST the operation's URL answers 404, and the machine does not show the operation yet."""
    world = a_world(replace(MINUTES, install_seconds=7200))
    machine = world.create("vm-0", BAD)
    world.tick = timedelta(minutes=1)
    before = None
    while not world.installed():
        before = await arm(world.azure, "GET", f"{machine}?$expand=instanceView")
        await world.pass_time(minutes=1)
    world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=404))
    world.azure.faults.add(Fault("GET", "/virtualMachines/vm-0$", times=1, status=200, body=before))
    await world.sweep()
    record = await world.record(machine)
    assert record is not None
    assert record.phase is Phase.RUNNING


async def test_a_canary_that_installed_nothing_proves_nothing() -> None:
    """Its only wanted patch is excluded: the next machine would get patches that were not tried."""
    world = a_world(PATCH_PACKAGES_EXCLUDE="k*,o*,l*")
    for number in range(4):
        world.create(f"vm-{number}", GOOD)
    await world.pass_time(hours=12)
    assert (await world.image()).canaries == 0


async def test_a_machine_found_unwell_after_it_installed_nothing_proves_nothing() -> None:
    """Whatever made it unwell, no patch did."""
    world = a_world(PATCH_PACKAGES_EXCLUDE="k*,o*,l*")
    machine = world.create("vm-0", GOOD)
    await until_installed(world)
    world.azure.behave(str(machine), replace(GOOD, health="HealthState/unhealthy"))
    await world.pass_time(hours=4)
    assert "unhealthy" in (await world.states())["vm-0"].reason
    image = await world.image()
    assert (image.canaries, image.breaker_open) == (0, False)


async def test_a_machine_without_a_power_state_at_the_first_late_look_is_checked_again() -> None:
    world = a_world(replace(MINUTES, graph_lag_seconds=2 * 3600))
    machine = world.create("vm-0", GOOD)
    await until_installed(world)
    world.azure.behave(str(machine), replace(GOOD, power_unsaid=True))
    await world.pass_time(hours=2, minutes=30)
    assert not await breaker_open(world)
    world.azure.behave(str(machine), GOOD)
    await world.pass_time(hours=3)
    assert not await breaker_open(world)
    assert (await world.image()).canaries == 1


# -- the order itself


def an_order(**changes: object) -> dict[str, object]:
    given = {"windows": True, "classifications": ("Security",), "include": (), "exclude": (), "reboot": "Never"}
    order = install_order(minutes=60, **given | changes)  # type: ignore[arg-type]
    parameters = order["windowsParameters"]
    assert isinstance(parameters, dict)
    return parameters


@pytest.mark.parametrize(
    ("mask", "sent"),
    [("*sql-server*", "*sql?server*"), ("*.NET*", "*?NET*"), ("Defender*", "Defender*")],
)
def test_what_a_person_excluded_stays_excluded_on_windows(mask: str, sent: str) -> None:
    """A mask that the interface does not allow becomes a wider one: nothing that was shut out comes in."""
    assert an_order(exclude=(mask,))["patchNameMasksToExclude"] == [sent]


@pytest.mark.parametrize(("windows", "include"), [(True, ()), (True, ("*2026-11*",)), (False, ())])
def test_an_order_that_names_nothing_is_refused(windows: bool, include: tuple[str, ...]) -> None:
    """To a guest, no classification and no inclusion may mean everything."""
    with pytest.raises(BadInput, match="PATCH_CLASSIFICATIONS"):
        an_order(windows=windows, classifications=(), include=include)
