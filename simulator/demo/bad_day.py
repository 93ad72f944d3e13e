"""A bad day: what the workbook and the alerts show only when something is wrong.

`python -m simulator.demo.bad_day FILE` writes its telemetry (simulator/monitor/logs.py), for the tests of both. As in
the demo the app is the real one, driven from outside only. Guests break and an operator acts on it, a service does not
answer, a malformed message is in a queue, and two releases fail: one because of a setting, one because of a missing
package.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient
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


_REPAIRED = Part("till-02", "a till with repaired patches", Expected("patched", 2, 1), _TILLS)
_WHO = "dana@contoso.com"


async def run() -> logs.Tables:
    """The telemetry of the four releases, in the order of the day."""
    async with Embedded(speed=SPEED) as embedded:
        settings = embedded.settings(**_SETTINGS)
        host = await embedded.host(settings, time_scale=HOST_SCALE)
        await embedded.subscribe(host)
        async with open_report(settings) as report:
            stage = Stage(embedded, host, report)
            await _machines_break(stage)
            await _an_operator_acts(stage)
            await _a_run_is_ordered(stage)
            await _a_message_is_malformed(embedded, host)
            await _resource_graph_is_away(stage)
            await stage.take_census()
        await host.stop()
        sent = [logs.rows_of(host)]
        sent.append(await _a_setting_is_changed(embedded, settings))
        sent.append(await _a_setting_is_wrong(embedded, settings))
        sent.append(await _a_package_is_missing(embedded, settings))
    return {table: [row for tables in sent for row in tables[table]] for table in logs.SCHEMA}


async def _machines_break(stage: Stage) -> None:
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{FLEET[0].group}"
    await stage.call("PUT", group, {"location": "westeurope"})
    for part in FLEET:
        await _create(stage, part)
    await stage.until(lambda: _lines(stage.host, "machine.held") >= len(FLEET))


async def _create(stage: Stage, part: Part) -> None:
    stage.azure.behave(part.id, part.behaviour)
    await stage.call("PUT", part.id, replace(part, region="westeurope").body())


@dataclass(frozen=True)
class _Operator:
    """Writes the ledger's rows by which people stop things and let them go on, as docs/stop.md shows them."""

    stage: Stage
    ledger: TableClient

    async def write(self, key: str, told: str, **columns: str | int | bytes) -> None:
        """Merges columns into a row, and waits until a sweep reports it."""
        before = _lines(self.stage.host, told)
        row = {"PartitionKey": "app", "RowKey": key, **columns}
        await self.ledger.upsert_entity(row, mode=UpdateMode.MERGE)
        await self.stage.until(lambda: _lines(self.stage.host, told) > before)

    async def end(self, key: str, told: str, because: str) -> None:
        ended = datetime.now(UTC).isoformat()
        await self.write(key, told, ended=ended, ended_by=_WHO, ended_because=because)


async def _an_operator_acts(stage: Stage) -> None:
    """What an operator does about the till: stops, looks, closes the breaker, lets a repaired one start a rollout."""
    opened, rollout = (_newest(stage.host, event) for event in ("breaker.opened", "rollout.opened"))
    person = identity.StaticCredential(client_id=identity.OPERATOR)
    till = FLEET[-1].id.lower()
    held = "hold-" + hashlib.sha256(f"machine {till}".encode()).hexdigest()[:24]
    async with TableClient(stage.embedded.account.table_url, "ledger", credential=person) as ledger:
        operator = _Operator(stage, ledger)
        await operator.write("pause", "app.paused", reason="patches fail on the tills", by=_WHO)
        await operator.write(
            held, "hold.placed", scope="machine", value=till, reason="its disk is being exchanged", by=_WHO
        )
        await operator.write("pause-mistyped", "stop.unreadable", scope="imge", value="tills")
        await ledger.delete_entity("app", "pause-mistyped")
        closed = {"closed_by": _WHO, "closed_because": "the patch was withdrawn"}
        await operator.write(opened["row"], "breaker.not-closed", closed="20200101T000000", **closed)
        await operator.write(opened["row"], "breaker.closed", closed=opened["opening"], **closed)
        ended = {"ended": rollout["rollout"], "ended_by": _WHO, "ended_because": "its canary is out of order"}
        await ledger.upsert_entity({"PartitionKey": "app", "RowKey": rollout["row"], **ended}, mode=UpdateMode.MERGE)
        await operator.end("pause", "app.resumed", "the patch was withdrawn")
        await operator.end(held, "hold.released", "the disk is new")
    await _create(stage, _REPAIRED)
    await stage.until(lambda: _lines(stage.host, "rollout.ended") > 0)


async def _a_run_is_ordered(stage: Stage) -> None:
    """An assessment of the repaired till and of a machine whose disk is still full: the second is not worth a wait."""
    await stage.until(lambda: "patched" in _states(stage.host, _REPAIRED))  # else the run leaves it to the app's own
    person = identity.StaticCredential(client_id=identity.OPERATOR)
    now = datetime.now(UTC)
    key = f"run-{now:%Y%m%dT%H%M}-7k2m"
    named = {SUBSCRIPTION: {_REPAIRED.group: [_REPAIRED.name, FLEET[0].name]}}
    order: dict[str, str | int | bytes] = {
        "v": 1,
        "kind": "assess",
        "machines0": zlib.compress(json.dumps(named).encode()),
        "until": (now + timedelta(hours=1)).isoformat(),
        "reason": "is the till well again?",
        "by": _WHO,
        "opened": now.isoformat(),
    }
    async with TableClient(stage.embedded.account.table_url, "ledger", credential=person) as ledger:
        operator = _Operator(stage, ledger)
        await operator.write(key, "run.opened", **order)
        await stage.until(lambda: any(each["succeeded"] for each in _told(stage.host, "run.progressed")))
        stopped = {"stopped": datetime.now(UTC).isoformat(), "stopped_by": _WHO, "stopped_because": "its disk is full"}
        await operator.write(key, "run.ended", **stopped)


async def _a_setting_is_changed(embedded: Embedded, settings: Mapping[str, str]) -> logs.Tables:
    host = await embedded.host({**settings, "PATCH_MAX_IN_FLIGHT": "7"}, time_scale=HOST_SCALE)
    await host.until(lambda: bool(_lines(host, "settings.changed")), seconds=60)
    await host.stop()
    return logs.rows_of(host)


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
    return len(_told(host, event))


def _newest(host: FunctionsHost, event: str) -> dict[str, Any]:
    """The newest log line of this event."""
    return _told(host, event)[-1]


def _states(host: FunctionsHost, part: Part) -> list[str]:
    """The states in which the journal reported the machine."""
    return [line["state"] for line in _told(host, "machine.changed") if line["machine"] == part.id.lower()]


def _told(host: FunctionsHost, event: str) -> list[dict[str, Any]]:
    """The log lines of this event, the oldest first."""
    start = f'{{"event": "{event}"'
    return [json.loads(each.message) for each in host.app_lines if each.message.startswith(start)]


if __name__ == "__main__":
    logs.write(asyncio.run(run()), Path(sys.argv[1]))
