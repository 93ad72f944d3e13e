"""What a run on demand would do with its machines, by the app's own decision and plan, before it is ordered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from rich.console import RenderableType

from functions.cloud.ledger import APP
from functions.cloud.runs import run_key
from functions.cloud.tables import Row
from functions.decisions.forecast import ASSESSMENT, SWEEP, USUAL, RunForecast, forecast_run
from functions.decisions.plan import Candidate, Fleet, Plan
from functions.decisions.question import question_of, wanted_count, with_selection
from functions.model.machine import TOGETHER_ON_LINUX, Machine, MachineId, OsType
from functions.model.run import Progress, Run
from functions.model.state import Assess, Cause, Install, Leave, OperationKind, State, Step
from functions.policy.settings import Settings
from functions.policy.values import Reboot
from functions.steps import runs as steps
from functions.steps.find import order_of
from functions.steps.observe import with_managers, with_named_patches
from functions.steps.planning import make_sweep_plan, waiting
from functions.steps.sweep import Sweep, read_ledger
from patcher.connection import App
from patcher.errors import NoAnswer
from patcher.output import Clock, count_of, line, table

NAMED = 20  # machines that a preview names
EXAMPLES = 3
_UNDER_WAY = (State.QUEUED, State.ASSESSING, State.INSTALLING, State.CONFIRMING)  # it goes once that has ended
_BY_A_PERSON = (State.BREAKER_OPEN, State.PAUSED, State.ON_HOLD)


class Way(StrEnum):
    """What becomes of a machine of the run, as things stand."""

    NOW = "now"
    LATER = "later"  # the fleet's limits, its canary or its window decide when
    NOT = "not"


@dataclass(frozen=True)
class Fate:
    """One machine, what becomes of it, and the step that says why."""

    machine: Machine
    way: Way
    step: Step


@dataclass(frozen=True)
class Foresight:
    """What is to be expected of a run, at the moment of its beginning. `ends`: about, if nothing fails."""

    run: Run
    fates: Sequence[Fate]
    begins: datetime | None  # None: of none of its machines
    ends: datetime | None
    too_late: int  # of those that go: their turn is not expected before the run is over
    patches: int  # that wait on those that go, as far as Resource Graph shows them
    not_counted: int  # of those that go: it does not show their patches
    outside_window: int  # of those that go
    may_reboot: int  # of those that go

    def of(self, *ways: Way) -> list[Fate]:
        return [fate for fate in self.fates if fate.way in ways]

    @property
    def going(self) -> list[Fate]:
        return self.of(Way.NOW, Way.LATER)

    @property
    def assessed_first(self) -> int:
        """Of how many that go an installation run orders an assessment first."""
        if self.run.kind is OperationKind.ASSESS:
            return 0
        return sum(isinstance(fate.step, Assess) for fate in self.going)

    @property
    def is_hopeless(self) -> bool:
        """Whether no machine goes before the run is over, whatever is started or repaired meanwhile."""
        return all(isinstance(fate.step, Leave) or _is_too_late(fate.step, self.run) for fate in self.fates)


async def foresee(app: App, run: Run, machines: Sequence[Machine]) -> Foresight:
    """Asks the app's decision about each machine, and its plan about those that are due. Raises NoAnswer."""
    sweep = await _sweep_at(app, run)
    services, now = sweep.services, sweep.services.clock()
    asked = await with_named_patches(services, await with_managers(services, list(machines)))
    selected = await steps.as_selected(services, sweep.runs, asked)
    due = [item for each in asked if (item := await order_of(sweep, each, selected))]
    asked = [selected.get((run.id, each.id), each) for each in asked]
    plan = await make_sweep_plan(sweep, due)
    if sweep.failed:
        raise NoAnswer(f"no answer for: {', '.join(sweep.failed)}; nothing is said of what depends on it")
    fates = _fates(run, asked, sweep, plan=plan, due=due)
    going = [fate.machine for fate in fates if fate.way is not Way.NOT]
    installs = going if run.kind is OperationKind.INSTALL else []
    counts = [_counted(each, run, services.settings) for each in installs]
    created_after = await services.created_after()
    questions = [question_of(each, None, services.settings, created_after=created_after, now=now) for each in installs]
    expected = await _forecast(sweep, run, [fate for fate in fates if fate.way is not Way.NOT])
    return Foresight(
        run,
        fates,
        begins=min(expected.begins.values(), default=None),
        ends=expected.ends,
        too_late=len(going) - len(expected.begins),
        patches=sum(count for count in counts if count),
        not_counted=sum(count is None for count in counts),
        outside_window=sum(not each.in_own_window for each in questions) if run.ignore_window else 0,
        may_reboot=sum(min(each.settings.reboot, each.overrides.reboot) is not Reboot.NEVER for each in questions),
    )


async def _sweep_at(app: App, run: Run) -> Sweep:
    """A sweep at the moment at which the run begins, which knows of no other run."""
    sweep = await read_ledger(app.services)
    now = max(app.services.clock(), run.at or run.opened)
    sweep.services = replace(sweep.services, clock=lambda: now)
    sweep.runs = [steps.OpenRun(run, Row(APP, run_key(run.id), {}, ""), Progress(), None, before=Progress())]
    return sweep


def _fates(run: Run, machines: Iterable[Machine], sweep: Sweep, *, plan: Plan, due: Sequence[Candidate]) -> list[Fate]:
    going = {each.machine for each in plan.dispatches}
    candidates = {item.machine.id: item.step for item in due}
    said: Mapping[MachineId, Step] = {**sweep.runs[0].steps, **candidates, **plan.waits}
    fates = []
    for machine in machines:
        step = said.get(machine.id)
        if step is None:  # the run does not cover it: another machine has its name by now
            step = Leave(State.OUT_OF_SCOPE, "it was created after the run was ordered")
        fates.append(Fate(machine, Way.NOW if machine.id in going else _way(step, run), step))
    return fates


def _way(step: Step, run: Run) -> Way:
    """Whether a machine that does not go now goes before the run is over, unless a person changes something."""
    if step.state in _UNDER_WAY:
        return Way.LATER
    if isinstance(step, Leave) or step.cause not in (Cause.TRANSIENT, Cause.CONFLICT) or step.state in _BY_A_PERSON:
        return Way.NOT
    return Way.NOT if _is_too_late(step, run) else Way.LATER


def _is_too_late(step: Step, run: Run) -> bool:
    return step.when is not None and step.when >= run.until


def _counted(machine: Machine, run: Run, settings: Settings) -> int | None:
    """How many patches the run installs on a machine, as Resource Graph shows it; None: it does not show it."""
    verdict = machine.verdict
    if verdict is None or verdict.assessed is None or (run.selection.packages and verdict.named is None):
        return None
    return wanted_count(machine, with_selection(settings, run))


# -- when: by the forecast of the app


async def _forecast(sweep: Sweep, run: Run, going: Sequence[Fate]) -> RunForecast:
    """Raises CloudError."""
    services, now = sweep.services, sweep.services.clock()
    step = Assess(State.DUE, run.text) if run.kind is OperationKind.ASSESS else Install(State.DUE, run.text)
    ordered = [Candidate(fate.machine, step, run=run) for fate in going]
    limits = Fleet([stored.record for stored in sweep.rows.values()])
    if run.kind is OperationKind.INSTALL:
        known, limits = await waiting(sweep, ordered)
        with_history = {item.machine.id: item for item in known}  # without those in flight
        ordered = [with_history.get(item.machine.id, item) for item in ordered]
    limits = replace(limits, troubled_groups={})  # everyone is taken for well
    kept = {fate.machine.id: until for fate in going if (until := _kept_until(fate.step, run, now))}
    return forecast_run(run, ordered, limits, settings=services.settings, now=now, not_before=kept)


def _kept_until(step: Step, run: Run, now: datetime) -> datetime | None:
    """When it is over what keeps a machine for a while; None: nothing does but limits and windows."""
    if run.kind is OperationKind.INSTALL and isinstance(step, Assess):
        return now + ASSESSMENT + SWEEP
    if step.state in _UNDER_WAY:
        return now + (USUAL if step.state is State.INSTALLING else ASSESSMENT)
    return None if step.state is State.WAITING_FOR_WINDOW else step.when


# -- for programs and for people


def result(foresight: Foresight) -> dict[str, Any]:
    return {
        "now": len(foresight.of(Way.NOW)),
        "later": len(foresight.of(Way.LATER)),
        "not": _grouped(foresight.of(Way.NOT)),
        "patches": foresight.patches,
        "not_counted": foresight.not_counted,
        "assessed_first": foresight.assessed_first,
        "outside_window": foresight.outside_window,
        "may_reboot": foresight.may_reboot,
        "begins": foresight.begins,
        "ends": foresight.ends,
        "too_late": foresight.too_late,
    }


def _grouped(fates: Iterable[Fate]) -> list[dict[str, Any]]:
    """By state, the most machines first, with the first ones by name and the reason of the first."""
    found: dict[str, list[Fate]] = {}
    for fate in fates:
        found.setdefault(fate.step.state.value, []).append(fate)
    return [
        {
            "state": state,
            "machines": len(items),
            "examples": sorted(item.machine.id.name for item in items)[:EXAMPLES],
            "reason": items[0].step.reason,
        }
        for state, items in sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def shown(foresight: Foresight, settings: Settings, when: Clock, *, everyone: bool) -> list[RenderableType]:
    """Who goes, who waits and who does not; what, and when."""
    run, now, later = foresight.run, foresight.of(Way.NOW), foresight.of(Way.LATER)
    parts: list[RenderableType] = [
        line("goes now" if not run.at else "goes first", _names(now, everyone)),
        line("goes later", _names(later, everyone)),
    ]
    if run.kind is OperationKind.INSTALL:
        parts += _installing(foresight, settings)
    parts.append(line("when", _when(foresight, settings, when)))
    if foresight.too_late:
        late = f"{count_of(foresight.too_late)} may not have their turn before {when(run.until)}; give a later --until"
        parts.append(line("too late", late, "yellow"))
    for title, ways in (("Goes later", Way.LATER), ("Does not go, as things stand", Way.NOT)):
        rows = [
            (each["state"], each["machines"], ", ".join(each["examples"]), each["reason"])
            for each in _grouped(foresight.of(ways))
        ]
        if rows:
            parts.append(table(title, ("state", "machines", "such as", "why"), rows))
    return parts


def _installing(foresight: Foresight, settings: Settings) -> list[RenderableType]:
    run, going = foresight.run, len(foresight.going)
    selected = [*run.selection.classifications, *run.selection.packages]
    what = ", ".join(selected) if selected else f"{', '.join(settings.classifications)} (PATCH_CLASSIFICATIONS)"
    first = f"; {count_of(foresight.assessed_first)} assessed first" if foresight.assessed_first else ""
    parts: list[RenderableType] = [
        line("patches", f"{what}: {_waiting(foresight)}{first}"),
        *_together(foresight, settings),
        line("reboot", f"{foresight.may_reboot} of {going} may reboot (PATCH_REBOOT, tag patch-reboot)"),
    ]
    if run.ignore_window:
        text = f"windows and blackouts are ignored: {foresight.outside_window} of {going} go outside theirs"
        parts.append(line("windows", text, "bold red"))
    if run.canaries:
        watched = f"{int(run.bake.total_seconds() // 60)} min"
        parts.append(line("canaries", f"{run.canaries} of each image go first, and are watched for {watched}"))
    return parts


def _together(foresight: Foresight, settings: Settings) -> list[RenderableType]:
    """That Linux installs both of Critical and Security where one of them is selected."""
    asked = {*with_selection(settings, foresight.run).classifications} & TOGETHER_ON_LINUX
    on_linux = any(fate.machine.os_type is OsType.LINUX for fate in foresight.going)
    if not on_linux or len(asked) != 1:
        return []
    return [
        line("on Linux", f"Critical and Security are installed, not {asked.pop()} alone: Azure takes them together")
    ]


def _waiting(foresight: Foresight) -> str:
    counted = len(foresight.going) - foresight.not_counted
    known = f"{foresight.patches} wait on {count_of(counted)}" if counted else ""
    unknown = f"on {count_of(foresight.not_counted)} not known from Resource Graph" if foresight.not_counted else ""
    return "; ".join(filter(None, (known, unknown))) or "no machine goes"


def _when(foresight: Foresight, settings: Settings, when: Clock) -> str:
    if foresight.begins is None:
        return f"as things stand no machine goes before {when(foresight.run.until)}"
    ends = when(foresight.ends) if foresight.ends else "not known"
    caps = f", PATCH_MAX_IN_FLIGHT {settings.max_in_flight}, PATCH_MAX_PER_IMAGE {settings.max_per_image}"
    by = caps if foresight.run.kind is OperationKind.INSTALL else ""
    first = f"{when(foresight.begins)} ({when.zone})"
    return f"from {first}, to the end about {ends}: an estimate, if nothing fails (usual lengths, quota of calls{by})"


def _names(fates: Sequence[Fate], everyone: bool) -> str:
    if not fates:
        return "no machine"
    names = [fate.machine.id.name for fate in fates]
    cut = names if everyone else names[:NAMED]
    more = " … (--all names all)" if len(cut) < len(names) else ""
    return f"{count_of(len(names))}: {', '.join(cut)}{more}"
