"""What is sent to Azure is sent once, and to ARM alone: no redirect is followed, no resource provider registered."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from azure.core.rest import HttpRequest

from functions.cloud import session
from functions.cloud.errors import CloudError
from functions.cloud.queue import Message, StorageQueues
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.model.state import OperationKind, Phase
from simulator.azure import Azure, Behaviour, Fault
from simulator.identity import StaticCredential
from simulator.transport import AzureTransport, SdkResponse
from simulator.wire import Response
from tests.support import machine_id, settings
from tests.support.world import QUICK, START, World

MESSAGE = Message(machine_id(), "claim")
ELSEWHERE = {"Location": "https://management.azure.com/elsewhere?api-version=2024-11-01"}
UNREGISTERED = {
    "error": {
        "code": "MissingSubscriptionRegistration",
        "message": "The subscription is not registered to use namespace 'Microsoft.Compute'.",
        "details": [
            {
                "code": "MissingSubscriptionRegistration",
                "target": "Microsoft.Compute",
                "message": "The subscription is not registered to use namespace 'Microsoft.Compute'.",
            }
        ],
    }
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirected_post_goes_nowhere_and_its_outcome_is_unknown(status: int) -> None:
    world = World(timings=QUICK)
    fault = Fault("POST", "assessPatches", times=None, status=status, headers=ELSEWHERE)
    phase = await after_one_post(world, fault)
    assert phase is Phase.STARTING, "the machine itself will show whether something runs"
    fault.times = fault.hits
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-01"], "and then it goes on"


@pytest.mark.parametrize("path", ["virtualMachines/vm-01$", "/operations/"])
async def test_a_redirected_read_is_not_an_answer(path: str) -> None:
    world = World(timings=QUICK)
    fault = world.azure.faults.add(Fault("GET", path, times=None, status=307, headers=ELSEWHERE, body={"name": "x"}))
    world.create("vm-01", Behaviour())
    await world.pass_time(minutes=30)
    assert fault.hits
    assert paths(world) == []
    assert world.installed() == []
    fault.times = fault.hits
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-01"]


async def test_a_redirected_query_is_not_an_answer() -> None:
    world = World(timings=QUICK)
    world.create("vm-01", Behaviour())
    world.azure.faults.add(Fault("POST", "ResourceGraph/resources", times=None, status=308, headers=ELSEWHERE))
    await world.pass_time(minutes=30)
    assert paths(world) == []
    assert world.errors
    assert world.installed() == []


async def test_an_unregistered_provider_is_not_registered_and_its_post_not_sent_again() -> None:
    fault = Fault("POST", "assessPatches", times=None, status=409, body=UNREGISTERED)
    assert await after_one_post(World(timings=QUICK), fault) is Phase.HELD


class Redirecting(AzureTransport):
    """Answers every request with the way to somewhere else, and keeps where it was asked to go."""

    def __init__(self) -> None:
        super().__init__(Azure(lambda: START))
        self.urls: list[str] = []

    async def send(self, request: Any, **_: Any) -> Any:
        self.urls.append(request.url)
        answer = SdkResponse(request, Response(307, None, ELSEWHERE))
        await answer.read()
        return answer


@pytest.mark.parametrize(
    "ask",
    [
        lambda session: StorageTable(session).get("app", "sweep"),
        lambda session: StorageTable(session).insert("app", "sweep", {}),
        lambda session: StorageQueues(session).send(OperationKind.ASSESS, MESSAGE, 0),
    ],
    ids=["a row read", "a row written", "a message sent"],
)
async def test_storage_follows_no_redirect_either(ask: Callable[[Session], Awaitable[object]]) -> None:
    transport = Redirecting()
    with pytest.raises(CloudError):
        await ask(Session(settings(), clock=lambda: START, credential=StaticCredential(), transport=transport))
    assert len(transport.urls) == 1


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real socket: the time-outs are the shared transport's, whichever client asks."""
    monkeypatch.setattr(session, "READ_SECONDS", 0.2)
    left = asyncio.Event()

    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    silent = await asyncio.start_server(read_all, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    ours = Session(settings(), clock=lambda: START)
    try:
        async with ours.transport as transport, asyncio.timeout(60):
            with pytest.raises(CloudError, match="no answer to asking"):
                async with ours.call("asking"):
                    await transport.send(HttpRequest("GET", f"http://127.0.0.1:{port}/"))
    finally:
        await ours.close()
        silent.close()
    async with asyncio.timeout(60):
        await left.wait()  # else its socket outlives this test's loop


async def after_one_post(world: World, fault: Fault) -> Phase:
    """The phase of a new machine's row when its POST, sent once and nowhere else, had this answer."""
    world.azure.faults.add(fault)
    machine = world.create("vm-01", Behaviour())
    await world.pass_time(minutes=3)
    assert fault.hits == 1
    assert paths(world) == []
    record = await world.record(machine)
    assert record is not None
    return record.phase


def paths(world: World) -> list[str]:
    """The paths of requests that must not be sent."""
    return [each.path for each in world.azure.requests if "elsewhere" in each.path or "register" in each.path]
