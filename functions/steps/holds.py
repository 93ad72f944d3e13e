"""A machine that cannot go on now: its row keeps the reason, the remedy and the time of the next try."""

from dataclasses import replace
from datetime import datetime, timedelta

from functions import journal
from functions.cloud.errors import Refused, Throttled
from functions.cloud.ledger import Stored
from functions.decisions.diagnosis import meaning_of_refusal
from functions.decisions.retry import A_WEEK, backoff
from functions.model.record import Record, hold, requeue
from functions.model.state import Cause, State, Step
from functions.services import Services

OWNER_RETRY = timedelta(hours=24)  # an owner's hold is looked at daily, for changes that make no event (a group's tag)


TRANSIENT_TRIES = 5  # failures in a row before what should have passed becomes its owner's


async def hold_step(doors: Services, stored: Stored, step: Step) -> None:
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


def _assessed_until(doors: Services, record: Record) -> datetime:
    """When the machine's assessment is due again. A wait that lasted longer would keep the machine from it, and would
    stand by settings of long ago."""
    now, interval = doors.clock(), doors.settings.min_interval
    assessed = record.verdict.assessed if record.verdict else None
    due = (assessed or now) + interval
    return due if due > now else now + interval


async def hold_for(doors: Services, stored: Stored, cause: Cause, state: State, reason: str, remedy: str) -> None:
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


def _next_try(doors: Services, record: Record, cause: Cause) -> tuple[Record, datetime]:
    """One more attempt, and when the next may be: growing waits, a day for an owner, a week for what cannot be."""
    record = replace(record, attempts=record.attempts + 1)
    fixed = {Cause.OWNER: OWNER_RETRY, Cause.NEVER: A_WEEK}.get(cause)
    return record, doors.clock() + (fixed or backoff(doors.settings.first_retry, record.attempts, doors.jitter()))


async def hold_refused(doors: Services, stored: Stored, refused: Refused) -> None:
    meaning, record = meaning_of_refusal(refused.status, refused.codes, refused.message), stored.record
    journal.write(
        "operation.refused", machine=record.machine, kind=record.kind, status=refused.status, code=refused.code,
        message=refused.message, cause=meaning.cause,
    )  # fmt: skip
    state = State.UNSUPPORTED if meaning.unsupported else State.HELD
    state = State.BUSY if meaning.cause is Cause.CONFLICT else state
    reason = f"{meaning.text} ({refused.status} {refused.code})".replace(" )", ")")
    await hold_for(doors, stored, meaning.cause, state, reason, meaning.remedy)


async def forget(doors: Services, stored: Stored) -> None:
    """The machine was deleted, or another one has its name: nothing is remembered of it."""
    journal.write("machine.gone", machine=stored.record.machine, phase=stored.record.phase)
    await doors.ledger.delete(stored)


async def postpone(doors: Services, stored: Stored, throttled: Throttled) -> None:
    """A 429 says nothing about the machine: its claim goes back to the sweep, unsent, for when the quota refills."""
    record, wait = stored.record, timedelta(seconds=throttled.retry_after_seconds * (1 + doors.jitter() / 5))
    journal.write("operation.throttled", machine=record.machine, kind=record.kind, wait_seconds=wait)
    await doors.ledger.replace(stored, requeue(record, doors.token(), doors.clock() + wait, sent=False))
