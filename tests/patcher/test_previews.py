"""The preview of a run, held to what the sweeps then do: a fleet at rest, over the simulated Azure in virtual time.

Factors: what limits at once (fleet, image, availability set, patch-group, quota); canaries and their bake; windows;
how long installations took before; the end of the run; the kind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from functions.model.machine import MachineId
from functions.model.state import OperationKind
from patcher.actions import runs
from patcher.actions.runs import Words
from patcher.actions.selecting import Selector
from simulator.azure import Behaviour
from tests.patcher.test_effects import SEEN, act
from tests.support.world import GALLERY, World

TAKES = timedelta(minutes=23)  # each installation, and the first one of each image shows it
NEXT_SWEEP = timedelta(minutes=6)  # a sweep every five minutes, and the minute in which its message arrives
CLOSED = "Sun 02:00-06:00 UTC"  # the scenarios begin on a Wednesday at 08:00
GOOD = Behaviour(pending={"security": 2}, install_seconds=TAKES.total_seconds(), reboot_status="NotNeeded")
OTHER = GALLERY.replace("/web/", "/batch/")
Bodies = Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    settings: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)
    machines: int = 6
    body: Bodies = lambda number: {}
    hours: int = 5  # within which it is over
    too_late: int = 0


def _two_images(number: int) -> Mapping[str, Any]:
    return {"image": {"id": OTHER}} if number % 3 == 0 else {}


def _a_set(number: int) -> Mapping[str, Any]:
    return {"availability_set": "pair"} if number < 3 else {}


def _a_group(number: int) -> Mapping[str, Any]:
    return {"tags": {"patch-group": "db"}} if number < 4 else {}


CASES: dict[str, Case] = {
    "all at once": Case(),
    "the cap of the fleet": Case({"PATCH_MAX_IN_FLIGHT": "2"}),
    "a cap in percent": Case({"PATCH_MAX_IN_FLIGHT": "34%"}),
    "the cap of an image": Case({"PATCH_MAX_PER_IMAGE": "1"}, body=_two_images),
    "both": Case({"PATCH_MAX_IN_FLIGHT": "3", "PATCH_MAX_PER_IMAGE": "2"}, machines=8, body=_two_images),
    "an availability set": Case(body=_a_set),
    "a patch-group": Case(body=_a_group),
    "canaries and their bake": Case(said={"canaries": 1, "bake": "3h"}),
    "canaries of two images": Case({"PATCH_MAX_IN_FLIGHT": "2"}, {"canaries": 2, "bake": "1h"}, body=_two_images),
    "the quota of calls": Case({"PATCH_PACE_PERCENT": "1"}, machines=12),
    "a window": Case({"PATCH_WINDOW": "daily 12:00-14:00 UTC"}, {"ignore_window": False}),
    "two openings": Case(
        {"PATCH_WINDOW": "daily 12:00-13:00 UTC; daily 14:30-17:30 UTC", "PATCH_MAX_IN_FLIGHT": "1"},
        {"ignore_window": False},
        hours=7,
    ),
    "windows of their own": Case(
        {"PATCH_WINDOW": "daily 12:00-16:00 UTC"},
        {"ignore_window": False},
        body=lambda number: {"tags": {"patch-window": "daily 13:30-16:00 UTC"}} if number % 2 else {},
    ),
    "an end before the last ones": Case({"PATCH_MAX_IN_FLIGHT": "1"}, {"until": timedelta(minutes=80)}, too_late=2),
    "assessments": Case(said={"kind": OperationKind.ASSESS}),
    "assessments and the quota": Case({"PATCH_PACE_PERCENT": "1"}, {"kind": OperationKind.ASSESS}, machines=12),
}


async def at_rest(case: Case) -> tuple[World, list[MachineId]]:
    """Every machine is assessed; one more of each image was installed, so that it is known how long that takes."""
    world = World({"PATCH_WINDOW": CLOSED, **case.settings}, timings=SEEN)
    machines = [world.create(f"vm-{number}", GOOD, **case.body(number)) for number in range(case.machines)]
    images: dict[str, dict[str, Any]] = {"seen-web": {}, "seen-batch": {"image": {"id": OTHER}}}
    for name, body in images.items():
        world.create(name, GOOD, **body)
    await world.pass_time(minutes=30)
    await act(world, runs.order(words(*images)))
    await world.pass_time(hours=1)
    assert sorted(world.installed()) == sorted(images)
    return world, machines


def words(*names: str, kind: OperationKind = OperationKind.INSTALL, ignore_window: bool = True, **said: Any) -> Words:
    return Words(kind, Selector(names), "a CVE", ignore_window=ignore_window, **said)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_run_goes_as_its_preview_says(case: Case) -> None:
    world, machines = await at_rest(case)
    ordered, said = world.now, dict(case.said)
    if until := said.get("until"):
        said["until"] = (world.now + until).isoformat()
    expected = (await act(world, runs.order(words(*(each.name for each in machines), **said)))).result["expected"]
    assert expected["too_late"] == case.too_late
    await world.pass_time(hours=case.hours)
    kind = said.get("kind", OperationKind.INSTALL).value
    done = [each for each in world.operations(kind=kind) if each.started >= ordered]
    begun, ended = min(each.started for each in done), max(each.ends or each.started for each in done)
    assert len(done) == len(machines) - case.too_late
    assert timedelta() <= begun - expected["begins"] <= NEXT_SWEEP
    assert abs(ended - expected["ends"]) <= NEXT_SWEEP
