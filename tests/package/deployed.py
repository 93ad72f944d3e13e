"""Which files are deployed, and an interpreter that has what Azure has: those files and requirements.txt.

Two tools read .funcignore, each in its own way: Azure Functions Core Tools (`func … publish`, Azure/azure-functions-
core-tools, GitIgnoreParser.cs) and, with .gitignore's meaning, azd and the GitHub action. Both are written down here
for the patterns this project allows itself: plain root names, `*`, and `**/` at the beginning.
"""

import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.package import lock_files

REPOSITORY = Path(__file__).parents[2]
# Never worth a walk; that each is ignored is tested by name.
UNWALKED = (".git", ".venv", ".venv-worker", "simulator/node/node_modules")

Rule = Callable[[str], bool]  # whether a path (with /, from the root) is ignored


def patterns(funcignore: str) -> list[str]:
    lines = (line.strip() for line in funcignore.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def core_tools_rule(funcignore: str) -> Rule:
    """One expression of all lines, anchored at the root and ended at a word boundary: `test` ignores test.py too."""
    ignored, kept = (_core_tools_expression(patterns(funcignore), negated) for negated in (False, True))
    return lambda path: bool(ignored.match(path)) and not kept.match(path)


def _core_tools_expression(lines: list[str], negated: bool) -> re.Pattern[str]:
    chosen = [line.removeprefix("!").removeprefix("/") for line in lines if line.startswith("!") == negated]
    texts = [re.sub(r"[-\[\]/{}()+?.\\^$|]", r"\\\g<0>", line) for line in chosen]
    texts = [text.replace("**", "(.+)").replace("*", "([^/]+)") for text in texts]
    # .NET's ECMAScript option reads \b and \w as ASCII.
    return re.compile(rf"(({')|('.join(texts)}))\b" if texts else r"(?!)", re.ASCII)


def gitignore_rule(funcignore: str) -> Rule:
    """A name without a slash ignores at every depth, and a folder with all that is in it."""
    names = [line.removeprefix("**/") for line in patterns(funcignore)]
    assert not [name for name in names if "/" in name or name.startswith("!")], "only plain names mean the same to all"
    return lambda path: any(fnmatch.fnmatchcase(part, name) for part in path.split("/") for name in names)


def deployed_files(root: Path, rule: Rule) -> Iterator[str]:
    """The files that are left, as paths from the root."""

    def walk(folder: Path) -> Iterator[str]:
        for entry in sorted(folder.iterdir()):
            path = entry.relative_to(root).as_posix()
            if entry.is_dir() and path not in UNWALKED:
                yield from walk(entry)
            elif entry.is_file() and not rule(path):
                yield path

    return walk(root)


# -- an interpreter with nothing but the deployed files and what requirements.txt brings

_PREAMBLE = """
import importlib.util, json, sys
folder, blocked = sys.argv[1], set(json.loads(sys.argv[2]))
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in blocked else found(name, package)

class OnlyRequirements:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in blocked:
            raise ModuleNotFoundError(f'{name} does not come with requirements.txt')

sys.meta_path.insert(0, OnlyRequirements)
sys.path.insert(0, folder)
"""


def run(folder: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs code with the folder on sys.path, isolated from this checkout, without a single app setting."""
    arguments = [str(folder), json.dumps(sorted(modules_outside(folder / "requirements.txt")))]
    return subprocess.run(
        [sys.executable, "-I", "-B", *options, "-c", _PREAMBLE + code, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@cache
def modules_outside(requirements: Path) -> frozenset[str]:
    """The outermost modules of this venv that no distribution of requirements.txt brings: `lark`, or `azure.x`."""
    inside = lock_files.versions(requirements)
    ours, others = set[str](), set[str]()
    for distribution in distributions():
        known = ours if canonicalize_name(distribution.name) in inside else others
        for file in distribution.files or []:
            if file.suffix in (".py", ".so") and ".." not in file.parts:
                folders = file.parts[:-1]
                known |= {".".join(folders[:depth]) for depth in range(1, len(folders) + 1)}
                known.add(".".join((*folders, file.name.partition(".")[0])))
    return frozenset(module for module in others - ours if module.rpartition(".")[0] in ours | {""})
