"""What is sent to Azure is sent once, and to ARM alone: no redirect is followed, no resource provider registered."""

import asyncio
from datetime import timedelta

import pytest
from azure.core.rest import HttpRequest

from functions.cloud import access
from functions.cloud.access import Access
from functions.cloud.errors import CloudError
from functions.record import Phase
from simulator.azure import Behaviour, Fault, Timings
from tests.story.world import World
from tests.support import settings

QUICK = Timings(create_seconds=0, agent_ready_seconds=0, extensions_seconds=0)
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
async def test_a_redirected_post_goes_nowhere_and_nobody_says_that_it_started_nothing(status: int) -> None:
    world = World(timings=QUICK)
    fault = world.azure.faults.add(Fault("POST", "assessPatches", times=None, status=status, headers=ELSEWHERE))
    machine = world.create("vm-01", Behaviour())
    await world.pass_time(minutes=3)
    assert fault.hits == 1
    assert paths(world) == []
    record = await world.record(machine)
    assert record is not None
    assert record.phase is Phase.STARTING, "the machine itself will show whether something runs"
    fault.times = fault.hits
    await world.pass_time(hours=3)
    assert world.installed() == ["vm-01"], "and then it goes on"


@pytest.mark.parametrize("path", ["virtualMachines/vm-01$", "/operations/"])
async def test_a_redirected_read_is_no_answer(path: str) -> None:
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


async def test_a_redirected_query_is_no_answer() -> None:
    world = World(timings=QUICK)
    world.create("vm-01", Behaviour())
    world.azure.faults.add(Fault("POST", "ResourceGraph/resources", times=None, status=308, headers=ELSEWHERE))
    await world.pass_time(minutes=30)
    assert paths(world) == []
    assert world.errors
    assert world.installed() == []


async def test_an_unregistered_provider_is_not_registered_and_its_post_not_sent_again() -> None:
    world = World(timings=QUICK)
    fault = world.azure.faults.add(Fault("POST", "assessPatches", times=None, status=409, body=UNREGISTERED))
    machine = world.create("vm-01", Behaviour())
    await world.pass_time(minutes=3)
    assert fault.hits == 1
    assert paths(world) == []
    record = await world.record(machine)
    assert record is not None
    assert record.phase is Phase.HELD


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real socket: the time-outs are the shared transport's, whichever client asks."""
    monkeypatch.setattr(access, "READ_SECONDS", 0.2)
    silent = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    ours = Access(settings(), clock=lambda: None, credential=None)  # type: ignore[arg-type, return-value]
    try:
        async with ours.transport as transport, asyncio.timeout(timedelta(seconds=20).total_seconds()):
            with pytest.raises(CloudError, match="no answer to asking"):
                async with ours.call("asking"):
                    await transport.send(HttpRequest("GET", f"http://127.0.0.1:{port}/"))
    finally:
        await ours.close()
        silent.close()


def paths(world: World) -> list[str]:
    """Where requests went that nobody should have sent."""
    return [each.path for each in world.azure.requests if "elsewhere" in each.path or "register" in each.path]
