"""The simulated Azure with malformed answers, and a watch on every URL that is called.

Which answers are malformed, and how, is a list drawn by hypothesis: so a failing run shrinks to the few that matter.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from simulator.azure import Azure
from simulator.transport import AzureTransport
from simulator.wire import Request, Response
from tests.fuzz.mangling import JUNK, Mutation, mutations
from tests.support.world import World

RETRY_AFTERS = ("0", "-5", "3", "1e9", "00:00:07", "Wed, 25 Nov 2026 08:00:00 GMT", "soon", "", "9" * 400, "\u0661")


RAW = (b"", b"<html>busy</html>", b"\xff\xfe", b"null", b"[]", b"{", b'"text"', b"[" * 20_000, b"9" * 5_000)


class RawResponse(Response):
    """A response whose body is these bytes, JSON or not."""

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else super().content


@dataclass(frozen=True)
class Malformation:
    """What is wrong with one answer: another status, other headers, a mangled body, or no JSON at all."""

    status: int | None = None
    retry_after: str | None = None
    body: Sequence[Mutation] = ()
    raw: bytes | None = None

    def of(self, response: Response) -> Response:
        headers = dict(response.headers)
        if self.retry_after is not None:
            headers["retry-after"] = self.retry_after
        body: Any = response.body
        for mutation in self.body:
            body = mutation.of(body)
        raw = self.raw if self.raw is not None else _bytes(body)
        headers["content-length"] = str(len(raw))
        return RawResponse(response.status if self.status is None else self.status, raw, headers)  # type: ignore[arg-type]


def _bytes(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body).encode("utf-8", "replace")


statuses = st.sampled_from([200, 201, 202, 204, 301, 400, 401, 403, 404, 408, 409, 412, 418, 429, 500, 502, 503, 504])
malformations = st.one_of(
    st.builds(Malformation, body=st.lists(mutations, min_size=1, max_size=3)),
    st.builds(Malformation, body=st.lists(mutations, min_size=1, max_size=3)),
    st.builds(Malformation, status=statuses, retry_after=st.one_of(st.none(), st.sampled_from(RETRY_AFTERS))),
    st.builds(
        Malformation, status=statuses, body=st.builds(lambda junk: [Mutation(0, "put", junk)], st.sampled_from(JUNK))
    ),
    st.builds(Malformation, raw=st.sampled_from(RAW)),
    st.builds(Malformation, status=statuses, raw=st.sampled_from(RAW)),
)


@dataclass
class WatchedAzure:
    """Puts itself between a world's clients and its Azure. `calls` are the URLs of every request, as sent."""

    world: World
    wrong: Iterator[Malformation | None]
    only: str  # a piece of the path: answers of other paths stay right
    calls: list[tuple[str, str]] = field(default_factory=list)
    orders: list[tuple[str, Any]] = field(default_factory=list)  # (path, body) of each POST to a machine
    ordered_at: list[datetime] = field(default_factory=list)  # and when
    beside: list[list[str]] = field(default_factory=list)  # and on which machines an installation ran then

    def __post_init__(self) -> None:
        self.world.transport = _Watched(self)
        self.world.services = self.world.connect()

    async def answer(self, azure: Azure, request: Request) -> Response:
        if request.method == "POST" and "/virtualMachines/" in request.path:
            self.orders.append((request.path, json.loads(request.body) if request.body else None))
            self.ordered_at.append(self.world.now)
            self.beside.append(self.world.installing())
        response = await azure.handle(request)
        if self.only not in request.path:
            return response
        wrong = next(self.wrong, None)
        return wrong.of(response) if wrong else response


class _Watched(AzureTransport):
    """The simulator's transport, noting what is called before anything can refuse it."""

    def __init__(self, watched: WatchedAzure) -> None:
        super().__init__(_Between(watched))
        self._watched = watched

    async def send(self, request: Any, **options: Any) -> Any:
        self._watched.calls.append((request.method, request.url))
        return await super().send(request, **options)


class _Between:
    def __init__(self, watched: WatchedAzure) -> None:
        self._watched = watched
        self.hosts = watched.world.azure.hosts

    async def handle(self, request: Request) -> Response:
        return await self._watched.answer(self._watched.world.azure, request)
