"""Fleet limits over many decisions: which of the due machines now, and how far apart. Pure.

Installations pass the rollout of their image (canary, then ring after ring), the breaker, and the caps: per fleet,
image, availability set and patch-group. Assessments pass the pace alone. The pace belongs to the sweep: per
subscription and region it dispatches at most what the quota allows until the next sweeps, less what is queued already.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from functions.decisions import rollout
from functions.decisions.question import narrowed, window_as_canary
from functions.decisions.rollout import LATEST, InFlight, Member
from functions.decisions.runs import admit
from functions.decisions.turns import is_open
from functions.model.image_record import ImageRecord, place
from functions.model.machine import BUCKET_CAPACITY, Machine, MachineId
from functions.model.record import Record
from functions.model.run import Progress, Run
from functions.model.state import Assess, Cause, Install, OperationKind, Phase, State, Step, Wait
from functions.policy.settings import Settings
from functions.policy.tags import TagOverrides, tag_overrides
from functions.policy.windows import ANY

# Azure's quota of patch calls, assessments and installations together, per subscription and region (Azure's compute
# throttling limits). The cost of a call is inferred from one recorded answer: 598 of 600 tokens were left after it.
TOKENS_PER_MINUTE = 200


TOKENS_PER_CALL = 2


# How much of a full bucket a sweep may use at once. A minute's calls must be left (it refills only at the end of each
# minute), and a reserve for what the ledger does not show: events' own calls whose rows are gone, and other people's.
BURST_SHARE = 0.5


FILL_TIME = timedelta(minutes=BUCKET_CAPACITY / TOKENS_PER_MINUTE)  # an empty bucket is full after this long


# How far ahead one sweep dispatches: longer than from one sweep to the next, so that the queue does not run dry when
# the next one is late or has much to track first.
HORIZON = timedelta(minutes=8)


LEAVING = "docs/settings.md, patch-group"  # how a member's owner takes it out


Bucket = tuple[str, str]


_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A machine that is due, and the step that follows."""

    machine: Machine
    step: Step
    installed: datetime | None = None  # when its last good installation began, as far as Graph shows
    oldest_patch: datetime | None = None  # when its oldest missing Critical or Security patch was published
    run: Run | None = None  # on demand, which orders this step
    overrides: TagOverrides = field(init=False, repr=False, compare=False)  # what its machine's tags ask for

    def __post_init__(self) -> None:
        object.__setattr__(self, "overrides", tag_overrides(self.machine))  # once: a plan asks for them often

    @property
    def kind(self) -> OperationKind:
        return OperationKind.INSTALL if isinstance(self.step, Install) else OperationKind.ASSESS

    def with_history(self, installed: datetime | None, oldest_patch: datetime | None) -> "Candidate":
        """The same with what Graph shows of its past."""
        if (self.installed, self.oldest_patch) == (installed, oldest_patch):
            return self
        return Candidate(self.machine, self.step, installed, oldest_patch, self.run)

    def place(self, settings: Settings) -> str:
        """Its image within its trust boundary."""
        return place(self.machine.image.key, rollout.boundary(self.machine, settings))

    @property
    def need(self) -> tuple[datetime, datetime, int, str]:
        """The longest in need first: by its oldest missing patch, then by how long ago it was installed."""
        since = self.installed or self.machine.created or LATEST
        return self.oldest_patch or LATEST, since, self.overrides.ring, str(self.machine.id)

    def member(self, settings: Settings, now: datetime, *, held_back: bool = False) -> Member:
        """What its image's rollout looks at."""
        tags, step = self.overrides, self.step
        own, canary = narrowed(settings.window or ANY, tags), window_as_canary(self.machine, tags, settings)
        due, may = isinstance(step, Install), settings.may_be_canary(self.machine.id)
        in_canary_window = due and (canary is None or is_open(canary, now, settings.blackouts))
        return Member(
            self.machine.id,
            tags.ring,
            oldest_patch=self.oldest_patch,
            installed=self.installed,
            created=self.machine.created,
            window=own,
            canary_window=canary or own,
            due=isinstance(step, Install) and not step.only_canary,
            may_be_canary=may,
            canary_due=may and in_canary_window,
            held_back=held_back,
        )


@dataclass(frozen=True)
class Dispatch:
    """What to send now: a new claim on a candidate, or (None) the message of a claim that never had one."""

    machine: MachineId
    candidate: Candidate | None
    delay: timedelta
    canary: bool = False  # it goes as a canary of its image


@dataclass(frozen=True)
class Fleet:
    """What limits the due machines: what is in flight, the images' records, and groups with a member in trouble.

    Where a group is: Settings.group_scope; of a member that cannot be read its subscription, or "" if that is unknown.
    """

    rows: Sequence[Record] = ()
    images: Mapping[str, ImageRecord] = field(default_factory=dict)  # by ImageRecord.place
    troubled_groups: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (where, group) → who
    later: Sequence[Candidate] = ()  # could be installed, but for their windows: they keep their rollout open
    machines: Mapping[str, int] = field(default_factory=dict)  # in scope, by image: what caps in percent are of
    progress: Mapping[str, Progress] = field(default_factory=dict)  # of runs on demand, by id
    read_at: datetime | None = None  # when the rows were read; None: just now


@dataclass(frozen=True)
class Plan:
    """The dispatches in order, why each other due machine waits, and the rollouts, by place, that this changes."""

    dispatches: Sequence[Dispatch]
    waits: Mapping[MachineId, Step]
    rollouts: Mapping[str, ImageRecord]


def make_plan(candidates: Iterable[Candidate], fleet: Fleet, settings: Settings, *, now: datetime) -> Plan:
    """Which of the due machines now. Claims that wait to be sent come first, then assessments, then installations."""
    candidates = sorted(candidates, key=lambda item: _age(item.machine))
    assessments = [item for item in candidates if item.kind is OperationKind.ASSESS]
    limits = _Limits(fleet, settings)
    canaries, others, waits, rollouts = _admit(candidates, fleet, limits, settings=settings, now=now)
    ordered, kept = _admit_runs(candidates, fleet, limits, settings=settings, now=now)
    waits |= kept
    proving = {item.machine.id for item in canaries}
    pace = RateBudget(fleet.rows, settings, now, read_at=fleet.read_at)
    dispatches: list[Dispatch] = []
    for row in fleet.rows:
        if waits_to_be_sent(row, now) and (delay := pace.next_delay(row.quota_key)) is not None:
            dispatches.append(Dispatch(row.machine, None, delay))
    # Canaries first: everyone else of their images waits for them. Then what people ordered.
    for item in (*assessments, *canaries, *ordered, *others):
        step = limits.objection(item) if item.kind is OperationKind.INSTALL else None
        delay = None if step else pace.next_delay(item.machine.quota_key)
        if delay is None:
            reason = "the quota of patch calls of its subscription and region is fully allocated"
            waits[item.machine.id] = step or Wait(State.WAITING_FOR_SLOT, reason, cause=Cause.TRANSIENT)
            continue
        if item.kind is OperationKind.INSTALL:
            limits.take(item)
        dispatches.append(Dispatch(item.machine.id, item, delay, canary=item.machine.id in proving))
    dispatches += _assess_meanwhile(candidates, waits, pace)
    handed = {
        item.candidate.place(settings)
        for item in dispatches
        if item.candidate and item.candidate.kind is OperationKind.INSTALL and not item.candidate.run
    }
    return Plan(dispatches, waits, _changed(rollouts, handed, fleet))


def _changed(rollouts: Mapping[str, ImageRecord], handed: set[str], fleet: Fleet) -> dict[str, ImageRecord]:
    """The rollouts that open with what is dispatched, and those of which a ring opened."""
    return {
        name: record
        for name, record in rollouts.items()
        if name in handed or (name in fleet.images and fleet.images[name].opened == record.opened)
        if fleet.images.get(name) != record
    }


def _assess_meanwhile(
    candidates: Iterable[Candidate], waits: dict[MachineId, Step], pace: "RateBudget"
) -> Iterator[Dispatch]:
    """Those that wait for the fleet are assessed when that is due: their patches go on being known."""
    for item in candidates:
        due = isinstance(item.step, Install) and item.step.assess_meanwhile and item.machine.id in waits
        if due and (delay := pace.next_delay(item.machine.quota_key)) is not None:
            assess = replace(item, step=Assess(State.DUE, "its daily assessment, while it waits for its installation"))
            del waits[item.machine.id]
            yield Dispatch(item.machine.id, assess, delay)


def installations_in_flight(rows: Iterable[Record]) -> int:
    """Installations that hold a slot of the fleet: queued, starting or running."""
    return sum(row.kind is OperationKind.INSTALL and row.in_flight for row in rows)


def waits_to_be_sent(record: Record, now: datetime) -> bool:
    """A claim without a message whose time has come: postponed by a 429, or left by an event in a storm."""
    return record.phase is Phase.QUEUED and not record.sent and record.due_at <= now


def _admit(
    candidates: Iterable[Candidate], fleet: Fleet, limits: "_Limits", *, settings: Settings, now: datetime
) -> tuple[list[Candidate], list[Candidate], dict[MachineId, Step], dict[str, ImageRecord]]:
    """The canaries and the others that their images' rollouts admit now, why the rest waits, and the rollouts."""
    places: dict[str, list[Candidate]] = {}
    later: dict[str, list[Candidate]] = {}
    canaries: list[Candidate] = []
    admitted: list[Candidate] = []
    waits: dict[MachineId, Step] = {}
    records: dict[str, ImageRecord] = {}
    for item in candidates:
        if item.kind is not OperationKind.INSTALL or item.run:
            continue
        step = limits.neighbour_objection(item)
        if step:
            waits[item.machine.id] = step
        if item.machine.image.key:
            places.setdefault(item.place(settings), []).append(item)
        elif not step:
            admitted.append(item)  # no image: a group of one, under the caps alone
    for item in fleet.later:
        if (name := item.place(settings)) in places:
            later.setdefault(name, []).append(item)
    under_way = installations_under_way(fleet.rows)
    for name, due in places.items():  # one image after the other: its members are needed no longer than that
        members = [item.member(settings, now, held_back=item.machine.id in waits) for item in due]
        members += [item.member(settings, now) for item in later.get(name, ())]
        known, running = rollout_of(due[0], fleet, settings, under_way=under_way)
        record = rollout.current(known, members, running, settings=settings, now=now)
        admission = rollout.admit(record, members, running, settings=settings, now=now)
        records[name] = admission.record
        by_id = {item.machine.id: item for item in due}
        going = [by_id[machine] for machine in admission.admitted]
        (canaries if admission.canaries else admitted).extend(going)
        waits |= admission.waits
    return sorted(canaries, key=_need), sorted(admitted, key=_need), waits, records


def _admit_runs(
    candidates: Iterable[Candidate], fleet: Fleet, limits: "_Limits", *, settings: Settings, now: datetime
) -> tuple[list[Candidate], dict[MachineId, Step]]:
    """The installations that runs on demand order and that may go now, and why the others wait.

    They pass the rollout of their image, but neither its breaker nor a neighbour.
    """
    admitted: list[Candidate] = []
    waits: dict[MachineId, Step] = {}
    by_run: dict[str, dict[MachineId, Candidate]] = {}
    runs: dict[str, Run] = {}
    for item in sorted((each for each in candidates if each.run), key=_need):
        if item.run is None or item.kind is not OperationKind.INSTALL:
            continue
        image = fleet.images.get(item.place(settings))
        step = limits.neighbour_objection(item)
        if step := step or (rollout.breaker_wait(image) if image and image.breaker_open else None):
            waits[item.machine.id] = step
            continue
        runs[item.run.id] = item.run
        by_run.setdefault(item.run.id, {})[item.machine.id] = item
    for name, run in sorted(runs.items()):
        items = by_run[name]
        progress = fleet.progress.get(name, Progress())
        going, kept = admit(run, progress, [item.machine for item in items.values()], now=now)
        admitted += [items[machine] for machine in going]
        waits |= kept
    return admitted, waits


def _need(item: Candidate) -> tuple[datetime, datetime, int, str]:
    return item.need


UnderWay = Mapping[tuple[str, str], Sequence[InFlight]]


def rollout_of(
    item: Candidate, fleet: Fleet, settings: Settings, *, under_way: UnderWay
) -> tuple[ImageRecord, list[InFlight]]:
    """What is remembered of a machine's image, and its installations under way."""
    image, boundary = item.machine.image.key, rollout.boundary(item.machine, settings)
    # An older app's claim names no boundary: it counts in each.
    running = [each for where in dict.fromkeys(("", boundary)) for each in under_way.get((image, where), ())]
    return fleet.images.get(item.place(settings), ImageRecord(image, boundary)), running


def installations_under_way(rows: Iterable[Record]) -> UnderWay:
    """By image and boundary, without those of runs on demand: they are in no rollout."""
    found: dict[tuple[str, str], list[InFlight]] = {}
    for row in rows:
        if row.kind is OperationKind.INSTALL and row.may_be_rebooting and not row.run:
            found.setdefault((row.image, row.boundary), []).append(InFlight(row.machine, row.ring))
    return found


class _Limits:
    """The caps on installations in flight, as they fill up."""

    def __init__(self, fleet: Fleet, settings: Settings) -> None:
        self._settings, self._troubled = settings, fleet.troubled_groups
        self._machines, self._all = fleet.machines, sum(fleet.machines.values())
        installs = [row for row in fleet.rows if row.kind is OperationKind.INSTALL]
        rows = [row for row in installs if row.in_flight]
        self._fleet = installations_in_flight(fleet.rows)
        self._images = Counter(row.image for row in rows)
        # A neighbour that may be rebooting keeps its slot: it frees it once its outcome is recorded.
        rebooting = [row for row in installs if row.may_be_rebooting]
        self._sets = Counter(row.availability_set for row in rebooting)
        # One at a time in the whole subscription, across owners: that passes with the installation. What may last, a
        # member that is overdue or not well, holds back its own scope alone.
        self._groups = Counter((row.machine.subscription, row.group) for row in rebooting if row.hold is None)
        overdue = (row for row in rebooting if row.hold)
        self._overdue = {(settings.group_scope(row.machine), row.group): row.machine.name for row in overdue}

    def neighbour_objection(self, item: Candidate) -> Step | None:
        """One machine of an availability set at a time, and of a patch-group, whose other members must be well."""
        machine = item.machine
        if machine.one_at_a_time and self._sets[machine.one_at_a_time]:
            return Wait(
                State.WAITING_FOR_GROUP,
                "another machine of its availability set or scale set is being patched",
                cause=Cause.TRANSIENT,
            )
        group = (machine.id.subscription, item.overrides.group)
        if not group[1]:
            return None
        if self._groups[group]:
            return Wait(
                State.WAITING_FOR_GROUP, f"another member of {group[1]} is being patched", cause=Cause.TRANSIENT
            )
        scope = (self._settings.group_scope(machine.id), group[1])
        if name := self._overdue.get(scope):
            reason = f"the installation of {name} of patch-group {group[1]} is overdue"
            return Wait(State.WAITING_FOR_GROUP, reason, f"Check {name}, or take it out of the group ({LEAVING}).")
        unreadable = (group, ("", group[1]))  # of such a member at most the subscription is known
        if trouble := next(filter(None, map(self._troubled.get, (scope, *unreadable))), ""):
            name = trouble.partition(" (")[0]  # without since when
            remedy = f"Start or repair {name}, or take it out of the group ({LEAVING})."
            return Wait(State.WAITING_FOR_GROUP, f"{trouble} of patch-group {group[1]} is off or unhealthy", remedy)
        return None

    def objection(self, item: Candidate) -> Step | None:
        settings = self._settings
        if step := self.neighbour_objection(item):
            return step
        if self._fleet >= settings.max_in_flight.of(self._all):
            limit = settings.max_in_flight.told(self._all)
            reason = f"{self._fleet} installations are under way in the fleet (PATCH_MAX_IN_FLIGHT is {limit})"
            return Wait(State.WAITING_FOR_SLOT, reason, cause=Cause.TRANSIENT)
        key = item.machine.image.key
        alike = self._machines.get(key, 0)
        if key and self._images[key] >= settings.max_per_image.of(alike):
            limit = settings.max_per_image.told(alike)
            reason = f"{self._images[key]} installations are under way on its image (PATCH_MAX_PER_IMAGE is {limit})"
            return Wait(State.WAITING_FOR_SLOT, reason, cause=Cause.TRANSIENT)
        return None

    def take(self, item: Candidate) -> None:
        machine = item.machine
        self._fleet += 1
        self._images[machine.image.key] += 1
        self._sets[machine.one_at_a_time] += 1
        self._groups[machine.id.subscription, item.overrides.group] += 1


class RateBudget:
    """How far apart the calls of one bucket are, and how many fit before the horizon.

    A bucket at rest is full: the first calls go at once. Whatever is queued, or was called while an empty bucket would
    fill up, counts against them; a claim that a 429 postponed shows that it is not full at all. A claim whose time came
    since the rows were read has called by now: it waits in no queue, so no machine is sent after it.
    """

    def __init__(
        self, rows: Sequence[Record], settings: Settings, now: datetime, *, read_at: datetime | None = None
    ) -> None:
        share = settings.pace_percent / 100
        self._spacing = timedelta(minutes=1) / (TOKENS_PER_MINUTE / TOKENS_PER_CALL * share)
        self._burst = int(BUCKET_CAPACITY / TOKENS_PER_CALL * BURST_SHARE * share)
        soon = [row for row in rows if row.phase is Phase.QUEUED and row.sent and row.due_at <= now + HORIZON]
        left = [row for row in soon if (read_at or now) < row.due_at <= now]
        self._called = Counter(row.quota_key for row in (*left, *(row for row in rows if _spends(row, now))))
        self._queued = Counter(row.quota_key for row in soon) - Counter(row.quota_key for row in left)
        self._taken: Counter[Bucket] = Counter()

    def next_delay(self, bucket: Bucket) -> timedelta | None:
        at_once = max(self._burst - self._queued[bucket] - self._called[bucket], 0)
        place = self._taken[bucket] - at_once
        delay = (self._queued[bucket] + place) * self._spacing if place >= 0 else timedelta(0)
        if delay >= HORIZON:
            return None
        self._taken[bucket] += 1
        return delay


def _spends(record: Record, now: datetime) -> bool:
    """Whether this row's last call is recent enough to be missing in its bucket, or was refused by it."""
    unsent = record.phase is Phase.QUEUED and not record.sent
    return unsent or (record.begun_at is not None and now - record.begun_at < FILL_TIME)


def _age(machine: Machine) -> datetime:
    """The longest known first."""
    return machine.created or _EARLIEST
