"""Keeps the host's Python worker alive: a worker that dies is started again twice; the third death stops the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from simulator.functions_host.worker import ImportExit, IndexingError, Worker

_MAX_EXITS = 3


class WorkerSupervisor:
    """Owns the worker. `stop_host` receives the reason why the host cannot go on."""

    def __init__(self, app_folder: Path, stop_host: Callable[[str], None]) -> None:
        self._app_folder = app_folder
        self._stop_host = stop_host
        self._exits = 0
        self.worker: Worker | None = None

    def load(self) -> Worker:
        """The first worker, with the app imported. Raises IndexingError or ImportExit."""
        worker = Worker(self._app_folder)
        worker.load()
        self.worker = worker
        return worker

    def worker_exited(self, reason: str) -> None:
        """The Python process ended: every running invocation fails."""
        self._exits += 1
        if self._exits >= _MAX_EXITS:
            self._stop_host(f"Exceeded language worker restart retry count: {reason}")
        else:
            self.restart()

    def restart(self) -> None:
        """Another worker takes the place of this one, which ends at once."""
        self.abandon()
        try:
            self.load()
        except (IndexingError, ImportExit) as error:
            self._stop_host(f"the worker could not be started again: {error}")

    def abandon(self) -> None:
        """End the worker at once: no further line of the app runs."""
        if self.worker is not None:
            self.worker.abandon()

    def close(self) -> None:
        """End the worker in good order."""
        if self.worker is not None and not self.worker.abandoned:
            self.worker.close()
