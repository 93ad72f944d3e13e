"""From the app's declarations to functions and their listeners: names and connections resolved, mistakes recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from simulator.functions_host.queue_listener import QueueListener, Scale
from simulator.functions_host.settings import SettingError, is_disabled, resolve_names, service_address
from simulator.functions_host.state import FunctionState, HostState
from simulator.functions_host.storage import Storage
from simulator.functions_host.timer import Due, Schedule, TimerListener
from simulator.functions_host.triggers import Triggers
from simulator.functions_host.worker import Declaration

Listener = QueueListener | TimerListener

_HOST_STORAGE = "AzureWebJobsStorage"
_HOST_CONTAINER = "azure-webjobs-hosts"
_TRIGGERS = ("eventGridTrigger", "queueTrigger", "timerTrigger")


class UnsupportedBinding(Exception):
    """The app declares a binding that this host does not simulate."""


def refuse_other_bindings(declarations: Iterable[Declaration]) -> None:
    """Raises UnsupportedBinding."""
    for declaration in declarations:
        for binding in declaration.bindings:
            if binding not in _TRIGGERS:
                raise UnsupportedBinding(
                    f"function {declaration.name}: this host does not simulate {binding}, only {_TRIGGERS}"
                )


@dataclass(frozen=True)
class Indexer:
    """Builds the listeners of one host. `fault` receives a storage error that no rule covers."""

    state: HostState
    triggers: Triggers
    storage: Storage
    scale: Scale
    processors: int
    host_id: str
    fault: Callable[[BaseException], None]

    def index(self, declarations: Iterable[Declaration]) -> list[Listener]:
        """Records every function. A function whose setting is missing or wrong gets an error and no listener."""
        listeners: list[Listener] = []
        for declaration in declarations:
            function = FunctionState(
                declaration.name, declaration.binding, is_disabled(declaration.name, self.state.settings)
            )
            self.state.functions[declaration.name] = function
            if function.disabled:
                continue
            try:
                listener = self._listener(declaration)
            except SettingError as error:
                function.error = str(error)
            else:
                listeners += [listener] if listener else []
        return listeners

    def _listener(self, declaration: Declaration) -> Listener | None:
        """None for an Event Grid trigger: the webhook serves it."""
        if declaration.binding == "queueTrigger":
            return self._queue_listener(declaration)
        if declaration.binding == "timerTrigger":
            return self._timer_listener(declaration)
        return None

    def _queue_listener(self, declaration: Declaration) -> QueueListener:
        name = resolve_names(declaration.attributes["queueName"], self.state.settings).lower()
        connection = declaration.attributes.get("connection") or _HOST_STORAGE
        address = service_address(connection, "queue", self.state.settings)
        is_poison = name.endswith("-poison")

        async def invoke(message: Any) -> bool:
            return await self.triggers.message(declaration.name, message)

        return QueueListener(
            self.storage.queue(address, name),
            poison=None if is_poison else self.storage.queue(address, f"{name}-poison"),
            options=self.state.options.queues,
            scale=self.scale,
            processors=self.processors,
            invoke=invoke,
            fault=self.fault,
            warn=self.state.telemetry.warning,
        )

    def _timer_listener(self, declaration: Declaration) -> TimerListener:
        attributes = declaration.attributes
        schedule = Schedule.parse(resolve_names(attributes["schedule"], self.state.settings))
        address = service_address(_HOST_STORAGE, "blob", self.state.settings)

        async def run(due: Due) -> None:
            await self.triggers.timer(declaration.name, due)

        return TimerListener(
            declaration.name,
            schedule,
            blobs=self.storage.container(address, _HOST_CONTAINER),
            host_id=self.host_id,
            scale=self.scale,
            clock=self.state.clock,
            run=run,
            use_monitor=attributes.get("useMonitor") is not False,
            run_on_startup=attributes.get("runOnStartup") is True,
        )
