"""The rows by which people stop machines (docs/stop.md), read and written.

`pause` stops everything. `pause-…` stops a subscription, an image or an owner, `hold-…` one machine; what they stop
stands in their columns. A row that cannot be read stops everything: what it was meant to stop is not known.
"""

import hashlib
from collections.abc import Iterable, Mapping

from functions.cloud.rows import time_in
from functions.cloud.tables import Row
from functions.model.machine import MachineId
from functions.model.stop import Scope, Stop
from functions.model.text import MAX_REASON, BadInput

PAUSE = "pause"
PAUSES = f"{PAUSE}-"
HOLDS = "hold-"


def is_stop(key: str) -> bool:
    """Whether a row of the app with this RowKey stops something."""
    return key == PAUSE or key.startswith((PAUSES, HOLDS))


def key_of(scope: Scope, value: str) -> str:
    """The RowKey of the stop of this scope: one row for each."""
    if scope is Scope.EVERYTHING:
        return PAUSE
    name = hashlib.sha256(f"{scope} {_folded(scope, value)}".encode()).hexdigest()[:24]
    return f"{HOLDS if scope is Scope.MACHINE else PAUSES}{name}"


def stops_of(rows: Iterable[Row]) -> list[Stop]:
    """The stops among the app's rows."""
    return [stop_of_row(row) for row in rows if is_stop(row.key)]


def stop_of_row(row: Row) -> Stop:
    """A stop. One that cannot be read stops everything, and says so."""
    columns = row.columns
    try:
        scope, value = _scope(row)
        return Stop(
            scope,
            value,
            reason=_text(columns, "reason") or "no reason given",
            by=_text(columns, "by"),
            until=time_in(columns, "until"),
            ended=time_in(columns, "ended"),
            ended_by=_text(columns, "ended_by"),
            ended_because=_text(columns, "ended_because"),
            since=time_in(columns, "since"),
            told=bool(columns.get("told")),
        )
    except BadInput as error:
        problem = f"row {row.key} of the ledger cannot be read: {error}; correct or delete it (docs/stop.md)"
        return Stop(Scope.EVERYTHING, "", "", "", problem=problem)


def columns_of(stop: Stop) -> dict[str, object]:
    """The columns of a stop's row; empty ones are left out."""
    return {name: text for name, text in _columns(stop).items() if text}


def _columns(stop: Stop) -> dict[str, str]:
    return {
        "scope": "" if stop.scope is Scope.EVERYTHING else stop.scope.value,
        "value": stop.value,
        "reason": stop.reason[:MAX_REASON],
        "by": stop.by[:MAX_REASON],
        "until": stop.until.isoformat() if stop.until else "",
        "ended": stop.ended.isoformat() if stop.ended else "",
        "ended_by": stop.ended_by[:MAX_REASON],
        "ended_because": stop.ended_because[:MAX_REASON],
        "since": stop.since.isoformat() if stop.since else "",
        "told": "yes" if stop.told else "",
    }


COLUMNS = tuple(_columns(Stop(Scope.EVERYTHING, "", "", "")))


def _scope(row: Row) -> tuple[Scope, str]:
    """What the row stops. Raises BadInput: its columns name nothing, or something else than its key."""
    if row.key == PAUSE:
        return Scope.EVERYTHING, ""
    name, value = _text(row.columns, "scope"), _text(row.columns, "value")
    kinds = [each.value for each in Scope if each is not Scope.EVERYTHING]
    if name not in kinds:
        raise BadInput(f"scope is {name or 'empty'!r}; one of {', '.join(kinds)} is right")
    scope = Scope(name)
    if not value:
        raise BadInput(f"value is empty; the {scope} is right")
    if scope is Scope.MACHINE:
        value = str(MachineId.parse(value))
    if row.key != key_of(scope, value):
        raise BadInput(f"its key is not that of {scope} {value}; {key_of(scope, value)} is right")
    return scope, _folded(scope, value)


def _folded(scope: Scope, value: str) -> str:
    return value if scope is Scope.OWNER else value.lower()


def _text(columns: Mapping[str, object], name: str) -> str:
    return str(columns.get(name) or "").strip()[
        : MAX_REASON if name in ("reason", "by", "ended_by", "ended_because") else None
    ]
