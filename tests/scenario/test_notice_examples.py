"""The examples of docs/notices.md: the veto holds a machine that is announced, and the chat reads what a notice has."""

import base64
import importlib.util
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.storage.queue.aio import QueueClient

from functions.cloud.session import Session
from functions.cloud.stops import stop_of_row
from functions.cloud.tables import TABLE, Row, StorageTable
from simulator.azure import Behaviour
from simulator.identity import StaticCredential
from simulator.storage.azurite import Azurite
from tests.support import NOW, REPOSITORY, settings
from tests.support.world import NOTICES, QUICK, World

EXAMPLES = REPOSITORY / "docs" / "examples"
SCHEMA = json.loads((REPOSITORY / "docs" / "notices.schema.json").read_text(encoding="utf-8"))
GOOD = Behaviour(support_state="Supported", pending={"security": 2})
MACHINE = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/vm-01"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def veto() -> ModuleType:
    return load("veto")


@pytest.fixture
async def stored(azurite: Azurite) -> AsyncIterator[tuple[StorageTable, TableClient]]:
    """The ledger as the app and as the example reach it: by identity over TLS."""
    account = azurite.fresh_account()
    credential = StaticCredential()
    async with TableServiceClient(account.table_url, credential=credential) as service:
        await service.create_table(TABLE)
    environ = {name: value for name, value in account.settings().items() if name.endswith("Uri")}
    access = Session(settings(**environ), lambda: NOW, credential=credential)
    async with TableClient(account.table_url, TABLE, credential=credential) as client:
        yield StorageTable(access), client
    await access.close()


async def test_a_machine_to_which_the_veto_says_no_is_not_installed(
    veto: ModuleType, stored: tuple[StorageTable, TableClient]
) -> None:
    table, client = stored
    world = World(NOTICES | {"PATCH_NOTICE_MINUTES": "30"}, timings=QUICK)
    world.table = table  # type: ignore[assignment]
    world.services = world.connect()
    world.create("vm-01", GOOD)
    world.create("vm-02", GOOD)

    async def backup_runs(machine: str) -> str:
        return "a backup runs" if machine.endswith("/vm-01") else ""

    answered: set[str] = set()
    for _ in range(36):
        await world.pass_time(minutes=5)
        for event in world.topic.events:
            if event["id"] not in answered:
                answered.add(event["id"])
                await veto.answer(event, client, backup_runs, now=world.now)
    assert world.installed() == ["vm-02"]
    assert "a backup runs (by veto.py, until" in (await world.states())["vm-01"].reason


async def test_an_announcement_that_comes_twice_leaves_the_hold_that_is_there(
    veto: ModuleType, stored: tuple[StorageTable, TableClient]
) -> None:
    _, client = stored
    event = {"type": veto.PLANNED, "data": {"machine": MACHINE.upper()}}
    for reason in ("first", "second"):

        async def no(machine: str, reason: str = reason) -> str:
            return reason

        assert await veto.answer(event, client, no, now=NOW)
    rows = [each async for each in client.list_entities()]
    assert [each["reason"] for each in rows] == ["first"]


async def test_what_is_no_announcement_asks_nobody(veto: ModuleType) -> None:
    async def never(machine: str) -> str:
        raise AssertionError

    assert not await veto.answer({"type": "ImagePatcher.MachineHeld", "data": {}}, None, never, now=NOW)


def test_the_app_reads_the_row_of_the_veto_as_a_hold_that_ends_by_itself(veto: ModuleType) -> None:
    row = veto.hold(MACHINE.replace("/s/", "/00000000-0000-0000-0000-000000000001/"), "a backup runs", NOW)
    stop = stop_of_row(Row(row.pop("PartitionKey"), row.pop("RowKey"), row, "etag"))
    assert (stop.problem, stop.scope, stop.reason, stop.by) == ("", "machine", "a backup runs", "veto.py")
    assert stop.in_force(NOW)
    assert not stop.in_force(NOW + veto.HELD_FOR)


COMMANDS = {
    "yes": ("import sys; sys.exit(0 if sys.argv[1].startswith('/subscriptions') else 1)", ""),
    "no, with a reason": ("print('a backup runs'); print('more'); raise SystemExit(3)", "a backup runs"),
    "no, without a word": ("raise SystemExit(4)", "exit code 4"),
}


@pytest.mark.parametrize(("program", "reason"), COMMANDS.values(), ids=COMMANDS)
async def test_a_command_says_yes_by_its_exit_code_and_no_by_its_first_line(
    veto: ModuleType, program: str, reason: str
) -> None:
    assert await veto.asking([sys.executable, "-c", program])(MACHINE) == reason


async def test_a_command_that_cannot_be_run_says_no(veto: ModuleType, tmp_path: Path) -> None:
    assert "could not be run" in await veto.asking([str(tmp_path / "nothing")])(MACHINE)


async def test_what_lies_in_the_queue_is_answered_once_and_what_is_no_notice_is_put_away(
    veto: ModuleType, azurite: Azurite, stored: tuple[StorageTable, TableClient]
) -> None:
    _, ledger = stored
    asked: list[str] = []

    async def no(machine: str) -> str:
        asked.append(machine)
        return "a backup runs"

    account = azurite.fresh_account()
    async with QueueClient(account.queue_url, "notices", credential=StaticCredential()) as queue:
        await queue.create_queue()
        for body in (b"no JSON", b"[]", b'{"type": "%s"}' % veto.PLANNED.encode()):
            await queue.send_message(base64.b64encode(body).decode())
        await queue.send_message("no base64!")
        event = {"type": veto.PLANNED, "subject": MACHINE, "data": {"machine": MACHINE}}
        await queue.send_message(base64.b64encode(json.dumps(event).encode()).decode())
        taken = 0
        while await veto.take(queue, ledger, no, now=NOW):
            taken += 1
        assert (await queue.get_queue_properties()).approximate_message_count == 0
    assert (taken, asked) == (5, [MACHINE])
    assert [each["value"] async for each in ledger.list_entities()] == [MACHINE]


def test_an_event_is_read_from_a_message_as_event_grid_writes_it(veto: ModuleType) -> None:
    event = {"type": "x", "data": {}}
    assert veto.event_of(base64.b64encode(json.dumps(event).encode()).decode()) == event


# -- the chat

WORKFLOW: dict[str, Any] = json.loads((EXAMPLES / "chat.workflow.json").read_text(encoding="utf-8"))["definition"]


def test_the_chat_reads_fields_that_notices_have_and_names_types_that_exist() -> None:
    text = json.dumps(WORKFLOW)
    fields = {name for each in SCHEMA["$defs"].values() for name in each["properties"]}
    read = set(re.findall(r"\['data'\]\?\['(\w+)'\]", text))
    assert read >= {"installed", "machines", "failed", "not_reached", "reason"}
    assert read <= fields
    assert set(re.findall(r"ImagePatcher\.\w+", text)) <= set(SCHEMA["properties"]["type"]["enum"])


def test_each_action_of_the_chat_follows_one_that_exists_and_the_webhook_is_secret() -> None:
    actions = WORKFLOW["actions"]
    assert {name for each in actions.values() for name in each["runAfter"]} < set(actions)
    assert set(re.findall(r"outputs\('(\w+)'\)", json.dumps(WORKFLOW))) <= set(actions)
    used = set(re.findall(r"parameters\('([$\w]+)'\)", json.dumps(WORKFLOW)))
    assert used == set(WORKFLOW["parameters"])
    assert WORKFLOW["parameters"]["webhook"]["type"] == "SecureString"
    assert "inputs" in actions["Post_to_the_chat"]["runtimeConfiguration"]["secureData"]["properties"]
