"""When each waiting machine will be installed, and who fits into each opening. Pure.

The forecast is the plan itself in time to come: make_plan() is asked at every moment at which something changes, each
installation takes as long as those of its image took, and succeeds. So it says what the sweeps will do as long as
nothing fails and no patch is published; it is exact for a fleet at rest.

Only the first machines of each kind are put before the plan, and as many as caps and pace let go at once: those behind
them cannot go before them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heapify, heappop, heapreplace
from itertools import islice
from types import MappingProxyType

from functions.decisions import rollout
from functions.decisions.plan import Candidate, Fleet, Plan, RateBudget, make_plan
from functions.decisions.question import min_minutes, window_as_canary
from functions.decisions.turns import ever_opens, opening_of, turn_ends
from functions.model.image_record import ImageRecord, place
from functions.model.machine import MachineId
from functions.model.record import Flight, Record, claim
from functions.model.run import Item, Progress, Run, RunOutcome
from functions.model.state import Install, OperationKind, Phase, State, Step, Wait
from functions.policy.settings import Settings
from functions.policy.windows import HORIZON, Windows

SWEEP = timedelta(minutes=5)  # as RECONCILE_SCHEDULE has it by default
ASSESSMENT = timedelta(minutes=5)  # the usual length of one, inferred
USUAL = timedelta(minutes=30)  # an installation of an image of which none has been seen
_DUE = Install(State.DUE, "")
_DUE_AS_CANARY = Install(State.DUE, "", only_canary=True)
_WAITS = Wait(State.WAITING_FOR_WINDOW, "")
_AT_LIMIT = (State.WAITING_FOR_SLOT, State.WAITING_FOR_GROUP)  # its rollout admits it, or may
STEPS = 20_000  # moments that are checked; a fleet that needs more is forecast as far as they reach


@dataclass(frozen=True)
class Turn:
    """When a machine's installation is expected to begin, and as what."""

    at: datetime
    ring: int
    canary: bool


@dataclass(frozen=True)
class Opening:
    """One opening of a window: how many of those that wait for it go as canaries, and how many go after them."""

    starts: datetime
    ends: datetime
    window: Windows
    waiting: int  # for this window, at its beginning
    canaries: int
    fit: int

    @property
    def left(self) -> int:
        return max(self.waiting - self.canaries - self.fit, 0)


@dataclass(frozen=True)
class Forecast:
    """`turns` lacks the machines whose turn does not come within HORIZON, or not within STEPS."""

    turns: Mapping[MachineId, Turn]
    openings: Sequence[Opening]


@dataclass(frozen=True)
class _Kind:
    """Machines that no rule but their need, their group and their availability set tells apart."""

    place: str
    image: str
    ring: int
    window: Windows
    canary_window: Windows | None
    minutes: int  # the least that an installation needs
    quota: tuple[str, str]


def forecast(waiting: Iterable[Candidate], fleet: Fleet, settings: Settings, *, now: datetime) -> Forecast:
    """What becomes of the machines that can be installed, now or but for their windows. No order is needed."""
    future = _Future(fleet, settings, now)
    future.add(waiting)
    for _ in range(STEPS):
        if not future.step():
            break
    return Forecast(future.turns, future.openings())


def _with_step(queue: dict[MachineId, Candidate], item: Candidate, step: Step) -> Candidate:
    """The candidate with the step, put back into its queue: most keep theirs from one moment to the next."""
    if item.step is not step:
        item = queue[item.machine.id] = Candidate(item.machine, step, item.installed, item.oldest_patch, item.run)
    return item


_Neighbours = tuple[str, str]  # the id of an availability set, or a subscription and the name of a patch-group


def _neighbours(item: Candidate) -> set[_Neighbours]:
    """Those of which one machine goes at a time."""
    machine, group = item.machine, item.overrides.group
    availability_set = {("", machine.one_at_a_time)} if machine.one_at_a_time else set()
    return availability_set | ({(machine.id.subscription, group)} if group else set())


class _Future:
    """The fleet at a moment to come."""

    def __init__(self, fleet: Fleet, settings: Settings, now: datetime) -> None:
        self.fleet, self.settings, self.now, self.begun = fleet, settings, now, now
        self.cap, self.canaries = settings.max_in_flight.of(sum(fleet.machines.values())), settings.canaries
        self.turns: dict[MachineId, Turn] = {}
        self.images = dict(self.fleet.images)
        # What is in flight now ends as it was ordered; what ended stays until its result is recorded.
        self.rows = {row.machine: row for row in self.fleet.rows if row.kind is OperationKind.INSTALL}
        self.ends = {name: self._end_of(row) for name, row in self.rows.items() if row.may_be_rebooting}
        self.kinds: dict[MachineId, _Kind] = {}
        self.queues: dict[_Kind, dict[MachineId, Candidate]] = {}
        self.places = {name: place(row.image, row.boundary) for name, row in self.rows.items() if row.image}
        self.seen: dict[tuple[datetime, Windows], Opening] = {}

    def add(self, waiting: Iterable[Candidate]) -> None:
        for item in sorted(waiting, key=lambda each: each.need):
            kind = self.kinds[item.machine.id] = self._kind(item)
            self.queues.setdefault(kind, {})[item.machine.id] = item
        self.queues = {kind: queue for kind, queue in self.queues.items() if self._ever_opens(kind)}

    def step(self) -> bool:
        """One sweep, and on to the next moment at which something changes. False: nothing will."""
        self._end_what_is_over()
        plan = self._plan()
        self.images |= plan.rollouts
        for item in plan.dispatches:
            if item.candidate:
                self._begin(item.candidate, self.now + item.delay, canary=item.canary)
        if not self._is_anyone_left():
            return False
        # What begins or opens may let others go: the next sweep sees it.
        moment = self.now + SWEEP if plan.rollouts or plan.dispatches else self._next()
        if moment is None or moment > self.begun + HORIZON:
            return False
        self.now = moment
        return True

    def _is_anyone_left(self) -> bool:
        return any(self.queues.values())

    # -- one moment

    def _end_what_is_over(self) -> None:
        for name in [name for name, at in self.ends.items() if at <= self.now]:
            row = self.rows.pop(name)
            del self.ends[name]
            where = self.places.get(name, "")
            if record := self.images.get(where):
                result = rollout.Result(str(name), name, row.ring, row.begun_at or self.now, "")
                self.images[where] = rollout.record_result(record, result, self.settings, now=self.now)

    def _plan(self) -> Plan:
        """What the sweep does: the first of each kind show which kinds may go, and of those as many go as can."""
        due: list[Candidate] = []
        later: list[Candidate] = []
        taken = self._neighbours()
        for kind, queue in self.queues.items():
            if step := self._way(kind):
                due += [_with_step(queue, item, step) for item in self._first(queue, taken)]
            else:
                later += [_with_step(queue, item, _WAITS) for item in islice(queue.values(), 1)]
        fleet = replace(self.fleet, rows=list(self.rows.values()), images=self.images, later=later)
        plan = make_plan(due, fleet, self.settings, now=self.now)
        admitted = {item.machine for item in plan.dispatches if not item.canary}
        admitted |= {name for name, step in plan.waits.items() if step.state in _AT_LIMIT}
        seen = {item.machine.id for item in due}
        going = {self.kinds[name] for name in admitted if name in seen}
        more = [item for item in self._next_in_need(going, taken) if item.machine.id not in seen]
        return make_plan([*due, *more], fleet, self.settings, now=self.now) if more else plan

    def _way(self, kind: _Kind) -> Install | None:
        """The step of machines of this kind now; None while no window of theirs is open for long enough."""
        if self._is_open(kind.window, kind.minutes):
            return _DUE
        return _DUE_AS_CANARY if kind.canary_window and self._is_open(kind.canary_window, kind.minutes) else None

    def _ever_opens(self, kind: _Kind) -> bool:
        windows = filter(None, (kind.window, kind.canary_window))
        return any(ever_opens(each, self.now, self.settings.blackouts) for each in windows)

    def _is_open(self, window: Windows, minutes: int) -> bool:
        end = window.closes(self.now, self.settings.blackouts)
        return end is not None and end - self.now >= timedelta(minutes=minutes)

    def _neighbours(self) -> set[_Neighbours]:
        """The availability sets and groups of which a machine is being installed."""
        rows = [(row, row.machine.subscription) for row in self.rows.values() if row.may_be_rebooting]
        return {("", row.availability_set) for row, _ in rows} | {(where, row.group) for row, where in rows}

    def _first(self, queue: Mapping[MachineId, Candidate], taken: set[_Neighbours]) -> Iterator[Candidate]:
        """The first, and as many that no neighbour holds back as may be canaries."""
        wanted = max(self.canaries, 1)
        for number, item in enumerate(queue.values()):
            free = not _neighbours(item) & taken
            if free or not number:
                yield item
            wanted -= free
            if not wanted:
                return

    def _next_in_need(self, kinds: Iterable[_Kind], taken: set[_Neighbours]) -> Iterator[Candidate]:
        """Those of these kinds that could go at once, by need: as many as caps and pace allow. Of a group one goes."""
        rows = list(self.rows.values())
        busy = Counter(row.image for row in rows if row.in_flight)
        taken, free, pace = set(taken), self.cap - busy.total(), RateBudget(rows, self.settings, self.now)
        rest = {kind: iter(self.queues[kind].values()) for kind in kinds}
        heads = [(item.need, kind.place, item) for kind, queue in rest.items() if (item := next(queue, None))]
        heapify(heads)
        while heads and free > 0:
            item = heads[0][2]
            kind, mine = self.kinds[item.machine.id], _neighbours(item)
            if not mine & taken:
                if self._is_full(kind.image, busy) or pace.next_delay(kind.quota) is None:
                    heappop(heads)  # and so is it for those behind it
                    continue
                yield _with_step(self.queues[kind], item, _DUE)
                taken |= mine
                busy[kind.image] += 1
                free -= 1
            if following := next(rest[kind], None):
                heapreplace(heads, (following.need, kind.place, following))
            else:
                heappop(heads)

    def _is_full(self, image: str, busy: Mapping[str, int]) -> bool:
        """Whether PATCH_MAX_PER_IMAGE lets no more machines of the image go."""
        alike = self.fleet.machines.get(image, 0)
        return bool(image) and busy.get(image, 0) >= self.settings.max_per_image.of(alike)

    def _begin(self, item: Candidate, at: datetime, *, canary: bool) -> None:
        machine, where = item.machine, item.place(self.settings)
        record = self.images.get(where)
        self._count(item, canary=canary)
        self.turns[machine.id] = Turn(at, item.overrides.ring, canary)
        del self.queues[self.kinds[machine.id]][machine.id]
        row = claim(
            machine,
            OperationKind.INSTALL,
            token="",
            due_at=at,
            ring=item.overrides.ring,
            group=item.overrides.group,
            run=item.run.id if item.run else "",
            boundary=rollout.boundary(machine, self.settings),
        )
        self.rows[machine.id] = replace(row, phase=Phase.RUNNING, flight=Flight(begun_at=at))
        self.ends[machine.id] = at + ((record and record.usual) or USUAL)
        if record:
            self.places[machine.id] = where

    # -- the next one

    def _next(self) -> datetime | None:
        blackouts = self.settings.blackouts
        kinds = [kind for kind, queue in self.queues.items() if queue]
        windows = {window for kind in kinds for window in (kind.window, kind.canary_window) if window}
        moments = [
            *self.ends.values(),
            *self._more_moments(),
            *(window.opens(self.now, blackouts) for window in windows),
        ]
        by_place: dict[str, set[Windows]] = {}
        for kind in kinds:
            by_place.setdefault(kind.place, set()).add(kind.window)
        for record in (self.images[where] for where in by_place if where in self.images):
            moments += self._changes_of(record, by_place[record.place])
        after = min((moment for moment in moments if moment and moment > self.now), default=None)
        return after and self.now + -((self.now - after) // SWEEP) * SWEEP  # the sweep that sees it

    def _more_moments(self) -> Iterable[datetime | None]:
        return ()

    def _changes_of(self, record: ImageRecord, windows: Iterable[Windows]) -> Iterator[datetime | None]:
        """When a ring may open or the rollout end."""
        proofs = [record.proved, *(tally.last for tally in record.rings.values())]
        yield from (proof + self.settings.bake for proof in proofs if proof)
        if record.opened:
            yield record.opened + self.settings.rollout_length
        for tally in record.rings.values():
            if tally.opened:
                yield from (turn_ends(window, tally.opened, self.settings.blackouts) for window in windows)

    # -- what is known of a machine and of an opening

    def _kind(self, item: Candidate) -> _Kind:
        settings, machine = self.settings, item.machine
        member, where = item.member(settings, self.begun), item.place(settings) if machine.image.key else ""
        canary = window_as_canary(machine, item.overrides, settings)
        least = min_minutes(machine, settings)
        return _Kind(where, machine.image.key, member.ring, member.window, canary, least, machine.quota_key)

    def _end_of(self, row: Record) -> datetime:
        begun, record = row.begun_at or row.due_at, self.images.get(place(row.image, row.boundary))
        return max(begun + ((record and record.usual) or USUAL), self.now)

    def openings(self) -> list[Opening]:
        """The openings in which a machine goes, in order."""
        return sorted(self.seen.values(), key=lambda each: (each.starts, each.window.text))

    def _count(self, item: Candidate, *, canary: bool) -> None:
        """Counts a machine that begins now in the opening that it uses."""
        kind = self.kinds[item.machine.id]
        apart = canary and kind.canary_window and self._is_open(kind.canary_window, kind.minutes)
        window = kind.canary_window if kind.canary_window and apart else kind.window
        bounds = opening_of(window, self.now, self.settings.blackouts)
        if bounds is None:
            return
        key = bounds[0], window
        known = self.seen.get(key) or Opening(*bounds, window, waiting=self._waiting_for(window), canaries=0, fit=0)
        self.seen[key] = replace(known, canaries=known.canaries + canary, fit=known.fit + (not canary))

    def _waiting_for(self, window: Windows) -> int:
        return sum(len(queue) for kind, queue in self.queues.items() if kind.window == window)


# -- a run on demand


@dataclass(frozen=True)
class RunForecast:
    """When each machine of a run begins, and when the last of them has ended; None: none begins.

    `begins` lacks the machines whose turn does not come before the run is over.
    """

    begins: Mapping[MachineId, datetime]
    ends: datetime | None


def forecast_run(
    run: Run,
    ordered: Iterable[Candidate],
    fleet: Fleet,
    *,
    settings: Settings,
    now: datetime,
    not_before: Mapping[MachineId, datetime] = MappingProxyType({}),
) -> RunForecast:
    """What becomes of the machines of a run, if nothing fails and no other run takes their turns.

    `not_before`: when something that keeps a machine for a while is over.
    """
    if run.kind is OperationKind.ASSESS:
        return _assessments_of(run, ordered, fleet, settings=settings, now=now)
    future = _FutureOfRun(run, fleet, settings, now=now, not_before=not_before)
    future.add(ordered)
    for _ in range(STEPS):
        if future.now >= run.until or not future.step():
            break
    begins = {name: turn.at for name, turn in future.turns.items() if turn.at < run.until}
    return RunForecast(begins, max((future.all_ends[name] for name in begins), default=None))


def _assessments_of(
    run: Run, ordered: Iterable[Candidate], fleet: Fleet, *, settings: Settings, now: datetime
) -> RunForecast:
    """Assessments are limited by the quota of calls alone."""
    rows, left = list(fleet.rows), list(ordered)
    begins: dict[MachineId, datetime] = {}
    while left and now < run.until:
        for item in make_plan(left, replace(fleet, rows=rows), settings, now=now).dispatches:
            if item.candidate:
                at = begins[item.machine] = now + item.delay
                row = claim(item.candidate.machine, OperationKind.ASSESS, token="", due_at=at)
                rows.append(replace(row, phase=Phase.RUNNING, flight=Flight(begun_at=at)))
        left = [item for item in left if item.machine.id not in begins]
        now += SWEEP
    begins = {name: at for name, at in begins.items() if at < run.until}
    return RunForecast(begins, max(begins.values()) + ASSESSMENT if begins else None)


class _FutureOfRun(_Future):
    """The fleet at a moment to come, of which a run installs its machines: by its canaries, and no rollout."""

    def __init__(
        self, run: Run, fleet: Fleet, settings: Settings, *, now: datetime, not_before: Mapping[MachineId, datetime]
    ) -> None:
        super().__init__(fleet, settings, now)
        self.run, self.canaries, self.not_before = run, run.canaries, not_before
        self.coming: list[tuple[datetime, Candidate]] = []  # the next one last
        self.items: dict[MachineId, Item] = {}  # of its canaries
        self.all_ends: dict[MachineId, datetime] = {}

    def add(self, waiting: Iterable[Candidate]) -> None:
        there: list[Candidate] = []
        for item in waiting:
            at = self.not_before.get(item.machine.id, self.now)
            if at > self.now:
                self.coming.append((at, item))
            else:
                there.append(item)
        self.coming.sort(key=lambda each: each[0], reverse=True)
        super().add(there)

    def step(self) -> bool:
        arrived: list[Candidate] = []
        while self.coming and self.coming[-1][0] <= self.now:
            arrived.append(self.coming.pop()[1])
        if arrived:  # among the others of their kinds, by need
            there, self.queues = [item for queue in self.queues.values() for item in queue.values()], {}
            super().add([*arrived, *there])
        return super().step()

    def _is_anyone_left(self) -> bool:
        return bool(self.coming) or super()._is_anyone_left()

    def _end_what_is_over(self) -> None:
        for name in [name for name, at in self.ends.items() if at <= self.now]:
            del self.rows[name]
            at = self.ends.pop(name)
            if name in self.items:
                self.items[name] = replace(self.items[name], outcome=RunOutcome.SUCCEEDED, ended=at)
        self.fleet = replace(self.fleet, progress={self.run.id: Progress(self.items)})

    def _way(self, kind: _Kind) -> Install | None:
        return _DUE if self.run.ignore_window or self._is_open(kind.window, kind.minutes) else None

    def _ever_opens(self, kind: _Kind) -> bool:
        return self.run.ignore_window or super()._ever_opens(kind)

    def _begin(self, item: Candidate, at: datetime, *, canary: bool) -> None:
        super()._begin(item, at, canary=canary)
        machine = item.machine
        self.all_ends[machine.id] = self.ends[machine.id]
        alike = sum(each.image == machine.image.key for each in self.items.values())
        if alike < self.run.canaries:
            self.items[machine.id] = Item(RunOutcome.IN_FLIGHT, started=at, image=machine.image.key)

    def _more_moments(self) -> Iterable[datetime | None]:
        yield from (at for at, _ in self.coming[-1:])
        yield from (each.ended + self.run.bake for each in self.items.values() if each.ended)
