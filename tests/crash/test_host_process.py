"""The Functions host as a process: what a signal does to an event that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from simulator.functions_host.host import MAX_WAIT_SECONDS
from simulator.functions_host.process import HostFailed, HostProcess, Order
from simulator.functions_host.webhook import PATH
from simulator.tls import Tls

_APP = """
import asyncio
import logging
from pathlib import Path

import azure.functions as func

app = func.FunctionApp()


@app.event_grid_trigger(arg_name="event")
async def on_event(event: func.EventGridEvent) -> None:
    logging.info("begun")
    folder = Path(__file__).parent
    while not (folder / "go on").exists():
        await asyncio.sleep(0.01)
    (folder / "ended").touch()
"""
_EVENT = {
    "id": "1",
    "topic": "t",
    "subject": "s",
    "eventType": "e",
    "eventTime": "2026-11-25T12:00:00Z",
    "data": {},
    "dataVersion": "1",
}


def _order(folder: Path, tls: Tls, app: str = _APP) -> Order:
    (folder / "function_app.py").write_text(app)
    (folder / "host.json").write_text('{"version": "2.0"}')
    files = (str(tls.ca_path), str(tls.certificate_path), str(tls.key_path))
    return Order(str(folder), tls.settings(), files, "key")


async def _during_an_event(host: HostProcess, tls: Tls, act: Callable[[], Awaitable[object]]) -> int:
    """Acts while the event is under way; gives the status of the answer to it, 0 when there was none."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client_context())) as session:
        url, headers = f"{host.url}{PATH}?functionName=on_event&code=key", {"aeg-event-type": "Notification"}

        async def deliver() -> int:
            try:
                async with session.post(url, json=_EVENT, headers=headers) as answer:
                    return int(answer.status)
            except aiohttp.ClientError:
                return 0

        delivery = asyncio.create_task(deliver())
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            while not host.lines:  # noqa: ASYNC110 - the app's own line says that it has begun
                await asyncio.sleep(0.01)
        await act()
        return await delivery


async def test_a_host_told_to_stop_ends_and_answers_what_runs(tmp_path: Path, tls: Tls) -> None:
    host = await HostProcess.start(_order(tmp_path, tls))

    async def terminate() -> None:
        ending = asyncio.create_task(host.terminate())
        await asyncio.sleep(0.3)
        assert not ending.done()  # it waits for the event
        (tmp_path / "go on").touch()
        await ending

    assert await _during_an_event(host, tls, terminate) == 202
    assert (tmp_path / "ended").exists()
    assert host.returncode == 0


async def test_a_killed_host_ends_and_answers_nothing(tmp_path: Path, tls: Tls) -> None:
    host = await HostProcess.start(_order(tmp_path, tls))
    assert await _during_an_event(host, tls, host.kill) == 0
    (tmp_path / "go on").touch()
    assert not (tmp_path / "ended").exists()
    assert host.returncode == -9
    assert host.lines == ["begun"]


async def test_an_app_without_functions_is_reported_at_the_start(tmp_path: Path, tls: Tls) -> None:
    with pytest.raises(HostFailed, match="no module of this name"):
        await HostProcess.start(_order(tmp_path, tls, "raise ImportError('no module of this name')"))
