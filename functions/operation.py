"""From a claim to an operation in Azure: what the two steps, assess and install, have in common.

take() checks that a message's claim is still current; look() reads the machine afresh and decides again; launch() is
the narrow place where a POST leaves: begin in the ledger, send once, record the answer. Before begin a failure may be
raised and the message comes again; after it nothing is raised, because the ledger then says what follows.
"""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta

from functions import journal
from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Throttled, Unavailable, meaning_of_refusal
from functions.cloud.ledger import NewerRow, Stored
from functions.cloud.work_queue import Message
from functions.decision import State, Step, next_step
from functions.doors import Doors
from functions.machine import BadInput, Json, Kind, Machine, SupportState, Verdict
from functions.policy import Mode, wishes_of
from functions.record import (
    A_WEEK,
    SEND_WITHIN,
    Cause,
    Phase,
    Record,
    accepted,
    backoff,
    begin,
    claim,
    hold,
    requeue,
)

LOOKS = 4  # how often a machine still being built is looked at, each time after twice the wait
OWNER_RETRY = timedelta(hours=24)  # an owner's hold is looked at daily, for changes that make no event (a group's tag)
TRANSIENT_TRIES = 5  # failures in a row before what should have passed becomes its owner's
NOT_READY = (State.BUILDING, State.AGENT_NOT_READY, State.SETTLING)


def new_claim(
    doors: Doors, machine: Machine, kind: Kind, *, due_at: datetime | None = None, previous: Record | None = None
) -> Record:
    """A claim under a fresh token, due now or at `due_at`, with the ring and group that the machine's tags name."""
    tags = wishes_of(machine)
    return claim(
        machine,
        kind,
        token=doors.token(),
        due_at=due_at or doors.clock(),
        ring=tags.ring,
        group=tags.group,
        previous=previous,
    )


async def take(doors: Doors, message: Message, kind: Kind) -> Stored | None:
    """The claim a message names, if it is still the machine's current one; a late or doubled message is dropped."""
    try:
        stored = await doors.ledger.read(message.machine)
    except NewerRow as newer:
        journal.write("ledger.newer", machine=message.machine, problem=newer)
        return None
    record = stored.record if stored else None
    if record and (record.token, record.phase, record.kind) == (message.claim, Phase.QUEUED, kind):
        return stored
    journal.write("message.stale", machine=message.machine, kind=kind, phase=record.phase if record else "none")
    return None


async def look(doors: Doors, stored: Stored) -> tuple[Machine, Step] | None:
    """Reads the machine and its group, and decides again. None: it is gone, or it cannot be read; the row says so.

    Raises Unavailable: the row is still queued, so the message may come again. Throttled reads are no failure of the
    machine either: the claim goes back to the sweep.
    """
    record = stored.record
    try:
        machine = await doors.compute.machine(record.machine)
        machine = machine.in_group(await doors.compute.group(record.machine))
    except Gone:
        await forget(doors, stored)
        return None
    except Throttled as throttled:
        await _postpone(doors, stored, throttled)
        return None
    except Refused as refused:
        await hold_refused(doors, stored, refused)
        return None
    except BadInput as problem:
        journal.write("machine.unreadable", where="ARM", machine=record.machine, problem=problem)
        await hold_for(doors, stored, Cause.OWNER, State.HELD, f"ARM's answer cannot be read: {problem}", "")
        return None
    if machine.vm_id != record.vm_id:
        await forget(doors, stored)
        return None
    verdict = record.verdict
    if verdict is not None and machine.image.key != record.image:
        verdict = Verdict(SupportState.ABSENT)  # what Graph said was said of another image
    machine = replace(machine, verdict=verdict)
    return machine, next_step(machine, record, doors.settings, await doors.created_after(), doors.clock())


async def launch(
    doors: Doors, stored: Stored | None, record: Record, machine: Machine, order: Json | None, limit: timedelta
) -> None:
    """Begin, POST, record. `stored` None: the event's road, whose row goes straight to starting."""
    now = doors.clock()
    if reason := await stopped(doors):
        journal.write("app.paused", machine=machine.id, kind=record.kind, reason=reason)
        await doors.ledger.put(stored, requeue(record, doors.token(), now, sent=False))
        return
    begun = await doors.ledger.put(stored, begin(record, machine, limit, now))
    if begun is None:
        journal.write("message.stale", machine=machine.id, kind=record.kind, phase="taken by another")
        return
    try:
        answer = await doors.compute.start(machine, record.kind, order, now + SEND_WITHIN)
    except OutcomeUnknown as unknown:  # the row stays in starting: a sweep looks at the machine
        journal.write("operation.unknown", machine=machine.id, kind=record.kind, problem=unknown)
        return
    except (CloudError, BadInput) as error:
        await _not_started(doors, begun, error)
        return
    name = "assessment.started" if record.kind is Kind.ASSESS else "installation.started"
    journal.write(
        name, machine=machine.id, operation=answer.operation_id, image=machine.image.key, region=record.region
    )
    await _record(doors, begun, accepted(begun.record, answer.operation_id, answer.url, doors.clock()))


async def stopped(doors: Doors) -> str:
    """Why nothing may be started now; "" when it may. A person's pause, or a mode that calls nothing."""
    if doors.settings.mode in (Mode.OFF, Mode.PLAN):
        return f"PATCH_MODE is {doors.settings.mode.name.lower()}"
    return doors.settings.paused * "PATCH_PAUSE is on" or await doors.ledger.paused()


async def look_again(doors: Doors, stored: Stored | None, record: Record, step: Step) -> None:
    """Another look after 1, 2, 4, 8 times PATCH_READY_MINUTES; then the machine is held with its reason."""
    looks = record.looks + 1
    if looks > LOOKS and stored:
        await hold_step(doors, stored, step)
        return
    delay = doors.settings.first_look * 2 ** (looks - 1)
    if step.state is State.SETTLING and step.when:
        delay, looks = max(step.when - doors.clock(), timedelta(0)), record.looks
    again = requeue(record, doors.token(), doors.clock() + delay, sent=True, looks=looks)
    journal.write("machine.deferred", machine=record.machine, state=step.state, reason=step.reason, delay_seconds=delay)
    await send(doors, stored, again, delay)


async def send(doors: Doors, stored: Stored | None, record: Record, delay: timedelta) -> bool:
    """Claims, then sends the claim's message. False: somebody else has the machine.

    A message that could not be sent leaves its row unsent, for the next sweep to send.
    """
    claimed = await doors.ledger.put(stored, record)
    if claimed is None:
        return False
    try:
        await doors.queue.send(record.kind, Message(record.machine, record.token), delay.total_seconds())
    except CloudError:
        await doors.ledger.replace(claimed, replace(record, sent=False))
        raise
    return True


async def hold_step(doors: Doors, stored: Stored, step: Step) -> None:
    """A Wait or Leave at the second look: the row keeps its reason, so that sweeps do not ask again too early."""
    record, until = stored.record, step.when
    if until is None:
        record, until = _next_try(doors, record, step.cause)
    else:
        until = min(until, _assessed_until(doors, record))
    journal.write(
        "machine.waiting", machine=record.machine, verb=step.verb, state=step.state, reason=step.reason,
        remedy=step.remedy, until=until,
    )  # fmt: skip
    await doors.ledger.replace(stored, hold(record, step.cause, until, step.state, step.reason, step.remedy))


def _assessed_until(doors: Doors, record: Record) -> datetime:
    """When the machine's assessment is due again. A wait that lasted longer would keep the machine from it, and would
    stand by settings of long ago."""
    now, interval = doors.clock(), doors.settings.min_interval
    assessed = record.verdict.assessed if record.verdict else None
    due = (assessed or now) + interval
    return due if due > now else now + interval


async def hold_for(doors: Doors, stored: Stored, cause: Cause, state: State, reason: str, remedy: str) -> None:
    """A failure: held by its cause; what should have passed by itself becomes its owner's after five tries."""
    if cause is Cause.TRANSIENT and stored.record.attempts >= TRANSIENT_TRIES:
        cause = Cause.OWNER
        remedy = remedy or "It does not pass by itself: find out why, then restart the machine."
    record, until = _next_try(doors, stored.record, cause)
    journal.write(
        "machine.held", machine=record.machine, kind=record.kind, cause=cause, state=state, reason=reason,
        remedy=remedy, attempts=record.attempts, until=until,
    )  # fmt: skip
    await doors.ledger.replace(stored, hold(record, cause, until, state, reason, remedy))


def _next_try(doors: Doors, record: Record, cause: Cause) -> tuple[Record, datetime]:
    """One more attempt, and when the next may be: growing waits, a day for an owner, a week for what cannot be."""
    record = replace(record, attempts=record.attempts + 1)
    fixed = {Cause.OWNER: OWNER_RETRY, Cause.NEVER: A_WEEK}.get(cause)
    return record, doors.clock() + (fixed or backoff(doors.settings.first_retry, record.attempts, doors.jitter()))


async def hold_refused(doors: Doors, stored: Stored, refused: Refused) -> None:
    meaning, record = meaning_of_refusal(refused.status, refused.codes, refused.message), stored.record
    journal.write(
        "operation.refused", machine=record.machine, kind=record.kind, status=refused.status, code=refused.code,
        message=refused.message, cause=meaning.cause,
    )  # fmt: skip
    state = State.UNSUPPORTED if meaning.unsupported else State.HELD
    state = State.BUSY if meaning.cause is Cause.CONFLICT else state
    reason = f"{meaning.text} ({refused.status} {refused.code})".replace(" )", ")")
    await hold_for(doors, stored, meaning.cause, state, reason, meaning.remedy)


async def forget(doors: Doors, stored: Stored) -> None:
    """The machine was deleted, or another one has its name: nothing is remembered of it."""
    journal.write("machine.gone", machine=stored.record.machine, phase=stored.record.phase)
    await doors.ledger.delete(stored)


async def _not_started(doors: Doors, begun: Stored, error: Exception) -> None:
    """A POST that certainly started nothing."""
    record, now = begun.record, doors.clock()
    if isinstance(error, Gone):
        await _swallow(forget(doors, begun))
    elif isinstance(error, Refused):
        await _swallow(hold_refused(doors, begun, error))
    elif isinstance(error, Throttled):
        await _swallow(_postpone(doors, begun, error))
    elif isinstance(error, Unavailable):
        journal.write("operation.abandoned", machine=record.machine, kind=record.kind, problem=error)
        await _record(doors, begun, requeue(record, doors.token(), now, sent=False))
    else:
        raise error


async def _postpone(doors: Doors, stored: Stored, throttled: Throttled) -> None:
    """A 429 says nothing about the machine: its claim goes back to the sweep, unsent, for when the quota refills."""
    record, wait = stored.record, timedelta(seconds=throttled.retry_after_seconds * (1 + doors.jitter() / 5))
    journal.write("operation.throttled", machine=record.machine, kind=record.kind, wait_seconds=wait)
    await doors.ledger.replace(stored, requeue(record, doors.token(), doors.clock() + wait, sent=False))


async def _record(doors: Doors, stored: Stored, record: Record) -> None:
    await _swallow(doors.ledger.replace(stored, record))


async def _swallow(move: Awaitable[object]) -> None:
    """After begin the message is always completed: a ledger that fails now leaves the row for a sweep to adopt."""
    try:
        await move
    except CloudError as error:
        journal.write("operation.unknown", problem=error)
