"""One bucket of machines through its quota, in simulated time."""

from __future__ import annotations

import asyncio

from benchmarks.programs import tell
from tests.scenario.test_limits import MINUTE, drain, floor


def bucket(machines: int) -> None:
    """Tells `minutes` from the first call to the last, the quota's `floor`, and `refused`, percent of the calls."""
    took, calls, refused = asyncio.run(drain(machines, ("westeurope",)))
    tell(minutes=took / MINUTE, floor=floor(machines) / MINUTE, refused=100 * refused / calls)
