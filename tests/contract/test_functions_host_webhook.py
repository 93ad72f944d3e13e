"""The host's Event Grid webhook, case by case as the real host was recorded.

Factors: the request (method, key, function name, headers) x the body's shape x what the function does x the limits.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from simulator.functions_host import FunctionsHost
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import EVENT, Harness, Sent, attempts, entries, gate, recorded

pytestmark = pytest.mark.asyncio(loop_scope="module")

_CASES = recorded("webhook")
_NOTIFICATION = {"aeg-event-type": "Notification"}
_HANDSHAKE = {"aeg-event-type": "SubscriptionValidation"}
_VALIDATION = json.dumps([{**EVENT, "data": {"validationCode": "CODE-1"}}])
_CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "ce-1",
    "source": "/subscriptions/0",
    "type": "Microsoft.Resources.ResourceWriteSuccess",
    "subject": "s",
    "time": "2026-11-22T01:02:03Z",
    "data": {"a": 1},
}


def _event(**changes: Any) -> dict[str, Any]:
    return {**EVENT, **changes}


def _less(member: str) -> dict[str, Any]:
    return {key: value for key, value in EVENT.items() if key != member}


def _doing(**what: Any) -> dict[str, Any]:
    return _event(data=what)


def _sent(body: Any, **options: Any) -> Sent:
    return Sent(body=json.dumps(body), **options)


# The requests whose answer, and what the function gets, are compared with the recording as they are.
REQUESTS: dict[str, Sent] = {
    "one event in an array": _sent([EVENT]),
    "one event, bare object": _sent(EVENT),
    "CloudEvent": _sent(_CLOUD_EVENT, headers={**_NOTIFICATION, "Content-Type": "application/cloudevents+json"}),
    "CloudEvents, batch of two": _sent(
        [_CLOUD_EVENT, {**_CLOUD_EVENT, "id": "ce-2"}],
        headers={**_NOTIFICATION, "Content-Type": "application/cloudevents-batch+json"},
    ),
    "empty array": _sent([]),
    "handshake": Sent(_VALIDATION, _HANDSHAKE),
    "handshake, unknown function": Sent(_VALIDATION, _HANDSHAKE, function="nope"),
    "CloudEvents handshake": Sent(headers={"WebHook-Request-Origin": "eventgrid.azure.net"}, method="OPTIONS"),
    "unsubscribe": Sent("[]", {"aeg-event-type": "Unsubscribe"}),
    "no aeg-event-type header": _sent([EVENT], headers={}),
    "unknown aeg-event-type": _sent([EVENT], headers={"aeg-event-type": "Foo"}),
    "unknown function": _sent([EVENT], function="nope"),
    "a queue function's name": _sent([EVENT], function="on_work"),
    "name in other letter case": _sent([EVENT], function="ON_EVENT"),
    "no key": _sent([EVENT], key="none"),
    "wrong key": _sent([EVENT], key="wrong"),
    "not JSON": Sent("{not json"),
    "empty body": Sent(""),
    "array of no objects": Sent('["a",1,null]'),
    "JSON text": Sent('"text"'),
    "eventTime is not a time": _sent([_event(eventTime="yesterday")]),
    "without id": _sent([_less("id")]),
    "without eventType": _sent([_less("eventType")]),
    "without subject": _sent([_less("subject")]),
    "without data": _sent([_less("data")]),
    "without eventTime": _sent([_less("eventTime")]),
    "without dataVersion": _sent([_less("dataVersion")]),
    "data null": _sent([_event(data=None)]),
    "data a text": _sent([_event(data="text")]),
    "data an array": _sent([_event(data=[1, 2])]),
    "id a number": _sent([_event(id=5)]),
    "900 kB in one event": _sent([_event(data={"text": "x" * 900_000})]),
    "one of three raises": _sent([EVENT, _doing(**{"raise": "no"}), EVENT]),
    "the only one raises": _sent([_doing(**{"raise": "no"})]),
    "50 events of 0.5 s": _sent([_doing(until="fifty events")] * 50),
    "1,000 events": _sent([EVENT] * 1000),
    "function takes 35 s": _sent([_doing(until="a long event")]),  # shorter; this host does not give up at 30 s either
}

# How many of a request's events run at once before the test lets them go on, and the gate where they wait.
HELD: dict[str, tuple[int, str]] = {
    "50 events of 0.5 s": (50, "fifty events"),
    "function takes 35 s": (1, "a long event"),
}

# The cases that need a host of their own, each with its test below.
OWN_TESTS = {
    "60 requests of 1 s at once": "test_nothing_limits_requests_by_default",
    "the same, extensions.http maxConcurrentRequests 5, maxOutstandingRequests 10": "test_limits_of_host_json",
    "the app failed to import": "test_an_app_that_failed_to_import_knows_no_function",
    "worker exits while the event runs": "test_a_worker_exit_fails_the_event_and_the_next_runs",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("webhook")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def harness(tls: Tls, azurite: Azurite, folder: Path) -> AsyncIterator[Harness]:
    async with Harness(tls, azurite.fresh_account(), folder) as harness:
        await harness.queue()
        yield harness


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(harness: Harness) -> FunctionsHost:
    return await harness.host()


async def test_every_recorded_case_is_repeated() -> None:
    assert REQUESTS.keys() | OWN_TESTS.keys() == _CASES.keys()
    assert not REQUESTS.keys() & OWN_TESTS.keys()
    assert set(OWN_TESTS.values()) <= globals().keys()


@pytest.mark.parametrize("name", REQUESTS)
async def test_answers_as_recorded(name: str, harness: Harness, host: FunctionsHost) -> None:
    case, before = _CASES[name], len(host.invocations)
    host.running_at_once_peak = 0

    sending = asyncio.create_task(harness.send(host, REQUESTS[name]))
    running_at_once, held_at = HELD.get(name, (0, ""))
    await host.until(lambda: len(host.running) >= running_at_once)
    gate(held_at).open()
    answer = await sending

    assert answer.status == case["answer"]["status"]
    assert answer.body == case["answer"].get("body", answer.body)
    assert answer.headers.items() >= case["answer"].get("headers", {}).items()
    ran = entries(host, "on_event", after=before)
    assert len(ran) == _expected_runs(name, case)
    assert host.running_at_once_peak == case.get("runningAtOnce", host.running_at_once_peak)
    for entry in ran:
        _assert_got(case.get("functionGets", {}), entry.argument)


def _expected_runs(name: str, case: dict[str, Any]) -> int:
    """How often the function's code ran: as recorded, else once for a notification that was let in."""
    if case.get("functionRuns") is False:
        return 0
    gets = case.get("functionGets", {})
    recorded_runs = case.get("invocations", gets.get("invocations"))
    if recorded_runs is not None:
        return int(recorded_runs)
    let_in = REQUESTS[name].headers.get("aeg-event-type") == "Notification" and case["answer"]["status"] in (202, 500)
    events = json.loads(REQUESTS[name].body) if let_in else []
    return len(events) if isinstance(events, list) else 1


def _assert_got(expected: dict[str, Any], argument: Any) -> None:
    for what, value in expected.items():
        match what:
            case "type":
                assert type(argument).__name__ == value
            case "event_time" if value is not None:
                assert str(argument.event_time) == value.removesuffix(" (seventh digit cut)")
            case "data":  # "as sent, date texts untouched"
                assert argument.get_json() == EVENT["data"]
            case "get_json()":
                assert argument.get_json() == value
            case "attributes":
                for name in value.split(", "):
                    got = argument.get_json() if name == "data" else getattr(argument, name)
                    assert got in (_CLOUD_EVENT[name], "ce-2", dt.datetime(2026, 11, 22, 1, 2, 3, tzinfo=dt.UTC))
            case "invocations":
                pass  # counted by the caller
            case _:
                assert getattr(argument, what) == value


async def test_nothing_limits_requests_by_default(harness: Harness) -> None:
    case = _CASES["60 requests of 1 s at once"]
    host = await harness.host()

    sending = [asyncio.create_task(harness.post(host, [_doing(until="sixty events")])) for _ in range(60)]
    await host.until(lambda: len(host.running) == 60)
    gate("sixty events").open()
    answers = await asyncio.gather(*sending)

    assert {answer.status for answer in answers} == {case["answer"]["status"]}
    assert host.running_at_once_peak == case["runningAtOnce"]


async def test_limits_of_host_json(harness: Harness) -> None:
    case = _CASES["the same, extensions.http maxConcurrentRequests 5, maxOutstandingRequests 10"]
    app = harness.app(extensions={"http": {"maxConcurrentRequests": 5, "maxOutstandingRequests": 10}})
    host = await harness.host(app=app)

    sending = [asyncio.create_task(harness.post(host, [_doing(until="the limit")])) for _ in range(60)]
    refused = case["answers"]["429"]
    await host.until(lambda: len([one for one in sending if one.done()]) == refused)  # while none that runs has ended
    gate("the limit").open()
    answers = await asyncio.gather(*sending)

    statuses = [answer.status for answer in answers]
    assert {str(status): statuses.count(status) for status in set(statuses)} == case["answers"]
    assert host.running_at_once_peak == case["runningAtOnce"]


async def test_an_app_that_failed_to_import_knows_no_function(harness: Harness) -> None:
    case = _CASES["the app failed to import"]
    host = await harness.host(harness.settings(IMPORT_DOES="raise"))

    for sent in (_sent([EVENT]), Sent(_VALIDATION, _HANDSHAKE)):
        answer = await harness.send(host, sent)
        assert (answer.status, answer.body) == (case["answer"]["status"], case["answer"]["body"])


async def test_a_worker_exit_fails_the_event_and_the_next_runs(harness: Harness) -> None:
    """The recorded function called os._exit; here SystemExit ends the worker, since it shares the test's process."""
    case = _CASES["worker exits while the event runs"]
    host = await harness.host()

    answer = await harness.post(host, [_doing(exit=3)])
    following = await harness.post(host, [EVENT])

    assert (answer.status, answer.body) == (case["answer"]["status"], case["answer"]["body"])
    assert following.status == case["next"]["0.25 s later"]
    assert [invocation.ok for invocation in attempts(host, "on_event")] == [False, True]
