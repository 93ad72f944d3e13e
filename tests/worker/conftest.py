"""One indexed app for the run, indexed without a single app setting; per test the settings and services it needs."""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.worker.in_process import App

REPOSITORY = Path(__file__).parents[2]
OURS = ("PATCH_", "AzureWebJobsStorage", "RECONCILE_SCHEDULE", "ARM_ENDPOINT", "IDENTITY_", "MSI_", "AZURE_")


@pytest.fixture(scope="session")
def app() -> Iterator[App]:
    """The app as a fresh deployment without settings has it: the import must not fail, or nothing is ever said."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    app = App(REPOSITORY)
    app.index()
    yield app
    app.loop.close()


@pytest.fixture(autouse=True)
def fresh_connection(app: App) -> Iterator[None]:
    """Services live as long as the process; each test connects its own."""
    yield
    services = sys.modules["function_app"]._services
    if services.cache_info().currsize:
        app.run(services().queue._session.close())
    services.cache_clear()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mapping[str, str]]:
    """Sets the app settings: right ones, whose every address is a closed port of this machine, and what is given."""

    def set_all(**changes: str) -> Mapping[str, str]:
        values = right_settings() | changes
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return values

    return set_all


@pytest.fixture
def ledger(app: App, settings: Callable[..., Mapping[str, str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The app with its ledger in memory and a token in hand, so that the first call to leave is one to Azure."""
    from functions.cloud.arm import ResourceManager
    from functions.cloud.ledger import Ledger
    from functions.cloud.queue import StorageQueues
    from functions.cloud.resource_graph import ResourceGraph
    from functions.cloud.session import Session
    from functions.policy.settings import read_settings
    from functions.services import Services
    from simulator.identity import StaticCredential
    from tests.support.tables import MemoryTable

    class Impatient(Session):
        """The storage SDK waits 15 s and more between two attempts; nothing here is about its waits."""

        def storage_options(self) -> Any:
            return super().storage_options() | {"retry_total": 0}

    def clock() -> datetime:
        return datetime.now(UTC)

    values = read_settings(settings())
    access = Impatient(values, clock, credential=StaticCredential())
    ledger = Ledger(MemoryTable())
    services = Services(values, ResourceManager(access), ResourceGraph(access), ledger, StorageQueues(access), clock)
    monkeypatch.setattr(sys.modules["function_app"], "_services", lambda: services)
    yield ledger
    app.run(access.close())


def right_settings() -> dict[str, str]:
    nowhere = f"127.0.0.1:{_closed_port()}"
    return {
        "AzureWebJobsStorage__queueServiceUri": f"https://{nowhere}/account",
        "AzureWebJobsStorage__tableServiceUri": f"https://{nowhere}/account",
        "RECONCILE_SCHEDULE": "0 */5 * * * *",
        "ARM_ENDPOINT": f"https://{nowhere}",
        "ARM_ENDPOINT_ALLOW": "custom",
    }


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
