"""Each alert fires on the lines it is there for, tells what they say, and is silent over a quiet run."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from infra.results import build
from simulator.monitor import logs
from tests.monitoring.written import exceptions, lines

PAYLOADS = Path(__file__).parents[1] / "recordings"
DEMO, BAD_DAY = PAYLOADS / "demo-logs.json.gz", PAYLOADS / "bad-day-logs.json.gz"
ALERTS: list[dict[str, Any]] = json.loads((logs.RESULTS / "alerts.json").read_text(encoding="utf-8"))
MACHINE = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/vm"
NOTHING: logs.Tables = {name: [] for name in logs.SCHEMA}


@cache
def quiet() -> logs.Tables:
    """The run of the demo without the two images whose machines fail in it."""
    tables = logs.read(DEMO)
    failing = ("/batch/", "/kiosk/", "breaker-open")
    tables["AppTraces"] = [row for row in tables["AppTraces"] if not any(part in row["Message"] for part in failing)]
    assert len(tables["AppTraces"]) > 300
    return tables


def asked_at() -> datetime:
    """When the rules are asked."""
    return logs.Workspace.after(quiet()).now


def sampled() -> logs.Tables:
    tables = lines(("sweep.finished", {"rows": 1}), ("sweep.finished", {"rows": 1}))
    tables["AppTraces"][1]["ItemCount"] = 8
    return tables


Line = tuple[float, str, Mapping[str, Any]]  # how many hours ago, event, fields


def hours_ago(*written: Line) -> logs.Tables:
    """Each line so many hours before the rules are asked."""
    tables = lines(*((event, fields) for _, event, fields in written))
    for row, (hours, _, _) in zip(tables["AppTraces"], written, strict=True):
        row["TimeGenerated"] = (asked_at() - timedelta(hours=hours)).isoformat().replace("+00:00", "Z")
    return tables


def census(
    hours: float, count: int, *, first: int = 0, state: str = "patched", compliance: str = "within"
) -> list[Line]:
    """The lines of so many machines, numbered from `first` on."""
    machines = range(first, first + count)
    fields = {"state": state, "compliance": compliance}
    return [(hours, "machine.counted", {"machine": f"{MACHINE}-{number}", **fields}) for number in machines]


def a_day(event: str, **fields: Any) -> list[Line]:
    """A line in each hour."""
    return [(0.5 + hour, event, fields) for hour in range(24)]


A_PAUSE = {"rows": 1, "paused_seconds": 4.5 * 3600, "pause": "a bad patch"}
STUCK = {
    "image": "/g/images/web/versions/1.0.0",
    "boundary": "owner shop",
    "stage": "canary",
    "waiting": 12,
    "reason": "the canary is off",
    "remedy": "Start it.",
}
NO_QUOTA = {"stage": "find", "problem": "429", "wait_seconds": 60}
STAGE = {"stage": "fleet", "problem": "503 from Resource Graph"}
STILL_RUNS = {"machine": MACHINE, "problem": "409 from Azure", "remedy": "Deallocate it.", "seconds": 9000}
FAILED = {"machine": MACHINE, "image": "/i", "status": "Failed", "meaning": "the disk is full"}
# Alert → rows that fire it, and what the first row of its answer tells.
FIRES: Mapping[str, tuple[logs.Tables, Mapping[str, Any]]] = {
    "app-without-functions": (
        exceptions([("Worker.LanguageWorkerChannel.python", "ModuleNotFoundError: No module named 'x'")]),
        {"OuterMessage": "ModuleNotFoundError: No module named 'x'"},
    ),
    "settings-refused": (
        lines(("settings.refused", {"function": "f", "setting": "PATCH_MODE", "problem": "'instal' is not a mode"})),
        {"setting": "PATCH_MODE", "problem": "'instal' is not a mode"},
    ),
    "sweep-not-running": (lines(("assessment.started", {"machine": MACHINE})), {"sweeps": 0, "lines": 1}),
    "breaker-open": (
        lines(("breaker.opened", {"image": "/i", "reason": "2 failures, last vm", "remedy": "close it"})),
        {"because": "2 failures, last vm", "image": "/i", "remedy": "close it"},
    ),
    "installations-failed": (
        lines(("installation.ended", FAILED), ("installation.ended", FAILED)),
        {"image": "/i", "failures": 2, "machine_count": 1, "name": "vm", "meaning": "the disk is full"},
    ),
    "poisoned-messages": (
        lines(("poison.found", {"queue": "assess-requests-poison", "count": 3, "since": "2026-11-25T10:00:00"})),
        {"queue": "assess-requests-poison", "how_many": 3},
    ),
    "machines-overdue": (
        lines(("operation.overdue", {"machine": MACHINE, "kind": "install", "operation": "o"})),
        {"machine": MACHINE, "operation_kind": "install"},
    ),
    "put-back-failed": (
        lines(*[("machine.put-back-failed", STILL_RUNS)] * 2),
        {"machine": MACHINE, "failures": 2, "hours": 2.5, "problem": "409 from Azure", "remedy": "Deallocate it."},
    ),
    "sweep-failed": (
        lines(*[("sweep.failed", STAGE)] * 3),
        {"stage": "fleet", "sweeps": 3, "problem": "503 from Resource Graph"},
    ),
    "failures-grouped": (
        lines(("failures.grouped", {"shared": "os", "value": "Ubuntu", "reason": "r", "count": 4, "machines": "a"})),
        {"shared": "os", "which": "Ubuntu", "how_many": 4},
    ),
    "journal-sampled": (sampled(), {"lines": 2, "items": 9}),
    "paused-long": (
        hours_ago((0.2, "sweep.finished", A_PAUSE)),
        {"hours": 4.5, "pause": "a bad patch"},
    ),
    "compliance-late": (
        hours_ago(*census(3, 8), *census(4, 1, first=8, compliance="late"), *census(5, 1, first=9, compliance="late")),
        {"machines": 10, "late": 2, "late_percent": 20.0},
    ),
    "rollout-stuck": (
        hours_ago((20, "rollout.stuck", STUCK)),
        {"rollout": "web 1.0.0 in owner shop", "reason": "the canary is off", "remedy": "Start it.", "waiting": 12},
    ),
    "undetermined-growing": (
        hours_ago(*census(30, 20), *census(6, 17), *census(6, 3, first=17, state="undetermined")),
        {"before": 0, "today": 3},
    ),
    "sweep-throttled": (
        hours_ago(*a_day("sweep.finished", rows=1, incomplete="find"), *a_day("quota.exhausted", **NO_QUOTA)),
        {"sweeps": 24, "complete": 0, "throttled": 24},
    ),
}
# More that fires one of them.
ALSO: Mapping[str, tuple[str, logs.Tables]] = {
    "no line at all": ("sweep-not-running", NOTHING),
    "sweeps that are skipped or fail": (
        "sweep-not-running",
        lines(("sweep.skipped", {}), ("sweep.failed", {"stage": "track", "problem": "p"})),
    ),
    "machines still wait for a breaker": (
        "breaker-open",
        lines(("fleet.limited", {"state": "breaker-open", "reason": "stopped (opening 2): why", "machines": 4})),
    ),
    "a message failed five times": (
        "poisoned-messages",
        lines(("message.poisoned", {"machine": MACHINE, "kind": "assess"})),
    ),
    "a message that cannot be read": (
        "poisoned-messages",
        lines(("message.malformed", {"function": "on_assess_request", "problem": "no JSON"})),
    ),
    "the host ends itself": (
        "app-without-functions",
        exceptions(
            [
                (
                    "Microsoft.Azure.WebJobs.Script.WebHost.WebScriptHostExceptionHandler",
                    "An unhandled exception has occurred. Host is shutting down.",
                )
            ]
        ),
    ),
    "machines without an agent": (
        "undetermined-growing",
        hours_ago(*census(30, 20), *census(6, 3, state="agent-not-ready")),
    ),
    "one of five is late, by its newest line": (
        "compliance-late",
        hours_ago(*census(20, 5), *census(2, 1, compliance="late")),
    ),
    "a quota of one subscription": (
        "sweep-throttled",
        hours_ago(*a_day("sweep.finished", rows=1, incomplete="track"), *a_day("quota.exhausted", subscription="s")),
    ),
    "the worker exits": ("app-without-functions", exceptions([("Host.Function.Console", "SystemExit: 3")])),
}
SILENT: Mapping[str, tuple[str, logs.Tables]] = {
    "one failed call": ("put-back-failed", lines(("machine.put-back-failed", STILL_RUNS))),
    "a machine that is put back by now": (
        "put-back-failed",
        hours_ago(
            (0.7, "machine.put-back-failed", STILL_RUNS),
            (0.5, "machine.put-back-failed", STILL_RUNS),
            (0.2, "machine.put-back", {"machine": MACHINE}),
        ),
    ),
    "two failed sweeps": ("sweep-failed", lines(*[("sweep.failed", STAGE)] * 2)),
    "an installation with warnings": (
        "installations-failed",
        lines(("installation.ended", FAILED | {"status": "CompletedWithWarnings"})),
    ),
    "an exception inside a function": ("app-without-functions", exceptions([("Function.on_reconcile", "StepFailed")])),
    "machines wait for a ring": (
        "breaker-open",
        lines(("fleet.limited", {"state": "waiting-for-ring", "reason": "r", "machines": 4})),
    ),
    "no line, so none is missing": ("journal-sampled", NOTHING),
    "a pause of four hours": (
        "paused-long",
        hours_ago((0.2, "sweep.finished", A_PAUSE | {"paused_seconds": 4 * 3600})),
    ),
    "a long pause that is over": (
        "paused-long",
        hours_ago((0.5, "sweep.finished", A_PAUSE), (0.2, "sweep.finished", {"rows": 1})),
    ),
    "one of ten is late": ("compliance-late", hours_ago(*census(3, 9), *census(3, 1, first=9, compliance="late"))),
    "those that were late are within by now": (
        "compliance-late",
        hours_ago(*census(20, 5, compliance="late"), *census(2, 5)),
    ),
    "states that are unknown are not late": ("compliance-late", hours_ago(*census(2, 5, compliance="unknown"))),
    "no census, so no machine is late": ("compliance-late", hours_ago((1, "sweep.finished", {"rows": 0}))),
    "a rollout that goes on": ("rollout-stuck", hours_ago((2, "rollout.ring", {"image": "/i", "ring": "1"}))),
    "two machines more": (
        "undetermined-growing",
        hours_ago(*census(30, 20), *census(6, 2, state="undetermined")),
    ),
    "less than a tenth more": (
        "undetermined-growing",
        hours_ago(*census(30, 40, state="undetermined"), *census(6, 43, state="undetermined")),
    ),
    "the first census": ("undetermined-growing", hours_ago(*census(6, 20, state="undetermined"))),
    "as many as the day before": (
        "undetermined-growing",
        hours_ago(*census(30, 20, state="undetermined"), *census(6, 20, state="undetermined")),
    ),
    "those of the morning are patched by now": (
        "undetermined-growing",
        hours_ago(*census(30, 20), *census(9, 20, state="undetermined"), *census(2, 20)),
    ),
    "one complete sweep in the day": (
        "sweep-throttled",
        hours_ago(
            *a_day("sweep.finished", rows=1, incomplete="find"),
            *a_day("quota.exhausted", **NO_QUOTA),
            (12.5, "sweep.finished", {"rows": 1}),
        ),
    ),
    "a quota used up since the deployment an hour ago": (
        "sweep-throttled",
        hours_ago((1, "sweep.finished", {"rows": 1, "incomplete": "find"}), (1, "quota.exhausted", NO_QUOTA)),
    ),
    "failures, which have an alert of their own": (
        "sweep-throttled",
        hours_ago(
            *a_day("sweep.finished", rows=1, incomplete="find"),
            (5, "quota.exhausted", NO_QUOTA),
            (4, "sweep.failed", STAGE),
        ),
    ),
    "one sweep in the hour": ("sweep-not-running", lines(("sweep.finished", {"rows": 0}))),
}


def fired(name: str, tables: logs.Tables) -> list[dict[str, Any]]:
    """What the rule counts: it fires when there are more rows than its threshold."""
    [alert] = [each for each in ALERTS if each["name"] == name]
    rows = logs.Workspace(tables, asked_at()).ask(alert["query"])
    return rows if len(rows) > alert["threshold"] else []


def test_a_bad_day_of_the_real_app_fires_them() -> None:
    tables = logs.read(BAD_DAY)
    told = {alert["name"]: fired(alert["name"], tables) for alert in ALERTS}
    # Its sweeps go on but for the last minute, no operation hangs for hours, and nothing samples the lines.
    assert {name for name, rows in told.items() if not rows} == {
        "sweep-not-running",
        "machines-overdue",
        "put-back-failed",
        "journal-sampled",
        "paused-long",
        "compliance-late",
        "rollout-stuck",
        "undetermined-growing",
        "sweep-throttled",
    }
    assert {row["queue"] for row in told["poisoned-messages"]} == {"install-requests-poison"}
    assert [row["setting"] for row in told["settings-refused"]] == ["PATCH_MODE"]
    assert {row["reason"] for row in told["failures-grouped"]} == {"the package manager reported an error"}
    assert "left_out_of_the_package" in told["app-without-functions"][0]["OuterMessage"]


@pytest.mark.parametrize("name", [alert["name"] for alert in ALERTS])
def test_fires_and_says_why(name: str) -> None:
    tables, told = FIRES[name]
    [row, *_] = fired(name, tables)
    assert {key: row[key] for key in told} == told


@pytest.mark.parametrize("case", ALSO)
def test_fires_too(case: str) -> None:
    assert fired(*ALSO[case])


@pytest.mark.parametrize("case", SILENT)
def test_is_silent(case: str) -> None:
    assert fired(*SILENT[case]) == []


@pytest.mark.parametrize("name", [alert["name"] for alert in ALERTS])
def test_is_silent_over_a_quiet_run(name: str) -> None:
    assert fired(name, quiet()) == []


# A broken package manager is one machine's trouble and opens no breaker; failed patches do.
@pytest.mark.parametrize(("name", "images"), [("breaker-open", 1), ("installations-failed", 2)])
def test_the_failures_of_the_demo_are_reported(name: str, images: int) -> None:
    assert len({row["image"] for row in fired(name, logs.read(DEMO))} - {""}) == images


def test_the_shape_that_the_deployment_loads() -> None:
    keys = {"name", "displayName", "description", "severity", "frequency", "window", "query", "threshold", "dimensions"}
    assert all(set(alert) == keys for alert in ALERTS)
    assert len({alert["displayName"] for alert in ALERTS}) == len(ALERTS) == len(FIRES)
    minutes = {"PT5M": 5, "PT15M": 15, "PT30M": 30, "PT1H": 60, "PT6H": 360, "P1D": 1440, "P2D": 2880}
    for alert in ALERTS:
        assert minutes[alert["window"]] >= minutes[alert["frequency"]], "a line between two looks would be missed"
        assert 0 <= alert["severity"] <= 4


# Alert → what tells two of its alerts apart: each fires by itself.
TOLD_ONE_BY_ONE = {
    "app-without-functions": "category",
    "settings-refused": "setting",
    "breaker-open": "because",
    "installations-failed": "image",
    "machines-overdue": "machine",
    "put-back-failed": "machine",
    "sweep-failed": "stage",
    "rollout-stuck": "rollout",
}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["name"])
def test_what_an_alert_is_split_by_is_a_text_that_each_row_has(alert: dict[str, Any]) -> None:
    assert alert["dimensions"] == [each for name, each in TOLD_ONE_BY_ONE.items() if name == alert["name"]]
    for name in alert["dimensions"]:
        for row in fired(alert["name"], FIRES[alert["name"]][0]):
            assert isinstance(row[name], str)
            assert row[name]


def test_a_breaker_is_one_alert_from_its_opening_until_nothing_waits_for_it() -> None:
    opened = {"image": "/i", "reason": "its canary vm: the disk is full", "remedy": "close it"}
    waits = "installations of this image stopped (opening 20261125T133108): its canary vm: the disk is full"
    tables = lines(
        ("breaker.opened", opened),
        ("fleet.limited", {"state": "breaker-open", "reason": waits, "machines": 4}),
        ("breaker.opened", {**opened, "image": "/j", "reason": "3 failures, last other"}),
    )
    rows = fired("breaker-open", tables)
    assert {row["because"] for row in rows} == {opened["reason"], "3 failures, last other"}
    assert len(rows) == 3


def test_every_query_holds_the_text_of_the_saved_function() -> None:
    """So a rule can be created before Azure knows the function."""
    for alert in ALERTS:
        assert "PatchEvents" not in alert["query"]
        assert alert["query"].startswith(("AppTraces\n", "AppExceptions\n"))


def test_the_share_that_may_be_late_is_the_one_that_the_deployment_puts_in() -> None:
    """Bicep replaces this text by its parameter, whose default is the same."""
    [alert] = [each for each in ALERTS if each["name"] == "compliance-late"]
    infra = logs.RESULTS.parent
    assert alert["query"].count("most_percent = 10") == 1
    assert "'most_percent = 10'" in (infra / "modules/monitoring.bicep").read_text(encoding="utf-8")
    assert "param latePercent int = 10\n" in (infra / "main.bicep").read_text(encoding="utf-8")
    assert "${PATCH_LATE_PERCENT=10}" in (infra / "main.parameters.json").read_text(encoding="utf-8")


def test_every_alert_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"`{alert.name}`" in text for alert in build.ALERTS)


def test_the_price_of_the_rules_counts_them() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "costs.md").read_text(encoding="utf-8").split())
    often = sum(alert["frequency"] == "PT5M" for alert in ALERTS)
    audit = len(list((logs.RESULTS.parent / "audit").glob("*.kql")))
    assert f"({len(ALERTS) - often + audit} × $0.50)" in text
    assert often == 1
