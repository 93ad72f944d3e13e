"""The parts together, as `python -m simulator` runs them: a machine made by plain HTTPS, patched by the real app."""

from __future__ import annotations

import asyncio
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator import identity
from simulator.__main__ import READY_AT_ONCE, WATCHING, arguments, introduction, run_the_app, serve_a_host_elsewhere
from simulator.arm import shapes
from simulator.azure import Azure, overlaps
from simulator.deployment import PLATFORM
from simulator.embedded import APP_FOLDER, Embedded
from simulator.event_grid.handshake import HandshakeFailed
from simulator.functions_host import elsewhere
from simulator.functions_host.process import HostProcess, Order
from simulator.server import behaviour_of
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.simulator_client import Clock

VM = shapes.machine_id("web-01")
PATCHED_ONCE = ["assess", "install", "assess"]
MAX_SECONDS = 900.0  # far beyond what a busy machine needs


def client(tls: Tls) -> Any:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client_context()))


async def test_a_machine_made_by_hand_is_assessed_and_patched_by_the_app(tls: Tls, azurite: Azurite) -> None:
    async with Embedded(600, timings=READY_AT_ONCE, tls=tls, azurite=azurite) as stage, client(tls) as http:
        await run_the_app(stage, 600, RECONCILE_SCHEDULE="* * * * * *")
        (host,) = stage.hosts
        assert host.error is None
        endpoint = stage.endpoint
        async with http.get(f"{endpoint}/simulator/token") as answer:
            bearer = {"Authorization": f"Bearer {await answer.text()}"}
        for path, body in ((VM.split("/providers/")[0], {"location": "westus"}), (VM, shapes.machine())):
            url = f"{endpoint}{path}?api-version=2024-11-01"
            async with http.put(url, json=body, headers=bearer) as answer:
                assert answer.status == 201

        def patched() -> bool:
            return [(each.kind, each.status) for each in stage.azure.operations] == [
                ("assess", "Succeeded"),
                ("install", "Succeeded"),
                ("assess", "Succeeded"),
            ]

        await host.until(patched, seconds=MAX_SECONDS)
        assert [attempt.status for attempt in stage.event_grid.attempts] == [202]
        assert {each.machine for each in stage.azure.operations} == {VM}
        assert overlaps(stage.azure.operations) == []


async def test_a_host_that_ended_is_started_again_where_event_grid_finds_it(tls: Tls, azurite: Azurite) -> None:
    async with Embedded(600, timings=READY_AT_ONCE, tls=tls, azurite=azurite) as stage:
        await run_the_app(stage, 600)
        (first,) = stage.hosts
        await first.kill()
        async with asyncio.timeout(MAX_SECONDS):
            while len(stage.hosts) < 2 or not stage.hosts[1].url:  # noqa: ASYNC110  (nothing signals it)
                await asyncio.sleep(0.05)
        second = stage.hosts[1]
        assert (second.event_url, second.system_key) == (first.event_url, first.system_key)
        stage.azure.create_machine(VM, shapes.machine())
        await second.until(
            lambda: any(each.status == "Succeeded" for each in stage.azure.operations), seconds=MAX_SECONDS
        )
        assert 202 in [attempt.status for attempt in stage.event_grid.attempts]


@pytest.mark.parametrize("asks", [[], ["--handshake"]])
async def test_a_host_of_another_process_runs_the_whole_main_job(
    tls: Tls, azurite: Azurite, tmp_path: Path, asks: list[str]
) -> None:
    """As `func start` would: it reads the file that was written, and Event Grid finds it by its address and key."""
    files = (str(tls.ca_path), str(tls.certificate_path), str(tls.key_path))
    settings = tmp_path / "local.settings.json"
    async with Embedded(600, timings=READY_AT_ONCE, tls=tls, azurite=azurite) as stage:
        sweeping = {**WATCHING, "RECONCILE_SCHEDULE": "* * * * * *", "PATCH_READY_MINUTES": "0.01"}
        elsewhere.write_local_settings(settings, stage.settings(**sweeping))
        values = json.loads(settings.read_text())["Values"]
        host = await HostProcess.start(Order(str(APP_FOLDER), values, files, "the key", time_scale=0.1))
        try:
            options = arguments(["--host", host.url, "--key", "the key", "--settings", str(settings), *asks])
            await serve_a_host_elsewhere(stage, options)
            for path, body in ((VM.split("/providers/")[0], {"location": "westus"}), (VM, shapes.machine())):
                assert (await stage.arm("PUT", path, body)).status == 201
            async with asyncio.timeout(MAX_SECONDS):
                while [each.kind for each in stage.azure.operations if each.status == "Succeeded"] != PATCHED_ONCE:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert {attempt.status for attempt in stage.event_grid.attempts} == {202}
            assert stage.hosts == []
        finally:
            await host.kill()


async def test_a_host_that_refuses_the_key_gets_no_event(tls: Tls, azurite: Azurite, tmp_path: Path) -> None:
    async with Embedded(timings=READY_AT_ONCE, tls=tls, azurite=azurite) as stage:
        host = await stage.host(stage.settings(**WATCHING))
        wrong = elsewhere.at(host.url, "another key", ["on_machine_written"])
        with pytest.raises(HandshakeFailed, match="401"):
            await stage.subscribe(wrong, handshake=True)


def test_a_settings_file_of_another_program_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "local.settings.json"
    elsewhere.write_local_settings(path, {"A": "1", "APPLICATIONINSIGHTS_CONNECTION_STRING": "IngestionEndpoint=…"})
    assert json.loads(path.read_text())["Values"] == {"FUNCTIONS_WORKER_RUNTIME": "python", "A": "1"}
    elsewhere.write_local_settings(path, {"A": "2"})
    assert json.loads(path.read_text())["Values"]["A"] == "2"
    path.write_text('{"Values": {"MINE": "1"}}')
    with pytest.raises(FileExistsError, match="--settings"):
        elsewhere.write_local_settings(path, {})
    assert "MINE" in path.read_text()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:7071"):
        elsewhere.at("localhost", "", [])


def test_a_host_needs_the_storage_of_the_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--host", "http://127.0.0.1:7071", "--azure-only"])
    assert "choose one" in capsys.readouterr().err


async def test_the_app_gets_the_settings_of_the_deployment_and_the_short_list_of_the_platform(
    tls: Tls, azurite: Azurite
) -> None:
    async with Embedded(tls=tls, azurite=azurite) as stage:
        settings, deployed = stage.settings(), stage.deployed.plan.site.settings
        assert settings.keys() - deployed.keys() == set(PLATFORM)
        assert {name: settings[name] for name in deployed} == deployed
        assert deployed["AzureWebJobsStorage__tableServiceUri"] == f"{stage.account.table_url}/"
        assert deployed["AzureWebJobsStorage__clientId"] == identity.CLIENT_ID


async def test_the_identity_endpoint_knows_the_identity_of_the_deployment_and_no_other(
    tls: Tls, azurite: Azurite
) -> None:
    async with Embedded(tls=tls, azurite=azurite) as stage:
        base = {"api-version": identity.API_VERSION, "resource": identity.ARM}
        headers = {"X-IDENTITY-HEADER": stage.identity.header}
        statuses = {
            name: stage.identity.answer(base | asked, headers).status
            for name, asked in {
                "the deployment's": {"client_id": identity.CLIENT_ID},
                "another": {"client_id": identity.OPERATOR},
                "system-assigned": {},
            }.items()
        }
    assert statuses == {"the deployment's": 200, "another": 400, "system-assigned": 400}


async def test_the_introduction_names_what_runs(tls: Tls, azurite: Azurite) -> None:
    async with Embedded(10, deployment=None, tls=tls) as stage:
        alone = introduction(stage).splitlines()
        endpoint = stage.endpoint
    commands = [line for line in alone if line.strip().startswith(("curl", "TOKEN="))]
    assert len(commands) == 7
    for command in commands:
        assert any(endpoint in word for word in shlex.split(command))
    assert f"  ARM_ENDPOINT={endpoint}" in alone
    assert arguments(["--speed", "5", "--port", "0"]).speed == 5.0

    async with Embedded(10, tls=tls, azurite=azurite) as stage:
        await run_the_app(stage, 10)
        lines = introduction(stage).splitlines()
    assert "deployment       default (main, events), of infra/snapshots" in lines
    (heading,) = [line for line in lines if line.startswith("App settings")]
    assert heading.rpartition(": ")[2].split(", ") == list(WATCHING)


async def test_the_driver_sets_guests_and_shows_operations(tls: Tls) -> None:
    never_created = replace(READY_AT_ONCE, create_seconds=1e6)
    async with Embedded(600, deployment=None, timings=never_created, tls=tls) as stage, client(tls) as http:
        driver = f"{stage.endpoint}/simulator"
        stage.azure.create_machine(VM, shapes.machine())
        async with http.put(f"{driver}/behaviours/web-01", json={"pending": {"security": 7}}) as answer:
            assert answer.status == 204
        async with http.put(f"{driver}/behaviours/web-01", json={"no_such": 1}) as answer:
            assert answer.status == 400
        async with http.put(f"{driver}/assignments/weekly", json={"scope": VM, "filter": {}}) as answer:
            assert (answer.status, [each.scope for each in stage.azure.world.assignments]) == (204, [VM])
        async with http.put(f"{driver}/assignments/weekly", json={"scope": "web-01"}) as answer:
            assert answer.status == 400
        async with http.post(f"{driver}/runs", json={"configuration": "of no one"}) as answer:
            assert answer.status == 400
        configuration = f"{VM.split('/providers/')[0]}/providers/Microsoft.Maintenance/maintenanceConfigurations/weekly"
        assert (await stage.arm("PUT", configuration, {"location": "westus", "properties": {}})).status == 201
        async with http.post(f"{driver}/runs", json={"configuration": configuration}) as answer:
            assert (answer.status, (await answer.json())["operations"]) == (201, 0)
        async with http.post(f"{driver}/operations", json={"machine": "web-01", "kind": "assess"}) as answer:
            assert answer.status == 409, "still creating"
        async with http.post(f"{driver}/operations", json={"machine": "web-09", "kind": "assess"}) as answer:
            assert answer.status == 400
        async with http.get(f"{driver}/operations") as answer:
            assert await answer.json() == []
        async with http.get(f"{driver}/events") as answer:
            assert (await answer.json())[0]["subject"] == VM.split("/providers/")[0]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param({"supportstate": "x"}, "unknown: supportstate", id="a name misspelt"),
        pytest.param({"refuse": "nope"}, "refuse is one of", id="no such refusal"),
    ],
)
def test_a_wrong_behaviour_is_explained(body: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        behaviour_of(body)


def test_a_machine_of_no_known_name_does_not_pass_silently() -> None:
    with pytest.raises(LookupError, match="0 machines are called absent"):
        Azure(Clock()).machine("absent")
