"""Fleet limits over many decisions: which of the due machines now, and how far apart. Pure.

Caps count installations only. The pace belongs to the sweep alone: per subscription and region it hands out at most
what the quota allows until the next sweeps, less what is queued already. Waves, canaries and the breaker take their
place here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from functions.decision import Install, Step
from functions.machine import Kind, Machine, MachineId
from functions.policy import Settings
from functions.record import Phase, Record

# Azure's quota of patch calls, assessments and installations together, per subscription and region (Azure's compute
# throttling limits). The cost of a call is inferred from one recorded answer: 598 of 600 tokens were left after it.
TOKENS_A_MINUTE = 200
TOKENS_A_CALL = 2
HORIZON = timedelta(minutes=5)  # how far ahead one sweep hands out

Bucket = tuple[str, str]


@dataclass(frozen=True)
class Candidate:
    """A machine that is due, and the step that follows."""

    machine: Machine
    step: Step

    @property
    def kind(self) -> Kind:
        return Kind.INSTALL if isinstance(self.step, Install) else Kind.ASSESS


@dataclass(frozen=True)
class HandOut:
    """What to send now: a new claim on a candidate, or (None) the message of a claim that never had one."""

    machine: MachineId
    candidate: Candidate | None
    delay: timedelta


@dataclass(frozen=True)
class Plan:
    """The hand-outs in order, and how many machines wait for what."""

    hand_outs: Sequence[HandOut]
    waiting_for_slot: int
    waiting_for_pace: int


def make(candidates: Iterable[Candidate], rows: Sequence[Record], settings: Settings, now: datetime) -> Plan:
    """Which of the due machines now. Claims that wait to be sent come first, then assessments, then installations."""
    pace = _Pace(rows, settings)
    slots = settings.max_in_flight - installations_in_flight(rows)
    hand_outs: list[HandOut] = []
    no_slot = no_pace = 0
    work: list[tuple[MachineId, Bucket, Candidate | None]] = [
        (row.machine, row.bucket, None) for row in rows if waits_to_be_sent(row, now)
    ]
    work += [(item.machine.id, item.machine.bucket, item) for item in sorted(candidates, key=_urgency)]
    for machine, bucket, candidate in work:
        takes_slot = candidate is not None and candidate.kind is Kind.INSTALL
        if takes_slot and slots <= 0:
            no_slot += 1
            continue
        delay = pace.next_delay(bucket)
        if delay is None:
            no_pace += 1
            continue
        slots -= takes_slot
        hand_outs.append(HandOut(machine, candidate, delay))
    return Plan(hand_outs, no_slot, no_pace)


def installations_in_flight(rows: Iterable[Record]) -> int:
    """Installations that hold a slot of the fleet: queued, starting or running."""
    return sum(row.kind is Kind.INSTALL and row.in_flight for row in rows)


def waits_to_be_sent(record: Record, now: datetime) -> bool:
    """A claim without a message whose time has come: postponed by a 429, or left by an event in a storm."""
    return record.phase is Phase.QUEUED and not record.sent and record.due_at <= now


class _Pace:
    """How far apart the calls of one bucket are, and how many fit before the horizon."""

    def __init__(self, rows: Iterable[Record], settings: Settings) -> None:
        calls_a_minute = TOKENS_A_MINUTE / TOKENS_A_CALL * settings.pace_percent / 100
        self._spacing = timedelta(minutes=1) / calls_a_minute
        self._taken: Counter[Bucket] = Counter(row.bucket for row in rows if row.phase is Phase.QUEUED and row.sent)

    def next_delay(self, bucket: Bucket) -> timedelta | None:
        delay = self._taken[bucket] * self._spacing
        if delay >= HORIZON:
            return None
        self._taken[bucket] += 1
        return delay


def _urgency(candidate: Candidate) -> tuple[bool, str]:
    """Assessments first: they are harmless, and installations wait for them. Then the longest known first."""
    return candidate.kind is Kind.INSTALL, candidate.machine.created.isoformat() if candidate.machine.created else ""
