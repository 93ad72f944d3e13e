"""What Azure does not say: a support state, a power state, an agent's word, a health state.

Factors: what is silent × when × for how long. What only time changes is checked again soon; it is not a failure of the
machine, and no word against its image.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.decisions.question import wanted_count
from functions.model.machine import Machine, WaitingPatch
from functions.model.state import Cause, OperationKind, State
from functions.services import Services
from functions.steps import find
from functions.steps.observe import with_named_patches
from simulator.azure import Behaviour
from tests.support import a_machine, a_verdict, held
from tests.support.world import QUICK, World

MARKETPLACE = {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
SUPPORTED = Behaviour(pending={"security": 3})


# -- a support state: behaviour of the guest → how many assessments a day at most

UNDECIDED: dict[str, tuple[Behaviour, int]] = {
    "cannot be determined": (Behaviour(support_state="UnableToDetermine", pending={}), 8),
    "unknown": (Behaviour(support_state="Unknown", pending={}), 3),
    "none, and the list of patches was cut": (
        Behaviour(support_state=None, assess_status="CompletedWithWarnings", pending={}),
        2,
    ),
    "none": (Behaviour(support_state=None, pending={}), 2),
}


@pytest.mark.parametrize(("behaviour", "most"), UNDECIDED.values(), ids=UNDECIDED)
async def test_a_marketplace_machine_without_a_verdict_is_not_assessed_in_every_sweep(
    behaviour: Behaviour, most: int
) -> None:
    world = World({"PATCH_IMAGES": "all"}, timings=QUICK)
    machine = world.create("vm-01", behaviour, image=MARKETPLACE)
    world.in_steps(timedelta(minutes=15))
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
    assert (held(record).state, record.history.attempts) == (State.AGENT_NOT_READY, 0)
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
    world.in_steps(timedelta(minutes=10), timedelta(minutes=5))
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


# -- what waits, how many patches Graph shows of it, whether a mask's count is known then
SHOWN = {
    "all of them": (2, 0),
    "one is missing": (1, None),
    "none of them": (0, None),
}


@pytest.mark.parametrize(("shown", "named"), SHOWN.values(), ids=SHOWN)
async def test_what_a_mask_names_is_unknown_where_graph_shows_fewer_patches_than_it_counts(
    shown: int, named: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that it does not show may be the one that the mask names."""
    world = World({"PATCH_PACKAGES_INCLUDE": "nginx*"})
    machine = a_machine(verdict=a_verdict(counts={"other": 2}))

    async def patches_of(ids: Iterable[str]) -> dict[str, list[WaitingPatch]]:
        return {each: [WaitingPatch(f"lib{number}", "", "1", ("other",)) for number in range(shown)] for each in ids}

    monkeypatch.setattr(world.services.graph, "patches_of", patches_of)
    (seen,) = await with_named_patches(world.services, [machine])
    assert seen.verdict is not None
    assert seen.verdict.named == named
    assert bool(wanted_count(seen, world.settings)) == (named is None), "the safe side is to look at it"


async def test_a_sweep_reads_named_patches_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of them it renews its lease."""
    monkeypatch.setattr(find, "IDS_PER_QUERY", 2)
    world = World({"PATCH_PACKAGES_INCLUDE": "libother*"}, timings=QUICK)
    for number in range(5):
        world.create(f"vm-{number}", Behaviour(pending={"other": 2}))
    parts: list[int] = []

    async def in_part(services: Services, machines: list[Machine]) -> list[Machine]:
        parts.append(len(machines))
        return await with_named_patches(services, machines)

    monkeypatch.setattr(find, "with_named_patches", in_part)
    await world.pass_time(hours=2)
    assert len(world.installed()) == 5
    assert max(parts) == 2
