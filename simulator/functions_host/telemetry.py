"""What Application Insights would receive from an app: traces and exceptions, in memory.

A line of any Python logger inside an invocation becomes one trace of category `Function.<name>.User`; the logger's own
name is lost, and host.json's logLevel decides whether the line is kept. Beside it stand the host's own lines about each
invocation. The channel holds items back for up to 30 s, which a killed host loses. Left out: sampling, metrics, most of
the host's lines about its life, and what the app prints (which does not arrive at log level Warning either).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from simulator.functions_host.settings import LOG_LEVELS

_MESSAGE_CHARACTERS = 32_768
FLUSH_SECONDS = 30.0  # recorded on host 4.1037.0


class HostCategory(StrEnum):
    """Categories of the host's own lines, as recorded."""

    QUEUE_CLIENT = "Azure.Storage.Queues.QueueServiceClient"
    QUEUE_PROCESSOR = "Microsoft.Azure.WebJobs.Host.Queues.QueueProcessor"
    QUEUE_CAUSALITY = "Microsoft.Azure.WebJobs.Extensions.Storage.Queues.QueueCausalityManager"
    UNHANDLED = "Microsoft.Azure.WebJobs.Script.WebHost.WebScriptHostExceptionHandler"
    CONSOLE = "Host.Function.Console"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Trace:
    """One AppTraces item."""

    message: str
    level: str
    category: str
    invocation_id: str
    time: datetime = field(default_factory=_now, compare=False)


@dataclass(frozen=True)
class ExceptionItem:
    """One AppExceptions item: text and stack of an exception, as the readers of the logs see it."""

    message: str
    stack: str
    category: str
    invocation_id: str
    time: datetime = field(default_factory=_now, compare=False)


class LogTarget(Protocol):
    """An invocation, as the log handler sees it."""

    def log(self, level: str, message: str) -> None: ...


class Ingestion(Protocol):
    """Application Insights, which receives what the host logs."""

    def refusal(self, connection_string: str, authentication: str) -> str:
        """Why nothing of this host is kept; empty when it is."""
        ...


current_invocation: ContextVar[LogTarget | None] = ContextVar("current_invocation", default=None)


class LogFilter:
    """host.json's logLevel: the longest category prefix decides, then `default`, then Information."""

    def __init__(self, levels: Mapping[str, str]) -> None:
        self._levels = {category.lower(): level for category, level in levels.items()}

    def keeps(self, category: str, level: str) -> bool:
        return LOG_LEVELS.index(level) >= LOG_LEVELS.index(self._minimum(category.lower()))

    def _minimum(self, category: str) -> str:
        parts = category.split(".")
        for length in range(len(parts), 0, -1):
            level = self._levels.get(".".join(parts[:length]))
            if level is not None:
                return level
        return self._levels.get("default", "Information")


class Telemetry:
    """What Application Insights keeps of one host. `refused` says why it keeps nothing; empty: it keeps all."""

    def __init__(self, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._flush_seconds = flush_seconds
        self._started = _now()
        self.traces: list[Trace] = []
        self.exceptions: list[ExceptionItem] = []
        self.refused = ""
        self.filter = LogFilter({})

    def trace(self, level: str, message: str, *, category: str, invocation_id: str) -> None:
        if self.filter.keeps(category, level) and not self.refused:
            self.traces.append(Trace(message[:_MESSAGE_CHARACTERS], level, category, invocation_id))

    def warning(self, category: HostCategory, message: str) -> None:
        """A line of the host that belongs to no invocation."""
        self.trace("Warning", message, category=category, invocation_id="")

    def lose_what_was_not_sent(self, now: datetime | None = None) -> None:
        """The host was killed: what the channel still held is lost."""
        held_seconds = ((now or _now()) - self._started).total_seconds() % self._flush_seconds
        sent_until = (now or _now()) - timedelta(seconds=held_seconds)
        self.traces[:] = [item for item in self.traces if item.time <= sent_until]
        self.exceptions[:] = [item for item in self.exceptions if item.time <= sent_until]

    def failure(self, item: ExceptionItem) -> None:
        """An exception of a function: host.json's logLevel decides whether it is kept."""
        if self.filter.keeps(item.category, "Error"):
            self.exception(item)

    def exception(self, item: ExceptionItem) -> None:
        """An exception of the host, which is always kept."""
        if not self.refused:
            self.exceptions.append(item)


class _Handler(logging.Handler):
    """Passes a log record to the invocation it was written in. A record outside any is not the app's."""

    def emit(self, record: logging.LogRecord) -> None:
        invocation = current_invocation.get()
        if invocation is not None:
            invocation.log(_level(record.levelno), self.format(record))


class LogCapture:
    """The handler on the root logger while at least one host runs, and the worker's root level (INFO)."""

    def __init__(self) -> None:
        self._handler = _Handler()
        self._users = 0
        self._level_before = logging.WARNING

    def start(self) -> None:
        self._users += 1
        if self._users == 1:
            root = logging.getLogger()
            self._level_before = root.level
            root.setLevel(min(root.level, logging.INFO) if root.level else logging.INFO)
            root.addHandler(self._handler)

    def stop(self) -> None:
        self._users -= 1
        if self._users == 0:
            root = logging.getLogger()
            root.removeHandler(self._handler)
            root.setLevel(self._level_before)


log_capture = LogCapture()


def _level(number: int) -> str:
    if number >= logging.CRITICAL:
        return "Critical"
    if number >= logging.ERROR:
        return "Error"
    if number >= logging.WARNING:
        return "Warning"
    return "Information" if number >= logging.INFO else "Debug"
