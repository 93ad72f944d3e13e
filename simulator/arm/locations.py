"""Where machines and resource groups can be: the regions of the public cloud, by name and by display name.

Source: Microsoft Learn, "List of Azure regions" (CC BY 4.0). Regions with access by request alone are left out.
"""

from __future__ import annotations

LOCATIONS = (
    *("australiacentral", "australiaeast", "australiasoutheast", "austriaeast", "belgiumcentral", "brazilsouth"),
    *("canadacentral", "canadaeast", "centralindia", "centralus", "chilecentral", "eastasia", "eastus", "eastus2"),
    *("francecentral", "germanywestcentral", "indonesiacentral", "israelcentral", "italynorth", "japaneast"),
    *("japanwest", "koreacentral", "koreasouth", "malaysiawest", "mexicocentral", "newzealandnorth", "northcentralus"),
    *("northeurope", "norwayeast", "polandcentral", "qatarcentral", "southafricanorth", "southcentralus"),
    *("southeastasia", "southindia", "spaincentral", "swedencentral", "switzerlandnorth", "uaenorth", "uksouth"),
    *("ukwest", "westcentralus", "westeurope", "westindia", "westus", "westus2", "westus3"),
)


def normal(location: str) -> str:
    """`West Europe` as Azure stores it: westeurope."""
    return location.lower().replace(" ", "")
