"""What Resource Graph allows in one query, whatever Kusto can do: joins, legs of a union, mv-expand.

Sources: query-language.md of 2021, and for mv-expand the more generous of its two numbers
(tests/recordings/resource_graph_limits.json). With which words Azure refuses more is not known.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.resource_graph.kql.errors import KqlError
from simulator.resource_graph.kql.parser import parse
from simulator.resource_graph.kql.syntax import Expand, Join, Operator, Query, Union

MAX_JOINS = 3
MAX_CROSS_TABLE_JOINS = 1
MAX_LEGS = 3
MAX_EXPANSIONS = 3
MAX_EXPANDED_ROWS = 400
_OFTEN_JOINED = {"resources", "resourcecontainers"}  # these two may be joined as often as one


def check(text: str) -> None:
    """Raises KqlError for a query that asks for more, Unsupported for one outside the grammar."""
    query = parse(text)
    operators = list(_operators(query))
    joins = [each for each in operators if isinstance(each, Join)]
    _refuse_beyond(MAX_JOINS, len(joins), "joins")
    crossing = sum(_tables(each.right) != _tables(query) for each in joins)
    if not _tables(query).union(*(_tables(each.right) for each in joins)) <= _OFTEN_JOINED:
        _refuse_beyond(MAX_CROSS_TABLE_JOINS, crossing, "joins of different tables")
    for union in (each for each in operators if isinstance(each, Union)):
        _refuse_beyond(MAX_LEGS, len(union.legs), "legs of a union")
    expansions = [each for each in operators if isinstance(each, Expand)]
    _refuse_beyond(MAX_EXPANSIONS, len(expansions), "mv-expand operators")
    _refuse_beyond(MAX_EXPANDED_ROWS, max((each.limit or 0 for each in expansions), default=0), "expanded rows")


def _refuse_beyond(most: int, found: int, what: str) -> None:
    if found > most:
        raise KqlError(f"A query has at most {most} {what}; this one has {found}.")


def _operators(query: Query) -> Iterator[Operator]:
    """Those of the query and of every query inside it."""
    if isinstance(query.source, Query):
        yield from _operators(query.source)
    for operator in query.operators:
        yield operator
        for inside in _inside(operator):
            yield from _operators(inside)


def _inside(operator: Operator) -> tuple[Query, ...]:
    if isinstance(operator, Join):
        return (operator.right,)
    return operator.legs if isinstance(operator, Union) else ()


def _tables(query: Query) -> set[str]:
    """The tables that its rows come from, without those that it joins."""
    legs = (leg for each in query.operators if isinstance(each, Union) for leg in each.legs)
    if isinstance(query.source, Query):
        own = _tables(query.source)
    elif query.source is None and any(isinstance(each, Union) for each in query.operators[:1]):
        own = set()
    else:
        own = {(query.source or "resources").lower()}
    return own.union(*(_tables(leg) for leg in legs))
