"""The door for SDK clients in this process: an azure-core transport that calls the simulated Azure, and a credential.

The clients' pipelines, models and exceptions are the real ones; only the socket is missing. A request to any other host
than Resource Manager's fails as an unknown name would, so a token cannot leave by mistake.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest._http_response_impl_async import AsyncHttpResponseImpl
from azure.core.utils import CaseInsensitiveDict

from simulator import identity
from simulator.wire import ConnectionLost, Request, Response

if TYPE_CHECKING:
    from simulator.azure import Azure

# A client keeps its token by the real clock while a test moves the simulated one by weeks.
_LIFETIME_SECONDS = 20 * 365 * 24 * 3600
_SHOWN_LIFETIME_SECONDS = 24 * 3600


class AzureTransport(AsyncHttpTransport):  # type: ignore[misc] # azure-core ships no types that mypy is told to read
    """Shared by any number of clients; closing one of them closes nothing here."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    async def send(self, request: Any, **_: Any) -> Any:
        parts = urlsplit(request.url)
        if parts.netloc.lower() not in self._azure.hosts or parts.scheme != "https":
            raise ServiceRequestError(f"Cannot connect to host {parts.netloc}")
        try:
            response = await self._azure.handle(_request(request))
        except ConnectionLost as lost:
            raise (ServiceRequestError if lost.when == "before" else ServiceResponseError)(str(lost)) from lost
        answer = _Answer(request, response)
        await answer.read()
        return answer

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> AzureTransport:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def _request(request: Any) -> Request:
    parts = urlsplit(request.url)
    content = getattr(request, "content", None)
    data = content if content is not None else getattr(request, "data", None)
    body = data.encode() if isinstance(data, str) else bytes(data or b"")
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Request(request.method, unquote(parts.path), query, headers, body, parts.netloc.lower(), parts.scheme)


class _Internal:
    """What azure-core's response wants to close."""

    async def close(self) -> None: ...


class _Answer(AsyncHttpResponseImpl):  # type: ignore[misc] # as above
    """A response as the SDK's own transports make it."""

    def __init__(self, request: Any, response: Response) -> None:
        headers = CaseInsensitiveDict(dict(response.headers))
        super().__init__(
            request=request,
            internal_response=_Internal(),
            status_code=response.status,
            reason="",
            content_type=headers.get("content-type"),
            headers=headers,
            stream_download_generator=lambda **_: _chunks(response.content),
        )


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content


class Credential:
    """An AsyncTokenCredential. Its tokens hold by the simulated clock, and for as long as any test lasts."""

    def __init__(self, now: Callable[[], datetime], audience: str | None = None) -> None:
        self._now, self._audience = now, audience

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken(self.token(*scopes), int(time.time()) + _SHOWN_LIFETIME_SECONDS)

    def token(self, *scopes: str) -> str:
        audience = self._audience or scopes[0].removesuffix("/.default")
        return identity.mint(audience, now_seconds=self._now().timestamp(), lifetime_seconds=_LIFETIME_SECONDS)

    async def close(self) -> None: ...

    async def __aenter__(self) -> Credential:
        return self

    async def __aexit__(self, *_: object) -> None: ...
