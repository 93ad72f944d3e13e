"""The forecast against what then happens: the plan of every sweep, over random fleets and calendars.

The judge is a fleet that lives through its calendar, sweep by sweep, with every machine before the plan. The forecast
looks only at moments of change and at the first machines of each kind.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase as Phase_
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from functions.decisions import forecast as module
from functions.decisions import rollout
from functions.decisions.forecast import SWEEP, USUAL, Opening, forecast
from functions.decisions.plan import Candidate, Fleet, Plan, make_plan
from functions.decisions.question import question_of
from functions.decisions.support_state import by_support_state
from functions.decisions.turns import ever_opens
from functions.model.image_record import ImageRecord
from functions.model.machine import Image, ImageKind, MachineId
from functions.model.record import Flight, Record, claim
from functions.model.state import Install, OperationKind, Phase, State, Wait
from functions.policy.grammar import ALWAYS
from functions.policy.settings import Settings
from functions.policy.windows import Windows
from tests.support import DAY, GALLERY_IMAGE, HOUR, a_machine, a_record, a_verdict, machine_id, settings

START = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)  # a Tuesday
SATURDAY = datetime(2026, 12, 5, 22, 0, tzinfo=UTC)
WEEKLY = {"PATCH_WINDOW": "Sat 22:00-02:00 UTC"}
MONTHLY = {"PATCH_WINDOW": "2nd Tue +8d 22:00-02:00 UTC", "PATCH_CANARY_WINDOW": "2nd Tue +1d 22:00-02:00 UTC"}


def a_member(number: int, image: str = GALLERY_IMAGE, **tags: str) -> Candidate:
    names = {name.replace("_", "-"): value for name, value in tags.items() if value}
    machine = a_machine(
        id=machine_id(f"vm-{number:03}"),
        image=Image(ImageKind.GALLERY if image else ImageKind.NONE, image),
        tags=names,
        created=START - (100 + number % 7) * DAY,
        verdict=a_verdict(counts={"security": 2}, assessed=START),
    )
    return Candidate(machine, Wait(State.WAITING_FOR_WINDOW, ""))


class Life:
    """A fleet in which every installation takes the usual time and succeeds, and no patch is published."""

    def __init__(self, waiting: Iterable[Candidate], limits: Settings) -> None:
        self.waiting = {item.machine.id: item for item in waiting}
        self.limits, self.now = limits, START
        self.machines = Counter(item.machine.image.key for item in self.waiting.values())
        self.images: dict[str, ImageRecord] = {}
        self.rows: dict[MachineId, Record] = {}
        self.begun: dict[MachineId, datetime] = {}

    def live(self, until: datetime) -> dict[MachineId, datetime]:
        while (self.waiting or self.rows) and self.now < until:
            idle = not self.sweep() and not self.rows
            self.now += HOUR if idle and not self.now.minute else SWEEP  # windows open at full hours
        return self.begun

    def sweep(self) -> bool:
        """Whether a machine was due."""
        for row in [row for row in self.rows.values() if row.begun_at and row.begun_at + USUAL <= self.now]:
            del self.rows[row.machine]
            self._record(row)
        of_kind: dict[
            tuple[str, bool], Install | Wait
        ] = {}  # one answer per window: nothing else tells them apart here
        for item in self.waiting.values():
            kind = item.machine.tags.get("patch-window", ""), bool(item.machine.image.key)
            of_kind[kind] = of_kind.get(kind) or self._step(item)
            self.waiting[item.machine.id] = replace(item, step=of_kind[kind])
        steps = list(self.waiting.values())
        due = [item for item in steps if isinstance(item.step, Install)]
        later = [item for item in steps if isinstance(item.step, Wait) and item.step.when]
        fleet = Fleet(list(self.rows.values()), self.images, {}, later, self.machines)
        plan = make_plan(due, fleet, self.limits, now=self.now)
        self.images |= plan.rollouts
        for each in plan.dispatches:
            if each.candidate:
                self._begin(each.candidate)
        return bool(due)

    def _step(self, item: Candidate) -> Install | Wait:
        machine = replace(item.machine, verdict=a_verdict(counts={"security": 2}, assessed=self.now))
        step = by_support_state(question_of(machine, None, self.limits, created_after=ALWAYS, now=self.now))
        assert isinstance(step, Install | Wait), step
        return step

    def _begin(self, item: Candidate) -> None:
        machine = item.machine
        row = claim(
            machine,
            OperationKind.INSTALL,
            token="",
            due_at=self.now,
            ring=item.overrides.ring,
            group=item.overrides.group,
            boundary=rollout.boundary(machine, self.limits),
        )
        self.rows[machine.id] = replace(row, phase=Phase.RUNNING, flight=Flight(begun_at=self.now))
        self.begun[machine.id] = self.now
        del self.waiting[machine.id]

    def _record(self, row: Record) -> None:
        for name, record in self.images.items():
            if record.image == row.image and record.boundary == row.boundary:
                result = rollout.Result(str(row.machine), row.machine, row.ring, row.begun_at or self.now, "")
                self.images[name] = rollout.record_result(record, result, self.limits, now=self.now)


def compared(waiting: list[Candidate], limits: Settings, days: int) -> None:
    machines = Counter(item.machine.image.key for item in waiting)
    found = forecast(waiting, Fleet(machines=machines), limits, now=START)
    lived = Life(waiting, limits).live(START + days * DAY)
    expected = {name: turn.at for name, turn in found.turns.items() if turn.at < START + days * DAY}
    assert expected == lived
    able = {item.machine.id for item in waiting if ever_opens(own_window(item, limits), START, limits.blackouts)}
    assert set(found.turns) == able, "everyone gets a turn"


def own_window(item: Candidate, limits: Settings) -> Windows:
    return item.member(limits, START).window


# -- told by hand: who goes when


def nights(found: Mapping[MachineId, datetime]) -> dict[str, str]:
    return {name.name: f"{at:%d %b}" for name, at in sorted(found.items(), key=lambda item: str(item[0]))}


def test_a_monthly_window_with_canaries_a_week_before() -> None:
    limits = settings(**MONTHLY)
    found = forecast([a_member(number) for number in range(4)], Fleet(), limits, now=START)
    assert nights({name: turn.at for name, turn in found.turns.items()}) == {
        "vm-000": "16 Dec",
        "vm-001": "16 Dec",
        "vm-002": "16 Dec",
        "vm-003": "09 Dec",  # the one that waits longest is the canary
    }
    assert [name.name for name, turn in found.turns.items() if turn.canary] == ["vm-003"]


def test_a_cap_fills_opening_after_opening() -> None:
    limits = settings(**WEEKLY, PATCH_MAX_IN_FLIGHT="2", PATCH_MAX_PER_IMAGE="2", PATCH_CANARIES="0")
    found = forecast([a_member(number) for number in range(20)], Fleet(), limits, now=START)
    first, second = (each for each in found.openings)
    assert first == Opening(SATURDAY, SATURDAY + 4 * HOUR, first.window, waiting=20, canaries=0, fit=16)
    assert (first.left, second.waiting, second.fit, second.starts) == (4, 4, 4, SATURDAY + 7 * DAY)


def test_one_whose_window_never_opens_has_no_turn() -> None:
    never = a_member(1, patch_window="Mon 03:00-05:00 UTC")
    found = forecast([a_member(0), never], Fleet(), settings(**WEEKLY), now=START)
    assert set(found.turns) == {machine_id("vm-000")}


# Settings, machines by tags → who goes as a canary
LABELS: dict[str, tuple[dict[str, str], list[dict[str, str]], list[bool]]] = {
    "one canary of three": ({"PATCH_CANARIES": "1"}, [{}] * 3, [False, False, True]),
    "fewer machines than canaries": ({"PATCH_CANARIES": "5"}, [{}] * 3, [True, True, True]),
    "fewer machines that may be canaries": (
        {"PATCH_CANARIES": "5", "PATCH_CANARY_MACHINES": "vm-000,vm-001"},
        [{}] * 4,
        [True, True, False, False],
    ),
    "no canary is wanted": ({"PATCH_CANARIES": "0"}, [{}] * 2, [False, False]),
    "in its own window, for it never meets that of canaries": (
        {"PATCH_CANARIES": "1", "PATCH_CANARY_WINDOW": "Wed 22:00-02:00 UTC"},
        [{"patch_window": "Sat 22:00-23:00 UTC"}] * 2,
        [False, True],
    ),
}


@pytest.mark.parametrize(("environ", "tags", "canaries"), LABELS.values(), ids=LABELS)
def test_who_goes_as_a_canary(environ: dict[str, str], tags: list[dict[str, str]], canaries: list[bool]) -> None:
    waiting = [
        replace(a_member(number, **each), installed=START - (30 + number) * DAY) for number, each in enumerate(tags)
    ]
    found = forecast(waiting, Fleet(), settings(**WEEKLY, **environ), now=START)
    assert [found.turns[item.machine.id].canary for item in waiting] == canaries
    assert (sum(each.canaries for each in found.openings), sum(each.fit for each in found.openings)) == (
        sum(canaries),
        len(canaries) - sum(canaries),
    ), "each is counted in an opening"


def test_what_ended_and_is_not_recorded_fills_no_cap() -> None:
    limits = settings(**WEEKLY, PATCH_MAX_IN_FLIGHT="2", PATCH_CANARIES="0")
    rows = [
        a_record(
            machine=machine_id(f"ended-{number}"), kind=OperationKind.INSTALL, phase=Phase.ENDED, begun_at=SATURDAY
        )
        for number in range(2)
    ]
    found = forecast([a_member(number) for number in range(2)], Fleet(rows), limits, now=SATURDAY)
    assert {turn.at for turn in found.turns.values()} == {SATURDAY}


# -- in every fleet at rest

windows = st.sampled_from(
    ["Sat 22:00-02:00 UTC", "daily 01:00-03:00 UTC", "Wed,Sat 22:00-02:00 UTC", "2nd Tue +4d 20:00-24:00 UTC"]
)
calendars = st.fixed_dictionaries(
    {
        "PATCH_WINDOW": windows,
        "PATCH_CANARY_WINDOW": st.sampled_from(["", "Wed 20:00-23:00 UTC", "2nd Tue +1d 20:00-24:00 UTC"]),
        "PATCH_CANARIES": st.sampled_from(["0", "1", "3"]),
        "PATCH_BAKE_MINUTES": st.sampled_from(["0", "60", "1440"]),
        "PATCH_MAX_IN_FLIGHT": st.sampled_from(["1", "3", "10", "25%"]),
        "PATCH_MAX_PER_IMAGE": st.sampled_from(["1", "3", "50%"]),
        "PATCH_ROLLOUT_DAYS": st.sampled_from(["1", "6"]),
    }
)
fleets = st.lists(
    st.tuples(
        st.sampled_from([GALLERY_IMAGE, f"{GALLERY_IMAGE}x", ""]),
        st.sampled_from(["", "", "0", "3"]),
        st.sampled_from(["", "", "", "a", "b"]),
        st.sampled_from(["", "", "Sat 21:00-24:00 UTC", "Mon-Fri 00:00-06:00 UTC"]),
    ),
    min_size=1,
    max_size=14,
)


@effort(max_examples=8, phases=(Phase_.explicit, Phase_.reuse, Phase_.generate))  # shrinking takes minutes
@given(fleets, calendars)
def test_the_forecast_is_what_happens(fleet: list[tuple[str, str, str, str]], calendar: dict[str, str]) -> None:
    waiting = [
        a_member(number, image, patch_ring=ring, patch_group=group, patch_window=window)
        for number, (image, ring, group, window) in enumerate(fleet)
    ]
    compared(waiting, settings(**calendar), days=30)


@pytest.mark.parametrize("images", [1, 20])
def test_a_fleet_at_rest_is_soon_told(images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few machines are before the plan at each moment: over all moments not much more than there are."""
    limits = settings(**WEEKLY, PATCH_MAX_IN_FLIGHT="100", PATCH_MAX_PER_IMAGE="100")
    rings = ("", "0", "1")
    fleet = [a_member(each, f"{GALLERY_IMAGE}{each % images}", patch_ring=rings[each % 3]) for each in range(2_000)]
    looks = 0

    def counted(candidates: Iterable[Candidate], *fleet: Any, **given: Any) -> Plan:
        nonlocal looks
        candidates = list(candidates)
        looks += len(candidates)
        return make_plan(candidates, *fleet, **given)

    monkeypatch.setattr(module, "make_plan", counted)
    found = forecast(fleet, Fleet(), limits, now=START)
    assert len(found.turns) == 2_000
    assert timedelta(days=7) < max(turn.at for turn in found.turns.values()) - START < timedelta(days=60)
    assert looks < 10 * len(fleet)
