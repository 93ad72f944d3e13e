"""A deployed deployment: its storage in Azurite, its rights in the simulated Azure, its event subscriptions.

It holds what the templates declare and nothing else. What the platform adds is one short list, PLATFORM.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol

import aiohttp

from simulator.behaviour import Grant
from simulator.deployment import events, plan, roles, storage
from simulator.deployment.errors import DeploymentError, refused
from simulator.deployment.events import DeadLetter, PlannedSubscription
from simulator.deployment.plan import Plan, Principal
from simulator.deployment.snapshots import Snapshots
from simulator.event_grid.subscriptions import DeadLetterSink, EventSubscription, QueueSink
from simulator.functions_host import FunctionState
from simulator.storage.azurite import StorageAccount
from simulator.tls import Tls
from simulator.wire import Json

APP_FOLDER = Path(__file__).parents[2]
PACKAGE = "released-package.zip"  # as Flex Consumption names it
# The settings that the platform adds to those of the deployment, and the reason.
PLATFORM: Mapping[str, str] = {
    "IDENTITY_ENDPOINT": "App Service, where an app has an identity",
    "IDENTITY_HEADER": "the same",
    "SSL_CERT_FILE": "the simulator's certificates; a real machine already trusts Azure's",
    "ARM_ENDPOINT": "the simulator is not management.azure.com",
    "ARM_ENDPOINT_ALLOW": "nor any other of Azure's clouds",
}


class EventReceiver(Protocol):
    """What receives the events of the app: a Functions host, or what stands before several."""

    @property
    def event_url(self) -> str: ...
    @property
    def system_key(self) -> str: ...
    @property
    def functions(self) -> Mapping[str, FunctionState]: ...


@dataclass
class Deployed:
    """One deployment while it exists."""

    plan: Plan
    account: StorageAccount
    closed: list[storage.ClosedService]
    session: aiohttp.ClientSession
    data_uses: set[roles.Use]
    closed_site: str = ""  # where Event Grid's calls go if the site does not admit them
    subscribed: list[EventSubscription] = field(default_factory=list)

    @property
    def grants(self) -> list[Grant]:
        """What the identities of the deployment were assigned."""
        return list(roles.grants(self.plan.assignments, {each: client for client, each in self.principals.items()}))

    @property
    def principals(self) -> dict[str, str]:
        """Object id by client id, of every identity. A topic's has no client id, so its object id stands for it."""
        return {each.client_id or each.object_id: each.object_id for each in self.plan.principals.values()}

    @property
    def identities(self) -> dict[str, str]:
        """Object id by client id, of the app's identity."""
        mine = self.plan.site.identity
        return {mine.client_id: mine.object_id}

    async def publish(self) -> None:
        """Uploads the code to the package container, from which the platform fetches it by the app's identity.

        The host then runs the code of this checkout. Raises DeploymentError.
        """
        name = self.plan.site.package_container
        if name not in self.plan.account.names["container"]:
            raise DeploymentError(f"the container {name}, where the package belongs, is not deployed")
        url = f"{self.account.blob_url}/{name}/{PACKAGE}"
        await storage.call(self.session, "PUT", url, content=_package())
        if not self._may(self.plan.site.identity, roles.READ_BLOB, _container(self.plan.account.id, name)):
            raise DeploymentError(f"the app's identity may not read its package in the container {name}")
        await storage.call(self.session, "GET", url)

    def refusal(self, connection_string: str, authentication: str) -> str:
        """Why Application Insights refuses this host (functions_host.telemetry.Ingestion)."""
        component, mine = self.plan.component, self.plan.site.identity
        if connection_string != component.connection_string:
            return "APPLICATIONINSIGHTS_CONNECTION_STRING is not the component's"
        if not authentication and component.takes_keys:
            return ""
        parts = dict(each.partition("=")[::2] for each in authentication.split(";"))
        if parts != {"ClientId": mine.client_id, "Authorization": "AAD"}:
            return "APPLICATIONINSIGHTS_AUTHENTICATION_STRING does not name the app's identity, and keys are not taken"
        allowed = self._may(mine, roles.WRITE_TELEMETRY, component.id)
        return "" if allowed else "the app's identity lacks Monitoring Metrics Publisher on the component"

    def subscriptions_to(self, host: EventReceiver) -> list[EventSubscription]:
        """The event subscriptions, with this host as their endpoint. As in Azure, the code must be published before.

        Raises DeploymentError.
        """
        self.subscribed = [self._subscription(each, host) for each in self.plan.subscriptions]
        return self.subscribed

    def _subscription(self, each: PlannedSubscription, host: EventReceiver) -> EventSubscription:
        to_queue = isinstance(each.destination, events.Queue)
        return EventSubscription(
            each.name,
            "" if isinstance(each.destination, events.Queue) else self._endpoint(each.name, each.destination, host),
            endpoint_type="StorageQueue" if to_queue else "AzureFunction",
            queue=self._queue(each, each.destination) if isinstance(each.destination, events.Queue) else None,
            topic=each.topic.source,
            included_event_types=each.included_event_types,
            filters=each.filters,
            subject_begins_with=each.subject_begins_with,
            subject_ends_with=each.subject_ends_with,
            subject_case_sensitive=each.subject_case_sensitive,
            schema=each.schema,
            max_events_per_batch=each.max_events_per_batch,
            max_attempts=each.max_attempts,
            ttl_minutes=each.ttl_minutes,
            dead_letter=self._sink(each, each.dead_letter) if each.dead_letter else None,
            handshake=False,
        )

    def _endpoint(self, name: str, destination: events.Function, host: EventReceiver) -> str:
        """Event Grid fetches a function's key itself and needs no handshake."""
        function = host.functions.get(destination.name)
        if destination.site_id.lower() != self.plan.site.id.lower() or function is None:
            raise refused(name, "Endpoint validation", f"the app has no function {destination.name}")
        if function.binding != "eventGridTrigger":
            raise refused(name, "Endpoint validation", f"{destination.name} is not an Event Grid function")
        return f"{self.closed_site or host.event_url}?functionName={destination.name}&code={host.system_key}"

    def _queue(self, each: PlannedSubscription, where: events.Queue) -> QueueSink:
        account = self.plan.account
        if where.account_id.lower() != account.id.lower() or where.name not in account.names["queue"]:
            raise refused(each.name, "InvalidRequest", f"the queue {where.name} is not deployed")
        topic = self.plan.principals[each.topic.id.lower()]

        async def send(event: Json) -> int:
            """The status of the queue service. Event Grid is a trusted service of an account that is not public."""
            admitted = account.public or account.trusts_azure
            if not (admitted and self._may(topic, roles.ADD_MESSAGE, _queue_id(account.id, where.name))):
                return 403
            return await storage.send_message(
                self.account, where.name, json.dumps(event), ttl_seconds=where.ttl_seconds
            )

        return send

    def _sink(self, each: PlannedSubscription, where: DeadLetter) -> DeadLetterSink:
        account = self.plan.account
        if where.account_id.lower() != account.id.lower() or where.container not in account.names["container"]:
            why = f"the container {where.container} for dead letters is not deployed"
            raise refused(each.name, "InvalidRequest", why)
        topic = self.plan.principals[each.topic.id.lower()]

        async def write(dead_letter: Json) -> bool:
            admitted = account.public or account.trusts_azure
            if not (admitted and self._may(topic, roles.WRITE_BLOB, _container(account.id, where.container))):
                return False
            await self._write_dead_letter(each.name, where.container, dead_letter)
            return True

        return write

    async def _write_dead_letter(self, subscription: str, container: str, dead_letter: Json) -> None:
        url = storage.dead_letter_url(f"{self.account.blob_url}/{container}", subscription, datetime.now(UTC))
        await storage.call(self.session, "PUT", url, content=json.dumps([dead_letter]).encode())

    def _may(self, who: Principal, action: str, scope: str) -> bool:
        allowed = self.plan.may(who, action, scope)
        if allowed:
            self.data_uses.add(roles.Use(who.object_id, action, scope))
        return allowed


@asynccontextmanager
async def deploy(snapshots: Snapshots, account: StorageAccount, tls: Tls) -> AsyncIterator[Deployed]:
    """Creates the resources. The code (`publish`) and then the events (`subscriptions_to`) follow."""
    addresses: dict[storage.Service, str] = {
        "blob": account.blob_url,
        "queue": account.queue_url,
        "table": account.table_url,
    }
    first = plan.read(snapshots, addresses)
    async with AsyncExitStack() as stack:
        closed: list[storage.ClosedService] = []
        uses: set[roles.Use] = set()
        for service in storage.SERVICES:
            if code := _refusal_code(first, service, uses):
                closed.append(storage.ClosedService(service, code))
                base = await stack.enter_async_context(storage.serve_closed(closed[-1], tls))
                addresses[service] = f"{base}/{account.name}"
        connector = aiohttp.TCPConnector(ssl=tls.client_context())
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        await storage.create(first.account, account, session)
        deployed = Deployed(plan.read(snapshots, addresses), account, closed=closed, session=session, data_uses=uses)
        if not first.site.admits_event_grid:
            closed.append(storage.ClosedService("site", "Ip Forbidden"))
            deployed.closed_site = await stack.enter_async_context(storage.serve_closed(closed[-1], tls))
        yield deployed


def _refusal_code(first: Plan, service: storage.Service, uses: set[roles.Use]) -> str:
    """The error code with which a service refuses the app's identity; empty if it admits it."""
    who, scope = first.site.identity, first.account.id
    if not first.account.reachable(service, from_network=first.site.in_network):
        return "AuthorizationFailure"
    if not all(first.may(who, action, scope) for action in storage.NEEDS[service]):
        return "AuthorizationPermissionMismatch"
    uses |= {roles.Use(who.object_id, action, scope) for action in storage.NEEDS[service]}
    return ""


def _container(account_id: str, name: str) -> str:
    return f"{account_id}/blobServices/default/containers/{name}"


def _queue_id(account_id: str, name: str) -> str:
    return f"{account_id}/queueServices/default/queues/{name}"


@cache  # every deployment of a process is of the same code
def _package() -> bytes:
    """The app as it is published: only what the Functions host needs."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as package:
        for name in ("host.json", "function_app.py", "requirements.txt"):
            package.write(APP_FOLDER / name, name)
        for path in sorted((APP_FOLDER / "functions").rglob("*")):
            if path.suffix in (".py", ".kql"):
                package.write(path, path.relative_to(APP_FOLDER))
    return content.getvalue()
