"""Mutants of the app: each lacks one guard, and a seed must notice.

`python -m tests.simulation.mutants` runs seeds against each until one violates an invariant, and prints which. A mutant
is a patch of the running app; no file is changed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from functions.cloud.arm import ResourceManager
from functions.cloud.errors import Gone, Throttled, Unavailable
from functions.cloud.ledger import Ledger, Stored, SweepLease
from functions.cloud.queue import Message
from functions.cloud.rows import LeftAlone
from functions.cloud.started import StoredStart
from functions.decisions import decision, plan, stopped, support_state
from functions.decisions.question import Question, Way
from functions.model.image_record import ImageRecord
from functions.model.machine import Machine, MachineId, SupportState
from functions.model.record import release
from functions.model.run import Run
from functions.model.started import StartedMachine
from functions.model.state import Cause, OperationKind, Phase, State, Step, Wait
from functions.model.stop import Stop
from functions.services import Services
from functions.steps import assess, holds, install, poison, start, track
from functions.steps.sweep import Sweep
from tests.simulation.late_sweep import canaries_of_a_late_sweep
from tests.simulation.run import run

MAX_SEEDS = 600


@dataclass(frozen=True)
class Mutant:
    """A guard, and the patches that remove it."""

    name: str
    patches: Callable[[], Iterator[Any]]
    invariants: tuple[int, ...]  # one of these must be violated
    seed: int  # a seed that notices, for the short form in the suite


async def _take_any(services: Services, message: Message, kind: OperationKind) -> Stored | None:
    """The claim that stands, whichever claim the message names."""
    try:
        stored = await services.ledger.read(message.machine)
    except LeftAlone:
        return None
    right = stored and (stored.record.phase, stored.record.kind) == (Phase.QUEUED, kind)
    return stored if right else None


def _token_check() -> Iterator[Any]:
    for module in (start, assess, install, poison):
        yield patch.object(module, "current_claim", _take_any)


def _without_rule(name: str) -> Callable[[], Iterator[Any]]:
    def patches() -> Iterator[Any]:
        yield patch.object(decision, "RULES", tuple(each for each in decision.RULES if each.__name__ != name))

    return patches


def _support_state() -> Iterator[Any]:
    plain = support_state.by_support_state

    def as_if_supported(asked: Question) -> Step:
        verdict = asked.machine.verdict
        if verdict is not None and verdict.assessed is not None:
            verdict = replace(verdict, state=SupportState.SUPPORTED)
            asked = replace(asked, machine=replace(asked.machine, verdict=verdict))
        return plain(asked)

    yield patch.object(decision, "by_support_state", as_if_supported)


def _window() -> Iterator[Any]:
    yield patch.object(Question, "way", Way.WINDOW)
    yield patch.object(Question, "minutes_left", property(lambda asked: asked.settings.max_duration_minutes))


def _cap() -> Iterator[Any]:
    yield patch.object(plan._Limits, "objection", plan._Limits.neighbour_objection)


def _group() -> Iterator[Any]:
    yield patch.object(plan._Limits, "neighbour_objection", lambda self, item: None)


def _breaker() -> Iterator[Any]:
    yield patch.object(ImageRecord, "breaker_open", property(lambda self: False))


def _tries() -> Iterator[Any]:
    yield patch.object(support_state, "after_failures", lambda tries, failure, **given: None)


def _pause() -> Iterator[Any]:
    async def never(self: Ledger, machine: MachineId | None = None) -> list[Stop]:
        return []

    yield patch.object(Ledger, "stops", never)


def _adoption() -> Iterator[Any]:
    async def give_back(services: Services, stored: Stored, now: Any) -> None:
        await services.ledger.replace(stored, release(stored.record, now))

    yield patch.object(track, "_adopt", give_back)


def _lease() -> Iterator[Any]:
    async def always(self: Ledger, holder: str, now: Any) -> SweepLease:
        row = await self.table.get("app", "sweep")
        columns = {"v": 1, "holder": holder, "until": (now + timedelta(minutes=5)).isoformat()}
        row = await (self.table.replace(row, columns) if row else self.table.insert("app", "sweep", columns)) or row
        assert row is not None
        return SweepLease(self.table, row, holder)

    async def renewed(self: SweepLease, now: Any) -> bool:
        return True

    yield patch.object(Ledger, "take_sweep", always)
    yield patch.object(SweepLease, "renew", renewed)


def _postponement() -> Iterator[Any]:
    async def fail(services: Services, stored: Stored, throttled: Throttled) -> None:
        failure = Wait(State.FAILED, "the quota is used up", cause=Cause.TRANSIENT)
        await holds.hold_for(services, stored, failure)

    yield patch.object(holds, "postpone", fail)
    yield patch.object(start, "postpone", fail)


def _silence() -> Iterator[Any]:
    plain = ResourceManager.machine

    async def gone(self: ResourceManager, machine: MachineId) -> Machine:
        try:
            return await plain(self, machine)
        except Unavailable as error:
            raise Gone(str(error)) from None

    yield patch.object(ResourceManager, "machine", gone)


def _end_of_a_run() -> Iterator[Any]:
    yield patch.object(start, "_not_wanted", lambda record, run, now: "")
    yield patch.object(Run, "wants", lambda self, now: not self.problem)
    yield patch.object(Run, "is_over", lambda self, now: bool(self.problem))


def _machines_of_a_run() -> Iterator[Any]:
    yield patch.object(Run, "covers", lambda self, machine: True)


def _window_of_a_run() -> Iterator[Any]:
    yield patch.object(Question, "ignores_window", property(lambda asked: asked.install_run is not None))


def _start_written_first() -> Iterator[Any]:
    """The row of a started machine is inserted when Azure has taken the call."""
    put, forget = Sweep.put_started, Sweep.forget_started
    unwritten: Any = None

    async def put_later(self: Sweep, stored: StoredStart | None, started: StartedMachine) -> StoredStart | None:
        if stored is None:
            return StoredStart(started, unwritten)
        return await put(self, stored if stored.row else None, started)

    async def forget_written(self: Sweep, stored: StoredStart) -> None:
        if stored.row:
            await forget(self, stored)

    yield patch.object(Sweep, "put_started", put_later)
    yield patch.object(Sweep, "forget_started", forget_written)


def _anothers_machine() -> Iterator[Any]:
    yield patch.object(stopped, "_anothers", lambda started, machine: "")


MUTANTS: tuple[Mutant, ...] = (
    Mutant("token check", _token_check, (4,), 30),
    Mutant("in-flight check", _without_rule("_no_operation_running"), (2,), 20),
    Mutant("support state", _support_state, (3,), 1),
    Mutant("window", _window, (3,), 1),
    Mutant("cap", _cap, (8,), 30),
    Mutant("group", _group, (8,), 49),
    Mutant("breaker", _breaker, (8,), 20),
    Mutant("tries of a failing machine", _tries, (8,), 49),
    Mutant("pause", _pause, (3,), 49),
    Mutant("adoption after a crash", _adoption, (4,), 12),
    Mutant("a 429 is not a failure", _postponement, (5,), 20),
    Mutant("no answer is not a 404", _silence, (6,), 0),
    Mutant("end of a run", _end_of_a_run, (3,), 1),
    Mutant("machines of a run", _machines_of_a_run, (3,), 8),
    Mutant("window of a run", _window_of_a_run, (3,), 200),
    Mutant("a start is written down first", _start_written_first, (4,), 469),
    Mutant("another's machine is left running", _anothers_machine, (3,), 2),
)


# No seed notices it within a thousand: late_sweep.py is the directed run that does.
LEASE = Mutant("sweep lease", _lease, (8,), 0)


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    with ExitStack() as stack:
        for each in mutant.patches():
            stack.enter_context(each)
        yield


def caught_by(mutant: Mutant, first: int, seeds: int) -> tuple[int, str] | None:
    """The first seed from `first` on that notices, and the violation."""
    with applied(mutant):
        for seed in range(first, first + seeds):
            for violation in run(seed).violations:
                if violation.invariant in mutant.invariants:
                    return seed, str(violation)
    return None


def main() -> int:
    escaped = 0
    for mutant in MUTANTS:
        found = caught_by(mutant, 0, MAX_SEEDS)
        escaped += found is None
        text = f"seed {found[0]}: {found[1]}" if found else f"not noticed in {MAX_SEEDS} seeds"
        print(f"{mutant.name}: {text}", flush=True)
    with applied(LEASE):
        canaries = asyncio.run(canaries_of_a_late_sweep())
    escaped += canaries == 1
    print(f"{LEASE.name}: a late sweep's run: {canaries} canaries in place of one", flush=True)
    print(f"mutants: {len(MUTANTS) + 1}, {escaped} escaped")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
