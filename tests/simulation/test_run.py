"""The simulation itself: reproducible, busy, and able to shrink and report a failing seed."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, applied
from tests.simulation.run import Result, run
from tests.simulation.shrink import command, commit, report

ROOT = Path(__file__).parents[2]


@cache
def first_run(seed: int) -> Result:
    return run(seed)


@pytest.mark.parametrize("seed", [11, 139], ids=["few faults", "processes killed with many steps under way"])
def test_a_seed_has_one_run(seed: int) -> None:
    first = first_run(seed)
    assert first.log == run(seed).log
    assert len(first.trace) > 10


def test_a_seed_has_the_same_run_in_every_process() -> None:
    """Also where Python orders its sets in another way."""
    code = "from tests.simulation.run import run; print(run(11).log, end='')"
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
        text=True,
        capture_output=True,
        check=True,
    )
    assert there.stdout == first_run(11).log


def test_a_failing_seed_is_reported_with_its_shortest_run_and_how_to_repeat_it() -> None:
    mutant = next(each for each in MUTANTS if each.name == "window")  # its seed fails soon: a try takes a moment
    with applied(mutant):
        whole, text = run(mutant.seed), report(mutant.seed)
    head, repeat, *trace = text.splitlines()
    assert head.startswith(f"seed {mutant.seed} at {commit()}, ")
    assert repeat == f"repeat: {command(mutant.seed)}"
    assert any("invariant 3" in line for line in trace)
    assert len(trace) < len(whole.trace)
