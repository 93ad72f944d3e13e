"""The queries of infra/results: the official language service finds nothing in them, and they speak of nothing that the
code does not emit: no event, field, state or verdict of another release."""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from functions import journal
from functions.decisions.compliance import Compliance
from functions.model.machine import PatchOrchestration, SupportState
from functions.model.state import State
from infra.results import build
from simulator.monitor import logs
from simulator.resource_graph import kql
from tests.monitoring.written import emitted_fields

ROOT = Path(__file__).parents[2]
FILES = {
    str(path.relative_to(logs.RESULTS)): path.read_text(encoding="utf-8")
    for path in sorted(logs.RESULTS.rglob("*.kql"))
}
SAVED = ("PatchEvents", "PatchMachines")  # the functions; the second asks the first
QUERIES = {name: text for name, text in FILES.items() if name.removesuffix(".kql") not in SAVED}


# ---- the official language service


def official(tables: Mapping[str, Mapping[str, str]], texts: Mapping[str, str], folder: Path) -> Mapping[str, Any]:
    node = shutil.which(os.environ.get("NODE", "node"))
    assert node, "no Node: install Node 20 or newer, or set NODE to the program"
    schema = folder / "schema.json"
    schema.write_text(json.dumps({"tables": tables}), encoding="utf-8")
    checker = ROOT / "simulator" / "node" / "kql-check.js"
    done = subprocess.run(
        [node, checker, schema], input=json.dumps(texts), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: Mapping[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    folder = tmp_path_factory.mktemp("schema")
    tables = dict(logs.SCHEMA)
    saved: dict[str, Any] = {}
    for name in SAVED:
        saved |= official(tables, {f"{name}.kql": FILES[f"{name}.kql"]}, folder)
        tables[name] = dict(saved[f"{name}.kql"]["columns"])
    wrong = {"a wrong column": "PatchEvents | where evnt == 'x'", "a wrong table": "AppTrace | count"}
    asked = {name: logs.with_parameters(text) for name, text in QUERIES.items()}
    return {**saved, **official(tables, {**asked, **wrong}, folder)}


@pytest.mark.parametrize("name", FILES)
def test_the_language_service_finds_nothing(name: str, answers: Mapping[str, Any]) -> None:
    assert answers[name]["diagnostics"] == []
    assert answers[name]["columns"]


@pytest.mark.parametrize(("name", "code"), [("a wrong column", "KS142"), ("a wrong table", "KS204")])
def test_the_language_service_knows_the_columns(name: str, code: str, answers: Mapping[str, Any]) -> None:
    assert code in {diagnostic["code"] for diagnostic in answers[name]["diagnostics"]}


@pytest.mark.parametrize("name", FILES)
def test_the_evaluator_gives_the_official_columns(name: str, answers: Mapping[str, Any]) -> None:
    schema: dict[str, Mapping[str, str]] = {table.lower(): columns for table, columns in logs.SCHEMA.items()}
    schema |= {each.lower(): dict(answers[f"{each}.kql"]["columns"]) for each in SAVED}
    now = logs.Workspace.after(logs.read(ROOT / "tests" / "recordings" / "demo-logs.json.gz")).now
    found = kql.evaluate(logs.with_parameters(FILES[name]), {}, now, schema=schema)
    assert [list(column) for column in found.columns] == answers[name]["columns"]


def test_the_language_service_finds_nothing_in_the_queries_of_the_guides(
    answers: Mapping[str, Any], tmp_path: Path
) -> None:
    guides = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
    asked = {
        f"{name} {number}": logs.with_parameters(text)
        for name, guide in guides.items()
        for number, text in enumerate(re.findall(r"```kusto\n(.*?)```", guide, re.DOTALL))
    }
    tables = {**logs.SCHEMA, **{each: dict(answers[f"{each}.kql"]["columns"]) for each in SAVED}}
    found = official(tables, asked, tmp_path)
    assert {name: each["diagnostics"] for name, each in found.items() if each["diagnostics"]} == {}
    assert len(found) > 10


# ---- what the code emits


def used_fields(text: str) -> Iterator[str]:
    for plain, quoted in re.findall(r"\bfields(?:\.(\w+)|\['(\w+)'\])", text):
        yield plain or quoted


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_one_the_code_writes(name: str) -> None:
    assert set(used_fields(FILES[name])) <= emitted_fields()


def test_the_fields_are_found() -> None:
    assert len(set(used_fields(FILES["PatchEvents.kql"]))) > 25
    assert {"age_seconds", "installedPatchCount", "opening", "setting"} <= emitted_fields()
    assert "nonsense" not in emitted_fields()


def test_every_field_of_the_census_has_a_column_of_its_own() -> None:
    """Those that only a person reads in a line stay in the bag."""
    tree = ast.parse((ROOT / "functions" / "steps" / "report.py").read_text(encoding="utf-8"))
    [call] = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.args[0]) == "'machine.counted'"
    ]
    counted = {keyword.arg for keyword in call.keywords}
    assert counted - set(used_fields(FILES["PatchEvents.kql"])) == {"verb", "reboot_pending"}


def literals(text: str, column: str) -> set[str]:
    """The texts that a column is compared with."""
    found = set(re.findall(rf"\b{column} [!=]= '([^']*)'", text))
    for listed in re.findall(rf"\b{column} !?in \(([^)]*)\)", text):
        found |= set(re.findall(r"'([^']*)'", listed))
    return found


AZURE_STATUS = {"Succeeded", "CompletedWithWarnings"}  # Machine's Summary: as Azure writes them
VALUES = {
    "event": set(journal.EVENTS),
    "state": {state.value for state in State},
    "support_state": {state.value for state in SupportState} | {""},
    "patchers": {patchers.value for patchers in PatchOrchestration},
    "compliance": {verdict.value for verdict in Compliance},
    "status": AZURE_STATUS,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("column", VALUES)
def test_every_value_is_one_the_code_knows(name: str, column: str) -> None:
    assert literals(FILES[name], column) <= VALUES[column]


def test_the_values_are_found() -> None:
    found = {column: set().union(*(literals(text, column) for text in FILES.values())) for column in VALUES}
    assert len(found["event"]) > 20
    assert all(found.values())


# ---- the committed files


@pytest.mark.parametrize("name", build.files())
def test_the_committed_file_is_what_the_queries_make(name: str) -> None:
    assert (logs.RESULTS / name).read_text(encoding="utf-8") == build.files()[name], "run infra/results/build.py"


def test_every_query_is_used() -> None:
    shown = {f"panels/{panel.name}.kql" for _, panels in build.TABS.values() for panel in panels}
    assert {*shown, "panels/_images.kql"} | {f"alerts/{alert.name}.kql" for alert in build.ALERTS} == set(QUERIES)
