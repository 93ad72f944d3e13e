"""Rows as Log Analytics shows them: in the shape that the real host sent (tests/recordings/functions-host.json), and a
recorded run that is still one of this app."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from functions import journal
from simulator.monitor import logs
from simulator.resource_graph import kql
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import Harness
from tests.monitoring.written import emitted_fields, lines

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "recordings"
RECORDING = json.loads((PAYLOADS / "functions-host.json").read_text(encoding="utf-8"))["telemetry"]
RECORDED = ("demo-logs.json.gz", "bad-day-logs.json.gz")
EVENT = {
    "id": "e1",
    "topic": "/subscriptions/s",
    "subject": "/subscriptions/s/resourceGroups/g",
    "eventType": "Microsoft.Resources.ResourceWriteSuccess",
    "eventTime": "2026-11-25T12:00:00Z",
    "dataVersion": "2",
    "metadataVersion": "1",
}


@pytest.fixture
async def harness(tls: Tls, azurite: Azurite, tmp_path: Path) -> AsyncIterator[Harness]:
    async with Harness(tls, azurite.fresh_account(), tmp_path) as harness:
        yield harness


def sent(item: str) -> dict[str, Any]:
    """What the real host sent: `tags` and `baseData` of an item."""
    recorded: dict[str, Any] = RECORDING[item]
    return {"tags": recorded["tags"], **recorded["data"]["baseData"]}


async def test_an_invocation_leaves_a_request_and_a_trace_in_the_recorded_shape(harness: Harness) -> None:
    host = await harness.host()
    assert (await harness.post(host, [{**EVENT, "data": {"log": [sent("journalLine")["message"]]}}])).status == 202
    tables = logs.rows_of(host)
    [request] = tables["AppRequests"]
    recorded = sent("request")
    assert request["Name"] == request["OperationName"] == recorded["name"] == recorded["tags"]["ai.operation.name"]
    assert (request["Success"], request["ResultCode"]) == (recorded["success"], recorded["responseCode"])
    assert request["Properties"]["Category"] == recorded["properties"]["Category"]
    assert request["Properties"].keys() <= recorded["properties"].keys()
    assert len(request["OperationId"]) == len(recorded["tags"]["ai.operation.id"])
    # The host adds lines of its own about an invocation (this host.json, unlike the app's, leaves none out).
    [trace] = [row for row in tables["AppTraces"] if row["Properties"]["Category"].endswith(".User")]
    recorded = sent("journalLine")
    assert trace["Properties"].keys() == recorded["properties"].keys()
    assert trace["Properties"]["Category"] == recorded["properties"]["Category"]
    assert trace["OperationName"] == recorded["tags"]["ai.operation.name"]
    assert trace["SDKVersion"] == recorded["tags"]["ai.internal.sdkVersion"]
    assert trace["OperationId"] == request["OperationId"]
    assert (trace["Message"], trace["SeverityLevel"]) == (recorded["message"], 1)
    assert tables["AppExceptions"] == []


async def test_a_failing_invocation_leaves_a_failed_request_and_exceptions(harness: Harness) -> None:
    host = await harness.host()
    assert (await harness.post(host, [{**EVENT, "data": {"raise": "on purpose"}}])).status == 500
    tables = logs.rows_of(host)
    [request] = tables["AppRequests"]
    assert request["Success"] is False
    assert {row["Properties"]["Category"] for row in tables["AppExceptions"]} == {"Function.on_event", "Host.Results"}
    for row in tables["AppExceptions"]:
        assert row["OperationId"] == request["OperationId"]
        assert "function_app.py" in row["Details"][0]["rawStack"]
        assert str(ROOT) not in row["Details"][0]["rawStack"] + row["OuterMessage"]


async def test_an_app_that_cannot_be_imported_leaves_an_exception_alone_and_an_alert(harness: Harness) -> None:
    host = await harness.host(harness.settings(IMPORT_DOES="raise"))
    tables = logs.rows_of(host)
    assert (tables["AppTraces"], tables["AppRequests"]) == ([], [])
    [row] = tables["AppExceptions"]
    assert "the import fails" in row["OuterMessage"]
    query = (logs.RESULTS / "alerts" / "app-without-functions.kql").read_text(encoding="utf-8")
    [found] = logs.Workspace.after(tables).ask(query)
    assert found["OuterMessage"] == row["OuterMessage"]


def test_only_journal_lines_are_patch_events() -> None:
    tables = lines(("sweep.finished", {"rows": 1}), ("sweep.skipped", {}))
    [finished, skipped] = tables["AppTraces"]
    others = [
        {**finished, "Message": "{not a line"},
        {**finished, "Message": '{"other": "json"}'},
        {**finished, "Message": "an error of the host"},
        {**finished, "Properties": {**finished["Properties"], "Category": "Host.Results"}},
        {**finished, "Properties": {**finished["Properties"], "Category": "Function.on_reconcile"}},
    ]
    tables["AppTraces"] = [*others, skipped, finished]
    events = logs.Workspace.after(tables).patch_events.rows
    assert [row["event"] for row in events] == ["sweep.skipped", "sweep.finished"]


OTHER_NAMES = {
    "operation_kind": "kind",
    "installed": "installedPatchCount",
    "failed": "failedPatchCount",
    "due_at": "when",
}
MADE = {"name", "subscription", "resource_group", "image_name", "support_state"}  # of other columns
OF_THE_ROW = {"TimeGenerated", "fields", "function_name", "operation_id"}


@pytest.mark.parametrize("name", RECORDED)
def test_every_column_holds_its_own_field(name: str) -> None:
    workspace = logs.Workspace.after(logs.read(PAYLOADS / name))
    columns = [column for column, _ in workspace.patch_events.columns if column not in MADE | OF_THE_ROW]
    seen = set()
    for row in workspace.patch_events.rows:
        for column in columns:
            written = row["fields"].get(OTHER_NAMES.get(column, column))
            if isinstance(row[column], str) and row[column].endswith("0Z") and "T" in row[column]:
                assert datetime.fromisoformat(row[column]) == datetime.fromisoformat(written)
            elif row["event"] != "failures.grouped" or column != "machines":  # there it is a text of names
                assert row[column] in (written, str(written or ""))
            seen |= {column} if written is not None else set()
    assert name != "demo-logs.json.gz" or set(columns) - seen <= {"problem", "oldest_security", "expected"}


def test_unknown_fields_stay_in_the_bag() -> None:
    machine = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/vm"
    image = "/subscriptions/s/resourcegroups/images/providers/microsoft.compute/galleries/x/images/web/versions/1.4.0"
    [row] = logs.Workspace.after(
        lines(("machine.held", {"machine": machine, "image": image, "new": 7}))
    ).patch_events.rows
    assert (row["name"], row["resource_group"], row["subscription"]) == ("vm", "g", "s")
    assert row["image_name"] == "web 1.4.0"
    assert row["fields"]["new"] == 7
    assert (row["age_seconds"], row["until"], row["state"]) == (None, None, "")


@pytest.mark.parametrize("name", RECORDED)
def test_rows_keep_to_the_columns(name: str) -> None:
    """A column outside the schema is refused by the evaluator."""
    tables = logs.read(PAYLOADS / name)
    schema = {table.lower(): columns for table, columns in logs.SCHEMA.items()}
    for table, rows in tables.items():
        assert len(kql.evaluate(table, tables, logs.Workspace.after(tables).now, schema=schema).rows) == len(rows)


def test_writing_and_reading_gives_the_same(tmp_path: Path) -> None:
    tables = lines(("sweep.finished", {"rows": 1}))
    for name in ("one", "two"):
        logs.write(tables, tmp_path / name)
    assert logs.read(tmp_path / "one") == tables
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_run_is_still_one_of_this_app(name: str) -> None:
    """Events and fields that the code does not write any more: record again, as the README of payloads says."""
    messages = [row["Message"] for row in logs.read(PAYLOADS / name)["AppTraces"]]
    recorded = [json.loads(message) for message in messages if message.startswith("{")]
    assert len(recorded) > 50
    assert {line["event"] for line in recorded} <= journal.EVENTS.keys()
    assert set().union(*recorded) <= emitted_fields()
