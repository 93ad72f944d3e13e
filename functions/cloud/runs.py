"""The rows of runs on demand (docs/runs.md), read and written.

`run-<id>` is the order, which a person's tool writes. `progress-<id>` is how far the app has come with it, which the
app alone writes. Lists of machines are compressed JSON in binary columns `machines0`, `machines1` …: a column of the
table holds 64 KiB, a row 1 MiB. An order that cannot be read wants nothing, and says so.
"""

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from functions.cloud.rows import UNREADABLE, VERSION, check_version, time_in
from functions.cloud.tables import Row
from functions.model.machine import CLASSIFICATIONS, MachineId, Provider
from functions.model.run import MAX_MACHINES, Item, Progress, Run, RunOutcome, Selection
from functions.model.state import OperationKind
from functions.model.text import MAX_REASON, BadInput, quoted, writable

RUNS = "run-"
PROGRESS = "progress-"
MAX_MACHINE_REASON = 200  # characters of the reason of one machine
COLUMN_BYTES = 60_000
COLUMNS = 15  # of a list; a row holds 1 MiB
_MAX_BYTES = 20_000_000  # of a list once it is unpacked: what is longer was not written here
_ARC = "arc/"  # before the name of an Arc-enabled server: no name has a slash
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,62}")
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def run_key(run_id: str) -> str:
    """The RowKey of an order."""
    return f"{RUNS}{run_id}"


def progress_key(run_id: str) -> str:
    """The RowKey of how far it has come."""
    return f"{PROGRESS}{run_id}"


# -- the order


def run_of_row(row: Row) -> Run:
    """The order of a row; one that cannot be read has a problem. Raises LeftAlone for a newer version."""
    run_id = row.key.removeprefix(RUNS)
    try:
        check_version("the row of a run", row.columns)
        return _run(run_id, row.columns)
    except UNREADABLE as error:
        said = str(error) if isinstance(error, BadInput) else type(error).__name__
        problem = f"row {row.key} of the ledger cannot be read: {said}; correct or delete it (docs/runs.md)"
        return Run(run_id, OperationKind.ASSESS, (), reason="", by="", opened=_NEVER, until=_NEVER, problem=problem)


def columns_of(run: Run) -> dict[str, object]:
    """The columns of an order's row; empty ones are left out. Raises BadInput: too many machines, or a wrong id."""
    if not _ID.fullmatch(run.id):
        raise BadInput(f"{quoted(run.id)} is not an id of a run")
    _check_number_of(run.machines)
    columns: dict[str, object] = {
        "v": VERSION,
        "kind": run.kind.value,
        "classifications": ",".join(run.selection.classifications),
        "packages": ",".join(run.selection.packages),
        "at": _written(run.at),
        "until": _written(run.until),
        "ignore_window": run.ignore_window,
        "canaries": run.canaries,
        "bake_minutes": int(run.bake / timedelta(minutes=1)),
        "reason": writable(run.reason)[:MAX_REASON],
        "by": writable(run.by)[:MAX_REASON],
        "opened": _written(run.opened),
        "stopped": _written(run.stopped),
        "stopped_by": writable(run.stopped_by)[:MAX_REASON],
        "stopped_because": writable(run.stopped_because)[:MAX_REASON],
    }
    columns = {name: value for name, value in columns.items() if value not in ("", None, False)}
    return columns | _packed("machines", _by_subscription(run.machines))


def _run(run_id: str, columns: Mapping[str, Any]) -> Run:
    machines = tuple(_machines(_unpacked("machines", columns)))
    _check_number_of(machines)
    run = Run(
        id=run_id,
        kind=_kind(_text(columns, "kind")),
        machines=machines,
        reason=_text(columns, "reason") or "no reason given",
        by=_text(columns, "by"),
        opened=_needed_time(columns, "opened"),
        until=_needed_time(columns, "until"),
        at=time_in(columns, "at"),
        selection=Selection(_classifications(columns), _texts(columns, "packages")),
        ignore_window=_flag(columns, "ignore_window"),
        canaries=_number(columns, "canaries"),
        bake=timedelta(minutes=_number(columns, "bake_minutes")),
        stopped=time_in(columns, "stopped"),
        stopped_by=_text(columns, "stopped_by"),
        stopped_because=_text(columns, "stopped_because"),
    )
    if not _ID.fullmatch(run_id):
        raise BadInput("its RowKey is not an id of a run")
    return run


def _check_number_of(machines: Sequence[MachineId]) -> None:
    if not 0 < len(machines) <= MAX_MACHINES:
        raise BadInput(f"it names {len(machines):,} machines; 1 to {MAX_MACHINES:,} are right")
    if len(set(machines)) != len(machines):
        raise BadInput("it names a machine twice")


def _kind(text: str) -> OperationKind:
    if text not in set(OperationKind):
        raise BadInput(f"kind is {quoted(text)}; assess or install is right")
    return OperationKind(text)


def _classifications(columns: Mapping[str, Any]) -> tuple[str, ...]:
    found = _texts(columns, "classifications")
    if wrong := [name for name in found if name not in CLASSIFICATIONS]:
        raise BadInput(f"classifications names {quoted(wrong[0])}; {', '.join(CLASSIFICATIONS)} are right")
    return found


def _by_subscription(machines: Iterable[MachineId]) -> dict[str, dict[str, list[str]]]:
    """Names by subscription and resource group: the ids have most of their characters in common."""
    found: dict[str, dict[str, list[str]]] = {}
    for each in machines:
        found.setdefault(each.subscription, {}).setdefault(each.group, []).append(f"{_ARC * each.is_arc}{each.name}")
    return found


def _machines(found: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterable[MachineId]:
    for subscription, groups in found.items():
        for group, names in groups.items():
            for name in names:
                provider = Provider.ARC if name.startswith(_ARC) else Provider.AZURE
                yield MachineId.parse(str(MachineId(subscription, group, name.removeprefix(_ARC), provider)))


# -- how far it has come


def progress_of_row(row: Row | None, run: Run) -> Progress:
    """How far the app has come with this run; with no row, nowhere. Raises BadInput, and LeftAlone of a newer one."""
    if row is None:
        return Progress()
    try:
        check_version("the row of a run's progress", row.columns)
        found = _unpacked("items", row.columns)
        texts, items = found["texts"], found["items"]
        if len(items) != len(run.machines):
            raise BadInput(f"it counts {len(items)} machines, and its run names {len(run.machines)}")
        read = {machine: _item(values, texts) for machine, values in zip(run.machines, items, strict=True) if values}
        return Progress(read, time_in(row.columns, "ended"))
    except UNREADABLE as error:
        said = str(error) if isinstance(error, BadInput) else type(error).__name__
        raise BadInput(f"row {row.key} of the ledger cannot be read: {said}; delete it and its run") from None


def ended(row: Row | None) -> datetime | None:
    """When a run ended, by its progress, without reading its machines; None: it did not, or that cannot be read."""
    with suppress(*UNREADABLE):
        return time_in(row.columns, "ended") if row else None
    return None


def progress_columns(progress: Progress, run: Run) -> dict[str, object]:
    """The columns of its row: one list of values for each machine, in the order of the run, [] where it is to do.

    Texts that many machines share stand in a table of their own.
    """
    texts: dict[str, int] = {"": 0}
    items = [_item_values(progress.items.get(machine), texts) for machine in run.machines]
    ended = {"ended": progress.ended.isoformat()} if progress.ended else {}
    return {"v": VERSION, **ended} | _packed("items", {"texts": list(texts), "items": items})


def _item_values(item: Item | None, texts: dict[str, int]) -> list[object]:
    if item is None or item == Item():
        return []
    numbers = [
        texts.setdefault(text, len(texts))
        for text in (item.state, writable(item.reason)[:MAX_MACHINE_REASON], item.image)
    ]
    return [item.outcome.value, *numbers, _seconds(item.started), _seconds(item.ended), int(item.at_fault)]


def _item(values: Sequence[Any], texts: Sequence[str]) -> Item:
    outcome, state, reason, image, started, ended, at_fault = values
    if not all(number in range(len(texts)) for number in (state, reason, image)):
        raise ValueError
    return Item(
        RunOutcome(outcome),
        str(texts[state]),
        str(texts[reason]),
        _moment(started),
        _moment(ended),
        at_fault=bool(at_fault),
        image=str(texts[image]),
    )


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else 0


def _moment(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


# -- columns


def _packed(name: str, content: object) -> dict[str, bytes]:
    """The columns of compressed JSON. Raises BadInput where a row cannot hold them."""
    data = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), level=9)
    parts = [data[at : at + COLUMN_BYTES] for at in range(0, len(data), COLUMN_BYTES)]
    if len(parts) > COLUMNS:
        raise BadInput("its machines do not fit a row of the ledger; name fewer of them")
    return {f"{name}{number}": part for number, part in enumerate(parts)}


def _unpacked(name: str, columns: Mapping[str, Any]) -> Any:
    parts = [columns[f"{name}{number}"] for number in range(COLUMNS) if f"{name}{number}" in columns]
    if not parts or not all(isinstance(part, bytes) for part in parts):
        raise BadInput(f"column {name}0 is not what a tool of this app writes")
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(b"".join(parts), _MAX_BYTES)
    except zlib.error:
        raise BadInput(f"columns {name}0 and so on are damaged") from None
    if not unpacker.eof:
        raise BadInput(f"columns {name}0 and so on hold too much, or too little")
    return json.loads(data)


def _text(columns: Mapping[str, Any], name: str) -> str:
    return str(columns.get(name) or "").strip()[:MAX_REASON]


def _texts(columns: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, str(columns.get(name) or "").split(","))))


def _flag(columns: Mapping[str, Any], name: str) -> bool:
    """Only true is true: anything else would widen."""
    value = columns.get(name, False)
    if not isinstance(value, bool):
        raise BadInput(f"{name} is {quoted(value)}; true or false is right")
    return value


def _number(columns: Mapping[str, Any], name: str) -> int:
    value = columns.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100_000:
        raise BadInput(f"{name} is {quoted(value)}; a number from 0 to 100000 is right")
    return value


def _needed_time(columns: Mapping[str, Any], name: str) -> datetime:
    if (moment := time_in(columns, name)) is None:
        raise BadInput(f"{name} is empty; a time such as 2026-12-24T18:00:00Z is right")
    return moment


def _written(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""
