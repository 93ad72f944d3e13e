"""`patcher lacks KB…|package`: where a patch waits, where it was installed, where it failed, by Resource Graph."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from functions.cloud.models import time_or_none
from functions.model.machine import KB_NUMBER
from functions.model.text import BadInput, Json, on_one_line
from patcher import queries
from patcher.connection import App
from patcher.errors import BadRequest
from patcher.output import Answer, Clock, clock_of, line, table
from patcher.questions.patches import Tried, classes_of, failed, installed, patch_of, tried_of

_NAME = re.compile(r"[\w.+:~-]{2,200}", re.ASCII)

TRIED = ("installed", "failed")  # of Azure's PatchInstallationState


async def ask(app: App, name: str) -> Answer:
    names, numbers = _meant(name)
    tried = _newest([tried_of(row) async for row in _rows(app, "patches_tried", names=names, numbers=numbers)])
    listed = [_pending(row) async for row in _rows(app, "patches_called", names=names, numbers=numbers)]
    # An assessment before the installation still lists what that one installed.
    pending = [each for each in listed if not _installed_since(tried.get(each["machine"]), each["at"])]
    waiting = {each["machine"] for each in pending}
    of_machines = sorted(tried.values(), key=lambda each: each.machine)
    result = {
        "patch": name,
        "pending": pending,
        "installed": [patch_of(each) for each in of_machines if installed(each) and each.machine not in waiting],
        "failed": [patch_of(each) for each in of_machines if failed(each)],
    }
    return Answer(result, _shown(name, result, clock_of(app.settings)))


def _newest(tried: Iterable[Tried]) -> dict[str, Tried]:
    """The last try of each machine."""
    return {each.machine: each for each in sorted(tried, key=lambda each: str(each.at))}


def _installed_since(tried: Tried | None, listed: object) -> bool:
    return tried is not None and installed(tried) and str(tried.at) >= str(listed)


def _meant(name: str) -> tuple[list[str], list[str]]:
    """The names to look for, and the KB numbers, which Azure writes with and without their letters."""
    if match := KB_NUMBER.fullmatch(name):
        return [name], [match[1], f"KB{match[1]}"]
    if not _NAME.fullmatch(name):
        raise BadRequest(f"'{on_one_line(name)[:60]}' is neither a KB number nor the name of a package")
    return [name], [name]


async def _rows(app: App, query: str, *, names: Sequence[str], numbers: Sequence[str]) -> AsyncIterator[Json]:
    try:
        text = queries.fill(query, names=names, numbers=numbers)
    except BadInput as error:
        raise BadRequest(str(error)) from None
    async for row in app.services.graph.rows(text):
        yield row


def _pending(row: Json) -> dict[str, Any]:
    return {
        "machine": str(row.get("machine")),
        "patch": str(row.get("patch")),
        "kb": row.get("kb") or None,
        "version": row.get("version") or None,
        "classifications": list(classes_of(row)),
        "at": time_or_none(row.get("at")),
    }


def _shown(name: str, result: Mapping[str, Any], when: Clock) -> list[RenderableType]:
    counts = ", ".join(f"{each} on {len(result[each])}" for each in ("pending", *TRIED))
    parts: list[RenderableType] = [line(name, counts)]
    if not any(result[each] for each in ("pending", *TRIED)):
        parts.append(line("", "No assessment lists it, and no installation of the last 30 days tried it."))
    for what in ("pending", *TRIED):
        rows = [
            (each["machine"].rsplit("/", 1)[-1], each["patch"], each["version"], when(each["at"]))
            for each in result[what]
        ]
        at = f"{'assessed' if what == 'pending' else what} ({when.zone})"
        parts += [table(what.capitalize(), ("machine", "patch", "version", at), rows)] if rows else []
    return parts
