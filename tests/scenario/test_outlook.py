"""What a sweep reports of what is to come, and that it comes so: openings, who is late, what would help."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.cloud.errors import Unavailable
from functions.steps import reconcile
from functions.steps.sweep import SweepFailed
from simulator.azure import Behaviour
from tests.support.world import QUICK, World

FRIDAY = datetime(2026, 11, 27, 8, 0, tzinfo=UTC)
SATURDAY = {"PATCH_WINDOW": "Sat 22:00-02:00 UTC", "PATCH_BAKE_MINUTES": "60", "PATCH_CANARIES": "1"}


def told(lines: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    written = (json.loads(line) for line in lines.messages if line.startswith("{"))
    return [line for line in written if line["event"] == event]


async def a_fleet(
    lines: pytest.LogCaptureFixture, count: int, tags: dict[str, str] | None = None, **settings: str
) -> World:
    lines.set_level("INFO", logger="journal")
    world = World({**SATURDAY, **settings}, timings=QUICK, start=FRIDAY)
    world.in_steps(timedelta(minutes=15))
    for number in range(count):
        world.create(f"vm-{number:02}", Behaviour(pending={"security": 2}), tags=tags)
    await world.pass_time(hours=26)
    return world


async def test_the_opening_told_the_day_before_is_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    world = await a_fleet(caplog, 6)
    assert world.installed() == []
    line = told(caplog, "opening.forecast")[-1]
    assert (line["waiting"], line["canaries"], line["fit"], line["left"]) == (6, 1, 5, 0)
    assert datetime.fromisoformat(line["opens"]) == datetime.fromisoformat("2026-11-28T22:00:00+00:00")
    await world.pass_time(hours=30)
    assert len(world.installed()) == 6
    assert all(line["opens"] <= each.started.isoformat() < line["closes"] for each in world.operations(kind="install"))


@pytest.mark.parametrize(
    ("limit", "tags"),
    [
        pytest.param("7", {}, id="by PATCH_SLA_DAYS"),
        pytest.param("30", {"patch-sla": "Critical 3, Security 7"}, id="by a tag"),
    ],
)
async def test_who_is_late_is_reported_with_what_would_help(
    caplog: pytest.LogCaptureFixture, limit: str, tags: dict[str, str]
) -> None:
    settings = {"PATCH_MAX_IN_FLIGHT": "1", "PATCH_MAX_PER_IMAGE": "1", "PATCH_CANARIES": "0", "PATCH_SLA_DAYS": limit}
    await a_fleet(caplog, 12, tags, **settings)
    [line] = {line["reason"]: line for line in told(caplog, "settings.advised") if "machines" in line}.values()
    assert (line["machines"], line["waiting"]) == (4, 12), "eight of half an hour fit into four hours"
    assert line["reason"].startswith(
        "4 of 12 waiting machines are installed later than 7 days from now, the last 2026-"
    )
    assert line["remedy"] == "Set PATCH_MAX_IN_FLIGHT to 2 and PATCH_MAX_PER_IMAGE to 2; then all are in time."


async def test_it_is_reported_once_a_day_and_at_an_opening_not_in_every_sweep(caplog: pytest.LogCaptureFixture) -> None:
    world = await a_fleet(caplog, 2)
    before = len(told(caplog, "opening.forecast"))
    await world.pass_time(hours=12)
    assert len(told(caplog, "opening.forecast")) - before <= 2


@pytest.mark.parametrize("query", ["last_installations", "image_sizes"])
async def test_without_an_answer_about_what_limits_them_no_installation_begins(query: str) -> None:
    world = World({"PATCH_MODE": "assess", "PATCH_MAX_IN_FLIGHT": "50%"}, timings=QUICK)
    old = world.create("vm-01", Behaviour(pending={"security": 2}))
    await world.pass_time(minutes=30)
    world.set(PATCH_MODE="install")
    new = world.create("vm-02", Behaviour(pending={"security": 2}))
    world.now += timedelta(minutes=30)

    async def silent(asked: object) -> None:
        raise Unavailable("querying Resource Graph: no answer")

    setattr(world.services.graph, query, silent)
    with pytest.raises(SweepFailed, match="plan"):
        await reconcile.run(world.services)
    records = await world.records()
    assert [(record.machine, record.kind.value) for record in records] == [(new, "assess")], "assessments go on"
    assert world.operations(old, "install") == []
