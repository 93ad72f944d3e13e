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
# Keeps what it was called with, and the parameters file; fails as often as it is told.
FALSE_AZ = """#!/bin/sh
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


def test_every_parameter_that_azd_hands_on_exists_and_none_is_missing() -> None:
    """One without a default that is not named here would be asked for under a name that nobody can set."""
    given = json.loads((CHECKOUT / "infra" / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    text = (CHECKOUT / "infra" / "main.bicep").read_text(encoding="utf-8")
    declared = dict(re.findall(r"^param (\w+) ([^\n]+)$", text, re.MULTILINE))
    needed = {name for name, rest in declared.items() if " = " not in rest and not rest.endswith("?")}
    assert needed == {"mode", "environmentName"}
    assert needed <= set(given) <= set(declared)


def test_azd_asks_for_the_mode_and_keeps_other_defaults() -> None:
    """To azd an empty text is none given only where the default is empty too; else it hands on the empty text."""
    given = json.loads((CHECKOUT / "infra" / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    text = (CHECKOUT / "infra" / "main.bicep").read_text(encoding="utf-8")
    assert given["mode"]["value"] == "${PATCH_MODE}"
    for name, each in given.items():
        variable, _, default = each["value"].strip("${}").partition("=")
        declared = re.search(rf"^param {name} \w+ = (\S+)$", text, re.MULTILINE)
        own = declared[1].strip("'") if declared else ""
        assert variable
        assert default == ("" if name == "location" else own), name


@pytest.mark.parametrize("hook", ["predeploy", "postdeploy"])
def test_both_shells_ask_azure_for_the_same(hook: str) -> None:
    texts = [(HOOKS / f"{hook}.{end}").read_text(encoding="utf-8") for end in ("sh", "ps1")]
    flat = [re.sub(r"[`\\]\n\s*", " ", text) for text in texts]
    calls = [re.findall(r"az (?:functionapp|deployment)[^\n]*", text) for text in flat]
    flags = [[re.findall(r"--[\w-]+|^az [\w ]+?(?= --)", call) for call in each] for each in calls]
    assert flags[0] == flags[1] != []
    variables = [set(re.findall(r"\b(?:AZURE|STORAGE|SYSTEM|ROLE|RETRY|TRIES)\w*\b", text)) for text in texts]
    assert variables[0] == variables[1]


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


def test_the_events_are_deployed_once_the_function_is_there(stage: Stage) -> None:
    done = stage.run("postdeploy.sh", failures=2)
    assert done.returncode == 0, done.stderr
    assert stage.calls == ["functionapp function show"] * 3 + ["deployment sub create"]
    handed = json.loads((stage.folder / "parameters.json").read_text())["parameters"]
    assert {name: each["value"] for name, each in handed.items()} == {
        "resourceGroupName": "rg-patching",
        "functionAppName": "func-patch",
        "storageAccountName": "stpatch",
        "systemTopicIds": [TOPIC],
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
