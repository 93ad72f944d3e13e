"""How every Azure client is made: by managed identity, over one shared connection pool, with bounded work at once.

The clients of one process share one transport and one TLS context: a context of its own for each costs many times the
CPU of a call (docs/performance notes of the SDK: cpython issue 95031). There is no path for keys or connection strings.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from functions.cloud.errors import CloudError
from functions.cloud.translation import translate
from functions.policy.settings import Settings

# The host runs every event and message that comes, all at once; this is what keeps memory and sockets bounded.
CALLS_AT_ONCE = 32


CONNECT_SECONDS = 10


READ_SECONDS = 40


class Session:
    """What the clients share: credential, transport, and the bound on parallel calls. One per event loop."""

    def __init__(
        self, settings: Settings, clock: Callable[[], datetime], *, credential: Any = None, transport: Any = None
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        self._credential = credential
        self._transport = transport
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self.peak_calls = 0
        self._calls = 0
        # Their lines hold URLs and headers; the journal says what happened.
        for name in ("azure", "aiohttp", "msal"):
            logging.getLogger(name).setLevel(logging.WARNING)

    @property
    def credential(self) -> Any:
        if self._credential is None:
            from azure.identity.aio import ManagedIdentityCredential

            client_id = self.settings.client_id
            self._credential = ManagedIdentityCredential(
                **({"client_id": client_id} if client_id else {}), use_env_settings=self.settings.use_proxy
            )
        return self._credential

    @property
    def transport(self) -> Any:
        if self._transport is None:
            from azure.core.pipeline.transport import AioHttpTransport

            self._transport = AioHttpTransport(
                connection_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                use_env_settings=self.settings.use_proxy,
            )
        return _SharedTransport(self._transport)

    def client_options(self) -> dict[str, Any]:
        """Options of the ARM clients."""
        return {
            "transport": self.transport,
            "policies": self._sent_once(),
            "base_url": self.settings.arm_endpoint,
        }

    def _sent_once(self) -> list[Any]:
        """What a request to ARM passes through. The SDK's own list would send it again: after a failure, to wherever an
        answer redirects, and, having registered a resource provider, after a 409. Our retry is the queue's, the
        sweep's and Event Grid's. Only a 401 that asks for a token with other claims is answered with one.
        """
        from azure.core.pipeline import policies as sdk
        from azure.mgmt.core.policies import AsyncARMChallengeAuthenticationPolicy

        return [
            sdk.RequestIdPolicy(),
            sdk.UserAgentPolicy("image-patcher"),
            sdk.ContentDecodePolicy(),
            AsyncARMChallengeAuthenticationPolicy(self.credential, f"{self.settings.arm_endpoint}/.default"),
            sdk.CustomHookPolicy(),
        ]

    def storage_options(self) -> dict[str, Any]:
        """Options of the storage clients. Their calls are conditional or harmless to repeat: a few retries are fine."""
        return {
            "credential": self.credential,
            "transport": self.transport,
            "retry_total": 2,
            "permit_redirects": False,
        }

    @asynccontextmanager
    async def call(self, what: str, *, starts_something: bool = False) -> AsyncIterator[None]:
        """Around every call to the outside: a slot, and the SDK's exception turned into one of ours."""
        async with self._slots:
            self._calls += 1
            self.peak_calls = max(self.peak_calls, self._calls)
            try:
                yield
            except CloudError:
                raise
            except Exception as error:  # noqa: BLE001 - translated here so that no SDK text travels further
                raise translate(error, what, starts_something) from None
            finally:
                self._calls -= 1

    async def close(self) -> None:
        for part in (self._transport, self._credential):
            if part is not None:
                await part.close()


class _SharedTransport:
    """A transport that no client may close: azure-core closes what it was given when a client is closed."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def __aenter__(self) -> "_SharedTransport":
        await self._transport.open()
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def close(self) -> None: ...
