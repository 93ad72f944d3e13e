"""A directed run: a sweep that stands still between its plan and its dispatch, for longer than its lease lasts.

No seed shows what the lease is for: two sweeps that overlap plan the same machines first, and claims keep them apart.
Here the fleet changes in between, so that the two plans differ. The rollout is open already: a sweep that had to open
it would lose by the ETag of the image's row, too.
"""

from dataclasses import replace
from datetime import timedelta

from functions.cloud.queue import QUEUES
from functions.model.state import OperationKind
from functions.steps.dispatching import dispatch
from functions.steps.find import find
from functions.steps.planning import make_sweep_plan
from functions.steps.sweep import read_ledger
from simulator.azure import Behaviour
from tests.support.world import BOUNDARY, GALLERY, QUICK, World

STANDSTILL = timedelta(minutes=6)  # a lease lasts five


async def canaries_of_a_late_sweep() -> int:
    """Installations that are queued for an image whose rollout allows one canary."""
    world = World({"PATCH_MODE": "assess", "PATCH_CANARIES": "1", "PATCH_BAKE_MINUTES": "60"}, timings=QUICK)
    first = world.create("vm-00", Behaviour(pending={"security": 2}))
    world.create("vm-01", Behaviour(pending={"security": 2}))
    await world.pass_time(hours=3)
    world.set(PATCH_MODE="install")
    image = await world.services.ledger.image(GALLERY.lower(), BOUNDARY)
    assert await world.services.ledger.put_image(image, replace(image.record, opened=world.now))

    late = world.connect()
    lease = await late.ledger.take_sweep("late", world.now)
    assert lease is not None
    sweep = await read_ledger(late)
    plan = await make_sweep_plan(sweep, [candidate async for candidate in find(sweep)])
    assert [item.machine for item in plan.dispatches] == [first]

    world.power(first, "deallocate")
    world.now += STANDSTILL
    await world.sweep()
    await dispatch(sweep, plan, lease)
    return len(world.queue.messages[QUEUES[OperationKind.INSTALL]])
