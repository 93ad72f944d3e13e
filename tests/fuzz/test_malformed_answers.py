"""Malformed answers of Azure over whole runs: never a crash, never a call elsewhere, never more than was allowed.

One source is malformed at a time, for the app's safety rests on two: Graph finds, and the machine's own answer decides.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from simulator.azure import Behaviour
from tests.fuzz.checks import check, journal_lines, machines_of, orders, whole_run
from tests.fuzz.malformed_azure import Malformation, WatchedAzure, malformations
from tests.fuzz.triggers import GOOD
from tests.support.world import QUICK, World

PEER, OFF, UNSUPPORTED = "peer-01", "off-01", "unsupported-01"
# Two that may be installed, one at a time, and one of them without a reboot.
INSTALLABLE: dict[str, dict[str, Any]] = {
    GOOD: {"tags": {"patch-group": "quorum"}},
    PEER: {"tags": {"patch-group": "quorum", "patch-reboot": "Never"}},
}
SUPPORTED = Behaviour(support_state="Supported", pending={"security": 2})
MARKETPLACE_IMAGE = {"publisher": "p", "offer": "o", "sku": "s", "version": "latest"}
# Machines that Azure could patch and that must be left alone, each for its own reason.
PROTECTED: dict[str, dict[str, Any]] = {
    OFF: {"tags": {"patch-mode": "off"}},
    "assess-01": {"tags": {"patch-mode": "assess"}},
    "hold-01": {"tags": {"patch-hold-until": "2027-01-15"}},
    "sunday-01": {"tags": {"patch-window": "Sun 09:00-12:00"}},
    "wrong-01": {"tags": {"patch-reboot": "perhaps"}},
    "node-01": {"tags": {"aks-managed-poolName": "pool"}},
    "market-01": {"image": MARKETPLACE_IMAGE},
}
MAY_BE_ASSESSED = {*INSTALLABLE, UNSUPPORTED, "assess-01", "sunday-01"}
# Wednesday, the first day of a run: only so is an installation outside of it to be seen.
OPEN, CLOSED = datetime(2026, 11, 25, 9, 0, tzinfo=UTC), datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
LIMITED = {"PATCH_WINDOW": "Wed 09:00-12:00", "PATCH_FIRST_HOURS": "0", "PATCH_MIN_INTERVAL_HOURS": "1"}


def check_installed(watched: WatchedAzure) -> None:
    """Only those that may be, and never beside another of their group."""
    assert machines_of(watched, "installPatches") <= set(INSTALLABLE)
    for (path, _), beside in zip(watched.orders, watched.beside, strict=True):
        if path.lower().endswith("/installpatches"):
            assert not set(beside) & set(INSTALLABLE), "two of a patch-group at once"


def reboots(watched: WatchedAzure) -> set[str]:
    """What was asked of the machine that must not reboot."""
    mine = f"/{PEER}/installpatches"
    return {order["rebootSetting"] for path, order in watched.orders if path.lower().endswith(mine)}


def run(wrong: list[Malformation | None], only: str) -> tuple[WatchedAzure, list[str]]:
    """Six hours of ten machines, with malformed answers from one source. Raises what would have been a crash."""
    with journal_lines() as lines:
        return asyncio.run(_run(wrong, only)), lines


async def _run(wrong: list[Malformation | None], only: str) -> WatchedAzure:
    world = World(LIMITED, timings=QUICK)
    watched = WatchedAzure(world, iter(wrong), only)
    for name, body in (INSTALLABLE | PROTECTED).items():
        world.create(name, SUPPORTED, **body)
    world.create(UNSUPPORTED, Behaviour(support_state="Unsupported"))
    world.in_steps(timedelta(minutes=5), timedelta(minutes=15))
    await world.pass_time(hours=4)
    world.in_steps(timedelta(minutes=30), timedelta(minutes=60))
    await world.pass_time(hours=2)
    return watched


# Right answers in between: a machine comes as far as that it could be patched wrongly.
answers = st.lists(st.one_of(st.none(), st.none(), malformations), max_size=40)


def test_a_run_without_a_fault_patches_the_good_machines_and_no_other() -> None:
    watched, lines = run([], only="nothing")
    check(watched, lines)
    check_installed(watched)
    assert machines_of(watched, "installPatches") == set(INSTALLABLE)
    assert reboots(watched) == {"Never"}
    assert machines_of(watched, "assessPatches") == MAY_BE_ASSESSED
    assert all(OPEN <= at < CLOSED for (path, _), at in orders(watched) if path.lower().endswith("/installpatches"))


@whole_run
@given(answers)
def test_malformed_answers_of_graph_widen_nothing(wrong: list[Malformation | None]) -> None:
    watched, lines = run(wrong, "Microsoft.ResourceGraph")
    check(watched, lines)
    check_installed(watched)
    assert machines_of(watched, "assessPatches") <= MAY_BE_ASSESSED
    assert reboots(watched) <= {"Never"}


@whole_run
@given(answers)
def test_malformed_answers_of_resource_manager_widen_nothing(wrong: list[Malformation | None]) -> None:
    watched, lines = run(wrong, "/resource")  # machines, and groups, in either letter case
    check(watched, lines)
    check_installed(watched)


@whole_run
@given(answers)
def test_malformed_answers_about_operations_widen_nothing(wrong: list[Malformation | None]) -> None:
    watched, lines = run(wrong, "/operations/")
    check(watched, lines)
    check_installed(watched)
