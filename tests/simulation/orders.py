"""Runs on demand in a seed: what people ordered, until when, and what that excuses, independent of the app's rules."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from functions.model.machine import MachineId
from functions.model.run import Run
from functions.model.state import OperationKind
from simulator.world import Machine

# What was read this long before a POST may have changed since, and a POST may arrive late.
TOLERATED = timedelta(minutes=5)


def draw(rng: random.Random, number: int, machines: tuple[MachineId, ...], *, now: datetime) -> Run:
    """A run over some of these machines, in the words of its row."""
    begins = now + timedelta(hours=rng.uniform(0.2, 3)) if rng.random() < 0.2 else None
    return Run(
        id=f"{number}",
        kind=rng.choice((OperationKind.INSTALL, OperationKind.INSTALL, OperationKind.ASSESS)),
        machines=tuple(rng.sample(machines, min(len(machines), rng.choice((1, 2, 5, 20))))),
        reason="looking",
        by="a person",
        opened=now,
        until=now + timedelta(hours=rng.uniform(2, 24)),
        at=begins,
        ignore_window=rng.random() < 0.5,
        canaries=rng.choice((0, 0, 1)),
        bake=timedelta(hours=rng.choice((0, 1))),
    )


class Orders:
    """Every run that was ordered, as it stands."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.installed: Counter[tuple[str, str]] = Counter()  # (run, vm id) → installations
        self.operations: set[str] = set()  # installations that runs ordered

    def stop(self, run_id: str, now: datetime) -> Run:
        self.runs[run_id] = replace(self.runs[run_id], stopped=now, stopped_by="a person", stopped_because="enough")
        return self.runs[run_id]

    def excusing_window(self, machine: Machine, at: datetime) -> Iterator[Run]:
        """The runs by which this machine may be installed at this moment, whatever its window."""
        return (run for run in self.runs.values() if run.ignore_window and may_install(run, machine, at))

    def objections(self, run_id: str, machine: Machine, at: datetime) -> Iterator[str]:
        """Why this run must not have the machine installed at this moment."""
        if (run := self.runs.get(run_id)) is None or not may_install(run, machine, at):
            yield f"run {run_id} did not want it"
        if self.installed[run_id, machine.vm_id] > 1:
            yield f"run {run_id} had it installed before"


def may_install(run: Run, machine: Machine, at: datetime) -> bool:
    begins, ends = run.at or run.opened, min(run.until, run.stopped or run.until)
    named = str(machine.id).lower() in map(str, run.machines) and machine.created <= run.opened
    return run.kind is OperationKind.INSTALL and named and begins <= at <= ends + TOLERATED
