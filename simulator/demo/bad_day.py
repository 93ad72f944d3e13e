"""A bad day: what the workbook and the alerts show only when something is wrong.

`python -m simulator.demo.bad_day FILE` writes its telemetry (simulator/monitor/logs.py), for the tests of both. As in
the demo the app is the real one, driven from outside only. Guests break, a service does not answer, a malformed message
is in a queue, and two releases fail: one because of a setting, one because of a missing package.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from azure.storage.queue.aio import QueueClient

from simulator import identity
from simulator.arm.shapes import SUBSCRIPTION
from simulator.azure import Behaviour, Fault
from simulator.demo.fleet import WAITING, Expected, Part
from simulator.demo.report import open_report
from simulator.demo.stage import HOST_SCALE, SETTINGS, SPEED, Stage
from simulator.embedded import APP_FOLDER, Embedded
from simulator.functions_host import FunctionsHost
from simulator.monitor import logs

# A held machine stays held until the census at the end of the run.
_SETTINGS = {name: value for name, value in SETTINGS.items() if name != "PATCH_RETRY_MINUTES"}

_IMAGES = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-images/providers/Microsoft.Compute/galleries/golden/images"
_REPORTS = {"id": f"{_IMAGES}/reports/versions/4.2.0"}
_TILLS = {"id": f"{_IMAGES}/tills/versions/1.0.0"}
_HELD = Expected("failed", 1, 0)
_FULL = Behaviour(
    pending=WAITING, assess_status="Failed", errors=(("PACKAGE_MANAGER_FAILURE", "No space left on device"),)
)
_PATCHES_FAIL = Behaviour(pending=WAITING, install_status="Failed", failed_patches=5)
FLEET = (
    *(
        Part(f"reports-{number}", "its disk is full, like all of its image", _HELD, _REPORTS, behaviour=_FULL)
        for number in (1, 2, 3)
    ),
    Part("till-01", "its patches fail: a canary", Expected("breaker-open", 2, 1), _TILLS, behaviour=_PATCHES_FAIL),
)


async def run() -> logs.Tables:
    """The telemetry of the three releases, in the order of the day."""
    async with Embedded(speed=SPEED) as embedded:
        settings = embedded.settings(**_SETTINGS)
        host = await embedded.host(settings, time_scale=HOST_SCALE)
        await embedded.subscribe(host)
        async with open_report(settings) as report:
            stage = Stage(embedded, host, report)
            await _machines_break(stage)
            await _a_message_is_malformed(embedded, host)
            await _resource_graph_is_away(stage)
            await stage.take_census()
        await host.stop()
        sent = [logs.rows_of(host)]
        sent.append(await _a_setting_is_wrong(embedded, settings))
        sent.append(await _a_package_is_missing(embedded, settings))
    return {table: [row for tables in sent for row in tables[table]] for table in logs.SCHEMA}


async def _machines_break(stage: Stage) -> None:
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{FLEET[0].group}"
    await stage.call("PUT", group, {"location": "westeurope"})
    for part in FLEET:
        stage.azure.behave(part.id, part.behaviour)
        await stage.call("PUT", part.id, replace(part, region="westeurope").body())
    await stage.until(lambda: _lines(stage.host, "machine.held") >= len(FLEET))


async def _a_message_is_malformed(embedded: Embedded, host: FunctionsHost) -> None:
    """Not a text: the host fails to decode it five times, and the poison queue's function cannot read it either."""
    operator = identity.StaticCredential(client_id=identity.OPERATOR)
    async with QueueClient(embedded.account.queue_url, "install-requests", credential=operator) as queue:
        await queue.send_message(base64.b64encode(b"\xff\xfe").decode())
    await host.until(lambda: bool(_lines(host, "poison.found")), seconds=30)


async def _resource_graph_is_away(stage: Stage) -> None:
    """Resource Graph does not answer for three sweeps."""
    away = Fault(method="POST", path="/providers/Microsoft.ResourceGraph/", times=None, status=503)
    stage.azure.faults.add(away)
    await stage.until(lambda: _lines(stage.host, "step.failed") >= 3)
    stage.azure.faults.remove(away)


async def _a_setting_is_wrong(embedded: Embedded, settings: Mapping[str, str]) -> logs.Tables:
    host = await embedded.host({**settings, "PATCH_MODE": "instal"}, time_scale=HOST_SCALE)
    await host.until(lambda: bool(_lines(host, "settings.refused")), seconds=30)
    await host.stop()
    return logs.rows_of(host)


async def _a_package_is_missing(embedded: Embedded, settings: Mapping[str, str]) -> logs.Tables:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(APP_FOLDER / "host.json", folder)
        (Path(folder) / "function_app.py").write_text("import left_out_of_the_package\n", encoding="utf-8")
        host = FunctionsHost(Path(folder), settings, tls=embedded.tls, ingestion=embedded.deployed)
        async with host:
            return logs.rows_of(host)


def _lines(host: FunctionsHost, event: str) -> int:
    """How many log lines of this event there are."""
    return sum(trace.message.startswith(f'{{"event": "{event}"') for trace in host.app_lines)


if __name__ == "__main__":
    logs.write(asyncio.run(run()), Path(sys.argv[1]))
