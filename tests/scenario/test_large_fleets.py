"""What a large fleet does to a sweep: quotas of reads, slow pages, answers that are too large or cut.

Factors: what is large × what Azure answers then. Each is a limit of speed, and none a failure of a machine.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from functions.cloud import resource_graph
from functions.cloud.arm import Outcome
from functions.cloud.errors import Refused, Throttled, Unavailable
from functions.cloud.resource_graph import COUNTS_SHOWN
from functions.model.machine import Machine, MachineId
from functions.model.record import Record
from functions.model.state import OperationKind, Phase
from functions.model.text import Json
from functions.steps import observe, report, track
from functions.steps.observe import UsedUp
from functions.steps.sweep import read_ledger
from simulator.azure import Behaviour, Fault
from tests.support import PAYLOADS, a_record
from tests.support.world import QUICK, START, World

LIMITS = json.loads((PAYLOADS / "resource_graph_limits.json").read_text())
TOO_LARGE = next(each for each in LIMITS["errors"] if each["case"] == "answer over the size limit")
READS, REFILL = 250, 25  # of Resource Manager, at once and per second


async def nothing() -> None: ...


class CountedReads:
    """Resource Manager's bucket of reads, per subscription, around the app's own reads of operations."""

    def __init__(self, world: World, *, left: int = READS) -> None:
        self.world, self.left, self.at, self.refused = world, float(left), world.now, 0
        self.asked: Counter[str] = Counter()

    async def outcome(self, machine: Any, url: str) -> Any:
        self.left = min(READS, self.left + REFILL * (self.world.now - self.at).total_seconds())
        self.at = self.world.now
        if self.left < 1:
            self.refused += 1
            raise Throttled("reading an operation's status: the quota is used up", 5)
        self.left -= 1
        self.asked[machine.name] += 1
        return Outcome("InProgress", {})


async def running(world: World, number: int) -> list[Record]:
    rows = [
        a_record(
            machine=world.machine_id(f"vm-{each:04}"),
            phase=Phase.RUNNING,
            kind=OperationKind.ASSESS,
            operation_id="op",
            operation_url="url",
            started_at=world.now,
        )
        for each in range(number)
    ]
    for row in rows:
        await world.services.ledger.insert(row)
    return rows


async def tracked(world: World, compute: Any) -> None:
    sweep = await read_ledger(replace(world.services, compute=compute))
    await track.operations(sweep.services, list(sweep.rows.values()), UsedUp(), stay=nothing)


async def test_a_quota_of_reads_that_is_used_up_is_one_line_of_information(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    await running(world, 600)
    compute = CountedReads(world, left=30)  # others have used it
    await tracked(world, compute)
    lines = [(record.levelname, json.loads(record.message)["event"]) for record in caplog.records]
    assert lines == [("INFO", "quota.exhausted")]
    assert compute.refused <= observe.READS_AT_ONCE, "then it is left in peace"


async def test_tracking_keeps_to_the_quota_of_reads_and_asks_everyone_in_turn() -> None:
    world = World(timings=QUICK)
    rows = await running(world, 1500)
    compute = CountedReads(world)
    for place in (0.0, 0.3, 0.6, 0.9):
        world.services.jitter = lambda place=place: place  # type: ignore[misc]
        await tracked(world, compute)
        world.now += timedelta(minutes=5)
    assert compute.refused == 0
    assert compute.asked.keys() == {row.machine.name for row in rows}


class SlowReads:
    """Resource Manager, whose reads of machines take half a second each and bring no answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: Counter[str] = Counter()

    async def machine(self, machine: MachineId) -> Machine:
        self.world.now += timedelta(seconds=0.5)
        self.asked[machine.name] += 1
        raise Unavailable("reading a machine: the service answered 500")


AN_HOUR_AGO = START - timedelta(hours=1)
# what the rows of machines say that Resource Graph does not show
NOT_SHOWN: dict[str, dict[str, Any]] = {
    "assessments that ended": {"phase": Phase.ENDED, "ended_at": AN_HOUR_AGO},
    "assessments that failed": {"phase": Phase.ENDED, "ended_at": AN_HOUR_AGO, "reason": "the time ran out"},
    "installations that ended": {"kind": OperationKind.INSTALL, "phase": Phase.ENDED, "ended_at": AN_HOUR_AGO},
    "holds that are over": {"phase": Phase.HELD, "reason": "the agent is silent", "not_before": AN_HOUR_AGO},
}


@pytest.mark.parametrize("row", NOT_SHOWN.values(), ids=NOT_SHOWN)
async def test_machines_that_resource_graph_does_not_show_are_asked_for_in_turn(row: dict[str, Any]) -> None:
    """It may be late by a day: no sweep may lose its ten minutes on them."""
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    world.create("web-01", Behaviour(), tags={"patch-mode": "off"})
    world.fresh_events()
    names = [f"vm-{each:04}" for each in range(1_500)]
    for name in names:
        await world.services.ledger.insert(a_record(machine=world.machine_id(name), **row))
    compute = SlowReads(world)
    world.services.compute = compute  # type: ignore[assignment]
    for turn in range(8):
        world.services.jitter = lambda turn=turn: turn / 8  # type: ignore[misc]
        began = world.now
        await world.sweep()
        assert world.now - began <= timedelta(minutes=5)
    assert compute.asked.keys() == set(names)
    assert len(await world.records()) == len(names)


@pytest.mark.parametrize("seconds", [20, 50], ids=lambda seconds: f"{seconds} s for a page")
async def test_a_sweep_that_reads_for_long_keeps_its_lease_and_hands_out(seconds: float) -> None:
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    world.events_arrive = False
    for number in range(8):
        world.create(f"vm-{number}", Behaviour())
    world.now += timedelta(minutes=5)
    real = world.services.graph.due_machines

    async def slow(created_after: datetime, now: datetime, *, whatever_window: bool = False) -> AsyncIterator[Machine]:
        async for machine in real(created_after, now, whatever_window=whatever_window):
            world.now += timedelta(seconds=seconds)
            yield machine

    world.services.graph.due_machines = slow  # type: ignore[method-assign]
    await world.sweep()
    assert len(await world.records()) == 8


async def test_an_answer_over_the_size_limit_is_asked_for_in_smaller_pages() -> None:
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    world.create("vm-01", Behaviour())
    world.now += timedelta(minutes=5)
    body = {"error": {"code": TOO_LARGE["code"], "message": "too large", "details": TOO_LARGE["details"]}}
    fault = Fault("POST", "ResourceGraph/resources", times=3, status=TOO_LARGE["http_status"], body=body)
    world.azure.faults.add(fault)
    found = [machine.id.name async for machine in world.services.graph.census()]
    assert (found, fault.hits) == (["vm-01"], 3)


async def test_pages_grow_again_after_one_that_was_too_large() -> None:
    """Each page that comes doubles the next one, up to the most; the next query starts with the most."""
    world = World(timings=QUICK)
    graph, asked = world.services.graph, list[int]()
    codes = [TOO_LARGE["code"], *(detail["code"] for detail in TOO_LARGE["details"])]

    async def send(body: Json) -> resource_graph._Page:
        asked.append(body["options"]["$top"])
        if len(asked) <= 2:
            raise Refused("querying Resource Graph", status=400, codes=codes, message="")
        token = f"page {len(asked)}" if len(asked) < 6 else None
        return resource_graph._Page([], token, cut_short=False)

    graph._send = send  # type: ignore[method-assign]
    for _ in range(2):
        assert await graph.resource_groups(["a"]) == {}
    assert asked == [1000, 500, 250, 500, 1000, 1000, 1000]


@pytest.mark.parametrize(
    ("answered", "truncated", "shown", "cut"),
    [
        pytest.param(3, "false", 3, None, id="few"),
        pytest.param(COUNTS_SHOWN, "false", COUNTS_SHOWN, None, id="as many as are shown"),
        pytest.param(COUNTS_SHOWN + 1, "false", COUNTS_SHOWN, COUNTS_SHOWN, id="one more"),
        pytest.param(500, "true", 500, 500, id="a smaller page, truncated"),
    ],
)
async def test_more_pairs_of_state_and_image_than_a_page_holds_are_cut_and_said_so(
    caplog: pytest.LogCaptureFixture, answered: int, truncated: str, shown: int, cut: int | None
) -> None:
    """Resource Graph gives one page of a summarize, and no token."""
    caplog.set_level("INFO", logger="journal")
    world = World(timings=QUICK)
    rows = [{"state_name": "Supported", "image_name": f"i{each}", "machines": 1} for each in range(answered)]
    answer = {"totalRecords": answered, "count": answered, "data": rows, "facets": [], "resultTruncated": truncated}
    world.azure.faults.add(Fault("POST", "ResourceGraph/resources", status=200, body=answer))
    await report.fleet(world.services)
    lines = [json.loads(line) for line in caplog.messages]
    assert len(lines) == shown
    assert {line.get("cut") for line in lines} == {cut}
