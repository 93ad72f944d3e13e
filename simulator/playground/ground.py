"""What the playground has running: Azure with a fleet, storage, the app in a host, and what moves the clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from simulator.azure import Limits, Rate
from simulator.demo.report import AppReport, open_report
from simulator.embedded import Embedded
from simulator.functions_host import FunctionsHost
from simulator.playground import app, fleet
from simulator.playground.clock import Clock
from simulator.playground.drive import Drive
from simulator.playground.fleet import Member
from simulator.wire import Json

# What differs from the default deployment, unless a person sets it. The fleet is older than the app; a sweep every five
# minutes would make a day on this clock three times as long for the person.
USUAL: Mapping[str, str] = {
    "PATCH_MODE": "install",
    "PATCH_WINDOW": "any",
    "PATCH_CREATED_AFTER": "always",
    "PATCH_OWNER_TAG": "owner",
    "RECONCILE_SCHEDULE": "0 */15 * * * *",
}
_NO_LIMIT = Rate(None, 0, 1)
# A quota of calls is filled by time, and time stands still while a person asks: reading has no limit here.
LIMITS = replace(
    Limits(),
    get_machine_resource=_NO_LIMIT,
    get_machine_subscription=_NO_LIMIT,
    get_operation_resource=_NO_LIMIT,
    get_operation_subscription=_NO_LIMIT,
    list_subscription=_NO_LIMIT,
    graph=_NO_LIMIT,
)
_DELIVERY_SPEED = 1_000  # an event that is not taken is sent again by this machine's clock
_MIN_AGE = timedelta(hours=1)  # of the youngest machine when the app starts
_HOST_SCALE = 0.05  # of the host's own waits, such as polling

Say = Callable[[list[str], list[Json], datetime], None]


@dataclass(frozen=True)
class Plan:
    """What is asked for. `settings`: those that differ from the deployment."""

    start: datetime
    members: tuple[Member, ...]
    settings: Mapping[str, str]
    port: int = 0


@dataclass
class Ground:
    """The running playground."""

    embedded: Embedded
    host: FunctionsHost
    clock: Clock
    report: AppReport
    plan: Plan
    say: Say
    drive: Drive = field(init=False)
    _said: int = 0
    _told: int = 0

    def tell(self) -> None:
        """Says every line that the app has written since the last call, and every notice that the topic took."""
        fresh = [each.message for each in self.host.app_lines[self._said :]]
        topic = self.embedded.azure.topic
        told = topic.events[self._told :] if topic else []
        self._said, self._told = self._said + len(fresh), self._told + len(told)
        self.say(fresh, told, self.clock())


@asynccontextmanager
async def opened(plan: Plan, say: Say) -> AsyncIterator[Ground]:
    """Starts it all. `say` is given what the app wrote and told in a moment, and the time."""
    clock = Clock(_beginning(plan))
    queue = app.HeldQueue(clock)
    embedded = Embedded(_DELIVERY_SPEED, limits=LIMITS, clock=clock, port=plan.port)
    embedded.azure.token_seconds = time.time
    with app.on_this_clock(clock, queue):
        async with embedded:
            _create(embedded, clock, plan.members)
            clock.move_to(plan.start)
            embedded.azure.advance()
            settings = embedded.settings(**{**embedded.topic_of_notices(), **plan.settings})
            # The drive runs the sweep; the host's own timer goes by a clock that never reaches a tick.
            host = await embedded.host(settings, time_scale=_HOST_SCALE, clock=lambda: plan.start)
            await embedded.subscribe(host)
            async with open_report(settings, clock) as report:
                ground = Ground(embedded, host, clock, report, plan, say)
                ground.drive = Drive(embedded, host, clock=clock, queue=queue, happened=ground.tell)
                try:
                    yield ground
                finally:
                    await ground.drive.close()


def _beginning(plan: Plan) -> datetime:
    return plan.start - max((each.age for each in plan.members), default=_MIN_AGE)


def _create(embedded: Embedded, clock: Clock, members: Iterable[Member]) -> None:
    """Each machine at its own time, before the app exists; those that are off are switched off once they run."""
    azure, start = embedded.azure, clock()
    azure.create_group(embedded.deployed.plan.site.id.partition("/providers/")[0])  # the app's, also without a machine
    members = sorted(members, key=lambda each: each.age, reverse=True)
    for each in members:
        clock.move_to(start + (members[0].age - each.age))
        azure.advance()
        azure.behave(each.id, fleet.behaviour_named(each.behaviour))
        azure.create_machine(each.id, each.body)
    clock.move_to(clock() + _MIN_AGE)
    for each in members:
        if each.behaviour == "off":
            azure.start_operation(each.id, "deallocate")
