"""One image at a time: its canary, then ring after ring, and the breaker that a person closes.

What is asserted is the world: which installations Azure saw and when, and what each machine's state and reason say.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from functions.cloud.queue import QUEUES, read_message
from functions.cloud.rows import image_key
from functions.model.image_record import place
from functions.model.machine import MachineId
from functions.model.state import OperationKind, Phase, State
from functions.steps import assess, install
from simulator.azure import Behaviour, overlaps
from tests.support.process import Killed, Side
from tests.support.tables import TableCall
from tests.support.world import BOUNDARY, GALLERY, QUICK, World, arm

GOOD = Behaviour(pending={"security": 2})
BAD = Behaviour(pending={"security": 2}, install_status="Failed")
ROLLOUTS = {"PATCH_CANARIES": "1", "PATCH_BAKE_MINUTES": "60", "PATCH_BREAKER": "3 in 7 days"}
HOUR = timedelta(hours=1)
SWEEP = timedelta(minutes=10)  # coarse: what matters here takes hours


def a_world(**settings: str) -> World:
    world = World(ROLLOUTS | settings, timings=QUICK)
    world.in_steps(SWEEP)
    return world


async def breaker_open(world: World) -> bool:
    return (await world.image()).breaker_open


def create(world: World, count: int, behaviour: Behaviour, prefix: str = "vm", ring: int | None = None) -> list[str]:
    names = [f"{prefix}-{number:02}" for number in range(count)]
    for name in names:
        world.create(name, behaviour, tags={} if ring is None else {"patch-ring": str(ring)})
    return names


# -- the canary


async def test_a_bad_image_stops_at_its_canary_until_a_person_closes_that_opening() -> None:
    world = a_world()
    names = create(world, 20, BAD)
    await world.pass_time(hours=6)

    assert len(world.installed()) == 1
    first = await world.image()
    assert first.breaker_open
    states = await world.states()
    spared = [states[name] for name in names if name not in world.installed()]
    assert len(spared) == 19
    assert {step.state for step in spared} == {State.BREAKER_OPEN}
    assert all(first.opening in step.reason and world.installed()[0] in step.reason for step in spared)
    assert all(first.opening in step.remedy and "docs/stop.md" in step.remedy for step in spared)

    await world.close_breaker(first.opening)
    await world.pass_time(hours=6)
    second = await world.image()
    assert len(world.installed()) == 2, "the next canary, and nothing beyond it"
    assert second.breaker_open
    assert second.opening != first.opening

    await world.close_breaker(first.opening)  # again the first one: it closes nothing
    await world.pass_time(hours=6)
    assert len(world.installed()) == 2


async def test_bad_patches_of_the_next_rollout_stop_at_the_canary_of_an_image_that_was_good_last_time() -> None:
    world = a_world()
    names = create(world, 4, GOOD)
    await world.pass_time(hours=12)
    assert sorted(world.installed()) == names
    first = await world.image()

    world.in_long_steps()
    await world.pass_time(days=7)
    for name in names:
        world.azure.behave(str(world.machine_id(name)), BAD)
    await world.pass_time(days=7)
    second = await world.image()
    assert first.opened is not None
    assert second.opened is not None
    assert second.opened >= first.opened + timedelta(days=7)
    assert len(world.installed()) == len(names) + 1, "one canary of the second rollout"
    assert second.breaker_open


async def test_every_ring_of_a_rollout_gets_the_patches_of_its_canary() -> None:
    """On Windows by a publishing date, which is the rollout's own; Linux knows no such limit."""
    world = a_world()
    for number in range(4):
        world.create(f"vm-{number}", GOOD, os="Windows", tags={"patch-ring": str(number % 2)})
    await world.pass_time(hours=12)
    dates = {each.order["windowsParameters"]["maxPatchPublishDate"] for each in world.operations(kind="install")}
    opened = (await world.image()).opened
    assert opened is not None
    assert len(world.installed()) == 4
    assert dates == {opened.isoformat()}


async def test_an_unproved_patch_reaches_no_machine_twice_in_a_rollout() -> None:
    """Between the interval (6 days) and the rollout (14) new patches come out: they wait for the next canary."""
    world = World({"PATCH_ROLLOUT_DAYS": "14"}, timings=QUICK)
    machine = world.create("vm-01", GOOD)
    await world.pass_time(hours=3)
    world.in_long_steps()
    world.azure.behave(str(machine), GOOD)
    await world.pass_time(days=9)
    assert len(world.operations(machine, "install")) == 1
    step = (await world.states())["vm-01"]
    assert step.state == State.RECENTLY_PATCHED
    assert "next one opens" in step.reason
    await world.pass_time(days=8)
    assert len(world.operations(machine, "install")) == 2


async def test_a_machine_that_waits_for_the_next_rollout_is_assessed_in_time_and_respects_settings() -> None:
    """Its wait is longer than its assessment is good for, and nothing installs it any more."""
    world = World({"PATCH_MIN_INTERVAL_HOURS": "24", "PATCH_ROLLOUT_DAYS": "30"}, timings=QUICK)
    world.in_long_steps()
    machine = world.create("vm-01", GOOD)
    await world.until(lambda: world.installed() == ["vm-01"], hours=5)
    await world.pass_time(hours=3)
    world.azure.behave(str(machine), GOOD)  # new patches
    await world.pass_time(hours=30)
    assert (await world.states())["vm-01"].state is State.RECENTLY_PATCHED
    world.set(PATCH_MODE="assess")
    assert (await world.states())["vm-01"].state is State.ASSESSED
    world.set(PATCH_MODE="install")
    assessed = len(world.operations(machine, "assess"))
    await world.pass_time(days=4)
    assert len(world.operations(machine, "assess")) - assessed in (4, 5)
    assert world.installed() == ["vm-01"]


def deallocate(world: World, machine: MachineId) -> None:
    world.power(machine, "deallocate")


def delete(world: World, machine: MachineId) -> None:
    world.delete(machine)


@pytest.mark.parametrize("goes", [delete, deallocate])
@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.RUNNING])
async def test_a_canary_that_is_gone_or_switched_off_in_flight_is_replaced(
    goes: Callable[[World, MachineId], None], phase: Phase
) -> None:
    world = a_world()
    create(world, 5, GOOD)
    canary = world.machine_id("vm-00")

    async def at_phase() -> bool:
        if phase is Phase.QUEUED:  # the sweep claims; its message is not delivered before the machine goes
            await world.sweep()
        record = await world.record(canary)
        return record is not None and (record.kind, record.phase) == (OperationKind.INSTALL, phase)

    await world.until(at_phase, hours=6)
    goes(world, canary)
    await world.pass_time(hours=8)

    assert set(world.installed()) - {"vm-00"} == {"vm-01", "vm-02", "vm-03", "vm-04"}
    image = await world.image()
    assert (image.canaries, image.failures, image.breaker_open) == (1, (), False)


async def test_a_canary_held_for_its_own_reason_is_replaced() -> None:
    world = a_world()
    names = create(world, 5, GOOD)
    refused = Behaviour(pending={"security": 2}, refuse="policy", refuse_kinds=("install",))
    world.azure.behave(str(world.machine_id("vm-00")), refused)
    await world.pass_time(hours=8)

    assert sorted(world.installed()) == names[1:]
    assert not (await world.image()).breaker_open
    step = (await world.states())["vm-00"]
    assert (step.state, bool(step.reason), bool(step.remedy)) == (State.FAILED, True, True)


async def test_a_slow_reboot_is_checked_again_for_an_hour_and_then_counts() -> None:
    world = a_world()
    names = create(world, 5, GOOD)
    await world.until(lambda: bool(world.installing()), hours=2)
    canary = world.machine_id(world.installed()[0])
    world.azure.behave(str(canary), Behaviour(agent_never_ready=True))
    ended = world.operations(canary, "install")[0].ends

    await world.until(lambda: world.now >= ended + timedelta(minutes=45), hours=3)
    assert (await world.image()).failures == ()
    assert (await world.states())[canary.name].state == State.CONFIRMING
    assert world.installed() == [canary.name], "no machine follows a canary that is still checked"

    await world.pass_time(hours=2)
    image = await world.image()
    assert (len(image.failures), image.breaker_open) == (1, True)
    assert "agent" in image.opened_because
    assert (await world.states())[canary.name].state == State.FAILED
    assert len(world.installed()) == 1
    assert len(names) == 5


async def test_a_slow_reboot_that_ends_within_the_hour_is_a_success() -> None:
    world = a_world()
    names = create(world, 3, GOOD)
    await world.until(lambda: bool(world.installing()), hours=2)
    canary = world.machine_id(world.installed()[0])
    world.azure.behave(str(canary), Behaviour(agent_never_ready=True))
    ended = world.operations(canary, "install")[0].ends
    await world.until(lambda: world.now >= ended + timedelta(minutes=40), hours=3)
    world.azure.behave(str(canary), Behaviour(pending={}))
    await world.pass_time(hours=6)

    assert sorted(world.installed()) == names
    assert (await world.image()).failures == ()


async def test_a_reboot_that_the_order_forbade_proves_what_was_ordered() -> None:
    """Otherwise an image would have no canary under PATCH_REBOOT=Never, no bake, and one machine at a time."""
    world = a_world(PATCH_REBOOT="Never", PATCH_BAKE_MINUTES="120")
    names = create(world, 6, GOOD)
    await world.until(lambda: len(world.installed()) > 1, hours=24)

    canary, *others = world.operations(kind="install")
    assert (await world.image()).canaries == 1
    assert others[0].started - canary.ends >= timedelta(hours=2), "watched"
    await world.pass_time(hours=2)
    assert sorted(world.installed()) == names, "then the rest together"
    assert {str(step.state) for step in (await world.states()).values()} == {State.REBOOT_PENDING}


async def test_a_wanted_reboot_proves_nothing_and_is_neither_patched_nor_installed_again() -> None:
    world = a_world()
    wants_reboot = replace(GOOD, reboot_status="Required")
    create(world, 1, wants_reboot, "early", ring=0)
    create(world, 3, wants_reboot, "late", ring=1)
    await world.pass_time(hours=24)

    image = await world.image()
    assert (image.canaries, image.proved, dict(image.rings), image.failures) == (0, None, {}, ())
    at_once = {len(world.installing(each.started)) for each in world.operations(kind="install")}
    assert at_once == {1}, "without proof no ring opens: one machine at a time, each as a canary"
    assert len(world.installed()) == len(set(world.installed())), "none is installed again"
    step = (await world.states())["early-00"]
    assert (step.state, bool(step.remedy)) == (State.REBOOT_PENDING, True)


# -- rings


async def test_ring_after_ring_each_proved_and_baked() -> None:
    world = a_world(PATCH_BAKE_MINUTES="120", PATCH_MIN_INTERVAL_HOURS="160")
    create(world, 3, GOOD, "c-last")
    create(world, 3, GOOD, "b-second", ring=1)
    create(world, 3, GOOD, "a-first", ring=0)
    await world.pass_time(hours=30)

    assert len(world.installed()) == 9
    order = [each.rsplit("-", 1)[0] for each in world.installed()]
    assert order == ["a-first"] * 3 + ["b-second"] * 3 + ["c-last"] * 3
    canary, *rest = world.operations(kind="install")
    assert all(each.started >= canary.ends + 2 * HOUR for each in rest)
    ends = {name: max(each.ends for each in rest if name in each.machine) for name in ("a-first", "b-second")}
    starts = {name: min(each.started for each in rest if name in each.machine) for name in ("b-second", "c-last")}
    assert starts["b-second"] >= ends["a-first"] + 2 * HOUR
    assert starts["c-last"] >= ends["b-second"] + 2 * HOUR


async def test_a_ring_named_on_the_resource_group_is_in_the_row() -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", GOOD)
    await arm(world.azure, "PATCH", machine.group_id, {"tags": {"patch-ring": "3"}})
    await world.until_queued(OperationKind.INSTALL)
    record = await world.record(machine)
    assert record is not None
    assert record.ring == 3


async def test_a_machine_that_waits_for_a_ring_says_which_and_until_when() -> None:
    world = a_world(PATCH_BAKE_MINUTES="120")
    create(world, 2, GOOD, "a", ring=0)
    create(world, 2, GOOD, "b", ring=1)
    await world.until(lambda: len(world.installing()) == 1, hours=2)
    assert (await world.states())["b-00"].state == State.WAITING_FOR_CANARY
    assert "a-00" in (await world.states())["b-00"].reason

    ended = world.operations(kind="install")[0].ends
    await world.until(lambda: world.now >= ended + timedelta(minutes=30), hours=2)
    step = (await world.states())["a-01"]
    assert (step.state, step.when is not None) == (State.WAITING_FOR_RING, True)
    assert step.when is not None
    assert ended + 2 * HOUR <= step.when <= ended + 2 * HOUR + timedelta(minutes=10)
    assert (await world.states())["b-00"].reason == "ring 0 goes first"


async def test_a_powered_off_machine_of_the_first_ring_blocks_no_other() -> None:
    world = a_world()
    world.events_arrive = False
    off = create(world, 1, GOOD, "a-off", ring=0)
    world.power(world.machine_id(off[0]), "deallocate")
    create(world, 2, GOOD, "a-on", ring=0)
    create(world, 2, GOOD, "b", ring=1)
    create(world, 2, GOOD, "c")
    await world.pass_time(hours=12)

    assert sorted(world.installed()) == ["a-on-00", "a-on-01", "b-00", "b-01", "c-00", "c-01"]
    assert (await world.states())["a-off-00"].state == State.POWERED_OFF


async def test_a_ring_below_the_success_bar_opens_no_other() -> None:
    world = a_world(PATCH_BREAKER="100 in 7 days", PATCH_SUCCESS_PERCENT="80")
    create(world, 5, GOOD, "a", ring=0)
    for number in (2, 3):
        world.azure.behave(str(world.machine_id(f"a-{number:02}")), BAD)
    create(world, 4, GOOD, "b", ring=1)
    await world.pass_time(hours=20)

    assert not [name for name in world.installed() if name.startswith("b")]
    step = (await world.states())["b-00"]
    assert step.state == State.WAITING_FOR_RING
    assert "installations before its ring succeeded" in step.reason or "goes first" in step.reason


# -- the breaker


async def test_a_bad_wave_opens_the_breaker_within_its_limit_and_what_is_in_flight() -> None:
    limit, at_once = 3, 4
    world = a_world(PATCH_BREAKER=f"{limit} in 7 days", PATCH_MAX_PER_IMAGE=str(at_once), PATCH_SUCCESS_PERCENT="0")
    create(world, 1, GOOD, "a-canary")
    create(world, 40, BAD, "b")
    await world.until(lambda: len(world.installed()) > 1, hours=6)
    await world.until(lambda: breaker_open(world), hours=12)
    at_opening = len(world.installed())
    await world.pass_time(hours=8)

    assert world.installed()[0] == "a-canary-00"
    assert max(len(world.installing(each.started)) for each in world.operations(kind="install")) == at_once
    assert len(world.installed()) == at_opening, "nothing starts after the opening"
    bad = set(world.installed()) - {"a-canary-00"}
    assert limit <= len(bad) <= limit + at_once
    states = await world.states()
    assert {states[f"b-{number:02}"].state for number in range(20, 40)} == {State.BREAKER_OPEN}


async def test_messages_that_are_queued_when_the_breaker_opens_install_nothing() -> None:
    world = a_world(PATCH_CANARIES="0", PATCH_BREAKER="1 in 7 days", PATCH_PACE_PERCENT="1")
    world.in_steps(timedelta(minutes=1), timedelta(minutes=5))
    create(world, 40, BAD)  # one call a minute: some are queued when the first one fails
    await world.until(lambda: breaker_open(world), hours=12)
    queued = len(world.queue.messages[QUEUES[OperationKind.INSTALL]])
    installed = len(world.installed())
    await world.pass_time(hours=3)
    assert queued > 0
    assert len(world.installed()) == installed < 40

    held = [record for record in await world.records() if record.is_held(State.BREAKER_OPEN)]
    assert held
    assert all(record.due_again(world.now) for record in held), "they wait for the breaker, not for a day to pass"
    await world.close_breaker((await world.image()).opening)
    await world.pass_time(hours=1)
    assert len(world.installed()) > installed


async def test_an_image_row_of_a_newer_app_is_left_alone_and_poisons_no_message() -> None:
    world = a_world()
    create(world, 2, GOOD)
    await world.until_queued(OperationKind.INSTALL)
    key = ("app", image_key(place(GALLERY.lower(), BOUNDARY)))
    row = world.table.rows[key]
    await world.table.replace(row, dict(row.columns) | {"v": 99})
    await world.messages()

    assert world.errors == []
    assert world.queue.messages[QUEUES[OperationKind.INSTALL]] == []
    await world.pass_time(hours=3)
    assert world.installed() == []
    assert not any("poison" in name and messages for name, messages in world.queue.messages.items())
    assert world.table.rows[key].columns["v"] == 99


# -- with two of everything, and with a process that dies


async def two_of_everything(world: World, minutes: int) -> None:
    """Every event, message and sweep is taken by two processes at the same time."""
    two = (world.connect(), world.connect())
    for _ in range(minutes):
        world.now += timedelta(minutes=1)
        for kind, step in ((OperationKind.ASSESS, assess.on_message), (OperationKind.INSTALL, install.on_message)):
            due = world.queue.visible(QUEUES[kind])
            await asyncio.gather(*(step(services, read_message(item.body)) for item in due for services in two))
            for item in due:
                world.queue.messages[QUEUES[kind]].remove(item)
        if world.now.minute % 5 == 0:
            await asyncio.gather(*(world.sweep(services) for services in two))


async def test_two_instances_keep_canary_rings_and_caps() -> None:
    world = a_world(PATCH_BAKE_MINUTES="10", PATCH_MAX_PER_IMAGE="2")
    create(world, 4, GOOD, "a", ring=0)
    create(world, 4, GOOD, "b", ring=1)
    await two_of_everything(world, 600)

    operations = world.operations(kind="install")
    assert sorted(world.installed()) == [f"{ring}-{number:02}" for ring in "ab" for number in range(4)]
    assert not overlaps(world.operations())
    assert all(each.started >= operations[0].ends for each in operations[1:]), "one canary"
    assert max(len(world.installing(each.started)) for each in operations) == 2
    assert [name[0] for name in world.installed()] == ["a"] * 4 + ["b"] * 4
    image = await world.image()
    assert {ring: tally.succeeded for ring, tally in image.rings.items()} == {0: 4, 1: 4}


async def test_two_instances_stop_at_a_bad_canary() -> None:
    world = a_world()
    create(world, 8, BAD)
    await two_of_everything(world, 240)
    assert len(world.installed()) == 1
    assert len((await world.image()).failures) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("behaviour", "failures"), [(GOOD, 0), (BAD, 1)], ids=["success", "failure"])
async def test_killed_between_the_image_and_the_machine_it_is_counted_once(
    behaviour: Behaviour, failures: int, when: Side
) -> None:
    world = a_world(PATCH_CANARIES="0", PATCH_BREAKER="2 in 7 days")
    world.table.kill_once(when, lambda call: call.columns.get("counted") and "machine" not in call.columns)
    create(world, 1, behaviour)
    with pytest.raises(Killed):
        await world.pass_time(hours=3)
    await world.pass_time(hours=1)

    image = await world.image()
    tallies = [(tally.succeeded, tally.failed) for tally in image.rings.values()]
    assert tallies == [(1 - failures, failures)]
    assert (len(image.failures), image.breaker_open, len(image.counted)) == (failures, False, 1)


def counts_results(call: TableCall) -> bool:
    return bool(call.columns.get("counted")) and "machine" not in call.columns


@pytest.mark.parametrize("lost", ["nothing", "before", "after", "a person was first"])
@pytest.mark.parametrize(("behaviour", "failures"), [(GOOD, 0), (BAD, 4)], ids=["success", "failure"])
async def test_the_results_of_one_sweep_are_counted_once_and_written_once(
    behaviour: Behaviour, failures: int, lost: str
) -> None:
    """Four installations end together. `lost`: what goes wrong with the write of their image's row."""
    world = a_world(PATCH_CANARIES="0", PATCH_BREAKER="5 in 7 days")
    create(world, 4, behaviour)
    await world.until(lambda: len(world.installing()) == 4, hours=6)
    world.now += timedelta(hours=1)  # no sweep in between: one finds that all four have ended
    written = 0

    async def a_person_writes(call: TableCall) -> None:
        if counts_results(call) and call.row:
            world.table.before = nothing
            world.table.put(call.row.partition, call.row.key, call.row.columns)

    async def nothing(call: TableCall) -> None: ...

    async def count(call: TableCall) -> None:
        nonlocal written
        written += counts_results(call)

    world.table.after = count
    if lost in ("before", "after"):
        world.table.kill_once("before" if lost == "before" else "after", counts_results)
        with pytest.raises(Killed):
            await world.sweep()
    elif lost == "a person was first":
        world.table.before = a_person_writes
        await world.sweep()
    await world.sweep()

    image = await world.image()
    assert [(tally.succeeded, tally.failed) for tally in image.rings.values()] == [(4 - failures, failures)]
    assert (len(image.counted), len(image.failures)) == (4, failures)
    assert written == {"nothing": 1, "before": 1, "after": 0, "a person was first": 2}[lost]
    phases = {record.phase for record in await world.records()}
    assert phases == ({Phase.HELD} if failures else {Phase.QUEUED}), "each row has gone on"


async def test_killed_between_the_rollout_and_its_canary_the_next_sweep_goes_on() -> None:
    world = a_world()
    world.table.kill_once("after", lambda call: call.columns.get("opened") and "machine" not in call.columns)
    names = create(world, 3, GOOD)
    with pytest.raises(Killed):
        await world.pass_time(hours=3)
    await world.pass_time(hours=6)
    assert sorted(world.installed()) == names
    canary, *rest = world.operations(kind="install")
    assert all(each.started >= canary.ends + HOUR for each in rest)
