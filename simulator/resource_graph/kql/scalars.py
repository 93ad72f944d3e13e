"""From an expression of the tree to a closure over a row, with its static type.

Types are known before any row is seen, so a query over no rows still fails on an unknown column or function.
"""

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from simulator.resource_graph.kql import dynamics, functions, numbers, syntax, times, values
from simulator.resource_graph.kql.compiled import (
    INTEGERS,
    NUMBERS,
    Compiled,
    Evaluate,
    Row,
    apply,
    common_type,
    constant,
    unknown,
    wrong,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a row, in order: name and type."""

    columns: tuple[tuple[str, str], ...]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]

    def position(self, column: syntax.Column) -> int:
        try:
            return self.names.index(column.name)
        except ValueError:
            raise wrong(f"the unknown column '{column.name}'", column.at) from None


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may refer to: the columns of the row, and the time of the query.

    `nameless` numbers the columns of the query that have no name.
    """

    shape: Shape
    now_ticks: int
    nameless: Iterator[int]


def compile_expression(node: syntax.Expression, scope: Scope) -> Compiled:
    match node:
        case syntax.Literal():
            return _literal(node)
        case syntax.Column():
            position = scope.shape.position(node)
            return Compiled(scope.shape.columns[position][1], operator.itemgetter(position))
        case syntax.Member():
            return _path(node, scope)
        case syntax.Element():
            return _element(node, compile_expression(node.base, scope), compile_expression(node.key, scope))
        case syntax.Call():
            functions.require(node.function, node.at)
            arguments = [compile_expression(argument, scope) for argument in node.arguments]
            return functions.call(node.function, arguments, node.at, now_ticks=scope.now_ticks)
        case syntax.Negative():
            return _negative(node, compile_expression(node.value, scope))
        case syntax.Star():
            raise unknown("'*' outside arg_max() and arg_min()", node.at)
        case syntax.Binary():
            return _binary(node, compile_expression(node.left, scope), compile_expression(node.right, scope))
        case syntax.Membership():
            items = [compile_expression(item, scope) for item in node.items]
            return _membership(node, compile_expression(node.left, scope), items)
    assert_never(node)


def compile_predicate(node: syntax.Expression, scope: Scope) -> Compiled:
    predicate = compile_expression(node, scope)
    if predicate.type != "bool":
        raise wrong(f"a {predicate.type} as the predicate of 'where'", node.at)
    return predicate


def _literal(node: syntax.Literal) -> Compiled:
    if node.text == "null" and node.type != "string":
        return constant(node.type, None)
    if node.type == "bool" and node.text.lower() not in ("true", "false"):
        raise unknown(f"bool({node.text})", node.at)
    if node.type in ("int", "long", "real") and not _NUMBER[node.type].fullmatch(node.text):
        raise unknown(f"{node.type}({node.text})", node.at)
    match node.type:
        case "string":
            return constant("string", node.text)
        case "bool":
            return constant("bool", node.text.lower() == "true")
        case "int" | "long":
            value = numbers.integer_of_digits(node.text)
            if node.type == "int" and values.as_int(value) is None:
                raise unknown("an int beyond 32 bits", node.at)
            return constant(node.type, value)
        case "real":
            return constant("real", numbers.real_of_digits(node.text))
        case "timespan":
            return constant("timespan", times.ticks_of_span(node.text))
        case "dynamic":
            return constant("dynamic", _json(node))
        case "datetime":
            ticks = times.ticks_of_text(node.text)
            if ticks is None:
                raise unknown(f"datetime({node.text})", node.at)
            return constant("datetime", ticks)
    raise unknown(f"a {node.type} literal", node.at)


_INTEGER = re.compile(r"-?\d+", re.ASCII)
_NUMBER = {"int": _INTEGER, "long": _INTEGER, "real": re.compile(r"-?\d+(\.\d+)?", re.ASCII)}


def _json(node: syntax.Literal) -> Any:
    """JSON, whose texts may stand in single quotes."""
    text = node.text if '"' in node.text or "\\" in node.text else node.text.replace("'", '"')
    try:
        json.loads(text)
    except ValueError:
        raise unknown(f"dynamic({node.text})", node.at) from None
    return values.dynamic_of_text(text)


# ---- members of dynamic values


def _path(node: syntax.Member, scope: Scope) -> Compiled:
    """All steps of a.b.c in one closure: the queries have many such paths."""
    keys: list[str | int] = []
    base: syntax.Expression = node
    while isinstance(base, syntax.Member):
        keys.append(base.key)
        base = base.base
    start = compile_expression(base, scope)
    if start.type != "dynamic":
        raise wrong(f"a member of a {start.type}", node.at)
    return Compiled("dynamic", _walk(start.evaluate, keys[::-1]), start.constant)


def _walk(start: Evaluate, keys: Sequence[str | int]) -> Evaluate:
    def walk(row: Row) -> Any:
        value = start(row)
        for key in keys:
            if isinstance(key, str):
                value = value.get(key) if isinstance(value, dict) else None
            else:
                value = value[key] if isinstance(value, list) and -len(value) <= key < len(value) else None
        return value

    return walk


def _element(node: syntax.Element, base: Compiled, key: Compiled) -> Compiled:
    if base.type != "dynamic":
        raise wrong(f"an element of a {base.type}", node.at)
    if key.type not in INTEGERS | {"string"}:
        raise unknown(f"an element by a {key.type}", node.at)

    def element(row: Row) -> Any:
        at = key.evaluate(row)
        return None if at is None else _walk(base.evaluate, [at])(row)

    return Compiled("dynamic", element, base.constant and key.constant)


# ---- operators

_EQUALITY: Mapping[str, Callable[[Any, Any], bool | None]] = {"==": values.equal, "!=": values.unequal}
_EQUALITY_OF_TEXT: Mapping[str, Callable[[str, str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "=~": values.equal_ignoring_case,
    "!~": values.unequal_ignoring_case,
}
_ORDERING: Mapping[str, Callable[[Any, Any], bool | None]] = {
    "<": values.less,
    "<=": values.less_or_equal,
    ">": values.greater,
    ">=": values.greater_or_equal,
}
_ARITHMETIC: Mapping[str, Callable[[Any, Any], int | None]] = {
    "+": numbers.add,
    "-": numbers.subtract,
    "*": numbers.multiply,
    "/": numbers.divide_integers,
    "%": numbers.modulo,
}
_ARITHMETIC_OF_REALS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": numbers.divide,
}
# The types on both sides, and what comes of it, where ticks are computed as the integers that they are.
_ARITHMETIC_OF_TICKS: Mapping[tuple[str, str, str], str] = {
    ("datetime", "-", "datetime"): "timespan",
    ("datetime", "-", "timespan"): "datetime",
    ("datetime", "+", "timespan"): "datetime",
    ("timespan", "+", "datetime"): "datetime",
    ("timespan", "+", "timespan"): "timespan",
    ("timespan", "-", "timespan"): "timespan",
    ("timespan", "*", "long"): "timespan",
    ("long", "*", "timespan"): "timespan",
    ("timespan", "*", "int"): "timespan",
    ("int", "*", "timespan"): "timespan",
}
_TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "startswith": values.starts_with,
    "endswith": values.ends_with,
    "contains": values.contains,
    "has": values.has_term,
}


def _binary(node: syntax.Binary, left: Compiled, right: Compiled) -> Compiled:
    if node.operator in ("and", "or"):
        return _logic(node, left, right)
    if node.operator == "matches regex":
        return functions.call("matches regex", [right, left], node.at, now_ticks=0)
    if node.operator.removeprefix("!") in _TEXT_TESTS:
        return _text_test(node, left, right)
    if node.operator in _ARITHMETIC:
        return _arithmetic(node, left, right)
    if node.operator in _ORDERING:
        return _ordering(node, left, right)
    return _equality(node, left, right)


def _operands(node: syntax.Binary, left: Compiled, right: Compiled) -> str:
    return f"{left.type} {node.operator} {right.type}"


def _logic(node: syntax.Binary, left: Compiled, right: Compiled) -> Compiled:
    if "dynamic" in (left.type, right.type):
        raise unknown(f"{_operands(node, left, right)}: cast the dynamic value first,", node.at)
    if (left.type, right.type) != ("bool", "bool"):
        raise wrong(_operands(node, left, right), node.at)
    decide = _and if node.operator == "and" else _or
    evaluate = decide(left.evaluate, right.evaluate)
    if left.constant and right.constant:
        return constant("bool", evaluate([]))
    return Compiled("bool", evaluate)


def _and(left: Evaluate, right: Evaluate) -> Evaluate:
    def both(row: Row) -> bool | None:
        first = left(row)
        if first is False:
            return False
        second = right(row)
        return None if first is None and second else second

    return both


def _or(left: Evaluate, right: Evaluate) -> Evaluate:
    def either(row: Row) -> bool | None:
        first = left(row)
        if first:
            return True
        second = right(row)
        return None if first is None and second is False else second

    return either


def _arithmetic(node: syntax.Binary, left: Compiled, right: Compiled) -> Compiled:
    types = {left.type, right.type}
    if "real" in types and types <= NUMBERS and node.operator in _ARITHMETIC_OF_REALS:
        return apply(numbers.of_reals(_ARITHMETIC_OF_REALS[node.operator]), "real", left, right)
    if types <= INTEGERS:
        return apply(_ARITHMETIC[node.operator], "long", left, right)
    ticks = _ARITHMETIC_OF_TICKS.get((left.type, node.operator, right.type))
    if ticks is not None:
        moment = apply(_ARITHMETIC[node.operator], ticks, left, right)
        return apply(_within_calendar, ticks, moment) if ticks == "datetime" else moment
    if types == {"timespan"} and node.operator == "/":
        return apply(numbers.of_reals(numbers.divide), "real", left, right)
    if types & {"string", "bool"} or (types & INTEGERS and "datetime" in types):
        raise wrong(_operands(node, left, right), node.at)
    raise unknown(_operands(node, left, right), node.at)


def _within_calendar(ticks: int | None) -> int | None:
    return None if ticks is None else times.within_calendar(ticks)


def _negative(node: syntax.Negative, value: Compiled) -> Compiled:
    if value.type not in NUMBERS | {"timespan"}:
        raise unknown(f"minus a {value.type}", node.at)
    result = "long" if value.type == "int" else value.type
    negated = (lambda found: -found) if value.type == "real" else (lambda found: numbers.within_64_bits(-found))
    return apply(lambda found: None if found is None else negated(found), result, value)


def _text_test(node: syntax.Binary, left: Compiled, right: Compiled) -> Compiled:
    """All of them ignore letter case."""
    if left.type not in ("string", "dynamic") or right.type != "string":
        raise unknown(_operands(node, left, right), node.at)
    if not right.constant or right.evaluate([]) == "":  # the empty text: documentation and engines differ
        raise unknown(f"'{node.operator}' with an empty or computed text", node.at)
    name, negated = node.operator.removeprefix("!"), node.operator.startswith("!")
    test = _TEXT_TESTS[name]
    if left.type == "dynamic":
        test = dynamics.tested(test, name == "has")
    if negated:
        return apply(lambda text, part: not test(text, part), "bool", left, right)
    return apply(test, "bool", left, right)


def _ordering(node: syntax.Binary, left: Compiled, right: Compiled) -> Compiled:
    """A dynamic beside a time: Kusto's language service forbids it, Resource Graph answers it (the portal asks so)."""
    for one, other in ((left, right), (right, left)):
        if one.type == "dynamic" and other.type in NUMBERS | {"datetime", "timespan"}:
            read = apply(dynamics.READ[other.type], other.type, one)
            left, right = (read, right) if one is left else (left, read)
            break
    if common_type([left, right]) in ("datetime", "timespan") or {left.type, right.type} <= NUMBERS:
        return apply(_ORDERING[node.operator], "bool", left, right)
    if "string" in (left.type, right.type):
        raise wrong(_operands(node, left, right), node.at)
    raise unknown(_operands(node, left, right), node.at)


def _equality(node: syntax.Binary, left: Compiled, right: Compiled) -> Compiled:
    common = common_type([left, right])
    if common == "string":
        if "~" in node.operator and right.constant:  # its case is changed once, and not for every row
            return apply(_EQUALITY_OF_TEXT[node.operator.replace("~", "=")], "bool", _folding(left), _folding(right))
        return apply(_EQUALITY_OF_TEXT[node.operator], "bool", left, right)
    if "dynamic" in (left.type, right.type):
        return _equality_of_dynamic(node, *((left, right) if left.type == "dynamic" else (right, left)))
    if node.operator not in _EQUALITY:
        raise wrong(_operands(node, left, right), node.at)
    if common not in INTEGERS | {"bool", "datetime", "timespan"}:
        raise unknown(_operands(node, left, right), node.at)
    return apply(_EQUALITY[node.operator], "bool", left, right)


def _folding(text: Compiled) -> Compiled:
    return apply(values.lower, "string", text)


def _equality_of_dynamic(node: syntax.Binary, left: Compiled, right: Compiled) -> Compiled:
    equals = (dynamics.EQUALS_IGNORING_CASE if "~" in node.operator else dynamics.EQUALS).get(right.type)
    if equals is None:
        raise unknown(_operands(node, left, right), node.at)
    same = apply(equals, "bool", left, right)
    return apply(values.negate, "bool", same) if node.operator.startswith("!") else same


def _membership(node: syntax.Membership, left: Compiled, items: Sequence[Compiled]) -> Compiled:
    """`in` is a chain of `==` by `or`, `!in` one of `!=` by `and`: null among nulls gives null."""
    ignores_case = node.operator.endswith("~")
    if ignores_case and left.type not in ("string", "dynamic"):
        raise wrong(f"{left.type} {node.operator}", node.at)
    if left.type == "dynamic" and {item.type for item in items} == {"string"}:
        left = apply(dynamics.text, "string", left)
    if left.type not in INTEGERS | {"string", "datetime"} or common_type([left, *items]) is None:
        raise unknown(f"{left.type} {node.operator} ({', '.join(item.type for item in items)})", node.at)
    if not all(item.constant for item in items):
        raise unknown(f"'{node.operator}' with a computed list", node.at)
    wanted = frozenset(_folded(item.evaluate([]), ignores_case) for item in items)
    found = not node.operator.startswith("!")

    def test(value: Any) -> bool | None:
        if value is None and None in wanted:
            return None
        return (_folded(value, ignores_case) in wanted) is found

    return apply(test, "bool", left)


def _folded(value: Any, ignores_case: bool) -> Any:
    return values.lower(value) if ignores_case and value is not None else value
