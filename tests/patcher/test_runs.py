"""Runs on demand, ordered, watched and stopped as a person does it, against the simulator over TLS.

Factors: the kind; the selector; which patches; when; what keeps machines; what is asked can be meant or not; with and
without a terminal and --yes; tables or JSON; how far the app has come.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from functions.cloud.ledger import APP
from functions.cloud.runs import RUNS, columns_of, progress_columns, progress_key, run_key, run_of_row
from functions.model.run import CANARY_FAILED, Item, Progress, Run, RunOutcome, Selection
from functions.model.state import OperationKind
from simulator import identity
from simulator.arm import shapes
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from simulator.world import ScaleSet
from tests.patcher.stage import NOW, Stage, machine, restored, rows_of, staged
from tests.patcher.stage import WEB as WEB_IMAGE
from tests.support import REPOSITORY

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = Draft202012Validator(json.loads((REPOSITORY / "patcher" / "schema.json").read_text(encoding="utf-8")))
ME = identity.PRINCIPAL_ID
ASSESS, INSTALL = OperationKind.ASSESS, OperationKind.INSTALL
WEB = ["web-01", "web-02", "web-03", "web-04"]
TOMORROW = (NOW + timedelta(days=1)).replace(microsecond=0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tls: Tls, azurite: Azurite, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tls, azurite, tmp_path_factory.mktemp("config")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def stage(running: Stage) -> AsyncIterator[Stage]:
    async with restored(running):
        yield running


async def run(stage: Stage, words: str, code: int = 0) -> str:
    ended = await stage.patcher(*shlex.split(words))
    assert ended.code == code, ended
    return ended.out if code == 0 else ended.err


async def orders(stage: Stage) -> list[Run]:
    return [run_of_row(row) async for row in stage.ledger.table.keys(APP, RUNS)]


async def put(stage: Stage, order: Run, progress: Progress | None = None) -> Run:
    """A run as the ledger has it, and how far the app has come."""
    await stage.ledger.table.insert(APP, run_key(order.id), columns_of(order))
    if progress:
        await stage.ledger.table.insert(APP, progress_key(order.id), progress_columns(progress, order))
    return order


def an_order(*names: str, run_id: str = "20261128T0900-7k2m", **fields: Any) -> Run:
    now = datetime.now(UTC)
    machines = tuple(machine(name) for name in names or ("web-02",))
    fields = {"reason": "a CVE", "by": "jane", "opened": now, "until": now + timedelta(hours=24), **fields}
    return Run(run_id, fields.pop("kind", INSTALL), machines, **fields)


# -- what is ordered


# command → what the order says
ORDERED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "an assessment": (
        "assess web-02 win-01 --reason 'a new scanner'",
        {"kind": ASSESS, "names": ["web-02", "win-01"], "reason": "a new scanner", "by": ME, "at": None},
    ),
    "an installation of what the settings select": (
        "install WEB-02 --ignore-window --reason CVE",
        {"kind": INSTALL, "names": ["web-02"], "selection": Selection(), "ignore_window": True},
    ),
    "of an owner, and of names": (
        "install web-02 win-01 past-01 --owner shop --ignore-window --reason x",
        {"names": ["web-02", "win-01"]},
    ),
    "of packages": (
        "install web-02 --package OpenSSL --package 'lib*' --ignore-window --reason x",
        {"selection": Selection((), ("openssl", "lib*"))},
    ),
    "of a KB": (
        "install win-01 --kb 5043080 --kb kb5043081 --ignore-window --reason x",
        {"selection": Selection((), ("kb5043080", "kb5043081"))},
    ),
    "of classifications": (
        "install web-02 win-01 --classification critical --classification UpdateRollUp --ignore-window --reason x",
        {"selection": Selection(("Critical", "UpdateRollUp"), ())},
    ),
    "of a package and a KB, for both systems": (
        "install web-02 win-01 --package openssl --kb 5043080 --ignore-window --reason x",
        {"names": ["web-02", "win-01"], "selection": Selection((), ("kb5043080", "openssl"))},
    ),
    "of a KB, for Windows alone": (
        "install --tag owner=shop --kb 5043080 --ignore-window --reason x",
        {"names": ["win-01"]},
    ),
    "with canaries": (
        "install --tag owner=shop --canaries 2 --bake 30min --ignore-window --reason x",
        {"canaries": 2, "bake": timedelta(minutes=30), "names": [*WEB, "win-01"]},
    ),
    "from a time on": (
        f"assess web-02 --at {TOMORROW.isoformat()} --reason x",
        {"at": TOMORROW, "until": TOMORROW + timedelta(hours=24)},
    ),
    "until a time": (f"assess web-02 --until {TOMORROW.isoformat()} --reason x", {"until": TOMORROW}),
    "everything": (
        "assess --everything --expect 16 --reason x",
        {"kind": ASSESS},
    ),
    "beside machines that do not go": (
        "install web-02 lab-01 off-01 --ignore-window --reason x",
        {"names": ["lab-01", "off-01", "web-02"]},
    ),
}


@pytest.mark.parametrize(("words", "fields"), ORDERED.values(), ids=ORDERED)
async def test_what_an_order_says(stage: Stage, words: str, fields: dict[str, Any]) -> None:
    before = await rows_of(stage)
    out = json.loads(await run(stage, f"run {words} --yes --json"))
    [order] = await orders(stage)
    found = {name: getattr(order, name) for name in fields if name != "names"}
    found |= {"names": [each.name for each in order.machines]} if "names" in fields else {}
    assert found == fields
    assert order.problem == ""
    assert (out["result"]["run"], out["result"]["machines"]) == (order.id, [str(each) for each in order.machines])
    assert [error.message for error in SCHEMA.iter_errors(out)] == []
    assert (await rows_of(stage)).keys() - before.keys() == {run_key(order.id)}, "the app alone writes progress"


async def test_an_order_without_an_end_has_one(stage: Stage) -> None:
    await run(stage, "run assess web-02 --reason x --yes")
    [order] = await orders(stage)
    assert order.until == order.opened + timedelta(hours=24)


# command → what the preview says
PREVIEWS: Mapping[str, tuple[str, list[str]]] = {
    "who goes now, and who later": (
        "install --tag owner=shop --ignore-window",
        ["installation on 5 machines: x", "3 machines: web-01, web-02, win-01", "2 machines: web-03, web-04"],
    ),
    "which limit lets the others wait": (
        "install --tag owner=shop --ignore-window",
        ["waiting-for-slot", "PATCH_MAX_PER_IMAGE is 2"],
    ),
    "what waits on them": (
        "install web-02 web-03 --ignore-window",
        ["Critical, Security (PATCH_CLASSIFICATIONS): 10 "],
    ),
    "that Linux installs Security with Critical": (
        "install web-02 --classification Critical --ignore-window",
        ["Critical: 5 wait on 1 machine", "Critical and Security are installed, not Critical alone"],
    ),
    "who is assessed first": (
        f"install web-02 {machine('web-01', 'rg-test')} --ignore-window",
        ["on 1 machine not known from Resource Graph; 1 machine assessed first"],
    ),
    "that they may reboot": ("install web-02 web-03 --ignore-window", ["2 of 2 may reboot (PATCH_REBOOT"]),
    "that windows are ignored": (
        "install web-02 web-03 --ignore-window",
        ["windows and blackouts are ignored: 2 of 2 go outside theirs"],
    ),
    "that the end is an estimate": ("install web-02 --ignore-window", ["to the end about", "an estimate, if nothing"]),
    "canaries": (
        "install --tag owner=shop --canaries 1 --bake 4h --ignore-window",
        ["1 of each image go first, and are watched for 240 min", "the run's canary goes first: web-01"],
    ),
    "who does not go, and by which rule": (
        "install web-02 lab-01 off-01 old-01 typo-01 shelf-01 done-01 held-01 --ignore-window",
        [
            "opted-out    1         lab-01    tag patch-mode=off",
            "powered-off  1         off-01    the machine is deallocated",
            "unsupported  1         old-01",
            "bad-tag      1         typo-01",
            "marketplace  1         shelf-01",
            "patched      1         done-01",
            "failed       1         held-01   2 patches failed: libssl3",
        ],
    ),
    "that an operation is under way": ("install busy-01 web-02 --ignore-window", ["installing  1         busy-01"]),
    "who gets what": (
        "install --tag owner=shop --package openssl --kb 5043080 --ignore-window",
        ["Linux             4 machines: openssl", "Windows           1 machine: kb5043080"],
    ),
    "whom a patch is not for": (
        "install --tag owner=shop --kb 5043080 --ignore-window",
        ["4 machines of Linux: nothing that is selected is for that system"],
    ),
    "whom --at finds": (f"assess web-02 off-01 --at {TOMORROW.isoformat()}", ["goes first", "off-01", "from "]),
}


@pytest.mark.parametrize(("words", "lines"), PREVIEWS.values(), ids=PREVIEWS)
async def test_what_a_preview_says(stage: Stage, words: str, lines: list[str]) -> None:
    ended = await stage.patcher(*shlex.split(f"run {words} --reason x"))
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert "nothing was done; add --yes to" in ended.err
    for line in lines:
        assert line in ended.out, ended.out
    assert await orders(stage) == []


async def test_a_preview_names_every_machine_only_if_asked(stage: Stage) -> None:
    ended = await stage.patcher("run", "assess", "--everything", "--reason", "x", "--expect", "16", "--all")
    assert "(--all names all)" not in ended.out
    assert all(name in ended.out for name in WEB)


# command → what the one line on stderr says
REFUSED = {
    "no reason": ("run assess web-02", "Missing option '--reason'"),
    "an empty reason": ("run assess web-02 --reason ' '", "--reason is empty"),
    "nobody": ("run assess --reason x", "no machine is named"),
    "a machine that is not there": ("run assess web-99 --reason x", "there is no machine 'web-99'"),
    "everything and a selector": ("run assess web-02 --everything --reason x", "no other selector is right beside it"),
    "everything with --yes alone": (
        "run assess --everything --reason x --yes",
        "--everything takes --yes only with --expect N, the number of machines; now it is 16",
    ),
    "another number of machines": (
        "run assess web-02 --reason x --expect 2 --yes",
        "that means 1 machine, and --expect is 2",
    ),
    "a time that is none": ("run assess web-02 --reason x --at tonight", "--at is 'tonight'; a time such as "),
    "a time that is past": ("run assess web-02 --reason x --at 2020-01-01", "--at is '2020-01-01', and that is past"),
    "an end before the beginning": (
        "run assess web-02 --reason x --at 2099-01-02 --until 2099-01-01",
        "--until is '2099-01-01', and that is not after --at",
    ),
    "a classification that is none": (
        "run install web-02 --reason x --classification Urgent",
        "--classification is 'Urgent'; allowed: Critical, Security",
    ),
    "classifications that Linux refuses together": (
        "run install web-02 --reason x --classification Other --classification Critical",
        "--classification: Linux refuses Other with Critical but without Security; add Security",
    ),
    "a CVE": ("run install web-02 --reason x --package CVE-2026-1234", "is not a package; write the package or KB"),
    "every package": ("run install web-02 --reason x --package '*'", "is every package"),
    "a KB as a package": ("run install win-01 --reason x --package KB5043080", "the number of a KB: --kb KB5043080"),
    "a package as a KB": ("run install win-01 --reason x --kb openssl", "--kb is 'openssl'; KB5043080 is right"),
    "a KB for Linux": ("run install web-02 --reason x --kb 5043080", "is for Linux"),
    "a package for Windows": ("run install win-01 --reason x --package openssl", "is for Windows"),
    "a classification of Windows, for Linux": (
        "run install web-02 --reason x --classification UpdateRollUp",
        "is for Linux",
    ),
    "a bake without canaries": ("run install web-02 --reason x --bake 30min", "say how many: --canaries N"),
    "a bake that is not a span": ("run install web-02 --reason x --canaries 1 --bake soon", "--bake is 'soon'; 30min"),
    "a bake beyond the end": (
        "run install web-02 --reason x --canaries 1 --bake 2d",
        "--bake is '2d', and the run is over before; give a later --until",
    ),
    "too many canaries": ("run install web-02 --reason x --canaries 1000", "--canaries is 1000; 1 to 100"),
    "machines that never go": (
        "run install lab-01 old-01 --ignore-window --reason x --yes",
        "1 opted-out (tag patch-mode=off); 1 unsupported (Azure cannot patch this",
    ),
    "a window that opens too late": ("run install web-02 --reason x --yes", "1 waiting-for-window (opens "),
    "without --yes, as JSON": ("run assess web-02 --reason x --json", "nothing was done; add --yes to assess on 1"),
    "a run that is not there": (
        "run show 20260101T0000-2222",
        "there is no run '20260101T0000-2222'; none was ordered in the last 30 days",
    ),
    "a run whose id can be none": ("run show 'a/../b c?'", "there is no run 'a/../b c'"),
    "a stop of what is not there": ("run stop 20260101T0000-2222 --reason x", "there is no run '20260101T0000-2222'"),
    "a stop without a reason": ("run stop 20260101T0000-2222", "Missing option '--reason'"),
}


@pytest.mark.parametrize(("words", "line"), REFUSED.values(), ids=REFUSED)
async def test_bad_input_is_one_line_and_writes_nothing(stage: Stage, words: str, line: str) -> None:
    before = await rows_of(stage)
    ended = await stage.patcher(*shlex.split(words))
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert ended.err.startswith("patcher: ")
    assert line in ended.err
    assert await rows_of(stage) == before


# app settings, what a person stopped → command → what the one line on stderr says
NOT_NOW: Mapping[str, tuple[dict[str, str], str, str, str]] = {
    "an installation in assess": (
        {"PATCH_MODE": "assess"},
        "",
        "run install web-02 --ignore-window --reason x --yes",
        "PATCH_MODE is assess; installations need install",
    ),
    "an installation in plan": (
        {"PATCH_MODE": "plan"},
        "",
        "run install web-02 --ignore-window --reason x --yes",
        "PATCH_MODE is plan; installations need install",
    ),
    "an assessment in off": (
        {"PATCH_MODE": "off"},
        "",
        "run assess web-02 --reason x --yes",
        "PATCH_MODE is off; assessments need assess or install",
    ),
    "a pause by the setting": (
        {"PATCH_PAUSE": "on"},
        "",
        "run assess web-02 --reason x --yes",
        "everything is paused: PATCH_PAUSE is on",
    ),
    "a pause": (
        {},
        "pause --reason 'bad kernel'",
        "run assess web-02 --reason x --yes",
        "everything is paused: bad kernel",
    ),
}


@pytest.mark.parametrize(("settings", "first", "words", "line"), NOT_NOW.values(), ids=NOT_NOW)
async def test_no_run_is_ordered_while_the_app_starts_nothing(
    stage: Stage, settings: dict[str, str], first: str, words: str, line: str
) -> None:
    if first:
        await run(stage, first)
    with stage.settings(**settings):
        err = await run(stage, words, 2)
    assert line in err
    assert err.count("\n") == 1
    assert await orders(stage) == []


async def test_a_part_that_is_stopped_does_not_go(stage: Stage) -> None:
    await run(stage, "hold win-01 --reason month-end --yes")
    await run(stage, f"pause --image {WEB_IMAGE} --reason 'bad kernel'")
    out = await run(stage, "run install web-02 win-01 past-01 --ignore-window --reason x --yes")
    assert "on-hold  1         win-01   held by a person: month-end" in out
    assert "paused   1         web-02   paused: image " in out
    assert "goes now          1 machine: past-01" in out


async def test_a_preview_knows_the_scale_set_of_a_machine_as_the_sweep_does(stage: Stage) -> None:
    azure, name = (
        stage.embedded.azure,
        f"{machine('web').group_id}/providers/Microsoft.Compute/virtualMachineScaleSets/web",
    )
    azure.world.scale_sets.append(ScaleSet(name, {"properties": {"orchestrationMode": "Flexible"}}, azure.world.now()))
    azure.create_machine(str(machine("flex-01")), shapes.machine(properties={"virtualMachineScaleSet": {"id": name}}))
    await asyncio.sleep(0.2)
    try:
        left = await run(stage, "run assess flex-01 --reason x --yes", 2)
        with stage.settings(PATCH_SCALE_SETS="include"):
            gone = await run(stage, "run assess flex-01 --reason x --yes")
    finally:
        azure.delete_machine(str(machine("flex-01")))
    assert "managed-elsewhere" in left
    assert "goes now          1 machine: flex-01" in gone


# what is typed → exit code, whether it was done
TYPED = {
    "yes": ("run assess web-02 --reason x", "Assess on 1 machine?", "y\n", 0),
    "no": ("run assess web-02 --reason x", "Assess on 1 machine?", "n\n", 2),
    "the number, for everything": ("run assess --everything --reason x", "type their number", "16\n", 0),
    "yes, for everything": ("run assess --everything --reason x", "type their number", "y\n", 2),
    "no, as JSON": ("run assess web-02 --reason x --json", "Assess on 1 machine?", "n\n", 2),
}


@pytest.mark.parametrize(("words", "asked", "typed", "code"), TYPED.values(), ids=TYPED)
async def test_on_a_terminal_a_person_sees_the_preview_and_is_asked(
    stage: Stage, words: str, asked: str, typed: str, code: int
) -> None:
    ended = await stage.on_a_terminal(*shlex.split(words), typed=typed)
    assert ended.code == code, ended
    assert asked in ended.out
    assert ended.out.index("goes now") < ended.out.index(asked)
    assert len(await orders(stage)) == (1 if code == 0 else 0)


async def test_without_a_terminal_there_is_no_colour(stage: Stage) -> None:
    """In a process of its own, as a pipeline runs it."""
    words = "run install web-02 --ignore-window --reason x"
    asked, done = await asyncio.gather(
        stage.in_a_process(*shlex.split(words)), stage.in_a_process(*shlex.split(f"{words} --yes"))
    )
    assert (asked.code, asked.err.count("\n")) == (2, 1), asked
    assert (done.code, done.err) == (0, ""), done
    assert "windows and blackouts are ignored" in done.out
    assert "\x1b" not in asked.out + done.out
    assert len(await orders(stage)) == 1


# -- how far it has come

STARTED = NOW - timedelta(minutes=12)
PROGRESS = {
    machine("web-01"): Item(RunOutcome.SUCCEEDED, started=STARTED, ended=NOW, image="web"),
    machine("web-02"): Item(RunOutcome.FAILED, "failed", "2 patches failed: libssl3", STARTED, NOW, at_fault=True),
    machine("web-03"): Item(RunOutcome.LEFT, CANARY_FAILED, "the canary web-02 failed"),
    machine("web-04"): Item(RunOutcome.IN_FLIGHT, started=NOW - timedelta(days=3)),
    machine("off-01"): Item(state="powered-off", reason="the machine is deallocated"),
    machine("past-01"): Item(RunOutcome.GONE),
}
NAMES = ("web-01", "web-02", "web-03", "web-04", "off-01", "past-01", "win-01")


async def test_a_run_is_shown_with_what_became_of_each_machine(stage: Stage) -> None:
    order = await put(stage, an_order(*NAMES, canaries=1, ignore_window=True), Progress(PROGRESS))
    out = await run(stage, f"run show {order.id}")
    for text in (
        "installation on 7 machines, under way",
        "a CVE",
        "jane",
        "57 %, 4 of 7: 2 to-do, 1 in-flight, 1 succeeded, 1 failed, 1 gone, 1 left",
        "web-04   3 d",
        "web-02   failed  2 patches failed: libssl3",
        "web-03   canary-failed  the canary web-02 failed",
        "off-01   powered-off  the machine is deallocated",
        f"patcher run stop {order.id} --reason",
    ):
        assert text in out, out
    assert "\x1b" not in out
    shown = json.loads(await run(stage, f"run show {order.id} --json"))
    assert [error.message for error in SCHEMA.iter_errors(shown)] == []
    outcomes = {each["machine"].rsplit("/", 1)[-1]: each["outcome"] for each in shown["result"]["items"]}
    assert outcomes == {name: PROGRESS.get(machine(name), Item()).outcome for name in NAMES}


async def test_on_a_terminal_there_is_a_bar(stage: Stage) -> None:
    order = await put(stage, an_order(*NAMES), Progress(PROGRESS))
    ended = await stage.on_a_terminal("run", "show", order.id)
    assert "━" in ended.out
    assert "━" not in await run(stage, f"run show {order.id}")


# the order, how far the app has come → what the list says of it
STANDINGS: Mapping[str, tuple[dict[str, Any], Progress | None, str]] = {
    "no sweep has seen it": ({}, None, "under way"),
    "under way": ({}, Progress(), "under way"),
    "for later": ({"at": TOMORROW}, None, "scheduled"),
    "stopped": ({"stopped": NOW, "stopped_by": "jim", "stopped_because": "wrong"}, Progress(), "stopped"),
    "its time is over": ({"opened": NOW - timedelta(days=2), "until": NOW - timedelta(days=1)}, Progress(), "over"),
    "ended": ({}, Progress({machine("web-02"): Item(RunOutcome.SUCCEEDED)}, ended=NOW), "ended"),
}


@pytest.mark.parametrize(("fields", "progress", "standing"), STANDINGS.values(), ids=STANDINGS)
async def test_the_list_says_what_a_run_does_now(
    stage: Stage, fields: dict[str, Any], progress: Progress | None, standing: str
) -> None:
    await put(stage, an_order(**fields), progress)
    out = json.loads(await run(stage, "run list --json"))
    assert [error.message for error in SCHEMA.iter_errors(out)] == []
    assert [each["standing"] for each in out["result"]["runs"]] == [standing]
    assert standing in await run(stage, "run list")
    status = json.loads(await run(stage, "status --json"))
    assert [error.message for error in SCHEMA.iter_errors(status)] == []
    assert len(status["result"]["runs"]) == (standing != "ended")


# the order → what `plan` starts of it, and lets wait; the machines that `next` shows as taken by it
AHEAD: Mapping[str, tuple[dict[str, Any], set[str], set[str], set[str]]] = {
    "an installation at any time": (
        {"ignore_window": True},
        {"web-02 installation", "web-03 installation"},
        {"web-04 waiting-for-slot"},
        {"web-02", "web-03", "web-04"},
    ),
    "an installation in its window": ({}, set(), set(), set()),
    "an installation that is scheduled": (
        {"ignore_window": True, "at": TOMORROW},
        set(),
        set(),
        {"web-02", "web-03", "web-04"},
    ),
    "an assessment": ({"kind": ASSESS}, {f"web-0{number} assessment" for number in (2, 3, 4)}, set(), set()),
    "one that was stopped": (
        {"ignore_window": True, "stopped": NOW, "stopped_by": "jim", "stopped_because": "wrong"},
        set(),
        set(),
        set(),
    ),
}


@pytest.mark.parametrize(("fields", "starts", "waits", "taken"), AHEAD.values(), ids=AHEAD)
async def test_plan_and_next_know_what_a_run_orders(
    stage: Stage, fields: dict[str, Any], starts: set[str], waits: set[str], taken: set[str]
) -> None:
    order = await put(stage, an_order("web-02", "web-03", "web-04", **fields))
    before = await rows_of(stage)
    plan, coming = json.loads(await run(stage, "plan --json")), json.loads(await run(stage, "next --json"))
    assert [error.message for told in (plan, coming) for error in SCHEMA.iter_errors(told)] == []
    found = {what: [each for each in plan["result"][what] if each["run"] == order.id] for what in ("start", "wait")}
    assert {f"{last(each)} {each['operation']}" for each in found["start"]} == starts
    assert {f"{last(each)} {each['state']}" for each in found["wait"]} == waits
    assert {last(each) for each in coming["result"]["runs"]} == taken
    assert all(each["run"] == order.id for each in coming["result"]["runs"])
    assert (order.id in await run(stage, "plan")) == bool(starts)
    assert ("A run on demand takes these before their turn" in await run(stage, "next")) == bool(taken)
    assert await rows_of(stage) == before


def last(item: Mapping[str, Any]) -> str:
    """The name of a machine."""
    return str(item["machine"]).rsplit("/", 1)[-1]


async def test_the_newest_run_is_listed_first_also_of_one_minute(stage: Stage) -> None:
    for run_id, seconds in (("20261128T0900-mmmm", 30), ("20261128T0900-aaaa", 50), ("20261128T0900-zzzz", 10)):
        await put(stage, an_order(run_id=run_id, opened=NOW - timedelta(minutes=1) + timedelta(seconds=seconds)))
    found = json.loads(await run(stage, "run list --json"))["result"]["runs"]
    assert [each["run"][-4:] for each in found] == ["aaaa", "mmmm", "zzzz"]


async def test_a_run_that_cannot_be_read_is_shown_with_why(stage: Stage) -> None:
    await stage.ledger.table.insert(APP, run_key("1"), {"v": 1, "kind": "reboot"})
    out = json.loads(await run(stage, "run list --json"))
    assert [error.message for error in SCHEMA.iter_errors(out)] == []
    [found] = out["result"]["runs"]
    assert (found["standing"], "row run-1 of the ledger cannot be read" in found["problem"]) == ("unreadable", True)
    assert "cannot be read" in await run(stage, "run show 1")
    assert "run 1 wants nothing: row run-1 of the ledger cannot be read" in await run(stage, "run stop 1 --reason x", 2)
    shown = json.loads(await run(stage, "run show 1 --json"))
    assert [error.message for error in SCHEMA.iter_errors(shown)] == []


async def test_a_run_of_a_newer_release_is_reported_and_left_alone(stage: Stage) -> None:
    await stage.ledger.table.insert(APP, run_key("1"), {"v": 99})
    out = json.loads(await run(stage, "run list --json"))
    assert (out["result"]["runs"], len(out["problems"])) == ([], 1)


async def test_a_run_is_watched_until_it_has_ended(stage: Stage) -> None:
    """The tool looks again: it ends only because the app's row says that the run ended."""
    order = await put(stage, an_order("web-02"), Progress())
    watching = [
        asyncio.ensure_future(stage.on_a_terminal("run", "show", order.id, "--watch", "--every", "1")),
        asyncio.ensure_future(stage.in_a_process("run", "show", order.id, "--watch", "--every", "1", "--json")),
    ]
    row = await stage.ledger.table.get(APP, progress_key(order.id))
    assert row is not None
    ended = Progress({machine("web-02"): Item(RunOutcome.SUCCEEDED)}, ended=datetime.now(UTC))
    await stage.ledger.table.replace(row, progress_columns(ended, order))
    terminal, process = await asyncio.gather(*watching)
    assert terminal.code == process.code == 0
    assert "100 %, 1 of 1: 1 succeeded" in terminal.out
    assert process.json["result"]["standing"] == "ended"


# -- stopping


async def test_a_stop_says_who_and_why_and_keeps_the_rest_of_the_order(stage: Stage) -> None:
    order = await put(stage, an_order(*NAMES, canaries=2, ignore_window=True))
    out = json.loads(await run(stage, f"run stop {order.id} --reason 'wrong machines' --json"))
    assert [error.message for error in SCHEMA.iter_errors(out)] == []
    [stopped] = await orders(stage)
    assert (stopped.stopped_by, stopped.stopped_because) == (ME, "wrong machines")
    assert stopped.stopped is not None
    for name in ("machines", "reason", "by", "canaries", "ignore_window", "until"):
        assert getattr(stopped, name) == getattr(order, name)


# the run as it is → what the one line says
NOT_TO_STOP: Mapping[str, tuple[dict[str, Any], Progress | None, str]] = {
    "stopped": (
        {"stopped": NOW, "stopped_by": "jim", "stopped_because": "wrong machines"},
        None,
        "is stopped already, by jim: wrong machines; nothing was written",
    ),
    "over": ({"opened": NOW - timedelta(days=2), "until": NOW - timedelta(days=1)}, None, "is over; nothing was"),
    "ended": ({}, Progress({}, ended=NOW), "is over; nothing was written; of the others there is 20261128T1000-aaaa"),
}


@pytest.mark.parametrize(("fields", "progress", "line"), NOT_TO_STOP.values(), ids=NOT_TO_STOP)
async def test_what_cannot_be_stopped_is_an_error(
    stage: Stage, fields: dict[str, Any], progress: Progress | None, line: str
) -> None:
    order = await put(stage, an_order(**fields), progress)
    await put(stage, an_order(run_id="20261128T1000-aaaa"))
    before = await rows_of(stage)
    assert line in await run(stage, f"run stop {order.id} --reason x", 2)
    assert await rows_of(stage) == before


async def test_an_unknown_run_names_those_that_are_known(stage: Stage) -> None:
    await put(stage, an_order())
    assert "there is 20261128T0900-7k2m (under way)" in await run(stage, "run stop 20261128T0900-7k2n --reason x", 2)


async def test_of_two_stops_at_once_the_second_learns_who_was_first(stage: Stage) -> None:
    """In processes of their own, as two people do it."""
    order = await put(stage, an_order())
    both = await asyncio.gather(*(stage.in_a_process("run", "stop", order.id, "--reason", each) for each in "ab"))
    [stopped] = await orders(stage)
    assert sorted(each.code for each in both) == [0, 2], both
    [lost] = [each for each in both if each.code == 2]
    assert f"is stopped already, by {ME}: {stopped.stopped_because}" in lost.err


# -- elsewhere


async def test_why_names_the_run_that_covers_a_machine(stage: Stage) -> None:
    waits = Item(state="waiting-for-slot", reason="2 are under way")
    order = await put(stage, an_order("web-02", ignore_window=True), Progress({machine("web-02"): waits}))
    out = await run(stage, "why web-02")
    assert f"run {order.id}: a CVE (by jane); installation to-do, waiting-for-slot: 2 are under way" in out
    assert "windows do not count for this run" in out
    assert "run on demand" not in await run(stage, "why web-03")
    found = json.loads(await run(stage, "why web-02 --json"))
    assert [error.message for error in SCHEMA.iter_errors(found)] == []


async def test_why_goes_back_to_the_rules_once_the_run_is_through_with_the_machine(stage: Stage) -> None:
    done = {machine("web-02"): Item(RunOutcome.SUCCEEDED)}
    await put(stage, an_order("web-02", "web-03", ignore_window=True), Progress(done))
    out = await run(stage, "why web-02")
    assert "run on demand" not in out
    assert "waiting-for-window" in out


async def test_a_preview_says_which_run_has_a_machine_already(stage: Stage) -> None:
    order = await put(stage, an_order("web-02", ignore_window=True))
    ended = await stage.patcher(*shlex.split("run install web-02 web-03 --ignore-window --reason x"))
    assert f"1 machine of these: {order.id}, which goes first" in ended.out


JSON = ("run list", "run show", "run assess", "run install", "run stop")  # each is tried above
