"""What happened, as JSON lines: a constant event name and flat fields, one JSON line per event.

The Functions host carries the lines to Application Insights (seen on the real host: the text of a log line arrives
unchanged, cut at 32,768 characters). EVENTS is the closed list of names; a name outside it is a programming error. No
line holds an identity, claims, a token, or a URL with its signature: each caller names each of its fields.
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum

from functions.model.text import quoted, redacted

MAX_LINE = 32_000  # characters; the host cuts at 32,768


_MAX_FIELD = 2_000


_MAX_NUMBER = 2**53  # what readers of JSON keep exactly; a number of thousands of digits would not fit a line


_log = logging.getLogger("journal")


# name → what it says. Level: a name listed in WARNINGS or ERRORS is logged there, all others as information.
EVENTS = {
    "event.malformed": "an event that cannot be read; it is not delivered again",
    "event.ignored": "an event about something this app does not patch, or a machine that needs nothing",
    "message.malformed": "a queue message that cannot be read",
    "message.stale": "a late or doubled message whose claim is no longer current; dropped",
    "message.poisoned": "a message that failed five times; its machine is held",
    "poison.found": "messages lie in a poison queue",
    "settings.refused": "a wrong app setting: nothing is called until it is put right",
    "machine.deferred": "a machine that is not ready yet is looked at again after a delay",
    "machine.waiting": "a second look said wait or leave; the machine is held with its reason",
    "machine.held": "a machine is held after a failure",
    "machine.released": "a hold ended because its owner changed the machine",
    "machine.gone": "a machine was deleted, or another one has its name",
    "machine.unreadable": "an answer about one machine that cannot be read; the machine is left alone",
    "machine.planned": "PATCH_MODE=plan: what would have been done",
    "machine.counted": "the daily census: the state of one machine",
    "assessment.queued": "a machine was claimed for an assessment",
    "assessment.started": "Azure accepted an assessment",
    "assessment.ended": "an assessment ended",
    "support.detected": "Resource Graph shows the support state an assessment found",
    "installation.queued": "a machine was claimed for an installation",
    "installation.started": "Azure accepted an installation",
    "installation.ended": "an installation ended",
    "installation.seen": "Resource Graph shows the installation",
    "operation.refused": "Azure refused to start an operation",
    "operation.throttled": "the quota is used up; the machine is postponed",
    "operation.abandoned": "a POST did not leave in time; the claim is given back",
    "operation.unknown": "no answer to a POST: whether the operation runs is not known yet",
    "operation.adopted": "an operation without a recorded answer was found on the machine",
    "operation.overdue": "an operation is open long after its own limit",
    "claim.expired": "a claim whose message came to nothing; the machine is free again",
    "ledger.newer": "a row or message written by a newer version; left alone",
    "rollout.opened": "an image's installations begin a rollout: its canary goes first",
    "breaker.opened": "installations of an image stopped until a person closes this opening",
    "fleet.limited": "due machines that wait for a limit of the fleet, by state and reason",
    "failures.grouped": "the same failure on three or more machines of an image, operating system or agent version",
    "app.paused": "a person paused the app: nothing new is started",
    "sweep.skipped": "another sweep is at work",
    "sweep.finished": "what one sweep did, in numbers",
    "sweep.failed": "a stage of a sweep failed; what it feeds was not decided",
    "fleet.counted": "machines by support state and image",
    "step.failed": "a step ended in an error",
}


WARNINGS = {
    "event.malformed", "message.malformed", "message.poisoned", "poison.found", "machine.held", "machine.unreadable",
    "operation.throttled", "operation.abandoned", "operation.unknown", "claim.expired", "ledger.newer",
    "operation.refused", "app.paused",
}  # fmt: skip


ERRORS = {"breaker.opened", "failures.grouped", "settings.refused", "operation.overdue", "sweep.failed", "step.failed"}


Field = str | int | float | bool | Enum | datetime | timedelta | object | None


def write(event: str, **fields: Field) -> None:
    """Writes one line. Empty fields are left out; objects are written as their text, and what is nested never."""
    line: dict[str, str | int | float | bool] = {"event": event}
    for name, value in fields.items():
        if value is not None and value != "":
            line[name] = _plain(value)
    level = logging.ERROR if event in ERRORS else logging.WARNING if event in WARNINGS else logging.INFO
    if event not in EVENTS:
        raise KeyError(f"{event} is not in journal.EVENTS")
    text = json.dumps(line, ensure_ascii=False)
    _log.log(level, "%s", text if _length(text) <= MAX_LINE else _shortened(line))


def _plain(value: object) -> str | int | float | bool:
    if isinstance(value, Enum):
        return str(value.value) if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, int | float):
        return value if abs(value) <= _MAX_NUMBER else "a number out of range"  # NaN is never less
    if isinstance(value, Mapping | list | tuple | set):
        return quoted(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    text = redacted(str(value))  # a guest's message may quote the address of its package source
    text = text.encode("utf-8", "replace").decode()  # half of a character would fail the log's own encoding
    return text if len(text) <= _MAX_FIELD else text[: _MAX_FIELD - 1] + "…"


def _shortened(line: dict[str, str | int | float | bool]) -> str:
    """Many long fields at once: each keeps its beginning, so that the line stays JSON."""
    text, share = "", MAX_LINE // (2 * len(line))
    while not text or _length(text) > MAX_LINE:  # escaped characters are longer than they look
        cut = {name: value[:share] if isinstance(value, str) else value for name, value in line.items()}
        text, share = json.dumps(cut | {"shortened": True}, ensure_ascii=False), share // 2
    return text


def _length(text: str) -> int:
    """In the host's characters: UTF-16 units."""
    return len(text.encode("utf-16-le")) // 2
