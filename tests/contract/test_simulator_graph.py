"""The simulator's Resource Graph: rows as sampled, lag, retention, letter case, paging with its traps, rights."""

from __future__ import annotations

import re
from typing import Any

import pytest

from simulator import identity
from simulator.arm import shapes
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Azure, Behaviour, Grant
from simulator.resource_graph.graph import MAX_ANSWER_BYTES
from simulator.resource_graph.query import MAX_PAGE_ROWS, PAGE_ROWS
from tests.contract.simulator_client import GROUP, Clock, arm, payload, ready_machine

VM = shapes.machine_id("vm-01")
OTHER = "00000000-0000-0000-0000-000000000002"
ASSESSMENTS = "patchassessmentresources | where type =~ 'microsoft.compute/virtualmachines/patchassessmentresults'"
INSTALLATIONS = (
    "patchinstallationresources | where type =~ 'microsoft.compute/virtualmachines/patchinstallationresults'"
)
UPDATES = "microsoft.compute/virtualmachines/patchassessmentresults/softwarepatches"
GROUPS = "resourcecontainers | where type =~ 'microsoft.resources/subscriptions/resourcegroups'"
LIMITS = payload("resource_graph_limits.json")
GRAPH = "/providers/Microsoft.ResourceGraph/resources"
DAY = 24 * 3600


async def assessments(azure: Azure) -> list[dict[str, Any]]:
    async with arm(azure) as client:
        return await client.rows(ASSESSMENTS)


@pytest.mark.parametrize(
    ("sample", "os", "behaviour"),
    [
        pytest.param("supported_linux_custom", "Linux", Behaviour(), id="supported"),
        pytest.param(
            "unsupported",
            "Linux",
            Behaviour(support_state="Unsupported", assess_status="Failed", errors=(("CODE", "text"),)),
            id="unsupported",
        ),
        pytest.param("in_progress", "Windows", Behaviour(never_ends=True), id="in progress"),
        pytest.param(
            "undetermined",
            "Windows",
            Behaviour(support_state="UnableToDetermine", assess_status="Failed"),
            id="undetermined",
        ),
        pytest.param("marketplace_no_state", "Windows", Behaviour(support_state=None), id="no state"),
    ],
)
async def test_assessment_rows_are_the_sampled_ones(sample: str, os: Any, behaviour: Behaviour) -> None:
    expected = payload("arg_patchassessmentresources_records_INFERRED.json")[sample]
    clock = Clock()
    azure = Azure(clock)
    azure.behave("vm-01", behaviour)
    ready_machine(azure, clock, os=os)
    azure.start_operation(VM, "assess")
    clock.go(3600)
    (row,) = await assessments(azure)
    assert row.keys() == expected.keys()
    assert row["properties"].keys() == expected["properties"].keys()
    for name in ("status", "osType", "patchServiceUsed"):
        assert row["properties"].get(name) == expected["properties"].get(name)
    readiness = "vmGuestPatchReadiness"
    shown, sampled = (each["properties"].get("configurationStatus", {}) for each in (row, expected))
    assert shown.get(readiness) == sampled.get(readiness)
    counts = "availablePatchCountByClassification"
    assert row["properties"][counts].keys() == expected["properties"][counts].keys()
    assert (row["name"], row["type"]) == (row["properties"]["assessmentActivityId"], expected["type"])
    assert row["id"] == f"{VM.lower()}/patchAssessmentResults/latest"


async def test_an_installation_shows_and_empties_the_next_assessment() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    run = azure.start_operation(VM, "install")
    clock.go(3600)
    azure.start_operation(VM, "assess")
    clock.go(3600)
    async with arm(azure) as client:
        (row,) = await client.rows(INSTALLATIONS)
    assert row["id"] == f"{VM.lower()}/patchInstallationResults/{run.operation_id}"
    assert (row["properties"]["status"], row["properties"]["installedPatchCount"]) == ("Succeeded", 5)
    (assessment,) = await assessments(azure)
    counts = assessment["properties"]["availablePatchCountByClassification"]
    assert counts == {"critical": 0, "security": 0, "other": 3}


async def test_rows_show_the_world_as_it_was_a_lag_ago() -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.graph.lag_seconds = 600
    ready_machine(azure, clock)
    machines = "resources | project name, power = tostring(properties.extended.instanceView.powerState.code)"
    async with arm(azure) as client:
        assert await client.rows(machines) == [], "created, and not shown yet"
        clock.go(600)
        assert await client.rows(machines) == [{"name": "vm-01", "power": "PowerState/running"}]
        azure.start_operation(VM, "assess")
        clock.go(599)
        assert await client.rows(ASSESSMENTS) == []
        clock.go(1)
        assert [row["properties"]["status"] for row in await client.rows(ASSESSMENTS)] == ["InProgress"]
        azure.graph.stop_indexing()
        clock.go(DAY)
        assert [row["properties"]["status"] for row in await client.rows(ASSESSMENTS)] == ["InProgress"]
        azure.graph.resume_indexing()
        assert [row["properties"]["status"] for row in await client.rows(ASSESSMENTS)] == ["Succeeded"]
        azure.delete_machine(VM)
        clock.go(600)
        assert len(await client.rows(machines)) == 1, "deleted, and still shown"
        clock.go(600)
        assert await client.rows(machines) == []


@pytest.mark.parametrize(
    ("kind", "table", "days"),
    [
        pytest.param("assess", ASSESSMENTS, 7, id="assessments seven days"),
        pytest.param("install", INSTALLATIONS, 30, id="installations thirty days"),
    ],
)
async def test_rows_expire(kind: str, table: str, days: int) -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    ended = azure.start_operation(VM, kind).ends
    assert ended is not None
    async with arm(azure) as client:
        clock.go((ended - clock()).total_seconds() + days * DAY - 1)
        assert len(await client.rows(table)) == 1
        clock.go(1)
        assert await client.rows(table) == []


async def test_a_few_updates_show_as_rows_of_their_own() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.start_operation(VM, "assess")
    clock.go(3600)
    async with arm(azure) as client:
        rows = await client.rows(f"patchassessmentresources | where type =~ '{UPDATES}'")
    assert len(rows) == 3
    assert all("/patchAssessmentResults/latest/softwarePatches/" in row["id"] for row in rows)


@pytest.mark.parametrize("os", ["Linux", "Windows"])
async def test_single_updates_have_the_properties_of_their_system(os: Any) -> None:
    """As the public rows and queries have them; `certain` says there which of them a row must have."""
    facts = payload("patch_results.json")["resource_graph"]["properties"]
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock, os=os)
    for kind in ("assess", "install"):
        azure.start_operation(VM, kind)
        clock.go(7200)
    async with arm(azure) as client:
        found = await client.rows(f"patchassessmentresources | where type =~ '{UPDATES}'")
        installed = await client.rows("patchinstallationresources | where type has 'softwarepatches'")
    assert len(found) == len(installed) == 3
    own = {fact["name"] for fact in facts if os in fact["on"]}
    foreign = {"version", "kbId"} - own
    certain = {fact["name"] for fact in facts if fact["certain"] and os in fact["on"]} - {"msrcSeverity"}
    for row in found:
        assert row["properties"].keys() >= certain - {"installationState"}
        assert all(row["properties"].get(name) is None for name in foreign)
    for row in installed:
        assert f"{VM.lower()}/patchInstallationResults/" in row["id"]
        assert row["properties"].keys() >= {"patchName", "patchId", "classifications", "installationState"}
        assert not row["properties"].keys() & foreign
        assert row["properties"].keys() <= {fact["name"] for fact in facts}


async def test_groups_and_subscriptions_are_containers() -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.create_group(GROUP, tags={"patch-mode": "off"}, managedBy="another")
    clock.go(60)
    async with arm(azure) as client:
        rows = await client.rows(f"{GROUPS} | project id, tags, managedBy")
    assert rows == [{"id": GROUP, "tags": {"patch-mode": "off"}, "managedBy": "another"}]


# --- paging --------------------------------------------------------------------------------------------------------


def a_fleet(count: int) -> tuple[Azure, Clock]:
    clock = Clock()
    azure = Azure(clock)
    for number in range(count):
        azure.create_machine(shapes.machine_id(f"vm-{number:04}"), shapes.machine())
    clock.go(300)
    return azure, clock


async def pages(azure: Azure, query: str, top: int) -> list[dict[str, Any]]:
    found, token = [], None
    async with arm(azure) as client:
        while True:
            options: dict[str, Any] = {"top": top} | ({"skipToken": token} if token else {})
            page = (await client.ask(query, **options)).json()
            found.append(page)
            token = page.get("$skipToken")
            if not token:
                return found


async def test_ordered_pages_hold_every_row_once() -> None:
    azure, _ = a_fleet(25)
    found = await pages(azure, "resources | project id, name | order by id asc", 10)
    assert [page["count"] for page in found] == [10, 10, 5]
    assert {page["totalRecords"] for page in found} == {25}
    assert [page["resultTruncated"] for page in found] == ["false"] * 3, "a text, and no row is lost where a token is"
    assert [("$skipToken" in page) for page in found] == [True, True, False]
    names = [row["name"] for page in found for row in page["data"]]
    assert names == [f"vm-{number:04}" for number in range(25)]


async def test_a_page_without_a_size_is_as_large_as_the_one_before() -> None:
    azure, _ = a_fleet(25)
    query = "resources | project id | order by id asc"
    async with arm(azure) as client:
        token = (await client.ask(query, top=10)).json()["$skipToken"]
        page = (await client.ask(query, skipToken=token)).json()
    assert (page["count"], "$skipToken" in page) == (10, True)


async def test_unordered_pages_lose_and_repeat_rows() -> None:
    azure, _ = a_fleet(60)
    found = await pages(azure, "resources | project id, name", 10)
    names = [row["name"] for page in found for row in page["data"]]
    assert len(names) == 60
    assert len(set(names)) < 60


async def test_without_an_id_a_cut_answer_names_no_next_page() -> None:
    azure, _ = a_fleet(12)
    (page,) = await pages(azure, "resources | project name | order by name asc", 10)
    assert (page["count"], page["resultTruncated"], "$skipToken" in page) == (10, "true", False)


async def test_a_limit_ignores_skip() -> None:
    azure, _ = a_fleet(5)
    async with arm(azure) as client:
        skipped = await client.ask("resources | project id, name | order by id asc", skip=3)
        limited = await client.ask("resources | order by id asc | project id, name | order by id asc | limit 5", skip=3)
    assert [row["name"] for row in skipped.json()["data"]] == ["vm-0003", "vm-0004"]
    assert limited.json()["count"] == 5


async def test_the_default_page_has_a_hundred_rows() -> None:
    azure, _ = a_fleet(101)
    async with arm(azure) as client:
        assert (await client.ask("resources | project id | order by id asc")).json()["count"] == 100


@pytest.mark.parametrize(
    ("query", "options"),
    [
        pytest.param("resources | project id", {"top": 1001}, id="a page too large"),
        pytest.param("resources | project id", {"top": 0}, id="a page of nothing"),
        pytest.param("resources | project id", {"top": "10"}, id="a text for a number"),
        pytest.param("resources | project id", {"skip": -1}, id="fewer than none skipped"),
        pytest.param("resources | project id", {"skipToken": "nonsense"}, id="a token that is none"),
        pytest.param("resources | project id", {"skipToken": 7}, id="a number for a token"),
        pytest.param(" ", {}, id="no query"),
    ],
)
async def test_bad_requests(query: str, options: dict[str, Any]) -> None:
    azure, _ = a_fleet(1)
    async with arm(azure) as client:
        answer = await client.ask(query, **options)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        pytest.param("subscriptions", "all", id="a text for a list"),
        pytest.param("managementGroups", [7], id="a number for a name"),
        pytest.param("options", ["$top"], id="a list of options"),
        pytest.param("options", {"resultFormat": "csv"}, id="a format that is none"),
    ],
)
async def test_bodies_of_another_form(part: str, value: object) -> None:
    azure, _ = a_fleet(1)
    async with arm(azure) as client:
        answer = await client.call("POST", GRAPH, {"query": "resources | project id", part: value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequest")


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("nosuchtable | project id", id="no such table"),
        pytest.param("resources | project nosuchcolumn", id="no such column"),
        pytest.param("resources | where name", id="a text as a predicate"),
    ],
)
async def test_a_wrong_query_is_refused_as_in_recorded_traffic(query: str) -> None:
    azure, _ = a_fleet(1)
    async with arm(azure) as client:
        answer = await client.ask(query)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["details"][0]["code"]) == (400, "BadRequest", "InvalidQuery")
    assert re.fullmatch(
        r"Please provide below info when asking for support: timestamp = [0-9T:.-]+Z, correlationId = [0-9a-f-]{36}\.",
        error["message"],
    )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"query": "resources | evaluate bag_unpack(tags)"}, id="an operator of Kusto"),
        pytest.param({"query": "resources | where"}, id="text that the grammar does not know"),
        pytest.param({"query": "healthresources | project id"}, id="a table that Azure has"),
        pytest.param({"query": "resources | project a = extract('(a', 1, name)"}, id="a pattern"),
        pytest.param({"facets": [{"expression": "location"}]}, id="facets"),
        pytest.param({"options": {"authorizationScopeFilter": "AtScopeExact"}}, id="another scope filter"),
    ],
)
async def test_what_is_not_simulated_has_a_code_of_its_own(changes: dict[str, Any]) -> None:
    azure, _ = a_fleet(1)
    async with arm(azure) as client:
        answer = await client.call("POST", GRAPH, {"query": "resources | project id", **changes})
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "SimulatorUnsupported")


async def test_an_answer_beyond_16_mebibytes_is_refused() -> None:
    """Each machine's id 32,768 times: about 4 MB per row."""
    azure, _ = a_fleet(5)
    longer = "| extend text = strcat(text, text, text, text, text, text, text, text)" * 5
    query = f"resources | project id, text = id {longer} | order by id asc"
    async with arm(azure) as client:
        whole = await client.ask(query)
        page = await client.ask(query, top=3)
    error = whole.json()["error"]
    assert (whole.status_code, error["code"]) == (400, "BadRequest")
    assert [detail["code"] for detail in error["details"]] == ["ResponsePayloadTooLarge"]
    assert page.json()["count"] == 3


async def test_a_table_names_its_columns_types_as_the_sdk_knows_them() -> None:
    from azure.mgmt.resourcegraph.models import ColumnDataType

    azure, _ = a_fleet(1)
    query = (
        "resources | project t = name, i = toint(tags.a), l = tolong(tags.a), r = todouble(tags.a), "
        "b = isnull(tags), m = now(), d = tags"
    )
    async with arm(azure) as client:
        answer = await client.call("POST", GRAPH, {"query": query, "options": {"resultFormat": "table"}})
    columns = answer.json()["data"]["columns"]
    types = {column["name"]: column["type"] for column in columns}
    assert types == {
        "t": "string", "i": "integer", "l": "integer", "r": "number", "b": "boolean", "m": "string", "d": "object",
    }  # fmt: skip
    assert set(types.values()) == {each.value for each in ColumnDataType}
    assert set(types.values()) == set(LIMITS["result_formats"]["column_types"]["values"])


def test_limits_are_the_published_ones() -> None:
    sizes = {key: value for each in LIMITS["paging"] for key, value in each.items()}
    assert (sizes["default_rows"], sizes["max_rows_a_page"]) == (PAGE_ROWS, MAX_PAGE_ROWS)
    assert LIMITS["response_size"]["max_bytes"] == MAX_ANSWER_BYTES


@pytest.mark.parametrize("table", [table["name"] for table in LIMITS["tables"]])
async def test_a_published_table_is_never_called_unknown(table: str) -> None:
    azure, _ = a_fleet(1)
    async with arm(azure) as client:
        assert (await client.ask(f"{table} | project id")).status_code in (200, 501)


async def test_a_token_is_good_for_its_own_query_only() -> None:
    azure, _ = a_fleet(12)
    async with arm(azure) as client:
        token = (await client.ask("resources | project id | order by id asc", top=10)).json()["$skipToken"]
        answer = await client.ask("resources | project id, name | order by id asc", top=10, skipToken=token)
    assert answer.status_code == 400


async def test_the_sdk_reads_the_pages() -> None:
    from azure.mgmt.resourcegraph.models import QueryRequest, QueryRequestOptions

    azure, _ = a_fleet(12)
    async with arm(azure) as client:
        options = QueryRequestOptions(top=10)
        query = "resources | project id | order by id asc"
        page = await client.graph.resources(QueryRequest(query=query, subscriptions=[SUBSCRIPTION], options=options))
    assert (page.count, page.total_records, page.result_truncated) == (10, 12, "false")
    assert isinstance(page.data, list)
    assert page.skip_token


# --- rights --------------------------------------------------------------------------------------------------------

CORP = "/providers/Microsoft.Management/managementGroups/corp"
SCOPES = [
    pytest.param([Grant()], [SUBSCRIPTION, OTHER], ["vm-01", "vm-02"], id="all"),
    pytest.param(
        [Grant(f"/subscriptions/{OTHER}")], [SUBSCRIPTION, OTHER], ["vm-02"], id="one of two: silently partial"
    ),
    pytest.param([Grant(f"/subscriptions/{OTHER}")], [], ["vm-02"], id="the tenant: what is readable"),
    pytest.param([Grant(f"/subscriptions/{OTHER}")], [SUBSCRIPTION], None, id="none of those asked for"),
    pytest.param([Grant(VM)], [SUBSCRIPTION], ["vm-01"], id="one machine"),
    pytest.param([Grant(client_id=identity.OPERATOR)], [SUBSCRIPTION], None, id="another caller's right"),
    pytest.param([Grant(CORP)], [SUBSCRIPTION, OTHER], ["vm-02"], id="a management group"),
    pytest.param([Grant(f"{CORP}-2")], [SUBSCRIPTION, OTHER], None, id="another management group"),
    pytest.param([Grant(not_actions=("*/virtualMachines/read",))], [OTHER], [], id="all but one action"),
    pytest.param([], [], None, id="nothing anywhere"),
]


@pytest.mark.parametrize(("grants", "asked", "seen"), SCOPES)
async def test_rows_without_a_right_are_left_out_without_a_word(
    grants: list[Grant], asked: list[str], seen: list[str] | None
) -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.create_machine(VM, shapes.machine())
    azure.create_machine(shapes.machine_id("vm-02", subscription=OTHER), shapes.machine())
    clock.go(300)
    azure.world.management_groups["corp"] = [OTHER]
    azure.grants = grants
    async with arm(azure) as client:
        answer = await client.ask("resources | project name | order by name asc", subscriptions=tuple(asked))
    if seen is None:
        assert answer.status_code == 403
    else:
        assert [row["name"] for row in answer.json()["data"]] == seen


async def test_single_updates_of_an_installation_need_a_right_of_their_own() -> None:
    clock = Clock()
    azure = Azure(clock)
    ready_machine(azure, clock)
    azure.start_operation(VM, "install")
    clock.go(7200)
    azure.grants = [Grant(not_actions=("*/patchInstallationResults/softwarePatches/read",))]
    async with arm(azure) as client:
        without = await client.rows("patchinstallationresources")
        azure.grants = [Grant()]
        every = await client.rows("patchinstallationresources")
    assert (len(without), len(every)) == (1, 4)


# grants, group → status, the subscriptions that are listed: also those in which the caller may do nothing
BELOW = [
    pytest.param([Grant(CORP)], "corp", 200, [SUBSCRIPTION, OTHER], id="all of the group"),
    pytest.param([Grant(CORP, ("Microsoft.Management/*/read",))], "Corp", 200, [SUBSCRIPTION, OTHER], id="reading"),
    pytest.param([Grant(CORP, ("Microsoft.Compute/*",))], "corp", 403, [], id="another right"),
    pytest.param([Grant(f"/subscriptions/{OTHER}")], "corp", 403, [], id="a right in one of them"),
    pytest.param([Grant()], "unknown", 404, [], id="no such group"),
]


@pytest.mark.parametrize(("grants", "group", "status", "listed"), BELOW)
async def test_only_a_management_group_says_what_is_in_it(
    grants: list[Grant], group: str, status: int, listed: list[str]
) -> None:
    azure = Azure(Clock())
    azure.world.management_groups["corp"] = [SUBSCRIPTION, OTHER]
    azure.grants = grants
    path = f"/providers/Microsoft.Management/managementGroups/{group}/descendants"
    async with arm(azure) as client:
        answer = await client.call("GET", f"{path}?api-version=2020-05-01")
    assert answer.status_code == status
    if status == 200:
        assert [each["id"] for each in answer.json()["value"]] == [f"/subscriptions/{each}" for each in listed]


async def test_a_management_group_stands_for_its_subscriptions() -> None:
    azure, _ = a_fleet(1)
    azure.world.management_groups["corp"] = [SUBSCRIPTION]
    body = {"query": "resources | project name", "managementGroups": ["corp"], "options": {"resultFormat": "table"}}
    async with arm(azure) as client:
        answer = (await client.call("POST", GRAPH, body)).json()
        body["managementGroups"] = ["another"]
        refused = await client.call("POST", GRAPH, body)
    assert answer["data"] == {"columns": [{"name": "name", "type": "string"}], "rows": [["vm-0000"]]}
    assert refused.status_code == 403


@pytest.mark.parametrize("stays", [True, False])
async def test_rows_of_a_machine_that_is_gone(stays: bool) -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.graph.orphans_stay = stays
    ready_machine(azure, clock)
    azure.start_operation(VM, "assess")
    clock.go(3600)
    azure.delete_machine(VM)
    clock.go(3600)
    assert len(await assessments(azure)) == stays


async def test_a_machine_whose_rows_never_show() -> None:
    clock = Clock()
    azure = Azure(clock)
    azure.behave("vm-01", Behaviour(rows_missing=True))
    ready_machine(azure, clock)
    azure.start_operation(VM, "assess")
    clock.go(3600)
    assert await assessments(azure) == []
