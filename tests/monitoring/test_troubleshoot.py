"""docs/troubleshoot.md against the real host: each start that fails has its row, and an alert reports it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HOST: dict[str, Any] = json.loads((ROOT / "tests/recordings/functions_host_product.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "troubleshoot.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")][2:]
ALERTS = {each["name"]: each for each in json.loads((ROOT / "infra/results/alerts.json").read_text(encoding="utf-8"))}
# Case of the recording → what its row says of the setting or role to check.
CHECK = {
    "queue service unreachable": "AzureWebJobsStorage__queueServiceUri",
    "identity unknown to the platform": "AzureWebJobsStorage__clientId",
    "RECONCILE_SCHEDULE not a cron expression": "NCRONTAB",
    "RECONCILE_SCHEDULE not set": "does not resolve to a value",
}


@pytest.mark.parametrize("start", HOST["starts"], ids=lambda start: start["case"])
def test_each_start_that_fails_has_its_row(start: dict[str, str]) -> None:
    (row,) = (row for row in ROWS if CHECK[start["case"]] in row)
    for quoted in re.findall(r"'([^']+)'", start["functions"]):
        assert quoted in " ".join(ROWS)
    if "log" in start:
        assert start["log"] in row
        assert start["category"].rpartition(".")[2] in row


def test_the_alert_selects_the_category_of_a_host_that_ends_itself() -> None:
    (category,) = {each["category"] for each in HOST["starts"] if "category" in each}
    ends = re.findall(r"category endswith '([^']+)'", ALERTS["app-without-functions"]["query"])
    assert [end for end in ends if category.endswith(end)]


def test_what_is_lost_with_a_killed_host_is_said() -> None:
    assert f"up to {HOST['telemetry']['flush_seconds']} seconds" in PAGE
    assert re.search(r"'(python exited with code 137)", HOST["life"]["worker killed"])[1] in PAGE  # type: ignore[index]
    (undecoded,) = (each["log"][0]["message"] for each in HOST["queue"] if each["invocations"] == 0)
    assert undecoded.partition("!")[0] in PAGE
