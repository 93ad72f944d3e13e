"""The Python worker: one process of the real host, simulated inside this one.

It imports function_app.py under a name of its own, so that two hosts, or a worker and its successor, share no global
of that file, and it calls the functions. It can die: `abandon` stops every coroutine of the app at its current line. No
further line of it runs, no `except` and no `finally`, as after a power cut.

Its limits, all because there is one process in truth: modules that function_app.py imports are shared; a function in a
thread (plain `def`) and a callback on the loop cannot be stopped half way; sockets of an abandoned worker stay open.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import importlib.util
import inspect
import itertools
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func

_SCRIPT = "function_app.py"
_numbers = itertools.count(1)
_current_worker: contextvars.ContextVar[Worker | None] = contextvars.ContextVar("current_worker", default=None)


class IndexingError(Exception):
    """The app has no functions: it cannot be imported, or its declarations contradict each other."""


class ImportExit(Exception):
    """The app ended the process while it was imported (SystemExit): the host does not serve at all."""


class WorkerGone(Exception):
    """The worker died while the function ran."""


class HostGone(Exception):
    """The host was killed, or stopped itself, while the call was under way."""


class WorkerExit(Exception):
    """The function ended the worker's process (SystemExit) with this code."""

    def __init__(self, code: object) -> None:
        super().__init__(f"the function ended the worker: SystemExit: {code}")
        self.code = code if isinstance(code, int) else 1


class FunctionFailed(Exception):
    """The function raised. The text is the exception's, `stack` its traceback."""

    def __init__(self, message: str, stack: str = "") -> None:
        super().__init__(message)
        self.stack = stack


@dataclass(frozen=True)
class Declaration:
    """One function as the app declares it."""

    name: str
    binding: str  # the trigger's type, such as queueTrigger
    argument: str
    attributes: dict[str, Any]  # of the trigger, unresolved
    bindings: tuple[str, ...]  # the types of all bindings, the trigger's included
    call: Callable[..., Any]
    takes_context: bool


class Worker:
    """One loaded copy of the app."""

    def __init__(self, app_folder: Path) -> None:
        self._app_folder = app_folder
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._threads: ThreadPoolExecutor | None = None
        self._module: ModuleType | None = None
        self.abandoned = False
        self.declarations: tuple[Declaration, ...] = ()

    def load(self) -> None:
        """Import the app and read its declarations."""
        inside = _current_worker.set(self)
        try:
            module = self._import()
            functions = _function_app(module).get_functions()  # once per app object: a second call raises
            self.declarations = tuple(_declaration(function) for function in functions)
        except SystemExit as error:
            raise ImportExit(f"the import of {_SCRIPT} ended the worker: SystemExit: {error}") from error
        except Exception as error:
            raise IndexingError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}") from error
        finally:
            _current_worker.reset(inside)

    def _import(self) -> ModuleType:
        name = f"function_app_{next(_numbers)}"
        spec = importlib.util.spec_from_file_location(name, self._app_folder / _SCRIPT)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(self._app_folder / _SCRIPT)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        self._module = module
        spec.loader.exec_module(module)
        return module

    async def call(self, declaration: Declaration, arguments: dict[str, Any], context: contextvars.Context) -> None:
        """Run the function to its end. Raises FunctionFailed, WorkerExit or WorkerGone."""
        if self.abandoned:
            raise WorkerGone("the worker is gone")
        context.run(_current_worker.set, self)
        loop = asyncio.get_running_loop()
        _gate_tasks_of(loop)
        task = loop.create_task(self._guarded(declaration, arguments), context=context)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.cancelled():
            raise WorkerGone("the worker is gone") if self.abandoned else FunctionFailed("CancelledError")
        outcome = task.result()
        if outcome is not None:
            raise outcome

    async def _guarded(self, declaration: Declaration, arguments: dict[str, Any]) -> Exception | None:
        # The failure is returned: asyncio would log an exception that leaves a task of an abandoned worker.
        try:
            result = await self._result(declaration, arguments)
        except Exception as error:  # noqa: BLE001  (whatever the app raises is the invocation's failure)
            return FunctionFailed(f"{type(error).__name__}: {error}", traceback.format_exc())
        except SystemExit as error:
            return WorkerExit(error.code)
        if result is not None:
            return FunctionFailed(f"function {declaration.name} without a $return binding returned a non-None value")
        return None

    async def _result(self, declaration: Declaration, arguments: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(declaration.call):
            return await declaration.call(**arguments)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), "function")
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: context.run(declaration.call, **arguments))

    def abandon(self) -> None:
        """Die at once. If the caller is the app itself, it runs until its next await."""
        self.abandoned = True
        for task in list(self._tasks):
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End in good order, when nothing runs."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        if self._module is not None:
            sys.modules.pop(self._module.__name__, None)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)


def _function_app(module: ModuleType) -> Any:
    apps = [
        value for value in vars(module).values() if isinstance(value, func.decorators.function_app.FunctionRegister)
    ]
    if len(apps) != 1:
        raise ValueError(f"{_SCRIPT} must have exactly one FunctionApp at its top level, not {len(apps)}")
    return apps[0]


def _declaration(function: Any) -> Declaration:
    trigger = function.get_trigger()
    name = function.get_function_name()
    if trigger is None:
        raise ValueError(f"function {name} has no trigger")
    call = function.get_user_function()
    parameters = set(inspect.signature(call).parameters)
    bindings = {binding.name for binding in function.get_bindings()}
    if parameters - {"context"} != bindings - {"context", "$return"}:
        raise ValueError(f"function {name} takes {sorted(parameters)}, its bindings are {sorted(bindings)}")
    return Declaration(
        name=name,
        binding=trigger.get_binding_name(),
        argument=trigger.name,
        attributes=trigger.get_dict_repr(),
        bindings=tuple(binding.get_binding_name() for binding in function.get_bindings()),
        call=call,
        takes_context="context" in parameters - bindings,
    )


class _Gate(Coroutine[Any, Any, Any]):
    """A coroutine of the app behind a gate that its worker closes.

    With the gate closed the task ends as cancelled, while the coroutine stays suspended indefinitely: it is neither
    resumed nor closed, since either would run more of the app.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any], worker: Worker) -> None:
        self._inner = inner
        self._worker = worker

    def send(self, value: Any) -> Any:
        self._check()
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        self._check()
        return self._inner.throw(*error)

    def close(self) -> None:
        if not self._worker.abandoned:
            self._inner.close()

    def _check(self) -> None:
        if self._worker.abandoned:
            # Freeing a suspended coroutine closes it, which runs its `finally`: so this reference is never released.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._inner))
            raise asyncio.CancelledError("the worker is gone")

    def __await__(self) -> Generator[Any, None, Any]:
        return self._inner.__await__()


def _gate_tasks_of(loop: asyncio.AbstractEventLoop) -> None:
    """Makes every task that the app starts on this loop, however deep, one that its worker can abandon."""
    previous = loop.get_task_factory()
    if getattr(previous, "gates_workers", False):
        return

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        context = options.get("context") or contextvars.copy_context()
        worker = context.get(_current_worker)
        if worker is not None and asyncio.iscoroutine(coroutine):
            coroutine = _Gate(coroutine, worker)
        make: Any = previous or (lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
        task = make(loop, coroutine, **options)
        if worker is not None:
            worker.adopt(task)
        return task

    factory.gates_workers = True  # type: ignore[attr-defined]
    loop.set_task_factory(factory)


def running_in_an_app() -> bool:
    """Whether the caller is code of some app."""
    return _current_worker.get() is not None
