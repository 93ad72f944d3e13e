"""The evaluator's own promises: null logic, strings that are never null, joins, order, and that it fails rather than
guesses. The values themselves are tested against recordings in test_kql_vectors.py."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from simulator.resource_graph.kql import KqlError, Schema, Unsupported, evaluate, resource_graph_schema
from simulator.resource_graph.kql.parser import parse

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SCHEMA: Schema = {
    "machines": {"name": "string", "size": "long", "on": "bool", "since": "datetime", "bag": "dynamic", "cost": "real"},
    "notes": {"name": "string", "text": "string", "count": "int", "bag": "dynamic"},
}
Rows = Sequence[Mapping[str, object]]


def ask(text: str, machines: Rows = (), notes: Rows = ()) -> list[dict[str, Any]]:
    return evaluate(text, {"machines": machines, "notes": notes}, NOW, schema=SCHEMA).rows


def value_of(expression: str, **row: object) -> Any:
    """The expression's value over one row; what is not given is null, or '' for a string."""
    [found] = ask(f"machines | project value = {expression}", [row])
    return found["value"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # and: false wins over null
        ("true and tobool('')", None),
        ("tobool('') and true", None),
        ("false and tobool('')", False),
        ("tobool('') and false", False),
        ("tobool('') and tobool('')", None),
        # or: true wins over null
        ("true or tobool('')", True),
        ("tobool('') or true", True),
        ("false or tobool('')", None),
        ("tobool('') or false", None),
        ("not(tobool(''))", None),
        # one null is unequal to everything, two nulls are neither
        ("toint('') == 1", False),
        ("toint('') != 1", True),
        ("toint('') == toint('')", None),
        ("toint('') != toint('')", None),
        # no order with null
        ("toint('') < 1", None),
        ("1 <= toint('')", None),
        ("toint('') > 1", None),
        ("1 >= toint('')", None),
        # null is in no list
        ("toint('') in (1, 2)", False),
        ("toint('') !in (1, 2)", True),
        ("iff(tobool(''), 'yes', 'no')", "no"),
        ("coalesce(toint(''), 7)", 7),
        ("coalesce('', 'b', 'c')", "b"),
        ("coalesce('', '')", ""),
        ("toint('') + 1", None),
        ("1 - toint('')", None),
    ],
)
@pytest.mark.parametrize("folded", [True, False], ids=["constant", "over a row"])
def test_null_logic(expression: str, expected: object, folded: bool) -> None:
    """The same whether computed while compiling or for each row."""
    text = expression if folded else expression.replace("''", "name")
    assert value_of(text, name="") == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 < 2", True),
        ("2 <= 2", True),
        ("1 > 2", False),
        ("2 >= 3", False),
        ("'a' == 'A'", False),
        ("'a' != 'A'", True),
        ("'a' =~ 'A'", True),
        ("'a' !~ 'A'", False),
        ("'a' in ('A', 'b')", False),
        ("'a' !in ('A', 'b')", True),
        ("'a' in~ ('A', 'b')", True),
        ("'a' !in~ ('A', 'b')", False),
        ("datetime(2026-11-22) < now()", True),
        ("ago(12h) == datetime(2026-11-22)", True),
        ("datetime(2026-11-22T10:00:00+02:00) == datetime(2026-11-22T08:00:00Z)", True),
        ("datetime(2026-11-22T00:00:00.0000001Z) > datetime(2026-11-22)", True),
        ("true or false and false", True),
        ("(true or false) and false", False),
        ("1 + 2 - 4", -1),
        ("toint('2147483647')", 2147483647),
        ("toint('2147483648')", None),
        ("tostring(todatetime('2026-11-22T01:02:03.5Z'))", "2026-11-22T01:02:03.5000000Z"),
        ("split('a/b', '/')[1]", "b"),
        ("split('a/b', '/')[2]", None),
        ("tostring(split('a/b', '/')[2])", ""),
    ],
)
def test_operators_both_ways(expression: str, expected: object) -> None:
    assert value_of(expression) == expected


@pytest.mark.parametrize(
    ("expression", "bag", "expected"),
    [
        ("tostring(bag.a.b)", {"a": {"b": "x"}}, "x"),
        ("tostring(bag.a.b)", {"a": "x"}, ""),
        ("tostring(bag.A)", {"a": "x"}, ""),
        ("tostring(bag['a b'])", {"a b": "x"}, "x"),
        ("tostring(bag[1])", ["x", "y"], "y"),
        ("tostring(bag)", {"a": [1, True, None, "é"]}, '{"a":[1,true,null,"é"]}'),
        ("toint(bag)", "17", 17),
        ("toint(bag)", 2.9, 2),
        ("toint(bag)", {"a": 1}, None),
        ("tobool(bag)", "True", True),
        ("tobool(bag)", False, False),
        ("todatetime(bag)", "2026-11-22T08:00:00.1234567+00:00", "2026-11-22T08:00:00.1234567Z"),
        ("todatetime(bag)", "2026-13-01T00:00:00Z", None),
        ("todatetime(bag)", "never", None),
        ("isempty(bag)", "", True),
        ("isempty(bag)", {}, False),
        ("isnull(bag)", None, True),
        ("isnotnull(bag.a)", {"a": None}, False),
        # A bool is what JSON writes of it: the Well-Architected guide of Service Bus finds namespaces by
        # zoneRedundant == 'false', Update Manager's workbook machines by rebootPending == "true".
        ("bag == 'true'", True, True),
        ("bag == 'true'", False, False),
        ("bag == 'false'", False, True),
        ("bag != 'true'", False, True),
        ("bag =~ 'True'", True, True),
        ("bag == 'Enabled'", True, False),
        ("bag.a == 'true'", {}, False),
        # learn.microsoft.com, set_has_element(): whether the array has the value.
        ("set_has_element(bag, 'example')", ["this", "is", "an", "example"], True),
        ("set_has_element(bag, 'Example')", ["this", "is", "an", "example"], False),
        ("set_has_element(bag, 'this')", [], False),
        ("set_has_element(parse_json(tolower(bag)), 'security-esm')", ["Security-ESM"], True),
    ],
)
def test_dynamic_values(expression: str, bag: object, expected: object) -> None:
    assert value_of(expression, bag=bag) == expected


@pytest.mark.parametrize(
    ("expression", "bag"),
    [
        pytest.param("toint(bag)", True, id="a bool as an integer: the engines differ"),
        pytest.param("toint(bag)", "2.5", id="a fraction as text"),
        pytest.param("todatetime(bag)", 638_000_000, id="a number as a time"),
        pytest.param("todatetime(bag)", "22/11/2026", id="another notation of a time"),
        pytest.param("todatetime(bag)", "2026-11-22T08:00:00.12345678Z", id="more digits than ticks"),
        pytest.param("tostring(bag)", 1e300, id="the text of a large real"),
        pytest.param("tolong(bag) + 9223372036854775807", 1, id="a sum beyond 64 bits"),
        pytest.param("bag == 'True'", True, id="a bool in a text of another letter case"),
        pytest.param("bag == '1'", True, id="a bool in a text with a number"),
        pytest.param("set_has_element(bag, 'a')", None, id="an element of null"),
        pytest.param("set_has_element(bag, 'true')", [True], id="an element that is not a text"),
    ],
)
def test_a_value_it_is_not_sure_of_is_refused(expression: str, bag: object) -> None:
    with pytest.raises(Unsupported):
        value_of(expression, bag=bag)


def test_a_missing_string_is_empty_and_the_rest_is_null() -> None:
    assert (
        ask("machines", [{}, {"name": None}])
        == [{"name": "", "size": None, "on": None, "since": None, "bag": None, "cost": None}] * 2
    )


def test_where_keeps_only_true() -> None:
    rows: Rows = [{"name": "yes", "on": True}, {"name": "no", "on": False}, {"name": "null"}]
    assert ask("machines | where on | project name", rows) == [{"name": "yes"}]


def test_extend_sees_the_row_as_it_was_and_keeps_the_place_of_a_known_column() -> None:
    result = evaluate(
        "notes | extend text = name, name = text, fresh = text",
        {"notes": [{"name": "a", "text": "b"}]},
        NOW,
        schema=SCHEMA,
    )
    assert [name for name, _ in result.columns] == ["name", "text", "count", "bag", "fresh"]
    assert result.rows == [{"name": "b", "text": "a", "count": None, "bag": None, "fresh": "b"}]


def test_leftouter_keeps_the_unmatched_and_repeats_the_matched() -> None:
    rows = ask(
        "machines | project name, size | join kind=leftouter (notes) on name | order by name asc, text asc",
        [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
        [
            {"name": "a", "text": "two", "count": 2},
            {"name": "a", "text": "one", "bag": {"k": 1}},
            {"name": "A", "text": "another case", "count": 3},
        ],
    )
    assert rows == [
        {"name": "a", "size": 1, "name1": "a", "text": "one", "count": None, "bag": {"k": 1}},
        {"name": "a", "size": 1, "name1": "a", "text": "two", "count": 2, "bag": None},
        {"name": "b", "size": 2, "name1": "", "text": "", "count": None, "bag": None},
    ]


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("asc", [None, 1, 2]),
        ("desc", [2, 1, None]),
        ("", [2, 1, None]),
        ("asc nulls last", [1, 2, None]),
        ("asc nulls first", [None, 1, 2]),
        ("desc nulls first", [None, 2, 1]),
        ("desc nulls last", [2, 1, None]),
    ],
)
def test_order_of_nulls(direction: str, expected: list[int | None]) -> None:
    rows = ask(f"machines | order by size {direction} | project size", [{"size": 2}, {}, {"size": 1}])
    assert [row["size"] for row in rows] == expected


def test_later_keys_order_the_equals_of_earlier_ones() -> None:
    rows = [{"name": name, "size": size} for name, size in [("b", 1), ("a", 2), ("c", 2), ("a", 1)]]
    found = ask("machines | sort by size desc, name asc | project name, size", rows)
    assert [(row["name"], row["size"]) for row in found] == [("a", 2), ("c", 2), ("a", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("summarize count()", [{"count_": 3}]),
        ("where size > 99 | summarize n = count()", [{"n": 0}]),
        ("where size > 99 | summarize n = count() by name", []),
        ("summarize n = count() by name | order by name asc", [{"name": "", "n": 1}, {"name": "a", "n": 2}]),
        ("summarize n = count() by on | order by on asc", [{"on": None, "n": 1}, {"on": True, "n": 2}]),
        ("summarize by size | order by size asc", [{"size": 1}, {"size": 2}]),
    ],
)
def test_summarize_counts(query: str, expected: list[dict[str, Any]]) -> None:
    rows: Rows = [{"name": "a", "size": 1, "on": True}, {"name": "a", "size": 2}, {"size": 1, "on": True}]
    assert ask(f"machines | {query}", rows) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'PatchEvents' startswith 'patch'", True),
        ("'PatchEvents' !startswith 'Event'", True),
        ("'Function.f.User' endswith '.user'", True),
        ("'Function.f.User' contains 'ON.F'", True),
        ("'Function.f.User' !contains 'x'", True),
        ("'vm-01 of web' has 'VM-01'", True),
        ("'vm-01 of web' has 'w'", False),
        ("'vm-01 of web' !has 'we'", True),
        ("'/groups/a/runs/1' has '/GROUPS/a/runs/'", True),
        ("'/groups/a/runs/1' has 'groups/a/run'", False),
        ("'/groups/a/runs/1' has '/groups/b/runs/'", False),
        ("1.5 * 2", 3.0),
        ("100.0 * 1 / 8", 12.5),
        ("3 * 4 - 2", 10),
        ("1 + 2 * 3", 7),
        ("todouble(bag) * 1", None),
        ("todouble(7)", 7.0),
        ("2.5 > 2", True),
        ("bin(datetime(2026-11-22T13:59:59.5Z), 1h) == datetime(2026-11-22T13:00:00Z)", True),
        ("bin(datetime(2026-11-22T13:59:59Z), 1d) == datetime(2026-11-22)", True),
        ("bin(todatetime(''), 1d)", None),
        ("split('a/b/c', '/')[-1]", "c"),
        ("split('a/b/c', '/')[-4]", None),
        ("strcat('a', '', 'b')", "ab"),
        ("strcat_delim('-', 1, '2', 'A', 1s)", "1-2-A-00:00:01"),  # as documented
        ("format_datetime(datetime(2017-01-29 09:00:05), 'yy-MM-dd [HH:mm:ss]')", "17-01-29 [09:00:05]"),  # too
        ("format_datetime(datetime(2026-11-02), 'yyyy-MM-dd')", "2026-11-02"),
        ("replace_string('web/versions/1', '/versions/', ' ')", "web 1"),
        ("extract('.*/images/(.+)', 1, '/images/x/images/web/versions/1')", "web/versions/1"),
        ("extract('.*/images/(.+)', 1, 'canonical:ubuntu')", ""),
        ("'Contoso-12' matches regex @'^Contoso(.*)[0-9]+$'", True),
        ("'Contoso-12\\n' matches regex '[0-9]$'", False),
        ("'Contoso' !has 'x' and not('vm-01' matches regex '^[0-9]')", True),
        ("'redhat:rhel:9' matches regex 'canonical:.+|redhat:rhel:9.*'", True),
        ("'redhat:rhel:8' matches regex 'canonical:.+|redhat:rhel:9.*'", False),
        (r"trim_end(@'\/\w+\/(\w|\.)+', '/machines/a/licenseProfiles/default')", "/machines/a"),
        ("datetime('2026-11-22T13:00:00Z') == datetime(2026-11-22T13:00:00Z)", True),  # Kusto.Language strips quotes
        ('datetime("2026-11-22") == datetime(2026-11-22)', True),
        ("datetime_diff('minute', datetime(2017-10-30 23:05:01), datetime(2017-10-30 23:00:59))", 5),
        ("datetime_diff('hour', datetime(2017-10-31 01:00:00), datetime(2017-10-30 23:59:00))", 2),
        ("datetime_diff('day', datetime(2017-09-30 23:59:00), datetime(2017-10-29 00:00:00))", -29),
        ("datetime_diff('second', todatetime(''), datetime(2017-10-29 00:00:00))", None),
    ],
)
def test_text_numbers_and_moments(expression: str, expected: object) -> None:
    assert value_of(expression) == expected


READINGS: Rows = [
    {"name": "a", "size": 1, "cost": 0.5, "on": True, "since": "2026-11-22T01:00:00Z"},
    {"name": "a", "size": 4, "cost": 1.5, "on": False, "since": "2026-11-22T03:00:00Z"},
    {"name": "a", "size": 2, "since": "2026-11-22T02:00:00Z"},
    {"name": "b", "on": True},
]


@pytest.mark.parametrize(
    ("aggregate", "of_a", "of_b"),
    [
        ("n = countif(on)", 1, 1),
        ("n = dcount(size)", 3, 0),
        ("n = sum(size)", 7, 0),
        ("n = sum(cost)", 2.0, 0),
        ("n = max(size)", 4, None),
        ("n = min(size)", 1, None),
        ("n = max(since)", "2026-11-22T03:00:00.0000000Z", None),
        ("n = percentile(size, 50)", 2, None),
        ("n = percentile(size, 95)", 4, None),
        ("n = percentile(cost, 50)", 0.5, None),
    ],
)
def test_aggregates_leave_nulls_out(aggregate: str, of_a: object, of_b: object) -> None:
    rows = ask(f"machines | summarize {aggregate} by name | order by name asc", READINGS)
    assert rows == [{"name": "a", "n": of_a}, {"name": "b", "n": of_b}]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("summarize n = avg(size), m = avg(cost)", [{"n": 7 / 3, "m": 1.0}]),
        ("summarize arg_max(since, size) by name", [{"name": "a", "since": "2026-11-22T03:00:00.0000000Z", "size": 4}]),
        ("project name, size, cost | summarize arg_min(size, *) by name", [{"name": "a", "size": 1, "cost": 0.5}]),
        ("project size, cost | summarize arg_max(size, *)", [{"size": 4, "cost": 1.5}]),
        ("where size > 1 | order by cost desc | project size", [{"size": 4}, {"size": 2}]),
        # A constant beside aggregates (Update Manager's workbook); to Kusto.Language it is a long.
        ("summarize total = 0, n = count()", [{"total": 0, "n": 3}]),
        ("summarize total = 1 + 1, n = count() by name", [{"name": "a", "total": 2, "n": 3}]),
        # learn.microsoft.com, make_set() and make_list(): maxSize is the greatest number of elements.
        ("summarize s = make_set(name, 1), l = make_list(size, 3)", [{"s": ["a"], "l": [1, 4, 2]}]),
        ("summarize l = strcat_array(make_list(iff(size > 1, name, '-')), '; ')", [{"l": "-; a; a"}]),
    ],
)
def test_aggregates_over_rows(query: str, expected: list[dict[str, Any]]) -> None:
    assert ask(f"machines | {query}", READINGS[:3]) == expected


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("summarize n = avg(size) by name", "no value"),
        ("summarize arg_max(size, on) by name", "no value"),
        ("project on, size, k = 1 | summarize arg_max(k, size)", "different rows with the same key"),
        ("summarize make_set(name, 1)", r"make_set\(\) of 2 values with a limit of 1"),
        ("summarize make_list(size, 2)", r"make_list\(\) of 3 values with a limit of 2"),
    ],
)
def test_what_kusto_may_choose_is_refused(query: str, names: str) -> None:
    with pytest.raises(Unsupported, match=names):
        ask(f"machines | {query}", READINGS)


def test_table_names_ignore_case_and_column_names_do_not() -> None:
    assert ask("MACHINES | project name", [{"name": "a"}]) == [{"name": "a"}]
    with pytest.raises(KqlError, match="'Name' at line 1, column 20"):
        ask("machines | project Name")


@pytest.mark.parametrize(
    ("text", "error", "names"),
    [
        ("let a = 1; machines", Unsupported, "'let' at line 1, column 1"),
        ("// why\nprint 1", Unsupported, "'print' at line 2, column 1"),
        ("machines\n| mv-apply bag", Unsupported, "'mv-apply' at line 2, column 3"),
        ("machines\n| mv-expand name", Unsupported, "mv-expand of a string at line 2, column 3"),
        ("machines | mv-expand bag to typeof(guid)", Unsupported, r"toguid\(\) at line 1, column 12"),
        ("machines\n| where name matches 'a'", Unsupported, "'matches' at line 2, column 14"),
        ("machines | where name !hasprefix 'a'", Unsupported, "'!hasprefix' at line 1, column 23"),
        ("machines | where name has ''", Unsupported, "an empty or computed text at line 1, column 23"),
        ("machines | where name startswith bag.a", Unsupported, "string startswith dynamic"),
        ("machines | where", Unsupported, "the end of the query"),
        ("machines | where name == 'a\\x'", Unsupported, "in a text at line 1, column 26"),
        ("machines | project a = reverse(name)", Unsupported, r"the function reverse\(\) at line 1, column 24"),
        ("machines | project bag[name]", Unsupported, "without a name at line 1, column 24"),
        ("machines | summarize make_bag(bag)", Unsupported, r"the aggregate make_bag\(\) at line 1, column 22"),
        ("machines | summarize n = dcount(on)", Unsupported, r"dcount\(\) of a bool"),
        ("machines | summarize n = sum(name)", Unsupported, r"sum\(\) of a string"),
        ("machines | summarize n = countif(name)", KqlError, r"countif\(\) of a string"),
        ("machines | summarize n = max(name)", Unsupported, r"max\(\) of a string"),
        ("machines | summarize n = percentile(size, 150)", Unsupported, r"percentile\(\) of that share"),
        ("machines | summarize n = percentile(size)", KqlError, r"percentile\(\) with 1 arguments"),
        ("machines | summarize arg_max(*, name)", Unsupported, r"arg_max\(\) of that form"),
        ("machines | summarize arg_max(size, name, *)", Unsupported, r"arg_max\(\) of that form"),
        ("machines | summarize arg_max(size)", Unsupported, r"arg_max\(\) of that form"),
        ("machines | summarize arg_max(size, tolower(name))", Unsupported, "of a computed column"),
        ("machines | summarize arg_max(name, size)", Unsupported, r"arg_max\(\) by a string"),
        ("machines | summarize arg_max(size, nam)", KqlError, "the unknown column 'nam'"),
        ("machines | summarize n = count() by cost", Unsupported, "of type real"),
        ("machines | summarize n = count() + size", Unsupported, "that reads a column at line 1, column 36"),
        ("machines | summarize n = 1", Unsupported, "summarize of constants alone"),
        ("machines | project a = tolower(*)", Unsupported, r"'\*' outside arg_max\(\)"),
        ("machines | project a = bin(size, 1d)", Unsupported, r"bin\(\) of a long by a timespan"),
        ("machines | project a = since * 2", KqlError, r"datetime \* long"),
        ("machines | project a = bag + 2", Unsupported, r"dynamic \+ long"),
        ("machines | project a = name * 2", KqlError, "string \\* long"),
        ("machines | project a = extract('(ab|a)', 1, name)", Unsupported, "the pattern"),
        ("machines | where name matches regex 'a||b'", Unsupported, "the pattern"),
        ("machines | summarize s = make_set(name, 0)", Unsupported, "with the limit 0"),
        ("machines | summarize s = make_set(name, size)", Unsupported, "with such a limit"),
        ("machines | project a = set_has_element(bag, 1)", Unsupported, "of a dynamic and a long"),
        ("machines | project a = extract('(a)', 2, name)", Unsupported, "a group that does not exist"),
        ("machines | project a = datetime_diff('week', since, since)", Unsupported, "of that period"),
        ("machines | project a = datetime_diff(name, since, since)", Unsupported, "of that period"),
        ("machines | project a = datetime_diff('day', since, size)", Unsupported, "of a datetime and a long"),
        ("machines | project a = strcat(name, on)", Unsupported, r"strcat\(\) of a bool"),
        ("machines | project a = replace_string(name, '', 'x')", Unsupported, "an empty or computed text"),
        ("machines | join kind=fullouter (notes) on name", Unsupported, "join kind=fullouter at line 1, column 12"),
        ("machines | join (notes) on $left.name == $right.nam", KqlError, "'nam' at line 1, column 49"),
        ("machines | union kind=inner (notes)", Unsupported, "union kind=inner"),
        ("machines | union (notes | extend size = 'x')", Unsupported, "the column 'size' of two types"),
        ("machines | where bag.a and on", Unsupported, "cast the dynamic value first"),
        ("machines | where bag.a > 'x'", KqlError, "dynamic > string"),
        ("machines | parse name with a b", Unsupported, "do not take turns at line 1, column 30"),
        ("machines | parse name with a 'x' b:guid", Unsupported, "parse into a guid"),
        ("machines | parse name with on 'x'", Unsupported, "the column 'on', which is there"),
        ("machines | distinct bag", KqlError, "of dynamic type"),
        ("machines | project-away s*, nob*", KqlError, r"'nob\*' at line 1, column 29"),
        ("machines | project-rename size = name", KqlError, "'size' named twice"),
        ("machines | project a = case(on, 1)", KqlError, r"case\(\) with 2 arguments"),
        ("where name == 'a'", KqlError, "the unknown table 'resources' at line 1, column 1"),
        ("machines | where cost == 1", Unsupported, "real == long at line 1, column 23"),
        ("machines | projecta = name", Unsupported, "'projecta' at line 1, column 12"),
        ("machines | order byname asc", Unsupported, "'byname' at line 1, column 18"),
        ("machines | project a = 5w", Unsupported, "'5w' at line 1, column 24"),
        ("machines | summarize", Unsupported, "the end of the query"),
        ("machines | project a = ago(999999d)", Unsupported, "outside the years"),
        ("machines | order by bag asc", KqlError, "a sort key of dynamic type"),
        ("machines | project a = tostring(on)", Unsupported, r"tostring\(\) of a bool"),
        ("machines | project a = datetime(soon)", Unsupported, r"datetime\(soon\)"),
        ("machine", KqlError, "the unknown table 'machine' at line 1, column 1"),
        ("machines | extend a = nam", KqlError, "the unknown column 'nam' at line 1, column 23"),
        ("machines | where size == 1 and name", KqlError, "bool and string at line 1, column 28"),
    ],
)
def test_failures_name_the_construct_and_the_place_even_over_no_rows(
    text: str, error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        ask(text)


def test_a_mistake_on_the_right_of_a_join_is_found_over_no_rows() -> None:
    with pytest.raises(KqlError, match="'nam'"):
        ask("machines | join kind=leftouter (notes | where nam == 'a') on name")


def test_rows_that_do_not_fit_the_schema_are_refused() -> None:
    with pytest.raises(ValueError, match="columns outside the schema of machines: Name"):
        ask("machines", [{"Name": "a"}])
    with pytest.raises(ValueError, match="tables outside the schema: machine"):
        evaluate("machines", {"machine": []}, NOW, schema=SCHEMA)


def test_the_rows_given_are_not_changed() -> None:
    given: Rows = [{"name": "b", "bag": {"k": 1}}, {"name": "a"}]
    ask("machines | extend name = 'x', bag = bag.k | order by name asc", given)
    assert given == [{"name": "b", "bag": {"k": 1}}, {"name": "a"}]


def test_now_is_the_moment_given() -> None:
    def asked_at(now: datetime) -> Any:
        return evaluate("machines | project t = ago(1d)", {"machines": [{}]}, now, schema=SCHEMA).rows[0]["t"]

    assert asked_at(datetime(2026, 11, 22, tzinfo=UTC)) == "2026-11-21T00:00:00.0000000Z"
    assert asked_at(datetime(2026, 11, 23, 0, 0, 0, 5, tzinfo=UTC)) == "2026-11-22T00:00:00.0000050Z"


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        evaluate("machines", {}, datetime(2026, 11, 22), schema=SCHEMA)  # noqa: DTZ001 - the mistake under test


def test_a_text_is_parsed_once() -> None:
    text = "machines | where name == 'parsed once'"
    assert parse(text) is parse(text)


def test_texts_that_differ_in_times_alone_keep_their_own() -> None:
    def newer_than(moment: str, other: str) -> str:
        query = f"machines | where since > datetime({moment}) and name != 'datetime(2026-01-01)' // datetime({other})\n"
        return query + f"| extend before = datetime({other})"

    trees = [parse(newer_than("2026-11-22T10:00:00Z", "2026-11-01")), parse(newer_than("2026-11-23", "2026-11-02"))]
    written = [[text for text in str(tree).split("'") if text.startswith(("2026", "datetime("))] for tree in trees]
    assert written == [
        ["2026-11-22T10:00:00Z", "datetime(2026-01-01)", "2026-11-01"],
        ["2026-11-23", "datetime(2026-01-01)", "2026-11-02"],
    ]
    with pytest.raises(KqlError, match="the unknown column 'nam' at line 1, column 57"):
        ask("machines | extend a = datetime(2026-11-22T10:00:00Z) == nam")


def test_texts_that_differ_in_the_strings_of_a_list_keep_their_own() -> None:
    private = "\ue0000"  # the character that stands for the strings while a text is parsed

    def listed(name: str) -> str:
        return f"machines | where name in ('{name}', '', 'x') or name == 'in (\\'a\\')' // in ('b')"

    def names(query: str) -> list[str]:
        return [row["name"] for row in ask(query, [{"name": name} for name in ("web-1", "web-2", private, "", "a")])]

    assert [names(listed(name)) for name in ("web-1", "web-2", private)] == [
        ["web-1", ""],
        ["web-2", ""],
        [private, ""],
    ]


LATER = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize("age", ["now()", "ago(1h)", "iff(true, now(), since)", "now() - 1h"])
@pytest.mark.parametrize("operator", ["where since < {}", "extend x = {}", "project x = {}", "summarize x = max({})"])
def test_a_repeated_query_is_of_its_own_time(operator: str, age: str) -> None:
    query, tables = f"machines | {operator.format(age)}", {"machines": [{"since": "2026-11-22T12:00:00Z"}]}
    answers = [evaluate(query, tables, moment, schema=SCHEMA).rows for moment in (NOW, LATER, NOW)]
    assert answers[0] == answers[2] != answers[1]


def test_columns_without_names_are_counted_again_in_each_query() -> None:
    query = "machines | project name, 1 + 1 | where Column1 == 2 | extend name in ('{}') | project-keep Column*"
    for name, found in (("a", True), ("b", False), ("a", True)):
        assert ask(query.format(name), [{"name": "a"}]) == [{"Column1": 2, "Column2": found}]


def test_a_repeated_operator_reads_the_columns_of_its_own_table() -> None:
    query = "machines | extend both = name"
    for columns in ({"name": "string"}, {"size": "int", "name": "string"}, {"name": "string"}):
        row = {"name": "a"} | ({"size": 1} if "size" in columns else {})
        assert evaluate(query, {"machines": [row]}, NOW, schema={"machines": columns}).rows == [row | {"both": "a"}]


def test_the_packaged_schema_is_the_default() -> None:
    assert evaluate("ResourceContainers | project id", {"resourcecontainers": [{"id": "/s"}]}, NOW).rows == [
        {"id": "/s"}
    ]
    assert set(resource_graph_schema()) >= {"resources", "patchassessmentresources", "patchinstallationresources"}
