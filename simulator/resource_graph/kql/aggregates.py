"""The aggregates of summarize: the columns of each, and their values over the rows of one group.

Nulls are left out of all but count(). Where Kusto may choose (which of several rows with the same greatest key, which
value over no row), it raises Unsupported.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.resource_graph.kql import syntax, values
from simulator.resource_graph.kql.compiled import INTEGERS, NUMBERS, Compiled, Row, unknown, wrong
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.scalars import Scope, compile_expression

Over = Callable[[list[Row]], list[Any]]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`over` gives one value per column."""

    columns: tuple[tuple[str, str], ...]
    over: Over


def compile_aggregate(node: syntax.Named, scope: Scope, keys: Sequence[str]) -> Aggregate:
    """`keys`: the columns that the rows are grouped by; '*' is all others."""
    match node.expression:
        case syntax.Call(function="count", arguments=()):
            return Aggregate(((node.name or "count_", "long"),), lambda rows: [len(rows)])
        case syntax.Call(function="arg_max" | "arg_min"):
            return _arg(node, node.expression, scope, keys)
        case syntax.Call(function="percentile"):
            return _named(node, _percentile(node.expression, scope))
        case syntax.Call(function=function, arguments=(argument,)) if function in _OF_ONE:
            return _named(node, _OF_ONE[function](compile_expression(argument, scope), node.expression))
        case syntax.Call(function=function):
            raise unknown(f"the aggregate {function}()", node.expression.at)
    raise unknown("an aggregate that is not a call", node.expression.at)


_Single = tuple[str, Callable[[list[Row]], Any]]


def _named(node: syntax.Named, single: _Single) -> Aggregate:
    if node.name is None:
        raise unknown("an aggregate without a name", node.expression.at)
    type_name, over = single
    return Aggregate(((node.name, type_name),), lambda rows: [over(rows)])


def _values(argument: Compiled, rows: list[Row]) -> list[Any]:
    return [value for value in map(argument.evaluate, rows) if value is not None]


def _refuse(argument: Compiled, call: syntax.Call, types: frozenset[str]) -> None:
    if argument.type not in types:
        raise unknown(f"{call.function}() of a {argument.type}", call.at)


def _countif(argument: Compiled, call: syntax.Call) -> _Single:
    if argument.type != "bool":
        raise wrong(f"countif() of a {argument.type}", call.at)
    return "long", lambda rows: sum(argument.evaluate(row) is True for row in rows)


def _dcount(argument: Compiled, call: syntax.Call) -> _Single:
    """Exact; Kusto's is exact for small numbers and an estimate beyond."""
    _refuse(argument, call, INTEGERS | {"string", "datetime"})
    return "long", lambda rows: len(set(_values(argument, rows)))


def _sum(argument: Compiled, call: syntax.Call) -> _Single:
    _refuse(argument, call, NUMBERS)
    if argument.type == "real":
        return "real", lambda rows: _total(_values(argument, rows))
    return "long", lambda rows: values.within_64_bits(sum(_values(argument, rows)))


def _total(found: Sequence[float]) -> float:
    try:
        return math.fsum(found)
    except OverflowError:
        raise Unsupported("a sum beyond 64 bits") from None


def _avg(argument: Compiled, call: syntax.Call) -> _Single:
    _refuse(argument, call, NUMBERS)

    def over(rows: list[Row]) -> float:
        found = _values(argument, rows)
        if not found:
            raise Unsupported("avg() over no value")
        return _total(found) / len(found)

    return "real", over


def _extreme(choose: Callable[..., Any]) -> Callable[[Compiled, syntax.Call], _Single]:
    def compiled(argument: Compiled, call: syntax.Call) -> _Single:
        _refuse(argument, call, NUMBERS | {"datetime"})
        return argument.type, lambda rows: choose(_values(argument, rows), default=None)

    return compiled


_OF_ONE: Mapping[str, Callable[[Compiled, syntax.Call], _Single]] = {
    "countif": _countif,
    "dcount": _dcount,
    "sum": _sum,
    "avg": _avg,
    "max": _extreme(max),
    "min": _extreme(min),
}


def _percentile(call: syntax.Call, scope: Scope) -> _Single:
    """Nearest rank, as documented: the smallest value that this percentage of the values does not exceed."""
    if len(call.arguments) != 2:
        raise wrong(f"percentile() with {len(call.arguments)} arguments", call.at)
    argument, share = (compile_expression(each, scope) for each in call.arguments)
    _refuse(argument, call, NUMBERS)
    if not share.constant or share.type != "long" or not 0 < share.evaluate([]) <= 100:
        raise unknown("percentile() of that share", call.at)
    percent = share.evaluate([])

    def over(rows: list[Row]) -> Any:
        found = sorted(_values(argument, rows))
        return found[-(-len(found) * percent // 100) - 1] if found else None

    return ("long" if argument.type == "int" else argument.type), over


def _arg(node: syntax.Named, call: syntax.Call, scope: Scope, keys: Sequence[str]) -> Aggregate:
    """The row of the greatest or least key: the key, and the columns named, or all others for '*'."""
    if node.name is not None or len(call.arguments) < 2:
        raise unknown(f"{call.function}() of that form", call.at)
    names = [_column_of(argument, call) for argument in call.arguments]
    if None in names[:1] or (None in names and len(names) > 2):
        raise unknown(f"{call.function}() of that form", call.at)
    key, *rest = names
    if rest == [None]:
        rest = [name for name in scope.shape.names if name != key and name not in keys]
    columns = [syntax.Column(str(name), call.at) for name in (key, *rest)]
    positions = [scope.shape.position(column) for column in columns]
    shape = tuple(scope.shape.columns[position] for position in positions)
    if shape[0][1] not in NUMBERS | {"datetime"}:
        raise unknown(f"{call.function}() by a {shape[0][1]}", call.at)
    choose: Callable[..., Any] = max if call.function == "arg_max" else min

    def over(rows: list[Row]) -> list[Any]:
        known = [row for row in rows if row[positions[0]] is not None]
        if not known:
            raise Unsupported(f"{call.function}() over no value")
        best = choose(row[positions[0]] for row in known)
        found = [[row[position] for position in positions] for row in known if row[positions[0]] == best]
        if any(other != found[0] for other in found):
            raise Unsupported(f"{call.function}() of several different rows with the same key")
        return found[0]

    return Aggregate(shape, over)


def _column_of(argument: syntax.Expression, call: syntax.Call) -> str | None:
    match argument:
        case syntax.Column(name=name):
            return name
        case syntax.Star():
            return None
    raise unknown(f"{call.function}() of a computed column", call.at)
