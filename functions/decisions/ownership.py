"""Detects machines that another service makes, patches and replaces: marks as data, each with its source.

Such a machine is neither assessed nor installed. A mark is as narrow as its service's own names are: a name that a
person may well choose is none (tests/recordings/foreign_machines.json has examples and near misses of each).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from functions.model.machine import ImageKind, Machine, ScaleSet


@dataclass(frozen=True)
class Manager:
    """Who manages the machine."""

    name: str
    owner_may_choose: bool = False  # a lab or a head node may live long: its owner may want it patched here
    remedy: str = ""  # where there is one of its own


_NODE = Manager("a Kubernetes node")
_BUILD = Manager("an image build")
_DATABRICKS = Manager("a Databricks node")
_BATCH = Manager("a Batch node")
_FABRIC = Manager("a node of a Service Fabric managed cluster")
_CITRIX = Manager("a machine that Citrix provisions")
_CYCLE = Manager("a CycleCloud node", owner_may_choose=True)
_AZURE_LOCAL = Manager("a node of Azure Local", remedy="Update its cluster as a whole.")
_LAB = Manager("a DevTest Labs machine", owner_may_choose=True)
_CLIENT = Manager("Windows client")
_LEFT_SCALE_SET = Manager(
    "a member of a scale set", remedy="Set PATCH_SCALE_SETS=include to take in members of Flexible scale sets."
)
_UNREAD_SCALE_SET = Manager(
    "a member of a scale set, whose rules are not known",
    remedy="Check that the app's identity may read virtual machine scale sets.",
)
_NO_REPAIRS = "Patch its image, or switch the scale set's automatic repairs off."
_MANUAL = "Patch its image, or set the scale set's upgrade policy to Manual, without automatic OS upgrades."
_GUID = r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"
_REGION = r"[a-z]*(east|west|north|south|central|usgov)[a-z]*[0-9]?[a-z]*"

# Names of resource groups and machines (lower case). The part that the service makes up is what tells them from others.
_GROUP_NAMES = (
    (re.compile(rf"mc_.+_.+_{_REGION}"), _NODE),  # AKS FAQ, node resource group
    (re.compile(r"aro-[a-z0-9]{8}"), _NODE),  # Azure Red Hat OpenShift, the CLI's default
    (re.compile(r"databricks-rg-.+-[a-z0-9]{13}"), _DATABRICKS),  # managed group of a workspace
    (re.compile(rf"it_.+_.+_{_GUID}"), _BUILD),  # Image Builder, staging group
    (re.compile(r"(pkr|packer)-resource-group-[a-z0-9]{10}"), _BUILD),  # Packer's azure-arm builder
    (re.compile(rf"citrix-xd-{_GUID}-[a-z0-9]{{5}}"), _CITRIX),  # Citrix Machine Creation Services
    (re.compile(rf"azurebatch-{_GUID}-.+"), _BATCH),  # Azure Batch, pools in the user's subscription
    (re.compile(rf"sfc_{_GUID}"), _FABRIC),  # Service Fabric managed clusters
)
_MACHINE_NAMES = ((re.compile(r"pkrvm[a-z0-9]{10}"), _BUILD),)  # Packer, also in a group of the owner's

# Tags of machine or resource group: every name and value (lower case) of a mark has to be there.
_TAGS = (
    ({r"aks-managed-.+": r".*"}, _NODE),  # AKS, "Use Azure tags in AKS": the prefix is reserved
    ({r"karpenter\.(sh|azure\.com)[/_].+": r".*"}, _NODE),  # AKS node auto-provisioning
    ({r"kubernetes\.io_cluster\..+": r"owned"}, _NODE),  # OpenShift
    ({r"red-hat-managed": r"true"}, _NODE),  # Azure Red Hat OpenShift
    ({r"createdby": r"azurevmimagebuilder"}, _BUILD),  # Image Builder, staging group
    ({r"imagetemplate(name|resourcegroupname)": r".*"}, _BUILD),
    ({r"vendor": r"databricks", r"clusterid|clustername|databricksinstancepoolid": r".*"}, _DATABRICKS),
    ({r"citrix(provisioningschemeid|resource|virtualsiteid|customerid)": r".*"}, _CITRIX),
    ({r"cyclecloud(cluster|nodearray)|cycleowner": r".*"}, _CYCLE),
    ({r"hidden-devtestlabs-.+": r".*"}, _LAB),
    ({r"createdby": r"devtestlabs"}, _LAB),
)
_ANY_TAG = re.compile("|".join(f"({name})" for mark, _ in _TAGS for name in mark))  # most machines have none of them

_AKS_GALLERIES = re.compile(r".*/galleries/(aksubuntu|akswindows|aksazurelinux|akscblmariner)[^/]*/.*")
_WINDOWS_CLIENT = re.compile(r"windows (10|11)\b.*", re.IGNORECASE)


def foreign_manager(machine: Machine, *, scale_sets: bool = False) -> Manager | None:
    """Who manages the machine; None when no other service does. The strongest mark first: managedBy, tags, names.

    `scale_sets`: members of Flexible scale sets are taken in, where their set leaves them alone.
    """
    group = machine.resource_group
    if machine.managed_by and machine.id.is_arc:
        return _AZURE_LOCAL
    if machine.managed_by or (group and group.managed_by):
        return Manager("another Azure resource manages the machine (managedBy)")
    if machine.in_standby_pool:
        return Manager("in the standby pool of a scale set: not covered")
    if machine.scale_set and (manager := _scale_set(machine.scale_set_rules) if scale_sets else _LEFT_SCALE_SET):
        return manager
    if _is_of_aks(machine.image.key):
        return _NODE
    for tags in (machine.tags, group.tags if group else {}):
        marks = _may_be_marks(tuple(tags)) if tags else ()
        if marks and (manager := _of_tags(tuple([(name, tags[name]) for name in marks]))):
            return manager
    named = _of_group(machine.id.group) or _of_name(machine.id.name, _MACHINE_NAMES)
    return named or (_CLIENT if _is_windows_client(machine) else None)


def _scale_set(rules: ScaleSet | None) -> Manager | None:
    """What its scale set does that an installation must not meet; None: the set leaves its machines alone."""
    if rules is None:
        return _UNREAD_SCALE_SET
    if not rules.flexible:
        return Manager("a member of a Uniform scale set", remedy="Patch its image, and upgrade the scale set.")
    if rules.repairs:
        return Manager("its scale set replaces machines that an installation makes unwell", remedy=_NO_REPAIRS)
    return Manager("its scale set upgrades its machines by itself", remedy=_MANUAL) if rules.upgrades else None


# Cached, for a fleet has few images, names of tags and resource groups, and each sweep asks about every machine.
@lru_cache(maxsize=4096)
def _is_of_aks(image: str) -> bool:
    return _AKS_GALLERIES.fullmatch(image) is not None


@lru_cache(maxsize=4096)
def _may_be_marks(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([tag for tag in tags if _may_be_mark(tag)])


@lru_cache(maxsize=4096)
def _may_be_mark(tag: str) -> bool:
    return _ANY_TAG.fullmatch(tag) is not None


@lru_cache(maxsize=4096)
def _of_tags(tags: tuple[tuple[str, str], ...]) -> Manager | None:
    marked = (manager for mark, manager in _TAGS if all(_has(tags, name, value) for name, value in mark.items()))
    return next(marked, None)


@lru_cache(maxsize=4096)
def _of_group(name: str) -> Manager | None:
    return _of_name(name, _GROUP_NAMES)


def _of_name(name: str, marks: Iterable[tuple[re.Pattern[str], Manager]]) -> Manager | None:
    for pattern, manager in marks:
        if pattern.fullmatch(name):
            return manager
    return None


def _has(tags: Iterable[tuple[str, str]], name: str, value: str) -> bool:
    return any(re.fullmatch(name, each) and re.fullmatch(value, text.lower()) for each, text in tags)


def _is_windows_client(machine: Machine) -> bool:
    image = machine.image
    if image.kind is ImageKind.MARKETPLACE and image.key.startswith("microsoftwindowsdesktop:"):
        return True
    return bool(machine.os_name and _WINDOWS_CLIENT.fullmatch(machine.os_name))
