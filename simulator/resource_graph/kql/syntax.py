"""From query text to a tree of frozen nodes. Nothing here knows a table, a type or a function.

The tree depends on the text alone, so it is parsed once and kept: a simulator asks the same few questions again and
again, and parsing costs more than evaluating over a small fleet.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import lark

from simulator.resource_graph.kql.errors import KqlError, Unsupported


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the text a node stands; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; `text` is as written, without quotes."""

    type: str
    text: str
    at: Place


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    at: Place


@dataclass(frozen=True, slots=True)
class Member:
    """One step into a dynamic value: by name into an object, by number into an array."""

    base: "Expression"
    key: str | int
    at: Place


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple["Expression", ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Ago:
    """The moment `span` (such as 7d) before now: here and in bin() alone may a timespan stand."""

    span: str
    at: Place


@dataclass(frozen=True, slots=True)
class Bin:
    """`value` rounded down to a multiple of `span`."""

    value: "Expression"
    span: str
    at: Place


@dataclass(frozen=True, slots=True)
class Star:
    """All other columns: only an argument of arg_max and arg_min."""

    at: Place


@dataclass(frozen=True, slots=True)
class Binary:
    left: "Expression"
    operator: str
    right: "Expression"
    at: Place


@dataclass(frozen=True, slots=True)
class Membership:
    """`left in (...)` and its kin: `operator` is in, in~, !in or !in~."""

    left: "Expression"
    operator: str
    items: tuple[Literal, ...]
    at: Place


Expression = Literal | Column | Member | Call | Ago | Bin | Star | Binary | Membership


@dataclass(frozen=True, slots=True)
class Named:
    """An expression with the column name it was given, or None."""

    name: str | None
    expression: Expression


@dataclass(frozen=True, slots=True)
class SortKey:
    expression: Expression
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Where:
    predicate: Expression


@dataclass(frozen=True, slots=True)
class Extend:
    columns: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Project:
    columns: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class ProjectAway:
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Join:
    kind: str | None
    right: "Query"
    keys: tuple[Column, ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Summarize:
    aggregates: tuple[Named, ...]
    keys: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Sort:
    keys: tuple[SortKey, ...]


Operator = Where | Extend | Project | ProjectAway | Join | Summarize | Sort


@dataclass(frozen=True, slots=True)
class Query:
    """A table and the operators its rows run through."""

    table: str
    operators: tuple[Operator, ...]
    at: Place


@lru_cache(maxsize=256)
def parse(text: str) -> Query:
    """The tree of a query. Raises Unsupported for syntax outside the grammar."""
    try:
        query: Query = _PARSER.parse(text)
    except lark.exceptions.UnexpectedInput as error:
        at_end = getattr(error, "token", None) is not None and error.token.type == "$END"
        raise Unsupported(_construct_at(text, len(text) if at_end else error.pos_in_stream)) from None
    return query


def _construct_at(text: str, position: int) -> str:
    """The name of what the grammar stopped at: `let` rather than the word after it."""
    before = _COMMENT.sub("", text[:position]).strip()
    if _WORD.fullmatch(before):  # the parser took the first word for a table: let, print, union ...
        position = text.rindex(before, 0, position)
    word = _CONSTRUCT.match(text, position)
    line_start = text.rfind("\n", 0, position) + 1
    place = Place(text.count("\n", 0, position) + 1, position - line_start + 1)
    return f"'{word[0]}' at {place}" if word else f"the end of the query at {place}"


_COMMENT = re.compile(r"//[^\n]*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_CONSTRUCT = re.compile(r"!?[A-Za-z_][\w-]*~?|\w+|\S")


def _place(token: Any) -> Place:
    return Place(token.line, token.column)


def _column(token: Any) -> Column:
    return Column(str(token), _place(token))


class _Builder:
    """What lark calls as it reduces each rule of grammar.lark; the methods bear the rules' names."""

    def start(self, parts: list[Any]) -> Query:
        table, *operators = parts
        return Query(str(table), tuple(operators), _place(table))

    def where(self, parts: list[Any]) -> Where:
        return Where(parts[0])

    def extend(self, parts: list[Any]) -> Extend:
        return Extend(tuple(parts))

    def project(self, parts: list[Any]) -> Project:
        return Project(tuple(parts))

    def project_away(self, parts: list[Any]) -> ProjectAway:
        return ProjectAway(tuple(map(_column, parts)))

    def join(self, parts: list[Any]) -> Join:
        keyword, kind, right, *keys = parts
        return Join(None if kind is None else str(kind), right, tuple(map(_column, keys)), _place(keyword))

    def summarize(self, parts: list[Any]) -> Summarize:
        aggregates, keys = parts
        return Summarize(aggregates, keys or ())

    def summarize_keys(self, parts: list[Any]) -> Summarize:
        return Summarize((), parts[0])

    def aggregates(self, parts: list[Any]) -> tuple[Named, ...]:
        return tuple(parts)

    keys = aggregates

    def named(self, parts: list[Any]) -> Named:
        name, expression = parts
        return Named(None if name is None else str(name), expression)

    def sort(self, parts: list[Any]) -> Sort:
        return Sort(tuple(parts))

    def sort_key(self, parts: list[Any]) -> SortKey:
        expression, direction, nulls = parts
        descending = direction != "asc"  # Kusto sorts descending unless told otherwise
        nulls_first = not descending if nulls is None else nulls == "first"
        return SortKey(expression, descending, nulls_first)

    def binary(self, parts: list[Any]) -> Binary:
        left, operator, right = parts
        return Binary(left, str(operator), right, _place(operator))

    def membership(self, parts: list[Any]) -> Membership:
        left, operator, *items = parts
        found = tuple(item for item in items if item is not None)
        if not found:
            raise KqlError(f"an empty list after '{operator}' at {_place(operator)}")
        return Membership(left, str(operator), found, _place(operator))

    def member(self, parts: list[Any]) -> Member:
        base, key = parts
        return Member(base, str(key), _place(key))

    def index(self, parts: list[Any]) -> Member:
        base, key = parts
        return Member(base, int(key.text) if key.type == "long" else key.text, key.at)

    def column(self, parts: list[Any]) -> Column:
        return _column(parts[0])

    def call(self, parts: list[Any]) -> Call:
        function, *arguments = parts
        return Call(str(function), tuple(a for a in arguments if a is not None), _place(function))

    def ago(self, parts: list[Any]) -> Ago:
        keyword, span = parts
        return Ago(str(span), _place(keyword))

    def bin(self, parts: list[Any]) -> Bin:
        keyword, value, span = parts
        return Bin(value, str(span), _place(keyword))

    def star(self, parts: list[Any]) -> Star:
        return Star(_place(parts[0]))

    def negative(self, parts: list[Any]) -> Literal:
        return Literal("long", str(parts[0]), _place(parts[0]))

    def real(self, parts: list[Any]) -> Literal:
        return Literal("real", str(parts[0]), _place(parts[0]))

    def string(self, parts: list[Any]) -> Literal:
        return Literal("string", parts[0][1:-1], _place(parts[0]))

    def long(self, parts: list[Any]) -> Literal:
        return Literal("long", str(parts[0]), _place(parts[0]))

    def bool(self, parts: list[Any]) -> Literal:
        return Literal("bool", str(parts[0]), _place(parts[0]))

    def datetime(self, parts: list[Any]) -> Literal:
        inside = parts[0][parts[0].index("(") + 1 : -1]
        return Literal("datetime", inside.strip(), _place(parts[0]))


_PARSER = lark.Lark(
    resources.files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8"),
    parser="lalr",
    lexer="contextual",
    transformer=_Builder(),
)
