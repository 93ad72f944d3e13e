"""`patcher run list` and `patcher run show`: the runs on demand, and how far the app has come with each."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar

from functions import journal
from functions.cloud.ledger import APP
from functions.cloud.rows import LeftAlone
from functions.cloud.runs import PROGRESS, RUNS, progress_key, progress_of_row, run_key, run_of_row
from functions.cloud.tables import Row
from functions.model.machine import Machine
from functions.model.run import Progress, Run, RunOutcome
from functions.model.text import BadInput, quoted
from patcher.connection import App
from patcher.errors import BadRequest
from patcher.output import Answer, Clock, ago, clock_of, count_of, line, table

LISTED = 5  # runs that an error names
ROWS_SHOWN = 40  # machines of one table; --json has all
BAR = 40  # characters
_ID = re.compile(r"[0-9A-Za-z-]{1,63}")  # what may stand in a row's key and be asked for


class Standing(StrEnum):
    """What a run does now."""

    UNREADABLE = "unreadable"
    SCHEDULED = "scheduled"  # its time has not come
    UNDER_WAY = "under way"
    STOPPED = "stopped"  # by a person; what is in flight goes on to its end
    OVER = "over"  # its time is over; what is in flight goes on to its end
    ENDED = "ended"


@dataclass(frozen=True)
class Known:
    """A run as its rows have it. `seen`: a sweep has seen it. `problem`: why a row of it cannot be read."""

    run: Run
    row: Row  # of the order
    progress: Progress
    seen: bool
    problem: str = ""

    def standing(self, now: datetime) -> Standing:
        run = self.run
        if self.problem:
            return Standing.UNREADABLE
        if self.progress.ended:
            return Standing.ENDED
        if run.stopped:
            return Standing.STOPPED
        if now >= run.until:
            return Standing.OVER
        return Standing.SCHEDULED if run.at and now < run.at else Standing.UNDER_WAY

    @property
    def is_open(self) -> bool:
        """Whether something of it may still be done."""
        return not self.problem and self.progress.ended is None

    @property
    def percent(self) -> int:
        """How many of its machines have had their turn."""
        return 100 * self.finished // max(len(self.run.machines), 1)

    @property
    def finished(self) -> int:
        counts = self.progress.counts(self.run)
        return sum(count for outcome, count in counts.items() if outcome.is_final)


async def known_runs(app: App) -> list[Known]:
    """The runs that the ledger has, the oldest first. A newer release's is reported, and left out."""
    ledger = app.services.ledger.table
    progress = {row.key: row async for row in ledger.keys(APP, PROGRESS)}
    found = [
        _known(row, progress.get(progress_key(row.key.removeprefix(RUNS)))) async for row in ledger.keys(APP, RUNS)
    ]
    return sorted((each for each in found if each is not None), key=lambda each: each.run.turn)


async def known_run(app: App, run_id: str) -> Known:
    """One run. Raises BadRequest, naming the others, where there is none of this id."""
    ledger = app.services.ledger.table
    row = await ledger.get(APP, run_key(run_id)) if _ID.fullmatch(run_id) else None
    found = _known(row, await ledger.get(APP, progress_key(run_id))) if row else None
    if found is None:
        raise BadRequest(f"there is no run {quoted(run_id)}; {named(await known_runs(app), app.services.clock())}")
    return found


def _known(row: Row, progress: Row | None) -> Known | None:
    try:
        run = run_of_row(row)
        if run.problem:
            return Known(run, row, Progress(), seen=False, problem=run.problem)
        return Known(run, row, progress_of_row(progress, run), seen=progress is not None)
    except LeftAlone as newer:
        journal.write("ledger.newer", problem=newer)
        return None
    except BadInput as error:
        return Known(run, row, Progress(), seen=False, problem=str(error))


def named(runs: Sequence[Known], now: datetime) -> str:
    """The ids of the newest runs, for an error: those that did not end come first."""
    if not runs:
        return "none was ordered in the last 30 days"
    newest = sorted(reversed(runs), key=lambda each: not each.is_open)
    texts = [f"{each.run.id} ({each.standing(now)})" for each in newest[:LISTED]]
    return f"there {'is' if len(runs) == 1 else 'are'} {', '.join(texts)}{' …' if len(runs) > LISTED else ''}"


def covering(runs: Iterable[Known], machine: Machine) -> Known | None:
    """The oldest open run that has something to do with a machine: it goes first."""
    return next((each for each in runs if each.is_open and _is_to_do(each, machine)), None)


def _is_to_do(known: Known, machine: Machine) -> bool:
    return known.run.covers(machine) and not known.progress.of(machine.id).outcome.is_final


# -- the answers


async def ask_list(app: App) -> Answer:
    now, when = app.services.clock(), clock_of(app.settings)
    found = [summary(each, now) for each in reversed(await known_runs(app))]
    return Answer({"runs": found}, [runs_shown("Runs", found, when)])


async def ask_show(app: App, run_id: str) -> Answer:
    known, now = await known_run(app, run_id), app.services.clock()
    result = {**summary(known, now), **_order(known.run), **_machines(known, now)}
    return Answer(result, _shown(known, result, now=now, when=clock_of(app.settings)), is_final=not known.is_open)


def summary(known: Known, now: datetime) -> dict[str, Any]:
    """One run in numbers. Of one that cannot be read, only its id and why."""
    run, readable = known.run, not known.problem
    counts = {outcome.value: count for outcome, count in known.progress.counts(run).items()}
    return {
        "run": run.id,
        "standing": known.standing(now).value,
        "kind": run.kind.value if readable else None,
        "reason": run.reason or None,
        "by": run.by or None,
        "machines": len(run.machines),
        "percent": known.percent,
        "outcomes": counts,
        "opened": run.opened if readable else None,
        "until": run.until if readable else None,
        "ended": known.progress.ended,
        "problem": known.problem or None,
    }


def _order(run: Run) -> dict[str, Any]:
    return {
        "at": run.at,
        "classifications": list(run.selection.classifications),
        "packages": list(run.selection.packages),
        "ignore_window": run.ignore_window,
        "canaries": run.canaries,
        "bake_minutes": int(run.bake.total_seconds() // 60),
        "stopped": run.stopped,
        "stopped_by": run.stopped_by or None,
        "stopped_because": run.stopped_because or None,
    }


def _machines(known: Known, now: datetime) -> dict[str, Any]:
    """What became of each machine, with the state and the reason that keep it or kept it."""
    found = []
    for machine in known.run.machines:
        item = known.progress.of(machine)
        found.append(
            {
                "machine": str(machine),
                "outcome": item.outcome.value,
                "state": item.state or None,
                "reason": item.reason or None,
                "started": item.started,
                "ended": item.ended,
            }
        )
    return {"items": found, "seen": known.seen}


# -- for people


class Bar:
    """How much is finished: a bar where a person sits before it, with the number behind it."""

    def __init__(self, percent: int, text: str) -> None:
        self.percent, self.text = percent, text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield line("finished", self.text, "bold")
        if console.is_terminal:
            yield ProgressBar(100, self.percent, width=min(BAR, options.max_width))


def runs_shown(title: str, found: Sequence[Mapping[str, Any]], when: Clock) -> RenderableType:
    rows = [
        (
            each["run"],
            each["kind"],
            each["standing"],
            each["machines"],
            f"{each['percent']} %",
            when(each["until"]),
            each["problem"] or each["reason"],
        )
        for each in found
    ]
    return table(title, ("run", "kind", "standing", "machines", "finished", f"until ({when.zone})", "why"), rows)


def _shown(known: Known, result: Mapping[str, Any], *, now: datetime, when: Clock) -> list[RenderableType]:
    run = known.run
    if known.problem:
        return [line("run", run.id), line("unreadable", known.problem, "bold red")]
    parts: list[RenderableType] = [
        line("run", f"{run.id}: {run.kind.noun} on {count_of(len(run.machines))}, {result['standing']}"),
        line("because", run.reason),
        line("by", f"{run.by or 'not known'}, {when(run.opened)}"),
        line("when", f"{f'from {when(run.at)} ' if run.at else ''}until {when(run.until)} ({when.zone})"),
    ]
    if run.selection:
        parts.append(line("patches", ", ".join((*run.selection.classifications, *run.selection.packages))))
    if run.ignore_window:
        parts.append(line("windows", "are ignored", "bold red"))
    if run.canaries:
        parts.append(line("canaries", f"{run.canaries} of each image, watched for {result['bake_minutes']} min"))
    if run.stopped:
        parts.append(line("stopped", f"{run.stopped_because} (by {run.stopped_by}), {when(run.stopped)}", "yellow"))
    if known.progress.ended:
        parts.append(line("ended", when(known.progress.ended)))
    elif not known.seen:
        parts.append(line("progress", "no sweep has seen it yet"))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in result["outcomes"].items() if count)
    parts.append(Bar(known.percent, f"{known.percent} %, {known.finished} of {len(run.machines)}: {counts}"))
    parts += _tables(result["items"], now)
    if known.is_open and not run.stopped:
        parts.append(line("to stop it", f"patcher run stop {run.id} --reason …", "green"))
    return parts


def _tables(items: Sequence[Mapping[str, Any]], now: datetime) -> list[RenderableType]:
    """In flight with its age; failed, left and kept with why."""
    parts = []
    flying = [each for each in items if each["outcome"] == RunOutcome.IN_FLIGHT]
    if flying:
        parts.append(
            _cut("In flight", ("machine", "since"), [(_name(each), ago(each["started"], now)) for each in flying])
        )
    for title, outcome in (
        ("Failed", RunOutcome.FAILED),
        ("Left", RunOutcome.LEFT),
        ("Gone", RunOutcome.GONE),
        ("Waiting", RunOutcome.TO_DO),
    ):
        there = [each for each in items if each["outcome"] == outcome and (each["state"] or outcome.is_final)]
        rows = [(_name(each), each["state"], each["reason"]) for each in there]
        if rows:
            parts.append(_cut(title, ("machine", "state", "why"), rows))
    return parts


def _cut(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    if len(rows) > ROWS_SHOWN:
        title = f"{title} (the first {ROWS_SHOWN} of {len(rows)}; --json has all)"
    return table(title, columns, rows[:ROWS_SHOWN])


def _name(item: Mapping[str, Any]) -> str:
    return str(item["machine"]).rsplit("/", 1)[-1]
