"""A machine whose installations keep failing: how often Azure is asked to install it, and how it comes back.

What is asserted is the world: the installations that Azure ran, and what the machine's state says. N, the most that one
machine may be installed within PATCH_MIN_INTERVAL_HOURS, is that of docs/settings.md: one, and two more while it fails.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.model.machine import MachineId
from functions.model.state import State
from simulator.azure import Behaviour
from tests.support.world import GALLERY, QUICK, World

N = 3
INTERVAL = timedelta(hours=144)  # PATCH_MIN_INTERVAL_HOURS by default
DAY = timedelta(days=1)
BAD = Behaviour(pending={"security": 2}, install_status="Failed")
GOOD = Behaviour(pending={"security": 2})
SATURDAY = datetime(2026, 11, 28, 21, 0, tzinfo=UTC)
NO_BREAKER = {"PATCH_BREAKER": "100 in 1 day"}
BY_WINDOW = {"PATCH_WINDOW": "Sat 22:00-02:00 UTC", "PATCH_FIRST_HOURS": "0"}
ALL_IMAGES = {"id": GALLERY}


@dataclass(frozen=True)
class Case:
    """A failing machine, for how long it is watched, and how often it may be installed in all that time."""

    image: dict[str, str]
    days: float
    at_most: int
    at_least: int
    settings: dict[str, str] = field(default_factory=dict)
    minutes: int = 20  # between two sweeps of the first day


FAILING = {
    "no image, a day": Case({}, 1, 3, 3),
    "no image, ten days: its own breaker": Case({}, 10, 3, 3),
    "no image, by window": Case({}, 1, 3, 3, BY_WINDOW, minutes=10),
    "an image, a day, two-hour rollouts": Case(
        ALL_IMAGES, 1, 3, 3, NO_BREAKER | {"PATCH_ROLLOUT_DAYS": "0.1", "PATCH_BAKE_MINUTES": "0"}
    ),
    "an image, ten days": Case(ALL_IMAGES, 10, 6, 4, NO_BREAKER),
    "an image, an interval of six hours, four days: the waits grow": Case(
        ALL_IMAGES, 4, 9, 5, NO_BREAKER | {"PATCH_MIN_INTERVAL_HOURS": "6"}
    ),
    "an image, by window, three Saturdays": Case(ALL_IMAGES, 15, 9, 5, NO_BREAKER | BY_WINDOW, minutes=10),
}


def a_world(minutes: int = 20, **settings: str) -> World:
    world = World(settings, timings=QUICK, start=SATURDAY)
    world.in_steps(timedelta(minutes=minutes))
    return world


def begun(world: World, machine: MachineId) -> list[datetime]:
    return [each.started for each in world.operations(machine, "install")]


def most_in(span: timedelta, times: Sequence[datetime]) -> int:
    """The most of these times that lie within one span."""
    return max((sum(first <= at < first + span for at in times) for first in times), default=0)


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
async def test_a_machine_that_keeps_failing_is_installed_a_few_times_and_no_more(case: Case) -> None:
    world = a_world(case.minutes, **case.settings)
    machine = world.create("vm-01", BAD, image=case.image)
    await world.pass_time(days=min(case.days, 1.25))
    world.in_steps(timedelta(hours=1))  # the rest is slow
    await world.pass_time(days=max(case.days - 1.25, 0))
    times = begun(world, machine)
    assert case.at_least <= len(times) <= case.at_most, times
    assert most_in(world.settings.min_interval, times) <= N
    assert len(await world.records()) <= 1, "the ledger holds the failing machine, and nothing else"


async def test_its_state_says_what_failed_since_when_and_what_to_do() -> None:
    world = a_world()
    machine = world.create("vm-01", BAD, image={})
    other = world.create("vm-02", BAD, image=ALL_IMAGES)
    world.set(**NO_BREAKER)
    await world.pass_time(days=1)
    states = await world.states()
    last = {each.name: begun(world, each)[-1] for each in (machine, other)}
    for name, step in states.items():
        assert step.state is State.FAILED
        assert f"{last[name]:%Y-%m-%d %H:%M}" in step.reason
        assert "docs/stop.md" in step.remedy
    assert "until a person releases it" in states["vm-01"].reason
    assert states["vm-02"].when == begun(world, other)[0] + INTERVAL


async def release(world: World, machine: MachineId) -> None:
    """Deletes its row, as docs/stop.md says."""
    stored = await world.services.ledger.read(machine)
    assert stored is not None
    await world.table.delete(stored.row)


async def no_one_acts(world: World, machine: MachineId) -> None: ...


async def restarted(world: World, machine: MachineId) -> None:
    world.power(machine, "powerOff")
    await world.pass_time(minutes=10)
    world.power(machine, "start")


async def installed_by_hand(world: World, machine: MachineId) -> None:
    world.azure.start_operation(str(machine), "install", started_by="User")


PEOPLE: Mapping[Callable[[World, MachineId], Awaitable[None]], bool] = {
    release: True,
    installed_by_hand: True,
    restarted: False,
    no_one_acts: False,
}


@pytest.mark.parametrize(("by", "comes_back"), PEOPLE.items())
async def test_a_person_ends_the_breaker_of_a_machine_without_an_image(
    by: Callable[[World, MachineId], Awaitable[None]], comes_back: bool
) -> None:
    world = a_world(PATCH_MIN_INTERVAL_HOURS="24")
    machine = world.create("vm-01", BAD, image={})
    await world.pass_time(days=1)
    world.azure.behave(str(machine), GOOD)
    await by(world, machine)
    before = len(begun(world, machine))
    await world.pass_time(hours=2)
    world.azure.behave(str(machine), GOOD)  # new patches
    world.in_steps(timedelta(hours=1))
    await world.pass_time(days=3)
    assert (len(begun(world, machine)) > before) is comes_back


async def test_a_good_installation_ends_what_failed_before_it() -> None:
    world = a_world(PATCH_MIN_INTERVAL_HOURS="24")
    machine = world.create("vm-01", BAD, image={})
    await world.until(lambda: len(begun(world, machine)) == 2, hours=6)
    world.azure.behave(str(machine), GOOD)
    world.in_steps(timedelta(minutes=30))
    await world.pass_time(days=1.5)
    assert len(begun(world, machine)) == 3
    assert await world.records() == []
    world.azure.behave(str(machine), BAD)
    await world.pass_time(days=3)
    assert len(begun(world, machine)) == 6, "three tries again"


async def test_a_guest_that_alternates_between_nothing_and_new_patches_wins_no_tries() -> None:
    """Between two failures its assessment finds nothing: the machine is at rest, and its tries are remembered."""
    world = a_world(10, **NO_BREAKER)
    machine = world.create("vm-01", BAD, image=ALL_IMAGES)
    for number in range(40):
        pending = {"security": 2} if number % 2 else {}
        world.azure.behave(str(machine), replace(BAD, pending=pending))
        world.azure.start_operation(str(machine), "assess", started_by="User")
        await world.pass_time(minutes=30)
    times = begun(world, machine)
    assert times
    assert most_in(INTERVAL, times) <= N


async def test_an_installation_that_never_ran_is_not_a_try() -> None:
    """Another operation takes its place each time: that says nothing about the machine, and stops nothing."""
    world = a_world()
    machine = world.create("vm-01", GOOD, image={})
    for number in range(1, N + 2):
        await world.until(lambda so_far=number: len(begun(world, machine)) == so_far, days=2)  # type: ignore[misc]
        await world.pass_time(minutes=5)
        world.azure.start_operation(str(machine), "assess", started_by="User")  # it supersedes the installation
    world.in_steps(timedelta(minutes=30))
    await world.pass_time(days=2)
    assert len(begun(world, machine)) == N + 2
    assert (await world.states())["vm-01"].state is State.PATCHED
