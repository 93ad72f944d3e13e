"""What is deployed against the rules of Flex Consumption: nothing that it forbids, and only what it offers."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from functions.policy.settings import SETTINGS

Json = dict[str, Any]

CHECKOUT = Path(__file__).parents[2]
INFRA = CHECKOUT / "infra"
RULES: Json = json.loads((CHECKOUT / "tests/recordings/flex_consumption.json").read_text(encoding="utf-8"))
HOSTS: dict[str, list[Json]] = {
    path.name.partition(".")[0]: json.loads(path.read_text(encoding="utf-8"))["predictedResources"]
    for path in sorted(INFRA.glob("snapshots/*.main.snapshot.json"))
}
MAIN = (INFRA / "main.bicep").read_text(encoding="utf-8")


def names(rules: str) -> set[str]:
    """Also those that are believed and not read: to leave them out is right in both cases."""
    return {each["name"] for each in RULES[rules]}


def paths(value: Any, above: str = "") -> set[str]:
    """The dotted path of every property that is set."""
    if not isinstance(value, dict):
        return set()
    found = {f"{above}{key}" for key, each in value.items() if each is not None}
    return found.union(*(paths(each, f"{above}{key}.") for key, each in value.items()))


def one(host: str, kind: str) -> Json:
    (found,) = (each for each in HOSTS[host] if each["type"] == kind)
    properties: Json = found["properties"]
    return properties


@pytest.mark.parametrize("host", HOSTS)
def test_the_site_sets_no_property_that_flex_forbids(host: str) -> None:
    assert paths(one(host, "Microsoft.Web/sites")) & names("site_properties_forbidden") == set()


@pytest.mark.parametrize("host", HOSTS)
def test_no_app_setting_is_one_that_flex_forbids(host: str) -> None:
    given = set(one(host, "Microsoft.Web/sites/config"))
    assert given & names("app_settings_forbidden") == set()
    assert "AzureWebJobsStorage__queueServiceUri" in given


def test_no_setting_of_the_app_has_the_name_of_one() -> None:
    assert {each.name for each in SETTINGS} & names("app_settings_forbidden") == set()


def test_what_is_forbidden_would_be_noticed() -> None:
    assert {"siteConfig.ftpsState", "siteConfig.linuxFxVersion"} <= names("site_properties_forbidden")
    assert paths({"siteConfig": {"ftpsState": "Disabled", "alwaysOn": None}}) == {"siteConfig", "siteConfig.ftpsState"}


@pytest.mark.parametrize("host", HOSTS)
def test_runtime_and_package_are_what_flex_offers(host: str) -> None:
    config = one(host, "Microsoft.Web/sites")["functionAppConfig"]
    offered = {(each["runtime"], version) for each in RULES["runtimes"]["versions"] for version in each["versions"]}
    assert (config["runtime"]["name"], config["runtime"]["version"]) in offered
    storage = config["deployment"]["storage"]
    assert storage["type"] in RULES["deployment_storage"]["type"]
    assert storage["authentication"]["type"] in RULES["deployment_storage"]["authentication_types"]


def test_sizes_and_counts_are_those_of_flex() -> None:
    """The least number of instances differs by region: a parameter must not forbid what one region takes."""
    sizes = re.search(r"@allowed\(\[([\s\d]+)\]\)\n@description\([^\n]+\)\nparam instanceMemoryMB", MAIN)
    assert sizes
    assert [int(each) for each in sizes[1].split()] == [each["memory_mb"] for each in RULES["instance_sizes"]]
    limits = re.search(r"@minValue\((\d+)\)\n@maxValue\((\d+)\)\n@description\('([^\n]+)'\)\nparam maximumInst", MAIN)
    assert limits
    rule = RULES["maximumInstanceCount"]
    assert (int(limits[1]), int(limits[2])) == (rule["min"]["value"], rule["max"])
    assert (rule["unit"], "of each function" in limits[3]) == ("on-demand instances per function group", True)


@pytest.mark.parametrize(
    ("host", "redundant", "strategy"), [("default", False, None), ("landing-zone", True, "RollingUpdate")]
)
def test_zones_and_updates_follow_their_parameters(host: str, redundant: bool, strategy: str | None) -> None:
    assert RULES["zone_redundancy"]["property"] == "Microsoft.Web/serverfarms properties.zoneRedundant"
    assert one(host, "Microsoft.Web/serverfarms")["zoneRedundant"] is redundant
    config = one(host, "Microsoft.Web/sites")["functionAppConfig"]
    assert config.get("siteUpdateStrategy", {}).get("type") == strategy
    offered = re.search(r"@allowed\(\[([^\]]+)\]\)\n@description\([^\n]+\)\nparam siteUpdateStrategy", MAIN)
    assert offered
    assert re.findall(r"'(\w+)'", offered[1]) == RULES["site_update_strategy"]["values"]


def test_the_apps_subnet_is_delegated_as_flex_wants_it() -> None:
    (network,) = (each for each in HOSTS["private-network"] if each["type"] == "Microsoft.Network/virtualNetworks")
    delegated = [
        delegation["properties"]["serviceName"]
        for subnet in network["properties"]["subnets"]
        for delegation in subnet["properties"].get("delegations", ())
    ]
    assert delegated == [RULES["network"]["delegation"]]


def test_the_hosts_bundle_is_new_enough() -> None:
    bundle = json.loads((CHECKOUT / "host.json").read_text(encoding="utf-8"))["extensionBundle"]["version"]
    assert bundle.replace("4.*", "4.0.0") in RULES["functions_runtime"]["extension_bundle"]


def test_the_examples_are_in_a_region_that_has_flex() -> None:
    for path in sorted((INFRA / "examples").glob("*.bicepparam")):
        (region,) = re.findall(r"^param location = '(\w+)'", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert region in RULES["regions"]["list"]
