"""The harness in which the contract tests run a Functions host: storage of its own, an identity, the sample app.

The recording of the real host (`tests/recordings/functions-host.json`) is read here, and what is repeated of it is
counted here, so that no case of it goes missing unnoticed.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import importlib
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.storage.queue.aio import QueueClient

from simulator import identity
from simulator.functions_host import FunctionsHost
from simulator.functions_host.host import MAX_WAIT_SECONDS
from simulator.storage.azurite import Azurite, StorageAccount
from simulator.tls import Tls

APP = Path(__file__).parent / "host_app"
RECORDING: dict[str, Any] = json.loads((Path(__file__).parents[1] / "recordings" / "functions-host.json").read_text())
PRODUCT: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "recordings" / "functions_host_product.json").read_text()
)
EVENT: dict[str, Any] = RECORDING["event"]
HOST_JSON: dict[str, Any] = json.loads((APP / "host.json").read_text())

sys.path.append(str(APP))
_BOOK: Any = importlib.import_module("host_app_book").BOOK

Repetition = Callable[["Harness", dict[str, Any]], Awaitable[None]]


def recorded(group: str) -> dict[str, dict[str, Any]]:
    """The cases of one group of the recording by name."""
    return {case["case"]: case for case in RECORDING[group]}


@dataclass
class RecordedCases:
    """One repetition per recorded case; they run side by side, each in a harness of its own."""

    group: str
    repeated: dict[str, Repetition] = field(default_factory=dict)

    def repeats(self, case: str) -> Callable[[Repetition], Repetition]:
        """Marks the coroutine that repeats this recorded case."""

        def mark(repetition: Repetition) -> Repetition:
            assert case in recorded(self.group), f"no such case in the recording: {case}"
            assert case not in self.repeated, f"repeated twice: {case}"
            self.repeated[case] = repetition
            return repetition

        return mark

    @asynccontextmanager
    async def side_by_side(
        self, cases: set[str], *, tls: Tls, azurite: Azurite, folder: Path
    ) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
        """Start the repetitions of these cases; a test awaits the task of its case."""
        tasks = {
            case: asyncio.create_task(
                self._repeat(case, tls=tls, azurite=azurite, folder=folder / f"repetition{number}")
            )
            for number, case in enumerate(self.repeated)
            if case in cases
        }
        yield tasks
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _repeat(self, case: str, *, tls: Tls, azurite: Azurite, folder: Path) -> None:
        async with Harness(tls, azurite.fresh_account(), folder) as harness:
            await self.repeated[case](harness, recorded(self.group)[case])


class Harness:
    """Storage, identity and any number of hosts of the sample app; hosts that still run at the end are stopped."""

    app_folder = APP

    def __init__(self, tls: Tls, account: StorageAccount, folder: Path) -> None:
        self.tls = tls
        self.account = account
        self.identity = identity.ManagedIdentity()
        self._folder = folder
        self._stack = AsyncExitStack()
        self._identity_settings: dict[str, str] = {}
        self.http: aiohttp.ClientSession

    async def __aenter__(self) -> Harness:
        self._identity_settings = await self._stack.enter_async_context(identity.serve(self.identity))
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls.client_context())
        self.http = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def settings(self, **changes: str | None) -> dict[str, str]:
        """The sample app's settings; a change to None leaves the setting out."""
        settings: dict[str, str | None] = {
            **self._identity_settings,
            **self.tls.settings(),
            **self.account.settings(),
            **self.account.settings("WORK", identity.CLIENT_ID),
            "WORK_QUEUE": "work",
            "TICK_SCHEDULE": "0 0 0 1 1 *",
            # Always set: hosts side by side share the process environment, and the newest one's settings win.
            "IMPORT_DOES": "",
            "TICK_DOES": "{}",
            **changes,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def app(self, **host_json: Any) -> Path:
        """The sample app's folder, or a copy of it whose host.json has these members instead."""
        if not host_json:
            return APP
        folder = self._folder / f"app{len(list(self._folder.glob('app*')))}"
        shutil.copytree(APP, folder, ignore=shutil.ignore_patterns("__pycache__", "host_app_book.py"))
        (folder / "host.json").write_text(json.dumps({**HOST_JSON, **host_json}))
        return folder

    async def host(self, settings: Mapping[str, str] | None = None, app: Path = APP, **options: Any) -> FunctionsHost:
        """A started host."""
        options = {"tls": self.tls, "processors": 2, "host_id": "harness", **options}
        host = FunctionsHost(app, self.settings() if settings is None else settings, **options)
        await self._stack.enter_async_context(host)
        return host

    async def queue(self, name: str = "work", *, create: bool = True) -> QueueClient:
        client = QueueClient(self.account.queue_url, name, credential=identity.StaticCredential())
        await self._stack.enter_async_context(client)
        if create:
            await client.create_queue()
        return client

    async def post(self, host: FunctionsHost, body: Any, function: str = "on_event") -> Answer:
        """Deliver a notification."""
        return await self.send(host, Sent(body=json.dumps(body), function=function))

    async def send(self, host: FunctionsHost, sent: Sent) -> Answer:
        query = {"functionName": sent.function} | ({} if sent.key == "none" else {"code": sent.key or host.system_key})
        url = host.event_url
        async with self.http.request(sent.method, url, params=query, headers=sent.headers, data=sent.body) as answer:
            return Answer(answer.status, await answer.text(), dict(answer.headers))


@dataclass(frozen=True)
class Sent:
    """One request to the webhook."""

    body: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: {"aeg-event-type": "Notification"})
    function: str = "on_event"
    key: str = ""  # empty: the right one; "none": no key
    method: str = "POST"


@dataclass(frozen=True)
class Answer:
    """The webhook's answer."""

    status: int
    body: str
    headers: Mapping[str, str]


def entries(host: FunctionsHost, function: str, *, after: int = 0) -> list[Any]:
    """What the sample app noted of this host's runs, leaving out the host's first `after` invocations."""
    ids = [invocation.id for invocation in host.invocations[after:] if invocation.function == function]
    return list(_BOOK.of(ids))


def attempts(host: FunctionsHost, function: str) -> list[Any]:
    """Every invocation of the function, those that did not reach its code too."""
    return [invocation for invocation in host.invocations if invocation.function == function]


async def put(queue: QueueClient, body: Any, delay_seconds: int = 0) -> Any:
    """Send a message as an app does: base64 of its text, or of its JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    return await queue.send_message(base64.b64encode(text.encode()).decode(), visibility_timeout=delay_seconds)


async def length(queue: QueueClient) -> int:
    """Messages in the queue, the invisible ones too."""
    return (await queue.get_queue_properties()).approximate_message_count or 0


async def visible(queue: QueueClient) -> list[Any]:
    return list(await queue.peek_messages(max_messages=32))


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition of storage holds. Only a condition that never holds meets the limit."""
    async with asyncio.timeout(MAX_WAIT_SECONDS):
        while not await condition():  # noqa: ASYNC110  (storage signals nothing)
            await asyncio.sleep(0.05)


def gate(name: str) -> Any:
    """Where a run of the sample app waits that was asked for `until` this name."""
    return _BOOK.gates[name]


@dataclass
class HandClock:
    """A clock that a test moves. It starts just before a tick, since a host sleeps until the tick that it sees."""

    now: dt.datetime

    def __call__(self) -> dt.datetime:
        return self.now


def wanted_cases(request: pytest.FixtureRequest) -> set[str]:
    """The cases that are collected to run of the requesting module (`pytest -k` may have left some out)."""
    specs = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    return {spec.params["case"] for spec in specs if spec is not None and "case" in spec.params}
