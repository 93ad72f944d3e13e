"""Finds the machine that an event is about, from its type, subject and data.

These have the same values in the Event Grid schema and in CloudEvents 1.0. The event types are our own constants, and a
test compares them with azure-eventgrid's SystemEventNames: importing that package would slow every cold start.
"""

from collections.abc import Mapping

from functions.model.machine import MachineId
from functions.model.text import BadInput, quoted

RESOURCE_WRITE_SUCCESS = "Microsoft.Resources.ResourceWriteSuccess"
RESOURCE_ACTION_SUCCESS = "Microsoft.Resources.ResourceActionSuccess"
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
