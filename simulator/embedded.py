"""The whole embedded Azure: the one place that starts all of it, for the demo, for people and for whole-chain tests.

Certificates, storage (Azurite), the managed identity's endpoint, Resource Manager and Resource Graph on a TLS port,
Event Grid, and Functions hosts that run the app of this folder. It gives what a deployment gives: queues, a table, app
settings and an event subscription. It never looks into the app, and never acts in the world by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from azure.data.tables.aio import TableClient
from azure.storage.queue.aio import QueueClient

from simulator import identity, server
from simulator.azure import Azure, Limits, Timings
from simulator.azurite import Azurite, StorageAccount
from simulator.eventgrid import EventGrid, EventSubscription, Filter, Schema
from simulator.functions_host import FunctionsHost
from simulator.tls import Tls
from simulator.wire import Json

APP_FOLDER = Path(__file__).resolve().parents[1]
TABLES = ("ledger",)
QUEUES = ("assess-requests", "assess-requests-poison", "install-requests", "install-requests-poison")
EVENT_FUNCTION = "on_machine_written"
EVENT_TYPES = ("Microsoft.Resources.ResourceWriteSuccess", "Microsoft.Resources.ResourceActionSuccess")
OPERATION_NAMES = ("Microsoft.Compute/virtualMachines/write", "Microsoft.Compute/virtualMachines/start/action")

_API_VERSION = {"virtualmachines": "2024-11-01", "resourcegroups": "2021-04-01"}


@dataclass(frozen=True)
class ArmAnswer:
    """What Resource Manager said to somebody."""

    status: int
    body: Json | None


class _Identity(identity.ManagedIdentity):
    """Knows the address at which Resource Manager is served here, as the tenant of another cloud knows that cloud's."""

    arm_url = ""

    def answer(self, query: Mapping[str, str], headers: Mapping[str, str]) -> identity.Answer:
        if self.arm_url and query.get("resource", "").rstrip("/") == self.arm_url:
            query = {**query, "resource": identity.ARM}
        return super().answer(query, headers)


class Embedded:
    """`async with Embedded(speed=60) as embedded:` - everything runs, and ends with the block.

    `speed` is the one factor of Azure's time: durations, Resource Graph's lag, the refill of quotas, Event Grid's
    retries. A running Azurite may be given (it is left running): a fresh account of it is used.
    """

    def __init__(
        self,
        speed: float = 1.0,
        *,
        timings: Timings | None = None,
        limits: Limits | None = None,
        tls: Tls | None = None,
        azurite: Azurite | None = None,
        port: int = 0,
        seed: int = 0,
    ) -> None:
        self.tls = tls or Tls.create()
        self.azure = Azure(
            lambda: datetime.now(UTC),
            (timings or Timings()).scaled(speed),
            (limits or Limits()).scaled(speed),
            seed,
        )
        self.event_grid = EventGrid(self.azure, speed, self.tls.client_context(), seed=seed)
        self.identity = _Identity()
        self.arm_url = ""
        self.account: StorageAccount
        self._azurite = azurite
        self._port = port
        self._stack = AsyncExitStack()
        self._identity_settings: dict[str, str] = {}
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> Embedded:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        self.tls.trust_in_this_process()
        azurite = self._azurite if self._azurite else await enter(Azurite(self.tls))
        self.account = azurite.fresh_account()
        await self._create_storage()
        self._identity_settings = await enter(identity.serve(self.identity))
        self.arm_url = await enter(server.serve(self.azure, self.tls, port=self._port))
        self.identity.arm_url = self.arm_url
        connector = aiohttp.TCPConnector(limit=32, ssl=self.tls.client_context())
        self._http = await enter(aiohttp.ClientSession(connector=connector))
        await enter(self.event_grid)

    async def _create_storage(self) -> None:
        credential = identity.StaticCredential()
        for name in QUEUES:
            async with QueueClient(self.account.queue_url, name, credential=credential) as queue:
                await queue.create_queue()
        for name in TABLES:
            async with TableClient(self.account.table_url, name, credential=credential) as table:
                await table.create_table()

    # -- what a deployment gives

    def settings(self, **changes: str) -> dict[str, str]:
        """The app settings. What is not changed here is the app's own default."""
        return {
            **self._identity_settings,
            **self.tls.settings(),
            **self.account.settings(client_id=identity.CLIENT_ID),
            "ARM_ENDPOINT": self.arm_url,
            "RECONCILE_SCHEDULE": "0 */5 * * * *",
            **changes,
        }

    async def host(self, settings: Mapping[str, str] | None = None, **options: Any) -> FunctionsHost:
        """A started host of the app; stopped at the end, unless it was stopped or killed before."""
        host = FunctionsHost(APP_FOLDER, self.settings() if settings is None else settings, tls=self.tls, **options)
        return await self._stack.enter_async_context(host)

    async def subscribe(
        self, host: FunctionsHost, schema: Schema = "EventGridSchema", filters: tuple[Filter, ...] = ()
    ) -> EventSubscription:
        """The event subscription of a deployment, with its handshake. `filters` take away from it."""
        subscription = EventSubscription(
            "image-patcher",
            webhook_url(host),
            included_event_types=EVENT_TYPES,
            operation_names=OPERATION_NAMES,
            filters=filters,
            schema=schema,
        )
        await self.event_grid.subscribe(subscription)
        return subscription

    # -- what people do

    async def arm(self, method: str, path: str, body: Json | None = None) -> ArmAnswer:
        """Somebody with every right calls Resource Manager. Nothing is raised for a refusal."""
        names = path.lower().split("/")
        version = next((each for name, each in _API_VERSION.items() if name in names[-3:]), "2024-11-01")
        headers = {"Authorization": f"Bearer {identity.mint(identity.ARM, client_id=_SOMEBODY)}"}
        url, query = f"{self.arm_url}{path}", {"api-version": version}
        async with self._http.request(method, url, params=query, json=body, headers=headers) as answer:
            text = await answer.text()
            return ArmAnswer(answer.status, json.loads(text) if text else None)


_SOMEBODY = "00000000-0000-0000-0000-0000000c0ffe"


def webhook_url(host: FunctionsHost, function: str = EVENT_FUNCTION) -> str:
    """Where Event Grid delivers, with the host's key."""
    return f"{host.event_url}?functionName={function}&code={host.system_key}"
