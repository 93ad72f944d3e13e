"""What Resource Manager answers to every request, beside arm_common.json: versions, tokens, headers, errors' form.

Factors: the resource type, what is wrong with the request, who sends it.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from simulator import identity
from simulator.arm import shapes, versions
from simulator.azure import Azure, Request
from tests.contract.simulator_client import GROUP, READY_SECONDS, Clock, arm, payload, ready_machine

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
    assert (answer.status_code, error["code"]) == (record["http_status"], record["code"])
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
