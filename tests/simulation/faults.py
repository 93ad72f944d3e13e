"""What goes wrong in one seed: which faults are on, and how often each strikes. Each seed switches on a few of them.

A rate is the chance at each occasion (a call, an event, a message). Occasions are counted and not timed, so the same
seed meets the same faults.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

# The chance at each occasion, at most. A seed takes a share of it.
RATES: Mapping[str, float] = {
    "event lost": 0.5,
    "event doubled": 0.3,
    "event late": 0.3,
    "Graph stale": 0.02,
    "Graph partial": 0.05,
    "Graph fails": 0.1,
    "Graph throttled": 0.05,
    "ARM conflict": 0.05,
    "ARM throttled": 0.08,
    "ARM throttled, no Retry-After": 0.05,
    "ARM fails before": 0.08,
    "ARM fails after": 0.08,
    "ARM silent before": 0.04,
    "ARM silent after": 0.04,
    "ARM late": 0.04,
    "connection refused": 0.05,
    "connection dropped before": 0.05,
    "connection dropped after": 0.05,
    "token expired": 0.02,
    "operation gone": 0.1,
    "table away": 0.02,
    "table fails after": 0.02,
    "table row touched": 0.02,
    "queue fails before": 0.04,
    "queue fails after": 0.04,
    "message doubled": 0.2,
    "message delayed": 0.2,
    "message expired": 0.05,
    "message garbled": 0.1,
    "killed before": 0.02,
    "killed after": 0.02,
    "paused": 0.02,
    "slow": 0.3,
    "sweeps overlap": 0.3,
}


@dataclass
class Faults:
    """The faults of one seed."""

    rng: random.Random
    rates: Mapping[str, float] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    on: bool = True

    def strikes(self, fault: str) -> bool:
        rate = self.rates.get(fault)
        if not rate or not self.on or self.rng.random() >= rate:
            return False
        self.hits[fault] += 1
        return True

    @classmethod
    def draw(cls, rng: random.Random, without: frozenset[str] = frozenset()) -> Faults:
        """A random few of the faults, each at a random share of its rate; sometimes none at all."""
        share = rng.choice((0.0, 0.1, 0.2, 0.3, 0.5))
        chosen = {name: rate * rng.choice((0.3, 1.0)) for name, rate in RATES.items() if rng.random() < share}
        rates = {name: rate for name, rate in chosen.items() if name not in without}
        return cls(random.Random(rng.getrandbits(64)), rates)
