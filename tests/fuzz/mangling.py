"""Good documents made bad: what Azure, Event Grid and people send, with a few things wrong in it.

A mangled document is a real one in which keys are dropped, retyped, renamed, nested or repeated, texts are broken or
written in look-alike letters, and ids are exchanged for another machine's. Nothing valid is invented: no junk value is
one that the original could have held.
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
TOKEN = f"eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiIxIn0.{SECRET}"  # a bearer token, by its looks
ANOTHER = "off-01"  # the name of another machine of the tests
LOOK_ALIKES = str.maketrans("aceiknops", "\u0430\u0441\u0435\u0131\u212a\u0578\u043e\u0440\u017f")
JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1e308,
    float("nan"),
    float("inf"),
    10**30,
    10**4000,
    "",
    " ",
    f"Bearer {TOKEN}",
    TOKEN,
    "\u0000",
    "a\nb\r\nc",
    "\u202eevil",
    "\uff33upported",
    "'; drop",
    "\ud800",
    "x" * 40_000,
    [],
    {},
    [[]],
    {"a": {"a": {"a": []}}},
    SIGNED_URL,
    CONNECTION_STRING,
    "/subscriptions/../../providers/x",
    "https://evil.example/subscriptions/0",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:59.9999999Z",
    "PT99999H",
)


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


def _look_alike(parent: Any, key: Any, junk: Any) -> None:
    """One letter after the other, or all of them: a name that people read as the right one."""
    if isinstance(text := parent[key], str):
        start = len(str(junk)) % (len(text) or 1)
        parent[key] = text[:start] + text[start : start + 9].translate(LOOK_ALIKES) + text[start + 9 :]


def _swap_case(parent: Any, key: Any, _: Any) -> None:
    if isinstance(parent[key], str):
        parent[key] = parent[key].swapcase()


def _another(parent: Any, key: Any, _: Any) -> None:
    """The id of something else: the last part of the id, or of its group, is another's."""
    if isinstance(parent[key], str) and parent[key].count("/") > 3:
        parent[key] = parent[key].rpartition("/")[0] + f"/{ANOTHER}"


def _as_text(parent: Any, key: Any, _: Any) -> None:
    parent[key] = json.dumps(parent[key])


def _repeat(parent: Any, key: Any, _: Any) -> None:
    if isinstance(parent, list):
        parent.append(deepcopy(parent[key]))


def _add(parent: Any, key: Any, junk: Any) -> None:
    if isinstance(parent, dict):
        parent[f"unknown-{key}"] = junk


_WAYS: dict[str, Callable[[Any, Any, Any], None]] = {
    "drop": _drop,
    "put": _put,
    "nest": _nest,
    "rename": _rename,
    "break": _break_text,
    "as text": _as_text,
    "repeat": _repeat,
    "add": _add,
    "look-alike": _look_alike,
    "swap case": _swap_case,
    "another": _another,
}

mutations = st.builds(Mutation, st.integers(0, 10**6), st.sampled_from(list(_WAYS)), st.sampled_from(JUNK))


def mangled(document: Any, *, most: int = 3) -> st.SearchStrategy[Any]:
    """The document with one to `most` things wrong in it."""

    def apply(changes: list[Mutation]) -> Any:
        result = document
        for change in changes:
            result = change.of(result)
        return result

    return st.lists(mutations, min_size=1, max_size=most).map(apply)


# -- texts with a few characters wrong: what people paste, and what is made to look right

FULL_WIDTH = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
NOISE = (
    "\u0000",
    "\n",
    "\r\n",
    "\t",
    "\u200b",
    "\u202e",
    "\ufeff",
    "\u0301",
    "%2e",
    "..",
    "//",
    "\\",
    "#",
    "?",
    "@",
    " ",
)


def look_alike(text: str, start: int) -> str:
    return text[:start] + text[start : start + 3].translate(LOOK_ALIKES) + text[start + 3 :]


def noisy(text: str) -> st.SearchStrategy[str]:
    """The text with one thing wrong that people do not see, or that changes what a URL means."""
    places = st.integers(0, len(text))
    return st.one_of(
        st.builds(lambda at, noise: text[:at] + noise + text[at:], places, st.sampled_from(NOISE)),
        st.builds(lambda at, noise: text[:at] + noise + text[at + 1 :], places, st.sampled_from(NOISE)),
        st.builds(lambda at: look_alike(text, at), places),
        st.builds(lambda at: text[:at] + text[at:].translate(FULL_WIDTH), places),
        st.builds(lambda at: text[:at] + text[at:].swapcase(), places),
        st.builds(lambda one, two: text[:one] + text[two:], places, places),  # a piece is missing, or there twice
    )


def look_alikes(text: str) -> st.SearchStrategy[str]:
    """Another text that looks like this one."""
    return st.one_of(
        st.builds(lambda at, mark: text[:at] + mark + text[at:], st.integers(0, len(text)), st.sampled_from(NOISE[:8])),
        st.builds(lambda at: look_alike(text, at), st.integers(0, len(text))),
        st.builds(lambda at: text[:at] + text[at:].translate(FULL_WIDTH), st.integers(0, len(text))),
        st.just(text.swapcase()),
    )
