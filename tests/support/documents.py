"""The documents, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.support import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# Need what no test has: another machine, or a person's own Azure.
ELSEWHERE = ("az", "azd", "func", "gh", "pipx", "sudo", "curl", "git")


def blocks(text: str) -> Iterator[str]:
    """The lines of code blocks, fenced or indented, with continued lines joined."""
    fenced = False
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def sentences(text: str) -> Iterator[str]:
    """The code within sentences and tables."""
    yield from re.findall(r"`((?:patcher|make) [^`]+)`", re.sub(r"\n", " ", text))


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def words_of(line: str) -> list[str]:
    line = line.removeprefix("$ ")
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # prose, a table or JSON
        return line.split()


def programs_of(text: str) -> set[str]:
    """The programs elsewhere that the code blocks of a document call."""
    starts = re.compile(rf"(?:^|\$\(|[;&|] *|\bdo )({'|'.join(ELSEWHERE)}) [a-z.'\"]")
    return {found for line in blocks(text) for found in starts.findall(line.removeprefix("$ "))}
