"""Finds the machine that an event is about, from its type, subject and data.

These have the same values in the Event Grid schema and in CloudEvents 1.0. The event types are our own constants, and a
test compares them with azure-eventgrid's SystemEventNames: importing that package would slow every cold start.
"""

import json
from collections.abc import Mapping

from functions.model.machine import MachineId
from functions.model.text import BadInput, quoted

RESOURCE_WRITE_SUCCESS = "Microsoft.Resources.ResourceWriteSuccess"
RESOURCE_ACTION_SUCCESS = "Microsoft.Resources.ResourceActionSuccess"
QUEUE = "machine-events"  # where Event Grid delivers if the deployment chose a queue instead of the function
# Every PUT, PATCH, POST and DELETE in a subscription causes an event; after these a machine may need something.
OPERATIONS = {
    RESOURCE_WRITE_SUCCESS: ("microsoft.compute/virtualmachines/write", "microsoft.hybridcompute/machines/write"),
    RESOURCE_ACTION_SUCCESS: ("microsoft.compute/virtualmachines/start/action",),
}


def machine_in(event_type: object, subject: object, data: object) -> MachineId | None:
    """The machine that was written or started; None when the event is about something else. Raises BadInput."""
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


def machine_in_message(body: bytes) -> MachineId | None:
    """The machine that an event in a storage queue is about: one event, in either schema. Raises BadInput."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):  # the second: brackets nested thousands deep
        raise BadInput(f"an event is not JSON: {quoted(body.decode('utf-8', 'replace'))}") from None
    if not isinstance(event, Mapping):
        raise BadInput(f"an event is {quoted(event)}; it should be an object")
    return machine_in(event.get("eventType") or event.get("type"), event.get("subject"), event.get("data"))
