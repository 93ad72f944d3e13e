"""Which version of the patch interface is asked for, and by what an accepted operation is followed.

Factors: what the order holds × the versions that a cloud has × the headers of its 202. The judge of the versions is
compute_patch_api.json.
"""

import json
from dataclasses import replace
from typing import Any

import pytest

from functions.cloud.arm import api_version_for, install_order
from functions.model.state import Cause, Phase, State
from functions.policy.settings import read_settings
from simulator.azure import Behaviour, Fault
from tests.support import PAYLOADS
from tests.support.world import QUICK, SETTINGS, SUPERSEDE, World

INTERFACE = json.loads((PAYLOADS / "compute_patch_api.json").read_text())["compute"]
SINCE = {each["field"]: each["since"] for each in INTERFACE["fields"]}
RECORDED = json.loads((PAYLOADS / "recorded_vm_installPatches_windows_LRO.json").read_text())["1_POST"]["url"][-10:]

# what may be asked for → the KB numbers and masks of the settings, on which system
ORDERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "Linux, by classification": ((), False),
    "Linux, with masks": (("linux-image-*", "kernel*"), False),
    "Windows, by classification": ((), True),
    "Windows, with KB numbers": (("KB5031364", "5031365"), True),
    "Windows, with name masks": (("Security*",), True),
    "Windows, with masks that only Linux can have": (("linux-image-*", "libc6:amd64"), True),
}


def order(names: tuple[str, ...], windows: bool) -> dict[str, Any]:
    return dict(
        install_order(
            windows=windows, classifications=("Security",), include=names, exclude=names, reboot="Never", minutes=90
        )
    )


@pytest.mark.parametrize(("names", "windows"), ORDERS.values(), ids=ORDERS)
def test_the_version_knows_every_field_and_is_none_newer_than_it_must_be(names: tuple[str, ...], windows: bool) -> None:
    body = order(names, windows)
    fields = {f"{part}.{name}" for part in body if part.endswith("Parameters") for name in body[part]} | body.keys()
    needed = max(SINCE[field] for field in fields)
    assert api_version_for(body, RECORDED) == max(needed, RECORDED)
    assert api_version_for(body, "2023-03-01") == max(needed, "2023-03-01"), "as an older cloud has it"


def test_an_assessment_asks_for_the_version_that_was_recorded() -> None:
    assert api_version_for(None, read_settings(SETTINGS).compute_version) == RECORDED


def test_a_mask_for_windows_holds_what_the_interface_allows() -> None:
    """A fleet of both systems has masks of both in one setting. An exclusion becomes wider rather than vanish."""
    windows = order(("linux-image-*", "kernel*", "KB5031234", "libc6:amd64", "a.b", "a+b", "?x1"), windows=True)
    assert windows["windowsParameters"] == {
        "classificationsToInclude": ["Security"],
        "kbNumbersToInclude": ["5031234"],
        "kbNumbersToExclude": ["5031234"],
        "patchNameMasksToInclude": ["kernel*", "?x1"],
        "patchNameMasksToExclude": ["linux?image?*", "kernel*", "libc6?amd64", "a?b", "a?b", "?x1"],
    }


async def test_a_cloud_that_lags_behind_is_patched() -> None:
    world = World(timings=QUICK, limits=replace(SUPERSEDE, api_versions=("2021-04-01", RECORDED)))
    world.create("vm-01", Behaviour(pending={"security": 2}))
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-01"]


async def test_a_cloud_without_our_version_is_the_apps_fault_and_no_machines() -> None:
    world = World({"PATCH_PACKAGES_INCLUDE": "Security*"}, timings=QUICK)
    machine = world.create("vm-01", Behaviour(pending={"security": 2}), os="Windows")
    world.azure.limits = replace(SUPERSEDE, api_versions=("2021-04-01", RECORDED))
    await world.pass_time(hours=12)
    record = await world.record(machine)
    assert record is not None
    assert record.hold is not None
    assert (record.hold.state, record.hold.cause) == (State.FAILED, Cause.TRANSIENT)
    assert "NoRegisteredProviderFound" in record.hold.reason
    assert "no machine is at fault" in record.hold.remedy
    assert record.history.attempts > 5, "no number of tries makes it the machine's"


@pytest.mark.parametrize("headers", [("location",), ("azure-asyncoperation",), ("azure-asyncoperation", "location")])
@pytest.mark.parametrize("status", ["Succeeded", "Failed"])
async def test_an_operation_is_followed_by_whichever_header_names_it(
    headers: tuple[str, ...], status: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(timings=QUICK, limits=replace(SUPERSEDE, accepted_headers=headers))
    machine = world.create("vm-01", Behaviour(pending={"security": 2}))
    world.azure.behave(str(machine), Behaviour(pending={"security": 2}, install_status=status))
    await world.until(lambda: bool(world.operations(machine, "install")), hours=2)
    operation = world.operations(machine, "install")[0]
    record = await world.record(machine)
    assert record is not None
    assert (record.phase, record.operation_id) == (Phase.RUNNING, operation.operation_id)
    caplog.set_level("INFO", "journal")
    await world.until(lambda: world.now > operation.ends, hours=2)
    await world.sweep()
    lines = [json.loads(line.message) for line in caplog.records if line.name == "journal"]
    assert [line["status"] for line in lines if line["event"] == "installation.ended"] == [status]


@pytest.mark.parametrize(
    "body",
    [{}, {"status": None}, {"installedPatchCount": 2, "failedPatchCount": 0}],
    ids=["nothing", "a status of nothing", "counts alone"],
)
async def test_a_bare_answer_without_a_status_ends_nothing(body: dict[str, Any]) -> None:
    """Not how an operation ended: the machine is asked instead, which shows it running."""
    world = World(
        timings=replace(QUICK, install_seconds=3600), limits=replace(SUPERSEDE, accepted_headers=("location",))
    )
    machine = world.create("vm-01", Behaviour(pending={"security": 2}))
    await world.until(lambda: bool(world.operations(machine, "install")), hours=2)
    world.azure.faults.add(Fault("GET", r".*/operations/.*", times=None, status=200, body=body))
    ends = world.operations(machine, "install")[0].ends
    while world.now < ends:
        record = await world.record(machine)
        assert record is not None
        assert record.phase in (Phase.STARTING, Phase.RUNNING)
        await world.pass_time(minutes=5)
    await world.pass_time(hours=1)
    assert [operation.kind for operation in world.operations(machine)] == ["assess", "install", "assess"]
