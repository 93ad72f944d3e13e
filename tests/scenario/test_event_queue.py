"""Events by a storage queue: the deployment that no address can call (infra/snapshots/queue.*).

Event Grid writes to the queue with its topic's identity, and the host's queue trigger starts the same step as the
webhook does. Real storage, real TLS, the app's own bindings, as in test_whole_chain.py.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from functions.cloud import event_grid
from simulator import identity
from simulator.arm import shapes
from simulator.azure import Behaviour, Limits
from simulator.deployment import Snapshots
from simulator.deployment.snapshots import Change
from simulator.embedded import Embedded
from simulator.event_grid.events import as_cloud_event
from simulator.event_grid.subscriptions import Schema
from simulator.functions_host import FunctionsHost
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from simulator.wire import Json
from tests.scenario.test_whole_chain import BY_HAND, HOST_SCALE, INSTALL, check_what_is_logged
from tests.support.world import REAL_TIME

MAX_SECONDS = 120.0  # far beyond what a busy machine needs
SENDER = "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a"  # Storage Queue Data Message Sender


@dataclass
class Deployed:
    """One deployment with a queue, its host, and what people do."""

    embedded: Embedded
    host: FunctionsHost

    def create(self, name: str) -> str:
        machine = shapes.machine_id(name)
        self.embedded.azure.behave(machine, Behaviour(support_state="Supported"))
        self.embedded.azure.create_machine(machine, shapes.machine())
        return machine

    def kinds(self, machine: str) -> list[str]:
        return [each.kind for each in self.embedded.azure.operations if each.machine.lower() == machine.lower()]

    def written(self) -> Json:
        """The event about the machine that was written last."""
        name = "Microsoft.Compute/virtualMachines/write"
        return [event for event in self.embedded.azure.events if event["data"]["operationName"] == name][-1]

    def journal(self, event: str) -> list[Json]:
        lines = [json.loads(each.message) for each in self.host.traces if each.category.endswith(".User")]
        return [line for line in lines if line["event"] == event]

    def ran(self, function: str) -> list[bool | None]:
        return [each.ok for each in self.host.invocations if each.function == function and each.ok is not None]

    @asynccontextmanager
    async def queue(self, name: str) -> AsyncIterator[QueueClient]:
        credential = identity.StaticCredential(identity.STORAGE)
        policy = TextBase64EncodePolicy()
        async with QueueClient(
            self.embedded.account.queue_url,
            name,
            credential=credential,
            message_encode_policy=policy,
            use_env_settings=False,
        ) as client:
            yield client

    async def send(self, text: str, queue: str = event_grid.QUEUE) -> None:
        async with self.queue(queue) as client:
            await client.send_message(text)

    async def left(self) -> dict[str, int]:
        """How many messages each queue of events holds, hidden ones included."""
        found = {}
        for name in (event_grid.QUEUE, f"{event_grid.QUEUE}-poison"):
            async with self.queue(name) as client:
                found[name] = (await client.get_queue_properties()).approximate_message_count or 0
        return found

    async def drained(self) -> None:
        async with asyncio.timeout(MAX_SECONDS):
            while any((await self.left()).values()):  # noqa: ASYNC110  (the world signals nothing)
                await asyncio.sleep(0.1)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(MAX_SECONDS):
        while not condition():  # noqa: ASYNC110  (the world signals nothing)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def deployed(
    tls: Tls, azurite: Azurite, change: Change | None = None, **settings: str
) -> AsyncIterator[Deployed]:
    deployment = Snapshots.read("queue").changed(change) if change else "queue"
    embedded = Embedded(deployment=deployment, timings=REAL_TIME, limits=Limits().scaled(100), tls=tls, azurite=azurite)
    async with embedded:
        chosen = INSTALL | {"PATCH_MODE": "assess", "RECONCILE_SCHEDULE": BY_HAND} | settings
        host = await embedded.host(embedded.settings(**chosen), time_scale=HOST_SCALE)
        yield Deployed(embedded, host)
    check_what_is_logged([host])


def sender_lost(resources: list[Json]) -> None:
    """The role at the queue was never assigned."""
    resources[:] = [each for each in resources if SENDER not in str(each)]


SCHEMAS: list[Schema] = ["EventGridSchema", "CloudEventSchemaV1_0"]


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_an_event_in_the_queue_starts_the_assessment(tls: Tls, azurite: Azurite, schema: Schema) -> None:
    async with deployed(tls, azurite) as it:
        await it.embedded.subscribe(it.host, schema)
        machine = it.create("vm-01")
        await until(lambda: it.kinds(machine) == ["assess"])
        await it.drained()
        assert {each.status for each in it.embedded.event_grid.attempts} == {201}
        assert it.ran("on_machine_written") == []
        assert not it.embedded.deployed.plan.site.admits_event_grid, "no address can call the app"
        assert set(it.ran("on_machine_message")) == {True}


async def test_an_event_that_comes_often_and_by_both_paths_counts_once(tls: Tls, azurite: Azurite) -> None:
    """While a deployment moves from one path to the other, both may be in use."""
    async with deployed(tls, azurite) as it:
        machine = it.create("vm-01")
        event = it.written()
        by_webhook = it.host.event_url + f"?functionName=on_machine_written&code={it.host.system_key}"
        headers = {"aeg-event-type": "Notification"}
        post = it.embedded.deployed.session.post

        async def call() -> int:
            async with post(by_webhook, json=[event], headers=headers) as answer:
                return answer.status

        sent = [it.send(json.dumps(each)) for each in (event, as_cloud_event(event), event)]
        calls = asyncio.gather(call(), call())
        await asyncio.gather(*sent)
        await it.drained()
        await until(lambda: it.kinds(machine))
        assert list(await calls) == [202, 202]
        assert len(it.ran("on_machine_message")) == 3
        assert it.kinds(machine) == ["assess"]


MALFORMED: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "an event is not JSON"),
    "an array": ("[]", "it should be an object"),
    "no type": ("{}", "an event's type is"),
    "no data": ('{"eventType": "Microsoft.Resources.ResourceWriteSuccess"}', "an event's data is"),
    "a dead letter without its machine": (
        '{"eventType": "Microsoft.Resources.ResourceWriteSuccess", "subject": "x", '
        '"data": {"operationName": "Microsoft.Compute/virtualMachines/write"}}',
        "x",
    ),
}


async def test_an_event_that_cannot_be_read_is_one_line_and_stops_no_other(tls: Tls, azurite: Azurite) -> None:
    async with deployed(tls, azurite) as it:
        for text, _ in MALFORMED.values():
            await it.send(text)
        machine = it.create("vm-01")
        await it.send(json.dumps(it.written()))
        await until(lambda: it.kinds(machine) == ["assess"])
        await it.drained()
        problems = [line["problem"] for line in it.journal("message.malformed")]
        assert len(problems) == len(MALFORMED)
        for name, (_, expected) in MALFORMED.items():
            assert any(expected in problem for problem in problems), name
        assert set(it.ran("on_machine_message")) == {True}, "none is delivered again"


async def test_an_event_that_fails_five_times_is_reported_and_the_sweep_finds_its_machine(
    tls: Tls, azurite: Azurite
) -> None:
    async with deployed(tls, azurite) as it:
        machine = it.create("vm-01")
        await it.send(json.dumps(it.written()), queue=f"{event_grid.QUEUE}-poison")
        await it.drained()
        [line] = it.journal("message.poisoned")
        assert line["machine"].lower() == machine.lower()
        assert it.kinds(machine) == []
        await it.host.run_timer("on_reconcile")
        await until(lambda: it.kinds(machine) == ["assess"])


async def test_without_its_role_the_topic_writes_dead_letters(tls: Tls, azurite: Azurite) -> None:
    """A 403 of an Azure resource is not tried again (tests/recordings/event_grid_delivery.json)."""
    async with deployed(tls, azurite, sender_lost) as it:
        await it.embedded.subscribe(it.host)
        machine = it.create("vm-01")
        grid = it.embedded.event_grid
        await until(lambda: grid.dead_letters)
        assert {(each.status, each.number) for each in grid.attempts} == {(403, 1)}
        assert {each["lastDeliveryOutcome"] for each in grid.dead_letters} == {"Forbidden"}
        assert (await it.left())[event_grid.QUEUE] == 0
        await it.host.run_timer("on_reconcile")
        await until(lambda: it.kinds(machine) == ["assess"])


def untrusting(resources: list[Json]) -> None:
    """The account lets no trusted service in."""
    for each in resources:
        if each["type"] == "Microsoft.Storage/storageAccounts":
            each["properties"]["networkAcls"]["bypass"] = "None"


async def test_behind_a_firewall_event_grid_is_let_in_as_a_trusted_service_only(tls: Tls, azurite: Azurite) -> None:
    async with deployed(tls, azurite, untrusting) as it:
        await it.embedded.subscribe(it.host)
        machine = it.create("vm-01")
        grid = it.embedded.event_grid
        await until(lambda: grid.dropped)
        assert {each.status for each in grid.attempts} == {403}
        await it.host.run_timer("on_reconcile")
        await until(lambda: it.kinds(machine) == ["assess"])
