"""The host's life and telemetry, case by case as the real host was recorded; and what is not repeated, with reasons."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from simulator import identity
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import (
    EVENT,
    RECORDING,
    Harness,
    RecordedCases,
    Sent,
    entries,
    gate,
    length,
    put,
    recorded,
    visible,
    wanted_cases,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

recording = RecordedCases("life")

# What of the recording is not repeated here, and why.
LEFT_OUT = {
    "telemetry.sampling": "the host keeps every trace; that the app's host.json excludes traces from sampling is "
    "tested on that file",
    "telemetry.idleTracesPerMinute": "the host writes no traces of its own storage calls, at no log level",
    "storageCallsAtStart": "counts of the start of the product, which keeps keys and a primary-host lease in blobs",
    "what": "the recording's own description",
    "options": "the sample app's host.json, compared below",
    "event": "the event the cases send",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def repetitions(
    request: pytest.FixtureRequest, tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    async with recording.side_by_side(
        wanted_cases(request), tls=tls, azurite=azurite, folder=tmp_path_factory.mktemp("life")
    ) as tasks:
        yield tasks


async def test_every_recorded_case_is_repeated_or_left_out() -> None:
    assert recording.repeated.keys() == recorded("life").keys()
    groups = {"webhook", "queue", "timer", "life"}  # each file holds its group to the recording
    telemetry = {f"telemetry.{name}" for name in RECORDING["telemetry"]}
    everything = RECORDING.keys() - groups - {"telemetry"} | telemetry
    assert everything == LEFT_OUT.keys() | {f"telemetry.{name}" for name in TELEMETRY}


async def test_the_sample_app_has_the_recorded_options() -> None:
    queues = json.loads((Harness.app_folder / "host.json").read_text())["extensions"]["queues"]
    assert {**queues, "maxPollingInterval": 2} == RECORDING["options"]


@recording.repeats("import of function_app raises ValueError")
async def _import_raises(harness: Harness, case: dict[str, Any]) -> None:
    queue = await harness.queue()
    await put(queue, {})
    host = await harness.host(harness.settings(IMPORT_DOES="raise"))
    await asyncio.sleep(1)
    assert host.state == case["state"]
    assert len(host.functions) == case["functions"]
    assert (await harness.post(host, [EVENT])).status == case["webhook"]
    assert len(await visible(queue)) == 1
    assert not host.traces
    [item] = host.exceptions
    assert case["seen"].startswith(f"one AppExceptions item, category {item.category}")
    assert "ValueError: the import fails" in item.message
    assert "function_app.py" in item.stack


@recording.repeats("import raises SystemExit")
async def _import_exits(harness: Harness, case: dict[str, Any]) -> None:
    assert "connections refused" in case["then"]
    running = await harness.host()
    host = await harness.host(harness.settings(IMPORT_DOES="exit"))
    assert host.state == "Stopped"
    assert not host.url
    assert "SystemExit" in host.exceptions[0].message
    assert (await harness.post(running, [EVENT])).status == 202  # the neighbour does not notice


@recording.repeats("SIGTERM with 6 s of work in flight (an event and a message)")
async def _drains(harness: Harness, case: dict[str, Any]) -> None:
    queue = await harness.queue()
    await put(queue, {"until": "the stop"})
    host = await harness.host()
    answering = asyncio.create_task(harness.post(host, [{**EVENT, "data": {"until": "the stop"}}]))
    await host.until(lambda: len(host.running) == 2)
    await put(queue, {})
    stopping = asyncio.create_task(host.stop())
    await asyncio.sleep(0.2)  # the stop waits for both
    assert not stopping.done()
    gate("the stop").open()
    await stopping
    assert all(entry.finished for function in ("on_event", "on_work") for entry in entries(host, function))
    assert (await answering).status == 202
    assert host.state == "Stopped"
    assert await length(queue) == 2 - len(entries(host, "on_work"))
    with pytest.raises(aiohttp.ClientError):
        await harness.post(host, [EVENT])


@recording.repeats("host.json: a value of the wrong type or range")
async def _wrong_host_json(harness: Harness, case: dict[str, Any]) -> None:
    queues = json.loads((Harness.app_folder / "host.json").read_text())["extensions"]["queues"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"extensions": {"queues": {**queues, "visibilityTimeout": "5s"}}}, "visibilityTimeout"),
        ({"extensions": {"queues": {**queues, "maxDequeueCount": "five"}}}, "maxDequeueCount"),
        ({"extensions": {"queues": {**queues, "batchSize": 100}}}, "batchSize"),
        ({"functionTimeout": "5m"}, "functionTimeout"),
    ]
    for members, name in wrong:
        host = await harness.host(app=harness.app(**members))
        assert (host.state, len(host.functions)) == (case["state"], case["functions"])
        assert name in (host.error or "")
        assert name in case["sent"]


@recording.repeats("host.json: unknown key")
async def _unknown_key(harness: Harness, case: dict[str, Any]) -> None:
    host = await harness.host(app=harness.app(nonsense=1, extensions={"queues": {"nonsense": 2}, "nothing": {}}))
    assert host.state == case["state"]
    assert (await harness.post(host, [EVENT])).status == 202


@recording.repeats("identity, user assigned")
async def _identity(harness: Harness, case: dict[str, Any]) -> None:
    await harness.queue()
    host = await harness.host()
    await host.until(lambda: len(harness.identity.requests) >= 2)
    asked = [
        f"GET IDENTITY_ENDPOINT?{'&'.join(f'{name}={value}' for name, value in query.items())} with X-IDENTITY-HEADER"
        for query in harness.identity.requests
        if "client_id" in query
    ]
    assert set(asked) == {case["tokenRequest"].replace("<clientId>", identity.CLIENT_ID)}


@pytest.mark.parametrize("case", recording.repeated)
async def test_as_recorded(case: str, repetitions: dict[str, asyncio.Task[None]]) -> None:
    await repetitions[case]


# Telemetry: recorded items, each repeated by the test named.
TELEMETRY = {
    "journalLine": "test_a_journal_line_is_one_trace",
    "request": "test_an_invocation_is_recorded_as_a_request",
    "lineCutAtCharacters": "test_a_long_line_is_cut",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def harness(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harness]:
    async with Harness(tls, azurite.fresh_account(), tmp_path_factory.mktemp("telemetry")) as harness:
        yield harness


def _logging(*lines: str) -> Sent:
    return Sent(json.dumps([{**EVENT, "data": {"log": lines}}]))


async def test_a_journal_line_is_one_trace(harness: Harness) -> None:
    item = RECORDING["telemetry"]["journalLine"]["data"]["baseData"]
    host = await harness.host()
    await harness.send(host, _logging(item["message"]))
    [trace] = host.app_lines
    [invocation] = host.invocations
    assert trace.message == item["message"]
    assert trace.level == item["severityLevel"] == item["properties"]["LogLevel"]
    assert trace.category == item["properties"]["Category"]
    assert trace.invocation_id == invocation.id


async def test_an_invocation_is_recorded_as_a_request(harness: Harness) -> None:
    item = RECORDING["telemetry"]["request"]["data"]["baseData"]
    host = await harness.host()
    await harness.post(host, [EVENT])
    [invocation] = host.invocations
    assert (invocation.function, invocation.ok) == (item["name"], item["success"])
    assert invocation.reason.startswith("EventGrid trigger fired at ")
    assert item["properties"]["TriggerReason"].startswith("EventGrid trigger fired at ")


async def test_a_long_line_is_cut(harness: Harness) -> None:
    most = RECORDING["telemetry"]["lineCutAtCharacters"]
    host = await harness.host()
    await harness.send(host, _logging("x" * most, "y" * (most + 1)))
    assert [trace.message for trace in host.app_lines] == ["x" * most, "y" * most]


async def test_log_levels_of_host_json_decide(harness: Harness) -> None:
    levels = {"default": "Information", "Function.on_event.User": "Warning"}
    host = await harness.host(app=harness.app(logging={"logLevel": levels}))
    await harness.send(host, _logging("an information"))
    assert not host.app_lines


async def test_a_failing_invocation_shows_text_and_stack(harness: Harness) -> None:
    host = await harness.host()
    await harness.post(host, [{**EVENT, "data": {"raise": "the reason"}}])
    assert [item.category for item in host.exceptions] == ["Function.on_event", "Host.Results"]
    assert all("the reason" in item.message and "in _do" in item.stack for item in host.exceptions)
    assert [trace.level for trace in host.traces] == ["Information", "Error"]
