"""An answer on the screen: tables for people, one JSON object for programs, progress on stderr."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from functions.policy.settings import Settings
from functions.policy.windows import ANY, Windows

SCHEMA = 1  # of --json: schema.json beside this file. A field may be added; another change is another number
WHOLE = ("run", "machine", "opening", "rollout")  # columns of what people copy: the others make room for them
WIDE = 160  # columns where there is no terminal to ask

Json = Mapping[str, Any]  # Any: what json.dumps takes


@dataclass(frozen=True)
class Answer:
    """What a question found. `result` for programs, `shown` for people, in this order."""

    result: Json
    shown: Sequence[RenderableType]
    needs_a_person: bool = False  # where that is the question: the exit code is 1
    is_final: bool = True  # read again, it will be the same
    raw: str = ""  # written as it stands in place of `shown`: an export


@dataclass
class Screen:
    """Where answers go."""

    as_json: bool = False
    out: Console = field(init=False)
    err: Console = field(init=False)

    def __post_init__(self) -> None:
        # rich itself honours NO_COLOR, TERM=dumb and a missing terminal.
        self.out = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, soft_wrap=False)
        self.err = Console(stderr=True, highlight=False)

    def show(self, command: str, answer: Answer, *, app: str, at: datetime, problems: Iterable[str]) -> None:
        """`problems`: what could not be read on the way."""
        problems = list(problems)
        if self.as_json:
            envelope = {"schema": SCHEMA, "command": command, "app": app, "at": at, "problems": problems}
            sys.stdout.write(f"{as_json({**envelope, 'result': answer.result})}\n")
            return
        if answer.raw:
            sys.stdout.write(answer.raw)
        for part in () if answer.raw else answer.shown:
            self.out.print(part, soft_wrap=isinstance(part, Text))  # a command on a line of its own can be copied
        for line in problems:
            self.say(f"not read: {line}")

    def preview(self, parts: Iterable[RenderableType]) -> None:
        """What a person has to know before something is done: on stderr where stdout is for a program."""
        if self.as_json and not self.err.is_terminal:
            return
        console = self.err if self.as_json else self.out
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text))

    @contextmanager
    def live(self) -> Iterator[Callable[[Answer], None]]:
        """Shows answers in one place, the newest instead of the last, where a person sits before it."""
        if self.as_json or not self.out.is_terminal:
            yield lambda answer: None
            return
        with Live(console=self.out, transient=True, auto_refresh=False) as live:
            yield lambda answer: live.update(Group(*answer.shown), refresh=True)

    def say(self, line: str) -> None:
        """One line on stderr."""
        self.err.print(Text(line), soft_wrap=True)

    @contextmanager
    def progress(self, what: str) -> Iterator[None]:
        """Says on stderr what takes its time, if stderr is a terminal."""
        if not self.err.is_terminal:
            yield
            return
        with self.err.status(what):
            yield


def as_json(value: object, indent: int | None = 2) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return str(value)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "none"
) -> RenderableType:
    """A table for people; one line where it would have no row."""
    rows = list(rows)
    if not rows:
        return Text(f"{title}: {empty}")
    shown = Table(box=None, pad_edge=False, header_style="dim", show_header=any(columns))
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=column in WHOLE)
    for row in rows:
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return Group(Text(f"\n{title}", "bold"), shown)


def count_of(machines: int) -> str:
    """So many machines, in words."""
    return f"{machines:,} machine{'' if machines == 1 else 's'}"


def line(name: str, text: str, style: str = "") -> Text:
    """`name` and what is to be said of it."""
    return Text.assemble((f"{name:<18}", "dim"), (text, style))


def as_csv(rows: Iterable[Json], columns: Sequence[str]) -> str:
    """The rows under the names of their columns. A cell that a spreadsheet would take for a formula is quoted."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t")) else value
    return "" if value is None else _plain(value) if isinstance(value, datetime) else value


@dataclass(frozen=True)
class Clock:
    """Tells a moment to people: by a clock in the zone of the app's window."""

    windows: Windows

    @property
    def zone(self) -> str:
        return next((window.zone for group in self.windows.groups for window in group), "UTC")

    def __call__(self, moment: datetime | None) -> str:
        return self.windows.shown(moment).partition(f" {self.zone}")[0] if moment else "–"


def clock_of(settings: Settings) -> Clock:
    return Clock(settings.window or ANY)


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that says something."""
    return "–" if moment is None else lasting(now - moment)


def lasting(span: timedelta) -> str:
    """So long, in the largest unit that says something."""
    seconds = int(span.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"
