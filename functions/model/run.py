"""A run on demand: a person's order to assess or to install these machines, and how far it has come."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from functions.model.machine import Machine, MachineId
from functions.model.state import OperationKind

MAX_MACHINES = 10_000  # of one run
USUAL_LENGTH = timedelta(hours=24)  # from `opened` to `until` where a person names no end


@dataclass(frozen=True)
class Selection:
    """Which patches a run installs. Both empty: what the settings select."""

    classifications: tuple[str, ...] = ()  # as Azure writes them
    packages: tuple[str, ...] = ()  # names and masks, or KB numbers, lower-cased

    def __bool__(self) -> bool:
        return bool(self.classifications or self.packages)


@dataclass(frozen=True)
class Run:
    """The order, as a person's tool wrote it. It names its machines: no other is ever touched."""

    id: str
    kind: OperationKind
    machines: tuple[MachineId, ...]
    reason: str
    by: str  # "": not known
    opened: datetime
    until: datetime  # nothing of it begins from then on
    at: datetime | None = None  # nothing of it begins before; None: at once
    selection: Selection = Selection()
    ignore_window: bool = False  # also outside maintenance windows and in a black-out
    canaries: int = 0  # of each image, which go first
    bake: timedelta = timedelta(0)  # how long they are watched before the others go
    stopped: datetime | None = None  # when a person stopped it
    stopped_by: str = ""
    stopped_because: str = ""
    problem: str = ""  # its row cannot be read: it wants nothing

    @property
    def turn(self) -> tuple[datetime, str]:
        """Sorts runs by age: of two that want the same machine the older one goes first."""
        return self.opened, self.id

    def wants(self, now: datetime) -> bool:
        """Whether its machines may begin now, as far as the run is concerned."""
        return not self.problem and self.stopped is None and (self.at or self.opened) <= now < self.until

    def is_over(self, now: datetime) -> bool:
        """Whether none of its machines ever begins again."""
        return bool(self.problem) or self.stopped is not None or now >= self.until

    def covers(self, machine: Machine) -> bool:
        """Whether the machine is one of its own, and not another one that was created under the same name since."""
        return machine.id in self._names and (machine.created is None or machine.created <= self.opened)

    @cached_property
    def _names(self) -> frozenset[MachineId]:
        return frozenset(self.machines)

    @property
    def text(self) -> str:
        """Its id, why and by whom, for the reason of what it starts."""
        who = f" (by {self.by})" if self.by else ""
        return f"run {self.id}: {self.reason}{who}"


class RunOutcome(StrEnum):
    """How far a run has come with one machine."""

    TO_DO = "to-do"
    IN_FLIGHT = "in-flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"  # deleted, or another machine has its name
    LEFT = "left"  # nothing was done; the state says why

    @property
    def is_final(self) -> bool:
        return self not in (RunOutcome.TO_DO, RunOutcome.IN_FLIGHT)


@dataclass(frozen=True)
class Item:
    """One machine of a run."""

    outcome: RunOutcome = RunOutcome.TO_DO
    state: str = ""  # left, to do: what keeps it (functions/model/state.py), or one of run_states
    reason: str = ""  # in words
    started: datetime | None = None
    ended: datetime | None = None
    at_fault: bool = False  # failed: the patches or the image are to blame
    image: str = ""  # Image.key, once it was started


# What keeps a machine of a run besides the states of a machine.
STOPPED, NOT_SENT, CANARY_FAILED = "stopped", "not-sent", "canary-failed"


@dataclass(frozen=True)
class Progress:
    """How far a run has come. A machine without an item is to do."""

    items: Mapping[MachineId, Item] = field(default_factory=dict)
    ended: datetime | None = None  # when it ended, and that was reported

    def of(self, machine: MachineId) -> Item:
        return self.items.get(machine, Item())

    def counts(self, run: Run) -> Mapping[RunOutcome, int]:
        """How many of its machines have each outcome; every outcome is named."""
        found = Counter(self.of(machine).outcome for machine in run.machines)
        return {outcome: found[outcome] for outcome in RunOutcome}

    def with_outcome(self, run: Run, outcome: RunOutcome) -> Iterator[MachineId]:
        """Its machines that have come this far."""
        return (machine for machine in run.machines if self.of(machine).outcome is outcome)

    def noted(self, items: Mapping[MachineId, Item]) -> "Progress":
        """With what has become known. A final outcome stays as it was first recorded."""
        news = {machine: item for machine, item in items.items() if not self.of(machine).outcome.is_final}
        return replace(self, items={**self.items, **news})
