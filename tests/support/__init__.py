"""Small builders that the tests share: a machine that is due for an installation, its settings, its row.

A test names only what it is about: `a_machine(power=PowerState.STOPPED)`, `settings(PATCH_MODE="assess")`. Settings go
through the app's own reader, so that a test cannot hold a value which no app setting could give.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from functions.model.machine import (
    Image,
    ImageKind,
    Machine,
    MachineId,
    OsType,
    PatchAssessment,
    PatchOrchestration,
    PatchStatus,
    PowerState,
    ResourceGroup,
    SupportState,
)
from functions.model.record import Ending, Flight, History, Record
from functions.model.state import Cause, OperationKind, Phase, State, Wait
from functions.policy.settings import Settings, read_settings

PAYLOADS = Path(__file__).parent.parent / "recordings"
REPOSITORY = Path(__file__).parent.parent.parent

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
VM_ID = "00000000-0000-0000-0000-0000000000a1"
ASSESSMENT = "68f8b292-dfc2-4646-9781-33cc88631968"
INSTALLATION = "68f8b292-dfc2-4646-9981-33cc88631968"
OPERATION = "ef006a14-6e54-4c14-850b-e81996f3ed81"
GALLERY_IMAGE = (
    f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg-images/providers/microsoft.compute"
    "/galleries/g/images/web/versions/1.0.0"
)
OPERATION_URL = (
    f"https://management.azure.com/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/westeurope"
    f"/operations/{OPERATION}?p=0&api-version=2024-11-01&t=1&c=cert&s=signature&h=hash"
)

# What an app must be given: where its storage is, and when its sweep runs.
REQUIRED: Mapping[str, str] = {
    "AzureWebJobsStorage__accountName": "patcherstorage",
    "RECONCILE_SCHEDULE": "0 */5 * * * *",
}


def settings(**environ: str) -> Settings:
    """The settings of an app that may install at any time, with the named app settings put in."""
    return read_settings({**REQUIRED, "PATCH_MODE": "install", "PATCH_WINDOW": "any", **environ})


def machine_id(name: str = "vm-01", group: str = "rg-prod", subscription: str = SUBSCRIPTION) -> MachineId:
    return MachineId(subscription, group, name)


def a_verdict(**changes: Any) -> PatchAssessment:
    """Supported, found an hour ago, with three patches of the default classifications and one other waiting."""
    verdict = PatchAssessment(
        state=SupportState.SUPPORTED,
        assessment_id=ASSESSMENT,
        assessed=NOW - HOUR,
        status="Succeeded",
        counts={"critical": 1, "security": 2, "other": 1},
    )
    return replace(verdict, **changes)


def a_status(**changes: Any) -> PatchStatus:
    """An assessment or installation that succeeded an hour ago."""
    return replace(PatchStatus(ASSESSMENT, "Succeeded", NOW - HOUR, NOW - HOUR + 2 * MINUTE), **changes)


def a_machine(**changes: Any) -> Machine:
    """A Linux machine from a gallery image, two days old, ready, as its instance view and Graph show it: to install."""
    machine = Machine(
        id=machine_id(),
        vm_id=VM_ID,
        location="westeurope",
        os_type=OsType.LINUX,
        image=Image(ImageKind.GALLERY, GALLERY_IMAGE),
        created=NOW - 2 * DAY,
        provisioning_state="Succeeded",
        power=PowerState.RUNNING,
        resource_group=ResourceGroup(),
        patchers=PatchOrchestration.US,
        agent_ready=True,
        busy_extensions=(),
        verdict=a_verdict(),
    )
    return replace(machine, **changes)


_HISTORY = {field.name for field in fields(History)}
_FLIGHT = {field.name for field in fields(Flight)}
_ENDING = {"outcome", "ended_at", "at_fault", "neutral", "unwell_since"}
_WAIT = {"cause", "state", "reason", "remedy", "not_before"}


def a_record(**changes: Any) -> Record:
    """A claim for an assessment whose message is on its way. A change may name a field of a phase, as columns do."""
    given = {name: changes.pop(name) for name in list(changes) if name in _HISTORY | _FLIGHT | _ENDING | _WAIT}
    record = Record(
        machine=machine_id(),
        phase=Phase.QUEUED,
        kind=OperationKind.ASSESS,
        token="token-1",
        vm_id=VM_ID,
        image=GALLERY_IMAGE,
        region="westeurope",
        due_at=NOW,
        sent=True,
    )
    record = replace(record, **changes)
    record = replace(record, history=History(**{name: given[name] for name in given if name in _HISTORY}))
    flight = {name: given[name] for name in given if name in _FLIGHT}
    ending = {name: given[name] for name in given if name in _ENDING}
    wait = a_wait(**{name: given[name] for name in given if name in _WAIT})
    if flight or record.phase in (Phase.STARTING, Phase.RUNNING, Phase.ENDED):
        begun_at: dict[str, Any] = {"begun_at": given.get("started_at") or NOW}
        record = replace(record, flight=Flight(**begun_at | flight))
    if ending or record.phase is Phase.ENDED:
        at = ending.pop("ended_at", NOW) or NOW
        trouble = wait if record.phase is Phase.ENDED and wait.reason else None
        record = replace(record, ending=Ending(**{"outcome": "Succeeded"} | ending, at=at, trouble=trouble))
    return replace(record, hold=wait) if record.phase is Phase.HELD else record


def a_wait(
    *,
    state: State | str = State.FAILED,
    reason: str = "",
    remedy: str = "",
    not_before: datetime | None = None,
    cause: Cause = Cause.TRANSIENT,
) -> Wait:
    """A hold, or what follows once an outcome is visible."""
    return Wait(State(state), reason, remedy, not_before, cause)


def held(record: Record | None) -> Wait:
    """The hold of a record that must have one."""
    assert record is not None
    assert record.hold is not None, record.phase
    return record.hold


def an_arm_machine(**changes: Any) -> dict[str, Any]:
    """GET virtualMachines/{name}?$expand=instanceView, as far as the app reads it. `changes` are merged in, deep."""
    body: dict[str, Any] = {
        "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Prod/providers/Microsoft.Compute/virtualMachines/VM-01",
        "location": "westeurope",
        "tags": {},
        "properties": {
            "vmId": VM_ID.upper(),
            "timeCreated": "2026-11-23T12:00:00.1234567+00:00",
            "provisioningState": "Succeeded",
            "storageProfile": {"osDisk": {"osType": "Linux"}, "imageReference": {"id": GALLERY_IMAGE}},
            "osProfile": {"linuxConfiguration": {"patchSettings": {"patchMode": "ImageDefault"}}},
            "instanceView": {
                "vmAgent": {"statuses": [{"code": "ProvisioningState/succeeded", "displayStatus": "Ready"}]},
                "statuses": [{"code": "ProvisioningState/succeeded"}, {"code": "PowerState/running"}],
            },
        },
    }
    return merged(body, changes)


def a_graph_row(**changes: Any) -> dict[str, Any]:
    """A row with the columns of queries/_machine_columns.kql."""
    row: dict[str, Any] = {
        "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Prod/providers/Microsoft.Compute/virtualMachines/VM-01",
        "location": "westeurope",
        "tags": {},
        "managedBy": "",
        "plan": None,
        "image": {"id": GALLERY_IMAGE},
        "is_marketplace": False,
        "vm_id": VM_ID,
        "created": "2026-11-23T12:00:00.1234567Z",
        "provisioning_state": "Succeeded",
        "power_code": "PowerState/running",
        "os_type": "Linux",
        "create_option": "FromImage",
        "scale_set": "",
        "availability_set": "",
        "has_os_profile": True,
        "allow_extensions": True,
        "windows": None,
        "linux": {"patchSettings": {"patchMode": "ImageDefault"}},
        "assessment_id": ASSESSMENT,
        "assessment_status": "Succeeded",
        "assessment_started": "2026-11-25T11:00:00.0000000Z",
        "assessment_modified": "2026-11-25T11:02:00.0000000Z",
        "support_state": "Supported",
        "reboot_pending": False,
        "counts": {"critical": 1, "security": 2, "other": 1},
    }
    return row | changes


def merged(body: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with `changes` put in: objects are merged, everything else is replaced."""
    result = dict(body)
    for name, value in changes.items():
        old = result.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[name] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result
