"""A request to Resource Graph, and the page of rows that answers it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from dataclasses import dataclass
from typing import Any

from simulator.wire import Json, Refused

PAGE_ROWS = 100  # by default
MAX_PAGE_ROWS = 1000

_SCOPE_FILTER = "AtScopeAndBelow"  # the default
# The SDK's ColumnDataType has five values; times are texts.
_TABLE_TYPES = {"int": "integer", "long": "integer", "real": "number", "bool": "boolean", "dynamic": "object"}

_ORDERED = re.compile(r"\|\s*(order|sort|top\s+\d+)\s+by\b", re.IGNORECASE)
_LIMITED = re.compile(r"\|\s*(take|limit|sample)\b", re.IGNORECASE)


@dataclass(frozen=True)
class GraphQuery:
    """The body of a request, checked."""

    text: str
    subscriptions: tuple[str, ...]
    management_groups: tuple[str, ...]
    top: int
    skip: int
    token: str | None
    as_table: bool
    allows_partial_scopes: bool = False

    @classmethod
    def read(cls, body: Json) -> GraphQuery:
        """Raises Refused: 400 for what is wrong, 501 for what is not simulated."""
        text, options = body.get("query"), body.get("options") or {}
        if not isinstance(text, str) or not text.strip():
            raise _bad("The query is missing.")
        if not isinstance(options, dict):
            raise _bad("The options must be an object.")
        _refuse_unsupported(body, options)
        form = options.get("resultFormat") or "objectArray"
        if form not in ("objectArray", "table"):
            raise _bad(f"resultFormat {form} is not known.")
        return cls(
            text=text,
            subscriptions=_texts(body, "subscriptions"),
            management_groups=_texts(body, "managementGroups"),
            top=_number(
                options, "$top", default=_rows_of(options.get("$skipToken")), allowed=range(1, MAX_PAGE_ROWS + 1)
            ),
            skip=_number(options, "$skip", default=0, allowed=range(2**31)),
            token=options.get("$skipToken") or None,
            as_table=form == "table",
            allows_partial_scopes=options.get("allowPartialScopes") is True,
        )

    @property
    def is_ordered(self) -> bool:
        return _ORDERED.search(self.text) is not None

    @property
    def is_limited(self) -> bool:
        return _LIMITED.search(self.text) is not None

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr((self.text, self.subscriptions, self.management_groups)).encode()).hexdigest()

    def first(self) -> int:
        """The number of the first row wanted. Raises Refused (400) for a token of another query."""
        if self.token is None:
            return 0 if self.is_limited else self.skip  # documented: $skip is ignored with limit and take
        try:
            token = _opened(self.token)
            first, digest = int(token["first"]), token["query"]
        except (ValueError, KeyError, TypeError):
            raise _bad("The $skipToken is malformed.") from None
        if digest != self.digest or first < 0:
            raise _bad("The $skipToken belongs to another query.")
        return first

    @property
    def chain(self) -> str:
        """The chain of pages that its token goes on with; "" without a token, or with one that cannot be read."""
        try:
            return str(_opened(self.token)["id"]) if self.token else ""
        except (ValueError, KeyError, TypeError):
            return ""

    def token_for(self, first: int, chain: str) -> str:
        token = {"first": first, "rows": self.top, "query": self.digest, "id": chain}
        return base64.urlsafe_b64encode(json.dumps(token).encode()).decode()


def _opened(token: object) -> Any:
    """What a token holds. Raises ValueError or TypeError."""
    return json.loads(base64.urlsafe_b64decode(str(token)))


def _rows_of(token: object) -> int:
    """The size of a page that names none: that of the page before (recorded), or the default."""
    try:
        return int(_opened(token)["rows"])
    except (ValueError, KeyError, TypeError):
        return PAGE_ROWS


def _bad(text: str) -> Refused:
    return Refused(400, "BadRequest", text)


def unsupported(what: str) -> Refused:
    """The simulator's own refusal, which says nothing about Azure."""
    return Refused(501, "SimulatorUnsupported", f"The simulator does not implement {what}.")


def _refuse_unsupported(body: Json, options: Json) -> None:
    if body.get("facets"):
        raise unsupported("facets")
    scope = options.get("authorizationScopeFilter") or _SCOPE_FILTER
    if scope != _SCOPE_FILTER:
        raise unsupported(f"the authorizationScopeFilter {scope}")


def _texts(body: Json, name: str) -> tuple[str, ...]:
    found = body.get(name) or ()
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise _bad(f"{name} must be a list of texts.")
    return tuple(found)


def _number(options: Json, name: str, *, default: int, allowed: range) -> int:
    value = options.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        raise _bad(f"{name} is {value}; it must be between {allowed.start} and {allowed.stop - 1}.")
    return value


def page(
    query: GraphQuery,
    columns: list[tuple[str, str]],
    rows: list[Json],
    *,
    shuffler: random.Random | None,
    chain: str = "",
) -> Json:
    """The body that answers: one page of the rows, and a token for the next where there may be one.

    resultTruncated means rows that no token leads to (work-with-data.md; a recorded page with a token has "false").
    """
    first = query.first()
    if shuffler and len(rows) > query.top:
        rows = shuffler.sample(rows, len(rows))
    shown = rows[first : first + query.top]
    more = first + len(shown) < len(rows)
    can_page = any(name == "id" for name, _ in columns) and not query.is_limited
    body: Json = {
        "totalRecords": len(rows),
        "count": len(shown),
        "data": _as_table(columns, shown) if query.as_table else shown,
        "facets": [],
        "resultTruncated": "true" if more and not can_page else "false",
    }
    if more and can_page:
        body["$skipToken"] = query.token_for(first + len(shown), chain)
    return body


def _as_table(columns: list[tuple[str, str]], rows: list[Json]) -> Json:
    names = [name for name, _ in columns]
    return {
        "columns": [{"name": name, "type": _TABLE_TYPES.get(kind, "string")} for name, kind in columns],
        "rows": [[row[name] for name in names] for row in rows],
    }
