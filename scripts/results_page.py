"""Fills docs/results.md: `python -m scripts.results_page`.

The page is written by hand except for the blocks between `<!-- rows: NAME -->` and `<!-- end -->`. Each block contains
the query of that panel (infra/results/panels) and the rows that it returns for the recorded run of the demo, or of a
bad day. A test compares the committed page with this script's output.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from simulator.arm.shapes import SUBSCRIPTION
from simulator.monitor import logs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
RECORDED = ROOT / "tests" / "recordings"
MAX_ROWS = 9
MAX_CHARACTERS = 70
_ONE = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg-office/providers/microsoft.compute/virtualmachines/apt-broken"
_PATCH = "libsecurity0"
_BLOCK = re.compile(r"(<!-- rows: ([\w-]+)(?: (in flight|on a bad day))? -->\n).*?(<!-- end -->)", re.DOTALL)
# Long ids without use on this page; the name is in the same row.
_MARKS = re.compile(r"[\\`*\[\]<>|~]")  # what Markdown or HTML would take for its own
_LEFT_OUT = {"machine", "portal", "operation", "row_key"}


def filled(page: str) -> str:
    """The page with its blocks regenerated."""
    demo, bad_day = (
        logs.Workspace.after(logs.read(RECORDED / name)) for name in ("demo-logs.json.gz", "bad-day-logs.json.gz")
    )
    workspaces = {None: demo, "in flight": _busy(demo), "on a bad day": bad_day}
    return _BLOCK.sub(lambda match: f"{match[1]}{_block(match[2], workspaces[match[3]])}{match[4]}", page)


def _busy(demo: logs.Workspace) -> logs.Workspace:
    """The moment when the first installation had just started: at the end of the run nothing is in flight."""
    started = [row["TimeGenerated"] for row in demo.patch_events.rows if row["event"] == "installation.started"]
    return demo.until(datetime.fromisoformat(min(started)))


def _block(name: str, workspace: logs.Workspace) -> str:
    query = (logs.RESULTS / "panels" / f"{name}.kql").read_text(encoding="utf-8").strip()
    table = _table(workspace.ask(query, machine=_ONE, patch=_PATCH))
    return f"\n{table}\n\n<details><summary>query</summary>\n\n```kusto\n{query}\n```\n\n</details>\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    shown = rows[:MAX_ROWS]
    columns = [name for name in rows[0] if name not in _LEFT_OUT and any(row[name] not in (None, "") for row in shown)]
    lines = [columns, ["---"] * len(columns), *([_cell(row[name]) for name in columns] for row in shown)]
    more = len(rows) - len(shown)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + (f"\n\nand {more} more." if more else "")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    text = "" if value is None else " ".join(str(value).split())
    if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", text):
        return text[:19].replace("T", " ")
    text = text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
    return _MARKS.sub(r"\\\g<0>", text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
