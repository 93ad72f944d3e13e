"""What an installation did with each patch, by name.

Facts about the lists of Azure: tests/recordings/patch_results.json. They carry no error, severity or time per patch.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Azure's PatchInstallationState, in the order in which people want to read them.
STATES = ("Failed", "Pending", "Installed", "Excluded", "NotSelected")
FAILED = STATES[0]
MAX_CHARACTERS = 8_192  # of a value among custom properties, by Application Insights' data model of a trace
SHOWN = 3  # names in a reason
_BETWEEN = "; "
_NOT_IN_MASKS = re.compile(r"[^\w.+:~-]", re.ASCII)  # of PATCH_PACKAGES_EXCLUDE


class TriedPatch(NamedTuple):
    """One patch of an installation. No text of it holds a line break or a semicolon."""

    name: str  # a KB number such as KB5031364, a package, or the title of an update that has no number
    version: str  # "" on Windows
    classification: str  # one word, as Azure spells it
    state: str  # one word; one of STATES, or what only a later Azure knows

    @property
    def label(self) -> str:
        """As people name it: "KB5031364" or "openssl 3.0.2-0ubuntu1.18"."""
        return f"{self.name} {self.version}".strip()

    @property
    def mask(self) -> str:
        """As PATCH_PACKAGES_EXCLUDE takes it: a question mark stands for any character."""
        return _NOT_IN_MASKS.sub("?", self.name)


@dataclass(frozen=True)
class TriedPatches:
    """The patches of an installation: those that are known by name, and how many more it counts."""

    named: tuple[TriedPatch, ...] = ()
    unnamed: int = 0
    known: bool = False  # False: nothing says which they are

    @property
    def failed(self) -> tuple[TriedPatch, ...]:
        """Those that failed."""
        return tuple(each for each in self.named if each.state == FAILED)

    def told(self) -> tuple[str, int]:
        """One text of at most MAX_CHARACTERS, the failed ones first, and how many patches it leaves out.

        Each patch reads "state classification label".
        """
        if not self.known:
            return "not known", self.unnamed
        texts = [f"{each.state} {each.classification} {each.label}" for each in sorted(self.named, key=_place)]
        fitting = _fitting(texts)
        return _BETWEEN.join(texts[:fitting]) or "none", len(texts) - fitting + self.unnamed


def _place(patch: TriedPatch) -> int:
    return STATES.index(patch.state) if patch.state in STATES else len(STATES)


def _fitting(texts: Iterable[str]) -> int:
    """How many of the texts fit into one, from the first on."""
    length, count = -len(_BETWEEN), 0
    for text in texts:
        length += len(_BETWEEN) + len(text)
        if length > MAX_CHARACTERS:
            break
        count += 1
    return count


def in_short(names: Sequence[str]) -> str:
    """The first SHOWN of them, and how many more there are: "a, b, c and 4 more"."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
