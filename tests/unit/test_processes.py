"""The tests in several processes: what a file's tests share is set up once, and no process is left with a dear file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import FIRST, SPREAD, ByFile

ROOT = Path(__file__).parents[2]
FILES = ("tests/unit/test_host_json.py", "tests/unit/test_messages.py")  # cheap, and of several tests each


def test_each_file_stays_in_one_process() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "no:cacheprovider", *FILES]
    done = subprocess.run(command, cwd=ROOT, env=clean, text=True, capture_output=True, check=True)
    ran = set(re.findall(r"^\[(gw\d)\].* (tests/\S+?\.py)::", done.stdout, re.MULTILINE))
    assert sorted(file for _, file in ran) == sorted(FILES)
    assert len({process for process, _ in ran}) == 2


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/unit/test_text.py::test_a[1]", "tests/unit/test_text.py"),
        ("tests/simulation/test_mutants.py::test_a", "tests/simulation/test_mutants.py"),
        ("tests/simulation/test_mutants.py::test_a[cap]", "tests/simulation/test_mutants.py::test_a[cap]"),
    ],
)
def test_tests_that_share_nothing_spread(nodeid: str, scope: str) -> None:
    assert ByFile._split_scope(object.__new__(ByFile), nodeid) == scope


@pytest.mark.parametrize("start", [*FIRST, *SPREAD])
def test_what_is_named_is_there(start: str) -> None:
    assert (ROOT / "tests" / start).exists()
