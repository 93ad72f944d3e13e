"""`patcher export` and `patcher query`: rows for auditors, and for a query of one's own."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Literal

from functions.cloud.errors import Refused
from functions.model.machine import Machine
from functions.model.text import Json
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.fleet import look
from patcher.output import Answer, as_csv, as_json, table
from patcher.questions.compliance import Judged, judge
from patcher.questions.patches import Tried, tried_on, waiting_on

Format = Literal["csv", "json", "html"]
What = Literal["machines", "patches"]
COLUMNS: Mapping[What, Sequence[str]] = {
    "machines": (
        *("machine", "name", "subscription", "resource_group", "region", "os", "owner", "image", "image_version"),
        *("state", "reason", "remedy", "compliance", "late_critical", "late_security", "support_state"),
        *("pending_critical", "pending_security", "pending_other", "oldest_patch", "last_assessed", "last_installed"),
    ),
    "patches": ("machine", "name", "owner", "patch", "kb", "version", "classes", "state", "at"),
}


async def ask_export(app: App, what: What, written_as: Format) -> Answer:
    """One row per machine, or one per patch, with the same names in every format."""
    fleet = await look(app)
    if what == "machines":
        rows = [_machine(each, app) for each in await judge(fleet)]
    else:
        rows = await _patches(app, {str(machine.id): machine for machine, _ in fleet.states})
    result = {"what": what, "rows": rows}
    if written_as == "json":
        return Answer(result, [], raw=f"{as_json(rows)}\n")
    if written_as == "csv":
        return Answer(result, [], raw=as_csv(rows, COLUMNS[what]))
    return Answer(result, [], raw=_page(f"{app.name}: {what}", rows, at=fleet.now, columns=COLUMNS[what]))


def _machine(judged: Judged, app: App) -> dict[str, Any]:
    machine, step, verdict = judged.machine, judged.step, judged.machine.verdict
    pending = machine.pending
    return {
        "machine": str(machine.id),
        "name": machine.id.name,
        "subscription": machine.id.subscription,
        "resource_group": machine.id.group,
        "region": machine.location,
        "os": machine.os_type.value,
        "owner": machine.tag(app.settings.owner_tag),
        "image": machine.image.key,
        "image_version": machine.image.version,
        "state": step.state.value,
        "reason": step.reason,
        "remedy": step.remedy,
        "compliance": judged.compliance.value,
        "late_critical": judged.late_critical,
        "late_security": judged.late_security,
        "support_state": verdict.state.value if verdict else "",
        "pending_critical": pending.critical,
        "pending_security": pending.security,
        "pending_other": pending.other,
        "oldest_patch": judged.oldest.first,
        "last_assessed": verdict.assessed if verdict else None,
        "last_installed": judged.installed,
    }


async def _patches(app: App, machines: Mapping[str, Machine]) -> list[dict[str, Any]]:
    """What waits, and what installations of the last 30 days did (Resource Graph keeps them no longer)."""
    found = await app.services.graph.patches_of(machines)
    waiting = [each for machine, patches in found.items() for each in waiting_on(machine, patches)]
    rows = [_patch(machines[each.machine], app, each) for each in (*waiting, *await tried_on(app, machines))]
    return sorted(rows, key=lambda row: (row["machine"], row["patch"], str(row["at"])))


def _patch(machine: Machine, app: App, tried: Tried) -> dict[str, Any]:
    return {
        "machine": tried.machine,
        "name": machine.id.name,
        "owner": machine.tag(app.settings.owner_tag),
        "patch": tried.patch,
        "kb": tried.kb,
        "version": tried.version,
        "classes": " ".join(tried.classes).lower(),
        "state": tried.state,
        "at": tried.at,
    }


def _page(title: str, rows: Sequence[Json], *, at: datetime, columns: Sequence[str]) -> str:
    """One page of HTML that needs nothing beside it."""
    return "\n".join(_page_lines(title, rows, at=at, columns=columns)) + "\n"


def _page_lines(title: str, rows: Sequence[Json], *, at: datetime, columns: Sequence[str]) -> Iterator[str]:
    style = "body{font:14px sans-serif}table{border-collapse:collapse}td,th{padding:4px 8px;text-align:left}"
    style += "tr:nth-child(even){background:#f2f2f2}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>'
    yield f"<h1>{escape(title)}</h1><p>{at.isoformat(timespec='seconds')}, {len(rows)} rows</p><table>"
    yield f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{escape(_text(value))}</td>' for value in (row[name] for name in columns))}</tr>"
    yield "</tbody></table></html>"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return "" if value is None else str(value)


# -- a query of one's own


def query_text(path: Path) -> str:
    """The query in a file. Raises BadRequest."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadRequest(f"there is no file {path}; a file with a Resource Graph query is needed") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: {type(error).__name__}; a file with a Resource Graph query is needed") from None
    if not text.strip():
        raise BadRequest(f"{path} is empty; a file with a Resource Graph query is needed")
    return text


async def ask_query(app: App, text: str) -> Answer:
    """The rows of a query, over the app's scope."""
    try:
        rows = [dict(row) async for row in app.services.graph.rows(text)]
    except Refused as refused:
        raise (BadRequest if refused.status == 400 else NoAnswer)(_refused(refused)) from None
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [[_cell(row.get(name)) for name in columns] for row in rows]
    return Answer({"rows": rows}, [table(f"{len(rows)} rows", columns, shown)])


def _refused(refused: Refused) -> str:
    return f"Resource Graph refuses the query: {refused.message or refused.code}".replace("\n", " ")


def _cell(value: object) -> object:
    return as_json(value) if isinstance(value, dict | list) else value
