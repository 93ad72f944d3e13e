"""When a machine may be installed: its own window, that of canaries, its first hours.

What is asserted is the world: which installations Azure saw, when, and with which order.
"""

from datetime import UTC, datetime, timedelta

import pytest

from functions.model.state import OperationKind, State
from functions.policy.grammar import iso_duration_minutes
from simulator.azure import Behaviour
from tests.support.tables import TableCall
from tests.support.world import QUICK, START, World

PENDING = Behaviour(pending={"security": 2})
DAY = timedelta(days=1)
OPENS = datetime(2026, 11, 28, 22, 0, tzinfo=UTC)  # the first Saturday night
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
    world.in_steps(timedelta(minutes=30))
    return world


def starts(world: World) -> dict[str, str]:
    """When the installation of each machine began, by name."""
    return {
        each.machine.rsplit("/", 1)[-1]: each.started.strftime("%a %H:%M") for each in world.operations(kind="install")
    }


async def test_a_canary_goes_in_its_own_window_and_the_others_wait_for_theirs() -> None:
    """The canary proves the rollout within its first hour: the window of canaries stays open, for no machine."""
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
    world.in_steps(timedelta(minutes=10))
    world.now = datetime(2026, 11, 25, 14, 55, tzinfo=UTC)
    world.create("vm-0", PENDING)
    await world.pass_time(hours=2)
    (installation,) = world.operations(kind="install")
    given = timedelta(minutes=iso_duration_minutes.read(installation.order["maximumDuration"]))
    assert installation.started + given <= datetime(2026, 11, 25, 16, 0, tzinfo=UTC)


# -- first hours

FIRST_DAY = {"PATCH_WINDOW": SATURDAY_NIGHT, "PATCH_FIRST_HOURS": "24"}


def reboots(world: World) -> list[tuple[str, str]]:
    """What each installation ordered and what came of it."""
    orders = world.operations(kind="install")
    return [(each.order["rebootSetting"], each.output["rebootStatus"]) for each in orders]


async def test_by_default_a_new_machine_waits_for_its_window() -> None:
    world = a_world(PATCH_WINDOW=SATURDAY_NIGHT)
    world.create("vm-0", PENDING)
    await world.pass_time(days=3)
    assert world.installed() == []
    assert (await world.states())["vm-0"].state is State.WAITING_FOR_WINDOW
    await world.pass_time(days=1)
    assert starts(world)["vm-0"].startswith("Sat 22:")


async def test_a_new_machine_that_need_not_wait_is_not_rebooted_before_its_window() -> None:
    """It says that a reboot is pending and who makes it: a person, here, or the next installation, in its window."""
    world = a_world(**FIRST_DAY)
    for name in ("restarted", "left"):
        world.create(name, PENDING)
    await world.pass_time(hours=6)
    assert reboots(world) == [("Never", "Required")] * 2
    states = await world.states()
    assert {step.state for step in states.values()} == {State.REBOOT_PENDING}
    assert all("only at the end of an installation" in step.reason and step.remedy for step in states.values())

    world.power(world.machine_id("restarted"), "restart")
    await world.pass_time(hours=30)
    states = await world.states()
    assert {name: step.state for name, step in states.items()} == {
        "restarted": State.PATCHED,
        "left": State.REBOOT_PENDING,
    }
    await world.pass_time(days=3)
    assert len(world.installed()) == 2, "its window came and went: no order is given for a reboot alone"

    world.in_long_steps()
    world.azure.behave(str(world.machine_id("left")), Behaviour(pending={"security": 3}))
    await world.pass_time(days=9)
    assert reboots(world)[2:] == [("IfRequired", "Completed")]
    assert (await world.states())["left"].state is State.PATCHED


async def test_a_reboot_outside_the_window_is_a_setting_of_its_own() -> None:
    world = a_world(**FIRST_DAY, PATCH_FIRST_REBOOT="IfRequired")
    world.create("vm-0", PENDING)
    await world.pass_time(hours=6)
    assert reboots(world) == [("IfRequired", "Completed")]


# -- assessments

# The settings → how often each machine is assessed from Wednesday to Friday, and in the day before its window opens:
# the least and the most.
ASSESSMENTS = {
    "daily by default": ({}, (3, 4), (1, 2)),
    "rarely, and before its window": ({"PATCH_ASSESS_HOURS": "160"}, (1, 1), (1, 2)),
    "rarely, in mode assess": ({"PATCH_ASSESS_HOURS": "160", "PATCH_MODE": "assess"}, (1, 1), (0, 0)),
}


@pytest.mark.parametrize(("settings", "early", "last_day"), ASSESSMENTS.values(), ids=ASSESSMENTS)
async def test_each_machine_is_assessed_in_the_day_before_its_window_opens(
    settings: dict[str, str], early: tuple[int, int], last_day: tuple[int, int]
) -> None:
    world = a_world(PATCH_WINDOW=SATURDAY_NIGHT, **settings)
    names = [f"vm-{number}" for number in range(6)]
    for name in names:
        world.create(name, PENDING)
    await world.pass_time(days=3, hours=14)
    assert world.now == OPENS
    assessed = [(each.machine.rsplit("/", 1)[-1], each.started) for each in world.operations(kind="assess")]
    for name in names:
        before = sum(machine == name and at < OPENS - DAY for machine, at in assessed)
        lately = sum(machine == name and at >= OPENS - DAY for machine, at in assessed)
        assert early[0] <= before <= early[1]
        assert last_day[0] <= lately <= last_day[1]


async def test_an_unsupported_machine_is_assessed_weekly() -> None:
    world = a_world()
    machine = world.create("vm-0", Behaviour(support_state="Unsupported"))
    world.in_long_steps()
    await world.pass_time(days=15)
    assert len(world.operations(machine, "assess")) == 3


# which operation of the ledger takes minutes while the message of an installation is handled
SLOW: dict[str, tuple[str, int]] = {
    "its image's row": ("get", 2),
    "a person's stops": ("part", 1),
    "the claim's own row, to begin": ("replace", 1),
}


@pytest.mark.parametrize(("operation", "number"), SLOW.values(), ids=SLOW)
async def test_what_was_decided_before_a_ledger_that_took_minutes_is_not_sent(operation: str, number: int) -> None:
    """The order's duration is counted from the decision: sent later, its reboot could come after the window."""
    world = World({"PATCH_WINDOW": "daily 09:00-11:00 UTC"}, timings=QUICK)
    machine = world.create("vm-01", PENDING)
    await world.until_queued(OperationKind.INSTALL)
    world.now = START + timedelta(hours=2, minutes=35)
    before = world.table.calls[operation]

    async def slowly(call: TableCall) -> None:
        if call.operation == operation and world.table.calls[operation] == before + number:
            world.now += timedelta(minutes=6)

    world.table.before = slowly
    await world.messages()
    assert world.now == START + timedelta(hours=2, minutes=41)
    assert world.operations(machine, "install") == []
    world.in_steps(timedelta(minutes=15))
    await world.pass_time(hours=24)
    [installation] = world.operations(machine, "install")
    assert (installation.started.hour, installation.status_at(world.now)) == (9, "Succeeded")
