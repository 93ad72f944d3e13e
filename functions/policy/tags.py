"""What the owner wants of one machine: the tags of the machine and of its resource group.

A tag, right or wrong, only ever narrows what the settings allow (`patch-owner` is the one tag that answers a question
the settings leave open: who patches the machine).

TagOverrides declares each tag once, beside the field that holds its value; TAGS is the table of these declarations.
"""

# ruff: noqa: RUF009 - tag() gives a dataclass field, as field() does

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from functions.model.machine import LAST_RING, Machine
from functions.model.text import quoted
from functions.policy import grammar
from functions.policy.grammar import RESERVED, Reader, choice, number, refusal
from functions.policy.names import nearest
from functions.policy.values import MODES, REBOOTS, Mode, Reboot, Sla, days_by_severity
from functions.policy.windows import Windows, both

T = TypeVar("T")


class Tag(NamedTuple):
    """One tag, as a field of TagOverrides declares it."""

    field: str
    name: str
    reader: Reader[object]
    meaning: str


def tag(name: str, read_by: Reader[T], meaning: str, *, absent: T) -> T:
    """Declares the tag that a field is read from, and the field's value where the tag is absent.

    It gives a dataclass field. To mypy it gives what the reader reads, so that mypy compares reader and field.
    """
    declared: T = field(default=absent, metadata={"tag": (name, read_by, meaning)})
    return declared


@dataclass(frozen=True)
class TagOverrides:
    """What the tags of a machine and of its resource group ask for, the narrower of the two."""

    mode: Mode = tag("patch-mode", MODES, "The smaller of setting and tag wins; off opts out.", absent=Mode.INSTALL)
    reboot: Reboot = tag("patch-reboot", REBOOTS, "The smaller of setting and tag wins.", absent=Reboot.ALWAYS)
    hold_until: date | None = tag("patch-hold-until", grammar.day, "No operation before this day (UTC).", absent=None)
    window: Windows | None = tag(
        "patch-window", grammar.windows, "Open only while the setting's window and this one are.", absent=None
    )
    ring: int = tag(
        "patch-ring", number(0, 99), "The ring of a rollout: 0 goes first, untagged last.", absent=LAST_RING
    )
    group: str = tag(
        "patch-group",
        grammar.group_name,
        "One member at a time, and none while another member is off or unhealthy. For quorum pairs, also across zones.",
        absent="",
    )
    may_start: bool = tag(
        "patch-start",
        choice({"no": False}),
        "A stopped machine stays stopped, whatever PATCH_START_STOPPED says.",
        absent=True,
    )
    sla: Sla | None = tag(
        "patch-sla",
        days_by_severity,
        "The shorter limit of setting (PATCH_SLA_DAYS) and tag counts, by severity.",
        absent=None,
    )
    owned_by_us: bool = tag(
        "patch-owner",
        choice({"image-patcher": True}),
        "The app installs here although a maintenance configuration covers the machine too; on the machine itself also "
        "although a lab or cluster service made it.",
        absent=False,
    )

    problem: str = ""  # the first wrong tag, as one line


TAGS = tuple(Tag(each.name, *each.metadata["tag"]) for each in fields(TagOverrides) if each.metadata)


def tag_overrides(machine: Machine) -> TagOverrides:
    """What the tags of the machine and of its resource group ask for."""
    return read_tags(machine.tags, machine.resource_group.tags if machine.resource_group else {})


def read_tags(machine: Mapping[str, str], group: Mapping[str, str]) -> TagOverrides:
    """The overrides of both tag sets (names lower-cased), the narrower winning. A wrong tag allows nothing."""
    return _read(_ours(machine), _ours(group))


def _ours(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The app's own tags among these, and those that are meant to be one."""
    names = _reserved(tuple(tags)) if tags else ()
    return tuple([(name, tags[name]) for name in names]) if names else ()


@lru_cache(maxsize=4096)
def _reserved(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([name for name in names if name.startswith(RESERVED)])


@lru_cache(maxsize=4096)  # a fleet has few such sets, and each machine's is read several times per sweep
def _read(machine: tuple[tuple[str, str], ...], group: tuple[tuple[str, str], ...]) -> TagOverrides:
    overrides, problems = TagOverrides(), []
    for tags in filter(None, (machine, group)):
        try:
            overrides = _narrower(overrides, _overrides(dict(tags)))
        except ValueError as error:
            problems.append(str(error))
    return overrides if not problems else TagOverrides(mode=Mode.OFF, problem=problems[0])


def _narrower(one: TagOverrides, other: TagOverrides) -> TagOverrides:
    holds = [hold for hold in (one.hold_until, other.hold_until) if hold]
    return TagOverrides(
        mode=min(one.mode, other.mode),
        reboot=min(one.reboot, other.reboot),
        hold_until=max(holds, default=None),
        window=both(one.window, other.window) if one.window and other.window else one.window or other.window,
        ring=max(one.ring, other.ring) if LAST_RING not in (one.ring, other.ring) else min(one.ring, other.ring),
        group=one.group or other.group,
        may_start=one.may_start and other.may_start,
        sla=one.sla.and_within(other.sla) if one.sla else other.sla,
        owned_by_us=one.owned_by_us or other.owned_by_us,
    )


def _overrides(tags: Mapping[str, str]) -> TagOverrides:
    """What one tag set asks for. Raises ValueError, saying which tag is wrong."""
    for name in tags:
        _check_name(name)
    # By field. Any is sound here: each value comes from the reader that mypy compared with its field (see tag()).
    values: dict[str, Any] = {}
    for each in TAGS:
        if each.name not in tags:
            continue
        try:
            values[each.field] = each.reader.read(tags[each.name])
        except ValueError as error:
            raise ValueError(refusal(f"tag {each.name}", tags[each.name], read_by=each.reader, error=error)) from None
    return TagOverrides(**values)


def _check_name(name: str) -> None:
    """Raises ValueError for a tag that is nearly one of ours. Azure compares tag names without case."""
    known = [each.name for each in TAGS]
    if name in known:
        return
    near = nearest(name, known, prefix="patch-")
    hint = f"did you mean {near}?" if near else f"the app's tags are {', '.join(known)}"
    raise ValueError(f"tag {quoted(name, limit=60)[1:-1]} is not a tag of the app; {hint}")
