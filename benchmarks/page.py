"""Fills docs/performance.md from bench.json and bench-scale.json, and draws its plot: `python -m benchmarks.page`.

The page is written by hand except for the blocks between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import scale
from benchmarks.plot import svg
from benchmarks.processes import REPOSITORY
from benchmarks.table import ROWS, number

PAGE = REPOSITORY / "docs" / "performance.md"
PLOT = REPOSITORY / "docs" / "performance.svg"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Cells = Sequence[Sequence[str]]


def filled(page: str, tables: Mapping[str, Callable[[], Cells]]) -> str:
    """The page with these tables in their blocks; a block without a table stays as it is."""

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}{markdown(tables[match[2]]())}{match[3]}" if match[2] in tables else match[0]

    return _BLOCK.sub(block, page)


def markdown(lines: Cells) -> str:
    """A table; its first line is the head."""
    head, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *rest))


def measured(bench: Mapping[str, Any]) -> Cells:
    """The rows of bench.json, each with what it is about."""
    head = ("row", "what", "ours", "reference", "unit", "ratio", "A/A", "goal", "met")
    return [head, *(_cells(name, bench[name]) for name in ROWS if name in bench)]


def _cells(name: str, figures: Mapping[str, Any]) -> Sequence[str]:
    row, control = ROWS[name], figures.get("control")
    note = f" ({figures['note']})" if "note" in figures else ""
    least, most = figures["least"], figures["most"]
    between = f" ({number(least)}..{number(most)})" if least < most else ""
    return (
        f"`{name}`",
        row.what + note,
        number(figures["ours"]),
        "–" if figures["reference"] == 1 else number(figures["reference"]),
        row.unit,
        f"{number(figures['ratio'])}{between}",
        f"{number(control[1])}..{number(control[2])}" if control else "–",
        f"≤ {row.goal:g}",
        "yes" if figures["ratio"] <= row.goal else "**no**",
    )


def plotted(sweeps: Sequence[scale.Sweep]) -> str:
    """Seconds of a sweep in Azure over the machines, by kind."""
    lines = {
        kind: [(each.machines, each.azure_seconds) for each in sweeps if each.kind == kind]
        for kind in dict.fromkeys(each.kind for each in sweeps)
    }
    title = "Seconds of one sweep in Azure, on paper from simulated CPU and queries"
    return svg(title, lines, limit=("functionTimeout", scale.FUNCTION_SECONDS), across="machines")


def main(folder: Path = REPOSITORY) -> int:
    bench, scaled = folder / "bench.json", folder / "bench-scale.json"
    tables: dict[str, Callable[[], Cells]] = {}
    if bench.exists():
        rows = json.loads(bench.read_text(encoding="utf-8"))
        tables["measured"] = lambda: measured(rows)
    if scaled.exists():
        sweeps = scale.from_json(json.loads(scaled.read_text(encoding="utf-8")))
        tables |= {"sweeps": lambda: scale.sweeps_table(sweeps), "days": lambda: scale.days_table(sweeps)}
        PLOT.write_text(plotted(sweeps), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
