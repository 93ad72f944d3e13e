"""App settings in the environment, for as long as a host lives.

Two hosts may live in one process and end in any order: each lays its settings over the ones before, and takes away
its own layer only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping


class Environment:
    """The layers over the process environment, the newest last."""

    def __init__(self) -> None:
        self._layers: list[Mapping[str, str]] = []
        self._before: dict[str, str | None] = {}

    def push(self, settings: Mapping[str, str]) -> Callable[[], None]:
        """Set the variables; gives what takes them back."""
        layer = dict(settings)
        for name in layer:
            self._before.setdefault(name, os.environ.get(name))
        self._layers.append(layer)
        os.environ.update(layer)
        return lambda: self._pop(layer)

    def _pop(self, layer: Mapping[str, str]) -> None:
        self._layers = [other for other in self._layers if other is not layer]
        for name in layer:
            self._restore(name)

    def _restore(self, name: str) -> None:
        values = [layer[name] for layer in self._layers if name in layer]
        value = values[-1] if values else self._before.pop(name)
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


environment = Environment()
