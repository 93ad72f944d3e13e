"""The evaluator against recorded cases: exactly the rows that an independent engine and the documentation agree on, or
Unsupported. Anything else, above all a wrong row or a KqlError, is a bug.

The older cases go beyond what anyone asks of the simulator; the count of those answered is printed at the end of the
run (conftest.py). The cases of operators' constructs are all answered.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from simulator.resource_graph.kql import Unsupported, evaluate


def recorded(name: str) -> Any:
    return json.loads((Path(__file__).parent.parent / "recordings" / name).read_text(encoding="utf-8"))


VECTORS, OPERATORS = recorded("kql-vectors.json"), recorded("kql-vectors-operators.json")
NOW = datetime.fromisoformat(VECTORS["now"])
TABLES = VECTORS["tables"] | OPERATORS["tables"]
# What the evaluator had learned when this was written. Fewer means that it forgot something: raise it, never lower it
# unless the queries of the app no longer need what is given up.
EXACT_AT_LEAST = 163


def answer(case: Mapping[str, Any]) -> tuple[list[list[str]], list[list[Any]]]:
    """Columns and rows in the form of the recording. Raises Unsupported."""
    schema = {table: content["schema"] for table, content in TABLES[case["tables"]].items()}
    tables = {
        table: [dict(zip(content["schema"], row, strict=True)) for row in content["rows"]]
        for table, content in TABLES[case["tables"]].items()
    }
    result = evaluate(case["query"], tables, NOW, schema=schema)
    return [list(column) for column in result.columns], [list(row.values()) for row in result.rows]


def as_json(rows: object) -> str:
    """Text to compare: to Python True equals 1, to the recording it does not. The order of keys does not matter, nor
    whether a whole real has a point."""
    return json.dumps(_whole(rows), sort_keys=True)


def _whole(value: Any) -> Any:
    match value:
        case list():
            return [_whole(each) for each in value]
        case dict():
            return {key: _whole(each) for key, each in value.items()}
        case float() if value.is_integer():
            return int(value)
    return value


def assert_exact(case: Mapping[str, Any]) -> None:
    columns, rows = answer(case)
    assert columns == case["columns"]
    assert as_json(rows) == as_json(case["rows"])


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in VECTORS["cases"]])
def test_gives_the_recorded_rows_or_refuses(case: Mapping[str, Any], record_property: Any) -> None:
    try:
        assert_exact(case)
    except Unsupported:
        record_property("kql_vector", "unsupported")
    else:
        record_property("kql_vector", "exact")


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in OPERATORS["cases"]])
def test_gives_the_rows_of_operators_constructs(case: Mapping[str, Any]) -> None:
    assert_exact(case)


def test_does_not_forget_what_it_knew() -> None:
    def is_answered(case: Mapping[str, Any]) -> bool:
        try:
            answer(case)
        except Unsupported:
            return False
        return True

    assert len(OPERATORS["cases"]) == 70
    assert len(VECTORS["cases"]) == 190
    assert sum(map(is_answered, VECTORS["cases"])) >= EXACT_AT_LEAST
