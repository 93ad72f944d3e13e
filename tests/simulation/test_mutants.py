"""A seed notices each missing guard. `make mutants` looks from seed 0 on."""

import pytest

from tests.simulation.late_sweep import canaries_of_a_late_sweep
from tests.simulation.mutants import LEASE, MUTANTS, Mutant, applied, caught_by

SEEDS = 2  # from the one that noticed when this was written


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_seeds_notice_a_missing_guard(mutant: Mutant) -> None:
    assert caught_by(mutant, mutant.seed, SEEDS), f"no seed notices that {mutant.name} is missing"


async def test_a_sweep_whose_lease_ran_out_dispatches_nothing_more() -> None:
    assert await canaries_of_a_late_sweep() == 1


async def test_a_late_sweep_notices_a_missing_lease() -> None:
    with applied(LEASE):
        assert await canaries_of_a_late_sweep() == 2
