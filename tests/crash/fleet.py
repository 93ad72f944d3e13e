"""The machines of a crash run, what should become of each, and the judgement over what became of them.

Written down by hand: nothing here is computed from what the app says of itself, except the state people are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from functions.cloud.ledger import Stored
from functions.cloud.rows import LeftAlone
from functions.model.state import Phase
from simulator.arm import shapes
from simulator.azure import Behaviour, Operation, overlaps
from simulator.wire import Json

_WAITING: Mapping[str, int] = {"critical": 1, "security": 4}  # nothing is left over once these are in
_GALLERY = (
    f"/subscriptions/{shapes.SUBSCRIPTION}/resourceGroups/images/providers/Microsoft.Compute/galleries/gold/images"
)
_SUPPORTED = Behaviour(support_state="Supported", pending=_WAITING)


@dataclass(frozen=True)
class Script:
    """One kind of machine: what its guest does, what its owner says, and how it must end."""

    name: str
    ends: str  # its State
    assessments: int  # at least: a crash may cost one more, which does no harm
    installations: int  # exactly: each of these ends well, or holds the machine for its owner
    behaviour: Behaviour = _SUPPORTED
    image: shapes.ImageName = "gallery"
    tags: Mapping[str, str] = field(default_factory=dict)
    event_lost: bool = False
    own_image: bool = False  # what happens to it then stops no other machine


PATCHED = Script("patched", "patched", 2, 1)
NO_EVENT = Script("no-event", "patched", 2, 1, event_lost=True)
NOT_SUPPORTED = Script("not-supported", "unsupported", 1, 0, Behaviour("Unsupported"), "community-gallery")
PATCHES_FAIL = Script(
    "patches-fail",
    "breaker-open",
    1,
    1,
    Behaviour(pending=_WAITING, install_status="Failed", failed_patches=5),
    own_image=True,
)
OPTED_OUT = Script("opted-out", "opted-out", 0, 0, tags={"patch-mode": "off"})
_SOME = (PATCHED, NO_EVENT, PATCHED, NOT_SUPPORTED, PATCHED, PATCHES_FAIL, PATCHED, OPTED_OUT)


@dataclass(frozen=True)
class Member:
    """One machine of the fleet."""

    number: int
    script: Script

    @property
    def name(self) -> str:
        return f"{self.script.name}-{self.number:02}"

    @property
    def id(self) -> str:
        return shapes.machine_id(self.name)

    def body(self) -> Json:
        image = {"id": f"{_GALLERY}/{self.name}/versions/1.0.0"} if self.script.own_image else None
        return shapes.machine(self.script.image, tags=dict(self.script.tags), reference=image)


def fleet(size: int) -> tuple[Member, ...]:
    """Of every kind of machine some, most of them to be patched."""
    return tuple(Member(number, _SOME[number % len(_SOME)]) for number in range(size))


@dataclass(frozen=True)
class World:
    """What is checked in the end: what Azure saw, what people are shown, what lies in table and queues."""

    operations: Sequence[Operation]
    states: Mapping[str, tuple[str, str]]  # machine's name → its State and reason
    rows: Sequence[Stored | LeftAlone]
    messages: Mapping[str, int]  # queue → how many
    now: datetime


@dataclass(frozen=True)
class Judgement:
    """What is wrong with the world, each a line that names its machine."""

    lost: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        return self.lost + self.twice + self.left_over

    def __bool__(self) -> bool:
        """All is well."""
        return not self.problems


def machines_in(problems: Iterable[str]) -> set[str]:
    """The machines that these problems are about: one may have several."""
    return {problem.partition(":")[0] for problem in problems}


def judge(members: Iterable[Member], world: World) -> Judgement:
    members = tuple(members)
    lost = [problem for member in members for problem in _lost(member, world)]
    twice = [problem for member in members for problem in _twice(member, world)]
    twice += [
        f"{_name(first)}: {second.kind} began beside {first.kind}" for first, second in overlaps(world.operations)
    ]
    return Judgement(tuple(lost), tuple(twice), tuple(_left_over(world)))


def _lost(member: Member, world: World) -> Iterable[str]:
    script = member.script
    state, reason = world.states.get(member.name, ("in no list", ""))
    assessed, installed = (len(_of(member, world, kind)) for kind in ("assess", "install"))
    if state != script.ends:
        yield f"{member.name}: ended {state}, not {script.ends}"
    elif not reason:
        yield f"{member.name}: {state} without a reason"
    if assessed < script.assessments or installed < script.installations:
        yield f"{member.name}: {assessed} assessments, {installed} installations"


def _twice(member: Member, world: World) -> Iterable[str]:
    installed = len(_of(member, world, "install"))
    if installed > member.script.installations:
        yield f"{member.name}: {installed} installations, not {member.script.installations}"


def _left_over(world: World) -> Iterable[str]:
    """A row that is not at rest, or cannot be read; a message that no host took."""
    for row in world.rows:
        if isinstance(row, LeftAlone):
            yield f"a row cannot be read: {row}"
        elif row.record.phase is not Phase.HELD:
            yield f"{row.record.machine.name}: its row is still {row.record.phase}"
        elif not (row.record.hold and row.record.hold.reason) and not row.record.due_again(world.now):
            yield f"{row.record.machine.name}: held without a reason"
    for queue, count in world.messages.items():
        if count:
            yield f"{queue}: {count} messages"


def _of(member: Member, world: World, kind: str) -> list[Operation]:
    wanted = member.id.lower()
    return [each for each in world.operations if each.machine.lower() == wanted and each.kind == kind]


def _name(operation: Operation) -> str:
    return operation.machine.rsplit("/", 1)[-1]
