"""What is deployed: no more and no less, and it works with nothing but requirements.txt beside it."""

import ast
import compileall
import json
import py_compile
import shutil
import struct
from pathlib import Path

import pytest

from tests.package.deployed import (
    REPOSITORY,
    UNWALKED,
    Rule,
    core_tools_rule,
    deployed_files,
    gitignore_rule,
    modules_outside,
    run,
)

FUNCIGNORE = (REPOSITORY / ".funcignore").read_text(encoding="utf-8")
RULES = {"Core Tools": core_tools_rule(FUNCIGNORE), "azd and the GitHub action": gitignore_rule(FUNCIGNORE)}
FUNCTIONS = {
    "on_machine_written",
    "on_machine_message",
    "on_machine_poisoned",
    "on_reconcile",
    "on_assess_request",
    "on_install_request",
    "on_assess_poisoned",
    "on_install_poisoned",
}


def expected_files() -> set[str]:
    app = (REPOSITORY / "functions").rglob("*.py")
    queries = (REPOSITORY / "functions" / "cloud" / "queries").glob("*.kql")
    inside = {path.relative_to(REPOSITORY).as_posix() for path in (*app, *queries)}
    return {"host.json", "requirements.txt", "function_app.py"} | inside


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_exactly_the_app_is_deployed(rule: Rule) -> None:
    assert set(deployed_files(REPOSITORY, rule)) == expected_files()


LOCAL = (
    *(f"{folder}/x" for folder in UNWALKED),
    ".env",
    "local.settings.json",
    "functions/__pycache__/plan.cpython-312.pyc",
    "functions/cloud/queries/__pycache__/x.pyc",
    "__pycache__/function_app.pyc",
    "tests/.env",
)


@pytest.mark.parametrize("path", LOCAL)
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_what_lies_about_on_a_developers_machine_stays_there(rule: Rule, path: str) -> None:
    assert rule(path)


def test_azd_finds_the_venv_by_its_name() -> None:
    """azd builds on the server only where .funcignore names the venv itself; `.*` would not do."""
    assert ".venv" in FUNCIGNORE.splitlines()


# pattern, path, whether Core Tools ignores it: what sets it apart from .gitignore
CORE_TOOLS = {
    "a name and all below it": ("tests", "tests/unit/test_plan.py", True),
    "a name is whole": ("test", "tests/unit/test_plan.py", False),
    "a name ends at any boundary": ("test", "test.py", True),
    "only from the root": ("__pycache__", "functions/__pycache__/x.pyc", False),
    "two stars for any depth": ("**/__pycache__", "functions/cloud/__pycache__/x.pyc", True),
    "a slash at the end lets dotfiles through": ("tests/", "tests/.env", False),
    "a dot is a dot": (".env", "xenv", False),
    "one star stays in its folder": ("*.md", "functions/notes.md", False),
    "a comment": ("# tests", "tests/x", False),
}


@pytest.mark.parametrize(("pattern", "path", "ignored"), CORE_TOOLS.values(), ids=CORE_TOOLS)
def test_the_rule_of_core_tools(pattern: str, path: str, ignored: bool) -> None:
    assert core_tools_rule(pattern)(path) is ignored


def test_the_package_is_small(package: Path) -> None:
    assert sum(path.stat().st_size for path in package.rglob("*")) < 1_000_000


def test_the_package_has_its_functions(package: Path) -> None:
    ended = run(
        package, "import function_app; print(*(f.get_function_name() for f in function_app.app.get_functions()))"
    )
    assert set(ended.stdout.split()) == FUNCTIONS, ended.stderr


def test_the_import_says_nothing(package: Path) -> None:
    ended = run(package, "import function_app", "-W", "error")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_import_loads_no_sdk(package: Path) -> None:
    """They cost seconds of a cold start; the steps import them when they first need one."""
    steps = "functions.steps.reconcile, functions.steps.install, functions.steps.assess, functions.steps.poison"
    ended = run(package, f"import function_app, functions.services, {steps}; print(json.dumps(sorted(sys.modules)))")
    loaded = set(json.loads(ended.stdout))
    assert "functions.cloud.session" in loaded
    heavy = ("azure.core", "azure.data", "azure.eventgrid", "azure.identity", "azure.mgmt", "azure.storage")
    others = ("aiohttp", "cryptography", "msal", "requests")
    assert not {name for name in loaded if name.startswith(heavy + others)}


def imports_of(package: Path) -> set[str]:
    """Every import statement of the deployed code: at the top of a file, inside a function or for the type checker."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    statements = {ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)}
    return {each for each in statements if not each.startswith("from __future__")}  # it names no module


def test_whatever_the_code_imports_comes_with_requirements_txt(package: Path) -> None:
    statements = sorted(imports_of(package))
    assert "from azure.identity.aio import ManagedIdentityCredential" in statements
    ended = run(package, "\n".join([*statements, "print('all')"]))
    assert (ended.stdout, ended.stderr) == ("all\n", "")


def test_the_interpreter_of_these_tests_has_nothing_else(package: Path) -> None:
    outside = modules_outside(package / "requirements.txt")
    assert {"lark", "rich", "pytest", "hypothesis", "croniter"} <= outside
    assert not {"azure", "azure.core", "azure.identity", "aiohttp", "msal"} & outside
    assert "does not come with requirements.txt" in run(package, "import lark").stderr
    assert "No module named 'simulator'" in run(package, "import simulator").stderr


def test_every_query_is_there(package: Path) -> None:
    code = "from functions.cloud import queries\nprint(json.dumps({n: queries.template(n) for n in queries.names()}))"
    ended = run(package, code)
    queries = json.loads(ended.stdout)
    written = (REPOSITORY / "functions" / "cloud" / "queries").glob("[!_]*.kql")
    assert set(queries) == {path.stem for path in written}
    assert not [name for name, text in queries.items() if "// include" in text]


def test_the_package_runs_from_unchecked_bytecode(package: Path, tmp_path: Path) -> None:
    """The cheapest bytecode to load: no source is read. A build may make it; nothing here must forbid it."""
    folder = Path(shutil.copytree(package, tmp_path / "compiled"))
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    assert compileall.compile_dir(folder, quiet=2, force=True, invalidation_mode=mode)
    compiled = list(folder.rglob("*.pyc"))
    assert len(compiled) == len(list(folder.rglob("*.py")))
    assert {struct.unpack("<4sI", path.read_bytes()[:8])[1] for path in compiled} == {0b01}  # PEP 552: hash, unchecked
    for path in folder.rglob("*.py"):
        path.write_text("raise ImportError('the source was read')")
    ended = run(folder, "import function_app; print(len(function_app.app.get_functions()))")
    assert ended.stdout == f"{len(FUNCTIONS)}\n", ended.stderr
