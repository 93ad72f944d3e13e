"""Times that a person names: a moment, or how long something lasts."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from functions.model.text import quoted
from patcher.errors import BadRequest

_LASTING = re.compile(r"(?P<number>[1-9][0-9]{0,3})(?P<unit>min|m|h|d)", re.ASCII)
_UNITS = {"min": timedelta(minutes=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def end_of(until: str, lasting: str, *, now: datetime, zone: str) -> datetime | None:
    """The end, in UTC; None where neither is said. `until` without an offset is a time of `zone`.

    Raises BadRequest.
    """
    if until and lasting:
        raise BadRequest("--until and --for are both given; one of them is right")
    if lasting:
        return now + span_of(lasting, "--for")
    return moment_of(until, "--until", now=now, zone=zone) if until else None


def span_of(text: str, option: str) -> timedelta:
    """How long something lasts. Raises BadRequest, which names the option."""
    match = _LASTING.fullmatch(text)
    if match is None:
        raise BadRequest(f"{option} is {quoted(text)}; 30min, 4h or 2d is right")
    return int(match["number"]) * _UNITS[match["unit"]]


def moment_of(text: str, option: str, *, now: datetime, zone: str) -> datetime:
    """A moment after now, in UTC. Without an offset it is one of `zone`. Raises BadRequest, which names the option."""
    example = f"{now.astimezone(ZoneInfo(zone)) + timedelta(days=1):%Y-%m-%dT%H:%M}"
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(zone))
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(f"{option} is {quoted(text)}; a time such as {example} ({zone}) is right") from None
    if moment <= now:
        raise BadRequest(f"{option} is {quoted(text)}, and that is past; a time such as {example} ({zone}) is right")
    return moment
