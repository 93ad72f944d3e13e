"""The process killed after every single call, and before every one that changes something, on one machine's whole path:
event, assessment, tracking, installation, tracking, assessment. Whatever the moment, the machine ends patched and
nothing is done twice.
"""

import asyncio
import logging
import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from functions.model.machine import MachineId
from functions.model.state import Phase
from simulator.azure import Behaviour, overlaps
from simulator.behaviour import Timings
from tests.simulation import clock, oracle
from tests.simulation.faults import Faults
from tests.simulation.invariants import Violation
from tests.simulation.run import journal_kept
from tests.simulation.workload import SUBSCRIPTIONS, create
from tests.simulation.world import JournalLines, SeededWorld
from tests.support.process import Side
from tests.support.world import NOTICES, vm_body

SETTINGS = {
    "PATCH_SCOPE": SUBSCRIPTIONS[0],
    "PATCH_MAX_IN_FLIGHT": "1",
    "PATCH_MAX_PER_IMAGE": "1",
    "PATCH_CANARIES": "1",
    "PATCH_FRESH_HOURS": "24",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
    "PATCH_MIN_INTERVAL_HOURS": "144",
}
SHOWN_AT_ONCE = Timings()
SHOWN_LATE = Timings(graph_lag_seconds=20 * 60)  # Resource Graph promises no upper bound
SWEEPS = 30  # five to fifteen minutes apart: after so many the machine is patched, whenever the process was killed


@dataclass(frozen=True)
class Path:
    """What came of one run."""

    calls: tuple[str, ...]  # until its row was gone
    kinds: tuple[str, ...]
    overlapping: bool
    pending: bool
    violations: tuple[Violation, ...]
    told: tuple[dict[str, Any], ...]  # the events that a topic of notices took, as often as it did


async def _path(kill_at: tuple[int, Side] | None, settings: dict[str, str], timings: Timings) -> Path:
    world = SeededWorld(settings, random.Random(7), Faults(random.Random(7)), timings=timings, kill_at=kill_at)
    logging.getLogger("journal").addHandler(JournalLines(world))
    machine, calls = MachineId(SUBSCRIPTIONS[0], "rg-web", "vm-001"), 0
    create(world, machine, behaviour=Behaviour(), body=vm_body())
    for _ in range(SWEEPS):
        await asyncio.sleep(timedelta(minutes=10).total_seconds())
        at_work = await world.record(machine) is not None
        await world.one_sweep()
        calls = len(world.calls) if at_work else calls
        if not at_work and [each.kind for each in world.azure.operations][-2:] == ["install", "assess"]:
            break
    if "PATCH_NOTICES" in settings:
        for _ in range(3):  # what the last moves told is sent by a later sweep
            await asyncio.sleep(timedelta(minutes=10).total_seconds())
            calls = len(world.calls)
            await world.one_sweep()
    world.invariants.every_operation_is_known()
    found, operations = world.azure.machine(str(machine)), world.azure.operations
    return Path(
        tuple(world.calls[:calls]),
        tuple(each.kind for each in operations),
        bool(overlaps(operations)),
        oracle.wanted_left(world, found),
        tuple(world.invariants.violations),
        tuple(world.topic.events),
    )


def _run(
    kill_at: tuple[int, Side] | None = None, settings: dict[str, str] = SETTINGS, timings: Timings = SHOWN_AT_ONCE
) -> Path:
    with journal_kept():
        return clock.run(_path(kill_at, settings, timings))


@pytest.fixture(scope="module")
def whole() -> Path:
    return _run()


@pytest.fixture(scope="module")
def late() -> Path:
    return _run(timings=SHOWN_LATE)


def _phases(path: Path) -> set[Phase]:
    """Those that its calls write."""
    return {phase for phase in Phase if any(call.startswith("table") and call.endswith(phase) for call in path.calls)}


@pytest.mark.parametrize("name", ["whole", "late"])
def test_without_a_kill_it_is_assessed_installed_and_assessed_again(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    assert path.kinds == ("assess", "install", "assess")
    assert not path.pending


def test_an_end_that_graph_shows_by_now_is_written_with_what_follows_from_it(whole: Path, late: Path) -> None:
    assert _phases(whole) == set(Phase) - {Phase.ENDED}
    assert _phases(late) == set(Phase)


def test_the_path_goes_through_every_kind_of_call(whole: Path) -> None:
    assert set(whole.calls) >= {
        "table: reading a row",
        "table: reading the rows",
        "table: insert queued",
        "table: delete running",
        "queue: send",
        "ARM: POST resources",
        "ARM: GET vm-001",
        "ARM: POST assessPatches",
        "ARM: POST installPatches",
        "ARM: GET operation",
    }


# The last asks Graph.
READS = ("table: reading", "table: keys", "table: part", "queue: poison", "ARM: GET", "ARM: POST resources")


SIDES: tuple[Side, ...] = ("before", "after")


@pytest.mark.parametrize("when", SIDES)
def test_killed_at_any_call_it_ends_well(whole: Path, when: Side) -> None:
    bad: dict[int, Path] = {}
    for call, name in enumerate(whole.calls, 1):
        if when == "before" and name.startswith(READS):
            continue  # it ends as killed after the call before this one
        path = _run((call, when))
        installs = Counter(path.kinds)["install"]
        if path.pending or path.overlapping or path.violations or installs != 1:
            bad[call] = path
    assert not bad


@pytest.mark.parametrize("when", SIDES)
def test_killed_at_an_end_that_graph_does_not_show_yet_it_ends_well(late: Path, when: Side) -> None:
    bad: dict[int, Path] = {}
    for call, name in enumerate(late.calls, 1):
        if not name.endswith(Phase.ENDED):
            continue
        path = _run((call, when), timings=SHOWN_LATE)
        if path.pending or path.overlapping or path.violations or Counter(path.kinds)["install"] != 1:
            bad[call] = path
    assert not bad


# -- what other programs receive


@pytest.fixture(scope="module", params=[SHOWN_AT_ONCE, SHOWN_LATE], ids=["shown at once", "shown late"])
def timings(request: pytest.FixtureRequest) -> Timings:
    shown: Timings = request.param
    return shown


@pytest.fixture(scope="module")
def told(timings: Timings) -> Path:
    return _run(settings=SETTINGS | NOTICES, timings=timings)


def _once(path: Path) -> Counter[str]:
    """How many different events of each type came."""
    by_id = {event["id"]: event for event in path.told}
    return Counter(event["type"].removeprefix("ImagePatcher.") for event in by_id.values())


def _expected(path: Path) -> Counter[str]:
    """What Azure's own operations give to tell. An assessment after the first one is routine."""
    installs, assessments = path.kinds.count("install"), path.kinds.count("assess")
    told = ["InstallationStarted", "InstallationEnded", "CanaryProved"] * installs + ["SupportDetected"] * assessments
    return Counter(["AssessmentEnded", *told])


def test_with_notices_each_move_sends_one(told: Path, timings: Timings) -> None:
    assert told.kinds == ("assess", "install", "assess")
    assert _once(told) == _expected(told)
    assert len(told.told) == len({event["id"] for event in told.told})
    assert {"table: transact running", "topic: POST"} <= set(told.calls)
    assert ("table: transact ended" in told.calls) is (timings is SHOWN_LATE)


@pytest.mark.parametrize("when", SIDES)
def test_killed_at_any_call_no_notice_is_lost_and_one_that_comes_twice_is_the_same(
    told: Path, timings: Timings, when: Side
) -> None:
    bad: dict[int, object] = {}
    for call, name in enumerate(told.calls, 1):
        if not any(word in name for word in ("transact", "topic", "Patches")):  # no move that tells something
            continue
        path = _run((call, when), SETTINGS | NOTICES, timings)
        same = all(event == other for event in path.told for other in path.told if event["id"] == other["id"])
        if _once(path) != _expected(path) or not same or path.violations:
            bad[call] = name, path.kinds, _once(path), path.violations
    assert not bad
