"""The handshakes by which an endpoint proves that it wants the events (webhook-event-delivery.md)."""

from __future__ import annotations

import random
from datetime import datetime

import aiohttp

from simulator.event_grid.subscriptions import EventSubscription
from simulator.wire import guid, ticks_z

_ORIGIN = "eventgrid.azure.net"


class HandshakeFailed(Exception):
    """The endpoint did not prove that it wants the events. The text says what it answered."""


async def shake_hands(
    session: aiohttp.ClientSession, subscription: EventSubscription, *, now: datetime, rng: random.Random
) -> None:
    """Raises HandshakeFailed."""
    if subscription.schema == "EventGridSchema":
        await _validate(session, subscription, now=now, rng=rng)
    else:
        await _ask_for_origin(session, subscription)


async def _validate(
    session: aiohttp.ClientSession, subscription: EventSubscription, *, now: datetime, rng: random.Random
) -> None:
    """A validation event, whose code the endpoint must repeat."""
    code = guid(rng)
    url = f"https://rp-westus.eventgrid.azure.net:553/eventsubscriptions/{subscription.name}/validate?id={code}"
    event = {
        "id": guid(rng),
        "topic": subscription.topic or "/subscriptions/00000000-0000-0000-0000-000000000000",
        "subject": "",
        "data": {"validationCode": code, "validationUrl": url},
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "eventTime": ticks_z(now),
        "metadataVersion": "1",
        "dataVersion": "1",
    }
    headers = {"aeg-event-type": "SubscriptionValidation", "aeg-subscription-name": subscription.name.upper()}
    async with session.post(subscription.endpoint_url, json=[event], headers=headers) as answer:
        body = await answer.text()
        good = answer.status == 200 and f'"{code}"' in body and "validationResponse" in body
        if not good:
            raise HandshakeFailed(f"{subscription.name}: {answer.status}, without the validation code in a 200")


async def _ask_for_origin(session: aiohttp.ClientSession, subscription: EventSubscription) -> None:
    """HTTP OPTIONS (CloudEvents webhook specification, abuse protection)."""
    headers = {"WebHook-Request-Origin": _ORIGIN}
    async with session.options(subscription.endpoint_url, headers=headers) as answer:
        allowed = answer.headers.get("WebHook-Allowed-Origin", "")
        if answer.status != 200 or allowed not in ("*", _ORIGIN):
            raise HandshakeFailed(f"{subscription.name}: {answer.status}, allowed origin '{allowed}'")
