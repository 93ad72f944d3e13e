"""A message that failed five times: its machine is held with that reason, and a later sweep takes it up again."""

from functions import journal
from functions.cloud.work_queue import Message
from functions.decision import State
from functions.doors import Doors
from functions.machine import Kind
from functions.operation import hold_for, take
from functions.record import Cause

REMEDY = "Look for step.failed lines of this function; the machine is tried again by itself."


async def on_message(doors: Doors, message: Message, kind: Kind) -> None:
    """Raises CloudError when the ledger does not answer: the message then stays and is read again later."""
    journal.write("message.poisoned", machine=message.machine, kind=kind)
    if stored := await take(doors, message, kind):
        reason = f"its {kind} message failed five times"
        await hold_for(doors, stored, Cause.TRANSIENT, State.HELD, reason, REMEDY)
