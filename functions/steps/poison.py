"""A message that failed five times: its machine is held with that reason, and a later sweep resumes it.

An event holds nothing: no claim was made for it, and a later sweep finds its machine.
"""

from functions import journal
from functions.cloud.queue import Message
from functions.model.machine import MachineId
from functions.model.state import Cause, OperationKind, State, Wait
from functions.services import Services
from functions.steps.holds import hold_for
from functions.steps.start import current_claim

REMEDY = "Look for step.failed lines of this function; the machine is retried automatically."


async def on_message(services: Services, message: Message, kind: OperationKind) -> None:
    """Raises CloudError when the ledger does not answer: the message then stays and is read again later."""
    journal.write("message.poisoned", machine=message.machine, kind=kind)
    if stored := await current_claim(services, message, kind):
        reason = f"its {kind} message failed five times"
        await hold_for(services, stored, Wait(State.FAILED, reason, REMEDY, cause=Cause.TRANSIENT))


def on_event(machine: MachineId) -> None:
    journal.write("message.poisoned", machine=machine, kind=OperationKind.ASSESS)
