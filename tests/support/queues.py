"""The work queues in memory: the one double of Azure Queue Storage, held to the contract suite of the real one
(tests/contract/test_work_queue.py).

Left out: a message's expiry after seven days, and the host's five attempts, which belong to whatever plays the host.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from functions.cloud.errors import CloudError, Gone
from functions.cloud.queue import MAX_DELAY_SECONDS, POISON_QUEUES, QUEUES, Message, Poison
from functions.model.state import OperationKind


@dataclass(eq=False)  # two messages may have the same body
class QueuedMessage:
    """A message that lies in a queue. `attempts` is for whatever plays the host."""

    body: str
    inserted_at: datetime
    visible_at: datetime
    attempts: int = 0


Hook = Callable[[str], Awaitable[None]]  # with "send" or "poison"
# What becomes of a message on its way: (body, delay in seconds) of each copy that arrives.
Transit = Callable[[str, str, float], Iterable[tuple[str, float]]]


async def _nothing(operation: str) -> None: ...


def unharmed(queue: str, body: str, delay_seconds: float) -> Iterable[tuple[str, float]]:
    """One copy. Storage counts a delay in whole seconds, up to the life of a message."""
    return [(body, min(max(int(delay_seconds), 0), MAX_DELAY_SECONDS))]


def _unnoticed(queue: str, message: QueuedMessage) -> None: ...


@dataclass
class MemoryQueue:
    """Two work queues, and their poison queues once they have had a message.

    `before` runs ahead of each operation, `after` once it has taken effect; the caller sees what they raise. While
    `outage` is set, each operation raises it. `arrived` hears of each message that is put into a queue.
    """

    clock: Callable[[], datetime]
    messages: dict[str, list[QueuedMessage]] = field(default_factory=lambda: {name: [] for name in QUEUES.values()})
    before: Hook = _nothing
    after: Hook = _nothing
    transit: Transit = unharmed
    arrived: Callable[[str, QueuedMessage], None] = _unnoticed
    outage: CloudError | None = None

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> None:
        await self._begin("send")
        for body, delay in self.transit(QUEUES[kind], message.body(), delay_seconds):
            self.put(QUEUES[kind], body, delay)
        await self.after("send")

    async def poison(self) -> list[Poison]:
        await self._begin("poison")
        found, now = [], self.clock()
        for name in POISON_QUEUES:
            lying = self.messages.get(name, [])
            seen = [message.inserted_at for message in lying if message.visible_at <= now]
            if lying:
                found.append(Poison(name, len(lying), min(seen, default=None)))
        await self.after("poison")
        return found

    def put(self, queue: str, body: str, delay_seconds: float = 0) -> None:
        """A message into a queue that exists. Raises Gone if it does not."""
        if queue not in self.messages:
            raise Gone("sending a queue message: not found")
        now = self.clock()
        message = QueuedMessage(body, now, now + timedelta(seconds=delay_seconds))
        self.messages[queue].append(message)
        self.arrived(queue, message)

    def put_poison(self, kind: OperationKind, body: str) -> None:
        """What the host does with a message that failed five times."""
        name = f"{QUEUES[kind]}-poison"
        self.messages.setdefault(name, [])
        self.put(name, body)

    def visible(self, queue: str) -> list[QueuedMessage]:
        return [message for message in self.messages.get(queue, []) if message.visible_at <= self.clock()]

    def receive(self, queue: str, hide_seconds: float = 0) -> list[str]:
        """The body of every visible message. They are hidden for a while, or taken out with 0."""
        found = self.visible(queue)
        for message in found:
            if hide_seconds:
                message.visible_at = self.clock() + timedelta(seconds=hide_seconds)
            else:
                self.messages[queue].remove(message)
        return [message.body for message in found]

    def through(self, before: Hook, after: Hook) -> "MemoryQueue":
        """The same messages, reached by a process with hooks of its own."""
        return replace(self, before=before, after=after)

    async def _begin(self, operation: str) -> None:
        if self.outage:
            raise self.outage
        await self.before(operation)
