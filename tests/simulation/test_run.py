"""The simulation itself: reproducible, busy, and able to shrink and report a failing seed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.faults import RATES
from tests.simulation.mutants import MUTANTS, applied
from tests.simulation.run import run
from tests.simulation.shrink import command, commit, report, summary

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [11, 139], ids=["few faults", "processes killed with many steps under way"])
def test_a_seed_has_one_run(seed: int) -> None:
    first, second = run(seed), run(seed)
    assert first.log == second.log
    assert len(first.trace) > 10


def test_a_seed_has_the_same_run_in_every_process() -> None:
    """Also where Python orders its sets in another way."""
    code = (
        "import hashlib; from tests.simulation.run import run; print(hashlib.sha256(run(11).log.encode()).hexdigest())"
    )
    logs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": salt},
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert logs[0] == logs[1]


def test_the_seeds_are_busy() -> None:
    """Few seeds already start operations, and meet many faults over many days."""
    total = sum((summary(seed) for seed in range(2, 6)), summary(1))
    assert (total.operations > 20, total.faults > 20, total.days > 15) == (True, True, True)


def test_every_fault_strikes() -> None:
    """A fault that strikes in no seed tests nothing. The first of these seeds met all when they were written down."""
    struck: set[str] = set()
    for seed in (55, 22, 54, 45, 17, 58, 8, 48, *range(40)):
        struck |= set(run(seed).hits)
        if struck == set(RATES):
            return
    assert not set(RATES) - struck


def test_a_failing_seed_is_reported_with_its_shortest_run_and_how_to_repeat_it() -> None:
    mutant = next(each for each in MUTANTS if each.name == "token check")
    with applied(mutant):
        whole, text = run(mutant.seed), report(mutant.seed)
    head, repeat, *trace = text.splitlines()
    assert head.startswith(f"seed {mutant.seed} at {commit()}, ")
    assert repeat == f"repeat: {command(mutant.seed)}"
    assert any("invariant 4" in line for line in trace)
    assert len(trace) < len(whole.trace)
