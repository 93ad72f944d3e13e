"""Single patches, held to the published records: what the simulator writes, and what the app makes of them.

Each list of patch_results.json is a table here. A record that is not `certain` may be missing, and never differs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import pytest

from functions.cloud import queries
from functions.cloud.models import tried_patch, tried_patches
from functions.decisions.question import named_count
from functions.model import patches
from functions.model.machine import CLASSIFICATIONS, PATCH_COUNTS, OsType, WaitingPatch
from patcher import queries as tool_queries
from patcher.questions.patches import Tried, failed_last, tried_of
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
    """By its name, by name_version, by its KB number with and without the letters; a placeholder is not a patch."""
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


# -- the patches of an installation, as the app reads them

[STATES] = [each["values"] for each in INSTALLED["fields"] if each["name"] == "installationState"]
SAMPLES = [each for samples in INSTALLED["samples"].values() for each in samples]
ERRORS = payload("operation_errors.json")["records"]
HISTORIES = payload("guest_extension_histories.json")["histories"]


@pytest.mark.parametrize("record", RESULTS["naming"], ids=lambda each: each["patch"]["name"])
def test_a_patch_is_named_as_people_see_it(record: dict[str, Any]) -> None:
    patch = tried_patch(record["patch"])
    assert (patch.label if patch else "") == record["shown"]


@pytest.mark.parametrize("patch", SAMPLES, ids=lambda each: each["patchId"])
def test_a_patch_keeps_its_class_and_state(patch: dict[str, Any]) -> None:
    read = tried_patch(patch)
    expected = (patch["classifications"][0], patch["installationState"])
    placeholder = patch["patchId"] == "Truncated_patch_list_id"
    assert (None if read is None else (read.classification, read.state)) == (None if placeholder else expected)


@pytest.mark.parametrize("patch", SAMPLES, ids=lambda each: each["patchId"])
def test_what_a_remedy_leaves_out_is_that_patch_by_a_mask_that_the_setting_takes(patch: dict[str, Any]) -> None:
    if read := tried_patch(patch):
        assert settings(PATCH_PACKAGES_EXCLUDE=read.mask).packages_exclude == (read.mask,)
        number = patch.get("kbId")
        assert read.mask == f"KB{number}" if number else fnmatch(patch["name"], read.mask)


def test_every_published_state_has_its_place() -> None:
    assert {*patches.STATES} == {*STATES} - {"Unknown"}


def test_a_list_names_the_failed_ones_first_and_leaves_the_placeholder_out() -> None:
    text, left_out = tried_patches({"patches": INSTALLED["samples"]["linux"]}).told()
    assert text.split("; ")[0] == "Failed Critical brokenpkg 9.9-1"
    assert [each.split()[0] for each in text.split("; ")] == sorted(
        (each.split()[0] for each in text.split("; ")), key=patches.STATES.index
    )
    assert ("Truncated" in text, left_out) == (False, 0)


def recorded(history: str) -> dict[str, Any]:
    [found] = [each["operation_result"] for each in HISTORIES if each["name"] == history]
    return dict(found)


[ALL_FAILED] = [each["body"]["properties"]["output"] for each in ERRORS if "0x80240022" in str(each.get("body"))]
# Result → the beginning of the text, and how many patches it leaves out.
TOLD: dict[str, tuple[dict[str, Any], str, int]] = {
    "a list that names one of five": (
        recorded("linux-installation-failed-then-retried-well"),
        "Installed Security openssh-server",
        4,
    ),
    "a list that was cut": (recorded("linux-installation-truncated-lists"), "Installed Security bash", 1049),
    "nothing selected": (
        recorded("windows-installation-nothing-selected"),
        "Excluded UpdateRollUp KB890830; NotSelected Definition KB4052623",
        0,
    ),
    "a count without a list": (ALL_FAILED, "not known", 3),
    "nothing is reported": ({}, "not known", 0),
    "an instance view, which counts alone": ({"installedPatchCount": 2, "failedPatchCount": 1}, "not known", 3),
    "nothing was to be done": ({"patches": [], "installedPatchCount": 0}, "none", 0),
    "a list that is not a list": ({"patches": "many"}, "not known", 0),
    "entries that are not patches": ({"patches": [None, 7, {"name": ""}], "installedPatchCount": 3}, "not known", 3),
}


@pytest.mark.parametrize(("result", "text", "left_out"), TOLD.values(), ids=TOLD)
def test_what_a_result_does_not_name_is_counted(result: dict[str, Any], text: str, left_out: int) -> None:
    told, rest = tried_patches(result).told()
    assert (told[: len(text)], rest) == (text, left_out)


@pytest.mark.parametrize("os", SYSTEMS)
def test_the_simulated_result_is_read_whole(os: Any) -> None:
    result = result_of("install", os)
    read = tried_patches(result)
    assert (len(read.named), read.unnamed) == (len(result["patches"]), 0)


def test_a_long_list_is_bounded_and_the_rest_is_counted() -> None:
    many = [
        {"name": f"package-{number:04}", "version": "1.0", "classifications": ["Security"], "installationState": state}
        for state in ("Installed", "Failed")
        for number in range(600)
    ]
    text, left_out = tried_patches({"patches": many}).told()
    shown = text.split("; ")
    assert len(text) <= 8_192 < len(text) + len(shown[-1]) + 2 + len("Installed") - len("Failed")
    assert (len(shown) + left_out, shown[0]) == (1200, "Failed Security package-0000 1.0")
    assert {each.split()[0] for each in shown} == {"Failed"}


# -- the rows of installations, as the operator's tool reads them

INSTALLED_ROWS = [each for each in ROWS["samples"] if "/patchInstallationResults/" in each["id"]]
QUERIES = {
    "on these machines": ("patches_installed", {"machines": "machine"}),
    "of this name": ("patches_tried", {"names": "patch", "numbers": "patch"}),
}


def a_placeholder() -> dict[str, Any]:
    """The row of the placeholder with which a guest ends a list that it cut."""
    [placeholder] = [each for each in INSTALLED["samples"]["linux"] if each["name"] == "Truncated_patch_list"]
    sample, patch_id = INSTALLED_ROWS[0], placeholder["patchId"]
    properties = {**sample["properties"], "patchName": placeholder["name"], "installationState": "NotSelected"}
    return {
        **sample,
        "id": sample["id"].rpartition("/")[0] + f"/{patch_id}",
        "name": patch_id,
        "properties": properties,
    }


@pytest.mark.parametrize(("query", "asked"), QUERIES.values(), ids=QUERIES)
def test_the_tool_reads_sampled_rows_whole_and_no_placeholder(query: str, asked: dict[str, str]) -> None:
    rows = [*INSTALLED_ROWS, a_placeholder()]
    values = {
        "machine": {each["id"].lower().split("/patchinstallationresults/")[0] for each in rows},
        "patch": {each["properties"]["patchName"] for each in rows},
    }
    columns = set(ROWS["row_columns"])
    tables = {"patchinstallationresources": [{name: row[name] for name in row.keys() & columns} for row in rows]}
    text = tool_queries.fill(query, **{name: sorted(values[what]) for name, what in asked.items()})
    read = [tried_of(row) for row in evaluate(text, tables, NOW).rows]
    expected = {
        (each["id"].split("/")[10], each["properties"]["patchName"], each["properties"]["installationState"])
        for each in INSTALLED_ROWS
    }
    assert {(each.installation, each.patch, each.state) for each in read} == expected


def tried(installation: str, patch: str, state: str, minute: int) -> Tried:
    return Tried("/m", installation, patch, "", "1", (), state, NOW.replace(minute=minute))


# Rows of one machine → the patches that failed in its last installation
FAILED_LAST = {
    "none was tried": ([], set()),
    "two of three failed": (
        [tried("1", "a", "Failed", 1), tried("1", "b", "Installed", 1), tried("1", "c", "Failed", 1)],
        {"a", "c"},
    ),
    "it failed before, and was installed since": (
        [tried("2", "a", "Installed", 5), tried("1", "a", "Failed", 1)],
        set(),
    ),
    "another one failed since": ([tried("1", "a", "Failed", 1), tried("2", "b", "Failed", 5)], {"b"}),
}


@pytest.mark.parametrize(("rows", "failing"), FAILED_LAST.values(), ids=FAILED_LAST)
def test_what_failed_in_the_last_installation(rows: list[Tried], failing: set[str]) -> None:
    assert {each.patch for each in failed_last(rows)} == failing
