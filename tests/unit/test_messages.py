"""What a message is: a name and a claim, wrapped; read back, and of which versions. Bad ones: test_bad_input.py."""

import json

import pytest

from functions.cloud.queue import QUEUES, VERSION, Message, NewerMessage, read_message
from functions.model.state import OperationKind
from tests.support import machine_id

# The members of the queue's metadata, which the Python worker reads beside those of a JSON body.
METADATA = {
    "Id",
    "QueueTrigger",
    "DequeueCount",
    "ExpirationTime",
    "InsertionTime",
    "NextVisibleTime",
    "PopReceipt",
    "sys",
}


def test_a_message_comes_back_as_it_was_sent() -> None:
    message = Message(machine_id(), "token-1")
    assert read_message(message.body()) == message


def test_nothing_in_a_message_can_overwrite_the_queues_own_metadata() -> None:
    body = json.loads(Message(machine_id(), "token-1").body())
    assert set(body) == {"v", "job"}
    assert not {name.lower() for name in body} & {name.lower() for name in METADATA}
    assert body == {"v": VERSION, "job": {"machine": str(machine_id()), "claim": "token-1"}}


def test_a_message_is_a_name_and_a_claim_and_nothing_that_could_grow_old() -> None:
    assert len(Message(machine_id("x" * 64, "g" * 90), "t" * 16).body()) < 400


def test_unknown_members_of_the_same_version_are_passed_over() -> None:
    body = json.loads(Message(machine_id(), "token-1").body())
    body["job"]["colour"] = "blue"
    assert read_message(json.dumps(body | {"more": 1})) == Message(machine_id(), "token-1")


@pytest.mark.parametrize("rest", [{}, {"job": {}}, {"task": "something new"}])
def test_a_newer_version_is_distinguished_from_a_bad_message(rest: dict[str, object]) -> None:
    with pytest.raises(NewerMessage, match=f"version {VERSION + 1}; this app reads {VERSION}"):
        read_message(json.dumps({"v": VERSION + 1, **rest}))


def test_each_kind_has_its_queue_and_the_names_are_valid() -> None:
    assert set(QUEUES) == set(OperationKind)
    assert len(set(QUEUES.values())) == len(QUEUES)
    for name in QUEUES.values():
        assert 3 <= len(f"{name}-poison") <= 63
        assert name.replace("-", "").isalnum()
        assert name == name.lower()
