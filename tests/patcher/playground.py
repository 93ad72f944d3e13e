"""`python -m simulator` as a person runs it: a process of its own, at a pseudo-terminal or fed by a pipe."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import REPOSITORY

MAX_SECONDS = 900.0  # far beyond what a busy machine needs


@dataclass(frozen=True)
class Ended:
    """How it ended."""

    code: int
    out: str
    err: str


def environ(config: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "NODE") if name in os.environ}
    return {**kept, "XDG_CONFIG_HOME": str(config), "TERM": "xterm-256color"}


async def run(*words: str, config: Path, module: str = "simulator", typed: str = "") -> Ended:
    """A whole run, fed by a pipe."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *words),
        cwd=REPOSITORY,
        env=environ(config),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(MAX_SECONDS):
        out, err = await process.communicate(typed.encode())
    return Ended(process.returncode or 0, out.decode(), err.decode())


@dataclass
class AtATerminal:
    """A run at a pseudo-terminal of this size."""

    process: asyncio.subprocess.Process
    descriptor: int
    config: Path
    screen: str = ""
    closed: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, pattern: str, since: int = 0) -> str:
        """What is on the screen from `since` on, once the pattern is."""
        async with asyncio.timeout(MAX_SECONDS):
            while not re.search(pattern, self.screen[since:]):
                assert not self.closed, self.screen
                self._changed.clear()
                await self._changed.wait()
        return self.screen[since:]

    async def type(self, words: str) -> str:
        """What one command shows, up to the next prompt."""
        since = len(self.screen)
        os.write(self.descriptor, f"{words}\n".encode())
        return await self.until(r"\n> $", since)

    async def patcher(self, *words: str) -> Ended:
        """The operator's tool, in another terminal."""
        return await run("--simulator", *words, config=self.config, module="patcher")

    def read(self) -> None:
        try:
            self.screen += os.read(self.descriptor, 65_536).decode().replace("\r\n", "\n")
        except OSError:  # Linux says so when the other end is closed
            self.closed = True
            asyncio.get_running_loop().remove_reader(self.descriptor)
        self._changed.set()


@asynccontextmanager
async def at_a_terminal(*words: str, config: Path, width: int, height: int) -> AsyncIterator[AtATerminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulator", *words),
        cwd=REPOSITORY,
        env=environ(config),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    terminal = AtATerminal(process, ours, config)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, terminal.read)
    try:
        yield terminal
    finally:
        loop.remove_reader(ours)
        if process.returncode is None:
            process.terminate()
        await process.wait()
        os.close(ours)
