"""The Resource Graph queries: files beside this one, valid KQL once their placeholders are filled.

A placeholder `{name}` stands for a literal. Only parsed values fill it: a bool, a datetime, or ids and names that were
validated before. A line `// include FILE` is replaced by that file, so that the columns of a machine are written once.
tests/unit/test_queries.py holds the queries to what Resource Graph allows.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from functions.model.text import BadInput

FOLDER = Path(__file__).parent
_INCLUDE = re.compile(r"^// include (\w+\.kql)$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# The characters of ARM ids and of package names. No quote and no backslash: neither may end or escape a KQL string
# literal.
_SAFE_TEXT = re.compile(r"[\w./()@ +:~-]+")

Value = bool | datetime | Iterable[str]


def names() -> list[str]:
    """The queries by file name, without the fragments that other files include."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.kql"))


@cache
def template(name: str) -> str:
    """The text of a query with its includes in place and its placeholders open."""
    text = (FOLDER / f"{name}.kql").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: (FOLDER / match[1]).read_text(encoding="utf-8").rstrip(), text)


def placeholders(name: str) -> set[str]:
    """The names of the values that fill() needs for this query."""
    return set(_PLACEHOLDER.findall(template(name)))


def fill(name: str, **values: Value) -> str:
    """The query ready to send. Raises KeyError for a missing value, BadInput for text with other characters."""
    return filled(template(name), **values)


def filled(text: str, **values: Value) -> str:
    """The same for the text of a query that stands elsewhere."""
    return _PLACEHOLDER.sub(lambda match: _literal(values[match[1]]), text)


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    texts = [] if isinstance(value, str) else list(value)
    if not texts:
        raise BadInput("a query needs a list of at least one id")
    return ", ".join(f"'{_safe(text)}'" for text in texts)


def _safe(text: str) -> str:
    if not _SAFE_TEXT.fullmatch(text):
        raise BadInput("an id in a query may hold letters, digits and ./()@ +:~-_ only")
    return text
