"""A subset of KQL, evaluated over plain rows: the simulator answers the very query text that Azure would receive.

It has what the app's Resource Graph queries, its workbook's log queries and operators' public queries about patches
need: some twenty tabular operators, as many aggregates, and functions and operators with the opposites.

| file | part |
| --- | --- |
| grammar.lark, parser.py, syntax.py | from text to a tree |
| operators.py, combining.py, parsing.py | tabular operators: from the tree to steps over rows |
| scalars.py, functions*.py, aggregates.py | expressions, functions, aggregates: from the tree to closures |
| names.py | the names of columns that a query does not name |
| compiled.py, values.py, dynamics.py | a compiled expression; what values are and how they change type |
| numbers.py, times.py | arithmetic within 64 bits; datetimes and timespans |
| schema.json, errors.py | Resource Graph's tables and columns; the two ways to fail |

It never approximates and never crashes. It raises Unsupported for what it does not implement, and KqlError for what the
service would refuse. It does not read the clock, change its input, or page. It does not validate: Resource Graph's
limits on a query and Kusto's reserved names are checked by the official language service (simulator/node/kql-check.js).
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from simulator.resource_graph.kql import times
from simulator.resource_graph.kql.compiled import Row, default_of
from simulator.resource_graph.kql.errors import KqlError, Unsupported
from simulator.resource_graph.kql.operators import Planner, Schema
from simulator.resource_graph.kql.parser import parse

__all__ = ["KqlError", "Result", "Schema", "Unsupported", "evaluate", "resource_graph_schema"]

JSON = Any
_Reader = Callable[[str], object]
Tables = Mapping[str, Sequence[Mapping[str, object]]]


@dataclass(frozen=True, slots=True)
class Result:
    """The answer: columns as (name, type), and one object per row, as Resource Graph's objectArray has them."""

    columns: tuple[tuple[str, str], ...]
    rows: list[dict[str, JSON]]


@cache
def _packaged() -> Mapping[str, Any]:
    """schema.json, which kql-check.js reads too."""
    found: Mapping[str, Any] = json.loads(
        resources.files(__package__).joinpath("schema.json").read_text(encoding="utf-8")
    )
    return found


def resource_graph_schema() -> Schema:
    """The tables and columns of Resource Graph that are implemented."""
    return {table: _packaged()["columns"] for table in _packaged()["tables"]}


def evaluate(text: str, tables: Tables, now: datetime, *, schema: Schema | None = None) -> Result:
    """The query's answer over `tables` at the time `now`. A table of the schema that is not in `tables` has no rows.

    Raises KqlError or Unsupported for the query, ValueError for rows that do not fit the schema. Dynamic values in the
    answer are those of the input, not copies.
    """
    known = resource_graph_schema() if schema is None else schema
    absent = frozenset(_packaged()["tablesNotHere"] if schema is None else ())
    try:
        plan = Planner(known, absent, times.ticks_of(now)).plan(parse(text))
        with _collector_at_rest():
            rows = plan.run(_Source(known, tables))
            return Result(plan.shape.columns, _objects(plan.shape.columns, rows))
    except RecursionError:
        raise Unsupported("a query or a value that is nested so deeply") from None


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Rows are many new containers and no circle: the collector would walk the whole world again and again for them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class _Source(Mapping[str, list[Row]]):
    """The given tables as rows in the order of the schema's columns; a table is converted when a query scans it."""

    def __init__(self, schema: Schema, tables: Tables) -> None:
        self._schema = schema
        self._tables = {name.lower(): rows for name, rows in tables.items()}
        unknown = self._tables.keys() - schema.keys()
        if unknown:
            raise ValueError(f"tables outside the schema: {', '.join(sorted(unknown))}")

    def __getitem__(self, table: str) -> list[Row]:
        columns = self._schema[table]
        readers = {name: (place, _READ.get(kind)) for place, (name, kind) in enumerate(columns.items())}
        empty = [default_of(type_name) for type_name in columns.values()]
        return [_row(table, given, readers=readers, empty=empty) for given in self._tables.get(table, ())]

    def __iter__(self) -> Any:
        return iter(self._schema)

    def __len__(self) -> int:
        return len(self._schema)


def _row(
    table: str, given: Mapping[str, object], *, readers: Mapping[str, tuple[int, _Reader | None]], empty: Row
) -> Row:
    """A value has its column's place. Times arrive as texts, as in the services' answers, and the evaluator counts."""
    row = empty.copy()
    for name, value in given.items():
        if name not in readers:
            unknown = ", ".join(sorted(given.keys() - readers.keys()))
            raise ValueError(f"columns outside the schema of {table}: {unknown}")
        if value is not None:
            place, read = readers[name]
            row[place] = read(value) if read and isinstance(value, str) else value
    return row


_READ: Mapping[str, _Reader] = {"datetime": times.ticks_of_text, "timespan": times.ticks_of_clock}
_WRITTEN = {"datetime": times.text_of_ticks, "timespan": times.text_of_timespan}


def _objects(columns: Sequence[tuple[str, str]], rows: Sequence[Row]) -> list[dict[str, JSON]]:
    names = [name for name, _ in columns]
    moments = [(name, _WRITTEN[type_name]) for name, type_name in columns if type_name in _WRITTEN]
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    for found in objects:
        for name, written in moments:
            found[name] = None if found[name] is None else written(found[name])
    return objects
