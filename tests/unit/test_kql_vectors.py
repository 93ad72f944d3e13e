"""The evaluator against recorded cases: exactly the rows that an independent engine and the documentation agree on, or
Unsupported. Anything else, above all a wrong row or a KqlError, is a bug.

The count of both is printed at the end of the run (conftest.py).
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from simulator.resource_graph.kql import Unsupported, evaluate

VECTORS = json.loads((Path(__file__).parent.parent / "recordings" / "kql-vectors.json").read_text(encoding="utf-8"))
NOW = datetime.fromisoformat(VECTORS["now"])
# What the evaluator had learned when this was written. Fewer means that it forgot something: raise it, never lower it
# unless the queries of the app no longer need what is given up.
EXACT_AT_LEAST = 75


def answer(case: Mapping[str, Any]) -> tuple[list[list[str]], list[list[Any]]] | None:
    """Columns and rows in the form of the recording, or None for Unsupported."""
    recorded = VECTORS["tables"][case["tables"]]
    schema = {table: content["schema"] for table, content in recorded.items()}
    tables = {
        table: [dict(zip(content["schema"], row, strict=True)) for row in content["rows"]]
        for table, content in recorded.items()
    }
    try:
        result = evaluate(case["query"], tables, NOW, schema)
    except Unsupported:
        return None
    return [list(column) for column in result.columns], [list(row.values()) for row in result.rows]


def as_json(rows: object) -> str:
    """Text to compare: to Python True equals 1, to the recording it does not. The order of keys does not matter."""
    return json.dumps(rows, sort_keys=True)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in VECTORS["cases"]])
def test_gives_the_recorded_rows_or_refuses(case: Mapping[str, Any], record_property: Any) -> None:
    given = answer(case)
    record_property("kql_vector", "unsupported" if given is None else "exact")
    if given is not None:
        columns, rows = given
        assert columns == case["columns"]
        assert as_json(rows) == as_json(case["rows"])


def test_does_not_forget_what_it_knew() -> None:
    exact = [case["name"] for case in VECTORS["cases"] if answer(case) is not None]
    assert len(VECTORS["cases"]) == 190
    assert len(exact) >= EXACT_AT_LEAST
