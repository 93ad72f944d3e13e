"""From a claim to an operation in Azure: what the two steps, assess and install, have in common.

current_claim() checks that a message's claim is still current; recheck() reads the machine afresh and decides again;
start_operation() is the only place that sends a POST: begin in the ledger, send once, record the answer. Before begin a
failure may be raised and the message is redelivered; after it nothing is raised: the ledger then says what follows.
"""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import Stored
from functions.cloud.queue import Message
from functions.decisions import notices, rollout
from functions.model.machine import Machine, PatchAssessment, SupportState
from functions.model.record import SEND_WITHIN, UNKNOWN_DURATION, Record, accepted, begin, claim, release, requeue
from functions.model.run import Run
from functions.model.state import Cause, OperationKind, Phase, State, Step, Wait
from functions.model.stop import Scope, Stop, Stops
from functions.model.text import BadInput, Json
from functions.policy.settings import Settings
from functions.policy.tags import tag_overrides
from functions.policy.values import Mode, Reboot
from functions.services import Services
from functions.steps.holds import forget, hold_for, hold_refused, hold_step, postpone
from functions.steps.observe import (
    Gone,
    Observation,
    Refused,
    Seen,
    Throttled,
    Unreadable,
    decide,
    log_unreadable,
    observe,
    observe_resource_group,
    observe_results,
    observe_scale_set,
)

MAX_CHECKS = 4  # how often a machine still being built is checked, each time after twice the wait
NOT_READY = (State.BUILDING, State.AGENT_NOT_READY, State.TOO_NEW)


def new_claim(
    services: Services,
    machine: Machine,
    kind: OperationKind,
    *,
    due_at: datetime | None = None,
    previous: Record | None = None,
    run: str = "",
) -> Record:
    """A claim under a fresh token, due now or at `due_at`, with the ring and group that the machine's tags name."""
    tags = tag_overrides(machine)
    return claim(
        machine,
        kind,
        token=services.token(),
        due_at=due_at or services.clock(),
        ring=tags.ring,
        group=tags.group,
        boundary=rollout.boundary(machine, services.settings),
        previous=previous,
        run=run,
    )


async def current_claim(services: Services, message: Message, kind: OperationKind) -> Stored | None:
    """The claim a message names, if it is still the machine's current one; a late or doubled message is dropped."""
    stored = await services.ledger.read(message.machine)
    record = stored.record if stored else None
    if record and (record.token, record.phase, record.kind) == (message.claim, Phase.QUEUED, kind):
        return stored
    journal.write("message.stale", machine=message.machine, kind=kind, phase=record.phase if record else "none")
    return None


class Rechecked(NamedTuple):
    """A claim's machine as it is now, and what follows; `run`: the run on demand that ordered it."""

    machine: Machine
    step: Step
    run: Run | None


async def recheck(services: Services, stored: Stored) -> Rechecked | None:
    """Reads the machine and its group, and decides again.

    None: it is gone, it cannot be read, or its run no longer wants it; the row says so. Raises Unavailable: the row is
    still queued, so the message is redelivered.
    """
    record = stored.record
    run = await services.ledger.run(record.run) if record.run else None
    if reason := _not_wanted(record, run, services.clock()):
        await give_back(services, stored, reason)
        return None
    if record.machine.is_arc and not services.settings.include_arc:  # claimed before the setting went off
        await give_back(services, stored, "an Arc-enabled server, and PATCH_ARC is off")
        return None
    seen = await observe(services, record.machine, vm_id=record.vm_id)
    if isinstance(seen, Seen):
        seen = await observe_resource_group(services, seen.machine)
    if isinstance(seen, Seen):
        seen = await observe_scale_set(services, seen.machine)
    if isinstance(seen, Seen):
        seen = await observe_results(services, seen.machine)
    if not isinstance(seen, Seen):
        await _not_seen(services, stored, seen)
        return None
    verdict = record.verdict
    if verdict is not None and seen.machine.image.key != record.image:
        verdict = PatchAssessment(SupportState.ABSENT)  # what Graph said was said of another image
    machine = replace(seen.machine, verdict=verdict)
    return Rechecked(machine, await decide(services, machine, record, run=run), run)


async def _not_seen(services: Services, stored: Stored, seen: Observation) -> None:
    """What follows for a claim whose machine could not be seen."""
    match seen:
        case Gone():
            await forget(services, stored)
        case Throttled(throttled):
            await postpone(services, stored, throttled)
        case Refused(refused):
            await hold_refused(services, stored, refused)
        case Unreadable(problem, what):
            log_unreadable(stored.record.machine, what, problem)
            reason = f"ARM's answer cannot be read: {problem}"
            await hold_for(services, stored, Wait(State.FAILED, reason, cause=Cause.OWNER))


async def start_operation(
    services: Services,
    stored: Stored | None,
    record: Record,
    *,
    machine: Machine,
    order: Json | None = None,
    limit: timedelta = UNKNOWN_DURATION,
) -> None:
    """Begin, POST, record. `stored` is None for an event: its row is inserted in `starting`.

    It follows the decision at once, which holds for SEND_WITHIN, the order's duration too. Raises Unavailable where it
    holds no more before begin.
    """
    send_by = services.clock() + SEND_WITHIN
    if await _is_stopped(services, stored, record=record, machine=machine):
        return
    if (now := services.clock()) > send_by:
        raise errors.Unavailable("reading the ledger took too long: what was decided before it is no longer fresh")
    no_reboot = order is not None and order.get("rebootSetting") == Reboot.NEVER.wire
    begun = await services.ledger.put(stored, begin(record, machine, limit, now=now, reboot_forbidden=no_reboot))
    if begun is None:
        journal.write("message.stale", **record.log_fields(), phase="taken by another")
        return
    try:
        answer = await services.compute.start(machine, record.kind, order=order, send_by=send_by)
    except errors.OutcomeUnknown as unknown:  # the row stays in starting: a sweep finds the operation on the machine
        journal.write("operation.unknown", **record.log_fields(), problem=unknown)
        return
    except (errors.CloudError, BadInput) as error:
        await _not_started(services, begun, error)
        return
    if not record.is_routine:
        journal.write(
            f"{record.kind.noun}.started",
            machine=machine.id,
            operation=answer.operation_id,
            image=machine.image.key,
            region=record.region,
        )
    running = accepted(begun.record, answer.operation_id, answer.url, started_at=services.clock())
    await _after_begin(services.ledger.replace(begun.telling(*notices.started(running)), running))


async def stop_of(services: Services, machine: Machine) -> Stop | None:
    """What a person stopped that covers the machine, read afresh."""
    stops = Stops.in_force(await services.ledger.stops(machine.id), services.clock())
    return stops.of(machine, services.settings.owner_tag)


async def _is_stopped(services: Services, stored: Stored | None, *, record: Record, machine: Machine) -> bool:
    """Whether settings, a person's stop or the end of its run forbid the call. The claim waits, or is given back."""
    now, reason, stop = services.clock(), forbidden_by_settings(services.settings, record.kind), None
    if stored and record.run and (unwanted := _not_wanted(record, await services.ledger.run(record.run), now)):
        await give_back(services, stored, unwanted)
        return True
    if not reason:
        stop = await stop_of(services, machine)
        reason = stop.text if stop else ""
    if not reason:
        return False
    journal.write("operation.postponed", **record.log_fields(), reason=reason)
    if stop is None or stop.scope is Scope.EVERYTHING:
        await services.ledger.put(stored, requeue(record, services.token(), now, sent=False))
    elif stored:  # the sweep decides again once the stop has ended
        await services.ledger.replace(stored, release(record, now))
    return True


def _not_wanted(record: Record, run: Run | None, now: datetime) -> str:
    """Why the run that ordered a claim wants nothing of it any more; "" while it does, or where no run ordered it."""
    if not record.run or (run and run.wants(now)):
        return ""
    return f"run {record.run} was stopped, is over, or is gone"


async def give_back(services: Services, stored: Stored, reason: str) -> None:
    """The claim ends without a call: the next sweep decides on the machine as on any other."""
    journal.write("operation.postponed", **stored.record.log_fields(), reason=reason)
    await services.ledger.replace(stored, release(stored.record, services.clock()))


def forbidden_by_settings(settings: Settings, kind: OperationKind) -> str:
    """Why settings allow no operation of this kind; "" when they do."""
    if not mode_allows(settings.mode, kind):
        return f"PATCH_MODE is {settings.mode.name.lower()}"
    return "PATCH_PAUSE is on" if settings.paused else ""


def mode_allows(mode: Mode, kind: OperationKind) -> bool:
    """Whether calls of this kind may leave. In mode plan the app assesses, and says what it would install."""
    return mode > Mode.PLAN or (mode is Mode.PLAN and kind is OperationKind.ASSESS)


async def retry_when_ready(services: Services, stored: Stored | None, record: Record, *, step: Step) -> None:
    """Another check after 1, 2, 4, 8 times PATCH_READY_MINUTES; then the machine is held with its reason."""
    checks = record.checks + 1
    if checks > MAX_CHECKS and stored:
        await hold_step(services, stored, step)
        return
    delay = services.settings.first_check * 2 ** (checks - 1)
    if step.state is State.TOO_NEW and step.when:
        delay, checks = max(step.when - services.clock(), timedelta(0)), record.checks
    again = requeue(record, services.token(), services.clock() + delay, sent=True, checks=checks)
    journal.write("machine.deferred", machine=record.machine, state=step.state, reason=step.reason, delay_seconds=delay)
    await send(services, stored, again, delay=delay)


async def send(services: Services, stored: Stored | None, record: Record, *, delay: timedelta) -> bool:
    """Claims, then sends the claim's message. False: another writer claimed the machine first.

    A message that could not be sent leaves its row unsent, for the next sweep to send.
    """
    claimed = await services.ledger.put(stored, record)
    if claimed is None:
        return False
    try:
        await services.queue.send(record.kind, Message(record.machine, record.token), delay.total_seconds())
    except errors.CloudError:
        await services.ledger.replace(claimed, replace(record, sent=False))
        raise
    return True


async def _not_started(services: Services, begun: Stored, error: Exception) -> None:
    """A POST that certainly started nothing."""
    match error:
        case errors.Gone():
            await _after_begin(forget(services, begun))
        case errors.Refused():
            await _after_begin(hold_refused(services, begun, error))
        case errors.Throttled():
            await _after_begin(postpone(services, begun, error))
        case errors.Unavailable():
            journal.write("operation.abandoned", **begun.record.log_fields(), problem=error)
            again = requeue(begun.record, services.token(), services.clock(), sent=False)
            await _after_begin(services.ledger.replace(begun, again))
        case _:
            raise error


async def _after_begin(write: Awaitable[object]) -> None:
    """After begin the message is always completed: if this write fails, a sweep recovers the row."""
    try:
        await write
    except errors.CloudError as error:
        journal.write("operation.unknown", problem=error)
