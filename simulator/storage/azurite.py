"""Azurite, Microsoft's storage emulator, as a child process: queues, tables and blobs over TLS, by identity.

It keeps everything in memory and dies with its parent: the child reads a pipe whose other end this process holds, so
no Azurite survives a killed parent. It downloads nothing: `make setup` installs the Node packages.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import NamedTuple

from simulator.tls import Tls

_PROGRAM = Path(__file__).parents[1] / "node" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
_SERVICES = ("blob", "queue", "table")
_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at (https://\S+)")
# A line of its access log (Apache's common format); the service is not named in it.
_ACCESS = re.compile(
    r'"(?P<method>[A-Z]+) /(?P<account>\w+)/(?P<name>[\w$-]+)(?P<rest>[^ ?]*)\S* HTTP/1\.1" (?P<status>\d+)'
)
_START_SECONDS = 60
_STOP_SECONDS = 10
_ACCOUNTS = 500
_FIRST_ACCOUNT = "devstoreaccount1"

# Loaded before Azurite: ends the process when the parent closes its end of the pipe or dies.
_DIE_WITH_PARENT = (
    "process.stdin.resume(); for (const e of ['end', 'close']) process.stdin.on(e, () => process.exit(0));"
)


class AzuriteUnavailable(Exception):
    """Azurite cannot be started here. The text is one line and says what to do."""


class StorageCall(NamedTuple):
    """One request to a container, queue or table, or to the messages, blobs or rows in it."""

    name: str  # of the container, queue or table; Tables is the list of tables
    inside: bool  # it was about what is in it
    method: str
    status: int


@dataclass(frozen=True)
class StorageAccount:
    """One storage account: its name and the URLs of its three services."""

    name: str
    blob_url: str
    queue_url: str
    table_url: str

    def settings(self, connection: str = "AzureWebJobsStorage", client_id: str | None = None) -> dict[str, str]:
        """The app settings of an identity-based connection to this account."""
        values = {
            f"{connection}__blobServiceUri": self.blob_url,
            f"{connection}__queueServiceUri": self.queue_url,
            f"{connection}__tableServiceUri": self.table_url,
            f"{connection}__credential": "managedidentity",
        }
        return values | ({f"{connection}__clientId": client_id} if client_id else {})


class Azurite:
    """One running Azurite with many empty accounts.

    `start` and `stop` block; `async with` does the same beside a running loop. `fresh_account` gives an unused
    account, so tests share one process without seeing each other's queues.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._process: subprocess.Popen[str] | None = None
        self._urls: dict[str, str] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count(1)
        self._calls: Counter[tuple[str, StorageCall]] = Counter()
        self._counting = threading.Lock()

    def calls(self, account: StorageAccount) -> dict[StorageCall, int]:
        """The requests to an account so far, and how often each, as Azurite logs them (a moment later)."""
        with self._counting:
            return {call: times for (name, call), times in self._calls.items() if name == account.name}

    @property
    def account(self) -> StorageAccount:
        """The emulator's well-known account."""
        return self._account(_FIRST_ACCOUNT)

    def fresh_account(self) -> StorageAccount:
        """An account that this object has not given out before."""
        number = next(self._numbers)
        if number > _ACCOUNTS:
            raise AzuriteUnavailable(f"all {_ACCOUNTS} accounts of this Azurite are given out")
        return self._account(f"account{number}")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AzuriteUnavailable("Azurite is not started")
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until its three services listen."""
        node = _node()
        if not _PROGRAM.is_file():
            raise AzuriteUnavailable("Azurite is not installed (simulator/node/node_modules): run `make setup`")
        self._folder = tempfile.TemporaryDirectory(prefix="simulator-azurite-")
        watch = Path(self._folder.name) / "die-with-parent.cjs"
        watch.write_text(_DIE_WITH_PARENT)
        self._process = subprocess.Popen(
            self._command(node, watch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder.name,
            env=os.environ | {"AZURITE_ACCOUNTS": _accounts()},
        )
        try:
            self._wait_until_listening(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process; a second call does nothing."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def __aenter__(self) -> Azurite:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _account(self, name: str) -> StorageAccount:
        if len(self._urls) != len(_SERVICES):
            raise AzuriteUnavailable("Azurite is not started")
        return StorageAccount(name, *(f"{self._urls[service]}/{name}" for service in _SERVICES))

    def _command(self, node: str, watch: Path) -> list[str]:
        ports = [part for service in _SERVICES for part in (f"--{service}Port", "0")]
        return [
            *(node, "--no-deprecation", "--require", str(watch), str(_PROGRAM)),
            # The SDKs send a newer x-ms-version than Azurite knows.
            *("--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"),
            *("--oauth", "basic", "--cert", str(self._tls.certificate_path), "--key", str(self._tls.key_path)),
            *ports,
        ]

    def _wait_until_listening(self, process: subprocess.Popen[str]) -> None:
        lines: Queue[str] = Queue()
        # The reader goes on for the life of the process: a full pipe would stop Azurite.
        threading.Thread(target=self._pump, args=(process, lines), daemon=True).start()
        output: list[str] = []
        deadline = time.monotonic() + _START_SECONDS
        while len(self._urls) < len(_SERVICES):
            if process.poll() is not None and lines.empty():
                raise AzuriteUnavailable(f"Azurite ended with code {process.returncode}: {' '.join(output)}"[:500])
            if time.monotonic() > deadline:
                raise AzuriteUnavailable(f"Azurite does not listen after {_START_SECONDS} s: {' '.join(output)}"[:500])
            try:
                output.append(lines.get(timeout=0.2).strip())
            except Empty:
                continue
            found = _LISTENING.search(output[-1])
            if found:
                self._urls[found[1].lower()] = found[2].rstrip("/")

    def _pump(self, process: subprocess.Popen[str], lines: Queue[str]) -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if (found := _ACCESS.search(line)) is None:
                    lines.put(line)
                    continue
                call = StorageCall(found["name"], found["rest"] != "", found["method"], int(found["status"]))
                with self._counting:
                    self._calls[found["account"], call] += 1
        except ValueError:
            return  # the stream was closed by stop


def _end(process: subprocess.Popen[str]) -> None:
    # Closing the pipe ends it at once; SIGTERM would wait for the clients' idle connections.
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _node() -> str:
    beside, asked = str(Path(sys.executable).parent), os.environ.get("NODE")
    node = shutil.which(asked) if asked else shutil.which("node") or shutil.which("node", path=beside)
    if node is None:
        raise AzuriteUnavailable("Node.js is missing (PATH, or the variable NODE): install it, then run `make setup`")
    return node


def _accounts() -> str:
    key = base64.b64encode(b"no key is ever used: access is by identity").decode()
    names = [_FIRST_ACCOUNT, *(f"account{number}" for number in range(1, _ACCOUNTS + 1))]
    return ";".join(f"{name}:{key}" for name in names)
