"""Assess Patches: from an event or a message to an assessment under way.

The event is only the fast path: what it cannot do now, it leaves to a delayed message or to the sweep.
"""

from dataclasses import replace

from functions import journal
from functions.cloud.errors import Gone, Refused
from functions.cloud.ledger import Stored
from functions.cloud.queue import Message
from functions.cloud.rows import LeftAlone
from functions.decisions.decision import next_step
from functions.model.machine import Machine, MachineId
from functions.model.record import UNKNOWN_DURATION, Record, release
from functions.model.state import Assess, Cause, Install, OperationKind, Phase, State, Step
from functions.model.text import BadInput
from functions.policy.settings import Mode
from functions.services import Services
from functions.steps.holds import forget, hold_step
from functions.steps.start import NOT_READY, current_claim, new_claim, recheck, retry_when_ready, start_operation


async def on_event(services: Services, machine_id: MachineId) -> None:
    """A machine was written or started. Raises CloudError before anything is claimed: the event then comes again."""
    if services.settings.mode is Mode.OFF or not services.settings.covers(machine_id.subscription):
        return _ignored(machine_id, "out of scope")
    try:
        stored = await services.ledger.read(machine_id)
    except LeftAlone as newer:
        return journal.write("ledger.newer", machine=machine_id, problem=newer)
    if stored and stored.record.phase is Phase.HELD and stored.record.state == State.OVERDUE:
        await services.ledger.replace(stored, replace(stored.record, not_before=services.clock()))
        return _ignored(machine_id, "overdue: the next sweep asks its operation again")
    if stored and _keeps(stored.record):
        return _ignored(machine_id, f"{stored.record.phase} already")
    try:
        machine = await services.compute.machine(machine_id)
    except Gone:
        return await forget(services, stored) if stored else _ignored(machine_id, "gone")
    except Refused as refused:  # no redelivery: once the right is given, the sweep finds the machine
        return journal.write("operation.refused", machine=machine_id, status=refused.status, code=refused.code)
    except BadInput as problem:
        return journal.write("machine.unreadable", where="ARM", machine=machine_id, problem=problem)
    if stored and stored.record.cause is Cause.NEVER and stored.record.same_machine(machine):
        return _ignored(machine_id, f"{stored.record.state} already")
    previous = release(stored.record, services.clock()) if stored else None
    step = await _decide(services, machine, previous)
    if isinstance(step, Assess) or step.state in NOT_READY:  # only now is the group worth a second read
        try:
            machine = machine.in_group(await services.compute.group(machine_id))
        except BadInput as problem:
            return journal.write("machine.unreadable", where="resource group", machine=machine_id, problem=problem)
        step = await _decide(services, machine, previous)
    if not isinstance(step, Assess) and step.state not in NOT_READY:
        return await _leave(services, stored, machine, step.state, step.reason)
    if services.settings.mode is Mode.PLAN:
        return journal.write("machine.planned", machine=machine_id, verb=step.verb, reason=step.reason)
    record = replace(new_claim(services, machine, OperationKind.ASSESS, previous=previous), looks=0)
    if not isinstance(step, Assess):
        return await retry_when_ready(services, stored, record, step)
    if services.compute.bucket_is_low(machine.quota_key):  # a storm: the sweep, the one owner of the pace, sends it
        await services.ledger.put(stored, replace(record, sent=False))
        return journal.write("assessment.queued", machine=machine_id, reason="the quota is nearly used up")
    await start_operation(services, stored, record, machine, None, UNKNOWN_DURATION)
    return None


async def on_message(services: Services, message: Message) -> None:
    """A claim for an assessment. Raises CloudError only while its row is queued."""
    stored = await current_claim(services, message, OperationKind.ASSESS)
    seen = await recheck(services, stored) if stored else None
    if not stored or not seen:
        return
    machine, step = seen
    if isinstance(step, Assess):
        await start_operation(services, stored, stored.record, machine, None, UNKNOWN_DURATION)
    elif isinstance(step, Install):  # nothing left to assess: the next sweep decides on the installation
        await services.ledger.delete(stored)
    elif step.state in NOT_READY:
        await retry_when_ready(services, stored, stored.record, step)
    else:
        await hold_step(services, stored, step)


async def _decide(services: Services, machine: Machine, record: Record | None) -> Step:
    return next_step(machine, record, services.settings, await services.created_after(), services.clock())


def _keeps(record: Record) -> bool:
    """Whether a row makes the event needless: at work, or held for something that its owner cannot change."""
    return record.phase is not Phase.HELD or record.cause not in (Cause.OWNER, Cause.NEVER)


async def _leave(services: Services, stored: Stored | None, machine: Machine, state: str, reason: str) -> None:
    if stored is None:
        return _ignored(machine.id, f"{state}: {reason}")
    journal.write("machine.released", machine=machine.id, state=stored.record.state)
    await services.ledger.replace(stored, release(stored.record, services.clock()))
    return None


def _ignored(machine_id: MachineId, reason: str) -> None:
    journal.write("event.ignored", machine=machine_id, reason=reason)
