"""Who writes and by which way: the token, a ledger that refuses, and the app setting through Resource Manager.

Factors: why the storage account refuses; what the token says; what the function app has and permits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from aiohttp import web

from functions.cloud.session import Session
from functions.cloud.tables import StorageTable
from functions.policy.settings import read_settings
from patcher.acting import Pen, object_id
from patcher.actions.setting import set_pause
from patcher.arm import Arm
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.output import Answer
from simulator import identity, serving
from simulator.deployment.storage import ClosedService, serve_closed
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.patcher.stage import Stage, staged
from tests.support.world import SETTINGS, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

SITE = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Web/sites/patcher"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


# what the storage account answers → command → what the one line says besides
CLOSED = {
    "no role": ("AuthorizationPermissionMismatch", "pause --reason x", "you need Storage Table Data Contributor on"),
    "no role, for an image": (
        "AuthorizationPermissionMismatch",
        "breaker close api/1.4.0 --opening 20261125T081500 --reason x",
        "you need Storage Table Data Contributor on",
    ),
    "no role, for a run": (
        "AuthorizationPermissionMismatch",
        "run assess web-02 --reason x --yes",
        "you need Storage Table Data Contributor on",
    ),
    "another network": ("AuthorizationFailure", "pause --reason x", "is closed to your network: run patcher inside"),
    "offers the setting": ("AuthorizationFailure", "pause --reason x", "or pause everything with --by-setting"),
}


@pytest.mark.parametrize(("code", "words", "line"), CLOSED.values(), ids=CLOSED)
async def test_a_ledger_that_refuses_is_one_line_that_says_what_to_do(
    stage: Stage, tls: Tls, code: str, words: str, line: str
) -> None:
    async with serve_closed(ClosedService("table", code), tls) as address:
        with stage.settings(AzureWebJobsStorage__tableServiceUri=f"{address}/account"):
            ended = await stage.patcher(*words.split())
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1), ended
    assert line in ended.err


async def test_a_ledger_that_cannot_be_reached_offers_the_setting(stage: Stage) -> None:
    with stage.settings(AzureWebJobsStorage__tableServiceUri="https://127.0.0.1:1/account"):
        ended = await stage.patcher("pause", "--reason", "x")
    assert (ended.code, ended.err.count("\n")) == (3, 1), ended
    assert "pause everything with --by-setting" in ended.err


# -- who


def a_token(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.signature"


ME = "5f3c0000-0000-0000-0000-000000000001"
PERSON = {"oid": ME, "upn": "jane@example.com", "name": "Jane"}


async def test_of_a_token_only_the_object_id_is_read() -> None:
    assert object_id(a_token(PERSON)) == ME


WITHOUT = {
    "no claim": a_token({"upn": "jane@example.com"}),
    "an empty claim": a_token({"oid": ""}),
    "no object": a_token(["oid"]),
    "no JSON": "e30.bm8.x",
    "no JWT": "opaque",
    "no base64": "a.\u00e9.c",
}


@pytest.mark.parametrize("token", WITHOUT.values(), ids=WITHOUT)
async def test_a_token_without_it_writes_nothing_and_is_not_shown(token: str) -> None:
    with pytest.raises(NoAnswer, match=r"does not say who you are \(oid\)") as refused:
        object_id(token)
    assert "jane" not in str(refused.value)


# -- by the app setting


@dataclass
class Site:
    """A function app's settings in Resource Manager. `refused`: the methods that Azure refuses."""

    settings: dict[str, str]
    refused: tuple[str, ...] = ()
    puts: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        if request.method in self.refused:
            error = {"error": {"code": "AuthorizationFailed", "message": "The client does not have authorization"}}
            return web.json_response(error, status=403)
        if (request.method, request.path) == ("POST", f"{SITE}/config/appsettings/list"):
            return web.json_response({"properties": self.settings})
        if (request.method, request.path) == ("PUT", f"{SITE}/config/appsettings"):
            self.puts.append((await request.json())["properties"])
            return web.json_response({"properties": self.puts[-1]})
        return web.Response(status=404)


@asynccontextmanager
async def served(site: Site, tls: Tls) -> AsyncIterator[App]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server_context()).start()
    arm = Arm(f"https://127.0.0.1:{runner.addresses[0][1]}", identity.StaticCredential(identity.ARM))
    session = Session(read_settings(SETTINGS), lambda: datetime.now(UTC), credential=identity.StaticCredential())
    try:
        yield App("patcher", SITE, "", "", SETTINGS, session, World().services, arm)
    finally:
        await arm.close()
        await session.close()
        await serving.close(runner)


async def set_on(app: App, *, on: bool) -> Answer:
    deed = await set_pause(on=on)(app, Pen(StorageTable(app.session), ME))
    return await deed.do()


OTHERS = {"PATCH_MODE": "install", "AzureWebJobsStorage__accountName": "storage", "KEY": "a=b;c"}
# settings before → on or off → settings after
CHANGED: Mapping[str, tuple[dict[str, str], bool, dict[str, str]]] = {
    "paused": (OTHERS, True, {**OTHERS, "PATCH_PAUSE": "on"}),
    "paused after a resume": ({**OTHERS, "PATCH_PAUSE": "off"}, True, {**OTHERS, "PATCH_PAUSE": "on"}),
    "resumed": ({**OTHERS, "PATCH_PAUSE": "on"}, False, {**OTHERS, "PATCH_PAUSE": "off"}),
}


@pytest.mark.parametrize(("before", "on", "after"), CHANGED.values(), ids=CHANGED)
async def test_one_setting_changes_and_all_others_stay(
    tls: Tls, before: dict[str, str], on: bool, after: dict[str, str]
) -> None:
    site = Site(before)
    async with served(site, tls) as app:
        answer = await set_on(app, on=on)
    assert site.puts == [after]
    assert answer.result == {"setting": "PATCH_PAUSE", "value": "on" if on else "off", "by": ME}
    assert read_settings({**SETTINGS, "PATCH_PAUSE": after["PATCH_PAUSE"]}).paused is on, "the app reads it so"


# settings → refused methods → on or off → what the line says
NOT_CHANGED: Mapping[str, tuple[dict[str, str], tuple[str, ...], bool, str]] = {
    "on already": ({**OTHERS, "PATCH_PAUSE": "on"}, (), True, "PATCH_PAUSE is on already"),
    "never on": (OTHERS, (), False, "PATCH_PAUSE is off already"),
    "not listed": ({}, (), True, "Azure lists no app settings"),
    "no right to list": (OTHERS, ("POST",), True, "Microsoft.Web/sites/config/list/action and"),
    "no right to write": (OTHERS, ("PUT",), True, "Microsoft.Web/sites/config/write"),
}


@pytest.mark.parametrize(("before", "refused", "on", "line"), NOT_CHANGED.values(), ids=NOT_CHANGED)
async def test_where_nothing_can_be_changed_nothing_is_written(
    tls: Tls, before: dict[str, str], refused: tuple[str, ...], on: bool, line: str
) -> None:
    site = Site(before, refused)
    async with served(site, tls) as app:
        with pytest.raises((BadRequest, NoAnswer), match=line):
            await set_on(app, on=on)
    assert site.puts == []
