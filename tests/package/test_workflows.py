"""The GitHub workflows and Dependabot: few rights, pinned actions, no secrets, and every name exists here."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.package.deployed import REPOSITORY

FOLDER = REPOSITORY / ".github" / "workflows"
NAMES = ("ci", "deploy", "release", "security")
WRITES = {
    ("deploy", "plan"): {"id-token"},
    ("deploy", "deploy"): {"id-token"},
    ("release", "release"): {"contents", "id-token", "attestations"},
    ("security", "code"): {"security-events"},
    ("security", "workflows"): {"security-events"},
    ("security", "practices"): {"security-events"},
}
FOUND_LATER = {"dist", "notes.md", "outputs.json", "again"}  # files that a step makes


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.yml").read_text(encoding="utf-8")


def workflow(name: str) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(text_of(name))
    return document


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in NAMES:
        for job, content in workflow(name)["jobs"].items():
            yield name, job, content


def scripts() -> Iterator[str]:
    for _, _, job in jobs():
        yield from (step["run"] for step in job["steps"] if "run" in step)


def test_these_are_all_workflows() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_may_read_and_a_job_says_what_else_it_may(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    for job, content in workflow(name)["jobs"].items():
        rights = content.get("permissions", {})
        assert {right for right, how in rights.items() if how == "write"} == WRITES.get((name, job), set())


@pytest.mark.parametrize("name", NAMES)
def test_every_action_is_pinned(name: str) -> None:
    used = re.findall(r"uses: (\S+)@(\S+)(.*)", text_of(name))
    assert used
    for action, version, comment in used:
        assert re.fullmatch(r"[0-9a-f]{40}", version), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action}: say which version that is"


def test_the_same_action_is_pinned_alike_everywhere() -> None:
    used = {pair for name in NAMES for pair in re.findall(r"uses: (\S+)@(\S+)", text_of(name))}
    assert len(used) == len({action for action, _ in used})


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_used_and_nothing_from_outside_is_pasted_into_a_script(name: str) -> None:
    assert "secrets." not in text_of(name)
    for _, _, job in jobs():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "hand it over in env: a shell would run what it says"


def test_checkouts_leave_no_token_behind_and_jobs_end() -> None:
    for name, job, content in jobs():
        assert content["timeout-minutes"] <= 60, (name, job)
        for step in content["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_azure_is_reached_by_the_tokens_of_protected_environments_only() -> None:
    logins = 0
    for _, _, content in jobs():
        for step in content["steps"]:
            if step.get("uses", "").startswith("azure/login@"):
                logins += 1
                assert content["environment"] in ("azure-plan", "azure")
                assert all(re.fullmatch(r"\$\{\{ vars\.AZURE_\w+ \}\}", value) for value in step["with"].values())
    assert logins == 2
    assert list(workflow("deploy")[True]) == ["workflow_dispatch"]  # YAML 1.1 reads `on` as true


def steps_of(name: str, job: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = workflow(name)["jobs"][job]["steps"]
    return steps


def test_the_plan_asks_for_no_right_to_write() -> None:
    (command,) = re.findall(r"az deployment sub what-if.*", text_of("deploy"))
    assert "--validation-level ProviderNoRbac" in command


# what azure-plan and azure say of AZURE_CLIENT_ID, whether the deployment goes on
IDENTITIES = {
    "two": ("11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222", True),
    "one for both": ("11111111-1111-1111-1111-111111111111", "11111111-1111-1111-1111-111111111111", False),
    "none": ("", "", False),
    "none to deploy with": ("11111111-1111-1111-1111-111111111111", "", False),
}


@pytest.mark.parametrize(("plans", "deploys", "goes_on"), IDENTITIES.values(), ids=IDENTITIES)
def test_the_identity_that_plans_is_not_the_one_that_deploys(plans: str, deploys: str, goes_on: bool) -> None:
    assert workflow("deploy")["jobs"]["plan"]["outputs"] == {"client": "${{ vars.AZURE_CLIENT_ID }}"}
    first = steps_of("deploy", "deploy")[0]  # before any login
    assert first["env"] == {"PLANS": "${{ needs.plan.outputs.client }}", "DEPLOYS": "${{ vars.AZURE_CLIENT_ID }}"}
    ended = subprocess.run(
        ["bash", "-e", "-c", first["run"]],
        env={"PATH": os.environ["PATH"], "PLANS": plans, "DEPLOYS": deploys},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode == 0) is goes_on
    assert len(ended.stdout.splitlines()) == (0 if goes_on else 1)


def test_a_release_is_packed_where_no_package_of_the_tests_ever_was() -> None:
    jobs = workflow("release")["jobs"]
    assert set(jobs["release"]["needs"]) == {"test", "package"}
    assert jobs["release"]["environment"] == "release"
    assert not [step for step in steps_of("release", "package") if re.search(r"make|pip|npm", step.get("run", ""))]
    (attested,) = (step for step in steps_of("release", "release") if "attest" in step.get("uses", ""))
    assert attested["with"]["subject-path"].split() == ["dist/*.zip", "dist/*.cdx.json"]


def test_the_compiler_is_the_same_wherever_templates_are_compiled() -> None:
    versions = [re.findall(r"az bicep install(.*)", script) for script in scripts()]
    assert {version for found in versions for version in found} == {" --version v0.49.2"}
    for _, _, job in jobs():
        before = ""
        for script in (step.get("run", "") for step in job["steps"]):
            before += script
            if re.search(r"az deployment|az bicep build", script):
                assert "az bicep install" in before


def test_the_pythons_are_those_that_the_project_supports() -> None:
    matrix = workflow("ci")["jobs"]["test"]["strategy"]["matrix"]["python"]
    oldest, newest = re.search(r"runs on Python (3\.\d+) to (3\.\d+)", text("docs/install.md")).groups()  # type: ignore[union-attr]
    minors = range(int(oldest.split(".")[1]), int(newest.split(".")[1]) + 1)
    assert matrix == [f"3.{minor}" for minor in minors]
    assert f'requires-python = ">={oldest}"' in text("pyproject.toml")
    wanted = re.search(r"DEPLOYED_PYTHON = \((\d+), (\d+)\)", text("scripts/package.py"))
    assert wanted
    packaging = re.findall(r'python-version: "([\d.]+)"', "".join(map(text_of, NAMES)))
    assert set(packaging) == {f"{wanted[1]}.{wanted[2]}"} == {newest}


def text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def test_the_editor_and_the_container_are_set_up_alike() -> None:
    container = json.loads(text(".devcontainer/devcontainer.json"))
    wanted = re.search(r"DEPLOYED_PYTHON = \((\d+), (\d+)\)", text("scripts/package.py"))
    assert wanted
    assert container["image"] == f"python:{wanted[1]}.{wanted[2]}"
    recommended = json.loads(text(".vscode/extensions.json"))["recommendations"]
    assert container["customizations"]["vscode"]["extensions"] == recommended
    interpreter = json.loads(text(".vscode/settings.json"))["python.defaultInterpreterPath"]
    assert interpreter.removeprefix("${workspaceFolder}/.venv") == "/bin/python"


def test_azd_counts_this_template_under_its_version() -> None:
    version = re.search(r'^version = "(.+)"', text("pyproject.toml"), re.MULTILINE)
    assert version
    assert yaml.safe_load(text("azure.yaml"))["metadata"]["template"] == f"image-patcher@{version[1]}"


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
    assert targets == set(re.findall(r"^\.PHONY: (.+)$", text("Makefile"), re.MULTILINE)[0].split())
    used = {target for script in scripts() for target in re.findall(r"^make (?:-\S+ )*(\w+)", script, re.MULTILINE)}
    assert {"test", "package"} <= used <= targets


def test_every_file_exists() -> None:
    pattern = re.compile(r"(?:scripts|infra|docs)/[\w/.-]+\w|\b\w+\.(?:py|md)\b")
    named = {name for script in scripts() for name in pattern.findall(script)}
    assert {"scripts/package.py", "infra/events.bicep", "function_app.py"} <= named
    for name in named - FOUND_LATER:
        assert (REPOSITORY / name).exists(), name


def deployments() -> Iterator[tuple[str, set[str]]]:
    """A template and the parameters that a step hands it."""
    for script in scripts():
        for command in re.findall(r"az deployment \w+ (?:create|what-if)(?:\\\n|.)*", script):
            template = re.search(r"--template-file (\S+)", command)
            if not template:
                continue  # a parameters file, which names its template
            yield template[1], set(re.findall(r"\b(\w+)=", command.partition("--parameters")[2]))


def test_what_is_deployed_stands_in_one_file_and_no_input_changes_it() -> None:
    """Else running the workflow would set what it does not name back to the default."""
    assert workflow("deploy")[True] == {"workflow_dispatch": None}
    steps = [step for job in workflow("deploy")["jobs"].values() for step in job["steps"]]
    commands = [
        (step.get("env", {}).get("PARAMETERS"), command)
        for step in steps
        for command in re.findall(r"az deployment sub (?:what-if|create)(?:\\\n|.)*", step.get("run", ""))
        if "infra/events.bicep" not in command
    ]
    assert [given for given, _ in commands] == ["${{ vars.PATCH_PARAMETERS }}"] * 2
    for _, command in commands:
        assert re.findall(r"--(?:parameters|template-file) (\S+)", command) == ['"$PARAMETERS"']
    for path in (REPOSITORY / "infra/examples").iterdir():
        assert path.read_text(encoding="utf-8").startswith("using '../main.bicep'")


def test_the_events_are_tried_again() -> None:
    """A role that is minutes old may not be in effect yet."""
    (events,) = (script for script in scripts() if "infra/events.bicep" in script)
    assert re.search(r"for attempt in \$\(seq \d+\)", events)


def test_the_events_are_deployed_as_azd_deploys_them() -> None:
    """Each way hands over what main.bicep printed: a parameter that one of them forgets falls back to its default."""
    (given,) = (given for template, given in deployments() if template == "infra/events.bicep")
    handed = set(re.findall(r'"(\w+)": \{ "value":', text("infra/hooks/postdeploy.sh")))
    assert given == handed
    assert {"eventDelivery", "arcServers"} <= given


def of_events() -> list[dict[str, Any]]:
    return [step for step in steps_of("deploy", "deploy") if "TOPICS" in step.get("env", {})]


def test_without_topics_there_is_nothing_to_subscribe_to() -> None:
    """A management group's topics come from a template of its own; events.bicep refuses an empty list."""
    assert len(of_events()) == 2
    assert {step["if"] for step in of_events()} == {"steps.resources.outputs.system_topic_ids != '[]'"}


# state of the app's own subscription at each of two topics → whether the workflow is content
SUBSCRIBED = {
    "both": (["Succeeded", "Succeeded"], True),
    "one failed": (["Failed", "Succeeded"], False),
    "one is still being created": (["Succeeded", "Creating"], False),
}


@pytest.mark.skipif(shutil.which("jq") is None, reason="the workflow's machine has jq")
@pytest.mark.parametrize(("states", "content"), SUBSCRIBED.values(), ids=SUBSCRIBED)
def test_the_apps_own_subscription_is_asked_for_whatever_its_destination(
    states: list[str], content: bool, tmp_path: Path
) -> None:
    topics = [f"/subscriptions/{number}/topics/t" for number in range(2)]
    answers = "".join(
        f'    *" {topic}/eventSubscriptions/func-patch?"*) echo {state} ;;\n'
        for topic, state in zip(topics, states, strict=True)
    )
    az = tmp_path / "az"
    az.write_text(f'#!/bin/sh\ncase " $* " in\n{answers}    *) exit 3 ;;\nesac\n')
    az.chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", of_events()[1]["run"]],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "APP": "func-patch", "TOPICS": json.dumps(topics)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is content, done.stderr


def test_the_workflow_asks_by_the_version_of_the_templates() -> None:
    (version,) = set(re.findall(r"api-version=([\d-]+)", text_of("deploy")))
    assert f"'Microsoft.EventGrid/systemTopics@{version}'" in text("infra/modules/system-topic.bicep")


@pytest.mark.parametrize(("template", "given"), list(deployments()))
def test_every_parameter_exists_and_none_is_missing(template: str, given: set[str]) -> None:
    declared = dict(re.findall(r"^param (\w+) [^=\n?]+?(\?| = |$)", text(template), re.MULTILINE))
    assert declared
    assert given <= set(declared)
    assert {name for name, default in declared.items() if not default} <= given


def test_every_output_of_the_template_that_a_step_reads_exists() -> None:
    declared = {name.lower() for name in re.findall(r"^output (\w+) ", text("infra/main.bicep"), re.MULTILINE)}
    made_by_the_step = {"package"}
    read = set(re.findall(r"steps\.resources\.outputs\.(\w+)", text_of("deploy")))
    assert read - made_by_the_step <= declared


def test_dependabot_watches_what_is_pinned_and_waits_a_week() -> None:
    updates = yaml.safe_load(text(".github/dependabot.yml"))["updates"]
    watched = {(each["package-ecosystem"], each["directory"]) for each in updates}
    assert watched == {("github-actions", "/"), ("pip", "/"), ("npm", "/simulator/node")}
    assert [each["cooldown"] for each in updates] == [{"default-days": 7}] * len(updates)


def test_nothing_names_a_package_registry() -> None:
    registries = ("pypi.org", "npmjs", "nuget.org", "ghcr.io", "mcr.microsoft.com")
    for path in (REPOSITORY / ".github").rglob("*.yml"):
        assert not [host for host in registries if host in path.read_text(encoding="utf-8")]


def test_the_smoke_check_expects_the_functions_of_this_app(package: Path) -> None:
    pattern = re.search(r"grep -oP '\^async def \\K(\S+)' function_app\.py", text_of("deploy"))
    assert pattern
    found = re.findall(rf"^async def ({pattern[1]})", (package / "function_app.py").read_text("utf-8"), re.MULTILINE)
    assert len(found) == 8
