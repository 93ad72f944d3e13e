"""How the end of an operation becomes known: by its URL, by the machine, after a lost answer; or it is overdue."""

from dataclasses import replace
from typing import Literal

import pytest

from functions.model.state import Cause, OperationKind, Phase, State
from simulator.azure import Behaviour, Fault, Timings, overlaps
from tests.support import held
from tests.support.process import Killed
from tests.support.tables import TableCall
from tests.support.world import QUICK, World, arm

SUPPORTED = Behaviour(support_state="Supported", pending={"security": 3})


async def test_an_operation_that_never_ends_is_held_as_overdue_and_nothing_is_started_beside_it() -> None:
    world = World()
    world.in_long_steps()
    machine = world.create("vm-01", replace(SUPPORTED, never_ends=True))
    await world.pass_time(hours=9)

    step = (await world.states())["vm-01"]
    assert (step.state, bool(step.remedy)) == (State.OVERDUE, True)
    assert len(world.operations(machine)) == 1


@pytest.mark.parametrize("never_ends", [False, True], ids=["it ended", "it never does"])
async def test_where_the_operation_url_is_gone_the_instance_view_decides(never_ends: bool) -> None:
    world = World()
    world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=404))
    machine = world.create("vm-01", replace(SUPPORTED, never_ends=never_ends))
    await world.pass_time(hours=3)

    kinds = [operation.kind for operation in world.operations(machine)]
    assert kinds == (["assess"] if never_ends else ["assess", "install", "assess"])


@pytest.mark.parametrize("finished", [True, False], ids=["finished by then", "still running"])
@pytest.mark.parametrize("kind", [OperationKind.ASSESS, OperationKind.INSTALL])
async def test_killed_between_post_and_ledger_the_operation_is_adopted(kind: OperationKind, finished: bool) -> None:
    """The process dies after the POST: its row says `starting`, and a sweep finds the operation on the machine."""
    slow = Timings(assess_seconds=60 if finished else 3600, install_seconds=60 if finished else 3600)
    world = World(timings=slow)
    world.table.kill_once(
        "before", lambda call: (call.columns.get("phase"), call.columns.get("kind")) == (Phase.RUNNING, kind)
    )
    machine = world.create("vm-01", SUPPORTED)
    with pytest.raises(Killed):
        await world.pass_time(hours=3)
    assert len(world.operations(machine, kind)) == 1
    # The message of a dead process becomes visible again.
    await world.pass_time(minutes=20)
    assert len(world.operations(machine, kind)) == 1, "not repeated"

    await world.pass_time(hours=5)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]
    assert not overlaps(world.operations())


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_lost_answer_to_the_post_starts_nothing_twice(drop: Literal["before", "after"]) -> None:
    world = World()
    world.azure.faults.add(Fault("POST", r".*/installPatches", times=1, drop=drop))
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=6)

    assert len(world.operations(machine, "install")) == 1
    assert not overlaps(world.operations())


async def test_an_adopted_installation_that_fails_proves_nothing_by_the_assessments_inside_it() -> None:
    """The answer to the canary's POST is lost; the guest's assessment succeeds long before the installation fails."""
    world = World({"PATCH_CANARIES": "1"}, timings=QUICK)
    world.azure.faults.add(Fault("POST", r".*/installPatches", times=1, drop="after"))
    machine = world.create("vm-01", replace(SUPPORTED, install_status="Failed", failed_patches=3, install_seconds=3600))
    await world.until(lambda: bool(world.operations(machine, "install")), hours=2)
    ends = world.operations(machine, "install")[0].ends
    while world.now < ends:
        assert (await world.image()).canaries == 0
        record = await world.record(machine)
        assert record is not None
        assert record.phase in (Phase.STARTING, Phase.RUNNING)
        await world.pass_time(minutes=5)
    await world.pass_time(minutes=30)
    image = await world.image()
    assert (image.canaries, image.breaker_open) == (0, True)


async def test_graph_silent_for_hours_after_an_installation_leads_to_no_second_one() -> None:
    world = World()
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.operations(machine, "install")), hours=6)
    world.azure.graph.stop_indexing(world.now)
    await world.pass_time(hours=9)
    assert len(world.operations(machine, "install")) == 1
    assert len(world.operations(machine, "assess")) == 1

    world.azure.graph.resume_indexing()
    await world.pass_time(hours=2)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]


async def test_graph_silent_for_days_is_reported_waited_for_and_then_held() -> None:
    world = World(timings=QUICK)
    world.in_long_steps()
    machine = world.create("vm-01", replace(SUPPORTED, rows_missing=True))
    await world.pass_time(hours=30)
    step = (await world.states())["vm-01"]
    assert (step.state, "PATCH_FRESH_HOURS" in step.remedy) == (State.CONFIRMING, True)

    await world.pass_time(hours=24)
    record = await world.record(machine)
    assert record is not None
    assert held(record).cause is Cause.OWNER
    assert "Resource Graph has not shown it for 48 hours" in held(record).reason
    assert len(world.operations(machine)) == 1


@pytest.mark.parametrize(
    ("lag", "fresh"), [(18, 24), (30, 48), (40, 48), (100, 160)], ids=lambda hours: f"{hours} hours"
)
async def test_however_late_graph_is_a_machine_is_patched_if_its_state_is_fresh_enough(lag: int, fresh: int) -> None:
    world = World({"PATCH_FRESH_HOURS": str(fresh)}, timings=replace(QUICK, graph_lag_seconds=lag * 3600))
    world.in_long_steps()
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=lag + 12)
    kinds = [operation.kind for operation in world.operations(machine)]
    assert kinds == ["assess", "install"], "and it is not assessed again and again meanwhile"


async def test_nothing_is_ever_started_beside_an_operation_of_ours_that_never_ends() -> None:
    world = World()
    world.in_long_steps()
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.operations(machine)), hours=6)
    world.azure.behave(str(machine), replace(SUPPORTED, never_ends=True))
    await world.pass_time(days=6)
    started = [operation.kind for operation in world.operations(machine)]
    assert started == ["assess", "install"]
    assert not overlaps(world.operations())
    step = (await world.states())["vm-01"]
    assert (step.state, bool(step.remedy)) == (State.OVERDUE, True)


async def test_an_event_does_not_release_a_machine_whose_operation_may_still_run() -> None:
    world = World()
    machine = world.create("vm-01", replace(SUPPORTED, never_ends=True))
    world.in_long_steps()
    await world.pass_time(hours=9)
    record = await world.record(machine)
    assert record is not None
    assert record.is_held(State.OVERDUE)
    await arm(world.azure, "PATCH", str(machine), {"tags": {"touched": "yes"}})
    await world.pass_time(hours=8)
    assert len(world.operations(machine)) == 1


async def test_an_overdue_operation_belongs_to_its_vm_whatever_graph_says_of_the_image() -> None:
    """Its version may be resolved later than the row was written: the operation is open all the same."""
    world = World()
    machine = world.create("vm-01", replace(SUPPORTED, never_ends=True))
    world.in_long_steps()
    await world.pass_time(hours=9)
    stored = await world.services.ledger.read(machine)
    assert stored is not None
    assert stored.record.is_held(State.OVERDUE)
    assert await world.services.ledger.replace(stored, replace(stored.record, image="another:image")) is not None
    await world.pass_time(hours=30)
    record = await world.record(machine)
    assert record is not None
    assert record.is_held(State.OVERDUE)
    assert len(world.operations(machine)) == 1


async def test_an_operation_that_cannot_be_asked_does_not_keep_its_slot() -> None:
    """The role is taken away while an installation runs: past its time it is its owner's, and others may go."""
    world = World({"PATCH_MAX_IN_FLIGHT": "1"}, timings=QUICK)
    stuck = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.operations(stuck, "install")), hours=6)
    denied = world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=403))
    world.in_long_steps()
    await world.pass_time(hours=6)
    step = (await world.states())["vm-01"]
    assert (step.state, bool(step.remedy)) == (State.OVERDUE, True)
    assert "cannot be asked" in step.reason
    denied.times = denied.hits
    other = world.create("vm-02", SUPPORTED)
    await world.pass_time(hours=3)
    assert len(world.operations(other, "install")) == 1

    await world.pass_time(hours=30)  # asked again, it turns out to have ended long ago: the machine goes on
    assert [operation.kind for operation in world.operations(stuck)] == ["assess", "install", "assess"]
    assert await world.record(stuck) is None


# -- what an ending says about the patches: behaviour of the canary's guest, and whether its image is stopped

ASSESSMENT_FAILED = (
    "Installation failed due to assessment failure. Please refer the error details in assessment substatus"
)
RETURN_CODE = "Customer environment error: Investigate and resolve unexpected return code (100) from package manager"
ENDINGS: dict[str, tuple[Behaviour, bool]] = {
    "patches failed": (replace(SUPPORTED, install_status="Failed", failed_patches=1), True),
    "only the assessment afterwards failed": (
        replace(SUPPORTED, install_status="Failed", failed_patches=0, errors=(("ERROR", ASSESSMENT_FAILED),)),
        False,
    ),
    "succeeded, with a note of the package manager": (
        replace(SUPPORTED, errors=(("PACKAGE_MANAGER_FAILURE", RETURN_CODE),)),
        False,
    ),
    "an internal error of Azure": (
        replace(SUPPORTED, azure_error=("VMGuestPatchInternalError", "An internal execution error occurred.")),
        False,
    ),
    "another operation preempted it": (
        replace(SUPPORTED, azure_error=("OperationPreempted", "Operation execution has been preempted.")),
        False,
    ),
    "the agent did not answer": (
        replace(SUPPORTED, azure_error=("VMAgentStatusCommunicationError", "has not reported status")),
        False,
    ),
}


@pytest.mark.parametrize(("behaviour", "stops"), ENDINGS.values(), ids=ENDINGS)
async def test_only_failed_patches_of_a_canary_stop_its_image(behaviour: Behaviour, stops: bool) -> None:
    world = World({"PATCH_CANARIES": "1"}, timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.until_queued(OperationKind.INSTALL)
    world.azure.behave(str(machine), behaviour)
    await world.until(lambda: bool(world.operations(machine, "install")), hours=2)
    world.azure.behave(str(machine), SUPPORTED)
    await world.pass_time(minutes=50)
    assert (await world.image()).breaker_open == stops


async def test_an_internal_error_of_azure_is_reported_as_one_and_not_as_a_missing_right() -> None:
    """A real answer: the operation ends without a result, and Resource Graph never gets a row."""
    world = World(timings=QUICK)
    error = ("VMGuestPatchInternalError", "An internal execution error occurred. Please retry later.")
    world.create("vm-01", replace(SUPPORTED, rows_missing=True, azure_error=error))
    await world.pass_time(minutes=20)
    early = (await world.states())["vm-01"]
    world.in_long_steps()
    await world.pass_time(hours=30)
    late = (await world.states())["vm-01"]
    for step in (early, late):
        assert "an internal error of Azure" in step.reason
        assert "Arm64" in step.remedy


async def test_what_a_person_canceled_is_not_started_again_in_the_same_night() -> None:
    world = World({"PATCH_WINDOW": "daily 08:00-20:00"}, timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    await world.until(lambda: bool(world.installing()), hours=3)
    await arm(world.azure, "POST", f"{machine}/cancelPatchInstallation")
    await world.pass_time(hours=10)
    assert len(world.operations(machine, "install")) == 1
    step = (await world.states())["vm-01"]
    assert (step.state, step.cause) == (State.FAILED, Cause.OWNER)
    assert "canceled by a person" in step.reason


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.STARTING])
async def test_the_assessment_after_an_installation_is_not_forgotten_with_its_claim(phase: Phase) -> None:
    """Killed right after its claim, or right before its call: Graph's counts are void until one has ended."""
    world = World(timings=QUICK)
    machine = world.create("vm-01", Behaviour(support_state="Supported", pending={"security": 2}))
    while not world.operations(machine, "install"):
        await world.pass_time(minutes=5)
    before = len(world.operations(machine, "assess"))

    def claims_it(call: TableCall) -> object:
        columns = call.row.columns if call.row else {}
        return columns.get("phase") == phase and columns.get("kind") == OperationKind.ASSESS

    world.table.kill_once("after", claims_it)
    with pytest.raises(Killed):
        await world.pass_time(hours=2)
    await world.pass_time(hours=2)
    assert len(world.operations(machine, "assess")) == before + 1
    assert (await world.states())[machine.name].state is State.PATCHED
