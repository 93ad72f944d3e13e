"""Functions of datetimes and timespans, which are counts of ticks."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date

from simulator.resource_graph.kql import times
from simulator.resource_graph.kql.compiled import Compiled, Function, apply, constant, expect, unknown, wrong
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.syntax import Place

_PERIODS = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d"}
_LONGER_PERIODS = {"week": "7d", **_PERIODS}
# Where the parts of format_datetime() stand in a time as text_of_ticks() writes it, and what may stand between them.
_PLACES = {
    "yyyy": slice(0, 4),
    "yy": slice(2, 4),
    "MM": slice(5, 7),
    "dd": slice(8, 10),
    "HH": slice(11, 13),
    "mm": slice(14, 16),
    "ss": slice(17, 19),
}
_PARTS = re.compile(r"(?<![a-zA-Z])(?:yyyy|yy|MM|dd|HH|mm|ss)(?![a-zA-Z])|[ /\-:,._\[\]]")
_MONTHS = {"month": 1, "quarter": 3, "year": 12}


def _now(now_ticks: int, arguments: Sequence[Compiled], at: Place) -> Compiled:
    if arguments:
        raise unknown("now() with an offset", at)
    return constant("datetime", now_ticks)


def _ago(now_ticks: int, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect("ago", arguments, at, least=1, most=1)
    if arguments[0].type != "timespan":
        raise wrong(f"ago() of a {arguments[0].type}", at)
    return apply(
        lambda span: None if span is None else times.within_calendar(now_ticks - span), "datetime", arguments[0]
    )


OF_NOW: Mapping[str, Callable[[int, Sequence[Compiled], Place], Compiled]] = {"now": _now, "ago": _ago}


def _bin(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """Rounded down to a multiple of the size, which is a constant."""
    expect(name, arguments, at, least=2, most=2)
    value, size = arguments
    if (value.type, size.type) not in (("datetime", "timespan"), ("timespan", "timespan"), ("long", "long")):
        raise unknown(f"bin() of a {value.type} by a {size.type}", at)
    step = size.evaluate([]) if size.constant else None
    if not step or step < 0:
        raise unknown("bin() by nothing or by a computed size", at)
    return apply(lambda found: None if found is None else found - found % step, value.type, value)


def _period(name: str, period: Compiled, at: Place) -> str:
    if period.type != "string" or not period.constant:
        raise unknown(f"{name}() of that period", at)
    return str(period.evaluate([])).lower()  # public queries against Resource Graph write 'Hour' too


def _datetime_diff(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """The boundaries between the two: 23:59:59 and 00:00:01 are a day apart."""
    expect(name, arguments, at, least=3, most=3)
    period, later, earlier = arguments
    span = _PERIODS.get(_period(name, period, at))
    if span is None:
        raise unknown(f"{name}() of that period", at)
    if (later.type, earlier.type) != ("datetime", "datetime"):
        raise unknown(f"{name}() of a {later.type} and a {earlier.type}", at)
    ticks = times.ticks_of_span(span)

    def boundaries(one: int | None, other: int | None) -> int | None:
        return None if one is None or other is None else one // ticks - other // ticks

    return apply(boundaries, "long", later, earlier)


def _datetime_add(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=3, most=3)
    period = _period(name, arguments[0], at)
    amount, moment = arguments[1:]
    if moment.type != "datetime" or amount.type not in ("int", "long"):
        raise wrong(f"{name}() of a {amount.type} and a {moment.type}", at)
    if period in _MONTHS:
        return apply(_later(times.months_later, _MONTHS[period]), "datetime", moment, amount)
    if period not in _LONGER_PERIODS:
        raise unknown(f"{name}() of that period", at)
    ticks = times.ticks_of_span(_LONGER_PERIODS[period])
    return apply(_later(lambda one, more: times.within_calendar(one + more), ticks), "datetime", moment, amount)


def _later(add: Callable[[int, int], int], size: int) -> Callable[[int | None, int | None], int | None]:
    return lambda moment, count: None if moment is None or count is None else add(moment, count * size)


def _start(start: Callable[[int], int]) -> Function:
    def compiled(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
        expect(name, arguments, at, least=1, most=2)
        if len(arguments) > 1:
            raise unknown(f"{name}() with an offset", at)
        if arguments[0].type != "datetime":
            raise wrong(f"{name}() of a {arguments[0].type}", at)
        return apply(lambda ticks: None if ticks is None else start(ticks), "datetime", arguments[0])

    return compiled


def _format_datetime(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """By the parts of a date that have a fixed width, and Kusto's delimiters."""
    expect(name, arguments, at, least=2, most=2)
    moment, form = arguments
    if moment.type != "datetime" or form.type != "string":
        raise wrong(f"{name}() of a {moment.type} and a {form.type}", at)
    pattern = str(form.evaluate([])) if form.constant else ""
    parts = _PARTS.findall(pattern)
    if not pattern or "".join(parts) != pattern:
        raise unknown(f"{name}() with that format", at)

    def formatted(ticks: int | None) -> str:
        if ticks is None:
            raise Unsupported(f"{name}() of null")
        text = times.text_of_ticks(ticks)
        return "".join(text[_PLACES[part]] if part in _PLACES else part for part in parts)

    return apply(formatted, "string", moment)


def _make_datetime(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=1, most=7)
    if len(arguments) not in (3, 5, 6) or any(each.type not in ("int", "long") for each in arguments):
        raise unknown(f"{name}() of that form", at)
    return apply(_moment, "datetime", *arguments)


def _moment(year: int, month: int, day: int, *time_of_day: int) -> int:
    """`time_of_day`: as much of hour, minute and second as the query gives."""
    if any(each is None for each in (year, month, day, *time_of_day)):
        raise Unsupported("make_datetime() of null")
    hour, minute, second = (*time_of_day, 0, 0, 0)[:3]
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        raise Unsupported("make_datetime() of a time that is none")
    try:
        day_ticks = times.ticks_of_day(date(year, month, day))
    except (ValueError, OverflowError):
        raise Unsupported("make_datetime() of a day that is none") from None
    return day_ticks + (hour * 3_600 + minute * 60 + second) * times.TICKS_PER_SECOND


FUNCTIONS: Mapping[str, Function] = {
    "bin": _bin,
    "datetime_diff": _datetime_diff,
    "datetime_add": _datetime_add,
    "startofday": _start(times.start_of_day),
    "startofweek": _start(times.start_of_week),
    "startofmonth": _start(times.start_of_month),
    "startofyear": _start(times.start_of_year),
    "format_datetime": _format_datetime,
    "make_datetime": _make_datetime,
}
