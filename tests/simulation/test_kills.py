"""The process killed before and after every single call to a door, on one machine's whole path: event, assessment,
settling, installation, settling, assessment. Whatever the moment, the machine ends patched and nothing is done twice.
"""

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

import pytest

from functions.model.machine import MachineId
from simulator.azure import Behaviour, overlaps
from tests.simulation import clock, oracle
from tests.simulation.faults import Weather
from tests.simulation.invariants import Broken
from tests.simulation.run import SUBSCRIPTIONS, create, journal_kept
from tests.simulation.world import JournalLines, SeededWorld
from tests.support.world import vm_body

SETTINGS = {
    "PATCH_SCOPE": SUBSCRIPTIONS[0],
    "PATCH_MAX_IN_FLIGHT": "1",
    "PATCH_MAX_PER_IMAGE": "1",
    "PATCH_CANARIES": "1",
    "PATCH_FRESH_HOURS": "24",
    "PATCH_MIN_INTERVAL_HOURS": "144",
}
SWEEPS = 30  # five to fifteen minutes apart: after so many the machine is patched, whenever the process was killed


@dataclass(frozen=True)
class Path:
    """What came of one run."""

    calls: int  # to services, until its row was gone for good
    kinds: tuple[str, ...]
    overlapping: bool
    pending: bool
    violations: tuple[Broken, ...]


async def _path(kill_at: tuple[int, str] | None) -> Path:
    world = SeededWorld(SETTINGS, random.Random(7), Weather(random.Random(7)), kill_at=kill_at)
    logging.getLogger("journal").addHandler(JournalLines(world))
    machine, calls = MachineId(SUBSCRIPTIONS[0], "rg-web", "vm-001"), 0
    create(world, machine, Behaviour(), vm_body())
    for _ in range(SWEEPS):
        await asyncio.sleep(timedelta(minutes=10).total_seconds())
        at_work = await world.record(machine) is not None
        await world.one_sweep()
        calls = world.calls if at_work else calls
        if not at_work and [each.kind for each in world.azure.operations][-2:] == ["install", "assess"]:
            break
    world.promises.every_operation_is_known()
    found, operations = world.azure.machine(str(machine)), world.azure.operations
    return Path(
        calls, tuple(each.kind for each in operations), bool(overlaps(operations)),
        oracle.wanted_left(world, found), tuple(world.promises.violations),
    )  # fmt: skip


def _run(kill_at: tuple[int, str] | None = None) -> Path:
    with journal_kept():
        return clock.run(_path(kill_at))


@pytest.fixture(scope="module")
def whole() -> Path:
    return _run()


def test_without_a_kill_it_is_assessed_installed_and_assessed_again(whole: Path) -> None:
    assert whole.kinds == ("assess", "install", "assess")
    assert not whole.pending


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_it_ends_well(whole: Path, when: str) -> None:
    bad: dict[int, Path] = {}
    for call in range(1, whole.calls + 1):
        path = _run((call, when))
        installs = Counter(path.kinds)["install"]
        if path.pending or path.overlapping or path.violations or installs != 1:
            bad[call] = path
    assert not bad
    assert whole.calls > 40, "the path has become strangely short"
