"""The whole of it on this machine: Azure on a TLS port, Azurite, an identity, and a deployment of infra/ on them.

Only this file joins the services, and only it starts the app, in a Functions host. It gives the app what the deployment
gives and nothing more, never reads the app's state, and changes nothing in the world on its own.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from simulator import identity, server
from simulator.azure import Azure, Grant, Limits, SystemTopic, Timings
from simulator.deployment import Deployed, EventReceiver, Snapshots, Usage, deploy
from simulator.event_grid.delivery import EventGrid
from simulator.event_grid.subscriptions import Schema
from simulator.event_grid.topic import PATH, SEND
from simulator.functions_host import FunctionsHost
from simulator.functions_host.instance import Instance
from simulator.storage.azurite import Azurite, StorageAccount
from simulator.tls import Tls
from simulator.wire import Json

APP_FOLDER = Path(__file__).parents[1]
_ALERTS = ("Microsoft.Insights/scheduledQueryRules", "Microsoft.Insights/actionGroups")
_API_VERSION = {
    "virtualmachines": "2024-11-01",
    "machines": "2024-07-10",
    "maintenanceconfigurations": "2023-04-01",
    "resourcegroups": "2021-04-01",
}


@dataclass(frozen=True)
class ArmAnswer:
    """What Resource Manager answered to an operator."""

    status: int
    body: Json | None
    headers: Mapping[str, str]


class Embedded:
    """`async with Embedded(speed=60) as embedded:` runs everything, and ends it with the block.

    `speed` divides all of Azure's times: durations, Resource Graph's lag, the refill of quotas, Event Grid's retries.
    `deployment` is what is deployed, by name or as changed snapshots; with None there is Azure alone, and every caller
    has every right. `azurite` is a running Azurite to share: a fresh account of it is used, and it is left running.
    `clock` is a clock that already goes `speed` times faster: then Azure keeps its durations and goes by that clock.
    """

    def __init__(
        self,
        speed: float = 1.0,
        *,
        deployment: Snapshots | str | None = "default",
        management_groups: Mapping[str, Sequence[str]] | None = None,
        timings: Timings | None = None,
        limits: Limits | None = None,
        tls: Tls | None = None,
        azurite: Azurite | None = None,
        clock: Callable[[], datetime] | None = None,
        port: int = 0,
        seed: int = 0,
    ) -> None:
        self._folder = None if tls else tempfile.TemporaryDirectory(prefix="simulator-tls-")
        self.tls = tls or Tls.create(Path(self._folder.name) if self._folder else None)
        shorter = 1.0 if clock else speed
        self.azure = Azure(
            clock or (lambda: datetime.now(UTC)),
            (timings or Timings()).scaled(shorter),
            limits=(limits or Limits().with_arm()).scaled(shorter),
            seed=seed,
        )
        self.azure.world.management_groups |= {name: list(held) for name, held in (management_groups or {}).items()}
        self.event_grid = EventGrid(self.azure.world, speed, self.tls.client_context(), seed=seed)
        self.identity = identity.ManagedIdentity()
        self.endpoint = ""  # of Resource Manager, once it is served
        self.account: StorageAccount
        self.azurite: Azurite
        self.deployed: Deployed
        self.hosts: list[FunctionsHost] = []
        self.snapshots = Snapshots.read(deployment) if isinstance(deployment, str) else deployment
        self._given_azurite = azurite
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
        # When a real app's process ends, its connections close. Here it is this process, which goes on.
        for session in set(_open_sessions()) - self._open_before:
            await session.close()
        if self._folder:
            self._folder.cleanup()

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        self.tls.trust_in_this_process()
        if self.snapshots is not None:
            await self._deploy(self.snapshots)
        self._identity_settings = await enter(identity.serve(self.identity))
        self.endpoint = await enter(server.serve(self.azure, self.tls, port=self._port))
        self.identity.arm_endpoint = self.endpoint
        connector = aiohttp.TCPConnector(limit=32, ssl=self.tls.client_context())
        self._http = await enter(aiohttp.ClientSession(connector=connector))
        await enter(self.event_grid)

    async def _deploy(self, snapshots: Snapshots) -> None:
        enter = self._stack.enter_async_context
        self.azurite = self._given_azurite if self._given_azurite else await enter(Azurite(self.tls))
        self.account = self.azurite.fresh_account()
        self.deployed = await enter(deploy(snapshots, self.account, self.tls))
        self.azure.grants = [Grant(client_id=identity.OPERATOR), *self.deployed.grants]
        self.identity.identities, self.identity.system_assigned = self.deployed.identities, False
        self.azure.principals = self.deployed.principals
        known = {name: each.object_id for name, each in self.deployed.plan.principals.items()}
        topics = self.deployed.plan.topics
        found = [SystemTopic(each.id, each.source, known.get(key, "")) for key, each in topics.items()]
        self.azure.world.system_topics = found
        self.azure.world.alerts = {each["id"].lower(): each for each in snapshots.resources if each["type"] in _ALERTS}

    # --- what a deployment gives ---

    def platform_settings(self) -> dict[str, str]:
        """What is added to the settings of the deployment (deployment.PLATFORM says why)."""
        return {
            **self._identity_settings,
            **self.tls.settings(),
            "ARM_ENDPOINT": self.endpoint,
            "ARM_ENDPOINT_ALLOW": "custom",
        }

    def settings(self, **changes: str) -> dict[str, str]:
        """The app settings: those of the deployment, of the platform, and `changes`. Others have the app's default."""
        return {**self.deployed.plan.site.settings, **self.platform_settings(), **changes}

    def topic_of_notices(self) -> dict[str, str]:
        """A topic, and what the parameter noticesTopicId of the deployment adds: the right to send, and a setting."""
        group = self.deployed.plan.site.id.partition("/providers/")[0]
        topic = self.azure.create_topic(f"{group}/providers/Microsoft.EventGrid/topics/notices")
        self.event_grid.deliver_from(topic)
        self.azure.grants += [Grant(topic.id, (SEND,), client_id=each) for each in self.deployed.identities]
        return {"PATCH_NOTICES": f"{self.endpoint}{PATH}"}

    async def host(self, settings: Mapping[str, str] | None = None, **options: Any) -> FunctionsHost:
        """A started host of the published app. It is stopped at the end of the block.

        `options` are FunctionsHost's. functionTimeout is not shortened with the host's other times.
        """
        await self._publish()
        return await self._stack.enter_async_context(self._new_host(settings, options))

    async def instance(self, settings: Mapping[str, str] | None = None, **options: Any) -> Instance:
        """The same as the platform runs it: a host that ends itself is started again. `hosts` gets every one."""
        await self._publish()
        return await self._stack.enter_async_context(Instance(lambda: self._new_host(settings, options)))

    async def _publish(self) -> None:
        """The app, before its first host."""
        if not self.hosts:
            await self.deployed.publish()

    def _new_host(self, settings: Mapping[str, str] | None, options: Mapping[str, Any]) -> FunctionsHost:
        options = {"timeout_scale": 1.0, "ingestion": self.deployed, **options}
        host = FunctionsHost(APP_FOLDER, self.settings() if settings is None else settings, tls=self.tls, **options)
        self.hosts.append(host)
        return host

    async def subscribe(self, host: EventReceiver, schema: Schema | None = None, *, handshake: bool = False) -> None:
        """Adds the deployment's event subscriptions, to this host; in another schema if one is named.

        Raises HandshakeFailed where a handshake is asked for and the host does not answer as it must.
        """
        for subscription in self.deployed.subscriptions_to(host):
            chosen = replace(subscription, schema=schema or subscription.schema, handshake=handshake)
            await self.event_grid.subscribe(chosen)
        declared = {each.id: each.declared for each in self.deployed.plan.subscriptions}
        self.azure.world.event_subscriptions = declared

    def usage(self) -> Usage:
        """What is missing and what is unused, up to now."""
        calls = self.azurite.calls(self.account)
        return Usage(self.deployed, self.azure, self.event_grid, tuple(self.hosts), calls)

    # --- what an operator does ---

    async def arm(self, method: str, path: str, body: Json | None = None) -> ArmAnswer:
        """An operator with every right calls Resource Manager. A refusal is an answer, not an exception."""
        names = path.lower().split("/")
        version = next((each for name, each in _API_VERSION.items() if name in names[-3:]), "2024-11-01")
        headers = {"Authorization": f"Bearer {identity.mint(identity.ARM, client_id=identity.OPERATOR)}"}
        url, query = f"{self.endpoint}{path}", {"api-version": version}
        async with self._http.request(method, url, params=query, json=body, headers=headers) as answer:
            text = await answer.text()
            return ArmAnswer(answer.status, json.loads(text) if text else None, answer.headers)


def _open_sessions() -> list[aiohttp.ClientSession]:
    """Each refers to its class. To list every object of the process instead takes six times as long."""
    referrers = gc.get_referrers(aiohttp.ClientSession)
    return [each for each in referrers if type(each) is aiohttp.ClientSession and not each.closed]
