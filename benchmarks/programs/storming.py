"""Events that all arrive at once, in one process, through the app's own function."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from statistics import median

import azure.functions as func

import function_app
from benchmarks.programs import cpu_seconds, tell
from benchmarks.programs.connected import real_time, services
from functions.cloud.event_grid import OPERATIONS, RESOURCE_WRITE_SUCCESS
from tests.support import SUBSCRIPTION


def storm(endpoint: str, events: int) -> None:
    """Tells `median` and `last`: seconds from the arrival of all to the end of each; and `cpu` of all."""
    asyncio.run(_storm(endpoint, events))


async def _storm(endpoint: str, events: int) -> None:
    given = services(endpoint, real_time)
    function_app._services = lambda: given  # type: ignore[assignment]
    function = next(
        each.get_user_function()
        for each in function_app.app.get_functions()
        if each.get_function_name() == "on_machine_written"
    )
    await function(_event(-1))  # imports and connections
    latencies: list[float] = []

    async def one(number: int) -> None:
        await function(_event(number))
        latencies.append(time.monotonic() - began)

    before, began = cpu_seconds(), time.monotonic()
    await asyncio.gather(*map(one, range(events)))
    tell(cpu=cpu_seconds() - before, median=median(latencies), last=max(latencies))


def _event(number: int) -> func.EventGridEvent:
    machine = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm-{number}"
    return func.EventGridEvent(
        id=str(number),
        data={"operationName": OPERATIONS[RESOURCE_WRITE_SUCCESS], "resourceUri": machine},
        topic=f"/subscriptions/{SUBSCRIPTION}",
        subject=machine,
        event_type=RESOURCE_WRITE_SUCCESS,
        event_time=datetime.now(UTC),
        data_version="2",
    )
