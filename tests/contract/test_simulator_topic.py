"""The simulated topic of Event Grid: azure-eventgrid's own client over TLS, and what the topic refuses.

The judge are the public pages: 1 MB for a request and for an event, 413 above it; the role's data action
Microsoft.EventGrid/events/send/action; the audience https://eventgrid.azure.net (MicrosoftDocs/azure-docs, event-grid).
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridEvent
from azure.eventgrid.aio import EventGridPublisherClient

from functions.cloud.errors import CloudError, Gone, Refused, Throttled, Unavailable
from functions.cloud.notices import EventGridTopic, Outbox, Pending, pending_of
from functions.cloud.session import Session
from functions.cloud.tables import Row
from functions.model.notice import Notice, NoticeType
from simulator import identity
from simulator.azure import Azure, Fault, Grant
from simulator.event_grid.delivery import EventGrid
from simulator.event_grid.subscriptions import EventSubscription
from simulator.event_grid.topic import LARGEST, SEND, Topic
from simulator.identity import ClockCredential
from simulator.server import serve
from simulator.tls import Tls
from simulator.transport import AzureTransport
from tests.support import settings
from tests.support.world import NOTICES, TOPIC

NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)


@pytest.fixture
def azure() -> Azure:
    return Azure(now=lambda: NOW)


@pytest.fixture
def topic(azure: Azure) -> Topic:
    return azure.create_topic(TOPIC)


def client(azure: Azure, topic: Topic, credential: Any = None) -> EventGridPublisherClient:
    transport = AzureTransport(azure)
    return EventGridPublisherClient(
        topic.endpoint, credential or ClockCredential(azure.now), transport=transport, retry_total=0
    )


def an_event(**more: Any) -> CloudEvent[Any]:
    return CloudEvent(source="/a", type="b.c", data={"text": "größe"}, id="1", extensions={"sequence": "1"}, **more)


async def test_the_real_client_sends_a_batch_over_tls(tls: Tls) -> None:
    azure = Azure(now=lambda: datetime.now(UTC))
    azure.create_topic(TOPIC)
    async with serve(azure, tls) as endpoint:
        sender = EventGridPublisherClient(f"{endpoint}/api/events", ClockCredential(azure.now))
        async with sender:
            await sender.send([an_event(), an_event(subject="x")])
    assert azure.topic is not None
    assert [event["subject"] for event in azure.topic.events[1:]] == ["x"]
    [first, _] = azure.topic.events
    assert (first["id"], first["data"], first["sequence"]) == ("1", {"text": "größe"}, "1")


REFUSED: dict[str, tuple[Any, type[Exception], int]] = {
    "an event of Event Grid's own schema": (EventGridEvent("s", "t", {}, "1"), HttpResponseError, 400),
    "an event larger than 1 MB": (CloudEvent("/a", "b", data="x" * LARGEST), HttpResponseError, 413),
    "events that are larger together": ([CloudEvent("/a", "b", data="x" * 600_000)] * 2, HttpResponseError, 413),
}


@pytest.mark.parametrize(("events", "error", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_the_topic_refuses_leaves_nothing(
    azure: Azure, topic: Topic, events: Any, error: type[Exception], status: int
) -> None:
    with pytest.raises(error) as caught:
        await client(azure, topic).send(events)
    assert getattr(caught.value, "status_code", None) == status
    assert topic.events == []


BAD_BODIES = {
    "no JSON": b"{",
    "no list": b'{"id": "1"}',
    "no events": b"[]",
    "no source": json.dumps([{"id": "1", "type": "t", "specversion": "1.0"}]).encode(),
    "another version": json.dumps([{"id": "1", "type": "t", "source": "s", "specversion": "0.3"}]).encode(),
    "an extension with a capital": json.dumps(
        [{"id": "1", "type": "t", "source": "s", "specversion": "1.0", "mySequence": "1"}]
    ).encode(),
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_body_that_is_not_a_batch_of_cloud_events_is_refused(azure: Azure, topic: Topic, body: bytes) -> None:
    from simulator.wire import Request

    token = identity.mint(identity.EVENT_GRID, now_seconds=NOW.timestamp())
    headers = {"authorization": f"Bearer {token}", "content-type": "application/cloudevents-batch+json"}
    request = Request("POST", "/api/events", {"api-version": "2018-01-01"}, headers, body, topic.host)
    assert (await azure.handle(request)).status == 400
    assert topic.events == []


async def test_only_a_token_for_event_grid_with_the_right_to_send_is_taken(azure: Azure, topic: Topic) -> None:
    with pytest.raises(ClientAuthenticationError):
        await client(azure, topic, ClockCredential(azure.now, audience=identity.ARM)).send(an_event())
    azure.grants = [Grant(TOPIC, ("Microsoft.EventGrid/topics/read",))]
    with pytest.raises(HttpResponseError) as caught:
        await client(azure, topic).send(an_event())
    assert caught.value.status_code == 403
    azure.grants = [Grant(TOPIC, (SEND,))]
    await client(azure, topic).send(an_event())
    assert len(topic.events) == 1


async def test_a_topic_that_is_gone(azure: Azure, topic: Topic) -> None:
    azure.topic = None
    with pytest.raises(ResourceNotFoundError):
        await client(azure, topic).send(an_event())


# -- the app's own client of it


def a_pending(text: str = "run") -> Pending:
    notice = Notice(NoticeType.RUN_PROGRESS, "run/1", {"run": text})
    _, [insert] = Outbox(lambda: NOW).written_with(None, ("p", "k"), [notice])
    found = pending_of(Row(insert.partition, insert.key, insert.columns, "etag"))
    assert found is not None
    return found


def the_apps(azure: Azure) -> EventGridTopic:
    access = Session(
        settings(**NOTICES), lambda: NOW, credential=ClockCredential(azure.now), transport=AzureTransport(azure)
    )
    return EventGridTopic(access)


FAILURES: dict[str, tuple[Fault, type[CloudError]]] = {
    "400": (Fault(status=400), Refused),
    "401": (Fault(status=401), Unavailable),
    "403": (Fault(status=403), Refused),
    "404": (Fault(status=404), Gone),
    "413": (Fault(status=413), Refused),
    "429": (Fault(status=429, headers={"retry-after": "7"}), Throttled),
    "500": (Fault(status=500), Unavailable),
    "503": (Fault(status=503), Unavailable),
    "a redirect": (Fault(status=307, headers={"location": "https://evil.example/api/events"}), CloudError),
    "no connection": (Fault(drop="before"), Unavailable),
    "no answer": (Fault(drop="after"), Unavailable),
}


@pytest.mark.parametrize(("fault", "error"), FAILURES.values(), ids=FAILURES)
async def test_each_failure_is_one_clear_error_and_one_request(
    azure: Azure, topic: Topic, fault: Fault, error: type[CloudError]
) -> None:
    fault.times, fault.hits = None, 0
    azure.faults.add(fault)
    with pytest.raises(error) as caught:
        await the_apps(azure).send([a_pending()])
    assert len(azure.requests) == 1
    assert "eventgrid.azure.net" not in str(caught.value)


async def test_what_is_sent_twice_is_the_same_event(azure: Azure, topic: Topic) -> None:
    sender, pending = the_apps(azure), a_pending()
    await sender.send([pending])
    await sender.send([pending])
    first, second = topic.events
    assert first == second
    assert first["datacontenttype"] == "application/json"


def test_a_subscription_of_a_topic_of_cloud_events_cannot_ask_for_another_schema(azure: Azure, topic: Topic) -> None:
    grid = EventGrid(azure.world)
    grid.deliver_from(topic)
    grid.subscriptions.append(EventSubscription("old", "https://example.org", topic=topic.id))
    with pytest.raises(ValueError, match="delivers CloudEvents only"):
        topic.listeners[0]({"specversion": "1.0", "id": "1", "source": "/a", "type": "b.c"})
