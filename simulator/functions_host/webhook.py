"""The Event Grid webhook of the host, `/runtime/webhooks/eventgrid`, and the admin call that starts a timer by hand.

Follows Event Grid extension 3.3: one invocation for each element of a request, all at once, and one answer for all of
them. It never retries: Event Grid does.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from simulator import serving
from simulator.functions_host.settings import HttpOptions
from simulator.functions_host.state import HostState
from simulator.functions_host.worker import HostGone
from simulator.tls import Tls

PATH = "/runtime/webhooks/eventgrid"
# The host compares the names of webhooks without letter case, and Event Grid itself writes EventGrid.
_ANY_CASE = "/{webhook:(?i:runtime/webhooks/eventgrid)}"
ADMIN_PATH = "/admin/functions"
_LARGEST_BODY_BYTES = 100 * 1024 * 1024


# Starts the function of this name with one event; gives whether it succeeded.
InvokeEvent = Callable[[str, dict[str, Any]], Awaitable[bool]]


class Unreadable(Exception):
    """The body is neither an event nor an array of events."""


def application(
    state: HostState, options: HttpOptions, *, invoke_event: InvokeEvent, start_timer: Callable[[str], None]
) -> web.Application:
    """The host's web application."""
    app = web.Application(client_max_size=_LARGEST_BODY_BYTES)
    limited = _Limit(options)

    async def event_grid(request: web.Request) -> web.Response:
        if not state.serving:
            return web.Response(status=503, text="Function host is not running.")
        try:
            return await limited.run(lambda: _event_grid(state, invoke_event, request))
        except HostGone:
            return web.Response(status=503)  # no client reads it: the connection is cut

    async def admin(request: web.Request) -> web.Response:
        return _admin(state, start_timer, request)

    app.router.add_route("*", _ANY_CASE, event_grid)
    app.router.add_post(ADMIN_PATH + "/{name}", admin)
    return app


class WebServer:
    """The host's port, from its start to its end."""

    def __init__(self, app: web.Application, tls: Tls | None, port: int) -> None:
        self._port = port
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=3600)
        self._tls = tls

    async def start(self) -> str:
        """Listen on the loopback interface, for port 0 on a free one; gives its URL. Raises OSError."""
        await self._runner.setup()
        context = self._tls.server_context() if self._tls else None
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=context, backlog=1024)
        await site.start()
        return f"{'https' if context else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop_listening(self) -> None:
        """Take no new connection; requests under way go on."""
        await serving.stop_listening(self._runner)

    async def close(self) -> None:
        """Answer what is under way, then close."""
        await serving.close(self._runner)

    def cut_connections(self) -> None:
        """Drop every connection without an answer."""
        server = self._runner.server
        for connection in list(server.connections) if server is not None else []:
            connection.force_close()
            if connection.transport is not None:
                connection.transport.abort()


class _Limit:
    """extensions.http: how many requests run at once, how many more wait, and 429 for the rest."""

    def __init__(self, options: HttpOptions) -> None:
        self._most_outstanding = options.max_outstanding_requests
        self._slots = asyncio.Semaphore(options.max_concurrent_requests) if options.max_concurrent_requests else None
        self._outstanding = 0

    async def run(self, answer: Callable[[], Awaitable[web.Response]]) -> web.Response:
        if self._most_outstanding is not None and self._outstanding >= self._most_outstanding:
            return web.Response(status=429)
        self._outstanding += 1
        try:
            if self._slots is None:
                return await answer()
            async with self._slots:
                return await answer()
        finally:
            self._outstanding -= 1


def _has_key(request: web.Request, key: str) -> bool:
    sent = request.query.get("code") or request.headers.get("x-functions-key") or ""
    return hmac.compare_digest(sent.encode(), key.encode())


async def _event_grid(state: HostState, invoke_event: InvokeEvent, request: web.Request) -> web.Response:
    if not _has_key(request, state.system_key):
        return web.Response(status=401)
    name = request.query.get("functionName", "")
    if not state.event_function(name):
        return web.Response(status=404, text=f"cannot find function: '{name}'")
    if request.method == "OPTIONS":
        origin = request.headers.get("WebHook-Request-Origin", "")
        return web.Response(status=200, headers={"Webhook-Allowed-Origin": origin})
    kind = request.headers.get("aeg-event-type", "").lower()
    if kind == "subscriptionvalidation":
        return _handshake(await request.read())
    if kind == "notification":
        return await _notification(invoke_event, name, await request.read())
    return web.Response(status=202 if kind == "unsubscribe" else 400)


def _handshake(body: bytes) -> web.Response:
    try:
        code = _events(body)[0]["data"]["validationCode"]
    except (Unreadable, LookupError, TypeError):
        return web.Response(status=500)
    return web.json_response({"validationResponse": code}, dumps=lambda value: json.dumps(value, separators=(",", ":")))


async def _notification(invoke_event: InvokeEvent, name: str, body: bytes) -> web.Response:
    try:
        events = _events(body)
    except Unreadable:
        return web.Response(status=500)
    succeeded = await asyncio.gather(*(invoke_event(name, event) for event in events))
    if all(succeeded):
        return web.Response(status=202)
    return web.Response(status=500, text=f"Exception while executing function: Functions.{name}")


def _events(body: bytes) -> list[dict[str, Any]]:
    try:
        content = json.loads(body)
    except ValueError as error:
        raise Unreadable from error
    events = content if isinstance(content, list) else [content]
    if not all(isinstance(event, dict) for event in events):
        raise Unreadable
    return events


def _admin(state: HostState, start_timer: Callable[[str], None], request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if not _has_key(request, state.master_key):
        return web.Response(status=401)
    if not state.serving:
        return web.Response(status=503)
    if not state.timer_function(name):
        return web.Response(status=404)
    start_timer(name)
    return web.Response(status=202)
