"""The names of columns that a query gives none, as Kusto.Language makes them.

A column keeps its name, also through a conversion; a path gives a_b_c; what has no name of its own is Column1, Column2,
counted through the whole query.
A name that a query declares, by itself or as a column's, may stand only once. A name that was made gives way: it gets
the first free number.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from simulator.resource_graph.kql import syntax
from simulator.resource_graph.kql.compiled import unknown, wrong

# Calls that are named like their first argument. A conversion to the type that a column has is the column itself.
CONVERSIONS = frozenset(("tostring", "toint", "tolong", "toreal", "todouble", "tobool", "todatetime", "totimespan"))
_LIKE_FIRST = CONVERSIONS | {"parse_json", "todynamic", "split", "bin", "startofday", "round"}


# declared: written as the column's name; kept: a column's through a conversion; made: composed.
Kind = Literal["declared", "kept", "made"]


@dataclass(frozen=True, slots=True)
class Name:
    """`text` is None for an expression without any. How it came about decides what happens to a second one."""

    text: str | None
    kind: Kind
    at: syntax.Place


def name_of(node: syntax.Named) -> Name:
    if node.name is not None:
        return Name(node.name, "declared", node.expression.at)
    text, kind = _of(node.expression)
    return Name(text, kind, node.expression.at)


def stem(node: syntax.Expression) -> str:
    """What an aggregate's name says of its argument."""
    return _of(node)[0] or ""


def _of(node: syntax.Expression) -> tuple[str | None, Kind]:
    match node:
        case syntax.Column(name=name):
            return name, "declared"
        case syntax.Member(base=base, key=key):
            before = _of(base)[0]
            return (None if before is None else f"{before}_{key}"), "made"
        case syntax.Element():
            raise unknown("a computed element without a name", node.at)
        case syntax.Call(function="strlen", arguments=(only,)):
            return f"strlen_{stem(only)}", "made"
        case syntax.Call(function=function, arguments=(first, *_), names=names) if function in _LIKE_FIRST:
            given = names[0] if names else None
            if given:
                return given, "made"
            text, kind = _of(first)
            return text, "kept" if kind == "declared" and function in CONVERSIONS else "made"
    return None, "made"


def assigned(names: Iterable[Name], nameless: Iterator[int], taken: Iterable[str] = ()) -> list[str]:
    """The columns' names, all different. `nameless` numbers those without one, `taken` are names before them.

    Raises KqlError for one that is declared twice.
    """
    used: dict[str, Kind] = dict.fromkeys(taken, "declared")
    found = []
    for name in names:
        text = f"Column{next(nameless)}" if name.text is None else name.text
        if text in used:
            kinds = {used[text], name.kind}
            if "made" not in kinds:
                raise (unknown if "kept" in kinds else wrong)(f"the column '{text}' named twice", name.at)
            text = numbered(text, used)
        used[text] = name.kind
        found.append(text)
    return found


def numbered(name: str, taken: Container[str]) -> str:
    number = 1
    while f"{name}{number}" in taken:
        number += 1
    return f"{name}{number}"


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """The names that a pattern with stars stands for, in their order."""
    return [name for name in names if _matches(pattern.split("*"), name)]


def _matches(parts: Sequence[str], name: str) -> bool:
    """By hand: a pattern of many stars would keep a regular expression busy for years."""
    if len(parts) == 1:
        return parts[0] == name
    first, *middle, last = parts
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    place, end = len(first), len(name) - len(last)
    for part in middle:
        place = name.find(part, place, end)
        if place < 0:
            return False
        place += len(part)
    return True
