"""A loop of the tests ends the connections that their owners have closed (tests/support/loops.py), and no other.

Factors: how a client is done with its connection. The server never says goodbye: it stands for one that is busy.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator

import aiohttp
import pytest
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest

from simulator.tls import Tls
from tests.support import loops

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class SilentServer:
    """It reads the request of one client, answers it if it is for /answered, and says nothing more."""

    def __init__(self, tls: Tls) -> None:
        self._read = threading.Event()
        self._context = tls.server_context()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._connection: ssl.SSLSocket
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"https://localhost:{self._listening.getsockname()[1]}{path}"

    async def has_read(self) -> None:
        """Wait until it has the request."""
        await asyncio.to_thread(self._read.wait)

    def close(self) -> None:
        self._thread.join()
        self._connection.close()
        self._listening.close()

    def _serve(self) -> None:
        plain, _ = self._listening.accept()
        self._connection = self._context.wrap_socket(plain, server_side=True)
        if self._connection.recv(65536).startswith(b"GET /answered"):
            self._connection.sendall(ANSWER)
        self._read.set()


@pytest.fixture
def server(tls: Tls) -> Iterator[SilentServer]:
    silent = SilentServer(tls)
    yield silent
    silent.close()


def session_of(tls: Tls) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client_context()))


async def leave(request: Awaitable[object], server: SilentServer) -> None:
    """Cancel it once the server has it."""
    task = asyncio.ensure_future(request)
    await server.has_read()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled(server: SilentServer, tls: Tls) -> None:
    async with session_of(tls) as session:
        await leave(session.get(server.url("/")), server)


async def cancelled_in_the_sdk(server: SilentServer, tls: Tls) -> None:
    async with AioHttpTransport(use_env_settings=False) as transport:
        await leave(transport.send(HttpRequest("GET", server.url("/"))), server)


async def timed_out(server: SilentServer, tls: Tls) -> None:
    async with session_of(tls) as session:
        with pytest.raises(TimeoutError):
            await session.get(server.url("/"), timeout=aiohttp.ClientTimeout(sock_read=0.01))
        await server.has_read()


async def answered(server: SilentServer, tls: Tls) -> None:
    async with session_of(tls) as session, session.get(server.url("/answered")) as answer:
        await answer.read()


def left_open(life: Awaitable[object]) -> list[str]:
    """What the collector finds after the life."""

    async def whole() -> None:
        await life

    with loops.left_open() as found:
        asyncio.run(whole())
    return [each for each in found if "unclosed" in each]


@pytest.mark.parametrize("client", [cancelled, cancelled_in_the_sdk, timed_out, answered])
def test_a_connection_that_its_owner_closed_ends_with_the_loop(
    client: Callable[[SilentServer, Tls], Awaitable[None]], server: SilentServer, tls: Tls
) -> None:
    assert left_open(client(server, tls)) == []


def test_a_connection_that_its_owner_left_open_is_reported(server: SilentServer, tls: Tls) -> None:
    async def forget() -> None:
        loop, port = asyncio.get_running_loop(), int(server.url("").rpartition(":")[2])
        connected, _ = await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", port, ssl=tls.client_context(), server_hostname="localhost"
        )
        connected.write(b"GET / HTTP/1.1\r\n\r\n")
        await server.has_read()

    assert left_open(forget())
