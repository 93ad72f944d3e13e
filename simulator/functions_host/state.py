"""What can be seen of a host from outside: its state, its functions, what ran, and what was logged.

The host's parts write it; tests, the webhook and the log rows read it.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from simulator.functions_host.environment import AppSettings
from simulator.functions_host.settings import HostOptions
from simulator.functions_host.telemetry import ExceptionItem, Telemetry, Trace
from simulator.functions_host.worker import HostGone

StateName = Literal["Starting", "Running", "Error", "Stopped", "Killed"]


@dataclass
class Invocation:
    """One run of a function, as the host saw it."""

    function: str
    id: str
    started: dt.datetime
    reason: str
    started_seconds: float = field(default_factory=time.monotonic)
    ran: bool = False  # whether the function's own code was reached
    ended: dt.datetime | None = None  # None: still running, or abandoned
    ok: bool | None = None
    error: str | None = None


@dataclass
class FunctionState:
    """One declared function, and whether a listener runs for it."""

    name: str
    binding: str
    disabled: bool = False
    error: str | None = None  # "failed indexing and will be disabled"

    @property
    def listening(self) -> bool:
        return not self.disabled and self.error is None


class HostState:
    """The state of one host. `clock` is what timers and invocations go by."""

    def __init__(self, settings: AppSettings, clock: Callable[[], dt.datetime], telemetry: Telemetry) -> None:
        self.settings = settings
        self.clock = clock
        self.state: StateName = "Starting"
        self.error: str | None = None  # why the state is Error or Stopped, or why there are no functions
        self.url = ""
        self.options = HostOptions()  # those of host.json, once it is read
        self.functions: dict[str, FunctionState] = {}
        self.invocations: list[Invocation] = []
        self.running: dict[str, Invocation] = {}
        self.running_at_once_peak = 0
        self.telemetry = telemetry
        self.system_key = secrets.token_urlsafe(24)
        self.master_key = secrets.token_urlsafe(24)

    @property
    def traces(self) -> list[Trace]:
        return self.telemetry.traces

    @property
    def app_lines(self) -> list[Trace]:
        """What the app itself wrote, without the host's lines about it."""
        return [trace for trace in self.traces if trace.category.endswith(".User")]

    @property
    def exceptions(self) -> list[ExceptionItem]:
        return self.telemetry.exceptions

    @property
    def telemetry_refused(self) -> str:
        """Why Application Insights keeps nothing of this host; empty when it keeps all."""
        return self.telemetry.refused

    @property
    def serving(self) -> bool:
        return self.state == "Running"

    @property
    def gone(self) -> bool:
        return self.state in ("Stopped", "Killed")

    def require_alive(self) -> None:
        """Raises HostGone."""
        if self.gone:
            raise HostGone(f"the host is {self.state}")

    def event_function(self, name: str) -> bool:
        return self._listens(name, "eventGridTrigger")

    def timer_function(self, name: str) -> bool:
        return self._listens(name, "timerTrigger")

    def _listens(self, name: str, binding: str) -> bool:
        function = self.functions.get(name)
        return self.serving and function is not None and function.binding == binding and function.listening
