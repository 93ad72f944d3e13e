"""What measured programs share: the app's services against an endpoint, and raw aiohttp with the same token."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from functions.cloud.arm import ResourceManager
from functions.cloud.ledger import Ledger
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.session import Session
from functions.cloud.tables import Table
from functions.policy.settings import read_settings
from functions.services import Services
from simulator import identity
from tests.support.queues import MemoryQueue
from tests.support.tables import MemoryTable

if TYPE_CHECKING:
    import aiohttp

SETTINGS = {
    "RECONCILE_SCHEDULE": "0 */5 * * * *",
    "AzureWebJobsStorage__accountName": "storage",
    "PATCH_MODE": "install",
    "PATCH_WINDOW": "any",
    "PATCH_CREATED_AFTER": "always",
    "PATCH_MIN_AGE_MINUTES": "0",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
    "ARM_ENDPOINT_ALLOW": "custom",
}


def real_time() -> datetime:
    return datetime.now(UTC)


def session(endpoint: str, clock: Callable[[], datetime] = real_time) -> Session:
    """The app's session with Azure, with a token that costs no call."""
    settings = read_settings(SETTINGS | {"ARM_ENDPOINT": endpoint})
    return Session(settings, clock, credential=identity.StaticCredential(identity.ARM))


def services(endpoint: str, clock: Callable[[], datetime], table: Table | None = None) -> Services:
    """The app's services. Ledger and queues are in this process unless a table is given."""
    access = session(endpoint, clock)
    return Services(
        access.settings,
        compute=ResourceManager(access),
        graph=ResourceGraph(access),
        ledger=Ledger(table or MemoryTable()),
        queue=MemoryQueue(clock),
        clock=clock,
        jitter=lambda: 0.5,
        sleep=_at_once,
    )


async def _at_once(_: float) -> None:
    """Pauses of the app are not part of a measurement of its work."""


def raw(endpoint: str, audience: str = identity.ARM) -> aiohttp.ClientSession:
    """What a programmer writes without an SDK: one session, one bearer token."""
    import aiohttp

    headers = {"Authorization": f"Bearer {identity.mint(audience)}"}
    return aiohttp.ClientSession(endpoint, headers=headers, connector=aiohttp.TCPConnector(limit=32))
