"""The parts together, as `python -m simulator` runs them: a machine made by plain HTTPS, patched by the real app."""

from __future__ import annotations

import shlex
from typing import Any

import aiohttp
import pytest

from simulator import shapes
from simulator.__main__ import arguments, introduction
from simulator.azure import Azure, overlaps
from simulator.azurite import Azurite
from simulator.everything import WATCHING, azure_alone, everything
from simulator.identity import API_VERSION, ARM
from simulator.server import behaviour_of
from simulator.tls import Tls
from tests.contract.simulator_stand import Clock

VM = shapes.machine_id("web-01")


async def token(http: Any, endpoint: str, header: str) -> str:
    params = {"api-version": API_VERSION, "resource": ARM}
    async with http.get(f"{endpoint}/msi/token", params=params, headers={"X-IDENTITY-HEADER": header}) as answer:
        assert answer.status == 200
        return str((await answer.json())["access_token"])


async def test_a_machine_made_by_hand_is_assessed_and_patched_by_the_app(tls: Tls, azurite: Azurite) -> None:
    settings = {**WATCHING, "RECONCILE_SCHEDULE": "* * * * * *"}
    async with (
        everything(speed=600, tls=tls, settings=settings, storage=azurite.fresh_account()) as stage,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client_context())) as http,
    ):
        assert stage.host is not None
        assert stage.host.error is None
        bearer = {"Authorization": f"Bearer {await token(http, stage.endpoint, stage.managed_identity.header)}"}
        for path, body in ((VM.split("/providers/")[0], {"location": "westus"}), (VM, shapes.machine())):
            url = f"{stage.endpoint}{path}?api-version=2024-11-01"
            async with http.put(url, json=body, headers=bearer) as answer:
                assert answer.status == 201

        def patched() -> bool:
            return [(each.kind, each.status) for each in stage.azure.operations] == [
                ("assess", "Succeeded"),
                ("install", "Succeeded"),
                ("assess", "Succeeded"),
            ]

        await stage.host.until(patched, seconds=60)
        assert stage.grid is not None
        assert [attempt.status for attempt in stage.grid.attempts] == [202]
        assert {each.machine for each in stage.azure.operations} == {VM}
        assert overlaps(stage.azure.operations) == []


async def test_the_introduction_names_what_runs() -> None:
    async with azure_alone(speed=10) as stage:
        lines = introduction(stage).splitlines()
    commands = [line for line in lines if line.startswith("  curl")]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)
        assert any(word.startswith(stage.endpoint) for word in words)
    assert f"  ARM_ENDPOINT={stage.endpoint}" in lines
    assert arguments(["--speed", "5", "--port", "0"]).speed == 5.0


async def test_the_driver_sets_guests_and_shows_operations(tls: Tls) -> None:
    async with (
        azure_alone(speed=600, tls=tls) as stage,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls.client_context())) as http,
    ):
        driver = f"{stage.endpoint}/simulator"
        stage.azure.create_machine(VM, shapes.machine())
        async with http.put(f"{driver}/behaviours/web-01", json={"pending": {"security": 7}}) as answer:
            assert answer.status == 204
        async with http.put(f"{driver}/behaviours/web-01", json={"no_such": 1}) as answer:
            assert answer.status == 400
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
    with pytest.raises(LookupError, match="0 machines are called nobody"):
        Azure(Clock()).machine("nobody")
