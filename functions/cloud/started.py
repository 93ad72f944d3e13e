"""The rows of the machines that the app started: `started-…` among the app's own, read and written.

They are not part of a machine's row in the ledger: that one goes whenever its operation is done.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from functions import journal
from functions.cloud.rows import UNREADABLE, VERSION, LeftAlone, app_time, check_version, row_key, time_in, unreadable
from functions.cloud.tables import Row
from functions.model.machine import MachineId
from functions.model.started import Stage, StartedMachine

STARTED = "started-"


@dataclass(frozen=True)
class StoredStart:
    """A started machine as read, with the row whose ETag a write must present."""

    started: StartedMachine
    row: Row


def started_key(machine: MachineId) -> str:
    """RowKey of its row."""
    return f"{STARTED}{row_key(machine)}"


def started_columns(started: StartedMachine) -> dict[str, object]:
    """Flat columns; empty ones are left out."""
    times = {name: getattr(started, name) for name in ("at", "changed", "busy", "stopped", "over")}
    return {
        "v": VERSION,
        "machine": str(started.machine),
        "vm_id": started.vm_id,
        "stage": started.stage.value,
        "ran": started.ran,
        "tries": started.tries,
        **{name: at.isoformat() for name, at in times.items() if at},
    }


def started_of_row(row: Row) -> StartedMachine:
    """The started machine of a row. Raises LeftAlone."""
    columns = row.columns
    try:
        check_version("the row of a started machine", columns)
        machine = MachineId.parse(columns["machine"])
        if row.key != started_key(machine):
            raise ValueError
        return StartedMachine(
            machine=machine,
            vm_id=str(columns["vm_id"]),
            stage=Stage(columns["stage"]),
            at=app_time(row, "at"),
            changed=time_in(columns, "changed"),
            busy=app_time(row, "busy"),
            ran=bool(columns.get("ran")),
            stopped=time_in(columns, "stopped"),
            tries=int(columns.get("tries", 0)),
            over=time_in(columns, "over"),
        )
    except UNREADABLE as error:
        raise unreadable("the row of a started machine", row, error) from None


def started_in(rows: Iterable[Row]) -> list[StoredStart]:
    """The started machines among the app's rows. One that cannot be read is reported: its machine is not put back."""
    found = []
    for row in rows:
        if not row.key.startswith(STARTED):
            continue
        try:
            found.append(StoredStart(started_of_row(row), row))
        except LeftAlone as problem:
            journal.write("ledger.newer", problem=problem)
    return found
