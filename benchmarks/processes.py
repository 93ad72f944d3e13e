"""Runs a measured program in a fresh process and reads its numbers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
Figures = Mapping[str, float]


class ProgramFailed(Exception):
    """A measured program ended with an error. The text holds the end of its error output."""


async def run(
    program: str,
    *arguments: object,
    environ: Mapping[str, str] | None = None,
    python: str = sys.executable,
    folder: Path = REPOSITORY,
) -> dict[str, float]:
    """The figures that `program` (module.function in benchmarks.programs) tells: seconds of CPU, MB, or its own.

    `arguments` are JSON values. In another `folder` than the repository the app is the one there. Raises ProgramFailed.
    """
    module, _, function = program.partition(".")
    given = ", ".join(repr(each) for each in json.loads(json.dumps(arguments)))
    code = f"from benchmarks.programs.{module} import {function}; {function}({given})"
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", code),
        cwd=folder,
        env=_environment(environ or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise ProgramFailed(f"{program}: {errors.decode(errors='replace')[-1500:]}")
    figures: dict[str, float] = json.loads(out.decode().splitlines()[-1])
    return figures


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's, but with bytecode: a cold start in Azure finds it. No setting of the app is inherited."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith(("PATCH_", "ARM_", "AzureWebJobs", "RECONCILE_"))
    }
    return {**inherited, "PYTHONPATH": str(REPOSITORY), **changes}
