"""`make bench SCALE=1`: sweeps and censuses of small and large fleets, and what a day of each costs on paper.

Simulated: CPU, memory, and the calls that a sweep makes. On paper: the time in Azure, where Resource Graph and not this
machine is what a sweep waits for, and the money. The assumptions are constants of this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from benchmarks import processes
from benchmarks.prepared import Prepared
from simulator.tls import Tls

FLEETS = (1_000, 10_000, 100_000)
IMAGES = 200

GRAPH_SECONDS = 0.5  # of one query; an assumption, as nothing here asks the real service
GRAPH_QUERIES_PER_SECOND = 3  # 15 in 5 s (Microsoft's guidance for throttled requests)
FUNCTION_SECONDS = 600  # functionTimeout in host.json
SWEEPS_PER_DAY = 288
INSTANCE_GB = 2
MESSAGE_SECONDS = 2  # of an event or message, counted as if each were alone (docs/costs.md)
# Per machine and day: an assessment, a weekly installation with the assessment after it, a third of an event.
OPERATIONS_PER_DAY = 1 + 2 / 7
EVENTS_PER_DAY = 1 / 3
ARM_PER_OPERATION = 4  # the machine, its group, the POST, the operation's end
STORAGE_PER_OPERATION = 9  # six of the row, and three for the message (docs/costs.md)
POLLS_PER_DAY = 4 * 8640  # four queues, every ten seconds
GB_SECOND, STORAGE_CALL = 0.000026, 0.0004 / 10_000  # US dollars (docs/costs.md)


@dataclass(frozen=True)
class Sweep:
    """One simulated sweep: CPU in seconds, memory in MB, and its calls."""

    machines: int
    kind: str  # "at rest", "all due" or "census": at rest with every machine counted
    cpu: float
    peak_mb: float
    graph: int
    arm: int
    storage: int
    lines: int

    @property
    def azure_seconds(self) -> float:
        """On paper: its CPU, and its queries one after the other, at the pace that Resource Graph allows."""
        return self.cpu + self.graph * max(GRAPH_SECONDS, 1 / GRAPH_QUERIES_PER_SECOND)


@dataclass(frozen=True)
class Day:
    """What a day of a fleet takes, on paper: its census spread over the day, every machine assessed."""

    machines: int
    graph: float
    arm: float
    storage: float
    gb_seconds: float
    dollars: float


async def simulate(tls: Tls, fleets: Sequence[int] = FLEETS) -> list[Sweep]:
    """Three sweeps of each fleet, each in a process of its own."""
    found = []
    for machines in fleets:
        for kind in ("at rest", "all due", "census"):
            found.append(await _simulated(tls, machines, kind))
    return found


async def _simulated(tls: Tls, machines: int, kind: str) -> Sweep:
    async with AsyncExitStack() as stack:
        azure = await stack.enter_async_context(Prepared(machines, IMAGES, due=kind == "all due").served(tls))
        empty = await stack.enter_async_context(Prepared().served(tls))
        given = azure.endpoint, empty.endpoint, kind == "census"
        run = await processes.run("sweeping.sweep", *given, environ=tls.settings())
    arm = azure.calls.pop("get", 0) + azure.calls.pop("post", 0)
    graph, storage, lines = azure.calls.total(), int(run["storage"]), int(run["lines"])
    return Sweep(machines, kind, run["cpu"], run["peak_mb"], graph, arm, storage, lines)


def days(sweeps: Sequence[Sweep]) -> list[Day]:
    """A day of each fleet."""
    by_kind = {(each.machines, each.kind): each for each in sweeps}
    return [
        _day(by_kind[machines, "at rest"], by_kind[machines, "census"])
        for machines, kind in by_kind
        if kind == "census"
    ]


def _day(rest: Sweep, census: Sweep) -> Day:
    machines = rest.machines
    operations, events = machines * OPERATIONS_PER_DAY, machines * EVENTS_PER_DAY
    seconds = SWEEPS_PER_DAY * rest.azure_seconds + (census.azure_seconds - rest.azure_seconds)
    gb_seconds = INSTANCE_GB * (seconds + MESSAGE_SECONDS * (operations + events))
    storage = POLLS_PER_DAY + SWEEPS_PER_DAY * rest.storage + STORAGE_PER_OPERATION * operations
    return Day(
        machines,
        graph=SWEEPS_PER_DAY * rest.graph + (census.graph - rest.graph),
        arm=ARM_PER_OPERATION * operations + 2 * events,
        storage=storage,
        gb_seconds=gb_seconds,
        dollars=gb_seconds * GB_SECOND + storage * STORAGE_CALL,
    )


def as_json(sweeps: Sequence[Sweep]) -> str:
    """The content of bench-scale.json."""
    return json.dumps([asdict(each) for each in sweeps], indent=2) + "\n"


def from_json(rows: Sequence[Mapping[str, object]]) -> list[Sweep]:
    """The sweeps of a bench-scale.json."""
    return [Sweep(**row) for row in rows]  # type: ignore[arg-type]


def sweeps_table(sweeps: Sequence[Sweep]) -> list[tuple[str, ...]]:
    """The rows of the table of sweeps, its head first."""
    head = ("machines", "sweep", "CPU s", "in Azure s", "Graph queries", "ARM calls", "storage calls", "lines", "MB")
    return [
        head,
        *(
            (
                f"{each.machines:,}",
                each.kind,
                f"{each.cpu:.1f}",
                f"{each.azure_seconds:.0f}",
                *(f"{count:,}" for count in (each.graph, each.arm, each.storage, each.lines)),
                f"{each.peak_mb:.0f}",
            )
            for each in sweeps
        ),
    ]


def days_table(sweeps: Sequence[Sweep]) -> list[tuple[str, ...]]:
    """The rows of the table of days, its head first."""
    head = ("machines", "Graph queries", "ARM calls", "storage calls", "GB-seconds", "US$ per day")
    return [
        head,
        *(
            (
                f"{each.machines:,}",
                *(f"{count:,.0f}" for count in (each.graph, each.arm, each.storage, each.gb_seconds)),
                f"{each.dollars:.2f}",
            )
            for each in days(sweeps)
        ),
    ]
