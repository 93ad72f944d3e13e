"""The work queues and their messages: a machine's id and a claim.

The step that receives a message reads the machine afresh. The content is wrapped in `job`, because the worker merges
top-level members of a JSON body into the queue's own metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from functions.cloud import event_grid
from functions.cloud.errors import Gone
from functions.cloud.session import Session
from functions.model.machine import MachineId
from functions.model.state import OperationKind
from functions.model.text import BadInput, quoted

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueClient

VERSION = 1
QUEUES = {OperationKind.ASSESS: "assess-requests", OperationKind.INSTALL: "install-requests"}
# The Functions host moves a message that failed five times into the queue of this name.
POISON_QUEUES = tuple(f"{name}-poison" for name in (*QUEUES.values(), event_grid.QUEUE))
MAX_DELAY_SECONDS = 6 * 24 * 3600  # must be less than a message's lifetime of seven days


@dataclass(frozen=True)
class Message:
    """One claim on one machine."""

    machine: MachineId
    claim: str

    def body(self) -> str:
        return json.dumps({"v": VERSION, "job": {"machine": str(self.machine), "claim": self.claim}})


class NewerMessage(Exception):
    """A message written by a newer version of the app: left alone and reported."""


@dataclass(frozen=True)
class Poison:
    """The messages in a poison queue. `since`: when the oldest was written; None while no message is visible."""

    queue: str
    count: int
    since: datetime | None


class WorkQueue(Protocol):
    """A queue per kind of operation, each with its poison queue."""

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> None:
        """Sends a message that becomes visible after `delay_seconds`, at most six days."""
        ...

    async def poison(self) -> list[Poison]:
        """The poison queues that hold messages."""
        ...


def read_message(body: str) -> Message:
    """Parses the body of a queue message. Raises BadInput or NewerMessage."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # the second: brackets nested thousands deep
        raise BadInput(f"a message is not JSON: {quoted(body)}") from None
    version = content.get("v") if isinstance(content, Mapping) else None
    if isinstance(version, int) and version > VERSION:
        raise NewerMessage(f"a message has version {str(version)[:20]}; this app reads {VERSION}")
    job = content.get("job") if isinstance(content, Mapping) else None
    if version != VERSION or not isinstance(job, Mapping):
        raise BadInput('a message should read {"v": 1, "job": {"machine": "<id>", "claim": "<token>"}}')
    claim = job.get("claim")
    if not isinstance(claim, str) or not claim:
        raise BadInput(f"a message's job.claim is {quoted(claim)}; it should be the token of a claim")
    return Message(MachineId.parse(job.get("machine")), claim)


class StorageQueues:
    """The queues in the storage account of the Functions host. Raises the exceptions of cloud/errors.py."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clients: dict[str, QueueClient] = {}

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> None:
        delay = min(max(int(delay_seconds), 0), MAX_DELAY_SECONDS)
        async with self._session.call("sending a queue message"):
            await self._queue(QUEUES[kind]).send_message(message.body(), visibility_timeout=delay)

    async def poison(self) -> list[Poison]:
        found = []
        for name in POISON_QUEUES:
            queue = self._queue(name)
            try:
                async with self._session.call("reading a poison queue"):
                    count = (await queue.get_queue_properties()).approximate_message_count
                    seen = await queue.peek_messages(1) if count else []
            except Gone:  # the host creates the queue with its first poison message
                continue
            if count:
                found.append(Poison(name, count, seen[0].inserted_on if seen else None))
        return found

    def _queue(self, name: str) -> QueueClient:
        if name not in self._clients:
            from azure.storage.queue import TextBase64EncodePolicy
            from azure.storage.queue.aio import QueueClient

            self._clients[name] = QueueClient(
                self._session.settings.queue_endpoint,
                name,
                message_encode_policy=TextBase64EncodePolicy(),
                initial_backoff=1,  # seconds; the SDK's default of 15 would exceed Event Grid's time-out
                increment_base=2,
                **self._session.storage_options(),
            )
        return self._clients[name]
