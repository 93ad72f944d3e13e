"""scripts/package.py: exactly what is deployed, run from its own bytecode, the same bytes every time."""

import hashlib
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import pytest

from tests.package import lock_files
from tests.package.deployed import REPOSITORY, core_tools_rule, deployed_files, run


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release_package", REPOSITORY / "scripts" / "package.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


package = load()
PYTHON = f"cpython-{sys.version_info[0]}{sys.version_info[1]}"  # of these tests: their bytecode is what they can run


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target, _ = package.build_zip(REPOSITORY, tmp_path_factory.mktemp("dist"))
    return Path(target)


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder)
    return folder


def expected_names() -> set[str]:
    """What .funcignore leaves, by the port of Core Tools' own reading of it, and a module's bytecode beside it."""
    rule = core_tools_rule((REPOSITORY / ".funcignore").read_text(encoding="utf-8"))
    sources = set(deployed_files(REPOSITORY, rule))
    modules = [Path(path) for path in sources if path.endswith(".py")]
    return sources | {(path.parent / "__pycache__" / f"{path.stem}.{PYTHON}.pyc").as_posix() for path in modules}


def test_the_zip_holds_what_funcignore_leaves_and_its_bytecode(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    assert set(names) == expected_names()


def test_every_file_is_the_checkouts(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        for name in archive.namelist():
            if not name.endswith(".pyc"):
                assert archive.read(name) == (REPOSITORY / name).read_bytes(), name


def test_the_bytecode_looks_at_no_source_and_names_no_path_of_this_machine(built: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        compiled = {name: archive.read(name) for name in archive.namelist() if name.endswith(".pyc")}
    assert {struct.unpack("<4sI", content[:8])[1] for content in compiled.values()} == {0b01}  # PEP 552: unchecked hash
    assert b"functions/decisions/plan.py" in compiled[f"functions/decisions/__pycache__/plan.{PYTHON}.pyc"]
    for name, content in compiled.items():
        assert str(REPOSITORY).encode() not in content, name
        assert b"/tmp" not in content, name


def test_building_twice_gives_the_same_bytes(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    again, _ = package.build_zip(REPOSITORY, tmp_path)
    assert Path(again).read_bytes() == built.read_bytes()


def test_another_commit_gives_other_bytes(built: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for path in [*package.deployed_files(REPOSITORY), REPOSITORY / ".funcignore", REPOSITORY / "pyproject.toml"]:
        target = checkout / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (checkout / "tests").mkdir()
    (checkout / "tests" / "test_x.py").write_text("left out")
    same, _ = package.build_zip(checkout, tmp_path / "same")
    assert Path(same).read_bytes() == built.read_bytes()
    with (checkout / "functions" / "decisions" / "plan.py").open("a", encoding="utf-8") as module:
        module.write("\nONE_MORE = 1\n")
    other, _ = package.build_zip(checkout, tmp_path / "other")
    assert Path(other).read_bytes() != built.read_bytes()


def test_the_checksum_is_in_the_form_that_sha256sum_checks(built: Path) -> None:
    digest, name = built.with_name(f"{built.name}.sha256").read_text(encoding="ascii").split("  ")
    assert name == f"{built.name}\n"
    assert digest == hashlib.sha256(built.read_bytes()).hexdigest()


# Every compilation of source, wherever it is done, raises the audit event `compile` (PEP 578).
COMPILED = """
compiled = []
sys.addaudithook(lambda event, args: compiled.append(str(args[1])) if event == "compile" else None)
import function_app
from functions.cloud import arm, ledger, queries, queue, resource_graph
app = function_app.app.get_functions()
print(json.dumps([len(app), [name for name in compiled if name.startswith(folder)]]))
"""


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_the_app_is_imported_from_a_read_only_folder_without_compiling_a_line(unpacked: Path) -> None:
    before = files(unpacked)
    for path in [unpacked, *unpacked.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    ended = run(unpacked, COMPILED)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [8, []]
    assert files(unpacked) == before


def test_without_the_bytecode_every_module_is_compiled(built: Path, tmp_path: Path) -> None:
    """What the test above would see if the bytecode were missing, or of another Python."""
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if not name.endswith(".pyc")])
    count, compiled = json.loads(run(tmp_path, COMPILED).stdout)
    assert count == 8
    assert {str(tmp_path / "function_app.py"), str(tmp_path / "functions" / "policy" / "settings.py")} <= set(compiled)


# -- the version


def test_the_changelog_begins_with_the_version() -> None:
    first = re.search(r"^## (.+?), ", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first
    assert first[1] == package.version_of(REPOSITORY)


@pytest.mark.parametrize(
    ("tag", "heading", "refusal"),
    [
        pytest.param("v1.2.0", "## 1.2.0, 2026-12-01", None, id="all agree"),
        pytest.param("v1.2.1", "## 1.2.0, 2026-12-01", "expected v1.2.0", id="another tag"),
        pytest.param("1.2.0", "## 1.2.0, 2026-12-01", "expected v1.2.0", id="a tag without v"),
        pytest.param("v1.2.0", "## 1.2.0, unreleased", "expected '## 1.2.0, <date>'", id="no date yet"),
        pytest.param("v1.2.0", "## 1.1.0, 2026-12-01", "expected '## 1.2.0, <date>'", id="an old entry"),
    ],
)
def test_a_release_needs_tag_version_and_changelog_to_agree(
    tmp_path: Path, tag: str, heading: str, refusal: str | None
) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n- x\n\n## 1.0.0, 2026-01-01\n")
    if refusal is None:
        package.check_release(tmp_path, tag)
    else:
        with pytest.raises(package.Refused, match=re.escape(refusal)):
            package.check_release(tmp_path, tag)


def test_the_bytecode_is_of_the_python_that_the_deployment_runs() -> None:
    deployed = json.loads(
        (REPOSITORY / "infra" / "snapshots" / "default.main.snapshot.json").read_text(encoding="utf-8")
    )
    [site] = [each for each in deployed["predictedResources"] if each["type"] == "Microsoft.Web/sites"]
    wanted = ".".join(map(str, package.DEPLOYED_PYTHON))
    assert site["properties"]["functionAppConfig"]["runtime"] == {"name": "python", "version": wanted}


def test_another_python_than_the_deployed_one_builds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(package, "DEPLOYED_PYTHON", (3, 99))
    assert package.main(["--out", str(tmp_path / "dist")]) == 1
    assert "would never be read there" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


# -- the bill of materials


def test_the_bill_lists_what_requirements_txt_brings() -> None:
    locked = lock_files.versions(REPOSITORY / "requirements.txt")
    installed = list(map(distribution, locked))
    document = package.bill("1.2.0", "ab" * 32, installed)
    assert {component["name"]: component["version"] for component in document["components"]} == locked
    assert document["metadata"]["component"]["version"] == "1.2.0"
    for component in document["components"]:
        assert component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}" == component["bom-ref"]
    assert json.dumps(document) == json.dumps(package.bill("1.2.0", "ab" * 32, installed))


def wheel(folder: Path, name: str, version: str, licence: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: {licence}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, committed, with one requirement: a wheel on this disk, which pip really installs."""
    folder = tmp_path / "checkout"
    (folder / "scripts").mkdir(parents=True)
    source = (REPOSITORY / "scripts" / "package.py").read_text(encoding="utf-8")
    source = re.sub(r"DEPLOYED_PYTHON = \(3, \d+\)", f"DEPLOYED_PYTHON = {tuple(sys.version_info[:2])}", source)
    (folder / "scripts" / "package.py").write_text(source, encoding="utf-8")
    (folder / ".funcignore").write_text("scripts\npyproject.toml\n.*\ndist\n")
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (folder / "function_app.py").write_text("app = 1\n")
    digest = hashlib.sha256(wheel(tmp_path, "Some_Thing", "7.1", "MIT").read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"some-thing==7.1 \\\n    --hash=sha256:{digest}\n")
    (folder / ".gitignore").write_text("dist\n*.log\n__pycache__\n")
    git(folder, "init", "--quiet")
    return commit(folder)


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)


def commit(folder: Path) -> Path:
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "x")
    return folder


def release(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Runs the script without any index; pip finds the wheel beside the checkout."""
    return subprocess.run(
        [sys.executable, "scripts/package.py"],
        cwd=checkout,
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("requirement", "refusal"),
    [
        pytest.param(f"some-thing==7.1 --hash=sha256:{'0' * 64}", "HASHES", id="another file than the locked one"),
        pytest.param("some-thing==7.1", "--hash", id="a package without a hash"),
    ],
)
def test_what_the_lock_file_does_not_know_is_not_released(checkout: Path, requirement: str, refusal: str) -> None:
    (checkout / "requirements.txt").write_text(f"{requirement}\n")
    ended = release(commit(checkout))
    assert ended.returncode == 1
    assert refusal in ended.stderr
    assert not list((checkout / "dist").glob("*.cdx.json"))


CHANGED = {
    "a file that is not committed": "planted.py",
    "a committed file that was changed": "function_app.py",
    "a change that is never deployed": "scripts/package.py",
}


@pytest.mark.parametrize("name", CHANGED.values(), ids=CHANGED)
def test_a_used_tree_is_not_released(checkout: Path, name: str) -> None:
    with (checkout / name).open("a", encoding="utf-8") as file:
        file.write("\nPLANTED = 1\n")
    ended = release(checkout)
    assert ended.returncode == 1
    assert re.search(rf"not its commit.*\n.*{name}", ended.stderr), ended.stderr
    assert not (checkout / "dist").exists()


def test_what_git_ignores_is_not_released(checkout: Path) -> None:
    """Such a file does not make the tree differ, and .funcignore would let it through."""
    (checkout / "planted.log").write_text("x")
    assert release(checkout).returncode == 0
    with zipfile.ZipFile(checkout / "dist" / "image-patcher-1.2.0.zip") as archive:
        assert "planted.log" not in archive.namelist()
        assert "function_app.py" in archive.namelist()


def test_the_same_commit_is_released_as_the_same_bytes(checkout: Path) -> None:
    def bytes_of() -> dict[str, bytes]:
        assert release(checkout).returncode == 0
        return {path.name: path.read_bytes() for path in (checkout / "dist").iterdir()}

    assert bytes_of() == bytes_of()


def test_the_whole_release_from_the_command_line(checkout: Path) -> None:
    ended = release(checkout)
    assert ended.returncode == 0, ended.stderr
    names = ["image-patcher-1.2.0.cdx.json", "image-patcher-1.2.0.zip", "image-patcher-1.2.0.zip.sha256"]
    assert sorted(path.name for path in (checkout / "dist").iterdir()) == names
    document = json.loads((checkout / "dist" / names[0]).read_text(encoding="utf-8"))
    digest = hashlib.sha256((checkout / "dist" / names[1]).read_bytes()).hexdigest()
    assert document["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    purl = "pkg:pypi/some-thing@7.1"
    assert document["components"] == [
        {
            "type": "library",
            "bom-ref": purl,
            "name": "some-thing",
            "version": "7.1",
            "purl": purl,
            "licenses": [{"expression": "MIT"}],
        }
    ]
