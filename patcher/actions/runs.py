"""`run assess`, `run install` and `run stop`: the order of a run on demand, one row of the ledger."""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from rich.console import RenderableType

from functions.cloud.ledger import APP
from functions.cloud.runs import columns_of, run_key
from functions.decisions.question import wanted_classifications, with_selection
from functions.model.machine import KB_NUMBER, Machine, OsType
from functions.model.run import MAX_MACHINES, USUAL_LENGTH, Run, Selection
from functions.model.state import OperationKind
from functions.model.text import BadInput, quoted
from functions.policy import grammar
from functions.policy.settings import Settings
from functions.policy.values import Mode
from patcher.acting import Action, Deed, Pen, reason_of
from patcher.actions import foresight
from patcher.actions.foresight import Foresight, foresee
from patcher.actions.selecting import Selector, census, selected
from patcher.actions.times import moment_of, span_of
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.output import Answer, clock_of, count_of, line
from patcher.questions.runs import Known, Standing, covering, known_run, known_runs, named
from patcher.questions.status import paused_because

TRIES = 5  # another person may write the same row in between
MAX_PATCHES = 100  # that a run names
MAX_CANARIES = 100
_LETTERS = "23456789abcdefghjkmnpqrstvwxyz"  # none that is taken for another one
_OF_SYSTEM = {OsType.WINDOWS: "--kb", OsType.LINUX: "--package"}


@dataclass(frozen=True)
class Words:
    """What a person said of a run. `expect`: how many machines are meant; None: not said."""

    kind: OperationKind
    selector: Selector
    reason: str
    at: str = ""
    until: str = ""
    classifications: Sequence[str] = ()
    packages: Sequence[str] = ()
    kbs: Sequence[str] = ()
    canaries: int = 0
    bake: str = ""
    ignore_window: bool = False
    expect: int | None = None
    everyone: bool = False  # the preview names every machine
    agreed: bool = False  # by --yes


def order(words: Words) -> Action:
    """Shows what the run would do, and writes its order once a person agrees."""

    async def prepare(app: App, pen: Pen) -> Deed:
        bare = _run(words, app, pen)
        await _check_app(app, words.kind)
        machines, left_out = _split(bare, await _meant(app, words), app.settings)
        _check_count(words, len(machines))
        run = replace(bare, machines=tuple(each.id for each in machines))
        seen = await foresee(app, run, machines)
        if seen.is_hopeless:
            end = clock_of(app.settings)(run.until)
            raise BadRequest(f"no machine would go before {end}: {_why_not(seen)}; nothing was done")
        shown = [*_ordered(run, machines, left_out=left_out, app=app), *await _others(app, machines)]
        shown += foresight.shown(seen, app.settings, clock_of(app.settings), everyone=words.everyone)
        count = str(len(machines))
        return Deed(
            f"{run.kind.value} on {count_of(len(machines))}",
            lambda: _place(pen, run, seen),
            ask_first=True,
            shown=shown,
            confirm=count if words.selector.everything else "",
        )

    return prepare


def stop(run_id: str, *, reason: str) -> Action:
    """Nothing more of the run begins; what is in flight goes on to its end."""

    async def prepare(app: App, pen: Pen) -> Deed:
        why = reason_of(reason)
        await _stoppable(app, run_id)

        async def do() -> Answer:
            for _ in range(TRIES):
                known = await _stoppable(app, run_id)
                stopped = replace(known.run, stopped=app.services.clock(), stopped_by=pen.by, stopped_because=why)
                if await pen.table.replace(known.row, {**known.row.columns, **columns_of(stopped)}):
                    return _stopped(stopped)
            raise NoAnswer("others keep changing the same row, and nothing was written; look at it and try again")

        return Deed(f"stop run {run_id}", do)

    return prepare


# -- what is ordered


def _run(words: Words, app: App, pen: Pen) -> Run:
    """The order without its machines. Raises BadRequest."""
    now, zone = app.services.clock(), clock_of(app.settings).zone
    at = moment_of(words.at, "--at", now=now, zone=zone) if words.at else None
    until = moment_of(words.until, "--until", now=now, zone=zone) if words.until else (at or now) + USUAL_LENGTH
    if at and until <= at:
        raise BadRequest(f"--until is {quoted(words.until)}, and that is not after --at")
    if not 0 <= words.canaries <= MAX_CANARIES:
        raise BadRequest(f"--canaries is {words.canaries}; 1 to {MAX_CANARIES} of each image are right")
    bake = span_of(words.bake, "--bake") if words.bake else timedelta(0)
    if bake and not words.canaries:
        raise BadRequest("--bake is how long canaries are watched; say how many: --canaries N")
    if (at or now) + bake >= until:
        raise BadRequest(f"--bake is {quoted(words.bake)}, and the run is over before; give a later --until")
    return Run(
        id=_new_id(now),
        kind=words.kind,
        machines=(),
        reason=reason_of(words.reason),
        by=pen.by,
        opened=now,
        until=until,
        at=at,
        selection=_selection(words),
        ignore_window=words.ignore_window,
        canaries=words.canaries,
        bake=bake,
    )


def _new_id(now: datetime) -> str:
    """Sorts by the minute; the rest keeps two of one minute apart."""
    return f"{now:%Y%m%dT%H%M}-{''.join(secrets.choice(_LETTERS) for _ in range(4))}"


def _selection(words: Words) -> Selection:
    """Raises BadRequest: an unknown classification, a package that is none, or a KB that is none."""
    classes = _read("--classification", words.classifications, grammar.classifications)
    names = _read("--package", words.packages, grammar.packages)
    if wrong := [name for name in names if KB_NUMBER.fullmatch(name)]:
        raise BadRequest(f"--package is {quoted(wrong[0])}, the number of a KB: --kb {wrong[0]}")
    numbers = []
    for text in words.kbs:
        if not (match := KB_NUMBER.fullmatch(text)):
            raise BadRequest(f"--kb is {quoted(text)}; KB5043080 is right")
        numbers.append(f"kb{match[1]}")
    packages = tuple(dict.fromkeys([*numbers, *(name.lower() for name in names)]))
    if len(packages) > MAX_PATCHES:
        raise BadRequest(f"{len(packages)} patches are named; up to {MAX_PATCHES} are right")
    return Selection(classes, packages)


def _read(option: str, texts: Sequence[str], reader: grammar.Reader[tuple[str, ...]]) -> tuple[str, ...]:
    """What an option names, each time that it is given. Raises BadRequest."""
    if not texts:
        return ()
    text = ",".join(texts)
    try:
        return reader.read(text)
    except ValueError as error:
        raise BadRequest(grammar.refusal(option, text, read_by=reader, error=error)) from None


async def _check_app(app: App, kind: OperationKind) -> None:
    """Raises BadRequest where the app starts nothing of this kind."""
    mode, needed = app.settings.mode, Mode.INSTALL if kind is OperationKind.INSTALL else Mode.PLAN
    if mode < needed:
        asked = "install" if kind is OperationKind.INSTALL else "assess or install"
        raise BadRequest(f"PATCH_MODE is {mode.name.lower()}; {kind.noun}s need {asked}; nothing was done")
    if why := await paused_because(app):
        raise BadRequest(f"everything is paused: {why}; resume first; nothing was done")


async def _meant(app: App, words: Words) -> list[Machine]:
    targets = selected(await census(app), words.selector, owner_tag=app.settings.owner_tag)
    return [each.shown for each in targets if each.shown]


def _split(run: Run, meant: Sequence[Machine], settings: Settings) -> tuple[list[Machine], list[Machine]]:
    """The machines on whose system something is selected, and those that are left out. Raises BadRequest."""
    if not run.selection:
        return list(meant), []
    machines = [each for each in meant if _part(run, each, settings)]
    if machines:
        return machines, [each for each in meant if not _part(run, each, settings)]
    systems = sorted({each.os_type for each in meant})
    options = " or ".join(_OF_SYSTEM[system] for system in systems)
    raise BadRequest(
        f"nothing that is selected is for {' or '.join(systems)}, which {count_of(len(meant))} run; {options} is right"
    )


def _part(run: Run, machine: Machine, settings: Settings) -> list[str]:
    """What the run selects that a machine's system can have."""
    windows = machine.os_type is OsType.WINDOWS
    packages = [name for name in run.selection.packages if bool(KB_NUMBER.fullmatch(name)) is windows]
    return [*wanted_classifications(machine, with_selection(settings, run)), *packages]


def _check_count(words: Words, found: int) -> None:
    if found > MAX_MACHINES:
        raise BadRequest(f"that means {found:,} machines; up to {MAX_MACHINES:,} go into one run: name fewer")
    if words.expect not in (None, found):
        raise BadRequest(f"that means {count_of(found)}, and --expect is {words.expect}; nothing was done")
    if words.selector.everything and words.agreed and words.expect is None:
        raise BadRequest(f"--everything takes --yes only with --expect N, the number of machines; now it is {found}")


def _why_not(seen: Foresight) -> str:
    groups = foresight.result(seen)["not"]
    return "; ".join(f"{each['machines']} {each['state']} ({each['reason']})" for each in groups)


# -- rows


async def _place(pen: Pen, run: Run, seen: Foresight) -> Answer:
    """Writes the order, under another id where another person has just taken this one."""
    for _ in range(TRIES):
        try:
            columns = columns_of(run)
        except BadInput as error:
            raise BadRequest(f"nothing was done: {error}") from None
        if await pen.table.insert(APP, run_key(run.id), columns):
            return _answer(run, seen)
        run = replace(run, id=_new_id(run.opened))
    raise NoAnswer("no new id for the run was free, and nothing was written; try again")


async def _stoppable(app: App, run_id: str) -> Known:
    """A run that a person can stop. Raises BadRequest."""
    known, now = await known_run(app, run_id), app.services.clock()
    others = [each for each in await known_runs(app) if each.run.id != run_id]
    match known.standing(now):
        case Standing.UNREADABLE:
            raise BadRequest(f"run {run_id} wants nothing: {known.problem}")
        case Standing.STOPPED:
            by = f", by {known.run.stopped_by}" if known.run.stopped_by else ""
            raise BadRequest(f"run {run_id} is stopped already{by}: {known.run.stopped_because}; nothing was written")
        case Standing.ENDED | Standing.OVER:
            raise BadRequest(f"run {run_id} is over; nothing was written; of the others {named(others, now)}")
        case _:
            return known


# -- what is said


def _ordered(run: Run, machines: Sequence[Machine], *, left_out: Sequence[Machine], app: App) -> list[RenderableType]:
    """The order, and who gets what of it."""
    when = clock_of(app.settings)
    parts: list[RenderableType] = [line("run", f"{run.kind.noun} on {count_of(len(machines))}: {run.reason}", "bold")]
    begin = f"from {when(run.at)} " if run.at else ""
    parts.append(line("time", f"{begin}until {when(run.until)} ({when.zone})"))
    samples = {each.os_type: each for each in machines}
    counts = Counter(each.os_type for each in machines)
    if run.selection and len(samples) > 1:
        for system, machine in sorted(samples.items()):
            part = ", ".join(_part(run, machine, app.settings))
            parts.append(line(system.value, f"{count_of(counts[system])}: {part}"))
    if left_out:
        others = Counter(each.os_type for each in left_out)
        text = ", ".join(f"{count_of(count)} of {system}" for system, count in sorted(others.items()))
        parts.append(line("left out", f"{text}: nothing that is selected is for that system", "yellow"))
    return parts


async def _others(app: App, machines: Sequence[Machine]) -> list[RenderableType]:
    """The open runs that have some of the machines, too: the older one goes first."""
    open_runs = await known_runs(app)
    found = Counter(other.run.id for each in machines if (other := covering(open_runs, each)))
    return [
        line("also in a run", f"{count_of(count)} of these: {run_id}, which goes first", "yellow")
        for run_id, count in sorted(found.items())
    ]


def _answer(run: Run, seen: Foresight) -> Answer:
    result: dict[str, Any] = {
        "run": run.id,
        "kind": run.kind.value,
        "machines": [str(each) for each in run.machines],
        "reason": run.reason,
        "by": run.by,
        "opened": run.opened,
        "at": run.at,
        "until": run.until,
        "classifications": list(run.selection.classifications),
        "packages": list(run.selection.packages),
        "ignore_window": run.ignore_window,
        "canaries": run.canaries,
        "bake_minutes": int(run.bake.total_seconds() // 60),
        "expected": foresight.result(seen),
    }
    lines = [
        line("ordered", f"run {run.id}; it begins with the next sweep{' from then on' if run.at else ''}", "green"),
        line("to watch it", f"patcher run show {run.id} --watch"),
        line("to stop it", f"patcher run stop {run.id} --reason …"),
    ]
    return Answer(result, lines)


def _stopped(run: Run) -> Answer:
    result = {"run": run.id, "by": run.stopped_by, "reason": run.stopped_because, "stopped": run.stopped}
    said = f"run {run.id}: nothing more of it begins; operations in flight go on to their end"
    return Answer(result, [line("stopped", said, "yellow")])
