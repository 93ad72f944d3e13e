"""The simulator's Resource Graph, held to every published record of errors, operators, joins, quota and paging.

Each list of resource_graph_limits.json is a table: a record without its row here fails.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from simulator.arm import shapes
from simulator.azure import Azure, Grant
from simulator.resource_graph import kql
from simulator.resource_graph.graph import MAX_SUBSCRIPTIONS
from tests.contract.simulator_client import Arm, Clock, arm, payload

LIMITS = payload("resource_graph_limits.json")
OTHER = "00000000-0000-0000-0000-000000000002"
GRAPH = "/providers/Microsoft.ResourceGraph/resources"
LONGER = "| extend text = strcat(text, text, text, text, text, text, text, text)" * 5  # 32,768 times: about 4 MB
NOT_SIMULATED = "SimulatorUnsupported"


def two_machines() -> tuple[Azure, Clock]:
    """One in each of two subscriptions."""
    clock = Clock()
    azure = Azure(clock)
    azure.create_machine(shapes.machine_id("vm-01"), shapes.machine())
    azure.create_machine(shapes.machine_id("vm-02", subscription=OTHER), shapes.machine())
    clock.go(300)
    return azure, clock


# -- errors

BOTH = (shapes.SUBSCRIPTION, OTHER)
# case → query, rights, api-version; None: tested with the scopes
ERRORS: dict[str, tuple[str, list[Grant], str] | None] = {
    "answer over the size limit": (f"resources | project id, text = strcat(id, id, id, id) {LONGER}", [Grant()], ""),
    "no right on any of the subscriptions listed": ("resources", [], ""),
    "query cannot be parsed": ("where where", [Grant()], ""),
    "right on some": ("resources | project name", [Grant(f"/subscriptions/{OTHER}")], ""),
    "too many subscriptions under a tenant or management group": None,
    "unknown api-version (2019-04-01 of then)": ("resources", [Grant()], "2011-11-11"),
}


def test_every_error_has_its_row() -> None:
    assert ERRORS.keys() == {each["case"] for each in LIMITS["errors"]}


@pytest.mark.parametrize(
    "record", [each for each in LIMITS["errors"] if ERRORS[each["case"]]], ids=lambda each: each["case"]
)
async def test_an_error_is_the_published_one(record: dict[str, Any]) -> None:
    query, grants, version = ERRORS[record["case"]] or ("", [], "")
    azure, _ = two_machines()
    azure.grants = grants
    async with arm(azure) as client:
        if version:
            url = f"{GRAPH}?api-version={version}"
            answer = await client.call("POST", url, {"query": query, "subscriptions": list(BOTH)})
        else:
            answer = await client.ask(query, subscriptions=BOTH)
    body = answer.json()
    if not record["certain"]:  # of 2019, and read as a report: another refusal of the client's is as good
        assert 400 <= answer.status_code < 500
        return
    assert answer.status_code == record["http_status"]
    if answer.status_code == 200:
        assert [row["name"] for row in body["data"]] == ["vm-02"], record["rows"]
    if code := record.get("code"):
        assert body["error"]["code"] == code
        assert body["error"]["details"][0]["code"] == record["details"][0]["code"]


# -- operators, joins and tables

# One query per operator, over two machines, and how many rows it gives.
OPERATORS: dict[str, tuple[str, int]] = {
    "count": ("resources | count", 1),
    "distinct": ("resources | distinct type", 1),
    "extend": ("resources | extend a = 1", 2),
    "join": ("resources | join kind=inner (resources | project id) on id", 2),
    "limit": ("resources | limit 1", 1),
    "mv-expand": ("resources | mv-expand a = dynamic([1, 2])", 4),
    "mvexpand": ("resources | mvexpand a = dynamic([1, 2])", 4),
    "order": ("resources | order by id asc", 2),
    "project": ("resources | project id", 2),
    "project-away": ("resources | project-away tags", 2),
    "sort": ("resources | sort by id asc", 2),
    "summarize": ("resources | summarize count() by type", 1),
    "take": ("resources | take 1", 1),
    "top": ("resources | top 1 by id asc", 1),
    "union": ("resources | project id | union (resources | project id)", 4),
    "where": ("resources | where name == 'vm-01'", 1),
}


def test_every_operator_has_its_row() -> None:
    assert OPERATORS.keys() == {each["name"] for each in LIMITS["operators"]}


@pytest.mark.parametrize("name", OPERATORS)
async def test_an_operator_answers_or_is_said_to_be_missing_here(name: str) -> None:
    """Never a wrong answer, and never as if Azure did not know it."""
    query, rows = OPERATORS[name]
    azure, _ = two_machines()
    async with arm(azure) as client:
        answer = await client.ask(query, subscriptions=BOTH)
    if answer.status_code == 501:
        assert answer.json()["error"]["code"] == NOT_SIMULATED
    else:
        assert (answer.status_code, answer.json()["count"]) == (200, rows)


KINDS = [kind for each in LIMITS["joins"] if each["certain"] for kind in each.get("kinds", ())]


@pytest.mark.parametrize("kind", KINDS)
async def test_each_published_kind_of_join_gives_rows(kind: str) -> None:
    azure, _ = two_machines()
    async with arm(azure) as client:
        answer = await client.ask(
            f"resources | join kind={kind} (resources | project id) on id | project id", subscriptions=BOTH
        )
    assert (answer.status_code, answer.json()["count"]) == (200, 2)


FOREIGN = {
    "custom join strategies": "resources | join hint.strategy=broadcast kind=inner (resources | project id) on id",
    "fuzzy union": "union isfuzzy=true (resources), (nosuchtable)",
    "operators outside the list above": "resources | evaluate bag_unpack(tags)",
}


def test_everything_unsupported_has_its_row() -> None:
    assert FOREIGN.keys() == {each["what"] for each in LIMITS["unsupported"]}


@pytest.mark.parametrize("what", FOREIGN)
async def test_what_azure_does_not_support_gives_no_rows(what: str) -> None:
    azure, _ = two_machines()
    async with arm(azure) as client:
        assert (await client.ask(FOREIGN[what], subscriptions=BOTH)).status_code in (400, 501)


# -- how much one query may ask for

SELF = "resources | project id"
JOINED, LEG = f" | join kind=inner ({SELF}) on id | project id", f"({SELF})"
NOTED = {each["name"]: each["note"] or "" for each in LIMITS["operators"]}
COUNTED = next(each for each in LIMITS["joins"] if "max_joins" in each)


def crossed(*tables: str) -> str:
    return SELF + "".join(f" | join kind=leftouter ({each} | project id) on id | project id" for each in tables)


# what is counted → a query with so many, and the most that are published
MOST: dict[str, tuple[Callable[[int], str], int]] = {
    "joins": (lambda many: SELF + JOINED * many, COUNTED["max_joins"]),
    "joins across tables": (
        lambda many: crossed(*("patchassessmentresources", "maintenanceresources")[:many]), COUNTED["max_cross_table"]
    ),
    "joins of the two that may be joined": (
        lambda many: crossed(*["resourcecontainers"] * many), COUNTED["max_joins"]
    ),
    "legs of a union": (
        lambda many: f"{SELF} | union {', '.join([LEG] * many)}",
        int(re.findall(r"at most (\d+) legs", NOTED["union"])[0]),
    ),
    "mv-expand": (
        lambda many: "resources" + " | mv-expand a = dynamic([1])" * many,
        int(re.findall(r"or (\d+) \(text", NOTED["mv-expand"])[0]),
    ),
    "expanded rows": (
        lambda many: f"resources | mv-expand a = dynamic([1]) limit {many}",
        int(re.findall(r"at most (\d+)", NOTED["mv-expand"])[0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MOST)
async def test_a_query_has_no_more_than_is_published(what: str) -> None:
    query, most = MOST[what]
    azure, _ = two_machines()
    async with arm(azure) as client:
        answers = [await client.ask(query(many), subscriptions=BOTH) for many in (most, most + 1)]
    assert [each.status_code for each in answers] == [200, 400]
    assert answers[1].json()["error"]["details"][0]["code"] == "InvalidQuery"


# how the scope is named, and whether a part of it is enough → status, rows
SCOPES: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "each subscription named": ({"subscriptions": list(BOTH)}, 200, ["vm-01", "vm-02"]),
    "none named": ({}, 400, []),
    "none named, a part is enough": ({"options": {"allowPartialScopes": True}}, 200, ["vm-01"]),
    "a management group": ({"managementGroups": ["all"]}, 400, []),
    "a management group, a part is enough": (
        {"managementGroups": ["all"], "options": {"allowPartialScopes": True}}, 200, ["vm-01"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCOPES)
async def test_a_scope_of_too_many_subscriptions(name: str) -> None:
    """With the limit lowered to one."""
    scope, status, rows = SCOPES[name]
    error = next(each for each in LIMITS["errors"] if each["case"].startswith("too many subscriptions"))
    header, _, value = next(each for each in LIMITS["scope"] if "header_when_cut" in each)["header_when_cut"].partition(
        ": "
    )
    azure, _ = two_machines()
    azure.world.management_groups["all"] = list(BOTH)
    azure.graph.max_subscriptions = 1
    async with arm(azure) as client:
        answer = await client.call("POST", GRAPH, {"query": "resources | project name | order by name asc", **scope})
    body = answer.json()
    assert (answer.status_code, [row["name"] for row in body.get("data", [])]) == (status, rows)
    assert answer.headers.get(header) == (value if len(rows) == 1 else None)
    if status != 200:
        assert (status, body["error"]["code"]) == (error["http_status"], error["code"])
        assert body["error"]["details"][0]["code"] == error["details"][0]["code"]


def test_so_many_subscriptions_are_searched() -> None:
    published = next(each for each in LIMITS["scope"] if "header_when_cut" in each)
    assert published["tenant_or_management_group_subscriptions"] == MAX_SUBSCRIPTIONS


async def test_the_answer_has_the_recorded_headers() -> None:
    """But for the server's name: the simulator is another one."""
    recorded = LIMITS["other_headers"][0] if isinstance(LIMITS["other_headers"], list) else LIMITS["other_headers"]
    names = recorded.keys() - {"certain", "source", "server"}
    azure, _ = two_machines()
    async with arm(azure) as client:
        answer = await client.ask("resources")
    assert {name: answer.headers[name] for name in names} == {name: recorded[name] for name in names}


# -- quota


@pytest.mark.parametrize("query", ["resources | project id", "where where"], ids=["an answer", "a refused query"])
async def test_the_quota_is_reported_with_every_answer_and_a_refused_query_costs(query: str) -> None:
    told, size = LIMITS["throttling"][0], LIMITS["throttling"][1]
    refused = next(each for each in LIMITS["throttling"] if each.get("http_status") == 429)
    azure, _ = two_machines()

    async def asked(client: Arm) -> Any:
        answer = await client.ask(query)
        assert answer.headers.keys() >= set(told["headers_on_every_answer"])
        tenant, quota, resets = (answer.headers[name] for name in sorted(told["headers_on_every_answer"]))
        assert tenant == quota
        assert re.fullmatch(r"\d\d:\d\d:\d\d", resets)
        return answer

    async with arm(azure) as client:
        answers = [await asked(client) for _ in range(size["queries"])]
        last = await asked(client)
    left = [int(each.headers["x-ms-user-quota-remaining"]) for each in answers]
    assert left == list(reversed(range(size["queries"])))
    assert (last.status_code, last.json()["error"]["code"]) == (refused["http_status"], refused["code"])
    assert refused["message_fragment"] in last.json()["error"]["message"]
    assert last.headers["x-ms-user-quota-resets-after"] <= f"00:00:{size['seconds']:02}"


# -- pages


async def test_a_token_holds_how_many_rows_were_asked_for() -> None:
    """Azure's names in it are its own; that it opens as base64 of JSON, with the size of the page, is recorded."""
    record = next(each for each in LIMITS["paging"] if each.get("form"))
    assert record["form"] == "base64 of JSON"
    azure, _ = two_machines()
    async with arm(azure) as client:
        page = (await client.ask("resources | project id | order by id asc", subscriptions=BOTH, top=1)).json()
    assert 1 in json.loads(base64.urlsafe_b64decode(page["$skipToken"])).values()


ORDERED = "resources | project id, name | order by id asc"


@pytest.mark.parametrize("held", [True, False], ids=["of one evaluation", "of one evaluation each"])
async def test_the_pages_of_a_chain(held: bool) -> None:
    """Azure does not say which; a machine that comes about in between shows the difference."""
    azure, clock = two_machines()
    azure.graph.pages_held = held
    async with arm(azure) as client:
        first = (await client.ask(ORDERED, subscriptions=BOTH, top=1)).json()
        azure.create_machine(shapes.machine_id("vm-00"), shapes.machine())
        clock.go(300)
        token = first["$skipToken"]
        again = [(await client.ask(ORDERED, subscriptions=BOTH, top=1, skipToken=token)).json() for _ in range(2)]
    assert [row["name"] for row in first["data"]] == ["vm-01"]
    expected = ["vm-02"] if held else ["vm-01"]
    assert [[row["name"] for row in page["data"]] for page in again] == [expected, expected]
    assert again[0]["totalRecords"] == (2 if held else 3)


async def test_every_page_but_the_first_costs_no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    azure, _ = two_machines()
    for number in range(3, 13):
        azure.create_machine(shapes.machine_id(f"vm-{number:02}"), shapes.machine())
    azure.graph.lag_seconds = 0
    evaluated: list[str] = []
    evaluate = kql.evaluate

    def counting(text: str, *rest: Any, **more: Any) -> Any:
        evaluated.append(text)
        return evaluate(text, *rest, **more)

    monkeypatch.setattr(kql, "evaluate", counting)
    names: list[str] = []
    async with arm(azure) as client:
        more: dict[str, Any] = {}
        while True:
            page = (await client.ask(ORDERED, subscriptions=BOTH, top=5, **more)).json()
            names += [row["name"] for row in page["data"]]
            if "$skipToken" not in page:
                break
            more = {"skipToken": page["$skipToken"]}
    assert sorted(names) == [f"vm-{number:02}" for number in range(1, 13)]
    assert evaluated == [ORDERED]


@pytest.mark.parametrize("record", LIMITS["result_truncated"][1:], ids=lambda each: f"truncated {each['value']}")
async def test_an_answer_is_truncated_where_no_token_leads_on(record: dict[str, Any]) -> None:
    columns = "id" if record["skip_token"] else "name"
    azure, _ = two_machines()
    async with arm(azure) as client:
        query = f"resources | project {columns} | order by {columns} asc"
        page = (await client.ask(query, subscriptions=BOTH, top=1)).json()
    assert (page["resultTruncated"], "$skipToken" in page) == (record["value"], record["skip_token"])


UNCERTAIN = [kind for each in LIMITS["joins"] if not each["certain"] for kind in each["kinds"]]


@pytest.mark.parametrize("kind", UNCERTAIN)
async def test_a_join_that_azure_may_have_gives_right_rows_or_none(kind: str) -> None:
    """A machine that the right side does not have stays, and so would one that only the right side has."""
    azure, _ = two_machines()
    async with arm(azure) as client:
        one = "(resources | where name == 'vm-01' | project id)"
        answer = await client.ask(f"resources | join kind={kind} {one} on id | project id, id1", subscriptions=BOTH)
    if answer.status_code == 501:
        assert answer.json()["error"]["code"] == NOT_SIMULATED
    else:
        assert sorted(bool(row["id1"]) for row in answer.json()["data"]) == [False, True]
