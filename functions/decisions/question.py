"""One question about one machine: everything a rule may look at, and what the rules ask of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from functions.model.machine import (
    LINUX_CLASSIFICATIONS,
    Machine,
    OsType,
    PatchAssessment,
    SupportState,
    WaitingPatch,
    is_windows_name,
)
from functions.model.record import STALE_SUMMARY, Record
from functions.model.state import Cause, State, Step, Wait
from functions.policy.settings import Mode, Settings
from functions.policy.tags import TagOverrides, tag_overrides
from functions.policy.windows import ANY, Windows, both


@dataclass(frozen=True)
class Question:
    """One question: everything a rule may look at."""

    machine: Machine
    record: Record | None
    settings: Settings
    overrides: TagOverrides
    created_after: datetime
    now: datetime

    @property
    def mode(self) -> Mode:
        """What may be done to this machine. In plan mode this is INSTALL; the caller must not start anything."""
        return min(self.setting_mode, self.overrides.mode)

    @property
    def setting_mode(self) -> Mode:
        return Mode.INSTALL if self.settings.mode is Mode.PLAN else self.settings.mode

    @property
    def window(self) -> Windows:
        """When this machine may be installed. A tag narrows the setting; a machine this young need not wait for it."""
        setting = self.settings.window or ANY  # only PATCH_MODE=plan gets here without one
        if self.overrides.window:
            return both(setting, self.overrides.window)
        created = self.machine.created
        young = created is not None and self.now < created + self.settings.first_span
        return ANY if young and self.machine.installation is None else setting

    @property
    def minutes_left(self) -> int:
        """How long an installation may take from now: the setting, or less where the window closes; 0 when closed."""
        closes = self.window.closes(self.now, self.settings.blackouts)
        left = int((closes - self.now).total_seconds() // 60) if closes else 0
        return min(self.settings.max_duration_minutes, left)

    @property
    def verdict(self) -> PatchAssessment:
        return self.machine.verdict or PatchAssessment(SupportState.ABSENT)


def question_of(
    machine: Machine, record: Record | None, settings: Settings, *, created_after: datetime, now: datetime
) -> Question:
    """The question about a machine at `now`, its tags read. One created before `created_after` is out of scope."""
    return Question(machine, record, settings, tag_overrides(machine), created_after, now)


def wanted_count(machine: Machine, settings: Settings) -> int:
    """How many patches of the wanted classifications wait, by Graph's newest assessment."""
    verdict = machine.verdict or PatchAssessment(SupportState.ABSENT)
    if settings.packages_include and verdict.named is None:
        return sum(verdict.counts.values())  # a mask may name a patch of any class
    by_class = sum(verdict.counts.get(name.lower(), 0) for name in wanted_classifications(machine, settings))
    return by_class + (verdict.named or 0)


def named_count(machine: Machine, settings: Settings, patches: Iterable[WaitingPatch]) -> int:
    """How many of these patches PATCH_PACKAGES_INCLUDE names that are of no wanted classification."""
    wanted = {name.lower() for name in wanted_classifications(machine, settings)}
    rest = [patch for patch in patches if not wanted & {*patch.classes}]
    windows = machine.os_type is OsType.WINDOWS
    masks = [mask.lower() for mask in settings.packages_include if not windows or is_windows_name(mask)]
    return sum(any(_names(mask, patch) for mask in masks) for patch in rest)


def _names(mask: str, patch: WaitingPatch) -> bool:
    """A KB number, with or without its letters, or a mask over the name or over name_version."""
    name = patch.name.lower()
    number = patch.kb.lower().removeprefix("kb")
    if number and mask.removeprefix("kb") == number:
        return True
    return fnmatchcase(name, mask) or fnmatchcase(f"{name}_{patch.version.lower()}", mask)


def wanted_classifications(machine: Machine, settings: Settings) -> tuple[str, ...]:
    if machine.os_type is OsType.LINUX:
        return tuple(name for name in settings.classifications if name in LINUX_CLASSIFICATIONS)
    return tuple(name for name in settings.classifications if name != "Other")


def least_minutes(machine: Machine, settings: Settings) -> int:
    """The time an installation needs at least, or it installs nothing: a step and the reserve for its reboot.

    Windows 15 + 10, service packs 20 + 10 (Update Manager's troubleshooting page); Linux 5 for a package + 15
    (Azure/LinuxPatchExtension).
    """
    if machine.os_type is OsType.LINUX:
        return 20
    return 30 if "ServicePack" in settings.classifications else 25


def too_new(question: Question, age: timedelta, setting: str) -> Step | None:
    """The wait of a machine that is younger than a setting allows."""
    created = question.machine.created
    if created is None or question.now >= created + age:
        return None
    reason = f"younger than {setting} allows"
    return Wait(State.TOO_NEW, reason, when=created + age, cause=Cause.TRANSIENT)


def stale(moment: datetime | None, now: datetime, age: timedelta = STALE_SUMMARY) -> bool:
    """Whether a moment is that long ago, or not known."""
    return moment is None or now - moment >= age
