"""The tabular operators: each turns the shape of its input into the shape of its output, and rows into rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, assert_never

from simulator.resource_graph.kql import syntax
from simulator.resource_graph.kql.aggregates import compile_aggregate
from simulator.resource_graph.kql.compiled import SORTABLE, Compiled, Evaluate, Row, default_of, unknown, wrong
from simulator.resource_graph.kql.scalars import Scope, Shape, compile_expression, compile_predicate

# Table name (lower case) to its columns and their types.
Schema = Mapping[str, Mapping[str, str]]
# Table name (lower case) to its rows, in the order of the schema's columns.
Tables = Mapping[str, list[Row]]
Step = Callable[[list[Row], Tables], list[Row]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled query: the shape of its rows, and the steps that compute them."""

    table: str
    shape: Shape
    steps: tuple[Step, ...]

    def run(self, tables: Tables) -> list[Row]:
        return reduce(lambda rows, step: step(rows, tables), self.steps, tables[self.table])

    def then(self, shape: Shape, step: Step) -> "Plan":
        return Plan(self.table, shape, (*self.steps, step))


@dataclass(frozen=True, slots=True)
class Planner:
    """Compiles queries against one schema and one time. `absent`: tables of the service that the schema has not."""

    schema: Schema
    absent: frozenset[str]
    now_ticks: int

    def plan(self, query: syntax.Query) -> Plan:
        table = query.table.lower()
        if table in self.absent:
            raise unknown(f"the table '{query.table}'", query.at)
        if table not in self.schema:
            raise wrong(f"the unknown table '{query.table}'", query.at)
        scan = Plan(table, Shape(tuple(self.schema[table].items())), ())
        return reduce(self._extended, query.operators, scan)

    def _extended(self, plan: Plan, node: syntax.Operator) -> Plan:
        scope = Scope(plan.shape, self.now_ticks)
        match node:
            case syntax.Where():
                return plan.then(plan.shape, _where(node, scope))
            case syntax.Extend():
                return plan.then(*_extend(node, scope))
            case syntax.Project():
                return plan.then(*_project(node, scope))
            case syntax.ProjectAway():
                return plan.then(*_project_away(node, scope))
            case syntax.Join():
                return plan.then(*_join(node, plan.shape, self.plan(node.right)))
            case syntax.Summarize():
                return plan.then(*_summarize(node, scope))
            case syntax.Sort():
                return plan.then(plan.shape, _sort(node, scope))
        assert_never(node)


# ---- one row at a time


def _where(node: syntax.Where, scope: Scope) -> Step:
    """A null predicate drops the row, as a false one does."""
    predicate = compile_predicate(node.predicate, scope).evaluate
    return lambda rows, _: [row for row in rows if predicate(row)]


def _compile_named(nodes: Iterable[syntax.Named], scope: Scope) -> list[tuple[str, Compiled]]:
    named = [(_name_of(node), compile_expression(node.expression, scope)) for node in nodes]
    _refuse_twins([name for name, _ in named], nodes)
    return named


def _name_of(node: syntax.Named) -> str:
    match node:
        case syntax.Named(name=str(name)):
            return name
        case syntax.Named(expression=syntax.Column(name=name)):
            return name
    raise unknown("an expression without a name", node.expression.at)


def _refuse_twins(names: Sequence[str], nodes: Iterable[syntax.Named]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            place = next(node.expression.at for node in nodes if _name_of(node) == name)
            raise wrong(f"the column '{name}' named twice", place)


def _extend(node: syntax.Extend, scope: Scope) -> tuple[Shape, Step]:
    """A known name is replaced in its place, a new one is appended; all expressions read the row as it was before."""
    named = dict(_compile_named(node.columns, scope))
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


def _project_away(node: syntax.ProjectAway, scope: Scope) -> tuple[Shape, Step]:
    gone = {scope.shape.position(column) for column in node.columns}
    kept = [position for position in range(len(scope.shape.columns)) if position not in gone]
    shape = Shape(tuple(scope.shape.columns[position] for position in kept))
    return shape, lambda rows, _: [[row[position] for position in kept] for row in rows]


def _shape_of(named: Iterable[tuple[str, Compiled]]) -> Shape:
    return Shape(tuple((name, compiled.type) for name, compiled in named))


def _projection(evaluates: Sequence[Evaluate]) -> Step:
    return lambda rows, _: [[evaluate(row) for evaluate in evaluates] for row in rows]


# ---- several rows, or several tables


def _join(node: syntax.Join, left: Shape, right: Plan) -> tuple[Shape, Step]:
    """A hash join that keeps every left row; an unmatched one gets '' for strings and null for the rest."""
    if node.kind != "leftouter":
        kind = "join without a kind" if node.kind is None else f"join kind={node.kind}"
        raise unknown(kind, node.at)
    pairs = [_key_positions(key, left, right.shape) for key in node.keys]
    left_key = _tuple_of([pair[0] for pair in pairs])
    right_key = _tuple_of([pair[1] for pair in pairs])
    unmatched = [[default_of(type_name) for _, type_name in right.shape.columns]]

    def step(rows: list[Row], tables: Tables) -> list[Row]:
        matches: dict[tuple[Any, ...], list[Row]] = {}
        for row in right.run(tables):
            matches.setdefault(right_key(row), []).append(row)
        return [row + match for row in rows for match in matches.get(left_key(row), unmatched)]

    return _joined_shape(left, right.shape), step


def _key_positions(key: syntax.Column, left: Shape, right: Shape) -> tuple[int, int]:
    """String keys only: the engines disagree whether null equals null in a join."""
    positions = left.position(key), right.position(key)
    types = {left.columns[positions[0]][1], right.columns[positions[1]][1]}
    if "dynamic" in types:
        raise wrong(f"the dynamic join key '{key.name}'", key.at)
    if len(types) > 1:
        raise wrong(f"the join key '{key.name}' of two types", key.at)
    if types != {"string"}:
        raise unknown(f"the join key '{key.name}' of type {types.pop()}", key.at)
    return positions


def _tuple_of(positions: Sequence[int]) -> Callable[[Row], tuple[Any, ...]]:
    return lambda row: tuple([row[position] for position in positions])


def _joined_shape(left: Shape, right: Shape) -> Shape:
    """A right column whose name is taken gets the first free number as a suffix, counting from 1."""
    taken = set(left.names) | set(right.names)
    columns = list(left.columns)
    for name, type_name in right.columns:
        unique = name if name not in left.names else _numbered(name, taken)
        taken.add(unique)
        columns.append((unique, type_name))
    return Shape(tuple(columns))


def _numbered(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}{number}" in taken:
        number += 1
    return f"{name}{number}"


def _summarize(node: syntax.Summarize, scope: Scope) -> tuple[Shape, Step]:
    """Groups in the order they are first met. Without keys there is one group, even over no rows."""
    keys = _compile_named(node.keys, scope)
    for (name, compiled), key in zip(keys, node.keys, strict=True):
        _refuse_as_key(compiled, f"the group key '{name}'", key.expression.at)
    names = [name for name, _ in keys]
    aggregates = [compile_aggregate(aggregate, scope, names) for aggregate in node.aggregates]
    shape = Shape((*_shape_of(keys).columns, *(column for each in aggregates for column in each.columns)))
    if len(set(shape.names)) < len(shape.names):
        raise wrong("a column named twice by summarize", node.aggregates[0].expression.at)
    evaluates = [compiled.evaluate for _, compiled in keys]

    def step(rows: list[Row], _: Tables) -> list[Row]:
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(tuple([evaluate(row) for evaluate in evaluates]), []).append(row)
        if not evaluates and not groups:
            groups[()] = []
        return [[*key, *(value for each in aggregates for value in each.over(group))] for key, group in groups.items()]

    return shape, step


def _refuse_as_key(compiled: Compiled, what: str, at: syntax.Place, types: frozenset[str] = SORTABLE) -> None:
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
    _refuse_as_key(compiled, "a sort key", node.expression.at, SORTABLE | {"real"})
    evaluate = compiled.evaluate
    if compiled.type == "string":
        return evaluate, node.descending
    null_rank = 0 if node.nulls_first != node.descending else 2

    def ranked(row: Row) -> tuple[int, Any]:
        value = evaluate(row)
        return (null_rank, 0) if value is None else (1, value)

    return ranked, node.descending
