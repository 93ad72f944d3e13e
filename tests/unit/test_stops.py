"""What people stop: which machines a stop covers, until when, and rows that say it wrong."""

import shlex
from datetime import timedelta
from typing import Any

import pytest

from functions.cloud.stops import columns_of, key_of, stop_of_row
from functions.cloud.tables import Row
from functions.model.state import State
from functions.model.stop import Scope, Stop, Stops
from tests.support import GALLERY_IMAGE, HOUR, NOW, SUBSCRIPTION, a_machine, machine_id

TAG = "team"
SHOP = a_machine(tags={TAG: "Shop & Co"})
OTHERS = "11111111-0000-0000-0000-000000000001"


def a_stop(scope: Scope, value: str = "", **fields: Any) -> Stop:
    return Stop(scope, value, "a bad patch", "Jane", **fields)


COVERED: dict[str, tuple[Stop, bool]] = {
    "everything": (a_stop(Scope.EVERYTHING), True),
    "its subscription": (a_stop(Scope.SUBSCRIPTION, SUBSCRIPTION), True),
    "another subscription": (a_stop(Scope.SUBSCRIPTION, OTHERS), False),
    "its image": (a_stop(Scope.IMAGE, SHOP.image.key), True),
    "another version of its image": (a_stop(Scope.IMAGE, SHOP.image.key + "1"), False),
    "its owner": (a_stop(Scope.OWNER, "Shop & Co"), True),
    "an owner who is spelt otherwise": (a_stop(Scope.OWNER, "shop & co"), False),
    "itself": (a_stop(Scope.MACHINE, str(SHOP.id)), True),
    "its neighbour": (a_stop(Scope.MACHINE, str(machine_id("vm-02"))), False),
    "until later": (a_stop(Scope.EVERYTHING, until=NOW + HOUR), True),
    "until now": (a_stop(Scope.EVERYTHING, until=NOW), False),
    "ended by a person": (a_stop(Scope.EVERYTHING, ended=NOW - HOUR), False),
}


@pytest.mark.parametrize(("stop", "covers"), COVERED.values(), ids=COVERED)
def test_whom_a_stop_covers(stop: Stop, *, covers: bool) -> None:
    stops = Stops.in_force([stop], NOW)
    assert (stops.of(SHOP, TAG) is not None) is covers


def test_a_machine_without_an_owner_or_an_image_is_not_covered_by_a_stop_of_one() -> None:
    plain = a_machine()
    stops = Stops.in_force([a_stop(Scope.OWNER, "shop"), a_stop(Scope.IMAGE, "/i")], NOW)
    assert stops.of(plain, TAG) is None


def test_the_widest_speaks() -> None:
    both = [a_stop(Scope.MACHINE, str(SHOP.id)), a_stop(Scope.SUBSCRIPTION, SUBSCRIPTION)]
    stops = Stops.in_force(both, NOW)
    found = stops.of(SHOP, TAG)
    assert found is not None
    assert found.scope is Scope.SUBSCRIPTION


WAITS = [
    (a_stop(Scope.EVERYTHING), State.PAUSED, "paused: a bad patch (by Jane)"),
    (a_stop(Scope.IMAGE, "/i/web"), State.PAUSED, "paused: image /i/web: a bad patch (by Jane)"),
    (
        a_stop(Scope.MACHINE, str(SHOP.id), until=NOW),
        State.ON_HOLD,
        "held by a person: a bad patch (by Jane, until 2026-11-25 12:00 UTC)",
    ),
]


@pytest.mark.parametrize(("stop", "state", "reason"), WAITS, ids=[case[1] + case[0].scope for case in WAITS])
def test_the_wait_says_why_who_and_until_when(stop: Stop, state: State, reason: str) -> None:
    wait = stop.wait()
    assert (wait.state, wait.reason, wait.when) == (state, reason, stop.until)
    assert wait.remedy


COMMANDS = {
    "everything": (a_stop(Scope.EVERYTHING), ["resume"]),
    "an image": (a_stop(Scope.IMAGE, "/i/web"), ["resume", "--image", "/i/web"]),
    "an owner with a quote": (a_stop(Scope.OWNER, "O'Hara; echo $HOME"), ["resume", "--owner", "O'Hara; echo $HOME"]),
    "a machine": (a_stop(Scope.MACHINE, str(SHOP.id)), ["release", str(SHOP.id)]),
}


@pytest.mark.parametrize(("stop", "words"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_that_ends_it_is_one_that_a_shell_reads_as_it_is_meant(stop: Stop, words: list[str]) -> None:
    assert shlex.split(stop.command) == ["patcher", *words]
    assert stop.command in stop.wait().remedy


# -- rows


def a_row(key: str, **columns: Any) -> Row:
    return Row("app", key, columns, "")


def scoped(scope: Scope, value: str, **columns: Any) -> Row:
    return a_row(key_of(scope, value), scope=scope.value, value=value, **columns)


@pytest.mark.parametrize("scope", [each for each in Scope if each is not Scope.EVERYTHING])
def test_a_stop_comes_back_from_its_row(scope: Scope) -> None:
    value = str(machine_id()) if scope is Scope.MACHINE else "/i/web 1.0"
    end = {"ended": NOW + HOUR, "ended_by": "Jim", "ended_because": "replaced"}
    stop = a_stop(scope, value, until=NOW, since=NOW - HOUR, told=True, **end)
    assert stop_of_row(a_row(key_of(scope, value), **columns_of(stop))) == stop


def test_a_value_in_other_letters_is_the_same_image() -> None:
    row = scoped(Scope.IMAGE, GALLERY_IMAGE.upper())
    assert stop_of_row(row).value == GALLERY_IMAGE.lower()


BAD: dict[str, tuple[Row, str]] = {
    "no scope": (a_row("pause-1"), "scope is 'empty'; one of subscription, image, owner, machine is right"),
    "a scope that there is not": (a_row("pause-1", scope="region", value="x"), "scope is 'region'"),
    "no value": (a_row("pause-1", scope="image"), "value is empty; the image is right"),
    "the key of another": (a_row("pause-1", scope="image", value="/i"), "its key is not that of image /i"),
    "a machine that is none": (scoped(Scope.MACHINE, "vm-01"), "is not a virtual machine id"),
    "a time that is none": (a_row("pause", until="tomorrow"), "until is 'tomorrow'; a time such as"),
    "a time without a zone": (a_row("pause", until="2026-12-01T00:00:00"), "until has no time zone"),
    "a beginning that is none": (a_row("pause", since="now"), "since is 'now'; a time such as"),
    "an end that is none": (a_row("pause", ended=7), "ended is '7'"),
}


@pytest.mark.parametrize(("row", "problem"), BAD.values(), ids=BAD)
def test_a_row_that_cannot_be_read_stops_everything_and_says_what_is_right(row: Row, problem: str) -> None:
    stop = stop_of_row(row)
    stops = Stops.in_force([stop, a_stop(Scope.EVERYTHING)], NOW + timedelta(days=400))
    assert problem in stop.problem
    assert f"row {row.key}" in stop.problem
    assert stops.everything == stop
    assert stops.of(SHOP, TAG) == stop
