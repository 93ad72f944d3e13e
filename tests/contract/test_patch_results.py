"""Single patches, held to the published records: what the simulator writes, and what the app makes of them.

Each list of patch_results.json is a table here. A record that is not `certain` may be missing, and never differs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from functions.cloud import queries
from functions.decisions.question import named_count
from functions.model.machine import CLASSIFICATIONS, PATCH_COUNTS, OsType, WaitingPatch
from simulator.azure import Azure
from simulator.resource_graph.kql import evaluate
from simulator.server import behaviour_of
from tests.contract.simulator_client import Clock, payload, ready_machine
from tests.support import NOW, a_machine, a_verdict, settings

RESULTS = payload("patch_results.json")
INSTALLED, ASSESSED, ROWS = RESULTS["install_result"], RESULTS["assess_result"], RESULTS["resource_graph"]
SYSTEMS: tuple[Any, ...] = ("Linux", "Windows")


def result_of(kind: str, os: Any, **asked: Any) -> dict[str, Any]:
    """What the guest of a machine reports with some patches of each class."""
    clock = Clock()
    azure = Azure(clock)
    machine = ready_machine(azure, clock, os=os)
    azure.behave(machine, behaviour_of({"pending": {"critical": 1, "security": 2, "other": 3}, **asked}))
    return dict(azure.start_operation(machine, kind).output)


# -- results


@pytest.mark.parametrize("os", SYSTEMS)
@pytest.mark.parametrize(
    ("kind", "name", "facts"),
    [
        pytest.param("assess", "availablePatches", ASSESSED, id="assessment"),
        pytest.param("install", "patches", INSTALLED, id="installation"),
    ],
)
def test_a_patch_of_a_result_has_the_published_fields(kind: str, name: str, facts: Any, os: Any) -> None:
    fields = {each["name"]: each for each in facts["fields"] if os in each["on"]}
    certain = {each for each, fact in fields.items() if fact["certain"]} if kind == "install" else {"patchId", "name"}
    patches = result_of(kind, os)[name]
    assert patches
    for patch in patches:
        assert certain <= patch.keys() <= fields.keys()
        for each, value in patch.items():
            allowed = fields[each].get("values")
            assert not allowed or value in allowed or set(value) <= set(allowed), f"{each}: {value}"


def test_counts_have_the_published_names() -> None:
    counts = RESULTS["counts"]
    assert {*PATCH_COUNTS} == {*counts["installation"]["keys"], *counts["rest_assessment"]["keys"]}
    assert {*counts["installation"]["keys"]} <= result_of("install", "Linux").keys()
    assert {*counts["rest_assessment"]["keys"]} <= result_of("assess", "Linux").keys()


def test_a_list_that_was_cut_ends_with_a_placeholder_and_counts_all() -> None:
    (placeholder,) = (each for each in INSTALLED["samples"]["linux"] if each["name"] == "Truncated_patch_list")
    whole, cut = result_of("install", "Linux"), result_of("install", "Linux", list_limit=1)
    assert cut["patches"][-1] == placeholder
    assert len(cut["patches"]) < len(whole["patches"])
    assert all(cut[name] == whole[name] for name in RESULTS["counts"]["installation"]["keys"])


# -- names of classes


@pytest.mark.parametrize("record", RESULTS["classification_spellings"], ids=lambda each: each["place"])
def test_a_class_is_one_that_the_app_can_name_however_it_is_spelled(record: dict[str, Any]) -> None:
    known = {each.lower() for each in CLASSIFICATIONS}
    # What the app cannot ask for: classes of the extension's own, and texts of pages.
    foreign = {
        "Security-ESM",
        "Unclassified",
        "Definition Updates",
        "Update Rollups",
        "Others (Linux)",
        "Updates (Windows)",
    }
    assert {each for each in record["values"] if each.lower() not in known} == foreign & {*record["values"]}


def test_the_app_orders_no_class_that_no_request_has() -> None:
    asked = {
        each
        for record in RESULTS["classification_spellings"]
        if record["place"].startswith("request ")
        for each in record["values"]
    }
    assert {*CLASSIFICATIONS} == asked


# -- rows of Resource Graph, as the app reads them

WAITING = "/patchAssessmentResults/"


def read(rows: list[dict[str, Any]]) -> list[WaitingPatch]:
    """The patches that wait, as the app's query gives them."""
    ids = sorted({row["id"].lower().split(WAITING.lower())[0] for row in rows})
    columns = set(ROWS["row_columns"])
    tables = {"patchassessmentresources": [{name: row[name] for name in row.keys() & columns} for row in rows]}
    found = evaluate(queries.fill("patches_of", ids=ids), tables, NOW).rows
    return [
        WaitingPatch(row["name"], row["kb"], row["version"], tuple(map(str.lower, _listed(row["classes"]))))
        for row in found
    ]


def _listed(classes: Any) -> list[str]:
    return classes if isinstance(classes, list) else [classes]


def a_row(patch: dict[str, Any]) -> dict[str, Any]:
    """A pending patch of a result, as its row: the property has another name there."""
    sample = ROWS["samples"][0]
    patch_id = patch.get("patchId") or "an-id"
    properties = {"patchName": patch["name"], "kbId": patch.get("kbId"), "version": patch.get("version")}
    return {
        **sample,
        "id": sample["id"].rpartition("/")[0] + f"/{patch_id}",
        "name": patch_id,
        "properties": {**properties, "classifications": patch.get("classifications", ["Other"])},
    }


def test_the_sampled_rows_are_read_whole() -> None:
    sampled = [each for each in ROWS["samples"] if WAITING in each["id"]]
    assert {each.name for each in read(sampled)} == {each["properties"]["patchName"] for each in sampled}


@pytest.mark.parametrize("record", RESULTS["naming"], ids=lambda each: each["patch"]["name"])
def test_a_mask_names_a_patch_by_what_people_see_of_it(record: dict[str, Any]) -> None:
    """By its name, by name_version, by its KB number with and without the letters; a placeholder is no patch."""
    patch, number = record["patch"], record["kb"]
    found = read([a_row(patch)])
    assert len(found) == (1 if record["shown"] else 0)
    masks = [re.sub(r"[^A-Za-z0-9]", "?", patch["name"]), "*"]  # Windows allows no other character
    masks += [f"KB{number}", number] if number else []
    masks += [f"{patch['name']}_{patch['version']}"] if record["os"] == "Linux" else []
    machine = a_machine(os_type=OsType(record["os"]), verdict=a_verdict())
    for mask in masks:
        given = settings(PATCH_CLASSIFICATIONS="Security", PATCH_PACKAGES_INCLUDE="x")
        counted = named_count(machine, _with_mask(given, mask), found)
        assert counted == len(found), mask


def _with_mask(given: Any, mask: str) -> Any:
    return replace(given, packages_include=(mask,))
