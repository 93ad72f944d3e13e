"""What people changed since the last sweep, each told once with who and why where that is known.

A sweep that is killed between a line and its note tells it again.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from functions import journal
from functions.cloud.ledger import LedgerView, StoredImage
from functions.cloud.rows import UNREADABLE, LeftAlone, Why, image_of_row
from functions.cloud.stops import PAUSE, columns_of, is_stop, stop_of_row
from functions.cloud.tables import Row
from functions.decisions.changes import NOT_KNOWN, Pause, changed, closing, pause, shown
from functions.decisions.notices import breaker_closed
from functions.model.image_record import NOT_CLOSED
from functions.model.stop import Scope, Stop, Stops
from functions.services import Services

STOPS_AT_ONCE = 2_000  # told by one sweep; the host carries 290 lines a second
NOTE = "last-sweep"  # what was in force at the last sweep


class InForce(NamedTuple):
    """What the sweeps go by: since when settings and no pause are as they are, and the pause that is in force."""

    since: datetime
    paused_since: datetime | None = None
    pause: Pause | None = None
    settings: Mapping[str, str] = {}


async def tell(services: Services, view: LedgerView) -> InForce:
    """One line per change since the last sweep. `view`: the ledger as this sweep read it. Raises CloudError."""
    before = _noted(view.noted(NOTE))
    rows = [(row, stop_of_row(row)) for row in view.app.values() if is_stop(row.key)]
    everything = Stops.in_force((stop for _, stop in rows), services.clock()).everything
    now = _now(services, everything, before)
    if before:
        _tell_pause(before, now, row=_pause_in(rows), moment=services.clock())
        _tell_settings(before, now)
    if now != before:
        await services.ledger.remember(NOTE, _written(now))
    moment = services.clock()
    news = [(row, stop) for row, stop in rows if stop.problem or not stop.told or not stop.in_force(moment)]
    for row, stop in news[:STOPS_AT_ONCE]:
        await _tell_stop(view, row, stop, now=moment)
    for row in view.app.values():
        if row.columns.get("closed") or row.columns.get("closed_told"):
            await _tell_closing(view, row)
    return now


def _now(services: Services, stop: Stop | None, before: InForce | None) -> InForce:
    settings, now = services.settings, services.clock()
    paused, texts = pause(settings, stop), shown(settings)
    same = before is not None and before.settings == texts and (paused is not None or before.pause is None)
    return InForce(
        since=before.since if before and same else now,
        paused_since=((before and before.paused_since) or now) if paused else None,
        pause=paused,
        settings=texts,
    )


def _pause_in(rows: Iterable[tuple[Row, Stop]]) -> Stop | None:
    """The row of the pause of the whole app, as far as it is still there to say who ended it."""
    return next((stop for row, stop in rows if row.key == PAUSE and not stop.problem), None)


def _who_ended(stop: Stop) -> str:
    return stop.ended_by or NOT_KNOWN if stop.ended else "its end came"


def _tell_pause(before: InForce, now: InForce, *, row: Stop | None, moment: datetime) -> None:
    if now.pause and now.pause != before.pause:
        journal.write("app.paused", reason=now.pause.reason, by=now.pause.by, since=now.paused_since)
    if before.pause and before.paused_since and not now.pause:
        journal.write(
            "app.resumed",
            reason=before.pause.reason,
            by=_who_ended(row) if row else NOT_KNOWN,
            because=row.ended_because if row else None,
            since=before.paused_since,
            seconds=moment - before.paused_since,
        )


def _tell_settings(before: InForce, now: InForce) -> None:
    for change in changed(before.settings, now.settings):
        journal.write(
            "settings.changed",
            setting=change.setting,
            before=change.before or "empty",
            after=change.now or "empty",
            by=NOT_KNOWN,
        )


async def _tell_stop(view: LedgerView, row: Row, stop: Stop, *, now: datetime) -> None:
    """What a person stopped, or no longer stops. The row of a stop that is over goes."""
    if stop.problem:
        remedy = "Correct the row, or delete it (docs/stop.md); nothing starts until then."
        journal.write("stop.unreadable", row=row.key, problem=stop.problem, remedy=remedy)
    elif row.key == PAUSE:
        if not stop.in_force(now):
            await view.table.delete(row)
    elif not stop.in_force(now):
        event = "hold.released" if stop.scope is Scope.MACHINE else "app.resumed"
        fields = {**_what(stop), "reason": stop.reason, "by": _who_ended(stop), "until": stop.until}
        journal.write(event, **fields, because=stop.ended_because)
        await view.table.delete(row)
    elif not stop.told:
        event = "hold.placed" if stop.scope is Scope.MACHINE else "app.paused"
        journal.write(event, **_what(stop), reason=stop.reason, by=stop.by or NOT_KNOWN, until=stop.until)
        await view.table.replace(row, columns_of(replace(stop, told=True)))


def _what(stop: Stop) -> Mapping[str, str]:
    """The fields that name what is stopped."""
    return {"machine": stop.value} if stop.scope is Scope.MACHINE else {"scope": stop.scope, "value": stop.value}


async def _tell_closing(view: LedgerView, row: Row) -> None:
    """What a person wrote to close a breaker: whether it did."""
    try:
        record = image_of_row(row)
    except LeftAlone as left_alone:
        if left_alone.why is not Why.NEWER:
            remedy = "Name the row of the line breaker.opened (docs/stop.md)."
            journal.write("breaker.not-closed", row=row.key, problem=left_alone, remedy=remedy)
        return
    if (found := closing(record)) is None:
        return
    fields = {"image": record.image, "boundary": record.boundary, "opening": record.closed, "row": row.key}
    by, reason = record.closed_by or NOT_KNOWN, record.closed_because
    if found.problem:
        journal.write("breaker.not-closed", **fields, by=by, problem=found.problem, remedy=found.remedy)
    else:
        journal.write("breaker.closed", **fields, by=by, reason=reason)
    stored = StoredImage(record, row).telling(*([] if found.problem else [breaker_closed(record, by)]))
    await view.put_image(stored, replace(record, closed_told=record.closed or NOT_CLOSED))


# -- the note


def _noted(note: Mapping[str, str]) -> InForce | None:
    """What the last sweep noted; None before the first."""
    with suppress(*UNREADABLE):
        since, paused_since = _moment(note["since"]), note["paused_since"]
        paused = Pause(note["reason"], note["by"]) if paused_since else None
        settings = {str(name): str(text) for name, text in json.loads(note["settings"]).items()}
        return InForce(since, _moment(paused_since) if paused_since else None, paused, settings)
    return None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _written(in_force: InForce) -> dict[str, str]:
    return {
        "since": in_force.since.isoformat(),
        "paused_since": in_force.paused_since.isoformat() if in_force.paused_since else "",
        "reason": in_force.pause.reason if in_force.pause else "",
        "by": in_force.pause.by if in_force.pause else "",
        "settings": json.dumps(in_force.settings, ensure_ascii=False),
    }
