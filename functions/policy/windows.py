"""When installations may run: maintenance windows and black-outs, asked about one moment.

One rule decides everything: a window is open exactly while a wall clock in its zone shows a time inside it. Clock
changes need no rules of their own then. In spring the clock skips times: a window that starts or ends among them starts
or ends at the change. In autumn the clock shows an hour twice: a window is open in each pass while the clock shows its
times, and closed between.

Nothing here reads a clock: `now` is an argument. No question looks further ahead than HORIZON.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from heapq import merge

from functions.policy.zones import DAY, Span, between_changes, clocks, without_zone

WEEK = 7 * DAY


_MINUTE = timedelta(minutes=1)


# How far ahead opens() looks, and the end closes() gives for what does not close before. Longer than a year, so that
# every window that opens at all in a year is found, and far longer than any installation.
HORIZON = timedelta(days=400)


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


NTH = {"1st": 1, "2nd": 2, "3rd": 3, "4th": 4, "last": 0}


_NTH_NAMES = {number: name for name, number in NTH.items()}


@dataclass(frozen=True)
class Blackouts:
    """Whole local days in which nothing is open: spans in order that do not touch, and their text in one spelling.

    A clock that is set back just after midnight shows the evening before again; the black-out goes on through it.
    """

    spans: tuple[Span, ...] = ()
    text: str = ""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Computed once, as that of Windows."""
        return hash(self.spans)

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
            day += DAY

    def __str__(self) -> str:
        if len(self.weekdays) == len(WEEKDAYS):
            return "daily"
        runs: list[list[int]] = []
        for number in sorted(self.weekdays):
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return ",".join(_run_text([WEEKDAYS[number] for number in run]) for run in runs)


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
            first_weekday = month + (self.weekday - month.weekday()) % 7 * DAY
            # The 0th is a week before the 1st: the last one of the month before.
            day = first_weekday + (self.nth - 1) * WEEK + offset
            if day >= first:
                yield day
            month = (month + 31 * DAY).replace(day=1)

    def __str__(self) -> str:
        offset = f" {self.offset_days:+d}d" if self.offset_days else ""
        return f"{_NTH_NAMES[self.nth]} {WEEKDAYS[self.weekday]}{offset}"


@dataclass(frozen=True)
class Window:
    """Times on certain days in one zone. It belongs to the day it starts on, though it may end on the next."""

    days: Weekly | Monthly
    start: timedelta  # what the clock shows, counted from the day's midnight
    end: timedelta  # likewise, and above 24 hours when it is on the next day
    zone: str

    def spans(self, since: datetime, until: datetime) -> Iterator[Span]:
        """When it is open between two instants, in order. Neighbours may touch where days or years do."""
        for clock in clocks(self.zone, since, until):
            last_shown = without_zone(clock.end + clock.offset)
            for times in self._times_from(without_zone(clock.start + clock.offset).date() - DAY):
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
        """Whether it never closes. Otherwise its end would be sought through 400 days that touch."""
        return self.end - self.start == DAY and isinstance(self.days, Weekly) and len(self.days.weekdays) == 7

    def __str__(self) -> str:
        end = self.end if self.end <= DAY else self.end - DAY
        return f"{self.days} {_time_text(self.start)}-{_time_text(end)} {self.zone}"


@dataclass(frozen=True)
class Windows:
    """What has to hold at once: of each group some window is open. No group at all is `any`: always open."""

    groups: tuple[tuple[Window, ...], ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Computed once: a sweep asks about the same few windows for every machine."""
        return hash(self.groups)

    @cached_property
    def text(self) -> str:
        """In one spelling, each zone named. Of both() it is for people: 'and' is not part of the grammar."""
        return " and ".join("; ".join(map(str, group)) for group in self.groups) or "any"

    def shown(self, moment: datetime) -> str:
        """An instant for people: what a clock in the zone of the first window shows, and UTC."""
        return _shown(self, moment)

    def wall_clock(self, moment: datetime) -> datetime:
        """What a clock in the zone of the first window shows: a naive time."""
        utc = _instant(moment)
        return without_zone(utc + next(clocks(self.zone, utc, utc + DAY)).offset)

    @property
    def zone(self) -> str:
        """Of the first window; UTC where there is none."""
        return next((window.zone for group in self.groups for window in group), "UTC")

    def closes(self, now: datetime, blackouts: Blackouts = NO_BLACKOUTS) -> datetime | None:
        """The end of the open stretch that holds `now`, at most now + HORIZON; None when closed at `now`."""
        return _closes(self, now, blackouts)

    def minutes_left(self, now: datetime, blackouts: Blackouts = NO_BLACKOUTS) -> int:
        """How many whole minutes the open stretch that holds `now` still has; 0 when closed."""
        return _minutes_left(self, now, blackouts)

    def opens(self, now: datetime, blackouts: Blackouts = NO_BLACKOUTS) -> datetime | None:
        """The start of the next open stretch after `now` (and after the one that holds it); None within HORIZON."""
        return _opens(self, now, blackouts)

    def opens_for(self, least: timedelta, now: datetime, blackouts: Blackouts = NO_BLACKOUTS) -> bool:
        """Whether it is open for so long at one go, the rest of the stretch that holds `now` included, within HORIZON.

        `least` is above nought and far below HORIZON.
        """
        start, until = now if self.closes(now, blackouts) else self.opens(now, blackouts), _instant(now) + HORIZON
        while start and start < until:
            end = self.closes(start, blackouts)
            if end and end - start >= least:
                return True
            start = self.opens(start, blackouts)
        return False


ANY = Windows()


@lru_cache(maxsize=4096)  # a fleet has few such tags, and a value that is shared keeps its hash and text
def both(one: Windows, other: Windows) -> Windows:
    """Open only while both are: how a tag narrows a setting. It may be never, which opens() says."""
    return Windows(tuple(dict.fromkeys(one.groups + other.groups)))


@lru_cache(maxsize=4096)  # the answer is the same for all machines of a window
def _shown(windows: Windows, moment: datetime) -> str:
    utc, zone, local = _instant(moment), windows.zone, windows.wall_clock(moment)
    said = f"{_date_text(local)} {local:%H:%M} {zone}"
    if zone == "UTC":
        return said
    day = "" if utc.date() == local.date() else f"{WEEKDAYS[utc.weekday()]} "
    return f"{said}, {day}{utc:%H:%M} UTC"


@lru_cache(maxsize=4096)
def _closes(windows: Windows, now: datetime, blackouts: Blackouts) -> datetime | None:
    now = _instant(now)
    if blackouts.ends(now):
        return None
    ends = [_end_of_stretch(group, now) for group in windows.groups]
    if any(end == now for end in ends):
        return None
    return min([now + HORIZON, *ends, *filter(None, [blackouts.starts(now)])])


@lru_cache(maxsize=4096)
def _minutes_left(windows: Windows, now: datetime, blackouts: Blackouts) -> int:
    closes = _closes(windows, now, blackouts)
    return (closes - now) // _MINUTE if closes else 0


@lru_cache(maxsize=4096)
def _opens(windows: Windows, now: datetime, blackouts: Blackouts) -> datetime | None:
    now = _instant(now)
    since, until = windows.closes(now, blackouts) or now, now + HORIZON
    while since < until:
        moment = _first_open(windows, since, until)
        blackout_end = blackouts.ends(moment) if moment else None
        if blackout_end is None:
            return moment
        since = blackout_end
    return None


def _first_open(windows: Windows, since: datetime, until: datetime) -> datetime | None:
    """The first instant from `since` on at which all groups are open; None when there is none before `until`."""
    each = [window for group in windows.groups for window in group]
    weekly = all(isinstance(window.days, Weekly) for window in each)
    for start, end in between_changes({window.zone for window in each}, since, until):
        # As long as no clock changes, weekly windows repeat every week. Windows that never meet are found out soon.
        searched = min(end, start + WEEK) if weekly else end
        if moment := _all_open(windows.groups, start, searched):
            return moment
    return None


def _end_of_stretch(group: tuple[Window, ...], now: datetime) -> datetime:
    """The end of the stretch that holds `now`, over windows that overlap or touch; `now` itself when closed."""
    end = now
    for span in merge(*(window.spans(now, now + HORIZON) for window in group)):
        if span.start > end:
            break
        end = max(end, span.end)
    return end


def _all_open(groups: tuple[tuple[Window, ...], ...], since: datetime, until: datetime) -> datetime | None:
    """The first instant from `since` on at which all groups are open; None when there is none before `until`."""
    moment = since
    while moment < until:
        before = moment
        for group in groups:
            moment = _any_open(group, moment, until)
        if moment == before:  # every group is open there
            return moment
    return None


def _any_open(group: tuple[Window, ...], since: datetime, until: datetime) -> datetime:
    """The first instant from `since` on at which one of them is open; `until` when none is before."""
    firsts = (next(window.spans(since, until), None) for window in group)
    return min((span.start for span in firsts if span), default=until)


def _instant(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise ValueError(f"a time without a zone is ambiguous: {now.isoformat()}")
    return now.astimezone(UTC)


def _run_text(names: list[str]) -> str:
    return f"{names[0]}-{names[-1]}" if len(names) > 2 else ",".join(names)


def _date_text(moment: datetime) -> str:
    return f"{WEEKDAYS[moment.weekday()]} {moment:%Y-%m-%d}"


def _time_text(after_midnight: timedelta) -> str:
    minutes = int(after_midnight.total_seconds()) // 60
    return f"{minutes // 60:02}:{minutes % 60:02}"
