"""What follows for a machine that the app started: kept, put back, or another's by now."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.decisions.stopped import Keep, Move, Over, PutBack, next_move
from functions.model.machine import PatchStatus, PowerState
from functions.model.record import Ending, Record, hold
from functions.model.started import Stage, StartedMachine, begin_start, begin_stop, end_start, start_accepted
from functions.model.state import Assess, Leave, OperationKind, Phase, State, Step, Wait
from tests.support import NOW, a_machine, a_record

MINUTE = timedelta(minutes=1)
BEGAN = NOW - 10 * MINUTE  # when the start was written down
CAME_UP = BEGAN + MINUTE
STOPPED = BEGAN - timedelta(days=3)  # when its owner stopped it
MORE = Assess(State.DUE, "support state absent")
DONE = Leave(State.PATCHED, "nothing to install")
NO_SLOT = Wait(State.WAITING_FOR_SLOT, "10 installations are under way")
CANARY = Wait(State.WAITING_FOR_CANARY, "a canary is watched")
DURING = PatchStatus("op", "Succeeded", CAME_UP + MINUTE, CAME_UP + 4 * MINUTE)

CALLED = replace(begin_start(a_machine(power=PowerState.DEALLOCATED, changed=STOPPED), BEGAN))
TAKEN = start_accepted(CALLED)
RUNS = replace(TAKEN, ran=True, changed=CAME_UP)
TOLD = begin_stop(RUNS, NOW - 2 * MINUTE)
TOLD_LONG_AGO = begin_stop(RUNS, NOW - 16 * MINUTE)

UP: dict[str, Any] = {"power": PowerState.RUNNING, "changed": CAME_UP}
OFF: dict[str, Any] = {"power": PowerState.DEALLOCATED, "changed": STOPPED}
LATER = CAME_UP + 3 * MINUTE

# what is remembered, what the machine shows, what it would do → what follows, a part of the reason
MOVES: dict[str, tuple[StartedMachine, dict[str, Any], Step, type[Move], str]] = {
    "just called, still off": (replace(CALLED, at=NOW), OFF, MORE, Keep, ""),
    "called without an answer, off after minutes": (CALLED, OFF, MORE, Over, "did not come about"),
    "taken, still off": (TAKEN, OFF, MORE, Keep, ""),
    "taken, off for good": (replace(TAKEN, at=NOW - 21 * MINUTE), OFF, MORE, Over, "did not come about"),
    "coming up": (TAKEN, {"power": PowerState.STARTING}, DONE, Keep, ""),
    "Azure does not say": (RUNS, {"power": PowerState.UNKNOWN}, DONE, Keep, ""),
    "up, and more to do": (TAKEN, UP, MORE, Keep, ""),
    "no answer, and it came up then": (CALLED, UP, MORE, Keep, ""),
    "no answer, and it came up before": (CALLED, UP | {"changed": STOPPED}, MORE, Over, "not known"),
    "no answer, and it came up much later": (
        replace(CALLED, at=NOW - timedelta(hours=2)), UP | {"changed": NOW - MINUTE}, MORE, Over, "not known"),
    "no answer, and no time is shown": (CALLED, UP | {"changed": None}, MORE, Over, "not known"),
    "taken, and no time is shown": (TAKEN, UP | {"changed": None}, MORE, Keep, ""),
    "nothing more to do": (RUNS, UP, DONE, PutBack, "nothing to install"),
    "a slot will come": (RUNS, UP, NO_SLOT, Keep, ""),
    "a slot did not come": (replace(RUNS, busy=NOW - 31 * MINUTE), UP, NO_SLOT, PutBack, "under way"),
    "a canary takes hours": (RUNS, UP, CANARY, PutBack, "watched"),
    "another changed it": (RUNS, UP | {"changed": LATER}, DONE, Over, "another operation"),
    "a patch operation changed it": (RUNS, UP | {"changed": LATER, "installation": DURING}, DONE, PutBack, ""),
    "after a patch operation": (
        RUNS, UP | {"changed": CAME_UP + 7 * MINUTE, "installation": DURING}, DONE, Over, "another operation"),
    "an operation on it failed": (
        RUNS, UP | {"changed": LATER, "provisioning_state": "Failed"}, DONE, PutBack, ""),
    "shut down from inside": (RUNS, UP | {"power": PowerState.STOPPED}, DONE, PutBack, ""),
    "another shut it down": (RUNS, {"power": PowerState.STOPPED, "changed": LATER}, DONE, Over, "another operation"),
    "another deallocated it": (RUNS, OFF | {"changed": LATER}, DONE, Over, "another deallocated it"),
    "going down": (TOLD, {"power": PowerState.DEALLOCATING}, DONE, Keep, ""),
    "down": (TOLD, OFF | {"changed": NOW}, DONE, Over, "it is deallocated"),
    "told, still up": (TOLD, UP, DONE, Keep, ""),
    "told long ago, still up": (TOLD_LONG_AGO, UP, DONE, PutBack, "still runs"),
    "started by another after it was put back": (TOLD_LONG_AGO, UP | {"changed": NOW}, DONE, Over, "another operation"),
}  # fmt: skip


@pytest.mark.parametrize(("started", "shows", "step", "move", "reason"), MOVES.values(), ids=MOVES)
def test_what_follows_for_a_started_machine(
    started: StartedMachine, shows: dict[str, Any], step: Step, move: type[Move], reason: str
) -> None:
    found = next_move(started, a_machine(**shows), None, step=step, now=NOW)
    assert isinstance(found, move), found
    assert reason in getattr(found, "reason", "")


IDLE = replace(RUNS, busy=NOW - 31 * MINUTE)
THEIRS = PatchStatus("theirs", "InProgress", NOW - 40 * MINUTE, NOW - 2 * MINUTE)
OURS = replace(THEIRS, operation_id="ours")
ABANDONED = replace(THEIRS, started=NOW - timedelta(hours=26), modified=NOW - timedelta(hours=25))
INSTALLING = a_record(
    kind=OperationKind.INSTALL, phase=Phase.RUNNING, operation_id="ours", started_at=NOW - 40 * MINUTE
)
ENDED = replace(INSTALLING, phase=Phase.ENDED, ending=Ending("Succeeded", NOW - MINUTE))
GIVEN_UP = hold(INSTALLING, Wait(State.OVERDUE, "it is still open"), NOW)

# what is remembered, the machine's row, what the machine shows → what follows: no operation is cut off
AT_WORK: dict[str, tuple[StartedMachine, Record | None, dict[str, Any], type[Move]]] = {
    "the app's operation": (IDLE, INSTALLING, {"installation": OURS}, Keep),
    "the app's, and a call that deallocates it failed": (TOLD_LONG_AGO, INSTALLING, {"installation": OURS}, Keep),
    "the app's that is about to be shown": (IDLE, ENDED, {}, Keep),
    "the app's that is about to be shown, and a call failed": (TOLD_LONG_AGO, ENDED, {}, Keep),
    "another's installation": (IDLE, None, {"installation": THEIRS}, Keep),
    "another's assessment": (IDLE, None, {"assessment": THEIRS}, Keep),
    "another's, and a call that deallocates it failed": (TOLD_LONG_AGO, None, {"installation": THEIRS}, Keep),
    "another's beside an overdue one of the app": (
        IDLE, GIVEN_UP, {"assessment": OURS, "installation": THEIRS}, Keep),
    "the app's that is overdue": (IDLE, GIVEN_UP, {"installation": OURS}, PutBack),
    "another's that was abandoned": (IDLE, None, {"installation": ABANDONED}, PutBack),
    "none": (TOLD_LONG_AGO, None, {}, PutBack),
}  # fmt: skip


@pytest.mark.parametrize(("started", "record", "shows", "move"), AT_WORK.values(), ids=AT_WORK)
def test_a_machine_at_work_is_not_put_back(
    started: StartedMachine, record: Record | None, shows: dict[str, Any], move: type[Move]
) -> None:
    found = next_move(started, a_machine(**UP | shows), record, step=DONE, now=NOW)
    assert isinstance(found, move), found


def test_only_what_ended_long_ago_may_be_started_again() -> None:
    over = end_start(RUNS, NOW)
    assert not over.forgotten(BEGAN + timedelta(hours=19))
    assert over.forgotten(BEGAN + timedelta(hours=20))
    assert not RUNS.forgotten(BEGAN + timedelta(days=30))
    assert over.stage is Stage.OVER
