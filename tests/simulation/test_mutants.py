"""Each guard is worth something: without it, a seed breaks a promise. `make mutants` looks from seed 0 on."""

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, caught_by

SEEDS = 2  # from the one that noticed when this was written


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_the_seeds_notice_a_missing_guard(mutant: Mutant) -> None:
    assert caught_by(mutant, mutant.seed, SEEDS), f"{mutant.name} can go and nobody notices"
