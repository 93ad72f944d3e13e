"""When a machine has had its turn: an opening of its window that it could have used. Pure."""

from datetime import datetime
from functools import lru_cache

from functions.policy.windows import Blackouts, Windows
from functions.policy.zones import DAY

MISSED = 0.25  # of an opening that had begun: what is left is still a full one


@lru_cache(maxsize=4096)  # a fleet has few windows, and each sweep asks about every machine
def turn_ends(window: Windows, since: datetime, blackouts: Blackouts) -> datetime | None:
    """The end of the first full opening from `since` on; None where it does not open within 400 days.

    Full is an opening of which three quarters are left. One that lasts longer than a day is over after a day.
    """
    closes = window.closes(since, blackouts)
    if closes is not None and closes - since >= DAY:
        return since + DAY
    if closes is not None:
        began = _start(window, since, closes=closes, blackouts=blackouts)
        if since - began <= MISSED * (closes - began):
            return closes
    opens = window.opens(since, blackouts)
    closes = opens and window.closes(opens, blackouts)
    return min(closes, opens + DAY) if opens and closes else None


def is_open(window: Windows, now: datetime, blackouts: Blackouts) -> bool:
    """Whether some opening holds `now`."""
    return window.closes(now, blackouts) is not None


def ever_opens(window: Windows, now: datetime, blackouts: Blackouts) -> bool:
    """Whether it is open now, or will be within 400 days."""
    return _opens_from(window, now.replace(hour=0, minute=0, second=0, microsecond=0), blackouts)


@lru_cache(maxsize=4096)
def _opens_from(window: Windows, day: datetime, blackouts: Blackouts) -> bool:
    return window.closes(day, blackouts) is not None or window.opens(day, blackouts) is not None


@lru_cache(maxsize=4096)
def opening_of(window: Windows, moment: datetime, blackouts: Blackouts) -> tuple[datetime, datetime] | None:
    """The beginning and end of the opening that holds `moment`, within a day of it; None when closed."""
    closes = window.closes(moment, blackouts)
    return (_start(window, moment, closes=closes, blackouts=blackouts), min(closes, moment + DAY)) if closes else None


def _start(window: Windows, moment: datetime, *, closes: datetime, blackouts: Blackouts) -> datetime:
    """When the opening that holds `moment` began; a day before it, where it began still earlier."""
    earlier = moment - DAY
    if window.closes(earlier, blackouts) == closes:
        return earlier
    start = earlier
    while (opens := window.opens(start, blackouts)) and opens <= moment:
        start = opens
    return start
