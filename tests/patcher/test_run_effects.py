"""What the app makes of a run that the tool ordered: its next sweeps, over the simulated Azure in virtual time.

Factors: the kind; what keeps a machine; when; a run that is stopped, or that another one overlaps; who writes the row
meanwhile. The preview is held to what the sweeps then do.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.cloud.ledger import APP
from functions.cloud.runs import RUNS, columns_of, progress_key, progress_of_row, run_key, run_of_row
from functions.model.run import MAX_MACHINES, Run
from functions.model.state import OperationKind
from patcher.actions import runs, stops
from patcher.actions.runs import Words
from patcher.actions.selecting import Selector, Target
from patcher.errors import BadRequest
from simulator.azure import Behaviour
from tests.patcher.test_effects import ME, SEEN, act, prepared
from tests.support.journaled import Told
from tests.support.tables import TableCall
from tests.support.world import World

GOOD = Behaviour(support_state="Supported", pending={"security": 2})
BAD = replace(GOOD, install_status="Failed")
CLOSED = "Sun 02:00-06:00 UTC"  # the scenarios begin on a Wednesday at 08:00
ASSESS, INSTALL = OperationKind.ASSESS, OperationKind.INSTALL


def install(*names: str, **said: Any) -> Words:
    return Words(INSTALL, Selector(names), "a CVE", **{"ignore_window": True, **said})


async def a_fleet(settings: dict[str, str] | None = None, /, **fleet: Behaviour) -> World:
    """Machines that are assessed, and that wait for a window that is closed for days."""
    world = World({"PATCH_WINDOW": CLOSED, **(settings or {})}, timings=SEEN)
    for name, behaviour in fleet.items():
        world.create(name.replace("_", "-"), behaviour)
    await world.pass_time(hours=2)
    assert world.installed() == []
    return world


async def order(world: World, words: Words) -> Run:
    answer = await act(world, runs.order(words))
    return the_run(world, answer.result["run"])


def the_run(world: World, run_id: str) -> Run:
    return run_of_row(world.table.rows[APP, run_key(run_id)])


def outcomes(world: World, run: Run) -> Mapping[str, str]:
    """How far each machine has come; of one that was left or waits, why."""
    progress = progress_of_row(world.table.rows.get((APP, progress_key(run.id))), run)
    items = {machine.name: progress.of(machine) for machine in run.machines}
    return {name: item.state or item.outcome.value for name, item in items.items()}


async def test_a_run_installs_its_machines_now_and_no_other(told: Told) -> None:
    world = await a_fleet(vm_01=GOOD, vm_02=GOOD)
    run = await order(world, install("vm-01"))
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-01"]
    assert outcomes(world, run) == {"vm-01": "succeeded"}
    [opened], [ended] = told("run.opened"), told("run.ended")
    assert (opened["by"], opened["reason"], opened["kind"]) == (ME, "a CVE", "install")
    assert ended["succeeded"] == 1


async def test_a_run_assesses_its_machines_once_more() -> None:
    world = await a_fleet(vm_01=GOOD, vm_02=GOOD)
    before = len(world.operations(kind="assess"))
    run = await order(world, Words(ASSESS, Selector(everything=True), "a new scanner"))
    await world.pass_time(hours=1)
    assert outcomes(world, run) == {"vm-01": "succeeded", "vm-02": "succeeded"}
    assert len(world.operations(kind="assess")) == before + 2


async def test_a_run_for_later_waits_for_its_time() -> None:
    world = await a_fleet(vm_01=GOOD)
    run = await order(world, install("vm-01", at="2026-11-25T14:00Z"))
    await world.pass_time(hours=3, minutes=30)
    assert world.installed() == []
    await world.pass_time(hours=3)
    assert outcomes(world, run) == {"vm-01": "succeeded"}


async def test_the_preview_of_a_run_for_later_asks_of_then() -> None:
    """The window is closed now, and open at that time."""
    world = await a_fleet(vm_01=GOOD)
    later = install("vm-01", ignore_window=False, at="2026-11-29T02:30Z")
    assert (await act(world, runs.order(later))).result["expected"]["now"] == 1
    with pytest.raises(BadRequest, match="1 waiting-for-window"):
        await act(world, runs.order(replace(later, at="")))


# what keeps the machine → its tags and image, what its guest does
KEPT: Mapping[str, tuple[dict[str, Any], Behaviour]] = {
    "a tag that opts out": ({"tags": {"patch-mode": "off"}}, GOOD),
    "a tag that allows assessments": ({"tags": {"patch-mode": "assess"}}, GOOD),
    "a tag that holds": ({"tags": {"patch-hold-until": "2026-12-24"}}, GOOD),
    "a wrong tag": ({"tags": {"patch-mode": "maybe"}}, GOOD),
    "Unsupported": ({}, Behaviour(support_state="Unsupported")),
    "a marketplace image": ({"image": {"publisher": "C", "offer": "u", "sku": "s", "version": "1"}}, GOOD),
    "nothing to install": ({}, replace(GOOD, pending={})),
    "nothing that is selected": ({}, replace(GOOD, pending={"other": 3})),
}


@pytest.mark.parametrize(("body", "behaviour"), KEPT.values(), ids=KEPT)
async def test_what_a_preview_says_that_keeps_a_machine_is_what_keeps_it(
    body: dict[str, Any], behaviour: Behaviour
) -> None:
    world = await a_fleet(goes=GOOD)
    world.create("stays", behaviour, **body)
    await world.pass_time(hours=1)
    answer = await act(world, runs.order(install("goes", "stays")))
    [said] = answer.result["expected"]["not"]
    await world.pass_time(hours=3)
    assert outcomes(world, the_run(world, answer.result["run"])) == {"goes": "succeeded", "stays": said["state"]}
    assert world.installed() == ["goes"]


async def test_a_preview_says_that_a_breaker_is_open() -> None:
    world = await a_fleet({"PATCH_BREAKER": "1 in 7 days"}, vm_01=BAD, vm_02=GOOD)
    await order(world, install("vm-01"))
    await world.pass_time(hours=2)
    assert (await world.image()).breaker_open
    answer = await act(world, runs.order(install("vm-02")))
    assert [each["state"] for each in answer.result["expected"]["not"]] == ["breaker-open"]
    await world.pass_time(hours=2)
    assert outcomes(world, the_run(world, answer.result["run"])) == {"vm-02": "breaker-open"}


async def test_a_preview_says_that_a_machine_is_held_and_the_app_holds_it() -> None:
    world = await a_fleet(vm_01=GOOD, vm_02=GOOD)
    hold = stops.hold(Selector(("vm-01",)), reason="a demo", until="", lasting="", replacing=False)
    await act(world, hold)
    answer = await act(world, runs.order(install("vm-01", "vm-02")))
    assert [(each["state"], each["examples"]) for each in answer.result["expected"]["not"]] == [("on-hold", ["vm-01"])]
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-02"]


async def test_an_estimate_is_not_sooner_than_the_caps_allow() -> None:
    """Four of one image, one after the other, as long as nothing is known of its installations."""
    fleet = {f"vm_{number}": GOOD for number in range(4)}
    world = await a_fleet({"PATCH_MAX_PER_IMAGE": "1"}, **fleet)
    answer = await act(world, runs.order(install(*(name.replace("_", "-") for name in fleet))))
    expected = answer.result["expected"]
    assert expected["begins"] + timedelta(hours=2) <= expected["ends"] <= expected["begins"] + timedelta(hours=2.5)
    assert (expected["now"], expected["later"]) == (1, 3)
    await world.pass_time(hours=4)
    assert set(outcomes(world, the_run(world, answer.result["run"])).values()) == {"succeeded"}


async def test_canaries_and_their_bake_count_in_the_estimate() -> None:
    world = await a_fleet(vm_01=GOOD, vm_02=GOOD)
    plain = (await act(world, runs.order(install("vm-01", "vm-02")))).result["expected"]
    baked = (await act(world, runs.order(install("vm-01", "vm-02", canaries=1, bake="4h")))).result["expected"]
    assert baked["ends"] - plain["ends"] > timedelta(hours=4)


# -- races


async def test_a_run_that_is_stopped_in_mid_flight_starts_nothing_more(told: Told) -> None:
    world = await a_fleet({"PATCH_MAX_IN_FLIGHT": "1"}, vm_01=GOOD, vm_02=GOOD)
    run = await order(world, install("vm-01", "vm-02"))
    await world.until(lambda: bool(world.installing()), hours=1)
    await act(world, runs.stop(run.id, reason="wrong machines"), by="jim")
    await world.pass_time(hours=2)
    assert outcomes(world, run) == {"vm-01": "succeeded", "vm-02": "stopped"}
    [ended] = told("run.ended")
    assert (ended["stopped_by"], ended["because"]) == ("jim", "wrong machines")
    with pytest.raises(BadRequest, match="is over; nothing was written"):
        await act(world, runs.stop(run.id, reason="again"))


async def test_two_runs_over_one_machine_install_it_once() -> None:
    world = await a_fleet(vm_01=GOOD)
    first = await order(world, install("vm-01"))
    world.now += timedelta(minutes=1)
    second = await order(world, install("vm-01"))
    assert first.id < second.id
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-01"]
    assert outcomes(world, first) == {"vm-01": "succeeded"}
    assert outcomes(world, second)["vm-01"] in ("recently-patched", "patched", "nothing-selected")


async def test_an_id_that_another_person_has_just_taken_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await a_fleet(vm_01=GOOD, vm_02=GOOD)
    chosen = iter("aaaaaaaabbbb")
    monkeypatch.setattr(secrets, "choice", lambda _: next(chosen))
    hers = await order(world, replace(install("vm-01"), reason="hers"))
    mine = await order(world, install("vm-02"))
    assert (hers.id[-4:], mine.id[-4:]) == ("aaaa", "bbbb")
    assert the_run(world, hers.id).reason == "hers"


async def test_a_run_that_another_person_stops_meanwhile_is_stopped_once() -> None:
    world = await a_fleet(vm_01=GOOD)
    run = await order(world, install("vm-01"))
    once = world.table.before

    async def first(call: TableCall) -> None:
        if call.operation == "replace" and call.columns.get("stopped_because") == "mine":
            world.table.before = once
            assert call.row is not None
            hers = replace(run, stopped=world.now, stopped_by="jane", stopped_because="hers")
            await world.table.replace(call.row, columns_of(hers))

    world.table.before = first
    with pytest.raises(BadRequest, match="is stopped already, by jane: hers; nothing was written"):
        await act(world, runs.stop(run.id, reason="mine"))
    assert the_run(world, run.id).stopped_because == "hers"


async def test_a_stop_that_arrives_between_two_reads_is_not_overwritten() -> None:
    world = await a_fleet(vm_01=GOOD)
    run = await order(world, install("vm-01"))
    deed = await prepared(world, runs.stop(run.id, reason="mine"))
    once, reads = world.table.before, iter(range(10))

    async def second(call: TableCall) -> None:
        if call.operation == "get" and next(reads) == 1:
            world.table.before = once
            hers = replace(run, stopped=world.now, stopped_by="jane", stopped_because="hers")
            world.table.put(APP, run_key(run.id), columns_of(hers))

    world.table.before = second
    with pytest.raises(BadRequest, match="is stopped already, by jane: hers; nothing was written"):
        await deed.do()
    assert the_run(world, run.id).stopped_because == "hers"


async def test_more_machines_than_a_run_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are not created here: the census is asked, and answers with as many names."""
    world = await a_fleet(vm_01=GOOD)
    [machine] = [each async for each in world.services.graph.census()]
    ids = (replace(machine.id, name=f"vm-{number}") for number in range(MAX_MACHINES + 1))
    targets = [Target(each, shown=replace(machine, id=each)) for each in ids]

    async def census(_: object) -> list[Target]:
        return targets

    monkeypatch.setattr(runs, "census", census)
    with pytest.raises(BadRequest, match=r"that means 10,001 machines; up to 10,000 go into one run"):
        await act(world, runs.order(Words(ASSESS, Selector(everything=True), "x")))
    assert not [key for _, key in world.table.rows if key.startswith(RUNS)]
