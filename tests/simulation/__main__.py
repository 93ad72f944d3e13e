"""`python -m tests.simulation --seeds 1000`: that many seeded runs on all cores. Fails when an invariant does not hold.

--first N    the first seed (0)
--seed N     one seed alone, with its whole trace
--workers N  processes (all cores)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count

from tests.simulation.run import run
from tests.simulation.shrink import Summary, command, commit, report, summary

REPORTS = 5
PROGRESS_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, default=cpu_count() or 1)
    wanted = parser.parse_args()
    return _one(wanted.seed) if wanted.seed is not None else _many(wanted.first, wanted.seeds, wanted.workers)


def _one(seed: int) -> int:
    result = run(seed)
    print(f"seed {seed} at {commit()}", *result.trace, *result.violations, sep="\n")
    return 1 if result.violations else 0


def _many(first: int, count: int, workers: int) -> int:
    total = Summary()
    begun = printed = time.monotonic()
    for each in _summaries(range(first, first + count), workers):
        total += each
        for text in each.what:
            print(text, flush=True)
        if time.monotonic() - printed >= PROGRESS_SECONDS:
            printed = time.monotonic()
            print(f"{total.seeds} of {count} seeds, {len(total.failing)} failed, {printed - begun:.0f} s", flush=True)
    failing = sorted(total.failing)
    for seed in failing[:REPORTS]:
        print(report(seed))
    wall = time.monotonic() - begun
    print(
        f"{total.days:.0f} simulated days, {total.operations} operations started by the app, {total.faults} faults, "
        f"{total.machines} machines; {wall:.0f} s, {total.cpu_seconds / max(total.seeds, 1):.2f} s of CPU per seed"
    )
    for seed in failing:
        print(f"seed {seed} at {commit()} failed. Repeat: {command(seed)}")
    print(f"soak: {total.seeds} seeds, {total.violations} violations, at {commit()}")
    return 1 if failing else 0


def _summaries(seeds: range, workers: int) -> Iterator[Summary]:
    if workers <= 1:
        yield from map(summary, seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(summary, seeds, chunksize=4)


if __name__ == "__main__":
    sys.exit(main())
