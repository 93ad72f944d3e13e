"""Assessments started over TLS: by the app's client, and by raw aiohttp."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

from benchmarks.programs import cpu_seconds, tell
from benchmarks.programs.connected import SETTINGS, raw, real_time, session
from functions.cloud.arm import ResourceManager
from functions.model.machine import MachineId
from functions.model.state import OperationKind
from functions.policy.settings import read_settings
from tests.support import a_machine

AT_ONCE = 32
Start = Callable[[MachineId], Awaitable[object]]


def ours(endpoint: str, count: int, warm: bool) -> None:
    asyncio.run(_ours(endpoint, count, warm))


def reference(endpoint: str, count: int, warm: bool) -> None:
    asyncio.run(_reference(endpoint, count, warm))


async def _ours(endpoint: str, count: int, warm: bool) -> None:
    import azure.mgmt.compute.aio  # noqa: F401  (its import is first_event_cpu's)
    from azure.core.pipeline.transport import AioHttpTransport  # noqa: F401

    access = session(endpoint)
    compute, machine_read = ResourceManager(access), a_machine()

    async def start(machine: MachineId) -> object:
        send_by = real_time() + timedelta(minutes=1)
        return await compute.start(replace(machine_read, id=machine), OperationKind.ASSESS, order=None, send_by=send_by)

    await _measured(start, count, warm)
    await access.close()


async def _reference(endpoint: str, count: int, warm: bool) -> None:
    async with raw(endpoint) as client:

        async def start(machine: MachineId) -> object:
            query = {"api-version": read_settings(SETTINGS).compute_version}
            async with client.post(f"{machine}/assessPatches", params=query) as answer:
                assert answer.status == 202
                await answer.read()
                return answer.headers["Azure-AsyncOperation"]

        await _measured(start, count, warm)


async def _measured(start: Start, count: int, warm: bool) -> None:
    """Tells the CPU of `count` starts, of which at most 32 are under way."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            await start(MachineId(f"00000000-0000-0000-0000-{1:012x}", "rg", f"vm-{number}"))

    if warm:
        await asyncio.gather(*map(one, range(AT_ONCE)))
    before, began = cpu_seconds(), time.monotonic()
    await asyncio.gather(*map(one, range(count)))
    tell(cpu=cpu_seconds() - before, wall=time.monotonic() - began)
