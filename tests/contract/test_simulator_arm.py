"""What Resource Manager answers to every request, beside arm_common.json: versions, tokens, headers, errors' form.

Factors: the resource type, what is wrong with the request, who sends it.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from simulator import identity
from simulator.arm import shapes, versions
from simulator.azure import Azure, Behaviour, Request
from tests.contract.simulator_client import GROUP, READY_SECONDS, Clock, arm, install_order, payload, ready_machine

VM = shapes.machine_id("vm-01")
SUBSCRIPTION = GROUP.rpartition("/resourceGroups/")[0]
GRAPH = "/providers/Microsoft.ResourceGraph/resources"
JUDGE = payload("arm_common.json")
ERRORS = {each["case"]: each for each in JUDGE["errors"]}


def token(**claims: Any) -> str:
    """An Authorization header of the simulated time."""
    at = Clock().time.timestamp() + READY_SECONDS
    return f"Bearer {identity.mint(claims.pop('audience', identity.ARM), now_seconds=at, **claims)}"


def ready() -> tuple[Azure, Clock]:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    return azure, clock


def says(form: str, text: str) -> bool:
    """Whether a text has the recorded form, in which names stand in braces."""
    pattern = re.sub(r"\\\{[^}]*\\\}", ".*", re.escape(form))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def assert_judged(answer: Any, case: str) -> None:
    """The answer has the recorded status, code, and form of text."""
    record, error = ERRORS[case], answer.json()["error"]
    assert record["http_status"] in (None, answer.status_code)
    assert record["code"] in (None, error["code"])
    assert record["message_form"] is None or says(record["message_form"], error["message"]), error["message"]
    assert ("target" in error) is record.get("has_target", False)


# --- api-versions --------------------------------------------------------------------------------------------------

# the type: how it is asked for, and a version that only another type has
TYPES = {
    "virtualMachines": ("GET", VM, None, "2021-01-01"),
    "virtualMachines, an action": ("POST", f"{VM}/assessPatches", None, "2022-10-01"),
    "virtualMachines, a list": (
        "GET",
        f"{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines",
        None,
        "2022-09-01",
    ),
    "resourceGroups": ("GET", GROUP, None, "2026-04-01"),
    "resources": ("POST", GRAPH, {"query": "resources | project id"}, "2024-11-01"),
}


@pytest.mark.parametrize("version", ["1999-01-01", "banana", "2030-01-01-preview", "another type's"])
@pytest.mark.parametrize("kind", TYPES)
async def test_an_unknown_version_is_refused(kind: str, version: str) -> None:
    azure, _ = ready()
    method, path, body, other = TYPES[kind]
    version = other if version == "another type's" else version
    async with arm(azure) as client:
        answer = await client.call(method, path, body, query={"api-version": version})
    assert_judged(answer, "unknown api-version")
    message = answer.json()["error"]["message"]
    assert f"API version '{version}' for type '{kind.partition(',')[0]}'" in message
    assert ("location 'westus'" in message) is (VM in path)
    assert azure.operations == []


def test_every_version_of_the_patch_interface_is_there() -> None:
    known = {each["api_version"].partition(" ")[0] for each in payload("compute_patch_api.json")["compute"]["versions"]}
    assert known <= set(versions.SUPPORTED[versions.VIRTUAL_MACHINES])


@pytest.mark.parametrize("version", versions.SUPPORTED[versions.VIRTUAL_MACHINES])
async def test_a_known_version_is_answered(version: str) -> None:
    azure, _ = ready()
    async with arm(azure) as client:
        assert (await client.call("GET", VM, query={"api-version": version})).status_code == 200


# --- tokens --------------------------------------------------------------------------------------------------------

TOKENS = {
    "missing": (None, "AuthenticationFailed"),
    "not a bearer": ("Basic abc", "InvalidAuthenticationToken"),
    "not a token": ("Bearer abc", "InvalidAuthenticationToken"),
    "forged": (f"{token()[:-2]}xx", "InvalidAuthenticationToken"),
    "not valid yet": (f"Bearer {identity.mint(identity.ARM, now_seconds=2e9)}", "InvalidAuthenticationToken"),
    "for storage": (token(audience=identity.STORAGE), "InvalidAuthenticationTokenAudience"),
    "for storage, and expired": (
        token(audience=identity.STORAGE, lifetime_seconds=0), "InvalidAuthenticationTokenAudience"
    ),
    "expired": (token(lifetime_seconds=0), "ExpiredAuthenticationToken"),
    "of another tenant": (token(tenant_id="00000000-0000-0000-0000-00000000beef"), "InvalidAuthenticationTokenTenant"),
}  # fmt: skip
CASES = {"InvalidAuthenticationTokenAudience": "wrong audience", "ExpiredAuthenticationToken": "expired token"}


async def get(azure: Azure, path: str = VM, **headers: str) -> Any:
    """A GET without any client."""
    query = {"api-version": "2024-11-01"}
    return await azure.handle(Request("GET", path, query, headers))


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_is_refused_for_the_right_reason(name: str) -> None:
    header, code = TOKENS[name]
    azure, _ = ready()
    answer = await get(azure, **({"authorization": header} if header else {}))
    assert (answer.status, answer.body["error"]["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer authorization_uri=")
    if case := CASES.get(code):
        assert ERRORS[case]["http_status"] == 401
        assert says(ERRORS[case]["message_form"], answer.body["error"]["message"])


@pytest.mark.parametrize("audience", ERRORS["wrong audience"]["allowed_audiences"])
async def test_each_allowed_audience_is_taken(audience: str) -> None:
    azure, _ = ready()
    assert (await get(azure, authorization=token(audience=audience))).status == 200


async def test_an_expired_token_names_both_times_as_the_service_writes_them() -> None:
    azure, _ = ready()
    answer = await get(azure, authorization=token(lifetime_seconds=-15))
    assert answer.body["error"]["message"] == (
        "The access token expiry UTC time '11/25/2026 8:03:00 AM' is earlier than "
        "current UTC time '11/25/2026 8:03:15 AM'."
    )


# --- what is refused of machines and groups ------------------------------------------------------------------------

OTHER_GROUP = GROUP.replace("rg-prod", "rg-none")
ELSEWHERE = {"location": "northeurope"}
OTHER_SUBSCRIPTION = "00000000-0000-0000-0000-00000000beef"


def at(path: str, value: object) -> dict[str, Any]:
    """A body with one value at a path."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def settings(**values: str) -> dict[str, Any]:
    return at("properties.osProfile.linuxConfiguration.patchSettings", values)


# what is done, and the case of arm_common.json that it meets
JUDGED: dict[str, tuple[str, str, Any, str]] = {
    "a machine in no group, read": ("GET", VM.replace(GROUP, OTHER_GROUP), None, "unknown resource group"),
    "a machine in no group, changed": ("PATCH", VM.replace(GROUP, OTHER_GROUP), {}, "unknown resource group"),
    "a machine in no group, made": ("PUT", VM.replace(GROUP, OTHER_GROUP), shapes.machine(), "unknown resource group"),
    "a machine in no group, deleted": ("DELETE", VM.replace(GROUP, OTHER_GROUP), None, "unknown resource group"),
    "a machine in no group, assessed": (
        "POST", f"{VM.replace(GROUP, OTHER_GROUP)}/assessPatches", None, "unknown resource group"
    ),
    "the machines of no group": (
        "GET", f"{OTHER_GROUP}/providers/Microsoft.Compute/virtualMachines", None, "unknown resource group"
    ),
    "no group": ("GET", OTHER_GROUP, None, "unknown resource group"),
    "no group, deleted": ("DELETE", OTHER_GROUP, None, "unknown resource group"),
    "no machine": ("GET", shapes.machine_id("vm-09"), None, "unknown resource"),
    "no machine, changed": ("PATCH", shapes.machine_id("vm-09"), {}, "unknown resource"),
    "no subscription": ("GET", shapes.machine_id("vm-01", subscription=OTHER_SUBSCRIPTION), None,
                        "unknown subscription"),
    "a list of no subscription": (
        "GET", f"/subscriptions/{OTHER_SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines", None,
        "unknown subscription",
    ),
    "a machine elsewhere": ("PUT", VM, shapes.machine(location="northeurope"), "resource in another location"),
    "a machine elsewhere, changed": ("PATCH", VM, ELSEWHERE, "resource in another location"),
    "a group elsewhere": ("PUT", GROUP, ELSEWHERE, "resource group in another location"),
    "another image": (
        "PUT", VM, shapes.machine("marketplace"), "property change not allowed"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JUDGED)
async def test_a_request_is_refused_as_recorded(name: str) -> None:
    method, path, body, case = JUDGED[name]
    azure, _ = ready()
    async with arm(azure) as client:
        before = (await client.call("GET", VM)).json()
        assert_judged(await client.call(method, path, body), case)
        assert (await client.call("GET", VM)).json() == before
    assert azure.world.groups[GROUP.lower()].body.at(azure.now()) == {"location": "westus"}


# each property that public reports name, and a body that would change it
CHANGES: dict[str, Any] = {
    "imageReference": at("properties.storageProfile.imageReference", {"publisher": "Canonical"}),
    "imageReference.id": at("properties.storageProfile.imageReference.id", "/subscriptions/x"),
    "imageReference.sku": at("properties.storageProfile.imageReference.sku", "20_04-lts"),
    "osDisk.createOption": at("properties.storageProfile.osDisk.createOption", "Attach"),
    "zones": {"zones": ["2"]},
    "adminUsername": at("properties.osProfile.adminUsername", "root"),
}
UNCHANGED = {
    "adminPassword": "the simulator keeps no secret, so it cannot compare one",
    "sourceVirtualMachine": "a property of images, which the simulator does not have",
}


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_what_is_fixed_at_creation_cannot_change(method: str, path: str) -> None:
    clock = Clock()
    azure = Azure(clock)
    image: shapes.ImageName = "marketplace" if path == "imageReference.sku" else "gallery"
    ready_machine(azure, clock, image=image)
    async with arm(azure) as client:
        before = (await client.call("GET", VM)).json()
        answer = await client.call(method, VM, {"location": "westus", **CHANGES[path]})
        assert_judged(answer, "property change not allowed")
        assert answer.json()["error"]["target"] == path
        assert (await client.call("GET", VM)).json() == before


def test_every_reported_property_is_tried() -> None:
    assert set(ERRORS["property change not allowed"]["properties_seen"]) == (
        set(CHANGES) - {"adminUsername"} | set(UNCHANGED)
    )


@pytest.mark.parametrize("image", list(shapes.IMAGES))
async def test_the_same_body_again_and_the_answer_itself_are_taken(image: shapes.ImageName) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock, image=image)
    async with arm(azure) as client:
        told = (await client.call("GET", VM)).json()
        for body in (shapes.machine(image), told, {**told, "location": "West US"}):
            assert (await client.call("PUT", VM, body)).status_code == 200
            clock.go(60)
        assert (await client.call("GET", VM)).json() == told


NEW = shapes.machine_id("vm-02")
LONG = "v" * 90
# what is asked for, and the status and code of its refusal; codes are public, statuses in part inferred
UNFIT: dict[str, tuple[str, str, Any, int, str]] = {
    "no subscription id": (
        "GET", VM.replace(shapes.SUBSCRIPTION, "my-subscription"), None, 400, "InvalidSubscriptionId"
    ),
    "a region that is none": (
        "PUT", NEW, shapes.machine(location="nowhere"), 400, "LocationNotAvailableForResourceType"
    ),
    "no region": ("PUT", NEW, {"properties": shapes.machine()["properties"]}, 400, "LocationRequired"),
    "a region and nothing else": ("PUT", NEW, {"location": "westus"}, 400, "InvalidParameter"),
    "a name too long": ("PUT", shapes.machine_id(LONG), shapes.machine(), 400, "InvalidParameter"),
    "a name with a sign": ("PUT", shapes.machine_id("a_b$c"), shapes.machine(), 400, "InvalidParameter"),
    "a name with a dot at its end": ("PUT", shapes.machine_id("web."), shapes.machine(), 400, "InvalidParameter"),
    "a group in no region": ("PUT", OTHER_GROUP, {"location": "nowhere"}, 400, "LocationNotAvailableForResourceGroup"),
    "a group without a region": ("PUT", OTHER_GROUP, {"tags": {}}, 400, "LocationRequired"),
    "a group with a sign": ("PUT", f"{OTHER_GROUP}$", {"location": "westus"}, 400, "InvalidResourceGroup"),
    "a group with a dot at its end": ("PUT", f"{OTHER_GROUP}.", {"location": "westus"}, 400, "InvalidResourceGroup"),
    "a list as a body": ("PATCH", VM, [], 400, "InvalidRequestContent"),
    "properties of another kind": ("PATCH", VM, {"properties": []}, 400, "InvalidRequestContent"),
    "a profile of another kind": ("PATCH", VM, at("properties.osProfile", "me"), 400, "InvalidRequestContent"),
    "tags of another kind": ("PATCH", VM, {"tags": ["a"]}, 400, "InvalidRequestContent"),
    "a tag that is a number": ("PATCH", GROUP, {"tags": {"ring": 1}}, 400, "InvalidRequestContent"),
    "a patch mode that is none": ("PATCH", VM, settings(patchMode="Banana"), 400, "InvalidParameter"),
    "a patch mode of Windows": ("PATCH", VM, settings(patchMode="AutomaticByOS"), 400, "InvalidParameter"),
    "an assessment mode that is none": ("PATCH", VM, settings(assessmentMode="Banana"), 400, "InvalidParameter"),
    "a class that is none": (
        "POST", f"{VM}/installPatches", install_order(linuxParameters={"classificationsToInclude": ["Nope"]}),
        400, "InvalidParameter",
    ),
    "a class of Windows": (
        "POST", f"{VM}/installPatches", install_order(linuxParameters={"classificationsToInclude": ["Tools"]}),
        400, "InvalidParameter",
    ),
    "classes of another kind": (
        "POST", f"{VM}/installPatches", install_order(linuxParameters={"classificationsToInclude": "Security"}),
        400, "InvalidRequestContent",
    ),
    "an order for Windows alone": (
        "POST", f"{VM}/installPatches", install_order(linuxParameters=None), 400, "InvalidParameter"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
async def test_an_unfit_request_changes_nothing(name: str) -> None:
    method, path, body, status, code = UNFIT[name]
    azure, _ = ready()
    async with arm(azure) as client:
        before = (await client.call("GET", VM)).json()
        answer = await client.call(method, path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert (await client.call("GET", VM)).json() == before
    assert (len(azure.world.machines), len(azure.world.groups), azure.operations) == (1, 1, [])


@pytest.mark.parametrize("system", ["Windows", "Linux"])
async def test_every_class_of_the_interface_can_be_ordered(system: Literal["Windows", "Linux"]) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock, os=system)
    enums = {each["name"]: each["values"] for each in payload("compute_patch_api.json")["enums"]}
    parameters = {"classificationsToInclude": enums[f"classificationsToInclude ({system})"]}
    order = {"rebootSetting": "IfRequired", f"{system.lower()}Parameters": parameters}
    async with arm(azure) as client:
        assert (await client.call("POST", f"{VM}/installPatches", order)).status_code == 202


@pytest.mark.parametrize("setting", ["patchMode", "assessmentMode"])
async def test_an_image_that_the_platform_cannot_patch_is_not_set_to_be_patched_by_it(setting: str) -> None:
    record = next(
        each for each in payload("compute_error_messages.json")["errors"] if each["code"] == "InvalidParameter"
    )
    azure, _ = ready()
    azure.behave("vm-01", Behaviour(refuse="unsupported-image"))
    azure.behave("vm-02", Behaviour(refuse="unsupported-image"))
    wanted = {setting: "AutomaticByPlatform"}
    async with arm(azure) as client:
        answers = [
            await client.call("PATCH", VM, settings(**wanted)),
            await client.call("PUT", VM, {"location": "westus", **settings(**wanted)}),
            await client.call("PUT", NEW, shapes.machine(patch_settings=wanted)),
        ]
        assert (await client.call("PATCH", VM, settings(**{setting: "ImageDefault"}))).status_code == 200
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["message"]) == (400, record["code"], record["message"])
    assert [each.name for each in azure.world.machines.values()] == ["vm-01"]


@pytest.mark.parametrize("path", [VM, GROUP])
async def test_tags_of_null_are_tags_left_as_they_are(path: str) -> None:
    azure, _ = ready()
    async with arm(azure) as client:
        await client.call("PATCH", path, {"tags": {"a": "b"}})
        answer = await client.call("PATCH", path, {"tags": None})
    assert answer.json()["tags"] == {"a": "b"}


async def test_a_missing_machine_names_the_page_that_helps() -> None:
    azure, _ = ready()
    async with arm(azure) as client:
        error = (await client.call("GET", shapes.machine_id("vm-09"))).json()["error"]
    assert error["message"] == (
        "The Resource 'Microsoft.Compute/virtualMachines/vm-09' under resource group 'rg-prod' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    )
