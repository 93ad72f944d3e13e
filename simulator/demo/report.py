"""The app's own report on the fleet, as an operator reads it. No other file here imports `functions`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from functions.cloud.arm import ResourceManager
from functions.cloud.errors import CloudError
from functions.cloud.ledger import Ledger, Stored
from functions.cloud.queue import StorageQueues
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.model.state import Step
from functions.policy.settings import SETTINGS, read_settings
from functions.services import Services
from functions.steps import notices, reconcile
from simulator import identity

COMPLETE_AFTER = notices.COMPLETE_AFTER  # so old is a notice before the app sends it


class ReportFailed(Exception):
    """A call to Azure failed while the report was read."""


@dataclass(frozen=True)
class Fleet:
    """The fleet as the app reports it. Machine ids are in lower case."""

    steps: Mapping[str, Step]
    rows: frozenset[str]  # the machines that have a row in the ledger


@dataclass(frozen=True)
class AppReport:
    """Reads the app's ledger and Resource Graph by an operator's identity."""

    services: Services

    @property
    def most_in_flight(self) -> str:
        """The app's cap on installations at once, as its setting has it."""
        return str(self.services.settings.max_in_flight)

    async def fleet(self) -> Fleet:
        """Raises ReportFailed."""
        try:
            found = await reconcile.fleet_states(self.services)
            rows = [str(row.record.machine) async for row in self.services.ledger.all() if isinstance(row, Stored)]
        except CloudError as error:
            raise ReportFailed(str(error)) from error
        return Fleet({str(machine.id): step for machine, step in found}, frozenset(rows))

    async def make_census_due(self) -> None:
        """The next sweep takes another census, as on the next day."""
        await self.services.ledger.remember("census", {"day": "yesterday"})


@asynccontextmanager
async def open_report(
    settings: Mapping[str, str], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncIterator[AppReport]:
    """The report of the app with these settings, as of the clock's time."""
    read = read_settings(settings)
    session = Session(read, clock, credential=identity.StaticCredential(client_id=identity.OPERATOR))
    try:
        yield AppReport(
            Services(
                read,
                ResourceManager(session),
                ResourceGraph(session),
                Ledger(StorageTable(session)),
                StorageQueues(session),
                clock,
            )
        )
    finally:
        await session.close()


@contextmanager
def notices_at_once() -> Iterator[None]:
    """Inside the block the app sends a notice with the next sweep. Its own wait is for tables of many pages."""
    notices.COMPLETE_AFTER = timedelta(0)
    try:
        yield
    finally:
        notices.COMPLETE_AFTER = COMPLETE_AFTER


def default_settings() -> dict[str, str]:
    """The app's settings by name, with their defaults."""
    return {each.name: each.default or "" for each in SETTINGS}
