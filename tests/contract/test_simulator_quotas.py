"""The simulator's quotas beside the documented buckets (compute-throttling-limits.md, Resource Graph's guidance)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from simulator import identity
from simulator.arm import shapes
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Limits, Rate, Request, Response
from tests.contract.simulator_client import GROUP, READY_SECONDS, Clock, arm, payload, ready_machine

VM = shapes.machine_id("vm-01")


def test_the_buckets_are_the_documented_ones() -> None:
    documented = payload("compute_throttling.json")["policies"]
    ours = Limits()
    pairs = {
        "VM Guest Patch Operations (assessPatches+installPatches)": (ours.patch_resource, ours.patch_subscription),
        "Get Operation": (ours.get_operation_resource, ours.get_operation_subscription),
        "Low Cost Get VM (GET, instanceView)": (ours.get_machine_resource, ours.get_machine_subscription),
        "High Cost Get VM (list)": (None, ours.list_subscription),
        "Update VM": (ours.update_resource, ours.update_subscription),
    }
    assert documented.keys() == pairs.keys()
    for name, rates in pairs.items():
        for level, rate in zip(("resource", "subscription"), rates, strict=True):
            wanted = documented[name][level]
            expected = None if wanted is None else Rate(wanted["max"], wanted["refill_per_min"])
            assert rate == expected, f"{name}, {level}"


@pytest.mark.parametrize(
    ("limits", "speed", "first", "later"),
    [
        pytest.param(Limits(), 1, 300, 100, id="Compute's own: 300 at once, then 100 a minute"),
        pytest.param(Limits(), 60, 300, 100, id="sixty times faster: 100 a second"),
        pytest.param(Limits().with_arm(), 1, 200, 100, id="Resource Manager's too: 200 writes at once"),
    ],
)
async def test_calls_at_once_and_after_a_refill(limits: Limits, speed: float, first: int, later: int) -> None:
    clock = Clock()
    azure = Azure(clock, limits=limits.scaled(speed))
    ids = [shapes.machine_id(f"vm-{number:03}") for number in range(700)]
    for each in ids:
        azure.create_machine(each, shapes.machine())
    clock.go(READY_SECONDS)
    async with arm(azure) as client:
        answers = await asyncio.gather(*(client.call("POST", f"{each}/assessPatches") for each in ids[:350]))
        assert Counter(each.status_code for each in answers) == {202: first, 429: 350 - first}
        clock.go(60 / speed)
        answers = await asyncio.gather(*(client.call("POST", f"{each}/assessPatches") for each in ids[350:]))
        refilled = Counter(each.status_code for each in answers)
    spare = 300 - first  # what Compute's bucket still held
    assert refilled == {202: min(200, later + spare), 429: 350 - min(200, later + spare)}
    assert len(azure.operations) == first + refilled[202]


async def test_a_machine_takes_three_calls_then_one_a_minute_and_the_429_is_the_documented_one() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        spent = [await client.call("POST", f"{VM}/assessPatches") for _ in range(4)]
        clock.go(60)
        refilled = [(await client.call("POST", f"{VM}/assessPatches")).status_code for _ in range(2)]
    assert [each.status_code for each in spent] == [202, 409, 409, 429], "a conflict costs tokens too"
    assert refilled == [409, 429]
    sample = payload("compute_429_doc_sample.json")
    body = spent[-1].json()
    assert body.keys() == sample["body"].keys()
    assert (body["code"], body["message"]) == (sample["body"]["code"], sample["body"]["message"])
    assert body["details"][0].keys() == sample["body"]["details"][0].keys()
    assert body["details"][0]["target"] == "VMGuestPatchOperationResource"
    assert spent[-1].headers["Retry-After"] == "60"
    assert spent[-1].headers["x-ms-ratelimit-remaining-resource"].endswith("VMGuestPatchOperationResource;0")


async def test_reads_and_polls_have_buckets_of_their_own() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        url = (await client.call("POST", f"{VM}/assessPatches")).headers["azure-asyncoperation"]
        polls = Counter([(await client.call("GET", url)).status_code for _ in range(46)])
        reads = Counter([(await client.call("GET", VM)).status_code for _ in range(37)])
    assert polls == {200: 45, 429: 1}
    assert reads == {200: 36, 429: 1}


async def test_resource_graph_answers_fifteen_queries_in_five_seconds() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        answers = [await client.ask("resources | project id") for _ in range(16)]
        clock.go(5)
        later = await client.ask("resources | project id")
    assert [each.status_code for each in answers] == [200] * 15 + [429]
    assert [each.headers["x-ms-user-quota-remaining"] for each in answers[13:]] == ["1", "0", "0"]
    assert answers[-1].headers["x-ms-user-quota-resets-after"] == "00:00:05"
    assert later.status_code == 200


# --- Resource Manager's own: per principal, subscription and kind of operation ---------------------------------------

JUDGE = payload("arm_common.json")
BUCKETS = {each["operations"]: each for each in JUDGE["throttling_buckets"] if each["scope"] == "subscription"}
THROTTLED = next(each for each in JUDGE["errors"] if each["case"] == "subscription throttled")
# the kind: a call of it that Compute does not count, its name in the singular, and the status while there are tokens
CALLS: dict[str, tuple[str, str, Any, str, int]] = {
    "reads": ("GET", GROUP, None, "read", 200),
    "writes": ("PATCH", GROUP, {"tags": {}}, "write", 200),
    "deletes": ("DELETE", f"{GROUP}-none", None, "delete", 404),
}


async def send(azure: Azure, kind: str, client: str = identity.CLIENT_ID, subscription: str = SUBSCRIPTION) -> Response:
    method, path, body, _, _ = CALLS[kind]
    minted = identity.mint(identity.ARM, now_seconds=azure.now().timestamp(), client_id=client)
    return await azure.handle(
        Request(
            method,
            path.replace(SUBSCRIPTION, subscription),
            {"api-version": "2024-11-01"},
            {"authorization": f"Bearer {minted}"},
            json.dumps(body or {}).encode(),
        )
    )


@pytest.mark.parametrize("kind", CALLS)
async def test_a_principal_has_the_documented_bucket_of_each_kind(kind: str) -> None:
    documented, (_, _, _, singular, status) = BUCKETS[kind], CALLS[kind]
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    answers = [await send(azure, kind) for _ in range(documented["bucket"] + 2)]
    assert Counter(each.status for each in answers) == {status: documented["bucket"], THROTTLED["http_status"]: 2}
    shown = f"x-ms-ratelimit-remaining-subscription-{kind}"
    assert [each.headers[shown] for each in (answers[0], *answers[-3:])] == [str(documented["bucket"] - 1), *"000"]
    refused = answers[-1]
    assert isinstance(refused.body, dict)
    assert refused.body["error"]["code"] == THROTTLED["code"]
    wait = refused.headers[THROTTLED["header"].lower()]
    assert refused.body["error"]["message"] == THROTTLED["message_form"].format(
        **{"kind": singular, "id": SUBSCRIPTION, "object id": identity.PRINCIPAL_ID, "n": wait}
    )
    clock.go(float(wait))
    later = [await send(azure, kind) for _ in range(documented["refill_per_second"] + 1)]
    assert Counter(each.status for each in later) == {status: documented["refill_per_second"], 429: 1}


async def test_a_bucket_is_one_principals_one_subscriptions_and_one_kinds() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    other = "00000000-0000-0000-0000-000000000002"
    azure.create_group(GROUP.replace(SUBSCRIPTION, other))
    for _ in range(BUCKETS["reads"]["bucket"]):
        await send(azure, "reads")
    statuses = {
        "again": (await send(azure, "reads")).status,
        "another kind": (await send(azure, "writes")).status,
        "another principal": (await send(azure, "reads", client=identity.OPERATOR)).status,
        "another subscription": (await send(azure, "reads", subscription=other)).status,
    }
    assert statuses == {"again": 429, "another kind": 200, "another principal": 200, "another subscription": 200}


async def test_a_tenant_has_a_bucket_of_its_own() -> None:
    (documented,) = [
        each for each in JUDGE["throttling_buckets"] if (each["scope"], each["operations"]) == ("tenant", "reads")
    ]
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    minted = identity.mint(identity.ARM, now_seconds=azure.now().timestamp())
    request = Request("GET", "/subscriptions", {"api-version": "2022-12-01"}, {"authorization": f"Bearer {minted}"})
    answers = [await azure.handle(request) for _ in range(documented["bucket"] + 1)]
    assert Counter(each.status for each in answers) == {200: documented["bucket"], 429: 1}
    assert answers[0].headers["x-ms-ratelimit-remaining-tenant-reads"] == str(documented["bucket"] - 1)
    assert (await send(azure, "reads")).status == 200, "the subscription's is another"


async def test_a_poll_shows_the_headers_that_were_recorded() -> None:
    recorded = payload("recorded_vm_installPatches_windows_LRO.json")["2_GET_azure_asyncoperation_inprogress"]
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    async with arm(azure) as client:
        started = await client.call("POST", f"{VM}/assessPatches")
        poll = await client.call("GET", started.headers["azure-asyncoperation"])
        read = await client.call("GET", VM)
    counts = {each.lower() for each in recorded["headers"] if "ratelimit" in each.lower()}
    assert {each.lower() for each in poll.headers if "ratelimit" in each.lower()} == counts
    assert read.headers["x-ms-ratelimit-remaining-subscription-reads"] == "248"
