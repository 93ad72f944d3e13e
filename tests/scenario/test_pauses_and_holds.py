"""What a person stops starts nothing more: one image, owner, subscription or machine, until a time or its end."""

from datetime import timedelta
from typing import Any

import pytest

from functions.cloud.ledger import APP
from functions.cloud.stops import columns_of, key_of
from functions.model.state import OperationKind, State
from functions.model.stop import Scope, Stop
from simulator.azure import Behaviour
from tests.support.journaled import Told
from tests.support.world import GALLERY, QUICK, SUBSCRIPTION, World

GOOD = Behaviour(support_state="Supported", pending={"security": 2})
OTHER = GALLERY.replace("/web/", "/batch/")


def put(world: World, scope: Scope, value: str = "", **fields: Any) -> str:
    """The row as a person's tool writes it."""
    key = key_of(scope, value)
    world.table.put(APP, key, columns_of(Stop(scope, value.lower(), "a bad patch", "Jane", **fields)))
    return key


SCOPES = [
    (Scope.IMAGE, GALLERY, {"vm-02"}),
    (Scope.SUBSCRIPTION, SUBSCRIPTION, set()),
    (Scope.OWNER, "shop", {"vm-02"}),
    (Scope.MACHINE, "", {"vm-02"}),
]


@pytest.mark.parametrize(("scope", "value", "go"), SCOPES, ids=[case[0] for case in SCOPES])
async def test_a_stop_stops_those_that_it_covers_and_no_other(
    scope: Scope, value: str, go: set[str], told: Told
) -> None:
    world = World({"PATCH_OWNER_TAG": "team", "PATCH_CANARIES": "0"}, timings=QUICK)
    stopped = world.machine_id("vm-01")
    put(world, scope, value or str(stopped))
    world.create("vm-01", GOOD, tags={"team": "shop"})
    world.create("vm-02", GOOD, tags={"team": "office"}, image={"id": OTHER})
    await world.pass_time(hours=3)
    assert {each.machine.rsplit("/", 1)[-1] for each in world.operations()} == go
    step = (await world.states())["vm-01"]
    assert step.state is (State.ON_HOLD if scope is Scope.MACHINE else State.PAUSED)
    assert "a bad patch (by Jane)" in step.reason
    [placed] = told("hold.placed" if scope is Scope.MACHINE else "app.paused")
    assert (placed["by"], placed["reason"]) == ("Jane", "a bad patch")


async def test_a_stop_is_read_before_every_post(told: Told) -> None:
    """The message of the installation is in the queue already."""
    world = World({"PATCH_CANARIES": "0"}, timings=QUICK)
    machine = world.create("vm-01", GOOD)
    await world.until_queued(OperationKind.INSTALL)
    put(world, Scope.MACHINE, str(machine))
    await world.messages()
    await world.pass_time(hours=2)
    assert world.operations(kind="install") == []
    assert told("operation.postponed")
    assert len(world.posts()) == len(world.operations())


async def test_a_stop_ends_at_its_time_and_the_machine_goes_on(told: Told) -> None:
    world = World({"PATCH_CANARIES": "0"}, timings=QUICK)
    key = put(world, Scope.IMAGE, GALLERY, until=world.now + timedelta(hours=2))
    machine = world.create("vm-01", GOOD)
    await world.pass_time(hours=1, minutes=50)
    assert world.operations(machine) == []
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-01"]
    assert (APP, key) not in world.table.rows
    [resumed] = told("app.resumed")
    assert (resumed["by"], resumed["value"]) == ("its end came", GALLERY.lower())


async def test_who_ends_a_stop_is_reported_and_its_row_goes(told: Told) -> None:
    world = World({"PATCH_CANARIES": "0"}, timings=QUICK)
    machine = world.create("vm-01", GOOD)
    key = put(world, Scope.MACHINE, str(machine))
    await world.pass_time(hours=1)
    put(world, Scope.MACHINE, str(machine), ended=world.now, ended_by="Jim", told=True)
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-01"]
    assert (APP, key) not in world.table.rows
    assert [(line["event"], line["by"]) for line in told("hold.placed", "hold.released")] == [
        ("hold.placed", "Jane"),
        ("hold.released", "Jim"),
    ]


async def test_the_pause_of_everything_ends_at_its_time(told: Told) -> None:
    world = World({"PATCH_CANARIES": "0"}, timings=QUICK)
    await world.pass_time(minutes=10)
    world.create("vm-01", GOOD)
    put(world, Scope.EVERYTHING, until=world.now + timedelta(hours=1))
    await world.pass_time(minutes=55)
    assert world.operations() == []
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-01"]
    assert [line["by"] for line in told("app.paused", "app.resumed")] == ["Jane", "its end came"]


async def test_a_row_that_cannot_be_read_stops_everything_until_it_is_corrected(told: Told) -> None:
    world = World({"PATCH_CANARIES": "0"}, timings=QUICK)
    world.create("vm-01", GOOD)
    world.table.put(APP, "pause-1", {"scope": "image"})
    await world.pass_time(hours=1)
    assert world.operations() == []
    assert "value is empty" in told("stop.unreadable")[0]["problem"]
    assert "delete it" in told("stop.unreadable")[0]["remedy"]
    assert "pause-1" in (await world.states())["vm-01"].reason
    world.table.rows.pop((APP, "pause-1"))
    await world.pass_time(hours=2)
    assert world.installed() == ["vm-01"]


@pytest.mark.parametrize("paused", [{}, {"PATCH_PAUSE": "on"}], ids=["running", "paused by the setting"])
async def test_the_forecast_leaves_out_what_a_person_holds(paused: dict[str, str], told: Told) -> None:
    world = World({"PATCH_WINDOW": "Sat 22:00-02:00 UTC", "PATCH_CANARIES": "0"}, timings=QUICK)
    world.in_steps(timedelta(minutes=15))
    machines = [world.create(f"vm-{number}", GOOD) for number in range(3)]
    await world.pass_time(hours=2)
    put(world, Scope.MACHINE, str(machines[0]))
    world.set(**paused)
    await world.pass_time(hours=25)
    assert told("opening.forecast")[-1]["waiting"] == 2
