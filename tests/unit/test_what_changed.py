"""What people changed, as the next sweep tells it: which settings, whose pause, and whether a breaker was closed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from functions.cloud.stops import stop_of_row
from functions.cloud.tables import Row
from functions.decisions.changes import NOT_KNOWN, SHOWN, Change, Pause, changed, closing, pause, shown
from functions.decisions.rollout import Result, record_result
from functions.model.image_record import ImageRecord
from functions.model.machine import LAST_RING
from functions.model.text import MAX_REASON
from tests.support import GALLERY_IMAGE, HOUR, NOW, machine_id, settings

# -- settings

LONG, LONGER = ",".join(["kernel*"] * 20), ",".join(["kernel*"] * 21)
SETTINGS: dict[str, tuple[Mapping[str, str], Mapping[str, str], list[tuple[str, str, str]]]] = {
    "nothing": ({}, {}, []),
    "spaces around a value": ({"PATCH_CANARIES": "2"}, {"PATCH_CANARIES": " 2 "}, []),
    "a default that is written out": ({}, {"PATCH_CANARIES": "1"}, []),
    "one value": ({}, {"PATCH_CANARIES": "2"}, [("PATCH_CANARIES", "1", "2")]),
    "back to the default": ({"PATCH_BREAKER": "9 in 9d"}, {}, [("PATCH_BREAKER", "9 in 9d", "3 in 7 days")]),
    "from nothing": ({}, {"PATCH_BLACKOUT": "2026-12-24"}, [("PATCH_BLACKOUT", "", "2026-12-24")]),
}


@pytest.mark.parametrize(("before", "now", "told"), SETTINGS.values(), ids=SETTINGS)
def test_settings(before: Mapping[str, str], now: Mapping[str, str], told: list[tuple[str, str, str]]) -> None:
    assert list(changed(shown(settings(**before)), shown(settings(**now)))) == [Change(*each) for each in told]


def test_long_values_that_differ_at_their_end_differ_as_shown() -> None:
    one, other = (shown(settings(PATCH_PACKAGES_EXCLUDE=text)) for text in (LONG, LONGER))
    [change] = changed(one, other)
    assert max(len(change.before), len(change.now)) <= SHOWN
    assert change.before.startswith("kernel*")


def test_a_setting_that_the_note_of_an_older_release_lacks_had_its_default() -> None:
    now = shown(settings(PATCH_CANARIES="2"))
    old = {name: text for name, text in now.items() if name not in ("PATCH_CANARIES", "PATCH_BREAKER")}
    assert list(changed(old, now)) == [Change("PATCH_CANARIES", "1", "2")]


# -- a pause

ROWS: dict[str, tuple[str, Mapping[str, object] | None, Pause | None]] = {
    "none": ("off", None, None),
    "by the setting": ("on", None, Pause("PATCH_PAUSE is on", NOT_KNOWN)),
    "by a row that says why": ("off", {"reason": "a bad patch"}, Pause("a bad patch", NOT_KNOWN)),
    "and who": ("off", {"reason": "a bad patch", "by": "Jane"}, Pause("a bad patch", "Jane")),
    "by an empty row": ("off", {}, Pause("no reason given", NOT_KNOWN)),
    "by a row of other things": ("off", {"reason": 7, "by": True}, Pause("7", "True")),
    "by a long row": ("off", {"reason": "x" * 9_999}, Pause("x" * MAX_REASON, NOT_KNOWN)),
    "by both: the setting lasts": ("on", {"reason": "a bad patch"}, Pause("PATCH_PAUSE is on", NOT_KNOWN)),
}


@pytest.mark.parametrize(("setting", "row", "told"), ROWS.values(), ids=ROWS)
def test_a_pause(setting: str, row: Mapping[str, object] | None, told: Pause | None) -> None:
    stop = stop_of_row(Row("app", "pause", row, "")) if row is not None else None
    assert pause(settings(PATCH_PAUSE=setting), stop) == told


# -- a breaker

FIRST, SECOND = "20261101T080000", "20261125T120000"
CLOSINGS: dict[str, tuple[dict[str, str], str | None]] = {
    # columns, what the problem says; "": it is closed; None: there is nothing to tell
    "never opened": ({}, None),
    "open": ({"opening": FIRST, "closed_told": "-"}, None),
    "closed just now": ({"opening": FIRST, "closed": FIRST, "closed_told": "-"}, ""),
    "closed, and told": ({"opening": FIRST, "closed": FIRST, "closed_told": FIRST}, None),
    "opened again since": ({"opening": SECOND, "closed": FIRST, "closed_told": FIRST}, None),
    "opened again, and closed": ({"opening": SECOND, "closed": SECOND, "closed_told": FIRST}, ""),
    "another opening": ({"opening": FIRST, "closed": SECOND, "closed_told": "-"}, f"open is {FIRST}"),
    "an earlier opening": ({"opening": SECOND, "closed": FIRST, "closed_told": "-"}, f"open is {SECOND}"),
    "words": ({"opening": FIRST, "closed": "all", "closed_told": "-"}, "names opening all"),
    "what was closed is erased": ({"opening": FIRST, "closed_told": FIRST}, f"open is {FIRST}"),
    "nothing ever opened": ({"closed": FIRST}, "no breaker of this image has opened"),
    "a wrong one that was reported": ({"opening": FIRST, "closed": SECOND, "closed_told": SECOND}, None),
    "an older release: closed": ({"opening": FIRST, "closed": FIRST}, ""),
    "an older release: opened again since": ({"opening": SECOND, "closed": FIRST}, None),
    "an older release: a wrong one": ({"opening": FIRST, "closed": SECOND}, f"open is {FIRST}"),
}


@pytest.mark.parametrize(("columns", "problem"), CLOSINGS.values(), ids=CLOSINGS)
def test_closing_a_breaker(columns: dict[str, Any], problem: str | None) -> None:
    record = ImageRecord(GALLERY_IMAGE, **columns)
    found = closing(record)
    assert (found is None) == (problem is None)
    if found and problem is not None:
        assert problem in found.problem
        assert bool(found.problem) == bool(problem) == (record.breaker_open or not record.opening)


def test_who_closed_an_opening_is_not_said_of_the_next() -> None:
    record = ImageRecord(GALLERY_IMAGE, opened=NOW - HOUR, opening=FIRST, closed=FIRST, closed_told=FIRST)
    record = replace(record, closed_by="Jane", closed_because="fixed")
    result = Result("o", machine_id(), LAST_RING, NOW, "the disk is full")
    again = record_result(record, result, settings(), now=NOW + HOUR)
    assert again.breaker_open
    assert (again.closed_by, again.closed_because) == ("", "")
    assert closing(again) is None
