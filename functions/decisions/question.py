"""One question about one machine: everything a rule may look at, and what the rules ask of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache

from functions.model.machine import (
    Machine,
    OsType,
    PatchAssessment,
    PatchStatus,
    SupportState,
    WaitingPatch,
    is_windows_name,
    on_linux,
    short_lived,
)
from functions.model.record import STALE_STATUS, Record
from functions.model.run import Run
from functions.model.state import Cause, OperationKind, State, Step, Wait
from functions.policy.freshness import at_least_daily, time_between
from functions.policy.settings import Settings
from functions.policy.tags import TagOverrides, tag_overrides
from functions.policy.values import Mode, Reboot
from functions.policy.windows import ANY, Windows, both
from functions.policy.zones import DAY

_MINUTE = timedelta(minutes=1)


class Way(Enum):
    """The rule that lets an installation go now."""

    WINDOW = auto()
    CANARY_WINDOW = auto()  # as a canary only
    FIRST_HOURS = auto()  # outside its window
    RUN = auto()  # a run on demand that ignores windows


@dataclass(frozen=True)
class Question:
    """One question: everything a rule may look at."""

    machine: Machine
    record: Record | None
    settings: Settings
    overrides: TagOverrides
    created_after: datetime
    now: datetime
    run: Run | None = None  # on demand, which wants something of this machine now

    @property
    def install_run(self) -> Run | None:
        return self.run if self.run and self.run.kind is OperationKind.INSTALL else None

    @property
    def ignores_window(self) -> bool:
        return self.install_run is not None and self.install_run.ignore_window

    @property
    def mode(self) -> Mode:
        """What may be done to this machine. In plan mode this is INSTALL; the caller must start no installation."""
        return min(self.setting_mode, self.overrides.mode)

    @property
    def setting_mode(self) -> Mode:
        return Mode.INSTALL if self.settings.mode is Mode.PLAN else self.settings.mode

    @property
    def window(self) -> Windows:
        """When this machine may be installed, whatever its place in a rollout. A tag narrows the setting."""
        return narrowed(self.settings.window or ANY, self.overrides)  # only PATCH_MODE=plan gets here without one

    @property
    def canary_window(self) -> Windows | None:
        """When it may be installed as a canary; None where canaries have no window of their own, or it can be none.

        A run on demand has canaries of its own, which prove nothing to the rollout.
        """
        return None if self.install_run else window_as_canary(self.machine, self.overrides, self.settings)

    @property
    def in_own_window(self) -> bool:
        """Whether its window is open for long enough."""
        return self._fits_into(self.window)

    @property
    def in_canary_window(self) -> bool:
        """Whether it has a window as a canary, which is open for long enough."""
        return self._fits_into(self.canary_window)

    @property
    def in_first_hours(self) -> bool:
        """Whether its first patching need not wait for the window. One with a window of its own waits."""
        machine, created = self.machine, self.machine.created
        young = created is not None and self.now < created + self.settings.first_span
        return young and machine.installation is None and self.overrides.window is None

    @cached_property
    def way(self) -> Way | None:
        """The rule that lets an installation go now; None: it waits for its window."""
        if self.ignores_window:
            return Way.RUN
        if self.in_own_window:
            return Way.WINDOW
        if self.in_canary_window:
            return Way.CANARY_WINDOW
        return Way.FIRST_HOURS if self.in_first_hours and self._fits_into(ANY) else None

    @property
    def open_window(self) -> Windows:
        """The window that counts now: the one that lets it go, else its own."""
        if self.way is Way.CANARY_WINDOW:
            return self.canary_window or ANY
        return ANY if self.way in (Way.FIRST_HOURS, Way.RUN) else self.window

    @property
    def minutes_left(self) -> int:
        """How long an installation may take from now: the setting, or less where the window closes; 0 when closed."""
        if self.way is Way.RUN:
            return self.settings.max_duration_minutes
        return self._minutes_in(self.open_window)

    @property
    def reboot(self) -> Reboot:
        """The least reboot setting that applies to an installation now."""
        least = min(self.settings.reboot, self.overrides.reboot)
        return min(least, self.settings.first_reboot) if self.way is Way.FIRST_HOURS else least

    def assessment_due(self, assessed: datetime | None) -> bool:
        """Whether a machine assessed at this time is assessed again now."""
        every = self.settings.assess_every
        if every > DAY and self.setting_mode is Mode.INSTALL:
            windows = filter(None, (self.window, self.canary_window))
            every = at_least_daily(every, windows, self.settings.blackouts, now=self.now)
        return stale(assessed, self.now, time_between(every, self.machine.vm_id))

    def _minutes_in(self, windows: Windows | None) -> int:
        left = windows.minutes_left(self.now, self.settings.blackouts) if windows else 0
        return min(self.settings.max_duration_minutes, left)

    def _fits_into(self, windows: Windows | None) -> bool:
        return self._minutes_in(windows) >= min_minutes(self.machine, self.settings)

    @property
    def verdict(self) -> PatchAssessment:
        return self.machine.verdict or PatchAssessment(SupportState.ABSENT)


def question_of(
    machine: Machine,
    record: Record | None,
    settings: Settings,
    *,
    created_after: datetime,
    now: datetime,
    run: Run | None = None,
) -> Question:
    """The question about a machine at `now`, its tags read. One created before `created_after` is out of scope.

    A run that is over, or that does not name this machine, changes nothing.
    """
    run = run if run and run.wants(now) and run.covers(machine) else None
    return short_lived(
        Question,
        machine=machine,
        record=record,
        settings=with_selection(settings, run) if run else settings,
        overrides=tag_overrides(machine),
        created_after=created_after,
        now=now,
        run=run,
    )


def with_selection(settings: Settings, run: Run | None) -> Settings:
    """The settings, selecting the patches that a run selects, if it selects any. What they exclude stays excluded."""
    if run is None or not run.selection:
        return settings
    return replace(settings, classifications=run.selection.classifications, packages_include=run.selection.packages)


def wanted_count(machine: Machine, settings: Settings) -> int:
    """How many patches of the wanted classifications wait, by Graph's newest assessment."""
    verdict = machine.verdict or PatchAssessment(SupportState.ABSENT)
    if settings.packages_include and verdict.named is None and wanted_names(machine, settings):
        return sum(verdict.counts.values())  # a mask may name a patch of any class
    by_class = [verdict.counts.get(name, 0) for name in _counted(machine, settings)]
    return sum(by_class) + (verdict.named or 0)


def named_count(machine: Machine, settings: Settings, patches: Iterable[WaitingPatch]) -> int:
    """How many of these patches PATCH_PACKAGES_INCLUDE names that are of no wanted classification."""
    wanted = {*_counted(machine, settings)}
    rest = [patch for patch in patches if not wanted & {*patch.classes}]
    masks = [mask.lower() for mask in wanted_names(machine, settings)]
    return sum(any(_names(mask, patch) for mask in masks) for patch in rest)


def wanted_names(machine: Machine, settings: Settings) -> tuple[str, ...]:
    """What PATCH_PACKAGES_INCLUDE, or a run, names that an order of this system can carry."""
    if machine.os_type is not OsType.WINDOWS:
        return settings.packages_include
    return tuple(name for name in settings.packages_include if is_windows_name(name))


def _names(mask: str, patch: WaitingPatch) -> bool:
    """A KB number, with or without its letters, or a mask over the name or over name_version."""
    name = patch.name.lower()
    number = patch.kb.lower().removeprefix("kb")
    if number and mask.removeprefix("kb") == number:
        return True
    return fnmatchcase(name, mask) or fnmatchcase(f"{name}_{patch.version.lower()}", mask)


def wanted_classifications(machine: Machine, settings: Settings) -> tuple[str, ...]:
    """What is installed on a machine of its system, so what is ordered and what is counted."""
    return _of_system(settings.classifications, machine.os_type is OsType.LINUX)


def _counted(machine: Machine, settings: Settings) -> tuple[str, ...]:
    """The same, as Graph names it where it counts patches."""
    return _lowered_of_system(settings.classifications, machine.os_type is OsType.LINUX)


@lru_cache
def _lowered_of_system(classifications: tuple[str, ...], linux: bool) -> tuple[str, ...]:
    return tuple(name.lower() for name in _of_system(classifications, linux))


@lru_cache
def _of_system(classifications: tuple[str, ...], linux: bool) -> tuple[str, ...]:
    return on_linux(classifications) if linux else tuple(name for name in classifications if name != "Other")


def min_minutes(machine: Machine, settings: Settings) -> int:
    """The time an installation on this machine needs at least."""
    return settings.min_installation(on_windows=machine.os_type is not OsType.LINUX) // _MINUTE


def narrowed(setting: Windows, tags: TagOverrides) -> Windows:
    """A window of the settings as the machine's tag patch-window narrows it."""
    return both(setting, tags.window) if tags.window else setting


def window_as_canary(machine: Machine, tags: TagOverrides, settings: Settings) -> Windows | None:
    """When it may be installed as a canary; None where canaries have no window of their own, or it can be none."""
    setting = settings.canary_window
    if setting and settings.canaries and machine.image.key and settings.may_be_canary(machine.id):
        return narrowed(setting, tags)
    return None


def too_new(question: Question, age: timedelta, setting: str) -> Step | None:
    """The wait of a machine that is younger than a setting allows."""
    created = question.machine.created
    if created is None or question.now >= created + age:
        return None
    reason = f"younger than {setting} allows"
    return Wait(State.TOO_NEW, reason, when=created + age, cause=Cause.TRANSIENT)


def stale(moment: datetime | None, now: datetime, age: timedelta = STALE_STATUS) -> bool:
    """Whether a moment is that long ago, or not known."""
    return moment is None or now - moment >= age


def is_under_way(status: PatchStatus | None, now: datetime) -> bool:
    """Whether this assessment or installation runs, by what the machine shows: one untouched for long is abandoned."""
    if status is None:
        return False
    touched = status.modified or status.started  # without a time it may have been touched just now
    return status.in_progress and (touched is None or not stale(touched, now))
