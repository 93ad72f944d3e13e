"""The aggregates of summarize: the columns of each, and their values over the rows of one group.

Nulls are left out of all but count(). Where Kusto may choose (which of several rows with the same greatest key, which
value over no row), it raises Unsupported.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simulator.resource_graph.kql import numbers, syntax
from simulator.resource_graph.kql.compiled import INTEGERS, NUMBERS, Compiled, Row, apply, unknown, wrong
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.functions import is_known
from simulator.resource_graph.kql.functions_of_dynamic import HELD
from simulator.resource_graph.kql.names import Name, name_of, stem
from simulator.resource_graph.kql.scalars import Scope, Shape, compile_expression

Over = Callable[[list[Row]], list[Any]]
_Single = tuple[str, Callable[[list[Row]], Any]]
_MAX_ELEMENTS = 1_048_576  # of make_list() and make_set()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`over` gives one value per column. `constant`: it asks nothing of the rows."""

    names: tuple[Name, ...]
    types: tuple[str, ...]
    over: Over
    constant: bool = False


def compile_aggregate(node: syntax.Named, scope: Scope, keys: Sequence[str | None]) -> Aggregate:
    """`keys`: the columns that the rows are grouped by; '*' is all others."""
    match node.expression:
        case syntax.Call(function="arg_max" | "arg_min") as call:
            return _arg(node, call, scope, keys=keys)
        case syntax.Call(function=function) as call if function in _AGGREGATES:
            type_name, over = _single(call, scope)
            name = name_of(node) if node.name else Name(_name(call), "made", call.at)
            return Aggregate((name,), (type_name,), lambda rows: [over(rows)])
    return _computed(node, scope)


# ---- an expression over aggregates


def _computed(node: syntax.Named, scope: Scope) -> Aggregate:
    """Each aggregate in the expression becomes a column of a row of its own, over which the rest is computed.

    There may be none: Microsoft's workbook of Update Manager writes `summarize total = 0, …`.
    """
    if isinstance(node.expression, syntax.Call) and not is_known(node.expression.function):
        raise unknown(f"the aggregate {node.expression.function}()", node.expression.at)
    found: list[_Single] = []
    rest = _extracted(node.expression, scope, found)
    shape = Shape(tuple((_hidden(number), type_name) for number, (type_name, _) in enumerate(found)))
    compiled = compile_expression(rest, replace(scope, shape=shape))
    over = [each for _, each in found]
    return Aggregate(
        (name_of(node),),
        (compiled.type,),
        lambda rows: [compiled.evaluate([each(rows) for each in over])],
        constant=not found,
    )


def _hidden(number: int) -> str:
    return f" {number}"  # no query can write such a name


def _extracted(node: syntax.Expression, scope: Scope, found: list[_Single]) -> syntax.Expression:
    match node:
        case syntax.Call(function=function) if function in _AGGREGATES:
            found.append(_single(node, scope))
            return syntax.Column(_hidden(len(found) - 1), node.at)
        case syntax.Call():
            return replace(node, arguments=tuple(_extracted(each, scope, found) for each in node.arguments))
        case syntax.Binary():
            left, right = _extracted(node.left, scope, found), _extracted(node.right, scope, found)
            return replace(node, left=left, right=right)
        case syntax.Negative():
            return replace(node, value=_extracted(node.value, scope, found))
        case syntax.Member():
            return replace(node, base=_extracted(node.base, scope, found))
        case syntax.Literal():
            return node
    raise unknown("an expression over aggregates that reads a column", node.at)


# ---- aggregates of one column


def _single(call: syntax.Call, scope: Scope) -> _Single:
    return _AGGREGATES[call.function](call, [compile_expression(argument, scope) for argument in call.arguments])


def _name(call: syntax.Call) -> str:
    """As Kusto.Language names it: the aggregate and what it is of."""
    of = stem(call.arguments[0]) if call.arguments else ""
    match call:
        case syntax.Call(function="take_any"):
            return of or "any_arg0"
        case syntax.Call(function="make_set" | "make_list"):
            return f"{call.function.removeprefix('make_')}_{of}"
        case syntax.Call(function="percentile", arguments=(_, syntax.Literal(text=share))):
            return f"percentile_{of}_{share}"
    return f"{call.function}_{of}"


def _one(call: syntax.Call, arguments: Sequence[Compiled], types: Iterable[str]) -> Compiled:
    if len(arguments) != 1:
        raise unknown(f"{call.function}() with {len(arguments)} arguments", call.at)
    if arguments[0].type not in types:
        raise unknown(f"{call.function}() of a {arguments[0].type}", call.at)
    return arguments[0]


def _values(argument: Compiled, rows: list[Row]) -> list[Any]:
    return [value for value in map(argument.evaluate, rows) if value is not None]


def _count(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
    if arguments:
        raise wrong("count() with arguments", call.at)
    return "long", len


def _countif(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
    if len(arguments) != 1 or arguments[0].type != "bool":
        raise wrong(f"countif() of {' and '.join(f'a {each.type}' for each in arguments)}", call.at)
    evaluate = arguments[0].evaluate
    return "long", lambda rows: sum(evaluate(row) is True for row in rows)


def _dcount(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
    """Exact; Kusto's is exact for small numbers and an estimate beyond."""
    argument = _one(call, arguments, INTEGERS | {"string", "datetime"})
    return "long", lambda rows: len(set(_values(argument, rows)))


def _sum(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
    argument = _one(call, arguments, NUMBERS)
    if argument.type == "real":
        return "real", lambda rows: _total(_values(argument, rows))
    return "long", lambda rows: numbers.within_64_bits(sum(_values(argument, rows)))


def _total(found: Sequence[float]) -> float:
    try:
        return math.fsum(found)
    except OverflowError:
        raise Unsupported("a sum beyond 64 bits") from None


def _avg(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
    argument = _one(call, arguments, NUMBERS)

    def over(rows: list[Row]) -> float:
        found = _values(argument, rows)
        if not found:
            raise Unsupported("avg() over no value")
        return _total(found) / len(found)

    return "real", over


def _extreme(choose: Callable[..., Any]) -> Callable[[syntax.Call, Sequence[Compiled]], _Single]:
    def compiled(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
        argument = _one(call, arguments, NUMBERS | {"datetime", "timespan"})
        return argument.type, lambda rows: choose(_values(argument, rows), default=None)

    return compiled


def _percentile(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
    """Nearest rank, as documented: the smallest value that this percentage of the values does not exceed."""
    if len(arguments) != 2:
        raise wrong(f"percentile() with {len(arguments)} arguments", call.at)
    argument, share = _one(call, arguments[:1], NUMBERS), arguments[1]
    percent = share.evaluate([]) if share.constant and share.type == "long" else None
    if percent is None or not 0 < percent <= 100:
        raise unknown("percentile() of that share", call.at)

    def over(rows: list[Row]) -> Any:
        found = sorted(_values(argument, rows))
        return found[-(-len(found) * percent // 100) - 1] if found else None

    return ("long" if argument.type == "int" else argument.type), over


def _where(inner: Callable[[syntax.Call, Sequence[Compiled]], _Single]) -> Callable[..., _Single]:
    """The aggregate over the rows for which its last argument is true."""

    def compiled(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
        if len(arguments) != 2 or arguments[1].type != "bool":
            raise wrong(f"{call.function}() of that form", call.at)
        test = arguments[1].evaluate
        type_name, over = inner(call, arguments[:1])
        return type_name, lambda rows: over([row for row in rows if test(row) is True])

    return compiled


def _collected(gathered: Callable[[list[Any]], list[Any]]) -> Callable[[syntax.Call, Sequence[Compiled]], _Single]:
    """make_list() and make_set(). Of more values than the limit Kusto keeps any: that is refused."""

    def compiled(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
        argument, most = _one(call, arguments[:1], HELD), _most(call, arguments[1:])
        held = apply(HELD[argument.type], "dynamic", argument)

        def over(rows: list[Row]) -> list[Any]:
            found = gathered(_values(held, rows))
            if len(found) > most:
                raise Unsupported(f"{call.function}() of {len(found)} values with a limit of {most}")
            return found

        return "dynamic", over

    return compiled


def _most(call: syntax.Call, limit: Sequence[Compiled]) -> int:
    """How many elements such an array has at most, also where no limit is given (Kusto's pages of both)."""
    if not limit:
        return _MAX_ELEMENTS
    if len(limit) > 1 or limit[0].type not in INTEGERS or not limit[0].constant:
        raise unknown(f"{call.function}() with such a limit", call.at)
    most = limit[0].evaluate([])
    if most is None or not 0 < most <= _MAX_ELEMENTS:
        raise unknown(f"{call.function}() with the limit {most}", call.at)
    return int(most)


def _distinct(found: list[Any]) -> list[Any]:
    """In the order in which the values are met: Kusto gives any."""
    if any(isinstance(each, list | dict) for each in found):
        raise Unsupported("make_set() of arrays or objects")
    return list({json.dumps(each): each for each in found}.values())


def _take_any(call: syntax.Call, arguments: Sequence[Compiled]) -> _Single:
    """The first value: Kusto gives any."""
    argument = _one(call, arguments, HELD)
    default = "" if argument.type == "string" else None
    return argument.type, lambda rows: next(iter(_values(argument, rows)), default)


_AGGREGATES: Mapping[str, Callable[[syntax.Call, Sequence[Compiled]], _Single]] = {
    "count": _count,
    "countif": _countif,
    "dcount": _dcount,
    "dcountif": _where(_dcount),
    "sum": _sum,
    "sumif": _where(_sum),
    "avg": _avg,
    "max": _extreme(max),
    "min": _extreme(min),
    "maxif": _where(_extreme(max)),
    "minif": _where(_extreme(min)),
    "percentile": _percentile,
    "make_list": _collected(lambda found: found),  # in the order of the rows: Kusto gives any
    "make_set": _collected(_distinct),
    "take_any": _take_any,
    "any": _take_any,
}


# ---- the row of the greatest or least key


def _arg(node: syntax.Named, call: syntax.Call, scope: Scope, *, keys: Sequence[str | None]) -> Aggregate:
    """The key, and the columns named, or all others for '*'. A name before it is the key's."""
    if len(call.arguments) < 2 or isinstance(call.arguments[0], syntax.Star):
        raise unknown(f"{call.function}() of that form", call.at)
    key, *rest = call.arguments
    names = [name_of(node) if node.name else _made(key, f"{call.function.removeprefix('arg_')}_")]
    columns = [_made(each, None) for each in rest if not isinstance(each, syntax.Star)]
    if len(columns) == len(rest):
        names += columns
    elif len(rest) > 1:
        raise unknown(f"{call.function}() of that form", call.at)
    else:
        own = key.name if isinstance(key, syntax.Column) else None
        others = [name for name in scope.shape.names if name != own and name not in keys]
        rest = [syntax.Column(name, call.at) for name in others]
        names += [Name(name, "made", call.at) for name in others]
    compiled = [compile_expression(each, scope) for each in (key, *rest)]
    if compiled[0].type not in NUMBERS | {"datetime"}:
        raise unknown(f"{call.function}() by a {compiled[0].type}", call.at)
    choose: Callable[..., Any] = max if call.function == "arg_max" else min
    over = _row_of(call, choose, [each.evaluate for each in compiled])
    return Aggregate(tuple(names), tuple(each.type for each in compiled), over)


def _made(node: syntax.Expression, otherwise: str | None) -> Name:
    text = stem(node) or otherwise
    if text is None:
        raise unknown("arg_max() or arg_min() of a computed column", node.at)
    return Name(text, "made", node.at)


def _row_of(call: syntax.Call, choose: Callable[..., Any], evaluates: Sequence[Callable[[Row], Any]]) -> Over:
    first, *rest = evaluates

    def over(rows: list[Row]) -> list[Any]:
        known = [(key, row) for row in rows if (key := first(row)) is not None]
        if not known:
            raise Unsupported(f"{call.function}() over no value")
        best = choose(key for key, _ in known)
        found = [[key, *(evaluate(row) for evaluate in rest)] for key, row in known if key == best]
        if any(other != found[0] for other in found):
            raise Unsupported(f"{call.function}() of several different rows with the same key")
        return found[0]

    return over
