"""A message that failed five times: its machine is held with that reason, and a later sweep resumes it."""

from functions import journal
from functions.cloud.queue import Message
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
