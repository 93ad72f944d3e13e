"""`patcher page` without a browser: who is answered, with which headers; what is read, and how often; the one file.

Factors: host, method, path, session and link; the answer of the source; a stop that a person placed; the interval.
How it looks and behaves in a browser: tests/browser.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from functions.cloud.ledger import APP, Ledger
from functions.cloud.tables import Row, Table
from functions.model.state import State
from patcher.commands import Unread
from patcher.connection import App, Words, connected
from patcher.errors import BadRequest, NoAnswer
from patcher.fleet import look
from patcher.page import document as documents
from patcher.page.document import KINDS, document
from patcher.page.feed import Feed
from patcher.page.machine import machine_of
from patcher.page.report import report
from patcher.page.server import Server
from patcher.questions import why
from patcher.reading import ReadOnlyTable
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.browser.served import rows_of
from tests.patcher.stage import Stage, machine, restored, staged

pytestmark = pytest.mark.asyncio(loop_scope="module")


# -- who is answered


@dataclass
class Told:
    """A source that says what a test gives it."""

    fleet_says: str | Exception = '{"fleet": 1}'
    machine_says: str | Exception = '{"machine": 1}'

    async def fleet(self) -> str:
        return self._say(self.fleet_says)

    async def machine(self, name: str) -> str:
        return self._say(self.machine_says)

    def _say(self, answer: str | Exception) -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Browser:
    """A client of the server, with a session once it has followed the link."""

    server: Server
    said: list[str]
    cookie: str = ""

    def ask_now(self, method: str, target: str, headers: Mapping[str, str]) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        connection.request(method, target, headers=dict(headers))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    async def ask(self, target: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        known = {"Cookie": self.cookie} if self.cookie else {}
        return await asyncio.to_thread(self.ask_now, method, target, {**known, **headers})

    async def enter(self) -> None:
        answer, _ = await self.ask(path_of(self.server.sessions.link))
        self.cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]


def path_of(link: str) -> str:
    return f"{urlsplit(link).path}?{urlsplit(link).query}"


@pytest_asyncio.fixture(loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    said: list[str] = []
    with Server(Told(), 0, said.append) as server:
        yield Browser(server, said)


async def test_a_link_works_once_and_begins_a_session(browser: Browser) -> None:
    link = browser.server.sessions.link
    answer, _ = await browser.ask(path_of(link))
    assert (answer.status, answer.getheader("Location")) == (303, "/")
    cookie = answer.getheader("Set-Cookie") or ""
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    again, _ = await browser.ask(path_of(link))
    assert (again.status, again.getheader("Set-Cookie")) == (403, None)
    assert link not in browser.said[0], "a new link is shown"
    other, _ = await browser.ask(path_of(browser.said[0].rpartition(" ")[2]))
    assert other.status == 303, "and another browser opens it"


async def test_a_session_sees_the_page_and_its_data(browser: Browser) -> None:
    await browser.enter()
    for target, media, text in (
        ("/", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/page.js", "text/javascript; charset=utf-8", b'"use strict"'),
        ("/style.css", "text/css; charset=utf-8", b"--accent"),
        ("/icon.svg", "image/svg+xml", b"<svg"),
        ("/data", "application/json; charset=utf-8", b'{"fleet": 1}'),
        ("/machine?id=web-01", "application/json; charset=utf-8", b'{"machine": 1}'),
    ):
        answer, body = await browser.ask(target)
        assert (answer.status, answer.getheader("Content-Type")) == (200, media), target
        assert text in body


# method, path, headers → status. Every one comes with a session.
REFUSED: Mapping[str, tuple[str, str, dict[str, str], int]] = {
    "another name of this machine": ("GET", "/", {"Host": "localhost:{port}"}, 421),
    "a name that was bound to 127.0.0.1": ("GET", "/data", {"Host": "evil.example:{port}"}, 421),
    "another port": ("GET", "/data", {"Host": "127.0.0.1:1"}, 421),
    "no port": ("GET", "/data", {"Host": "127.0.0.1"}, 421),
    "an empty host": ("GET", "/data", {"Host": ""}, 421),
    **{
        f"the method {each}": (each, "/data", {}, 405)
        for each in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    },
    "a method that no one knows": ("BREW", "/data", {}, 405),
    "no session": ("GET", "/", {"Cookie": ""}, 403),
    "no session, for data": ("GET", "/data", {"Cookie": ""}, 403),
    "no session, for a file": ("GET", "/page.js", {"Cookie": ""}, 403),
    "no session, for what is not there": ("GET", "/none", {"Cookie": ""}, 403),
    "a session that was never begun": ("GET", "/data", {"Cookie": "patcher-{port}=guess"}, 403),
    "an empty session": ("GET", "/data", {"Cookie": "patcher-{port}="}, 403),
    "a cookie that is none": ("GET", "/data", {"Cookie": "\x01;=;;"}, 403),
    "a token that was never shown": ("GET", "/?token=guess", {}, 403),
    "an empty token": ("GET", "/?token=", {"Cookie": ""}, 403),
    "a token that is not ASCII": ("GET", "/?token=%C3%A9", {"Cookie": ""}, 403),
    "a path upwards": ("GET", "/../document.py", {}, 404),
    "a path upwards, encoded": ("GET", "/%2e%2e/document.py", {}, 404),
    "a path upwards, its slash encoded": ("GET", "/..%2fdocument.py", {}, 404),
    "a path upwards, with backslashes": ("GET", "/..\\document.py", {}, 404),
    "a path of the machine": ("GET", "//etc/passwd", {}, 404),
    "an absolute address of another host": ("GET", "http://127.0.0.1/data", {}, 421),
    "an address that is none": ("GET", "http://[", {"Host": "127.0.0.1:{port}"}, 400),
    "the folder of the files": ("GET", "/assets/page.js", {}, 404),
    "a file with a slash behind it": ("GET", "/page.js/", {}, 404),
}


@pytest.mark.parametrize(("method", "target", "headers", "status"), REFUSED.values(), ids=REFUSED)
async def test_everything_else_is_refused(
    browser: Browser, method: str, target: str, headers: dict[str, str], status: int
) -> None:
    await browser.enter()
    port = browser.server.server_port
    answer, body = await browser.ask(target, method, **{name: text.format(port=port) for name, text in headers.items()})
    assert answer.status == status
    assert body.count(b"\n") == 1, "one line"
    assert b"fleet" not in body
    assert (answer.getheader("Allow") == "GET, HEAD") is (status == 405)


async def test_two_hosts_are_none(browser: Browser) -> None:
    await browser.enter()
    host = browser.server.sessions.host

    def raw() -> bytes:
        with socket.create_connection(("127.0.0.1", browser.server.server_port), timeout=60) as client:
            words = f"GET /data HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\nCookie: {browser.cookie}\r\n\r\n"
            client.sendall(words.encode())
            return client.recv(65_536)

    assert b" 421 " in await asyncio.to_thread(raw)


async def test_head_has_headers_alone_and_uses_no_link_up(browser: Browser) -> None:
    link = browser.server.sessions.link
    answer, body = await browser.ask(path_of(link), "HEAD")
    assert (answer.status, body) == (403, b"")
    assert browser.server.sessions.link == link
    await browser.enter()
    for target in ("/", "/data", "/machine?id=web-01"):
        answer, body = await browser.ask(target, "HEAD")
        assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize("target", ["/", "/page.js", "/data", "/machine?id=x", "/none", "/?token=guess"])
async def test_every_answer_is_for_this_page_alone(browser: Browser, target: str) -> None:
    await browser.enter()
    answer, _ = await browser.ask(target)
    assert answer.getheader("Cache-Control") == "no-store"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Referrer-Policy") == "no-referrer"
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert answer.getheader("Access-Control-Allow-Origin") is None
    policy = dict(part.split(" ", 1) for part in (answer.getheader("Content-Security-Policy") or "").split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"


async def test_it_listens_on_loopback_alone(browser: Browser) -> None:
    assert browser.server.socket.getsockname()[0] == "127.0.0.1"


NO_ANSWERS: Mapping[str, tuple[Exception, int]] = {
    "Azure does not answer": (NoAnswer("Resource Graph: 503"), 502),
    "a defect": (KeyError("x"), 500),
    "no such machine": (BadRequest("Resource Graph shows you no machine 'x'"), 404),
}


@pytest.mark.parametrize(("error", "status"), NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_without_an_answer_the_browser_shows_why(error: Exception, status: int) -> None:
    with Server(Told(error, error), 0, lambda _: None) as server:
        browser = Browser(server, [])
        await browser.enter()
        for target in ("/data", "/machine?id=x"):
            answer, body = await browser.ask(target)
            said = "a defect of this tool, please report it: KeyError" if status == 500 else str(error)
            assert (answer.status, json.loads(body)) == (status, {"problem": said})


# -- what is read


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


WORDS = Words(simulator=True)


@pytest_asyncio.fixture(loop_scope="module")
async def app(stage: Stage) -> AsyncIterator[App]:
    async with connected(WORDS) as connected_app:
        yield connected_app


def by_machine(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The document's rows by the ids of their machines."""
    return {row["group"] + row["name"]: row for row in rows_of(found)}


SAME = ("state", "reason", "remedy", "compliance", "owner", "region", "os")


async def test_every_state_stands_in_one_group() -> None:
    assert {state for states in KINDS.values() for state in states} == set(State)


async def test_the_document_says_what_the_other_commands_say(stage: Stage, app: App) -> None:
    found, rows = await document(await look(app)), by_machine(await document(await look(app)))
    status = (await stage.patcher("status", "--json")).json["result"]
    late = (await stage.patcher("late", "--json")).json["result"]
    exported = (await stage.patcher("export", "--format", "json")).json
    assert found["states"] == status["states"]
    assert len(found["rows"]) == status["machines"]
    for each in exported:
        row = rows[each["machine"]]
        assert {name: row[name] for name in SAME} == {name: each[name] for name in SAME}
    counted = {each["owner"]: (each["late"], each["late_critical"], each["late_security"]) for each in found["owners"]}
    for each in late["by_owner"]:
        assert counted[each["owner"] or ""] == (each["machines"], each["critical"], each["security"])
    assert rows[str(machine("off-01"))]["command"].startswith("az vm start --ids ")
    assert {each["image"]: each["machines"] for each in found["newborn"]}["web/1.4.0"] == 6


async def test_the_openings_are_those_of_next(stage: Stage, app: App) -> None:
    found = await document(await look(app))
    following = (await stage.patcher("next", "--json")).json["result"]["openings"]
    assert [(each["canaries"] + each["others"]) for each in found["openings"]] == [
        len(each["go"]) for each in following
    ]
    assert [each["opens"].isoformat(timespec="seconds") for each in found["openings"]] == [
        each["opens"] for each in following
    ]


async def test_a_machine_has_its_patches_by_name_and_a_timeline(app: App) -> None:
    found = await machine_of(app, "past-01")
    moments = {each["what"]: each for each in found["timeline"]}
    assert [each["at"] for each in found["timeline"]] == sorted(each["at"] for each in found["timeline"])
    assert {"created", "assessed", "installation", "now due", "installation expected"} <= set(moments)
    tried = {each["patch"]: each["state"] for each in moments["installation"]["patches"]}
    assert tried == dict.fromkeys(("libcritical0", "libsecurity0", "libsecurity1"), "Installed")
    held = {each["what"]: each for each in (await machine_of(app, "held-01"))["timeline"]}
    assert held["hold ends"]["detail"] == "2 patches failed: libssl3"
    with pytest.raises(BadRequest, match="no machine 'web-99'"):
        await machine_of(app, "web-99")


class Counted(ReadOnlyTable):
    """Counts what is read of a partition, by the beginning of its keys."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.reads = Counter[tuple[str, str]]()

    async def keys(self, partition: str, prefix: str) -> AsyncIterator[Row]:
        self.reads[partition, prefix] += 1
        async for row in super().keys(partition, prefix):
            yield row

    async def get(self, partition: str, key: str) -> Row | None:
        self.reads[partition, key] += 1
        return await super().get(partition, key)


async def test_no_row_is_read_twice_for_a_machine(app: App) -> None:
    fleet, table = await look(app), Counted(app.services.ledger.table)
    await machine_of(replace(app, services=replace(app.services, ledger=Ledger(table))), "win-01", fleet)
    assert {name: times for name, times in table.reads.items() if times > 1} == {}
    assert {(APP, prefix) for prefix in ("run-", "progress-")} <= table.reads.keys()


async def test_no_person_is_named(stage: Stage, app: App) -> None:
    """Who paused or ordered is an object id; the page of one operator shows none of another."""
    async with restored(stage):
        await stage.patcher("pause", "--owner", "shop", "--reason", "month-end")
        await stage.patcher("hold", "win-01", "--reason", "a demonstration", "--for", "2d", "--yes")
        await stage.patcher("run", "assess", "web-03", "win-01", "--reason", "a new image", "--yes")
        named = (await stage.patcher("status")).out + (await stage.patcher("why", "win-01")).out
        seen = [await document(await look(app)), await machine_of(app, "win-01")]
        with stage.settings(PATCH_PAUSE="on"):
            seen.append(await document(await look(await app.current(WORDS))))
    (who,) = set(re.findall(r"\(by ([0-9a-f-]{36})", named))
    assert [each["reason"] for each in seen[0]["runs"]] == ["a new image"]
    assert "a new image" in seen[1]["run"]
    for found in seen:
        text = json.dumps(found, default=str)
        assert "month-end" in text
        assert who not in text
        assert "(by" not in text


async def test_one_look_per_interval_and_by_the_settings_of_now(stage: Stage, app: App) -> None:
    seldom, often = Feed(app, WORDS, every=3600, unread=Unread), Feed(app, WORDS, every=0, unread=Unread)
    first, second = await asyncio.gather(seldom.fleet(), seldom.fleet())
    assert first is second
    assert json.loads(first)["paused"] is None
    with stage.settings(PATCH_PAUSE="on"):
        assert await seldom.fleet() is first
        assert json.loads(await often.fleet())["paused"] == "PATCH_PAUSE is on"
        assert json.loads(await often.machine("web-02"))["evidence"]["settings"]["PATCH_MODE"] == "install"
    with stage.settings(PATCH_MODE="assess"):
        found = json.loads(await often.fleet())
        assert (found["openings"], found["no_forecast"]) == ([], "PATCH_MODE is assess: nothing is installed")
    with stage.settings(PATCH_MODE="instal"), pytest.raises(NoAnswer, match="settings are wrong"):
        await often.fleet()
    assert json.loads(await often.fleet())["paused"] is None, "it goes on once they are right"


async def test_what_could_not_be_read_is_shown(stage: Stage, app: App) -> None:
    row = await stage.ledger.table.insert("app", "image-of-a-newer-release", {"v": 999})
    assert row
    try:
        found = await Feed(app, WORDS, every=1, unread=Unread).read()
    finally:
        await stage.ledger.table.delete(row)
    (problem,) = found["problems"]
    assert "version 999" in problem
    assert (await Feed(app, WORDS, every=1, unread=Unread).read())["problems"] == []


async def test_a_machine_costs_no_second_look_at_the_fleet(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(app, WORDS, every=3600, unread=Unread)
    expected = by_machine(json.loads(await feed.fleet()))[str(machine("web-02"))]["expected"]

    async def a_second_look(app: App) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(why, "look", a_second_look)
    found = json.loads(await feed.machine(str(machine("web-02"))))
    assert datetime.fromisoformat(found["expected"]).timestamp() == expected


# -- one file


async def test_the_report_needs_nothing_beside_it(app: App) -> None:
    text = report(await Feed(app, WORDS, every=60, unread=Unread).read(explained=True))
    assert re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)', text) == []
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    for element in ("script", "style"):
        for content in re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL):
            assert f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in policy


async def test_a_report_explains_who_needs_a_person_and_who_is_late_as_why_does(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await Feed(app, WORDS, every=60, unread=Unread).read(explained=True)
    rows = {row["group"] + row["name"]: row for row in rows_of(found)}
    needing = [each for each, row in rows.items() if row["state"] in KINDS["needs a person"]]
    late = [each for each, row in rows.items() if row["compliance"] == "late"]
    assert list(found["explained"]) == [*needing, *(each for each in late if each not in needing)]
    assert needing
    for each, explained in found["explained"].items():
        afresh = await machine_of(app, each)
        assert explained["rules"] == afresh["rules"], each
        assert [said["says"] for said in explained["rules"] if said["speaks"]] == [rows[each]["reason"]]
        sources = ("Resource Graph", "ledger", "tags", "settings")
        assert [explained["evidence"][name] for name in sources] == [afresh["evidence"][name] for name in sources]
        assert explained["evidence"]["instance view"] == {"problem": why.NOT_READ}
    monkeypatch.setattr(documents, "MAX_EXPLAINED", 1)
    bounded = await Feed(app, WORDS, every=60, unread=Unread).read(explained=True)
    assert list(bounded["explained"]) == needing[:1]


async def test_no_text_of_azure_ends_the_element_that_holds_it() -> None:
    text = report({"owner": "</script><script>alert(1)</script>", "other": "<!--"})
    (content,) = re.findall(r'<script type="application/json" id="document">(.*?)</script>', text, re.DOTALL)
    assert json.loads(content) == {"owner": "</script><script>alert(1)</script>", "other": "<!--"}
    assert "alert(1)</script>" not in text


async def test_the_command_writes_one_file(stage: Stage, tmp_path: Path) -> None:
    ended = await stage.patcher("page", "--output", str(tmp_path / "report.html"))
    assert (ended.code, ended.err) == (0, "")
    assert "report.html" in ended.out
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    (content,) = re.findall(r'id="document">(.*?)</script>', text, re.DOTALL)
    assert len(json.loads(content)["rows"]) == 16


async def test_bad_input_is_one_line(stage: Stage, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, line in {
            "--every 0": "--every is 0; the fleet can be read every 1 second, or less often",
            "--every nan": "--every is nan",
            f"--port {port}": f"--port {port}: ",
            "--port 65536": "65535",
            f"--output {tmp_path}/none/report.html": "No such file or directory",
        }.items():
            ended = await stage.patcher("page", *words.split())
            assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
            assert line in ended.err


async def test_it_serves_until_it_is_ended(stage: Stage) -> None:
    process = await stage.started("page")
    assert process.stderr
    link = (await process.stderr.readline()).decode().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", link)

    def follow() -> tuple[int, bytes]:
        connection = HTTPConnection(urlsplit(link).netloc, timeout=60)
        connection.request("GET", path_of(link))
        entered = connection.getresponse()
        entered.read()
        connection.request(
            "GET", "/data", headers={"Cookie": (entered.getheader("Set-Cookie") or "").partition(";")[0]}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()

    status, body = await asyncio.to_thread(follow)
    assert (status, len(json.loads(body)["rows"])) == (200, 16)
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in errors


async def test_nothing_was_changed(stage: Stage) -> None:
    """Reading pages wrote nothing: but for the pause and the hold of a test, which are ended."""
    assert len(stage.embedded.azure.operations) == stage.operations_at_first
    rows = {(row.partition, row.key): row.etag async for row in stage.ledger.table.scan()}
    for partition, key, etag in stage.rows_at_first:
        assert rows[(partition, key)] == etag


async def test_machines_of_one_name_are_distinguished_by_id(app: App) -> None:
    with pytest.raises(BadRequest, match="2 machines are called web-01"):
        await machine_of(app, "web-01")
    assert (await machine_of(app, str(machine("web-01"))))["machine"] == str(machine("web-01"))
