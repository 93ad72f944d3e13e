"""`patcher status`: is it alive, what is under way, and what needs a person."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from functions.cloud.ledger import APP
from functions.cloud.rows import app_time
from functions.cloud.stops import HOLDS, PAUSE, is_stop, stop_of_row
from functions.decisions.forecast import Forecast
from functions.decisions.plan import Candidate
from functions.decisions.stopped import running_time
from functions.model.record import Record
from functions.model.state import Phase, State, Step
from functions.model.stop import Scope, Stop, Stops
from patcher.connection import App
from patcher.fleet import Fleet, look, look_ahead
from patcher.output import Answer, ago, clock_of, lasting, line, table
from patcher.questions import images, runs

ALIVE = timedelta(hours=1)  # as the alert sweep-not-running has it
EXAMPLES = 3
# As the panel of the workbook has it (infra/results/panels/needs-a-person.kql): not what an owner chose.
NEED_A_PERSON = (
    State.FAILED,
    State.OVERDUE,
    State.UNDETERMINED,
    State.UNSUPPORTED,
    State.AGENT_NOT_READY,
    State.EXTENSIONS_FORBIDDEN,
    State.BAD_TAG,
    State.BREAKER_OPEN,
    State.REBOOT_PENDING,
    State.PATCHED_BY_NOBODY,
)


@dataclass(frozen=True)
class Sweeps:
    """The sweep's lease: `until` is the end of the last one, or of its lease while one runs, as the app wrote it."""

    last: datetime | None
    running: bool
    until: datetime | None = None

    def alive(self, now: datetime) -> bool:
        return self.running or (self.last is not None and now - self.last <= ALIVE)


async def sweeps(app: App) -> Sweeps:
    row = await app.services.ledger.table.get("app", "sweep")
    if row is None:
        return Sweeps(None, running=False)
    until, now = app_time(row, "until"), app.services.clock()
    return Sweeps(min(until, now), running=until > now, until=until)


async def ask(app: App) -> Answer:
    fleet = await look(app)
    result = await status_of(fleet, *await look_ahead(fleet))
    return Answer(result, _shown(fleet, result))


async def status_of(fleet: Fleet, waiting: Sequence[Candidate], coming: Forecast | None) -> dict[str, Any]:
    """The result of `patcher status`, from one look at the fleet. Raises CloudError."""
    app = fleet.app
    swept, paused = await sweeps(app), await paused_because(app)
    stopped, unreadable = await _stops(app)
    under_way = [_flight(stored.record) for stored in fleet.view.sweep.rows.values() if _counts(stored.record)]
    return {
        "alive": swept.alive(fleet.now),
        "mode": app.settings.mode.name.lower(),
        "window": app.settings.window.text if app.settings.window else None,
        "sweep": {"last": swept.last, "running": swept.running},
        "paused": paused or None,
        **_stopped(stopped),
        "machines": len(fleet.states),
        "started": _started(fleet),
        "states": _counted(fleet),
        "in_flight": sorted(under_way, key=lambda each: str(each["since"])),
        "rollouts": [
            images.rollout(each, fleet, waiting=waiting, coming=coming) for each in fleet.images if each.record.opened
        ],
        "runs": [runs.summary(each, fleet.now) for each in await runs.known_runs(app) if each.is_open],
        "breakers": [images.breaker(each) for each in fleet.images if images.is_open(each)],
        "needs_a_person": [*_unreadable(fleet, unreadable), *_needs_a_person(fleet)],
        "left_alone": [str(each) for each in fleet.view.sweep.view.left_alone.values()],
    }


async def paused_because(app: App) -> str:
    """Why the app starts nothing; "" while it does."""
    if app.settings.paused:
        return "PATCH_PAUSE is on"
    everything = Stops.in_force(await app.services.ledger.stops(), app.services.clock()).everything
    return everything.text if everything else ""


async def _stops(app: App) -> tuple[list[Stop], dict[str, Stop]]:
    """The stops in force: those that can be read, and by the key of their row those that cannot."""
    table, now = app.services.ledger.table, app.services.clock()
    found = {row.key: stop_of_row(row) for prefix in (PAUSE, HOLDS) async for row in table.keys(APP, prefix)}
    in_force = {key: stop for key, stop in found.items() if is_stop(key) and stop.in_force(now)}
    unreadable = {key: stop for key, stop in in_force.items() if stop.problem}
    return [stop for stop in in_force.values() if not stop.problem], unreadable


def _stopped(stops: list[Stop]) -> dict[str, Any]:
    """The pauses of a part of the fleet, and how many machines are held."""
    parts = [stop for stop in stops if stop.scope not in (Scope.MACHINE, Scope.EVERYTHING)]
    return {
        "pauses": [{"what": each.text, "end": each.command} for each in sorted(parts, key=lambda each: each.value)],
        "held": sum(stop.scope is Scope.MACHINE for stop in stops),
    }


def _started(fleet: Fleet) -> dict[str, Any]:
    """What the app started and has to put back. Azure bills the compute."""
    started = [each.started for each in fleet.view.sweep.started.values() if each.started.is_open]
    return {"machines": len(started), "seconds": running_time(started, fleet.now).total_seconds()}


def _started_lines(started: Mapping[str, Any]) -> list[Any]:
    if not started["machines"]:
        return []
    time = lasting(timedelta(seconds=started["seconds"]))
    return [line("started", f"{started['machines']} by the app, which puts them back; they have run for {time} in all")]


def _unreadable(fleet: Fleet, stops: Mapping[str, Stop]) -> list[dict[str, Any]]:
    """Each row that stops everything because what it was meant to stop is not known."""
    where = f"--account-name {account_of(fleet.app.settings.table_endpoint)} --auth-mode login --table-name ledger"
    return [
        {
            "state": State.PAUSED.value,
            "machines": len(fleet.states),
            "examples": [],
            "reason": stop.problem,
            "remedy": f"az storage entity delete {where} --partition-key app --row-key {key}",
        }
        for key, stop in stops.items()
    ]


def account_of(endpoint: str) -> str:
    """The storage account's name: the first label of its address; of an emulator's, the path."""
    host, _, path = endpoint.removeprefix("https://").partition("/")
    return path or host.partition(".")[0]


def _counts(record: Record) -> bool:
    return record.in_flight or record.phase is Phase.ENDED


def _flight(record: Record) -> dict[str, Any]:
    since = (record.flight and record.flight.started_at) or record.begun_at or record.due_at
    return {
        "machine": str(record.machine),
        "kind": record.kind.noun,
        "phase": record.phase.value,
        "since": since,
        "ends_by": record.deadline,
    }


def _counted(fleet: Fleet) -> list[dict[str, Any]]:
    counts = Counter(step.state for _, step in fleet.states)
    return [{"state": state.value, "machines": count} for state, count in counts.most_common()]


def _needs_a_person(fleet: Fleet) -> list[dict[str, Any]]:
    """What goes on only when a person changes something, by state, with the first machines and their remedy."""
    found: dict[str, list[tuple[str, Step]]] = {}
    for machine, step in fleet.states:
        if step.state in NEED_A_PERSON:
            found.setdefault(step.state.value, []).append((machine.id.name, step))
    return [
        {
            "state": state,
            "machines": len(items),
            "examples": sorted(name for name, _ in items)[:EXAMPLES],
            "reason": items[0][1].reason,
            "remedy": items[0][1].remedy,
        }
        for state, items in sorted(found.items(), key=lambda item: -len(item[1]))
    ]


def _held(count: int) -> str:
    return f", {count} held by a person" if count else ""


def _shown(fleet: Fleet, result: Mapping[str, Any]) -> list[Any]:
    app, when, swept = fleet.app, clock_of(fleet.app.settings), result["sweep"]["last"]
    last = f"last sweep {ago(swept, fleet.now)} ago" if swept else "no sweep has run yet"
    parts = [
        line("app", f"{app.name}, PATCH_MODE {result['mode']}, window {result['window'] or 'not set'}"),
        line("alive", f"yes, {last}", "green") if result["alive"] else line("alive", f"NO: {last}", "bold red"),
        line("paused", str(result["paused"]), "bold yellow") if result["paused"] else line("paused", "no"),
        *(line("paused", f"{each['what']}; to end it: {each['end']}", "bold yellow") for each in result["pauses"]),
        line("machines", f"{result['machines']}{_held(result['held'])}"),
        *_started_lines(result["started"]),
        table("States", ("state", "machines"), [(each["state"], each["machines"]) for each in result["states"]]),
        table(
            "In flight",
            ("machine", "operation", "phase", "since"),
            [
                (each["machine"].rsplit("/", 1)[-1], each["kind"], each["phase"], f"{ago(each['since'], fleet.now)}")
                for each in result["in_flight"]
            ],
        ),
        images.rollouts_shown(result["rollouts"], when),
        *([runs.runs_shown("Runs on demand", result["runs"], when)] if result["runs"] else []),
        *images.breakers_shown(result["breakers"]),
        table(
            "Needs a person",
            ("state", "machines", "such as", "why", "what to do"),
            [
                (each["state"], each["machines"], ", ".join(each["examples"]), each["reason"], each["remedy"])
                for each in result["needs_a_person"]
            ],
            empty="nothing",
        ),
    ]
    return [*parts, *(line("left alone", text, "yellow") for text in result["left_alone"])]
