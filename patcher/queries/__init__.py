"""The tool's own Resource Graph queries: files beside this one, as in functions/cloud/queries."""

from collections.abc import Iterable
from pathlib import Path

from functions.cloud import queries

FOLDER = Path(__file__).parent


def fill(name: str, **values: Iterable[str]) -> str:
    """The query ready to send. Raises BadInput for text with other characters than names have."""
    return queries.filled((FOLDER / f"{name}.kql").read_text(encoding="utf-8"), **values)
