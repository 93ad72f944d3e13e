"""Reads machines and resource groups from ARM's answers and from Resource Graph's rows.

What cannot be read raises BadInput, whose one line says what is wrong, where, and what would be right. A missing part,
or one of another JSON type, reads as empty unless the empty value would permit something. Texts that many machines of
a fleet share are interned: a sweep keeps all that are due.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern

from functions.model.machine import (
    GALLERY_IMAGE,
    KB_NUMBER,
    PATCH_COUNTS,
    TRIED_COUNTS,
    Assignment,
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
    ScaleSet,
    ScopeFilter,
    SupportState,
    is_count,
    lowered_id,
    made,
)
from functions.model.patches import TriedPatch, TriedPatches
from functions.model.text import BadInput, Json, on_one_line, quoted

_MANAGED_IMAGE = re.compile(r"/subscriptions/.+/providers/microsoft\.compute/images/[^/]+")
# What Azure's resource naming rules allow in an image id: a resource group has letters and digits of any script, and
# ()-._; galleries and images have fewer. The key of an image reaches queries of people, the ledger and the workbook.
_IMAGE_ID = re.compile(r"[\w./()-]{1,2048}")
_IMAGE_NAME = re.compile(r"[\w.+-]{1,256}", re.ASCII)  # publisher, offer, sku or version
_SUPPORT_STATES = {state.value.lower(): state for state in SupportState if state is not SupportState.ABSENT}
_OS_TYPES = {os_type.value.lower(): os_type for os_type in OsType}
_POWER_STATES = {state.value: state for state in PowerState}
_NO_VERSION = ("", "latest")
_RESULT = (*PATCH_COUNTS, "maintenanceWindowExceeded", "error")
_BUSY = ("creating", "updating", "deleting", "transitioning")
_CUT_LIST = "truncated_patch_list_id"  # of the patch that stands for the rest of a list
_ARC_MINOR = re.compile(r"(?<=[0-9])(\.[0-9]+)+")
_ARC_NAME = re.compile(r"[^a-z0-9]+")
_MAX_PART = 200  # characters: as long as a mask of PATCH_PACKAGES_EXCLUDE may be
_MAX_TEXT = 4_000  # characters of one value: a column of the ledger holds 32,768, Azure's longest id 2,048


def machine_from_arm(vm: Json) -> Machine:
    """A machine from the answer to GET virtualMachines/{name}?$expand=instanceView. Raises BadInput."""
    properties = _object(vm.get("properties"))
    view = _object(properties.get("instanceView"))
    agent = _object(view.get("vmAgent"))
    patch_status = _object(view.get("patchStatus"))
    storage = _object(properties.get("storageProfile"))
    has_profile = isinstance(properties.get("osProfile"), Mapping)
    profile = _object(properties.get("osProfile"))
    created = time_or_none(properties.get("timeCreated"))
    image = image_of(_object(storage.get("imageReference")), has_profile=has_profile, created=created)
    return Machine(
        id=MachineId.parse(vm.get("id")),
        vm_id=_text(properties.get("vmId")).lower(),
        location=_location(vm.get("location")),
        os_type=_os_type(_object(storage.get("osDisk")).get("osType")),
        image=image,
        created=created,
        provisioning_state=_text(properties.get("provisioningState")),
        power=_power(_power_code(view)),
        tags=_tags(vm.get("tags")),
        managed_by=_text(vm.get("managedBy")),
        scale_set=_id(_object(properties.get("virtualMachineScaleSet")).get("id")),
        in_standby_pool=view.get("isVMInStandbyPool") is True,
        availability_set=_id(_object(properties.get("availabilitySet")).get("id")),
        third_party_plan=bool(_object(vm.get("plan")).get("name")),
        extensions_allowed=profile.get("allowExtensionOperations") is not False,
        patchers=_orchestration(image, profile.get("windowsConfiguration"), profile.get("linuxConfiguration")),
        os_name=_text(view.get("osName")),
        generalized="osstate/generalized" in _codes(view),
        hibernated="hibernationstate/hibernated" in _codes(view),
        changed=_changed(view),
        agent_ready=_agent_ready(agent) if view else None,
        agent_reports=bool(_objects(agent.get("statuses"))),
        agent_version=_text(agent.get("vmAgentVersion")),
        busy_extensions=_busy_extensions(view),
        healthy=_healthy(_object(_object(view.get("vmHealth")).get("status"))),
        reboot_pending=_reboot_pending(_object(patch_status.get("availablePatchSummary"))),
        assessment=_patch_status(patch_status.get("availablePatchSummary"), "assessmentActivityId"),
        installation=_patch_status(patch_status.get("lastPatchInstallationSummary"), "installationActivityId"),
    )


def machine_from_graph(row: Json) -> Machine:
    """A machine from a row with the columns of queries/_machine_columns.kql. Raises BadInput."""
    created = time_or_none(row.get("created"))
    image = image_of(_object(row.get("image")), has_profile=row.get("has_os_profile") is True, created=created)
    return made(
        Machine,
        id=MachineId.parse(row.get("id")),
        vm_id=_text(row.get("vm_id")).lower(),
        location=_location(row.get("location")),
        os_type=_os_type(row.get("os_type")),
        image=image,
        created=created,
        provisioning_state=intern(_text(row.get("provisioning_state"))),
        power=_power(_text(row.get("power_code"))),
        tags=_tags(row.get("tags")),
        managed_by=_text(row.get("managedBy")),
        scale_set=_id(row.get("scale_set")),
        availability_set=_id(row.get("availability_set")),
        third_party_plan=bool(_object(row.get("plan")).get("name")),
        extensions_allowed=row.get("allow_extensions") is not False,
        patchers=_orchestration(image, row.get("windows"), row.get("linux")),
        verdict=_assessment(row),
    )


def arc_machine_from_json(body: Json) -> Machine:
    """An Arc-enabled server from ARM, or from a row of Graph with the same properties. Raises BadInput.

    It shows no time of its creation, no patch status, and no power: its agent's connection stands for that. A schedule
    may patch it whatever its patch settings say. A node of Azure Local is its cluster's.
    """
    properties = _object(body.get("properties"))
    status = _text(properties.get("status"))
    connected = status.lower() == "connected"
    os_type = _os_type(properties.get("osType") or properties.get("osName"), "osType")
    node = "azure local" if _text(body.get("kind")).lower() == "hci" else ""
    return Machine(
        id=MachineId.parse(body.get("id")),
        vm_id=_text(properties.get("vmId")).lower(),
        location=_location(body.get("location")),
        os_type=os_type,
        image=arc_image(os_type, _text(properties.get("osSku"))),
        created=None,
        provisioning_state=_text(properties.get("provisioningState")),
        power=PowerState.RUNNING if connected else PowerState.UNKNOWN,
        tags=_tags(body.get("tags")),
        managed_by=_text(properties.get("parentClusterResourceId")) or node,
        patchers=PatchOrchestration.SCHEDULE,
        os_name=_text(properties.get("osSku")),
        agent_ready=connected,
        agent_version=_text(properties.get("agentVersion")),
        agent_status=status,
    )


def arc_machine_from_graph(row: Json) -> Machine:
    """An Arc-enabled server from a row with the columns of queries/_arc_columns.kql. Raises BadInput."""
    return replace(arc_machine_from_json(row), agent_ready=None, verdict=_assessment(row))


def arc_image(os_type: OsType, sku: str) -> Image:
    """What stands for the image of a server that has none: its system, by name and main version.

    Patches change the rest of a version (Ubuntu 22.04.3 becomes 22.04.4): with it in the key, a server would leave its
    group, and the group's breaker, by being patched.
    """
    name = _ARC_MINOR.sub("", sku.lower())
    name = _ARC_NAME.sub("-", name).strip("-")[:_MAX_PART] or "unknown"
    return Image(ImageKind.ARC, f"arc/{os_type.lower()}/{name}")


def scale_set_from_json(body: Json) -> tuple[str, ScaleSet]:
    """A scale set's id and rules from ARM, or from a row of queries/scale_sets_named.kql with the same properties.

    What cannot be read counts as on: such a scale set may replace a machine at any time.
    """
    properties = _object(body.get("properties"))
    policy, repairs = _object(properties.get("upgradePolicy")), _object(properties.get("automaticRepairsPolicy"))
    by_image = _object(policy.get("automaticOSUpgradePolicy")).get("enableAutomaticOSUpgrade")
    rules = ScaleSet(
        flexible=_text(properties.get("orchestrationMode")).lower() == "flexible",
        repairs=repairs.get("enabled", False) is not False,
        upgrades=_text(policy.get("mode")).lower() not in ("", "manual") or by_image not in (None, False),
    )
    return _id(body.get("id")), rules


def resource_group_from_json(body: Json) -> ResourceGroup:
    """A resource group from ARM or from Graph, which name `tags` and `managedBy` alike. Raises BadInput."""
    return ResourceGroup(tags=_tags(body.get("tags")), managed_by=_text(body.get("managedBy")))


def assignment_from_graph(row: Json) -> Assignment:
    """An assignment of a maintenance configuration. A filter that cannot be read may select any machine."""
    scopes = frozenset(_id(row.get(name)) for name in ("owner", "resource")) - {""}
    try:
        return Assignment(scopes, _scope_filter(row.get("filter")))
    except BadInput:
        return Assignment(scopes, None)


def _scope_filter(value: object) -> ScopeFilter:
    """Raises BadInput."""
    if value is not None and not isinstance(value, Mapping):
        raise BadInput("the filter of a maintenance scope is not an object")
    content = _object(value)
    settings = _object(content.get("tagSettings"))
    return ScopeFilter(
        resource_types=_names(content.get("resourceTypes")),
        resource_groups=frozenset(_id(name.rpartition("/")[2]) for name in _names(content.get("resourceGroups"))),
        os_types=_names(content.get("osTypes")),
        locations=frozenset(name.replace(" ", "") for name in _names(content.get("locations"))),
        tags={str(name).lower(): _names(values) for name, values in _object(settings.get("tags")).items()},
        any_tag=_text(settings.get("filterOperator")).lower() == "any",
    )


def _names(value: object) -> frozenset[str]:
    """A list of texts, lower-cased. Raises BadInput."""
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadInput("a filter of a maintenance scope is not a list of texts")
    return frozenset(each.lower() for each in value)


def image_of(reference: Json, *, has_profile: bool, created: datetime | None = None) -> Image:
    """The image in a storage profile's imageReference.

    The portal's rule: publisher, offer and sku together mean a marketplace image; every other image is customized. A
    gallery image without osProfile is specialized (inferred: no public statement ties the two). Where no version is
    known, the day of the machine's creation stands in for it: one of another day may be of another version.

    Raises BadInput for an id or name with other characters than Azure allows.
    """
    try:
        image, exact = _image(tuple(reference.items()), has_profile)
    except TypeError:  # a list or an object in it has no hash: nothing is kept
        image, exact = _image.__wrapped__(tuple(reference.items()), has_profile)
    if exact or not created:
        return image
    return Image(image.kind, f"{image.key} of {created.date().isoformat()}")


@lru_cache(maxsize=1024)  # a fleet has few images, and a sweep reads each once per machine
def _image(items: tuple[tuple[str, object], ...], has_profile: bool) -> tuple[Image, bool]:
    """The image of an imageReference's items, and whether its key names a version where it could. Raises BadInput."""
    reference = dict(items)
    exact_version = _image_part(reference, "exactVersion", _IMAGE_NAME)
    if all(reference.get(name) for name in ("publisher", "offer", "sku")):
        name = ":".join(_image_part(reference, part, _IMAGE_NAME) for part in ("publisher", "offer", "sku"))
        version = exact_version or _image_part(reference, "version", _IMAGE_NAME)
        exact = version not in _NO_VERSION
        return Image(ImageKind.MARKETPLACE, f"{name}:{version}" if exact else name), exact
    if shared := _image_part(reference, "sharedGalleryImageId", _IMAGE_ID):
        return _versioned(ImageKind.SHARED_GALLERY, shared, exact_version)
    if community := _image_part(reference, "communityGalleryImageId", _IMAGE_ID):
        return _versioned(ImageKind.COMMUNITY_GALLERY, community, exact_version)
    own = _image_part(reference, "id", _IMAGE_ID)
    if not own:
        return Image(ImageKind.NONE), True
    if _MANAGED_IMAGE.fullmatch(own):
        return Image(ImageKind.MANAGED_IMAGE, own), True
    kind = ImageKind.GALLERY if has_profile else ImageKind.GALLERY_SPECIALIZED
    return _versioned(kind, own, exact_version)


def image_size_from_graph(row: Json) -> tuple[str, int]:
    """The key of an image, and how many machines are of it: a row of image_sizes.kql. Raises BadInput."""
    machines = row.get("machines")
    if not is_count(machines):
        raise BadInput(f"{quoted(machines)} is not a number of machines")
    reference, created = _reference(row.get("reference")), time_or_none(row.get("created"))
    if "arc" in reference:  # of a server without an image, see image_sizes.kql
        return arc_image(_os_type(reference["arc"], "osType"), _text(reference.get("sku"))).key, machines
    return image_of(reference, has_profile=True, created=created).key, machines


def _reference(text: object) -> Json:
    """An imageReference that a query gave as text; "" is that of a machine without an image. Raises BadInput."""
    try:
        value = json.loads(text) if isinstance(text, str) and text else {}
    except (ValueError, RecursionError):  # the second: brackets nested thousands deep
        value = None
    if not isinstance(value, dict):
        raise BadInput(f"{quoted(text)} is not an imageReference")
    return value


def _image_part(reference: Json, name: str, form: re.Pattern[str]) -> str:
    """One part of an imageReference, lower-cased; "" where there is none. Raises BadInput."""
    value = reference.get(name)
    if value is None or value == "":
        return ""
    if form.fullmatch(lowered := lowered_id(value)):
        return lowered
    raise BadInput(f"imageReference.{name} is {quoted(value)}; it should have the characters of an image's name or id")


def time_or_none(value: object) -> datetime | None:
    """A time as Azure writes it (up to seven fraction digits; Z, an offset or UTC implied), in UTC.

    None for null and "". Raises BadInput for every other value. The year 9999 is a placeholder, and nothing can be
    added to it.
    """
    if value is None or value == "":
        return None
    moment = _moment(value)
    if moment is None or moment.year == 9999:
        raise BadInput(f"{quoted(value)} is not a time; it should read like 2026-11-25T08:00:00Z")
    return moment


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        if moment.tzinfo is UTC:
            return moment
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _versioned(kind: ImageKind, image_id: str, exact_version: str) -> tuple[Image, bool]:
    """A gallery image with the exact version, where its id names none or the latest; whether its key names one."""
    match = GALLERY_IMAGE.fullmatch(image_id)
    if not match or (match["version"] or "") not in _NO_VERSION:
        return Image(kind, image_id), True
    definition = match["definition"]
    return Image(kind, f"{definition}/versions/{exact_version}" if exact_version else definition), bool(exact_version)


def _orchestration(image: Image, windows: object, linux: object) -> PatchOrchestration:
    """Who else patches the machine, from its windowsConfiguration or linuxConfiguration."""
    configuration = windows if isinstance(windows, dict) else linux
    if not isinstance(configuration, dict):
        return PatchOrchestration.UNKNOWN
    settings = _object(configuration.get("patchSettings"))
    mode = _text(settings.get("patchMode")).lower()
    if mode == "automaticbyplatform":
        if _object(settings.get("automaticByPlatformSettings")).get("bypassPlatformSafetyChecksOnUserSchedule") is True:
            return PatchOrchestration.SCHEDULE
        return PatchOrchestration.NOBODY if image.customized else PatchOrchestration.PLATFORM
    automatic_updates = configuration.get("enableAutomaticUpdates") is True and mode != "manual"
    return PatchOrchestration.SELF if mode == "automaticbyos" or automatic_updates else PatchOrchestration.US


def _assessment(row: Json) -> PatchAssessment:
    counts = _object(row.get("counts"))
    return made(
        PatchAssessment,
        state=_support_state(_text(row.get("support_state"))),
        assessment_id=_text(row.get("assessment_id")).lower(),
        assessed=time_or_none(row.get("assessment_started")),
        status=intern(_text(row.get("assessment_status"))),
        counts=_counts(tuple([(name, count) for name, count in counts.items() if is_count(count)])),
        reboot_pending=row.get("reboot_pending") is True,
        named=None,
    )


@lru_cache(maxsize=4096)  # shared: a sweep holds those of every due machine, and most are alike
def _counts(items: tuple[tuple[str, int], ...]) -> Json:
    return {intern(str(name).lower()): count for name, count in items}


def _support_state(text: str) -> SupportState:
    """One that only a later Azure knows is read as Unknown: it permits nothing, and the machine stays in sight."""
    return _SUPPORT_STATES.get(text.lower(), SupportState.UNKNOWN) if text else SupportState.ABSENT


def unknown_support_state(row: Json) -> str:
    """The support state of a row, where it is none that this app knows; else ""."""
    text = _text(row.get("support_state"))
    return text if text and text.lower() not in _SUPPORT_STATES else ""


def _patch_status(summary: object, id_name: str) -> PatchStatus | None:
    """The summary of the last assessment or installation, whose id has the name `id_name`; None before the first."""
    if not isinstance(summary, Mapping) or not summary.get(id_name):
        return None
    return PatchStatus(
        operation_id=_text(summary.get(id_name)).lower(),
        status=_text(summary.get("status")),
        started=time_or_none(summary.get("startTime")),
        modified=time_or_none(summary.get("lastModifiedTime")),
        result={name: summary[name] for name in _RESULT if summary.get(name) is not None},
    )


def tried_patches(result: Json) -> TriedPatches:
    """The patches in an installation's result, whatever it holds. An instance view counts them only.

    A guest cuts a long list short and goes on counting; it may count without a list (tests/recordings:
    guest_extension_histories.json, operation_errors.json).
    """
    named = tuple(patch for each in _objects(result.get("patches")) if (patch := tried_patch(each)))
    counted = sum(count for name in TRIED_COUNTS if is_count(count := result.get(name)))
    unnamed = max(0, counted - len(named))
    listed = isinstance(result.get("patches"), list)
    return TriedPatches(named, unnamed, known=bool(named) or (listed and not unnamed))


def tried_patch(patch: Json) -> TriedPatch | None:
    """One patch of such a list; None for the placeholder of what was cut, and for one without a name."""
    if _text(patch.get("patchId")).lower() == _CUT_LIST:
        return None
    match = KB_NUMBER.fullmatch(_text(patch.get("kbId")))
    name = f"KB{match[1]}" if match else _part(patch.get("name"))
    if not name:
        return None
    classes = patch.get("classifications")
    classification = _part(classes[0] if isinstance(classes, list) and classes else classes)
    state = _part(patch.get("installationState"))
    return TriedPatch(name, _part(patch.get("version")), _word(classification), _word(state))


def _part(value: object) -> str:
    """A part of a patch's name, without what separates patches from each other."""
    return _text(value)[:_MAX_PART].replace(";", ",").strip()


def _word(text: str) -> str:
    return text.replace(" ", "") or "Unknown"


def _power_code(view: Json) -> str:
    return next((code for code in _codes(view) if code.startswith("powerstate/")), "")


def _power(code: str) -> PowerState:
    return _POWER_STATES.get(code.lower().removeprefix("powerstate/"), PowerState.UNKNOWN)


def _changed(view: Json) -> datetime | None:
    """The time of the provisioning state. A start and a deallocation are updates, too (Learn, "States and billing")."""
    statuses = [each for each in _objects(view.get("statuses")) if _is_provisioning(each)]
    return time_or_none(statuses[0].get("time")) if statuses else None


def _is_provisioning(status: Json) -> bool:
    return _text(status.get("code")).lower().startswith("provisioningstate/")


def _agent_ready(agent: Json) -> bool:
    return any(
        _text(status.get("code")).lower() == "provisioningstate/succeeded"
        and _text(status.get("displayStatus")).lower() == "ready"
        for status in _objects(agent.get("statuses"))
    )


def _busy_extensions(view: Json) -> tuple[str, ...]:
    """The extensions in creation, update, deletion or transition: Azure refuses an operation beside them."""
    return tuple(
        _text(extension.get("name"))
        for extension in _objects(view.get("extensions"))
        if any(code.split("/")[-1] in _BUSY for code in _codes(extension))
    )


def _codes(view: Json) -> list[str]:
    """The codes in the `statuses` of an instance view, lower-cased."""
    return [_text(status.get("code")).lower() for status in _objects(view.get("statuses"))]


def _healthy(status: Json) -> bool | None:
    """By the application's own word alone: `Unknown` and `Initializing` (rich states) are none."""
    return {"healthstate/healthy": True, "healthstate/unhealthy": False}.get(_text(status.get("code")).lower())


def _reboot_pending(summary: Json) -> bool | None:
    pending = summary.get("rebootPending")
    return pending if isinstance(pending, bool) else None


def _os_type(value: object, name: str = "osDisk.osType") -> OsType:
    if os_type := _OS_TYPES.get(value.lower() if isinstance(value, str) else ""):
        return os_type
    raise BadInput(f"{name} is {quoted(value)}; it should be Windows or Linux")


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Sequence[Json]:
    return [_object(item) for item in value] if isinstance(value, list) else []


def _location(value: object) -> str:
    """A region's name: Azure writes "westeurope" and "West Europe"."""
    return intern(_text(value).lower().replace(" ", ""))


def _id(value: object) -> str:
    """An id, in the one spelling that ids of both sources have; one that no machine could have is lower-cased only."""
    text = _text(value)
    return lowered_id(text) or text.lower()


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return ""
    return value if value.isprintable() else on_one_line(value)


def _tags(value: object) -> dict[str, str]:
    """Tags, names lower-cased. Raises BadInput: a tag may forbid patching, so unreadable tags do not read as none."""
    if value is not None and not isinstance(value, Mapping):
        raise BadInput(f"tags are {quoted(value)}; they should be an object of names and values")
    return {intern(str(name).lower()): intern(str(text).strip()) for name, text in _object(value).items()}
