"""What the browsers are given: one look at the fleet per interval, however many of them ask."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from functions.cloud.errors import CloudError
from functions.cloud.rows import LeftAlone
from functions.model.text import BadInput
from functions.policy.settings import SettingsError
from patcher.connection import App, Words
from patcher.errors import BadRequest, NoAnswer
from patcher.fleet import Fleet, look
from patcher.output import as_json
from patcher.page.document import document
from patcher.page.machine import machine_of

EARLY = 0.9  # of the interval: a browser that asks again after it finds a new document


class Unread(Protocol):
    """Collects what the app's code says that it could not read (patcher/commands.py)."""

    lines: list[str]

    def listening(self) -> AbstractContextManager[None]: ...


class Feed:
    """Reads the fleet when a browser asks and the last document is older than `every` seconds: without one, nothing.

    Both answers raise PatcherError, its text one line.
    """

    def __init__(self, app: App, words: Words, *, every: float, unread: Callable[[], Unread]) -> None:
        self.every = every
        self._app, self._words, self._unread = app, words, unread
        self._one_at_a_time = asyncio.Lock()
        self._read_at = -float("inf")
        self._last = ""
        self._fleet: Fleet | None = None

    async def fleet(self) -> str:
        """The document, as JSON."""
        async with self._one_at_a_time:
            clock = asyncio.get_running_loop().time
            if clock() - self._read_at >= EARLY * self.every:
                with _one_line():
                    self._last = as_json(await self.read(), indent=None)
                self._read_at = clock()
            return self._last

    async def read(self, *, explained: bool = False) -> Mapping[str, Any]:
        """Reads the fleet now, by the settings of now (`explained`: document.py). Raises what a question raises."""
        unread = self._unread()
        with unread.listening():
            self._app = await self._app.current(self._words)
            self._fleet = await look(self._app)
            found = await document(self._fleet, explained=explained)
        return {**found, "every": self.every, "problems": unread.lines}

    async def machine(self, name: str) -> str:
        """One machine, as JSON. Raises BadRequest where none, or several, are meant."""
        with _one_line():
            return as_json(await machine_of(self._app, name, self._fleet), indent=None)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        raise NoAnswer(f"the app's settings are wrong, so it does nothing: {error}") from None
    except BadInput as error:
        raise BadRequest(str(error)) from None
    except (CloudError, LeftAlone) as error:
        raise NoAnswer(str(error)) from None
