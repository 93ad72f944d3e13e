"""The deployment is run, not only read: the app on the committed snapshots of infra/, with nothing missing or spare.

One run of the default deployment finds no permission needed and missing, and none that is not needed. Then the
same with one mistake in a copy of the snapshots, for every kind of mistake: each is found, by its name.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from azure.storage.queue.aio import QueueClient

from functions.cloud import event_grid as app_events
from simulator import identity
from simulator.arm import shapes
from simulator.azure import Behaviour, Limits
from simulator.demo import fleet, stage
from simulator.demo.report import open_report
from simulator.demo.stage import HOST_SCALE, SETTINGS, SPEED, Stage
from simulator.deployment import DeploymentError, Snapshots, Usage, plan, storage
from simulator.deployment.snapshots import Change
from simulator.embedded import Embedded
from simulator.event_grid.delivery import EventGrid
from simulator.functions_host import FunctionsHost
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from simulator.wire import Json
from tests.support.world import REAL_TIME

SUPPORTED = Behaviour(support_state="Supported", pending={"critical": 1, "security": 4})
PATCHED_ONCE = ["assess", "install", "assess"]
# Mode, window and shorter times, as the demo sets them. The schedule is the deployment's: sweeps are called by name.
CHANGES = {name: value for name, value in SETTINGS.items() if name != "RECONCILE_SCHEDULE"} | {
    "PATCH_MIN_AGE_MINUTES": "0",
    "PATCH_ASSESS_AFTER_MINUTES": "0",
    "PATCH_BAKE_MINUTES": "0",
}
AT_ONCE = 1e6  # how much faster Event Grid gives up, at the end of a run
MAX_SECONDS = 120.0  # far beyond what a busy machine needs


# Left to a schedule, and taken back by its owner: the app asks whether one is assigned, and installs.
LEFT = {
    "patchMode": "AutomaticByPlatform",
    "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True},
}
OURS = {"patch-owner": "image-patcher"}


class Run:
    """A short life of a deployment: two machines are created, started and patched, and one event is never delivered.

    Then one of the machines is reimaged.
    """

    def __init__(self, embedded: Embedded) -> None:
        self.embedded = embedded
        self.machines = [
            shapes.machine_id(f"vm-{number}", subscription=each) for number, each in enumerate(self.watched)
        ]

    @property
    def watched(self) -> tuple[str, ...]:
        topics = self.embedded.deployed.plan.watched
        return topics if len(topics) > 1 else (*topics, *topics)

    async def live(self) -> None:
        """Ends early when a permission was missing: nothing else is checked then."""
        embedded = self.embedded
        host = await embedded.host(embedded.settings(**CHANGES), time_scale=HOST_SCALE)
        await embedded.subscribe(host)
        async with asyncio.timeout(MAX_SECONDS):
            for machine in self.machines:
                await self._create(machine)
            while not (self.failed() or self.patched()):
                await self._sweep(host)
                await asyncio.sleep(0.2)
            await self._reimage(self.machines[0])
        with suppress(TimeoutError):  # the usage says which queue was not polled
            async with asyncio.timeout(MAX_SECONDS):
                while self._polls_left():  # noqa: ASYNC110  (Azurite's log signals nothing)
                    await asyncio.sleep(0.2)
        if not self.failed():
            await never_delivered(embedded, host, self.machines[0])

    async def _create(self, machine: str) -> None:
        embedded = self.embedded
        embedded.azure.behave(machine, SUPPORTED)
        group = machine.split("/providers/")[0]
        for method, path, body in (
            ("PUT", group, {"location": "westus"}),
            ("PUT", machine, shapes.machine(os="Windows", patch_settings=LEFT, tags=OURS)),
            ("POST", f"{machine}/deallocate", None),
            ("POST", f"{machine}/start", None),
        ):
            while (await embedded.arm(method, path, body)).status == 409:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _reimage(self, machine: str) -> None:
        """Until its event was delivered, if a subscription wants it. What the app does then, test_moves.py shows."""
        while not self.failed() and (await self.embedded.arm("POST", f"{machine}/reimage", {})).status == 409:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while not (self.failed() or self._told(REIMAGE)):  # noqa: ASYNC110  (Azure's events signal nothing)
            await asyncio.sleep(0.05)

    def _told(self, operation: str) -> bool:
        """Whether Azure has an event of the operation, and Event Grid tried to deliver it where it is wanted."""
        embedded = self.embedded
        events = [each for each in embedded.azure.events if each["data"]["operationName"] == operation]
        wanted = {each["id"] for each in events if any(where.wants(each) for where in embedded.deployed.subscribed)}
        tried = {event for attempt in embedded.event_grid.attempts for event in attempt.event_ids}
        return bool(events) and wanted <= tried

    async def _sweep(self, host: FunctionsHost) -> None:
        if host.timer_function("on_reconcile"):
            await host.run_timer("on_reconcile")

    def failed(self) -> bool:
        return bool(self.embedded.usage().missing())

    def _polls_left(self) -> bool:
        """Whether the host has yet to poll one of the deployment's queues."""
        usage = self.embedded.usage()
        polled = {call.name for call in usage.calls}
        return not self.failed() and not polled >= set(self.embedded.deployed.plan.account.names["queue"])

    def patched(self) -> bool:
        return all(self.kinds(machine)[:3] == PATCHED_ONCE for machine in self.machines)

    def kinds(self, machine: str) -> list[str]:
        return [each.kind for each in self.embedded.azure.operations if each.machine == machine]


async def never_delivered(embedded: Embedded, host: FunctionsHost, machine: str) -> None:
    """The app is gone, with the queue if events go there, and Event Grid gives up on an event about this machine."""
    await host.stop()
    if any(each.queue for each in embedded.deployed.subscribed):
        await delete_queue(embedded, app_events.QUEUE)
    grid = embedded.event_grid
    grid.speed = AT_ONCE
    await embedded.arm("PATCH", machine, {"tags": {"touched": "yes"}})
    async with asyncio.timeout(MAX_SECONDS):
        # Azurite's log of the letter comes a moment after the letter.
        while not (grid.dropped or (grid.dead_letters and _logged(embedded, "dead-letters"))):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def delete_queue(embedded: Embedded, name: str) -> None:
    credential = identity.StaticCredential(identity.STORAGE)
    async with QueueClient(embedded.account.queue_url, name, credential=credential, use_env_settings=False) as queue:
        await queue.delete_queue()


def _logged(embedded: Embedded, name: str) -> bool:
    return any(call.name == name and call.inside for call in embedded.usage().calls)


def embed(tls: Tls, azurite: Azurite, deployment: Snapshots | str = "default", **more: Any) -> Embedded:
    limits = Limits().scaled(100)
    return Embedded(deployment=deployment, timings=REAL_TIME, limits=limits, tls=tls, azurite=azurite, **more)


def said_by_the_app(usage: Usage) -> list[str]:
    """Where the deployment's filters and the app disagree about which events matter."""
    found = []
    for event in usage.azure.events:
        wanted = app_events.machine_in(event["eventType"], event["subject"], event["data"]) is not None
        passes = any(each.wants(event) for each in usage.deployed.subscribed)
        if wanted != passes:
            found.append(f"{event['data']['operationName']} {'does not pass' if wanted else 'passes for nothing'}")
    return sorted(set(found))


# -- nothing missing, nothing spare


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lived(tls: Tls, azurite: Azurite) -> AsyncIterator[Run]:
    """The default deployment's short life, for every test that only reads it."""
    async with embed(tls, azurite) as embedded:
        run = Run(embedded)
        await run.live()
        yield run


def test_a_short_life_needs_all_of_the_default_deployment_and_nothing_more(lived: Run) -> None:
    usage = lived.embedded.usage()
    assert lived.patched()
    assert (usage.missing(), usage.unused(), said_by_the_app(usage)) == ([], [], [])


async def test_the_demo_needs_all_of_its_deployment_and_nothing_more(
    tls: Tls, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so nothing that the deployment gives for servers, scale sets and stopped machines is spare."""
    monkeypatch.setattr(stage, "MAX_SECONDS", 900.0)  # far beyond what a busy machine needs
    async with Embedded(SPEED, deployment=stage.DEPLOYMENT, tls=tls, azurite=azurite) as embedded:
        settings = embedded.settings(**SETTINGS)
        host = await embedded.host(settings, time_scale=HOST_SCALE)
        await embedded.subscribe(host)
        async with open_report(settings) as report:
            verdicts = await Stage(embedded, host, report).run(Unwatched())
        assert [each for each in verdicts if each.expected] == []
        await never_delivered(embedded, host, fleet.FLEET[0].id)
        usage = embedded.usage()
    assert (usage.missing(), usage.unused(), said_by_the_app(usage)) == ([], [], [])


class Unwatched:
    """A screen without a viewer."""

    def __enter__(self) -> "Unwatched":
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, *_: object) -> None: ...


async def dead_letters(embedded: Embedded) -> dict[str, list[Json]]:
    """What lies in the container, by the name of the blob."""
    session, container = embedded.deployed.session, f"{embedded.account.blob_url}/dead-letters"
    listing = (await storage.call(session, "GET", f"{container}?restype=container&comp=list")).decode()
    names = re.findall(r"<Name>([^<]+)</Name>", listing)
    return {name: json.loads(await storage.call(session, "GET", f"{container}/{name}")) for name in names}


# -- something missing: the run stumbles over it


def of_type(resources: list[Json], kind: str) -> list[Json]:
    return [each for each in resources if each["type"].endswith(kind)]


def without(kind: str, name: str) -> Change:
    """The resource of this type and name is not deployed."""

    def change(resources: list[Json]) -> None:
        resources[:] = [each for each in resources if not (each["type"].endswith(kind) and name in str(each))]

    return change


def without_setting(name: str) -> Change:
    def change(resources: list[Json]) -> None:
        for each in of_type(resources, "sites/config"):
            each["properties"].pop(name)

    return change


def without_action(name: str) -> Change:
    def change(resources: list[Json]) -> None:
        for each in of_type(resources, "roleDefinitions"):
            each["properties"]["permissions"][0]["actions"].remove(name)

    return change


def subscription(change: Callable[[Json], None]) -> Change:
    """Something else in every event subscription."""

    def apply(resources: list[Json]) -> None:
        for each in of_type(resources, "eventSubscriptions"):
            change(each["properties"])

    return apply


def function_named(name: str) -> Change:
    def change(properties: Json) -> None:
        where = properties["destination"]["properties"]
        where["resourceId"] = f"{where['resourceId'].rpartition('/')[0]}/{name}"

    return subscription(change)


COMPUTE = "Microsoft.Compute/virtualMachines"
OWNER, QUEUES, TABLES, PUBLISHER, LETTERS, SENDER = (
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "3913510d-42f4-4e42-8a64-420c390055eb",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a",
)
STORAGE = "AzureWebJobsStorage"
INSIGHTS = "APPLICATIONINSIGHTS"

ACTIONS = [
    f"{COMPUTE}/read",
    f"{COMPUTE}/instanceView/read",
    f"{COMPUTE}/assessPatches/action",
    f"{COMPUTE}/installPatches/action",
    f"{COMPUTE}/patchAssessmentResults/*",
    f"{COMPUTE}/patchInstallationResults/read",
    "Microsoft.Compute/locations/operations/read",
    "Microsoft.Maintenance/configurationAssignments/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
]
QUEUE_NAMES = [
    f"{name}{end}" for name in ("assess-requests", "install-requests", "machine-events") for end in ("", "-poison")
]

MISSING = [
    *(pytest.param(without_action(each), [each.rstrip("*")], id=f"action {each}") for each in ACTIONS),
    *(pytest.param(without("/queues", f"/{each}'"), [f"{each} is used"], id=f"queue {each}") for each in QUEUE_NAMES),
    pytest.param(without("/tables", "/ledger"), ["ledger", "not deployed"], id="table"),
    pytest.param(without("/containers", "/app-package"), ["app-package", "not deployed"], id="package container"),
    pytest.param(without("/containers", "/dead-letters"), ["container dead-letters"], id="dead-letter container"),
    pytest.param(without_setting(f"{STORAGE}__queueServiceUri"), [f"{STORAGE}__queueServiceUri"], id="queue URI"),
    pytest.param(without_setting(f"{STORAGE}__blobServiceUri"), [f"{STORAGE}__blobServiceUri"], id="blob URI"),
    pytest.param(without_setting(f"{STORAGE}__tableServiceUri"), [f"{STORAGE}__tableServiceUri"], id="table URI"),
    pytest.param(without_setting(f"{STORAGE}__credential"), [f"{STORAGE}__credential"], id="credential"),
    pytest.param(without_setting(f"{STORAGE}__clientId"), ["Managed Identity"], id="client id"),
    pytest.param(without_setting("RECONCILE_SCHEDULE"), ["RECONCILE_SCHEDULE"], id="schedule"),
    pytest.param(
        without_setting(f"{INSIGHTS}_CONNECTION_STRING"), [f"{INSIGHTS}_CONNECTION_STRING"], id="connection string"
    ),
    pytest.param(
        without_setting(f"{INSIGHTS}_AUTHENTICATION_STRING"), [f"{INSIGHTS}_AUTHENTICATION_STRING"], id="authentication"
    ),
    pytest.param(without("roleAssignments", OWNER), ["may not read its package"], id="role for blobs"),
    pytest.param(
        without("roleAssignments", QUEUES), ["the queue answered AuthorizationPermissionMismatch"], id="role for queues"
    ),
    pytest.param(
        without("roleAssignments", TABLES), ["the table answered AuthorizationPermissionMismatch"], id="role for tables"
    ),
    pytest.param(without("roleAssignments", PUBLISHER), ["Monitoring Metrics Publisher"], id="role for telemetry"),
    pytest.param(without("roleAssignments", LETTERS), ["no dead letter could be written"], id="role for dead letters"),
    pytest.param(without("systemTopics", "systemTopics"), ["its system topic is not deployed"], id="topic"),
    pytest.param(function_named("on_machine_writen"), ["the app has no function on_machine_writen"], id="function"),
    pytest.param(function_named("on_reconcile"), ["on_reconcile is not an Event Grid function"], id="another function"),
]


def test_there_is_a_mistake_for_every_action_queue_and_role(lived: Run) -> None:
    deployed = lived.embedded.deployed.plan
    custom = [each for each in deployed.assignments if each.role.custom]
    assert [sorted(each.role.actions) for each in custom] == [sorted(ACTIONS)]
    assert sorted(deployed.account.names["queue"]) == sorted(QUEUE_NAMES)
    assert len(deployed.assignments) - len(custom) == len({OWNER, QUEUES, TABLES, PUBLISHER, LETTERS})


@pytest.mark.parametrize(("change", "named"), MISSING)
async def test_what_is_missing_is_found(tls: Tls, azurite: Azurite, change: Change, named: list[str]) -> None:
    found = await findings(tls, azurite, Snapshots.read().changed(change))
    assert any(all(each in line for each in named) for line in found), found


async def findings(tls: Tls, azurite: Azurite, snapshots: Snapshots, **more: Any) -> list[str]:
    try:
        async with embed(tls, azurite, snapshots, **more) as embedded:
            await Run(embedded).live()
            return embedded.usage().missing()
    except DeploymentError as error:
        return [str(error)]


# -- something spare or wrong: the same run, held against another deployment


def added(kind: str, name: str) -> Change:
    """One more of a kind, made of one that is there."""

    def change(resources: list[Json]) -> None:
        for each in of_type(resources, kind)[:1]:
            new = {"id": f"{each['id'].rpartition('/')[0]}/{name}", "name": f"{each['name'].rpartition('/')[0]}/{name}"}
            resources.append({**each, **new})

    return change


def with_setting(name: str) -> Change:
    def change(resources: list[Json]) -> None:
        for each in of_type(resources, "sites/config"):
            each["properties"][name] = "on"

    return change


def with_action(name: str) -> Change:
    def change(resources: list[Json]) -> None:
        for each in of_type(resources, "roleDefinitions"):
            each["properties"]["permissions"][0]["actions"].append(name)

    return change


def with_role(guid: str) -> Change:
    """One more role where the app has that for queues."""

    def change(resources: list[Json]) -> None:
        for each in [each for each in of_type(resources, "roleAssignments") if QUEUES in str(each)]:
            resources.append(
                {
                    **each,
                    "id": f"{each['id']}-more",
                    "properties": {**each["properties"], "roleDefinitionId": f"/x/{guid}"},
                }
            )

    return change


def filtered(*values: str) -> Change:
    return subscription(lambda properties: properties["filter"]["advancedFilters"][0].update(values=list(values)))


def typed(*kinds: str) -> Change:
    return subscription(lambda properties: properties["filter"].update(includedEventTypes=list(kinds)))


WRITE, START, REIMAGE = f"{COMPUTE}/write", f"{COMPUTE}/start/action", f"{COMPUTE}/reimage/action"
WRITES, STARTS = "Microsoft.Resources.ResourceWriteSuccess", "Microsoft.Resources.ResourceActionSuccess"

SPARE = [
    pytest.param(with_action(f"{COMPUTE}/delete"), f"nothing needed the action {COMPUTE}/delete", id="action"),
    pytest.param(with_action(f"{COMPUTE}/*/write"), f"nothing needed the action {COMPUTE}/*/write", id="a wild card"),
    pytest.param(added("/queues", "another"), "nothing used the queue another", id="queue"),
    pytest.param(added("/tables", "another"), "nothing used the table another", id="table"),
    pytest.param(added("/containers", "another"), "nothing used the container another", id="container"),
    pytest.param(with_setting("SPARE_SETTING"), "nothing read the setting SPARE_SETTING", id="setting"),
    pytest.param(
        with_role("19e7f393-937e-4f77-808e-94535e297925"), "nothing needed Storage Queue Data Reader", id="role"
    ),
    pytest.param(with_role(SENDER), "nothing needed Storage Queue Data Message Sender", id="the path not taken"),
    pytest.param(filtered(WRITE, f"{COMPUTE}/strat/action"), f"{COMPUTE}/strat/action", id="a value misspelt"),
    pytest.param(filtered(WRITE), f"{START} does not pass", id="a value left out"),
    pytest.param(
        filtered(WRITE, START, REIMAGE, f"{COMPUTE}/deallocate/action"), "passes for nothing", id="a value too many"
    ),
    pytest.param(typed(WRITES), f"{START} does not pass", id="a type left out"),
    pytest.param(typed(WRITES, STARTS, "Microsoft.Resources.Write"), "no event of the type", id="a type misspelt"),
]


@pytest.mark.parametrize(("change", "named"), SPARE)
def test_what_is_spare_or_wrong_is_found(lived: Run, change: Change, named: str) -> None:
    """The app would have run alike, so its run is checked as if it had been deployed like this."""
    usage = lived.embedded.usage()
    account = lived.embedded.account
    addresses: plan.Addresses = {"blob": account.blob_url, "queue": account.queue_url, "table": account.table_url}
    deployed = replace(usage.deployed, plan=plan.read(Snapshots.read().changed(change), addresses))
    deployed.subscriptions_to(usage.hosts[0])
    changed = replace(usage, deployed=deployed)
    found = changed.unused() + said_by_the_app(changed)
    assert any(named in line for line in found), found


async def test_what_is_spare_is_found_in_a_run_of_its_own_too(tls: Tls, azurite: Azurite) -> None:
    changes = (
        with_action(f"{COMPUTE}/delete"),
        added("/queues", "another-queue"),
        added("/tables", "anothertable"),
        added("/containers", "another-container"),  # no setting: the app looks at the name of each
    )

    def all_of_them(resources: list[Json]) -> None:
        for change in changes:
            change(resources)

    async with embed(tls, azurite, Snapshots.read().changed(all_of_them)) as embedded:
        await Run(embedded).live()
        usage = embedded.usage()
    assert usage.missing() == []
    assert len(usage.unused()) == len(changes)
    for named in (f"{COMPUTE}/delete", "another-queue", "anothertable", "another-container"):
        assert any(named in line for line in usage.unused()), usage.unused()


# -- the other deployments


async def test_the_path_by_a_queue_needs_all_of_its_deployment_and_nothing_more(tls: Tls, azurite: Azurite) -> None:
    async with embed(tls, azurite, "queue") as embedded:
        run = Run(embedded)
        await run.live()
        usage = embedded.usage()
        assert run.patched()
        assert (usage.missing(), usage.unused(), said_by_the_app(usage)) == ([], [], [])
        assert len(embedded.event_grid.dead_letters) == 1
        deployed = embedded.deployed.plan
        data = [each for each in deployed.assignments if not each.role.custom]
        assert len(data) == len({OWNER, QUEUES, TABLES, PUBLISHER, LETTERS, SENDER})


def untrusting(resources: list[Json]) -> None:
    """The account lets no trusted service of Azure in."""
    for each in of_type(resources, "Storage/storageAccounts"):
        each["properties"]["networkAcls"]["bypass"] = "None"


MISSING_BY_QUEUE = [
    pytest.param(without("roleAssignments", SENDER), "Event Grid was refused (403)", id="role for events"),
    pytest.param(untrusting, "Event Grid was refused (403)", id="the trust in Event Grid"),
    pytest.param(without("/queues", "/machine-events'"), "the queue machine-events is not deployed", id="queue"),
    pytest.param(without("roleAssignments", LETTERS), "no dead letter could be written", id="role for dead letters"),
]


@pytest.mark.parametrize(("change", "named"), MISSING_BY_QUEUE)
async def test_what_the_path_by_a_queue_misses_is_found(tls: Tls, azurite: Azurite, change: Change, named: str) -> None:
    found = await findings(tls, azurite, Snapshots.read("queue").changed(change))
    assert any(named in line for line in found), found


async def test_the_private_network_runs_the_same(tls: Tls, azurite: Azurite) -> None:
    """Here no packet passes a network: what is shown is that nothing but the network's own resources differs.

    Event Grid writes its dead letters into the closed account, as a service that the account trusts.
    """
    async with embed(tls, azurite, "private-network") as embedded:
        run = Run(embedded)
        await run.live()
        account = embedded.deployed.plan.account
        assert not account.public
        assert account.endpoints == frozenset({"blob", "queue", "table"})
        (subscription,) = embedded.deployed.subscribed
        ((name, (letter,)),) = (await dead_letters(embedded)).items()
        assert re.fullmatch(rf"{subscription.name.upper()}/\d{{4}}(/\d{{1,2}}){{3}}/[0-9a-f-]{{36}}\.json", name)
        assert (letter["subject"], letter["deadLetterReason"]) == (run.machines[0], "TimeToLiveExceeded")
        usage = embedded.usage()
        assert run.patched()
        assert (usage.missing(), usage.unused()) == ([], [])


def without_tables_endpoint(resources: list[Json]) -> None:
    without("/privateEndpoints", "-table'")(resources)


def without_network(resources: list[Json]) -> None:
    for each in of_type(resources, "Web/sites"):
        each["properties"].pop("virtualNetworkSubnetId")


def without_event_grid(resources: list[Json]) -> None:
    for each in of_type(resources, "Web/sites"):
        each["properties"]["publicNetworkAccess"] = "Disabled"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(without_tables_endpoint, "the table answered AuthorizationFailure", id="a private endpoint"),
        pytest.param(without_network, "answered AuthorizationFailure", id="the way into the network"),
        pytest.param(without_event_grid, "the site answered Ip Forbidden", id="the way in for events"),
    ],
)
async def test_what_the_private_network_misses_is_found(tls: Tls, azurite: Azurite, change: Change, named: str) -> None:
    found = await findings(tls, azurite, Snapshots.read("private-network").changed(change))
    assert any(named in line for line in found), found


async def test_machines_of_two_subscriptions_are_patched_below_a_management_group(tls: Tls, azurite: Azurite) -> None:
    """One role at the management group; each subscription's events through its own topic."""
    watched = [shapes.SUBSCRIPTION, f"{shapes.SUBSCRIPTION[:-1]}2"]
    async with embed(tls, azurite, "management-group", management_groups={"mg-fleet": watched}) as embedded:
        run = Run(embedded)
        await run.live()
        usage = embedded.usage()
        assert [each.split("/")[2] for each in run.machines] == list(embedded.deployed.plan.watched) == watched
        assert run.patched()
        assert (usage.missing(), said_by_the_app(usage)) == ([], [])
        assert delivered(embedded.event_grid) == {f"/subscriptions/{each}" for each in watched}


def delivered(grid: EventGrid) -> set[str]:
    """The topics of which an event reached the app."""
    ids = {event_id for attempt in grid.attempts if attempt.status == 202 for event_id in attempt.event_ids}
    return {event["topic"] for event in grid.world.events if event["id"] in ids}


async def test_a_subscription_outside_the_management_group_is_left_alone(tls: Tls, azurite: Azurite) -> None:
    """The app sees none of its machines, and touches none."""
    inside = [shapes.SUBSCRIPTION]
    async with embed(tls, azurite, "management-group", management_groups={"mg-fleet": inside}) as embedded:
        host = await embedded.host(embedded.settings(**CHANGES), time_scale=HOST_SCALE)
        outside = shapes.machine_id("vm-9", subscription=f"{shapes.SUBSCRIPTION[:-1]}3")
        embedded.azure.create_machine(outside, shapes.machine())
        embedded.azure.create_machine(shapes.machine_id("vm-0"), shapes.machine())
        await host.run_timer("on_reconcile")
        await host.until(lambda: bool(embedded.azure.operations))
        assert {each.machine for each in embedded.azure.operations} == {shapes.machine_id("vm-0")}
        mine = [each for each in embedded.azure.permission_checks if each.client_id == identity.CLIENT_ID]
        assert mine
        assert not [each for each in mine if outside.split("/")[2] in each.scope]
