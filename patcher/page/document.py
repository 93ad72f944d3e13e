"""The document of one refresh: everything that the page shows of the fleet.

It is the result of `patcher status`, with the judgement of `patcher late` and the app's forecast for each machine.
Nothing is decided here, and no object id of a person is in it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from functions.decisions.compliance import Compliance
from functions.decisions.forecast import Forecast
from functions.decisions.plan import Candidate
from functions.model.state import AWAIT_A_TURN, POLICY_STATES, State
from functions.policy.values import Mode
from functions.steps import outlook
from patcher.fleet import Fleet, ImageRow, look_ahead
from patcher.output import clock_of
from patcher.questions import images, remedies, status, why
from patcher.questions.compliance import Judged, in_days, judge

NEWBORN = timedelta(days=2)  # as the panel of the workbook has it (infra/results/panels/debt-at-birth.kql)
OPENINGS = 6
MAX_EXPLAINED = 500  # machines of a report: 1.6 kilobytes each, beside 1.2 MB of ten thousand machines

# The groups in which people read the states, in the order of the page. The first that names a state has it.
KINDS: Mapping[str, Sequence[State]] = {
    "needs a person": status.NEED_A_PERSON,
    "under way": (State.QUEUED, State.ASSESSING, State.INSTALLING, State.CONFIRMING),
    "waiting": (
        *AWAIT_A_TURN,
        State.TOO_NEW,
        State.BUILDING,
        State.POWERED_OFF,
        State.BUSY,
        State.GRAPH_BEHIND,
        State.PAUSED,
    ),
    "current": (State.PATCHED, State.NOTHING_SELECTED, State.RECENTLY_PATCHED),
    "left alone": (*POLICY_STATES, State.SCHEDULED_ELSEWHERE, State.ASSESSED),
}
KIND_OF = {state: next(kind for kind, states in KINDS.items() if state in states) for state in State}

COLUMNS = (
    *("group", "name", "owner", "image", "region", "os", "state", "reason", "remedy", "command", "compliance"),
    *("late", "critical", "security", "other", "created", "assessed", "installed", "expected", "canary"),
)
SHARED = ("group", "owner", "image", "region", "os", "state", "reason", "remedy", "compliance", "late")


async def document(fleet: Fleet, *, explained: bool = False) -> dict[str, Any]:
    """What one look at the fleet shows. `explained`: with what a report cannot ask for later. Raises CloudError."""
    app = fleet.app
    waiting, coming = await look_ahead(fleet)
    judged = await judge(fleet)
    found = await status.status_of(fleet, waiting, coming)
    rows = [_row(each, fleet, coming) for each in judged]
    texts, places = packed(rows)
    shown = {
        "app": app.name,
        "at": fleet.now,
        "zone": clock_of(app.settings).zone,
        **{name: value for name, value in found.items() if name not in ("rollouts", "needs_a_person")},
        "kinds": kinds(),
        "runs": [{name: value for name, value in each.items() if name != "by"} for each in found["runs"]],
        "breakers": [each | {"image": images.short(each["image"])} for each in found["breakers"]],
        "rollouts": _rollouts(fleet, waiting, coming),
        "openings": _openings(coming),
        "no_forecast": _no_forecast(fleet, waiting, coming),
        "sla_days": in_days(app.settings.sla.everyone),
        "owners": _owners(judged, app.settings.owner_tag),
        "newborn": _newborn(judged),
        "texts": texts,
        "columns": COLUMNS,
        "shared": SHARED,
        "rows": places,
        **({"explained": await _explained(fleet, judged)} if explained else {}),
    }
    stops = [*fleet.view.sweep.stops.by_what.values(), *await app.services.ledger.stops()]
    people = [*(stop.by for stop in stops), *(each["by"] for each in found["runs"])]
    return dict(without_names(shown, people))


def kinds() -> dict[str, str]:
    """The group of each state, what needs a person first."""
    return {state.value: kind for kind, states in KINDS.items() for state in states if KIND_OF[state] == kind}


def _row(judged: Judged, fleet: Fleet, coming: Forecast | None) -> dict[str, Any]:
    machine, step, verdict, pending = judged.machine, judged.step, judged.machine.verdict, judged.machine.pending
    turn = coming.turns.get(machine.id) if coming else None
    late = {"critical": judged.late_critical, "security": judged.late_security}
    return {
        "group": str(machine.id).removesuffix(machine.id.name),
        "name": machine.id.name,
        "owner": machine.tag(fleet.app.settings.owner_tag),
        "image": images.short(machine.image.key),
        "region": machine.location,
        "os": machine.os_type.value,
        "state": step.state.value,
        "reason": step.reason,
        "remedy": step.remedy,
        "command": remedies.command(machine, step, fleet.view.sweep.stop_of(machine)),
        "compliance": judged.compliance.value,
        "late": ", ".join(name for name, is_late in late.items() if is_late),
        "critical": pending.critical,
        "security": pending.security,
        "other": pending.other,
        "created": _seconds(machine.created),
        "assessed": _seconds(verdict.assessed if verdict else None),
        "installed": _seconds(judged.installed),
        "expected": _seconds(turn.at if turn else None),
        "canary": turn.canary if turn else False,
    }


def _seconds(moment: datetime | None) -> int | None:
    """Since 1970: ten thousand machines have forty thousand times."""
    return int(moment.timestamp()) if moment else None


def packed(rows: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Rows by COLUMNS; of the SHARED ones, which many machines have alike, the place of the text in the first list."""
    places: dict[str, int] = {}
    packed = [
        [places.setdefault(row[name], len(places)) if name in SHARED else row[name] for name in COLUMNS] for row in rows
    ]
    return list(places), packed


async def _explained(fleet: Fleet, judged: Iterable[Judged]) -> dict[str, Any]:
    """Rules and evidence of those that need a person, then of the late: whom people look up in a report."""
    needing = [each for each in judged if each.step.state in status.NEED_A_PERSON]
    late = [
        each for each in judged if each.compliance is Compliance.LATE and each.step.state not in status.NEED_A_PERSON
    ]
    return {
        str(each.machine.id): await why.explained(fleet, each.machine, each.step)
        for each in [*needing, *late][:MAX_EXPLAINED]
    }


def _rollouts(fleet: Fleet, waiting: Sequence[Candidate], coming: Forecast | None) -> list[dict[str, Any]]:
    return [
        images.rollout(each, fleet, waiting=waiting, coming=coming)
        | {
            "image": images.short(each.record.image),
            "breaker_open": each.record.breaker_open,
            "watched_until": _watched_until(each, fleet),
        }
        for each in fleet.images
        if each.record.opened
    ]


def _watched_until(row: ImageRow, fleet: Fleet) -> object:
    """Until when the newest results are watched before others go; None if that is over, or nothing has ended."""
    results = [row.record.proved, *(tally.last for tally in row.record.rings.values())]
    until = max((at + fleet.app.settings.bake for at in results if at), default=fleet.now)
    return until if until > fleet.now else None


def _openings(coming: Forecast | None) -> list[dict[str, Any]]:
    return [
        {
            "opens": each.starts,
            "closes": each.ends,
            "window": each.window.text,
            "canaries": each.canaries,
            "others": each.fit,
            "left": each.left,
        }
        for each in (coming.openings[:OPENINGS] if coming else ())
    ]


def _no_forecast(fleet: Fleet, waiting: Sequence[Candidate], coming: Forecast | None) -> str | None:
    if coming is None:
        return f"{len(waiting)} machines wait; no forecast is made of more than {outlook.MAX_WAITING}"
    if (mode := fleet.app.settings.mode) in (Mode.OFF, Mode.ASSESS):
        return f"PATCH_MODE is {mode.name.lower()}: nothing is installed"
    if not fleet.app.settings.window:
        return "PATCH_WINDOW is not set"
    return None


def _owners(judged: Iterable[Judged], tag: str) -> list[dict[str, Any]]:
    """Compliance by owner and severity, those with late machines first."""
    found: dict[str, list[Judged]] = {}
    for each in judged:
        found.setdefault(each.machine.tag(tag), []).append(each)
    rows = [
        {
            "owner": owner,
            "machines": len(items),
            **{each.value: sum(item.compliance is each for item in items) for each in Compliance},
            "late_critical": sum(item.late_critical for item in items),
            "late_security": sum(item.late_security for item in items),
        }
        for owner, items in found.items()
    ]
    return sorted(rows, key=lambda row: (-int(str(row["late"])), -int(str(row["machines"])), str(row["owner"])))


def _newborn(judged: Iterable[Judged]) -> list[dict[str, Any]]:
    """By image version, what the first assessment found: the averages of the machines of which it is still known.

    Resource Graph keeps a machine's newest assessment. It is the first one if it began within NEWBORN of the creation
    and nothing was installed before it.
    """
    found: dict[str, list[Judged]] = {}
    for each in filter(_as_created, judged):
        found.setdefault(images.short(each.machine.image.key), []).append(each)
    rows = [
        {
            "image": image,
            "machines": len(items),
            "critical": sum(item.machine.pending.critical for item in items) / len(items),
            "security": sum(item.machine.pending.security for item in items) / len(items),
            "other": sum(item.machine.pending.other for item in items) / len(items),
        }
        for image, items in found.items()
    ]
    return sorted(rows, key=lambda row: (-row["critical"], -row["security"], row["image"]))


def _as_created(judged: Judged) -> bool:
    created, verdict = judged.machine.created, judged.machine.verdict
    if created is None or verdict is None or verdict.assessed is None:
        return False
    unchanged = judged.installed is None or judged.installed > verdict.assessed
    return unchanged and verdict.assessed - created < NEWBORN


def without_names(value: Any, people: Iterable[str | None]) -> Any:
    """The document without the object ids of those who stopped or ordered something (Stop.text, Run.text)."""
    who = "|".join(map(re.escape, sorted({by for by in people if by})))
    if not who:
        return value
    return _without(value, re.compile(rf" \(by (?:{who})\)|(?<=\()by (?:{who}), "))


def _without(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub("", value)
    if isinstance(value, Mapping):
        return {name: _without(each, pattern) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without(each, pattern) for each in value]
    return value
