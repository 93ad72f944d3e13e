"""What a person and a program are shown, apart from what it is about: narrow terminals, answers without a row."""

import io

import pytest
from rich.console import Console

from patcher.output import as_csv, count_of, table

RUN, NAME = "20261208T1300-n26t", "db-with-a-rather-long-name-07"
COPIED = {"run": RUN, "machine": NAME, "opening": "20261125T081500", "rollout": "20261125T081500"}


@pytest.mark.parametrize("column", COPIED)
def test_what_a_person_copies_is_in_one_piece_on_a_narrow_terminal(column: str) -> None:
    why = "a reason of many words, which has to make room for what stands before it in its row"
    screen = Console(file=io.StringIO(), width=60, highlight=False)
    screen.print(
        table("Runs", (column, "until (Europe/Paris)", "why"), [(COPIED[column], "Wed 2026-12-09 14:00", why)])
    )
    assert isinstance(screen.file, io.StringIO)
    assert COPIED[column] in screen.file.getvalue()


def test_a_csv_without_a_row_has_its_columns() -> None:
    assert as_csv([], ("machine", "state")) == "machine,state\n"
    assert as_csv([{"machine": "a", "state": "=1"}], ("machine", "state")) == "machine,state\na,'=1\n"


@pytest.mark.parametrize(
    ("machines", "said"), [(0, "0 machines"), (1, "1 machine"), (2, "2 machines"), (10_000, "10,000 machines")]
)
def test_a_number_of_machines_in_words(machines: int, said: str) -> None:
    assert count_of(machines) == said
