"""Every trigger on one page: binding → step. The only importer of azure.functions; the only reader of clock and
environment.

A trigger parses its input, passes it to a step, and turns an error into one line without identities or addresses,
because Application Insights records the text and the stack of an exception verbatim. Nothing here may fail the import:
an app whose import fails looks healthy and has no functions.
"""

import os
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import azure.functions as func

from functions import journal
from functions.cloud import event_grid
from functions.cloud.errors import CloudError, Throttled
from functions.cloud.queue import NewerMessage, read_message
from functions.cloud.rows import LeftAlone
from functions.model.state import OperationKind
from functions.model.text import BadInput
from functions.policy.settings import SettingsError, read_settings
from functions.services import Services, connect
from functions.steps import assess, install, poison, reconcile
from functions.steps.observe import log_used_up

app = func.FunctionApp()

STORAGE = "AzureWebJobsStorage"


@app.event_grid_trigger(arg_name="event")
async def on_machine_written(event: func.EventGridEvent) -> None:  # or func.CloudEvent: see _type_of()
    async with _step("on_machine_written") as services:
        try:
            machine = event_grid.machine_in(_type_of(event), event.subject, event.get_json())
        except BadInput as problem:
            journal.write("event.malformed", problem=problem)
            return
        if machine:
            await assess.on_event(services, machine)


@app.timer_trigger(arg_name="timer", schedule="%RECONCILE_SCHEDULE%", run_on_startup=False)
async def on_reconcile(timer: func.TimerRequest) -> None:
    async with _step("on_reconcile", waits_its_turn=False) as services:
        await reconcile.run(services)


@app.queue_trigger(arg_name="message", queue_name="assess-requests", connection=STORAGE)
async def on_assess_request(message: func.QueueMessage) -> None:
    async with _step("on_assess_request", message) as services:
        await assess.on_message(services, read_message(_text(message)))


@app.queue_trigger(arg_name="message", queue_name="install-requests", connection=STORAGE)
async def on_install_request(message: func.QueueMessage) -> None:
    async with _step("on_install_request", message) as services:
        await install.on_message(services, read_message(_text(message)))


@app.queue_trigger(arg_name="message", queue_name="assess-requests-poison", connection=STORAGE)
async def on_assess_poisoned(message: func.QueueMessage) -> None:
    async with _step("on_assess_poisoned", message) as services:
        await poison.on_message(services, read_message(_text(message)), OperationKind.ASSESS)


@app.queue_trigger(arg_name="message", queue_name="install-requests-poison", connection=STORAGE)
async def on_install_poisoned(message: func.QueueMessage) -> None:
    async with _step("on_install_poisoned", message) as services:
        await poison.on_message(services, read_message(_text(message)), OperationKind.INSTALL)


class StepFailed(Exception):
    """A step failed. Event Grid or the queue delivers again, or the timer fires again."""


@cache
def _services() -> Services:
    """The services of this process. Raises SettingsError, which is not cached."""
    return connect(read_settings(os.environ, datetime.now(UTC)), lambda: datetime.now(UTC))


@asynccontextmanager
async def _step(
    name: str, message: func.QueueMessage | None = None, *, waits_its_turn: bool = True
) -> AsyncIterator[Services]:
    """Surrounds every step: provides the services, and writes one clear line for every error. Raises StepFailed."""
    try:
        services = _services()
        async with services.turns if waits_its_turn else nullcontext():
            yield services
    except SettingsError as error:
        for problem in error.problems:
            journal.write("settings.refused", function=name, setting=problem.name, problem=str(problem))
        raise StepFailed(f"app settings are wrong: {error}") from None
    except NewerMessage as newer:  # completed: its claim expires, and a sweep dispatches the machine again
        journal.write("ledger.newer", function=name, problem=newer)
    except LeftAlone as left_alone:  # completed: the row stays as it is
        journal.write("ledger.newer", function=name, machine=left_alone.machine, problem=left_alone)
    except BadInput as problem:
        if message is None:
            raise _failed(name, str(problem)) from None
        journal.write("message.malformed", function=name, problem=problem)
    except Throttled as throttled:  # no failure. The host delivers again; the timer, which fires anyway, need not fail
        log_used_up(throttled, function=name)
        if waits_its_turn:
            raise StepFailed(str(throttled)) from None
    except (CloudError, reconcile.SweepFailed) as error:
        raise _failed(name, str(error)) from None
    except Exception as error:  # noqa: BLE001 - a defect: its text may hold secrets, its line number cannot
        raise _failed(name, f"{type(error).__name__} at {_place(error)}") from None


def _failed(name: str, text: str) -> StepFailed:
    journal.write("step.failed", function=name, problem=text)
    return StepFailed(text)


def _place(error: Exception) -> str:
    """The innermost line of this app in the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _type_of(event: object) -> object:
    """The type of an EventGridEvent or a CloudEvent.

    The configured event schema decides which one the worker passes. The trigger's annotation can name only one class,
    and an older azure.functions has no CloudEvent, so neither class is tested for here.
    """
    return getattr(event, "event_type", None) or getattr(event, "type", None)


def _text(message: func.QueueMessage) -> str:
    body: bytes = message.get_body()
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("a message is not UTF-8 text; it should be JSON") from None
