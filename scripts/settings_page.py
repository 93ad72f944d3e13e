"""Fills docs/settings.md: `python -m scripts.settings_page`.

The page is written by hand but for its tables of settings and tags, which stand between `<!-- table: NAME -->` and
`<!-- end -->`. They are derived from the declarations in functions/policy. A test holds the committed page to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from functions.policy.settings import SETTINGS, Setting
from functions.policy.tags import TAGS

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
_BLOCK = re.compile(r"(<!-- table: (settings|tags) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with its tables written again."""
    tables = {"settings": _settings(), "tags": _tags()}
    return _BLOCK.sub(lambda match: f"{match[1]}\n{tables[match[2]]}\n\n{match[3]}", page)


def _settings() -> str:
    rows = ((f"`{each.name}`", _default(each), each.reader.grammar, each.meaning) for each in SETTINGS)
    return _table(("setting", "default", "allowed", "meaning"), rows)


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "required"
    return f"`{setting.default}`" if setting.default else "empty"


def _tags() -> str:
    rows = ((f"`{each.name}`", each.reader.grammar, each.meaning) for each in TAGS)
    return _table(("tag", "allowed", "meaning"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows))


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
