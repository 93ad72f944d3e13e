"""All of it together on this machine: Azure on a TLS port, Azurite, an identity, the Functions host with the real app,
and an event subscription between them, as the deployment would make it.

Only this file joins the parts, and only it (through the host) brings in the app; the service files know nothing of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from simulator import identity, server
from simulator.azure import Azure, Limits, Timings
from simulator.azurite import Azurite, StorageAccount
from simulator.eventgrid import EventGrid, EventSubscription
from simulator.functions_host import FunctionsHost
from simulator.shapes import SUBSCRIPTION
from simulator.tls import Tls

APP_FOLDER = Path(__file__).parent.parent
QUEUES = ("assess-requests", "assess-requests-poison", "install-requests", "install-requests-poison")
TABLE = "ledger"
EVENT_FUNCTION = "on_machine_written"

_SHORTEST_SCALE = 0.1  # of the host's own times: polling more often than each second helps nobody

# What a person who wants to watch would set; everything else stands at its default.
WATCHING: Mapping[str, str] = {
    "PATCH_MODE": "install",
    "PATCH_WINDOW": "any",
    "PATCH_SCOPE": SUBSCRIPTION,
    "PATCH_CREATED_AFTER": "always",
    "PATCH_SETTLE_MINUTES": "0",
    "PATCH_BAKE_MINUTES": "0",  # the canary is watched for a day otherwise
    "RECONCILE_SCHEDULE": "*/10 * * * * *",
}
# The machine is ready when its creation ends: the app's first wait for a slow agent is two minutes of real time.
READY_AT_ONCE = replace(Timings(), agent_ready_seconds=0, extensions_seconds=0)


@dataclass
class Everything:
    """What runs. `host` and `storage` are None when only Azure was asked for."""

    azure: Azure
    endpoint: str
    tls: Tls
    managed_identity: identity.ManagedIdentity
    app_settings: dict[str, str]
    storage: StorageAccount | None = None
    host: FunctionsHost | None = None
    grid: EventGrid | None = None


@asynccontextmanager
async def azure_alone(*, speed: float = 1.0, port: int = 0, tls: Tls | None = None) -> AsyncIterator[Everything]:
    """The simulated Azure and its identity endpoint, with the clock of this machine."""
    tls = tls or Tls.create()
    tls.trust_in_this_process()
    azure = Azure(lambda: datetime.now(UTC), READY_AT_ONCE.scaled(speed), Limits().scaled(speed))
    managed = server.Identity()
    async with server.serve(azure, tls, port=port, managed_identity=managed) as endpoint:
        managed.endpoint = endpoint
        settings = {**identity.settings(managed, endpoint), **tls.settings(), "ARM_ENDPOINT": endpoint}
        yield Everything(azure, endpoint, tls, managed, settings)


@asynccontextmanager
async def everything(
    *,
    speed: float = 1.0,
    port: int = 0,
    tls: Tls | None = None,
    settings: Mapping[str, str] = WATCHING,
    storage: StorageAccount | None = None,
) -> AsyncIterator[Everything]:
    """All parts, with an Azurite of their own if no account is given.

    Raises AzuriteUnavailable where its Node packages are not installed.
    """
    async with azure_alone(speed=speed, port=port, tls=tls) as stage, AsyncExitStack() as parts:
        stage.storage = storage or (await parts.enter_async_context(Azurite(stage.tls))).account
        stage.app_settings |= {**stage.storage.settings(), **settings}
        await make_storage(stage.storage)
        scale = max(1 / speed, _SHORTEST_SCALE)
        host = FunctionsHost(APP_FOLDER, stage.app_settings, tls=stage.tls, time_scale=scale)
        stage.host = await parts.enter_async_context(host)
        grid = EventGrid(stage.azure, speed=speed, tls=stage.tls.client_context())
        stage.grid = await parts.enter_async_context(grid)
        await stage.grid.subscribe(subscription_to(host))
        yield stage


def subscription_to(host: FunctionsHost) -> EventSubscription:
    """The event subscription of the deployment: successful writes and starts of virtual machines, nothing else."""
    return EventSubscription(
        "machine-written",
        f"{host.event_url}?functionName={EVENT_FUNCTION}&code={host.system_key}",
        included_event_types=(
            "Microsoft.Resources.ResourceWriteSuccess",
            "Microsoft.Resources.ResourceActionSuccess",
        ),
        operation_names=("Microsoft.Compute/virtualMachines/write", "Microsoft.Compute/virtualMachines/start/action"),
    )


async def make_storage(account: StorageAccount) -> None:
    """The queues and the table that the deployment makes. The host makes its own container."""
    from azure.data.tables.aio import TableServiceClient
    from azure.storage.queue.aio import QueueServiceClient

    credential = identity.StaticCredential(identity.STORAGE)
    async with QueueServiceClient(account.queue_url, credential=credential, use_env_settings=False) as queues:
        for name in QUEUES:
            await queues.create_queue(name)
    async with TableServiceClient(endpoint=account.table_url, credential=credential, use_env_settings=False) as tables:
        await tables.create_table(TABLE)
