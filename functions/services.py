"""Dependencies injected into every step: Azure clients, ledger, queues, clock, randomness.

Steps create none themselves.
"""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from functions.cloud.arm import ResourceManager
from functions.cloud.ledger import Ledger
from functions.cloud.notices import EventGridTopic, Outbox, Topic
from functions.cloud.queue import StorageQueues, WorkQueue
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.policy.settings import FIRST_DEPLOYMENT_MARGIN, Settings

EVENTS_AT_ONCE = 32


@dataclass
class Services:
    """One set per process and event loop."""

    settings: Settings
    compute: ResourceManager
    graph: ResourceGraph
    ledger: Ledger
    queue: WorkQueue
    clock: Callable[[], datetime]
    topic: Topic | None = None  # of notices; None: none are sent
    jitter: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    # The host runs everything that it receives at once. Work is bounded per event and message, not per call: otherwise
    # a thousand events would all have begun before the first of them is sent.
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(EVENTS_AT_ONCE))
    token: Callable[[], str] = field(default=lambda: secrets.token_hex(8))
    _first_deployment: datetime | None = None

    async def created_after(self) -> datetime:
        """Machines older than this are out of scope: the setting, or the time the first sweep or event wrote once."""
        if self.settings.created_after is not None:
            return self.settings.created_after
        if self._first_deployment is None:
            self._first_deployment = await self.ledger.first_deployment(self.clock() - FIRST_DEPLOYMENT_MARGIN)
        return self._first_deployment


def connect(settings: Settings, clock: Callable[[], datetime]) -> Services:
    """The real services. Opens no connection yet: the first call of each does."""
    session = Session(settings, clock)
    return Services(
        settings,
        compute=ResourceManager(session),
        graph=ResourceGraph(session),
        ledger=Ledger(StorageTable(session), Outbox(clock) if settings.notices else None),
        queue=StorageQueues(session),
        clock=clock,
        topic=EventGridTopic(session) if settings.notices else None,
    )
