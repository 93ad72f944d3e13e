"""How the tool finds the app by a person's own identity, and what it says where Azure does not let it.

Factors: how the app is named; signed in or not; what the person may list; what Azure was told about the app.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.patcher.front import SITE, Front, write_az
from tests.patcher.stage import SETTINGS, Stage, staged

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


async def test_who_is_not_signed_in_is_told_how(stage: Stage, front: Front, tmp_path: Path) -> None:
    write_az(tmp_path / "bin", signed_in=False)
    named = ["--app", "patcher-prod", "--arm-endpoint", front.endpoint]
    ended = await stage.patcher(*named, "status", simulator=False)
    assert (ended.code, ended.out, ended.err.count("\n")) == (3, "", 1), ended
    assert "sign in: az login" in ended.err


# what Azure was told → check, verdict, what was found
TOLD: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "all is well": ({}, "events", "ok", "an event subscription points at this app"),
    "no event subscription": ({"target": ""}, "events", "bad", "no event subscription points at this app"),
    "another app's": ({"target": f"{SITE}-2/functions/x"}, "events", "bad", "no event subscription points at this app"),
    "one that is not ready": ({"provisioning": "Failed"}, "events", "bad", "the event subscription is Failed"),
    "the rights of its identity": ({}, "rights", "ok", "the app's identity has all 9 actions"),
    "providers": ({}, "providers", "ok", "registered: Microsoft.Compute"),
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
    (found,) = [each for each in ended.json["result"]["checks"] if each["check"].startswith(f"{check} of")]
    assert (found["verdict"], found["detail"][: len(detail)]) == (verdict, detail), found
    assert bool(found["remedy"]) == (verdict == "bad")
