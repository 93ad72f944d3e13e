"""The tabular operators: each turns the shape of its input into the shape of its output, and rows into rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from itertools import count
from typing import Any, assert_never

from simulator.resource_graph.kql import combining, functions, names, parsing, syntax
from simulator.resource_graph.kql.aggregates import compile_aggregate
from simulator.resource_graph.kql.compiled import SORTABLE, Compiled, Evaluate, Row, unknown, wrong
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.functions_of_time import OF_NOW
from simulator.resource_graph.kql.scalars import Scope, Shape, compile_expression, compile_predicate

# Table name (lower case) to its columns and their types.
Schema = Mapping[str, Mapping[str, str]]
# Table name (lower case) to its rows, in the order of the schema's columns.
Tables = Mapping[str, list[Row]]
Step = Callable[[list[Row], Tables], list[Row]]

DEFAULT_TABLE = "resources"  # of Resource Graph
_MAX_EXPANDED = 128  # rows per row by default; Resource Graph leaves the others out (query-language.md)


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled query: the shape of its rows, and the steps that compute them. The first step reads the table."""

    shape: Shape
    steps: tuple[Step, ...]

    def run(self, tables: Tables) -> list[Row]:
        rows: list[Row] = []
        for step in self.steps:
            rows = step(rows, tables)
        return rows

    def then(self, shape: Shape, step: Step) -> "Plan":
        return Plan(shape, (*self.steps, step))


@dataclass(frozen=True, slots=True)
class Planner:
    """Compiles queries against one schema and one time. `absent`: tables of the service that the schema has not."""

    schema: Schema
    absent: frozenset[str]
    now_ticks: int
    nameless: Iterator[int] = field(default_factory=lambda: count(1))

    def plan(self, query: syntax.Query) -> Plan:
        source, operators = query.source, query.operators
        if source is None and isinstance(operators[0], syntax.Union):
            first, *legs = operators[0].legs
            start = self.plan(first)
            start = start.then(*self._union(operators[0], start.shape, legs)) if legs else start
            return reduce(self._extended, operators[1:], start)
        start = self.plan(source) if isinstance(source, syntax.Query) else self._scan(source, query.at)
        return reduce(self._extended, operators, start)

    def _scan(self, name: str | None, at: syntax.Place) -> Plan:
        table = DEFAULT_TABLE if name is None else name.lower()
        if table in self.absent:
            raise unknown(f"the table '{name}'", at)
        if table not in self.schema:
            raise wrong(f"the unknown table '{name or table}'", at)
        return Plan(Shape(tuple(self.schema[table].items())), (lambda _, tables: tables[table],))

    def _extended(self, plan: Plan, node: syntax.Operator) -> Plan:
        match node:
            case syntax.Join():
                return plan.then(*self._join(node, plan.shape))
            case syntax.Union():
                return plan.then(*self._union(node, plan.shape, node.legs))
        kept = _kept(node, plan.shape)
        return plan.then(*(kept or _compiled(node, Scope(plan.shape, self.now_ticks, self.nameless))))

    def _join(self, node: syntax.Join, left: Shape) -> tuple[Shape, Step]:
        right = self.plan(node.right)
        shape, join = combining.join(node, left, right.shape)
        return shape, lambda rows, tables: join(rows, right.run(tables))

    def _union(self, node: syntax.Union, first: Shape, legs: Sequence[syntax.Query]) -> tuple[Shape, Step]:
        plans = [self.plan(leg) for leg in legs]
        shape, union = combining.union(node, [first, *(plan.shape for plan in plans)])
        return shape, lambda rows, tables: union([rows, *(plan.run(tables) for plan in plans)])


@lru_cache(maxsize=1024)
def _kept(node: syntax.OfOneTable, shape: Shape) -> tuple[Shape, Step] | None:
    """What is compiled of an operator, for the next query that has the same one. None if it varies.

    The parser gives the same operators for texts that differ elsewhere.
    """
    return None if _varies(node) else _compiled(node, Scope(shape, 0, iter(())))


def _varies(node: Any) -> bool:
    """Whether what it means depends on the query's time, or on how many columns without a name stand before it."""
    match node:
        case None | str() | int() | syntax.Place() | syntax.Literal() | syntax.Column():
            return False
        case tuple():
            return any(map(_varies, node))
        case syntax.Call(function=function) if function in OF_NOW:
            return True
        case syntax.Named(name=None, expression=expression) if not isinstance(expression, syntax.Column):
            return True
    return any(_varies(getattr(node, part)) for part in node.__match_args__)


def _compiled(node: syntax.OfOneTable, scope: Scope) -> tuple[Shape, Step]:
    match node:
        case syntax.Where():
            return scope.shape, _where(node, scope)
        case syntax.Extend():
            return _extend(node, scope)
        case syntax.Project():
            return _project(node, scope)
        case syntax.Select():
            return _select(node, scope.shape)
        case syntax.Rename():
            return _rename(node, scope.shape), lambda rows, _: rows
        case syntax.Expand():
            return _expand(node, scope)
        case syntax.Parse():
            return _parse(node, scope)
        case syntax.Summarize():
            return _summarize(node, scope)
        case syntax.Distinct():
            return _distinct(node, scope)
        case syntax.Sort():
            return scope.shape, _sort(node, scope)
        case syntax.Take(rows=most):
            return scope.shape, lambda rows, _: rows[:most]
        case syntax.Count():
            return Shape((("Count", "long"),)), lambda rows, _: [[len(rows)]]
    assert_never(node)


# ---- one row at a time


def _where(node: syntax.Where, scope: Scope) -> Step:
    """A null predicate drops the row, as a false one does."""
    predicate = compile_predicate(node.predicate, scope).evaluate
    return lambda rows, _: [row for row in rows if predicate(row)]


def _compile_named(nodes: Iterable[syntax.Named], scope: Scope) -> list[tuple[str, Compiled]]:
    nodes = list(nodes)
    compiled = [compile_expression(node.expression, scope) for node in nodes]
    return list(zip(names.assigned(map(names.name_of, nodes), scope.nameless), compiled, strict=True))


def _extend(node: syntax.Extend, scope: Scope) -> tuple[Shape, Step]:
    """A known name is replaced in its place, a new one is appended; all expressions read the row as it was before."""
    named = dict(_compile_named(node.columns, scope))
    for column, name in zip(node.columns, named, strict=True):
        if names.name_of(column).text not in (None, name):
            raise unknown("extend of two columns whose names are made alike", column.expression.at)
    kept = scope.shape.names
    added = [name for name in named if name not in kept]
    shape = Shape(
        tuple((name, named[name].type if name in named else type_name) for name, type_name in scope.shape.columns)
        + tuple((name, named[name].type) for name in added)
    )
    replaced = [(kept.index(name), compiled.evaluate) for name, compiled in named.items() if name in kept]
    appended = [named[name].evaluate for name in added]

    def widened(row: Row) -> Row:
        wide = row + [evaluate(row) for evaluate in appended]
        for position, evaluate in replaced:
            wide[position] = evaluate(row)
        return wide

    return shape, lambda rows, _: [widened(row) for row in rows]


def _project(node: syntax.Project, scope: Scope) -> tuple[Shape, Step]:
    named = _compile_named(node.columns, scope)
    return _shape_of(named), _projection([compiled.evaluate for _, compiled in named])


def _select(node: syntax.Select, shape: Shape) -> tuple[Shape, Step]:
    """project-away and project-keep leave the order, project-reorder puts the columns named first."""
    chosen = list(dict.fromkeys(name for column in node.columns for name in _named_by(column, shape)))
    match node.operator:
        case "project-away":
            kept = [name for name in shape.names if name not in chosen]
        case "project-keep":
            kept = [name for name in shape.names if name in chosen]
        case _:
            kept = list(dict.fromkeys([*chosen, *shape.names]))
    positions = [shape.names.index(name) for name in kept]
    selected = Shape(tuple(shape.columns[position] for position in positions))
    return selected, lambda rows, _: [[row[position] for position in positions] for row in rows]


def _named_by(column: syntax.Column, shape: Shape) -> list[str]:
    found = names.matching(column.name, shape.names)
    if not found:
        raise wrong(f"the unknown column '{column.name}'", column.at)
    return found


def _rename(node: syntax.Rename, shape: Shape) -> Shape:
    columns = list(shape.columns)
    for name, column in node.columns:
        if name in shape.names or name in [known for known, _ in columns]:
            raise wrong(f"the column '{name}' named twice", column.at)
        position = shape.position(column)
        columns[position] = (name, columns[position][1])
    return Shape(tuple(columns))


def _replaced(shape: Shape, name: str, type_name: str) -> tuple[Shape, int]:
    """The shape with a column in the place of that name, or at the end; and its position."""
    if name not in shape.names:
        return Shape((*shape.columns, (name, type_name))), len(shape.columns)
    position = shape.names.index(name)
    columns = list(shape.columns)
    columns[position] = (name, type_name)
    return Shape(tuple(columns)), position


def _expand(node: syntax.Expand, scope: Scope) -> tuple[Shape, Step]:
    """A row per element of an array, or per member of an object. Null stays a row, an empty array is none."""
    compiled = compile_expression(node.column.expression, scope)
    if compiled.type != "dynamic":
        raise unknown(f"mv-expand of a {compiled.type}", node.at)
    [name] = names.assigned([names.name_of(node.column)], scope.nameless)
    element = _element(node, scope)
    shape, position = _replaced(scope.shape, name, element.type)
    most = _MAX_EXPANDED if node.limit is None else node.limit

    def expanded(row: Row) -> list[Row]:
        elements = _elements(compiled.evaluate(row))
        if len(elements) > most and node.limit is None:
            raise Unsupported(f"mv-expand of more than {most} elements")
        before, after = row[:position], row[position + 1 :]
        return [[*before, element.evaluate([each]), *after] for each in elements[:most]]

    return shape, lambda rows, _: [wide for row in rows for wide in expanded(row)]


def _element(node: syntax.Expand, scope: Scope) -> Compiled:
    """One element, over a row of its own, as the type that it is wanted as."""
    element = Compiled("dynamic", lambda row: row[0])
    if node.type in (None, "dynamic"):
        return element
    return functions.call(f"to{node.type}", [element], node.at, now_ticks=scope.now_ticks)


def _elements(value: Any) -> list[Any]:
    match value:
        case None:
            return [None]
        case list():
            return value
        case dict() if value:
            return [{key: member} for key, member in value.items()]
        case dict():
            raise Unsupported("mv-expand of an object without members")
    return [value]


def _parse(node: syntax.Parse, scope: Scope) -> tuple[Shape, Step]:
    text = compile_expression(node.text, scope)
    if text.type not in ("string", "dynamic"):
        raise unknown(f"parse of a {text.type}", node.at)
    read = functions.call("tostring", [text], node.at, now_ticks=scope.now_ticks).evaluate
    captures = [part for part in node.pattern if isinstance(part, syntax.Capture)]
    for capture in captures:
        if capture.name in scope.shape.names or [each.name for each in captures].count(capture.name) > 1:
            raise unknown(f"parse into the column '{capture.name}', which is there", capture.at)
    columns = tuple((capture.name, capture.type) for capture in captures)
    match = parsing.matcher(node)
    return Shape((*scope.shape.columns, *columns)), lambda rows, _: [[*row, *match(read(row))] for row in rows]


def _shape_of(named: Iterable[tuple[str, Compiled]]) -> Shape:
    return Shape(tuple((name, compiled.type) for name, compiled in named))


def _projection(evaluates: Sequence[Evaluate]) -> Step:
    return lambda rows, _: [[evaluate(row) for evaluate in evaluates] for row in rows]


# ---- several rows, or several tables


def _summarize(node: syntax.Summarize, scope: Scope) -> tuple[Shape, Step]:
    """Groups in the order they are first met. Without keys there is one group, even over no rows."""
    keys = _compile_named(node.keys, scope)
    for (name, compiled), key in zip(keys, node.keys, strict=True):
        _refuse_as_key(compiled, f"the group key '{name}'", key.expression.at)
    taken = [name for name, _ in keys]
    behind = [
        _column_behind(key.expression, compiled, scope) for key, (_, compiled) in zip(node.keys, keys, strict=True)
    ]
    aggregates = [compile_aggregate(aggregate, scope, behind) for aggregate in node.aggregates]
    if aggregates and all(each.constant for each in aggregates):
        raise unknown("summarize of constants alone", node.aggregates[0].expression.at)
    given = names.assigned([name for each in aggregates for name in each.names], scope.nameless, taken)
    types = [type_name for each in aggregates for type_name in each.types]
    shape = Shape((*_shape_of(keys).columns, *zip(given, types, strict=True)))
    return shape, _grouping([compiled.evaluate for _, compiled in keys], [each.over for each in aggregates])


def _column_behind(node: syntax.Expression, compiled: Compiled, scope: Scope) -> str | None:
    """The column that a group key is, perhaps through a conversion to the type that it has."""
    match node:
        case syntax.Column(name=name):
            return name
        case syntax.Call(function=function, arguments=(syntax.Column() as column,)) if function in names.CONVERSIONS:
            return column.name if scope.shape.columns[scope.shape.position(column)][1] == compiled.type else None
    return None


def _grouping(evaluates: Sequence[Evaluate], aggregates: Sequence[Callable[[list[Row]], list[Any]]]) -> Step:
    def step(rows: list[Row], _: Tables) -> list[Row]:
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(tuple([evaluate(row) for evaluate in evaluates]), []).append(row)
        if not evaluates and not groups:
            groups[()] = []
        return [[*key, *(value for over in aggregates for value in over(group))] for key, group in groups.items()]

    return step


def _distinct(node: syntax.Distinct, scope: Scope) -> tuple[Shape, Step]:
    every = [syntax.Named(None, syntax.Column(name, node.at)) for name in scope.shape.names]
    columns = _compile_named(node.columns or every, scope)
    for name, compiled in columns:
        _refuse_as_key(compiled, f"the column '{name}' of distinct", node.at)
    return _shape_of(columns), _grouping([compiled.evaluate for _, compiled in columns], [])


def _refuse_as_key(compiled: Compiled, what: str, at: syntax.Place, *, types: frozenset[str] = SORTABLE) -> None:
    if compiled.type == "dynamic":
        raise wrong(f"{what} of dynamic type", at)
    if compiled.type not in types:
        raise unknown(f"{what} of type {compiled.type}", at)


def _sort(node: syntax.Sort, scope: Scope) -> Step:
    """Python's sort is stable, so sorting by the last key first sorts by all of them."""
    passes = [_sort_pass(key, scope) for key in reversed(node.keys)]

    def step(rows: list[Row], _: Tables) -> list[Row]:
        for key, descending in passes:
            rows = sorted(rows, key=key, reverse=descending)
        return rows

    return step


def _sort_pass(node: syntax.SortKey, scope: Scope) -> tuple[Evaluate, bool]:
    compiled = compile_expression(node.expression, scope)
    _refuse_as_key(compiled, "a sort key", node.expression.at, types=SORTABLE | {"real"})
    evaluate = compiled.evaluate
    if compiled.type == "string":
        return evaluate, node.descending
    null_rank = 0 if node.nulls_first != node.descending else 2

    def ranked(row: Row) -> tuple[int, Any]:
        value = evaluate(row)
        return (null_rank, 0) if value is None else (1, value)

    return ranked, node.descending
