"""Notices under faults and kills: over these seeds each installation that ended sends a notice, once by its id,
and in the order of the machine's moves; and the invariants hold as they do without notices.
"""

import json
from collections import Counter
from functools import cache

import pytest

from tests.simulation.run import Result, run
from tests.support.world import NOTICES

SEEDS = {104: "0", 211: "30", 214: "30"}  # seed → PATCH_NOTICE_MINUTES; the busy ones of 30, with repeated deliveries


@cache
def result(seed: int) -> Result:
    return run(seed, settings=NOTICES | {"PATCH_NOTICE_MINUTES": SEEDS[seed]})


@pytest.mark.parametrize("seed", SEEDS)
def test_the_invariants_hold_with_notices(seed: int) -> None:
    assert result(seed).violations == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_each_installation_that_ended_sends_one_notice(seed: int) -> None:
    found = result(seed)
    lines = (json.loads(line[line.index("{") :]) for line in found.lines if '"installation.ended"' in line)
    ended = {line["operation"] for line in lines if line.get("operation")}
    by_id = {event["id"]: event for event in found.told if event["type"].endswith("InstallationEnded")}
    told = Counter(event["data"].get("operation") for event in by_id.values())
    assert ended
    to_come = {json.loads(row["data"]).get("operation") for row in found.to_tell}
    assert ended <= set(told) | to_come
    assert len(to_come) <= 2
    assert max(told.values()) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_redelivered_event_is_the_same_and_each_first_time_is_in_order(seed: int) -> None:
    first: dict[str, object] = {}
    last: dict[str, str] = {}
    for event in result(seed).told:
        if event["id"] not in first:
            assert event["sequence"] > last.get(event["subject"], "")
            last[event["subject"]] = event["sequence"]
        assert first.setdefault(event["id"], event) == event
    assert first
