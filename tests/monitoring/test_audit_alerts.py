"""The alerts on the audit trail: who changed the package, and a log that grows too fast."""

from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.monitor import logs
from simulator.resource_graph import kql

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
APP, OTHER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
# Columns of Azure Monitor's tables that the queries read (Azure Monitor's table reference).
SCHEMA = {
    "storagebloblogs": {
        "TimeGenerated": "datetime",
        "Category": "string",
        "AccountName": "string",
        "OperationName": "string",
        "StatusCode": "string",
        "RequesterObjectId": "string",
        "CallerIpAddress": "string",
        "Uri": "string",
    },
    "usage": {"TimeGenerated": "datetime", "IsBillable": "bool", "Quantity": "real"},
}
WRITTEN = {
    "TimeGenerated": "2026-11-25T09:55:00Z",
    "Category": "StorageWrite",
    "AccountName": "stpatch",
    "OperationName": "PutBlob",
    "StatusCode": "201",
    "RequesterObjectId": OTHER,
    "CallerIpAddress": "203.0.113.7:1234",
    "Uri": "https://stpatch.blob.core.windows.net:443/app-package/released-package.zip",
}


def ask(name: str, table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    query = (logs.RESULTS.parent / "audit" / f"{name}.kql").read_text(encoding="utf-8")
    for placeholder, value in (("__ACCOUNT__", "stpatch"), ("__CONTAINER__", "app-package"), ("__IDENTITY__", APP)):
        query = query.replace(placeholder, value)
    return list(kql.evaluate(query, {table: rows}, NOW, schema=SCHEMA).rows)


CALLS = {
    "another principal overwrites the package": ({}, True),
    "another principal deletes it": ({"Category": "StorageDelete", "StatusCode": "202"}, True),
    "the app's identity, as publishing does": ({"RequesterObjectId": APP}, False),
    "a principal reads it": ({"Category": "StorageRead", "StatusCode": "200"}, False),
    "a principal is refused": ({"StatusCode": "403"}, False),
    "another container": ({"Uri": "https://stpatch.blob.core.windows.net:443/dead-letters/x.json"}, False),
    "another account": ({"AccountName": "stother"}, False),
}


@pytest.mark.parametrize(("call", "tells"), CALLS.values(), ids=CALLS)
def test_a_package_that_another_principal_changed_is_reported(call: dict[str, str], tells: bool) -> None:
    rows = ask("package-written", "StorageBlobLogs", [{**WRITTEN, **call}])
    assert [row["RequesterObjectId"] for row in rows] == ([OTHER] if tells else [])


# MB per line of the table, whether they are billed
GROWTH = {
    "half a gigabyte": ([(250.0, True), (250.0, True)], False),
    "more than one": ([(600.0, True), (600.0, True)], True),
    "more than one, but free": ([(600.0, True), (600.0, False)], False),
    "nothing": ([], False),
}


@pytest.mark.parametrize(("lines", "tells"), GROWTH.values(), ids=GROWTH)
def test_a_log_that_grows_too_fast_is_reported(lines: list[tuple[float, bool]], tells: bool) -> None:
    time = "2026-11-25T09:00:00Z"
    rows = [{"TimeGenerated": time, "Quantity": quantity, "IsBillable": billed} for quantity, billed in lines]
    assert bool(ask("log-grows", "Usage", rows)) is tells
