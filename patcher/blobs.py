"""The names of a container's blobs: how many there are, and when the newest was written. Reads, and nothing else.

The app has no need of the blob SDK. This is one call: List Blobs (learn.microsoft.com, Blob service REST API).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from functions.cloud.session import Session

if TYPE_CHECKING:
    from azure.core import AsyncPipelineClient
    from azure.core.rest import AsyncHttpResponse, HttpRequest

VERSION = "2021-12-02"
AUDIENCE = "https://storage.azure.com/.default"
MAX_BLOBS = 1000  # blobs of the one page that is read


@dataclass(frozen=True)
class Blobs:
    """`newest`: None where there is no blob. `more`: there are more than were counted."""

    count: int
    newest: datetime | None
    more: bool


async def listed(session: Session, endpoint: str, container: str) -> Blobs:
    """Raises the exceptions of functions/cloud/errors.py."""
    from azure.core.rest import HttpRequest

    query = {"restype": "container", "comp": "list", "maxresults": str(MAX_BLOBS)}
    client = _client(session, endpoint)
    async with session.call(f"listing the blobs of container {container}"):
        request = HttpRequest("GET", f"{endpoint}/{container}", params=query, headers={"x-ms-version": VERSION})
        answer = await client.send_request(request)
        answer.raise_for_status()
        return read(answer.text())


def read(text: str) -> Blobs:
    """A page of List Blobs. What is written in a blob's name is escaped there."""
    times = [parsedate_to_datetime(each) for each in re.findall(r"<Last-Modified>([^<]+)</Last-Modified>", text)]
    return Blobs(text.count("<Blob>"), max(times, default=None), more="</NextMarker>" in text)


def _client(session: Session, endpoint: str) -> AsyncPipelineClient[HttpRequest, AsyncHttpResponse]:
    """On the session's connections, which it closes."""
    from azure.core import AsyncPipelineClient
    from azure.core.pipeline import policies as sdk

    return AsyncPipelineClient(
        endpoint,
        policies=[
            sdk.UserAgentPolicy("image-patcher-cli"),
            sdk.AsyncRetryPolicy(retry_total=2),
            sdk.AsyncBearerTokenCredentialPolicy(session.credential, AUDIENCE),
        ],
        transport=session.transport,
    )
