"""What we remember of a machine with something in flight, just ended or in trouble: one row and its state transitions.

    claim → queued → starting → running → ended → (deleted)
                └──────────┴─────────┴───────┴→ held → queued …

Each transition takes a Record and returns the next one; none stores anything. cloud/ledger.py stores them under an
ETag, so the first of two concurrent writers wins. A machine at rest has no record, unless its last installation failed:
its tries are remembered until one succeeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from functions.model.machine import LAST_RING, Machine, MachineId, PatchAssessment, PatchStatus
from functions.model.state import Cause, OperationKind, Phase, State, Step, Wait

# A claim whose message never arrived is free again this long after it was due. Longer than a message's five attempts,
# which host.json spreads over 20 minutes.
CLAIM_LIFE = timedelta(hours=1)
# A POST that was not sent this soon after `begin` is abandoned: what was read before it is no longer fresh.
SEND_WITHIN = timedelta(seconds=60)
# Between the POST and its record the process may be killed. After this long the instance view shows the operation.
ADOPT_AFTER = timedelta(minutes=15)
# An operation still open this long after its own limit is overdue.
OVERDUE_MARGIN = timedelta(hours=1)
UNKNOWN_DURATION = timedelta(hours=4)
# How long Graph may take to show an ended operation before the app says what to check.
GRAPH_PATIENCE = timedelta(hours=24)
# An operation in progress that has not changed for this long is treated as abandoned.
STALE_STATUS = timedelta(hours=24)
TRIES_KEPT = 20  # far more than an interval allows; the waits have stopped growing long before


@dataclass(frozen=True)
class Flight:
    """The operation of a claim, from the last transition before its POST on."""

    begun_at: datetime
    limit: timedelta = UNKNOWN_DURATION  # the operation's own maximumDuration
    known_operations: tuple[str, ...] = ()  # what the instance view showed before the POST
    os: str = ""  # the guest as it was then, to find what failures have in common
    agent: str = ""
    operation_id: str = ""  # "": the POST's answer is not recorded
    operation_url: str = ""  # carries a signature: never logged
    started_at: datetime | None = None
    reboot_forbidden: bool = False  # the order said Never: a reboot that is still wanted is what was ordered

    @property
    def ends_by(self) -> datetime:
        """From here on the operation is overdue."""
        return (self.started_at or self.begun_at) + self.limit + OVERDUE_MARGIN


@dataclass(frozen=True)
class Ending:
    """How the operation ended."""

    outcome: str  # as Azure writes it
    at: datetime
    at_fault: bool = False  # the patches or the image failed, not the machine's circumstances
    neutral: bool = False  # proves nothing about the image: a reboot is still wanted, or a person interfered
    nothing_tried: bool = False  # the guest says that it installed nothing, and that nothing failed
    unwell_since: datetime | None = None  # when the machine was first found unwell afterwards
    trouble: Wait | None = None  # what a bad outcome means: the hold that follows once Graph shows the outcome


@dataclass(frozen=True)
class History:
    """What is counted over the claims of one VM with one image."""

    unanswered: int = 0  # assessments that ended without a verdict, in a row
    attempts: int = 0  # failures in a row of this kind of operation
    failures: int = 0  # of installations in a row, refused ones included; an assessment in between leaves it as it is
    failure: str = ""  # what was wrong with the last of these installations
    tries: tuple[datetime, ...] = ()  # when the installations that Azure ran since the last good one began
    void_before: datetime | None = None  # assessments from before say nothing: an installation ended, the image changed

    @property
    def installs_badly(self) -> bool:
        """Whether its last installation was not a good one."""
        return bool(self.failures or self.tries)


NO_HISTORY = History()


@dataclass(frozen=True)
class Record:
    """One machine's row. Times are UTC."""

    machine: MachineId
    phase: Phase
    kind: OperationKind
    token: str  # the claim; a message carries it, and loses when it is no longer this one
    vm_id: str
    image: str  # Image.key
    region: str
    due_at: datetime  # when the claim's message is due
    ring: int = LAST_RING
    group: str = ""  # patch-group
    boundary: str = ""  # of its image's rollout; "": the whole fleet
    availability_set: str = ""  # or scale set: Machine.one_at_a_time
    created: datetime | None = None  # the machine's creation
    run: str = ""  # the run on demand that ordered its operation
    sent: bool = False  # queued: a message is on its way; False: the sweep has to send one
    checks: int = 0  # how often the machine was found not ready yet
    verdict: PatchAssessment | None = None  # what the sweep saw in Graph when it claimed; None for an event's claim
    history: History = NO_HISTORY
    flight: Flight | None = None  # from starting on
    ending: Ending | None = None  # from ended on
    hold: Wait | None = None  # held: why, and until `when`

    @property
    def in_flight(self) -> bool:
        return self.phase in (Phase.QUEUED, Phase.STARTING, Phase.RUNNING)

    @property
    def quota_key(self) -> tuple[str, str]:
        """(subscription, region): the machines that share one quota of patch calls."""
        return self.machine.subscription, self.region

    @property
    def operation_id(self) -> str:
        """The operation's id; "" while it is not known."""
        return self.flight.operation_id if self.flight else ""

    @property
    def begun_at(self) -> datetime | None:
        return self.flight.begun_at if self.flight else None

    @property
    def is_routine(self) -> bool:
        """An assessment of a machine that is known and in no trouble. Only what it changes is news."""
        known = self.verdict is not None and self.verdict.decided
        return self.kind is OperationKind.ASSESS and known and not (self.history.attempts or self.history.unanswered)

    def log_fields(self) -> Mapping[str, MachineId | OperationKind]:
        """What every log line about this row names."""
        return {"machine": self.machine, "kind": self.kind}

    def same_vm(self, machine: Machine) -> bool:
        """Whether the machine is still the VM that this row is about: it was not re-created under the same name."""
        return self.vm_id == machine.vm_id

    def same_vm_and_image(self, machine: Machine) -> bool:
        """Whether what this row says of the guest is still true: it was not reimaged with another image either."""
        return self.same_vm(machine) and self.image == machine.image.key

    def is_former_hold(self, machine: Machine) -> bool:
        """Held, for the VM that had this name before, or for its former image.

        An operation that may still be open belongs to the VM, whatever its image.
        """
        same = self.same_vm if self.is_held(State.OVERDUE) else self.same_vm_and_image
        return self.hold is not None and not same(machine)

    def ordered_status(self, machine: Machine) -> PatchStatus | None:
        """What the machine shows of the kind of operation that was ordered; None while it shows none."""
        return machine.assessment_alone if self.kind is OperationKind.ASSESS else machine.installation

    def younger_than(self, machine: Machine) -> bool:
        """Whether this row is about a machine created after this one."""
        return bool(self.created and machine.created and self.created > machine.created)

    def is_held(self, state: State) -> bool:
        return self.hold is not None and self.hold.state is state

    def due_again(self, now: datetime) -> bool:
        """Held, and the time of the hold is over."""
        return self.hold is not None and self.hold.when is not None and self.hold.when <= now

    def expired(self, now: datetime) -> bool:
        """Queued, sent, and its message must have been delivered or lost."""
        return self.phase is Phase.QUEUED and self.sent and now >= self.due_at + CLAIM_LIFE

    def overdue(self, now: datetime) -> bool:
        return self.flight is not None and now >= self.flight.ends_by

    @property
    def deadline(self) -> datetime:
        """Until then an operation of this row may be under way, as far as the row says."""
        if self.flight is None:
            return self.due_at + UNKNOWN_DURATION + OVERDUE_MARGIN
        return self.flight.begun_at + self.flight.limit + OVERDUE_MARGIN

    @property
    def may_be_rebooting(self) -> bool:
        """In flight, ended but not visible in Graph yet, or overdue. Neighbours must not go too."""
        return self.in_flight or self.phase is Phase.ENDED or self.is_held(State.OVERDUE)


def claim(
    machine: Machine,
    kind: OperationKind,
    *,
    token: str,
    due_at: datetime,
    ring: int = LAST_RING,
    group: str = "",
    boundary: str = "",
    previous: Record | None = None,
    sent: bool = True,
    run: str = "",
) -> Record:
    """A fresh claim; what was counted before stays counted while the machine is the same one."""
    same = previous if previous and previous.same_vm_and_image(machine) else None
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
        run=run,
        ring=ring,
        group=group,
        boundary=boundary,
        availability_set=machine.one_at_a_time,
        verdict=machine.verdict,
        created=machine.created,
        checks=same.checks if same else 0,
        history=_history_for(kind, same) if same else NO_HISTORY,
    )


def _history_for(kind: OperationKind, previous: Record) -> History:
    """What was counted, for the next claim: failures in a row are those of its own kind of operation."""
    history = previous.history
    if previous.kind is OperationKind.INSTALL and previous.ending:
        history = replace(history, void_before=previous.ending.at)
    if kind is OperationKind.INSTALL:
        return replace(history, attempts=history.failures)
    return history if previous.kind is kind else replace(history, attempts=0)


def begin(
    record: Record, machine: Machine, limit: timedelta, *, now: datetime, reboot_forbidden: bool = False
) -> Record:
    """The last transition before the POST: stores which operations the instance view shows, to tell ours from them."""
    flight = Flight(
        begun_at=now,
        limit=limit,
        known_operations=tuple(status.operation_id for status in machine.patch_statuses),
        os=machine.os_name or machine.os_type,
        agent=machine.agent_version,
        reboot_forbidden=reboot_forbidden,
    )
    if machine.installed_well_since(record.history.tries):
        record = installed_well(record)
    return replace(
        record, phase=Phase.STARTING, vm_id=machine.vm_id, image=machine.image.key, flight=flight, hold=None, checks=0
    )


def installed_well(record: Record) -> Record:
    """A good installation, the app's or another's, ends what failed before it."""
    attempts = 0 if record.kind is OperationKind.INSTALL else record.history.attempts
    return replace(record, history=replace(record.history, attempts=attempts, failures=0, failure="", tries=()))


def accepted(record: Record, operation_id: str, url: str, *, started_at: datetime) -> Record:
    """Azure has the operation."""
    flight = record.flight or Flight(begun_at=started_at)
    flight = replace(flight, operation_id=operation_id, operation_url=url, started_at=started_at)
    history = record.history
    if record.kind is OperationKind.INSTALL:
        history = replace(history, tries=(*history.tries, started_at)[-TRIES_KEPT:])
    return replace(record, phase=Phase.RUNNING, flight=flight, hold=None, history=history)


def known_as(record: Record, operation_id: str) -> Record:
    """The operation turned out to have this id."""
    return replace(record, flight=record.flight and replace(record.flight, operation_id=operation_id))


def never_ran(record: Record) -> Record:
    """The accepted installation did nothing: another operation took its place."""
    if record.kind is not OperationKind.INSTALL:
        return record
    return replace(record, history=replace(record.history, tries=record.history.tries[:-1]))


def failed_again(record: Record, reason: str) -> Record:
    """One more failure in a row."""
    history = replace(record.history, attempts=record.history.attempts + 1)
    if record.kind is OperationKind.INSTALL:
        history = replace(history, failures=history.attempts, failure=reason)
    return replace(record, history=history)


def without_attempts(record: Record) -> Record:
    """What failed in a row is over; failed installations stay counted until one succeeds."""
    return replace(record, history=replace(record.history, attempts=0))


def unanswered_again(record: Record) -> Record:
    """One more assessment without a verdict."""
    return replace(record, history=replace(record.history, unanswered=record.history.unanswered + 1))


def requeue(record: Record, token: str, due_at: datetime, *, sent: bool, checks: int = 0) -> Record:
    """Back to queued under a fresh token: after a 429, a POST that was never sent, or for another check."""
    return replace(
        record, phase=Phase.QUEUED, token=token, due_at=due_at, sent=sent, checks=checks, flight=None, hold=None
    )


def end(record: Record, ending: Ending) -> Record:
    """The operation ended. Its URL is of no use any more."""
    flight = record.flight and replace(
        record.flight, operation_url="", started_at=record.flight.started_at or record.flight.begun_at
    )
    return replace(record, phase=Phase.ENDED, flight=flight, ending=ending, hold=None)


def hold(record: Record, step: Step, until: datetime) -> Record:
    """Nothing in flight any more; resumed at `until`, or when the cause is gone."""
    wait = Wait(step.state, step.reason, step.remedy, until, step.cause)
    return _held(record, wait)


def release(record: Record, now: datetime) -> Record:
    """A hold that ends now: the next sweep decides again."""
    cause = record.hold.cause if record.hold else Cause.TRANSIENT
    return _held(record, Wait(State.DUE, "", when=now, cause=cause))


def of_another_image(machine: Machine, now: datetime) -> Record:
    """A machine that has another image by now: what was counted goes, and what was assessed was another guest."""
    fresh = claim(machine, OperationKind.ASSESS, token="", due_at=now, sent=False)
    return release(replace(fresh, verdict=None, history=History(void_before=now)), now)


def _held(record: Record, wait: Wait) -> Record:
    flight = record.flight and replace(record.flight, operation_url="")
    ending = record.ending and replace(record.ending, trouble=None)
    return replace(record, phase=Phase.HELD, sent=False, flight=flight, ending=ending, hold=wait)


def keep_asking(held: Record, before: Record) -> Record:
    """An overdue hold keeps the whole flight, its URL included: the next check asks the operation again."""
    return replace(held, flight=before.flight)
