"""The lock files as pip reads them: requirements.txt, and one file per dependency group in locks/."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ENTRY = re.compile(r"^([^\s#].*?) \\\n((?: .*\n)+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")
WANTED_BY = re.compile(r"^ +# +(?:via )?(\S.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One version of one package."""

    requirement: Requirement  # with == and perhaps a marker
    hashes: tuple[str, ...]
    wanted_by: tuple[str, ...]  # names of packages, `image-patcher (pyproject.toml…)`, or `-c FILE`

    @property
    def name(self) -> str:
        return self.requirement.name

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    def applies(self, environment: Mapping[str, str] | None = None) -> bool:
        """Whether pip installs it: on this machine, or where the variables of the environment say otherwise."""
        marker = self.requirement.marker
        return marker is None or marker.evaluate(dict(environment or {}))


def read(path: Path) -> list[Entry]:
    return [
        Entry(Requirement(requirement), tuple(HASH.findall(rest)), tuple(WANTED_BY.findall(rest)))
        for requirement, rest in ENTRY.findall(path.read_text(encoding="utf-8"))
    ]


def versions(path: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """What pip installs from the file: version by name."""
    return {entry.name: entry.version for entry in read(path) if entry.applies(environment)}
