"""A deployment made real: its storage in Azurite, its rights in the simulated Azure, its events on their way.

What the templates say is done and nothing else; what a platform adds by itself is PLATFORM, one short list.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from simulator.behaviour import Grant
from simulator.deployment import plan, roles, storage
from simulator.deployment.errors import DeploymentError, refused
from simulator.deployment.events import DeadLetter, Subscribed
from simulator.deployment.plan import Plan, Principal
from simulator.deployment.snapshots import Snapshots
from simulator.event_grid.subscriptions import EventSubscription
from simulator.functions_host import FunctionsHost
from simulator.storage.azurite import StorageAccount
from simulator.tls import Tls
from simulator.wire import Json

APP_FOLDER = Path(__file__).parents[2]
PACKAGE = "released-package.zip"  # as Flex Consumption names it
# The settings that the platform adds to those of the deployment, and why.
PLATFORM: Mapping[str, str] = {
    "IDENTITY_ENDPOINT": "App Service, where an app has an identity",
    "IDENTITY_HEADER": "the same",
    "SSL_CERT_FILE": "the certificates of the simulator; a real machine trusts Azure's by itself",
    "ARM_ENDPOINT": "the simulator is not management.azure.com",
}

Use = tuple[str, str, str]
"""Who (an object id) did what (a data action) where."""


@dataclass
class Deployed:
    """One deployment while it lives."""

    plan: Plan
    account: StorageAccount
    closed: list[storage.ClosedDoor]
    session: Any
    data_uses: set[Use]
    closed_site: str = ""  # where Event Grid knocks, if the site does not let it in
    subscribed: list[EventSubscription] = field(default_factory=list)

    @property
    def grants(self) -> list[Grant]:
        """The rights of the app's identity at Resource Manager."""
        clients = {each.object_id: each.client_id for each in self.plan.principals.values() if each.client_id}
        return list(roles.grants(self.plan.assignments, clients))

    @property
    def identities(self) -> dict[str, str]:
        """Client id and object id of the identity that the app was given."""
        mine = self.plan.site.identity
        return {mine.client_id: mine.object_id}

    async def publish(self) -> None:
        """The code goes to the package container, and the platform fetches it by the app's identity.

        What then runs is the code of this checkout.
        """
        name = self.plan.site.package_container
        if name not in self.plan.account.names["container"]:
            raise DeploymentError(f"the container {name}, where the package should lie, is not deployed")
        url = f"{self.account.blob_url}/{name}/{PACKAGE}"
        await storage.call(self.session, "PUT", url, _package())
        if not self._may(self.plan.site.identity, roles.READ_BLOB, _container(self.plan.account.id, name)):
            raise DeploymentError(f"the app's identity may not read its package in the container {name}")
        await storage.call(self.session, "GET", url)

    def refusal(self, connection_string: str, authentication: str) -> str:
        """functions_host.telemetry.Ingestion: by what the host was told, and what its identity may."""
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

    def subscriptions_to(self, host: FunctionsHost) -> list[EventSubscription]:
        """The event subscriptions, delivering to this instance of the app. Comes after the code, as in Azure."""
        self.subscribed = [self._subscription(each, host) for each in self.plan.subscriptions]
        return self.subscribed

    def _subscription(self, each: Subscribed, host: FunctionsHost) -> EventSubscription:
        function = host.functions.get(each.function)
        if each.site_id.lower() != self.plan.site.id.lower() or function is None:
            raise refused(each.name, "Endpoint validation", f"the app has no function {each.function}")
        if function.binding != "eventGridTrigger":
            raise refused(each.name, "Endpoint validation", f"{each.function} is no function for events")
        return EventSubscription(
            each.name,
            # Event Grid fetches the key of a function by itself, and shakes no hands with it.
            f"{self.closed_site or host.event_url}?functionName={each.function}&code={host.system_key}",
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

    def _sink(self, each: Subscribed, where: DeadLetter) -> Any:
        account = self.plan.account
        if where.account_id.lower() != account.id.lower() or where.container not in account.names["container"]:
            raise refused(each.name, "InvalidRequest", f"there is no container {where.container} for dead letters")
        topic = self.plan.principals[each.topic.id.lower()]

        async def write(letter: Json) -> bool:
            let_in = account.public or account.trusts_azure
            if not (let_in and self._may(topic, roles.WRITE_BLOB, _container(account.id, where.container))):
                return False
            await self._write_letter(each.name, where.container, letter)
            return True

        return write

    async def _write_letter(self, subscription: str, container: str, letter: Json) -> None:
        url = storage.letter_url(f"{self.account.blob_url}/{container}", subscription, datetime.now(UTC))
        await storage.call(self.session, "PUT", url, json.dumps([letter]).encode())

    def _may(self, who: Principal, action: str, scope: str) -> bool:
        allowed = self.plan.may(who, action, scope)
        if allowed:
            self.data_uses.add((who.object_id, action, scope))
        return allowed


@asynccontextmanager
async def deploy(snapshots: Snapshots, account: StorageAccount, tls: Tls) -> AsyncIterator[Deployed]:
    """The resources; the code and then the events come after it (`publish`, `subscriptions_to`)."""
    addresses: dict[storage.Service, str] = {
        "blob": account.blob_url,
        "queue": account.queue_url,
        "table": account.table_url,
    }
    first = plan.read(snapshots, addresses)
    async with AsyncExitStack() as stack:
        doors: list[storage.ClosedDoor] = []
        uses: set[Use] = set()
        for service in storage.SERVICES:
            if code := _closed(first, service, uses):
                doors.append(storage.ClosedDoor(service, code))
                base = await stack.enter_async_context(storage.closed(doors[-1], tls))
                addresses[service] = f"{base}/{account.name}"
        connector = aiohttp.TCPConnector(ssl=tls.client_context())
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        await storage.make(first.account, account, session)
        deployed = Deployed(plan.read(snapshots, addresses), account, doors, session, uses)
        if not first.site.lets_event_grid_in:
            doors.append(storage.ClosedDoor("site", "Ip Forbidden"))
            deployed.closed_site = await stack.enter_async_context(storage.closed(doors[-1], tls))
        yield deployed


def _closed(first: Plan, service: storage.Service, uses: set[Use]) -> str:
    """Why the app's identity cannot work at a service; empty when it can."""
    who, scope = first.site.identity, first.account.id
    if not first.account.reachable(service, from_network=first.site.in_network):
        return "AuthorizationFailure"
    if not all(first.may(who, action, scope) for action in storage.NEEDS[service]):
        return "AuthorizationPermissionMismatch"
    uses |= {(who.object_id, action, scope) for action in storage.NEEDS[service]}
    return ""


def _container(account_id: str, name: str) -> str:
    return f"{account_id}/blobServices/default/containers/{name}"


def _package() -> bytes:
    """The app, as it is published: what the Functions host needs, and nothing of this checkout besides."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as package:
        for name in ("host.json", "function_app.py", "requirements.txt"):
            package.write(APP_FOLDER / name, name)
        for path in sorted((APP_FOLDER / "functions").rglob("*")):
            if path.suffix in (".py", ".kql"):
                package.write(path, path.relative_to(APP_FOLDER))
    return content.getvalue()
