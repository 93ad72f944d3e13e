"""When installations may run: windows and black-outs, read and asked.

Factors: the grammar, well and badly written; the days (weekly, nth of the month, moved); times within a day, over
midnight, a whole day; the zone and its clock changes in both directions; several windows that overlap, touch or lie
apart; black-outs; two texts that must both be open. Instants in the tables are UTC, written 2026-03-29 01:00.

The oracle is a second reading of the rule that shares no code with the module: it looks at every minute, asks the zone
what its wall clock shows, and whether a person would call that a time of the window.
"""

import calendar
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from itertools import groupby, pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.model.text import BadInput, quoted
from functions.policy import zones as module
from functions.policy.window_grammar import BLACKOUT_GRAMMAR, GRAMMAR, read_blackouts, read_windows
from functions.policy.windows import ANY, HORIZON, NO_BLACKOUTS, Blackouts, Windows, both
from functions.policy.windows_zones import PLACES
from tests.support.examples import a_share

ROOT = Path(__file__).parents[2]
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def written(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def stretches(
    windows: Windows, since: datetime, until: datetime, blackouts: Blackouts = NO_BLACKOUTS
) -> list[tuple[datetime, datetime]]:
    """Every open stretch between two instants, found by asking: opens, closes, opens, …"""
    found = []
    start: datetime | None = since if windows.closes(since, blackouts) else windows.opens(since, blackouts)
    while start and start < until:
        end = windows.closes(start, blackouts)
        assert end is not None, f"opens at {start} and is closed there"
        found.append((start, min(end, until)))
        start = windows.opens(start, blackouts)
    return found


# -- tables: text, now → closes, opens

# 2026-11-25 is a Wednesday. Paris is at UTC+1 then.
MOMENTS = {
    "before": ("Sat 22:00-02:00", "2026-11-25 12:00", None, "2026-11-28 22:00"),
    "at the start": ("Sat 22:00-02:00", "2026-11-28 22:00", "2026-11-29 02:00", "2026-12-05 22:00"),
    "a minute before": ("Sat 22:00-02:00", "2026-11-28 21:59", None, "2026-11-28 22:00"),
    "inside": ("Sat 22:00-02:00", "2026-11-28 23:00", "2026-11-29 02:00", "2026-12-05 22:00"),
    "after midnight": ("Sat 22:00-02:00", "2026-11-29 01:59", "2026-11-29 02:00", "2026-12-05 22:00"),
    "at the end": ("Sat 22:00-02:00", "2026-11-29 02:00", None, "2026-12-05 22:00"),
    "the day after is not its day": ("Sat 22:00-02:00", "2026-11-29 22:30", None, "2026-12-05 22:00"),
    "the morning of its day is not its night": ("Sat 22:00-02:00", "2026-11-28 01:00", None, "2026-11-28 22:00"),
    "in a zone": ("Sat 22:00-02:00 Europe/Paris", "2026-11-28 21:00", "2026-11-29 01:00", "2026-12-05 21:00"),
    "east of UTC the day before": ("Sat 00:30-01:00 Asia/Tokyo", "2026-11-25 12:00", None, "2026-11-27 15:30"),
    "west of UTC the day after": (
        "Sat 22:00-23:00 America/New_York",
        "2026-11-29 03:30",
        "2026-11-29 04:00",
        "2026-12-06 03:00",
    ),
    "quarter-hour zone": ("Sat 22:00-23:00 Asia/Kathmandu", "2026-11-25 12:00", None, "2026-11-28 16:15"),
    "the whole day": ("Sat 00:00-24:00", "2026-11-28 12:00", "2026-11-29 00:00", "2026-12-05 00:00"),
    "until 24:00": ("Sat 22:00-24:00", "2026-11-28 23:59", "2026-11-29 00:00", "2026-12-05 22:00"),
    "until 00:00 is until 24:00": ("Sat 22:00-00:00", "2026-11-28 23:59", "2026-11-29 00:00", "2026-12-05 22:00"),
    "weekdays": ("Mon-Fri 03:00-05:00", "2026-11-27 06:00", None, "2026-11-30 03:00"),
    "range over Sunday": ("Sat-Mon 03:00-05:00", "2026-11-30 06:00", None, "2026-12-05 03:00"),
    "two days": ("Tue,Thu 03:00-05:00", "2026-11-25 12:00", None, "2026-11-26 03:00"),
    "daily": ("daily 03:00-05:00", "2026-11-25 12:00", None, "2026-11-26 03:00"),
    "nearly all of each day": ("daily 03:00-02:59", "2026-11-25 02:00", "2026-11-25 02:59", "2026-11-25 03:00"),
    "touching days are one stretch": (
        "Sat,Sun 00:00-24:00",
        "2026-11-28 12:00",
        "2026-11-30 00:00",
        "2026-12-05 00:00",
    ),
    "touching windows are one stretch": (
        "Sat 22:00-02:00; Sun 02:00-04:00",
        "2026-11-28 23:00",
        "2026-11-29 04:00",
        "2026-12-05 22:00",
    ),
    "overlapping windows are one stretch": (
        "Sat 22:00-02:00; Sun 00:00-01:00; Sun 01:30-06:00",
        "2026-11-28 23:00",
        "2026-11-29 06:00",
        "2026-12-05 22:00",
    ),
    "windows in two zones touch": (
        "Sat 22:00-23:00 UTC; Sun 00:00-01:00 Europe/Paris",
        "2026-11-28 22:30",
        "2026-11-29 00:00",
        "2026-12-05 22:00",
    ),
    "windows apart": ("Wed 10:00-11:00; Wed 14:00-15:00", "2026-11-25 10:30", "2026-11-25 11:00", "2026-11-25 14:00"),
    "over New Year": ("Thu 22:00-02:00", "2026-12-31 23:00", "2027-01-01 02:00", "2027-01-07 22:00"),
    "any": ("any", "2026-11-25 12:00", "2027-12-30 12:00", None),
    "always, written out": ("daily 00:00-24:00", "2026-11-25 12:00", "2027-12-30 12:00", None),
    "always, in two windows": (
        "Mon-Fri 00:00-24:00; Sat,Sun 00:00-24:00",
        "2026-11-25 12:00",
        "2027-12-30 12:00",
        None,
    ),
}
# Tuesdays of November 2026: 3, 10, 17, 24; Sundays: 1, 8, 15, 22, 29.
NTH = {
    "1st": ("1st Tue 01:00-02:00", "2026-10-31 00:00", None, "2026-11-03 01:00"),
    "1st that is the 1st": ("1st Sun 01:00-02:00", "2026-10-31 00:00", None, "2026-11-01 01:00"),
    "2nd": ("2nd Tue 01:00-02:00", "2026-11-10 01:30", "2026-11-10 02:00", "2026-12-08 01:00"),
    "3rd": ("3rd Tue 01:00-02:00", "2026-11-01 00:00", None, "2026-11-17 01:00"),
    "4th": ("4th Tue 01:00-02:00", "2026-11-01 00:00", None, "2026-11-24 01:00"),
    "last is the 4th": ("last Tue 01:00-02:00", "2026-11-01 00:00", None, "2026-11-24 01:00"),
    "last is the 5th": ("last Sun 01:00-02:00", "2026-11-02 00:00", None, "2026-11-29 01:00"),
    "last of December": ("last Thu 22:00-02:00", "2026-12-31 22:00", "2027-01-01 02:00", "2027-01-28 22:00"),
    "three days after": ("2nd Tue +3d 01:00-02:00", "2026-11-01 00:00", None, "2026-11-13 01:00"),
    "not the Friday before": ("2nd Tue +3d 01:00-02:00", "2026-10-10 00:00", None, "2026-10-16 01:00"),
    "two days before": ("2nd Tue -2d 01:00-02:00", "2026-11-01 00:00", None, "2026-11-08 01:00"),
    "into the next month": ("last Sun +3d 01:00-02:00", "2026-11-27 00:00", None, "2026-12-02 01:00"),
    "into the next year": ("last Thu +1d 01:00-02:00", "2026-12-20 00:00", None, "2027-01-01 01:00"),
    "into the month before": ("1st Tue -5d 01:00-02:00", "2026-10-28 00:00", None, "2026-10-29 01:00"),
    "into the year before": ("1st Fri -1d 01:00-02:00", "2026-12-10 00:00", None, "2026-12-31 01:00"),
    "farthest on": ("4th Tue +27d 01:00-02:00", "2026-12-01 00:00", None, "2026-12-21 01:00"),
    "farthest back": ("1st Tue -27d 01:00-02:00", "2026-10-01 00:00", None, "2026-10-07 01:00"),
    "leap February": ("last Tue 01:00-02:00", "2028-02-01 00:00", None, "2028-02-29 01:00"),
    "over the end of a month": ("last Mon 22:00-02:00", "2026-12-01 00:00", "2026-12-01 02:00", "2026-12-28 22:00"),
    "with weekdays": ("Sat, 2nd Tue 01:00-02:00", "2026-11-08 00:00", None, "2026-11-10 01:00"),
    "an offset is its neighbour's alone": (
        "2nd Tue, 4th Tue +1d 01:00-02:00",
        "2026-11-11 00:00",
        None,
        "2026-11-25 01:00",
    ),
}


@pytest.mark.parametrize(
    ("text", "now", "closes", "opens"),
    [pytest.param(*row, id=name) for name, row in {**MOMENTS, **NTH}.items()],
)
def test_a_window_at_a_moment(text: str, now: str, closes: str | None, opens: str | None) -> None:
    windows = read_windows(text)
    assert (closes, opens) == (written(windows.closes(at(now))), written(windows.opens(at(now))))


# name: (text, a noon, the next noon, every open stretch between) – the wall clock agrees with each
NIGHTS = {
    # 29 March 2026: 02:00 → 03:00 at 01:00 UTC. 25 October: 03:00 → 02:00 at 01:00 UTC.
    "Paris, spring, over the gap": ("Sat 22:00-04:00 Europe/Paris", "2026-03-28", ["28 21:00 - 29 02:00"]),
    "Paris, spring, start in the gap": ("Sun 02:30-04:00 Europe/Paris", "2026-03-28", ["29 01:00 - 29 02:00"]),
    "Paris, spring, end in the gap": ("Sun 01:00-02:30 Europe/Paris", "2026-03-28", ["29 00:00 - 29 01:00"]),
    "Paris, spring, all in the gap": ("Sun 02:00-03:00 Europe/Paris", "2026-03-28", []),
    "Paris, spring, up to the gap": ("Sun 01:00-02:00 Europe/Paris", "2026-03-28", ["29 00:00 - 29 01:00"]),
    "Paris, spring, from the gap on": ("Sun 03:00-04:00 Europe/Paris", "2026-03-28", ["29 01:00 - 29 02:00"]),
    "Paris, autumn, over the fold": ("Sat 22:00-04:00 Europe/Paris", "2026-10-24", ["24 20:00 - 25 03:00"]),
    "Paris, autumn, the repeated hour": ("Sun 02:00-03:00 Europe/Paris", "2026-10-24", ["25 00:00 - 25 02:00"]),
    "Paris, autumn, start in the fold": (
        "Sun 02:30-04:00 Europe/Paris",
        "2026-10-24",
        ["25 00:30 - 25 01:00", "25 01:30 - 25 03:00"],
    ),
    "Paris, autumn, end in the fold": (
        "Sat 22:00-02:30 Europe/Paris",
        "2026-10-24",
        ["24 20:00 - 25 00:30", "25 01:00 - 25 01:30"],
    ),
    "Paris, autumn, inside the fold": (
        "Sun 02:15-02:45 Europe/Paris",
        "2026-10-24",
        ["25 00:15 - 25 00:45", "25 01:15 - 25 01:45"],
    ),
    "Paris, autumn, up to the fold": ("Sun 01:00-02:00 Europe/Paris", "2026-10-24", ["24 23:00 - 25 00:00"]),
    "Paris, autumn, from the fold on": ("Sun 03:00-04:00 Europe/Paris", "2026-10-24", ["25 02:00 - 25 03:00"]),
    "Paris, a day of 23 hours": (
        "Sun 00:00-24:00 Europe/Paris",
        "2026-03-28",
        ["28 23:00 - 29 12:00"],
    ),
    # 8 March 2026: 02:00 → 03:00 at 07:00 UTC. 1 November: 02:00 → 01:00 at 06:00 UTC.
    "New York, spring, over the gap": ("Sun 01:00-04:00 America/New_York", "2026-03-07", ["08 06:00 - 08 08:00"]),
    "New York, spring, start in the gap": ("Sun 02:15-05:00 America/New_York", "2026-03-07", ["08 07:00 - 08 09:00"]),
    "New York, spring, end in the gap": ("Sun 00:00-02:15 America/New_York", "2026-03-07", ["08 05:00 - 08 07:00"]),
    "New York, spring, all in the gap": ("Sun 02:10-02:50 America/New_York", "2026-03-07", []),
    "New York, autumn, over the fold": ("Sun 00:00-03:00 America/New_York", "2026-10-31", ["01 04:00 - 01 08:00"]),
    "New York, autumn, the repeated hour": ("Sun 01:00-02:00 America/New_York", "2026-10-31", ["01 05:00 - 01 07:00"]),
    "New York, autumn, start in the fold": (
        "Sun 01:30-03:00 America/New_York",
        "2026-10-31",
        ["01 05:30 - 01 06:00", "01 06:30 - 01 08:00"],
    ),
    "New York, autumn, end in the fold": (
        "Sun 00:00-01:30 America/New_York",
        "2026-10-31",
        ["01 04:00 - 01 05:30", "01 06:00 - 01 06:30"],
    ),
    # 5 April 2026: 02:00 → 01:30 at 15:00 UTC of the 4th. 4 October: 02:00 → 02:30 at 15:30 UTC of the 3rd.
    "Lord Howe, autumn, over the fold": ("Sun 01:00-03:00 Australia/Lord_Howe", "2026-04-04", ["04 14:00 - 04 16:30"]),
    "Lord Howe, autumn, the repeated half-hour": (
        "Sun 01:30-02:00 Australia/Lord_Howe",
        "2026-04-04",
        ["04 14:30 - 04 15:30"],
    ),
    "Lord Howe, autumn, start in the fold": (
        "Sun 01:45-03:00 Australia/Lord_Howe",
        "2026-04-04",
        ["04 14:45 - 04 15:00", "04 15:15 - 04 16:30"],
    ),
    "Lord Howe, autumn, end in the fold": (
        "Sun 01:00-01:45 Australia/Lord_Howe",
        "2026-04-04",
        ["04 14:00 - 04 14:45", "04 15:00 - 04 15:15"],
    ),
    "Lord Howe, spring, over the gap": ("Sun 01:00-03:00 Australia/Lord_Howe", "2026-10-03", ["03 14:30 - 03 16:00"]),
    "Lord Howe, spring, start in the gap": (
        "Sun 02:15-03:00 Australia/Lord_Howe",
        "2026-10-03",
        ["03 15:30 - 03 16:00"],
    ),
    "Lord Howe, spring, end in the gap": ("Sun 01:00-02:15 Australia/Lord_Howe", "2026-10-03", ["03 14:30 - 03 15:30"]),
    "Lord Howe, spring, all in the gap": ("Sun 02:00-02:30 Australia/Lord_Howe", "2026-10-03", []),
    # No clock changes.
    "Kolkata, Europe's spring": ("Sun 02:30-04:00 Asia/Kolkata", "2026-03-28", ["28 21:00 - 28 22:30"]),
    "Kolkata, Europe's autumn": ("Sun 02:30-04:00 Asia/Kolkata", "2026-10-24", ["24 21:00 - 24 22:30"]),
    "UTC, Europe's spring": ("Sun 00:30-04:00", "2026-03-28", ["29 00:30 - 29 04:00"]),
    "UTC, Europe's autumn": ("Sun 00:30-04:00", "2026-10-24", ["25 00:30 - 25 04:00"]),
    # Clocks that change at midnight. Havana, 1 November 2026: 01:00 → 00:00 at 05:00 UTC: Sunday's first hour twice.
    "Havana, the first hour twice": ("Sun 00:00-01:00 America/Havana", "2026-10-31", ["01 04:00 - 01 06:00"]),
    # Beirut, 25 October 2026: 00:00 → 23:00 of the 24th at 21:00 UTC: Saturday's last hour twice.
    "Beirut, the last hour twice": (
        "Sat 22:00-23:30 Asia/Beirut",
        "2026-10-24",
        ["24 19:00 - 24 20:30", "24 21:00 - 24 21:30"],
    ),
    # Beirut, 29 March 2026: 00:00 → 01:00 at 22:00 UTC of the 28th: Sunday has no first hour.
    "Beirut, no first hour": ("Sun 00:00-02:00 Asia/Beirut", "2026-03-28", ["28 22:00 - 28 23:00"]),
}


@pytest.mark.parametrize(("text", "day", "expected"), [pytest.param(*row, id=name) for name, row in NIGHTS.items()])
def test_a_night_of_a_clock_change(text: str, day: str, expected: list[str]) -> None:
    noon = at(f"{day} 12:00")
    found = stretches(read_windows(text), noon, noon + DAY)
    assert expected == [f"{start:%d %H:%M} - {end:%d %H:%M}" for start, end in found]


# text, black-outs, now → closes, opens
BLACKOUTS = {
    "open until it starts": ("any", "2026-12-20", "2026-12-19 12:00", "2026-12-20 00:00", "2026-12-21 00:00"),
    "inside": ("any", "2026-12-20", "2026-12-20 12:00", None, "2026-12-21 00:00"),
    "at its start": ("any", "2026-12-20", "2026-12-20 00:00", None, "2026-12-21 00:00"),
    "at its end": ("any", "2026-12-20", "2026-12-21 00:00", "2028-01-25 00:00", None),
    "a window is cut at the start": (
        "Sat 22:00-02:00",
        "2026-12-20",
        "2026-12-19 23:00",
        "2026-12-20 00:00",
        "2026-12-26 22:00",
    ),
    "a window opens at the end": ("Sat 22:00-02:00", "2026-12-19", "2026-12-19 23:00", None, "2026-12-20 00:00"),
    "a window is stepped over": (
        "Sat 22:00-23:00",
        "2026-12-20..2027-01-05",
        "2026-12-19 23:30",
        None,
        "2027-01-09 22:00",
    ),
    "in a zone": (
        "any",
        "2026-12-20..2026-12-21 Europe/Paris",
        "2026-12-19 12:00",
        "2026-12-19 23:00",
        "2026-12-21 23:00",
    ),
    "days that touch are one": (
        "any",
        "2026-12-21, 2026-12-20",
        "2026-12-20 12:00",
        None,
        "2026-12-22 00:00",
    ),
    "one within another": (
        "any",
        "2026-12-20..2026-12-30, 2026-12-22..2026-12-23",
        "2026-12-25 12:00",
        None,
        "2026-12-31 00:00",
    ),
    "across zones": (
        "any",
        "2026-12-20 Europe/Paris; 2026-12-20 America/New_York",
        "2026-12-20 12:00",
        None,
        "2026-12-21 05:00",
    ),
    "of 25 hours": ("any", "2026-10-25 Europe/Paris", "2026-10-25 12:00", None, "2026-10-25 23:00"),
    "of 23 hours": ("any", "2026-03-29 Europe/Paris", "2026-03-28 22:00", "2026-03-28 23:00", "2026-03-29 22:00"),
    "a day that never was": ("any", "2011-12-30 Pacific/Apia", "2011-12-29 12:00", "2013-02-01 12:00", None),
    "past": ("Sat 22:00-02:00", "2020-01-01", "2026-12-19 23:00", "2026-12-20 02:00", "2026-12-26 22:00"),
    "none": ("Sat 22:00-02:00", "", "2026-12-19 23:00", "2026-12-20 02:00", "2026-12-26 22:00"),
    "for longer than the horizon": ("daily 10:00-11:00", "2026-01-01..2030-12-31", "2026-12-19 10:30", None, None),
    # St John's set its clock back at 00:01 to 23:01 of the day before, on 7 November 2010 at 02:31 UTC.
    "through an evening that repeats": (
        "any",
        "2010-11-07 America/St_Johns",
        "2010-11-07 02:45",
        None,
        "2010-11-08 03:30",
    ),
}


@pytest.mark.parametrize(
    ("text", "blackouts", "now", "closes", "opens"), [pytest.param(*row, id=name) for name, row in BLACKOUTS.items()]
)
def test_black_outs(text: str, blackouts: str, now: str, closes: str | None, opens: str | None) -> None:
    windows, closed = read_windows(text), read_blackouts(blackouts)
    assert (closes, opens) == (written(windows.closes(at(now), closed)), written(windows.opens(at(now), closed)))


def test_black_outs_that_touch_or_overlap_are_one() -> None:
    text = "2026-12-22, 2026-12-20..2026-12-21; 2026-12-21 Europe/Paris; 2026-12-24"
    assert read_blackouts(text).spans == (
        (at("2026-12-20"), at("2026-12-23")),
        (at("2026-12-24"), at("2026-12-25")),
    )


# setting, tag, now → closes, opens
PAIRS = {
    "the tag is inside": ("Sat 20:00-06:00", "Sat 22:00-23:00", "2026-11-25 12:00", None, "2026-11-28 22:00"),
    "the tag is wider": ("Sat 22:00-23:00", "any", "2026-11-28 22:30", "2026-11-28 23:00", "2026-12-05 22:00"),
    "any narrows nothing": ("any", "any", "2026-11-28 22:30", "2028-01-02 22:30", None),
    "the earlier end": (
        "Sat 20:00-23:00",
        "Sat 22:00-02:00",
        "2026-11-28 22:30",
        "2026-11-28 23:00",
        "2026-12-05 22:00",
    ),
    "only one is open": ("Sat 20:00-23:00", "Sat 22:00-02:00", "2026-11-28 21:00", None, "2026-11-28 22:00"),
    "never both": ("Sat 20:00-23:00", "Sun 20:00-23:00", "2026-11-28 21:00", None, None),
    "they only touch": ("Sat 20:00-22:00", "Sat 22:00-23:00", "2026-11-28 21:00", None, None),
    "rarely both": ("2nd Tue 01:00-05:00", "Tue 04:00-09:00", "2026-11-10 05:00", None, "2026-12-08 04:00"),
    "once in a while": (
        "1st Tue 01:00-05:00",
        "last Wed -1d 01:00-03:00; Mon 01:00-02:00",
        "2026-11-10 05:00",
        None,
        None,
    ),
    # New York is six hours behind Paris, but five while only one of them is in summer time.
    "in the weeks between two clock changes": (
        "daily 10:00-11:00 Europe/Paris",
        "daily 05:00-06:00 America/New_York",
        "2026-11-25 12:00",
        None,
        "2027-03-14 09:00",
    ),
    "in summer time alone": (
        "Sun 02:00-03:00 Europe/Paris",
        "Sun 00:30-01:00",
        "2026-11-25 12:00",
        None,
        "2027-04-04 00:30",
    ),
    "after the next clock change but one": (
        "Sun 02:00-03:00 Europe/Paris",
        "Sun 01:30-02:00",
        "2027-03-28 00:59",
        None,
        "2027-10-31 01:30",
    ),
    "two zones": (
        "daily 00:00-02:00 Europe/Paris",
        "daily 00:00-01:00 Europe/London",
        "2026-11-25 12:00",
        None,
        "2026-11-26 00:00",
    ),
}


@pytest.mark.parametrize(
    ("setting", "tag", "now", "closes", "opens"), [pytest.param(*row, id=name) for name, row in PAIRS.items()]
)
def test_both_must_be_open(setting: str, tag: str, now: str, closes: str | None, opens: str | None) -> None:
    for pair in (both(read_windows(setting), read_windows(tag)), both(read_windows(tag), read_windows(setting))):
        assert (closes, opens) == (written(pair.closes(at(now))), written(pair.opens(at(now))))


def test_both_says_what_it_is_made_of() -> None:
    setting, tag = read_windows("Sat 20:00-23:00 Europe/Paris"), read_windows("Sun 20:00-23:00; daily 01:00-02:00")
    pair = both(setting, tag)
    assert pair.text == "Sat 20:00-23:00 Europe/Paris and Sun 20:00-23:00 UTC; daily 01:00-02:00 UTC"
    assert both(setting, ANY) == both(ANY, setting) == both(setting, setting) == setting
    assert both(pair, tag) == pair


# what is written → what it is called
SPELLINGS = {
    "any": "any",
    " ANY ; ": "any",
    "sat 22:00-02:00": "Sat 22:00-02:00 UTC",
    "SATURDAY 22:00 - 02:00 europe/PARIS": "Sat 22:00-02:00 Europe/Paris",
    "Sat 22:00-02:00 utc;": "Sat 22:00-02:00 UTC",
    "Sat 22:00-02:00 etc/utc": "Sat 22:00-02:00 Etc/UTC",
    "Sun, Sat 22:00-02:00": "Sat,Sun 22:00-02:00 UTC",
    "Mon,Tue,Wed 22:00-02:00": "Mon-Wed 22:00-02:00 UTC",
    "Mon - Fri 22:00-02:00": "Mon-Fri 22:00-02:00 UTC",
    "Fri-Mon 22:00-02:00": "Mon,Fri-Sun 22:00-02:00 UTC",
    "Mon-Sun 22:00-02:00": "daily 22:00-02:00 UTC",
    "Sat,sat 22:00-02:00": "Sat 22:00-02:00 UTC",
    "daily 22:00-00:00": "daily 22:00-24:00 UTC",
    "daily 00:00-24:00": "daily 00:00-24:00 UTC",
    "2ND tuesday+3D 22:00-02:00": "2nd Tue +3d 22:00-02:00 UTC",
    "last Sun - 1 d 22:00-02:00": "last Sun -1d 22:00-02:00 UTC",
    "4th Mon +03d 22:00-02:00": "4th Mon +3d 22:00-02:00 UTC",
    "1st Mon, Sat, 3rd Mon 01:00-02:00": "Sat 01:00-02:00 UTC; 1st Mon 01:00-02:00 UTC; 3rd Mon 01:00-02:00 UTC",
    "Sat\t22:00-02:00;\n Sat 22:00-02:00": "Sat 22:00-02:00 UTC",
    "Sat 22:00-02:00 America/Argentina/Buenos_Aires": "Sat 22:00-02:00 America/Argentina/Buenos_Aires",
}
BLACKOUT_SPELLINGS = {
    "": "",
    " ; ": "",
    "2026-12-20": "2026-12-20 UTC",
    "2026-12-20..2026-12-20": "2026-12-20 UTC",
    " 2026-12-20 .. 2027-01-05,2026-11-27  europe/paris ;": "2026-12-20..2027-01-05, 2026-11-27 Europe/Paris",
    "2026-12-20; 2026-12-24 Asia/Tokyo": "2026-12-20 UTC; 2026-12-24 Asia/Tokyo",
    "2028-02-29": "2028-02-29 UTC",
}


@pytest.mark.parametrize(("text", "spelling"), SPELLINGS.items())
def test_windows_have_one_spelling(text: str, spelling: str) -> None:
    assert read_windows(text).text == spelling
    assert read_windows(spelling) == read_windows(text)


@pytest.mark.parametrize(("text", "spelling"), BLACKOUT_SPELLINGS.items())
def test_black_outs_have_one_spelling(text: str, spelling: str) -> None:
    assert read_blackouts(text).text == spelling
    assert read_blackouts(spelling) == read_blackouts(text)


# A window's text, an instant → what people read.
SHOWN: dict[str, tuple[str, str, str]] = {
    "no window": ("any", "2026-11-28 21:00", "Sat 2026-11-28 21:00 UTC"),
    "in UTC": ("Sat 22:00-02:00", "2026-11-28 22:00", "Sat 2026-11-28 22:00 UTC"),
    "in another zone": (
        "Sat 22:00-02:00 Europe/Paris", "2026-11-28 21:00", "Sat 2026-11-28 22:00 Europe/Paris, 21:00 UTC"
    ),
    "on another day of UTC": (
        "daily 01:00-05:00 Asia/Tokyo", "2026-11-28 16:00", "Sun 2026-11-29 01:00 Asia/Tokyo, Sat 16:00 UTC"
    ),
    "in the zone of the first": (
        "Sat 22:00-02:00 America/New_York; Sun 22:00-02:00 Europe/Paris",
        "2026-11-29 03:00",
        "Sat 2026-11-28 22:00 America/New_York, Sun 03:00 UTC",
    ),
    "summer time, first pass": (
        "Sun 02:00-03:00 Europe/Paris", "2026-10-25 00:30", "Sun 2026-10-25 02:30 Europe/Paris, 00:30 UTC"
    ),
    "winter time, second pass": (
        "Sun 02:00-03:00 Europe/Paris", "2026-10-25 01:30", "Sun 2026-10-25 02:30 Europe/Paris, 01:30 UTC"
    ),
    "at the change itself": (
        "Sun 01:00-05:00 Europe/Paris", "2026-03-29 01:00", "Sun 2026-03-29 03:00 Europe/Paris, 01:00 UTC"
    ),
    "in the first minute of a year": (
        "daily 00:00-24:00 Asia/Kolkata", "2026-12-31 18:30", "Fri 2027-01-01 00:00 Asia/Kolkata, Thu 18:30 UTC"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "moment", "shown"), SHOWN.values(), ids=SHOWN)
def test_a_time_is_shown_in_the_windows_zone_and_in_utc(text: str, moment: str, shown: str) -> None:
    assert read_windows(text).shown(at(moment)) == shown


# -- badly written: text → what is wrong; what is right

NO_WINDOW = "no window is given; write 'any', or one such as Sat 22:00-02:00 Europe/Paris"
NO_TIMES = "it has no times; write days, times as HH:MM-HH:MM, and a zone: Sat 22:00-02:00 Europe/Paris"
NO_DAYS = "it has no days; write daily, Sat, Mon-Fri or 2nd Tue before the times"
NO_DAY = "is not a day; write daily, Sat, Mon-Fri, 2nd Tue or 2nd Tue +3d, separated by commas"
NO_TIME = "is not a time of day; write HH:MM from 00:00 to 24:00"
NO_NTH = "is unknown; write 1st, 2nd, 3rd, 4th or last, or a comma"
NO_OFFSET = "is not an offset; write 1 to 27 days, such as +3d or -2d"
OFFSET = "has an offset; write one only after an nth weekday, such as 2nd Tue +3d"
COMMA = "a comma has no day beside it; write days such as Sat,Sun"
TWICE = "it has times twice; write ';' between two windows"
NOT_ALONE = "'any' is combined with other windows; write it alone, or the windows alone"
FROM_24 = "it starts at 24:00; write 00:00 and the day after; 24:00 is an end only"
NO_ZONE = "is not a zone; write an IANA name such as Europe/Paris, or UTC"
PARIS = "is not a zone; write Europe/Paris, or UTC"
OF_WINDOWS = "is a name that Windows gives a zone; write"
MISREAD = "is a zone that is easily misread; write an IANA name such as Europe/Paris, or UTC"

BAD_WINDOWS = {
    "always": NO_TIMES,
    "any any": NO_TIMES,
    "any Europe/Paris": NO_TIMES,
    "Sat": NO_TIMES,
    "Sat Europe/Paris": NO_TIMES,
    "Sat 22-02": NO_TIMES,
    "Sat 22:00": NO_TIMES,
    "Sat 22:00 02:00": NO_TIMES,
    "Sat 22:00 to 02:00": NO_TIMES,
    "Sat 22:00–02:00": NO_TIMES,
    "Sat 9:00-17:00": NO_TIMES,
    "Sat 10pm-2am": NO_TIMES,
    "Sat 22.00-02.00": NO_TIMES,
    "Sat 2200-0200": NO_TIMES,
    "Sat 22:00:00-02:00:00": NO_TIMES,
    "Sat 22:00-+2h": NO_TIMES,
    "Sat ２２:００-０２:００": NO_TIMES,
    "Sat 22:00-02:00,04:00-05:00": NO_TIMES,
    "22:00-02:00": NO_DAYS,
    "22:00-02:00 Europe/Paris": NO_DAYS,
    "Sat 25:00-02:00": f"'25:00' {NO_TIME}",
    "Sat 22:60-02:00": f"'22:60' {NO_TIME}",
    "Sat 22:00-24:01": f"'24:01' {NO_TIME}",
    "Sat 22:00-99:99": f"'99:99' {NO_TIME}",
    "Sat 24:00-02:00": FROM_24,
    "Sat 24:00-24:00": FROM_24,
    "Sat 22:00-22:00": "it ends when it starts, at 22:00; write two times, or 00:00-24:00 for the whole day",
    "daily 00:00-00:00": "it ends when it starts, at 00:00; write two times, or 00:00-24:00 for the whole day",
    "Sa 22:00-02:00": f"'Sa' {NO_DAY}",
    "Samstag 22:00-02:00": f"'Samstag' {NO_DAY}",
    "weekend 22:00-02:00": f"'weekend' {NO_DAY}",
    "6 22:00-02:00": f"'6' {NO_DAY}",
    "* 22:00-02:00": f"'*' {NO_DAY}",
    "2026-12-20 22:00-02:00": f"'2026-12-20' {NO_DAY}",
    "Sat/Sun 22:00-02:00": f"'Sat/Sun' {NO_DAY}",
    "Sat, 22:00-02:00": COMMA,
    ",Sat 22:00-02:00": COMMA,
    "Sat,,Sun 22:00-02:00": COMMA,
    "Mon-Fry 22:00-02:00": f"'Fry' {NO_DAY}",
    "Mon- 22:00-02:00": f"'Mon-' {NO_DAY}",
    "Mon-Wed-Fri 22:00-02:00": f"'Mon-Wed-Fri' {NO_DAY}",
    "Mon..Fri 22:00-02:00": f"'Mon..Fri' {NO_DAY}",
    "last-Sun 22:00-02:00": f"'last' {NO_DAY}",
    "Mon-Mon 22:00-02:00": "'Mon-Mon' begins and ends on one day; write that day alone, or daily",
    "Sat Sun 22:00-02:00": f"'Sat' before 'Sun' {NO_NTH}",
    "Every Sat 22:00-02:00": f"'Every' before 'Sat' {NO_NTH}",
    "5th Tue 22:00-02:00": f"'5th' before 'Tue' {NO_NTH}",
    "2th Tue 22:00-02:00": f"'2th' before 'Tue' {NO_NTH}",
    "second Tue 22:00-02:00": f"'second' before 'Tue' {NO_NTH}",
    "2 Tue 22:00-02:00": f"'2' before 'Tue' {NO_NTH}",
    "2nd 22:00-02:00": f"'2nd' {NO_DAY}",
    "2nd Tues 22:00-02:00": f"'Tues' {NO_DAY}",
    "2nd daily 22:00-02:00": f"'daily' {NO_DAY}",
    "2nd Tue-Thu 22:00-02:00": f"'2nd Tue-Thu' {NO_DAY}",
    "2nd,4th Tue 22:00-02:00": f"'2nd' {NO_DAY}",
    "last Sun of June 22:00-02:00": f"'last Sun of June' {NO_DAY}",
    "2nd Tue +3 22:00-02:00": f"'2nd Tue +3' {NO_DAY}",
    "2nd Tue 3d 22:00-02:00": f"'2nd Tue 3d' {NO_DAY}",
    "2nd Tue +1w 22:00-02:00": f"'2nd Tue +1w' {NO_DAY}",
    "Sat +1d 22:00-02:00": f"'Sat +1d' {OFFSET}",
    "daily -1d 22:00-02:00": f"'daily -1d' {OFFSET}",
    "2nd Tue +3d +1d 22:00-02:00": f"'2nd Tue +3d +1d' {OFFSET}",
    "2nd Tue +0d 22:00-02:00": f"'+0d' {NO_OFFSET}",
    "2nd Tue +28d 22:00-02:00": f"'+28d' {NO_OFFSET}",
    "2nd Tue -28d 22:00-02:00": f"'-28d' {NO_OFFSET}",
    "Sat 22:00-02:00 Paris": f"'Paris' {PARIS}",
    "Sat 22:00-02:00 Europe/Pariss": f"'Europe/Pariss' {PARIS}",
    "Sat 22:00-02:00 (Europe/Paris)": f"'(Europe/Paris)' {PARIS}",
    "Sat 22:00-02:00 New York": "'New York' is not a zone; write America/New_York, or UTC",
    "Sat 22:00-02:00 CET": f"'CET' {MISREAD}",
    "Sat 22:00-02:00 EST": f"'EST' {MISREAD}",
    "Sat 22:00-02:00 Etc/GMT+2": f"'Etc/GMT+2' {MISREAD}",
    "Sat 22:00-02:00 +02:00": f"'+02:00' {NO_ZONE}",
    "Sat 22:00-02:00 UTC+2": f"'UTC+2' {NO_ZONE}",
    "Sat 22:00-02:00 W. Europe Standard Time": f"'W. Europe Standard Time' {OF_WINDOWS} Europe/Berlin, or UTC",
    "Sat 22:00-02:00 romance standard time": f"'romance standard time' {OF_WINDOWS} Europe/Paris, or UTC",
    "Sat 22:00-02:00 Pacific Standard Time": f"'Pacific Standard Time' {OF_WINDOWS} America/Los_Angeles, or UTC",
    "Sat 22:00-02:00 India Standard Time": f"'India Standard Time' {OF_WINDOWS} Asia/Calcutta, or UTC",
    "Sat 22:00-02:00 Russia Time Zone 3": f"'Russia Time Zone 3' {OF_WINDOWS} Europe/Samara, or UTC",
    "Sat 22:00-02:00 Central Standard Time (Mexico)": (
        f"'Central Standard Time (M…' {OF_WINDOWS} America/Mexico_City, or UTC"
    ),
    "Sat 22:00-02:00 Mars Standard Time": (
        f"'Mars Standard Time' {OF_WINDOWS} an IANA name such as Europe/Paris, or UTC"
    ),
    "Sat 22:00-02:00 ../UTC": f"'../UTC' {NO_ZONE}",
    "Sat 22:00-02:00 Mars/Olympus": f"'Mars/Olympus' {NO_ZONE}",
    "Sat 22:00-02:00 UTC and any": f"'UTC and any' {NO_ZONE}",
    "Europe/Paris Sat 22:00-02:00": f"'Europe/Paris Sat' {NO_DAY}",
    "Sat 22:00-02:00, 04:00-05:00": TWICE,
    "Sat 22:00-02:00, Sun 10:00-11:00": TWICE,
    "Sat 22:00-02:00 UTC Sun 10:00-11:00": TWICE,
}
NO_DATE = "is not a day; write 2026-12-20 or 2026-12-20..2027-01-05, and the zone after the last"
NO_DATE_BESIDE = "a comma has no day beside it; write 2026-12-20 or 2026-12-20..2027-01-05, and the zone after the last"
NOT_IN_CALENDAR = "is not a day from 2000 to 2199; write year, month and day as in 2026-12-20"
AFTER_DAY = "after a day is not a zone; write 2026-12-20..2027-01-05 for a range, commas between days"
BAD_BLACKOUTS = {
    "tomorrow": f"'tomorrow' {NO_DATE}",
    "any": f"'any' {NO_DATE}",
    "20.12.2026": f"'20.12.2026' {NO_DATE}",
    "12/20/2026": f"'12/20/2026' {NO_DATE}",
    "2026-12-20T00:00:00Z": f"'2026-12-20T00:00:00Z' {NO_DATE}",
    "2026-12-20...2027-01-05": f"'2026-12-20...2027-01-05' {NO_DATE}",
    "2026-12-20..": f"'2026-12-20..' {NO_DATE}",
    "..2027-01-05": f"'..2027-01-05' {NO_DATE}",
    "2026-W01-1": f"'2026-W01-1' {NO_DATE}",
    "２０２６-12-20": f"'２０２６-12-20' {NO_DATE}",
    "Europe/Paris 2026-12-20": f"'Europe/Paris 2026-12-20' {NO_DATE}",
    "2026-12-20, Europe/Paris": f"'Europe/Paris' {NO_DATE}",
    "2026-12-20,": NO_DATE_BESIDE,
    "2026-12-20,,2026-12-21": NO_DATE_BESIDE,
    "2026-13-01": f"'2026-13-01' {NOT_IN_CALENDAR}",
    "2026-02-29": f"'2026-02-29' {NOT_IN_CALENDAR}",
    "2026-2-9": f"'2026-2-9' {NOT_IN_CALENDAR}",
    "20261220": f"'20261220' {NOT_IN_CALENDAR}",
    "2026-12": f"'2026-12' {NOT_IN_CALENDAR}",
    "1999-12-31": f"'1999-12-31' {NOT_IN_CALENDAR}",
    "2200-01-01": f"'2200-01-01' {NOT_IN_CALENDAR}",
    "2026-12-20-2027-01-05": f"'2026-12-20-2027-01-05' {NOT_IN_CALENDAR}",
    "2026-12-20..01-05": f"'01-05' {NOT_IN_CALENDAR}",
    "2027-01-05..2026-12-20": "it ends on 2026-12-20, before it begins; write 2026-12-20..2027-01-05",
    "2026-12-20 - 2027-01-05": f"'- 2027-01-05' {AFTER_DAY}",
    "2026-12-20 2026-12-21": f"'2026-12-21' {AFTER_DAY}",
    "2026-12-20 22:00-02:00": f"'22:00-02:00' {AFTER_DAY}",
    "2026-12-20 Paris": f"'Paris' {PARIS}",
    "2026-12-20 CET": f"'CET' {MISREAD}",
    "2026-12-20 Europe/Paris, 2026-12-24": (
        "'Europe/Paris' comes before other days; write the zone after the last day, or ';' before the next list"
    ),
}


@pytest.mark.parametrize(("text", "line"), BAD_WINDOWS.items())
def test_a_bad_window_is_refused_in_one_line(text: str, line: str) -> None:
    for number, whole in ((1, text), (2, f"Sat 01:00-02:00; {text}; Sun 01:00-02:00")):
        with pytest.raises(BadInput) as refused:
            read_windows(whole)
        assert str(refused.value) == f"window {number} {quoted(text, limit=24)}: {line} (docs/windows.md)"


@pytest.mark.parametrize("name", PLACES)
def test_the_place_of_a_windows_zone_is_one_that_is_accepted(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_windows(f"Sat 22:00-02:00 {name}")
    place = re.search(r"; write (\S+), or UTC", str(refused.value))
    assert place, refused.value
    assert read_windows(f"Sat 22:00-02:00 {place[1]}").text.endswith(place[1])


@pytest.mark.parametrize(("text", "line"), BAD_BLACKOUTS.items())
def test_a_bad_black_out_is_refused_in_one_line(text: str, line: str) -> None:
    for number, whole in ((1, text), (2, f"2026-01-01; {text}; 2026-01-02 UTC")):
        with pytest.raises(BadInput) as refused:
            read_blackouts(whole)
        assert str(refused.value) == f"black-out {number} {quoted(text, limit=24)}: {line} (docs/windows.md)"


@pytest.mark.parametrize("text", ["", "   ", ";", " ; ;\n"])
def test_no_window_is_not_a_window(text: str) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(NO_WINDOW)}$"):
        read_windows(text)


@pytest.mark.parametrize("text", ["any; Sat 01:00-02:00", "Sat 01:00-02:00;any", "any;any"])
def test_any_stands_alone(text: str) -> None:
    with pytest.raises(BadInput, match=re.escape(f"'any': {NOT_ALONE}")):
        read_windows(text)


@given(st.text(alphabet=st.sampled_from("Sat,;2nd Tue+-3d:01 anyUTC/\n\x00.é"), max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    """Nothing but BadInput ever comes out, and it is fit for a log."""
    for ask in (read_windows, read_blackouts):
        try:
            spelling = ask(text).text
        except BadInput as error:
            line = str(error)
        else:
            assert ask(spelling) == ask(text)
            continue
        assert line.isprintable()
        assert "; write " in line
        assert len(line) <= 200 - len("PATCH_CANARY_WINDOW: ")


# -- the oracle


@dataclass(frozen=True)
class Days:
    """One item of a list of days: weekdays, or the nth (5: the last) of the month and an offset."""

    text: str
    weekdays: frozenset[int]
    nth: int = 0
    offset_days: int = 0

    def hold(self, day: date) -> bool:
        if not self.nth:
            return day.weekday() in self.weekdays
        base = day - timedelta(days=self.offset_days)
        if base.weekday() not in self.weekdays:
            return False
        last = base.day + 7 > calendar.monthrange(base.year, base.month)[1]
        return last if self.nth == 5 else (base.day + 6) // 7 == self.nth


@dataclass(frozen=True)
class Spelled:
    """A window as a person reads it: its text and, apart from it, what it means. `end` 1440 is 24:00."""

    days: tuple[Days, ...]
    start: int
    end: int
    zone: str

    @property
    def text(self) -> str:
        days = ", ".join(item.text for item in self.days)
        return f"{days} {self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02} {self.zone}"

    def holds(self, moment: datetime) -> bool:
        """Whether a person who looks at the wall clock calls this a time of the window."""
        shown = moment.astimezone(ZoneInfo(self.zone))
        minute, today = shown.hour * 60 + shown.minute, shown.date()
        if self.start < self.end:
            return self.start <= minute < self.end and self._on(today)
        return (minute >= self.start and self._on(today)) or (minute < self.end and self._on(today - DAY))

    def _on(self, day: date) -> bool:
        return any(item.hold(day) for item in self.days)


NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# Hours, half-hours and three quarters; changes at 01:00, 02:00, at midnight both ways, four times a year, and never.
ZONES = (
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/St_Johns",
    "America/Scoresbysund",
    "Pacific/Chatham",
    "Antarctica/Troll",
    "Asia/Kolkata",
    "UTC",
)


@lru_cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The hours of 2026 and 2027 within which a zone's clock changes: looked for in the days on which it does."""
    days = [day for day in steps(at("2026-01-01"), DAY, 2 * 365) if offset(day, zone) != offset(day + DAY, zone)]
    hours = [hour for day in days for hour in steps(day, HOUR, 24)]
    return tuple(hour for hour in hours if offset(hour, zone) != offset(hour + HOUR, zone))


def steps(since: datetime, step: timedelta, number: int) -> list[datetime]:
    return [since + each * step for each in range(number)]


def offset(moment: datetime, zone: str) -> timedelta | None:
    return moment.astimezone(ZoneInfo(zone)).utcoffset()


def weekdays() -> st.SearchStrategy[Days]:
    single = st.integers(0, 6).map(lambda day: Days(NAMES[day], frozenset({day})))
    ranges = st.tuples(st.integers(0, 6), st.integers(1, 6)).map(
        lambda drawn: Days(
            f"{NAMES[drawn[0]]}-{NAMES[sum(drawn) % 7]}", frozenset((drawn[0] + day) % 7 for day in range(drawn[1] + 1))
        )
    )
    return single | ranges | st.just(Days("daily", frozenset(range(7))))


def nth_weekdays() -> st.SearchStrategy[Days]:
    def spelled(nth: int, weekday: int, offset: int) -> Days:
        text = f"{('1st', '2nd', '3rd', '4th', 'last')[nth - 1]} {NAMES[weekday]}" + (f" {offset:+}d" if offset else "")
        return Days(text, frozenset({weekday}), nth, offset)

    return st.builds(spelled, st.integers(1, 5), st.integers(0, 6), st.just(0) | st.integers(-27, 27))


def spelled_windows(zones: st.SearchStrategy[str], step: int = 1) -> st.SearchStrategy[Spelled]:
    """Windows; half of the times lie among those that clocks skip or repeat."""
    minute = st.integers(0, 1439 // step) | st.integers(0, 240 // step)
    start = minute.map(lambda drawn: drawn * step)
    end = start | st.just(1440)
    days = st.lists(weekdays() | nth_weekdays(), min_size=1, max_size=2).map(tuple)
    return st.builds(Spelled, days, start, end, zones).filter(lambda window: window.start != window.end)


def texts(zones: st.SearchStrategy[str] = st.sampled_from(ZONES)) -> st.SearchStrategy[list[Spelled]]:  # noqa: B008
    return st.lists(spelled_windows(zones), min_size=1, max_size=3)


def read(spelled: list[Spelled]) -> Windows:
    return read_windows("; ".join(window.text for window in spelled))


def oracle(
    spelled: list[list[Spelled]], since: datetime, until: datetime, step: timedelta = MINUTE
) -> list[tuple[datetime, datetime]]:
    """Every open stretch, by looking at every minute: of each text some window holds."""
    minutes = [since + number * step for number in range((until - since) // step)]
    looks = [(moment, all(any(window.holds(moment) for window in text) for text in spelled)) for moment in minutes]
    runs = [(is_open, [moment for moment, _ in run]) for is_open, run in groupby(looks, key=lambda look: look[1])]
    return [(run[0], run[-1] + step) for is_open, run in runs if is_open]


@st.composite
def nights(draw: st.DrawFn) -> tuple[list[Spelled], datetime]:
    zone = draw(st.sampled_from([zone for zone in ZONES if changes(zone)]))
    change = draw(st.sampled_from(changes(zone)))
    return draw(texts(st.just(zone) | st.sampled_from(ZONES))), change


@given(nights())
def test_nights_of_clock_changes_agree_with_looking_at_every_minute(night: tuple[list[Spelled], datetime]) -> None:
    spelled, change = night
    since, until = change - 14 * timedelta(hours=1), change + 14 * timedelta(hours=1)
    assert stretches(read(spelled), since, until) == oracle([spelled], since, until)


@given(st.lists(spelled_windows(st.sampled_from(ZONES), step=15), min_size=1, max_size=3), st.integers(0, 600))
@a_share(2)  # an example looks at 4,032 moments
def test_six_weeks_agree_with_looking_at_every_quarter(spelled: list[Spelled], day: int) -> None:
    since = at("2026-01-01") + day * DAY
    until = since + 42 * DAY
    assert stretches(read(spelled), since, until) == oracle([spelled], since, until, timedelta(minutes=15))


@given(texts(), texts(), st.sampled_from([change for zone in ZONES for change in changes(zone)]))
def test_two_texts_agree_with_looking_at_every_minute(one: list[Spelled], two: list[Spelled], change: datetime) -> None:
    since, until = change - 14 * timedelta(hours=1), change + 14 * timedelta(hours=1)
    assert stretches(both(read(one), read(two)), since, until) == oracle([one, two], since, until)


def short_windows() -> st.SearchStrategy[Spelled]:
    """An hour or two, weekly, in zones whose distance changes: two meet soon, in some weeks of the year, or never."""
    zones = st.sampled_from(("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"))
    hour, length = st.integers(0, 21), st.integers(1, 2)
    return st.builds(
        lambda days, hour, length, zone: Spelled((days,), hour * 60, (hour + length) * 60, zone),
        weekdays(),
        hour,
        length,
        zones,
    )


@given(short_windows(), short_windows(), st.integers(0, 300))
@a_share(3)  # an example looks at every half hour of the horizon
def test_rare_and_missing_openings_agree_with_looking_at_every_half_hour(one: Spelled, two: Spelled, day: int) -> None:
    now = at("2026-01-01") + day * DAY
    runs = oracle([[one], [two]], now, now + HORIZON, timedelta(minutes=30))
    expected = next((start for start, _ in runs if start > now), None)
    assert both(read([one]), read([two])).opens(now) == expected


# -- properties


def moments() -> st.SearchStrategy[datetime]:
    # Half of them near a clock change of some zone, to the microsecond.
    anywhere = st.datetimes(datetime.fromisoformat("2026-01-01"), datetime.fromisoformat("2027-12-31"))
    near = st.tuples(
        st.sampled_from([change for zone in ZONES for change in changes(zone)]),
        st.timedeltas(timedelta(hours=-30), timedelta(hours=30)),
    ).map(lambda drawn: drawn[0] + drawn[1])
    return anywhere.map(lambda moment: moment.replace(tzinfo=UTC)) | near


def blackout_texts() -> st.SearchStrategy[str]:
    day = st.dates(date(2026, 1, 1), date(2027, 12, 31))
    dates = st.builds(lambda first, days: f"{first}..{first + days * DAY}", day, st.integers(0, 20)) | day.map(str)
    lists = st.builds(
        lambda items, zone: f"{', '.join(items)} {zone}",
        st.lists(dates, min_size=1, max_size=4),
        st.sampled_from(ZONES),
    )
    return st.lists(lists, max_size=3).map("; ".join)


def asked() -> st.SearchStrategy[Windows]:
    single = st.just(ANY) | texts().map(read)
    return single | st.builds(both, single, single)


@given(asked(), blackout_texts().map(read_blackouts), moments(), st.integers(0, 99))
@example(ANY, NO_BLACKOUTS, at("2026-01-01"), 50)
def test_closes_and_opens_belong_together(windows: Windows, closed: Blackouts, now: datetime, percent: int) -> None:
    closes, opens = windows.closes(now, closed), windows.opens(now, closed)
    assert windows.minutes_left(now, closed) == (int((closes - now).total_seconds() // 60) if closes else 0)
    if opens is not None:
        assert now < opens < now + HORIZON
        assert windows.closes(opens, closed) is not None
        assert windows.closes(opens - INSTANT, closed) is None
    if closes is not None:
        assert now < closes <= now + HORIZON
        assert opens is None or opens > closes
        inside = now + (closes - now) * percent // 100
        assert windows.closes(inside, closed) == closes or closes == now + HORIZON
        assert closes == now + HORIZON or windows.closes(closes, closed) is None
    start = closes or now
    if start < now + HORIZON:
        between = start + ((opens or now + HORIZON) - start) * percent // 100
        assert windows.closes(between, closed) is None


@given(asked(), blackout_texts().map(read_blackouts), moments(), st.timedeltas(timedelta(0), timedelta(days=40)))
def test_later_moments_have_later_answers(windows: Windows, closed: Blackouts, now: datetime, on: timedelta) -> None:
    for ask in (windows.closes, windows.opens):
        one, two = ask(now, closed), ask(now + on, closed)
        assert one is None or two is None or one <= two


@given(
    asked(),
    st.dates(date(2026, 1, 1), date(2027, 12, 31)),
    st.integers(0, 5),
    st.sampled_from(ZONES),
    st.integers(-3 * 1440, 8 * 1440),
)
def test_nothing_is_open_in_a_black_out(windows: Windows, first: date, days: int, zone: str, minutes: int) -> None:
    """The days are asked of the zone's wall clock, not of the module."""
    last = first + days * DAY
    blackouts = read_blackouts(f"{first}..{last} {zone}")
    now = datetime(first.year, first.month, first.day, tzinfo=UTC) + minutes * MINUTE
    closes, opens = windows.closes(now, blackouts), windows.opens(now, blackouts)
    if first <= now.astimezone(ZoneInfo(zone)).date() <= last:
        assert closes is None
    else:
        assert closes is None or not now < at(f"{first}") + 12 * timedelta(hours=1) < closes
        assert (closes is None) == (windows.closes(now) is None)
    if opens is not None:
        assert not first <= opens.astimezone(ZoneInfo(zone)).date() <= last


@given(texts())
def test_windows_are_read_again_as_they_are_written(spelled: list[Spelled]) -> None:
    windows = read(spelled)
    assert read_windows(windows.text) == windows
    assert read_windows(windows.text).text == windows.text
    assert read_windows(windows.text.upper()) == windows
    assert read_windows("; ".join(window.text for window in spelled).lower()) == windows


@given(blackout_texts())
def test_black_outs_are_read_again_as_they_are_written(text: str) -> None:
    blackouts = read_blackouts(text)
    assert read_blackouts(blackouts.text) == read_blackouts(text.lower()) == blackouts
    assert all(one.end < two.start for one, two in pairwise(blackouts.spans))


@given(asked(), asked(), moments())
def test_both_never_widens(one: Windows, two: Windows, now: datetime) -> None:
    closes = both(one, two).closes(now)
    ends = [one.closes(now), two.closes(now)]
    assert closes == (None if None in ends else min(end for end in ends if end))


@given(asked(), moments(), st.sampled_from(ZONES))
def test_it_does_not_matter_in_which_zone_now_is_given(windows: Windows, now: datetime, zone: str) -> None:
    local = now.astimezone(ZoneInfo(zone))
    assert (windows.closes(local), windows.opens(local)) == (windows.closes(now), windows.opens(now))
    answers = [answer for answer in (windows.closes(local), windows.opens(local)) if answer]
    assert all(answer.tzinfo is UTC for answer in answers)


def test_a_moment_without_a_zone_is_refused() -> None:
    naive = at("2026-11-25 12:00").replace(tzinfo=None)
    for ask in (ANY.closes, ANY.opens):
        with pytest.raises(ValueError, match="a time without a zone is ambiguous: 2026-11-25T12:00:00"):
            ask(naive)


# -- the zone database, and the documents


def test_every_zone_is_taken_in_any_case_and_its_changes_are_all_found() -> None:
    """Every hour of a year, in a sample of every fourteenth zone: the offset is the one the zone database says."""
    names = sorted(module.zone_names().values())
    assert len(names) > 400
    assert {"Europe/Paris", "America/New_York", "UTC"} <= set(names)
    assert not {"EST", "GMT", "Etc/GMT+1", "localtime", "posixrules"} & set(names)
    for name in names:
        assert read_windows(f"Sat 22:00-02:00 {name.swapcase()}").text == f"Sat 22:00-02:00 {name}"
    hours = [at("2027-01-01") + hour * timedelta(hours=1) for hour in range(8760)]
    for name in names[::14]:
        clocks = module._clocks_of_year(name, 2027)
        assert (clocks[0].start, clocks[-1].end) == (at("2027-01-01"), at("2028-01-01"))
        offsets = [clock.offset for clock in clocks for hour in hours if clock.start <= hour < clock.end]
        assert offsets == [hour.astimezone(ZoneInfo(name)).utcoffset() for hour in hours], name


def in_a_fresh_process(code: str) -> str:
    """What code prints where the operating system has no zone database, as in a slim image."""
    environ = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_slim_image_has_the_zones_of_the_package() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = [line.partition(" ")[0] for line in lines if line.startswith("tzdata")]
    assert pinned == [f"tzdata=={version('tzdata')}"]
    code = (
        "from functions.policy import window_grammar as g; print(g.read_windows('Sat 22:00-02:00 europe/paris').text)"
    )
    assert in_a_fresh_process(code) == "Sat 22:00-02:00 Europe/Paris"


def test_without_any_zone_database_only_utc_is_read_and_the_reason_is_given() -> None:
    code = """
import sys; sys.modules["tzdata"] = None
from datetime import UTC, datetime
from functions.policy.window_grammar import read_windows
print(read_windows("Sat 22:00-02:00").opens(datetime(2026, 11, 25, tzinfo=UTC)))
try:
    read_windows("Sat 22:00-02:00 Europe/Paris")
except ValueError as error:
    print(error)
"""
    assert in_a_fresh_process(code).splitlines() == [
        "2026-11-28 22:00:00+00:00",
        "window 1 'Sat 22:00-02:00 Europe/P…': the zone database (package tzdata) is missing; "
        "write UTC until it is installed (docs/windows.md)",
    ]


DOCUMENT = (ROOT / "docs/windows.md").read_text(encoding="utf-8")


def document_rows(columns: int) -> list[list[str]]:
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        for line in DOCUMENT.splitlines()
        if line[:3] == "| `"
    ]
    return [row for row in rows if len(row) == columns]


def test_the_document_quotes_both_grammars() -> None:
    prose = " ".join(DOCUMENT.split())
    assert GRAMMAR in prose
    assert BLACKOUT_GRAMMAR in prose


def test_every_window_and_black_out_of_the_document_is_read() -> None:
    windows = [row[0] for row in document_rows(2)]
    assert len(windows) >= 8
    for text in windows:
        (read_blackouts if text[:2] == "20" else read_windows)(text)


@pytest.mark.parametrize("row", document_rows(3), ids=lambda row: f"{row[1]} {row[0]}")
def test_a_night_of_the_document(row: list[str]) -> None:
    text, day, expected = row
    windows, noon = read_windows(text), at(f"{day} 00:00") - 12 * timedelta(hours=1)
    zone = ZoneInfo(windows.groups[0][0].zone)
    found = []
    for start, end in stretches(windows, noon, noon + DAY):
        # What the clock would show at the end had it not been changed there.
        first, last = start.astimezone(zone), (end - INSTANT).astimezone(zone)
        found.append(f"{first:%H:%M %Z} to {last + INSTANT:%H:%M} {last:%Z}")
    assert expected == (", ".join(found) or "closed")
