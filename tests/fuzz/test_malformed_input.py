"""Events, messages, ledger rows, settings and tags malformed, handed in as the Functions host hands them in."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func
import pytest
from hypothesis import given
from hypothesis import strategies as st

import function_app
from functions.cloud.rows import row_key
from functions.decisions.decision import next_step
from functions.decisions.question import question_of
from functions.model.machine import ResourceGroup
from functions.model.state import Install, Phase
from functions.policy.settings import SETTINGS, SettingsError, read_settings
from functions.policy.tags import TAGS, read_tags
from functions.policy.values import Mode
from simulator.azure import Behaviour
from simulator.functions_host import decoding
from tests.fuzz.checks import check, has_no_defect, is_clear, journal_lines, machines_of, whole_run
from tests.fuzz.malformed_azure import WatchedAzure
from tests.fuzz.mangling import JUNK, SECRET, SIGNED_URL, mangled
from tests.fuzz.triggers import EVENT, GOOD, GOOD_ID, INFERRED, Event, run_watched, triggered
from tests.support import NOW, PAYLOADS, REQUIRED, a_machine, settings
from tests.support.world import QUICK, World

MESSAGE = {"v": 1, "job": {"machine": GOOD_ID, "claim": "0123456789abcdef"}}

junk = st.sampled_from([each for each in JUNK if each == each])  # not NaN, which JSON has not
texts = st.one_of(st.text(max_size=60), st.sampled_from([str(each) for each in JUNK]))


@whole_run
@given(st.one_of(mangled(EVENT), mangled(EVENT), mangled(INFERRED["vm_update_with_httpRequest"]), junk))
def test_an_event_starts_at_most_the_assessment_of_its_machine(body: Any) -> None:
    watched = run_watched(lambda world, _: triggered(world, lambda: function_app.on_machine_written(Event(body))))
    assert machines_of(watched, "assessPatches") <= {GOOD}
    assert machines_of(watched, "installPatches") == set()


CLOUD_EVENT = json.loads((PAYLOADS / "eventgrid_vm_write_cloudevents_INFERRED.json").read_text())
CLOUD_EVENT = {**CLOUD_EVENT, "subject": EVENT["subject"], "data": {**EVENT["data"], "sig": SIGNED_URL}}


@given(st.one_of(mangled(EVENT), mangled(CLOUD_EVENT)))
def test_an_event_of_either_schema_starts_at_most_its_assessment_and_leaves_a_line(event: Any) -> None:
    try:
        decoded = decoding.event_input(event).decode("eventGridTrigger")
    except Exception:  # noqa: BLE001 - the worker refuses it before any code of the app is reached
        return

    async def scenario() -> WatchedAzure:
        world = World(timings=QUICK)
        watched = WatchedAzure(world, iter(()), "nothing")
        world.create(GOOD, Behaviour(support_state="Supported"))
        world.now += timedelta(minutes=5)
        is_clear(await triggered(world, lambda: function_app.on_machine_written(decoded)))
        return watched

    with journal_lines() as lines:
        watched = asyncio.run(scenario())
    check(watched, lines)
    has_no_defect(lines)
    assert machines_of(watched, "assessPatches") <= {GOOD}
    assert machines_of(watched, "installPatches") == set()
    assert len(lines) <= 1
    if not lines:  # nothing is lost without a line: it was about something else, by its type or operation
        changed_type = (event.get("eventType") or event.get("type")) != EVENT["eventType"]
        assert changed_type or event["data"]["operationName"].lower() != EVENT["data"]["operationName"].lower()


bodies = st.one_of(
    mangled(MESSAGE).map(lambda body: json.dumps(body).encode("utf-8", "replace")),
    st.binary(max_size=80),
    st.sampled_from([b"", b"null", b"[]", b'"x"', b'{"v":2}', b'{"v":1e400,"job":{}}', b"[" * 10_000, b'{"v":"1"}']),
)
ENTRANCES = [
    "on_assess_request",
    "on_install_request",
    "on_assess_poisoned",
    "on_install_poisoned",
    "on_machine_message",
    "on_machine_poisoned",
]


@pytest.mark.parametrize("entrance", ENTRANCES)
@whole_run
@given(bodies)
def test_a_message_without_its_claim_starts_nothing(entrance: str, body: bytes) -> None:
    message = func.QueueMessage(id="1", body=body)
    watched = run_watched(lambda world, _: triggered(world, lambda: getattr(function_app, entrance)(message)))
    assert watched.orders == []


@whole_run
@given(st.data())
def test_a_malformed_ledger_row_harms_no_other_row_and_starts_nothing_twice(data: st.DataObject) -> None:
    async def scenario(world: World, _: WatchedAzure) -> str:
        other = world.create("other-01", Behaviour(support_state="Supported"))
        await world.deliver_events()
        [row] = [each async for each in world.table.scan() if each.key == row_key(world.machine_id(GOOD))]
        columns = data.draw(mangled(dict(row.columns), most=2))
        await world.table.replace(row, columns if isinstance(columns, dict) else {})
        for _tick in range(6):
            world.now += timedelta(minutes=10)
            raised = await triggered(world, lambda: function_app.on_reconcile(None))
            await world.messages()
        record = await world.record(other)
        assert record is None or record.phase is not Phase.QUEUED, "the other machine's row stood still"
        return raised

    watched = run_watched(scenario)
    assert machines_of(watched, "installPatches") <= {GOOD, "other-01"}


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS])
@whole_run
@given(texts)
def test_a_malformed_setting_is_read_or_refused_by_name(name: str, text: str) -> None:
    refusal = SettingsError([])
    try:
        read_settings({**REQUIRED, "PATCH_MODE": "install", "PATCH_WINDOW": "any", name: text})
    except SettingsError as error:
        refusal = error
    # A setting may make another one wrong: a mode that needs a window, a watch longer than its round.
    assert {problem.name for problem in refusal.problems} <= {name, "PATCH_WINDOW", "PATCH_BAKE_MINUTES"}
    assert all(character.isprintable() for character in str(refusal))
    assert SECRET not in str(refusal)


TAG_NAMES = [each.name for each in TAGS if each.name != "patch-owner"]  # the one tag that answers a question
right = {
    "patch-mode": ["off", "assess", "install"],
    "patch-reboot": ["Never", "IfRequired", "Always"],
    "patch-hold-until": ["2026-11-25", "2027-01-15"],
    "patch-window": ["any", "Sat 22:00-02:00", "daily 10:00-14:00"],
    "patch-ring": ["0", "7"],
    "patch-group": ["quorum"],
    "patch-sla": ["7", "Critical 3, Security 14"],
}
tag_texts = st.one_of(texts, st.sampled_from([text for some in right.values() for text in some]))
tag_sets = st.dictionaries(st.sampled_from(TAG_NAMES), tag_texts, max_size=4)


@whole_run
@given(
    tag_sets,
    tag_sets,
    st.sampled_from(["any", "Wed 11:00-15:00", "Sun 00:00-04:00"]),
    st.sampled_from(["Never", "IfRequired"]),
)
def test_no_tag_right_or_wrong_widens_anything(
    machine_tags: dict[str, str], group_tags: dict[str, str], window: str, reboot: str
) -> None:
    configured = settings(PATCH_WINDOW=window, PATCH_REBOOT=reboot, PATCH_FIRST_HOURS="0")
    plain, tagged = a_machine(), a_machine(tags=machine_tags, resource_group=ResourceGroup(group_tags))
    step, free = (
        next_step(question_of(each, None, configured, created_after=datetime(2000, 1, 1, tzinfo=UTC), now=NOW))
        for each in (tagged, plain)
    )
    assert not isinstance(step, Install) or isinstance(free, Install)
    if isinstance(step, Install):
        overrides = read_tags(machine_tags, group_tags)
        assert (overrides.problem, overrides.mode) == ("", Mode.INSTALL)
