"""The services: one answer with its status, headers and body gone odd, rows of Resource Graph, and rows of the ledger.

The histories of test_odd_answers.py show what the app does with what is odd; here many more odd things are read by the
one part that reads them. Each gives what was asked for, or one clear line of what was wrong.
"""

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from azure.core.utils import CaseInsensitiveDict
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import function_app
from functions.cloud.arm import ResourceManager
from functions.cloud.errors import CloudError, OutcomeUnknown, Throttled, Unavailable
from functions.cloud.ledger import APP, Ledger
from functions.cloud.rows import LeftAlone, image_key, row_key
from functions.cloud.translation import MAX_RETRY_AFTER_SECONDS, retry_after_seconds
from functions.model.state import OperationKind
from functions.model.text import BadInput
from simulator.azure import Behaviour
from simulator.wire import Request, Response
from tests.fuzz.azure_gone_odd import RAW, RETRY_AFTERS, OddAzure, Wrong, statuses
from tests.fuzz.checks import EXAMPLES, check, fuzzing_many, has_no_defect, is_clear, journal_lines
from tests.fuzz.mangling import CONNECTION_STRING, JUNK, SECRET, SIGNED_URL, TOKEN, mangled, noisy
from tests.fuzz.test_odd_answers import GOOD
from tests.fuzz.test_odd_input import triggered
from tests.fuzz.test_odd_values import OPERATION_FORM, VM
from tests.support import (
    GALLERY_IMAGE,
    NOW,
    OPERATION,
    OPERATION_URL,
    PAYLOADS,
    a_graph_row,
    a_machine,
    a_record,
    a_verdict,
    an_arm_machine,
    machine_id,
)
from tests.support.tables import MemoryTable
from tests.support.world import QUICK, World

# -- the services: one answer with status, headers and body gone odd

ERRORS = json.loads((PAYLOADS / "compute_error_messages.json").read_text())
THROTTLED = json.loads((PAYLOADS / "compute_429_doc_sample.json").read_text())
LINUX = json.loads((PAYLOADS / "recorded_vm_installPatches_linux_LRO.json").read_text())
WINDOWS = json.loads((PAYLOADS / "recorded_vm_installPatches_windows_LRO.json").read_text())
REFUSAL = {
    "error": {
        "code": "OperationNotAllowed",
        "message": f"VM has extension 'x' in failed state. See {SIGNED_URL} ({CONNECTION_STRING}), Bearer {TOKEN}",
        "target": "vm",
        "details": [{"code": "TooManyRequests", "target": "bucket", "message": "later"}],
        "innererror": {"exceptiontype": "x", "errordetail": SIGNED_URL},
    }
}
bodies = st.one_of(
    mangled(REFUSAL), mangled(REFUSAL["error"]), mangled(THROTTLED), mangled(ERRORS), st.sampled_from(JUNK)
)
header_texts = st.one_of(
    st.sampled_from(RETRY_AFTERS), st.text(max_size=12), st.sampled_from([str(each) for each in JUNK])
)
HEADERS = ("retry-after", "azure-asyncoperation", "x-ms-ratelimit-remaining-resource", "content-type", "location")
headers = st.dictionaries(
    st.sampled_from(HEADERS),
    st.one_of(
        header_texts, noisy(OPERATION_URL), noisy("Microsoft.Compute/VMGuestPatchOperationSubscriptionMaximum;598")
    ),
)


class Answering:
    """Azure with one fixed answer to everything, watched like the odd one."""

    def __init__(self, status: int, content: bytes, extra: dict[str, str]) -> None:
        self._world = World()
        self.odd = OddAzure(self._world, iter(()), "nothing")
        self._answer = (status, content, extra)
        self._world.azure.handle = self._handle  # type: ignore[method-assign]

    async def _handle(self, request: Request) -> Response:
        status, content, extra = self._answer
        sent = {"content-type": "application/json", **extra, "content-length": str(len(content))}
        return Wrong(status=status, raw=content).of(Response(status, None, sent))

    def ask(self, call: Callable[[ResourceManager], Any]) -> Any:
        """What the call gave or raised, where a door may raise it; the call is checked."""
        try:
            return asyncio.run(call(self._world.services.compute))
        except (CloudError, BadInput) as problem:
            is_clear(str(problem))
            return problem
        finally:
            check(self.odd, [])


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode("utf-8", "replace")


@fuzzing_many
@given(statuses, st.one_of(bodies.map(encoded), st.sampled_from(RAW)), headers)
@example(409, encoded({"error": {"code": {"claims": SECRET}, "message": [SECRET]}}), {})  # a code that is no text
@example(409, encoded({"error": {"code": SIGNED_URL, "message": "x"}}), {})
@example(202, b"", {"x-ms-ratelimit-remaining-resource": "VMGuestPatchOperationSubscriptionMaximum;\u00b2"})
@example(202, b"", {"x-ms-ratelimit-remaining-resource": f"VMGuestPatchOperationSubscriptionMaximum;{'9' * 5000}"})
def test_an_answer_to_a_post_is_taken_refused_or_unknown(status: int, content: bytes, extra: dict[str, str]) -> None:
    door = Answering(status, content, extra)
    machine = a_machine()
    told = door.ask(
        lambda compute: compute.start(machine, OperationKind.ASSESS, order=None, send_by=NOW + timedelta(days=1))
    )
    if status >= 500 or status == 408:
        assert isinstance(told, OutcomeUnknown)  # it may run: nobody may send it again
    if 200 <= status < 300:
        assert isinstance(told, OutcomeUnknown) or OPERATION_FORM.fullmatch(getattr(told, "url", ""))
    if isinstance(told, Throttled):
        assert 0 <= told.retry_after_seconds <= MAX_RETRY_AFTER_SECONDS
    assert status != 429 or isinstance(told, Throttled)


@fuzzing_many
@given(
    statuses,
    st.one_of(mangled(an_arm_machine()).map(encoded), bodies.map(encoded), st.sampled_from(RAW)),
    headers,
)
@example(200, encoded(an_arm_machine(id=VM.replace("VM-01", "off-01"))), {})  # an answer about another machine
def test_an_answer_about_a_machine_is_that_machine_or_a_clear_line(
    status: int, content: bytes, extra: dict[str, str]
) -> None:
    asked = machine_id()
    told = Answering(status, content, extra).ask(lambda compute: compute.machine(asked))
    assert isinstance(told, Exception) or told.id == asked


@fuzzing_many
@given(
    st.one_of(
        mangled({"id": machine_id().group_id, "tags": {"patch-mode": "off"}, "managedBy": "x"}).map(encoded),
        st.sampled_from(RAW),
    )
)
@example(encoded({"id": machine_id(group="rg-other").group_id, "tags": {}}))
def test_an_answer_about_a_group_is_that_group_or_a_clear_line(content: bytes) -> None:
    told = Answering(200, content, {}).ask(lambda compute: compute.group(machine_id()))
    if not isinstance(told, Exception):
        assert json.loads(content)["id"].lower() == machine_id().group_id


ENDED = {"name": OPERATION, "status": "Succeeded", "properties": {"output": LINUX.get("result", LINUX)}}
CLAIMS = {"claims": {"upn": f"{SECRET}@contoso.example"}}


@fuzzing_many
@given(st.one_of(mangled(ENDED), mangled(WINDOWS), st.sampled_from(JUNK)), st.sampled_from(sorted(OperationKind)))
@example(
    {**ENDED, "properties": {"output": {"rebootStatus": CLAIMS, "installedPatchCount": float("nan")}}},
    OperationKind.INSTALL,
)
@example(
    {**ENDED, "properties": {"output": {name: 10**4000 for name in ("installedPatchCount", "failedPatchCount")}}},
    OperationKind.INSTALL,
)
@example({**ENDED, "status": CLAIMS}, OperationKind.ASSESS)
@example({**ENDED, "name": "00000000-0000-0000-0000-00000000000f"}, OperationKind.ASSESS)  # of another operation
def test_an_operation_that_ended_oddly_is_settled_or_left_in_one_clear_line(body: Any, kind: OperationKind) -> None:
    async def story() -> tuple[OddAzure, bool]:
        door = Answering(200, encoded(body), {})
        world = door.odd.world
        record = a_record(
            phase="running", kind=kind, operation_id=OPERATION, operation_url=OPERATION_URL, started_at=world.now
        )
        await world.services.ledger.insert(record)
        await triggered(world, lambda: function_app.on_reconcile(None))
        return door.odd, await world.services.ledger.read(record.machine) is not None

    with journal_lines() as lines:
        odd, kept = asyncio.run(story())
    check(odd, lines)
    has_no_defect(lines)
    assert kept, "a row is lost by an answer about its operation"


@fuzzing_many
@given(st.one_of(header_texts, st.integers().map(str), st.floats().map(str)), header_texts)
def test_any_retry_after_is_a_wait_of_at_most_a_day(seconds: str, resets: str) -> None:
    headers = CaseInsensitiveDict({"Retry-After": seconds, "x-ms-user-quota-resets-after": resets})
    assert 0 <= retry_after_seconds(headers) <= MAX_RETRY_AFTER_SECONDS


# -- Resource Graph: rows, and whole answers

ROWS = [a_graph_row(id=VM.replace("VM-01", f"VM-{number:02}")) for number in range(4)]


def seen_by_graph(answer: Any) -> tuple[list[str], str, list[str]]:
    """The names of the machines that Graph's door reads from one answer, what it raised, and its lines."""
    world = World()

    async def handle(request: Request) -> Response:
        return Wrong(raw=encoded(answer)).of(Response(200, None, {"content-type": "application/json"}))

    async def read() -> list[str]:
        world.azure.handle = handle  # type: ignore[method-assign]
        return [machine.id.name async for machine in world.services.graph.census()]

    with journal_lines() as lines:
        try:
            return asyncio.run(read()), "", lines
        except Unavailable as problem:
            is_clear(str(problem))
            return [], str(problem), lines


@fuzzing_many
@given(st.integers(0, 3), mangled(ROWS[0]))
def test_a_row_that_cannot_be_read_leaves_the_others_readable(place: int, row: Any) -> None:
    rows: list[Any] = [*ROWS]
    rows[place] = row
    names, problem, lines = seen_by_graph({"totalRecords": 4, "count": 4, "resultTruncated": "false", "data": rows})
    assert problem == "" or not isinstance(row, dict)
    if problem == "":
        others = {f"vm-{number:02}" for number in range(4) if number != place}
        assert others <= set(names)
        assert len(set(names)) == 4 or any("machine.unreadable" in line for line in lines) or row["id"].lower() != VM
    for line in lines:
        is_clear(line) if len(line) < 700 else None
        assert SECRET not in line


@fuzzing_many
@given(mangled({"totalRecords": 4, "count": 4, "resultTruncated": "false", "facets": [], "data": ROWS}))
@example({"count": 4, "data": ROWS, "resultTruncated": "true", "$skipToken": "again"})  # a page that names itself
def test_a_whole_answer_of_graph_gives_machines_or_one_clear_refusal(answer: Any) -> None:
    names, _, _ = seen_by_graph(answer)
    assert set(names) <= {f"vm-{number:02}" for number in range(4)} | {"off-01"} | set(
        re.findall(r"[\w.-]+", str(answer).lower())
    )


# -- the ledger: columns of every type a table can hold, by hand or by another version

ODD_COLUMNS = (
    *JUNK, b"bytes", datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 25), "2026-11-25T08:00:00",  # noqa: DTZ001
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), 2**31, -(2**63), 1e300, "[" * 30_000, "9" * 5_000,
    '{"state": 1}',
    '{"state":"Supported","assessment_id":"a","assessed":null,"status":"","counts":[],"reboot_pending":true}',
    '{"state":"Supported","assessment_id":"a","assessed":"2026-11-25","status":"","counts":{"a":"x"},"reboot_pending":1}',
)  # fmt: skip
FULL_RECORD = a_record(
    phase="running", verdict=a_verdict(), begun_at=NOW, started_at=NOW, created=NOW, operation_id=OPERATION, attempts=2,
    operation_url=OPERATION_URL, known_operations=("a", "b"), ended_at=NOW, not_before=NOW, reason="r",
)  # fmt: skip


def changed(columns: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Columns with one to three values of odd types, or missing."""
    names = st.sampled_from([*columns, "v", "unknown"])
    changes = st.dictionaries(names, st.sampled_from([*ODD_COLUMNS, ...]), min_size=1, max_size=3)
    return changes.map(lambda new: {name: value for name, value in {**columns, **new}.items() if value is not ...})


def columns_of(write: Callable[[Ledger], Any]) -> dict[str, Any]:
    table = MemoryTable()
    asyncio.run(write(Ledger(table)))
    [row] = table.rows.values()
    return dict(row.columns)


RECORD_COLUMNS = columns_of(lambda ledger: ledger.insert(FULL_RECORD))
OTHER = machine_id("vm-02")


@fuzzing_many
@given(changed(RECORD_COLUMNS))
@example({**RECORD_COLUMNS, "machine": str(OTHER)})  # a row that names another machine
@example({**RECORD_COLUMNS, "due_at": "2026-11-25T08:00:00"})  # no zone: it can be compared with no other time
@example({**RECORD_COLUMNS, "limit": 1e12})
@example({**RECORD_COLUMNS, "verdict": "[" * 30_000})
def test_a_row_is_read_as_its_machine_or_named_and_left_alone(columns: dict[str, Any]) -> None:
    async def story() -> None:
        table = MemoryTable()
        ledger = Ledger(table)
        machine = FULL_RECORD.machine
        await table.insert(machine.subscription, row_key(machine), columns)
        await ledger.insert(a_record(machine=OTHER))
        items = [item async for item in ledger.all()]
        assert len(items) == 2
        assert not isinstance(items[1], LeftAlone), "the other row is readable still"
        first = items[0]
        if isinstance(first, LeftAlone):
            is_clear(str(first))
            with pytest.raises(LeftAlone):
                await ledger.read(machine)
            return
        record = first.record
        assert record.machine == machine
        assert record.overdue(NOW) in (True, False)  # every time can be reckoned with
        assert record.expired(NOW) in (True, False)
        assert record.due_again(NOW) in (True, False)
        await ledger.replace(first, record)

    asyncio.run(story())


IMAGE_COLUMNS = {
    "v": 1, "image": GALLERY_IMAGE, "opened": NOW.isoformat(), "canaries": 1, "rings": '{"3": [1, 0, ""]}',
    "failures": NOW.isoformat(), "counted": "a,b", "opening": "o", "closed": "o",
}  # fmt: skip


@fuzzing_many
@given(changed(IMAGE_COLUMNS))
@example({**IMAGE_COLUMNS, "image": "another"})
@example({**IMAGE_COLUMNS, "rings": '{"3": 1}'})
def test_an_images_row_is_read_or_named_and_left_alone(columns: dict[str, Any]) -> None:
    async def story() -> None:
        table = MemoryTable()
        await table.insert(APP, image_key(GALLERY_IMAGE), columns)
        try:
            assert (await Ledger(table).image(GALLERY_IMAGE)).record.image == GALLERY_IMAGE
        except LeftAlone as newer:
            is_clear(str(newer))

    asyncio.run(story())


APP_ROWS: dict[str, dict[str, Any]] = {
    "sweep": {"v": 1, "holder": "a", "until": "2026-11-25T08:00:00+00:00"},
    "first-deployment": {"v": 1, "at": "2026-11-25T07:00:00+00:00"},
    "census": {"v": 1, "note": '{"day": "2026-11-25"}'},
    "poison": {"v": 1, "note": "{}"},
    "pause": {"reason": "storage incident"},
}


@pytest.mark.parametrize("name", APP_ROWS)
@hypothesis_settings(fuzzing_many, max_examples=EXAMPLES)
@given(st.data())
def test_a_row_of_the_app_that_cannot_be_read_stops_a_sweep_in_one_clear_line(name: str, data: st.DataObject) -> None:
    columns = data.draw(changed(APP_ROWS[name]))

    async def story() -> OddAzure:
        world = World({"PATCH_CREATED_AFTER": "first-deployment"}, timings=QUICK)
        odd = OddAzure(world, iter(()), "nothing")
        world.create(GOOD, Behaviour(support_state="Supported"))
        world.now += timedelta(minutes=10)
        await world.table.insert(APP, name, columns)
        is_clear(await triggered(world, lambda: function_app.on_reconcile(None)))
        return odd

    with journal_lines() as lines:
        check(asyncio.run(story()), lines)
    has_no_defect(lines)
    assert lines
