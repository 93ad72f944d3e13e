"""The app's triggers over a watched world, and the event that they receive."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import function_app
from functions.steps.failures import StepFailed
from simulator.azure import Behaviour
from tests.fuzz.checks import check, has_no_defect, journal_lines
from tests.fuzz.malformed_azure import WatchedAzure
from tests.fuzz.mangling import SECRET
from tests.support import PAYLOADS
from tests.support.world import QUICK, SUBSCRIPTION, World

GOOD = "good-01"
INFERRED = json.loads((PAYLOADS / "eventgrid_vm_write_INFERRED.json").read_text())
GOOD_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-web/providers/Microsoft.Compute/virtualMachines/{GOOD}"
EVENT = json.loads(json.dumps(INFERRED["vm_create"]).replace(INFERRED["vm_create"]["subject"], GOOD_ID))
EVENT["data"]["claims"]["secret"] = SECRET
# Whatever comes, a trigger ends well or raises this one exception, whose text is clear.
ALLOWED = StepFailed


class Event:
    """What the host's decoding makes of one element: it checks nothing, so any field may be anything."""

    def __init__(self, body: Any) -> None:
        fields = body if isinstance(body, dict) else {}
        self.event_type, self.subject, self._data = fields.get("eventType"), fields.get("subject"), fields.get("data")

    def get_json(self) -> Any:
        return self._data


async def triggered(world: World, call: Callable[[], Awaitable[None]]) -> str:
    """Runs one trigger over a world's services; what it raised, as text."""
    with patch.object(function_app, "_services", return_value=world.services):
        try:
            await call()
        except ALLOWED as error:
            return str(error)
    return ""


def run_watched(scenario: Callable[[World, WatchedAzure], Awaitable[str]], **options: Any) -> WatchedAzure:
    """A world of one good machine in which `scenario` happens; checks its calls, its lines and its errors."""

    async def run() -> WatchedAzure:
        world = World(timings=QUICK, **options)
        watched = WatchedAzure(world, iter(()), "nothing")
        world.create(GOOD, Behaviour(support_state="Supported", pending={"security": 1}))
        world.now += timedelta(minutes=5)
        raised = await scenario(world, watched)
        assert SECRET not in raised
        assert raised.isprintable()
        return watched

    with journal_lines() as lines:
        watched = asyncio.run(run())
    check(watched, lines)
    has_no_defect(lines)
    return watched
