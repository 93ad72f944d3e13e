"""The fleet as a sweep would see it now: every machine's state, the images, and what is to come."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from functions import journal
from functions.cloud.rows import LeftAlone, image_of_row
from functions.decisions.forecast import Forecast, forecast
from functions.decisions.plan import Candidate
from functions.model.image_record import ImageRecord
from functions.model.machine import Machine
from functions.model.state import Step
from functions.steps import outlook, planning, reconcile
from functions.steps.reconcile import FleetView
from patcher.connection import App
from patcher.errors import NoAnswer


@dataclass(frozen=True)
class ImageRow:
    """One image within a trust boundary, and the key of its row in the ledger."""

    record: ImageRecord
    key: str


@dataclass(frozen=True)
class Fleet:
    """One look at the fleet."""

    app: App
    view: FleetView
    images: Sequence[ImageRow]
    now: datetime

    @property
    def states(self) -> list[tuple[Machine, Step]]:
        return self.view.states


async def look(app: App) -> Fleet:
    """Reads everything once. Raises NoAnswer where a part of it is missing, and CloudError."""
    view = await reconcile.view_fleet(app.services)
    if view.sweep.failed:
        raise NoAnswer(f"no answer for: {', '.join(view.sweep.failed)}; nothing is said of what depends on it")
    return Fleet(app, view, await image_rows(app), app.services.clock())


async def image_rows(app: App) -> list[ImageRow]:
    """The images' rows; with a boundary's comes that of the whole fleet. One that cannot be read is reported."""
    rows = []
    async for row in app.services.ledger.table.keys("app", "image-"):
        try:
            rows.append(ImageRow(image_of_row(row), row.key))
        except LeftAlone as left_alone:
            journal.write("ledger.newer", problem=left_alone)
    whole = {each.record.image: each.record for each in rows if not each.record.boundary}
    return [
        replace(each, record=replace(each.record, fleet=whole.get(each.record.image))) if each.record.boundary else each
        for each in sorted(rows, key=lambda each: each.record.place)
    ]


async def look_ahead(fleet: Fleet) -> tuple[list[Candidate], Forecast | None]:
    """What waits for an installation, and when each is expected; None where too many wait (steps/outlook.py)."""
    waiting, limits = await planning.waiting(fleet.view.sweep, fleet.view.due)
    if len(waiting) > outlook.MAX_WAITING:
        return waiting, None
    return waiting, forecast(waiting, limits, fleet.app.settings, now=fleet.now)
