"""What we know of a machine: frozen values. cloud/models.py reads them from Azure's answers.

Ids are lower-cased on the way in: Azure mixes the case of the same id between its services (facts: Azure Resource Graph
rows against ARM ids), so one spelling is kept everywhere.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from sys import intern
from typing import ParamSpec, Self, TypeGuard, TypeVar, cast

from functions.model.text import GUID, BadInput, Json, quoted

Fields = ParamSpec("Fields")
Value = TypeVar("Value")
_set = object.__setattr__

_GROUP = rf"/subscriptions/(?P<subscription>{GUID.pattern})/resourcegroups/(?P<group>[\w().-]{{0,89}}[\w()-])"


_SUBSCRIPTION = re.compile(rf"/subscriptions/(?P<subscription>{GUID.pattern})/")


_GROUP_ID = re.compile(_GROUP)


# 64 characters are documented; a member of a scale set has its name and nine more.
_MACHINE_ID = re.compile(
    rf"{_GROUP}/providers/(?P<provider>microsoft\.compute/virtualmachines|microsoft\.hybridcompute/machines)"
    r"/(?P<name>[\w-][\w.-]{0,79})"
)


GALLERY_IMAGE = re.compile(
    r"(?P<definition>.*/(?:shared|community)?galleries/[^/]+/images/[^/]+)(?:/versions/(?P<version>[^/]+))?"
)


_MARKETPLACE_PARTS = 3  # colons of publisher:offer:sku:version


# Lower-cased it becomes an ASCII letter, the only character that does: an id with it would name another machine.
_KELVIN_SIGN = "\u212a"


LAST_RING = 1000  # the ring of a machine without a patch-ring tag


_MAX_PATCHES = 1_000_000  # of one class: a larger number is not a count


CLASSIFICATIONS = (
    "Critical",
    "Security",
    "UpdateRollUp",
    "FeaturePack",
    "ServicePack",
    "Definition",
    "Tools",
    "Updates",
    "Other",
)


LINUX_CLASSIFICATIONS = ("Critical", "Security", "Other")


# PackageFilter of Azure/LinuxPatchExtension: a Linux guest that is asked for one of these installs both.
TOGETHER_ON_LINUX = frozenset({"Critical", "Security"})


BUCKET_CAPACITY = 600


def made(kind: Callable[Fields, Value], *_: Fields.args, **values: Fields.kwargs) -> Value:
    """A value of a frozen dataclass, its fields by keyword: one that is left out reads as its class's default.

    It sets only the fields that are given. The dataclass's own __init__ sets each one, and takes several times as long;
    a sweep reads every machine of a fleet. A field without a plain default (default_factory) has to be given, and of a
    class with slots each one.
    """
    value = object.__new__(cast("type[Value]", kind))
    for name, given in values.items():
        _set(value, name, given)
    return value


def short_lived(kind: Callable[Fields, Value], *_: Fields.args, **values: Fields.kwargs) -> Value:
    """The same in half the time, for a value that is soon gone: it takes 64 bytes more, which made() saves a fleet."""
    value = object.__new__(cast("type[Value]", kind))
    vars(value).update(values)
    return value


def on_linux(classifications: Iterable[str]) -> tuple[str, ...]:
    """What a Linux guest installs that is asked for these classifications."""
    wanted = {*classifications}
    if wanted & TOGETHER_ON_LINUX:
        wanted |= TOGETHER_ON_LINUX
    return tuple(name for name in LINUX_CLASSIFICATIONS if name in wanted)


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
    ARC = "Arc-enabled server"  # of no image: its operating system stands for one
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


class PatchOrchestration(StrEnum):
    """Who else patches the machine, read from its patch settings."""

    SELF = "self"  # the guest by itself: AutomaticByOS, or Windows' automatic updates
    PLATFORM = "platform"  # AutomaticByPlatform on a marketplace image
    SCHEDULE = "schedule"  # bypassPlatformSafetyChecksOnUserSchedule, or Arc: left to a schedule, if one is assigned
    NOBODY = "nobody"  # AutomaticByPlatform on a customized image: switched off in the guest, not done by Azure
    US = "us"  # Manual or ImageDefault: nothing but this app
    UNKNOWN = "unknown"  # no osProfile, so no patch settings to read


class Provider(StrEnum):
    """Who runs the machine, as the resource type in its id, lower-cased."""

    AZURE = "microsoft.compute/virtualmachines"
    ARC = "microsoft.hybridcompute/machines"  # a server outside Azure, with the Connected Machine agent


_PROVIDERS = {each.value: each for each in Provider}


@dataclass(frozen=True, slots=True)
class MachineId:
    """The ARM id of one machine, lower-cased and taken apart."""

    subscription: str
    group: str
    name: str
    provider: Provider = Provider.AZURE

    @classmethod
    def parse(cls, text: object) -> "MachineId":
        """Reads an id and nothing but an id. Raises BadInput."""
        if match := _MACHINE_ID.fullmatch(lowered_id(text)):
            subscription, group, name = match.group("subscription", "group", "name")
            provider = _PROVIDERS[match["provider"]]
            return made(cls, subscription=intern(subscription), group=intern(group), name=name, provider=provider)
        raise BadInput(
            f"{quoted(text)} is not a virtual machine id; it should read /subscriptions/<guid>/resourceGroups/<group>"
            "/providers/Microsoft.Compute/virtualMachines/<name>"
        )

    def __str__(self) -> str:
        return f"{self.group_id}/providers/{self.provider}/{self.name}"

    @property
    def is_arc(self) -> bool:
        """Whether it is an Arc-enabled server."""
        return self.provider is Provider.ARC

    @property
    def group_id(self) -> str:
        return f"{self.subscription_id}/resourcegroups/{self.group}"

    @property
    def subscription_id(self) -> str:
        return f"/subscriptions/{self.subscription}"


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
        match = GALLERY_IMAGE.fullmatch(self.key)
        if match:
            return match["version"] or ""
        return self.key.rpartition(":")[2] if self.key.count(":") == _MARKETPLACE_PARTS else ""


# Azure gives an operation the time at which the guest began it, the app the time at which Azure took it.
START_MARGIN = timedelta(minutes=15)


@dataclass(frozen=True)
class PatchStatus:
    """The newest assessment or installation as the instance view shows it (`patchStatus`), ours or another's."""

    operation_id: str
    status: str  # as Azure writes it: InProgress, Succeeded, Failed, CompletedWithWarnings, Unknown
    started: datetime | None
    modified: datetime | None
    result: Json = field(default_factory=dict)  # what it counts, and its error, with Azure's names

    @property
    def in_progress(self) -> bool:
        return in_progress(self.status)

    def same_operation(self, other: "PatchStatus") -> bool:
        return self.operation_id == other.operation_id

    @property
    def succeeded(self) -> bool:
        return succeeded(self.status)


@dataclass(frozen=True)
class WaitingPatch:
    """One patch that waits on a machine."""

    name: str
    kb: str
    version: str
    classes: tuple[str, ...]  # lower-cased


@dataclass(frozen=True, slots=True)
class PatchAssessment:
    """What Graph's newest assessment of a machine says: the support state, and the patches that wait."""

    state: SupportState
    assessment_id: str = ""
    assessed: datetime | None = None  # when that assessment started
    status: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)  # by classification, keys lower-cased
    reboot_pending: bool = False
    named: int | None = None  # of the other patches, those that PATCH_PACKAGES_INCLUDE names; None: not asked for

    @property
    def decided(self) -> bool:
        """Whether Azure said that it can patch the machine, or that it cannot."""
        return self.state in (SupportState.SUPPORTED, SupportState.UNSUPPORTED)

    def same_news(self, other: Self) -> bool:
        """Whether both say the same of the machine."""
        return (self.state, self.counts, self.reboot_pending) == (other.state, other.counts, other.reboot_pending)

    @property
    def answered(self) -> bool:
        """Whether it came to an end with an answer; a list that was cut ends with warnings."""
        return succeeded(self.status)


@dataclass(frozen=True)
class OldestPatches:
    """When the oldest patches that wait on a machine were published; None where Azure does not say it."""

    critical: datetime | None = None
    security: datetime | None = None  # of those that are not Critical, too

    @property
    def first(self) -> datetime | None:
        return min((at for at in (self.critical, self.security) if at), default=None)

    def with_older(self, other: "OldestPatches") -> "OldestPatches":
        """The older ones of both."""
        critical = min((at for at in (self.critical, other.critical) if at), default=None)
        security = min((at for at in (self.security, other.security) if at), default=None)
        return OldestPatches(critical, security)


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
class ResourceGroup:
    """What the machine's resource group adds: its tags, and who manages it."""

    tags: Mapping[str, str] = field(default_factory=dict)
    managed_by: str = ""


@dataclass(frozen=True)
class ScopeFilter:
    """What a dynamic scope selects, lower-cased. Each empty part selects everything."""

    resource_types: frozenset[str] = frozenset()
    resource_groups: frozenset[str] = frozenset()  # names
    os_types: frozenset[str] = frozenset()
    locations: frozenset[str] = frozenset()
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)  # values by name
    any_tag: bool = False  # one of the tags is enough; otherwise all are needed


@dataclass(frozen=True)
class Assignment:
    """A maintenance configuration assigned to a machine, or by a dynamic scope to what a filter selects in a scope."""

    scopes: frozenset[str]  # lower-cased ids: of a machine, a resource group or a subscription
    filter: ScopeFilter | None = ScopeFilter()  # None: it cannot be read


@dataclass(frozen=True)
class ScaleSet:
    """What a scale set does with its machines by itself."""

    flexible: bool
    repairs: bool  # replaces those that it finds unwell
    upgrades: bool  # replaces or re-images them when its model or image changes


@dataclass(frozen=True)
class Machine:
    """One virtual machine or Arc-enabled server. What only the instance view shows is None in a value from Graph."""

    id: MachineId
    vm_id: str
    location: str
    os_type: OsType
    image: Image
    created: datetime | None
    provisioning_state: str
    power: PowerState
    tags: Mapping[str, str] = field(default_factory=dict)
    resource_group: ResourceGroup | None = None  # None: not read yet
    managed_by: str = ""
    scale_set: str = ""  # its id, lower-cased
    scale_set_rules: ScaleSet | None = None  # None: not asked, or it may not be read
    in_standby_pool: bool = False  # of a scale set; only the instance view says it
    availability_set: str = ""
    third_party_plan: bool = False
    extensions_allowed: bool = True
    patchers: PatchOrchestration = PatchOrchestration.UNKNOWN
    schedule_assigned: bool | None = None  # a maintenance configuration covers it; None: not known
    os_name: str = ""
    generalized: bool = False  # prepared as an image: it cannot be started again
    hibernated: bool = False  # a start resumes what is in its memory
    changed: datetime | None = None  # when the last operation on it ended: a write, start or deallocation
    agent_ready: bool | None = None
    agent_reports: bool = True  # the view has a status of the agent, ready or not
    agent_version: str = ""
    agent_status: str = ""  # of an Arc-enabled server, as Azure writes it: Connected, Disconnected, Expired, Error
    busy_extensions: tuple[str, ...] | None = None
    healthy: bool | None = None  # by the Application Health extension; None where there is none
    reboot_pending: bool | None = None
    assessment: PatchStatus | None = None
    installation: PatchStatus | None = None
    verdict: PatchAssessment | None = None  # None: Graph was not asked; ABSENT: it was, and shows nothing

    @property
    def one_at_a_time(self) -> str:
        """The set whose machines go one at a time: its availability set, else its scale set; "" for neither."""
        return self.availability_set or self.scale_set

    @property
    def being_deleted(self) -> bool:
        """Whether Azure deletes it: it takes no other operation any more."""
        return self.provisioning_state.lower() == "deleting"

    def tag(self, name: str) -> str:
        """The value of its own tag, else of its resource group's; "" where neither has it."""
        return self.tags.get(name) or (self.resource_group.tags.get(name, "") if self.resource_group else "")

    @property
    def patch_statuses(self) -> tuple[PatchStatus, ...]:
        return tuple([status for status in (self.assessment, self.installation) if status])

    def installed_well_since(self, tries: Sequence[datetime]) -> bool:
        """Whether the last of these tries, or a later installation, succeeded, as far as the machine shows."""
        last = self.installation
        return bool(tries and last and last.succeeded and last.started and last.started > tries[-1] - START_MARGIN)

    @property
    def assessment_alone(self) -> PatchStatus | None:
        """The newest assessment that was ordered by itself.

        An installation contains assessments, which carry its own activity id (Azure/LinuxPatchExtension).
        """
        inside = self.assessment and self.installation and self.assessment.same_operation(self.installation)
        return None if inside else self.assessment

    @property
    def pending(self) -> Pending:
        """The patches that wait, as its newest assessment counted them."""
        counts = self.verdict.counts if self.verdict else {}
        critical, security = counts.get("critical", 0), counts.get("security", 0)
        return Pending(critical, security, sum(counts.values()) - critical - security)

    @property
    def pending_at_all(self) -> bool:
        return bool(self.verdict and any(self.verdict.counts.values()))

    @property
    def quota_key(self) -> tuple[str, str]:
        """(subscription, region): the machines that share one quota of patch calls."""
        return self.id.subscription, self.location

    def in_resource_group(self, group: ResourceGroup) -> "Machine":
        machine = object.__new__(Machine)
        fields = vars(machine)  # set at once: a sweep does this for every due machine
        fields.update(vars(self))
        fields["resource_group"] = group
        return machine


def group_id(text: object) -> str:
    """The lower-cased id of a resource group. Raises BadInput."""
    if _GROUP_ID.fullmatch(lowered := lowered_id(text)):
        return lowered
    raise BadInput(f"{quoted(text)} is not a resource group id")


def subscription_in(text: object) -> str:
    """The subscription that an id begins with, whatever follows; "" where it names none."""
    match = _SUBSCRIPTION.match(text.lower()) if isinstance(text, str) else None
    return match["subscription"] if match else ""


def in_progress(status: str) -> bool:
    """Whether a status of Azure's names an operation that has not ended (services differ in its letter case)."""
    return status.lower() in ("inprogress", "notstarted", "accepted", "running")


def succeeded(status: str) -> bool:
    """Whether a status of Azure's names an operation that did its work."""
    return status.lower() in ("succeeded", "completedwithwarnings")


# What a result of an assessment or installation counts, with Azure's names.
TRIED_COUNTS = (
    "installedPatchCount",
    "failedPatchCount",
    "pendingPatchCount",
    "excludedPatchCount",
    "notSelectedPatchCount",
)
PATCH_COUNTS = (*TRIED_COUNTS, "criticalAndSecurityPatchCount", "otherPatchCount")
WINDOWS_MASK = re.compile(r"[A-Za-z0-9*?]+")  # all that the API allows in a name mask of Windows
KB_NUMBER = re.compile(r"(?:KB)?([0-9]{6,8})", re.IGNORECASE | re.ASCII)


def is_windows_name(name: str) -> bool:
    """Whether an order of Windows can carry this KB number or name mask."""
    return bool(KB_NUMBER.fullmatch(name) or WINDOWS_MASK.fullmatch(name))


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value is a number of patches, and no truth value, fraction or nonsense."""
    return type(value) is int and 0 <= value <= _MAX_PATCHES


def lowered_id(text: object) -> str:
    """An id in lower case; "" for what can be none.

    Python lowers two letters of group names otherwise than Azure's services: I with a dot becomes two characters, and a
    sigma at the end of a word another one.
    """
    if not isinstance(text, str) or _KELVIN_SIGN in text:
        return ""
    if text.isascii():
        return text.lower()
    return text.lower().replace("i\u0307", "\u0130").replace("\u03c2", "\u03c3")
