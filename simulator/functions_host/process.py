"""A Functions host as a process of its own, so that a signal can kill it with nothing finished.

`HostProcess` is the parent's handle, `run` the child. The child reads its configuration as one line of JSON from
standard input. The first line that it prints is where it listens; every further line is one that the app logs in a
function. SIGTERM lets running functions finish, as the platform does when it scales in. A closed standard input ends
it at once, so that no host outlives the process that started it. A program that must act before the app is loaded calls
`read_order` and `run` itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from simulator.functions_host.host import FunctionsHost
from simulator.functions_host.telemetry import Trace
from simulator.tls import Tls

_CHECK_SECONDS = 0.05  # how often the child checks whether its host has stopped itself
_PARENT_GONE = 3
_CHECKOUT = Path(__file__).parents[2]
_LINE_BYTES = 1024 * 1024


class HostFailed(Exception):
    """The process ended before it listened, or its app has no functions. The text is the last line that it printed."""


@dataclass(frozen=True)
class Order:
    """The child's configuration. `more` is for the program that runs it."""

    app_folder: str
    settings: Mapping[str, str]
    tls: tuple[str, str, str]  # paths of the authority's certificate, the server's, and its key
    system_key: str
    time_scale: float = 1.0
    more: Mapping[str, Any] = field(default_factory=dict)


# -- the child


def read_order() -> Order:
    return Order(**json.loads(sys.stdin.readline()))


def run(order: Order) -> NoReturn:
    """Runs the host until SIGTERM. Exit code 0: it ended in good order; 1: it stopped itself."""
    asyncio.run(_run(order))
    raise AssertionError("the process has ended by now")


async def _run(order: Order) -> NoReturn:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(sys.stdin.fileno(), _end_with_parent)
    tls = Tls(*(Path(path) for path in order.tls))
    host = FunctionsHost(
        Path(order.app_folder), order.settings, tls=tls, time_scale=order.time_scale, timeout_scale=1.0
    )
    host.system_key = order.system_key
    host.telemetry.traces = _Printed()
    async with host:
        functions = [state.name for state in host.functions.values() if state.listening]
        _print_json({"url": host.url, "functions": functions, "error": host.error})
        while host.serving and not stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _CHECK_SECONDS)
    unfinished = [invocation.function for invocation in host.invocations if invocation.ended is None]
    in_order = stopping.is_set() and not unfinished
    if not in_order:
        print(f"the host is {host.state}: {host.error}; unfinished: {unfinished}", file=sys.stderr, flush=True)
    os._exit(0 if in_order else 1)  # open connections of the app end with the process, without warnings


def _end_with_parent() -> None:
    if not os.read(sys.stdin.fileno(), 1):
        os._exit(_PARENT_GONE)


class _Printed(list[Trace]):
    """Prints each line at once, so that what was logged before a kill is known after it."""

    def append(self, trace: Trace) -> None:
        super().append(trace)
        if trace.category.endswith(".User"):
            print(trace.message, flush=True)


def _print_json(what: Mapping[str, Any]) -> None:
    print(json.dumps(what), flush=True)


# -- the parent


class HostProcess:
    """One running host. `lines` has what its app logged so far; `returncode` is None while it lives."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, order: Order, program: str = "simulator.functions_host.process") -> HostProcess:
        """Starts `program`, a module, and waits until it listens. Raises HostFailed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", program),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_CHECKOUT,
            env={**os.environ, **order.settings},  # in its own environment: certificates are read while it starts
            limit=_LINE_BYTES,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            first = await process.stdout.readline()
            started = json.loads(first) if first else {"error": f"it ended with {await process.wait()}"}
            if started["error"]:
                raise HostFailed(str(started["error"]))
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return cls(process, started["url"])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def kill(self) -> None:
        """SIGKILL, and wait for its end. A host that has ended stays as it is."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM, and wait for its end. The exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, sent: signal.Signals) -> int:
        with suppress(ProcessLookupError):
            self._process.send_signal(sent)
        code = await self._process.wait()
        await self._reading
        return code

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip("\n"))


if __name__ == "__main__":
    run(read_order())
