"""From query text to the tree of syntax.py, by the grammar of grammar.lark.

Parsing costs more than evaluating over a small fleet, and a simulator receives the same few queries again and again
with other times in them. So a tree is cached by the text without its times, which are filled in afterwards.
"""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any, cast

import lark

from simulator.resource_graph.kql.errors import KqlError, Unsupported
from simulator.resource_graph.kql.syntax import (
    Ago,
    Bin,
    Binary,
    Call,
    Column,
    Extend,
    Join,
    Literal,
    Member,
    Membership,
    Named,
    Place,
    Project,
    ProjectAway,
    Query,
    Sort,
    SortKey,
    Star,
    Summarize,
    Where,
)
from simulator.resource_graph.kql.values import integer_of_digits


def parse(text: str) -> Query:
    """The tree of a query. Raises Unsupported for syntax outside the grammar."""
    times: list[str] = []

    def hole(match: re.Match[str]) -> str:
        """Its number in place of a time, in as many characters: what follows keeps its place."""
        if match["time"] is None:
            return match[0]
        times.append(match["time"])
        return f"datetime({_HOLE}{len(times) - 1:<{len(match['time']) - 1}})"

    tree = _parsed(_TIME.sub(hole, text))
    return cast(Query, _filled(tree, times)) if times else tree


def _filled(node: Any, times: Sequence[str]) -> Any:
    """The same part of a tree with its times."""
    if isinstance(node, tuple):
        return tuple(_filled(each, times) for each in node)
    if isinstance(node, Literal):
        is_hole = node.type == "datetime" and node.text.startswith(_HOLE)
        return replace(node, text=times[int(node.text[1:])]) if is_hole else node
    if not is_dataclass(node) or isinstance(node, Place | type):
        return node
    return type(node)(*(_filled(getattr(node, part.name), times) for part in fields(node)))


@lru_cache(maxsize=256)
def _parsed(text: str) -> Query:
    try:
        return cast(Query, _PARSER.parse(text))  # the transformer makes a Query of lark's tree
    except lark.exceptions.UnexpectedInput as error:
        at_end = isinstance(error, lark.UnexpectedToken) and error.token.type == "$END"
        raise Unsupported(_construct_at(text, len(text) if at_end else error.pos_in_stream or 0)) from None


def _construct_at(text: str, position: int) -> str:
    """The name of what the grammar stopped at: `let` rather than the word after it."""
    before = _COMMENT.sub("", text[:position]).strip()
    if _WORD.fullmatch(before):  # the parser took the first word for a table: let, print, union ...
        position = text.rindex(before, 0, position)
    word = _CONSTRUCT.match(text, position)
    line_start = text.rfind("\n", 0, position) + 1
    place = Place(text.count("\n", 0, position) + 1, position - line_start + 1)
    return f"'{word[0]}' at {place}" if word else f"the end of the query at {place}"


_HOLE = "#"
# Strings and comments are matched first, and kept.
_TIME = re.compile(r"'[^'\\\n]*'|\"[^\"\\\n]*\"|//[^\n]*|datetime\((?P<time>\d{4}-[^()\s]+)\)")
_COMMENT = re.compile(r"//[^\n]*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_CONSTRUCT = re.compile(r"!?[A-Za-z_][\w-]*~?|\w+|\S")


def _place(token: Any) -> Place:
    return Place(token.line, token.column)


def _column(token: Any) -> Column:
    return Column(str(token), _place(token))


class _Expressions:
    """Lark calls a method as it reduces the rule of grammar.lark with the method's name."""

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
        return Member(base, integer_of_digits(key.text) if key.type == "long" else key.text, key.at)

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


class _Operators(_Expressions):
    """The same for queries and their operators."""

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
        descending = direction != "asc"  # Kusto's default
        nulls_first = not descending if nulls is None else nulls == "first"
        return SortKey(expression, descending, nulls_first)


_PARSER = lark.Lark(
    resources.files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8"),
    parser="lalr",
    lexer="contextual",
    transformer=_Operators(),
)
