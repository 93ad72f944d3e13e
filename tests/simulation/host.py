"""One process of the app under faults: its services lead to the shared world, and each call through one of them may
fail, wait, or be the last of the process.

A killed process does nothing more: its tasks are cancelled, and its services are shut, so that not even a `finally`
gets anything out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from functions.cloud.arm import ResourceManager
from functions.cloud.errors import Unavailable
from functions.cloud.ledger import Ledger
from functions.cloud.notices import EventGridTopic, Outbox
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.session import Session
from functions.policy.settings import Settings
from functions.services import Services
from simulator.event_grid.topic import PATH
from simulator.transport import AzureTransport, SdkResponse
from simulator.wire import Response
from tests.support.process import Killed, Side
from tests.support.tables import TableCall

if TYPE_CHECKING:
    from tests.simulation.world import SeededWorld

T = TypeVar("T")

PAUSE_SECONDS = (60, 1200)
SLOW_SECONDS = (0.1, 20)
SILENCE_SECONDS = 40  # READ_SECONDS of functions/cloud/session.py


@dataclass(eq=False)
class StepRun:
    """One run of a step, and what it has read so far."""

    name: str
    begun: datetime
    claim: str = ""
    reads: dict[str, datetime] = field(default_factory=dict)  # machine → when its instance view was read last
    throttled: tuple[datetime, float] | None = None  # when its POST was answered 429, and Retry-After in seconds


STEP: ContextVar[StepRun] = ContextVar("step")


class Host:
    """One process."""

    def __init__(self, world: SeededWorld, name: str, settings: Settings) -> None:
        self.world, self.name, self.settings = world, name, settings
        self.dead = False
        self.tasks: dict[asyncio.Task[None], None] = {}  # in the order of their start: a set has another one each time
        transport = HostTransport(self)
        table, queue = TableHooks(self), QueueHooks(self)
        access = Session(settings, world.clock, credential=world.credential, transport=transport)
        graph = ResourceGraph(access)
        graph._client = cast(Any, GraphClient(self, transport))  # as much of the SDK's client as ResourceGraph calls
        self.services = Services(
            settings,
            compute=ResourceManager(access),
            graph=graph,
            ledger=Ledger(
                world.table.through(table.before, table.after), Outbox(world.clock) if settings.notices else None
            ),
            queue=world.queue.through(queue.before, queue.after),
            clock=world.clock,
            topic=EventGridTopic(access) if settings.notices else None,
            jitter=world.rng.random,
            token=lambda: f"{world.rng.getrandbits(64):016x}",
        )

    def run(self, step: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(step)
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
        return task

    def kill(self) -> None:
        self.dead = True
        for task in tuple(self.tasks):
            task.cancel()
        self.world.died(self)

    async def call(self, name: str, act: Callable[[], Awaitable[T]]) -> T:
        """A call to Azure, and what may happen to the process before it and after it."""
        await self.moment("before", name)
        answer = await act()
        await self.moment("after", name)
        return answer

    async def moment(self, when: Side, name: str) -> None:
        """What may happen to the process before or after a call."""
        faults, rng = self.world.faults, self.world.rng
        self._still_alive()
        if self.world.kills_here(when, name) or faults.strikes(f"killed {when}"):
            self.world.note(f"process {self.name} killed {when} {name}")
            self.kill()
            raise Killed
        if faults.strikes("paused"):
            seconds = rng.uniform(*PAUSE_SECONDS)
            self.world.note(f"process {self.name} paused for {seconds:.0f} s {when} {name}")
            await asyncio.sleep(seconds)
        elif faults.strikes("slow"):
            await asyncio.sleep(rng.uniform(*SLOW_SECONDS))
        self._still_alive()

    def _still_alive(self) -> None:
        if self.dead:
            raise Killed


class TableHooks:
    """What happens around one process's calls to the shared table."""

    def __init__(self, host: Host) -> None:
        self._host, self._world = host, host.world

    async def before(self, call: TableCall) -> None:
        world = self._world
        if world.faults.strikes("table away"):
            world.table_away_until = world.now + timedelta(seconds=world.rng.uniform(1, 1800))
        if world.faults.on and world.now < world.table_away_until:
            raise Unavailable("the ledger does not answer")
        await self._host.moment("before", _name(call))
        if call.row is None:
            return
        if call.operation in ("replace", "transact") and world.faults.strikes("table row touched"):
            await world.table.replace(call.row, call.row.columns)  # another write in between: its ETag has changed
        world.invariants.about_to_move(call.row, call.columns)

    async def after(self, call: TableCall) -> None:
        world, writes = self._world, call.operation not in ("get", "scan")
        if writes:
            world.invariants.moved()
            await world.invariants.look_at_breakers()
        await self._host.moment("after", _name(call))
        if writes and world.faults.strikes("table fails after"):
            raise Unavailable("writing the ledger: no answer")


def _name(call: TableCall) -> str:
    if call.operation in ("get", "scan"):
        return f"table: reading {'a row' if call.operation == 'get' else 'the rows'}"
    columns = call.row.columns if call.row and call.operation == "delete" else call.columns
    return f"table: {call.operation} {columns.get('phase', 'a row')}"


class QueueHooks:
    """What happens around one process's calls to the shared queues."""

    def __init__(self, host: Host) -> None:
        self._host, self._world = host, host.world

    async def before(self, operation: str) -> None:
        if operation == "send" and self._world.faults.strikes("queue fails before"):
            raise Unavailable("sending a message: no answer")
        await self._host.moment("before", f"queue: {operation}")

    async def after(self, operation: str) -> None:
        await self._host.moment("after", f"queue: {operation}")
        if operation == "send" and self._world.faults.strikes("queue fails after"):
            raise Unavailable("sending a message: no answer")


class HostTransport(AzureTransport):
    """Resource Manager and Resource Graph as one process reaches them."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.world.azure)
        self._host = host

    async def send(self, request: Any, **options: Any) -> Any:
        path = urlsplit(request.url).path
        last = path.rsplit("/", 1)[-1]
        if path == PATH:
            return await self._host.call("topic: POST", lambda: super(HostTransport, self).send(request, **options))
        name = f"ARM: {request.method} {'operation' if _follows(path) else last}"
        return await self._host.call(name, lambda: self._send(request, path, options))

    async def _send(self, request: Any, path: str, options: Any) -> Any:
        world = self._host.world
        graph = path.lower().endswith("/microsoft.resourcegraph/resources")
        post = request.method == "POST" and not graph
        strikes = world.faults.strikes
        if answer := self.instead(request, path, graph=graph, post=post):
            await answer.read()
            self._throttled(request, answer)
            return answer
        if strikes("ARM silent before"):
            await asyncio.sleep(SILENCE_SECONDS)
            raise _lost()
        if post and strikes("ARM late"):  # it arrives when its sender has given up already
            late = world.rng.uniform(30, 120)
            world.later(late, lambda: self._arrives(request, path, options, late=True))
            await asyncio.sleep(SILENCE_SECONDS)
            raise _lost()
        answer = await self._arrives(request, path, options)
        self._throttled(request, answer)
        if strikes("ARM fails after"):
            failed = _answer(request, 500, "InternalServerError")
            await failed.read()
            return failed
        if strikes("ARM silent after"):
            await asyncio.sleep(SILENCE_SECONDS)
            raise _lost()
        if strikes("connection dropped after"):
            raise _lost()
        return answer

    def instead(self, request: Any, path: str, *, graph: bool, post: bool) -> Any:
        """An answer without an effect, or an exception."""
        world = self._host.world
        strikes, rng = world.faults.strikes, world.rng
        if graph:
            if strikes("Graph fails"):
                return _answer(request, rng.choice((500, 503, 400)), "InternalServerError")
            if strikes("Graph throttled"):
                after = rng.choice(("00:00:03", "00:00:30"))
                return _answer(request, 429, "RateLimiting", headers={"x-ms-user-quota-resets-after": after})
            if strikes("Graph partial"):
                body = {"totalRecords": 0, "count": 0, "data": [], "facets": [], "resultTruncated": "true"}
                return SdkResponse(request, Response(200, body, {"content-type": "application/json"}))
        if _follows(path) and strikes("operation gone"):
            return _answer(request, 404, "NotFound")
        if post and strikes("ARM conflict"):
            return _answer(request, 409, "OperationNotAllowed", text="another operation is in progress.")
        if not graph and strikes("ARM throttled"):
            return _answer(request, 429, "TooManyRequests", headers={"retry-after": str(rng.choice((1, 30, 600)))})
        if not graph and strikes("ARM throttled, no Retry-After"):
            return _answer(request, 429, "TooManyRequests")
        if strikes("ARM fails before"):
            return _answer(request, rng.choice((500, 502, 503, 504, 408)), "InternalServerError")
        if strikes("token expired"):
            return _answer(request, 401, "ExpiredAuthenticationToken")
        if strikes("connection refused"):
            raise _refused()
        if strikes("connection dropped before"):
            raise _lost()
        return None

    def _throttled(self, request: Any, answer: Any) -> None:
        if urlsplit(request.url).path.endswith("Patches") and answer.status_code == 429:
            STEP.get().throttled = (self._host.world.now, float(answer.headers.get("retry-after") or 0))

    async def _arrives(self, request: Any, path: str, options: Any, *, late: bool = False) -> Any:
        world, step = self._host.world, STEP.get()
        before, changes = len(world.azure.operations), len(world.azure.changes)
        answer = await super().send(request, **options)
        if request.method == "GET" and not _follows(path) and answer.status_code == 200:
            step.reads[path.lower()] = world.now
        for operation in world.azure.operations[before:]:
            world.invariants.started(operation, step, late=late)
        for change in world.azure.changes[changes:]:
            world.powered(change, late=late)
        if request.method == "POST" and answer.status_code == 429:
            world.invariants.quota_used_up(path)
        world.pump()
        return answer


class GraphClient:
    """Resource Graph's SDK client without its pipeline, which would be half of a seed's CPU. That the real one reads
    every answer, scenarios and the contract suite show."""

    def __init__(self, host: Host, transport: HostTransport) -> None:
        self._host, self._transport = host, transport

    async def _send_request(self, request: Any) -> Any:
        return await self._host.call("ARM: POST resources", lambda: self._ask(request))

    async def _ask(self, request: Any) -> Any:
        if answer := self._transport.instead(request, urlsplit(request.url).path, graph=True, post=False):
            await answer.read()
            return answer
        found = self._host.world.ask_graph(json.loads(request.content))
        return SimpleNamespace(status_code=200, headers={}, json=lambda: found, raise_for_status=lambda: None)


def _answer(
    request: Any,
    status: int,
    code: str,
    *,
    headers: dict[str, str] | None = None,
    text: str = "Injected by the faults.",
) -> Any:
    body = {"error": {"code": code, "message": text}}
    return SdkResponse(request, Response(status, body, {"content-type": "application/json", **(headers or {})}))


def _follows(path: str) -> bool:
    """Whether a path follows an operation: that of a virtual machine, or of an Arc-enabled server by its Location."""
    return "/operations/" in path or "/updateCenterOperationResults/" in path


def _lost() -> Any:
    from azure.core.exceptions import ServiceResponseError

    return ServiceResponseError("the connection was lost")


def _refused() -> Any:
    """What the aiohttp transport of azure-core raises where no connection was made."""
    from aiohttp import ClientConnectorError
    from aiohttp.client_reqrep import ConnectionKey
    from azure.core.exceptions import ServiceRequestError

    key = ConnectionKey("management.azure.com", 443, True, True, None, None, None)
    inner = ClientConnectorError(key, OSError("refused"))
    return ServiceRequestError("cannot connect", error=inner)
