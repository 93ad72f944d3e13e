"""The app itself in the simulator's host, beside what its first release did on the real one.

Factors: the request to the webhook x how the host starts x how it ends. The recording is
`tests/recordings/functions_host_product.json`; that of the sample app has files of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from simulator.embedded import APP_FOLDER, Embedded
from simulator.event_grid.events import as_cloud_event
from simulator.functions_host import FunctionsHost
from simulator.functions_host.instance import Instance
from simulator.functions_host.telemetry import HostCategory, Telemetry, Trace
from simulator.identity import CLIENT_ID, ManagedIdentity, tokens
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import PRODUCT, Answer, Harness, Sent, entries, put
from tests.contract.simulator_client import payload

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT: dict[str, Any] = payload("eventgrid_vm_write_INFERRED.json")["vm_create"]
CLOUD_EVENT = as_cloud_event(EVENT)
NOTIFICATION = {"aeg-event-type": "Notification"}
CLOUD = {"content-type": "application/cloudevents+json; charset=utf-8"}
CLOUD_BATCH = {"content-type": "application/cloudevents-batch+json; charset=utf-8"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in EVENT.items() if key != name}


def sent(body: Any, *, function: str = "on_machine_written", **options: Any) -> Sent:
    return Sent(json.dumps(body), function=function, **options)


HANDSHAKE = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "abc"}}

REQUESTS: dict[str, Sent] = {
    "good": sent([EVENT]),
    "wrong key": sent([EVENT], key="wrong"),
    "no key": sent([EVENT], key="none"),
    "unknown function": sent([EVENT], function="nobody"),
    "queue function": sent([EVENT], function="on_assess_request"),
    "validation": sent([EVENT | HANDSHAKE], headers={"aeg-event-type": "SubscriptionValidation"}),
    "not JSON": Sent("{not json", function="on_machine_written"),
    "empty": Sent("", function="on_machine_written"),
    "object": sent(EVENT),
    "empty list": sent([]),
    "data null": sent([{**EVENT, "data": None}]),
    "data text": sent([{**EVENT, "data": "text"}]),
    "no eventType": sent([without("eventType")]),
    "no data": sent([without("data")]),
    "no subject": sent([without("subject")]),
    "no id": sent([without("id")]),
    "eventTime odd": sent([{**EVENT, "eventTime": "yesterday"}]),
    "subject odd": sent([{**EVENT, "subject": "no path"}]),
    "1 MB data": sent([{**EVENT, "data": {**EVENT["data"], "text": "x" * 1_000_000}}]),
    "mixed batch": sent([EVENT, {**EVENT, "data": 5}, "text", EVENT]),
    "unsubscribe": sent([], headers={"aeg-event-type": "Unsubscribe"}),
    "GET": Sent(function="on_machine_written", method="GET", headers={}),
    "cloud event batch": sent([CLOUD_EVENT], headers=NOTIFICATION | CLOUD_BATCH),
    "cloud event one": sent(CLOUD_EVENT, headers=NOTIFICATION | CLOUD),
    "cloud handshake": Sent(
        function="on_machine_written", method="OPTIONS", headers={"WebHook-Request-Origin": "eventgrid.azure.net"}
    ),
    "no aeg header": sent([EVENT], headers={}),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedded(tls: Tls, azurite: Azurite) -> AsyncIterator[Embedded]:
    async with Embedded(tls=tls, azurite=azurite) as embedded:
        yield embedded


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host(embedded: Embedded) -> FunctionsHost:
    return await embedded.host(embedded.settings(RECONCILE_SCHEDULE="0 0 0 1 1 *"))


@pytest.mark.parametrize("recorded", [pytest.param(each, id=each["request"]) for each in PRODUCT["webhook"]])
async def test_the_webhook_answers_as_recorded(recorded: dict[str, Any], host: FunctionsHost, tls: Tls) -> None:
    request = REQUESTS[recorded["request"]]
    key = {} if request.key == "none" else {"code": request.key or host.system_key}
    query = {"functionName": request.function} | key
    connector = aiohttp.TCPConnector(ssl=tls.client_context())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(
            request.method, host.event_url, params=query, headers=request.headers, data=request.body
        ) as got,
    ):
        answer = Answer(got.status, await got.text(), {})
    assert (answer.status, answer.body) == (recorded["status"], recorded["body"])


def starts(case: str) -> dict[str, Any]:
    [start] = [each for each in PRODUCT["starts"] if each["case"] == case]
    return dict(start)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("queue service unreachable", {"AzureWebJobsStorage__queueServiceUri": "https://127.0.0.1:9/absent"}),
        ("identity unknown to the platform", {"AzureWebJobsStorage__clientId": "nobody"}),
    ],
)
async def test_a_host_that_cannot_work_ends_itself_again_and_again(
    embedded: Embedded, case: str, changes: dict[str, str]
) -> None:
    assert starts(case)["host"].startswith("ends itself")
    unreachable = starts("queue service unreachable")
    settings = embedded.settings(RECONCILE_SCHEDULE="0 0 0 1 1 *", **changes)

    def new() -> FunctionsHost:
        return FunctionsHost(APP_FOLDER, settings, tls=embedded.tls, time_scale=0.01)

    async with Instance(new) as instance, asyncio.timeout(120):
        while len(instance.hosts) < 3:  # noqa: ASYNC110  (nothing signals a start)
            await asyncio.sleep(0.05)
    for ended in instance.hosts[:2]:
        assert ended.state == "Stopped"
        assert [(item.message, item.category) for item in ended.exceptions] == [
            (unreachable["log"], unreachable["category"])
        ]
        assert not ended.app_lines


@pytest.mark.parametrize(
    ("case", "schedule"),
    [
        ("RECONCILE_SCHEDULE not a cron expression", "every now and then"),
        ("RECONCILE_SCHEDULE not set", None),
    ],
)
async def test_a_wrong_schedule_disables_the_timer_alone(embedded: Embedded, case: str, schedule: str | None) -> None:
    assert "on_reconcile" in starts(case)["functions"] or starts(case)["functions"].startswith("as above")
    settings = embedded.settings()
    del settings["RECONCILE_SCHEDULE"]
    host = await embedded.host(settings | ({"RECONCILE_SCHEDULE": schedule} if schedule else {}))
    assert host.state == "Running"
    assert [name for name, function in host.functions.items() if function.error] == ["on_reconcile"]
    await host.stop()


async def test_the_identity_knows_every_resource_that_the_host_asks_for() -> None:
    managed = ManagedIdentity()
    for resource in PRODUCT["identity"]["resources asked for by the host"]:
        query = {"api-version": "2019-08-01", "resource": resource, "client_id": CLIENT_ID}
        assert managed.answer(query, {"x-identity-header": managed.header}).status == 200
    assert tokens.MONITOR in PRODUCT["identity"]["resources asked for by the host"]


# -- the host's own lines


@pytest_asyncio.fixture(loop_scope="module")
async def harness(tls: Tls, azurite: Azurite, tmp_path: Path) -> AsyncIterator[Harness]:
    async with Harness(tls, azurite.fresh_account(), tmp_path) as harness:
        yield harness


def _first_words(host: FunctionsHost, function: str) -> list[str]:
    lines = [line.message for line in host.traces if line.category == f"Function.{function}"]
    return ["Trigger Details" if line.startswith("Trigger Details") else line.partition(" ")[0] for line in lines]


async def test_the_host_writes_its_own_lines_about_each_invocation(harness: Harness) -> None:
    host = await harness.host()
    await put(await harness.queue(), {})
    await host.until(lambda: bool(entries(host, "on_work")) and not host.running)
    await harness.send(host, Sent("[{}]"))
    await host.run_timer("on_tick")
    recorded = PRODUCT["telemetry"]["host_lines_per_invocation"]
    assert _first_words(host, "on_work") == recorded["queueTrigger"]
    assert _first_words(host, "on_tick") == recorded["timerTrigger"]
    assert _first_words(host, "on_event") == recorded["eventGridTrigger"]


# -- how a host ends


async def test_a_killed_host_loses_what_its_channel_still_held(harness: Harness) -> None:
    host = await harness.host(time_scale=100)  # nothing is sent for 50 minutes
    await host.run_timer("on_tick")
    assert host.traces
    await host.kill()
    assert host.traces == []


async def test_a_stopped_host_loses_nothing(harness: Harness) -> None:
    host = await harness.host(time_scale=100)
    await host.run_timer("on_tick")
    before = list(host.traces)
    await host.stop()
    assert host.traces == before


async def test_the_channel_holds_lines_for_as_long_as_recorded() -> None:
    telemetry = Telemetry()
    started = datetime.now(UTC)
    seconds = PRODUCT["telemetry"]["flush_seconds"]
    times = [started + timedelta(seconds=after) for after in (seconds - 1, seconds + 1, 2 * seconds - 1)]
    telemetry.traces += [Trace("", "Information", "", "", time) for time in times]
    telemetry.lose_what_was_not_sent(started + timedelta(seconds=2 * seconds - 0.5))
    assert [trace.time for trace in telemetry.traces] == times[:1]


async def test_the_exit_of_the_worker_is_an_exception(harness: Harness) -> None:
    assert "python exited with code" in PRODUCT["life"]["worker killed"]
    host = await harness.host()
    await harness.send(host, Sent(json.dumps([{**EVENT, "data": {"exit": 137}}])))
    assert [item.message for item in host.exceptions if item.category == HostCategory.CONSOLE] == [
        "python exited with code 137 (0x89)"
    ]
    assert host.state == "Running"
