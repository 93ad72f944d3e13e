"""The simulator with one fleet, as every test of the tool sees it, and the tool as a person runs it.

The fleet has one machine for each thing that a command has to tell apart. Azure runs so much faster that assessments
are over at once; the window opens three days from now, so that no row depends on the day of the test.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from functions.cloud.ledger import Ledger
from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.model.image_record import Failure, ImageRecord, Tally
from functions.model.machine import MachineId
from functions.model.record import Flight, History
from functions.model.state import Cause, OperationKind, Phase, State, Wait
from functions.policy.settings import read_settings
from patcher import commands
from simulator import identity
from simulator.__main__ import READY_AT_ONCE, WATCHING, told_to_patcher
from simulator.arm import shapes
from simulator.azure import Behaviour
from simulator.embedded import Embedded
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.support import REPOSITORY, a_record

SPEED = 10_000
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
OPENS = f"{NOW + 3 * DAY:%a}"
SETTINGS: Mapping[str, str] = {
    **WATCHING,
    "PATCH_WINDOW": f"{OPENS} 22:00-23:00 Europe/Paris",
    "PATCH_BAKE_MINUTES": "60",
    "PATCH_MAX_PER_IMAGE": "2",
    "PATCH_SLA_DAYS": "Critical 7, Security 30; owner shop: Critical 3, Security 14",
    "PATCH_CREATED_AFTER": "always",
}
WEB = str((shapes.IMAGES["gallery"] or {})["id"]).lower()
API = WEB.replace("/web/", "/api/")
PATCHES = {"critical": 1, "security": 4}
SHOP = {"owner": "shop"}

# name → body, what its guest does. All are assessed but the last two.
FLEET: Mapping[str, tuple[dict[str, Any], Behaviour]] = {
    **{f"web-0{n}": (shapes.machine(tags=SHOP), Behaviour(pending=PATCHES)) for n in (1, 2, 3, 4)},
    "win-01": (shapes.machine("managed-image", "Windows", tags=SHOP), Behaviour(pending=PATCHES)),
    "done-01": (shapes.machine("specialized"), Behaviour(pending={})),
    "past-01": (shapes.machine("specialized"), Behaviour(pending=PATCHES)),
    "fail-01": (shapes.machine("specialized"), Behaviour(pending={"critical": 1}, install_status="Failed")),
    "old-01": (shapes.machine("shared-gallery"), Behaviour(support_state="Unsupported")),
    "busy-01": (shapes.machine(reference={"id": API}), Behaviour(pending=PATCHES)),
    "held-01": (shapes.machine(reference={"id": API}), Behaviour(pending=PATCHES)),
    "off-01": (shapes.machine(), Behaviour(pending=PATCHES)),
    "lab-01": (shapes.machine(tags={"patch-mode": "off"}), Behaviour()),
    "typo-01": (shapes.machine(tags={"patch-windw": "any"}), Behaviour()),
    "shelf-01": (shapes.machine("marketplace"), Behaviour()),
}
Rows = dict[str, dict[str, Any]]
NOT_ASSESSED = ("lab-01", "typo-01", "shelf-01")


def machine(name: str, group: str = "rg-prod") -> MachineId:
    return MachineId.parse(shapes.machine_id(name, group))


@dataclass(frozen=True)
class Ended:
    """How the tool ended: exit code, stdout and stderr, or of a pseudo-terminal all that was on the screen as `out`."""

    code: int
    out: str
    err: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Stage:
    """The running simulator, and a folder of configuration that is this test's own."""

    embedded: Embedded
    ledger: Ledger
    config: Path
    rows_at_first: list[tuple[str, str, str]]  # of the whole ledger: keys and ETags
    operations_at_first: int

    async def patcher(self, *words: str, simulator: bool = True) -> Ended:
        """The whole tool, in a thread of this process: a process of its own costs a second for its imports."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = await asyncio.to_thread(commands.main, [*(["--simulator"] if simulator else []), *words])
        return Ended(code, out.getvalue(), err.getvalue())

    async def in_a_process(self, *words: str, simulator: bool = True, **environ: str) -> Ended:
        """The tool in a process of its own, without a terminal."""
        process = await self.started(*words, simulator=simulator, **environ)
        out, err = await process.communicate()
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def started(self, *words: str, simulator: bool = True, **environ: str) -> asyncio.subprocess.Process:
        """The same, while it goes on. Ctrl-C ends it, also where the process of the tests ignores that."""
        return await asyncio.create_subprocess_exec(
            *self._command(words, simulator),
            cwd=REPOSITORY,
            env=self._environ(environ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    async def on_a_terminal(self, *words: str, typed: str = "", **environ: str) -> Ended:
        """The tool with a pseudo-terminal for input, output and errors. `typed`: what a person types."""
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *self._command(words, simulator=True),
            cwd=REPOSITORY,
            env=self._environ({"TERM": "xterm-256color", "COLUMNS": "140", "LINES": "60", **environ}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = await asyncio.to_thread(_read_all, ours)
        return Ended(await process.wait(), seen)

    @contextmanager
    def settings(self, **changes: str) -> Iterator[None]:
        """Inside the block the app has these settings; "" takes one away."""
        path = self.config / "image-patcher" / "simulator.json"
        before = path.read_text(encoding="utf-8")
        told = json.loads(before)
        path.write_text(json.dumps(told | {"settings": told["settings"] | changes}), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")

    def _command(self, words: tuple[str, ...], simulator: bool) -> list[str]:
        return [sys.executable, "-m", "patcher", *(["--simulator"] if simulator else []), *words]

    def _environ(self, changes: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {**kept, "XDG_CONFIG_HOME": str(self.config), **changes}


def _read_all(descriptor: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


@asynccontextmanager
async def staged(tls: Tls, azurite: Azurite, config: Path) -> AsyncIterator[Stage]:
    os.environ["XDG_CONFIG_HOME"], before = str(config), os.environ.get("XDG_CONFIG_HOME")
    async with Embedded(SPEED, timings=READY_AT_ONCE, tls=tls, azurite=azurite) as embedded:
        settings = embedded.settings(**SETTINGS)
        session = Session(
            read_settings(settings),
            lambda: datetime.now(UTC),
            credential=identity.StaticCredential(client_id=identity.OPERATOR),
        )
        try:
            ledger = Ledger(StorageTable(session))
            await _create_fleet(embedded)
            await _write_ledger(ledger, embedded)
            rows = [(row.partition, row.key, row.etag) async for row in ledger.table.scan()]
            stage = Stage(embedded, ledger, config, rows, len(embedded.azure.operations))
            async with told_to_patcher(embedded, settings):
                yield stage
        finally:
            await session.close()
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before


async def rows_of(stage: Stage) -> Rows:
    """The app's own rows by their RowKey."""
    return {row.key: dict(row.columns) async for row in stage.ledger.table.keys("app", "")}


@asynccontextmanager
async def restored(stage: Stage) -> AsyncIterator[Stage]:
    """After the block the app's own rows are as they were before."""
    before = await rows_of(stage)
    yield stage
    for key in (await rows_of(stage)).keys() - before.keys():
        row = await stage.ledger.table.get("app", key)
        assert row is not None
        await stage.ledger.table.delete(row)
    for key, columns in before.items():
        row = await stage.ledger.table.get("app", key)
        assert row is not None
        if row.columns != columns:
            await stage.ledger.table.replace(row, columns)


async def _create_fleet(embedded: Embedded) -> None:
    azure = embedded.azure
    for name, (body, behaviour) in FLEET.items():
        azure.behave(name, behaviour)
        azure.create_machine(shapes.machine_id(name), body)
    azure.create_machine(shapes.machine_id("web-01", "rg-test"), shapes.machine("none"))
    await asyncio.sleep(0.2)
    for name in FLEET.keys() - set(NOT_ASSESSED):
        azure.start_operation(shapes.machine_id(name), "assess")
    await asyncio.sleep(0.2)
    azure.start_operation("off-01", "deallocate")
    for name in ("past-01", "fail-01"):
        azure.start_operation(name, "install")
    await asyncio.sleep(0.2)


async def _write_ledger(ledger: Ledger, embedded: Embedded) -> None:
    """What the app would have written: an installation under way, a failed one, a rollout, an open breaker."""
    base = {"image": API, "region": "westus", "kind": OperationKind.INSTALL}
    begun = Flight(NOW - timedelta(minutes=5), operation_id="op-1", started_at=NOW - timedelta(minutes=5))
    busy = a_record(machine=machine("busy-01"), vm_id=embedded.azure.machine("busy-01").vm_id, **base)
    await ledger.insert(replace(busy, phase=Phase.RUNNING, flight=begun))
    failed = Wait(State.FAILED, "2 patches failed: libssl3", "Free disk space.", NOW + DAY, Cause.OWNER)
    held = a_record(machine=machine("held-01"), vm_id=embedded.azure.machine("held-01").vm_id, **base)
    await ledger.insert(replace(held, phase=Phase.HELD, hold=failed, history=History(failures=1, attempts=1)))
    subscription = f"subscription {shapes.SUBSCRIPTION}"
    rollout = ImageRecord(WEB, subscription, opened=NOW - DAY, canaries=1, proved=NOW - DAY)
    rollout = replace(rollout, rings={1000: Tally(succeeded=1, opened=NOW - DAY, last=NOW - DAY)})
    await ledger.put_image(await ledger.image(WEB, subscription), rollout)
    broken = ImageRecord(API, subscription, opened=NOW - DAY, opening="20261125T081500", opened_because="3 of 4 failed")
    broken = replace(broken, failures=(Failure(NOW - DAY, "a"),))
    await ledger.put_image(await ledger.image(API, subscription), broken)
