"""Servers outside Azure in the simulator (Microsoft.HybridCompute/machines), beside compute_patch_api.json.

Factors: the api-version, the system, what is wrong with the order, the agent's status, the caller's rights.
"""

from __future__ import annotations

from typing import Any

import pytest

from simulator.arm import shapes, versions
from simulator.azure import REFUSALS, Azure, Behaviour, Grant, Lock
from tests.contract.simulator_client import Clock, arm, install_order, payload

JUDGE = payload("compute_patch_api.json")["hybrid_compute"]
FIELDS = {each["model"]: set(each["fields"]) for each in JUDGE["response_fields"]}
RESULTS = {"assessPatches": "MachineAssessPatchesResult", "installPatches": "MachineInstallPatchesResult"}
OPERATIONS = payload("azure_operations.json")["Microsoft.HybridCompute"]["actions"]
SAMPLE = payload("arg_patchassessmentresources_records_INFERRED.json")["arc"]
SERVER = shapes.hybrid_id("srv-01")
KIND = "Microsoft.HybridCompute/machines"
ORDER = install_order(maximumDuration="PT2H")


def connected(os: Any = "linux", behaviour: Behaviour | None = None) -> tuple[Azure, Clock]:
    clock = Clock()
    azure = Azure(clock)
    azure.behave("srv-01", behaviour or Behaviour())
    azure.connect_machine(SERVER, shapes.hybrid_machine(os, tags={"team": "web"}))
    clock.go(60)
    return azure, clock


async def test_a_connected_machine_is_read() -> None:
    azure, _ = connected("windows")
    async with arm(azure) as client:
        body = (await client.call("GET", SERVER)).json()
        none = await client.call("GET", shapes.hybrid_id("srv-09"))
    shown = body["properties"]
    assert (body["name"], body["type"], body["tags"]) == ("srv-01", KIND, {"team": "web"})
    assert (shown["status"], shown["osName"]) == ("Connected", "windows")
    assert (none.status_code, none.json()["error"]["code"]) == (404, "ResourceNotFound")


@pytest.mark.parametrize("os", ["windows", "linux"])
@pytest.mark.parametrize("version", JUDGE["versions"], ids=lambda each: each["api_version"])
@pytest.mark.parametrize(("action", "body"), [("assessPatches", None), ("installPatches", ORDER)])
async def test_an_operation_is_followed_by_its_location_alone(
    action: str, body: Any, version: dict[str, Any], os: str
) -> None:
    azure, clock = connected(os)
    query = {"api-version": version["api_version"]}
    async with arm(azure) as client:
        begun = await client.call("POST", f"{SERVER}/{action}", body, query=query)
        during = await client.call("GET", begun.headers["location"])
        clock.go(3600)
        done = await client.call("GET", begun.headers["location"])
    declared = {each.lower() for each in version[action.removesuffix("Patches")]["declared_202_headers"]}
    for answer in (begun, during):
        assert answer.status_code == 202
        assert answer.headers.keys() & {"location", "retry-after", "azure-asyncoperation"} == declared
    assert done.status_code == 200
    assert set(done.json()) == FIELDS[RESULTS[action]]
    assert (done.json()["status"], done.json()["osType"].lower()) == ("Succeeded", os)
    assert done.json()["errorDetails"] is None


async def test_the_counts_of_an_assessment_are_those_of_the_model() -> None:
    known = FIELDS["AvailablePatchCountByClassification"]
    for os in ("windows", "linux"):
        azure, clock = connected(os, Behaviour(pending={"security": 3, "critical": 1}))
        async with arm(azure) as client:
            begun = await client.call("POST", f"{SERVER}/assessPatches")
            clock.go(3600)
            counts = (await client.call("GET", begun.headers["location"])).json()["availablePatchCountByClassification"]
        assert counts.keys() <= known
        assert (counts["security"], counts["critical"]) == (3, 1)


async def test_an_installation_installs_and_errors_are_in_the_details() -> None:
    behaviour = Behaviour(pending={"security": 2}, install_status="Failed", errors=(("PACKAGE", "It broke."),))
    azure, clock = connected(behaviour=behaviour)
    async with arm(azure) as client:
        begun = await client.call("POST", f"{SERVER}/installPatches", ORDER)
        clock.go(7200)
        done = (await client.call("GET", begun.headers["location"])).json()
    assert (done["status"], done["installedPatchCount"], done["failedPatchCount"]) == ("Failed", 1, 1)
    assert [each["code"] for each in done["errorDetails"]["details"]] == ["PACKAGE"]


# order → status, a word of the refusal
ORDERS: dict[str, tuple[Any, str, int]] = {
    "as it should be": (ORDER, "2024-07-10", 202),
    "no duration": (install_order(maximumDuration=None), "2024-07-10", 400),
    "no reboot setting": ({**ORDER, "rebootSetting": None}, "2024-07-10", 400),
    "names of Windows patches": (
        {**ORDER, "windowsParameters": {"patchNameMasksToInclude": ["Rollup"]}}, "2025-02-19-preview", 202
    ),
    "names of Windows patches, before their time": (
        {**ORDER, "windowsParameters": {"patchNameMasksToInclude": ["Rollup"]}}, "2024-07-10", 400
    ),
    "a version without the operation": (ORDER, JUDGE["not_in"]["api_version"], 400),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
async def test_an_order(name: str) -> None:
    order, version, status = ORDERS[name]
    azure, _ = connected("windows")
    async with arm(azure) as client:
        answer = await client.call("POST", f"{SERVER}/installPatches", order, query={"api-version": version})
    assert answer.status_code == status
    assert len(azure.operations) == (status == 202)


def test_what_an_order_needs_is_what_the_data_says() -> None:
    left_out = {"no duration": "maximumDuration", "no reboot setting": "rebootSetting"}
    assert set(left_out.values()) == set(JUDGE["install_body_required"])
    known = {each["api_version"] for each in JUDGE["versions"]}
    assert known == set(versions.SUPPORTED[versions.ResourceType("Microsoft.HybridCompute", "machines")])
    masks = {each["api_version"] for each in JUDGE["versions"] if each["patchNameMasks"]}
    assert masks == {each for each in known if each >= "2025-02-19"}


@pytest.mark.parametrize("status", ["Disconnected", "Expired"])
async def test_a_machine_whose_agent_is_silent_takes_nothing_until_it_is_back(status: Any) -> None:
    azure, clock = connected()
    async with arm(azure) as client:
        azure.world.hybrid[SERVER.lower()].status.set(clock(), status)
        shown = (await client.call("GET", SERVER)).json()["properties"]["status"]
        refused = await client.call("POST", f"{SERVER}/assessPatches")
        clock.go(60)
        in_graph = await client.rows(f"resources | where type =~ '{KIND}' | project s = tostring(properties.status)")
        azure.world.hybrid[SERVER.lower()].status.set(clock(), "Connected")
        accepted = await client.call("POST", f"{SERVER}/assessPatches")
    assert (shown, refused.status_code, accepted.status_code) == (status, 409, 202)
    assert in_graph == [{"s": status}]


@pytest.mark.parametrize("name", ["conflict", "policy", "provider"])
async def test_a_refusal_that_a_test_asks_for(name: str) -> None:
    azure, _ = connected(behaviour=Behaviour(refuse=name))
    async with arm(azure) as client:
        answer = await client.call("POST", f"{SERVER}/assessPatches")
    assert (answer.status_code, answer.json()["error"]["code"]) == (REFUSALS[name].status, REFUSALS[name].code)


async def test_nothing_starts_beside_a_running_operation() -> None:
    azure, _ = connected()
    azure.start_operation(SERVER, "install")
    async with arm(azure) as client:
        answer = await client.call("POST", f"{SERVER}/assessPatches")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "OperationNotAllowed")


# the call, and the action without which it is refused
NEEDED: dict[str, tuple[str, str, Any, str]] = {
    "read": ("GET", SERVER, None, f"{KIND}/read"),
    "assess": ("POST", f"{SERVER}/assessPatches", None, f"{KIND}/assessPatches/action"),
    "install": ("POST", f"{SERVER}/installPatches", ORDER, f"{KIND}/installPatches/action"),
    "follow": ("GET", "", None, "Microsoft.HybridCompute/locations/updateCenterOperationResults/read"),
}


@pytest.mark.parametrize("name", NEEDED)
async def test_each_call_needs_its_published_action(name: str) -> None:
    method, path, body, action = NEEDED[name]
    assert action in OPERATIONS
    azure, _ = connected()
    async with arm(azure) as client:
        if name == "follow":
            path = (await client.call("POST", f"{SERVER}/assessPatches")).headers["location"]
        azure.grants = [Grant(actions=("*",), not_actions=(action,))]
        refused = await client.call(method, path, body)
        azure.grants = [Grant(actions=(action,))]
        allowed = await client.call(method, path, body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "AuthorizationFailed")
    assert allowed.status_code in (200, 202)


async def test_a_lock_stands_in_the_way() -> None:
    azure, _ = connected()
    azure.locks = [Lock(SERVER)]
    async with arm(azure) as client:
        assert (await client.call("POST", f"{SERVER}/assessPatches")).json()["error"]["code"] == "ScopeLocked"


async def test_a_row_of_an_assessment_has_the_columns_of_the_sample_and_no_support_state() -> None:
    azure, clock = connected("windows")
    azure.start_operation(SERVER, "assess")
    clock.go(3600)
    async with arm(azure) as client:
        rows = await client.rows(f"patchassessmentresources | where type =~ '{SAMPLE['type']}'")
        state = await client.rows(
            f"patchassessmentresources | where type =~ '{SAMPLE['type']}' | project s = "
            "tostring(properties.configurationStatus.vmGuestPatchReadiness.detectedVMGuestPatchSupportState)"
        )
        updates = await client.rows(f"patchassessmentresources | where type =~ '{SAMPLE['type']}/softwarepatches'")
    (row,) = rows
    assert row.keys() == SAMPLE.keys()
    assert row["properties"].keys() == SAMPLE["properties"].keys()
    assert row["id"] == f"{SERVER.lower()}/patchAssessmentResults/latest"
    assert state == [{"s": ""}]
    assert updates


# the table, the read without which its rows are hidden, and how many rows are left without it
READS = {
    "resources": ("resources", f"{KIND}/read"),
    "assessments": ("patchassessmentresources | where type endswith 'results'", f"{KIND}/patchAssessmentResults/read"),
    "updates found": (
        "patchassessmentresources | where type endswith 'softwarepatches'",
        f"{KIND}/patchAssessmentResults/softwarePatches/read",
    ),
    "installations": (
        "patchinstallationresources | where type endswith 'results'", f"{KIND}/patchInstallationResults/read"
    ),
    "updates installed": (
        "patchinstallationresources | where type endswith 'softwarepatches'",
        f"{KIND}/patchInstallationResults/softwarePatches/read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
async def test_rows_are_shown_to_who_may_read_them(name: str) -> None:
    query, action = READS[name]
    assert action in OPERATIONS
    azure, clock = connected()
    azure.start_operation(SERVER, "install")
    clock.go(7200)
    azure.start_operation(SERVER, "assess")
    clock.go(3600)
    azure.behave("srv-01", Behaviour())  # new updates wait
    azure.start_operation(SERVER, "assess")
    clock.go(3600)
    async with arm(azure) as client:
        shown = await client.rows(f"{query} | project id")
        azure.grants = [Grant(actions=("*",), not_actions=(action,))]
        hidden = await client.rows(f"{query} | project id")
    assert shown
    assert hidden == []


async def test_the_activity_of_a_machine_is_reported_in_events() -> None:
    azure, clock = connected()
    async with arm(azure) as client:
        await client.call("POST", f"{SERVER}/assessPatches")
        clock.go(3600)
        await client.call("POST", f"{SERVER}/installPatches", ORDER)
        clock.go(7200)
        gone = [(await client.call("DELETE", SERVER)).status_code for _ in range(2)]
        missing = await client.call("GET", SERVER)
    told = [each for each in azure.events if each["subject"].lower() == SERVER.lower()]
    assert [each["data"]["operationName"] for each in told] == [
        f"{KIND}/write", f"{KIND}/assessPatches/action", f"{KIND}/installPatches/action", f"{KIND}/delete"
    ]  # fmt: skip
    assert [each["eventType"].rpartition(".")[2] for each in told] == [
        "ResourceWriteSuccess", "ResourceActionSuccess", "ResourceActionSuccess", "ResourceDeleteSuccess"
    ]  # fmt: skip
    assert (gone, missing.status_code) == ([200, 204], 404)


async def test_an_agent_connects_its_machine_by_a_put() -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.create_group(SERVER.split("/providers/")[0])
    async with arm(azure) as client:
        made = await client.call("PUT", SERVER, shapes.hybrid_machine())
        bad = await client.call(
            "PUT", shapes.hybrid_id("s" * (JUDGE["machine_name"]["max"] + 1)), shapes.hybrid_machine()
        )
    assert (made.status_code, made.json()["properties"]["status"], bad.status_code) == (200, "Connected", 400)


async def test_a_group_takes_its_servers_along() -> None:
    azure, clock = connected()
    azure.delete_group(SERVER.split("/providers/")[0])
    clock.go(3600)
    async with arm(azure) as client:
        assert await client.rows(f"resources | where type =~ '{KIND}'") == []
