"""The next sweep reports what people change, once: a pause and its end, a breaker closed or not, a setting, and a
rollout that does not move until a person changes something.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.cloud.ledger import APP
from functions.cloud.rows import VERSION, image_key
from functions.model.image_record import place
from functions.model.state import OperationKind
from simulator.azure import Behaviour, Fault
from tests.support.tables import TableCall
from tests.support.world import BOUNDARY, GALLERY, QUICK, World

GOOD = Behaviour(pending={"security": 2})
BAD = Behaviour(pending={"security": 2}, install_status="Failed")
ROW = image_key(place(GALLERY.lower(), BOUNDARY))
NOT_KNOWN = "not known"


class Told:
    """The journal's lines since this was last asked."""

    def __init__(self, lines: pytest.LogCaptureFixture) -> None:
        lines.set_level("INFO", logger="journal")
        self.lines = lines

    def __call__(self, *events: str) -> list[dict[str, Any]]:
        written = [json.loads(line) for line in self.lines.messages if line.startswith("{")]
        self.lines.clear()
        return [line for line in written if line["event"] in events]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def a_world(**settings: str) -> World:
    """A machine of which nothing is to be installed, in coarse steps."""
    world = World(settings, timings=QUICK)
    world.in_steps(world.sweep_every)
    world.create("at-rest", Behaviour())
    return world


# -- a pause


async def test_a_pause_by_a_row_is_reported_once_and_so_is_its_end(told: Told) -> None:
    world = a_world()
    await world.pass_time(minutes=10)
    assert told("app.paused", "app.resumed", "settings.changed") == [], "a first sweep has nothing to compare"

    await world.pause("a bad patch", by="Jane")
    await world.pass_time(hours=5)
    lines = told("app.paused", "app.resumed", "sweep.finished")
    [paused] = [line for line in lines if line["event"] == "app.paused"]
    assert (paused["reason"], paused["by"]) == ("a bad patch", "Jane")
    seconds = [line["paused_seconds"] for line in lines if line["event"] == "sweep.finished"]
    assert seconds[-1] == pytest.approx(4 * 3600 + 55 * 60, abs=60)

    await world.resume()
    await world.pass_time(hours=1)
    lines = told("app.paused", "app.resumed", "sweep.finished")
    [resumed] = [line for line in lines if line["event"] == "app.resumed"]
    assert (resumed["reason"], resumed["by"], resumed["since"]) == ("a bad patch", NOT_KNOWN, paused["since"])
    assert resumed["seconds"] == pytest.approx(5 * 3600, abs=60)
    assert all("paused_seconds" not in line for line in lines)


async def test_a_pause_by_the_setting_says_that_who_is_not_known(told: Told) -> None:
    world = a_world()
    await world.pass_time(minutes=10)
    world.set(PATCH_PAUSE="on")
    await world.pass_time(hours=1)
    [changed, paused] = sorted(told("app.paused", "settings.changed"), key=lambda line: line["event"], reverse=True)
    assert (paused["reason"], paused["by"]) == ("PATCH_PAUSE is on", NOT_KNOWN)
    assert {"setting": "PATCH_PAUSE", "before": "off", "after": "on", "by": NOT_KNOWN}.items() <= changed.items()
    world.set(PATCH_PAUSE="off")
    await world.pass_time(hours=1)
    assert [line["event"] for line in told("app.paused", "app.resumed")] == ["app.resumed"]


async def test_another_reason_is_reported_and_the_pause_began_when_it_began(told: Told) -> None:
    world = a_world()
    await world.pass_time(minutes=10)
    await world.pause("looking")
    await world.pass_time(hours=1)
    world.table.put(APP, "pause", {"reason": "a bad patch", "by": "Jane"})
    await world.pass_time(hours=1)
    first, second = told("app.paused")
    assert (first["reason"], second["reason"], second["by"]) == ("looking", "a bad patch", "Jane")
    assert first["since"] == second["since"]


async def test_a_queued_installation_that_meets_a_pause_is_reported_as_one_machine(told: Told) -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", GOOD)
    await world.until_queued(OperationKind.INSTALL)
    await world.pause("looking")
    await world.pass_time(hours=1)
    [line] = told("operation.postponed")
    assert (line["machine"], line["kind"], line["reason"]) == (str(machine), "install", "looking")
    assert world.operations(machine, "install") == []


async def test_a_sweep_that_is_killed_before_its_note_tells_it_again_and_loses_nothing(told: Told) -> None:
    world = a_world()
    await world.pass_time(minutes=10)
    world.set(PATCH_CANARIES="2")

    async def dies(call: TableCall) -> None:
        if "settings" in str(call.columns.get("note")):
            raise RuntimeError("killed")

    world.table.before = dies
    with pytest.raises(RuntimeError):
        await world.sweep()

    async def lives(call: TableCall) -> None: ...

    world.table.before = lives
    await world.pass_time(minutes=30)
    assert [line["setting"] for line in told("settings.changed")] == ["PATCH_CANARIES"] * 2


# -- settings


async def test_each_changed_setting_is_reported_once_with_what_it_was(told: Told) -> None:
    world = a_world()
    await world.pass_time(minutes=10)
    world.set(PATCH_CANARIES="3", PATCH_SLA_DAYS="Critical 7, Security 30", PATCH_BLACKOUT="2026-12-24")
    await world.pass_time(hours=1)
    lines = told("settings.changed")
    assert [(line["setting"], line["before"], line["after"]) for line in lines] == [
        ("PATCH_BLACKOUT", "empty", "2026-12-24"),
        ("PATCH_CANARIES", "0", "3"),
        ("PATCH_SLA_DAYS", "30", "Critical 7, Security 30"),
    ]
    assert {line["by"] for line in lines} == {NOT_KNOWN}


# -- a breaker


async def an_open_breaker() -> tuple[World, str]:
    world = a_world(PATCH_CANARIES="1")
    for number in range(3):
        world.create(f"vm-{number:02}", BAD)
    await world.pass_time(hours=3)
    record = await world.image()
    assert record.breaker_open
    return world, record.opening


async def test_a_closed_breaker_is_reported_once_with_who_and_why(told: Told) -> None:
    world, opening = await an_open_breaker()
    told()
    await world.close_breaker(opening, closed_by="Jane", closed_because="the disk was full")
    await world.sweep()
    [line] = told("breaker.closed", "breaker.not-closed")
    assert line == {
        "event": "breaker.closed",
        "image": GALLERY.lower(),
        "boundary": BOUNDARY,
        "opening": opening,
        "row": ROW,
        "by": "Jane",
        "reason": "the disk was full",
    }
    await world.sweep()
    assert told("breaker.closed", "breaker.not-closed") == []


async def test_a_wrong_opening_closes_nothing_and_is_an_error_that_says_what_is_right(told: Told) -> None:
    world, opening = await an_open_breaker()
    told()
    await world.close_breaker("20200101T000000")
    await world.sweep()
    await world.sweep()
    [line] = told("breaker.closed", "breaker.not-closed")
    assert line["event"] == "breaker.not-closed"
    assert opening in line["problem"]
    assert f"closed={opening}" in line["remedy"]
    assert (line["by"], line["row"], line["boundary"]) == (NOT_KNOWN, ROW, BOUNDARY)
    assert (await world.image()).breaker_open

    await world.close_breaker(opening)
    await world.sweep()
    assert [line["event"] for line in told("breaker.closed", "breaker.not-closed")] == ["breaker.closed"]


@pytest.mark.parametrize("row", ["image-0123456789abcdef01234567", "pause-web"])
async def test_a_row_of_no_image_is_an_error_not_silence(told: Told, row: str) -> None:
    world, opening = await an_open_breaker()
    told()
    world.table.put(APP, row, {"closed": opening})
    await world.sweep()
    [line] = told("breaker.closed", "breaker.not-closed")
    assert (line["event"], line["row"]) == ("breaker.not-closed", row)
    assert (await world.image()).breaker_open


async def test_a_row_of_a_newer_release_is_not_judged(told: Told) -> None:
    world, opening = await an_open_breaker()
    told()
    world.table.put(APP, ROW, {**world.table.rows[APP, ROW].columns, "closed": opening, "v": VERSION + 1})
    await world.sweep()
    assert told("breaker.closed", "breaker.not-closed") == []


# -- a rollout that does not move


async def two_of_a_group(**settings: str) -> World:
    """One waits for a window of each night, and the other is off since before the first."""
    nightly = {"PATCH_WINDOW": "daily 22:00-02:00 UTC", **settings}
    world = World(nightly, timings=QUICK, start=datetime(2026, 11, 24, 8, tzinfo=UTC))
    world.in_long_steps()
    for name in ("db-01", "db-02"):
        world.create(name, GOOD, tags={"patch-group": "quorum"})
    world.power(world.machine_id("db-02"), "deallocate")
    await world.pass_time(hours=14)
    return world


async def test_a_rollout_that_does_not_move_is_reported_after_two_openings_once_a_day(told: Told) -> None:
    world = await two_of_a_group()
    await world.pass_time(hours=27)  # until one in the morning, in the second opening
    assert told("rollout.stuck") == []
    await world.pass_time(hours=3)
    [line] = told("rollout.stuck")
    assert (line["image"], line["boundary"], line["waiting"]) == (GALLERY.lower(), BOUNDARY, 1)
    assert (line["stage"], line["state"], line["row"]) == ("ring of the untagged", "waiting-for-group", ROW)
    assert line["reason"].startswith("db-02 of patch-group quorum is off")
    assert "db-02" in line["remedy"]

    await world.pass_time(days=2)
    assert len(told("rollout.stuck")) == 2, "once a day"
    assert world.installed() == []

    world.power(world.machine_id("db-02"), "start")
    await world.pass_time(days=2)
    assert "db-01" in world.installed()
    told()
    await world.pass_time(days=1)
    assert told("rollout.stuck") == []


async def test_a_change_of_settings_gives_a_rollout_two_openings_more(told: Told) -> None:
    world = await two_of_a_group()
    await world.pass_time(hours=10)
    world.set(PATCH_MAX_IN_FLIGHT="20")
    await world.pass_time(hours=23)
    assert told("rollout.stuck") == []


async def test_while_the_app_is_paused_no_rollout_is_reported(told: Told) -> None:
    world = await two_of_a_group()
    await world.pause("looking")
    await world.pass_time(days=2)
    assert told("rollout.stuck") == []
    await world.resume()
    await world.pass_time(days=1)
    assert told("rollout.stuck") == [], "two openings count from then on"


# -- a sweep without all its answers


async def test_a_sweep_says_which_of_its_stages_had_no_answer(told: Told) -> None:
    world = a_world()
    await world.pass_time(minutes=10)
    assert all("incomplete" not in line for line in told("sweep.finished"))
    fault = world.azure.faults.add(
        Fault("POST", "ResourceGraph/resources", times=None, status=429, headers={"Retry-After": "3600"})
    )
    await world.sweep()
    [line] = told("sweep.finished")
    assert line["incomplete"] == "find"
    world.azure.faults.remove(fault)
    await world.sweep()
    assert all("incomplete" not in line for line in told("sweep.finished"))
