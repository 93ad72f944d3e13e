"""A compiled expression: its static type and a closure over a row. Constant parts are computed while compiling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.resource_graph.kql.errors import KqlError, Unsupported
from simulator.resource_graph.kql.syntax import Place

Row = list[Any]
Evaluate = Callable[[Row], Any]

# Every other type a table may have (guid, decimal) passes through a query untouched and can be tested for null; any
# other use of it is Unsupported. A real can be computed and sorted, but cannot be a group key.
INTEGERS = frozenset({"int", "long"})
NUMBERS = INTEGERS | {"real"}
SORTABLE = frozenset({"string", "bool", "datetime", "timespan"}) | INTEGERS


@dataclass(frozen=True, slots=True)
class Compiled:
    """`constant`: the closure does not read its row."""

    type: str
    evaluate: Evaluate
    constant: bool = False


def constant(type_name: str, value: Any) -> Compiled:
    return Compiled(type_name, lambda row: value, constant=True)


def apply(function: Callable[..., Any], type_name: str, *arguments: Compiled) -> Compiled:
    """The function over its arguments' values; computed at once when all of them are constant."""
    if all(argument.constant for argument in arguments):
        return constant(type_name, function(*(argument.evaluate([]) for argument in arguments)))
    return Compiled(type_name, _over([argument.evaluate for argument in arguments], arguments[-1], function))


def _over(evaluates: Sequence[Evaluate], last: Compiled, function: Callable[..., Any]) -> Evaluate:
    match evaluates:
        case [only]:
            return lambda row: function(only(row))
        case [left, _] if last.constant:
            value = last.evaluate([])
            return lambda row: function(left(row), value)
        case [left, right]:
            return lambda row: function(left(row), right(row))
    return lambda row: function(*[evaluate(row) for evaluate in evaluates])


Function = Callable[[str, Sequence[Compiled], Place], Compiled]  # of a call's name, arguments and place


def expect(name: str, arguments: Sequence[Compiled], at: Place, *, least: int, most: int) -> None:
    if not least <= len(arguments) <= most:
        raise wrong(f"{name}() with {len(arguments)} arguments", at)


def common_branch(branches: Sequence[Compiled]) -> str | None:
    """The type of iff() and case(): a number that holds all of them, or what the dynamic ones are read as."""
    types = {branch.type for branch in branches}
    if len(types) == 2 and "dynamic" in types:
        return (types - {"dynamic"}).pop()
    return common_type(branches) or ("real" if types <= NUMBERS else None)


def common_type(compiled: Sequence[Compiled]) -> str | None:
    """The type that holds all of them: their own, or long for a mixture of int and long."""
    types = {item.type for item in compiled}
    if len(types) == 1:
        return types.pop()
    return "long" if types <= INTEGERS else None


def wrong(what: str, at: Place) -> KqlError:
    return KqlError(f"{what} at {at}")


def unknown(what: str, at: Place) -> Unsupported:
    return Unsupported(f"{what} at {at}")


def default_of(type_name: str) -> Any:
    """What a missing value of a column is: there is no null string."""
    return "" if type_name == "string" else None
