"""Where the sample app notes what happened to it, for the tests to read.

The host imports function_app.py again for every host; this module is imported once and so outlives them.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import azure.functions as func

# For a gate that no test opens: no failed test leaves a run behind.
MAX_WAIT_SECONDS = 120.0


@dataclass
class Entry:
    """One run of a function: what it got, when, and how far it came."""

    function: str
    invocation_id: str
    argument: Any
    started_seconds: float = field(default_factory=time.monotonic)
    finished: bool = False  # the last line was reached
    left: bool = False  # a `finally` was run


class Gate:
    """What a run waits at until a test lets it pass, so that no test has to guess how long a machine takes."""

    def __init__(self) -> None:
        self._passed = threading.Condition()
        self._attempts_let_pass = 0

    def open(self) -> None:
        """Let every run pass that waits; of a message the next attempt, and one more each time."""
        with self._passed:
            self._attempts_let_pass += 1
            self._passed.notify_all()

    def lets_pass(self, attempt: int) -> bool:
        return attempt <= self._attempts_let_pass

    def wait(self, attempt: int) -> None:
        """Block this thread until the attempt may pass. Raises TimeoutError."""
        with self._passed:
            if not self._passed.wait_for(lambda: self.lets_pass(attempt), timeout=MAX_WAIT_SECONDS):
                raise TimeoutError("no test opened the gate")


class Book:
    """Every run of every host of this process."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.gates: defaultdict[str, Gate] = defaultdict(Gate)

    def enter(self, context: func.Context, argument: object) -> Entry:
        entry = Entry(context.function_name, context.invocation_id, argument)
        self._entries[entry.invocation_id] = entry
        return entry

    def of(self, invocation_ids: list[str]) -> list[Entry]:
        """The runs of these invocations, those that reached the function's code."""
        entries = [self._entries[id] for id in invocation_ids if id in self._entries]
        return sorted(entries, key=lambda entry: entry.started_seconds)


BOOK = Book()
