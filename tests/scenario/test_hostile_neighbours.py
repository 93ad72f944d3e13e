"""Attacks on the whole fleet with one tag, one resource group or one row, by people who may write no more than that.

Each hostile neighbour is there from the first sweep on. What is asserted is the world: the other machines are
installed, and one that is created later is assessed. Resource Graph answers by its rows, with Python's letter case:
the simulator's evaluator refuses letters whose case Azure does not publish.
"""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from functions.cloud.errors import Refused, Unavailable
from functions.model.state import State
from simulator.azure import Behaviour
from tests.support.world import QUICK, SUBSCRIPTION, World, vm_body

GOOD = Behaviour(support_state="Supported", pending={"security": 2})
SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups"
OTHER_SCOPE = "/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups"
TOO_LONG = "vm-" + "x" * 90  # no name that Azure documents
VICTIMS = ["vm-00", "vm-01", "vm-02", "web-00"]  # the last is of the patch-group web


def a_world() -> World:
    world = World(timings=QUICK)
    world.events_arrive = False  # the sweep alone finds them
    world.in_steps(timedelta(minutes=10))
    for name in VICTIMS:
        world.create(name, GOOD, tags={"patch-group": "web"} if name.startswith("web") else {})
    return world


def machine_at(world: World, scope: str, name: str, **tags: str) -> str:
    full = f"{scope}/rg-theirs/providers/Microsoft.Compute/virtualMachines/{name}"
    world.azure.behave(full, GOOD)
    world.azure.create_machine(full, vm_body(tags={tag.replace("_", "-"): value for tag, value in tags.items()}))
    return full


def empty_group(world: World, scope: str, name: str, tag: str) -> None:
    world.azure.create_group(f"{scope}/{name}", "westeurope")
    group = world.azure.world.groups[f"{scope}/{name}".lower()]
    group.body.set(world.now, {"location": "westeurope", "tags": {"patch-group": tag}})


ATTACKS: dict[str, Callable[[World], object]] = {
    "a patch-group of one letter that lowers to two": lambda world: machine_at(
        world, SCOPE, "evil-01", patch_group="\u0130"
    ),
    "a patch-group that lowers to another's name": lambda world: machine_at(
        world, SCOPE, "evil-01", patch_group="wee\u212a"
    ),
    "a member of another group whose id cannot be read": lambda world: machine_at(
        world, SCOPE, TOO_LONG, patch_group="db"
    ),
    "a member of the same group whose id cannot be read, in another subscription": lambda world: machine_at(
        world, OTHER_SCOPE, TOO_LONG, patch_group="web"
    ),
    "an empty resource group with a capital dotted I, of the same group": lambda world: empty_group(
        world, SCOPE, "rg-\u0130stanbul", "web"
    ),
    "an empty resource group whose id cannot be read, of another group": lambda world: empty_group(
        world, SCOPE, "rg-\u212a", "db"
    ),
    "an image whose id has a quote": lambda world: world.create("evil-01", GOOD, image={"id": "/images/it's"}),
    "an image whose id has half a surrogate pair": lambda world: world.create(
        "evil-01", GOOD, image={"id": "/images/\ud800"}
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_one_hostile_neighbour_stops_no_other(attack: str) -> None:
    world = a_world()
    ATTACKS[attack](world)
    await world.pass_time(hours=3)
    late = world.create("late-01", GOOD)
    await world.pass_time(hours=3)

    assert set(VICTIMS) <= set(world.installed())
    assert world.operations(late, "assess")
    assert world.errors == []


async def test_a_member_that_cannot_be_read_lets_its_own_group_wait_and_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "journal")
    world = a_world()
    machine_at(world, SCOPE, TOO_LONG, patch_group="web")
    await world.pass_time(hours=3)

    assert set(VICTIMS) - {"web-00"} <= set(world.installed())
    assert "web-00" not in world.installed()
    step = (await world.states())["web-00"]
    assert (step.state, "a machine that cannot be read" in step.reason) == (State.WAITING_FOR_GROUP, True)
    assert any("machine.unreadable" in line and TOO_LONG[:20] in line for line in caplog.messages)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(Unavailable("querying Resource Graph: no answer"), id="no answer"),
        pytest.param(Refused("querying Resource Graph", status=400, codes=["BadRequest"], message=""), id="refused"),
    ],
)
async def test_a_failed_look_up_of_patch_groups_holds_their_machines_alone(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = a_world()

    async def members(names: list[str]) -> AsyncIterator[object]:
        for name in names:
            if name:
                raise error
            yield name

    monkeypatch.setattr(world.services.graph, "group_members", members)
    await world.pass_time(hours=3)
    late = world.create("late-01", GOOD)
    await world.pass_time(hours=3)

    assert {*VICTIMS, "late-01"} - {"web-00"} <= set(world.installed())
    assert "web-00" not in world.installed()
    assert world.operations(world.machine_id("web-00"), "assess")
    assert world.operations(late, "assess")
    assert world.errors, "the sweep says that it could not ask"
    step = (await world.states())["web-00"]
    assert (step.state, "Resource Graph did not answer" in step.reason) == (State.WAITING_FOR_GROUP, True)
