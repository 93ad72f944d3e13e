"""What each kind of trigger passes to an invocation, and why the host says that it fired."""

from __future__ import annotations

from typing import Any

from simulator.functions_host import decoding
from simulator.functions_host.invoker import Invoker
from simulator.functions_host.state import HostState, Invocation
from simulator.functions_host.telemetry import HostCategory
from simulator.functions_host.timer import Due

_NOT_DECODED = "Message decoding has failed! Check MessageEncoding settings."
_NO_TEXT = "Queue message's body cannot be converted to string because it contains non-UTF8 bytes"


class Triggers:
    """Starts the functions of one host."""

    def __init__(self, state: HostState, invoker: Invoker) -> None:
        self._state = state
        self._invoker = invoker

    async def event(self, name: str, event: dict[str, Any]) -> bool:
        """One element of an Event Grid request. Whether the function succeeded."""
        reason = f"EventGrid trigger fired at {self._state.clock().isoformat()}"
        return (await self._invoker.invoke(name, lambda: decoding.event_input(event), reason)).ok is True

    async def message(self, name: str, message: Any) -> bool:
        """A received queue message. Whether the function succeeded; False without an invocation if it is not base64."""
        log = self._state.telemetry
        try:
            body = decoding.message_body(message.content, is_base64=self._state.options.queues.base64)
        except decoding.NotBase64:
            log.warning(HostCategory.QUEUE_CLIENT, f"{_NOT_DECODED} MessageId={message.id}.")
            return False

        def trigger() -> decoding.TriggerInput:
            try:
                return decoding.queue_input(decoding.body_text(body), message)
            except decoding.NotUtf8:
                log.warning(HostCategory.QUEUE_CAUSALITY, f"{_NO_TEXT}, message id={message.id}")
                raise

        invocation = await self._invoker.invoke(
            name, trigger, f"New queue message detected on '{name}'.", details=_trigger_details(message)
        )
        return invocation.ok is True

    async def timer(self, name: str, due: Due) -> None:
        """A tick of the schedule. The schedule goes on whether the function succeeds or fails."""
        await self._fire(name, due, f"Timer fired at {self._state.clock().isoformat()}")

    async def timer_by_hand(self, name: str) -> Invocation:
        """POST /admin/functions/<name>. Raises LookupError for a timer that does not run here."""
        if not self._state.timer_function(name):
            raise LookupError(f"no timer function {name} is running here; functions: {sorted(self._state.functions)}")
        return await self._fire(name, Due(False, None), "This function was programmatically called")

    async def _fire(self, name: str, due: Due, reason: str) -> Invocation:
        status = due.status.as_json() if due.status is not None else None

        def trigger() -> decoding.TriggerInput:
            return decoding.timer_input(status, past_due=due.past_due, now=self._state.clock())

        return await self._invoker.invoke(name, trigger, reason)


def _trigger_details(message: Any) -> str:
    when = message.inserted_on.isoformat()
    return f"Trigger Details: MessageId: {message.id}, DequeueCount: {message.dequeue_count}, InsertedOn: {when}"
