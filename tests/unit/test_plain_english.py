"""Words that code, documents, deployment and messages avoid, each with the plain one (CONTRIBUTING.md, Words).

Every text file of the repository is read but for recordings and what is generated. A phrase is found over the end of a
line too, and in the names of tests. This file has the words as its data, so it is left out.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support import REPOSITORY

# Regular expression → what to write. A space stands for any gap between two words; what `fine` matches may stay.
WORDS = {
    "(somebody|someone|anybody|everybody|whoever)": "the actor: the operator, the owner, Azure, another process",
    # The state patched-by-nobody and the column value "nobody", with the panels of that name, are queried: they stay.
    r"(?P<fine>patched.by.|rows: |[\"'](?=nobody(-list)?[\"']))?(?-i:[Nn]obody)": "no machine, no operator, no process",
    "(is|are|was|were|be|been|being|last|never) told": "is notified, is reported, receives, learns",
    "(tells?|told) (of|about)": "notifies of, reports",
    "happenings?": "event, occurs",
    "anew": "again, re-created",
    "mend(s|ed|ing)?": "fix, correct",
    "puts? (it |them )?right": "fix, correct",
    "for ever": "indefinitely, always",
    "(comes?|came|coming) again": "is redelivered, is repeated, returns",
    "(takes?|taken|took) up": "resume, begin",
    "looked at": "checked, read",
    "roads?": "path, way",
    "heed(s|ed|ing)?": "respect, follow",
    "spoken for": "fully allocated",
    "to be had": "available",
    "(comes?|came) to nothing": "fails, has no effect",
    "(un)?lawful": "valid, invalid",
    "for want of": "for lack of",
    "in vain": "without effect",
    r"(?P<fine>there )?(is|are|was|were) no (?!longer\b|more\b)\w+": "is not a",
    "(?P<fine>front )?doors?": "client, connection",  # a proxy is a front door
    r"(one|two|\d+) (rows?|lines?|messages?|calls?|queries) an? (machine|image|row|event|group|sweep)": "per",
}
GENERATED = (
    "requirements.txt",
    "infra/results/alerts.json",
    "infra/results/workbook.json",
    "infra/snapshots/",
    "locks/",
    "tests/recordings/",
)
IGNORED = [".git", *(line.rstrip("/") for line in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").split())]
# Between two words may lie the end of a line, with the mark of a comment on the next one.
GAP = r"\s+(?:(?:#|//|--|\*)\s+)?"
RULES = [(re.compile(words.replace(" ", GAP), re.IGNORECASE), plain) for words, plain in WORDS.items()]
ANY = re.compile(  # one pass over a text instead of one for each rule
    rf"(?<!\w)(?:{'|'.join(rule.pattern.replace('?P<fine>', '?:') for rule, _ in RULES)})(?!\w)", re.IGNORECASE
)


def texts(folder: Path = REPOSITORY) -> Iterator[tuple[str, str]]:
    """Where each text file is, and what it holds, without what git ignores."""
    for path in sorted(folder.iterdir()):
        place = path.relative_to(REPOSITORY).as_posix()
        if any(fnmatch(path.name, name) or place == name for name in IGNORED) or place.startswith(GENERATED):
            continue
        if path.is_dir():
            yield from texts(path)
        elif path != Path(__file__):
            with suppress(UnicodeDecodeError):  # a picture, or what is compressed
                yield place, path.read_text(encoding="utf-8")


def found_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, words and plain words of each find. An underscore counts as a space, so that names are read, too."""
    spaced = text.replace("_", " ")
    for match in ANY.finditer(spaced):
        found, plain = next((found, plain) for rule, plain in RULES if (found := rule.match(spaced, match.start())))
        if not found.groupdict().get("fine"):
            yield spaced.count("\n", 0, match.start()) + 1, " ".join(match.group().split()), plain


def test_the_words_are_plain() -> None:
    finds = [f"{place}:{line}: {words!r}: {plain}" for place, text in texts() for line, words, plain in found_in(text)]
    assert not finds, "\n".join(["words with a plainer one:", *finds])


FINDS = {
    "one word": ("Somebody else did it.", [(1, "Somebody")]),
    "over the end of a line": ("a\nb is\ntold", [(2, "is told")]),
    "over two lines of a comment": ("x = 1  # it is\n# told", [(1, "is # told")]),
    "in a name": ("def test_the_owner_is_told() -> None:", [(1, "is told")]),
    "is no": ("A text is no number; there\n# is no answer, and it is no longer so.", [(1, "is no number")]),
    "a part of a word": ("amended, outdoors, unlawfully, broadest", []),
    "at the start of a text": ('"nobody waits"', [(1, "nobody")]),
    "the name of a state": ("`patched-by-nobody`, State.PATCHED_BY_NOBODY, patchers == 'nobody'", []),
}


@pytest.mark.parametrize(("text", "finds"), FINDS.values(), ids=FINDS)
def test_what_is_found(text: str, finds: list[tuple[int, str]]) -> None:
    assert [(line, words) for line, words, _ in found_in(text)] == finds
