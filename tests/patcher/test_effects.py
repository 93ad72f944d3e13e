"""What the app makes of what a command wrote: its next sweeps, over the simulated Azure in virtual time.

Factors: the command; who goes and who does not; what the journal tells, of whom and why; the end.
"""

from dataclasses import replace

import pytest

from functions.cloud.errors import Unavailable
from functions.cloud.ledger import APP, Ledger
from functions.cloud.session import Session
from functions.model.image_record import ImageRecord
from functions.model.machine import MachineId
from functions.model.stop import Scope
from patcher.acting import Action, Deed, Pen
from patcher.actions import images, stops
from patcher.actions.selecting import Selector
from patcher.actions.stops import Scoped
from patcher.arm import Arm
from patcher.connection import App
from patcher.errors import BadRequest, NoAnswer
from patcher.output import Answer
from patcher.reading import ReadOnlyTable
from simulator.azure import Behaviour
from tests.support.journaled import Told
from tests.support.tables import TableCall
from tests.support.world import BOUNDARY, GALLERY, QUICK, SUBSCRIPTION, World

GOOD = Behaviour(support_state="Supported", pending={"security": 2})
BAD = Behaviour(support_state="Supported", pending={"security": 2}, install_status="Failed")
OTHER = GALLERY.replace("/web/", "/batch/")
SEEN = replace(QUICK, graph_lag_seconds=0)  # a new machine is in the census at once
ME = "5f3c0000-0000-0000-0000-000000000001"


def a_world(**settings: str) -> World:
    world = World({"PATCH_CANARIES": "0", **settings}, timings=SEEN)
    world.create("vm-01", GOOD, tags={"owner": "shop"})
    world.create("vm-02", GOOD, tags={"owner": "office"}, image={"id": OTHER})
    return world


async def act(world: World, action: Action, *, by: str = ME) -> Answer:
    deed = await prepared(world, action, by=by)
    return await deed.do()


async def prepared(world: World, action: Action, *, by: str = ME) -> Deed:
    """As the command does it: what it reads by a table that cannot write, what it writes by the pen."""
    session = Session(world.settings, lambda: world.now, credential=world.credential, transport=world.transport)
    services = world.connect()
    services.ledger = Ledger(ReadOnlyTable(world.table))
    app = App("world", "", "", "", world.environment, session, services, Arm("https://example.org", world.credential))
    return await action(app, Pen(world.table, by))


def pause(scoped: Scoped, *, lasting: str = "", replacing: bool = False) -> Action:
    return stops.pause(scoped, reason="bad kernel", until="", lasting=lasting, replacing=replacing)


def hold(*names: str, lasting: str = "") -> Action:
    return stops.hold(Selector(names), reason="bad kernel", until="", lasting=lasting, replacing=False)


# what is stopped and how it is ended → who still goes, the event, what it names
STOPPED: dict[str, tuple[Action, Action, set[str], str, dict[str, str]]] = {
    "everything": (pause(Scoped()), stops.resume(Scoped(), reason="replaced"), set(), "app.paused", {}),
    "a subscription": (
        pause(Scoped(subscription=SUBSCRIPTION)),
        stops.resume(Scoped(subscription=SUBSCRIPTION), reason="replaced"),
        set(),
        "app.paused",
        {"scope": Scope.SUBSCRIPTION, "value": SUBSCRIPTION},
    ),
    "an image": (
        pause(Scoped(image="web/1.0.0")),
        stops.resume(Scoped(image="web/1.0.0"), reason="replaced"),
        {"vm-02"},
        "app.paused",
        {"scope": Scope.IMAGE, "value": GALLERY.lower()},
    ),
    "an owner": (
        pause(Scoped(owner="shop")),
        stops.resume(Scoped(owner="shop"), reason="replaced"),
        {"vm-02"},
        "app.paused",
        {"scope": Scope.OWNER, "value": "shop"},
    ),
    "a machine": (
        hold("vm-01"),
        stops.release(Selector(("vm-01",)), reason="replaced"),
        {"vm-02"},
        "hold.placed",
        {"machine": str(MachineId(SUBSCRIPTION, "rg-web", "vm-01"))},
    ),
}


@pytest.mark.parametrize(("stop", "end", "go", "event", "fields"), STOPPED.values(), ids=STOPPED)
async def test_what_is_stopped_waits_and_goes_on(
    stop: Action, end: Action, go: set[str], event: str, fields: dict[str, str], told: Told
) -> None:
    world = a_world()
    await world.sweep()  # the first one reports nothing
    await act(world, stop)
    await world.pass_time(hours=3)
    assert set(world.installed()) == go
    [placed] = told(event)
    assert {"by": ME, "reason": "bad kernel", **fields}.items() <= placed.items()
    await act(world, end, by="jim")
    await world.pass_time(hours=3)
    assert set(world.installed()) == {"vm-01", "vm-02"}
    [ended] = told("app.resumed", "hold.released")
    assert {"by": "jim", "reason": "bad kernel", "because": "replaced", **fields}.items() <= ended.items()
    assert not [key for _, key in world.table.rows if key.startswith(("pause", "hold-"))]


# what has an end → the event that tells it
ENDS = {
    "a pause of everything": (pause(Scoped(), lasting="2h"), "app.resumed"),
    "a pause of an owner": (pause(Scoped(owner="shop"), lasting="2h"), "app.resumed"),
    "a hold": (hold("vm-01", lasting="2h"), "hold.released"),
}


@pytest.mark.parametrize(("stop", "event"), ENDS.values(), ids=ENDS)
async def test_a_stop_ends_by_itself_at_its_time(stop: Action, event: str, told: Told) -> None:
    world = a_world()
    await world.sweep()
    await act(world, stop)
    await world.pass_time(hours=1, minutes=50)
    assert "vm-01" not in world.installed()
    await world.pass_time(hours=2)
    assert "vm-01" in world.installed()
    assert [line["by"] for line in told(event)] == ["its end came"]


async def test_a_pause_that_is_replaced_is_reported_again(told: Told) -> None:
    world = a_world()
    await act(world, pause(Scoped(owner="shop")))
    await world.sweep()
    await act(world, stops.pause(Scoped(owner="shop"), reason="worse", until="", lasting="", replacing=True))
    await world.sweep()
    assert [line["reason"] for line in told("app.paused")] == ["bad kernel", "worse"]


async def test_a_closed_breaker_lets_the_image_go_on_and_is_reported(told: Told) -> None:
    world = World({"PATCH_CANARIES": "0", "PATCH_BREAKER": "1 in 7 days"}, timings=SEEN)
    world.create("vm-01", BAD)
    await world.until(lambda: bool(told("breaker.opened")), hours=6)
    world.create("vm-02", GOOD)
    await world.pass_time(hours=2)
    assert "vm-02" not in world.installed()
    opening = (await world.image()).opening
    await act(world, images.close_breaker("web/1.0.0", opening=opening, reason="fixed"))
    await world.pass_time(hours=2)
    assert "vm-02" in world.installed()
    [closed] = told("breaker.closed")
    assert (closed["by"], closed["reason"], closed["opening"]) == (ME, "fixed", opening)
    assert told("breaker.not-closed") == []


async def test_an_ended_rollout_is_followed_by_another_and_told(told: Told) -> None:
    world = a_world()
    await world.until(lambda: "vm-01" in world.installed(), hours=6)
    ended = (await world.image()).rollout
    await act(world, images.end_rollout("web/1.0.0", rollout="", reason="newer patches", restart=True))
    world.create("vm-03", GOOD)
    await world.until(lambda: "vm-03" in world.installed(), hours=6)
    assert (await world.image()).rollout > ended
    [line] = told("rollout.ended")
    assert (line["by_hand"], line["by"], line["reason"]) == (True, ME, "newer patches")


# -- many machines


async def test_a_preview_names_the_first_twenty() -> None:
    world = World(timings=SEEN)
    for number in range(21):
        world.create(f"vm-{number:02}", GOOD)
    deed = await prepared(world, hold(*(f"vm-{number:02}" for number in range(21))))
    assert deed.ask_first
    assert deed.preview == f"hold 21 machines: {', '.join(f'vm-{number:02}' for number in range(20))} …"
    assert world.table.rows == {}, "nothing is written before a person agrees"


async def test_writes_that_fail_half_way_say_how_far_they_came_and_can_be_repeated() -> None:
    world = World(timings=SEEN)
    names = [f"vm-{number:02}" for number in range(20)]
    for name in names:
        world.create(name, GOOD)
    usual = world.table.before

    async def fail(call: TableCall) -> None:
        if call.columns.get("value", "").endswith("vm-17"):
            raise Unavailable("writing the ledger could not be sent")

    world.table.before = fail
    with pytest.raises(NoAnswer, match="19 of 20 machines are held, and the same command does the others: writing the"):
        await act(world, hold(*names))
    world.table.before = usual
    answer = await act(world, hold(*names))
    assert [each.rpartition("/")[2] for each in answer.result["machines"]] == ["vm-17"]
    assert len(answer.result["already"]) == 19


# -- races


async def test_a_breaker_that_another_person_closed_meanwhile_is_not_closed_twice() -> None:
    world = World({"PATCH_CANARIES": "0"}, timings=SEEN)
    stored = await world.services.ledger.image(GALLERY.lower(), BOUNDARY)
    await world.services.ledger.put_image(stored, _open(stored.record))
    close = images.close_breaker("web/1.0.0", opening="20261125T081500", reason="mine")
    once = world.table.before

    async def first(call: TableCall) -> None:
        """Just before our write another person's arrives."""
        if call.operation == "replace" and call.columns.get("closed_because") == "mine":
            world.table.before = once
            await world.close_breaker("20261125T081500", closed_by="jane", closed_because="hers")

    world.table.before = first
    with pytest.raises(BadRequest, match=r"is closed already, by jane: hers; nothing was written"):
        await act(world, close)
    assert (await world.image()).closed_by == "jane"


async def test_a_sweep_that_writes_the_row_meanwhile_keeps_both() -> None:
    world = World({"PATCH_CANARIES": "0"}, timings=SEEN)
    stored = await world.services.ledger.image(GALLERY.lower(), BOUNDARY)
    await world.services.ledger.put_image(stored, _open(stored.record))
    once = world.table.before

    async def first(call: TableCall) -> None:
        if call.operation == "replace" and call.columns.get("closed"):
            world.table.before = once
            assert call.row is not None
            await world.table.replace(call.row, {**call.row.columns, "canaries": 7})

    world.table.before = first
    await act(world, images.close_breaker("web/1.0.0", opening="20261125T081500", reason="x"))
    record = await world.image()
    assert (record.closed, record.canaries) == ("20261125T081500", 7)


async def test_a_pause_that_another_person_placed_meanwhile_is_reported() -> None:
    world = a_world()
    once = world.table.before

    async def first(call: TableCall) -> None:
        if call.operation == "insert":
            world.table.before = once
            await world.table.insert(APP, "pause", {"reason": "hers", "by": "jane"})

    world.table.before = first
    with pytest.raises(BadRequest, match=r"everything is paused already: hers \(by jane\)"):
        await act(world, pause(Scoped()))


def _open(record: ImageRecord) -> ImageRecord:
    return replace(record, opening="20261125T081500", opened_because="3 of 4 failed")
