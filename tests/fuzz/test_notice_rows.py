"""Rows of the outbox whatever their columns hold: each is a notice or is none, and no reader raises."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from functions.cloud.notices import (
    NOTICE_VERSION,
    PLANNED,
    PREFIX,
    announced_of,
    batches,
    is_newer,
    is_readable,
    pending_of,
)
from functions.cloud.tables import Row
from functions.model.notice import NoticeType

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["{}", "[]", '{"expected": null}', '{"expected": "2026-11-25T08:00:00Z"}', "2026-11-25T08:00:00+00:00", "null"]
)
VALUES = TEXTS | st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=5) | st.datetimes()
COLUMNS = st.fixed_dictionaries(
    {},
    optional={
        "v": VALUES,
        "type": VALUES | st.sampled_from(NoticeType).map(str),
        "subject": VALUES,
        "order": VALUES,
        "at": VALUES | st.datetimes().map(datetime.isoformat),
        "data": VALUES,
        "keep_until": VALUES,
        "sent": VALUES,
    },
)


@given(st.sampled_from([PREFIX, PLANNED]), st.text(max_size=10), COLUMNS)
def test_a_row_of_the_outbox_is_a_notice_or_none(prefix: str, end: str, columns: dict[str, object]) -> None:
    row = Row("p", prefix + end, columns, "etag")
    is_newer(row)
    found = pending_of(row)
    if found is not None:
        assert found.at.tzinfo is not None
        assert batches([found], most=1, max_bytes=1) == [[found]]
    if announced := announced_of(row):
        assert announced.expected.tzinfo is not None
    assert is_readable(row) <= (found is not None)


@given(st.integers(min_value=NOTICE_VERSION + 1))
def test_a_row_of_a_newer_release_is_known_by_its_version(version: int) -> None:
    assert is_newer(Row("p", f"{PREFIX}k", {"v": version}, "etag"))
