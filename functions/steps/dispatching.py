"""Sends a plan's work, under the sweep's lease: the rollouts that it changes, then claims and messages."""

import asyncio

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import SweepLease
from functions.cloud.rows import image_key
from functions.decisions import notices as told
from functions.decisions.changes import NOT_KNOWN
from functions.decisions.plan import HORIZON, Dispatch, Plan
from functions.decisions.rollout import ring_name, written_on
from functions.model.image_record import ImageRecord, Tally
from functions.model.record import requeue
from functions.model.state import OperationKind
from functions.policy.settings import Settings
from functions.policy.values import Mode
from functions.steps import notices
from functions.steps.start import new_claim, send
from functions.steps.sweep import Sweep

BATCH = 100  # dispatches between two renewals of the lease


async def dispatch(sweep: Sweep, plan: Plan, lease: SweepLease) -> int:
    """Sends the plan's work; returns how many claims were made. Stops when the lease is lost."""
    services, done = sweep.services, 0
    if services.settings.mode is Mode.PLAN:
        plan = _without_installations(sweep, plan)
    lost = await _write_rollouts(sweep, plan, lease)
    dispatches = [item for item in plan.dispatches if not _at_one_of(item, lost, services.settings)]
    for start in range(0, len(dispatches), BATCH):
        if not await lease.renew(services.clock()):
            journal.write("sweep.skipped", reason="the lease ran out", left=len(dispatches) - start)
            break
        batch = dispatches[start : start + BATCH]
        results = await asyncio.gather(*(_send(sweep, item) for item in batch), return_exceptions=True)
        for result in results:
            if isinstance(result, errors.CloudError):
                sweep.fail("dispatch", result)
            elif isinstance(result, BaseException):
                raise result
            else:
                done += result
    return done


async def _write_rollouts(sweep: Sweep, plan: Plan, lease: SweepLease) -> set[str]:
    """Writes the rollouts that this plan changes. Returns the places whose row changed meanwhile: none there goes."""
    lost = set()
    for record in plan.rollouts.values():
        stored = await sweep.services.ledger.image(record.image, record.boundary)
        fresh = written_on(stored.record, record)
        if fresh == stored.record:
            continue
        if not await lease.renew(sweep.services.clock()) or not await sweep.services.ledger.put_image(
            stored.telling(*told.rollout_ended(stored.record, fresh)), fresh
        ):
            lost.add(record.place)
            continue
        _tell_rollout(stored.record, fresh)
    return lost


def _tell_rollout(before: ImageRecord, now: ImageRecord) -> None:
    """The rollout that opened, the one that ended with it, and the rings that opened."""
    if before.opened != now.opened:
        if before.opened:
            tallies, by_hand = before.rings.values(), before.ended == before.rollout
            journal.write(
                "rollout.ended",
                image=before.image,
                boundary=before.boundary,
                cutoff=before.opened,
                succeeded=sum(tally.succeeded for tally in tallies),
                failed=sum(tally.failed for tally in tallies),
                by_hand=by_hand,
                by=(before.ended_by or NOT_KNOWN) if by_hand else None,
                reason=before.ended_because if by_hand else None,
            )
        journal.write(
            "rollout.opened",
            image=now.image,
            boundary=now.boundary,
            cutoff=now.opened,
            rollout=now.rollout,
            row=image_key(now.place),
        )
    for ring, tally in now.rings.items():
        if tally.opened and (before.opened != now.opened or before.rings.get(ring, Tally()).opened is None):
            journal.write("rollout.ring", image=now.image, boundary=now.boundary, ring=ring_name(ring))


def _at_one_of(item: Dispatch, places: set[str], settings: Settings) -> bool:
    candidate = item.candidate
    return candidate is not None and candidate.kind is OperationKind.INSTALL and candidate.place(settings) in places


def _without_installations(sweep: Sweep, plan: Plan) -> Plan:
    """What is sent of a plan in PATCH_MODE=plan: the assessments. No rollout opens."""
    rows = sweep.rows
    kinds = {each.machine: each.candidate.kind if each.candidate else None for each in plan.dispatches}
    kinds |= {machine: rows[machine].record.kind for machine, kind in kinds.items() if not kind and machine in rows}
    sent = [each for each in plan.dispatches if kinds[each.machine] is OperationKind.ASSESS]
    return Plan(sent, plan.waits, {})


async def _send(sweep: Sweep, item: Dispatch) -> bool:
    services, stored, delay = sweep.services, sweep.rows.get(item.machine), item.delay
    if item.candidate is None:
        if stored is None:
            return False
        again = requeue(stored.record, services.token(), services.clock() + delay, sent=True)
        return await send(services, stored, again, delay=delay)
    kind, machine, run = item.candidate.kind, item.candidate.machine, item.candidate.run
    previous = stored.record if stored else None
    if kind is OperationKind.INSTALL:
        wait = await notices.hold_back(sweep, item.candidate, previous)
        if wait > HORIZON:
            return False  # announced: it is claimed once others had their time, by what is true then
        delay = max(delay, wait)
    due_at = services.clock() + delay
    record = new_claim(services, machine, kind, due_at=due_at, previous=previous, run=run.id if run else "")
    claimed = await send(services, stored, record, delay=delay)
    if claimed and not record.is_routine:
        journal.write(
            f"{kind.noun}.queued",
            machine=item.machine,
            reason=item.candidate.step.reason,
            delay_seconds=delay,
        )
    return claimed
