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


FOREIGN = 4_000  # characters of a foreign text that are read: cleaning costs time for each
MAX_REASON = 500  # characters of a reason or a name that a person wrote


# The value of a name: in quotes, or up to a space or the next part of a connection string or query.
_VALUE = r"""(?:\\?"[^"]*"?|'[^']*'?|[^\s;&]+)"""
_SECRET = r"(?:pass(?:word|phrase)|secret|token|(?:api|access|account|private|shared|storage|subscription)[ _-]?key)"
_SHORT = r"(?:key|sig|signature|passwd|pwd|credential)"  # names of many other things, too, unless an = follows
_QUOTE = r"""\\?["']?\s{0,8}"""


def _any_case(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# What no line may repeat, and what stands in its place. A repetition without a bound is of one class of characters and
# stands in no other one, so that a text is read in linear time (tests/unit/test_text.py).
_SECRETS = (
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----.*?(?:-----END [A-Z ]{0,50}-----|\Z)"), "…"),
    (re.compile(r"//[^/@\s]*@"), "//…@"),  # a URL's user and password
    (_any_case(rf"(authorization{_QUOTE}[:=]\s{{0,8}}\\?[\"']?(?:[a-z]{{1,20}}\s{{1,8}})?)[^\s\"',]+"), r"\1…"),
    (_any_case(r"(\bBearer\s{1,8})\S+"), r"\1…"),
    (_any_case(rf"((?:{_SECRET}|{_SHORT}){_QUOTE}=>?\s{{0,8}}){_VALUE}"), r"\1…"),
    (_any_case(rf"({_SECRET}{_QUOTE}:\s{{0,8}}){_VALUE}"), r"\1…"),
    (_any_case(rf"((?<!\w)--?[a-z-]{{0,40}}?(?:{_SECRET}|passwd|pwd)\s{{1,8}}){_VALUE}"), r"\1…"),
    # Tokens that begin as their issuers say: GitHub, GitLab, Slack, AWS, and JSON Web Tokens.
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|eyJ)[\w.-]{10,}"), "…"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "…"),
)
# What a text holds, in small letters, of which any of these would find something. Most lines hold none of it.
_SUSPECT = (
    *("//", "pass", "pwd", "private", "secret", "sig", "token", "key", "credential", "authorization", "bearer"),
    *("gho_", "ghp_", "ghu_", "ghs_", "ghr_", "github_", "glpat-", "xox", "eyj", "akia", "asia"),
)
_WEB_ADDRESS = _any_case(r"https?://[^\s'\"]*")
# Of a person or of a user principal name. The instance of a systemd unit (name@instance.service) is none.
_MAIL = _any_case(
    r"(?<![\w.+#-])[\w.+#-]{1,128}@(?!\S{0,255}\.(?:service|socket|timer|target|mount|slice|scope|device|path)\b)"
    r"(?=[\w-]{0,63}[a-z]|[0-9]{2,63}\.[a-z]{2,24}\b)[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[a-z]{2,24}\b"
)


# What JSON calls the values that are not texts.
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
    text = redacted(on_one_line(value[:FOREIGN].split("?")[0], space="?"))
    return f"'{text[:limit]}{'…' if len(text) > limit else ''}'"


def redacted(text: str, *, addresses: bool = False, most: int = FOREIGN) -> str:
    """The first `most` characters of a text, on one line, with what may be secret cut out.

    Secrets are a URL's user, password and query, private keys, and the values of what is called a password, token,
    key or signature. E-mail addresses go too, unless `addresses` lets them stay.
    """
    cut = len(text) > most
    text = on_one_line(text[:most])
    if cut:  # half a secret has no form by which it could be known
        text = text.rpartition(" ")[0] + "…"
    if "://" in text:
        text = _WEB_ADDRESS.sub(_without_query, text)
    if _is_suspect(text):
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
    return text if addresses or "@" not in text else _MAIL.sub("…", text)


def _is_suspect(text: str) -> bool:
    """Whether a pattern may find a secret. They ignore case, by which letters outside ASCII are like i, k and s."""
    small = text.lower() if text.isascii() else text.casefold().replace("i\u0307", "i").replace("\u0131", "i")
    return any(part in small for part in _SUSPECT)


def _without_query(match: re.Match[str]) -> str:
    address, question, _ = match[0].partition("?")
    return f"{address}?…" if question else address


def on_one_line(text: str, *, space: str = " ") -> str:
    """The text without line breaks, control characters and marks that turn the direction of writing around.

    Each is replaced, so that it is seen: what separates words by `space`, the others by a question mark.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else space if char.isspace() else "?" for char in text)


def writable(text: str) -> str:
    """The text without halves of surrogate pairs: JSON can name one, and none can be stored or sent."""
    return text.encode("utf-8", "replace").decode()


def format_utc(moment: datetime | None) -> str:
    """A time for a reason: minutes and UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment else "at an unknown time"
