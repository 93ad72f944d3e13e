"""What would be deployed, read off the committed snapshots: no compiler, no simulator, no Azure.

That the app can work with it, and needs all of it, is shown by running it on the simulator (tests/scenario). Here
stands what the app would not notice, such as keys, TLS, names and retention, and whether the parts name each other
rightly.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.cloud import event_grid
from functions.cloud.queue import QUEUES
from functions.cloud.tables import TABLE
from functions.policy.settings import SETTINGS, Setting

Json = dict[str, Any]

CHECKOUT = Path(__file__).parents[2]
INFRA = CHECKOUT / "infra"
PATHS = sorted(INFRA.glob("snapshots/*.snapshot.json"))
SNAPSHOTS: dict[str, Json] = {path.name.removesuffix(".snapshot.json"): json.loads(path.read_text()) for path in PATHS}
HOSTS = [name for name in SNAPSHOTS if name.endswith(".main")]  # those that hold an app
WORKSPACE = "Microsoft.OperationalInsights/workspaces"
STORAGE = "Microsoft.Storage/storageAccounts"
EVENTS = "Microsoft.EventGrid/systemTopics/eventSubscriptions"
DEAD_LETTERS = "properties.deadLetterWithResourceIdentity.deadLetterDestination.properties"


def resources(snapshot: str, kind: str) -> list[Json]:
    return [each for each in SNAPSHOTS[snapshot]["predictedResources"] if each["type"] == kind]


def one(snapshot: str, kind: str) -> Json:
    (found,) = resources(snapshot, kind)
    return found


def at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def app_settings(snapshot: str) -> dict[str, str]:
    settings: dict[str, str] = one(snapshot, "Microsoft.Web/sites/config")["properties"]
    return settings


def test_all_deployments_are_here() -> None:
    phases: dict[str, tuple[str, ...]] = dict.fromkeys(
        ("default", "private-network", "landing-zone", "queue", "estate"), ("events", "main")
    )
    phases["management-group"] = ("events", "fleet", "main")
    assert sorted(SNAPSHOTS) == sorted(f"{name}.{phase}" for name, each in phases.items() for phase in each)
    assert [each["diagnostics"] for each in SNAPSHOTS.values()] == [[]] * len(SNAPSHOTS)


# -- what is the same in every deployment

EVERYWHERE = {
    "no shared keys": (STORAGE, "properties.allowSharedKeyAccess", False),
    "identities by default, in the portal too": (STORAGE, "properties.defaultToOAuthAuthentication", True),
    "no anonymous blobs": (STORAGE, "properties.allowBlobPublicAccess", False),
    "no local users": (STORAGE, "properties.isLocalUserEnabled", False),
    "no copies out of the tenant": (STORAGE, "properties.allowedCopyScope", "AAD"),
    "no replication out of the tenant": (STORAGE, "properties.allowCrossTenantReplication", False),
    "TLS to storage": (STORAGE, "properties.minimumTlsVersion", "TLS1_2"),
    "no plain HTTP to storage": (STORAGE, "properties.supportsHttpsTrafficOnly", True),
    "Event Grid may write dead letters": (STORAGE, "properties.networkAcls.bypass", "AzureServices"),
    "deleted blobs come back for a week": (f"{STORAGE}/blobServices", "properties.deleteRetentionPolicy.days", 7),
    "no public container": (f"{STORAGE}/blobServices/containers", "properties.publicAccess", "None"),
    "no keys to the telemetry": ("Microsoft.Insights/components", "properties.DisableLocalAuth", True),
    "no keys to the logs": (
        WORKSPACE,
        "properties.features.disableLocalAuth",
        True,
    ),
    "no daily cap": (WORKSPACE, "properties.workspaceCapping", None),
    "no passwords for publishing": (
        "Microsoft.Web/sites/basicPublishingCredentialsPolicies",
        "properties.allow",
        False,
    ),
    "no plain HTTP to the app": ("Microsoft.Web/sites", "properties.httpsOnly", True),
    "TLS to the app": ("Microsoft.Web/sites", "properties.siteConfig.minTlsVersion", "1.2"),
    "TLS to its publishing site": ("Microsoft.Web/sites", "properties.siteConfig.scmMinTlsVersion", "1.2"),
    "one identity, and not the app's own": ("Microsoft.Web/sites", "identity.type", "UserAssigned"),
    "Python": ("Microsoft.Web/sites", "properties.functionAppConfig.runtime", {"name": "python", "version": "3.13"}),
    "Flex Consumption": ("Microsoft.Web/serverfarms", "sku", {"name": "FC1", "tier": "FlexConsumption"}),
    "a first deployment has no tables yet": (
        "Microsoft.Insights/scheduledQueryRules",
        "properties.skipQueryValidation",
        True,
    ),
}


@pytest.mark.parametrize("snapshot", HOSTS)
@pytest.mark.parametrize(("kind", "path", "expected"), EVERYWHERE.values(), ids=EVERYWHERE)
def test_in_every_deployment(snapshot: str, kind: str, path: str, expected: object) -> None:
    found = resources(snapshot, kind)
    assert found or (snapshot == "landing-zone.main" and kind == WORKSPACE)  # its workspace is another team's
    assert [at(each, path) for each in found] == [expected] * len(found)


@pytest.mark.parametrize("snapshot", HOSTS)
def test_the_saved_functions_have_their_names(snapshot: str) -> None:
    found = resources(snapshot, f"{WORKSPACE}/savedSearches")
    assert {at(each, "properties.functionAlias") for each in found} == {"PatchEvents", "PatchMachines"}


PARAMETERS = {
    "logs, by default": ("default", WORKSPACE, "properties.retentionInDays", 90),
    "logs, for auditors": (
        "private-network",
        WORKSPACE,
        "properties.retentionInDays",
        400,
    ),
    "a network closes the account": ("private-network", STORAGE, "properties.publicNetworkAccess", "Disabled"),
    "and its firewall": ("private-network", STORAGE, "properties.networkAcls.defaultAction", "Deny"),
    "none leaves it open to identities": ("default", STORAGE, "properties.publicNetworkAccess", "Enabled"),
    "only Event Grid calls an app in a network": (
        "private-network",
        "Microsoft.Web/sites",
        "properties.siteConfig.ipSecurityRestrictionsDefaultAction",
        "Deny",
    ),
    "memory": (
        "default",
        "Microsoft.Web/sites",
        "properties.functionAppConfig.scaleAndConcurrency",
        {"instanceMemoryMB": 2048, "maximumInstanceCount": 40},
    ),
    "the storage account outlives a zone": ("default", STORAGE, "sku.name", "Standard_ZRS"),
}


@pytest.mark.parametrize(("deployment", "kind", "path", "expected"), PARAMETERS.values(), ids=PARAMETERS)
def test_what_parameters_do(deployment: str, kind: str, path: str, expected: object) -> None:
    assert at(one(f"{deployment}.main", kind), path) == expected


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_no_key_or_password_is_asked_for(path: Path) -> None:
    found = re.findall(
        r"list\w+\(|AccountKey|SharedAccess|InstrumentationKey|[?&]sig=|password\W", path.read_text(), re.I
    )
    assert found == []


def test_a_deployment_says_the_same_each_time() -> None:
    """No time and no chance in it: to deploy again changes nothing, and moves no first deployment."""
    texts = [path.read_text() for path in INFRA.rglob("*.bicep")]
    assert [found for text in texts for found in re.findall(r"\b(?:utcNow|newGuid)\(", text)] == []


# -- rights

BLOB_OWNER, QUEUES_ALL, TABLES_ALL, BLOBS_ALL, METRICS = (
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "3913510d-42f4-4e42-8a64-420c390055eb",
)
ACCOUNT, LETTERS = "storageAccounts", "containers/dead-letters"
RIGHTS = {
    "default.main": [
        ("app", BLOB_OWNER, ACCOUNT),
        ("app", QUEUES_ALL, ACCOUNT),
        ("app", TABLES_ALL, ACCOUNT),
        ("app", METRICS, "components"),
        ("app", "custom", "subscription"),
        ("topic", BLOBS_ALL, LETTERS),
    ],
    "management-group.main": [
        ("app", BLOB_OWNER, ACCOUNT),
        ("app", QUEUES_ALL, ACCOUNT),
        ("app", TABLES_ALL, ACCOUNT),
        ("app", METRICS, "components"),
    ],
    "management-group.fleet": [
        ("app", "custom", "managementGroups"),
        ("topic", BLOBS_ALL, LETTERS),
        ("topic", BLOBS_ALL, LETTERS),
    ],
}
RIGHTS["private-network.main"] = RIGHTS["landing-zone.main"] = RIGHTS["default.main"]


@pytest.mark.parametrize("snapshot", RIGHTS)
def test_who_may_do_what_and_where(snapshot: str) -> None:
    found = resources(snapshot, "Microsoft.Authorization/roleAssignments")
    assert sorted(map(right, found)) == sorted(RIGHTS[snapshot])
    assert {each["properties"]["principalType"] for each in found} == {"ServicePrincipal"}


def right(assignment: Json) -> tuple[str, str, str]:
    properties = assignment["properties"]
    built_in = (BLOB_OWNER, QUEUES_ALL, TABLES_ALL, BLOBS_ALL, METRICS)
    role = properties["roleDefinitionId"].rpartition("/")[2]
    who = "topic" if "systemTopics" in properties["principalId"] else "app"
    return who, role if role in built_in else "custom", scope_of(assignment)


def scope_of(assignment: Json) -> str:
    scope = re.search(r"(components|storageAccounts|containers)/[\w-]+', 'Microsoft.Authorization", assignment["id"])
    if scope:
        return LETTERS if scope[1] == "containers" else scope[1]
    return "managementGroups" if "/managementGroups/" in assignment["id"] else "subscription"


ROLES = [name for name in SNAPSHOTS if resources(name, "Microsoft.Authorization/roleDefinitions")]


@pytest.mark.parametrize("snapshot", ROLES)
def test_the_role_holds_the_listed_actions_and_nothing_else(snapshot: str) -> None:
    role = one(snapshot, "Microsoft.Authorization/roleDefinitions")["properties"]
    (permission,) = role["permissions"]
    listed = json.loads((INFRA / "patch-actions.json").read_text())
    if snapshot in ("landing-zone.main", "estate.main"):  # their settings ask for all of them
        for optional in ("scale-set", "arc", "start-stopped"):
            listed += json.loads((INFRA / f"{optional}-actions.json").read_text())
    assert permission == {"actions": listed, "notActions": []}
    assert len(role["assignableScopes"]) == 1  # a management group may be the only one


@pytest.mark.parametrize("snapshot", HOSTS)
def test_only_an_app_that_takes_servers_in_gets_their_events(snapshot: str) -> None:
    """The filter is what the app decodes, and of Arc-enabled servers nothing while PATCH_ARC is off."""
    taken_in = SNAPSHOTS[snapshot]["outputs"]["ARC_SERVERS"]
    decoded = {name for names in event_grid.OPERATIONS.values() for name in names}
    wanted = {name for name in decoded if taken_in or "hybridcompute" not in name}
    for each in resources(snapshot.replace(".main", ".events"), EVENTS):
        (only,) = each["properties"]["filter"]["advancedFilters"]
        assert {value.lower() for value in only["values"]} == wanted


def test_there_is_one_role_in_each_deployment() -> None:
    assert sorted(ROLES) == [
        "default.main",
        "estate.main",
        "landing-zone.main",
        "management-group.fleet",
        "private-network.main",
        "queue.main",
    ]


# -- the parts have the right names of each other


@pytest.mark.parametrize("snapshot", HOSTS)
def test_each_queue_has_its_poison_queue_and_all_are_those_of_the_app(snapshot: str) -> None:
    names = {each["name"].rpartition("/")[2] for each in resources(snapshot, f"{STORAGE}/queueServices/queues")}
    assert names == {f"{queue}{end}" for queue in (*QUEUES.values(), event_grid.QUEUE) for end in ("", "-poison")}
    triggers = re.findall(r'queue_name="([\w-]+)"', (CHECKOUT / "function_app.py").read_text())
    assert names == set(triggers)


@pytest.mark.parametrize("snapshot", HOSTS)
def test_the_table_and_the_containers_are_those_that_are_used(snapshot: str) -> None:
    tables = [each["name"].rpartition("/")[2] for each in resources(snapshot, f"{STORAGE}/tableServices/tables")]
    containers = [each["name"].rpartition("/")[2] for each in resources(snapshot, f"{STORAGE}/blobServices/containers")]
    package = at(one(snapshot, "Microsoft.Web/sites"), "properties.functionAppConfig.deployment.storage.value")
    letters = {
        at(each, "properties.deadLetterWithResourceIdentity.deadLetterDestination.properties.blobContainerName")
        for each in resources(
            snapshot.replace(".main", ".events"), "Microsoft.EventGrid/systemTopics/eventSubscriptions"
        )
    }
    assert tables == [TABLE]
    assert containers == ["app-package", *letters]
    assert package.endswith(", 'app-package')]")


@pytest.mark.parametrize("deployment", ["default", "private-network", "landing-zone", "management-group"])
def test_a_phase_receives_what_the_one_before_printed(deployment: str) -> None:
    printed: Json = {}
    for name in (f"{deployment}.main", f"{deployment}.fleet"):
        printed |= SNAPSHOTS.get(name, {}).get("outputs", {})
    found = resources(f"{deployment}.events", EVENTS)
    group = f"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/{printed['AZURE_RESOURCE_GROUP']}"
    app = f"{group}/providers/Microsoft.Web/sites/{printed['AZURE_FUNCTION_APP_NAME']}"
    account = f"{group}/providers/{STORAGE}/{printed['STORAGE_ACCOUNT_NAME']}"
    topics = [each["id"].rpartition("/eventSubscriptions/")[0] for each in found]
    assert topics == printed["SYSTEM_TOPIC_IDS"] != []
    for each in found:
        assert at(each, "properties.destination.properties.resourceId") == f"{app}/functions/on_machine_written"
        assert at(each, f"{DEAD_LETTERS}.resourceId") == account
    assert "async def on_machine_written" in (CHECKOUT / "function_app.py").read_text()


def test_every_watched_subscription_has_a_topic_of_its_own() -> None:
    found = resources("management-group.fleet", "Microsoft.EventGrid/systemTopics")
    sources = [each["properties"]["source"] for each in found]
    assert sources == ["/".join(each["id"].split("/")[:3]) for each in found]
    assert len(set(sources)) == 2


LANDING = json.loads((INFRA / "snapshots/landing-zone.main.snapshot.json").read_text())["predictedResources"]
CORPORATE = "/subscriptions/00000000-0000-0000-0000-000000000009/resourceGroups/"


def test_a_landing_zone_is_used_and_not_changed() -> None:
    """No network and no DNS zone is created; of what is provided only the saved functions are written."""
    kinds = {each["type"] for each in LANDING}
    assert {"Microsoft.Network/virtualNetworks", "Microsoft.Network/privateDnsZones", WORKSPACE} & kinds == set()
    elsewhere = [each["type"] for each in LANDING if each["id"].startswith(CORPORATE)]
    assert elsewhere == [f"{WORKSPACE}/savedSearches"] * 2
    app, endpoints = one("landing-zone.main", "Microsoft.Web/sites"), "Microsoft.Network/privateEndpoints"
    assert app["properties"]["virtualNetworkSubnetId"].endswith("/subnets/flex")
    subnets = {each["properties"]["subnet"]["id"].rpartition("/")[2] for each in LANDING if each["type"] == endpoints}
    assert subnets == {"endpoints"}
    # The zone of the tables is not given: a policy registers that name.
    assert [each["name"] for each in LANDING if each["type"] == f"{endpoints}/privateDnsZoneGroups"] == [
        "pep-stcorppatching-blob/default",
        "pep-stcorppatching-queue/default",
    ]


def test_in_a_shared_workspace_only_the_rows_of_the_app_count() -> None:
    app = one("landing-zone.main", "Microsoft.Web/sites")["name"]
    saved = resources("landing-zone.main", f"{WORKSPACE}/savedSearches")
    functions = [at(each, "properties.query") for each in saved]
    texts = {
        "function": next(text for text in functions if "AppTraces" in text),
        "workbook": at(one("landing-zone.main", "Microsoft.Insights/workbooks"), "properties.serializedData"),
    }
    for each in resources("landing-zone.main", "Microsoft.Insights/scheduledQueryRules"):
        texts[each["name"]] = each["properties"]["criteria"]["allOf"][0]["query"]
    for name, text in texts.items():
        tables = re.findall(r"\bApp(?:Traces|Exceptions|Requests)\b(?! here)", text)
        assert tables or name == "workbook"
        for table in set(tables):
            assert text.count(table) == text.count(f"({table} | where AppRoleName == '{app}')"), name
    assert "AppRoleName" not in (INFRA / "snapshots/default.main.snapshot.json").read_text()


def test_diagnostics_and_the_lock_are_there_where_they_are_asked_for() -> None:
    settings = resources("landing-zone.main", "Microsoft.Insights/diagnosticSettings")
    watched = [each["id"].partition("/providers/Microsoft.Insights/")[0].split("/")[-4:] for each in settings]
    assert sorted("/".join(each[-2:]) for each in watched) == [
        "blobServices/default",
        "queueServices/default",
        "sites/func-corp-patching",
        "systemTopics/evgst-corp-subscription",
        "tableServices/default",
    ]
    assert {each["properties"]["workspaceId"] for each in settings} == {
        f"{CORPORATE}rg-logs/providers/Microsoft.OperationalInsights/workspaces/log-corp"
    }
    lock = one("landing-zone.main", "Microsoft.Authorization/locks")
    assert lock["id"].startswith("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-app-patching/")
    assert lock["properties"]["level"] == "CanNotDelete"
    assert resources("default.main", "Microsoft.Authorization/locks") == []


AUDITED = {
    "blobServices": ["StorageRead", "StorageWrite", "StorageDelete"],
    "queueServices": ["StorageWrite", "StorageDelete"],
    "tableServices": ["StorageWrite", "StorageDelete"],
}


@pytest.mark.parametrize("deployment", ["default.main", "private-network.main", "management-group.main"])
def test_who_changes_data_or_reads_blobs_is_logged_where_nothing_else_is_asked_for(deployment: str) -> None:
    settings = resources(deployment, "Microsoft.Insights/diagnosticSettings")
    found = {each["id"].split("/")[-6]: [log["category"] for log in each["properties"]["logs"]] for each in settings}
    assert found == AUDITED
    workspace = one(deployment, WORKSPACE)["id"]
    assert {each["properties"]["workspaceId"] for each in settings} == {workspace}


def test_what_is_deleted_or_overwritten_does_not_stay_indefinitely() -> None:
    """With versions, a deletion alone only makes a version."""
    assert at(one("default.main", f"{STORAGE}/blobServices"), "properties.isVersioningEnabled") is True
    rules = at(one("default.main", f"{STORAGE}/managementPolicies"), "properties.policy.rules")
    days = {
        tuple(at(rule, "definition.filters.prefixMatch")): {
            what: list(does["delete"].values()) for what, does in at(rule, "definition.actions").items()
        }
        for rule in rules
    }
    assert days == {
        ("dead-letters/",): {"baseBlob": [30], "version": [30]},
        ("app-package/", "azure-webjobs-"): {"version": [90]},
    }


# Deployment, what becomes of a call to the site that takes the code, and the addresses that are let in.
PUBLISHING = {
    "default.main": ("Allow", []),
    "private-network.main": ("Deny", ["203.0.113.10/32"]),
    "landing-zone.main": ("Deny", []),
}


@pytest.mark.parametrize("deployment", PUBLISHING)
def test_a_private_app_takes_code_from_named_addresses_only(deployment: str) -> None:
    config = at(one(deployment, "Microsoft.Web/sites"), "properties.siteConfig")
    rules = config["scmIpSecurityRestrictions"]
    assert {rule["action"] for rule in rules} <= {"Allow"}
    found = (config["scmIpSecurityRestrictionsDefaultAction"], [rule["ipAddress"] for rule in rules])
    assert found == PUBLISHING[deployment]
    assert config["scmIpSecurityRestrictionsUseMain"] is False


def test_each_subnet_has_a_security_group() -> None:
    network = one("private-network.main", "Microsoft.Network/virtualNetworks")
    groups = {each["id"] for each in resources("private-network.main", "Microsoft.Network/networkSecurityGroups")}
    used = {each["name"]: at(each, "properties.networkSecurityGroup.id") for each in network["properties"]["subnets"]}
    assert set(used) == {"app", "endpoints"}
    assert set(used.values()) == groups


ALERTS = json.loads((INFRA / "results/alerts.json").read_text())
AUDIT_ALERT = re.compile(r"-(?:package-written|log-grows)-")


@pytest.mark.parametrize("snapshot", HOSTS)
def test_each_rule_fires_for_each_of_its_values_by_itself(snapshot: str) -> None:
    """A rule fires once until its condition is over: without this a second image or machine would fire no alert."""
    every = resources(snapshot, "Microsoft.Insights/scheduledQueryRules")
    rules = [each for each in every if not AUDIT_ALERT.search(each["name"])]
    assert [each["properties"]["displayName"] for each in rules] == [each["displayName"] for each in ALERTS]
    assert len(every) - len(rules) == (0 if snapshot.startswith("landing-zone") else 2)
    for rule, alert in zip(rules, ALERTS, strict=True):
        (criterion,) = rule["properties"]["criteria"]["allOf"]
        assert criterion["dimensions"] == [
            {"name": name, "operator": "Include", "values": ["*"]} for name in alert["dimensions"]
        ]


def test_the_private_endpoints_have_their_names() -> None:
    zones = {each["id"] for each in resources("private-network.main", "Microsoft.Network/privateDnsZones")}
    links = resources("private-network.main", "Microsoft.Network/privateDnsZones/virtualNetworkLinks")
    groups = resources("private-network.main", "Microsoft.Network/privateEndpoints/privateDnsZoneGroups")
    endpoints = resources("private-network.main", "Microsoft.Network/privateEndpoints")
    used = [at(each, "properties")["privateDnsZoneConfigs"][0]["properties"]["privateDnsZoneId"] for each in groups]
    services = [
        at(each, "properties")["privateLinkServiceConnections"][0]["properties"]["groupIds"] for each in endpoints
    ]
    assert services == [["blob"], ["queue"], ["table"]]
    assert [each.rpartition("/")[2].split(".")[1] for each in used] == ["blob", "queue", "table"]
    assert set(used) == zones == {each["id"].rpartition("/virtualNetworkLinks/")[0] for each in links}


# -- names and tags

# Azure's limits: Microsoft Learn, "Naming rules and restrictions for Azure resources".
NAMES = {
    "Microsoft.EventGrid/systemTopics": (50, r"[A-Za-z0-9-]{3,}"),
    EVENTS: (64, r"[A-Za-z0-9-]{3,}"),
    "Microsoft.Insights/actionGroups": (260, r"[^:<>+/&%\\?|]+"),
    "Microsoft.Insights/components": (260, r"[^%&\\?/]+"),
    "Microsoft.Insights/metricAlerts": (260, r"[^*#&+:<>?@%{}\\/|]+"),
    "Microsoft.Insights/scheduledQueryRules": (260, r"[^*<>%{}&:\\?/#]+"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": (128, r"[A-Za-z0-9][\w-]{2,}"),
    "Microsoft.Network/networkSecurityGroups": (80, r"[A-Za-z0-9][\w.-]*\w"),
    "Microsoft.Network/privateEndpoints": (64, r"[A-Za-z0-9][\w.-]*\w"),
    "Microsoft.Network/virtualNetworks": (64, r"[A-Za-z0-9][\w.-]*\w"),
    WORKSPACE: (63, r"[A-Za-z0-9][A-Za-z0-9-]{2,}[A-Za-z0-9]"),
    "Microsoft.Resources/resourceGroups": (90, r"[\w().-]*[\w()-]"),
    f"{STORAGE}": (24, r"[a-z0-9]{3,}"),
    "Microsoft.Web/serverfarms": (40, r"[A-Za-z0-9-]+"),
    "Microsoft.Web/sites": (60, r"[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]"),
}
# A function app shares its host id, its first 32 letters, with every other app on the account: here there is none.
# What is named by its parent, by Azure, or by a GUID.
NAMED_OTHERWISE = re.compile(
    r"Microsoft\.(Authorization/.+|Insights/(workbooks|diagnosticSettings)|Network/private(DnsZones|Endpoints/).*|Web/sites/.+"
    r"|Storage/storageAccounts/.+|OperationalInsights/workspaces/.+)"
)


def named() -> Iterator[Json]:
    for each in SNAPSHOTS.values():
        yield from (found for found in each["predictedResources"] if not NAMED_OTHERWISE.fullmatch(found["type"]))


def test_every_name_is_within_azures_limits() -> None:
    wrong = []
    for each in named():
        longest, letters = NAMES[each["type"]]
        name = each["name"].rpartition("/")[2]
        if len(name) > longest or not re.fullmatch(letters, name):
            wrong.append(f"{each['type']}: {name}")
    assert wrong == []
    assert {each["type"] for each in named()} == set(NAMES)


def test_the_longest_group_name_leaves_room_for_what_is_added() -> None:
    text = (INFRA / "main.bicep").read_text()
    longest = int(re.search(r"@maxLength\((\d+)\)\n@description\('Resource group", text)[1])  # type: ignore[index]
    assert longest + len("-events") == NAMES["Microsoft.Resources/resourceGroups"][0]


def test_everything_that_takes_tags_has_those_of_azd() -> None:
    untagged = {"Microsoft.EventGrid/systemTopics/eventSubscriptions"}
    kinds = set(NAMES) - untagged | {"Microsoft.Insights/workbooks", "Microsoft.Network/privateDnsZones"}
    found = [
        each for snapshot in SNAPSHOTS.values() for each in snapshot["predictedResources"] if each["type"] in kinds
    ]
    names = {each.get("tags", {}).get("azd-env-name") for each in found}
    assert names == {"patching", "private", "landing", "fleet", "queue", "estate"}
    assert all(each["tags"]["costCenter"] == "4711" for each in found if each["tags"]["azd-env-name"] == "private")
    (service,) = yaml.safe_load((CHECKOUT / "azure.yaml").read_text())["services"]
    assert {one(each, "Microsoft.Web/sites")["tags"]["azd-service-name"] for each in HOSTS} == {service}


# -- settings


@pytest.mark.parametrize("snapshot", HOSTS)
def test_every_setting_is_a_text_with_something_in_it(snapshot: str) -> None:
    settings = app_settings(snapshot)
    assert [name for name, value in settings.items() if not isinstance(value, str) or not value.strip()] == []
    known = {each.name for each in SETTINGS}
    assert {name for name in settings if name.startswith("PATCH_")} <= known


def test_free_texts_arrive_as_they_were_given() -> None:
    given = (INFRA / "snapshots/private-network.main.bicepparam").read_text()
    settings = app_settings("private-network.main")
    assert settings["PATCH_WINDOW"] == re.search(r"param window = '(.+)'", given)[1]  # type: ignore[index]
    assert settings["PATCH_BLACKOUT"] == re.search(r"PATCH_BLACKOUT: '(.+)'", given)[1]  # type: ignore[index]
    assert settings["PATCH_MAX_IN_FLIGHT"] == "20"


def test_what_is_checked_is_what_was_asked_for() -> None:
    scopes = {snapshot: app_settings(snapshot)["PATCH_SCOPE"] for snapshot in HOSTS}
    own = "00000000-0000-0000-0000-000000000001"
    assert scopes == dict.fromkeys(HOSTS, own) | {"management-group.main": "mg-fleet"}


# Those that have a parameter of their own.
PARAMETER_SETTINGS = {"PATCH_SCOPE", "PATCH_MODE", "PATCH_WINDOW", "PATCH_CREATED_AFTER", "RECONCILE_SCHEDULE"}
MEMBER = re.compile(
    r"(?:@minValue\((?P<low>\d+)\)\s+@maxValue\((?P<high>\d+)\)\s+)?@description\('[^\n]+'\)\s+"
    r"(?P<name>[A-Z_]+): \(?(?P<type>[^?)]+)\)?\?\n"
)
MEMBERS = {each["name"]: each for each in MEMBER.finditer((INFRA / "types.bicep").read_text())}


def test_every_setting_has_a_parameter() -> None:
    assert set(MEMBERS) | PARAMETER_SETTINGS == {each.name for each in SETTINGS}
    assert not set(MEMBERS) & PARAMETER_SETTINGS


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.name in MEMBERS], ids=lambda each: each.name)
def test_a_parameter_takes_what_its_setting_takes(setting: Setting) -> None:
    member = MEMBERS[setting.name]
    for choice in re.findall(r"'(\w+)'", member["type"]):
        setting.reader.read(choice)
    if member["type"] == "int":
        setting.reader.read(member["low"])
        setting.reader.read(member["high"])
        for outside in (int(member["low"]) - 1, int(member["high"]) + 1):
            with pytest.raises(ValueError, match=r"^$"):
                setting.reader.read(str(outside))
