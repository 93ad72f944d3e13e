"""Names and tags in every kind of character, over whole sweeps, beside healthy machines that must be installed.

Factors: every general category of Unicode, and every character that a change of case or a normal form takes out of a
name or makes an ASCII one; each of them wherever a tagger, an owner or a guest puts text.

Resource Graph's tolower is Python's here: how Azure's lowers such letters is not published, so the rows keep both.
"""

import asyncio
import json
import sys
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import pytest

from functions.model.state import State
from simulator.arm import machines
from simulator.azure import Behaviour, Machine
from tests.fuzz.checks import journal_lines
from tests.support.world import QUICK, SUBSCRIPTION, World, vm_body

CHANGES: tuple[Callable[[str], str], ...] = (
    str.lower,
    str.upper,
    str.casefold,
    lambda text: unicodedata.normalize("NFKC", text),
)
SUPPORTED = Behaviour(support_state="Supported", pending={"security": 1})
MEMBER, NEIGHBOUR = "good-01", "good-02"  # the one of a patch-group of its own, the other of none
SCOPE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups"
IMAGES = f"{SCOPE}/rg/providers/Microsoft.Compute/galleries/g/images"


def in_a_name(text: str) -> bool:
    return all(char.isalnum() or char in "_.-()" for char in text)


def is_odd(char: str) -> bool:
    """Whether some change takes it out of a name, or makes another letter case of it an ASCII letter."""
    changed = [change(char) for change in CHANGES]
    leaves = in_a_name(char) and not all(map(in_a_name, changed))
    return leaves or (not char.isascii() and any(text.isascii() for text in changed[:3]))


@cache
def characters() -> tuple[str, ...]:
    """Some of each general category, and every odd one. A slash would make another id, of other parts."""
    by_category: dict[str, list[str]] = {}
    for char in map(chr, range(sys.maxunicode + 1)):
        by_category.setdefault(unicodedata.category(char), []).append(char)
    some = [char for each in by_category.values() for char in (each[0], each[len(each) // 2], each[-1])]
    changing = (char for name in ("Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No") for char in by_category[name])
    chosen = dict.fromkeys(["'", '"', "\\", "|", "\n", *some, *filter(is_odd, changing)])
    return tuple(char for char in chosen if char != "/")


def test_the_characters_are_of_every_category_and_hold_those_that_change_their_kind() -> None:
    assert len({unicodedata.category(char) for char in characters()}) == 30  # as many as Unicode has
    assert {"\u0130", "\u212a", "\u0390", "\u017f", "\ud800", "\x00", "\u2028", "\u00bd"} <= set(characters())


def machine(world: World, name: str, group: str = "rg-web", **body: Any) -> None:
    full = f"{SCOPE}/{group}/providers/Microsoft.Compute/virtualMachines/{name}"
    world.azure.behave(full, SUPPORTED)
    world.azure.create_machine(full, vm_body(**body))


def empty_group(world: World, name: str) -> None:
    world.azure.create_group(f"{SCOPE}/{name}", "westeurope")
    group = world.azure.world.groups[f"{SCOPE}/{name}".lower()]
    group.body.set(world.now, {"location": "westeurope", "tags": {"patch-group": "theirs"}})


Put = Callable[[World, str, str], None]
PLACES: dict[str, Put] = {
    "a patch-group": lambda world, name, char: machine(world, name, tags={"patch-group": f"q{char}q"}),
    "other tags": lambda world, name, char: machine(
        world, name, tags={"patch-window": f"any{char}", "patch-mode": char, "owner": f"{char}@", "note": char}
    ),
    "a tag's name": lambda world, name, char: machine(world, name, tags={f"patch-group{char}": "q", char: "q"}),
    "a machine's name": lambda world, name, char: machine(world, f"{name}{char}x"),
    "a resource group's name": lambda world, name, char: machine(world, name, group=f"rg{char}x"),
    "an empty resource group's name": lambda world, name, char: empty_group(world, f"rg{char}x"),
    "a gallery image's id": lambda world, name, char: machine(
        world, name, image={"id": f"{IMAGES}/i{char}/versions/1"}
    ),
    "a marketplace image's offer": lambda world, name, char: machine(
        world, name, image={"publisher": "p", "offer": f"o{char}", "sku": "s", "version": "1"}
    ),
    "an availability set's name": lambda world, name, char: machine(world, name, availability_set=f"set{char}"),
}


def swept(put: Put, **settings: str) -> tuple[World, list[str]]:
    """A world in which each character was put on a machine of its own, after some hours; and its journal."""

    async def run() -> World:
        world = World(settings, timings=QUICK)
        world.events_arrive = False  # the sweep is what they could stop
        machine(world, MEMBER, tags={"patch-group": "mine"})
        machine(world, NEIGHBOUR)
        for number, char in enumerate(characters()):
            put(world, f"vm-{number}", char)
        world.in_steps(timedelta(minutes=30))
        await world.pass_time(hours=3)
        return world

    with journal_lines() as lines:
        return asyncio.run(run()), lines


@cache
def swept_with(place: str) -> tuple[World, list[str]]:
    return swept(PLACES[place], PATCH_IMAGES="all")


def check_goes_on(world: World, lines: list[str]) -> None:
    assert {MEMBER, NEIGHBOUR} <= set(world.installed())
    assert world.errors == []
    assert not {json.loads(line)["event"] for line in lines} & {"step.failed", "sweep.failed"}


@pytest.mark.parametrize("place", PLACES)
def test_no_character_in_a_name_or_tag_stops_another_machine(place: str) -> None:
    check_goes_on(*swept_with(place))


def test_no_character_that_a_guest_reports_stops_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests name their systems; who deploys an extension names it."""

    def reported(machine: Machine) -> str:
        number = machine.name.removeprefix("vm-")
        return f"a{characters()[int(number)]}" if number.isdigit() else "agent"

    def put(world: World, name: str, char: str) -> None:
        machine(world, name)
        world.azure.behave(f"{SCOPE}/rg-web/providers/Microsoft.Compute/virtualMachines/{name}", BUSY)

    monkeypatch.setattr(machines, "_extension_name", reported)
    monkeypatch.setattr(
        machines, "guest", lambda machine: {"computerName": reported(machine), "osName": reported(machine)}
    )
    world, lines = swept(put)
    check_goes_on(world, lines)
    reasons = [record.hold.reason for record in asyncio.run(world.records()) if record.hold]
    assert len([reason for reason in reasons if "extension" in reason]) == len(characters())


BUSY = Behaviour(support_state="Supported", pending={"security": 1}, extensions_hang=True)


def test_a_patch_group_that_cannot_be_read_leaves_its_machine_alone_and_says_so() -> None:
    world, _ = swept_with("a patch-group")
    states = asyncio.run(world.states())
    left = {char for number, char in enumerate(characters()) if states[f"vm-{number}"].state is State.BAD_TAG}
    assert left == {char for char in characters() if not (char.isascii() and (char.isalnum() or char in "_.-"))}
    assert all("patch-group" in step.reason for step in states.values() if step.state is State.BAD_TAG)
