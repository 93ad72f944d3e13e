"""The shape of the house: which room may import which, who reads the clock, and what a cold start loads.

Read from the source alone, so that the rules hold for modules that do not exist yet; the cold start is a real import in
a process of its own.
"""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "functions"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = ("functions", "patcher", "simulator", "scripts", "benchmarks")  # all of ours but the tests
OURS = [
    REPOSITORY / "function_app.py",
    *(path for each in FOLDERS for path in sorted((REPOSITORY / each).rglob("*.py"))),
]
PROGRAMS = [path for path in OURS if "node_modules" not in path.parts]
STANDARD_LIBRARY = sys.stdlib_module_names
PACKAGES = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in PACKAGE.rglob("__init__.py")}

# The arrows of the house: what a module of each room may import, its own room included.
ARROWS: dict[str, set[str]] = {
    "model": {"model"},
    "policy": {"policy", "model"},
    "decisions": {"decisions", "policy", "model"},
    "journal": {"model"},
    "cloud": {"cloud", "journal", "policy", "model"},
    "services": {"cloud", "policy"},
    "steps": {"steps", "services", "cloud", "decisions", "policy", "model", "journal"},
}
# Never await, never read a clock, never do I/O.
PURE = ("model", "policy", "decisions")
PURE_MODULES = [path for room in PURE for path in sorted((PACKAGE / room).glob("*.py"))]
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "time_ns"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    return module.split(".")[0]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that one import statement names; `from functions import journal` names functions.journal."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            yield f"{node.module}.{alias.name}" if node.module in PACKAGES else str(node.module)


def imports_anywhere(path: Path) -> set[str]:
    return {name for node in ast.walk(tree(path)) for name in imported(node)}


def imports_at_the_top(path: Path) -> set[str]:
    """What importing the module loads: every import outside functions and `if TYPE_CHECKING:` blocks."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            types_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not child.orelse
            if not types_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                found.update(imported(child))
                visit(child)

    visit(tree(path))
    return found


def ours(names: set[str]) -> set[str]:
    return {name.removeprefix("functions.") for name in names if name.startswith("functions.")}


def test_every_module_stands_in_a_room() -> None:
    assert {room_of(name_of(path)) for path in MODULES} - {"__init__", "functions", ""} == set(ARROWS)


def test_every_arrow_is_needed() -> None:
    """An arrow that no import uses any more is taken off the picture."""
    drawn = {(room_of(name_of(path)), room_of(name)) for path in MODULES for name in ours(imports_anywhere(path))}
    assert {(room, other) for room, others in ARROWS.items() for other in others} - drawn <= {("journal", "journal")}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_arrows(path: Path) -> None:
    room = room_of(name_of(path))
    for name in ours(imports_anywhere(path)):
        assert room_of(name) in ARROWS[room], f"{room} imports {name}"


def test_no_two_modules_import_each_other() -> None:
    """Inside a room, too: a circle has no first file to read."""
    imports = {name_of(path): ours(imports_anywhere(path)) for path in MODULES}
    seen: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in seen:
            for other in sorted(imports.get(module, ())):
                visit(other, (*trail, module))
            seen.add(module)

    for module in imports:
        visit(module, ())


@pytest.mark.parametrize("path", PURE_MODULES, ids=name_of)
def test_the_pure_rooms_reach_for_nothing_outside(path: Path) -> None:
    outside = {"os", "io", "pathlib", "socket", "ssl", "asyncio", "logging", "time", "random", "secrets", "subprocess"}
    assert not {name.split(".")[0] for name in imports_anywhere(path)} & outside
    for name in imports_anywhere(path):
        assert name.startswith("functions") or name.split(".")[0] in STANDARD_LIBRARY, name
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "exec"}


@pytest.mark.parametrize("path", PURE_MODULES, ids=name_of)
def test_values_are_frozen(path: Path) -> None:
    """A value that a decision was made on cannot be changed behind its back."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
            assert all("frozen=True" in text for text in decorators if "dataclass" in text), node.name


@pytest.mark.parametrize("path", PURE_MODULES, ids=name_of)
def test_a_cache_of_a_pure_room_has_a_size(path: Path) -> None:
    decorators = [
        ast.unparse(decorator)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    ]
    caches = [text for text in decorators if re.match(r"(functools\.)?(lru_cache|cache)\b", text)]
    assert all(re.fullmatch(r"lru_cache(\(maxsize=\d+\))?", text) for text in caches), caches


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_reads_the_clock(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            assert not (owner in ("datetime", "date", "time") and node.attr in CLOCKS), f"line {node.lineno}"
    assert "time" not in imports_anywhere(path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_that_ships_knows_the_tests_or_the_simulator(path: Path) -> None:
    foreign = {"benchmarks", "patcher", "simulator", "tests", "pytest", "hypothesis", "unittest", "function_app"}
    assert not {name.split(".")[0] for name in imports_anywhere(path)} & foreign
    assert "azure.functions" not in imports_anywhere(path)


@pytest.mark.parametrize("path", [*MODULES, REPOSITORY / "function_app.py"], ids=lambda path: path.stem)
def test_no_sdk_is_imported_at_the_top_of_a_module(path: Path) -> None:
    for name in imports_at_the_top(path):
        mine = name.startswith("functions") or name.split(".")[0] in STANDARD_LIBRARY
        assert mine or (path.name == "function_app.py" and name == "azure.functions"), name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_cloud_imports_an_sdk(path: Path) -> None:
    foreign = {
        name
        for name in imports_anywhere(path)
        if not name.startswith("functions") and name.split(".")[0] not in STANDARD_LIBRARY
    }
    assert not foreign or room_of(name_of(path)) == "cloud", foreign


def test_only_the_app_reads_the_environment() -> None:
    reading = {name_of(path) for path in MODULES if "os" in imports_anywhere(path)}
    assert reading == set()


LOADED = """
import json, sys
import function_app
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """What is in memory after importing the app, in a fresh process, with no setting at all."""
    answer = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=REPOSITORY, env={"PATH": ""}, capture_output=True, text=True, check=True
    )
    return set(json.loads(answer.stdout))


@pytest.mark.parametrize(
    "package",
    [
        "azure.mgmt",
        "azure.core",
        "azure.identity",
        "azure.storage",
        "azure.data",
        "azure.eventgrid",
        "aiohttp",
        "msal",
        "cryptography",
        "requests",
        "simulator",
        "tests",
    ],
)
def test_a_cold_start_loads_no_client(package: str, loaded: set[str]) -> None:
    assert not [name for name in loaded if name == package or name.startswith(f"{package}.")]


def test_a_cold_start_loads_the_triggers_and_no_room(loaded: set[str]) -> None:
    """The host waits for this import before any function; what a function needs, it imports."""
    assert {"function_app", "azure.functions"} <= loaded
    assert not {name for name in loaded if name.split(".")[0] == "functions"}


IMPORTED_BY_TRIGGERS = sorted(name for name in imports_anywhere(REPOSITORY / "function_app.py") if "functions." in name)


def test_what_the_triggers_import_exists() -> None:
    """A name that is imported late is missed late: here it is missed at once."""
    assert {"functions.steps.assess", "functions.steps.reconcile"} <= set(IMPORTED_BY_TRIGGERS)
    for name in IMPORTED_BY_TRIGGERS:
        importlib.import_module(name)


@pytest.mark.parametrize("path", [path for path in MODULES if path.stat().st_size], ids=name_of)
def test_every_module_opens_with_its_idea(path: Path) -> None:
    assert ast.get_docstring(tree(path))


MAX_POSITIONAL = 3


def positional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """What a call may give by position, the object or class that a method belongs to not counted."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    return names[1:] if names and names[0] in ("self", "cls") else names


def too_many(source: str) -> list[tuple[int, str]]:
    """Line and name of each function, method and inner function that takes more by position than it may."""
    return [
        (node.lineno, node.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and len(positional(node)) > MAX_POSITIONAL
    ]


@pytest.mark.parametrize(
    ("function", "found"),
    [
        ("def f(a, b, c): ...", False),
        ("def f(a, b, c, *, d, e): ...", False),
        ("def f(a, b, c, *d, **e): ...", False),
        ("def f(a, b, c, d): ...", True),
        ("def f(a, b, /, c, d=0): ...", True),
        ("async def f(a, b, c, d): ...", True),
        ("class A:\n def f(self, a, b, c): ...", False),
        ("class A:\n def f(self, a, b, c, d): ...", True),
        ("class A:\n @classmethod\n def f(cls, a, b, c): ...", False),
        ("def outer():\n def f(a, b, c, d): ...", True),
    ],
)
def test_what_counts_as_too_many(function: str, found: bool) -> None:
    assert [name for _, name in too_many(function)] == ["f"] * found


def test_beyond_three_parameters_a_call_names_them() -> None:
    """Four values in a row cannot be read without looking up what they are. Typer fills parameters by name as well."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{line} {name}"
        for path in PROGRAMS
        for line, name in too_many(path.read_text())
    ]
    assert not found, f"more than {MAX_POSITIONAL} positional parameters; put * before the rest: {found}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_failure_is_swallowed_in_silence(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
            only_pass = all(isinstance(statement, ast.Pass) for statement in node.body)
            assert not only_pass, f"line {node.lineno}: nothing is done about it"
