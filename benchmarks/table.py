"""The rows of the table: what each measures and its goal, and how results become text and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.processes import Figures
from benchmarks.rounds import Round, Spread, spread


@dataclass(frozen=True)
class Row:
    """One row: what it measures, the highest ratio that is good enough, and the unit of both figures.

    Of an absolute row the reference is 1, and the ratio is the figure itself.
    """

    name: str
    what: str
    goal: float
    unit: str


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row("index_cpu", "importing function_app and listing its functions ÷ import azure.functions", 1.20, "s"),
        Row("first_event_cpu", "process start to the first assessment accepted ÷ import azure.functions", 3.3, "s"),
        Row("first_event_vs_custodian", "the same ÷ c7n_azure ready for virtual machines", 0.40, "s"),
        Row("first_event_rss", "peak memory then ÷ interpreter with azure.functions", 2.7, "MB"),
        Row("start_ops_cpu", "CPU per assessment started ÷ raw aiohttp doing the same POST", 2.0, "ms"),
        Row("burst_32_cpu", "32 first operations at once ÷ raw aiohttp", 1.5, "ms"),
        Row("sweep_read", "reading Graph rows into machines ÷ aiohttp + json + dataclass", 1.0, "µs/row"),
        Row("sweep_decide", "deciding those machines ÷ the same reference", 1.0, "µs/row"),
        Row("sweep_rss_growth", "peak memory of a sweep, all due: ten times the machines ÷ these", 1.5, "MB"),
        Row("idle_sweep_pages", "Graph pages of a sweep with nothing due: a large fleet ÷ a small one", 1.0, "pages"),
        Row("plan_growth", "CPU of the plan: four times machines, images and rows ÷ these", 4.6, "s"),
        Row("ledger_moves", "insert, replace, get and delete of one row ÷ raw aiohttp", 2.0, "ms"),
        Row("ledger_calls", "storage transactions of one machine's life", 16, "calls"),
        Row("storm_10000", "events at once in one process: median latency ÷ last latency", 0.6, "s"),
        Row("drain_5000", "simulated time to assess a bucket's machines ÷ the quota's floor", 1.03, "min"),
        Row("drain_429_percent", "share of those calls that Azure answered 429", 0, "%"),
        Row("created_to_patched", "p95 from due to installation started ÷ assessment + lag + one sweep", 1.10, "min"),
        Row("readonly_import", "import of the package, new times, read-only ÷ warm import", 1.15, "s"),
        Row("package_zip_mb", "deployed zip without bytecode, dependencies included", 11, "MB"),
        Row("telemetry_kb_machine_month", "sent to Application Insights per machine and month", 140, "kB"),
        Row("telemetry_rest_mb_day", "the same per day for a fleet at rest, without the census", 2, "MB"),
        Row("memory_mb", "peak memory of the worker, a sweep and its census, 20,000 machines all due", 150, "MB"),
        Row("memory_mb_100000", "the same with 100,000 machines", 250, "MB"),
        Row("sweep_whole", "CPU of a whole sweep without census, all due ÷ the reference of sweep_read", 2.0, "s"),
        Row("sweep_whole_census", "the same with the whole census in it", 6.0, "s"),
        Row("simulated_graph", "simulator: the app's query for due machines ÷ writing its rows as JSON", 10, "s"),
    )
}


@dataclass(frozen=True)
class Result:
    """What was measured for a row. `ratio` is over its rounds; `control` is that of the reference over itself."""

    row: Row
    ours: float
    reference: float
    ratio: Spread
    control: Spread | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        return self.ratio.median <= self.row.goal

    def as_json(self) -> dict[str, Any]:
        """`ours`, `reference`, `ratio`, `goal`, and how far the rounds lie apart."""
        spread_of = {"least": self.ratio.least, "most": self.ratio.most}
        control = {"control": list(self.control)} if self.control else {}
        figures = {"ours": self.ours, "reference": self.reference, "ratio": self.ratio.median, "goal": self.row.goal}
        note = {"note": self.note} if self.note else {}
        return {**figures, **spread_of, **control, "unit": self.row.unit, **note}


def compared(
    name: str, rounds: Sequence[Round], *, figure: str = "cpu", against: str = "", scale: float = 1.0, note: str = ""
) -> Result:
    """The result of a row from its rounds: `figure` of ours ÷ `against` (the same figure) of the reference.

    `scale` turns the figures into the row's unit.
    """
    against = against or figure
    ours, reference = [each.ours[figure] for each in rounds], [each.reference[against] for each in rounds]
    return Result(
        ROWS[name],
        median(ours) * scale,
        median(reference) * scale,
        spread([mine / theirs for mine, theirs in zip(ours, reference, strict=True)]),
        spread([each.control[against] / each.reference[against] for each in rounds]),
        note,
    )


def within(name: str, runs: Sequence[Figures], *, figure: str, against: str, note: str = "") -> Result:
    """The result of a row whose two figures come from the same run."""
    return Result(
        ROWS[name],
        median(each[figure] for each in runs),
        median(each[against] for each in runs),
        spread([each[figure] / each[against] for each in runs]),
        note=note,
    )


def absolute(name: str, values: Sequence[float], *, note: str = "") -> Result:
    """The result of a row that has no reference."""
    found = spread(values)
    return Result(ROWS[name], found.median, 1.0, found, note=note)


def ratio(name: str, ours: float, reference: float, *, note: str = "") -> Result:
    """The result of a row that is counted or simulated, and so the same each time."""
    value = ours / reference
    return Result(ROWS[name], ours, reference, Spread(value, value, value), note=note)


HEADING = ("row", "ours", "reference", "unit", "ratio", "least..most", "A/A", "goal", "met")


def cells(result: Result) -> tuple[str, ...]:
    """One line of the table."""
    alone = result.reference == 1.0 and result.control is None
    return (
        result.row.name,
        number(result.ours),
        "–" if alone else number(result.reference),
        result.row.unit,
        number(result.ratio.median),
        f"{number(result.ratio.least)}..{number(result.ratio.most)}",
        f"{number(result.control.least)}..{number(result.control.most)}" if result.control else "–",
        f"≤ {result.row.goal:g}",
        "yes" if result.met else "NO",
    )


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_text(results: Iterable[Result]) -> str:
    """The table for a terminal."""
    return columns([HEADING, *map(cells, results)])


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_json(results: Iterable[Result], kept: Mapping[str, Any] | None = None) -> str:
    """The content of bench.json: by row, in the order of the table. `kept`: rows of an earlier run."""
    found = {**(kept or {}), **{each.row.name: each.as_json() for each in results}}
    return json.dumps({name: found[name] for name in ROWS if name in found}, indent=2, ensure_ascii=False) + "\n"
