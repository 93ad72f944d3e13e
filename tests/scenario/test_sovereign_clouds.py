"""Azure Government and China: their addresses, whom a token is for, and only versions of some years ago.

The judge of addresses and audiences is azure-mgmt-core (tools.get_arm_endpoints).
"""

from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from azure.core import AzureClouds
from azure.mgmt.core.tools import get_arm_endpoints

from functions.model.state import Cause
from functions.policy.settings import COMPUTE_VERSIONS, read_settings
from simulator.azure import Behaviour
from simulator.identity import ClockCredential
from tests.support import held
from tests.support.world import QUICK, SETTINGS, SUPERSEDE, World

FACTS = {cloud.name: get_arm_endpoints(cloud) for cloud in AzureClouds}
ADDRESSES = {name: str(facts["resource_manager"]).rstrip("/") for name, facts in FACTS.items()}
AUDIENCES = {name: str(facts["credential_scopes"][0]).removesuffix("/.default") for name, facts in FACTS.items()}
SOVEREIGN = [name for name in FACTS if name != AzureClouds.AZURE_PUBLIC_CLOUD.name]
OLDEST = COMPUTE_VERSIONS[0]
PATCHES = Behaviour(pending={"security": 2})


def world_in(cloud: str, **settings: str) -> World:
    """A cloud of which nothing but its own address answers, for its own tokens, in the oldest version that serves."""
    world = World(
        {"ARM_ENDPOINT": ADDRESSES[cloud], **settings},
        timings=QUICK,
        limits=replace(SUPERSEDE, api_versions=("2021-07-01", OLDEST)),
    )
    world.azure.hosts.clear()
    world.azure.hosts.add(str(urlsplit(ADDRESSES[cloud]).hostname))
    world.azure.audiences.clear()
    world.azure.audiences.add(AUDIENCES[cloud])
    return world


@pytest.mark.parametrize("cloud", FACTS)
def test_a_token_is_for_whom_the_sdk_asks_it(cloud: str) -> None:
    assert read_settings(SETTINGS | {"ARM_ENDPOINT": ADDRESSES[cloud]}).arm_audience == AUDIENCES[cloud]


@pytest.mark.parametrize("system", ["Linux", "Windows"])
@pytest.mark.parametrize("cloud", SOVEREIGN)
async def test_a_machine_is_patched_in_the_oldest_version(cloud: str, system: str) -> None:
    world = world_in(cloud, ARM_COMPUTE_VERSION=OLDEST)
    world.create("vm-01", PATCHES, os=system)
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-01"]
    assert world.errors == []


@pytest.mark.parametrize(
    ("cloud", "settings", "audience"),
    [
        ("AZURE_CHINA_CLOUD", {"ARM_COMPUTE_VERSION": OLDEST}, "https://management.azure.com"),
        ("AZURE_US_GOVERNMENT", {"ARM_COMPUTE_VERSION": OLDEST, "ARM_ENDPOINT": "https://management.azure.com"}, None),
    ],
    ids=["a token of the public cloud", "the address of the public cloud"],
)
async def test_what_is_not_of_this_cloud_starts_nothing(
    cloud: str, settings: dict[str, str], audience: str | None
) -> None:
    world = world_in(cloud, **settings)
    if audience:
        world.credential = ClockCredential(world.azure.now, audience)
        world.set()
    world.create("vm-01", PATCHES)
    await world.pass_time(hours=2)
    assert world.azure.operations == []
    assert world.errors


async def test_a_version_that_the_cloud_does_not_have_is_named_with_its_setting() -> None:
    world = world_in("AZURE_CHINA_CLOUD")
    machine = world.create("vm-01", PATCHES)
    await world.pass_time(hours=2)
    record = await world.record(machine)
    assert record is not None
    assert held(record).cause is Cause.TRANSIENT
    assert "ARM_COMPUTE_VERSION" in held(record).remedy
    world.set(ARM_COMPUTE_VERSION=OLDEST)
    await world.pass_time(hours=6)
    assert world.installed() == ["vm-01"]
