"""The documents for contributors name what exists: paths, links, make targets, modules and settings; and the map names
every room.

Read from the text alone. Only ARCHITECTURE.md has a greatest length: people read it in one go or not at all.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import REPOSITORY

MAP = REPOSITORY / "ARCHITECTURE.md"
MAX_MAP_LINES = 150  # lines
SIGNPOSTS = [
    MAP,
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "tests" / "README.md",
    *sorted((REPOSITORY / "docs" / "adr").glob("*.md")),
]
DECISIONS = [path for path in SIGNPOSTS if re.match(r"\d{4}-", path.name)]
HEADINGS = ["Status", "Context", "Decision", "Consequences", "Alternatives considered", "Sources"]
# A path of this repository, whole: not the end of an address or of a path elsewhere.
PATH = re.compile(r"(?<![\w/.-])(?:functions|simulator|tests|infra|scripts|docs|\.github)/[\w./-]*\w")

on_every_signpost = pytest.mark.parametrize(
    "signpost", SIGNPOSTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix()
)


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def rooms(root: str) -> Iterator[str]:
    """The folders in a folder of the repository, without those that hold nothing but bytecode of a former one."""
    for folder in sorted((REPOSITORY / root).iterdir()):
        if folder.is_dir() and any(path.is_file() and "__pycache__" not in path.parts for path in folder.rglob("*")):
            yield f"{root}/{folder.name}/"


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_map() -> list[tuple[str, list[str]]]:
    """Each row of the code map: its folder, and the names that its last column says are in there."""
    rows = re.findall(r"^\| `(\w+(?:/\w+)*/)`[^|]*\|[^|]*\| ([^|]*) \|$", text_of(MAP), re.MULTILINE)
    return [(folder, re.findall(r"`([^`]+)`", names)) for folder, names in rows]


def test_the_map_is_short() -> None:
    assert len(text_of(MAP).splitlines()) <= MAX_MAP_LINES


@pytest.mark.parametrize("room", [*rooms("functions"), *rooms("tests")])
def test_every_room_is_on_the_map(room: str) -> None:
    assert f"`{room}`" in text_of(MAP) or any(
        f"{folder}{name}" == room for folder, names in code_map() for name in names
    )


@pytest.mark.parametrize("room", [*rooms("simulator"), *rooms("infra")])
def test_every_service_and_part_of_the_deployment_is_on_the_map(room: str) -> None:
    assert any(f"{folder}{name}" == room for folder, names in code_map() for name in names)


def test_every_file_of_the_app_is_on_the_map() -> None:
    known = {f"{folder}{name}" for folder, names in code_map() for name in names}
    files = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "functions").glob("*/*.py")}
    assert sorted(file for file in files - known if not file.endswith("__init__.py")) == []


def test_what_the_map_says_is_in_a_folder_is_there() -> None:
    assert {"functions/steps/", "simulator/", "tests/", "infra/"} <= {folder for folder, _ in code_map()}
    missing = [
        f"{folder}{name}" for folder, names in code_map() for name in names if not (REPOSITORY / folder / name).exists()
    ]
    assert missing == []


@on_every_signpost
def test_every_path_exists(signpost: Path) -> None:
    assert [path for path in PATH.findall(text_of(signpost)) if not (REPOSITORY / path).exists()] == []


@on_every_signpost
def test_every_link_leads_somewhere(signpost: Path) -> None:
    broken = []
    for target, heading in re.findall(r"\]\((?!https://)([^)#\s]*)(?:#([^)]+))?\)", text_of(signpost)):
        path = signpost.parent / target if target else signpost
        if not path.exists() or (heading and heading not in anchors(path)):
            broken.append(f"{target}#{heading}" if heading else target)
    assert broken == []


@on_every_signpost
def test_every_make_target_exists(signpost: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(REPOSITORY / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", text_of(signpost), re.MULTILINE)) <= targets


@on_every_signpost
def test_every_module_that_is_run_exists(signpost: Path) -> None:
    ours = re.findall(r"-m ((?:tests|simulator|scripts)[\w.]*\w)", text_of(signpost))
    places = [REPOSITORY.joinpath(*module.split(".")) for module in ours]
    assert [
        str(place) for place in places if not (place / "__main__.py").exists() and not place.with_suffix(".py").exists()
    ] == []


@on_every_signpost
def test_every_setting_is_documented(signpost: Path) -> None:
    documented = text_of(REPOSITORY / "docs" / "settings.md")
    for name in re.findall(r"\b(?:PATCH|RECONCILE|ARM)_[A-Z_]+\b", text_of(signpost)):
        assert f"`{name}`" in documented, name


@on_every_signpost
def test_every_row_of_a_table_has_as_many_cells_as_its_head(signpost: Path) -> None:
    """GitHub drops the cells that are too many, without a word."""
    width = 0
    for line in text_of(signpost).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1 if line.lstrip().startswith("|") else 0
        assert not width or not cells or cells == width, line
        width = cells


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_parts_and_stands_in_the_list(decision: Path) -> None:
    assert re.findall(r"^## (.+)$", text_of(decision), re.MULTILINE) == HEADINGS
    assert text_of(decision).startswith(f"# {decision.stem[:4]}: ")
    assert f"({decision.name})" in text_of(decision.parent / "README.md")


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [path.stem[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]
