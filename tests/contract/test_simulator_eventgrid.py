"""The simulator's events beside the samples, and their delivery to a small webhook: handshakes, retries, dead letters.

Factors of a delivery: schema, filter, batch, what the endpoint answers. The schedule runs a thousand times faster.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from aiohttp import web

from simulator import serving
from simulator.arm import shapes
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure
from simulator.event_grid.delivery import EventGrid
from simulator.event_grid.events import as_cloud_event
from simulator.event_grid.handshake import HandshakeFailed
from simulator.event_grid.retries import RETRY_SECONDS, Delivery
from simulator.event_grid.subscriptions import EndpointType, EventSubscription, Filter, Operator
from simulator.tls import Tls
from simulator.wire import Json
from tests.contract.simulator_client import GROUP, Clock, arm, install_order, payload, ready_machine

VM = shapes.machine_id("vm-01")
WRITE = "Microsoft.Compute/virtualMachines/write"
SPEED = 1000


def keys(value: Any, depth: int = 3) -> Any:
    """The names in an event, claims aside: whose token it was decides which claims there are."""
    if not isinstance(value, dict) or not depth:
        return None
    return {name: None if name == "claims" else keys(each, depth - 1) for name, each in value.items()}


async def events_of_a_life() -> dict[tuple[str, str], dict[str, Any]]:
    """The events of a machine's life, by (operation, method of its request)."""
    clock = Clock()
    azure = Azure(clock)
    azure.create_group(GROUP)
    async with arm(azure) as client:
        await client.call("PUT", VM, shapes.machine())
        clock.go(300)
        await client.call("PATCH", VM, {"tags": {"patch-ring": "1"}})
        await client.call("POST", f"{VM}/assessPatches")
        clock.go(600)
        await client.call("POST", f"{VM}/installPatches", install_order())
        clock.go(3600)
        for action in ("deallocate", "start", "restart", "redeploy", "reapply"):
            await client.call("POST", f"{VM}/{action}")
            clock.go(300)
        await client.call("DELETE", VM)
        clock.go(300)
    events = azure.events
    assert len({event["id"] for event in events}) == len(events)
    return {(e["data"]["operationName"], e["data"].get("httpRequest", {}).get("method", "")): e for e in events}


async def test_events_have_the_sampled_names_and_nothing_else() -> None:
    events = await events_of_a_life()
    samples = payload("eventgrid_vm_write_INFERRED.json")
    action = payload("eventgrid_ResourceActionSuccess_doc_sample.json")[0]
    expected = {
        (WRITE, ""): samples["vm_create"],
        (WRITE, "PATCH"): samples["vm_update_with_httpRequest"],
        ("Microsoft.Compute/virtualMachines/extensions/write", ""): samples["extension_on_vm"],
        ("Microsoft.Compute/virtualMachines/assessPatches/action", "POST"): action,
        ("Microsoft.Compute/virtualMachines/installPatches/action", "POST"): action,
        **{
            (f"Microsoft.Compute/virtualMachines/{name}/action", "POST"): action
            for name in ("deallocate", "start", "restart", "redeploy", "reapply")
        },
    }
    for name, sample in expected.items():
        assert keys(events[name]) == keys(sample), name
        assert events[name]["eventType"] == sample["eventType"]
    assert events.keys() - expected.keys() == {
        ("Microsoft.Resources/subscriptions/resourceGroups/write", ""),
        ("Microsoft.Compute/virtualMachines/delete", "DELETE"),
    }
    extension = events["Microsoft.Compute/virtualMachines/extensions/write", ""]
    assert extension["subject"].startswith(f"{VM}/extensions/")
    assert "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn" in extension["data"]["claims"]


async def test_cloud_events_have_the_sampled_names() -> None:
    events = await events_of_a_life()
    assert keys(as_cloud_event(events[WRITE, ""])) == keys(payload("eventgrid_vm_write_cloudevents_INFERRED.json"))


def test_a_failed_operation_gives_a_failure_event() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.start_operation(VM, "install")
    clock.go(60)
    azure.start_operation(VM, "deallocate")
    assert azure.events[-1]["eventType"] == "Microsoft.Resources.ResourceActionFailure"
    clock.go(3600)
    names = [event["data"]["operationName"].rsplit("/", 2)[-2] for event in azure.events]
    assert names.count("installPatches") == 1, "the end that was planned gives no second event"


# --- delivery ------------------------------------------------------------------------------------------------------


@dataclass
class Webhook:
    """An endpoint that keeps what it gets. `answers` are used up one by one, then it takes everything."""

    answers: list[int] = field(default_factory=list)
    handshake: Callable[[str], web.Response] = lambda code: web.json_response({"validationResponse": code})
    origin: str = "*"
    url: str = ""
    requests: list[tuple[dict[str, str], Any]] = field(default_factory=list)

    async def post(self, request: web.Request) -> web.Response:
        body = await request.json()
        if request.headers.get("aeg-event-type") == "SubscriptionValidation":
            self.requests.append((dict(request.headers), body))
            return self.handshake(body[0]["data"]["validationCode"])
        self.requests.append(({name.lower(): value for name, value in request.headers.items()}, body))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def options(self, request: web.Request) -> web.Response:
        assert request.headers["WebHook-Request-Origin"] == "eventgrid.azure.net"
        return web.Response(headers={"WebHook-Allowed-Origin": self.origin})

    @property
    def events(self) -> list[dict[str, Any]]:
        bodies = [body for headers, body in self.requests if headers.get("aeg-event-type") == "Notification"]
        return [event for body in bodies for event in (body if isinstance(body, list) else [body])]


@asynccontextmanager
async def listening(webhook: Webhook, context: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_post("/hook", webhook.post)
    app.router.add_route("OPTIONS", "/hook", webhook.options)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    webhook.url = f"http{'s' if context else ''}://localhost:{runner.addresses[0][1]}/hook"
    try:
        yield
    finally:
        await serving.close(runner)


async def deliver(
    webhook: Webhook, subscription: EventSubscription, *, machines: int = 1, tls: Tls | None = None
) -> EventGrid:
    """Creates machines while the subscription listens, and waits until nothing is on its way."""
    clock = Clock()
    azure = Azure(clock)
    grid = EventGrid(azure.world, speed=SPEED, tls=tls.client_context() if tls else None)
    async with listening(webhook, tls.server_context() if tls else None), grid:
        await grid.subscribe(replace(subscription, endpoint_url=webhook.url))
        for number in range(machines):
            azure.create_machine(shapes.machine_id(f"vm-{number:02}"), shapes.machine())
        clock.go(300)
        azure.advance()
        await grid.until_idle()
    return grid


WRITES = EventSubscription(
    "machines",
    "",
    included_event_types=("Microsoft.Resources.ResourceWriteSuccess",),
    filters=(Filter("data.operationName", (WRITE.lower(),)),),
)


async def test_an_event_arrives_over_tls_after_the_handshake(tls: Tls) -> None:
    webhook = Webhook()
    await deliver(webhook, WRITES, tls=tls)
    (shake_headers, shake), (headers, body) = webhook.requests
    sample = payload("eventgrid_SubscriptionValidation_doc_sample.json")
    assert shake_headers["aeg-event-type"] == sample["request_header"]["aeg-event-type"]
    assert keys(shake[0]) == keys(sample["request_body"][0])
    assert [event["subject"] for event in body] == [shapes.machine_id("vm-00")]
    assert (headers["aeg-event-type"], headers["aeg-delivery-count"]) == ("Notification", "0")


def other_code(code: str) -> web.Response:
    return web.json_response({"validationResponse": "another"})


def accepted(code: str) -> web.Response:
    return web.json_response({"validationResponse": code}, status=202)


@pytest.mark.parametrize(
    ("schema", "webhook"),
    [
        pytest.param("EventGridSchema", Webhook(handshake=other_code), id="wrong code"),
        pytest.param("EventGridSchema", Webhook(handshake=accepted), id="202 instead of 200"),
        pytest.param("CloudEventSchemaV1_0", Webhook(origin="example.com"), id="another origin allowed"),
    ],
)
async def test_an_endpoint_that_does_not_prove_itself_gets_nothing(schema: Any, webhook: Webhook) -> None:
    grid = EventGrid(Azure(Clock()).world, speed=SPEED)
    async with listening(webhook), grid:
        with pytest.raises(HandshakeFailed):
            await grid.subscribe(replace(WRITES, endpoint_url=webhook.url, schema=schema))
    assert grid.subscriptions == []


async def test_cloud_events_arrive_alone_and_as_such() -> None:
    webhook = Webhook()
    await deliver(webhook, replace(WRITES, schema="CloudEventSchemaV1_0"))
    ((headers, body),) = webhook.requests
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert (body["specversion"], body["type"]) == ("1.0", "Microsoft.Resources.ResourceWriteSuccess")


async def test_a_batch_holds_no_more_than_it_may() -> None:
    webhook = Webhook()
    await deliver(webhook, replace(WRITES, max_events_per_batch=4), machines=10)
    sizes = [len(body) for headers, body in webhook.requests if headers.get("aeg-event-type") == "Notification"]
    assert sorted(sizes) == [2, 4, 4]
    assert len({event["id"] for event in webhook.events}) == 10


ANY = EventSubscription("any", "")
EXTENSION = "AzureMonitorLinuxAgent"
SUBJECTS = replace(WRITES, filters=(), subject_begins_with=VM[:-5])
ACTIONS = replace(WRITES, included_event_types=("Microsoft.Resources.ResourceActionSuccess",))
CONTAINS = Filter("data.operationName", ("extensions/",), "StringContains")
NOT_CONTAINS = Filter("data.operationName", ("extensions/",), "StringNotContains")
NOT_IN = Filter("data.resourceProvider", ("microsoft.compute",), "StringNotIn")

FILTERS = [
    pytest.param(WRITES, ["vm-00"], id="write of machines only"),
    pytest.param(ANY, [EXTENSION, "rg-prod", "vm-00"], id="no filter"),
    pytest.param(SUBJECTS, [EXTENSION, "vm-00"], id="a prefix takes extensions along"),
    pytest.param(
        replace(SUBJECTS, subject_case_sensitive=True), [EXTENSION, "vm-00"], id="letter case counts and fits"
    ),
    pytest.param(
        replace(SUBJECTS, subject_begins_with=VM.upper(), subject_case_sensitive=True), [], id="letter case counts"
    ),
    pytest.param(replace(WRITES, subject_ends_with="VM-00"), ["vm-00"], id="an ending, letter case aside"),
    pytest.param(ACTIONS, [], id="actions only"),
    pytest.param(replace(ANY, filters=(CONTAINS,)), [EXTENSION], id="contains"),
    pytest.param(replace(ANY, filters=(NOT_IN,)), ["rg-prod"], id="not in"),
    pytest.param(replace(ANY, filters=(NOT_CONTAINS,)), ["rg-prod", "vm-00"], id="does not contain"),
    pytest.param(replace(ANY, filters=(CONTAINS, NOT_IN)), [], id="all filters at once"),
    pytest.param(replace(WRITES, topic=f"/subscriptions/{SUBSCRIPTION}0"), [], id="another subscription's topic"),
]


@pytest.mark.parametrize(("subscription", "names"), FILTERS)
async def test_filters(subscription: EventSubscription, names: list[str]) -> None:
    webhook = Webhook()
    await deliver(webhook, subscription)
    assert sorted(event["subject"].rsplit("/", 1)[-1] for event in webhook.events) == names


async def test_a_failing_endpoint_is_tried_again_until_it_answers() -> None:
    webhook = Webhook(answers=[500, 503, 404])
    grid = await deliver(webhook, WRITES)
    assert [attempt.status for attempt in grid.attempts] == [500, 503, 404, 200]
    assert {event["id"] for event in webhook.events} == {grid.attempts[0].event_ids[0]}, "one event, four times"
    assert grid.dead_letters == grid.dropped == []


@pytest.mark.parametrize(
    ("answers", "changes", "attempts", "reason", "outcome"),
    [
        pytest.param([400], {}, 1, "UndeliverableDueToHttpBadRequest", "BadRequest", id="400: at once"),
        pytest.param([413], {}, 1, "UndeliverableDueToHttpRequestEntityTooLarge", "BadRequest", id="413: at once"),
        pytest.param(
            [404] * 9, {"max_attempts": 3}, 3, "MaxDeliveryAttemptsExceeded", "NotFound", id="attempts used up"
        ),
        pytest.param(
            [404],
            {"ttl_minutes": 1, "endpoint_type": "AzureFunction"},
            1,
            "TimeToLiveExceeded",
            "NotFound",
            id="the next try comes too late",
        ),
    ],
)
async def test_what_cannot_be_delivered_is_a_dead_letter(
    answers: list[int], changes: dict[str, Any], attempts: int, reason: str, outcome: str
) -> None:
    stored: list[dict[str, Any]] = []

    async def store(letter: dict[str, Any]) -> bool:
        stored.append(letter)
        return True

    webhook = Webhook(answers=list(answers))
    grid = await deliver(webhook, replace(WRITES, dead_letter=store, **changes))
    (letter,) = grid.dead_letters
    assert stored == [letter]
    assert letter.keys() == payload("eventgrid_deadletter_doc_sample.json").keys()
    assert (letter["deliveryAttempts"], letter["deadLetterReason"]) == (attempts, reason)
    assert letter["lastDeliveryOutcome"] == outcome


PUBLISHED = payload("event_grid_delivery.json")
OUTCOMES = {each["value"] for each in PUBLISHED["last_delivery_outcomes"]}


# A function and a queue are Azure resources; the names are among the published types of endpoints.
KINDS: dict[str, tuple[EndpointType, ...]] = {
    "webhook": ("WebHook",),
    "azure resource": ("AzureFunction", "StorageQueue"),
}


def delivered(record: dict[str, Any], kind: EndpointType) -> Delivery:
    """A first attempt that this answer ended."""
    status = {"no answer in 30 s": 0, "other": 500}.get(record["status"], record["status"])
    return Delivery(replace(ANY, endpoint_type=kind), [], datetime.now(UTC), attempts=1, status=status)


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        pytest.param(each, kind, id=f"{kind} {each['status']}")
        for each in PUBLISHED["status_codes"]
        for kind in KINDS[each["endpoint"]]
    ],
)
def test_answers_have_the_published_consequence(record: dict[str, Any], kind: EndpointType) -> None:
    assert kind in [each["value"] for each in PUBLISHED["endpoint_types"]]
    delivery = delivered(record, kind)
    assert delivery.succeeded == (record["result"] == "delivered")
    if not delivery.succeeded:
        gives_up = delivery.reason_to_give_up(1.0) is not None
        assert gives_up == record["result"].startswith("not retried")
        assert gives_up or delivery.wait_seconds(1.0) >= record["retry_after_at_least_seconds"]


def test_limits_and_schedule_are_the_published_ones() -> None:
    policy = {each["name"]: each["default"] for each in PUBLISHED["retry_policy"]}
    assert list(RETRY_SECONDS) == PUBLISHED["retry_schedule_seconds"]["value"]
    assert policy == {"maxDeliveryAttempts": ANY.max_attempts, "eventTimeToLiveInMinutes": ANY.ttl_minutes}
    assert EventGrid(Azure(Clock()).world).answer_seconds == PUBLISHED["answer_timeout_seconds"]["value"]
    assert set(get_args(Operator)) <= set(PUBLISHED["filters"]["operators"])


async def test_a_stopped_app_answers_403_and_its_events_are_dead_letters_at_once() -> None:
    """A stopped App Service site answers so. That a stopped Flex Consumption app does is not documented."""
    forbidden = PUBLISHED["stopped_app"]["status"]
    grid = await deliver(Webhook(answers=[forbidden]), replace(WRITES, endpoint_type="AzureFunction"))
    assert [attempt.status for attempt in grid.attempts] == [forbidden]
    assert len(grid.dropped) == 1


# what the queue answers, attempt by attempt → attempts, dead letter's reason and outcome ("" where it was delivered)
QUEUE_ANSWERS: dict[str, tuple[list[int], int, str, str]] = {
    "201": ([201], 1, "", ""),
    "403: the role is missing": ([403], 1, "UndeliverableDueToHttpForbidden", "Forbidden"),
    "404: the queue is gone, and comes back": ([404, 404, 201], 3, "", ""),
    "404: the queue is gone": ([404] * 9, 4, "MaxDeliveryAttemptsExceeded", "NotFound"),
    "413: the message is too large": ([413], 1, "UndeliverableDueToHttpRequestEntityTooLarge", "BadRequest"),
    "503: the account is busy": ([503, 201], 2, "", ""),
}


@pytest.mark.parametrize(("answers", "attempts", "reason", "outcome"), QUEUE_ANSWERS.values(), ids=QUEUE_ANSWERS)
async def test_what_a_queue_answers_is_tried_again_or_a_dead_letter(
    answers: list[int], attempts: int, reason: str, outcome: str
) -> None:
    left, sent = list(answers), []

    async def send(event: Json) -> int:
        sent.append(event)
        return left.pop(0)

    async def store(letter: Json) -> bool:
        return True

    to_queue = replace(WRITES, endpoint_url="", endpoint_type="StorageQueue", queue=send, handshake=False)
    grid = await deliver(Webhook(), replace(to_queue, dead_letter=store, max_attempts=4))
    assert [each.status for each in grid.attempts] == answers[:attempts]
    assert {each["data"]["operationName"] for each in sent} == {WRITE}, "one event, and no array"
    letters = [(each["deadLetterReason"], each["lastDeliveryOutcome"]) for each in grid.dead_letters]
    assert letters == ([(reason, outcome)] if reason else [])
    assert {each["lastDeliveryOutcome"] for each in grid.dead_letters} <= OUTCOMES


async def test_without_a_place_for_dead_letters_the_event_is_lost() -> None:
    grid = await deliver(Webhook(answers=[400]), WRITES)
    assert (len(grid.dropped), grid.dead_letters) == (1, [])


async def test_an_endpoint_that_does_not_answer_in_time_is_tried_again() -> None:
    clock = Clock()
    azure = Azure(clock)
    webhook = Webhook()
    take, calls, over = webhook.post, [], asyncio.Event()

    async def dawdle(request: web.Request) -> web.Response:
        calls.append(request)
        if len(calls) == 1:
            await over.wait()  # no answer while the test looks on
            return web.Response()
        return await take(request)

    webhook.post = dawdle  # type: ignore[method-assign]
    grid = EventGrid(azure.world, speed=SPEED, answer_seconds=1)
    async with listening(webhook), grid:
        await grid.subscribe(replace(WRITES, endpoint_url=webhook.url, handshake=False))
        azure.create_machine(VM, shapes.machine())
        clock.go(300)
        azure.advance()
        await grid.until_idle()
        over.set()
    statuses = [attempt.status for attempt in grid.attempts]
    assert statuses == [0] * (len(statuses) - 1) + [200]
