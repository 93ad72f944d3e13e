"""Journal and notices for people: a line for each, with the time, whom it is about, what happened, and why.

Machines of which the same is said at the same moment share a line.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from simulator.demo import notices
from simulator.wire import Json

# What is hidden says nothing about one machine or image, or is said by the event that follows it.
_HIDDEN = {
    "assessment.queued",
    "event.ignored",
    "fleet.counted",
    "fleet.limited",
    "installation.patches",
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
_INDENT = 20  # of a reason that is longer than its line
_NAMES = 3  # so many of several machines are named


@dataclass
class Log:
    """What was shown last: the day, and of each machine the state and its reason."""

    _day: date | None = None
    _last: dict[str, tuple[str, str]] = field(default_factory=dict)

    def lines(self, texts: Iterable[str], now: datetime, told: Iterable[Json] = ()) -> Iterator[str]:
        """The lines of one moment: the app's, then the notices that its topic took.

        What is not JSON, such as a line of the host, is shown as it is.
        """
        subjects: dict[tuple[str, str], list[str]] = {}
        for text in texts:
            try:
                fields: dict[str, Any] = json.loads(text)
            except ValueError:
                yield text
                continue
            if not self._hides(fields):
                subjects.setdefault(_told(fields), []).append(_subject(fields))
        for event in told:
            why = ": ".join(filter(None, (notices.kind(event), notices.details(event))))
            subjects.setdefault(("notice", why), []).append(notices.subject(event))
        if subjects and self._day != now.date():
            self._day = now.date()
            yield f"{now:%a %d %b %Y}, UTC"
        for (what, why), about in subjects.items():
            who = about[0] if len(about) == 1 else f"{len(about)} {'images' if '/' in about[0] else 'machines'}"
            yield f"{now:%H:%M}  {who:<12} {what:<19}  {'  '.join(filter(None, (why, _named(about))))}".rstrip()

    def _hides(self, fields: Mapping[str, Any]) -> bool:
        """Whether an event is left out, such as a state that was shown before."""
        if fields.get("event") != "machine.changed":
            return fields.get("event") in _HIDDEN
        told, subject = _told(fields), _subject(fields)
        if fields.get("state") in _ON_THE_WAY or self._last.get(subject) == told:
            return True
        self._last[subject] = told
        return False


def _told(fields: Mapping[str, Any]) -> tuple[str, str]:
    """What happened, and why."""
    event = str(fields.get("event", ""))
    what = str(fields.get("state")) if event == "machine.changed" else event.replace(".", " ")
    return what, "; ".join(_details(event, fields))


def _named(subjects: list[str]) -> str:
    """The first of several."""
    more = ", …" if len(subjects) > _NAMES else ""
    return f"({', '.join(subjects[:_NAMES])}{more})" if len(subjects) > 1 else ""


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


def wrapped(line: str) -> list[str]:
    """As the terminal holds it; elsewhere a line is a line."""
    if not sys.stdout.isatty():
        return [line]
    return textwrap.wrap(line, shutil.get_terminal_size().columns, subsequent_indent=" " * _INDENT)
