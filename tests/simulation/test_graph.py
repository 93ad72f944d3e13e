"""The simulation's Graph gives the same rows as the evaluator of the app's own .kql, over random worlds."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.cloud import queries
from simulator.arm.shapes import hybrid_id, hybrid_machine
from simulator.behaviour import Behaviour
from simulator.identity import CLIENT_ID
from simulator.resource_graph.endpoint import CallerRights
from simulator.resource_graph.graph import Graph
from simulator.resource_graph.query import GraphQuery
from simulator.wire import Request
from tests.simulation import clock
from tests.simulation.faults import Faults
from tests.simulation.graph import ANSWERS, PredicateGraph
from tests.simulation.workload import SUBSCRIPTIONS, Workload
from tests.simulation.world import SeededWorld
from tests.support.world import arm

WORLDS = 6
MOMENTS = 5
TIMES = {"created", "assessment_started", "assessment_modified", "started", "at"}


async def _differences(seed: int) -> list[str]:
    workload = Workload(seed)
    rng = workload.rng
    world = SeededWorld(workload.settings(), random.Random(seed), Faults(random.Random(seed)))
    names = workload.schedule_fleet(world, 12, 2.0)
    workload.schedule_events(world, names, size=12, days=2.0)
    group = f"/subscriptions/{SUBSCRIPTIONS[0]}/resourceGroups/rg-web"
    for number in range(3):
        server = hybrid_id(f"srv-{number}", subscription=SUBSCRIPTIONS[0])
        world.azure.behave(f"srv-{number}", Behaviour(pending={"security": number}))
        body = hybrid_machine("windows" if number else "linux", tags={"Patch-Group": "quorum-0"})
        body["properties"] |= {"osSku": "Ubuntu 22.04.3 LTS"} if not number else {}
        world.azure.connect_machine(server, body)
    ticking = asyncio.ensure_future(world.sweeps(lambda: 3600.0))
    found: list[str] = []
    for moment in range(MOMENTS):
        await asyncio.sleep(rng.uniform(3600, 12 * 3600))
        if moment == 2 and group.lower() in world.azure.world.groups:
            await arm(world.azure, "PATCH", group, body={"tags": {"Patch-Group": "Quorum-1"}})
        if moment == 3:  # until Resource Graph shows that it is being deleted, and not that it is gone
            world.azure.delete_machine(next(iter(world.azure.world.machines)))
            await asyncio.sleep(world.azure.graph.lag_seconds + 10)
        servers = list(world.azure.world.hybrid.values())
        if moment == 1:
            servers[0].status.set(world.azure.now(), "Disconnected")
        elif moment == 2:
            world.azure.start_operation(servers[1].id, "install")
        else:
            world.azure.start_operation(servers[2].id, "assess")
        ids = [machine.id for machine in (*world.azure.world.machines.values(), *servers)] + ["unknown"]
        for name in ANSWERS:
            query = queries.fill(name, **_values(name, rng, ids))
            found += [f"{name}: {text}" for text in _compared(world, query)]
    ticking.cancel()
    return found


def _values(name: str, rng: random.Random, ids: list[str]) -> dict[str, Any]:
    groups = sorted({each.split("/providers/")[0] for each in ids})
    at = datetime(2026, 11, 25, 8, tzinfo=UTC) + timedelta(hours=rng.uniform(0, 40))
    choices: dict[str, Any] = {
        "ids": rng.sample(ids, rng.randint(1, len(ids))) if name != "groups_named" else groups,
        "names": rng.choice((["quorum-0"], ["quorum-0", "quorum-1"])),
        "group_ids": groups[:1],
        "subscriptions": rng.choice((SUBSCRIPTIONS, SUBSCRIPTIONS[:1], ["nobodys"])),
        "shares": rng.sample([f"{share:02x}" for share in range(256)], 200),
        "created_after": at - timedelta(days=rng.choice((0, 30))),
        "assessed_before": at,
        "next_slot_before": at + timedelta(minutes=rng.choice((0, 30))),
        "unsupported_before": at - timedelta(hours=rng.choice((0, 8))),
        "young_after": at,
    }
    return {each: choices.get(each, rng.random() < 0.5) for each in queries.placeholders(name)}


def _compared(world: SeededWorld, query: str) -> list[str]:
    rights = CallerRights(world.azure, CLIENT_ID)
    fast = world.azure.graph
    assert isinstance(fast, PredicateGraph)
    slow = Graph(world.azure.world, fast.lag_seconds, fast.stopped_at)
    asked = GraphQuery.read(Request("POST", "/").json() | {"query": query, "subscriptions": list(SUBSCRIPTIONS)})
    scope = fast.scope(asked, rights)
    mine = [_plain(row) for row in fast.evaluate(asked, scope, rights)[1]]
    right = [_plain(row) for row in slow.evaluate(asked, scope, rights)[1]]
    if mine == right:
        return []
    unlike = [(a, b) for a, b in zip(mine, right, strict=False) if a != b][:1]
    return [f"{len(mine)} rows for {len(right)}; {unlike}"]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Times as moments: the evaluator writes them its own way. A missing bool is read as no."""
    plain: dict[str, Any] = {}
    for name, value in row.items():
        if name in TIMES and value:
            value = datetime.fromisoformat(str(value)).astimezone(UTC)
        plain[name] = value or None
    return plain


@pytest.mark.parametrize("seed", range(WORLDS))
def test_the_predicates_say_what_the_queries_say(seed: int) -> None:
    assert clock.run(_differences(seed)) == []


def test_every_query_of_the_app_is_known() -> None:
    assert set(ANSWERS) == set(queries.names())
