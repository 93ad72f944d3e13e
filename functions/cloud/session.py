"""What all Azure clients of one process share: the credential, the connection pool and a bound on concurrent calls.

The only credential is a managed identity: there is no path for keys or connection strings. One transport and one TLS
context serve every client, because building a TLS context costs many times the CPU of a call (cpython issue 95031).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from functions.cloud.errors import CloudError
from functions.cloud.translation import translate
from functions.policy.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.policies import AsyncHTTPPolicy, SansIOHTTPPolicy
    from azure.core.pipeline.transport import AsyncHttpTransport
    from azure.core.rest import AsyncHttpResponse, HttpRequest

    Transport: TypeAlias = AsyncHttpTransport[HttpRequest, AsyncHttpResponse]
    # `Any`: the SDK's own policies disagree about these parameters.
    Policy: TypeAlias = AsyncHTTPPolicy[Any, Any] | SansIOHTTPPolicy[Any, Any]

# The host runs all events and messages it receives at once; this bounds memory and sockets.
MAX_CONCURRENT_CALLS = 32
CONNECT_SECONDS = 10
READ_SECONDS = 40
STORAGE_SCOPE = "https://storage.azure.com/.default"  # of tables, in every cloud


class ArmOptions(TypedDict):
    """Keyword arguments of the Resource Manager clients."""

    base_url: str
    transport: Transport
    policies: list[Policy]


class StorageOptions(TypedDict):
    """Keyword arguments of the table and queue clients."""

    credential: AsyncTokenCredential
    transport: Transport
    retry_total: int
    permit_redirects: bool


class TopicOptions(TypedDict):
    """Keyword arguments of the client of an Event Grid topic."""

    transport: Transport
    retry_total: int
    permit_redirects: bool


class Session:
    """What the Azure clients share. One per process and event loop.

    `credential` and `transport` replace the managed identity and the aiohttp transport.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], datetime],
        *,
        credential: AsyncTokenCredential | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        self._credential = credential
        self._transport = transport
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_CALLS)
        self.peak_calls = 0
        self._calls = 0
        # Below this level their lines hold URLs and headers.
        for name in ("azure", "aiohttp", "msal"):
            logging.getLogger(name).setLevel(logging.WARNING)

    @property
    def credential(self) -> AsyncTokenCredential:
        if self._credential is None:
            from azure.identity.aio import ManagedIdentityCredential

            self._credential = ManagedIdentityCredential(
                client_id=self.settings.client_id or None, use_env_settings=self.settings.use_proxy
            )
        return self._credential

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            from azure.core.pipeline.transport import AioHttpTransport

            self._transport = AioHttpTransport(
                connection_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                use_env_settings=self.settings.use_proxy,
            )
        return self._transport

    def arm_options(self) -> ArmOptions:
        """Options of the Resource Manager clients."""
        return {
            "base_url": self.settings.arm_endpoint,
            "transport": self.transport,
            "policies": self._send_once_policies(),
        }

    def _send_once_policies(self) -> list[Policy]:
        """The pipeline of a request to Resource Manager, which sends it once.

        The SDK's default pipeline sends a request again after a failure, after a redirect, and after it registered a
        missing resource provider. Here the queue, the sweep and Event Grid retry instead. One repetition stays: a
        request that got a 401 with a claims challenge is sent again with a new token.
        """
        from azure.core.pipeline import policies as sdk
        from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

        return [
            sdk.RequestIdPolicy(),
            sdk.UserAgentPolicy("image-patcher"),
            AsyncARMChallengeAuthenticationPolicy(self.credential, f"{self.settings.arm_audience}/.default"),
        ]

    def storage_options(self) -> StorageOptions:
        """Options of the table and queue clients. Their calls are conditional or safe to repeat: the SDK may retry."""
        return {
            "credential": self.credential,
            "transport": self.transport,
            "retry_total": 2,
            "permit_redirects": False,
        }

    def row_policies(self) -> list[Policy]:
        """The pipeline of a request about rows of a table: the policies of the SDK's that do something here.

        Its own also look for redirects, a second host, hooks, traces and lines of log, in each request.
        """
        from azure.core.pipeline import policies as sdk

        options = self.storage_options()
        return [
            sdk.RequestIdPolicy(),
            sdk.UserAgentPolicy("image-patcher"),
            sdk.AsyncBearerTokenCredentialPolicy(options["credential"], STORAGE_SCOPE),
            sdk.AsyncRetryPolicy(retry_total=options["retry_total"]),
        ]

    def topic_options(self) -> TopicOptions:
        """Options of the client of a topic. It sends once: what failed is sent again by a later sweep."""
        return {"transport": self.transport, "retry_total": 0, "permit_redirects": False}

    @asynccontextmanager
    async def call(self, what: str, *, starts_something: bool = False) -> AsyncIterator[None]:
        """Surrounds every call to Azure: waits for a free slot and translates the SDK's exceptions into ours."""
        async with self._slots:
            self._calls += 1
            self.peak_calls = max(self.peak_calls, self._calls)
            try:
                yield
            except CloudError:
                raise
            except Exception as error:  # noqa: BLE001 - translated here so that no SDK text travels further
                raise translate(error, what, starts_something=starts_something) from None
            finally:
                self._calls -= 1

    async def close(self) -> None:
        """Closes the connections. The clients themselves are never closed: they own nothing else."""
        for part in (self._transport, self._credential):
            if part is not None:
                await part.close()
