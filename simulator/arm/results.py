"""What an assessment or installation says about itself where it is counted by class: in Resource Graph, and on Arc."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from simulator.arm import patching
from simulator.wire import Json
from simulator.world import ESM, LINUX_CLASSES, WINDOWS_CLASSES, Operation

# Microsoft's pages spell them in camel case; public queries also read them with capitals.
_COUNT_KEYS: dict[str, Callable[[str], str]] = {
    "camel": str,
    "Pascal": lambda key: key[:1].upper() + key[1:],
    "lower": str.lower,
    "UPPER": str.upper,
}
_COUNTS = ("notSelected", "excluded", "pending", "installed", "failed")
Written = Callable[[datetime], str]  # how a time is written


def modified(operation: Operation, when: datetime) -> datetime:
    return operation.started if operation.runs_at(when) or operation.ends is None else operation.ends


def assessed(operation: Operation, when: datetime, written: Written) -> Json:
    """An assessment as it was at `when`."""
    runs = operation.runs_at(when)
    result = patching.result(operation)
    found = operation.waiting if not runs and result["availablePatches"] else ()  # all, also where the list is cut
    classes = WINDOWS_CLASSES if operation.windows else LINUX_CLASSES
    named = Counter("Security" if patch.classification == ESM else patch.classification for patch in found)
    spell = _COUNT_KEYS[operation.behaviour.count_case]
    return _common(operation, when, written) | {
        "assessmentActivityId": operation.operation_id,
        "rebootPending": False if runs else result["rebootPending"],
        "availablePatchCountByClassification": {spell(key): named[name] for key, name in classes.items()},
    }


def installed(operation: Operation, when: datetime, written: Written) -> Json:
    """An installation as it was at `when`."""
    runs, result = operation.runs_at(when), patching.result(operation)
    return _common(operation, when, written) | {
        "installationActivityId": operation.operation_id,
        "maintenanceWindowExceeded": False if runs else result["maintenanceWindowExceeded"],
        "rebootStatus": "NotNeeded" if runs else result["rebootStatus"],
        **{f"{name}PatchCount": 0 if runs else result[f"{name}PatchCount"] for name in _COUNTS},
    }


def _common(operation: Operation, when: datetime, written: Written) -> Json:
    return {
        "status": operation.status_at(when),
        "startedBy": operation.started_by,
        "startDateTime": written(operation.started),
        "lastModifiedDateTime": written(modified(operation, when)),
        "osType": "Windows" if operation.windows else "Linux",
        "patchServiceUsed": "WU" if operation.windows else "APT",
        "errorDetails": None if operation.runs_at(when) else _error_details(operation),
    }


def _error_details(operation: Operation) -> Json | None:
    error = patching.result(operation)["error"]
    return None if not error["details"] else error
