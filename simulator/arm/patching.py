"""assessPatches and installPatches: when they are refused, how long they take, and what they report.

Result shapes: recorded traffic of azure-cli's test_vm_install_patches (2024-11-23), the models of azure-mgmt-compute.
Not simulated: hotpatching, update sources (WSUS), pre- and post-maintenance, the eight hours in which a machine
re-created under its old name answers ShutdownOrUnresponsive, and whatever a real guest's package manager may do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatch
from typing import Literal

from simulator.arm import rules
from simulator.behaviour import REFUSALS, Behaviour, Kind, Refusal
from simulator.event_grid.events import operation_event
from simulator.wire import Json, Refused, Request, ticks, whole_seconds
from simulator.world import (
    ESM,
    LINUX_CLASSES,
    PATCHING,
    POWER,
    RESTARTS,
    SUPERSEDED,
    URGENT,
    WINDOWS_CLASSES,
    HybridMachine,
    Machine,
    Operation,
    Patch,
    World,
)

ACTIONS: dict[Kind, str] = {"assess": "assessPatches", "install": "installPatches"}
REBOOTS = ("IfRequired", "Never", "Always")
_DURATION = re.compile(r"P(?=.)(?:\d+D)?(?:T(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?")
_LINUX_DURATION = re.compile(r"PT(?=\d)(?:\d+H)?(?:\d+M)?(?:\d+S)?")  # all that the Linux extension parses
_WINDOWS_MASK = re.compile(r"[A-Za-z0-9*?]+")  # the alphabet that the API names
_TOGETHER_ON_LINUX = {"critical", "security"}  # tests/recordings/linux_classifications.json
_ERRORS_REPORTED = 5
_MESSAGE_CHARACTERS = 128
# Azure/LinuxPatchExtension; that Windows does the same is believed.
_CUT_ID = "Truncated_patch_list_id"
LIST_CUT = (
    "PACKAGE_LIST_TRUNCATED",
    "Package lists were truncated to limit reporting data volume. In-VM logs contain complete lists.",
)


def start(
    world: World,
    machine: Machine,
    kind: Kind,
    *,
    order: Json,
    started_by: Literal["User", "Platform"],
    request: Request | None = None,
) -> Operation:
    """Starts an operation. Raises Refused.

    With Limits.conflict == "supersede" it ends the running operation instead of refusing the new one.
    """
    behaviour = world.behaviour(machine)
    if kind == "install":
        version = request.query.get("api-version", "") if request else ""
        _check_order(order, version, windows=machine.windows, hybrid=isinstance(machine, HybridMachine))
    _refuse_by_behaviour(machine, kind, behaviour)
    if isinstance(machine, HybridMachine):
        _refuse_if_not_connected(machine, kind, world.now())
    else:
        _refuse_if_not_ready(world, machine, kind, behaviour=behaviour)
    _resolve_conflict(world, machine, kind)
    now = world.now()
    waiting = world.waiting(machine)
    operation = Operation(
        kind=kind,
        machine=machine.id,
        vm_id=machine.vm_id,
        operation_id=world.guid(),
        started=now,
        ends=None,
        started_by=started_by,
        windows=machine.windows,
        region=machine.region,
        _now=world.now,
        order=order,
        request=request,
        behaviour=behaviour,
        waiting=waiting,
    )
    (_plan_assessment if kind == "assess" else _plan_installation)(world, machine, operation)
    if behaviour.azure_error:
        operation.ended_by, operation.installs = behaviour.azure_error, frozenset()
        operation.final_status = behaviour.azure_status
    if operation.ends is not None:
        end = operation.ends
        world.at(end, lambda: operation_event(world, operation) if operation.ends == end else None)
    return world.record(operation, machine)


def end_all(world: World, machine: Machine, status: str, *, ended_by: tuple[str, str]) -> None:
    """Ends every running operation of the machine early: for a newer one, a shutdown or the machine's deletion."""
    now = world.now()
    for operation in machine.running_at(now):
        operation.end_early(now, status, ended_by)
        world.at(now, lambda operation=operation: operation_event(world, operation))  # type: ignore[misc]


def _check_order(order: Json, api_version: str, *, windows: bool, hybrid: bool) -> None:
    rules.check_sections(order)
    for section, classes in (("windowsParameters", WINDOWS_CLASSES), ("linuxParameters", LINUX_CLASSES)):
        path = f"{section}.classificationsToInclude"
        rules.check_values((order.get(section) or {}).get("classificationsToInclude"), path, classes.values())
    masks = {"patchNameMasksToInclude", "patchNameMasksToExclude"} & (order.get("windowsParameters") or {}).keys()
    masks_since = "2025-02-19" if hybrid else "2025-04-01"  # compute_patch_api.json
    if masks and api_version and api_version < masks_since:
        raise Refused(400, "InvalidRequestContent", f"Could not find member '{min(masks)}': could not be deserialized.")
    for mask in (mask for name in masks for mask in order["windowsParameters"][name]):
        if not _WINDOWS_MASK.fullmatch(str(mask)):
            raise Refused(400, "InvalidParameter", f"The value '{mask}' of a patch name mask is invalid.")  # inferred
    if order.get("rebootSetting") not in REBOOTS:
        raise Refused(
            400, "InvalidParameter", "Required parameter 'rebootSetting' is missing or has a value not allowed."
        )
    duration = order.get("maximumDuration")
    if duration is None and hybrid:
        raise Refused(400, "InvalidParameter", "Required parameter 'maximumDuration' is missing (null).")
    if duration is not None and not (isinstance(duration, str) and _DURATION.fullmatch(duration)):
        raise Refused(400, "InvalidParameter", f"The value '{duration}' of parameter 'maximumDuration' is invalid.")
    parameters = order.get("windowsParameters" if windows else "linuxParameters") or {}
    selecting = (
        "classificationsToInclude",
        "kbNumbersToInclude",
        "packageNameMasksToInclude",
        "patchNameMasksToInclude",
    )
    if not any(parameters.get(name) for name in selecting):
        raise Refused(400, "InvalidParameter", "At least one classification or one inclusion must be given.")


def _refuse_by_behaviour(machine: Machine, kind: Kind, behaviour: Behaviour) -> None:
    if behaviour.refusal and kind in behaviour.refuse_kinds:
        raise refused(behaviour.refusal, ACTIONS[kind], machine.name)


def _refuse_if_not_ready(world: World, machine: Machine, kind: Kind, *, behaviour: Behaviour) -> None:
    now, power = world.now(), machine.power_at(world.now())
    reason = None
    if machine.running_at(now, ("delete",)):
        reason = REFUSALS["deletion"]
    elif machine.running_at(now, ("create",)):
        reason = REFUSALS["conflict"]
    elif changing := machine.running_at(now, POWER):
        to = {"deallocate": "deallocated", "powerOff": "stopped"}.get(changing[0].kind, "running")
        text = "An ongoing operation is changing power state of Virtual Machine {1} to " + to
        reason = Refusal(409, "OperationNotAllowed", text + ". Please perform operation {0} after some time.")
    elif power == "deallocated":
        reason = REFUSALS["deallocated"]
    elif power != "running":
        reason = REFUSALS["not-running"]
    elif not machine.agent_ready_at(now, behaviour):
        reason = REFUSALS["agent"]
    elif machine.extensions_busy_at(now, behaviour):
        reason = REFUSALS["conflict"]
    if reason:
        raise refused(reason, ACTIONS[kind], machine.name)


def _refuse_if_not_connected(machine: HybridMachine, kind: Kind, now: datetime) -> None:
    if (status := machine.status_at(now)) != "Connected":
        reason = REFUSALS["not-connected"]
        text = reason.message.replace("{2}", status)
        raise refused(Refusal(reason.status, reason.code, text), ACTIONS[kind], machine.name)


def _resolve_conflict(world: World, machine: Machine, kind: Kind) -> None:
    if not machine.running_at(world.now()):
        return
    if world.limits.conflict == "409":
        raise refused(REFUSALS["conflict"], ACTIONS[kind], machine.name)
    end_all(world, machine, "Failed", ended_by=SUPERSEDED)


def refused(refusal: Refusal, operation: str, machine: str) -> Refused:
    message = refusal.message.replace("{0}", operation).replace("{1}", machine)
    error: Json = {"code": refusal.code, "message": message}
    if refusal.details:
        error["details"] = list(refusal.details)
    return Refused(refusal.status, refusal.code, message, body={"error": error})


# --- its course ---------------------------------------------------------------------------------------------------


def _plan_assessment(world: World, machine: Machine, operation: Operation) -> None:
    behaviour = operation.behaviour
    seconds = world.timings.assess_seconds if behaviour.assess_seconds is None else behaviour.assess_seconds
    operation.ends = None if behaviour.never_ends else operation.started + timedelta(seconds=seconds)
    operation.final_status, failure = _status(machine, operation, behaviour.assess_status)
    if operation.final_status == "Succeeded" and _is_cut(operation):
        operation.final_status = "CompletedWithWarnings"
    operation.output = assessment_result(operation, failure, reboot_pending=_reboot_pending(machine, operation.started))


def _plan_installation(world: World, machine: Machine, operation: Operation) -> None:
    behaviour = operation.behaviour
    operation.final_status, failure = _status(machine, operation, behaviour.install_status)
    plan = _select_patches(operation, failed=operation.final_status == "Failed", nothing=failure is not None)
    if behaviour.opening_errors:
        operation.final_status, plan = "Failed", _Plan()
    reboot = _reboot(operation, plan)
    if (reboot == "Required" or _is_cut(operation)) and operation.final_status == "Succeeded":
        operation.final_status = "CompletedWithWarnings"
    if plan.pending and behaviour.window_exceeded:
        operation.final_status = "Failed"
    seconds = world.timings.install_seconds if behaviour.install_seconds is None else behaviour.install_seconds
    seconds += world.timings.reboot_seconds if reboot == "Completed" else 0
    operation.ends = None if behaviour.never_ends else operation.started + timedelta(seconds=seconds)
    operation.installs = frozenset(patch.id for patch in plan.installed)
    operation.output = installation_result(operation, plan, reboot=reboot, failure=failure)


def _status(machine: Machine, operation: Operation, status: str) -> tuple[str, tuple[str, str] | None]:
    """How it ends, and the failure that the machine's own configuration causes."""
    profile = (machine.body.at(operation.started) or {}).get("properties", {}).get("osProfile") or {}
    if profile.get("allowExtensionOperations") is False:
        return "Failed", ("AllowExtensionOperations=false", "Extension operations are not allowed on this machine.")
    duration = operation.order.get("maximumDuration", "PT1H")
    if not operation.windows and not _LINUX_DURATION.fullmatch(duration):
        return "Failed", ("OPERATION_FAILED", f"Unable to parse the maximum duration: {duration}")
    if not operation.windows and _refused_together(operation):
        return "Failed", ("PACKAGE_MANAGER_FAILURE", "Invalid classification combination selection detected.")
    return status, None


def _refused_together(operation: Operation) -> bool:
    """Other with Critical but without Security (tests/recordings/linux_classifications.json)."""
    parameters = operation.order.get("linuxParameters") or {}
    classes = {name.lower() for name in parameters.get("classificationsToInclude") or ()}
    return {"other", "critical"} <= classes and "security" not in classes


@dataclass(frozen=True)
class _Plan:
    installed: tuple[Patch, ...] = ()
    failed: tuple[Patch, ...] = ()
    pending: tuple[Patch, ...] = ()
    excluded: tuple[Patch, ...] = ()
    not_selected: tuple[Patch, ...] = ()


def _select_patches(operation: Operation, *, failed: bool, nothing: bool) -> _Plan:
    parameters = operation.order.get("windowsParameters" if operation.windows else "linuxParameters") or {}
    classes = {name.lower() for name in parameters.get("classificationsToInclude") or ()}
    if not operation.windows and classes & _TOGETHER_ON_LINUX:
        classes |= _TOGETHER_ON_LINUX
    excluded = [patch for patch in operation.waiting if _named(patch, parameters, "Exclude")]
    wanted = [
        patch
        for patch in operation.waiting
        if patch not in excluded and (patch.classification.lower() in classes or _named(patch, parameters, "Include"))
    ]
    wanted = [patch for patch in wanted if patch.classification != ESM]  # not without Ubuntu Pro
    rest = [patch for patch in operation.waiting if patch not in excluded and patch not in wanted]
    if nothing or operation.behaviour.window_exceeded:
        done = 0 if nothing else operation.behaviour.window_installs
        return _Plan(tuple(wanted[:done]), (), tuple(wanted[done:]), tuple(excluded), tuple(rest))
    cut = min(len(wanted), operation.behaviour.failed_patches) if failed else 0
    return _Plan(tuple(wanted[cut:]), tuple(wanted[:cut]), (), tuple(excluded), tuple(rest))


def _named(patch: Patch, parameters: Json, suffix: Literal["Include", "Exclude"]) -> bool:
    masks = [
        *(parameters.get(f"packageNameMasksTo{suffix}") or ()),
        *(parameters.get(f"patchNameMasksTo{suffix}") or ()),
    ]
    names = {patch.name.lower(), f"{patch.name}_{patch.version}".lower()}
    numbers = {str(number).lower().removeprefix("kb") for number in parameters.get(f"kbNumbersTo{suffix}") or ()}
    return patch.kb in numbers or any(fnmatch(name, str(mask).lower()) for mask in masks for name in names)


def _reboot(operation: Operation, plan: _Plan) -> str:
    if operation.behaviour.reboot_status is not None:
        return operation.behaviour.reboot_status
    setting = operation.order.get("rebootSetting")
    needed = bool(plan.installed) and operation.behaviour.needs_reboot
    if setting == "Never":
        return "Required" if needed else "NotNeeded"
    return "Completed" if needed or setting == "Always" else "NotNeeded"


# --- what it reports -----------------------------------------------------------------------------------------------


def error_of(operation: Operation, failure: tuple[str, str] | None = None) -> Json:
    """The `error` of a result: never null, not even on success (recorded)."""
    entries = [*((failure,) if failure else ()), *operation.behaviour.errors]
    if _is_cut(operation):
        entries.append(LIST_CUT)
    if operation.ended_by:
        entries = [operation.ended_by]
    return _error(operation, entries)


def error_with(operation: Operation, entries: tuple[tuple[str, str], ...]) -> Json:
    """The `error` with these entries, which may be none."""
    return _error(operation, list(entries))


def _is_cut(operation: Operation) -> bool:
    limit = operation.behaviour.list_limit
    return limit is not None and len(operation.waiting) > limit


def _error(operation: Operation, entries: list[tuple[str, str]]) -> Json:
    shown = [{"code": code, "message": text[:_MESSAGE_CHARACTERS]} for code, text in entries[:_ERRORS_REPORTED]]
    code = "1" if shown else "Success" if operation.windows else "0"
    if entries == [LIST_CUT]:
        code = "2"
    stop = "" if operation.windows else "."
    text = f"{len(entries)} error/s reported{stop}"
    if shown:
        text += f" The latest {len(shown)} error/s are shared in detail."
    return {"details": shown, "code": code, "message": text}


def time_of(operation: Operation, at: datetime) -> str:
    return whole_seconds(at) if operation.windows else ticks(at)


def _reboot_pending(machine: Machine, when: datetime) -> bool:
    """Whether an installation still needs a reboot: no later installation, and no start or restart, has made it."""
    for each in reversed(machine.operations):
        reboot = result(each)["rebootStatus"] if each.kind == "install" and not each.runs_at(when) else ""
        if each.kind in ("start", *RESTARTS) or reboot in ("Completed", "Required"):
            return bool(reboot == "Required")
    return False


def assessment_result(
    operation: Operation, failure: tuple[str, str] | None = None, *, reboot_pending: bool = False
) -> Json:
    readable = operation.final_status in ("Succeeded", "CompletedWithWarnings")
    found = operation.waiting if readable else ()
    critical = sum(patch.classification in URGENT for patch in found)
    return {
        "status": operation.final_status,
        "assessmentActivityId": operation.operation_id,
        "rebootPending": reboot_pending,
        "criticalAndSecurityPatchCount": critical,
        "otherPatchCount": len(found) - critical,
        "startDateTime": time_of(operation, operation.started),
        "availablePatches": [_available(operation, patch) for patch in _cut(operation, found)],
        "error": error_of(operation, failure),
    }


def _available(operation: Operation, patch: Patch) -> Json:
    entry = _patch(patch, operation.windows)
    reboot = "CanRequestReboot" if operation.behaviour.needs_reboot else "NeverReboots"
    published = {"publishedDate": "2024-11-12T00:00:00+00:00"} if operation.windows else {}  # Linux says none
    return entry | {
        "rebootBehavior": reboot,
        "activityId": operation.operation_id,
        **published,
        "lastModifiedDateTime": time_of(operation, operation.started),
        "assessmentState": "Available",
    }


def _cut(operation: Operation, found: tuple[Patch, ...]) -> list[Patch]:
    """What an assessment names. A list that is cut ends with a placeholder for each class of those left out."""
    limit = operation.behaviour.list_limit
    if limit is None:
        return list(found)
    left = Counter(patch.classification for patch in found[limit:])
    texts = {name: f"{number} additional updates of classification {name} reported" for name, number in left.items()}
    return [*found[:limit], *(Patch(_CUT_ID, text, name, version="0.0.0") for name, text in texts.items())]


def _patch(patch: Patch, windows: bool) -> Json:
    detail = {"kbId": patch.kb} if windows else {"version": patch.version}
    return {"patchId": patch.id, "name": patch.name, **detail, "classifications": [patch.classification]}


def installation_result(operation: Operation, plan: _Plan, *, reboot: str, failure: tuple[str, str] | None) -> Json:
    states: Iterable[tuple[str, tuple[Patch, ...]]] = (
        ("Installed", plan.installed),
        ("Failed", plan.failed),
        ("Pending", plan.pending),
        ("Excluded", plan.excluded),
        ("NotSelected", plan.not_selected),
    )
    given = (operation.order.get("linuxParameters") or {}).get("maintenanceRunId", "")
    run = {} if operation.windows else {"maintenanceRunId": given}
    named = [
        _patch(patch, operation.windows) | {"installationState": state} for state, some in states for patch in some
    ]
    if _is_cut(operation):
        rest = _patch(Patch(_CUT_ID, "Truncated_patch_list", "Other", version="0.0.0"), operation.windows)
        named = [*named[: operation.behaviour.list_limit], rest | {"installationState": "NotSelected"}]
    return {
        "status": operation.final_status,
        "installationActivityId": operation.operation_id,
        "rebootStatus": reboot,
        "maintenanceWindowExceeded": operation.behaviour.window_exceeded,
        "excludedPatchCount": len(plan.excluded),
        "notSelectedPatchCount": len(plan.not_selected),
        "pendingPatchCount": len(plan.pending),
        "installedPatchCount": len(plan.installed),
        "failedPatchCount": len(plan.failed),
        "patches": named,
        "startDateTime": time_of(operation, operation.started),
        **run,
        "error": error_of(operation, failure),
    }


def result(operation: Operation) -> Json:
    """The result of an operation that ended. One that ended early reports nothing else."""
    if operation.ended_by is None or operation.kind not in PATCHING:
        return operation.output
    counts = [name for name, value in operation.output.items() if name.endswith("Count")]
    lists = [name for name, value in operation.output.items() if isinstance(value, list)]
    return {
        **operation.output,
        **dict.fromkeys(counts, 0),
        **{name: [] for name in lists},
        **({"rebootStatus": "Unknown"} if operation.kind == "install" else {}),
        "status": operation.final_status,
        "error": error_of(operation),
    }
