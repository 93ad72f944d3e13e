"""What the owner wants of one machine: the tags of the machine and of its resource group.

A tag, right or wrong, only ever narrows what the settings allow (`patch-owner` is the one tag that answers a question
the settings leave open: who patches the machine).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from functions.model.machine import LAST_RING, Machine
from functions.model.text import quoted
from functions.policy.grammar import choice, number, read_day, read_group
from functions.policy.settings import MODES, REBOOTS, Mode, Reboot
from functions.policy.window_grammar import GRAMMAR as WINDOW_GRAMMAR
from functions.policy.window_grammar import read_windows
from functions.policy.windows import Windows, both

# tag, the field of Wishes, how to read it, what is allowed
TAGS: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    ("patch-mode", "mode", choice(MODES), "off, plan, assess or install"),
    ("patch-reboot", "reboot", choice(REBOOTS), "Never, IfRequired or Always"),
    ("patch-hold-until", "hold_until", read_day, "a day such as 2027-01-15"),
    ("patch-window", "window", read_windows, WINDOW_GRAMMAR),
    ("patch-ring", "ring", number(0, 99), "0 to 99"),
    ("patch-group", "group", read_group, "a name of letters, digits, . and -"),
    ("patch-owner", "owned_by_us", choice({"image-patcher": True}), "image-patcher"),
)


@dataclass(frozen=True)
class TagOverrides:
    """What the tags of a machine and of its resource group ask for, the narrower of the two."""

    mode: Mode = Mode.INSTALL
    reboot: Reboot = Reboot.ALWAYS
    hold_until: date | None = None
    window: Windows | None = None
    ring: int = LAST_RING
    group: str = ""  # patch-group: one member at a time
    owned_by_us: bool = False
    problem: str = ""  # the first wrong tag, as one line


def tag_overrides(machine: Machine) -> TagOverrides:
    """What the tags of the machine and of its resource group ask for."""
    return read_tags(machine.tags, machine.group.tags if machine.group else {})


def read_tags(machine: Mapping[str, str], group: Mapping[str, str]) -> TagOverrides:
    """The overrides of both tag sets (keys lower-cased), the narrower winning. A wrong tag is a problem, never a guess."""
    overrides, problems = TagOverrides(), []
    for tags in (machine, group):
        try:
            overrides = _narrower(overrides, _overrides(tags))
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
        owned_by_us=one.owned_by_us or other.owned_by_us,
    )


def _overrides(tags: Mapping[str, str]) -> TagOverrides:
    known: dict[str, Any] = {}
    for tag, field, read, grammar in TAGS:
        if tag not in tags:
            continue
        try:
            known[field] = read(tags[tag])
        except ValueError:
            raise ValueError(f"tag {tag} is {quoted(tags[tag])}; allowed: {grammar}") from None
    return TagOverrides(**known)
