"""The scalar functions, each with the argument types whose result is certain. Any other name is Unsupported."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.resource_graph.kql import values
from simulator.resource_graph.kql.compiled import NUMBERS, Compiled, apply, common_type, constant, unknown, wrong
from simulator.resource_graph.kql.syntax import Place

_ANY = "any"


def require(name: str, at: Place) -> None:
    """Raises Unsupported for a function that is not here, before its arguments are compiled."""
    if name not in _OF_ONE and name not in _SPECIAL and name != "now":
        raise unknown(f"the function {name}()", at)


def call(name: str, arguments: Sequence[Compiled], now_ticks: int, at: Place) -> Compiled:
    """The compiled call. Raises KqlError where Kusto knows the function but refuses these arguments."""
    require(name, at)
    if name in _OF_ONE:
        return _call_of_one(name, arguments, at)
    if name in _SPECIAL:
        return _SPECIAL[name](name, arguments, at)
    if arguments:
        raise unknown("now() with an offset", at)
    return constant("datetime", now_ticks)


def _expect(name: str, arguments: Sequence[Compiled], least: int, most: int, at: Place) -> None:
    if not least <= len(arguments) <= most:
        raise wrong(f"{name}() with {len(arguments)} arguments", at)


# ---- functions of one argument


@dataclass(frozen=True, slots=True)
class _OneArgument:
    """`by_type` gives the implementation for each argument type; `refuses_others`: Kusto itself accepts no other."""

    result: str
    by_type: Mapping[str, Callable[[Any], Any]]
    refuses_others: bool = False


def _same(value: Any) -> Any:
    return value


def _lowered(value: Any) -> str:
    return values.lower(values.text_of_dynamic(value))


def _uppered(value: Any) -> str:
    return values.upper(values.text_of_dynamic(value))


def _int_of_text(text: str) -> int | None:
    return values.as_int(values.integer_of_text(text))


def _int_of_dynamic(value: Any) -> int | None:
    return values.as_int(values.integer_of_dynamic(value))


def _long_of_text(text: str) -> int | None:
    return values.as_long(values.integer_of_text(text))


def _long_of_dynamic(value: Any) -> int | None:
    return values.as_long(values.integer_of_dynamic(value))


def _bool_of_integer(value: int | None) -> bool | None:
    return None if value is None else value != 0


_OF_ONE = {
    "tostring": _OneArgument(
        "string",
        {
            "string": _same,
            "dynamic": values.text_of_dynamic,
            "int": values.text_of_integer,
            "long": values.text_of_integer,
            "datetime": values.text_of_datetime,
        },
    ),
    "tolower": _OneArgument("string", {"string": values.lower, "dynamic": _lowered}),
    "toupper": _OneArgument("string", {"string": values.upper, "dynamic": _uppered}),
    "toint": _OneArgument(
        "int", {"int": _same, "long": values.as_int, "string": _int_of_text, "dynamic": _int_of_dynamic}
    ),
    "tolong": _OneArgument("long", {"int": _same, "long": _same, "string": _long_of_text, "dynamic": _long_of_dynamic}),
    "todouble": _OneArgument(
        "real",
        {
            "real": _same,
            "int": values.real_of_number,
            "long": values.real_of_number,
            "dynamic": values.real_of_dynamic,
        },
    ),
    "tobool": _OneArgument(
        "bool",
        {
            "bool": _same,
            "int": _bool_of_integer,
            "long": _bool_of_integer,
            "string": values.bool_of_text,
            "dynamic": values.bool_of_dynamic,
        },
    ),
    "todatetime": _OneArgument(
        "datetime",
        {"datetime": _same, "string": values.ticks_of_text, "dynamic": values.datetime_of_dynamic},
    ),
    "parse_json": _OneArgument("dynamic", {"string": values.dynamic_of_text, "dynamic": _same}),
    "isnull": _OneArgument("bool", {_ANY: lambda value: value is None}),
    "isnotnull": _OneArgument("bool", {_ANY: lambda value: value is not None}),
    "isempty": _OneArgument("bool", {_ANY: values.is_empty}),
    "isnotempty": _OneArgument("bool", {_ANY: lambda value: not values.is_empty(value)}),
    "not": _OneArgument("bool", {"bool": values.negate}, refuses_others=True),
}


def _call_of_one(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    _expect(name, arguments, 1, 1, at)
    function, argument = _OF_ONE[name], arguments[0]
    implementation = function.by_type.get(argument.type) or function.by_type.get(_ANY)
    if implementation is None:
        raise (wrong if function.refuses_others else unknown)(f"{name}() of a {argument.type}", at)
    if implementation is _same:
        return argument
    return apply(implementation, function.result, argument)


# ---- functions of several arguments


def _iff(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """A null predicate takes the second branch, as a false one does."""
    _expect(name, arguments, 3, 3, at)
    predicate, then, otherwise = arguments
    if predicate.type != "bool":
        raise wrong(f"{name}() with a {predicate.type} as its predicate", at)
    type_name = common_type([then, otherwise])
    if type_name is None:
        raise unknown(f"{name}() between {then.type} and {otherwise.type}", at)
    if predicate.constant:
        branch = then if predicate.evaluate([]) else otherwise
        return Compiled(type_name, branch.evaluate, branch.constant)
    test, yes, no = predicate.evaluate, then.evaluate, otherwise.evaluate
    return Compiled(type_name, lambda row: yes(row) if test(row) else no(row))


def _coalesce(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """The first value that is not null; for strings, the first that is not empty."""
    _expect(name, arguments, 2, 64, at)
    type_name = common_type(arguments)
    if type_name is None and {argument.type for argument in arguments} <= NUMBERS:
        type_name, arguments = "real", [apply(values.real_of_number, "real", argument) for argument in arguments]
    if type_name is None:
        raise wrong(f"{name}() of different types", at)
    if type_name == "string":
        return apply(lambda *found: next((value for value in found if value), ""), type_name, *arguments)
    if type_name == "dynamic":
        raise unknown("coalesce() of dynamic values: cast them first,", at)
    return apply(lambda *found: next((value for value in found if value is not None), None), type_name, *arguments)


def _split(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    _expect(name, arguments, 2, 3, at)
    text, *rest = arguments
    if len(rest) == 2:
        raise unknown("split() with an index", at)
    if text.type != "string":
        raise unknown(f"split() of a {text.type}", at)
    if rest[0].type != "string":
        raise wrong(f"split() at a {rest[0].type}", at)
    if not rest[0].constant or rest[0].evaluate([]) == "":
        raise unknown("split() at an empty or computed delimiter", at)
    return apply(str.split, "dynamic", text, rest[0])


def _strcat(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    _expect(name, arguments, 1, 64, at)
    _only_strings(name, arguments, at)
    return apply(lambda *found: "".join(found), "string", *arguments)


def _replace_string(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    _expect(name, arguments, 3, 3, at)
    _only_strings(name, arguments, at)
    _, lookup, _ = arguments
    if not lookup.constant or lookup.evaluate([]) == "":
        raise unknown(f"{name}() of an empty or computed text", at)
    return apply(str.replace, "string", *arguments)


# Letters, digits, and what RE2 and Python read alike over one line of text.
_PLAIN_PATTERN = re.compile(r"[\w/.+*() -]+")


def _extract(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """Text without a match is ''. Only patterns that RE2 and Python read alike."""
    _expect(name, arguments, 3, 3, at)
    pattern, group, text = arguments
    if not pattern.constant or not group.constant or (pattern.type, group.type) != ("string", "long"):
        raise unknown(f"{name}() of a computed pattern", at)
    if text.type != "string":
        raise unknown(f"{name}() of a {text.type}", at)
    wanted = pattern.evaluate([])
    if not _PLAIN_PATTERN.fullmatch(wanted) or re.search(r"\(\?|[*+]{2}|\(\)", wanted):
        raise unknown(f"{name}() of the pattern '{wanted}'", at)
    try:
        compiled, number = re.compile(wanted), group.evaluate([])
    except re.error:
        raise unknown(f"{name}() of the pattern '{wanted}'", at) from None
    if number > compiled.groups:
        raise unknown(f"{name}() of a group that does not exist", at)
    return apply(lambda found: _group(compiled, number, found), "string", text)


def _group(pattern: re.Pattern[str], number: int, text: str) -> str:
    match = pattern.search(text)
    return (match[number] or "") if match else ""


# Kusto counts the boundaries that lie between the two: 23:59:59 and 00:00:01 are a day apart.
_PERIODS = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d"}


def _datetime_diff(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    _expect(name, arguments, 3, 3, at)
    period, later, earlier = arguments
    span = _PERIODS.get(period.evaluate([])) if period.constant and period.type == "string" else None
    if span is None:
        raise unknown(f"{name}() of that period", at)
    if (later.type, earlier.type) != ("datetime", "datetime"):
        raise unknown(f"{name}() of a {later.type} and a {earlier.type}", at)
    ticks = values.ticks_of_span(span)

    def boundaries(one: int | None, other: int | None) -> int | None:
        return None if one is None or other is None else one // ticks - other // ticks

    return apply(boundaries, "long", later, earlier)


def _only_strings(name: str, arguments: Sequence[Compiled], at: Place) -> None:
    for argument in arguments:
        if argument.type != "string":
            raise unknown(f"{name}() of a {argument.type}", at)


_SPECIAL: Mapping[str, Callable[[str, Sequence[Compiled], Place], Compiled]] = {
    "iff": _iff,
    "iif": _iff,
    "coalesce": _coalesce,
    "split": _split,
    "strcat": _strcat,
    "replace_string": _replace_string,
    "extract": _extract,
    "datetime_diff": _datetime_diff,
}
