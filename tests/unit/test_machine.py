"""What becomes a machine: ARM's answers and Graph's rows, parsed into one value.

Factors: letter case of ids; image references of every kind, with and without an OS profile; patch settings of Windows
and Linux; power, agent and extension states; times with seven digits; what is missing. What must be refused is in
test_bad_input.py.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.cloud.models import (
    arc_machine_from_json,
    image_of,
    image_size_from_graph,
    machine_from_arm,
    machine_from_graph,
    resource_group_from_json,
    scale_set_from_json,
    time_or_none,
    unknown_support_state,
)
from functions.decisions.decision import next_step
from functions.decisions.ownership import foreign_manager
from functions.decisions.question import question_of
from functions.model.machine import (
    ImageKind,
    Machine,
    MachineId,
    OsType,
    PatchOrchestration,
    PowerState,
    ResourceGroup,
    ScaleSet,
    SupportState,
    subscription_in,
)
from functions.model.state import Assess, Cause, Install, Leave, Step, Wait
from functions.model.text import BadInput
from tests.support import ASSESSMENT as ASSESSMENT_ID
from tests.support import (
    GALLERY_IMAGE,
    INSTALLATION,
    LONG_AGO,
    NOW,
    PAYLOADS,
    SUBSCRIPTION,
    VM_ID,
    a_graph_row,
    a_machine,
    a_verdict,
    an_arm_machine,
    settings,
)

RECORDED_VIEW = json.loads((PAYLOADS / "VM_instanceView_patchStatus.json").read_text())
VERSION = GALLERY_IMAGE
DEFINITION = GALLERY_IMAGE.removesuffix("/versions/1.0.0")
MANAGED = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/images/Old"
MARKETPLACE = {"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "exactVersion": "24.04.1"}


# -- ids


def test_one_machine_has_one_id_however_azure_spells_it() -> None:
    arm = MachineId.parse(
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Prod/providers/Microsoft.Compute/virtualMachines/VM-01"
    )
    graph = MachineId.parse(
        f"/SUBSCRIPTIONS/{SUBSCRIPTION}/resourcegroups/rg-prod/providers/microsoft.compute/virtualmachines/vm-01"
    )
    assert arm == graph
    assert MachineId.parse(str(arm)) == arm
    assert arm.group_id == f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg-prod"


@pytest.mark.parametrize("group", ["ΑΘΗΝΑΣ", "İZMİR-web"])
def test_a_group_name_that_services_lower_in_different_ways_is_one_name(group: str) -> None:
    """Python, Kusto and ARM differ in two letters; ARM finds the group by any of these spellings of ours."""
    ids = [
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{text}/providers/Microsoft.Compute/virtualMachines/v"
        for text in (group, group.lower(), group.lower().replace("i\u0307", "İ").replace("ς", "σ"))
    ]
    assert len({MachineId.parse(text) for text in ids}) == 1
    assert MachineId.parse(ids[0]).group.upper() == group.upper()


@pytest.mark.parametrize("group", ["a", "rg", "RG_1", "(parens)", "with.dot.in", "größe", "x" * 90])
def test_group_names_that_azure_allows(group: str) -> None:
    text = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines/v"
    assert MachineId.parse(text).group == group.lower()


# -- images: the kind, and the key by which machines behave alike

IMAGES: dict[str, tuple[dict[str, Any], bool, ImageKind, str]] = {
    "marketplace": (MARKETPLACE, True, ImageKind.MARKETPLACE, "canonical:ubuntu-24_04-lts:server:24.04.1"),
    "gallery version, generalized": ({"id": VERSION}, True, ImageKind.GALLERY, VERSION),
    "gallery version, specialized": ({"id": VERSION}, False, ImageKind.GALLERY_SPECIALIZED, VERSION),
    "gallery id in another case": ({"id": VERSION.upper()}, True, ImageKind.GALLERY, VERSION),
    "definition with the exact version": (
        {"id": DEFINITION, "exactVersion": "1.0.0"},
        True,
        ImageKind.GALLERY,
        VERSION,
    ),
    "definition alone": ({"id": DEFINITION}, True, ImageKind.GALLERY, DEFINITION),
    "the latest, with the exact version": (
        {"id": f"{DEFINITION}/versions/latest", "exactVersion": "1.0.0"},
        True,
        ImageKind.GALLERY,
        VERSION,
    ),
    "the latest, and no exact version": ({"id": f"{DEFINITION}/versions/latest"}, True, ImageKind.GALLERY, DEFINITION),
    "the latest of a community gallery": (
        {"communityGalleryImageId": "/CommunityGalleries/c/Images/i/Versions/latest", "exactVersion": "1.0.3"},
        True,
        ImageKind.COMMUNITY_GALLERY,
        "/communitygalleries/c/images/i/versions/1.0.3",
    ),
    "the latest of a shared gallery": (
        {"sharedGalleryImageId": "/SharedGalleries/s/Images/i/Versions/latest", "exactVersion": "1.0.3"},
        True,
        ImageKind.SHARED_GALLERY,
        "/sharedgalleries/s/images/i/versions/1.0.3",
    ),
    "marketplace, the version given": (
        {"publisher": "p", "offer": "o", "sku": "s", "version": "1.2"},
        True,
        ImageKind.MARKETPLACE,
        "p:o:s:1.2",
    ),
    "marketplace, the latest": (
        {"publisher": "p", "offer": "o", "sku": "s", "version": "latest"},
        True,
        ImageKind.MARKETPLACE,
        "p:o:s",
    ),
    "managed image": ({"id": MANAGED}, True, ImageKind.MANAGED_IMAGE, MANAGED.lower()),
    "managed image, specialized": ({"id": MANAGED}, False, ImageKind.MANAGED_IMAGE, MANAGED.lower()),
    "shared gallery": (
        {"sharedGalleryImageId": "/SharedGalleries/s/Images/i/Versions/1"},
        True,
        ImageKind.SHARED_GALLERY,
        "/sharedgalleries/s/images/i/versions/1",
    ),
    "community gallery": (
        {"communityGalleryImageId": "/CommunityGalleries/c/Images/i/Versions/1"},
        True,
        ImageKind.COMMUNITY_GALLERY,
        "/communitygalleries/c/images/i/versions/1",
    ),
    "no image": ({}, False, ImageKind.NONE, ""),
    "publisher without sku is customized": ({"publisher": "p", "offer": "o"}, True, ImageKind.NONE, ""),
    "empty texts are not an image": ({"id": "", "publisher": "", "offer": "", "sku": ""}, True, ImageKind.NONE, ""),
}


@pytest.mark.parametrize(("reference", "has_profile", "kind", "key"), IMAGES.values(), ids=IMAGES)
def test_image_kinds(reference: dict[str, Any], has_profile: bool, kind: ImageKind, key: str) -> None:
    image = image_of(reference, has_profile=has_profile)
    assert (image.kind, image.key) == (kind, key)
    assert image.customized is (kind is not ImageKind.MARKETPLACE)


# By Azure's naming rules for resource groups, galleries, images and their versions.
ODD_IMAGES: dict[str, dict[str, Any]] = {
    "a quote": {"id": f"{DEFINITION}'"},
    "a quote and a query": {"id": f"{DEFINITION}') or true //"},
    "a backslash": {"id": f"{DEFINITION}\\"},
    "a space": {"id": f"{DEFINITION} x"},
    "a line break": {"id": f"{DEFINITION}\n"},
    "a mark of direction": {"id": f"{DEFINITION}\u202e"},
    "half a surrogate pair": {"id": f"{DEFINITION}\ud800"},
    "a letter that lowers to another's": {"id": f"{DEFINITION}\u212a"},
    "more than an id can have": {"id": DEFINITION + "x" * 2048},
    "no text": {"id": ["/images/i"]},
    "a shared gallery": {"sharedGalleryImageId": "/SharedGalleries/s'/Images/i"},
    "a community gallery": {"communityGalleryImageId": "/CommunityGalleries/c|/Images/i"},
    "an exact version": {"id": DEFINITION, "exactVersion": "1.0.0'"},
    "an offer": {"publisher": "p", "offer": "o;", "sku": "s"},
    "a publisher in other letters": {"publisher": "\u0440", "offer": "o", "sku": "s"},
    "a version": {"publisher": "p", "offer": "o", "sku": "s", "version": "1:2"},
}


@pytest.mark.parametrize("reference", ODD_IMAGES.values(), ids=ODD_IMAGES)
def test_an_image_with_other_characters_than_azure_allows_is_refused(reference: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="imageReference"):
        image_of(reference, has_profile=True)


@pytest.mark.parametrize("group", ["rg", "İZMİR-web", "Straße_(1)", "東京.x"])
def test_an_image_may_be_in_any_resource_group(group: str) -> None:
    image = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Compute/galleries/g/images/i"
    assert image_of({"id": image}, has_profile=True) == image_of({"id": image.lower()}, has_profile=True)


SUBSCRIPTIONS_IN: dict[str, tuple[object, str]] = {
    "a machine's id": (VERSION, SUBSCRIPTION),
    "an id that cannot be read": (f"/SUBSCRIPTIONS/{SUBSCRIPTION}/resourceGroups/\u212a'", SUBSCRIPTION),
    "another's inside": (f"/x/subscriptions/{SUBSCRIPTION}/resourceGroups/rg", ""),
    "no GUID": ("/subscriptions/mine/resourceGroups/rg", ""),
    "no text": (None, ""),
}


@pytest.mark.parametrize(("text", "subscription"), SUBSCRIPTIONS_IN.values(), ids=SUBSCRIPTIONS_IN)
def test_the_subscription_in_an_id(text: object, subscription: str) -> None:
    assert subscription_in(text) == subscription


UNVERSIONED: dict[str, dict[str, Any]] = {
    "definition alone": {"id": DEFINITION},
    "the latest": {"id": f"{DEFINITION}/versions/latest"},
    "the latest of a community gallery": {"communityGalleryImageId": "/CommunityGalleries/c/Images/i/Versions/latest"},
    "marketplace": {"publisher": "p", "offer": "o", "sku": "s", "version": "latest"},
}


@pytest.mark.parametrize("reference", UNVERSIONED.values(), ids=UNVERSIONED)
def test_where_no_version_is_known_machines_of_one_day_share_their_canary(reference: dict[str, Any]) -> None:
    first, same, other = (
        image_of(reference, has_profile=True, created=datetime(2026, 11, day, hour, tzinfo=UTC))
        for day, hour in ((20, 1), (20, 23), (21, 1))
    )
    assert first == same
    assert first != other
    assert first.version == ""


def test_arm_and_graph_agree_on_the_image() -> None:
    assert machine_from_arm(an_arm_machine()).image == machine_from_graph(a_graph_row()).image


# -- who else patches

_BYPASS = {"automaticByPlatformSettings": {"bypassPlatformSafetyChecksOnUserSchedule": True}}
PATCHERS: dict[str, tuple[dict[str, Any], bool, PatchOrchestration]] = {
    "linux ImageDefault": (
        {"linuxConfiguration": {"patchSettings": {"patchMode": "ImageDefault"}}},
        True,
        PatchOrchestration.US,
    ),
    "linux without patch settings": ({"linuxConfiguration": {}}, True, PatchOrchestration.US),
    "windows AutomaticByOS": (
        {"windowsConfiguration": {"patchSettings": {"patchMode": "AutomaticByOS"}}},
        True,
        PatchOrchestration.SELF,
    ),
    "windows automatic updates": (
        {"windowsConfiguration": {"enableAutomaticUpdates": True}},
        True,
        PatchOrchestration.SELF,
    ),
    "windows Manual": (
        {"windowsConfiguration": {"enableAutomaticUpdates": True, "patchSettings": {"patchMode": "Manual"}}},
        True,
        PatchOrchestration.US,
    ),
    "platform on a customized image: neither": (
        {"linuxConfiguration": {"patchSettings": {"patchMode": "AutomaticByPlatform"}}},
        True,
        PatchOrchestration.NOBODY,
    ),
    "platform on a marketplace image": (
        {"linuxConfiguration": {"patchSettings": {"patchMode": "AutomaticByPlatform"}}},
        False,
        PatchOrchestration.PLATFORM,
    ),
    "schedule on a customized image": (
        {"linuxConfiguration": {"patchSettings": {"patchMode": "AutomaticByPlatform", **_BYPASS}}},
        True,
        PatchOrchestration.SCHEDULE,
    ),
    "the mode in another letter case": (
        {"windowsConfiguration": {"patchSettings": {"patchMode": "automaticbyplatform", **_BYPASS}}},
        False,
        PatchOrchestration.SCHEDULE,
    ),
    "no configuration": ({}, True, PatchOrchestration.UNKNOWN),
}


@pytest.mark.parametrize(("profile", "customized", "patchers"), PATCHERS.values(), ids=PATCHERS)
def test_who_else_patches(profile: dict[str, Any], customized: bool, patchers: PatchOrchestration) -> None:
    reference = {"id": GALLERY_IMAGE} if customized else MARKETPLACE
    vm = an_arm_machine(properties={"storageProfile": {"imageReference": None}})
    vm["properties"]["storageProfile"]["imageReference"] = reference
    vm["properties"]["osProfile"] = profile
    row = a_graph_row(
        image=reference, windows=profile.get("windowsConfiguration"), linux=profile.get("linuxConfiguration")
    )
    assert machine_from_arm(vm).patchers is patchers
    assert machine_from_graph(row).patchers is patchers


# -- the instance view


@pytest.mark.parametrize("said", [True, False, None], ids=["in it", "out of it", "unsaid"])
def test_a_machine_in_a_standby_pool_belongs_to_its_scale_set(said: bool | None) -> None:
    """Whether such a machine names its scale set too is not published."""
    assert RECORDED_VIEW["isVMInStandbyPool"] is False
    vm = an_arm_machine()
    vm["properties"]["instanceView"] = RECORDED_VIEW | {"isVMInStandbyPool": said}
    assert (foreign_manager(machine_from_arm(vm)) is not None) == (said is True)


def test_the_recorded_instance_view() -> None:
    vm = an_arm_machine()
    vm["properties"]["instanceView"] = RECORDED_VIEW
    machine = machine_from_arm(vm)
    assert machine.assessment is not None
    assert machine.installation is not None
    assert machine.assessment.operation_id == ASSESSMENT_ID
    assert machine.installation.operation_id == INSTALLATION
    assert machine.assessment.succeeded
    assert not machine.assessment.in_progress
    assert machine.assessment.started == datetime(2020, 4, 24, 21, 2, 4, 255615, UTC)
    assert machine.patch_statuses == (machine.assessment, machine.installation)
    assert machine.power is PowerState.UNKNOWN  # the recording shows no power state
    assert machine.agent_ready is False  # nor an agent


def _view(**view: Any) -> Any:
    vm = an_arm_machine()
    vm["properties"]["instanceView"] |= view
    return machine_from_arm(vm)


@pytest.mark.parametrize("state", [state for state in PowerState if state is not PowerState.UNKNOWN])
def test_power_states(state: PowerState) -> None:
    assert _view(statuses=[{"code": f"PowerState/{state}"}]).power is state
    assert machine_from_graph(a_graph_row(power_code=f"powerstate/{state}")).power is state


@pytest.mark.parametrize("statuses", [[], None, [{"code": "PowerState/melting"}], [{"code": 7}], ["text"]])
def test_a_power_state_that_is_not_known(statuses: Any) -> None:
    assert _view(statuses=statuses).power is PowerState.UNKNOWN


AGENTS: dict[str, tuple[Any, bool]] = {
    "ready": ({"statuses": [{"code": "ProvisioningState/succeeded", "displayStatus": "Ready"}]}, True),
    "not ready": ({"statuses": [{"code": "ProvisioningState/Unavailable", "displayStatus": "Not Ready"}]}, False),
    "succeeded but not ready": (
        {"statuses": [{"code": "ProvisioningState/succeeded", "displayStatus": "Not Ready"}]},
        False,
    ),
    "no statuses": ({}, False),
    "no agent": (None, False),
}


@pytest.mark.parametrize(("agent", "ready"), AGENTS.values(), ids=AGENTS)
def test_the_agent(agent: Any, ready: bool) -> None:
    assert _view(vmAgent=agent).agent_ready is ready


EXTENSIONS: dict[str, tuple[list[Any], tuple[str, ...]]] = {
    "none": ([], ()),
    "done": ([{"name": "monitor", "statuses": [{"code": "ProvisioningState/succeeded"}]}], ()),
    "failed is at rest": ([{"name": "monitor", "statuses": [{"code": "ProvisioningState/failed/3"}]}], ()),
    "creating": ([{"name": "monitor", "statuses": [{"code": "ProvisioningState/creating"}]}], ("monitor",)),
    "in transition": ([{"name": "script", "statuses": [{"code": "ProvisioningState/transitioning"}]}], ("script",)),
    "two of three": (
        [
            {"name": "a", "statuses": [{"code": "ProvisioningState/updating"}]},
            {"name": "b", "statuses": [{"code": "ProvisioningState/succeeded"}]},
            {"name": "c", "statuses": [{"code": "ProvisioningState/deleting"}]},
        ],
        ("a", "c"),
    ),
    "without statuses": ([{"name": "monitor"}], ()),
}


@pytest.mark.parametrize(("extensions", "busy"), EXTENSIONS.values(), ids=EXTENSIONS)
def test_busy_extensions(extensions: list[Any], busy: tuple[str, ...]) -> None:
    assert _view(extensions=extensions).busy_extensions == busy


def test_graph_knows_nothing_that_only_the_instance_view_tells() -> None:
    machine = machine_from_graph(a_graph_row())
    assert machine.agent_ready is None
    assert machine.busy_extensions is None
    assert machine.patch_statuses == ()
    assert machine_from_arm(an_arm_machine()).verdict is None


# -- the verdict


@pytest.mark.parametrize("text", ["Perhaps", "Supported ", "absent"])
def test_an_unknown_support_state_permits_nothing_and_keeps_the_machine_in_sight(text: str) -> None:
    verdict = machine_from_graph(a_graph_row(support_state=text)).verdict
    assert verdict is not None
    assert verdict.state is SupportState.UNKNOWN
    assert unknown_support_state(a_graph_row(support_state=text)) == text


@pytest.mark.parametrize("state", [state for state in SupportState if state is not SupportState.ABSENT])
def test_support_states_in_any_letter_case(state: SupportState) -> None:
    for text in (state.value, state.value.lower(), state.value.upper()):
        verdict = machine_from_graph(a_graph_row(support_state=text)).verdict
        assert verdict is not None
        assert verdict.state is state


@pytest.mark.parametrize("value", [None, ""])
def test_null_is_absent_and_not_unknown(value: object) -> None:
    verdict = machine_from_graph(a_graph_row(support_state=value)).verdict
    assert verdict is not None
    assert verdict.state is SupportState.ABSENT


def test_counts_of_graph_are_read_by_lower_cased_name_and_junk_is_left_out() -> None:
    row = a_graph_row(counts={"updateRollup": 2, "Security": 1, "critical": None, "other": "7"})
    verdict = machine_from_graph(row).verdict
    assert verdict is not None
    assert verdict.counts == {"updaterollup": 2, "security": 1}


def test_a_row_without_an_assessment() -> None:
    row = a_graph_row(
        assessment_id="",
        assessment_status="",
        assessment_started=None,
        support_state="",
        counts=None,
        reboot_pending=None,
    )
    verdict = machine_from_graph(row).verdict
    assert verdict is not None
    assert (verdict.state, verdict.assessed, dict(verdict.counts)) == (SupportState.ABSENT, None, {})
    assert verdict.reboot_pending is False


# -- the rest


def test_a_machine_from_both_sides_is_the_same_machine() -> None:
    arm, graph = machine_from_arm(an_arm_machine()), machine_from_graph(a_graph_row())
    for name in ("id", "vm_id", "location", "os_type", "image", "created", "provisioning_state", "power", "patchers"):
        assert getattr(arm, name) == getattr(graph, name), name
    assert arm.vm_id == VM_ID
    assert arm.quota_key == (SUBSCRIPTION, "westeurope")


def test_fields_that_are_rarely_there() -> None:
    vm = an_arm_machine(
        managedBy="/x",
        plan={"name": "third-party"},
        location="West Europe",
        tags={"Patch-Mode": " off "},
        properties={
            "virtualMachineScaleSet": {"id": "/scale/set"},
            "storageProfile": {"osDisk": {"osType": "windows"}},
            "osProfile": {"allowExtensionOperations": False},
            "instanceView": {"osName": "Windows Server 2025"},
        },
    )
    machine = machine_from_arm(vm)
    assert (machine.managed_by, machine.third_party_plan, machine.scale_set) == ("/x", True, "/scale/set")
    assert (machine.location, machine.tags, machine.os_type) == ("westeurope", {"patch-mode": "off"}, OsType.WINDOWS)
    assert machine.extensions_allowed is False
    assert machine.os_name == "Windows Server 2025"


_SET = "/subscriptions/s/resourceGroups/RG/providers/Microsoft.Compute/virtualMachineScaleSets/Web"
ALONE = ScaleSet(flexible=True, repairs=False, upgrades=False)
# properties of a scale set → what follows. What cannot be read counts as on.
# Shapes: Azure/bicep-types-az, microsoft.compute/2024-11-01.
SCALE_SETS: dict[str, tuple[dict[str, Any], ScaleSet]] = {
    "Flexible, no policy": ({"orchestrationMode": "Flexible"}, ALONE),
    "nulls, as Resource Graph packs them": (
        {"orchestrationMode": "Flexible", "automaticRepairsPolicy": None, "upgradePolicy": None},
        ALONE,
    ),
    "Manual": ({"orchestrationMode": "Flexible", "upgradePolicy": {"mode": "Manual"}}, ALONE),
    "Rolling": (
        {"orchestrationMode": "Flexible", "upgradePolicy": {"mode": "Rolling"}},
        replace(ALONE, upgrades=True),
    ),
    "Automatic, in small letters": (
        {"orchestrationMode": "flexible", "upgradePolicy": {"mode": "automatic"}},
        replace(ALONE, upgrades=True),
    ),
    "automatic OS upgrades": (
        {
            "orchestrationMode": "Flexible",
            "upgradePolicy": {"mode": "Manual", "automaticOSUpgradePolicy": {"enableAutomaticOSUpgrade": True}},
        },
        replace(ALONE, upgrades=True),
    ),
    "repairs": (
        {"orchestrationMode": "Flexible", "automaticRepairsPolicy": {"enabled": True}},
        replace(ALONE, repairs=True),
    ),
    "repairs off": ({"orchestrationMode": "Flexible", "automaticRepairsPolicy": {"enabled": False}}, ALONE),
    "repairs that cannot be read": (
        {"orchestrationMode": "Flexible", "automaticRepairsPolicy": {"enabled": "on"}},
        replace(ALONE, repairs=True),
    ),
    "a mode of a later Azure": (
        {"orchestrationMode": "Flexible", "upgradePolicy": {"mode": "Surging"}},
        replace(ALONE, upgrades=True),
    ),
    "Uniform": ({"orchestrationMode": "Uniform"}, replace(ALONE, flexible=False)),
    "older than the modes": ({}, replace(ALONE, flexible=False)),
}


@pytest.mark.parametrize(("properties", "rules"), SCALE_SETS.values(), ids=SCALE_SETS)
def test_the_rules_of_a_scale_set(properties: dict[str, Any], rules: ScaleSet) -> None:
    assert scale_set_from_json({"id": _SET, "properties": properties}) == (_SET.lower(), rules)


def test_a_machine_without_a_profile_allows_extensions_as_azure_does() -> None:
    vm = an_arm_machine()
    del vm["properties"]["osProfile"]
    assert machine_from_arm(vm).extensions_allowed is True
    assert machine_from_graph(a_graph_row(allow_extensions=None)).extensions_allowed is True


def test_graph_says_whether_extensions_are_allowed() -> None:
    for allowed in (True, False):
        assert machine_from_graph(a_graph_row(allow_extensions=allowed)).extensions_allowed is allowed


def test_a_machine_in_its_group_is_another_value_of_the_same_machine() -> None:
    group, alone = ResourceGroup({"a": "b"}), a_machine(resource_group=None)
    assert alone.in_resource_group(group) == replace(alone, resource_group=group)
    assert alone.resource_group is None


def test_a_group_is_read_alike_from_arm_and_graph() -> None:
    body = {"tags": {"Patch-Mode": "off"}, "managedBy": "/aks"}
    assert resource_group_from_json(body) == ResourceGroup({"patch-mode": "off"}, "/aks")
    assert resource_group_from_json({"tags": None}) == ResourceGroup()


TIMES: dict[str, tuple[str, datetime]] = {
    "seven digits": ("2026-11-25T08:00:00.1234567Z", datetime(2026, 11, 25, 8, 0, 0, 123456, UTC)),
    "no fraction": ("2026-11-25T08:00:00Z", datetime(2026, 11, 25, 8, tzinfo=UTC)),
    "an offset becomes UTC": ("2026-11-25T08:00:00+02:00", datetime(2026, 11, 25, 6, tzinfo=UTC)),
    "no zone is UTC": ("2026-11-25T08:00:00", datetime(2026, 11, 25, 8, tzinfo=UTC)),
    "the first second of .NET": ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize(("text", "moment"), TIMES.values(), ids=TIMES)
def test_times_as_azure_writes_them(text: str, moment: datetime) -> None:
    read = time_or_none(text)
    assert read == moment
    assert read is not None
    assert read.tzinfo is UTC


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_time_is_not_an_error(nothing: object) -> None:
    assert time_or_none(nothing) is None


# -- every odd machine: what is read of it, and what follows

ODD = {each["name"]: each for each in json.loads((PAYLOADS / "odd_machines.json").read_text())["records"]}
READABLE = {name: each for name, each in ODD.items() if not str(each["expect"]["assess"]).startswith("not readable")}
HEALTH = {"healthy": True, "unhealthy": False}
CAUSES = {
    "owner": Cause.OWNER,
    "transient": Cause.TRANSIENT,
    "transient first, then owner": Cause.TRANSIENT,
    "never": Cause.NEVER,
}
STEPS: dict[str, tuple[type[Step], ...]] = {"wait": (Wait,), "no": (Leave,), "never": (Leave,)}


def step_of(machine: Machine, state: SupportState) -> Step:
    given = settings(PATCH_IMAGES="all")
    status = "" if state is SupportState.ABSENT else "Succeeded"
    seen = replace(machine, resource_group=ResourceGroup(), verdict=a_verdict(state=state, status=status))
    return next_step(question_of(seen, None, given, created_after=LONG_AGO, now=NOW))


@pytest.mark.parametrize("odd", READABLE.values(), ids=READABLE)
def test_what_is_read_of_an_odd_machine(odd: dict[str, Any]) -> None:
    machine, expect = machine_from_arm(odd["vm"]), odd["expect"]
    assert (machine.power, machine.provisioning_state) == (expect["power"], expect["provisioning"])
    assert machine.agent_ready is expect["agent_ready"]
    assert machine.healthy is HEALTH.get(expect["health"])
    assert (machine.image.kind, machine.image.version) == (expect["image_kind"], expect["image_version"])
    if "same_as" in expect:
        assert machine.id == MachineId.parse(expect["same_as"])
    if "same_image_as" in expect:
        assert machine.image.key == expect["same_image_as"].lower()


@pytest.mark.parametrize("odd", READABLE.values(), ids=READABLE)
def test_what_follows_for_an_odd_machine(odd: dict[str, Any]) -> None:
    machine, expect = machine_from_arm(odd["vm"]), odd["expect"]
    assessed, installed = step_of(machine, SupportState.ABSENT), step_of(machine, SupportState.SUPPORTED)
    assert isinstance(assessed, STEPS.get(expect["assess"], (Assess, Leave)))
    assert isinstance(installed, STEPS.get(expect["install"], (Install, Leave)))
    if expect["assess"] == "yes":
        assert isinstance(assessed, Assess)
    if expect["install"] == "yes":
        assert isinstance(installed, Install)
    if expect.get("looked_again") in CAUSES:
        assert assessed.cause is CAUSES[expect["looked_again"]]


@pytest.mark.parametrize("name", ODD.keys() - READABLE.keys())
def test_an_odd_machine_that_cannot_be_read_is_reported(name: str) -> None:
    with pytest.raises(BadInput, match="osType"):
        machine_from_arm(ODD[name]["vm"])


@pytest.mark.parametrize("group", ["rg-Web", "ΑΘΗΝΑΣ", "İZMİR-web"])
def test_an_availability_set_has_one_spelling_in_arm_and_graph(group: str) -> None:
    written = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Compute/availabilitySets/S"
    lowered = written.lower().replace("i\u0307", "İ").replace("ς", "σ")  # as Resource Graph's tolower gives it
    vm = an_arm_machine()
    vm["properties"]["availabilitySet"] = {"id": written}
    assert machine_from_arm(vm).availability_set
    assert (
        machine_from_arm(vm).availability_set
        == machine_from_graph(a_graph_row(availability_set=lowered)).availability_set
    )


# -- Arc-enabled servers

ARC_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Arc/providers/Microsoft.HybridCompute/machines/Srv-01"


def an_arc_machine(**properties: Any) -> dict[str, Any]:
    """The answer to GET machines/{name} (fields: azure-mgmt-hybridcompute 10.0.0, MachineProperties)."""
    shown = {"vmId": "A1", "status": "Connected", "osType": "linux", "provisioningState": "Succeeded"} | properties
    return {"id": ARC_ID, "location": "West Europe", "kind": "VMware", "tags": {"Patch-Ring": "0"}, "properties": shown}


def test_a_server_is_read_as_a_machine() -> None:
    read = arc_machine_from_json(an_arc_machine(osSku="Ubuntu 22.04.3 LTS", agentVersion="1.60"))
    assert str(read.id) == ARC_ID.lower()
    assert read.id.is_arc
    assert (read.vm_id, read.location, read.os_type) == ("a1", "westeurope", OsType.LINUX)
    assert (read.power, read.agent_ready, read.agent_version) == (PowerState.RUNNING, True, "1.60")
    assert (read.image.kind, read.image.customized, read.created) == (ImageKind.ARC, True, None)
    assert read.tags == {"patch-ring": "0"}


# system → what stands for the image
SYSTEMS: dict[str, tuple[str, str, str]] = {
    "Ubuntu": ("linux", "Ubuntu 22.04.3 LTS", "arc/linux/ubuntu-22-lts"),
    "the same, patched": ("Linux", "Ubuntu 22.04.4 LTS", "arc/linux/ubuntu-22-lts"),
    "a later one": ("linux", "Ubuntu 24.04 LTS", "arc/linux/ubuntu-24-lts"),
    "Red Hat": ("linux", "Red Hat Enterprise Linux 8.6 (Ootpa)", "arc/linux/red-hat-enterprise-linux-8-ootpa"),
    "CentOS": ("linux", "CentOS Linux 7.9.2009", "arc/linux/centos-linux-7"),
    "Windows": ("windows", "Windows Server 2022 Datacenter", "arc/windows/windows-server-2022-datacenter"),
    "a release of the same year": ("windows", "Windows Server 2012 R2", "arc/windows/windows-server-2012-r2"),
    "not said": ("linux", "", "arc/linux/unknown"),
    "other characters": ("linux", "\u041b 1'; drop", "arc/linux/1-drop"),
}


@pytest.mark.parametrize(("os", "sku", "key"), SYSTEMS.values(), ids=SYSTEMS)
def test_its_system_stands_for_the_image_of_a_server(os: str, sku: str, key: str) -> None:
    assert arc_machine_from_json(an_arc_machine(osType=os, osSku=sku)).image.key == key
    row = {"reference": json.dumps({"arc": os, "sku": sku}), "created": None, "machines": 3}
    assert image_size_from_graph(row) == (key, 3)


@pytest.mark.parametrize(
    ("kind", "cluster", "managed"), [("VMware", None, False), ("HCI", None, True), ("", "/subscriptions/s/c", True)]
)
def test_a_node_of_azure_local_is_its_clusters(kind: str, cluster: str | None, managed: bool) -> None:
    read = arc_machine_from_json(an_arc_machine(parentClusterResourceId=cluster) | {"kind": kind})
    assert bool(read.managed_by) is managed


@pytest.mark.parametrize("status", ["Disconnected", "Expired", "Error", "AwaitingConnection", None, 5])
def test_only_a_connected_server_runs(status: object) -> None:
    read = arc_machine_from_json(an_arc_machine(status=status))
    assert (read.power, read.agent_ready) == (PowerState.UNKNOWN, False)


# what is wrong in the answer → what the one line says
UNREADABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no system": ({"properties": {"status": "Connected"}}, "osType is nothing; it should be Windows or Linux"),
    "another system": ({"properties": {"osType": "solaris"}}, "osType is 'solaris'"),
    "no properties": ({"properties": None}, "osType is nothing"),
    "no id": ({"id": None}, "is not a virtual machine id"),
    "tags that are a list": ({"tags": ["patch-mode=off"]}, "they should be an object of names and values"),
}


@pytest.mark.parametrize(("change", "line"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_server_that_cannot_be_read(change: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput) as refused:
        arc_machine_from_json(an_arc_machine() | change)
    assert line in str(refused.value)


@pytest.mark.parametrize("junk", [[], {}, 7, True, "\n", "x" * 10_000])
@pytest.mark.parametrize(
    "name", ["vmId", "status", "osSku", "agentVersion", "provisioningState", "parentClusterResourceId"]
)
def test_a_part_of_a_server_that_is_not_a_text_reads_as_none(name: str, junk: object) -> None:
    read = arc_machine_from_json(an_arc_machine(**{name: junk}))
    assert str(read.id) == ARC_ID.lower()
    assert "\n" not in f"{read.vm_id}{read.agent_status}{read.os_name}{read.agent_version}{read.image.key}"
