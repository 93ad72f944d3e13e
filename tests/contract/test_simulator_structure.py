"""The structure of the simulator: which folder may import which, what knows the app, and how large a class may be.

Read from the source alone, so the rules hold for modules that do not exist yet; what an import loads is tested in a
process of its own.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import simulator
from tests.support import REPOSITORY

PACKAGE = REPOSITORY / "simulator"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "node" not in path.relative_to(PACKAGE).parts)
FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if "node" not in path.parts)
MAX_METHODS = 20

# What the modules of each folder or file of simulator/ may import of the others. Lower lines may import upper ones.
ARROWS: dict[str, set[str]] = {
    "wire": set(),
    "tls": set(),
    "serving": set(),
    "identity": {"serving"},
    "behaviour": {"wire"},
    "faults": {"wire"},
    "world": {"behaviour", "wire"},
    "event_grid": {"identity", "wire", "world"},
    "arm": {"behaviour", "event_grid", "identity", "wire", "world"},
    "resource_graph": {"arm", "identity", "wire", "world"},
    "storage": {"tls"},
    "functions_host": {"serving", "tls"},
    "monitor": {"functions_host", "resource_graph"},
    "azure": {"arm", "behaviour", "event_grid", "faults", "resource_graph", "wire", "world"},
    "transport": {"wire"},
    "server": {"azure", "identity", "serving", "tls", "wire"},
    "deployment": {
        *("arm", "azure", "behaviour", "event_grid", "functions_host", "identity", "serving", "storage", "tls", "wire"),
    },
    "embedded": {
        *("azure", "deployment", "event_grid", "functions_host", "identity", "server", "storage", "tls", "wire"),
    },
    "demo": {
        *("arm", "azure", "deployment", "embedded", "functions_host", "identity", "monitor", "storage", "wire"),
    },
    "playground": {"arm", "azure", "demo", "embedded", "functions_host", "identity", "wire"},
    "__main__": {
        *("arm", "azure", "deployment", "embedded", "event_grid", "functions_host", "playground", "storage", "wire"),
    },
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def room_of(module: str) -> str:
    """The folder or file of simulator/ that a module is in; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """The modules that a module imports, also inside a function or for type checking only."""
    return frozenset(name for node in ast.walk(tree(path)) for name in _imported(node))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        members = {f"{node.module}.{alias.name}" for alias in node.names}
        yield from members & NAMES
        if not members <= NAMES:
            yield str(node.module)


def imports_of(package: str) -> set[str]:
    """The modules that import something of this package."""
    return {name_of(path) for path in MODULES if any(name.partition(".")[0] == package for name in imports(path))}


def test_every_folder_and_file_has_its_rule() -> None:
    assert {room_of(name) for name in NAMES} - {""} == set(ARROWS)


def test_no_folder_imports_a_lower_one() -> None:
    order = list(ARROWS)
    upward = [(room, other) for room in order for other in ARROWS[room] if order.index(other) > order.index(room)]
    assert upward == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_arrows(path: Path) -> None:
    room = room_of(name_of(path))
    for name in imports(path):
        if name.startswith("simulator.") and room_of(name) != room:
            assert room_of(name) in ARROWS[room], f"{room} imports {name}"


def test_every_arrow_is_needed() -> None:
    drawn = {(room_of(name_of(path)), room_of(name)) for path in MODULES for name in imports(path)}
    assert {(room, other) for room, others in ARROWS.items() for other in others} <= drawn


def test_no_two_modules_import_each_other() -> None:
    found = {name_of(path): {name for name in imports(path) if name in NAMES} for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for other in sorted(found[module]):
                visit(other, (*trail, module))
            done.add(module)

    for module in found:
        visit(module, ())


def test_only_the_demo_and_the_playground_know_the_app() -> None:
    assert imports_of("functions") == {"simulator.demo.report", "simulator.playground.app"}


def test_only_the_functions_host_loads_the_app() -> None:
    """By its path: no module imports it by name."""
    assert imports_of("function_app") == set()
    assert {name_of(path) for path in MODULES if "importlib.util" in imports(path)} == {
        "simulator.functions_host.worker"
    }


def test_no_module_imports_the_tests() -> None:
    assert imports_of("tests") == set()


LOADED = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] in ("functions", "function_app"))))
"""


def test_the_services_load_nothing_of_the_app() -> None:
    names = sorted(name for name in NAMES if room_of(name) not in ("demo", "playground", "__main__"))
    answer = subprocess.run(
        [sys.executable, "-c", LOADED, *names], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == []


def test_no_class_is_too_large() -> None:
    methods = {
        f"{name_of(path)}.{node.name}": sum(
            isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body
        )
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    assert {name: count for name, count in methods.items() if count > MAX_METHODS} == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_begins_with_its_idea(path: Path) -> None:
    assert ast.get_docstring(tree(path))


def test_the_map_names_every_folder_and_file() -> None:
    text = simulator.__doc__ or ""
    folders = [f"{folder.relative_to(PACKAGE)}/" for folder in FOLDERS if folder.parent == PACKAGE]
    files = [path.name for path in MODULES if path.parent == PACKAGE and not path.name.startswith("__")]
    assert [each for each in (*folders, *files) if each not in text] == []
