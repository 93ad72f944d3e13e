"""What is to come: who fits into the next openings, who is late, and when each machine is expected to go.

Told once a day, when a window opens or closes, and when settings change. A machine that comes to wait in between has
its time by a forecast made for it, which tells nothing else. Nothing here starts anything.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from functions import journal
from functions.decisions.compliance import sla_of
from functions.decisions.forecast import Forecast, Turn, forecast
from functions.decisions.plan import Candidate, Fleet, Plan
from functions.decisions.stopped import cost_told
from functions.decisions.turns import is_open
from functions.model.machine import MachineId
from functions.model.state import OperationKind
from functions.model.text import format_utc
from functions.policy.advice import advice
from functions.policy.prices import arc_cost_told
from functions.policy.settings import Settings
from functions.policy.values import Mode
from functions.policy.zones import DAY
from functions.services import Services
from functions.steps import planning, stopped, stuck
from functions.steps.sweep import Sweep

OPENINGS_TOLD = 3
MAX_WAITING = 15_000  # waiting machines: a forecast of so many takes some seconds of a process that has other work
MAX_TRIED = 3_000  # for which wider caps are tried, too
WIDER = (2, 4, 8, 16)  # times the caps that are tried until everyone is in time

PACE = timedelta(seconds=0.3)  # for each waiting machine: a thousandth of the time that its forecast takes, or less


async def tell(sweep: Sweep, due: list[Candidate], *, plan: Plan, newcomers: bool) -> Mapping[MachineId, Turn | None]:
    """Reports the outlook, unless it was reported already, and returns the turns that it found. Raises CloudError.

    `due`: what the sweep found. `plan`: what goes of it now. `newcomers`: whether a machine waits whose turn no
    forecast has looked for. None: a turn that does not come.
    """
    services = sweep.services
    settings, now = services.settings, services.clock()
    if settings.mode not in (Mode.PLAN, Mode.INSTALL):
        return {}
    installs = sum(item.kind is OperationKind.INSTALL for item in due)
    key, note = _key(settings, now, installs), await services.ledger.remembered("forecast")
    is_reported = note.get("key") == key
    if is_reported and not await _owes_a_time(services, note, newcomers=newcomers):
        return {}
    if not is_reported:
        await _tell_settings(sweep, plan)
    candidates = await planning.all_waiting(sweep, due)
    turns: dict[MachineId, Turn | None] = {}
    if len(candidates) <= MAX_WAITING or not is_reported:  # of more no forecast is made, so nothing is read for it
        turns = await _look_ahead(sweep, candidates, is_reported=is_reported)
    again = now + len(candidates) * PACE
    await services.ledger.remember("forecast", {"key": key, "again": again.isoformat()})
    return turns


async def _look_ahead(sweep: Sweep, candidates: list[Candidate], *, is_reported: bool) -> dict[MachineId, Turn | None]:
    services = sweep.services
    settings, now = services.settings, services.clock()
    candidates, fleet = await planning.with_limits(sweep, candidates)
    if not is_reported:
        await stuck.tell(services, candidates, fleet=fleet, in_force=sweep.in_force)
    if len(candidates) > MAX_WAITING:
        reason = f"no forecast is made of more than {MAX_WAITING}"
        journal.write("opening.forecast", waiting=len(candidates), reason=reason)
        return {}
    fleet = replace(fleet, troubled_groups={})  # the forecast takes everyone for well
    found = forecast(candidates, fleet, settings, now=now)
    if not is_reported:
        _tell_openings(found, settings, sum(fleet.machines.values()))
        _tell_late(candidates, fleet, found, settings=settings, now=now)
    return {item.machine.id: found.turns.get(item.machine.id) for item in candidates}


async def _owes_a_time(services: Services, note: Mapping[str, str], *, newcomers: bool) -> bool:
    """Whether a forecast is made for newcomers now. Those that come too soon after the last one are remembered."""
    owed = newcomers or "owed" in note
    if owed and services.clock().isoformat() >= note.get("again", ""):
        return True
    if owed and "owed" not in note:
        await services.ledger.remember("forecast", {**note, "owed": "yes"})
    return False


async def _tell_settings(sweep: Sweep, plan: Plan) -> None:
    settings = sweep.services.settings
    for line in advice(settings, sweep.services.clock()):
        journal.write("settings.advised", reason=line)
    await _tell_costs(sweep, plan)


async def _tell_costs(sweep: Sweep, plan: Plan) -> None:
    """What Azure charges for what a plan is about: assessed Arc-enabled servers, and machines that would be started."""
    services = sweep.services
    if services.settings.mode is not Mode.PLAN:
        return
    if services.settings.include_arc:
        _, connected = await services.graph.arc_servers()
        journal.write("settings.advised", setting="PATCH_ARC", machines=connected, reason=arc_cost_told(connected))
    if chosen := await stopped.whose_turn_it_is(sweep, after=plan):
        together = await stopped.planned_time(sweep, chosen)
        reason = cost_told(len(chosen), together)
        journal.write("settings.advised", setting="PATCH_START_STOPPED", machines=len(chosen), reason=reason)


def _key(settings: Settings, now: datetime, due: int) -> str:
    """Changes when there is something new to report: of a plan also when a machine came or went."""
    opened = [is_open(window, now, settings.blackouts) for window in settings.windows]
    written = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    return f"{now.date().isoformat()} {opened} {written} {due if settings.mode is Mode.PLAN else ''}".rstrip()


def _tell_openings(found: Forecast, settings: Settings, machines: int) -> None:
    in_flight = settings.max_in_flight.told(machines)
    caps = f"PATCH_MAX_IN_FLIGHT {in_flight}, PATCH_MAX_PER_IMAGE {settings.max_per_image}"
    for opening in found.openings[:OPENINGS_TOLD]:
        journal.write(
            "opening.forecast",
            opens=opening.starts,
            closes=opening.ends,
            window=opening.window.text,
            waiting=opening.waiting,
            canaries=opening.canaries,
            fit=opening.fit,
            left=opening.left,
            reason=f"{opening.left} go later: canaries, rings and bakes go first, or caps are full ({caps})"
            if opening.left
            else "all fit",
        )


def _tell_late(
    candidates: list[Candidate], fleet: Fleet, found: Forecast, *, settings: Settings, now: datetime
) -> None:
    """Who is installed later than PATCH_SLA_DAYS allows, counted from now, and what would change it."""
    late = _late(candidates, found, settings, now=now)
    if not late:
        return
    limits = sorted({_limit(item, settings) for item in late})
    days = " to ".join(f"{limit / DAY:g}" for limit in dict.fromkeys((limits[0], limits[-1])))
    last = max((found.turns[item.machine.id].at for item in late if item.machine.id in found.turns), default=None)
    never = sum(item.machine.id not in found.turns for item in late)
    journal.write(
        "settings.advised",
        setting="PATCH_SLA_DAYS",
        machines=len(late),
        waiting=len(candidates),
        never=never,
        when=last,
        reason=f"{len(late)} of {len(candidates)} waiting machines are installed later than {days} "
        f"days from now{f', the last {format_utc(last)}' if last else ''}",
        remedy=_remedy(candidates, fleet, settings, now=now),
    )


def _late(candidates: Iterable[Candidate], found: Forecast, settings: Settings, *, now: datetime) -> list[Candidate]:
    turns = found.turns
    return [
        item
        for item in candidates
        for turn in [turns.get(item.machine.id)]
        if turn is None or turn.at > now + _limit(item, settings)
    ]


def _limit(item: Candidate, settings: Settings) -> timedelta:
    """The longest that any of the machine's patches may wait."""
    return max(sla_of(item.machine, settings))


def _remedy(candidates: list[Candidate], fleet: Fleet, settings: Settings, *, now: datetime) -> str:
    """The smallest of the wider caps by which everyone is in time, found by forecasts of their own."""
    for times in WIDER if len(candidates) <= MAX_TRIED else ():
        wider = replace(
            settings,
            max_in_flight=settings.max_in_flight.times(times),
            max_per_image=settings.max_per_image.times(times),
        )
        if not _late(candidates, forecast(candidates, fleet, wider, now=now), wider, now=now):
            return (
                f"Set PATCH_MAX_IN_FLIGHT to {wider.max_in_flight} and PATCH_MAX_PER_IMAGE to {wider.max_per_image}; "
                "then all are in time."
            )
    if len(candidates) > MAX_TRIED:
        return "Raise PATCH_MAX_IN_FLIGHT and PATCH_MAX_PER_IMAGE, or let windows open more often (docs/windows.md)."
    return "Wider caps do not help: let windows open more often, or shorten PATCH_BAKE_MINUTES (docs/windows.md)."
