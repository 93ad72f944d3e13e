"""The scalar functions, each with the argument types whose result is certain. Any other name is Unsupported.

Here are conversions and choices; functions of text, time and dynamic values have modules of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.resource_graph.kql import (
    dynamics,
    functions_of_dynamic,
    functions_of_text,
    functions_of_time,
    numbers,
    times,
    values,
)
from simulator.resource_graph.kql.compiled import (
    NUMBERS,
    Compiled,
    Function,
    Row,
    apply,
    common_branch,
    common_type,
    expect,
    unknown,
    wrong,
)
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.syntax import Place

_ANY = "any"


def is_known(name: str) -> bool:
    return name in _OF_ONE or name in _SPECIAL or name in _OF_NOW


def require(name: str, at: Place) -> None:
    """Raises Unsupported for a function that is not here, before its arguments are compiled."""
    if not is_known(name):
        raise unknown(f"the function {name}()", at)


def call(name: str, arguments: Sequence[Compiled], at: Place, *, now_ticks: int) -> Compiled:
    """The compiled call. Raises KqlError where Kusto knows the function but refuses these arguments."""
    require(name, at)
    if name in _OF_ONE:
        return _call_of_one(name, arguments, at)
    if name in _SPECIAL:
        return _SPECIAL[name](name, arguments, at)
    return _OF_NOW[name](now_ticks, arguments, at)


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


def _int_of_real(value: float | None) -> int | None:
    return values.as_int(values.int_of_real(value))


def _long_of_real(value: float | None) -> int | None:
    return values.as_long(values.int_of_real(value))


def _bool_of_integer(value: int | None) -> bool | None:
    return None if value is None else value != 0


_REAL = _OneArgument(
    "real",
    {
        "real": _same,
        "int": values.real_of_number,
        "long": values.real_of_number,
        "string": values.real_of_text,
        "dynamic": values.real_of_dynamic,
    },
)
_JSON = _OneArgument("dynamic", {"string": values.dynamic_of_text, "dynamic": _same})
_OF_ONE = {
    "tostring": _OneArgument(
        "string",
        {
            "string": _same,
            "dynamic": values.text_of_dynamic,
            "int": values.text_of_integer,
            "long": values.text_of_integer,
            "real": values.text_of_real,
            "datetime": values.text_of_datetime,
            "timespan": values.text_of_span,
        },
    ),
    "tolower": _OneArgument("string", {"string": values.lower, "dynamic": _lowered}),
    "toupper": _OneArgument("string", {"string": values.upper, "dynamic": _uppered}),
    "toint": _OneArgument(
        "int",
        {
            "int": _same,
            "long": values.as_int,
            "real": _int_of_real,
            "string": _int_of_text,
            "dynamic": _int_of_dynamic,
        },
    ),
    "tolong": _OneArgument(
        "long",
        {
            "int": _same,
            "long": _same,
            "real": _long_of_real,
            "string": _long_of_text,
            "dynamic": _long_of_dynamic,
        },
    ),
    "todouble": _REAL,
    "toreal": _REAL,
    "totimespan": _OneArgument(
        "timespan", {"timespan": _same, "string": times.ticks_of_clock, "dynamic": dynamics.span}
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
        {"datetime": _same, "string": times.ticks_of_text, "dynamic": values.datetime_of_dynamic},
    ),
    "parse_json": _JSON,
    "todynamic": _JSON,
    "isnull": _OneArgument("bool", {_ANY: lambda value: value is None}),
    "isnotnull": _OneArgument("bool", {_ANY: lambda value: value is not None}),
    "isempty": _OneArgument("bool", {_ANY: values.is_empty}),
    "isnotempty": _OneArgument("bool", {_ANY: lambda value: not values.is_empty(value)}),
    "not": _OneArgument("bool", {"bool": values.negate}, refuses_others=True),
}


def _call_of_one(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=1, most=1)
    function, argument = _OF_ONE[name], arguments[0]
    implementation = function.by_type.get(argument.type) or function.by_type.get(_ANY)
    if implementation is None:
        raise (wrong if function.refuses_others else unknown)(f"{name}() of a {argument.type}", at)
    if implementation is _same and argument.type == function.result:
        return argument
    return apply(implementation, function.result, argument)


# ---- choices


def _iff(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=3, most=3)
    return _chosen(name, arguments, at)


def _case(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    if len(arguments) < 3 or len(arguments) % 2 == 0:
        raise wrong(f"case() with {len(arguments)} arguments", at)
    return _chosen(name, arguments, at)


def _chosen(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """A null predicate does not choose its branch, as a false one does not."""
    predicates, branches = arguments[:-1:2], [*arguments[1::2], arguments[-1]]
    for predicate in predicates:
        if predicate.type != "bool":
            raise wrong(f"{name}() with a {predicate.type} as its predicate", at)
    type_name = common_branch(branches)
    if type_name is None:
        raise unknown(f"{name}() between {' and '.join(branch.type for branch in branches)}", at)
    read = [_as_branch(name, branch, at, type_name=type_name) for branch in branches]
    return _choice(type_name, list(zip(predicates, read, strict=False)), read[-1])


def _as_branch(name: str, branch: Compiled, at: Place, *, type_name: str) -> Compiled:
    if branch.type == "dynamic" != type_name:
        if type_name not in dynamics.READ:
            raise unknown(f"{name}() between dynamic and {type_name}", at)
        return apply(dynamics.branch(type_name), type_name, branch)
    if type_name == "real" != branch.type:
        return apply(values.real_of_number, type_name, branch)
    return branch


def _choice(type_name: str, pairs: Sequence[tuple[Compiled, Compiled]], otherwise: Compiled) -> Compiled:
    """Decided at once as far as the predicates are constant."""
    for position, (predicate, branch) in enumerate(pairs):
        if not predicate.constant:
            break
        if predicate.evaluate([]):
            return _choice(type_name, pairs[:position], branch) if position else _typed(type_name, branch)
    else:
        return _typed(type_name, otherwise)
    tests = [(predicate.evaluate, branch.evaluate) for predicate, branch in pairs]

    def choose(row: Row) -> Any:
        for test, branch in tests:
            if test(row):
                return branch(row)
        return otherwise.evaluate(row)

    return Compiled(type_name, choose)


def _typed(type_name: str, branch: Compiled) -> Compiled:
    return Compiled(type_name, branch.evaluate, branch.constant)


def _coalesce(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """The first value that is not null; for strings, the first that is not empty."""
    expect(name, arguments, at, least=2, most=64)
    type_name = common_type(arguments)
    if type_name is None and {argument.type for argument in arguments} <= NUMBERS:
        type_name, arguments = "real", [apply(values.real_of_number, "real", argument) for argument in arguments]
    if type_name is None:
        raise wrong(f"{name}() of different types", at)
    if type_name == "string":
        return apply(lambda *found: next((value for value in found if value), ""), type_name, *arguments)
    if type_name == "dynamic":
        return apply(_first_dynamic, type_name, *arguments)
    return apply(lambda *found: next((value for value in found if value is not None), None), type_name, *arguments)


def _round(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=1, most=2)
    value, *precision = arguments
    digits = precision[0].evaluate([]) if precision and precision[0].constant else 0
    if value.type != "real" or any(each.type != "long" for each in precision) or digits not in range(16):
        raise unknown(f"{name}() of that form", at)
    if precision and not precision[0].constant:
        raise unknown(f"{name}() to a computed precision", at)
    return apply(lambda found: numbers.rounded(found, digits), "real", value)


def _first_dynamic(*found: Any) -> Any:
    first = next((value for value in found if value is not None), None)
    if first == "":
        raise Unsupported("coalesce() of an empty text inside a dynamic")
    return first


_SPECIAL: Mapping[str, Function] = {
    "iff": _iff,
    "iif": _iff,
    "case": _case,
    "coalesce": _coalesce,
    "round": _round,
    **functions_of_text.FUNCTIONS,
    **functions_of_time.FUNCTIONS,
    **functions_of_dynamic.FUNCTIONS,
}
_OF_NOW = functions_of_time.OF_NOW
