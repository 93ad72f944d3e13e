"""The demo's picture on terminals of usual sizes: all of the fleet, and nothing cut."""

import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from functions.model.state import State
from simulator.demo import notices
from simulator.demo.fleet import FLEET
from simulator.demo.screen import Line, LiveScreen, Numbers, Row, Verdict, summary
from simulator.demo.stage import introduction, what_next
from simulator.demo.ticker import line_of
from simulator.embedded import Embedded
from simulator.functions_host import Trace
from tests.support import REPOSITORY

LONGEST_STATE = max((state.value for state in State), key=len)
ROWS = [Row(part.name, part.description, LONGEST_STATE, assessments=3, installations=1) for part in FLEET]
RUNNING = [replace(row, state="installing", progress=0.5) for row in ROWS]
NUMBERS = Numbers(
    seconds=170,
    as_expected=len(FLEET),
    running={"assess": 10, "install": 10},
    done={"assess": 90, "install": 30},
    cap="10",
    refused=12,
    quota=600,
    quota_left=590,
    calls=2_500,
    sweeps=90,
    notices=1_200,
)
NEWS = [Line(float(number), "no-extensions", "installation.started") for number in range(100)]


def picture(width: int, height: int, rows: list[Row]) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    shown = LiveScreen(console)
    shown._ticker.extend(NEWS)
    with console.capture() as captured:
        console.print(shown._picture(rows, NUMBERS))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize("rows", [ROWS, RUNNING], ids=["at rest", "at work"])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (160, 45)])
def test_every_machine_and_number_is_whole(width: int, height: int, rows: list[Row]) -> None:
    lines = picture(width, height, rows)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert len(lines) < height, "the terminal would scroll"
    assert {row.name for row in rows if row.name not in text} == set()
    assert text.count(rows[0].state) == len(rows)
    assert "590 of 600 patch calls left" in text
    assert "assessments 10 ━──, 90 done (A) · installations 10 ━── of 10, 30 done (I)" in text, "a mark is unexplained"
    assert "1200 notices" in text
    assert width >= 160 or "…" not in text  # descriptions may be cut, on a screen that is wide enough to have them


@pytest.mark.parametrize(("width", "height", "events"), [(80, 24, 0), (120, 40, 15)])
def test_the_newest_events_fill_what_is_left_of_the_screen(width: int, height: int, events: int) -> None:
    lines = picture(width, height, ROWS)
    assert sum("installation.started" in line for line in lines) == events
    assert not events or lines[-1].lstrip().startswith("99.0 s")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_summary_and_the_next_commands_stay_on_the_screen(width: int, height: int) -> None:
    """With the line above them and the shell's prompt below. Each state of the fleet's end has a line."""
    ends = [Row(part.name, part.description, part.expected.state, "because of a reason " * 9) for part in FLEET]
    said = summary([Verdict(row) for row in ends], "97 notices came: 40 of one kind" * 9, width)
    lines = [f"demo: {len(FLEET)} as expected, 0 not", *said, *what_next().splitlines()]
    assert max(map(len, lines)) <= width
    assert len(lines) < height
    assert sum(int(line.split()[0]) for line in lines[1:-5]) == len(FLEET)
    assert lines[-5].startswith("97 notices came")
    assert [line.split()[1:4] for line in lines[-3:]] == [
        ["-m", "simulator"],
        ["-m", "patcher", "--simulator"],
        ["-m", "patcher", "--simulator"],
    ]


# a line of the journal → what the ticker says of it
TOLD = {
    "a state": (
        '{"event": "machine.changed", "machine": "/x/virtualmachines/web-01", "state": "on-hold", "reason": "why"}',
        ("web-01", "on-hold", "why"),
    ),
    "an event": (
        '{"event": "installation.ended", "machine": "/x/virtualmachines/web-01", "status": "Failed"}',
        ("web-01", "installation ended", "Failed"),
    ),
    "of a server outside Azure": (
        '{"event": "assessment.started", "machine": "/x/providers/microsoft.hybridcompute/machines/arc-linux"}',
        ("arc-linux", "assessment started", ""),
    ),
    "of an image": (
        '{"event": "rollout.opened", "image": "/x/images/web/versions/1.4.0"}',
        ("web/1.4.0", "rollout opened", ""),
    ),
}


@pytest.mark.parametrize(("message", "expected"), TOLD.values(), ids=TOLD)
def test_the_ticker_speaks_in_words(message: str, expected: tuple[str, str, str]) -> None:
    line = line_of(cast(Trace, SimpleNamespace(message=message, level="Information")), 1.0)
    assert line
    assert (line.machine, line.event, line.detail) == expected


# The examples of docs/notices.md: the type → whom, what and the details, in words.
NOTICES: dict[str, dict[str, Any]] = {
    event["type"].removeprefix("ImagePatcher."): event
    for each in re.findall(
        r"```json\n(.*?)```", (REPOSITORY / "docs" / "notices.md").read_text(encoding="utf-8"), re.DOTALL
    )
    if "type" in (event := json.loads(each))
}
IN_WORDS = {
    "AssessmentEnded": ("vm-01", "assessment ended", "Failed, some patches failed"),
    "SupportDetected": ("vm-01", "support detected", "Supported, 1 critical, 2 security, 1 other waiting"),
    "InstallationPlanned": ("vm-01", "installation planned", "2026-11-25T13:00:00Z or later"),
    "InstallationStarted": ("vm-01", "installation started", ""),
    "InstallationEnded": ("vm-01", "installation ended", "Failed, 3 installed, 2 failed, some patches failed"),
    "MachineHeld": ("vm-01", "machine held", "failed, some patches failed"),
    "CanaryProved": ("web/1.0.0", "canary proved", "vm-01"),
    "CanaryFailed": ("web/1.0.0", "canary failed", "vm-01, it is off"),
    "BreakerOpened": ("web/1.0.0", "breaker opened", "its canary web-1: some patches failed"),
    "BreakerClosed": ("web/1.0.0", "breaker closed", "Jane, ok"),
    "RolloutEnded": ("web/1.0.0", "rollout ended", "2 succeeded, 1 failed"),
    "RunProgress": ("run/r1", "run progress", "5 machines, 3 started, 1 succeeded, 0 failed"),
    "MorningSummary": ("fleet", "morning summary", "3 machines, 1 installed, 1 failed, 1 still waiting"),
}


@pytest.mark.parametrize(("name", "event"), NOTICES.items(), ids=NOTICES)
def test_each_notice_is_one_line_in_words(name: str, event: dict[str, Any]) -> None:
    assert (notices.subject(event), notices.kind(event), notices.details(event)) == IN_WORDS[name]


def test_notices_are_counted_once_each_and_by_kind() -> None:
    events = [NOTICES[each] | {"id": number} for number, each in enumerate(["MachineHeld", *["RunProgress"] * 2])]
    assert notices.counted([*events, events[0]]) == "3 notices came: 2 run progress, 1 machine held"
    assert notices.counted([]) == "0 notices came"


@pytest.mark.parametrize("slower", [1.0, 2.5])
def test_the_introduction_fits_80_columns(slower: float) -> None:
    site = SimpleNamespace(settings={"RECONCILE_SCHEDULE": "0 */5 * * * *"})
    embedded = SimpleNamespace(
        deployed=SimpleNamespace(plan=SimpleNamespace(site=site)), snapshots="default (main, events)"
    )
    lines = introduction(cast(Embedded, embedded), slower).splitlines()
    assert f"Azure runs {100 / slower:.0f} times faster" in "\n".join(lines)
    assert [line for line in lines if len(line) > 80] == []
    assert len(lines) > 10
