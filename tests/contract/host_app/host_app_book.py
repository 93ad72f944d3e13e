"""Where the sample app notes what happened to it, for the tests to read.

The host imports function_app.py anew for every host; this module is imported once and so outlives them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import azure.functions as func


@dataclass
class Entry:
    """One run of a function: what it got, when, and how far it came."""

    function: str
    invocation_id: str
    argument: Any
    started_seconds: float = field(default_factory=time.monotonic)
    finished: bool = False  # the last line was reached
    left: bool = False  # a `finally` was run


class Book:
    """Every run of every host of this process."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def enter(self, context: func.Context, argument: object) -> Entry:
        entry = Entry(context.function_name, context.invocation_id, argument)
        self._entries[entry.invocation_id] = entry
        return entry

    def of(self, invocation_ids: list[str]) -> list[Entry]:
        """The runs of these invocations, those that reached the function's code."""
        entries = [self._entries[id] for id in invocation_ids if id in self._entries]
        return sorted(entries, key=lambda entry: entry.started_seconds)


BOOK = Book()
