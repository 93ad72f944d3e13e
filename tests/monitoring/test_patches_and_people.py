"""Panels about single patches, breakers and people: over lines as the app writes them, and over the bad day."""

from pathlib import Path
from typing import Any

import pytest

from infra.results import build
from simulator.monitor import logs
from tests.monitoring.written import lines

BAD_DAY = Path(__file__).parents[1] / "recordings" / "bad-day-logs.json.gz"
WEB, API = "/g/images/web/versions/1.0.0", "/g/images/api/versions/1.0.0"
Line = tuple[str, dict[str, Any]]


def machine(name: str) -> str:
    return f"/subscriptions/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/{name}"


def ask(panel: str, *written: Line, patch: str = logs.A_PATCH) -> list[dict[str, Any]]:
    return logs.Workspace.after(lines(*written)).ask(build.text_of("panels", panel), patch=patch)


def on_a_bad_day(panel: str) -> list[dict[str, Any]]:
    return logs.Workspace.after(logs.read(BAD_DAY)).ask(build.text_of("panels", panel))


# -- patches


def patches(name: str, text: str, image: str = WEB) -> Line:
    return "installation.patches", {"machine": machine(name), "image": image, "patch_list": text}


INSTALLATIONS = (
    patches("a", "Failed Security KB5031364; Installed Definition KB4052623"),
    patches("b", "Installed Security KB5031364"),
    patches("c", "Installed Security openssl 3.0.2-0ubuntu1.18; NotSelected Other libopenssl 3.0.2"),
    patches("d", "Pending Updates Example vendor driver 1.2.3", image=API),
    patches("e", "not known"),
    patches("b", "NotSelected Security KB5031364; Installed Other vim 9"),
    patches("a", "Installed Security KB5031364"),
)
# What a person types → the machines, each with the patch's state in its newest installation that names it.
FOUND = {
    "a KB number": ("KB5031364", {"a": "Installed", "b": "NotSelected"}),
    "its digits alone": ("5031364", {"a": "Installed", "b": "NotSelected"}),
    "in small letters": ("kb5031364", {"a": "Installed", "b": "NotSelected"}),
    "a part of a number": ("503136", {}),
    "a package, and none whose name contains it": ("openssl", {"c": "Installed"}),
    "a package and its version": ("openssl 3.0.2-0ubuntu1.18", {"c": "Installed"}),
    "another version": ("openssl 3.0.3", {}),
    "the title of an update without a number": ("Example vendor driver 1.2.3", {"d": "Pending"}),
    "no patch": ("nonsense", {}),
    "a word of the line itself": ("known", {}),
}


@pytest.mark.parametrize(("typed", "machines"), FOUND.values(), ids=FOUND)
def test_a_patch_is_found_on_its_machines(typed: str, machines: dict[str, str]) -> None:
    rows = ask("where-is", *INSTALLATIONS, patch=typed)
    assert {row["name"]: row["patch_state"] for row in rows} == machines


def test_each_failed_patch_of_an_image_names_the_machine_where_it_failed_first() -> None:
    rows = ask(
        "first-failed",
        patches("a", "Failed Security KB1000001; Failed Security KB1000002; Installed Other KB1000003"),
        patches("b", "Failed Security KB1000002; Installed Security KB1000001"),
        patches("b", "Failed Security KB1000001", image=API),
        patches("c", "Installed Security KB1000002"),
    )
    shown = [(row["image_name"], row["patch"], row["name"], row["machine_count"]) for row in rows]
    assert shown == [
        ("api 1.0.0", "KB1000001", "b", 1),
        ("web 1.0.0", "KB1000001", "a", 1),
        ("web 1.0.0", "KB1000002", "a", 2),
    ]


def test_the_bad_day_has_failed_patches_by_name() -> None:
    [first, *_] = on_a_bad_day("first-failed")
    assert (first["name"], first["patch"].split()[0]) == ("till-01", "libcritical0")


# -- breakers


def opened(image: str, opening: str) -> Line:
    fields = {
        "boundary": "owner shop",
        "opening": opening,
        "row": "image-1",
        "reason": "it fails",
        "remedy": "Close it.",
    }
    return "breaker.opened", {"image": image, **fields}


def closed(image: str, opening: str) -> Line:
    fields = {"boundary": "owner shop", "opening": opening, "row": "image-1", "by": "dana", "reason": "withdrawn"}
    return "breaker.closed", {"image": image, **fields}


def test_a_breaker_that_was_closed_says_by_whom_and_why_and_one_that_is_open_what_to_do() -> None:
    rows = ask("breakers", opened(WEB, "1"), closed(WEB, "1"), opened(WEB, "2"), opened(API, "1"), closed(WEB, "1"))
    shown = {
        (row["image_name"], row["opening"]): (row["remedy"], row["closed_by"], row["closed_because"]) for row in rows
    }
    assert shown == {
        ("web 1.0.0", "1"): ("", "dana", "withdrawn"),
        ("web 1.0.0", "2"): ("Close it.", "", ""),
        ("api 1.0.0", "1"): ("Close it.", "", ""),
    }
    assert [row["closed"] is not None for row in rows].count(True) == 1


# -- runs on demand


def test_a_run_is_one_row_by_its_newest_line() -> None:
    run = {"kind": "install", "reason": "a CVE", "by": "dana", "machines": 5}
    far = {"to_do": 1, "in_flight": 2, "succeeded": 1, "failed": 1, "gone": 0, "left": 0}
    rows = ask("runs", ("run.opened", run | {"run": "1"}), ("run.opened", run | {"run": "2"}))
    assert {row["run"]: (row["machines"], row["succeeded"]) for row in rows} == {"1": (5, None), "2": (5, None)}
    [row] = ask("runs", ("run.opened", run | {"run": "1"}), ("run.progressed", run | far | {"run": "1"}))
    assert {name: row[name.replace("left", "left_out")] for name in far} == far
    assert (row["who"], row["reason"], row["operation_kind"]) == ("dana", "a CVE", "install")


def test_the_bad_day_shows_who_ordered_the_run_who_stopped_it_and_how_far_it_came() -> None:
    """The till was assessed once more; the machine with the full disk waited until the run was stopped."""
    [row] = on_a_bad_day("runs")
    assert (row["event"], row["operation_kind"], row["machines"]) == ("run.ended", "assess", 2)
    assert (row["succeeded"], row["failed"], row["gone"], row["left_out"]) == (1, 0, 0, 1)
    assert (row["who"], row["reason"]) == ("dana@contoso.com", "is the till well again?")
    assert (row["stopped_by"], row["because"]) == ("dana@contoso.com", "its disk is full")


def test_the_bad_day_told_how_far_the_run_had_come_before_it_ended() -> None:
    events = [row for row in logs.Workspace.after(logs.read(BAD_DAY)).patch_events.rows if row["fields"].get("run")]
    shown = [(row["event"], row["fields"].get("in_flight"), row["fields"].get("succeeded")) for row in events]
    assert ("run.progressed", 0, 1) in shown
    assert (shown[0], shown[-1]) == (("run.opened", None, None), ("run.ended", None, 1))


# -- people and troubles

# A line → what the panel says of it: what, who, why
DONE: dict[str, tuple[Line, tuple[str, str, str]]] = {
    "a pause": (("app.paused", {"reason": "a bad patch", "by": "dana"}), ("everything", "dana", "a bad patch")),
    "a pause of an owner": (
        ("app.paused", {"scope": "owner", "value": "shop", "reason": "a fair", "by": "dana"}),
        ("shop", "dana", "a fair"),
    ),
    "its end": (
        ("app.resumed", {"reason": "a bad patch", "by": "kim", "because": "withdrawn"}),
        ("everything", "kim", "withdrawn"),
    ),
    "a hold": (
        ("hold.placed", {"machine": machine("a"), "reason": "a new disk", "by": "dana"}),
        ("a", "dana", "a new disk"),
    ),
    "a release": (
        ("hold.released", {"machine": machine("a"), "reason": "a new disk", "by": "dana", "because": "it is in"}),
        ("a", "dana", "it is in"),
    ),
    "a closed breaker": (closed(WEB, "1"), ("web 1.0.0", "dana", "withdrawn")),
    "a breaker that was not closed": (
        ("breaker.not-closed", {"image": WEB, "by": "dana", "problem": "another one is open", "remedy": "Look."}),
        ("web 1.0.0", "dana", "another one is open"),
    ),
    "a rollout that a person ended": (
        ("rollout.ended", {"image": WEB, "by_hand": True, "by": "dana", "reason": "its canary is off"}),
        ("web 1.0.0", "dana", "its canary is off"),
    ),
    "a run": (
        ("run.opened", {"run": "1", "reason": "a CVE", "by": "dana", "machines": 5}),
        ("1", "dana", "a CVE"),
    ),
    "a run that another person stopped": (
        ("run.ended", {"run": "1", "reason": "a CVE", "by": "dana", "stopped_by": "kim", "because": "withdrawn"}),
        ("1", "kim", "withdrawn"),
    ),
    "a setting": (
        ("settings.changed", {"setting": "PATCH_MODE", "before": "plan", "after": "install", "by": "not known"}),
        ("PATCH_MODE", "not known", "plan → install"),
    ),
}


@pytest.mark.parametrize(("line", "shown"), DONE.values(), ids=DONE)
def test_what_a_person_did_stands_there_with_who_and_why(line: Line, shown: tuple[str, str, str]) -> None:
    [row] = ask("by-people", line)
    assert (row["event"], row["what"], row["who"], row["why"]) == (line[0], *shown)


def test_what_the_app_did_itself_is_not_among_it() -> None:
    written: tuple[Line, ...] = (
        ("rollout.ended", {"image": WEB, "by_hand": False}),
        ("rollout.opened", {"image": WEB}),
        ("run.progressed", {"run": "1", "reason": "a CVE", "by": "dana"}),
        ("run.ended", {"run": "1", "reason": "a CVE", "by": "dana"}),
        ("run.unreadable", {"row": "run-1", "problem": "its kind is wrong"}),
        opened(WEB, "1"),
    )
    assert ask("by-people", *written) == []


def test_the_bad_day_shows_what_the_operator_did_newest_first() -> None:
    rows = on_a_bad_day("by-people")
    assert {row["event"] for row in rows} == {line[0] for line, _ in DONE.values()}
    assert [row["TimeGenerated"] for row in rows] == sorted((row["TimeGenerated"] for row in rows), reverse=True)


TROUBLES: dict[str, dict[str, Any]] = {
    "breaker.not-closed": {"row": "image-1", "problem": "another one is open", "remedy": "Name that one."},
    "rollout.stuck": {"image": WEB, "reason": "its canary is off", "remedy": "Start it."},
    "stop.unreadable": {"row": "pause-x", "problem": "its scope is wrong", "remedy": "Correct the row."},
}


@pytest.mark.parametrize("event", TROUBLES)
def test_a_trouble_stands_there_with_its_remedy(event: str) -> None:
    [row] = ask("troubles", (event, TROUBLES[event]))
    fields = TROUBLES[event]
    assert (row["event"], row["what"], row["remedy"]) == (
        event,
        fields.get("problem", fields.get("reason")),
        fields["remedy"],
    )
