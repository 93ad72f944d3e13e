"""What Resource Graph has to confirm: ended operations that it shows by now, and what they prove about their image.

An installation's result is counted in its image's rollout before its row goes on. A machine that is unwell afterwards
has as long as a slow reboot takes; then that is the result.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import Stored
from functions.cloud.resource_graph import SeenInstallation
from functions.cloud.rows import LeftAlone, image_key
from functions.decisions import notices, rollout
from functions.decisions.decision import GRAPH_SILENT
from functions.decisions.retry import wait_after_no_verdict
from functions.decisions.support_state import is_answered_without_state, undetermined
from functions.model.image_record import ImageRecord
from functions.model.machine import Machine, MachineId, PatchAssessment, PowerState, SupportState, in_progress
from functions.model.record import (
    ADOPT_AFTER,
    GRAPH_PATIENCE,
    Ending,
    Record,
    hold,
    installed_well,
    release,
    unanswered_again,
)
from functions.model.state import OperationKind, Phase, State, Wait
from functions.services import Services
from functions.steps.holds import come_to_rest, hold_for
from functions.steps.observe import UsedUp, in_turn
from functions.steps.track import Stay, age_at, isolated, machine_of

# Reboots of over 20 minutes were reported as failures though the machines came back (Azure/LinuxPatchExtension).
SLOW_REBOOT = timedelta(hours=1)


async def results(services: Services, rows: Iterable[Stored], used_up: UsedUp, *, stay: Stay) -> None:
    """Ended operations that Graph shows by now. Raises CloudError: no answer confirms nothing.

    Graph may be late for all of a large fleet: a sweep asks Resource Manager for so many that it does not show.
    """
    ended = [stored for stored in rows if stored.record.phase is Phase.ENDED]
    turn = {stored.record.machine for stored in in_turn(ended, services.jitter)}
    assessed = [stored for stored in ended if stored.record.kind is OperationKind.ASSESS]
    installed = [stored for stored in ended if stored.record.kind is OperationKind.INSTALL]
    shown = {}
    if assessed:
        ids = [str(stored.record.machine) for stored in assessed]
        shown = {machine.id: machine async for machine in services.graph.named_machines(ids)}
    for stored in assessed:
        await stay()
        machine = shown.get(stored.record.machine)
        confirming = partial(_confirm_assessment, services, stored, machine, look=stored.record.machine in turn)
        await isolated(services, stored, confirming, used_up=used_up)
    seen = await services.graph.installations(str(stored.record.machine) for stored in installed) if installed else {}
    for first in range(0, len(installed), rollout.COUNTED):  # no more than an image remembers as counted
        some = installed[first : first + rollout.COUNTED]
        await _confirm_installations(_Confirming(services, used_up, stay, seen, turn), some)


async def _confirm_assessment(services: Services, stored: Stored, machine: Machine | None, *, look: bool) -> None:
    record = stored.record
    if machine is not None and not record.same_vm(machine):
        machine = None  # Graph may still show the one that had this name before: ARM is asked which one is there
    verdict = machine.verdict if machine else None
    if (
        machine is None
        or verdict is None
        or not _shows(record, verdict.assessment_id, verdict.status, started=verdict.assessed)
    ):
        if look:
            await _not_visible_yet(services, stored)
        return
    if not (record.is_routine and record.verdict and verdict.same_news(record.verdict)):
        _log_support_state(record, machine, verdict)
        stored = stored.telling(notices.support_detected(record, machine))
    trouble = record.ending.trouble if record.ending else None
    if not verdict.decided and (trouble or not is_answered_without_state(machine, verdict)):
        await _no_verdict(services, stored, verdict)
    elif trouble and verdict.state is not SupportState.UNSUPPORTED:
        await hold_for(services, stored, trouble)
    elif record.history.installs_badly:
        await come_to_rest(services, stored)
    else:
        await services.ledger.leave(stored)


def _log_support_state(record: Record, machine: Machine, verdict: PatchAssessment) -> None:
    pending = machine.pending
    journal.write(
        "support.detected",
        machine=record.machine,
        state=verdict.state,
        operation=verdict.assessment_id,
        image=record.image,
        image_version=machine.image.version,
        region=record.region,
        os=machine.os_type,
        patches=sum(verdict.counts.values()),
        pending_critical=pending.critical,
        pending_security=pending.security,
        pending_other=pending.other,
        reboot_pending=verdict.reboot_pending,
        age_seconds=age_at(machine.created, verdict.assessed),
    )


async def _no_verdict(services: Services, stored: Stored, verdict: PatchAssessment) -> None:
    record = unanswered_again(stored.record)
    unanswered = record.history.unanswered
    wait = wait_after_no_verdict(unanswered, verdict.state, services.settings, jitter=services.jitter())
    until = services.clock() + wait
    await services.ledger.replace(stored, hold(record, undetermined(unanswered, verdict.state, until), until))


@dataclass(frozen=True)
class _Confirming:
    """What the confirmation of installations needs. `seen`: what Graph shows. `turn`: of whom else it may ask."""

    services: Services
    used_up: UsedUp
    stay: Stay
    seen: Mapping[str, list[SeenInstallation]]
    turn: Container[MachineId]


@dataclass(frozen=True)
class _Proof:
    """An installation that ended, and what it says about its image. `problem`: with the machine; "" there is none."""

    stored: Stored
    ending: Ending
    problem: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """The image and the trust boundary that it speaks of."""
        return self.stored.record.image, self.stored.record.boundary

    @property
    def says_something(self) -> bool:
        ending = self.ending
        return bool(self.stored.record.image) and not (ending.neutral and (ending.nothing_tried or not self.problem))

    def result(self, now: datetime) -> rollout.Result:
        record, ending, problem = self.stored.record, self.ending, self.problem
        if not problem and ending.at_fault and ending.trouble:
            problem = ending.trouble.reason
        begun = record.begun_at or now
        return rollout.Result(
            record.operation_id,
            record.machine,
            record.ring,
            begun,
            problem,
            took=ending.at - begun,
            of_run=bool(record.run),
        )


async def _confirm_installations(confirming: _Confirming, rows: Iterable[Stored]) -> None:
    """Counts the results of several installations, once per image, before a row of theirs goes on: a sweep that is
    killed in between counts them again, and the image remembers these."""
    ended = [(stored, stored.record.ending) for stored in rows if stored.record.ending]
    # At once: the machine may be deleted before Graph shows it. It counts once.
    lost = await _prove(confirming, [_Proof(stored, ending) for stored, ending in ended if ending.at_fault])
    proofs: list[_Proof] = []

    async def look(stored: Stored, ending: Ending) -> None:
        if proof := await _look_after(confirming, stored, ending):
            proofs.append(proof)

    for stored, ending in ended:
        await confirming.stay()
        if stored.record.machine not in lost:
            await isolated(confirming.services, stored, partial(look, stored, ending), used_up=confirming.used_up)
    lost = await _prove(confirming, proofs)
    for proof in proofs:
        if proof.stored.record.machine not in lost:
            going_on = partial(_go_on_after, confirming.services, proof)
            await isolated(confirming.services, proof.stored, going_on, used_up=confirming.used_up)


async def _look_after(confirming: _Confirming, stored: Stored, ending: Ending) -> _Proof | None:
    """What an installation proves that Graph shows by now; None: it is not known yet, or its machine is gone."""
    services, record = confirming.services, stored.record
    seen = confirming.seen.get(str(record.machine), [])
    if not any(_shows(record, item.operation_id, item.status, started=item.started) for item in seen):
        if record.machine in confirming.turn:
            await _not_visible_yet(services, stored)
        return None
    machine = await machine_of(services, stored)
    if machine is None:
        return None
    problem = "" if await _was_put_back(services, machine) else _unwell(machine)
    # A guest cannot deallocate its machine: an operator did that, and it says nothing about the patches.
    taken_down = machine.power in (PowerState.DEALLOCATING, PowerState.DEALLOCATED)
    if problem and not taken_down and not await _stays_unwell(services, stored, ending):
        return None
    journal.write(
        "installation.seen",
        machine=record.machine,
        operation=record.operation_id,
        status=ending.outcome,
        problem=problem,
    )
    return _Proof(stored, replace(ending, neutral=not ending.at_fault) if taken_down else ending, problem)


async def _was_put_back(services: Services, machine: Machine) -> bool:
    """Whether it is off because the app, which had started it, stopped it again."""
    if machine.power not in (PowerState.DEALLOCATING, PowerState.DEALLOCATED):
        return False
    return await services.ledger.started(machine.id) is not None


async def _go_on_after(services: Services, proof: _Proof) -> None:
    stored = proof.stored
    if proof.problem:
        await hold_for(services, stored, Wait(State.FAILED, proof.problem, "Check the machine, then start it."))
    elif proof.ending.trouble:
        await hold_for(services, stored, proof.ending.trouble)
    else:
        # Free at once: the sweep has it assessed, since counts from before the installation are void.
        await services.ledger.replace(stored, release(installed_well(stored.record), services.clock()))


async def _stays_unwell(services: Services, stored: Stored, ending: Ending) -> bool:
    """Whether it has been unwell for as long as a slow reboot may take; the first look says nothing, however late."""
    now = services.clock()
    if ending.unwell_since is None:
        await services.ledger.replace(stored, replace(stored.record, ending=replace(ending, unwell_since=now)))
        return False
    return now >= ending.unwell_since + SLOW_REBOOT


def _unwell(machine: Machine) -> str:
    """What is wrong with a machine after its installation; "" when it runs, its agent is ready, and it is healthy."""
    if machine.id.is_arc and machine.power is not PowerState.RUNNING:
        return f"its Connected Machine agent is {machine.agent_status} after its installation"
    if machine.power is not PowerState.RUNNING:
        return f"the machine is {machine.power} after its installation"
    if machine.agent_ready is False:
        return "the VM agent does not report ready after the installation"
    return "the Application Health extension reports unhealthy" if machine.healthy is False else ""


async def _prove(confirming: _Confirming, proofs: Iterable[_Proof]) -> set[MachineId]:
    """Writes into each image's rollout what these installations proved. Neutral outcomes prove nothing.

    Returns the machines whose results could not be written: they are counted by the next sweep.
    """
    by_image: dict[tuple[str, str], list[_Proof]] = {}
    for proof in proofs:
        if proof.says_something:
            by_image.setdefault(proof.place, []).append(proof)
    lost: set[MachineId] = set()
    for place, some in by_image.items():
        try:
            await _count(confirming.services, place, some)
        except (errors.CloudError, LeftAlone) as error:
            journal.write("sweep.failed", stage="track", machine=some[0].stored.record.machine, problem=error)
            lost |= {each.stored.record.machine for each in some}
    return lost


async def _count(services: Services, place: tuple[str, str], proofs: Iterable[_Proof]) -> None:
    """One write for all of them. Raises CloudError and LeftAlone."""
    stored, now = await services.ledger.image(*place), services.clock()
    image, told = stored.record, stored
    for proof in proofs:
        before, result = image, proof.result(now)
        image = rollout.record_result(before, result, services.settings, now=now)
        if image.opening != before.opening:
            _log_opening(image)
        canary = rollout.is_canary_result(before, result, services.settings)
        told = told.telling(*notices.proved(before, image, result.machine, canary=canary, problem=result.problem))
    if image != stored.record and await services.ledger.put_image(told, image) is None:
        raise errors.Unavailable("writing the ledger: the image's row changed meanwhile")


def _log_opening(image: ImageRecord) -> None:
    journal.write(
        "breaker.opened",
        image=image.image,
        boundary=image.boundary,
        row=image_key(image.place),
        opening=image.opening,
        reason=image.opened_because,
        remedy=rollout.breaker_wait(image).remedy,
    )


def _shows(record: Record, operation_id: str, status: str, *, started: datetime | None) -> bool:
    """Graph shows the end of this operation, or of a later one."""
    if in_progress(status):
        return False
    if operation_id and operation_id == record.operation_id:
        return True
    ours = record.flight.started_at if record.flight else None
    return started is not None and ours is not None and started > ours + timedelta(seconds=1)


async def _not_visible_yet(services: Services, stored: Stored) -> None:
    """Graph does not show it. Lag, most likely; but a machine that is gone, or re-created by now, is never shown."""
    record, ending, now = stored.record, stored.record.ending, services.clock()
    if ending is None:
        return
    # A support state that Graph shows later than this is too old to install on; one that it shows before is not lost.
    patience = GRAPH_PATIENCE if ending.trouble else max(GRAPH_PATIENCE, services.settings.fresh)
    if (ending.trouble or now >= ending.at + ADOPT_AFTER) and await machine_of(services, stored) is None:
        return
    if now >= ending.at + patience:
        if ending.trouble:  # its first cause says more than Graph's silence, which may well follow from it
            await hold_for(services, stored, ending.trouble)
            return
        hours = round(patience / timedelta(hours=1))
        reason = f"its {record.kind.noun} ended {ending.outcome}; Resource Graph has not shown it for {hours} hours"
        remedy = GRAPH_SILENT
        await hold_for(services, stored, Wait(State.FAILED, reason, remedy))
