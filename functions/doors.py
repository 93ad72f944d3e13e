"""The doors a step is handed: Azure, the ledger, the queues, the clock and chance. Steps open none themselves."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from functions.cloud.access import Access
from functions.cloud.compute import Compute
from functions.cloud.graph import Graph
from functions.cloud.ledger import Ledger
from functions.cloud.tables import StorageTable
from functions.cloud.work_queue import StorageQueues, WorkQueue
from functions.policy import FIRST_DEPLOYMENT_MARGIN, Settings


@dataclass
class Doors:
    """One set per process and event loop."""

    settings: Settings
    compute: Compute
    graph: Graph
    ledger: Ledger
    queue: WorkQueue
    clock: Callable[[], datetime]
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    token: Callable[[], str] = field(default=lambda: secrets.token_hex(8))
    _first_deployment: datetime | None = None

    async def created_after(self) -> datetime:
        """Machines older than this are out of scope: the setting, or the time the first sweep or event wrote once."""
        if self.settings.created_after is not None:
            return self.settings.created_after
        if self._first_deployment is None:
            self._first_deployment = await self.ledger.first_deployment(self.clock() - FIRST_DEPLOYMENT_MARGIN)
        return self._first_deployment


def open_doors(settings: Settings, clock: Callable[[], datetime]) -> Doors:
    """The real doors. Opens no connection yet: the first call of each does."""
    access = Access(settings, clock)
    return Doors(
        settings,
        compute=Compute(access),
        graph=Graph(access),
        ledger=Ledger(StorageTable(access)),
        queue=StorageQueues(access),
        clock=clock,
    )
