"""What stands before the instances of a function app: one address, and behind it whichever instances live.

Event Grid knows this address only. A request that finds no instance, or whose instance dies under it, is answered as
Azure's front ends answer then (503 and 502), and Event Grid delivers it again.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from simulator import serving
from simulator.functions_host import FunctionState
from simulator.functions_host.process import HostProcess
from simulator.functions_host.webhook import PATH
from simulator.tls import Tls

EVENT_FUNCTION = "on_machine_written"


class FrontEnd:
    """For the deployment it looks like an instance: it has the app's address, key and functions."""

    def __init__(self) -> None:
        self.url = ""
        self.system_key = secrets.token_urlsafe(24)
        self.functions = {EVENT_FUNCTION: FunctionState(EVENT_FUNCTION, "eventGridTrigger")}
        self.instances: list[HostProcess] = []
        self._turn = itertools.count()

    @property
    def event_url(self) -> str:
        return f"{self.url}{PATH}"

    @asynccontextmanager
    async def open(self, tls: Tls) -> AsyncIterator[FrontEnd]:
        """Serves while open."""
        app = web.Application()
        connector = aiohttp.TCPConnector(ssl=tls.client_context(), force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def forward(request: web.Request) -> web.Response:
                return await self._forward(session, request)

            app.router.add_route("*", "/{path:.*}", forward)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server_context()).start()
                self.url = f"https://localhost:{runner.addresses[0][1]}"
                yield self
            finally:
                await serving.close(runner)

    async def _forward(self, session: aiohttp.ClientSession, request: web.Request) -> web.Response:
        alive = [each for each in self.instances if each.returncode is None]
        if not alive:
            return web.Response(status=503)
        instance = alive[next(self._turn) % len(alive)]
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        try:
            async with session.request(
                request.method, f"{instance.url}{request.path_qs}", headers=headers, data=await request.read()
            ) as answer:
                return web.Response(status=answer.status, body=await answer.read())
        except aiohttp.ClientError:
            return web.Response(status=502)
