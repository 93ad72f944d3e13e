"""The journal for people: a line for each event, with the time, what it is about, what happened, and why.

Machines of which the same is said at the same moment share a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

# What is hidden says nothing about one machine or image, or is said by the event that follows it.
_HIDDEN = {
    "assessment.queued",
    "event.ignored",
    "fleet.counted",
    "fleet.limited",
    "installation.seen",
    "machine.counted",
    "machine.waiting",
    "message.stale",
    "opening.forecast",
    "sweep.finished",
    "sweep.skipped",
}
_ON_THE_WAY = {"queued", "assessing", "installing"}  # states; events of their own say so
_DETAILS: Mapping[str, tuple[str, ...]] = {  # event → fields, some with what stands after it
    "machine.changed": ("reason",),
    "machine.planned": ("state", "reason"),
    "assessment.ended": ("status", "meaning"),
    "support.detected": ("state", "patches patches wait"),
    "installation.ended": ("status", "installedPatchCount installed", "failedPatchCount failed", "meaning"),
    "operation.refused": ("status", "code", "cause"),
    "rollout.ring": ("ring",),
}
_OTHERS = ("state", "status", "reason", "problem", "cause")
_NAMES = 3  # so many of several machines are named


def lines_of(texts: Iterable[str], now: datetime) -> Iterator[str]:
    """The lines of one moment. What is not JSON, such as a line of the host, is shown as it is."""
    subjects: dict[tuple[str, str], list[str]] = {}
    for text in texts:
        try:
            fields: dict[str, Any] = json.loads(text)
        except ValueError:
            yield text
            continue
        event = str(fields.get("event", ""))
        changed = event == "machine.changed"
        if event in _HIDDEN or (changed and fields.get("state") in _ON_THE_WAY):
            continue
        what = str(fields.get("state")) if changed else event.replace(".", " ")
        subjects.setdefault((what, "; ".join(_details(event, fields))), []).append(_subject(fields))
    for (what, why), about in subjects.items():
        who = about[0] if len(about) == 1 else f"{len(about)} {'images' if '/' in about[0] else 'machines'}"
        yield f"{now:%a %d %b %H:%M}  {who:<12} {what:<19}  {why}{_named(about)}".rstrip()


def _named(subjects: list[str]) -> str:
    """The first of several."""
    more = ", …" if len(subjects) > _NAMES else ""
    return f"  ({', '.join(subjects[:_NAMES])}{more})" if len(subjects) > 1 else ""


def _subject(fields: Mapping[str, Any]) -> str:
    """The name of the machine, or image and version."""
    if machine := str(fields.get("machine", "")):
        return machine.rsplit("/", 1)[-1]
    return "/".join(str(fields.get("image", "")).replace("/versions/", "/").rsplit("/", 2)[-2:])


def _details(event: str, fields: Mapping[str, Any]) -> Iterator[str]:
    for each in _DETAILS.get(event, _OTHERS):
        name, _, after = each.partition(" ")
        if fields.get(name) not in (None, ""):
            yield f"{fields[name]} {after}".rstrip()
