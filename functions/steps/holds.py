"""A machine that cannot go on now: its row keeps the reason, the remedy and the time of the next try."""

from dataclasses import replace
from datetime import datetime, timedelta

from functions import journal
from functions.cloud.errors import Refused, Throttled
from functions.cloud.ledger import Stored
from functions.decisions.diagnosis import UNMATCHED, meaning_of_refusal
from functions.decisions.notices import machine_held
from functions.decisions.retry import backoff
from functions.model.record import Record, failed_again, hold, release, requeue, without_attempts
from functions.model.state import Cause, State, Step, Wait
from functions.policy.windows import WEEK
from functions.services import Services

OWNER_RETRY = timedelta(hours=24)  # an owner's hold is checked daily, for changes that make no event (a group's tag)
NEXT_CHECK = timedelta(hours=1)  # at most, at what passes by itself without being a failure
SILENT_CHECKS = 8  # hours of silence before a person should look, too
_SILENT = (State.BUILDING, State.AGENT_NOT_READY)
TRANSIENT_TRIES = 5  # failures in a row before what should have passed becomes its owner's
UNKNOWN_TRIES = 3  # the same of a refusal that the dictionary does not know


async def hold_step(services: Services, stored: Stored, step: Step) -> None:
    """A Wait or Leave at the second check: the row keeps its reason, so that sweeps do not ask again too early.

    It is not a failure: what passes by itself is checked again within the hour.
    """
    record, until = stored.record, step.when
    if until is None:
        record = replace(record, checks=record.checks + 1)
        wait = _wait(services, step.cause, record.checks)
        passing = step.cause in (Cause.TRANSIENT, Cause.CONFLICT)
        until = services.clock() + (min(wait, NEXT_CHECK) if passing else wait)
        if step.state in _SILENT and record.checks > SILENT_CHECKS:
            step = replace(step, cause=Cause.OWNER)
    else:
        until = min(until, _assessed_until(services, record))
    journal.write("machine.waiting", machine=record.machine, verb=step.verb, **_said(step), until=until)
    await services.ledger.replace(stored, hold(record, step, until))


def _assessed_until(services: Services, record: Record) -> datetime:
    """When the machine's assessment may be due again, in a day at the latest. A longer wait would keep the machine from
    it, and would outlive changes of the settings."""
    now, every = services.clock(), min(services.settings.assess_every, OWNER_RETRY)
    assessed = record.verdict.assessed if record.verdict else None
    due = (assessed or now) + every
    return due if due > now else now + every


async def hold_for(services: Services, stored: Stored, step: Wait, *, tries: int | None = TRANSIENT_TRIES) -> None:
    """A failure: held by its cause; what should have passed by itself becomes its owner's after so many tries.

    `tries`: None where no owner of a machine could do anything about it.
    """
    if step.cause is Cause.TRANSIENT and tries is not None and stored.record.history.attempts >= tries:
        remedy = step.remedy or "It does not pass by itself: find out why, then restart the machine."
        step = replace(step, cause=Cause.OWNER, remedy=remedy)
    record = failed_again(stored.record, step.reason)
    until = services.clock() + _wait(services, step.cause, record.history.attempts)
    journal.write(
        "machine.held",
        **record.log_fields(),
        **_said(step),
        cause=step.cause,
        attempts=record.history.attempts,
        until=until,
    )
    await services.ledger.replace(stored.telling(machine_held(record, step, until)), hold(record, step, until))


def _said(step: Step) -> dict[str, journal.Field]:
    """The step's own words, in a line about its hold."""
    return {"state": step.state, "reason": step.reason, "remedy": step.remedy}


def _wait(services: Services, cause: Cause, times: int) -> timedelta:
    """Growing waits; a day for an owner, a week for what cannot be."""
    fixed = {Cause.OWNER: OWNER_RETRY, Cause.NEVER: WEEK}.get(cause)
    return fixed or backoff(services.settings.first_retry, times, services.jitter())


async def hold_refused(services: Services, stored: Stored, refused: Refused) -> None:
    """Azure said no: the machine is held with what that means."""
    meaning, record = meaning_of_refusal(refused.status, refused.codes, refused.message), stored.record
    journal.write(
        "operation.refused",
        **record.log_fields(),
        status=refused.status,
        code=refused.code,
        message=refused.message,
        cause=meaning.cause,
        fault="app" if meaning.app else None,
    )
    state = State.UNSUPPORTED if meaning.unsupported else State.FAILED
    state = State.BUSY if meaning.cause is Cause.CONFLICT else state
    answer = f"{refused.status} {refused.code}".rstrip()
    tries = None if meaning.app else UNKNOWN_TRIES if meaning is UNMATCHED else TRANSIENT_TRIES
    wait = Wait(state, f"{meaning.text} ({answer})", meaning.remedy, cause=meaning.cause)
    await hold_for(services, stored, wait, tries=tries)


async def postpone(services: Services, stored: Stored, throttled: Throttled) -> None:
    """A 429 says nothing about the machine: its claim goes back to the sweep, unsent, for when the quota refills."""
    record, wait = stored.record, timedelta(seconds=throttled.retry_after_seconds * (1 + services.jitter() / 5))
    journal.write("operation.throttled", **record.log_fields(), wait_seconds=wait)
    await services.ledger.replace(stored, requeue(record, services.token(), services.clock() + wait, sent=False))


async def come_to_rest(services: Services, stored: Stored) -> None:
    """Nothing more to do now: the row goes, unless it remembers that installations failed. The sweep then decides."""
    if stored.record.history.installs_badly:
        await services.ledger.replace(stored, release(without_attempts(stored.record), services.clock()))
    else:
        await services.ledger.delete(stored)


async def forget(services: Services, stored: Stored) -> None:
    """The machine was deleted or is being deleted, or another one has its name: its row is deleted."""
    journal.write("machine.gone", machine=stored.record.machine, phase=stored.record.phase)
    await services.ledger.delete(stored)
