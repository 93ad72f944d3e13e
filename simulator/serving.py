"""The end of a server: no connection outlives it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from aiohttp import web

HANDSHAKE_SECONDS = 2.0  # a client that left meanwhile says nothing more


async def close(runner: web.AppRunner) -> None:
    """Answer what is under way, then close every connection.

    aiohttp says goodbye on a TLS connection and returns; the socket stays open until the other side has said it too. A
    client that is gone or busy does not, and a loop that ends before would leave the socket to the garbage collector.
    aiohttp does not know of a connection that still shakes hands: that has to end first.
    """
    listening = [server for site in runner.sites if (server := getattr(site, "_server", None))]
    for server in listening:
        server.close()
    await _end_handshakes(listening)
    transports = [each.transport for each in runner.server.connections] if runner.server else []
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0)  # the sockets close in the loop's next turn


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
