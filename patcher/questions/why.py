"""`patcher why NAME`: what the app does with one machine now, by which rule, on which evidence, and when next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from functions.cloud.rows import LeftAlone
from functions.decisions.compliance import sla_of
from functions.decisions.decision import RULES, displayed_step, next_step, pending_step
from functions.decisions.question import Question, with_selection
from functions.decisions.runs import passes_hold
from functions.decisions.support_state import by_support_state
from functions.model.machine import Machine, MachineId, PatchStatus
from functions.model.record import Record
from functions.model.run import Run
from functions.model.state import AWAIT_A_TURN, Assess, Install, State, Step
from functions.model.stop import Stop, Stops
from functions.steps.observe import (
    Seen,
    observe,
    observe_resource_group,
    observe_results,
    with_managers,
    with_named_patches,
)
from functions.steps.observe import ask as question_of
from patcher.connection import App
from patcher.errors import NoAnswer
from patcher.fleet import Fleet, look, look_ahead
from patcher.machines import meant
from patcher.output import Answer, Clock, clock_of, line, table
from patcher.questions import remedies
from patcher.questions.compliance import in_days
from patcher.questions.patches import Tried, failed_last, patch_of, tried_on
from patcher.questions.runs import Known, covering, known_runs

SETTINGS_SHOWN = (
    "PATCH_SCOPE",
    "PATCH_MODE",
    "PATCH_IMAGES",
    "PATCH_WINDOW",
    "PATCH_CANARY_WINDOW",
    "PATCH_CLASSIFICATIONS",
    "PATCH_MIN_INTERVAL_HOURS",
)
UNDER_WAY = (State.ASSESSING, State.INSTALLING, State.CONFIRMING)  # their `when` is the past


NOT_READ = "not read for a report; patcher why reads it"


@dataclass(frozen=True)
class Found:
    """One machine, its row, the result of `patcher why`, and what was read for it: each once."""

    machine: Machine
    record: Record | None
    result: dict[str, Any]
    stops: Sequence[Stop]  # that may cover it, ended ones too
    runs: Sequence[Known]  # all of them
    tried: Sequence[Tried]  # every patch of its installations


async def ask(app: App, name: str) -> Answer:
    result = (await find(app, await meant(app, name))).result
    return Answer(result, _shown(result, clock_of(app.settings)))


async def find(app: App, machine_id: MachineId, fleet: Fleet | None = None) -> Found:
    """Reads the machine afresh. `fleet`: a look at the fleet to go by; without one, a new look if it is needed.

    Raises NoAnswer and CloudError.
    """
    shown, unseen = await _observed(app, machine_id)
    record = await _record(app, machine_id)
    runs, stops = await known_runs(app), await app.services.ledger.stops(machine_id)
    ordered = covering(runs, shown)
    run = ordered.run if ordered else None
    question = await question_of(app.services, await _as_selected(app, shown, run), record, run=run)
    step, turn = await _with_fleet(app, question, fleet)
    tried = await tried_on(app, [str(machine_id)])
    stop = Stops.in_force(stops, app.services.clock()).of(
        shown, app.settings.owner_tag
    )  # also where another rule speaks
    result = {
        "machine": str(machine_id),
        "verb": step.verb,
        "state": step.state.value,
        "reason": step.reason,
        "remedy": step.remedy or None,
        "command": remedies.command(shown, step, stop) or None,
        "stopped": f"{stop.text}; to end it: {stop.command}" if stop else None,
        "run": _run(ordered, machine_id) if ordered else None,
        "when": step.when,
        "expected": turn,
        "rules": _rules(question, step),
        "failed_patches": [patch_of(each) for each in failed_last(tried)],
        "evidence": _evidence(app, shown, record, unseen=unseen),
    }
    return Found(shown, record, result, stops, runs, tried)


async def explained(fleet: Fleet, machine: Machine, step: Step) -> dict[str, Any]:
    """Rules and evidence by one look at the fleet, in which no machine's instance view is read. Raises CloudError."""
    app, stored = fleet.app, fleet.view.sweep.rows.get(machine.id)
    record = stored.record if stored else None
    question = _of_this_machine(await question_of(app.services, machine, record))
    return {"rules": _rules(question, step), "evidence": _evidence(app, machine, record, unseen=NOT_READ)}


async def _observed(app: App, machine_id: MachineId) -> tuple[Machine, str]:
    """The machine by its instance view and by Resource Graph, and why one of them is missing."""
    in_graph = [each async for each in app.services.graph.named_machines([str(machine_id)])]
    in_graph = await with_managers(app.services, await with_named_patches(app.services, in_graph))
    groups = await app.services.graph.resource_groups([machine_id.group_id])
    seen = await observe(app.services, machine_id)
    if isinstance(seen, Seen):
        seen = await observe_results(app.services, seen.machine)
    if not isinstance(seen, Seen):
        if not in_graph:
            raise NoAnswer(f"neither Resource Graph nor Resource Manager shows it: {seen.error}")
        return _in_resource_group(in_graph[0], groups), f"its instance view is not available: {seen.error}"
    known = seen.machine
    if in_graph:
        graph = in_graph[0]
        known = replace(
            known,
            verdict=graph.verdict,
            schedule_assigned=graph.schedule_assigned,
            scale_set_rules=graph.scale_set_rules,
        )
    if machine_id.group_id in groups:
        return _in_resource_group(known, groups), ""
    grouped = await observe_resource_group(app.services, known)
    return (grouped.machine, "") if isinstance(grouped, Seen) else (known, "its resource group is not available")


async def _as_selected(app: App, machine: Machine, run: Run | None) -> Machine:
    """The machine with how many of its patches the run's selection names, where a run selects some."""
    if run is None or not run.selection or machine.verdict is None:
        return machine
    bare = replace(machine, verdict=replace(machine.verdict, named=None))
    [found] = await with_named_patches(app.services, [bare], with_selection(app.settings, run))
    return found


def _run(known: Known, machine_id: MachineId) -> str:
    """The run on demand that covers the machine, and how far it has come with it."""
    item = known.progress.of(machine_id)
    kept = f", {item.state}: {item.reason}" if item.state else ""
    return f"{known.run.text}; {known.run.kind.noun} {item.outcome}{kept}; patcher run show {known.run.id}"


def _in_resource_group(machine: Machine, groups: Mapping[str, Any]) -> Machine:
    group = groups.get(machine.id.group_id)
    return machine.in_resource_group(group) if group else machine


async def _record(app: App, machine_id: MachineId) -> Record | None:
    try:
        stored = await app.services.ledger.read(machine_id)
    except LeftAlone as left_alone:
        raise NoAnswer(f"its row is left alone: {left_alone}") from None
    return stored.record if stored else None


def _rules(question: Question, answer: Step) -> list[dict[str, Any]]:
    """What each rule says, in their order, up to the first that says something; and which one is the answer."""
    said = [("ledger", pending_step(question.record, question.now))]
    for rule in RULES:
        step = rule(question)
        said.append((rule.__name__.strip("_").replace("_", " "), step))
        if step:
            break
    else:
        said.append(("support state", by_support_state(question)))
    speaker = next((name for name, step in said if step and step.reason == answer.reason), "limits of the fleet")
    if speaker not in dict(said):
        said.append((speaker, answer))
    return [{"rule": name, "speaks": name == speaker, "says": step.reason if step else None} for name, step in said]


async def _with_fleet(app: App, question: Question, fleet: Fleet | None) -> tuple[Step, datetime | None]:
    """The machine's step with what the fleet's limits make of it, and when its installation is expected."""
    record, question = question.record, _of_this_machine(question)
    if question.run:  # it passes what the fleet makes others wait for; what keeps it, its progress says
        passes = record is None or passes_hold(question.run, record)
        return (next_step(question) if passes else displayed_step(question)), None
    step = displayed_step(question)
    if not isinstance(step, Assess | Install) and step.state not in AWAIT_A_TURN:
        return step, None
    fleet = fleet or await look(app)
    _, coming = await look_ahead(fleet)
    turn = coming.turns.get(question.machine.id) if coming else None
    if isinstance(step, Assess | Install):
        step = fleet.view.plan.waits.get(question.machine.id, step)
    return step, turn.at if turn else None


def _of_this_machine(question: Question) -> Question:
    """Without the hold of the machine that had this name before, or of its former image."""
    record = question.record
    return replace(question, record=None) if record and record.is_former_hold(question.machine) else question


def _evidence(app: App, machine: Machine, record: Record | None, *, unseen: str) -> dict[str, Any]:
    verdict = machine.verdict
    return {
        "instance view": {"problem": unseen}
        if unseen
        else {
            "power": machine.power.value,
            "provisioning": machine.provisioning_state,
            "agent ready": machine.agent_ready,
            "agent version": machine.agent_version,
            "busy extensions": ", ".join(machine.busy_extensions or ()) or None,
            "last assessment": _status(machine.assessment),
            "last installation": _status(machine.installation),
            "reboot pending": machine.reboot_pending,
            "who patches it": machine.patchers.value,
        },
        "Resource Graph": {
            "support state": verdict.state.value if verdict else None,
            "assessed": verdict.assessed if verdict else None,
            "critical": machine.pending.critical,
            "security": machine.pending.security,
            "other": machine.pending.other,
            "image": machine.image.key or None,
            "image kind": machine.image.kind.value,
        },
        "ledger": _row(record),
        "days that a patch may wait": {
            name: f"{days:g}" for name, days in in_days(sla_of(machine, app.settings)).items()
        },
        "tags": {
            name: value
            for tags in ((machine.resource_group.tags if machine.resource_group else {}), machine.tags)
            for name, value in sorted(tags.items())
            if name.startswith(("patch-", "patch_")) or name == app.settings.owner_tag
        },
        "settings": {name: app.environ[name] for name in SETTINGS_SHOWN if app.environ.get(name)},
    }


def _status(status: PatchStatus | None) -> str | None:
    if status is None:
        return None
    return f"{status.status} {status.started.isoformat(timespec='seconds') if status.started else ''}".strip()


def _row(record: Record | None) -> dict[str, Any]:
    if record is None:
        return {}
    hold = record.hold
    return {
        "phase": record.phase.value,
        "operation": record.kind.noun,
        "due": record.due_at,
        "begun": record.begun_at,
        "failures": record.history.failures or None,
        "held because": hold.reason if hold else None,
        "until": hold.when if hold else None,
    }


def _shown(result: Mapping[str, Any], when: Clock) -> list[Any]:
    """The answer first, then how it came about."""
    parts: list[Any] = [
        line("machine", str(result["machine"])),
        line("state", f"{result['state']} ({result['verb']})", "bold"),
        line("because", str(result["reason"])),
    ]
    parts += [line("stopped", str(result["stopped"]), "bold yellow")] if result["stopped"] else []
    parts += [line("run on demand", str(result["run"]), "bold")] if result["run"] else []
    for name, value in (("what to do", result["remedy"]), ("command", result["command"])):
        parts += [line(name, str(value), "green")] if value else []
    under_way = result["state"] in UNDER_WAY
    for name, moment in (("since" if under_way else "it changes", result["when"]), ("expected", result["expected"])):
        parts += [line(name, f"{when(moment)} {when.zone}")] if moment else []
    rules = [(_mark(each), each["rule"], each["says"] or "") for each in result["rules"]]
    parts.append(table("Rules, in order", ("", "rule", "says"), rules))
    failing = [(each["patch"], each["version"], when(each["at"])) for each in result["failed_patches"]]
    parts += [table("Failed in the last installation", ("patch", "version", when.zone), failing)] if failing else []
    for source, facts in result["evidence"].items():
        rows = [
            (name, when(value) if isinstance(value, datetime) else value)
            for name, value in facts.items()
            if value is not None and value != ""
        ]
        parts.append(table(source[:1].upper() + source[1:], ("", ""), rows, empty="nothing"))
    return parts


def _mark(rule: Mapping[str, Any]) -> str:
    return "→" if rule["speaks"] else "✓" if rule["says"] is None else ""
