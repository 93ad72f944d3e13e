"""The Event Grid webhook of the host, `/runtime/webhooks/eventgrid`, and the admin call that starts a timer by hand.

Follows Event Grid extension 3.3: one invocation for each element of a request, all at once, and one answer for all of
them. It never retries: that is Event Grid's part.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from simulator.functions_host.settings import HttpOptions
from simulator.functions_host.worker import HostGone

PATH = "/runtime/webhooks/eventgrid"
ADMIN_PATH = "/admin/functions"
_LARGEST_BODY_BYTES = 100 * 1024 * 1024


class Target(Protocol):
    """What the web side needs of the host."""

    system_key: str
    master_key: str

    @property
    def serving(self) -> bool: ...
    def event_function(self, name: str) -> bool: ...
    def timer_function(self, name: str) -> bool: ...
    async def invoke_event(self, name: str, event: dict[str, Any]) -> bool: ...
    def start_timer(self, name: str) -> None: ...


class Unreadable(Exception):
    """The body is no event and no array of events."""


def application(target: Target, options: HttpOptions) -> web.Application:
    """The host's web application."""
    app = web.Application(client_max_size=_LARGEST_BODY_BYTES)
    limited = _Limit(options)

    async def event_grid(request: web.Request) -> web.Response:
        if not target.serving:
            return web.Response(status=503, text="Function host is not running.")
        try:
            return await limited.run(lambda: _event_grid(target, request))
        except HostGone:
            return web.Response(status=503)  # nobody reads it: the connection is cut

    async def admin(request: web.Request) -> web.Response:
        return _admin(target, request)

    app.router.add_route("*", PATH, event_grid)
    app.router.add_post(ADMIN_PATH + "/{name}", admin)
    return app


class _Limit:
    """extensions.http: so many requests at once, so many more in line, 429 for the rest."""

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


async def _event_grid(target: Target, request: web.Request) -> web.Response:
    if not _has_key(request, target.system_key):
        return web.Response(status=401)
    name = request.query.get("functionName", "")
    if not target.event_function(name):
        return web.Response(status=404, text=f"cannot find function: '{name}'")
    if request.method == "OPTIONS":
        origin = request.headers.get("WebHook-Request-Origin", "")
        return web.Response(status=200, headers={"Webhook-Allowed-Origin": origin})
    kind = request.headers.get("aeg-event-type", "").lower()
    if kind == "subscriptionvalidation":
        return _handshake(await request.read())
    if kind == "notification":
        return await _notification(target, name, await request.read())
    return web.Response(status=202 if kind == "unsubscribe" else 400)


def _handshake(body: bytes) -> web.Response:
    try:
        code = _events(body)[0]["data"]["validationCode"]
    except (Unreadable, LookupError, TypeError):
        return web.Response(status=500)
    return web.json_response({"validationResponse": code}, dumps=lambda value: json.dumps(value, separators=(",", ":")))


async def _notification(target: Target, name: str, body: bytes) -> web.Response:
    try:
        events = _events(body)
    except Unreadable:
        return web.Response(status=500)
    succeeded = await asyncio.gather(*(target.invoke_event(name, event) for event in events))
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


def _admin(target: Target, request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if not _has_key(request, target.master_key):
        return web.Response(status=401)
    if not target.serving:
        return web.Response(status=503)
    if not target.timer_function(name):
        return web.Response(status=404)
    target.start_timer(name)
    return web.Response(status=202)
