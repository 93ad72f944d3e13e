"""What the tool repeats of other files, so that it can be installed without them, is the same there."""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from functions.cloud.queue import Message
from functions.cloud.session import Session
from functions.cloud.stops import key_of
from functions.model.state import OperationKind
from functions.model.stop import Scope
from patcher.questions.doctor import ACTIONS, OF_ARC, OF_SCALE_SETS, OF_STARTS
from patcher.questions.status import NEED_A_PERSON
from patcher.reading import Forbidden, ReadOnlyMachines, ReadOnlyQueues, ReadOnlyTable
from tests.support import NOW, REPOSITORY, a_machine, machine_id, settings
from tests.support.tables import MemoryTable

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_doctor_looks_for_the_actions_of_the_role() -> None:
    infra = REPOSITORY / "infra"
    assert list(ACTIONS) == json.loads((infra / "patch-actions.json").read_text(encoding="utf-8"))
    assert list(OF_ARC) == json.loads((infra / "arc-actions.json").read_text(encoding="utf-8"))
    assert list(OF_STARTS) == json.loads((infra / "start-stopped-actions.json").read_text(encoding="utf-8"))
    assert list(OF_SCALE_SETS) == json.loads((infra / "scale-set-actions.json").read_text(encoding="utf-8"))


def test_status_and_workbook_agree_on_who_needs_a_person() -> None:
    panel = (REPOSITORY / "infra/results/panels/needs-a-person.kql").read_text(encoding="utf-8")
    listed = re.search(r"state in \(([^)]*)\)", panel)
    assert listed
    assert sorted(re.findall(r"'([\w-]+)'", listed[1])) == sorted(NEED_A_PERSON)


def test_the_tests_run_the_versions_that_are_installed() -> None:
    assert set(PYPROJECT["project"]["optional-dependencies"]["cli"]) <= set(PYPROJECT["dependency-groups"]["dev"])


# scope → value → the same as the shell of docs/stop.md has it
KEYS = {Scope.IMAGE: "/subscriptions/s/images/web", Scope.OWNER: "Shop", Scope.MACHINE: str(machine_id())}


@pytest.mark.parametrize("scope", KEYS)
def test_the_page_makes_the_key_of_a_row_as_the_tool_does(scope: Scope) -> None:
    page = (REPOSITORY / "docs" / "stop.md").read_text(encoding="utf-8")
    line = re.search(r"digest=\$\((printf .*)\)$", page, re.MULTILINE)
    assert line
    command = line[1].replace("image <key in lower case>", f"{scope} {KEYS[scope]}")
    digest = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    prefix = {Scope.MACHINE: "hold-"}.get(scope, "pause-")
    assert f"| `{prefix}<digest>` | `{scope}` |" in page
    assert key_of(scope, KEYS[scope]) == f"{prefix}{digest}"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "patcher").rglob("*.py")), ids=lambda path: path.stem)
def test_the_tool_imports_no_simulator_and_no_test(path: Path) -> None:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    froms = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not [name for name in froms if name.split(".")[0] in ("simulator", "tests", "function_app")]


# -- nothing is written, whatever code runs with these


READING = [path for path in sorted((REPOSITORY / "patcher").rglob("*.py")) if "actions" not in path.parts]
MAY_WRITE = ("acting", "commands")


@pytest.mark.parametrize("path", [each for each in READING if each.stem not in MAY_WRITE], ids=lambda path: path.stem)
def test_no_reading_part_reaches_for_a_writing_table(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in froms if name.startswith(("patcher.acting", "patcher.actions"))]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    writing = [each for each in calls if ast.unparse(each.func) == "StorageTable"]
    wrapped = [argument for each in calls if ast.unparse(each.func) == "ReadOnlyTable" for argument in each.args]
    assert not [each for each in writing if each not in wrapped]


async def test_a_read_only_table_shows_its_rows_and_changes_none() -> None:
    table = MemoryTable()
    row = table.put("app", "image-1", {"a": 1})
    read_only = ReadOnlyTable(table)
    assert await read_only.insert("app", "pause", {"reason": "x"}) is None
    assert await read_only.replace(row, {"a": 2}) is None
    assert not await read_only.delete(row)
    assert table.rows == {("app", "image-1"): row}
    assert await read_only.get("app", "image-1") == row
    assert [each async for each in read_only.keys("app", "image-")] == [row]
    assert [each async for each in read_only.scan()] == [row]


async def test_nothing_starts_an_operation_or_sends_a_message() -> None:
    session = Session(settings(), lambda: NOW)
    with pytest.raises(Forbidden):
        await ReadOnlyMachines(session).start(a_machine(), OperationKind.ASSESS, order=None, send_by=NOW)
    with pytest.raises(Forbidden):
        await ReadOnlyMachines(session).power(machine_id(), "start", send_by=NOW)
    with pytest.raises(Forbidden):
        await ReadOnlyQueues(session).send(OperationKind.ASSESS, Message(machine_id(), "claim"), 0)
