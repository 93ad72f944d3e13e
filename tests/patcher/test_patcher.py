"""The operator's tool, run as a person runs it, against the simulator over TLS.

Factors: the command; with and without a terminal; tables or JSON; what is asked can be meant or not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from functions.cloud.rows import place_of
from functions.model.started import begin_start, end_start, start_accepted
from simulator.arm import shapes
from simulator.arm.shapes import hybrid_id, hybrid_machine
from simulator.azure import Grant
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.patcher import test_acting, test_runs
from tests.patcher.stage import OPENS, Stage, machine, restored, staged
from tests.support import REPOSITORY, a_machine

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = Draft202012Validator(json.loads((REPOSITORY / "patcher" / "schema.json").read_text(encoding="utf-8")))
QUERY = "functions/cloud/queries/fleet_counts.kql"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


# words → exit code, what must be on the screen
SHOWN: dict[str, tuple[str, int, list[str]]] = {
    "status": (
        "status",
        0,
        ["PATCH_MODE install", f"{OPENS} 22:00-23:00 Europe/Paris", "NO: no sweep", "waiting-for-window", "busy-01"],
    ),
    "who needs a person": ("status", 0, ["2 patches failed: libssl3", "patch-windw is not a tag", "Free disk space."]),
    "a wait for the window": (
        "why web-02",
        0,
        ["waiting-for-window", "expected", "→  support state", "owner  shop", "security  14"],
    ),
    "an operation under way": ("why busy-01", 0, ["installing (wait)", "→  ledger", "since", "running"]),
    "a machine that is off": ("why off-01", 0, ["powered-off", "az vm start --ids /subscriptions/", "deallocated"]),
    "an opt-out": ("why lab-01", 0, ["opted-out", "az tag update --operation Delete", "--tags patch-mode=off"]),
    "a patch that failed": (
        f"why {machine('fail-01')}",
        0,
        ["Failed in the last installation", "libcritical0  1.1.0-1ubuntu1"],
    ),
    "by its id": (f"why {machine('web-01', 'rg-test')}", 0, ["support state absent", "no image"]),
    "the next opening": ("next --window 1", 0, ["6 go (2 as canaries), 1 later", "web-01", "fail-01 goes first"]),
    "the plan": ("plan", 0, ["Would start now", "assessment", "support state absent"]),
    "the plan, with who waits for the window": ("plan", 0, [" waiting-for-window"]),
    "the doctor, of one machine": ("doctor", 1, ["bad-tag: 1 machine (typo-01)"]),
    "who is late": ("late", 1, ["shop", "win-01", "critical, security", "7 days"]),
    "who is late, for programs": ("late --json", 1, ['"critical": 3.0,', '"security": 14.0']),
    "a patch": ("lacks libcritical0", 0, ["pending on 9, installed on 1, failed on 1", "past-01", "fail-01"]),
    "a patch of no machine": ("lacks KB5043080", 0, ["pending on 0", "No assessment lists it"]),
    "rollouts": ("rollout list", 0, ["web/1.4.0", "1/1 ✓", "ring untagged 1/5"]),
    "breakers": (
        "breaker list",
        0,
        ["api/1.4.0", "3 of 4 failed", "patcher breaker close image-", "--opening 20261125T081500"],
    ),
    "as CSV": ("export", 0, ["machine,name,subscription", ",win-01,", ",late,True,True,"]),
    "as HTML": ("export --format html", 0, ["<!doctype html>", "<td>win-01</td>"]),
    "patches": ("export --what patches", 0, ["past-01,,libcritical0,,1.1.0-1ubuntu1,critical,Installed,2"]),
    "a query": (f"query {QUERY}", 0, ["state_name", "Unsupported"]),
    "the doctor": (
        "doctor",
        1,
        [
            "none has run yet",
            "the app's identity has all 9 actions",
            "typo-01",
            "registered: Microsoft.Compute",
            "18 of 18 have no recipient",
        ],
    ),
    "help": ("--help", 0, ["doctor", "Exit codes", "Try: patcher --simulator status"]),
    "help with examples": ("next --help", 0, ["--window", "Examples: patcher next"]),
}


@pytest.mark.parametrize(("words", "code", "expected"), SHOWN.values(), ids=SHOWN)
async def test_what_a_command_shows(stage: Stage, words: str, code: int, expected: list[str]) -> None:
    ended = await stage.patcher(*words.split())
    assert (ended.code, ended.err) == (code, ""), ended
    for text in expected:
        assert text in ended.out, ended.out
    assert "\x1b" not in ended.out, "no colour without a terminal"


# words → what the one line on stderr says
REFUSED = {
    "no command of that name": ("stauts", "No such command 'stauts'"),
    "no option of that name": ("status --jsn", "No such option: --jsn"),
    "no machine": ("why", "Missing argument 'name'"),
    "a machine that is not there": ("why web-99", "no machine 'web-99'"),
    "two machines of a name": ("why web-01", "2 machines are called web-01; name one by its id: /subscriptions/"),
    "a name that would be KQL": ("why x'|project", "is not a name or id of a machine"),
    "a patch that would be KQL": ("lacks a'b", "is neither a KB number nor the name of a package"),
    "no openings": ("next --window 0", "--window is 0; 1 to 50"),
    "a number that is none": ("next --window many", "Invalid value for '--window'"),
    "an unknown format": ("export --format xml", "'xml' is not one of 'csv', 'json', 'html'"),
    "a file that is not there": ("query nowhere.kql", "there is no file nowhere.kql"),
}


@pytest.mark.parametrize(("words", "line"), REFUSED.values(), ids=REFUSED)
async def test_bad_input_is_one_line_and_nothing_is_done(stage: Stage, words: str, line: str) -> None:
    ended = await stage.patcher(*words.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert ended.err.startswith("patcher: ")
    assert line in ended.err


# how the app is named → exit code, what the one line on stderr says
NOT_FOUND = {
    "never named": ("status", 2, "no app is known yet; name it once: patcher --app NAME"),
    "an unknown profile": ("--profile prod status", 2, "there is no profile 'prod'"),
    "a name that would be KQL": ("--app x'y status", 2, "--app: a name has letters"),
}


@pytest.mark.parametrize(("words", "code", "line"), NOT_FOUND.values(), ids=NOT_FOUND)
async def test_an_app_that_cannot_be_meant(stage: Stage, words: str, code: int, line: str) -> None:
    ended = await stage.patcher(*words.split(), simulator=False)
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1), ended
    assert line in ended.err


async def test_no_simulator_runs(stage: Stage, tmp_path: Path) -> None:
    ended = await stage.in_a_process("status", XDG_CONFIG_HOME=str(tmp_path))
    assert (ended.code, ended.out) == (2, "")
    assert "start one in another terminal: python -m simulator" in ended.err


JSON = (
    *("status", "why web-02", "why busy-01", "why lab-01", "why fail-01", "next", "plan", "late", "lacks libcritical0"),
    *("export", "export --what patches", "doctor", f"query {QUERY}", "breaker list", "rollout list"),
)


@pytest.mark.parametrize("words", JSON)
async def test_json_keeps_its_schema(stage: Stage, words: str) -> None:
    ended = await stage.patcher(*words.split(), "--json")
    assert [error.message for error in SCHEMA.iter_errors(ended.json)] == []
    assert words.startswith(ended.json["command"])


async def test_every_command_of_the_schema_is_tried() -> None:
    commands = SCHEMA.schema["properties"]["command"]["enum"]
    tried = (*JSON, *test_acting.JSON, *test_runs.JSON)
    assert [each for each in commands if not any(words.startswith(each) for words in tried)] == []


async def test_the_tool_in_a_process_of_its_own(stage: Stage) -> None:
    shown, refused = await asyncio.gather(stage.in_a_process("late"), stage.in_a_process("lat"))
    assert (shown.code, shown.err) == (1, "")
    assert "win-01" in shown.out
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)


async def test_on_a_terminal_there_is_colour_and_progress(stage: Stage) -> None:
    plain, bare = await asyncio.gather(stage.on_a_terminal("status"), stage.on_a_terminal("status", NO_COLOR="1"))
    assert (plain.code, bare.code) == (0, 0)
    assert "\x1b[1;31mNO: no sweep" in plain.out
    assert "reading Azure and the ledger" in plain.out
    assert "\x1b[1;31m" not in bare.out
    assert "waiting-for-window" in bare.out


# settings → words, exit code, what must be said
SETTINGS: dict[str, tuple[dict[str, str], str, int, str]] = {
    "what install would do": ({"PATCH_MODE": "assess"}, "plan", 0, "PATCH_MODE is assess; this is what install would"),
    "without a window": ({"PATCH_MODE": "assess", "PATCH_WINDOW": ""}, "next", 0, "here any time is assumed"),
    "now": ({"PATCH_WINDOW": "any"}, "plan", 0, "installation  web/1.4.0"),
    "a wait for a limit": ({"PATCH_WINDOW": "any"}, "plan", 0, "(PATCH_MAX_PER_IMAGE is 2)"),
    "the limit of one machine": ({"PATCH_WINDOW": "any"}, "why web-04", 0, "→  limits of the fleet"),
    "a paused app": ({"PATCH_PAUSE": "on"}, "status", 0, "paused            PATCH_PAUSE is on"),
    "of a former install": ({"PATCH_CREATED_AFTER": "first-deployment"}, "plan", 0, "Would start now"),
    "any time": ({"PATCH_WINDOW": "any"}, "next", 0, "\nany time: "),
    "no subscription named": ({"PATCH_SCOPE": ""}, "doctor", 1, "the app's identity has all 9 actions"),
    "wrong settings": ({"PATCH_WINDOW": "Sat"}, "doctor", 1, "✗ settings: PATCH_WINDOW: window 1 'Sat'"),
    "an unknown setting": ({"PATCH_WINDOWS": "any"}, "doctor", 1, "did you mean PATCH_WINDOW?"),
}


@pytest.mark.parametrize(("changes", "words", "code", "expected"), SETTINGS.values(), ids=SETTINGS)
async def test_what_follows_from_other_settings(
    stage: Stage, changes: dict[str, str], words: str, code: int, expected: str
) -> None:
    with stage.settings(**changes):
        ended = await stage.patcher(*words.split())
    assert (ended.code, ended.err) == (code, "")
    assert expected in ended.out, ended.out


@pytest.mark.parametrize(
    ("setting", "said"), [("off", "PATCH_ARC is off, and they are left"), ("on", "PATCH_ARC is on")]
)
async def test_a_plan_says_what_assessing_arc_servers_costs(stage: Stage, setting: str, said: str) -> None:
    """List price: $5 per server and month (Azure Update Manager FAQ). One that is not connected costs nothing."""
    azure = stage.embedded.azure
    servers = [azure.connect_machine(hybrid_id(f"arc-0{number}"), hybrid_machine()) for number in range(3)]
    servers[0].status.set(azure.now(), "Disconnected")
    try:
        with stage.settings(PATCH_ARC=setting):
            shown, told = await stage.patcher("plan"), await stage.patcher("plan", "--json")
    finally:
        for each in servers:
            del azure.world.hybrid[each.id.lower()]
    arc = {"taken_in": setting == "on", "servers": 3, "connected": 2, "usd_a_month": 10.0}
    assert json.loads(told.out)["result"]["arc"] == arc
    assert said in shown.out
    assert "up to $10 a month" in " ".join(shown.out.split())


# settings → whether off-01 would be started: for 30 minutes to come up, and 30 for an installation
STOPPED: dict[str, tuple[dict[str, str], bool]] = {
    "in its window": ({"PATCH_START_STOPPED": "5", "PATCH_WINDOW": "any", "PATCH_MAX_PER_IMAGE": "9"}, True),
    "those that run go first": ({"PATCH_START_STOPPED": "5", "PATCH_WINDOW": "any"}, False),
    "its window is closed": ({"PATCH_START_STOPPED": "5"}, False),
    "the setting is off": ({"PATCH_WINDOW": "any"}, False),
}


@pytest.mark.parametrize(("changes", "starts"), STOPPED.values(), ids=STOPPED)
async def test_a_plan_says_which_stopped_machines_would_be_started(
    stage: Stage, changes: dict[str, str], starts: bool
) -> None:
    with stage.settings(**changes):
        shown, told = await stage.patcher("plan"), await stage.patcher("plan", "--json")
    expected = {"start": [str(machine("off-01"))], "seconds": 3600.0} if starts else {"start": [], "seconds": 0.0}
    assert told.json["result"]["stopped"] == expected
    said = "1 stopped machine would be started now, for about 1.0 h each, 1.0 h in all; Azure bills their compute"
    assert (said in " ".join(shown.out.split())) is starts


async def test_status_says_what_the_app_started_and_for_how_long(stage: Stage) -> None:
    since = datetime.now(UTC) - timedelta(hours=3, minutes=10)
    runs = start_accepted(replace(begin_start(a_machine(), since), machine=machine("web-02")))
    over = end_start(replace(runs, machine=machine("web-03")), datetime.now(UTC))
    async with restored(stage):
        for each in (runs, replace(runs, machine=machine("web-04")), over):
            await stage.ledger.put_started(None, each)
        shown, told = await stage.patcher("status"), await stage.patcher("status", "--json")
    assert [error.message for error in SCHEMA.iter_errors(told.json)] == []
    assert told.json["result"]["started"]["machines"] == 2
    assert 2 * 3 * 3600 < told.json["result"]["started"]["seconds"] < 2 * 4 * 3600
    assert "2 by the app, which puts them back; they have run for 6 h in all" in " ".join(shown.out.split())


@pytest.mark.parametrize(
    ("setting", "said"),
    [("off", "PATCH_ARC is off"), ("on", "its Connected Machine agent is Expired")],
)
async def test_why_a_server_is_left_alone(stage: Stage, setting: str, said: str) -> None:
    azure = stage.embedded.azure
    server = azure.connect_machine(hybrid_id("arc-01"), hybrid_machine())
    server.status.set(azure.now(), "Expired")
    try:
        with stage.settings(PATCH_ARC=setting):
            shown = await stage.patcher("why", "arc-01")
    finally:
        del azure.world.hybrid[server.id.lower()]
    assert (shown.code, shown.err) == (0, "")
    assert said in shown.out


async def test_wrong_settings_answer_nothing_else(stage: Stage) -> None:
    with stage.settings(PATCH_WINDOW="Sat"):
        ended = await stage.patcher("status")
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1)
    assert "the app's settings are wrong, so it does nothing: PATCH_WINDOW: window 1 'Sat'" in ended.err


async def test_rows_that_cannot_be_read_are_named(stage: Stage) -> None:
    """A newer release wrote them: of a machine, and of an image."""
    table, place = stage.ledger.table, place_of(machine("web-02"))
    rows = [
        await table.insert(*place, {"v": 99, "machine": str(machine("web-02"))}),
        await table.insert("app", "image-0", {"v": 99, "image": "x"}),
    ]
    try:
        status, why = await stage.patcher("status", "--json"), await stage.patcher("why", "web-02")
    finally:
        for row in rows:
            assert row
            await table.delete(row)
    assert "99" in status.json["result"]["left_alone"][0]
    assert [text for text in status.json["problems"] if "99" in text]
    assert (why.code, why.out, why.err.count("\n")) == (3, "", 1)
    assert "its row is left alone" in why.err


async def test_a_pipe_that_closes_early_is_not_an_error(stage: Stage) -> None:
    command = f"{sys.executable} -m patcher --simulator export --what patches | head -1"
    process = await asyncio.create_subprocess_exec(
        "bash", "-o", "pipefail", "-c", command, cwd=REPOSITORY, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"machine,name,owner")


async def test_only_its_owner_may_read_what_the_simulator_told(stage: Stage) -> None:
    told = stage.config / "image-patcher" / "simulator.json"
    assert told.stat().st_mode & 0o777 == 0o600
    assert told.parent.stat().st_mode & 0o077 == 0


async def test_nothing_was_written(stage: Stage) -> None:
    """After all commands above: the ledger as it was, and no operation but those of the stage."""
    rows = [(row.partition, row.key, row.etag) async for row in stage.ledger.table.scan()]
    assert rows == stage.rows_at_first
    assert len(stage.embedded.azure.operations) == stage.operations_at_first


async def test_the_doctor_names_the_missing_right(stage: Stage) -> None:
    """A role without one action, in the very subscription."""
    azure, before = stage.embedded.azure, stage.embedded.azure.grants
    lost = "Microsoft.Compute/virtualMachines/installPatches/action"
    azure.grants = [Grant(each.scope, each.actions, (lost,), each.client_id) for each in before]
    azure.grants[0] = before[0]  # the operator's own
    try:
        ended = await stage.patcher("doctor", "--json")
    finally:
        azure.grants = before
    (check,) = [each for each in ended.json["result"]["checks"] if each["check"].startswith("rights of")]
    assert (check["verdict"], check["detail"]) == ("bad", f"the app's identity lacks {lost}")
    assert f"/subscriptions/{shapes.SUBSCRIPTION}" in check["remedy"]


OTHER = "00000000-0000-0000-0000-000000000002"
MANAGEMENT = "Microsoft.Management/managementGroups/descendants/read"
CANNOT_KNOW = "you may not read which there are; Resource Graph leaves out those that the app may not read"
# what the operator may not do, where the app has its role → the checks of the group, and of the subscription without
# a machine
UNDER_A_GROUP: dict[str, tuple[tuple[str, ...], str, list[tuple[str, str]]]] = {
    "the app may not read one": (
        (),
        f"/subscriptions/{shapes.SUBSCRIPTION}",
        [("ok", "2 in it; 1 of them without a machine that you may read"), ("bad", "the app's identity lacks ")],
    ),
    "the app may read all": (
        (),
        "/providers/Microsoft.Management/managementGroups/fleet",
        [
            ("ok", "2 in it; 1 of them without a machine that you may read"),
            ("ok", "the app's identity has all 9 actions"),
        ],
    ),
    "the operator may not ask": (
        (MANAGEMENT,),
        f"/subscriptions/{shapes.SUBSCRIPTION}",
        [("not checked", CANNOT_KNOW)],
    ),
}


@pytest.mark.parametrize(("refused", "scope", "expected"), UNDER_A_GROUP.values(), ids=UNDER_A_GROUP)
async def test_the_doctor_names_what_the_app_may_not_read_under_a_management_group(
    stage: Stage, refused: tuple[str, ...], scope: str, expected: list[tuple[str, str]]
) -> None:
    """Resource Graph says nothing of such a subscription, and shows no machine of it."""
    azure, before = stage.embedded.azure, stage.embedded.azure.grants
    operator = before[0]
    watched = f"/subscriptions/{shapes.SUBSCRIPTION}"
    moved = [replace(each, scope=scope) if each.scope == watched else each for each in before[1:]]
    azure.grants = [replace(operator, not_actions=refused), *moved]
    azure.world.management_groups["fleet"] = [shapes.SUBSCRIPTION, OTHER]
    try:
        with stage.settings(PATCH_SCOPE="mg:fleet"):
            ended = await stage.patcher("doctor", "--json")
    finally:
        azure.grants = before
        del azure.world.management_groups["fleet"]
    found = [
        (each["verdict"], each["detail"])
        for each in ended.json["result"]["checks"]
        if each["check"] in ("subscriptions of mg:fleet", f"rights of {OTHER}")
    ]
    assert [verdict for verdict, _ in found] == [verdict for verdict, _ in expected]
    assert all(said.startswith(begins) for (_, said), (_, begins) in zip(found, expected, strict=True))


async def test_who_may_not_read_learns_which_role_is_missing(stage: Stage) -> None:
    azure, before = stage.embedded.azure, stage.embedded.azure.grants
    azure.grants = before[1:]
    try:
        ended = await stage.patcher("why", str(machine("web-02")))
    finally:
        azure.grants = before
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1), ended
    assert "you need Reader on the machines" in ended.err
