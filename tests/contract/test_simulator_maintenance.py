"""Maintenance configurations of the simulator, and their runs as operators' public queries read them.

Factors: an assignment to a machine or a dynamic scope and what it selects; a run that goes on, went well, failed; a
machine that refuses it.
"""

from __future__ import annotations

from typing import Any

import pytest

from simulator.arm import shapes
from simulator.arm.configurations import KIND
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Behaviour, Grant
from tests.contract.simulator_client import GROUP, Clock, arm, ready_machine

WEEKLY = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-prod/providers/{KIND}/Weekly"
VM = shapes.machine_id("vm-01")
Json = dict[str, Any]

# As MicrosoftDocs/azure-docs, update-manager, asks for runs; and the shares of machines as workbooks show them.
RUNS = f"""maintenanceresources
    | where type =~ 'microsoft.maintenance/maintenanceconfigurations/applyupdates'
    | where properties.correlationId has '{WEEKLY.lower()}/providers/microsoft.maintenance/applyupdates/'
    | where properties.maintenanceConfiguration.properties.maintenanceScope == 'InGuestPatch'
    | project status = tostring(properties.status), ended = isnotnull(properties.endDateTime),
        text = strcat(properties.resourceUpdateSummary.succeeded, ' of ', properties.resourceUpdateSummary.total)"""
MACHINES_OF_RUNS = """maintenanceresources | where type == 'microsoft.maintenance/applyupdates'
    | where properties.maintenanceScope == 'InGuestPatch'
    | project machine = tostring(properties.resourceId), status = tostring(properties.status)"""
SCHEDULED = """patchinstallationresources | where type endswith 'patchinstallationresults'
    | project run = tostring(properties.maintenanceRunId), by = tostring(properties.startedBy)"""
SCHEDULES = """resources | where type =~ 'microsoft.maintenance/maintenanceconfigurations'
    | project id = tolower(id), name, tostring(properties.maintenanceWindow.duration)
    | join kind=leftouter (maintenanceresources
        | where type =~ 'microsoft.maintenance/configurationassignments'
        | extend configuration = tolower(tostring(properties.maintenanceConfigurationId))
        | summarize machines = count() by configuration) on $left.id == $right.configuration
    | project name, duration = properties_maintenanceWindow_duration, machines"""


def weekly(**window: str) -> Json:
    properties = {
        "maintenanceScope": "InGuestPatch",
        "extensionProperties": {"InGuestPatchMode": "User"},
        "maintenanceWindow": {"startDateTime": "2026-11-20 22:00", "duration": "03:55", "timeZone": "UTC"} | window,
        "installPatches": {
            "rebootSetting": "IfRequired",
            "linuxParameters": {"classificationsToInclude": ["Critical", "Security"]},
        },
    }
    return {"location": "westus", "tags": {"team": "web"}, "properties": properties}


async def test_a_configuration_from_its_put_to_its_delete() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        calls = [await client.call("GET", WEEKLY)]
        calls += [await client.call("PUT", WEEKLY, weekly(duration=duration)) for duration in ("02:00", "03:55")]
        calls.append(await client.call("GET", WEEKLY))
        listed = (await client.call("GET", f"/subscriptions/{SUBSCRIPTION}/providers/{KIND}")).json()["value"]
        azure.assign(VM, configuration=WEEKLY)
        clock.go(60)
        shown = await client.rows(SCHEDULES)
        calls += [await client.call("DELETE", WEEKLY) for _ in range(2)]
        clock.go(60)
        after = await client.rows(SCHEDULES)
    assert [each.status_code for each in calls] == [404, 201, 200, 200, 200, 204]
    assert listed == [calls[3].json()]
    assert calls[3].json()["properties"] == weekly()["properties"]
    assert shown == [{"name": "Weekly", "duration": "03:55", "machines": 1}]
    assert after == []


@pytest.mark.parametrize("duration", ["01:29", "03:56", "04:00", "2h"])
async def test_a_window_in_the_guest_has_bounds(duration: str) -> None:
    azure = Azure(Clock())
    azure.create_group(GROUP)
    async with arm(azure) as client:
        assert (await client.call("PUT", WEEKLY, weekly(duration=duration))).status_code == 400
        assert (await client.call("GET", WEEKLY)).status_code == 404


ENDS = {
    "goes on": (Behaviour(), 60, {"status": "InProgress", "ended": False, "text": "0 of 1"}, "InProgress"),
    "went well": (Behaviour(), 7200, {"status": "Succeeded", "ended": True, "text": "1 of 1"}, "Succeeded"),
    "failed": (
        Behaviour(install_status="Failed"),
        7200,
        {"status": "Failed", "ended": True, "text": "0 of 1"},
        "Failed",
    ),
}


@pytest.mark.parametrize(("behaviour", "seconds", "run", "status"), ENDS.values(), ids=ENDS)
async def test_what_operators_see_of_a_run(behaviour: Behaviour, seconds: float, run: Json, status: str) -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.behave(ready_machine(azure, clock), behaviour)
    azure.assign(VM, configuration=WEEKLY)
    async with arm(azure) as client:
        await client.call("PUT", WEEKLY, weekly())
        begun = azure.run_schedule(WEEKLY)
        clock.go(seconds)
        assert await client.rows(RUNS) == [run]
        assert await client.rows(MACHINES_OF_RUNS) == [{"machine": VM, "status": status}]
        assert await client.rows(SCHEDULED) == [{"run": begun.id, "by": "Platform"}]


async def test_a_machine_that_refuses_counts_in_the_run() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.assign(VM, configuration=WEEKLY)
    azure.start_operation(VM, "deallocate")
    clock.go(600)
    async with arm(azure) as client:
        await client.call("PUT", WEEKLY, weekly())
        azure.run_schedule(WEEKLY)
        clock.go(600)
        assert await client.rows(RUNS) == [{"status": "Failed", "ended": False, "text": "0 of 1"}]
    assert [each.kind for each in azure.operations] == []


SELECTED = {
    "everything": ({}, ["lin", "win"]),
    "a system": ({"osTypes": ["linux"]}, ["lin"]),
    "both systems": ({"osTypes": ["Linux", "Windows"]}, ["lin", "win"]),
    "a place": ({"locations": ["westus"]}, ["lin", "win"]),
    "another place": ({"locations": ["eastus"]}, []),
    "another group": ({"resourceGroups": ["rg-test"]}, []),
}


@pytest.mark.parametrize(("selection", "names"), SELECTED.values(), ids=SELECTED)
async def test_a_dynamic_scope_selects(selection: Json, names: list[str]) -> None:
    clock = Clock()
    azure = Azure(clock)
    for name, system in (("lin", "Linux"), ("win", "Windows")):
        ready_machine(azure, clock, name, os=system)
    azure.assign(f"/subscriptions/{SUBSCRIPTION}", configuration=WEEKLY, selection=selection)
    async with arm(azure) as client:
        await client.call("PUT", WEEKLY, weekly())
    run = azure.run_schedule(WEEKLY)
    assert sorted(each.machine.rpartition("/")[2] for each in run.operations) == names


def test_only_a_configuration_that_exists_runs() -> None:
    with pytest.raises(LookupError):
        Azure(Clock()).run_schedule(WEEKLY)


async def test_configurations_and_runs_need_rights_of_their_own() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.assign(VM, configuration=WEEKLY)
    async with arm(azure) as client:
        await client.call("PUT", WEEKLY, weekly())
        azure.run_schedule(WEEKLY)
        clock.go(60)
        azure.grants = [Grant(actions=("Microsoft.Compute/virtualMachines/read",))]
        assert await client.rows("resources | where type startswith 'microsoft.maintenance' | project name") == []
        assert await client.rows("maintenanceresources | project name") == []
