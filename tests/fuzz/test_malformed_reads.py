"""One malformed answer of Azure, row of Resource Graph or row of the ledger, read by the one part that reads it.

The whole runs of test_malformed_answers.py show what the app does then. Here many more malformations are read; each
gives what was asked for, or one clear line of what is wrong.
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
from tests.fuzz.checks import OPERATION_FORM, VM, check, has_no_defect, is_clear, journal_lines, whole_run
from tests.fuzz.malformed_azure import RAW, RETRY_AFTERS, Malformation, WatchedAzure, statuses
from tests.fuzz.mangling import CONNECTION_STRING, JUNK, SECRET, SIGNED_URL, TOKEN, mangled, noisy
from tests.fuzz.triggers import GOOD, triggered
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

# -- the services: one answer with status, headers and body malformed

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
    """Azure with one fixed answer to everything, watched as in whole runs."""

    def __init__(self, status: int, content: bytes, extra: dict[str, str]) -> None:
        self._world = World()
        self.watched = WatchedAzure(self._world, iter(()), "nothing")
        self._answer = (status, content, extra)
        self._world.azure.handle = self._handle  # type: ignore[method-assign]

    async def _handle(self, request: Request) -> Response:
        status, content, extra = self._answer
        sent = {"content-type": "application/json", **extra, "content-length": str(len(content))}
        return Malformation(status=status, raw=content).of(Response(status, None, sent))

    def ask(self, call: Callable[[ResourceManager], Any]) -> Any:
        """What the call gave or raised, where a client may raise it; the call is checked."""
        try:
            return asyncio.run(call(self._world.services.compute))
        except (CloudError, BadInput) as problem:
            is_clear(str(problem))
            return problem
        finally:
            check(self.watched, [])


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode("utf-8", "replace")


@given(statuses, st.one_of(bodies.map(encoded), st.sampled_from(RAW)), headers)
@example(409, encoded({"error": {"code": {"claims": SECRET}, "message": [SECRET]}}), {})  # a code that is not a text
@example(409, encoded({"error": {"code": SIGNED_URL, "message": "x"}}), {})
@example(202, b"", {"x-ms-ratelimit-remaining-resource": "VMGuestPatchOperationSubscriptionMaximum;\u00b2"})
@example(202, b"", {"x-ms-ratelimit-remaining-resource": f"VMGuestPatchOperationSubscriptionMaximum;{'9' * 5000}"})
def test_an_answer_to_a_post_is_taken_refused_or_unknown(status: int, content: bytes, extra: dict[str, str]) -> None:
    azure = Answering(status, content, extra)
    machine = a_machine()
    given = azure.ask(
        lambda compute: compute.start(machine, OperationKind.ASSESS, order=None, send_by=NOW + timedelta(days=1))
    )
    if status >= 500 or status == 408:
        assert isinstance(given, OutcomeUnknown)  # it may run: it must not be sent again
    if 200 <= status < 300:
        assert isinstance(given, OutcomeUnknown) or OPERATION_FORM.fullmatch(getattr(given, "url", ""))
    if isinstance(given, Throttled):
        assert 0 <= given.retry_after_seconds <= MAX_RETRY_AFTER_SECONDS
    assert status != 429 or isinstance(given, Throttled)


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
    given = Answering(status, content, extra).ask(lambda compute: compute.machine(asked))
    assert isinstance(given, Exception) or given.id == asked


@given(
    st.one_of(
        mangled({"id": machine_id().group_id, "tags": {"patch-mode": "off"}, "managedBy": "x"}).map(encoded),
        st.sampled_from(RAW),
    )
)
@example(encoded({"id": machine_id(group="rg-other").group_id, "tags": {}}))
def test_an_answer_about_a_group_is_that_group_or_a_clear_line(content: bytes) -> None:
    given = Answering(200, content, {}).ask(lambda compute: compute.resource_group(machine_id()))
    if not isinstance(given, Exception):
        assert json.loads(content)["id"].lower() == machine_id().group_id


ENDED = {"name": OPERATION, "status": "Succeeded", "properties": {"output": LINUX.get("result", LINUX)}}
CLAIMS = {"claims": {"upn": f"{SECRET}@contoso.example"}}


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
def test_a_malformed_ending_is_recorded_or_left_in_one_clear_line(body: Any, kind: OperationKind) -> None:
    async def scenario() -> tuple[WatchedAzure, bool]:
        azure = Answering(200, encoded(body), {})
        world = azure.watched.world
        record = a_record(
            phase="running", kind=kind, operation_id=OPERATION, operation_url=OPERATION_URL, started_at=world.now
        )
        await world.services.ledger.insert(record)
        await triggered(world, lambda: function_app.on_reconcile(None))
        return azure.watched, await world.services.ledger.read(record.machine) is not None

    with journal_lines() as lines:
        watched, kept = asyncio.run(scenario())
    check(watched, lines)
    has_no_defect(lines)
    assert kept, "a row is lost by an answer about its operation"


@given(st.one_of(header_texts, st.integers().map(str), st.floats().map(str)), header_texts)
def test_any_retry_after_is_a_wait_of_at_most_a_day(seconds: str, resets: str) -> None:
    headers = CaseInsensitiveDict({"Retry-After": seconds, "x-ms-user-quota-resets-after": resets})
    assert 0 <= retry_after_seconds(headers) <= MAX_RETRY_AFTER_SECONDS


# -- Resource Graph: rows, and whole answers

ROWS = [a_graph_row(id=VM.replace("VM-01", f"VM-{number:02}")) for number in range(4)]


def seen_by_graph(answer: Any) -> tuple[list[str], str, list[str]]:
    """The names of the machines that Graph's client reads from one answer, what it raised, and its lines."""
    world = World()

    async def handle(request: Request) -> Response:
        return Malformation(raw=encoded(answer)).of(Response(200, None, {"content-type": "application/json"}))

    async def read() -> list[str]:
        world.azure.handle = handle  # type: ignore[method-assign]
        return [machine.id.name async for machine in world.services.graph.census()]

    with journal_lines() as lines:
        try:
            return asyncio.run(read()), "", lines
        except Unavailable as problem:
            is_clear(str(problem))
            return [], str(problem), lines


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


@given(mangled({"totalRecords": 4, "count": 4, "resultTruncated": "false", "facets": [], "data": ROWS}))
@example({"count": 4, "data": ROWS, "resultTruncated": "true", "$skipToken": "again"})  # a page that names itself
def test_a_whole_answer_of_graph_gives_machines_or_one_clear_refusal(answer: Any) -> None:
    names, _, _ = seen_by_graph(answer)
    assert set(names) <= {f"vm-{number:02}" for number in range(4)} | {"off-01"} | set(
        re.findall(r"[\w.-]+", str(answer).lower())
    )


# -- the ledger: columns of every type a table can hold, by hand or by another version

UNEXPECTED = (
    *JUNK,
    b"bytes",
    datetime(2026, 11, 25, tzinfo=UTC),
    datetime(2026, 11, 25),  # noqa: DTZ001
    "2026-11-25T08:00:00",
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))),
    2**31,
    -(2**63),
    1e300,
    "[" * 30_000,
    "9" * 5_000,
    '{"state": 1}',
    '{"state":"Supported","assessment_id":"a","assessed":null,"status":"","counts":[],"reboot_pending":true}',
    '{"state":"Supported","assessment_id":"a","assessed":"2026-11-25","status":"","counts":{"a":"x"},"reboot_pending":1}',
)
FULL_RECORD = a_record(
    phase="running",
    verdict=a_verdict(),
    begun_at=NOW,
    started_at=NOW,
    created=NOW,
    operation_id=OPERATION,
    attempts=2,
    operation_url=OPERATION_URL,
    known_operations=("a", "b"),
    ended_at=NOW,
    not_before=NOW,
    reason="r",
)


def changed(columns: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Columns with one to three values of unexpected types, or missing."""
    names = st.sampled_from([*columns, "v", "unknown"])
    changes = st.dictionaries(names, st.sampled_from([*UNEXPECTED, ...]), min_size=1, max_size=3)
    return changes.map(lambda new: {name: value for name, value in {**columns, **new}.items() if value is not ...})


def columns_of(write: Callable[[Ledger], Any]) -> dict[str, Any]:
    table = MemoryTable()
    asyncio.run(write(Ledger(table)))
    [row] = table.rows.values()
    return dict(row.columns)


RECORD_COLUMNS = columns_of(lambda ledger: ledger.insert(FULL_RECORD))
OTHER = machine_id("vm-02")


@given(changed(RECORD_COLUMNS))
@example({**RECORD_COLUMNS, "machine": str(OTHER)})  # a row that names another machine
@example({**RECORD_COLUMNS, "due_at": "2026-11-25T08:00:00"})  # no zone: it can be compared with no other time
@example({**RECORD_COLUMNS, "limit": 1e12})
@example({**RECORD_COLUMNS, "verdict": "[" * 30_000})
def test_a_row_is_read_as_its_machine_or_named_and_left_alone(columns: dict[str, Any]) -> None:
    async def scenario() -> None:
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

    asyncio.run(scenario())


IMAGE_COLUMNS = {
    "v": 1,
    "image": GALLERY_IMAGE,
    "opened": NOW.isoformat(),
    "canaries": 1,
    "rings": '{"3": [1, 0, ""]}',
    "failures": NOW.isoformat(),
    "counted": "a,b",
    "opening": "o",
    "closed": "o",
}


@given(changed(IMAGE_COLUMNS))
@example({**IMAGE_COLUMNS, "image": "another"})
@example({**IMAGE_COLUMNS, "rings": '{"3": 1}'})
def test_an_images_row_is_read_or_named_and_left_alone(columns: dict[str, Any]) -> None:
    async def scenario() -> None:
        table = MemoryTable()
        await table.insert(APP, image_key(GALLERY_IMAGE), columns)
        try:
            assert (await Ledger(table).image(GALLERY_IMAGE, "")).record.image == GALLERY_IMAGE
        except LeftAlone as newer:
            is_clear(str(newer))

    asyncio.run(scenario())


APP_ROWS: dict[str, dict[str, Any]] = {
    "sweep": {"v": 1, "holder": "a", "until": "2026-11-25T08:00:00+00:00"},
    "first-deployment": {"v": 1, "at": "2026-11-25T07:00:00+00:00"},
    "census": {"v": 1, "note": '{"day": "2026-11-25"}'},
    "poison": {"v": 1, "note": "{}"},
    "pause": {"reason": "storage incident"},
}


@pytest.mark.parametrize("name", APP_ROWS)
@whole_run
@given(st.data())
def test_a_row_of_the_app_that_cannot_be_read_stops_a_sweep_in_one_clear_line(name: str, data: st.DataObject) -> None:
    columns = data.draw(changed(APP_ROWS[name]))

    async def scenario() -> WatchedAzure:
        world = World({"PATCH_CREATED_AFTER": "first-deployment"}, timings=QUICK)
        watched = WatchedAzure(world, iter(()), "nothing")
        world.create(GOOD, Behaviour(support_state="Supported"))
        world.now += timedelta(minutes=10)
        await world.table.insert(APP, name, columns)
        is_clear(await triggered(world, lambda: function_app.on_reconcile(None)))
        return watched

    with journal_lines() as lines:
        check(asyncio.run(scenario()), lines)
    has_no_defect(lines)
    assert lines
