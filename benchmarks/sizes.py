"""How much each measurement does: in full, as a short form for CI, and as little as shows that the harness works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Counts of rounds, operations and machines. The goals hold for the full ones."""

    rounds: int = 5
    noisy: int = 3  # times as many where a run is short, and so noisy
    starts: int = 2000  # operations of start_ops_cpu
    burst: int = 32
    graph_rows: int = 100_000  # of sweep_read and sweep_decide
    fleet: int = 20_000  # of sweep_whole and memory_mb
    large_fleet: int = 100_000  # of memory_mb_100000 and sweep_rss_growth, which divides it by ten
    idle_fleets: tuple[int, int] = (1000, 100_000)
    plan: int = 5000  # machines of the smaller plan
    ledger_rows: int = 500
    lives: tuple[int, int] = (20, 100)  # machines whose storage calls are counted
    storm: int = 10_000
    drain: int = 5000
    created: int = 500
    months: tuple[int, int] = (10, 30)  # machines whose log is counted
    rest_images: int = 200


FULL = Sizes()
SHORT = Sizes(
    rounds=1,
    noisy=2,
    starts=200,
    graph_rows=2000,
    fleet=1000,
    large_fleet=2000,
    idle_fleets=(50, 500),
    plan=500,
    ledger_rows=60,
    lives=(4, 12),
    storm=200,
    drain=600,
    created=100,
    months=(2, 4),
    rest_images=50,
)
TINY = Sizes(
    rounds=1,
    noisy=1,
    starts=8,
    burst=4,
    graph_rows=20,
    fleet=40,
    large_fleet=40,
    idle_fleets=(4, 8),
    plan=20,
    ledger_rows=2,
    lives=(1, 2),
    storm=8,
    drain=310,
    created=8,
    months=(1, 2),
    rest_images=2,
)
