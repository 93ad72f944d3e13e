"""Microsoft.Compute/virtualMachineScaleSets: what a Flexible one says of itself. Its members are machines.

Properties: Azure/bicep-types-az, microsoft.compute/2024-11-01; orchestrationMode, upgradePolicy and
automaticRepairsPolicy are kept as they were sent.
Not simulated: instances of a Uniform one, which are not VMs; and that a set makes, repairs or upgrades its members.
"""

from __future__ import annotations

from simulator.arm.kept import Kept
from simulator.wire import Json
from simulator.world import ScaleSet

KIND = "Microsoft.Compute/virtualMachineScaleSets"


def document(scale_set: ScaleSet) -> Json:
    body, name = scale_set.body, scale_set.id.rpartition("/")[2]
    known: Json = {key: body[key] for key in ("location", "sku", "tags", "zones") if key in body}
    properties = {**body.get("properties", {}), "provisioningState": "Succeeded"}
    return {"id": scale_set.id, "name": name, "type": KIND, **known, "properties": properties}


SETS = Kept(KIND, ScaleSet, lambda world: world.scale_sets, document)
