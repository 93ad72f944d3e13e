"""What goes now: the plan of a sweep over the due machines, with what it has to look up for it.

A person's stop plans nothing for those that it covers. An answer that is missing plans none of what depends on it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from functions import journal
from functions.cloud import errors
from functions.cloud.resource_graph import IDS_PER_QUERY
from functions.cloud.rows import LeftAlone, place_of, row_key
from functions.cloud.stops import HOLDS, stops_of
from functions.decisions.plan import Candidate, Fleet, Plan, make_plan
from functions.decisions.rollout import boundary as boundary_of
from functions.model.image_record import ImageRecord
from functions.model.machine import Machine, MachineId, OsType
from functions.model.record import Record
from functions.model.state import Assess, Cause, OperationKind, Phase, State, Step, Wait
from functions.model.stop import Stops
from functions.model.text import BadInput
from functions.steps.find import find
from functions.steps.start import forbidden_by_settings
from functions.steps.sweep import Sweep

Answers = TypeVar("Answers", bound=Mapping[str, object])
LONG_OFF = timedelta(days=7)  # from then on the reason says since when a member of a patch-group is off
MEMBERS_NOTED = 200  # a note of them fits a column of the table
_UNKNOWN_GROUP = Wait(
    State.WAITING_FOR_GROUP,
    "whether another member of its patch-group is off or unhealthy is not known: Resource Graph did not answer",
    cause=Cause.TRANSIENT,
)
TROUBLE = {State.FAILED, State.OVERDUE, State.BUSY, State.POWERED_OFF, State.AGENT_NOT_READY}


async def make_sweep_plan(
    sweep: Sweep,
    candidates: list[Candidate],
    *,
    coming: Sequence[Record] = (),
    rollouts: Mapping[str, ImageRecord] = MappingProxyType({}),
) -> Plan:
    """What goes now. A pause plans nothing; an answer that is missing, none of what depends on it.

    `coming`: claims to come that count towards the limits. `rollouts`: records to come of images, by place.
    """
    services = sweep.services
    if (wait := await _paused(sweep)) is not None:
        queued = [name for name, stored in sweep.rows.items() if stored.record.phase is Phase.QUEUED]
        return Plan((), dict.fromkeys([*queued, *(item.machine.id for item in candidates)], wait), {})
    under_stop = {item.machine.id: stop.wait() for item in candidates if (stop := sweep.stop_of(item.machine))}
    candidates = [item for item in candidates if item.machine.id not in under_stop]
    sweep.later = sweep.outside_stops(sweep.later)
    rows = [stored.record for stored in sweep.rows.values()] + _held_by_others(sweep)
    rows += [each for each in coming if not _in_hand(sweep, each.machine)]
    left = {item.machine.id: step for item in candidates if (step := _left_alone(sweep, item.machine.id))}
    candidates = [item for item in candidates if item.machine.id not in left]
    candidates, images = await _with_images(sweep, candidates, rollouts)
    try:
        troubled = await _troubled_groups(sweep, [item for item in candidates if item.kind is OperationKind.INSTALL])
    except (errors.CloudError, BadInput) as error:
        sweep.fail("plan", error)
        troubled = {}
        unknown = [item for item in candidates if item.kind is OperationKind.INSTALL and item.overrides.group]
        left |= {item.machine.id: _UNKNOWN_GROUP for item in unknown}
        candidates = [item for item in candidates if item.machine.id not in left]
    progress = {each.run.id: each.progress for each in sweep.runs}
    fleet = Fleet(rows, images, troubled, sweep.later, sweep.machines, progress, read_at=sweep.began)
    plan = make_plan(candidates, fleet, services.settings, now=services.clock())
    return replace(plan, waits={**plan.waits, **left, **under_stop})


async def _with_images(
    sweep: Sweep, candidates: list[Candidate], rollouts: Mapping[str, ImageRecord]
) -> tuple[list[Candidate], dict[str, ImageRecord]]:
    """The candidates with their history, and the records of their images; assessments alone where these are missing."""
    images: dict[str, ImageRecord] = {}
    try:
        if any(item.kind is OperationKind.INSTALL for item in candidates):
            await count_machines(sweep)
        candidates, sweep.later = await _with_history(sweep, candidates), await _with_history(sweep, sweep.later)
        found = await _images(sweep, [item.machine for item in candidates if item.kind is OperationKind.INSTALL])
        images = {place: rollouts.get(place, record) for place, record in found.items()}
    except (errors.CloudError, BadInput) as error:
        sweep.fail("plan", error)
    settings = sweep.services.settings
    known = [item for item in candidates if item.kind is OperationKind.ASSESS or item.place(settings) in images]
    return known, images


async def _paused(sweep: Sweep) -> Wait | None:
    """Why nothing at all is started now; None when something may be. Reads what people stopped, whatever settings say:
    the forecast leaves their machines out.
    """
    services, now = sweep.services, sweep.services.clock()
    holds = stops_of(row for row in sweep.view.app.values() if row.key.startswith(HOLDS))
    sweep.stops = Stops.in_force([*holds, *await services.ledger.stops()], now)
    if reason := forbidden_by_settings(services.settings, OperationKind.ASSESS):
        return Wait(State.PAUSED, f"paused: {reason}", "Resume when the cause is gone (docs/stop.md).")
    return sweep.stops.everything.wait() if sweep.stops.everything else None


async def all_waiting(sweep: Sweep, candidates: list[Candidate]) -> list[Candidate]:
    """Every machine that could be installed but for its window and the fleet's limits."""
    services = sweep.services
    if not services.settings.some_window_open(services.clock()):  # the sweep asked for none of them
        sweep.later.clear()
        candidates = [item async for item in find(sweep, whatever_window=True)]
    return _to_be_installed(sweep, candidates)


async def waiting(sweep: Sweep, candidates: list[Candidate]) -> tuple[list[Candidate], Fleet]:
    """Those of these candidates, and of what waits for its window only, that are to be installed; and their limits."""
    return await with_limits(sweep, _to_be_installed(sweep, candidates))


def _to_be_installed(sweep: Sweep, candidates: list[Candidate]) -> list[Candidate]:
    installs = [item for item in candidates if item.kind is OperationKind.INSTALL]
    gone = {name for name, stored in sweep.rows.items() if stored.record.in_flight}  # dispatched just now
    return [item for item in sweep.outside_stops([*installs, *sweep.later]) if item.machine.id not in gone]


async def with_limits(sweep: Sweep, waiting: list[Candidate]) -> tuple[list[Candidate], Fleet]:
    """These machines with their history, and what limits them."""
    await count_machines(sweep)
    waiting = await _with_history(sweep, waiting)
    images = await _images(sweep, [item.machine for item in waiting])
    troubled = await _troubled_groups(sweep, waiting)
    rows = [stored.record for stored in sweep.rows.values()]
    return waiting, Fleet(rows, images, troubled, machines=sweep.machines)


async def count_machines(sweep: Sweep) -> None:
    """Once per sweep, and only where a cap is a percentage of them."""
    services = sweep.services
    if services.settings.caps_count_machines and not sweep.machines:
        sweep.machines = await services.graph.image_sizes(await services.created_after())


async def _with_history(sweep: Sweep, candidates: list[Candidate]) -> list[Candidate]:
    """Those that are to be installed, with their last installation and, if not all can go, their oldest patch."""
    graph, known = sweep.services.graph, list(candidates)
    installs = [place for place, item in enumerate(known) if not isinstance(item.step, Assess)]
    async for place, name, times in _asked(sweep, known, places=installs, ask=graph.last_installations):
        known[place] = known[place].with_history(times.get(name), None)
    if len(installs) > sweep.services.settings.max_in_flight.of(sum(sweep.machines.values())):
        windows = [place for place in installs if known[place].machine.os_type is OsType.WINDOWS]
        async for place, name, oldest in _asked(sweep, known, places=windows, ask=graph.oldest_patches):
            first = oldest[name].first if name in oldest else None
            known[place] = known[place].with_history(known[place].installed, first)
    return known


async def _asked(
    sweep: Sweep, items: Sequence[Candidate], *, places: Sequence[int], ask: Callable[[list[str]], Awaitable[Answers]]
) -> AsyncIterator[tuple[int, str, Answers]]:
    """Each place among the items with its machine's id and the answers about its part, which are held no longer."""
    for start in range(0, len(places), IDS_PER_QUERY):
        part = {place: str(items[place].machine.id) for place in places[start : start + IDS_PER_QUERY]}
        answers = await ask(list(part.values()))
        for place, name in part.items():
            yield place, name, answers
        await sweep.stay()


def _left_alone(sweep: Sweep, machine: MachineId) -> Step | None:
    """A machine whose row this app must not write is not counted as canary or towards limits."""
    if (newer := sweep.view.left_alone.get(place_of(machine))) is None:
        return None
    remedy = "Deploy the newer release again; correct or delete a row that no release can read."
    return Wait(State.FAILED, f"left alone: {newer}", remedy)


def _in_hand(sweep: Sweep, machine: MachineId) -> bool:
    """Whether the machine's own row counts as an installation already."""
    stored = sweep.rows.get(machine)
    return stored is not None and stored.record.kind is OperationKind.INSTALL and stored.record.may_be_rebooting


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


async def _troubled_groups(sweep: Sweep, installs: list[Candidate]) -> dict[tuple[str, str], str]:
    """The patch-groups of those to be installed that have a member off or unhealthy: who, by (group_scope, group).

    A member that cannot be read holds its group back in its whole subscription; "": in any, as its id does not say it.
    """
    services = sweep.services
    wanted = sorted({item.overrides.group for item in installs} - {""})
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
