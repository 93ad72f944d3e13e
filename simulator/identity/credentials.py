"""Credentials for SDK clients without an identity endpoint: each mints its own tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from azure.core.credentials import AccessToken

from simulator.identity import tokens

# A client keeps its token by the real clock while a test moves the simulated one by weeks.
_ANY_TEST_SECONDS = 20 * 365 * 24 * 3600


class StaticCredential:
    """An AsyncTokenCredential that goes by the real clock.

    Without an audience the token is for the resource of the requested scope. With one it is for that audience whatever
    the client requests, so that a test can provoke a refusal.
    """

    def __init__(
        self,
        audience: str | None = None,
        *,
        lifetime_seconds: int = tokens.LIFETIME_SECONDS,
        client_id: str = tokens.CLIENT_ID,
    ) -> None:
        self._audience = audience
        self._lifetime_seconds = lifetime_seconds
        self._client_id = client_id

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        token = tokens.mint(
            self._audience or _resource(scopes),
            lifetime_seconds=self._lifetime_seconds,
            client_id=self._client_id,
        )
        return AccessToken(token, int(time.time()) + self._lifetime_seconds)

    async def close(self) -> None:
        """Nothing is held open."""

    async def __aenter__(self) -> StaticCredential:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class ClockCredential:
    """An AsyncTokenCredential that goes by a simulated clock. Its tokens stay valid for as long as any test runs."""

    def __init__(self, now: Callable[[], datetime], audience: str | None = None) -> None:
        self._now, self._audience = now, audience

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        token = tokens.mint(
            self._audience or _resource(scopes),
            now_seconds=self._now().timestamp(),
            lifetime_seconds=_ANY_TEST_SECONDS,
        )
        return AccessToken(token, int(time.time()) + tokens.LIFETIME_SECONDS)

    async def close(self) -> None:
        """Nothing is held open."""

    async def __aenter__(self) -> ClockCredential:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _resource(scopes: tuple[str, ...]) -> str:
    return scopes[0].removesuffix("/.default")
