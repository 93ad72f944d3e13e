"""The examples of docs/notices.md: the veto holds a machine that is announced, and the chat reads what a notice has."""

import base64
import importlib.util
import json
import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlencode
from xml.etree import ElementTree

import aiohttp
import pytest
from azure.core.messaging import CloudEvent
from azure.data.tables.aio import TableClient, TableServiceClient
from azure.eventgrid.aio import EventGridPublisherClient
from azure.storage.queue.aio import QueueClient
from yarl import URL

from functions.cloud.session import Session
from functions.cloud.stops import stop_of_row
from functions.cloud.tables import TABLE, Row, StorageTable
from simulator.azure import Behaviour
from simulator.deployment import storage
from simulator.embedded import Embedded
from simulator.event_grid.subscriptions import EventSubscription
from simulator.identity import STORAGE, ClockCredential, StaticCredential, mint
from simulator.storage.azurite import Azurite, StorageAccount
from simulator.tls import Tls
from tests.support import NOW, REPOSITORY, settings
from tests.support.workflow import Refused, Run, Workflow
from tests.support.world import NOTICES, QUICK, TOPIC, World

EXAMPLES = REPOSITORY / "docs" / "examples"
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


async def test_what_is_not_an_announcement_asks_no_command(veto: ModuleType) -> None:
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


async def test_what_lies_in_the_queue_is_answered_once_and_what_is_not_a_notice_is_put_away(
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
GUIDE = (REPOSITORY / "docs" / "notices.md").read_text(encoding="utf-8")
# The guide's example of each notice. tests/unit/test_notice_texts.py holds them to what the app writes.
EXAMPLE_OF: dict[str, Any] = {
    event["type"].removeprefix("ImagePatcher."): event
    for text in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    if "specversion" in (event := json.loads(text))
}
VM = EXAMPLE_OF["MachineHeld"]["subject"]
IMAGE = EXAMPLE_OF["BreakerOpened"]["subject"]
# notice → the line that people read
LINES = {
    "AssessmentEnded": "AssessmentEnded: vm-01 some patches failed",
    "SupportDetected": "SupportDetected: vm-01 ",
    "InstallationPlanned": "InstallationPlanned: vm-01 ",
    "InstallationStarted": "InstallationStarted: vm-01 ",
    "InstallationEnded": "InstallationEnded: vm-01 some patches failed",
    "MachineHeld": "MachineHeld: vm-01 some patches failed",
    "CanaryProved": "CanaryProved: vm-01 ",
    "CanaryFailed": "CanaryFailed: vm-01 it is off",
    "BreakerOpened": f"BreakerOpened: {IMAGE} its canary web-1: some patches failed",
    "BreakerClosed": f"BreakerClosed: {IMAGE} ok",
    "RolloutEnded": f"RolloutEnded: {IMAGE} ",
    "RunProgress": "RunProgress: run/r1 ",
    "MorningSummary": (
        "Patched: 1 of 3 machines, failed: 1, still waiting: 1. "
        f"{VM.replace('vm-01', 'web-2')}: some patches failed (KB5034439, openssl 3.0.2)"
    ),
}
# As the guide advises.
FOR_PEOPLE = ("MorningSummary", "BreakerOpened", "CanaryFailed")
QUEUE, WEBHOOK = "chat", "https://chat.example.org/hook?secret=1"


@dataclass
class Connector:
    """The connector of storage queues: what a Logic App asks of it, asked of the queue itself."""

    account: StorageAccount
    session: aiohttp.ClientSession

    async def ask(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer to the trigger, as JSON of the service's XML; nothing for a deletion."""
        account, queue, rest = re.fullmatch(r"/v2/storageAccounts/(.+)/queues/([^/]+)/(.+)", inputs["path"]).groups()  # type: ignore[union-attr]
        assert unquote(unquote(account)) == self.account.name
        assert inputs["host"]["connection"]["name"] == "/connections/queues"
        asked = f"{rest}?{urlencode(inputs.get('queries', {}))}"
        path = "messages?numofmessages=32" if rest == "message_trigger" else asked
        headers = {"Authorization": f"Bearer {mint(STORAGE)}", "x-ms-version": "2024-11-04"}
        url = URL(f"{self.account.queue_url}/{unquote(queue)}/{path}", encoded=True)
        async with self.session.request(inputs["method"], url, headers=headers) as answer:
            text = await answer.text()
            assert answer.status in (200, 204), text
        messages = ElementTree.fromstring(text) if text else ()
        listed = [{part.tag: part.text for part in message} for message in messages]
        return {"QueueMessagesList": {"QueueMessage": listed}}


@pytest.fixture
async def delivering(tls: Tls, azurite: Azurite) -> AsyncIterator[tuple[Embedded, StorageAccount]]:
    """A topic that real clients reach over TLS, and a queue for what its subscriptions deliver."""
    account = azurite.fresh_account()
    async with QueueClient(account.queue_url, QUEUE, credential=StaticCredential()) as queue:
        await queue.create_queue()
    async with Embedded(1000, deployment=None, tls=tls) as embedded:
        embedded.event_grid.deliver_from(embedded.azure.create_topic(TOPIC))
        yield embedded, account


async def subscribe(embedded: Embedded, account: StorageAccount, *kinds: str) -> None:
    async def put(event: Mapping[str, Any]) -> int:
        return await storage.send_message(account, QUEUE, json.dumps(event), ttl_seconds=3600)

    await embedded.event_grid.subscribe(
        EventSubscription(
            "chat",
            "",
            endpoint_type="StorageQueue",
            topic=TOPIC,
            included_event_types=tuple(f"ImagePatcher.{each}" for each in kinds),
            schema="CloudEventSchemaV1_0",
            queue=put,
            handshake=False,
        )
    )


async def send(embedded: Embedded, events: Iterable[Mapping[str, Any]]) -> None:
    """By the client that the app uses, over TLS."""
    address, credential = f"{embedded.endpoint}/api/events", ClockCredential(embedded.azure.now)
    async with EventGridPublisherClient(address, credential) as client:
        await client.send([CloudEvent.from_dict(dict(event)) for event in events])
    await embedded.event_grid.until_idle()


async def told(embedded: Embedded, account: StorageAccount) -> dict[str, list[str]]:
    """The lines that the chat receives, by the kind of notice; the workflow takes each message from the queue."""
    values = {"$connections": {"azurequeues": {"connectionId": "/connections/queues"}}}
    workflow = Workflow(WORKFLOW, values | {"account": account.name, "queue": QUEUE, "webhook": WEBHOOK})
    lines: dict[str, list[str]] = {}
    connector = aiohttp.TCPConnector(ssl=embedded.tls.client_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        queue = Connector(account, session)
        for post, taken in workflow.runs_of(await queue.ask(workflow.polled())):
            assert (post.inputs["method"], post.inputs["uri"]) == ("POST", WEBHOOK)
            assert list(post.inputs["body"]) == ["text"]
            line = post.inputs["body"]["text"]
            kind = line.partition(":")[0].replace("Patched", "MorningSummary")
            lines.setdefault(kind, []).append(line)
            await queue.ask(taken.inputs)
        assert workflow.runs_of(await queue.ask(workflow.polled())) == []
    async with QueueClient(account.queue_url, QUEUE, credential=StaticCredential()) as client:
        assert (await client.get_queue_properties()).approximate_message_count == 0, "each was taken"
    return lines


async def test_the_chat_receives_each_notice_in_one_line(delivering: tuple[Embedded, StorageAccount]) -> None:
    """From the topic by Event Grid into a queue, and from there by the definition's own trigger and actions."""
    embedded, account = delivering
    assert EXAMPLE_OF.keys() == LINES.keys()
    await subscribe(embedded, account)
    await send(embedded, EXAMPLE_OF.values())
    assert await told(embedded, account) == {kind: [line] for kind, line in LINES.items()}


async def test_the_chat_receives_what_it_subscribed_to(delivering: tuple[Embedded, StorageAccount]) -> None:
    assert all(f"`ImagePatcher.{each}`" in GUIDE for each in FOR_PEOPLE)
    embedded, account = delivering
    await subscribe(embedded, account, *FOR_PEOPLE)
    await send(embedded, EXAMPLE_OF.values())
    assert await told(embedded, account) == {kind: [LINES[kind]] for kind in FOR_PEOPLE}


async def test_a_summary_of_a_night_without_failures_is_reported_too(
    delivering: tuple[Embedded, StorageAccount],
) -> None:
    """What is empty is left out of a notice, and the definition reads it all the same."""
    embedded, account = delivering
    event = EXAMPLE_OF["MorningSummary"]
    quiet = {**event["data"], "failed": 0}
    del quiet["failures"]
    await subscribe(embedded, account)
    await send(embedded, [{**event, "data": quiet}])
    assert (await told(embedded, account))["MorningSummary"] == [
        "Patched: 1 of 3 machines, failed: 0, still waiting: 1. "
    ]


def test_the_webhook_is_secret() -> None:
    assert WORKFLOW["parameters"]["webhook"]["type"] == "SecureString"
    assert "inputs" in WORKFLOW["actions"]["Post_to_the_chat"]["runtimeConfiguration"]["secureData"]["properties"]


# an expression → what is wrong with it
NOT_CARRIED_OUT = {
    "a function that is not known": "@utcNow()",
    "a member that is not there": "@triggerBody()['nothing']",
    "an output that is not there yet": "@outputs('Line')",
    "a parameter that is not declared": "@parameters('secret')",
    "a number joined to a text": "@concat('a', json('1'))",
    "no array": "@join('a', ', ')",
    "no condition": "@if('true', 'a', 'b')",
    "no base64": "@base64ToString('no base64!')",
    "no JSON": "@json('{')",
    "a bracket too few": "@concat('a', 'b'",
    "something behind": "@string('a') b",
    "an @ in the middle": "me@example.org",
}


@pytest.mark.parametrize("text", NOT_CARRIED_OUT.values(), ids=NOT_CARRIED_OUT)
def test_what_logic_apps_would_fail_on_fails_here(text: str) -> None:
    values = dict.fromkeys(WORKFLOW["parameters"], "x")
    with pytest.raises(Refused):
        Run(Workflow(WORKFLOW, values), {}).value_of(text)
