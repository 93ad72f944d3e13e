"""Queue messages and the timer, from the payload to the step.

A message that cannot be read ends as Success with its line: five attempts would not make it readable. One of a newer
version ends so too: its claim expires, and a sweep hands the machine out again.
"""

import json
from typing import Any

import pytest

from functions.cloud.queue import Message
from functions.model.machine import MachineId
from tests.worker.in_process import App, merged

MACHINE = MachineId.parse(
    "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-prod"
    "/providers/Microsoft.Compute/virtualMachines/vm-01"
)
BODY = Message(MACHINE, "a-claim").body()

# function → the lines of a message whose claim is not known (any more)
QUEUE_FUNCTIONS = {
    "on_assess_request": ["message.stale"],
    "on_install_request": ["message.stale"],
    "on_assess_poisoned": ["message.poisoned", "message.stale"],
    "on_install_poisoned": ["message.poisoned", "message.stale"],
}


@pytest.mark.parametrize(("function", "events"), QUEUE_FUNCTIONS.items(), ids=QUEUE_FUNCTIONS)
def test_a_message_reaches_its_step(app: App, ledger: Any, function: str, events: list[str]) -> None:
    outcome = app.invoke(function, BODY)
    assert (outcome.status, outcome.events) == ("Success", events)
    assert {line["machine"] for line in outcome.journal} == {str(MACHINE)}
    assert {line["kind"] for line in outcome.journal} == {"assess" if "assess" in function else "install"}


MALFORMED = {
    "empty": "",
    "no JSON": "assess vm-01, please",
    "a JSON text": '"text"',
    "an array": "[1, 2]",
    "null": "null",
    "no version": json.dumps({"job": {"machine": str(MACHINE), "claim": "c"}}),
    "version a text": json.dumps({"v": "1", "job": {"machine": str(MACHINE), "claim": "c"}}),
    "no job": '{"v": 1}',
    "job a text": '{"v": 1, "job": "text"}',
    "no claim": json.dumps({"v": 1, "job": {"machine": str(MACHINE)}}),
    "no machine": '{"v": 1, "job": {"claim": "c"}}',
    "another resource": '{"v": 1, "job": {"machine": "/subscriptions/1", "claim": "c"}}',
}


@pytest.mark.parametrize("function", QUEUE_FUNCTIONS)
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_a_message_that_cannot_be_read_is_reported_and_completed(
    app: App, ledger: Any, function: str, text: str
) -> None:
    outcome = app.invoke(function, text)
    assert (outcome.status, outcome.events) == ("Success", ["message.malformed"])
    assert outcome.journal[0]["function"] == function


@pytest.mark.parametrize("function", QUEUE_FUNCTIONS)
def test_a_newer_message_is_left_to_the_newer_app(app: App, ledger: Any, function: str) -> None:
    outcome = app.invoke(function, json.dumps({"v": 2, "work": ["anything"]}))
    assert (outcome.status, outcome.events) == ("Success", ["ledger.newer"])


# -- the host lays a body's top-level members over the queue's own metadata


# A body with such a member fails before the app is asked, five times, and ends in the poison queue unread.
PITFALLS = {"dequeueCount": "abc", "insertionTime": "yesterday", "EXPIRATIONTIME": "never"}


@pytest.mark.parametrize("member", PITFALLS)
def test_the_pitfall_is_real(app: App, ledger: Any, member: str) -> None:
    outcome = app.invoke("on_assess_request", json.dumps({member: PITFALLS[member]}))
    assert (outcome.status, outcome.journal) == ("Failure", [])


@pytest.mark.parametrize("member", PITFALLS)
def test_inside_the_wrapping_the_same_members_are_harmless(app: App, ledger: Any, member: str) -> None:
    body = json.loads(BODY)
    body["job"][member] = PITFALLS[member]
    outcome = app.invoke("on_assess_request", json.dumps(body))
    assert (outcome.status, outcome.events) == ("Success", ["message.stale"])


def test_no_message_of_ours_touches_the_metadata() -> None:
    names = ("QueueTrigger", "DequeueCount", "Id", "PopReceipt", "InsertionTime", "ExpirationTime", "NextVisibleTime")
    queue = {name: ("string", "the queue's own") for name in names}
    assert {name: merged(BODY, queue)[name] for name in names} == queue


# -- the timer


def test_a_tick_without_azure_is_a_failed_run_that_names_its_stages(app: App, ledger: Any) -> None:
    outcome = app.invoke("on_reconcile")
    assert outcome.status == "Failure"
    assert {line["stage"] for line in outcome.journal if line["event"] == "sweep.failed"} >= {"find", "fleet", "census"}
    assert outcome.events[-2:] == ["sweep.finished", "step.failed"]
    assert "nothing was decided" in outcome.exception


@pytest.mark.parametrize("past_due", [False, True])
def test_an_overdue_tick_is_a_tick(app: App, ledger: Any, past_due: bool) -> None:
    outcome = app.invoke("on_reconcile", {"IsPastDue": past_due, "ScheduleStatus": None})
    assert "sweep.finished" in outcome.events
