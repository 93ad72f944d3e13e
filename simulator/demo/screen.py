"""What a person sees of the demo: a live picture of the fleet, or plain lines without a terminal, and the verdict.

It shows the values that it receives. It starts nothing, reads nothing and decides nothing.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR_CELLS = 4  # two machines side by side fit 80 columns
_TICKER_LINES = 200  # kept; the screen shows as many as fit
_NARROW = 120  # columns; from here on the closing table says what each machine is
_WIDE = 150  # and from here on the live picture does

# A colour per kind of state: under way, done, left alone by design; any other needs a person.
_UNDER_WAY = {
    "creating",
    "due",
    "queued",
    "assessing",
    "installing",
    "confirming",
    "too-new",
    "building",
    "busy",
    "graph-behind",
}
_DONE = {"patched", "recently-patched", "assessed", "nothing-selected"}
_LEFT_ALONE = {
    "opted-out",
    "on-hold",
    "managed-elsewhere",
    "scheduled-elsewhere",
    "marketplace",
    "gone",
    "out-of-scope",
}


@dataclass(frozen=True)
class Row:
    """One machine at one moment."""

    name: str
    description: str
    state: str
    reason: str = ""
    remedy: str = ""
    assessments: int = 0
    installations: int = 0
    progress: float | None = None  # of the operation that runs now, 0 to 1


@dataclass(frozen=True)
class Line:
    """One event of the app's log, ready to be shown."""

    seconds: float
    machine: str
    event: str
    detail: str = ""
    level: str = "Information"


@dataclass(frozen=True)
class Numbers:
    """What the counters show."""

    seconds: float
    as_expected: int  # machines
    running: Mapping[str, int] = field(default_factory=dict)  # operations under way, by kind
    done: Mapping[str, int] = field(default_factory=dict)  # operations ended, by kind
    cap: str = ""
    refused: int = 0
    quota: int = 0  # tokens of a region's patch quota when it is full
    quota_left: int = 0  # the fewest that were left in any region
    calls: int = 0
    sweeps: int = 0
    notices: int = 0  # that the topic took


@dataclass(frozen=True)
class Verdict:
    """One machine at the end, and what was expected ("" when it is as expected)."""

    row: Row
    expected: str = ""


class Screen(Protocol):
    """Shows a run while it goes on. A context manager: a live picture must be removed at the end."""

    def __enter__(self) -> Screen: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, rows: Sequence[Row], numbers: Numbers, news: Sequence[Line]) -> None: ...


def for_people() -> bool:
    """Whether the output is a terminal. NO_COLOR and CI ask for plain lines."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and not os.environ.get("CI")


def make(console: Console) -> Screen:
    return LiveScreen(console) if for_people() else PlainScreen()


class PlainScreen:
    """One line per change of a machine's state."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to remove."""

    def show(self, rows: Sequence[Row], numbers: Numbers, news: Sequence[Line]) -> None:
        for row in rows:
            if self._states.get(row.name) != row.state:
                self._states[row.name] = row.state
                print(f"{numbers.seconds:6.1f} s  {row.name:<14} {row.state:<20} {row.reason}".rstrip(), flush=True)


class LiveScreen:
    """A picture of the whole fleet, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._ticker: deque[Line] = deque(maxlen=_TICKER_LINES)
        self._frame = 0

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, rows: Sequence[Row], numbers: Numbers, news: Sequence[Line]) -> None:
        self._ticker.extend(news)
        self._frame += 1
        self._live.update(self._picture(rows, numbers), refresh=True)

    def _picture(self, rows: Sequence[Row], numbers: Numbers) -> RenderableType:
        columns = 2
        lines = -(-len(rows) // columns)
        fleet = Table.grid(padding=(0, 1), expand=self._console.width >= _WIDE)
        for _ in range(columns):
            for column in _columns_of_a_row(self._console.width):
                fleet.add_column(**column)
        for index in range(lines):
            cells: list[Text] = []
            for row in rows[index::lines]:
                cells += self._cells(row)
            fleet.add_row(*cells)
        above = [_headline(rows, numbers), _counters(numbers), fleet]
        room = self._console.height - lines - 5
        return Group(*above, Text(""), self._news(room)) if room > 0 else Group(*above)

    def _cells(self, row: Row) -> list[Text]:
        style = _style(row.state)
        cells = [Text(row.name, style="bold"), Text(row.state, style=style), self._work(row)]
        if self._console.width >= _WIDE:
            cells.insert(1, Text(row.description, style="dim"))
        return cells

    def _work(self, row: Row) -> Text:
        """A bar for the running operation; otherwise A per assessment and I per installation."""
        if row.progress is None:
            return Text(f"{'A' * min(row.assessments, 4)}{'I' * row.installations}".ljust(_BAR_CELLS), style="dim")
        full = round(row.progress * _BAR_CELLS)
        style = "magenta" if row.state == "installing" else "cyan"
        return Text("━" * full, style=style) + Text("─" * (_BAR_CELLS - full), style="dim")

    def _news(self, room: int) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        for width in (7, 14, 22):
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for line in list(self._ticker)[-room:]:
            style = {"Warning": "yellow", "Error": "red"}.get(line.level, "")
            table.add_row(
                Text(f"{line.seconds:.1f} s", style="dim", justify="right"),
                Text(line.machine, style="bold"),
                Text(line.event, style=style),
                Text(line.detail, style="dim"),
            )
        return table


def _columns_of_a_row(width: int) -> list[dict[str, Any]]:
    fixed: list[dict[str, Any]] = [
        {"width": 13, "no_wrap": True},
        {"width": 20, "no_wrap": True},
        {"width": _BAR_CELLS, "no_wrap": True, "overflow": "crop"},
    ]
    if width >= _WIDE:
        fixed.insert(1, {"ratio": 1, "no_wrap": True, "overflow": "ellipsis"})
    return fixed


def _style(state: str) -> str:
    if state in ("assessing", "installing"):
        return "cyan" if state == "assessing" else "magenta"
    if state in _DONE:
        return "green"
    if state in _LEFT_ALONE:
        return "blue"
    return "dim" if state in _UNDER_WAY else "yellow"


def _headline(rows: Sequence[Row], numbers: Numbers) -> RenderableType:
    progress = f"  {numbers.seconds:4.0f} s   {numbers.as_expected} of {len(rows)} machines as expected   "
    counted = Counter(row.state for row in rows)
    patched = (f"{counted['patched']} patched", "green")
    return Text.assemble(("Image Patcher", "bold"), progress, patched, f"   {numbers.notices} notices")


def _counters(numbers: Numbers) -> RenderableType:
    """They say what A, I and a bar beside a machine mean, too."""
    running, done = numbers.running, numbers.done
    operations = (
        f"assessments {running.get('assess', 0)} ━──, {done.get('assess', 0)} done (A)",
        f"installations {running.get('install', 0)} ━── of {numbers.cap}, {done.get('install', 0)} done (I)",
    )
    traffic = (
        f"timer runs {numbers.sweeps}",
        f"calls to Azure {numbers.calls}, {numbers.refused} refused",
        f"{numbers.quota_left} of {numbers.quota} patch calls left",
    )
    return Text("\n".join(" · ".join(parts) for parts in (operations, traffic)), style="dim", no_wrap=True)


# -- the end


def conclude(console: Console, verdicts: Sequence[Verdict], told: str) -> None:
    """The table of every machine, and the last lines. `told`: what the topic of notices took."""
    if for_people():
        console.print(_table(verdicts, console.width))
        console.print(Text("a/i: assessments and installations in Azure, by any client", style="dim"))
    else:
        _plain_table(verdicts)
    wrong = [verdict for verdict in verdicts if verdict.expected]
    for verdict in wrong:
        row = verdict.row
        print(
            f"not as expected: {row.name}: {row.state}, {_operations(row)} ({row.reason}); expected {verdict.expected}"
        )
    print(f"\ndemo: {len(verdicts) - len(wrong)} as expected, {len(wrong)} not")
    print("\n".join(summary(verdicts, told, console.width)), flush=True)


def summary(verdicts: Sequence[Verdict], told: str, width: int) -> list[str]:
    """A line per state: how many machines are in it, and what it means for the first of them. Then `told`."""
    rows: dict[str, list[Row]] = {}
    for verdict in verdicts:
        rows.setdefault(verdict.row.state, []).append(verdict.row)
    by_number = sorted(rows.items(), key=lambda item: -len(item[1]))
    lines = (f"{len(items):4} {state:<20}  {items[0].reason}" for state, items in by_number)
    return [line if len(line) <= width else f"{line[: width - 1]}…" for line in [*lines, told]]


def _operations(row: Row) -> str:
    return f"{_count(row.assessments, 'assessment')}, {_count(row.installations, 'installation')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(verdicts: Sequence[Verdict], width: int) -> RenderableType:
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
    table.add_column("")
    table.add_column("machine", no_wrap=True)
    if width >= _NARROW:
        table.add_column("what it is", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("a/i", no_wrap=True)
    table.add_column("reason → remedy", ratio=1)
    for verdict in verdicts:
        row = verdict.row
        reason = Text(row.reason) + Text(f" → {row.remedy}" if row.remedy else "", style="dim")
        cells: list[RenderableType] = [
            Text("✗", style="red") if verdict.expected else Text("✓", style="green"),
            Text(row.name, style="bold"),
            Text(row.state, style=_style(row.state)),
            Text(f"{row.assessments}/{row.installations}"),
            reason,
        ]
        if width >= _NARROW:
            cells.insert(2, Text(row.description, style="dim"))
        table.add_row(*cells)
    return table


def _plain_table(verdicts: Sequence[Verdict]) -> None:
    print()
    for verdict in verdicts:
        row = verdict.row
        mark = "not" if verdict.expected else "ok"
        remedy = f" → {row.remedy}" if row.remedy else ""
        print(f"{mark:<3} {row.name:<14} {row.state:<20} {row.assessments}/{row.installations}  {row.reason}{remedy}")
