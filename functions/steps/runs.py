"""Runs on demand in a sweep: whose turn they give, and how far each has come, reported and written.

How far a run has come follows from the machines' rows at every sweep, and is written before a row that proves it goes.
It is reported before it is written: a sweep that is killed anywhere writes a line twice at most, and no machine runs
twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import APP, LedgerView, Stored
from functions.cloud.rows import LeftAlone
from functions.cloud.runs import PROGRESS, RUNS, ended, progress_columns, progress_key, progress_of_row, run_of_row
from functions.cloud.tables import Row
from functions.decisions import notices
from functions.decisions import runs as decisions
from functions.decisions.changes import NOT_KNOWN
from functions.decisions.question import with_selection
from functions.model.machine import Machine, MachineId
from functions.model.notice import Notice
from functions.model.run import Item, Progress, Run, RunOutcome
from functions.model.state import Assess, Install, OperationKind, Step
from functions.model.text import BadInput
from functions.services import Services
from functions.steps.observe import with_named_patches

KEPT = timedelta(days=30)  # the rows of a run that ended
REMEDY = "Correct or delete the row (docs/runs.md)."
GONE = Item(RunOutcome.GONE)


@dataclass
class OpenRun:
    """One run as a sweep knows it."""

    run: Run
    row: Row
    progress: Progress
    progress_row: Row | None  # None: no sweep has seen it before
    before: Progress  # as its row has it
    lost: bool = False  # its row could not be written: the sweep decides nothing of it
    steps: dict[MachineId, Step] = field(default_factory=dict)  # what keeps its machines, as far as this sweep knows

    def orders(self, machine: MachineId) -> bool:
        """Whether the step of this machine that may go now is one that this run orders."""
        return isinstance(self.steps.get(machine), Assess | Install)

    @property
    def counts(self) -> Mapping[RunOutcome, int]:
        return self.progress.counts(self.run)

    def update(self, items: Mapping[MachineId, Item]) -> None:
        self.progress = self.progress.noted(items)


# -- what the sweep has to know


async def read(view: LedgerView) -> list[OpenRun]:
    """The runs that did not end, as `open_runs` has them; a new one is reported and noted."""
    found = open_runs(view)
    for open_run in found:
        if open_run.progress_row is None:
            _tell_opened(open_run.run)
            await _write(view, open_run)
    return found


def open_runs(view: LedgerView) -> list[OpenRun]:
    """The runs that did not end, the oldest first. One that cannot be read is reported and left."""
    found = []
    for key, row in view.app.items():
        if not key.startswith(RUNS):
            continue
        try:
            if open_run := _open_run(view, row):
                found.append(open_run)
        except LeftAlone as newer:
            journal.write("ledger.newer", problem=newer)
        except BadInput as error:
            journal.write("run.unreadable", row=key, problem=error, remedy=REMEDY)
    return sorted(found, key=lambda each: each.run.turn)


def _open_run(view: LedgerView, row: Row) -> OpenRun | None:
    progress_row = view.app.get(progress_key(row.key.removeprefix(RUNS)))
    if ended(progress_row):
        return None
    run = run_of_row(row)
    if run.problem:
        raise BadInput(run.problem)
    progress = progress_of_row(progress_row, run)
    return OpenRun(run, row, progress, progress_row, before=progress)


def wanting(services: Services, runs: Iterable[OpenRun], machine: Machine) -> list[OpenRun]:
    """The runs that want something of the machine now, the oldest first."""
    now = services.clock()
    return [
        each
        for each in runs
        if each.progress.of(machine.id).outcome is RunOutcome.TO_DO
        and not each.lost
        and each.run.wants(now)
        and each.run.covers(machine)
    ]


def to_do(services: Services, runs: Iterable[OpenRun]) -> dict[MachineId, OpenRun]:
    """The machines of which runs want something now."""
    now = services.clock()
    wanting = [each for each in runs if each.run.wants(now) and not each.lost]
    return {
        machine: each
        for each in reversed(wanting)
        for machine in each.progress.with_outcome(each.run, RunOutcome.TO_DO)
    }


Selected = Mapping[tuple[str, MachineId], Machine]  # by the id of the run


async def as_selected(services: Services, runs: Iterable[OpenRun], machines: Iterable[Machine]) -> Selected:
    """The machines of runs that select patches, with how many of theirs the selection names. Raises CloudError."""
    found: dict[tuple[str, MachineId], Machine] = {}
    of_run: dict[str, tuple[Run, list[Machine]]] = {}
    for machine in machines:
        for open_run in wanting(services, runs, machine):
            if open_run.run.selection and machine.verdict:
                bare = replace(machine, verdict=replace(machine.verdict, named=None))
                of_run.setdefault(open_run.run.id, (open_run.run, []))[1].append(bare)
    for run, members in of_run.values():
        settings = with_selection(services.settings, run)
        found |= {(run.id, each.id): each for each in await with_named_patches(services, members, settings)}
    return found


# -- how far each has come


async def record_progress(view: LedgerView, runs: Iterable[OpenRun], *, had: frozenset[MachineId]) -> None:
    """Writes what the rows of machines show. `had`: whose rows this sweep began with.

    A row that is gone is that of a machine that is gone: what ended well was written before.
    """
    for each in runs:
        items = {machine: _by_row(each, view, machine, had=had) for machine in each.run.machines}
        each.update({machine: item for machine, item in items.items() if item is not None})
        await _write(view, each)


def _by_row(open_run: OpenRun, view: LedgerView, machine: MachineId, *, had: frozenset[MachineId]) -> Item | None:
    stored, item = view.rows.get(machine), open_run.progress.of(machine)
    if news := decisions.by_record(open_run.run, item, stored.record if stored else None):
        return news
    if item.outcome is not RunOutcome.IN_FLIGHT or (stored and stored.record.run == open_run.run.id):
        return None
    return GONE if stored is None and machine in had else Item()


async def _write(view: LedgerView, open_run: OpenRun) -> None:
    """Where that fails, the run stands still for this sweep: its rows are as they were, and nothing of it begins."""
    unchanged = open_run.progress == open_run.before and open_run.progress_row is not None
    if unchanged or open_run.lost:
        return
    is_news = open_run.progress.ended is not None or open_run.counts != open_run.before.counts(open_run.run)
    if is_news:
        _tell_progress(open_run)
    columns = progress_columns(open_run.progress, open_run.run)
    row, key = open_run.progress_row, progress_key(open_run.run.id)
    told = [_notice(open_run)] if is_news or row is None else []
    try:
        written = await view.put_row(row, (APP, key), columns, notices=told)
    except errors.CloudError as error:
        journal.write("sweep.failed", stage="runs", problem=error)
        written = None
    if written is None:
        open_run.lost = True
    else:
        open_run.before, open_run.progress_row = open_run.progress, written


def _notice(open_run: OpenRun) -> Notice:
    """What receivers of notices learn with the row."""
    run, counts = open_run.run, open_run.counts
    not_begun = (RunOutcome.TO_DO, RunOutcome.LEFT, RunOutcome.GONE)
    return notices.run_progress(
        run.id,
        machines=len(run.machines),
        started=len(run.machines) - sum(counts[each] for each in not_begun),
        succeeded=counts[RunOutcome.SUCCEEDED],
        failed=counts[RunOutcome.FAILED],
        over=open_run.progress.ended is not None,
    )


def confirmable(runs: Iterable[OpenRun], rows: Iterable[Stored]) -> list[Stored]:
    """The rows without those whose end could not be written: they prove it at the next sweep."""
    lost = {each.run.id for each in runs if each.lost}
    return [stored for stored in rows if stored.record.run not in lost]


# -- what is reported to people


async def tell(
    services: Services, view: LedgerView, runs: Iterable[OpenRun], *, waits: Mapping[MachineId, Step]
) -> None:
    """What this sweep began, what keeps the others, what ended. `waits`: why the plan keeps machines.

    Deletes rows that are old.
    """
    for each in runs:
        if each.lost:
            continue
        _take_in(services, view, each, waits=waits)
        await _write(view, each)
    await _delete_old(services, view)


def _take_in(services: Services, view: LedgerView, open_run: OpenRun, *, waits: Mapping[MachineId, Step]) -> None:
    """Takes in this sweep's claims, what keeps the others, and that the run is over."""
    run, now = open_run.run, services.clock()
    claims = {machine: _by_row(open_run, view, machine, had=frozenset()) for machine in run.machines}
    open_run.update({machine: item for machine, item in claims.items() if item is not None})
    kept = {}
    for machine in open_run.progress.with_outcome(run, RunOutcome.TO_DO):
        step = open_run.steps.get(machine)
        if step and open_run.orders(machine):  # otherwise it is not this run that the plan lets wait
            step = waits.get(machine, step)
        if step and (item := decisions.by_step(step)):
            kept[machine] = item
    open_run.update(kept)
    if run.is_over(now):
        open_run.update(decisions.left_at_its_end(run, open_run.progress))
    if decisions.has_ended(run, open_run.progress):
        open_run.progress = replace(open_run.progress, ended=now)


def _tell_opened(run: Run) -> None:
    selection = run.selection
    journal.write(
        "run.opened",
        run=run.id,
        kind=run.kind,
        reason=run.reason,
        by=run.by or NOT_KNOWN,
        machines=len(run.machines),
        at=run.at,
        until=run.until,
        patches=", ".join((*selection.classifications, *selection.packages)),
        ignores_window="yes" if run.ignore_window and run.kind is OperationKind.INSTALL else None,
    )


def _tell_progress(open_run: OpenRun) -> None:
    run, counts, ended_at = open_run.run, open_run.counts, open_run.progress.ended
    over = ended_at is not None
    journal.write(
        "run.ended" if over else "run.progressed",
        run=run.id,
        kind=run.kind,
        reason=run.reason,
        by=run.by or NOT_KNOWN,
        machines=len(run.machines),
        to_do=None if over else counts[RunOutcome.TO_DO],
        in_flight=None if over else counts[RunOutcome.IN_FLIGHT],
        succeeded=counts[RunOutcome.SUCCEEDED],
        failed=counts[RunOutcome.FAILED],
        gone=counts[RunOutcome.GONE],
        left=counts[RunOutcome.LEFT],
        seconds=ended_at - run.opened if ended_at else None,
        stopped_by=(run.stopped_by or NOT_KNOWN) if over and run.stopped else None,
        because=run.stopped_because if over else None,
    )


async def _delete_old(services: Services, view: LedgerView) -> None:
    """The order goes first: progress without an order opens no run, an order without progress would."""
    limit = services.clock() - KEPT
    for key, row in view.app.items():
        if not key.startswith(PROGRESS):
            continue
        order = view.app.get(f"{RUNS}{key.removeprefix(PROGRESS)}")
        at = ended(row)
        if order and at and at < limit:
            await view.table.delete(order)
        elif order is None:  # deleted by the sweep before, or by a person
            await view.table.delete(row)
