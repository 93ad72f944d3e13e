"""An instance of the plan: a host that ends itself is started again, as the platform does.

A host ends itself when its queue service cannot be reached, or when its identity is not known (recorded on host
4.1037.0). A watcher sees one exception per end, and no line of the app. The next one answers at the same
address with the same keys, so that Event Grid finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from simulator.functions_host.host import FunctionsHost

_WATCH_SECONDS = 0.05


class Instance:
    """`async with Instance(new_host) as instance:` keeps one host alive. `hosts` has all of them, the newest last."""

    def __init__(self, new_host: Callable[[], FunctionsHost]) -> None:
        self._new_host = new_host
        self._keeping: asyncio.Task[None] | None = None
        self.hosts: list[FunctionsHost] = []

    async def __aenter__(self) -> Instance:
        await self._start()
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._keeping is not None
        self._keeping.cancel()
        await asyncio.gather(self._keeping, return_exceptions=True)
        await self.hosts[-1].stop()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self.hosts[-1].gone:
                await self.hosts[-1].stop()  # until everything of it is closed
                await self._start()

    async def _start(self) -> None:
        host = self._new_host()
        if self.hosts:
            host.take_the_place_of(self.hosts[-1])
        self.hosts.append(host)
        await host.start()
