"""Every patch of an installation by name, in the journal and in the machine's reason.

Factors: how the installation ended x what names its patches (the operation's answer, a list that was cut, nothing).
"""

from dataclasses import replace

import pytest

from functions import journal
from functions.model.patches import TriedPatch, TriedPatches
from functions.model.state import State
from simulator.azure import Behaviour, Fault
from tests.support.journaled import Told
from tests.support.world import QUICK, World

SUPPORTED = Behaviour(pending={"security": 2, "other": 1})
FAILING = replace(SUPPORTED, install_status="Failed", failed_patches=1)
# Behaviour and system of the machine → the line's text, and how many patches it leaves out.
LINES = {
    "all that was asked for is in": (
        SUPPORTED,
        "Linux",
        "Installed Security libsecurity0 1.1.0-1ubuntu1; Installed Security libsecurity1 1.1.1-1ubuntu1; "
        "NotSelected Other libother0 1.1.0-1ubuntu1",
        None,
    ),
    "Windows": (
        SUPPORTED,
        "Windows",
        "Installed Security KB5001100; Installed Security KB5001101",
        None,
    ),
    "one failed": (
        FAILING,
        "Linux",
        "Failed Security libsecurity0 1.1.0-1ubuntu1; Installed Security libsecurity1 1.1.1-1ubuntu1; "
        "NotSelected Other libother0 1.1.0-1ubuntu1",
        None,
    ),
    "the guest cut the list": (
        replace(SUPPORTED, list_limit=1),
        "Linux",
        "Installed Security libsecurity0 1.1.0-1ubuntu1",
        2,
    ),
}


@pytest.mark.parametrize(("behaviour", "system", "text", "left_out"), LINES.values(), ids=LINES)
async def test_an_installation_leaves_a_line_with_its_patches(
    told: Told, behaviour: Behaviour, system: str, text: str, left_out: int | None
) -> None:
    world = World(timings=QUICK)
    machine = world.create("vm-01", behaviour, os=system)
    await world.pass_time(minutes=40)
    [line, *_] = told("installation.patches")
    [ended, *_] = told("installation.ended")
    assert (line["patch_list"], line.get("left_out")) == (text, left_out)
    assert (line["machine"], line["operation"], line["image"]) == (str(machine), ended["operation"], ended["image"])


async def test_where_nothing_names_them_the_line_says_so_and_the_machine_goes_on(told: Told) -> None:
    """The operation's answer is gone, and the instance view counts patches only."""
    world = World(timings=QUICK)
    world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=404))
    machine = world.create("vm-01", SUPPORTED)
    await world.pass_time(hours=3)
    [line] = told("installation.patches")
    assert (line["patch_list"], line["left_out"]) == ("not known", 3)
    assert [each.kind for each in world.operations(machine)] == ["assess", "install", "assess"]


async def test_the_state_of_a_machine_names_the_patch_that_failed_and_how_to_go_without_it() -> None:
    world = World(timings=QUICK)
    world.create("vm-01", FAILING)
    await world.pass_time(minutes=40)
    step = (await world.states())["vm-01"]
    assert (step.state, step.reason) == (State.FAILED, "libsecurity0 1.1.0-1ubuntu1 failed")
    assert "add libsecurity0 to PATCH_PACKAGES_EXCLUDE" in step.remedy


# Names in which a redaction could find a secret or an address.
LOOK_ALIKES = ("passwd 1:4.8.1-2ubuntu2", "libsecret-1-0 0.20.5-2", "ubuntu-keyring 2021.03.26", "python3-jwt 2.3.0-1")


def test_the_line_keeps_every_name_however_many_there_are(told: Told) -> None:
    many = [TriedPatch(name, "", "Security", "Installed") for name in LOOK_ALIKES * 100]
    text, left_out = TriedPatches(tuple(many), known=True).told()
    journal.write("installation.patches", patch_list=text, left_out=left_out)
    [line] = told("installation.patches")
    assert line["patch_list"] == text
    assert len(text) > 8_000
