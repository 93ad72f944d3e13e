"""Notices to other programs: announcing, summing up, and sending what the ledger's moves left in the outbox.

It is the last stage of a sweep, and bounded in number and time. A topic that fails is reported once, is retried with
growing waits, and keeps nothing else waiting. A notice is deleted once the topic has it: killed in between, the next
sweep sends it again under the same id.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from functions import journal
from functions.cloud import errors
from functions.cloud.notices import (
    Announced,
    Pending,
    Topic,
    announced_of,
    batches,
    is_newer,
    is_planned,
    is_readable,
    pending_of,
)
from functions.cloud.rows import place_of
from functions.cloud.tables import Change, Delete, Replace, Row, Table
from functions.decisions import notices
from functions.decisions.plan import Candidate
from functions.decisions.retry import backoff
from functions.model.machine import MachineId
from functions.model.notice import NoticeType
from functions.model.record import Record
from functions.model.state import AWAIT_A_TURN
from functions.policy.values import Mode
from functions.policy.windows import ANY
from functions.policy.zones import DAY
from functions.steps.sweep import Sweep

MAX_NOTICES, MAX_BYTES = 50, 400_000  # of one request; Event Grid takes 1 MB
MAX_PER_SWEEP = 5_000  # notices that one sweep sends, drops or writes
SENDING_SECONDS = 60  # of one sweep
WRITES_AT_ONCE = 20
KEPT = DAY  # so long a topic may fail and lose nothing
# One read of the table may show a second notice and miss the first, when both are written between two of its pages.
# What was written so long before the read is there: longer than a write takes and clocks differ.
COMPLETE_AFTER = timedelta(minutes=2)
FIRST_RETRY, MAX_RETRY_WAIT = timedelta(minutes=5), timedelta(hours=1)
SAME_OPENING = timedelta(hours=12)  # a forecast that moves less announces nothing new
SWEEP_INTERVAL = timedelta(minutes=5)
SUSPECT = 3  # notices refused alone, and none taken, before it is the topic that refuses
FAILING, MORNING = "notices", "morning"  # notes of the ledger


async def tell(sweep: Sweep) -> None:
    """Announces, sums up and sends. Raises CloudError when the ledger does not answer."""
    rows = [row for row in sweep.view.outbox_rows if not is_newer(row)]
    if sweep.services.topic is None:  # switched off: what is left of before has no receiver
        await _delete(sweep.view.table, rows[:MAX_PER_SWEEP])
        return
    pending = [each for row in rows if is_readable(row) and (each := pending_of(row))]
    await _announce_ahead(sweep)
    await _sum_up(sweep, pending)
    await _drop(sweep, [row for row in rows if not is_readable(row)], pending)
    await _send_all(sweep, sweep.services.topic, pending)


# -- announcing an installation


async def hold_back(sweep: Sweep, item: Candidate, record: Record | None) -> timedelta:
    """How long the machine's installation has to wait, so that others heard of it before; announces it if need be.

    Raises CloudError.
    """
    services, now = sweep.services, sweep.services.clock()
    ahead = services.settings.notice_before
    if services.topic is None or not ahead:
        return timedelta(0)
    found = _announced(sweep).get(item.machine.id)
    if found and _holds_good(found, item, record=record, now=now):
        return notices.time_left(found.at, ahead, now)
    wait = notices.time_left(None, ahead, now)
    await _announce(sweep, item.machine.id, image=item.machine.image.key, expected=now + wait)
    return wait


def _holds_good(found: Announced, item: Candidate, *, record: Record | None, now: datetime) -> bool:
    """Whether it announced this installation: of this machine, of this opening, and none has begun since."""
    begun = [*(record.history.tries if record else ()), *filter(None, [item.installed, item.machine.created])]
    return now <= found.expected + SAME_OPENING and all(moment <= found.at for moment in begun)


async def _announce_ahead(sweep: Sweep) -> None:
    """The installations that the last forecast expects soon."""
    settings, now = sweep.services.settings, sweep.services.clock()
    if not settings.notice_before or settings.mode is not Mode.INSTALL:
        return
    soon, known = now + settings.notice_before + notices.DELIVERY + SWEEP_INTERVAL, _announced(sweep)
    due = [
        (machine, note.expected)
        for machine, note in sweep.notes.notes.items()
        if note.expected and now < note.expected <= soon
        if machine not in known or note.expected > known[machine].expected + SAME_OPENING
    ]
    for first in range(0, min(len(due), MAX_PER_SWEEP), WRITES_AT_ONCE):
        turn = due[first : first + WRITES_AT_ONCE]
        await asyncio.gather(*(_announce(sweep, machine, image="", expected=expected) for machine, expected in turn))
        await sweep.stay()


def _announced(sweep: Sweep) -> Mapping[MachineId, Announced]:
    """What is announced by machine: read once, and kept true by this sweep's own announcements."""
    if sweep.announced is None:
        rows = (row for row in sweep.view.outbox_rows if is_planned(row.key) and not is_newer(row))
        sweep.announced = {found.machine: found for row in rows if (found := announced_of(row))}
    return sweep.announced


async def _announce(sweep: Sweep, machine: MachineId, *, image: str, expected: datetime) -> None:
    """One row for each machine; a sweep to come sends it."""
    table, outbox = sweep.view.table, sweep.services.ledger.outbox
    if outbox is None:
        return
    partition, key = place_of(machine)
    key, columns = outbox.announcement(notices.installation_planned(machine, image, expected), key)
    before = _announced(sweep).get(machine)
    written = await (table.replace(before.row, columns) if before else table.insert(partition, key, columns))
    if written and sweep.announced is not None and (now := announced_of(written)):
        sweep.announced[machine] = now


# -- the morning


async def _sum_up(sweep: Sweep, pending: Iterable[Pending]) -> None:
    """Once a day, in the morning of the window's zone: what was installed since the last time."""
    settings, now = sweep.services.settings, sweep.services.clock()
    if settings.mode is not Mode.INSTALL:
        return
    note, today = await sweep.services.ledger.remembered(MORNING), notices.morning_of(now, settings.window or ANY)
    if note.get("day") == today:
        return
    told = []
    if since := _time(note.get("at")):
        ended = [each.notice.data for each in _by_time(pending) if _is_ended(each) and each.at > since]
        waiting = [machine for machine, known in sweep.notes.notes.items() if known.state in AWAIT_A_TURN]
        day = notices.Day(since, now, ended, sorted(waiting, key=str), settings.windows)
        told.append(notices.summary(day))
    await sweep.services.ledger.remember(MORNING, {"day": today, "at": now.isoformat()}, *told)


def _is_ended(pending: Pending) -> bool:
    return pending.notice.type is NoticeType.INSTALLATION_ENDED


# -- sending


async def _send_all(sweep: Sweep, topic: Topic, pending: Iterable[Pending]) -> None:
    services, complete_until = sweep.services, sweep.began - COMPLETE_AFTER
    now = services.clock()
    ready = [each for each in _by_time(pending) if not each.sent and now - KEPT < each.at <= complete_until][
        :MAX_PER_SWEEP
    ]
    note = await services.ledger.remembered(FAILING)
    again = _time(note.get("again"))
    if not ready or (again and now < again <= now + DAY):
        return
    sending = _Sending(sweep, topic)
    try:
        for batch in batches(ready, most=MAX_NOTICES, max_bytes=MAX_BYTES):
            if sending.problem or services.clock() >= now + timedelta(seconds=SENDING_SECONDS):
                break
            await sweep.stay()
            await sending.send(batch)
        await sending.judge()
    finally:
        await _tell_topic(sweep, note, sending.problem, waiting=len(ready))


def _by_time(pending: Iterable[Pending]) -> list[Pending]:
    return sorted(pending, key=lambda each: (each.order, each.id))


@dataclass
class _Sending:
    """What one sweep sends. `problem`: why the topic fails; None while it does not."""

    sweep: Sweep
    topic: Topic
    problem: errors.CloudError | None = None
    taken: int = 0
    refused: list[Pending] = field(default_factory=list)  # alone
    refusal: errors.CloudError | None = None

    async def send(self, batch: Sequence[Pending]) -> None:
        """In one request; each notice alone where Event Grid refuses what was sent, since one may be the reason."""
        problem = await _try(self.topic, batch)
        if problem is None:
            self.taken += len(batch)
            await _mark_sent(self.sweep, batch)
        elif not _is_bad(problem):
            self.problem = problem
        elif len(batch) == 1:
            self.refused.append(batch[0])
            self.refusal = problem
            if not self.taken and len(self.refused) == SUSPECT:
                self.problem = problem
        else:
            for each in batch:
                if self.problem is None:
                    await self.send([each])

    async def judge(self) -> None:
        """Who is at fault for what was refused: the notice where the topic took others, else the topic."""
        if self.refused and self.taken:
            journal.write("notices.dropped", count=len(self.refused), reason="the topic refuses them and takes others")
            await _delete(self.sweep.view.table, [each.row for each in self.refused])
        elif self.refused:
            self.problem = self.problem or self.refusal


async def _try(topic: Topic, batch: Sequence[Pending]) -> errors.CloudError | None:
    try:
        await topic.send(batch)
    except errors.CloudError as error:
        return error
    return None


def _is_bad(problem: errors.CloudError) -> bool:
    """Whether Event Grid refused what was sent, and not who sent it."""
    return isinstance(problem, errors.Refused) and problem.status in (400, 413)


async def _mark_sent(sweep: Sweep, batch: Sequence[Pending]) -> None:
    """The topic has them. One that the app still goes by is kept."""
    now = sweep.services.clock()
    by_partition: dict[str, list[Change]] = {}
    for each in batch:
        by_partition.setdefault(each.row.partition, []).append(_marked(each, now))
    for changes in by_partition.values():
        if await sweep.view.table.transact(changes) is None:
            for change in changes:  # one of them was written meanwhile: the others are marked all the same
                await _apply(sweep.view.table, change)


def _marked(sent: Pending, now: datetime) -> Change:
    if sent.notice.keep_until is None or sent.notice.keep_until <= now:
        return Delete(sent.row)
    return Replace(sent.row, {**sent.row.columns, "sent": True})


async def _apply(table: Table, change: Change) -> None:
    if isinstance(change, Replace):
        await table.replace(change.row, change.columns)
    elif isinstance(change, Delete):
        await table.delete(change.row)


async def _drop(sweep: Sweep, unreadable: Sequence[Row], pending: Sequence[Pending]) -> None:
    """Deletes what is sent and of no more use, and what the topic did not take in time, which is reported."""
    now, note = sweep.services.clock(), await sweep.services.ledger.remembered(MORNING)
    summed_up = _time(note.get("at"))
    over = [each.row for each in pending if each.sent and _is_over(each, summed_up, now)]
    late = [each.row for each in pending if not each.sent and each.at <= now - KEPT]
    if late:
        journal.write(
            "notices.dropped", count=len(late[:MAX_PER_SWEEP]), reason="the topic did not take them within a day"
        )
    if unreadable:
        journal.write("notices.dropped", count=len(unreadable), reason="their rows cannot be read")
    await _delete(sweep.view.table, [*late, *unreadable, *over][:MAX_PER_SWEEP])


def _is_over(sent: Pending, summed_up: datetime | None, now: datetime) -> bool:
    """Whether the app goes by it no more. `summed_up`: until when installations were, in a summary that is written."""
    if _is_ended(sent) and summed_up and sent.at <= summed_up:
        return True
    return sent.notice.keep_until is None or sent.notice.keep_until <= now


async def _delete(table: Table, rows: Sequence[Row]) -> None:
    for first in range(0, len(rows), WRITES_AT_ONCE):
        await asyncio.gather(*(table.delete(row) for row in rows[first : first + WRITES_AT_ONCE]))


async def _tell_topic(
    sweep: Sweep, note: Mapping[str, str], problem: errors.CloudError | None, *, waiting: int
) -> None:
    """One line when the topic begins to fail, or fails otherwise, and one when it takes notices again."""
    ledger, now = sweep.services.ledger, sweep.services.clock()
    if problem is None:
        if note:
            journal.write("notices.delivered", since=_time(note.get("since")), problem=note.get("problem"))
            await ledger.remember(FAILING, {})
        return
    if str(problem) != note.get("problem"):
        journal.write("notices.failing", problem=problem, waiting=waiting, remedy=_remedy(problem))
    tries = _number(note.get("tries")) + 1
    wait = min(backoff(FIRST_RETRY, tries, 0), MAX_RETRY_WAIT)
    if isinstance(problem, errors.Throttled):
        wait = max(wait, timedelta(seconds=problem.retry_after_seconds))
    since = note.get("since") or now.isoformat()
    again = (now + wait).isoformat()
    await ledger.remember(FAILING, {"problem": str(problem), "since": since, "tries": str(tries), "again": again})


def _remedy(problem: errors.CloudError) -> str:
    match problem:
        case errors.Refused(status=401 | 403):
            return "Give the app's identity the role EventGrid Data Sender on the topic, and let its network in."
        case errors.Refused(status=400):
            return "Create the topic with the input schema CloudEventSchemaV1_0 (docs/notices.md)."
        case errors.Gone():
            return "Set PATCH_NOTICES to the endpoint of a topic that exists, or to nothing."
        case _:
            return "If it does not pass, see docs/notices.md; notices are kept for a day."


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else 0
