"""The way in for SDK clients of this process: an azure-core transport that calls the simulated Azure.

The clients' pipelines, models and exceptions are the real ones; only the socket is missing. A request to another host
than Resource Manager's fails as an unknown name would, so no token can leave this process by mistake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest._http_response_impl_async import AsyncHttpResponseImpl
from azure.core.utils import CaseInsensitiveDict

from simulator.wire import JSON_TYPE, ConnectionLost, Request, Response


class Handler(Protocol):
    """What answers: the simulated Azure, or what a test puts before it."""

    @property
    def hosts(self) -> Collection[str]: ...

    async def handle(self, request: Request) -> Response: ...


class AzureTransport(AsyncHttpTransport[Any, Any]):
    """An azure-core transport that any number of clients may share; a client that closes it closes nothing here."""

    def __init__(self, azure: Handler) -> None:
        self._azure = azure

    async def send(self, request: Any, **_: Any) -> Any:
        parts = urlsplit(request.url)
        if parts.netloc.lower() not in self._azure.hosts or parts.scheme != "https":
            raise ServiceRequestError(f"Cannot connect to host {parts.netloc}")
        try:
            response = await self._azure.handle(_request(request, parts))
        except ConnectionLost as lost:
            raise (ServiceRequestError if lost.when == "before" else ServiceResponseError)(str(lost)) from lost
        answer = SdkResponse(request, response)
        await answer.read()
        return answer

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> AzureTransport:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def _request(request: Any, parts: SplitResult) -> Request:
    content = getattr(request, "content", None)
    data = content if content is not None else getattr(request, "data", None)
    body = data.encode() if isinstance(data, str) else bytes(data or b"")
    headers = {name.lower(): value for name, value in request.headers.items()}
    path, query = unquote(parts.path), _query(parts.query)
    return Request(request.method, path, query, headers, body, parts.netloc.lower(), parts.scheme)


@lru_cache(maxsize=256)  # few differ, but for those of operations: their signature is long, and each is polled often
def _query(text: str) -> Mapping[str, str]:
    return MappingProxyType(dict(parse_qsl(text, keep_blank_values=True)))


class _Connection:
    """What azure-core's response closes when it is read."""

    async def close(self) -> None: ...


class SdkResponse(AsyncHttpResponseImpl):
    """A response as the SDK's own transports make it. Read it before a client gets it."""

    def __init__(self, request: Any, response: Response) -> None:
        headers = CaseInsensitiveDict(dict(response.headers))
        super().__init__(
            request=request,
            internal_response=_Connection(),
            status_code=response.status,
            reason="",
            content_type=headers.get("content-type"),
            headers=headers,
            stream_download_generator=lambda **_: _chunks(response.content),
        )
        if headers.get("content-type") == JSON_TYPE:
            self.encoding = "utf-8"  # as the SDK reads that header, with a parser of mail headers


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
