"""What follows for one machine, row by row.

The factors: support state (absent, Unknown, Supported, Unsupported, UnableToDetermine; None on the event's path) ×
image kind × power, agent, extensions × what is in flight (fresh, stale) × age of assessment and machine × who else
patches × mode (setting and tag) × opt-out, hold, owner and wrong tags × who manages it × scale set × scope.

A row names only what differs from tests/support.py's a_machine(): ready, Supported an hour ago, three wanted patches
waiting, everything allowed, so that its step is Install. Below the tables the same factors are thrown together by
hypothesis, for what must hold in every combination.
"""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from functions.decisions.decision import RULES, displayed_step, next_step, pending_step
from functions.decisions.ownership import foreign_manager
from functions.decisions.question import min_minutes, named_count, question_of, wanted_classifications, wanted_count
from functions.decisions.retry import UNANSWERED_LIMIT, backoff, wait_after_no_verdict
from functions.decisions.support_state import undetermined
from functions.model.machine import (
    Image,
    ImageKind,
    Machine,
    MachineId,
    OsType,
    PatchOrchestration,
    PowerState,
    ResourceGroup,
    ScaleSet,
    SupportState,
    WaitingPatch,
)
from functions.model.record import Ending, Record, accepted, begin, claim, end, release
from functions.model.state import Assess, Cause, Install, Leave, OperationKind, Phase, State, Step, Wait
from functions.policy.freshness import time_between
from functions.policy.settings import Settings, read_settings
from functions.policy.values import Mode
from functions.policy.windows import WEEK
from functions.steps.install import order_for
from tests.support import (
    ASSESSMENT,
    DAY,
    GALLERY_IMAGE,
    HOUR,
    INSTALLATION,
    LONG_AGO,
    MINUTE,
    NOW,
    PAYLOADS,
    REQUIRED,
    SUBSCRIPTION,
    a_machine,
    a_record,
    a_status,
    a_verdict,
    machine_id,
    settings,
)

MARKETPLACE = Image(ImageKind.MARKETPLACE, "canonical:ubuntu-24_04-lts:server:24.04.1")
NIGHTS = "Sat 22:00-02:00"
CUSTOMIZED = [kind for kind in ImageKind if kind is not ImageKind.MARKETPLACE]
OTHER_ID = "11111111-0000-0000-0000-000000000000"

Row = tuple[dict[str, Any], dict[str, str], type[Step], State, str]


def of_group(tag: str, value: str) -> dict[str, Any]:
    """The machine's resource group has this tag."""
    return {"resource_group": ResourceGroup({tag: value})}


def decide(machine: Machine, **environ: str) -> Step:
    return next_step(question_of(machine, None, settings(**environ), created_after=LONG_AGO, now=NOW))


def rows(table: dict[str, Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("changes", "environ", "verb", "state", "fragment"), table.values(), ids=table)


def check(step: Step, verb: type[Step], state: State, fragment: str) -> None:
    assert (type(step), step.state) == (verb, state), step
    assert fragment in step.reason


# -- 1. the support state, for a customized image

SUPPORT: dict[str, Row] = {
    "Supported, patches wait": ({}, {}, Install, State.DUE, "Supported, 3 patches wait"),
    "absent: null, no row": (
        {"verdict": a_verdict(state=SupportState.ABSENT)},
        {},
        Assess,
        State.DUE,
        "support state absent",
    ),
    "Unknown": ({"verdict": a_verdict(state=SupportState.UNKNOWN)}, {}, Assess, State.DUE, "support state Unknown"),
    "UnableToDetermine": (
        {"verdict": a_verdict(state=SupportState.UNABLE_TO_DETERMINE)},
        {},
        Assess,
        State.DUE,
        "support state UnableToDetermine",
    ),
    "Unsupported": (
        {"verdict": a_verdict(state=SupportState.UNSUPPORTED)},
        {},
        Leave,
        State.UNSUPPORTED,
        "Azure cannot patch",
    ),
    "Unsupported for a week": (
        {"verdict": a_verdict(state=SupportState.UNSUPPORTED, assessed=NOW - WEEK)},
        {},
        Assess,
        State.DUE,
        "assessed again",
    ),
    "Unsupported at an unknown time": (
        {"verdict": a_verdict(state=SupportState.UNSUPPORTED, assessed=None)},
        {},
        Assess,
        State.DUE,
        "assessed again",
    ),
    "not asked (an event), never assessed": ({"verdict": None}, {}, Assess, State.DUE, "support state absent"),
    "not asked (an event), assessed lately": (
        {"verdict": None, "assessment": a_status()},
        {},
        Wait,
        State.GRAPH_BEHIND,
        "assessed already",
    ),
    "not asked (an event), assessed over a long time, lately ended": (
        {"verdict": None, "assessment": a_status(started=NOW - 7 * DAY)},
        {},
        Wait,
        State.GRAPH_BEHIND,
        "assessed already",
    ),
    "not asked (an event), assessed lately, end not known": (
        {"verdict": None, "assessment": a_status(modified=None)},
        {},
        Wait,
        State.GRAPH_BEHIND,
        "assessed already",
    ),
    "not asked (an event), assessed long ago": (
        {"verdict": None, "assessment": a_status(started=NOW - 7 * DAY, modified=NOW - 7 * DAY)},
        {},
        Assess,
        State.DUE,
        "support state absent",
    ),
    "Graph is behind the instance view": (
        {"verdict": a_verdict(state=SupportState.ABSENT, assessment_id="", assessed=None), "assessment": a_status()},
        {},
        Wait,
        State.GRAPH_BEHIND,
        "not in Resource Graph yet",
    ),
    "Graph shows an older assessment, which is good enough": (
        {"verdict": a_verdict(assessed=NOW - 5 * HOUR), "assessment": a_status(operation_id=OTHER_ID)},
        {},
        Install,
        State.DUE,
        "Supported",
    ),
    "Graph shows an older assessment, which is too old": (
        {"verdict": a_verdict(assessed=NOW - 50 * HOUR), "assessment": a_status(operation_id=OTHER_ID)},
        {},
        Wait,
        State.GRAPH_BEHIND,
        "not in Resource Graph yet",
    ),
    "the newest assessment is part of an installation, and Graph does not show it": (
        {
            "verdict": a_verdict(assessed=NOW - 5 * HOUR),
            "assessment": a_status(operation_id=INSTALLATION, started=NOW - 2 * HOUR),
            "installation": a_status(operation_id=INSTALLATION, started=NOW - 2 * HOUR),
        },
        {},
        Assess,
        State.DUE,
        "older than the last installation",
    ),
    "Graph shows the assessment that closed an installation: its counts are those of afterwards": (
        {
            "verdict": a_verdict(assessment_id=INSTALLATION, assessed=NOW - 2 * HOUR, counts={}),
            "assessment": a_status(operation_id=INSTALLATION, started=NOW - 2 * HOUR),
            "installation": a_status(operation_id=INSTALLATION, started=NOW - 2 * HOUR, modified=NOW - HOUR),
        },
        {},
        Leave,
        State.PATCHED,
        "nothing to install",
    ),
    "Graph shows the same assessment": ({"assessment": a_status()}, {}, Install, State.DUE, "Supported"),
    "Graph shows a newer assessment": (
        {"assessment": a_status(operation_id=OTHER_ID, started=NOW - 2 * HOUR)},
        {},
        Install,
        State.DUE,
        "Supported",
    ),
    "Graph has been behind for a day": (
        {
            "verdict": a_verdict(state=SupportState.ABSENT, assessment_id="", assessed=None),
            "assessment": a_status(started=NOW - DAY, modified=NOW - DAY),
        },
        {},
        Assess,
        State.DUE,
        "support state absent",
    ),
}


@rows(SUPPORT)
def test_support_state(
    changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str
) -> None:
    check(decide(a_machine(**changes), **environ), verb, state, fragment)


@pytest.mark.parametrize("kind", CUSTOMIZED)
@pytest.mark.parametrize("state", SupportState)
def test_every_customized_image_kind_is_installed_where_it_is_supported_and_nowhere_else(
    kind: ImageKind, state: SupportState
) -> None:
    step = decide(a_machine(image=Image(kind, "key"), verdict=a_verdict(state=state)), PATCH_IMAGES="all")
    assert isinstance(step, Install) is (state is SupportState.SUPPORTED)


# -- 2. Supported: what waits, how fresh it is, what ran before

WEEK_OLD = a_verdict(assessed=NOW - 145 * HOUR)
REBOOT = a_verdict(reboot_pending=True)
SUPPORTED: dict[str, Row] = {
    "nothing waits": ({"verdict": a_verdict(counts={})}, {}, Leave, State.PATCHED, "nothing to install"),
    "nothing of a wanted class waits": (
        {"verdict": a_verdict(counts={"other": 4})},
        {},
        Leave,
        State.NOTHING_SELECTED,
        "none of the 4",
    ),
    "the other class is wanted": (
        {"verdict": a_verdict(counts={"other": 4})},
        {"PATCH_CLASSIFICATIONS": "Other"},
        Install,
        State.DUE,
        "4 patches",
    ),
    "a package mask may match any class": (
        {"verdict": a_verdict(counts={"other": 4})},
        {"PATCH_PACKAGES_INCLUDE": "openssl*"},
        Install,
        State.DUE,
        "4 patches",
    ),
    "the state is older than it may be to install on": (
        {"verdict": a_verdict(assessed=NOW - 12 * HOUR)},
        {"PATCH_FRESH_HOURS": "12"},
        Assess,
        State.DUE,
        "too old to install on",
    ),
    "the state is just young enough": (
        {"verdict": a_verdict(assessed=NOW - 12 * HOUR + MINUTE)},
        {"PATCH_FRESH_HOURS": "12"},
        Install,
        State.DUE,
        "Supported",
    ),
    "older than it may be to install on, nothing wanted": (
        {"verdict": a_verdict(counts={}, assessed=NOW - 23 * HOUR)},
        {"PATCH_FRESH_HOURS": "12"},
        Leave,
        State.PATCHED,
        "assessed 2026-11-24 13:00 UTC",
    ),
    "not assessed for a week": (
        {"verdict": WEEK_OLD},
        {},
        Assess,
        State.DUE,
        "last assessed 2026-11-19 11:00 UTC",
    ),
    "assessed at an unknown time": (
        {"verdict": a_verdict(assessed=None)},
        {},
        Assess,
        State.DUE,
        "last assessed at an unknown time",
    ),
    "installed after the assessment": (
        {"installation": a_status(operation_id=INSTALLATION, started=NOW - 20 * MINUTE, modified=NOW - 10 * MINUTE)},
        {},
        Assess,
        State.DUE,
        "older than the last installation",
    ),
    "installed lately, assessed since": (
        {"installation": a_status(started=NOW - 3 * HOUR, modified=NOW - 2 * HOUR)},
        {},
        Wait,
        State.RECENTLY_PATCHED,
        "last installed 2026-11-25 09:00 UTC",
    ),
    "installed before the interval": (
        {"installation": a_status(started=NOW - 145 * HOUR, modified=NOW - 144 * HOUR)},
        {},
        Install,
        State.DUE,
        "Supported",
    ),
    "an installation failed lately": (
        {"installation": a_status(status="Failed", started=NOW - 3 * HOUR, modified=NOW - 2 * HOUR)},
        {},
        Install,
        State.DUE,
        "Supported",
    ),
    "a reboot is pending, nothing waits": (
        {"verdict": a_verdict(reboot_pending=True, counts={})},
        {},
        Wait,
        State.REBOOT_PENDING,
        "a reboot is pending",
    ),
    "a reboot is pending after an installation": (
        {"verdict": REBOOT, "installation": a_status(started=NOW - 3 * HOUR, modified=NOW - 2 * HOUR)},
        {},
        Wait,
        State.REBOOT_PENDING,
        "3 patches wait",
    ),
    "a reboot is pending since an installation long ago": (
        {"verdict": REBOOT, "installation": a_status(started=NOW - 145 * HOUR, modified=NOW - 144 * HOUR)},
        {},
        Install,
        State.DUE,
        "Supported",
    ),
    "a reboot is pending, none installed": ({"verdict": REBOOT}, {}, Install, State.DUE, "Supported"),
    "too young for an installation": (
        {"created": NOW - 59 * MINUTE},
        {},
        Wait,
        State.TOO_NEW,
        "younger than PATCH_MIN_AGE_MINUTES",
    ),
    "just old enough": ({"created": NOW - 60 * MINUTE}, {}, Install, State.DUE, "Supported"),
    "too young for an installation, but it has none waiting": (
        {"created": NOW - 20 * MINUTE, "verdict": a_verdict(counts={})},
        {},
        Leave,
        State.PATCHED,
        "nothing to install",
    ),
    "too young, and to be assessed: not held back": (
        {"created": NOW - 15 * MINUTE, "verdict": a_verdict(state=SupportState.ABSENT)},
        {},
        Assess,
        State.DUE,
        "absent",
    ),
    "too young to be assessed": (
        {"created": NOW - 14 * MINUTE, "verdict": a_verdict(state=SupportState.ABSENT)},
        {},
        Wait,
        State.TOO_NEW,
        "younger than PATCH_ASSESS_AFTER_MINUTES",
    ),
    "first-boot scripts run long": (
        {"created": NOW - 10 * MINUTE, "verdict": a_verdict(state=SupportState.ABSENT)},
        {"PATCH_ASSESS_AFTER_MINUTES": "30"},
        Wait,
        State.TOO_NEW,
        "younger than PATCH_ASSESS_AFTER_MINUTES",
    ),
}


@rows(SUPPORTED)
def test_supported(
    changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str
) -> None:
    check(decide(a_machine(**changes), **environ), verb, state, fragment)


def test_an_installation_of_ours_voids_the_counts_even_where_only_the_record_knows_it() -> None:
    record = a_record(kind=OperationKind.INSTALL, phase=Phase.HELD, ended_at=NOW - MINUTE, not_before=NOW)
    step = next_step(question_of(a_machine(), record, settings(), created_after=LONG_AGO, now=NOW))
    check(step, Assess, State.DUE, "older than the last installation")
    step = next_step(
        question_of(
            a_machine(), replace(record, kind=OperationKind.ASSESS), settings(), created_after=LONG_AGO, now=NOW
        )
    )
    check(step, Install, State.DUE, "Supported")


SILENT = {"power not known": {"power": PowerState.UNKNOWN}, "agent not ready": {"agent_ready": False}}


@pytest.mark.parametrize("changes", SILENT.values(), ids=SILENT)
def test_what_the_machine_does_not_say_at_the_moment_no_owner_can_change(changes: dict[str, Any]) -> None:
    assert decide(a_machine(**changes)).cause is Cause.TRANSIENT


# creation time, PATCH_CREATED_AFTER, the reason and the remedy of a machine out of scope ("": in scope)
AGES: dict[str, tuple[datetime | None, str, str, str]] = {
    "old": (NOW - 9 * DAY, "2026-11-20T00:00:00Z", "created 2026-11-16", "to an earlier time, or to always"),
    "young": (NOW - DAY, "2026-11-20T00:00:00Z", "", ""),
    "old, and all are in scope": (NOW - 900 * DAY, "always", "", ""),
    "of an unknown age": (None, "2026-11-20T00:00:00Z", "creation time is not known", "PATCH_CREATED_AFTER to always"),
    "of an unknown age, and all are in scope": (None, "always", "", ""),
}


@pytest.mark.parametrize(("created", "limit", "reason", "remedy"), AGES.values(), ids=AGES)
def test_the_age_that_is_in_scope(created: datetime | None, limit: str, reason: str, remedy: str) -> None:
    given_settings = settings(PATCH_CREATED_AFTER=limit)
    assert given_settings.created_after is not None
    machine = a_machine(created=created)
    step = next_step(question_of(machine, None, given_settings, created_after=given_settings.created_after, now=NOW))
    assert (step.state is State.OUT_OF_SCOPE) == bool(reason)
    if reason:
        assert reason in step.reason
        assert remedy in step.remedy


def test_a_wait_with_an_end_says_when() -> None:
    created = NOW - 20 * MINUTE
    assert decide(a_machine(created=created)).when == created + HOUR
    installed = a_status(started=NOW - 3 * HOUR, modified=NOW - 2 * HOUR)
    assert decide(a_machine(installation=installed)).when == NOW - 3 * HOUR + timedelta(hours=144)


# -- 3. the machine itself: provisioning, power, what runs on it, agent and extensions

RUNNING = a_status(status="InProgress", operation_id=OTHER_ID, started=NOW - 5 * MINUTE, modified=NOW - MINUTE)
BODY: dict[str, Row] = {
    "still creating": ({"provisioning_state": "Creating"}, {}, Wait, State.BUILDING, "provisioning state creating"),
    "provisioning failed": ({"provisioning_state": "Failed"}, {}, Wait, State.BUILDING, "its provisioning failed"),
    "no provisioning state": ({"provisioning_state": ""}, {}, Wait, State.BUILDING, "unknown"),
    "starting": ({"power": PowerState.STARTING}, {}, Wait, State.BUILDING, "it is starting"),
    "stopping": ({"power": PowerState.STOPPING}, {}, Wait, State.POWERED_OFF, "the machine is stopping"),
    "stopped": ({"power": PowerState.STOPPED}, {}, Wait, State.POWERED_OFF, "the machine is stopped"),
    "deallocating": ({"power": PowerState.DEALLOCATING}, {}, Wait, State.POWERED_OFF, "deallocating"),
    "deallocated": ({"power": PowerState.DEALLOCATED}, {}, Wait, State.POWERED_OFF, "deallocated"),
    "power not known": ({"power": PowerState.UNKNOWN}, {}, Wait, State.BUILDING, "does not say at the moment"),
    "extensions forbidden": (
        {"extensions_allowed": False},
        {},
        Wait,
        State.EXTENSIONS_FORBIDDEN,
        "allowExtensionOperations is false",
    ),
    "agent not ready": ({"agent_ready": False}, {}, Wait, State.AGENT_NOT_READY, "does not report ready"),
    "agent not shown by Graph": ({"agent_ready": None}, {}, Install, State.DUE, "Supported"),
    "extensions at work": ({"busy_extensions": ("script", "mon")}, {}, Wait, State.BUILDING, "script, mon"),
    "extensions not shown by Graph": ({"busy_extensions": None}, {}, Install, State.DUE, "Supported"),
    "an assessment runs": ({"assessment": RUNNING}, {}, Wait, State.BUSY, "is running on it"),
    "an installation runs": ({"installation": RUNNING}, {}, Wait, State.BUSY, "is running on it"),
    "one that has not started yet": (
        {"installation": replace(RUNNING, status="NotStarted")},
        {},
        Wait,
        State.BUSY,
        "is running on it",
    ),
    "running, without any time: nothing says it is stale": (
        {"installation": replace(RUNNING, started=None, modified=None)},
        {},
        Wait,
        State.BUSY,
        "is running on it",
    ),
    "running, started long ago, touched lately": (
        {"installation": replace(RUNNING, started=NOW - 3 * DAY)},
        {},
        Wait,
        State.BUSY,
        "is running on it",
    ),
    "open, but untouched for a day": (
        {"installation": replace(RUNNING, started=NOW - 3 * DAY, modified=NOW - DAY)},
        {},
        Install,
        State.DUE,
        "Supported",
    ),
}


@rows(BODY)
def test_the_machine_itself(
    changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str
) -> None:
    check(decide(a_machine(**changes), **environ), verb, state, fragment)


@pytest.mark.parametrize("changes", [row[0] for row in BODY.values() if row[2] is Wait])
def test_what_stops_an_installation_of_the_machine_stops_an_assessment_too(changes: dict[str, Any]) -> None:
    asked = decide(a_machine(**changes, verdict=a_verdict(state=SupportState.ABSENT)))
    assert isinstance(asked, Wait)


# -- 4. modes, by setting and by tag

MODES: dict[str, Row] = {
    "setting off": ({}, {"PATCH_MODE": "off"}, Leave, State.SWITCHED_OFF, "PATCH_MODE is off"),
    "setting plan answers as install would": ({}, {"PATCH_MODE": "plan"}, Install, State.DUE, "Supported"),
    "setting assess": ({}, {"PATCH_MODE": "assess"}, Leave, State.ASSESSED, "3 wanted of 4"),
    "setting assess, nothing known": (
        {"verdict": a_verdict(state=SupportState.ABSENT)},
        {"PATCH_MODE": "assess"},
        Assess,
        State.DUE,
        "absent",
    ),
    "setting assess, an old assessment": ({"verdict": WEEK_OLD}, {"PATCH_MODE": "assess"}, Assess, State.DUE, "last"),
    "setting assess, a state of the day is young enough": (
        {"verdict": a_verdict(assessed=NOW - 23 * HOUR)},
        {"PATCH_MODE": "assess"},
        Leave,
        State.ASSESSED,
        "PATCH_MODE=assess",
    ),
    "setting assess, no schedule is assigned": (
        {"patchers": PatchOrchestration.NOBODY},
        {"PATCH_MODE": "assess"},
        Leave,
        State.PATCHED_BY_NOBODY,
        "neither guest nor platform",
    ),
    "setting install, no schedule is assigned: we patch it": (
        {"patchers": PatchOrchestration.NOBODY},
        {},
        Install,
        State.DUE,
        "Supported",
    ),
    "tag off": ({"tags": {"patch-mode": "off"}}, {}, Leave, State.OPTED_OUT, "patch-mode=off"),
    "tag off on the group": (of_group("patch-mode", "off"), {}, Leave, State.OPTED_OUT, "patch-mode=off"),
    "tag plan": ({"tags": {"patch-mode": "plan"}}, {}, Leave, State.OPTED_OUT, "nothing is called"),
    "tag plan under setting plan": (
        {"tags": {"patch-mode": "plan"}},
        {"PATCH_MODE": "plan"},
        Leave,
        State.OPTED_OUT,
        "tag patch-mode=plan: nothing is called",
    ),
    "tag assess": ({"tags": {"patch-mode": "assess"}}, {}, Leave, State.ASSESSED, "tag patch-mode=assess"),
    "tag assess under setting plan": (
        {"tags": {"patch-mode": "assess"}},
        {"PATCH_MODE": "plan"},
        Leave,
        State.ASSESSED,
        "tag patch-mode=assess",
    ),
    "tag install does not widen the setting": (
        {"tags": {"patch-mode": "install"}},
        {"PATCH_MODE": "assess"},
        Leave,
        State.ASSESSED,
        "PATCH_MODE=assess",
    ),
    "tag install on the machine does not widen the group": (
        {"tags": {"patch-mode": "install"}} | of_group("patch-mode", "off"),
        {},
        Leave,
        State.OPTED_OUT,
        "patch-mode=off",
    ),
}


@rows(MODES)
def test_modes(changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str) -> None:
    check(decide(a_machine(**changes), **environ), verb, state, fragment)


# -- 5. tags that hold, own, or are wrong

TODAY, TOMORROW = NOW.date(), NOW.date() + DAY
TAGS: dict[str, Row] = {
    "held until tomorrow": (
        {"tags": {"patch-hold-until": TOMORROW.isoformat()}},
        {},
        Wait,
        State.ON_HOLD,
        "patch-hold-until=2026-11-26",
    ),
    "held by the group": (
        of_group("patch-hold-until", TOMORROW.isoformat()),
        {},
        Wait,
        State.ON_HOLD,
        "patch-hold-until=2026-11-26",
    ),
    "the longer hold of the two": (
        {
            "tags": {"patch-hold-until": TODAY.isoformat()},
            "resource_group": ResourceGroup({"patch-hold-until": TOMORROW.isoformat()}),
        },
        {},
        Wait,
        State.ON_HOLD,
        "patch-hold-until=2026-11-26",
    ),
    "the hold ends on its day": ({"tags": {"patch-hold-until": TODAY.isoformat()}}, {}, Install, State.DUE, ""),
    "the hold is over": ({"tags": {"patch-hold-until": "2026-11-24"}}, {}, Install, State.DUE, ""),
    "wrong hold": ({"tags": {"patch-hold-until": "soon"}}, {}, Leave, State.BAD_TAG, "patch-hold-until is 'soon'"),
    "wrong mode": ({"tags": {"patch-mode": "maybe"}}, {}, Leave, State.BAD_TAG, "patch-mode is 'maybe'"),
    "wrong mode on the group": (of_group("patch-mode", "no"), {}, Leave, State.BAD_TAG, "patch-mode is"),
    "wrong reboot": ({"tags": {"patch-reboot": "maybe"}}, {}, Leave, State.BAD_TAG, "patch-reboot is"),
    "wrong owner": ({"tags": {"patch-owner": "me"}}, {}, Leave, State.BAD_TAG, "patch-owner is 'me'"),
    "wrong window": (
        {"tags": {"patch-window": "Sat 22:00"}},
        {},
        Leave,
        State.BAD_TAG,
        "patch-window: window 1 'Sat 22:00'",
    ),
    "a window of its own": (
        {"tags": {"patch-window": NIGHTS}},
        {},
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28 22:00 UTC",
    ),
    "a window does not hold an assessment back": (
        {"tags": {"patch-window": NIGHTS}, "verdict": a_verdict(state=SupportState.ABSENT)},
        {},
        Assess,
        State.DUE,
        "absent",
    ),
    "foreign tags say nothing": ({"tags": {"env": "prod", "createdby": "terraform"}}, {}, Install, State.DUE, ""),
    "the group is not read yet": ({"resource_group": None}, {}, Install, State.DUE, ""),
}


@rows(TAGS)
def test_tags(changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str) -> None:
    check(decide(a_machine(**changes), **environ), verb, state, fragment)


def test_a_hold_says_when_it_ends() -> None:
    step = decide(a_machine(tags={"patch-hold-until": "2027-01-15"}))
    assert step.when is not None
    assert step.when.date() == date(2027, 1, 15)


# -- 5a. how often it is assessed

EIGHT = {"vm_id": "8000"}  # the slot of an eighth digit: 24 hours less 8 × 36 minutes
LAST = {"vm_id": "f9f1"}
RARELY = {"PATCH_ASSESS_HOURS": "100"}
# The machine, the settings → how old its assessment may become, in hours.
HOW_OFTEN: dict[str, tuple[dict[str, Any], dict[str, str], float]] = {
    "daily by default": ({}, {}, 24),
    "in another slot": (EIGHT, {}, 24 - 8 * 0.6),
    "in the last slot, not quite a quarter sooner": (LAST, {}, 24 - 9 * 0.6),
    "a VM id without a digit": ({"vm_id": "ffff"}, {}, 24),
    "as the setting says": ({}, {"PATCH_ASSESS_HOURS": "6"}, 6),
    "as the setting says, in the last slot": (LAST, {"PATCH_ASSESS_HOURS": "6"}, 4.65),
    "whatever the interval of installations": ({}, {"PATCH_MIN_INTERVAL_HOURS": "1"}, 24),
    "rarely, in mode assess": ({}, RARELY | {"PATCH_MODE": "assess"}, 100),
    "rarely, in mode assess, in the last slot": (LAST, RARELY | {"PATCH_MODE": "assess"}, 100 - 9 * 2.5),
    "rarely, its window opens in days": ({}, RARELY | {"PATCH_WINDOW": NIGHTS}, 100),
    "rarely, its window opens in a day": ({}, RARELY | {"PATCH_WINDOW": "Thu 12:00-14:00"}, 24),
    "rarely, its window opens in more than a day": ({}, RARELY | {"PATCH_WINDOW": "Thu 12:01-14:00"}, 100),
    "rarely, its window is open": ({}, RARELY | {"PATCH_WINDOW": "Wed 11:00-14:00"}, 24),
    "rarely, its window is open, in another slot": (EIGHT, RARELY | {"PATCH_WINDOW": "any"}, 24 - 8 * 0.6),
    "rarely, in mode plan": ({}, RARELY | {"PATCH_MODE": "plan", "PATCH_WINDOW": "any"}, 24),
    "rarely, the canaries' window opens in a day": (
        {}, RARELY | {"PATCH_WINDOW": NIGHTS, "PATCH_CANARY_WINDOW": "Thu 10:00-14:00"}, 24
    ),
    "rarely, it is not a canary": (
        {},
        RARELY
        | {"PATCH_WINDOW": NIGHTS, "PATCH_CANARY_WINDOW": "Thu 10:00-14:00", "PATCH_CANARY_MACHINES": "other-*"},
        100,
    ),
    "rarely, a black-out is on": ({}, RARELY | {"PATCH_BLACKOUT": "2026-11-25..2026-11-30"}, 100),
    "rarely, a black-out ends in a day": ({}, RARELY | {"PATCH_BLACKOUT": "2026-11-25"}, 24),
    "rarely, its tag's window opens in days": ({"tags": {"patch-window": NIGHTS}}, RARELY, 100),
    "Unsupported": ({"verdict": a_verdict(state=SupportState.UNSUPPORTED)}, {}, 168),
    "Unsupported, in the last slot": (LAST | {"verdict": a_verdict(state=SupportState.UNSUPPORTED)}, {}, 168),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "environ", "hours"), HOW_OFTEN.values(), ids=HOW_OFTEN)
def test_a_machine_is_assessed_again_after(changes: dict[str, Any], environ: dict[str, str], hours: float) -> None:
    """A machine on which nothing waits: up to then it is at rest, and from then on it is to be assessed."""
    verdict = changes.get("verdict", a_verdict(counts={}))
    for age, due in ((hours * HOUR - MINUTE, False), (hours * HOUR, True)):
        step = decide(a_machine(**changes | {"verdict": replace(verdict, assessed=NOW - age)}), **environ)
        assert isinstance(step, Assess) is due, (age, step)


# The age of an assessment in hours, settings beside a PATCH_FRESH_HOURS of 48 → what follows where patches wait.
PATCHES_WAIT: dict[str, tuple[float, dict[str, str], type[Step]]] = {
    "it may go now": (25, {}, Install),
    "it may go now, and is fresh enough": (48 - 1 / 60, {}, Install),
    "it may go now, and is not fresh enough": (48, {}, Assess),
    "its window is closed": (25, {"PATCH_WINDOW": NIGHTS}, Assess),
    "its window is closed, assessed lately": (23, {"PATCH_WINDOW": NIGHTS}, Wait),
    "it is only assessed": (25, {"PATCH_MODE": "assess"}, Assess),
}


@pytest.mark.parametrize(("hours", "environ", "verb"), PATCHES_WAIT.values(), ids=PATCHES_WAIT)
def test_an_installation_that_may_go_now_is_not_delayed_by_an_assessment(
    hours: float, environ: dict[str, str], verb: type[Step]
) -> None:
    step = decide(a_machine(verdict=a_verdict(assessed=NOW - hours * HOUR)), **environ)
    assert type(step) is verb, step


def test_a_machine_whose_installation_was_held_is_assessed_in_time() -> None:
    """What holds it shows at the second check only, so that it would be tried again and again."""
    record = a_record(phase=Phase.HELD, kind=OperationKind.INSTALL, state=State.RECENTLY_PATCHED, not_before=NOW)
    for hours, verb in ((23, Install), (25, Assess)):
        machine = a_machine(verdict=a_verdict(assessed=NOW - hours * HOUR))
        assert type(next_step(question_of(machine, record, settings(), created_after=LONG_AGO, now=NOW))) is verb


def test_machines_that_were_assessed_together_do_not_stay_together() -> None:
    ids = [f"{digit}0000000-0000-4000-8000-000000000000" for digit in range(10)]
    ages = sorted(time_between(24 * HOUR, vm_id) for vm_id in ids)
    assert 18 * HOUR < ages[0] < ages[-1] <= 24 * HOUR
    assert {later - earlier for earlier, later in pairwise(ages)} == {36 * MINUTE}


# -- 5b. windows and black-outs: NOW is a Wednesday, 12:00 UTC

YOUNG = {"created": NOW - 2 * HOUR}
FIRST_DAY = {"PATCH_FIRST_HOURS": "24"}
WINDOWS: dict[str, Row] = {
    "open": ({}, {"PATCH_WINDOW": "Wed 11:00-14:00"}, Install, State.DUE, ""),
    "opens at this moment": ({}, {"PATCH_WINDOW": "Wed 12:00-14:00"}, Install, State.DUE, ""),
    "closes at this moment": (
        {},
        {"PATCH_WINDOW": "Wed 10:00-12:00"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-12-02 10:00 UTC",
    ),
    "closed": ({}, {"PATCH_WINDOW": NIGHTS}, Wait, State.WAITING_FOR_WINDOW, "2026-11-28 22:00 UTC"),
    "closed, in another zone": (
        {},
        {"PATCH_WINDOW": "Sat 22:00-02:00 Europe/Paris"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "opens Sat 2026-11-28 22:00 Europe/Paris, 21:00 UTC (Sat 22:00-02:00 Europe/Paris)",
    ),
    "too little of it is left": (
        {},
        {"PATCH_WINDOW": "Wed 11:00-12:19"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "only 19 minutes",
    ),
    "just enough for Linux": ({}, {"PATCH_WINDOW": "Wed 11:00-12:20"}, Install, State.DUE, ""),
    "not enough for Windows": (
        {"os_type": OsType.WINDOWS},
        {"PATCH_WINDOW": "Wed 11:00-12:24"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "only 24 minutes",
    ),
    "just enough for Windows": (
        {"os_type": OsType.WINDOWS},
        {"PATCH_WINDOW": "Wed 11:00-12:25"},
        Install,
        State.DUE,
        "",
    ),
    "not enough for a service pack": (
        {"os_type": OsType.WINDOWS},
        {"PATCH_WINDOW": "Wed 11:00-12:29", "PATCH_CLASSIFICATIONS": "Critical,ServicePack"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "only 29 minutes",
    ),
    "just enough for a service pack": (
        {"os_type": OsType.WINDOWS, "verdict": a_verdict(counts={"servicepack": 1})},
        {"PATCH_WINDOW": "Wed 11:00-12:30", "PATCH_CLASSIFICATIONS": "Critical,ServicePack"},
        Install,
        State.DUE,
        "",
    ),
    "Linux knows no service packs": (
        {},
        {"PATCH_WINDOW": "Wed 11:00-12:20", "PATCH_CLASSIFICATIONS": "Critical,ServicePack"},
        Install,
        State.DUE,
        "",
    ),
    "too little is left before a black-out": (
        {"tags": {"patch-window": "Wed 11:00-14:00 Asia/Tokyo; Wed 11:00-14:00"}},
        {"PATCH_BLACKOUT": "2026-11-26 Pacific/Auckland", "PATCH_WINDOW": "Wed 10:00-13:00"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-12-02 11:00 UTC",
    ),
    "the tag and the setting overlap for too short a time": (
        {"tags": {"patch-window": "Wed 11:50-12:10"}},
        {"PATCH_WINDOW": "Wed 11:00-14:00"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "only 10 minutes of its window are left; opens Wed 2026-12-02 11:50 UTC",
    ),
    "of two windows the open one counts": ({}, {"PATCH_WINDOW": f"{NIGHTS}; Wed 11:00-14:00"}, Install, State.DUE, ""),
    "of two windows the next one is named": (
        {},
        {"PATCH_WINDOW": f"{NIGHTS}; 2nd Tue +3d 01:00-05:00"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28 22:00 UTC",
    ),
    "the tag narrows the setting": (
        {"tags": {"patch-window": NIGHTS}},
        {"PATCH_WINDOW": "Wed 11:00-14:00"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "does not open within 400 days",
    ),
    "the tag does not widen the setting": (
        {"tags": {"patch-window": "any"}},
        {"PATCH_WINDOW": NIGHTS},
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28 22:00 UTC",
    ),
    "black-out": ({}, {"PATCH_BLACKOUT": "2026-11-25"}, Wait, State.WAITING_FOR_WINDOW, "2026-11-26 00:00 UTC"),
    "a first patching need not wait": (YOUNG, {"PATCH_WINDOW": NIGHTS} | FIRST_DAY, Install, State.DUE, ""),
    "a first patching waits by default": (
        YOUNG,
        {"PATCH_WINDOW": NIGHTS},
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28",
    ),
    "a first patching respects its owner's tag": (
        {**YOUNG, "tags": {"patch-window": NIGHTS}},
        FIRST_DAY,
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28",
    ),
    "a first patching respects a black-out": (
        YOUNG,
        {"PATCH_WINDOW": NIGHTS, "PATCH_BLACKOUT": "2026-11-25"} | FIRST_DAY,
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28 22:00 UTC",
    ),
    "a second patching waits": (
        {**YOUNG, "installation": a_status(status="Failed", started=NOW - 2 * HOUR, modified=NOW - 100 * MINUTE)},
        {"PATCH_WINDOW": NIGHTS} | FIRST_DAY,
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28",
    ),
    "closed, and the support state is too old to install on": (
        {"verdict": a_verdict(assessed=NOW - 20 * HOUR)},
        {"PATCH_WINDOW": NIGHTS, "PATCH_FRESH_HOURS": "12"},
        Wait,
        State.WAITING_FOR_WINDOW,
        "2026-11-28 22:00 UTC",
    ),
    "open, and the support state is too old to install on": (
        {"verdict": a_verdict(assessed=NOW - 20 * HOUR)},
        {"PATCH_WINDOW": "Wed 11:00-14:00", "PATCH_FRESH_HOURS": "12"},
        Assess,
        State.DUE,
        "too old to install on",
    ),
    "closed, and to be assessed": (
        {"verdict": a_verdict(state=SupportState.ABSENT)},
        {"PATCH_WINDOW": NIGHTS},
        Assess,
        State.DUE,
        "",
    ),
}


@rows(WINDOWS)
def test_windows(
    changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str
) -> None:
    step = decide(a_machine(**changes), **environ)
    check(step, verb, state, fragment)
    assert verb is not Wait or step.when is None or step.when > NOW


@pytest.mark.parametrize(
    ("changes", "window", "minutes"),
    [
        pytest.param({}, "any", 120, id="any: the setting"),
        pytest.param({}, "Wed 11:00-13:00", 60, id="the window closes earlier"),
        pytest.param({}, "Wed 11:00-23:00", 120, id="the window closes later"),
        pytest.param(YOUNG, NIGHTS, 120, id="a first patching is not cut"),
        pytest.param({"tags": {"patch-window": "Wed 12:00-12:45"}}, "any", 45, id="its own window closes earlier"),
        pytest.param({"tags": {"patch-window": "any"}}, "Wed 11:00-12:40", 40, id="its own window closes later"),
        pytest.param({"tags": {"patch-window": "Wed 11:00-12:45"}}, "Wed 12:00-12:30", 30, id="both close"),
        pytest.param({}, NIGHTS, 0, id="closed"),
    ],
)
def test_an_installation_ends_with_its_window(changes: dict[str, Any], window: str, minutes: int) -> None:
    limits = settings(PATCH_WINDOW=window, **FIRST_DAY)
    asked = question_of(a_machine(**changes), None, limits, created_after=LONG_AGO, now=NOW)
    assert asked.minutes_left == minutes


# The machine, the settings → the rule that lets it go, as its reason says it, and the reboot that is ordered.
RULES_THAT_LET_GO: dict[str, tuple[dict[str, Any], dict[str, str], str, str]] = {
    "always": ({}, {}, "its window is open (any)", "IfRequired"),
    "always, up to a black-out": (
        {},
        {"PATCH_BLACKOUT": "2026-11-26 Europe/Paris"},
        "its window is open until Wed 2026-11-25 23:00 UTC (any)",
        "IfRequired",
    ),
    "its window": (
        {},
        {"PATCH_WINDOW": "Wed 11:00-14:00 Europe/Paris"},
        "its window is open until Wed 2026-11-25 14:00 Europe/Paris, 13:00 UTC (Wed 11:00-14:00 Europe/Paris)",
        "IfRequired",
    ),
    "its window, to another day of UTC": (
        {},
        {"PATCH_WINDOW": "Wed 20:00-24:00 Asia/Tokyo"},
        "until Thu 2026-11-26 00:00 Asia/Tokyo, Wed 15:00 UTC",
        "IfRequired",
    ),
    "the window of canaries": (
        {},
        {"PATCH_WINDOW": NIGHTS, "PATCH_CANARY_WINDOW": "Wed 11:00-14:00"},
        "outside its window, as a canary only: PATCH_CANARY_WINDOW is open until Wed 2026-11-25 14:00 UTC",
        "IfRequired",
    ),
    "first hours, in its window": (YOUNG, {"PATCH_WINDOW": "Wed 11:00-14:00"} | FIRST_DAY, "is open", "IfRequired"),
    "first hours": (
        YOUNG,
        {"PATCH_WINDOW": NIGHTS} | FIRST_DAY,
        "outside its window: first 24 hours (PATCH_FIRST_HOURS), reboot Never",
        "Never",
    ),
    "first hours, reboot allowed": (
        YOUNG,
        {"PATCH_WINDOW": NIGHTS, "PATCH_FIRST_REBOOT": "IfRequired"} | FIRST_DAY,
        "outside its window: first 24 hours (PATCH_FIRST_HOURS), reboot IfRequired",
        "IfRequired",
    ),
    "first hours, reboot allowed there alone": (
        YOUNG,
        {"PATCH_WINDOW": NIGHTS, "PATCH_FIRST_REBOOT": "IfRequired", "PATCH_REBOOT": "Never"} | FIRST_DAY,
        "reboot Never",
        "Never",
    ),
    "first hours, always a reboot": (
        YOUNG,
        {"PATCH_WINDOW": NIGHTS, "PATCH_FIRST_REBOOT": "IfRequired", "PATCH_REBOOT": "Always"} | FIRST_DAY,
        "reboot IfRequired",
        "IfRequired",
    ),
    "first hours, its tag forbids a reboot": (
        {**YOUNG, "tags": {"patch-reboot": "Never"}},
        {"PATCH_WINDOW": NIGHTS, "PATCH_FIRST_REBOOT": "IfRequired"} | FIRST_DAY,
        "reboot Never",
        "Never",
    ),
}


@pytest.mark.parametrize(("changes", "environ", "rule", "reboot"), RULES_THAT_LET_GO.values(), ids=RULES_THAT_LET_GO)
def test_an_installation_says_the_rule_that_let_it_go_and_reboots_by_it(
    changes: dict[str, Any], environ: dict[str, str], rule: str, reboot: str
) -> None:
    asked = question_of(a_machine(**changes), None, settings(**environ), created_after=LONG_AGO, now=NOW)
    step = next_step(asked)
    assert isinstance(step, Install)
    assert rule in step.reason
    assert order_for(asked, None)["rebootSetting"] == reboot


WITH_WARNINGS = a_status(operation_id=INSTALLATION, status="CompletedWithWarnings")
AFTER_IT = {"installation": WITH_WARNINGS, "verdict": a_verdict(assessed=NOW - 30 * MINUTE, reboot_pending=True)}
NONE_LEFT = {"verdict": a_verdict(reboot_pending=True, counts={})}
# A machine with a reboot pending → who reboots it.
WHO_REBOOTS: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "no patch is left": (NONE_LEFT, {}, "only at the end of an installation, and none is due"),
    "no patch is left, its window is open": (
        NONE_LEFT, {"PATCH_WINDOW": "Wed 11:00-14:00"}, "only at the end of an installation, and none is due"
    ),
    "patches wait": (
        AFTER_IT,
        {"PATCH_WINDOW": "Sat 22:00-02:00 Europe/Paris"},
        "3 patches wait; the app reboots it with its next installation, not before Tue 2026-12-01 12:00 Europe/Paris, "
        "11:00 UTC",
    ),
    "after first hours": (
        YOUNG | AFTER_IT, {"PATCH_WINDOW": NIGHTS} | FIRST_DAY, "with its next installation, not before"
    ),
    "no reboot is allowed": (AFTER_IT, {"PATCH_REBOOT": "Never"}, "the app may not reboot it"),
    "no reboot is allowed, and no patch is left": (
        NONE_LEFT | {"tags": {"patch-reboot": "Never"}}, {}, "the app may not reboot it"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "environ", "who"), WHO_REBOOTS.values(), ids=WHO_REBOOTS)
def test_a_pending_reboot_says_who_makes_it(changes: dict[str, Any], environ: dict[str, str], who: str) -> None:
    step = decide(a_machine(**changes), **environ)
    check(step, Wait, State.REBOOT_PENDING, who)
    assert step.remedy == "Restart the machine in a suitable window."


OPEN_NOW, NEXT_WEEK = "Wed 11:00-14:00", "Wed 10:00-11:00"
SHORT_NOW = "Wed 11:00-12:10"  # too short for any installation
# The machine, PATCH_WINDOW, more settings → the step, whether it may go as a canary alone, (in its own window, in the
# canaries'), minutes left, and the first time that is named.
CANARY_WINDOWS: dict[str, tuple[dict[str, Any], str, dict[str, str], type[Step], bool, tuple[bool, bool], int, str]] = {
    "only the canaries' is open": ({}, NIGHTS, {}, Install, True, (False, True), 90, ""),
    "both are open": ({}, OPEN_NOW, {}, Install, False, (True, True), 120, ""),
    "its own is open for too short a time": ({}, SHORT_NOW, {}, Install, True, (False, True), 90, ""),
    "only its own is open": (
        {}, OPEN_NOW, {"PATCH_CANARY_WINDOW": NIGHTS}, Install, False, (True, False), 120, ""
    ),
    "none is open, the canaries' is next": (
        {}, NIGHTS, {"PATCH_CANARY_WINDOW": "Thu 10:00-14:00"}, Wait, False, (False, False), 0, "2026-11-26 10:00",
    ),
    "none is open, its own is next": (
        {}, NIGHTS, {"PATCH_CANARY_WINDOW": NEXT_WEEK}, Wait, False, (False, False), 0, "2026-11-28 22:00",
    ),
    "no window of canaries": ({}, NIGHTS, {"PATCH_CANARY_WINDOW": ""}, Wait, False, (False, False), 0, "2026-11-28"),
    "it is not named as a canary": (
        {}, NIGHTS, {"PATCH_CANARY_MACHINES": "other-*"}, Wait, False, (False, False), 0, "2026-11-28 22:00",
    ),
    "it is named as a canary": (
        {}, NIGHTS, {"PATCH_CANARY_MACHINES": "vm-*"}, Install, True, (False, True), 90, ""
    ),
    "no canary is wanted": ({}, NIGHTS, {"PATCH_CANARIES": "0"}, Wait, False, (False, False), 0, "2026-11-28 22:00"),
    "a machine of no image proves nothing": (
        {"image": Image(ImageKind.NONE, "")}, NIGHTS, {}, Wait, False, (False, False), 0, "2026-11-28 22:00",
    ),
    "its tag narrows the canaries' window, too": (
        {"tags": {"patch-window": "Wed 12:00-13:00"}}, NIGHTS, {}, Install, True, (False, True), 60, "",
    ),
    "its tag closes the canaries' window, too": (
        {"tags": {"patch-window": "Sat 20:00-23:00"}}, NIGHTS, {}, Wait, False, (False, False), 0, "2026-11-28 22:00",
    ),
    "a black-out closes the canaries' window, too": (
        {}, NIGHTS, {"PATCH_BLACKOUT": "2026-11-25"}, Wait, False, (False, False), 0, "2026-11-28 22:00",
    ),
    "before its first hours": ({**YOUNG}, NIGHTS, FIRST_DAY, Install, True, (False, True), 90, ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "window", "environ", "verb", "only_canary", "windows", "minutes", "opens"),
    CANARY_WINDOWS.values(),
    ids=CANARY_WINDOWS,
)
def test_canaries_may_have_a_window_of_their_own(
    changes: dict[str, Any],
    window: str,
    environ: dict[str, str],
    verb: type[Step],
    only_canary: bool,
    windows: tuple[bool, bool],
    minutes: int,
    opens: str,
) -> None:
    given = settings(PATCH_WINDOW=window, **{"PATCH_CANARY_WINDOW": "Wed 11:30-13:30"} | environ)
    asked = question_of(a_machine(**changes), None, given, created_after=LONG_AGO, now=NOW)
    step = next_step(asked)
    assert type(step) is verb
    assert (isinstance(step, Install) and step.only_canary) == only_canary
    assert (asked.in_own_window, asked.in_canary_window) == windows
    assert asked.minutes_left == minutes
    assert not opens or (step.when and opens in step.reason and f"{step.when:%Y-%m-%d %H:%M}".startswith(opens))


@pytest.mark.parametrize(
    ("window", "assessed"),
    [
        pytest.param("any", HOUR, id="installed"),
        pytest.param("any", 26 * HOUR, id="installed, or assessed meanwhile"),
        pytest.param(NIGHTS, HOUR, id="waiting for the window"),
    ],
)
def test_a_sweep_holds_one_step_for_all_machines_of_which_it_says_the_same(window: str, assessed: timedelta) -> None:
    verdict = a_verdict(assessed=NOW - assessed)
    first, second = (
        decide(a_machine(id=machine_id(name), verdict=verdict), PATCH_WINDOW=window) for name in ("a", "b")
    )
    assert first is second


def test_an_installation_ends_before_a_black_out() -> None:
    """2026-11-26 begins in Auckland at 11:00 UTC of the day before."""
    now = NOW - 105 * MINUTE
    limits = settings(PATCH_BLACKOUT="2026-11-26 Pacific/Auckland")
    assert question_of(a_machine(), None, limits, created_after=LONG_AGO, now=now).minutes_left == 45
    assert question_of(a_machine(), None, limits, created_after=LONG_AGO, now=NOW).minutes_left == 0


@pytest.mark.parametrize(
    ("os_type", "classifications", "minutes"),
    [
        (OsType.LINUX, "Critical,Security", 20),
        (OsType.LINUX, "ServicePack", 20),
        (OsType.WINDOWS, "Critical,Security", 25),
        (OsType.WINDOWS, "Critical,ServicePack", 30),
    ],
)
def test_the_least_an_installation_needs(os_type: OsType, classifications: str, minutes: int) -> None:
    assert min_minutes(a_machine(os_type=os_type), settings(PATCH_CLASSIFICATIONS=classifications)) == minutes


# -- 6. who else patches it

OWNED = {"tags": {"patch-owner": "image-patcher"}}
ELSEWHERE: dict[str, Row] = {
    "a schedule": (
        {"patchers": PatchOrchestration.SCHEDULE},
        {},
        Leave,
        State.SCHEDULED_ELSEWHERE,
        "a maintenance configuration",
    ),
    "a schedule that is assigned": (
        {"patchers": PatchOrchestration.SCHEDULE, "schedule_assigned": True},
        {},
        Leave,
        State.SCHEDULED_ELSEWHERE,
        "a maintenance configuration patches it",
    ),
    "left to a schedule, and none is assigned": (
        {"patchers": PatchOrchestration.SCHEDULE, "schedule_assigned": False},
        {},
        Leave,
        State.PATCHED_BY_NOBODY,
        "so nothing patches it",
    ),
    "left to a schedule, none is assigned, and tagged ours": (
        {"patchers": PatchOrchestration.SCHEDULE, "schedule_assigned": False, **OWNED},
        {},
        Install,
        State.DUE,
        "",
    ),
    "a schedule, to be assessed": (
        {"patchers": PatchOrchestration.SCHEDULE, "verdict": a_verdict(state=SupportState.ABSENT)},
        {},
        Assess,
        State.DUE,
        "absent",
    ),
    "a schedule, but all are included": (
        {"patchers": PatchOrchestration.SCHEDULE},
        {"PATCH_SCHEDULED": "include"},
        Install,
        State.DUE,
        "",
    ),
    "a schedule, but tagged ours": ({"patchers": PatchOrchestration.SCHEDULE, **OWNED}, {}, Install, State.DUE, ""),
    "a schedule, but the group is tagged ours": (
        {"patchers": PatchOrchestration.SCHEDULE} | of_group("patch-owner", "image-patcher"),
        {},
        Install,
        State.DUE,
        "",
    ),
    "the guest itself": ({"patchers": PatchOrchestration.SELF}, {}, Install, State.DUE, ""),
    "not known": ({"patchers": PatchOrchestration.UNKNOWN}, {}, Install, State.DUE, ""),
    "the platform (marketplace)": (
        {"patchers": PatchOrchestration.PLATFORM, "image": MARKETPLACE},
        {"PATCH_IMAGES": "all"},
        Leave,
        State.SCHEDULED_ELSEWHERE,
        "AutomaticByPlatform",
    ),
    "the platform, tagged ours: the tag is about schedules": (
        {"patchers": PatchOrchestration.PLATFORM, "image": MARKETPLACE, **OWNED},
        {"PATCH_IMAGES": "all"},
        Leave,
        State.SCHEDULED_ELSEWHERE,
        "AutomaticByPlatform",
    ),
}


@rows(ELSEWHERE)
def test_who_else_patches_it(
    changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str
) -> None:
    check(decide(a_machine(**changes), **environ), verb, state, fragment)


# -- 7. whose machine it is: every pattern

_GALLERIES = "/subscriptions/x/resourcegroups/aks/providers/microsoft.compute/galleries"
MANAGED: dict[str, tuple[dict[str, Any], str]] = {
    "managedBy": ({"managed_by": "/subscriptions/x/y"}, "managedBy"),
    "managedBy on the group": ({"resource_group": ResourceGroup(managed_by="/aks")}, "managedBy"),
    "scale set": ({"scale_set": "/scale/set"}, "scale set"),
    "standby pool": ({"in_standby_pool": True}, "standby pool of a scale set"),
    "Karpenter with a slash": ({"tags": {"karpenter.sh/nodepool": "default"}}, "Kubernetes"),
    "AKS Ubuntu gallery": (
        {"image": Image(ImageKind.GALLERY, f"{_GALLERIES}/aksubuntu/images/2204gen2/versions/1")},
        "Kubernetes",
    ),
    "AKS Windows gallery": (
        {"image": Image(ImageKind.GALLERY, f"{_GALLERIES}/akswindows/images/w/versions/1")},
        "Kubernetes",
    ),
    "AKS Azure Linux gallery": (
        {"image": Image(ImageKind.GALLERY, f"{_GALLERIES}/aksazurelinux/images/v3/versions/1")},
        "Kubernetes",
    ),
    "AKS Mariner gallery": (
        {"image": Image(ImageKind.GALLERY, f"{_GALLERIES}/akscblmariner/images/v2/versions/1")},
        "Kubernetes",
    ),
    "Windows client image": (
        {"image": Image(ImageKind.MARKETPLACE, "microsoftwindowsdesktop:windows-11:win11-24h2-ent")},
        "Windows client",
    ),
    "Windows 11 in the guest": ({"os_name": "Windows 11 Enterprise"}, "Windows client"),
    "Windows 10 in the guest": ({"os_name": "windows 10 pro"}, "Windows client"),
}
OURS: dict[str, dict[str, Any]] = {
    "plain": {},
    "made by a person": {"tags": {"createdby": "alice"}},
    "a gallery that only sounds like AKS": {
        "image": Image(ImageKind.GALLERY, f"{_GALLERIES}/my_aksubuntu/images/i/versions/1")
    },
    "a group that only sounds like AKS": {"id": machine_id(group="mc_donalds")},
    "a group with it in its name": {"id": machine_id(group="rg-it_department")},
    "Windows Server": {"os_name": "Windows Server 2025 Datacenter"},
    "Windows 100": {"os_name": "Windows 100"},
    "a group's tag": of_group("createdby", "terraform"),
}


IN_A_SET = {"scale_set": "/scale/set"}
# What its scale set does → why the machine is left alone; "" where it is taken in.
SCALE_SETS: dict[str, tuple[ScaleSet | None, str]] = {
    "leaves its members alone": (ScaleSet(flexible=True, repairs=False, upgrades=False), ""),
    "repairs": (ScaleSet(flexible=True, repairs=True, upgrades=False), "replaces machines"),
    "upgrades": (ScaleSet(flexible=True, repairs=False, upgrades=True), "upgrades its machines"),
    "is Uniform": (ScaleSet(flexible=False, repairs=False, upgrades=False), "Uniform"),
    "is not known": (None, "not known"),
}


@pytest.mark.parametrize(("rules", "reason"), SCALE_SETS.values(), ids=SCALE_SETS)
def test_a_member_of_a_scale_set_is_patched_only_where_its_set_leaves_it_alone(
    rules: ScaleSet | None, reason: str
) -> None:
    member = a_machine(**IN_A_SET, scale_set_rules=rules)
    check(decide(member), Leave, State.MANAGED_ELSEWHERE, "a member of a scale set")
    taken_in = decide(member, PATCH_SCALE_SETS="include")
    if reason:
        check(taken_in, Leave, State.MANAGED_ELSEWHERE, reason)
        assert taken_in.remedy
    else:
        check(taken_in, Install, State.DUE, "")


@pytest.mark.parametrize("other", [{"managed_by": "/x"}, {"in_standby_pool": True}, {"tags": {"aks-managed-x": "y"}}])
def test_taking_scale_sets_in_takes_in_no_machine_of_another_service(other: dict[str, Any]) -> None:
    rules = ScaleSet(flexible=True, repairs=False, upgrades=False)
    step = decide(a_machine(**IN_A_SET, scale_set_rules=rules, **other), PATCH_SCALE_SETS="include")
    assert step.state is State.MANAGED_ELSEWHERE


@pytest.mark.parametrize(("changes", "reason"), MANAGED.values(), ids=MANAGED)
@pytest.mark.parametrize("state", [SupportState.ABSENT, SupportState.SUPPORTED])
def test_managed_elsewhere_is_neither_assessed_nor_installed(
    changes: dict[str, Any], reason: str, state: SupportState
) -> None:
    step = decide(a_machine(**changes, verdict=a_verdict(state=state)), PATCH_IMAGES="all")
    check(step, Leave, State.MANAGED_ELSEWHERE, reason)


@pytest.mark.parametrize("changes", OURS.values(), ids=OURS)
def test_not_managed_elsewhere(changes: dict[str, Any]) -> None:
    assert foreign_manager(a_machine(**changes)) is None


SERVICES = json.loads((PAYLOADS / "foreign_machines.json").read_text())["services"]
FOREIGN = {
    f"{service['service']}: {number} {each['vm']}": (service, each)
    for service in SERVICES
    for number, each in enumerate(service["positives"])
}
NEAR_MISSES = {
    f"{service['service']}: {number} {each.get('group')}/{each['vm']}": each
    for service in SERVICES
    for number, each in enumerate(service["near_misses"])
}
THE_OWNERS_CHOICE = ("DevTest Labs", "Azure CycleCloud")  # long-lived machines among them


def described(each: dict[str, Any], **tags: str) -> Machine:
    """The machine of a record, as the app reads it: names and tag names in lower case."""
    text = str(each.get("image", ""))
    kind = ImageKind.MARKETPLACE if text else ImageKind.GALLERY
    group_tags = {name.lower(): value for name, value in each.get("group_tags", {}).items()}
    return a_machine(
        id=machine_id(each["vm"].lower(), group=each["group"].lower()),
        image=Image(kind, text or GALLERY_IMAGE),
        tags={name.lower(): value for name, value in each.get("tags", {}).items()} | tags,
        resource_group=ResourceGroup(group_tags, each.get("group_managed_by", "")),
        managed_by=each.get("managed_by", ""),
        scale_set=each.get("scale_set", ""),
    )


@pytest.mark.parametrize(("service", "each"), FOREIGN.values(), ids=FOREIGN)
def test_a_machine_of_another_service_is_left_to_it(service: dict[str, Any], each: dict[str, Any]) -> None:
    client = str(each.get("image", "")).startswith("microsoftwindowsdesktop:")
    step = decide(described(each), PATCH_IMAGES="all")
    assert (step.state is State.MANAGED_ELSEWHERE) == (service["managed_elsewhere"] or client)


@pytest.mark.parametrize(("service", "each"), FOREIGN.values(), ids=FOREIGN)
def test_an_owner_may_take_only_those_that_live_long(service: dict[str, Any], each: dict[str, Any]) -> None:
    step = decide(described(each, **{"patch-owner": "image-patcher"}), PATCH_IMAGES="all")
    taken = service["service"] in THE_OWNERS_CHOICE or decide(described(each)).state is State.DUE
    assert (step.state is State.DUE) == taken


@pytest.mark.parametrize(("service", "each"), FOREIGN.values(), ids=FOREIGN)
def test_a_tag_of_the_group_takes_none_of_them(service: dict[str, Any], each: dict[str, Any]) -> None:
    machine = described(each)
    group = machine.resource_group or ResourceGroup()
    tagged = machine.in_resource_group(replace(group, tags={**group.tags, "patch-owner": "image-patcher"}))
    assert decide(tagged, PATCH_IMAGES="all").state is decide(machine, PATCH_IMAGES="all").state


@pytest.mark.parametrize("each", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_an_ordinary_machine_that_looks_like_one_is_looked_after(each: dict[str, Any]) -> None:
    assert foreign_manager(described(each)) is None


# -- 8. scope

SCOPE: dict[str, Row] = {
    "in the listed subscription": ({}, {"PATCH_SCOPE": SUBSCRIPTION}, Install, State.DUE, ""),
    "in another subscription": (
        {"id": machine_id(subscription=OTHER_ID)},
        {"PATCH_SCOPE": SUBSCRIPTION},
        Leave,
        State.OUT_OF_SCOPE,
        "PATCH_SCOPE",
    ),
    "marketplace": ({"image": MARKETPLACE}, {}, Leave, State.MARKETPLACE, "not assessed"),
    "marketplace, all images, Supported": ({"image": MARKETPLACE}, {"PATCH_IMAGES": "all"}, Install, State.DUE, ""),
    "marketplace, all images, assessed without a state": (
        {"image": MARKETPLACE, "verdict": a_verdict(state=SupportState.ABSENT)},
        {"PATCH_IMAGES": "all"},
        Install,
        State.DUE,
        "",
    ),
    "marketplace, all images, assessed with warnings": (
        {
            "image": MARKETPLACE,
            "verdict": a_verdict(state=SupportState.ABSENT, status="CompletedWithWarnings"),
        },
        {"PATCH_IMAGES": "all"},
        Install,
        State.DUE,
        "",
    ),
    "marketplace, all images, never assessed": (
        {"image": MARKETPLACE, "verdict": a_verdict(state=SupportState.ABSENT, status="", assessed=None, counts={})},
        {"PATCH_IMAGES": "all"},
        Assess,
        State.DUE,
        "absent",
    ),
    "marketplace, all images, assessment failed": (
        {"image": MARKETPLACE, "verdict": a_verdict(state=SupportState.ABSENT, status="Failed")},
        {"PATCH_IMAGES": "all"},
        Assess,
        State.DUE,
        "absent",
    ),
    "marketplace, all images, Unknown permits nothing": (
        {"image": MARKETPLACE, "verdict": a_verdict(state=SupportState.UNKNOWN)},
        {"PATCH_IMAGES": "all"},
        Assess,
        State.DUE,
        "Unknown",
    ),
    "marketplace with a third-party plan, without a state": (
        {"image": MARKETPLACE, "third_party_plan": True, "verdict": a_verdict(state=SupportState.ABSENT)},
        {"PATCH_IMAGES": "all"},
        Leave,
        State.ASSESSED,
        "third-party plan",
    ),
    "marketplace with a third-party plan, assessed long ago": (
        {"image": MARKETPLACE, "third_party_plan": True, "verdict": replace(WEEK_OLD, state=SupportState.ABSENT)},
        {"PATCH_IMAGES": "all"},
        Assess,
        State.DUE,
        "last assessed 2026-11-19",
    ),
    "marketplace with a third-party plan, its assessment failed": (
        {
            "image": MARKETPLACE,
            "third_party_plan": True,
            "verdict": a_verdict(state=SupportState.ABSENT, status="Failed"),
        },
        {"PATCH_IMAGES": "all"},
        Assess,
        State.DUE,
        "absent",
    ),
    "marketplace with a third-party plan, Supported": (
        {"image": MARKETPLACE, "third_party_plan": True},
        {"PATCH_IMAGES": "all"},
        Install,
        State.DUE,
        "",
    ),
    "customized, assessed without a state: never": (
        {"verdict": a_verdict(state=SupportState.ABSENT)},
        {"PATCH_IMAGES": "all"},
        Assess,
        State.DUE,
        "absent",
    ),
}


@rows(SCOPE)
def test_scope(changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str) -> None:
    check(decide(a_machine(**changes), **environ), verb, state, fragment)


SERVER: dict[str, Any] = {
    "id": MachineId.parse(str(machine_id()).replace("compute/virtualmachines", "hybridcompute/machines")),
    "image": Image(ImageKind.ARC, "arc/linux/ubuntu-22-lts"),
    "created": None,
    "patchers": PatchOrchestration.SCHEDULE,
    "schedule_assigned": False,
    "agent_status": "Connected",
    "verdict": a_verdict(state=SupportState.ABSENT),
}
UNSTATED, UNKNOWN = SERVER["verdict"], a_verdict(state=SupportState.UNKNOWN)
# what differs of a server, and of the settings → the step
SERVERS: dict[str, Row] = {
    "assessed without a state": ({}, {}, Install, State.DUE, ""),
    "its assessment failed": ({"verdict": replace(UNSTATED, status="Failed")}, {}, Assess, State.DUE, "absent"),
    "Unsupported": ({"verdict": a_verdict(state=SupportState.UNSUPPORTED)}, {}, Leave, State.UNSUPPORTED, ""),
    "Unknown": ({"verdict": UNKNOWN}, {}, Assess, State.DUE, "Unknown"),
    "PATCH_ARC is off": ({}, {"PATCH_ARC": "off"}, Leave, State.OUT_OF_SCOPE, "PATCH_ARC is off"),
    "its age is not asked": ({}, {"PATCH_CREATED_AFTER": "2026-11-25T00:00:00Z"}, Install, State.DUE, ""),
    "disconnected": ({"agent_status": "Disconnected"}, {}, Wait, State.AGENT_NOT_READY, "agent is Disconnected"),
    "expired": ({"agent_status": "Expired"}, {}, Wait, State.AGENT_NOT_READY, "agent is Expired"),
    "no status": ({"agent_status": ""}, {}, Wait, State.AGENT_NOT_READY, "of no known status"),
    "provisioning failed": ({"provisioning_state": "Failed"}, {}, Wait, State.BUILDING, "provisioning failed"),
    "a schedule patches it": (
        {"schedule_assigned": True},
        {},
        Leave,
        State.SCHEDULED_ELSEWHERE,
        "a maintenance configuration patches it",
    ),
    "a schedule may patch it": (
        {"schedule_assigned": None},
        {},
        Leave,
        State.SCHEDULED_ELSEWHERE,
        "assigned or not is not known",
    ),
    "a schedule and the app": ({"schedule_assigned": True}, {"PATCH_SCHEDULED": "include"}, Install, State.DUE, ""),
    "a node of a cluster": ({"managed_by": "/x"}, {}, Leave, State.MANAGED_ELSEWHERE, "a node of Azure Local"),
}


@rows(SERVERS)
def test_servers(
    changes: dict[str, Any], environ: dict[str, str], verb: type[Step], state: State, fragment: str
) -> None:
    check(decide(a_machine(**SERVER | changes), **{"PATCH_ARC": "on"} | environ), verb, state, fragment)


@pytest.mark.parametrize(
    ("created", "verb", "state", "says"),
    [
        pytest.param(
            NOW - 2 * DAY - MINUTE, Leave, State.OUT_OF_SCOPE, "created 2026-11-23 11:59 UTC, before", id="older"
        ),
        pytest.param(NOW - 2 * DAY, Install, State.DUE, "", id="at that moment"),
        pytest.param(None, Leave, State.OUT_OF_SCOPE, "its creation time is not known", id="age not known"),
    ],
)
def test_machines_created_before_the_start_are_out_of_scope(
    created: datetime | None, verb: type[Step], state: State, says: str
) -> None:
    check(
        next_step(question_of(a_machine(created=created), None, settings(), created_after=NOW - 2 * DAY, now=NOW)),
        verb,
        state,
        says,
    )


def test_the_order_of_objections_is_the_documented_one() -> None:
    """Of several objections the first speaks: whose it is, then its owner, then whether it can be called at all."""
    worst = {
        "managed_by": "/x",
        "image": MARKETPLACE,
        "created": None,
        "tags": {"patch-mode": "off"},
        "provisioning_state": "Creating",
        "power": PowerState.STOPPED,
        "assessment": RUNNING,
        "agent_ready": False,
    }
    cures = ["managed_by", "image", "created", "tags", "provisioning_state", "power", "assessment", "agent_ready"]
    seen = []
    for name in cures:
        question = question_of(a_machine(**worst), None, settings(), created_after=NOW - 9 * DAY, now=NOW)
        seen.append(next_step(question).state)
        del worst[name]
    assert seen == [
        State.MANAGED_ELSEWHERE,
        State.MARKETPLACE,
        State.OUT_OF_SCOPE,
        State.OPTED_OUT,
        State.BUILDING,
        State.POWERED_OFF,
        State.BUSY,
        State.AGENT_NOT_READY,
    ]
    assert len(RULES) == 13


# -- 9. no verdict, three times

SILENCE: dict[str, tuple[int, SupportState, type[Step], State]] = {
    "one silence": (1, SupportState.ABSENT, Wait, State.DUE),
    "two": (2, SupportState.UNKNOWN, Wait, State.DUE),
    "three: reported": (3, SupportState.ABSENT, Wait, State.UNDETERMINED),
    "three times not determined: reported": (3, SupportState.UNABLE_TO_DETERMINE, Wait, State.UNDETERMINED),
}


@pytest.mark.parametrize(("unanswered", "state", "verb", "expected"), SILENCE.values(), ids=SILENCE)
def test_assessments_without_a_verdict(unanswered: int, state: SupportState, verb: type[Step], expected: State) -> None:
    until = NOW + HOUR
    record = a_record(phase=Phase.HELD, unanswered=unanswered, not_before=until)
    machine = a_machine(verdict=a_verdict(state=state))
    step = next_step(question_of(machine, record, settings(), created_after=LONG_AGO, now=NOW))
    assert (type(step), step.state, step.when) == (verb, expected, until)
    assert bool(step.remedy) is (unanswered >= UNANSWERED_LIMIT)
    again = next_step(question_of(machine, record, settings(), created_after=LONG_AGO, now=until))
    check(again, Assess, State.DUE, f"support state {state}")


def test_the_next_look_grows_to_a_day_and_is_weekly_once_silence_is_not_news() -> None:
    given_settings = settings()
    looks = [wait_after_no_verdict(count, SupportState.ABSENT, given_settings, jitter=0) for count in (1, 2, 3, 4)]
    assert looks == [15 * MINUTE, 30 * MINUTE, WEEK, WEEK]
    looks = [
        wait_after_no_verdict(count, SupportState.UNABLE_TO_DETERMINE, given_settings, jitter=0)
        for count in (1, 2, 3, 8)
    ]
    assert looks == [15 * MINUTE, 30 * MINUTE, HOUR, DAY]
    causes = [undetermined(count, SupportState.ABSENT, None).cause for count in (1, 2, 3)]
    assert causes == [Cause.TRANSIENT, Cause.TRANSIENT, Cause.OWNER]


# -- 10. what the ledger alone says

PENDING: dict[str, tuple[Record | None, State | None, str]] = {
    "no row": (None, None, ""),
    "queued": (a_record(due_at=NOW + HOUR), State.QUEUED, "claimed for an assessment"),
    "queued, for an installation": (a_record(kind=OperationKind.INSTALL), State.QUEUED, "claimed for an installation"),
    "starting": (a_record(phase=Phase.STARTING), State.ASSESSING, "an assessment is under way"),
    "running": (
        a_record(phase=Phase.RUNNING, kind=OperationKind.INSTALL),
        State.INSTALLING,
        "an installation is under way",
    ),
    "ended": (a_record(phase=Phase.ENDED, outcome="Failed"), State.CONFIRMING, "its assessment ended Failed"),
    "held": (
        a_record(phase=Phase.HELD, not_before=NOW + HOUR, state="overdue", reason="why", remedy="do"),
        State.OVERDUE,
        "why",
    ),
    "held without a state": (
        a_record(phase=Phase.HELD, not_before=NOW + HOUR, reason="why"),
        State.FAILED,
        "why",
    ),
    "the hold is over": (a_record(phase=Phase.HELD, not_before=NOW), None, ""),
}


@pytest.mark.parametrize(("record", "state", "reason"), PENDING.values(), ids=PENDING)
def test_pending_step(record: Record | None, state: State | None, reason: str) -> None:
    step = pending_step(record, NOW)
    assert (step.state if step else None) == state
    if step:
        assert isinstance(step, Wait)
        assert reason in step.reason


def test_a_hold_keeps_its_remedy_its_end_and_who_ends_it() -> None:
    record = a_record(
        phase=Phase.HELD, not_before=NOW + HOUR, reason="why", remedy="do", cause=Cause.OWNER, state="failed"
    )
    assert pending_step(record, NOW) == Wait(State.FAILED, "why", "do", NOW + HOUR, Cause.OWNER)


# A hold of a machine that is else to be installed, the settings and tags of now, and what people see.
SHOWN: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, str], State]] = {
    "nothing has changed": ({}, {}, {}, State.RECENTLY_PATCHED),
    "opted out since": ({}, {}, {"patch-mode": "off"}, State.OPTED_OUT),
    "a tag that cannot be read": ({}, {}, {"patch-mode": "perhaps"}, State.BAD_TAG),
    "put on hold since": ({}, {}, {"patch-hold-until": "2027-01-15"}, State.ON_HOLD),
    "out of scope since": ({}, {"PATCH_SCOPE": "00000000-0000-0000-0000-000000000009"}, {}, State.OUT_OF_SCOPE),
    "switched off since": ({}, {"PATCH_MODE": "off"}, {}, State.SWITCHED_OFF),
    "only assessed since": ({}, {"PATCH_MODE": "assess"}, {}, State.ASSESSED),
    "an assessment's hold is wanted just as much": (
        {"kind": OperationKind.ASSESS},
        {"PATCH_MODE": "assess"},
        {},
        State.RECENTLY_PATCHED,
    ),
    "an operation that may still run": (
        {"state": "overdue"},
        {"PATCH_MODE": "assess"},
        {"patch-mode": "off"},
        State.OVERDUE,
    ),
    "one under way": ({"phase": Phase.RUNNING}, {}, {"patch-mode": "off"}, State.INSTALLING),
    "the hold is over": ({"not_before": NOW}, {}, {}, State.DUE),
}


@pytest.mark.parametrize(("columns", "environ", "tags", "state"), SHOWN.values(), ids=SHOWN)
def test_a_hold_is_shown_unless_its_owner_has_made_it_needless(
    columns: dict[str, Any], environ: dict[str, str], tags: dict[str, str], state: State
) -> None:
    hold = {"phase": Phase.HELD, "kind": OperationKind.INSTALL, "not_before": NOW + HOUR, "state": "recently-patched"}
    record = a_record(**{**hold, **columns})
    step = displayed_step(
        question_of(a_machine(tags=tags), record, settings(**environ), created_after=LONG_AGO, now=NOW)
    )
    assert step.state is state


# -- 11. what is wanted

WANTED: dict[str, tuple[OsType, str, tuple[str, ...]]] = {
    "linux, the default": (OsType.LINUX, "Critical,Security", ("Critical", "Security")),
    "linux knows three classes": (OsType.LINUX, "Security,UpdateRollUp,Tools,Other", ("Critical", "Security", "Other")),
    "linux, none of its classes": (OsType.LINUX, "Definition", ()),
    "windows has no Other": (OsType.WINDOWS, "Security,Definition,Other", ("Security", "Definition")),
}


@pytest.mark.parametrize(("os_type", "text", "wanted"), WANTED.values(), ids=WANTED)
def test_classifications_by_operating_system(os_type: OsType, text: str, wanted: tuple[str, ...]) -> None:
    assert wanted_classifications(a_machine(os_type=os_type), settings(PATCH_CLASSIFICATIONS=text)) == wanted


LINUX_CLASSES = json.loads(
    (Path(__file__).parents[1] / "recordings" / "linux_classifications.json").read_text(encoding="utf-8")
)["rows"]


@pytest.mark.parametrize(
    "row", [row for row in LINUX_CLASSES if not row["refused"]], ids=lambda row: "+".join(row["wanted"])
)
def test_linux_is_asked_for_what_its_extension_installs_and_this_is_counted(row: dict[str, Any]) -> None:
    waiting = {"critical": 1, "security": 10, "other": 100}
    machine = a_machine(os_type=OsType.LINUX, verdict=a_verdict(counts=waiting))
    given = settings(PATCH_CLASSIFICATIONS=",".join(row["wanted"]))
    assert wanted_classifications(machine, given) == tuple(row["installs"])
    assert wanted_count(machine, given) == sum(waiting[name.lower()] for name in row["installs"])


def test_wanted_patches_are_counted_by_what_the_installation_will_ask_for() -> None:
    windows = a_machine(
        os_type=OsType.WINDOWS, verdict=a_verdict(counts={"updaterollup": 2, "other": 9, "security": 1})
    )
    assert wanted_count(windows, settings(PATCH_CLASSIFICATIONS="UpdateRollUp,Security,Other")) == 3
    assert wanted_count(windows, settings(PATCH_PACKAGES_INCLUDE="KB5001234")) == 12
    assert wanted_count(windows, settings(PATCH_PACKAGES_INCLUDE="lib.so*")) == 1  # no order of Windows can carry it
    assert wanted_count(a_machine(verdict=None), settings()) == 0


def test_a_machine_of_which_no_order_can_name_a_patch_is_not_installed() -> None:
    """Resource Graph shows fewer patches than it counts, so which of them the masks name is not known."""
    windows = a_machine(os_type=OsType.WINDOWS, verdict=a_verdict(counts={"other": 9}, named=None))
    step = decide(windows, PATCH_CLASSIFICATIONS="Other", PATCH_PACKAGES_INCLUDE="lib.so*")
    assert step.state is State.NOTHING_SELECTED


# -- 12. what must hold in every combination

times = st.one_of(st.none(), st.integers(-60 * 24 * 12, 60).map(lambda minutes: NOW + minutes * MINUTE))
operations = st.sampled_from([ASSESSMENT, OTHER_ID, ""])
statuses = st.sampled_from(["InProgress", "NotStarted", "Succeeded", "Failed", "CompletedWithWarnings", "Unknown", ""])
summaries = st.one_of(
    st.none(),
    st.builds(a_status, operation_id=operations, status=statuses, started=times, modified=times),
)
counts = st.dictionaries(st.sampled_from(["critical", "security", "other", "updaterollup"]), st.integers(0, 3))
verdicts = st.one_of(
    st.none(),
    st.builds(
        a_verdict,
        state=st.sampled_from(SupportState),
        assessment_id=operations,
        assessed=times,
        status=st.sampled_from(["Succeeded", "Failed", ""]),
        counts=counts,
        reboot_pending=st.booleans(),
    ),
)
tags = st.dictionaries(
    st.sampled_from(["patch-mode", "patch-reboot", "patch-hold-until", "patch-window", "env", "createdby"]),
    st.sampled_from(
        [
            "any",
            "Wed 11:00-14:00",
            NIGHTS,
            "off",
            "plan",
            "assess",
            "install",
            "Never",
            "2026-11-24",
            "2027-01-15",
            "packer",
            "wrong",
            "",
        ]
    ),
    max_size=3,
)
groups = st.one_of(st.none(), st.builds(ResourceGroup, tags=tags, managed_by=st.sampled_from(["", "", "/aks"])))
images = st.sampled_from([MARKETPLACE, *(Image(kind, GALLERY_IMAGE) for kind in CUSTOMIZED)])


def _mostly(usual: Any, values: Any) -> st.SearchStrategy[Any]:
    """The usual value more often than not: a machine with five things wrong says no more than one with one."""
    return st.one_of(st.just(usual), st.just(usual), st.just(usual), st.sampled_from(values))


machines = st.builds(
    a_machine,
    image=images,
    created=_mostly(NOW - 2 * DAY, [None, NOW, NOW - 9 * DAY]),
    provisioning_state=_mostly("Succeeded", ["Creating", "Failed", ""]),
    power=_mostly(PowerState.RUNNING, list(PowerState)),
    tags=tags,
    resource_group=groups,
    managed_by=_mostly("", ["/x"]),
    scale_set=_mostly("", ["/x"]),
    third_party_plan=st.booleans(),
    extensions_allowed=_mostly(True, [False]),
    patchers=st.sampled_from(PatchOrchestration),
    agent_ready=_mostly(True, [None, False]),
    busy_extensions=_mostly((), [None, ("script",)]),
    os_type=st.sampled_from(OsType),
    assessment=summaries,
    installation=summaries,
    verdict=verdicts,
)
environs = st.fixed_dictionaries(
    {"PATCH_MODE": st.sampled_from(["off", "plan", "assess", "install"])},
    optional={
        "PATCH_IMAGES": st.sampled_from(["custom", "all"]),
        "PATCH_SCALE_SETS": st.sampled_from(["leave", "include"]),
        "PATCH_SCHEDULED": st.sampled_from(["leave", "include"]),
        "PATCH_PACKAGES_INCLUDE": st.just("openssl*"),
        "PATCH_CLASSIFICATIONS": st.just("Definition"),
        "PATCH_ASSESS_AFTER_MINUTES": st.just("120"),
        "PATCH_WINDOW": st.sampled_from(["any", "Wed 11:00-14:00", NIGHTS]),
        "PATCH_BLACKOUT": st.just("2026-11-25"),
    },
)
records = st.one_of(
    st.none(),
    st.builds(
        a_record,
        phase=st.sampled_from(Phase),
        kind=st.sampled_from(OperationKind),
        unanswered=st.integers(0, 5),
        not_before=times,
        ended_at=times,
        started_at=times,
        state=st.sampled_from(State),
        cause=st.sampled_from(Cause),
        reason=st.just("a reason"),
    ),
)
many = hypothesis_settings(max_examples=200, deadline=None)


def _settings(environ: dict[str, str]) -> Settings:
    return read_settings({**REQUIRED, "PATCH_WINDOW": "any", **environ})


@many
@given(machines, records, environs)
def test_every_combination_has_one_state_one_reason_and_a_remedy_where_a_person_is_needed(
    machine: Machine, record: Record | None, environ: dict[str, str]
) -> None:
    step = next_step(question_of(machine, record, _settings(environ), created_after=LONG_AGO, now=NOW))
    assert type(step) in (Assess, Install, Wait, Leave)
    assert step.verb in ("assess", "install", "wait", "leave")
    assert step.reason.strip()
    assert step.reason.isprintable()
    at_rest = step.state in (State.PATCHED, State.ASSESSED)
    if isinstance(step, Leave) and not at_rest:
        assert step.remedy
    if isinstance(step, Wait) and step.cause is Cause.OWNER:
        assert step.remedy, step
    pending_step(record, NOW)


@many
@given(machines, records, environs)
def test_a_customized_image_is_installed_only_where_supported(
    machine: Machine, record: Record | None, environ: dict[str, str]
) -> None:
    step = next_step(question_of(machine, record, _settings(environ), created_after=LONG_AGO, now=NOW))
    if isinstance(step, Install) and machine.image.customized:
        assert machine.verdict is not None
        assert machine.verdict.state is SupportState.SUPPORTED
    if isinstance(step, Install) and not machine.image.customized:
        assert machine.verdict is not None
        assert machine.verdict.state in (SupportState.SUPPORTED, SupportState.ABSENT)


@many
@given(machines, records, environs)
def test_nothing_starts_beside_an_operation_that_runs(
    machine: Machine, record: Record | None, environ: dict[str, str]
) -> None:
    step = next_step(question_of(machine, record, _settings(environ), created_after=LONG_AGO, now=NOW))
    fresh = [
        summary
        for summary in machine.patch_statuses
        if summary.in_progress and NOW - (summary.modified or summary.started or NOW) < DAY
    ]
    if fresh:
        assert isinstance(step, Wait | Leave)


def _does(step: Step) -> int:
    return {Install: 2, Assess: 1}.get(type(step), 0)


extra_tags = st.tuples(
    st.sampled_from(
        [
            "patch-mode",
            "patch-reboot",
            "patch-hold-until",
            "patch-window",
            "patch-ring",
            "patch-group",
            "patch-sla",
            "patch-owner",
            "createdby",
            "x",
        ]
    ),
    st.sampled_from(
        [
            "off",
            "plan",
            "assess",
            "install",
            "Always",
            "2026-11-24",
            "2099-01-01",
            "image-patcher",
            "packer",
            "?",
            "",
            "any",
            "Wed 11:00-14:00",
            NIGHTS,
            "0",
            "7",
        ]
    ),
)


@many
@given(machines, records, environs, extra_tags, st.booleans())
def test_no_tag_right_or_wrong_ever_widens_anything(
    machine: Machine, record: Record | None, environ: dict[str, str], tag: tuple[str, str], on_group: bool
) -> None:
    """One more tag never brings an installation or an assessment about; patch-owner answers whose a schedule's is."""
    name, text = tag
    group = machine.resource_group or ResourceGroup()
    if name in machine.tags or name in group.tags:
        return  # an exchange of one tag for another, not one more
    if name == "patch-owner" and machine.patchers is PatchOrchestration.SCHEDULE:
        return
    known = replace(machine, resource_group=group)
    tagged = (
        replace(known, resource_group=replace(group, tags={**group.tags, name: text}))
        if on_group
        else replace(known, tags={**machine.tags, name: text})
    )
    given_settings = _settings(environ)
    before = next_step(question_of(known, record, given_settings, created_after=LONG_AGO, now=NOW))
    after = next_step(question_of(tagged, record, given_settings, created_after=LONG_AGO, now=NOW))
    assert _does(after) <= _does(before), (before, after)


@many
@given(machines, records, environs)
def test_a_larger_mode_never_does_less(machine: Machine, record: Record | None, environ: dict[str, str]) -> None:
    """off ≤ assess ≤ install; plan calls nothing, and answers as install would."""
    done = {}
    for mode in ("off", "plan", "assess", "install"):
        done[mode] = _does(
            next_step(
                question_of(machine, record, _settings(environ | {"PATCH_MODE": mode}), created_after=LONG_AGO, now=NOW)
            )
        )
    assert done["off"] == 0
    assert done["assess"] <= done["install"]
    assert done["assess"] <= 1
    group = machine.resource_group or ResourceGroup()
    if "plan" not in {*machine.tags.values(), *group.tags.values()}:
        assert done["plan"] == done["install"]
    tagged = [
        _does(
            next_step(
                question_of(
                    replace(machine, tags={**machine.tags, "patch-mode": mode}),
                    record,
                    _settings(environ),
                    created_after=LONG_AGO,
                    now=NOW,
                )
            )
        )
        for mode in ("off", "assess", "install")
    ]
    assert tagged == sorted(tagged)
    assert Mode.OFF < Mode.PLAN < Mode.ASSESS < Mode.INSTALL


@given(st.integers(1, 60), st.floats(0, 1))
def test_backoff_grows_and_stays_within_a_day_and_its_jitter(attempts: int, jitter: float) -> None:
    first = 15 * MINUTE
    wait = backoff(first, attempts, jitter)
    assert first <= wait <= DAY * 1.2
    assert backoff(first, attempts, 0) <= wait
    assert backoff(first, attempts + 1, 0) >= backoff(first, attempts, 0)


# -- 13. a story: one machine from its creation to patched, told by decisions and moves alone


# PATCH_PACKAGES_INCLUDE, and how many of the three patches below it names that are of no wanted classification
NAMED: dict[str, tuple[str, OsType, int]] = {
    "a mask that matches": ("lib*", OsType.LINUX, 1),
    "a mask over name and version": ("libfoo_1.2*", OsType.LINUX, 1),
    "in another letter case": ("LIBFOO", OsType.LINUX, 1),
    "a mask that matches nothing": ("nginx*", OsType.LINUX, 0),
    "a mask of what is wanted anyway": ("openssl*", OsType.LINUX, 0),
    "a KB number": ("KB5031364", OsType.WINDOWS, 1),
    "a KB number without its letters": ("5031364", OsType.WINDOWS, 1),
    "another KB number": ("KB5031365", OsType.WINDOWS, 0),
}
PATCHES = [
    WaitingPatch("openssl", "", "3.0", ("security",)),
    WaitingPatch("libfoo", "", "1.2.3", ("other",)),
    WaitingPatch("Definitions for Defender", "5031364", "", ("definition",)),
]


@pytest.mark.parametrize(("masks", "os_type", "number"), NAMED.values(), ids=NAMED)
def test_a_mask_wants_what_it_names_and_nothing_else(masks: str, os_type: OsType, number: int) -> None:
    given_settings = settings(PATCH_PACKAGES_INCLUDE=masks)
    verdict = a_verdict(counts={"definition": 1, "other": 1})
    machine = a_machine(os_type=os_type, verdict=verdict)
    named = named_count(machine, given_settings, PATCHES)
    assert named == number
    seen = replace(machine, verdict=replace(verdict, named=named))
    step = decide(seen, PATCH_PACKAGES_INCLUDE=masks)
    assert step.state is (State.DUE if number else State.NOTHING_SELECTED)


def test_the_life_of_one_machine() -> None:
    given_settings, now = settings(PATCH_ASSESS_AFTER_MINUTES="0"), NOW
    born = a_machine(created=now, verdict=None)

    def says(machine: Machine, record: Record | None) -> Step:
        return pending_step(record, now) or next_step(
            question_of(machine, record, given_settings, created_after=LONG_AGO, now=now)
        )

    # created: an event; the guest is still busy, then it is not
    assert says(replace(born, busy_extensions=("script",)), None).state is State.BUILDING
    assert isinstance(says(born, None), Assess)

    # claimed, sent, under way, ended: nothing else may start meanwhile
    record = claim(born, OperationKind.ASSESS, token="one", due_at=now, previous=None)
    assert says(born, record).state is State.QUEUED
    record = begin(record, born, 4 * HOUR, now=now)
    assert says(born, record).state is State.ASSESSING
    record = accepted(record, ASSESSMENT, "https://…", started_at=now)
    assert says(born, record).state is State.ASSESSING
    now += 3 * MINUTE
    record = end(record, Ending("Succeeded", now))
    assert says(born, record).state is State.CONFIRMING

    # Graph shows what came of it: Supported, and too young for an installation for the rest of its first hour
    found = replace(born, verdict=a_verdict(assessed=now - 3 * MINUTE))
    assert says(found, None).state is State.TOO_NEW
    now += HOUR
    assert isinstance(says(found, None), Install)

    # installed; what was counted before is void, so it is assessed again
    record = claim(found, OperationKind.INSTALL, token="two", due_at=now, previous=None)
    assert says(found, record).state is State.QUEUED
    record = accepted(begin(record, found, 2 * HOUR, now=now), INSTALLATION, "https://…", started_at=now)
    assert says(found, record).state is State.INSTALLING
    now += 20 * MINUTE
    record = release(end(record, Ending("Succeeded", now)), now)
    assert isinstance(says(found, record), Assess)

    # assessed once more: patched, at rest, without a row, until the interval is over
    now += 5 * MINUTE
    patched = replace(found, verdict=a_verdict(assessed=now, counts={"other": 0}))
    assert says(patched, None).state is State.PATCHED
    now += given_settings.min_interval
    assert isinstance(says(patched, None), Assess)


# -- installations that failed: their number, the time since, and whether an image's breaker could stop them

NO_IMAGE = Image(ImageKind.NONE, "")
AFTER_FAILURES: dict[str, tuple[Image | None, tuple[datetime, ...], type[Step], datetime | None]] = {
    "one, its wait over": (None, (NOW - HOUR,), Install, None),
    "one, just now": (None, (NOW - MINUTE,), Wait, NOW + 14 * MINUTE),
    "two, the wait doubles": (None, (NOW - HOUR, NOW - MINUTE), Wait, NOW + 29 * MINUTE),
    "two, without an image": (NO_IMAGE, (NOW - 2 * HOUR, NOW - HOUR), Install, None),
    "three within the interval": (None, (NOW - DAY, NOW - 20 * HOUR, NOW - 16 * HOUR), Wait, NOW + 5 * DAY),
    "three, the first an interval ago": (None, (NOW - 6 * DAY, NOW - DAY, NOW - DAY), Install, None),
    "three long ago": (None, (NOW - 30 * DAY, NOW - 29 * DAY, NOW - 28 * DAY), Install, None),
    "three long ago, without an image": (NO_IMAGE, (NOW - 30 * DAY, NOW - 29 * DAY, NOW - 28 * DAY), Wait, None),
    "eleven: a week at most": (None, tuple(NOW - number * DAY for number in range(46, 2, -4)), Wait, NOW + DAY),
}


@pytest.mark.parametrize(("image", "tries", "step", "when"), AFTER_FAILURES.values(), ids=AFTER_FAILURES)
def test_a_machine_whose_installations_fail_waits_longer_each_time(
    image: Image | None, tries: tuple[datetime, ...], step: type[Step], when: datetime | None
) -> None:
    machine = a_machine(**({"image": image} if image else {}))
    record = a_record(phase=Phase.HELD, not_before=NOW, image=machine.image.key, tries=tries, failures=len(tries))
    answer = next_step(question_of(machine, record, settings(), created_after=LONG_AGO, now=NOW))
    assert type(answer) is step
    assert answer.when == when
    if step is Wait:
        assert answer.state is State.FAILED
        assert answer.remedy


TRIED: dict[str, tuple[dict[str, Any], bool]] = {
    "a failure that no row knows": ({"status": "Failed", "started": NOW - MINUTE}, False),
    "a failure that is the last try": ({"status": "Failed", "started": NOW - HOUR + MINUTE}, True),
    "one more failure": ({"status": "Failed", "started": NOW - 40 * MINUTE}, False),
    "a failure without a time": ({"status": "Failed", "started": None}, True),
    "one in progress, abandoned long ago": ({"status": "InProgress", "started": NOW - 9 * DAY}, True),
}


@pytest.mark.parametrize(("shown", "goes"), TRIED.values(), ids=TRIED)
def test_what_the_machine_shows_counts_as_a_try(shown: dict[str, Any], goes: bool) -> None:
    tries = () if shown["started"] == NOW - MINUTE else (NOW - 3 * HOUR, NOW - HOUR)
    machine = a_machine(
        installation=a_status(operation_id=INSTALLATION, modified=shown["started"], **shown),
        verdict=a_verdict(assessed=NOW - MINUTE / 2),
    )
    record = a_record(phase=Phase.HELD, not_before=NOW, tries=tries)
    answer = next_step(question_of(machine, record, settings(), created_after=LONG_AGO, now=NOW))
    assert isinstance(answer, Install) is goes, answer
