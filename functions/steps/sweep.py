"""One sweep: what it knows, and what it could not find out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from functions import journal
from functions.cloud import errors
from functions.cloud.ledger import LedgerView, Stored, SweepLease
from functions.cloud.notes import NoteBook
from functions.cloud.notices import Announced
from functions.cloud.started import StoredStart, started_in
from functions.decisions.forecast import Turn
from functions.decisions.plan import Candidate
from functions.model.machine import Machine, MachineId
from functions.model.started import StartedMachine
from functions.model.stop import Stop, Stops
from functions.model.text import BadInput
from functions.model.told import Told
from functions.services import Services
from functions.steps import changes, track
from functions.steps.observe import (
    Gone,
    Refused,
    Seen,
    Throttled,
    Unreadable,
    UsedUp,
    log_unreadable,
    log_used_up,
    observe,
    observe_resource_group,
)
from functions.steps.runs import OpenRun


class SweepFailed(Exception):
    """One or more stages of a sweep got no answer. The text names them."""


@dataclass
class Sweep:
    """What one sweep knows: its services, the ledger as it stands, and which stages failed."""

    services: Services
    view: LedgerView
    began: datetime  # before the ledger was read
    lease: SweepLease | None = None  # None: an operator's tool, which dispatches nothing
    later: list[Candidate] = field(default_factory=list)  # what waits for nothing but its window
    forecast: Mapping[MachineId, Turn | None] = field(default_factory=dict)  # where this sweep made one
    notes: NoteBook = field(init=False)  # what was reported of each machine
    announced: dict[MachineId, Announced] | None = None  # what was announced to other programs; None: not read yet
    own: dict[MachineId, Told] = field(default_factory=dict)  # what keeps a machine by itself
    rest: dict[MachineId, Told | None] = field(default_factory=dict)  # no more in hand, as asked for; None: gone
    had: frozenset[MachineId] = field(init=False)  # whose rows it began with
    tracked: bool = False  # nothing is done any more about operations that ended
    found: bool = False  # Graph named every machine that may be due
    machines: Mapping[str, int] = field(default_factory=dict)  # in scope, by image, once a cap in percent asked
    failed: list[str] = field(default_factory=list)
    throttled: list[str] = field(default_factory=list)  # stages without an answer, as a quota was used up
    in_force: changes.InForce | None = None  # since when settings and pause are as they are
    used_up: UsedUp = field(default_factory=UsedUp)
    stops: Stops = field(default_factory=Stops)  # what people stopped, once it was read
    started: dict[MachineId, StoredStart] = field(init=False)  # the machines that the app started
    coming: list[Machine] = field(default_factory=list)  # those of them that run, or are coming up
    runs: list[OpenRun] = field(default_factory=list)  # on demand, that did not end; an operator's tool has none

    def __post_init__(self) -> None:
        self.notes = NoteBook(self.view.table)
        self.had = frozenset(self.view.rows)
        self.started = {each.started.machine: each for each in started_in(self.view.app.values())}

    @property
    def rows(self) -> Mapping[MachineId, Stored]:
        return self.view.rows

    def stop_of(self, machine: Machine) -> Stop | None:
        """What a person stopped that covers the machine."""
        return self.stops.of(machine, self.services.settings.owner_tag)

    def outside_stops(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Without those of a narrower stop: that of everything is a passing one, and the forecast goes on."""
        return [item for item in candidates if self.stop_of(item.machine) in (None, self.stops.everything)]

    async def put_started(self, stored: StoredStart | None, started: StartedMachine) -> StoredStart | None:
        """Writes one, and remembers it. None when another writer was first."""
        written = await self.services.ledger.put_started(stored, started)
        if written:
            self.started[started.machine] = written
        return written

    async def forget_started(self, stored: StoredStart) -> None:
        await self.services.ledger.forget_started(stored)
        self.started.pop(stored.started.machine, None)

    @property
    def incomplete(self) -> list[str]:
        """The stages that did not get all their answers."""
        return [*(["track"] if self.used_up else []), *self.throttled, *self.failed]

    @property
    def paused_for(self) -> timedelta | None:
        """How long a person's pause has lasted; None while there is none."""
        since = self.in_force.paused_since if self.in_force else None
        return self.services.clock() - since if since else None

    async def stay(self) -> None:
        """Keeps the lease while the sweep reads: a large fleet takes longer than the lease lasts.

        Rows that leave wait for a claim no longer then: should the sweep be killed, it need not track again.
        """
        if self.lease and await self.lease.stay(self.services.clock()) and self.tracked:
            await track.delete_leaving(self.view)

    async def see(
        self, machine: MachineId, *, vm_id: str | None = None, with_resource_group: bool = False, remedy: str = ""
    ) -> Seen | Gone | None:
        """The machine as ARM shows it now; None: nothing is to be learned of it now, and a line says why.

        `vm_id`: only that VM counts as the same machine. `with_resource_group`: its resource group is read, too.
        """
        if machine.subscription in self.used_up:
            return None
        what = "ARM"
        try:
            seen = await observe(self.services, machine, vm_id=vm_id)
            if with_resource_group and isinstance(seen, Seen):
                what = "resource group"
                seen = await observe_resource_group(self.services, seen.machine)
        except errors.CloudError as error:
            log_unreadable(machine, what, error, remedy=remedy)
            return None
        match seen:
            case Seen() | Gone():
                return seen
            case Throttled(throttled):
                self.used_up.note(machine.subscription, throttled)
            case Unreadable(problem) | Refused(problem):
                log_unreadable(machine, what, problem, remedy=remedy)
        return None

    def fail(self, stage: str, error: errors.CloudError | BadInput) -> None:
        """A stage got no answer. A used-up quota is not a failure: the next sweep goes on."""
        if isinstance(error, errors.Throttled):
            log_used_up(error, stage=stage)
            self.throttled.append(stage)
            return
        journal.write("sweep.failed", stage=stage, problem=error)
        self.failed.append(stage)


async def read_ledger(services: Services) -> Sweep:
    """A sweep that has read the ledger, once. Its services write through what it read."""
    began, view = services.clock(), LedgerView(services.ledger.table, services.ledger.outbox)
    await view.load()
    return Sweep(replace(services, ledger=view), view, began)
