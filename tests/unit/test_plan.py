"""Fleet limits: which of the due machines now, why the others wait, and how far apart the calls are.

Factors: assessments and installations; slots taken by every phase; fleet, image, availability set and patch-group;
groups in trouble; images with every kind of record; one and two quota buckets; claims that wait to be sent, and how
much is queued already. Below the examples, random fleets: what holds in each, what a restriction never adds, and that
in time every machine is dispatched.

test_rollout.py says who is the canary and when a ring opens; here it is enough that the plan follows that.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.decisions import rollout
from functions.decisions.plan import (
    BURST_SHARE,
    FILL_TIME,
    HORIZON,
    TOKENS_PER_CALL,
    TOKENS_PER_MINUTE,
    Candidate,
    Dispatch,
    Fleet,
    Plan,
    installations_in_flight,
    make_plan,
    waits_to_be_sent,
)
from functions.model.image_record import ImageRecord, Tally
from functions.model.machine import BUCKET_CAPACITY, LAST_RING, Image, ImageKind, Machine, MachineId
from functions.model.record import Flight, Record
from functions.model.state import Assess, Install, OperationKind, Phase, State, Wait
from functions.policy.settings import Settings
from tests.support import DAY, GALLERY_IMAGE, HOUR, MINUTE, NOW, SUBSCRIPTION, a_machine, a_record, machine_id
from tests.support import settings as settings_with

REGIONS = ("westeurope", "northeurope")
OTHER_SUBSCRIPTION = "00000000-0000-0000-0000-000000000002"


def settings(**environ: str) -> Settings:
    """One rollout of an image for the whole fleet: its record goes by its own name. Groups of whole subscriptions."""
    return settings_with(**{"PATCH_ROLLOUT_SCOPE": "fleet", "PATCH_GROUP_SCOPE": "subscription", **environ})


def a_member(
    name: str,
    image: str = GALLERY_IMAGE,
    *,
    ring: int | None = None,
    group: str = "",
    availability_set: str = "",
    region: str = "westeurope",
    subscription: str = SUBSCRIPTION,
    age: timedelta = DAY,
) -> Machine:
    tags = {"patch-ring": str(ring)} if ring is not None else {}
    return a_machine(
        id=machine_id(name, subscription=subscription),
        image=Image(ImageKind.GALLERY if image else ImageKind.NONE, image),
        tags=tags | ({"patch-group": group} if group else {}),
        availability_set=availability_set,
        location=region,
        created=NOW - age,
    )


def to_assess(machine: Machine) -> Candidate:
    return Candidate(machine, Assess(State.DUE, "absent"))


def to_install(machine: Machine) -> Candidate:
    return Candidate(machine, Install(State.DUE, "Supported"))


def at_work(machine: Machine, phase: Phase = Phase.RUNNING, kind: OperationKind = OperationKind.INSTALL) -> Record:
    """The row of an installation that began long enough ago to be no concern of the pace."""
    item = to_install(machine)
    return a_record(
        machine=machine.id,
        image=machine.image.key,
        region=machine.location,
        ring=item.overrides.ring,
        group=item.overrides.group,
        availability_set=machine.availability_set,
        phase=phase,
        kind=kind,
        begun_at=None if phase is Phase.QUEUED else NOW - HOUR,
    )


def proved(image: str = GALLERY_IMAGE) -> ImageRecord:
    """An image two days into its round, its canary baked."""
    return ImageRecord(image, opened=NOW - 2 * DAY, canaries=1, proved=NOW - DAY)


def fleet_of(*rows: Record, **images: ImageRecord) -> Fleet:
    """Rows in flight. The image of a_member() is proved, and so are the images `x` and `y`; `images` put in others."""
    known = {GALLERY_IMAGE: proved(), "x": proved("x"), "y": proved("y")}
    return Fleet(rows, known | images)


def names(plan: Plan) -> list[str]:
    return [item.machine.name for item in plan.dispatches]


def states(plan: Plan) -> dict[str, State]:
    return {machine.name: step.state for machine, step in plan.waits.items()}


def many(count: int, region: str = "westeurope", prefix: str = "vm") -> list[Candidate]:
    return [to_assess(a_member(f"{prefix}-{number:04}", region=region)) for number in range(count)]


# -- order and slots


def test_nothing_due_is_an_empty_plan() -> None:
    assert make_plan([], Fleet(), settings(), now=NOW) == Plan([], {}, {})


def test_assessments_first_then_installations_and_of_each_the_oldest_machines() -> None:
    due = [
        to_install(a_member("new", "x")),
        to_install(a_member("old", "y", age=9 * DAY)),
        to_assess(a_member("b")),
        to_assess(a_member("a", age=2 * DAY)),
    ]
    assert names(make_plan(due, fleet_of(), settings(), now=NOW)) == ["a", "b", "old", "new"]


def test_within_an_image_the_lower_ring_goes_first() -> None:
    due = [to_install(a_member("b", ring=1, age=9 * DAY)), to_install(a_member("a", ring=0))]
    assert names(make_plan(due, fleet_of(), settings(), now=NOW)) == ["a"]


@pytest.mark.parametrize("phase", Phase)
def test_what_holds_a_slot(phase: Phase) -> None:
    held = installations_in_flight(
        [a_record(kind=OperationKind.INSTALL, phase=phase), a_record(kind=OperationKind.ASSESS, phase=phase)]
    )
    assert held == (1 if phase in (Phase.QUEUED, Phase.STARTING, Phase.RUNNING) else 0)


# PATCH_MAX_IN_FLIGHT, PATCH_MAX_PER_IMAGE, machines in scope by image, who is due → how many go, what the others read
PERCENT: dict[str, tuple[str, str, dict[str, int], str, int, str]] = {
    "of the fleet": ("10%", "100", {"x": 10, "y": 20}, "xxxxyyyy", 3, "PATCH_MAX_IN_FLIGHT is 10% of 30 machines"),
    "rounded down": ("10%", "100", {"x": 39}, "xxxxx", 3, "PATCH_MAX_IN_FLIGHT is 10% of 39 machines"),
    "at least one": ("1%", "100", {"x": 20}, "xx", 1, "PATCH_MAX_IN_FLIGHT is 1% of 20 machines"),
    "all": ("100%", "100", {"x": 4}, "xxxx", 4, ""),
    "of an image": ("100", "50%", {"x": 4, "y": 90}, "xxxx", 2, "PATCH_MAX_PER_IMAGE is 50% of 4 machines"),
    "of each image": ("100", "50%", {"x": 4, "y": 6}, "xxxxyyyyyy", 5, "PATCH_MAX_PER_IMAGE is 50% of"),
    "of an image that was not counted": ("100", "50%", {"y": 90}, "xx", 1, "PATCH_MAX_PER_IMAGE is 50% of 0 machines"),
    "machines without an image are of the fleet": ("25%", "1", {"": 8}, "xxx", 1, "PATCH_MAX_PER_IMAGE is 1"),
    "both": ("20%", "50%", {"x": 4, "y": 6}, "xxyyy", 2, "PATCH_MAX_IN_FLIGHT is 20% of 10 machines"),
}


@pytest.mark.parametrize(("fleet", "image", "machines", "due", "go", "reason"), PERCENT.values(), ids=PERCENT)
def test_a_cap_in_percent(fleet: str, image: str, machines: dict[str, int], due: str, go: int, reason: str) -> None:
    waiting = [to_install(a_member(f"vm{number}", name)) for number, name in enumerate(due)]
    limits = settings(PATCH_MAX_IN_FLIGHT=fleet, PATCH_MAX_PER_IMAGE=image)
    plan = make_plan(waiting, replace(fleet_of(), machines=machines), limits, now=NOW)
    assert len(plan.dispatches) == go
    assert set(states(plan).values()) == ({SLOT} if go < len(due) else set())
    assert all(reason in step.reason for step in plan.waits.values())


SLOT, GROUP, CANARY = State.WAITING_FOR_SLOT, State.WAITING_FOR_GROUP, State.WAITING_FOR_CANARY


@dataclass(frozen=True)
class Case:
    """What is due, what is at work, and what comes of it."""

    due: list[Machine]
    rows: list[Record]
    environ: dict[str, str]
    dispatched: list[str]
    waits: dict[str, State]
    reason: str = ""


def of(count: int, image: str = "x", **changes: str) -> list[Machine]:
    return [a_member(f"{image}{number}", image, **changes) for number in range(count)]  # type: ignore[arg-type]


CAPS: dict[str, Case] = {
    "the fleet's cap": Case(
        of(3), [], {"PATCH_MAX_IN_FLIGHT": "2"}, ["x0", "x1"], {"x2": SLOT}, "2 installations are under way"
    ),
    "the fleet's cap, over two images": Case(
        [*of(2), *of(2, "y")], [], {"PATCH_MAX_IN_FLIGHT": "3"}, ["x0", "x1", "y0"], {"y1": SLOT}, "in the fleet"
    ),
    "slots that are taken": Case(
        of(2), [at_work(a_member("r", "y"))], {"PATCH_MAX_IN_FLIGHT": "2"}, ["x0"], {"x1": SLOT}, "PATCH_MAX_IN_FLIGHT"
    ),
    "a cap that was lowered under way": Case(
        of(1),
        [at_work(machine) for machine in of(3, "y")],
        {"PATCH_MAX_IN_FLIGHT": "2"},
        [],
        {"x0": SLOT},
        "3 installations are under way",
    ),
    "assessments take no slot": Case(
        of(1), [at_work(a_member("r"), kind=OperationKind.ASSESS)], {"PATCH_MAX_IN_FLIGHT": "1"}, ["x0"], {}
    ),
    "the cap of an image": Case(
        [*of(3), *of(1, "y")],
        [],
        {"PATCH_MAX_PER_IMAGE": "2"},
        ["x0", "x1", "y0"],
        {"x2": SLOT},
        "2 installations are under way on its image (PATCH_MAX_PER_IMAGE is 2)",
    ),
    "the cap of an image, partly taken": Case(
        of(2), [at_work(a_member("r", "x"))], {"PATCH_MAX_PER_IMAGE": "2"}, ["x0"], {"x1": SLOT}, "on its image"
    ),
    "machines without an image are not an image": Case(
        of(3, ""), [], {"PATCH_MAX_PER_IMAGE": "1", "PATCH_CANARIES": "1"}, ["0", "1", "2"], {}
    ),
    "one of an availability set": Case(
        of(2, availability_set="/s"), [], {}, ["x0"], {"x1": GROUP}, "another machine of its availability set"
    ),
    "one of an availability set is at work": Case(
        of(1, availability_set="/s"),
        [at_work(a_member("r", "y", availability_set="/s"))],
        {},
        [],
        {"x0": GROUP},
        "another machine of its availability set",
    ),
    "another availability set": Case(
        of(1, availability_set="/s"), [at_work(a_member("r", "y", availability_set="/t"))], {}, ["x0"], {}
    ),
    "one of a group": Case(of(2, group="quorum"), [], {}, ["x0"], {"x1": GROUP}, "another member of quorum"),
    "one of a group, over images": Case(
        [*of(1, group="quorum"), *of(1, "y", group="Quorum")], [], {}, ["x0"], {"y0": GROUP}, "another member of quorum"
    ),
    "one of a group is at work": Case(
        of(1, group="quorum"), [at_work(a_member("r", "y", group="quorum"))], {}, [], {"x0": GROUP}, "quorum"
    ),
    "one of a group is not back from its installation yet": Case(
        of(1, group="quorum"),
        [at_work(a_member("r", "y", group="quorum"), Phase.ENDED)],
        {},
        [],
        {"x0": GROUP},
        "another member of quorum",
    ),
    "one of a set is not back from its installation yet": Case(
        of(1, availability_set="/s"),
        [at_work(a_member("r", "y", availability_set="/s"), Phase.ENDED)],
        {},
        [],
        {"x0": GROUP},
        "availability set",
    ),
    "a member that is assessed holds no other back": Case(
        of(1, group="quorum"), [at_work(a_member("r", "y", group="quorum"), kind=OperationKind.ASSESS)], {}, ["x0"], {}
    ),
    "a group of another subscription": Case(
        of(1, group="quorum"), [at_work(a_member("r", group="quorum", subscription=OTHER_SUBSCRIPTION))], {}, ["x0"], {}
    ),
}


@pytest.mark.parametrize("case", CAPS.values(), ids=CAPS)
def test_caps(case: Case) -> None:
    plan = make_plan(
        [to_install(machine) for machine in case.due], fleet_of(*case.rows), settings(**case.environ), now=NOW
    )
    assert names(plan) == case.dispatched
    assert states(plan) == case.waits
    assert all(case.reason in step.reason for step in plan.waits.values())


TROUBLE = {(SUBSCRIPTION, "quorum"): "db-2"}


@pytest.mark.parametrize(
    ("machine", "goes"),
    [
        pytest.param(a_member("x0", group="quorum"), False, id="of the group"),
        pytest.param(a_member("x0", group="other"), True, id="of another group"),
        pytest.param(a_member("x0"), True, id="of none"),
        pytest.param(
            a_member("x0", group="quorum", subscription=OTHER_SUBSCRIPTION), True, id="its namesake elsewhere"
        ),
    ],
)
def test_no_machine_of_a_group_goes_while_a_member_is_in_trouble(machine: Machine, goes: bool) -> None:
    plan = make_plan([to_install(machine)], replace(fleet_of(), troubled_groups=TROUBLE), settings(), now=NOW)
    assert names(plan) == (["x0"] if goes else [])
    if not goes:
        step = plan.waits[machine.id]
        assert step.reason == "db-2 of patch-group quorum is off or unhealthy"
        assert step.remedy == "Start or repair db-2, or take it out of the group (docs/settings.md, patch-group)."


IN_PROD = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg-prod"
ELSEWHERE = replace(a_member("r", "y", group="quorum"), id=machine_id("r", "rg-other"))
OVERDUE = Wait(State.OVERDUE, "still open", when=NOW + DAY)
SCOPES: dict[str, tuple[str, Fleet, bool]] = {
    # PATCH_GROUP_SCOPE, what holds a member in rg-prod, whether it goes
    "a member in trouble": ("resource-group", Fleet(troubled_groups={(IN_PROD, "quorum"): "db-2"}), False),
    "one of another resource group": (
        "resource-group",
        Fleet(troubled_groups={(IN_PROD.replace("prod", "other"), "quorum"): "db-2"}),
        True,
    ),
    "one that cannot be read": ("resource-group", Fleet(troubled_groups={("", "quorum"): "a machine"}), False),
    "one that cannot be read, in the same subscription": (
        "resource-group",
        Fleet(troubled_groups={(SUBSCRIPTION, "quorum"): "a machine"}),
        False,
    ),
    "one that cannot be read, in another": (
        "resource-group",
        Fleet(troubled_groups={(OTHER_SUBSCRIPTION, "quorum"): "a machine"}),
        True,
    ),
    "one that is installed, of another resource group": ("resource-group", Fleet([at_work(ELSEWHERE)]), False),
    "one whose installation ended there just now": (
        "resource-group",
        Fleet([at_work(ELSEWHERE, Phase.ENDED)]),
        False,
    ),
    "one that is overdue there": (
        "resource-group",
        Fleet([replace(at_work(ELSEWHERE), phase=Phase.HELD, hold=OVERDUE)]),
        True,
    ),
    "one that is overdue there, wide": (
        "subscription",
        Fleet([replace(at_work(ELSEWHERE), phase=Phase.HELD, hold=OVERDUE)]),
        False,
    ),
}


@pytest.mark.parametrize(("scope", "fleet", "goes"), SCOPES.values(), ids=SCOPES)
def test_how_far_a_group_reaches(scope: str, fleet: Fleet, goes: bool) -> None:
    fleet = replace(fleet, images={"x": proved("x")})
    plan = make_plan(
        [to_install(a_member("m", "x", group="quorum"))], fleet, settings(PATCH_GROUP_SCOPE=scope), now=NOW
    )
    assert names(plan) == (["m"] if goes else [])


def test_a_machine_that_its_neighbours_hold_is_not_a_canary_and_keeps_no_ring_closed() -> None:
    due = [to_install(a_member("a", "new", ring=0, group="quorum")), to_install(a_member("b", "new", ring=1))]
    plan = make_plan(due, Fleet(troubled_groups=TROUBLE), settings(), now=NOW)
    assert (names(plan), states(plan)) == (["b"], {"a": GROUP})
    due = [to_install(a_member("a", ring=0, group="quorum")), to_install(a_member("b", ring=1))]
    plan = make_plan(due, replace(fleet_of(), troubled_groups=TROUBLE), settings(), now=NOW)
    assert (names(plan), states(plan)) == (["b"], {"a": GROUP})


def test_an_assessment_asks_for_no_limit_but_the_pace() -> None:
    member = a_member("a", "bad", group="quorum", availability_set="/s")
    known = Fleet(
        [at_work(a_member("r", "bad", group="quorum", availability_set="/s"))],
        {"bad": replace(proved("bad"), opening="o")},
        TROUBLE,
    )
    plan = make_plan([to_assess(member)], known, settings(PATCH_MAX_IN_FLIGHT="1"), now=NOW)
    assert (names(plan), plan.waits, plan.rollouts) == (["a"], {}, {})


# -- rounds, as far as the plan is concerned


def test_the_canary_of_each_image_goes_and_its_round_opens() -> None:
    plan = make_plan([to_install(machine) for machine in [*of(2, "p"), *of(2, "q")]], Fleet(), settings(), now=NOW)
    assert names(plan) == ["p0", "q0"]
    assert states(plan) == {"p1": CANARY, "q1": CANARY}
    assert plan.rollouts == {"p": ImageRecord("p", opened=NOW), "q": ImageRecord("q", opened=NOW)}


def test_a_canary_whose_result_is_not_recorded_yet_is_still_the_canary() -> None:
    known = Fleet([at_work(a_member("p0", "p"), Phase.ENDED)], {"p": ImageRecord("p", opened=NOW - HOUR)})
    plan = make_plan([to_install(a_member("p1", "p"))], known, settings(), now=NOW)
    assert (names(plan), states(plan)) == ([], {"p1": CANARY})


@pytest.mark.parametrize(("phase", "replaced"), [(Phase.RUNNING, False), (Phase.HELD, True)])
def test_a_canary_that_is_held_is_replaced(phase: Phase, replaced: bool) -> None:
    known = Fleet([at_work(a_member("p0", "p"), phase)], {"p": ImageRecord("p", opened=NOW - HOUR)})
    plan = make_plan([to_install(a_member("p1", "p"))], known, settings(), now=NOW)
    assert names(plan) == (["p1"] if replaced else [])


def test_a_rollout_opens_only_where_a_machine_goes() -> None:
    over = replace(proved("p"), opened=NOW - 15 * DAY, rings={LAST_RING: Tally(1, 0, NOW - 9 * DAY, NOW - 9 * DAY)})
    due = [to_install(a_member("p0", "p"))]
    full = Fleet([at_work(a_member("other", "q"))], {"p": over})
    assert make_plan(due, full, settings(PATCH_MAX_IN_FLIGHT="1"), now=NOW).rollouts == {}
    plan = make_plan(due, Fleet((), {"p": over}), settings(), now=NOW)
    assert (names(plan), plan.rollouts) == (["p0"], {"p": replace(over, opened=NOW, canaries=0, proved=None, rings={})})


def test_a_rollout_goes_on_until_its_machines_had_their_turn() -> None:
    old = replace(proved("p"), opened=NOW - 15 * DAY)
    plan = make_plan([to_install(a_member("p0", "p"))], Fleet((), {"p": old}), settings(), now=NOW)
    assert names(plan) == ["p0"]
    assert plan.rollouts == {"p": replace(old, rings={LAST_RING: Tally(opened=NOW)})}, "its ring is open from now on"


def test_an_open_breaker_stops_its_image_and_no_other() -> None:
    bad = replace(proved("x"), opening="20261125T110000", opened_because="its canary x9: it does not boot")
    due = [to_install(machine) for machine in [*of(2), *of(1, "y")]]
    plan = make_plan(due, fleet_of(x=bad), settings(), now=NOW)
    assert names(plan) == ["y0"]
    assert states(plan) == {"x0": State.BREAKER_OPEN, "x1": State.BREAKER_OPEN}
    assert set(plan.waits.values()) == {rollout.breaker_wait(bad)}
    assert "x" not in plan.rollouts


class CountedRows(list[Record]):
    """Rows that count how often they are gone through."""

    passes = 0

    def __iter__(self) -> Iterator[Record]:
        self.passes += 1
        return super().__iter__()


def test_rows_are_gone_through_as_often_for_many_images_as_for_one() -> None:
    passes = {}
    for images in (1, 20):
        due = [to_install(a_member(f"vm-{number}", f"image-{number % images}")) for number in range(20)]
        rows = CountedRows(at_work(a_member(f"busy-{number}", f"image-{number}")) for number in range(20))
        make_plan(due, Fleet(rows), settings(), now=NOW)
        passes[images] = rows.passes
    assert passes[20] == passes[1]


def test_machines_without_an_image_have_no_canary_and_no_round() -> None:
    plan = make_plan([to_install(machine) for machine in of(2, "")], Fleet(), settings(), now=NOW)
    assert (names(plan), plan.rollouts) == (["0", "1"], {})


# -- claims that wait to be sent


def test_a_claim_that_was_never_sent_goes_first_and_takes_no_second_slot() -> None:
    unsent = replace(at_work(a_member("unsent", "y"), Phase.QUEUED), sent=False)
    due = [to_install(a_member("new", "x")), to_assess(a_member("a"))]
    plan = make_plan(due, fleet_of(unsent), settings(PATCH_MAX_IN_FLIGHT="1"), now=NOW)
    assert plan.dispatches[0] == Dispatch(machine_id("unsent"), None, timedelta(0))
    assert names(plan) == ["unsent", "a"]
    assert states(plan) == {"new": SLOT}


@pytest.mark.parametrize(
    ("record", "waits"),
    [
        pytest.param(a_record(sent=False), True, id="its time has come"),
        pytest.param(a_record(sent=False, due_at=NOW + HOUR), False, id="postponed by a 429"),
        pytest.param(a_record(sent=True), False, id="a message is under way"),
        pytest.param(a_record(sent=False, phase=Phase.HELD), False, id="held"),
    ],
)
def test_claims_that_wait_to_be_sent(record: Record, waits: bool) -> None:
    assert waits_to_be_sent(record, NOW) is waits
    assert bool(make_plan([], Fleet([record]), settings(), now=NOW).dispatches) is waits


# -- the pace


def calls_in(span: timedelta, percent: int) -> int:
    """How many calls the share of the quota refills in this time."""
    return int(span / timedelta(minutes=1) * TOKENS_PER_MINUTE / TOKENS_PER_CALL * percent / 100)


def burst(percent: int) -> int:
    return int(BUCKET_CAPACITY / TOKENS_PER_CALL * BURST_SHARE * percent / 100)


def test_a_bucket_at_rest_gives_its_burst_at_once_then_calls_at_the_pace_up_to_the_horizon() -> None:
    plan = make_plan(many(1000), Fleet(), settings(PATCH_PACE_PERCENT="100"), now=NOW)
    delays = [item.delay for item in plan.dispatches]
    assert delays[: burst(100)] == [timedelta(0)] * burst(100)
    assert delays[burst(100) :][:3] == [timedelta(0), timedelta(milliseconds=600), timedelta(milliseconds=1200)]
    assert len(delays) == burst(100) + calls_in(HORIZON, 100)
    assert max(delays) < HORIZON
    assert set(states(plan).values()) == {SLOT}
    assert len(plan.waits) == 1000 - len(delays)
    assert all("quota of patch calls" in step.reason for step in plan.waits.values())


def test_what_one_sweep_sends_at_once_leaves_the_bucket_a_minutes_calls() -> None:
    """The bucket refills at the end of each minute: what goes in the first one must be there already."""
    plan = make_plan(many(1000), Fleet(), settings(PATCH_PACE_PERCENT="100"), now=NOW)
    first_minute = sum(item.delay < timedelta(minutes=1) for item in plan.dispatches)
    assert first_minute * TOKENS_PER_CALL <= BUCKET_CAPACITY


@pytest.mark.parametrize("percent", [75, 50, 1])
def test_the_pace_leaves_room_for_others(percent: int) -> None:
    plan = make_plan(many(900), Fleet(), settings(PATCH_PACE_PERCENT=str(percent)), now=NOW)
    assert len(plan.dispatches) == burst(percent) + calls_in(HORIZON, percent)


def test_two_buckets_go_side_by_side() -> None:
    due = many(600, "westeurope", "w") + many(600, "northeurope", "n")
    each = burst(50) + calls_in(HORIZON, 50)
    plan = make_plan(due, Fleet(), settings(PATCH_PACE_PERCENT="50"), now=NOW)
    assert Counter(item.machine.name[0] for item in plan.dispatches) == {"w": each, "n": each}


def test_two_subscriptions_of_one_region_are_two_buckets() -> None:
    queued = [a_record(machine=machine_id(f"q{number}")) for number in range(burst(75) + 9)]
    due = [to_assess(a_member("here")), to_assess(a_member("there", subscription=OTHER_SUBSCRIPTION))]
    delays = {item.machine.name: item.delay for item in make_plan(due, Fleet(queued), settings(), now=NOW).dispatches}
    assert delays["here"] > delays["there"] == timedelta(0)


def test_what_is_queued_already_is_taken_off_the_pace() -> None:
    rows = [a_record(machine=machine_id(f"q{number}")) for number in range(300)]
    plan = make_plan(many(900), Fleet(rows), settings(), now=NOW)
    assert plan.dispatches[0].delay == 300 * timedelta(milliseconds=800)
    assert len(plan.dispatches) == calls_in(HORIZON, 75) - 300


@pytest.mark.parametrize(
    ("due_at", "first"),
    [
        (NOW - 3 * MINUTE, "after it"),  # already late when the rows were read: it still waits in the queue
        (NOW - MINUTE, "at once"),
        (NOW, "at once"),
        (NOW + MINUTE, "after it"),
    ],
)
def test_a_claim_whose_time_came_while_the_sweep_read_waits_in_no_queue(due_at: datetime, first: str) -> None:
    """It has called: its call counts against the bucket, as another's does, and holds no other machine back besides."""
    rows = [a_record(machine=machine_id(f"q{number}"), due_at=due_at) for number in range(300)]
    plan = make_plan(many(900), Fleet(rows, read_at=NOW - 2 * MINUTE), settings(), now=NOW)
    late = 300 * timedelta(milliseconds=800) if first == "after it" else timedelta(0)
    assert plan.dispatches[0].delay == late
    assert plan.dispatches[1].delay == late + timedelta(milliseconds=800), "there is no burst left"


CALLED: list[tuple[str, Record, int]] = [
    # a row, and how many of the two calls over the burst have to wait then, and of those in it
    ("called just now", a_record(phase=Phase.RUNNING, begun_at=NOW), 2),
    ("called before the bucket was full again", a_record(phase=Phase.ENDED, begun_at=NOW - FILL_TIME + MINUTE), 2),
    ("called long ago", a_record(phase=Phase.RUNNING, begun_at=NOW - FILL_TIME), 1),
    ("held since before", a_record(phase=Phase.HELD), 1),
    ("queued: it will be called, and is the first after the burst too", a_record(), 3),
    ("postponed by a 429: the bucket was empty", a_record(sent=False, due_at=NOW + HOUR), 2),
]


@pytest.mark.parametrize(("row", "late"), [row[1:] for row in CALLED], ids=[row[0] for row in CALLED])
def test_what_was_called_lately_makes_the_burst_smaller(row: Record, late: int) -> None:
    delays = [item.delay for item in make_plan(many(burst(75) - 1), Fleet([row]), settings(), now=NOW).dispatches]
    assert delays == [timedelta(0)] * len(delays)
    delays = [item.delay for item in make_plan(many(burst(75) + 2), Fleet([row]), settings(), now=NOW).dispatches]
    assert sum(delay > timedelta(0) for delay in delays) == late


# -- random fleets

IMAGES = ("", "p", "q", "r")
GROUPS = ("", "", "", "g", "h")
SETS = ("", "", "", "/s", "/t")


def members(prefix: str, largest: int, *, neighbours: bool = True) -> st.SearchStrategy[list[Machine]]:
    none = st.just("")
    one = st.tuples(
        st.sampled_from(IMAGES),
        st.sampled_from([None, None, 0, 1, 2]),
        st.sampled_from(GROUPS) if neighbours else none,
        st.sampled_from(SETS) if neighbours else none,
        st.sampled_from(REGIONS),
        st.integers(1, 9),
    )
    return st.lists(one, max_size=largest).map(
        lambda rows: [
            a_member(
                f"{prefix}{number}",
                image,
                ring=ring,
                group=group,
                availability_set=neighbour,
                region=region,
                age=age * DAY,
            )
            for number, (image, ring, group, neighbour, region, age) in enumerate(rows)
        ]
    )


def candidates(largest: int = 40, *, neighbours: bool = True) -> st.SearchStrategy[list[Candidate]]:
    made = st.lists(st.sampled_from([to_install, to_install, to_assess]), min_size=largest, max_size=largest)
    return st.tuples(members("c", largest, neighbours=neighbours), made).map(
        lambda both: [make_one(machine) for machine, make_one in zip(both[0], both[1], strict=False)]
    )


def records(largest: int = 12, *, neighbours: bool = True) -> st.SearchStrategy[list[Record]]:
    drawn = st.tuples(
        st.sampled_from(Phase),
        st.sampled_from([OperationKind.INSTALL, OperationKind.INSTALL, OperationKind.ASSESS]),
        st.booleans(),
    )
    phases = st.lists(drawn, min_size=largest, max_size=largest)
    return st.tuples(members("r", largest, neighbours=neighbours), phases).map(
        lambda both: [
            replace(at_work(machine, phase, kind), sent=sent)
            for machine, (phase, kind, sent) in zip(both[0], both[1], strict=False)
        ]
    )


def an_image(image: str) -> dict[str, ImageRecord]:
    """Every kind of record that an image may have, by what it is."""
    return {
        "no round": ImageRecord(image),
        "no canary yet": ImageRecord(image, opened=NOW - HOUR),
        "one canary": ImageRecord(image, opened=NOW - HOUR, canaries=1, proved=NOW - MINUTE),
        "baked": replace(proved(image), canaries=9),
        "ring 0 failed": replace(proved(image), canaries=9, rings={0: Tally(1, 1, NOW - DAY)}),
        "expired": replace(proved(image), canaries=9, opened=NOW - 30 * DAY),
        "breaker open": replace(proved(image), canaries=9, opening="o"),
        "breaker closed": replace(proved(image), canaries=9, opening="o", closed="o"),
    }


images = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(list(an_image(name).values())) for name in IMAGES if name}
)
trouble = st.sets(st.sampled_from(["g", "h"])).map(lambda found: {(SUBSCRIPTION, name): "another" for name in found})
sizes = st.dictionaries(st.sampled_from(IMAGES), st.integers(0, 40))
fleets = st.builds(Fleet, records(), images, trouble, machines=sizes)
environs = st.fixed_dictionaries(
    {
        "PATCH_MAX_IN_FLIGHT": st.integers(1, 20).map(str) | st.integers(1, 100).map("{}%".format),
        "PATCH_MAX_PER_IMAGE": st.integers(1, 6).map(str) | st.integers(1, 100).map("{}%".format),
        "PATCH_CANARIES": st.integers(0, 3).map(str),
        "PATCH_BAKE_MINUTES": st.sampled_from(["0", "1439"]),
        "PATCH_PACE_PERCENT": st.sampled_from(["1", "2", "75"]),
    }
)


def installed(plan: Plan) -> list[Candidate]:
    return [
        item.candidate for item in plan.dispatches if item.candidate and item.candidate.kind is OperationKind.INSTALL
    ]


def in_flight(rows: Iterable[Record]) -> list[Record]:
    return [row for row in rows if row.kind is OperationKind.INSTALL and row.in_flight]


def not_recorded(rows: Iterable[Record], image: str) -> list[Record]:
    """Installations of an image of which nothing is known yet."""
    return [
        row
        for row in rows
        if row.kind is OperationKind.INSTALL and row.image == image and (row.in_flight or row.phase is Phase.ENDED)
    ]


@given(candidates(), fleets, environs)
def test_in_every_fleet(due: list[Candidate], fleet: Fleet, environ: dict[str, str]) -> None:
    limits = settings(**environ)
    plan = make_plan(due, fleet, limits, now=NOW)
    chosen = installed(plan)

    # nothing is lost and nothing is doubled: dispatched, or waiting with a reason
    new = {item.machine for item in plan.dispatches if item.candidate}
    assert len(new) == sum(item.candidate is not None for item in plan.dispatches)
    assert new | set(plan.waits) == {item.machine.id for item in due}
    assert not new & set(plan.waits)
    assert all(isinstance(step, Wait) and step.reason for step in plan.waits.values())
    assert {item.machine for item in plan.dispatches if not item.candidate} <= {
        row.machine for row in fleet.rows if waits_to_be_sent(row, NOW)
    }

    # the caps
    before = in_flight(fleet.rows)
    assert not chosen or len(chosen) + len(before) <= limits.max_in_flight.of(sum(fleet.machines.values()))
    for image, count in Counter(item.machine.image.key for item in chosen).items():
        if image:
            assert count + sum(row.image == image for row in before) <= limits.max_per_image.of(
                fleet.machines.get(image, 0)
            )

    # one of an availability set, one of a group, none of a group in trouble
    away = [
        row for row in fleet.rows if row.kind is OperationKind.INSTALL and (row.in_flight or row.phase is Phase.ENDED)
    ]
    for name, count in Counter(item.machine.availability_set for item in chosen).items():
        assert not name or count + sum(row.availability_set == name for row in away) == 1
    for name, count in Counter(item.overrides.group for item in chosen).items():
        assert not name or count + sum(row.group == name for row in away) == 1
        assert not name or (SUBSCRIPTION, name) not in fleet.troubled_groups

    # each image's round: no open breaker is passed, canaries before the crowd, ring after ring
    for image in {item.machine.image.key for item in chosen} - {""}:
        record = plan.rollouts.get(image) or fleet.images[image]
        assert record.opened
        mine = [item for item in chosen if item.machine.image.key == image]
        assert not record.breaker_open
        if record.canaries < limits.canaries:
            assert record.canaries + len(not_recorded(fleet.rows, image)) + len(mine) <= limits.canaries
        else:
            _assert_ring_after_ring(due, plan, mine, not_recorded(fleet.rows, image))
    opened = {image for image, record in plan.rollouts.items() if record.opened == NOW}
    assert opened <= {item.machine.image.key for item in chosen} - {""}

    # the order: unsent claims, assessments, installations
    order = [
        0 if item.candidate is None else 1 if item.candidate.kind is OperationKind.ASSESS else 2
        for item in plan.dispatches
    ]
    assert order == sorted(order)


def _assert_ring_after_ring(due: list[Candidate], plan: Plan, mine: list[Candidate], running: list[Record]) -> None:
    """All that go are of one ring, and no earlier one has a machine due or at work, unless it waits for a neighbour."""
    [ring] = {item.overrides.ring for item in mine}
    assert not [row for row in running if row.ring < ring]
    earlier = [
        item
        for item in due
        if item.kind is OperationKind.INSTALL
        and item.machine.image == mine[0].machine.image
        and item.overrides.ring < ring
    ]
    assert {plan.waits[item.machine.id].state for item in earlier} <= {GROUP}


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 200), st.integers(1, 100))
def test_in_every_bucket(due: int, queued: int, called: int, percent: int) -> None:
    """The pace: within the horizon, never more than the quota's share, and no slower than it where a machine waits."""
    rows = [a_record(machine=machine_id(f"q{number}")) for number in range(queued)]
    rows += [a_record(machine=machine_id(f"r{number}"), phase=Phase.RUNNING, begun_at=NOW) for number in range(called)]
    plan = make_plan(many(due), Fleet(rows), settings(PATCH_PACE_PERCENT=str(percent)), now=NOW)
    delays = [item.delay for item in plan.dispatches]
    spacing = timedelta(minutes=1) / (TOKENS_PER_MINUTE / TOKENS_PER_CALL * percent / 100)
    at_once = max(burst(percent) - queued - called, 0)
    assert delays == sorted(delays)
    assert all(timedelta(0) <= delay < HORIZON for delay in delays)
    for number, delay in enumerate(delays, 1):
        refilled = delay / spacing - queued + 1  # what is queued already has the first calls that come in
        assert number <= at_once + max(refilled, 0) + 1e-6
    if plan.waits:
        assert len(delays) >= at_once + HORIZON / spacing - queued - 1


# -- a restriction never adds an installation of what it restricts


@given(candidates(), fleets, environs, st.integers(1, 20))
def test_a_smaller_cap_of_the_fleet_adds_no_machine(
    due: list[Candidate], fleet: Fleet, environ: dict[str, str], cap: int
) -> None:
    environ = environ | {"PATCH_PACE_PERCENT": "100"}  # what goes spends the pace: it would give to others
    smaller = min(cap, settings(**environ).max_in_flight.of(sum(fleet.machines.values())))
    wide = installed(make_plan(due, fleet, settings(**environ), now=NOW))
    narrow = installed(make_plan(due, fleet, settings(**environ | {"PATCH_MAX_IN_FLIGHT": str(smaller)}), now=NOW))
    assert narrow == wide[: len(narrow)]


RESTRICTIONS = st.sampled_from(["breaker", "image cap", "rows", "canaries"])


@given(candidates(neighbours=False), records(neighbours=False), images, environs, RESTRICTIONS, records())
def test_a_restriction_never_makes_more_installations(
    due: list[Candidate],
    rows: list[Record],
    known: Mapping[str, ImageRecord],
    environ: dict[str, str],
    restriction: str,
    more: list[Record],
) -> None:
    """Counted over the fleet: a slot that one machine loses may go to another. Among neighbours not even that holds:
    who is stopped may have stood in the way of two, one of its group and one of its availability set."""
    environ = environ | {"PATCH_PACE_PERCENT": "100"}
    free = make_plan(due, Fleet(rows, known), settings(**environ), now=NOW)
    if restriction == "breaker":
        bad = replace(known.get("p", ImageRecord("p")), opening="new", closed="")
        bound = make_plan(due, Fleet(rows, {**known, "p": bad}), settings(**environ), now=NOW)
        assert not [item for item in installed(bound) if item.machine.image.key == "p"]
    elif restriction == "image cap":
        bound = make_plan(due, Fleet(rows, known), settings(**environ | {"PATCH_MAX_PER_IMAGE": "1"}), now=NOW)
    elif restriction == "canaries":
        wanted = str(max(int(environ["PATCH_CANARIES"]), 1))
        free = make_plan(due, Fleet(rows, {}), settings(**environ | {"PATCH_CANARIES": "0"}), now=NOW)
        bound = make_plan(due, Fleet(rows, {}), settings(**environ | {"PATCH_CANARIES": wanted}), now=NOW)
        assert {image: count for image, count in _by_image(bound).items() if image and count > int(wanted)} == {}
        return
    else:
        added = [replace(row, machine=machine_id(f"more{number}")) for number, row in enumerate(more)]
        bound = make_plan(due, Fleet([*rows, *added], known), settings(**environ), now=NOW)
    assert len(installed(bound)) <= len(installed(free))


def _by_image(plan: Plan) -> Counter[str]:
    return Counter(item.machine.image.key for item in installed(plan))


@given(candidates(), fleets, environs)
def test_trouble_in_a_group_stops_that_group(due: list[Candidate], fleet: Fleet, environ: dict[str, str]) -> None:
    everywhere = {(SUBSCRIPTION, name): "another" for name in ("g", "h")}
    plan = make_plan(due, replace(fleet, troubled_groups=everywhere), settings(**environ), now=NOW)
    assert {item.overrides.group for item in installed(plan)} <= {""}


# -- in time every machine goes


@dataclass
class Life:
    """A fleet over time: each dispatched machine is at work for a while, and every installation succeeds."""

    due: list[Candidate]
    images: dict[str, ImageRecord]
    limits: Settings
    now: datetime = NOW

    def __post_init__(self) -> None:
        self.rows: dict[MachineId, Record] = {}
        self.went: list[MachineId] = []

    def tick(self, step: timedelta, at_work_for: int) -> None:
        self.now += step
        for row in list(self.rows.values()):
            if row.checks >= at_work_for:  # how long it has been at work, in ticks
                self._record(row)
            else:
                self.rows[row.machine] = replace(row, checks=row.checks + 1)
        plan = make_plan(self.due, Fleet(list(self.rows.values()), self.images), self.limits, now=self.now)
        assert all(step.reason for step in plan.waits.values())
        self.images |= plan.rollouts
        for item in installed(plan):
            self._begin(item)

    def _begin(self, item: Candidate) -> None:
        image = item.machine.image.key
        if image:
            record = self.images[image]
            unrecorded = not_recorded(self.rows.values(), image)
            assert record.canaries >= self.limits.canaries or (
                record.canaries + len(unrecorded) < self.limits.canaries  # it is one of the canaries itself
            )
        self.due.remove(item)
        self.went.append(item.machine.id)
        flight = Flight(begun_at=self.now, operation_id=str(item.machine.id))
        row = replace(at_work(item.machine), flight=flight)
        self.rows[item.machine.id] = row

    def _record(self, row: Record) -> None:
        del self.rows[row.machine]
        if row.image:
            assert row.begun_at is not None
            self.images[row.image] = rollout.record_result(
                self.images[row.image],
                rollout.Result(row.operation_id, row.machine, row.ring, row.begun_at, ""),
                self.limits,
                now=self.now,
            )


@given(
    members("m", 14),
    images,
    environs,
    st.sampled_from(["1", "7"]),
    st.integers(0, 2),
    st.sampled_from([HOUR, 6 * HOUR, DAY]),
)
def test_no_machine_starves(
    machines: list[Machine],
    known: dict[str, ImageRecord],
    environ: dict[str, str],
    days: str,
    at_work_for: int,
    tick: timedelta,
) -> None:
    # What was proved with failures in the past holds its rings for the rest of that round, and no longer.
    limits = settings(PATCH_ROLLOUT_DAYS=days, **environ)
    life = Life([to_install(machine) for machine in machines], dict(known), limits)
    stopped = {image for image, record in known.items() if record.breaker_open}
    expected = {machine.id for machine in machines if machine.image.key not in stopped}
    for _ in range(60 * 24):
        if set(life.went) == expected and not life.rows:
            break
        life.tick(tick, at_work_for)
    assert set(life.went) == expected
    assert len(life.went) == len(expected)
    assert {item.machine.image.key for item in life.due} <= stopped
