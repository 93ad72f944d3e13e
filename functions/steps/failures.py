"""What becomes of an error in a step: one line without identities or addresses, and whether the host delivers again.

Application Insights records the text and the stack of an exception verbatim, so only StepFailed leaves a step.
"""

import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from functions import journal
from functions.cloud.errors import CloudError, Throttled
from functions.cloud.queue import NewerMessage
from functions.cloud.rows import LeftAlone
from functions.model.text import BadInput
from functions.policy.settings import SettingsError
from functions.services import Services
from functions.steps.observe import log_used_up


class StepFailed(Exception):
    """A step failed. Event Grid or the queue delivers again, or the timer fires again."""


@asynccontextmanager
async def told(
    name: str,
    connect: Callable[[], Services],
    *,
    of_a_message: bool = False,
    waits_its_turn: bool = True,
    failures: tuple[type[Exception], ...] = (),
) -> AsyncIterator[Services]:
    """Surrounds the step of the function `name`: provides the services, and writes one line for every error.

    `of_a_message`: one that cannot be read is reported and completed. `failures`: exceptions of the step whose text
    may be written. Raises StepFailed.
    """
    told_as_they_are: tuple[type[Exception], ...] = (CloudError, *failures)
    try:
        services = connect()
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
        if not of_a_message:
            raise _failed(name, str(problem)) from None
        journal.write("message.malformed", function=name, problem=problem)
    except Throttled as throttled:  # no failure. The host delivers again; the timer, which fires anyway, need not fail
        log_used_up(throttled, function=name)
        if waits_its_turn:
            raise StepFailed(str(throttled)) from None
    except told_as_they_are as error:
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
