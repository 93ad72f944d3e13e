"""What the guest's patch extension shows in the instance view over time: `patchStatus`.

An installation begins and ends with an assessment under its own activity id. Linux (Azure/LinuxPatchExtension) writes
both: the summary of the installation appears after the first, and its own end comes after the second. Of Windows only
the second is believed, at the installation's end: its extension is not public.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from simulator.arm import patching
from simulator.wire import Json, ticks
from simulator.world import PATCHING, URGENT, Machine, Operation, Patch

Errors = tuple[tuple[str, str], ...]

_INSIDE = timedelta(minutes=3)  # how long an assessment inside an installation takes, or a tenth of the whole
_COUNTS = ("notSelected", "excluded", "pending", "installed", "failed")
_INSTALLATION = ("maintenanceWindowExceeded", *(f"{name}PatchCount" for name in _COUNTS))
_COUNTED = ("rebootPending", "criticalAndSecurityPatchCount", "otherPatchCount")


def patch_status(machine: Machine, now: datetime) -> Json:
    """Empty before the first operation, and then left out of the view (inferred)."""
    begun = [each for each in machine.operations if each.kind in PATCHING and each.started <= now]
    found: Json = {}
    for operation in begun:  # oldest first: a later one replaces what an earlier one wrote
        if operation.behaviour.azure_error:
            continue
        if operation.kind == "assess":
            found["availablePatchSummary"] = _summary(operation, "assessmentActivityId", _COUNTED, now=now)
            continue
        if inside := _assessment_inside(operation, now):
            found["availablePatchSummary"] = inside
        if operation.windows or now >= _begins(operation):
            found["lastPatchInstallationSummary"] = _summary(
                operation, "installationActivityId", _INSTALLATION, now=now
            )
    if found:
        found["configurationStatuses"] = [_configuration(name, ticks(now)) for name in ("PatchMode", "AssessmentMode")]
    return found


def _configuration(name: str, at: str) -> Json:
    display = f"Status_{name}ConfigurationState_Ready"
    return {"code": f"{name}ConfigurationState/Ready", "level": "Info", "displayStatus": display, "time": at}


def _summary(operation: Operation, id_name: str, names: tuple[str, ...], *, now: datetime) -> Json:
    """`startTime` here, `startDateTime` in results; a running operation shows no count yet.

    One whose process was killed shows what it had counted until then.
    """
    runs = operation.runs_at(now)
    output = patching.result(operation)
    body: Json = {"status": operation.status_at(now), id_name: operation.operation_id}
    for name in names:
        counted = name.endswith("Count")
        known = not runs or (counted and operation.behaviour.process_killed)
        body[name] = output[name] if known else 0 if counted else False
    modified = operation.started if runs or operation.ends is None else operation.ends
    body |= {"startTime": patching.time_of(operation, operation.started), "lastModifiedTime": ticks(modified)}
    return body if runs else body | {"error": output["error"]}


# --- the assessments inside an installation -----------------------------------------------------------------------


def _inside(operation: Operation) -> timedelta:
    ends = operation.planned_end or operation.ends
    return min(_INSIDE, (ends - operation.started) / 10) if ends else _INSIDE


def _begins(operation: Operation) -> datetime:
    """When the installation shows itself: a little after its first assessment, or when it was ended before."""
    begins = operation.started + _inside(operation) * 1.5
    return min(begins, operation.ends) if operation.ends else begins


def _assessment_inside(operation: Operation, now: datetime) -> Json:
    """The newest of the two, under the installation's activity id; {} while there is none.

    Where the first fails, or a reboot does not come, there is no second.
    """
    behaviour, span = operation.behaviour, _inside(operation)
    cut_short = operation.ended_by or behaviour.opening_errors or behaviour.reboot_status == "Failed"
    ends = None if cut_short else operation.ends
    if ends is not None and now >= ends - (timedelta() if operation.windows else 2 * span):
        left = [patch for patch in operation.waiting if patch.id not in operation.installs]
        done = ends - (timedelta() if operation.windows else span)
        if now < done:
            return _running(operation)
        pending = patching.result(operation)["rebootStatus"] == "Required"
        return _ended(operation, left, done, errors=behaviour.closing_errors) | {"rebootPending": pending}
    if operation.windows and not behaviour.opening_errors:
        return {}
    opened = operation.started + span
    if now < opened:
        return _running(operation)
    return _ended(operation, operation.waiting, opened, errors=behaviour.opening_errors)


def _running(operation: Operation) -> Json:
    """It counts nothing yet."""
    return _assessment(operation, "InProgress", (), modified=operation.started)


def _ended(operation: Operation, found: Sequence[Patch], at: datetime, *, errors: Errors) -> Json:
    if errors:
        return _assessment(operation, "Failed", (), modified=at) | {"error": patching.error_with(operation, errors)}
    limit = operation.behaviour.list_limit
    if limit is not None and len(found) > limit:
        error = patching.error_with(operation, (patching.LIST_CUT,))
        return _assessment(operation, "CompletedWithWarnings", found, modified=at) | {"error": error}
    return _assessment(operation, "Succeeded", found, modified=at) | {"error": patching.error_with(operation, ())}


def _assessment(operation: Operation, status: str, found: Sequence[Patch], *, modified: datetime) -> Json:
    critical = sum(patch.classification in URGENT for patch in found)
    return {
        "status": status,
        "assessmentActivityId": operation.operation_id,
        "rebootPending": False,
        "criticalAndSecurityPatchCount": critical,
        "otherPatchCount": len(found) - critical,
        "startTime": patching.time_of(operation, operation.started),
        "lastModifiedTime": ticks(modified),
    }
