"""Whether events reach the app: its event subscriptions, and the dead letters of what could not be delivered."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from functions.cloud import event_grid
from functions.cloud.errors import CloudError, Gone
from functions.model.text import Json
from patcher import blobs, queries
from patcher.connection import App
from patcher.output import ago
from patcher.questions.check import NOT_CHECKED, Check
from patcher.questions.granted import allows, granted_to

EVENT_GRID = "2022-06-15"
ADD_MESSAGE = "Microsoft.Storage/storageAccounts/queueServices/queues/messages/add/action"
STILL = timedelta(days=1)  # a dead letter that is younger reports a fault that goes on; they are kept for weeks


@dataclass(frozen=True)
class EventPath:
    """An event subscription that leads to this app. `queue`: the id of its queue, "" where it calls the function."""

    properties: Json
    queue: str
    principal: str  # the object id of its topic's identity


async def checks(app: App, subscription: str) -> AsyncIterator[Check]:
    """The event subscriptions of the system topic that lead to this app, the right to send, and the dead letters."""
    name = f"events of {subscription}"
    paths = await _event_paths(app, subscription)
    states = {str(each.properties.get("provisioningState")) for each in paths}
    remedy = "Deploy infra/events.bicep for it (docs/deploy.md). Until then the sweep finds its machines, later."
    if not paths:
        yield Check(name, "bad", "no event subscription points at this app", remedy)
    elif states != {"Succeeded"}:
        yield Check(name, "bad", f"the event subscription is {', '.join(sorted(states))}", remedy)
    else:
        where = f", by its queue {event_grid.QUEUE}" if all(each.queue for each in paths) else ""
        yield Check(name, "ok", f"an event subscription points at this app{where}")
    for each in paths:
        if each.queue:
            yield await _sender(app, f"sender of {subscription}", each)
    for container in dict.fromkeys(_dead_letter_container(each.properties) for each in paths):
        yield await _dead_letters(app, f"dead letters of {subscription}", container)


async def _event_paths(app: App, subscription: str) -> list[EventPath]:
    query = queries.fill("topics_of", sources=[f"/subscriptions/{subscription}"])
    paths = []
    async for topic in app.services.graph.rows(query):
        async for each in app.arm.listed(f"{topic.get('id')}/eventSubscriptions", EVENT_GRID):
            place = _place(_properties(each))
            target, name = str(place.get("resourceId") or ""), str(place.get("queueName") or "")
            queue = f"{target}/queueServices/default/queues/{name}" if name else ""
            if _is_our_queue(app, target, name) if name else _is_our_function(app, target):
                paths.append(EventPath(_properties(each), queue, str(topic.get("principal") or "")))
    return paths


def _place(properties: Json) -> Json:
    """Where events go: to a function, or with the topic's identity to a queue."""
    for name in ("destination", "deliveryWithResourceIdentity"):
        destination = properties.get(name) or {}
        destination = destination.get("destination") or destination
        if found := destination.get("properties"):
            return found if isinstance(found, Mapping) else {}
    return {}


def _is_our_function(app: App, target: str) -> bool:
    """The simulator's app has no id of its own: it is the one of its resource group."""
    ours = f"{app.site}/functions/" if app.site else f"{app.group}/providers/Microsoft.Web/sites/"
    return target.lower().startswith(ours.lower())


def _is_our_queue(app: App, account: str, name: str) -> bool:
    """The queue that the app reads. Of the account its settings say the address; the simulator's names none."""
    address = app.environ.get("AzureWebJobsStorage__queueServiceUri", "").lower()
    ours = address.startswith(f"https://{account.rpartition('/')[2]}.queue.".lower()) or ".queue." not in address
    return ours and name == event_grid.QUEUE


async def _sender(app: App, name: str, path: EventPath) -> Check:
    """Whether the identity of the topic may add events to the queue. Raises CloudError."""
    if not path.principal:
        remedy = "Give the system topic a system-assigned identity, and deploy infra/main.bicep again."
        return Check(name, "bad", "the topic has no identity with which to write to the queue", remedy)
    granted = await granted_to(app, path.principal, path.queue)
    if any(allows(each, ADD_MESSAGE, "dataActions") for each in granted):
        return Check(name, "ok", f"the topic's identity may write to the queue {event_grid.QUEUE}")
    remedy = f"Assign Storage Queue Data Message Sender to {path.principal} at {path.queue} (docs/deploy.md)."
    return Check(name, "bad", f"the topic's identity may not write to the queue {event_grid.QUEUE}", remedy)


def _properties(subscription: Json) -> Json:
    found = subscription.get("properties")
    return found if isinstance(found, Mapping) else {}


def _dead_letter_container(properties: Json) -> tuple[str, str] | None:
    """The storage account's name and the container; None where no dead letter is written."""
    written = properties.get("deadLetterWithResourceIdentity") or {}
    place = written.get("deadLetterDestination") or properties.get("deadLetterDestination") or {}
    where = place.get("properties") or {}
    account, container = str(where.get("resourceId") or ""), str(where.get("blobContainerName") or "")
    return (account.rsplit("/", 1)[-1].lower(), container) if account and container else None


async def _dead_letters(app: App, name: str, container: tuple[str, str] | None) -> Check:
    """How many there are."""
    if container is None:
        remedy = "Deploy infra/events.bicep again: it sets one. Without one nothing shows that delivery fails."
        return Check(name, "note", "no container is set: an event that cannot be delivered leaves no trace", remedy)
    account, folder = container
    try:
        found = await blobs.listed(app.session, _endpoint(app, account), folder)
    except Gone:
        remedy = "Deploy infra/main.bicep again: it creates the container."
        return Check(name, "bad", f"container {folder} of {account} does not exist", remedy)
    except CloudError as error:
        return Check(name, NOT_CHECKED, str(error), f"Get Storage Blob Data Reader on {account} to see them.")
    now = app.services.clock()
    if not found.newest:
        return Check(name, "ok", f"none in container {folder} of {account}")
    count = f"{found.count}{' or more' if found.more else ''} in container {folder} of {account}"
    remedy = "Read the deadLetterReason of the newest (docs/patcher.md). The sweep finds their machines, later."
    detail = f"{count}, the newest {ago(found.newest, now)} old"
    return Check(name, "bad" if now - found.newest < STILL else "note", detail, remedy)


def _endpoint(app: App, account: str) -> str:
    """Where the blobs of the account are. Of the app's own account its settings say it, in every cloud."""
    own = app.environ.get("AzureWebJobsStorage__blobServiceUri", "").rstrip("/")
    elsewhere = ".blob." in own and not own.startswith(f"https://{account}.blob.")
    return own if own and not elsewhere else f"https://{account}.blob.core.windows.net"
