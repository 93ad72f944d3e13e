"""The Bicep compiler, as the tests run it: $BICEP, or bicep on the PATH.

A wrong property is a warning to it and leaves its exit status at 0, so what counts here is whether it said anything.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
INFRA = CHECKOUT / "infra"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
Json = dict[str, Any]
WHERE = {
    "tenantId": "00000000-0000-0000-0000-00000000a11e",
    "subscriptionId": SUBSCRIPTION,
    "managementGroupId": "mg-fleet",
    "location": "westeurope",
}  # as in scripts/snapshots


class Refused(Exception):
    """The compiler makes no snapshot of this."""


@dataclass(frozen=True)
class Compiler:
    """Over a copy of infra/, so that a test may change a file."""

    path: str
    folder: Path

    def evaluate(self, server: "Server", template: str, parameters: str) -> tuple[list[Json], str]:
        """The resources that a deployment with these parameters would make, and what the compiler said."""
        file = self.folder / "evaluated.bicepparam"
        file.write_text(f"using '{template}'\n{parameters}\n", encoding="utf-8")
        compiled = server.ask("compileParams", path=str(file), parameterOverrides={})["result"]
        said = _said(compiled)
        if not compiled["success"]:
            return [], said
        try:
            return server.snapshot(file)["predictedResources"], said
        except Refused as refused:
            return [], str(refused)


class Server:
    """One compiler process for many questions (`bicep jsonrpc`): a process of its own takes seconds to start."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen(
            [path, "jsonrpc", "--stdio"], env=_environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, method: str, **parameters: object) -> Json:
        """The whole answer, with "result" or "error"."""
        assert self._process.stdin
        assert self._process.stdout
        question = {"jsonrpc": "2.0", "id": 1, "method": f"bicep/{method}", "params": [parameters]}
        body = json.dumps(question).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()
        headers = message_from_bytes(b"".join(iter(self._process.stdout.readline, b"\r\n")))
        answer: Json = json.loads(self._process.stdout.read(int(headers["Content-Length"])))
        return answer

    def compiled(self, file: Path) -> tuple[Json, str]:
        """The template of a file, and what it says of it: errors, warnings and what its linter finds."""
        compiled = self.ask("compile", path=str(file))["result"]
        return json.loads(compiled.get("contents") or "{}"), _said(compiled)

    def said_of_parameters(self, file: Path) -> str:
        """What it says of a file of parameters and of its template."""
        return _said(self.ask("compileParams", path=str(file), parameterOverrides={})["result"])

    def formatted(self, file: Path) -> str:
        """The file's text as it would write it."""
        return str(self.ask("format", path=str(file))["result"]["contents"])

    def snapshot(self, file: Path) -> Json:
        """What `bicep snapshot` writes of a file of parameters. Raises Refused with what the compiler said."""
        other = "subscriptionId" if ".fleet." in file.name else "managementGroupId"
        where = {key: value for key, value in WHERE.items() if key != other}
        answer = self.ask("getSnapshot", path=str(file), metadata=where)
        if "error" in answer:
            raise Refused(answer["error"]["message"])
        snapshot: Json = json.loads(answer["result"]["snapshot"])
        return snapshot

    def stop(self) -> None:
        with self._process:  # waits, and closes both pipes
            self._process.kill()


def _said(compiled: Json) -> str:
    return "\n".join(f"{each['code']}: {each['message']}" for each in compiled["diagnostics"])


def _environ() -> dict[str, str]:
    """.NET would measure what runs often and compile it again: that takes longer than all it runs here."""
    return {**os.environ, "DOTNET_TieredCompilation": "0"}


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
