"""The promises over 0 to 99 of the seeds. The other file has the other half, so that two workers share them."""

import pytest

from tests.simulation.run import run
from tests.simulation.shrink import minimal_story

CHUNK = 10


@pytest.mark.parametrize("first", range(0, 100, CHUNK))
def test_the_promises_hold(first: int) -> None:
    failing = [seed for seed in range(first, first + CHUNK) if run(seed).violations]
    assert not failing, minimal_story(failing[0])
