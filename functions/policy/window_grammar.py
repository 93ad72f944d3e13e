"""Maintenance windows and black-outs, read from text.

Nothing is guessed: what cannot be read raises BadInput, whose one line says what is wrong, where, and what would be
right. Names that people misread are not accepted as zones: `EST` stays at UTC-5 in summer, `Etc/GMT+2` is UTC-2.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple, NoReturn
from zoneinfo import available_timezones

from functions.model.text import BadInput, quoted
from functions.policy.windows import ANY, NTH, WEEKDAYS, Blackouts, Monthly, Weekly, Window, Windows
from functions.policy.windows_zones import PLACES
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


# Four weeks later is another nth weekday.
_MAX_OFFSET_DAYS = 27


_TIMES = re.compile(r"(?<!\S)(\d{2}:\d{2})\s*-\s*(\d{2}:\d{2})(?!\S)", re.ASCII)


_WEEKDAY_RANGE = re.compile(r"([a-z]+)\s*-\s*([a-z]+)", re.ASCII | re.IGNORECASE)


_NTH_WEEKDAY = re.compile(r"(\w+)\s+([a-z]+)(?:\s*([+-])\s*(\d+)\s*d)?", re.ASCII | re.IGNORECASE)


_OFFSET = re.compile(r"[+-]\s*\d+\s*d$", re.ASCII | re.IGNORECASE)


_DATES = re.compile(r"([\d-]+)(?:\s*\.\.\s*([\d-]+))?(?:\s+(\S.*))?", re.ASCII)


def short(text: str) -> str:
    """What a refusal shows of a text: enough to find it, so that the line says in 200 characters what is right."""
    return quoted(text, limit=24)


class _Part(NamedTuple):
    """One of the parts that ';' separates, and what a refusal calls it: window 2."""

    text: str
    label: str

    def refuse(self, problem: str, right: str) -> NoReturn:
        raise BadInput(f"{self.label} {short(self.text)}: {problem}; write {right} (docs/windows.md)")


def read_windows(text: str) -> Windows:
    """The windows of a text of GRAMMAR. Raises BadInput."""
    parts = _parts(text, "window")
    if not parts:
        raise BadInput("no window is given; write 'any', or one such as Sat 22:00-02:00 Europe/Paris")
    if [part.text.lower() for part in parts] == ["any"]:
        return ANY
    windows = (window for part in parts for window in _read_window(part))
    return Windows((tuple(dict.fromkeys(windows)),))


def _parts(text: str, label: str) -> list[_Part]:
    texts = [part.strip() for part in text.split(";") if part.strip()]
    return [_Part(text, f"{label} {number}") for number, text in enumerate(texts, 1)]


def _read_window(part: _Part) -> Iterator[Window]:
    """The windows of one part, one for the weekdays and one for each nth weekday."""
    if part.text.lower() == "any":
        part.refuse("'any' is combined with other windows", "it alone, or the windows alone")
    times = _TIMES.search(part.text)
    if not times:
        part.refuse("it has no times", "days, times as HH:MM-HH:MM, and a zone: Sat 22:00-02:00 Europe/Paris")
    before, after = part.text[: times.start()].strip(), part.text[times.end() :].strip()
    if ":" in before or _TIMES.search(after):
        part.refuse("it has times twice", "';' between two windows")
    start, end = _read_times(times, part)
    zone = _read_zone(after, part)
    for days in _read_days(before, part):
        yield Window(days, start, end, zone)


def _read_times(times: re.Match[str], part: _Part) -> tuple[timedelta, timedelta]:
    start, end = (_read_time_of_day(text, part) for text in times.groups())
    if start == DAY:
        part.refuse("it starts at 24:00", "00:00 and the day after; 24:00 is an end only")
    if start == end:
        part.refuse(f"it ends when it starts, at {times[1]}", "two times, or 00:00-24:00 for the whole day")
    return start, end if end > start else end + DAY


def _read_time_of_day(text: str, part: _Part) -> timedelta:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        part.refuse(f"'{text}' is not a time of day", "HH:MM from 00:00 to 24:00")
    return timedelta(hours=hours, minutes=minutes)


def _read_days(text: str, part: _Part) -> list[Weekly | Monthly]:
    """The days of one part: its weekdays together, then each nth weekday."""
    if not text:
        part.refuse("it has no days", "daily, Sat, Mon-Fri or 2nd Tue before the times")
    weekdays: set[int] = set()
    monthly: list[Monthly] = []
    for item in (item.strip() for item in text.split(",")):
        if match := _NTH_WEEKDAY.fullmatch(item):
            monthly.append(_read_nth_weekday(match, part))
        else:
            weekdays |= _read_weekdays(item, part)
    return [*([Weekly(frozenset(weekdays))] if weekdays else []), *monthly]


def _read_weekdays(item: str, part: _Part) -> set[int]:
    """The weekdays of `daily`, `Sat` or `Mon-Fri`; a range may go over Sunday."""
    if item.lower() == "daily":
        return set(range(7))
    if _OFFSET.search(item):
        part.refuse(f"{short(item)} has an offset", "one only after an nth weekday, such as 2nd Tue +3d")
    ends = _WEEKDAY_RANGE.fullmatch(item)
    if not ends:
        return {_read_weekday(item, part)}
    first, last = (_read_weekday(name, part) for name in ends.groups())
    if first == last:
        part.refuse(f"{short(item)} begins and ends on one day", "that day alone, or daily")
    return {(first + day) % 7 for day in range((last - first) % 7 + 1)}


def _read_weekday(name: str, part: _Part) -> int:
    if not name:
        part.refuse("a comma has no day beside it", "days such as Sat,Sun")
    number = _WEEKDAY_NUMBERS.get(name.lower())
    if number is None:
        right = "daily, Sat, Mon-Fri, 2nd Tue or 2nd Tue +3d, separated by commas"
        part.refuse(f"{short(name)} is not a day", right)
    return number


def _read_nth_weekday(match: re.Match[str], part: _Part) -> Monthly:
    nth = NTH.get(match[1].lower())
    if nth is None:
        right = "1st, 2nd, 3rd, 4th or last, or a comma"
        part.refuse(f"{short(match[1])} before {short(match[2])} is unknown", right)
    weekday = _read_weekday(match[2], part)
    if match[4] and not (len(match[4]) < 3 and 1 <= int(match[4]) <= _MAX_OFFSET_DAYS):
        right = f"1 to {_MAX_OFFSET_DAYS} days, such as +3d or -2d"
        part.refuse(f"'{match[3]}{match[4][:9]}d' is not an offset", right)
    return Monthly(nth, weekday, int(f"{match[3]}{match[4]}") if match[4] else 0)


def _read_zone(text: str, part: _Part) -> str:
    """The zone as IANA spells it; UTC when none is given."""
    zones = zone_names()
    if not text or text.lower() in zones:
        return zones[text.lower() or "utc"]
    if len(zones) == 1:
        part.refuse("the zone database (package tzdata) is missing", "UTC until it is installed")
    misread = text.lower() in map(str.lower, available_timezones())
    problem = "is a zone that is easily misread" if misread else "is not a zone"
    if text.lower().endswith(" standard time") or text.lower() in PLACES:
        problem = "is a name that Windows gives a zone"
    part.refuse(f"{short(text)} {problem}", f"{_likely_zone(text, zones)}, or UTC")


def _likely_zone(text: str, zones: Mapping[str, str]) -> str:
    """The zone that was probably meant: of that Windows name, of that city, or of nearly that spelling."""
    from difflib import get_close_matches  # only a refusal needs it

    if (place := PLACES.get(text.lower(), "")).lower() in zones:
        return place
    wanted = text.lower().replace(" ", "_")
    places = {
        lowered: name for lowered, name in sorted(zones.items()) if "/" in name and not lowered.startswith("etc/")
    }
    of_city = [name for lowered, name in places.items() if lowered.endswith(f"/{wanted}")]
    like = [places[lowered] for lowered in get_close_matches(wanted, places, n=1, cutoff=0.8)]
    return [*of_city, *like, "an IANA name such as Europe/Paris"][0]


def read_blackouts(text: str) -> Blackouts:
    """The black-outs of a text of BLACKOUT_GRAMMAR; none when it is empty. Raises BadInput."""
    lists = [_read_dates(part) for part in _parts(text, "black-out")]
    spans = sorted(span for list_ in lists for dates in list_.dates if (span := _whole_days(*dates, list_.zone)))
    return Blackouts(tuple(_joined(spans)), "; ".join(map(str, lists)))


class _Dates(NamedTuple):
    """First and last days, and the zone whose days they are."""

    dates: list[tuple[date, date]]
    zone: str

    def __str__(self) -> str:
        dates = (f"{first}" if first == last else f"{first}..{last}" for first, last in self.dates)
        return f"{', '.join(dates)} {self.zone}"


def _read_dates(part: _Part) -> _Dates:
    items = [item.strip() for item in part.text.split(",")]
    matches = [_DATES.fullmatch(item) or _refuse_date(item, part) for item in items]
    for match in matches[:-1]:
        if match[3]:
            right = "the zone after the last day, or ';' before the next list"
            part.refuse(f"{short(match[3])} comes before other days", right)
    zone = matches[-1][3] or ""
    if re.search(r"\d-\d|\d:\d", zone):
        right = "2026-12-20..2027-01-05 for a range, commas between days"
        part.refuse(f"{short(zone)} after a day is not a zone", right)
    return _Dates([_read_first_and_last(match, part) for match in matches], _read_zone(zone, part))


def _refuse_date(item: str, part: _Part) -> NoReturn:
    problem = f"{short(item)} is not a day" if item else "a comma has no day beside it"
    part.refuse(problem, "2026-12-20 or 2026-12-20..2027-01-05, and the zone after the last")


def _read_first_and_last(match: re.Match[str], part: _Part) -> tuple[date, date]:
    first, last = (_read_date(text, part) for text in (match[1], match[2] or match[1]))
    if last < first:
        part.refuse(f"it ends on {last}, before it begins", f"{last}..{first}")
    return first, last


def _read_date(text: str, part: _Part) -> date:
    try:
        day = date.fromisoformat(text if len(text) == 10 else "")
    except ValueError:
        day = date.min
    if not 2000 <= day.year < 2200:
        part.refuse(f"{short(text)} is not a day from 2000 to 2199", "year, month and day as in 2026-12-20")
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
