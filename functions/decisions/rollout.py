"""Rollouts: machines of one image behave alike, so one goes first, then ring after ring. Pure.

A rollout is an image version and a patch cut-off date. It opens at the first due installation. Canaries go first, then
ring after ring, the untagged last. It ends when every ring has had its turn: no machine of it is left that could be
installed, or it had a full opening of its window. PATCH_ROLLOUT_DAYS is the least that it lasts. What was proved in an
earlier rollout says nothing about this one's patches.

An installation that failed, or left its machine unhealthy, counts as a failure in every later rollout too: enough of
them, or one at the canary, open the breaker of the image, and it stays open until a person closes that one opening.

What one team's machines show says nothing to another team: rollout, canaries, rings and breaker are those of an image
within a trust boundary (PATCH_ROLLOUT_SCOPE). The breaker counts machines, not failures: one of them does not
speak for an image.

The record is one row per image and boundary, written only by a sweep: at dispatch (the rollout) and when the result of
an installation is recorded.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from functions.decisions.turns import ever_opens, turn_ends
from functions.model.image_record import NOT_CLOSED, Failure, ImageRecord, Tally, mark
from functions.model.machine import LAST_RING, Machine, MachineId
from functions.model.state import Cause, State, Step, Wait
from functions.model.text import format_utc
from functions.policy.settings import Settings
from functions.policy.values import RolloutScope
from functions.policy.windows import ANY, Windows
from functions.policy.zones import DAY

FAILURES_KEPT = 100  # as many as PATCH_BREAKER can ask for
TIMES_KEPT = 9  # the median of so many is how long an installation of the image takes
COUNTED = 50  # operations remembered as counted
LATEST = datetime.max.replace(tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Member:
    """A machine of the image that can be installed, now or but for its window."""

    machine: MachineId
    ring: int
    oldest_patch: datetime | None = None  # when its oldest missing Critical or Security patch was published
    installed: datetime | None = None  # when its last good installation began
    created: datetime | None = None
    window: Windows = ANY  # its own
    canary_window: Windows = ANY  # where it may go as a canary
    due: bool = True  # its own window is open
    may_be_canary: bool = True
    canary_due: bool = True  # it may be a canary, and the window of canaries is open
    held_back: bool = False  # by a neighbour: it could not go anyway, so no ring and no canary waits for it

    @property
    def order(self) -> tuple[int, datetime, datetime, str]:
        """By ring, and inside a ring by need: no machine starves at the end of the alphabet."""
        return self.ring, self.oldest_patch or LATEST, self.installed or self.created or LATEST, str(self.machine)

    def is_done(self, record: ImageRecord) -> bool:
        """Whether it was installed well in this rollout."""
        return record.opened is not None and self.installed is not None and self.installed >= record.opened


@dataclass(frozen=True)
class InFlight:
    """An installation under way, or ended and not confirmed."""

    machine: MachineId
    ring: int


@dataclass(frozen=True)
class Result:
    """What one installation proves about its image."""

    operation_id: str
    machine: MachineId
    ring: int
    begun: datetime
    problem: str  # what was wrong with it or its machine; "" nothing
    took: timedelta | None = None  # from its beginning to its end
    of_run: bool = False  # ordered by a run on demand: it proves nothing to the rollout


def boundary(machine: Machine, settings: Settings) -> str:
    """Whose machines prove and stop each other's image; "" is the whole fleet."""
    if settings.rollout_scope is RolloutScope.FLEET:
        return ""
    if settings.rollout_scope is RolloutScope.OWNER:
        return f"owner {machine.tag(settings.owner_tag).lower()}".rstrip()
    return f"subscription {machine.id.subscription}"


@dataclass(frozen=True)
class Admission:
    """Who may go now, in order, why each other due machine waits, and the rollout with the rings that are open."""

    admitted: tuple[MachineId, ...]
    waits: Mapping[MachineId, Step]
    record: ImageRecord
    canaries: bool = False  # those admitted are


def current(
    record: ImageRecord, members: Sequence[Member], in_flight: Iterable[InFlight], *, settings: Settings, now: datetime
) -> ImageRecord:
    """The record with a rollout that is open now: the one it has, or a new one. Failures and the breaker carry over."""
    if record.opened is not None and not _is_over(record, members, list(in_flight), settings=settings, now=now):
        return record
    return replace(record, opened=now, canaries=0, proved=None, rings={})


def written_on(stored: ImageRecord, planned: ImageRecord) -> ImageRecord:
    """The row as it is by now, with the rollout as planned: a person may have closed its breaker meanwhile."""
    return replace(stored, opened=planned.opened, canaries=planned.canaries, proved=planned.proved, rings=planned.rings)


def _is_over(
    record: ImageRecord, members: Sequence[Member], in_flight: list[InFlight], *, settings: Settings, now: datetime
) -> bool:
    """Whether every ring has had its turn, after PATCH_ROLLOUT_DAYS; or a person ended this rollout."""
    if record.opened is None or record.ended == record.rollout:
        return True
    if in_flight or now < record.opened + settings.rollout_length:
        return False
    left = [item for item in members if not item.is_done(record)]
    if _wants_canary(record, left, in_flight, settings=settings):
        return not left or not record.canaries  # of one that has proved nothing the cut-off date may as well be new
    return all(
        _below_bar(record, item.ring, settings) or _had_turn(record, item, settings=settings, now=now) for item in left
    )


def _had_turn(record: ImageRecord, item: Member, *, settings: Settings, now: datetime) -> bool:
    opened = record.rings.get(item.ring, Tally()).opened
    if record.proved and not any(tally.opened for tally in record.rings.values()):
        opened = record.proved + settings.bake  # no machine was left behind its canary, so no ring ever opened
    ends = turn_ends(item.window, opened, settings.blackouts) if opened else None
    return ends is not None and ends <= now


def admit(
    record: ImageRecord,
    members: Iterable[Member],
    in_flight: Iterable[InFlight],
    *,
    settings: Settings,
    now: datetime,
) -> Admission:
    """Which of the members of one image may go now. `record` is of the current rollout."""
    ordered = sorted(members, key=lambda item: item.order)
    due = [item for item in ordered if (item.due or item.canary_due) and not item.held_back]
    running = list(in_flight)
    if record.breaker_open:
        return Admission((), {item.machine: breaker_wait(record) for item in due}, record)
    done = {item.machine: _installed_already(record, settings, now=now) for item in due if item.is_done(record)}
    left = [item for item in ordered if not item.is_done(record)]
    if _wants_canary(record, left, running, settings=settings):
        left = _with_windows_that_open(left, settings, now)
        admission = _canaries(record, left, running, settings=settings, now=now)
    else:
        admission = _waves(record, left, running, settings=settings, now=now)
    return replace(admission, waits={**admission.waits, **done})


def next_in_turn(
    record: ImageRecord,
    members: Iterable[Member],
    in_flight: Iterable[InFlight],
    *,
    settings: Settings,
    now: datetime,
) -> tuple[str, Mapping[MachineId, Windows]]:
    """The stage that goes next, `canary` or a ring, and its machines with the window in which each may go."""
    ordered, running = sorted(members, key=lambda item: item.order), list(in_flight)
    record = current(record, ordered, running, settings=settings, now=now)
    left = [item for item in ordered if not item.is_done(record)]
    if _wants_canary(record, left, running, settings=settings):
        able = [item for item in _with_windows_that_open(left, settings, now) if item.may_be_canary]
        return "canary", {item.machine: item.canary_window for item in able} or {
            each.machine: each.window for each in left
        }
    to_come = [item for item in left if not _had_turn(record, item, settings=settings, now=now)] or left
    stage = [item for item in to_come if item.ring == to_come[0].ring]
    return f"ring {ring_name(stage[0].ring)}" if stage else "", {item.machine: item.window for item in stage}


def last_progress(record: ImageRecord, settings: Settings) -> datetime | None:
    """When it last got on, the watching that follows included; None of one that never began."""
    watched = [record.proved, *(tally.last for tally in record.rings.values())]
    began = [record.opened, *(tally.opened for tally in record.rings.values())]
    moments = [*(each + settings.bake for each in watched if each), *(each for each in began if each)]
    return max(moments, default=None)


def record_result(record: ImageRecord, result: Result, settings: Settings, *, now: datetime) -> ImageRecord:
    """The record once an installation of the image has ended.

    One begun before the rollout opened, or ordered by a run on demand, proves nothing about the rollout, but its
    failure counts for the breaker.
    """
    if result.operation_id in record.counted:
        return record
    problem = result.problem
    record = replace(record, counted=(*record.counted[1 - COUNTED :], result.operation_id))
    canary = is_canary_result(record, result, settings)
    if _is_in_rollout(record, result):
        tally = record.rings.get(result.ring, Tally())
        tally = Tally(tally.succeeded + (not problem), tally.failed + bool(problem), now, tally.opened)
        record = replace(record, rings={**record.rings, result.ring: tally})
    if not problem and result.took:
        record = replace(record, took=(*record.took[1 - TIMES_KEPT :], max(round(result.took / MINUTE), 1)))
    if not problem:
        return replace(record, canaries=record.canaries + 1, proved=now) if canary else record
    since, this = now - settings.breaker.span, mark(result.machine)
    others = (each for each in record.failures if each.at > since and each.machine != this)
    record = replace(record, failures=(*others, Failure(now, this))[-FAILURES_KEPT:])
    if record.breaker_open or not (canary or len(record.failures) >= settings.breaker.failures):
        return record
    name, count = result.machine.name, len(record.failures)
    failed = f"{count} {'machine' if count == 1 else 'machines'} failed, last {name}"
    why = f"its canary {name}: {problem}" if canary else failed
    told = record.closed or NOT_CLOSED  # what closed an earlier opening says nothing about this one
    record = replace(record, closed_by="", closed_because="", closed_told=told)
    return replace(record, opening=now.strftime("%Y%m%dT%H%M%S"), opened_because=why)


def is_canary_result(record: ImageRecord, result: Result, settings: Settings) -> bool:
    """Whether it is the result of a canary of the rollout that `record` is in, before the result is recorded."""
    wanted = record.canaries < settings.canaries and settings.may_be_canary(result.machine)
    return wanted and _is_in_rollout(record, result)


def _is_in_rollout(record: ImageRecord, result: Result) -> bool:
    return record.opened is not None and result.begun >= record.opened and not result.of_run


def breaker_wait(record: ImageRecord) -> Wait:
    """The wait of every machine of an image whose breaker is open: why, and how to close this opening."""
    record = record.open_breaker or record
    where = f" in {record.boundary}" if record.boundary else ""
    reason = f"installations of this image{where} stopped (opening {record.opening}): {record.opened_because}"
    remedy = f"Find what failed, then close opening {record.opening} of this image{where} (docs/stop.md)."
    return Wait(State.BREAKER_OPEN, reason, remedy, cause=Cause.TRANSIENT)  # closed, the next sweeps go on


def objection(machine: Machine, record: ImageRecord, settings: Settings, *, now: datetime) -> Wait | None:
    """Why the image forbids an installation of this machine now; None when it does not."""
    if record.breaker_open:
        return breaker_wait(record)
    last = machine.installation
    if record.opened is None or not last or not last.succeeded or not last.started or last.started < record.opened:
        return None
    return _installed_already(record, settings, now=now)


def _installed_already(record: ImageRecord, settings: Settings, *, now: datetime) -> Wait:
    """A machine is installed well once per rollout: the next rollout's canary proves newer patches first."""
    opened = record.opened or now
    earliest = opened + settings.rollout_length
    reason = (
        f"installed in the rollout of {format_utc(opened)} already; the next one opens when every ring has had its "
        f"turn, not before {format_utc(earliest)}"
    )
    return Wait(State.RECENTLY_PATCHED, reason, when=max(earliest, now + DAY), cause=Cause.TRANSIENT)


def _wants_canary(
    record: ImageRecord, left: Sequence[Member], in_flight: Iterable[InFlight], *, settings: Settings
) -> bool:
    """Whether another canary goes before the others. Where there are fewer machines than canaries, those prove it."""
    if record.canaries >= settings.canaries:
        return False
    to_come = any(item.may_be_canary for item in left)
    return to_come or not record.canaries or any(settings.may_be_canary(item.machine) for item in in_flight)


def _with_windows_that_open(left: list[Member], settings: Settings, now: datetime) -> list[Member]:
    """Where no machine's own window ever meets that of canaries, a canary goes in its own window."""
    windows = {item.canary_window for item in left if item.may_be_canary}
    if any(ever_opens(window, now, settings.blackouts) for window in windows):
        return left
    return [replace(item, canary_window=item.window, canary_due=item.may_be_canary and item.due) for item in left]


def _canaries(
    record: ImageRecord, left: list[Member], running: list[InFlight], *, settings: Settings, now: datetime
) -> Admission:
    """As many as still have to prove the rollout, the lowest ring first. One that is gone is not in flight."""
    under_way = [item.machine for item in running if settings.may_be_canary(item.machine)]
    able = [item.machine for item in left if item.canary_due and not item.held_back]
    chosen = tuple(able[: max(settings.canaries - record.canaries - len(under_way), 0)])
    if names := ", ".join(machine.name for machine in (*under_way, *chosen)):
        wait = Wait(State.WAITING_FOR_CANARY, f"the rollout's canary goes first: {names}", cause=Cause.TRANSIENT)
    else:
        wait = _canary_to_come(left, settings, now=now)
    due = (item.machine for item in left if (item.due or item.canary_due) and not item.held_back)
    return Admission(chosen, {machine: wait for machine in due if machine not in chosen}, record, canaries=True)


def _canary_to_come(left: list[Member], settings: Settings, *, now: datetime) -> Wait:
    """No machine that may be a canary can go now: which will, and when."""
    able = [item for item in left if item.may_be_canary]
    opens = {window: window.opens(now, settings.blackouts) for window in {item.canary_window for item in able}}
    if when := min(filter(None, opens.values()), default=None):
        first = min((item for item in able if opens[item.canary_window] == when), key=lambda item: item.order)
        opening = first.canary_window.shown(when)
        reason = f"the rollout's canary goes first: {first.machine.name}, whose window opens {opening}"
        return Wait(State.WAITING_FOR_CANARY, reason, when=when, cause=Cause.TRANSIENT)
    reason = "the rollout's canary goes first, and no machine of this image that PATCH_CANARY_MACHINES names is due"
    remedy = "Start or repair the machine it names, or name another one of this image."
    return Wait(State.WAITING_FOR_CANARY, reason, remedy, cause=Cause.TRANSIENT)


def _waves(
    record: ImageRecord, left: list[Member], running: list[InFlight], *, settings: Settings, now: datetime
) -> Admission:
    """A ring opens when the rings before it are recorded, above the success bar, and baked, or had their turn."""
    admitted: list[MachineId] = []
    waits: dict[MachineId, Step] = {}
    by_ring: dict[int, list[Member]] = {}
    for item in left:
        if not item.held_back:
            by_ring.setdefault(item.ring, []).append(item)
    for ring, members in by_ring.items():
        step = _before(record, ring, left=by_ring, running=running, settings=settings, now=now)
        step = step or _ring_wait(record, ring, settings=settings, now=now)
        tally = record.rings.get(ring, Tally())
        if step is None and tally.opened is None:
            record = replace(record, rings={**record.rings, ring: replace(tally, opened=now)})
        for item in members:
            if item.due and step is None:
                admitted.append(item.machine)
            elif item.due and step:
                waits[item.machine] = step
            elif item.canary_due:
                waits[item.machine] = _own_window(item, settings, now=now)
    return Admission(tuple(admitted), waits, record)


def _own_window(item: Member, settings: Settings, *, now: datetime) -> Wait:
    opens = item.window.opens(now, settings.blackouts)
    at = f", which opens {item.window.shown(opens)}" if opens else ""
    reason = f"only canaries go in PATCH_CANARY_WINDOW, and they have gone: it waits for its own window{at}"
    return Wait(State.WAITING_FOR_WINDOW, reason, when=opens, cause=Cause.TRANSIENT)


def _before(
    record: ImageRecord,
    ring: int,
    *,
    left: Mapping[int, Sequence[Member]],
    running: list[InFlight],
    settings: Settings,
    now: datetime,
) -> Step | None:
    """The wait for an earlier ring: at work, or with machines left that have not had their turn."""
    at_work = [item.ring for item in running if item.ring < ring]
    to_come = [
        earlier
        for earlier, members in left.items()
        if earlier < ring and not all(_had_turn(record, item, settings=settings, now=now) for item in members)
    ]
    if not at_work and not to_come:
        return None
    first = min(*at_work, *to_come, ring)
    return Wait(State.WAITING_FOR_RING, f"ring {ring_name(first)} goes first", cause=Cause.TRANSIENT)


def _ring_wait(record: ImageRecord, ring: int, *, settings: Settings, now: datetime) -> Step | None:
    if _below_bar(record, ring, settings):
        succeeded, failed = _outcomes_before(record, ring)
        reason = f"only {succeeded} of {succeeded + failed} installations before its ring succeeded"
        remedy = "Find what failed; a new rollout opens after PATCH_ROLLOUT_DAYS."
        return Wait(State.WAITING_FOR_RING, reason, remedy)
    recorded = [tally.last for number, tally in record.rings.items() if number < ring]
    proof = max(filter(None, [record.proved, *recorded]), default=None)
    if proof is not None and now < proof + settings.bake:
        until = proof + settings.bake
        reason = f"what went before it is watched until {format_utc(until)}"
        return Wait(State.WAITING_FOR_RING, reason, when=until, cause=Cause.TRANSIENT)
    return None


def _below_bar(record: ImageRecord, ring: int, settings: Settings) -> bool:
    """Whether too many installations of the rings before failed."""
    succeeded, failed = _outcomes_before(record, ring)
    return failed > 0 and 100 * succeeded < settings.success_percent * (succeeded + failed)


def _outcomes_before(record: ImageRecord, ring: int) -> tuple[int, int]:
    """How many installations of the rings before succeeded and failed."""
    before = [tally for number, tally in record.rings.items() if number < ring]
    return sum(tally.succeeded for tally in before), sum(tally.failed for tally in before)


def ring_name(ring: int) -> str:
    return "of the untagged" if ring == LAST_RING else str(ring)
