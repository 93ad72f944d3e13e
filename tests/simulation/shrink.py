"""A seed in numbers, and the least of a failing one: faults, happenings and machines left out while it still fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from tests.simulation.run import Leave, Result, run

TRIES = 80  # runs spent on one story
LARGE = 50  # machines: a fleet of more is told as it is, since each try would take minutes
STORY_LINES = 60


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


def shrink(seed: int) -> tuple[Leave, Result]:
    """What can be left out so that the first violation's promise is still broken."""
    first = run(seed)
    promise = first.violations[0].promise
    best, found, left = Leave(), first, TRIES if len(first.machines) <= LARGE else 0

    def fails(leave: Leave) -> Result | None:
        """The history without these, if it breaks the promise too and is no longer: less weather may break it later."""
        result = run(seed, leave)
        broken = any(each.promise == promise for each in result.violations)
        return result if broken and len(result.story) <= len(found.story) else None

    parts: tuple[tuple[str, Iterable[str | int]], ...] = (
        ("faults", first.faults),
        ("happenings", range(1, first.happenings + 1)),
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
    return best, found


def _halves(items: list[str | int]) -> Iterable[list[str | int]]:
    """All, then halves, quarters and so on down to each one."""
    size = len(items)
    while size:
        yield from (items[start : start + size] for start in range(0, len(items), size))
        size //= 2


def minimal_story(seed: int, shrinker: Callable[[int], tuple[Leave, Result]] = shrink) -> str:
    _, result = shrinker(seed)
    names = {str(each) for each in result.violations}
    lines = [line for line in result.story if "settings" not in line][-STORY_LINES:]
    head = f"seed {seed}, {len(result.machines)} machines, faults: {', '.join(result.faults) or 'none'}"
    return "\n".join([head, *(f"  {line}" for line in lines), *(f"  {each}" for each in sorted(names))])
