"""The host's queue trigger, case by case as the real host was recorded.

Factors: the body x what the function does x attempts and their options in host.json x what becomes of the worker or
of storage. The repetitions run side by side, since most of them wait. Where the recording waited long, `time_scale`
shortens the host's times; storage counts visibility in whole seconds, which bounds how short a repetition can be.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from azure.core.exceptions import ResourceNotFoundError

from simulator.functions_host import FunctionsHost
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import (
    EVENT,
    PRODUCT,
    Harness,
    RecordedCases,
    attempts,
    entries,
    eventually,
    gate,
    length,
    put,
    recorded,
    visible,
    wanted_cases,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

recording = RecordedCases("queue")
_POISON_OFF = {"AzureWebJobs.on_work_poison.Disabled": "1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def repetitions(
    request: pytest.FixtureRequest, tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    async with recording.side_by_side(
        wanted_cases(request), tls=tls, azurite=azurite, folder=tmp_path_factory.mktemp("queue")
    ) as tasks:
        yield tasks


async def test_every_recorded_case_is_repeated() -> None:
    assert recording.repeated.keys() == recorded("queue").keys()


def _queues(**changes: Any) -> dict[str, Any]:
    return {"queues": {"maxPollingInterval": "00:00:02", "batchSize": 16, "newBatchThreshold": 16, **changes}}


def _counts(ran: list[Any]) -> list[int]:
    return [entry.argument.dequeue_count for entry in ran]


def _gaps(ran: list[Any]) -> list[float]:
    starts = [entry.started_seconds for entry in ran]
    return [later - earlier for earlier, later in itertools.pairwise(starts)]


@recording.repeats("fails every time, visibilityTimeout default")
async def _fails_at_once(harness: Harness, case: dict[str, Any]) -> None:
    queue, poison = await harness.queue(), await harness.queue("work-poison", create=False)
    await put(queue, {"raise": "no"})
    host = await harness.host()
    await host.until(lambda: bool(entries(host, "on_work_poison")))
    ran = entries(host, "on_work")
    assert _counts(ran) == case["dequeueCounts"]  # had one waited for its visibility, of 10 minutes, none would be here
    await eventually(lambda: _is_empty(queue, poison))


@recording.repeats("fails every time, visibilityTimeout 00:00:05")
async def _fails_with_a_pause(harness: Harness, case: dict[str, Any]) -> None:
    queue = await harness.queue()
    await put(queue, {"raise": "no"})
    host = await harness.host(app=harness.app(extensions=_queues(visibilityTimeout="00:00:05")), time_scale=0.4)
    await host.until(lambda: bool(entries(host, "on_work_poison")))
    ran = entries(host, "on_work")
    assert _counts(ran) == case["dequeueCounts"]
    assert all(gap > 0.9 for gap in _gaps(ran))  # 2 s, and storage cuts the part of a second
    await host.stop()
    await _goes_to_poison_without_a_pause(harness, queue)


async def _goes_to_poison_without_a_pause(harness: Harness, queue: Any) -> None:
    await put(queue, {"raise": "no"})
    host = await harness.host(app=harness.app(extensions=_queues(visibilityTimeout="01:00:00", maxDequeueCount=1)))
    await host.until(lambda: bool(entries(host, "on_work_poison")))  # a pause would last an hour


@recording.repeats("poison message as stored")
async def _poison_as_stored(harness: Harness, case: dict[str, Any]) -> None:
    assert case["stored"].startswith("new message id, body byte for byte as sent (base64 kept, or the raw text)")
    queue, poison = await harness.queue(), await harness.queue("work-poison", create=False)
    bodies = [base64.b64encode(b'{"raise": "no"}').decode(), "not base64 !! <&> é\n"]
    sent = [await queue.send_message(body) for body in bodies]
    host = await harness.host(harness.settings(**_POISON_OFF))
    await host.until(lambda: len(attempts(host, "on_work")) == 5)  # of the first: the second is not base64
    await eventually(lambda: _has(poison, 2))
    stored = await visible(poison)
    assert {message.content for message in stored} == set(bodies)
    assert not {message.id for message in stored} & {message.id for message in sent}
    assert {message.dequeue_count for message in stored} == {0}
    assert {(message.expires_on - message.inserted_on).days for message in stored} == {7}


@recording.repeats("succeeds")
async def _succeeds(harness: Harness, case: dict[str, Any]) -> None:
    queue = await harness.queue()
    sent = await put(queue, {})
    host = await harness.host()
    await host.until(lambda: bool(entries(host, "on_work")))
    [entry] = entries(host, "on_work")
    assert entry.argument.dequeue_count == case["dequeueCount"]
    hidden = entry.argument.time_next_visible - sent.inserted_on
    assert hidden.total_seconds() == pytest.approx(case["nextVisibleIn"], abs=10)
    await eventually(lambda: _is_empty(queue))


@recording.repeats("delayed by 4 s")
async def _delayed(harness: Harness, case: dict[str, Any]) -> None:
    delay_seconds = 2
    host_queue = await harness.queue()
    host = await harness.host()
    start = asyncio.get_running_loop().time()
    await put(host_queue, {}, delay_seconds)
    await host.until(lambda: bool(entries(host, "on_work")))
    assert entries(host, "on_work")[0].started_seconds - start > delay_seconds - 1  # storage cuts the part of a second


@recording.repeats("60 messages of 1 s")
async def _many(harness: Harness, case: dict[str, Any]) -> None:
    queue = await harness.queue()
    for _ in range(60):
        await put(queue, {"until": "sixty messages"})
    host = await harness.host()
    await host.until(lambda: len(host.running) == case["runningAtOnce"])
    gate("sixty messages").open()
    await host.until(lambda: len(entries(host, "on_work")) == 60)
    assert host.running_at_once_peak == case["runningAtOnce"]
    await eventually(lambda: _is_empty(queue))


@recording.repeats("body is not base64")
async def _no_base64(harness: Harness, case: dict[str, Any]) -> None:
    """The later recording counts what the earlier one calls attempts: dequeues, none of them an invocation."""
    [product] = [each for each in PRODUCT["queue"] if each["sent"] == "text that is not base64"]
    queue, poison = await harness.queue(), await harness.queue("work-poison")
    await queue.send_message("not base64 !!")
    host = await harness.host()
    await eventually(lambda: _is_empty(queue))
    await eventually(lambda: _is_hidden(poison))  # the poison queue's function was offered it
    assert [attempts(host, name) for name in ("on_work", "on_work_poison")] == [[], []]
    assert len([line for line in host.traces if line.message.startswith("Message decoding")]) >= case["attempts"]
    _assert_logged(host, product["log"], queue="work")
    assert len(host.exceptions) == product["appExceptions"]
    assert await length(poison) == 1


@recording.repeats("body is not UTF-8")
async def _no_utf8(harness: Harness, case: dict[str, Any]) -> None:
    [product] = [each for each in PRODUCT["queue"] if each["sent"] == "base64 of bytes FF FE 00"]
    host = await _unreadable(harness, case, base64.b64encode(bytes([0xFF, 0xFE, 0x00])).decode())
    assert len(attempts(host, "on_work")) == product["invocations"]
    _assert_logged(host, product["log"], function="on_work")
    texts = [item.message for item in host.exceptions if "on_work_poison" not in item.message]
    assert texts == ["Exception while executing function: Functions.on_work"] * 2 * product["invocations"]


def _assert_logged(host: FunctionsHost, wanted: list[dict[str, str]], *, queue: str = "", function: str = "") -> None:
    """Every recorded line is there; what differs per message is left out of the comparison."""
    names = {"<queue>": queue, "<name>": function}
    logged = [(line.level, line.category, line.message) for line in host.traces]
    for line in wanted:
        category, message = line["category"], line["message"].partition("…")[0]
        for placeholder, name in names.items():
            category, message = category.replace(placeholder, name), message.replace(placeholder, name)
        message = message.partition("Id=")[0]
        found = [each for each in logged if each[:2] == (line["level"], category) and each[2].startswith(message)]
        assert found, (line, logged)


@recording.repeats("top-level dequeueCount, no number")
async def _wrong_count(harness: Harness, case: dict[str, Any]) -> None:
    await _unreadable(harness, case, base64.b64encode(b'{"dequeueCount":"abc"}').decode())


@recording.repeats("top-level insertionTime")
async def _wrong_time(harness: Harness, case: dict[str, Any]) -> None:
    body = b'{"insertionTime":"2020-01-01T00:00:00Z"}'
    await _unreadable(harness, case, base64.b64encode(body).decode())


async def _unreadable(harness: Harness, case: dict[str, Any], content: str) -> FunctionsHost:
    queue, poison = await harness.queue(), await harness.queue("work-poison")
    await queue.send_message(content)
    host = await harness.host()
    await host.until(lambda: bool(attempts(host, "on_work_poison")))
    assert len(attempts(host, "on_work")) == case["attempts"]
    assert not any(attempt.ran or attempt.ok for attempt in attempts(host, "on_work"))
    # A function on the poison queue cannot read it either: there it lies, out of sight for 10 minutes.
    assert [attempt.ran for attempt in attempts(host, "on_work_poison")] == [False]
    await eventually(lambda: _is_empty(queue))
    assert await length(poison) == 1
    assert not await visible(poison)
    return host


@recording.repeats("empty body")
async def _empty_body(harness: Harness, case: dict[str, Any]) -> None:
    await (await harness.queue()).send_message("")
    await _runs_once(harness, {})


@recording.repeats("array")
async def _array(harness: Harness, case: dict[str, Any]) -> None:
    await put(await harness.queue(), [1, 2])
    await _runs_once(harness, {})


@recording.repeats("top-level id")
async def _top_level_id(harness: Harness, case: dict[str, Any]) -> None:
    await put(await harness.queue(), {"id": "C"})
    await _runs_once(harness, case["functionGets"])


@recording.repeats("top-level dequeueCount 7")
async def _top_level_count(harness: Harness, case: dict[str, Any]) -> None:
    await put(await harness.queue(), {"dequeueCount": 7})
    await _runs_once(harness, case["functionGets"])


@recording.repeats("wrapped")
async def _wrapped(harness: Harness, case: dict[str, Any]) -> None:
    assert case["functionGets"] == {"msg.id": "the message's own id"}
    sent = await put(await harness.queue(), json.loads(case["sent"]))
    await _runs_once(harness, {"msg.id": sent.id})


async def _runs_once(harness: Harness, gets: dict[str, Any]) -> None:
    host = await harness.host()
    await host.until(lambda: bool(attempts(host, "on_work")) and not host.running)
    [entry] = entries(host, "on_work")
    assert entry.finished
    for name, value in gets.items():
        assert getattr(entry.argument, name.removeprefix("msg.")) == value


@recording.repeats("function on the poison queue raises")
async def _poison_function_raises(harness: Harness, case: dict[str, Any]) -> None:
    poison = await harness.queue("work-poison")
    await put(poison, {"poison": {"raise": "no"}})
    host = await harness.host()
    await host.until(lambda: bool(entries(host, "on_work_poison")))
    await asyncio.sleep(2)
    assert len(entries(host, "on_work_poison")) == case["attempts"]
    assert await length(poison) == 1
    assert not await visible(poison)
    await host.stop()
    await put(poison, {"poison": {"raise": "no"}})
    later = await harness.host(time_scale=0.005)  # 10 minutes are 3 s
    await later.until(lambda: _counts(entries(later, "on_work_poison")) == [1, 2])  # and is redelivered


@recording.repeats("worker exits in one of six running messages")
async def _worker_exits(harness: Harness, case: dict[str, Any]) -> None:
    """The recorded function called os._exit; here SystemExit ends the worker, since it shares the test's process."""
    queue = await harness.queue()
    ids = {(await put(queue, {"hangs": 99})).id for _ in range(5)}
    ids.add((await put(queue, {"until": "the exit", "exit": 3})).id)
    app = harness.app(extensions=_queues(visibilityTimeout="00:00:05", maxPollingInterval="00:00:01"))
    host = await harness.host(app=app, time_scale=0.2)

    def counts() -> dict[str, list[int]]:
        ran = entries(host, "on_work")
        return {id: [e.argument.dequeue_count for e in ran if e.argument.id == id] for id in ids}

    for attempt in case["dequeueCountsOfAllSix"]:
        await host.until(lambda: all(len(of_one) == attempt for of_one in counts().values()))  # noqa: B023  (awaited here)
        gate("the exit").open()
    await host.until(lambda: host.state == "Stopped")
    assert counts() == dict.fromkeys(ids, case["dequeueCountsOfAllSix"])
    assert "Exceeded language worker restart retry count" in (host.error or "")
    assert await length(queue) == 6


@recording.repeats("functionTimeout 00:00:05")
async def _function_timeout(harness: Harness, case: dict[str, Any]) -> None:
    queue = await harness.queue()
    assert "the 60 s and the 8 s message run again with count 2, those that ended in time are done" in case["then"]
    sent = {(await put(queue, {"hangs": attempts})).id: attempts for attempts in (1, 0, 0, 1)}
    app = harness.app(functionTimeout="00:00:05", extensions=_queues())
    host = await harness.host(app=app)
    await eventually(lambda: _is_empty(queue))
    ran = entries(host, "on_work")
    counts = {id: [entry.argument.dequeue_count for entry in ran if entry.argument.id == id] for id in sent}
    assert counts == {id: [1, 2] if hangs else [1] for id, hangs in sent.items()}
    assert host.state == "Running"


@recording.repeats("queue does not exist")
async def _no_queue(harness: Harness, case: dict[str, Any]) -> None:
    host = await harness.host()
    await asyncio.sleep(1)
    assert host.state == "Running"
    assert host.functions["on_work"].error is None
    assert (await harness.post(host, [EVENT])).status == 202
    await put(await harness.queue(), {})  # and is read once it does
    await host.until(lambda: bool(entries(host, "on_work")))


@recording.repeats("queue service unreachable")
async def _unreachable(harness: Harness, case: dict[str, Any]) -> None:
    settings = harness.settings(WORK__queueServiceUri="https://127.0.0.1:9/absent")
    host = await harness.host(settings, time_scale=0.4)  # 25 s are 10 s
    assert (await harness.post(host, [EVENT])).status == 202  # not at the first try
    await host.until(lambda: host.state == "Stopped")
    with pytest.raises(aiohttp.ClientError):
        await harness.post(host, [EVENT])


@recording.repeats("function disabled")
async def _disabled(harness: Harness, case: dict[str, Any]) -> None:
    queue, poison = await harness.queue(), await harness.queue("work-poison")
    await put(poison, {})
    host = await harness.host(harness.settings(**_POISON_OFF))
    await put(queue, {})
    await host.until(lambda: bool(entries(host, "on_work")))
    await asyncio.sleep(1)
    assert host.functions["on_work_poison"].disabled
    assert len(await visible(poison)) == 1
    assert (await visible(poison))[0].dequeue_count == 0


@recording.repeats("connection setting missing")
async def _no_connection(harness: Harness, case: dict[str, Any]) -> None:
    missing: dict[str, str | None] = dict.fromkeys(harness.account.settings("WORK", "x"))
    host = await harness.host(harness.settings(**missing))
    assert host.state == "Running"
    assert "WORK" in (host.functions["on_work"].error or "")
    assert (await harness.post(host, [EVENT])).status == 202
    assert (await host.run_timer("on_tick")).ok


async def _is_hidden(queue: Any) -> bool:
    return await length(queue) == 1 and not await visible(queue)


async def _is_empty(*queues: Any) -> bool:
    return [await length(queue) for queue in queues] == [0] * len(queues)


async def _has(queue: Any, messages: int) -> bool:
    try:
        return await length(queue) == messages
    except ResourceNotFoundError:
        return False  # the host has not created it yet


@pytest.mark.parametrize("case", recording.repeated)
async def test_as_recorded(case: str, repetitions: dict[str, asyncio.Task[None]]) -> None:
    await repetitions[case]
