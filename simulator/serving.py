"""The end of a server: no connection outlives it."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def close(runner: web.AppRunner) -> None:
    """Answer what is under way, then close every connection.

    aiohttp says goodbye on a TLS connection and returns; the socket stays open until the other side has said it too. A
    client that is gone or busy does not, and a loop that ends before would leave the socket to the garbage collector.
    """
    server = runner.server
    transports = [each.transport for each in server.connections] if server else []
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0)  # the sockets close in the loop's next turn
