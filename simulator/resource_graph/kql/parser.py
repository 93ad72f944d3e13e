"""From query text to the tree of syntax.py, by the grammar of grammar.lark.

Parsing costs more than evaluating over a small fleet, and a simulator receives the same few queries again and again
with other times and names in them. So a tree is cached by the text without its times and lists of strings, which are
filled in afterwards.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache, lru_cache, reduce
from importlib import resources
from typing import Any, cast

import lark

from simulator.resource_graph.kql.errors import KqlError, Unsupported
from simulator.resource_graph.kql.numbers import integer_of_digits
from simulator.resource_graph.kql.syntax import (
    Binary,
    Call,
    Capture,
    Column,
    Count,
    Distinct,
    Element,
    Expand,
    Expression,
    Extend,
    Join,
    Literal,
    Member,
    Membership,
    Named,
    Negative,
    Operator,
    Parse,
    Place,
    Project,
    Query,
    Rename,
    Select,
    Sort,
    SortKey,
    Star,
    Summarize,
    Take,
    Union,
    Where,
)

_Fill = Callable[[Sequence[str]], Any]


@lru_cache(maxsize=256)
def parse(text: str) -> Query:
    """The tree of a query. Raises Unsupported for syntax outside the grammar."""
    values: list[str] = []

    def hole(match: re.Match[str]) -> str:
        """Its number in place of a time, in as many characters: what follows keeps its place."""
        if match["time"]:
            return f"datetime({numbered(match['time'])})"
        return _ELEMENT.sub(lambda text: f"'{numbered(text[1])}'", match[0]) if match["list"] else match[0]

    def numbered(value: str) -> str:
        number = str(len(values))
        if len(number) >= len(value):
            return value
        values.append(value)
        return f"{_HOLE}{number:<{len(value) - 1}}"

    tree, fill = _parsed(text if _HOLE in text else _VALUES.sub(hole, text))
    return cast(Query, fill(values)) if fill and values else tree


def _filler(node: Any) -> _Fill | None:
    """Gives this part of a tree with its values; None for a part that has no holes."""
    if isinstance(node, Literal):
        found = _NUMBERED.fullmatch(node.text)
        return (lambda values: replace(node, text=values[int(found[1])])) if found else None
    if isinstance(node, tuple):
        return _with_parts(node, tuple)
    if not is_dataclass(node) or isinstance(node, Place | type):
        return None
    return _with_parts([getattr(node, part.name) for part in fields(node)], lambda parts: type(node)(*parts))


def _with_parts(parts: Sequence[Any], made_of: Callable[[Iterable[Any]], Any]) -> _Fill | None:
    fills = [_filler(part) for part in parts]
    if not any(fills):
        return None
    pairs = list(zip(parts, fills, strict=True))
    return lambda values: made_of(fill(values) if fill else part for part, fill in pairs)


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[Query, _Fill | None]:
    try:
        tree = cast(Query, _parser().parse(text))  # the transformer makes a Query of lark's tree
    except lark.exceptions.UnexpectedInput as error:
        at_end = isinstance(error, lark.UnexpectedToken) and error.token.type == "$END"
        raise Unsupported(_construct_at(text, len(text) if at_end else error.pos_in_stream or 0)) from None
    return tree, _filler(tree)


def _construct_at(text: str, position: int) -> str:
    """The name of what the grammar stopped at: `let` rather than the word after it."""
    before = _COMMENT.sub("", text[:position]).strip()
    if _WORD.fullmatch(before):  # the parser took the first word for a table: let, print, union ...
        position = text.rindex(before, 0, position)
    word = _CONSTRUCT.match(text, position)
    line_start = text.rfind("\n", 0, position) + 1
    place = Place(text.count("\n", 0, position) + 1, position - line_start + 1)
    return f"'{word[0]}' at {place}" if word else f"the end of the query at {place}"


_HOLE = "\ue000"  # for private use: no query needs it
_NUMBERED = re.compile(rf"{_HOLE}(\d+) *")
# Strings and comments are matched first, and kept; but those in a list after `in`.
_STRING = r"'[^'\\\n]*'"
_VALUES = re.compile(
    rf"\bin~?\s*(?P<list>\({_STRING}(?:,\s*{_STRING})*\))"
    r"|@'[^'\n]*'|@\"[^\"\n]*\"|'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|//[^\n]*"
    r"|datetime\((?P<time>\d{4}-[^()\s]+)\)"
)
_ELEMENT = re.compile(r"'([^'\\\n]*)'")
_COMMENT = re.compile(r"//[^\n]*")
_WORD = re.compile(r"[A-Za-z_]\w*")
_CONSTRUCT = re.compile(r"!?[A-Za-z_][\w-]*~?|\w+|\S")


def _place(token: Any) -> Place:
    return Place(token.line, token.column)


def _column(token: Any) -> Column:
    return Column(str(token), _place(token))


_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "r": "\r"}


def _text(token: Any) -> str:
    """What a text literal says."""
    if token.startswith("@"):
        return str(token[2:-1])
    return re.sub(r"\\(.)", lambda match: _escaped(match[1], token), token[1:-1])


def _escaped(letter: str, token: Any) -> str:
    if letter not in _ESCAPES:
        raise Unsupported(f"'\\{letter}' in a text at {_place(token)}")
    return _ESCAPES[letter]


def _inside(token: Any) -> str:
    """What stands in the brackets of a literal such as datetime(...)."""
    return str(token[token.index("(") + 1 : -1].strip())


def _unquoted(text: str) -> str:
    """datetime('…') is datetime(…) to Kusto."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _chained(operator: str, parts: Sequence[Expression], at: Place) -> Expression:
    return reduce(lambda left, right: Binary(left, operator, right, at), parts)


class _Expressions:
    """Lark calls a method as it reduces the rule of grammar.lark with the method's name."""

    def binary(self, parts: list[Any]) -> Binary:
        left, operator, right = parts
        return Binary(left, " ".join(operator.split()), right, _place(operator))

    def membership(self, parts: list[Any]) -> Membership:
        left, operator, *items = parts
        found = tuple(item for item in items if item is not None)
        if not found:
            raise KqlError(f"an empty list after '{operator}' at {_place(operator)}")
        return Membership(left, str(operator), found, _place(operator))

    def has_several(self, parts: list[Any]) -> Expression:
        left, keyword, *items = parts
        operator = "or" if keyword == "has_any" else "and"
        return _chained(operator, [Binary(left, "has", item, _place(keyword)) for item in items], _place(keyword))

    def between(self, parts: list[Any]) -> Expression:
        """Both ends belong to it."""
        value, keyword, low, high = parts
        at = _place(keyword)
        if keyword.startswith("!"):
            return _chained("or", [Binary(value, "<", low, at), Binary(value, ">", high, at)], at)
        return _chained("and", [Binary(value, ">=", low, at), Binary(value, "<=", high, at)], at)

    def signed(self, parts: list[Any]) -> Expression:
        sign, value = parts
        if sign == "+":
            return cast(Expression, value)
        if isinstance(value, Literal) and value.text[:1].isdigit():
            return Literal(value.type, f"-{value.text}", _place(sign))
        return Negative(value, _place(sign))

    def member(self, parts: list[Any]) -> Member:
        base, key = parts
        return Member(base, str(key), _place(key))

    def index(self, parts: list[Any]) -> Member | Element:
        base, key = parts
        match key:
            case Literal(type="long"):
                return Member(base, integer_of_digits(key.text), key.at)
            case Literal(type="string"):
                return Member(base, key.text, key.at)
        return Element(base, key, key.at)

    def column(self, parts: list[Any]) -> Column:
        return _column(parts[0])

    def quoted(self, parts: list[Any]) -> lark.Token:
        return lark.Token.new_borrow_pos("NAME", _text(parts[0]), parts[0])

    def argument(self, parts: list[Any]) -> Named:
        name, expression = parts
        return Named(str(name), expression)

    def call(self, parts: list[Any]) -> Call:
        function, *given = parts
        named = [each if isinstance(each, Named) else Named(None, each) for each in given if each is not None]
        names = tuple(each.name for each in named) if any(each.name for each in named) else ()
        return Call(str(function), tuple(each.expression for each in named), _place(function), names)

    def star(self, parts: list[Any]) -> Star:
        return Star(_place(parts[0]))

    def string(self, parts: list[Any]) -> Literal:
        return Literal("string", _text(parts[0]), _place(parts[0]))

    def real(self, parts: list[Any]) -> Literal:
        return Literal("real", str(parts[0]), _place(parts[0]))

    def long(self, parts: list[Any]) -> Literal:
        return Literal("long", str(parts[0]), _place(parts[0]))

    def bool(self, parts: list[Any]) -> Literal:
        return Literal("bool", str(parts[0]), _place(parts[0]))

    def timespan(self, parts: list[Any]) -> Literal:
        return Literal("timespan", str(parts[0]), _place(parts[0]))

    def datetime(self, parts: list[Any]) -> Literal:
        return Literal("datetime", _unquoted(_inside(parts[0])), _place(parts[0]))

    def dynamic(self, parts: list[Any]) -> Literal:
        return Literal("dynamic", _inside(parts[0]), _place(parts[0]))

    def typed(self, parts: list[Any]) -> Literal:
        name = parts[0][: parts[0].index("(")].strip()
        return Literal({"double": "real", "time": "timespan"}.get(name, name), _inside(parts[0]), _place(parts[0]))


class _Queries(_Expressions):
    """The same for queries and what combines them."""

    def start(self, parts: list[Any]) -> Query:
        return cast(Query, parts[0])

    def piped(self, parts: list[Any]) -> Query:
        source, *operators = parts
        at = source.at if isinstance(source, Query) else _place(source)
        return Query(source if isinstance(source, Query) else str(source), _flat(operators), at)

    def unsourced(self, parts: list[Any]) -> Query:
        return Query(None, _flat(parts), Place(1, 1))

    def source(self, parts: list[Any]) -> Any:
        return parts[0]

    def join(self, parts: list[Any]) -> Join:
        keyword, kind, right, *keys = parts
        return Join(None if kind is None else str(kind), _query(right), tuple(keys), _place(keyword))

    def same_key(self, parts: list[Any]) -> tuple[Column, Column]:
        return _column(parts[0]), _column(parts[0])

    def join_key(self, parts: list[Any]) -> tuple[Column, Column]:
        left, right = parts
        return _column(left), _column(right)

    def union(self, parts: list[Any]) -> Union:
        keyword, kind, *legs = parts
        return Union(None if kind is None else str(kind), tuple(map(_query, legs)), _place(keyword))


class _Operators(_Queries):
    """The same for operators over one table."""

    def where(self, parts: list[Any]) -> Where:
        return Where(parts[0])

    def extend(self, parts: list[Any]) -> Extend:
        return Extend(tuple(parts))

    def project(self, parts: list[Any]) -> Project:
        return Project(tuple(parts))

    def select(self, parts: list[Any]) -> Select:
        operator, *columns = parts
        return Select(str(operator), tuple(map(_column, columns)))

    def rename(self, parts: list[Any]) -> Rename:
        return Rename(tuple(parts))

    def renamed(self, parts: list[Any]) -> tuple[str, Column]:
        name, column = parts
        return str(name), _column(column)

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

    def distinct(self, parts: list[Any]) -> Distinct:
        keyword, *columns = parts
        return Distinct(tuple(each for each in columns if isinstance(each, Named)), _place(keyword))

    def sort(self, parts: list[Any]) -> Sort:
        return Sort(tuple(parts))

    def top(self, parts: list[Any]) -> tuple[Operator, ...]:
        rows, key = parts
        return Sort((key,)), Take(integer_of_digits(rows))

    def take(self, parts: list[Any]) -> Take:
        return Take(integer_of_digits(parts[0]))

    def count(self, parts: list[Any]) -> Count:
        return Count()

    def expand(self, parts: list[Any]) -> Expand:
        keyword, column, type_name, limit = parts
        return Expand(
            column,
            None if type_name is None else str(type_name),
            None if limit is None else integer_of_digits(limit),
            _place(keyword),
        )

    def parse(self, parts: list[Any]) -> Parse:
        keyword, text, *pattern = parts
        return Parse(text, tuple(pattern), _place(keyword))

    def capture(self, parts: list[Any]) -> Capture:
        name, type_name = parts
        return Capture(str(name), "string" if type_name is None else str(type_name), _place(name))

    def sort_key(self, parts: list[Any]) -> SortKey:
        expression, direction, nulls = parts
        descending = direction != "asc"  # Kusto's default
        nulls_first = not descending if nulls is None else nulls == "first"
        return SortKey(expression, descending, nulls_first)


def _query(source: Any) -> Query:
    return source if isinstance(source, Query) else Query(str(source), (), _place(source))


def _flat(operators: Sequence[Any]) -> tuple[Operator, ...]:
    """top is two operators."""
    return tuple(each for group in operators for each in (group if isinstance(group, tuple) else (group,)))


@cache
def _parser() -> lark.Lark:
    """Built with the first query: that takes longer than the import of everything else here, and many ask none."""
    return lark.Lark(
        resources.files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8"),
        parser="lalr",
        lexer="contextual",
        transformer=_Operators(),
    )
