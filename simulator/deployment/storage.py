"""The storage account of a deployment: its containers, queues and tables, created in Azurite, and who has access.

Azurite checks a token's audience and no role. So a service to which the app's identity has no role, or no network path,
gets another address, where every call is refused with Azure's answer. Access is all or nothing per service: a role that
allows only a part of what host and app do there counts as no role.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import aiohttp
from aiohttp import web

from simulator import identity, serving
from simulator.deployment import roles
from simulator.deployment.errors import DeploymentError, refused
from simulator.storage.azurite import StorageAccount
from simulator.tls import Tls
from simulator.wire import Json

Service = Literal["blob", "queue", "table"]
Closable = Literal[Service, "site"]
SERVICES: tuple[Service, ...] = ("blob", "queue", "table")
# What the Functions host and the app do at each service.
NEEDS: Mapping[Service, tuple[str, ...]] = {
    "blob": (roles.READ_BLOB, roles.WRITE_BLOB),
    "queue": (roles.READ_MESSAGE, roles.WRITE_MESSAGE, roles.DELETE_MESSAGE),
    "table": (roles.READ_ENTITY, roles.WRITE_ENTITY, roles.DELETE_ENTITY),
}

_ACCOUNT = "Microsoft.Storage/storageAccounts"
_KINDS: Mapping[str, str] = {
    f"{_ACCOUNT}/blobServices/containers": "container",
    f"{_ACCOUNT}/queueServices/queues": "queue",
    f"{_ACCOUNT}/tableServices/tables": "table",
}
# "Naming and referencing containers", "Naming queues and metadata", "Understanding the table service data model".
_NAME = re.compile(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_TABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")
_API_VERSION = "2021-12-02"


@dataclass(frozen=True)
class Account:
    """A storage account as declared."""

    id: str
    names: Mapping[str, tuple[str, ...]]  # by "container", "queue", "table"
    public: bool  # reachable without a private endpoint
    endpoints: frozenset[str]  # the services that have a private endpoint
    trusts_azure: bool  # admits Event Grid where it is not public

    def reachable(self, service: Service, *, from_network: bool) -> bool:
        return self.public or (from_network and service in self.endpoints)


def read_account(resources: Sequence[Json]) -> Account:
    """The one account of the deployment, its names checked as Azure checks them."""
    found = [each for each in resources if each["type"] == _ACCOUNT]
    if len(found) != 1:
        raise DeploymentError(f"one storage account is simulated, not {len(found)}")
    (account,) = found
    names: dict[str, list[str]] = {kind: [] for kind in _KINDS.values()}
    for resource in resources:
        if resource["type"] in _KINDS:
            _check_name(resource, account)
            names[_KINDS[resource["type"]]].append(resource["name"].rpartition("/")[2])
    properties = account.get("properties", {})
    rules = properties.get("networkAcls", {})
    private = [each for each in resources if each["type"] == "Microsoft.Network/privateEndpoints"]
    return Account(
        account["id"],
        {kind: tuple(each) for kind, each in names.items()},
        properties.get("publicNetworkAccess") != "Disabled" and rules.get("defaultAction") != "Deny",
        frozenset(_private_services(private, account["id"])),
        "AzureServices" in rules.get("bypass", "AzureServices"),
    )


def _check_name(resource: Json, account: Json) -> None:
    kind, name = _KINDS[resource["type"]], resource["name"].rpartition("/")[2]
    if not resource["id"].lower().startswith(f"{account['id']}/".lower()):
        raise refused(resource["name"], "ParentResourceNotFound", "its storage account is not deployed")
    if not (_TABLE_NAME if kind == "table" else _NAME).fullmatch(name):
        raise refused(resource["name"], "InvalidResourceName", f"'{name}' is not a valid name for a {kind}")


def _private_services(endpoints: Sequence[Json], account_id: str) -> set[str]:
    connections = [
        connection["properties"]
        for endpoint in endpoints
        for connection in endpoint["properties"]["privateLinkServiceConnections"]
    ]
    mine = [each for each in connections if each["privateLinkServiceId"].lower() == account_id.lower()]
    return {service for each in mine for service in each["groupIds"]}


# -- in Azurite


async def create(account: Account, storage: StorageAccount, session: aiohttp.ClientSession) -> None:
    """Creates exactly what the deployment names. Resource Manager does this in Azure, so no data role is needed."""
    from azure.data.tables.aio import TableServiceClient
    from azure.storage.queue.aio import QueueServiceClient

    credential = identity.StaticCredential(identity.STORAGE)
    async with QueueServiceClient(storage.queue_url, credential=credential, use_env_settings=False) as queues:
        for name in account.names["queue"]:
            await queues.create_queue(name)
    async with TableServiceClient(endpoint=storage.table_url, credential=credential, use_env_settings=False) as tables:
        for name in account.names["table"]:
            await tables.create_table(name)
    for name in account.names["container"]:
        await call(session, "PUT", f"{storage.blob_url}/{name}?restype=container")


async def send_message(storage: StorageAccount, queue: str, text: str, *, ttl_seconds: int) -> int:
    """One message as Event Grid writes it, in base64. The caller has checked the rights. The status of the answer."""
    from azure.core.exceptions import HttpResponseError
    from azure.storage.queue import TextBase64EncodePolicy
    from azure.storage.queue.aio import QueueClient

    async with QueueClient(
        storage.queue_url,
        queue,
        credential=identity.StaticCredential(identity.STORAGE),
        message_encode_policy=TextBase64EncodePolicy(),
        use_env_settings=False,
        retry_total=0,  # Event Grid has a schedule of its own
    ) as client:
        try:
            await client.send_message(text, time_to_live=ttl_seconds)
        except HttpResponseError as refused_with:
            return refused_with.status_code or 500
    return 201


async def call(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    content: bytes = b"",
    expected: tuple[int, ...] = (200, 201),
) -> bytes:
    """One call to the blob service. The caller has checked the rights."""
    headers = {"Authorization": f"Bearer {identity.mint(identity.STORAGE)}", "x-ms-version": _API_VERSION}
    if content:
        headers["x-ms-blob-type"] = "BlockBlob"
    async with session.request(method, url, headers=headers, data=content or None) as answer:
        body: bytes = await answer.read()
        if answer.status not in expected:
            code = answer.headers.get("x-ms-error-code", "")
            raise DeploymentError(f"{method} {url.partition('?')[0]}: {answer.status} {code}".rstrip())
        return body


def dead_letter_url(container_url: str, subscription: str, now: datetime) -> str:
    """Where Event Grid writes a dead letter (manage-event-delivery.md): upper-case name, date and hour unpadded."""
    hour = f"{now.year}/{now.month}/{now.day}/{now.hour}"
    return f"{container_url}/{subscription.upper()}/{hour}/{uuid.uuid4()}.json"


# -- the address where every call is refused


_REFUSED = "This request is not authorized to perform this operation"
_REFUSALS: Mapping[str, str] = {
    "AuthorizationPermissionMismatch": f"{_REFUSED} using this permission.",
    "AuthorizationFailure": f"{_REFUSED}.",  # the network rules say so
}


@dataclass
class ClosedService:
    """A service that refuses the app's identity, or a site that refuses Event Grid, and the requests to it."""

    service: Closable
    code: str
    requests: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path}")
        if self.service == "site":
            return web.Response(status=403, text=self.code)
        headers, text = {"x-ms-error-code": self.code}, _REFUSALS[self.code]
        if self.service == "table":
            error = {"odata.error": {"code": self.code, "message": {"lang": "en-US", "value": text}}}
            return web.json_response(error, status=403, headers=headers)
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{self.code}</Code><Message>{text}</Message></Error>'
        return web.Response(status=403, text=body, content_type="application/xml", headers=headers)


@asynccontextmanager
async def serve_closed(service: ClosedService, tls: Tls) -> AsyncIterator[str]:
    """Serves it inside the block; gives its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server_context())
        await site.start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await serving.close(runner)
