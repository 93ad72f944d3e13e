"""The commands that write, run as a person runs them, against the simulator over TLS.

Factors: the command and its scope; what is asked can be meant or not; what is there already; with and without a
terminal and --yes; tables or JSON.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from functions.cloud.rows import image_key
from functions.cloud.stops import PAUSE, key_of
from functions.model.image_record import place
from functions.model.stop import Scope
from simulator import identity
from simulator.arm import shapes
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.patcher.stage import API, WEB, Stage, machine, restored, rows_of, staged
from tests.support import REPOSITORY

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = Draft202012Validator(json.loads((REPOSITORY / "patcher" / "schema.json").read_text(encoding="utf-8")))
ME = identity.PRINCIPAL_ID
WITHIN = f"subscription {shapes.SUBSCRIPTION}"
API_ROW, WEB_ROW = image_key(place(API, WITHIN)), image_key(place(WEB, WITHIN))
OPENING = "20261125T081500"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def stage(running: Stage) -> AsyncIterator[Stage]:
    """The stage, with its rows as they were at first after each test."""
    async with restored(running):
        yield running


async def run(stage: Stage, words: str, code: int = 0) -> str:
    ended = await stage.patcher(*shlex.split(words))
    assert ended.code == code, ended
    return ended.out or ended.err


# command → the row's key, columns that it has then
WRITTEN: Mapping[str, tuple[str, str, dict[str, str]]] = {
    "a pause of everything": ("pause --reason 'bad kernel'", PAUSE, {"reason": "bad kernel"}),
    "of a subscription": (
        f"pause --subscription {shapes.SUBSCRIPTION.upper()} --reason x",
        key_of(Scope.SUBSCRIPTION, shapes.SUBSCRIPTION),
        {"scope": "subscription", "value": shapes.SUBSCRIPTION},
    ),
    "of an image by its name": ("pause --image api/1.4.0 --reason x", key_of(Scope.IMAGE, API), {"value": API}),
    "of an image by its key": (f"pause --image {WEB.upper()} --reason x", key_of(Scope.IMAGE, WEB), {"value": WEB}),
    "of an owner": ("pause --owner shop --reason x", key_of(Scope.OWNER, "shop"), {"scope": "owner", "value": "shop"}),
    "until a time": (
        "pause --reason x --until 2099-12-24T18:00:00Z",
        PAUSE,
        {"until": "2099-12-24T18:00:00+00:00"},
    ),
    "until a time of the window's zone": (
        "pause --reason x --until 2099-12-24T18:00",
        PAUSE,
        {"until": "2099-12-24T17:00:00+00:00"},
    ),
    "a hold": (
        "hold WEB-02 --reason month-end --yes",
        key_of(Scope.MACHINE, str(machine("web-02"))),
        {"scope": "machine", "value": str(machine("web-02")), "reason": "month-end"},
    ),
    "a breaker by its row": (
        f"breaker close {API_ROW} --opening {OPENING} --reason 'fixed in 1.4.1'",
        API_ROW,
        {"closed": OPENING, "closed_by": ME, "closed_because": "fixed in 1.4.1", "opened_because": "3 of 4 failed"},
    ),
    "a breaker by its image": (
        f"breaker close api/1.4.0 --opening {OPENING} --reason x",
        API_ROW,
        {"closed": OPENING, "closed_because": "x"},
    ),
    "a rollout": (
        "rollout end web/1.4.0 --reason 'last ring is gone'",
        WEB_ROW,
        {"ended_by": ME, "ended_because": "last ring is gone", "rings": "*"},
    ),
    "a rollout by its id": (f"rollout restart {WEB_ROW} --rollout * --reason x", WEB_ROW, {"ended_because": "x"}),
}


async def rollout_of_web(stage: Stage) -> str:
    return (await stage.ledger.image(WEB, WITHIN)).record.rollout


@pytest.mark.parametrize(("words", "key", "columns"), WRITTEN.values(), ids=WRITTEN)
async def test_what_a_command_writes(stage: Stage, words: str, key: str, columns: dict[str, str]) -> None:
    before, rollout = await rows_of(stage), await rollout_of_web(stage)
    out = await run(stage, words.replace("*", rollout))
    after = await rows_of(stage)
    assert {name: after[key].get(name) for name in columns} == columns | (
        {"rings": before[key]["rings"]} if "rings" in columns else {}
    )
    assert {name for name in after if after[name] != before.get(name)} == {key}, "no other row"
    if key.startswith(("pause", "hold")):
        assert after[key]["by"] == ME
    elif words.startswith("rollout"):
        assert after[key]["ended"] == rollout
        assert "the next due installation opens a new one, with a canary" in out


SELECTED = {
    "names": ("web-02 web-03", ["web-02", "web-03"]),
    "an id": (str(machine("web-01", "rg-test")), ["web-01"]),
    "a tag": ("--tag owner=shop", ["web-01", "web-02", "web-03", "web-04", "win-01"]),
    "an image": ("--image web-specialized", ["done-01", "fail-01", "past-01"]),
    "an owner": (f"--owner shop --image {WEB}", ["web-01", "web-02", "web-03", "web-04"]),
    "a resource group": ("--resource-group RG-TEST", ["web-01"]),
    "a name and a condition": ("web-02 off-01 --owner shop", ["web-02"]),
}


@pytest.mark.parametrize(("words", "names"), SELECTED.values(), ids=SELECTED)
async def test_whom_a_selector_means(stage: Stage, words: str, names: list[str]) -> None:
    out = json.loads(await run(stage, f"hold {words} --reason x --yes --json"))
    assert sorted(each.rsplit("/", 1)[-1] for each in out["result"]["machines"]) == names
    out = json.loads(await run(stage, f"release {words} --yes --json"))
    assert sorted(each.rsplit("/", 1)[-1] for each in out["result"]["machines"]) == names


# command → what the one line on stderr says
REFUSED = {
    "no reason": ("pause", "Missing option '--reason'"),
    "an empty reason": ("pause --reason ' '", "--reason is empty"),
    "a reason that would be cut": (f"pause --reason {'x' * 501}", "--reason has 501 characters; up to 500"),
    "two scopes": (f"pause --image web --subscription {shapes.SUBSCRIPTION} --reason x", "one of them is right"),
    "an unknown image": ("pause --image wbe/1.4.0 --reason x", "has an image 'wbe/1.4.0'; there are "),
    "two images of a name": ("pause --image web/1.4.0 --reason x", "2 images are called 'web/1.4.0'; name one by its"),
    "no id of a subscription": ("pause --subscription prod --reason x", "a subscription's id is right"),
    "a subscription without machines": (
        f"pause --subscription {'1' * 8}-1111-1111-1111-{'1' * 12} --reason x",
        "no machine",
    ),
    "an owner without machines": ("pause --owner Shop --reason x", "no machine in the app's scope is of owner 'Shop'"),
    "no time": ("pause --reason x --until tomorrow", "--until is 'tomorrow'; a time such as "),
    "a time in the past": ("pause --reason x --until 2020-01-01", "and that is past"),
    "no span": ("pause --reason x --for 4weeks", "--for is '4weeks'; 30min, 4h or 2d is right"),
    "a span of nothing": ("pause --reason x --for 0h", "--for is '0h'"),
    "two ends": ("pause --reason x --for 4h --until 2099-01-01", "--until and --for are both given"),
    "a setting with a scope": ("pause --by-setting --owner shop --reason x", "name no scope and no end with it"),
    "the simulator's settings": ("pause --by-setting --reason x", "the simulator has no app settings"),
    "a resume of nothing": ("resume", "everything is not paused; nothing is"),
    "a hold of no machine": ("hold --reason x --yes", "no machine is named"),
    "of a machine that is not there": ("hold web-99 --reason x --yes", "there is no machine 'web-99'"),
    "of two machines of a name": ("hold web-01 --reason x --yes", "2 machines are called web-01"),
    "of a tag without machines": ("hold --tag owner=none --reason x --yes", "no machine in the app's scope is meant"),
    "of half a tag": ("hold --tag owner --reason x --yes", "--tag is 'owner'; name=value is right"),
    "without --yes": ("hold web-02 web-03 --reason x", "add --yes to hold 2 machines: web-02, web-03"),
    "a release of what is not held": ("release web-02 --yes", "no hold is in force on 1 machine: web-02"),
    "a wrong opening": (
        f"breaker close {API_ROW} --opening 20200101T000000 --reason x",
        f"open is opening {OPENING} of api/1.4.0 in {WITHIN}, not 20200101T000000; nothing was written",
    ),
    "a breaker that is not open": (f"breaker close {WEB_ROW} --opening {OPENING} --reason x", "is open; nothing was"),
    "no image's row": (f"breaker close image-{'0' * 24} --opening {OPENING} --reason x", "not a row of an image"),
    "no opening": (f"breaker close {API_ROW} --reason x", "Missing option '--opening'"),
    "a wrong rollout": (f"rollout end {WEB_ROW} --rollout 20200101T000000 --reason x", "not 20200101T000000"),
    "a rollout of an unknown image": (
        "rollout end wbe --reason x",
        "the ledger has no row of an image 'wbe'; there are ",
    ),
}


@pytest.mark.parametrize(("words", "line"), REFUSED.values(), ids=REFUSED)
async def test_bad_input_is_one_line_and_writes_nothing(stage: Stage, words: str, line: str) -> None:
    before = await rows_of(stage)
    ended = await stage.patcher(*shlex.split(words))
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert ended.err.startswith("patcher: ")
    assert line in ended.err
    assert await rows_of(stage) == before


# what is there already → command → what the one line on stderr says
ALREADY = {
    "paused": ("pause --reason first", "pause --reason second", f"paused already: first (by {ME}), since 20"),
    "held": (
        "hold web-02 --reason first --yes",
        "hold web-02 --reason second --yes",
        f"held already, 1 machine: web-02; the first: first (by {ME})",
    ),
    "closed": (
        f"breaker close {API_ROW} --opening {OPENING} --reason first",
        f"breaker close {API_ROW} --opening {OPENING} --reason second",
        f"opening {OPENING} of api/1.4.0 in {WITHIN} is closed already, by {ME}: first",
    ),
    "ended": (
        "rollout end web/1.4.0 --reason first",
        "rollout end web/1.4.0 --reason second",
        f"is ended already, by {ME}: first",
    ),
    "paused by another scope": ("pause --owner shop --reason x", "resume", "paused: owner shop"),
}


@pytest.mark.parametrize(("first", "second", "line"), ALREADY.values(), ids=ALREADY)
async def test_what_is_so_already_is_said_with_who_and_why(stage: Stage, first: str, second: str, line: str) -> None:
    await run(stage, first)
    before = await rows_of(stage)
    err = await run(stage, second, 2)
    assert line in err
    assert err.count("\n") == 1
    assert await rows_of(stage) == before


async def test_the_second_of_two_at_once_learns_who_was_first(stage: Stage) -> None:
    """In processes of their own, as two people do it."""
    both = await asyncio.gather(*(stage.in_a_process("pause", "--reason", each) for each in ("one", "two")))
    row = (await rows_of(stage))[PAUSE]
    (won,) = [each for each in both if each.code == 0]
    (lost,) = [each for each in both if each.code == 2]
    assert (lost.out, lost.err.count("\n")) == ("", 1), lost
    assert f"paused already: {row['reason']}" in lost.err
    assert "paused" in won.out


async def test_a_pause_that_is_replaced_has_the_new_reason_and_end(stage: Stage) -> None:
    await run(stage, "pause --reason first --for 4h")
    await run(stage, "pause --reason second --replace")
    row = (await rows_of(stage))[PAUSE]
    assert (row["reason"], "until" in row) == ("second", False)


async def test_a_pause_is_ended_and_not_deleted_so_that_the_sweep_tells_who(stage: Stage) -> None:
    await run(stage, "pause --reason 'bad kernel' --owner shop")
    assert "PATCH" not in await run(stage, "resume --owner shop --reason 'kernel replaced'")
    row = (await rows_of(stage))[key_of(Scope.OWNER, "shop")]
    assert (row["ended_by"], row["ended_because"], row["reason"]) == (ME, "kernel replaced", "bad kernel")
    assert "owner shop is not paused" in await run(stage, "resume --owner shop", 2)
    await run(stage, "pause --reason again --owner shop")  # before a sweep came by
    assert "ended" not in (await rows_of(stage))[key_of(Scope.OWNER, "shop")]


async def test_a_pause_that_cannot_be_read_can_be_ended(stage: Stage) -> None:
    await stage.ledger.table.insert("app", PAUSE, {"reason": "x", "until": "soon"})
    await run(stage, "resume")
    assert (await rows_of(stage))[PAUSE]["ended_by"] == ME


async def test_machines_that_are_held_already_stay_as_they_are(stage: Stage) -> None:
    await run(stage, "hold web-02 --reason first --yes")
    out = json.loads(await run(stage, "hold web-02 web-03 --reason second --yes --json"))["result"]
    assert (out["machines"], out["already"]) == ([str(machine("web-03"))], [str(machine("web-02"))])
    rows = await rows_of(stage)
    assert rows[key_of(Scope.MACHINE, str(machine("web-02")))]["reason"] == "first"


async def test_a_machine_that_is_gone_can_be_released(stage: Stage) -> None:
    gone = machine("gone-01")
    key = key_of(Scope.MACHINE, str(gone))
    await stage.ledger.table.insert("app", key, {"scope": "machine", "value": str(gone), "reason": "x"})
    await run(stage, "release gone-01 --yes")
    assert (await rows_of(stage))[key]["ended_by"] == ME


JSON = (
    "pause --reason x",
    "pause --owner shop --reason x --for 4h",
    "resume",
    "hold web-02 --reason x --yes",
    "release web-02 --reason x --yes",
    f"breaker close {API_ROW} --opening {OPENING} --reason x",
    "rollout end web/1.4.0 --reason x",
    "rollout restart web/1.4.0 --reason x",
)
FIRST = {"resume": "pause --reason x", "release": "hold web-02 --reason x --yes"}


@pytest.mark.parametrize("words", JSON)
async def test_json_keeps_its_schema(stage: Stage, words: str) -> None:
    if first := FIRST.get(words.split()[0]):
        await run(stage, first)
    out = json.loads(await run(stage, f"{words} --json"))
    assert [error.message for error in SCHEMA.iter_errors(out)] == []
    assert words.startswith(out["command"])


# what is typed → exit code, whether it was done
TYPED = {"yes": ("y\n", 0, True), "no": ("n\n", 2, False)}


@pytest.mark.parametrize(("typed", "code", "done"), TYPED.values(), ids=TYPED)
async def test_on_a_terminal_a_person_is_asked(stage: Stage, typed: str, code: int, done: bool) -> None:
    ended = await stage.on_a_terminal("hold", "web-02", "--reason", "x", typed=typed)
    assert ended.code == code, ended
    assert "Hold 1 machine: web-02?" in ended.out
    assert (key_of(Scope.MACHINE, str(machine("web-02"))) in await rows_of(stage)) is done


async def test_why_and_status_show_what_was_stopped_and_how_to_end_it(stage: Stage) -> None:
    await run(stage, "hold web-02 --reason month-end --yes")
    await run(stage, "pause --owner shop --reason 'shop is closed'")
    ended = "to end it: patcher resume --owner 'shop'"
    assert f"owner shop: shop is closed (by {ME}); {ended}" in await run(stage, "why web-03")
    assert "shop is closed" not in await run(stage, "why off-01")
    status = await run(stage, "status")
    assert ended in status
    assert "16, 1 held by a person" in status
    assert [each.message for each in SCHEMA.iter_errors(json.loads(await run(stage, "why web-03 --json")))] == []


# the row's key, its columns → what is wrong with it
UNREADABLE = {
    "of an owner": ("pause-0", {"scope": "ownr", "value": "shop"}, "scope is 'ownr'"),
    "of everything": ("pause", {"reason": "x", "until": "soon"}, "until is 'soon'"),
    "of a machine": ("hold-0", {"scope": "machine"}, "value is empty"),
}


@pytest.mark.parametrize(("key", "columns", "problem"), UNREADABLE.values(), ids=UNREADABLE)
async def test_a_stop_that_cannot_be_read_needs_a_person(
    stage: Stage, key: str, columns: dict[str, str], problem: str
) -> None:
    row = await stage.ledger.table.insert("app", key, columns)
    assert row
    try:
        told = json.loads(await run(stage, "status --json"))
        shown = await run(stage, "status")
    finally:
        await stage.ledger.table.delete(row)
    assert [each.message for each in SCHEMA.iter_errors(told)] == []
    first = told["result"]["needs_a_person"][0]
    assert (first["state"], first["machines"]) == ("paused", told["result"]["machines"])
    assert first["reason"].startswith(f"row {key} of the ledger cannot be read: {problem}")
    account = stage.embedded.account.name
    assert first["remedy"].startswith(f"az storage entity delete --account-name {account} ")
    assert first["remedy"].endswith(f" --partition-key app --row-key {key}")
    assert "az storage entity delete" in shown


async def test_the_commands_that_are_shown_work(stage: Stage) -> None:
    shown = json.loads(await run(stage, "breaker list --json"))["result"]["breakers"][0]["close"]
    await run(stage, shown.removeprefix("patcher "))
    assert json.loads(await run(stage, "breaker list --json"))["result"]["breakers"] == []
    await run(stage, f"pause --image {WEB} --reason x")
    shown = json.loads(await run(stage, "status --json"))["result"]["pauses"][0]["end"]
    await run(stage, shown.removeprefix("patcher "))
    assert json.loads(await run(stage, "status --json"))["result"]["pauses"] == []
