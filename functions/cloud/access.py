"""How every Azure client is made: by managed identity, over one shared connection pool, with bounded work at once.

The clients of one process share one transport and one TLS context: a context of its own for each costs many times the
CPU of a call (docs/performance notes of the SDK: cpython issue 95031). There is no path for keys or connection strings.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from functions.cloud.errors import CloudError, Gone, OutcomeUnknown, Refused, Throttled, Unavailable
from functions.policy import Settings

# The host runs every event and message that comes, all at once; this is what keeps memory and sockets bounded.
CALLS_AT_ONCE = 32
CONNECT_SECONDS = 10
READ_SECONDS = 40
DEFAULT_RETRY_AFTER_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 86_400.0  # whatever a header says

_CODE = re.compile(r"[\w./:-]{1,100}", re.ASCII)
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_HOURS_MINUTES_SECONDS = re.compile(r"([0-9]+):([0-9]+):([0-9]+(?:\.[0-9]+)?)")


class Access:
    """What the doors share: credential, transport, and the bound on calls under way. One per process and event loop."""

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
        return _Shared(self._transport)

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


def translate(error: Exception, what: str, starts_something: bool = False) -> Exception:
    """Our exception for one of azure-core's. Anything else is a programming error and comes back as it is."""
    from azure.core import exceptions as sdk

    if isinstance(error, sdk.ClientAuthenticationError):  # ours to mend, and never the machine's fault
        return Unavailable(f"{what}: no valid token or no right; check the app's managed identity and its roles")
    if isinstance(error, sdk.HttpResponseError) and (error.status_code or 0) >= 400:
        return _answered(error, what, starts_something)
    if isinstance(error, sdk.ServiceRequestError) and (not starts_something or _never_left(error)):
        return Unavailable(f"{what} could not be sent")
    # A success that cannot be read comes as HttpResponseError (DecodeError), as an error of json or of the text's
    # encoding (both ValueErrors), of a number that is none, or of brackets within brackets, thousands deep.
    if isinstance(error, sdk.AzureError | TimeoutError | ValueError | OverflowError | RecursionError):
        return OutcomeUnknown(f"no answer to {what}") if starts_something else Unavailable(f"no answer to {what}")
    return error


def _never_left(error: Any) -> bool:
    """Whether no connection was made. azure-core calls a connection lost after sending a ServiceRequestError too
    (its aiohttp transport maps every ClientError to one), so only aiohttp's own connect errors count."""
    inner = getattr(error, "inner_exception", None)
    names = {base.__name__ for base in type(inner).__mro__}
    return bool(names & {"ClientConnectorError", "ConnectionTimeoutError"})


def _answered(error: Any, what: str, starts_something: bool) -> CloudError:
    status = int(error.status_code)
    codes, message = _details(error)
    code = codes[0]
    if status == 401:
        return Unavailable(f"{what}: the app's token was refused; check its managed identity")
    if status == 429:
        return Throttled(f"{what}: the quota is used up", retry_after_seconds(error.response))
    if status == 404:
        return Gone(f"{what}: not found")
    if status == 408 or status >= 500:
        text = f"{what}: the service answered {status} {code}".rstrip()
        return OutcomeUnknown(text) if starts_something else Unavailable(text)
    return Refused(what, status, codes, "" if status in (401, 403) else message)


def _details(error: Any) -> tuple[list[str], str]:
    """(codes, message), the outer code first, "" where there is none.

    The SDK parses both body shapes of Azure, wrapped and flat, into error.error.
    """
    parsed = getattr(error, "error", None)
    code = _code(getattr(parsed, "code", "")) or _code(getattr(error, "error_code", ""))
    details = getattr(parsed, "details", None)
    codes = [code, *(_code(getattr(detail, "code", "")) for detail in (details if isinstance(details, list) else []))]
    message = getattr(parsed, "message", "")
    return codes, message if isinstance(message, str) else ""


def _code(value: object) -> str:
    """A code of Azure's as it came; "" for what cannot be one: it becomes part of a machine's reason."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


def retry_after_seconds(response: Any) -> float:
    """Retry-After (seconds) or Resource Graph's own header (hh:mm:ss); a minute when neither is given."""
    headers = getattr(response, "headers", None) or {}
    seconds = DEFAULT_RETRY_AFTER_SECONDS
    if match := _SECONDS.fullmatch(str(headers.get("Retry-After") or "")):
        seconds = float(match[0])
    elif match := _HOURS_MINUTES_SECONDS.fullmatch(str(headers.get("x-ms-user-quota-resets-after") or "")):
        seconds = float(match[1]) * 3600 + float(match[2]) * 60 + float(match[3])
    return min(seconds, LONGEST_RETRY_AFTER_SECONDS)


class _Shared:
    """A transport that no client may close: azure-core closes what it was given when a client is closed."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def __aenter__(self) -> "_Shared":
        await self._transport.open()
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def close(self) -> None: ...
