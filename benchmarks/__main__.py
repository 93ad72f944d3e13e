"""`python -m benchmarks [row or group …]`: measures, prints the table, writes bench.json."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import cold, starts
from benchmarks.processes import ProgramFailed
from benchmarks.sizes import FULL, SHORT, Sizes
from benchmarks.table import ROWS, Result, as_json, as_text
from simulator.storage.azurite import AzuriteUnavailable
from simulator.tls import Tls

Measure = Callable[[Sizes, Tls], Awaitable[list[Result]]]


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
    }


async def measure(
    chosen: Mapping[str, Measure], sizes: Sizes, tls: Tls, told: Callable[[str], None]
) -> dict[str, Result]:
    """The results by row. What cannot run here is told and left out; nothing fails on a time."""
    found: dict[str, Result] = {}
    for name, group in chosen.items():
        began = time.monotonic()
        try:
            results = await group(sizes, tls)
        except (AzuriteUnavailable, ProgramFailed) as problem:
            told(f"{name}: not measured: {problem}")
            continue
        found |= {each.row.name: each for each in results}
        told(f"{name}: {', '.join(each.row.name for each in results)} in {time.monotonic() - began:.0f} s")
    return found


def chosen_of(names: Sequence[str], known: Mapping[str, tuple[tuple[str, ...], Measure]]) -> dict[str, Measure]:
    """The groups that were named, or that give a row that was named; all of them without a name."""
    unknown = [name for name in names if name not in known and name not in ROWS]
    if unknown:
        raise SystemExit(f"no such row or group: {', '.join(unknown)}; there are {', '.join(known)}")
    return {
        name: group for name, (rows, group) in known.items() if not names or name in names or set(rows) & set(names)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="rows or groups; all of them without one")
    parser.add_argument("--short", action="store_true", help="small sizes: what CI prints")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the results go")
    parser.add_argument("--custodian", type=Path, help="a Python with c7n_azure, to compare with")
    options = parser.parse_args(arguments)
    chosen = chosen_of(options.names, groups(options.custodian))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tls = Tls.create(Path(folder))
        tls.trust_in_this_process()
        told = partial(print, file=sys.stderr, flush=True)
        results = asyncio.run(measure(chosen, SHORT if options.short else FULL, tls, told))
    options.json.write_text(as_json(results.values()), encoding="utf-8")
    print(as_text(results.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
