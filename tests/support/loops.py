"""The end of a loop of the tests: a connection that its owner has closed ends with it.

A client that leaves a request, or is done with a connection, says goodbye on it. aiohttp forgets the connection at
once, and the end of its session does not wait for the other side's goodbye (aiohttp issue 1925), which comes late on a
loaded machine. A program ends then, and its sockets with it. The process of the tests goes on, and the garbage
collector would find the socket in whichever test runs next.

A connection that its owner has not closed is left alone: the collector reports it, and the test fails.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class Loop(asyncio.SelectorEventLoop):
    def close(self) -> None:
        closed = [each for each in self._connections() if _closed_by_owner(each)]
        for transport in closed:
            transport.abort()
        if closed:
            self.run_until_complete(asyncio.sleep(0))  # their sockets close in the loop's next turn
        super().close()

    def _connections(self) -> list[asyncio.Transport]:
        """Those whose sockets are open: a loop that is closed has none. asyncio has no public way to ask."""
        return [] if self.is_closed() else list(getattr(self, "_transports", {}).values())


def _closed_by_owner(transport: asyncio.Transport) -> bool:
    """Under TLS the owner holds another transport, and the socket's is closed after the goodbyes."""
    of_owner = getattr(transport.get_protocol(), "_app_transport", transport)
    return of_owner is not None and bool(of_owner.is_closing())


class Policy(asyncio.DefaultEventLoopPolicy):
    """For every loop of this process: pytest's, that of `asyncio.run`, and that of the operator's tool in a thread."""

    def new_event_loop(self) -> Loop:
        return Loop()


@contextmanager
def left_open() -> Iterator[list[str]]:
    """Gives a list that holds, after the block, what the collector found open of what the block left."""
    found: list[str] = []
    gc.collect()  # what other tests left
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield found
        gc.collect()
    found += [str(each.message) for each in seen]
