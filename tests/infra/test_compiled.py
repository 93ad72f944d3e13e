"""infra/ under the real Bicep compiler: not a word of it, formatted, and the committed snapshots say what it says.

Without a compiler one line says so; the snapshots still serve every other test.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.infra import compiler
from tests.infra.compiler import CHECKOUT, INFRA, Compiler, Json, Server

if compiler.find() is None:
    pytest.skip(
        "no Bicep compiler here ($BICEP, or bicep on the PATH): infra/ is not compiled", allow_module_level=True
    )


Compiled = dict[str, tuple[Json, str]]  # file → its template, and what the compiler says of it


@pytest.fixture(scope="module")
def bicep(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return compiler.copy(compiler.find() or "", tmp_path_factory.mktemp("infra"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(compiler.find() or "")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def compiled(bicep: Compiler, server: Server) -> Compiled:
    files = sorted(bicep.folder.rglob("*.bicep"))
    return {str(path.relative_to(bicep.folder)): server.compiled(path) for path in files}


def test_every_file_compiles_and_lints_without_a_word(compiled: Compiled) -> None:
    """To compile is to lint too, by the rules of bicepconfig.json."""
    assert [f"{file}: {said}" for file, (_, said) in compiled.items() if said] == []
    assert [file for file, (template, _) in compiled.items() if not template] == []
    assert len(compiled) > 10


def test_every_file_is_formatted(bicep: Compiler, server: Server) -> None:
    files = [path for path in sorted(bicep.folder.rglob("*.bicep*")) if path.suffix in (".bicep", ".bicepparam")]
    changed = [path.name for path in files if server.formatted(path) != path.read_text(encoding="utf-8")]
    assert changed == []
    assert len(files) > 20


def test_every_example_builds(bicep: Compiler, server: Server) -> None:
    examples = sorted(bicep.folder.glob("examples/*.bicepparam"))
    assert [f"{path.name}: {said}" for path in examples if (said := server.said_of_parameters(path))] == []
    assert len(examples) > 1


def test_everything_that_a_person_is_asked_or_told_is_described(compiled: Compiled) -> None:
    nameless = [
        f"{file}: {name}"
        for file, (template, _) in compiled.items()
        for name, each in described(template)
        if not each.get("metadata", {}).get("description")
    ]
    assert nameless == []


def described(template: Json) -> list[tuple[str, Json]]:
    """The template itself, its parameters and outputs, its types and their members."""
    own = [("metadata", {"metadata": template["metadata"]}), *template.get("parameters", {}).items()]
    types = list(template.get("definitions", {}).items())
    members = [(f"{name}.{key}", each) for name, kind in types for key, each in kind.get("properties", {}).items()]
    return [*own, *template.get("outputs", {}).items(), *types, *members]


SNAPSHOTS = [path.name for path in sorted(INFRA.glob("snapshots/*.bicepparam"))]


def test_each_deployment_has_a_snapshot() -> None:
    written = {path.name.removesuffix(".snapshot.json") for path in INFRA.glob("snapshots/*.snapshot.json")}
    assert {name.removesuffix(".bicepparam") for name in SNAPSHOTS} == written


def test_what_azure_changes_one_at_a_time_is_made_one_after_another(compiled: Compiled) -> None:
    """Resource Manager makes all at once what does not depend on each other. A snapshot shows no order.

    A site answers a second change with a conflict, until the first is done (Azure/azure-dev#3125). So does a storage
    account; a private endpoint then ends in StorageAccountOperationInProgress (Azure/bicep-registry-modules#6001).
    """
    site, storage = (made_by(compiled, name) for name in ("function-app", "storage"))
    changes = [f"site::{name}" for name in ("appSettings", "ftp", "scm")]
    assert [name for name in site if name.startswith("site::")] == changes
    for earlier, later in pairwise(changes):
        assert earlier in site[later]["dependsOn"]

    endpoints = storage["endpoints"]
    assert (endpoints["copy"]["mode"], endpoints["copy"]["batchSize"]) == ("serial", 1)
    parts = {name for name, each in storage.items() if each["type"].startswith("Microsoft.Storage/")}
    assert parts == before(storage, "endpoints")


def made_by(compiled: Compiled, module: str) -> Json:
    """The resources of the compiled module, by symbolic name."""
    template, _ = compiled[f"modules/{module}.bicep"]
    resources: Json = template["resources"]
    return resources


def before(resources: Json, name: str) -> set[str]:
    """All that is made before it."""
    direct = set(resources[name].get("dependsOn", ()))
    return direct.union(*(before(resources, each) for each in direct))


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_committed_snapshots_are_up_to_date(bicep: Compiler, server: Server, name: str) -> None:
    """Otherwise: scripts/snapshots overwrite."""
    file = bicep.folder / "snapshots" / name
    committed = json.loads(file.with_suffix(".snapshot.json").read_text(encoding="utf-8"))
    assert server.snapshot(file) == committed


def test_the_script_asks_the_compiler_for_each_of_them_and_fails_if_one_has_changed(tmp_path: Path) -> None:
    stub, asked = tmp_path / "bicep", tmp_path / "asked"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {asked}\ncase $2 in *private*main*) exit 1 ;; esac\n', encoding="utf-8")
    stub.chmod(0o755)
    command = ["sh", "scripts/snapshots", "validate"]
    done = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, "BICEP": str(stub)}, check=False)
    assert done.returncode == 1
    where = {key: value for key, value in compiler.WHERE.items() if key != "location"}
    lines = asked.read_text(encoding="utf-8").splitlines()
    assert [line.split()[1] for line in lines] == [f"infra/snapshots/{name}" for name in SNAPSHOTS]
    for line in lines:
        scope = "managementGroup" if ".fleet." in line else "subscription"
        assert line.startswith("snapshot ")
        assert "--mode validate --tenant-id {tenantId} --location westeurope".format(**where) in line
        assert where[f"{scope}Id"] == line.split()[-1]


# What has no default, but the mode.
ASKED_FOR = "param environmentName = 'x'\nparam alertEmail = ''\nparam operators = []"

APP, STORAGE, WATCHED = (f"modules/{name}.bicep" for name in ("function-app", "storage", "watched-subscription"))
MISTAKES = {
    "a property that there is not": (APP, "httpsOnly: true", "httpOnly: true", "BCP089"),
    "a text for a truth value": (APP, "httpsOnly: true", "httpsOnly: 'yes'", "BCP036"),
    "a type that there is not": (STORAGE, "/managementPolicies@", "/policies@", "BCP081"),
    "a version of a type that there is not": (APP, "serverfarms@2025-03-01", "serverfarms@2025-03-02", "BCP081"),
    "a parameter that a module does not have": (WATCHED, "existingRoleId: ", "existingRole: ", "BCP035"),
    "a parameter that nothing reads": (
        "events.bicep",
        "targetScope",
        "param spare string\ntargetScope",
        "no-unused-params",
    ),
    "a key in an output": (
        STORAGE,
        "resource blobs ",
        "output key string = account.listKeys().keys[0].value\n\nresource blobs ",
        "outputs-should-not-contain-secrets",
    ),
}


@pytest.mark.parametrize(("file", "right", "wrong", "code"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found(server: Server, file: str, right: str, wrong: str, code: str, *, tmp_path: Path) -> None:
    """The first of these are warnings: the compiler's exit status would be 0."""
    changed = compiler.copy(compiler.find() or "", tmp_path, {file: (right, wrong)})
    assert code in server.compiled(changed.folder / file)[1]


SUBNET = "/subscriptions/x/resourceGroups/y/providers/Microsoft.Network/virtualNetworks/z/subnets/"
RANGES = "{ addressPrefix: '10.0.0.0/24', appSubnetPrefix: '10.0.0.0/26', endpointSubnetPrefix: '10.0.0.64/27' }"
REFUSED = {
    "install without a window": ("param mode = 'install'", "Mode install needs a window"),
    "install with an empty one": ("param mode = 'install'\nparam window = '  '", "Mode install needs a window"),
    "endpoints that the app does not reach": (
        f"param mode = 'assess'\nparam endpointSubnetId = '{SUBNET}endpoints'",
        "endpointSubnetId needs appSubnetId",
    ),
    "a network of its own and an existing one": (
        f"param mode = 'assess'\nparam network = {RANGES}\nparam appSubnetId = '{SUBNET}app'",
        "either network or appSubnetId",
    ),
    "a network without its subnets": (
        "param mode = 'assess'\nparam network = { addressPrefix: '10.0.0.0/24' }",
        "network needs addressPrefix",
    ),
    "a setting that there is not": ("param mode = 'assess'\nparam settings = { PATCH_CANARYS: 2 }", "PATCH_CANARYS"),
    "a name of a resource that there is not": ("param mode = 'assess'\nparam names = { function: 'x' }", "function"),
}


@pytest.mark.parametrize(("parameters", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_before_anything_is_made(bicep: Compiler, server: Server, parameters: str, said: str) -> None:
    resources, words = bicep.evaluate(server, "main.bicep", f"{ASKED_FOR}\n{parameters}")
    assert resources == []
    assert said in words


OTHER = "00000000-0000-0000-0000-000000000002"
SHARED = f"/subscriptions/{OTHER}/resourceGroups/shared/providers/Microsoft.EventGrid/systemTopics/all"
NOTICES = f"/subscriptions/{OTHER}/resourceGroups/rg-ops/providers/Microsoft.EventGrid/topics/notices"
EVENT_GRID_DATA_SENDER = "d5a91429-5739-47e2-a06b-3470a27159e7"
Check = Callable[[list[Json]], object]


def of(resources: list[Json], kind: str) -> list[Json]:
    return [each for each in resources if each["type"] == kind]


def topics(resources: list[Json]) -> list[str]:
    """Where the topics are: the last digit of the subscription, and the resource group."""
    ids = [each["id"].split("/") for each in of(resources, "Microsoft.EventGrid/systemTopics")]
    return [f"{parts[2][-1]} {parts[4]}" for parts in ids]


def senders(resources: list[Json]) -> list[Json]:
    """The assignments of the role that sends events."""
    roles = of(resources, "Microsoft.Authorization/roleAssignments")
    return [each for each in roles if each["properties"]["roleDefinitionId"].endswith(EVENT_GRID_DATA_SENDER)]


def app_settings(resources: list[Json]) -> list[Json]:
    return of(resources, "Microsoft.Web/sites/config")


def told(resources: list[Json]) -> set[str]:
    """The last letters of the action groups that alerts tell."""
    rules = [each["properties"]["actions"] for each in of(resources, "Microsoft.Insights/scheduledQueryRules")]
    metrics = [each["properties"]["actions"] for each in of(resources, "Microsoft.Insights/metricAlerts")]
    groups = [*(group for rule in rules for group in rule["actionGroups"])]
    return {each[-1] for each in [*groups, *(group["actionGroupId"] for metric in metrics for group in metric)]}


def assigned(resources: list[Json]) -> list[str]:
    """Whom roles are assigned to: an object id, or the kind of resource whose identity it is."""
    who = [each["properties"]["principalId"] for each in of(resources, "Microsoft.Authorization/roleAssignments")]
    kinds = ("userAssignedIdentities", "systemTopics/all", "systemTopics")
    return sorted(next((kind for kind in kinds if kind in each), each) for each in who)


def where(resources: list[Json], who: str) -> list[str]:
    """Where this principal has roles: the path below its account, or the account itself."""
    roles = of(resources, "Microsoft.Authorization/roleAssignments")
    scopes = [
        each["id"].partition("/providers/Microsoft.Authorization/")[0].partition("/storageAccounts/")[2]
        for each in roles
        if each["properties"]["principalId"] == who
    ]
    return [scope.partition("/")[2] or "storageAccounts" for scope in scopes]


def late(rule: Json) -> list[str]:
    """How many percent of the machines may be late, as a rule's query has it."""
    [criterion] = rule["properties"]["criteria"]["allOf"]
    return re.findall(r"most_percent = (\d+)", criterion["query"])


ROLE = "33333333-3333-3333-3333-333333333333"
DEFINITION = "providers/Microsoft.Authorization/roleDefinitions"


def patch_roles(resources: list[Json]) -> list[str]:
    """The role that the app has on machines, per subscription."""
    roles = [each["properties"] for each in of(resources, "Microsoft.Authorization/roleAssignments")]
    return [each["roleDefinitionId"] for each in roles if each["roleDefinitionId"].endswith(ROLE)]


# What a parameter is for, and what follows when it is given.
PARAMETERS: dict[str, tuple[str, Check, object]] = {
    "two subscriptions: in each a topic, its dead-letter role and the patch role": (
        f"param subscriptionIds = ['{compiler.SUBSCRIPTION}', '{OTHER}']",
        lambda found: (topics(found), assigned(found)),
        (["1 rg-x", "2 rg-x-events"], ["systemTopics"] * 2 + ["userAssignedIdentities"] * 6),
    ),
    "a topic that is there: no other is made, and its identity gets the dead-letter role": (
        f"param subscriptionIds = ['{OTHER}']\nparam existingSystemTopicIds = ['{SHARED}']",
        lambda found: (topics(found), assigned(found)),
        ([], ["systemTopics/all"] + ["userAssignedIdentities"] * 5),
    ),
    "no right to assign roles: none is assigned, nor defined": (
        "param assignRoles = false",
        lambda found: (assigned(found), of(found, "Microsoft.Authorization/roleDefinitions")),
        ([], []),
    ),
    "a role made beforehand, by its resource id: none is defined, and this one is assigned": (
        f"param patchRoleId = '/subscriptions/{OTHER}/providers/Microsoft.Authorization/roleDefinitions/{ROLE}'",
        lambda found: (of(found, "Microsoft.Authorization/roleDefinitions"), patch_roles(found)),
        ([], [f"/subscriptions/{compiler.SUBSCRIPTION}/{DEFINITION}/{ROLE}"]),
    ),
    "the same in two subscriptions, by its GUID": (
        f"param patchRoleId = '{ROLE}'\nparam subscriptionIds = ['{compiler.SUBSCRIPTION}', '{OTHER}']",
        lambda found: (of(found, "Microsoft.Authorization/roleDefinitions"), patch_roles(found)),
        ([], [f"/subscriptions/{each}/{DEFINITION}/{ROLE}" for each in (compiler.SUBSCRIPTION, OTHER)]),
    ),
    "a subnet of the app alone: the account stays reachable, and the app is in the network": (
        f"param appSubnetId = '{SUBNET}app'",
        lambda found: (
            of(found, "Microsoft.Network/privateEndpoints"),
            [each["properties"]["virtualNetworkSubnetId"] for each in of(found, "Microsoft.Web/sites")],
        ),
        ([], [f"{SUBNET}app"]),
    ),
    "an address of the documents: the workbook links there": (
        "param documentsUrl = 'https://example.org/docs'",
        lambda found: {
            (text.count("__DOCUMENTS__"), "strcat('https://example.org/docs', '/states.md')" in text)
            for each in of(found, "Microsoft.Insights/workbooks")
            for text in [each["properties"]["serializedData"]]
        },
        {(0, True)},
    ),
    "a share of late machines: the alert asks for it": (
        "param latePercent = 25",
        lambda found: {number for rule in of(found, "Microsoft.Insights/scheduledQueryRules") for number in late(rule)},
        {"25"},
    ),
    "an operator: each role where it is needed": (
        f"param operators = [{{ principalId: '{OTHER}', principalType: 'Group' }}]",
        lambda found: sorted(where(found, OTHER)),
        ["blobServices/default/containers/dead-letters", "storageAccounts", "tableServices/default/tables/ledger"],
    ),
    "a topic of notices: the app may send to it and to nothing else of Event Grid, and receives its endpoint": (
        f"param noticesTopicId = '{NOTICES}'",
        lambda found: (
            [each["id"].split("'")[1] for each in senders(found)],
            [re.findall(r"topics/\w+", each["properties"]["PATCH_NOTICES"]) for each in app_settings(found)],
        ),
        ([NOTICES], [["topics/notices"]]),
    ),
    "a topic of notices without the right to assign roles: its endpoint alone": (
        f"param noticesTopicId = '{NOTICES}'\nparam assignRoles = false",
        lambda found: (
            senders(found),
            len([each for each in app_settings(found) if each["properties"]["PATCH_NOTICES"]]),
        ),
        ([], 1),
    ),
    "a group that alerts notify, and no mail": (
        "param actionGroupIds = ['/subscriptions/x/resourceGroups/y/providers/Microsoft.Insights/actionGroups/z']",
        lambda found: (told(found), of(found, "Microsoft.Insights/actionGroups")),
        ({"z"}, []),
    ),
}


@pytest.mark.parametrize(("parameters", "seen", "expected"), PARAMETERS.values(), ids=PARAMETERS)
def test_what_a_parameter_changes(
    bicep: Compiler, server: Server, parameters: str, *, seen: Check, expected: object
) -> None:
    given = "\n".join(line for line in ASKED_FOR.splitlines() if line.partition(" =")[0] not in parameters)
    resources, said = bicep.evaluate(server, "main.bicep", f"{given}\nparam mode = 'assess'\n{parameters}")
    assert said == ""
    assert seen(resources) == expected
