"""Rounds in turns: ours, the reference, and the reference once more.

The second run of the reference is the A/A control: how far two runs of the same code lie apart here and now. A margin
inside it proves nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from benchmarks.processes import Figures

Contender = Callable[[], Awaitable[Figures]]


class Spread(NamedTuple):
    """Of several rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Round:
    """The figures of one round, by name."""

    ours: Figures
    reference: Figures
    control: Figures


async def in_turns(count: int, ours: Contender, reference: Contender) -> list[Round]:
    """`count` rounds; every other one runs backwards, so that a drift of the machine meets both alike.

    A run of ours comes before and is not counted: it writes bytecode and fills caches.
    """
    await ours()
    return [await _round(ours, reference, backwards=bool(number % 2)) for number in range(count)]


async def _round(ours: Contender, reference: Contender, *, backwards: bool) -> Round:
    if backwards:
        control, our_figures, figures = await reference(), await ours(), await reference()
    else:
        figures, our_figures, control = await reference(), await ours(), await reference()
    return Round(our_figures, figures, control)


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most. Raises StatisticsError without a value."""
    return Spread(median(values), min(values), max(values))
