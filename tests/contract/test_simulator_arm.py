"""What Resource Manager answers to every request, beside arm_common.json: versions, tokens, headers, errors' form.

Factors: the resource type, what is wrong with the request, who sends it.
"""

from __future__ import annotations

import random
import re
import uuid
from typing import Any, Literal

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError

from simulator import identity
from simulator.arm import shapes, versions
from simulator.azure import Azure, Behaviour, Fault, Grant, Request
from simulator.tls import Tls
from simulator.wire import Json, guid
from tests.contract.simulator_client import (
    GROUP,
    READY_SECONDS,
    Clock,
    WayIn,
    arm,
    install_order,
    payload,
    ready_machine,
)

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
        now = (await client.call("GET", VM)).json()
    assert now.pop("etag") != told.pop("etag"), "each is a write"
    assert now == told


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


# --- preconditions -------------------------------------------------------------------------------------------------

# the headers (CURRENT: the machine's own tag), and what a PUT and a PATCH of a machine that is there answer, and a PUT
# of one that is not
CURRENT = "current"
CONDITIONS: dict[str, tuple[dict[str, str], int, int]] = {
    "no condition": ({}, 200, 201),
    "if it is there": ({"If-Match": "*"}, 200, 412),
    "if it is this": ({"If-Match": CURRENT}, 200, 412),
    "if it is one of these": ({"If-Match": f'"none", {CURRENT}'}, 200, 412),
    "if it is another": ({"If-Match": '"none"'}, 412, 412),
    "if it is not there": ({"If-None-Match": "*"}, 412, 201),
    "if it is not this": ({"If-None-Match": CURRENT}, 412, 201),
    "if it is not another": ({"If-None-Match": '"none"'}, 200, 201),
}


@pytest.mark.parametrize("name", CONDITIONS)
async def test_a_precondition_is_kept(name: str) -> None:
    """Declared for createOrUpdate and update (compute_patch_api.json)."""
    given, there, not_there = CONDITIONS[name]
    azure, clock = ready()
    async with arm(azure) as client:
        for method, path, status in (("PUT", VM, there), ("PATCH", VM, there), ("PUT", NEW, not_there)):
            clock.go(60)
            tag = (await client.call("GET", VM)).json()["etag"]
            headers = {header: value.replace(CURRENT, tag) for header, value in given.items()}
            answer = await client.call(method, path, shapes.machine(tags={"a": method}), headers=headers)
            assert answer.status_code == status
            if status == 412:
                assert_judged(answer, "precondition failed")


def test_the_operations_with_preconditions_are_those_tried() -> None:
    declared = {each["operation"]: each["headers"] for each in payload("compute_patch_api.json")["compute"]["etag"]}
    assert declared == {name: ["If-Match", "If-None-Match"] for name in ("createOrUpdate", "update")}


async def test_the_entity_tag_changes_with_writes_alone() -> None:
    azure, clock = ready()
    tags = []
    async with arm(azure) as client:
        for method, path, body in (
            ("GET", VM, None), ("POST", f"{VM}/assessPatches", None), ("PATCH", VM, {"tags": {"a": "b"}}),
            ("PATCH", VM, {"tags": {"a": "b"}}),
        ):  # fmt: skip
            await client.call(method, path, body)
            tags.append((await client.call("GET", VM)).json()["etag"])
            clock.go(600)
    assert tags == ['"1"', '"1"', '"2"', '"3"']


async def test_the_sdk_reads_the_tag_and_sends_it() -> None:
    azure, _ = ready()
    async with arm(azure) as client:
        machines = client.compute.virtual_machines
        machine = await machines.get("rg-prod", "vm-01")
        condition: Any = {"etag": machine.etag, "match_condition": MatchConditions.IfNotModified}
        await machines.begin_update("rg-prod", "vm-01", {"tags": {"a": "b"}}, **condition)
        with pytest.raises(ResourceModifiedError):
            await machines.begin_update("rg-prod", "vm-01", {"tags": {"a": "c"}}, **condition)
    assert azure.machine("vm-01").body.at(azure.now())["tags"] == {"a": "b"}  # type: ignore[index]


# --- query options -------------------------------------------------------------------------------------------------

MACHINES = "providers/Microsoft.Compute/virtualMachines"
SCALE_SET = f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/web"
FILTER = f"'virtualMachineScaleSet/id' eq '{SCALE_SET}'"
OF_SUBSCRIPTION, OF_GROUP = f"{SUBSCRIPTION}/{MACHINES}", f"{GROUP}/{MACHINES}"
AT_LOCATION = f"{SUBSCRIPTION}/providers/Microsoft.Compute/locations/West US/virtualMachines"

# what is asked for: the names of the machines, and whether they come with their instance views; or the refusal's code
LISTS: dict[str, tuple[str, dict[str, str], tuple[list[str], bool] | str]] = {
    "all": (OF_SUBSCRIPTION, {}, (["vm-01", "vm-02", "vm-03"], False)),
    "of a group": (OF_GROUP, {}, (["vm-01", "vm-02"], False)),
    "at a location": (AT_LOCATION, {}, (["vm-01", "vm-03"], False)),
    "with their status": (OF_SUBSCRIPTION, {"statusOnly": "true"}, (["vm-01", "vm-02", "vm-03"], True)),
    "without their status": (OF_SUBSCRIPTION, {"statusOnly": "false"}, (["vm-01", "vm-02", "vm-03"], False)),
    "of a scale set": (OF_GROUP, {"$filter": FILTER}, (["vm-02"], False)),
    "of a scale set, in other letters": (
        OF_SUBSCRIPTION,
        {"$filter": FILTER.replace("web", "WEB")},
        (["vm-02"], False),
    ),
    "of no scale set": (OF_GROUP, {"$filter": FILTER.replace("web", "none")}, ([], False)),
    "of a scale set, with their views": (OF_GROUP, {"$filter": FILTER, "$expand": "instanceView"}, (["vm-02"], True)),
    "with views, without a filter": (OF_GROUP, {"$expand": "instanceView"}, "InvalidParameter"),
    "with something else": (OF_GROUP, {"$filter": FILTER, "$expand": "extensions"}, "InvalidParameter"),
    "by another filter": (OF_SUBSCRIPTION, {"$filter": "name eq 'vm-01'"}, "InvalidParameter"),
    "by a status that is none": (OF_SUBSCRIPTION, {"statusOnly": "yes"}, "InvalidParameter"),
    "by another option": (OF_SUBSCRIPTION, {"$skip": "1"}, "BadRequest"),
    "of a group, with their status": (OF_GROUP, {"statusOnly": "true"}, "BadRequest"),
    "at a location, by a filter": (AT_LOCATION, {"$filter": FILTER}, "BadRequest"),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_answers_its_options_or_refuses_them(name: str) -> None:
    path, query, expected = LISTS[name]
    clock = Clock()
    azure = Azure(clock)
    azure.create_machine(VM, shapes.machine())
    of_scale_set = {"virtualMachineScaleSet": {"id": SCALE_SET}}
    azure.create_machine(NEW, shapes.machine(location="northeurope", properties=of_scale_set))
    azure.create_machine(shapes.machine_id("vm-03", group="rg-test"), shapes.machine(location="West US"))
    async with arm(azure) as client:
        answer = await client.call("GET", path, query=query)
    if isinstance(expected, str):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, expected)
        return
    found = answer.json()["value"]
    views = {"instanceView" in each["properties"] for each in found}
    assert ([each["name"] for each in found], views) == (expected[0], {expected[1]} if found else set())


# of a machine: the operation and its options, and the status
OPTIONS: dict[str, tuple[str, str, dict[str, str], int]] = {
    "with its view": ("GET", VM, {"$expand": "INSTANCEVIEW"}, 200),
    "with something else": ("GET", VM, {"$expand": "extensions"}, 400),
    "by another option": ("GET", VM, {"$select": "name"}, 400),
    "its view, by an option": ("GET", f"{VM}/instanceView", {"$expand": "instanceView"}, 400),
    "assessed, by an option": ("POST", f"{VM}/assessPatches", {"force": "true"}, 400),
    "a group, by an option": ("GET", GROUP, {"$expand": "createdTime"}, 400),
}


@pytest.mark.parametrize("name", OPTIONS)
async def test_an_option_of_one_resource_is_answered_or_refused(name: str) -> None:
    method, path, query, status = OPTIONS[name]
    azure, _ = ready()
    async with arm(azure) as client:
        assert (await client.call(method, path, query={"api-version": "2024-11-01", **query})).status_code == status
    assert azure.operations == []


async def test_user_data_is_shown_where_it_is_asked_for() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock, properties={"userData": "c2VjcmV0"})
    async with arm(azure) as client:
        plain = (await client.call("GET", VM)).json()["properties"]
        asked = (await client.call("GET", VM, query={"$expand": "userData"})).json()["properties"]
    assert ("userData" in plain, asked["userData"]) == (False, "c2VjcmV0")


async def test_a_list_with_views_needs_the_right_to_see_them() -> None:
    azure, _ = ready()
    azure.grants = [Grant(actions=("Microsoft.Compute/virtualMachines/read",))]
    async with arm(azure) as client:
        statuses = [
            (await client.call("GET", OF_SUBSCRIPTION, query=query)).status_code
            for query in ({}, {"statusOnly": "true"}, {"statusOnly": "false"})
        ]
    assert statuses == [200, 403, 200]


# --- headers of every answer ---------------------------------------------------------------------------------------

HEADERS = {each["name"]: each for each in JUDGE["headers"]}
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OURS = "00000000-0000-0000-0000-0000000000aa"

ANSWERS: dict[str, tuple[str, str, Any, int]] = {
    "a machine": ("GET", VM, None, 200),
    "an assessment": ("POST", f"{VM}/assessPatches", None, 202),
    "a change": ("PATCH", VM, {"tags": {}}, 200),
    "Resource Graph": ("POST", GRAPH, {"query": "resources | project id"}, 200),
    "no machine": ("GET", shapes.machine_id("vm-09"), None, 404),
    "no path": ("GET", "/providers/none", None, 404),
    "a fault": ("GET", f"{VM}/instanceView", None, 503),
}
# those that stand on every answer, by the words of the record
EVERYWHERE = {name for name, each in HEADERS.items() if each["on"].startswith("every answer")}
ON = {"GET": "reads", "POST": "writes", "PATCH": "writes"}


@pytest.mark.parametrize("name", ANSWERS)
async def test_every_answer_has_its_headers(name: str) -> None:
    method, path, body, status = ANSWERS[name]
    azure, clock = ready()
    azure.faults.add(Fault("GET", "instanceView$", status=503))
    sent = {"x-ms-correlation-request-id": OURS, "x-ms-client-request-id": "mine"}
    async with arm(azure) as client:
        answer = await client.call(method, path, body, headers=sent)
        again = await client.call(method, path, body, headers={"x-ms-return-client-request-id": "true", **sent})
    assert answer.status_code == status
    headers = {header.lower(): value for header, value in answer.headers.items()}
    assert headers.keys() >= EVERYWHERE
    assert headers["x-ms-correlation-request-id"] == OURS
    region, stamp, own = headers["x-ms-routing-request-id"].split(":")
    assert (region.isupper(), stamp) == (True, f"{clock():%Y%m%dT%H%M%SZ}")
    assert all(GUID.fullmatch(each) for each in (own, headers["x-ms-request-id"]))
    assert headers["x-ms-request-id"] != again.headers["x-ms-request-id"]
    assert ("x-ms-client-request-id" in headers, again.headers["x-ms-client-request-id"]) == (False, "mine")
    if "Microsoft.Compute" in path and status < 300:
        assert {f"x-ms-ratelimit-remaining-subscription-global-{ON[method]}", "x-ms-ratelimit-remaining-resource"} <= (
            headers.keys()
        )


async def test_a_correlation_id_is_made_where_none_is_sent() -> None:
    azure, _ = ready()
    answers = [await get(azure, authorization=token()) for _ in range(2)]
    ids = [each.headers["x-ms-correlation-request-id"] for each in answers]
    assert all(GUID.fullmatch(each) for each in ids)
    assert ids[0] != ids[1]


def test_an_id_is_the_text_that_uuid_makes_of_the_same_bits() -> None:
    """A reader may parse it, and what was seeded before keeps its ids."""
    ids, bits = random.Random(7), random.Random(7)
    assert [guid(ids) for _ in range(100)] == [str(uuid.UUID(int=bits.getrandbits(128), version=4)) for _ in range(100)]


# --- resource groups and subscriptions -----------------------------------------------------------------------------


@pytest.mark.parametrize("way_in", ["in process", "TLS port"])
async def test_the_head_of_a_group_says_whether_it_exists(way_in: WayIn, tls: Tls) -> None:
    azure, _ = ready()
    async with arm(azure, way_in, tls) as client:
        answers = [await client.call("HEAD", path) for path in (GROUP, OTHER_GROUP)]
    assert [(each.status_code, each.text()) for each in answers] == [(204, ""), (404, "")]


async def test_a_group_and_its_machines_are_deleted_and_the_deletion_is_followed() -> None:
    azure, clock = ready()
    async with arm(azure) as client:
        deleted = await client.call("DELETE", GROUP)
        location = deleted.headers["location"]
        again = await client.call("DELETE", GROUP)
        during = [await client.call("GET", path) for path in (location, GROUP, VM)]
        clock.go(azure.world.timings.delete_seconds - 1)
        nearly = await client.call("GET", location)
        clock.go(1)
        after = [await client.call("GET", path) for path in (location, GROUP, VM)]
        none = await client.call("GET", location.replace("operationresults/", "operationresults/x"))
        remade = await client.call("PUT", GROUP, {"location": "westus"})
    assert (deleted.status_code, again.status_code, again.headers["location"]) == (202, 202, location)
    assert [each.status_code for each in during] == [202, 200, 200]
    assert [each.json()["properties"]["provisioningState"] for each in during[1:]] == ["Deleting", "Deleting"]
    assert (nearly.status_code, nearly.headers["location"]) == (202, location)
    assert [each.status_code for each in (*after, none, remade)] == [200, 404, 404, 404, 201]
    assert azure.world.machines == {}


IN_A_DELETED_GROUP = {
    "the group again": ("PUT", GROUP, {"location": "westus"}),
    "its tags": ("PATCH", GROUP, {"tags": {}}),
    "a new machine": ("PUT", shapes.machine_id("vm-02"), shapes.machine()),
    "a machine's tags": ("PATCH", VM, {"tags": {}}),
    "an assessment": ("POST", f"{VM}/assessPatches", None),
    "an installation": ("POST", f"{VM}/installPatches", install_order()),
}


@pytest.mark.parametrize("name", IN_A_DELETED_GROUP)
async def test_a_group_that_is_being_deleted_takes_nothing_more(name: str) -> None:
    azure, _ = ready()
    azure.delete_group(GROUP)
    async with arm(azure) as client:
        answer = await client.call(*IN_A_DELETED_GROUP[name])
    assert_judged(answer, "group is being deleted")
    assert answer.status_code == 409  # operation_errors.json, p036
    assert says("{…}is in deprovisioning state and cannot perform this operation.", answer.json()["error"]["message"])


async def test_resource_graph_shows_the_deletion_of_a_group_late() -> None:
    azure, clock = ready()
    shown = "resourcecontainers | where name == 'rg-prod' | project state = tostring(properties.provisioningState)"
    lag, seconds = azure.graph.lag_seconds, azure.world.timings.delete_seconds
    async with arm(azure) as client:
        azure.delete_group(GROUP)
        seen = [await client.rows(shown)]
        for passed in (lag, seconds - lag, lag - 1, 1):
            clock.go(passed)
            seen.append(await client.rows(shown))
    deleting = [{"state": "Deleting"}]
    assert seen == [[{"state": "Succeeded"}], deleting, deleting, deleting, []]


GROUPS: dict[str, tuple[dict[str, str], list[str] | int]] = {
    "all": ({}, ["rg-prod", "rg-test"]),
    "with a tag": ({"$filter": "tagName eq 'Team'"}, ["rg-prod", "rg-test"]),
    "with a tag of a value": ({"$filter": "tagName eq 'team' and tagValue eq 'web'"}, ["rg-test"]),
    "with another filter": ({"$filter": "name eq 'rg-prod'"}, 400),
    "the first": ({"$top": "1"}, 400),
}


@pytest.mark.parametrize("name", GROUPS)
async def test_the_groups_of_a_subscription(name: str) -> None:
    query, expected = GROUPS[name]
    azure, _ = ready()
    azure.create_group(GROUP.replace("rg-prod", "rg-test"), tags={"team": "web"})
    azure.create_group(GROUP.replace(shapes.SUBSCRIPTION, OTHER_SUBSCRIPTION))
    async with arm(azure) as client:
        await client.call("PATCH", GROUP, {"tags": {"team": "data"}})
        answer = await client.call("GET", f"{SUBSCRIPTION}/resourceGroups", query=query)
    found = [each["name"] for each in answer.json().get("value", [])]
    assert (found or answer.status_code) == expected


@pytest.mark.parametrize(
    ("subscription", "status"), [(shapes.SUBSCRIPTION, 200), (OTHER_SUBSCRIPTION, 404), ("x", 400)]
)
async def test_a_subscription(subscription: str, status: int) -> None:
    azure, _ = ready()
    async with arm(azure) as client:
        answer = await client.call("GET", f"/subscriptions/{subscription}", query={"api-version": "2022-12-01"})
    assert answer.status_code == status
    assert answer.json().get("subscriptionId") == (subscription if status == 200 else None)


# namespace → status, what is said (REST reference of resource providers; arm_common.json has the code of the refusal)
NAMESPACES: dict[str, tuple[int, str]] = {
    "Microsoft.Compute": (200, "Registered"),
    "microsoft.eventgrid": (200, "Registered"),
    "Contoso.Nothing": (404, "InvalidResourceNamespace"),
}


@pytest.mark.parametrize(("namespace", "expected"), NAMESPACES.items(), ids=NAMESPACES)
async def test_a_resource_provider(namespace: str, expected: tuple[int, str]) -> None:
    azure, _ = ready()
    async with arm(azure) as client:
        path = f"{SUBSCRIPTION}/providers/{namespace}"
        answer = await client.call("GET", path, query={"api-version": "2021-04-01"})
    found = answer.json()
    assert (answer.status_code, found.get("registrationState") or found["error"]["code"]) == expected


async def test_preview_features_are_those_that_pages_named() -> None:
    """Of one subscription, each with its state (customized_images.json)."""
    azure, _ = ready()
    named = [each["name"] for each in payload("customized_images.json")["features"]]
    azure.world.features[SUBSCRIPTION.rpartition("/")[2], named[0].lower()] = "Registered"
    async with arm(azure) as client:
        path = f"{SUBSCRIPTION}/providers/Microsoft.Features/providers/Microsoft.Compute/features"
        answer = await client.call("GET", path, query={"api-version": "2021-07-01"})
    states = {each["name"]: each["properties"]["state"] for each in answer.json()["value"]}
    assert states == dict.fromkeys(named, "NotRegistered") | {named[0]: "Registered"}


async def test_alerts_are_those_of_the_deployment() -> None:
    """Of the resource group alone, and as the deployment says them."""
    azure, _ = ready()
    rules, groups = (f"{GROUP}/providers/Microsoft.Insights/{each}" for each in ("scheduledQueryRules", "actionGroups"))
    rule: Json = {
        "id": f"{rules}/late",
        "name": "late",
        "type": "x",
        "properties": {"enabled": True},
        "condition": True,
    }
    other = {**rule, "id": rule["id"].replace("rg-prod", "rg-test")}
    group: Json = {"id": f"{groups}/mail", "name": "mail", "type": "x", "properties": {"enabled": True}}
    azure.world.alerts = {each["id"].lower(): each for each in (rule, other, group)}
    query = {"api-version": "2023-01-01"}
    async with arm(azure) as client:
        listed = (await client.call("GET", rules, query=query)).json()["value"]
        found = await client.call("GET", f"{groups}/mail", query=query)
        missing = await client.call("GET", f"{groups}/absent", query=query)
    assert [each["id"] for each in listed] == [rule["id"]]
    assert "condition" not in listed[0]
    assert (found.status_code, found.json()["properties"]) == (200, {"enabled": True})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceNotFound")


# the rights of the caller: which subscriptions it sees
RIGHTS: dict[str, tuple[list[Grant], list[str]]] = {
    "everywhere": ([Grant()], [shapes.SUBSCRIPTION, OTHER_SUBSCRIPTION]),
    "in one": ([Grant(SUBSCRIPTION)], [shapes.SUBSCRIPTION]),
    "in a group of one": ([Grant(GROUP, actions=("*/read",))], [shapes.SUBSCRIPTION]),
    "of another caller": ([Grant(client_id=identity.OPERATOR)], []),
    "nowhere": ([], []),
}


@pytest.mark.parametrize("name", RIGHTS)
async def test_a_caller_sees_the_subscriptions_in_which_it_has_rights(name: str) -> None:
    grants, expected = RIGHTS[name]
    azure, _ = ready()
    azure.create_group(GROUP.replace(shapes.SUBSCRIPTION, OTHER_SUBSCRIPTION))
    azure.grants = grants
    async with arm(azure) as client:
        answer = (await client.call("GET", "/subscriptions", query={"api-version": "2022-12-01"})).json()
    assert [each["subscriptionId"] for each in answer["value"]] == expected
    assert answer["count"]["value"] == len(expected)


# --- the judge as a whole ------------------------------------------------------------------------------------------


async def test_a_subscription_that_is_not_registered() -> None:
    azure, _ = ready()
    azure.behave("vm-01", Behaviour(refuse="provider"))
    async with arm(azure) as client:
        assert_judged(await client.call("POST", f"{VM}/assessPatches"), "subscription not registered")


async def test_a_caller_without_the_right() -> None:
    azure, _ = ready()
    azure.grants = []
    async with arm(azure) as client:
        assert_judged(await client.call("GET", VM), "not authorized")


LEFT_OUT = {
    "another operation locks the target": "networks, which the simulator does not have",
    "another operation runs": "Compute says OperationNotAllowed (compute_error_messages.json)",
    "answer of a provider over 8 MB": "Compute pages its lists; no other answer is that large",
    "provider too slow": "a test injects it (faults.py)",
}
ELSEWHERE_TESTED = {
    "unknown api-version",
    "precondition failed",
    "not authorized",
    "subscription not registered",
    "group is being deleted",
    "subscription throttled",  # test_simulator_quotas.py
}


def test_every_recorded_error_is_tried_or_left_out_for_a_reason() -> None:
    tried = {case for _, _, _, case in JUDGED.values()} | set(CASES.values()) | ELSEWHERE_TESTED
    assert tried | LEFT_OUT.keys() == ERRORS.keys()
    assert not tried & LEFT_OUT.keys()


DOCUMENTED = {each["code"] for each in JUDGE["documented_codes"]} | {each["code"] for each in ERRORS.values()}
REPORTED = {  # in public reports; the table of deployment errors does not list them
    "InvalidSubscriptionId",
    "LocationNotAvailableForResourceType",
    "LocationNotAvailableForResourceGroup",
    "InvalidResourceGroup",
}
REFUSALS = {name: (method, path, body) for name, (method, path, body, _) in JUDGED.items()} | {
    name: (method, path, body) for name, (method, path, body, _, _) in UNFIT.items()
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_every_refusal_has_the_form_of_an_error(name: str) -> None:
    form, (method, path, body) = JUDGE["error_body"], REFUSALS[name]
    azure, _ = ready()
    async with arm(azure) as client:
        answer = (await client.call(method, path, body)).json()
    assert answer.keys() == {form["wrapper"]}
    error = answer[form["wrapper"]]
    assert set(form["required"]) <= error.keys() <= {*form["required"], *form["optional"]}
    assert error["code"] in DOCUMENTED | REPORTED
    assert re.fullmatch(r"([A-Z][a-z]+)+", error["code"]), "Pascal case"
