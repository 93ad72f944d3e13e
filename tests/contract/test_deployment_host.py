"""What the Functions host notes of its settings, and what it sends where Application Insights keeps nothing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import EVENT, Harness

PLAIN = """
import os
import azure.functions as func

AT_IMPORT = os.environ.get("READ_AT_IMPORT")
app = func.FunctionApp()

@app.event_grid_trigger(arg_name="event")
async def on_event(event) -> None:
    if "READ_IN_A_FUNCTION" in os.environ:
        raise ValueError("told")
"""


@pytest.fixture
async def app(tmp_path: Path) -> Path:
    (tmp_path / "host.json").write_text(json.dumps({"version": "2.0"}))
    (tmp_path / "function_app.py").write_text(PLAIN)
    return tmp_path


async def test_the_settings_that_were_read_are_known(tls: Tls, azurite: Azurite, app: Path) -> None:
    names = ("READ_AT_IMPORT", "READ_IN_A_FUNCTION", "READ_NOWHERE", "READ_OUTSIDE")
    async with Harness(tls, azurite.fresh_account(), app) as harness:
        host = await harness.host(harness.settings(**dict.fromkeys(names, "x")), app=app)
        assert os.environ["READ_OUTSIDE"] == "x"
        assert host.settings.read & set(names) == {"READ_AT_IMPORT"}
        await harness.post(host, [EVENT])
        assert host.settings.read & set(names) == {"READ_AT_IMPORT", "READ_IN_A_FUNCTION"}
        assert set(names) < set(host.settings), "a name that was read need not be set, one that is set need not be read"


@dataclass
class Insights:
    """Application Insights that says this of every host."""

    says: str

    def refusal(self, connection_string: str, authentication: str) -> str:
        return f"{self.says} {connection_string} {authentication}".strip() if self.says else ""


@pytest.mark.parametrize(("says", "kept"), [("", 1), ("no", 0)])
async def test_where_telemetry_is_refused_nothing_is_kept(
    tls: Tls, azurite: Azurite, app: Path, says: str, kept: int
) -> None:
    given = {"APPLICATIONINSIGHTS_CONNECTION_STRING": "c", "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "a"}
    async with Harness(tls, azurite.fresh_account(), app) as harness:
        settings = harness.settings(READ_IN_A_FUNCTION="x", **given)
        host = await harness.host(settings, app=app, ingestion=Insights(says))
        assert (await harness.post(host, [EVENT])).status == 500
        assert host.telemetry_refused == (f"{says} c a" if says else "")
        assert (len(host.traces) > 0, len(host.exceptions) > 0) == (bool(kept), bool(kept))
        assert [invocation.ok for invocation in host.invocations] == [False], "what happened happened all the same"
