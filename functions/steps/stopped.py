"""Stopped machines in a sweep: what the app started is put back, then others are started whose turn it is.

A machine that runs is assessed and installed as any other. Here it is only started and stopped.
Each call is written down before it is sent, so a process may end anywhere: the next sweep sees what came of it.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import Stored
from functions.cloud.resource_graph import batches
from functions.cloud.rows import LeftAlone
from functions.cloud.started import StoredStart, started_key
from functions.decisions.decision import next_step, pending_step
from functions.decisions.plan import Candidate, Plan
from functions.decisions.question import Way
from functions.decisions.rollout import boundary
from functions.decisions.stopped import Keep, Over, PutBack, next_move, start_step, usual_run
from functions.decisions.support_state import window_wait
from functions.model.machine import Machine, MachineId, PatchAssessment, ResourceGroup, SupportState
from functions.model.record import SEND_WITHIN, Record, release
from functions.model.started import StartedMachine, begin_start, begin_stop, end_start, start_accepted
from functions.model.state import Assess, Cause, Install, OperationKind, Phase, State, Step, Wait
from functions.model.text import BadInput
from functions.policy.values import Mode
from functions.steps import notices
from functions.steps.holds import come_to_rest
from functions.steps.observe import (
    Gone,
    Seen,
    ask,
    with_managers,
    with_named_patches,
)
from functions.steps.planning import count_machines, make_sweep_plan
from functions.steps.start import forbidden_by_settings, new_claim, stop_of
from functions.steps.sweep import Sweep

_NOT_KNOWN = Wait(State.GRAPH_BEHIND, "Resource Graph does not show it", cause=Cause.TRANSIENT)


# -- what the app started


async def follow(sweep: Sweep, plan: Plan, candidates: list[Candidate]) -> None:
    """Each machine that the app started: it goes on running, is put back, or is another's by now.

    It does not depend on PATCH_START_STOPPED, PATCH_MODE or a pause: what was started is put back.
    """
    open_ones = [stored for stored in sweep.started.values() if stored.started.is_open]
    shown = await _shown(sweep, open_ones) if open_ones else {}
    steps = {item.machine.id: item.step for item in candidates} | dict(plan.waits)
    for stored in open_ones:
        await sweep.stay()
        try:
            await _follow(
                sweep, stored, shown=shown.get(stored.started.machine), planned=steps.get(stored.started.machine)
            )
        except (errors.CloudError, BadInput, LeftAlone) as problem:  # one machine must not keep the others running
            journal.write("sweep.failed", stage="stopped", machine=stored.started.machine, problem=problem)


async def _shown(sweep: Sweep, stored: list[StoredStart]) -> dict[MachineId, Machine]:
    """These machines as Resource Graph shows them; none where it does not answer: they are put back all the same."""
    try:
        names = [str(each.started.machine) for each in stored]
        return {machine.id: machine async for machine in sweep.services.graph.named_machines(names)}
    except (errors.CloudError, BadInput) as error:
        sweep.fail("stopped", error)
        return {}


async def _follow(sweep: Sweep, stored: StoredStart, *, shown: Machine | None, planned: Step | None) -> None:
    services, started = sweep.services, stored.started
    remedy = "The app started it: stop it if it is not needed."
    seen = await sweep.see(started.machine, vm_id=started.vm_id, with_resource_group=True, remedy=remedy)
    if isinstance(seen, Gone):
        journal.write("machine.gone", machine=started.machine)
        await sweep.forget_started(stored)
    if not isinstance(seen, Seen):
        return
    machine = replace(seen.machine, verdict=shown.verdict if shown else None)
    row = await services.ledger.read(started.machine)
    record = row.record if row and row.record.same_vm(machine) else None
    step = planned or (await _step(sweep, machine, record) if shown else _NOT_KNOWN)
    if isinstance(step, Assess | Install):
        question = await ask(services, machine, record)
        step = step if question.way is Way.WINDOW else window_wait(question)
    move = next_move(started, machine, record, step=step, now=services.clock())
    sweep.coming.append(machine)
    match move:
        case Keep(known) if known != started:
            await sweep.put_started(stored, known)
        case PutBack(known, reason):
            await _put_back(sweep, stored, known, row=row, reason=reason)
        case Over():
            await _over(sweep, stored, move)
        case _:
            pass


async def _step(sweep: Sweep, machine: Machine, record: Record | None) -> Step:
    """What the machine would do now by itself."""
    if stop := sweep.stop_of(machine):
        return stop.wait()
    pending = pending_step(record, sweep.services.clock())
    return pending or next_step(await ask(sweep.services, machine, record))


async def _put_back(
    sweep: Sweep, stored: StoredStart, started: StartedMachine, *, row: Stored | None, reason: str
) -> None:
    """Written down, then sent once. A claim that waits for its message is given back first: it must not begin now."""
    services, now = sweep.services, sweep.services.clock()
    if row and row.record.phase is Phase.QUEUED and not await services.ledger.replace(row, release(row.record, now)):
        return
    begun = await sweep.put_started(stored, begin_stop(started, now))
    if begun is None:
        return
    problem: Exception | None = None
    try:
        await services.compute.power(started.machine, "deallocate", send_by=now + SEND_WITHIN)
    except errors.Gone:
        await sweep.forget_started(begun)
        return
    except errors.CloudError as error:
        problem = error
    if problem or started.tries:
        journal.write(
            "machine.put-back-failed",
            machine=started.machine,
            reason=reason,
            problem=problem,
            attempts=begun.started.tries,
            seconds=now - started.at,
            remedy="Deallocate it by hand if it goes on: a running machine is billed.",
        )


async def _over(sweep: Sweep, stored: StoredStart, move: Over) -> None:
    now, started = sweep.services.clock(), move.started
    if await sweep.put_started(stored, end_start(started, now)) is None:
        return
    if move.runs:
        journal.write("machine.left-running", machine=started.machine, reason=move.reason, seconds=now - started.at)
    elif started.ran or move.by_us:
        journal.write("machine.put-back", machine=started.machine, reason=move.reason, seconds=now - started.at)
    else:
        journal.write("machine.not-started", machine=started.machine, reason=move.reason)


# -- what is started


async def start(sweep: Sweep) -> None:
    """Starts the stopped machines whose turn it is, as many as PATCH_START_STOPPED leaves room for."""
    services = sweep.services
    await _forget_old(sweep)
    if services.settings.mode is not Mode.INSTALL or not sweep.found or sweep.lease is None:
        return
    for candidate in await whose_turn_it_is(sweep):
        if not await sweep.lease.renew(services.clock()):
            return
        try:
            await _start(sweep, candidate)
        except (errors.CloudError, BadInput, LeftAlone) as problem:
            journal.write("sweep.failed", stage="stopped", machine=candidate.machine.id, problem=problem)


async def whose_turn_it_is(sweep: Sweep, *, after: Plan | None = None) -> list[Candidate]:
    """The stopped machines that would be started now, in order. Raises CloudError: no answer starts nothing.

    They are planned after the machines that run, under the same rollouts, caps, breakers and stops. `after`: the plan
    of those, where it is not dispatched; what a sweep dispatched is in its rows.
    """
    services = sweep.services
    cap, now = services.settings.start_stopped, services.clock()
    if cap is None or not services.settings.some_window_open(now):
        return []
    await count_machines(sweep)
    room = cap.of(sum(sweep.machines.values())) - sum(each.started.is_open for each in sweep.started.values())
    candidates = await _due(sweep) if room > 0 else []
    if not candidates:
        return []
    going = [each.machine for each in _installations(after)] if after else []
    coming = [new_claim(services, machine, OperationKind.INSTALL) for machine in (*sweep.coming, *going)]
    rollouts = after.rollouts if after else {}
    plan = await make_sweep_plan(sweep, candidates, coming=coming, rollouts=rollouts)
    return _installations(plan)[:room]


def _installations(plan: Plan) -> list[Candidate]:
    chosen = [item.candidate for item in plan.dispatches if item.candidate]
    return [each for each in chosen if each.kind is OperationKind.INSTALL]


async def planned_time(sweep: Sweep, candidates: Iterable[Candidate]) -> timedelta:
    """For how long these machines would run, one after another, if they were started now. Raises CloudError."""
    together, settings = timedelta(0), sweep.services.settings
    for item in candidates:
        machine = item.machine
        known = (await sweep.services.ledger.image(machine.image.key, boundary(machine, settings))).record
        together += usual_run(known.usual)
    return together


async def _due(sweep: Sweep) -> list[Candidate]:
    """The stopped machines that would be installed now if they ran."""
    services = sweep.services
    found = [machine async for machine in services.graph.stopped_machines(await services.created_after())]
    found = [machine for machine in found if started_key(machine.id) not in sweep.view.app]  # readable or not
    groups: dict[str, ResourceGroup] = {}
    for ids in batches(machine.id.group_id for machine in found):
        groups |= await services.graph.resource_groups(ids)
        await sweep.stay()
    known = [each.in_resource_group(groups[each.id.group_id]) for each in found if each.id.group_id in groups]
    due = []
    for machine in await with_named_patches(services, await with_managers(services, known)):
        stored = sweep.rows.get(machine.id)
        record = stored.record if stored and stored.record.same_vm_and_image(machine) else None
        if record and not record.is_held(State.POWERED_OFF) and pending_step(record, services.clock()):
            continue
        step = start_step(await ask(services, machine, record))
        if isinstance(step, Install):
            due.append(Candidate(machine, step))
    return due


async def _start(sweep: Sweep, candidate: Candidate) -> None:
    """Reads the machine afresh, decides again, writes the start down, and sends it once."""
    services, listed = sweep.services, candidate.machine
    seen = await sweep.see(listed.id, vm_id=listed.vm_id, with_resource_group=True)
    if not isinstance(seen, Seen):
        return
    machine = replace(seen.machine, verdict=listed.verdict or PatchAssessment(SupportState.ABSENT))
    row = sweep.rows.get(machine.id)
    if not isinstance(start_step(await ask(services, machine, row.record if row else None)), Install):
        return
    if forbidden_by_settings(services.settings, OperationKind.INSTALL) or await stop_of(services, machine):
        return
    if await notices.hold_back(sweep, candidate, row.record if row else None):
        return  # announced: it stays off until its installation may go
    now = services.clock()
    stored = await sweep.put_started(None, begin_start(machine, now))
    if stored is None:
        return
    if row and row.record.hold:  # it waited for its start
        await come_to_rest(services, row)
    try:
        await services.compute.power(machine.id, "start", send_by=now + SEND_WITHIN)
    except (errors.Gone, errors.Throttled, errors.Unavailable) as error:
        # Nothing was started: the next sweep tries again.
        await sweep.forget_started(stored)
        if isinstance(error, errors.Throttled):
            sweep.used_up.note(machine.id.subscription, error)
        return
    except errors.Refused as refused:
        await sweep.put_started(stored, end_start(stored.started, now))
        journal.write("machine.not-started", machine=machine.id, reason=refused)
        return
    except errors.OutcomeUnknown as unknown:  # the next sweep sees whether the machine comes up
        journal.write("operation.unknown", machine=machine.id, problem=unknown)
        return
    journal.write("machine.started", machine=machine.id, reason=candidate.step.reason, image=machine.image.key)
    await sweep.put_started(stored, start_accepted(stored.started))


async def _forget_old(sweep: Sweep) -> None:
    for stored in [each for each in sweep.started.values() if each.started.forgotten(sweep.services.clock())]:
        await sweep.forget_started(stored)
