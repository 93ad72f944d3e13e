"""What the wall clocks of a time zone show, and when their offset from UTC changes."""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

DAY = timedelta(days=1)


# How finely a year is searched for changes of a zone's offset. The nearest two known are four weeks apart (Ramadan).
_STEP = DAY


class Span(NamedTuple):
    """From `start` up to, and without, `end`: two instants (UTC), or two times of one wall clock (naive)."""

    start: datetime
    end: datetime


class Clock(NamedTuple):
    """A span (two instants, UTC) in which a zone's offset from UTC stays the same."""

    start: datetime
    end: datetime
    offset: timedelta

    def when_shown(self, times: Span) -> Span | None:
        """The instants at which this clock shows these times; None when it never does."""
        start = max(times.start, without_zone(self.start + self.offset))
        end = min(times.end, without_zone(self.end + self.offset))
        if start >= end:
            return None
        return Span((start - self.offset).replace(tzinfo=UTC), (end - self.offset).replace(tzinfo=UTC))


def clocks(zone: str, since: datetime, until: datetime) -> Iterator[Clock]:
    """The time between two instants, cut where the zone's offset changes (and at each New Year)."""
    for year in range(since.year, until.year + 1):
        for start, end, offset in _clocks_of_year(zone, year):
            if end > since and start < until:
                yield Clock(max(start, since), min(end, until), offset)


def between_changes(zones: Collection[str], since: datetime, until: datetime) -> Iterator[Span]:
    """The time between two instants, cut where the offset of one of these zones changes (and at each New Year)."""
    start = since
    while start < until:
        end = min((next(clocks(zone, start, until)).end for zone in zones), default=until)
        yield Span(start, end)
        start = end


@lru_cache(maxsize=2048)
def _clocks_of_year(zone: str, year: int) -> tuple[Clock, ...]:
    """One year (UTC) of a zone.

    Cached, for it depends on the zone database alone: zoneinfo does not list the changes of a zone, so each day of the
    year is compared with the next, which takes a millisecond.
    """
    place = UTC if zone == "UTC" else ZoneInfo(zone)
    moment, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    starts = [moment]
    while moment < end:
        if _offset(place, moment + _STEP) != _offset(place, moment):
            starts.append(_change_after(place, moment))
        moment += _STEP
    ends = [*starts[1:], end]
    return tuple(Clock(one, two, _offset(place, one)) for one, two in zip(starts, ends, strict=True) if one < two)


def _change_after(place: tzinfo, moment: datetime) -> datetime:
    """The second at which the offset changes, at most _STEP after `moment`."""
    old = _offset(place, moment)
    seconds = range(int(_STEP.total_seconds()))
    changed = bisect_left(seconds, True, key=lambda second: _offset(place, moment + timedelta(seconds=second)) != old)
    return moment + timedelta(seconds=changed)


def _offset(place: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(place).utcoffset() or timedelta(0)


@lru_cache(maxsize=1)
def zone_names() -> Mapping[str, str]:
    """The names of zones that are accepted, by their lower-cased spelling. Without a zone database, UTC alone.

    Cached, for it depends on the zone database alone, whose hundreds of files take some 40 ms to list.
    """
    places = (name for name in available_timezones() if "/" in name and not re.match(r"Etc/GMT.*\d", name))
    return {name.lower(): name for name in (*places, "UTC")}


def without_zone(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)
