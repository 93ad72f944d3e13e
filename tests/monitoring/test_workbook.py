"""The workbook: a valid one, with nothing hard-coded, and every panel has something to show: over the recorded run of
the demo, and over lines of what does not happen in it."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from functions.model.state import State
from infra.results import build
from simulator.monitor import logs
from tests.monitoring.written import NOON, both, lines
from tests.support.documents import anchors

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "recordings"
WORKBOOK: dict[str, Any] = json.loads((logs.RESULTS / "workbook.json").read_text(encoding="utf-8"))
PANELS = {panel.name: panel for _, panels in build.TABS.values() for panel in panels}


def items(holder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in holder["items"]:
        yield item
        if item["type"] == 12:
            yield from items(item["content"])


QUERY_ITEMS = [item for item in items(WORKBOOK) if item["type"] == 3]


# ---- the file


def test_it_is_a_workbook_by_its_schema() -> None:
    schema = json.loads((PAYLOADS / "schemas" / "workbook.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(WORKBOOK)] == []
    without = json.loads(json.dumps(WORKBOOK))
    del without["items"][0]["content"]
    assert list(validator.iter_errors(without))


def test_no_resource_is_named() -> None:
    text = (logs.RESULTS / "workbook.json").read_text(encoding="utf-8")
    assert not re.search(r"/subscriptions/|resourceGroups/|fromTemplateId", text)
    held = [item["content"] for item in items(WORKBOOK) if "crossComponentResources" in item["content"]]
    assert all(content["crossComponentResources"] == ["__WORKSPACE_ID__"] for content in held)
    assert len(held) == len(QUERY_ITEMS) + 1  # and the parameters
    assert WORKBOOK["fallbackResourceIds"] == ["__WORKSPACE_ID__"]


def test_names_and_ids_are_unique() -> None:
    names = Counter(item["name"] for item in items(WORKBOOK))
    ids = Counter(re.findall(r'"id": "([^"]+)"', json.dumps(WORKBOOK)))
    assert {name for name, count in (names | ids).items() if count > 1} == set()


def test_every_tab_shows_its_own_group() -> None:
    [tabs] = [item for item in items(WORKBOOK) if item["name"] == "tabs"]
    links = [link["subTarget"] for link in tabs["content"]["links"]]
    groups = [item["conditionalVisibility"]["value"] for item in items(WORKBOOK) if item["type"] == 12]
    assert links == groups == list(build.TABS)


def test_a_tab_leads_to_others_by_the_parameter_that_tabs_go_by() -> None:
    """Whether the portal then marks the other tab as chosen, only the portal shows."""
    groups = {item["name"]: item["content"] for item in items(WORKBOOK) if item["type"] == 12}
    leads = {
        item["conditionalVisibility"]["value"]: [each for each in item["content"]["items"] if each["type"] == 11]
        for item in items(WORKBOOK)
        if item["name"] in groups
    }
    assert {
        tab: [link["subTarget"] for each in found for link in each["content"]["links"]] for tab, found in leads.items()
    } == {
        "Fleet": ["Attention", "Machines"],
        "Images": [],
        "Work": [],
        "Attention": ["Machines"],
        "Machines": [],
    }
    for link in (link for found in leads.values() for each in found for link in each["content"]["links"]):
        assert (link["linkTarget"], link["cellValue"], bool(link["linkLabel"])) == ("parameter", "Tab", True)


def test_the_first_thing_shown_is_who_is_patched_by_nobody() -> None:
    first = QUERY_ITEMS[0]
    assert (first["name"], first["content"]["visualization"]) == ("nobody", "tiles")


def test_only_parameters_that_are_there_are_used() -> None:
    parameters = {each["name"] for each in WORKBOOK["items"][0]["content"]["parameters"]}
    parameters |= {name for item in QUERY_ITEMS if (name := item["content"].get("exportParameterName"))}
    assert parameters == {"TimeRange", "Image", "Patch", "Machine"}
    for item in QUERY_ITEMS:
        content = item["content"]
        assert set(re.findall(r"\{(\w+)", content["query"])) <= parameters
        assert content.get("timeContextFromParameter") == "TimeRange" or content["timeContext"]["durationMs"]


@pytest.mark.parametrize("item", QUERY_ITEMS, ids=lambda item: item["name"])
def test_no_panel_is_blank_and_every_table_can_be_exported(item: dict[str, Any]) -> None:
    content = item["content"]
    assert content["noDataMessage"]
    assert content["title"] or content["visualization"] == "tiles"
    assert (content["visualization"] == "table") == content.get("showExportToExcel", False)


# ---- what it shows


@cache
def demo() -> logs.Workspace:
    return logs.Workspace.after(logs.read(PAYLOADS / "demo-logs.json.gz"))


@cache
def busy() -> logs.Workspace:
    """The demo when its first installation had just started."""
    rows = demo().patch_events.rows
    started = min(row["TimeGenerated"] for row in rows if row["event"] == "installation.started")
    return demo().until(datetime.fromisoformat(started))


@cache
def bad_day() -> logs.Workspace:
    return logs.Workspace.after(logs.read(PAYLOADS / "bad-day-logs.json.gz"))


MACHINE = "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/vm"
FAILED = {"problem": "409 from Azure", "remedy": "Deallocate it.", "attempts": 3}
# what was reported of a machine that the app started → the events that the panel shows
STARTED: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "it runs": (("started",), ["machine.started"]),
    "it still runs": (("started", "put-back-failed"), ["machine.put-back-failed"]),
    "it is put back": (("started", "put-back-failed", "put-back"), []),
    "another keeps it": (("started", "left-running"), []),
    "it did not come up": (("started", "not-started"), []),
}


def started(*told: str) -> logs.Workspace:
    return logs.Workspace.after(lines(*((f"machine.{each}", {"machine": MACHINE, **FAILED}) for each in told)))


@pytest.mark.parametrize(("told", "shown"), STARTED.values(), ids=STARTED)
def test_attention_shows_what_the_app_started_and_keeps_running(told: tuple[str, ...], shown: list[str]) -> None:
    rows = started(*told).ask(build.text_of("panels", "started"))
    assert [row["event"] for row in rows] == shown
    assert all((row["problem"], row["remedy"], row["attempts"]) == tuple(FAILED.values()) for row in rows)


NOT_IN_THE_DEMO: dict[str, Callable[[], logs.Workspace]] = {
    "started": lambda: started("started"),
    "runs": bad_day,
    "in-flight": busy,
    "grouped": bad_day,
    "troubles": bad_day,
    "failed-invocations": bad_day,
    "exceptions": bad_day,
    "by-people": bad_day,
}
A_PATCH = "libsecurity0"
WITH_DOCUMENTS = [name for name, panel in PANELS.items() if panel.documents]


@pytest.mark.parametrize("name", WITH_DOCUMENTS)
def test_each_row_links_to_a_page_that_says_more(name: str) -> None:
    workspace = NOT_IN_THE_DEMO.get(name, demo)()
    query = PANELS[name].query
    rows = workspace.ask(query.replace("__DOCUMENTS__", "https://example.org/docs"))
    assert rows
    for row in rows:
        page, mark, heading = row["documents"].removeprefix("https://example.org/docs/").partition("#")
        assert not heading or mark + heading in anchors(ROOT / "docs" / page), row["documents"]
        assert (ROOT / "docs" / page).is_file(), row["documents"]
    [link] = [
        each["formatOptions"]["linkTarget"]
        for item in QUERY_ITEMS
        if item["name"] == name
        for each in item["content"]["gridSettings"]["formatters"]
        if each["columnMatch"] == "^documents$"
    ]
    assert link == "Url"
    assert {row["documents"] for row in workspace.ask(query.replace("__DOCUMENTS__", ""))} == {""}, "none is given"


def test_what_has_a_remedy_says_where_more_is_said() -> None:
    asked = {name for name in PANELS if re.search(r"\bremedy\b", build.text_of("panels", name))}
    assert set(WITH_DOCUMENTS) == asked - {"census", "history"}  # all machines, and all events of one


@pytest.mark.parametrize("page", re.findall(r"'(/\w+\.md)'", build.TROUBLES))
def test_every_page_that_troubles_name_is_there(page: str) -> None:
    assert (ROOT / "docs" / page[1:]).is_file()


@pytest.mark.parametrize("name", [*PANELS, "_images"])
def test_every_panel_shows_something(name: str) -> None:
    workspace = NOT_IN_THE_DEMO.get(name, demo)()
    rows = workspace.ask(build.text_of("panels", name), machine=counted()[0]["machine"], patch=A_PATCH)
    assert rows
    formats = PANELS[name].formats if name in PANELS else {}
    assert set(formats) <= rows[0].keys(), "a column that is formatted and not there"
    assert all(set(build_axes(name)) <= row.keys() for row in rows)
    if name in PANELS and PANELS[name].show == "table":
        hidden = {column for column, look in formats.items() if look is build.HIDDEN}
        unreadable = {column for column in rows[0].keys() - hidden if "_" in column} - build.LABELS.keys()
        assert unreadable == set(), "a column without a label"


def build_axes(name: str) -> list[str]:
    chart = PANELS[name].chart if name in PANELS else {}
    return [*chart.get("yAxis", ()), *(chart[key] for key in ("xAxis", "group") if key in chart)]


def journal_lines(workspace: logs.Workspace, event: str) -> list[dict[str, Any]]:
    """The lines themselves, without any query."""
    found = [json.loads(row["Message"]) for row in workspace.tables["AppTraces"]]
    return [line for line in found if line["event"] == event]


def counted() -> list[dict[str, Any]]:
    return list({line["machine"]: line for line in journal_lines(demo(), "machine.counted")}.values())


def machines_now() -> list[dict[str, Any]]:
    """The newest count of each machine with the newest state that was reported, in the order of the lines."""
    now: dict[str, dict[str, Any]] = {}
    for row in demo().tables["AppTraces"]:
        line = json.loads(row["Message"])
        if line["event"] == "machine.gone":
            now.pop(line["machine"], None)
        elif line["event"] in ("machine.counted", "machine.changed"):
            now[line["machine"]] = now.get(line["machine"], {"patchers": "", "compliance": ""}) | line
    return list(now.values())


# States that end only when a person does something, and that no person asked for.
FOR_A_PERSON = {
    State.FAILED,
    State.OVERDUE,
    State.UNDETERMINED,
    State.UNSUPPORTED,
    State.AGENT_NOT_READY,
    State.EXTENSIONS_FORBIDDEN,
    State.BAD_TAG,
    State.BREAKER_OPEN,
    State.REBOOT_PENDING,
    State.PATCHED_BY_NOBODY,
}
TILES = {
    "nobody": lambda line: line["patchers"] == "nobody",
    "late": lambda line: line["compliance"] == "late",
    "needs-a-person": lambda line: line["state"] in FOR_A_PERSON,
    "machines": lambda line: True,
}


@pytest.mark.parametrize("name", TILES)
def test_a_tile_counts_the_machines_by_their_newest_state(name: str) -> None:
    [row] = demo().ask(build.text_of("panels", name))
    assert row["machines"] == sum(map(TILES[name], machines_now()))


def test_the_tile_and_the_list_show_the_same_machines() -> None:
    [tile] = demo().ask(build.text_of("panels", "needs-a-person"))
    assert len(demo().ask(build.text_of("panels", "held"))) == tile["machines"]


def test_the_tile_of_the_last_sweep_counts_the_minutes() -> None:
    finished = lines(("sweep.finished", {"rows": 1}), ("sweep.skipped", {}))
    workspace = logs.Workspace(finished, NOON + timedelta(minutes=42, seconds=3))
    assert workspace.ask(build.text_of("panels", "last-sweep"))[0]["minutes"] == 42
    assert workspace.until(NOON - timedelta(hours=1)).ask(build.text_of("panels", "last-sweep")) == []


def test_the_late_are_distinguished_from_the_unknown() -> None:
    verdicts = ("late", "late", "within", "unknown", "unknown", "unknown", *["blocked"] * 4)
    line = {"image": "/i", "patchers": "us", "state": "due", "owner": "shop", "sla_days": 14.0}
    written = lines(
        *(
            ("machine.counted", {"machine": f"/subscriptions/s/{number}", "compliance": verdict, **line})
            for number, verdict in enumerate(verdicts)
        )
    )
    workspace = logs.Workspace.after(written)
    [tile] = workspace.ask(build.text_of("panels", "late"))
    assert tile["machines"] == 2
    for name in ("sla-by-image", "sla-by-owner"):
        [row] = workspace.ask(build.text_of("panels", name))
        assert (row["within"], row["late"], row["unknown"], row["blocked"], row["sla_days"]) == (1, 2, 3, 4, 14.0)


def test_a_state_that_changed_since_the_census_is_the_one_shown() -> None:
    """And a machine that was not counted yet is there, and one that is gone is not."""
    held, fresh, gone = (f"/subscriptions/s/{name}" for name in ("held", "fresh", "gone"))
    counts = {"state": "patched", "reason": "nothing to do", "compliance": "within", "patchers": "us", "image": "/i"}
    written = lines(
        ("machine.counted", {"machine": held, **counts}),
        ("machine.counted", {"machine": gone, **counts}),
        (
            "machine.changed",
            {"machine": held, "state": "failed", "reason": "disk full", "was": "patched", "image": "/i"},
        ),
        ("machine.changed", {"machine": fresh, "state": "too-new", "reason": "young", "image": "/i"}),
        ("machine.gone", {"machine": gone}),
    )
    rows = {row["machine"]: row for row in logs.Workspace.after(written).ask(build.text_of("panels", "census"))}
    shown = {row["machine"]: (row["state"], row["reason"], row["compliance"]) for row in rows.values()}
    assert shown == {held: ("failed", "disk full", "within"), fresh: ("too-new", "young", "")}


def test_the_proof_counts_each_day_once_by_its_last_census() -> None:
    line = {"machine": "/subscriptions/s/a", "image": "/i"}
    days = [("24", "late"), ("24", "within"), ("25", "late")]
    written = lines(*(("machine.counted", {**line, "compliance": verdict}) for _, verdict in days))
    for row, (day, _) in zip(written["AppTraces"], days, strict=True):
        row["TimeGenerated"] = row["TimeGenerated"].replace("2026-11-25", f"2026-11-{day}")
    [row] = logs.Workspace.after(written).ask(build.text_of("panels", "proof"))
    assert (row["days"], row["within"], row["late"], row["unknown"]) == (2, 1, 1, 0)


def test_the_history_is_of_one_machine_and_in_order() -> None:
    machine = next(line["machine"] for line in counted() if line["machine"].endswith("/apt-broken"))
    rows = demo().ask(build.text_of("panels", "history"), machine=machine)
    told = [row["event"] for row in rows]
    assert [event for event in told if event.startswith("installation.")] == [
        "installation.queued",
        "installation.started",
        "installation.ended",
        "installation.patches",
        "installation.seen",
    ]
    assert told[-2:] == ["machine.held", "machine.changed"]
    assert {row["name"] for row in demo().patch_events.rows if row["machine"] == machine} == {"apt-broken"}
    assert demo().ask(build.text_of("panels", "history"), machine="/no/such/machine") == []


def test_the_history_is_shown_once_a_machine_is_clicked() -> None:
    named = {item["name"]: item for item in QUERY_ITEMS}
    assert named["census"]["content"]["exportParameterName"] == "Machine"
    assert named["history"]["conditionalVisibility"]["parameterName"] == "Machine"


def test_states_add_up_to_the_fleet() -> None:
    rows = demo().ask(build.text_of("panels", "by-state"))
    assert {row["state"]: row["machines"] for row in rows} == Counter(line["state"] for line in machines_now())


def test_the_sla_adds_up_for_each_image() -> None:
    rows = demo().ask(build.text_of("panels", "sla-by-image"))
    assert sum(row["machines"] for row in rows) == len(machines_now())
    for row in rows:
        assert row["within"] + row["late"] + row["blocked"] + row["unknown"] == row["machines"]
        assert row["within_percent"] == 100.0 * row["within"] / row["machines"]


def test_arc_enabled_servers_are_counted_by_their_system() -> None:
    rows = demo().ask(build.text_of("panels", "support-by-image"))
    servers = [line for line in counted() if "/microsoft.hybridcompute/" in line["machine"]]
    assert {row["image_name"]: row["machines"] for row in rows if row["image_name"].startswith("arc/")} == Counter(
        line["image"] for line in servers
    )
    assert len(servers) == 3


def test_failures_have_their_meaning() -> None:
    rows = demo().ask(build.text_of("panels", "failures"))
    failed = [line for line in journal_lines(demo(), "installation.ended") if line["status"] != "Succeeded"]
    assert {row["why"]: row["failures"] for row in rows} == Counter(line["meaning"] for line in failed)


def test_what_is_in_flight_has_started_and_not_ended() -> None:
    started, ended = Counter[str](), Counter[str]()
    for kind in ("assessment", "installation"):
        started.update(line["machine"] for line in journal_lines(busy(), f"{kind}.started"))
        ended.update(line["machine"] for line in journal_lines(busy(), f"{kind}.ended"))
    rows = busy().ask(build.text_of("panels", "in-flight"))
    assert {row["machine"] for row in rows} == set(started - ended)
    assert demo().ask(build.text_of("panels", "in-flight")) == []


def test_a_held_machine_stands_there_with_its_remedy_and_a_link_until_it_is_at_work_again() -> None:
    rows = {row["name"]: row for row in demo().ask(build.text_of("panels", "held"))}
    assert rows["refused"]["state"] == "unsupported"
    assert rows["refused"]["remedy"]
    assert rows["refused"]["portal"].startswith("https://portal.azure.com/#resource/subscriptions/")
    assert {row["state"] for row in rows.values()} <= FOR_A_PERSON
    assert all(row["remedy"] for row in rows.values())
    at_rest = {line["machine"] for line in counted() if line["state"] == "patched"}
    assert {row["machine"] for row in rows.values()}.isdisjoint(at_rest)


@pytest.mark.parametrize("name", [name for name in PANELS if "{Image}" in build.text_of("panels", name)])
def test_the_image_filter_leaves_the_others_out(name: str) -> None:
    query, workspace = build.text_of("panels", name), NOT_IN_THE_DEMO.get(name, demo)()
    image = next(row["image"] for row in workspace.patch_events.rows if row["image_name"] == "web 1.4.0")
    nothing = workspace.ask(query, "/no/such/image", patch=A_PATCH)
    assert nothing == [] or nothing[0]["machines"] == 0
    assert len(workspace.ask(query, image, "/no/such/image", patch=A_PATCH)) <= len(workspace.ask(query, patch=A_PATCH))


@pytest.mark.parametrize("image", ["/i/it's", "/i/a\\", "/i/') or true //", "/i/\\') | take 1 //", "/i/web"])
def test_the_image_filter_is_one_text_whatever_an_image_is_called(image: str) -> None:
    line = {"machine": "/subscriptions/s/a", "patchers": "us", "state": "due", "compliance": "within"}
    one, other = (lines(("machine.counted", {**line, "image": each})) for each in (image, "/i/other"))
    [chosen] = logs.Workspace.after(one).ask(build.text_of("panels", "_images"))
    assert logs.Workspace.after(one).ask(build.text_of("panels", "machines"), chosen["value"])[0]["machines"] == 1
    assert logs.Workspace.after(other).ask(build.text_of("panels", "machines"), chosen["value"])[0]["machines"] == 0


def test_machines_deleted_before_the_newest_census_are_not_counted_indefinitely() -> None:
    line = {"image": "/i", "patchers": "nobody", "state": "patched-by-nobody", "compliance": "unknown"}
    old = lines(("machine.counted", {"machine": "/subscriptions/s/a", **line}))
    for row in old["AppTraces"]:
        row["TimeGenerated"] = row["TimeGenerated"].replace("2026-11-25", "2026-11-23")
    new = lines(("machine.counted", {"machine": "/subscriptions/s/b", **line}))
    [row] = logs.Workspace.after(both(old, new)).ask(build.text_of("panels", "nobody"))
    assert row["machines"] == 1
