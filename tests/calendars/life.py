"""A fleet under one operator's calendar, in virtual time: patches are published, the app's own decisions install them.

What is decided is never modelled here: question_of() and next_step() say what each machine may do, make_plan() who
goes, record_result() what an ended installation proves. Modelled is the world alone: when patches are published, how
long an installation takes and what it takes in, which machines are off, and that an assessment is over at once.

A sweep comes every five minutes while a machine is due or an installation is under way. Otherwise time jumps to the
next moment at which a machine's step can change.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from functions.decisions import rollout
from functions.decisions.decision import next_step
from functions.decisions.forecast import Turn, forecast
from functions.decisions.plan import Candidate, Fleet, make_plan
from functions.decisions.question import Question, question_of
from functions.decisions.turns import is_open, opening_of
from functions.model.image_record import ImageRecord
from functions.model.machine import Machine, MachineId, OsType, PatchStatus, PowerState
from functions.model.record import Flight, Record, claim
from functions.model.state import Assess, Install, OperationKind, Phase, State, Step
from functions.policy.freshness import time_between
from functions.policy.settings import Settings
from functions.steps.find import waits_for_its_window
from tests.support import DAY, HOUR, LONG_AGO, MINUTE, a_verdict

SWEEP = 5 * MINUTE
START = datetime(2026, 11, 1, tzinfo=UTC)
MIN_MINUTES, MAX_MINUTES = 20, 40  # that an installation takes
IMAGE_AGE = 30 * DAY  # a new machine lacks what was published in this time before its creation
NIGHT = range(20, 30)  # hours in which a machine that is off at night is off: 20:00 to 06:00 UTC
LAST_CALL = 30  # minutes before its window closes from which on a due machine is asked again at each sweep


@dataclass(frozen=True)
class Patch:
    """One patch. A bad one makes each installation fail that takes it in, until it is withdrawn."""

    name: str
    os: OsType
    published: datetime
    bad: bool = False


@dataclass(frozen=True)
class Installed:
    """One patch that reached one machine."""

    patch: Patch
    machine: MachineId
    latency: timedelta  # from its publication, or from the machine's creation if that is later
    canary: bool


@dataclass(frozen=True)
class Moment:
    """What a forecast is asked with: who waits, for its window or for others, and what limits them."""

    now: datetime
    waiting: Sequence[Candidate]
    fleet: Fleet
    settings: Settings


@dataclass(frozen=True)
class Promise:
    """What the forecast said of one machine when its rollout began."""

    made: datetime
    expected: datetime | None  # None: no turn was found for it
    closes: datetime  # the opening of that turn
    next_closes: datetime  # and the one after it


@dataclass(frozen=True)
class Kept:
    """A promise with what became of it. `begun`: None of a machine that was never installed."""

    machine: MachineId
    promise: Promise
    begun: datetime | None
    meanwhile: str = ""  # what changed in the fleet between the two; "": it was at rest

    @property
    def in_time(self) -> bool:
        return self.begun is not None and self.begun <= self.promise.closes

    @property
    def late(self) -> bool:
        """Later than the forecast and one opening."""
        return self.begun is None or self.begun > self.promise.next_closes


@dataclass
class Member:
    """One machine of the fleet, and what is on it."""

    machine: Machine
    off_at_night: bool = False
    lacks: set[Patch] = field(default_factory=set)  # published and not installed, known to the app or not
    installed: datetime | None = None
    step: Step | None = None
    wakes: datetime = START  # when its step can change

    def is_off(self, now: datetime) -> bool:
        return self.off_at_night and (now.hour in NIGHT or now.hour + 24 in NIGHT)


@dataclass(frozen=True)
class _Operation:
    row: Record
    place: str
    ends: datetime
    takes: frozenset[Patch]
    canary: bool


@dataclass
class Life:
    """The fleet over time. `members` and `patches` may lie in the future: each appears in its time."""

    settings: Settings
    members: Sequence[Member]
    patches: Sequence[Patch]
    seed: int = 0
    repaired_after: timedelta = 2 * DAY  # a person closes a breaker, and the bad patch is withdrawn
    now: datetime = START

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.fleet: dict[MachineId, Member] = {}
        self.to_come = sorted(self.members, key=lambda each: str(each.machine.created))
        self.to_publish = sorted(self.patches, key=lambda each: each.published)
        self.published: list[Patch] = []
        self.operations: dict[MachineId, _Operation] = {}
        self.images: dict[str, ImageRecord] = {}
        self.due: set[MachineId] = set()
        self.later: set[MachineId] = set()
        self.wakes: list[tuple[datetime, str, MachineId]] = []
        self.installations: list[Installed] = []
        self.began: dict[MachineId, list[datetime]] = {}
        self.failed: list[MachineId] = []
        self.breakers: dict[str, datetime] = {}  # since when each is open, by place
        self.broken: list[tuple[str, datetime]] = []  # the openings of breakers, by place
        self.promises: dict[MachineId, Promise] = {}
        self.kept: list[Kept] = []

    def run(self, until: datetime) -> None:
        while self.now < until:
            self._sweep()
            self.now = min(self._next_sweep(), until)

    def stop_publishing(self) -> None:
        self.to_publish = []

    def moment(self) -> Moment:
        """The fleet as a sweep sees it now."""
        return Moment(
            self.now, [*self._candidates(self.due), *self._candidates(self.later)], self._fleet(), self.settings
        )

    def unfinished(self) -> list[str]:
        """The rollouts that would go on, if a machine were due now."""
        waiting: dict[str, list[rollout.Member]] = {}
        for item in self.moment().waiting:
            waiting.setdefault(item.place(self.settings), []).append(item.member(self.settings, self.now))
        under_way = {operation.place for operation in self.operations.values()}
        return [
            name
            for name, record in self.images.items()
            if name in under_way
            or rollout.current(record, waiting.get(name, []), [], settings=self.settings, now=self.now).opened
            != self.now
        ]

    def _sweep(self) -> None:
        self._appear()
        self._close_breakers()
        for operation in [each for each in self.operations.values() if each.ends <= self.now]:
            self._end(operation)
        while self.wakes and self.wakes[0][0] <= self.now:
            wakes, _, name = heapq.heappop(self.wakes)
            if self.fleet[name].wakes == wakes and name not in self.operations:
                self._ask(self.fleet[name])
        if not self.due:
            return
        moment = self.moment()
        plan = make_plan(self._candidates(self.due), moment.fleet, self.settings, now=self.now)
        if begun := {place for place, record in plan.rollouts.items() if record.opened == self.now}:
            self._promise(moment, begun)
        self.images = {**self.images, **plan.rollouts}
        for item in plan.dispatches:
            if item.candidate and item.candidate.kind is OperationKind.INSTALL:  # it is assessed by its calendar
                self._begin(item.candidate, self.now + item.delay)

    def _promise(self, moment: Moment, places: set[str]) -> None:
        """Asks the forecast about the machines of the rollouts that begin. A promise that is still open holds."""
        turns = forecast(moment.waiting, moment.fleet, self.settings, now=self.now).turns
        for item in moment.waiting:
            if item.place(self.settings) in places:
                promise = _promise_of(item, turns.get(item.machine.id), self.settings, now=self.now)
                self.promises.setdefault(item.machine.id, promise)

    def broken_promises(self) -> list[Kept]:
        """Those of machines that still lack something."""
        open_ones = (Kept(name, each, None, self._meanwhile(name, each)) for name, each in self.promises.items())
        return [each for each in open_ones if each.late and self.fleet[each.machine].lacks]

    def _meanwhile(self, name: MachineId, promise: Promise) -> str:
        """What changed since the promise that a forecast takes for unchanged."""
        member = self.fleet[name]
        image, os = member.machine.image.key, member.machine.os_type
        where = Candidate(member.machine, Install(State.DUE, "")).place(self.settings)
        alike = (each.machine for each in self.fleet.values() if each.machine.image.key == image)
        changes = {
            "off at night": member.off_at_night,
            "the breaker opened": any(place == where and at >= promise.made for place, at in self.broken),
            "the image grew": any(each.created and each.created > promise.made for each in alike),
            "patches came": any(each.os is os and each.published > promise.made for each in self.published),
        }
        return next((change for change, happened in changes.items() if happened), "")

    def _next_sweep(self) -> datetime:
        if self.due or self.operations:
            return self.now + SWEEP
        moments = [self.wakes[0][0]] if self.wakes else []
        moments += [patch.published for patch in self.to_publish[:1]]
        moments += [created for each in self.to_come[:1] if (created := each.machine.created)]
        moments += [since + self.repaired_after for since in self.breakers.values()]
        late = min(moments) - START
        return max(START - (-late // SWEEP) * SWEEP, self.now + SWEEP)  # on the clock of the sweeps

    def _appear(self) -> None:
        while self.to_publish and self.to_publish[0].published <= self.now:
            patch = self.to_publish.pop(0)
            self.published.append(patch)
            for member in self.fleet.values():
                if member.machine.os_type is patch.os:
                    member.lacks.add(patch)
        while self.to_come and (created := self.to_come[0].machine.created) and created <= self.now:
            member = self.to_come.pop(0)
            since = created - IMAGE_AGE
            member.lacks |= {p for p in self.published if p.os is member.machine.os_type and p.published > since}
            self.fleet[member.machine.id] = member
            self._ask(member)

    def _ask(self, member: Member) -> None:
        """What the machine may do now, and until when that stays so."""
        power = PowerState.STOPPED if member.is_off(self.now) else PowerState.RUNNING
        member.machine = replace(member.machine, power=power)
        question = self._question(member)
        step = next_step(question)
        if isinstance(step, Assess):
            self._assess(member)
            question = self._question(member)
            step = next_step(question)
            assert not isinstance(step, Assess), step.reason
        member.step = step
        name = member.machine.id
        self.due.discard(name)
        self.later.discard(name)
        if isinstance(step, Install):
            self.due.add(name)
        elif waits_for_its_window(step):
            self.later.add(name)
        self._wake(member, min(self._changes(member, question, step)))

    def _question(self, member: Member) -> Question:
        return question_of(member.machine, None, self.settings, created_after=LONG_AGO, now=self.now)

    def _changes(self, member: Member, question: Question, step: Step) -> Iterator[datetime]:
        if member.off_at_night:
            yield self._switched(member)
        if member.is_off(self.now):
            return
        verdict = question.verdict
        yield (verdict.assessed or self.now) + time_between(self.settings.assess_every, member.machine.vm_id)
        if isinstance(step, Install):
            yield self.now + max(question.minutes_left - LAST_CALL, 0) * MINUTE
        elif step.when:
            yield step.when

    def _switched(self, member: Member) -> datetime:
        """When it is next switched off or on."""
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        hours = (hour + count * HOUR for count in range(1, 25))
        return next(at for at in hours if member.is_off(at) != member.is_off(self.now))

    def _wake(self, member: Member, at: datetime) -> None:
        member.wakes = max(at, self.now + SWEEP)
        heapq.heappush(self.wakes, (member.wakes, str(member.machine.id), member.machine.id))

    def _assess(self, member: Member) -> None:
        counts = {"security": len(member.lacks), "critical": 0, "other": 0}
        member.machine = replace(member.machine, verdict=a_verdict(assessed=self.now, counts=counts))

    def _candidates(self, names: set[MachineId]) -> list[Candidate]:
        """With their history, as a sweep reads it: the age of patches for Windows alone, and where not all can go."""
        aged = len(names) > self.settings.max_in_flight.number
        return [self._candidate(self.fleet[name], aged=aged) for name in sorted(names, key=str)]

    def _candidate(self, member: Member, *, aged: bool) -> Candidate:
        assert member.step
        oldest = None
        if aged and member.machine.os_type is OsType.WINDOWS:
            oldest = min((patch.published for patch in member.lacks), default=None)
        return Candidate(member.machine, member.step, member.installed, oldest)

    def _fleet(self) -> Fleet:
        rows = [operation.row for operation in self.operations.values()]
        return Fleet(rows, self.images, {}, self._candidates(self.later))

    def _begin(self, item: Candidate, at: datetime) -> None:
        machine, tags = item.machine, item.overrides
        boundary, place = rollout.boundary(machine, self.settings), item.place(self.settings)
        image = self.images[place]
        token = f"{machine.id}/{at.isoformat()}"
        row = claim(
            machine,
            OperationKind.INSTALL,
            token=token,
            due_at=at,
            ring=tags.ring,
            group=tags.group,
            boundary=boundary,
        )
        row = replace(row, phase=Phase.RUNNING, flight=Flight(begun_at=at, operation_id=token))
        # Windows installs what was published before the rollout's cut-off, Linux whatever its repositories have.
        cut_off = image.opened if machine.os_type is OsType.WINDOWS and image.opened else at
        takes = frozenset(patch for patch in self.fleet[machine.id].lacks if patch.published <= cut_off)
        ends = at + self.random.randint(MIN_MINUTES, MAX_MINUTES) * MINUTE
        canary = image.canaries < self.settings.canaries
        self.operations[machine.id] = _Operation(row, place, ends, takes, canary)
        self.began.setdefault(machine.id, []).append(at)
        if promise := self.promises.pop(machine.id, None):
            self.kept.append(Kept(machine.id, promise, at, self._meanwhile(machine.id, promise)))
        self.due.discard(machine.id)

    def _end(self, operation: _Operation) -> None:
        row = operation.row
        member = self.fleet[row.machine]
        del self.operations[row.machine]
        assert row.begun_at
        bad = any(patch.bad for patch in operation.takes)
        problem = "the patches failed" if bad else ""
        result = rollout.Result(row.operation_id, row.machine, row.ring, row.begun_at, problem)
        record = rollout.record_result(self.images[operation.place], result, self.settings, now=self.now)
        self.images[operation.place] = record
        status = PatchStatus(row.operation_id, "Failed" if bad else "Succeeded", row.begun_at, operation.ends)
        member.machine = replace(member.machine, installation=status)
        if bad:
            self.failed.append(row.machine)
            if record.breaker_open and operation.place not in self.breakers:
                self.breakers[operation.place] = self.now
                self.broken.append((operation.place, self.now))
        else:
            member.installed = row.begun_at
            self._count(member, operation)
        self._assess(member)  # the installation's own closing assessment
        self._ask(member)

    def _count(self, member: Member, operation: _Operation) -> None:
        created = member.machine.created or START
        for patch in operation.takes & member.lacks:  # one that was withdrawn meanwhile does not count
            latency = operation.ends - max(patch.published, created)
            self.installations.append(Installed(patch, member.machine.id, latency, operation.canary))
        member.lacks -= operation.takes

    def _close_breakers(self) -> None:
        """A person closes the breaker; the bad patch is gone by then."""
        for place, since in list(self.breakers.items()):
            if self.now >= since + self.repaired_after:
                record = self.images[place]
                self.images[place] = replace(record, closed=record.opening)
                del self.breakers[place]
                for member in self.fleet.values():
                    member.lacks = {patch for patch in member.lacks if not patch.bad}
                self.published = [patch for patch in self.published if not patch.bad]


def _promise_of(item: Candidate, turn: Turn | None, settings: Settings, *, now: datetime) -> Promise:
    if turn is None:
        return Promise(now, None, now, now)
    member, blackouts = item.member(settings, now), settings.blackouts
    window = member.window if is_open(member.window, turn.at, blackouts) else member.canary_window
    opening = opening_of(window, turn.at, blackouts)
    assert opening, f"{item.machine.id.name} is expected outside its window"
    opens = window.opens(opening[1], blackouts)
    after = opens and window.closes(opens, blackouts)
    return Promise(now, turn.at, opening[1], after or opening[1] + DAY)


def latencies(installations: Sequence[Installed], *, canary: bool, os: OsType | None = None) -> list[float]:
    """In days, in order."""
    chosen = (each for each in installations if each.canary == canary and os in (None, each.patch.os))
    return sorted(each.latency / DAY for each in chosen)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest rank; of nothing, 0."""
    return ordered[max(-(-len(ordered) * percent // 100) - 1, 0)] if ordered else 0.0
