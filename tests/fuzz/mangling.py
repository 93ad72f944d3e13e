"""Good documents made bad: what Azure, Event Grid and people send, with a few things wrong in it.

A mangled document is a real one in which keys are dropped, retyped, renamed, nested or repeated, texts are broken, and
ids are exchanged for another's. Nothing valid is invented: no junk value is one that the original could have held.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

SECRET = "c2VjcmV0c2VjcmV0"  # in every signed URL and key that is planted; it may come out nowhere
SIGNED_URL = f"https://account.blob.core.windows.net/logs?sv=2024&sig={SECRET}"
CONNECTION_STRING = f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET};EndpointSuffix=x"
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, float("nan"), float("inf"), 10**30, "", " ", "\u0000", "a\nb\r\nc", "\u202eevil",
    "\uff33upported",
    "'; drop", "\ud800", "x" * 40_000, [], {}, [[]], {"a": {"a": {"a": []}}}, SIGNED_URL, CONNECTION_STRING,
    "/subscriptions/../../providers/x", "https://evil.example/subscriptions/0", "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:59.9999999Z", "PT99999H",
)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One thing wrong: at the place that `where` picks, do `what`, with `junk` where something is put in."""

    where: int
    what: str
    junk: Any

    def of(self, document: Any) -> Any:
        """The document with this wrong in it; the original stays as it is."""
        changed = deepcopy(document)
        places = list(_places(changed))
        if not places:
            return self.junk
        parent, key = places[self.where % len(places)]
        _WAYS[self.what](parent, key, self.junk)
        return changed


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _drop(parent: Any, key: Any, _: Any) -> None:
    del parent[key]


def _put(parent: Any, key: Any, junk: Any) -> None:
    parent[key] = junk


def _nest(parent: Any, key: Any, _: Any) -> None:
    parent[key] = [parent[key]]


def _rename(parent: Any, key: Any, _: Any) -> None:
    if isinstance(parent, dict):
        parent[f"{key} "] = parent.pop(key)


def _break_text(parent: Any, key: Any, _: Any) -> None:
    if isinstance(parent[key], str):
        parent[key] = parent[key][: len(parent[key]) // 2] + "\u0000\n" + parent[key][len(parent[key]) // 2 :]


def _as_text(parent: Any, key: Any, _: Any) -> None:
    parent[key] = json.dumps(parent[key])


def _repeat(parent: Any, key: Any, _: Any) -> None:
    if isinstance(parent, list):
        parent.append(deepcopy(parent[key]))


def _add(parent: Any, key: Any, junk: Any) -> None:
    if isinstance(parent, dict):
        parent[f"unknown-{key}"] = junk


_WAYS: dict[str, Callable[[Any, Any, Any], None]] = {
    "drop": _drop, "put": _put, "nest": _nest, "rename": _rename, "break": _break_text, "as text": _as_text,
    "repeat": _repeat, "add": _add,
}  # fmt: skip

mutations = st.builds(Mutation, st.integers(0, 10**6), st.sampled_from(list(_WAYS)), st.sampled_from(JUNK))


def mangled(document: Any, *, most: int = 3) -> st.SearchStrategy[Any]:
    """The document with one to `most` things wrong in it."""

    def apply(changes: list[Mutation]) -> Any:
        result = document
        for change in changes:
            result = change.of(result)
        return result

    return st.lists(mutations, min_size=1, max_size=most).map(apply)
