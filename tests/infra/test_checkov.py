"""checkov over what would be deployed, as the snapshots say it. What it finds is fixed, or accepted here for a reason.

It is handed neither the source nor the compiled files: of both it silently skips what it cannot read, and reports
success. So the checks are counted too.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
CHECKOV = CHECKOUT / ".venv-scan" / "bin" / "checkov"
SNAPSHOTS = CHECKOUT / "infra" / "snapshots"
MISTAKES = "mistakes"  # the default deployment with some in it
ACCOUNT, SITE, SETTINGS = "Microsoft.Storage/storageAccounts", "Microsoft.Web/sites", "Microsoft.Web/sites/config"
ROLE = "Microsoft.Authorization/roleDefinitions"
HOSTS = ("default.main", "private-network.main", "management-group.main")

# (check, type of the resource) → why it may be so. One that finds nothing any more fails.
ACCEPTED = {
    ("CKV_AZURE_35", ACCOUNT): "the network is open where no private network was asked for; only identities come in",
    ("CKV_AZURE_59", ACCOUNT): "the same",
    ("CKV_AZURE_206", ACCOUNT): "it asks for another region; what is lost with this one, the sweep finds again",
    (
        "CKV_AZURE_225",
        "Microsoft.Web/serverfarms",
    ): "zone redundancy keeps instances running all the time",
    ("CKV_AZURE_212", SITE): "the same: a sweep that fails is followed by another in five minutes",
    ("CKV_AZURE_213", SITE): "no HTTP function, so nothing to ask; an alert tells when no sweep finishes",
    ("CKV_AZURE_78", SITE): "Flex Consumption has no FTP and refuses its property; publishing by FTP is off by policy",
    ("CKV_AZURE_222", SITE): "Event Grid delivers over the internet",
    ("CKV_AZURE_17", SITE): "Event Grid shows no client certificate",
    ("CKV_AZURE_222", SETTINGS): "read off the app settings, where it does not stand",
    ("CKV_AZURE_13", SETTINGS): "App Service authentication would turn Event Grid away, whose key the host checks",
    ("CKV_AZURE_63", SETTINGS): "read off the app settings; logs go to Application Insights",
    ("CKV_AZURE_65", SETTINGS): "the same",
    ("CKV_AZURE_66", SETTINGS): "the same",
    ("CKV_AZURE_80", SETTINGS): "the app is no .NET app",
    ("CKV_AZURE_88", SETTINGS): "the app keeps no files",
}


@dataclass(frozen=True)
class Finding:
    """One check of one resource."""

    check: str
    kind: str
    deployment: str  # <deployment>.<phase>
    passed: bool


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    if not CHECKOV.exists():
        pytest.skip("checkov is not here: `make unit` sets it up")
    folder = tmp_path_factory.mktemp("checkov")
    for name, resources in templates():
        schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
        template = {"$schema": schema, "contentVersion": "1.0.0.0", "resources": resources}
        (folder / f"{name}.json").write_text(json.dumps(template), encoding="utf-8")
    return list(read(run(folder)))


def templates() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for path in sorted(SNAPSHOTS.glob("*.snapshot.json")):
        yield (
            path.name.removesuffix(".snapshot.json"),
            json.loads(path.read_text(encoding="utf-8"))["predictedResources"],
        )
    text = (SNAPSHOTS / "default.main.snapshot.json").read_text(encoding="utf-8")
    for right, wrong in (('"TLS1_2"', '"TLS1_0"'), ('"httpsOnly": true', '"httpsOnly": false')):
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    yield MISTAKES, json.loads(text)["predictedResources"]


def run(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [str(CHECKOV), "--directory", ".", "--framework", "arm", "--skip-download", "--output", "json"],
        cwd=folder,
        env={**os.environ, "LOG_LEVEL": "ERROR"},
        text=True,
        capture_output=True,
        check=False,  # 1: it found something
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def read(said: dict[str, Any]) -> Iterator[Finding]:
    assert said["summary"]["parsing_errors"] == 0
    for key, passed in (("passed_checks", True), ("failed_checks", False)):
        for each in said["results"][key]:
            kind = ".".join(each["resource"].split(".")[:2])  # Microsoft.Web/sites.<name>
            yield Finding(each["check_id"], kind, Path(each["file_path"]).stem, passed)


def test_it_finds_nothing_but_what_is_accepted(findings: list[Finding]) -> None:
    failed = {(each.check, each.kind) for each in findings if not each.passed and each.deployment != MISTAKES}
    assert failed - set(ACCEPTED) == set()
    assert set(ACCEPTED) - failed == set(), "accepted, and not found any more"


CHECKED = [
    *((name, kind, least) for name in HOSTS for kind, least in ((ACCOUNT, 7), (SITE, 15), (SETTINGS, 3))),
    *((name, ROLE, 1) for name in ("default.main", "private-network.main")),
]


@pytest.mark.parametrize(("deployment", "kind", "at_least"), CHECKED)
def test_it_did_look(findings: list[Finding], deployment: str, kind: str, at_least: int) -> None:
    assert sum(each.kind == kind and each.deployment == deployment for each in findings) >= at_least


def test_a_private_network_closes_what_is_accepted_without_one(findings: list[Finding]) -> None:
    seen = {each.check: each.passed for each in findings if each.deployment == "private-network.main"}
    assert seen["CKV_AZURE_35"]
    assert seen["CKV_AZURE_59"]


def test_mistakes_are_found(findings: list[Finding]) -> None:
    failed = {each.check for each in findings if not each.passed and each.deployment == MISTAKES}
    new = failed - {check for check, _ in ACCEPTED}
    assert {"CKV_AZURE_44", "CKV_AZURE_14"} <= new  # TLS of storage, HTTPS of the app
