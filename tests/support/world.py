"""A small world for scenarios: the simulated Azure in process, the app's steps under a clock that the test moves, and
deliveries as the Functions host makes them. The SDK clients, the queries and the steps are the real ones.

Times are simulated; nothing sleeps. `world.pass_time(minutes=…)` delivers events, messages and sweeps as they come due.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from functions import journal
from functions.cloud import event_grid
from functions.cloud.arm import ResourceManager
from functions.cloud.errors import CloudError
from functions.cloud.ledger import APP, Ledger
from functions.cloud.notices import EventGridTopic, Outbox
from functions.cloud.queue import QUEUES, read_message
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.rows import LeftAlone, image_key
from functions.cloud.session import Session
from functions.model.image_record import ImageRecord, place
from functions.model.machine import Machine, MachineId
from functions.model.record import Record
from functions.model.state import OperationKind, Phase, Step
from functions.policy.settings import read_settings
from functions.services import Services
from functions.steps import assess, install, poison, reconcile
from functions.steps.sweep import SweepFailed
from simulator.azure import Azure, Behaviour, Limits, Timings
from simulator.identity import ClockCredential
from simulator.transport import AzureTransport
from tests.simulation.graph import PredicateGraph
from tests.support.queues import MemoryQueue, QueuedMessage
from tests.support.tables import MemoryTable

START = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
GALLERY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries/g/images/web"
    "/versions/1.0.0"
)
BOUNDARY = f"subscription {SUBSCRIPTION}"  # what the machines here prove of an image, by PATCH_ROLLOUT_SCOPE
TOPIC = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-ops/providers/Microsoft.EventGrid/topics/notices"
NOTICES = {"PATCH_NOTICES": "https://notices.westeurope-1.eventgrid.azure.net/api/events"}
SETTINGS = {
    "RECONCILE_SCHEDULE": "0 */5 * * * *",
    "AzureWebJobsStorage__accountName": "storage",
    "PATCH_MODE": "install",
    "PATCH_WINDOW": "any",
    "PATCH_CREATED_AFTER": "always",
    "PATCH_MIN_AGE_MINUTES": "0",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
    "PATCH_MAX_IN_FLIGHT": "1000",
    "PATCH_MAX_PER_IMAGE": "1000",
    "PATCH_CANARIES": "0",
    "PATCH_BAKE_MINUTES": "0",
}
# A machine that can be patched as soon as it is there.
QUICK = Timings(create_seconds=0, agent_ready_seconds=0, extensions_seconds=0)
# The same under a real clock, where an operation takes less than a second.
REAL_TIME = replace(
    QUICK,
    start_seconds=0,
    deallocate_seconds=0,
    delete_seconds=0,
    redeploy_seconds=0,
    assess_seconds=0.3,
    install_seconds=0.6,
    reboot_seconds=0,
    graph_lag_seconds=0,
)
# A second operation kills the first instead of being refused: only so does a test see that the app never starts one.
SUPERSEDE = Limits(conflict="supersede")
# As in host.json.
VISIBILITY_TIMEOUT = timedelta(minutes=5)
MAX_DEQUEUE_COUNT = 5


class World:
    """Azure, the app's services, and the host's deliveries, under one clock."""

    def __init__(
        self,
        settings: dict[str, str] | None = None,
        timings: Timings | None = None,
        limits: Limits | None = None,
        start: datetime = START,
    ) -> None:
        self.now = start
        self.azure = Azure(now=lambda: self.now, timings=timings or Timings(), limits=limits or SUPERSEDE)
        self.credential, self.transport = ClockCredential(self.azure.now), AzureTransport(self.azure)
        self.environment = SETTINGS | (settings or {})
        self.settings = read_settings(self.environment)
        self.topic = self.azure.create_topic(TOPIC)
        self.table = MemoryTable()
        self.queue = MemoryQueue(lambda: self.now)
        self.services = self.connect()
        self.errors: list[Exception] = []  # what steps raised and the host would log
        self._events_read = 0
        self.tick, self.sweep_every = timedelta(minutes=1), timedelta(minutes=5)
        self._next_sweep = start + self.sweep_every
        self.events_arrive = self.messages_arrive_in_sweeps = True
        self._sweeping = False

    def connect(self) -> Services:
        """A process of its own: its own clients, the same Azure, table and queues."""
        access = Session(self.settings, lambda: self.now, credential=self.credential, transport=self.transport)
        access.sleep = self._asleep
        return Services(
            self.settings,
            compute=ResourceManager(access),
            graph=ResourceGraph(access),
            ledger=Ledger(self.table, Outbox(lambda: self.now) if self.settings.notices else None),
            queue=self.queue,
            clock=lambda: self.now,
            topic=EventGridTopic(access) if self.settings.notices else None,
            jitter=lambda: 0.5,
            sleep=self._asleep,
        )

    async def _asleep(self, seconds: float) -> None:
        """While a sweep waits, the host goes on with messages: no sweep and no message holds up another one."""
        if not self._sweeping or not self.messages_arrive_in_sweeps:
            self.now += timedelta(seconds=seconds)
            return
        until, self._sweeping = self.now + timedelta(seconds=seconds), False
        while self.now < until:
            self.now = min(self.now + self.tick, until)
            await self.messages()
        self._sweeping = True

    # -- what people do

    def machine_id(self, name: str, group: str = "rg-web") -> MachineId:
        return MachineId(SUBSCRIPTION, group, name)

    def create(self, name: str, behaviour: Behaviour | None = None, **body: Any) -> MachineId:
        machine = self.machine_id(name)
        if behaviour:
            self.azure.behave(str(machine), behaviour)
        self.azure.create_machine(str(machine), vm_body(**body))
        return machine

    def delete(self, machine: MachineId) -> None:
        """A person begins its deletion."""
        self.azure.delete_machine(str(machine))

    def power(self, machine: MachineId, kind: str) -> None:
        """A person starts, deallocates or powers off the machine."""
        self.azure.start_operation(str(machine), kind, started_by="User")

    def set(self, **settings: str) -> None:
        """Other app settings: the Functions host restarts the app."""
        self.environment |= settings
        self.settings = read_settings(self.environment)
        self.services = self.connect()

    async def pause(self, reason: str, **columns: str) -> None:
        """The row of docs/stop.md."""
        await self.table.insert(APP, "pause", {"reason": reason, **columns})

    async def resume(self) -> None:
        row = await self.table.get(APP, "pause")
        assert row is not None
        await self.table.delete(row)

    async def close_breaker(self, opening: str, image: str = GALLERY, boundary: str = BOUNDARY, **columns: str) -> None:
        """Merges the column `closed` into the image's row, as docs/stop.md says."""
        row = await self.table.get(APP, image_key(place(image.lower(), boundary)))
        assert row is not None
        await self.table.replace(row, dict(row.columns) | {"closed": opening} | columns)

    # -- what the host does

    async def event(self, body: dict[str, Any], services: Services | None = None) -> None:
        """One event, as on_machine_written takes it. Raises what the step raises."""
        event = event_grid.event_in(body["eventType"], body["subject"], body["data"], at=body["eventTime"])
        if event:
            await assess.on_event(services or self.services, event)

    async def sweep(self, services: Services | None = None) -> None:
        self._sweeping = True
        try:
            await self._guarded(reconcile.run(services or self.services))
        finally:
            self._sweeping = False

    async def messages(self) -> None:
        """Every message that is visible now, once."""
        for kind in OperationKind:
            for message in self.queue.visible(QUEUES[kind]):
                await self._deliver(kind, message)
            poisoned = f"{QUEUES[kind]}-poison"
            for message in self.queue.visible(poisoned):
                if await self._guarded(poison.on_message(self.services, read_message(message.body), kind)):
                    self.queue.messages[poisoned].remove(message)
                else:
                    message.visible_at = self.now + timedelta(minutes=10)

    async def pass_time(self, **span: float) -> None:
        """Lets time pass by the tick: events, messages and sweeps come as they are due."""
        until = self.now + timedelta(**span)
        while self.now < until:
            self.now = min(self.now + self.tick, until)
            if self.events_arrive:
                await self.deliver_events()
            await self.messages()
            if self.now >= self._next_sweep:
                self._next_sweep = self.now + self.sweep_every
                await self.sweep()

    async def until(self, holds: Callable[[], bool | Awaitable[bool]], **at_most: float) -> None:
        """Lets time pass until something holds; fails when it does not in this time."""
        last = self.now + timedelta(**at_most)
        while not (await found if isinstance(found := holds(), Awaitable) else found):
            assert self.now < last, "it did not happen in this time"
            await self.pass_time(seconds=self.tick.total_seconds())

    async def until_queued(self, kind: OperationKind) -> None:
        """Lets time pass until a message of this kind lies in its queue."""
        self.messages_arrive_in_sweeps = False
        await self.until(lambda: bool(self.queue.messages[QUEUES[kind]]), hours=6)
        self.messages_arrive_in_sweeps = True

    def answer_from_python(self) -> None:
        """For scenarios of hours and days, in which the same few queries are asked hundreds of times.

        No query is evaluated: Python answers, and tests/simulation/test_graph.py holds it to the evaluator.
        """
        self.azure.graph = PredicateGraph(**vars(self.azure.graph))

    def in_steps(self, tick: timedelta, sweep_every: timedelta | None = None) -> None:
        """For the same, where fewer sweeps show it too."""
        self.tick, self.sweep_every = tick, sweep_every or tick
        self.answer_from_python()

    def in_long_steps(self) -> None:
        """For scenarios of days and weeks."""
        self.in_steps(timedelta(minutes=15), timedelta(hours=1))

    def fresh_events(self) -> list[dict[str, Any]]:
        """The events written since this was last asked."""
        fresh = self.azure.events[self._events_read :]
        self._events_read = len(self.azure.events)
        return fresh

    async def deliver_events(self) -> None:
        for body in self.fresh_events():
            await self._guarded(self.event(body))

    async def _deliver(self, kind: OperationKind, message: QueuedMessage) -> None:
        step = assess.on_message if kind is OperationKind.ASSESS else install.on_message
        message.attempts += 1
        waiting = self.queue.messages[QUEUES[kind]]
        if await self._guarded(step(self.services, read_message(message.body))):
            waiting.remove(message)
        elif message.attempts >= MAX_DEQUEUE_COUNT:
            waiting.remove(message)
            self.queue.put_poison(kind, message.body)
        else:
            message.visible_at = self.now + VISIBILITY_TIMEOUT

    async def _guarded(self, step: Any) -> bool:
        try:
            await step
        except (CloudError, SweepFailed) as error:
            self.errors.append(error)
            return False
        except LeftAlone as left_alone:  # completed, as function_app.py does
            journal.write("ledger.newer", problem=left_alone)
        return True

    # -- the state of the world

    async def record(self, machine: MachineId) -> Record | None:
        stored = await self.services.ledger.read(machine)
        return stored.record if stored else None

    async def records(self) -> list[Record]:
        return [item.record async for item in self.services.ledger.all() if not isinstance(item, LeftAlone)]

    async def states(self) -> dict[str, Step]:
        """The one state of every machine, by name."""
        self.table.outage = None
        return {machine.id.name: step for machine, step in await reconcile.fleet_states(self.services)}

    async def image(self, image: str = GALLERY, boundary: str = BOUNDARY) -> ImageRecord:
        """What the ledger remembers of an image."""
        return (await self.services.ledger.image(image.lower(), boundary)).record

    async def machine(self, machine: MachineId) -> Machine:
        return await self.services.compute.machine(machine)

    def operations(self, machine: MachineId | None = None, kind: str | None = None) -> list[Any]:
        return [
            operation
            for operation in self.azure.operations
            if operation.kind in ("assess", "install")
            and (machine is None or operation.machine.lower() == str(machine))
            and (kind is None or operation.kind == kind)
        ]

    def installed(self) -> list[str]:
        """The names of the machines that were installed, in order, as often as they were."""
        return [operation.machine.rsplit("/", 1)[-1] for operation in self.operations(kind="install")]

    def installing(self, when: datetime | None = None) -> list[str]:
        """The machines on which an installation runs."""
        running = [each for each in self.operations(kind="install") if each.runs_at(when or self.now)]
        return [operation.machine.rsplit("/", 1)[-1] for operation in running]

    def posts(self) -> list[Any]:
        return [request for request in self.azure.requests if request[1] == "POST" and "Patches" in request[2]]


def in_phase(kind: OperationKind, phase: Phase) -> Callable[[World, MachineId], Awaitable[None]]:
    """Lets time pass until the machine's row is of this kind and in this phase; fails after six hours."""

    async def until(world: World, machine: MachineId) -> None:
        async def there() -> bool:
            record = await world.record(machine)
            return record is not None and (record.kind, record.phase) == (kind, phase)

        await world.until(there, hours=6)

    return until


async def arm(azure: Azure, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """A call to ARM by an operator with every right, through the SDK's pipeline. Returns the JSON answer, if any."""
    from azure.core.rest import HttpRequest
    from azure.mgmt.compute.aio import ComputeManagementClient

    client = ComputeManagementClient(
        ClockCredential(azure.now), SUBSCRIPTION, transport=AzureTransport(azure), retry_total=0
    )
    answer = await client.send_request(HttpRequest(method, path, params={"api-version": "2024-11-01"}, json=body))
    answer.raise_for_status()
    return json.loads(answer.text()) if answer.text() else None


def vm_body(**changes: Any) -> dict[str, Any]:
    """A Linux machine from a gallery image, as a person would PUT it. `image`, `os`, `tags`, `location` may differ."""
    windows = changes.get("os") == "Windows"
    configuration: dict[str, Any] = {"provisionVMAgent": True} if windows else {"disablePasswordAuthentication": True}
    if "patch_settings" in changes:
        configuration["patchSettings"] = changes["patch_settings"]
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": "Standard_B2s"},
        "storageProfile": {
            "imageReference": changes.get("image", {"id": GALLERY}),
            "osDisk": {"osType": changes.get("os", "Linux"), "createOption": "FromImage"},
        },
        "osProfile": {
            "computerName": "web",
            "windowsConfiguration" if windows else "linuxConfiguration": configuration,
        },
    }
    if "availability_set" in changes:
        sets = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-web/providers/Microsoft.Compute/availabilitySets"
        properties["availabilitySet"] = {"id": f"{sets}/{changes['availability_set']}"}
    if "scale_set" in changes:
        properties["virtualMachineScaleSet"] = {"id": changes["scale_set"]}
    zones = {"zones": [changes["zone"]]} if "zone" in changes else {}
    return {
        **zones,
        "location": changes.get("location", "westeurope"),
        "tags": changes.get("tags", {}),
        "properties": properties,
    }
