"""`python -m tests.simulation --seeds 1000`: that many seeded runs on all cores. Fails when an invariant does not hold.

--first N    the first seed (0)
--seed N     one seed alone, with its whole story
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
from tests.simulation.shrink import Summary, minimal_story, summary

STORIES_TOLD = 5
PROGRESS_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers", type=int, default=cpu_count() or 1)
    wanted = parser.parse_args()
    if wanted.seed is not None:
        result = run(wanted.seed)
        print(*result.story, *result.violations, sep="\n")
        return 1 if result.violations else 0
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    total = Summary()
    failing: list[int] = []
    begun = told = time.monotonic()
    for each in _all(seeds, wanted.workers):
        total += each
        failing += each.failing
        for text in each.what:
            print(text, flush=True)
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            print(f"{total.seeds} of {len(seeds)} seeds, {len(failing)} failed, {told - begun:.0f} s", flush=True)
    for seed in sorted(failing)[:STORIES_TOLD]:
        print(minimal_story(seed))
    wall = time.monotonic() - begun
    print(
        f"{total.days:.0f} simulated days, {total.operations} operations started by the app, {total.faults} faults, "
        f"{total.machines} machines; {wall:.0f} s, {total.cpu_seconds / max(total.seeds, 1):.2f} s of CPU a seed"
    )
    if failing:
        print("failing seeds:", *sorted(failing))
    print(f"soak: {total.seeds} seeds, {total.violations} violations")
    return 1 if failing else 0


def _all(seeds: range, workers: int) -> Iterator[Summary]:
    if workers <= 1:
        yield from map(summary, seeds)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(summary, seeds, chunksize=4)


if __name__ == "__main__":
    sys.exit(main())
