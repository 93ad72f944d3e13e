"""How often a machine is assessed: PATCH_ASSESS_HOURS, spread, and daily where it could be installed within a day.

Each machine has its own slot of the last quarter of that time, by its VM id: machines that were assessed together do
not stay together. Resource Graph narrows by the same slots (cloud/queries/due_machines.kql).
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache

from functions.policy.windows import Blackouts, Windows
from functions.policy.zones import DAY

SLOTS = 10  # by the first decimal digit in the VM id, which is random
UNSUPPORTED_EVERY = timedelta(days=7)  # an image that Azure cannot patch changes rarely
_DIGIT = re.compile("[0-9]")


def slot_of(vm_id: str) -> int:
    """From 0, the whole time, to 9, not quite a quarter less."""
    digit = _DIGIT.search(vm_id)
    return int(digit[0]) if digit else 0


def slot_length(every: timedelta) -> timedelta:
    """How much sooner each slot is assessed again than the one before."""
    return every / (4 * SLOTS)


def time_between(every: timedelta, vm_id: str) -> timedelta:
    """How old the assessment of this machine may become."""
    return _time_in_slot(every, slot_of(vm_id))


@lru_cache
def _time_in_slot(every: timedelta, slot: int) -> timedelta:
    return every - slot * slot_length(every)


def at_least_daily(every: timedelta, windows: Iterable[Windows], blackouts: Blackouts, *, now: datetime) -> timedelta:
    """The time between assessments of a machine with these windows: a day while one is open, or opens within a day."""
    if every <= DAY or not any(_usable(each, blackouts, now=now) for each in windows):
        return every
    return DAY


def _usable(windows: Windows, blackouts: Blackouts, *, now: datetime) -> bool:
    if windows.closes(now, blackouts):
        return True
    opens = windows.opens(now, blackouts)
    return opens is not None and opens <= now + DAY
