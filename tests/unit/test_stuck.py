"""Which rollouts do not move, and what is said of them.

Factors: how many openings passed since machines wait, when the rollout last got on, black-outs, what keeps its next
stage, and what other lines report: an installation under way, an open breaker. Saturdays are 5, 12, 19 December.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.decisions.plan import Candidate, Fleet
from functions.decisions.rollout import boundary
from functions.decisions.stuck import standstills
from functions.model.image_record import ImageRecord, Tally, place
from functions.model.machine import Image, ImageKind
from functions.model.record import Flight, claim
from functions.model.state import OperationKind, Phase, State, Wait
from tests.support import GALLERY_IMAGE, a_machine, machine_id, settings

TUESDAY = datetime(2026, 12, 1, 12, tzinfo=UTC)
OTHER_IMAGE = GALLERY_IMAGE.replace("web", "api")
NO_CANARY = {"PATCH_CANARY_MACHINES": "no-such-machine"}
A_CANARY = {"PATCH_CANARIES": "1", "PATCH_BAKE_MINUTES": "60", "PATCH_ROLLOUT_DAYS": "60"}
GROUP = {"patch-group": "quorum"}


def december(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2026, 12, day, hour, minute, tzinfo=UTC)


# Watched until 23:40: less than three quarters of that opening are left, so it does not count.
PROVED = {"opened": december(5, 22, 5), "canaries": 1, "proved": december(5, 22, 40)}


@dataclass(frozen=True)
class Case:
    """Two machines of an image that wait, and when they are checked."""

    now: datetime
    stage: str = ""  # of the rollout that does not move; "": none is reported
    state: State | None = None
    said: str = ""
    since: datetime = TUESDAY
    settings: Mapping[str, str] = field(default_factory=lambda: NO_CANARY)
    record: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    troubled: str = ""  # a member of their group that is off
    running: str = ""  # the image of a machine that is being installed


CANARY = State.WAITING_FOR_CANARY
SECOND_IS_OVER, THIRD_IS_OVER = december(13, 2, 5), december(20, 2, 5)
CASES = {
    "no canary through two openings": Case(SECOND_IS_OVER, "canary", CANARY, "PATCH_CANARY_MACHINES"),
    "the second opening is not over": Case(december(13, 1, 55)),
    "one opening": Case(december(6, 2, 5)),
    "they wait since after the first": Case(SECOND_IS_OVER, since=december(6, 3)),
    "a black-out took one of them": Case(
        SECOND_IS_OVER, settings={**NO_CANARY, "PATCH_BLACKOUT": "2026-12-12..2026-12-13"}
    ),
    "a canary succeeded in the first, and its ring had one opening": Case(
        SECOND_IS_OVER, settings=A_CANARY, record=PROVED
    ),
    "its ring had two": Case(
        THIRD_IS_OVER, "ring of the untagged", None, "no rule keeps vm-0", settings=A_CANARY, record=PROVED
    ),
    "what went before is watched until the third": Case(
        THIRD_IS_OVER, settings={**A_CANARY, "PATCH_BAKE_MINUTES": str(14 * 24 * 60)}, record=PROVED
    ),
    "too many failed before its ring": Case(
        december(27, 2, 5),
        "ring of the untagged",
        State.WAITING_FOR_RING,
        "only 1 of 2 installations before its ring succeeded",
        settings=A_CANARY,
        record={**PROVED, "rings": {0: Tally(1, 1, december(6))}},
    ),
    "a member of their group is off": Case(
        SECOND_IS_OVER,
        "ring of the untagged",
        State.WAITING_FOR_GROUP,
        "db-09 of patch-group quorum is off or unhealthy",
        settings={"PATCH_CANARIES": "0"},
        tags=GROUP,
        troubled="db-09",
    ),
    "the cap is full": Case(
        SECOND_IS_OVER,
        "ring of the untagged",
        State.WAITING_FOR_SLOT,
        "PATCH_MAX_IN_FLIGHT",
        settings={"PATCH_CANARIES": "0", "PATCH_MAX_IN_FLIGHT": "1"},
        running=OTHER_IMAGE,
    ),
    "an installation of the image is under way": Case(
        SECOND_IS_OVER, settings={"PATCH_CANARIES": "0"}, running=GALLERY_IMAGE
    ),
    "its breaker is open": Case(SECOND_IS_OVER, record={"opening": "20261205T221500"}),
}


def look(case: Case) -> list[tuple[str, State | None, str, str]]:
    limits = settings(**{"PATCH_WINDOW": "Sat 22:00-02:00 UTC", **case.settings})
    machines = [
        a_machine(id=machine_id(f"vm-{number}"), image=Image(ImageKind.GALLERY, GALLERY_IMAGE), tags=dict(case.tags))
        for number in range(2)
    ]
    waiting = [Candidate(machine, Wait(State.WAITING_FOR_WINDOW, "")) for machine in machines]
    where = boundary(machines[0], limits)
    name = place(GALLERY_IMAGE, where)
    rows = []
    if case.running:
        other = a_machine(id=machine_id("other"), image=Image(ImageKind.GALLERY, case.running))
        row = claim(other, OperationKind.INSTALL, token="", due_at=case.now, boundary=where)
        rows.append(replace(row, phase=Phase.RUNNING, flight=Flight(begun_at=case.now)))
    troubled = {(limits.group_scope(machines[0].id), "quorum"): case.troubled} if case.troubled else {}
    fleet = Fleet(rows, {name: replace(ImageRecord(GALLERY_IMAGE, where), **case.record)}, troubled)
    found = standstills(waiting, fleet, limits, since={name: case.since}, now=case.now)
    return [(each.stage, each.state, each.reason, each.remedy) for each in found]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_rollout_that_does_not_move(case: Case) -> None:
    found = look(case)
    assert [(stage, state) for stage, state, _, _ in found] == ([(case.stage, case.state)] if case.stage else [])
    for _, _, reason, remedy in found:
        assert case.said in reason
        assert remedy


def test_what_no_one_noted_is_not_checked() -> None:
    limits = settings(PATCH_WINDOW="Sat 22:00-02:00 UTC", **NO_CANARY)
    waiting = [Candidate(a_machine(), Wait(State.WAITING_FOR_WINDOW, ""))]
    assert standstills(waiting, Fleet(), limits, since={}, now=SECOND_IS_OVER) == []
