"""`patcher next` and `patcher plan`: who goes in the next openings, and what would be done now."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.console import RenderableType

from functions.decisions.forecast import Forecast, Opening
from functions.decisions.plan import Candidate, Dispatch
from functions.decisions.question import narrowed, window_as_canary
from functions.decisions.stopped import cost_told
from functions.model.machine import MachineId
from functions.model.run import RunOutcome
from functions.model.state import AWAIT_A_TURN, Cause, OperationKind, Step
from functions.policy.prices import arc_cost, arc_cost_told
from functions.policy.settings import Settings
from functions.policy.values import Mode
from functions.policy.windows import ANY
from functions.steps import outlook, reconcile, stopped
from functions.steps.reconcile import FleetView
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.fleet import Fleet, look, look_ahead
from patcher.output import Answer, Clock, clock_of, line, table
from patcher.questions.images import ring_text, short
from patcher.questions.status import paused_because

ROWS_SHOWN = 40  # of one table; --json has all
MAX_OPENINGS = 50


async def ask_next(app: App, openings: int) -> Answer:
    """The next openings in which a machine goes."""
    if not 1 <= openings <= MAX_OPENINGS:
        raise BadRequest(f"--window is {openings}; 1 to {MAX_OPENINGS} openings can be shown")
    real, app = app.settings.mode, app.whatever_mode()
    fleet = await look(app)
    waiting, coming = await look_ahead(fleet)
    if coming is None:
        raise NoAnswer(f"{len(waiting)} machines wait; no forecast is made of more than {outlook.MAX_WAITING}")
    taken = _taken(await _with_runs(fleet), coming)
    found = [_opening(each, waiting=waiting, coming=coming, fleet=fleet) for each in coming.openings[:openings]]
    result = {
        "mode": real.name.lower(),
        "assumed_window": None if app.settings.window else ANY.text,
        "paused": await paused_because(app) or None,
        "runs": [_named(item, app.settings) | taken[item.machine.id] for item in waiting if item.machine.id in taken],
        "openings": found,
        "never": [_named(item, app.settings) for item in waiting if item.machine.id not in coming.turns],
        "not_waiting": _not_waiting(fleet, {item.machine.id for item in waiting}),
    }
    return Answer(result, _next_shown(result, clock_of(app.settings)))


async def _with_runs(fleet: Fleet) -> FleetView:
    """What runs on demand order now, besides. Raises NoAnswer where a part of it is missing."""
    view = await reconcile.with_runs(fleet.view)
    if view.sweep.failed:
        raise NoAnswer(f"no answer for: {', '.join(view.sweep.failed)}; nothing is said of what depends on it")
    return view


def _run_of(view: FleetView, machine: MachineId) -> str | None:
    """The id of the run that orders what may start on a machine."""
    return next((each.run.id for each in view.sweep.runs if each.orders(machine)), None)


def _taken(view: FleetView, coming: Forecast) -> dict[MachineId, dict[str, Any]]:
    """The machines that runs on demand install before their turn comes, with the oldest run and from when on."""
    now = view.sweep.services.clock()
    found: dict[MachineId, dict[str, Any]] = {}
    for open_run in view.sweep.runs:
        run = open_run.run
        if run.kind is not OperationKind.INSTALL or not run.ignore_window or run.is_over(now):
            continue
        for machine in open_run.progress.with_outcome(run, RunOutcome.TO_DO):
            begins, turn, wait = (
                max(run.at or run.opened, now),
                _expected(coming, machine),
                view.plan.waits.get(machine),
            )
            goes = open_run.orders(machine) and (wait is None or wait.cause is Cause.TRANSIENT)
            if (goes or not run.wants(now)) and (turn is None or begins < turn):
                found.setdefault(machine, {"run": run.id, "at": begins})
    return found


def _opening(opening: Opening, *, waiting: Iterable[Candidate], coming: Forecast, fleet: Fleet) -> dict[str, Any]:
    settings = fleet.app.settings
    going: list[tuple[datetime, Candidate]] = []
    later: list[Candidate] = []
    for item in waiting:
        turn, windows = coming.turns.get(item.machine.id), _windows(item, settings)
        if turn and opening.starts <= turn.at < opening.ends and windows[turn.canary] == opening.window:
            going.append((turn.at, item))
        elif windows[False] == opening.window and (turn is None or turn.at >= opening.ends):
            later.append(item)
    going.sort(key=lambda each: (each[0], each[1].need))
    first = _first_of_images((item for _, item in going), coming, settings)
    broken = {each.record.place for each in fleet.images if each.record.breaker_open}

    def why(item: Candidate) -> str:
        place = item.place(settings)
        return _why_later(item, first.get(place), settings, open_breaker=place in broken)

    return {
        "opens": opening.starts,
        "closes": opening.ends,
        "window": opening.window.text,
        "go": [
            _named(item, settings) | {"at": at, "canary": coming.turns[item.machine.id].canary} for at, item in going
        ],
        "later": [
            _named(item, settings) | {"expected": _expected(coming, item.machine.id), "reason": why(item)}
            for item in later
        ],
    }


def _windows(item: Candidate, settings: Settings) -> Mapping[bool, Any]:
    """The window in which it goes: as a canary, and otherwise."""
    own = narrowed(settings.window or ANY, item.overrides)
    return {True: window_as_canary(item.machine, item.overrides, settings) or own, False: own}


def _named(item: Candidate, settings: Settings) -> dict[str, Any]:
    return {
        "machine": str(item.machine.id),
        "image": item.machine.image.key or None,
        "ring": ring_text(item.overrides.ring),
        "owner": item.machine.tag(settings.owner_tag) or None,
    }


def _expected(coming: Forecast, machine: MachineId) -> datetime | None:
    turn = coming.turns.get(machine)
    return turn.at if turn else None


@dataclass(frozen=True)
class _Before:
    """What goes before the others of one image in an opening."""

    lowest_ring: int
    canary: Candidate | None


def _first_of_images(going: Iterable[Candidate], coming: Forecast, settings: Settings) -> dict[str, _Before]:
    """By place. A machine without an image waits for no other."""
    found: dict[str, _Before] = {}
    for each in going:
        if each.machine.image.key:
            place, ring = each.place(settings), each.overrides.ring
            before = found.get(place, _Before(ring, None))
            canary = before.canary or (each if coming.turns[each.machine.id].canary else None)
            found[place] = _Before(min(before.lowest_ring, ring), canary)
    return found


def _why_later(item: Candidate, first: _Before | None, settings: Settings, *, open_breaker: bool) -> str:
    """Why not in this opening. The plan admits canary, then ring after ring, then as caps allow."""
    if open_breaker:
        return "the breaker of its image is open"
    if first and first.canary:
        name = first.canary.machine.id.name
        return f"{name} goes first, as the canary of its image; then PATCH_BAKE_MINUTES pass"
    if first and first.lowest_ring < item.overrides.ring:
        return f"ring {ring_text(first.lowest_ring)} of its image goes first; then PATCH_BAKE_MINUTES pass"
    caps = f"PATCH_MAX_IN_FLIGHT {settings.max_in_flight}, PATCH_MAX_PER_IMAGE {settings.max_per_image}"
    return f"no room in this opening: {caps}, one at a time of a patch-group or availability set"


def _not_waiting(fleet: Fleet, waiting: set[MachineId]) -> dict[str, int]:
    return _by_state(
        step for machine, step in fleet.states if machine.id not in waiting and step.state not in AWAIT_A_TURN
    )


def _by_state(steps: Iterable[Step]) -> dict[str, int]:
    """How many are in which state, the most first."""
    return dict(Counter(step.state.value for step in steps).most_common())


def _next_shown(result: Mapping[str, Any], when: Clock) -> list[RenderableType]:
    parts: list[RenderableType] = _mode_lines(result)
    if result["runs"]:
        taken = [(_name(item), short(item["image"] or ""), item["run"], when(item["at"])) for item in result["runs"]]
        title = "A run on demand takes these before their turn"
        parts.append(_cut(title, ("machine", "image", "run", f"from ({when.zone})"), taken))
    for each in result["openings"]:
        canaries = sum(item["canary"] for item in each["go"])
        counts = f"{len(each['go'])} go ({canaries} as canaries), {len(each['later'])} later"
        opening = f"{when(each['opens'])} – {when(each['closes'])} {when.zone}"
        title = f"{'any time' if each['window'] == ANY.text else opening}: {counts}"
        rows: list[Sequence[object]] = [
            (
                when(item["at"]),
                _name(item),
                short(item["image"] or ""),
                item["ring"],
                "canary" if item["canary"] else "",
            )
            for item in each["go"]
        ]
        parts.append(_cut(title, ("at", "machine", "image", "ring", ""), rows))
        rest: list[Sequence[object]] = [(_name(item), when(item["expected"]), item["reason"]) for item in each["later"]]
        if rest:
            parts.append(_cut("Later", ("machine", "expected", "why not in this opening"), rest))
    if not result["openings"]:
        parts.append(line("openings", "none in which a machine goes"))
    if result["never"]:
        never = [(_name(item), short(item["image"] or "")) for item in result["never"]]
        parts.append(_cut("Its turn does not come within 400 days", ("machine", "image"), never))
    others = ", ".join(f"{count} {state}" for state, count in result["not_waiting"].items())
    return [*parts, line("not in line", others or "none")]


async def ask_plan(app: App) -> Answer:
    """What a sweep would dispatch now, were PATCH_MODE install."""
    real, app = app.settings.mode, app.whatever_mode()
    fleet = await look(app)
    view = await _with_runs(fleet)
    candidates = {item.machine.id: item for item in view.due}
    starts = [_start(each, each.candidate or candidates.get(each.machine), view) for each in view.plan.dispatches]
    waits = [
        {
            "machine": str(machine),
            "state": step.state.value,
            "run": _run_of(view, machine),
            "reason": step.reason,
        }
        for machine, step in sorted(view.plan.waits.items(), key=lambda item: str(item[0]))
    ]
    result = {
        "mode": real.name.lower(),
        "assumed_window": None if app.settings.window else ANY.text,
        "paused": await paused_because(app) or None,
        "start": starts,
        "wait": waits,
        "arc": await _arc(app),
        "stopped": await _stopped(fleet),
        "others": _by_state(step for machine, step in fleet.states if machine.id not in candidates),
    }
    return Answer(result, _plan_shown(result))


def _start(dispatch: Dispatch, item: Candidate | None, view: FleetView) -> dict[str, Any]:
    """What would start; without a candidate, by the claim in its row."""
    if item:
        kind, image, run, reason = item.kind, item.machine.image.key, _run_of(view, item.machine.id), item.step.reason
    else:
        record = view.sweep.rows[dispatch.machine].record
        kind, image, run, reason = record.kind, "", record.run, "its claim waits to be sent"
    return {
        "machine": str(dispatch.machine),
        "operation": kind.noun,
        "image": image or None,
        "run": run or None,
        "reason": reason,
        "after_seconds": dispatch.delay.total_seconds(),
    }


async def _arc(app: App) -> dict[str, Any]:
    """The Arc-enabled servers in the app's scope, and what assessing them costs or would cost."""
    servers, connected = await app.services.graph.arc_servers()
    taken_in = app.settings.include_arc
    return {"taken_in": taken_in, "servers": servers, "connected": connected, "usd_a_month": arc_cost(connected)}


async def _stopped(fleet: Fleet) -> dict[str, Any]:
    """The stopped machines that would be started now, and for how long they would run."""
    sweep = fleet.view.sweep
    chosen = await stopped.whose_turn_it_is(sweep, after=fleet.view.plan)
    together = await stopped.planned_time(sweep, chosen)
    return {"start": [str(each.machine.id) for each in chosen], "seconds": together.total_seconds()}


def _stopped_lines(stopped: Mapping[str, Any]) -> list[RenderableType]:
    if not stopped["start"]:
        return []
    told = cost_told(len(stopped["start"]), timedelta(seconds=stopped["seconds"]))
    return [line("stopped", f"PATCH_START_STOPPED is on: {told}", "yellow")]


def _arc_lines(arc: Mapping[str, Any]) -> list[RenderableType]:
    if not arc["servers"]:
        return []
    setting = "PATCH_ARC is on" if arc["taken_in"] else "PATCH_ARC is off, and they are left alone; set on"
    return [line("Arc servers", f"{setting}: {arc_cost_told(arc['connected'])}; some are exempt", "yellow")]


def _plan_shown(result: Mapping[str, Any]) -> list[RenderableType]:
    starts = [
        (_name(each), each["operation"], short(each["image"] or ""), each["run"], each["reason"])
        for each in result["start"]
    ]
    waits = [(_name(each), each["state"], each["run"], each["reason"]) for each in result["wait"]]
    others = ", ".join(f"{count} {state}" for state, count in result["others"].items())
    return [
        *_mode_lines(result),
        _cut("Would start now", ("machine", "operation", "image", "run", "why"), starts),
        _cut("Due, and does not start", ("machine", "state", "run", "why"), waits),
        *_arc_lines(result["arc"]),
        *_stopped_lines(result["stopped"]),
        line("others", others or "none"),
    ]


def _mode_lines(result: Mapping[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if result["mode"] != Mode.INSTALL.name.lower():
        lines.append(line("mode", f"PATCH_MODE is {result['mode']}; this is what install would do", "yellow"))
    if result["assumed_window"]:
        lines.append(line("window", "PATCH_WINDOW is not set: here any time is assumed; install is refused", "yellow"))
    if result["paused"]:
        lines.append(line("paused", str(result["paused"]), "bold yellow"))
    return lines


def _name(item: Mapping[str, Any]) -> str:
    return str(item["machine"]).rsplit("/", 1)[-1]


def _cut(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> RenderableType:
    if len(rows) > ROWS_SHOWN:
        title = f"{title} (the first {ROWS_SHOWN} of {len(rows)}; --json has all)"
    return table(title, columns, rows[:ROWS_SHOWN])
