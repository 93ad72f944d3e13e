"""The `context` argument of a function: its name and invocation. Each has a trace of its own, and no retries."""

from __future__ import annotations

import secrets
import threading
from types import SimpleNamespace
from typing import Any

import azure.functions as func


class InvocationContext(func.Context):
    """The worker's Context for one invocation."""

    def __init__(self, function: str, invocation_id: str, folder: str) -> None:
        self._function = function
        self._invocation_id = invocation_id
        self._folder = folder
        parent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        self._trace = SimpleNamespace(trace_parent=parent, trace_state="", attributes={})

    @property
    def invocation_id(self) -> str:
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        return threading.local()

    @property
    def function_name(self) -> str:
        return self._function

    @property
    def function_directory(self) -> str:
        return self._folder

    @property
    def trace_context(self) -> Any:
        return self._trace

    @property
    def retry_context(self) -> Any:
        """None: Event Grid and queue triggers have no retry policy, and this host simulates none for timers."""
        return None
