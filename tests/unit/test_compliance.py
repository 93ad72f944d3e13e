"""When a machine counts as patched in time: every row of a table is one machine at one moment."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from functions.decisions.compliance import Compliance, compliance, is_blocked, sla_of
from functions.model.machine import OldestPatches, PatchAssessment, ResourceGroup, SupportState
from functions.model.state import Assess, Cause, Install, Leave, State, Step, Wait
from functions.policy.values import Sla
from tests.support import NOW, a_machine, a_verdict, settings

DAY = timedelta(days=1)
OLD = NOW - 400 * DAY
BOTH, ALIKE = Sla(7 * DAY, 30 * DAY), Sla(30 * DAY, 30 * DAY)
SECURITY = a_verdict(counts={"critical": 0, "security": 2, "other": 9})
CRITICAL = a_verdict(counts={"critical": 1, "other": 9})
TWO = a_verdict(counts={"critical": 1, "security": 2})
NOTHING_URGENT = a_verdict(counts={"critical": 0, "security": 0, "other": 9})
GOES = Install(State.DUE, "Supported")
OFF = Wait(State.POWERED_OFF, "the machine is deallocated", "Start it.")
UNSUPPORTED = Leave(State.UNSUPPORTED, "Azure cannot patch it", "Rebuild it.", cause=Cause.NEVER)


def published(critical: int | None = None, security: int | None = None) -> OldestPatches:
    """So many days ago."""
    times = [None if days is None else NOW - days * DAY for days in (critical, security)]
    return OldestPatches(*times)


UNSAID = published()
WITHIN, LATE, BLOCKED, UNKNOWN = Compliance.WITHIN, Compliance.LATE, Compliance.BLOCKED, Compliance.UNKNOWN
# What waits, when it was published, the last installation, the creation, the limits, what follows → compliance.
Row = tuple[PatchAssessment | None, OldestPatches, datetime | None, datetime | None, Sla, Step, Compliance]
CASES: dict[str, Row] = {
    "nothing urgent waits": (NOTHING_URGENT, UNSAID, None, OLD, ALIKE, GOES, WITHIN),
    "published 30 days ago": (SECURITY, published(security=30), None, OLD, ALIKE, GOES, WITHIN),
    "published 31 days ago": (SECURITY, published(security=31), NOW - DAY, OLD, ALIKE, GOES, LATE),
    "Linux, installed lately": (SECURITY, UNSAID, NOW - 30 * DAY, OLD, ALIKE, GOES, WITHIN),
    "Linux, never installed, old": (SECURITY, UNSAID, None, OLD, ALIKE, GOES, LATE),
    "Linux, never installed, young": (SECURITY, UNSAID, None, NOW - 29 * DAY, ALIKE, GOES, WITHIN),
    "no time to count from": (SECURITY, UNSAID, None, None, ALIKE, GOES, UNKNOWN),
    "Graph was not asked": (None, UNSAID, None, NOW - DAY, ALIKE, GOES, UNKNOWN),
    "Graph shows nothing": (PatchAssessment(SupportState.ABSENT), UNSAID, None, NOW - DAY, ALIKE, GOES, UNKNOWN),
    "Azure cannot count its patches": (
        replace(NOTHING_URGENT, state=SupportState.UNSUPPORTED), UNSAID, None, NOW, ALIKE, UNSUPPORTED, UNKNOWN
    ),
    # each severity has its own clock and limit
    "critical, 7 days": (CRITICAL, published(critical=7), None, OLD, BOTH, GOES, WITHIN),
    "critical, 8 days": (CRITICAL, published(critical=8), None, OLD, BOTH, GOES, LATE),
    "security, 8 days": (SECURITY, published(security=8), None, OLD, BOTH, GOES, WITHIN),
    "security, 31 days": (SECURITY, published(security=31), None, OLD, BOTH, GOES, LATE),
    "critical 2 days, security 29": (TWO, published(2, 29), None, OLD, BOTH, GOES, WITHIN),
    "critical 8 days, security 8": (TWO, published(8, 8), None, OLD, BOTH, GOES, LATE),
    "critical 2 days, security 31": (TWO, published(2, 31), None, OLD, BOTH, GOES, LATE),
    "a critical patch that waits no longer": (SECURITY, published(8, 8), None, OLD, BOTH, GOES, WITHIN),
    "one severity's time is not known": (TWO, published(security=8), None, OLD, BOTH, GOES, LATE),
    "Linux, critical, installed 8 days ago": (CRITICAL, UNSAID, NOW - 8 * DAY, OLD, BOTH, GOES, LATE),
    "Linux, security, installed 8 days ago": (SECURITY, UNSAID, NOW - 8 * DAY, OLD, BOTH, GOES, WITHIN),
    # what only a person can change
    "off, patches wait": (SECURITY, published(security=3), None, OLD, ALIKE, OFF, BLOCKED),
    "off, nothing urgent waits": (NOTHING_URGENT, UNSAID, None, OLD, ALIKE, OFF, WITHIN),
    "off, late": (SECURITY, published(security=31), None, OLD, ALIKE, OFF, LATE),
    "off, no time to count from": (SECURITY, UNSAID, None, None, ALIKE, OFF, BLOCKED),
    "Unsupported by now, patches wait": (
        replace(SECURITY, state=SupportState.UNSUPPORTED), published(security=3), None, OLD, ALIKE, UNSUPPORTED, BLOCKED
    ),
    "no verdict, patches wait": (
        replace(SECURITY, state=SupportState.UNKNOWN), UNSAID, None, OLD, ALIKE, GOES, UNKNOWN
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "oldest", "installed", "created", "sla", "step", "expected"), CASES.values(), ids=CASES
)
def test_within_late_blocked_or_unknown(
    verdict: PatchAssessment | None,
    oldest: OldestPatches,
    installed: datetime | None,
    created: datetime | None,
    sla: Sla,
    step: Step,
    expected: Compliance,
) -> None:
    machine = a_machine(verdict=verdict, created=created)
    assert compliance(machine, step, oldest=oldest, last_installed=installed, sla=sla, now=NOW) is expected


SHOP = "Critical 7, Security 30; owner shop: Critical 7, Security 14"
SLAS: dict[str, tuple[str, dict[str, str], dict[str, str], Sla]] = {
    "the setting alone": ("Critical 7, Security 30", {}, {}, BOTH),
    "a shorter one on the machine": ("30", {"patch-sla": "Critical 7, Security 30"}, {}, BOTH),
    "a shorter one on the resource group": ("30", {}, {"patch-sla": "14"}, Sla(14 * DAY, 14 * DAY)),
    "the shortest of all three": (
        "Critical 7, Security 30",
        {"patch-sla": "14"},
        {"patch-sla": "10"},
        Sla(7 * DAY, 10 * DAY),
    ),
    "a longer one widens nothing": ("7", {"patch-sla": "90"}, {}, Sla(7 * DAY, 7 * DAY)),
    "a wrong one": ("30", {"patch-sla": "soon"}, {}, ALIKE),
    "a shorter one of its owner": (SHOP, {"owner": "Shop"}, {}, Sla(7 * DAY, 14 * DAY)),
    "of its owner, whom the resource group names": (SHOP, {}, {"owner": "shop"}, Sla(7 * DAY, 14 * DAY)),
    "of another owner": (SHOP, {"owner": "shop-2"}, {}, BOTH),
    "a shorter tag than that of its owner": (SHOP, {"owner": "shop", "patch-sla": "2"}, {}, Sla(2 * DAY, 2 * DAY)),
    "a longer tag than that of its owner": (SHOP, {"owner": "shop", "patch-sla": "20"}, {}, Sla(7 * DAY, 14 * DAY)),
}


@pytest.mark.parametrize(("setting", "own", "group", "expected"), SLAS.values(), ids=SLAS)
def test_the_limits_of_a_machine(setting: str, own: dict[str, str], group: dict[str, str], expected: Sla) -> None:
    machine = a_machine(tags=own, resource_group=ResourceGroup(group))
    assert sla_of(machine, settings(PATCH_SLA_DAYS=setting)) == expected


# Whose turn it is in each state as the app's own steps have it: a person's, or not.
OWNER, NEVER, TRANSIENT, CONFLICT = Cause.OWNER, Cause.NEVER, Cause.TRANSIENT, Cause.CONFLICT
BLOCKS: dict[str, tuple[Step, bool]] = {
    f"{state}, by {cause}": (kind(state, "a reason", "a remedy", cause=cause), blocked)
    for kind, state, cause, blocked in (
        (Assess, State.DUE, OWNER, False),
        (Install, State.DUE, OWNER, False),
        (Wait, State.DUE, TRANSIENT, False),
        (Wait, State.QUEUED, OWNER, False),
        (Wait, State.ASSESSING, OWNER, False),
        (Wait, State.INSTALLING, OWNER, False),
        (Wait, State.CONFIRMING, OWNER, False),
        (Wait, State.TOO_NEW, TRANSIENT, False),
        (Wait, State.BUILDING, TRANSIENT, False),
        (Wait, State.BUILDING, OWNER, True),  # its provisioning failed
        (Wait, State.POWERED_OFF, OWNER, True),
        (Wait, State.AGENT_NOT_READY, OWNER, True),
        (Wait, State.AGENT_NOT_READY, TRANSIENT, True),
        (Wait, State.EXTENSIONS_FORBIDDEN, OWNER, True),
        (Wait, State.BUSY, CONFLICT, False),
        (Wait, State.GRAPH_BEHIND, TRANSIENT, False),
        (Wait, State.WAITING_FOR_WINDOW, TRANSIENT, False),
        (Wait, State.WAITING_FOR_CANARY, TRANSIENT, False),
        (Wait, State.WAITING_FOR_RING, TRANSIENT, False),
        (Wait, State.WAITING_FOR_RING, OWNER, True),  # too many failed before it
        (Wait, State.WAITING_FOR_GROUP, TRANSIENT, False),
        (Wait, State.WAITING_FOR_GROUP, OWNER, True),  # a member is off
        (Wait, State.WAITING_FOR_SLOT, TRANSIENT, False),
        (Wait, State.BREAKER_OPEN, TRANSIENT, True),
        (Wait, State.PAUSED, OWNER, True),
        (Leave, State.ASSESSED, OWNER, False),
        (Leave, State.ASSESSED, NEVER, True),  # a third-party plan
        (Leave, State.NOTHING_SELECTED, OWNER, True),
        (Wait, State.RECENTLY_PATCHED, TRANSIENT, False),
        (Wait, State.REBOOT_PENDING, OWNER, False),
        (Leave, State.PATCHED_BY_NOBODY, OWNER, True),
        (Leave, State.UNSUPPORTED, NEVER, True),
        (Wait, State.UNDETERMINED, OWNER, True),
        (Leave, State.OPTED_OUT, OWNER, True),
        (Wait, State.ON_HOLD, OWNER, True),
        (Leave, State.BAD_TAG, OWNER, True),
        (Leave, State.MANAGED_ELSEWHERE, OWNER, True),
        (Leave, State.SCHEDULED_ELSEWHERE, OWNER, False),
        (Leave, State.MARKETPLACE, OWNER, True),
        (Leave, State.OUT_OF_SCOPE, OWNER, True),
        (Leave, State.SWITCHED_OFF, OWNER, True),
        (Wait, State.FAILED, TRANSIENT, False),
        (Wait, State.FAILED, OWNER, True),
        (Wait, State.FAILED, NEVER, True),
        (Wait, State.OVERDUE, OWNER, True),
        (Leave, State.PATCHED, OWNER, False),
    )
}


@pytest.mark.parametrize(("step", "blocked"), BLOCKS.values(), ids=BLOCKS)
def test_whether_a_person_must_change_something(step: Step, blocked: bool) -> None:
    assert is_blocked(step) is blocked


def test_each_state_is_in_the_table() -> None:
    assert {step.state for step, _ in BLOCKS.values()} == set(State)
