"""Detects machines that another service makes, patches and replaces: patterns as data, each with its source.

Such a machine is neither assessed nor installed.
"""

import re

from functions.model.machine import ImageKind, Machine

_FOREIGN_TAGS = (
    # AKS tags the machines of its node pools (AKS documentation, "Use Azure tags in AKS"); Karpenter its own.
    (re.compile(r"(aks-managed-.*|karpenter\.(sh|azure\.com)[/_].*)"), "a Kubernetes node"),
    # Image Builder and Packer tag what they build with (azure-docs, image-builder; Packer's azure-arm builder).
    (re.compile(r"(createdby|imagebuilder.*)"), "an image build"),
)


_BUILDERS = ("azurevmimagebuilder", "packer")


_AKS_GALLERIES = re.compile(r".*/galleries/(aksubuntu|akswindows|aksazurelinux|akscblmariner)[^/]*/.*", re.IGNORECASE)


_BUILD_GROUPS = re.compile(r"(it_.+|packer-resource-group-.+|pkr-resource-group-.+)")


_NODE_GROUPS = re.compile(r"mc_.+_.+_.+")


_WINDOWS_CLIENT = re.compile(r"windows (10|11)\b.*", re.IGNORECASE)


def foreign_manager(machine: Machine) -> str:
    """Who manages the machine, as a reason; "" when no other service does."""
    group = machine.group
    if machine.managed_by or (group and group.managed_by):
        return "another Azure resource manages the machine (managedBy)"
    if machine.scale_set:
        return "a member of a scale set: not covered yet"
    if _AKS_GALLERIES.fullmatch(machine.image.key) or _NODE_GROUPS.fullmatch(machine.id.group):
        return "a Kubernetes node"
    if _BUILD_GROUPS.fullmatch(machine.id.group):
        return "an image build"
    for tags in (machine.tags, group.tags if group else {}):
        for name, text in tags.items():
            for pattern, who in _FOREIGN_TAGS:
                if pattern.fullmatch(name) and (name != "createdby" or text.lower() in _BUILDERS):
                    return who
    if machine.image.kind is ImageKind.MARKETPLACE and machine.image.key.startswith("microsoftwindowsdesktop:"):
        return "Windows client"
    return "Windows client" if _WINDOWS_CLIENT.fullmatch(machine.os_name) else ""
