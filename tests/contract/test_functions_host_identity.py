"""Identity, TLS and Azurite as the tests use them: the real SDK's credential, real refusals, a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from azure.identity.aio import ManagedIdentityCredential
from azure.storage.queue.aio import QueueServiceClient

from simulator import identity
from simulator.identity import ARM, CLIENT_ID, STORAGE, ManagedIdentity, StaticCredential, TokenRefused, check, mint
from simulator.storage.azurite import Azurite, AzuriteUnavailable
from simulator.tls import Tls


@pytest.mark.parametrize(("scope", "audience"), [(f"{ARM}/.default", ARM), (f"{STORAGE}/.default", STORAGE)])
async def test_the_sdk_gets_a_token_that_the_other_side_takes(
    monkeypatch: pytest.MonkeyPatch, scope: str, audience: str
) -> None:
    managed = ManagedIdentity()
    async with identity.serve(managed) as settings:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        async with ManagedIdentityCredential(client_id=CLIENT_ID) as credential:
            token = await credential.get_token(scope)
    assert check(token.token, audience)["appid"] == CLIENT_ID
    assert token.expires_on == pytest.approx(time.time() + 86400, abs=600)
    assert managed.requests[0]["client_id"] == CLIENT_ID


_QUERY = {"api-version": "2019-08-01", "resource": STORAGE}
REQUESTS = {
    "system assigned": (_QUERY, True, 200),
    "user assigned": ({**_QUERY, "client_id": CLIENT_ID}, True, 200),
    "resource with a slash": ({**_QUERY, "resource": f"{STORAGE}/"}, True, 200),
    "unknown client id": ({**_QUERY, "client_id": "nobody"}, True, 400),
    "unknown resource": ({**_QUERY, "resource": "https://example.com"}, True, 400),
    "no resource": ({"api-version": "2019-08-01"}, True, 400),
    "no api-version": ({"resource": STORAGE}, True, 400),
    "older api-version": ({**_QUERY, "api-version": "2017-09-01"}, True, 400),
    "by object id": ({**_QUERY, "object_id": "o"}, True, 400),
    "wrong header": (_QUERY, False, 401),
    "no header": (_QUERY, None, 400),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_endpoint_answers(name: str) -> None:
    query, right_header, status = REQUESTS[name]
    managed = ManagedIdentity()
    headers = {} if right_header is None else {"X-IDENTITY-HEADER": managed.header if right_header else "wrong"}
    answer = managed.answer(query, headers)
    assert answer.status == status
    assert ("access_token" in answer.body) == (status == 200)


NOW = 1_800_000_000
REFUSED = {
    "not a JWT": ("abc", ARM, NOW, "not a JWT"),
    "another audience": (mint(STORAGE, now_seconds=NOW), ARM, NOW, "audience"),
    "expired": (mint(ARM, now_seconds=NOW, lifetime_seconds=60), ARM, NOW + 60, "expired"),
    "not valid yet": (mint(ARM, now_seconds=NOW), ARM, NOW - 301, "not valid yet"),
    "another signature": (mint(ARM, now_seconds=NOW)[:-2] + "xx", ARM, NOW, "signature"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tokens_that_are_refused(name: str) -> None:
    token, audience, now, reason = REFUSED[name]
    with pytest.raises(TokenRefused, match=reason):
        check(token, audience, now_seconds=now)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc"])
def test_no_bearer_token(header: str | None) -> None:
    with pytest.raises(TokenRefused, match="no bearer token"):
        identity.check_header(header, ARM)


async def test_azurite_takes_our_token_and_refuses_one_for_arm(azurite: Azurite) -> None:
    account = azurite.fresh_account()
    async with QueueServiceClient(account.queue_url, credential=StaticCredential()) as service:
        await service.create_queue("work")
    async with QueueServiceClient(account.queue_url, credential=StaticCredential(ARM)) as service:
        with pytest.raises(HttpResponseError) as refused:
            await service.create_queue("more")
    assert refused.value.status_code == 403


async def test_fresh_accounts_do_not_see_each_other(azurite: Azurite) -> None:
    one, other = azurite.fresh_account(), azurite.fresh_account()
    async with QueueServiceClient(one.queue_url, credential=StaticCredential()) as service:
        await service.create_queue("work")
    async with QueueServiceClient(other.queue_url, credential=StaticCredential()) as service:
        assert [queue async for queue in service.list_queues()] == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_azurite_ends_with_its_parent(tls: Tls, end: signal.Signals) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from simulator.storage.azurite import Azurite\n"
        "from simulator.tls import Tls\n"
        "azurite = Azurite(Tls(*map(Path, sys.argv[1:])))\n"
        "azurite.start()\n"
        "print(azurite.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    arguments = [str(path) for path in (tls.ca_path, tls.certificate_path, tls.key_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(end)
    deadline = time.monotonic() + 120  # for a process that never ends
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")  # an orphan that no parent reaps is a zombie, and dead
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_missing_node_is_one_clear_line(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE", "no-such-program")
    with pytest.raises(AzuriteUnavailable, match=r"^Node\.js is missing .*make setup`$"):
        Azurite(tls).start()


def test_a_missing_package_is_one_clear_line(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.storage.azurite._PROGRAM", Path("/nonexistent/azurite.js"))
    with pytest.raises(AzuriteUnavailable, match="make setup"):
        Azurite(tls).start()
