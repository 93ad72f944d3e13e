"""Azure's published operations: whether an action of a role definition exists.

The list is that of Azure's permissions reference (tests/recordings/azure_operations.json). It is complete for most
providers. Of the others it holds the part that was read, so what is not in it there is unknown and not refused.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from simulator.deployment.errors import DeploymentError, refused

Kind = Literal["actions", "dataActions"]
_PUBLISHED = Path(__file__).parents[2] / "tests" / "recordings" / "azure_operations.json"


@cache
def published(kind: Kind) -> frozenset[str]:
    """All operations of this kind, lower-cased: those of the reference, and those that only built-in roles name."""
    providers = json.loads(_PUBLISHED.read_text(encoding="utf-8")).values()
    return frozenset(each.lower() for provider in providers for each in provider[kind])


@cache
def _complete(kind: Kind) -> frozenset[str]:
    providers = json.loads(_PUBLISHED.read_text(encoding="utf-8"))
    return frozenset(name.lower() for name, each in providers.items() if each[f"{kind}_complete"])


@cache  # the deployments of a process have the same few roles, and there are many operations
def matching(pattern: str, kind: Kind) -> frozenset[str]:
    """The published operations, lower-cased, that an action of a role covers; `*` covers any text."""
    return frozenset(each for each in published(kind) if fnmatchcase(each, pattern.lower()))


def require(role: str, pattern: str, kind: Kind) -> None:
    """Raises DeploymentError for an action that covers no operation: Azure then refuses the whole role definition."""
    if matching(pattern, kind):
        return
    if pattern.partition("/")[0].lower() not in _complete(kind):
        raise DeploymentError(f"{role}: the simulator does not know whether Azure has the operation {pattern}")
    why = f"'{pattern}' does not match any of the actions supported by the providers"
    raise refused(role, "InvalidActionOrNotAction", why)
