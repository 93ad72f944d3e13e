"""What every fuzz test holds to: which calls may leave, what a journal line may be, what an
installation may ask for.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from functions.journal import MAX_LINE
from tests.fuzz.malformed_azure import WatchedAzure
from tests.fuzz.mangling import SECRET
from tests.support import OPERATION, an_arm_machine
from tests.support.examples import a_share

GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
GROUP = rf"/subscriptions/{GUID}/resourcegroups/[\w().-]+"  # look-alikes of the fixed parts are none: re.ASCII
MACHINE = rf"{GROUP}/providers/microsoft\.compute/virtualmachines/[\w.-]+"
OPERATION_PATH = rf"/subscriptions/{GUID}/providers/microsoft\.compute/locations/\w+/operations/{GUID}"
QUERY, FORM = r"[!-\"$-~]*", re.IGNORECASE | re.ASCII
# Everything that the app may ever call, by method.
CALLS = [
    ("GET", re.compile(rf"https://management\.azure\.com(?:{MACHINE}|{GROUP})\?{QUERY}", FORM)),
    ("GET", re.compile(rf"https://management\.azure\.com{OPERATION_PATH}\?{QUERY}", FORM)),
    ("POST", re.compile(rf"https://management\.azure\.com{MACHINE}/(?:assess|install)Patches\?{QUERY}", FORM)),
    (
        "POST",
        re.compile(rf"https://management\.azure\.com/providers/Microsoft\.ResourceGraph/resources\?{QUERY}", FORM),
    ),
]


VM = an_arm_machine()["id"]
OPERATION_FORM = re.compile(
    r"https://management\.azure\.com/subscriptions/[0-9a-f-]{36}/providers/microsoft\.compute/locations/[a-z0-9_]+"
    rf"/operations/{OPERATION}(\?[!-\"$-~]*)?",
    re.IGNORECASE | re.ASCII,
)

whole_run = a_share(5)  # an example is a whole run of the app: a second


class Lines(logging.Handler):
    """The journal of one run."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def journal_lines() -> Iterator[list[str]]:
    """The lines that are written meanwhile."""
    lines, journal = Lines(), logging.getLogger("journal")
    journal.addHandler(lines)
    journal.setLevel(logging.INFO)
    try:
        yield lines.texts
    finally:
        journal.removeHandler(lines)


def check(watched: WatchedAzure, lines: list[str]) -> None:
    for method, url in watched.calls:
        assert any(method == allowed and form.fullmatch(url) for allowed, form in CALLS), (method, url)
    for line in lines:
        assert len(line.encode("utf-16-le")) // 2 <= MAX_LINE
        assert isinstance(json.loads(line, parse_constant=no_json), dict)
        assert SECRET not in line
    assert not any(SECRET in str(error) for error in watched.world.errors)
    for (path, order), at in orders(watched):
        if path.lower().endswith("/installpatches"):
            assert_no_wider(order)
            closes = watched.world.settings.window.closes(at) if watched.world.settings.window else None
            assert closes is not None, "outside the window"
            assert at + duration(order["maximumDuration"]) <= closes, "longer than the window is open"


def no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def duration(text: str) -> timedelta:
    match = re.fullmatch(r"PT(\d+)H(?:(\d+)M)?", text)
    assert match, text
    return timedelta(hours=int(match[1]), minutes=int(match[2] or 0))


def assert_no_wider(order: Any) -> None:
    parameters = order["linuxParameters"]
    assert set(parameters["classificationsToInclude"]) <= {"Critical", "Security"}
    assert "packageNameMasksToInclude" not in parameters
    assert order["rebootSetting"] in ("IfRequired", "Never")
    assert re.fullmatch(r"PT[0-2]H(\d+M)?", order["maximumDuration"])


def orders(watched: WatchedAzure) -> list[tuple[tuple[str, Any], datetime]]:
    return list(zip(watched.orders, watched.ordered_at, strict=True))


def machines_of(watched: WatchedAzure, action: str) -> set[str]:
    paths = [path.lower().split("/") for path, _ in watched.orders]
    return {parts[-2] for parts in paths if parts[-1] == action.lower()}


def is_clear(text: str) -> None:
    """What an exception or a refusal may say: one short line without what is secret."""
    assert text.isprintable()
    assert SECRET not in text
    assert len(text) < 700


def has_no_defect(lines: list[str]) -> None:
    """A step that failed by a defect of ours names the place of it."""
    assert not [line for line in lines if "step.failed" in line and "Error at " in line]
