"""Text from outside: the error for what cannot be read, and how such text may be quoted.

Nothing here may let a secret into a line that people read.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Json = Mapping[str, Any]


GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class BadInput(ValueError):
    """Something from outside that cannot be read. The text is one line: what, where, and what would be right."""


# What no error line may repeat: a URL's user, password and query, a token, and the keys of a connection string.
_SECRETS = (
    (re.compile(r"//[^/@\s]*@"), "//…@"),
    (re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*"), r"\1?…"),
    (re.compile(r"(\bBearer\s+)\S+", re.IGNORECASE), r"\1…"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w.-]+"), "…"),
    (re.compile(r"((?:key|sig|signature|password|pwd|secret|token)=)[^;&\s]+", re.IGNORECASE), r"\1…"),
)


# What JSON calls the values that are no texts.
_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "nothing",
}


def quoted(value: object, *, limit: int = 120) -> str:
    """A value from outside for an error line: of `limit` characters, on one line, without what may be secret."""
    if not isinstance(value, str):
        return _KINDS.get(type(value), f"a value of type {type(value).__name__}")
    text = redacted("".join(char if char.isprintable() else "?" for char in value.split("?")[0]))
    return f"'{text[:limit]}{'…' if len(text) > limit else ''}'"


def redacted(text: str) -> str:
    """A text with what may be secret cut out: a URL's user, password and query, tokens, keys and signatures."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def writable(text: str) -> str:
    """The text without halves of surrogate pairs: JSON can name one, and none can be stored or sent."""
    return text.encode("utf-8", "replace").decode()


def format_utc(moment: datetime | None) -> str:
    """A time for a reason: minutes and UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment else "at an unknown time"
