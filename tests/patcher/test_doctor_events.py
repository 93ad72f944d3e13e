"""What the doctor says of the path of events, over good and broken deployments, by function and by queue.

Factors: the path; whether its subscription exists and leads here; the topic's right; what lies in the queues.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.queue import TextBase64EncodePolicy
from azure.storage.queue.aio import QueueClient

from functions.cloud import event_grid
from patcher import commands
from patcher.connection import Words, connected
from patcher.questions import doctor
from patcher.questions.check import Check
from simulator import identity
from simulator.__main__ import told_to_patcher
from simulator.arm import shapes
from simulator.deployment import Snapshots
from simulator.deployment.snapshots import Change
from simulator.embedded import Embedded
from simulator.functions_host import elsewhere
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from simulator.wire import Json

POISON = f"{event_grid.QUEUE}-poison"
SENDER = "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a"  # Storage Queue Data Message Sender
RECEIVER = elsewhere.at("http://127.0.0.1:9", "", ["on_machine_written"])  # nothing is delivered to it here
Then = Callable[[Embedded], Awaitable[None]]


@asynccontextmanager
async def queue(embedded: Embedded, name: str) -> AsyncIterator[QueueClient]:
    credential, policy = identity.StaticCredential(identity.STORAGE), TextBase64EncodePolicy()
    url = embedded.account.queue_url
    async with QueueClient(
        url, name, credential=credential, message_encode_policy=policy, use_env_settings=False
    ) as client:
        yield client


@asynccontextmanager
async def deployed(tls: Tls, azurite: Azurite, name: str, *, change: Change | None = None) -> AsyncIterator[Embedded]:
    snapshots = Snapshots.read(name).changed(change) if change else Snapshots.read(name)
    async with Embedded(deployment=snapshots, tls=tls, azurite=azurite) as embedded:
        embedded.azure.create_machine(shapes.machine_id("vm-01"), shapes.machine())
        async with told_to_patcher(embedded):
            yield embedded


async def subscribed(embedded: Embedded) -> None:
    await embedded.subscribe(RECEIVER)


async def never_subscribed(embedded: Embedded) -> None:
    """The second phase of the deployment was left out."""


def without_sender(resources: list[Json]) -> None:
    resources[:] = [each for each in resources if SENDER not in str(each)]


def to_another_queue(resources: list[Json]) -> None:
    for each in resources:
        if each["type"].endswith("/eventSubscriptions"):
            place = each["properties"]["deliveryWithResourceIdentity"]["destination"]["properties"]
            place["queueName"] = "assess-requests"


async def to_another_app(embedded: Embedded) -> None:
    await subscribed(embedded)
    there = f"{shapes.SUBSCRIPTION}/resourceGroups/other/providers/Microsoft.Web/sites/x/functions/on_machine_written"
    for properties in embedded.azure.world.event_subscriptions.values():
        properties["destination"]["properties"]["resourceId"] = f"/subscriptions/{there}"


async def topic_without_identity(embedded: Embedded) -> None:
    await subscribed(embedded)
    world = embedded.azure.world
    world.system_topics = [replace(each, principal_id="") for each in world.system_topics]


async def failed_five_times(embedded: Embedded) -> None:
    await subscribed(embedded)
    async with queue(embedded, POISON) as client:
        await client.send_message("{}")


async def queue_deleted(embedded: Embedded) -> None:
    await subscribed(embedded)
    async with queue(embedded, event_grid.QUEUE) as client:
        await client.delete_queue()


HERE = "an event subscription points at this app"
NOWHERE = "no event subscription points at this app"
# deployment, its change, what follows → check, verdict, what was found
PATHS: dict[str, tuple[str, Change | None, Then, str, str, str]] = {
    "the function": ("default", None, subscribed, "events", "ok", HERE),
    "the function, never subscribed": ("default", None, never_subscribed, "events", "bad", NOWHERE),
    "a function elsewhere": ("default", None, to_another_app, "events", "bad", NOWHERE),
    "the queue": ("queue", None, subscribed, "events", "ok", f"{HERE}, by its queue {event_grid.QUEUE}"),
    "the queue, never subscribed": ("queue", None, never_subscribed, "events", "bad", NOWHERE),
    "a queue that nothing reads": ("queue", to_another_queue, subscribed, "events", "bad", NOWHERE),
    "the right to send": ("queue", None, subscribed, "sender", "ok", "the topic's identity may write"),
    "no right to send": ("queue", without_sender, subscribed, "sender", "bad", "the topic's identity may not write"),
    "no identity": ("queue", None, topic_without_identity, "sender", "bad", "the topic has no identity"),
    "an empty queue": ("queue", None, subscribed, "queues", "ok", f"{event_grid.QUEUE} holds 0 messages"),
    "no queue": ("queue", None, queue_deleted, "queues", "bad", f"{event_grid.QUEUE} does not exist"),
    "poison": ("queue", None, failed_five_times, "poison", "bad", f"{POISON} holds 1 messages"),
}


@pytest.mark.parametrize("row", PATHS)
async def test_what_the_doctor_says_of_the_path(
    tls: Tls, azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    deployment, change, then, check, verdict, detail = PATHS[row]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with deployed(tls, azurite, deployment, change=change) as embedded:
        await then(embedded)
        checks = await said()
    found = [each for each in checks if each["check"].startswith(check) and detail in each["detail"]]
    assert [each["verdict"] for each in found] == [verdict], checks
    assert bool(found[0]["remedy"]) == (verdict == "bad")
    assert not [each for each in checks if each["verdict"] == "not checked"]


async def said() -> list[dict[str, str]]:
    out = io.StringIO()
    with redirect_stdout(out):
        await asyncio.to_thread(commands.main, ["--simulator", "doctor", "--json"])
    found: list[dict[str, str]] = json.loads(out.getvalue())["result"]["checks"]
    return found


async def test_by_the_function_no_right_to_send_is_looked_for(
    tls: Tls, azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with deployed(tls, azurite, "default") as embedded:
        await subscribed(embedded)
        checks = await said()
    assert not [each for each in checks if each["check"].startswith("sender")]


# how long an event has waited → verdict
WAITED = {"minutes": (timedelta(minutes=50), "ok", ""), "hours": (timedelta(hours=2), "bad", "on_machine_message")}


@pytest.mark.parametrize(("waited", "verdict", "remedy"), WAITED.values(), ids=WAITED)
async def test_a_queue_that_does_not_drain_names_its_function(
    tls: Tls,
    azurite: Azurite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    waited: timedelta,
    verdict: str,
    remedy: str,
) -> None:
    """A real message, and the tool's clock is moved."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with deployed(tls, azurite, "queue") as embedded:
        async with queue(embedded, event_grid.QUEUE) as client:
            await client.send_message("{}")
        async with connected(Words(simulator=True)) as app:
            later = replace(app, services=replace(app.services, clock=lambda: datetime.now(UTC) + waited))
            found: list[Check] = [each async for each in doctor._queues(later)]
    (check,) = [each for each in found if each.detail.startswith(f"{event_grid.QUEUE} holds 1")]
    assert check.verdict == verdict
    assert (remedy in check.remedy) if remedy else not check.remedy
