"""A seed in numbers, and the least of a failing one: faults, events and machines left out while it still fails."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tests.simulation.run import Result, run
from tests.simulation.workload import NOTHING_LEFT_OUT, Without

TRIES = 80  # runs spent on one seed
LARGE = 50  # machines: a larger fleet is not shrunk, since each try would take minutes
TRACE_LINES = 60


@dataclass(frozen=True)
class Summary:
    """What a number of seeds came to."""

    seeds: int = 0
    violations: int = 0
    failing: tuple[int, ...] = ()
    what: tuple[str, ...] = ()
    days: float = 0
    operations: int = 0
    faults: int = 0
    machines: int = 0
    cpu_seconds: float = 0

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            self.seeds + other.seeds,
            self.violations + other.violations,
            self.failing + other.failing,
            self.what + other.what,
            self.days + other.days,
            self.operations + other.operations,
            self.faults + other.faults,
            self.machines + other.machines,
            self.cpu_seconds + other.cpu_seconds,
        )


def summary(seed: int) -> Summary:
    begun = time.process_time()
    result = run(seed)
    return Summary(
        seeds=1,
        violations=len(result.violations),
        failing=(seed,) if result.violations else (),
        what=tuple(f"seed {seed}: {each}" for each in result.violations),
        days=result.days,
        operations=result.operations,
        faults=sum(result.hits.values()),
        machines=len(result.machines),
        cpu_seconds=time.process_time() - begun,
    )


def shrink(seed: int) -> Result:
    """The shortest run found that still violates the invariant of the seed's first violation."""
    first = run(seed)
    invariant = first.violations[0].invariant
    best, found, left = NOTHING_LEFT_OUT, first, TRIES if len(first.machines) <= LARGE else 0

    def fails(without: Without) -> Result | None:
        """The run without these, if it violates the invariant too and is no longer."""
        result = run(seed, without)
        violated = any(each.invariant == invariant for each in result.violations)
        return result if violated and len(result.trace) <= len(found.trace) else None

    parts: tuple[tuple[str, Iterable[str | int]], ...] = (
        ("faults", first.faults),
        ("events", range(1, first.events + 1)),
        ("machines", first.machines),
    )
    for name, items in parts:
        for chunk in _halves(list(items)):
            if left <= 0:
                break
            left -= 1
            tried = replace(best, **{name: getattr(best, name) | set(chunk)})
            if tried != best and (result := fails(tried)):
                best, found = tried, result
    return found


def _halves(items: list[str | int]) -> Iterable[list[str | int]]:
    """All, then halves, quarters and so on down to each one."""
    size = len(items)
    while size:
        yield from (items[start : start + size] for start in range(0, len(items), size))
        size //= 2


def report(seed: int) -> str:
    """A failing seed: how to repeat it, and the trace of its shortest run."""
    result = shrink(seed)
    head = f"seed {seed} at {commit()}, {len(result.machines)} machines, faults: {', '.join(result.faults) or 'none'}"
    trace = [line for line in result.trace if "settings" not in line][-TRACE_LINES:]
    violations = sorted({str(each) for each in result.violations})
    return "\n  ".join([f"{head}\nrepeat: {command(seed)}", *trace, *violations])


def command(seed: int) -> str:
    """The command that repeats the seed's whole run."""
    return f".venv/bin/python -m tests.simulation --seed {seed}"


@cache
def commit() -> str:
    """The commit that a seed belongs to, with "+changes" if files differ from it; "no commit" outside a repository."""

    def git(*arguments: str) -> str:
        answer = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
        return answer.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
