"""The harness of `make bench` works: every group runs, and bench.json has its shape. No time is asserted."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import page, scale
from benchmarks.__main__ import chosen_of, groups, main, measure
from benchmarks.rounds import in_turns, spread
from benchmarks.sizes import TINY
from benchmarks.table import HEADING, ROWS, Result, absolute, as_json, as_text, compared
from simulator.tls import Tls

GROUPS = groups(None)
# A month of simulated time takes a minute even for one machine.
QUICK = [name for name in GROUPS if name != "month"]
OPTIONAL = {"first_event_vs_custodian"}


def test_every_row_of_the_table_has_one_group() -> None:
    given = [row for rows, _ in GROUPS.values() for row in rows]
    assert sorted(given) == sorted(ROWS)


@pytest.mark.parametrize("name", QUICK)
async def test_a_group_measures_its_rows(name: str, tls: Tls) -> None:
    rows, group = GROUPS[name]
    told, found = list[str](), list[Result]()
    assert await measure({name: group}, TINY, tls, told=told.append, keep=found.extend) == [], told
    assert {each.row.name for each in found} | OPTIONAL == set(rows) | OPTIONAL
    for row, figures in json.loads(as_json(found)).items():
        assert {"ours", "reference", "ratio", "goal"} <= figures.keys(), row
        assert figures["goal"] == ROWS[row].goal
        assert figures["least"] <= figures["ratio"] <= figures["most"]
        assert figures["ours"] > 0 or row == "drain_429_percent"


async def test_rounds_run_in_turns_with_the_reference_twice() -> None:
    order: list[str] = []

    async def contender(name: str) -> Mapping[str, float]:
        order.append(name)
        return {"cpu": float(len(order))}

    rounds = await in_turns(2, lambda: contender("ours"), lambda: contender("reference"))
    assert order[1:] == ["reference", "ours", "reference"] * 2
    turns = [(each.reference["cpu"], each.ours["cpu"], each.control["cpu"]) for each in rounds]
    assert turns == [(2, 3, 4), (7, 6, 5)], "every other round runs backwards"


def test_a_ratio_is_the_median_over_rounds_and_the_control_is_the_reference_over_itself() -> None:
    async def figures(*values: float) -> Any:
        given = iter(values)

        async def next_one() -> Mapping[str, float]:
            return {"cpu": next(given)}

        return next_one

    async def rounds() -> Any:
        return await in_turns(1, await figures(9.0, 3.0), await figures(2.0, 1.0))

    result = compared("index_cpu", asyncio.run(rounds()), scale=1000)
    assert (result.ours, result.reference, result.ratio.median) == (3000, 2000, 1.5)
    assert result.control == spread([0.5])
    assert not result.met


def test_the_table_has_a_line_per_row_and_says_what_is_missed() -> None:
    lines = as_text([absolute("ledger_calls", [16.0]), absolute("package_zip_mb", [11.5])]).splitlines()
    assert [line.split()[0] for line in lines] == [HEADING[0], "ledger_calls", "package_zip_mb"]
    assert [line.split()[-1] for line in lines[1:]] == ["yes", "NO"]


def test_rows_of_an_earlier_run_are_kept() -> None:
    earlier = {"index_cpu": {"ratio": 1.0}, "ledger_calls": {"ratio": 99.0}}
    found = json.loads(as_json([absolute("ledger_calls", [16.0])], earlier))
    assert list(found) == ["index_cpu", "ledger_calls"]
    assert found["ledger_calls"]["ratio"] == 16.0


def test_a_group_is_chosen_by_its_name_or_by_one_of_its_rows() -> None:
    assert list(chosen_of([], GROUPS)) == list(GROUPS)
    assert list(chosen_of(["sweep_decide", "zip"], GROUPS)) == ["read", "zip"]
    with pytest.raises(SystemExit, match="no such row or group: sweeps"):
        main(["sweeps"])


async def test_a_simulated_sweep_makes_the_calls_that_its_kind_needs(tls: Tls) -> None:
    rest, due, census = await scale.simulate(tls, (30,))
    assert [each.kind for each in (rest, due, census)] == ["at rest", "all due", "census"]
    assert rest.graph < due.graph
    assert rest.lines < census.lines
    assert census.lines >= 30, "a line per machine"
    assert scale.from_json(json.loads(scale.as_json([rest, due, census]))) == [rest, due, census]


SWEEP = scale.Sweep(1000, "at rest", cpu=1.0, peak_mb=60, graph=2, arm=0, storage=10, lines=5)
CENSUS = scale.Sweep(1000, "census", cpu=11.0, peak_mb=70, graph=22, arm=0, storage=30, lines=1005)


def test_a_day_on_paper_is_its_sweeps_its_census_and_its_messages() -> None:
    (day,) = scale.days([SWEEP, CENSUS])
    assert SWEEP.azure_seconds == 1.0 + 2 * 0.5
    assert day.graph == 288 * 2 + 20
    assert day.storage == pytest.approx(4 * 8640 + 288 * 10 + 9 * 1000 * (1 + 2 / 7))
    assert day.gb_seconds == pytest.approx(2 * (288 * 2 + 20 + 2 * 1000 * (1 + 2 / 7 + 1 / 3)))
    assert day.dollars == pytest.approx(day.gb_seconds * 0.000026 + day.storage * 0.0004 / 10_000)


def test_the_plot_is_xml_with_a_line_per_kind_and_the_limit() -> None:
    large = [replace(each, machines=100_000, cpu=500.0) for each in (SWEEP, CENSUS)]
    drawn = ElementTree.fromstring(page.plotted([SWEEP, CENSUS, *large]))
    texts = {each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {"at rest", "census", "functionTimeout", "1,000", "100,000"} <= texts


def test_the_page_is_filled_between_its_marks_and_nowhere_else() -> None:
    before = "# Head\n<!-- table: days -->\nold\n<!-- end -->\nText\n<!-- table: other -->\nkept\n<!-- end -->\n"
    after = page.filled(before, {"days": lambda: [("a", "b"), ("1", "2")]})
    assert after == before.replace("old\n", "| a | b |\n| --- | --- |\n| 1 | 2 |\n")


def test_the_page_shows_each_measured_row_with_its_goal() -> None:
    bench = json.loads(as_json([absolute("ledger_calls", [20.0], note="all of it"), absolute("package_zip_mb", [9.0])]))
    _, calls, size = page.measured(bench)
    assert (calls[0], calls[-2:], size[-2:]) == ("`ledger_calls`", ("≤ 16", "**no**"), ("≤ 11", "yes"))
    assert "(all of it)" in calls[1]
