"""Runs on demand: what a person orders passes what waits for its turn, and nothing that protects."""

import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.cloud.ledger import APP
from functions.cloud.runs import columns_of, progress_key, progress_of_row, run_key, run_of_row
from functions.cloud.stops import columns_of as stop_columns
from functions.cloud.stops import key_of
from functions.model.machine import MachineId
from functions.model.run import Item, Progress, Run, RunOutcome, Selection
from functions.model.state import OperationKind
from functions.model.stop import Scope, Stop
from simulator.azure import Behaviour
from tests.support.journaled import Told
from tests.support.process import Killed
from tests.support.tables import Hook, TableCall
from tests.support.world import GALLERY, NOTICES, QUICK, World

GOOD = Behaviour(support_state="Supported", pending={"security": 2})
BAD = replace(GOOD, install_status="Failed")
CLOSED = "Sun 02:00-06:00 UTC"  # the scenarios begin on a Wednesday at 08:00
INSTALL, ASSESS = OperationKind.INSTALL, OperationKind.ASSESS


def order(world: World, kind: OperationKind, *machines: MachineId, **fields: Any) -> Run:
    """The row as a person's tool writes it."""
    until = fields.pop("until", world.now + timedelta(hours=24))
    run = Run(fields.pop("id", "1"), kind, machines, reason="a CVE", by="Jane", opened=world.now, until=until, **fields)
    world.table.put(APP, run_key(run.id), columns_of(run))
    return run


def stop(world: World, run: Run) -> None:
    stopped = replace(run, stopped=world.now, stopped_by="Jim", stopped_because="wrong machines")
    world.table.put(APP, run_key(run.id), columns_of(stopped))


def progress(world: World, run: Run) -> Progress:
    return progress_of_row(world.table.rows[APP, progress_key(run.id)], run)


def items(world: World, run: Run) -> Mapping[str, Item]:
    """By the name of the machine."""
    found = progress(world, run)
    return {machine.name: found.of(machine) for machine in run.machines}


def outcomes(world: World, run: Run) -> Mapping[str, str]:
    """How far each machine has come; of one that was left, why."""
    return {
        name: item.state if item.outcome is RunOutcome.LEFT else item.outcome.value
        for name, item in items(world, run).items()
    }


async def a_fleet(settings: dict[str, str] | None = None, /, **fleet: Behaviour) -> tuple[World, list[MachineId]]:
    """Machines that are assessed, and that wait for a window that is closed for days."""
    world = World({"PATCH_WINDOW": CLOSED, **(settings or {})}, timings=QUICK)
    world.answer_from_python()
    machines = [world.create(name.replace("_", "-"), behaviour) for name, behaviour in fleet.items()]
    await world.pass_time(hours=2)
    assert world.installed() == []
    return world, machines


async def test_an_assessment_run_assesses_each_of_its_machines_once_more(told: Told) -> None:
    world, machines = await a_fleet(**{f"vm_{number}": GOOD for number in range(6)})
    before = len(world.operations(kind="assess"))
    run = order(world, ASSESS, *machines[:5])
    await world.pass_time(hours=1)
    assert outcomes(world, run) == {machine.name: "succeeded" for machine in machines[:5]}
    assert len(world.operations(kind="assess")) == before + 5
    [opened], [ended] = told("run.opened"), told("run.ended")
    assert (opened["by"], opened["reason"], opened["machines"]) == ("Jane", "a CVE", 5)
    assert (ended["succeeded"], ended["failed"], ended["left"]) == (5, 0, 0)
    assert progress(world, run).ended is not None
    await world.pass_time(hours=2)
    assert len(world.operations(kind="assess")) == before + 5
    assert len(told("run.ended")) == 1


async def test_an_installation_run_goes_outside_windows_only_if_it_says_so(told: Told) -> None:
    world, [ignoring, waiting, other] = await a_fleet(vm_1=GOOD, vm_2=GOOD, vm_3=GOOD)
    first = order(world, INSTALL, ignoring, ignore_window=True)
    second = order(world, INSTALL, waiting, id="2", until=world.now + timedelta(hours=4))
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-1"]
    assert outcomes(world, first) == {"vm-1": "succeeded"}
    assert items(world, second)["vm-2"].state == "waiting-for-window"
    assert any("run 1: a CVE (by Jane)" in line["reason"] for line in told("installation.queued"))
    await world.pass_time(hours=2)
    assert outcomes(world, second) == {"vm-2": "waiting-for-window"}
    assert world.installed() == ["vm-1"]
    assert len(told("run.ended")) == 2
    assert await world.record(other) is None


async def test_an_installation_run_in_an_open_window_passes_interval_and_rollout() -> None:
    """The rollout waits for its canary, of another machine, and that one was patched an hour ago."""
    world, [first, second] = await a_fleet({"PATCH_WINDOW": "any", "PATCH_MODE": "assess"}, vm_1=GOOD, vm_2=GOOD)
    world.azure.start_operation(str(second), "install", started_by="User")
    await world.pass_time(hours=1)
    for each in (first, second):
        world.azure.behave(str(each), GOOD)
    world.set(PATCH_MODE="install", PATCH_CANARIES="1", PATCH_CANARY_MACHINES="absent*")
    await world.pass_time(hours=2)
    before = world.installed()
    run = order(world, INSTALL, first, second)
    await world.pass_time(hours=2)
    assert outcomes(world, run) == {"vm-1": "succeeded", "vm-2": "succeeded"}
    assert sorted(world.installed()) == sorted([*before, "vm-1", "vm-2"])
    assert (await world.image()).canaries == 0  # it proves nothing to the rollout


GUARDS: dict[str, tuple[dict[str, str], dict[str, Any], Behaviour, str]] = {
    "a tag that opts out": ({}, {"tags": {"patch-mode": "off"}}, GOOD, "opted-out"),
    "a tag that allows assessments": ({}, {"tags": {"patch-mode": "assess"}}, GOOD, "assessed"),
    "a tag that holds": ({}, {"tags": {"patch-hold-until": "2026-12-24"}}, GOOD, "on-hold"),
    "a wrong tag": ({}, {"tags": {"patch-mode": "maybe"}}, GOOD, "bad-tag"),
    "Unsupported": ({}, {}, Behaviour(support_state="Unsupported"), "unsupported"),
    "PATCH_MODE=assess": ({"PATCH_MODE": "assess"}, {}, GOOD, "assessed"),
    "a marketplace image": ({}, {"image": {"publisher": "C", "offer": "u", "sku": "s", "version": "1"}}, GOOD, ""),
    "PATCH_CREATED_AFTER": ({"PATCH_CREATED_AFTER": "2027-01-01"}, {}, GOOD, "out-of-scope"),
    "PATCH_MIN_AGE_MINUTES": ({"PATCH_MIN_AGE_MINUTES": "6000"}, {}, GOOD, "too-new"),
}


@pytest.mark.parametrize(("settings", "body", "behaviour", "state"), GUARDS.values(), ids=GUARDS)
async def test_a_run_never_passes_what_protects(
    settings: dict[str, str], body: dict[str, Any], behaviour: Behaviour, state: str
) -> None:
    world = World({"PATCH_WINDOW": CLOSED, **settings}, timings=QUICK)
    machine = world.create("vm-1", behaviour, **body)
    await world.pass_time(hours=1)
    run = order(world, INSTALL, machine, ignore_window=True, until=world.now + timedelta(hours=2))
    await world.pass_time(hours=3)
    assert world.installed() == []
    assert outcomes(world, run) == {"vm-1": state or "marketplace"}


async def test_a_run_never_passes_a_stop_or_a_breaker() -> None:
    world, [first, second] = await a_fleet({"PATCH_BREAKER": "1 in 7 days"}, vm_1=BAD, vm_2=GOOD)
    run = order(world, INSTALL, first, second, ignore_window=True, canaries=1)
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-1"]
    assert (await world.image()).breaker_open
    stop(world, run)
    key = key_of(Scope.MACHINE, str(second))
    world.table.put(APP, key, stop_columns(Stop(Scope.MACHINE, str(second), "a demo", "Jane")))
    again = order(world, INSTALL, second, id="2", ignore_window=True)
    await world.pass_time(hours=1)
    assert items(world, again)["vm-2"].state == "on-hold"
    world.table.rows.pop((APP, key))
    await world.pass_time(hours=1)
    assert items(world, again)["vm-2"].state == "breaker-open"
    assert world.installed() == ["vm-1"]
    assert outcomes(world, run)["vm-1"] == "failed"


async def test_a_run_that_waits_keeps_no_other_run_from_its_machine() -> None:
    world, [machine] = await a_fleet(vm_1=GOOD)
    waits = order(world, INSTALL, machine)
    goes = order(world, INSTALL, machine, id="2", ignore_window=True, selection=Selection(packages=("*",)))
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-1"]
    assert outcomes(world, goes) == {"vm-1": "succeeded"}
    assert outcomes(world, waits) == {"vm-1": "patched"}


async def test_of_two_runs_the_one_that_was_opened_first_goes_first_whatever_their_ids() -> None:
    world, [machine] = await a_fleet(vm_1=GOOD)
    older = order(world, ASSESS, machine, id="20261118T1000-zzzz")
    world.now += timedelta(seconds=1)
    younger = order(world, ASSESS, machine, id="20261118T1000-2222")
    await world.sweep()
    assert outcomes(world, older) == {"vm-1": "in-flight"}
    assert items(world, younger)["vm-1"].outcome is RunOutcome.TO_DO


async def test_a_run_shows_its_own_wait_and_not_that_of_another_run() -> None:
    world, machines = await a_fleet({"PATCH_MAX_IN_FLIGHT": "1"}, vm_1=GOOD, vm_2=GOOD)
    installs = order(world, INSTALL, *machines, ignore_window=True)
    assesses = order(world, ASSESS, machines[1], id="2")
    await world.sweep()
    assert items(world, installs)["vm-2"].state == "waiting-for-slot"
    wait = items(world, assesses)["vm-2"]
    assert (wait.state, wait.reason) == ("queued", "it is the turn of another order, run 1")


async def test_a_run_keeps_to_the_cap_of_the_fleet() -> None:
    fleet = {f"vm_{number}": GOOD for number in range(4)}
    world, machines = await a_fleet({"PATCH_MAX_IN_FLIGHT": "1"}, **fleet)
    run = order(world, INSTALL, *machines, ignore_window=True)
    most = 0
    while len(world.installed()) < 4:
        await world.pass_time(minutes=1)
        most = max(most, len(world.installing()))
        assert world.now < run.until
    assert most == 1


async def test_canaries_of_a_run_go_first_and_are_watched() -> None:
    fleet = {f"vm_{number}": GOOD for number in range(4)}
    world, machines = await a_fleet(**fleet)
    run = order(world, INSTALL, *machines, ignore_window=True, canaries=2, bake=timedelta(hours=2))
    await world.pass_time(hours=1, minutes=30)
    assert sorted(world.installed()) == ["vm-0", "vm-1"]
    assert sorted(outcomes(world, run).values()) == ["succeeded", "succeeded", "to-do", "to-do"]
    await world.pass_time(hours=3)
    assert sorted(world.installed()) == ["vm-0", "vm-1", "vm-2", "vm-3"]
    assert set(outcomes(world, run).values()) == {"succeeded"}


async def test_a_failed_canary_keeps_the_rest_of_its_image_from_going(told: Told) -> None:
    world, machines = await a_fleet({"PATCH_BREAKER": "3 in 7 days"}, vm_1=BAD, vm_2=GOOD, vm_3=GOOD)
    other = world.create("vm-4", GOOD, image={"id": GALLERY.replace("/web/", "/batch/")})
    await world.pass_time(hours=1)
    run = order(world, INSTALL, *machines, other, ignore_window=True, canaries=1)
    await world.pass_time(hours=3)
    assert outcomes(world, run) == {
        "vm-1": "failed",
        "vm-2": "canary-failed",
        "vm-3": "canary-failed",
        "vm-4": "succeeded",
    }
    assert sorted(world.installed()) == ["vm-1", "vm-4"]
    assert not (await world.image()).breaker_open
    [ended] = told("run.ended")
    assert (ended["succeeded"], ended["failed"], ended["left"]) == (1, 1, 2)


async def test_a_run_that_is_stopped_in_mid_flight_starts_nothing_more(told: Told) -> None:
    world, machines = await a_fleet({"PATCH_MAX_IN_FLIGHT": "1"}, vm_1=GOOD, vm_2=GOOD)
    run = order(world, INSTALL, *machines, ignore_window=True)
    await world.until(lambda: bool(world.installing()), hours=1)
    stop(world, run)
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-1"]
    assert outcomes(world, run) == {"vm-1": "succeeded", "vm-2": "stopped"}
    [ended] = told("run.ended")
    assert (ended["stopped_by"], ended["because"]) == ("Jim", "wrong machines")


async def test_a_run_that_is_stopped_while_its_message_waits_sends_nothing(told: Told) -> None:
    world, [machine] = await a_fleet(vm_1=GOOD)
    run = order(world, INSTALL, machine, ignore_window=True)
    await world.until_queued(INSTALL)
    stop(world, run)
    await world.messages()
    await world.pass_time(hours=1)
    assert world.installed() == []
    assert any("run 1 was stopped" in line["reason"] for line in told("operation.postponed"))
    assert outcomes(world, run) == {"vm-1": "stopped"}


@pytest.mark.parametrize("gone", ["the order", "the machine", "another machine"])
async def test_what_is_gone_before_the_post_gets_none(gone: str) -> None:
    world, [machine] = await a_fleet(vm_1=GOOD)
    run = order(world, INSTALL, machine, ignore_window=True)
    await world.until_queued(INSTALL)
    if gone == "the order":
        world.table.rows.pop((APP, run_key(run.id)))
    else:
        world.delete(machine)
    if gone == "another machine":
        await world.pass_time(minutes=1)
        world.create("vm-1", GOOD)
    await world.messages()
    await world.pass_time(hours=2)
    assert world.installed() == []
    if gone != "the order":
        assert outcomes(world, run) == {"vm-1": "gone"}


async def test_a_run_begins_at_its_time_and_not_before() -> None:
    world, [machine] = await a_fleet(vm_1=GOOD)
    run = order(world, INSTALL, machine, ignore_window=True, at=world.now + timedelta(hours=3))
    await world.pass_time(hours=2, minutes=50)
    assert world.installed() == []
    assert progress(world, run).ended is None
    await world.pass_time(hours=1)
    assert world.installed() == ["vm-1"]


async def test_a_run_installs_what_it_selects_whatever_the_settings_select() -> None:
    behaviour = Behaviour(support_state="Supported", pending={"other": 2})
    world, [machine] = await a_fleet(vm_1=behaviour)
    order(world, INSTALL, machine, ignore_window=True, selection=Selection(("Other",)))
    await world.pass_time(hours=2)
    [post] = [each for each in world.azure.requests if "installPatches" in each[2]]
    [operation] = world.operations(kind="install")
    assert post
    assert operation.output["installedPatchCount"] == 2


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_sweep_that_is_killed_at_any_write_runs_no_machine_twice(side: str) -> None:
    """Each time the process dies at another write of the ledger, every fourth one; the next sweep goes on."""
    for number in range(2 * (side == "after"), 40, 4):
        world, machines = await a_fleet(vm_1=GOOD, vm_2=GOOD)
        run = order(world, INSTALL, *machines, ignore_window=True, canaries=1)
        setattr(world.table, side, _kill_at(number))
        with suppress(Killed):
            await world.pass_time(hours=5)
        world.table.before = world.table.after = nothing
        world.in_steps(timedelta(minutes=5))
        await world.pass_time(hours=6)
        assert sorted(world.installed()) == ["vm-1", "vm-2"], number
        assert outcomes(world, run) == {"vm-1": "succeeded", "vm-2": "succeeded"}, number


@pytest.mark.parametrize("killed_at", [None, *range(5)])
async def test_how_far_a_run_has_come_is_reported_whenever_it_is_written(killed_at: int | None, told: Told) -> None:
    """The process dies after it wrote the progress for this time; `off` keeps the run open."""
    world, [good, off] = await a_fleet(good=GOOD, off=GOOD)
    world.power(off, "deallocate")
    run = order(world, INSTALL, good, off, ignore_window=True)
    if killed_at is not None:
        world.table.after = _kill_at(killed_at, column="items0")
    with suppress(Killed):
        await world.pass_time(hours=2)
    for _ in range(2):  # as it is written, and once the run has gone on
        newest = [*told("run.opened"), *told("run.progressed")][-1]
        counts = progress(world, run).counts(run)
        assert {name: newest.get(name.replace("-", "_"), 0) for name in counts if name != "to-do"} == {
            name: count for name, count in counts.items() if name != "to-do"
        }
        world.table.after = nothing
        await world.pass_time(hours=2)
    assert outcomes(world, run) == {"good": "succeeded", "off": "to-do"}


def _kill_at(number: int, column: str = "") -> Hook:
    """The process dies at the write of this number, of those that write the column."""
    writes = itertools.count()

    async def die(call: TableCall) -> None:
        written = call.operation in ("insert", "replace", "delete") and (not column or column in call.columns)
        if written and next(writes) == number:
            raise Killed

    return die


async def nothing(call: TableCall) -> None: ...


async def test_a_run_that_cannot_be_read_is_reported_and_widens_nothing(told: Told) -> None:
    world, [machine] = await a_fleet(vm_1=GOOD)
    run = order(world, INSTALL, machine, ignore_window=True)
    columns = dict(world.table.rows[APP, run_key(run.id)].columns)
    world.table.put(APP, run_key(run.id), columns | {"ignore_window": "yes"})
    await world.pass_time(hours=1)
    assert world.installed() == []
    assert "ignore_window is 'yes'" in told("run.unreadable")[0]["problem"]
    world.table.put(APP, run_key(run.id), columns)
    await world.pass_time(hours=1)
    assert world.installed() == ["vm-1"]


async def test_the_rows_of_a_run_go_a_month_after_it_ended() -> None:
    world, [machine] = await a_fleet({"PATCH_MODE": "assess"}, vm_1=GOOD)
    run = order(world, ASSESS, machine)
    await world.pass_time(hours=1)
    assert run_of_row(world.table.rows[APP, run_key(run.id)]) == run
    world.in_long_steps()
    world.tick = world.sweep_every = timedelta(hours=12)
    await world.pass_time(days=31)
    assert not [key for _, key in world.table.rows if key.startswith(("run-", "progress-"))]


async def test_other_programs_learn_how_far_a_run_has_come_with_the_row_that_says_so() -> None:
    world, machines = await a_fleet(NOTICES, vm_1=GOOD, vm_2=GOOD)
    run = order(world, ASSESS, *machines)
    await world.pass_time(hours=1)
    told = [event["data"] for event in world.topic.events if event["type"] == "ImagePatcher.RunProgress"]
    assert {each["run"] for each in told} == {run.id}
    assert (told[0]["started"], told[0]["over"]) == (0, False)
    assert told[-1] == {"run": run.id, "machines": 2, "started": 2, "succeeded": 2, "failed": 0, "over": True}
    assert [each["started"] for each in told] == sorted(each["started"] for each in told)
