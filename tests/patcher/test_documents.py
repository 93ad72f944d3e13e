"""Every command of `patcher` in the documents is run against the simulator. Of others: tests/unit/test_docs.py.

Factors: the document; in a block of code or in a sentence; what stands for a name that the reader knows.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.patcher.stage import Stage, rows_of, staged
from tests.patcher.test_acting import API_ROW, OPENING, WEB_ROW
from tests.support.documents import DOCUMENTS, blocks, sentences, words_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What a document writes for a thing that its reader knows → that thing in the simulated fleet.
FLEET = {
    "web-01": "web-03",  # two machines of the simulated fleet have that name
    "web/1.4.0": "api/1.4.0",  # and two images that
    "tier=web": "owner=shop",
    "report.html": os.devnull,
    "NAME": "web-02",
    "IMAGE": "web/1.4.0",
    "FILE.kql": "functions/cloud/queries/fleet_counts.kql",
    "KB…": "KB5043080",
    "<opening>": OPENING,
    "…": "x",
}
ROWS = {"breaker": API_ROW, "rollout": WEB_ROW}  # for <row>
# A real app, its settings, the shell of the person who runs the test.
NOT_HERE = {"--app", "--by-setting", "--install-completion"}
# What has to be there first.
BEFORE = {
    "resume": "pause --reason x",
    "release": "hold {names} --reason x --yes",
    "run show": "run assess web-02 --reason x --yes",
    "run stop": "run assess web-02 --reason x --yes",
}
ASKS = ("hold", "release", "run")  # a person answers; here --yes does


def of_patcher() -> Iterator[tuple[str, str]]:
    """Document and command. A sentence that only names a command gets the command's help."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for line in blocks(text):
            yield document.name, line
        for line in sentences(text):
            named = all(re.fullmatch("[a-z]+", word) for word in line.split())
            yield document.name, f"{line} --help" if named else line


COMMANDS = sorted(
    {
        (document, shlex.join(words[1:]))
        for document, line in of_patcher()
        for words in [words_of(line)]
        if words[:1] == ["patcher"] and not NOT_HERE.intersection(words)
    }
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


def typed(command: str) -> list[str]:
    """What a reader types who has the simulated fleet."""
    words = [word for word in shlex.split(command) if word != "--simulator"]
    topic = words[0]
    known = {**FLEET, "<row>": ROWS.get(topic, ""), "<rollout>": ""}
    if "…" in words and words[:2] == ["breaker", "close"]:
        words = ["breaker", "close", API_ROW, "--opening", OPENING, "--reason", "x"]
    if "<rollout>" in words:  # without it the one that is open ends
        at = words.index("<rollout>")
        words = words[: at - 1] + words[at + 1 :]
    if topic == "page" and not {"--output", "--help"}.intersection(words):  # else it serves until a person ends it
        words = [*words, "--output", os.devnull]
    asks = topic in ASKS and words[1:2] not in (["list"], ["show"]) and not {"--yes", "--help"}.intersection(words)
    return [known.get(word, word) for word in words] + (["--yes"] if asks else [])


@pytest.mark.parametrize(("document", "command"), COMMANDS)
async def test_a_command_of_patcher_does_what_a_reader_expects(running: Stage, document: str, command: str) -> None:
    """It is understood and answered. What it wrote is taken back."""
    before, words = await rows_of(running), typed(command)
    first = BEFORE.get(words[0]) or BEFORE.get(" ".join(words[:2]))
    if first and "--help" not in words:
        names = " ".join(word for word in words[1:] if not word.startswith("--"))
        assert (await running.patcher(*shlex.split(first.format(names=names)))).code == 0
    if words[:2] in (["run", "show"], ["run", "stop"]):
        [ordered] = (await running.patcher("run", "list", "--json")).json["result"]["runs"]
        words[2] = ordered["run"]
    ended = await running.patcher(*words)
    assert ended.code in (0, 1), (document, ended)
    table = running.ledger.table
    for key, columns in (await rows_of(running)).items():
        row = await table.get("app", key)
        if row and key not in before:
            await table.delete(row)
        elif row and columns != before[key]:
            await table.replace(row, before[key])


async def test_the_documents_have_commands() -> None:
    """Otherwise nothing above is tested."""
    assert len(COMMANDS) > 40
