"""Whether a machine is patched in time: pure, from what an assessment counted and how long it has waited.

Azure gives a patch's publication time on Windows only. On Linux the clock runs from the newest installation that did
not fail, or from the machine's creation: so a Linux machine may be called late a little too late, never too early.
Critical and Security patches have a clock and a limit each: PATCH_SLA_DAYS, or less for its owner there, or less by the
machine's tag patch-sla.
"""

from datetime import datetime
from enum import StrEnum

from functions.model.machine import Machine, OldestPatches, SupportState
from functions.model.state import Cause, Leave, State, Step, Wait
from functions.policy.settings import Settings
from functions.policy.tags import tag_overrides
from functions.policy.values import Sla


class Compliance(StrEnum):
    WITHIN = "within"
    LATE = "late"  # whatever keeps it from being patched
    BLOCKED = "blocked"  # not late yet, and not patched unless a person changes something
    UNKNOWN = "unknown"  # no assessment has counted anything


# A person must act, though their waits end by themselves as far as the app goes.
_BY_A_PERSON = (State.BREAKER_OPEN, State.POWERED_OFF, State.AGENT_NOT_READY, State.UNDETERMINED)
# An operation under way, an app that is only told to assess, a machine that something else patches, a reboot that the
# next installation makes, and a machine that has what it needs.
_GOES_ON = (
    State.QUEUED,
    State.ASSESSING,
    State.INSTALLING,
    State.CONFIRMING,
    State.ASSESSED,
    State.SCHEDULED_ELSEWHERE,
    State.REBOOT_PENDING,
    State.PATCHED,
)


def compliance(
    machine: Machine, step: Step, *, oldest: OldestPatches, last_installed: datetime | None, sla: Sla, now: datetime
) -> Compliance:
    """`oldest`: when its oldest pending patches were published, where Azure says so. `step`: what follows for it."""
    verdict, pending = machine.verdict, machine.pending
    counted = verdict is not None and verdict.state is SupportState.SUPPORTED and verdict.assessed is not None
    blocked = bool(pending.urgent) and is_blocked(step)
    if not counted:
        return Compliance.BLOCKED if blocked else Compliance.UNKNOWN
    last = max((at for at in (last_installed, machine.created) if at), default=None)
    waiting = [
        (since or oldest.first or last, limit)
        for count, since, limit in (
            (pending.critical, oldest.critical, sla.critical),
            (pending.security, oldest.security, sla.security),
        )
        if count
    ]
    if any(since and now - since > limit for since, limit in waiting):
        return Compliance.LATE
    if blocked:
        return Compliance.BLOCKED
    return Compliance.WITHIN if all(since for since, _ in waiting) else Compliance.UNKNOWN


def sla_of(machine: Machine, settings: Settings) -> Sla:
    """The machine's own limits: those of PATCH_SLA_DAYS for its owner, or shorter ones by its tag patch-sla."""
    return settings.sla.of(machine.tag(settings.owner_tag)).and_within(tag_overrides(machine).sla)


def is_blocked(step: Step) -> bool:
    """Whether the machine is not patched before a person changes something."""
    if not isinstance(step, Wait | Leave):
        return False
    if step.state in _BY_A_PERSON or step.cause is Cause.NEVER:
        return True
    return step.cause is Cause.OWNER and step.state not in _GOES_ON
