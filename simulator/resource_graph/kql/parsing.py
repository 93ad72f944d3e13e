"""The parse operator in its simple mode: what lies between the texts of a pattern.

Documented: every text of the pattern must be found, every column must have its type, or all columns are null. Not
documented is whether a pattern without a star at its ends may match a part of the text: such a text is refused.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from simulator.resource_graph.kql import syntax, times, values
from simulator.resource_graph.kql.compiled import default_of, unknown
from simulator.resource_graph.kql.errors import Unsupported

_Part = syntax.Literal | syntax.Capture | syntax.Star
_READ: dict[str, Callable[[str], Any]] = {
    "string": lambda text: text,
    "long": lambda text: values.as_long(values.integer_of_text(text)),
    "int": lambda text: values.as_int(values.integer_of_text(text)),
    "real": values.real_of_text,
    "bool": values.bool_of_text,
    "datetime": times.ticks_of_text,
    "timespan": times.ticks_of_clock,
}


def matcher(node: syntax.Parse) -> Callable[[str], list[Any]]:
    """From a text to the values of the pattern's columns."""
    captures = [part for part in node.pattern if isinstance(part, syntax.Capture)]
    _check(node.pattern, captures)
    nothing = [default_of(capture.type) for capture in captures]
    reads = [_READ[capture.type] for capture in captures]

    def match(text: str) -> list[Any]:
        found = _between(node.pattern, text)
        if found is None:
            return nothing
        read = [read(part) for read, part in zip(reads, found, strict=True)]
        return nothing if None in read else read

    return match


def _check(pattern: Sequence[_Part], captures: Sequence[syntax.Capture]) -> None:
    for capture in captures:
        if capture.type not in _READ:
            raise unknown(f"parse into a {capture.type}", capture.at)
    for one, other in pairwise(pattern):
        if isinstance(one, syntax.Literal) == isinstance(other, syntax.Literal):
            raise unknown("a pattern of parse in which texts and columns do not take turns", other.at)
    for part in pattern:
        if isinstance(part, syntax.Literal) and not part.text:
            raise unknown("an empty text in a pattern of parse", part.at)


def _between(pattern: Sequence[_Part], text: str) -> list[str] | None:
    """What the columns hold: each as short as the next text allows. None without a match."""
    found: list[str] = []
    place, gap = 0, None
    for part in pattern:
        if not isinstance(part, syntax.Literal):
            gap = part
            continue
        at = text.find(part.text, place)
        if at < 0:
            return None
        if gap is None and at > 0:
            raise Unsupported(f"parse: the pattern begins at '{part.text}', which is inside the text '{text}'")
        if isinstance(gap, syntax.Capture):
            found.append(text[place:at])
        place, gap = at + len(part.text), None
    if gap is None and place < len(text):
        raise Unsupported(f"parse: the pattern ends before the text '{text}' does")
    if isinstance(gap, syntax.Capture):
        found.append(text[place:])
    return found
