"""The expressions that a snapshot still holds, such as `[reference('...').primaryEndpoints.queue]`, and their values.

The compiler evaluates all it can. What is left depends on what only a running Azure knows. A function that is not in
the table here is an error: an expression never passes as text.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simulator.deployment.errors import DeploymentError

Reference = Callable[[str, bool], Any]
"""The properties of a deployed resource by its id; the whole resource where the second argument is true."""

_TOKEN = re.compile(r"\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<number>-?\d+)|(?P<name>[A-Za-z_]\w*)|(?P<mark>[()\[\],.]))")
# The name-based GUIDs of Resource Manager's guid(). A test shows that the snapshots' compiler gives the same.
_GUID_NAMESPACE = uuid.UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")


class ExpressionError(DeploymentError):
    """An expression that cannot be evaluated. The text names it and says why."""


def resolve(value: Any, reference: Reference) -> Any:
    """The value with every expression in it replaced, in keys too."""
    if isinstance(value, str):
        return _resolve_text(value, reference)
    if isinstance(value, Mapping):
        return {_resolve_text(key, reference): resolve(each, reference) for key, each in value.items()}
    if isinstance(value, list):
        return [resolve(each, reference) for each in value]
    return value


def _resolve_text(text: str, reference: Reference) -> Any:
    if not (text.startswith("[") and text.endswith("]")):
        return text
    if text.startswith("[["):  # a text that begins with a bracket
        return text[1:]
    try:
        return _Parser(text[1:-1], reference).whole()
    except ExpressionError as error:
        raise ExpressionError(f"{error}, in {text}") from None


class _Parser:
    """Evaluates while it reads, without a tree."""

    def __init__(self, text: str, reference: Reference) -> None:
        self._tokens = _tokens(text)
        self._reference = reference

    def whole(self) -> Any:
        value = self._value()
        if self._tokens:
            raise ExpressionError(f"'{self._tokens[0][1]}' is not expected")
        return value

    def _value(self) -> Any:
        kind, token = self._next()
        if kind == "text":
            value: Any = token.replace("''", "'")
        elif kind == "number":
            value = int(token)
        elif kind == "name":
            value = self._call(token)
        else:
            raise ExpressionError(f"'{token}' is not expected")
        while self._tokens and self._tokens[0][1] in (".", "[") and self._tokens[0][0] == "mark":
            value = self._member(value)
        return value

    def _call(self, name: str) -> Any:
        self._expect("(")
        arguments: list[Any] = []
        while self._tokens and self._tokens[0] != ("mark", ")"):
            arguments.append(self._value())
            if self._tokens and self._tokens[0] == ("mark", ","):
                self._next()
        self._expect(")")
        if name.lower() == "reference":
            return self._reference(arguments[0], arguments[-1] == "full")
        if name.lower() not in FUNCTIONS:
            raise ExpressionError(f"the simulator does not know the function {name}()")
        return FUNCTIONS[name.lower()](*arguments)

    def _member(self, value: Any) -> Any:
        _, mark = self._next()
        key = self._next()[1] if mark == "." else self._value()
        if mark == "[":
            self._expect("]")
        try:
            return value[key]
        except (LookupError, TypeError):
            raise ExpressionError(f"there is no '{key}'") from None

    def _next(self) -> tuple[str, str]:
        if not self._tokens:
            raise ExpressionError("it ends too early")
        return self._tokens.pop(0)

    def _expect(self, mark: str) -> None:
        kind, token = self._next()
        if (kind, token) != ("mark", mark):
            raise ExpressionError(f"'{token}' is found where '{mark}' is expected")


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"'{text[at : at + 20]}' cannot be read")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return found


# -- the functions

_ENVIRONMENT: Mapping[str, Any] = {  # the public cloud
    "name": "AzureCloud",
    "resourceManager": "https://management.azure.com/",
    "suffixes": {"storage": "core.windows.net"},
}


def _format(template: str, *values: Any) -> str:
    return re.sub(r"\{(\d+)\}", lambda found: str(values[int(found[1])]), template)


def _create_object(*pairs: Any) -> dict[str, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _shallow_merge(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for each in objects for name, value in each.items()}


def _child_id(scope: str, kind: str, *names: str) -> str:
    """`A.B/c/d` with names n and m: scope/providers/A.B/c/n/d/m."""
    provider, *kinds = kind.split("/")
    pairs = "/".join(f"{each}/{name}" for each, name in zip(kinds, names, strict=True))
    return f"{scope}/providers/{provider}/{pairs}"


def _resource_id(subscription: str, group: str, kind: str, *names: str) -> str:
    return _child_id(f"/subscriptions/{subscription}/resourceGroups/{group}", kind, *names)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "concat": lambda *parts: "".join(map(str, parts)),
    "createarray": lambda *values: list(values),
    "createobject": _create_object,
    "empty": lambda value: not value,
    "environment": lambda: _ENVIRONMENT,
    "equals": lambda one, other: one == other,
    "extensionresourceid": _child_id,
    "format": _format,
    "guid": lambda *parts: str(uuid.uuid5(_GUID_NAMESPACE, "-".join(map(str, parts)))),
    "managementgroupresourceid": lambda group, kind, *names: _child_id(
        f"/providers/Microsoft.Management/managementGroups/{group}", kind, *names
    ),
    "if": lambda condition, one, other: one if condition else other,
    "not": lambda value: not value,
    "resourceid": _resource_id,
    "shallowmerge": _shallow_merge,
    "split": lambda text, separator: text.split(separator),
    "subscriptionresourceid": lambda subscription, kind, *names: _child_id(
        f"/subscriptions/{subscription}", kind, *names
    ),
    "tenantresourceid": lambda kind, *names: _child_id("", kind, *names),
    "tolower": lambda text: str(text).lower(),
}
