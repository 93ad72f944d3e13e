"""Functions of text. A dynamic argument is read as tostring() reads it."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simulator.resource_graph.kql import numbers, values
from simulator.resource_graph.kql.compiled import Compiled, Function, apply, expect, unknown, wrong
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.syntax import Place

_TEXT_OF: Mapping[str, Callable[[Any], str]] = {
    "dynamic": values.text_of_dynamic,
    "int": values.text_of_integer,
    "long": values.text_of_integer,
    "real": values.text_of_real,
    "datetime": values.text_of_datetime,
    "timespan": values.text_of_span,
}


def _texts(name: str, arguments: Sequence[Compiled], at: Place, *, converts: bool = False) -> list[Compiled]:
    """The arguments as strings; `converts`: the function takes other types than dynamic too."""
    return [_text(name, argument, at, converts=converts) for argument in arguments]


def _text(name: str, argument: Compiled, at: Place, *, converts: bool = False) -> Compiled:
    if argument.type == "string":
        return argument
    if argument.type != "dynamic" and not (converts and argument.type in _TEXT_OF):
        raise unknown(f"{name}() of a {argument.type}", at)
    return apply(_TEXT_OF[argument.type], "string", argument)


def _is_not_a_text(part: Compiled) -> bool:
    return part.type != "string" or not part.constant or part.evaluate([]) == ""


def _split(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=2, most=3)
    text, delimiter, *index = arguments
    if delimiter.type != "string":
        raise wrong(f"split() at a {delimiter.type}", at)
    if _is_not_a_text(delimiter):
        raise unknown("split() at an empty or computed delimiter", at)
    parts = apply(str.split, "dynamic", _text(name, text, at), delimiter)
    if not index:
        return parts
    if index[0].type != "long":
        raise unknown(f"split() with a {index[0].type} as index", at)
    return apply(_only, "dynamic", parts, index[0])


def _only(parts: list[str], index: int | None) -> list[str]:
    """An array of the one part, or of none."""
    if index is None or index < 0:
        raise Unsupported(f"split() with the index {index}")
    return parts[index : index + 1]


def _strcat(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=1, most=64)
    return apply(lambda *found: "".join(found), "string", *_texts(name, arguments, at, converts=True))


def _strcat_delim(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=3, most=64)
    texts = _texts(name, arguments, at, converts=True)
    return apply(lambda delimiter, *found: delimiter.join(found), "string", *texts)


def _strcat_array(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=2, most=2)
    array, delimiter = arguments
    if (array.type, delimiter.type) != ("dynamic", "string"):
        raise unknown(f"{name}() of a {array.type}", at)
    return apply(_joined, "string", array, delimiter)


def _joined(array: Any, delimiter: str) -> str:
    if not isinstance(array, list) or None in array:
        raise Unsupported("strcat_array() of what is not an array, or of one with null")
    return delimiter.join(map(values.text_of_dynamic, array))


def _replace_string(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=3, most=3)
    text, lookup, other = arguments
    if _is_not_a_text(lookup):
        raise unknown(f"{name}() of an empty or computed text", at)
    return apply(str.replace, "string", *_texts(name, [text, lookup, other], at))


def _strlen(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=1, most=1)
    return apply(lambda text: len(_counted(text)), "long", _sure_text(name, arguments[0], at))


def _substring(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=2, most=3)
    text, *numbers = arguments
    if any(number.type not in ("int", "long") for number in numbers):
        raise unknown(f"{name}() with such numbers", at)
    return apply(_part, "string", _sure_text(name, text, at), *numbers)


def _part(text: str, start: int | None, length: int | None = numbers.LONG_RANGE[-1]) -> str:
    if start is None or length is None or start < 0 or length < 0:
        raise Unsupported("substring() from a place or of a length that is null or negative")
    return _counted(text)[start : start + length]


def _indexof(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=2, most=5)
    if len(arguments) > 2 or _is_not_a_text(arguments[1]):
        raise unknown(f"{name}() of that form", at)
    return apply(lambda text, part: _counted(text).find(part), "long", _sure_text(name, arguments[0], at), arguments[1])


def _sure_text(name: str, argument: Compiled, at: Place) -> Compiled:
    """A dynamic that holds no text is refused: null has no place in a count."""
    if argument.type == "dynamic":
        return apply(_held, "string", argument)
    return _text(name, argument, at)


def _held(value: Any) -> str:
    if not isinstance(value, str):
        raise Unsupported("counting in a dynamic that holds no text")
    return value


def _counted(text: str) -> str:
    """Places are counted alike by all engines as long as each character is one code unit."""
    if not text.isascii() and any(ord(letter) > 0xFFFF for letter in text):
        raise Unsupported("places in a text with characters beyond 16 bits")
    return text


# ---- patterns

# What RE2 and Python read alike over one line of text. Of alternatives that fit, the first or the longest may count:
# that is for those who only ask whether there is a match, or where each alternative is one character.
_PLAIN_PATTERN = re.compile(r"\^?(?:[\w/.+*()?| =:;,@~-]|\\[wd./-]|\[\^?[\w/.: -]+\])+\$?")
_ODD_PATTERN = re.compile(r"\(\?|[*+?]{2}|\(\)|(?:^|[(|])\||\|(?:$|\))")  # or of an empty part
_ONE_CHARACTER = re.compile(r"\((?:\\.|\w)(?:\|(?:\\.|\w))+\)")  # a group of alternatives of one character each


def _pattern(name: str, given: Compiled, at: Place) -> re.Pattern[str]:
    if not given.constant or given.type != "string":
        raise unknown(f"{name}() of a computed pattern", at)
    text = given.evaluate([])
    if name != "matches regex" and "|" in _ONE_CHARACTER.sub("", text):
        raise unknown(f"{name}() of the pattern '{text}'", at)
    if not text.isascii() or not _PLAIN_PATTERN.fullmatch(text) or _ODD_PATTERN.search(text):
        raise unknown(f"{name}() of the pattern '{text}'", at)
    try:
        return re.compile(re.sub(r"\$\Z", r"\\Z", text), re.ASCII)  # Python's $ also stands before a last line break
    except re.error:
        raise unknown(f"{name}() of the pattern '{text}'", at) from None


def _extract(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """Text without a match is ''."""
    expect(name, arguments, at, least=3, most=3)
    given, group, text = arguments
    if not group.constant or group.type != "long":
        raise unknown(f"{name}() of a computed group", at)
    pattern, number = _pattern(name, given, at), group.evaluate([])
    if number is None or not 0 <= number <= pattern.groups:
        raise unknown(f"{name}() of a group that does not exist", at)
    return apply(lambda found: _group(pattern, number, found), "string", _text(name, text, at))


def _group(pattern: re.Pattern[str], number: int, text: str) -> str:
    match = pattern.search(text)
    return (match[number] or "") if match else ""


def _matches(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=2, most=2)
    pattern = _pattern(name, arguments[0], at)
    return apply(lambda text: pattern.search(text) is not None, "bool", _text(name, arguments[1], at))


def _trim(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    """One match at either end."""
    expect(name, arguments, at, least=2, most=2)
    pattern = _pattern(name, arguments[0], at).pattern
    start = re.compile(f"^(?:{pattern})" if name != "trim_end" else "^", re.ASCII)
    end = re.compile(f"(?:{pattern})\\Z" if name != "trim_start" else "\\Z", re.ASCII)
    return apply(lambda text: end.sub("", start.sub("", text), count=1), "string", _text(name, arguments[1], at))


FUNCTIONS: Mapping[str, Function] = {
    "split": _split,
    "strcat": _strcat,
    "strcat_delim": _strcat_delim,
    "strcat_array": _strcat_array,
    "replace_string": _replace_string,
    "strlen": _strlen,
    "substring": _substring,
    "indexof": _indexof,
    "extract": _extract,
    "matches regex": _matches,
    "trim": _trim,
    "trim_start": _trim,
    "trim_end": _trim,
}
