"""When installations may run: maintenance windows and black-outs, read from text and asked about one moment.

One rule decides everything: a window is open exactly while a wall clock in its zone shows a time inside it. Clock
changes need no rules of their own then. In spring the skipped times never show, so a start or an end among them falls
on the change; in autumn the repeated times show twice, so both passes of an hour inside a window are open, and a window
that starts or ends among them is open in each pass only while the clock shows its times, and closed between.

Nothing here reads a clock: `now` is an argument. Nothing is guessed: what cannot be read raises BadInput, whose one
line says what is wrong, where, and what would be right. Names that people misread are no zones here: `EST` stays at
UTC-5 in summer, `Etc/GMT+2` is UTC-2. Nothing is looked at further ahead than HORIZON.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from heapq import merge
from typing import NamedTuple, NoReturn
from zoneinfo import ZoneInfo, available_timezones

from functions.machine import BadInput, shown

GRAMMAR = (
    "'any', or windows separated by ';', each days, times and zone, such as Sat,Sun 22:00-02:00 Europe/Paris; "
    "days are daily, Sat, Mon-Fri, 2nd Tue, last Sun or 2nd Tue +3d, separated by commas; "
    "times are HH:MM-HH:MM, 00:00-24:00 for the whole day; the zone is an IANA name, UTC when left out"
)
BLACKOUT_GRAMMAR = (
    "days and ranges of days separated by commas, then a zone, such as 2026-12-20..2027-01-05, 2026-11-27 "
    "Europe/Paris; UTC when the zone is left out; lists with zones of their own are separated by ';'"
)
# How far ahead opens() looks, and the end closes() gives for what does not close before. Longer than a year, so that
# every window that opens at all in a year is found, and far longer than any installation.
HORIZON = timedelta(days=400)

_DAY = timedelta(days=1)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FULL_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY_NUMBERS = {
    name: number
    for number, names in enumerate(zip(map(str.lower, _WEEKDAYS), _FULL_WEEKDAYS, strict=True))
    for name in names
}
_NTH = {"1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "last": 0}
_NTH_NAMES = {number: name for name, number in _NTH.items()}
# Four weeks are another nth weekday already.
_MOST_OFFSET_DAYS = 27
_TIMES = re.compile(r"(?<!\S)(\d{2}:\d{2})\s*-\s*(\d{2}:\d{2})(?!\S)", re.ASCII)
_RANGE = re.compile(r"([a-z]+)\s*-\s*([a-z]+)", re.ASCII | re.IGNORECASE)
_NTH_DAY = re.compile(r"(\w+)\s+([a-z]+)(?:\s*([+-])\s*(\d+)\s*d)?", re.ASCII | re.IGNORECASE)
_OFFSET = re.compile(r"[+-]\s*\d+\s*d$", re.ASCII | re.IGNORECASE)
_DATES = re.compile(r"([\d-]+)(?:\s*\.\.\s*([\d-]+))?(?:\s+(\S.*))?", re.ASCII)
# How finely a year is searched for changes of a zone's offset. The nearest two known are four weeks apart (Ramadan).
_STEP = _DAY


class Span(NamedTuple):
    """From `start` up to, and without, `end`: two instants (UTC), or two times of one wall clock (naive)."""

    start: datetime
    end: datetime


class _Clock(NamedTuple):
    """A time (two instants, UTC) through which a zone's offset from UTC stays the same."""

    start: datetime
    end: datetime
    offset: timedelta

    def when_shown(self, times: Span) -> Span | None:
        """The instants at which this clock shows these times; None when it never does."""
        start = max(times.start, _naive(self.start + self.offset))
        end = min(times.end, _naive(self.end + self.offset))
        if start >= end:
            return None
        return Span((start - self.offset).replace(tzinfo=UTC), (end - self.offset).replace(tzinfo=UTC))


# -- what the texts become


@dataclass(frozen=True)
class Blackouts:
    """Whole local days in which nothing is open: spans in order that do not touch, and the text as we would write it.

    A clock that is set back just after midnight shows the evening before again; the black-out goes on through it.
    """

    spans: tuple[Span, ...] = ()
    text: str = ""

    def ends(self, now: datetime) -> datetime | None:
        """The end of the black-out that `now` lies in, None when it lies in none."""
        return next((span.end for span in self.spans if span.start <= now < span.end), None)

    def starts(self, now: datetime) -> datetime | None:
        """The start of the next black-out after `now`, None when there is none."""
        return next((span.start for span in self.spans if span.start > now), None)


NO_BLACKOUTS = Blackouts()


@dataclass(frozen=True)
class Weekly:
    """Days of the week, Monday being 0."""

    weekdays: frozenset[int]

    def since(self, first: date) -> Iterator[date]:
        """These days from `first` on, in order, without end."""
        day = first
        while True:
            if day.weekday() in self.weekdays:
                yield day
            day += _DAY

    def __str__(self) -> str:
        if len(self.weekdays) == len(_WEEKDAYS):
            return "daily"
        runs: list[list[int]] = []
        for number in sorted(self.weekdays):
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return ",".join(_run_text([_WEEKDAYS[number] for number in run]) for run in runs)


@dataclass(frozen=True)
class Monthly:
    """The nth (0: the last) weekday of each month, some days later or earlier."""

    nth: int
    weekday: int
    offset_days: int = 0

    def since(self, first: date) -> Iterator[date]:
        """These days from `first` on, in order, without end."""
        offset = timedelta(days=self.offset_days)
        month = (first - offset).replace(day=1)
        while True:
            first_weekday = month + (self.weekday - month.weekday()) % 7 * _DAY
            # The 0th is a week before the 1st: the last one of the month before.
            day = first_weekday + (self.nth - 1) * 7 * _DAY + offset
            if day >= first:
                yield day
            month = (month + 31 * _DAY).replace(day=1)

    def __str__(self) -> str:
        offset = f" {self.offset_days:+d}d" if self.offset_days else ""
        return f"{_NTH_NAMES[self.nth]} {_WEEKDAYS[self.weekday]}{offset}"


@dataclass(frozen=True)
class Window:
    """Times on certain days in one zone. It belongs to the day it starts on, though it may end on the next."""

    days: Weekly | Monthly
    start: timedelta  # what the clock shows, counted from the day's midnight
    end: timedelta  # likewise, and above 24 hours when it is on the next day
    zone: str

    def spans(self, since: datetime, until: datetime) -> Iterator[Span]:
        """When it is open between two instants, in order. Neighbours may touch where days or years do."""
        for clock in _clocks(self.zone, since, until):
            last_shown = _naive(clock.end + clock.offset)
            for times in self._times_from(_naive(clock.start + clock.offset).date() - _DAY):
                if times.start >= last_shown:
                    break
                if span := clock.when_shown(times):
                    yield span

    def _times_from(self, first: date) -> Iterator[Span]:
        """Its times on the days from `first` on, as the wall clock shows them, in order, without end."""
        if self._is_always:
            yield Span(datetime.combine(first, time.min), datetime.combine(date.max, time.min))
            return
        for day in self.days.since(first):
            midnight = datetime.combine(day, time.min)
            yield Span(midnight + self.start, midnight + self.end)

    @property
    def _is_always(self) -> bool:
        """Whether it never closes: worth knowing, since each look would go through 400 days that touch."""
        return self.end - self.start == _DAY and isinstance(self.days, Weekly) and len(self.days.weekdays) == 7

    def __str__(self) -> str:
        end = self.end if self.end <= _DAY else self.end - _DAY
        return f"{self.days} {_time_text(self.start)}-{_time_text(end)} {self.zone}"


@dataclass(frozen=True)
class Windows:
    """What has to hold at once: of each group some window is open. No group at all is `any`: always open."""

    groups: tuple[tuple[Window, ...], ...] = ()

    @property
    def text(self) -> str:
        """As we would write it, each zone named. Of both() it is for people: 'and' is not part of the grammar."""
        return " and ".join("; ".join(map(str, group)) for group in self.groups) or "any"

    def closes(self, now: datetime, blackouts: Blackouts = NO_BLACKOUTS) -> datetime | None:
        """The end of the open stretch that holds `now`, at most now + HORIZON; None when closed at `now`."""
        now = _instant(now)
        if blackouts.ends(now):
            return None
        ends = [_end_of_stretch(group, now) for group in self.groups]
        if any(end == now for end in ends):
            return None
        return min([now + HORIZON, *ends, *filter(None, [blackouts.starts(now)])])

    def opens(self, now: datetime, blackouts: Blackouts = NO_BLACKOUTS) -> datetime | None:
        """The start of the next open stretch after `now` (and after the one that holds it); None within HORIZON."""
        now = _instant(now)
        if end := self.closes(now, blackouts):
            return self._first(end, now + HORIZON, blackouts)
        known = _closed_until.get((self, blackouts))
        if known is None or not known.asked <= now < known.until:
            opens = self._first(now, now + HORIZON, blackouts)
            known = _Closed(now, opens or now + _DAY, opens)
            if len(_closed_until) >= _CLOSED_KEPT:
                _closed_until.clear()
            _closed_until[self, blackouts] = known
        return known.opens

    def _first(self, moment: datetime, horizon: datetime, blackouts: Blackouts) -> datetime | None:
        """The first instant from `moment` on at which all are open and no black-out is; None before `horizon`."""
        while moment < horizon:
            # Each step goes to the latest of what is waited for, so nothing that is open for all is stepped over.
            starts = [_first_open(group, moment, horizon) for group in self.groups]
            later = max([moment, *starts, *filter(None, [blackouts.ends(moment)])])
            if later == moment:
                return moment
            moment = later
        return None


class _Closed(NamedTuple):
    """What opens() found when asked while closed. It stays so until then; "never" is looked for again after a day."""

    asked: datetime
    until: datetime
    opens: datetime | None


# Remembered: a sweep asks for every machine that waits, and two windows that never meet are 400 days to look through.
_closed_until: dict[tuple[Windows, Blackouts], _Closed] = {}
_CLOSED_KEPT = 1000

ANY = Windows()


def both(one: Windows, other: Windows) -> Windows:
    """Open only while both are: how a tag narrows a setting. It may be never, which opens() says."""
    return Windows(tuple(dict.fromkeys(one.groups + other.groups)))


# -- asking


def _end_of_stretch(group: tuple[Window, ...], now: datetime) -> datetime:
    """The end of the stretch that holds `now`, over windows that overlap or touch; `now` itself when closed."""
    end = now
    for span in merge(*(window.spans(now, now + HORIZON) for window in group)):
        if span.start > end:
            break
        end = max(end, span.end)
    return end


def _first_open(group: tuple[Window, ...], since: datetime, until: datetime) -> datetime:
    """The first instant from `since` on at which one of them is open; `until` when none is before."""
    firsts = (next(window.spans(since, until), None) for window in group)
    return min((span.start for span in firsts if span), default=until)


def _instant(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError(f"a moment without a zone says nothing: {now.isoformat()}")
    return now.astimezone(UTC)


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


# -- zones: what their clocks show


def _clocks(zone: str, since: datetime, until: datetime) -> Iterator[_Clock]:
    """The time between two instants, cut where the zone's offset changes (and at New Year, where nothing does)."""
    for year in range(since.year, until.year + 1):
        for start, end, offset in _clocks_of_year(zone, year):
            if end > since and start < until:
                yield _Clock(max(start, since), min(end, until), offset)


@lru_cache(maxsize=2048)
def _clocks_of_year(zone: str, year: int) -> tuple[_Clock, ...]:
    """One year (UTC) of a zone. Remembered: zoneinfo does not tell its changes, and the search for them is slow."""
    place = UTC if zone == "UTC" else ZoneInfo(zone)
    moment, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    starts = [moment]
    while moment < end:
        if _offset(place, moment + _STEP) != _offset(place, moment):
            starts.append(_change_after(place, moment))
        moment += _STEP
    ends = [*starts[1:], end]
    return tuple(_Clock(one, two, _offset(place, one)) for one, two in zip(starts, ends, strict=True) if one < two)


def _change_after(place: tzinfo, moment: datetime) -> datetime:
    """The second at which the offset changes, at most _STEP after `moment`."""
    old = _offset(place, moment)
    seconds = range(int(_STEP.total_seconds()))
    changed = bisect_left(seconds, True, key=lambda second: _offset(place, moment + timedelta(seconds=second)) != old)
    return moment + timedelta(seconds=changed)


def _offset(place: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(place).utcoffset() or timedelta(0)


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """The names of zones that are taken, by their lower-cased spelling. Without a database of zones UTC alone."""
    places = (name for name in available_timezones() if "/" in name and not re.match(r"Etc/GMT.*\d", name))
    return {name.lower(): name for name in (*places, "UTC")}


# -- reading windows


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
    if start == _DAY:
        _wrong(part, what, "it starts at 24:00", "00:00 and the day after; 24:00 is an end only")
    if start == end:
        _wrong(part, what, f"it ends when it starts, at {times[1]}", "two times, or 00:00-24:00 for the whole day")
    return start, end if end > start else end + _DAY


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
        _wrong(part, what, f"{shown(item)} has an offset", "one only after an nth weekday, such as 2nd Tue +3d")
    ends = _RANGE.fullmatch(item)
    if not ends:
        return {_weekday(item, part, what)}
    first, last = (_weekday(name, part, what) for name in ends.groups())
    if first == last:
        _wrong(part, what, f"{shown(item)} begins and ends on one day", "that day alone, or daily")
    return {(first + day) % 7 for day in range((last - first) % 7 + 1)}


def _weekday(name: str, part: str, what: str) -> int:
    number = _WEEKDAY_NUMBERS.get(name.lower())
    if not name:
        _wrong(part, what, "a comma has no day beside it", "days such as Sat,Sun")
    if number is None:
        _wrong(
            part, what, f"{shown(name)} is no day", "daily, Sat, Mon-Fri, 2nd Tue or 2nd Tue +3d, separated by commas"
        )
    return number


def _nth(match: re.Match[str], part: str, what: str) -> Monthly:
    nth = _NTH.get(match[1].lower())
    if nth is None:
        _wrong(
            part, what, f"{shown(match[1])} before '{match[2]}' is unknown", "1st, 2nd, 3rd, 4th or last, or a comma"
        )
    weekday = _weekday(match[2], part, what)
    if match[4] and not (len(match[4]) < 3 and 1 <= int(match[4]) <= _MOST_OFFSET_DAYS):
        _wrong(
            part,
            what,
            f"'{match[3]}{match[4][:9]}d' is no offset",
            f"1 to {_MOST_OFFSET_DAYS} days, such as +3d or -2d",
        )
    return Monthly(nth, weekday, int(f"{match[3]}{match[4]}") if match[4] else 0)


def _zone(text: str, part: str, what: str) -> str:
    """The zone as IANA spells it; UTC when none is given."""
    zones = _zones()
    if not text or text.lower() in zones:
        return zones[text.lower() or "utc"]
    if len(zones) == 1:
        _wrong(part, what, "the zone database (package tzdata) is missing", "UTC until it is installed")
    unclear = text.lower() in map(str.lower, available_timezones())
    problem = "is a zone that is easily misread" if unclear else "is no zone"
    _wrong(part, what, f"{shown(text)} {problem}", f"{_likely_zone(text, zones)}, or UTC")


def _likely_zone(text: str, zones: dict[str, str]) -> str:
    """The zone that was probably meant: of that city, or of nearly that spelling."""
    wanted = text.lower().replace(" ", "_")
    places = {
        lowered: name for lowered, name in sorted(zones.items()) if "/" in name and not lowered.startswith("etc/")
    }
    of_city = [name for lowered, name in places.items() if lowered.endswith(f"/{wanted}")]
    like = [places[lowered] for lowered in get_close_matches(wanted, places, n=1, cutoff=0.8)]
    return [*of_city, *like, "an IANA name such as Europe/Paris"][0]


# -- reading black-outs


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
            _wrong(part, what, f"{shown(match[3])} stands before other days", right)
    zone = matches[-1][3] or ""
    if re.search(r"\d-\d|\d:\d", zone):
        right = "2026-12-20..2027-01-05 for a range, commas between days; black-outs are of whole days"
        _wrong(part, what, f"{shown(zone)} after a day is no zone", right)
    return _Dates([_first_and_last(match, part, what) for match in matches], _zone(zone, part, what))


def _no_date(item: str, part: str, what: str) -> NoReturn:
    problem = f"{shown(item)} is no day" if item else "a comma has no day beside it"
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
        _wrong(part, what, f"{shown(text)} is no day from 2000 to 2199", "year, month and day as in 2026-12-20")
    return day


def _whole_days(first: date, last: date, zone: str) -> Span | None:
    """From when the clock first shows the first day until it last shows the last one; None when it never does."""
    days = Span(datetime.combine(first, time.min), datetime.combine(last + _DAY, time.min))
    since, until = days.start.replace(tzinfo=UTC) - 2 * _DAY, days.end.replace(tzinfo=UTC) + 2 * _DAY
    spans = [span for clock in _clocks(zone, since, until) if (span := clock.when_shown(days))]
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


# -- spelling


def _wrong(part: str, what: str, problem: str, right: str) -> NoReturn:
    raise BadInput(f"{what} {shown(part)}: {problem}; write {right}")


def _run_text(names: list[str]) -> str:
    return f"{names[0]}-{names[-1]}" if len(names) > 2 else ",".join(names)


def _time_text(after_midnight: timedelta) -> str:
    minutes = int(after_midnight.total_seconds()) // 60
    return f"{minutes // 60:02}:{minutes % 60:02}"
