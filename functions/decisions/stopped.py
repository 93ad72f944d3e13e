"""Stopped machines: which of them is started to be patched, and what follows for one that the app started. Pure.

A machine is started only where its installation would go now if it ran. What its last assessment says may be old: then
it is started, assessed and, if patches wait, installed. The app puts back what it started and nothing else: a machine
that shows an operation which the app cannot explain is another's by now, and is left as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from functions.decisions.decision import next_step
from functions.decisions.forecast import USUAL
from functions.decisions.question import Question, Way, is_under_way, stale, wanted_count
from functions.decisions.support_state import may_install, window_wait
from functions.model.machine import Machine, PatchAssessment, PatchStatus, PowerState, SupportState
from functions.model.record import SEND_WITHIN, Record
from functions.model.started import (
    IDLE_TIME,
    SHOWN_WITHIN,
    START_TIME,
    STOP_TIME,
    Stage,
    StartedMachine,
)
from functions.model.state import Assess, Install, Leave, Phase, State, Step, Wait
from functions.model.text import format_utc
from functions.policy.values import Mode

# From the call that starts a machine to the one that installs: the start, its agent, an assessment, and two sweeps.
LEAD = timedelta(minutes=30)
# What a machine was found to lack nothing of is not started again for this long only to look.
LOOK_EVERY = timedelta(days=7)
# Azure gives an operation that ends in the guest a later end of its own.
_MARGIN = timedelta(minutes=1)
# States of a running machine that become an installation by themselves, within IDLE_TIME.
_GOING_ON = (
    State.DUE,
    State.QUEUED,
    State.ASSESSING,
    State.INSTALLING,
    State.CONFIRMING,
    State.BUILDING,
    State.AGENT_NOT_READY,
    State.BUSY,
    State.GRAPH_BEHIND,
    State.WAITING_FOR_SLOT,
)


def start_step(question: Question) -> Step:
    """Install where the stopped machine is started now, in the words of its installation; else why it is not."""
    machine = question.machine
    if reason := _stays_off(question):
        return Wait(State.POWERED_OFF, reason)
    running = replace(machine, power=PowerState.RUNNING, agent_ready=None, busy_extensions=None)
    as_if = replace(question, machine=running)
    step = next_step(as_if)
    if isinstance(step, Assess):
        step = _once_assessed(as_if)
    if isinstance(step, Install) and not _time_is_enough(as_if):
        return window_wait(as_if)
    return step


def _stays_off(question: Question) -> str:
    """Why this machine is never started; "" where it may be."""
    machine = question.machine
    if machine.power is not PowerState.DEALLOCATED:
        return f"the machine is {machine.power}, not deallocated"
    if machine.hibernated:
        return "it is hibernated: a start would resume what is in its memory"
    if machine.scale_set:
        return "it is a member of a scale set, which has its own number of running machines"
    return "" if question.overrides.may_start else "tag patch-start=no"


def _once_assessed(question: Question) -> Step:
    """Its last assessment is too old, or there is none: whether it is started to be assessed and then installed."""
    settings, verdict = question.settings, question.machine.verdict or PatchAssessment(SupportState.ABSENT)
    if question.mode < Mode.INSTALL:
        return Leave(State.ASSESSED, "a machine is not started for an assessment alone")
    if verdict.state is SupportState.UNSUPPORTED:
        return Leave(State.UNSUPPORTED, "Azure cannot patch this operating system or image")
    nothing = verdict.state is SupportState.SUPPORTED and not wanted_count(question.machine, settings)
    if nothing and not stale(verdict.assessed, question.now, LOOK_EVERY):
        return Leave(State.PATCHED, f"nothing to install, assessed {format_utc(verdict.assessed)}")
    if step := may_install(question):
        return step
    assessed = f"last assessed {format_utc(verdict.assessed)}" if verdict.assessed else "never assessed"
    return Install(State.DUE, f"{assessed}; its window is open ({question.window.text})")


def _time_is_enough(question: Question) -> bool:
    """Whether an installation still fits into its own window after the machine has come up."""
    return question.way is Way.WINDOW and replace(question, now=question.now + LEAD).in_own_window


def usual_run(installation: timedelta | None) -> timedelta:
    """For about how long a machine runs that is started to be patched. `installation`: how long one takes; None: as
    where none has been seen.
    """
    return LEAD + (installation or USUAL)


def cost_told(machines: int, together: timedelta) -> str:
    """What starting so many machines costs, in words. `together`: for how long they run, one after another."""
    hours = together / timedelta(hours=1)
    return (
        f"{machines} stopped machine{'s' * (machines != 1)} would be started now, for about {hours / machines:.1f} h "
        f"each, {hours:.1f} h in all; Azure bills their compute meanwhile"
    )


# -- a machine that the app started


@dataclass(frozen=True)
class Keep:
    """It goes on running, or on coming up or down; what is known of it now."""

    started: StartedMachine


@dataclass(frozen=True)
class PutBack:
    """Azure is asked to deallocate it."""

    started: StartedMachine
    reason: str


@dataclass(frozen=True)
class Over:
    """The app has nothing to put back. `by_us`: it is off because the app put it back."""

    started: StartedMachine
    reason: str
    by_us: bool = False
    runs: bool = False  # another's: it is left running


Move = Keep | PutBack | Over


def next_move(started: StartedMachine, machine: Machine, record: Record | None, *, step: Step, now: datetime) -> Move:
    """What follows for a machine that the app started. `step`: what the fleet's plan and the decision say of it."""
    if (move := _off_or_changing(started, machine, now)) is not None:
        return move
    if reason := _anothers(started, machine):
        return Over(started, reason, runs=True)
    known = machine.changed or started.changed
    started = replace(started, ran=True, changed=known, stage=_seen_started(started.stage))
    if _has_operation(record, now) or _has_anothers_operation(machine, record, now):
        return Keep(replace(started, busy=now))
    if started.stage is Stage.STOPPING:
        told = started.stopped or now
        return Keep(started) if now < told + STOP_TIME else PutBack(started, "it still runs")
    if _goes_on(step) and now < started.busy + IDLE_TIME:
        return Keep(started)
    return PutBack(started, f"{step.state}: {step.reason}")


def _seen_started(stage: Stage) -> Stage:
    return Stage.STARTED if stage is Stage.STARTING else stage


def _off_or_changing(started: StartedMachine, machine: Machine, now: datetime) -> Move | None:
    """What follows where it is off, or on its way; None where it runs, or its guest was shut down, which is billed."""
    if machine.power in (PowerState.STARTING, PowerState.DEALLOCATING, PowerState.UNKNOWN):
        return Keep(started)
    if machine.power is not PowerState.DEALLOCATED:
        return None
    if started.stage is Stage.STOPPING:
        return Over(started, "it is deallocated", by_us=True)
    if started.ran:
        return Over(started, "another deallocated it")
    # Azure shows a start as soon as it took it. A call without an answer was sent by now, or never will be.
    patience = START_TIME if started.stage is Stage.STARTED else 2 * SEND_WITHIN
    return Over(started, "the start did not come about") if now >= started.at + patience else Keep(started)


def _anothers(started: StartedMachine, machine: Machine) -> str:
    """Why a running machine is not the app's to stop; "" where it is.

    What Azure does not say is not evidence. Where the start's answer is not recorded, it takes evidence that it was the
    app's: a machine that another started then must not be stopped.
    """
    changed = machine.changed
    begun = started.at <= changed <= started.at + START_TIME if changed else False
    if started.stage is Stage.STARTING:
        return "" if begun else "whether the app started it is not known"
    if changed is None or changed == started.changed:
        return ""
    if machine.provisioning_state.lower() == "failed":  # an operation that failed made no other's of it
        return ""
    if not started.ran and started.stage is Stage.STARTED and begun:
        return ""
    if any(_explains(status, changed) for status in machine.patch_statuses):
        return ""
    return f"another operation on it ended {format_utc(changed)}"


def _explains(status: PatchStatus, changed: datetime) -> bool:
    """Whether a change of the machine falls into this assessment or installation."""
    begun, ended = status.started, status.modified
    return bool(begun and ended and begun - _MARGIN <= changed <= ended + _MARGIN)


def _has_operation(record: Record | None, now: datetime) -> bool:
    """Whether an operation of the app runs on it, or one that ended is about to be shown by Resource Graph."""
    if record is None:
        return False
    if record.phase is Phase.ENDED and record.ending:
        return now < record.ending.at + SHOWN_WITHIN
    return record.phase in (Phase.STARTING, Phase.RUNNING)


def _has_anothers_operation(machine: Machine, record: Record | None, now: datetime) -> bool:
    """Whether an assessment or installation of another runs on it. One of the app that is overdue is given up."""
    ours = record.operation_id if record else ""
    return any(is_under_way(each, now) for each in machine.patch_statuses if each.operation_id != ours)


def _goes_on(step: Step) -> bool:
    return isinstance(step, Assess | Install) or (isinstance(step, Wait) and step.state in _GOING_ON)


def running_time(started: Sequence[StartedMachine], now: datetime) -> timedelta:
    """For how long the machines that the app started run by now, together."""
    return sum((now - each.at for each in started if each.is_open), timedelta(0))
