"""An attack on an image that many share: one machine of it, in an attacker's hands, that lies about its installation.

Factors: where the liar is (another subscription, another owner, among the victims) × what it says (failed, succeeded) ×
PATCH_ROLLOUT_SCOPE and PATCH_CANARY_MACHINES. What is asserted is which of the victims Azure installed.
"""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from functions.model.image_record import ImageRecord
from functions.model.machine import MachineId
from functions.model.state import OperationKind, State
from simulator.azure import Behaviour
from tests.support.world import GALLERY, QUICK, SUBSCRIPTION, World, arm, vm_body

ELSEWHERE = "00000000-0000-0000-0000-000000000002"
GOOD = Behaviour(pending={"security": 2})
BAD = Behaviour(pending={"security": 2}, install_status="Failed")
VICTIMS = ("vm-0", "vm-1", "vm-2", "vm-3")


@dataclass(frozen=True)
class Attack:
    """What the liar is and says, how the victims really fare, and how many of them are installed."""

    says: Behaviour
    victims: Behaviour
    installed: int
    subscription: str = SUBSCRIPTION
    tags: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


FIRST = {"patch-ring": "0"}
BY_OWNER, FLEET = {"PATCH_ROLLOUT_SCOPE": "owner"}, {"PATCH_ROLLOUT_SCOPE": "fleet"}
NAMED = {"PATCH_CANARY_MACHINES": "vm-*"}
ATTACKS = {
    "fails, in another subscription": Attack(BAD, GOOD, 4, ELSEWHERE, FIRST),
    "fails, of another owner": Attack(BAD, GOOD, 4, tags=FIRST | {"owner": "mallory"}, settings=BY_OWNER),
    "fails, among the victims, but canaries are named": Attack(BAD, GOOD, 4, settings=NAMED),
    "succeeds, in another subscription": Attack(GOOD, BAD, 1, ELSEWHERE, FIRST),
    "succeeds, of another owner": Attack(GOOD, BAD, 1, tags=FIRST | {"owner": "mallory"}, settings=BY_OWNER),
    "succeeds, among the victims, but canaries are named": Attack(GOOD, BAD, 1, tags=FIRST, settings=NAMED),
    # what remains, and is said in the documents: within a boundary a machine speaks for its image
    "fails, in another subscription, one fleet": Attack(BAD, GOOD, 0, ELSEWHERE, FIRST, FLEET),
    "fails, among the victims": Attack(BAD, GOOD, 0, tags=FIRST),
    "fails, in a ring before the victims' after a named canary": Attack(BAD, GOOD, 1, tags=FIRST, settings=NAMED),
}


def a_world(**settings: str) -> World:
    rollouts = {"PATCH_CANARIES": "1", "PATCH_BAKE_MINUTES": "60"}
    world = World(rollouts | settings, timings=QUICK)
    world.in_steps(timedelta(minutes=10))
    return world


def create(world: World, name: str, says: Behaviour, tags: dict[str, str], subscription: str = SUBSCRIPTION) -> None:
    machine = MachineId(subscription, "rg-other", name)
    world.azure.behave(str(machine), says)
    world.azure.create_machine(str(machine), vm_body(tags=tags))


def installed(world: World) -> int:
    return len({*VICTIMS} & {*world.installed()})


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_machine_that_lies_neither_stops_nor_proves_the_image_of_others(attack: Attack) -> None:
    world = a_world(**attack.settings)
    create(world, "liar", attack.says, attack.tags, attack.subscription)
    for name in VICTIMS:
        world.create(name, attack.victims)
    await world.pass_time(hours=8)
    assert installed(world) == attack.installed
    assert "liar" in world.installed() or attack.settings == NAMED


async def test_a_machine_that_another_owner_got_between_claim_and_call_is_stopped_by_his_breaker() -> None:
    world = a_world(**BY_OWNER, PATCH_CANARIES="0")
    machine = world.create("vm-0", GOOD, tags={"owner": "web"})
    await world.until_queued(OperationKind.INSTALL)
    opened = ImageRecord(GALLERY.lower(), "owner shop", opening="20261125T080000", opened_because="3 machines failed")
    assert await world.services.ledger.put_image(await world.services.ledger.image(opened.image, "owner shop"), opened)
    await arm(world.azure, "PATCH", str(machine), {"tags": {"owner": "shop"}})
    await world.pass_time(hours=4)
    assert world.installed() == []
    assert (await world.states())["vm-0"].state is State.BREAKER_OPEN


async def test_the_failures_of_one_machine_do_not_open_the_breaker() -> None:
    """The canary has proved the rollout; three tries of one machine follow, PATCH_BREAKER's number."""
    world = a_world()
    world.create("vm-0", GOOD, tags=FIRST)
    await world.pass_time(hours=4)
    create(world, "liar", BAD, {})
    await world.until(lambda: world.installed().count("liar") == 3, hours=12)
    await world.pass_time(hours=1)
    for name in VICTIMS[1:]:
        world.create(name, GOOD)
    await world.pass_time(hours=4)
    assert installed(world) == 4


async def test_where_no_named_canary_is_due_the_others_say_so() -> None:
    world = a_world(PATCH_CANARY_MACHINES="canary-*")
    world.create("vm-0", GOOD)
    await world.pass_time(hours=3)
    step = (await world.states())["vm-0"]
    assert step.state is State.WAITING_FOR_CANARY
    assert "PATCH_CANARY_MACHINES" in step.reason
    assert step.remedy
    world.create("canary-1", GOOD)
    await world.pass_time(hours=5)
    assert world.installed() == ["canary-1", "vm-0"]


async def test_a_breaker_names_its_boundary_and_the_row_that_closes_it() -> None:
    world = a_world()
    world.create("vm-0", BAD)
    create(world, "other", BAD, {}, ELSEWHERE)
    await world.pass_time(hours=2)
    world.create("vm-1", GOOD)
    create(world, "other-1", GOOD, {}, ELSEWHERE)
    await world.pass_time(hours=2)
    states = await world.states()
    assert SUBSCRIPTION in states["vm-1"].reason
    assert ELSEWHERE in states["other-1"].reason
    world.azure.behave(str(world.machine_id("vm-0")), GOOD)
    await world.close_breaker((await world.image()).opening)
    await world.pass_time(hours=4)
    assert "vm-1" in world.installed()
    assert "other-1" not in world.installed()
