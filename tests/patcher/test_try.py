"""docs/try.md: each command of the tour does what the page shows, in the page's order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.patcher.playground import AtATerminal, at_a_terminal
from tests.support import REPOSITORY

TOUR = (REPOSITORY / "docs" / "try.md").read_text(encoding="utf-8")
# a mark, a command, and the lines under it
STEPS = re.findall(r"^    ([$>]) (.+)\n((?:    (?![$>] ).*\n)*)", TOUR, re.MULTILINE)


async def _shown(terminal: AtATerminal, mark: str, command: str) -> str:
    if mark == ">":
        return "" if command == "quit" else await terminal.type(command)
    words = shlex.split(command)
    assert words[:4] == ["python", "-m", "patcher", "--simulator"], command
    ended = await terminal.patcher(*words[4:])
    # The alerts of the default deployment have no recipient: the doctor says so.
    assert (ended.code, ended.err) == (1 if words[4] == "doctor" else 0, ""), command
    return ended.out


@pytest.mark.asyncio
async def test_the_tour(tmp_path: Path) -> None:
    (_, start, first), *steps = STEPS
    assert len(steps) > 15
    words = [*shlex.split(start)[3:], "--port", "0"]
    async with at_a_terminal(*words, config=tmp_path, width=200, height=50) as terminal:
        await terminal.until(r"\n> $")
        for mark, command, expected in [("", start, first), *steps]:
            said = await _shown(terminal, mark, command) if mark else terminal.screen
            assert "simulator:" not in said, command
            for line in expected.split("\n"):
                assert line.strip() == "…" or line.strip() in said, (command, line, said)
