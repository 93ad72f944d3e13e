"""The whole embedded Azure with everything open to choice, for the demo and for tests of the whole chain.

The same parts, joined the same way, as everything.py joins them for a person; here the Azurite may be shared, durations
and quotas are chosen, any number of Functions hosts come and go, and people call Resource Manager. It gives what a
deployment gives and nothing more: it never looks into the app, and never acts in the world by itself.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from simulator import identity, server
from simulator.azure import Azure, Limits, Timings
from simulator.azurite import Azurite, StorageAccount
from simulator.eventgrid import EventGrid, EventSubscription, Filter, Schema
from simulator.everything import APP_FOLDER, make_storage, subscription_to
from simulator.functions_host import FunctionsHost
from simulator.tls import Tls
from simulator.wire import Json

_SOMEBODY = "00000000-0000-0000-0000-0000000c0ffe"
_API_VERSION = {"virtualmachines": "2024-11-01", "resourcegroups": "2021-04-01"}


@dataclass(frozen=True)
class ArmAnswer:
    """What Resource Manager said to somebody."""

    status: int
    body: Json | None
    headers: Mapping[str, str]


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
        self._folder = None if tls else tempfile.TemporaryDirectory(prefix="simulator-tls-")
        self.tls = tls or Tls.create(Path(self._folder.name) if self._folder else None)
        self.azure = Azure(
            lambda: datetime.now(UTC),
            (timings or Timings()).scaled(speed),
            (limits or Limits()).scaled(speed),
            seed,
        )
        self.event_grid = EventGrid(self.azure, speed, self.tls.client_context(), seed=seed)
        self.identity = server.Identity()
        self.account: StorageAccount
        self._azurite = azurite
        self._port = port
        self._stack = AsyncExitStack()
        self._identity_settings: dict[str, str] = {}
        self._http: aiohttp.ClientSession
        self._open_before: set[aiohttp.ClientSession] = set()

    async def __aenter__(self) -> Embedded:
        self._open_before = set(_open_sessions())
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
        # An app's process that ends closes its connections; here it is this one, and it goes on.
        for session in set(_open_sessions()) - self._open_before:
            await session.close()
        if self._folder:
            self._folder.cleanup()

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        self.tls.trust_in_this_process()
        azurite = self._azurite if self._azurite else await enter(Azurite(self.tls))
        self.account = azurite.fresh_account()
        await make_storage(self.account)
        self._identity_settings = await enter(identity.serve(self.identity))
        self.identity.endpoint = await enter(server.serve(self.azure, self.tls, port=self._port))
        connector = aiohttp.TCPConnector(limit=32, ssl=self.tls.client_context())
        self._http = await enter(aiohttp.ClientSession(connector=connector))
        await enter(self.event_grid)

    # -- what a deployment gives

    def settings(self, **changes: str) -> dict[str, str]:
        """The app settings. What is not changed here is the app's own default."""
        return {
            **self._identity_settings,
            **self.tls.settings(),
            **self.account.settings(client_id=identity.CLIENT_ID),
            "ARM_ENDPOINT": self.identity.endpoint,
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
        subscription = replace(subscription_to(host), filters=filters, schema=schema)
        await self.event_grid.subscribe(subscription)
        return subscription

    # -- what people do

    async def arm(self, method: str, path: str, body: Json | None = None) -> ArmAnswer:
        """Somebody with every right calls Resource Manager. Nothing is raised for a refusal."""
        names = path.lower().split("/")
        version = next((each for name, each in _API_VERSION.items() if name in names[-3:]), "2024-11-01")
        headers = {"Authorization": f"Bearer {identity.mint(identity.ARM, client_id=_SOMEBODY)}"}
        url, query = f"{self.identity.endpoint}{path}", {"api-version": version}
        async with self._http.request(method, url, params=query, json=body, headers=headers) as answer:
            text = await answer.text()
            return ArmAnswer(answer.status, json.loads(text) if text else None, answer.headers)


def _open_sessions() -> list[aiohttp.ClientSession]:
    return [each for each in gc.get_objects() if isinstance(each, aiohttp.ClientSession) and not each.closed]
