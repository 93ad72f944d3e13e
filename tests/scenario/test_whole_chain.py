"""The whole chain: real storage (Azurite), real TLS, the real function_app on the simulated Functions host.

What runs is the default deployment of infra/: its storage, settings, rights and events. Every event comes through the
webhook, every message through a queue, every call to Azure over a socket with a token of the managed identity. Each
scenario ends by reading all that Application Insights would receive: lines of the journal only, and no secret.
"""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from functions.cloud import ledger
from functions.cloud.arm import ResourceManager
from functions.cloud.ledger import Ledger
from functions.cloud.queue import StorageQueues
from functions.cloud.resource_graph import ResourceGraph
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.model.state import State
from functions.policy.settings import read_settings
from functions.services import Services
from functions.steps import notices, reconcile, track
from simulator import identity
from simulator.arm import shapes
from simulator.azure import Behaviour, Fault, Limits, Operation, Request, Response, overlaps
from simulator.embedded import Embedded
from simulator.event_grid.events import as_cloud_event
from simulator.event_grid.subscriptions import Schema
from simulator.functions_host import FunctionsHost
from simulator.functions_host.host import MAX_WAIT_SECONDS
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.support.world import REAL_TIME

PAYLOADS = Path(__file__).parents[1] / "recordings"
HOST_JSON = json.loads((Path(__file__).parents[2] / "host.json").read_text())
FUNCTIONS = {
    "on_machine_written",
    "on_machine_message",
    "on_machine_poisoned",
    "on_reconcile",
    "on_assess_request",
    "on_install_request",
    "on_assess_poisoned",
    "on_install_poisoned",
}
PATCHED_ONCE = ["assess", "install", "assess"]
SUPPORTED = Behaviour(support_state="Supported", pending={"critical": 1, "security": 4})
INSTALL = {
    "PATCH_MODE": "install",
    "PATCH_WINDOW": "any",
    "PATCH_CREATED_AFTER": "always",
    "PATCH_MIN_AGE_MINUTES": "0",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
    "PATCH_READY_MINUTES": "0.01",
    "PATCH_RETRY_MINUTES": "0.01",
    "PATCH_PACE_PERCENT": "100",
    "PATCH_MAX_IN_FLIGHT": "1000",
    "PATCH_MAX_PER_IMAGE": "1000",
    "PATCH_CANARIES": "0",
    "RECONCILE_SCHEDULE": "* * * * * *",
}
# A host takes one message at a time: otherwise the first to look takes all.
ONE_AT_A_TIME = {
    "AzureFunctionsJobHost__extensions__queues__batchSize": "1",
    "AzureFunctionsJobHost__extensions__queues__newBatchThreshold": "0",
}
BY_HAND = "0 0 0 1 1 *"  # no tick in a test's life: sweeps are started by name
HOST_SCALE = 0.003  # of the host's own waits: a failed message comes back after a second, the least there is

# What no log may hold. The events' claims are invented people; the tokens and signatures are the simulator's.
SECRETS = {
    "a token": re.compile(r"eyJ[\w-]{10,}"),
    "a signature": re.compile(r"[?&;](s|sig|h|c|p|code)=", re.IGNORECASE),
    "an address": re.compile(r"https?://", re.IGNORECASE),
    "claims": re.compile(r"pat@example\.com|Pat Example|203\.0\.113\.5|objectidentifier|uti\b", re.IGNORECASE),
    "a claim of the ledger": re.compile(r'"claim"|"token"'),
    "a key": re.compile(r"AccountKey|SharedKey|Bearer", re.IGNORECASE),
}


@dataclass
class Chain:
    """One embedded Azure, the hosts that ran on it, and what people do."""

    embedded: Embedded
    http: aiohttp.ClientSession
    services: Services  # an operator's reads of ledger and Graph, and sweeps beside the hosts'
    hosts: list[FunctionsHost] = field(default_factory=list)

    async def host(self, **settings: str) -> FunctionsHost:
        host = await self.embedded.host(self.embedded.settings(**INSTALL | settings), time_scale=HOST_SCALE)
        self.hosts.append(host)
        return host

    async def create(self, name: str, behaviour: Behaviour = SUPPORTED, group: str = "rg-prod", **more: Any) -> str:
        """A machine by PUT, and its id."""
        machine = shapes.machine_id(name, group)
        self.embedded.azure.behave(machine, behaviour)
        group_answer = await self.embedded.arm("PUT", machine.split("/providers/")[0], {"location": "westus"})
        answer = await self.embedded.arm("PUT", machine, shapes.machine(**more))
        assert (group_answer.status < 300, answer.status) == (True, 201), answer.body
        return machine

    async def deliver(self, host: FunctionsHost, events: Any, *, status: int = 202) -> None:
        """A notification of Event Grid."""
        headers = {"aeg-event-type": "Notification"}
        async with self.http.post(self.endpoint(host), json=events, headers=headers) as answer:
            assert answer.status == status, await answer.text()

    def endpoint(self, host: FunctionsHost) -> str:
        """Where the event subscription of the deployment delivers."""
        (subscription,) = self.embedded.deployed.subscriptions_to(host)
        return subscription.endpoint_url

    def writes(self) -> list[dict[str, Any]]:
        """The events about machines written so far, as Azure sent them."""
        name = "Microsoft.Compute/virtualMachines/write"
        return [event for event in self.embedded.azure.events if event["data"]["operationName"] == name]

    def operations(self, machine: str | None = None) -> list[Operation]:
        found = self.embedded.azure.operations
        return [each for each in found if machine is None or each.machine.lower() == machine.lower()]

    def kinds(self, machine: str) -> list[str]:
        return [operation.kind for operation in self.operations(machine)]

    def journal(self, event: str = "") -> list[dict[str, Any]]:
        """The lines of all hosts, or those of one name."""
        lines = [json.loads(trace.message) for host in self.hosts for trace in host.traces if _is_user(trace.category)]
        return [line for line in lines if event in ("", line["event"])]

    async def states(self) -> dict[str, State]:
        return {machine.id.name: step.state for machine, step in await reconcile.fleet_states(self.services)}

    async def until_patched(self, *machines: str) -> None:
        """Every machine is at rest in state patched, after the same operations."""
        names = {machine.rsplit("/", 1)[-1] for machine in machines}

        async def patched() -> bool:
            if any(self.kinds(machine)[-3:] != PATCHED_ONCE for machine in machines):
                return False
            states = await self.states()
            return all(states.get(name) == State.PATCHED for name in names)

        await eventually(patched)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(MAX_WAIT_SECONDS):
        while not await condition():  # noqa: ASYNC110  (the world signals nothing)
            await asyncio.sleep(0.2)


@pytest.fixture
async def chain(tls: Tls, azurite: Azurite) -> AsyncIterator[Chain]:
    """What is logged is read at the end of every scenario: see check_what_is_logged."""
    async with started(tls, azurite) as chain:
        yield chain
    check_what_is_logged(chain.hosts)


@asynccontextmanager
async def started(tls: Tls, azurite: Azurite) -> AsyncIterator[Chain]:
    async with AsyncExitStack() as stack:
        # The quotas of Azure, refilled faster: everything else here is faster too.
        embedded = Embedded(timings=REAL_TIME, limits=Limits().scaled(100), tls=tls, azurite=azurite)
        await stack.enter_async_context(embedded)
        connector = aiohttp.TCPConnector(ssl=tls.client_context())
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Chain(embedded, http, services_of(embedded))


def services_of(embedded: Embedded) -> Services:
    read = read_settings(embedded.settings(**INSTALL))

    def clock() -> datetime:
        return datetime.now(UTC)

    access = Session(read, clock, credential=identity.StaticCredential(client_id=identity.OPERATOR))
    return Services(
        read, ResourceManager(access), ResourceGraph(access), Ledger(StorageTable(access)), StorageQueues(access), clock
    )


def check_what_is_logged(hosts: list[FunctionsHost]) -> None:
    """Of the app: lines of the journal only, each whole. Of everything: no secret, in no text and no stack."""
    assert any(host.traces for host in hosts)
    for host in hosts:
        for trace in host.traces:
            if _is_user(trace.category):
                assert "event" in json.loads(trace.message), trace.message
            assert len(trace.message) < 32_768
        texts = [trace.message for trace in host.traces]
        texts += [text for item in host.exceptions for text in (item.message, item.stack)]
        texts += [invocation.error or "" for invocation in host.invocations]
        for text in texts:
            for what, pattern in SECRETS.items():
                assert not pattern.search(text), f"{what} in a log: {text}"


def _is_user(category: str) -> bool:
    return category.endswith(".User")


# -- one machine


@pytest.mark.parametrize(
    "payload", ["eventgrid_vm_write_INFERRED.json", "eventgrid_vm_write_cloudevents_INFERRED.json"]
)
async def test_from_a_published_event_to_a_patched_machine(chain: Chain, payload: str) -> None:
    """The payloads are Microsoft's samples with the ids of a machine put in (tests/recordings/README.md)."""
    body = json.loads((PAYLOADS / payload).read_text())
    event = body.get("vm_create", body)
    machine = await chain.create("vm-01", group="RG-Prod")
    assert event["subject"].lower() == machine.lower()
    host = await chain.host(RECONCILE_SCHEDULE=BY_HAND)
    cloud = "specversion" in event
    await chain.deliver(host, event if cloud else [event])
    assert chain.kinds(machine) == ["assess"], "the event alone starts the assessment"

    async with sweeping(host):
        await chain.until_patched(machine)
    assert chain.kinds(machine) == PATCHED_ONCE
    assert {line["event"] for line in chain.journal()} >= {
        "assessment.started",
        "assessment.ended",
        "support.detected",
        "installation.queued",
        "installation.started",
        "installation.ended",
        "installation.seen",
        "sweep.finished",
    }


@pytest.mark.parametrize("schema", ["EventGridSchema", "CloudEventSchemaV1_0"])
async def test_from_put_to_patched_by_an_event_subscription(chain: Chain, schema: Schema) -> None:
    """By the deployment's own filter and delivery."""
    host = await chain.host()
    await chain.embedded.subscribe(host, schema)
    machine = await chain.create("vm-01", os="Windows")
    await chain.until_patched(machine)
    assert chain.kinds(machine) == PATCHED_ONCE
    assert {attempt.status for attempt in chain.embedded.event_grid.attempts} == {202}


async def test_notices_reach_a_topic_by_the_identity_of_the_app(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each move with its notices in one transaction of the real table, and azure-eventgrid's client over TLS."""
    monkeypatch.setattr(notices, "COMPLETE_AFTER", timedelta(0))  # one reader of few rows: it misses none
    host = await chain.host(RECONCILE_SCHEDULE=BY_HAND, **chain.embedded.topic_of_notices())
    topic = chain.embedded.azure.topic
    assert topic is not None
    machine = await chain.create("vm-01")

    async def told() -> bool:
        return len(topic.of_type("SupportDetected")) == 2

    async with sweeping(host):
        await chain.until_patched(machine)
        await eventually(told)
    kinds = [event["type"].removeprefix("ImagePatcher.") for event in topic.events]
    assert kinds == [
        "AssessmentEnded",
        "SupportDetected",
        "InstallationStarted",
        "InstallationEnded",
        "SupportDetected",
    ]
    assert {event["subject"] for event in topic.events} == {machine.lower()}
    assert [event["sequence"] for event in topic.events] == sorted(event["sequence"] for event in topic.events)


@asynccontextmanager
async def sweeping(host: FunctionsHost) -> AsyncIterator[None]:
    """Sweeps, one after the other, while the block lasts."""

    async def sweep() -> None:
        while True:
            await host.run_timer("on_reconcile")
            await asyncio.sleep(0.2)

    task = asyncio.create_task(sweep())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# -- many events


async def test_a_thousand_doubled_and_shuffled_events_give_a_hundred_assessments(chain: Chain) -> None:
    azure = chain.embedded.azure
    ids = [shapes.machine_id(f"vm-{number:03}") for number in range(100)]
    for machine in ids:
        azure.create_machine(machine, shapes.machine())
    events = chain.writes() * 10
    assert len(events) == 1000
    random.Random(7).shuffle(events)
    host = await chain.host(PATCH_MODE="assess", RECONCILE_SCHEDULE=BY_HAND)
    batches = [events[first : first + 20] for first in range(0, 1000, 20)]
    batches = [[as_cloud_event(event) for event in batch] if odd % 2 else batch for odd, batch in enumerate(batches)]
    await asyncio.gather(*(chain.deliver(host, batch) for batch in batches))

    assert Counter(operation.machine for operation in azure.operations) == dict.fromkeys(ids, 1)
    assert {operation.kind for operation in azure.operations} == {"assess"}
    assert not overlaps(azure.operations)
    # The whole of it reaches Application Insights: the host keeps these lines, and host.json does not sample them.
    assert len(chain.journal("assessment.started")) == 100
    assert len(chain.journal("event.ignored")) + len(chain.journal("message.stale")) == 900
    sampling = HOST_JSON["logging"]["applicationInsights"]["samplingSettings"]
    assert not sampling["isEnabled"] or "Trace" in sampling["excludedTypes"].split(";")


async def test_two_instances_of_everything_patch_each_machine_once(chain: Chain) -> None:
    hosts = [await chain.host(RECONCILE_SCHEDULE=BY_HAND, **ONE_AT_A_TIME) for _ in range(2)]
    machines = [await chain.create(f"vm-{number:02}") for number in range(6)]
    await asyncio.gather(*(chain.deliver(host, chain.writes()) for host in hosts))
    async with sweeping(hosts[0]), sweeping(hosts[1]):
        await chain.until_patched(*machines)

    assert not overlaps(chain.operations())
    assert {machine: chain.kinds(machine) for machine in machines} == dict.fromkeys(machines, PATCHED_ONCE)
    assert all(any(each.function == "on_install_request" for each in host.invocations) for host in hosts)
    assert chain.journal("sweep.skipped"), "two sweeps met, and one stood back"


# -- things that go wrong


async def test_a_message_that_fails_five_times_is_recorded_and_its_machine_recovers(chain: Chain) -> None:
    machine = await chain.create("vm-01")
    broken = Fault("GET", "/virtualMachines/vm-01$", times=5, status=503)
    chain.embedded.azure.faults.add(broken)
    async with sweeping(await chain.host(RECONCILE_SCHEDULE=BY_HAND)):
        await chain.until_patched(machine)

    assert broken.hits == 5
    assert [line["machine"] for line in chain.journal("message.poisoned")] == [machine.lower()]
    assert [line["state"] for line in chain.journal("machine.held")] == ["failed"]
    assert chain.kinds(machine) == PATCHED_ONCE


Moment = Callable[[Request], bool]


@pytest.mark.parametrize(
    ("moment", "answered"),
    [
        pytest.param(lambda request: request.path.endswith("rg-prod"), False, id="before the POST"),
        pytest.param(lambda request: request.path.endswith("installPatches"), True, id="Azure has it, the app not yet"),
        pytest.param(lambda request: "/operations/" in request.path, True, id="while it runs"),
    ],
)
async def test_a_host_killed_in_the_middle_of_an_installation(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, moment: Moment, answered: bool
) -> None:
    """What a dead process leaves behind ends by time: a POST without an answer after 15 minutes, here after four
    seconds; the lease of its sweep after five minutes, here after eight seconds."""
    monkeypatch.setattr(track, "ADOPT_AFTER", timedelta(seconds=4))
    monkeypatch.setattr(ledger, "SWEEP_LEASE", timedelta(seconds=8))
    monkeypatch.setattr(ledger, "STOP_BEFORE_EXPIRY", timedelta(seconds=1))
    machine = await chain.create("vm-01")
    first = await chain.host(RECONCILE_SCHEDULE=BY_HAND)
    killed = kill_at(chain, first, monkeypatch, moment, answered)
    async with sweeping(first):
        await asyncio.wait_for(killed.wait(), MAX_WAIT_SECONDS)
    assert first.state == "Killed"
    installed = chain.kinds(machine).count("install")

    async with sweeping(await chain.host(RECONCILE_SCHEDULE=BY_HAND)):
        await chain.until_patched(machine)
    assert chain.kinds(machine) == PATCHED_ONCE
    assert installed == int(answered)
    assert not overlaps(chain.operations())


def kill_at(
    chain: Chain, host: FunctionsHost, monkeypatch: pytest.MonkeyPatch, moment: Moment, answered: bool
) -> asyncio.Event:
    """Kills the host when such a request of an installation comes in: after Azure acted on it, or before."""
    azure, killed = chain.embedded.azure, asyncio.Event()
    original = azure.handle

    async def handle(request: Request) -> Response:
        queued = len(chain.journal("installation.queued")) > 0
        if killed.is_set() or not queued or not moment(request):
            return await original(request)
        response = await original(request) if answered else None
        await host.kill()
        killed.set()
        return response or Response(503)

    monkeypatch.setattr(azure, "handle", handle)
    return killed


async def test_a_wrong_setting_stops_every_trigger_and_loses_nothing(chain: Chain) -> None:
    machine = await chain.create("vm-01")
    await reconcile.run(chain.services)  # a sweep hands it out: one message lies in the queue
    before = len(chain.embedded.azure.requests)
    wrong = await chain.host(PATCH_MODE="instal", RECONCILE_SCHEDULE=BY_HAND)
    assert wrong.state == "Running"
    assert {function.name for function in wrong.functions.values() if function.listening} == FUNCTIONS
    await chain.deliver(wrong, chain.writes(), status=500)
    assert (await wrong.run_timer("on_reconcile")).ok is False

    def refused(function: str) -> bool:
        return any(line["function"] == function for line in chain.journal("settings.refused"))

    # The message fails its five attempts, and lies in the poison queue: refused there too, and kept.
    await wrong.until(lambda: refused("on_assess_request") and refused("on_assess_poisoned"))
    await wrong.stop()
    assert len(chain.embedded.azure.requests) == before, "nothing is asked of Azure"
    failed = [invocation for invocation in wrong.invocations if invocation.ran]
    assert not [invocation for invocation in failed if invocation.ok]
    lines = chain.journal()
    assert len(lines) == len(failed), "one line for each refusal, and no other"
    assert {line["event"] for line in lines} == {"settings.refused"}
    for line in lines:
        assert line["setting"] == "PATCH_MODE"
        assert line["problem"] == "PATCH_MODE is 'instal'; allowed: off, plan, assess or install"

    async with sweeping(await chain.host(RECONCILE_SCHEDULE=BY_HAND)):
        await chain.until_patched(machine)
    assert chain.kinds(machine) == PATCHED_ONCE
    assert chain.journal("message.poisoned"), "the message was not lost"


# -- what is logged


async def test_the_search_for_secrets_would_find_them(tls: Tls, azurite: Azurite) -> None:
    """In what the app is handed: a token, an event with its claims, an operation's URL with its signature."""
    async with started(tls, azurite) as chain:
        machine = await chain.create("vm-01")
        accepted = await chain.embedded.arm("POST", f"{machine}/assessPatches")
        handed = {
            "a token": identity.mint(identity.ARM),
            "claims": json.dumps(chain.writes()[0]),
            "a signature": accepted.headers["azure-asyncoperation"],
            "an address": accepted.headers["azure-asyncoperation"],
        }
    for what, text in handed.items():
        assert SECRETS[what].search(text), what


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(".*", ".*", times=None, status=503), id="ARM is down"),
        pytest.param(Fault(".*", ".*", times=None, drop="before"), id="ARM hangs up"),
        pytest.param(Fault(".*", ".*", times=None, status=401), id="ARM refuses the token"),
        pytest.param(Fault("POST", "assessPatches", times=None, drop="after"), id="no answer to a POST"),
        pytest.param(Fault(".*", ".*", times=None, status=200, body={"value": "no machine"}), id="ARM talks nonsense"),
    ],
)
async def test_failures_tell_what_happened_and_no_secret(chain: Chain, fault: Fault) -> None:
    machine = await chain.create("vm-01")
    chain.embedded.azure.faults.add(fault)
    host = await chain.host(RECONCILE_SCHEDULE=BY_HAND)
    event = chain.writes()[0]
    assert "pat@example.com" in json.dumps(event), "the event holds claims"
    with_answer = {"aeg-event-type": "Notification"}
    async with chain.http.post(chain.endpoint(host), json=[event], headers=with_answer) as answer:
        assert answer.status in (202, 500)
    await host.run_timer("on_reconcile")

    told = [line for line in chain.journal() if machine.lower() in str(line) or line["event"] == "step.failed"]
    assert told, "every failure is reported"
