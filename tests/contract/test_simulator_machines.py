"""Virtual machines of the simulator: their life, what is refused and how, rights, locks, faults.

Factors of a refusal: what the machine is doing, what another caller does to it, who calls, and which way in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

from simulator.arm import shapes
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import REFUSALS, Azure, Behaviour, Fault, Grant, Limits, Lock, Refused, Timings, overlaps
from simulator.identity import ClockCredential
from simulator.tls import Tls
from simulator.transport import AzureTransport
from tests.contract.simulator_client import GROUP, READY_SECONDS, Clock, arm, install_order, payload, ready_machine

VM = shapes.machine_id("vm-01")


def states(view: dict[str, Any]) -> tuple[list[str], str, list[str]]:
    """(status codes, the agent's display status, extension states)."""
    statuses = [each["code"] for each in view["statuses"]]
    agent = view["vmAgent"]["statuses"][0]["displayStatus"]
    extensions = [each["statuses"][0]["code"] for each in view.get("extensions", [])]
    return statuses, agent, extensions


async def test_a_machine_comes_to_life_in_the_order_of_a_real_one() -> None:
    clock = Clock()
    azure = Azure(clock)
    seen = []
    async with arm(azure) as client:
        await client.call("PUT", GROUP, {"location": "westus", "tags": {"team": "web"}})
        created = await client.call("PUT", VM, shapes.machine(tags={"patch-ring": "0"}))
        for seconds in (0, 60, 45, 90):
            clock.go(seconds)
            seen.append(states((await client.call("GET", f"{VM}/instanceView")).json()))
    assert (created.status_code, created.json()["properties"]["provisioningState"]) == (201, "Creating")
    assert "azure-asyncoperation" in created.headers
    running = ["ProvisioningState/succeeded", "PowerState/running"]
    assert seen == [
        (["ProvisioningState/creating", "PowerState/starting"], "Not Ready", []),
        (running, "Not Ready", []),
        (running, "Ready", ["ProvisioningState/transitioning"]),
        (running, "Ready", ["ProvisioningState/succeeded"]),
    ]
    assert [each["data"]["operationName"].removeprefix("Microsoft.") for each in azure.events] == [
        "Resources/subscriptions/resourceGroups/write",
        "Compute/virtualMachines/write",
        "Compute/virtualMachines/extensions/write",
    ]


@pytest.mark.parametrize("system", ["Windows", "Linux"])
async def test_the_agent_names_the_handler_of_each_extension(system: Literal["Windows", "Linux"]) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock, os=system)
    azure.start_operation(VM, "assess")
    async with arm(azure) as client:
        view = (await client.compute.virtual_machines.get("rg-prod", "vm-01", expand="instanceView")).instance_view
    handlers = {each.type: each.type_handler_version for each in view.vm_agent.extension_handlers}
    assert handlers == {each.type: each.type_handler_version for each in view.extensions}
    assert len(handlers) == 2, "a policy's, and the platform's own for patches"


async def test_a_new_size_restarts_the_machine_and_ends_what_ran_in_it() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    seen = []
    async with arm(azure) as client:
        azure.start_operation(VM, "install")
        size = {"properties": {"hardwareProfile": {"vmSize": "Standard_D4s_v5"}}}
        await client.call("PATCH", VM, size)
        for seconds in (0, 30, 45):
            clock.go(seconds)
            seen.append(states((await client.call("GET", f"{VM}/instanceView")).json())[:2])
        body = (await client.call("GET", VM)).json()
    running = ["ProvisioningState/succeeded", "PowerState/running"]
    assert seen == [
        (["ProvisioningState/updating", "PowerState/starting"], "Not Ready"),
        (running, "Not Ready"),
        (running, "Ready"),
    ]
    assert body["properties"]["hardwareProfile"] == {"vmSize": "Standard_D4s_v5"}
    assert [each.final_status for each in azure.operations if each.kind == "install"] == ["Failed"]
    assert azure.events[-1]["data"]["operationName"] == "Microsoft.Compute/virtualMachines/write"


@pytest.mark.parametrize(
    ("image", "has_profile", "exact_version"),
    [
        pytest.param("marketplace", True, "20348.2849.241119", id="marketplace"),
        pytest.param("gallery", True, "1.4.0", id="gallery version"),
        pytest.param("gallery-latest", True, "1.0.0", id="gallery, version left open"),
        pytest.param("specialized", False, "1.0.0", id="specialized: no osProfile"),
        pytest.param("shared-gallery", True, "1.4.0", id="shared gallery"),
        pytest.param("community-gallery", True, "1.4.0", id="community gallery"),
        pytest.param("managed-image", True, None, id="managed image"),
        pytest.param("none", False, None, id="attached disk"),
    ],
)
async def test_every_kind_of_image_is_shown_as_azure_shows_it(
    image: shapes.ImageName, has_profile: bool, exact_version: str | None
) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock, image=image)
    async with arm(azure) as client:
        properties = (await client.call("GET", VM)).json()["properties"]
    storage = properties["storageProfile"]
    assert ("osProfile" in properties) is has_profile
    assert storage.get("imageReference", {}).get("exactVersion") == exact_version
    assert storage["osDisk"]["createOption"] == ("Attach" if image == "none" else "FromImage")
    assert "adminPassword" not in properties.get("osProfile", {})


async def test_a_deleted_machine_is_gone_and_its_successor_is_another() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        first = (await client.call("GET", VM)).json()["properties"]
        started = await client.call("POST", f"{VM}/assessPatches")
        deleted = await client.call("DELETE", VM)
        clock.go(60)
        missing = await client.call("GET", VM)
        assessment = (await client.call("GET", started.headers["azure-asyncoperation"])).json()
        clock.go(60)
        again = await client.call("PUT", VM, shapes.machine())
    assert (deleted.status_code, missing.status_code) == (202, 404)
    assert missing.json()["error"]["code"] == "ResourceNotFound"
    assert assessment["status"] == "Canceled"
    second = again.json()["properties"]
    assert second["vmId"] != first["vmId"]
    assert second["timeCreated"] > first["timeCreated"]


async def test_a_deletion_takes_a_while_and_refuses_everything_but_itself() -> None:
    clock = Clock()
    azure = Azure(clock, replace(Timings(), delete_seconds=60, graph_lag_seconds=20))
    ready_machine(azure, clock)
    shown = "resources | project state = tostring(properties.provisioningState)"
    async with arm(azure) as client:
        deleted = await client.call("DELETE", VM)
        operation = deleted.headers["azure-asyncoperation"]
        state = (await client.call("GET", VM)).json()["properties"]["provisioningState"]
        actions = ("start", "restart", "redeploy", "reapply", "powerOff", "deallocate", "assessPatches")
        refused = [await client.call("POST", f"{VM}/{action}") for action in actions]
        refused += [await client.call(method, VM, shapes.machine()) for method in ("PUT", "PATCH")]
        again = await client.call("DELETE", VM)
        seen = [await client.rows(shown)]
        clock.go(59)
        seen.append(await client.rows(shown))
        polled = [(await client.call("GET", operation)).json()["status"]]
        clock.go(1)
        polled.append((await client.call("GET", operation)).json()["status"])
        gone = await client.call("GET", VM)
        seen.append(await client.rows(shown))
        clock.go(20)
        seen.append(await client.rows(shown))
    assert (deleted.status_code, state, gone.status_code) == (202, "Deleting", 404)
    assert (again.status_code, again.headers["azure-asyncoperation"]) == (202, operation)
    assert {(each.status_code, each.json()["error"]["code"]) for each in refused} == {(409, "OperationNotAllowed")}
    assert all("is marked for deletion" in each.json()["error"]["message"] for each in refused)
    assert polled == ["InProgress", "Succeeded"]
    assert seen == [[{"state": "Succeeded"}], [{"state": "Deleting"}], [{"state": "Deleting"}], []]
    assert [each["data"]["operationName"] for each in azure.events][-1] == "Microsoft.Compute/virtualMachines/delete"
    assert sum(each.kind == "delete" for each in azure.changes) == 1


# What of a running installation is left, the power state meanwhile and the provisioning state, by action.
INTERRUPTED = {
    "restart": ("Failed", "PowerState/starting", "Succeeded"),
    "redeploy": ("Failed", "PowerState/starting", "Updating"),
    "reimage": ("Failed", "PowerState/starting", "Updating"),
    "reapply": ("InProgress", "PowerState/running", "Updating"),
}


@pytest.mark.parametrize("action", INTERRUPTED)
async def test_what_an_action_does_to_a_machine_that_installs(action: str) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    installation = azure.start_operation(VM, "install")
    async with arm(azure) as client:
        answer = await client.call("POST", f"{VM}/{action}")
        view = states((await client.call("GET", f"{VM}/instanceView")).json())
        state = (await client.call("GET", VM)).json()["properties"]["provisioningState"]
        during = await client.call("POST", f"{VM}/restart")
        assert (answer.status_code, during.status_code) == (202, 409)
        assert (installation.status, view[0][1], state) == INTERRUPTED[action]
        clock.go(2 * READY_SECONDS)
        after = (await client.call("GET", VM)).json()["properties"]["provisioningState"]
        ended = (await client.call("GET", answer.headers["azure-asyncoperation"])).json()["status"]
        assessed = await client.call("POST", f"{VM}/assessPatches")
    assert (after, ended) == ("Succeeded", "Succeeded")
    assert assessed.status_code == (409 if action == "reapply" else 202), "its installation still runs"


@pytest.mark.parametrize("action", ["restart", "redeploy", "reimage", "reapply"])
async def test_a_deallocated_machine_is_not_restarted(action: str) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.start_operation(VM, "deallocate")
    clock.go(60)
    async with arm(azure) as client:
        answer = await client.call("POST", f"{VM}/{action}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "OperationNotAllowed")
    assert "deallocated" in answer.json()["error"]["message"]


async def test_a_move_gives_the_same_machine_another_id() -> None:
    """Its vmId, its instance view and what runs on it stay (inferred); its former id is unknown."""
    clock = Clock()
    azure = Azure(clock, replace(Timings(), graph_lag_seconds=20))
    ready_machine(azure, clock)
    operation = azure.start_operation(VM, "assess")
    target = f"{GROUP}-2"
    azure.create_group(target)
    ids = "resources | where type =~ 'microsoft.compute/virtualmachines' | project id"
    async with arm(azure) as client:
        before = (await client.call("GET", VM)).json()["properties"]
        absent = await client.call(
            "POST", f"{GROUP}/moveResources", {"resources": [VM], "targetResourceGroup": f"{target}x"}
        )
        stranger = await client.call(
            "POST", f"{target}/moveResources", {"resources": [VM], "targetResourceGroup": GROUP}
        )
        answer = await client.call("POST", f"{GROUP}/moveResources", {"resources": [VM], "targetResourceGroup": target})
        moved = VM.replace(GROUP, target)
        after = (await client.call("GET", moved)).json()["properties"]
        gone = await client.call("GET", VM)
        view = (await client.call("GET", f"{moved}/instanceView")).json()
        shown = [await client.rows(ids)]
        clock.go(21)
        shown.append(await client.rows(ids))
    assert (absent.status_code, stranger.status_code, answer.status_code, gone.status_code) == (404, 400, 204, 404)
    assert (after["vmId"], after["timeCreated"]) == (before["vmId"], before["timeCreated"])
    assert view["patchStatus"]["availablePatchSummary"]["assessmentActivityId"] == operation.operation_id
    assert shown == [[{"id": VM}], [{"id": moved}]]


async def test_another_os_disk_brings_its_own_patches() -> None:
    """As on the page "Change the OS disk": the machine is deallocated first."""
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    machine, offered = azure.machine(VM), azure.world.waiting(azure.machine(VM))
    azure.start_operation(VM, "install")
    clock.go(3600)
    disk = {"properties": {"storageProfile": {"osDisk": {"managedDisk": {"id": f"{GROUP}/disks/other"}}}}}
    assert azure.world.waiting(machine) != offered
    async with arm(azure) as client:
        running = await client.call("PATCH", VM, disk)
        azure.start_operation(VM, "deallocate")
        clock.go(60)
        swapped = await client.call("PATCH", VM, disk)
    assert (running.status_code, swapped.status_code) == (409, 200)
    assert azure.world.waiting(machine) == offered


async def test_a_group_takes_along_a_machine_that_is_being_deleted() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        await client.call("DELETE", VM)
        await client.call("DELETE", GROUP)
        clock.go(600)
        azure.advance()
    assert (azure.world.machines, len(azure.world.gone)) == ({}, 1)
    assert [each.status for each in azure.changes if each.kind == "delete"] == ["Succeeded"]


async def test_groups_keep_tags_and_manager_and_take_their_machines_along() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        await client.call("PATCH", GROUP, {"tags": {"patch-mode": "off"}, "managedBy": "/subscriptions/x"})
        group = (await client.call("GET", GROUP)).json()
        listed = (await client.call("GET", f"{GROUP}/providers/Microsoft.Compute/virtualMachines")).json()["value"]
        await client.call("DELETE", GROUP)
        clock.go(60)
        gone = [(await client.call("GET", url)).json()["error"]["code"] for url in (GROUP, VM)]
    assert (group["tags"], group["managedBy"]) == ({"patch-mode": "off"}, "/subscriptions/x")
    assert [each["name"] for each in listed] == ["vm-01"]
    assert gone == ["ResourceGroupNotFound", "ResourceGroupNotFound"]


Prepare = Callable[[Azure, Clock], object]

REFUSED = [
    pytest.param(lambda a, c: c.go(-READY_SECONDS), 409, "OperationNotAllowed", "in progress", id="still creating"),
    pytest.param(
        lambda a, c: a.behave("vm-01", Behaviour(agent_never_ready=True)),
        409, "VMAgentStatusCommunicationError", "has not reported status", id="agent dead",
    ),
    pytest.param(
        lambda a, c: a.behave("vm-01", Behaviour(extensions_hang=True)),
        409, "OperationNotAllowed", "another operation is in progress", id="extensions at work",
    ),
    pytest.param(
        lambda a, c: (a.start_operation(VM, "deallocate"), c.go(3600)),
        409, "OperationNotAllowed", "either deallocated or marked to be deallocated", id="deallocated",
    ),
    pytest.param(
        lambda a, c: (a.start_operation(VM, "powerOff"), c.go(3600)),
        409, "OperationNotAllowed", "requires the VM to be running", id="stopped",
    ),
    pytest.param(
        lambda a, c: a.start_operation(VM, "deallocate"),
        409, "OperationNotAllowed", "is changing power state", id="power state changing",
    ),
    pytest.param(
        lambda a, c: a.start_operation(VM, "assess"),
        409, "OperationNotAllowed", "another operation is in progress", id="platform assessment under way",
    ),
    pytest.param(
        lambda a, c: a.start_operation(VM, "install"),
        409, "OperationNotAllowed", "another operation is in progress", id="another caller's installation runs",
    ),
    pytest.param(
        lambda a, c: a.locks.append(Lock(GROUP)), 409, "ScopeLocked", "are locked", id="read-only lock on the group"
    ),
    pytest.param(
        lambda a, c: setattr(a, "grants", [Grant(actions=("*/read",))]),
        403, "AuthorizationFailed", "does not have authorization", id="reader only",
    ),
    pytest.param(
        lambda a, c: setattr(a, "grants", [Grant(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/other")]),
        403, "AuthorizationFailed", "over scope", id="rights elsewhere",
    ),
    pytest.param(
        lambda a, c: a.behave("vm-01", Behaviour(refuse="unsupported-image")),
        400, "InvalidParameter", "The selected VM image is not supported", id="unsupported image",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("expand", "status"), [("", 200), ("instanceView", 403)])
async def test_a_machine_with_its_instance_view_needs_both_rights(expand: str, status: int) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.grants = [Grant(actions=("Microsoft.Compute/virtualMachines/read",))]
    async with arm(azure) as client:
        answer = await client.call("GET", VM, query={"$expand": expand})
    assert answer.status_code == status
    asked = {check.action.rpartition("Machines/")[2]: granted for check, granted in azure.permission_checks.items()}
    assert asked == ({"read": True, "instanceView/read": False} if expand else {"read": True})


@pytest.mark.parametrize("action", ["assessPatches", "installPatches"])
@pytest.mark.parametrize(("prepare", "status", "code", "fragment"), REFUSED)
async def test_refused(action: str, prepare: Prepare, status: int, code: str, fragment: str) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    prepare(azure, clock)
    before = len(azure.operations)
    async with arm(azure) as client:
        answer = await client.call("POST", f"{VM}/{action}", install_order() if "install" in action else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert fragment in answer.json()["error"]["message"]
    assert len(azure.operations) == before, "a refusal starts nothing"


def test_every_documented_text_can_be_had() -> None:
    documented = {
        each["message"] for each in payload("compute_error_messages.json")["errors"] if each["code"].isalpha()
    }
    ours = {
        each.message.replace("'CustomScript'", "'{2}'").replace("VM '{1}' has", "VM '{0}' has")
        for each in REFUSALS.values()
    }
    ours |= {each.replace("for VM '{1}' because", "for VM '{0}' because") for each in ours}
    missing = {each for each in documented if each not in ours and "changing power state" not in each}
    assert not missing


@pytest.mark.parametrize(
    "order",
    [
        pytest.param({"rebootSetting": "Sometimes"}, id="reboot setting unknown"),
        pytest.param({"maximumDuration": "2 hours"}, id="duration no duration"),
        pytest.param({"linuxParameters": {}, "windowsParameters": {}}, id="nothing selected"),
    ],
)
async def test_an_order_that_azure_would_not_take(order: dict[str, object]) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        answer = await client.call("POST", f"{VM}/installPatches", install_order(**order))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidParameter")
    assert azure.operations == []


async def test_a_newer_operation_ends_the_older_where_azure_does_not_refuse_it() -> None:
    clock = Clock()
    azure = Azure(clock, limits=replace(Limits(), conflict="supersede"))
    ready_machine(azure, clock)
    async with arm(azure) as client:
        older = await client.call("POST", f"{VM}/installPatches", install_order())
        clock.go(60)
        newer = await client.call("POST", f"{VM}/assessPatches")
        ended = (await client.call("GET", older.headers["azure-asyncoperation"])).json()
    assert newer.status_code == 202
    assert (ended["status"], ended["error"]["code"]) == ("Failed", "NEWER_OPERATION_SUPERSEDED")
    assert ended["properties"]["output"]["installedPatchCount"] == 0
    first, second = azure.operations
    assert overlaps(azure.operations) == [(first, second)]
    clock.go(3600)
    assert overlaps([first, azure.start_operation(VM, "assess")]) == []


async def test_a_shutdown_ends_what_runs() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    operation = azure.start_operation(VM, "install")
    clock.go(60)
    azure.start_operation(VM, "deallocate")
    assert operation.status == "Failed"
    assert operation.ended_by is not None
    assert operation.ended_by[0] == "ShutdownOrUnresponsive"


SECURITY_BUT_EXCLUDED = {"classificationsToInclude": ["Security"], "packageNameMasksToExclude": ["libsecurity*"]}
OUTCOMES = [
    pytest.param({}, {}, ("Succeeded", 5, 0, 0, "Completed"), 0, id="succeeds and reboots"),
    pytest.param({}, {"rebootSetting": "Never"}, ("CompletedWithWarnings", 5, 0, 0, "Required"), 0, id="no reboot"),
    pytest.param({"needs_reboot": False}, {}, ("Succeeded", 5, 0, 0, "NotNeeded"), 0, id="no reboot needed"),
    pytest.param({"install_status": "Failed"}, {}, ("Failed", 4, 1, 0, "Completed"), 1, id="one patch fails"),
    pytest.param({"window_exceeded": True}, {}, ("Failed", 0, 0, 5, "NotNeeded"), 5, id="time runs out"),
    pytest.param({"pending": {"other": 3}}, {}, ("Succeeded", 0, 0, 0, "NotNeeded"), 0, id="nothing selected is there"),
    pytest.param(
        {}, {"linuxParameters": {"packageNameMasksToInclude": ["libsecurity0*"]}},
        ("Succeeded", 1, 0, 0, "Completed"), 4, id="one package by its name",
    ),
    pytest.param(
        {}, {"linuxParameters": SECURITY_BUT_EXCLUDED},
        ("Succeeded", 1, 0, 0, "Completed"), 4, id="Security brings Critical, the excluded stay",
    ),
    pytest.param({}, {"maximumDuration": "P1D"}, ("Failed", 0, 0, 5, "NotNeeded"), 5, id="duration unreadable"),
]  # fmt: skip


@pytest.mark.parametrize(("behaviour", "order", "outcome", "left"), OUTCOMES)
def test_how_an_installation_ends_and_what_then_waits(
    behaviour: dict[str, object], order: dict[str, object], outcome: tuple[object, ...], left: int
) -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.behave("vm-01", Behaviour(**behaviour))  # type: ignore[arg-type]
    ready_machine(azure, clock)
    run = azure.start_operation(VM, "install", order=install_order(**order))
    clock.go(3600)
    result = run.output
    counts = [result[f"{name}PatchCount"] for name in ("installed", "failed", "pending")]
    assert (run.status, *counts, result["rebootStatus"]) == outcome
    assert azure.start_operation(VM, "assess").output["criticalAndSecurityPatchCount"] == left


async def test_a_changed_patch_mode_makes_the_platform_assess() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)

    settings = {"patchMode": "AutomaticByPlatform", "assessmentMode": "ImageDefault"}
    profile = {"osProfile": {"linuxConfiguration": {"patchSettings": settings}}}
    async with arm(azure) as client:
        await client.call("PATCH", VM, {"tags": {"a": "b"}})
        assert azure.operations == [], "a tag changes no mode"
        await client.call("PATCH", VM, {"properties": profile})
    (assessment,) = azure.operations
    assert (assessment.kind, assessment.started_by) == ("assess", "Platform")


@pytest.mark.parametrize("cut", ["s", "h", "c", "t", "p"])
async def test_an_operation_url_without_its_signature_is_worth_nothing(cut: str) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        url = (await client.call("POST", f"{VM}/assessPatches")).headers["azure-asyncoperation"]
        bare, _, query = url.partition("?")
        broken = f"{bare}?" + "&".join(part for part in query.split("&") if not part.startswith(f"{cut}="))
        assert (await client.call("GET", broken)).status_code == 403
        assert (await client.call("GET", url)).status_code == 200


@pytest.mark.parametrize(
    "audience", [pytest.param("https://storage.azure.com", id="storage"), pytest.param("https://example.com", id="any")]
)
async def test_a_token_for_another_service_is_refused(audience: str) -> None:
    from azure.mgmt.compute.aio import ComputeManagementClient

    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    client = ComputeManagementClient(
        ClockCredential(azure.now, audience), SUBSCRIPTION, transport=AzureTransport(azure)
    )
    with pytest.raises(ClientAuthenticationError):
        await client.virtual_machines.get("rg-prod", "vm-01")


async def test_a_request_to_another_host_does_not_leave() -> None:
    clock = Clock()
    azure = Azure(clock)
    async with arm(azure) as client:
        with pytest.raises(ServiceRequestError):
            await client.call("GET", "https://management.azure.com.example.com/subscriptions?api-version=1")
    assert azure.requests == []


@pytest.mark.parametrize(
    ("fault", "error", "started"),
    [
        pytest.param(Fault("POST", "assessPatches$", drop="before"), ServiceRequestError, 0, id="lost before"),
        pytest.param(Fault("POST", "assessPatches$", drop="after"), ServiceResponseError, 1, id="lost after"),
    ],
)
async def test_a_lost_connection_says_nothing_about_what_happened(
    fault: Fault, error: type[Exception], started: int
) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.faults.add(replace(fault))
    async with arm(azure) as client:
        with pytest.raises(error):
            await client.call("POST", f"{VM}/assessPatches")
        assert len(azure.operations) == started
        assert (await client.call("GET", VM)).status_code == 200


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_a_lost_connection_over_the_port(drop: str, tls: Tls) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.faults.add(Fault("POST", "assessPatches$", drop=drop))  # type: ignore[arg-type]
    async with arm(azure, "TLS port", tls) as client:
        with pytest.raises((ServiceRequestError, ServiceResponseError)):
            await client.call("POST", f"{VM}/assessPatches")
    assert len(azure.operations) == (1 if drop == "after" else 0)


async def test_a_status_by_fault_happens_as_often_as_said() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.faults.add(Fault("GET", "virtualmachines", times=2, status=503))
    async with arm(azure) as client:
        assert [(await client.call("GET", VM)).status_code for _ in range(3)] == [503, 503, 200]
    assert [each.status for each in azure.requests] == [503, 503, 200]


def test_the_same_seed_gives_the_same_world() -> None:
    def ids(seed: int) -> list[str]:
        clock = Clock()
        azure = Azure(clock, seed=seed)
        ready_machine(azure, clock)
        azure.start_operation(VM, "assess")
        return [azure.machine("vm-01").vm_id, azure.operations[0].operation_id, *(each["id"] for each in azure.events)]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_another_caller_is_refused_as_we_are() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.start_operation(VM, "install")
    with pytest.raises(Refused, match="another operation is in progress"):
        azure.start_operation(VM, "assess")
