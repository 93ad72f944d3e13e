"""Answers a browser of this machine, once it has followed the link.

It listens on 127.0.0.1 alone. A page of another site that makes a browser ask cannot read an answer: the Host header
has to name this address, and a session needs a cookie that no other site's request carries. A session begins with the
link that the terminal prints; each link works once.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from patcher.errors import BadRequest, PatcherError
from patcher.output import as_json
from patcher.page.report import assets

LOOPBACK = "127.0.0.1"
IDLE_SECONDS = 30  # a client that says nothing for so long is left
METHODS = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TEXT = "text/plain"


class Source(Protocol):
    """What there is to show, as JSON. Both raise PatcherError."""

    async def fleet(self) -> str: ...

    async def machine(self, name: str) -> str: ...


@dataclass(frozen=True)
class Answer:
    status: HTTPStatus
    body: bytes = b""
    media: str = TEXT
    more: Mapping[str, str] = field(default_factory=dict)


def refusal(status: HTTPStatus, text: str, **more: str) -> Answer:
    """One line of text."""
    return Answer(status, f"{text}\n".encode(), more=more)


class Sessions:
    """Who may ask. `said`: receives each new link, as one line for the terminal."""

    def __init__(self, port: int, said: Callable[[str], None]) -> None:
        self.host = f"{LOOPBACK}:{port}"
        self.cookie = f"patcher-{port}"  # cookies do not know ports: another page of this machine has its own
        self._said, self._lock = said, Lock()
        self._begun: set[str] = set()
        self._token = secrets.token_urlsafe(32)

    @property
    def link(self) -> str:
        """It works once."""
        return f"http://{self.host}/?token={self._token}"

    def enter(self, token: str) -> str | None:
        """A new session for the link's token, which is then worth nothing; None for any other text."""
        with self._lock:
            if not secrets.compare_digest(token.encode(), self._token.encode()):
                return None
            session, self._token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
            self._begun.add(session)
        self._said(f"opened; for another browser: {self.link}")
        return session

    def knows(self, cookies: str) -> bool:
        try:
            held = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return held is not None and held.value in self._begun


class Site:
    """From a request to an answer: host, method, session, path."""

    def __init__(self, sessions: Sessions, ask: Callable[[Coroutine[Any, Any, str]], str], source: Source) -> None:
        self._sessions, self._ask, self._source = sessions, ask, source
        self._assets = assets()

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        """`headers` by their names in lower case."""
        if headers.get("host") != self._sessions.host:
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, "this page is served under another name")
        if method not in METHODS:
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be changed here", Allow=", ".join(METHODS))
        try:
            path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        except ValueError:
            return refusal(HTTPStatus.BAD_REQUEST, "this is not an address")
        if path == "/" and "token" in query and method == "GET":
            return self._entered(query["token"][0])
        if not self._sessions.knows(headers.get("cookie", "")):
            return refusal(HTTPStatus.FORBIDDEN, "open the link that patcher printed last; each works once")
        if path in ("/data", "/machine"):
            return self._data(path, query) if method == "GET" else Answer(HTTPStatus.OK, media="application/json")
        media, body = self._assets.get(path.removeprefix("/"), ("", b""))
        return Answer(HTTPStatus.OK, body, media) if media else refusal(HTTPStatus.NOT_FOUND, "there is no such page")

    def _entered(self, token: str) -> Answer:
        session = self._sessions.enter(token)
        if session is None:
            return refusal(HTTPStatus.FORBIDDEN, "this link was used, or is of another run")
        cookie = f"{self._sessions.cookie}={session}; HttpOnly; SameSite=Strict; Path=/"
        return Answer(HTTPStatus.SEE_OTHER, more={"Location": "/", "Set-Cookie": cookie})

    def _data(self, path: str, query: Mapping[str, list[str]]) -> Answer:
        name = query.get("id", [""])[0]
        try:
            found = self._ask(self._source.fleet() if path == "/data" else self._source.machine(name))
        except BadRequest as error:
            return _problem(HTTPStatus.NOT_FOUND, error)
        except (PatcherError, CancelledError) as error:
            return _problem(HTTPStatus.BAD_GATEWAY, error)
        except Exception as error:  # noqa: BLE001 - the page says it, as the command line does, and goes on
            what = f"a defect of this tool, please report it: {type(error).__name__}"
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, PatcherError(what))
        return Answer(HTTPStatus.OK, found.encode(), "application/json")


def _problem(status: HTTPStatus, error: BaseException) -> Answer:
    return Answer(status, as_json({"problem": str(error) or "the page ends"}).encode(), "application/json")


class _Handler(BaseHTTPRequestHandler):
    """One request per connection."""

    server: "Server"
    server_version, sys_version = "patcher", ""
    timeout = IDLE_SECONDS

    def _respond(self) -> None:
        names = {name.lower() for name in self.headers}
        headers = {name: ", ".join(self.headers.get_all(name, [])) for name in names}  # two hosts are none
        answer = self.server.site.answer(self.command, self.path, headers)
        self.send_response(answer.status)
        charset = "; charset=utf-8" if answer.media != "image/svg+xml" else ""
        for name, value in {"Content-Type": answer.media + charset, **HEADERS, **answer.more}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def __getattr__(self, name: str) -> Any:
        """Every method there is, so that one place refuses what it does not take."""
        if name.startswith("do_"):
            return self._respond
        raise AttributeError(name)

    def log_message(self, format: str, *words: object) -> None:
        """The terminal is for people: it shows no request, and no token in one."""


class Server(ThreadingHTTPServer):
    """Serves in threads of its own, until the block ends; the source is asked in the event loop that made it."""

    daemon_threads = True
    allow_reuse_port = False  # no other process of this machine listens beside it

    def __init__(self, source: Source, port: int, said: Callable[[str], None]) -> None:
        """Raises BadRequest where the port is taken."""
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise BadRequest(f"--port {port}: {error}") from None
        loop = asyncio.get_running_loop()
        self.sessions = Sessions(self.server_port, said)
        self.site = Site(self.sessions, lambda asked: asyncio.run_coroutine_threadsafe(asked, loop).result(), source)

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle is not an error."""
