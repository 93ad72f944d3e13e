"""What every tier shares: a throw-away certificate authority, one Azurite per test process, the profiles of hypothesis.

Tests share the Azurite and not its data: each takes an account of its own (`azurite.fresh_account()`).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.support import examples, loops, processes
from tests.support.journaled import Told

TESTS = Path(__file__).parent

# As `make` does, for people who call pytest: some hundred processes of the tests would each compile the same modules.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# aiohttp reads SSL_CERT_FILE while it is imported, so the authority has to exist before any test module is.
_KEYS = tempfile.TemporaryDirectory(prefix="simulator-tls-")  # gone with this process, and the keys with it
_TLS = Tls.create(Path(_KEYS.name))
_TLS.trust_in_this_process()

asyncio.set_event_loop_policy(loops.Policy())

examples.load_profile()  # before any test module asks for its share of the examples


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Asked with names of events, it gives the lines that the journal has written of them in this test."""
    caplog.set_level("INFO", logger="journal")

    def lines(*events: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, caplog.messages) if line["event"] in events]

    return lines


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
    _collect()
    gc.set_threshold(200_000, 20, 100)


def _collect() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """What a file leaves open fails its last test. Python says so when the collector finds it, which is seldom."""
    yield
    _collect()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> processes.ByFile:
    return processes.ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: processes.place(item.path.relative_to(TESTS).as_posix()))
