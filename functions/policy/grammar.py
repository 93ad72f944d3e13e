"""How the text of a setting or tag becomes a value.

Each reader takes the text and returns a value, or raises ValueError.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from functions.model.machine import CLASSIFICATIONS
from functions.model.text import GUID
from functions.policy.window_grammar import read_blackouts, read_windows
from functions.policy.windows import NO_BLACKOUTS, Blackouts, Windows


def choice(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    lowered = {name.lower(): value for name, value in choices.items()}

    def read(text: str) -> Any:
        if text.lower() not in lowered:
            raise ValueError
        return lowered[text.lower()]

    return read


def number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return read


def span(unit: str, low: float, high: float) -> Callable[[str], timedelta]:
    def read(text: str) -> timedelta:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or not low <= float(text) <= high:
            raise ValueError
        return timedelta(**{unit: float(text)})

    return read


def read_scope(text: str) -> tuple[str, ...]:
    items = tuple(item.strip().lower() for item in text.split(",") if item.strip())
    if not all(re.fullmatch(r"[\w().-]{1,90}", item, re.ASCII) for item in items):
        raise ValueError
    if len({bool(GUID.fullmatch(item)) for item in items}) > 1:
        raise ValueError  # Resource Graph takes subscriptions or management groups, not both
    return items


def read_classifications(text: str) -> tuple[str, ...]:
    names = {name.lower(): name for name in CLASSIFICATIONS}
    wanted = [item.strip().lower() for item in text.split(",") if item.strip()]
    if not wanted or any(item not in names for item in wanted):
        raise ValueError
    return tuple(names[item] for item in dict.fromkeys(wanted))


def read_packages(text: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in text.split(",") if item.strip())
    if not all(re.fullmatch(r"[\w.+:~*?-]{1,200}", item, re.ASCII) for item in items):
        raise ValueError
    return items


def read_created_after(text: str) -> datetime | None:
    if text == "first-deployment":
        return None
    if text == "always":
        return datetime(2000, 1, 1, tzinfo=UTC)
    moment = datetime.fromisoformat(text)
    if not 2000 <= moment.year < 2200:
        raise ValueError
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_duration_minutes(text: str) -> int:
    """Only PT…H…M: the Linux extension reads neither days nor weeks (Azure/LinuxPatchExtension)."""
    match = re.fullmatch(r"PT(?:(\d{1,2})H)?(?:(\d{1,3})M)?", text, re.IGNORECASE | re.ASCII)
    minutes = int(match[1] or 0) * 60 + int(match[2] or 0) if match else 0
    if not 30 <= minutes <= 235:
        raise ValueError
    return minutes


def read_endpoint(text: str) -> str:
    if not re.fullmatch(r"https://[\w.-]+(:\d+)?/?", text, re.ASCII):  # no host that only looks like Azure's
        raise ValueError
    return text.rstrip("/").lower()


def read_tag_name(text: str) -> str:
    if not re.fullmatch(r"[^<>%&\\?/\x00-\x1f]{1,512}|", text):
        raise ValueError
    return text.lower()


def read_schedule(text: str) -> str:
    """An NCRONTAB expression as the Functions host reads it: five or six fields of numbers, `*`, `,`, `-`, `/`."""
    fields = text.split()
    limits = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    if len(fields) not in (5, 6):
        raise ValueError
    for field, (low, high) in zip(fields, limits[-len(fields) :], strict=True):
        for part in field.split(","):
            match = re.fullmatch(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", part, re.ASCII)
            if not match or match[3] == "0":
                raise ValueError
            if any(number and not low <= int(number) <= high for number in (match[1], match[2])):
                raise ValueError
    return text


def read_window_setting(text: str) -> Windows | None:
    return read_windows(text) if text else None


def read_blackout_setting(text: str) -> Blackouts:
    return read_blackouts(text) if text else NO_BLACKOUTS


def read_group(text: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,64}", text):
        raise ValueError
    return text.lower()


def read_day(text: str) -> date:
    return date.fromisoformat(text)


SWITCH = {"off": False, "on": True}
