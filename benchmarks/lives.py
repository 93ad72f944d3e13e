"""What is counted or simulated, and so the same each time: calls, pages, minutes, bytes of the log."""

from __future__ import annotations

from benchmarks import processes
from benchmarks.prepared import Prepared
from benchmarks.sizes import Sizes
from benchmarks.table import Result, absolute, ratio
from simulator.tls import Tls


async def ledger_calls(sizes: Sizes, tls: Tls) -> list[Result]:
    """Per machine: the difference between two fleets, so that sweeps themselves do not count."""
    few, many = sizes.lives
    less, more = [await processes.run("living.storage", machines) for machines in sizes.lives]
    per = {name: (more[name] - less[name]) / (many - few) for name in ("calls", "table", "sends", "replaces")}
    note = f"{per['table']:.1f} of the table ({per['replaces']:.1f} replaces), {per['sends']:.1f} messages sent"
    return [absolute("ledger_calls", [per["calls"]], note=note)]


async def idle_pages(sizes: Sizes, tls: Tls) -> list[Result]:
    small, large = [(await processes.run("living.idle", machines))["pages"] for machines in sizes.idle_fleets]
    note = "{:,} ÷ {:,} machines".format(*reversed(sizes.idle_fleets))
    return [ratio("idle_sweep_pages", large, small, note=note)]


async def drain(sizes: Sizes, tls: Tls) -> list[Result]:
    found = await processes.run("draining.bucket", sizes.drain)
    return [
        ratio("drain_5000", found["minutes"], found["floor"], note=f"{sizes.drain:,} machines"),
        absolute("drain_429_percent", [found["refused"]]),
    ]


async def created_to_patched(sizes: Sizes, tls: Tls) -> list[Result]:
    found = await processes.run("living.created", sizes.created)
    note = f"the last of {sizes.created} after {found['longest']:.1f} minutes"
    return [ratio("created_to_patched", found["p95"], found["floor"], note=note)]


async def month(sizes: Sizes, tls: Tls) -> list[Result]:
    """Per machine: the difference between two fleets, so that sweeps themselves do not count."""
    few, many = sizes.months
    less, more = [await processes.run("living.month", machines) for machines in sizes.months]
    note = f"{more['assessments']:.0f} assessments and {more['installations']:.1f} installations per machine"
    return [absolute("telemetry_kb_machine_month", [(more["kb"] - less["kb"]) / (many - few)], note=note)]


async def rest(sizes: Sizes, tls: Tls) -> list[Result]:
    async with Prepared(5 * sizes.rest_images, sizes.rest_images, due=False).served(tls) as azure:
        found = await processes.run("living.rest", azure.endpoint, environ=tls.settings())
    note = f"{found['lines']:,.0f} lines; {sizes.rest_images} images"
    return [absolute("telemetry_rest_mb_day", [found["mb"]], note=note)]
