"""Machines whose patch settings leave them to a schedule: with one, without one, and where that cannot be read."""

import pytest

from functions.model.machine import MachineId
from functions.model.state import State
from simulator.arm import schedules
from simulator.azure import Behaviour, Fault, Grant
from simulator.wire import Json
from tests.support.world import SUBSCRIPTION, World

BY_SCHEDULE = {
    "patchMode": "AutomaticByPlatform",
    "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True},
}
READ = "Microsoft.Maintenance/configurationAssignments/read"
WHOLE = f"/subscriptions/{SUBSCRIPTION}"


def left_to_a_schedule(world: World) -> MachineId:
    return world.create("web-01", Behaviour(pending={"security": 3}), patch_settings=BY_SCHEDULE)


ASSIGNED: dict[str, tuple[str, Json | None, State]] = {
    "the flag alone": ("", None, State.PATCHED_BY_NOBODY),
    "assigned to it": ("machine", None, State.SCHEDULED_ELSEWHERE),
    "a dynamic scope that selects it": (WHOLE, {"osTypes": ["Linux"]}, State.SCHEDULED_ELSEWHERE),
    "a dynamic scope that does not": (WHOLE, {"osTypes": ["Windows"]}, State.PATCHED_BY_NOBODY),
    "a dynamic scope of its group": (f"{WHOLE}/resourceGroups/rg-web", {}, State.SCHEDULED_ELSEWHERE),
    "a dynamic scope of another group": (f"{WHOLE}/resourceGroups/rg-app", {}, State.PATCHED_BY_NOBODY),
}


@pytest.mark.parametrize(("scope", "selection", "expected"), ASSIGNED.values(), ids=ASSIGNED)
async def test_only_an_assignment_makes_a_schedule(scope: str, selection: Json | None, expected: State) -> None:
    world = World()
    machine = left_to_a_schedule(world)
    if scope:
        world.azure.assign(str(machine) if scope == "machine" else scope, selection=selection)
    await world.pass_time(hours=6)
    step = (await world.states())["web-01"]
    assert (step.state, world.operations(machine, "install")) == (expected, [])
    if expected is State.PATCHED_BY_NOBODY:
        assert "none is assigned, so nothing patches it" in step.reason
        assert "Assign a schedule" in step.remedy


async def test_an_assignment_that_is_taken_away_is_seen() -> None:
    world = World()
    machine = left_to_a_schedule(world)
    world.azure.assign(str(machine))
    await world.pass_time(hours=2)
    assert (await world.states())["web-01"].state is State.SCHEDULED_ELSEWHERE
    schedules.unassign(world.azure.world, f"{machine}/providers/{schedules.KIND}/weekly")
    await world.pass_time(hours=1)
    assert (await world.states())["web-01"].state is State.PATCHED_BY_NOBODY


async def test_an_identity_that_may_not_read_assignments_does_not_say_unpatched() -> None:
    world = World()
    world.azure.grants = [Grant(not_actions=(READ,))]
    machine = left_to_a_schedule(world)
    world.azure.assign(str(machine))
    await world.pass_time(hours=6)
    step = (await world.states())["web-01"]
    assert step.state is State.SCHEDULED_ELSEWHERE
    assert "not known" in step.reason
    assert "may read configuration assignments" in step.remedy
    assert world.operations(machine, "install") == []


async def test_where_assignments_cannot_be_read_a_run_of_one_tells() -> None:
    world = World()
    world.azure.grants = [Grant(not_actions=(READ,))]
    machine = left_to_a_schedule(world)
    await world.pass_time(hours=2)
    run = f"{WHOLE}/resourceGroups/rg-m/providers/Microsoft.Maintenance/maintenanceConfigurations/weekly/runs/1"
    parameters = {"classificationsToInclude": ["Critical"], "maintenanceRunId": run}
    order = {"rebootSetting": "Never", "linuxParameters": parameters}
    world.azure.start_operation(str(machine), "install", started_by="Platform", order=order)
    await world.pass_time(hours=3)
    step = (await world.states())["web-01"]
    assert (step.state, step.reason) == (
        State.SCHEDULED_ELSEWHERE,
        "a maintenance configuration patches it: assessed only",
    )


@pytest.mark.parametrize("status", [403, 404, 409, 429, 500])
async def test_no_answer_about_assignments_does_not_say_unpatched(status: int) -> None:
    world = World()
    left_to_a_schedule(world)
    world.azure.faults.add(Fault("GET", "configurationAssignments", status=status, times=10_000))
    await world.pass_time(hours=3)
    step = (await world.states())["web-01"]
    assert (step.state, "not known" in step.reason) == (State.SCHEDULED_ELSEWHERE, True)


async def test_a_fleet_without_the_flag_asks_for_no_assignment() -> None:
    world = World()
    world.create("web-01")
    await world.pass_time(hours=3)
    await world.states()
    assert not [each for each in world.azure.requests if "Maintenance" in each.path]
