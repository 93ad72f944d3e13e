"""One suite for the work queues: the one in memory that tests use, and Azure Queue Storage (Azurite).

What a message looks like to its receiver, that a delay hides it, and what is seen of a poison queue that is there,
read at the moment, or not made yet. The raw text on the wire is read without the SDK's decoding: the host reads
base64 (host.json).
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from functions.cloud.errors import CloudError, Gone
from functions.cloud.queue import MAX_DELAY_SECONDS, QUEUES, Message, StorageQueues, WorkQueue, read_message
from functions.cloud.session import Session
from functions.model.state import OperationKind
from simulator.identity import StaticCredential
from simulator.storage.azurite import Azurite, StorageAccount
from tests.support import NOW, machine_id, settings
from tests.support.queues import MemoryQueue

SHORT_DELAY_SECONDS = 5


class Stand(Protocol):
    """The queue as the app sees it, and what the host and time do to it."""

    queue: WorkQueue

    async def receive(self, queue: str, hide_seconds: int = 0) -> list[str]: ...

    async def put_poison(self, kind: OperationKind, body: str) -> None: ...

    async def drop(self, queue: str) -> None: ...

    async def wait(self, seconds: float) -> None: ...

    def now(self) -> datetime: ...


class MemoryStand:
    def __init__(self) -> None:
        self.time = NOW
        self.memory = MemoryQueue(lambda: self.time)
        self.queue: WorkQueue = self.memory

    async def receive(self, queue: str, hide_seconds: int = 0) -> list[str]:
        return self.memory.receive(queue, hide_seconds)

    async def put_poison(self, kind: OperationKind, body: str) -> None:
        self.memory.put_poison(kind, body)

    async def drop(self, queue: str) -> None:
        del self.memory.messages[queue]

    async def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def now(self) -> datetime:
        return self.time


@dataclass
class StorageStand:
    account: StorageAccount
    queue: WorkQueue
    credential: Any = field(default_factory=StaticCredential)

    def client(self, queue: str) -> QueueClient:
        return QueueClient(self.account.queue_url, queue, credential=self.credential)

    async def receive(self, queue: str, hide_seconds: int = 0) -> list[str]:
        async with self.client(queue) as client:
            bodies = []
            async for message in client.receive_messages(visibility_timeout=hide_seconds or 30):
                bodies.append(base64.b64decode(message.content, validate=True).decode())
                if not hide_seconds:
                    await client.delete_message(message)
            return bodies

    async def put_poison(self, kind: OperationKind, body: str) -> None:
        async with self.client(f"{QUEUES[kind]}-poison") as client:
            with suppress(ResourceExistsError):
                await client.create_queue()
            await client.send_message(base64.b64encode(body.encode()).decode())

    async def drop(self, queue: str) -> None:
        async with self.client(queue) as client:
            await client.delete_queue()

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> datetime:
        return datetime.now(UTC)


@asynccontextmanager
async def storage(azurite: Azurite) -> AsyncIterator[StorageStand]:
    account = azurite.fresh_account()
    credential = StaticCredential()
    async with QueueServiceClient(account.queue_url, credential=credential) as service:
        for name in QUEUES.values():
            await service.create_queue(name)
    environ = {name: value for name, value in account.settings().items() if name.endswith("Uri")}
    access = Session(settings(**environ), lambda: NOW, credential=credential)
    try:
        yield StorageStand(account, StorageQueues(access))
    finally:
        await access.close()


@pytest.fixture(params=["memory", "azurite"])
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    if request.param == "memory":
        yield MemoryStand()
        return
    async with storage(request.getfixturevalue("azurite")) as real:
        yield real


MESSAGE = Message(machine_id(), "token-1")


@pytest.mark.parametrize("kind", OperationKind)
async def test_a_message_arrives_in_the_queue_of_its_kind_and_in_no_other(stand: Stand, kind: OperationKind) -> None:
    await stand.queue.send(kind, MESSAGE, 0)
    arrived = {name: await stand.receive(name) for name in QUEUES.values()}
    assert arrived == {name: [MESSAGE.body()] if name == QUEUES[kind] else [] for name in QUEUES.values()}


async def test_what_arrives_can_be_read_again(stand: Stand) -> None:
    message = Message(machine_id("größe-1"), 'token "2"')
    await stand.queue.send(OperationKind.ASSESS, message, 0)
    [body] = await stand.receive(QUEUES[OperationKind.ASSESS])
    assert read_message(body) == message


async def test_many_messages_at_once(stand: Stand) -> None:
    sent = [Message(machine_id(f"vm-{number}"), str(number)) for number in range(20)]
    await asyncio.gather(*(stand.queue.send(OperationKind.INSTALL, message, 0) for message in sent))
    bodies = await stand.receive(QUEUES[OperationKind.INSTALL])
    assert sorted(bodies) == sorted(message.body() for message in sent)


async def test_a_delay_hides_a_message_until_it_is_over(stand: Stand) -> None:
    await stand.queue.send(OperationKind.INSTALL, MESSAGE, 3600)
    sent_at = stand.now()
    await stand.queue.send(OperationKind.ASSESS, MESSAGE, SHORT_DELAY_SECONDS)
    received = await _first_received(stand, QUEUES[OperationKind.ASSESS])
    assert stand.now() - sent_at > timedelta(seconds=SHORT_DELAY_SECONDS - 1)  # storage cuts the part of a second
    assert received == [MESSAGE.body()]
    assert await stand.receive(QUEUES[OperationKind.INSTALL]) == []


async def _first_received(stand: Stand, queue: str) -> list[str]:
    for _ in range(200):  # 100 s at most, for a message that never comes
        if received := await stand.receive(queue):
            return received
        await stand.wait(0.5)
    raise AssertionError(f"no message in {queue}")


@pytest.mark.parametrize("seconds", [-5, 0, 0.4])
async def test_a_delay_below_a_second_is_none(stand: Stand, seconds: float) -> None:
    await stand.queue.send(OperationKind.ASSESS, MESSAGE, seconds)
    assert await stand.receive(QUEUES[OperationKind.ASSESS]) == [MESSAGE.body()]


async def test_a_delay_beyond_the_life_of_a_message_is_cut(stand: Stand) -> None:
    """A queue refuses a visibility timeout of seven days; the claim in the ledger says when it is due."""
    await stand.queue.send(OperationKind.ASSESS, MESSAGE, 30 * 24 * 3600)
    assert await stand.receive(QUEUES[OperationKind.ASSESS]) == []
    assert MAX_DELAY_SECONDS < 7 * 24 * 3600


async def test_a_missing_queue_is_an_error(stand: Stand) -> None:
    await stand.drop(QUEUES[OperationKind.ASSESS])
    with pytest.raises(CloudError) as caught:
        await stand.queue.send(OperationKind.ASSESS, MESSAGE, 0)
    assert isinstance(caught.value, Gone)
    assert "sending a queue message" in str(caught.value)


async def test_no_poison_queue_means_no_poison(stand: Stand) -> None:
    assert await stand.queue.poison() == []


async def test_an_empty_poison_queue_means_no_poison(stand: Stand) -> None:
    await stand.put_poison(OperationKind.ASSESS, "x")
    assert await stand.receive(f"{QUEUES[OperationKind.ASSESS]}-poison") == ["x"]
    assert await stand.queue.poison() == []


async def test_poison_is_counted_and_dated_queue_by_queue(stand: Stand) -> None:
    before = stand.now() - timedelta(seconds=2)  # storage cuts the part of a second
    await stand.put_poison(OperationKind.INSTALL, "one")
    await stand.put_poison(OperationKind.INSTALL, "two")
    await stand.put_poison(OperationKind.ASSESS, "three")
    found = {item.queue: item for item in await stand.queue.poison()}
    assert {name: item.count for name, item in found.items()} == {
        "assess-requests-poison": 1,
        "install-requests-poison": 2,
    }
    for item in found.values():
        assert item.since is not None
        assert before <= item.since <= stand.now()


async def test_poison_that_a_client_reads_at_the_moment_is_counted_and_not_dated(stand: Stand) -> None:
    await stand.put_poison(OperationKind.INSTALL, "one")
    await stand.receive("install-requests-poison", hide_seconds=60)
    [item] = await stand.queue.poison()
    assert (item.count, item.since) == (1, None)


async def test_looking_at_poison_takes_nothing_away(stand: Stand) -> None:
    await stand.put_poison(OperationKind.INSTALL, "one")
    assert await stand.queue.poison() == await stand.queue.poison()
    assert await stand.receive("install-requests-poison") == ["one"]


async def test_both_hold_the_protocol() -> None:
    names = {name for name in vars(WorkQueue) if not name.startswith("_")}
    for implementation in (MemoryQueue, StorageQueues):
        assert names <= set(dir(implementation))
