"""The deployed alert rules against the published rules of Azure Monitor (tests/recordings/monitor.json)."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from simulator.monitor import logs

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
MONITOR: Json = json.loads((ROOT / "tests/recordings/monitor.json").read_text(encoding="utf-8"))
LIMITS: dict[str, Json] = {each["what"]: each for each in MONITOR["scheduled_query_rules"]}
RULES: dict[str, Json] = {
    f"{path.name.partition('.')[0]}: {each['name']}": each["properties"]
    for path in sorted((ROOT / "infra/snapshots").glob("*.main.snapshot.json"))
    for each in json.loads(path.read_text(encoding="utf-8"))["predictedResources"]
    if each["type"] == "Microsoft.Insights/scheduledQueryRules"
}


def span(text: str) -> timedelta:
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?", text)
    assert found, text
    days, hours, minutes = (int(each or 0) for each in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_times_are_within_the_limits(rule: Json) -> None:
    every, window = span(rule["evaluationFrequency"]), span(rule["windowSize"])
    assert span(LIMITS["evaluationFrequency"]["min"]) < every <= span(LIMITS["evaluationFrequency"]["max"])
    assert LIMITS["windowSize"]["must_be"] == "at least evaluationFrequency"
    assert every <= window <= span(LIMITS["query time range"]["max"])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_is_stateful_and_never_mutes_itself_as_well(rule: Json) -> None:
    """Stateful: it tells once until it is over, and says when it is. To mute as well is refused, as is believed."""
    (stateful,) = (each for each in MONITOR["alerts"] if each["kind"] == "stateful")
    assert stateful["actions_again_before_resolved"] is False
    assert rule["autoMitigate"] is True
    assert "muteActionsDuration" not in rule


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_numbers_and_sizes_are_within_the_limits(rule: Json) -> None:
    assert LIMITS["severity"]["min"] <= rule["severity"] <= LIMITS["severity"]["max"]
    (criterion,) = rule["criteria"]["allOf"]
    assert len(criterion["dimensions"]) <= LIMITS["dimensions"]["max"]
    periods = criterion["failingPeriods"]
    assert periods["minFailingPeriodsToAlert"] <= periods["numberOfEvaluationPeriods"]
    assert len(json.dumps(rule).encode()) < LIMITS["size of all properties"]["max_kb"] * 1024 / 2


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_query_holds_nothing_that_a_rule_may_not_hold(rule: Json) -> None:
    (criterion,) = rule["criteria"]["allOf"]
    forbidden = LIMITS["not supported in the query"]
    for word in (*(each.rstrip("()") for each in forbidden["functions"]), *forbidden["reserved"]):
        assert not re.search(rf"\b{word}\b", criterion["query"])
    for argument in re.findall(r"\bago\(([^)]*)\)", criterion["query"]):
        assert re.fullmatch(r"\d+[smhd]", argument)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_query_reads_tables_by_their_names_in_log_analytics(rule: Json) -> None:
    audit = {"StorageBlobLogs", "Usage"}  # of Azure Monitor itself, not of Application Insights
    known = {each["log_analytics"] for each in MONITOR["tables"]} | audit
    (criterion,) = rule["criteria"]["allOf"]
    table = re.match(r"(?:\[replace\(')?\(?(\w+)", criterion["query"])  # an id that only Azure knows is put in
    assert table
    assert table[1] in known
    assert set(logs.SCHEMA) <= known


def test_the_saved_function_holds_no_time_of_its_own() -> None:
    """In the query of a rule it would be the time of the saving."""
    assert not re.search(r"\b(?:now|ago)\(", (logs.RESULTS / "PatchEvents.kql").read_text(encoding="utf-8"))


def test_the_guides_name_no_table_of_application_insights() -> None:
    """The same rows have other names there: people would find nothing."""
    old = {each["application_insights"] for each in MONITOR["tables"]}
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        queries = re.findall(r"```kusto\n(.*?)```|`([^`\n]+?\\?\| where [^`\n]+)`", text, re.DOTALL)
        assert [query for query in map("".join, queries) if query.split()[0] in old] == [], path.name
