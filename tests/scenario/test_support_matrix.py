"""docs/support-matrix.md, cell by cell: every kind of image in every way of assessing and patching.

Factors: kind of image × operating system × way. One world per way holds a machine of each kind, and a row of the test
looks at one of them. What Microsoft's pages say: tests/recordings/customized_images.json.
"""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import pytest

from functions.cloud.ledger import APP
from functions.cloud.runs import columns_of, run_key
from functions.model.machine import ImageKind, MachineId
from functions.model.run import Run
from functions.model.state import OperationKind, State
from simulator.arm import shapes
from simulator.azure import Behaviour
from tests.support.world import QUICK, World

Os = Literal["Windows", "Linux"]
BOTH: tuple[Os, ...] = ("Windows", "Linux")
FACTS: dict[str, Any] = json.loads(Path("tests/recordings/customized_images.json").read_text())
PAGE = Path("docs/support-matrix.md").read_text()
CLOSED = "Sun 02:00-06:00 UTC"  # the scenarios begin on a Wednesday at 08:00
SATURDAY = "Sat 02:00-06:00 UTC"
ALL = {"PATCH_IMAGES": "all"}

# The kind as the page names it → the kind of the app, and the body of its PUT.
KINDS: dict[str, tuple[ImageKind, shapes.ImageName]] = {
    "Gallery, generalized": (ImageKind.GALLERY, "gallery"),
    "Gallery, specialized (no osProfile)": (ImageKind.GALLERY_SPECIALIZED, "specialized"),
    "Shared gallery": (ImageKind.SHARED_GALLERY, "shared-gallery"),
    "Community gallery": (ImageKind.COMMUNITY_GALLERY, "community-gallery"),
    "Managed image": (ImageKind.MANAGED_IMAGE, "managed-image"),
    "Disk without an image (migrated, restored, ASR)": (ImageKind.NONE, "none"),
    "Marketplace (`PATCH_IMAGES=all`)": (ImageKind.MARKETPLACE, "marketplace"),
}


def name_of(kind: ImageKind, os: Os) -> str:
    return f"{re.sub('[^a-z]+', '-', kind.value)}-{os[:3].lower()}"


def create(world: World, kind: str, os: Os) -> MachineId:
    """Marketplace machines show no support state: their support is checked before the call (the same page)."""
    image, body = KINDS[kind]
    machine = world.machine_id(name_of(image, os))
    state = None if image is ImageKind.MARKETPLACE else "Supported"
    world.azure.behave(str(machine), Behaviour(support_state=state, pending={"critical": 1, "security": 2}))
    world.azure.create_machine(str(machine), shapes.machine(body, os))
    return machine


async def a_world(**settings: str) -> World:
    world = World(ALL | settings, timings=QUICK)
    world.in_steps(timedelta(minutes=5))
    for kind, os in product(KINDS, BOTH):
        create(world, kind, os)
    return world


def order(world: World, kind: OperationKind, **fields: Any) -> None:
    """The row that `patcher run` writes, for every machine."""
    machines = tuple(world.machine_id(name_of(image, os)) for (image, _), os in product(KINDS.values(), BOTH))
    until = world.now + timedelta(hours=24)
    run = Run("1", kind, machines, reason="a CVE", by="Jane", opened=world.now, until=until, **fields)
    world.table.put(APP, run_key(run.id), columns_of(run))


# -- one world per way


async def assessed_by_a_run() -> World:
    world = await a_world(PATCH_MODE="assess")
    await world.pass_time(hours=1)
    order(world, OperationKind.ASSESS)
    await world.pass_time(hours=2)
    return world


async def installed_by_a_run() -> World:
    world = await a_world(PATCH_WINDOW=CLOSED)
    await world.pass_time(hours=1)
    order(world, OperationKind.INSTALL, ignore_window=True)
    await world.pass_time(hours=3)
    return world


async def assessed_daily() -> World:
    world = await a_world(PATCH_MODE="assess", PATCH_ASSESS_HOURS="24")
    world.in_long_steps()
    await world.pass_time(days=4)
    return world


async def installed_in_a_window() -> World:
    world = await a_world(PATCH_WINDOW=SATURDAY)
    world.in_long_steps()
    await world.pass_time(days=4)
    return world


async def patched_by_itself() -> World:
    world = await a_world()
    await world.pass_time(hours=4)
    return world


# -- what each way must have done to one machine


def once_more(world: World, machine: MachineId) -> None:
    assert [each.status for each in world.operations(machine, "assess")] == ["Succeeded"] * 2
    assert world.operations(machine, "install") == []


def installed_once(world: World, machine: MachineId) -> None:
    assert [each.status for each in world.operations(machine, "install")] == ["Succeeded"]


def every_day(world: World, machine: MachineId) -> None:
    began = [each.started for each in world.operations(machine, "assess")]
    assert len(began) >= 4
    assert all(timedelta(hours=12) < later - earlier < timedelta(hours=36) for earlier, later in pairwise(began[1:]))
    assert world.operations(machine, "install") == []


def in_its_window(world: World, machine: MachineId) -> None:
    [installation] = world.operations(machine, "install")
    assert (installation.status, installation.started.strftime("%a")) == ("Succeeded", "Sat")
    assert 2 <= installation.started.hour < 6


def assessed_then_installed(world: World, machine: MachineId) -> None:
    first, *later = world.operations(machine)
    assert (first.kind, [each.kind for each in later].count("install")) == ("assess", 1)
    assert all(each.status == "Succeeded" and each.started_by == "User" for each in (first, *later))


Live = Callable[[], Awaitable[World]]
WAYS: dict[str, tuple[Live, Callable[[World, MachineId], None], set[State]]] = {
    "on-demand assessment": (assessed_by_a_run, once_more, {State.ASSESSED}),
    "on-demand patching": (installed_by_a_run, installed_once, {State.PATCHED}),
    "periodic assessment": (assessed_daily, every_day, {State.ASSESSED, State.DUE, State.ASSESSING}),
    "scheduled patching": (installed_in_a_window, in_its_window, {State.PATCHED}),
    "automatic patching": (patched_by_itself, assessed_then_installed, {State.PATCHED}),
}
LIVED: dict[str, World] = {}


@pytest.mark.parametrize("os", BOTH)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_cell_of_the_matrix(way: str, kind: str, os: Os) -> None:
    live, done, states = WAYS[way]
    if way not in LIVED:
        LIVED[way] = await live()
    world, image = LIVED[way], KINDS[kind][0]
    machine = world.machine_id(name_of(image, os))
    done(world, machine)
    seen = await world.machine(machine)
    assert (seen.image.kind, seen.os_type) == (image, os)
    assert (await world.states())[machine.name].state in states


# -- the page


def table(head: str) -> dict[str, list[str]]:
    """The rows of the page's table whose first column has this head, its head row included."""
    block = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in block]
    return {row[0]: row[1:] for row in lines if not row[0].startswith("---")}


def test_the_page_has_exactly_the_cells_that_are_shown() -> None:
    shown = table("built from")
    assert shown.pop("built from") == list(WAYS)
    assert list(shown) == list(KINDS)
    assert list(table("column"))[1:] == list(WAYS)


def test_the_page_says_of_azure_what_its_newest_page_says() -> None:
    newest, rows_of = max(FACTS["tables"], key=lambda each: each["date"]), FACTS["rows_of"]
    expected = {
        kind: newest["rows"][group]
        for group, kinds in rows_of.items()
        for kind, (image, _) in KINDS.items()
        if image.value in kinds
    }
    expected["Marketplace (`PATCH_IMAGES=all`)"] = FACTS["marketplace"]["row"]
    said = {kind: [cell.split(" / ")[0] for cell in cells] for kind, cells in table("built from").items()}
    assert said | {"built from": []} == expected | {"built from": []}


# -- AutomaticByPlatform

MODES = {
    f"{mode['patch_mode']}, {'customized' if mode['customized'] else 'marketplace'}, {app}": (mode, app)
    for mode, app in product(FACTS["patch_modes"], ("assess", "install"))
}


@pytest.mark.parametrize(("mode", "app"), MODES.values(), ids=MODES)
async def test_a_patch_mode_by_which_the_platform_does_nothing_is_reported(mode: dict[str, Any], app: str) -> None:
    """The app installs by its own rules where the platform does not, and leaves the machine where it does."""
    world = World(ALL | {"PATCH_MODE": app}, timings=QUICK)
    world.in_steps(timedelta(minutes=5))
    machine = world.machine_id("web-01")
    image: shapes.ImageName = "gallery" if mode["customized"] else "marketplace"
    world.azure.behave(str(machine), Behaviour(pending={"security": 2}))
    body = shapes.machine(image, patch_settings={"patchMode": mode["patch_mode"]})
    world.azure.create_machine(str(machine), body)
    await world.pass_time(hours=3)
    step = (await world.states())["web-01"]
    unpatched = mode["patch_mode"] == "AutomaticByPlatform" and not mode["platform_patches"]
    if app == "install":
        assert step.state is (State.SCHEDULED_ELSEWHERE if mode["platform_patches"] else State.PATCHED)
        assert len(world.operations(machine, "install")) == (0 if mode["platform_patches"] else 1)
        return
    assert world.operations(machine, "install") == []
    assert step.state is (State.PATCHED_BY_NOBODY if unpatched else State.ASSESSED)
    if unpatched:
        assert "neither guest nor platform patches it" in step.reason
        assert "PATCH_MODE=install" in step.remedy
