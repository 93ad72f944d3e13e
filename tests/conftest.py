"""What every tier shares: a throw-away certificate authority, one Azurite per test process, the profiles of hypothesis.

Tests share the Azurite and not its data: each takes an account of its own (`azurite.fresh_account()`).
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.support import examples

TESTS = Path(__file__).parent

# aiohttp reads SSL_CERT_FILE while it is imported, so the authority has to exist before any test module is.
_KEYS = tempfile.TemporaryDirectory(prefix="simulator-tls-")  # gone with this process, and the keys with it
_TLS = Tls.create(Path(_KEYS.name))
_TLS.trust_in_this_process()

examples.load_profile()  # before any test module asks for its share of the examples


@pytest.fixture(scope="session")
def tls() -> Tls:
    """Certificates that every client of this process trusts."""
    assert os.environ["SSL_CERT_FILE"] == str(_TLS.ca_path)
    return _TLS


@pytest.fixture(scope="session")
def azurite(tls: Tls) -> Iterator[Azurite]:
    """A running Azurite; with pytest-xdist one for each worker (about 150 MB)."""
    server = Azurite(tls)
    server.start()
    yield server
    server.stop()


def pytest_collection_finish() -> None:
    """The collector no longer walks what stays (imported clients, the tests themselves), and walks the rest less often.

    As Python sets it, it took a third of the time of a long scenario.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


# -- several processes (pytest-xdist)

# Files in which a test with parameters shares nothing with the others: each of them may go to another process.
SPREAD = ("simulation/test_seeds.py", "simulation/test_mutants.py", "simulation/test_kills.py")
# The dearest first, so that no process is left with one at the end.
FIRST = (
    "scenario/test_limits.py",
    "crash/test_crash.py",
    "scenario/test_deployment.py",
    "infra/test_compiled.py",
    "simulation/",
    "scenario/",
    "infra/",
    "contract/",
    "fuzz/",
)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """A file stays in one process, with its hosts, its compiler and whatever else its tests share.

    Not `--dist loadgroup`: pytest-xdist 3.8 writes the groups where pytest 9.2 no longer reads them, so each test went
    its own way, and each process set up what each file shares.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would put files of many tests first, and those are cheap

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if nodeid.endswith("]") and file.endswith(SPREAD) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    file = item.path.relative_to(TESTS).as_posix()
    return next((place for place, start in enumerate(FIRST) if file.startswith(start)), len(FIRST))
