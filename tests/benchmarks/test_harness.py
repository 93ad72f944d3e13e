"""The harness of `make bench` works: every group runs, and bench.json has its shape. No time is asserted."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.__main__ import chosen_of, groups, main, measure
from benchmarks.rounds import in_turns, spread
from benchmarks.sizes import TINY
from benchmarks.table import HEADING, ROWS, absolute, as_json, as_text, compared
from simulator.tls import Tls

GROUPS = groups(None)
# It runs a month of simulated time, which takes a minute; living.storage covers its program's module.
QUICK = [name for name in GROUPS if name != "month"]
OPTIONAL = {"first_event_vs_custodian"}


def test_every_row_of_the_table_has_one_group() -> None:
    given = [row for rows, _ in GROUPS.values() for row in rows]
    assert sorted(given) == sorted(ROWS)


@pytest.mark.parametrize("name", QUICK)
async def test_a_group_measures_its_rows(name: str, tls: Tls) -> None:
    rows, group = GROUPS[name]
    told: list[str] = []
    found, failed = await measure({name: group}, TINY, tls, told.append)
    assert failed == [], told
    assert set(found) | OPTIONAL == set(rows) | OPTIONAL
    for row, figures in json.loads(as_json(found.values())).items():
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
    assert order[2:] == ["reference", "ours", "reference", "reference", "ours", "reference"]
    assert [(each.reference["cpu"], each.ours["cpu"], each.control["cpu"]) for each in rounds] == [
        (3, 4, 5),
        (8, 7, 6),
    ], "every other round runs backwards"


def test_a_ratio_is_the_median_over_rounds_and_the_control_is_the_reference_over_itself() -> None:
    async def figures(*values: float) -> Any:
        given = iter(values)

        async def next_one() -> Mapping[str, float]:
            return {"cpu": next(given)}

        return next_one

    async def rounds() -> Any:
        return await in_turns(1, await figures(3.0), await figures(2.0, 1.0))

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
