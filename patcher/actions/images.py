"""`breaker close`, `rollout end`, `rollout restart`: one column of an image's row, under its ETag."""

from collections.abc import Callable
from dataclasses import dataclass

from functions.cloud.ledger import APP
from functions.cloud.rows import LeftAlone, image_of_row
from functions.model.text import quoted
from patcher.acting import Action, Deed, Pen, reason_of
from patcher.actions.selecting import image_meant
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.fleet import ImageRow, image_rows
from patcher.output import Answer, line
from patcher.questions.images import is_open, short

TRIES = 5  # a sweep may write the same row in between


@dataclass(frozen=True)
class Change:
    """What is written to an image's row. `wrong`: why it must not be, by the row as it is; "" where it may."""

    columns: dict[str, str]
    wrong: Callable[[ImageRow], str]


def close_breaker(meant: str, *, opening: str, reason: str) -> Action:
    """Closes one opening of one breaker. Another opening than the open one is an error."""

    async def prepare(app: App, pen: Pen) -> Deed:
        columns = {"closed": opening, "closed_by": pen.by, "closed_because": reason_of(reason)}
        change = Change(columns, lambda row: _not_that_opening(row, opening))
        row = await _row_meant(app, meant, change)

        async def do() -> Answer:
            await _write(pen, row, change)
            result = {**_named(row), "opening": opening, "by": pen.by, "reason": columns["closed_because"]}
            said = line("closed", f"the breaker of {_text(row)}, opening {opening}; the next sweep goes on", "green")
            return Answer(result, [said])

        return Deed(f"close the breaker of {_text(row)}", do)

    return prepare


def end_rollout(meant: str, *, rollout: str, reason: str, restart: bool = False) -> Action:
    """Ends a rollout: the one that is named, or the one that is open."""

    async def prepare(app: App, pen: Pen) -> Deed:
        why = reason_of(reason)
        row = await _row_meant(app, meant, Change({}, lambda row: _not_that_rollout(row, rollout)))
        ended = row.record.rollout  # from here on it is this one, also where another one opens meanwhile
        columns = {"ended": ended, "ended_by": pen.by, "ended_because": why}

        async def do() -> Answer:
            await _write(pen, row, Change(columns, lambda row: _not_that_rollout(row, ended)))
            lines = [line("ended", f"the rollout {ended} of {_text(row)}", "green")]
            lines.append(
                line("next", "the next due installation opens a new one, with a canary and the newest patches")
            )
            if not restart:
                lines.append(line("to prevent that", f"patcher pause --image '{row.record.image}' --reason …"))
            return Answer({**_named(row), "rollout": ended, "by": pen.by, "reason": why}, lines)

        return Deed(f"end the rollout {ended} of {_text(row)}", do)

    return prepare


async def _row_meant(app: App, text: str, change: Change) -> ImageRow:
    """The one row of this key or image to which the change may be written. Raises BadRequest."""
    rows = await image_rows(app)
    found = [row for row in rows if row.key == text]
    if not found and text.startswith("image-"):
        raise BadRequest(f"{quoted(text)} is not a row of an image that can be read; see patcher breaker list")
    if not found:
        image = image_meant(text, {row.record.image for row in rows}, of_what="the ledger has no row of")
        found = [row for row in rows if row.record.image == image]
    fitting = [row for row in found if not change.wrong(row)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        listed = ", ".join(f"{row.key} ({row.record.boundary or 'the whole fleet'})" for row in fitting)
        raise BadRequest(f"{len(fitting)} rows are of {quoted(text)}; name one of them: {listed}")
    raise BadRequest("; ".join(sorted({change.wrong(row) for row in found})) + "; nothing was written")


async def _write(pen: Pen, row: ImageRow, change: Change) -> None:
    """Raises BadRequest where the row is no longer as the change needs it: another person was first."""
    for _ in range(TRIES):
        stored = await pen.table.get(APP, row.key)
        if stored is None:
            raise BadRequest(f"row {row.key} is gone; nothing was written")
        try:
            record = image_of_row(stored)
        except LeftAlone as left_alone:
            raise NoAnswer(f"nothing was written: {left_alone}") from None
        if wrong := change.wrong(ImageRow(record, row.key)):
            raise BadRequest(f"{wrong}; nothing was written")
        if await pen.table.replace(stored, {**stored.columns, **change.columns}):
            return
    raise NoAnswer("others keep changing the same row, and nothing was written; look at it and try again")


def _not_that_opening(row: ImageRow, opening: str) -> str:
    record = row.record
    if is_open(row):
        return "" if opening == record.opening else f"open is opening {record.opening} of {_text(row)}, not {opening}"
    if record.closed and record.closed == opening:
        return f"opening {opening} of {_text(row)} is closed already{_by(record.closed_by, record.closed_because)}"
    return f"no breaker of {_text(row)} is open"


def _not_that_rollout(row: ImageRow, rollout: str) -> str:
    record = row.record
    if not record.rollout:
        return f"{_text(row)} has no rollout yet"
    if rollout and rollout != record.rollout:
        return f"the rollout of {_text(row)} is {record.rollout}, not {rollout}"
    if record.ended == record.rollout:
        return f"rollout {record.rollout} of {_text(row)} is ended already{_by(record.ended_by, record.ended_because)}"
    return ""


def _by(who: str, why: str) -> str:
    return (f", by {who}" if who else "") + (f": {why}" if why else "")


def _named(row: ImageRow) -> dict[str, str | None]:
    return {"image": row.record.image, "boundary": row.record.boundary or None, "row": row.key}


def _text(row: ImageRow) -> str:
    return f"{short(row.record.image)} in {row.record.boundary or 'the whole fleet'}"
