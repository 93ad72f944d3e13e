"""The notices of each move, from what was and what is now. Pure.

No text of a notice holds a secret: each is cut and cleaned as a line of the journal is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from functions.model.image_record import ImageRecord
from functions.model.machine import Machine, MachineId, is_count
from functions.model.notice import Notice, NoticeType
from functions.model.record import Ending, Record
from functions.model.state import OperationKind, Wait
from functions.model.text import Json, redacted, writable
from functions.policy.windows import ANY, Windows
from functions.policy.zones import DAY

# What an installation's answer counts, with Azure's names.
COUNTS = {
    "installed": "installedPatchCount",
    "failed": "failedPatchCount",
    "pending": "pendingPatchCount",
    "excluded": "excludedPatchCount",
    "not_selected": "notSelectedPatchCount",
}
NAMES = 30  # machines or patches that one notice names; a count says how many there are
MAX_TEXT = 1_000  # characters of a text
MAX_DATA = 30_000  # UTF-16 units of the data of a notice: a column of the table holds 32,768
MORNING = 6  # o'clock, as the clock of the window's zone shows it
# A notice is sent by the sweep after the one that wrote it, or by the one after that.
DELIVERY = timedelta(minutes=10)
SUMMED_UP = 2 * DAY  # a summary counts an ended installation within this time


def assessment_ended(record: Record, ending: Ending) -> Notice:
    return _of_record(
        NoticeType.ASSESSMENT_ENDED, record, operation=record.operation_id, status=ending.outcome, **_trouble(ending)
    )


def support_detected(record: Record, machine: Machine) -> Notice:
    """What Resource Graph shows of an assessment."""
    verdict, pending = machine.verdict, machine.pending
    return _of_record(
        NoticeType.SUPPORT_DETECTED,
        record,
        operation=verdict.assessment_id if verdict else None,
        support_state=verdict.state if verdict else None,
        pending_critical=pending.critical,
        pending_security=pending.security,
        pending_other=pending.other,
        reboot_pending=verdict.reboot_pending if verdict else None,
    )


def installation_planned(machine: MachineId, image: str, expected: datetime) -> Notice:
    """`expected`: when it begins at the earliest."""
    data = _data(**_named(machine), image=image, expected=expected)
    return Notice(NoticeType.INSTALLATION_PLANNED, str(machine), data, keep_until=expected + DAY)


def started(record: Record) -> tuple[Notice, ...]:
    """Azure has the operation of this record. That of an assessment is not news."""
    if record.kind is OperationKind.ASSESS:
        return ()
    kind, at = NoticeType.INSTALLATION_STARTED, _started(record)
    return (_of_record(kind, record, operation=record.operation_id, started=at),)


def ended(record: Record, ending: Ending, result: Json) -> tuple[Notice, ...]:
    """What the end of an operation sends. A routine assessment is news only where it went wrong.

    `result`: what Azure said of the operation.
    """
    if record.kind is OperationKind.INSTALL:
        return (_installation_ended(record, ending, result),)
    return () if record.is_routine and not ending.trouble else (assessment_ended(record, ending),)


def _installation_ended(record: Record, ending: Ending, result: Json) -> Notice:
    failed = failed_patches(result)
    notice = _of_record(
        NoticeType.INSTALLATION_ENDED,
        record,
        operation=record.operation_id,
        status=ending.outcome,
        started=_started(record),
        ended=ending.at,
        succeeded=ending.trouble is None,
        reboot=result.get("rebootStatus"),
        failed_patches=failed[:NAMES],
        **{name: count for name, of_azure in COUNTS.items() if is_count(count := result.get(of_azure))},
        **_trouble(ending),
    )
    return Notice(notice.type, notice.subject, notice.data, keep_until=ending.at + SUMMED_UP)


def failed_patches(result: Json) -> list[str]:
    """The patches of an operation's answer that failed: KB number or package with its version."""
    patches = result.get("patches")
    found = [each for each in patches if isinstance(each, Mapping)] if isinstance(patches, list) else []
    return [_patch(each) for each in found if str(each.get("installationState")).lower() == "failed"]


def _patch(patch: Json) -> str:
    number = str(patch.get("kbId") or "").strip()
    name = " ".join(str(patch.get(part) or "") for part in ("name", "version")).strip()
    return f"KB{number.upper().removeprefix('KB')}" if number else name or "a patch without a name"


def machine_held(record: Record, wait: Wait, until: datetime) -> Notice:
    return _of_record(
        NoticeType.MACHINE_HELD,
        record,
        kind=record.kind,
        state=wait.state,
        reason=wait.reason,
        remedy=wait.remedy,
        cause=wait.cause,
        attempts=record.history.attempts,
        until=until,
    )


def proved(before: ImageRecord, after: ImageRecord, machine: MachineId, *, canary: bool, problem: str) -> list[Notice]:
    """What the result of one installation proves of its image. `canary`: the machine was one of its rollout."""
    if before == after:
        return []
    told = []
    if canary:
        kind = NoticeType.CANARY_FAILED if problem else NoticeType.CANARY_PROVED
        told.append(_of_image(kind, after, **_named(machine), rollout=after.rollout, reason=problem))
    if after.opening != before.opening:
        told.append(_of_image(NoticeType.BREAKER_OPENED, after, opening=after.opening, reason=after.opened_because))
    return told


def breaker_closed(record: ImageRecord, by: str) -> Notice:
    reason = record.closed_because
    return _of_image(NoticeType.BREAKER_CLOSED, record, opening=record.closed, by=by, reason=reason)


def rollout_ended(before: ImageRecord, now: ImageRecord) -> tuple[Notice, ...]:
    """The rollout that ends as the next one opens."""
    if not before.opened or before.opened == now.opened:
        return ()
    tallies = before.rings.values()
    return (
        _of_image(
            NoticeType.ROLLOUT_ENDED,
            before,
            rollout=before.rollout,
            opened=before.opened,
            succeeded=sum(tally.succeeded for tally in tallies),
            failed=sum(tally.failed for tally in tallies),
            by=before.ended_by if before.ended == before.rollout else "",
        ),
    )


def run_progress(run: str, *, machines: int, started: int, succeeded: int, failed: int, over: bool) -> Notice:
    """How far a run that a person asked for has come: machines, by how their installations stand."""
    data = _data(run=run, machines=machines, started=started, succeeded=succeeded, failed=failed, over=over)
    return Notice(NoticeType.RUN_PROGRESS, f"run/{run}", data)


@dataclass(frozen=True)
class Day:
    """What a morning summary is made of: the data of the installations that ended since the last one, and who waits."""

    since: datetime
    until: datetime
    ended: Sequence[Json]
    waiting: Sequence[MachineId]  # to be installed, and not reached
    windows: Sequence[Windows] = (ANY,)


def summary(day: Day) -> Notice:
    last = {str(data.get("machine")): data for data in day.ended}  # of several on one machine the last
    bad = [data for data in last.values() if not data.get("succeeded")]
    rebooted = [data for data in last.values() if str(data.get("reboot")).lower() == "completed"]
    data = _data(
        since=day.since,
        until=day.until,
        windows=[window.text for window in day.windows],
        installed=len(last) - len(bad),
        machines=len(last) + len(day.waiting),
        failed=len(bad),
        failures=[_failure(data) for data in bad[:NAMES]],
        rebooted=len(rebooted),
        not_reached=len(day.waiting),
        not_reached_machines=[str(machine) for machine in day.waiting[:NAMES]],
    )
    return Notice(NoticeType.MORNING_SUMMARY, "fleet", data)


def _failure(data: Json) -> str:
    patches = data.get("failed_patches")
    names = f" ({', '.join(map(str, patches))})" if isinstance(patches, list) and patches else ""
    return f"{data.get('machine')}: {data.get('reason') or data.get('status')}{names}"


def morning_of(now: datetime, windows: Windows) -> str:
    """The day whose morning has come, in the zone of the windows: a date."""
    return (windows.wall_clock(now) - timedelta(hours=MORNING)).date().isoformat()


def time_left(announced: datetime | None, ahead: timedelta, now: datetime) -> timedelta:
    """How long an installation has to wait, so that it was announced `ahead` of its call. None: it is announced now."""
    return max((announced or now) + ahead + DELIVERY - now, timedelta(0))


# -- data


def _of_record(notice: NoticeType, record: Record, **fields: object) -> Notice:
    data = _data(**_named(record.machine), image=record.image, region=record.region, **fields)
    return Notice(notice, str(record.machine), data)


def _of_image(kind: NoticeType, record: ImageRecord, **fields: object) -> Notice:
    return Notice(kind, f"image/{record.place}", _data(image=record.image, boundary=record.boundary, **fields))


def _named(machine: MachineId) -> dict[str, str]:
    return {"machine": str(machine), "name": machine.name}


def _trouble(ending: Ending) -> dict[str, str]:
    wait = ending.trouble
    return {"reason": wait.reason, "remedy": wait.remedy} if wait else {}


def _started(record: Record) -> datetime | None:
    return record.flight.started_at if record.flight else None


def _data(**fields: object) -> dict[str, object]:
    """The fields as JSON holds them, without those that are empty. Lists are cut to what the notice's row holds."""
    data = {name: _plain(value) for name, value in fields.items() if value not in (None, "", [])}
    while _units(data) > MAX_DATA:
        lists = [value for value in data.values() if isinstance(value, list) and len(value) > 1]
        if not lists:
            break
        longest = max(lists, key=_units)
        del longest[len(longest) // 2 :]
    return data


def _units(data: object) -> int:
    """How long it is as JSON, in UTF-16 units."""
    return len(json.dumps(data, ensure_ascii=False).encode("utf-16-le")) // 2


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return writable(redacted(str(value))[:MAX_TEXT])
