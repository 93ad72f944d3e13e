"""Numbers of 64 bits. What would be beyond them raises Unsupported: no answer wraps around, and none is infinite."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from simulator.resource_graph.kql.errors import Unsupported

LONG_RANGE = range(-(2**63), 2**63)
LONG_DIGITS = 19


def within_64_bits(value: int) -> int:
    if value not in LONG_RANGE:
        raise Unsupported("a long beyond 64 bits")
    return value


def integer_of_digits(digits: str) -> int:
    """Raises Unsupported beyond 64 bits."""
    if len(digits.lstrip("+-0")) > LONG_DIGITS:
        raise Unsupported("an integer beyond 64 bits")
    return within_64_bits(int(digits))


def real_of_digits(digits: str) -> float:
    """Raises Unsupported beyond 64 bits."""
    return finite(float(digits))


def finite(value: int | float) -> float:
    """The number as a real. Infinity and NaN are not JSON, so no answer may hold one: raises Unsupported."""
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real):
        raise Unsupported("a real beyond 64 bits")
    return real


def refuse_digits(text: str, wanted: str) -> None:
    """Text without a digit is neither a number nor a time. Other text may be one in a notation not implemented here."""
    if any(character.isdigit() for character in text):
        raise Unsupported(f"reading the text '{text}' as {wanted}")


# ---- arithmetic


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
