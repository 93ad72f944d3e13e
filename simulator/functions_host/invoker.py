"""One invocation, from a trigger's input to its record: decode, run within the time limit, log a failure."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from simulator.functions_host import telemetry
from simulator.functions_host.context import InvocationContext
from simulator.functions_host.decoding import NotUtf8, TriggerInput
from simulator.functions_host.state import HostState, Invocation
from simulator.functions_host.supervisor import WorkerSupervisor
from simulator.functions_host.telemetry import ExceptionItem, HostCategory, Telemetry
from simulator.functions_host.worker import FunctionFailed, Worker, WorkerExit, WorkerGone

Hook = Callable[[Invocation], Awaitable[None] | None]
Trigger = Callable[[], TriggerInput]

_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside_invocation", default=False)


def inside_invocation() -> bool:
    """Whether the caller runs inside an invocation: in the app's code or in a hook."""
    return _inside.get()


@dataclass(frozen=True)
class Hooks:
    """For faults. An exception of `before` fails the invocation; `after` runs before the trigger learns the outcome."""

    before: Hook | None = None
    after: Hook | None = None


class Invoker:
    """Runs the functions of one host. `timeout_scale` shortens functionTimeout."""

    def __init__(
        self, state: HostState, supervisor: WorkerSupervisor, *, app_folder: Path, timeout_scale: float, hooks: Hooks
    ) -> None:
        self._state = state
        self._supervisor = supervisor
        self._app_folder = app_folder
        self._timeout_scale = timeout_scale
        self._hooks = hooks

    async def invoke(self, name: str, trigger: Trigger, reason: str, *, details: str = "") -> Invocation:
        """One invocation. It fails by its record; the only exception it raises is HostGone.

        `details` is a line that the host writes about the trigger.
        """
        invocation = Invocation(name, str(uuid.uuid4()), self._state.clock(), reason)
        token = _inside.set(True)
        try:
            self._log_start(invocation, details)
            return await self._invoke(invocation, trigger)
        finally:
            _inside.reset(token)

    def _log_start(self, invocation: Invocation, details: str) -> None:
        text = f"Executing 'Functions.{invocation.function}' (Reason='{invocation.reason}', Id={invocation.id})"
        for line in (text, details):
            if line:
                self._state.telemetry.trace(
                    "Information", line, category=f"Function.{invocation.function}", invocation_id=invocation.id
                )

    async def _invoke(self, invocation: Invocation, trigger: Trigger) -> Invocation:
        state = self._state
        state.invocations.append(invocation)
        state.running[invocation.id] = invocation
        state.running_at_once_peak = max(state.running_at_once_peak, len(state.running))
        try:
            await self._run(invocation, trigger)
            invocation.ok = True
            _log_end(state.telemetry, invocation, "Information")
        except Exception as error:  # noqa: BLE001  (whatever fails an invocation becomes its record)
            self._record_failure(invocation, error)
        finally:
            state.running.pop(invocation.id, None)
        state.require_alive()
        invocation.ended = state.clock()
        await _call(self._hooks.after, invocation)
        state.require_alive()
        return invocation

    async def _run(self, invocation: Invocation, trigger: Trigger) -> None:
        await _call(self._hooks.before, invocation)
        worker = self._supervisor.worker
        self._state.require_alive()
        assert worker is not None
        declaration = next(known for known in worker.declarations if known.name == invocation.function)
        arguments = {declaration.argument: trigger().decode(declaration.binding)}
        if declaration.takes_context:
            arguments["context"] = InvocationContext(invocation.function, invocation.id, str(self._app_folder))
        context = contextvars.copy_context()
        context.run(telemetry.current_invocation.set, _InvocationLog(self._state.telemetry, invocation))
        invocation.ran = True
        await self._within_time(worker, worker.call(declaration, arguments, context))

    async def _within_time(self, worker: Worker, call: Awaitable[None]) -> None:
        limit = self._state.options.function_timeout_seconds
        running = asyncio.ensure_future(call)
        try:
            done, _ = await asyncio.wait({running}, timeout=None if limit is None else limit * self._timeout_scale)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if done:
            running.result()
            return
        # The product cannot cancel one Python function: it restarts the process, and the neighbours die too.
        if worker is self._supervisor.worker:
            self._supervisor.restart()
        await asyncio.wait({running})
        running.exception()
        raise TimeoutError(f"Timeout value of {limit} s exceeded by function: Functions.*")

    def _record_failure(self, invocation: Invocation, error: Exception) -> None:
        if self._state.gone:
            return
        if isinstance(error, WorkerExit):
            text = f"python exited with code {error.code} ({error.code:#x})"
            self._state.telemetry.exception(ExceptionItem(text, "", HostCategory.CONSOLE, ""))
            self._supervisor.worker_exited(str(error))
        of_the_worker = isinstance(error, FunctionFailed | WorkerGone | WorkerExit)
        invocation.ok = False
        if isinstance(error, NotUtf8):
            invocation.error = f"Exception while executing function: Functions.{invocation.function}"
        else:
            invocation.error = str(error) if of_the_worker else f"{type(error).__name__}: {error}"
        stack = error.stack if isinstance(error, FunctionFailed) else ""
        _log_failure(self._state.telemetry, invocation, stack)


def _log_failure(log: Telemetry, invocation: Invocation, stack: str) -> None:
    category = f"Function.{invocation.function}"
    for each in (category, "Host.Results"):
        log.failure(ExceptionItem(invocation.error or "", stack, each, invocation.id))
    _log_end(log, invocation, "Error")


def _log_end(log: Telemetry, invocation: Invocation, level: str) -> None:
    outcome = "Succeeded" if invocation.ok else "Failed"
    milliseconds = round((time.monotonic() - invocation.started_seconds) * 1000)
    text = f"Executed 'Functions.{invocation.function}' ({outcome}, Id={invocation.id}, Duration={milliseconds}ms)"
    log.trace(level, text, category=f"Function.{invocation.function}", invocation_id=invocation.id)


class _InvocationLog:
    """The invocation in which a log line is written (telemetry.LogTarget)."""

    def __init__(self, log: Telemetry, invocation: Invocation) -> None:
        self._log = log
        self._invocation = invocation

    def log(self, level: str, message: str) -> None:
        self._log.trace(
            level, message, category=f"Function.{self._invocation.function}.User", invocation_id=self._invocation.id
        )


async def _call(hook: Hook | None, invocation: Invocation) -> None:
    if hook is not None:
        answer = hook(invocation)
        if inspect.isawaitable(answer):
            await answer
