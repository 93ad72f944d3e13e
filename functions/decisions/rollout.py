"""Rollouts: machines of one image behave alike, so one goes first, then ring after ring. Pure.

A rollout is an image version and a patch cut-off date. It opens at the first due installation and lasts
PATCH_ROLLOUT_DAYS; what was proved in an earlier rollout says nothing about this one's patches. An installation that
failed, or left its machine unhealthy, counts as a failure in every later rollout too: enough of them, or one at the
canary, open the breaker of the image, and it stays open until a person closes that one opening.

What one team's machines show says nothing to another team: rollout, canaries, rings and breaker are those of an image
within a trust boundary (PATCH_ROLLOUT_SCOPE). The breaker counts machines, not failures: one of them is no image's
voice.

The record is one row per image and boundary, written only by a sweep: at dispatch (the rollout) and when the result of
an installation is recorded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from functions.model.image_record import Failure, ImageRecord, Tally, mark
from functions.model.machine import LAST_RING, Machine, MachineId
from functions.model.state import Cause, State, Step, Wait
from functions.model.text import format_utc
from functions.policy.settings import RolloutScope, Settings

FAILURES_KEPT = 100  # as many as PATCH_BREAKER can ask for


COUNTED = 50  # operations remembered as counted


@dataclass(frozen=True)
class Installable:
    """A machine of the image that could be installed now, or that holds a slot already."""

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


def boundary(machine: Machine, settings: Settings) -> str:
    """Whose machines prove and stop each other's image; "" is the whole fleet."""
    if settings.rollout_scope is RolloutScope.FLEET:
        return ""
    if settings.rollout_scope is RolloutScope.OWNER:
        return f"owner {machine.tag(settings.owner_tag).lower()}".rstrip()
    return f"subscription {machine.id.subscription}"


@dataclass(frozen=True)
class Admission:
    """Who may go now, in order, and why each of the others waits."""

    admitted: tuple[MachineId, ...]
    waits: Mapping[MachineId, Step]


def current(record: ImageRecord, settings: Settings, now: datetime) -> ImageRecord:
    """The record with a rollout that is open now: the one it has, or a new one. Failures and the breaker carry over."""
    if record.opened is not None and now < record.opened + settings.rollout_length:
        return record
    return replace(record, opened=now, canaries=0, proved=None, rings={})


def admit(
    record: ImageRecord,
    candidates: Iterable[Installable],
    in_flight: Iterable[Installable],
    *,
    settings: Settings,
    now: datetime,
) -> Admission:
    """Which of the installable machines of one image may go now. `record` is of the current rollout."""
    ordered = sorted(candidates, key=lambda item: (item.ring, str(item.machine)))
    running = list(in_flight)
    if record.breaker_open:
        return Admission((), {item.machine: breaker_wait(record) for item in ordered})
    if record.canaries < settings.canaries:
        return _canaries(record, ordered, running, settings=settings)
    return _waves(record, ordered, running, settings=settings, now=now)


def record_result(record: ImageRecord, result: Result, settings: Settings, *, now: datetime) -> ImageRecord:
    """The record once an installation of the image has ended.

    One begun before the rollout opened proves nothing about the rollout, but its failure counts for the breaker.
    """
    if result.operation_id in record.counted:
        return record
    problem = result.problem
    record = replace(record, counted=(*record.counted[1 - COUNTED :], result.operation_id))
    in_rollout = record.opened is not None and result.begun >= record.opened
    canary = in_rollout and record.canaries < settings.canaries and settings.may_be_canary(result.machine)
    if in_rollout:
        tally = record.rings.get(result.ring, Tally())
        tally = Tally(tally.succeeded + (not problem), tally.failed + bool(problem), now)
        record = replace(record, rings={**record.rings, result.ring: tally})
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
    return replace(record, opening=now.strftime("%Y%m%dT%H%M%S"), opened_because=why)


def breaker_wait(record: ImageRecord) -> Wait:
    """The wait of every machine of an image whose breaker is open: why, and how to close this opening."""
    record = record.open_breaker or record
    where = f" in {record.boundary}" if record.boundary else ""
    reason = f"installations of this image{where} stopped (opening {record.opening}): {record.opened_because}"
    remedy = f"Find what failed, then close opening {record.opening} of this image{where} (docs/stop.md)."
    return Wait(State.BREAKER_OPEN, reason, remedy, cause=Cause.TRANSIENT)  # closed, the next sweeps go on


def objection(machine: Machine, record: ImageRecord, settings: Settings) -> Wait | None:
    """Why the image forbids an installation of this machine now; None when it does not."""
    return breaker_wait(record) if record.breaker_open else installed_in_rollout(machine, record, settings)


def installed_in_rollout(machine: Machine, record: ImageRecord, settings: Settings) -> Wait | None:
    """A machine is installed well once per rollout: the next rollout's canary proves newer patches first."""
    last = machine.installation
    if record.opened is None or not last or not last.succeeded or not last.started or last.started < record.opened:
        return None
    ends = record.opened + settings.rollout_length
    reason = (
        f"installed in this rollout already ({format_utc(last.started)}); the next one opens after {format_utc(ends)}"
    )
    return Wait(State.RECENTLY_PATCHED, reason, when=ends, cause=Cause.TRANSIENT)


def _canaries(
    record: ImageRecord, ordered: list[Installable], running: list[Installable], *, settings: Settings
) -> Admission:
    """As many as still have to prove the rollout, the lowest ring first. One that is gone is not in flight."""
    under_way = [item.machine for item in running if settings.may_be_canary(item.machine)]
    able = [item.machine for item in ordered if settings.may_be_canary(item.machine)]
    chosen = tuple(able[: max(settings.canaries - record.canaries - len(under_way), 0)])
    if names := ", ".join(machine.name for machine in (*under_way, *chosen)):
        wait = Wait(State.WAITING_FOR_CANARY, f"the rollout's canary goes first: {names}", cause=Cause.TRANSIENT)
    else:
        reason = "the rollout's canary goes first, and no machine of this image that PATCH_CANARY_MACHINES names is due"
        remedy = "Start or repair the machine it names, or name another one of this image."
        wait = Wait(State.WAITING_FOR_CANARY, reason, remedy, cause=Cause.TRANSIENT)
    return Admission(chosen, {item.machine: wait for item in ordered if item.machine not in chosen})


def _waves(
    record: ImageRecord,
    ordered: list[Installable],
    running: list[Installable],
    *,
    settings: Settings,
    now: datetime,
) -> Admission:
    """A ring opens when the results of all before it are recorded, above the success bar, and baked."""
    admitted: list[MachineId] = []
    waits: dict[MachineId, Step] = {}
    open_rings = sorted({item.ring for item in (*ordered, *running)})
    for item in ordered:
        before = [ring for ring in open_rings if ring < item.ring]
        if step := _ring_wait(record, item.ring, before, settings=settings, now=now):
            waits[item.machine] = step
        else:
            admitted.append(item.machine)
    return Admission(tuple(admitted), waits)


def _ring_wait(
    record: ImageRecord, ring: int, open_before: list[int], *, settings: Settings, now: datetime
) -> Step | None:
    if open_before:
        return Wait(State.WAITING_FOR_RING, f"ring {ring_name(open_before[0])} goes first", cause=Cause.TRANSIENT)
    lower = [tally for number, tally in record.rings.items() if number < ring]
    succeeded, failed = sum(tally.succeeded for tally in lower), sum(tally.failed for tally in lower)
    if failed and 100 * succeeded < settings.success_percent * (succeeded + failed):
        reason = f"only {succeeded} of {succeeded + failed} installations before its ring succeeded"
        remedy = "Find what failed; a new rollout opens when this one ends."
        return Wait(State.WAITING_FOR_RING, reason, remedy)
    proof = max(filter(None, [record.proved, *(tally.last for tally in lower)]), default=None)
    if proof is not None and now < proof + settings.bake:
        until = proof + settings.bake
        reason = f"what went before it is watched until {format_utc(until)}"
        return Wait(State.WAITING_FOR_RING, reason, when=until, cause=Cause.TRANSIENT)
    return None


def ring_name(ring: int) -> str:
    return "of the untagged" if ring == LAST_RING else str(ring)
