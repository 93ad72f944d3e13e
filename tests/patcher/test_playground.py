"""The playground: a fleet, the app, a clock that a person moves, and the operator's tool in a second terminal.

Factors: a terminal of two sizes or a pipe; text or JSON; commands and options that can be meant or not.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from functions.journal import EVENTS
from simulator.__main__ import arguments
from simulator.demo.stage import what_next
from simulator.playground.drive import second_tuesday
from simulator.playground.fleet import BEHAVIOURS, members
from simulator.playground.log import Log
from simulator.playground.prompt import Wrong, duration
from tests.patcher.playground import AtATerminal, at_a_terminal, run

pytestmark = pytest.mark.asyncio(loop_scope="module")

# 22:00 in Paris is 21:00 UTC in winter. The last canary of three images is proved before the window closes.
WINDOW = "PATCH_WINDOW=Tue 22:00-02:00 Europe/Paris"
FLEET = ("--port", "0", "--machines", "12", "--images", "2", "--day", "2026-12-08T20:00")
SETTINGS = ("--set", WINDOW, "--set", "PATCH_BAKE_MINUTES=30")


# -- options


REFUSED = {
    "an unknown option": ("--machine 5", "--machine"),
    "a setting's name": ("--set PATCH_WINDW=any", "PATCH_WINDW is not a setting; did you mean PATCH_WINDOW?"),
    "a name of no setting": ("--set COLOUR=red", "COLOUR is not a setting"),
    "no value": ("--set PATCH_WINDOW", "NAME=VALUE is right"),
    "a setting's value": ("--set PATCH_WINDOW=sometimes", "PATCH_WINDOW: window 1 'sometimes'"),
    "a number in words": ("--machines many", "invalid int value"),
    "too many machines": ("--machines 100000", "0 to 2000 is right"),
    "no image": ("--images 0", "1 to 50 is right"),
    "no such day": ("--day 2026-02-30", "--day is '2026-02-30'"),
    "no such behaviour": ("--behaviour sings", "'sings' is not a behaviour; one of: plain"),
    "more that misbehave than there are": ("--machines 2 --behaviour fails=3", "asks for 3 machines, and there are 2"),
    "a clock of its own beside a host's": ("--day 2026-12-08 --speed 5", "--day is the playground's"),
    "a setting without the app": ("--azure-only --set PATCH_MODE=off", "--set needs the app"),
    "no time passes": ("--speed 0", "a number above 0 is right"),
}


@pytest.mark.parametrize(("words", "problem"), REFUSED.values(), ids=REFUSED)
async def test_a_wrong_option_is_refused_in_one_line(
    words: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        arguments(words.split())
    said = capsys.readouterr().err
    assert (refused.value.code, said.count("\n")) == (2, 1)
    assert problem in said


async def test_a_refusal_starts_nothing(tmp_path: Path) -> None:
    ended = await run("--set", "PATCH_MODE=instal", config=tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "PATCH_MODE is 'instal'" in ended.err
    assert ended.err.count("\n") == 1


async def test_behaviours_are_listed(tmp_path: Path) -> None:
    ended = await run("--behaviours", config=tmp_path)
    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == list(BEHAVIOURS)


# -- from a pipe


async def test_a_night_from_a_pipe(tmp_path: Path) -> None:
    """Assessed before the window, a canary per image in it, the others after it; and why not the rest."""
    ended = await run(*FLEET, *SETTINGS, config=tmp_path, typed="next opening\n+5h\nstatus\nquit\n+1d\n")
    assert (ended.code, ended.err) == (0, "")
    said = ended.out
    assert f"          {WINDOW}\n" in said, "what is chosen is shown"
    assert "Tue 08 Dec 2026, UTC" in said
    assert "Tue 08 Dec 2026 21:00 UTC\n" in said, "the clock stops at the opening"
    before, _, night = said.partition("Tue 08 Dec 2026 21:00 UTC\n")
    assert re.findall(r"^(\d\d:\d\d).* installation started", before, re.MULTILINE) == ["21:00"], "not before it"
    assert re.search(r"21:00  2 machines   installation started", said), "one canary per image"
    assert re.search(r"^\d\d:\d\d .*installation ended +Succeeded; 5 installed", night, re.MULTILINE)
    assert re.search(r"opted-out +tag patch-mode=off", said)
    assert re.search(r"^ +10 patched$", said, re.MULTILINE), "all but the one that fails and the one that opted out"
    assert "Wed 09 Dec 2026 02:00 UTC" in said
    assert re.search(r"^\d\d:\d\d .*notice +installation ended: Succeeded, 5 installed, 0 failed", night, re.MULTILINE)
    assert "10 Dec" not in said, "nothing follows quit"


async def test_a_wrong_command_from_a_pipe_ends_it(tmp_path: Path) -> None:
    ended = await run(*("--port", "0", "--machines", "0"), config=tmp_path, typed="now\nforward\nstatus\n")
    assert ended.code == 2
    assert ended.err.startswith("simulator: 'forward' is not a command; one of: +1d, now, status")


async def test_the_journal_as_it_is(tmp_path: Path) -> None:
    ended = await run(*FLEET[:2], "--machines", "3", "--json", config=tmp_path, typed="+30min\n")
    assert ended.code == 0
    events = {json.loads(line)["event"] for line in ended.out.splitlines()}
    assert {"assessment.queued", "sweep.finished", "assessment.started"} <= events <= set(EVENTS)
    assert "PATCH_WINDOW=any" in ended.err, "what is for people goes elsewhere"


# -- at a terminal, with the tool in another one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def terminal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AtATerminal]:
    config = tmp_path_factory.mktemp("config")
    words = (*FLEET, *SETTINGS, "--behaviour", "unsupported=2")
    async with at_a_terminal(*words, config=config, width=80, height=24) as running:
        await running.until(r"\n> $")
        yield running


async def test_the_first_screen_is_whole(terminal: AtATerminal) -> None:
    lines = terminal.screen.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


async def test_the_tool_goes_by_the_clock_of_the_playground(terminal: AtATerminal) -> None:
    moved = await terminal.type("+30min")
    assert max(map(len, moved.splitlines())) <= 80
    assert "Tue 08 Dec 2026 20:30 UTC" in moved

    shown = await terminal.patcher("status", "--json")
    told = json.loads(shown.out)
    assert told["at"].startswith("2026-12-08T20:30")
    assert told["result"]["alive"] is True
    assert told["result"]["machines"] == 12
    (opening,) = json.loads((await terminal.patcher("next", "--window", "1", "--json")).out)["result"]["openings"]
    assert opening["opens"].startswith("2026-12-08T21:00")


async def test_a_pause_holds_in_the_time_of_the_playground(terminal: AtATerminal) -> None:
    assert (await terminal.patcher("pause", "--reason", "to see it", "--for", "3h")).code == 0
    quiet = await terminal.type("next opening")
    assert "paused" in quiet
    assert "installation started" not in quiet
    assert (await terminal.patcher("resume")).code == 0
    assert "installation started" in await terminal.type("+1h")


async def test_a_query_and_what_a_guest_does(terminal: AtATerminal, tmp_path: Path) -> None:
    query = tmp_path / "machines.kql"
    query.write_text("resources | where type =~ 'microsoft.compute/virtualmachines' | count", encoding="utf-8")
    answer = await terminal.patcher("query", str(query), "--json")
    assert json.loads(answer.out)["result"]["rows"] == [{"Count": 12}]
    assert "web-001: the VM agent never reports" in await terminal.type("behave web-001 silent")
    assert "web-001: the machine is powered off" in await terminal.type("behave web-001 off")
    assert "'sings' is not a behaviour" in await terminal.type("behave web-001 sings")
    assert "0 machines are called absent" in await terminal.type("behave absent fails")


async def test_a_wrong_command_at_a_terminal_is_explained(terminal: AtATerminal) -> None:
    assert "'foo' is not a command" in await terminal.type("foo")
    assert "is not a move of the clock" in await terminal.type("+1y")
    assert "+15min" in await terminal.type("help")
    assert "UTC" in await terminal.type("now")


async def test_the_commands_that_the_demo_ends_with_work(terminal: AtATerminal) -> None:
    """But for the port: another simulator may have the usual one."""
    commands = [shlex.split(line) for line in what_next().splitlines() if " -m " in line]
    words = [each[each.index("-m") + 1 :] for each in commands]
    assert [each[0] for each in words] == ["simulator", "patcher", "patcher"]
    options = arguments(words[0][1:])
    assert options.play
    assert words[2][-1] in [each.name for each in options.members]
    for each in words[1:]:
        assert (await terminal.patcher(*each[2:])).code == 0, each


# -- the parts


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-12-01", "2026-12-08"),
        ("2026-12-09", "2027-01-12"),
        ("2027-06-08", "2027-06-08"),
        ("2027-09-30", "2027-10-12"),
    ],
)
async def test_new_patches_come_on_the_second_tuesday(day: str, expected: str) -> None:
    now = datetime.fromisoformat(f"{day}T00:00:00+00:00")
    assert second_tuesday(now) == datetime.fromisoformat(f"{expected}T18:00:00+00:00")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+15min", timedelta(minutes=15)),
        ("+15m", timedelta(minutes=15)),
        ("+3h", timedelta(hours=3)),
        ("+ 1 d", timedelta(days=1)),
        ("+2w", timedelta(days=14)),
    ],
)
async def test_how_far_the_clock_is_moved(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["+", "+0h", "+1", "+1y", "+500d", "+-1d", "+1.5h"])
async def test_a_move_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(Wrong, match="is not a move of the clock"):
        duration(text)


async def test_a_fleet_is_varied_and_always_the_same() -> None:
    fleet = members(60, 3, {"hangs": 2})
    assert fleet == members(60, 3, {"hangs": 2})
    references = {json.dumps(each.body["properties"]["storageProfile"]["imageReference"]) for each in fleet}
    assert len(references) == 3
    assert {each.body["properties"]["storageProfile"]["osDisk"]["osType"] for each in fleet} == {"Linux", "Windows"}
    assert len({each.body["tags"]["owner"] for each in fleet}) == 3
    assert {each.body["tags"].get("patch-ring") for each in fleet} == {"0", "1", None}
    assert len({each.age for each in fleet}) > 30
    assert min(each.age for each in fleet) >= timedelta(days=1)
    assert sum(each.behaviour == "hangs" for each in fleet) == 2
    assert {"fails", "unsupported", "off", "silent"} <= {each.behaviour for each in fleet}


async def test_what_is_said_of_several_machines_takes_one_line() -> None:
    def changed(machine: str, state: str) -> str:
        return json.dumps({"event": "machine.changed", "machine": f"/x/{machine}", "state": state, "reason": "why"})

    now, log = datetime(2026, 12, 8, 21, tzinfo=UTC), Log()
    lines = [changed("a", "patched"), changed("b", "patched"), changed("c", "queued"), '{"event": "sweep.finished"}']
    assert list(log.lines([*lines, "host: a line"], now)) == [
        "host: a line",
        "Tue 08 Dec 2026, UTC",
        "21:00  2 machines   patched              why  (a, b)",
    ]
    assert list(log.lines([changed("a", "patched"), changed("b", "failed")], now)) == [
        "21:00  b            failed               why"
    ], "what was shown before is not shown again"
