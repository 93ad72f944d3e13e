"""The committed snapshots of one deployment: what the Bicep compiler predicts, phase after phase. Read-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.deployment.errors import DeploymentError
from simulator.wire import Json

FOLDER = Path(__file__).parents[2] / "infra" / "snapshots"
Change = Callable[[list[Json]], None]
PHASES = ("main", "fleet", "events")  # in the order of deployment; the code is published before events


@dataclass(frozen=True)
class Snapshots:
    """The predicted resources of every phase of one deployment, unresolved."""

    name: str
    phases: tuple[tuple[str, tuple[Json, ...]], ...]
    change: Change | None = None

    @classmethod
    def read(cls, name: str = "default", folder: Path | None = None) -> Snapshots:
        folder = folder or FOLDER
        found = {path.name.split(".")[1]: path for path in folder.glob(f"{name}.*.snapshot.json")}
        if "main" not in found:
            raise DeploymentError(f"{folder} holds no snapshot of the phase main of deployment {name}")
        if unknown := found.keys() - set(PHASES):
            raise DeploymentError(f"deployment {name}: phase {', '.join(unknown)} is none of {', '.join(PHASES)}")
        return cls(name, tuple((phase, _resources(found[phase])) for phase in PHASES if phase in found))

    @property
    def resources(self) -> Iterator[Json]:
        return (resource for _, resources in self.phases for resource in resources)

    def changed(self, change: Change) -> Snapshots:
        """The same deployment with a mistake, for a test: `change` receives the resolved resources."""
        return replace(self, name=f"{self.name}, changed", change=change)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(phase for phase, _ in self.phases)})"


def _resources(path: Path) -> tuple[Json, ...]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["diagnostics"]:
        raise DeploymentError(f"{path.name} was compiled with diagnostics: {content['diagnostics']}")
    return tuple(content["predictedResources"])
