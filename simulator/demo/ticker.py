"""The app's log lines as the ticker of the demo shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from simulator.demo.screen import Line
from simulator.functions_host import Trace

# Lines that say nothing about one machine, or too much, and would only fill the ticker.
_HIDDEN = {
    "event.ignored",
    "fleet.counted",
    "fleet.limited",
    "installation.patches",
    "machine.counted",
    "sweep.finished",
    "sweep.skipped",
}
_FIELDS: Mapping[str, tuple[str, ...]] = {  # event → fields, each with the unit of a number
    "assessment.started": (),
    "installation.started": (),
    "installation.seen": (),
    "installation.ended": ("status", "meaning", "installedPatchCount patches installed"),
    "support.detected": ("state", "patches patches pending"),
    "operation.refused": ("status", "code", "cause"),
    "operation.throttled": ("wait_seconds s to wait",),
    "machine.changed": ("reason",),
    "machine.deferred": ("reason",),
    "machine.held": ("state", "reason"),
    "machine.waiting": ("state", "reason"),
    "rollout.opened": (),
}
_OTHER_FIELDS = ("state", "status", "reason", "problem")


def line_of(trace: Trace, seconds: float) -> Line | None:
    """None for hidden lines, and for the host's own line about a failed invocation."""
    try:
        fields: dict[str, Any] = json.loads(trace.message)
    except ValueError:
        return None
    event = str(fields.get("event", ""))
    if event in _HIDDEN:
        return None
    what = str(fields.get("state")) if event == "machine.changed" else event.replace(".", " ")
    return Line(seconds, _subject(fields), what, ", ".join(_details(event, fields)), trace.level)


def _subject(fields: Mapping[str, Any]) -> str:
    """The name of the machine, or image and version."""
    if machine := str(fields.get("machine", "")):
        return machine.rpartition("/")[2]
    return "/".join(str(fields.get("image", "")).replace("/versions/", "/").rsplit("/", 2)[-2:])


def _details(event: str, fields: Mapping[str, Any]) -> Iterator[str]:
    """The two or three fields that say most."""
    for name, _, unit in (field.partition(" ") for field in _FIELDS.get(event, _OTHER_FIELDS)):
        if name in fields:
            yield f"{fields[name]} {unit}".rstrip()
