"""Which api-versions each resource type has.

Preview features are addressed by the provider that they belong to: they stand here as a type of it.

Sources: Azure/bicep-types-az, generated/ (folders of Microsoft.Compute, Microsoft.Maintenance and
Microsoft.Resources); azure-mgmt-compute 39 and azure-mgmt-resource (subscriptions); Azure/azure-rest-api-specs,
specification/resourcegraph.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_COMPUTE = (
    *("2015-06-15", "2016-03-30", "2016-04-30-preview", "2017-03-30", "2017-12-01", "2018-04-01", "2018-06-01"),
    *("2018-10-01", "2019-03-01", "2019-07-01", "2019-12-01", "2020-06-01", "2020-12-01", "2021-03-01", "2021-04-01"),
    *("2021-07-01", "2021-11-01", "2022-03-01", "2022-08-01", "2022-11-01", "2023-03-01", "2023-07-01", "2023-09-01"),
    *("2024-03-01", "2024-07-01", "2024-11-01", "2025-04-01", "2025-11-01", "2026-04-01"),
)
_GROUPS = (
    *("2015-11-01", "2016-02-01", "2016-07-01", "2016-09-01", "2017-05-10", "2018-02-01", "2018-05-01", "2019-03-01"),
    *("2019-05-01", "2019-05-10", "2019-07-01", "2019-08-01", "2019-10-01", "2020-06-01", "2020-08-01", "2020-10-01"),
    *("2021-01-01", "2021-04-01", "2022-09-01", "2023-07-01", "2024-03-01", "2024-07-01", "2024-11-01", "2025-03-01"),
    "2025-04-01",
)
_SUBSCRIPTIONS = ("2016-06-01", "2018-06-01", "2019-06-01", "2019-11-01", "2021-01-01", "2022-12-01")
_GRAPH = (
    *("2018-09-01-preview", "2019-04-01", "2020-04-01-preview", "2021-03-01", "2021-06-01-preview", "2022-10-01"),
    "2024-04-01",
)


_MAINTENANCE = (
    *("2018-06-01-preview", "2020-04-01", "2020-07-01-preview", "2021-04-01-preview", "2021-05-01"),
    *("2021-09-01-preview", "2022-07-01-preview", "2022-11-01-preview", "2023-04-01", "2023-09-01-preview"),
    *("2023-10-01-preview", "2025-10-01-preview"),
)
# The versions of azure-mgmt-hybridcompute 9 and 10 that have assessPatches and installPatches (compute_patch_api.json).
_HYBRID = ("2023-06-20-preview", "2024-07-10", "2024-07-31-preview", "2025-02-19-preview", "2026-07-15")

# Microsoft Learn, REST API of management groups; azure-mgmt-managementgroups.
_MANAGEMENT_GROUPS = ("2020-05-01", "2021-04-01", "2023-04-01")


class ResourceType(NamedTuple):
    """A resource type by its provider, and its name as the refusal of a version spells it."""

    provider: str
    name: str


VIRTUAL_MACHINES = ResourceType("Microsoft.Compute", "virtualMachines")
SUPPORTED: Mapping[ResourceType, tuple[str, ...]] = {
    VIRTUAL_MACHINES: _COMPUTE,
    ResourceType("Microsoft.Compute", "virtualMachineScaleSets"): _COMPUTE,
    ResourceType("Microsoft.Compute", "locations"): _COMPUTE,
    ResourceType("Microsoft.Compute", "locations/operations"): _COMPUTE,
    ResourceType("Microsoft.Compute", "features"): ("2015-12-01", "2021-07-01"),
    ResourceType("Microsoft.HybridCompute", "machines"): _HYBRID,
    ResourceType("Microsoft.HybridCompute", "locations/updateCenterOperationResults"): _HYBRID,
    ResourceType("Microsoft.Maintenance", "configurationAssignments"): _MAINTENANCE,
    ResourceType("Microsoft.Maintenance", "maintenanceConfigurations"): _MAINTENANCE,
    ResourceType("Microsoft.Management", "managementGroups"): _MANAGEMENT_GROUPS,
    ResourceType("Microsoft.Resources", "resourceGroups"): _GROUPS,
    ResourceType("Microsoft.Resources", "subscriptions"): _SUBSCRIPTIONS,
    ResourceType("Microsoft.ResourceGraph", "resources"): _GRAPH,
}
_KNOWN = {(each.provider.lower(), each.name.lower()): each for each in SUPPORTED}


@lru_cache(maxsize=4096)  # the same machines are asked for again and again
def type_of(path: str) -> ResourceType | None:
    """The type that a path names, also where it ends in an action; None: the simulator has no such type."""
    _, marker, rest = path.lower().rpartition("/providers/")
    if not marker:
        names = path.lower().split("/")
        in_group = "resourcegroups" in names or "operationresults" in names
        return _KNOWN[("microsoft.resources", "resourcegroups" if in_group else "subscriptions")]
    provider, *parts = rest.strip("/").split("/")
    names = parts[::2]
    kinds = ((provider, "/".join(names[:length])) for length in range(len(names), 0, -1))
    return next((_KNOWN[kind] for kind in kinds if kind in _KNOWN), None)
