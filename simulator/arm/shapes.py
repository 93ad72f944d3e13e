"""Bodies of PUT virtualMachines for every kind of image, as a client sends them."""

from __future__ import annotations

from typing import Any, Literal

from simulator.wire import Json

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
_GALLERY = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/images/providers/Microsoft.Compute/galleries/gold/images"

ImageName = Literal[
    "marketplace",
    "gallery",
    "gallery-latest",
    "specialized",
    "shared-gallery",
    "community-gallery",
    "managed-image",
    "none",
]

IMAGES: dict[ImageName, Json | None] = {
    "marketplace": {"publisher": "Canonical", "offer": "0001-com-ubuntu-server-jammy", "sku": "22_04-lts-gen2"},
    "gallery": {"id": f"{_GALLERY}/web/versions/1.4.0"},
    "gallery-latest": {"id": f"{_GALLERY}/web"},
    "specialized": {"id": f"{_GALLERY}/web-specialized/versions/1.0.0"},
    "shared-gallery": {"sharedGalleryImageId": "/SharedGalleries/gold-0001/Images/web/Versions/1.4.0"},
    "community-gallery": {"communityGalleryImageId": "/CommunityGalleries/gold-0002/Images/web/Versions/1.4.0"},
    "managed-image": {
        "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/images/providers/Microsoft.Compute/images/web"
    },
    "none": None,
}


def machine_id(name: str, group: str = "rg-prod", subscription: str = SUBSCRIPTION) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/{name}"


def machine(
    image: ImageName = "gallery",
    os: Literal["Windows", "Linux"] = "Linux",
    *,
    location: str = "westus",
    tags: dict[str, str] | None = None,
    patch_settings: Json | None = None,
    reference: Json | None = None,
    properties: Json | None = None,
    **top: Any,
) -> Json:
    """A PUT body. A specialized image and an attached disk have no osProfile. `reference` replaces the image's own."""
    with_image = reference if reference is not None else IMAGES[image]
    disk = {"osType": os, "createOption": "FromImage" if with_image else "Attach", "name": "os-disk"}
    storage: Json = {"osDisk": disk} | ({"imageReference": dict(with_image)} if with_image else {})
    body: Json = {"storageProfile": storage, "hardwareProfile": {"vmSize": "Standard_D2s_v5"}}
    if image not in ("specialized", "none"):
        name = f"{os.lower()}Configuration"
        profile: Json = {"adminUsername": "operator", "adminPassword": "never stored"}
        body["osProfile"] = profile | {name: {"patchSettings": patch_settings} if patch_settings else {}}
    return {"location": location, "tags": tags or {}, "properties": body | (properties or {}), **top}


def hybrid_id(name: str, group: str = "rg-arc", subscription: str = SUBSCRIPTION) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.HybridCompute/machines/{name}"


def hybrid_machine(
    os: Literal["windows", "linux"] = "linux", *, location: str = "westus", tags: dict[str, str] | None = None
) -> Json:
    """A PUT body as the agent of a server outside Azure sends it."""
    return {"location": location, "tags": tags or {}, "properties": {"osType": os}}
