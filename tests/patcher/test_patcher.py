"""The operator's tool, run as a person runs it, against the simulator over TLS.

Factors: the command; with and without a terminal; tables or JSON; what is asked can be meant or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.patcher.stage import Stage, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


# words → what must be on the screen
SHOWN = {
    "status": ("status", ["PATCH_MODE install", "waiting-for-window", "busy-01", "installation", "off-01"]),
    "rollouts": ("rollout list", ["web/1.4.0", "1/1 ✓", "ring untagged"]),
    "breakers": ("breaker list", ["api/1.4.0", "3 of 4 failed", "closed=20261125T081500"]),
}


@pytest.mark.parametrize(("words", "expected"), SHOWN.values(), ids=SHOWN)
async def test_what_a_command_shows(stage: Stage, words: str, expected: list[str]) -> None:
    ended = await stage.patcher(*words.split())
    assert (ended.code, ended.err) == (0, "")
    for text in expected:
        assert text in ended.out
