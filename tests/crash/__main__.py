"""`python -m tests.crash --rounds 50`: so many kills. Exit code 0 when nothing was lost and nothing doubled."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.crash.run import crash

MACHINES_PER_KILL = 1.2
FEWEST_MACHINES = 12


def main() -> int:
    parser = argparse.ArgumentParser(prog="crash")
    parser.add_argument("--rounds", type=int, default=50, help="how many kills")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    size = max(FEWEST_MACHINES, round(asked.rounds * MACHINES_PER_KILL))
    result = asyncio.run(crash(asked.rounds, seed=asked.seed, size=size, say=lambda text: print(text, flush=True)))
    for problem in result.judgement.problems:
        print(f"problem: {problem}")
    print(", ".join(f"{count} {name}" for name, count in result.by_event.items()))
    print(
        f"{result.machines} machines, {result.assessments} assessments, {result.installations} installations, "
        f"{result.stops} hosts told to stop, {result.lines} lines of the journal, {result.seconds:.0f} s"
    )
    print(result.summary())
    return 0 if result.judgement else 1


if __name__ == "__main__":
    sys.exit(main())
