"""The playground's clock: it stands still until it is moved, and never goes back."""

from __future__ import annotations

from datetime import datetime


class Clock:
    """Call it for the time, in UTC."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def __call__(self) -> datetime:
        return self._now

    def move_to(self, moment: datetime) -> None:
        """Raises ValueError for a moment in the past."""
        if moment < self._now:
            raise ValueError(f"the clock does not go back from {self._now} to {moment}")
        self._now = moment
