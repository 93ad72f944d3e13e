"""docs/results.md: its rows are those of the recorded run, and its words about the alerts are the alerts' own."""

from typing import Any

import pytest

from infra.results import build
from scripts import results_page

PAGE = results_page.PAGE.read_text(encoding="utf-8")
# Numbers that the page has in its lists.
TILES = {"late", "needs-a-person", "machines"}
# Panels whose events are in no recorded run: their questions stand there without rows.
NOT_RECORDED = {"started"}


def test_the_rows_are_up_to_date() -> None:
    assert results_page.filled(PAGE) == PAGE, "run python -m scripts.results_page"


CELLS: dict[str, tuple[Any, str]] = {
    "a tag of HTML": ("<img src=x>", "\\<img src=x\\>"),
    "a link": ("[here](https://evil.example)", "\\[here\\](https://evil.example)"),
    "an end of the cell": ("a|b\\|c", "a\\|b\\\\\\|c"),
    "an end of the row": ("a\n| b", "a \\| b"),
    "code": ("`rm`", "\\`rm\\`"),
    "a name": ("PATCH_MODE", "PATCH_MODE"),
}


@pytest.mark.parametrize(("value", "shown"), CELLS.values(), ids=CELLS)
def test_no_text_of_a_guest_breaks_the_page(value: Any, shown: str) -> None:
    assert results_page._cell(value) == shown


def test_every_panel_has_its_question() -> None:
    shown = {panel.name for _, panels in build.TABS.values() for panel in panels}
    assert {match[2] for match in results_page._BLOCK.finditer(PAGE)} == shown - TILES - NOT_RECORDED
    assert all(build.text_of("panels", name) in PAGE for name in NOT_RECORDED)


def test_what_an_alert_means_stands_there_in_the_words_of_the_alert() -> None:
    for alert in build.ALERTS:
        assert f"| `{alert.name}` | {alert.title} | {alert.meaning} | {alert.severity} |" in PAGE
