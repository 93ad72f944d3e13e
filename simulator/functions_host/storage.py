"""The host's own access to storage: its identity, queues through the SDK, and the few blob calls a timer needs.

The app does not depend on the blob SDK, so lease, read and write are REST calls here (Azure Storage, "Lease
Blob", "Put Blob", "Get Blob"). Keys and connection strings are not supported.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.queue.aio import QueueClient

from simulator.functions_host.settings import ServiceAddress

_RESOURCE = "https://storage.azure.com/"
_BLOB_VERSION = "2021-12-02"
_REFRESH_SECONDS = 300
_CALL_SECONDS = 30

# The .NET host's storage calls are not the app's log lines: the poll every second stays out of the root logger.
_quiet = logging.getLogger(f"{__name__}.sdk")
_quiet.setLevel(logging.WARNING)


class HostIdentity:
    """Tokens for storage from the app's identity endpoint, requested as the .NET host does."""

    def __init__(self, session: aiohttp.ClientSession, settings: Mapping[str, str], client_id: str | None) -> None:
        self._session = session
        self._settings = settings
        self._client_id = client_id
        self._token: AccessToken | None = None

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """The current token, or a new one shortly before that expires."""
        if self._token is None or self._token.expires_on - time.time() < _REFRESH_SECONDS:
            self._token = await self._ask()
        return self._token

    async def close(self) -> None:
        """The session is the host's."""

    async def __aenter__(self) -> HostIdentity:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def _ask(self) -> AccessToken:
        if not {"IDENTITY_ENDPOINT", "IDENTITY_HEADER"} <= self._settings.keys():
            raise PermissionError("the host has no identity: IDENTITY_ENDPOINT and IDENTITY_HEADER are not set")
        query = {"api-version": "2019-08-01", "resource": _RESOURCE}
        if self._client_id is not None:
            query["client_id"] = self._client_id
        headers = {"X-IDENTITY-HEADER": self._settings["IDENTITY_HEADER"]}
        async with self._session.get(self._settings["IDENTITY_ENDPOINT"], params=query, headers=headers) as answer:
            body = await answer.json()
            if answer.status != 200:
                raise PermissionError(f"the identity endpoint answered {answer.status}: {body.get('message')}")
            return AccessToken(body["access_token"], int(body["expires_on"]))


class Storage:
    """Clients for every account the app's declarations name, over one connection pool."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        context = ssl.create_default_context(cafile=settings.get("SSL_CERT_FILE"))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context), timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS)
        )
        self._identities: dict[str | None, HostIdentity] = {}

    async def close(self) -> None:
        await self._session.close()

    def queue(self, address: ServiceAddress, name: str) -> QueueClient:
        """A queue client without encoding and without the SDK's retries: the listener has its own."""
        return QueueClient(
            address.url,
            queue_name=name,
            credential=self._identity(address),
            transport=AioHttpTransport(session=self._session, session_owner=False),
            retry_total=0,
            logger=_quiet,
        )

    def container(self, address: ServiceAddress, name: str) -> BlobContainer:
        return BlobContainer(self._session, self._identity(address), f"{address.url}/{name}")

    def _identity(self, address: ServiceAddress) -> HostIdentity:
        known = self._identities.get(address.client_id)
        if known is None:
            known = HostIdentity(self._session, self._settings, address.client_id)
            self._identities[address.client_id] = known
        return known


class BlobError(Exception):
    """An answer of the blob service that the caller did not expect."""


@dataclass(frozen=True)
class BlobContainer:
    """One container; blob names are paths inside it."""

    session: aiohttp.ClientSession
    identity: HostIdentity
    url: str

    async def create(self) -> None:
        """Create the container unless it exists."""
        await self._call("PUT", "?restype=container", headers={}, expected=(201, 409))

    async def read(self, blob: str) -> bytes | None:
        """The blob's content; None if it does not exist."""
        status, _, body = await self._call("GET", f"/{blob}", headers={}, expected=(200, 404))
        return body if status == 200 else None

    async def write(self, blob: str, content: bytes) -> None:
        await self._call("PUT", f"/{blob}", headers={"x-ms-blob-type": "BlockBlob"}, content=content, expected=(201,))

    async def create_empty(self, blob: str) -> None:
        """Create an empty blob unless it exists; a leased one exists."""
        headers = {"x-ms-blob-type": "BlockBlob", "If-None-Match": "*"}
        await self._call("PUT", f"/{blob}", headers=headers, expected=(201, 409, 412))

    async def acquire_lease(self, blob: str, seconds: int) -> str | None:
        """The id of a new lease; None while another host holds one."""
        headers = {"x-ms-lease-action": "acquire", "x-ms-lease-duration": str(seconds)}
        status, answer, _ = await self._call("PUT", f"/{blob}?comp=lease", headers=headers, expected=(201, 409))
        return answer["x-ms-lease-id"] if status == 201 else None

    async def renew_lease(self, blob: str, lease_id: str) -> bool:
        """Whether the lease is still ours, for another period."""
        headers = {"x-ms-lease-action": "renew", "x-ms-lease-id": lease_id}
        status, _, _ = await self._call("PUT", f"/{blob}?comp=lease", headers=headers, expected=(200, 404, 409, 412))
        return status == 200

    async def release_lease(self, blob: str, lease_id: str) -> None:
        headers = {"x-ms-lease-action": "release", "x-ms-lease-id": lease_id}
        await self._call("PUT", f"/{blob}?comp=lease", headers=headers, expected=(200, 404, 409, 412))

    async def _call(
        self, method: str, path: str, *, headers: Mapping[str, str], content: bytes = b"", expected: tuple[int, ...]
    ) -> tuple[int, Mapping[str, str], bytes]:
        token = await self.identity.get_token()
        sent = {**headers, "Authorization": f"Bearer {token.token}", "x-ms-version": _BLOB_VERSION}
        async with self.session.request(method, f"{self.url}{path}", headers=sent, data=content) as answer:
            body = await answer.read()
            if answer.status not in expected:
                raise BlobError(f"{method} {path}: {answer.status} {answer.headers.get('x-ms-error-code', '')}")
            return answer.status, answer.headers, body
