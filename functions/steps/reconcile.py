"""The sweep: track what is in flight, find what may need something, plan, dispatch. It reads top to bottom.

Only one sweep dispatches at a time (a lease in the ledger). A stage that gets no answer decides nothing: the sweep goes
on with what does not depend on it, and then fails, saying what it could not do.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, replace

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import SweepLease
from functions.decisions.plan import Candidate, Plan
from functions.model.machine import Machine, MachineId
from functions.model.state import Assess, Install, OperationKind, Step
from functions.model.text import BadInput
from functions.model.told import Told
from functions.policy.values import Mode
from functions.services import Services
from functions.steps import changes, confirm, notices, outlook, report, runs, states, stopped, track
from functions.steps.dispatching import dispatch
from functions.steps.find import find, order_of, waits_for_its_window
from functions.steps.planning import make_sweep_plan
from functions.steps.sweep import Sweep, SweepFailed, read_ledger


async def run(services: Services) -> None:
    """One sweep. Raises SweepFailed, or CloudError when the ledger itself does not answer."""
    lease = await services.ledger.take_sweep(services.token(), services.clock())
    if lease is None:
        journal.write("sweep.skipped")
        return
    try:
        failed = await _sweep(services, lease)
    finally:
        await lease.release(services.clock())
    if failed:
        raise SweepFailed(f"no answer for: {', '.join(failed)}; nothing was decided on it")


async def _sweep(services: Services, lease: SweepLease) -> list[str]:
    """Track, find, plan, dispatch, report. Returns the stages that failed."""
    started = services.clock()
    sweep = await read_ledger(services)
    sweep.lease = lease
    services = sweep.services
    for left_alone in sweep.view.left_alone.values():
        journal.write("ledger.newer", problem=left_alone)
    try:
        sweep.in_force = await changes.tell(services, sweep.view)
    except errors.CloudError as error:
        sweep.fail("changes", error)
    sweep.runs = await runs.read(sweep.view)
    try:
        candidates = await _learn(sweep)
        plan = await make_sweep_plan(sweep, candidates)
        dispatched = await dispatch(sweep, plan, lease)
    finally:
        await track.delete_leaving(sweep.view)
    await _stopped(sweep, plan, candidates)
    found = len(candidates)
    await _report(sweep, plan, candidates)
    under_way = Counter(stored.record.kind for stored in sweep.rows.values() if stored.record.in_flight)
    journal.write(
        "sweep.finished",
        rows=len(sweep.rows),
        assessing=under_way[OperationKind.ASSESS],
        installing=under_way[OperationKind.INSTALL],
        candidates=found,
        dispatched=dispatched,
        waiting=len(plan.waits),
        seconds=services.clock() - started,
        paused_seconds=sweep.paused_for,
        pause=sweep.in_force.pause.reason if sweep.in_force and sweep.in_force.pause else None,
        incomplete=", ".join(sweep.incomplete),
    )
    return sweep.failed


async def _learn(sweep: Sweep) -> list[Candidate]:
    """Tracks what is in flight, then finds what may need something: nothing where there is no answer."""
    try:
        if sweep.rows:  # with nothing in flight there is nothing to track
            await _track(sweep)
        await runs.record_progress(sweep.view, sweep.runs, had=sweep.had)
        found = [candidate async for candidate in find(sweep)] if sweep.services.settings.mode is not Mode.OFF else []
    except (errors.CloudError, BadInput) as error:
        sweep.fail("find", error)
        return []
    sweep.found = True
    return found


async def _track(sweep: Sweep) -> None:
    """Track what is in flight. Raises CloudError: what ended is written down all the same, and not reported again."""
    try:
        await track.operations(sweep.services, list(sweep.rows.values()), sweep.used_up, stay=sweep.stay)
        await runs.record_progress(sweep.view, sweep.runs, had=sweep.had)
        rows = runs.confirmable(sweep.runs, sweep.rows.values())
        await confirm.results(sweep.services, rows, sweep.used_up, stay=sweep.stay)
    finally:
        await track.write_ends(sweep.view)
        sweep.tracked = True


async def _stopped(sweep: Sweep, plan: Plan, candidates: list[Candidate]) -> None:
    """Machines that the app started, and those that it starts."""
    stages: tuple[Callable[[], Awaitable[None]], ...] = (
        lambda: stopped.follow(sweep, plan, candidates),
        lambda: stopped.start(sweep),
    )
    for go in stages:
        try:
            await go()
        except (errors.CloudError, BadInput) as error:
            sweep.fail("stopped", error)


async def _report(sweep: Sweep, plan: Plan, candidates: list[Candidate]) -> None:
    services = sweep.services
    due = {item.machine.id: states.of_machine(item.machine, item.step, services) for item in candidates}
    stages: dict[str, Callable[[], Awaitable[None]]] = {
        "runs": lambda: runs.tell(services, sweep.view, sweep.runs, waits=plan.waits),
        "limits": lambda: report.limits(services, plan.waits),
        "poison": lambda: report.poison(services),
        "fleet": lambda: report.fleet(services),
        "scope": lambda: report.scope(services),
        "rest": lambda: _ask_for_the_rest(sweep, due),
        "forecast": lambda: _look_ahead(sweep, plan, candidates, due=due),
        "states": lambda: _tell_states(sweep, plan, candidates, due=due),
        "census": lambda: report.census(sweep, sweep.rows, plan.waits),
        "notices": lambda: notices.tell(sweep),
    }
    if not sweep.found:  # what has no answer is not asked once more, and a machine may only not have been found
        del stages["rest"], stages["forecast"]
    sweep.notes.load(sweep.view.app.values())
    for stage, tell in stages.items():
        try:
            await tell()
        except (errors.CloudError, BadInput) as error:
            sweep.fail(stage, error)


async def _ask_for_the_rest(sweep: Sweep, due: Mapping[MachineId, Told]) -> None:
    sweep.rest = await states.of_the_rest(sweep, sweep.rows, had=sweep.had, in_hand=sweep.own.keys() | due.keys())


async def _look_ahead(sweep: Sweep, plan: Plan, candidates: list[Candidate], *, due: Mapping[MachineId, Told]) -> None:
    newcomers = states.lack_a_time(sweep, _said(sweep, plan, {**sweep.own, **due}))
    sweep.forecast = await outlook.tell(sweep, candidates, plan=plan, newcomers=newcomers)


async def _tell_states(sweep: Sweep, plan: Plan, candidates: list[Candidate], *, due: Mapping[MachineId, Told]) -> None:
    """`due`: what the rules of the machines themselves say of those that are due; sweep.own has the others.

    It empties the lists of machines: nothing else looks at them, and what was reported of a large fleet takes room.
    """
    known = {**sweep.own, **due}
    in_hand: Container[MachineId] = known
    if not sweep.services.settings.some_window_open(sweep.services.clock()):  # the next sweep does not ask for them
        in_hand = known.keys() - {item.machine.id for item in sweep.later}
    candidates.clear()
    sweep.later.clear()
    await states.tell(sweep, states.with_turns(_said(sweep, plan, known), sweep.forecast), in_hand=in_hand)
    await states.forget(sweep, [machine for machine, told in sweep.rest.items() if not told and machine not in known])


def _said(sweep: Sweep, plan: Plan, known: Mapping[MachineId, Told]) -> states.Said:
    """What there is to say of each machine that the sweep has in hand, and of those that it had."""
    for machine, told in sweep.rest.items():
        if told and machine not in known:
            yield machine, told
    yield from states.of_sweep(sweep.rows, plan, known, now=sweep.services.clock())


@dataclass(frozen=True)
class FleetView:
    """The fleet as a sweep would see it now: each machine by its own rules, and what the fleet's limits make of it."""

    sweep: Sweep
    seen: list[tuple[Machine, Step]]
    due: list[Candidate]
    plan: Plan

    @property
    def states(self) -> list[tuple[Machine, Step]]:
        return [(machine, self.plan.waits.get(machine.id, step)) for machine, step in self.seen]


async def view_fleet(services: Services) -> FleetView:
    """Looks at every machine, and writes nothing: for operators' tools."""
    sweep = await read_ledger(services)
    seen = [item async for item in states.states(services, sweep.rows, {})]
    due = [Candidate(machine, step) for machine, step in seen if isinstance(step, Assess | Install)]
    sweep.later = [Candidate(machine, step) for machine, step in seen if waits_for_its_window(step)]
    return FleetView(sweep, seen, due, await make_sweep_plan(sweep, due))


async def with_runs(view: FleetView) -> FleetView:
    """The same with what runs on demand order now; it writes nothing of how far they have come. Raises CloudError."""
    sweep = replace(view.sweep, runs=runs.open_runs(view.sweep.view))
    machines = [machine for machine, _ in view.seen]
    selected = await runs.as_selected(sweep.services, sweep.runs, machines)
    ordered = {each.id: item for each in machines if (item := await order_of(sweep, each, selected))}
    sweep.later = [item for item in sweep.later if item.machine.id not in ordered]
    due = [*ordered.values(), *(item for item in view.due if item.machine.id not in ordered)]
    return replace(view, sweep=sweep, due=due, plan=await make_sweep_plan(sweep, due))


async def fleet_states(services: Services) -> list[tuple[Machine, Step]]:
    """The state of every machine now, the fleet's limits included: for operators' tools and the demo."""
    return (await view_fleet(services)).states
