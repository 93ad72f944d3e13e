"""Datetimes and timespans: counts of 100-nanosecond ticks, as in Kusto; of a datetime since the year 1."""

import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.numbers import integer_of_digits, refuse_digits, within_64_bits

TICKS_PER_SECOND = 10_000_000
_TICKS_PER_DAY = 86_400 * TICKS_PER_SECOND
_TICKS_PER_UNIT = {
    "d": _TICKS_PER_DAY,
    "h": 3_600 * TICKS_PER_SECOND,
    "m": 60 * TICKS_PER_SECOND,
    "s": TICKS_PER_SECOND,
    "ms": TICKS_PER_SECOND // 1_000,
}
_FURTHEST_ZONE_MINUTES = 14 * 60  # the offset of a .NET time
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?)?"
    r"(?:Z|([+-])(\d\d):(\d\d))?"
)


# ---- datetime


def ticks_of(moment: datetime) -> int:
    """The ticks of an aware Python datetime."""
    if moment.tzinfo is None:
        raise ValueError("a time without a time zone")
    since = moment.astimezone(UTC) - datetime(1, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) * 10


@lru_cache(maxsize=65_536)
def ticks_of_text(text: str) -> int | None:
    """The ticks of ISO text; null for text without a digit or with an impossible date.

    Kusto reads several other notations. A text that might be one of them is refused rather than called null.
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        refuse_digits(text, "a datetime")
        return None
    year, month, day, hour, minute, second, fraction, sign, ahead_hours, ahead_minutes = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - 1
    except ValueError:
        return None
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    ahead = int(ahead_hours) * 60 + int(ahead_minutes) if sign else 0
    if ahead > _FURTHEST_ZONE_MINUTES:
        raise Unsupported(f"the time zone of '{text}'")
    ahead_seconds = ahead * 60 * (-1 if sign == "-" else 1)
    total_seconds = days * 86_400 + hours * 3_600 + minutes * 60 + seconds - ahead_seconds
    return within_calendar(total_seconds * TICKS_PER_SECOND + int((fraction or "").ljust(7, "0")))


def within_calendar(ticks: int) -> int:
    if not 0 <= ticks < date.max.toordinal() * _TICKS_PER_DAY:
        raise Unsupported("a time outside the years 1 to 9999")
    return ticks


def text_of_ticks(ticks: int) -> str:
    """ISO text with seven digits and Z, as Resource Graph's object array gives it."""
    days, rest = divmod(ticks, _TICKS_PER_DAY)
    seconds, fraction = divmod(rest, TICKS_PER_SECOND)
    clock = f"{seconds // 3_600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{_text_of_day(days)}T{clock}.{fraction:07d}Z"


@lru_cache(maxsize=512)  # the times of an answer are of few days
def _text_of_day(days: int) -> str:
    return date.fromordinal(days + 1).isoformat()


# ---- timespan

_SPAN = re.compile(r"(-?)(\d+)(?:\.(\d{1,7}))?(ms|[dhms])")
_CLOCK = re.compile(r"(-?)(?:(\d{1,8})\.)?(\d\d?):(\d\d)(?::(\d\d)(?:\.(\d{1,7}))?)?")


def ticks_of_span(text: str) -> int:
    """The ticks of a literal such as 7d, 1.5h or 01:30:00."""
    match = _SPAN.fullmatch(text)
    ticks = None
    if match:
        sign, whole, fraction, unit = match.groups()
        digits = (fraction or "").ljust(7, "0")
        size = _TICKS_PER_UNIT[unit]
        ticks = within_64_bits(integer_of_digits(whole) * size + int(digits) * size // TICKS_PER_SECOND)
        ticks = -ticks if sign else ticks
    else:
        ticks = ticks_of_clock(text)
    if ticks is None:
        raise Unsupported(f"the time span '{text}'")
    return ticks


@lru_cache(maxsize=4_096)
def ticks_of_clock(text: str) -> int | None:
    """The ticks of [-][d.]hh:mm[:ss[.f]]; null for text without a digit."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        refuse_digits(text, "a timespan")
        return None
    sign, days, hours, minutes, seconds, fraction = match.groups()
    if int(hours) > 23 or int(minutes) > 59 or int(seconds or 0) > 59:
        raise Unsupported(f"reading the text '{text}' as a timespan")
    total = (int(days or 0) * 24 + int(hours)) * 3_600 + int(minutes) * 60 + int(seconds or 0)
    ticks = total * TICKS_PER_SECOND + int((fraction or "").ljust(7, "0"))
    return -ticks if sign else ticks


def text_of_timespan(ticks: int) -> str:
    """Text as .NET's constant format has it: [-][d.]hh:mm:ss[.fffffff]."""
    days, rest = divmod(abs(ticks), _TICKS_PER_DAY)
    seconds, fraction = divmod(rest, TICKS_PER_SECOND)
    clock = f"{seconds // 3_600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    sign, whole, part = "-" if ticks < 0 else "", f"{days}." if days else "", f".{fraction:07d}" if fraction else ""
    return f"{sign}{whole}{clock}{part}"


# ---- calendar


def start_of_day(ticks: int) -> int:
    return ticks - ticks % _TICKS_PER_DAY


def start_of_week(ticks: int) -> int:
    """The Sunday before."""
    days = ticks // _TICKS_PER_DAY
    return within_calendar((days - (days + 1) % 7) * _TICKS_PER_DAY)


def start_of_month(ticks: int) -> int:
    return ticks_of_day(_day_of(ticks).replace(day=1))


def start_of_year(ticks: int) -> int:
    return ticks_of_day(_day_of(ticks).replace(month=1, day=1))


def months_later(ticks: int, months: int) -> int:
    """The same day of another month, or its last one."""
    day = _day_of(ticks)
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise Unsupported("a time outside the years 1 to 9999")
    last = monthrange(year, month + 1)[1]
    return ticks_of_day(date(year, month + 1, min(day.day, last))) + ticks % _TICKS_PER_DAY


def ticks_of_day(day: date) -> int:
    return (day.toordinal() - 1) * _TICKS_PER_DAY


def _day_of(ticks: int) -> date:
    return date.fromordinal(ticks // _TICKS_PER_DAY + 1)
