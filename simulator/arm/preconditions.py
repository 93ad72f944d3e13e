"""Entity tags of machines, and the preconditions If-Match and If-None-Match of their PUT and PATCH.

Declared for these two operations alone (Azure/azure-rest-api-specs, VirtualMachine.tsp). That a failed one is answered
412 is inferred from HTTP: no answer is declared.
"""

from __future__ import annotations

from datetime import datetime

from simulator.wire import Refused, Request
from simulator.world import Machine

_WRITES = ("create", "update")


def etag(machine: Machine, when: datetime) -> str:
    """Changes with every PUT and PATCH that was accepted."""
    return f'"{sum(each.kind in _WRITES and each.started <= when for each in machine.operations)}"'


def check(machine: Machine | None, request: Request, now: datetime) -> None:
    """Raises Refused (412). None: the machine does not exist."""
    current = etag(machine, now) if machine else None
    wanted, unwanted = (request.headers.get(name) for name in ("if-match", "if-none-match"))
    if wanted is not None and not _matches(wanted, current):
        raise Refused(412, "PreconditionFailed", f"The condition If-Match: {wanted} is not met.")
    if unwanted is not None and _matches(unwanted, current):
        raise Refused(412, "PreconditionFailed", f"The condition If-None-Match: {unwanted} is not met.")


def _matches(condition: str, current: str | None) -> bool:
    tags = {each.strip().removeprefix("W/") for each in condition.split(",")}
    return current is not None and ("*" in tags or current in tags)
