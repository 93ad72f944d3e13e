"""The managed identity's endpoint, as App Service gives it to an app.

`IDENTITY_ENDPOINT`, `IDENTITY_HEADER` and api-version 2019-08-01, as `azure.identity.aio.ManagedIdentityCredential` and
the Functions host call it.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from simulator import serving
from simulator.identity import tokens

API_VERSION = "2019-08-01"
_PATH = "/msi/token"


@dataclass(frozen=True)
class Answer:
    """What the endpoint answers: status and JSON body."""

    status: int
    body: dict[str, Any]


@dataclass
class ManagedIdentity:
    """The identity endpoint of one app.

    `identities` maps client ids to object ids. `requests` keeps the query of every call, for tests. `arm_endpoint` is
    Resource Manager's address where it is not the public cloud's: as in a sovereign cloud, a client then requests a
    token for that address.

    Left out: certificates (`IDENTITY_SERVER_THUMBPRINT`), identities named by object or resource id, and the older
    api-versions. The answer to a request for one of them is 400.
    """

    header: str = field(default_factory=lambda: secrets.token_hex(16))
    identities: Mapping[str, str] = field(default_factory=lambda: {tokens.CLIENT_ID: tokens.PRINCIPAL_ID})
    system_assigned: bool = True
    lifetime_seconds: int = tokens.LIFETIME_SECONDS
    clock: Callable[[], float] = time.time
    requests: list[dict[str, str]] = field(default_factory=list)
    arm_endpoint: str = ""

    def answer(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The endpoint itself, without a socket. `headers` has lower-case names, or finds a name in any letter case."""
        if self.arm_endpoint and query.get("resource", "").rstrip("/") == self.arm_endpoint:
            query = {**query, "resource": tokens.ARM}
        self.requests.append(dict(query))
        sent = headers.get("X-IDENTITY-HEADER") or headers.get("x-identity-header")
        if sent is None:
            return _refusal(400, "The X-IDENTITY-HEADER is missing.")
        if not hmac.compare_digest(sent.encode(), self.header.encode()):
            return _refusal(401, "The X-IDENTITY-HEADER is not this app's.")
        if query.get("api-version") != API_VERSION:
            return _refusal(400, f"api-version {query.get('api-version')} is not supported; use {API_VERSION}.")
        unknown = query.keys() - {"api-version", "resource", "client_id"}
        if unknown:
            return _refusal(400, f"Parameter not supported by the simulator: {', '.join(sorted(unknown))}.")
        return self._token(query.get("resource", ""), query.get("client_id"))

    def _token(self, resource: str, client_id: str | None) -> Answer:
        known_resources = (tokens.STORAGE, tokens.ARM, tokens.EVENT_GRID, tokens.MONITOR)
        audiences = {known.rstrip("/"): known for known in known_resources}
        audience = audiences.get(resource.rstrip("/"))
        if audience is None:
            return _refusal(400, f"The resource '{resource}' is not known to the tenant.")
        if client_id is None and not self.system_assigned:
            return _refusal(400, "Unable to load the proper Managed Identity.")
        identity = client_id or tokens.CLIENT_ID
        if client_id is not None and client_id not in self.identities:
            return _refusal(400, "No User Assigned or Delegated Managed Identity found for specified ClientId.")
        now = self.clock()
        token = tokens.mint(
            audience,
            now_seconds=now,
            lifetime_seconds=self.lifetime_seconds,
            client_id=identity,
            principal_id=self.identities.get(identity, tokens.PRINCIPAL_ID),
        )
        body = {
            "access_token": token,
            "expires_on": str(int(now) + self.lifetime_seconds),  # a text with epoch seconds
            "resource": resource,
            "token_type": "Bearer",
            "client_id": identity,
        }
        return Answer(200, body)


def _refusal(status: int, message: str) -> Answer:
    return Answer(status, {"statusCode": status, "message": message})


@asynccontextmanager
async def serve(identity: ManagedIdentity) -> AsyncIterator[dict[str, str]]:
    """Serve the endpoint on a free loopback port, over plain http as App Service does.

    Yields the two variables that App Service gives to an app that has an identity.
    """

    async def token(request: web.Request) -> web.Response:
        answer = identity.answer(request.query, request.headers)
        return web.json_response(answer.body, status=answer.status)

    app = web.Application()
    app.router.add_get(_PATH, token)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield {"IDENTITY_ENDPOINT": f"http://{host}:{port}{_PATH}", "IDENTITY_HEADER": identity.header}
    finally:
        await serving.close(runner)
