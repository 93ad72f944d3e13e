"""The app's Resource Graph queries: what they return, that the official language service finds nothing in them, and
that they keep to what Resource Graph allows.

Three looks at the same files:
* run by the simulator's evaluator over rows written by hand, with rows expected by hand;
* analysed by Microsoft's Kusto language service with Resource Graph's own rules (simulator/node/kql-check.js);
* read as text and tree, for the shape the app relies on.

The factors of the rows: ids whose letter case differs between tables, tags and counts that are left out, machines
with no assessment and with several, neighbours (Arc machines, disks, single patches) that must not come along.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.cloud import queries
from functions.cloud.models import image_size_from_graph, machine_from_graph
from functions.cloud.resource_graph import ROWS_PER_PAGE, ResourceGraph
from functions.cloud.session import Session
from functions.decisions.decision import next_step
from functions.decisions.question import question_of
from functions.model.machine import CLASSIFICATIONS, ResourceGroup
from functions.model.state import Assess, Install, State, Step
from functions.model.text import BadInput
from functions.policy.settings import Settings
from simulator.identity import StaticCredential
from simulator.resource_graph.kql import KqlError, Unsupported, evaluate, syntax
from simulator.resource_graph.kql.parser import parse
from tests.support import LONG_AGO, settings

SIMULATOR = Path(__file__).parent.parent.parent / "simulator"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
Row = dict[str, Any]

# ---- rows written by hand

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
# Graph gives a machine's id in the case it was created with, and its child records' ids in another.
GROUP = f"{SUBSCRIPTION}/resourceGroups/RG-App"
MACHINES = f"{GROUP}/providers/Microsoft.Compute/virtualMachines"
CHILDREN = f"{SUBSCRIPTION}/resourcegroups/rg-app/providers/microsoft.compute/virtualMachines"
IMAGES = f"{SUBSCRIPTION}/resourceGroups/RG-Images/providers/Microsoft.Compute"
GALLERY_IMAGE = f"{IMAGES}/galleries/G/images/Web/versions/1.0.0"
MANAGED_IMAGE = f"{IMAGES}/images/Old"
ASSESSMENT = "microsoft.compute/virtualMachines/patchAssessmentResults"
INSTALLATION = "microsoft.compute/virtualMachines/patchInstallationResults"

WEB_01: Row = {
    "id": f"{MACHINES}/Web-01",
    "name": "Web-01",
    "type": "microsoft.compute/virtualmachines",
    "location": "westeurope",
    "tags": {"patch-ring": "0", "patch-group": "Quorum"},
    "properties": {
        "vmId": "00000000-0000-0000-0000-0000000000a1",
        "timeCreated": "2026-11-01T08:00:00.1234567Z",
        "provisioningState": "Succeeded",
        "extended": {"instanceView": {"powerState": {"code": "PowerState/running"}}},
        "storageProfile": {
            "osDisk": {"osType": "Linux", "createOption": "FromImage"},
            "imageReference": {"id": GALLERY_IMAGE, "exactVersion": "1.0.0"},
        },
        "osProfile": {
            "allowExtensionOperations": True,
            "linuxConfiguration": {"patchSettings": {"patchMode": "AutomaticByPlatform"}},
        },
    },
}
# From a specialized disk: no image, no osProfile, no tags, and never assessed.
BARE_02: Row = {
    "id": f"{MACHINES}/bare-02",
    "name": "bare-02",
    "type": "microsoft.compute/virtualmachines",
    "location": "northeurope",
    "properties": {
        "vmId": "00000000-0000-0000-0000-0000000000a2",
        "timeCreated": "2026-11-02T08:00:00Z",
        "provisioningState": "Creating",
        "extended": {"instanceView": {"powerState": {"code": "powerstate/RUNNING"}}},
        "storageProfile": {"osDisk": {"osType": "Windows", "createOption": "Attach"}},
    },
}
MARKET_03: Row = {
    "id": f"{MACHINES}/market-03",
    "name": "market-03",
    "type": "microsoft.compute/virtualmachines",
    "location": "westeurope",
    "managedBy": f"{GROUP}/providers/Microsoft.Example/owners/o",
    "plan": {"name": "server", "publisher": "canonical", "product": "ubuntu"},
    "properties": {
        "timeCreated": "2026-11-03T08:00:00Z",
        "virtualMachineScaleSet": {"id": f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/set"},
        "extended": {"instanceView": {"powerState": {"code": "PowerState/running"}}},
        "storageProfile": {
            "osDisk": {"osType": "Windows", "createOption": "FromImage"},
            "imageReference": {"publisher": "MicrosoftWindowsServer", "offer": "WindowsServer", "sku": "2025"},
        },
        "osProfile": {"allowExtensionOperations": False, "windowsConfiguration": {"enableAutomaticUpdates": True}},
    },
}
OFF_04: Row = {
    "id": f"{MACHINES}/off-04",
    "name": "off-04",
    "type": "microsoft.compute/virtualmachines",
    "location": "westeurope",
    "tags": {"patch-group": "quorum"},
    "properties": {
        "availabilitySet": {"id": f"{GROUP}/providers/Microsoft.Compute/availabilitySets/PAIR"},
        "timeCreated": "2026-11-04T08:00:00Z",
        "extended": {"instanceView": {"powerState": {"code": "PowerState/deallocated"}}},
        "storageProfile": {"imageReference": {"id": MANAGED_IMAGE}},
    },
}
ARC_PROPERTIES: Row = {
    "vmId": "00000000-0000-0000-0000-0000000000a6",
    "provisioningState": "Succeeded",
    "status": "Connected",
    "osType": "linux",
    "osName": "linux",
    "osSku": "Ubuntu 22.04.3 LTS",
    "agentVersion": "1.60",
    "parentClusterResourceId": None,
}
ARC_06: Row = {
    "id": f"{GROUP}/providers/Microsoft.HybridCompute/machines/Arc-06",
    "type": "microsoft.hybridcompute/machines",
    "kind": "VMware",
    "location": "westeurope",
    "tags": {"patch-group": "Quorum"},
    "properties": ARC_PROPERTIES | {"machineFqdn": "arc-06.example"},
}
ARC_AWAY: Row = ARC_06 | {
    "id": f"{GROUP}/providers/Microsoft.HybridCompute/machines/arc-07",
    "properties": ARC_06["properties"] | {"status": "Disconnected", "vmId": "00000000-0000-0000-0000-0000000000a7"},
}
ARC_CHILDREN = f"{SUBSCRIPTION}/resourcegroups/rg-app/providers/microsoft.hybridcompute/machines"
ARC_ASSESSED: Row = {
    "id": f"{ARC_CHILDREN}/arc-06/patchAssessmentResults/latest",
    "type": "microsoft.hybridcompute/machines/patchassessmentresults",
    "properties": {
        "assessmentActivityId": "00000000-0000-0000-0000-0000000000b6",
        "status": "Succeeded",
        "startDateTime": "2026-11-21T10:00:00Z",
        "rebootPending": False,
        "availablePatchCountByClassification": {"security": 2},
        "errorDetails": None,
    },
}
DISK: Row = {"id": f"{GROUP}/providers/Microsoft.Compute/disks/web-01", "type": "microsoft.compute/disks"}


def assessment(machine: str, record: str, **properties: object) -> Row:
    return {
        "id": f"{CHILDREN}/{machine}/patchAssessmentResults/{record}",
        "name": record,
        "type": ASSESSMENT,
        "properties": properties,
    }


def readiness(state: str) -> Row:
    return {"vmGuestPatchReadiness": {"detectedVMGuestPatchSupportState": state}}


WEB_ASSESSED = assessment(
    "web-01",
    "latest",
    assessmentActivityId="00000000-0000-0000-0000-0000000000b1",
    status="Succeeded",
    startDateTime="2026-11-21T10:00:00Z",
    lastModifiedDateTime="2026-11-21T10:05:30.5Z",
    rebootPending=True,
    availablePatchCountByClassification={"security": 2, "other": 1},
    configurationStatus=readiness("Supported"),
)
WEB_PATCH: Row = {
    "id": f"{CHILDREN}/web-01/patchAssessmentResults/latest/softwarePatches/openssl",
    "name": "openssl",
    "type": f"{ASSESSMENT}/softwarepatches",
    "properties": {"patchName": "openssl", "classifications": ["Security"], "publishedDateTime": None},
}


def waiting_patch(machine: str, name: str, classification: str, published: str) -> Row:
    return {
        "id": f"{CHILDREN}/{machine}/patchAssessmentResults/latest/softwarePatches/{name}",
        "name": name,
        "type": f"{ASSESSMENT}/softwarepatches",
        "properties": {"classifications": [classification], "publishedDateTime": published},
    }


MARKET_PATCHES = [
    waiting_patch("MARKET-03", "kb-3", "Critical", "2026-10-20T00:00:00Z"),
    waiting_patch("market-03", "kb-2", "Security", "2026-10-14T00:00:00Z"),
    waiting_patch("market-03", "kb-1", "Definition", "2026-09-01T00:00:00Z"),  # old, but no limit names its severity
]
MARKET_ASSESSED = assessment("MARKET-03", "latest", status="Succeeded", startDateTime="2026-11-21T11:00:00Z")
MARKET_ASSESSED_BEFORE = assessment(
    "Market-03",
    "00000000-0000-0000-0000-0000000000b3",
    status="Failed",
    startDateTime="2026-11-20T11:00:00Z",
    rebootPending=None,
)
OFF_ASSESSED = assessment("off-04", "latest", configurationStatus=readiness("Unsupported"))


def installation(machine: str, run: str, **properties: object) -> Row:
    return {
        "id": f"{CHILDREN}/{machine}/patchInstallationResults/{run}",
        "name": run,
        "type": INSTALLATION,
        "properties": properties,
    }


def assignment(scope: str, name: str, **properties: Any) -> Row:
    """With a letter case of the id's own, as all tables but `resources` have it."""
    provider = "Microsoft.Maintenance/configurationAssignments"
    return {
        "id": f"{scope}/providers/{provider}/{name}",
        "type": "microsoft.maintenance/configurationassignments",
        "properties": properties,
    }


def scale_set(name: str) -> Row:
    return {
        "id": f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}",
        "type": "microsoft.compute/virtualmachinescalesets",
        "properties": {
            "orchestrationMode": "Flexible",
            "automaticRepairsPolicy": {"enabled": True, "gracePeriod": "PT10M"},
            "virtualMachineProfile": {"osProfile": {"adminUsername": "admin"}},
        },
    }


TABLES: Mapping[str, Sequence[Row]] = {
    "resources": [OFF_04, MARKET_03, DISK, BARE_02, ARC_06, ARC_AWAY, WEB_01, scale_set("set"), scale_set("not-asked")],
    "resourcecontainers": [
        {
            "id": f"{SUBSCRIPTION}/resourceGroups/RG-Other",
            "type": "microsoft.resources/subscriptions/resourceGroups",
            "managedBy": "/another",
        },
        {"id": SUBSCRIPTION, "type": "microsoft.resources/subscriptions", "tags": {"patch-mode": "off"}},
        {
            "id": GROUP,
            "type": "microsoft.resources/subscriptions/resourcegroups",
            "tags": {"patch-window": "any"},
        },
        {"id": f"{SUBSCRIPTION}/resourceGroups/not-asked", "type": "microsoft.resources/subscriptions/resourcegroups"},
        {
            "id": f"{SUBSCRIPTION}/resourceGroups/RG-Pair",
            "type": "microsoft.resources/subscriptions/resourcegroups",
            "tags": {"Patch-Group": "Quorum"},
        },
    ],
    "patchassessmentresources": [
        WEB_PATCH,
        *MARKET_PATCHES,
        MARKET_ASSESSED,
        WEB_ASSESSED,
        OFF_ASSESSED,
        ARC_ASSESSED,
        MARKET_ASSESSED_BEFORE,
    ],
    "maintenanceresources": [
        assignment(WEB_01["id"], "weekly", resourceId=WEB_01["id"].upper()),
        assignment(f"{MACHINES}/bare-02", "not-asked", resourceId=f"{MACHINES}/bare-02"),
        assignment(SUBSCRIPTION, "all-linux", filter={"osTypes": ["Linux"]}),
        {
            "id": f"{MACHINES}/Web-01/providers/Microsoft.Maintenance/applyUpdates/1",
            "type": "microsoft.maintenance/applyupdates",
            "properties": {"resourceId": WEB_01["id"]},
        },
    ],
    "patchinstallationresources": [
        installation("WEB-01", "run-2", status="InProgress"),
        installation(
            "web-01",
            "run-1",
            status="Succeeded",
            installationActivityId="run-1",
            startDateTime="2026-11-10T02:00:00Z",
            maintenanceRunId="/subscriptions/s/providers/Microsoft.Maintenance/applyUpdates/1",
        ),
        installation(
            "web-01", "run-0", maintenanceRunId="", status="completedWithWarnings", startDateTime="2026-11-03T02:00:00Z"
        ),
        installation("bare-02", "run-3", status="Failed", startDateTime="2026-11-11T02:00:00Z"),
        {
            "id": f"{CHILDREN}/web-01/patchInstallationResults/run-1/softwarePatches/openssl",
            "type": f"{INSTALLATION}/softwarepatches",
        },
    ],
}

# ---- and the rows expected of them

WEB_01_FOUND: Row = {
    "id": f"{MACHINES}/Web-01",
    "location": "westeurope",
    "tags": {"patch-ring": "0", "patch-group": "Quorum"},
    "managedBy": "",
    "plan": None,
    "image": {"id": GALLERY_IMAGE, "exactVersion": "1.0.0"},
    "is_marketplace": False,
    "vm_id": "00000000-0000-0000-0000-0000000000a1",
    "created": "2026-11-01T08:00:00.1234567Z",
    "provisioning_state": "Succeeded",
    "power_code": "PowerState/running",
    "os_type": "Linux",
    "create_option": "FromImage",
    "scale_set": "",
    "availability_set": "",
    "has_os_profile": True,
    "allow_extensions": True,
    "windows": None,
    "linux": {"patchSettings": {"patchMode": "AutomaticByPlatform"}},
    "assessment_id": "00000000-0000-0000-0000-0000000000b1",
    "assessment_status": "Succeeded",
    "assessment_started": "2026-11-21T10:00:00.0000000Z",
    "assessment_modified": "2026-11-21T10:05:30.5000000Z",
    "support_state": "Supported",
    "reboot_pending": True,
    "counts": {"security": 2, "other": 1},
}
BARE_02_FOUND: Row = {
    "id": f"{MACHINES}/bare-02",
    "location": "northeurope",
    "tags": None,
    "managedBy": "",
    "plan": None,
    "image": None,
    "is_marketplace": False,
    "vm_id": "00000000-0000-0000-0000-0000000000a2",
    "created": "2026-11-02T08:00:00.0000000Z",
    "provisioning_state": "Creating",
    "power_code": "powerstate/RUNNING",
    "os_type": "Windows",
    "create_option": "Attach",
    "scale_set": "",
    "availability_set": "",
    "has_os_profile": False,
    "allow_extensions": None,
    "windows": None,
    "linux": None,
    "assessment_id": "",
    "assessment_status": "",
    "assessment_started": None,
    "assessment_modified": None,
    "support_state": "",
    "reboot_pending": None,
    "counts": None,
}
MARKET_03_FOUND: Row = {
    "id": f"{MACHINES}/market-03",
    "location": "westeurope",
    "tags": None,
    "managedBy": f"{GROUP}/providers/Microsoft.Example/owners/o",
    "plan": {"name": "server", "publisher": "canonical", "product": "ubuntu"},
    "image": {"publisher": "MicrosoftWindowsServer", "offer": "WindowsServer", "sku": "2025"},
    "is_marketplace": True,
    "vm_id": "",
    "created": "2026-11-03T08:00:00.0000000Z",
    "provisioning_state": "",
    "power_code": "PowerState/running",
    "os_type": "Windows",
    "create_option": "FromImage",
    "scale_set": f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/set",
    "availability_set": "",
    "has_os_profile": True,
    "allow_extensions": False,
    "windows": {"enableAutomaticUpdates": True},
    "linux": None,
    "assessment_id": "",
    "assessment_status": "Succeeded",
    "assessment_started": "2026-11-21T11:00:00.0000000Z",
    "assessment_modified": None,
    "support_state": "",
    "reboot_pending": None,
    "counts": None,
}
# A second record of the same machine is a second row: picking the newest is the app's business, not the query's.
MARKET_03_FOUND_AGAIN: Row = MARKET_03_FOUND | {
    "assessment_status": "Failed",
    "assessment_started": "2026-11-20T11:00:00.0000000Z",
}
OFF_04_FOUND: Row = BARE_02_FOUND | {
    "id": f"{MACHINES}/off-04",
    "location": "westeurope",
    "tags": {"patch-group": "quorum"},
    "availability_set": f"{GROUP}/providers/Microsoft.Compute/availabilitySets/PAIR".lower(),
    "image": {"id": MANAGED_IMAGE},
    "vm_id": "",
    "created": "2026-11-04T08:00:00.0000000Z",
    "provisioning_state": "",
    "power_code": "PowerState/deallocated",
    "os_type": "",
    "create_option": "",
    "support_state": "Unsupported",
}

ARC_06_FOUND: Row = {
    "id": f"{GROUP}/providers/Microsoft.HybridCompute/machines/Arc-06",
    "kind": "VMware",
    "location": "westeurope",
    "tags": {"patch-group": "Quorum"},
    "vm_id": "00000000-0000-0000-0000-0000000000a6",
    "properties": ARC_PROPERTIES,
    "assessment_id": "00000000-0000-0000-0000-0000000000b6",
    "assessment_status": "Succeeded",
    "assessment_started": "2026-11-21T10:00:00.0000000Z",
    "support_state": "",
    "reboot_pending": False,
    "counts": {"security": 2},
}
ARC_AWAY_FOUND: Row = ARC_06_FOUND | {
    "id": ARC_AWAY["id"],
    "vm_id": "00000000-0000-0000-0000-0000000000a7",
    "properties": ARC_PROPERTIES | {"status": "Disconnected", "vmId": "00000000-0000-0000-0000-0000000000a7"},
    "assessment_id": "",
    "assessment_status": "",
    "assessment_started": None,
    "reboot_pending": None,
    "counts": None,
}

CLASSES = frozenset(
    {"critical", "security", "update_rollup", "feature_pack", "service_pack", "definition", "tools", "updates", "other"}
)


def due_values(wanted: frozenset[str] = frozenset({"critical", "security"}), **changes: queries.Value) -> Row:
    """Values for due_machines: mode install, customized images, assessments good for a week."""
    return {
        "created_after": datetime(2026, 10, 1, tzinfo=UTC),
        "assessed_before": datetime(2026, 11, 15, tzinfo=UTC),
        "next_slot_before": datetime(2026, 11, 15, 1, tzinfo=UTC),
        "unsupported_before": datetime(2026, 11, 14, tzinfo=UTC),
        "installs": True,
        "window_open": True,
        "young_after": datetime(2026, 11, 21, tzinfo=UTC),
        "all_images": False,
        "any_class": False,
        "any_age": False,
        **{name: name in wanted for name in CLASSES},
        **changes,
    }


def arc_due_values() -> Row:
    return {name: value for name, value in due_values().items() if name in queries.placeholders("arc_due")}


@cache
def filled() -> Mapping[str, str]:
    """Every query as it would be sent, asked for the rows above; the ids in yet another letter case."""
    values: Mapping[str, Row] = {
        "arc_census": {"shares": ["00", "b2"]},
        "arc_due": arc_due_values(),
        "arc_servers": {},
        "arc_counts": {},
        "arc_named": {"ids": [str(ARC_06["id"]).upper(), str(WEB_01["id"])]},
        "census": {"shares": ["00", "A1", "b2"]},
        "due_machines": due_values(),
        "fleet_counts": {},
        "group_members": {
            "names": ["QUORUM", "nobody"],
            "group_ids": [f"{SUBSCRIPTION}/resourcegroups/RG-Pair"],
            "arc": True,
        },
        "image_sizes": {
            "created_after": datetime(2026, 10, 1, tzinfo=UTC),
            "all_images": False,
            "any_age": False,
            "arc": True,
        },
        "groups_named": {"ids": [GROUP.upper(), f"{SUBSCRIPTION}/resourcegroups/rg-other"]},
        "groups_tagged": {"names": ["quorum", "nobody"]},
        "installations_of": {"ids": [f"{MACHINES}/Web-01"]},
        "last_installations": {"ids": [f"{MACHINES}/Web-01"]},
        "oldest_patches": {"ids": [f"{MACHINES}/Market-03"]},
        "patches_of": {"ids": [f"{MACHINES}/WEB-01"]},
        "schedule_runs_of": {"ids": [f"{MACHINES}/WEB-01", f"{MACHINES}/off-04"]},
        "schedules_of": {"ids": [f"{MACHINES}/WEB-01", GROUP.upper(), SUBSCRIPTION]},
        "named_machines": {"ids": [f"{MACHINES}/WEB-01", f"{MACHINES}/off-04".lower()]},
        "scale_sets_named": {"ids": [f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/SET"]},
        "stopped_machines": {"created_after": datetime(2026, 10, 1, tzinfo=UTC), "all_images": False, "any_age": False},
        "subscriptions_seen": {"subscriptions": [SUBSCRIPTION.split("/")[2].upper(), "nobodys"]},
    }
    return {name: queries.fill(name, **values[name]) for name in queries.names()}


EXPECTED: Mapping[str, list[Row]] = {
    "arc_census": [ARC_06_FOUND, ARC_AWAY_FOUND],
    "arc_due": [ARC_06_FOUND],
    "arc_named": [ARC_06_FOUND],
    "arc_servers": [{"servers": 2, "connected": 1}],
    "arc_counts": [{"state_name": "absent", "image_name": "arc/linux", "machines": 2}],
    "census": [WEB_01_FOUND, BARE_02_FOUND, MARKET_03_FOUND, MARKET_03_FOUND_AGAIN, OFF_04_FOUND],
    "due_machines": [WEB_01_FOUND, BARE_02_FOUND],
    "fleet_counts": [
        {"state_name": "absent", "image_name": "marketplace", "machines": 2},  # one machine with two records
        {"state_name": "Supported", "image_name": GALLERY_IMAGE.lower(), "machines": 1},
        {"state_name": "Unsupported", "image_name": MANAGED_IMAGE.lower(), "machines": 1},
        {"state_name": "absent", "image_name": "none", "machines": 1},
    ],
    "group_members": [
        {"id": WEB_01["id"], "own_group": "quorum", "group_id": GROUP.lower(), "power_code": "PowerState/running"},
        {"id": OFF_04["id"], "own_group": "quorum", "group_id": GROUP.lower(), "power_code": "PowerState/deallocated"},
        {"id": ARC_06["id"], "own_group": "quorum", "group_id": GROUP.lower(), "power_code": "PowerState/running"},
        {"id": ARC_AWAY["id"], "own_group": "quorum", "group_id": GROUP.lower(), "power_code": ""},
    ],
    "groups_named": [
        {"id": GROUP, "tags": {"patch-window": "any"}, "managedBy": ""},
        {"id": f"{SUBSCRIPTION}/resourceGroups/RG-Other", "tags": None, "managedBy": "/another"},
    ],
    "image_sizes": [
        {"reference": '{"arc":"linux","sku":"Ubuntu 22.04.3 LTS"}', "created": None, "machines": 2},
        {"reference": "", "created": None, "machines": 1},
        {"reference": f'{{"id":"{GALLERY_IMAGE}","exactVersion":"1.0.0"}}', "created": None, "machines": 1},
        {"reference": f'{{"id":"{MANAGED_IMAGE}"}}', "created": None, "machines": 1},
    ],
    "groups_tagged": [{"id": f"{SUBSCRIPTION}/resourceGroups/RG-Pair", "patch_group": "quorum"}],
    "installations_of": [
        {
            "id": f"{CHILDREN}/WEB-01/patchInstallationResults/run-2",
            "machine": f"{MACHINES}/web-01".lower(),
            "operation_id": "",
            "status": "InProgress",
            "started": None,
        },
        {
            "id": f"{CHILDREN}/web-01/patchInstallationResults/run-0",
            "machine": f"{MACHINES}/web-01".lower(),
            "operation_id": "",
            "status": "completedWithWarnings",
            "started": "2026-11-03T02:00:00.0000000Z",
        },
        {
            "id": f"{CHILDREN}/web-01/patchInstallationResults/run-1",
            "machine": f"{MACHINES}/web-01".lower(),
            "operation_id": "run-1",
            "status": "Succeeded",
            "started": "2026-11-10T02:00:00.0000000Z",
        },
    ],
    "last_installations": [
        {
            "id": f"{CHILDREN}/web-01/patchInstallationResults/run-0",
            "machine": f"{MACHINES}/web-01".lower(),
            "at": "2026-11-03T02:00:00.0000000Z",
        },
        {
            "id": f"{CHILDREN}/web-01/patchInstallationResults/run-1",
            "machine": f"{MACHINES}/web-01".lower(),
            "at": "2026-11-10T02:00:00.0000000Z",
        },
    ],
    "named_machines": [WEB_01_FOUND, OFF_04_FOUND],
    "schedule_runs_of": [
        {
            "id": f"{CHILDREN}/web-01/patchInstallationResults/run-1",
            "machine": f"{MACHINES}/web-01".lower(),
        },
    ],
    "scale_sets_named": [
        {
            "id": f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/set",
            "properties": {
                "orchestrationMode": "Flexible",
                "automaticRepairsPolicy": {"enabled": True, "gracePeriod": "PT10M"},
                "upgradePolicy": None,
            },
        }
    ],
    "stopped_machines": [OFF_04_FOUND],
    "subscriptions_seen": [{"subscription": SUBSCRIPTION.split("/")[2], "groups": 4}],
    "schedules_of": [
        {
            "id": f"{SUBSCRIPTION}/providers/Microsoft.Maintenance/configurationAssignments/all-linux",
            "owner": SUBSCRIPTION,
            "resource": "",
            "filter": {"osTypes": ["Linux"]},
        },
        {
            "id": f"{MACHINES}/Web-01/providers/Microsoft.Maintenance/configurationAssignments/weekly",
            "owner": f"{MACHINES}/web-01".lower(),
            "resource": f"{MACHINES}/web-01".lower(),
            "filter": None,
        },
    ],
    "oldest_patches": [
        {
            "id": f"{CHILDREN}/MARKET-03/patchAssessmentResults/latest/softwarePatches/kb-3",
            "machine": f"{MACHINES}/market-03".lower(),
            "critical": True,
            "at": "2026-10-20T00:00:00.0000000Z",
        },
        {
            "id": f"{CHILDREN}/market-03/patchAssessmentResults/latest/softwarePatches/kb-2",
            "machine": f"{MACHINES}/market-03".lower(),
            "critical": False,
            "at": "2026-10-14T00:00:00.0000000Z",
        },
    ],
    "patches_of": [
        {
            "id": f"{CHILDREN}/web-01/patchAssessmentResults/latest/softwarePatches/openssl",
            "machine": f"{MACHINES}/web-01".lower(),
            "name": "openssl",
            "kb": "",
            "version": "",
            "classes": ["Security"],
        },
    ],
}


@pytest.mark.parametrize("name", queries.names())
def test_returns_the_rows_expected_by_hand(name: str) -> None:
    assert EXPECTED[name], "a query over no rows proves nothing"
    assert evaluate(filled()[name], TABLES, NOW).rows == EXPECTED[name]


# ---- what due_machines narrows to

MARKETPLACE_IMAGE = MARKET_03["properties"]["storageProfile"]["imageReference"]
FRESH, OLD = "2026-11-21T10:00:00Z", "2026-11-14T23:59:59Z"
NEVER = None  # no assessment record at all


def machine(
    name: str = "vm",
    *,
    image: Mapping[str, str] = WEB_01["properties"]["storageProfile"]["imageReference"],
    power: str = "PowerState/running",
    created: str = "2026-11-01T08:00:00Z",
) -> Row:
    found = deepcopy(WEB_01)
    found["id"] = f"{MACHINES}/{name.upper()}"
    found["properties"]["storageProfile"]["imageReference"] = dict(image)
    found["properties"]["extended"]["instanceView"]["powerState"]["code"] = power
    found["properties"]["timeCreated"] = created
    return found


def assessed(
    state: str | None,
    started: str | None = FRESH,
    *,
    status: str = "Succeeded",
    counts: Mapping[str, int] | None = None,
) -> Row:
    return assessment(
        "vm",
        "latest",
        status=status,
        startDateTime=started,
        availablePatchCountByClassification=counts,
        configurationStatus=readiness(state) if state else None,
    )


def due(machines: Sequence[Row], assessments: Sequence[Row], values: Row) -> list[str]:
    tables = {"resources": machines, "patchassessmentresources": assessments}
    rows = evaluate(queries.fill("due_machines", **values), tables, NOW).rows
    return [row["id"].rsplit("/", 1)[1].lower() for row in rows]


def of(vm_id: str) -> Row:
    """A machine with this VM id."""
    vm = machine()
    vm["properties"]["vmId"] = vm_id
    return vm


def row(id: str, expected: bool, assessment: Row | None, vm: Row | None = None, **values: Any) -> Any:
    return pytest.param(vm or machine(), assessment, due_values(**values), expected, id=id)


MARKET = machine(image=MARKETPLACE_IMAGE)
PENDING, QUIET = assessed("Supported", counts={"security": 1}), assessed("Supported")
MARKET_PENDING = assessed(None, counts={"security": 1})
YOUNG, GROWN = "2026-11-21T00:00:00Z", "2026-11-20T23:59:59Z"


@pytest.mark.parametrize(
    ("vm", "record", "values", "expected"),
    [
        # Supported: what is pending decides, and whether we install at all.
        row("supported, fresh, nothing pending", False, assessed("Supported")),
        row("supported, fresh, counts are zero", False, assessed("Supported", counts={"critical": 0, "security": 0})),
        row("supported, a wanted class pending", True, assessed("Supported", counts={"security": 1})),
        row(
            "supported, pending but we do not install",
            False,
            assessed("Supported", counts={"security": 1}),
            installs=False,
        ),
        row(
            "supported, only unwanted classes pending", False, assessed("Supported", counts={"other": 7, "updates": 3})
        ),
        row("supported, counted in other letter case", True, assessed("Supported", counts={"Security": 7})),
        row("supported, any class is wanted", True, assessed("Supported", counts={"other": 7}), any_class=True),
        row("supported in other letter case", True, assessed("supported", counts={"security": 1})),
        *[
            row(f"supported, {name} {what}", found, assessed("Supported", counts=counts), wanted=frozenset({name}))
            for name, key in [
                ("critical", "critical"),
                ("security", "security"),
                ("update_rollup", "updateRollup"),
                ("feature_pack", "featurePack"),
                ("service_pack", "servicePack"),
                ("definition", "definition"),
                ("tools", "tools"),
                ("updates", "updates"),
                ("other", "other"),
            ]
            for what, found, counts in [("pending", True, {key: 1}), ("left out", False, {"unheard of": 1})]
        ],
        # Age: checked again whatever was found.
        row("supported, old", True, assessed("Supported", OLD), installs=False),
        row("supported, exactly at the limit", True, assessed("Supported", "2026-11-15T00:00:00Z")),
        row("supported, just younger", False, assessed("Supported", "2026-11-15T00:00:00.000001Z")),
        row("supported, at an unknown time", True, assessed("Supported", None), installs=False),
        row("unsupported, fresh", False, assessed("Unsupported", counts={"security": 5})),
        row("unsupported, old for others", False, assessed("Unsupported", OLD)),
        row("unsupported, exactly at its own limit", True, assessed("unsupported", "2026-11-14T00:00:00Z")),
        row("unsupported, just younger", False, assessed("Unsupported", "2026-11-14T00:00:00.000001Z")),
        *[
            row(f"supported, VM id '{vm_id}', {what}", found, assessed("Supported", started), of(vm_id))
            for vm_id, hour in [("0a1", "00"), ("a1", "01"), ("F-9", "09"), ("a", "00"), ("", "00"), ("\u0663", "00")]
            for what, found, started in [
                ("at the limit of its slot", True, f"2026-11-15T{hour}:00:00Z"),
                ("just younger", False, f"2026-11-15T{hour}:00:00.000001Z"),
            ]
        ],
        # No verdict yet: asked for again, however fresh.
        row("unknown", True, assessed("Unknown")),
        row("unknown in other letter case", True, assessed("unknown")),
        row("unable to determine", True, assessed("UnableToDetermine")),
        row("null state", True, assessed(None)),
        row("null state of a failed assessment", True, assessed(None, status="Failed")),
        row("never assessed", True, NEVER),
        row("no verdict, and we do not install", True, NEVER, installs=False),
        # Marketplace images are asked for only with all_images; for them Succeeded without a state is an answer.
        row("marketplace, customized only", False, NEVER, MARKET),
        row("marketplace, all images", True, NEVER, MARKET, all_images=True),
        row("marketplace, null state, succeeded", False, assessed(None), MARKET, all_images=True),
        row(
            "marketplace, null state, succeeded in other letter case",
            False,
            assessed(None, status="succeeded"),
            MARKET,
            all_images=True,
        ),
        row(
            "marketplace, null state, succeeded with warnings",
            False,
            assessed(None, status="CompletedWithWarnings"),
            MARKET,
            all_images=True,
        ),
        row("marketplace, null state, failed", True, assessed(None, status="Failed"), MARKET, all_images=True),
        row("marketplace, null state, pending", True, assessed(None, counts={"security": 1}), MARKET, all_images=True),
        row(
            "marketplace, null state, pending but we do not install",
            False,
            assessed(None, counts={"security": 1}),
            MARKET,
            all_images=True,
            installs=False,
        ),
        row("marketplace, null state, old", True, assessed(None, OLD), MARKET, all_images=True),
        row(
            "marketplace in part is customized",
            True,
            NEVER,
            machine(image={"publisher": "another", "offer": "something"}),
        ),
        # While no window is open: installations for the young alone, assessments for all.
        row("window closed, pending", False, PENDING, window_open=False),
        row("window closed, pending and young", True, PENDING, machine(created=YOUNG), window_open=False),
        row("window closed, pending and just too old", False, PENDING, machine(created=GROWN), window_open=False),
        row(
            "window closed, young, but we do not install",
            False,
            PENDING,
            machine(created=YOUNG),
            window_open=False,
            installs=False,
        ),
        row("window closed, young, nothing pending", False, QUIET, machine(created=YOUNG), window_open=False),
        row("window closed, marketplace", False, MARKET_PENDING, MARKET, window_open=False, all_images=True),
        row("window closed, old assessment", True, assessed("Supported", OLD), window_open=False),
        row("window closed, never assessed", True, NEVER, window_open=False),
        row("window closed, unknown", True, assessed("Unknown"), window_open=False),
        row("window open, pending and old", True, PENDING, window_open=True),
        # Out of reach or out of scope.
        row("powered off", False, NEVER, machine(power="PowerState/deallocated")),
        row("power unknown", False, NEVER, machine(power="")),
        row("running in other letter case", True, NEVER, machine(power="powerstate/Running")),
        row("created at an unknown time", False, NEVER, machine(created="")),
        row("created at an unknown time, and all are in scope", True, NEVER, machine(created=""), any_age=True),
        row("created too early", False, NEVER, machine(created="2026-09-30T23:59:59.9999999Z")),
        row("created at the limit", True, NEVER, machine(created="2026-10-01T00:00:00Z")),
    ],
)
def test_due_machines_narrows(vm: Row, record: Row | None, values: Row, expected: bool) -> None:
    assert due([vm], [record] if record else [], values) == (["vm"] if expected else [])


# -- the narrowing is a superset: whatever decision.py would do on a row of Graph's, due_machines has returned that row


class GraphOfRows(ResourceGraph):
    """The app's own client of Resource Graph, with the evaluator in place of the service."""

    def __init__(self, given: Settings, tables: Mapping[str, Sequence[Row]]) -> None:
        super().__init__(Session(given, lambda: NOW, credential=StaticCredential()))
        self.tables = tables

    async def _pages(self, query: str) -> AsyncIterator[Iterator[Row]]:
        yield (dict(found) for found in evaluate(query, self.tables, NOW).rows)


def before(hours: float, microseconds: int = 0) -> str:
    return (NOW - timedelta(hours=hours, microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# Ages on both sides of every limit below, and on it: least age, freshness, first patching, interval, a week, the scope.
AGES = [
    before(hours, more)
    for hours in (1, 24, 24 - 0.6, 24 - 9 * 0.6, 48, 48 - 1.2, 100, 144, 168, 2000)
    for more in (-1, 0, 1)
]
COUNTS = ["critical", "security", "updateRollup", "featurePack", "servicePack", "definition", "tools", "other", "Other"]
PATCH_SETTINGS: list[Row] = [
    {"patchMode": "ImageDefault"},
    {"patchMode": "AutomaticByPlatform"},
    {
        "patchMode": "AutomaticByPlatform",
        "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True},
    },
]


def mostly(value: Any, others: Sequence[Any]) -> st.SearchStrategy[Any]:
    """One value five times out of six: with everything at random, everything would be left alone."""
    return st.integers(0, 5).flatmap(lambda roll: st.sampled_from(others) if roll == 5 else st.just(value))


@st.composite
def raw_machines(draw: st.DrawFn) -> tuple[Row, Row | None]:
    """A machine as Azure keeps it, and its assessment if it has one."""
    images = [MARKETPLACE_IMAGE, {"id": GALLERY_IMAGE}, {}, {"publisher": "p", "offer": "o"}]
    vm = machine(
        image=draw(st.sampled_from(images)),
        power=draw(mostly("PowerState/running", ["powerstate/Running", "PowerState/stopped", ""])),
        created=draw(st.sampled_from([before(12), before(90), *AGES, ""])),
    )
    vm["properties"]["vmId"] = draw(st.sampled_from(["0f", "1f", "f1", "9", "A", "f"]))
    vm["properties"]["provisioningState"] = draw(mostly("Succeeded", ["Creating"]))
    vm["properties"]["storageProfile"]["osDisk"]["osType"] = draw(st.sampled_from(["Linux", "Windows"]))
    linux = vm["properties"]["osProfile"]["linuxConfiguration"]
    linux["patchSettings"] = draw(mostly(PATCH_SETTINGS[0], PATCH_SETTINGS))
    vm["plan"] = draw(mostly(None, [{"name": "server", "publisher": "p", "product": "q"}]))
    vm["tags"] = draw(mostly({}, [{"patch-mode": "assess"}, {"patch-window": "Sun 00:00-12:00"}]))
    if not draw(st.integers(0, 5)):
        return vm, None
    one_class = st.sampled_from(COUNTS).map(lambda name: {name: 1})
    any_classes = st.dictionaries(st.sampled_from(COUNTS), st.integers(0, 2), max_size=3)
    return vm, assessed(
        draw(mostly("Supported", ["supported", None, "Unsupported", "Unknown", "UnableToDetermine"])),
        draw(mostly(before(2), [None, *AGES])),
        status=draw(mostly("Succeeded", ["succeeded", "Failed", "InProgress", "", "CompletedWithWarnings"])),
        counts=draw(st.one_of(st.none(), one_class, one_class, any_classes)),
    )


@st.composite
def raw_servers(draw: st.DrawFn) -> tuple[Row, Row | None]:
    """An Arc-enabled server as Azure keeps it, and its assessment if it has one."""
    server = deepcopy(ARC_06)
    server["properties"] |= {
        "vmId": draw(st.sampled_from(["0f", "1f", "f1", "9", "A", ""])),
        "status": draw(mostly("Connected", ["connected", "Disconnected", "Expired", "Error", ""])),
        "osType": draw(st.sampled_from(["linux", "Windows"])),
        "parentClusterResourceId": draw(mostly(None, ["/subscriptions/s/clusters/c"])),
    }
    if not draw(st.integers(0, 5)):
        return server, None
    record = deepcopy(ARC_ASSESSED)
    record["properties"] |= {
        "status": draw(mostly("Succeeded", ["succeeded", "Failed", "InProgress", "", "CompletedWithWarnings"])),
        "startDateTime": draw(mostly(before(2), [None, *AGES])),
        "availablePatchCountByClassification": draw(
            st.one_of(st.none(), st.sampled_from(COUNTS).map(lambda n: {n: 1}))
        ),
    }
    state = draw(mostly(None, ["Supported", "Unsupported", "Unknown"]))
    return server, record | {"properties": record["properties"] | {"configurationStatus": readiness(state)}}


async def servers_found_and_decided(
    raw: list[tuple[Row, Row | None]], given: Settings
) -> tuple[set[str], dict[str, Step]]:
    servers = [each | {"id": f"{ARC_06['id']}-{number}"} for number, (each, _) in enumerate(raw)]
    records = [
        each | {"id": each["id"].replace("/arc-06/", f"/arc-06-{number}/")}
        for number, (_, each) in enumerate(raw)
        if each
    ]
    graph = GraphOfRows(given, {"resources": servers, "patchassessmentresources": records})
    due = {found.id.name async for found in graph.due_machines(LONG_AGO, NOW)}
    group = ResourceGroup()
    every = [replace(found.in_resource_group(group), schedule_assigned=False) async for found in graph.census()]
    return due, {each.id.name: next_step(question_of(each, None, given, created_after=NOW, now=NOW)) for each in every}


def allowed(chosen: list[str]) -> bool:
    """Other with Critical needs Security: the settings refuse the rest."""
    return not {"Other", "Critical"} <= {*chosen} or "Security" in chosen


# NOW is a Sunday, 00:00 UTC.
CLOSED, OPEN, SHORT = "Sat 10:00-12:00", "Sat 22:00-04:00", "Sat 23:00-00:10"
environs = st.fixed_dictionaries(
    {"PATCH_MODE": st.sampled_from(["install", "install", "assess", "plan"])},
    optional={
        "PATCH_WINDOW": st.sampled_from([CLOSED, CLOSED, OPEN, SHORT]),
        "PATCH_CANARY_WINDOW": st.sampled_from([CLOSED, OPEN, SHORT]),
        "PATCH_BLACKOUT": st.sampled_from(["2026-11-22", "2026-12-24..2026-12-26"]),
        "PATCH_FIRST_HOURS": st.sampled_from(["0", "48"]),
        "PATCH_IMAGES": st.just("all"),
        "PATCH_SCHEDULED": st.just("include"),
        "PATCH_CLASSIFICATIONS": st.lists(st.sampled_from(CLASSIFICATIONS), min_size=1, max_size=3)
        .filter(allowed)
        .map(",".join),
        "PATCH_PACKAGES_INCLUDE": st.just("openssl*"),
        "PATCH_MIN_INTERVAL_HOURS": st.sampled_from(["24", "100"]),
        "PATCH_ASSESS_HOURS": st.sampled_from(["1", "48", "48", "100", "160"]),
        "PATCH_FRESH_HOURS": st.sampled_from(["1", "100", "160"]),
        "PATCH_MIN_AGE_MINUTES": st.just("0"),
        "PATCH_ASSESS_AFTER_MINUTES": st.just("60"),
        "PATCH_CREATED_AFTER": st.just("always"),
    },
)


async def found_and_decided(
    raw: list[tuple[Row, Row | None]], given: Settings, *, whatever_window: bool = False
) -> tuple[set[str], dict[str, Step]]:
    """Which machines due_machines returns, and what follows for each machine of the census."""
    machines, records = [], []
    for number, (vm, record) in enumerate(raw):
        machines.append(vm | {"id": f"{MACHINES}/VM-{number}"})
        if record:
            records.append(record | {"id": record["id"].replace("/vm/", f"/vm-{number}/")})
    graph = GraphOfRows(given, {"resources": machines, "patchassessmentresources": records})
    since = given.created_after or NOW - timedelta(hours=1999)
    due = {found.id.name async for found in graph.due_machines(since, NOW, whatever_window=whatever_window)}
    every = {found.id.name: found.in_resource_group(ResourceGroup()) async for found in graph.census()}
    return due, {
        name: next_step(question_of(found, None, given, created_after=since, now=NOW)) for name, found in every.items()
    }


@given(st.lists(raw_machines(), min_size=8, max_size=8), environs)
def test_what_the_decision_would_do_is_always_returned(raw: list[tuple[Row, Row | None]], environ: Row) -> None:
    given_settings = settings(**environ)
    returned, decided = asyncio.run(found_and_decided(raw, given_settings))
    assert len(decided) == len(raw)
    missed = {
        name: step for name, step in decided.items() if isinstance(step, Assess | Install) and name not in returned
    }
    assert not missed
    if environ.get("PATCH_WINDOW") == CLOSED and environ.get("PATCH_FIRST_HOURS", "0") == "0":
        installs = [step for step in decided.values() if isinstance(step, Install)]
        assert all(step.only_canary for step in installs)
        assert not installs or environ.get("PATCH_CANARY_WINDOW") == OPEN


@given(st.lists(raw_servers(), min_size=8, max_size=8), environs)
def test_what_the_decision_would_do_to_a_server_is_always_returned(
    raw: list[tuple[Row, Row | None]], environ: Row
) -> None:
    returned, decided = asyncio.run(servers_found_and_decided(raw, settings(**environ, PATCH_ARC="on")))
    assert len(decided) == len(raw)
    assert {name for name, step in decided.items() if isinstance(step, Assess | Install)} <= returned


def test_no_server_is_asked_for_while_arc_is_off() -> None:
    raw: list[tuple[Row, Row | None]] = [(ARC_06, None), (ARC_AWAY, None)]
    assert asyncio.run(servers_found_and_decided(raw, settings())) == (set(), {})


@pytest.mark.parametrize(
    ("window", "of_canaries", "due"),
    [(CLOSED, "", False), (CLOSED, CLOSED, False), (OPEN, "", True), (OPEN, CLOSED, True), (CLOSED, OPEN, True)],
)
async def test_while_no_window_is_open_machines_that_wait_for_it_are_not_returned(
    window: str, of_canaries: str, due: bool
) -> None:
    """The other way round: what the narrowing saves. A grown machine with patches that wait, assessed an hour ago."""
    waiting = (machine(created=before(100)), assessed("Supported", before(1), counts={"security": 1}))
    limits = settings(PATCH_WINDOW=window, PATCH_CANARY_WINDOW=of_canaries)
    returned, decided = await found_and_decided([waiting], limits)
    assert returned == ({"vm-0"} if due else set())
    assert decided["vm-0"].state is (State.DUE if due else State.WAITING_FOR_WINDOW)


@pytest.mark.parametrize(("wanted", "waiting"), [("Critical", "security"), ("Security", "critical")])
async def test_what_linux_installs_with_a_wanted_classification_makes_it_due(wanted: str, waiting: str) -> None:
    linux = (machine(created=before(100)), assessed("Supported", before(1), counts={waiting: 1}))
    returned, decided = await found_and_decided([linux], settings(PATCH_CLASSIFICATIONS=wanted))
    assert isinstance(decided["vm-0"], Install)
    assert returned == {"vm-0"}


# What cannot be read of a patch-group's member → the groups that have to wait for it.
UNREADABLE: dict[str, tuple[list[Row], list[Row], set[str]]] = {
    "its name": ([machine("x" * 90) | {"tags": {"patch-group": "quorum"}}], [], {"quorum"}),
    "its id": ([machine("b") | {"id": "no id", "tags": {"patch-group": "quorum"}}], [], {"quorum"}),
    "the id of the resource group with the tag": (
        [],
        [
            {
                "id": "no id",
                "type": "microsoft.resources/subscriptions/resourcegroups",
                "tags": {"patch-group": "quorum"},
            }
        ],
        {"quorum"},
    ),
}


@pytest.mark.parametrize(("machines", "groups", "wait"), UNREADABLE.values(), ids=UNREADABLE)
async def test_a_member_that_cannot_be_read_counts_as_one_that_is_off(
    machines: list[Row], groups: list[Row], wait: set[str]
) -> None:
    """Its neighbours wait for it; the plan of all others goes on."""
    well = machine("a") | {"tags": {"patch-group": "quorum"}}
    graph = GraphOfRows(settings(), {"resources": [well, *machines], "resourcecontainers": groups})
    found = [item async for item in graph.group_members(["quorum", "other"])]
    assert {item.group for item in found if item.machine is None and not item.running} == wait
    assert [item.machine.name for item in found if item.machine and item.running] == ["a"]


async def test_members_of_a_group_are_found_by_their_own_tag_and_by_their_resource_groups() -> None:
    """In any letter case, of the tag's name too, and however little else can be read of them."""
    off = machine("b", power="PowerState/deallocated") | {"tags": {"Patch-Group": "QUORUM"}}
    off["properties"]["storageProfile"] = None
    by_group = machine("e") | {
        "id": f"{SUBSCRIPTION}/resourceGroups/RG-Pair/providers/Microsoft.Compute/virtualMachines/e"
    }
    others = [machine("c") | {"tags": {}}, machine("d") | {"tags": {"patch-group": "quorum-2"}}]
    pair: Row = {
        "id": f"{SUBSCRIPTION}/resourceGroups/RG-Pair",
        "type": "microsoft.resources/subscriptions/resourcegroups",
    }
    pair["tags"] = {"Patch-Group": "Quorum"}
    tables = {
        "resources": [machine("a") | {"tags": {"patch-group": "quorum"}}, off, by_group, *others],
        "resourcecontainers": [pair],
    }
    graph = GraphOfRows(settings(), tables)
    found = {
        item.machine and item.machine.name: (item.group, item.running) async for item in graph.group_members(["quorum"])
    }
    assert found == {"a": ("quorum", True), "b": ("quorum", False), "e": ("quorum", True)}
    assert [item async for item in GraphOfRows(settings(), tables).group_members([])] == []


async def test_a_forecast_asks_for_those_that_wait_for_their_window_too() -> None:
    waiting = (machine(created=before(100)), assessed("Supported", before(1), counts={"security": 1}))
    closed = settings(PATCH_WINDOW=CLOSED)
    assert (await found_and_decided([waiting], closed))[0] == set()
    returned, decided = await found_and_decided([waiting], closed, whatever_window=True)
    assert returned == {"vm-0"}
    assert decided["vm-0"].state is State.WAITING_FOR_WINDOW


def fleet_at_rest(size: int) -> tuple[list[Row], list[Row]]:
    """Machines that each need nothing for another reason, and their records."""
    kinds: list[tuple[Row, Row | None]] = [
        ({}, assessed("Supported")),
        ({}, assessed("Supported", counts={"other": 4, "definition": 1})),
        ({}, assessed("Unsupported", counts={"security": 3})),
        ({"image": MARKETPLACE_IMAGE}, assessed(None, counts={"security": 2})),
        ({"power": "PowerState/stopped"}, None),
        ({"created": "2026-01-01T00:00:00Z"}, None),
    ]
    machines, records = [], []
    for number in range(size):
        changes, record = kinds[number % len(kinds)]
        name = f"vm-{number:03d}"
        machines.append(machine(name, **changes))
        if record:
            records.append(record | {"id": record["id"].replace("/vm/", f"/{name}/")})
    return machines, records


def test_a_fleet_at_rest_returns_no_row() -> None:
    machines, records = fleet_at_rest(500)
    assert due(machines, records, due_values()) == []


def test_one_machine_in_need_stands_out_of_a_fleet_at_rest() -> None:
    machines, records = fleet_at_rest(500)
    assert due([*machines, machine("new")], records, due_values()) == ["new"]


# ---- how fleet_counts names images and states


# Resource Graph gives one page of a summarize.
SUMMARIES = ("arc_counts", "arc_servers", "fleet_counts", "image_sizes", "subscriptions_seen")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        pytest.param({"id": "/G/Images/A"}, "/g/images/a", id="gallery or managed image"),
        pytest.param({"sharedGalleryImageId": "/SharedGalleries/S"}, "/sharedgalleries/s", id="shared gallery"),
        pytest.param({"communityGalleryImageId": "/Community/C"}, "/community/c", id="community gallery"),
        pytest.param({"publisher": "p", "offer": "o", "sku": "s"}, "marketplace", id="marketplace"),
        pytest.param({"publisher": "p", "offer": "o"}, "none", id="no sku"),
        pytest.param({"publisher": "p", "sku": "s"}, "none", id="no offer"),
        pytest.param({"offer": "o", "sku": "s"}, "none", id="no publisher"),
        pytest.param({}, "none", id="no image"),
    ],
)
def test_fleet_counts_names_the_image(image: Mapping[str, str], name: str) -> None:
    rows = evaluate(queries.fill("fleet_counts"), {"resources": [machine(image=image)]}, NOW).rows
    assert rows == [{"state_name": "absent", "image_name": name, "machines": 1}]


def test_fleet_counts_adds_up_each_image_and_state() -> None:
    states = {"a": "Unsupported", "b": "Supported", "c": "Supported"}
    tables = {
        "resources": [machine(name) for name in [*states, "d"]],
        "patchassessmentresources": [
            assessment(name, "latest", configurationStatus=readiness(state)) for name, state in states.items()
        ],
    }
    rows = evaluate(queries.fill("fleet_counts"), tables, NOW).rows
    assert [(row["state_name"], row["machines"]) for row in rows] == [
        ("Supported", 2),
        ("Unsupported", 1),
        ("absent", 1),
    ]


def test_fleet_counts_asks_for_one_page_and_keeps_the_largest() -> None:
    images = [{"id": f"/images/{number:04}"} for number in range(ROWS_PER_PAGE + 5)]
    tables = {"resources": [machine(f"vm-{number}", image=image) for number, image in enumerate([*images, images[-1]])]}
    rows = evaluate(queries.fill("fleet_counts"), tables, NOW).rows
    assert (len(rows), rows[0]["image_name"], rows[0]["machines"]) == (ROWS_PER_PAGE, images[-1]["id"], 2)


# ---- what stopped_machines lists

STOPPED: dict[str, tuple[dict[str, Any], str | None, bool]] = {
    "deallocated, Supported": ({}, "Supported", True),
    "in other letter case": ({"power": "powerstate/Deallocated"}, "Supported", True),
    "never assessed": ({}, None, True),
    "running": ({"power": "PowerState/running"}, "Supported", False),
    "shut down from inside": ({"power": "PowerState/stopped"}, "Supported", False),
    "being deallocated": ({"power": "PowerState/deallocating"}, "Supported", False),
    "Azure does not say": ({"power": ""}, "Supported", False),
    "Unsupported, which the decision leaves alone": ({}, "Unsupported", True),
    "too old": ({"created": "2026-09-30T08:00:00Z"}, "Supported", False),
    "a marketplace image": ({"image": MARKETPLACE_IMAGE}, "Supported", False),
}


@pytest.mark.parametrize(("about", "state", "listed"), STOPPED.values(), ids=STOPPED)
def test_stopped_machines_lists_what_may_be_started(about: dict[str, Any], state: str | None, listed: bool) -> None:
    created_after = datetime(2026, 10, 1, tzinfo=UTC)
    query = queries.fill("stopped_machines", created_after=created_after, all_images=False, any_age=False)
    tables = {
        "resources": [machine(**{"power": "PowerState/deallocated", **about})],
        "patchassessmentresources": [assessed(state)] if state else [],
    }
    assert bool(evaluate(query, tables, NOW).rows) is listed


def test_stopped_machines_lists_no_member_of_a_scale_set() -> None:
    member = machine(power="PowerState/deallocated")
    member["properties"]["virtualMachineScaleSet"] = {
        "id": f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/s"
    }
    created_after = datetime(2026, 10, 1, tzinfo=UTC)
    query = queries.fill("stopped_machines", created_after=created_after, all_images=True, any_age=True)
    assert evaluate(query, {"resources": [member]}, NOW).rows == []


# ---- how image_sizes counts


@pytest.mark.parametrize(
    ("values", "machines"),
    [
        pytest.param({}, {"web": 2}, id="customized images, created since"),
        pytest.param({"all_images": True}, {"web": 2, "market": 1}, id="all images"),
        pytest.param({"any_age": True}, {"web": 3}, id="of any age"),
    ],
)
def test_image_sizes_counts_the_machines_in_scope(values: Row, machines: Mapping[str, int]) -> None:
    web, market = {"id": "web", "exactVersion": "1"}, {"publisher": "market", "offer": "o", "sku": "s", "version": "1"}
    rows = [
        machine("vm-1", image=web, power="PowerState/deallocated"),
        machine("vm-2", image=web),
        machine("vm-3", image=web, created="2026-09-30T08:00:00Z"),
        machine("vm-4", image=market),
    ]
    asked = {
        "created_after": datetime(2026, 10, 1, tzinfo=UTC),
        "all_images": False,
        "any_age": False,
        "arc": False,
        **values,
    }
    found = evaluate(queries.fill("image_sizes", **asked), {"resources": rows}, NOW).rows
    references = [json.loads(row["reference"]) for row in found]
    names = [reference.get("id") or reference["publisher"] for reference in references]
    assert {name: row["machines"] for name, row in zip(names, found, strict=True)} == machines


GALLERY = f"{GROUP}/providers/Microsoft.Compute/galleries/g/images/web"


@pytest.mark.parametrize(
    "image",
    [
        pytest.param({"id": GALLERY_IMAGE, "exactVersion": "1.0.0"}, id="gallery, a version"),
        pytest.param({"id": GALLERY, "exactVersion": "1.0.0"}, id="gallery, the newest version"),
        pytest.param({"id": GALLERY}, id="gallery, no version known"),
        pytest.param({"id": f"{GALLERY}/versions/latest"}, id="gallery, latest"),
        pytest.param({"sharedGalleryImageId": "/SharedGalleries/s/Images/a/Versions/latest"}, id="shared gallery"),
        pytest.param({"communityGalleryImageId": "/CommunityGalleries/c/Images/a"}, id="community gallery"),
        pytest.param({"id": MANAGED_IMAGE}, id="managed image"),
        pytest.param({"publisher": "P", "offer": "o", "sku": "s", "version": "latest"}, id="marketplace, latest"),
        pytest.param(
            {"publisher": "P", "offer": "o", "sku": "s", "version": "latest", "exactVersion": "1.2"}, id="marketplace"
        ),
        pytest.param({}, id="no image"),
    ],
)
def test_a_machine_is_counted_under_the_key_of_its_image(image: Mapping[str, str]) -> None:
    days = ("2026-11-01T08:00:00Z", "2026-11-01T23:59:00Z", "2026-11-02T00:00:00Z")
    tables = {"resources": [machine(f"vm-{number}", image=image, created=at) for number, at in enumerate(days)]}
    counted: Counter[str] = Counter()
    for row in evaluate(
        queries.fill("image_sizes", created_after=LONG_AGO, all_images=True, any_age=True, arc=False), tables, NOW
    ).rows:
        key, count = image_size_from_graph(row)
        counted[key] += count
    census = evaluate(queries.fill("census", shares=["00"]), tables, NOW).rows
    assert counted == Counter(machine_from_graph(row).image.key for row in census)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"reference": "{", "machines": 1}, id="no JSON"),
        pytest.param({"reference": "[" * 100_000, "machines": 1}, id="nested too deep"),
        pytest.param({"reference": "[]", "machines": 1}, id="no object"),
        pytest.param({"reference": '{"id":1}', "machines": 1}, id="an id that is not a text"),
        pytest.param({"reference": "", "machines": "1"}, id="no number"),
        pytest.param({"reference": "", "machines": -1}, id="fewer than none"),
        pytest.param({"reference": "", "machines": 1, "created": "today"}, id="no time"),
    ],
)
def test_a_row_of_image_sizes_that_cannot_be_read(row: Row) -> None:
    with pytest.raises(BadInput):
        image_size_from_graph(row)


# ---- the official language service

INSTALL = "run `npm ci --prefix simulator/node` (make test does it)"


def official_answers(texts: Mapping[str, str]) -> Mapping[str, Any]:
    """What the Kusto language service and Resource Graph's rules say of each text. One process for all: it starts
    slowly. Its absence fails the test: these rules have no other guard."""
    node = shutil.which(os.environ.get("NODE", "node"))
    if node is None:
        pytest.fail("no Node: install Node 20 or newer, or set NODE to the program", pytrace=False)
    if not (SIMULATOR / "node" / "node_modules" / "@kusto").is_dir():
        pytest.fail(f"the Kusto language service is not installed: {INSTALL}", pytrace=False)
    done = subprocess.run(
        [node, SIMULATOR / "node" / "kql-check.js", SIMULATOR / "resource_graph" / "kql" / "schema.json"],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"kql-check.js: {done.stderr.strip()}", pytrace=False)
    answers: Mapping[str, Any] = json.loads(done.stdout)
    return answers


ASSESSMENTS = "(patchassessmentresources | project id, properties) on"
# Mistakes by name: the text, the code the checker gives, and what the evaluator raises. It accepts what is right Kusto
# and only too much for Resource Graph: limits are the checker's part.
MISTAKES: Mapping[str, tuple[str, str, type[Exception] | None]] = {
    "unknown column": ("resources | where Type == 'x'", "KS142", KqlError),
    "unknown table": ("resource | where type == 'x'", "KS204", KqlError),
    "misspelt function": ("resources | project a = tostrin(id)", "KS211", Unsupported),
    "let": ("let t = 'x'; resources | where type == t", "ARG005", Unsupported),
    "forbidden join kind": (f"resources | join kind=leftanti {ASSESSMENTS} id", "ARG002", None),
    "dynamic join key": (f"resources | join kind=leftouter {ASSESSMENTS} properties", "ARG004", KqlError),
    "join key on one side": (f"resources | join kind=leftouter {ASSESSMENTS} name", "KS145", KqlError),
    "join key of two types": (
        "resources | join kind=leftouter (patchassessmentresources | project id = 1) on id",
        "KS227",
        KqlError,
    ),
    "dynamic group key": ("resources | summarize count() by t = properties.a", "KS116", KqlError),
    "dynamic sort key": ("resources | order by properties.a asc", "KS116", KqlError),
    "operator outside the list": ("resources | project-keep id", "ARG001", None),
    "text plus text": ("resources | project a = id + name", "KS106", KqlError),
    "time against text": ("resources | where todatetime(id) > id", "KS106", KqlError),
    "time against dynamic": ("resources | where todatetime(id) > properties.a", "KS106", None),  # the portal asks so
    "text as a predicate": ("resources | where id", "KS141", KqlError),
    "not of text": ("resources | where not(id)", "KS107", KqlError),
    "too few arguments": ("resources | project a = iff(true, 1)", "KS119", KqlError),
    "coalesce of two types": ("resources | project a = coalesce(id, 1)", "KS232", KqlError),
    "coalesce of dynamic and text": ("resources | project a = coalesce(tags.a, '')", "KS141", KqlError),
    "member of text": ("resources | project a = id.name", "KS142", KqlError),
    "column named twice": ("resources | project a = id, a = name", "KS171", KqlError),
    "column named twice by a conversion": ("resources | project tostring(name), name", "KS171", Unsupported),
    "aggregate named twice": ("resources | summarize a = count(), a = dcount(id)", "KS171", KqlError),
    "column of the same extend": ("resources | extend a = 1, b = a", "KS142", KqlError),
    "empty list": ("resources | where id in~ ()", "KS006", KqlError),
    "project-away of nothing": ("resources | project-away nothing", "KS142", KqlError),
    "unterminated text": ("resources | where id == 'x", "KS001", Unsupported),
    "three mv-expand": ("resources | mv-expand tags | mv-expand zones | mv-expand plan", "ARG003", None),
    "two joins across tables": (
        f"resources | join kind=leftouter {ASSESSMENTS} id"
        " | join kind=leftouter (patchinstallationresources | project id) on id",
        "ARG006",
        None,
    ),
    "one table joined twice": (
        f"resources | join kind=leftouter {ASSESSMENTS} id | join kind=leftouter {ASSESSMENTS} id",
        "ARG007",
        None,
    ),
}
# Right queries by name, where the evaluator's static types and names could differ from the official ones.
AGREEMENTS: Mapping[str, str] = {
    "every column": "Resources",
    "coalesce of int and long": "resources | project a = coalesce(toint(tags.a), 0)",
    "coalesce of int": "resources | project a = coalesce(toint(tags.a), toint(tags.b))",
    "iff of long and int": "resources | project a = iff(true, 0, toint(tags.a)), b = iif(id == '', id, name)",
    "int plus int": "resources | project a = toint(tags.a) + toint(tags.b), b = toint(tags.a) - 1",
    "casts": "resources | project a = toint(id), b = tolong(id), c = tobool(id), d = todatetime(id), e = tostring(1)",
    "tests": "resources | project a = isnull(tags), b = isnotempty(id), c = id in ('a'), d = not(true), e = 1 < 2",
    "letter case": "resources | project a = tolower(tags.a), b = toupper(id)",
    "steps into dynamic": "resources | project a = tags.a.b, b = tags['c'], c = split(id, '/'), d = split(id, '/')[2]",
    "moments": "resources | project a = now(), b = ago(7d), c = datetime(2026-11-22T01:02:03.4567891Z)",
    "extend in place": "resources | extend id = 1, fresh = name | project-away properties, tags",
    "joined names": (
        "resources | project id, id1 = 1 | join kind=leftouter"
        " (patchassessmentresources | project id, id1 = tags, id3 = name) on id"
    ),
    "joined twin names": (
        "resources | project id, name"
        " | join kind=leftouter (patchassessmentresources | project id, name, name1 = tags) on id, name"
    ),
    "summarize": "resources | summarize count() by location, k = tolower(kind)",
    "summarize without keys": "resources | summarize n = count()",
    "summarize keys only": "resources | summarize by location",
    "names of paths": "resources | project properties.a, tostring(properties.b.c), tags['x y'], properties.list[0]",
    "names of paths that meet": (
        "resources | project tostring(tags.a), tags.a, split(id, '/')[8], toint(split(id, '/')[8])"
    ),
    "names of conversions": "resources | project tolong(tags.n), todouble(tags.r), todatetime(id), totimespan(name)",
    "names of calls": (
        "resources | project tolower(name), strlen(name), strcat(id, name), iff(true, 1, 2), isnull(tags), now(), -1,"
        " array_length(zones), bag_keys(tags), substring(name, 1), extract('a', 0, id), pack('a', 1), 1 + 2"
    ),
    "names of times": (
        "resources | extend t = now() | project bin(t, 1d), startofday(t), datetime_add('day', 1, t), t - ago(1d),"
        " datetime_diff('day', t, t), make_datetime(2026, 1, 1), (t - t) / 1h, t + 1h"
    ),
    "names of texts": (
        "resources | project replace_string(id, 'a', 'b'), indexof(id, 'a'), trim('a', id), strcat_array(zones, ','),"
        " parse_json(id), todynamic(name), coalesce(id, name), case(true, 1, 2), id matches regex 'a'"
    ),
    "names through steps": "resources | extend 1 + 1, strlen(id) | project 2 + 2 | summarize sum(Column2) + count()",
    "names in joins": "resources | extend 1 + 1 | join kind=inner (resources | extend 2 + 2, 3) on id | project 4",
    "names of keys as columns": "resources | project id, n = 1 | summarize arg_max(n, *) by k = tostring(id)",
    "names of keys as computed columns": "resources | project id, n = 1 | summarize arg_max(n, *) by id = tolower(id)",
    "names in extend": "resources | extend tolower(name), strlen(name), properties.mode, split(id, '/')",
    "a named argument": "resources | extend tostring(group = split(id, '/', 4))",
    "names of aggregates": (
        "resources | extend n = strlen(id), r = 1.5 | summarize max(n), min(n), sum(n), avg(n), dcount(id), count(),"
        " countif(n > 1), sumif(n, n > 1), make_set(name), make_list(name), take_any(kind), percentile(n, 50),"
        " max(n + 1), sum(toint(tags.a)), sum(n) / count(), maxif(r, n > 1), dcountif(id, n > 1), any(name) by location"
    ),
    "names of aggregates that meet": "resources | summarize count(), count(), count_ = dcount(id), max(strlen(id))",
    "names of keys": (
        "resources | summarize count() by tolower(name), tostring(tags.a), bin(now(), 1d), strlen(name), k = kind"
    ),
    "arg_max beside its key": "resources | extend n = 1 | summarize arg_max(n, name), c = count() by name",
    "arg_max of what is computed": "resources | summarize arg_max(todatetime(tags.at), *) by name",
    "arg_max with a name": "resources | extend n = 1 | summarize newest = arg_max(n, name, tags.a) by id",
    "arg_min of a sum": "resources | summarize arg_min(1 + 2, name), n = count() by id",
    "choices": (
        "resources | project a = iff(true, tags.a, 'x'), b = case(true, 1, 2.5), c = iff(true, now(), tags.a),"
        " d = coalesce(1, 1.5), e = coalesce(tags.a, tags.b), f = iff(true, tags.a, tags.b), g = case(true, 1, 2)"
    ),
    "comparisons of dynamics": (
        "resources | project a = tags.a == 'x', b = tags.a =~ tags.b, c = tags.a > 1, d = tags.a in ('x'),"
        " e = tags has 'x', f = tags.a == true, g = tags.a between (1 .. 2)"
    ),
    "numbers": "resources | extend n = strlen(id) | project n / 2, n % 2, n / 1.5, -n, toint(1.5), tolong(id)",
    "count and distinct": "resources | distinct tolower(name), kind | count",
    "top": "resources | top 3 by name asc | project id",
    "a query in brackets": "(resources | take 1) | project id, name",
    "project-rename": "resources | project id, name | project-rename machine = name",
    "stars": "resources | project-away t*, *Id, properties",
    "quoted names": "resources | extend ['a b'] = ['name'] | project ['a b']",
    "mv-expand": "resources | mv-expand zones | mv-expand zone = tags.zones to typeof(string)",
    "mv-expand of a path": "resources | mv-expand properties.list",
    "parse": "resources | parse id with '/subscriptions/' subscription '/' * | parse name with n:long '-' rest",
    "left and right": (
        "resources | join kind=inner (patchassessmentresources | project machine = name, count_ = 1)"
        " on $left.name == $right.machine"
    ),
    "innerunique": "resources | join (patchassessmentresources) on id, $left.name == $right.name",
    "union": "union (resources | project id, n = 1), (patchassessmentresources | project id, t = tags)",
    "sorted": "resources | project id, name | sort by id asc nulls last, name",
}


@pytest.fixture(scope="module")
def official() -> Mapping[str, Any]:
    mistakes = {name: text for name, (text, _, _) in MISTAKES.items()}
    return official_answers({**filled(), **mistakes, **AGREEMENTS})


@pytest.mark.parametrize("name", queries.names())
def test_the_language_service_finds_nothing(name: str, official: Mapping[str, Any]) -> None:
    assert official[name]["diagnostics"] == []


@pytest.mark.parametrize("name", MISTAKES)
def test_the_checker_finds_the_mistake(name: str, official: Mapping[str, Any]) -> None:
    _, code, _ = MISTAKES[name]
    assert code in {diagnostic["code"] for diagnostic in official[name]["diagnostics"]}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_evaluator_fails_on_the_mistake_even_over_no_rows(name: str) -> None:
    text, _, error = MISTAKES[name]
    if error is None:
        evaluate(text, {}, NOW)
    else:
        with pytest.raises(error):
            evaluate(text, {}, NOW)


@pytest.mark.parametrize("name", [*queries.names(), *AGREEMENTS])
def test_columns_are_the_official_ones(name: str, official: Mapping[str, Any]) -> None:
    text = {**filled(), **AGREEMENTS}[name]
    assert official[name]["diagnostics"] == []
    assert [list(column) for column in evaluate(text, {}, NOW).columns] == official[name]["columns"]


# ---- the shape the app relies on


def joins_of(query: syntax.Query) -> int:
    """Joins at any depth."""
    found = [operator for operator in query.operators if isinstance(operator, syntax.Join)]
    return len(found) + sum(joins_of(join.right) for join in found)


@pytest.mark.parametrize("name", queries.names())
def test_keeps_to_what_resource_graph_allows(name: str) -> None:
    text, tree = filled()[name], parse(filled()[name])
    assert joins_of(tree) <= 1
    assert not re.search(r"\blet\b", text)
    assert len(re.findall(r"\bmv-?expand\b", text)) <= 2


@pytest.mark.parametrize("name", queries.names())
def test_ends_sorted_so_that_pages_repeat(name: str) -> None:
    assert isinstance(parse(filled()[name]).operators[-1], syntax.Sort)


@pytest.mark.parametrize("name", [name for name in queries.names() if name not in SUMMARIES])
def test_can_page(name: str) -> None:
    """A continuation needs the id in the answer and a sort by it; summarize gives a first page only."""
    tree = parse(filled()[name])
    last = tree.operators[-1]
    assert isinstance(last, syntax.Sort)
    [key] = last.keys
    assert isinstance(key.expression, syntax.Column)
    assert (key.expression.name, key.descending) == ("id", False)
    assert "id" in dict(evaluate(filled()[name], {}, NOW).columns)
    assert "summarize" not in filled()[name]


# ---- filling


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a'b", id="single quote"),
        pytest.param('a"b', id="double quote"),
        pytest.param("a\\", id="backslash"),
        pytest.param("a\nb", id="newline"),
        pytest.param("a\rb", id="carriage return"),
        pytest.param("a|b", id="pipe"),
        pytest.param("a;b", id="semicolon"),
        pytest.param("", id="nothing"),
    ],
)
@pytest.mark.parametrize("name", ["groups_named", "installations_of", "named_machines"])
def test_fill_refuses_text_that_is_not_an_id(name: str, text: str) -> None:
    with pytest.raises(BadInput, match="an id in a query"):
        queries.fill(name, ids=[GROUP, text])


@pytest.mark.parametrize("missing", sorted(queries.placeholders("due_machines")))
def test_fill_refuses_a_missing_value(missing: str) -> None:
    values = due_values()
    del values[missing]
    with pytest.raises(KeyError, match=missing):
        queries.fill("due_machines", **values)


@pytest.mark.parametrize("name", queries.names())
def test_no_placeholder_stays_open(name: str) -> None:
    assert "{" not in filled()[name]
    assert "// include" not in filled()[name]
