"""One machine: the answer of `patcher why`, what waits on it by name, and its timeline."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from functions.model.machine import Machine
from functions.model.record import Record
from functions.model.state import Phase
from patcher.connection import App
from patcher.fleet import Fleet
from patcher.machines import meant
from patcher.page.document import KIND_OF, without_names
from patcher.questions import images, why
from patcher.questions.patches import Tried, waiting_on

Moment = dict[str, Any]


async def machine_of(app: App, name: str, fleet: Fleet | None = None) -> dict[str, Any]:
    """`fleet`: as it was last read, if it was: it says when the machine's turn comes.

    Raises BadRequest where no machine or several are meant, NoAnswer, and CloudError.
    """
    machine_id = await meant(app, name)
    found = await why.find(app, machine_id, fleet)
    key = str(machine_id)
    pending = (await app.services.graph.patches_of([key])).get(key, [])
    moments = [
        *_of_machine(found.machine),
        *await _of_installations(app, key, found.tried),
        *_of_row(found.record),
        *_of_now(found.result, app.services.clock()),
        *_to_come(found.result),
    ]
    shown = found.result | {
        "at": app.services.clock(),
        "image": images.short(found.machine.image.key),
        "owner": found.machine.tag(app.settings.owner_tag),
        "kind": KIND_OF[found.result["state"]],
        "pending": [_patch(each) for each in waiting_on(key, pending)],
        "timeline": sorted(moments, key=lambda moment: moment["at"]),
    }
    return dict(without_names(shown, [*(stop.by for stop in found.stops), *(each.run.by for each in found.runs)]))


def _moment(at: datetime | None, what: str, detail: str = "", **more: Any) -> Iterable[Moment]:
    return [{"at": at, "what": what, "detail": detail, "patches": [], "to_come": False, **more}] if at else []


def _of_machine(machine: Machine) -> Iterable[Moment]:
    verdict, pending = machine.verdict, machine.pending
    counts = f"{pending.critical} critical, {pending.security} security and {pending.other} other patches wait"
    yield from _moment(machine.created, "created", images.short(machine.image.key))
    if verdict:
        yield from _moment(verdict.assessed, "assessed", f"{verdict.state.value}: {counts}")
    under_way = machine.assessment_alone
    if under_way and under_way.in_progress:
        yield from _moment(under_way.started, "assessment began", under_way.status)


async def _of_installations(app: App, machine: str, tried: Iterable[Tried]) -> Iterable[Moment]:
    """What Resource Graph keeps: 30 days."""
    patches: dict[str, list[dict[str, Any]]] = {}
    for each in tried:
        patches.setdefault(each.installation, []).append(_patch(each))
    installations = (await app.services.graph.installations([machine])).get(machine, [])
    return [
        moment
        for each in installations
        for moment in _moment(
            each.started, "installation", each.status, patches=patches.get(each.operation_id.rpartition("/")[2], [])
        )
    ]


def _patch(tried: Tried) -> dict[str, Any]:
    named = {name: getattr(tried, name) for name in ("patch", "version", "state")}
    return named | {"classes": [each.lower() for each in tried.classes], "kb": tried.kb or None}


def _of_row(record: Record | None) -> Iterable[Moment]:
    """What the ledger remembers of the app's own last operation."""
    if record is None:
        return
    noun = record.kind.noun
    if record.phase is Phase.QUEUED:
        yield from _moment(record.due_at, f"{noun} claimed", "its message is sent, or will be")
    if record.begun_at:
        detail = f"phase {record.phase.value}" if record.phase is not Phase.HELD else "ended; see what holds it"
        yield from _moment(record.begun_at, f"{noun} begun by the app", detail)
    if record.hold:
        yield from _moment(record.hold.when, "hold ends", record.hold.reason, to_come=True)


def _of_now(result: dict[str, Any], now: datetime) -> Iterable[Moment]:
    """Its state: Azure and the ledger keep none of its earlier ones."""
    return _moment(now, f"now {result['state']}", result["reason"])


def _to_come(result: dict[str, Any]) -> Iterable[Moment]:
    if result["expected"]:
        yield from _moment(result["expected"], "installation expected", "by the forecast", to_come=True)
    elif result["when"] and result["state"] not in why.UNDER_WAY:
        yield from _moment(result["when"], "it changes", result["reason"], to_come=True)
