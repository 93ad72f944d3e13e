"""Assess Patches: from an event or a message to an assessment under way.

The event is only the fast path: what it cannot do now, it leaves to a delayed message or to the sweep.
"""

from dataclasses import replace

from functions import journal
from functions.cloud.errors import Unavailable
from functions.cloud.event_grid import MachineEvent
from functions.cloud.ledger import Stored
from functions.cloud.queue import Message
from functions.model.machine import Machine, MachineId
from functions.model.record import Record, of_another_image, release
from functions.model.started import end_start
from functions.model.state import Assess, Cause, Install, OperationKind, State, Step
from functions.policy.values import Mode
from functions.services import Services
from functions.steps.holds import come_to_rest, forget, hold_step
from functions.steps.observe import (
    Gone,
    Refused,
    Seen,
    Throttled,
    Unreadable,
    ask,
    decide,
    log_unreadable,
    observe,
    observe_resource_group,
    observe_results,
)
from functions.steps.start import NOT_READY, current_claim, new_claim, recheck, retry_when_ready, start_operation


async def on_event(services: Services, event: MachineEvent) -> None:
    """A machine was written, started or reimaged: filter, observe, decide, claim.

    Raises CloudError before anything is claimed: Event Grid then delivers the event again.
    """
    machine_id = event.machine
    if event.started_by:
        await _note_start(services, event)
    if services.settings.mode is Mode.OFF or not services.settings.covers(machine_id.subscription):
        _ignored(machine_id, "out of scope")
        return
    if machine_id.is_arc and not services.settings.include_arc:
        _ignored(machine_id, "an Arc-enabled server, and PATCH_ARC is off")
        return
    stored = await services.ledger.read(machine_id)
    new_guest = event.reimaged and (stored is None or stored.record.hold is not None)
    if stored and not new_guest and (reason := await _known_already(services, stored)):
        _ignored(machine_id, reason)
        return
    seen = await observe(services, machine_id)
    if isinstance(seen, Seen):
        seen = await observe_results(services, seen.machine)
    match seen:
        case Seen(machine):
            await _on_machine(services, stored, machine, new_guest=new_guest)
        case Gone() if stored:
            await forget(services, stored)
        case Gone():
            _ignored(machine_id, "gone")
        case Refused(refused):  # no redelivery: once the right is given, the sweep finds the machine
            journal.write("operation.refused", machine=machine_id, status=refused.status, code=refused.code)
        case Unreadable(problem, what):
            log_unreadable(machine_id, what, problem)
        case Throttled(throttled):
            raise throttled


async def on_message(services: Services, message: Message) -> None:
    """A claim for an assessment. Raises CloudError only while its row is queued."""
    stored = await current_claim(services, message, OperationKind.ASSESS)
    seen = await recheck(services, stored) if stored else None
    if not stored or not seen:
        return
    machine, step, _ = seen
    if isinstance(step, Assess) or (isinstance(step, Install) and await _due(services, stored, machine)):
        await start_operation(services, stored, stored.record, machine=machine)
    elif isinstance(step, Install):  # nothing left to assess: the next sweep decides on the installation
        await come_to_rest(services, stored)
    elif step.state in NOT_READY:
        await retry_when_ready(services, stored, stored.record, step=step)
    else:
        await hold_step(services, stored, step)


async def _due(services: Services, stored: Stored, machine: Machine) -> bool:
    """Whether its assessment is due all the same: it was claimed when something held the installation."""
    question = await ask(services, machine, stored.record)
    return question.assessment_due(question.verdict.assessed)


async def _known_already(services: Services, stored: Stored) -> str:
    """Why the row makes the event needless; "" when the machine has to be observed."""
    record = stored.record
    if record.hold is None:
        return f"{record.phase} already"
    if record.is_held(State.OVERDUE):
        hold = replace(record.hold, when=services.clock())
        await services.ledger.replace(stored, replace(record, hold=hold))
        return "overdue: the next sweep asks its operation again"
    # An event may be the change that a hold waits for: its owner's, or that the machine is ready by now.
    may_end = record.hold.cause in (Cause.OWNER, Cause.NEVER) or record.hold.state in NOT_READY
    return "" if may_end else f"{record.phase} already"


async def _note_start(services: Services, event: MachineEvent) -> None:
    """Another started a machine that the app started, or meant to: it is theirs, and is not put back.

    Raises Unavailable where the row moves at the same moment: the event is redelivered.
    """
    ours, now = services.settings.client_id.lower(), services.clock()
    if not ours or event.started_by == ours or event.at is None:
        return
    stored = await services.ledger.started(event.machine)
    if stored is None or not stored.started.may_be_started_again(event.at):
        return
    if await services.ledger.put_started(stored, end_start(stored.started, now)) is None:
        raise Unavailable("the row of a started machine has moved meanwhile")
    reason, since = "an event says that another started it", now - stored.started.at
    journal.write("machine.left-running", machine=event.machine, reason=reason, seconds=since)


async def _on_machine(services: Services, stored: Stored | None, machine: Machine, *, new_guest: bool) -> None:
    """`new_guest`: it was reimaged, so that nothing which is known of its guest counts any more."""
    record = of_another_image(machine, services.clock()) if new_guest else stored.record if stored else None
    if record and record.hold and record.hold.cause is Cause.NEVER and record.same_vm_and_image(machine):
        _ignored(machine.id, f"{record.hold.state} already")
        return
    previous = release(record, services.clock()) if record else None
    step = await decide(services, machine, previous)
    if _needs_claim(step):  # only now is the resource group worth a second read
        match await observe_resource_group(services, machine):
            case Seen(machine):
                step = await decide(services, machine, previous)
            case Unreadable(problem, what):
                log_unreadable(machine.id, what, problem)
                return
            case Gone(error) | Refused(error) | Throttled(error):
                raise error
    if _needs_claim(step):
        await _claim(services, stored, machine, previous=previous, step=step)
    else:
        await _leave(services, stored, machine, step=step)


def _needs_claim(step: Step) -> bool:
    return isinstance(step, Assess) or step.state in NOT_READY


async def _claim(
    services: Services, stored: Stored | None, machine: Machine, *, previous: Record | None, step: Step
) -> None:
    record = replace(new_claim(services, machine, OperationKind.ASSESS, previous=previous), checks=0)
    if not isinstance(step, Assess):
        await retry_when_ready(services, stored, record, step=step)
    elif services.compute.bucket_is_low(machine.quota_key):  # a storm: the sweep, the one owner of the pace, sends it
        await services.ledger.put(stored, replace(record, sent=False))
        journal.write("assessment.queued", machine=machine.id, reason="the quota is nearly used up")
    else:
        await start_operation(services, stored, record, machine=machine)


async def _leave(services: Services, stored: Stored | None, machine: Machine, *, step: Step) -> None:
    if stored is None or stored.record.hold is None:
        _ignored(machine.id, f"{step.state}: {step.reason}")
        return
    journal.write("machine.released", machine=machine.id, state=stored.record.hold.state)
    await services.ledger.replace(stored, release(stored.record, services.clock()))


def _ignored(machine_id: MachineId, reason: str) -> None:
    journal.write("event.ignored", machine=machine_id, reason=reason)
