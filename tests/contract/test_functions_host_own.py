"""What the host offers beyond the recording, for tests of crashes and of several instances."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from simulator.functions_host import FunctionsHost, HostGone, Invocation, UnsupportedBinding
from simulator.functions_host.environment import AppSettings, Environment
from simulator.functions_host.settings import (
    HostJsonError,
    SettingError,
    parse_time_span,
    read_host_json,
    resolve_names,
    service_address,
)
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.contract.functions_host_harness import (
    APP,
    EVENT,
    Harness,
    attempts,
    entries,
    eventually,
    gate,
    length,
    put,
    visible,
)


@pytest.fixture
async def harness(tls: Tls, azurite: Azurite, tmp_path: Path) -> AsyncIterator[Harness]:
    async with Harness(tls, azurite.fresh_account(), tmp_path) as harness:
        yield harness


def _doing(**what: Any) -> dict[str, Any]:
    return {**EVENT, "data": what}


async def test_a_killed_host_runs_no_further_line_and_keeps_its_message(harness: Harness) -> None:
    queue = await harness.queue()
    await put(queue, {"until": "after the kill"})
    host = await harness.host()
    posting = asyncio.create_task(harness.post(host, [_doing(until="after the kill")]))
    await host.until(lambda: bool(entries(host, "on_work") and entries(host, "on_event")))

    await host.kill()

    with pytest.raises(aiohttp.ClientError):
        await posting
    gate("after the kill").open()
    await asyncio.sleep(0.3)
    ran = entries(host, "on_work") + entries(host, "on_event")
    assert [(entry.finished, entry.left) for entry in ran] == [(False, False)] * 2  # not even a `finally`
    assert [invocation.ok for invocation in host.invocations] == [None, None]
    assert await length(queue) == 1
    assert not await visible(queue)
    assert host.state == "Killed"


async def test_the_message_of_a_killed_host_is_redelivered_when_its_visibility_ends(harness: Harness) -> None:
    await put(await harness.queue(), {"hangs": 1})
    first = await harness.host(time_scale=0.005)  # 10 minutes are 3 s
    await first.until(lambda: bool(first.running))
    await first.kill()
    second = await harness.host(time_scale=0.005)
    await second.until(lambda: bool(entries(second, "on_work")))
    assert entries(second, "on_work")[0].argument.dequeue_count == 2


async def test_a_message_longer_than_its_visibility_is_renewed_and_runs_once(harness: Harness) -> None:
    queue = await harness.queue()
    await put(queue, {"until": "renewed"})
    host = await harness.host(time_scale=0.01)  # 10 minutes are 6 s
    await host.until(lambda: bool(host.running))
    await asyncio.sleep(8)
    gate("renewed").open()
    await eventually(lambda: _is_empty(queue))
    assert len(entries(host, "on_work")) == 1


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_kill_from_a_hook_leaves_the_message_undone(harness: Harness, place: str) -> None:
    queue = await harness.queue()
    await put(queue, {})

    async def kill(_: Invocation) -> None:
        await host.kill()

    host = FunctionsHost(APP, harness.settings(), **{f"{place}_invocation": kill})  # type: ignore[arg-type]
    async with host:
        await host.until(lambda: host.state == "Killed")
    assert len(entries(host, "on_work")) == (1 if place == "after" else 0)
    assert await length(queue) == 1


async def test_a_run_of_a_killed_host_raises_for_its_caller(harness: Harness) -> None:
    host = await harness.host(harness.settings(TICK_DOES='{"until": "no call waits"}'))
    waiting = asyncio.create_task(host.run_timer("on_tick"))
    await host.until(lambda: bool(host.running))
    await host.kill()
    with pytest.raises(HostGone):
        await waiting
    gate("no call waits").open()


@pytest.mark.parametrize("path", ["/runtime/webhooks/EventGrid", "/RUNTIME/Webhooks/eventgrid"])
async def test_the_webhook_is_found_in_any_letter_case(harness: Harness, path: str) -> None:
    host = await harness.host()
    query = {"functionName": "on_event", "code": host.system_key}
    headers = {"aeg-event-type": "Notification"}
    async with harness.http.post(f"{host.url}{path}", params=query, headers=headers, json=[EVENT]) as answer:
        assert answer.status == 202
    assert len(entries(host, "on_event")) == 1


async def test_a_path_beside_the_webhook_is_not_found(harness: Harness) -> None:
    host = await harness.host()
    async with harness.http.post(f"{host.event_url}/more", json=[EVENT]) as answer:
        assert answer.status == 404


async def test_a_failing_before_hook_fails_the_invocation_before_the_function(harness: Harness) -> None:
    def refuse(_: Invocation) -> None:
        raise RuntimeError("a fault")

    host = await harness.host(before_invocation=refuse)
    assert (await harness.post(host, [EVENT])).status == 500
    assert [invocation.error for invocation in host.invocations] == ["RuntimeError: a fault"]
    assert not entries(host, "on_event")


async def test_two_hosts_share_no_global_of_the_app_and_leave_nothing_behind(harness: Harness) -> None:
    before, path, modules = dict(os.environ), list(sys.path), set(sys.modules)
    one, two = await harness.host(), await harness.host(harness.settings(ONLY_TWO="yes"))
    files = {name for name in sys.modules if name.startswith("function_app_")} - modules
    assert len(files) == 2
    assert os.environ["ONLY_TWO"] == "yes"
    await one.stop()
    assert os.environ["ONLY_TWO"] == "yes"
    await two.stop()
    assert dict(os.environ) == before
    assert sys.path == path
    assert not {name for name in sys.modules if name.startswith("function_app_")} - modules


async def test_a_binding_that_the_host_does_not_simulate_is_refused_by_name(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\n"
        "app = func.FunctionApp()\n"
        "@app.route(route='x')\n"
        "def on_request(req): return None\n"
    )
    with pytest.raises(UnsupportedBinding, match=r"on_request.*httpTrigger"):
        await harness.host(app=tmp_path)


BAD_APPS = {
    "no FunctionApp": "",
    "two FunctionApps": "app = func.FunctionApp()\nother = func.FunctionApp()\n",
    "two functions of one name": "app = func.FunctionApp()\n"
    + "@app.event_grid_trigger(arg_name='e')\ndef f(e): pass\n" * 2,
    "an argument that is not a binding": "app = func.FunctionApp()\n"
    "@app.event_grid_trigger(arg_name='e')\ndef f(e, other): pass\n",
}


@pytest.mark.parametrize("name", BAD_APPS)
async def test_one_bad_function_leaves_no_functions(harness: Harness, tmp_path: Path, name: str) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(f"import azure.functions as func\n{BAD_APPS[name]}")
    host = await harness.host(app=tmp_path)
    assert (host.state, host.functions) == ("Running", {})
    assert host.error


async def test_a_value_returned_without_an_output_fails(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\n"
        "app = func.FunctionApp()\n"
        "@app.event_grid_trigger(arg_name='e')\n"
        "async def on_event(e): return 1\n"
    )
    host = await harness.host(app=tmp_path)
    assert (await harness.post(host, [EVENT])).status == 500
    assert "returned a non-None value" in (attempts(host, "on_event")[0].error or "")


def test_environment_layers_may_end_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERED", "outer")
    environment = Environment()
    end_first = environment.push(AppSettings({"LAYERED": "first", "ONLY_FIRST": "1"}))
    end_second = environment.push(AppSettings({"LAYERED": "second"}))
    end_first()
    assert os.environ["LAYERED"] == "second"
    assert "ONLY_FIRST" not in os.environ
    end_second()
    assert os.environ["LAYERED"] == "outer"


TIME_SPANS = {"00:00:05": 5, "1.02:03:04": 93784, "00:01": 60, "5s": None, "24:00:00": None, "00:60:00": None}


@pytest.mark.parametrize("text", TIME_SPANS)
def test_time_spans(text: str) -> None:
    assert parse_time_span(text) == TIME_SPANS[text]


def test_app_settings_override_host_json(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0", "extensions": {"queues": {"batchSize": 4}}}')
    name = "AzureFunctionsJobHost__extensions__queues__batchsize"
    assert read_host_json(tmp_path / "host.json", {}).queues.batch_size == 4
    assert read_host_json(tmp_path / "host.json", {name: "8"}).queues.batch_size == 8
    with pytest.raises(HostJsonError, match="batchSize"):
        read_host_json(tmp_path / "host.json", {name: "33"})


def test_names_are_resolved_from_settings() -> None:
    assert resolve_names("a-%X%-%Y%", {"X": "1", "Y": "2"}) == "a-1-2"
    with pytest.raises(SettingError, match="%Z%"):
        resolve_names("%Z%", {})


REFUSED_CONNECTIONS = {
    "missing": {},
    "a connection string": {"C": "UseDevelopmentStorage=true", "C__queueServiceUri": "https://x"},
    "another credential": {"C__queueServiceUri": "https://x", "C__credential": "workloadidentity"},
    "a client id alone": {"C__queueServiceUri": "https://x", "C__clientId": "i"},
}


@pytest.mark.parametrize("name", REFUSED_CONNECTIONS)
def test_connections_that_are_refused(name: str) -> None:
    with pytest.raises(SettingError, match="C"):
        service_address("C", "queue", REFUSED_CONNECTIONS[name])


def test_a_connection_by_account_name() -> None:
    assert service_address("C", "queue", {"C__accountName": "a"}).url == "https://a.queue.core.windows.net"


async def _is_empty(queue: Any) -> bool:
    return await length(queue) == 0


async def test_a_host_whose_identity_is_unknown_stops_and_says_so(harness: Harness) -> None:
    await harness.queue()
    host = await harness.host(harness.settings(WORK__clientId="nobody"))
    await host.until(lambda: host.state == "Stopped")
    assert "No User Assigned" in (host.error or "")
