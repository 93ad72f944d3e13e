"""From a claim to an operation in Azure: what the two steps, assess and install, have in common.

take() checks that a message's claim is still current; look() reads the machine afresh and decides again; launch() is
the only place that sends a POST: begin in the ledger, send once, record the answer. Before begin a failure may be
raised and the message is redelivered; after it nothing is raised, because the ledger then says what follows.
"""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta

from functions import journal
from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Throttled, Unavailable
from functions.cloud.ledger import Stored
from functions.cloud.queue import Message
from functions.cloud.rows import LeftAlone
from functions.decisions.decision import next_step
from functions.model.machine import Machine, PatchAssessment, SupportState
from functions.model.record import SEND_WITHIN, Record, accepted, begin, claim, requeue
from functions.model.state import Cause, OperationKind, Phase, State, Step
from functions.model.text import BadInput, Json
from functions.policy.settings import Mode
from functions.policy.tags import tag_overrides
from functions.services import Services
from functions.steps.holds import forget, hold_for, hold_refused, hold_step, postpone

MAX_CHECKS = 4  # how often a machine still being built is looked at, each time after twice the wait


NOT_READY = (State.BUILDING, State.AGENT_NOT_READY, State.SETTLING)


def new_claim(
    services: Services,
    machine: Machine,
    kind: OperationKind,
    *,
    due_at: datetime | None = None,
    previous: Record | None = None,
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
        previous=previous,
    )


async def current_claim(services: Services, message: Message, kind: OperationKind) -> Stored | None:
    """The claim a message names, if it is still the machine's current one; a late or doubled message is dropped."""
    try:
        stored = await services.ledger.read(message.machine)
    except LeftAlone as newer:
        journal.write("ledger.newer", machine=message.machine, problem=newer)
        return None
    record = stored.record if stored else None
    if record and (record.token, record.phase, record.kind) == (message.claim, Phase.QUEUED, kind):
        return stored
    journal.write("message.stale", machine=message.machine, kind=kind, phase=record.phase if record else "none")
    return None


async def recheck(services: Services, stored: Stored) -> tuple[Machine, Step] | None:
    """Reads the machine and its group, and decides again. None: it is gone, or it cannot be read; the row says so.

    Raises Unavailable: the row is still queued, so the message may come again. Throttled reads are no failure of the
    machine either: the claim goes back to the sweep.
    """
    record = stored.record
    try:
        machine = await services.compute.machine(record.machine)
        machine = machine.in_group(await services.compute.group(record.machine))
    except Gone:
        await forget(services, stored)
        return None
    except Throttled as throttled:
        await postpone(services, stored, throttled)
        return None
    except Refused as refused:
        await hold_refused(services, stored, refused)
        return None
    except BadInput as problem:
        journal.write("machine.unreadable", where="ARM", machine=record.machine, problem=problem)
        await hold_for(services, stored, Cause.OWNER, State.HELD, f"ARM's answer cannot be read: {problem}", "")
        return None
    if machine.vm_id != record.vm_id:
        await forget(services, stored)
        return None
    verdict = record.verdict
    if verdict is not None and machine.image.key != record.image:
        verdict = PatchAssessment(SupportState.ABSENT)  # what Graph said was said of another image
    machine = replace(machine, verdict=verdict)
    return machine, next_step(machine, record, services.settings, await services.created_after(), services.clock())


async def start_operation(
    services: Services, stored: Stored | None, record: Record, machine: Machine, order: Json | None, limit: timedelta
) -> None:
    """Begin, POST, record. `stored` None: the event's road, whose row goes straight to starting."""
    now = services.clock()
    if reason := await why_stopped(services):
        journal.write("app.paused", machine=machine.id, kind=record.kind, reason=reason)
        await services.ledger.put(stored, requeue(record, services.token(), now, sent=False))
        return
    begun = await services.ledger.put(stored, begin(record, machine, limit, now))
    if begun is None:
        journal.write("message.stale", machine=machine.id, kind=record.kind, phase="taken by another")
        return
    try:
        answer = await services.compute.start(machine, record.kind, order, now + SEND_WITHIN)
    except OutcomeUnknown as unknown:  # the row stays in starting: a sweep looks at the machine
        journal.write("operation.unknown", machine=machine.id, kind=record.kind, problem=unknown)
        return
    except (CloudError, BadInput) as error:
        await _not_started(services, begun, error)
        return
    name = "assessment.started" if record.kind is OperationKind.ASSESS else "installation.started"
    journal.write(
        name, machine=machine.id, operation=answer.operation_id, image=machine.image.key, region=record.region
    )
    await _record(services, begun, accepted(begun.record, answer.operation_id, answer.url, services.clock()))


async def why_stopped(services: Services) -> str:
    """Why nothing may be started now; "" when it may. A person's pause, or a mode that calls nothing."""
    if services.settings.mode in (Mode.OFF, Mode.PLAN):
        return f"PATCH_MODE is {services.settings.mode.name.lower()}"
    return services.settings.paused * "PATCH_PAUSE is on" or await services.ledger.paused()


async def retry_when_ready(services: Services, stored: Stored | None, record: Record, step: Step) -> None:
    """Another look after 1, 2, 4, 8 times PATCH_READY_MINUTES; then the machine is held with its reason."""
    looks = record.looks + 1
    if looks > MAX_CHECKS and stored:
        await hold_step(services, stored, step)
        return
    delay = services.settings.first_look * 2 ** (looks - 1)
    if step.state is State.SETTLING and step.when:
        delay, looks = max(step.when - services.clock(), timedelta(0)), record.looks
    again = requeue(record, services.token(), services.clock() + delay, sent=True, looks=looks)
    journal.write("machine.deferred", machine=record.machine, state=step.state, reason=step.reason, delay_seconds=delay)
    await send(services, stored, again, delay)


async def send(services: Services, stored: Stored | None, record: Record, delay: timedelta) -> bool:
    """Claims, then sends the claim's message. False: somebody else has the machine.

    A message that could not be sent leaves its row unsent, for the next sweep to send.
    """
    claimed = await services.ledger.put(stored, record)
    if claimed is None:
        return False
    try:
        await services.queue.send(record.kind, Message(record.machine, record.token), delay.total_seconds())
    except CloudError:
        await services.ledger.replace(claimed, replace(record, sent=False))
        raise
    return True


async def _not_started(services: Services, begun: Stored, error: Exception) -> None:
    """A POST that certainly started nothing."""
    record, now = begun.record, services.clock()
    if isinstance(error, Gone):
        await _swallow(forget(services, begun))
    elif isinstance(error, Refused):
        await _swallow(hold_refused(services, begun, error))
    elif isinstance(error, Throttled):
        await _swallow(postpone(services, begun, error))
    elif isinstance(error, Unavailable):
        journal.write("operation.abandoned", machine=record.machine, kind=record.kind, problem=error)
        await _record(services, begun, requeue(record, services.token(), now, sent=False))
    else:
        raise error


async def _record(services: Services, stored: Stored, record: Record) -> None:
    await _swallow(services.ledger.replace(stored, record))


async def _swallow(move: Awaitable[object]) -> None:
    """After begin the message is always completed: a ledger that fails now leaves the row for a sweep to adopt."""
    try:
        await move
    except CloudError as error:
        journal.write("operation.unknown", problem=error)
