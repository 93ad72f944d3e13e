"""When a machine may be installed: its own window, that of canaries, its first hours.

What is asserted is the world: which installations Azure saw, when, and with which order.
"""

from datetime import UTC, datetime, timedelta

from functions.policy.grammar import iso_duration_minutes
from simulator.azure import Behaviour
from tests.support.world import QUICK, World

PENDING = Behaviour(pending={"security": 2})
SATURDAY_NIGHT = "Sat 22:00-02:00"
WEDNESDAY_NOON = "Wed 12:00-16:00"  # on the day of START
CANARY_FIRST = {
    "PATCH_WINDOW": SATURDAY_NIGHT,
    "PATCH_CANARY_WINDOW": WEDNESDAY_NOON,
    "PATCH_CANARIES": "1",
    "PATCH_BAKE_MINUTES": "60",
}


def a_world(**settings: str) -> World:
    world = World(settings, timings=QUICK)
    world.tick = world.sweep_every = timedelta(minutes=10)
    return world


def starts(world: World) -> dict[str, str]:
    """When the installation of each machine began, by name."""
    return {
        each.machine.rsplit("/", 1)[-1]: each.started.strftime("%a %H:%M") for each in world.operations(kind="install")
    }


async def test_a_canary_goes_in_its_own_window_and_the_others_wait_for_theirs() -> None:
    """The canary proves the rollout within its first hour: the window of canaries stays open, for nobody."""
    world = a_world(**CANARY_FIRST)
    for number in range(4):
        world.create(f"vm-{number}", PENDING)
    await world.pass_time(hours=24)
    assert len(world.installed()) == 1
    canary = world.installed()[0]
    assert "Wed 12:00" <= starts(world)[canary] < "Wed 13:00"

    await world.pass_time(days=3)
    began = starts(world)
    assert sorted(began) == ["vm-0", "vm-1", "vm-2", "vm-3"]
    assert all("Sat 22:00" <= moment <= "Sat 23:59" for name, moment in began.items() if name != canary), began


async def test_a_canary_is_given_no_more_than_is_left_of_the_canaries_window() -> None:
    world = a_world(**CANARY_FIRST)
    world.now = datetime(2026, 11, 25, 14, 55, tzinfo=UTC)
    world.create("vm-0", PENDING)
    await world.pass_time(hours=2)
    (installation,) = world.operations(kind="install")
    given = timedelta(minutes=iso_duration_minutes.read(installation.order["maximumDuration"]))
    assert installation.started + given <= datetime(2026, 11, 25, 16, 0, tzinfo=UTC)
