"""What Resource Manager knows: the world, and around it rights, locks, quotas and addresses.

The pipelines read and change it. `simulator.azure.Azure` is this state with a handler and a driver for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from simulator.arm.quotas import Quotas
from simulator.behaviour import Grant, Limits, Lock, Timings
from simulator.world import World

HOST = "management.azure.com"
AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")


class PermissionCheck(NamedTuple):
    """A permission that a request needed, or that Resource Graph needed to show a row."""

    client_id: str
    action: str
    scope: str


class State:
    """Change `limits`, `grants` and `locks` at will while Azure runs."""

    def __init__(self, now: Callable[[], datetime], timings: Timings, *, limits: Limits, seed: int) -> None:
        self.now = now
        self.world = World(now, timings, limits=limits, seed=seed)
        self.quotas = Quotas(now)
        # What the times of a token are held against, in seconds of the epoch.
        self.token_seconds: Callable[[], float] = lambda: self.now().timestamp()
        self.grants: list[Grant] = [Grant()]
        self.locks: list[Lock] = []
        self.principals: dict[str, str] = {}  # object id by client id, of the identities that roles are assigned to
        self.permission_checks: dict[PermissionCheck, bool] = {}  # whether the last check was granted
        self.hosts: set[str] = {HOST}
        self.audiences: set[str] = set(AUDIENCES)

    @property
    def limits(self) -> Limits:
        return self.world.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.world.limits = limits
