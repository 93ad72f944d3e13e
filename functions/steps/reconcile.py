"""The sweep: track what is in flight, find what may need something, plan, dispatch. It reads top to bottom.

Only one sweep dispatches at a time (a lease in the ledger). A stage that gets no answer decides nothing: the sweep goes
on with what does not depend on it, and then fails, saying what it could not do.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import LedgerView, Stored, SweepLease
from functions.cloud.notes import NoteBook
from functions.cloud.resource_graph import IDS_PER_QUERY, batches
from functions.cloud.rows import LeftAlone, image_key, place_of, row_key
from functions.cloud.stops import HOLDS, stops_of
from functions.decisions.decision import pending_step
from functions.decisions.forecast import Turn
from functions.decisions.plan import Candidate, Dispatch, Fleet, Plan, make_plan
from functions.decisions.retry import tried_lately
from functions.decisions.rollout import boundary as boundary_of
from functions.decisions.rollout import ring_name, written_on
from functions.model.image_record import ImageRecord, Tally
from functions.model.machine import Group, Machine, MachineId, OsType, PatchAssessment, SupportState
from functions.model.record import Record, requeue
from functions.model.state import Assess, Cause, Install, Leave, OperationKind, Phase, State, Step, Wait
from functions.model.stop import Stop, Stops
from functions.model.text import BadInput
from functions.model.told import Told
from functions.policy.settings import Mode, Settings
from functions.services import Services
from functions.steps import changes, outlook, report, states, track
from functions.steps.holds import forget, hold_step
from functions.steps.observe import (
    Gone,
    Paused,
    Refused,
    Seen,
    Throttled,
    Unreadable,
    decide,
    log_unreadable,
    log_used_up,
    observe,
    observe_group,
    with_named_patches,
    with_schedules,
)
from functions.steps.start import new_claim, send, stopped_by_settings

LONG_OFF = timedelta(days=7)  # from then on the reason says since when a member of a patch-group is off
MEMBERS_NOTED = 200  # a note of them fits a column of the table
BATCH = 100  # dispatches between two renewals of the lease
_UNKNOWN_GROUP = Wait(
    State.WAITING_FOR_GROUP,
    "whether another member of its patch-group is off or unhealthy is not known: Resource Graph did not answer",
    cause=Cause.TRANSIENT,
)
TROUBLE = {State.FAILED, State.OVERDUE, State.BUSY, State.POWERED_OFF, State.AGENT_NOT_READY}


class SweepFailed(Exception):
    """One or more stages of a sweep got no answer. The text names them."""


@dataclass
class Sweep:
    """What one sweep knows: its services, the ledger as it stands, and which stages failed."""

    services: Services
    view: LedgerView
    lease: SweepLease | None = None  # None: an operator's tool, which dispatches nothing
    later: list[Candidate] = field(default_factory=list)  # what waits for nothing but its window
    forecast: Mapping[MachineId, Turn | None] = field(default_factory=dict)  # where this sweep made one
    notes: NoteBook = field(init=False)  # what people were told of each machine
    own: dict[MachineId, Told] = field(default_factory=dict)  # what keeps a machine by itself
    had: frozenset[MachineId] = field(init=False)  # whose rows it began with
    found: bool = False  # Graph named every machine that may be due
    machines: Mapping[str, int] = field(default_factory=dict)  # in scope, by image, once a cap in percent asked
    failed: list[str] = field(default_factory=list)
    throttled: list[str] = field(default_factory=list)  # stages without an answer, as a quota was used up
    standing: changes.Standing | None = None  # since when settings and pause are as they are
    paused: Paused = field(default_factory=Paused)
    stops: Stops = field(default_factory=Stops)  # what people stopped, once it was read

    def __post_init__(self) -> None:
        self.notes = NoteBook(self.view.table)
        self.had = frozenset(self.view.rows)

    @property
    def rows(self) -> Mapping[MachineId, Stored]:
        return self.view.rows

    def stop_of(self, machine: Machine) -> Stop | None:
        """What a person stopped that covers the machine."""
        return self.stops.of(machine, self.services.settings.owner_tag)

    def without_stopped(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        return [item for item in candidates if self.stop_of(item.machine) is None]

    @property
    def incomplete(self) -> list[str]:
        """The stages that did not get all their answers."""
        return [*(["track"] if self.paused else []), *self.throttled, *self.failed]

    @property
    def paused_for(self) -> timedelta | None:
        """How long a person's pause has lasted; None while there is none."""
        since = self.standing.paused_since if self.standing else None
        return self.services.clock() - since if since else None

    async def stay(self) -> None:
        """Keeps the lease while the sweep reads: a large fleet takes longer than the lease lasts."""
        if self.lease:
            await self.lease.stay(self.services.clock())

    def fail(self, stage: str, error: errors.CloudError | BadInput) -> None:
        """A stage got no answer. A used-up quota is no failure: the next sweep goes on."""
        if isinstance(error, errors.Throttled):
            log_used_up(error, stage=stage)
            self.throttled.append(stage)
            return
        journal.write("sweep.failed", stage=stage, problem=error)
        self.failed.append(stage)


async def read_ledger(services: Services) -> Sweep:
    """A sweep that has read the ledger, once. Its services write through what it read."""
    view = LedgerView(services.ledger.table)
    await view.load()
    return Sweep(replace(services, ledger=view), view)


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
        sweep.standing = await changes.tell(services, sweep.view)
    except errors.CloudError as error:
        sweep.fail("changes", error)
    try:
        if sweep.rows:  # with nothing in flight there is nothing to track
            await track.operations(services, list(sweep.rows.values()), sweep.paused, pause=sweep.stay)
            await track.confirm(services, list(sweep.rows.values()), sweep.paused, pause=sweep.stay)
        candidates = [candidate async for candidate in find(sweep)] if services.settings.mode is not Mode.OFF else []
        sweep.found = True
    except (errors.CloudError, BadInput) as error:
        sweep.fail("find", error)
        candidates = []
    plan = await make_sweep_plan(sweep, candidates)
    dispatched = await dispatch(sweep, plan, lease)
    await _report(sweep, plan, candidates)
    under_way = Counter(stored.record.kind for stored in sweep.rows.values() if stored.record.in_flight)
    journal.write(
        "sweep.finished",
        rows=len(sweep.rows),
        assessing=under_way[OperationKind.ASSESS],
        installing=under_way[OperationKind.INSTALL],
        candidates=len(candidates),
        dispatched=dispatched,
        waiting=len(plan.waits),
        seconds=services.clock() - started,
        paused_seconds=sweep.paused_for,
        pause=sweep.standing.pause.reason if sweep.standing and sweep.standing.pause else None,
        incomplete=", ".join(sweep.incomplete),
    )
    return sweep.failed


async def _report(sweep: Sweep, plan: Plan, candidates: list[Candidate]) -> None:
    services = sweep.services
    stages: dict[str, Callable[[], Awaitable[None]]] = {
        "limits": lambda: report.limits(services, plan.waits),
        "poison": lambda: report.poison(services),
        "fleet": lambda: report.fleet(services),
        "forecast": lambda: _look_ahead(sweep, candidates),
        "states": lambda: _tell_states(sweep, plan, candidates),
        "census": lambda: report.census(sweep, sweep.rows, plan.waits),
    }
    if not sweep.found:  # what has no answer is not asked once more
        del stages["forecast"]
    for stage, tell in stages.items():
        try:
            await tell()
        except (errors.CloudError, BadInput) as error:
            sweep.fail(stage, error)


async def _look_ahead(sweep: Sweep, candidates: list[Candidate]) -> None:
    due = sum(item.kind is OperationKind.INSTALL for item in candidates)
    sweep.forecast = await outlook.tell(
        sweep.services, lambda: _waiting(sweep, candidates), due=due, standing=sweep.standing
    )


async def _tell_states(sweep: Sweep, plan: Plan, candidates: list[Candidate]) -> None:
    services = sweep.services
    sweep.notes.load(sweep.view.app.values())
    known = sweep.own | {item.machine.id: states.of_machine(item.machine, item.step, services) for item in candidates}
    found = set(known)
    if not services.settings.some_window_open(services.clock()):  # the next sweep does not ask for them
        found -= {item.machine.id for item in sweep.later}
    await states.tell_sweep(sweep, sweep.rows, plan, known=known, forecast=sweep.forecast, in_hand=found)
    if sweep.found:  # else a machine that is not in hand may only not have been found
        await states.tell_the_rest(sweep, sweep.rows, had=sweep.had, in_hand=known)


async def find(sweep: Sweep, *, whatever_window: bool = False) -> AsyncIterator[Candidate]:
    """The machines that are due by what Graph shows. Raises CloudError: a failed page finds nothing at all.

    `whatever_window`: it also looks for what waits for its window only, into sweep.later.
    """
    services = sweep.services
    due = await _due_by_ledger(sweep)
    created_after, now = await services.created_after(), services.clock()
    async for machine in services.graph.due_machines(created_after, now, whatever_window=whatever_window):
        due.setdefault(machine.id, machine)
        await sweep.stay()
    groups: dict[str, Group | None] = {}
    for ids in batches(machine.id.group_id for machine in due.values()):
        groups.update(await services.graph.groups(ids))
        await sweep.stay()
    async for machine in _with_named_patches(sweep, await with_schedules(services, list(due.values()))):
        await sweep.stay()
        if machine.id.group_id not in groups:  # asked once per sweep, answered or not
            groups[machine.id.group_id] = await _group_not_in_graph(sweep, machine)
        if (group := groups[machine.id.group_id]) is None:
            continue  # no answer about its group is no answer about its tags: the next sweep asks again
        if candidate := await _candidate(sweep, machine.in_group(group)):
            yield candidate


async def _with_named_patches(sweep: Sweep, machines: list[Machine]) -> AsyncIterator[Machine]:
    """In parts, so that a large fleet does not cost the sweep its lease."""
    for first in range(0, len(machines), IDS_PER_QUERY):
        for machine in await with_named_patches(sweep.services, machines[first : first + IDS_PER_QUERY]):
            yield machine
        await sweep.stay()


async def _waiting(sweep: Sweep, candidates: list[Candidate]) -> tuple[list[Candidate], Fleet]:
    """Every machine that could be installed but for its window and the fleet's limits, and what limits them."""
    services = sweep.services
    if not services.settings.some_window_open(services.clock()):  # the sweep asked for none of them
        sweep.later.clear()
        candidates = [item async for item in find(sweep, whatever_window=True)]
    return await waiting(sweep, candidates)


async def waiting(sweep: Sweep, candidates: list[Candidate]) -> tuple[list[Candidate], Fleet]:
    """Those of these candidates, and of what waits for its window only, that are to be installed; and their limits."""
    installs = [item for item in candidates if item.kind is OperationKind.INSTALL]
    gone = {name for name, stored in sweep.rows.items() if stored.record.in_flight}  # dispatched just now
    await _count_machines(sweep)
    there = sweep.without_stopped([*installs, *sweep.later])
    waiting = await _with_history(sweep, [item for item in there if item.machine.id not in gone])
    images = await _images(sweep, [item.machine for item in waiting])
    troubled = await _troubled_groups(sweep, [replace(item, step=Install(State.DUE, "")) for item in waiting])
    rows = [stored.record for stored in sweep.rows.values()]
    return waiting, Fleet(rows, images, troubled, machines=sweep.machines)


async def _count_machines(sweep: Sweep) -> None:
    """Once per sweep, and only where a cap is a percentage of them."""
    services = sweep.services
    if services.settings.caps_count_machines and not sweep.machines:
        sweep.machines = await services.graph.image_sizes(await services.created_after())


async def _with_history(sweep: Sweep, candidates: list[Candidate]) -> list[Candidate]:
    """Those that are to be installed, with their last installation and, if not all can go, their oldest patch."""
    graph = sweep.services.graph
    installs = {str(item.machine.id): item.machine for item in candidates if not isinstance(item.step, Assess)}
    installed: dict[str, datetime] = {}
    oldest: dict[str, datetime] = {}
    for ids in batches(installs):
        installed |= await graph.last_installations(ids)
        await sweep.stay()
    if len(installs) > sweep.services.settings.max_in_flight.of(sum(sweep.machines.values())):
        for ids in batches(name for name, machine in installs.items() if machine.os_type is OsType.WINDOWS):
            found = await graph.oldest_patches(ids)
            oldest |= {name: patches.first for name, patches in found.items() if patches.first}
            await sweep.stay()
    return [
        replace(item, installed=installed.get(name), oldest_patch=oldest.get(name))
        for item in candidates
        for name in [str(item.machine.id)]
    ]


def _is_another(record: Record, machine: Machine) -> bool:
    """Whether a held row is about a machine that is gone. An open operation belongs to the VM, whatever its image."""
    if record.is_held(State.OVERDUE):
        return record.vm_id != machine.vm_id
    return not record.same_machine(machine)


async def _candidate(sweep: Sweep, machine: Machine) -> Candidate | None:
    """The machine and its step, when something follows now; otherwise its row remembers why not."""
    services, stored = sweep.services, sweep.rows.get(machine.id)
    if stored and stored.record.hold and _is_another(stored.record, machine):
        if stored.record.younger_than(machine):
            return None  # Graph still shows the one that had this name before: it says nothing about the row's
        await forget(services, stored)
        stored = None
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


async def _due_by_ledger(sweep: Sweep) -> dict[MachineId, Machine]:
    """Machines whose hold is over: Graph may not list them as due, and one that is gone must not be kept."""
    services, now = sweep.services, sweep.services.clock()
    held = [stored for stored in sweep.rows.values() if stored.record.due_again(now)]
    found: dict[MachineId, Machine] = {}
    async for machine in services.graph.named_machines(str(stored.record.machine) for stored in held):
        found[machine.id] = machine
    for stored in held:
        await sweep.stay()
        if stored.record.machine not in found and (seen := await _not_in_graph(sweep, stored)):
            found[seen.id] = seen
    return found


async def _not_in_graph(sweep: Sweep, stored: Stored) -> Machine | None:
    """Graph shows no such machine: ARM says whether it is gone. It keeps its row when ARM does not answer."""
    services, machine_id = sweep.services, stored.record.machine
    if machine_id.subscription in sweep.paused:
        return None
    try:
        seen = await observe(services, machine_id)
    except errors.CloudError as error:
        log_unreadable(machine_id, "ARM", error)
        return None
    match seen:
        case Seen(machine):
            return replace(machine, verdict=PatchAssessment(SupportState.ABSENT))
        case Gone():
            await forget(services, stored)
        case Throttled(throttled):
            sweep.paused.note(machine_id.subscription, throttled)
        case Unreadable(problem) | Refused(problem):
            log_unreadable(machine_id, "ARM", problem)
    return None


async def _group_not_in_graph(sweep: Sweep, machine: Machine) -> Group | None:
    """Graph does not show the resource group (yet, or to this identity): ARM is asked."""
    if machine.id.subscription in sweep.paused:
        return None
    try:
        seen = await observe_group(sweep.services, machine)
    except errors.CloudError as error:
        log_unreadable(machine.id, "resource group", error)
        return None
    match seen:
        case Seen(known) if known.group:
            return known.group
        case Throttled(throttled):
            sweep.paused.note(machine.id.subscription, throttled)
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


async def make_sweep_plan(sweep: Sweep, candidates: list[Candidate]) -> Plan:
    """What goes now. A pause plans nothing; an answer that is missing, none of what depends on it."""
    services = sweep.services
    if (wait := await _paused(sweep)) is not None:
        queued = [name for name, stored in sweep.rows.items() if stored.record.phase is Phase.QUEUED]
        return Plan((), dict.fromkeys([*queued, *(item.machine.id for item in candidates)], wait), {})
    stopped = {item.machine.id: stop.wait() for item in candidates if (stop := sweep.stop_of(item.machine))}
    candidates, sweep.later = sweep.without_stopped(candidates), sweep.without_stopped(sweep.later)
    rows = [stored.record for stored in sweep.rows.values()] + _held_by_others(sweep)
    left = {item.machine.id: step for item in candidates if (step := _left_alone(sweep, item.machine.id))}
    candidates = [item for item in candidates if item.machine.id not in left]
    try:
        if any(item.kind is OperationKind.INSTALL for item in candidates):
            await _count_machines(sweep)
        candidates, sweep.later = await _with_history(sweep, candidates), await _with_history(sweep, sweep.later)
        images = await _images(sweep, [item.machine for item in candidates if item.kind is OperationKind.INSTALL])
    except (errors.CloudError, BadInput) as error:
        sweep.fail("plan", error)
        images = {}
    candidates = [
        item for item in candidates if item.kind is OperationKind.ASSESS or item.place(services.settings) in images
    ]
    try:
        troubled = await _troubled_groups(sweep, candidates)
    except (errors.CloudError, BadInput) as error:
        sweep.fail("plan", error)
        troubled = {}
        unknown = [item for item in candidates if item.kind is OperationKind.INSTALL and item.overrides.group]
        left |= {item.machine.id: _UNKNOWN_GROUP for item in unknown}
        candidates = [item for item in candidates if item.machine.id not in left]
    fleet = Fleet(rows, images, troubled, sweep.later, sweep.machines)
    plan = make_plan(candidates, fleet, services.settings, now=services.clock())
    return replace(plan, waits={**plan.waits, **left, **stopped})


async def _paused(sweep: Sweep) -> Wait | None:
    """Why nothing at all is started now; None when something may be. Reads what people stopped."""
    services, now = sweep.services, sweep.services.clock()
    if reason := stopped_by_settings(services.settings, OperationKind.ASSESS):
        return Wait(State.PAUSED, f"paused: {reason}", "Resume when the cause is gone (docs/stop.md).")
    holds = stops_of(row for row in sweep.view.app.values() if row.key.startswith(HOLDS))
    sweep.stops = Stops.in_force([*holds, *await services.ledger.stops()], now)
    return sweep.stops.everything.wait() if sweep.stops.everything else None


def _left_alone(sweep: Sweep, machine: MachineId) -> Step | None:
    """A machine whose row this app must not write is not counted as canary or towards limits."""
    if (newer := sweep.view.left_alone.get(place_of(machine))) is None:
        return None
    remedy = "Deploy the newer release again; correct or delete a row that no release can read."
    return Wait(State.FAILED, f"left alone: {newer}", remedy)


def _held_by_others(sweep: Sweep) -> list[Record]:
    """What the rows of a newer release have in flight, as far as this one understands it: it counts towards limits.

    Bounded by its deadline: this release does not see it end.
    """
    now = sweep.services.clock()
    records = [left_alone.record for left_alone in sweep.view.left_alone.values() if left_alone.record]
    return [record for record in records if now < record.deadline]


async def _images(sweep: Sweep, machines: list[Machine]) -> dict[str, ImageRecord]:
    """The records of these machines' images, by place. One of a newer version is left out, its machines with it."""
    records = {}
    for image, boundary in sorted({(each.image.key, boundary_of(each, sweep.services.settings)) for each in machines}):
        await sweep.stay()
        try:
            record = (await sweep.services.ledger.image(image, boundary)).record if image else ImageRecord("", boundary)
            records[record.place] = record
        except LeftAlone as newer:
            journal.write("ledger.newer", image=image, boundary=boundary, problem=newer)
    return records


async def _troubled_groups(sweep: Sweep, candidates: list[Candidate]) -> dict[tuple[str, str], str]:
    """The patch-groups of due machines that have a member off or unhealthy: who, by (Settings.group_scope, group).

    A member that cannot be read holds its group back in its whole subscription; "": in any, as its id does not say it.
    """
    services = sweep.services
    wanted = sorted({item.overrides.group for item in candidates if item.kind is OperationKind.INSTALL} - {""})
    troubled: dict[tuple[str, str], str] = {}
    unwell: dict[tuple[str, str], MachineId] = {}
    running: dict[MachineId, bool] = {}
    async for member in services.graph.group_members(wanted):
        if member.machine is None:
            troubled[member.subscription, member.group] = "a machine that cannot be read"
            continue
        running[member.machine] = member.running
        stored = sweep.rows.get(member.machine)
        if not member.running or (stored and _unwell(stored.record, services.clock())):
            key = services.settings.group_scope(member.machine), member.group
            unwell[key] = min(unwell.get(key, member.machine), member.machine, key=str)
    off = await _long_off(sweep, running)
    for key, machine in unwell.items():
        troubled[key] = f"{machine.name} (off since {off[machine]} or longer)" if machine in off else machine.name
    return troubled


async def _long_off(sweep: Sweep, running: Mapping[MachineId, bool]) -> dict[MachineId, str]:
    """The members of groups that have been off for LONG_OFF, and the day since when.

    Azure does not say it. The app notes when it first saw a member off, and forgets it once the member runs.
    """
    if not running:
        return {}
    services = sweep.services
    now, known = services.clock(), await services.ledger.remembered("members-off")
    keys = {row_key(machine): machine for machine in running}
    note = {key: at for key, at in known.items() if key not in keys}
    note |= {key: known.get(key, _second(now)) for key, machine in keys.items() if not running[machine]}
    note = dict(sorted(note.items(), key=lambda item: item[1])[-MEMBERS_NOTED:])
    if note != known and sweep.lease:
        await services.ledger.remember("members-off", note)
    long_ago = _second(now - LONG_OFF)
    return {keys[key]: at[:10] for key, at in note.items() if key in keys and at <= long_ago}


def _second(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _unwell(record: Record, now: datetime) -> bool:
    """Held after an installation for trouble of its own. An expired hold does not block its own group."""
    if record.hold is None or record.kind is not OperationKind.INSTALL or record.due_again(now):
        return False
    return record.hold.state in TROUBLE


# -- dispatch: claim, then a message, in batches under the lease


async def dispatch(sweep: Sweep, plan: Plan, lease: SweepLease) -> int:
    """Sends the plan's work; returns how many claims were made. Stops when the lease is lost."""
    services, done = sweep.services, 0
    if services.settings.mode is Mode.PLAN:
        plan = _without_installations(sweep, plan)
    lost = await _write_rollouts(sweep, plan, lease)
    dispatches = [item for item in plan.dispatches if not _at_one_of(item, lost, services.settings)]
    for start in range(0, len(dispatches), BATCH):
        if not await lease.renew(services.clock()):
            journal.write("sweep.skipped", reason="the lease ran out", left=len(dispatches) - start)
            break
        batch = dispatches[start : start + BATCH]
        results = await asyncio.gather(*(_send(sweep, item) for item in batch), return_exceptions=True)
        for result in results:
            if isinstance(result, errors.CloudError):
                sweep.fail("dispatch", result)
            elif isinstance(result, BaseException):
                raise result
            else:
                done += result
    return done


async def _write_rollouts(sweep: Sweep, plan: Plan, lease: SweepLease) -> set[str]:
    """Writes the rollouts that this plan changes. Returns the places whose row changed meanwhile: nobody there goes."""
    lost = set()
    for record in plan.rollouts.values():
        stored = await sweep.services.ledger.image(record.image, record.boundary)
        fresh = written_on(stored.record, record)
        if fresh == stored.record:
            continue
        if not await lease.renew(sweep.services.clock()) or not await sweep.services.ledger.put_image(stored, fresh):
            lost.add(record.place)
            continue
        _tell_rollout(stored.record, fresh)
    return lost


def _tell_rollout(before: ImageRecord, now: ImageRecord) -> None:
    """The rollout that opened, the one that ended with it, and the rings that opened."""
    if before.opened != now.opened:
        if before.opened:
            tallies = before.rings.values()
            journal.write(
                "rollout.ended",
                image=before.image,
                boundary=before.boundary,
                cutoff=before.opened,
                succeeded=sum(tally.succeeded for tally in tallies),
                failed=sum(tally.failed for tally in tallies),
                by_hand=before.ended == before.rollout,
            )
        journal.write(
            "rollout.opened",
            image=now.image,
            boundary=now.boundary,
            cutoff=now.opened,
            rollout=now.rollout,
            row=image_key(now.place),
        )
    for ring, tally in now.rings.items():
        if tally.opened and (before.opened != now.opened or before.rings.get(ring, Tally()).opened is None):
            journal.write("rollout.ring", image=now.image, boundary=now.boundary, ring=ring_name(ring))


def _at_one_of(item: Dispatch, places: set[str], settings: Settings) -> bool:
    candidate = item.candidate
    return candidate is not None and candidate.kind is OperationKind.INSTALL and candidate.place(settings) in places


def _without_installations(sweep: Sweep, plan: Plan) -> Plan:
    """What is sent of a plan in PATCH_MODE=plan: the assessments. No rollout opens."""
    rows = sweep.rows
    kinds = {each.machine: each.candidate.kind if each.candidate else None for each in plan.dispatches}
    kinds |= {machine: rows[machine].record.kind for machine, kind in kinds.items() if not kind and machine in rows}
    sent = [each for each in plan.dispatches if kinds[each.machine] is OperationKind.ASSESS]
    return Plan(sent, plan.waits, {})


async def _send(sweep: Sweep, item: Dispatch) -> bool:
    services, stored = sweep.services, sweep.rows.get(item.machine)
    due_at = services.clock() + item.delay
    if item.candidate is None:
        if stored is None:
            return False
        return await send(
            services, stored, requeue(stored.record, services.token(), due_at, sent=True), delay=item.delay
        )
    kind, machine = item.candidate.kind, item.candidate.machine
    record = new_claim(services, machine, kind, due_at=due_at, previous=stored.record if stored else None)
    claimed = await send(services, stored, record, delay=item.delay)
    if claimed and not record.is_routine:
        journal.write(
            f"{kind.noun}.queued",
            machine=item.machine,
            reason=item.candidate.step.reason,
            delay_seconds=item.delay,
        )
    return claimed


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


async def fleet_states(services: Services) -> list[tuple[Machine, Step]]:
    """The state of every machine now, the fleet's limits included: for operators' tools and the demo."""
    return (await view_fleet(services)).states


def waits_for_its_window(step: Step) -> bool:
    """Whether nothing but its window keeps a machine from an installation."""
    return step.state is State.WAITING_FOR_WINDOW and step.when is not None
