"""A stopped machine that the app started to patch it: what is remembered of it until it is put back.

    starting → started → stopping → over
        └─────────┴──────────────→ over

`starting` is written before the call that starts the machine, and `stopping` before the one that deallocates it: a
process may end anywhere between. Each transition takes a StartedMachine and returns the next; none stores anything.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from functions.model.machine import Machine, MachineId

# Between the call and the end of a start. Sizes that are short in a region are refused sooner.
START_TIME = timedelta(minutes=20)
# After this long Azure is asked again to deallocate a machine that still runs.
STOP_TIME = timedelta(minutes=15)
# So long a started machine may run without an operation of the app: agent, assessment and a slot come in this time.
IDLE_TIME = timedelta(minutes=30)
# So long Resource Graph may take to show an operation that ended; then the machine is put back all the same.
SHOWN_WITHIN = timedelta(hours=1)
# A machine is started once per night at most, whatever came of it. Shorter than a day: openings are a day apart.
AGAIN_AFTER = timedelta(hours=20)


class Stage(StrEnum):
    """How far it has come."""

    STARTING = "starting"  # written before the call: whether Azure took it is not known
    STARTED = "started"  # Azure took the call, or the machine shows that it did
    STOPPING = "stopping"  # written before the call that deallocates it
    OVER = "over"  # put back, or another's by now; kept so that it is not started again too soon


@dataclass(frozen=True)
class StartedMachine:
    """One machine that the app started. Times are UTC."""

    machine: MachineId
    vm_id: str
    stage: Stage
    at: datetime  # when the start was written down
    changed: datetime | None  # when its last operation ended that is known to be none of another's
    busy: datetime  # when it last had an operation of the app
    ran: bool = False  # it was seen running since
    stopped: datetime | None = None  # when Azure was last asked to deallocate it
    tries: int = 0  # how often it was
    over: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the app still has to put it back, as far as it knows."""
        return self.stage is not Stage.OVER

    def may_be_started_again(self, at: datetime) -> bool:
        """Whether a start by another that ended then came after the app's own, or after the app stopped it again."""
        return self.is_open and at >= (self.stopped or self.at)

    def forgotten(self, now: datetime) -> bool:
        """Whether it may be started again."""
        return not self.is_open and now >= self.at + AGAIN_AFTER


def begin_start(machine: Machine, now: datetime) -> StartedMachine:
    """The last transition before the call: what the machine's last operation was, to tell a later one."""
    return StartedMachine(machine.id, machine.vm_id, Stage.STARTING, at=now, changed=machine.changed, busy=now)


def start_accepted(started: StartedMachine) -> StartedMachine:
    """Azure took the call."""
    return replace(started, stage=Stage.STARTED)


def begin_stop(started: StartedMachine, now: datetime) -> StartedMachine:
    """The last transition before the call that deallocates it."""
    return replace(started, stage=Stage.STOPPING, stopped=now, tries=started.tries + 1)


def end_start(started: StartedMachine, now: datetime) -> StartedMachine:
    """The app has nothing to put back any more."""
    return replace(started, stage=Stage.OVER, over=now)
