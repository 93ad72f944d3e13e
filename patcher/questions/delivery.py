"""Whether events reach the app: its event subscriptions, and the dead letters of what could not be delivered."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

from functions.cloud.errors import CloudError, Gone
from functions.model.text import Json
from patcher import blobs, queries
from patcher.connection import App
from patcher.output import ago
from patcher.questions.check import NOT_CHECKED, Check

EVENT_GRID = "2022-06-15"
STILL = timedelta(days=1)  # a dead letter that is younger tells of a fault that goes on; they are kept for weeks


async def checks(app: App, subscription: str) -> AsyncIterator[Check]:
    """The event subscriptions of the system topic that point at this app, and their dead letters."""
    name = f"events of {subscription}"
    if not app.site:
        yield Check(name, NOT_CHECKED, "the simulator shows no event subscriptions")
        return
    query = queries.fill("topics_of", sources=[f"/subscriptions/{subscription}"])
    pointing: list[Json] = []
    async for topic in app.services.graph.rows(query):
        async for each in app.arm.listed(f"{topic.get('id')}/eventSubscriptions", EVENT_GRID):
            if _target(each).lower().startswith(f"{app.site}/functions/".lower()):
                pointing.append(_properties(each))
    states = {str(each.get("provisioningState")) for each in pointing}
    remedy = "Deploy infra/events.bicep for it (docs/deploy.md). Until then the sweep finds its machines, later."
    if not pointing:
        yield Check(name, "bad", "no event subscription points at this app", remedy)
    elif states != {"Succeeded"}:
        yield Check(name, "bad", f"the event subscription is {', '.join(sorted(states))}", remedy)
    else:
        yield Check(name, "ok", "an event subscription points at this app")
    for container in dict.fromkeys(map(_dead_letter_container, pointing)):
        yield await _dead_letters(app, f"dead letters of {subscription}", container)


def _target(subscription: Json) -> str:
    """The function that events go to."""
    properties = _properties(subscription)
    for name in ("destination", "deliveryWithResourceIdentity"):
        destination = properties.get(name) or {}
        destination = destination.get("destination") or destination
        if found := (destination.get("properties") or {}).get("resourceId"):
            return str(found)
    return ""


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
