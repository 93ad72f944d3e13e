"""What is allowed and hardly meant: settings that take effect otherwise than their writer may think.

Unlike what settings.py refuses, the app runs with them, and says so.
"""

from datetime import datetime, timedelta

from functions.model.text import quoted
from functions.policy.settings import Settings


def advice(settings: Settings, now: datetime) -> list[str]:
    """One line for each of them, beginning with the setting's name."""
    return [*_of_blackouts(settings, now), *_of_windows(settings, now), *_of_scope(settings), *_of_notices(settings)]


def _of_blackouts(settings: Settings, now: datetime) -> list[str]:
    past = bool(settings.blackouts.spans) and settings.blackouts.spans[-1].end <= now
    return ["PATCH_BLACKOUT: all of its days are over; take them out, or write those of this year"] if past else []


def _of_windows(settings: Settings, now: datetime) -> list[str]:
    """Of each window that no opening of the next 400 days makes long enough."""
    shortest = settings.min_installation(on_windows=True)
    lines = []
    for name, windows in (("PATCH_WINDOW", settings.window), ("PATCH_CANARY_WINDOW", settings.canary_window)):
        if not windows:
            continue
        if not windows.opens_for(shortest, now, settings.blackouts):
            lines.append(
                f"{name}: no opening lasts {shortest.seconds // 60} minutes, so no Windows machine is installed"
            )
        elif not windows.opens_for(timedelta(minutes=settings.max_duration_minutes), now, settings.blackouts):
            lines.append(f"PATCH_MAX_DURATION: longer than every opening of {name}, which cuts installations short")
    return lines


def _of_scope(settings: Settings) -> list[str]:
    """A name may be meant as a subscription's. One written mg:name is not."""
    names = ", ".join(settings.scope.unmarked)
    said = f"PATCH_SCOPE: {quoted(names, limit=60)} is taken for a management group; a subscription is named by its id"
    return [said] if names else []


def _of_notices(settings: Settings) -> list[str]:
    """Of a time for announcements that no topic receives."""
    if settings.notices or not settings.notice_before:
        return []
    return ["PATCH_NOTICE_MINUTES: no installation is announced, because PATCH_NOTICES is empty"]
