"""A Functions host of another program, such as `func start`: where Event Grid finds it, and its settings file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from simulator.functions_host.state import FunctionState
from simulator.functions_host.webhook import PATH

_WRITTEN_BY = "python -m simulator"


@dataclass(frozen=True)
class HostElsewhere:
    """The app on another host. It is believed to have the functions that the event subscriptions name."""

    url: str
    system_key: str
    function_names: tuple[str, ...]

    @property
    def event_url(self) -> str:
        return f"{self.url.rstrip('/')}{PATH}"

    @property
    def functions(self) -> Mapping[str, FunctionState]:
        return {name: FunctionState(name, "eventGridTrigger") for name in self.function_names}


def at(url: str, key: str, function_names: Iterable[str]) -> HostElsewhere:
    """Raises ValueError when the address is none."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"--host is '{url}'; an address such as http://127.0.0.1:7071 would be right")
    return HostElsewhere(url, key, tuple(function_names))


def write_local_settings(path: Path, settings: Mapping[str, str]) -> None:
    """The file that Core Tools read. Raises FileExistsError rather than replace another program's file."""
    if path.exists() and json.loads(path.read_text(encoding="utf-8")).get("WrittenBy") != _WRITTEN_BY:
        raise FileExistsError(f"{path} is not the simulator's; move it away, or name another file with --settings")
    # Nothing here takes telemetry: without these settings the host writes its lines to the terminal alone.
    kept = {name: value for name, value in sorted(settings.items()) if not name.startswith("APPLICATIONINSIGHTS_")}
    values = {"FUNCTIONS_WORKER_RUNTIME": "python", **kept}
    content = {"WrittenBy": _WRITTEN_BY, "IsEncrypted": False, "Values": values}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
