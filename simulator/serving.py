"""The end of a server: no connection outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from aiohttp import web

HANDSHAKE_SECONDS = 2.0  # a client that left meanwhile says nothing more


async def close(runner: web.AppRunner) -> None:
    """Answer what is under way, then close every connection.

    aiohttp says goodbye on a TLS connection and returns; the socket stays open until the other side has said it too. A
    client that is gone or busy does not, and a loop that ends before would leave the socket to the garbage collector.
    aiohttp does not know of a connection that still shakes hands: that has to end first. Nor does it know the socket
    of one to which it said goodbye earlier, so the loop is asked which there are.
    """
    servers = await stop_listening(runner)
    await _end_handshakes(servers)
    await runner.cleanup()
    for transport in _accepted_by(servers):
        transport.abort()
    await asyncio.sleep(0)  # the sockets close in the loop's next turn


async def stop_listening(runner: web.AppRunner) -> list[asyncio.Server]:
    """Takes no new connection, and leaves the others. Returns the servers, for the end of their connections.

    A connection that was accepted in this turn of the loop joins its server in the next one. If that is closed by then,
    asyncio forgets the connection and leaves its socket open. The sites stay the runner's: with a site that is stopped,
    aiohttp forgets its server.
    """
    servers: list[asyncio.Server] = [server for site in runner.sites if (server := getattr(site, "_server", None))]
    for listening in [each for server in servers for each in server.sockets]:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    await asyncio.sleep(0)
    for server in servers:
        server.close()
    return servers


def _accepted_by(servers: Collection[object]) -> Iterator[asyncio.WriteTransport]:
    """The connections of these servers whose sockets are open. asyncio tells them from Python 3.13 on only."""
    transports = list(getattr(asyncio.get_running_loop(), "_transports", {}).values())
    return (each for each in transports if getattr(each, "_server", None) in servers)


async def _end_handshakes(servers: Collection[object]) -> None:
    """A loop accepts each connection in a task of its own, which ends with the handshake and closes what it cancels."""
    tasks = [task for task in asyncio.all_tasks() if _accepting_server(task) in servers]
    if not tasks:
        return
    _, left = await asyncio.wait(tasks, timeout=HANDSHAKE_SECONDS)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left)


def _accepting_server(task: asyncio.Task[object]) -> object:
    """The server for which a task accepts a connection; None for any other task."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    if frame is None or frame.f_code.co_name != "_accept_connection2":
        return None
    return frame.f_locals.get("server")
