"""When a machine counts as patched in time: every row of the table is one machine at one moment."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from functions.decisions.compliance import Compliance, compliance
from functions.model.machine import PatchAssessment, SupportState
from tests.support import NOW, a_machine, a_verdict

SLA = timedelta(days=30)
DAY = timedelta(days=1)
WAITING = a_verdict(counts={"critical": 0, "security": 2, "other": 9})
NOTHING_URGENT = a_verdict(counts={"critical": 0, "security": 0, "other": 9})


@pytest.mark.parametrize(
    ("verdict", "created", "oldest", "installed", "expected"),
    [
        pytest.param(NOTHING_URGENT, NOW - 400 * DAY, None, None, Compliance.WITHIN, id="nothing urgent waits"),
        pytest.param(WAITING, NOW - 400 * DAY, NOW - 30 * DAY, None, Compliance.WITHIN, id="published 30 days ago"),
        pytest.param(WAITING, NOW - 400 * DAY, NOW - 31 * DAY, NOW - DAY, Compliance.LATE, id="published 31 days ago"),
        pytest.param(WAITING, NOW - 400 * DAY, None, NOW - 30 * DAY, Compliance.WITHIN, id="Linux, installed lately"),
        pytest.param(WAITING, NOW - 400 * DAY, None, None, Compliance.LATE, id="Linux, never installed, old"),
        pytest.param(WAITING, NOW - 29 * DAY, None, None, Compliance.WITHIN, id="Linux, never installed, young"),
        pytest.param(WAITING, None, None, None, Compliance.UNKNOWN, id="no time to count from"),
        pytest.param(None, NOW - DAY, None, None, Compliance.UNKNOWN, id="Graph was not asked"),
        pytest.param(
            PatchAssessment(SupportState.ABSENT), NOW - DAY, None, None, Compliance.UNKNOWN, id="Graph shows nothing"
        ),
        pytest.param(
            replace(NOTHING_URGENT, state=SupportState.UNSUPPORTED),
            NOW,
            None,
            None,
            Compliance.UNKNOWN,
            id="Azure cannot count its patches",
        ),
    ],
)
def test_within_late_or_unknown(
    verdict: PatchAssessment | None,
    created: datetime | None,
    oldest: datetime | None,
    installed: datetime | None,
    expected: Compliance,
) -> None:
    machine = a_machine(verdict=verdict, created=created)
    assert compliance(machine, oldest, installed, sla=SLA, now=NOW) is expected
