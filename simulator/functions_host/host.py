"""The life of a small Azure Functions host: start, stop, sudden death.

| file | part |
| --- | --- |
| host.py | FunctionsHost: the life of the host, and what tests do with it |
| state.py | what can be seen of a host: functions, invocations, logs |
| settings.py, environment.py | host.json, app settings, the process environment |
| supervisor.py, worker.py | the Python worker: the app's code, loaded, restarted, abandoned |
| indexer.py | declarations to listeners |
| queue_listener.py, timer.py, webhook.py | the three triggers: queue, timer, Event Grid |
| triggers.py, decoding.py, context.py | what a trigger passes to a function |
| invoker.py | one invocation |
| storage.py, telemetry.py | the host's own storage; what Application Insights gets |
| process.py | a host as a process of its own, which a signal can kill |

It stands in for the product and is held to a recording of it (tests/recordings/functions-host.json), case by case. Of
the app it reads `function_app.py` and `host.json` only.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from simulator.functions_host import telemetry
from simulator.functions_host.environment import AppSettings, environment
from simulator.functions_host.indexer import Indexer, Listener, refuse_other_bindings
from simulator.functions_host.invoker import Hook, Hooks, Invoker, inside_invocation
from simulator.functions_host.queue_listener import QueueListener, Scale
from simulator.functions_host.settings import HostJsonError, read_host_json
from simulator.functions_host.state import HostState, Invocation, StateName
from simulator.functions_host.storage import Storage
from simulator.functions_host.supervisor import WorkerSupervisor
from simulator.functions_host.telemetry import FLUSH_SECONDS, ExceptionItem, HostCategory, Telemetry
from simulator.functions_host.triggers import Triggers
from simulator.functions_host.webhook import PATH, WebServer, application
from simulator.functions_host.worker import Declaration, HostGone, ImportExit, IndexingError, running_in_an_app
from simulator.tls import Tls

# Far beyond what a busy machine needs: it ends a wait for something that never comes.
MAX_WAIT_SECONDS = 120.0

_SHUTTING_DOWN = "An unhandled exception has occurred. Host is shutting down."
_INGESTION_SETTINGS = ("APPLICATIONINSIGHTS_CONNECTION_STRING", "APPLICATIONINSIGHTS_AUTHENTICATION_STRING")


class FunctionsHost(HostState):
    """One instance of the function app. `async with` starts it; leaving the block lets running functions finish.

    `settings` are the app settings: the declarations are resolved from them, and they are in the environment while the
    host lives. `time_scale` shortens the host's own long times (message visibility, `visibilityTimeout`, polling,
    leases), never a schedule and never the app's times. `timeout_scale` shortens `functionTimeout`; by default it is
    the same. `clock` is what timers go by. `ingestion` is where telemetry goes; without one, all of it is kept here.
    `before_invocation` and `after_invocation` are for faults (invoker.Hooks).
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
        self._scale = Scale(time_scale)
        super().__init__(AppSettings(settings), clock, Telemetry(self._scale.seconds(FLUSH_SECONDS)))
        self._app_folder = app_folder.resolve()
        self._tls = tls
        self._ingestion = ingestion
        self._processors = processors or os.cpu_count() or 1
        self._host_id = host_id or _host_id(self.settings, self._app_folder)

        self.listeners: list[Listener] = []
        self._supervisor = WorkerSupervisor(self._app_folder, lambda reason: self._die("Stopped", reason))
        invoker = Invoker(
            self,
            self._supervisor,
            app_folder=self._app_folder,
            timeout_scale=time_scale if timeout_scale is None else timeout_scale,
            hooks=Hooks(before_invocation, after_invocation),
        )
        self._triggers = Triggers(self, invoker)
        self._storage: Storage | None = None
        self._server: WebServer | None = None
        self._port = 0  # any that is free
        self._tasks: set[asyncio.Task[Any]] = set()
        self._undo: list[Callable[[], None]] = []
        self._closing: asyncio.Task[None] | None = None

    def take_the_place_of(self, other: FunctionsHost) -> None:
        """Before its start: address and keys belong to the site, whichever host runs."""
        self._port, self.system_key, self.master_key = other._port, other.system_key, other.master_key

    # --- what tests do with it ---

    @property
    def event_url(self) -> str:
        """The webhook's address without functionName and code."""
        return f"{self.url}{PATH}"

    async def run_timer(self, name: str) -> Invocation:
        """Runs a timer function now, and waits for its end. Raises LookupError if it does not run here."""
        return await self._triggers.timer_by_hand(name)

    async def until(self, condition: Callable[[], bool], seconds: float = MAX_WAIT_SECONDS) -> None:
        """Wait until the condition holds. Raises TimeoutError; the limit is for a condition that never holds."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  (any condition of the world: nothing signals it)
                await asyncio.sleep(0.01)

    # --- start ---

    async def __aenter__(self) -> FunctionsHost:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load the app and listen. Mistakes of the app or its settings do not raise: see `state`, `error`, `functions`.

        Raises UnsupportedBinding.
        """
        self._undo.append(environment.push(self.settings))
        self._undo.append(_on_path(self._app_folder))
        telemetry.log_capture.start()
        self._undo.append(telemetry.log_capture.stop)
        if self._ingestion is not None:
            given = (self.settings.get(name, "") for name in _INGESTION_SETTINGS)
            self.telemetry.refused = self._ingestion.refusal(*given)
        try:
            await self._load_and_listen()
        except BaseException:
            await self._close("Stopped")
            raise

    async def _load_and_listen(self) -> None:
        declarations: tuple[Declaration, ...] = ()
        try:
            self.options = read_host_json(self._app_folder / "host.json", self.settings)
        except HostJsonError as error:
            self.state, self.error = "Error", str(error)
        else:
            self.telemetry.filter = telemetry.LogFilter(self.options.log_levels)
            try:
                declarations = self._load()
            except ImportExit:
                await self._close("Stopped")
                return
            self.state = "Running"
        await self._serve()
        if declarations:
            self._listen(declarations)

    def _load(self) -> tuple[Declaration, ...]:
        """The app's declarations; none if it cannot be imported. Raises ImportExit: then the host does not serve."""
        try:
            declarations = self._supervisor.load().declarations
        except IndexingError as error:
            self.error = str(error)
            self.telemetry.exception(ExceptionItem(str(error), str(error), "Worker.LanguageWorkerChannel.python", ""))
            return ()
        except ImportExit as error:
            self.error = str(error)
            self.telemetry.exception(ExceptionItem(str(error), "", "Host.Function.Console", ""))
            raise
        refuse_other_bindings(declarations)
        return declarations

    async def _serve(self) -> None:
        app = application(
            self,
            self.options.http,
            invoke_event=self._triggers.event,
            start_timer=lambda name: self._spawn(self._triggers.timer_by_hand(name)),
        )
        self._server = WebServer(app, self._tls, self._port)
        self.url = await self._server.start()
        self._port = urlsplit(self.url).port or 0

    def _listen(self, declarations: tuple[Declaration, ...]) -> None:
        self._storage = Storage(self.settings)
        indexer = Indexer(
            state=self,
            triggers=self._triggers,
            storage=self._storage,
            scale=self._scale,
            processors=self._processors,
            host_id=self._host_id,
            fault=self._fault,
        )
        self.listeners = indexer.index(declarations)
        for listener in self.listeners:
            self._spawn(listener.run())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fault(error)

    # --- end ---

    async def stop(self) -> None:
        """SIGTERM: start nothing new, let what runs end, then go. After a death it waits until everything is closed."""
        if self.gone:
            if self._closing is not None:
                await self._closing
            return
        for listener in self.listeners:
            listener.stop()
        if self._server is not None:
            await self._server.stop_listening()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        # Events under way are answered before the state says that the host is gone, which would fail them.
        await self._close_server()
        await self._close("Stopped")

    async def kill(self) -> None:
        """A power cut: nothing is finished, released or answered, and no further line of the app runs.

        Called from the app's own code it does not return; called from a hook, the invocation ends there.
        """
        self._die("Killed", None)
        if running_in_an_app():
            await asyncio.Event().wait()
        if not inside_invocation() and self._closing is not None:
            await self._closing

    def _fault(self, error: BaseException) -> None:
        """A listener cannot go on: the product then stops the whole host."""
        if not isinstance(error, HostGone) and not self.gone:
            self.telemetry.exception(ExceptionItem(_SHUTTING_DOWN, str(error), HostCategory.UNHANDLED, ""))
            self._die("Stopped", f"{type(error).__name__}: {error}")

    def _die(self, state: StateName, reason: str | None) -> None:
        """End at once. The caller may be inside one of the tasks that end, so nothing is awaited."""
        if self.gone:
            return
        self.state, self.error = state, reason or self.error
        if state == "Killed":
            self.telemetry.lose_what_was_not_sent()
        self._supervisor.abandon()
        mine = asyncio.current_task()
        for listener in self.listeners:
            if isinstance(listener, QueueListener):
                listener.abandon()
        for task in self._tasks - {mine}:
            task.cancel()
        if self._server is not None:
            self._server.cut_connections()
        self._closing = asyncio.create_task(self._close(state), context=contextvars.Context())

    async def _close(self, state: StateName) -> None:
        self.state = state
        await self._close_server()
        storage, self._storage = self._storage, None
        if storage is not None:
            await storage.close()
        self._supervisor.close()
        while self._undo:
            self._undo.pop()()

    async def _close_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()


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
