"""Entra ID's part: bearer tokens, and the check that a service makes of one.

The tokens are JWTs with the claims that Azurite (`--oauth basic`) and Azure Resource Manager look at. They are signed
with a key that stands in this file: they prove nothing outside the simulator.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

STORAGE = "https://storage.azure.com"
ARM = "https://management.azure.com/"
EVENT_GRID = "https://eventgrid.azure.net"
MONITOR = "https://monitor.azure.com/"  # the Functions host sends its telemetry with it

TENANT_ID = "00000000-0000-0000-0000-00000000a11e"
CLIENT_ID = "00000000-0000-0000-0000-0000000c11e7"
PRINCIPAL_ID = "00000000-0000-0000-0000-0000000b0b01"
OPERATOR = "00000000-0000-0000-0000-0000000c0ffe"  # the client id of a person who has every right

LIFETIME_SECONDS = 24 * 3600  # a managed identity's token is valid for a day
_CLOCK_SKEW_SECONDS = 300
_SIGNING_KEY = b"the simulator's key; worth nothing anywhere else"


class Caller(NamedTuple):
    """Who sent a token."""

    client_id: str
    object_id: str


class TokenRefused(Exception):
    """The token is missing, malformed, not ours, expired, or meant for another service. The text says which."""


class WrongAudience(TokenRefused):
    """The token is for another service."""

    def __init__(self, audience: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"the audience is {audience}, not {' or '.join(allowed)}")
        self.audience = audience


class WrongTenant(TokenRefused):
    """The token is from another tenant."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"the tenant is {tenant_id}, not {TENANT_ID}")
        self.tenant_id = tenant_id


class Expired(TokenRefused):
    """The token was valid once. `at`: until when, in epoch seconds."""

    def __init__(self, at: float) -> None:
        super().__init__("the token is expired")
        self.at = at


def mint(
    audience: str,
    *,
    now_seconds: float | None = None,
    lifetime_seconds: int = LIFETIME_SECONDS,
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


def app_of(header: str) -> str:
    """The client id in the token of an Authorization header, whatever else it says; "" without one."""
    token = header.partition("Bearer ")[2]
    try:
        return str(_verified_claims(token).get("appid", ""))
    except TokenRefused:
        return ""


def check(token: str, *audiences: str, now_seconds: float | None = None) -> Mapping[str, Any]:
    """The token's claims, if a server that takes these audiences takes it."""
    now = time.time() if now_seconds is None else now_seconds
    claims = _verified_claims(token)
    if not str(claims.get("iss", "")).startswith("https://sts.windows.net/"):
        raise TokenRefused("the issuer is not Entra ID")
    audience = str(claims.get("aud", ""))
    if audience.rstrip("/") not in {each.rstrip("/") for each in audiences}:
        raise WrongAudience(audience, audiences)
    if now < claims["nbf"]:
        raise TokenRefused("the token is not valid yet")
    if now >= claims["exp"]:
        raise Expired(claims["exp"])
    if claims.get("tid") != TENANT_ID:
        raise WrongTenant(str(claims.get("tid")))
    return claims


def check_header(authorization: str | None, *audiences: str, now_seconds: float | None = None) -> Mapping[str, Any]:
    """The same for the value of an Authorization header."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenRefused("no bearer token")
    return check(token.strip(), *audiences, now_seconds=now_seconds)


def caller_of(claims: Mapping[str, Any]) -> Caller:
    return Caller(str(claims.get("appid", "")), str(claims.get("oid", "")))


@lru_cache(maxsize=256)  # a client sends the same token with each of its requests
def _verified_claims(token: str) -> Mapping[str, Any]:
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
    return MappingProxyType(claims)


def _signature(signed: str) -> str:
    return _base64(hmac.new(_SIGNING_KEY, signed.encode(), hashlib.sha256).digest())


def _encode(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
