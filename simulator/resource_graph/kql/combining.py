"""join and union: rows of several queries into rows of one."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from simulator.resource_graph.kql import syntax
from simulator.resource_graph.kql.compiled import Row, default_of, unknown, wrong
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.names import numbered
from simulator.resource_graph.kql.scalars import Shape

_Key = Callable[[Row], tuple[Any, ...]]
_KINDS = ("innerunique", "inner", "leftouter", "leftanti", "leftsemi")


def join(node: syntax.Join, left: Shape, right: Shape) -> tuple[Shape, Callable[[list[Row], list[Row]], list[Row]]]:
    """A hash join. Where leftouter finds no match it gives '' for strings and null for the rest."""
    kind = node.kind or "innerunique"
    if kind not in _KINDS:
        raise unknown(f"join kind={kind}", node.at)
    pairs = [_key_positions(one, other, left=left, right=right) for one, other in node.keys]
    left_key, right_key = _tuple_of([pair[0] for pair in pairs]), _tuple_of([pair[1] for pair in pairs])
    nothing = [[default_of(type_name) for _, type_name in right.columns]] if kind == "leftouter" else []

    def joined(rows: list[Row], others: list[Row]) -> list[Row]:
        matches: dict[tuple[Any, ...], list[Row]] = {}
        for other in others:
            matches.setdefault(right_key(other), []).append(other)
        if kind in ("leftanti", "leftsemi"):
            return [row for row in rows if (left_key(row) in matches) is (kind == "leftsemi")]
        if kind == "innerunique":
            rows = _unique(rows, left_key)
        return [row + match for row in rows for match in matches.get(left_key(row), nothing)]

    return (left if kind in ("leftanti", "leftsemi") else _joined_shape(left, right)), joined


def _unique(rows: list[Row], key: _Key) -> list[Row]:
    """One row per key. Which of several different rows Kusto keeps is its own choice."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if found.setdefault(key(row), row) != row:
            raise Unsupported("an innerunique join of several different left rows with the same key")
    return list(found.values())


def _key_positions(one: syntax.Column, other: syntax.Column, *, left: Shape, right: Shape) -> tuple[int, int]:
    """String keys only: the engines disagree whether null equals null in a join."""
    positions = left.position(one), right.position(other)
    types = {left.columns[positions[0]][1], right.columns[positions[1]][1]}
    if "dynamic" in types:
        raise wrong(f"the dynamic join key '{one.name}'", one.at)
    if len(types) > 1:
        raise wrong(f"the join key '{one.name}' of two types", one.at)
    if types != {"string"}:
        raise unknown(f"the join key '{one.name}' of type {types.pop()}", one.at)
    return positions


def _tuple_of(positions: Sequence[int]) -> _Key:
    return lambda row: tuple([row[position] for position in positions])


def _joined_shape(left: Shape, right: Shape) -> Shape:
    """A right column whose name is taken gets the first free number as a suffix, counting from 1."""
    taken = set(left.names) | set(right.names)
    columns = list(left.columns)
    for name, type_name in right.columns:
        unique = name if name not in left.names else numbered(name, taken)
        taken.add(unique)
        columns.append((unique, type_name))
    return Shape(tuple(columns))


def union(node: syntax.Union, shapes: Sequence[Shape]) -> tuple[Shape, Callable[[Sequence[list[Row]]], list[Row]]]:
    """The rows one after the other, with the columns of all: what a row has not is '' or null."""
    if node.kind not in (None, "outer"):
        raise unknown(f"union kind={node.kind}", node.at)
    types: dict[str, str] = {}
    for name, type_name in chain.from_iterable(shape.columns for shape in shapes):
        if types.setdefault(name, type_name) != type_name:
            raise unknown(f"a union of the column '{name}' of two types", node.at)
    widen = [_widened(shape, types) for shape in shapes]
    return Shape(tuple(types.items())), lambda legs: [
        wide(row) for wide, rows in zip(widen, legs, strict=True) for row in rows
    ]


def _widened(shape: Shape, types: dict[str, str]) -> Callable[[Row], Row]:
    places = [(shape.names.index(name) if name in shape.names else None, default_of(types[name])) for name in types]
    return lambda row: [default if place is None else row[place] for place, default in places]
