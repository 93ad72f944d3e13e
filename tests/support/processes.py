"""Which process runs which tests, where there are several (pytest-xdist)."""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Files in which a test with parameters shares nothing with the others: each of them may go to another process.
SPREAD = (
    "simulation/test_seeds.py",
    "simulation/test_mutants.py",
    "simulation/test_kills.py",
    "benchmarks/test_harness.py",
)
# The dearest and the longest first, so that no process is left with one at the end.
FIRST = (
    "infra/test_compiled.py",
    "scenario/test_deployment.py",
    "browser/",
    "crash/test_crash.py",
    "scenario/test_whole_chain.py",
    "patcher/test_try.py",
    "contract/test_functions_host_queue.py",
    "scenario/test_limits.py",
    "scenario/test_rollouts.py",
    "benchmarks/",
    "simulation/",
    "patcher/",
    "scenario/",
    "contract/",
    "monitoring/",
    "infra/",
    "fuzz/",
)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """A file stays in one process, with its hosts, its compiler and whatever else its tests share.

    Not `--dist loadgroup`: pytest-xdist 3.8 writes the groups where pytest 9.2 does not read them. Each test went its
    own way then, and each process set up what each file shares.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would put files of many tests first, and those are cheap

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if nodeid.endswith("]") and file.endswith(SPREAD) else file


def place(file: str) -> int:
    """Where a file of tests/ stands in the order."""
    return next((number for number, start in enumerate(FIRST) if file.startswith(start)), len(FIRST))
