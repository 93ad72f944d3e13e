"""Query options of a request. None is ignored: it is answered, or the request is refused.

Which options exist: the operations of azure-mgmt-compute 39. Azure itself may ignore an option that it does not know;
which ones is not documented.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from simulator.wire import Refused, Request

_SCALE_SET = re.compile(r"\s*'virtualMachineScaleSet/id'\s+eq\s+'?(?P<id>/subscriptions/[^']+?)'?\s*", re.IGNORECASE)
_TAG = re.compile(
    r"\s*tagName\s+eq\s+'(?P<name>[^']*)'(\s+and\s+tagValue\s+eq\s+'(?P<value>[^']*)')?\s*", re.IGNORECASE
)


class Tag(NamedTuple):
    """What a filter asks of tags. `value` is None where any will do."""

    name: str
    value: str | None

    def matches(self, tags: Mapping[str, str] | None) -> bool:
        """Names of tags know no letter case."""
        held = {name.lower(): value for name, value in (tags or {}).items()}
        return self.name.lower() in held and self.value in (None, held[self.name.lower()])


def check_known(request: Request, known: Iterable[str]) -> None:
    """Raises Refused (400) for an option that the operation does not have."""
    allowed = {"api-version", *(each.lower() for each in known)}
    for name in request.query:
        if name.lower() not in allowed:
            raise Refused(400, "BadRequest", f"The simulator knows no query option '{name}' of this operation.")


def one_of(request: Request, name: str, values: Iterable[str]) -> str:
    """The value as it is spelled here; empty where the option is absent. Raises Refused (400)."""
    given = next((value for each, value in request.query.items() if each.lower() == name.lower()), "")
    known = {each.lower(): each for each in values}
    if given and given.lower() not in known:
        text = (
            f"The value '{given}' of query option {name} is invalid. Allowed values are: {', '.join(known.values())}."
        )
        raise Refused(400, "InvalidParameter", text, target=name)
    return known.get(given.lower(), "")


def scale_set(request: Request) -> str:
    """The id of the scale set in `$filter`, in lower case; empty without a filter. Raises Refused (400)."""
    given = request.query.get("$filter", "")
    found = _SCALE_SET.fullmatch(given)
    if given and not found:
        text = (
            f"The value '{given}' of query option $filter is invalid. Allowed is: 'virtualMachineScaleSet/id' eq '…'."
        )
        raise Refused(400, "InvalidParameter", text, target="$filter")
    return found["id"].lower() if found else ""


def tag(request: Request) -> Tag | None:
    """The tag in `$filter`; None without a filter. Raises Refused (400)."""
    given = request.query.get("$filter", "")
    found = _TAG.fullmatch(given)
    if given and not found:
        text = (
            f"The value '{given}' of query option $filter is invalid. Allowed is: tagName eq '…' and tagValue eq '…'."
        )
        raise Refused(400, "InvalidParameter", text, target="$filter")
    return Tag(found["name"], found["value"]) if found else None
