"""The managed identity of a function app: tokens, the endpoint that hands them out, and the check at the other side.

The endpoint is App Service's (`IDENTITY_ENDPOINT`, `IDENTITY_HEADER`, api-version 2019-08-01), as
`azure.identity.aio.ManagedIdentityCredential` and the Functions host call it. Its tokens are JWTs with the claims that
Azurite (`--oauth basic`) and Azure Resource Manager look at. They are signed with a key that stands in this file:
they prove nothing outside the simulator, and never try to.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from azure.core.credentials import AccessToken

STORAGE = "https://storage.azure.com"
ARM = "https://management.azure.com/"
EVENT_GRID = "https://eventgrid.azure.net"

TENANT_ID = "00000000-0000-0000-0000-00000000a11e"
CLIENT_ID = "00000000-0000-0000-0000-0000000c11e7"
PRINCIPAL_ID = "00000000-0000-0000-0000-0000000b0b01"
SOMEBODY = "00000000-0000-0000-0000-0000000c0ffe"  # the client id of a person with every right

API_VERSION = "2019-08-01"
PATH = "/msi/token"

_LIFETIME_SECONDS = 24 * 3600  # managed identity tokens live a day
_CLOCK_SKEW_SECONDS = 300
_SIGNING_KEY = b"the simulator's key; worth nothing anywhere else"


class TokenRefused(Exception):
    """The token is missing, malformed, not ours, too old, or meant for somebody else. The text says which."""


def mint(
    audience: str,
    *,
    now_seconds: float | None = None,
    lifetime_seconds: int = _LIFETIME_SECONDS,
    client_id: str = CLIENT_ID,
    principal_id: str = PRINCIPAL_ID,
    tenant_id: str = TENANT_ID,
) -> str:
    """A bearer token for `audience`."""
    issued = int(time.time() if now_seconds is None else now_seconds)
    claims = {
        "aud": audience,
        "iss": f"https://sts.windows.net/{tenant_id}/",
        "iat": issued,
        "nbf": issued - _CLOCK_SKEW_SECONDS,
        "exp": issued + lifetime_seconds,
        "appid": client_id,
        "oid": principal_id,
        "sub": principal_id,
        "tid": tenant_id,
        "ver": "1.0",
    }
    signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return f"{signed}.{_signature(signed)}"


def check(token: str, audience: str, *, now_seconds: float | None = None) -> dict[str, Any]:
    """The token's claims, if a server for `audience` takes it."""
    now = time.time() if now_seconds is None else now_seconds
    claims = _verified_claims(token)
    if not str(claims.get("iss", "")).startswith("https://sts.windows.net/"):
        raise TokenRefused("the issuer is not Entra ID")
    if str(claims.get("aud", "")).rstrip("/") != audience.rstrip("/"):
        raise TokenRefused(f"the audience is {claims.get('aud')}, not {audience}")
    if now < claims["nbf"]:
        raise TokenRefused("the token is not valid yet")
    if now >= claims["exp"]:
        raise TokenRefused("the token is expired")
    return claims


def check_header(authorization: str | None, audience: str, *, now_seconds: float | None = None) -> dict[str, Any]:
    """The same for the value of an Authorization header."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenRefused("no bearer token")
    return check(token.strip(), audience, now_seconds=now_seconds)


def _verified_claims(token: str) -> dict[str, Any]:
    signed, _, signature = token.rpartition(".")
    if signed.count(".") != 1:
        raise TokenRefused("not a JWT")
    if not hmac.compare_digest(signature.encode(), _signature(signed).encode()):
        raise TokenRefused("the signature is not the simulator's")
    try:
        claims = json.loads(_decode(signed.partition(".")[2]))
    except (ValueError, binascii.Error) as error:
        raise TokenRefused("not a JWT") from error
    if not isinstance(claims, dict) or not {"nbf", "exp", "iat"} <= claims.keys():
        raise TokenRefused("a claim of nbf, exp, iat is missing")
    return claims


def _signature(signed: str) -> str:
    return _base64(hmac.new(_SIGNING_KEY, signed.encode(), hashlib.sha256).digest())


def _encode(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Answer:
    """What the endpoint answers: status and JSON body."""

    status: int
    body: dict[str, Any]


@dataclass
class ManagedIdentity:
    """The identity endpoint of one app. `requests` keeps the query of every call, as the world to assert on.

    Left out: certificates (`IDENTITY_SERVER_THUMBPRINT`), identities named by object or resource id, and the older
    api-versions; a request for one of them is answered with 400.
    """

    header: str = field(default_factory=lambda: secrets.token_hex(16))
    identities: Mapping[str, str] = field(default_factory=lambda: {CLIENT_ID: PRINCIPAL_ID})  # client id → object id
    system_assigned: bool = True
    lifetime_seconds: int = _LIFETIME_SECONDS
    clock: Callable[[], float] = time.time
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """The endpoint itself, without a socket. `headers` answers names in any letter case or in lower case."""
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
        audiences = {known.rstrip("/"): known for known in (STORAGE, ARM, EVENT_GRID)}
        audience = audiences.get(resource.rstrip("/"))
        if audience is None:
            return _refusal(400, f"The resource '{resource}' is not known to the tenant.")
        if client_id is None and not self.system_assigned:
            return _refusal(400, "Unable to load the proper Managed Identity.")
        identity = client_id or CLIENT_ID
        if client_id is not None and client_id not in self.identities:
            return _refusal(400, "No User Assigned or Delegated Managed Identity found for specified ClientId.")
        now = self.clock()
        token = mint(
            audience,
            now_seconds=now,
            lifetime_seconds=self.lifetime_seconds,
            client_id=identity,
            principal_id=self.identities.get(identity, PRINCIPAL_ID),
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


def routes(identity: ManagedIdentity) -> list[web.RouteDef]:
    """The endpoint as an aiohttp route, for a server that has others too."""

    async def token(request: web.Request) -> web.Response:
        answer = identity.answer(request.query, request.headers)
        return web.json_response(answer.body, status=answer.status)

    return [web.get(PATH, token)]


def settings(identity: ManagedIdentity, base_url: str) -> dict[str, str]:
    """The two variables App Service gives to an app that has an identity."""
    return {"IDENTITY_ENDPOINT": f"{base_url}{PATH}", "IDENTITY_HEADER": identity.header}


@asynccontextmanager
async def serve(identity: ManagedIdentity) -> AsyncIterator[dict[str, str]]:
    """Serve the endpoint alone, on a free loopback port over plain http as App Service does; gives the settings."""
    app = web.Application()
    app.add_routes(routes(identity))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield settings(identity, f"http://{host}:{port}")
    finally:
        await runner.cleanup()


class StaticCredential:
    """An asynchronous credential that mints its tokens itself: for tests of a client without an identity endpoint.

    Without an audience the token is for the resource of the scope asked for; with one it is for that audience
    whatever is asked, so that a refusal can be tested.
    """

    def __init__(
        self,
        audience: str | None = None,
        *,
        lifetime_seconds: int = _LIFETIME_SECONDS,
        client_id: str = CLIENT_ID,
    ) -> None:
        self._audience = audience
        self._lifetime_seconds = lifetime_seconds
        self._client_id = client_id

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        audience = self._audience or scopes[0].removesuffix("/.default")
        token = mint(audience, lifetime_seconds=self._lifetime_seconds, client_id=self._client_id)
        return AccessToken(token, int(time.time()) + self._lifetime_seconds)

    async def close(self) -> None:
        """Nothing is held open."""

    async def __aenter__(self) -> StaticCredential:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
