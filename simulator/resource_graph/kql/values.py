"""What values are and how they change type: pure functions that do not know queries.

A string is a str and never null: the missing string is ''. A bool, an int and a long are Python's own; a datetime is a
count of 100-nanosecond ticks since the year 1, as in Kusto, and a timespan a count of them; a dynamic is a JSON value.
None is null. The static type of an expression says which of these a value is, so a datetime needs no wrapper.

Where the documentation and the engines disagree, or are silent, about the text or number that a value becomes,
the conversion raises Unsupported instead of choosing. A letter changes its case only where it has one counterpart, of
one character: the service maps characters, Python also writes ß as SS.
"""

import json
import math
import re
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from simulator.resource_graph.kql.errors import Unsupported

TICKS_PER_SECOND = 10_000_000
_TICKS_PER_DAY = 86_400 * TICKS_PER_SECOND
_TICKS_PER_UNIT = {
    "d": _TICKS_PER_DAY,
    "h": 3_600 * TICKS_PER_SECOND,
    "m": 60 * TICKS_PER_SECOND,
    "s": TICKS_PER_SECOND,
    "ms": TICKS_PER_SECOND // 1_000,
}
_INT_RANGE = range(-(2**31), 2**31)
LONG_RANGE = range(-(2**63), 2**63)
_LONG_DIGITS = 19
_EXPONENT = re.compile(r"\de[-+]?\d")
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
        _refuse_digits(text, "a datetime")
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
    return f"{date.fromordinal(days + 1).isoformat()}T{clock}.{fraction:07d}Z"


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
        _refuse_digits(text, "a timespan")
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


def _refuse_digits(text: str, wanted: str) -> None:
    """Text without a digit is neither a number nor a time. Other text may be one in a notation not implemented here."""
    if any(character.isdigit() for character in text):
        raise Unsupported(f"reading the text '{text}' as {wanted}")


# ---- conversions of one value


def text_of_integer(value: int | None) -> str:
    return "" if value is None else str(value)


def text_of_real(value: float | None) -> str:
    """Engines agree on a real with a fraction that needs no exponent; whether 2.0 is 2 or 2.0 they do not."""
    if value is None:
        return ""
    if value.is_integer() or "e" in repr(value):
        raise Unsupported(f"the text of the real number {value!r}")
    return repr(value)


def text_of_span(value: int | None) -> str:
    return "" if value is None else text_of_timespan(value)


def text_of_datetime(value: int | None) -> str:
    return "" if value is None else text_of_ticks(value)


def text_of_dynamic(value: Any) -> str:
    """Text as it is, everything else as compact JSON; null and a missing member are ''."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if _EXPONENT.search(text) and _has_exponent(value):
        raise Unsupported(f"the text of the real number in {text}")
    return text


def _has_exponent(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_has_exponent, value.values()))
        case list():
            return any(map(_has_exponent, value))
    return isinstance(value, float) and "e" in repr(value)


def dynamic_of_text(text: str) -> Any:
    """JSON as its value, '' as null, and text that is not JSON as that text."""
    if not text:
        return None
    try:
        return json.loads(text, parse_float=real_of_digits, parse_int=integer_of_digits, parse_constant=_no_json)
    except ValueError:
        return text


def _no_json(name: str) -> Any:
    """NaN and Infinity: Python's own reader takes them."""
    raise ValueError(f"{name} is no JSON")


def integer_of_digits(digits: str) -> int:
    """Raises Unsupported beyond 64 bits."""
    if len(digits.lstrip("+-0")) > _LONG_DIGITS:
        raise Unsupported("an integer beyond 64 bits")
    return within_64_bits(int(digits))


def real_of_digits(digits: str) -> float:
    """Raises Unsupported beyond 64 bits."""
    return finite(float(digits))


def finite(value: int | float) -> float:
    """The number as a real. Infinity and NaN are no JSON, so no answer may hold one: raises Unsupported."""
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real):
        raise Unsupported("a real beyond 64 bits")
    return real


def integer_of_text(text: str) -> int | None:
    stripped = text.strip()
    if re.fullmatch(r"[+-]?\d+", stripped, re.ASCII):
        return int(stripped) if len(stripped.lstrip("+-0")) <= _LONG_DIGITS else None
    _refuse_digits(text, "an integer")
    return None


def integer_of_dynamic(value: Any) -> int | None:
    match value:
        case None | list() | dict():
            return None
        case bool():
            raise Unsupported("reading a bool inside a dynamic as an integer")
        case int():
            return value
        case float():
            return int(finite(value))
        case str():
            return integer_of_text(value)
    raise TypeError(f"not a JSON value: {value!r}")


_REAL = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?")


def real_of_text(text: str) -> float | None:
    stripped = text.strip()
    if _REAL.fullmatch(stripped):
        return float(stripped)
    _refuse_digits(text, "a real")
    return None


def int_of_real(value: float | None) -> int | None:
    """Towards zero."""
    return None if value is None else int(value)


def real_of_number(value: int | float | None) -> float | None:
    return None if value is None else finite(value)


def real_of_dynamic(value: Any) -> float | None:
    match value:
        case None | list() | dict():
            return None
        case bool():
            raise Unsupported("reading a bool inside a dynamic as a real")
        case int() | float():
            return finite(value)
        case str():
            return real_of_text(value)
    raise TypeError(f"not a JSON value: {value!r}")


def as_int(value: int | None) -> int | None:
    """Null when 32 bits cannot hold it."""
    return value if value is not None and value in _INT_RANGE else None


def as_long(value: int | None) -> int | None:
    return value if value is not None and value in LONG_RANGE else None


def bool_of_text(text: str) -> bool | None:
    match text.strip().lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    _refuse_digits(text, "a bool")
    return None


def bool_of_dynamic(value: Any) -> bool | None:
    match value:
        case None | list() | dict():
            return None
        case bool():
            return value
        case int():
            return value != 0
        case str():
            return bool_of_text(value)
    raise Unsupported(f"reading {value!r} inside a dynamic as a bool")


def datetime_of_dynamic(value: Any) -> int | None:
    match value:
        case str():
            return ticks_of_text(value)
        case None | bool() | list() | dict():
            return None
    raise Unsupported(f"reading the number {value!r} inside a dynamic as a datetime")


def is_empty(value: Any) -> bool:
    """True for null and for '' only: an empty object is not empty."""
    return value is None or value == ""


# ---- logic with null


def negate(value: bool | None) -> bool | None:
    return None if value is None else not value


def equal(left: Any, right: Any) -> bool | None:
    """Two nulls give null; one null is unequal to anything."""
    return None if left is None and right is None else left == right


def unequal(left: Any, right: Any) -> bool | None:
    return None if left is None and right is None else left != right


def less(left: Any, right: Any) -> bool | None:
    return None if left is None or right is None else left < right


def less_or_equal(left: Any, right: Any) -> bool | None:
    return None if left is None or right is None else left <= right


def greater(left: Any, right: Any) -> bool | None:
    return less(right, left)


def greater_or_equal(left: Any, right: Any) -> bool | None:
    return less_or_equal(right, left)


def equal_ignoring_case(left: str, right: str) -> bool:
    return lower(left) == lower(right)


def unequal_ignoring_case(left: str, right: str) -> bool:
    return lower(left) != lower(right)


# ---- text


def lower(text: str) -> str:
    """In small letters. Raises Unsupported for a letter whose capital or small form is not one other letter."""
    return text.lower() if text.isascii() else "".join([_other_case(letter, letter.lower()) for letter in text])


def upper(text: str) -> str:
    """In capitals. Raises Unsupported as lower does."""
    return text.upper() if text.isascii() else "".join([_other_case(letter, letter.upper()) for letter in text])


def _other_case(letter: str, changed: str) -> str:
    if changed != letter and (len(changed) > 1 or changed.swapcase() != letter):
        raise Unsupported(f"the letter case of '{letter}'")
    return changed


def starts_with(text: str, part: str) -> bool:
    return lower(text).startswith(lower(part))


def ends_with(text: str, part: str) -> bool:
    return lower(text).endswith(lower(part))


def contains(text: str, part: str) -> bool:
    return lower(part) in lower(text)


def has_term(text: str, part: str) -> bool:
    """`part` with no letter or digit on either side of it."""
    if not part.isascii() or not part[0].isalnum() or not part[-1].isalnum():
        raise Unsupported(f"has '{part}'")
    return re.search(rf"(?<![^\W_]){re.escape(lower(part))}(?![^\W_])", lower(text)) is not None


# ---- numbers


def add(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else within_64_bits(left + right)


def subtract(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else within_64_bits(left - right)


def multiply(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else within_64_bits(left * right)


def divide_integers(left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return None
    if left < 0 or right <= 0:
        raise Unsupported("a division of integers that are not positive")
    return left // right


def modulo(left: int | None, right: int | None) -> int | None:
    if left is None or right is None:
        return None
    if left < 0 or right <= 0:
        raise Unsupported("a remainder of integers that are not positive")
    return left % right


def divide(left: float, right: float) -> float:
    if right == 0:
        raise Unsupported("a division by zero")
    return left / right


def rounded(value: float | None, digits: int) -> float | None:
    """Raises Unsupported halfway between two, where engines differ."""
    if value is None:
        return None
    written = Decimal(repr(value)).scaleb(digits)
    if written % 1 in (Decimal("0.5"), Decimal("-0.5")):
        raise Unsupported(f"rounding {value!r}, which is halfway")
    return finite(float(written.to_integral_value().scaleb(-digits)))


def of_reals(function: Callable[[float, float], float]) -> Callable[[Any, Any], float | None]:
    """The function over reals, and integers as reals; null if one of them is. Raises Unsupported beyond 64 bits."""
    return lambda left, right: None if left is None or right is None else finite(function(float(left), float(right)))


def within_64_bits(value: int) -> int:
    if value not in LONG_RANGE:
        raise Unsupported("a long beyond 64 bits")
    return value
