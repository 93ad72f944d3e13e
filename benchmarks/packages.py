"""What is deployed: its size, and its import where it cannot write and its files have new times."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from functools import partial
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from benchmarks import processes
from benchmarks.rounds import in_turns
from benchmarks.sizes import Sizes
from benchmarks.table import Result, absolute, compared
from scripts import package
from simulator.tls import Tls

REQUIREMENTS = processes.REPOSITORY / "requirements.txt"
READ_ONLY = {"PYTHONDONTWRITEBYTECODE": "1"}  # for a process that may write everywhere


async def readonly_import(sizes: Sizes, tls: Tls) -> list[Result]:
    """The staged package with times of today against a copy that was imported before."""
    with tempfile.TemporaryDirectory(prefix="bench-package-") as folder:
        staged, warm = Path(folder, "staged"), Path(folder, "warm")
        _stage(staged, warm)
        run = partial(processes.run, "importing.every_room")
        rounds = await in_turns(
            sizes.noisy * sizes.rounds, lambda: run(folder=staged, environ=READ_ONLY), lambda: run(folder=warm)
        )
    return [compared("readonly_import", rounds)]


def _stage(staged: Path, warm: Path) -> None:
    """The package as it is deployed, with new times; and the same files without their bytecode."""
    package.stage(processes.REPOSITORY, staged)
    shutil.copytree(staged, warm, ignore=shutil.ignore_patterns("__pycache__"))
    for path in staged.rglob("*.py"):
        os.utime(path)


async def zip_size(sizes: Sizes, tls: Tls) -> list[Result]:
    """The app's files and those of the packages in requirements.txt that this Python has, each deflated."""
    app = sum(map(_deflated, package.deployed_files(processes.REPOSITORY)))
    brought = list(_distributions())
    packages = sum(_deflated(path) for each in brought for path in _files(each))
    note = f"{len(brought)} packages {packages / 1e6:.2f} MB, the app {app / 1e6:.2f} MB"
    return [absolute("package_zip_mb", [(app + packages) / 1e6], note=note)]


def _distributions() -> Iterator[Distribution]:
    for name in dict.fromkeys(re.findall(r"^([\w.-]+)==", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE)):
        try:
            yield distribution(name)
        except PackageNotFoundError:  # for another Python or system
            continue


def _files(brought: Distribution) -> Iterator[Path]:
    for file in brought.files or ():
        path = Path(str(brought.locate_file(file)))
        if ".." not in file.parts and file.suffix != ".pyc" and path.is_file():
            yield path


def _deflated(path: Path) -> int:
    """Bytes in a zip: the deflated content, and the two headers of its entry, 30 and 46 bytes with the name in each."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return len(deflate.compress(path.read_bytes()) + deflate.flush()) + 76 + 2 * len(path.name)
