"""The journal: a closed list of names, one JSON line per event, never longer than the host carries, at its level."""

import ast
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from functions import journal
from functions.model.machine import SupportState
from functions.model.state import OperationKind, State
from functions.policy.values import Mode
from tests.support import REPOSITORY, machine_id

HOST_CUTS_AT = 32_768  # UTF-16 units, as the real host was seen to do
EXAMPLE = "assessment.started"


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records]


@pytest.fixture(autouse=True)
def _levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def written(caplog: pytest.LogCaptureFixture, **fields: Any) -> dict[str, Any]:
    caplog.clear()
    journal.write(EXAMPLE, **fields)
    [line] = lines(caplog)
    return line


# -- names


def _names_in_source() -> dict[str, str]:
    """Every name given to journal.write, and where. A name that is built is read from its literal parts."""
    found: dict[str, str] = {}
    for path in [REPOSITORY / "function_app.py", *sorted((REPOSITORY / "functions").rglob("*.py"))]:
        if path.name == "journal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if _is_write(node):
                assert isinstance(node, ast.Call)
                for name in _possible_names(node.args[0], ast.parse(path.read_text())):
                    found[name] = f"{path.name}:{node.lineno}"
    return found


def _is_write(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr == "write" and isinstance(node.func.value, ast.Name) and node.func.value.id == "journal"


def _possible_names(argument: ast.expr, module: ast.Module) -> list[str]:
    if isinstance(argument, ast.Constant):
        return [str(argument.value)]
    if isinstance(argument, ast.IfExp):
        return _possible_names(argument.body, module) + _possible_names(argument.orelse, module)
    if isinstance(argument, ast.JoinedStr):  # f"{kind.noun}.queued"
        texts = [""]
        for part in argument.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            texts = [text + end for text in texts for end in _possible_names(inner, module)]
        return texts
    if isinstance(argument, ast.Name):  # name = "…" if … else "…", a few lines above
        values = [
            node.value
            for node in ast.walk(module)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == argument.id for target in node.targets)
        ]
        return [name for value in values for name in _possible_names(value, module)]
    if isinstance(argument, ast.Attribute) and argument.attr == "noun":
        return [kind.noun for kind in OperationKind]
    raise AssertionError(f"a journal name that cannot be read from the source: {ast.unparse(argument)}")


def test_every_name_used_is_in_the_list_and_every_name_of_the_list_is_used() -> None:
    used = _names_in_source()
    assert {name: place for name, place in used.items() if name not in journal.EVENTS} == {}
    assert set(journal.EVENTS) - set(used) == set()
    assert len(used) > 20


def test_names_are_constant_words_and_levels_name_existing_ones() -> None:
    assert set(journal.EVENTS) >= journal.WARNINGS | journal.ERRORS
    assert not journal.WARNINGS & journal.ERRORS
    for name, meaning in journal.EVENTS.items():
        noun, _, verb = name.partition(".")
        assert noun.isalpha()
        assert verb.replace("-", "").isalpha()
        assert name == name.lower()
        assert meaning


@pytest.mark.parametrize("name", journal.EVENTS)
def test_every_event_is_written_at_its_level(name: str, caplog: pytest.LogCaptureFixture) -> None:
    journal.write(name, machine=machine_id())
    [record] = caplog.records
    wanted = logging.ERROR if name in journal.ERRORS else logging.INFO
    assert record.levelno == (logging.WARNING if name in journal.WARNINGS else wanted)
    assert json.loads(record.getMessage()) == {"event": name, "machine": str(machine_id())}


def test_a_name_outside_the_list_is_a_programming_error(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError, match=r"unknown.event"):
        journal.write("unknown.event")
    assert not caplog.records


# -- fields

FIELDS: dict[str, tuple[Any, Any]] = {
    "text": ("größe", "größe"),
    "number": (7, 7),
    "nought": (0, 0),
    "fraction": (0.5, 0.5),
    "flag": (False, False),
    "time": (datetime(2026, 11, 25, 8, 0, 0, 999, UTC), "2026-11-25T08:00:00+00:00"),
    "span": (timedelta(minutes=1, milliseconds=5), 60.005),
    "enum of text": (SupportState.UNABLE_TO_DETERMINE, "UnableToDetermine"),
    "state": (State.PATCHED_BY_NOBODY, "patched-by-nobody"),
    "kind": (OperationKind.INSTALL, "install"),
    "enum of numbers": (Mode.INSTALL, "install"),
    "an exception": (ValueError("what went wrong"), "what went wrong"),
    "an id": (machine_id(), str(machine_id())),
    "lines": ("one\ntwo", "one two"),
    "what turns the writing around": ("a\u202eb\x1b[2Jc", "a?b?[2Jc"),
    "half a character": ("\ud800x", "?x"),
}


@pytest.mark.parametrize(("value", "shown"), FIELDS.values(), ids=FIELDS)
def test_fields(value: Any, shown: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert written(caplog, field=value) == {"event": EXAMPLE, "field": shown}
    assert type(written(caplog, field=value)["field"]) is type(shown)


@pytest.mark.parametrize("field", ["owner", "by", "stopped_by"])
def test_only_who_is_named_on_purpose_is_named_by_an_address(field: str, caplog: pytest.LogCaptureFixture) -> None:
    """PATCH_OWNER_TAG names an owner, and a person who pauses may sign; a guest's words name no one on purpose."""
    fields = {field: "jane@contoso.example", "reason": "jane@contoso.example asked"}
    assert written(caplog, **fields) == {"event": EXAMPLE, field: "jane@contoso.example", "reason": "… asked"}
    assert written(caplog, owner="password=x") == {"event": EXAMPLE, "owner": "password=…"}


def test_empty_fields_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert written(caplog, none=None, empty="", nought=0, no=False) == {"event": EXAMPLE, "nought": 0, "no": False}


def test_an_event_is_one_line_whatever_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    journal.write(EXAMPLE, text='a\r\nb"c\u2028d\x00')
    assert len(caplog.records[0].getMessage().split("\n")) == 1


# -- length

GIANTS: dict[str, dict[str, Any]] = {
    "one text": {"text": "x" * 1_000_000},
    "many texts": {f"field_{number}": "x" * 5_000 for number in range(40)},
    "control characters, six times their length": {f"field_{number}": "\x00" * 5_000 for number in range(40)},
    "quotes, twice their length": {f"field_{number}": '"' * 5_000 for number in range(40)},
    "characters of two units": {f"field_{number}": "😀" * 5_000 for number in range(18)},
    "lists": {"ids": [str(machine_id())] * 1_000},
}


def test_a_long_field_keeps_its_beginning(caplog: pytest.LogCaptureFixture) -> None:
    line = written(caplog, fits="x" * 2000, cut="y" * 2001)
    assert line["fits"] == "x" * 2000
    assert line["cut"] == "y" * 1999 + "…"


@pytest.mark.parametrize("fields", GIANTS.values(), ids=GIANTS)
def test_giant_fields_still_make_one_line_of_json(fields: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    line = written(caplog, machine=machine_id(), **fields)
    text = caplog.records[0].getMessage()
    assert len(text.encode("utf-16-le")) // 2 < HOST_CUTS_AT
    assert set(line) - {"shortened"} == {"event", "machine", *fields}
    assert line["event"] == EXAMPLE
    assert all(line[name] for name in fields)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda n: n != "event"), st.text()))
def test_any_text_makes_one_line_of_json(caplog: pytest.LogCaptureFixture, fields: dict[str, str]) -> None:
    line = written(caplog, **fields)
    assert set(line) == {"event"} | {name for name, value in fields.items() if value}
    caplog.records[0].getMessage().encode()
