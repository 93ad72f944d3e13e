"""The documents say what the code does: every setting, tag and state, and nothing else; every link leads somewhere."""

import re
from pathlib import Path

import pytest

from functions import journal
from functions.model.state import State
from functions.policy.settings import SETTINGS
from functions.policy.tags import TAGS
from scripts import settings_page
from tests.support import documents

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
PRESENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]  # that one names what is gone, too


def rows(document: str) -> dict[str, list[str]]:
    """The table rows of a document by the code in their first cell."""
    lines = (ROOT / "docs" / document).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_page_of_settings_is_up_to_date() -> None:
    """Otherwise: `python -m scripts.settings_page`."""
    page = settings_page.PAGE.read_text(encoding="utf-8")
    assert settings_page.filled(page) == page


def test_every_setting_and_tag_has_its_row_and_nothing_else_has() -> None:
    documented = {name for name in rows("settings.md") if name.startswith(("PATCH_", "patch-", "ARM_", "RECONCILE_"))}
    assert documented == {setting.name for setting in SETTINGS} | {tag.name for tag in TAGS}
    assert all(all(cells) for cells in rows("settings.md").values())


def test_exactly_the_states_that_exist_are_documented() -> None:
    assert set(rows("states.md")) == {state.value for state in State}
    assert all(meaning and remedy for meaning, remedy in rows("states.md").values())


@pytest.mark.parametrize("actions", sorted((ROOT / "infra").glob("*-actions.json")), ids=lambda path: path.name)
def test_security_tells_every_right_that_the_role_may_have(actions: Path) -> None:
    assert f"(infra/{actions.name})" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#\s]*)(#[^)]+)?\)", document.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not heading or heading in documents.anchors(path), heading


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_make_target_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    folders = r"(?:infra|functions|scripts|docs|tests|simulator|\.github)/[\w./-]*\w"
    for path in re.findall(rf"(?<![\w/.]){folders}", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)) <= targets


@pytest.mark.parametrize("document", PRESENT, ids=lambda path: path.name)
def test_every_setting_state_and_event_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    variables = re.findall(r"\$\{(\w+)", (ROOT / "infra/main.parameters.json").read_text(encoding="utf-8"))
    settings = {setting.name for setting in SETTINGS} | {*variables, "PATCH_CHECKS", "PATCH_PARAMETERS"}
    assert set(re.findall(r"\b(?:PATCH|RECONCILE|ARM)_[A-Z_]+\b", text)) <= settings
    events = set(re.findall(r"`([a-z]+\.[a-z]+)`", text)) - {"host.json"}
    known = {name for name in events if name.split(".")[1] not in ("md", "py", "txt", "json", "kql", "yaml")}
    assert known <= set(journal.EVENTS)


def test_a_reader_is_through_with_the_readme_in_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 600


def test_the_index_names_every_document_once() -> None:
    links = re.findall(r"\]\(([\w-]+\.md)(?:#[^)]+)?\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    assert set(links) == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("document", documents.DOCUMENTS, ids=lambda path: path.name)
def test_a_document_says_what_its_commands_need(document: Path) -> None:
    """Those of `patcher` are run in tests/patcher/test_documents.py. No test can run those of another program."""
    text = document.read_text(encoding="utf-8")
    said = re.search(r"^Its commands need: (.+)\.$", text, re.MULTILINE)
    told = set(re.findall(r"`([a-z]+)`", said[1])) if said else set()
    assert documents.programs_of(text) == told & set(documents.ELSEWHERE)
