"""What passes between a client and the simulated Azure: requests, responses, refusals, and how Azure writes a time.

Knows nothing of machines or queries, and opens no socket.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property, lru_cache
from typing import Any, Literal

Json = dict[str, Any]
JSON_TYPE = "application/json; charset=utf-8"

# Every answer of Resource Manager carries these (recorded traffic of 2024-11-23).
_STANDARD_HEADERS: Mapping[str, str] = {
    "cache-control": "no-cache",
    "expires": "-1",
    "pragma": "no-cache",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-cache": "CONFIG_NOCACHE",
    "x-content-type-options": "nosniff",
    "x-ms-need-to-refresh-epl-cache": "False",
    "x-msedge-ref": "Ref A: 0 Ref B: 0 Ref C: 0",
}

_COMPACT = json.JSONEncoder(separators=(",", ":"))  # made once: json.dumps makes one for every answer
_VERSION_4 = 0x4000_8000_0000_0000_0000  # version and variant of a random UUID (RFC 9562, 5.4)
_RANDOM_BITS = ~0xF000_C000_0000_0000_0000


@dataclass(frozen=True)
class Request:
    """One HTTP request. Header names in lower case; `query` decoded, the last value of a repeated name counts."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    host: str = "management.azure.com"
    scheme: str = "https"

    def json(self) -> Json:
        """The body as an object. Raises Refused as Resource Manager does."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError:
            raise Refused(
                400, "InvalidRequestContent", "The request content was invalid and could not be parsed."
            ) from None
        if not isinstance(value, dict):
            raise Refused(400, "InvalidRequestContent", "The request content must be a JSON object.")
        return value

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def url(self) -> str:
        """For events: without the query, which may hold a signature; the api-version alone is kept."""
        version = self.query.get("api-version")
        return f"{self.origin}{self.path}" + (f"?api-version={version}" if version else "")


@dataclass(frozen=True)
class Response:
    """One HTTP response. A body of None is an empty one."""

    status: int
    body: Json | list[Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def content(self) -> bytes:
        return b"" if self.body is None else _COMPACT.encode(self.body).encode()

    def with_headers(self, headers: Mapping[str, str]) -> Response:
        """The same answer with these headers; its body is written once."""
        other = Response(self.status, self.body, headers)
        if "content" in vars(self):
            vars(other)["content"] = self.content
        return other


def with_standard_headers(response: Response, request: Request, *, now: datetime, guid: Callable[[], str]) -> Response:
    """The response with the headers that every answer carries; its own win. `guid` gives a new id at every call."""
    date, stamp = _written(now)
    headers = {**_STANDARD_HEADERS, "date": date, **_correlation(request, stamp, guid)}
    answer = replace(response, body=None) if request.method == "HEAD" else response
    length = {"content-length": str(len(answer.content))}
    kind = {"content-type": JSON_TYPE} if answer.content else {}
    return answer.with_headers({**length, **kind, **headers, **response.headers})


@lru_cache(maxsize=256)  # many requests come at one simulated moment
def _written(now: datetime) -> tuple[str, str]:
    """A time as the headers have it: the date, and within an id."""
    utc = now.astimezone(UTC)
    return format_datetime(utc, usegmt=True), f"{utc:%Y%m%dT%H%M%SZ}"


def _correlation(request: Request, stamp: str, guid: Callable[[], str]) -> dict[str, str]:
    """The ids by which a request is found again: the caller's own, where it sends one, is kept."""
    found = {
        "x-ms-request-id": guid(),
        "x-ms-correlation-request-id": request.headers.get("x-ms-correlation-request-id") or guid(),
        "x-ms-routing-request-id": f"WESTUS:{stamp}:{guid()}",
    }
    own = request.headers.get("x-ms-client-request-id")
    if own and request.headers.get("x-ms-return-client-request-id", "").lower() == "true":
        found["x-ms-client-request-id"] = own
    return found


def guid(source: random.Random) -> str:
    """The next UUID of a sequence, of version 4: the text that `uuid` makes of these bits, without its object.

    Every answer has three.
    """
    digits = f"{source.getrandbits(128) & _RANDOM_BITS | _VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Refused(Exception):
    """Azure refuses. `body` is for answers of another form than `{"error": {"code", "message"}}`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Json | None = None,
        target: str = "",
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message
        self.headers = headers or {}
        self._body = body
        self._target = {"target": target} if target else {}

    def response(self) -> Response:
        body = self._body or {"error": {"code": self.code, "message": self.message, **self._target}}
        return Response(self.status, body, self.headers)


class ConnectionLost(Exception):
    """No answer arrived: the connection was refused `before` the server acted, or lost `after` it."""

    def __init__(self, when: Literal["before", "after"]) -> None:
        super().__init__(f"connection lost {when} the server acted")
        self.when = when


@lru_cache(maxsize=4096)  # a fleet is shown again and again
def ticks(at: datetime) -> str:
    """A time as Compute writes it, with seven fraction digits.

    The clock gives microseconds; the seventh digit is invented, but always the same for the same time.
    """
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond:06d}{(at.second + at.microsecond) % 9 + 1}+00:00"


def ticks_z(at: datetime) -> str:
    return ticks(at).replace("+00:00", "Z")


def whole_seconds(at: datetime) -> str:
    """A time as the Windows guest reports it: whole seconds, rounded up (recorded: .65 became the next second)."""
    at = at.astimezone(UTC)
    if at.microsecond:
        at = at.replace(microsecond=0) + timedelta(seconds=1)
    return f"{at:%Y-%m-%dT%H:%M:%S}+00:00"


def milliseconds(at: datetime) -> str:
    """A time as the patch tables of Resource Graph write it."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
