"""Log events as JSON lines: a constant event name and flat fields, one line per event.

The Functions host carries the lines to Application Insights (measured on the real host: the text of a log line arrives
unchanged, cut at 32,768 characters). EVENTS is the closed list of names. No line holds an identity, claims, a token or
a URL with its signature: each caller names each of its fields.
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum

from functions.model.machine import MachineId
from functions.model.patches import MAX_CHARACTERS
from functions.model.text import FOREIGN, quoted, redacted

MAX_LINE = 32_000  # characters (UTF-16 units); the host cuts at 32,768
_MAX_FIELD = 2_000  # characters
_LONGER = {"patch_list": MAX_CHARACTERS}  # fields that their writer bounds: the same in characters
# Fields that name a person on purpose: PATCH_OWNER_TAG, who paused or closed a breaker, who stopped a run.
_ADDRESSED = {"owner", "by", "stopped_by"}
_MAX_NUMBER = 2**53  # JSON readers round larger integers, and one of thousands of digits would not fit a line
_log = logging.getLogger("journal")

# name → meaning. Names listed in WARNINGS or ERRORS are logged at that level, all others as information.
EVENTS = {
    "event.malformed": "an event cannot be read; it is not delivered again",
    "event.ignored": "an event is about something this app does not patch, or its machine needs nothing",
    "message.malformed": "a queue message cannot be read",
    "message.stale": "a late or duplicate message, whose claim is no longer current, was dropped",
    "message.poisoned": "a message failed five times; its machine is held",
    "poison.found": "a poison queue holds messages",
    "settings.changed": "an app setting has another value than at the sweep before",
    "settings.refused": "an app setting is wrong; the app calls nothing until it is corrected",
    "machine.deferred": "a machine that is not ready yet is checked again after a delay",
    "machine.waiting": "a machine must wait or be left alone according to the second check; it is held with its reason",
    "machine.held": "a machine is held after a failure",
    "machine.released": "a hold ended because the owner changed the machine",
    "machine.gone": "a machine was deleted or is being deleted, or another machine now has its name",
    "machine.unreadable": "an answer about one machine cannot be read; the machine is left alone",
    "machine.changed": "the state of one machine differs from what was last reported",
    "machine.planned": "PATCH_MODE=plan: what would be done now with a machine differs from what was reported",
    "machine.counted": "the daily census: the state of one machine",
    "machine.started": "the app started a stopped machine, to patch it in its window",
    "machine.not-started": "a stopped machine whose turn it was did not start",
    "machine.put-back": "a machine that the app started is deallocated again",
    "machine.put-back-failed": "a machine that the app started still runs; Azure is asked again to deallocate it",
    "machine.left-running": "a machine that the app started is not put back: another has changed it since",
    "assessment.queued": "a machine was claimed for an assessment; a daily one writes lines only for what changes",
    "assessment.started": "Azure accepted an assessment",
    "assessment.ended": "an assessment ended",
    "support.detected": "Resource Graph shows the support state that an assessment found",
    "installation.queued": "a machine was claimed for an installation",
    "installation.started": "Azure accepted an installation",
    "installation.ended": "an installation ended",
    "installation.patches": "what an installation did with each patch, by name; how many more there are",
    "installation.seen": "Resource Graph shows the installation",
    "operation.refused": "Azure refused to start an operation",
    "operation.throttled": "the quota is used up; the machine is postponed",
    "quota.exhausted": "a quota of Azure is used up; what a subscription, stage or function asked is asked later",
    "operation.postponed": "a pause, a hold, PATCH_MODE or the end of its run forbids the call; the claim waits",
    "operation.abandoned": "a POST was not sent in time; the claim is released",
    "operation.unknown": "a POST got no answer; whether the operation runs is not known yet",
    "operation.adopted": "an operation without a recorded answer was found on the machine",
    "operation.overdue": "an operation still runs long after its own limit",
    "claim.expired": "a claim's message started nothing in time; the machine is free again",
    "ledger.newer": "a newer version wrote a row or message; it is left alone",
    "settings.advised": "settings are allowed and hardly meant, or let machines be patched later than their limit",
    "opening.forecast": "how many machines fit into the next opening of a window",
    "rollout.opened": "a rollout of an image opened; its canary goes first",
    "rollout.ring": "a ring of a rollout opened: its machines may go",
    "rollout.ended": "a rollout of an image ended: every ring had its turn, or a person ended it",
    "rollout.stuck": "a rollout made no progress through two openings of a window that it could have used",
    "breaker.opened": "installations of an image stopped until a person closes this breaker",
    "fleet.limited": "due machines wait for a limit of the fleet, counted by state and reason; reported on change",
    "breaker.closed": "a person closed a breaker; installations of the image go on",
    "breaker.not-closed": "a person named an opening that is not open, or another row than an image's; nothing closed",
    "failures.grouped": "three or more machines of an image, operating system or agent version fail alike",
    "app.paused": "a person paused the app; it starts nothing new",
    "app.resumed": "a person ended the pause; the app goes on",
    "hold.placed": "a person holds a machine: nothing new is started on it",
    "hold.released": "a person released a machine, or its hold came to its end",
    "stop.unreadable": "a row by which a person stops something cannot be read; until it is corrected, nothing starts",
    "notices.failing": "the topic of notices does not take them; they are kept for a day and sent again",
    "notices.delivered": "the topic of notices takes them again",
    "notices.dropped": "notices were not sent: too old, refused one by one, or not readable",
    "run.opened": "a person ordered a run on demand",
    "run.progressed": "how far a run on demand has come, in numbers; reported on change",
    "run.ended": "a run on demand ended: its machines had their turn, its time is over, or a person stopped it",
    "run.unreadable": "the row of a run on demand cannot be read; nothing of it begins",
    "sweep.skipped": "another sweep is running",
    "sweep.finished": "what one sweep did, in numbers",
    "sweep.failed": "a stage of a sweep failed; what depends on it was not decided",
    "fleet.counted": "machines by support state and image, servers by system; reported on change, and once a day",
    "scope.unseen": "Resource Graph shows nothing of a subscription in PATCH_SCOPE; reported on change, and once a day",
    "step.failed": "a step ended in an error",
}

WARNINGS = {
    "event.malformed",
    "message.malformed",
    "message.poisoned",
    "poison.found",
    "machine.held",
    "machine.not-started",
    "machine.left-running",
    "machine.unreadable",
    "operation.abandoned",
    "operation.unknown",
    "claim.expired",
    "ledger.newer",
    "operation.refused",
    "app.paused",
    "notices.failing",
    "notices.dropped",
    "rollout.stuck",
    "scope.unseen",
}

ERRORS = {
    "breaker.opened",
    "breaker.not-closed",
    "stop.unreadable",
    "run.unreadable",
    "failures.grouped",
    "settings.refused",
    "operation.overdue",
    "machine.put-back-failed",
    "sweep.failed",
    "step.failed",
}

_LEVELS = dict.fromkeys(WARNINGS, logging.WARNING) | dict.fromkeys(ERRORS, logging.ERROR)

Field = str | float | Enum | datetime | timedelta | MachineId | Exception | None


def write(event: str, **fields: Field) -> None:
    """Writes one line, without the fields that are None or "". Raises KeyError for a name outside EVENTS."""
    if event not in EVENTS:
        raise KeyError(f"{event} is not in journal.EVENTS")
    line: dict[str, str | float] = {"event": event}
    for name, value in fields.items():
        if value is not None and value != "":
            line[name] = _plain(value, addresses=name in _ADDRESSED, most=_LONGER.get(name, 0))
    text = json.dumps(line, ensure_ascii=False)
    _log.log(_LEVELS.get(event, logging.INFO), "%s", text if _length(text) <= MAX_LINE else _shortened(line))


def _plain(value: object, *, addresses: bool, most: int) -> str | float:
    """A field as JSON writes it. Takes any object: what comes from Azure's JSON is checked by no type.

    `addresses`: an e-mail address stays. `most`: characters, where a field may be longer than _MAX_FIELD; else 0.
    """
    if isinstance(value, Enum):
        return str(value.value) if isinstance(value.value, str) else value.name.lower()
    if isinstance(value, int | float):
        return value if abs(value) <= _MAX_NUMBER else "a number out of range"  # NaN compares as out of range
    if isinstance(value, Mapping | list | tuple | set):
        return quoted(value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    # A guest's message may quote the address of its package source.
    text = redacted(str(value), addresses=addresses, most=most or FOREIGN)
    longest = most or _MAX_FIELD
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _shortened(line: dict[str, str | float]) -> str:
    """A line with too many long fields: each keeps its beginning, so that the line stays JSON."""
    text, share = "", MAX_LINE // (2 * len(line))
    while not text or _length(text) > MAX_LINE:  # escaping lengthens some characters
        cut = {name: value[:share] if isinstance(value, str) else value for name, value in line.items()}
        text, share = json.dumps(cut | {"shortened": True}, ensure_ascii=False), share // 2
    return text


def _length(text: str) -> int:
    """In UTF-16 units, as the host counts characters."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2
