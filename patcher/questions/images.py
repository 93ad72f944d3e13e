"""`patcher rollout list` and `patcher breaker list`: what the ledger remembers of each image."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import RenderableType

from functions.decisions.forecast import Forecast
from functions.decisions.plan import Candidate
from functions.model.image_record import ImageRecord, Tally
from functions.model.machine import LAST_RING
from functions.model.state import OperationKind
from patcher.connection import App
from patcher.fleet import Fleet, ImageRow, image_rows, look, look_ahead
from patcher.output import Answer, Clock, clock_of, line, table


async def ask_rollouts(app: App) -> Answer:
    fleet = await look(app)
    waiting, coming = await look_ahead(fleet)
    found = [rollout(each, fleet, waiting=waiting, coming=coming) for each in fleet.images if each.record.opened]
    return Answer({"rollouts": found}, [rollouts_shown(found, clock_of(app.settings))])


async def ask_breakers(app: App) -> Answer:
    """Open ones only, with the command that closes each."""
    found = [breaker(each) for each in await image_rows(app) if is_open(each)]
    return Answer({"breakers": found}, breakers_shown(found))


def is_open(row: ImageRow) -> bool:
    """By its own breaker: one of the whole fleet is listed once, as that."""
    return bool(row.record.opening) and row.record.opening != row.record.closed


def rollout(row: ImageRow, fleet: Fleet, *, waiting: Sequence[Candidate], coming: Forecast | None) -> dict[str, Any]:
    """One rollout: what is done and what is left of each ring, and when it ends by the forecast."""
    record, settings = row.record, fleet.app.settings
    left = [item for item in waiting if item.place(settings) == record.place]
    running = [
        stored.record.ring
        for stored in fleet.view.sweep.rows.values()
        if stored.record.kind is OperationKind.INSTALL
        and stored.record.may_be_rebooting
        and (stored.record.image, stored.record.boundary) == (record.image, record.boundary)
    ]
    rings = sorted({*record.rings, *(item.overrides.ring for item in left), *running})
    turns = [coming.turns[item.machine.id].at for item in left if coming and item.machine.id in coming.turns]
    least = record.opened + settings.rollout_length if record.opened else None
    return {
        "image": record.image,
        "boundary": record.boundary or None,
        "rollout": record.rollout,
        "row": row.key,
        "opened": record.opened,
        "ended_by_hand": bool(record.ended) and record.ended == record.rollout,
        "canaries": {"succeeded": record.canaries, "wanted": settings.canaries},
        "rings": [_ring(ring, record, left=left, running=running) for ring in rings],
        "ends_not_before": least,
        "last_turn": max(turns, default=None),
    }


def _ring(ring: int, record: ImageRecord, *, left: Iterable[Candidate], running: Sequence[int]) -> dict[str, Any]:
    tally = record.rings.get(ring) or Tally()
    return {
        "ring": ring_text(ring),
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "in_flight": running.count(ring),
        "waiting": sum(item.overrides.ring == ring for item in left),
    }


def breaker(row: ImageRow) -> dict[str, Any]:
    record = row.record
    return {
        "image": record.image,
        "boundary": record.boundary or None,
        "opening": record.opening,
        "reason": record.opened_because,
        "failures": len(record.failures),
        "last_failure": max((failure.at for failure in record.failures), default=None),
        "row": row.key,
        "close": closing(row.key, record.opening),
    }


def closing(key: str, opening: str) -> str:
    """The command that closes one opening."""
    return f"patcher breaker close {key} --opening {opening} --reason …"


def rollouts_shown(found: Sequence[dict[str, Any]], when: Clock) -> RenderableType:
    rows = []
    for each in found:
        canaries = each["canaries"]
        proved = canaries["succeeded"] >= canaries["wanted"]
        canary = f"{canaries['succeeded']}/{canaries['wanted']}{' ✓' if proved else ''}"
        rings = "\n".join(_progress(ring) for ring in each["rings"])
        ends = when(each["last_turn"]) if each["last_turn"] else f"not before {when(each['ends_not_before'])}"
        rows.append((short(each["image"]), each["boundary"], when(each["opened"]), canary, rings, ends))
    columns = ("image", "boundary", f"opened ({when.zone})", "canary", "rings", "last turn")
    return table("Rollouts", columns, rows)


def _progress(ring: dict[str, Any]) -> str:
    done = ring["succeeded"] + ring["failed"]
    text = f"ring {ring['ring']} {done}/{done + ring['in_flight'] + ring['waiting']}"
    return f"{text} ({ring['failed']} failed)" if ring["failed"] else text


def breakers_shown(found: Sequence[dict[str, Any]]) -> list[RenderableType]:
    """The open ones, and under them the command that closes each."""
    rows = [(short(each["image"]), each["boundary"], each["opening"], each["reason"]) for each in found]
    shown = table("Open breakers", ("image", "boundary", "opening", "why"), rows)
    return [shown, *(line("to close it", each["close"], "green") for each in found)]


def short(image: str) -> str:
    """The last parts of an image's id, which people know it by."""
    name = image.rpartition("/images/")[2] or image
    return name.replace("/versions/", "/") or "no image"


def ring_text(ring: int) -> str:
    """The tag's value, or "untagged"."""
    return "untagged" if ring == LAST_RING else str(ring)
