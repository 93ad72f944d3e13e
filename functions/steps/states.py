"""The state of each machine now: what it is, and one line when it differs from what was last reported.

A sweep reports what it has in hand: rows of the ledger, its plan, and waits of the machines themselves. A machine that
it had in hand and has no more is asked for by name, once. The daily census reports all others. Lines come before
notes: a sweep that is killed in between reports twice, and loses nothing.
"""

from collections.abc import AsyncIterator, Container, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Protocol

from functions import journal
from functions.cloud.ledger import Stored
from functions.cloud.notes import NoteBook
from functions.cloud.resource_graph import CENSUS_SHARES
from functions.decisions.decision import displayed_step, pending_step
from functions.decisions.forecast import Turn
from functions.decisions.plan import Plan
from functions.decisions.rollout import ring_name
from functions.model.machine import Machine, MachineId
from functions.model.state import AWAIT_A_TURN, Assess, Install, State, Step
from functions.model.told import Note, Told, digest, week_of
from functions.policy.values import Mode
from functions.policy.windows import HORIZON
from functions.services import Services
from functions.steps.observe import ask, with_managers, with_named_patches

BATCH = 1000  # machines asked about or counted together, and lines between two pauses
PAUSE_SECONDS = 1.0  # the host carries 290 journal lines a second without losing one
AN_HOUR = timedelta(hours=1)  # a forecast that moves less is not news

Rows = Mapping[MachineId, Stored]
Steps = Mapping[MachineId, Step]
Said = Iterable[tuple[MachineId, Told]]  # one after the other: those of a large fleet are not held at once


class Telling(Protocol):
    """What telling needs of a sweep."""

    services: Services
    notes: NoteBook

    async def stay(self) -> None: ...


def expected(sweep: Telling, machine: MachineId) -> datetime | None:
    """When the machine's installation is expected, by the last forecast."""
    note = sweep.notes.notes.get(machine)
    return note.expected if note else None


async def tell(sweep: Telling, steps: Said, *, in_hand: Container[MachineId] = (), counted: bool = False) -> None:
    """One line for each machine of which something else was reported, or nothing. Raises CloudError.

    `in_hand`: those that the next sweep finds again unless they change. `counted`: the census has written the line of
    each, and does not know what a sweep has in hand.
    """
    book, now, settings = sweep.notes, sweep.services.clock(), sweep.services.settings
    changed: dict[MachineId, Note | None] = {}
    lines = 0
    for machine, found in steps:
        if not book.knows(machine):
            continue
        before = book.notes.get(machine)
        told = _as_planned(found, before) if settings.mode is Mode.PLAN else _with_forecast(found, before)
        note = told.note(now, in_hand=before.in_hand if counted and before else machine in in_hand)
        if not counted and _is_news(before, note, planned=settings.mode is Mode.PLAN):
            _write(sweep.services, machine, told, before=before)
            lines += 1
            if lines % BATCH == 0:
                await sweep.services.sleep(PAUSE_SECONDS)
                await sweep.stay()
        if before is None or _worth_noting(before, note):
            changed[machine] = note
    await _remember(sweep, changed)


def of_sweep(rows: Rows, plan: Plan, known: Mapping[MachineId, Told], *, now: datetime) -> Said:
    """What a sweep says of the machines that it has in hand. `known`: what its own rules say."""
    waits = plan.waits
    others = (machine for machine in (*waits, *(each for each in rows if each not in waits)) if machine not in known)
    for machine in chain(known, others):
        if told := _in_hand(machine, rows, waits, known=known.get(machine), now=now):
            yield machine, told


def _in_hand(machine: MachineId, rows: Rows, waits: Steps, *, known: Told | None, now: datetime) -> Told | None:
    """None: nothing that is news."""
    stored, wait = rows.get(machine), waits.get(machine)
    if stored and stored.record.is_routine and not stored.record.hold:
        return None  # only what it changes is news
    if stored and (pending := wait or pending_step(stored.record, now)):
        return Told(pending, image=stored.record.image)
    if wait:
        return known.with_step(wait) if known else Told(wait)
    return known


async def of_the_rest(
    sweep: Telling, rows: Rows, *, had: Iterable[MachineId], in_hand: Container[MachineId]
) -> dict[MachineId, Told | None]:
    """What the machines are that were in hand and are no more, asked for by name; None for those gone.

    `had`: whose rows this sweep began with. `in_hand`: what it has in hand besides `rows`. Raises CloudError.
    """
    noted = {machine for machine, note in sweep.notes.notes.items() if note.in_hand}
    left = sorted((each for each in noted.union(had) if each not in in_hand and each not in rows), key=str)
    found: dict[MachineId, Told | None] = dict.fromkeys(left)
    for first in range(0, len(left), BATCH):
        await sweep.stay()
        names = map(str, left[first : first + BATCH])
        machines = [each async for each in sweep.services.graph.named_machines(names)]
        async for machine, step in _states_of(sweep.services, machines, rows, waits={}):
            found[machine.id] = of_machine(machine, step, sweep.services)
    return found


def lack_a_time(sweep: Telling, steps: Said) -> bool:
    """Whether one of them began to wait for a turn that no forecast has looked for."""
    notes = sweep.notes.notes
    return any(_lacks_a_time(told, notes.get(machine)) for machine, told in steps)


def _lacks_a_time(told: Told, before: Note | None) -> bool:
    if told.step.state not in AWAIT_A_TURN or isinstance(told.step, Assess):
        return False
    known = _with_forecast(told, before)
    began = before is None or before.digest != digest(told.step)
    return began and known.expected is None and not known.never


def with_turns(steps: Said, forecast: Mapping[MachineId, Turn | None]) -> Said:
    """With what a forecast made in this sweep says of each. None: its turn never comes."""
    for machine, told in steps:
        yield machine, _with_turn(told, forecast[machine]) if machine in forecast else told


async def forget(sweep: Telling, gone: Iterable[MachineId]) -> None:
    """Machines that are gone, or out of scope, are no longer reported."""
    await _remember(sweep, dict.fromkeys(gone))


def of_machine(machine: Machine, step: Step, services: Services) -> Told:
    """The step with what a line says of its machine."""
    return Told(step, image=machine.image.key, owner=machine.tag(services.settings.owner_tag))


async def states(
    services: Services, rows: Rows, waits: Steps, *, shares: Iterable[int] = range(CENSUS_SHARES)
) -> AsyncIterator[tuple[Machine, Step]]:
    """The machines in scope, each with its one state, reason and remedy. `waits`: what a plan made of the due ones."""
    batch: list[Machine] = []
    async for machine in services.graph.census(shares):
        batch.append(machine)
        if len(batch) == BATCH:
            async for item in _states_of(services, batch, rows, waits=waits):
                yield item
            batch = []
    async for item in _states_of(services, batch, rows, waits=waits):
        yield item


async def _states_of(
    services: Services, machines: list[Machine], rows: Rows, *, waits: Steps
) -> AsyncIterator[tuple[Machine, Step]]:
    groups = await services.graph.resource_groups(machine.id.group_id for machine in machines)
    for machine in await with_managers(services, await with_named_patches(services, machines)):
        record = rows[machine.id].record if machine.id in rows else None
        known = machine.in_resource_group(groups[machine.id.group_id]) if machine.id.group_id in groups else machine
        if record and record.is_former_hold(machine):
            record = None
        step = displayed_step(await ask(services, known, record))
        if isinstance(step, Assess | Install) or step.state is State.QUEUED:  # a claim may wait for a person
            step = waits.get(machine.id, step)
        yield known, step


def _with_turn(told: Told, turn: Turn | None) -> Told:
    if turn:
        return replace(told, expected=turn.at, ring=ring_name(turn.ring), canary=turn.canary)
    return _as_never(told)


def _as_never(told: Told) -> Told:
    reason = f"its turn does not come within {HORIZON.days} days: {told.step.reason}"
    return replace(told, step=replace(told.step, reason=reason), never=True)


def _with_forecast(told: Told, before: Note | None) -> Told:
    """With the last forecast, as long as the machine still waits for its turn, and for the same opening."""
    if told.expected or told.never or before is None or told.step.state not in AWAIT_A_TURN:
        return told
    if told.step.state == before.state == State.WAITING_FOR_WINDOW and digest(told.step) != before.digest:
        return told
    return _as_never(told) if before.never else replace(told, expected=before.expected)


def _as_planned(told: Told, before: Note | None) -> Told:
    """PATCH_MODE=plan: what would be installed is reported as that, with its time."""
    known = _with_forecast(told, before)
    if known.expected is None:
        return known
    return replace(known, step=Install(known.step.state, known.step.reason, when=known.expected))


def _is_news(before: Note | None, after: Note, *, planned: bool) -> bool:
    """A time that was not known is news. `planned`: and so is another one."""
    if before is None or before.digest != after.digest or (after.expected and not before.expected):
        return True
    return planned and _is_later(before.expected, after.expected)


def _worth_noting(before: Note, after: Note) -> bool:
    return not before.same_but_for_the_time(after) or _is_later(before.expected, after.expected)


def _is_later(before: datetime | None, after: datetime | None) -> bool:
    """Whether an expected time came, went or moved by as much as people care for."""
    if before is None or after is None:
        return before != after
    return abs(before - after) >= AN_HOUR


async def _remember(sweep: Telling, changed: Mapping[MachineId, Note | None]) -> None:
    if changed:
        await sweep.notes.write(changed, week_of(sweep.services.clock()))


def _write(services: Services, machine: MachineId, told: Told, *, before: Note | None) -> None:
    step = told.step
    journal.write(
        "machine.planned" if services.settings.mode is Mode.PLAN else "machine.changed",
        machine=machine,
        image=told.image,
        owner=told.owner,
        verb=step.verb,
        state=step.state,
        reason=step.reason,
        remedy=step.remedy,
        when=step.when or told.expected,
        expected=told.expected,
        was=before.state if before else None,
        ring=told.ring,
        canary=told.canary,
    )
