"""Faults that a test injects: which requests go wrong, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from simulator.wire import Json, Request, Response

_INTERNAL_ERROR: Json = {"error": {"code": "InternalServerError", "message": "Injected by a fault."}}


@dataclass
class Fault:
    """Something goes wrong with the next `times` requests that match (None: with all of them).

    `drop`: with "before" the connection is refused and nothing happened; with "after" the server acts and its answer is
    lost. With a `status` the server answers that instead of acting. A delay alone only waits.
    """

    method: str = ".*"
    path: str = ".*"  # searched for in the path without its query, whatever the letter case
    times: int | None = 1
    status: int | None = None
    drop: Literal["before", "after"] | None = None
    body: Json | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: float = 0
    hits: int = 0

    def matches(self, request: Request) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        method = re.fullmatch(self.method, request.method, re.IGNORECASE)
        return bool(method and re.search(self.path, request.path, re.IGNORECASE))

    def response(self) -> Response | None:
        """What the server answers instead of acting; None: it acts."""
        if self.status is None:
            return None
        return Response(self.status, self.body or _INTERNAL_ERROR, self.headers)


NO_FAULT = Fault(times=0)


class Faults(list[Fault]):
    """The faults in the order in which they were added."""

    def add(self, fault: Fault) -> Fault:
        self.append(fault)
        return fault

    def take(self, request: Request) -> Fault:
        """The first fault that matches, which counts this hit; NO_FAULT if none does."""
        for fault in self:
            if fault.matches(request):
                fault.hits += 1
                return fault
        return NO_FAULT
