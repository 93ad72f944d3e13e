"""Maintenance windows and black-outs, read from text.

Nothing is guessed: what cannot be read raises BadInput, whose one line says what is wrong, where, and what would be
right. Names that people misread are not accepted as zones: `EST` stays at UTC-5 in summer, `Etc/GMT+2` is UTC-2.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from typing import NamedTuple, NoReturn
from zoneinfo import available_timezones

from functions.model.text import BadInput, quoted
from functions.policy.windows import ANY, NTH, WEEKDAYS, Blackouts, Monthly, Weekly, Window, Windows
from functions.policy.zones import DAY, Span, clocks, zone_names

GRAMMAR = (
    "'any', or windows separated by ';', each days, times and zone, such as Sat,Sun 22:00-02:00 Europe/Paris; "
    "days are daily, Sat, Mon-Fri, 2nd Tue, last Sun or 2nd Tue +3d, separated by commas; "
    "times are HH:MM-HH:MM, 00:00-24:00 for the whole day; the zone is an IANA name, UTC when left out"
)


BLACKOUT_GRAMMAR = (
    "days and ranges of days separated by commas, then a zone, such as 2026-12-20..2027-01-05, 2026-11-27 "
    "Europe/Paris; UTC when the zone is left out; lists with zones of their own are separated by ';'"
)


_FULL_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


_WEEKDAY_NUMBERS = {
    name: number
    for number, names in enumerate(zip(map(str.lower, WEEKDAYS), _FULL_WEEKDAYS, strict=True))
    for name in names
}


# Four weeks are another nth weekday already.
_MAX_OFFSET_DAYS = 27


_TIMES = re.compile(r"(?<!\S)(\d{2}:\d{2})\s*-\s*(\d{2}:\d{2})(?!\S)", re.ASCII)


_RANGE = re.compile(r"([a-z]+)\s*-\s*([a-z]+)", re.ASCII | re.IGNORECASE)


_NTH_DAY = re.compile(r"(\w+)\s+([a-z]+)(?:\s*([+-])\s*(\d+)\s*d)?", re.ASCII | re.IGNORECASE)


_OFFSET = re.compile(r"[+-]\s*\d+\s*d$", re.ASCII | re.IGNORECASE)


_DATES = re.compile(r"([\d-]+)(?:\s*\.\.\s*([\d-]+))?(?:\s+(\S.*))?", re.ASCII)


def read_windows(text: str) -> Windows:
    """The windows of a text of GRAMMAR. Raises BadInput."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if not parts:
        raise BadInput("no window is given; write 'any', or one such as Sat 22:00-02:00 Europe/Paris")
    if [part.lower() for part in parts] == ["any"]:
        return ANY
    windows = (window for number, part in enumerate(parts, 1) for window in _window(part, f"window {number}"))
    return Windows((tuple(dict.fromkeys(windows)),))


def _window(part: str, what: str) -> Iterator[Window]:
    """The windows of one part, one for the weekdays and one for each nth weekday."""
    if part.lower() == "any":
        _wrong(part, what, "'any' stands beside other windows", "it alone, or the windows alone")
    times = _TIMES.search(part)
    if not times:
        _wrong(part, what, "it has no times", "days, times as HH:MM-HH:MM, and a zone: Sat 22:00-02:00 Europe/Paris")
    before, after = part[: times.start()].strip(), part[times.end() :].strip()
    if ":" in before or _TIMES.search(after):
        _wrong(part, what, "it has times twice", "';' between two windows")
    start, end = _times(times, part, what)
    zone = _zone(after, part, what)
    for days in _days(before, part, what):
        yield Window(days, start, end, zone)


def _times(times: re.Match[str], part: str, what: str) -> tuple[timedelta, timedelta]:
    start, end = (_time_of_day(text, part, what) for text in times.groups())
    if start == DAY:
        _wrong(part, what, "it starts at 24:00", "00:00 and the day after; 24:00 is an end only")
    if start == end:
        _wrong(part, what, f"it ends when it starts, at {times[1]}", "two times, or 00:00-24:00 for the whole day")
    return start, end if end > start else end + DAY


def _time_of_day(text: str, part: str, what: str) -> timedelta:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        _wrong(part, what, f"'{text}' is no time of day", "HH:MM from 00:00 to 24:00")
    return timedelta(hours=hours, minutes=minutes)


def _days(text: str, part: str, what: str) -> list[Weekly | Monthly]:
    if not text:
        _wrong(part, what, "it has no days", "daily, Sat, Mon-Fri or 2nd Tue before the times")
    items = [item.strip() for item in text.split(",")]
    weekdays = frozenset(number for item in items if not _NTH_DAY.fullmatch(item) for number in _week(item, part, what))
    monthly = [_nth(match, part, what) for match in map(_NTH_DAY.fullmatch, items) if match]
    return [*([Weekly(weekdays)] if weekdays else []), *monthly]


def _week(item: str, part: str, what: str) -> set[int]:
    """The weekdays of `daily`, `Sat` or `Mon-Fri`; a range may go over Sunday."""
    if item.lower() == "daily":
        return set(range(7))
    if _OFFSET.search(item):
        _wrong(part, what, f"{quoted(item)} has an offset", "one only after an nth weekday, such as 2nd Tue +3d")
    ends = _RANGE.fullmatch(item)
    if not ends:
        return {_weekday(item, part, what)}
    first, last = (_weekday(name, part, what) for name in ends.groups())
    if first == last:
        _wrong(part, what, f"{quoted(item)} begins and ends on one day", "that day alone, or daily")
    return {(first + day) % 7 for day in range((last - first) % 7 + 1)}


def _weekday(name: str, part: str, what: str) -> int:
    number = _WEEKDAY_NUMBERS.get(name.lower())
    if not name:
        _wrong(part, what, "a comma has no day beside it", "days such as Sat,Sun")
    if number is None:
        _wrong(
            part, what, f"{quoted(name)} is no day", "daily, Sat, Mon-Fri, 2nd Tue or 2nd Tue +3d, separated by commas"
        )
    return number


def _nth(match: re.Match[str], part: str, what: str) -> Monthly:
    nth = NTH.get(match[1].lower())
    if nth is None:
        _wrong(
            part, what, f"{quoted(match[1])} before '{match[2]}' is unknown", "1st, 2nd, 3rd, 4th or last, or a comma"
        )
    weekday = _weekday(match[2], part, what)
    if match[4] and not (len(match[4]) < 3 and 1 <= int(match[4]) <= _MAX_OFFSET_DAYS):
        _wrong(
            part,
            what,
            f"'{match[3]}{match[4][:9]}d' is no offset",
            f"1 to {_MAX_OFFSET_DAYS} days, such as +3d or -2d",
        )
    return Monthly(nth, weekday, int(f"{match[3]}{match[4]}") if match[4] else 0)


def _zone(text: str, part: str, what: str) -> str:
    """The zone as IANA spells it; UTC when none is given."""
    zones = zone_names()
    if not text or text.lower() in zones:
        return zones[text.lower() or "utc"]
    if len(zones) == 1:
        _wrong(part, what, "the zone database (package tzdata) is missing", "UTC until it is installed")
    unclear = text.lower() in map(str.lower, available_timezones())
    problem = "is a zone that is easily misread" if unclear else "is no zone"
    _wrong(part, what, f"{quoted(text)} {problem}", f"{_likely_zone(text, zones)}, or UTC")


def _likely_zone(text: str, zones: dict[str, str]) -> str:
    """The zone that was probably meant: of that city, or of nearly that spelling."""
    wanted = text.lower().replace(" ", "_")
    places = {
        lowered: name for lowered, name in sorted(zones.items()) if "/" in name and not lowered.startswith("etc/")
    }
    of_city = [name for lowered, name in places.items() if lowered.endswith(f"/{wanted}")]
    like = [places[lowered] for lowered in get_close_matches(wanted, places, n=1, cutoff=0.8)]
    return [*of_city, *like, "an IANA name such as Europe/Paris"][0]


def read_blackouts(text: str) -> Blackouts:
    """The black-outs of a text of BLACKOUT_GRAMMAR; none when it is empty. Raises BadInput."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    lists = [_blackout(part, f"black-out {number}") for number, part in enumerate(parts, 1)]
    spans = sorted(span for list_ in lists for dates in list_.dates if (span := _whole_days(*dates, list_.zone)))
    return Blackouts(tuple(_joined(spans)), "; ".join(map(str, lists)))


class _Dates(NamedTuple):
    """First and last days, and the zone whose days they are."""

    dates: list[tuple[date, date]]
    zone: str

    def __str__(self) -> str:
        dates = (f"{first}" if first == last else f"{first}..{last}" for first, last in self.dates)
        return f"{', '.join(dates)} {self.zone}"


def _blackout(part: str, what: str) -> _Dates:
    items = [item.strip() for item in part.split(",")]
    matches = [_DATES.fullmatch(item) or _no_date(item, part, what) for item in items]
    for match in matches[:-1]:
        if match[3]:
            right = "the zone after the last day, or ';' before the next list"
            _wrong(part, what, f"{quoted(match[3])} stands before other days", right)
    zone = matches[-1][3] or ""
    if re.search(r"\d-\d|\d:\d", zone):
        right = "2026-12-20..2027-01-05 for a range, commas between days; black-outs are of whole days"
        _wrong(part, what, f"{quoted(zone)} after a day is no zone", right)
    return _Dates([_first_and_last(match, part, what) for match in matches], _zone(zone, part, what))


def _no_date(item: str, part: str, what: str) -> NoReturn:
    problem = f"{quoted(item)} is no day" if item else "a comma has no day beside it"
    _wrong(part, what, problem, "2026-12-20 or 2026-12-20..2027-01-05, and the zone after the last")


def _first_and_last(match: re.Match[str], part: str, what: str) -> tuple[date, date]:
    first, last = (_date(text, part, what) for text in (match[1], match[2] or match[1]))
    if last < first:
        _wrong(part, what, f"it ends on {last}, before it begins", f"{last}..{first}")
    return first, last


def _date(text: str, part: str, what: str) -> date:
    try:
        day = date.fromisoformat(text if len(text) == 10 else "")
    except ValueError:
        day = date.min
    if not 2000 <= day.year < 2200:
        _wrong(part, what, f"{quoted(text)} is no day from 2000 to 2199", "year, month and day as in 2026-12-20")
    return day


def _whole_days(first: date, last: date, zone: str) -> Span | None:
    """From when the clock first shows the first day until it last shows the last one; None when it never does."""
    days = Span(datetime.combine(first, time.min), datetime.combine(last + DAY, time.min))
    since, until = days.start.replace(tzinfo=UTC) - 2 * DAY, days.end.replace(tzinfo=UTC) + 2 * DAY
    spans = [span for clock in clocks(zone, since, until) if (span := clock.when_shown(days))]
    return Span(spans[0].start, spans[-1].end) if spans else None


def _joined(spans: list[Span]) -> list[Span]:
    """Spans in order, those that overlap or touch as one."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def _wrong(part: str, what: str, problem: str, right: str) -> NoReturn:
    raise BadInput(f"{what} {quoted(part)}: {problem}; write {right}")
