"""Rollouts that do not move, told at most once a day each. Since when a place waits stands in a note of the ledger."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from functions import journal
from functions.cloud.rows import image_key
from functions.decisions.plan import Candidate, Fleet
from functions.decisions.stuck import Standstill, standstills
from functions.model.image_record import place
from functions.policy.values import Mode
from functions.services import Services
from functions.steps.changes import InForce

NOTE = "rollouts-waiting"
WATCHED = 700  # images in their boundaries: a note of them fits a column of the table
_FORMAT = "%Y%m%dT%H%M"


async def tell(services: Services, waiting: Sequence[Candidate], *, fleet: Fleet, in_force: InForce | None) -> None:
    """`waiting`: what could be installed, now or but for its window. `in_force`: since when people changed nothing.

    Raises CloudError.
    """
    settings, now = services.settings, services.clock()
    if settings.mode is not Mode.INSTALL or in_force is None or in_force.pause:
        return
    places = {_key(item.place(settings)): item.place(settings) for item in waiting if item.machine.image.key}
    known = await services.ledger.remembered(NOTE)
    note = {key: known.get(key, now.astimezone(UTC).strftime(_FORMAT)) for key in sorted(places)[:WATCHED]}
    since = {places[key]: max(_since(text, now), in_force.since) for key, text in note.items()}
    today = now.astimezone(UTC).strftime("%Y%m%d")
    for found in standstills(waiting, fleet, settings, since=since, now=now):
        key = _key(place(found.image, found.boundary))
        began, _, told = note[key].partition("|")
        if told != today:
            _tell(found)
            note[key] = f"{began}|{today}"
    if note != known:
        await services.ledger.remember(NOTE, note)


def _tell(found: Standstill) -> None:
    journal.write(
        "rollout.stuck",
        image=found.image,
        boundary=found.boundary,
        stage=found.stage,
        since=found.since,
        waiting=found.waiting,
        state=found.state,
        reason=found.reason,
        remedy=found.remedy,
        row=image_key(place(found.image, found.boundary)),
    )


def _key(name: str) -> str:
    """Tells one image in its boundary from another in little room."""
    return image_key(name)[-12:]


def _since(text: str, now: datetime) -> datetime:
    with suppress(ValueError):
        return datetime.strptime(text.partition("|")[0], _FORMAT).replace(tzinfo=UTC)
    return now
