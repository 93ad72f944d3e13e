"""The app's clients with their writing part taken away: whatever code runs with them, nothing changes."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, NoReturn

from functions.cloud.arm import ResourceManager
from functions.cloud.queue import Message, Poison, StorageQueues
from functions.cloud.tables import Change, Entity, Part, Row, Table
from functions.model.machine import Machine, MachineId
from functions.model.state import OperationKind
from functions.model.text import Json


class Forbidden(AssertionError):
    """A reading command reached for a writing call: a defect of this tool."""


class ReadOnlyTable:
    """A table of which every write loses: the answer is "another writer was first", and nothing is sent."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def get(self, partition: str, key: str) -> Row | None:
        return await self._table.get(partition, key)

    async def insert(self, partition: str, key: str, columns: Entity) -> Row | None:
        return None

    async def replace(self, row: Row, columns: Entity) -> Row | None:
        return None

    async def delete(self, row: Row) -> bool:
        return False

    async def transact(self, changes: Sequence[Change]) -> Sequence[Row | None] | None:
        return None

    async def scan(self) -> AsyncIterator[Row]:
        async for row in self._table.scan():
            yield row

    async def keys(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        async for row in self._table.keys(partition, prefix):
            yield row

    async def part(self, partition: str, first: str, end: str, *, columns: Sequence[str], most: int) -> Part:
        return await self._table.part(partition, first, end, columns=columns, most=most)


class ReadOnlyMachines(ResourceManager):
    """It reads machines and starts nothing."""

    async def start(self, machine: Machine, kind: OperationKind, *, order: Json | None, send_by: datetime) -> NoReturn:
        raise Forbidden(f"{kind.noun} of {machine.id}")

    async def power(self, machine: MachineId, action: Literal["start", "deallocate"], *, send_by: datetime) -> NoReturn:
        raise Forbidden(f"{action} of {machine}")


class ReadOnlyQueues(StorageQueues):
    """It counts messages and sends none."""

    async def waiting(self, name: str) -> Poison:
        """The messages of a queue, and since when the first that may be delivered now has been there. Raises Gone."""
        queue = self._queue(name)
        async with self._session.call("reading a queue"):
            count = (await queue.get_queue_properties()).approximate_message_count or 0
            seen = await queue.peek_messages(1) if count else []
        return Poison(name, count, seen[0].inserted_on if seen else None)

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> NoReturn:
        raise Forbidden(f"a message for an {kind.noun} of {message.machine}")
