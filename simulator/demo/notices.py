"""The notices that a topic took (docs/notices.md), in words: each in one line, and all of them counted by kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from simulator.wire import Json

_PREFIX = "ImagePatcher."
_DETAILS: Mapping[str, tuple[str, ...]] = {  # type → fields of its data, some with what stands after it
    "AssessmentEnded": ("status", "reason"),
    "SupportDetected": (
        *("support_state", "pending_critical critical", "pending_security security", "pending_other other waiting"),
    ),
    "InstallationPlanned": ("expected or later",),
    "InstallationStarted": (),
    "InstallationEnded": ("status", "installed installed", "failed failed", "reason"),
    "MachineHeld": ("state", "reason"),
    "CanaryProved": ("name",),
    "CanaryFailed": ("name", "reason"),
    "BreakerOpened": ("reason",),
    "BreakerClosed": ("by", "reason"),
    "RolloutEnded": ("succeeded succeeded", "failed failed"),
    "RunProgress": ("machines machines", "started started", "succeeded succeeded", "failed failed"),
    "MorningSummary": ("machines machines", "installed installed", "failed failed", "not_reached still waiting"),
}


def kind(event: Json) -> str:
    """Its type in words, such as `installation ended`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _type(event)).lower()


def subject(event: Json) -> str:
    """The name of the machine, image and version, a run, or the fleet."""
    data = event["data"]
    if "machine" in data and event["subject"].startswith("/"):
        return str(data["name"])
    if "image" in data:
        return "/".join(str(data["image"]).replace("/versions/", "/").rsplit("/", 2)[-2:])
    return str(event["subject"])


def details(event: Json) -> str:
    return ", ".join(_details(event))


def counted(events: Iterable[Json]) -> str:
    """How many came, each once, and of which kinds: the most frequent one first."""
    kinds = Counter(kind(each) for each in {each["id"]: each for each in events}.values())
    each = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
    return f"{kinds.total()} notices came" + (f": {each}" if each else "")


def _type(event: Json) -> str:
    return str(event["type"]).removeprefix(_PREFIX)


def _details(event: Json) -> Iterator[str]:
    for each in _DETAILS.get(_type(event), ()):
        name, _, after = each.partition(" ")
        if name in event["data"]:
            yield f"{event['data'][name]} {after}".rstrip()
