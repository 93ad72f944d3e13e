"""A short crash run, always the same plan, and the judgement on worlds in which something did go wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.cloud.ledger import Stored
from functions.cloud.rows import LeftAlone, Why
from functions.cloud.tables import Row
from functions.model.state import Phase
from simulator.azure import Operation
from simulator.storage.azurite import Azurite
from simulator.tls import Tls
from tests.crash.fleet import NOT_SUPPORTED, PATCHED, Member, World, fleet, judge
from tests.crash.run import crash
from tests.support import a_record, machine_id

KILLS = 6
MACHINES = 9
SEED = 7


async def test_hosts_killed_and_stopped_lose_no_machine_and_patch_none_twice(tls: Tls, azurite: Azurite) -> None:
    said: list[str] = []
    result = await crash(KILLS, seed=SEED, size=MACHINES, say=said.append, tls=tls, azurite=azurite)
    assert result.judgement, "\n".join((*said, *result.judgement.problems))
    assert result.kills == KILLS
    assert result.stops >= 1
    assert result.machines == MACHINES
    assert result.installations == sum(member.script.installations for member in fleet(MACHINES))
    assert result.summary() == f"crash: {KILLS} kills, 0 machines lost, 0 patched twice"


# -- the judgement

_NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
_MEMBER = Member(0, PATCHED)
_OTHER = Member(1, NOT_SUPPORTED)


def _operation(member: Member, kind: str, *, minute: int, lasts: int = 2) -> Operation:
    started = _NOW + timedelta(minutes=minute)
    return Operation(
        kind=kind,
        machine=member.id,
        vm_id=member.name,
        operation_id=f"{member.name}-{minute}",
        started=started,
        ends=started + timedelta(minutes=lasts),
        started_by="User",
        windows=False,
        region="westus",
        _now=lambda: _NOW + timedelta(days=1),
    )


def _stored(**changes: object) -> Stored:
    held: dict[str, object] = {"phase": Phase.HELD, "reason": "why"}
    record = a_record(machine=machine_id(_MEMBER.name), **held | changes)
    return Stored(record, Row("p", "k", {}, "e"))


_OPERATIONS = (
    _operation(_MEMBER, "assess", minute=0),
    _operation(_MEMBER, "install", minute=10),
    _operation(_MEMBER, "assess", minute=20),
    _operation(_OTHER, "assess", minute=0),
)
_STATES = {_MEMBER.name: ("patched", "nothing is left to install"), _OTHER.name: ("unsupported", "Azure says so")}
_WELL = World(
    operations=_OPERATIONS,
    states=_STATES,
    rows=(_stored(),),
    messages={"assess-requests": 0, "install-requests-poison": 0},
    now=_NOW,
)


def _with(*operations: Operation) -> World:
    return replace(_WELL, operations=(*_OPERATIONS, *operations))


def _shown(states: dict[str, tuple[str, str]]) -> World:
    return replace(_WELL, states={**_STATES, **states} if states else {})


def test_a_world_in_which_all_went_well() -> None:
    assert judge((_MEMBER, _OTHER), _WELL).problems == ()


@pytest.mark.parametrize(
    ("world", "lost", "twice", "left_over"),
    [
        pytest.param(_shown({}), 2, 0, 0, id="machines in no list"),
        pytest.param(_shown({_MEMBER.name: ("queued", "due")}), 1, 0, 0, id="a machine still on its way"),
        pytest.param(_shown({_OTHER.name: ("unsupported", "")}), 1, 0, 0, id="a state without a reason"),
        pytest.param(replace(_WELL, operations=_OPERATIONS[:1] + _OPERATIONS[2:]), 1, 0, 0, id="not patched"),
        pytest.param(replace(_WELL, operations=_OPERATIONS[:2]), 2, 0, 0, id="not assessed, neither of them"),
        pytest.param(_with(_operation(_MEMBER, "install", minute=40)), 0, 1, 0, id="patched again"),
        pytest.param(_with(_operation(_OTHER, "install", minute=40)), 0, 1, 0, id="patched though not supported"),
        pytest.param(
            _with(_operation(_MEMBER, "assess", minute=11)), 0, 1, 0, id="assessed while it was being patched"
        ),
        pytest.param(
            _with(_operation(_MEMBER, "install", minute=11)), 0, 2, 0, id="patched while it was being patched"
        ),
        pytest.param(replace(_WELL, messages={"install-requests": 1}), 0, 0, 1, id="a message no host took"),
        pytest.param(replace(_WELL, rows=(LeftAlone(Why.UNREADABLE, "odd"),)), 0, 0, 1, id="a row that cannot be read"),
        pytest.param(replace(_WELL, rows=(_stored(phase=Phase.STARTING),)), 0, 0, 1, id="a row left in starting"),
        pytest.param(
            replace(_WELL, rows=(_stored(reason="", not_before=_NOW + timedelta(days=1)),)),
            *(0, 0, 1),
            id="held without a reason",
        ),
    ],
)
def test_what_went_wrong_is_seen(world: World, lost: int, twice: int, left_over: int) -> None:
    judgement = judge((_MEMBER, _OTHER), world)
    assert (len(judgement.lost), len(judgement.twice), len(judgement.left_over)) == (lost, twice, left_over)
    assert not judgement
