"""Azure's answers gone odd, over whole histories: never a crash, never a call elsewhere, never more than was allowed.

One source is odd at a time, for the app's safety rests on two: Graph finds, and the machine's own answer decides.
"""

import asyncio
import json
import logging
import os
import re
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from functions.journal import LONGEST_LINE
from simulator.azure import Behaviour, Timings
from tests.fuzz.azure_gone_odd import OddAzure, Wrong, wrongs
from tests.fuzz.mangling import SECRET
from tests.story.world import World

SHORT = 12  # in the suite, the same ones each time; `make fuzz EXAMPLES=n` runs n others
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", SHORT))
GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
GROUP = rf"/subscriptions/{GUID}/resourcegroups/[\w().-]+"
MACHINE = rf"{GROUP}/providers/microsoft\.compute/virtualmachines/[\w.-]+"
OPERATION = rf"/subscriptions/{GUID}/providers/microsoft\.compute/locations/\w+/operations/{GUID}"
# Everything that the app may ever call, by method.
CALLS = [
    ("GET", re.compile(rf"https://management\.azure\.com(?:{MACHINE}|{GROUP})\?[^#]*", re.IGNORECASE)),
    ("GET", re.compile(rf"https://management\.azure\.com{OPERATION}\?[^#]*", re.IGNORECASE)),
    ("POST", re.compile(rf"https://management\.azure\.com{MACHINE}/(?:assess|install)Patches\?[^#]*", re.IGNORECASE)),
    ("POST", re.compile(r"https://management\.azure\.com/providers/Microsoft\.ResourceGraph/resources\?[^#]*")),
]
QUICK = Timings(create_seconds=0, agent_ready_seconds=0, extensions_seconds=0)
GOOD, OFF, UNSUPPORTED = "good-01", "off-01", "unsupported-01"
SUPPORTED = Behaviour(support_state="Supported", pending={"security": 2})


class Lines(logging.Handler):
    """The journal of one history."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def history(wrong: list[Wrong | None], only: str) -> tuple[OddAzure, list[str]]:
    """Six hours of three machines, with odd answers from one source. Raises what would have been a crash."""
    lines = Lines()
    journal = logging.getLogger("journal")
    journal.addHandler(lines)
    journal.setLevel(logging.INFO)
    try:
        return asyncio.run(_history(wrong, only)), lines.texts
    finally:
        journal.removeHandler(lines)


async def _history(wrong: list[Wrong | None], only: str) -> OddAzure:
    world = World(timings=QUICK)
    odd = OddAzure(world, iter(wrong), only)
    world.create(GOOD, SUPPORTED)
    world.create(OFF, SUPPORTED, tags={"patch-mode": "off"})
    world.create(UNSUPPORTED, Behaviour(support_state="Unsupported"))
    world.tick, world.sweep_every = timedelta(minutes=5), timedelta(minutes=15)
    await world.pass_time(hours=3)
    world.tick, world.sweep_every = timedelta(minutes=30), timedelta(minutes=60)
    await world.pass_time(hours=3)
    return odd


def check(odd: OddAzure, lines: list[str]) -> None:
    for method, url in odd.calls:
        assert any(method == allowed and form.fullmatch(url) for allowed, form in CALLS), (method, url)
    for line in lines:
        assert len(line.encode("utf-16-le")) // 2 <= LONGEST_LINE
        assert isinstance(json.loads(line), dict)
        assert SECRET not in line
    assert not any(SECRET in str(error) for error in odd.world.errors)
    for path, order in odd.orders:
        if path.lower().endswith("/installpatches"):
            assert_no_wider(order)


def assert_no_wider(order: Any) -> None:
    parameters = order["linuxParameters"]
    assert set(parameters["classificationsToInclude"]) <= {"Critical", "Security"}
    assert "packageNameMasksToInclude" not in parameters
    assert order["rebootSetting"] in ("IfRequired", "Never")
    assert re.fullmatch(r"PT[0-2]H(\d+M)?", order["maximumDuration"])


def machines_of(odd: OddAzure, action: str) -> set[str]:
    paths = [path.lower().split("/") for path, _ in odd.orders]
    return {parts[-2] for parts in paths if parts[-1] == action.lower()}


# Right answers in between: a machine comes as far as that it could be patched wrongly.
answers = st.lists(st.one_of(st.none(), st.none(), wrongs), max_size=40)
fuzzing = hypothesis_settings(
    deadline=None, suppress_health_check=list(HealthCheck), max_examples=EXAMPLES, derandomize=EXAMPLES == SHORT
)


def test_a_history_without_a_fault_patches_the_good_machine_and_no_other() -> None:
    odd, lines = history([], only="nothing")
    check(odd, lines)
    assert machines_of(odd, "installPatches") == {GOOD}
    assert machines_of(odd, "assessPatches") == {GOOD, UNSUPPORTED}


@fuzzing
@given(answers)
def test_odd_answers_of_graph_widen_nothing(wrong: list[Wrong | None]) -> None:
    odd, lines = history(wrong, "Microsoft.ResourceGraph")
    check(odd, lines)
    assert machines_of(odd, "installPatches") <= {GOOD}
    assert OFF not in machines_of(odd, "assessPatches")


@fuzzing
@given(answers)
def test_odd_answers_of_resource_manager_widen_nothing(wrong: list[Wrong | None]) -> None:
    odd, lines = history(wrong, "/resource")  # machines, and groups, in either letter case
    check(odd, lines)
    assert machines_of(odd, "installPatches") <= {GOOD}


@fuzzing
@given(answers)
def test_odd_answers_about_operations_widen_nothing(wrong: list[Wrong | None]) -> None:
    odd, lines = history(wrong, "/operations/")
    check(odd, lines)
    assert machines_of(odd, "installPatches") <= {GOOD}
