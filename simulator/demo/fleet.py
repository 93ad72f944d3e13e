"""The machines of the demo, one for each case that the app must handle, and the expected end of each.

Only data, and what people and guests do during the run: nothing here starts or checks anything. The expected end of a
machine is written by hand from the design, never computed from what the app says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Behaviour, Fault

_SUBSCRIPTION_ID = f"/subscriptions/{SUBSCRIPTION}"
_GALLERY = f"{_SUBSCRIPTION_ID}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries/golden/images"
_MANAGED = f"{_SUBSCRIPTION_ID}/resourceGroups/rg-images/providers/Microsoft.Compute/images/erp-2025"

# Each region has a quota of its own.
REGIONS = ("westeurope", "northeurope", "swedencentral", "francecentral")
# Resource groups: name → what its PUT says besides the location.
GROUPS: Mapping[str, Mapping[str, Any]] = {
    "rg-shop": {"tags": {"owner": "shop"}},
    "rg-office": {"tags": {"owner": "office"}},
    "rg-lab": {"tags": {"patch-mode": "off"}},
    "MC_shop_aks_westeurope": {},
    "rg-plant": {"tags": {"owner": "plant"}},
}
_SCALE_SET = f"{_SUBSCRIPTION_ID}/resourceGroups/rg-shop/providers/Microsoft.Compute/virtualMachineScaleSets/carts"
# Scale sets: id → the properties of its PUT. This one leaves its members alone.
SCALE_SETS: Mapping[str, Mapping[str, Any]] = {
    _SCALE_SET: {"orchestrationMode": "Flexible", "upgradePolicy": {"mode": "Manual"}},
}

# Of each image version, one machine (the canary) is patched before the others.
GENERALIZED = {"id": f"{_GALLERY}/web/versions/1.4.0"}
GENERALIZED_API = {"id": f"{_GALLERY}/api/versions/2.0.0"}
GENERALIZED_BATCH = {"id": f"{_GALLERY}/batch/versions/1.0.3"}
GENERALIZED_KIOSK = {"id": f"{_GALLERY}/kiosk/versions/9.9.0"}
GENERALIZED_NIGHT = {"id": f"{_GALLERY}/night/versions/1.2.0"}
SPECIALIZED = {"id": f"{_GALLERY}/database/versions/3.0.1"}
SHARED = {"sharedGalleryImageId": f"/sharedGalleries/{SUBSCRIPTION}-golden/images/app/versions/2.1.0"}
COMMUNITY = {"communityGalleryImageId": "/communityGalleries/golden-5f3a/images/app/versions/7.0.0"}
MANAGED = {"id": _MANAGED}
UBUNTU = {
    "publisher": "Canonical",
    "offer": "0001-com-ubuntu-server-jammy",
    "sku": "22_04-lts-gen2",
    "version": "latest",
}

WAITING: Mapping[str, int] = {"critical": 1, "security": 4}  # none is left once these are installed
SUPPORTED = Behaviour(support_state="Supported", pending=WAITING)
BY_PLATFORM = {"patchMode": "AutomaticByPlatform"}
BY_SCHEDULE = {**BY_PLATFORM, "automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True}}


class Operator(Protocol):
    """What people and guests can do during the run."""

    @property
    def azure(self) -> Azure: ...

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """A call to Resource Manager, repeated while the machine is busy or the quota exhausted."""
        ...

    async def seconds(self, seconds: float) -> None:
        """Waits for this many simulated seconds."""
        ...

    async def until(self, condition: Callable[[], bool]) -> None: ...


Act = Callable[[Operator, str], Awaitable[None]]


@dataclass(frozen=True)
class Expected:
    """The expected end of a machine, and the number of operations on it, by any client."""

    state: str
    assessments: int
    installations: int
    more_assessments: bool = False  # it is assessed again and again, so the number depends on the duration of the run

    def matches(self, state: str, assessments: int, installations: int) -> bool:
        enough = assessments >= self.assessments if self.more_assessments else assessments == self.assessments
        return state == self.state and enough and installations == self.installations


@dataclass(frozen=True)
class Part:
    """One machine of the demo."""

    name: str
    description: str  # what is special about it, in a few words
    expected: Expected
    image: Mapping[str, str] | None = field(default_factory=lambda: GENERALIZED)  # None: a disk without an image
    windows: bool = False
    specialized: bool = False  # no osProfile
    arc: bool = False  # a server outside Azure, connected by its agent
    scale_set: str = ""  # the set that it is a member of
    behaviour: Behaviour = SUPPORTED
    tags: Mapping[str, str] = field(default_factory=dict)
    patch_settings: Mapping[str, Any] = field(default_factory=dict)
    group: str = "rg-shop"
    region: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)  # further members of the PUT
    profile: Mapping[str, Any] = field(default_factory=dict)  # further members of its osProfile
    act: Act | None = None  # what people or its guest do during the run
    fault: Fault | None = None  # what goes wrong between the app and ARM
    scheduled: bool = False  # a maintenance configuration is assigned to it
    event_lost: bool = False  # Event Grid never delivers its events

    @property
    def id(self) -> str:
        kind = "HybridCompute/machines" if self.arc else "Compute/virtualMachines"
        return f"{_SUBSCRIPTION_ID}/resourceGroups/{self.group}/providers/Microsoft.{kind}/{self.name}"

    def body(self) -> dict[str, Any]:
        """The body of its PUT."""
        properties = self._connected() if self.arc else self._built()
        return {"location": self.region, "tags": dict(self.tags), "properties": properties, **self.extra}

    def _connected(self) -> dict[str, Any]:
        system, product = (
            ("windows", "Windows Server 2022 Datacenter") if self.windows else ("linux", "Ubuntu 22.04.3 LTS")
        )
        return {"osType": system, "osSku": product}

    def _built(self) -> dict[str, Any]:
        disk = {
            "osType": "Windows" if self.windows else "Linux",
            "createOption": "FromImage" if self.image else "Attach",
        }
        storage: dict[str, Any] = {"osDisk": disk}
        if self.image:
            storage["imageReference"] = dict(self.image)
        properties: dict[str, Any] = {"hardwareProfile": {"vmSize": "Standard_D2s_v5"}, "storageProfile": storage}
        if not self.specialized:
            properties["osProfile"] = self._profile()
        if self.scale_set:
            properties["virtualMachineScaleSet"] = {"id": self.scale_set}
        return properties

    def _profile(self) -> dict[str, Any]:
        name = "windowsConfiguration" if self.windows else "linuxConfiguration"
        configuration = {"patchSettings": dict(self.patch_settings)} if self.patch_settings else {}
        return {"computerName": self.name[:15], "adminUsername": "azureuser", name: configuration, **self.profile}


# -- what people and guests do


async def _until_started(operator: Operator, machine: str, kind: str) -> None:
    def started() -> bool:
        return any(each.machine == machine and each.kind == kind for each in operator.azure.operations)

    await operator.until(started)


async def _power_off(operator: Operator, machine: str) -> None:
    await operator.call("POST", f"{machine}/deallocate")


async def _reimage(operator: Operator, machine: str) -> None:
    """At once, before it is assessed."""
    await operator.call("POST", f"{machine}/reimage", {})


async def _power_off_and_on(operator: Operator, machine: str) -> None:
    await operator.call("POST", f"{machine}/deallocate")
    await operator.seconds(600)
    await operator.call("POST", f"{machine}/start")


async def _lose_connection(operator: Operator, machine: str) -> None:
    """Its agent stops reporting as soon as it is connected."""
    operator.azure.world.hybrid[machine.lower()].status.set(operator.azure.now(), "Disconnected")


async def _extensions_end(operator: Operator, machine: str) -> None:
    """A long script extension ends."""
    await operator.seconds(540)
    operator.azure.behave(machine, SUPPORTED)


async def _install_by_hand(operator: Operator, machine: str) -> None:
    """An operator starts an installation in the portal at the moment in which the machine is ready."""
    await operator.seconds(420)
    operator.azure.behave(machine, SUPPORTED)
    operator.azure.start_operation(machine, "install", started_by="User")


async def _break_apt(operator: Operator, machine: str) -> None:
    """An operator interrupts dpkg between the assessment and the installation."""
    await _until_started(operator, machine, "assess")
    operator.azure.behave(machine, _APT_BROKEN)


async def _second_of_its_image(operator: Operator, machine: str) -> None:
    """It becomes ready when the other machine of its image is already being patched."""
    first = machine.replace("kiosk-02", "kiosk-01")
    await _until_started(operator, first, "install")
    operator.azure.behave(machine, _PATCHES_FAIL)


async def _delete_in_flight(operator: Operator, machine: str) -> None:
    await _until_started(operator, machine, "assess")
    await operator.call("DELETE", machine)


_HANGS = Behaviour(support_state="Supported", pending=WAITING, extensions_hang=True)
_APT_BROKEN = Behaviour(
    support_state="Supported",
    pending=WAITING,
    install_status="Failed",
    failed_patches=0,  # nothing was tried: https://github.com/Azure/LinuxPatchExtension checks apt before
    errors=(
        (
            "PACKAGE_MANAGER_FAILURE",
            "Package manager on machine is not healthy. To fix, please run: sudo dpkg --configure -a",
        ),
    ),
)
_PATCHES_FAIL = Behaviour(support_state="Supported", pending=WAITING, install_status="Failed", failed_patches=5)
_CONFLICT = {
    "error": {
        "code": "OperationNotAllowed",
        "message": "Operation 'assessPatches' is not allowed on VM since another operation is in progress.",
    }
}
_THROTTLED = {
    "code": "OperationNotAllowed",
    "message": "The server rejected the request because too many requests have been received for this subscription.",
    "details": [{"code": "TooManyRequests", "target": "VMGuestPatchOperationResourceMaximum", "message": "{}"}],
}


def _first_assessment(name: str, status: int, body: dict[str, Any], *, headers: Mapping[str, str]) -> Fault:
    path = f"/virtualMachines/{name}/assessPatches$"
    return Fault(method="POST", path=path, times=1, status=status, body=body, headers=dict(headers))


PATCHED = Expected("patched", 2, 1)  # assessed, installed, assessed again
UNTOUCHED = 0, 0

# -- every image kind

_IMAGES = (
    Part("web-01", "Windows, gallery image", PATCHED, windows=True),
    Part("web-02", "Linux, gallery image", PATCHED),
    Part("db-01", "Windows, specialized image", PATCHED, SPECIALIZED, windows=True, specialized=True),
    Part("db-02", "Linux, specialized image", PATCHED, SPECIALIZED, specialized=True),
    Part("app-shared", "Linux, shared gallery", PATCHED, SHARED),
    Part("app-community", "Linux, community gallery", PATCHED, COMMUNITY),
    Part("erp-managed", "Windows, managed image", PATCHED, MANAGED, windows=True, group="rg-office"),
    Part("erp-migrated", "Windows, migrated disk", PATCHED, None, windows=True, specialized=True, group="rg-office"),
    Part("shop-market", "Linux, marketplace image", Expected("marketplace", *UNTOUCHED), UBUNTU),
)

# -- every support state (Supported is above), and what else an assessment or installation may bring

_ANSWERS = (
    Part("says-unknown", "support state Unknown", Expected("undetermined", 3, 0), behaviour=Behaviour("Unknown")),
    Part("says-no", "support state Unsupported", Expected("unsupported", 1, 0), behaviour=Behaviour("Unsupported")),
    Part(
        "says-unable",
        "UnableToDetermine",
        Expected("undetermined", 3, 0, more_assessments=True),
        behaviour=Behaviour("UnableToDetermine"),
    ),
    Part("says-nothing", "support state null", Expected("undetermined", 3, 0), behaviour=Behaviour(None)),
    Part(
        "up-to-date",
        "reimaged; nothing to install",
        Expected("patched", 1, 0),
        behaviour=Behaviour(pending={}),
        act=_reimage,
    ),
    Part(
        "only-other",
        "no patch of a wanted class",
        Expected("nothing-selected", 1, 0),
        behaviour=Behaviour(pending={"other": 3}),
        group="rg-office",
    ),
    Part(
        "apt-broken",
        "package manager broken",
        Expected("failed", 1, 1),
        GENERALIZED_BATCH,
        act=_break_apt,
        group="rg-office",
    ),
    Part(
        "kiosk-01",
        "its patches fail: a canary",
        Expected("breaker-open", 2, 1),
        GENERALIZED_KIOSK,
        behaviour=_PATCHES_FAIL,
        group="rg-office",
    ),
    Part(
        "kiosk-02",
        "its image's canary failed",
        Expected("breaker-open", 1, 0),
        GENERALIZED_KIOSK,
        behaviour=_HANGS,
        act=_second_of_its_image,
        group="rg-office",
    ),
    Part(
        "refused",
        "image refused by the API",
        Expected("unsupported", *UNTOUCHED),
        behaviour=Behaviour(refuse="unsupported-image"),
    ),
)

# -- what its owner has decided

_OWNERS = (
    Part("lab-01", "group tag patch-mode=off", Expected("opted-out", *UNTOUCHED), group="rg-lab"),
    Part("tag-hold", "on hold by tag", Expected("on-hold", *UNTOUCHED), tags={"patch-hold-until": "2099-01-15"}),
    Part("tag-typo", "a tag with a typo", Expected("bad-tag", *UNTOUCHED), tags={"patch-mode": "instal"}),
    Part(
        "nobodys",
        "patched by nobody, tag assess",
        Expected("patched-by-nobody", 1, 0),
        tags={"patch-mode": "assess"},
        patch_settings=BY_PLATFORM,
    ),
    Part("was-nobodys", "patched by nobody until now", PATCHED, patch_settings=BY_PLATFORM, windows=True),
    Part(
        "scheduled",
        "has a maintenance schedule",
        Expected("scheduled-elsewhere", 1, 0),
        patch_settings=BY_SCHEDULE,
        scheduled=True,
    ),
    Part(
        "aks-node-0",
        "an AKS node",
        Expected("managed-elsewhere", *UNTOUCHED),
        group="MC_shop_aks_westeurope",
        tags={"aks-managed-poolName": "pool1"},
    ),
    Part(
        "desk-managed",
        "managedBy another resource",
        Expected("managed-elsewhere", *UNTOUCHED),
        extra={"managedBy": f"{_SUBSCRIPTION_ID}/resourceGroups/rg-office/providers/Contoso.Desktops/pools/p1"},
        group="rg-office",
    ),
)

# -- events during its life

_EVENTS = (
    Part("started-later", "powered off, started later", PATCHED, GENERALIZED_API, act=_power_off_and_on),
    Part(
        "agent-silent",
        "VM agent never ready",
        Expected("agent-not-ready", *UNTOUCHED),
        behaviour=Behaviour(agent_never_ready=True),
    ),
    Part(
        "no-extensions",
        "extensions are forbidden",
        Expected("extensions-forbidden", *UNTOUCHED),
        profile={"allowExtensionOperations": False},
    ),
    Part("long-build", "extensions run for long", PATCHED, behaviour=_HANGS, act=_extensions_end),
    Part("by-hand", "an operator patches it", Expected("patched", 1, 1), behaviour=_HANGS, act=_install_by_hand),
    Part(
        "conflict",
        "409: another operation runs",
        PATCHED,
        fault=_first_assessment("conflict", 409, _CONFLICT, headers={}),
    ),
    Part(
        "throttled",
        "429: the quota is exhausted",
        PATCHED,
        GENERALIZED_API,
        fault=_first_assessment("throttled", 429, _THROTTLED, headers={"Retry-After": "3"}),
    ),
    Part("deleted", "deleted while assessed", Expected("gone", 1, 0), act=_delete_in_flight),
)

# -- what is not a running machine of its own in Azure

_ESTATE = (
    Part("arc-windows", "Windows, Arc-enabled server", PATCHED, None, windows=True, arc=True, group="rg-plant"),
    Part("arc-linux", "Linux, Arc-enabled server", PATCHED, None, arc=True, group="rg-plant"),
    Part(
        "arc-away",
        "Arc, its agent disconnected",
        Expected("agent-not-ready", *UNTOUCHED),
        None,
        arc=True,
        group="rg-plant",
        act=_lose_connection,
    ),
    Part(
        "flex-0a1b2c3d", "Flexible instance, no event", PATCHED, GENERALIZED_API, scale_set=_SCALE_SET, event_lost=True
    ),
    Part("stopped", "stopped: started, put back", Expected("powered-off", 2, 1), GENERALIZED_NIGHT, act=_power_off),
)

FLEET: tuple[Part, ...] = tuple(
    replace(part, region=REGIONS[number % len(REGIONS)])
    for number, part in enumerate(_IMAGES + _ANSWERS + _OWNERS + _EVENTS + _ESTATE)
)
