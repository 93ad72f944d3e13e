"""The work queues, and what a message is: a name and a claim, wrapped so that nothing can overwrite the queue's own
metadata (the worker merges top-level members of a JSON body into it).

The step that receives a message reads the machine afresh.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from functions.cloud.errors import Gone
from functions.cloud.session import Session
from functions.model.machine import MachineId
from functions.model.state import OperationKind
from functions.model.text import BadInput, quoted

VERSION = 1


QUEUES = {OperationKind.ASSESS: "assess-requests", OperationKind.INSTALL: "install-requests"}


MAX_DELAY_SECONDS = 6 * 24 * 3600  # a message may stay invisible for less than its seven days of life


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
    """What lies in a poison queue. `since` is None when the oldest message cannot be seen at the moment."""

    queue: str
    count: int
    since: datetime | None


class WorkQueue(Protocol):
    """Two queues of messages, and the look into their poison queues."""

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> None: ...

    async def poison(self) -> list[Poison]: ...


def read_message(body: str) -> Message:
    """A message from a queue. Raises BadInput, or NewerMessage."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):  # the second: brackets within brackets, thousands deep
        raise BadInput(f"a message is no JSON: {quoted(body)}") from None
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
    """The queues of the storage account of the Functions host."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clients: dict[str, Any] = {}

    async def send(self, kind: OperationKind, message: Message, delay_seconds: float) -> None:
        delay = min(max(int(delay_seconds), 0), MAX_DELAY_SECONDS)
        async with self._session.call("sending a queue message"):
            await self._queue(QUEUES[kind]).send_message(message.body(), visibility_timeout=delay)

    async def poison(self) -> list[Poison]:
        found = []
        for name in QUEUES.values():
            queue = self._queue(f"{name}-poison")
            try:
                async with self._session.call("looking into a poison queue"):
                    count = (await queue.get_queue_properties()).approximate_message_count
                    seen = await queue.peek_messages(1) if count else []
            except Gone:  # the host makes the queue with its first poison message
                continue
            if count:
                found.append(Poison(f"{name}-poison", count, seen[0].inserted_on if seen else None))
        return found

    def _queue(self, name: str) -> Any:
        if name not in self._clients:
            from azure.storage.queue import TextBase64EncodePolicy
            from azure.storage.queue.aio import QueueClient

            self._clients[name] = QueueClient(
                self._session.settings.queue_endpoint,
                name,
                message_encode_policy=TextBase64EncodePolicy(),
                initial_backoff=1,  # the SDK's own 15 s would outlast Event Grid's patience
                increment_base=2,
                **self._session.storage_options(),
            )
        return self._clients[name]
