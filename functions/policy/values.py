"""What a setting or a tag may hold beyond a number or a time, and how each is written."""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, IntEnum
from typing import NamedTuple

from functions.model.text import GUID, BadInput, quoted
from functions.policy.grammar import choice, duration, number, percent, reader

MAX_AT_ONCE, MAX_PERCENT = 10_000, 100


class Mode(IntEnum):
    """How much the app may do. The smaller of setting and tag wins."""

    OFF = 0
    PLAN = 1  # of the app: assess, and say what would be installed; of a machine, by its tag: call nothing
    ASSESS = 2
    INSTALL = 3


class Reboot(IntEnum):
    """The reboot setting of an installation, from least to most. The smaller of setting and tag wins."""

    NEVER = 0
    IF_REQUIRED = 1
    ALWAYS = 2

    @property
    def wire(self) -> str:
        """As the API spells it (`VMGuestPatchRebootSetting`)."""
        return ("Never", "IfRequired", "Always")[self]


class RolloutScope(Enum):
    """Whose machines prove an image for each other, and stop it."""

    SUBSCRIPTION = "subscription"
    OWNER = "owner"
    FLEET = "fleet"


MODES = choice({mode.name.lower(): mode for mode in Mode})
REBOOTS = choice({reboot.wire: reboot for reboot in Reboot})


class Scope(NamedTuple):
    """Where to look, by subscriptions or by management groups. Neither: wherever the app's identity may read."""

    subscriptions: tuple[str, ...] = ()
    management_groups: tuple[str, ...] = ()
    unmarked: tuple[str, ...] = ()  # of the management groups: those written without mg:


def _listed(text: str) -> tuple[str, ...]:
    """The names between commas, lower-cased. Raises ValueError: lowered, the Kelvin sign would be another name's k."""
    if not text.isascii():
        raise ValueError
    return tuple(item.strip().lower() for item in text.split(",") if item.strip())


@reader("subscription ids, or management groups as mg:name, separated by commas")
def subscriptions_or_management_groups(text: str) -> Scope:
    """A GUID is a subscription, unless `mg:` says otherwise: the root management group's name is the tenant's GUID."""
    items = _listed(text)
    names = tuple(item.removeprefix("mg:") for item in items)
    if not all(re.fullmatch(r"[\w().-]{1,90}", name, re.ASCII) for name in names):
        raise ValueError
    subscriptions = tuple(item for item in items if GUID.fullmatch(item))
    if subscriptions and subscriptions != items:
        raise ValueError  # Resource Graph takes subscriptions or management groups, not both
    unmarked = tuple(item for item in items if not item.startswith("mg:"))
    return Scope(subscriptions) if subscriptions else Scope(management_groups=names, unmarked=unmarked)


@dataclass(frozen=True)
class Breaker:
    """So many machines that failed within this span open the breaker of an image."""

    failures: int
    span: timedelta


@reader("machines in days, such as 3 in 7 days or 3 in 7d")
def machines_in_days(text: str) -> Breaker:
    match = re.fullmatch(r"(\d{1,3}) in (\d{1,3}) ?d(?:ays?)?", text, re.IGNORECASE | re.ASCII)
    if not match or not 1 <= int(match[1]) <= 100 or not 1 <= int(match[2]) <= 90:
        raise ValueError
    return Breaker(int(match[1]), timedelta(days=int(match[2])))


@reader("resource ids of machines or resource groups, or masks of machine names such as web-canary-*, by commas")
def machines_named(text: str) -> tuple[str, ...]:
    items = tuple(item.rstrip("/") for item in _listed(text))
    group = rf"/subscriptions/{GUID.pattern}/resourcegroups/[\w().-]{{1,90}}"
    machine = rf"{group}/providers/microsoft\.(?:compute/virtual|hybridcompute/)machines/[\w.-]{{1,64}}"
    if not all(re.fullmatch(rf"{group}|{machine}|[\w*?.-]{{1,64}}", item, re.ASCII) for item in items):
        raise ValueError
    return items


class Cap(NamedTuple):
    """How many at once: a count, or so many percent of the machines that the cap counts over."""

    number: int
    is_percent: bool = False

    def of(self, machines: int) -> int:
        """How many go at once among so many machines. A percentage is rounded down, and is 1 at least."""
        return max(self.number * machines // 100, 1) if self.is_percent else self.number

    def times(self, factor: int) -> "Cap":
        """A wider one, as wide as a setting may be."""
        return Cap(min(self.number * factor, MAX_PERCENT if self.is_percent else MAX_AT_ONCE), self.is_percent)

    def told(self, machines: int) -> str:
        """As the setting has it, and what that is of."""
        return f"{self} of {machines} machines" if self.is_percent else str(self)

    def __str__(self) -> str:
        return f"{self.number}%" if self.is_percent else str(self.number)


@reader("1 to 10000, or 1% to 100% of the machines")
def count_or_percent(text: str) -> Cap:
    share = text.endswith("%")
    return Cap(percent(1, MAX_PERCENT).read(text) if share else number(1, MAX_AT_ONCE).read(text), share)


@reader("off, 1 to 10000, or 1% to 100% of the machines")
def off_or_cap(text: str) -> Cap | None:
    return None if text.lower() in ("off", "0", "0%") else count_or_percent.read(text)


class Sla(NamedTuple):
    """How soon a patch should be in, by its severity."""

    critical: timedelta
    security: timedelta

    def and_within(self, other: "Sla | None") -> "Sla":
        """The shorter limit of both, by severity."""
        return Sla(min(self.critical, other.critical), min(self.security, other.security)) if other else self


@reader("days, up to 3650, or by severity such as Critical 7, Security 30")
def days_by_severity(text: str) -> Sla:
    """One number for both, or both by name."""
    limit = duration("days", 0.001, 3_650)
    if not text[:1].isalpha():
        return Sla(limit.read(text), limit.read(text))
    named = dict(item.split() for item in text.lower().split(","))  # ValueError where one has not two words
    if not text.isascii() or named.keys() != {"critical", "security"} or len(named) != text.count(",") + 1:
        raise ValueError
    return Sla(limit.read(named["critical"]), limit.read(named["security"]))


class SlaByOwner(NamedTuple):
    """How soon patches should be in: by default, and for owners whose limits are shorter."""

    everyone: Sla
    owners: tuple[tuple[str, Sla], ...] = ()  # names in lower case

    def of(self, owner: str) -> Sla:
        """`owner`: as PATCH_OWNER_TAG names one; "" where none is named."""
        return self.everyone.and_within(dict(self.owners).get(owner.lower()))


@reader("days, up to 3650, or by severity such as Critical 7, Security 30; then '; owner NAME: 3' for less")
def days_by_owner(text: str) -> SlaByOwner:
    """The limits of all, then those of single owners, which are shorter."""
    everyone, *parts = text.split(";")
    sla = SlaByOwner(days_by_severity.read(everyone.strip()), tuple(map(_limit_of_owner, parts)))
    names = [name for name, _ in sla.owners]
    for name, limit in sla.owners:
        if names.count(name) > 1:
            raise BadInput(f"owner {quoted(name, limit=60)} is named twice")
        if limit.and_within(sla.everyone) != limit:
            raise BadInput(f"owner {quoted(name, limit=60)} has more days than the default; an owner may have fewer")
    return sla


def _limit_of_owner(part: str) -> tuple[str, Sla]:
    """`owner NAME: LIMITS`. A name may hold a colon, and no semicolon."""
    name, colon, limits = part.strip().rpartition(":")
    word, _, owner = name.strip().partition(" ")
    if not colon or word.lower() != "owner" or not owner.strip():
        raise ValueError
    return owner.strip().lower(), days_by_severity.read(limits.strip())
