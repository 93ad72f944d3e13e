"""azd's way of deploying: azure.yaml by azd's own schema, the parameters it hands on, and its hooks with a false az.

The PowerShell hooks say the same as the sh ones; there is no PowerShell here, so they are only compared.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
HOOKS = CHECKOUT / "infra" / "hooks"
AZURE_YAML: dict[str, Any] = yaml.safe_load((CHECKOUT / "azure.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHECKOUT / "tests/recordings/schemas/azd-azure.yaml.schema.json").read_text(encoding="utf-8"))
TOPIC = "/subscriptions/s/resourceGroups/g/providers/Microsoft.EventGrid/systemTopics/t"
ENVIRONMENT = {
    "AZURE_ENV_NAME": "patching",
    "AZURE_LOCATION": "westeurope",
    "AZURE_SUBSCRIPTION_ID": "00000000-0000-0000-0000-000000000001",
    "AZURE_RESOURCE_GROUP": "rg-patching",
    "AZURE_FUNCTION_APP_NAME": "func-patch",
    "STORAGE_ACCOUNT_NAME": "stpatch",
    "SYSTEM_TOPIC_IDS": json.dumps([TOPIC]),
    "ROLE_WAIT_SECONDS": "0",
    "RETRY_SECONDS": "0",
    "TRIES": "3",
}
# Keeps what it was called with, and the parameters file; fails as often as a test asks.
FALSE_AZ = """#!/bin/sh
if [ "$1 $2" = "account show" ]; then exit "${NOT_LOGGED_IN:-0}"; fi
echo "$*" >>"$STAGE/calls"
for word in "$@"; do
    case $word in @*) cp "${word#@}" "$STAGE/parameters.json" ;; esac
done
left=$(cat "$STAGE/failures" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then
    echo $((left - 1)) >"$STAGE/failures"
    exit 1
fi
cat "$STAGE/answer" 2>/dev/null || true
"""


@dataclass(frozen=True)
class Stage:
    """A folder with the false az, and what it saw."""

    folder: Path

    def run(
        self, hook: str, *, answer: str = "", failures: int = 0, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "az").write_text(FALSE_AZ)
        (self.folder / "az").chmod(0o755)
        (self.folder / "answer").write_text(answer)
        (self.folder / "failures").write_text(str(failures))
        path = f"{self.folder}:{os.environ['PATH']}"
        environment = {**ENVIRONMENT, **changes, "PATH": path, "STAGE": str(self.folder), "TMPDIR": str(self.folder)}
        # As azd runs it: from the folder of azure.yaml.
        return subprocess.run(
            ["sh", f"infra/hooks/{hook}"], cwd=CHECKOUT, env=environment, text=True, capture_output=True
        )

    @property
    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return [line.partition(" --")[0] for line in calls.read_text().splitlines()] if calls.exists() else []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_azure_yaml_is_what_azd_takes() -> None:
    validator = jsonschema.Draft201909Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(AZURE_YAML)] == []
    wrong = {**AZURE_YAML, "hooks": {"afterdeploy": {}}}
    assert [error.message for error in validator.iter_errors(wrong)] != []


def test_azure_yaml_names_hooks_that_are_there() -> None:
    named = {each["run"] for hook in AZURE_YAML["hooks"].values() for each in hook.values()}
    assert named == {str(path.relative_to(CHECKOUT)) for path in HOOKS.iterdir()}


GIVEN: dict[str, str] = {
    name: each["value"]
    for name, each in json.loads((CHECKOUT / "infra/main.parameters.json").read_text(encoding="utf-8"))[
        "parameters"
    ].items()
}
PARAMETER = re.compile(r"^param (?P<name>\w+) (?P<type>[\w\[\]?]+)(?: = (?P<default>.+))?$", re.MULTILINE)
MAIN = (CHECKOUT / "infra" / "main.bicep").read_text(encoding="utf-8")
DECLARED = {each["name"]: each for each in PARAMETER.finditer(MAIN)}
PLAIN = ("string", "int", "bool")


def variable(name: str) -> tuple[str, str]:
    """The azd variable of a parameter, and the value that it has if the operator sets none."""
    found = re.fullmatch(r"\$\{([A-Z_]+)(?:=([^}]+))?\}", GIVEN[name])
    assert found, "an array or object is the JSON of one variable too"
    return found[1], found[2] or ""


def test_azd_reaches_every_parameter() -> None:
    assert len(DECLARED) == len(re.findall("^param ", MAIN, re.MULTILINE))
    assert list(GIVEN) == list(DECLARED), "the same, in the same order"
    variables = [variable(name)[0] for name in GIVEN]
    assert len(set(variables)) == len(variables)
    assert all(each.startswith(("PATCH_", "AZURE_")) for each in variables)


def test_azd_asks_for_what_has_no_default() -> None:
    """Also for what may be null: of a parameter with a type of its own azd forgets that."""
    asked = [name for name, each in DECLARED.items() if not each["default"]]
    assert asked == ["mode", "environmentName", "alertEmail", "operators"]
    assert [name for name in asked if variable(name)[1]] == []


@pytest.mark.parametrize("name", DECLARED)
def test_a_variable_that_is_not_set_leaves_the_default(name: str) -> None:
    """An array or object that is not set is left out; another value is handed on as the text that stands here.

    So each has the default of main.bicep, and that is a plain value.
    """
    declared, default = DECLARED[name], variable(name)[1]
    if name == "location":
        assert default == "", "azd asks for it by itself"
    elif declared["type"] in PLAIN:
        assert default == (declared["default"] or "").strip("'")
    else:
        assert default == ""


def test_the_guide_names_every_parameter_with_its_variable() -> None:
    text = (CHECKOUT / "docs" / "deploy.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)`(?:, JSON)? \| [^|]{10,} \|$", text, re.MULTILINE))
    assert rows == {name: variable(name)[0] for name in GIVEN}
    as_json = set(re.findall(r"^\| `(\w+)` \| `\w+`, JSON \|", text, re.MULTILINE))
    assert as_json == {name for name, each in DECLARED.items() if each["type"] not in PLAIN}


@pytest.mark.parametrize("hook", ["preprovision", "predeploy", "postdeploy"])
def test_both_shells_ask_azure_for_the_same(hook: str) -> None:
    texts = [(HOOKS / f"{hook}.{end}").read_text(encoding="utf-8") for end in ("sh", "ps1")]
    flat = [re.sub(r"[`\\]\n\s*", " ", text) for text in texts]
    calls = [re.findall(r"az (?:account|rest|storage|functionapp|deployment)[^\n|>]*", text) for text in flat]
    flags = [[re.findall(r"--[\w-]+|^az [\w ]+?(?= --)", call) for call in each] for each in calls]
    assert flags[0] == flags[1] != []
    variables = [set(re.findall(r"\b(?:AZURE|PATCH|STORAGE|SYSTEM|ROLE|RETRY|TRIES)\w*\b", text)) for text in texts]
    assert variables[0] == variables[1]


# -- preprovision

# Answers what a file named after the command says; fails where there is none.
ASKED_AZ = """#!/bin/sh
case "$*" in
"account show"*) file=account ;;
"rest "*/permissions*) file=permissions-$(echo "$*" | sed 's|.*subscriptions/||; s|/providers.*||') ;;
*list-flexconsumption-locations*) file=regions ;;
"storage sku list"*) file=skus ;;
*) echo "unknown: $*" >&2; exit 2 ;;
esac
cat "$STAGE/$file" 2>/dev/null
"""
OTHER = "00000000-0000-0000-0000-000000000002"
# The actions of the built-in roles, as az prints them.
BUILT_IN = {
    each["name"]: f"+ {' '.join(each['actions'])} - {' '.join(each['notActions'])}"
    for each in json.loads((CHECKOUT / "tests/recordings/built_in_roles.json").read_text(encoding="utf-8"))["roles"]
}
CONTRIBUTOR, OWNER = BUILT_IN["Contributor"], BUILT_IN["Owner"]
ACCESS = BUILT_IN["User Access Administrator"]
ASSIGNS = BUILT_IN["Role Based Access Control Administrator"]
DEFINES, LOCKS = (f"Microsoft.Authorization/{each}/write" for each in ("roleDefinitions", "locks"))


def check(
    stage: Stage,
    answers: dict[str, str],
    changes: dict[str, str] | None = None,
    *,
    az: bool = True,
    unset: tuple[str, ...] = (),
) -> tuple[int, str]:
    """The status of the hook and what it said, where az answers this."""
    for name, answer in {
        "account": "",
        "regions": "northeurope\nwesteurope\n",
        "skus": "westeurope\n",
        **answers,
    }.items():
        if answer != "fails":
            (stage.folder / name.replace("_", "-")).write_text(answer)
    tools = stage.folder / "bin"
    tools.mkdir()
    for name in ("sh", "tr", "grep", "sort", "cat", "sed", "env"):
        (tools / name).symlink_to(next(Path(each, name) for each in ("/usr/bin", "/bin") if Path(each, name).exists()))
    if az:
        (tools / "az").write_text(ASKED_AZ)
        (tools / "az").chmod(0o755)
    told = {"PATCH_OPERATORS": '[{"principalId": "x"}]', "PATCH_ALERT_EMAIL": "me@example.org"}
    environment = {**ENVIRONMENT, **told, **(changes or {})}
    done = subprocess.run(
        ["/bin/sh", "infra/hooks/preprovision.sh"],
        cwd=CHECKOUT,
        env={name: value for name, value in environment.items() if name not in unset}
        | {"PATH": str(tools), "STAGE": str(stage.folder)},
        text=True,
        capture_output=True,
    )
    return done.returncode, done.stdout + done.stderr


def rights(*roles: str, subscription: str = ENVIRONMENT["AZURE_SUBSCRIPTION_ID"]) -> dict[str, str]:
    return {f"permissions-{subscription}": "\n".join(roles)}


# The deployment's variables that the hook does not look into.
UNCHECKED = [
    name
    for name, _ in map(variable, GIVEN)
    if name.startswith("PATCH_") and name not in (HOOKS / "preprovision.sh").read_text(encoding="utf-8")
] + ["PATCH_SETTINGS"]


ALL_IS_WELL = {
    "owner": (rights(OWNER), {}),
    "two roles together": (rights(CONTRIBUTOR, ACCESS), {}),
    "a role made beforehand needs no right to define one": (rights(CONTRIBUTOR, ASSIGNS), {"PATCH_ROLE_ID": "x"}),
    "the role of a management group is created there": (
        rights(CONTRIBUTOR, ASSIGNS),
        {"PATCH_MANAGEMENT_GROUPS": '["mg"]'},
    ),
    "no role is assigned": (rights(CONTRIBUTOR), {"PATCH_ASSIGN_ROLES": "false"}),
    "two subscriptions": (
        {**rights(OWNER), **rights(OWNER, subscription=OTHER)},
        {"PATCH_SUBSCRIPTION_IDS": f'["{OTHER}", "{ENVIRONMENT["AZURE_SUBSCRIPTION_ID"]}"]'},
    ),
    "a list of regions that cannot be read": ({**rights(OWNER), "regions": "fails", "skus": "fails"}, {}),
    "every variable there is": (
        rights(OWNER),
        {"PATCH_BLACKOUT": "", "PATCH_PARAMETERS": "my.bicepparam"} | dict.fromkeys(UNCHECKED, "x"),
    ),
    "another redundancy": ({**rights(OWNER), "skus": "West Europe"}, {"PATCH_STORAGE_SKU": "Standard_LRS"}),
}


@pytest.mark.parametrize(("answers", "changes"), ALL_IS_WELL.values(), ids=ALL_IS_WELL)
def test_nothing_is_said_where_nothing_is_missing(
    stage: Stage, answers: dict[str, str], changes: dict[str, str]
) -> None:
    assert check(stage, answers, changes) == (0, "")


MISSES = {
    "no login": ({"account": "fails"}, {}, ["az login\n", "azd's login is not az's"]),
    "no login to this tenant": ({"account": "fails"}, {"AZURE_TENANT_ID": "t"}, ["az login --tenant t\n"]),
    "no right to define a role": (rights(CONTRIBUTOR, ASSIGNS), {}, [DEFINES, "azd env set PATCH_ROLE_ID"]),
    "no right to assign one": (rights(CONTRIBUTOR), {}, ["roleAssignments/write", "PATCH_ASSIGN_ROLES false"]),
    "no right to deploy": (rights(ACCESS), {}, ["deployments/write", "resourceGroups/write", "role Contributor"]),
    "no right to lock": (
        rights(CONTRIBUTOR, ASSIGNS),
        {"PATCH_LOCK": "CanNotDelete", "PATCH_ROLE_ID": "x"},
        [LOCKS, "azd env set PATCH_LOCK None"],
    ),
    "none in the other subscription": (
        {**rights(OWNER), **rights(CONTRIBUTOR, subscription=OTHER)},
        {"PATCH_SUBSCRIPTION_IDS": f'["{OTHER}"]'},
        [f"{DEFINES} on the subscription {OTHER}"],
    ),
    "an app setting that is not a variable": (
        rights(OWNER),
        {"PATCH_BLACKOUT": "2026-12-24"},
        ["PATCH_BLACKOUT is not a variable of the deployment", "PATCH_SETTINGS", "azd env set PATCH_BLACKOUT ''"],
    ),
    "a misspelt variable": (rights(OWNER), {"PATCH_WINDO": "any"}, ["PATCH_WINDO is not a variable of the deployment"]),
    "one before a subscription is chosen": ({}, {"AZURE_SUBSCRIPTION_ID": "", "PATCH_X": "1"}, ["PATCH_X is no"]),
    "a name that is too long": (rights(OWNER), {"AZURE_ENV_NAME": "x" * 41}, ["longer than 40 characters"]),
    "no Flex Consumption": ({**rights(OWNER), "regions": "northeurope"}, {}, ["westeurope has no Flex Consumption"]),
    "no zones": (
        {**rights(OWNER), "skus": "northeurope"},
        {},
        ["westeurope has no Standard_ZRS", "azd env set PATCH_STORAGE_SKU Standard_LRS"],
    ),
}


@pytest.mark.parametrize(("answers", "changes", "said"), MISSES.values(), ids=MISSES)
def test_what_is_missing_stops_the_deployment_with_the_remedy(
    stage: Stage, answers: dict[str, str], changes: dict[str, str], said: list[str]
) -> None:
    status, text = check(stage, answers, changes)
    assert status == 1
    assert [each for each in said if each not in text] == [], text


def test_without_azd_it_needs_only_subscription_and_region(stage: Stage) -> None:
    """The guide says so: the other variables are azd's."""
    others = [name for name in ENVIRONMENT if name not in ("AZURE_SUBSCRIPTION_ID", "AZURE_LOCATION")]
    assert check(stage, rights(OWNER), unset=("PATCH_OPERATORS", *others))[0] == 0


def test_without_az_one_line_says_so(stage: Stage) -> None:
    status, text = check(stage, {}, az=False)
    assert (status, "the Azure CLI (az) is missing" in text, "https://aka.ms/azure-cli" in text) == (1, True, True)


@pytest.mark.parametrize(
    ("changes", "answers", "said"),
    [
        pytest.param({"AZURE_SUBSCRIPTION_ID": ""}, {"account": "fails"}, "No subscription is chosen", id="too early"),
        pytest.param({}, {}, "cannot be read, so they are not checked", id="rights that cannot be read"),
        pytest.param({"PATCH_OPERATORS": "[]"}, rights(OWNER), "azd env set PATCH_OPERATORS", id="no operator"),
        pytest.param(
            {"PATCH_ALERT_EMAIL": ""}, rights(OWNER), "azd env set PATCH_ALERT_EMAIL", id="alerts have no recipient"
        ),
        pytest.param({"PATCH_CHECKS": "off"}, {"account": "fails"}, "", id="not wanted"),
    ],
)
def test_what_is_only_said(stage: Stage, changes: dict[str, str], answers: dict[str, str], said: str) -> None:
    status, text = check(stage, answers, changes)
    assert status == 0
    assert said in text


def test_an_action_group_receives_alerts_without_a_mail(stage: Stage) -> None:
    given = {"PATCH_ALERT_EMAIL": "", "PATCH_ACTION_GROUP_IDS": '["/x"]'}
    assert check(stage, rights(OWNER), given) == (0, "")


@pytest.mark.parametrize("hook", ["predeploy", "postdeploy"])
def test_a_hook_does_not_wait_for_an_az_that_has_another_login(stage: Stage, hook: str) -> None:
    done = stage.run(f"{hook}.sh", NOT_LOGGED_IN="1")
    assert (done.returncode, stage.calls) == (1, [])
    assert done.stderr.endswith("azd's login is not az's: az login\n")


# -- predeploy


@pytest.mark.parametrize(("functions", "waits"), [("0", True), ("", True), ("6", False)])
def test_only_the_first_publication_waits_for_roles(stage: Stage, functions: str, waits: bool) -> None:
    done = stage.run("predeploy.sh", answer=functions)
    assert done.returncode == 0
    assert ("waiting 0 s" in done.stdout) is waits


def test_an_app_that_cannot_be_asked_yet_is_waited_for(stage: Stage) -> None:
    done = stage.run("predeploy.sh", failures=1)
    assert (done.returncode, "waiting 0 s" in done.stdout) == (0, True)


# -- postdeploy


@pytest.mark.parametrize("delivery", ["function", "queue"])
@pytest.mark.parametrize(("printed", "arc"), [("true", True), ("false", False), ("", False)])
def test_the_events_are_deployed_once_the_function_is_there(
    stage: Stage, printed: str, arc: bool, delivery: str
) -> None:
    done = stage.run("postdeploy.sh", failures=2, ARC_SERVERS=printed, EVENT_DELIVERY=delivery)
    assert done.returncode == 0, done.stderr
    assert stage.calls == ["functionapp function show"] * 3 + ["deployment sub create"]
    handed = json.loads((stage.folder / "parameters.json").read_text())["parameters"]
    assert {name: each["value"] for name, each in handed.items()} == {
        "resourceGroupName": "rg-patching",
        "functionAppName": "func-patch",
        "storageAccountName": "stpatch",
        "eventDelivery": delivery,
        "systemTopicIds": [TOPIC],
        "arcServers": arc,
    }
    text = (CHECKOUT / "infra" / "events.bicep").read_text(encoding="utf-8")
    assert set(handed) <= set(re.findall(r"^param (\w+)", text, re.MULTILINE))


def test_what_never_succeeds_fails_the_deployment(stage: Stage) -> None:
    done = stage.run("postdeploy.sh", failures=99)
    assert done.returncode == 1
    assert "the function on_machine_written: given up" in done.stderr
    assert stage.calls == ["functionapp function show"] * 3


@pytest.mark.parametrize("topics", ["[]", ""])
def test_without_topics_there_is_nothing_to_subscribe_to(stage: Stage, topics: str) -> None:
    done = stage.run("postdeploy.sh", SYSTEM_TOPIC_IDS=topics)
    assert (done.returncode, stage.calls) == (0, [])
    assert "infra/management-group/main.bicep" in done.stdout


def test_nothing_is_left_behind(stage: Stage) -> None:
    stage.run("postdeploy.sh")
    assert sorted(path.name for path in stage.folder.iterdir()) == [
        "answer",
        "az",
        "calls",
        "failures",
        "parameters.json",
    ]
