"""Many machines: doubled and shuffled events, storms against the quota, two of everything, and limits of the fleet."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest

from functions.cloud.queue import QUEUES, read_message
from functions.cloud.session import MAX_CONCURRENT_CALLS
from functions.model.state import OperationKind, Phase, State
from functions.steps import install
from simulator.azure import Behaviour, overlaps
from tests.support.world import QUICK, World

SUPPORTED = Behaviour(support_state="Supported", pending={"security": 2})


async def test_a_thousand_doubled_and_shuffled_events_give_a_hundred_assessments() -> None:
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    for number in range(100):
        world.create(f"vm-{number:03}", SUPPORTED)
    writes = [event for event in world.azure.events if event["subject"].lower().count("/virtualmachines/") == 1]
    events = [event for event in writes if not event["subject"].lower().count("/extensions/")] * 10
    random.Random(7).shuffle(events)
    world.now += timedelta(minutes=2)
    await asyncio.gather(*(world.event(event) for event in events))

    assert Counter(operation.kind for operation in world.operations()) == {"assess": 100}
    assert not overlaps(world.operations())


async def test_a_storm_that_outruns_the_quota_ends_with_every_machine_assessed_and_none_failed() -> None:
    """450 machines at once in one region: the bucket holds 300 calls and refills 100 a minute."""
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    world.answer_from_python()
    for number in range(450):
        world.create(f"vm-{number:03}", SUPPORTED)
    world.now += timedelta(minutes=2)
    access = world.services.compute._session
    await asyncio.gather(*(world.event(event) for event in world.fresh_events()))
    burst = len(world.operations())
    assert access.peak_calls <= MAX_CONCURRENT_CALLS
    assert burst < 300, "the events stop before the quota is gone; the sweep owns the pace"

    await world.pass_time(hours=1)
    assert len({operation.machine for operation in world.operations()}) == 450
    assert len(world.operations()) == 450
    assert [record for record in await world.records() if record.history.attempts] == []
    assert {step.state for step in (await world.states()).values()} == {State.ASSESSED}
    throttled = [request for request in world.azure.requests if request[3] == 429]
    assert len(throttled) <= 0.05 * 450


async def test_a_429_postpones_its_machine_and_says_nothing_about_it() -> None:
    from simulator.azure import Fault

    world = World(timings=QUICK)
    answer = {"code": "OperationNotAllowed", "message": "too many requests", "details": [{"code": "TooManyRequests"}]}
    world.azure.faults.add(
        Fault("POST", r".*/assessPatches", times=1, status=429, body=answer, headers={"Retry-After": "120"})
    )
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(minutes=2)
    record = await world.record(machine)
    assert record is not None
    assert (record.phase, record.sent, record.history.attempts) == (Phase.QUEUED, False, 0)
    await world.pass_time(hours=2)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]


async def test_two_sweeps_at_once_hand_out_once() -> None:
    world = World(timings=QUICK)
    world.events_arrive = False
    for number in range(20):
        world.create(f"vm-{number:02}", SUPPORTED)
    world.now += timedelta(minutes=2)
    await asyncio.gather(*(world.sweep(world.connect()) for _ in range(2)))
    assert len(world.queue.messages[QUEUES[OperationKind.ASSESS]]) == 20


async def test_a_sweep_that_died_frees_its_lease_by_time() -> None:
    world = World(timings=QUICK)
    assert await world.services.ledger.take_sweep("dead", world.now)
    world.events_arrive = False
    machine = world.create("vm-01", SUPPORTED)
    world.now += timedelta(minutes=4)
    await world.sweep()
    assert not any(world.queue.messages.values())
    world.now += timedelta(minutes=2)
    await world.sweep()
    await world.messages()
    assert len(world.operations(machine)) == 1


async def test_two_instances_of_every_function_at_once() -> None:
    """Every event, message and sweep is taken by two processes at the same time."""
    world = World(timings=QUICK)
    world.answer_from_python()
    two = (world.connect(), world.connect())
    machines = [world.create(f"vm-{number:02}", SUPPORTED) for number in range(10)]
    for _ in range(120):
        world.now += timedelta(minutes=1)
        fresh = world.fresh_events()
        await asyncio.gather(*(world.event(event, services) for event in fresh for services in two))
        for kind in OperationKind:
            from functions.steps import assess

            step = assess.on_message if kind is OperationKind.ASSESS else install.on_message
            due = world.queue.visible(QUEUES[kind])
            await asyncio.gather(*(step(services, read_message(item.body)) for item in due for services in two))
            for item in due:
                world.queue.messages[QUEUES[kind]].remove(item)
        await asyncio.gather(*(world.sweep(services) for services in two))
    assert not overlaps(world.operations())
    for machine in machines:
        assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]


async def test_the_cap_of_the_fleet_counts_installations_only() -> None:
    world = World({"PATCH_MAX_IN_FLIGHT": "3"}, timings=QUICK)
    for number in range(12):
        world.create(f"vm-{number:02}", SUPPORTED)
    most = 0
    for _ in range(36):
        await world.pass_time(minutes=5)
        running = [o for o in world.operations(kind="install") if o.started <= world.now < o.ends]
        most = max(most, len(running))
    assert most == 3
    assert len(world.operations(kind="install")) == 12


@pytest.mark.parametrize("machines", [5, 60])
async def test_a_sweep_over_a_fleet_at_rest_costs_the_same_however_large_it_is(machines: int) -> None:
    world = World({"PATCH_MODE": "assess"}, timings=QUICK)
    for number in range(machines):
        world.create(f"vm-{number:02}", SUPPORTED)
    await world.pass_time(hours=2)
    calls, reads = len(world.azure.requests), world.table.calls["get"]
    await world.sweep()
    asked = [request[2].rsplit("/", 1)[-1] for request in world.azure.requests[calls:]]
    assert set(asked) == {"resources"}
    assert len(asked) <= 6, "the due machines, the fleet's counts and one share of the census, whatever the size"
    assert world.table.calls["get"] - reads <= 4
