"""When each waiting machine will be installed, and who fits into each opening. Pure.

The forecast is the plan itself in time to come: make_plan() is asked at every moment at which something changes, each
installation takes as long as those of its image took, and succeeds. So it says what the sweeps will do as long as
nothing fails and no patch is published; it is exact for a fleet at rest.

Only the first machines of each kind are put before the plan: those behind them cannot go before them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from functions.decisions import rollout
from functions.decisions.plan import Candidate, Fleet, Plan, make_plan
from functions.decisions.question import least_minutes, window_as_canary
from functions.decisions.turns import ever_opens, opening_of, turn_ends
from functions.model.image_record import ImageRecord, place
from functions.model.machine import MachineId
from functions.model.record import Flight, Record, claim
from functions.model.state import Install, OperationKind, Phase, State
from functions.policy.settings import Settings
from functions.policy.windows import HORIZON, Windows

SWEEP = timedelta(minutes=5)  # as RECONCILE_SCHEDULE has it by default
USUAL = timedelta(minutes=30)  # an installation of an image of which none has been seen
STEPS = 20_000  # moments looked at; a fleet that needs more is forecast as far as they reach


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
    ring: int
    window: Windows
    canary_window: Windows | None
    minutes: int  # the least that an installation needs


def forecast(waiting: Iterable[Candidate], fleet: Fleet, settings: Settings, *, now: datetime) -> Forecast:
    """What becomes of the machines that can be installed, now or but for their windows. No order is needed."""
    future = _Future(fleet, settings, now)
    future.add(waiting)
    for _ in range(STEPS):
        if not future.step():
            break
    return Forecast(future.turns, future.openings())


class _Future:
    """The fleet at a moment to come."""

    def __init__(self, fleet: Fleet, settings: Settings, now: datetime) -> None:
        self.fleet, self.settings, self.now, self.begun = fleet, settings, now, now
        self.cap = settings.max_in_flight.of(sum(fleet.machines.values()))
        self.turns: dict[MachineId, Turn] = {}
        self.images = dict(self.fleet.images)
        # What is in flight now ends as it was ordered; what ended stays until its result is recorded.
        self.rows = {row.machine: row for row in self.fleet.rows if row.kind is OperationKind.INSTALL}
        self.ends = {name: self._end_of(row) for name, row in self.rows.items() if row.may_be_rebooting}
        self.queues: dict[_Kind, dict[MachineId, Candidate]] = {}
        self.places = {name: place(row.image, row.boundary) for name, row in self.rows.items() if row.image}
        self.seen: dict[tuple[datetime, Windows], Opening] = {}

    def add(self, waiting: Iterable[Candidate]) -> None:
        for item in sorted(waiting, key=lambda each: each.need):
            self.queues.setdefault(self._kind(item), {})[item.machine.id] = item
        self.queues = {kind: queue for kind, queue in self.queues.items() if self._ever_opens(kind)}

    def step(self) -> bool:
        """One sweep, and on to the next moment at which something changes. False: nothing will."""
        self._end_what_is_over()
        plan = self._plan()
        self.images |= plan.rollouts
        for item in plan.dispatches:
            if item.candidate:
                self._begin(item.candidate, self.now + item.delay)
        if not any(self.queues.values()):
            return False
        # What begins or opens may let others go: the next sweep sees it.
        moment = self.now + SWEEP if plan.rollouts or plan.dispatches else self._next()
        if moment is None or moment > self.begun + HORIZON:
            return False
        self.now = moment
        return True

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
        due: list[Candidate] = []
        later: list[Candidate] = []
        taken = self._neighbours()
        for kind, queue in self.queues.items():
            install = self._way(kind)
            first = islice(queue.values(), 1)
            if install is None:
                later += first
                continue
            heads = self._heads(queue, set(taken))
            due += [replace(item, step=install) for item in heads]
        fleet = replace(self.fleet, rows=list(self.rows.values()), images=self.images, later=later)
        return make_plan(due, fleet, self.settings, now=self.now)

    def _way(self, kind: _Kind) -> Install | None:
        """The step of machines of this kind now; None while no window of theirs is open for long enough."""
        if self._is_open(kind.window, kind.minutes):
            return Install(State.DUE, "")
        if kind.canary_window and self._is_open(kind.canary_window, kind.minutes):
            return Install(State.DUE, "", only_canary=True)
        return None

    def _ever_opens(self, kind: _Kind) -> bool:
        windows = filter(None, (kind.window, kind.canary_window))
        return any(ever_opens(each, self.now, self.settings.blackouts) for each in windows)

    def _is_open(self, window: Windows, minutes: int) -> bool:
        closes = window.closes(self.now, self.settings.blackouts)
        return closes is not None and closes - self.now >= timedelta(minutes=minutes)

    def _neighbours(self) -> set[tuple[str, str]]:
        """The availability sets and groups of which a machine is being installed."""
        rows = self.rows.values()
        return {("set", row.availability_set) for row in rows} | {("group", row.group) for row in rows}

    def _heads(self, queue: Mapping[MachineId, Candidate], taken: set[tuple[str, str]]) -> Iterator[Candidate]:
        """As many of the first as could go at once. Of a group one goes, and the first stands for those that wait."""
        room = self.cap - len(self.ends) + 1
        always = max(self.settings.canaries, 1)  # canaries are chosen before their neighbours are looked at
        for number, item in enumerate(queue.values()):
            keys = {key for key in (("set", item.machine.availability_set), ("group", item.overrides.group)) if key[1]}
            if number >= always and keys & taken:
                continue
            taken |= keys
            yield item
            room -= 1
            if room <= 0 and number + 1 >= always:
                return

    def _begin(self, item: Candidate, at: datetime) -> None:
        machine, where = item.machine, item.place(self.settings)
        record = self.images.get(where)
        canary = record is not None and record.canaries < self.settings.canaries
        self._count(item, canary=canary)
        self.turns[machine.id] = Turn(at, item.overrides.ring, canary)
        del self.queues[self._kind(item)][machine.id]
        row = claim(
            machine,
            OperationKind.INSTALL,
            token="",
            due_at=at,
            ring=item.overrides.ring,
            group=item.overrides.group,
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
        moments = [*self.ends.values(), *(window.opens(self.now, blackouts) for window in windows)]
        for record in (self.images[where] for where in {kind.place for kind in kinds} if where in self.images):
            moments += self._changes_of(record, [kind.window for kind in kinds if kind.place == record.place])
        after = min((moment for moment in moments if moment and moment > self.now), default=None)
        return after and self.now + -((self.now - after) // SWEEP) * SWEEP  # the sweep that sees it

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
        return _Kind(where, member.ring, member.window, canary, least_minutes(machine, settings))

    def _end_of(self, row: Record) -> datetime:
        begun = row.begun_at or row.due_at
        return max(begun + USUAL, self.now)

    def openings(self) -> list[Opening]:
        """The openings in which somebody goes, in order."""
        return sorted(self.seen.values(), key=lambda each: (each.starts, each.window.text))

    def _count(self, item: Candidate, *, canary: bool) -> None:
        """Counts a machine that begins now in the opening that it uses."""
        kind = self._kind(item)
        window = kind.canary_window if canary and kind.canary_window else kind.window
        bounds = opening_of(window, self.now, self.settings.blackouts)
        if bounds is None:
            return
        key = bounds[0], window
        known = self.seen.get(key) or Opening(*bounds, window, waiting=self._waiting_for(window), canaries=0, fit=0)
        self.seen[key] = replace(known, canaries=known.canaries + canary, fit=known.fit + (not canary))

    def _waiting_for(self, window: Windows) -> int:
        return sum(len(queue) for kind, queue in self.queues.items() if kind.window == window)
