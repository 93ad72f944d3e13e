"""The evaluator's edges: numbers beyond 64 bits, texts that are not a number, depth, tables that are elsewhere.

At each it gives the right value or raises Unsupported. It never ends with an error of Python's own, and no answer
holds NaN or Infinity, which JSON cannot write. A property test says so of random queries.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.resource_graph.kql import KqlError, Schema, Unsupported, evaluate

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SCHEMA: Schema = {
    "machines": {"name": "string", "size": "long", "on": "bool", "since": "datetime", "bag": "dynamic", "cost": "real"},
    "notes": {"name": "string", "text": "string", "count": "int", "bag": "dynamic"},
}
Rows = Sequence[Mapping[str, object]]
MAX_LONG = 2**63 - 1


def answer(query: str, rows: Rows = ({},)) -> list[dict[str, Any]]:
    found = evaluate(query, {"machines": rows}, NOW, schema=SCHEMA).rows
    json.dumps(found, allow_nan=False)
    return found


UNSUPPORTED = [
    pytest.param("project a = extract('(a', 1, name)", {}, id="a group that stays open"),
    pytest.param("project a = extract('*', 0, name)", {}, id="a star after nothing"),
    pytest.param("project a = extract('a)', 0, name)", {}, id="a group that was not opened"),
    pytest.param("project a = extract('+a', 0, name)", {}, id="a plus after nothing"),
    pytest.param("project a = extract('(*a)', 1, name)", {}, id="a star after a bracket"),
    pytest.param("project a = bin(since, 0d)", {"since": "2026-11-22"}, id="a bin of no size"),
    pytest.param("project a = tolong(parse_json('1e400'))", {}, id="a real beyond 64 bits in JSON"),
    pytest.param("project a = parse_json(name)", {"name": "9" * 5000}, id="an integer of 5,000 digits in JSON"),
    pytest.param("project a = parse_json(name)", {"name": "[" * 100_000}, id="JSON 100,000 levels deep"),
    pytest.param("project a = " + "9" * 5000, {}, id="an integer of 5,000 digits in the query"),
    pytest.param("project a = " + "9" * 400 + ".0", {}, id="a real of 400 digits in the query"),
    pytest.param(f"project a = bag[{'9' * 5000}]", {}, id="an index of 5,000 digits"),
    pytest.param(f"project a = ago({'9' * 5000}d)", {}, id="a time span of 5,000 digits"),
    pytest.param("project a = cost * cost", {"cost": 1e200}, id="a product beyond 64 bits"),
    pytest.param("project a = cost + cost", {"cost": 1.7e308}, id="a sum beyond 64 bits"),
    pytest.param("project a = cost * 0.0", {"cost": float("inf")}, id="not a number"),
    pytest.param("project a = todouble(bag)", {"bag": 10**400}, id="a number of a row beyond 64 bits"),
    pytest.param("project a = tostring(bag)", {"bag": [1e300]}, id="the text of a large real in an array"),
    pytest.param("where " + " or ".join(["name == 'a'"] * 1500), {}, id="1,500 terms"),
    pytest.param("where " + "(" * 3000 + "on" + ")" * 3000 + " and name == 'a'" * 3000, {}, id="3,000 brackets"),
    pytest.param("project a = todatetime(name)", {"name": "2026-11-22T10:00:00+99:99"}, id="a zone beyond 14 hours"),
    pytest.param("project a = toupper(name)", {"name": "stra\u00dfe"}, id="a letter without a capital of one letter"),
    pytest.param("project a = format_datetime(since, 'd/M/y')", {}, id="parts of a date without a fixed width"),
    pytest.param("project a = format_datetime(since, 'yyyyMMdd')", {}, id="parts of a date side by side"),
    pytest.param("project a = format_datetime(since, 'yyyy')", {}, id="the text of no date"),
    pytest.param("where name =~ 'istanbul'", {"name": "\u0130stanbul"}, id="a capital without its own small letter"),
]


@pytest.mark.parametrize(("query", "row"), UNSUPPORTED)
def test_an_edge_is_unsupported(query: str, row: dict[str, object]) -> None:
    with pytest.raises(Unsupported):
        answer(f"machines | {query}", [row])


def test_aggregates_beyond_64_bits_are_unsupported() -> None:
    with pytest.raises(Unsupported):
        answer("machines | summarize a = sum(size)", [{"size": MAX_LONG}, {"size": 1}])
    for aggregate in ("sum", "avg"):
        with pytest.raises(Unsupported):
            answer(f"machines | summarize a = {aggregate}(cost)", [{"cost": 1e308}, {"cost": 1e308}])


VALUES = [
    pytest.param("toint(parse_json('NaN'))", {}, None, id="NaN is not JSON"),
    pytest.param("tolong(parse_json('Infinity'))", {}, None, id="Infinity is not JSON"),
    pytest.param("parse_json('NaN')", {}, "NaN", id="what is not JSON stays a text"),
    pytest.param("parse_json('[1, NaN]')", {}, "[1, NaN]", id="NaN in an array is not JSON"),
    pytest.param("toint(name)", {"name": "9" * 5000}, None, id="a text of 5,000 digits is not an int"),
    pytest.param("since in (datetime(null))", {}, None, id="null in a list with null"),
    pytest.param("since !in (datetime(null))", {}, None, id="null not in a list with null"),
    pytest.param("since !in (datetime(null))", {"since": "2026-11-22"}, True, id="a time not in a list of null"),
    pytest.param("on == True", {"on": True}, True, id="True"),
    pytest.param("on == FALSE", {"on": True}, False, id="FALSE"),
    pytest.param("coalesce(size, 1.5)", {}, 1.5, id="coalesce of an integer and a real"),
    pytest.param("coalesce(size, 1.5)", {"size": 2}, 2.0, id="coalesce gives a real"),
    pytest.param("bag.n > 5 or isnull(bag.n)", {"bag": {"n": 6}}, True, id="a number of a dynamic is compared"),
    pytest.param("bag > ago(1d)", {"bag": "2026-11-22T10:00:00Z"}, True, id="a time of a dynamic is compared"),
    pytest.param("ago(1d) >= bag", {"bag": "2026-11-22T10:00:00Z"}, False, id="a time with one of a dynamic"),
    pytest.param("toupper(name)", {"name": "r\u00e4um"}, "R\u00c4UM", id="a letter with its own capital"),
    pytest.param("tolower(name)", {"name": "\u0394\u03a3"}, "\u03b4\u03c3", id="small letters one by one"),
]


@pytest.mark.parametrize(("expression", "row", "expected"), VALUES)
def test_a_value_at_an_edge(expression: str, row: dict[str, object], expected: object) -> None:
    [found] = answer(f"machines | project value = {expression}", [row])
    assert (type(found["value"]), found["value"]) == (type(expected), expected)


def test_a_percentile_of_int_is_a_long() -> None:
    found = evaluate("machines | summarize p = percentile(toint(name), 50)", {}, NOW, schema=SCHEMA)
    assert found.columns == (("p", "long"),)


def test_a_column_of_arg_max_gives_way_to_a_group_key() -> None:
    rows: Rows = [{"name": "a", "size": 1}, {"name": "a", "size": 2}]
    found = evaluate(
        "machines | summarize arg_max(size, name), n = count() by name", {"machines": rows}, NOW, schema=SCHEMA
    )
    assert found.columns == (("name", "string"), ("size", "long"), ("name1", "string"), ("n", "long"))
    assert found.rows == [{"name": "a", "size": 2, "name1": "a", "n": 2}]


@pytest.mark.parametrize("table", ["HealthResources", "policyresources", "AdvisorResources"])
def test_a_table_that_resource_graph_has_and_the_simulator_has_not(table: str) -> None:
    with pytest.raises(Unsupported, match=table):
        evaluate(f"{table} | project id", {}, NOW)


# ---- random queries

NAMES = st.sampled_from(["name", "size", "on", "since", "bag", "cost", "bag.a", "bag.a[0]", "bag['x y']", "nothing"])
LITERALS = st.sampled_from(
    ["1", "0", "-1", "1.5", "'a'", "''", "'(a'", "true", "FALSE", "datetime(2026-11-22)", "datetime(null)", "1h", "0d",
     "9223372036854775807", "99999999999999999999", "dynamic([1])", "'NaN'", "'1e999'", "*", "null", "5"]
)  # fmt: skip
FUNCTIONS = st.sampled_from(
    ["tostring", "toint", "tolong", "todouble", "tobool", "todatetime", "totimespan", "tolower", "toupper", "isnull",
     "isempty", "not", "iff", "case", "coalesce", "split", "strcat", "strlen", "substring", "extract", "parse_json",
     "array_length", "strcat_array", "pack", "bag_keys", "datetime_diff", "datetime_add", "startofday", "bin", "ago",
     "make_datetime", "indexof", "trim", "replace_string", "count", "sum", "avg", "max", "dcount", "make_set",
     "arg_max", "countif", "sumif", "percentile", "nothing", "now"]
)  # fmt: skip
OPERATORS = st.sampled_from(
    ["==", "!=", "=~", "!~", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "and", "or", "has", "!has", "contains",
     "startswith", "!endswith", "matches regex", "in", "!in~"]
)  # fmt: skip


def composed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds(lambda one, by, other: f"{one} {by} {other}", inner, OPERATORS, inner),
        st.builds(lambda one, by, other: f"{one} {by} ({other})", inner, OPERATORS, inner),
        st.builds(lambda name, given: f"{name}({', '.join(given)})", FUNCTIONS, st.lists(inner, max_size=3)),
    )


EXPRESSIONS = st.recursive(NAMES | LITERALS, composed, max_leaves=6)
STEPS = st.one_of(
    st.builds("where {}".format, EXPRESSIONS),
    st.builds("extend x = {}, {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("project {}, y = {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("summarize {}, z = {} by {}".format, EXPRESSIONS, EXPRESSIONS, EXPRESSIONS),
    st.builds("order by {} desc, name".format, EXPRESSIONS),
    st.builds("top {} by {}".format, LITERALS, EXPRESSIONS),
    st.builds("take {}".format, LITERALS),
    st.builds("distinct {}".format, EXPRESSIONS),
    st.builds("mv-expand l = {}".format, EXPRESSIONS),
    st.builds("parse {} with * {} q:{} {}".format, EXPRESSIONS, LITERALS, FUNCTIONS, LITERALS),
    st.builds("project-away {}".format, NAMES),
    st.builds("project-rename w = {}".format, NAMES),
    st.builds("project-reorder {}, *".format, NAMES),
    st.builds("join kind={} (notes | where {}) on {}".format, FUNCTIONS | st.just("inner"), EXPRESSIONS, NAMES),
    st.builds("join (notes) on $left.{} == $right.{}".format, NAMES, NAMES),
    st.builds("union (notes | extend {})".format, EXPRESSIONS),
    st.sampled_from(["count", "limit 1", "", "|", "let", "(("]),
)
WHOLE = [
    {},
    {"name": "a", "size": MAX_LONG, "on": True, "since": "2026-11-22T10:00:00Z", "bag": {"a": [1, "x"]}, "cost": 1e308},
    {"name": "\u0130 1", "size": -1, "on": False, "since": "9999-12-31T00:00:00Z", "bag": "2026", "cost": -0.5},
    {"name": "b", "size": 0, "bag": [{"a": None}, 1.5, True], "cost": 0.0},
]


@given(st.lists(STEPS, min_size=1, max_size=4))
def test_random_queries_end_in_rows_or_in_words(steps: list[str]) -> None:
    with suppress(KqlError, Unsupported):
        answer(" | ".join(["machines", *steps]), WHOLE)


@given(st.text())
def test_any_text_ends_in_rows_or_in_words(text: str) -> None:
    for query in (text, f"machines | {text}", f"machines | where name == '{text}'"):
        with suppress(KqlError, Unsupported):
            answer(query, WHOLE)
