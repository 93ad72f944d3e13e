"""What we remember of a machine with something in flight, just ended or in trouble: one row and its state transitions.

    claim → queued → starting → running → ended → (deleted)
                └──────────┴─────────┴───────┴→ held → queued …

Each transition takes a Record and returns the next one; none stores anything. cloud/ledger.py stores them under an
ETag, so the first of two concurrent writers wins. A machine at rest has no record.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from functions.model.machine import LAST_RING, Machine, MachineId, PatchAssessment
from functions.model.state import OVERDUE, Cause, OperationKind, Phase

# A claim whose message never came to anything is free again this long after it was due. Longer than a message's five
# attempts, which host.json spreads over 20 minutes.
CLAIM_LIFE = timedelta(hours=1)


# A POST that has not left this soon after `begin` is abandoned: what was read before it is no longer fresh.
SEND_WITHIN = timedelta(seconds=60)


# Between the POST and its record the process may die. After this long the instance view shows what came of it.
ADOPT_AFTER = timedelta(minutes=15)


# An operation still open this long after its own limit is overdue.
OVERDUE_MARGIN = timedelta(hours=1)


UNKNOWN_DURATION = timedelta(hours=4)


# How long Graph may take to show an ended operation before the machine is held for it.
GRAPH_PATIENCE = timedelta(hours=24)


# A summary in progress that nobody has changed for this long is taken for abandoned.
STALE_SUMMARY = timedelta(hours=24)


@dataclass(frozen=True)
class Record:
    """One machine's row. Times are UTC; a field belongs to the phases named beside it."""

    machine: MachineId
    phase: Phase
    kind: OperationKind
    token: str  # the claim; a message carries it, and loses when it is no longer this one
    vm_id: str
    image: str  # Image.key
    region: str
    due_at: datetime  # queued
    ring: int = LAST_RING
    group: str = ""  # patch-group
    availability_set: str = ""
    sent: bool = False  # queued: a message is under way; False: the sweep has to send one
    looks: int = 0  # queued: how often the machine was found not ready yet
    verdict: PatchAssessment | None = None  # what the sweep saw in Graph when it claimed; None for an event's claim
    known_operations: tuple[str, ...] = ()  # starting: what the instance view showed before the POST
    begun_at: datetime | None = None  # starting
    os: str = ""  # starting: the guest as it was then, to tell what failures have in common
    agent: str = ""
    created: datetime | None = None  # the machine's creation: how long it took to its first assessment and patches
    operation_id: str = ""  # running, ended
    operation_url: str = ""  # running; carries a signature: never logged
    started_at: datetime | None = None  # running, ended
    limit: timedelta = UNKNOWN_DURATION  # running: the operation's own maximumDuration
    outcome: str = ""  # ended: as Azure writes it
    ended_at: datetime | None = None  # ended
    at_fault: bool = False  # ended: the patches or the image failed, not the machine's circumstances
    neutral: bool = False  # ended: it proves nothing about the image: a reboot is still wanted, or somebody interfered
    unanswered: int = 0  # assessments that ended without a verdict, in a row
    attempts: int = 0  # held: failures in a row
    not_before: datetime | None = None  # held
    cause: Cause = Cause.TRANSIENT  # held
    state: str = ""  # held: a State of decision.py
    reason: str = ""  # held
    remedy: str = ""  # held

    @property
    def in_flight(self) -> bool:
        return self.phase in (Phase.QUEUED, Phase.STARTING, Phase.RUNNING)

    @property
    def quota_key(self) -> tuple[str, str]:
        return self.machine.subscription, self.region

    def same_machine(self, machine: Machine) -> bool:
        """Whether the machine is still the one, and of the image, that this row is about."""
        return self.vm_id == machine.vm_id and self.image == machine.image.key

    def younger_than(self, machine: Machine) -> bool:
        """Whether this row is about a machine made after this one."""
        return bool(self.created and machine.created and self.created > machine.created)

    def due_again(self, now: datetime) -> bool:
        """Held, and the time of the hold is over."""
        return self.phase is Phase.HELD and self.not_before is not None and self.not_before <= now

    def expired(self, now: datetime) -> bool:
        """Queued, sent, and its message must have come and gone."""
        return self.phase is Phase.QUEUED and self.sent and now >= self.due_at + CLAIM_LIFE

    def overdue(self, now: datetime) -> bool:
        started = self.started_at or self.begun_at
        return started is not None and now >= started + self.limit + OVERDUE_MARGIN

    @property
    def may_be_rebooting(self) -> bool:
        """Its machine may be rebooting: in flight, ended but not settled, or overdue. Neighbours must not go too."""
        return self.in_flight or self.phase is Phase.ENDED or (self.phase is Phase.HELD and self.state == OVERDUE)


def claim(
    machine: Machine,
    kind: OperationKind,
    *,
    token: str,
    due_at: datetime,
    ring: int = LAST_RING,
    group: str = "",
    previous: Record | None = None,
    sent: bool = True,
) -> Record:
    """A fresh claim; what was counted before stays counted while the machine is the same one."""
    same = previous if previous and previous.same_machine(machine) else None
    return Record(
        machine=machine.id,
        phase=Phase.QUEUED,
        kind=kind,
        token=token,
        vm_id=machine.vm_id,
        image=machine.image.key,
        region=machine.location,
        due_at=due_at,
        sent=sent,
        ring=ring,
        group=group,
        availability_set=machine.availability_set,
        verdict=machine.verdict,
        created=machine.created,
        looks=same.looks if same else 0,
        unanswered=same.unanswered if same else 0,
        attempts=same.attempts if same else 0,
    )


def begin(record: Record, machine: Machine, limit: timedelta, now: datetime) -> Record:
    """The last move before the POST: stores what the instance view shows, so that what comes after it can be told."""
    return replace(
        record,
        phase=Phase.STARTING,
        begun_at=now,
        limit=limit,
        known_operations=tuple(summary.operation_id for summary in machine.summaries),
        vm_id=machine.vm_id,
        image=machine.image.key,
        os=machine.os_name or machine.os_type,
        agent=machine.agent_version,
    )


def accepted(record: Record, operation_id: str, url: str, now: datetime) -> Record:
    return replace(record, phase=Phase.RUNNING, operation_id=operation_id, operation_url=url, started_at=now)


def requeue(record: Record, token: str, due_at: datetime, *, sent: bool, looks: int = 0) -> Record:
    """Back to queued under a fresh token: after a 429, a POST that never left, or for another look at the machine."""
    return replace(
        record, phase=Phase.QUEUED, token=token, due_at=due_at, sent=sent, looks=looks, begun_at=None,
        known_operations=(),
    )  # fmt: skip


def end(record: Record, outcome: str, now: datetime, *, operation_id: str = "") -> Record:
    return replace(
        record,
        phase=Phase.ENDED,
        outcome=outcome,
        ended_at=now,
        operation_id=operation_id or record.operation_id,
        operation_url="",
        started_at=record.started_at or record.begun_at,
        state="",  # of an overdue hold, if it was one
        reason="",
        remedy="",
    )


def hold(record: Record, cause: Cause, until: datetime, state: str, reason: str, remedy: str) -> Record:
    """Nothing in flight any more; taken up again at `until`, or when the cause is gone."""
    return replace(
        record,
        phase=Phase.HELD,
        cause=cause,
        not_before=until,
        state=state,
        reason=reason,
        remedy=remedy,
        operation_url="",
        sent=False,
    )


def release(record: Record, now: datetime) -> Record:
    """A hold that ends now: the next sweep decides anew."""
    return replace(
        record, phase=Phase.HELD, not_before=now, operation_url="", sent=False, state="", reason="", remedy=""
    )
