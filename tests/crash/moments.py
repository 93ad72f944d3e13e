"""When a host is killed: some time after its start, or at one of its calls to Azure, before or after Azure acts on it.

Chosen by chance from a seed. A call to Azure is where most is at stake, since what Azure did and what the ledger says
may differ then; the moments shortly after an answer fall into what the app writes to its ledger and queues.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from simulator.azure import Azure, Request, Response
from simulator.wire import ConnectionLost

Side = Literal["before", "after", "soon after"]
_SIDES: tuple[Side, ...] = ("before", "after", "soon after")
_POST = r"POST .*/(assessPatches|installPatches)$"
_ANY = r".*"


@dataclass(frozen=True)
class Moment:
    """Of one host's calls to Azure the `count`-th that matches; without a pattern, `seconds` after it listens.

    `seconds` is otherwise how long after the answer, for the side "soon after".
    """

    pattern: str = ""
    count: int = 1
    side: Side = "before"
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.pattern:
            return f"{self.seconds:.2f} s after its start"
        what = "call" if self.pattern == _ANY else "POST"
        return f"{self.side} {what} {self.count}" + (f" (+{self.seconds:.3f} s)" if self.seconds else "")


def choose(chance: random.Random, longest_seconds: float) -> Moment:
    """Half of them at one of its first POSTs, a quarter at any of its calls, a quarter at any time."""
    kind = chance.choice(("time", "call", "POST", "POST"))
    if kind == "time":
        return Moment(seconds=chance.uniform(0.0, longest_seconds))
    side = chance.choice(_SIDES)
    seconds = chance.uniform(0.0, 0.08) if side == "soon after" else 0.0
    if kind == "POST":
        return Moment(_POST, chance.randint(1, 2), side, seconds)
    return Moment(_ANY, chance.randint(1, 40), side, seconds)


class Trap:
    """Lies in wait before Azure for one host, known by its user agent. Only that host's calls are counted."""

    def __init__(self, azure: Azure) -> None:
        self._handle = azure.handle
        azure.handle = self._watch  # type: ignore[method-assign]
        self._moment: Moment | None = None
        self._agent = ""
        self._left = 0
        self._kill: Callable[[], Awaitable[None]] | None = None
        self.sprung = asyncio.Event()

    def lay(self, moment: Moment, agent: str, kill: Callable[[], Awaitable[None]]) -> None:
        self._moment, self._agent, self._left, self._kill = moment, agent, moment.count, kill
        self.sprung = asyncio.Event()

    def take_away(self) -> None:
        self._moment = None

    async def _watch(self, request: Request) -> Response:
        moment, kill = self._moment, self._kill
        if moment is None or kill is None or not self._is_it(moment, request):
            return await self._handle(request)
        self._moment = None
        if moment.side == "soon after":
            asyncio.get_running_loop().create_task(self._later(moment.seconds, kill))
            return await self._handle(request)
        if moment.side == "after":
            await self._handle(request)
        await kill()
        self.sprung.set()
        raise ConnectionLost("after" if moment.side == "after" else "before")  # the caller is gone

    async def _later(self, seconds: float, kill: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(seconds)
        await kill()
        self.sprung.set()

    def _is_it(self, moment: Moment, request: Request) -> bool:
        if self._agent not in request.headers.get("user-agent", ""):
            return False
        if not re.fullmatch(moment.pattern, f"{request.method} {request.path}"):
            return False
        self._left -= 1
        return self._left == 0
