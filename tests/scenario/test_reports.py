"""What people are shown: the census, a plan, failures that share a cause, and no secret of a guest."""

import json
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import pytest

from functions import journal
from functions.model.state import State
from functions.steps import reconcile, report, states
from simulator.arm import shapes
from simulator.azure import Behaviour
from tests.support.process import Killed
from tests.support.world import GALLERY, QUICK, World

SUPPORTED = Behaviour(support_state="Supported", pending={"security": 2})


async def test_the_same_failure_on_three_machines_is_one_line_for_what_they_share(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Three images, so three canaries fail alike, on other patches each: what they share is system and agent."""
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_BREAKER": "100 in 90 days"}, timings=QUICK)
    failing = replace(SUPPORTED, install_status="Failed")
    unlike = (failing, replace(failing, pending={"critical": 1}), replace(failing, failed_patches=2))
    for number, behaviour in enumerate(unlike):
        world.create(f"vm-{number}", behaviour, image={"id": GALLERY.replace("web", f"web-{number}")})
    world.create("vm-well", SUPPORTED, image={"id": GALLERY.replace("web", "well")})
    await world.pass_time(hours=4)
    assert len([record for record in await world.records() if record.is_held(State.FAILED)]) == 3
    caplog.clear()
    await world.services.ledger.remember("census", {})
    await world.sweep()
    grouped = [json.loads(line) for line in caplog.messages if '"failures.grouped"' in line]
    assert {line["shared"] for line in grouped} == {"os", "agent"}
    assert {line["reason"] for line in grouped} == {"some patches failed"}
    critical, first, second = (
        "libcritical0 1.1.0-1ubuntu1",
        "libsecurity0 1.1.0-1ubuntu1",
        "libsecurity1 1.1.1-1ubuntu1",
    )
    assert {line["failed_patches"] for line in grouped} == {f"{critical}; {first}; {first}, {second}"}
    assert all((line["count"], "vm-well" in line["machines"]) == (3, False) for line in grouped)


async def test_a_guests_message_is_journaled_without_the_secrets_in_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    text = "apt: 403 from https://bob:hunter2@repo.example/x?sig=SECRET-1 key=SECRET-2"
    machine = world.create("vm-01", replace(SUPPORTED, install_status="Failed", errors=(("OPERATION_FAILED", text),)))
    await world.pass_time(hours=2)
    assert world.operations(machine, "install")
    everything = "\n".join(caplog.messages)
    assert "apt: 403 from" in everything
    assert not any(secret in everything for secret in ("hunter2", "SECRET"))
    journal.write("step.failed", problem="https://a.example/b?code=SECRET-3")
    assert "SECRET" not in caplog.messages[-1]


async def test_plan_mode_assesses_and_says_what_it_would_install(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_MODE": "plan"}, timings=QUICK)
    world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=1)
    assert [each.kind for each in world.operations()] == ["assess"]
    planned = [json.loads(line) for line in caplog.messages if '"machine.planned"' in line]
    assert planned[-1]["verb"] == "install"


async def counted(world: World, lines: pytest.LogCaptureFixture, hours: float) -> dict[str, list[datetime]]:
    """When each machine was counted, by its name, in sweeps of this many hours."""
    times: dict[str, list[datetime]] = {}
    world.now += timedelta(minutes=5)  # Graph shows the machines by then
    ends = world.now + timedelta(hours=hours)
    while world.now < ends:
        seen = len(lines.messages)
        await world.sweep()
        for line in map(json.loads, lines.messages[seen:]):
            if line["event"] == "machine.counted":
                assert line["state"]
                assert line["reason"]
                times.setdefault(line["machine"].rsplit("/", 1)[-1], []).append(world.now)
        world.now += timedelta(minutes=15)
    return times


async def test_the_census_names_every_machine_once_a_day_at_its_own_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_MODE": "off"}, timings=QUICK)
    names = {world.create(f"vm-{number:02}", SUPPORTED).name for number in range(8)}
    times = await counted(world, caplog, 75)
    assert times.keys() == names
    day = timedelta(days=1)
    for when in times.values():
        gaps = [later - before for before, later in pairwise(when)]
        assert when[0] == min(min(each) for each in times.values()), "the first sweep counts everything"
        assert gaps[0] <= day + timedelta(minutes=15)
        assert all(abs(gap - day) <= timedelta(minutes=15) for gap in gaps[1:])
    assert len({when[1] for when in times.values()}) > 1, "spread over the day"


async def test_a_census_that_outlives_a_sweeps_time_is_carried_on_by_the_next(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_MODE": "off"}, timings=QUICK)
    names = {world.create(f"vm-{number:02}", SUPPORTED).name for number in range(12)}
    monkeypatch.setattr(states, "PAUSE_SECONDS", report.CENSUS_SECONDS)
    monkeypatch.setattr(states, "BATCH", 1)
    times = await counted(world, caplog, 4)
    assert times.keys() == names
    assert len({when[0] for when in times.values()}) > 1, "not all in the first"
    assert all(len(when) == 1 or when[1] - when[0] > timedelta(minutes=1) for when in times.values())


async def test_a_census_whose_process_was_killed_counts_again_what_was_not_noted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_MODE": "off"}, timings=QUICK)
    names = {world.create(f"vm-{number:02}", SUPPORTED).name for number in range(8)}
    world.table.kill_once("before", lambda call: "done" in str(call.columns.get("note")))
    with pytest.raises(Killed):
        await world.sweep()
    world.now += timedelta(minutes=15)
    assert (await counted(world, caplog, 1)).keys() == names


async def test_the_census_says_what_waits_who_owns_it_and_whether_it_is_late(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_MODE": "assess", "PATCH_SLA_DAYS": "2"}, timings=QUICK)
    world.create("linux-01", SUPPORTED, tags={"Owner": "payments"})
    world.create("linux-02", SUPPORTED, tags={"Patch-SLA": "Critical 12h, Security 1"})
    world.create("windows-01", SUPPORTED, os="Windows")
    world.create("unsupported-01", Behaviour(support_state="Unsupported"))
    world.in_long_steps()
    await world.pass_time(hours=80)
    days: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, caplog.messages):
        if line["event"] == "machine.counted":
            days.setdefault(line["machine"].rsplit("/", 1)[-1], []).append(line)
    linux, windows, unsupported = days["linux-01"], days["windows-01"], days["unsupported-01"]
    words = [line["compliance"] for line in linux[1:]]
    assert words == sorted(words, key=["within", "late"].index), "from its creation on"
    assert {*words} == {"within", "late"}
    assert {line["compliance"] for line in windows[1:]} == {"late"}, "its oldest patch was published years ago"
    assert unsupported[-1]["compliance"] == "blocked", "its patches are counted, and Azure cannot install them"
    last = linux[-1]
    assert (last["owner"], last["image_version"], last["os"], last["sla_days"]) == ("payments", "1.0.0", "Linux", 2)
    assert [line["sla_days"] for line in days["linux-02"][-1:]] == [1]
    assert sum(line["compliance"] == "late" for line in days["linux-02"]) > sum(word == "late" for word in words)
    assert last["pending_critical"] + last["pending_security"] + last["pending_other"] > 0
    assert "oldest_security" not in last
    assert windows[-1]["oldest_security"].startswith("2024-11-12")
    assert "owner" not in windows[-1]


async def test_the_whole_fleet_is_reported_even_in_reconcile_only() -> None:
    world = World(timings=QUICK)
    world.create("vm-01", SUPPORTED)
    await world.pass_time(minutes=10)
    seen = await reconcile.fleet_states(world.services)
    assert [machine.id.name for machine, _ in seen] == ["vm-01"]


# -- what repeats is reported when it changes


OF_A_SWEEP = {"sweep.finished", "machine.counted", "fleet.counted"}


def events_of(lines: list[str]) -> Counter[str]:
    return Counter(json.loads(line)["event"] for line in lines if line.startswith("{"))


async def a_machine_that_is_assessed_daily(lines: pytest.LogCaptureFixture, behaviour: Behaviour) -> World:
    """Seen by its first assessment, and in mode assess."""
    lines.set_level("INFO", logger="journal")
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    world.create("vm-01", behaviour)
    await world.pass_time(hours=2)
    assert {"assessment.started", "assessment.ended", "support.detected"} <= set(events_of(lines.messages))
    lines.clear()
    world.in_long_steps()
    return world


async def test_an_assessment_that_changes_nothing_writes_no_line(caplog: pytest.LogCaptureFixture) -> None:
    world = await a_machine_that_is_assessed_daily(caplog, SUPPORTED)
    await world.pass_time(hours=50)
    assert len(world.operations(kind="assess")) >= 3
    assert set(events_of(caplog.messages)) == OF_A_SWEEP


async def test_an_assessment_that_finds_other_patches_says_so(caplog: pytest.LogCaptureFixture) -> None:
    world = await a_machine_that_is_assessed_daily(caplog, SUPPORTED)
    world.azure.behave(str(world.machine_id("vm-01")), replace(SUPPORTED, pending={"security": 3}))
    await world.pass_time(hours=30)
    [line] = [line for line in map(json.loads, caplog.messages) if line["event"] == "support.detected"]
    assert (line["pending_security"], bool(line["operation"])) == (3, True)


async def test_an_assessment_that_fails_says_so(caplog: pytest.LogCaptureFixture) -> None:
    world = await a_machine_that_is_assessed_daily(caplog, SUPPORTED)
    world.azure.behave(str(world.machine_id("vm-01")), replace(SUPPORTED, assess_status="Failed"))
    await world.pass_time(hours=30)
    told = events_of(caplog.messages)
    assert told["assessment.ended"] >= 1
    assert told["machine.held"] >= 1


async def test_numbers_of_the_fleet_come_when_they_change_and_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    world = await a_machine_that_is_assessed_daily(caplog, SUPPORTED)
    await world.pass_time(hours=23)
    assert events_of(caplog.messages)["fleet.counted"] == 1, "the first of the new day"
    caplog.clear()
    world.create("vm-02", SUPPORTED)
    await world.pass_time(hours=2)
    assert 1 <= events_of(caplog.messages)["fleet.counted"] <= 4


# PATCH_ARC → what is counted beside the one machine: servers by system
COUNTED: dict[str, dict[str, int]] = {"off": {}, "on": {"arc/linux": 2, "arc/windows": 1}}


@pytest.mark.parametrize(("setting", "servers"), COUNTED.items())
async def test_the_numbers_of_the_fleet_have_the_servers_that_are_taken_in(
    setting: str, servers: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_ARC": setting}, timings=QUICK)
    machine = world.create("vm-01", SUPPORTED)
    systems: tuple[Literal["linux", "windows"], ...] = ("linux", "linux", "windows")
    for number, system in enumerate(systems):
        body = shapes.hybrid_machine(system, location="westeurope")
        world.azure.connect_machine(shapes.hybrid_id(f"srv-{number}", subscription=machine.subscription), body)
    await world.pass_time(minutes=30)
    lines = [line for line in map(json.loads, caplog.messages) if line["event"] == "fleet.counted"]
    newest = {line["image"]: line["machines"] for line in lines}
    assert {image: count for image, count in newest.items() if image.startswith("arc/")} == servers


async def test_a_wait_for_a_limit_is_reported_when_its_number_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World({"PATCH_MAX_IN_FLIGHT": "1", "PATCH_CANARIES": "0"}, timings=QUICK)
    for number in range(4):
        world.create(f"vm-{number}", replace(SUPPORTED, install_seconds=3600))
    await world.pass_time(hours=2)
    limited = [line for line in map(json.loads, caplog.messages) if line["event"] == "fleet.limited"]
    told = [(line["reason"], line["machines"]) for line in limited]
    assert all(one != other for one, other in pairwise(told))
    assert len(told) >= 2
