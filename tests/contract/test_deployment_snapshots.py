"""How snapshots are read: expressions, the closed table of types and properties, and what Azure refuses."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.azure import Azure
from simulator.deployment import DeploymentError, Snapshots, deploy, expressions, known, plan, roles
from simulator.deployment.snapshots import PHASES, Change
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from simulator.wire import Json
from tests.contract.simulator_client import Clock, arm, install_order, ready_machine

ADDRESSES: plan.Addresses = {"blob": "https://b/a", "queue": "https://q/a", "table": "https://t/a"}
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"

# -- expressions


def reference(resource_id: str, full: bool) -> Any:
    found = {"primaryEndpoints": {"queue": "https://q/"}, "names": ["a", "b"]}
    return {"identity": {"principalId": f"of {resource_id}"}} if full else found


EXPRESSIONS = [
    pytest.param("plain", "plain", id="a text"),
    pytest.param("[[not one]", "[not one]", id="a text with a bracket"),
    pytest.param("[reference('x', '2025').primaryEndpoints.queue]", "https://q/", id="a member"),
    pytest.param("[reference('x').names[1]]", "b", id="an index"),
    pytest.param("[reference('x')['names'][0]]", "a", id="a member by its text"),
    pytest.param("[reference('it''s', '2025', 'full').identity.principalId]", "of it's", id="full, and a quote"),
    pytest.param("[format('{0}-{1}-{0}', 'a', toLower('B'))]", "a-b-a", id="format"),
    pytest.param("[concat('a', 1, 'b')]", "a1b", id="concat"),
    pytest.param(
        "[resourceId('s', 'g', 'A.B/c/d', 'n', 'm')]",
        "/subscriptions/s/resourceGroups/g/providers/A.B/c/n/d/m",
        id="id",
    ),
    pytest.param(
        "[subscriptionResourceId('s', 'A.B/c', 'n')]", "/subscriptions/s/providers/A.B/c/n", id="subscription"
    ),
    pytest.param("[extensionResourceId('/x', 'A.B/c', 'n')]", "/x/providers/A.B/c/n", id="extension"),
    pytest.param("[tenantResourceId('A.B/c', 'n')]", "/providers/A.B/c/n", id="tenant"),
    pytest.param(
        "[managementGroupResourceId('g', 'A.B/c', 'n')]",
        "/providers/Microsoft.Management/managementGroups/g/providers/A.B/c/n",
        id="management group",
    ),
    pytest.param("[shallowMerge(createArray(createObject('a', 1), createObject('a', 2)))]", {"a": 2}, id="merge"),
    pytest.param("[if(equals(environment().name, 'AzureCloud'), 'public', 'other')]", "public", id="if"),
    pytest.param("[split(environment().resourceManager, '/')[2]]", "management.azure.com", id="split"),
    pytest.param("[not(empty(''))]", False, id="empty"),
    pytest.param({"[concat('k', 'ey')]": ["[toLower('V')]", 1, None]}, {"key": ["v", 1, None]}, id="keys and lists"),
]


@pytest.mark.parametrize(("value", "resolved"), EXPRESSIONS)
def test_expressions(value: Any, resolved: Any) -> None:
    assert expressions.resolve(value, reference) == resolved


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("[listKeys('x')]", r"does not know the function listKeys\(\)", id="a function"),
        pytest.param("[reference('x').nothing]", "there is no 'nothing'", id="a member"),
        pytest.param("[concat('a', 'b']", "ends too early", id="no end"),
        pytest.param("[concat('a') 'b']", "'b' is not expected", id="too much"),
        pytest.param("[a & b]", "cannot be read", id="another language"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(text: str, problem: str) -> None:
    with pytest.raises(DeploymentError, match=problem):
        expressions.resolve({"deep": [text]}, reference)


def test_guids_are_those_of_the_compiler() -> None:
    """An assignment whose name the compiler worked out itself: of scope, principal and role, as usual."""
    resources = list(Snapshots.read("management-group").resources)
    worked_out = [each for each in resources if "roleAssignments" in each["type"] and not each["id"].startswith("[")]
    for each in worked_out:
        scope, properties = each["id"].partition("/providers/Microsoft.Authorization")[0], each["properties"]
        parts = f"'{scope}', '{properties['principalId']}', '{properties['roleDefinitionId']}'"
        assert expressions.resolve(f"[guid({parts})]", reference) == each["name"]
    assert worked_out


# -- every committed deployment


@pytest.mark.parametrize("name", ["default", "private-network", "landing-zone", "management-group"])
def test_every_deployment_can_be_made_real(name: str) -> None:
    snapshots = Snapshots.read(name)
    made = plan.read(snapshots, ADDRESSES)
    assert [phase for phase, _ in snapshots.phases] == [each for each in PHASES if each != "fleet" or "group" in name]
    assert made.site.settings["AzureWebJobsStorage__queueServiceUri"] == "https://q/a/"
    assert "[" not in json.dumps(dict(made.site.settings)), "no expression is handed on"
    assert made.subscriptions
    assert made.watched


def test_a_deployment_that_is_not_there_is_named() -> None:
    with pytest.raises(DeploymentError, match="no snapshot of the phase main of deployment absent"):
        Snapshots.read("absent")


def test_a_snapshot_made_with_diagnostics_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "default.main.snapshot.json"
    path.write_text(json.dumps({"predictedResources": [], "diagnostics": ["a warning"]}))
    with pytest.raises(DeploymentError, match="a warning"):
        Snapshots.read("default", tmp_path)


# -- what is refused


def of_type(resources: list[Json], kind: str) -> Json:
    return next(each for each in resources if each["type"].endswith(kind))


def changed(kind: str, change: Callable[[Json], object]) -> Change:
    """Something else in the first resource of a kind."""

    def apply(resources: list[Json]) -> None:
        change(of_type(resources, kind))

    return apply


def doubled(kind: str, **changes: Any) -> Change:
    """A second resource, made of the first one of a kind."""

    def change(resources: list[Json]) -> None:
        resources.append({**copy.deepcopy(of_type(resources, kind)), **changes})

    return change


def renamed(kind: str, name: str) -> Change:
    def change(resource: Json) -> None:
        resource["name"] = f"{resource['name'].rpartition('/')[0]}/{name}"

    return changed(kind, change)


def with_action(name: str, kind: str = "actions") -> Change:
    def change(role: Json) -> None:
        role["properties"]["permissions"][0].setdefault(kind, []).append(name)

    return changed("roleDefinitions", change)


def in_filter(**changes: Any) -> Change:
    return changed(
        "eventSubscriptions", lambda each: each["properties"]["filter"]["advancedFilters"][0].update(changes)
    )


REFUSED = [
    pytest.param(
        doubled("systemTopics", id="/x/systemTopics/second", name="second"), "only one system topic", id="two topics"
    ),
    pytest.param(renamed("/queues", "Assess"), "'Assess' is not a valid name for a queue", id="a queue's capital"),
    pytest.param(renamed("/queues", "a--b"), "'a--b' is not a valid name for a queue", id="a queue's hyphens"),
    pytest.param(renamed("/queues", "ab"), "'ab' is not a valid name for a queue", id="a queue's length"),
    pytest.param(renamed("/containers", "app_package"), "not a valid name for a container", id="a container's name"),
    pytest.param(renamed("/tables", "the-ledger"), "not a valid name for a table", id="a table's name"),
    pytest.param(
        changed("/queues", lambda each: each.update(id="/x/y")),
        "storage account is not deployed",
        id="a queue elsewhere",
    ),
    pytest.param(
        changed("roleAssignments", lambda each: each["properties"].update(principalId="unknown")),
        "PrincipalNotFound",
        id="a role for no principal of ours",
    ),
    pytest.param(
        changed("roleAssignments", lambda each: each["properties"].update(roleDefinitionId="/x/of-no-role")),
        "RoleDefinitionDoesNotExist",
        id="no such role",
    ),
    pytest.param(
        changed("roleDefinitions", lambda each: each["properties"].update(assignableScopes=["/subscriptions/other"])),
        "InvalidRoleAssignment",
        id="a role for another scope",
    ),
    pytest.param(
        with_action("Microsoft.Compute/virtualMachines/patchAssessmentResults/read"),
        r"Azure refuses it \(InvalidActionOrNotAction\).*patchAssessmentResults/read' does not match",
        id="an operation that Azure does not have",
    ),
    pytest.param(
        with_action("Microsoft.Compute/virtualMachine/*"), "InvalidActionOrNotAction", id="a wildcard over nothing"
    ),
    pytest.param(
        with_action("Microsoft.Compute/virtualMachines/pwoerOff/action", "notActions"),
        "InvalidActionOrNotAction",
        id="nothing to take away",
    ),
    pytest.param(
        with_action("Microsoft.Compute/virtualMachines/read", "dataActions"),
        "InvalidActionOrNotAction",
        id="an action for data that is none",
    ),
    pytest.param(doubled("roleAssignments", name="again"), "RoleAssignmentExists", id="the same role twice"),
    pytest.param(
        changed("sites/config", lambda each: each["properties"].update(FUNCTIONS_WORKER_RUNTIME="python")),
        "not valid for Flex Consumption",
        id="a setting that Flex refuses",
    ),
    pytest.param(
        changed("Web/sites", lambda each: each["properties"]["siteConfig"].update(ftpsState="Disabled")),
        r"\(Site.SiteConfig.FtpsState\) for Flex Consumption sites is invalid",
        id="a property that Flex refuses",
    ),
    pytest.param(
        changed("sites/config", lambda each: each["properties"].update(TZ="Europe/Paris")),
        "TZ is not valid for Flex Consumption",
        id="a time zone on Flex",
    ),
    pytest.param(
        changed("sites/config", lambda each: each["properties"].update(PATCH_SLA_DAYS=30)), "not a string", id="number"
    ),
    pytest.param(
        changed("Web/sites", lambda each: each["identity"].update(userAssignedIdentities={"/x/unknown": {}})),
        "FailedIdentityOperation",
        id="an identity that is not there",
    ),
    pytest.param(
        changed("eventSubscriptions", lambda each: each["properties"]["retryPolicy"].update(maxDeliveryAttempts=31)),
        "maxDeliveryAttempts is 31",
        id="31 attempts",
    ),
    pytest.param(in_filter(values=[str(number) for number in range(26)]), "more than 25", id="26 values"),
    pytest.param(
        changed("systemTopics", lambda each: each.pop("identity")),
        "no identity to write dead letters",
        id="no identity",
    ),
    # what only the simulator does not know
    pytest.param(
        with_action("Microsoft.EventGrid/unread/read"), "does not know whether Azure has", id="a list that is not whole"
    ),
    pytest.param(in_filter(operatorType="NumberIn"), "does not know the filter NumberIn", id="a filter of numbers"),
    pytest.param(
        doubled("userAssignedIdentities", type="Contoso.New/things"), "does not know the type Contoso", id="a type"
    ),
    pytest.param(
        changed("eventSubscriptions", lambda each: each["properties"].update(expirationTimeUtc="2027")),
        "does not know the property properties.expirationTimeUtc",
        id="a property",
    ),
    pytest.param(
        changed("eventSubscriptions", lambda each: each["properties"]["destination"].update(endpointType="WebHook")),
        "only a function",
        id="another destination",
    ),
    pytest.param(
        changed("Web/sites", lambda each: each["properties"]["functionAppConfig"]["runtime"].update(name="node")),
        "written in Python",
        id="another language",
    ),
]


@pytest.mark.parametrize(("change", "problem"), REFUSED)
def test_what_is_refused(change: Change, problem: str) -> None:
    with pytest.raises(DeploymentError, match=problem):
        plan.read(Snapshots.read().changed(change), ADDRESSES)


def test_a_reference_to_nothing_is_refused() -> None:
    snapshots = Snapshots.read()
    phases = tuple(
        (phase, tuple(each for each in resources if not each["type"].endswith("/components")))
        for phase, resources in snapshots.phases
    )
    with pytest.raises(DeploymentError, match="ResourceNotFound"):
        plan.read(Snapshots("without", phases), ADDRESSES)


def test_no_type_is_both_simulated_and_not() -> None:
    assert not known.SIMULATED.keys() & known.NOT_SIMULATED.keys()


# -- rights

COMPUTE = "Microsoft.Compute/virtualMachines"
ASSESSMENTS = f"{COMPUTE}/patchAssessmentResults"
SUMMARIES = f"patchassessmentresources | where type =~ '{ASSESSMENTS}'"
PATCHES = f"patchassessmentresources | where type =~ '{ASSESSMENTS}/softwarePatches'"
TABLES = {
    "machines": (f"{COMPUTE}/read", "resources"),
    "groups": (
        "Microsoft.Resources/subscriptions/resourceGroups/read",
        "resourcecontainers | where name == 'rg-prod'",
    ),
    "assessments": (f"{ASSESSMENTS}/*", SUMMARIES),
    "missing patches": (f"{ASSESSMENTS}/*", PATCHES),
    "installations": (f"{COMPUTE}/patchInstallationResults/read", "patchinstallationresources"),
}


def patched(clock: Clock) -> Azure:
    """Azure with a machine that was assessed and another one that was installed."""
    azure = Azure(clock)
    azure.start_operation(ready_machine(azure, clock, "vm-01"), "assess")
    azure.start_operation(ready_machine(azure, clock, "vm-02"), "install", order=install_order())
    clock.go(7200)
    return azure


async def shown(azure: Azure, query: str, change: Change | None = None) -> int:
    """How many rows the app's identity sees with the rights of the deployment, or of a changed one."""
    snapshots = Snapshots.read()
    made = plan.read(snapshots.changed(change) if change else snapshots, ADDRESSES)
    azure.grants = list(roles.grants(made.assignments, {made.site.identity.object_id: made.site.identity.client_id}))
    async with arm(azure) as client:
        return len(await client.rows(query))


def instead(action: str, *others: str) -> Change:
    """The role has these actions instead of one of its own."""

    def apply(resources: list[Json]) -> None:
        actions = of_type(resources, "roleDefinitions")["properties"]["permissions"][0]["actions"]
        actions.remove(action)
        actions.extend(others)

    return apply


@pytest.mark.parametrize(("action", "query"), TABLES.values(), ids=TABLES)
async def test_a_table_of_resource_graph_shows_its_rows_by_one_right_of_the_role(action: str, query: str) -> None:
    """All rights: rows. All but this one: none, and no word about it."""
    azure = patched(Clock())
    assert await shown(azure, query) > 0
    assert await shown(azure, query, instead(action)) == 0


@pytest.mark.parametrize(
    ("right", "seen"),
    [
        pytest.param(f"{ASSESSMENTS}/latest/read", (True, False), id="summaries"),
        pytest.param(f"{ASSESSMENTS}/latest/softwarePatches/read", (False, True), id="patches"),
        pytest.param(f"{ASSESSMENTS}/*/read", (True, True), id="both by a wildcard"),
        pytest.param(f"{COMPUTE}/*/read", (True, True), id="both by a wider one"),
    ],
)
async def test_each_type_of_assessment_row_has_a_right_of_its_own(right: str, seen: tuple[bool, bool]) -> None:
    azure, change = patched(Clock()), instead(f"{ASSESSMENTS}/*", right)
    assert (await shown(azure, SUMMARIES, change) > 0, await shown(azure, PATCHES, change) > 0) == seen


async def test_azure_says_403_in_its_own_words_to_what_the_role_does_not_grant() -> None:
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    made = plan.read(Snapshots.read(), ADDRESSES)
    azure.grants = list(roles.grants(made.assignments, {made.site.identity.object_id: made.site.identity.client_id}))
    async with arm(azure) as client:
        answer = await client.call("POST", f"{machine}/powerOff")
        assert (await client.call("GET", machine)).status_code == 200
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
    for named in (
        made.site.identity.client_id,
        made.site.identity.object_id,
        "virtualMachines/powerOff/action",
        machine,
    ):
        assert named in answer.json()["error"]["message"]


# -- storage


async def test_exactly_the_containers_queues_and_tables_are_made(tls: Tls, azurite: Azurite) -> None:
    from azure.data.tables.aio import TableServiceClient
    from azure.storage.queue.aio import QueueServiceClient

    from simulator.identity import STORAGE, StaticCredential

    account = azurite.fresh_account()
    async with deploy(Snapshots.read(), account, tls) as deployed:
        credential = StaticCredential(STORAGE)
        async with QueueServiceClient(account.queue_url, credential=credential) as queues:
            made = {"queue": {each.name async for each in queues.list_queues()}}
        async with TableServiceClient(endpoint=account.table_url, credential=credential) as tables:
            made["table"] = {each.name async for each in tables.list_tables()}
        assert made == {kind: set(deployed.plan.account.names[kind]) for kind in made}
        assert set(deployed.plan.account.names["container"]) == {"app-package", "dead-letters"}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        pytest.param("AuthorizationPermissionMismatch", "role", id="no role"),
        pytest.param("AuthorizationFailure", "network", id="no way in"),
    ],
)
async def test_a_closed_service_answers_as_storage_does(tls: Tls, azurite: Azurite, code: str, change: str) -> None:
    from azure.core.exceptions import HttpResponseError
    from azure.data.tables.aio import TableClient
    from azure.storage.queue.aio import QueueClient

    from simulator.identity import StaticCredential

    def mistake(resources: list[Json]) -> None:
        if change == "network":
            of_type(resources, "storageAccounts")["properties"]["publicNetworkAccess"] = "Disabled"
        else:
            resources[:] = [
                each for each in resources if not ("storageAccounts" in each["id"] and "roleAss" in each["type"])
            ]

    async with deploy(Snapshots.read().changed(mistake), azurite.fresh_account(), tls) as deployed:
        settings = deployed.plan.site.settings
        clients = (
            QueueClient(settings["AzureWebJobsStorage__queueServiceUri"], "assess-requests", StaticCredential()),
            TableClient(settings["AzureWebJobsStorage__tableServiceUri"], "ledger", credential=StaticCredential()),
        )
        for client in clients:
            async with client:
                call = client.peek_messages() if isinstance(client, QueueClient) else client.get_entity("p", "r")
                with pytest.raises(HttpResponseError) as refused:
                    await call
                assert (refused.value.status_code, getattr(refused.value, "error_code", "")) == (403, code)
        assert {each.service for each in deployed.closed} == {"blob", "queue", "table"}
