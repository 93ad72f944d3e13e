"""The simulator beside recorded traffic: the same statuses, header names, body keys and kinds of values.

Factors: Windows or Linux, in process or over the TLS port, assessment or installation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from azure.mgmt.compute import models

from simulator.arm import shapes
from simulator.azure import Azure
from simulator.tls import Tls
from tests.contract.simulator_client import Clock, WayIn, arm, install_order, payload, ready_machine

WAYS_IN = [pytest.param("in process", id="in process"), pytest.param("TLS port", id="over TLS")]
_VOLATILE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def kinds(value: Any) -> Any:
    """The shape of a value: keys and kinds, the first entry of a list for all; a null counts as any kind."""
    if isinstance(value, Mapping):
        return {name: kinds(each) for name, each in value.items()}
    if isinstance(value, list):
        return [kinds(value[0])] if value else []
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return f"time {value[-6:]}"
    return type(value).__name__


def with_same_lists(ours: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """Our result with the recorded patches' own first entry shape, where the run brought none."""
    assert ours["patches"], "the simulated run must have listed patches to compare"
    assert {frozenset(each) for each in ours["patches"]} == {frozenset(each) for each in recorded["patches"]}
    return ours


def header_shape(headers: Mapping[str, str]) -> dict[str, str]:
    """Names and values with ids, hosts, times and signatures left out."""
    found = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in ("date", "x-msedge-ref", "server", "content-length"):
            value = "…"
        if lowered in ("location", "azure-asyncoperation"):
            value = _url_shape(value)
        found[lowered] = value
    return found


def _url_shape(url: str) -> str:
    path, _, query = url.partition("?")
    names = [part.partition("=")[0] for part in query.split("&")]
    return f"{_VOLATILE.sub('<guid>', path.split('/subscriptions/', 1)[1])}?{','.join(names)}"


@pytest.mark.parametrize("way_in", WAYS_IN)
async def test_windows_operation_answers_as_recorded(way_in: WayIn, tls: Tls) -> None:
    recorded = payload("recorded_vm_installPatches_windows_LRO.json")
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock, os="Windows")
    async with arm(azure, way_in, tls) as client:
        started = await client.call("POST", f"{machine}/installPatches", install_order())
        first = await client.call("GET", started.headers["azure-asyncoperation"])
        clock.go(3600)
        done = await client.call("GET", started.headers["azure-asyncoperation"])
        final = await client.call("GET", started.headers["location"])

    post = recorded["1_POST"]["response"]
    assert (started.status_code, started.text()) == (post["status"], post["body"])
    ours, theirs = header_shape(started.headers), header_shape(post["headers"])
    assert {name: ours[name] for name in theirs} == theirs
    dropped = payload("arm_common.json")["recording_lacks"]["headers"]
    assert set(ours) - set(theirs) <= {"server", "content-type", *dropped}, (
        "nothing that Azure does not send, such as Retry-After"
    )

    in_progress = recorded["2_GET_azure_asyncoperation_inprogress"]
    assert first.status_code == in_progress["status"]
    assert kinds(first.json()) == kinds(in_progress["body"])
    ours, theirs = header_shape(first.headers), header_shape(in_progress["headers"])
    ours["x-ms-ratelimit-remaining-resource"] = re.sub(r";\d+", ";n", ours["x-ms-ratelimit-remaining-resource"])
    theirs["x-ms-ratelimit-remaining-resource"] = re.sub(r";\d+", ";n", theirs["x-ms-ratelimit-remaining-resource"])
    assert {name: ours[name] for name in theirs} == theirs

    body, expected = done.json(), recorded["3_GET_azure_asyncoperation_done"]["body"]
    with_same_lists(body["properties"]["output"], expected["properties"]["output"])
    assert kinds(body) == kinds(expected)
    assert body["properties"]["output"]["error"] == expected["properties"]["output"]["error"]
    result, recorded_result = final.json(), recorded["4_GET_location_monitor_true_final"]["body"]
    assert kinds(result) == kinds(recorded_result)
    operation_id = _VOLATILE.search(started.headers["azure-asyncoperation"].split("/operations/")[1])
    assert operation_id is not None
    assert {operation_id[0], body["name"]} == {result["installationActivityId"]}


@pytest.mark.parametrize("way_in", WAYS_IN)
async def test_linux_result_has_the_recorded_shape(way_in: WayIn, tls: Tls) -> None:
    recorded = payload("recorded_vm_installPatches_linux_LRO.json")["final_GET_location_body"]
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock, os="Linux")
    async with arm(azure, way_in, tls) as client:
        order = payload("recorded_vm_installPatches_linux_LRO.json")["1_POST"]["body"]
        started = await client.call("POST", f"{machine}/installPatches", order)
        waiting = await client.call("GET", started.headers["location"])
        clock.go(3600)
        final = (await client.call("GET", started.headers["location"])).json()

    assert waiting.status_code == 202
    with_same_lists(final, recorded)
    assert kinds(final) == kinds(recorded)
    assert final["error"] == recorded["error"]
    assert (final["rebootStatus"], final["status"]) == (recorded["rebootStatus"], recorded["status"])


MODELS = [
    pytest.param("assess", "Linux", models.VirtualMachineAssessPatchesResult, id="assessment, Linux"),
    pytest.param("assess", "Windows", models.VirtualMachineAssessPatchesResult, id="assessment, Windows"),
    pytest.param("install", "Linux", models.VirtualMachineInstallPatchesResult, id="installation, Linux"),
    pytest.param("install", "Windows", models.VirtualMachineInstallPatchesResult, id="installation, Windows"),
]


@pytest.mark.parametrize(("kind", "os", "model"), MODELS)
async def test_results_pass_the_sdk_models_without_loss(kind: str, os: str, model: Any) -> None:
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock, os=os)
    operation = azure.start_operation(machine, kind)
    clock.go(3600)
    async with arm(azure) as client:
        machine_now = await client.compute.virtual_machines.get("rg-prod", "vm-01", expand="instanceView")
    read = model(operation.output)
    undeclared = {"maintenanceRunId"}  # in real answers, in no model
    declared = {each._rest_name: attribute for attribute, each in model._attr_to_rest_field.items()}
    assert operation.output.keys() - undeclared == declared.keys()
    assert all(getattr(read, attribute) is not None for attribute in declared.values())
    assert isinstance(read.start_date_time, datetime)
    summaries = machine_now.instance_view.patch_status
    summary = summaries.available_patch_summary if kind == "assess" else summaries.last_patch_installation_summary
    assert isinstance(summary.start_time, datetime)
    assert summary.status == "Succeeded"


async def test_the_sdk_poller_carries_a_creation_and_an_assessment_to_their_ends() -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.create_group(shapes.machine_id("x").split("/providers/")[0])
    async with arm(azure) as client:
        machines = client.compute.virtual_machines
        creation = await machines.begin_create_or_update("rg-prod", "vm-01", shapes.machine(), polling_interval=0)
        clock.go(600)
        created = await creation.result()
        assessment = await machines.begin_assess_patches("rg-prod", "vm-01", polling_interval=0)
        clock.go(600)
        result = await assessment.result()
    assert created.provisioning_state == "Succeeded"
    assert (result.status, result.critical_and_security_patch_count, result.other_patch_count) == ("Succeeded", 5, 3)


async def test_the_instance_view_shows_the_sampled_patch_status() -> None:
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    async with arm(azure) as client:
        before = (await client.call("GET", f"{machine}/instanceView")).json()
        azure.start_operation(machine, "assess")
        clock.go(3600)
        azure.start_operation(machine, "install")
        clock.go(3600)
        after = (await client.call("GET", f"{machine}/instanceView")).json()
    sample = payload("VM_instanceView_patchStatus.json")["patchStatus"]
    assert "patchStatus" not in before
    shown = after["patchStatus"]
    assert shown.keys() == sample.keys()
    for name in ("availablePatchSummary", "lastPatchInstallationSummary"):
        assert shown[name].keys() - {"error"} == sample[name].keys()
    assert shown["configurationStatuses"][0].keys() == sample["configurationStatuses"][0].keys()


async def test_a_linux_installation_shows_the_assessments_inside_it_as_its_extension_does() -> None:
    """Each moment of guest_extension_histories.json, in its order."""
    history = next(
        each
        for each in payload("guest_extension_histories.json")["histories"]
        if each["name"] == "linux-installation-normal-with-reboot"
    )
    ours = history["operation_result"]["installationActivityId"]
    written = _moments([each["patchStatus"] for each in history["snapshots"]], ours)
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock)
    for kind in ("assess", "install"):
        azure.start_operation(machine, kind)
        clock.go(3600)
    operation = azure.start_operation(machine, "install")
    shown: list[dict[str, Any]] = []
    async with arm(azure) as client:
        for _ in range(180):
            shown.append((await client.call("GET", f"{machine}/instanceView")).json()["patchStatus"])
            clock.go(10)
    simulated = _moments(shown, operation.operation_id)
    assert set(simulated) == set(written[1:])  # the first is from before anything was written
    rest = iter(written)
    assert all(moment in rest for moment in simulated), "in that order"


def _moments(statuses: list[dict[str, Any]], ours: str) -> list[tuple[bool, str, bool, str]]:
    """Who wrote the two summaries last, and their statuses, without repetitions."""
    moments: list[tuple[bool, str, bool, str]] = []
    for each in statuses:
        assessed, installed = each["availablePatchSummary"], each["lastPatchInstallationSummary"]
        moment = (
            assessed["assessmentActivityId"] == ours,
            assessed["status"],
            installed["installationActivityId"] == ours,
            installed["status"],
        )
        if moment not in moments[-1:]:
            moments.append(moment)
    return moments
