"""A Logic App's definition, carried out: just what docs/examples/chat.workflow.json uses, and anything else is refused.

The expressions are those of the Workflow Definition Language. Written by Microsoft's reference of its functions
(learn.microsoft.com/azure/logic-apps/workflow-definition-language-functions-reference): every argument is evaluated
before the call, a missing member after `?` is null, `string` of null is an empty text. Types are held more strictly
than there: what is not a text is not joined to one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z]\w*)|(?P<mark>\?\[|[\[\](),]))")
INTERPOLATED = re.compile(r"@\{((?:[^}']|'(?:[^']|'')*')*)\}")


class Refused(Exception):
    """The definition uses something that is not carried out here, or that Logic Apps would fail on."""


@dataclass
class Call:
    """What one action sends: to the web, or to a connector."""

    action: str
    inputs: Mapping[str, Any]


@dataclass
class Workflow:
    """One definition with its parameters."""

    definition: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        if missing := set(self.definition["parameters"]) - set(self.parameters):
            raise Refused(f"no value for the parameters {sorted(missing)}")

    @property
    def trigger(self) -> Mapping[str, Any]:
        [trigger] = self.definition["triggers"].values()
        return dict(trigger)

    def polled(self) -> Mapping[str, Any]:
        """What the trigger asks its connector for."""
        return dict(Run(self, None).value_of(self.trigger["inputs"]))

    def runs_of(self, body: object) -> list[list[Call]]:
        """The runs that an answer of the connector starts, one for each item of `splitOn`, and what each sends."""
        items = Run(self, body).value_of(self.trigger["splitOn"])
        if not isinstance(items, list):
            raise Refused("splitOn is not an array")
        return [Run(self, item).carried_out() for item in items]


@dataclass
class Run:
    """One run: its trigger's body, and what its actions gave."""

    workflow: Workflow
    body: object
    outputs: dict[str, Any] = field(default_factory=dict)

    def carried_out(self) -> list[Call]:
        calls: list[Call] = []
        left = dict(self.workflow.definition["actions"])
        while left:
            ready = [name for name, each in left.items() if set(each["runAfter"]) <= self.outputs.keys()]
            if not ready:
                raise Refused(f"{sorted(left)} follow what never ran")
            name = ready[0]
            calls += self._carry_out(name, left.pop(name))
        return calls

    def _carry_out(self, name: str, action: Mapping[str, Any]) -> list[Call]:
        if any(statuses != ["Succeeded"] for statuses in action["runAfter"].values()):
            raise Refused(f"{name} runs after something else than success")
        inputs, kind = self.value_of(action["inputs"]), action["type"]
        if kind not in ("Compose", "Http", "ApiConnection"):
            raise Refused(f"{name} is a {kind}")
        self.outputs[name] = inputs if kind == "Compose" else None
        return [] if kind == "Compose" else [Call(name, inputs)]

    def value_of(self, template: Any) -> Any:
        """JSON with each text that is an expression, or holds some, evaluated."""
        if isinstance(template, Mapping):
            return {name: self.value_of(each) for name, each in template.items()}
        if isinstance(template, list):
            return [self.value_of(each) for each in template]
        if not isinstance(template, str) or "@" not in template:
            return template
        if template.startswith("@") and not template.startswith(("@{", "@@")):
            return Expression(template[1:], self).whole()
        filled = INTERPOLATED.sub(lambda found: _text_of(Expression(found[1], self).whole()), template)
        if "@" in INTERPOLATED.sub("", template):
            raise Refused(f"an @ that begins no expression: {template}")
        return filled

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        match name, arguments:
            case "triggerBody", ():
                return self.body
            case "parameters", (str(parameter),) if parameter in self.workflow.parameters:
                return self.workflow.parameters[parameter]
            case "outputs", (str(action),) if action in self.outputs:
                return self.outputs[action]
        if name not in FUNCTIONS:
            raise Refused(f"the function {name}({', '.join(map(repr, arguments))})")
        try:
            return FUNCTIONS[name](*arguments)
        except (TypeError, ValueError) as error:
            raise Refused(f"{name}: {error}") from None


class Expression:
    """One expression, read and evaluated from left to right."""

    def __init__(self, text: str, run: Run) -> None:
        self._text, self._run, self._at = text, run, 0

    def whole(self) -> Any:
        value = self._value()
        if self._text[self._at :].strip():
            raise Refused(f"'{self._text[self._at :]}' is not expected")
        return value

    def _value(self) -> Any:
        kind, token = self._next()
        if kind == "text":
            value: Any = token[1:-1].replace("''", "'")
        elif kind == "name" and self._peek() == "(":
            value = self._run.call(token, self._arguments())
        else:
            raise Refused(f"'{token}' in {self._text}")
        while (mark := self._peek()) in ("[", "?["):
            value = self._member(value, may_lack=mark == "?[")
        return value

    def _arguments(self) -> tuple[Any, ...]:
        self._expect("(")
        found: list[Any] = []
        while self._peek() != ")":
            if found:
                self._expect(",")
            found.append(self._value())
        self._expect(")")
        return tuple(found)

    def _member(self, holder: Any, *, may_lack: bool) -> Any:
        self._next()
        name = self._value()
        self._expect("]")
        if isinstance(holder, Mapping) and name in holder:
            return holder[name]
        if may_lack and (holder is None or isinstance(holder, Mapping)):
            return None
        raise Refused(f"there is no {name!r}")

    def _peek(self) -> str:
        found = TOKEN.match(self._text, self._at)
        return found[0].strip() if found else ""

    def _next(self) -> tuple[str, str]:
        found = TOKEN.match(self._text, self._at)
        if not found or found.lastgroup is None:
            raise Refused(f"'{self._text[self._at :]}' is not read")
        self._at = found.end()
        return found.lastgroup, found[found.lastgroup]

    def _expect(self, mark: str) -> None:
        if self._next()[1] != mark:
            raise Refused(f"'{mark}' is missing in {self._text}")


# -- the functions


def _texts(*values: Any) -> Sequence[str]:
    if wrong := [each for each in values if not isinstance(each, str)]:
        raise TypeError(f"{wrong[0]!r} is not a text")
    return values


def _text_of(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _concat(*values: Any) -> str:
    return "".join(_texts(*values))


def _if(condition: Any, then: Any, otherwise: Any) -> Any:
    if not isinstance(condition, bool):
        raise TypeError(f"{condition!r} is neither true nor false")
    return then if condition else otherwise


def _join(values: Any, between: Any) -> str:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is not an array")
    return str(*_texts(between)).join(_texts(*values))


def _replace(text: Any, old: Any, new: Any) -> str:
    whole, before, after = _texts(text, old, new)
    return whole.replace(before, after)


def _base64_to_text(value: Any) -> str:
    return base64.b64decode(str(*_texts(value)), validate=True).decode()


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "base64ToString": _base64_to_text,
    "coalesce": lambda *values: next((each for each in values if each is not None), None),
    "concat": _concat,
    "encodeURIComponent": lambda text: quote(str(*_texts(text)), safe="!'()*-._~"),
    "equals": lambda one, other: one == other,
    "if": _if,
    "join": _join,
    "json": lambda text: json.loads(str(*_texts(text))),
    "replace": _replace,
    "string": _text_of,
}
