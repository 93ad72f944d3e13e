"""Panels over a census that is spread over the day: each machine's line comes at its own time.

Factors: how old the newest line of each machine is; machines that are gone, new, or counted twice; the time of the day
at which a person looks.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.results import build
from simulator.monitor import logs
from tests.monitoring.written import lines

NOW = datetime(2026, 11, 26, 0, 30, tzinfo=UTC)  # soon after midnight: few machines were counted on this day
COUNTED = ("'machine.counted'", "PatchMachines")
OVER_TIME = {"coverage", "proof", "history"}
SUMMED = {
    "nobody",
    "late",
    "needs-a-person",
    "machines",
    "by-state",
    "sla-by-image",
    "sla-by-owner",
    "support-by-image",
}
LISTED = {"nobody-list", "held", "census"}
WAITING = {"limits"}
# Each of these panels counts a machine of this kind.
EVERYWHERE = {
    "image": "/i",
    "owner": "shop",
    "patchers": "nobody",
    "state": "patched-by-nobody",
    "compliance": "late",
    "support_state": "Supported",
    "sla_days": 30.0,
}


def census(*written: tuple[str, float], **fields: Mapping[str, Any]) -> logs.Workspace:
    """The workspace at NOW, with one line per name and its age in hours. `fields`: what differs, by name."""
    oldest_first = sorted(written, key=lambda line: -line[1])
    tables = lines(
        *(
            ("machine.counted", {"machine": f"/subscriptions/s/{name}", **EVERYWHERE, **fields.get(name, {})})
            for name, _ in oldest_first
        )
    )
    for row, (_, hours) in zip(tables["AppTraces"], oldest_first, strict=True):
        at = NOW - timedelta(hours=hours)
        row["TimeGenerated"] = at.isoformat(timespec="microseconds").replace("+00:00", "0Z")
    return logs.Workspace(tables, NOW)


def ask(name: str, workspace: logs.Workspace) -> list[dict[str, Any]]:
    return workspace.ask(build.text_of("panels", name))


def fleet(hours: Iterable[float]) -> list[tuple[str, float]]:
    return [(f"m{number}", age) for number, age in enumerate(hours)]


SPREAD = fleet(range(24))
CASES: Mapping[str, tuple[list[tuple[str, float]], int]] = {
    "each at its own hour, the oldest line 23 hours old": (SPREAD, 24),
    "on the second day each has two lines": (SPREAD + fleet(range(24, 48)), 24),
    "the sweep that counts a machine comes late": ([("m0", 25.5)], 1),
    "a machine was deleted after it was counted, and is counted no more": ([*SPREAD[:5], ("deleted", 27)], 5),
    "the first day: the first sweep counted all at once": (fleet([3] * 24), 24),
    "the first day: later sweeps count some of them again": (fleet([3] * 24) + SPREAD[:3], 24),
    "a sweep was killed, and the next one counted its share again": ([("m0", 5), ("m0", 4.9), ("m1", 4.9)], 2),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", sorted(SUMMED | LISTED))
def test_a_panel_of_the_fleet_counts_each_machine_once_by_its_newest_line(name: str, case: str) -> None:
    written, machines = CASES[case]
    rows = ask(name, census(*written))
    assert (sum(row["machines"] for row in rows) if name in SUMMED else len(rows)) == machines


def test_every_panel_over_the_census_is_one_of_these() -> None:
    panels = {panel.name for _, panels in build.TABS.values() for panel in panels}
    over = {name for name in panels if any(each in build.text_of("panels", name) for each in COUNTED)}
    assert over == SUMMED | LISTED | WAITING | OVER_TIME


def test_a_point_of_the_coverage_is_of_the_whole_fleet_at_any_time_of_the_day() -> None:
    two_days = SPREAD + fleet(range(24, 48))
    rows = ask("coverage", census(*two_days, **{f"m{number}": {"compliance": "within"} for number in range(1, 24)}))
    assert [row["within_sla_percent"] for row in rows] == [pytest.approx(100 * 23 / 24)] * 2
    assert [row["day"][:16] for row in rows] == ["2026-11-25T00:30", "2026-11-26T00:30"]


def test_a_deleted_machine_is_in_the_coverage_of_the_days_on_which_it_was_counted() -> None:
    rows = ask("coverage", census(*SPREAD, ("deleted", 27), deleted={"patchers": "us"}))
    assert [row["with_patcher_percent"] for row in rows] == [100, 0]


def test_the_proof_has_every_day_of_a_machine_whenever_it_is_counted() -> None:
    rows = ask("proof", census(*SPREAD, *fleet(range(24, 48))))
    assert {(row["days"], row["late"]) for row in rows} == {(2, 2)}
    assert len(rows) == 24


def test_the_workbook_names_no_time_of_the_day_for_the_census() -> None:
    assert "midnight" not in (logs.RESULTS / "workbook.json").read_text(encoding="utf-8")
