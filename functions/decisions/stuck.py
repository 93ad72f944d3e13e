"""Rollouts that do not move: a stage let two openings of its window pass that it could have used. Pure.

Progress is a result, or a ring that opened. The time in which results are watched (PATCH_BAKE_MINUTES) does not count,
nor does an image whose breaker is open: that has a line of its own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from functions.decisions.plan import Candidate, Fleet, Plan, installations_under_way, make_plan, rollout_of
from functions.decisions.rollout import last_progress, next_in_turn
from functions.decisions.turns import is_open, turn_ends
from functions.model.machine import MachineId
from functions.model.state import Install, State, Step, Wait
from functions.policy.settings import Settings
from functions.policy.windows import Windows

OPENINGS = 2
_WITHIN = timedelta(minutes=1)  # before an opening ends, it is still open
_CLOSED = Wait(State.WAITING_FOR_WINDOW, "")
_REMEDIES = {
    State.WAITING_FOR_SLOT: "Raise the cap that it names, or let the window be open for longer (docs/windows.md).",
    State.WAITING_FOR_CANARY: "Start or repair the canary, or end the rollout (docs/stop.md).",
    State.WAITING_FOR_RING: "Find what keeps the earlier ring, or end the rollout (docs/stop.md).",
    State.WAITING_FOR_GROUP: "Start or repair the other member, or take it out of its group (docs/settings.md).",
}


@dataclass(frozen=True)
class Standstill:
    """A rollout that does not move, and what its next stage waits for."""

    image: str
    boundary: str
    stage: str
    since: datetime
    waiting: int  # machines of the image in this boundary that could be installed
    state: State | None  # the commonest of the stage's waits; None: no rule kept it
    reason: str
    remedy: str


@dataclass(frozen=True)
class _Missed:
    """The openings that a stage let pass."""

    items: Sequence[Candidate]
    stage: str
    machines: Mapping[MachineId, Windows]
    since: datetime
    moment: datetime  # in the last of them


def standstills(
    waiting: Iterable[Candidate], fleet: Fleet, settings: Settings, *, since: Mapping[str, datetime], now: datetime
) -> list[Standstill]:
    """The rollouts that do not move. `waiting`: what could be installed, now or but for its window. `since`: from when
    on machines wait, by Candidate.place; a place that it lacks is skipped.
    """
    everyone = list(waiting)
    missed = list(_missed(everyone, fleet, settings, since=since, now=now))
    plans: dict[datetime, Plan] = {}
    for each in missed:
        if each.moment not in plans:
            plans[each.moment] = make_plan(_as_of(each.moment, everyone, settings), fleet, settings, now=each.moment)
    return [_standstill(each, plans[each.moment], fleet=fleet, settings=settings) for each in missed]


def _missed(
    everyone: Iterable[Candidate], fleet: Fleet, settings: Settings, *, since: Mapping[str, datetime], now: datetime
) -> Iterator[_Missed]:
    places: dict[str, list[Candidate]] = {}
    for item in everyone:
        if item.machine.image.key and item.place(settings) in since:
            places.setdefault(item.place(settings), []).append(item)
    under_way = installations_under_way(fleet.rows)
    for place, items in sorted(places.items()):
        record, running = rollout_of(items[0], fleet, settings, under_way=under_way)
        if place not in fleet.images or running or record.breaker_open:
            continue
        members = [item.member(settings, now) for item in items]
        stage, windows = next_in_turn(record, members, running, settings=settings, now=now)
        begin = max(filter(None, [since[place], last_progress(record, settings)]))
        ends = [end for window in set(windows.values()) if (end := _end_of_openings(window, begin, settings))]
        if ends and min(ends) <= now:
            yield _Missed(items, stage, windows, begin, min(ends) - _WITHIN)


def _end_of_openings(window: Windows, since: datetime, settings: Settings) -> datetime | None:
    end: datetime | None = since
    for _ in range(OPENINGS):
        end = end and turn_ends(window, end, settings.blackouts)
    return end


def _as_of(moment: datetime, everyone: Iterable[Candidate], settings: Settings) -> list[Candidate]:
    """Everyone, due as far as windows were open at that moment."""
    return [replace(item, step=_step_at(moment, item, settings)) for item in everyone]


def _step_at(moment: datetime, item: Candidate, settings: Settings) -> Step:
    member = item.member(settings, moment)
    if is_open(member.window, moment, settings.blackouts):
        return Install(State.DUE, "")
    if member.may_be_canary and is_open(member.canary_window, moment, settings.blackouts):
        return Install(State.DUE, "", only_canary=True)
    return _CLOSED


def _standstill(missed: _Missed, plan: Plan, *, fleet: Fleet, settings: Settings) -> Standstill:
    record, _ = rollout_of(missed.items[0], fleet, settings, under_way={})
    going = [each.machine for each in plan.dispatches if each.machine in missed.machines]
    waits = Counter(wait for machine in missed.machines if isinstance(wait := plan.waits.get(machine), Wait))
    if waits and not going:
        [(wait, _)] = waits.most_common(1)
        state, reason, remedy = wait.state, wait.reason, wait.remedy or _REMEDIES.get(wait.state, "")
    else:
        name = min(going or missed.machines, key=str).name
        state, reason = None, f"no rule keeps {name} from going: no sweep dispatched it in those openings"
        remedy = "See whether sweeps failed or were throttled then (sweep.failed, quota.exhausted)."
    return Standstill(
        record.image,
        record.boundary,
        stage=missed.stage,
        since=missed.since,
        waiting=len(missed.items),
        state=state,
        reason=reason,
        remedy=remedy,
    )
