"""Whole sweeps of the app over a fleet that is all due, in a process like the worker's: the app is imported, and each
line of its journal is formatted and written. Ledger and queues are in memory, Azure is at the endpoint.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace

from benchmarks.fleet import NOW
from benchmarks.programs import cpu_seconds, peak_mb, tell
from benchmarks.programs.connected import services, session
from functions.cloud.resource_graph import ResourceGraph
from functions.services import Services
from functions.steps import reconcile
from tests.support.queues import MemoryQueue
from tests.support.tables import MemoryTable


class Lines(logging.Handler):
    """Counts the lines of the journal and their bytes, and writes them away as the worker does."""

    def __init__(self) -> None:
        super().__init__()
        self.lines, self.bytes = 0, 0
        self._sink = open(os.devnull, "wb", buffering=0)  # noqa: SIM115 - open as long as the process runs

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        self.bytes += self._sink.write(self.format(record).encode()) or 0


def heard(lines: Lines | None = None) -> Lines:
    """The journal's lines of this process, from now on."""
    lines, journal = lines or Lines(), logging.getLogger("journal")
    journal.addHandler(lines)
    journal.setLevel(logging.INFO)
    return lines


def storage_calls(given: Services) -> int:
    """What the ledger in memory and the queues were asked so far."""
    table, queue = given.ledger.table, given.queue
    assert isinstance(table, MemoryTable)
    assert isinstance(queue, MemoryQueue)
    return sum(table.calls.values()) + sum(map(len, queue.messages.values()))


def sweep(endpoint: str, empty: str, census: bool) -> None:
    """Tells what one sweep took, the daily forecast left out. `empty` is an endpoint without machines.

    The first sweep of a ledger counts the whole fleet and tells the forecast. So one at `empty` comes first, at the
    same moment; with `census` its note of what was counted is taken away again.
    """
    import function_app  # noqa: F401

    asyncio.run(_sweep(endpoint, empty, census))


async def _sweep(endpoint: str, empty: str, census: bool) -> None:
    lines = heard()
    given = services(endpoint, lambda: NOW)
    await reconcile.run(replace(given, graph=ResourceGraph(session(empty))))
    if census:
        await given.ledger.remember("census", {})
    before, began, lines.lines, stored = cpu_seconds(), time.monotonic(), 0, storage_calls(given)
    await reconcile.run(given)
    cpu, wall = cpu_seconds() - before, time.monotonic() - began
    tell(cpu=cpu, wall=wall, lines=lines.lines, peak_mb=peak_mb(), storage=storage_calls(given) - stored)
