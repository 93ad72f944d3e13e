"""start_ops_cpu and burst_32_cpu: what the app's client costs over raw aiohttp, warm and with its first connections."""

from __future__ import annotations

from functools import partial

from benchmarks import processes
from benchmarks.prepared import Prepared
from benchmarks.rounds import in_turns
from benchmarks.sizes import Sizes
from benchmarks.table import Result, compared
from simulator.tls import Tls


async def start_ops(sizes: Sizes, tls: Tls) -> list[Result]:
    return [await _started("start_ops_cpu", sizes, tls, count=sizes.starts, warm=True)]


async def burst(sizes: Sizes, tls: Tls) -> list[Result]:
    return [await _started("burst_32_cpu", sizes, tls, count=sizes.burst, warm=False)]


async def _started(name: str, sizes: Sizes, tls: Tls, *, count: int, warm: bool) -> Result:
    async with Prepared().served(tls) as azure:
        run = partial(processes.run, environ=tls.settings())
        rounds = await in_turns(
            sizes.rounds,
            lambda: run("starting.ours", azure.endpoint, count, warm),
            lambda: run("starting.reference", azure.endpoint, count, warm),
        )
    return compared(name, rounds, scale=1000 / (count if warm else 1))
