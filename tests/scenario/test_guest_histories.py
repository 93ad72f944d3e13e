"""What the guest's extension writes over time, and what the app makes of it when nothing but the machine can be asked.

Factors: every history of an operation × each of its moments × what is lost (the address of the operation, or the answer
to the POST). The judge is the file.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.cloud import errors
from functions.cloud.arm import Outcome, ResourceManager
from functions.cloud.ledger import Ledger
from functions.cloud.models import machine_from_arm
from functions.model.machine import Machine, MachineId
from functions.model.record import Record
from functions.model.state import OperationKind, Phase
from functions.services import Services
from functions.steps import track
from functions.steps.observe import UsedUp
from tests.support import PAYLOADS, a_record, an_arm_machine
from tests.support.world import World

ORDERED_AT = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)
OURS = "0a000000-0000-4000-8000-000000000002"
BEFORE = ("0a000000-0000-4000-8000-000000000001", "0a000000-0000-4000-8000-000000000009")
HISTORIES = json.loads((PAYLOADS / "guest_extension_histories.json").read_text())["histories"]
ORDERED = {item["name"]: item for item in HISTORIES if item["operation"] in ("assess", "install")}
SUMMARY = {"assess": "availablePatchSummary", "install": "lastPatchInstallationSummary"}


class OnlyTheMachine(ResourceManager):
    """Azure of which nothing is left but what the machine shows."""

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}

    async def machine(self, machine: MachineId) -> Machine:
        return machine_from_arm(self.shown)

    async def outcome(self, machine: MachineId, url: str) -> Outcome:
        raise errors.Gone("reading an operation's status: not found")


def showing(snapshot: dict[str, Any]) -> dict[str, Any]:
    return an_arm_machine(properties={"instanceView": {"patchStatus": snapshot["patchStatus"]}})


async def nothing() -> None: ...


async def followed(history: dict[str, Any], record: Record) -> list[Record]:
    """The row after each moment of the history."""
    world, compute, rows = World(start=ORDERED_AT), OnlyTheMachine(), []
    services: Services = replace(world.services, compute=compute, ledger=Ledger(world.table))
    await services.ledger.insert(record)
    for snapshot in history["snapshots"]:
        world.now, compute.shown = ORDERED_AT + timedelta(minutes=snapshot["minute"]), showing(snapshot)
        stored = await services.ledger.read(record.machine)
        assert stored is not None
        await track.operations(services, [stored], UsedUp(), stay=nothing)
        after = await services.ledger.read(record.machine)
        assert after is not None
        rows.append(after.record)
    return rows


def ended(history: dict[str, Any], snapshot: dict[str, Any]) -> bool:
    """Whether the summary of what was ordered, and no other, is ours and no longer in progress."""
    summary = snapshot["patchStatus"].get(SUMMARY[history["operation"]]) or {}
    return OURS in summary.values() and summary["status"] != "InProgress"


def ordered(history: dict[str, Any], **changes: Any) -> Record:
    kind = OperationKind(history["operation"])
    return a_record(kind=kind, started_at=ORDERED_AT, limit=timedelta(hours=6), known_operations=BEFORE, **changes)


@pytest.mark.parametrize("history", ORDERED.values(), ids=ORDERED)
async def test_where_the_url_is_gone_the_summary_of_what_was_ordered_ends_it(history: dict[str, Any]) -> None:
    moments = [each for each in history["snapshots"] if OURS in str(each["patchStatus"])]  # known to Azure by then
    rows = await followed(history | {"snapshots": moments}, ordered(history, phase=Phase.RUNNING, operation_id=OURS))
    assert [row.phase is Phase.ENDED for row in rows] == [ended(history, each) for each in moments]
    last = moments[-1]["patchStatus"][SUMMARY[history["operation"]]]["status"]
    assert last == "InProgress" or rows[-1].ending.outcome == last  # type: ignore[union-attr]


def late_moments(history: dict[str, Any]) -> list[dict[str, Any]]:
    """From a quarter of an hour on, when the row is asked for."""
    return [each for each in history["snapshots"] if each["minute"] >= 15 and OURS in str(each["patchStatus"])]


LONG = {name: item for name, item in ORDERED.items() if late_moments(item)}


@pytest.mark.parametrize("history", LONG.values(), ids=LONG)
async def test_where_the_answer_to_the_post_is_lost_it_is_adopted_by_what_was_ordered(history: dict[str, Any]) -> None:
    """It ends when that operation does, and never by an assessment inside it."""
    moments = late_moments(history)
    rows = await followed(history | {"snapshots": moments}, ordered(history, phase=Phase.STARTING))
    for row, moment in zip(rows, moments, strict=True):
        assert (row.phase is Phase.ENDED) == ended(history, moment), moment["note"]
        assert row.operation_id == OURS
