"""`python -m benchmarks [row or group …]`: measures, prints the table, writes bench.json."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import cold, lives, packages, scale, starts, stores, sweeps
from benchmarks.processes import ProgramFailed
from benchmarks.sizes import FULL, SHORT, TINY, Sizes
from benchmarks.table import ROWS, Result, as_json, as_text, columns
from simulator.storage.azurite import AzuriteUnavailable
from simulator.tls import Tls

SIZES = {"full": FULL, "short": SHORT, "tiny": TINY}
SHORT_FORM = ("index", "first_event", "start_ops", "read", "plan", "zip")  # what CI has time for
Measure = Callable[[Sizes, Tls], Awaitable[list[Result]]]
Keep = Callable[[list[Result]], None]


def groups(custodian: Path | None) -> dict[str, tuple[tuple[str, ...], Measure]]:
    """The measurements in their order: by name, with the rows each gives."""
    return {
        "index": (("index_cpu",), cold.index),
        "first_event": (
            ("first_event_cpu", "first_event_rss", "first_event_vs_custodian"),
            partial(cold.first_event, custodian=custodian),
        ),
        "start_ops": (("start_ops_cpu",), starts.start_ops),
        "burst": (("burst_32_cpu",), starts.burst),
        "read": (("sweep_read", "sweep_decide"), sweeps.read_and_decide),
        "idle": (("idle_sweep_pages",), lives.idle_pages),
        "plan": (("plan_growth",), stores.plan),
        "moves": (("ledger_moves",), stores.ledger_moves),
        "calls": (("ledger_calls",), lives.ledger_calls),
        "whole": (("sweep_whole", "sweep_whole_census", "memory_mb"), sweeps.whole),
        "memory": (("sweep_rss_growth", "memory_mb_100000"), sweeps.memory),
        "graph": (("simulated_graph",), sweeps.simulated_graph),
        "storm": (("storm_10000",), stores.storm),
        "drain": (("drain_5000", "drain_429_percent"), lives.drain),
        "created": (("created_to_patched",), lives.created_to_patched),
        "readonly": (("readonly_import",), packages.readonly_import),
        "zip": (("package_zip_mb",), packages.zip_size),
        "month": (("telemetry_kb_machine_month",), lives.month),
        "rest": (("telemetry_rest_mb_day",), lives.rest),
    }


async def measure(
    chosen: Mapping[str, Measure], sizes: Sizes, tls: Tls, *, told: Callable[[str], None], keep: Keep
) -> list[str]:
    """Hands the results of each group to `keep`; returns the groups of which a program failed.

    Nothing fails on a time, or because Azurite is missing.
    """
    failed: list[str] = []
    for name, group in chosen.items():
        began = time.monotonic()
        try:
            results = await group(sizes, tls)
        except AzuriteUnavailable as problem:
            told(f"{name}: not measured: {problem}")
        except ProgramFailed as problem:
            told(f"{name}: failed: {problem}")
            failed.append(name)
        else:
            keep(results)
            told(f"{name}: {', '.join(each.row.name for each in results)} in {time.monotonic() - began:.0f} s")
    return failed


def chosen_of(names: Sequence[str], known: Mapping[str, tuple[tuple[str, ...], Measure]]) -> dict[str, Measure]:
    """The groups that were named, or that give a row that was named; all of them without a name."""
    unknown = [name for name in names if name not in known and name not in ROWS]
    if unknown:
        raise SystemExit(f"no such row or group: {', '.join(unknown)}; there are {', '.join(known)}")
    return {
        name: group for name, (rows, group) in known.items() if not names or name in names or set(rows) & set(names)
    }


def _scaled(tls: Tls, path: Path) -> int:
    sweeps = asyncio.run(scale.simulate(tls))
    path.write_text(scale.as_json(sweeps), encoding="utf-8")
    print(f"{columns(scale.sweeps_table(sweeps))}\n\n{columns(scale.days_table(sweeps))}")
    return 0


def _before(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """What an earlier run wrote, when only some rows are measured."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if names and path.exists() else {}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="rows or groups; all of them without one")
    parser.add_argument("--size", choices=SIZES, default="full", help="short is what CI prints; goals hold for full")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the results go")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--scale", action="store_true", help="fleets of 1,000 to 100,000 instead: bench-scale.json")
    parser.add_argument("--custodian", type=Path, help="a Python with c7n_azure, to compare with")
    options = parser.parse_args(arguments)
    if not options.custodian:
        print("first_event_vs_custodian: skipped without a Python that has c7n_azure (--custodian)", file=sys.stderr)
    names = options.names or (SHORT_FORM if options.size == "short" else ())
    chosen = chosen_of(names, groups(options.custodian))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tls = Tls.create(Path(folder))
        tls.trust_in_this_process()
        if options.scale:
            return _scaled(tls, options.json.with_name("bench-scale.json"))
        told = partial(print, file=sys.stderr, flush=True)
        sizes = SIZES[options.size]
        sizes = replace(sizes, rounds=options.rounds or sizes.rounds)
        before, results = _before(options.json, names), list[Result]()

        def keep(found: list[Result]) -> None:
            """After each group, so that an interrupted run keeps what it measured."""
            results.extend(found)
            options.json.write_text(as_json(results, before), encoding="utf-8")

        failed = asyncio.run(measure(chosen, sizes, tls, told=told, keep=keep))
    print(as_text(results))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
