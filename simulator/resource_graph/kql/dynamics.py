"""Dynamic values where another type is wanted: compared and tested without a cast, as operators' queries do.

A dynamic value takes part as the value that it holds, if it is of the other side's kind. Where the engines might
convert (a number in a text, a bool and a number), the outcome is refused unless no conversion can change it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from simulator.resource_graph.kql import times, values
from simulator.resource_graph.kql.errors import Unsupported


def text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise Unsupported(f"reading {_kind(value)} inside a dynamic as a text")


def number(value: Any) -> int | float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise Unsupported(f"reading {_kind(value)} inside a dynamic as a number")


def truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise Unsupported(f"reading {_kind(value)} inside a dynamic as a bool")


def span(value: Any) -> int | None:
    found = text(value)
    return None if found is None else times.ticks_of_clock(found)


def _kind(value: Any) -> str:
    return {dict: "an object", list: "an array", str: "a text", bool: "a bool"}.get(type(value), "a number")


# How a dynamic value is read beside a value of each type.
READ: Mapping[str, Callable[[Any], Any]] = {
    "string": text,
    "int": number,
    "long": number,
    "real": number,
    "bool": truth,
    "datetime": values.datetime_of_dynamic,
    "timespan": span,
}


def branch(type_name: str) -> Callable[[Any], Any]:
    """A dynamic value as the result of iff() or case() whose other branch has a type. A null text is refused."""
    read = READ[type_name]

    def taken(value: Any) -> Any:
        if value is None and type_name == "string":
            raise Unsupported("null from one branch and a text from the other")
        return read(value)

    return taken


# ---- equality: null is unequal to everything else


def equals_text(left: Any, right: str) -> bool:
    if isinstance(left, bool):
        return _equals_written(left, right)
    return _compared(left, right) == right


def equals_text_ignoring_case(left: Any, right: str) -> bool:
    if isinstance(left, bool):
        return _equals_written(left, values.lower(right))
    found = _compared(left, right)
    return found is not None and values.lower(found) == values.lower(right)


def _compared(left: Any, right: str) -> str | None:
    found = text(left)
    if found is None and right == "":
        raise Unsupported("comparing null inside a dynamic with the empty text")
    return found


def _equals_written(left: bool, right: str) -> bool:
    """A bool is the text that JSON writes: Microsoft's published queries find it so (zoneRedundant == 'false' in the
    Well-Architected guide of Service Bus, rebootPending == "true" in the workbook of Update Manager).
    """
    if right not in ("true", "false") and values.bool_of_text(right) is not None:
        raise Unsupported(f"comparing a bool inside a dynamic with the text '{right}'")
    return values.text_of_dynamic(left) == right


def equals_number(left: Any, right: int | float | None) -> bool | None:
    """A text is not a number. One that reads as the same number is refused."""
    if isinstance(left, str):
        if right is not None and values.real_of_text(left) == right:
            raise Unsupported(f"comparing the text '{left}' inside a dynamic with the number {right}")
        return False
    return values.equal(number(left), right)


def equals_bool(left: Any, right: bool | None) -> bool | None:
    return values.equal(truth(left), right)


def equals_moment(left: Any, right: int | None) -> bool | None:
    return values.equal(values.datetime_of_dynamic(left), right)


def equals_dynamic(left: Any, right: Any) -> bool | None:
    """Two texts, two numbers or two bools."""
    if left is None or right is None:
        return values.equal(left, right)
    for read in (text, number, truth):
        try:
            return bool(read(left) == read(right))
        except Unsupported:
            continue
    raise Unsupported(f"comparing {_kind(left)} with {_kind(right)} inside dynamics")


def equals_dynamic_ignoring_case(left: Any, right: Any) -> bool | None:
    one, other = text(left), text(right)
    if one is None or other is None:
        return values.equal(one, other)
    return values.lower(one) == values.lower(other)


EQUALS: Mapping[str, Callable[[Any, Any], bool | None]] = {
    "string": equals_text,
    "int": equals_number,
    "long": equals_number,
    "real": equals_number,
    "bool": equals_bool,
    "datetime": equals_moment,
    "dynamic": equals_dynamic,
}
EQUALS_IGNORING_CASE: Mapping[str, Callable[[Any, Any], bool | None]] = {
    "string": equals_text_ignoring_case,
    "dynamic": equals_dynamic_ignoring_case,
}


# ---- text tests


def tested(test: Callable[[str, str], bool], whole_terms: bool) -> Callable[[Any, str], bool]:
    """A text test over a dynamic. Null is searched as the empty text that it is as a string; objects and arrays as
    JSON, for whole terms only: no quotes matter.
    """

    def found(value: Any, part: str) -> bool:
        if value is None or isinstance(value, str):
            return test(value or "", part)
        written = values.text_of_dynamic(value)
        if not whole_terms or not part.isalnum() or "\\" in written:
            raise Unsupported(f"searching {_kind(value)} inside a dynamic for '{part}'")
        return test(written, part)

    return found
