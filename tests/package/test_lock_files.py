"""The lock files agree with pyproject.toml and with each other. Read from the text alone; `make lock` writes them."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.package import lock_files
from tests.package.deployed import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
DEPLOYED = PYPROJECT["project"]["dependencies"]
GROUPS = PYPROJECT["dependency-groups"]
# file → the lists of pyproject.toml that it holds
FILES = {
    "requirements.txt": DEPLOYED,
    "locks/dev.txt": DEPLOYED + GROUPS["dev"],
    "locks/worker.txt": DEPLOYED + GROUPS["worker"],
    **{f"locks/{group}.txt": GROUPS[group] for group in ("scan", "node", "tools")},
}
PYTHONS = ("3.11", "3.12", "3.13")
NEWEST_ONLY = {"locks/worker.txt"}  # Microsoft's worker needs it
HERE = re.compile(r"image-patcher \(pyproject\.toml(?::\w+)?\)")  # how a lock file names the lists

every_file = pytest.mark.parametrize("file", FILES)


def environment(python: str) -> dict[str, str]:
    return {"python_version": python, "python_full_version": f"{python}.9"}


def test_each_group_has_a_lock_file() -> None:
    assert {f"locks/{group}.txt" for group in GROUPS} | {"requirements.txt"} == set(FILES)
    assert {path.stem for path in (REPOSITORY / "locks").iterdir()} == set(GROUPS)


@pytest.mark.parametrize(
    ("file", "python"),
    [(file, python) for file in FILES for python in (PYTHONS[-1:] if file in NEWEST_ONLY else PYTHONS)],
)
def test_a_lock_file_has_the_versions_that_pyproject_asks_for(file: str, python: str) -> None:
    locked = lock_files.versions(REPOSITORY / file, environment(python))
    for requirement in map(Requirement, FILES[file]):
        if not requirement.marker or requirement.marker.evaluate(environment(python)):
            assert requirement.specifier.contains(locked[requirement.name]), requirement


@every_file
def test_a_lock_file_has_nothing_that_nothing_asks_for(file: str) -> None:
    entries = lock_files.read(REPOSITORY / file)
    names = {entry.name for entry in entries}
    direct = {entry.name for entry in entries if any(map(HERE.fullmatch, entry.wanted_by))}
    assert direct == {Requirement(line).name for line in FILES[file]}
    for entry in entries:
        others = {each for each in entry.wanted_by if not HERE.fullmatch(each) and not each.startswith("-c ")}
        assert others - {"via"} <= names, entry.name
        assert entry.name in direct or others - {"via"}, entry.name


@every_file
def test_every_package_has_one_version_and_hashes(file: str) -> None:
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    entries = lock_files.read(REPOSITORY / file)
    assert len(entries) == text.count("\n    # via")  # the reader skips none
    for entry in entries:
        assert re.fullmatch(r"==[^,*]+", str(entry.requirement.specifier)), entry.name
        assert entry.hashes, entry.name
    for python in PYTHONS:
        names = [entry.name for entry in entries if entry.applies(environment(python))]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("file", ["locks/dev.txt", "locks/worker.txt"])
def test_the_tests_run_the_versions_that_are_deployed(file: str) -> None:
    deployed = lock_files.versions(REPOSITORY / "requirements.txt", environment(PYTHONS[-1]))
    assert deployed.items() <= lock_files.versions(REPOSITORY / file, environment(PYTHONS[-1])).items()


@every_file
def test_a_lock_file_names_no_registry_and_no_path_and_sets_no_option(file: str) -> None:
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.findall(r"^-|\s/|@ ", text, re.MULTILINE)
