"""Journal lines as the app writes them, as rows of Log Analytics: for what does not happen in the run of the demo. And
which fields there are at all."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from functions import journal
from functions.model.machine import PATCH_COUNTS
from simulator.functions_host.telemetry import ExceptionItem, Trace
from simulator.monitor import logs

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@dataclass
class Run:
    """One invocation."""

    function: str
    id: str
    started: datetime
    ended: datetime | None
    ok: bool | None = True
    reason: str = "Timer fired"


@dataclass
class Sent:
    """What a host sent: as much of a host as logs.rows_of looks at."""

    traces: Sequence[Trace] = ()
    exceptions: Sequence[ExceptionItem] = ()
    invocations: Sequence[Run] = field(default_factory=list)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _captured() -> Iterator[list[logging.LogRecord]]:
    handler = _Kept()
    logger = logging.getLogger("journal")
    level = logger.level
    logger.setLevel(logging.INFO)  # not by the attribute: a logger remembers which levels it passes
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def lines(*written: tuple[str, Mapping[str, Any]], function: str = "on_reconcile") -> logs.Tables:
    """Each line a second after the one before, in an invocation of its own."""
    traces, runs = [], []
    for number, (event, fields) in enumerate(written):
        with _captured() as records:
            journal.write(event, **fields)
        at, run_id = NOON + timedelta(seconds=number), f"00000000-0000-0000-0000-{number:012d}"
        level = {"INFO": "Information", "WARNING": "Warning", "ERROR": "Error"}[records[0].levelname]
        traces.append(Trace(records[0].getMessage(), level, f"Function.{function}.User", run_id, at))
        runs.append(Run(function, run_id, at, at + timedelta(seconds=1)))
    return logs.rows_of(Sent(traces, (), runs))


def exceptions(items: Iterable[tuple[str, str]]) -> logs.Tables:
    """Category and text of each."""
    return logs.rows_of(Sent((), [ExceptionItem(text, text, category, "", NOON) for category, text in items]))


def both(*all_tables: logs.Tables) -> logs.Tables:
    return {name: [row for tables in all_tables for row in tables[name]] for name in logs.SCHEMA}


@cache
def emitted_fields() -> frozenset[str]:
    """The names of all fields of journal lines, as they stand in the code."""
    root = Path(__file__).parents[2]
    names = {"event", *PATCH_COUNTS}
    for path in [root / "function_app.py", *(root / "functions").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "journal.write":
                names |= {keyword.arg for keyword in node.keywords if keyword.arg}
    return frozenset(names)
