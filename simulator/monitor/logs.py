"""What the Functions host sent, as the rows that Log Analytics shows of it: AppTraces, AppExceptions, AppRequests.

The names and types of the columns are those of the tables of a workspace-based Application Insights; which item becomes
which row, and what Properties holds, is checked against what the real host sent (tests/recordings/functions-host.json).
Left out: columns about clients and browsers, metrics, and the time that ingestion takes. Nothing is sampled: ItemCount
is 1.

A Workspace answers the queries of infra/results over such rows, with the saved functions PatchEvents and PatchMachines
as tables.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from simulator.functions_host.telemetry import ExceptionItem, Trace
from simulator.resource_graph import kql

Row = dict[str, Any]
Tables = dict[str, list[Row]]

_COMMON = {
    "TimeGenerated": "datetime",
    "OperationName": "string",
    "OperationId": "string",
    "AppRoleName": "string",
    "AppRoleInstance": "string",
    "SDKVersion": "string",
    "ItemCount": "int",
    "Properties": "dynamic",
}
# Source of names and types: Azure Monitor Logs reference, tables AppTraces, AppExceptions, AppRequests.
SCHEMA: Mapping[str, Mapping[str, str]] = {
    "AppTraces": {**_COMMON, "Message": "string", "SeverityLevel": "int"},
    "AppExceptions": {**_COMMON, "OuterMessage": "string", "SeverityLevel": "int", "Details": "dynamic"},
    "AppRequests": {
        **_COMMON,
        "Id": "string",
        "Name": "string",
        "DurationMs": "real",
        "Success": "bool",
        "ResultCode": "string",
    },
}

_SEVERITY = {"Trace": 0, "Debug": 0, "Information": 1, "Warning": 2, "Error": 3, "Critical": 4}
_ROLE = "image-patcher"
_SDK = "azurefunctions: 4.1037.0.0"
_APP_FOLDER = str(Path(__file__).parents[2])
RESULTS = Path(_APP_FOLDER) / "infra" / "results"
_PUBLISHED = "/home/site/wwwroot"  # the app's folder in Azure, which stacks name
A_PATCH = "KB5031364"  # the panel that asks for one is shown only where one is named


class Invocation(Protocol):
    """One run of a function, as the host remembers it."""

    function: str
    id: str
    started: datetime
    ended: datetime | None
    ok: bool | None
    reason: str


class Host(Protocol):
    """What this needs of a Functions host."""

    @property
    def traces(self) -> Sequence[Trace]: ...

    @property
    def exceptions(self) -> Sequence[ExceptionItem]: ...

    @property
    def invocations(self) -> Sequence[Invocation]: ...


def rows_of(host: Host) -> Tables:
    """Everything that this host has sent so far."""
    functions = {each.id: each.function for each in host.invocations}
    return {
        "AppTraces": [_trace(item, functions) for item in host.traces],
        "AppExceptions": [_exception(item, functions) for item in host.exceptions],
        "AppRequests": [_request(each) for each in host.invocations if each.ended is not None],
    }


def write(tables: Tables, file: Path) -> None:
    """Compressed JSON; the same rows give the same bytes."""
    text = json.dumps(tables, ensure_ascii=False, separators=(",", ":"))
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


def read(file: Path) -> Tables:
    tables: Tables = json.loads(gzip.decompress(file.read_bytes()))
    return tables


@dataclass(frozen=True)
class Workspace:
    """A Log Analytics workspace that holds these rows, and is queried at `now`."""

    tables: Mapping[str, Sequence[Row]]
    now: datetime

    @classmethod
    def after(cls, tables: Mapping[str, Sequence[Row]]) -> Workspace:
        """Queried a minute after the newest row."""
        newest = max(row["TimeGenerated"] for rows in tables.values() for row in rows)
        return cls(tables, datetime.fromisoformat(newest) + timedelta(minutes=1))

    def until(self, now: datetime) -> Workspace:
        """The workspace as it was at an earlier moment."""
        text = _text(now)
        return Workspace(
            {table: [row for row in rows if row["TimeGenerated"] <= text] for table, rows in self.tables.items()}, now
        )

    @cached_property
    def patch_events(self) -> kql.Result:
        schema = {table.lower(): columns for table, columns in SCHEMA.items()}
        return kql.evaluate(
            (RESULTS / "PatchEvents.kql").read_text(encoding="utf-8"), self.tables, self.now, schema=schema
        )

    @cached_property
    def patch_machines(self) -> kql.Result:
        tables, schema = {"PatchEvents": self.patch_events.rows}, {"patchevents": dict(self.patch_events.columns)}
        return kql.evaluate(
            (RESULTS / "PatchMachines.kql").read_text(encoding="utf-8"), tables, self.now, schema=schema
        )

    def ask(self, query: str, *images: str, machine: str = "", patch: str = A_PATCH) -> list[Row]:
        """The rows of a query whose parameters are set: {Image} to these images or to all, {Machine} and {Patch}."""
        schema = {table.lower(): columns for table, columns in SCHEMA.items()}
        schema["patchevents"] = dict(self.patch_events.columns)
        schema["patchmachines"] = dict(self.patch_machines.columns)
        tables = {
            **self.tables,
            "PatchEvents": self.patch_events.rows,
            "PatchMachines": self.patch_machines.rows,
        }
        return kql.evaluate(
            with_parameters(query, *images, machine=machine, patch=patch), tables, self.now, schema=schema
        ).rows


def with_parameters(query: str, *images: str, machine: str = "", patch: str = A_PATCH) -> str:
    """The query as the workbook sends it. Images are a list of quoted texts, '*' for all of them."""
    query = query.replace("{Image}", ", ".join(f"'{image}'" for image in images or ("*",)))
    return query.replace("{Machine}", machine).replace("{Patch}", patch)


def _common(time: datetime, function: str, invocation_id: str, **properties: str) -> Row:
    invocation = {"InvocationId": invocation_id} if invocation_id else {}
    return {
        "TimeGenerated": _text(time),
        "OperationName": function,
        # The host gives an invocation a trace id of its own; here it is the invocation's, in the same form.
        "OperationId": invocation_id.replace("-", ""),
        "AppRoleName": _ROLE,
        "AppRoleInstance": f"{_ROLE}-0",
        "SDKVersion": _SDK,
        "ItemCount": 1,
        "Properties": invocation | {"ProcessId": "1", "HostInstanceId": f"{_ROLE}-0"} | properties,
    }


def _trace(item: Trace, functions: Mapping[str, str]) -> Row:
    function = functions.get(item.invocation_id, "")
    common = _common(item.time, function, item.invocation_id, LogLevel=item.level, Category=item.category)
    return common | {"Message": item.message, "SeverityLevel": _SEVERITY[item.level]}


def _exception(item: ExceptionItem, functions: Mapping[str, str]) -> Row:
    function = functions.get(item.invocation_id, "")
    common = _common(item.time, function, item.invocation_id, LogLevel="Error", Category=item.category)
    stack = item.stack.replace(_APP_FOLDER, _PUBLISHED)
    message = item.message.replace(_APP_FOLDER, _PUBLISHED)
    return common | {"OuterMessage": message, "SeverityLevel": _SEVERITY["Error"], "Details": [{"rawStack": stack}]}


def _request(each: Invocation) -> Row:
    assert each.ended is not None
    ended = each.ended
    common = _common(
        each.started,
        each.function,
        each.id,
        LogLevel="Information" if each.ok else "Error",
        Category="Host.Results",
        TriggerReason=each.reason,
        FullName=f"Functions.{each.function}",
    )
    return common | {
        "Id": each.id.replace("-", "")[:16],
        "Name": each.function,
        "DurationMs": round((ended - each.started).total_seconds() * 1000, 4),
        "Success": bool(each.ok),
        "ResultCode": "0",
    }


def _text(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "0Z")
