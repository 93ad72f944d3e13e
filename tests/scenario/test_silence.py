"""What Azure does not say: a support state, a power state, an agent's word, a health state.

Factors: what is silent × when × for how long. What only time changes is looked at again soon; it is no failure of the
machine, and no word against its image.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.model.state import Cause, OperationKind, State
from simulator.azure import Behaviour
from tests.support import held
from tests.support.world import QUICK, World

MARKETPLACE = {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
SUPPORTED = Behaviour(pending={"security": 3})


# -- a support state: behaviour of the guest → how many assessments a day at most

UNDECIDED: dict[str, tuple[Behaviour, int]] = {
    "cannot be determined": (Behaviour(support_state="UnableToDetermine", pending={}), 8),
    "unknown": (Behaviour(support_state="Unknown", pending={}), 3),
    "none, and the list of patches was cut": (
        Behaviour(support_state=None, assess_status="CompletedWithWarnings", pending={}),
        1,
    ),
    "none": (Behaviour(support_state=None, pending={}), 1),
}


@pytest.mark.parametrize(("behaviour", "most"), UNDECIDED.values(), ids=UNDECIDED)
async def test_a_marketplace_machine_without_a_verdict_is_not_assessed_in_every_sweep(
    behaviour: Behaviour, most: int
) -> None:
    world = World({"PATCH_IMAGES": "all"}, timings=QUICK)
    machine = world.create("vm-01", behaviour, image=MARKETPLACE)
    await world.pass_time(hours=24)
    assert 1 <= len(world.operations(machine, "assess")) <= most


# -- a power state, an agent: what the machine does not say in the first quarter of an hour of its window

SILENT: dict[str, dict[str, Any]] = {
    "its power state": {"power_unsaid": True},
    "whether its agent is ready": {"agent_never_ready": True},
}


@pytest.mark.parametrize("silence", SILENT.values(), ids=SILENT)
async def test_a_machine_that_is_silent_when_its_window_opens_is_installed_in_that_window(
    silence: dict[str, Any],
) -> None:
    world = World(
        {"PATCH_WINDOW": "daily 20:00-24:00", "PATCH_FIRST_HOURS": "0"},
        timings=QUICK,
        start=datetime(2026, 11, 25, 18, 0, tzinfo=UTC),
    )
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(minutes=115)
    assert len(world.operations(machine, "assess")) == 1
    world.azure.behave(str(machine), replace(SUPPORTED, **silence))
    await world.pass_time(minutes=20)
    assert held(await world.record(machine)).cause is Cause.TRANSIENT
    world.azure.behave(str(machine), SUPPORTED)
    await world.pass_time(hours=3, minutes=30)
    assert world.installed() == ["vm-01"]


async def test_a_silence_of_days_costs_no_try_and_ends_soon_after_it() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.until_queued(OperationKind.INSTALL)
    world.azure.behave(str(machine), replace(SUPPORTED, agent_never_ready=True))
    world.in_long_steps()
    await world.pass_time(days=3)
    record = await world.record(machine)
    assert record is not None
    assert (held(record).state, record.attempts) == (State.AGENT_NOT_READY, 0)
    world.azure.behave(str(machine), SUPPORTED)
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-01"]


# -- a health state: what the Application Health extension reports → whether it speaks against the image

HEALTH: dict[str, tuple[str | None, bool]] = {
    "no such extension": (None, False),
    "healthy": ("HealthState/healthy", False),
    "unknown: its probe is not configured": ("HealthState/unknown", False),
    "initializing: in its time of grace": ("HealthState/initializing", False),
    "unhealthy, by its own word": ("HealthState/unhealthy", True),
}


@pytest.mark.parametrize(("health", "stops"), HEALTH.values(), ids=HEALTH)
async def test_only_the_applications_own_word_says_that_it_is_unhealthy(health: str | None, stops: bool) -> None:
    world = World({"PATCH_CANARIES": "1"}, timings=QUICK)
    world.tick = world.sweep_every * 2
    world.create("vm-01", replace(SUPPORTED, health=health))
    await world.pass_time(hours=4)
    assert world.installed() == ["vm-01"]
    assert (await world.image()).breaker_open == stops


# -- a patch that a mask names: what waits besides the classifications → whether it is installed


@pytest.mark.parametrize(("mask", "installed"), [("libother*", True), ("nginx*", False)])
async def test_a_mask_that_names_nothing_makes_no_installation_due(mask: str, installed: bool) -> None:
    """Otherwise a daily definition update, which is not wanted, would make an empty installation due."""
    world = World({"PATCH_PACKAGES_INCLUDE": mask}, timings=QUICK)
    world.create("vm-01", Behaviour(pending={"other": 2}))
    await world.pass_time(hours=2)
    assert bool(world.installed()) == installed
    state = (await world.states())["vm-01"].state
    assert state is (State.PATCHED if installed else State.NOTHING_SELECTED)
