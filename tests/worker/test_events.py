"""Event Grid's two schemas, from the payload to the step: what is decoded, what is refused, what is passed over.

A malformed event ends as Success: to fail would make Event Grid send the whole batch again for a day.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.worker.in_process import App, payload

FUNCTION = "on_machine_written"
VM_WRITTEN = payload("eventgrid_vm_write_INFERRED.json")
CREATED = VM_WRITTEN["vm_create"]
UPDATED = VM_WRITTEN["vm_update_with_httpRequest"]
CLOUD_EVENT = payload("eventgrid_vm_write_cloudevents_INFERRED.json")
SAMPLE_WRITE = payload("eventgrid_ResourceWriteSuccess_doc_sample.json")[0]
SAMPLE_ACTION = payload("eventgrid_ResourceActionSuccess_doc_sample.json")[0]
SAMPLE_NOTIFICATION = payload("arn_CreatedOrUpdated_doc_sample.json")

MACHINE = CREATED["subject"].lower()
ELSEWHERE = "00000000-0000-0000-0000-00000000ffff"

Event = dict[str, Any]


def without(event: Event, name: str) -> Event:
    return {key: value for key, value in event.items() if key != name}


def started(event: Event, type_name: str) -> Event:
    data = event["data"] | {"operationName": "Microsoft.Compute/virtualMachines/start/action"}
    return event | {type_name: "Microsoft.Resources.ResourceActionSuccess", "data": data}


ABOUT_A_MACHINE = {
    "created, Event Grid schema": CREATED,
    "updated, Event Grid schema": UPDATED,
    "created, CloudEvents": CLOUD_EVENT,
    "started, Event Grid schema": started(CREATED, "eventType"),
    "started, CloudEvents": started(CLOUD_EVENT, "type"),
    "an unknown field": CREATED | {"partitionKey": "1"},
    "no id": without(CREATED, "id"),
    "no eventTime": without(CREATED, "eventTime"),
    "id a number": CREATED | {"id": 5},
}


@pytest.mark.parametrize("event", ABOUT_A_MACHINE.values(), ids=ABOUT_A_MACHINE)
def test_an_event_about_a_machine_reaches_its_step(
    app: App, settings: Callable[..., Mapping[str, str]], event: Event
) -> None:
    settings(PATCH_SCOPE=ELSEWHERE)  # so that the step ends before its first call, naming the machine
    outcome = app.invoke(FUNCTION, event)
    assert outcome.status == "Success"
    assert outcome.journal == [{"event": "event.ignored", "machine": MACHINE, "reason": "out of scope"}]


@pytest.mark.parametrize("event", ABOUT_A_MACHINE.values(), ids=ABOUT_A_MACHINE)
def test_an_event_in_the_queue_reaches_the_same_step(
    app: App, settings: Callable[..., Mapping[str, str]], event: Event
) -> None:
    """The host lays its members over the queue's metadata; none of them has a name that the worker must parse."""
    settings(PATCH_SCOPE=ELSEWHERE)
    outcome = app.invoke("on_machine_message", json.dumps(event))
    assert outcome.status == "Success"
    assert outcome.journal == [{"event": "event.ignored", "machine": MACHINE, "reason": "out of scope"}]


@pytest.mark.parametrize("event", ABOUT_A_MACHINE.values(), ids=ABOUT_A_MACHINE)
def test_an_event_that_failed_five_times_names_its_machine(app: App, ledger: Any, event: Event) -> None:
    outcome = app.invoke("on_machine_poisoned", json.dumps(event))
    assert (outcome.status, outcome.events) == ("Success", ["message.poisoned"])
    assert outcome.journal[0]["machine"] == MACHINE


@pytest.mark.parametrize("event", [CREATED, CLOUD_EVENT], ids=["Event Grid schema", "CloudEvents"])
def test_azure_out_of_reach_makes_event_grid_send_again(app: App, ledger: Any, event: Event) -> None:
    outcome = app.invoke(FUNCTION, event)
    assert outcome.status == "Failure"
    assert outcome.events == ["step.failed"]
    assert "could not be sent" in outcome.exception
    assert not ledger.table.rows  # nothing was claimed that would never be given back


BOTH = (("Event Grid schema", CREATED), ("CloudEvents", CLOUD_EVENT))
MALFORMED = {
    "no eventType": (without(CREATED, "eventType"), "type"),
    "eventType a number": (CREATED | {"eventType": 7}, "type"),
    **{f"no subject, {schema}": (without(event, "subject"), "machine id") for schema, event in BOTH},
    **{f"subject a number, {schema}": (event | {"subject": 7}, "machine id") for schema, event in BOTH},
    **{f"subject no machine, {schema}": (event | {"subject": "/x"}, "machine id") for schema, event in BOTH},
    **{f"no data, {schema}": (without(event, "data"), "data") for schema, event in BOTH},
    **{f"data null, {schema}": (event | {"data": None}, "data") for schema, event in BOTH},
    **{f"data a text, {schema}": (event | {"data": "text"}, "data") for schema, event in BOTH},
    **{f"data an array, {schema}": (event | {"data": [1, 2]}, "data") for schema, event in BOTH},
    **{f"no operationName, {schema}": (event | {"data": {}}, "operationName") for schema, event in BOTH},
}


@pytest.mark.parametrize(("event", "named"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_event_is_reported_once_and_not_asked_for_again(
    app: App, ledger: Any, event: Event, named: str
) -> None:
    outcome = app.invoke(FUNCTION, event)
    assert outcome.status == "Success"
    assert outcome.events == ["event.malformed"]
    assert named in outcome.journal[0]["problem"]
    assert not ledger.table.rows


OTHERS = {
    "a storage account written": SAMPLE_WRITE,
    "keys of an Event Hub listed": SAMPLE_ACTION,
    "a Resource Notification, Event Grid schema": SAMPLE_NOTIFICATION["eventgrid_schema"],
    "a Resource Notification, CloudEvents": SAMPLE_NOTIFICATION["cloudevents"],
    "an Arc machine written": VM_WRITTEN["arc_machine"],
    "an extension written": VM_WRITTEN["extension_on_vm"],
    "a machine deleted": CREATED | {"eventType": "Microsoft.Resources.ResourceDeleteSuccess"},
}


@pytest.mark.parametrize("event", OTHERS.values(), ids=OTHERS)
def test_an_event_about_something_else_does_nothing(app: App, ledger: Any, event: Event) -> None:
    outcome = app.invoke(FUNCTION, event)  # any call to Azure would end as Failure: its port is closed
    assert outcome.status == "Success"
    assert set(outcome.events) <= {"event.ignored"}
    assert not ledger.table.rows


def test_claims_of_an_event_are_never_written_down(app: App, ledger: Any) -> None:
    person = {"name": "Ada Lovelace", "ipaddr": "203.0.113.77"}
    outcome = app.invoke(FUNCTION, UPDATED | {"data": UPDATED["data"] | {"claims": person}})
    assert outcome.status == "Failure"
    assert not [text for text in (*person.values(), "203.0.113.5") if text in outcome.everything_said]


def test_a_time_that_is_none_fails_before_the_app_is_asked(app: App, settings: Callable[..., Any]) -> None:
    """What the app cannot help: the worker decodes eventTime itself. Event Grid never sends such an event."""
    settings()
    outcome = app.invoke(FUNCTION, CREATED | {"eventTime": "yesterday"})
    assert (outcome.status, outcome.journal) == ("Failure", [])
