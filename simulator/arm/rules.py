"""What the body of a PUT, PATCH or POST may not say about a machine or a group: names, places, kinds, unchangeables.

Codes and texts: public reports, named where they are not Microsoft's documentation of deployment errors. The status is
400 where no report gives one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from simulator.arm.locations import LOCATIONS, normal
from simulator.wire import Json, Refused

_GROUP_NAME = re.compile(r"[\w.()-]{1,90}")
_ENTITY_RULE = r"^[^_\W][\w-._]{0,79}(?<![-.])$"  # as Compute's refusal shows it
_ENTITY_NAME = re.compile(r"[^_\W][\w\-.]{0,79}(?<![-.])")
_SECTIONS = (  # what must be objects, and where: a section is a path from the top of the body
    ("properties",),
    ("properties", "hardwareProfile"),
    ("properties", "storageProfile"),
    ("properties", "storageProfile", "osDisk"),
    ("properties", "storageProfile", "imageReference"),
    ("properties", "osProfile"),
    ("properties", "osProfile", "windowsConfiguration"),
    ("properties", "osProfile", "windowsConfiguration", "patchSettings"),
    ("properties", "osProfile", "linuxConfiguration"),
    ("properties", "osProfile", "linuxConfiguration", "patchSettings"),
    ("windowsParameters",),
    ("linuxParameters",),
)
_ASSESSMENT_MODES = ("ImageDefault", "AutomaticByPlatform")
_PATCH_SETTINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "windowsConfiguration": {
        "patchMode": ("Manual", "AutomaticByOS", "AutomaticByPlatform"),
        "assessmentMode": _ASSESSMENT_MODES,
    },
    "linuxConfiguration": {
        "patchMode": ("ImageDefault", "AutomaticByPlatform"),
        "assessmentMode": _ASSESSMENT_MODES,
    },
}


# --- names and places ----------------------------------------------------------------------------------------------


def check_group_name(name: str) -> None:
    """Raises Refused (400)."""
    wrong = sorted({each for each in name if not _GROUP_NAME.fullmatch(each)}) or ["."]
    if not _GROUP_NAME.fullmatch(name) or name.endswith("."):
        text = (
            f"The provided resource group name '{name}' has these invalid characters: '{''.join(wrong)}'. "
            "The name can only be a letter, digit, '-', '.', '(', ')' or '_'."
        )
        raise Refused(400, "InvalidResourceGroup", text)


def check_machine_name(name: str) -> None:
    """Raises Refused (400)."""
    if not _ENTITY_NAME.fullmatch(name):
        text = f"The entity name 'vmName' is invalid according to its validation rule: {_ENTITY_RULE}."
        raise Refused(400, "InvalidParameter", text, target="vmName")


def check_group_location(wanted: Json, name: str, existing: Json | None) -> None:
    """A group stays where it is. Raises Refused (400, 409)."""
    location = check_location(wanted)
    if existing and normal(existing["location"]) != normal(location):
        text = (
            f"Invalid resource group location '{location}'. The Resource group '{name}' already exists in location "
            f"'{existing['location']}'."
        )
        raise Refused(409, "InvalidResourceGroupLocation", text)
    if normal(location) not in LOCATIONS:
        text = f"The provided location '{location}' is not available for resource group."
        available = f"List of available regions is '{','.join(LOCATIONS)}'."
        raise Refused(400, "LocationNotAvailableForResourceGroup", f"{text} {available}")


def check_new_machine(body: Json, name: str) -> None:
    """What a machine needs that is not there yet. Raises Refused (400)."""
    check_machine_name(name)
    location, kind = check_location(body), "Microsoft.Compute/virtualMachines"
    if normal(location) not in LOCATIONS:
        text = f"The provided location '{location}' is not available for resource type '{kind}'."
        available = f"List of available regions for the resource type is '{','.join(LOCATIONS)}'."
        raise Refused(400, "LocationNotAvailableForResourceType", f"{text} {available}")
    for section in ("hardwareProfile", "storageProfile"):
        if not (body.get("properties") or {}).get(section):
            text = f"Required parameter '{section}' is missing (null)."
            raise Refused(400, "InvalidParameter", text, target=section)


def check_machine_location(wanted: Json, *, name: str, group: str, location: str) -> None:
    """A machine stays where it is. Raises Refused (409)."""
    if wanted.get("location") is not None and normal(check_location(wanted)) != normal(location):
        text = (
            f"The resource '{name}' already exists in location '{location}' in resource group '{group}'. A resource "
            f"with the same name cannot be created in location '{wanted['location']}'. Please select a new resource "
            "name."
        )
        raise Refused(409, "InvalidResourceLocation", text)


def check_location(body: Json) -> str:
    """Raises Refused (400) where a body names no place."""
    location = body.get("location")
    if not isinstance(location, str) or not location:
        raise Refused(400, "LocationRequired", "The location property is required for this definition.")
    return location


# --- kinds of values -----------------------------------------------------------------------------------------------


def check_sections(body: Json) -> None:
    """Raises Refused (400) where an object or a tag is of another kind."""
    for path in _SECTIONS:
        if not isinstance(_at(body, path), dict):
            raise _not_deserialized(".".join(path))
    tags = body.get("tags")
    if tags is not None and not (isinstance(tags, dict) and all(isinstance(each, str) for each in tags.values())):
        raise _not_deserialized("tags")


def _not_deserialized(path: str) -> Refused:
    text = f"The request content was invalid and could not be deserialized: 'Error converting value. Path '{path}'.'."
    return Refused(400, "InvalidRequestContent", text)


def check_modes(body: Json) -> None:
    """Patch and assessment modes of the body's own. Raises Refused (400)."""
    for name, settings in _PATCH_SETTINGS.items():
        given = _at(body, ("properties", "osProfile", name, "patchSettings"))
        for setting, values in settings.items():
            _check_enum(given.get(setting), f"{name}.patchSettings.{setting}", values)


def check_values(values: object, path: str, known: Iterable[str]) -> None:
    """A list of an order. Raises Refused (400)."""
    if values is not None and not isinstance(values, list):
        raise _not_deserialized(path)
    for value in values or ():
        _check_enum(value, path, known)


def _check_enum(value: object, path: str, known: Iterable[str]) -> None:
    if value is not None and str(value).lower() not in {each.lower() for each in known}:
        raise Refused(400, "InvalidParameter", f"The value of parameter {path} is invalid.", target=path)


def wants_platform_patches(body: Json) -> bool:
    """Whether a body sets a mode that the platform's patch extension must serve."""
    found = (_at(body, ("properties", "osProfile", name, "patchSettings")) for name in _PATCH_SETTINGS)
    return any("AutomaticByPlatform" in (each.get("patchMode"), each.get("assessmentMode")) for each in found)


# --- what cannot change --------------------------------------------------------------------------------------------


def check_unchangeable(before: Json, wanted: Json) -> None:
    """Raises Refused (409) where a body gives another value to what is fixed at a machine's creation."""
    for path in _changed(before, wanted):
        text = f"Changing property '{path}' is not allowed."
        raise Refused(409, "PropertyChangeNotAllowed", text, target=path)


def _changed(before: Json, wanted: Json) -> Iterable[str]:
    if wanted.get("zones") is not None and wanted["zones"] != before.get("zones", []):
        yield "zones"
    image, old = (_at(each, ("properties", "storageProfile", "imageReference")) for each in (wanted, before))
    for name, value in image.items():
        if name != "exactVersion" and value is not None and not _same(value, old.get(name)):
            yield f"imageReference.{name}" if name in old else "imageReference"
    for section, name in (("storageProfile.osDisk", "createOption"), ("storageProfile.osDisk", "osType")):
        yield from _changed_in(before, wanted, section=section, name=name, shown=f"osDisk.{name}")
    yield from _changed_in(before, wanted, section="osProfile", name="adminUsername", shown="adminUsername")


def _changed_in(before: Json, wanted: Json, *, section: str, name: str, shown: str) -> Iterable[str]:
    path = ("properties", *section.split("."))
    value = _at(wanted, path).get(name)
    if value is not None and not _same(value, _at(before, path).get(name)):
        yield shown


def _same(one: object, other: object) -> bool:
    return str(one).lower() == str(other).lower()


def _at(body: Json, path: Iterable[str]) -> Any:
    """The value at a path; {} where nothing is there."""
    found: Any = body
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
        if found is None:
            return {}
    return found
