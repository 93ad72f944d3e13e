"""App settings in the process environment while a host lives, and which of them were read.

Two hosts may live in one process and end in any order: each adds a layer of settings, and removes its own layer only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from simulator.functions_host.worker import running_in_an_app


class AppSettings(dict[str, str]):
    """The settings of one app. `read` has the names that the host or the app looked up."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)


class _WatchedEnvironment(os._Environ[str]):
    """The process environment. It notes what an app looks up."""

    def __getitem__(self, name: str) -> str:
        if running_in_an_app():
            environment.note(name)
        return super().__getitem__(name)


class Environment:
    """The layers over the process environment, the newest last."""

    def __init__(self) -> None:
        self._layers: list[AppSettings] = []
        self._before: dict[str, str | None] = {}

    def note(self, name: str) -> None:
        for layer in self._layers:
            layer.read.add(name)

    def push(self, layer: AppSettings) -> Callable[[], None]:
        """Set the variables; gives the function that restores them."""
        os.environ.__class__ = _WatchedEnvironment  # in place: other modules hold this very object
        for name in layer:
            self._before.setdefault(name, os.environ.get(name))
        self._layers.append(layer)
        os.environ.update(dict(layer))  # a copy, so that this does not count as reading them
        return lambda: self._pop(layer)

    def _pop(self, layer: AppSettings) -> None:
        self._layers = [other for other in self._layers if other is not layer]
        for name in layer:
            self._restore(name)

    def _restore(self, name: str) -> None:
        values = [dict.__getitem__(layer, name) for layer in self._layers if name in layer]
        value = values[-1] if values else self._before.pop(name)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


environment = Environment()
