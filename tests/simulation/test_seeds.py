"""The invariants hold over the first seeds; `make soak` runs as many as wanted."""

import pytest

from tests.simulation.run import run
from tests.simulation.shrink import report

SEEDS, CHUNK = 60, 10
CHUNKS = [
    pytest.param(range(first, first + CHUNK), id=str(first), marks=pytest.mark.xdist_group(f"seeds-{first}"))
    for first in range(0, SEEDS, CHUNK)
]


@pytest.mark.parametrize("seeds", CHUNKS)
def test_the_invariants_hold(seeds: range) -> None:
    failing = [seed for seed in seeds if run(seed).violations]
    assert not failing, report(failing[0])
