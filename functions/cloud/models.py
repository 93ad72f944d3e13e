"""Machines and resource groups, read from ARM's answers and from Resource Graph's rows.

Text from outside becomes a value here or raises BadInput, whose one line says what was wrong, where, and what would be
right.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from functions.model.machine import (
    GALLERY_IMAGE,
    Group,
    Image,
    ImageKind,
    Machine,
    MachineId,
    OsType,
    PatchAssessment,
    PatchOrchestration,
    PatchStatus,
    PowerState,
    SupportState,
    is_count,
)
from functions.model.text import BadInput, Json, quoted

_MANAGED_IMAGE = re.compile(r"/subscriptions/.+/providers/microsoft\.compute/images/[^/]+")


_FRACTION = re.compile(r"(\.\d{6})\d+")


_MAX_TEXT = 4_000  # of one value: the ledger's columns hold 32,768 characters, and Azure's longest id 2,048


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
            raise BadInput(f"{quoted(value)} is no time; it should read like 2026-11-25T08:00:00Z") from None
        if moment.year < 9999:  # the last year is a placeholder, and nothing can be added to it
            return moment
    raise BadInput(f"{quoted(value)} is no time; it should read like 2026-11-25T08:00:00Z")


def _versioned(image_id: str, exact_version: str) -> str:
    match = GALLERY_IMAGE.fullmatch(image_id)
    if not match or match["version"] or not exact_version:
        return image_id
    return f"{image_id}/versions/{exact_version}"


def _patchers(image: Image, windows: object, linux: object) -> PatchOrchestration:
    configuration = windows if isinstance(windows, Mapping) else linux
    if not isinstance(configuration, Mapping):
        return PatchOrchestration.UNKNOWN
    settings = _object(configuration.get("patchSettings"))
    mode = _text(settings.get("patchMode")).lower()
    if mode == "automaticbyplatform":
        if _object(settings.get("automaticByPlatformSettings")).get("bypassPlatformSafetyChecksOnUserSchedule") is True:
            return PatchOrchestration.SCHEDULE
        return PatchOrchestration.NOBODY if image.customized else PatchOrchestration.PLATFORM
    automatic = configuration.get("enableAutomaticUpdates") is True and mode != "manual"
    return PatchOrchestration.SELF if mode == "automaticbyos" or automatic else PatchOrchestration.US


def _verdict(row: Json) -> PatchAssessment:
    text = _text(row.get("support_state"))
    known = {state.value.lower(): state for state in SupportState if state is not SupportState.ABSENT}
    if text and text.lower() not in known:
        raise BadInput(
            f"support state {quoted(text)} is not known; it should be "
            "Unknown, Supported, Unsupported or UnableToDetermine"
        )
    counts = _object(row.get("counts"))
    return PatchAssessment(
        state=known[text.lower()] if text else SupportState.ABSENT,
        assessment_id=_text(row.get("assessment_id")).lower(),
        assessed=time_or_none(row.get("assessment_started")),
        status=_text(row.get("assessment_status")),
        counts={str(name).lower(): count for name, count in counts.items() if is_count(count)},
        reboot_pending=row.get("reboot_pending") is True,
    )


def _summary(body: object, id_name: str) -> PatchStatus | None:
    if not isinstance(body, Mapping) or not body.get(id_name):
        return None
    return PatchStatus(
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
    raise BadInput(f"osDisk.osType is {quoted(value)}; it should be Windows or Linux")


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _MAX_TEXT else ""


def _tags(value: object) -> dict[str, str]:
    """Tags, names lower-cased. Raises BadInput: a tag may forbid, so what cannot be read is not read as none."""
    if value is not None and not isinstance(value, Mapping):
        raise BadInput(f"tags are {quoted(value)}; they should be an object of names and values")
    return {str(name).lower(): str(text).strip() for name, text in _object(value).items()}
