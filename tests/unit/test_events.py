"""Which machine an event is about: the published samples, in both schemas, and everything that must be passed over.

What cannot be read is in test_bad_input.py.
"""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.eventgrid import SystemEventNames

from functions.cloud import event_grid
from functions.model.machine import MachineId, Provider
from tests.support import PAYLOADS, SUBSCRIPTION

VM_01 = MachineId(SUBSCRIPTION, "rg-prod", "vm-01")
SUBJECT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Prod/providers/Microsoft.Compute/virtualMachines/vm-01"


def sample(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())


INFERRED = sample("eventgrid_vm_write_INFERRED")
CLOUD_EVENT = sample("eventgrid_vm_write_cloudevents_INFERRED")

# name → event as sent, the machine it is about
SAMPLES: dict[str, tuple[dict[str, Any], MachineId | None]] = {
    "a machine was created": (INFERRED["vm_create"], VM_01),
    "a machine was updated": (INFERRED["vm_update_with_httpRequest"], VM_01),
    "an Arc machine": (INFERRED["arc_machine"], MachineId(SUBSCRIPTION, "rg-arc", "arc-01", Provider.ARC)),
    "an extension of a machine": (INFERRED["extension_on_vm"], None),
    "a machine, as CloudEvent": (CLOUD_EVENT, VM_01),
    "a storage account was written": (sample("eventgrid_ResourceWriteSuccess_doc_sample")[0], None),
    "keys of Event Hubs were listed": (sample("eventgrid_ResourceActionSuccess_doc_sample")[0], None),
}


@pytest.mark.parametrize(("event", "machine"), SAMPLES.values(), ids=SAMPLES)
def test_samples(event: dict[str, Any], machine: MachineId | None) -> None:
    event_type = event.get("eventType") or event.get("type")
    assert event_grid.machine_in(event_type, event["subject"], event["data"]) == machine


def test_both_schemas_name_the_same_machine() -> None:
    grid = INFERRED["vm_create"]
    assert event_grid.machine_in(grid["eventType"], grid["subject"], grid["data"]) == event_grid.machine_in(
        CLOUD_EVENT["type"], CLOUD_EVENT["subject"], CLOUD_EVENT["data"]
    )


WRITE, ACTION = event_grid.RESOURCE_WRITE_SUCCESS, event_grid.RESOURCE_ACTION_SUCCESS
OPERATIONS: dict[str, tuple[str, str, bool]] = {
    "write": (WRITE, "Microsoft.Compute/virtualMachines/write", True),
    "write in another letter case": (WRITE, "MICROSOFT.COMPUTE/VIRTUALMACHINES/WRITE", True),
    "start": (ACTION, "Microsoft.Compute/virtualMachines/start/action", True),
    "reimage": (ACTION, "Microsoft.Compute/virtualMachines/reimage/action", True),
    "restart": (ACTION, "Microsoft.Compute/virtualMachines/restart/action", False),
    "deallocate": (ACTION, "Microsoft.Compute/virtualMachines/deallocate/action", False),
    "our own assessment": (ACTION, "Microsoft.Compute/virtualMachines/assessPatches/action", False),
    "our own installation": (ACTION, "Microsoft.Compute/virtualMachines/installPatches/action", False),
    "write as an action": (ACTION, "Microsoft.Compute/virtualMachines/write", False),
    "start as a write": (WRITE, "Microsoft.Compute/virtualMachines/start/action", False),
    "an extension": (WRITE, "Microsoft.Compute/virtualMachines/extensions/write", False),
    "a scale set": (WRITE, "Microsoft.Compute/virtualMachineScaleSets/write", False),
    "a tag": (WRITE, "Microsoft.Resources/tags/write", False),
    "another provider of the same words": (WRITE, "Contoso.Compute/virtualMachines/write", False),
}


@pytest.mark.parametrize(("event_type", "operation", "ours"), OPERATIONS.values(), ids=OPERATIONS)
def test_operations(event_type: str, operation: str, ours: bool) -> None:
    found = event_grid.machine_in(event_type, SUBJECT, {"operationName": operation})
    assert found == (VM_01 if ours else None)


CLAIMS = sample("eventgrid_ResourceActionSuccess_doc_sample")[0]["data"]["claims"]
START, REIMAGE = (f"Microsoft.Compute/virtualMachines/{verb}/action" for verb in ("start", "reimage"))
AT = datetime(2018, 10, 8, 22, 46, 22, 602255, tzinfo=UTC)
# type, operation, claims, time → whether it was reimaged, who started it, when
TOLD: dict[str, tuple[str, str, object, object, tuple[bool, str, datetime | None]]] = {
    "a start": (ACTION, START, CLAIMS, "2018-10-08T22:46:22.6022559Z", (False, "{id}", AT)),
    "its time as the worker reads it": (ACTION, START, CLAIMS, AT, (False, "{id}", AT)),
    "a time without a zone": (ACTION, START, CLAIMS, AT.replace(tzinfo=None), (False, "{id}", AT)),
    "a start without claims": (ACTION, START, None, AT, (False, "", AT)),
    "claims of no kind": (ACTION, START, {"appid": 7}, AT, (False, "", AT)),
    "a time of no kind": (ACTION, START, CLAIMS, "soon", (False, "{id}", None)),
    "no time": (ACTION, START, CLAIMS, None, (False, "{id}", None)),
    "a reimage": (ACTION, REIMAGE, CLAIMS, AT, (True, "", AT)),
    "a write": (WRITE, "Microsoft.Compute/virtualMachines/write", CLAIMS, AT, (False, "", AT)),
}


@pytest.mark.parametrize(("event_type", "operation", "claims", "at", "told"), TOLD.values(), ids=TOLD)
def test_what_an_event_tells_besides_its_machine(
    event_type: str, operation: str, claims: object, at: object, told: tuple[bool, str, datetime | None]
) -> None:
    event = event_grid.event_in(event_type, SUBJECT, {"operationName": operation, "claims": claims}, at=at)
    assert event is not None
    assert (event.machine, (event.reimaged, event.started_by, event.at)) == (VM_01, told)


@pytest.mark.parametrize(
    "event_type",
    [
        "Microsoft.Resources.ResourceWriteFailure",
        "Microsoft.Resources.ResourceWriteCancel",
        "Microsoft.Resources.ResourceDeleteSuccess",
        "Microsoft.EventGrid.SubscriptionValidationEvent",
        "Contoso.Something",
    ],
)
def test_other_event_types_are_passed_over_whatever_they_hold(event_type: str) -> None:
    assert event_grid.machine_in(event_type, None, None) is None


def test_the_types_are_azures_own() -> None:
    assert SystemEventNames.ResourceWriteSuccessEventName.value == WRITE
    assert SystemEventNames.ResourceActionSuccessEventName.value == ACTION
    assert set(event_grid.OPERATIONS) == {WRITE, ACTION}
