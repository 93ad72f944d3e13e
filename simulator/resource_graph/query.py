"""A request to Resource Graph, and the page of rows that answers it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from dataclasses import dataclass

from simulator.wire import Json, Refused

PAGE_ROWS = 100  # by default
PAGE_ROWS_AT_MOST = 1000

_ORDERED = re.compile(r"\|\s*(order|sort)\s+by\b", re.IGNORECASE)
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

    @classmethod
    def read(cls, body: Json) -> GraphQuery:
        """Raises Refused (400)."""
        text, options = body.get("query"), body.get("options") or {}
        if not isinstance(text, str) or not text.strip():
            raise Refused(400, "BadRequest", "The query is missing.")
        top = options.get("$top", PAGE_ROWS)
        if not isinstance(top, int) or not 1 <= top <= PAGE_ROWS_AT_MOST:
            raise Refused(400, "BadRequest", f"$top is {top}; it must be between 1 and {PAGE_ROWS_AT_MOST}.")
        form = options.get("resultFormat", "objectArray")
        if form not in ("objectArray", "table"):
            raise Refused(400, "BadRequest", f"resultFormat {form} is not known.")
        return cls(
            text=text,
            subscriptions=tuple(body.get("subscriptions") or ()),
            management_groups=tuple(body.get("managementGroups") or ()),
            top=top,
            skip=int(options.get("$skip") or 0),
            token=options.get("$skipToken") or None,
            as_table=form == "table",
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
            return self.skip
        try:
            token = json.loads(base64.urlsafe_b64decode(self.token))
            first, digest = int(token["first"]), token["query"]
        except (ValueError, KeyError, TypeError):
            raise Refused(400, "BadRequest", "The $skipToken is malformed.") from None
        if digest != self.digest:
            raise Refused(400, "BadRequest", "The $skipToken belongs to another query.")
        return first

    def token_for(self, first: int) -> str:
        return base64.urlsafe_b64encode(json.dumps({"first": first, "query": self.digest}).encode()).decode()


def page(query: GraphQuery, columns: list[tuple[str, str]], rows: list[Json], shuffler: random.Random | None) -> Json:
    """The body that answers: one page of the rows, and a token for the next where there may be one."""
    first = query.first()
    if shuffler and len(rows) > query.top:
        shuffler.shuffle(rows)
    shown = rows[first : first + query.top]
    more = first + len(shown) < len(rows)
    body: Json = {
        "totalRecords": len(rows),
        "count": len(shown),
        "data": _as_table(columns, shown) if query.as_table else shown,
        "facets": [],
        "resultTruncated": "true" if more else "false",
    }
    if more and any(name == "id" for name, _ in columns) and not query.is_limited:
        body["$skipToken"] = query.token_for(first + len(shown))
    return body


def _as_table(columns: list[tuple[str, str]], rows: list[Json]) -> Json:
    names = [name for name, _ in columns]
    return {
        "columns": [{"name": name, "type": "object" if kind == "dynamic" else kind} for name, kind in columns],
        "rows": [[row[name] for name in names] for row in rows],
    }
