"""What a sweep costs: reading, deciding, the whole of it, its memory, and its Graph pages when nothing is due."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from benchmarks import processes
from benchmarks.prepared import Prepared
from benchmarks.processes import Figures
from benchmarks.rounds import Contender, in_turns
from benchmarks.sizes import Sizes
from benchmarks.table import Result, absolute, compared, within
from simulator.tls import Tls

IMAGES = 200


async def read_and_decide(sizes: Sizes, tls: Tls) -> list[Result]:
    async with Prepared(sizes.graph_rows, IMAGES).served(tls) as azure:
        run = partial(processes.run, environ=tls.settings())
        rounds = await in_turns(
            sizes.rounds,
            lambda: run("reading.ours", azure.endpoint),
            lambda: run("reading.reference", azure.endpoint),
        )
    assert all(each.ours["rows"] == each.reference["rows"] == sizes.graph_rows for each in rounds)
    scale = 1_000_000 / sizes.graph_rows
    names = {"sweep_read": "read", "sweep_decide": "decide"}
    return [compared(name, rounds, figure=figure, against="cpu", scale=scale) for name, figure in names.items()]


async def whole(sizes: Sizes, tls: Tls) -> list[Result]:
    """CPU and memory of whole sweeps, without the census and with it."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        empty = await enter(Prepared().served(tls))
        azure = await enter(Prepared(sizes.fleet, IMAGES).served(tls))
        reference = partial(processes.run, "reading.reference", azure.endpoint, environ=tls.settings())
        plain = await in_turns(sizes.rounds, _sweep(azure, empty, tls), reference)
        counted = await in_turns(sizes.rounds, _sweep(azure, empty, tls, census=True), reference)
    assert all(each.ours["lines"] > sizes.fleet for each in counted), "a line per machine"
    peaks = [max(one.ours["peak_mb"], other.ours["peak_mb"]) for one, other in zip(plain, counted, strict=True)]
    return [
        compared("sweep_whole", plain),
        compared("sweep_whole_census", counted, note=f"{counted[0].ours['lines']:,.0f} lines of the journal"),
        absolute("memory_mb", peaks),
    ]


async def memory(sizes: Sizes, tls: Tls) -> list[Result]:
    """Memory over fleets of which one is ten times as large. One run each: memory hardly varies."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        empty = await enter(Prepared().served(tls))
        large = await enter(Prepared(sizes.large_fleet, IMAGES).served(tls))
        small = await enter(Prepared(sizes.large_fleet // 10, IMAGES).served(tls))
        rounds = await in_turns(1, _sweep(large, empty, tls), _sweep(small, empty, tls))
        counted = await _sweep(large, empty, tls, census=True)()
    peak = max(rounds[0].ours["peak_mb"], counted["peak_mb"])
    note = f"{rounds[0].ours['peak_mb']:.0f} MB without the census, {counted['peak_mb']:.0f} MB with it"
    return [compared("sweep_rss_growth", rounds, figure="peak_mb"), absolute("memory_mb_100000", [peak], note=note)]


async def simulated_graph(sizes: Sizes, tls: Tls) -> list[Result]:
    """What the simulator's Resource Graph takes for an answer with all of a fleet."""
    runs = [await processes.run("querying.due", sizes.fleet) for _ in range(sizes.rounds)]
    return [within("simulated_graph", runs, figure="answer", against="write", note=f"{sizes.fleet:,} machines")]


def _sweep(azure: Prepared, empty: Prepared, tls: Tls, *, census: bool = False) -> Contender:
    async def run() -> Figures:
        return await processes.run("sweeping.sweep", azure.endpoint, empty.endpoint, census, environ=tls.settings())

    return run
