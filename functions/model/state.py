"""The words of a machine's progress: operation, phase, cause, state, and the step that follows."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar


class OperationKind(StrEnum):
    """The two operations the app starts."""

    ASSESS = "assess"
    INSTALL = "install"

    @property
    def noun(self) -> str:
        """As people read it."""
        return "assessment" if self is OperationKind.ASSESS else "installation"


class Phase(StrEnum):
    """How far the claim on a machine has come."""

    QUEUED = "queued"  # claimed; a message is on its way, or the sweep will send one
    STARTING = "starting"  # between our decision and the recorded answer of the POST
    RUNNING = "running"  # Azure has the operation
    ENDED = "ended"  # it ended; Graph does not show it yet
    HELD = "held"  # nothing in flight; not resumed before its hold ends


class Cause(StrEnum):
    """Why a machine is held, and so who or what ends the hold."""

    TRANSIENT = "transient"  # passes by itself: retried with growing waits
    CONFLICT = "conflict"  # another operation has the machine: checked again
    OWNER = "owner"  # a person must change something: a write or start of the machine releases it
    NEVER = "never"  # cannot succeed in this state: checked again weekly, or when the image changes


class State(StrEnum):
    """The one state of a machine: what people see, filter and alert on. docs/states.md explains each."""

    DUE = "due"
    QUEUED = "queued"
    ASSESSING = "assessing"
    INSTALLING = "installing"
    CONFIRMING = "confirming"
    TOO_NEW = "too-new"
    BUILDING = "building"
    POWERED_OFF = "powered-off"
    AGENT_NOT_READY = "agent-not-ready"
    EXTENSIONS_FORBIDDEN = "extensions-forbidden"
    BUSY = "busy"
    GRAPH_BEHIND = "graph-behind"
    WAITING_FOR_WINDOW = "waiting-for-window"
    WAITING_FOR_CANARY = "waiting-for-canary"
    WAITING_FOR_RING = "waiting-for-ring"
    WAITING_FOR_GROUP = "waiting-for-group"
    WAITING_FOR_SLOT = "waiting-for-slot"
    BREAKER_OPEN = "breaker-open"
    PAUSED = "paused"
    ASSESSED = "assessed"
    PATCHED = "patched"
    NOTHING_SELECTED = "nothing-selected"
    RECENTLY_PATCHED = "recently-patched"
    REBOOT_PENDING = "reboot-pending"
    PATCHED_BY_NOBODY = "patched-by-nobody"
    UNSUPPORTED = "unsupported"
    UNDETERMINED = "undetermined"
    OPTED_OUT = "opted-out"
    ON_HOLD = "on-hold"
    BAD_TAG = "bad-tag"
    MANAGED_ELSEWHERE = "managed-elsewhere"
    SCHEDULED_ELSEWHERE = "scheduled-elsewhere"
    MARKETPLACE = "marketplace"
    OUT_OF_SCOPE = "out-of-scope"
    SWITCHED_OFF = "switched-off"
    FAILED = "failed"
    OVERDUE = "overdue"


# Decided by settings or tags alone, whatever the outcome of earlier operations.
POLICY_STATES = (
    State.OUT_OF_SCOPE,
    State.SWITCHED_OFF,
    State.MANAGED_ELSEWHERE,
    State.MARKETPLACE,
    State.BAD_TAG,
    State.OPTED_OUT,
    State.ON_HOLD,
)


# An installation is to come, and the fleet or the calendar decides when.
AWAIT_A_TURN = (
    State.DUE,
    State.WAITING_FOR_WINDOW,
    State.WAITING_FOR_CANARY,
    State.WAITING_FOR_RING,
    State.WAITING_FOR_GROUP,
    State.WAITING_FOR_SLOT,
)


@dataclass(frozen=True)
class Step:
    """What follows for a machine, and why. A Wait that a row remembers is the machine's hold."""

    state: State
    reason: str
    remedy: str = ""  # for a person; "" when there is nothing to do
    when: datetime | None = None  # when it changes, if that is known; of a hold, when it ends
    cause: Cause = Cause.OWNER  # who ends a wait or a leave, when it has to be remembered
    verb: ClassVar[str]


class Assess(Step):
    verb = "assess"


@dataclass(frozen=True)
class Install(Step):
    verb = "install"
    assess_meanwhile: bool = False  # if it has to wait: its assessment is due
    only_canary: bool = False  # its own window is closed: it may go as a canary of its image, and not otherwise


class Wait(Step):
    """Not now; something is expected to change."""

    verb = "wait"


class Leave(Step):
    """Not ours to do, until its owner changes something."""

    verb = "leave"
