"""The journal for people: one line per event, with the time, what it is about, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

# Lines that say nothing about one machine or image, and would only fill the screen.
_HIDDEN = {
    "event.ignored",
    "fleet.counted",
    "fleet.limited",
    "machine.counted",
    "message.stale",
    "opening.forecast",
    "sweep.finished",
    "sweep.skipped",
}
_DETAILS: Mapping[str, tuple[str, ...]] = {  # event → fields, each with what stands before it
    "machine.changed": ("state", "reason"),
    "assessment.ended": ("status",),
    "support.detected": ("state", "patches: patches"),
    "installation.ended": ("status", "installed: installedPatchCount", "failed: failedPatchCount", "meaning"),
    "operation.refused": ("status", "code", "cause"),
    "rollout.opened": ("machines: machines",),
}
_OTHERS = ("state", "status", "reason", "problem", "cause")


def line_of(text: str, now: datetime) -> str:
    """The line; "" where an event is left out. What is not JSON, such as a line of the host, is shown as it is."""
    try:
        fields: dict[str, Any] = json.loads(text)
    except ValueError:
        return text
    event = str(fields.get("event", ""))
    if event in _HIDDEN:
        return ""
    details = "; ".join(_details(event, fields))
    return f"{now:%a %d %b %H:%M}  {_subject(fields):<10} {event.replace('.', ' '):<20}  {details}".rstrip()


def _subject(fields: Mapping[str, Any]) -> str:
    """The name of the machine, or image and version."""
    if machine := str(fields.get("machine", "")):
        return machine.rsplit("/", 1)[-1]
    return "/".join(str(fields.get("image", "")).replace("/versions/", "/").rsplit("/", 2)[-2:])


def _details(event: str, fields: Mapping[str, Any]) -> Iterator[str]:
    for each in _DETAILS.get(event, _OTHERS):
        before, _, name = each.rpartition(": ")
        if fields.get(name) not in (None, ""):
            yield f"{before} {fields[name]}".lstrip()
