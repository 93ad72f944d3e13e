"""The invariants, each written once with the number of the promise that it checks (docs/reliability.md). They look at
the world and not at the app's reasoning.

1 no machine is missed · 2 nothing is started beside a running operation · 3 only where it may be installed ·
4 nothing is lost, nothing doubled · 5 a quota is a speed limit · 6 no answer is not an empty answer ·
7 one state, reason and remedy · 8 one bad patch hurts few.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from functions.cloud.ledger import APP
from functions.cloud.notices import NOTICE_VERSION, is_notice
from functions.cloud.rows import VERSION, image_key, row_key
from functions.cloud.tables import Entity, Row
from functions.model.machine import MachineId
from functions.model.stop import Stop
from simulator.world import HybridMachine, Machine, Operation
from tests.simulation import oracle
from tests.simulation.host import STEP, StepRun
from tests.simulation.starts import TOLERATED, key_of_start

if TYPE_CHECKING:
    from tests.simulation.world import SeededWorld

# What was read this long before a POST may have changed since; what changed earlier must have been seen. A process has
# a minute from its begin to its POST, and what it read before it is as old as its begin allows.
FRESH_LOOK = timedelta(minutes=3)
LATE_ARRIVAL = timedelta(minutes=2)  # a POST that reaches Azure after its sender gave up: tests/simulation/host.py
STALE_STATUS = timedelta(hours=24)  # an operation that shows nothing for a day is treated as abandoned
KNOWN_WITHIN = timedelta(hours=2)  # after its end, an operation is known to have ended
HIDES_AN_OPERATION = (
    "operation gone",
    "ARM fails after",
    "ARM silent after",
    "ARM late",
    "connection dropped after",
    "killed before",
    "killed after",
    "paused",
    "table away",
    "table fails after",
)


@dataclass(frozen=True)
class Violation:
    invariant: int
    what: str
    at: datetime
    cause: BaseException | None = None

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.what} (at {self.at:%m-%d %H:%M:%S})"


class Invariants:
    """Everything seen so far that an invariant is about."""

    def __init__(self, world: SeededWorld) -> None:
        self.world = world
        self.violations: list[Violation] = []
        self.ours: list[Operation] = []
        self.posted: Counter[tuple[str, str]] = Counter()  # (machine, claim) → operations
        self.running: set[str] = set()  # operation ids that the ledger or the journal says run
        self.ended: set[str] = set()  # operation ids that the ledger or the journal says ended
        self.paused_since: datetime | None = None
        self.stopped: dict[str, tuple[Stop, datetime]] = {}  # by RowKey, and since when
        self.runs_ended: dict[str, dict[str, Any]] = {}  # run → its line
        self.opened: dict[str, datetime] = {}  # image row → since when its breaker is open

    def violated(self, invariant: int, what: str, cause: BaseException | None = None) -> None:
        self.violations.append(Violation(invariant, what, self.world.now, cause))
        self.world.note(f"!! invariant {invariant}: {what}")
        self.world.failed.set()

    # -- the moment of a POST

    def powered(self, change: Operation, *, late: bool) -> None:
        """3. The app deallocates what it started, and nothing that a person started or worked on since."""
        world = self.world
        machine = world.azure.machine(change.machine)
        world.note(f"{change.kind} of {machine.name} by the app")
        row = world.table.rows.get((APP, key_of_start(machine)))
        reason = "" if late else world.starts.objection(change, machine, changes=world.azure.changes, row=row)
        if reason and change.kind == "deallocate":
            self.violated(3, f"{machine.name} was deallocated though {reason}")
        if change.kind == "deallocate" and not late:
            self._cuts_off_nothing(change, machine)
        world.starts.ours.add(change.operation_id)

    def _cuts_off_nothing(self, change: Operation, machine: Machine) -> None:
        """2. No assessment or installation that the app could have seen is cut off. One that is overdue is older."""
        for each in machine.operations:
            age = change.started - each.started
            cut_off = each.ends == change.started if each.ended_by else each.runs_at(change.started)
            known = each.kind in ("assess", "install") and TOLERATED < age < timedelta(hours=1)
            if known and cut_off and not self._lost_sight():
                self.violated(2, f"{machine.name} was deallocated during its {each.kind} of {each.started:%H:%M:%S}")

    def started(self, operation: Operation, step: StepRun, *, late: bool) -> None:
        """An operation of ours has just begun in Azure. `late`: its sender had given up already."""
        world, name = self.world, operation.machine.rsplit("/", 1)[-1]
        world.note(f"{operation.kind} of {name} began ({step.name}), ends {operation.final_status}")
        machine = world.azure.machine(operation.machine)
        self._ordered(operation, machine, late=late)
        self._beside_nothing(operation, machine, step)
        self._claimed_once(operation, step, late)
        self._not_stopped(operation, machine)
        if operation.kind == "install":
            self._may_be_installed(operation, machine, step)
        self.ours.append(operation)
        if operation.kind == "install":
            self._few_at_once(operation, machine)
            self._few_times(operation, machine)

    def _ordered(self, operation: Operation, machine: Machine, *, late: bool) -> None:
        """3 and 4. What a run orders, it orders for its machines, once for each, while it lasts and is not stopped."""
        orders = self.world.orders
        name = MachineId.parse(operation.machine)
        row = self.world.table.rows.get((name.subscription, row_key(name)))
        run = str(row.columns.get("run", "")) if row else ""
        if operation.kind != "install" or not run or late:
            return
        orders.installed[run, machine.vm_id] += 1
        orders.operations.add(operation.operation_id)
        for reason in orders.objections(run, machine, operation.started):
            self.violated(3, f"{machine.name} installed though {reason}")

    def _beside_nothing(self, new: Operation, machine: Machine, step: StepRun) -> None:
        """2. Nothing is started while an operation is known to run."""
        seen = step.reads.get(machine.id.lower())
        for other in machine.operations:
            if other is new or other.kind not in ("assess", "install") or not _ran_at(other, new.started):
                continue
            given_up = new.started - other.started >= STALE_STATUS and (other not in self.ours or self._lost_sight())
            # An Arc-enabled server shows no operation: what others started on it, only Resource Graph tells, later.
            shows = not isinstance(machine, HybridMachine)
            known = shows and seen is not None and other.started <= seen
            if (other in self.ours or known) and not given_up:
                self.violated(2, f"{new.kind} of {machine.name} beside its {other.kind} of {other.started:%H:%M:%S}")

    def _lost_sight(self) -> bool:
        """Whether the URL of an operation of ours may be gone or was never recorded: only its summary tells then."""
        return any(self.world.faults.hits[each] for each in HIDES_AN_OPERATION)

    def _claimed_once(self, operation: Operation, step: StepRun, late: bool) -> None:
        """4. Every operation has its claim, which is its message's, and a claim has one operation."""
        if late:
            return  # by now its machine may have another claim
        machine = MachineId.parse(operation.machine)
        row = self.world.table.rows.get((machine.subscription, row_key(machine)))
        token = str(row.columns.get("token")) if row else ""
        self.posted[str(machine), token] += 1
        if self.posted[str(machine), token] > 1:
            self.violated(4, f"two operations for one claim of {machine.name}")
        if row is None or row.columns.get("phase") not in ("starting", "running"):
            self.violated(4, f"{operation.kind} of {machine.name} without a begun claim")
        if step.claim and step.claim != token:
            self.violated(4, f"{operation.kind} of {machine.name} by a message of another claim")

    def _may_be_installed(self, operation: Operation, machine: Machine, step: StepRun) -> None:
        """3 and 8. The owner's limits, as they were when the machine was read, at most FRESH_LOOK ago."""
        world = self.world
        read = max(step.reads.get(machine.id.lower(), step.begun), operation.started - FRESH_LOOK - LATE_ARRIVAL)
        for reason in oracle.against_installing(world, machine, begun=step.begun, read=read, at=operation.started):
            self.violated(3, f"{machine.name} installed though {reason}")
        tolerated = FRESH_LOOK + LATE_ARRIVAL
        if self.paused_since and operation.started > self.paused_since + tolerated:
            self.violated(3, f"{machine.name} installed while paused since {self.paused_since:%H:%M:%S}")
        since = self.opened.get(image_key(oracle.place_of(machine, operation.started)))
        if since and operation.started > since + tolerated:
            self.violated(8, f"{machine.name} installed though its image's breaker is open since {since:%H:%M:%S}")

    def _not_stopped(self, operation: Operation, machine: Machine) -> None:
        """3. What a person stopped starts nothing new, a message in the queue included."""
        mine = {machine.id.lower(), oracle.image_of(machine, operation.started), machine.subscription.lower()}
        for stop, since in self.stopped.values():
            late = operation.started > since + FRESH_LOOK + LATE_ARRIVAL
            if stop.value in mine and late and stop.in_force(operation.started):
                self.violated(3, f"{operation.kind} of {machine.name} though {stop.scope} {stop.value} is stopped")

    def _few_at_once(self, operation: Operation, machine: Machine) -> None:
        """8. The caps, the canary, one of a group at a time: by what runs in Azure, not by the ledger."""
        world, now = self.world, operation.started
        if world.rows_were_newer:
            return
        running = [each for each in self.ours if each.kind == "install" and _in_time(each, now)]
        if len(running) > world.cap:
            self.violated(8, f"{len(running)} installations at once, PATCH_MAX_IN_FLIGHT is {world.cap}")
        image = oracle.image_of(machine, now)
        alike = [each for each in running if image and oracle.image_at(world, each) == image]
        if len(alike) > world.image_cap:
            self.violated(8, f"{len(alike)} installations at once on one image, {world.image_cap} are allowed")
        place = oracle.place_of(machine, now)
        in_rollout = [each for each in alike if each.operation_id not in world.orders.operations]
        proving = [
            each for each in in_rollout if oracle.place_of(oracle.machine_of(world, each), each.started) == place
        ]
        row = world.table.rows.get((APP, image_key(place)))
        proved = int(row.columns.get("canaries", 0)) if row else 0
        if image and proved < world.canaries and len(proving) > world.canaries:
            self.violated(8, f"{len(proving)} installations of an image that {proved} canaries have proved")
        group = oracle.group_of(world, machine, now)
        others = [each for each in running if each is not operation and oracle.group_at(world, each) == group]
        if group[1] and others:
            names = ", ".join(each.machine.rsplit("/", 1)[-1] for each in others)
            self.violated(8, f"{machine.name} installed while {names} of patch-group {group[1]} is installed")

    def _few_times(self, operation: Operation, machine: Machine) -> None:
        """8. One machine is installed, and reboots, a few times within the interval, however often it fails."""
        world = self.world
        if world.rows_were_newer:
            return
        unordered = [each for each in self.ours if each.operation_id not in world.orders.operations]
        lately = oracle.within(unordered, machine, at=operation.started, hours=world.interval_hours)
        if len(lately) > oracle.TRIES:
            times = ", ".join(f"{each.started:%m-%d %H:%M}" for each in lately)
            self.violated(8, f"{machine.name} installed {len(lately)} times in {world.interval_hours} hours: {times}")
        if (number := oracle.reboots(lately)) > oracle.TRIES:
            self.violated(8, f"{machine.name} rebooted {number} times in {world.interval_hours} hours")

    def quota_used_up(self, path: str) -> None:
        """5. Azure itself, not the faults, answered 429: the pace was too fast."""
        self.violated(5, f"a quota of Azure's is used up: POST {path.rsplit('/', 2)[-2]}")

    # -- moves in the ledger

    def about_to_move(self, row: Row, columns: Entity) -> None:
        """4. A newer app's row is left alone. 5. A 429 is not a failure, and Retry-After is waited for."""
        step = STEP.get(None)
        if step and step.throttled and "phase" in columns:
            at, seconds = step.throttled
            if int(columns.get("attempts") or 0) > int(row.columns.get("attempts") or 0):
                self.violated(5, "a 429 was counted as a failure of the machine")
            due = datetime.fromisoformat(str(columns.get("due_at")))
            if columns["phase"] != "queued" or due < at + timedelta(seconds=seconds):
                self.violated(5, f"after a 429 the machine is {columns['phase']}, due at {due:%H:%M:%S}")
        current = self.world.table.rows.get((row.partition, row.key))
        newest = NOTICE_VERSION if is_notice(row.key) else VERSION
        if current is not None and current.etag == row.etag and int(current.columns.get("v", 0)) > newest:
            self.violated(4, "a row of a newer version was moved")

    def moved(self) -> None:
        """4. Operations that ended. 8. Slots in the ledger."""
        world = self.world
        rows = [row.columns for row in world.table.rows.values() if is_machine(row)]
        running = {str(each.get("operation_id")) for each in rows if each.get("phase") == "running"}
        self.ended |= {str(each.get("operation_id")) for each in rows if each.get("phase") == "ended"}
        self.ended |= self._over(self.running - running)
        self.running = running
        if world.rows_were_newer:
            return  # no invariant: what a newer app's rows hold is not known to the older one
        holding = ("queued", "starting", "running")
        slots = sum(each.get("kind") == "install" and each.get("phase") in holding for each in rows)
        if slots > world.cap:
            self.violated(8, f"{slots} installations hold a slot, PATCH_MAX_IN_FLIGHT is {world.cap}")

    def _over(self, left: set[str]) -> set[str]:
        """Those that Azure has ended, of operations whose row runs no more: a row may go on at once."""
        return {each.operation_id for each in self.ours if each.operation_id in left and _is_over(each, self.world.now)}

    async def look_at_breakers(self) -> None:
        """Since when each image's breaker is open."""
        for (partition, key), row in self.world.table.rows.items():
            if partition == APP and key.startswith("image-"):
                if open_breaker(row.columns):
                    self.opened.setdefault(key, self.world.now)
                else:
                    self.opened.pop(key, None)

    # -- what the journal says

    def line(self, text: str) -> None:
        if '"event": "run.ended"' in text:
            line = json.loads(text)
            self.runs_ended[line["run"]] = line
        elif '"event": "machine.gone"' in text:
            self._really_gone(json.loads(text))
        elif '"event": "operation.adopted"' in text:  # its row may go on at once
            self.running.add(str(json.loads(text)["operation"]))
        elif ".ended" in text or "installation.seen" in text:
            self.ended.add(str(json.loads(text).get("operation", "")))

    def _really_gone(self, line: dict[str, Any]) -> None:
        """6. Only a machine that does not exist any more, or another one under its name, is forgotten."""
        world = self.world
        machine = MachineId.parse(line["machine"])
        found = world.machine_there(str(machine))
        row = world.table.rows.get((machine.subscription, row_key(machine)))
        if row is None or row.columns.get("phase") != line.get("phase"):
            return  # it has moved on since it was read: its ETag keeps it
        if found is not None and row.columns.get("vm_id") == found.vm_id:
            self.violated(6, f"{machine.name} was forgotten though it exists")

    # -- when all is over

    def every_operation_is_known(self) -> None:
        """4. What we started is known to have ended, if its machine is still there and nothing newer hides it."""
        for operation in self.ours:
            machine = self.world.machine_there(operation.machine)
            if machine is None or machine.vm_id != operation.vm_id:
                continue
            if operation.ends is None or operation.ends > self.world.now - KNOWN_WITHIN:
                continue
            hidden = any(
                each is not operation
                and each.kind == operation.kind
                and each.started > operation.started
                and each not in self.ours
                for each in machine.operations
            )
            if operation.operation_id not in self.ended and not hidden and not self.world.rows_were_newer:
                ended = f"the {operation.kind} of {machine.name} that ended at {operation.ends:%H:%M}"
                self.violated(4, f"the outcome of {ended} is unknown")

    def every_start_is_put_back(self) -> None:
        """4. No machine runs that the app started and no operation worked on since."""
        world = self.world
        for machine in world.azure.world.machines.values():
            if start := world.starts.forgotten(machine, world.azure.changes, world.now):
                self.violated(4, f"{machine.name} still runs, which the app started at {start.started:%m-%d %H:%M}")

    def every_run_ended(self) -> None:
        """7. The journal says that each run ended, with one outcome for each of its machines."""
        final = ("succeeded", "failed", "gone", "left")
        for run in self.world.orders.runs.values():
            if (told := self.runs_ended.get(run.id)) is None:
                self.violated(7, f"run {run.id} never ended")
            elif sum(told[each] for each in final) != len(run.machines):
                self.violated(7, f"run {run.id} ended without an outcome for each of its machines")


def is_machine(row: Row) -> bool:
    """Whether it is a machine's row, and neither the app's own nor a notice."""
    return row.partition != APP and not is_notice(row.key)


def open_breaker(image: Entity) -> str:
    """The opening of an image's breaker that is not closed; "" when it is closed."""
    opening = str(image.get("opening") or "")
    return "" if opening == image.get("closed") else opening


def _ran_at(operation: Operation, when: datetime) -> bool:
    """Also one that the newer one has just ended: it would be running."""
    if operation.ended_by and operation.ended_by[0] == "NEWER_OPERATION_SUPERSEDED" and operation.ends == when:
        end = operation.planned_end
        return end is None or end > when
    return operation.runs_at(when)


def _is_over(operation: Operation, when: datetime) -> bool:
    return operation.ends is not None and operation.ends <= when


def _in_time(operation: Operation, when: datetime) -> bool:
    """Running, and not so long that it is its owner's: those free their slot."""
    return operation.runs_at(when) and when - operation.started < timedelta(hours=3)
