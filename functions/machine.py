"""What we know of a machine: frozen values, parsed from ARM's answers and from Resource Graph's rows.

Nothing here calls, decides or reads a clock. Text from outside becomes a value here or raises BadInput, whose one line
says what was wrong, where, and what would be right. Ids are lower-cased on the way in: Azure mixes the case of the same
id between its services (facts: Azure Resource Graph rows against ARM ids), so one spelling is kept everywhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Json = Mapping[str, Any]

GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_GROUP = rf"/subscriptions/(?P<subscription>{GUID.pattern})/resourcegroups/(?P<group>[\w().-]{{0,89}}[\w()-])"
_GROUP_ID = re.compile(_GROUP)
_MACHINE_ID = re.compile(rf"{_GROUP}/providers/microsoft\.compute/virtualmachines/(?P<name>[\w-][\w.-]{{0,63}})")
_GALLERY_IMAGE = re.compile(r"(?P<definition>.+/galleries/[^/]+/images/[^/]+)(?:/versions/(?P<version>[^/]+))?")
_MANAGED_IMAGE = re.compile(r"/subscriptions/.+/providers/microsoft\.compute/images/[^/]+")
_MARKETPLACE_PARTS = 3  # colons of publisher:offer:sku:version
_FRACTION = re.compile(r"(\.\d{6})\d+")
# Lower-cased it becomes an ASCII letter, the only character that does: an id with it would name another machine.
_KELVIN_SIGN = "\u212a"
_LONGEST_TEXT = 4_000  # of one value: the ledger's columns hold 32,768 characters, and Azure's longest id 2,048
LAST_RING = 1000  # the ring of a machine without a patch-ring tag
_MOST_PATCHES = 1_000_000  # of one class: more is no count
# What no error line may repeat: a URL's user, password and query, a token, and the keys of a connection string.
_SECRETS = (
    (re.compile(r"//[^/@\s]*@"), "//…@"),
    (re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*"), r"\1?…"),
    (re.compile(r"(\bBearer\s+)\S+", re.IGNORECASE), r"\1…"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w.-]+"), "…"),
    (re.compile(r"((?:key|sig|signature|password|pwd|secret|token)=)[^;&\s]+", re.IGNORECASE), r"\1…"),
)


class BadInput(ValueError):
    """Something from outside that cannot be read. The text is one line: what, where, and what would be right."""


class Kind(StrEnum):
    """The two operations the app starts."""

    ASSESS = "assess"
    INSTALL = "install"


class SupportState(StrEnum):
    """Whether Azure can patch this guest, as an assessment found it.

    Source: Azure Update Manager, "Manage updates for customized images". The member ABSENT is ours: Graph shows no row,
    or a row without the property. It is not `Unknown`, which Azure itself writes.
    """

    ABSENT = "absent"
    UNKNOWN = "Unknown"
    SUPPORTED = "Supported"
    UNSUPPORTED = "Unsupported"
    UNABLE_TO_DETERMINE = "UnableToDetermine"


class ImageKind(StrEnum):
    """What the machine was built from. Everything but a marketplace image is a customized image."""

    MARKETPLACE = "marketplace"
    GALLERY = "gallery, generalized"
    GALLERY_SPECIALIZED = "gallery, specialized"
    SHARED_GALLERY = "shared gallery"
    COMMUNITY_GALLERY = "community gallery"
    MANAGED_IMAGE = "managed image"
    NONE = "no image"


class PowerState(StrEnum):
    """The power state of the instance view (`PowerState/…`); UNKNOWN when it shows none."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DEALLOCATING = "deallocating"
    DEALLOCATED = "deallocated"
    UNKNOWN = "unknown"


class OsType(StrEnum):
    WINDOWS = "Windows"
    LINUX = "Linux"


class Patchers(StrEnum):
    """Who else patches the machine, read from its patch settings."""

    SELF = "self"  # the guest by itself: AutomaticByOS, or Windows' automatic updates
    PLATFORM = "platform"  # AutomaticByPlatform on a marketplace image
    SCHEDULE = "schedule"  # bypassPlatformSafetyChecksOnUserSchedule: a maintenance configuration
    NOBODY = "nobody"  # AutomaticByPlatform on a customized image: switched off in the guest, not done by Azure
    US = "us"  # Manual or ImageDefault: nothing but this app
    UNKNOWN = "unknown"  # no osProfile, so no patch settings to read


@dataclass(frozen=True)
class MachineId:
    """The ARM id of one virtual machine, lower-cased and taken apart."""

    subscription: str
    group: str
    name: str

    @classmethod
    def parse(cls, text: object) -> "MachineId":
        """Reads an id and nothing but an id. Raises BadInput."""
        if match := _MACHINE_ID.fullmatch(_lowered(text)):
            return cls(match["subscription"], match["group"], match["name"])
        raise BadInput(
            f"{shown(text)} is no virtual machine id; it should read /subscriptions/<guid>/resourceGroups/<group>"
            "/providers/Microsoft.Compute/virtualMachines/<name>"
        )

    def __str__(self) -> str:
        return f"{self.group_id}/providers/microsoft.compute/virtualmachines/{self.name}"

    @property
    def group_id(self) -> str:
        return f"/subscriptions/{self.subscription}/resourcegroups/{self.group}"


@dataclass(frozen=True)
class Image:
    """The image of a machine. `key` names image and version: machines that share it behave alike."""

    kind: ImageKind
    key: str = ""

    @property
    def customized(self) -> bool:
        return self.kind is not ImageKind.MARKETPLACE

    @property
    def version(self) -> str:
        """The version that `key` ends with; "" where an image has none."""
        match = _GALLERY_IMAGE.fullmatch(self.key)
        if match:
            return match["version"] or ""
        return self.key.rpartition(":")[2] if self.key.count(":") == _MARKETPLACE_PARTS else ""


@dataclass(frozen=True)
class Summary:
    """The newest assessment or installation as the instance view shows it (`patchStatus`), whoever started it."""

    operation_id: str
    status: str  # as Azure writes it: InProgress, Succeeded, Failed, CompletedWithWarnings, Unknown
    started: datetime | None
    modified: datetime | None

    @property
    def in_progress(self) -> bool:
        return in_progress(self.status)

    @property
    def succeeded(self) -> bool:
        return self.status.lower() in ("succeeded", "completedwithwarnings")


@dataclass(frozen=True)
class Verdict:
    """What Graph's newest assessment of a machine says: the support state, and the patches that wait."""

    state: SupportState
    assessment_id: str = ""
    assessed: datetime | None = None  # when that assessment started
    status: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)  # by classification, keys lower-cased
    reboot_pending: bool = False


@dataclass(frozen=True)
class Pending:
    """How many patches wait on a machine, by what people ask for first."""

    critical: int
    security: int
    other: int

    @property
    def urgent(self) -> int:
        return self.critical + self.security


@dataclass(frozen=True)
class Group:
    """What the machine's resource group adds: its tags, and who manages it."""

    tags: Mapping[str, str] = field(default_factory=dict)
    managed_by: str = ""


@dataclass(frozen=True)
class Machine:
    """One virtual machine. What only the instance view tells is None when the value came from Graph."""

    id: MachineId
    vm_id: str
    location: str
    os_type: OsType
    image: Image
    created: datetime | None
    provisioning_state: str
    power: PowerState
    tags: Mapping[str, str] = field(default_factory=dict)
    group: Group | None = None  # None: not read yet
    managed_by: str = ""
    scale_set: str = ""
    availability_set: str = ""
    third_party_plan: bool = False
    extensions_allowed: bool = True
    patchers: Patchers = Patchers.UNKNOWN
    os_name: str = ""
    agent_ready: bool | None = None
    agent_version: str = ""
    busy_extensions: tuple[str, ...] | None = None
    healthy: bool | None = None  # by the Application Health extension; None where there is none
    reboot_pending: bool | None = None
    assessment: Summary | None = None
    installation: Summary | None = None
    verdict: Verdict | None = None  # None: Graph was not asked; ABSENT: it was, and shows nothing

    @property
    def summaries(self) -> tuple[Summary, ...]:
        return tuple(summary for summary in (self.assessment, self.installation) if summary)

    @property
    def pending(self) -> Pending:
        """The patches that wait, as its newest assessment counted them."""
        counts = self.verdict.counts if self.verdict else {}
        critical, security = counts.get("critical", 0), counts.get("security", 0)
        return Pending(critical, security, sum(counts.values()) - critical - security)

    @property
    def bucket(self) -> tuple[str, str]:
        """(subscription, region): the machines that share one quota of patch calls."""
        return self.id.subscription, self.location

    def in_group(self, group: Group) -> "Machine":
        return replace(self, group=group)


def machine_from_arm(vm: Json) -> Machine:
    """A machine from GET virtualMachines/{name}?$expand=instanceView. Raises BadInput on what is no machine."""
    properties = _object(vm.get("properties"))
    view = _object(properties.get("instanceView"))
    profile = properties.get("osProfile")
    storage = _object(properties.get("storageProfile"))
    disk = _object(storage.get("osDisk"))
    image = image_of(_object(storage.get("imageReference")), has_profile=isinstance(profile, Mapping))
    profile = _object(profile)
    status = _object(view.get("patchStatus"))
    return Machine(
        id=MachineId.parse(vm.get("id")),
        vm_id=_text(properties.get("vmId")).lower(),
        location=_text(vm.get("location")).lower().replace(" ", ""),
        os_type=_os_type(disk.get("osType")),
        image=image,
        created=time_or_none(properties.get("timeCreated")),
        provisioning_state=_text(properties.get("provisioningState")),
        power=_power(_power_code(view)),
        tags=_tags(vm.get("tags")),
        managed_by=_text(vm.get("managedBy")),
        scale_set=_text(_object(properties.get("virtualMachineScaleSet")).get("id")),
        availability_set=_text(_object(properties.get("availabilitySet")).get("id")).lower(),
        third_party_plan=bool(_object(vm.get("plan")).get("name")),
        extensions_allowed=profile.get("allowExtensionOperations") is not False,
        patchers=_patchers(image, profile.get("windowsConfiguration"), profile.get("linuxConfiguration")),
        os_name=_text(view.get("osName")),
        agent_ready=_agent_ready(_object(view.get("vmAgent"))),
        agent_version=_text(_object(view.get("vmAgent")).get("vmAgentVersion")),
        busy_extensions=_busy_extensions(view),
        healthy=_healthy(_object(_object(view.get("vmHealth")).get("status"))),
        reboot_pending=_reboot_pending(_object(status.get("availablePatchSummary"))),
        assessment=_summary(status.get("availablePatchSummary"), "assessmentActivityId"),
        installation=_summary(status.get("lastPatchInstallationSummary"), "installationActivityId"),
    )


def machine_from_graph(row: Json) -> Machine:
    """A machine from a row with the columns of queries/_machine_columns.kql. Raises BadInput on a row without an id."""
    image = image_of(_object(row.get("image")), has_profile=row.get("has_os_profile") is True)
    return Machine(
        id=MachineId.parse(row.get("id")),
        vm_id=_text(row.get("vm_id")).lower(),
        location=_text(row.get("location")).lower().replace(" ", ""),
        os_type=_os_type(row.get("os_type")),
        image=image,
        created=time_or_none(row.get("created")),
        provisioning_state=_text(row.get("provisioning_state")),
        power=_power(_text(row.get("power_code"))),
        tags=_tags(row.get("tags")),
        managed_by=_text(row.get("managedBy")),
        scale_set=_text(row.get("scale_set")),
        availability_set=_text(row.get("availability_set")).lower(),
        third_party_plan=bool(_object(row.get("plan")).get("name")),
        extensions_allowed=row.get("allow_extensions") is not False,
        patchers=_patchers(image, row.get("windows"), row.get("linux")),
        verdict=_verdict(row),
    )


def group_from_json(body: Json) -> Group:
    """A resource group from ARM or from Graph: both give `tags` and `managedBy`."""
    return Group(tags=_tags(body.get("tags")), managed_by=_text(body.get("managedBy")))


def group_id(text: object) -> str:
    """The lower-cased id of a resource group. Raises BadInput."""
    if _GROUP_ID.fullmatch(lowered := _lowered(text)):
        return lowered
    raise BadInput(f"{shown(text)} is no resource group id")


def image_of(reference: Json, *, has_profile: bool) -> Image:
    """The image kind by the portal's rule: publisher, offer and sku together mean marketplace, all else is customized.

    A gallery image without osProfile was specialized (inferred: no public statement ties the two).
    """
    if all(reference.get(name) for name in ("publisher", "offer", "sku")):
        parts = (_text(reference.get(name)) for name in ("publisher", "offer", "sku", "exactVersion"))
        return Image(ImageKind.MARKETPLACE, ":".join(part for part in parts if part).lower())
    for name, kind in (
        ("sharedGalleryImageId", ImageKind.SHARED_GALLERY),
        ("communityGalleryImageId", ImageKind.COMMUNITY_GALLERY),
        ("id", ImageKind.GALLERY if has_profile else ImageKind.GALLERY_SPECIALIZED),
    ):
        if text := _text(reference.get(name)).lower():
            if name == "id" and _MANAGED_IMAGE.fullmatch(text):
                kind = ImageKind.MANAGED_IMAGE
            return Image(kind, _versioned(text, _text(reference.get("exactVersion")).lower()))
    return Image(ImageKind.NONE)


def time_or_none(value: object) -> datetime | None:
    """A time as Azure writes it (seven fraction digits, Z or an offset); None for no time at all. Raises BadInput."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(_FRACTION.sub(r"\1", value))
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            raise BadInput(f"{shown(value)} is no time; it should read like 2026-11-25T08:00:00Z") from None
        if moment.year < 9999:  # the last year is a placeholder, and nothing can be added to it
            return moment
    raise BadInput(f"{shown(value)} is no time; it should read like 2026-11-25T08:00:00Z")


def in_progress(status: str) -> bool:
    """Whether a status of Azure's names an operation that has not ended (services differ in its letter case)."""
    return status.lower() in ("inprogress", "notstarted", "accepted", "running")


def shown(value: object) -> str:
    """A value from outside for an error line: short, on one line, and never a URL's query, a key or a password."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    text = without_secrets("".join(char if char.isprintable() else "?" for char in value.split("?")[0]))
    return f"'{text[:120]}{'…' if len(text) > 120 else ''}'"


def without_secrets(text: str) -> str:
    """A text with what may be secret cut out: a URL's user, password and query, tokens, keys and signatures."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _versioned(image_id: str, exact_version: str) -> str:
    match = _GALLERY_IMAGE.fullmatch(image_id)
    if not match or match["version"] or not exact_version:
        return image_id
    return f"{image_id}/versions/{exact_version}"


def _patchers(image: Image, windows: object, linux: object) -> Patchers:
    configuration = windows if isinstance(windows, Mapping) else linux
    if not isinstance(configuration, Mapping):
        return Patchers.UNKNOWN
    settings = _object(configuration.get("patchSettings"))
    mode = _text(settings.get("patchMode")).lower()
    if mode == "automaticbyplatform":
        if _object(settings.get("automaticByPlatformSettings")).get("bypassPlatformSafetyChecksOnUserSchedule") is True:
            return Patchers.SCHEDULE
        return Patchers.NOBODY if image.customized else Patchers.PLATFORM
    automatic = configuration.get("enableAutomaticUpdates") is True and mode != "manual"
    return Patchers.SELF if mode == "automaticbyos" or automatic else Patchers.US


def _verdict(row: Json) -> Verdict:
    text = _text(row.get("support_state"))
    known = {state.value.lower(): state for state in SupportState if state is not SupportState.ABSENT}
    if text and text.lower() not in known:
        raise BadInput(
            f"support state {shown(text)} is not known; it should be "
            "Unknown, Supported, Unsupported or UnableToDetermine"
        )
    counts = _object(row.get("counts"))
    return Verdict(
        state=known[text.lower()] if text else SupportState.ABSENT,
        assessment_id=_text(row.get("assessment_id")).lower(),
        assessed=time_or_none(row.get("assessment_started")),
        status=_text(row.get("assessment_status")),
        counts={str(name).lower(): count for name, count in counts.items() if is_count(count)},
        reboot_pending=row.get("reboot_pending") is True,
    )


def _summary(body: object, id_name: str) -> Summary | None:
    if not isinstance(body, Mapping) or not body.get(id_name):
        return None
    return Summary(
        operation_id=_text(body.get(id_name)).lower(),
        status=_text(body.get("status")),
        started=time_or_none(body.get("startTime")),
        modified=time_or_none(body.get("lastModifiedTime")),
    )


def _power_code(view: Json) -> str:
    codes = [_text(_object(status).get("code")) for status in _list(view.get("statuses"))]
    return next((code for code in codes if code.lower().startswith("powerstate/")), "")


def _power(code: str) -> PowerState:
    name = code.lower().removeprefix("powerstate/")
    return PowerState(name) if name in set(PowerState) else PowerState.UNKNOWN


def _agent_ready(agent: Json) -> bool:
    statuses = [_object(status) for status in _list(agent.get("statuses"))]
    return any(
        _text(status.get("code")).lower() == "provisioningstate/succeeded"
        and _text(status.get("displayStatus")).lower() == "ready"
        for status in statuses
    )


def _busy_extensions(view: Json) -> tuple[str, ...]:
    """The extensions still creating, updating, deleting or in transition: a call beside them would be refused."""
    busy = []
    for extension in map(_object, _list(view.get("extensions"))):
        codes = [_text(_object(status).get("code")).lower() for status in _list(extension.get("statuses"))]
        if any(code.split("/")[-1] in ("creating", "updating", "deleting", "transitioning") for code in codes):
            busy.append(_text(extension.get("name")))
    return tuple(busy)


def _healthy(status: Json) -> bool | None:
    code = _text(status.get("code")).lower()
    return code == "healthstate/healthy" if code else None


def _reboot_pending(summary: Json) -> bool | None:
    pending = summary.get("rebootPending")
    return pending if isinstance(pending, bool) else None


def _os_type(value: object) -> OsType:
    for os_type in OsType:
        if isinstance(value, str) and value.lower() == os_type.value.lower():
            return os_type
    raise BadInput(f"osDisk.osType is {shown(value)}; it should be Windows or Linux")


def is_count(value: object) -> bool:
    """Whether a value is a number of patches, and no truth value, fraction or nonsense."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_PATCHES


def _lowered(text: object) -> str:
    """An id in lower case; "" for what can be none."""
    return text.lower() if isinstance(text, str) and _KELVIN_SIGN not in text else ""


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _LONGEST_TEXT else ""


def _tags(value: object) -> dict[str, str]:
    """Tags, names lower-cased. Raises BadInput: a tag may forbid, so what cannot be read is not read as none."""
    if value is not None and not isinstance(value, Mapping):
        raise BadInput(f"tags are {shown(value)}; they should be an object of names and values")
    return {str(name).lower(): str(text).strip() for name, text in _object(value).items()}
