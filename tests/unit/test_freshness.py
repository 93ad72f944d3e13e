"""Daily assessments of a large fleet in one bucket of Azure's quota: in virtual time, through the app's own plan.

A machine is due by its age, a sweep plans what is due, each call takes its tokens when its message is due, and the
machine counts as assessed once Resource Graph shows it. Whether the quota holds is judged by Azure's stated bucket.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from uuid import UUID

import pytest

from functions.decisions.plan import Candidate, Fleet, make_plan
from functions.model.machine import Machine, MachineId
from functions.model.record import Flight, Record
from functions.model.state import Assess, Phase, State
from functions.policy.freshness import time_between
from functions.policy.settings import Settings
from tests.support import DAY, HOUR, MINUTE, NOW, a_machine, a_record, machine_id, settings

MACHINES = 20_000
SWEEP, ASSESSED_AFTER = 5 * MINUTE, 20 * MINUTE  # from the call until Graph shows its outcome
TOKENS_PER_CALL, TOKENS_PER_MINUTE, FULL_BUCKET = 2, 200, 600  # each minute's come at its end


def a_fleet() -> list[Machine]:
    """Machines of one subscription and region. Their VM ids are spread as random ones are, and the same in each run."""
    ids = (UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128) for number in range(1, MACHINES + 1))
    return [a_machine(id=machine_id(f"vm-{number:05}"), vm_id=str(vm_id)) for number, vm_id in enumerate(ids)]


@dataclass
class Bucket:
    """Azure's quota of patch calls for one subscription and region."""

    tokens: int = FULL_BUCKET
    minute: datetime = NOW
    calls: list[datetime] = field(default_factory=list)

    def call(self, at: datetime) -> None:
        while at >= self.minute + MINUTE:
            self.minute += MINUTE
            self.tokens = min(self.tokens + TOKENS_PER_MINUTE, FULL_BUCKET)
        self.tokens -= TOKENS_PER_CALL
        assert self.tokens >= 0, f"a 429 at {at}"
        self.calls.append(at)

    def most_in(self, span: timedelta) -> int:
        """The most calls in any such span."""
        recent: deque[datetime] = deque()
        most = 0
        for at in self.calls:
            recent.append(at)
            while recent[0] <= at - span:
                recent.popleft()
            most = max(most, len(recent))
        return most


def run(fleet: list[Machine], assessed: Mapping[MachineId, datetime], days: int) -> tuple[Bucket, timedelta]:
    """So many days of sweeps. Gives what the bucket saw, and the greatest age that an assessment reached."""
    known, given, by_id = dict(assessed), settings(PATCH_MODE="assess"), {machine.id: machine for machine in fleet}
    called: dict[MachineId, Record] = {}
    calls: list[datetime] = []
    oldest = timedelta(0)
    waiting = [(_due(machine, known[machine.id], given), number) for number, machine in enumerate(fleet)]
    heapify(waiting)
    numbers = {machine.id: number for number, machine in enumerate(fleet)}
    due: dict[MachineId, Candidate] = {}
    for sweep in range(int(days * DAY / SWEEP)):
        now = NOW + sweep * SWEEP
        for machine, row in [*called.items()]:
            at = row.due_at
            if at + ASSESSED_AFTER <= now:
                del called[machine]
                oldest = max(oldest, at - known[machine])
                known[machine] = at
                heappush(waiting, (_due(by_id[machine], at, given), numbers[machine]))
            elif at <= now and row.flight is None:
                called[machine] = replace(row, phase=Phase.RUNNING, flight=Flight(at))
        while waiting and waiting[0][0] <= now:
            each = fleet[heappop(waiting)[1]]
            due[each.id] = Candidate(each, Assess(State.DUE, "old"))
        for item in make_plan(due.values(), Fleet([*called.values()]), given, now=now).dispatches:
            del due[item.machine]
            calls.append(now + item.delay)
            called[item.machine] = a_record(machine=item.machine, due_at=calls[-1])
    bucket = Bucket()
    for at in sorted(calls):
        bucket.call(at)
    return bucket, oldest


def _due(machine: Machine, assessed: datetime, given: Settings) -> datetime:
    return assessed + time_between(given.assess_every, machine.vm_id)


# The fleet's last assessments: over so much of the day before.
STARTS = {"all at one time": timedelta(0), "over the day": DAY}


@pytest.mark.parametrize("spread", STARTS.values(), ids=STARTS)
def test_a_large_fleet_in_one_bucket_is_assessed_daily_inside_the_quota(spread: timedelta) -> None:
    fleet = a_fleet()
    before = {machine.id: NOW - number / MACHINES * spread for number, machine in enumerate(fleet)}
    bucket, oldest = run(fleet, before, days=2)
    assert oldest <= 24 * HOUR + 45 * MINUTE, "what waits for the pace included"
    assert MACHINES < len(bucket.calls) <= 2 * MACHINES * 24 / 18.6
    assert bucket.most_in(HOUR) <= 60 * 75 + 112, "three quarters of the quota, and at once what a full bucket holds"
