"""Finds the machine that an event is about, from its type, subject and data.

These have the same values in the Event Grid schema and in CloudEvents 1.0. The event types are our own constants, and a
test compares them with azure-eventgrid's SystemEventNames: importing that package would slow every cold start.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from functions.cloud.models import time_or_none
from functions.model.machine import MachineId
from functions.model.text import BadInput, quoted

RESOURCE_WRITE_SUCCESS = "Microsoft.Resources.ResourceWriteSuccess"
RESOURCE_ACTION_SUCCESS = "Microsoft.Resources.ResourceActionSuccess"
QUEUE = "machine-events"  # where Event Grid delivers if the deployment chose a queue instead of the function
# Every PUT, PATCH, POST and DELETE in a subscription causes an event; after these a machine may need something.
OPERATIONS = {
    RESOURCE_WRITE_SUCCESS: ("microsoft.compute/virtualmachines/write", "microsoft.hybridcompute/machines/write"),
    RESOURCE_ACTION_SUCCESS: (
        "microsoft.compute/virtualmachines/start/action",
        "microsoft.compute/virtualmachines/reimage/action",
    ),
}


@dataclass(frozen=True)
class MachineEvent:
    """An event about a machine: it was written, started or reimaged.

    `started_by`: the client id of its caller, in lower case; "" for another event, or where it does not say.
    """

    machine: MachineId
    reimaged: bool = False
    started_by: str = ""
    at: datetime | None = None  # when Azure ended what it reports, in UTC


def event_in(event_type: object, subject: object, data: object, *, at: object = None) -> MachineEvent | None:
    """The event, if it is about a machine; None when it is about something else. Raises BadInput.

    `at`: its time, as a text or a datetime. Claims as Learn's "Azure subscription as an Event Grid source" shows them.
    """
    machine = machine_in(event_type, subject, data)
    if machine is None or not isinstance(data, Mapping):
        return None
    action = str(data.get("operationName")).lower().rpartition("/virtualmachines/")[2]
    claims = data.get("claims")
    caller = claims.get("appid") if action == "start/action" and isinstance(claims, Mapping) else None
    return MachineEvent(
        machine,
        reimaged=action == "reimage/action",
        started_by=caller.lower() if isinstance(caller, str) else "",
        at=_time_of(at),
    )


def _time_of(at: object) -> datetime | None:
    """One that cannot be read is none: it only tells an earlier start from a later one."""
    if isinstance(at, datetime):
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at
    with suppress(BadInput):
        return time_or_none(at)
    return None


def machine_in(event_type: object, subject: object, data: object) -> MachineId | None:
    """The machine that was written, started or reimaged; None when it is about something else. Raises BadInput."""
    if not isinstance(event_type, str) or not event_type:
        raise BadInput(f"an event's type is {quoted(event_type)}; it should be {RESOURCE_WRITE_SUCCESS} or similar")
    if event_type not in OPERATIONS:
        return None
    if not isinstance(data, Mapping):
        raise BadInput(f"an event's data is {quoted(data)}; it should be an object with operationName")
    operation = data.get("operationName")
    if not isinstance(operation, str) or not operation:
        raise BadInput(
            f"an event's data.operationName is {quoted(operation)}; it should name an operation such as "
            "Microsoft.Compute/virtualMachines/write"
        )
    if operation.lower() not in OPERATIONS[event_type]:
        return None
    return MachineId.parse(subject)


def event_in_message(body: bytes) -> MachineEvent | None:
    """An event in a storage queue, in either schema; None when it is about no machine. Raises BadInput."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):  # the second: brackets nested thousands deep
        raise BadInput(f"an event is not JSON: {quoted(body.decode('utf-8', 'replace'))}") from None
    if not isinstance(event, Mapping):
        raise BadInput(f"an event is {quoted(event)}; it should be an object")
    about = event.get("eventType") or event.get("type"), event.get("subject"), event.get("data")
    return event_in(*about, at=event.get("eventTime") or event.get("time"))
