"""The Bicep compiler, as the tests run it: $BICEP, or bicep on the PATH.

A wrong property is a warning to it and leaves its exit status at 0, so what counts here is whether it said anything.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
INFRA = CHECKOUT / "infra"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
_TENANT = "00000000-0000-0000-0000-00000000a11e"
_LINK = re.compile(r" \[https://\S+\]$")


@dataclass(frozen=True)
class Compiler:
    """Runs in a copy of infra/, so that what it writes stays out of the checkout."""

    path: str
    folder: Path

    def run(self, *arguments: str) -> str:
        """What it said about the files: nothing, when all is well."""
        done = subprocess.run([self.path, *arguments], cwd=self.folder, text=True, capture_output=True, check=False)
        lines = [_LINK.sub("", line).replace(f"{self.folder}/", "") for line in done.stderr.splitlines() if line]
        if done.returncode and not lines:
            lines = [f"exit status {done.returncode}"]
        return "\n".join(sorted(set(lines)))

    def lint(self, file: str) -> str:
        return self.run("lint", "--no-restore", file)

    def evaluate(self, template: str, parameters: str) -> tuple[list[dict[str, Any]], str]:
        """The resources that a deployment with these parameters would make, and what the compiler said."""
        file = self.folder / "evaluated.bicepparam"
        file.write_text(f"using '{template}'\n{parameters}\n", encoding="utf-8")
        result = file.with_name("evaluated.snapshot.json")
        result.unlink(missing_ok=True)
        where = ("--subscription-id", SUBSCRIPTION, "--tenant-id", _TENANT, "--location", "westeurope")
        said = self.run("snapshot", file.name, "--mode", "overwrite", *where)
        file.unlink()
        return (json.loads(result.read_text(encoding="utf-8"))["predictedResources"] if result.exists() else []), said


def find() -> str | None:
    return os.environ.get("BICEP") or shutil.which("bicep")


def copy(path: str, folder: Path, changes: Mapping[str, tuple[str, str]] | None = None) -> Compiler:
    """A compiler over a copy of infra/, in which a text of some files is another one."""
    shutil.copytree(INFRA, folder, dirs_exist_ok=True)
    for name, (old, new) in (changes or {}).items():
        text = (folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old} stands {text.count(old)} times in {name}"
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    return Compiler(path, folder)
