"""What a sweep reports: poison queues, the fleet in numbers, its limits, and every machine once a day.

Each report stands alone: one without an answer fails by itself. Nothing here dispatches or records an outcome.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from functions import journal
from functions.cloud.resource_graph import CENSUS_SHARES
from functions.decisions.compliance import compliance, sla_of
from functions.decisions.diagnosis import apart
from functions.model.machine import Machine, MachineId, OldestPatches, OsType
from functions.model.record import Record
from functions.model.state import State, Step
from functions.model.text import Json
from functions.policy.zones import DAY
from functions.services import Services
from functions.steps import states
from functions.steps.states import Rows, Steps, Telling

CENSUS_SECONDS = 120  # of one sweep: the function's time is ten minutes, and what is left is counted by the next
FASTER = 8  # times as many shares of the census are taken together where the last ones held few machines
NOTHING_SEEN = "Resource Graph shows none of its resource groups: the app's identity may not read it, or it is empty"
GIVE_THE_ROLE = "Assign the app's role there (docs/deploy.md), or take the subscription out of PATCH_SCOPE."
SAME_FAILURE = 3  # machines that share a failure and what they run are reported as one


async def poison(services: Services) -> None:
    """How many messages lie in the poison queues, and since when."""
    known = await services.ledger.remembered("poison")
    now = services.clock().isoformat(timespec="seconds")
    # A message that some function keeps trying to read is invisible most of the time: then our first sight counts.
    found = {item.queue: item for item in await services.queue.poison()}
    note = {name: item.since.isoformat() if item.since else known.get(name, now) for name, item in found.items()}
    for name, item in found.items():
        journal.write("poison.found", queue=name, count=item.count, since=note[name])
    if note != known:
        await services.ledger.remember("poison", note)


async def fleet(services: Services) -> None:
    """Machines by support state and image, of the most machines where there are too many pairs."""

    async def ask() -> list[Json]:
        counts, cut = await services.graph.fleet_counts()
        return [{**row, "cut": len(counts) if cut else None} for row in counts]

    def tell(row: Json) -> None:
        journal.write(
            "fleet.counted",
            support_state=row.get("state_name"),
            image=row.get("image_name"),
            machines=row.get("machines"),
            cut=row["cut"],
        )

    await _hourly(services, "fleet", ask=ask, tell=tell)


async def scope(services: Services) -> None:
    """The subscriptions of PATCH_SCOPE of which nothing is seen: no machine of them is not "no machines"."""
    subscriptions = services.settings.scope.subscriptions

    def tell(subscription: str) -> None:
        journal.write("scope.unseen", subscription=subscription, reason=NOTHING_SEEN, remedy=GIVE_THE_ROLE)

    if subscriptions:
        await _hourly(services, "scope", ask=lambda: services.graph.unseen(subscriptions), tell=tell)


Found = TypeVar("Found")


async def _hourly(
    services: Services, name: str, *, ask: Callable[[], Awaitable[list[Found]]], tell: Callable[[Found], None]
) -> None:
    """Asks once an hour; reports what was found when it changed, and once a day. `name`: of the ledger's note."""
    note, hour = await services.ledger.remembered(name), services.clock().strftime("%Y-%m-%d %H")
    if note.get("hour") == hour:
        return
    found = await ask()
    told = _digest(sorted(map(repr, found)))
    if told != note.get("told") or _day(hour) != _day(note.get("hour", "")):
        for each in found:
            tell(each)
    await services.ledger.remember(name, {"hour": hour, "told": told})


async def limits(services: Services, waits: Steps) -> None:
    """How many due machines wait for a limit of the fleet, and for which: one line per reason, not per machine.

    Told when a number changed, and once a day. Those of an open breaker come with every sweep: its alert lasts as long.
    """
    counts = Counter((step.state, step.reason) for step in waits.values())
    note, day = await services.ledger.remembered("limits"), services.clock().date().isoformat()
    told = _digest(sorted(f"{state} {count} {reason}" for (state, reason), count in counts.items()))
    same = note == {"day": day, "told": told}
    for (state, reason), count in counts.items():
        if state is State.BREAKER_OPEN or not same:
            journal.write("fleet.limited", state=state, reason=reason, machines=count)
    if not same:
        await services.ledger.remember("limits", {"day": day, "told": told})


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _day(hour: str) -> str:
    return hour[:10]


async def census(sweep: Telling, rows: Rows, waits: Steps) -> None:
    """One line a day for every machine in scope, each at its own time of the day: a sweep counts what is due by then.

    What was counted is noted after its lines are written: a sweep that is killed before counts that share again. One
    that has to catch up counts a day's shares at most, and leaves what does not fit its time to the next.
    """
    services = sweep.services
    note = await services.ledger.remembered("census")
    due = _shares_due(services.clock())
    done = max(_number(note.get("done")), due - CENSUS_SHARES)
    ends, together = services.clock() + timedelta(seconds=CENSUS_SECONDS), 1
    while done < due and services.clock() < ends:
        upto, counted = min(done + together, due), 0
        shares = [number % CENSUS_SHARES for number in range(done + 1, upto + 1)]
        async for batch in _batches(states.states(services, rows, waits, shares=shares)):
            await _count_all(sweep, batch)
            counted += len(batch)
            if len(batch) == states.BATCH:
                await services.sleep(states.PAUSE_SECONDS)
        done, together = upto, together * FASTER if counted * FASTER < states.BATCH else 1
        await services.ledger.remember("census", {"done": str(done), "day": note.get("day", "")})
    today = services.clock().date().isoformat()
    if note.get("day") != today:
        _report_groups(rows)
        await services.ledger.remember("census", {"done": str(done), "day": today})


def _shares_due(now: datetime) -> int:
    """How many shares have come due since the beginning of time: CENSUS_SHARES a day, evenly over the day."""
    return int(now.timestamp() / DAY.total_seconds() * CENSUS_SHARES)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else 0


async def _batches(items: AsyncIterator[tuple[Machine, Step]]) -> AsyncIterator[list[tuple[Machine, Step]]]:
    batch: list[tuple[Machine, Step]] = []
    async for item in items:
        batch.append(item)
        if len(batch) == states.BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _count_all(sweep: Telling, batch: list[tuple[Machine, Step]]) -> None:
    services = sweep.services
    ids = [str(machine.id) for machine, _ in batch]
    windows = [str(machine.id) for machine, _ in batch if machine.os_type is OsType.WINDOWS]  # Linux has no such time
    oldest, installed = await services.graph.oldest_patches(windows), await services.graph.last_installations(ids)
    for machine, step in batch:
        name = str(machine.id)
        expected = states.expected(sweep, machine.id)
        times = Times(oldest=oldest.get(name, OldestPatches()), last_installed=installed.get(name), expected=expected)
        _count(services, machine, step, times=times)
    told = ((machine.id, states.of_machine(machine, step, services)) for machine, step in batch)
    await states.tell(sweep, told, counted=True)


def _report_groups(rows: Rows) -> None:
    for (what, which, meaning), failed in _grouped(stored.record for stored in rows.values()).items():
        journal.write(
            "failures.grouped",
            shared=what,
            value=which,
            reason=meaning,
            count=len(failed),
            machines=", ".join(machine.name for machine in failed),
            failed_patches="; ".join(sorted({patches for patches in failed.values() if patches})),
        )


@dataclass(frozen=True)
class Times:
    """The times of a machine that neither the machine nor its step carries."""

    oldest: OldestPatches
    last_installed: datetime | None
    expected: datetime | None


def _count(services: Services, machine: Machine, step: Step, *, times: Times) -> None:
    settings, verdict, pending = services.settings, machine.verdict, machine.pending
    sla = sla_of(machine, settings)
    counted = verdict is not None and bool(verdict.counts)
    journal.write(
        "machine.counted",
        machine=machine.id,
        image=machine.image.key,
        image_kind=machine.image.kind,
        image_version=machine.image.version,
        os=machine.os_type,
        region=machine.location,
        owner=machine.tag(settings.owner_tag),
        created=machine.created,
        support_state=verdict.state if verdict else None,
        patchers=machine.patchers,
        verb=step.verb,
        state=step.state,
        reason=step.reason,
        remedy=step.remedy,
        when=step.when,
        expected=times.expected,
        pending_critical=pending.critical if counted else None,
        pending_security=pending.security if counted else None,
        pending_other=pending.other if counted else None,
        reboot_pending=verdict.reboot_pending if verdict else None,
        oldest_security=times.oldest.first,
        last_assessed=verdict.assessed if verdict else None,
        last_installed=times.last_installed,
        compliance=compliance(
            machine, step, oldest=times.oldest, last_installed=times.last_installed, sla=sla, now=services.clock()
        ),
        sla_days=max(sla) / DAY,
    )


def _grouped(records: Iterable[Record]) -> dict[tuple[str, str, str], dict[MachineId, str]]:
    """The same failure on three or more machines of an image, operating system or agent: one cause to find.

    By what they share and what the failure means; the patches that failed on each machine, as its reason names them.
    """
    groups: dict[tuple[str, str, str], dict[MachineId, str]] = {}
    for record in records:
        if (
            not record.hold
            or record.hold.state is not State.FAILED
            or not (record.history.attempts or record.history.failures)
        ):
            continue
        meaning, patches = apart(record.history.failure or record.hold.reason)
        flight = record.flight
        shared = {"image": record.image, "os": flight and flight.os, "agent": flight and flight.agent}
        for what, which in shared.items():
            if which:
                groups.setdefault((what, which, meaning), {})[record.machine] = patches
    return {key: failed for key, failed in groups.items() if len(failed) >= SAME_FAILURE}
