"""How the tool finds the app by a person's own identity, and what it says where Azure does not let it.

Factors: how the app is named; signed in or not; what the person may list; how the app is configured in Azure.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from patcher import blobs
from patcher.blobs import Blobs
from patcher.connection import Words, connected
from patcher.questions.delivery import _dead_letters
from simulator.deployment import storage
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.patcher.front import ACTION_GROUP, RECEIVER, SITE, Front, write_az
from tests.patcher.stage import SETTINGS, Stage, staged

HOUR = timedelta(hours=1)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def front(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    """A person who is signed in, and knows no app yet."""
    write_az(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")  # no other identity of this machine
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    async with Front(stage.embedded, stage.embedded.settings(**SETTINGS)).served() as served:
        yield served


def profiles(folder: Path) -> Any:
    return json.loads((folder / "image-patcher" / "profile.json").read_text(encoding="utf-8"))["profiles"]


async def test_an_app_is_found_by_its_name_and_remembered(stage: Stage, front: Front, tmp_path: Path) -> None:
    named = ["--app", "patcher-prod", "--resource-group", "rg-patcher", "--arm-endpoint", front.endpoint]
    first = await stage.patcher(*named, "breaker", "list", simulator=False)
    assert (first.code, first.err) == (0, "")
    assert profiles(tmp_path) == {"default": {"site": SITE, "arm_endpoint": front.endpoint}}
    assert (tmp_path / "bin" / "calls").read_text().splitlines() == [front.endpoint, "https://storage.azure.com"]
    again = await stage.patcher("breaker", "list", simulator=False)
    assert (again.code, again.out) == (0, first.out)
    assert "3 of 4 failed" in again.out


async def test_several_apps_are_remembered_by_profile(stage: Stage, front: Front, tmp_path: Path) -> None:
    other = SITE.replace("prod", "test")
    front.sites = [SITE, other]
    named = ["--app", "patcher-prod", "--profile", "prod", "--arm-endpoint", front.endpoint]
    assert (await stage.patcher(*named, "breaker", "list", simulator=False)).code == 0
    assert list(profiles(tmp_path)) == ["prod"]
    assert (await stage.patcher("--profile", "prod", "breaker", "list", simulator=False)).code == 0


# what is said, what Azure says → exit code, what the one line on stderr says
REFUSED: dict[str, tuple[list[str], dict[str, Any], int, str]] = {
    "no app of that name": (["--app", "patcher-pord"], {}, 2, "no function app patcher-pord is to be seen"),
    "several apps": (
        ["--resource-group", "rg-patcher"],
        {"sites": [SITE, f"{SITE}-2"]},
        2,
        "2 function apps are meant; name one",
    ),
    "settings that may not be listed": (
        ["--app", "patcher-prod"],
        {"settings_refused": True},
        3,
        "you may not list the app's settings (Microsoft.Web/sites/config/list/action)",
    ),
}


@pytest.mark.parametrize(("named", "changes", "code", "line"), REFUSED.values(), ids=REFUSED)
async def test_an_app_that_is_not_found(
    stage: Stage, front: Front, named: list[str], changes: dict[str, Any], code: int, line: str
) -> None:
    for name, value in changes.items():
        setattr(front, name, value)
    ended = await stage.patcher(*named, "--arm-endpoint", front.endpoint, "status", simulator=False)
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1), ended
    assert line in ended.err


async def test_settings_may_come_from_a_file(stage: Stage, front: Front, tmp_path: Path) -> None:
    front.settings_refused = True
    file = tmp_path / "s.json"
    listed = [{"name": name, "value": value, "slotSetting": False} for name, value in front.settings.items()]
    file.write_text(json.dumps(listed))
    named = ["--app", "patcher-prod", "--arm-endpoint", front.endpoint, "--settings", str(file)]
    ended = await stage.patcher(*named, "breaker", "list", simulator=False)
    assert (ended.code, ended.err) == (0, "")
    assert "3 of 4 failed" in ended.out


async def test_who_is_not_signed_in_learns_how(stage: Stage, front: Front, tmp_path: Path) -> None:
    write_az(tmp_path / "bin", signed_in=False)
    named = ["--app", "patcher-prod", "--arm-endpoint", front.endpoint]
    ended = await stage.patcher(*named, "status", simulator=False)
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1), ended
    assert "sign in: az login" in ended.err


# how it is configured → check, verdict, what was found
INACTIVE = {"enabled": True, "emailReceivers": [{**RECEIVER, "status": "Disabled"}], "smsReceivers": []}
TOLD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no dead letter": ({}, "dead letters", "ok", "none in container dead-letters of stpatcher"),
    "no container for dead letters": ({"container": ""}, "dead letters", "note", "no container is set"),
    "a container that is gone": ({"container": "gone"}, "dead letters", "bad", "container gone of stpatcher does"),
    "the clock": ({}, "clock", "ok", "this machine's agrees with Azure's"),
    "a clock that is behind": ({"ahead": 5.5 * HOUR}, "clock", "bad", "this machine's is 5 h behind Azure's"),
    "a clock that is ahead": ({"ahead": -100 * HOUR}, "clock", "bad", "this machine's is 4 d ahead of Azure's"),
    "alerts by mail": ({}, "alert mail", "ok", "action group ag-patch has 1 receivers"),
    "no alert": ({"rules": {}}, "alerts", "note", "the app's resource group has no alert rule"),
    "an alert without a recipient": (
        {"rules": {"failed": [], "late": [ACTION_GROUP]}},
        "alerts",
        "bad",
        "1 of 2 have no recipient: failed",
    ),
    "a group that is gone": ({"group": None}, "alert mail", "bad", "action group ag-patch does not exist"),
    "who unsubscribed": ({"group": INACTIVE}, "alert mail", "bad", "action group ag-patch has no active receiver"),
    "a group that is off": (
        {"group": {"enabled": False, "emailReceivers": [RECEIVER]}},
        "alert mail",
        "bad",
        "action group ag-patch is switched off",
    ),
    "all is well": ({}, "events", "ok", "an event subscription points at this app"),
    "no event subscription": ({"target": ""}, "events", "bad", "no event subscription points at this app"),
    "another app's": ({"target": f"{SITE}-2/functions/x"}, "events", "bad", "no event subscription points at this app"),
    "one that is not ready": ({"provisioning": "Failed"}, "events", "bad", "the event subscription is Failed"),
    "one whose endpoint did not answer": (
        {"provisioning": "AwaitingManualAction"},  # as event_grid_delivery.json has it
        "events",
        "bad",
        "the event subscription is AwaitingManualAction",
    ),
    "the rights of its identity": ({}, "rights", "ok", "the app's identity has all 9 actions"),
    "providers": ({}, "providers", "ok", "registered: Microsoft.Compute"),
    "preview features": (
        {},
        "preview features",
        "ok",
        "registered: none; not registered: InGuestAutoAssessmentVMPreview, InGuestAutoPatchVMPreview, ",
    ),
    "a provider that is not registered": (
        {"registration": "NotRegistered"},
        "providers",
        "bad",
        "not registered: Microsoft.Compute",
    ),
}


@pytest.mark.parametrize(("changes", "check", "verdict", "detail"), TOLD.values(), ids=TOLD)
async def test_what_the_doctor_says_of_it(
    stage: Stage, front: Front, changes: dict[str, Any], check: str, verdict: str, detail: str
) -> None:
    for name, value in changes.items():
        setattr(front, name, value)
    named = ["--app", "patcher-prod", "--arm-endpoint", front.endpoint]
    ended = await stage.patcher(*named, "doctor", "--json", simulator=False)
    (found,) = [each for each in ended.json["result"]["checks"] if each["check"].startswith(check)]
    assert (found["verdict"], found["detail"][: len(detail)]) == (verdict, detail), found
    assert bool(found["remedy"]) == (verdict in ("bad", "note"))


# how old the newest of two dead letters is → verdict, what is said
LETTERS = {"a new one": (3.5 * HOUR, "bad", "3 h old"), "old ones": (220 * HOUR, "note", "9 d old")}


@pytest.mark.parametrize(("age", "verdict", "said"), LETTERS.values(), ids=LETTERS)
async def test_dead_letters_are_counted(stage: Stage, age: timedelta, verdict: str, said: str) -> None:
    """Of the real service: two are written, and the tool's clock is moved instead of theirs."""
    deployed, account = stage.embedded.deployed, stage.embedded.account
    for _ in range(2):
        url = storage.dead_letter_url(f"{account.blob_url}/dead-letters", "machines", datetime.now(UTC))
        await storage.call(deployed.session, "PUT", url, content=b"[]")
    async with connected(Words(simulator=True)) as app:
        later = replace(app, services=replace(app.services, clock=lambda: datetime.now(UTC) + age))
        found = await _dead_letters(later, "dead letters", ("stpatcher", "dead-letters"))
    assert found.verdict == verdict
    assert re.match(rf"[2-9] in container dead-letters of stpatcher, the newest {said}", found.detail), found


async def test_a_page_of_blobs_that_is_not_the_last_says_more() -> None:
    """As the REST reference shows List Blobs; a name is escaped in it."""
    page = (
        "<EnumerationResults><Blobs><Blob><Name>a&lt;Blob&gt;.json</Name><Properties>"
        "<Last-Modified>Wed, 09 Sep 2026 09:20:02 GMT</Last-Modified></Properties></Blob><Blob><Name>b</Name>"
        "<Properties><Last-Modified>Wed, 09 Sep 2026 09:20:03 GMT</Last-Modified></Properties></Blob></Blobs>"
    )
    newest = datetime(2026, 9, 9, 9, 20, 3, tzinfo=UTC)
    assert blobs.read(f"{page}<NextMarker /></EnumerationResults>") == Blobs(2, newest, more=False)
    assert blobs.read(f"{page}<NextMarker>2!76</NextMarker></EnumerationResults>") == Blobs(2, newest, more=True)
    assert blobs.read("<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>").newest is None


async def test_an_app_whose_clock_is_ahead_is_known_by_what_it_wrote(stage: Stage) -> None:
    until = datetime.now(UTC) + timedelta(hours=3)
    row = await stage.ledger.table.insert("app", "sweep", {"v": 1, "holder": "", "until": until.isoformat()})
    try:
        ended = await stage.patcher("doctor", "--json")
    finally:
        assert row
        await stage.ledger.table.delete(row)
    (found,) = [each for each in ended.json["result"]["checks"] if each["detail"].startswith("the app's is ")]
    assert (found["check"], found["verdict"]) == ("clock", "bad")
