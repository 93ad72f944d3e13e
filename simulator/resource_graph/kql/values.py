"""What values are and how they change type: pure functions that do not know queries.

A string is a str and never null: the missing string is ''. A bool, an int, a long and a real are Python's own; a
datetime and a timespan are counts of ticks (times.py); a dynamic is a JSON value. None is null. The static type of an
expression says which of these a value is, so a datetime needs no wrapper.

Where the documentation and the engines disagree, or are silent, about the text or number that a value becomes,
the conversion raises Unsupported instead of choosing. A letter changes its case only where it has one counterpart, of
one character: the service maps characters, Python also writes ß as SS.
"""

import json
import re
from typing import Any

from simulator.resource_graph.kql import numbers, times
from simulator.resource_graph.kql.errors import Unsupported

_INT_RANGE = range(-(2**31), 2**31)
_EXPONENT = re.compile(r"\de[-+]?\d")
_EXPONENT_FROM = 1e15  # from here on .NET writes one, and Python does not yet

# ---- conversions of one value


def text_of_integer(value: int | None) -> str:
    return "" if value is None else str(value)


def text_of_real(value: float | None) -> str:
    """A whole number keeps its fraction: Kusto writes 100.0. How it writes an exponent is not implemented."""
    if value is None:
        return ""
    if "e" in repr(value) or abs(value) >= _EXPONENT_FROM:
        raise Unsupported(f"the text of the real number {value!r}")
    return repr(value)


def text_of_span(value: int | None) -> str:
    return "" if value is None else times.text_of_timespan(value)


def text_of_datetime(value: int | None) -> str:
    return "" if value is None else times.text_of_ticks(value)


def text_of_dynamic(value: Any) -> str:
    """Text as it is, everything else as compact JSON; null and a missing member are ''."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    text = _COMPACT.encode(value)
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
        return _STRICT.decode(text)
    except ValueError:
        return text


def _no_json(name: str) -> Any:
    """NaN and Infinity: Python's own reader takes them."""
    raise ValueError(f"{name} is not JSON")


# Made once: json.dumps and json.loads make theirs again for every value, which takes longer than a short value.
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_STRICT = json.JSONDecoder(
    parse_float=numbers.real_of_digits, parse_int=numbers.integer_of_digits, parse_constant=_no_json
)


def integer_of_text(text: str) -> int | None:
    stripped = text.strip()
    if re.fullmatch(r"[+-]?\d+", stripped, re.ASCII):
        return int(stripped) if len(stripped.lstrip("+-0")) <= numbers.LONG_DIGITS else None
    numbers.refuse_digits(text, "an integer")
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
            return int(numbers.finite(value))
        case str():
            return integer_of_text(value)
    raise TypeError(f"not a JSON value: {value!r}")


_REAL = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?")


def real_of_text(text: str) -> float | None:
    stripped = text.strip()
    if _REAL.fullmatch(stripped):
        return float(stripped)
    numbers.refuse_digits(text, "a real")
    return None


def int_of_real(value: float | None) -> int | None:
    """Towards zero."""
    return None if value is None else int(value)


def real_of_number(value: int | float | None) -> float | None:
    return None if value is None else numbers.finite(value)


def real_of_dynamic(value: Any) -> float | None:
    match value:
        case None | list() | dict():
            return None
        case bool():
            raise Unsupported("reading a bool inside a dynamic as a real")
        case int() | float():
            return numbers.finite(value)
        case str():
            return real_of_text(value)
    raise TypeError(f"not a JSON value: {value!r}")


def as_int(value: int | None) -> int | None:
    """Null when 32 bits cannot hold it."""
    return value if value is not None and value in _INT_RANGE else None


def as_long(value: int | None) -> int | None:
    return value if value is not None and value in numbers.LONG_RANGE else None


def bool_of_text(text: str) -> bool | None:
    match text.strip().lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    numbers.refuse_digits(text, "a bool")
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
            return times.ticks_of_text(value)
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


_NO_TERM = (r"(?<![^\W_])", r"(?![^\W_])")  # no letter or digit before, and none after


def has_term(text: str, part: str) -> bool:
    """`part` with no letter or digit on either side of it; beside a slash of its own there may be one.

    Microsoft's documented queries ask so for parts of ids (update-manager, pre- and post-events).
    """
    if not part.isascii() or any(not (edge.isalnum() or edge == "/") for edge in (part[0], part[-1])):
        raise Unsupported(f"has '{part}'")
    before, after = ("" if edge == "/" else side for edge, side in zip((part[0], part[-1]), _NO_TERM, strict=True))
    return re.search(f"{before}{re.escape(lower(part))}{after}", lower(text)) is not None
