"""Options that several commands have: declared once, and handed to each command as one value."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any


def taking(name: str, make: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Puts the options of `make` in the place of the parameter `name`, which gets what `make` makes of their values."""
    options = signature(make).parameters

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        parameters: list[Parameter] = []
        for each in signature(command).parameters.values():
            parameters += options.values() if each.name == name else [each]

        @wraps(command)
        def called(**values: Any) -> Any:
            made = make(**{option: values.pop(option) for option in options if option in values})
            return command(**values, **{name: made})

        keywords = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
        called.__dict__["__signature__"] = Signature(keywords)
        called.__annotations__ = {each.name: each.annotation for each in keywords}
        return called

    return decorate
