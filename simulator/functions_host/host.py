"""A small Azure Functions host: it reads the app's own declarations and drives them from real storage and real HTTP.

It stands in for the product and is held to a recording of it (tests/recordings/functions-host.json), case by case.
It knows three triggers: Event Grid, queue and timer; any other binding is refused by name. It never reads anything of
the app but `function_app.py` and `host.json`, and nothing of the simulator reads it.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import hashlib
import inspect
import os
import secrets
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from simulator.functions_host import decoding, telemetry, webhook
from simulator.functions_host.context import InvocationContext
from simulator.functions_host.environment import AppSettings, environment
from simulator.functions_host.queue_listener import QueueListener, Scale
from simulator.functions_host.settings import (
    HostJsonError,
    HostOptions,
    SettingError,
    is_disabled,
    read_host_json,
    resolve_names,
    service_address,
)
from simulator.functions_host.storage import Storage
from simulator.functions_host.timer import Due, Schedule, TimerListener
from simulator.functions_host.worker import (
    Declaration,
    FunctionFailed,
    HostGone,
    ImportExit,
    IndexingError,
    Worker,
    WorkerExit,
    WorkerGone,
    running_in_an_app,
)
from simulator.tls import Tls

State = Literal["Starting", "Running", "Error", "Stopped", "Killed"]
Hook = Callable[["Invocation"], Awaitable[None] | None]

_HOST_STORAGE = "AzureWebJobsStorage"
_HOST_CONTAINER = "azure-webjobs-hosts"
_TRIGGERS = ("eventGridTrigger", "queueTrigger", "timerTrigger")
_WORKER_EXITS = 3  # at the third the host stops itself
_inside_invocation: contextvars.ContextVar[bool] = contextvars.ContextVar("inside_invocation", default=False)


class UnsupportedBinding(Exception):
    """The app declares a binding that this host does not play."""


@dataclass
class Invocation:
    """One run of a function, as the host saw it."""

    function: str
    id: str
    started: dt.datetime
    reason: str
    ran: bool = False  # whether the function's own code was reached
    ended: dt.datetime | None = None  # None: still running, or abandoned
    ok: bool | None = None
    error: str | None = None


@dataclass
class FunctionState:
    """One declared function and whether it is listened for."""

    name: str
    binding: str
    disabled: bool = False
    error: str | None = None  # "failed indexing and will be disabled"

    @property
    def listening(self) -> bool:
        return not self.disabled and self.error is None


class FunctionsHost:
    """One instance of the function app; `async with` starts it, and at the end lets running functions finish.

    `settings` are the app settings: they are what the declarations are resolved from, and stand in the environment
    while the host lives. `time_scale` shortens the host's own long times (message visibility, `visibilityTimeout`,
    polling, leases), never a schedule and never the app's times; `timeout_scale` shortens `functionTimeout`, by default
    alike. `clock` is what timers go by. `ingestion` is where telemetry goes; without one all of it is kept here.
    `before_invocation` and `after_invocation` are for faults: an exception of the first fails the invocation, the
    second is called before the trigger is told how the invocation ended.
    """

    def __init__(
        self,
        app_folder: Path,
        settings: Mapping[str, str],
        *,
        tls: Tls | None = None,
        time_scale: float = 1.0,
        timeout_scale: float | None = None,
        ingestion: telemetry.Ingestion | None = None,
        processors: int | None = None,
        host_id: str | None = None,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        before_invocation: Hook | None = None,
        after_invocation: Hook | None = None,
    ) -> None:
        self._app_folder = app_folder.resolve()
        self.settings = AppSettings(settings)
        self._tls = tls
        self._scale = Scale(time_scale)
        self._timeout_scale = time_scale if timeout_scale is None else timeout_scale
        self._ingestion = ingestion
        self._processors = processors or os.cpu_count() or 1
        self._host_id = host_id or _host_id(self.settings, self._app_folder)
        self._clock = clock
        self._hooks = (before_invocation, after_invocation)

        self.state: State = "Starting"
        self.error: str | None = None  # why the state is Error or Stopped, or why there are no functions
        self.functions: dict[str, FunctionState] = {}
        self.invocations: list[Invocation] = []
        self.traces: list[telemetry.Trace] = []
        self.exceptions: list[telemetry.ExceptionItem] = []
        self.telemetry_refused = ""  # why Application Insights keeps nothing of this host
        self.running: dict[str, Invocation] = {}
        self.running_at_once_peak = 0
        self.worker_exits = 0
        self.system_key = secrets.token_urlsafe(24)
        self.master_key = secrets.token_urlsafe(24)
        self.url = ""

        self._options = HostOptions()
        self._filter = telemetry.LogFilter({})
        self._worker: Worker | None = None
        self._declarations: dict[str, Declaration] = {}
        self._storage: Storage | None = None
        self.listeners: list[QueueListener | TimerListener] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None
        self._undo: list[Callable[[], None]] = []
        self._closing: asyncio.Task[None] | None = None

    # The life of the host

    async def __aenter__(self) -> FunctionsHost:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load the app and listen. Mistakes of the app or its settings do not raise: `state`, `error`, `functions`."""
        self._undo.append(environment.push(self.settings))
        self._undo.append(_on_path(self._app_folder))
        telemetry.log_capture.start()
        self._undo.append(telemetry.log_capture.stop)
        if self._ingestion is not None:
            given = (f"APPLICATIONINSIGHTS_{each}_STRING" for each in ("CONNECTION", "AUTHENTICATION"))
            self.telemetry_refused = self._ingestion.refusal(*(self.settings.get(name, "") for name in given))
        try:
            await self._load_and_listen()
        except BaseException:
            await self._close("Stopped")
            raise

    async def _load_and_listen(self) -> None:
        try:
            self._options = read_host_json(self._app_folder / "host.json", self.settings)
        except HostJsonError as error:
            self.state, self.error = "Error", str(error)
        else:
            self._filter = telemetry.LogFilter(self._options.log_levels)
            if not self._load():
                await self._close("Stopped")
                return
            self.state = "Running"
        await self._serve()
        self._listen()

    async def stop(self) -> None:
        """SIGTERM: take nothing new, let what runs end, then go. After a death it waits until all is let go."""
        if self._gone:
            if self._closing is not None:
                await self._closing
            return
        for listener in self.listeners:
            listener.stop()
        for site in list(self._runner.sites) if self._runner is not None else []:
            await site.stop()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        # Events under way are answered before the state says that the host is gone, which would fail them.
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        await self._close("Stopped")

    async def kill(self) -> None:
        """A power cut: nothing is finished, released or answered, and no further line of the app runs.

        Called from the app's own code it does not return; called from a hook, the invocation ends there.
        """
        self._die("Killed", None)
        if running_in_an_app():
            await asyncio.Event().wait()
        if not _inside_invocation.get() and self._closing is not None:
            await self._closing

    def crash_worker(self, reason: str = "the worker exited") -> None:
        """The Python process dies: every running invocation fails; the host starts another, twice."""
        self.worker_exits += 1
        if self.worker_exits >= _WORKER_EXITS:
            self._die("Stopped", f"Exceeded language worker restart retry count: {reason}")
        else:
            self._restart_worker()

    # What tests ask and do

    @property
    def event_url(self) -> str:
        """The webhook's address without functionName and code."""
        return f"{self.url}{webhook.PATH}"

    async def run_timer(self, name: str) -> Invocation:
        """POST /admin/functions/<name>, and wait for the end of the run."""
        if not self.timer_function(name):
            raise LookupError(f"no timer function {name} is running here; functions: {sorted(self.functions)}")
        return await self._invoke(
            name, self._timer_input(Due(False, None)), "This function was programmatically called"
        )

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until the condition holds; TimeoutError if it does not in time."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  (any condition of the world, nobody signals it)
                await asyncio.sleep(0.01)

    # webhook.Target

    @property
    def serving(self) -> bool:
        return self.state == "Running"

    def event_function(self, name: str) -> bool:
        return self._listens(name, "eventGridTrigger")

    def timer_function(self, name: str) -> bool:
        return self._listens(name, "timerTrigger")

    def _listens(self, name: str, binding: str) -> bool:
        function = self.functions.get(name)
        return self.serving and function is not None and function.binding == binding and function.listening

    async def invoke_event(self, name: str, event: dict[str, Any]) -> bool:
        reason = f"EventGrid trigger fired at {self._clock().isoformat()}"
        return (await self._invoke(name, lambda: decoding.event_input(event), reason)).ok is True

    def start_timer(self, name: str) -> None:
        self._spawn(self.run_timer(name))

    # Loading and listening

    def _load(self) -> bool:
        """Index the app. False: the worker ended itself and the host does not serve."""
        worker = Worker(self._app_folder)
        try:
            worker.load()
        except IndexingError as error:
            self.error = str(error)
            self._except(telemetry.ExceptionItem(str(error), str(error), "Worker.LanguageWorkerChannel.python", ""))
            return True
        except ImportExit as error:
            self.error = str(error)
            self._except(telemetry.ExceptionItem(str(error), "", "Host.Function.Console", ""))
            return False
        for declaration in worker.declarations:
            _refuse_other_bindings(declaration)
        self._worker = worker
        self._declarations = {declaration.name: declaration for declaration in worker.declarations}
        return True

    def _listen(self) -> None:
        if not self._declarations:
            return
        self._storage = Storage(self.settings)
        for name, declaration in self._declarations.items():
            state = FunctionState(name, declaration.binding, is_disabled(name, self.settings))
            self.functions[name] = state
            if not state.disabled:
                try:
                    self._listen_for(declaration, self._storage)
                except SettingError as error:
                    state.error = str(error)

    def _listen_for(self, declaration: Declaration, storage: Storage) -> None:
        listener: QueueListener | TimerListener
        if declaration.binding == "queueTrigger":
            listener = self._queue_listener(declaration, storage)
        elif declaration.binding == "timerTrigger":
            listener = self._timer_listener(declaration, storage)
        else:
            return
        self.listeners.append(listener)
        self._spawn(listener.run())

    def _queue_listener(self, declaration: Declaration, storage: Storage) -> QueueListener:
        name = resolve_names(declaration.attributes["queueName"], self.settings).lower()
        connection = declaration.attributes.get("connection") or _HOST_STORAGE
        address = service_address(connection, "queue", self.settings)
        is_poison = name.endswith("-poison")

        async def invoke(message: Any) -> bool:
            return await self._invoke_message(declaration.name, message)

        return QueueListener(
            storage.queue(address, name),
            None if is_poison else storage.queue(address, f"{name}-poison"),
            self._options.queues,
            self._scale,
            self._processors,
            invoke,
            self._fault,
        )

    def _timer_listener(self, declaration: Declaration, storage: Storage) -> TimerListener:
        attributes = declaration.attributes
        schedule = Schedule.parse(resolve_names(attributes["schedule"], self.settings))
        address = service_address(_HOST_STORAGE, "blob", self.settings)

        async def run(due: Due) -> None:
            await self._invoke(declaration.name, self._timer_input(due), f"Timer fired at {self._clock().isoformat()}")

        return TimerListener(
            declaration.name,
            schedule,
            storage.container(address, _HOST_CONTAINER),
            self._host_id,
            self._scale,
            self._clock,
            run,
            use_monitor=attributes.get("useMonitor") is not False,
            run_on_startup=attributes.get("runOnStartup") is True,
        )

    def _timer_input(self, due: Due) -> Callable[[], decoding.TriggerInput]:
        status = due.status.as_json() if due.status is not None else None
        return lambda: decoding.timer_input(status, past_due=due.past_due, now=self._clock())

    async def _serve(self) -> None:
        runner = web.AppRunner(webhook.application(self, self._options.http), access_log=None, shutdown_timeout=3600)
        self._runner = runner
        await runner.setup()
        context = self._tls.server_context() if self._tls else None
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context, backlog=1024)
        await site.start()
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"

    # Invoking

    async def _invoke_message(self, name: str, message: Any) -> bool:
        def trigger() -> decoding.TriggerInput:
            text = decoding.message_text(message.content, is_base64=self._options.queues.base64)
            return decoding.queue_input(text, message)

        return (await self._invoke(name, trigger, f"New queue message detected on '{name}'.")).ok is True

    async def _invoke(self, name: str, trigger: Callable[[], decoding.TriggerInput], reason: str) -> Invocation:
        """One invocation from decoding to its record. Fails by its record; raises HostGone only."""
        invocation = Invocation(name, str(uuid.uuid4()), self._clock(), reason)
        inside = _inside_invocation.set(True)
        try:
            return await self._invoke_recorded(invocation, trigger)
        finally:
            _inside_invocation.reset(inside)

    async def _invoke_recorded(
        self, invocation: Invocation, trigger: Callable[[], decoding.TriggerInput]
    ) -> Invocation:
        self.invocations.append(invocation)
        self.running[invocation.id] = invocation
        self.running_at_once_peak = max(self.running_at_once_peak, len(self.running))
        try:
            await self._run(invocation, trigger)
            invocation.ok = True
        except Exception as error:  # noqa: BLE001  (whatever fails an invocation becomes its record)
            self._failed(invocation, error)
        finally:
            self.running.pop(invocation.id, None)
        self._stand()
        invocation.ended = self._clock()
        await _call(self._hooks[1], invocation)
        self._stand()
        return invocation

    def _stand(self) -> None:
        if self._gone:
            raise HostGone(f"the host is {self.state}")

    @property
    def _gone(self) -> bool:
        return self.state in ("Stopped", "Killed")

    async def _run(self, invocation: Invocation, trigger: Callable[[], decoding.TriggerInput]) -> None:
        await _call(self._hooks[0], invocation)
        worker = self._worker
        self._stand()
        assert worker is not None
        declaration = next(known for known in worker.declarations if known.name == invocation.function)
        arguments = {declaration.argument: trigger().decode(declaration.binding)}
        if declaration.takes_context:
            arguments["context"] = InvocationContext(invocation.function, invocation.id, str(self._app_folder))
        context = contextvars.copy_context()
        context.run(telemetry.current_invocation.set, _Log(self, invocation))
        invocation.ran = True
        await self._within_time(worker, worker.call(declaration, arguments, context))

    async def _within_time(self, worker: Worker, call: Awaitable[None]) -> None:
        limit = self._options.function_timeout_seconds
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
        if worker is self._worker:
            self._restart_worker()
        await asyncio.wait({running})
        running.exception()
        raise TimeoutError(f"Timeout value of {limit} s exceeded by function: Functions.*")

    def _failed(self, invocation: Invocation, error: Exception) -> None:
        if self._gone:
            return
        if isinstance(error, WorkerExit):
            self.crash_worker(str(error))
        invocation.ok = False
        invocation.error = (
            str(error)
            if isinstance(error, FunctionFailed | WorkerGone | WorkerExit)
            else f"{type(error).__name__}: {error}"
        )
        stack = error.stack if isinstance(error, FunctionFailed) else ""
        for category in (f"Function.{invocation.function}", "Host.Results"):
            if self._filter.keeps(category, "Error"):
                self._except(telemetry.ExceptionItem(invocation.error, stack, category, invocation.id))
        self._trace(
            "Error",
            f"Executed 'Functions.{invocation.function}' (Failed, Id={invocation.id})",
            f"Function.{invocation.function}",
            invocation.id,
        )

    def _trace(self, level: str, message: str, category: str, invocation_id: str) -> None:
        if self._filter.keeps(category, level) and not self.telemetry_refused:
            text = message[: telemetry.MESSAGE_CHARACTERS]
            self.traces.append(telemetry.Trace(text, level, category, invocation_id))

    def _except(self, item: telemetry.ExceptionItem) -> None:
        if not self.telemetry_refused:
            self.exceptions.append(item)

    # Dying

    def _restart_worker(self) -> None:
        if self._worker is not None:
            self._worker.abandon()
        worker = Worker(self._app_folder)
        try:
            worker.load()
        except (IndexingError, ImportExit) as error:
            self._die("Stopped", f"the worker could not be started again: {error}")
        else:
            self._worker = worker

    def _fault(self, error: BaseException) -> None:
        """A listener cannot go on: the product then stops the whole host."""
        if not isinstance(error, HostGone):
            self._die("Stopped", f"{type(error).__name__}: {error}")

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fault(error)

    def _die(self, state: State, reason: str | None) -> None:
        """End at once. Whoever calls may stand inside one of the tasks that end, so nothing is awaited."""
        if self._gone:
            return
        self.state, self.error = state, reason or self.error
        if self._worker is not None:
            self._worker.abandon()
        mine = asyncio.current_task()
        for listener in self.listeners:
            if isinstance(listener, QueueListener):
                listener.abandon()
        for task in self._tasks - {mine}:
            task.cancel()
        self._cut_connections()
        self._closing = asyncio.create_task(self._close(state), context=contextvars.Context())

    def _cut_connections(self) -> None:
        server = self._runner.server if self._runner is not None else None
        for connection in list(server.connections) if server is not None else []:
            connection.force_close()
            if connection.transport is not None:
                connection.transport.abort()

    async def _close(self, state: State) -> None:
        self.state = state
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        storage, self._storage = self._storage, None
        if storage is not None:
            await storage.close()
        if self._worker is not None and not self._worker.abandoned:
            self._worker.close()
        while self._undo:
            self._undo.pop()()


class _Log:
    """The invocation a log line is written in (telemetry.LogTarget)."""

    def __init__(self, host: FunctionsHost, invocation: Invocation) -> None:
        self._host = host
        self._invocation = invocation

    def log(self, level: str, message: str) -> None:
        self._host._trace(level, message, f"Function.{self._invocation.function}.User", self._invocation.id)


async def _call(hook: Hook | None, invocation: Invocation) -> None:
    if hook is not None:
        answer = hook(invocation)
        if inspect.isawaitable(answer):
            await answer


def _refuse_other_bindings(declaration: Declaration) -> None:
    for binding in declaration.bindings:
        if binding not in _TRIGGERS:
            raise UnsupportedBinding(
                f"function {declaration.name}: this host does not play {binding}, only {_TRIGGERS}"
            )


def _host_id(settings: Mapping[str, str], app_folder: Path) -> str:
    """Instances of one app share their id, and with it leases and schedule status."""
    given = settings.get("AzureFunctionsWebHost__hostid") or settings.get("WEBSITE_SITE_NAME")
    return given.lower()[:32] if given else hashlib.sha256(str(app_folder).encode()).hexdigest()[:32]


def _on_path(folder: Path) -> Callable[[], None]:
    """Put the app's folder on sys.path, as the worker does; gives what undoes it."""
    entry = str(folder)
    if entry in sys.path:
        return lambda: None
    sys.path.insert(0, entry)
    return lambda: sys.path.remove(entry) if entry in sys.path else None
