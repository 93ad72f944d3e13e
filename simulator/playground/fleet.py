"""The machines of the playground: a given number of a given number of images, each a little different.

The same numbers give the same fleet. Images differ in system and kind; machines in age, owner and ring. Every sixth
machine is special: its owner asked for something, or its guest does not do what one hopes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from simulator.arm import shapes
from simulator.azure import Behaviour
from simulator.wire import Json

MAX_MACHINES, MAX_IMAGES = 2_000, 50
_WAITING: Mapping[str, int] = {"critical": 1, "security": 4}
_PLAIN = Behaviour(pending=_WAITING)
_OLDEST_DAYS = 60
_EVERY = 6  # which machines are special
_OWNERS = ("shop", "office", "data")

# What a guest does: name → meaning, behaviour.
BEHAVIOURS: Mapping[str, tuple[str, Behaviour]] = {
    "plain": ("Azure supports the guest; patches wait, and can be installed", _PLAIN),
    "up-to-date": ("no patch waits", Behaviour(pending={})),
    "unsupported": ("Azure does not support the guest", Behaviour(support_state="Unsupported")),
    "no-verdict": ("no assessment finds out whether Azure supports the guest", Behaviour(support_state="Unknown")),
    "fails": (
        "two patches fail in each installation",
        Behaviour(pending=_WAITING, install_status="Failed", failed_patches=2),
    ),
    "slow": ("an installation takes three hours", Behaviour(pending=_WAITING, install_seconds=3 * 3600)),
    "hangs": ("an operation never ends", Behaviour(pending=_WAITING, never_ends=True)),
    "silent": ("the VM agent never reports", Behaviour(agent_never_ready=True)),
    "no-reboot": (
        "a reboot stays pending after an installation",
        Behaviour(pending=_WAITING, reboot_status="Required"),
    ),
    "refused": ("Azure refuses every patch operation: the image", Behaviour(refuse="unsupported-image")),
    "off": ("the machine is powered off", _PLAIN),
}


@dataclass(frozen=True)
class Member:
    """One machine: its PUT, its age when the playground begins, and the name of what its guest does."""

    id: str
    body: Json
    age: timedelta
    behaviour: str = "plain"

    @property
    def name(self) -> str:
        return self.id.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class _Image:
    family: str
    windows: bool
    shape: shapes.ImageName
    reference: Json

    def body(self, tags: Mapping[str, str]) -> Json:
        system: Any = "Windows" if self.windows else "Linux"
        return shapes.machine(self.shape, system, tags=dict(tags), reference=self.reference)


@dataclass(frozen=True)
class _Special:
    """What one special machine has: tags of its own, or a guest that behaves otherwise."""

    behaviour: str = "plain"
    tags: Mapping[str, str] = field(default_factory=dict)


_SPECIAL = (
    _Special("fails"),
    _Special(tags={"patch-mode": "off"}),
    _Special("unsupported"),
    _Special("off"),
    _Special(tags={"patch-hold-until": "2099-01-01"}),
    _Special("silent"),
    _Special("up-to-date"),
    _Special(tags={"patch-windw": "Sat 22:00-02:00"}),  # misspelt on purpose
    _Special("no-reboot"),
    _Special("no-verdict"),
)
# family, Windows, kind of image; more images are newer versions of these
_FAMILIES: Sequence[tuple[str, bool, shapes.ImageName]] = (
    ("web", False, "gallery"),
    ("api", True, "gallery"),
    ("db", False, "specialized"),
    ("erp", True, "gallery"),
    ("batch", False, "gallery"),
)


def members(machines: int, images: int, behaviours: Mapping[str, int]) -> list[Member]:
    """The fleet. `behaviours`: how many machines behave so, besides the special ones.

    Raises ValueError for a number out of range or a name that is none of BEHAVIOURS.
    """
    _check("--machines", machines, least=0, most=MAX_MACHINES)
    _check("--images", images, least=1, most=MAX_IMAGES)
    for name in behaviours:
        behaviour_named(name)
    if sum(behaviours.values()) > machines:
        raise ValueError(f"--behaviour asks for {sum(behaviours.values())} machines, and there are {machines}")
    wanted = [name for name, count in behaviours.items() for _ in range(count)]
    return [_member(number, images, wanted) for number in range(machines)]


def behaviour_named(name: str) -> Behaviour:
    """Raises ValueError where there is none of this name."""
    if name not in BEHAVIOURS:
        raise ValueError(f"'{name}' is not a behaviour; one of: {', '.join(BEHAVIOURS)}")
    return BEHAVIOURS[name][1]


def _member(number: int, images: int, wanted: Sequence[str]) -> Member:
    image = _image(number % images)
    turn, rest = divmod(number, _EVERY)
    special = _SPECIAL[turn % len(_SPECIAL)] if rest == _EVERY - 1 else _Special()
    if number < len(wanted):
        special = _Special(wanted[number])
    owner = _OWNERS[number // images % len(_OWNERS)]
    ring = {0: {"patch-ring": "0"}, 1: {"patch-ring": "1"}}.get(number // images % 5, {})
    name = f"{image.family}-{number + 1:03d}"
    age = timedelta(days=1 + number * 7 % _OLDEST_DAYS)
    body = image.body({"owner": owner, **ring, **special.tags})
    return Member(shapes.machine_id(name, f"rg-{owner}"), body, age, special.behaviour)


def _image(number: int) -> _Image:
    family, windows, shape = _FAMILIES[number % len(_FAMILIES)]
    version = f"1.{number // len(_FAMILIES)}.0"
    gallery = f"/subscriptions/{shapes.SUBSCRIPTION}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries"
    return _Image(family, windows, shape, {"id": f"{gallery}/golden/images/{family}/versions/{version}"})


def _check(option: str, number: int, *, least: int, most: int) -> None:
    if not least <= number <= most:
        raise ValueError(f"{option} is {number}; {least} to {most} is right")
