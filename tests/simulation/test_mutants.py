"""A seed notices each missing guard. `make mutants` looks from seed 0 on."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, caught_by

SEEDS = 2  # from the one that noticed when this was written
CASES = [pytest.param(each, id=each.name, marks=pytest.mark.xdist_group(f"mutant-{each.name}")) for each in MUTANTS]


@pytest.mark.parametrize("mutant", CASES)
def test_the_seeds_notice_a_missing_guard(mutant: Mutant) -> None:
    assert caught_by(mutant, mutant.seed, SEEDS), f"no seed notices that {mutant.name} is missing"
