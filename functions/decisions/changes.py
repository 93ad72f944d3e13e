"""What people changed since the last sweep: a pause, settings, a breaker. Pure.

A row that a person wrote may say who and why. An app setting does not say who changed it, and a row that is gone does
not say who deleted it.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from functions.model.image_record import NOT_CLOSED, ImageRecord
from functions.model.stop import Stop
from functions.policy.settings import SETTINGS, Settings

NOT_KNOWN = "not known"
SHOWN = 100  # characters of a setting: all of them fit a column of the table
_WHERE = "Name row and opening of the line breaker.opened (docs/stop.md)."
_DEFAULTS = {each.name: each.default or "" for each in SETTINGS}


class Pause(NamedTuple):
    """Why the app is paused, and who paused it as far as that is known."""

    reason: str
    by: str = NOT_KNOWN


class Change(NamedTuple):
    """A setting that has another value."""

    setting: str
    before: str
    now: str


@dataclass(frozen=True)
class Closing:
    """What a person wrote into an image's row to close its breaker. `problem`: why it closed nothing; "" if it did."""

    problem: str = ""
    remedy: str = ""


def pause(settings: Settings, stop: Stop | None) -> Pause | None:
    """The pause of the whole app in force, by setting or by a person's row (docs/stop.md)."""
    if settings.paused:
        return Pause("PATCH_PAUSE is on")
    return Pause(stop.problem or stop.reason, stop.by or NOT_KNOWN) if stop else None


def shown(settings: Settings) -> dict[str, str]:
    """Each setting by its name, a long one by its beginning and a digest of all of it."""
    return {name: _cut(text) for name, text in settings.texts.items()}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    """The settings that differ. One that an older release did not know had the default."""
    for name, text in now.items():
        if (known := before.get(name, _cut(_DEFAULTS.get(name, "")))) != text:
            yield Change(name, known, text)


def closing(record: ImageRecord) -> Closing | None:
    """What to report of its column `closed`; None if it was reported, or belongs to an earlier opening."""
    if record.closed == record.closed_told.replace(NOT_CLOSED, ""):
        return None
    if record.closed == record.opening:
        return Closing()
    if not record.opening:
        return Closing(f"it names opening {record.closed}, and no breaker of this image has opened", _WHERE)
    if not record.closed_told and record.closed < record.opening:
        return None  # an older release did not note what it closed
    problem = f"it names opening {record.closed or 'none'}, and open is {record.opening}"
    return Closing(problem, f"Set closed={record.opening} in this row (docs/stop.md).")


def _cut(text: str) -> str:
    if len(text) <= SHOWN:
        return text
    return f"{text[: SHOWN - 10]}… {hashlib.sha256(text.encode()).hexdigest()[:8]}"
