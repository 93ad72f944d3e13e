"""Which machines are due, by what Resource Graph, the ledger, groups and the decision say.

A page, group or machine without an answer is never taken for one that needs nothing.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import Stored
from functions.cloud.resource_graph import IDS_PER_QUERY, batches
from functions.decisions.decision import pending_step
from functions.decisions.plan import Candidate
from functions.decisions.retry import tried_lately
from functions.decisions.runs import passes_hold
from functions.model.machine import Machine, MachineId, PatchAssessment, ResourceGroup, SupportState
from functions.model.record import of_another_image
from functions.model.run import Run
from functions.model.state import Assess, Install, Leave, State, Step, Wait
from functions.services import Services
from functions.steps import runs, states
from functions.steps.holds import forget, hold_step
from functions.steps.observe import (
    Gone,
    Refused,
    Seen,
    Throttled,
    Unreadable,
    decide,
    in_turn,
    log_unreadable,
    observe_resource_group,
    with_managers,
    with_named_patches,
)
from functions.steps.sweep import Sweep

ASKED_OF_ARM = 50  # machines of runs that Graph does not show, in one sweep


async def find(sweep: Sweep, *, whatever_window: bool = False) -> AsyncIterator[Candidate]:
    """The machines that are due by what Graph shows. Raises CloudError: a failed page finds nothing at all.

    `whatever_window`: it also looks for what waits for its window only, into sweep.later.
    """
    services = sweep.services
    due = await _due_by_ledger(sweep)
    if not whatever_window:
        due |= await _of_runs(sweep, due)
    created_after, now = await services.created_after(), services.clock()
    async for machine in services.graph.due_machines(created_after, now, whatever_window=whatever_window):
        due.setdefault(machine.id, machine)
        await sweep.stay()
    groups: dict[str, ResourceGroup | None] = {}
    for ids in batches(machine.id.group_id for machine in due.values()):
        groups.update(await services.graph.resource_groups(ids))
        await sweep.stay()
    machines = await with_managers(services, list(due.values()))
    due.clear()  # a large fleet's machines are not held twice, as Graph shows them and in their groups
    selected = await runs.as_selected(services, sweep.runs, machines) if not whatever_window else {}
    async for machine in _with_named_patches(sweep, machines):
        await sweep.stay()
        if machine.id.group_id not in groups:  # asked once per sweep, answered or not
            groups[machine.id.group_id] = await _resource_group_not_in_graph(sweep, machine)
        if (group := groups[machine.id.group_id]) is None:
            continue  # without an answer about its group its tags are not known: the next sweep asks again
        machine = machine.in_resource_group(group)
        ordered = None if whatever_window else await order_of(sweep, machine, selected)
        if candidate := ordered or await _candidate(sweep, machine):
            yield candidate


async def _with_named_patches(sweep: Sweep, machines: list[Machine]) -> AsyncIterator[Machine]:
    """In parts, so that a large fleet does not cost the sweep its lease. Empties the list, from its end."""
    while machines:
        part = machines[-IDS_PER_QUERY:]
        del machines[-IDS_PER_QUERY:]
        for machine in await with_named_patches(sweep.services, part):
            yield machine
        await sweep.stay()


async def _of_runs(sweep: Sweep, known: Mapping[MachineId, Machine]) -> dict[MachineId, Machine]:
    """The machines of which runs on demand want something now, as Graph shows them."""
    services, wanted = sweep.services, runs.to_do(sweep.services, sweep.runs)
    found: dict[MachineId, Machine] = {}
    names = [str(machine) for machine in wanted if machine not in known]
    async for machine in services.graph.named_machines(names):
        found[machine.id] = machine
        await sweep.stay()
    hidden = [machine for machine in wanted if machine not in known and machine not in found]
    for machine_id in in_turn(hidden, services.jitter, ASKED_OF_ARM):
        await sweep.stay()
        match await sweep.see(machine_id):
            case Seen(machine):
                found[machine_id] = replace(machine, verdict=PatchAssessment(SupportState.ABSENT))
            case Gone():
                wanted[machine_id].update({machine_id: runs.GONE})
            case _:
                pass
    for machine in (*known.values(), *found.values()):
        if machine.id in wanted and not wanted[machine.id].run.covers(machine):  # another one has its name by now
            wanted[machine.id].update({machine.id: runs.GONE})
    return found


async def order_of(sweep: Sweep, machine: Machine, selected: runs.Selected) -> Candidate | None:
    """The machine and the step that the first of its runs orders that may; the others remember why not."""
    found: Candidate | None = None
    for open_run in runs.wanting(sweep.services, sweep.runs, machine):
        if found:
            first = f", run {found.run.id}" if found.run else ""
            open_run.steps[machine.id] = Wait(State.QUEUED, f"it is the turn of another order{first}")
            continue
        shown = selected.get((open_run.run.id, machine.id))
        seen = replace(machine, verdict=shown.verdict) if shown else machine
        step = open_run.steps[machine.id] = await _step_of(sweep, seen, open_run.run)
        if isinstance(step, Assess | Install):
            found = Candidate(seen, step)
            found = replace(found, run=open_run.run) if found.kind is open_run.run.kind else found
    return found


async def _step_of(sweep: Sweep, machine: Machine, run: Run) -> Step:
    """What a run has done with the machine now: what its row says, unless the run passes that."""
    stored = sweep.rows.get(machine.id)
    record = stored.record if stored and stored.record.same_vm_and_image(machine) else None
    pending = pending_step(stored.record, sweep.services.clock()) if stored else None
    if pending and not (record and passes_hold(run, record)):
        return pending
    return await decide(sweep.services, machine, record, run=run)


async def _candidate(sweep: Sweep, machine: Machine) -> Candidate | None:
    """The machine and its step, when something follows now; otherwise its row remembers why not."""
    services, stored = sweep.services, sweep.rows.get(machine.id)
    if stored and stored.record.is_former_hold(machine):
        if stored.record.younger_than(machine):
            return None  # Graph still shows the one that had this name before: it says nothing about the row's
        stored = await _of_now(services, stored, machine)
    record = stored.record if stored else None
    if pending_step(record, services.clock()):
        return None
    step = await decide(services, machine, record)
    if isinstance(step, Assess | Install):
        return Candidate(machine, step)
    sweep.own[machine.id] = states.of_machine(machine, step, services)
    if waits_for_its_window(step):
        sweep.later.append(Candidate(machine, step))
    if stored:
        await _still_waits(sweep, stored, step)
    return None


async def _of_now(services: Services, stored: Stored, machine: Machine) -> Stored | None:
    """The row of the machine as it is now: none of another VM; of another image one that asks for an assessment."""
    if not stored.record.same_vm(machine):
        await forget(services, stored)
        return None
    journal.write("machine.released", machine=machine.id, state=stored.record.hold.state if stored.record.hold else "")
    return await services.ledger.replace(stored, of_another_image(machine, services.clock()))


async def _due_by_ledger(sweep: Sweep) -> dict[MachineId, Machine]:
    """Machines whose hold is over: Graph may not list them as due, and one that is gone must not be kept."""
    services, now = sweep.services, sweep.services.clock()
    held = [stored for stored in sweep.rows.values() if stored.record.due_again(now)]
    found: dict[MachineId, Machine] = {}
    async for machine in services.graph.named_machines(str(stored.record.machine) for stored in held):
        found[machine.id] = machine
    hidden = [stored for stored in held if stored.record.machine not in found]
    for stored in in_turn(hidden, services.jitter):
        await sweep.stay()
        if seen := await _not_in_graph(sweep, stored):
            found[seen.id] = seen
    return found


async def _not_in_graph(sweep: Sweep, stored: Stored) -> Machine | None:
    """Graph shows no such machine: ARM says whether it is gone. It keeps its row when ARM does not answer."""
    match await sweep.see(stored.record.machine):
        case Seen(machine):
            return replace(machine, verdict=PatchAssessment(SupportState.ABSENT))
        case Gone():
            await forget(sweep.services, stored)
        case _:
            pass
    return None


async def _resource_group_not_in_graph(sweep: Sweep, machine: Machine) -> ResourceGroup | None:
    """Graph does not show the resource group (yet, or to this identity): ARM is asked."""
    if machine.id.subscription in sweep.used_up:
        return None
    try:
        seen = await observe_resource_group(sweep.services, machine)
    except errors.CloudError as error:
        log_unreadable(machine.id, "resource group", error)
        return None
    match seen:
        case Seen(known) if known.resource_group:
            return known.resource_group
        case Throttled(throttled):
            sweep.used_up.note(machine.id.subscription, throttled)
        case Unreadable(unreadable):
            log_unreadable(machine.id, "resource group", unreadable)
        case Gone(problem) | Refused(problem):
            remedy = "Give the app's identity the right to read the resource group."
            log_unreadable(machine.id, "resource group", problem, remedy=remedy)
    return None


async def _still_waits(sweep: Sweep, stored: Stored, step: Step) -> None:
    """A hold is over and nothing is due: in trouble the row stays, at rest it goes."""
    if isinstance(step, Leave) and not tried_lately(stored.record, sweep.services.settings, sweep.services.clock()):
        await sweep.services.ledger.delete(stored)
    else:
        await hold_step(sweep.services, stored, step)


def waits_for_its_window(step: Step) -> bool:
    """Whether nothing but its window keeps a machine from an installation."""
    return step.state is State.WAITING_FOR_WINDOW and step.when is not None
