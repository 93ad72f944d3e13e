"""A subscription of which the app sees nothing is reported: it does not read as one without machines."""

from datetime import timedelta

import pytest

from simulator.arm import shapes
from simulator.azure import Grant
from tests.support.journaled import Told
from tests.support.world import QUICK, World

SEEN, HIDDEN = shapes.SUBSCRIPTION, "00000000-0000-0000-0000-00000000abcd"


async def sweeps(world: World, hours: float) -> None:
    for _ in range(int(hours * 2)):
        await world.sweep()
        world.now += timedelta(minutes=30)


def unseen(told: Told) -> list[str]:
    return [line["subscription"] for line in told("scope.unseen")]


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        pytest.param(f"{SEEN},{HIDDEN}", [HIDDEN], id="one that it may not read"),
        pytest.param(SEEN, [], id="one that it may read"),
        pytest.param("", [], id="everything that it may read"),
        pytest.param("mg:corp", [], id="a management group, whose subscriptions are not known"),
    ],
)
async def test_a_subscription_without_a_resource_group_is_reported_once_a_day(
    told: Told, scope: str, named: list[str]
) -> None:
    world = World({"PATCH_SCOPE": scope}, timings=QUICK)
    world.create("vm-01")
    world.now += timedelta(hours=1)  # Resource Graph lags
    await sweeps(world, hours=3)
    assert unseen(told) == named
    await sweeps(world, hours=24)
    assert unseen(told) == named * 2


async def test_a_right_that_was_taken_away_is_reported_and_one_that_came_back_ends_it(told: Told) -> None:
    world = World({"PATCH_SCOPE": SEEN}, timings=QUICK)
    world.create("vm-01")
    world.now += timedelta(hours=1)  # Resource Graph lags
    await sweeps(world, hours=2)
    grants, world.azure.grants = world.azure.grants, [Grant(actions=("Microsoft.Compute/*",))]
    await sweeps(world, hours=2)
    assert unseen(told) == [SEEN]
    world.azure.grants = grants
    await sweeps(world, hours=2)
    assert unseen(told) == [SEEN]
