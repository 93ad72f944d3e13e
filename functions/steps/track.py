"""The first half of a sweep: the outcome of everything in flight.

The operation's own status is authoritative. The instance view stands in where the answer is gone, and Resource Graph
confirms (confirm.py). Each row is tracked alone; one that cannot be asked now is left as it is, for the next sweep.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import zip_longest

from functions import journal
from functions.cloud import errors
from functions.cloud.arm import Outcome
from functions.cloud.ledger import LedgerView, Stored
from functions.cloud.models import tried_patches
from functions.cloud.rows import LeftAlone
from functions.decisions import notices
from functions.decisions.diagnosis import (
    Meaning,
    assessment_failed_inside,
    has_result,
    is_unfinished,
    meaning_of_outcome,
    naming_patches,
    real_errors,
    tried_nothing,
)
from functions.decisions.plan import waits_to_be_sent
from functions.model.machine import PATCH_COUNTS, Machine, MachineId, PatchStatus
from functions.model.patches import TriedPatches
from functions.model.record import (
    ADOPT_AFTER,
    GRAPH_PATIENCE,
    Ending,
    Flight,
    Record,
    accepted,
    end,
    hold,
    keep_asking,
    known_as,
    never_ran,
    release,
)
from functions.model.state import Cause, OperationKind, Phase, State, Wait
from functions.model.text import BadInput, Json
from functions.services import Services
from functions.steps.holds import OWNER_RETRY, forget, hold_for
from functions.steps.observe import (
    READS_AT_ONCE,
    Gone,
    Observation,
    Refused,
    Seen,
    Throttled,
    Unreadable,
    UsedUp,
    observe,
    observe_results,
)

READS_PER_SECOND = 20  # Resource Manager allows 25, per subscription and caller
READING_TIME = timedelta(seconds=30)  # of one sweep


Stay = Callable[[], Awaitable[None]]


async def operations(services: Services, rows: Iterable[Stored], used_up: UsedUp, *, stay: Stay) -> None:
    """What needs no Resource Graph: expired claims, unknown outcomes, running operations.

    Each subscription is asked READS_AT_ONCE, then so many a second, for READING_TIME at most and from a random row on:
    what is left is asked by the next sweep. `stay` is called in between.
    """
    now = services.clock()
    by_subscription: dict[str, list[Stored]] = {}
    for stored in rows:
        if _action(stored.record, now):
            by_subscription.setdefault(stored.record.machine.subscription, []).append(stored)
    turns = [_turns(group, services.jitter()) for group in by_subscription.values()]
    for number, turn in enumerate(zip_longest(*turns, fillvalue=())):
        if number:
            await services.sleep(1.0)
            await stay()
        await asyncio.gather(*(_track(services, stored, used_up, now=now) for group in turn for stored in group))


def _turns(rows: list[Stored], place: float) -> list[list[Stored]]:
    """The rows of one subscription in the order in which they are asked, second by second."""
    first = int(place * len(rows)) % len(rows)
    rows = rows[first:] + rows[:first]
    rest = rows[READS_AT_ONCE:][: READS_PER_SECOND * int(READING_TIME.total_seconds())]
    return [rows[:READS_AT_ONCE], *(rest[at : at + READS_PER_SECOND] for at in range(0, len(rest), READS_PER_SECOND))]


async def _track(services: Services, stored: Stored, used_up: UsedUp, *, now: datetime) -> None:
    if action := _action(stored.record, now):
        await isolated(services, stored, lambda: action(services, stored, now), used_up=used_up)


def _action(record: Record, now: datetime) -> Callable[[Services, Stored, datetime], Awaitable[None]] | None:
    """What has to be done about a row now; None: nothing yet."""
    begun_at = record.begun_at
    if record.expired(now):
        return _expire
    if record.kind is OperationKind.INSTALL and waits_to_be_sent(record, now):
        return _plan_again
    if record.is_held(State.OVERDUE) and record.due_again(now):
        return _ask if record.operation_id else _adopt  # one that could not be checked before it was overdue
    if record.phase is Phase.STARTING and begun_at and now >= begun_at + ADOPT_AFTER:
        return _adopt
    return _ask if record.phase is Phase.RUNNING else None


async def isolated(
    services: Services, stored: Stored, tracking: Callable[[], Awaitable[None]], *, used_up: UsedUp
) -> None:
    """One row must not keep the others from being tracked: what fails now is left for the next sweep.

    A used-up quota says nothing about the row: its subscription is not asked again in this sweep.
    """
    subscription = stored.record.machine.subscription
    if subscription in used_up:
        return
    try:
        await tracking()
    except errors.Gone:
        await forget(services, stored)
    except errors.Throttled as throttled:
        used_up.note(subscription, throttled)
    except (errors.CloudError, BadInput, LeftAlone) as error:
        journal.write("sweep.failed", stage="track", machine=stored.record.machine, problem=error)
        await _give_up(services, stored, str(error))


async def _give_up(services: Services, stored: Stored, problem: str) -> None:
    """What cannot be asked must not keep its slot indefinitely: after its deadline it is held for the owner."""
    record, now = stored.record, services.clock()
    if record.phase in (Phase.STARTING, Phase.RUNNING) and record.overdue(now):
        await _overdue(services, stored, problem)
    elif record.phase is Phase.ENDED and record.ending and now >= record.ending.at + GRAPH_PATIENCE:
        remedy = "Give the app's identity the patch role on the machine's subscription."
        await hold_for(services, stored, Wait(State.FAILED, f"its result cannot be read: {problem}", remedy))


async def machine_of(services: Services, stored: Stored) -> Machine | None:
    """The machine of a row; None when it is gone, and its row with it. Raises CloudError or BadInput."""
    return await _seen_or_gone(
        services, stored, await observe(services, stored.record.machine, vm_id=stored.record.vm_id)
    )


async def _machine_with_results(services: Services, stored: Stored) -> Machine | None:
    """The same with its newest operations, which an Arc-enabled server does not show by itself."""
    machine = await machine_of(services, stored)
    if machine is None:
        return None
    return await _seen_or_gone(services, stored, await observe_results(services, machine))


async def _seen_or_gone(services: Services, stored: Stored, seen: Observation) -> Machine | None:
    match seen:
        case Seen(machine):
            return machine
        case Gone():
            await forget(services, stored)
            return None
        case Unreadable(error) | Refused(error) | Throttled(error):
            raise error


# -- what the operation, or the machine itself, says


async def _expire(services: Services, stored: Stored, now: datetime) -> None:
    journal.write("claim.expired", **stored.record.log_fields())
    await services.ledger.replace(stored, release(stored.record, now))


async def _plan_again(services: Services, stored: Stored, now: datetime) -> None:
    """A postponed installation: what admitted it (rollout, ring, window) may no longer hold, so it asks again."""
    await services.ledger.replace(stored, release(stored.record, now))


async def _adopt(services: Services, stored: Stored, now: datetime) -> None:
    """The POST's answer was never recorded: an operation that was not known before the POST is assumed to be ours."""
    record, flight = stored.record, stored.record.flight
    machine = await _machine_with_results(services, stored)
    if machine is None:
        return
    status = record.ordered_status(machine)
    if flight is None or status is None or status.operation_id in flight.known_operations:
        if flight and (_shown_later(record, now) or _may_have_begun(record, flight, machine, now=now)):
            return
        journal.write("claim.expired", **record.log_fields(), reason="the POST started nothing")
        await services.ledger.replace(stored, release(record, now))
        return
    journal.write("operation.adopted", **record.log_fields(), operation=status.operation_id)
    record = accepted(record, status.operation_id, "", started_at=status.started or flight.begun_at)
    stored = stored.telling(*notices.started(record))
    if status.in_progress:
        await services.ledger.replace(stored, record)
    else:
        await _end_as_shown(services, replace(stored, record=record), machine=machine, status=status, now=now)


def _shown_later(record: Record, now: datetime) -> bool:
    """Whether the operation may run though nothing shows it yet.

    That of an Arc-enabled server is shown by Resource Graph alone, which may be late for longer than it lasts.
    """
    if record.machine.is_arc:
        return not record.overdue(now)
    return record.begun_at is not None and now < record.begun_at + ADOPT_AFTER


def _may_have_begun(record: Record, flight: Flight, machine: Machine, *, now: datetime) -> bool:
    """Whether an unknown assessment runs: an installation begins with one, and shows itself only after it."""
    seen = machine.assessment
    unknown = seen is not None and seen.in_progress and seen.operation_id not in flight.known_operations
    return record.kind is OperationKind.INSTALL and unknown and not record.overdue(now)


async def _ask(services: Services, stored: Stored, now: datetime) -> None:
    record = stored.record
    outcome: Outcome | None = None
    if record.flight and record.flight.operation_url:
        with suppress(errors.Gone, BadInput):  # no longer known, or not ARM's (its address was changed)
            outcome = await services.compute.outcome(record.machine, record.flight.operation_url)
    if outcome is None:
        await _ask_machine(services, stored, now)
    elif not outcome.running:
        await _end_as_answered(services, stored, outcome, now=now)
    elif record.overdue(now):
        await _overdue(services, stored)


async def _ask_machine(services: Services, stored: Stored, now: datetime) -> None:
    """The operation's URL is gone: the instance view says how it ended, if it still shows it."""
    record = stored.record
    machine = await _machine_with_results(services, stored)
    if machine is None:
        return
    status = record.ordered_status(machine)
    if status is not None and _is_of(record, status) and not status.in_progress:
        stored = replace(stored, record=known_as(record, status.operation_id))
        await _end_as_shown(services, stored, machine=machine, status=status, now=now)
        return
    under_way = any(_is_of(record, item) for item in machine.patch_statuses)
    if not under_way and _shown_later(record, now):
        return
    if not under_way or record.overdue(now):
        await _end(services, stored, "Unknown", result={}, ended=now)


def _is_of(record: Record, status: PatchStatus) -> bool:
    """Whether it is the record's operation. Of an Arc-enabled server the id of the URL need not be the one shown."""
    known = record.flight.known_operations if record.flight else ()
    return status.operation_id == record.operation_id or (record.machine.is_arc and status.operation_id not in known)


async def _overdue(services: Services, stored: Stored, problem: str = "") -> None:
    record = stored.record
    reason = "the operation is still open an hour after its own limit"
    reason += f", and cannot be asked: {problem}" if problem else ""
    journal.write("operation.overdue", **record.log_fields(), operation=record.operation_id)
    remedy = "Check the VM agent; restart the machine if the operation stays open."
    wait, until = Wait(State.OVERDUE, reason, remedy), services.clock() + OWNER_RETRY
    held, stored = hold(record, wait, until), stored.telling(notices.machine_held(record, wait, until))
    # Its id and URL are kept: the next check asks the operation again, and nothing starts beside it until it ended.
    await services.ledger.replace(stored, keep_asking(held, record))


async def _end_as_answered(services: Services, stored: Stored, outcome: Outcome, *, now: datetime) -> None:
    """The operation's own answer. It does not repeat why the assessment inside an installation failed."""
    inside = None
    if stored.record.machine.is_arc and outcome.activity_id:  # the URL's id need not be the one that Graph shows
        stored = replace(stored, record=known_as(stored.record, outcome.activity_id))
    if assessment_failed_inside(outcome.result.get("error")):
        machine = await machine_of(services, stored)
        if machine is None:
            return
        inside = _error_inside(stored.record, machine)
    reported = has_result(outcome.result)
    await _end(
        services, stored, outcome.patch_status, result=outcome.result, ended=now, inside=inside, reported=reported
    )


async def _end_as_shown(
    services: Services, stored: Stored, *, machine: Machine, status: PatchStatus, now: datetime
) -> None:
    """The machine's own status of the operation, where the operation's answer is gone."""
    inside = _error_inside(stored.record, machine)
    ended = status.modified or now
    await _end(services, stored, status.status, result=status.result, ended=ended, inside=inside)


def _error_inside(record: Record, machine: Machine) -> Json | None:
    """The error of the assessment inside this installation, as the machine shows it."""
    seen = machine.assessment
    return seen.result.get("error") if seen and seen.operation_id == record.operation_id else None


async def _end(
    services: Services,
    stored: Stored,
    status: str,
    *,
    result: Json,
    ended: datetime,
    inside: Json | None = None,
    reported: bool = True,
) -> None:
    """Records an outcome, with the meaning of a bad one, and waits for Graph to show it.

    `inside`: the error of the assessment inside an installation. `reported`: False where the guest reported nothing; a
    failure is then held at once, since Graph has nothing to show.
    """
    record = stored.record
    meaning = meaning_of_outcome(status, result.get("error"), result, inside=inside)
    patches = tried_patches(result)
    if meaning or not record.is_routine:
        _log_end(record, status, result, meaning=meaning, ended=ended)
    if meaning:
        meaning = naming_patches(meaning, patches.failed, result.get("error"))
    if record.kind is OperationKind.INSTALL:
        _log_patches(record, patches)
    ending = _ending(record, status, result, meaning=meaning, ended=ended)
    if meaning and meaning.cause is Cause.CONFLICT:
        record = never_ran(record)
    over = replace(stored.telling(*notices.ended(record, ending, result)), record=end(record, ending))
    if not ending.trouble or reported:
        await services.ledger.put_off(over, over.record)  # Graph may show it by now, and then the row goes on at once
    elif await machine_of(services, over):  # a deletion ends what runs on its machine
        await hold_for(services, over, ending.trouble)


def _ending(record: Record, status: str, result: Json, *, meaning: Meaning | None, ended: datetime) -> Ending:
    """What the outcome says of the patches and the image."""
    at_fault = meaning is not None and meaning.patches
    reboots = not (record.flight and record.flight.reboot_forbidden)
    untried = tried_nothing(result)
    proves_nothing = meaning is not None or untried or is_unfinished(result, reboots=reboots)
    return Ending(
        outcome=status,
        at=ended,
        at_fault=at_fault,
        neutral=not at_fault and proves_nothing,
        nothing_tried=untried,
        trouble=_trouble(meaning) if meaning else None,
    )


def _trouble(meaning: Meaning) -> Wait:
    state = State.UNSUPPORTED if meaning.unsupported else State.FAILED
    return Wait(state, meaning.text, meaning.remedy, cause=meaning.cause)


def _log_end(record: Record, status: str, result: Json, *, meaning: Meaning | None, ended: datetime) -> None:
    codes, messages = real_errors(result.get("error"))
    journal.write(
        f"{record.kind.noun}.ended",
        machine=record.machine,
        operation=record.operation_id,
        status=status,
        image=record.image,
        region=record.region,
        age_seconds=age_at(record.created, ended),
        meaning=meaning.text if meaning else None,
        codes=",".join(codes),
        messages="; ".join(messages),
        reboot=result.get("rebootStatus"),
        window_exceeded=result.get("maintenanceWindowExceeded"),
        **{name: result.get(name) for name in PATCH_COUNTS},
    )


def _log_patches(record: Record, patches: TriedPatches) -> None:
    told, left_out = patches.told()
    journal.write(
        "installation.patches",
        machine=record.machine,
        operation=record.operation_id,
        image=record.image,
        patch_list=told,
        left_out=left_out or None,
    )


def age_at(created: datetime | None, at: datetime | None) -> timedelta | None:
    """How old the machine was then."""
    return at - created if created and at else None


# -- what is written at the end of a sweep


async def write_ends(view: LedgerView) -> None:
    """The ends that nothing followed in this sweep. One that cannot be written is learned again by the next."""
    _tell_problems(await view.write_put_off())


async def delete_leaving(view: LedgerView) -> None:
    """The rows of assessments that ended, and that no installation took. What cannot be deleted is learned again."""
    _tell_problems(await view.delete_leaving())


def _tell_problems(problems: Mapping[MachineId, errors.CloudError]) -> None:
    for machine, problem in problems.items():
        journal.write("sweep.failed", stage="track", machine=machine, problem=problem)
