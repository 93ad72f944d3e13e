"""host.json against the app: how often a message comes back, what the host logs, how long a step may take.

The ranges are those of the host.json reference on Microsoft Learn (Azure Queue storage, Event Grid and Functions host).
"""

import json
import re
from datetime import timedelta
from typing import Any

from functions.cloud import event_grid
from functions.cloud.arm import SEND_SECONDS
from functions.cloud.ledger import SWEEP_LEASE
from functions.cloud.queue import POISON_QUEUES, QUEUES
from functions.cloud.session import MAX_CONCURRENT_CALLS
from functions.decisions.plan import HORIZON
from functions.model.record import ADOPT_AFTER, CLAIM_LIFE, SEND_WITHIN
from simulator.functions_host.telemetry import LogFilter
from tests.support import REPOSITORY

HOST: dict[str, Any] = json.loads((REPOSITORY / "host.json").read_text())
QUEUE_OPTIONS: dict[str, Any] = HOST["extensions"]["queues"]


def span(text: str) -> timedelta:
    match = re.fullmatch(r"(\d\d):(\d\d):(\d\d)", text)
    assert match, text
    return timedelta(hours=int(match[1]), minutes=int(match[2]), seconds=int(match[3]))


BETWEEN_ATTEMPTS = span(QUEUE_OPTIONS["visibilityTimeout"])
ATTEMPTS: int = QUEUE_OPTIONS["maxDequeueCount"]
FUNCTION_TIMEOUT = span(HOST["functionTimeout"])


def test_a_message_outlives_an_outage_and_its_claim_outlives_the_message() -> None:
    last_attempt = BETWEEN_ATTEMPTS * (ATTEMPTS - 1)
    assert last_attempt >= timedelta(minutes=10)  # by default five attempts are used up within a second
    assert last_attempt + FUNCTION_TIMEOUT < CLAIM_LIFE
    assert last_attempt + HORIZON < CLAIM_LIFE  # what a sweep queued behind it has its turn too


def test_a_step_cannot_outlive_what_others_conclude_from_its_silence() -> None:
    assert timedelta(seconds=SEND_SECONDS) < SEND_WITHIN < FUNCTION_TIMEOUT
    assert FUNCTION_TIMEOUT < ADOPT_AFTER  # a POST of a process that still runs is never taken for a lost one
    assert SWEEP_LEASE <= FUNCTION_TIMEOUT  # a sweep may renew its lease; it is not cut off inside the first


def test_the_numbers_are_within_the_documented_ranges() -> None:
    assert 1 <= QUEUE_OPTIONS["batchSize"] <= 32
    assert 0 < QUEUE_OPTIONS["newBatchThreshold"] <= QUEUE_OPTIONS["batchSize"]
    assert ATTEMPTS >= 1
    assert timedelta(0) < BETWEEN_ATTEMPTS < timedelta(days=7)
    assert timedelta(milliseconds=100) <= span(QUEUE_OPTIONS["maxPollingInterval"]) <= timedelta(minutes=1)
    assert QUEUE_OPTIONS["messageEncoding"] == "base64"
    assert timedelta(minutes=10) >= FUNCTION_TIMEOUT  # the most that the Consumption plan gives
    assert (
        1 <= HOST["extensions"]["http"]["maxConcurrentRequests"] <= HOST["extensions"]["http"]["maxOutstandingRequests"]
    )
    assert QUEUE_OPTIONS["batchSize"] + QUEUE_OPTIONS["newBatchThreshold"] <= MAX_CONCURRENT_CALLS


def test_only_known_keys() -> None:
    assert set(HOST) == {"version", "functionTimeout", "logging", "extensionBundle", "extensions"}
    assert set(HOST["extensions"]) == {"http", "queues"}
    assert set(QUEUE_OPTIONS) == {
        "batchSize",
        "newBatchThreshold",
        "maxDequeueCount",
        "visibilityTimeout",
        "maxPollingInterval",
        "messageEncoding",
    }
    assert HOST["version"] == "2.0"
    assert re.fullmatch(r"\[4\.\*, 5\.0\.0\)", HOST["extensionBundle"]["version"])


def test_no_journal_line_is_sampled_away_or_filtered_out() -> None:
    levels = HOST["logging"]["logLevel"]
    functions = re.findall(r"^async def (on_\w+)", (REPOSITORY / "function_app.py").read_text(), re.MULTILINE)
    assert functions
    journal = {f"Function.{name}.User": "Information" for name in functions}  # the journal's lines
    # The host's own lines about each invocation are larger than the journal's, and say what the requests say.
    assert levels == {
        "default": "Warning",
        "Azure.Core": "Error",
        "Function": "Warning",
        "Host.Results": "Information",
        **journal,
    }
    kept = LogFilter(levels)
    assert all(kept.keeps(category, "Information") for category in journal)
    assert not any(kept.keeps(f"Function.{name}", "Information") for name in functions)
    assert all(kept.keeps(f"Function.{name}", "Error") for name in functions), "a failed invocation is still told"
    excluded = HOST["logging"]["applicationInsights"]["samplingSettings"]["excludedTypes"].split(";")
    assert "Trace" in excluded
    assert "Request" in excluded
    assert "Exception" in excluded


def test_every_queue_and_its_poison_queue_has_a_trigger() -> None:
    source = (REPOSITORY / "function_app.py").read_text()
    read = set(re.findall(r'queue_name="([^"]+)"', source))
    queues = {*QUEUES.values(), event_grid.QUEUE}
    assert read == queues | {f"{name}-poison" for name in queues}
    assert {name for name in read if name.endswith("-poison")} == set(POISON_QUEUES)
