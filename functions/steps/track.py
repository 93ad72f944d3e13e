"""The first half of a sweep: the outcome of everything in flight.

The operation's own status is authoritative. The instance view stands in where the answer is gone, and Resource Graph
confirms. Each row is tracked alone; one that cannot be asked now is left as it is, for the next sweep.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from functions import journal
from functions.cloud.arm import Outcome
from functions.cloud.errors import CloudError, Gone, Unavailable
from functions.cloud.ledger import Stored
from functions.cloud.resource_graph import SeenInstallation
from functions.cloud.rows import LeftAlone, image_key
from functions.decisions import rollout
from functions.decisions.decision import noun, undetermined
from functions.decisions.diagnosis import meaning_of_outcome, real_errors
from functions.decisions.plan import waits_to_be_sent
from functions.decisions.retry import wait_after_no_verdict
from functions.model.machine import Machine, PatchAssessment, PatchStatus, PowerState, SupportState, in_progress
from functions.model.record import ADOPT_AFTER, GRAPH_PATIENCE, Record, end, hold, release
from functions.model.state import Cause, OperationKind, Phase, State
from functions.model.text import BadInput
from functions.services import Services
from functions.steps.holds import OWNER_RETRY, forget, hold_for

# Reboots of over 20 minutes were reported as failures though the machines came back (Azure/LinuxPatchExtension).
SLOW_REBOOT = timedelta(hours=1)


_COUNTS = (
    "installedPatchCount", "failedPatchCount", "pendingPatchCount", "excludedPatchCount", "notSelectedPatchCount",
    "criticalAndSecurityPatchCount", "otherPatchCount",
)  # fmt: skip


async def operations(services: Services, rows: Iterable[Stored]) -> None:
    """Settles what can be settled without Resource Graph: expired claims, unknown outcomes, running operations."""
    now = services.clock()
    await asyncio.gather(*(_track(services, stored, now) for stored in rows))


async def _track(services: Services, stored: Stored, now: datetime) -> None:
    record = stored.record
    settle: Callable[[Services, Stored, datetime], Awaitable[None]] | None = None
    if record.expired(now):
        settle = _expire
    elif record.kind is OperationKind.INSTALL and waits_to_be_sent(record, now):
        settle = _plan_anew
    elif record.state == State.OVERDUE and record.due_again(now):
        settle = _ask if record.operation_id else _adopt  # one that nobody could look at before it was overdue
    elif record.phase is Phase.STARTING and record.begun_at and now >= record.begun_at + ADOPT_AFTER:
        settle = _adopt
    elif record.phase is Phase.RUNNING:
        settle = _ask
    if settle is None:
        return
    await _isolated(services, stored, settle(services, stored, now))


async def _isolated(services: Services, stored: Stored, settling: Awaitable[None]) -> None:
    """One row must not keep the others from being settled: what fails now is left for the next sweep."""
    try:
        await settling
    except Gone:
        await forget(services, stored)
    except (CloudError, BadInput, LeftAlone) as error:
        journal.write("sweep.failed", stage="settle", machine=stored.record.machine, problem=error)
        await _give_up(services, stored, str(error))


async def _give_up(services: Services, stored: Stored, problem: str) -> None:
    """What cannot be asked must not hold its slot for ever: past its time it is its owner's, with the reason."""
    record, now = stored.record, services.clock()
    if record.phase in (Phase.STARTING, Phase.RUNNING) and record.overdue(now):
        await _overdue(services, stored, problem)
    elif record.phase is Phase.ENDED and record.ended_at and now >= record.ended_at + GRAPH_PATIENCE:
        remedy = "Give the app's identity the patch role on the machine's subscription."
        await hold_for(services, stored, Cause.OWNER, State.HELD, f"its result cannot be read: {problem}", remedy)


async def _expire(services: Services, stored: Stored, now: datetime) -> None:
    journal.write("claim.expired", machine=stored.record.machine, kind=stored.record.kind)
    await services.ledger.replace(stored, release(stored.record, now))


async def _plan_anew(services: Services, stored: Stored, now: datetime) -> None:
    """A postponed installation: what let it go (round, ring, group, window) may no longer hold, so it asks again."""
    await services.ledger.replace(stored, release(stored.record, now))


async def _adopt(services: Services, stored: Stored, now: datetime) -> None:
    """The POST's answer was never recorded: another operation than those known before it is taken for ours."""
    record = stored.record
    machine = await services.compute.machine(record.machine)
    if machine.vm_id != record.vm_id:
        return await forget(services, stored)
    summary = machine.assessment if record.kind is OperationKind.ASSESS else machine.installation
    if summary is None or summary.operation_id in record.known_operations:
        journal.write("claim.expired", machine=record.machine, kind=record.kind, reason="the POST started nothing")
        await services.ledger.replace(stored, release(record, now))
        return None
    journal.write("operation.adopted", machine=record.machine, kind=record.kind, operation=summary.operation_id)
    record = replace(record, operation_id=summary.operation_id, started_at=summary.started or record.begun_at)
    if summary.in_progress:
        await services.ledger.replace(stored, replace(record, phase=Phase.RUNNING))
        return None
    await _end(services, replace(stored, record=record), summary.status, {}, summary.modified or now)
    return None


async def _ask(services: Services, stored: Stored, now: datetime) -> None:
    record = stored.record
    outcome: Outcome | None = None
    if record.operation_url:
        with suppress(Gone, BadInput):  # no longer known, or not ARM's (its address was changed): the machine tells
            outcome = await services.compute.outcome(record.machine, record.operation_url)
    if outcome is None:
        await _ask_machine(services, stored, now)
    elif not outcome.running:
        await _end(services, stored, outcome.patch_status, outcome.result, now)
    elif record.overdue(now):
        await _overdue(services, stored)


async def _ask_machine(services: Services, stored: Stored, now: datetime) -> None:
    """The operation's URL is gone: the instance view says how it ended, if it still shows it."""
    record = stored.record
    machine = await services.compute.machine(record.machine)
    if machine.vm_id != record.vm_id:
        return await forget(services, stored)
    summary = _summary_of(machine, record)
    if summary is not None and not summary.in_progress:
        return await _end(services, stored, summary.status, {}, summary.modified or now)
    if summary is None or record.overdue(now):
        return await _end(services, stored, "Unknown", {}, now)
    return None


async def _overdue(services: Services, stored: Stored, problem: str = "") -> None:
    record = stored.record
    reason = "the operation is still open an hour after its own limit"
    reason += f", and cannot be asked: {problem}" if problem else ""
    journal.write("operation.overdue", machine=record.machine, kind=record.kind, operation=record.operation_id)
    until = services.clock() + OWNER_RETRY
    remedy = "Check the VM agent; restart the machine if the operation stays open."
    # Its id and URL are kept: the next look asks the operation again, and nothing starts beside it until it ended.
    held = hold(record, Cause.OWNER, until, State.OVERDUE, reason, remedy)
    await services.ledger.replace(stored, replace(held, operation_url=record.operation_url))


async def _end(services: Services, stored: Stored, status: str, result: Mapping[str, Any], ended: datetime) -> None:
    """Records an outcome, with the meaning of a bad one, and waits for Graph to show it."""
    record = stored.record
    error = result.get("error")
    meaning = meaning_of_outcome(status, error, result)
    codes, messages = real_errors(error)
    journal.write(
        "assessment.ended" if record.kind is OperationKind.ASSESS else "installation.ended",
        machine=record.machine,
        operation=record.operation_id,
        status=status,
        image=record.image,
        region=record.region,
        age_seconds=_age(record.created, ended),
        meaning=meaning.text if meaning else None,
        codes=",".join(codes),
        messages="; ".join(messages),
        reboot=result.get("rebootStatus"),
        window_exceeded=result.get("maintenanceWindowExceeded"),
        **{name: result.get(name) for name in _COUNTS},
    )
    ended_record = end(record, status, ended)
    if meaning:
        ended_record = replace(ended_record, cause=meaning.cause, reason=meaning.text, remedy=meaning.remedy)
    wants_reboot = str(result.get("rebootStatus")).lower() == "required"
    at_fault = meaning is not None and meaning.patches
    neutral = not at_fault and (wants_reboot or meaning is not None)
    ended_record = replace(ended_record, at_fault=at_fault, neutral=neutral)
    await services.ledger.replace(stored, ended_record)


def _age(created: datetime | None, at: datetime | None) -> timedelta | None:
    """How old the machine was then."""
    return at - created if created and at else None


def _summary_of(machine: Machine, record: Record) -> PatchStatus | None:
    return next((item for item in machine.summaries if item.operation_id == record.operation_id), None)


async def confirm(services: Services, rows: Iterable[Stored]) -> None:
    """Ended operations that Graph shows by now. Raises CloudError: no answer confirms nothing."""
    ended = [stored for stored in rows if stored.record.phase is Phase.ENDED]
    assessed = [stored for stored in ended if stored.record.kind is OperationKind.ASSESS]
    installed = [stored for stored in ended if stored.record.kind is OperationKind.INSTALL]
    shown = {}
    if assessed:
        ids = [str(stored.record.machine) for stored in assessed]
        shown = {machine.id: machine async for machine in services.graph.named_machines(ids)}
    for stored in assessed:
        await _isolated(services, stored, _confirm_assessment(services, stored, shown.get(stored.record.machine)))
    seen = await services.graph.installations(str(stored.record.machine) for stored in installed) if installed else {}
    for stored in installed:  # one after the other: several may be of one image, whose row each of them moves
        await _isolated(
            services, stored, _confirm_installation(services, stored, seen.get(str(stored.record.machine), []))
        )


async def _confirm_assessment(services: Services, stored: Stored, machine: Machine | None) -> None:
    record = stored.record
    if machine is not None and machine.vm_id != record.vm_id:
        machine = None  # Graph may still show the one that had this name before: ARM is asked which one is there
    verdict = machine.verdict if machine else None
    if (
        machine is None
        or verdict is None
        or not _shows(record, verdict.assessment_id, verdict.status, verdict.assessed)
    ):
        return await _not_visible_yet(services, stored)
    pending = machine.pending
    journal.write(
        "support.detected", machine=record.machine, state=verdict.state, operation=verdict.assessment_id,
        image=record.image, image_version=machine.image.version, region=record.region, os=machine.os_type,
        patches=sum(verdict.counts.values()), pending_critical=pending.critical, pending_security=pending.security,
        pending_other=pending.other, reboot_pending=verdict.reboot_pending,
        age_seconds=_age(machine.created, verdict.assessed),
    )  # fmt: skip
    decided = verdict.state in (SupportState.SUPPORTED, SupportState.UNSUPPORTED)
    if not decided and (machine.image.customized or record.reason):
        return await _no_verdict(services, stored, verdict)
    if record.reason and verdict.state is not SupportState.UNSUPPORTED:
        return await hold_for(services, stored, record.cause, State.HELD, record.reason, record.remedy)
    await services.ledger.delete(stored)
    return None


async def _no_verdict(services: Services, stored: Stored, verdict: PatchAssessment) -> None:
    unanswered = stored.record.unanswered + 1
    until = services.clock() + wait_after_no_verdict(unanswered, verdict.state, services.settings, services.jitter())
    step = undetermined(unanswered, verdict.state, until)
    record = replace(stored.record, unanswered=unanswered)
    await services.ledger.replace(stored, hold(record, step.cause, until, step.state, step.reason, step.remedy))


async def _confirm_installation(services: Services, stored: Stored, seen: list[SeenInstallation]) -> None:
    record = stored.record
    if not any(_shows(record, item.operation_id, item.status, item.started) for item in seen):
        return await _not_visible_yet(services, stored)
    machine = await services.compute.machine(record.machine)
    if machine.vm_id != record.vm_id:
        return await forget(services, stored)
    problem = _unwell(machine)
    # A guest cannot deallocate its machine: that was somebody, and says nothing about the patches.
    taken_down = machine.power in (PowerState.DEALLOCATING, PowerState.DEALLOCATED)
    if problem and not taken_down and services.clock() < (record.ended_at or services.clock()) + SLOW_REBOOT:
        return None  # a slow reboot is looked at again before it is called a failure
    journal.write(
        "installation.seen", machine=record.machine, operation=record.operation_id, status=record.outcome,
        problem=problem,
    )  # fmt: skip
    if taken_down:
        await _prove(services, replace(record, neutral=not record.at_fault), "")
    else:
        await _prove(services, record, problem)
    if problem:
        return await hold_for(services, stored, Cause.OWNER, State.HELD, problem, "Look at the machine, then start it.")
    if record.reason:
        return await hold_for(services, stored, record.cause, State.HELD, record.reason, record.remedy)
    # Free at once: the sweep has it assessed, since counts from before the installation are void.
    record = replace(record, attempts=0)
    await services.ledger.replace(stored, release(record, services.clock()))
    return None


def _unwell(machine: Machine) -> str:
    """What is wrong with a machine after its installation; "" when it runs, its agent is ready, and it feels well."""
    if machine.power is not PowerState.RUNNING:
        return f"the machine is {machine.power} after its installation"
    if machine.agent_ready is False:
        return "the VM agent does not report ready after the installation"
    return "the Application Health extension reports unhealthy" if machine.healthy is False else ""


async def _prove(services: Services, record: Record, problem: str) -> None:
    """Writes into the image's round what this installation proved. Neutral outcomes prove nothing."""
    if not record.image or (record.neutral and not problem):
        return
    stored = await services.ledger.image(record.image)
    problem = problem or (record.reason if record.at_fault else "")
    begun = record.begun_at or services.clock()
    image = rollout.record_result(
        stored.record,
        record.operation_id,
        record.machine,
        record.ring,
        begun,
        problem,
        services.settings,
        services.clock(),
    )
    if image.opening != stored.record.opening:
        journal.write(
            "breaker.opened", image=image.image, row=image_key(image.image), opening=image.opening,
            reason=image.opened_because,
            remedy=rollout.breaker_wait(image).remedy,
        )  # fmt: skip
    if image != stored.record and await services.ledger.put_image(stored, image) is None:
        raise Unavailable("writing the ledger: the image's row changed meanwhile")


def _shows(record: Record, operation_id: str, status: str, started: datetime | None) -> bool:
    """Graph shows the end of this operation, or of a later one."""
    if in_progress(status):
        return False
    if operation_id and operation_id == record.operation_id:
        return True
    return started is not None and record.started_at is not None and started > record.started_at + timedelta(seconds=1)


async def _not_visible_yet(services: Services, stored: Stored) -> None:
    """Graph does not show it. Lag, most likely; but a machine that is gone, or another one by now, is never shown."""
    record, now = stored.record, services.clock()
    ended = record.ended_at or now
    if record.reason or now >= ended + ADOPT_AFTER:
        try:
            machine = await services.compute.machine(record.machine)
        except Gone:
            return await forget(services, stored)
        if machine.vm_id != record.vm_id:
            return await forget(services, stored)
    if now >= ended + GRAPH_PATIENCE:
        reason = f"its {noun(record.kind)} ended {record.outcome}; Resource Graph has not shown it for a day"
        remedy = "Check that the app's identity may read the machine's patch results."
        await hold_for(services, stored, Cause.OWNER, State.HELD, reason, remedy)
    return None
