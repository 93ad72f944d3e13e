"""What a run on demand changes for its machines, and what it does not. Pure.

A run passes what makes a machine wait for its turn: the minimum interval, the age of its assessment, the rollout of its
image and its place in it and, where its order says so, the window. It passes nothing that protects: settings, scope,
tags, support state, stops, breaker, caps, groups, failures of the machine, an operation in flight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from functions.decisions.question import Question, wanted_classifications, wanted_names
from functions.model.machine import Machine, MachineId
from functions.model.record import Record
from functions.model.run import CANARY_FAILED, NOT_SENT, STOPPED, Item, Progress, Run, RunOutcome
from functions.model.state import Assess, Cause, Install, Leave, OperationKind, Phase, State, Step, Wait
from functions.model.text import format_utc
from functions.policy.values import Mode

_LATEST = datetime.max.replace(tzinfo=UTC)
# What the check before the call finds where another client did it since the run began.
_DONE_BY_OTHERS = {OperationKind.ASSESS: State.ASSESSED, OperationKind.INSTALL: State.RECENTLY_PATCHED}
# What a row is held for after a failure, a refusal or a loss: a run does not ask sooner than the row says.
FAILURES = (State.FAILED, State.UNSUPPORTED, State.BUSY, State.OVERDUE)


def assessment_of_run(question: Question, run: Run) -> Step:
    """An assessment run assesses each of its machines once, whatever is known of it."""
    seen = question.machine.assessment
    newest = max(filter(None, (question.verdict.assessed, seen.started if seen else None)), default=None)
    if newest is not None and newest >= (run.at or run.opened):
        return Leave(State.ASSESSED, f"assessed {format_utc(newest)}, since run {run.id} began")
    return Assess(State.DUE, run.text)


def objection(question: Question, run: Run) -> Step | None:
    """Why an installation run does not install a machine that nothing else keeps; None: it may."""
    if question.setting_mode < Mode.INSTALL:
        reason = f"run {run.id} installs, and PATCH_MODE={question.settings.mode.name.lower()}"
        return Wait(State.ASSESSED, reason, "Set PATCH_MODE=install, or stop the run.")
    last = question.machine.installation
    if last and last.started and last.started >= (run.at or run.opened):
        return Leave(State.RECENTLY_PATCHED, f"installed {format_utc(last.started)}, since run {run.id} began")
    machine, settings = question.machine, question.settings
    if run.selection and not (wanted_classifications(machine, settings) or wanted_names(machine, settings)):
        return Leave(State.NOTHING_SELECTED, f"run {run.id} selects nothing that {machine.os_type} has")
    return None


def passes_hold(run: Run, record: Record) -> bool:
    """Whether a run asks about a machine before its hold is over: it waits for its turn, and for nothing else.

    After assessments without an answer only an assessment run asks again.
    """
    if record.hold is None or record.hold.state in FAILURES:
        return False
    return run.kind is OperationKind.ASSESS or not record.history.unanswered


# -- the machines of one run: who goes now


def admit(
    run: Run, progress: Progress, machines: Sequence[Machine], *, now: datetime
) -> tuple[list[MachineId], dict[MachineId, Step]]:
    """Which of these machines of a run, in this order, go now; and why the others wait.

    Of each image the first ones go as its canaries. The others go once those ended well and were watched. One that
    failed by its patches keeps the rest of its image from going at all.
    """
    going: list[MachineId] = []
    waits: dict[MachineId, Step] = {}
    begun = _begun_by_image(progress)
    by_image: dict[str, list[MachineId]] = {}
    for machine in machines:
        by_image.setdefault(machine.image.key, []).append(machine.id)
    for image, names in by_image.items():
        if not run.canaries or not image:
            going += names
            continue
        chosen, wait = _canaries(run, begun.get(image, []), names, now=now)
        going += chosen
        if wait:
            waits |= {name: wait for name in names if name not in chosen}
    return going, waits


def canary_failed(step: Step) -> bool:
    """Whether a wait is that of a machine whose run had a failed canary."""
    return isinstance(step, Leave) and step.state is State.WAITING_FOR_CANARY


def _begun_by_image(progress: Progress) -> dict[str, list[tuple[MachineId, Item]]]:
    """What was begun, in the order of its beginning."""
    found: dict[str, list[tuple[MachineId, Item]]] = {}
    for machine, item in progress.items.items():
        if item.image:
            found.setdefault(item.image, []).append((machine, item))
    for items in found.values():
        items.sort(key=lambda each: (each[1].started or _LATEST, str(each[0])))
    return found


def _canaries(
    run: Run, begun: Sequence[tuple[MachineId, Item]], names: Sequence[MachineId], *, now: datetime
) -> tuple[Sequence[MachineId], Step | None]:
    """Who of one image goes now, and why the others do not. An end that proves nothing makes room for another one."""
    proving = [(name, item) for name, item in begun if _proves(item)][: run.canaries]
    failed = next((name for name, item in proving if item.at_fault), None)
    if failed:
        reason = f"the canary {failed.name} of run {run.id} failed"
        remedy = "Find what failed; then order another run."
        return (), Leave(State.WAITING_FOR_CANARY, reason, remedy)
    if len(proving) < run.canaries:
        chosen = names[: run.canaries - len(proving)]
        first = ", ".join(name.name for name in [*(name for name, _ in proving), *chosen])
        return chosen, Wait(State.WAITING_FOR_CANARY, f"the run's canary goes first: {first}", cause=Cause.TRANSIENT)
    if under_way := [name.name for name, item in proving if item.ended is None]:
        reason = f"the run's canary goes first: {', '.join(under_way)}"
        return (), Wait(State.WAITING_FOR_CANARY, reason, cause=Cause.TRANSIENT)
    until = max(item.ended for _, item in proving if item.ended) + run.bake
    if now < until:
        reason = f"the run's canary is watched until {format_utc(until)}"
        return (), Wait(State.WAITING_FOR_CANARY, reason, when=until, cause=Cause.TRANSIENT)
    return names, None


def _proves(item: Item) -> bool:
    """Whether it is under way, ended well, or failed by its patches."""
    return item.outcome in (RunOutcome.IN_FLIGHT, RunOutcome.SUCCEEDED) or item.at_fault


# -- how far a run has come


def by_record(run: Run, item: Item, record: Record | None) -> Item | None:
    """What a machine's row says of its place in the run; None: nothing new.

    An installation ends once Resource Graph confirmed it, as its machine may prove unwell until then; an assessment as
    soon as its operation says so, since its row goes then.
    """
    if record is None or record.run != run.id or item.outcome.is_final:
        return None
    flight, ending, hold = record.flight, record.ending, record.hold
    started = (flight.started_at or flight.begun_at) if flight else None
    item = replace(item, started=started, image=record.image, state="", reason="")
    if record.phase is Phase.ENDED and record.kind is OperationKind.ASSESS and ending:
        return _ended(item, at=ending.at, problem=ending.trouble, at_fault=False)
    if hold is None:
        return replace(item, outcome=RunOutcome.IN_FLIGHT)
    if ending:
        problem = _problem(record, hold)
        unwell = ending.unwell_since is not None and problem is not None and problem.state is State.FAILED
        return _ended(item, at=ending.at, problem=problem, at_fault=ending.at_fault or (unwell and not ending.neutral))
    refused = hold.state in (State.FAILED, State.UNSUPPORTED) and hold.cause in (Cause.OWNER, Cause.NEVER)
    if flight and (refused or record.operation_id):  # refused for good, or overdue
        return _ended(item, at=flight.begun_at, problem=hold, at_fault=False)
    if hold.state is _DONE_BY_OTHERS[run.kind]:  # Graph does not show it yet, and would have it claimed again
        return Item(RunOutcome.LEFT, hold.state, hold.reason)
    return Item() if hold.state is State.DUE else Item(state=hold.state, reason=hold.reason)


def _problem(record: Record, hold: Step) -> Step | None:
    """What was wrong with the installation of a row that is held. A release ends the hold, and not the failure."""
    if hold.state is not State.DUE or hold.reason:
        return hold
    failed = record.kind is OperationKind.INSTALL and record.history.failures
    return Wait(State.FAILED, record.history.failure) if failed else None


def _ended(item: Item, *, at: datetime, problem: Step | None, at_fault: bool) -> Item:
    if problem is None:
        return replace(item, outcome=RunOutcome.SUCCEEDED, ended=at)
    return replace(
        item, outcome=RunOutcome.FAILED, state=problem.state, reason=problem.reason, ended=at, at_fault=at_fault
    )


def by_step(step: Step) -> Item | None:
    """What the decision says of a machine that is to do; None: nothing that people need to know."""
    if isinstance(step, Assess | Install):
        return None
    if canary_failed(step):
        return Item(RunOutcome.LEFT, CANARY_FAILED, step.reason)
    if isinstance(step, Leave):
        return Item(RunOutcome.LEFT, step.state, step.reason)
    return Item(state=step.state, reason=step.reason)


def left_at_its_end(run: Run, progress: Progress) -> Mapping[MachineId, Item]:
    """The machines that a run that is over leaves, each with why."""
    return {machine: _left(run, progress.of(machine)) for machine in progress.with_outcome(run, RunOutcome.TO_DO)}


def _left(run: Run, item: Item) -> Item:
    if run.stopped:
        return Item(RunOutcome.LEFT, STOPPED, run.stopped_because or "a person stopped the run")
    if item.state:
        return Item(RunOutcome.LEFT, item.state, item.reason)
    return Item(RunOutcome.LEFT, NOT_SENT, f"it was not sent before {format_utc(run.until)}")


def has_ended(run: Run, progress: Progress) -> bool:
    """Whether nothing of it is to do or in flight any more."""
    counts = progress.counts(run)
    return not (counts[RunOutcome.IN_FLIGHT] or counts[RunOutcome.TO_DO])
