"""Every trigger on one page: binding → step. The only importer of azure.functions; the only reader of clock and
environment.

A trigger parses its input and passes it to a step; steps/failures.py turns an error into one line. Nothing here may
fail the import: an app whose import fails looks healthy and has no functions.

Each trigger imports what it needs when it runs. On Flex Consumption an instance runs the functions of one group alone,
and the host waits for this module before any of them.
"""

import os
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import azure.functions as func

if TYPE_CHECKING:
    from functions.cloud.event_grid import MachineEvent
    from functions.cloud.queue import Message
    from functions.services import Services

app = func.FunctionApp()

STORAGE = "AzureWebJobsStorage"


@app.event_grid_trigger(arg_name="event")
async def on_machine_written(event: func.EventGridEvent) -> None:  # or func.CloudEvent: see _type_of()
    async with _step("on_machine_written") as services:
        from functions.steps import assess

        if about := _about(event):
            await assess.on_event(services, about)


@app.queue_trigger(arg_name="message", queue_name="machine-events", connection=STORAGE)
async def on_machine_message(message: func.QueueMessage) -> None:
    async with _step("on_machine_message", of_a_message=True) as services:
        from functions.cloud.event_grid import event_in_message
        from functions.steps import assess

        if about := event_in_message(message.get_body()):
            await assess.on_event(services, about)


@app.timer_trigger(arg_name="timer", schedule="%RECONCILE_SCHEDULE%", run_on_startup=False)
async def on_reconcile(timer: func.TimerRequest) -> None:
    from functions.steps import reconcile, sweep

    async with _step("on_reconcile", waits_its_turn=False, failures=(sweep.SweepFailed,)) as services:
        await reconcile.run(services)


@app.queue_trigger(arg_name="message", queue_name="assess-requests", connection=STORAGE)
async def on_assess_request(message: func.QueueMessage) -> None:
    async with _step("on_assess_request", of_a_message=True) as services:
        from functions.steps import assess

        await assess.on_message(services, _read(message))


@app.queue_trigger(arg_name="message", queue_name="install-requests", connection=STORAGE)
async def on_install_request(message: func.QueueMessage) -> None:
    async with _step("on_install_request", of_a_message=True) as services:
        from functions.steps import install

        await install.on_message(services, _read(message))


@app.queue_trigger(arg_name="message", queue_name="assess-requests-poison", connection=STORAGE)
async def on_assess_poisoned(message: func.QueueMessage) -> None:
    async with _step("on_assess_poisoned", of_a_message=True) as services:
        from functions.model.state import OperationKind
        from functions.steps import poison

        await poison.on_message(services, _read(message), OperationKind.ASSESS)


@app.queue_trigger(arg_name="message", queue_name="install-requests-poison", connection=STORAGE)
async def on_install_poisoned(message: func.QueueMessage) -> None:
    async with _step("on_install_poisoned", of_a_message=True) as services:
        from functions.model.state import OperationKind
        from functions.steps import poison

        await poison.on_message(services, _read(message), OperationKind.INSTALL)


@app.queue_trigger(arg_name="message", queue_name="machine-events-poison", connection=STORAGE)
async def on_machine_poisoned(message: func.QueueMessage) -> None:
    async with _step("on_machine_poisoned", of_a_message=True):
        from functions.cloud.event_grid import event_in_message
        from functions.steps import poison

        if about := event_in_message(message.get_body()):
            poison.on_event(about.machine)


@cache
def _services() -> "Services":
    """The services of this process. Raises SettingsError, which is not cached."""
    from functions.policy.settings import read_settings
    from functions.services import connect

    return connect(read_settings(os.environ, datetime.now(UTC)), lambda: datetime.now(UTC))


def _step(
    name: str,
    *,
    of_a_message: bool = False,
    waits_its_turn: bool = True,
    failures: tuple[type[Exception], ...] = (),
) -> "AbstractAsyncContextManager[Services]":
    """Surrounds every step: provides the services, and writes one clear line for every error. Raises StepFailed."""
    from functions.steps.failures import told

    return told(name, _services, of_a_message=of_a_message, waits_its_turn=waits_its_turn, failures=failures)


def _about(event: func.EventGridEvent) -> "MachineEvent | None":
    """What an event says of a machine; None where it is about something else, or cannot be read and is reported."""
    from functions import journal
    from functions.cloud.event_grid import event_in
    from functions.model.text import BadInput

    try:
        at = getattr(event, "event_time", None) or getattr(event, "time", None)
        return event_in(_type_of(event), event.subject, event.get_json(), at=at)
    except BadInput as problem:
        journal.write("event.malformed", problem=problem)
        return None


def _type_of(event: object) -> object:
    """The type of an EventGridEvent or a CloudEvent.

    The configured event schema decides which one the worker passes. The trigger's annotation can name only one class,
    and an older azure.functions has no CloudEvent, so neither class is tested for here.
    """
    return getattr(event, "event_type", None) or getattr(event, "type", None)


def _read(message: func.QueueMessage) -> "Message":
    """The message in a queue's body. Raises BadInput or NewerMessage."""
    from functions.cloud.queue import read_message
    from functions.model.text import BadInput

    body: bytes = message.get_body()
    try:
        return read_message(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadInput("a message is not UTF-8 text; it should be JSON") from None
