"""What installations did with single patches, by Resource Graph, which keeps them for 30 days."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from functions.cloud.models import time_or_none
from functions.cloud.resource_graph import batches
from functions.model.machine import WaitingPatch
from functions.model.text import Json
from patcher import queries
from patcher.connection import App


@dataclass(frozen=True)
class Tried:
    """One patch of one installation on a machine. `machine` is an id in lower case."""

    machine: str
    installation: str  # its id
    patch: str
    kb: str
    version: str
    classes: tuple[str, ...]
    state: str  # as Azure's PatchInstallationState spells it
    at: datetime | None


def waiting_on(machine: str, patches: Iterable[WaitingPatch]) -> list[Tried]:
    """Patches that wait, as those of no installation."""
    return [
        Tried(
            machine,
            "",
            patch=each.name,
            kb=each.kb,
            version=each.version,
            classes=each.classes,
            state="Pending",
            at=None,
        )
        for each in patches
    ]


async def tried_on(app: App, machines: Iterable[str]) -> list[Tried]:
    """Every patch of every installation on these machines."""
    return [
        tried_of(row)
        for ids in batches(machines)
        async for row in app.services.graph.rows(queries.fill("patches_installed", machines=ids))
    ]


def tried_of(row: Json) -> Tried:
    """A row of patches_installed.kql or patches_tried.kql. Raises BadInput for a time that is none."""
    patch, kb, version, state = (str(row.get(name) or "") for name in ("patch", "kb", "version", "state"))
    installation = str(row.get("id")).lower().partition("/patchinstallationresults/")[2].partition("/")[0]
    classes = classes_of(row)
    return Tried(
        str(row.get("machine")),
        installation,
        patch=patch,
        kb=kb,
        version=version,
        classes=classes,
        state=state,
        at=time_or_none(row.get("at")),
    )


def classes_of(row: Json) -> tuple[str, ...]:
    """The classifications of a patch, as Azure spells them."""
    listed = row.get("classes")
    return tuple(str(each) for each in listed) if isinstance(listed, list) else ()


def failed_last(tried: Iterable[Tried]) -> list[Tried]:
    """The patches that failed in the last installation of one machine that names any."""
    listed = list(tried)
    last = max(listed, key=lambda each: str(each.at), default=None)
    return [each for each in listed if last and each.installation == last.installation and failed(each)]


def failed(tried: Tried) -> bool:
    return tried.state.lower() == "failed"


def installed(tried: Tried) -> bool:
    return tried.state.lower() == "installed"


def patch_of(tried: Tried) -> dict[str, Any]:
    """For programs: a `patch` of schema.json."""
    return {
        "machine": tried.machine,
        "patch": tried.patch,
        "kb": tried.kb or None,
        "version": tried.version or None,
        "classifications": list(tried.classes),
        "state": tried.state,
        "at": tried.at,
    }
