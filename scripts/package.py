"""Builds what a release is: the zip that is deployed, its SHA-256, and an SBOM of what requirements.txt lists.

The zip holds exactly the files that .funcignore does not exclude, plus bytecode beside each module, so that a cold
start compiles nothing. Only one minor version of Python reads its bytecode, so this script runs on the deployed version
and refuses others. The bytecode is marked `unchecked-hash` (PEP 552): Python checks neither time nor source when it
loads the bytecode, and unpacking, which changes times, cannot make it stale. So code and bytecode are always shipped
together.

It packs the commit and not the work tree, so what ran in the tree before cannot change a release. It refuses a tree
that differs from its commit, because the zip would then hold older text than the tree shows.

The same commit produces the same bytes: times, modes and order are fixed, hashes are unseeded, and nothing is
compressed, because zlib's output differs between versions and the whole zip is under a megabyte.

The zip holds requirements.txt and not the packages: Azure's build installs them, and pip takes only files whose hashes
stand there. The SBOM (CycloneDX 1.6, JSON) is read from what pip installs for this Python in the same way. It is
written here, because a generator would bring some twenty packages into the one place that must stay easy to audit.
"""

import argparse
import fnmatch
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
DEPLOYED_PYTHON = (3, 13)  # the runtime version of the function app in infra/; a test holds the two together
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can store


class Refused(Exception):
    """Nothing is built; the text says what to correct."""


# -- contents


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE).stdout


def unpack_commit(root: Path, folder: Path) -> None:
    """Unpacks the files of the commit that is checked out. Raises Refused if the work tree differs from it."""
    if changes := _git(root, "status", "--porcelain", "--untracked-files=all").decode().rstrip():
        raise Refused(f"the work tree is not its commit; commit or remove these first:\n{changes}")
    with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", "--format=tar", "HEAD"))) as archive:
        archive.extractall(folder, filter="data")


def deployed_files(root: Path) -> Iterator[Path]:
    """The files that .funcignore does not exclude. It has plain names only, which exclude at every depth."""
    lines = (line.strip() for line in (root / ".funcignore").read_text(encoding="utf-8").splitlines())
    names = [line.removeprefix("**/") for line in lines if line and not line.startswith("#")]

    def walk(folder: Path) -> Iterator[Path]:
        for entry in sorted(folder.iterdir()):
            if any(fnmatch.fnmatchcase(entry.name, name) for name in names):
                continue
            if entry.is_dir():
                yield from walk(entry)
            else:
                yield entry

    return walk(root)


def stage(root: Path, folder: Path) -> None:
    """Copies the files into the folder and compiles them there."""
    for path in deployed_files(root):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    # -s: the bytecode names no path of this machine. Only a separate process can have unseeded hashes.
    compiling = [sys.executable, "-m", "compileall", "-q", "-f", "-j", "1", "-s", str(folder)]
    subprocess.run(
        [*compiling, "--invalidation-mode", "unchecked-hash", str(folder)],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": ""},
        check=True,
    )


def write_zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EARLIEST)
            entry.create_system = 3  # Unix, on whatever system this runs
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())


# -- the SBOM


def bill(version: str, digest: str, installed: list[Distribution]) -> dict[str, Any]:
    """A CycloneDX document, without time and serial number, which are optional in the format."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "image-patcher",
                "name": "image-patcher",
                "version": version,
                "licenses": [{"license": {"id": "MIT"}}],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        },
        "components": sorted(map(_component, installed), key=lambda component: component["purl"]),
    }


def _component(distribution: Distribution) -> dict[str, Any]:
    name = distribution.name.lower().replace("_", "-").replace(".", "-")  # as package URLs spell PyPI names
    purl = f"pkg:pypi/{name}@{distribution.version}"
    component = {"type": "library", "bom-ref": purl, "name": name, "version": distribution.version, "purl": purl}
    return component | {"licenses": licences} if (licences := _licences(distribution)) else component


def _licences(distribution: Distribution) -> list[dict[str, Any]]:
    """The licence that the package declares: an SPDX expression, or an older field if it holds a name, not a text."""
    metadata = distribution.metadata
    if expressions := metadata.get_all("License-Expression", []):
        return [{"expression": expressions[0]}]
    return [{"license": {"name": name}} for name in metadata.get_all("License", []) if "\n" not in name]


def install(requirements: Path, folder: Path) -> list[Distribution]:
    """Installs what requirements.txt lists for this Python, and nothing else, into an empty folder.

    Raises CalledProcessError if a hash differs, or if a package needs another one that is not listed.
    """
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--only-binary", ":all:"]
    locked = ["--require-hashes", "-r", str(requirements)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(folder), *locked], check=True)
    return list(distributions(path=[str(folder)]))


# -- the release


def version_of(root: Path) -> str:
    """pyproject.toml is the only place that states the version."""
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def check_release(root: Path, tag: str) -> None:
    """A release is tagged with its version, and its changelog entry has a date instead of `unreleased`."""
    version = version_of(root)
    if tag != f"v{version}":
        raise Refused(f"the tag is {tag}, pyproject.toml says {version}: expected v{version}")
    lines = (root / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    newest = next((line for line in lines if line.startswith("## ")), "")
    if not newest.startswith(f"## {version},") or "unreleased" in newest:
        raise Refused(f"CHANGELOG.md begins with {newest!r}: expected '## {version}, <date>'")


def build_zip(root: Path, out: Path) -> tuple[Path, str]:
    """Builds the zip and its .sha256 file. Returns the path and the digest of the zip."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"image-patcher-{version_of(root)}.zip"
    with tempfile.TemporaryDirectory() as folder:
        stage(root, Path(folder))
        write_zip(Path(folder), target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    target.with_name(f"{target.name}.sha256").write_text(f"{digest}  {target.name}\n", encoding="ascii")
    return target, digest


def build(root: Path, out: Path) -> list[Path]:
    """Builds all files of a release."""
    target, digest = build_zip(root, out)
    with tempfile.TemporaryDirectory() as folder:
        installed = install(root / "requirements.txt", Path(folder))
        document = json.dumps(bill(version_of(root), digest, installed), indent=2)
    sbom = target.with_suffix(".cdx.json")
    sbom.write_text(f"{document}\n", encoding="utf-8")
    return [target, target.with_name(f"{target.name}.sha256"), sbom]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Builds the deployed zip, its SHA-256 and its SBOM.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist")
    parser.add_argument("--release", metavar="TAG", help="refuse unless this tag and the changelog match the version")
    options = parser.parse_args(arguments)
    try:
        if sys.version_info[:2] != DEPLOYED_PYTHON:
            wanted, found = (".".join(map(str, pair)) for pair in (DEPLOYED_PYTHON, sys.version_info[:2]))
            raise Refused(f"the app runs on Python {wanted}; bytecode of {found} would never be read there")
        with tempfile.TemporaryDirectory() as folder:
            unpack_commit(REPOSITORY, Path(folder))
            if options.release:
                check_release(Path(folder), options.release)
            for path in build(Path(folder), options.out):
                sys.stdout.write(f"{path}  {path.stat().st_size:,} bytes\n")
    except (Refused, subprocess.CalledProcessError) as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
