"""Machines that the app started in a seed: what people do to them, what it must put back, and what it must not.

It looks at Azure's operations and at the time of the app's row, and not at the app's reasoning.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from functions.cloud.started import started_key
from functions.cloud.tables import Row
from functions.model.machine import MachineId
from simulator.world import Machine, Operation

# What was read this long before a POST may have changed since, and a POST may arrive late.
TOLERATED = timedelta(minutes=5)
# An operation that ends so soon after the app began its start cannot be distinguished from the start (docs/adr/0009).
LIKE_A_START = timedelta(minutes=20)
# Nor can one that ends within a patch operation, or so close to it, be distinguished from that.
CLOSE = timedelta(minutes=2)
# What people do to a machine that the app has just started.
MEDDLING = (("restart",), ("redeploy",), ("start",), ("deallocate",), ("deallocate", "start"))
MEDDLERS = 0.4  # of the starts are followed by it


class Starts:
    """The app's calls that start and deallocate a machine, as they reached Azure."""

    def __init__(self) -> None:
        self.ours: set[str] = set()  # operation ids

    def objection(self, call: Operation, machine: Machine, *, changes: Iterable[Operation], row: Row | None) -> str:
        """Why the app must not deallocate the machine: another worked on it since, or the app did not start it.

        `row`: the app's row of the start. "": it may.
        """
        if row is None:
            return "the app keeps no row of having started it"
        at = datetime.fromisoformat(str(row.columns["at"]))
        others = [each for each in self._by_others(machine, changes) if _end(each) < call.started - TOLERATED]
        since = [each for each in others if _end(each) > at + LIKE_A_START]
        if since and not _within_a_patch_operation(machine, _end(since[-1])):
            return f"the {since[-1].kind} that ended {_end(since[-1]):%m-%d %H:%M:%S} is a person's"
        return ""

    def forgotten(self, machine: Machine, changes: Iterable[Operation], now: datetime) -> Operation | None:
        """The start of the app that no operation has put back: none of the machine's operations is later."""
        known = [each for each in changes if each.vm_id == machine.vm_id]
        ours = [each for each in known if each.operation_id in self.ours and each.kind == "start"]
        if not ours or machine.power_at(now) != "running":
            return None
        if machine.power_at(ours[-1].started - timedelta(seconds=1)) != "deallocated":
            return None  # another was first
        later = any(_end(each) > ours[-1].started for each in self._by_others(machine, known))
        return None if later else ours[-1]

    def _by_others(self, machine: Machine, changes: Iterable[Operation]) -> Iterator[Operation]:
        return (each for each in changes if each.vm_id == machine.vm_id and each.operation_id not in self.ours)


def meddling(rng: random.Random) -> list[tuple[float, str]]:
    """What a person does to a machine after the app started it: seconds since, and what."""
    if rng.random() >= MEDDLERS:
        return []
    kinds, first = rng.choice(MEDDLING), rng.uniform(60, 5400)
    return [(first + number * rng.uniform(60, 1800), kind) for number, kind in enumerate(kinds)]


def key_of_start(machine: Machine) -> str:
    """RowKey of the app's row of the start."""
    return started_key(MachineId.parse(machine.id))


def _end(operation: Operation) -> datetime:
    return operation.ends or operation.started


def _within_a_patch_operation(machine: Machine, moment: datetime) -> bool:
    return any(
        each.started - CLOSE <= moment <= (each.ends or moment) + CLOSE
        for each in machine.operations
        if each.kind in ("assess", "install")
    )
