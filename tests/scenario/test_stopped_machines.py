"""Stopped machines: left stopped by default; with PATCH_START_STOPPED started in their window, patched, and put back.

Factors: the setting and its cap; why a machine is off; its tags, window and last assessment; how the installation ends;
what people do meanwhile; what Azure answers; where a process ends.
"""

import itertools
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from functions.cloud.ledger import APP
from functions.cloud.started import started_key
from functions.model.machine import MachineId, PowerState
from simulator.azure import Behaviour, Fault, Grant, Timings
from simulator.identity.tokens import CLIENT_ID
from tests.support.journaled import Told
from tests.support.process import Killed
from tests.support.tables import Hook, TableCall
from tests.support.world import NOTICES, START, World

ON = {"PATCH_START_STOPPED": "5"}
WAITING = Behaviour(pending={"security": 3})
DEALLOCATE = "/deallocate$"


def calls(world: World, action: str) -> list[str]:
    """The machines of the app's calls of this kind, in order; answered or not."""
    sent = [each.path for each in world.azure.requests if each.method == "POST" and each.path.endswith(f"/{action}")]
    return [path.split("/")[8] for path in sent]


def names(told: Told, event: str) -> list[str]:
    return [str(line["machine"]).rpartition("/")[2] for line in told(event)]


async def power(world: World, machine: MachineId) -> PowerState:
    return (await world.machine(machine)).power


async def with_stopped(
    settings: dict[str, str] | None = None, *, kind: str = "deallocate", count: int = 1, **about: Any
) -> tuple[World, list[MachineId]]:
    """A world whose machines a person stopped before the app looks for the first time.

    `evaluated`: the simulator evaluates the app's queries, with a sweep each five minutes. Else Python answers them,
    for they are the same few, with a sweep each ten.
    """
    world = World(ON | (settings or {}))
    if not about.pop("evaluated", False):
        world.in_steps(world.tick, timedelta(minutes=10))
    behaviour = about.pop("behaviour", WAITING)
    machines = [world.create(f"web-{number}", behaviour, **about) for number in range(1, count + 1)]
    world.now += timedelta(minutes=30)
    for machine in machines:
        world.power(machine, kind)
    world.now += timedelta(minutes=30)
    world.fresh_events()
    world._next_sweep = world.now
    return world, machines


async def until_running(world: World, machine: MachineId) -> None:
    async def runs() -> bool:
        return await power(world, machine) is PowerState.RUNNING

    await world.until(runs, hours=1)


# -- the whole way


async def test_a_stopped_machine_is_started_patched_and_put_back(told: Told) -> None:
    world, [machine] = await with_stopped(evaluated=True)
    await world.pass_time(hours=3)
    assert [each.kind for each in world.operations(machine)] == ["assess", "install", "assess"]
    assert (calls(world, "start"), calls(world, "deallocate")) == (["web-1"], ["web-1"])
    assert await power(world, machine) is PowerState.DEALLOCATED
    assert (names(told, "machine.started"), names(told, "machine.put-back")) == (["web-1"], ["web-1"])


async def test_a_machine_that_lacks_nothing_is_not_started_again_to_look(told: Told) -> None:
    world, [machine] = await with_stopped()
    await world.pass_time(hours=3)
    for _ in range(2):
        world.now += timedelta(days=1)
        await world.pass_time(hours=1)
    assert calls(world, "start") == ["web-1"]
    world.now += timedelta(days=5)
    await world.pass_time(hours=3)
    assert calls(world, "start") == ["web-1"] * 2
    assert await power(world, machine) is PowerState.DEALLOCATED


# settings → how many machines a plan would start; each for 30 minutes to come up, and 30 for an installation
PLANNED: dict[str, tuple[dict[str, str], int]] = {
    "all that wait": ({}, 3),
    "as many as the cap says": ({"PATCH_START_STOPPED": "2"}, 2),
    "a canary goes first": ({"PATCH_CANARIES": "1"}, 1),
    "their window is closed": ({"PATCH_WINDOW": "Sat 02:00-06:00"}, 0),
    "the setting is off": ({"PATCH_START_STOPPED": "off"}, 0),
    "no plan is made": ({"PATCH_MODE": "assess"}, 0),
}


@pytest.mark.parametrize(("settings", "count"), PLANNED.values(), ids=PLANNED)
async def test_a_plan_says_what_would_be_started_and_what_is_billed(
    settings: dict[str, str], count: int, told: Told
) -> None:
    world, _ = await with_stopped({"PATCH_MODE": "plan", "PATCH_CANARIES": "0"} | settings, count=3)
    await world.pass_time(hours=1)
    lines = [each for each in told("settings.advised") if each.get("setting") == "PATCH_START_STOPPED"]
    assert [each["machines"] for each in lines] == [count] * bool(count)
    assert all(f"for about 1.0 h each, {count:.1f} h in all" in each["reason"] for each in lines)
    assert calls(world, "start") == []


@pytest.mark.parametrize("runs", [False, True])
async def test_a_plan_counts_the_machines_that_run_first(runs: bool, told: Told) -> None:
    """Of one image with one canary: it is the one that runs, and no other is started."""
    settings = {"PATCH_MODE": "plan", "PATCH_CANARIES": "1", "PATCH_WINDOW": "daily 10:00-16:00"}
    world, _ = await with_stopped(settings, count=2)
    if runs:
        world.create("web-9", WAITING)
    await world.pass_time(hours=2)
    lines = [each for each in told("settings.advised") if each.get("setting") == "PATCH_START_STOPPED"]
    assert [each["machines"] for each in lines] == [1] * (not runs)


# settings, tags, how it was stopped → whether it is started
STARTED: dict[str, tuple[dict[str, str], dict[str, Any], bool]] = {
    "as it is": ({}, {}, True),
    "by default": ({"PATCH_START_STOPPED": ""}, {}, False),
    "off": ({"PATCH_START_STOPPED": "off"}, {}, False),
    "a cap in percent": ({"PATCH_START_STOPPED": "10%"}, {}, True),
    "mode assess": ({"PATCH_MODE": "assess"}, {}, False),
    "mode plan": ({"PATCH_MODE": "plan"}, {}, False),
    "paused": ({"PATCH_PAUSE": "on"}, {}, False),
    "its window is closed": ({"PATCH_WINDOW": "Sat 02:00-06:00"}, {}, False),
    "its own window is closed": ({}, {"tags": {"patch-window": "Sat 02:00-06:00"}}, False),
    "its window closes too soon": ({"PATCH_WINDOW": "daily 08:00-09:45"}, {}, False),
    "tagged no": ({}, {"tags": {"patch-start": "no"}}, False),
    "opted out": ({}, {"tags": {"patch-mode": "off"}}, False),
    "assessed only": ({}, {"tags": {"patch-mode": "assess"}}, False),
    "on hold": ({}, {"tags": {"patch-hold-until": "2027-01-15"}}, False),
    "a tag is wrong": ({}, {"tags": {"patch-start": "maybe"}}, False),
    "left to a schedule": ({}, {"patch_settings": {"patchMode": "AutomaticByPlatform", "automaticByPlatformSettings": {
        "bypassPlatformSafetyChecksOnUserSchedule": True}}}, False),
    "shut down and still billed": ({}, {"kind": "powerOff"}, False),
    "hibernated": ({}, {"behaviour": Behaviour(pending={"security": 3}, hibernated=True)}, False),
    "generalized": ({}, {"behaviour": Behaviour(pending={"security": 3}, generalized=True)}, False),
    "out of scope": ({"PATCH_CREATED_AFTER": "2026-11-26T00:00:00Z"}, {}, False),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "about", "started"), STARTED.values(), ids=STARTED)
async def test_only_what_may_be_installed_now_is_started(
    settings: dict[str, str], about: dict[str, Any], started: bool
) -> None:
    world, [machine] = await with_stopped(settings, **about)
    was = await power(world, machine)
    await world.pass_time(hours=3)
    assert calls(world, "start") == ["web-1"] * started
    assert await power(world, machine) is was
    assert bool(world.operations(machine)) is started
    if not started:
        assert calls(world, "deallocate") == []


@pytest.mark.parametrize("stop", ["everything", "the machine"])
async def test_what_a_person_stopped_is_not_started(stop: str) -> None:
    world, [machine] = await with_stopped()
    if stop == "everything":
        await world.pause("a change freeze")
    else:
        row = hold_of(machine)
        await world.table.insert("app", row[0], row[1])
    await world.pass_time(hours=2)
    assert calls(world, "start") == []


def hold_of(machine: MachineId) -> tuple[str, dict[str, object]]:
    from functions.cloud.stops import columns_of, key_of
    from functions.model.stop import Scope, Stop

    stop = Stop(Scope.MACHINE, str(machine), "a change freeze", "an operator")
    return key_of(Scope.MACHINE, str(machine)), columns_of(stop)


async def test_no_more_run_at_once_than_the_cap_says() -> None:
    world, machines = await with_stopped({"PATCH_START_STOPPED": "2"}, count=5)
    most = 0
    for _ in range(36):
        await world.pass_time(minutes=10)
        running = [await power(world, machine) is not PowerState.DEALLOCATED for machine in machines]
        most = max(most, sum(running))
    assert most == 2
    assert sorted(world.installed()) == [f"web-{number}" for number in range(1, 6)]
    assert sorted(calls(world, "deallocate")) == sorted(calls(world, "start")) == sorted(world.installed())


async def test_a_canary_goes_first_and_the_others_are_not_started_meanwhile() -> None:
    world, _ = await with_stopped({"PATCH_CANARIES": "1", "PATCH_BAKE_MINUTES": "180"}, count=3)
    await world.pass_time(hours=3)
    assert len(calls(world, "start")) == 1
    assert await_all_off(await powers(world))


async def powers(world: World) -> list[PowerState]:
    return [await power(world, world.machine_id(f"web-{number}")) for number in (1, 2, 3)]


def await_all_off(found: list[PowerState]) -> bool:
    return set(found) == {PowerState.DEALLOCATED}


# -- each way to end


ENDS: dict[str, Behaviour] = {
    "it succeeds": WAITING,
    "a patch fails": Behaviour(pending={"security": 3}, install_status="Failed"),
    "nothing waits": Behaviour(pending={}),
    "Azure cannot patch it": Behaviour(support_state="Unsupported"),
    "Azure cannot tell": Behaviour(support_state="UnableToDetermine"),
    "the assessment fails": Behaviour(assess_status="Failed"),
    "Azure refuses it": Behaviour(refuse="unsupported-image"),
    "the agent never reports": Behaviour(agent_never_ready=True),
    "an extension hangs": Behaviour(extensions_hang=True),
    "Resource Graph shows nothing": Behaviour(rows_missing=True),
    "it never ends": Behaviour(pending={"security": 3}, never_ends=True),
}


@pytest.mark.parametrize("behaviour", ENDS.values(), ids=ENDS)
async def test_however_it_ends_the_machine_is_put_back_and_started_once(behaviour: Behaviour) -> None:
    world, [machine] = await with_stopped(behaviour=behaviour)
    await world.pass_time(hours=9)
    assert calls(world, "start") == ["web-1"]
    assert await power(world, machine) is PowerState.DEALLOCATED
    await world.pass_time(hours=2)
    assert calls(world, "deallocate") == ["web-1"]


async def test_a_window_that_closes_puts_it_back() -> None:
    world, [machine] = await with_stopped(
        {"PATCH_WINDOW": "daily 08:00-10:30"}, behaviour=Behaviour(agent_never_ready=True)
    )
    await until_running(world, machine)
    await world.until(lambda: world.now >= START + timedelta(hours=2, minutes=30), hours=3)
    await world.pass_time(minutes=20)
    assert await power(world, machine) is PowerState.DEALLOCATED


async def switched(world: World, **settings: str) -> None:
    world.set(**settings)


STOPS: dict[str, Callable[[World], Any]] = {
    "a pause": lambda world: world.pause("a change freeze"),
    "PATCH_PAUSE": lambda world: switched(world, PATCH_PAUSE="on"),
    "mode off": lambda world: switched(world, PATCH_MODE="off"),
    "the setting is taken back": lambda world: switched(world, PATCH_START_STOPPED="off"),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
async def test_what_was_started_is_put_back_whatever_a_person_stops(stop: Callable[[World], Any]) -> None:
    world, [machine] = await with_stopped()
    await until_running(world, machine)
    await stop(world)
    await world.pass_time(hours=4)
    assert await power(world, machine) is PowerState.DEALLOCATED
    assert calls(world, "deallocate") == ["web-1"]


async def test_an_installation_that_runs_is_not_cut_off_by_a_pause() -> None:
    world, [machine] = await with_stopped()
    await world.until(lambda: bool(world.installing()), hours=2)
    await world.pause("a change freeze")
    await world.pass_time(hours=3)
    [installation] = world.operations(machine, "install")
    assert installation.status_at(world.now) == "Succeeded"
    assert await power(world, machine) is PowerState.DEALLOCATED


async def test_a_machine_that_is_deleted_ends_it() -> None:
    world, [machine] = await with_stopped()
    await until_running(world, machine)
    world.delete(machine)
    await world.pass_time(hours=3)
    assert calls(world, "deallocate") == []
    assert await world.services.ledger.started(machine) is None


# -- people meanwhile


async def test_a_person_who_stops_it_ends_it_and_may_start_it_again() -> None:
    world, [machine] = await with_stopped()
    world.sweep_every = timedelta(minutes=5)
    await until_running(world, machine)
    await world.pass_time(minutes=6)
    world.power(machine, "deallocate")
    await world.pass_time(minutes=10)
    world.power(machine, "start")
    await world.pass_time(hours=5)
    assert (calls(world, "deallocate"), await power(world, machine)) == ([], PowerState.RUNNING)


async def test_a_person_who_stops_and_starts_it_between_two_sweeps_keeps_it(told: Told) -> None:
    world, [machine] = await with_stopped(behaviour=Behaviour(agent_never_ready=True))
    world.sweep_every = timedelta(minutes=5)
    await until_running(world, machine)
    await world.pass_time(minutes=6)
    await world.until(lambda: world.now >= world._next_sweep - timedelta(minutes=4), hours=1)
    world.power(machine, "deallocate")
    await world.pass_time(minutes=1)
    world.power(machine, "start")
    await world.pass_time(hours=5)
    assert (calls(world, "deallocate"), await power(world, machine)) == ([], PowerState.RUNNING)
    assert names(told, "machine.left-running") == ["web-1"]


@pytest.mark.parametrize("kind", ["restart", "redeploy"])
async def test_a_person_who_works_on_it_keeps_it(kind: str, told: Told) -> None:
    world, [machine] = await with_stopped(behaviour=Behaviour(agent_never_ready=True))
    world.sweep_every = timedelta(minutes=5)
    await until_running(world, machine)
    await world.pass_time(minutes=6)
    world.power(machine, kind)
    await world.pass_time(hours=5)
    assert (calls(world, "deallocate"), names(told, "machine.left-running")) == ([], ["web-1"])


async def test_a_person_who_starts_it_after_a_start_that_never_left_keeps_it() -> None:
    world, [machine] = await with_stopped()
    world.table.kill_once("after", lambda call: call.columns.get("stage") == "starting")
    with suppress(Killed):
        await world.pass_time(minutes=2)
    await world.pass_time(minutes=12)
    assert calls(world, "start") == []
    world.power(machine, "start")
    await world.pass_time(hours=5)
    assert (calls(world, "deallocate"), await power(world, machine)) == ([], PowerState.RUNNING)


# whether the app knows its own client id, and the event comes → how often the person's machine is deallocated
AT_ONCE: dict[str, tuple[str, bool, int]] = {
    "its event names the person": (CLIENT_ID, True, 0),
    "its event is lost": (CLIENT_ID, False, 1),
    "the app has a system-assigned identity": ("", True, 1),
}


@pytest.mark.parametrize(("client", "arrives", "stopped"), AT_ONCE.values(), ids=AT_ONCE)
async def test_a_person_who_starts_it_at_once_after_a_start_that_never_left(
    client: str, arrives: bool, stopped: int, told: Told
) -> None:
    """Only the event tells who started it: without it the time says that the app did (docs/adr/0009)."""
    world, [machine] = await with_stopped({"AZURE_CLIENT_ID": client})
    world.events_arrive = arrives
    world.table.kill_once("after", lambda call: call.columns.get("stage") == "starting")
    with suppress(Killed):
        await world.pass_time(minutes=2)
    assert calls(world, "start") == []
    world.power(machine, "start")
    await world.pass_time(hours=5)
    assert len(calls(world, "deallocate")) == stopped
    assert names(told, "machine.left-running") == ["web-1"] * (1 - stopped)


async def test_the_event_of_its_own_start_keeps_nothing_running() -> None:
    world, [machine] = await with_stopped({"AZURE_CLIENT_ID": CLIENT_ID})
    await world.pass_time(hours=3)
    assert (calls(world, "start"), calls(world, "deallocate")) == (["web-1"], ["web-1"])
    assert await power(world, machine) is PowerState.DEALLOCATED


async def test_the_late_event_of_an_earlier_start_says_nothing() -> None:
    """Event Grid delivers for a day: a person had started the machine, and stopped it, before the app started it."""
    world, [machine] = await with_stopped({"AZURE_CLIENT_ID": CLIENT_ID})
    world.power(machine, "start")
    world.now += timedelta(minutes=5)
    late = [each for each in world.azure.events if each["data"]["operationName"].endswith("/start/action")]
    world.power(machine, "deallocate")
    world.now += timedelta(minutes=5)
    world.fresh_events()
    await until_running(world, machine)
    for each in late:
        await world.event(each)
    await world.pass_time(hours=3)
    assert calls(world, "deallocate") == ["web-1"]


async def test_a_person_who_starts_it_after_it_was_put_back_keeps_it() -> None:
    world, [machine] = await with_stopped()
    world.azure.faults.add(Fault("POST", DEALLOCATE, times=1, drop="after"))
    await world.until(lambda: bool(calls(world, "deallocate")), hours=4)
    await world.pass_time(minutes=2)
    assert await power(world, machine) is PowerState.DEALLOCATED
    world.power(machine, "start")
    await world.pass_time(hours=5)
    assert (calls(world, "deallocate"), await power(world, machine)) == (["web-1"], PowerState.RUNNING)


# what the machine would do by itself meanwhile
MEANWHILE: dict[str, Behaviour] = {
    "it waits for the other operation": WAITING,
    "nothing waits": Behaviour(pending={}),
    "Azure cannot tell": Behaviour(support_state="UnableToDetermine"),
}


@pytest.mark.parametrize("behaviour", MEANWHILE.values(), ids=MEANWHILE)
async def test_an_installation_that_a_person_ordered_is_not_cut_off(behaviour: Behaviour) -> None:
    world, [machine] = await with_stopped(behaviour=behaviour)
    world.azure.world.timings = Timings(install_seconds=5400)
    await until_running(world, machine)
    await world.pass_time(minutes=4)
    theirs = world.azure.start_operation(str(machine), "install", started_by="User")
    await world.pass_time(hours=4)
    assert theirs.status_at(world.now) == "Succeeded"
    assert await power(world, machine) is PowerState.DEALLOCATED


# -- other programs that are notified before


async def test_a_stopped_machine_stays_off_until_its_installation_was_announced_long_enough() -> None:
    world, [machine] = await with_stopped(NOTICES | {"PATCH_NOTICE_MINUTES": "60"})
    await world.until(lambda: bool(calls(world, "start")), hours=3)
    [planned] = world.topic.of_type("InstallationPlanned")
    assert world.now - datetime.fromisoformat(planned["time"]) >= timedelta(minutes=60)
    await world.pass_time(hours=3)
    assert world.installed() == calls(world, "start") == ["web-1"]
    assert len(world.topic.of_type("InstallationPlanned")) == 1
    assert await power(world, machine) is PowerState.DEALLOCATED


# -- Azure's answers


# which call, whether it arrived → whether the machine was patched: a start that did not arrive is not repeated at once
LOST: dict[str, tuple[str, Any, bool]] = {
    "a start that did not arrive": ("start", "before", False),
    "the answer to a start": ("start", "after", True),
    "a deallocation that did not arrive": ("deallocate", "before", True),
    "the answer to a deallocation": ("deallocate", "after", True),
}


@pytest.mark.parametrize(("action", "drop", "patched"), LOST.values(), ids=LOST)
async def test_an_answer_that_is_lost_leaves_no_machine_running(action: str, drop: Any, patched: bool) -> None:
    world, [machine] = await with_stopped()
    world.azure.faults.add(Fault("POST", f"/{action}$", times=1, drop=drop))
    await world.pass_time(hours=4)
    assert world.installed() == ["web-1"] * patched
    assert await power(world, machine) is PowerState.DEALLOCATED


@pytest.mark.parametrize("status", [403, 409, 429, 500])
async def test_a_start_that_is_refused_is_not_repeated_at_once(status: int) -> None:
    world, [machine] = await with_stopped()
    world.azure.faults.add(Fault("POST", "/start$", times=None, status=status))
    await world.pass_time(hours=2)
    assert (await power(world, machine), calls(world, "deallocate")) == (PowerState.DEALLOCATED, [])
    if status in (403, 409):
        assert calls(world, "start") == ["web-1"]


@pytest.mark.parametrize(("method", "path"), [("GET", r"/virtualMachines/web-\d$"), ("POST", "/start$")])
async def test_a_used_up_quota_leaves_the_rest_of_its_subscription_to_the_next_sweep(method: str, path: str) -> None:
    world, _ = await with_stopped({"PATCH_START_STOPPED": "3"}, count=3)
    fault = world.azure.faults.add(Fault(method, path, times=None, status=429))
    await world.sweep()
    assert fault.hits == 1
    world.azure.faults.remove(fault)
    await world.pass_time(hours=4)
    assert sorted(world.installed()) == ["web-1", "web-2", "web-3"]


@pytest.mark.parametrize("status", [403, 409, 429, 500])
async def test_a_put_back_that_fails_is_reported_and_tried_again(status: int, told: Told) -> None:
    world, [machine] = await with_stopped()
    fault = world.azure.faults.add(Fault("POST", DEALLOCATE, times=None, status=status))
    await world.pass_time(hours=4)
    assert await power(world, machine) is PowerState.RUNNING
    failed = names(told, "machine.put-back-failed")
    assert len(failed) >= 3
    assert len(calls(world, "deallocate")) <= 4 * 4  # not at every sweep
    world.azure.faults.remove(fault)
    await world.pass_time(minutes=30)
    assert await power(world, machine) is PowerState.DEALLOCATED
    assert names(told, "machine.put-back") == ["web-1"]


async def test_a_put_back_that_failed_waits_for_an_operation_that_began_since() -> None:
    world, [machine] = await with_stopped()
    await until_running(world, machine)
    world.azure.faults.add(Fault("POST", DEALLOCATE, times=1, status=409))
    await world.pause("a change freeze")
    await world.until(lambda: bool(calls(world, "deallocate")), hours=1)
    await world.resume()
    await world.pass_time(hours=4)
    assert {each.status_at(world.now) for each in world.operations(machine)} == {"Succeeded"}
    assert await power(world, machine) is PowerState.DEALLOCATED


async def test_without_the_right_to_start_nothing_is_started(told: Told) -> None:
    world, [machine] = await with_stopped()
    world.azure.grants = [Grant(not_actions=("Microsoft.Compute/virtualMachines/start/action",))]
    await world.pass_time(hours=2)
    assert (await power(world, machine), names(told, "machine.not-started")) == (PowerState.DEALLOCATED, ["web-1"])


async def test_resource_graph_that_does_not_answer_leaves_no_machine_running() -> None:
    world, [machine] = await with_stopped()
    await until_running(world, machine)
    world.azure.faults.add(Fault("POST", "ResourceGraph", times=None, status=500))
    await world.pass_time(hours=4)
    assert await power(world, machine) is PowerState.DEALLOCATED


async def test_a_row_that_cannot_be_read_keeps_its_own_machine_off_and_no_other() -> None:
    world, machines = await with_stopped({"PATCH_START_STOPPED": "1"}, count=2)
    world.table.put(APP, started_key(machines[0]), {"v": 1, "machine": "nonsense"})
    await world.pass_time(hours=4)
    assert calls(world, "start") == world.installed() == ["web-2"]


# -- a process that ends


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_process_that_ends_at_any_move_leaves_no_machine_running(side: str) -> None:
    """Each time the process dies at another move of the machine, until it gets through without."""
    stages: set[Any] = set()
    for number in itertools.count():
        world, [machine] = await with_stopped()
        world.in_steps(timedelta(minutes=10))
        died: list[Any] = []
        setattr(world.table, side, _kill_at(number, died))
        with suppress(Killed):
            await world.pass_time(hours=2)
        world.table.before = world.table.after = _nothing
        await world.pass_time(hours=2)
        assert await power(world, machine) is PowerState.DEALLOCATED, (number, died)
        assert len(calls(world, "start")) <= 1, (number, died)
        stored = await world.services.ledger.started(machine)
        assert stored is None or not stored.started.is_open, (number, died)
        if not died:
            break
        stages |= set(died)
    assert stages >= {"starting", "started", "stopping", "over", "queued", "running", "held"}


def _kill_at(number: int, died: list[Any]) -> Hook:
    """Before or after so many moves: writes of the machine's row, or of its start. `died`: to where."""
    moves = itertools.count()

    async def die(call: TableCall) -> None:
        columns = call.row.columns if call.row and call.operation == "delete" else call.columns
        to = columns.get("stage") or columns.get("phase")
        if to and call.operation in ("insert", "replace", "delete", "transact") and next(moves) == number:
            died.append(to)
            raise Killed

    return die


async def _nothing(call: TableCall) -> None: ...
