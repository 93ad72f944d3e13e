"""Machines as Resource Graph and Resource Manager show them, as many as are asked for, each a little different.

Half run Windows, a quarter carries tags of the app, and all wait for patches: every one is due.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
PER_SUBSCRIPTION = 5000
PER_GROUP = 50
REGIONS = ("westeurope", "northeurope", "eastus", "westus2")
_RINGS: tuple[dict[str, str], ...] = (
    {},
    {"patch-ring": "1"},
    {"patch-ring": "2", "patch-window": "Sat 22:00-04:00 UTC"},
    {},
)


def subscription(number: int) -> str:
    return str(uuid.UUID(int=1 + number // PER_SUBSCRIPTION))


def group_id(number: int) -> str:
    return f"/subscriptions/{subscription(number)}/resourceGroups/RG-{number // PER_GROUP:05d}"


def machine_id(number: int) -> str:
    """As Azure writes it: sorted by number within a subscription."""
    return f"{group_id(number)}/providers/Microsoft.Compute/virtualMachines/vm-{number:06d}"


def image_id(number: int, images: int) -> str:
    """Of one of so many images, each in the gallery of the machine's subscription."""
    gallery = f"/subscriptions/{subscription(number)}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries/g"
    return f"{gallery}/images/image-{number % images:04d}/versions/1.0.0"


def vm_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))


def graph_row(number: int, images: int) -> dict[str, Any]:
    """A row with the columns of _machine_columns.kql: Supported, patches waiting, assessed within a day."""
    windows = number % 2 == 0
    assessed = NOW - timedelta(minutes=30 + number % 600)
    return {
        "id": machine_id(number),
        "location": REGIONS[number % len(REGIONS)],
        "tags": {
            "environment": "production",
            "costCentre": f"cc-{number % 97:04d}",
            "owner": f"team-{number % 41}@example.com",
            "application": f"application-{number % 211}",
            "createdBy": "terraform",
            **_RINGS[number % len(_RINGS)],
        },
        "managedBy": "",
        "plan": None,
        "image": {"id": image_id(number, images), "exactVersion": "1.0.0"},
        "is_marketplace": False,
        "vm_id": vm_id(number),
        "created": _azure(NOW - timedelta(days=30 + number % 200)),
        "provisioning_state": "Succeeded",
        "power_code": "PowerState/running",
        "os_type": "Windows" if windows else "Linux",
        "create_option": "FromImage",
        "scale_set": "",
        "availability_set": "",
        "has_os_profile": True,
        "allow_extensions": True,
        "windows": {
            "provisionVMAgent": True,
            "enableAutomaticUpdates": False,
            "patchSettings": {"patchMode": "Manual", "assessmentMode": "ImageDefault"},
        }
        if windows
        else None,
        "linux": None
        if windows
        else {
            "disablePasswordAuthentication": True,
            "provisionVMAgent": True,
            "patchSettings": {"patchMode": "ImageDefault", "assessmentMode": "ImageDefault"},
        },
        "assessment_id": str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))),
        "assessment_status": "Succeeded",
        "assessment_started": _azure(assessed),
        "assessment_modified": _azure(assessed + timedelta(minutes=2)),
        "support_state": "Supported",
        "reboot_pending": False,
        "counts": {"critical": 1, "security": 2 + number % 5, "other": number % 7},
    }


def graph_rows(count: int, images: int) -> Iterator[bytes]:
    """The rows as JSON, sorted by id."""
    for number in range(count):
        yield json.dumps(graph_row(number, images)).encode()


def arm_machine(machine: str) -> dict[str, Any]:
    """GET of a machine with its instance view: ready, and never assessed."""
    image = machine.partition("/providers/")[0] + "/providers/Microsoft.Compute/galleries/g/images/web/versions/1.0.0"
    return {
        "id": machine,
        "name": machine.rpartition("/")[2],
        "type": "Microsoft.Compute/virtualMachines",
        "location": "westeurope",
        "tags": {"environment": "production"},
        "properties": {
            "vmId": str(uuid.uuid5(uuid.NAMESPACE_OID, machine)),
            "timeCreated": _azure(NOW - timedelta(days=2)),
            "provisioningState": "Succeeded",
            "hardwareProfile": {"vmSize": "Standard_D2s_v5"},
            "storageProfile": {
                "osDisk": {"osType": "Linux", "createOption": "FromImage"},
                "imageReference": {"id": image},
            },
            "osProfile": {"linuxConfiguration": {"patchSettings": {"patchMode": "ImageDefault"}}},
            "instanceView": {
                "vmAgent": {
                    "vmAgentVersion": "2.9.1.1",
                    "statuses": [{"code": "ProvisioningState/succeeded", "displayStatus": "Ready"}],
                },
                "statuses": [{"code": "ProvisioningState/succeeded"}, {"code": "PowerState/running"}],
            },
        },
    }


def _azure(moment: datetime) -> str:
    """With seven digits of a second, as Azure writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.1234567Z")
