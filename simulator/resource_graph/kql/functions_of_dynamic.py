"""Functions that make dynamic values, or look into them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simulator.resource_graph.kql import times
from simulator.resource_graph.kql.compiled import Compiled, Function, apply, expect, unknown, wrong
from simulator.resource_graph.kql.errors import Unsupported
from simulator.resource_graph.kql.syntax import Place


def _same(value: Any) -> Any:
    return value


def _moment(ticks: int | None) -> str | None:
    return None if ticks is None else times.text_of_ticks(ticks)


def _span(ticks: int | None) -> str | None:
    return None if ticks is None else times.text_of_timespan(ticks)


# How a value of each type stands in a dynamic one.
HELD: Mapping[str, Callable[[Any], Any]] = {
    "string": _same,
    "int": _same,
    "long": _same,
    "real": _same,
    "bool": _same,
    "dynamic": _same,
    "datetime": _moment,
    "timespan": _span,
}


def _held(name: str, argument: Compiled, at: Place) -> Compiled:
    if argument.type not in HELD:
        raise unknown(f"{name}() of a {argument.type}", at)
    return apply(HELD[argument.type], "dynamic", argument)


def _pack(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    if not arguments or len(arguments) % 2:
        raise wrong(f"{name}() with {len(arguments)} arguments", at)
    keys = [key.evaluate([]) for key in arguments[::2] if key.constant and key.type == "string"]
    if len(set(keys)) < len(arguments) // 2:
        raise unknown(f"{name}() with a key that is computed or stands twice", at)
    held = [_held(name, argument, at) for argument in arguments[1::2]]
    return apply(lambda *found: dict(zip(keys, found, strict=True)), "dynamic", *held)


def _pack_array(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=1, most=64)
    return apply(lambda *found: list(found), "dynamic", *[_held(name, argument, at) for argument in arguments])


def _set_has_element(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
    expect(name, arguments, at, least=2, most=2)
    array, element = arguments
    if array.type != "dynamic" or element.type != "string":
        raise unknown(f"{name}() of a {array.type} and a {element.type}", at)
    return apply(_has_element, "bool", array, element)


def _has_element(array: Any, element: str) -> bool:
    """Whether one of the texts is it, in the same letter case."""
    if not isinstance(array, list) or not all(isinstance(each, str) for each in array):
        raise Unsupported("set_has_element() of what is not an array of texts")
    return element in array


def _of_dynamic(function: Callable[[Any], Any], type_name: str) -> Function:
    def compiled(name: str, arguments: Sequence[Compiled], at: Place) -> Compiled:
        expect(name, arguments, at, least=1, most=1)
        if arguments[0].type != "dynamic":
            raise wrong(f"{name}() of a {arguments[0].type}", at)
        return apply(function, type_name, arguments[0])

    return compiled


FUNCTIONS: Mapping[str, Function] = {
    "pack": _pack,
    "bag_pack": _pack,
    "pack_array": _pack_array,
    "set_has_element": _set_has_element,
    "array_length": _of_dynamic(lambda value: len(value) if isinstance(value, list) else None, "long"),
    "bag_keys": _of_dynamic(lambda value: list(value) if isinstance(value, dict) else None, "dynamic"),
}
