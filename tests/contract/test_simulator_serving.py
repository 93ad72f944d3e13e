"""A server's end leaves no connection open, even if a client still holds the other side of it.

Factors: the server; how far its client came. It neither answers nor closes.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from simulator import serving
from simulator.azure import Azure
from simulator.functions_host.webhook import WebServer
from simulator.server import serve
from simulator.tls import Tls
from tests.support import loops

Server = Callable[[Tls], AbstractAsyncContextManager[str]]


def azure(tls: Tls) -> AbstractAsyncContextManager[str]:
    return serve(Azure(lambda: datetime.now(UTC)), tls)


@asynccontextmanager
async def functions_host(tls: Tls) -> AsyncIterator[str]:
    server = WebServer(web.Application(), tls, 0)
    yield await server.start()
    await server.close()


@asynccontextmanager
async def draining_host(tls: Tls) -> AsyncIterator[str]:
    """It takes no new connection for a while before its end."""
    server = WebServer(web.Application(), tls, 0)
    yield await server.start()
    await server.stop_listening()
    await asyncio.sleep(0.01)
    await server.close()


@asynccontextmanager
async def impatient(tls: Tls) -> AsyncIterator[str]:
    """It says goodbye to a client that asks nothing more, before it ends itself."""
    runner = web.AppRunner(web.Application(), keepalive_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server_context()).start()
    yield f"https://localhost:{runner.addresses[0][1]}"
    assert runner.server is not None
    while any(each.transport for each in runner.server.connections):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await serving.close(runner)


def silent_client(url: str, tls: Tls) -> ssl.SSLSocket:
    """It has had one answer, and says nothing more."""
    where = urlsplit(url)
    plain = socket.create_connection((where.hostname, where.port))
    client = tls.client_context().wrap_socket(plain, server_hostname=where.hostname)
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.recv(4) == b"HTTP"
    return client


def client_without_handshake(url: str, tls: Tls) -> socket.socket:
    """It is connected, and never says who it is."""
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port))


@pytest.mark.parametrize("client", [silent_client, client_without_handshake])
@pytest.mark.parametrize("server", [azure, functions_host, draining_host, impatient])
def test_a_client_that_says_no_goodbye_leaves_nothing_open(
    server: Server, client: Callable[[str, Tls], socket.socket], tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "HANDSHAKE_SECONDS", 0.1)

    async def life() -> socket.socket:
        async with server(tls) as url:
            connected = await asyncio.to_thread(client, url, tls)
            await asyncio.sleep(0.01)  # the server accepts it
            return connected

    assert left_open(life()) == []


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("server", [azure, functions_host, draining_host])
def test_a_client_that_comes_at_the_end_leaves_nothing_open(
    server: Server, turns: int, tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`turns` of the loop pass between its coming and the end: it is accepted in one, and served in the next."""
    monkeypatch.setattr(serving, "HANDSHAKE_SECONDS", 0.1)

    async def life() -> socket.socket:
        async with server(tls) as url:
            connected = client_without_handshake(url, tls)  # no turn passes meanwhile
            for _ in range(turns):
                await asyncio.sleep(0)
            return connected

    assert left_open(life()) == []


def left_open(life: Coroutine[None, None, socket.socket]) -> list[str]:
    """What the collector finds after a life that gives the client's side of a connection."""
    plain = asyncio.SelectorEventLoop  # it ends no connection itself, as loops of the tests do
    with loops.left_open() as found, asyncio.Runner(loop_factory=plain) as runner:
        client = runner.run(life)
    client.close()
    return found
