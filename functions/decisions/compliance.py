"""Whether a machine is patched in time: pure, from what an assessment counted and how long it has waited.

Azure gives a patch's publication time on Windows only. On Linux the clock runs from the newest installation that did
not fail, or from the machine's creation: so a Linux machine may be called late a little too late, never too early.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from functions.model.machine import Machine, SupportState


class Compliance(StrEnum):
    WITHIN = "within"
    LATE = "late"
    UNKNOWN = "unknown"  # no assessment has counted anything


def compliance(
    machine: Machine, oldest_patch: datetime | None, last_installed: datetime | None, *, sla: timedelta, now: datetime
) -> Compliance:
    """`oldest_patch`: when the oldest pending Critical or Security patch was published, where Azure says so."""
    verdict = machine.verdict
    if verdict is None or verdict.state is not SupportState.SUPPORTED or verdict.assessed is None:
        return Compliance.UNKNOWN
    if machine.pending.urgent == 0:
        return Compliance.WITHIN
    waiting_since = oldest_patch or max((at for at in (last_installed, machine.created) if at), default=None)
    if waiting_since is None:
        return Compliance.UNKNOWN
    return Compliance.WITHIN if now - waiting_since <= sla else Compliance.LATE
