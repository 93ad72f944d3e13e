"""Texts of one kind at a time, with look-alike letters and invisible characters: ids, URLs, settings, tags.

And the journal, which must stay itself whatever it is given.
"""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from functions import journal
from functions.model.machine import MachineId
from functions.model.text import BadInput
from functions.policy.settings import SETTINGS, SettingsError, read_settings
from functions.policy.tags import TAGS, read_tags
from functions.policy.values import Mode
from tests.fuzz.checks import OPERATION_FORM, VM, is_clear, journal_lines, no_json
from tests.fuzz.mangling import (
    CONNECTION_STRING,
    JUNK,
    SECRET,
    SIGNED_URL,
    TOKEN,
    look_alikes,
    mutations,
    noisy,
)
from tests.fuzz.triggers import EVENT
from tests.support import OPERATION_URL, REQUIRED
from tests.support.world import World


@given(noisy(VM))
@example(VM.replace("RG-Prod", "RG-\u212aey"))  # the Kelvin sign: lower-cased it is a k, of another group
@example(VM.replace("VM-01", "wee\u212a"))
def test_an_id_is_read_as_it_is_written_or_refused(text: str) -> None:
    try:
        machine = MachineId.parse(text)
    except BadInput as problem:
        is_clear(str(problem))
        return
    assert str(machine).upper() == text.upper(), "another machine's id"
    assert str(machine).isascii() == text.isascii()
    assert re.fullmatch(r"/subscriptions/[0-9a-f-]{36}/resourcegroups/[^/]+/providers/[^/]+/[^/]+/[^/]+", str(machine))
    assert not set(str(machine)) & set("%?#@\\: ")


@given(noisy(OPERATION_URL))
@example(OPERATION_URL.replace("/subscriptions/", "/\u017fubscription\u017f/"))  # a long s, which re takes for an s
@example(OPERATION_URL.replace("westeurope", "w\u0435steurope"))
@example(f"{OPERATION_URL}#elsewhere")
def test_an_operation_url_is_arms_own_or_not_called(url: str) -> None:
    try:
        World().services.compute.operation_id(url)
    except BadInput as problem:
        is_clear(str(problem))
    else:
        assert OPERATION_FORM.fullmatch(url)


# -- settings and tags

RIGHT = {
    "PATCH_SCOPE": "mg-fleet,mg-other",
    "PATCH_MODE": "assess",
    "PATCH_IMAGES": "custom",
    "PATCH_SCALE_SETS": "leave",
    "PATCH_ARC": "off",
    "PATCH_START_STOPPED": "5",
    "PATCH_SCHEDULED": "leave",
    "PATCH_CREATED_AFTER": "2026-11-25T00:00:00Z",
    "PATCH_CLASSIFICATIONS": "Critical,Security",
    "PATCH_PACKAGES_INCLUDE": "openssl*",
    "PATCH_PACKAGES_EXCLUDE": "kernel*,KB5034439",
    "PATCH_REBOOT": "IfRequired",
    "PATCH_MAX_DURATION": "PT2H30M",
    "PATCH_WINDOW": "Sat 22:00-02:00 Europe/Paris",
    "PATCH_BLACKOUT": "2026-12-20..2027-01-05 Europe/Paris",
    "PATCH_CANARY_WINDOW": "Fri 22:00-02:00 Europe/Paris",
    "PATCH_FIRST_HOURS": "24",
    "PATCH_FIRST_REBOOT": "IfRequired",
    "PATCH_ASSESS_HOURS": "24",
    "PATCH_MIN_AGE_MINUTES": "60",
    "PATCH_ASSESS_AFTER_MINUTES": "15",
    "PATCH_FRESH_HOURS": "24",
    "PATCH_MIN_INTERVAL_HOURS": "144",
    "PATCH_MAX_IN_FLIGHT": "10",
    "PATCH_MAX_PER_IMAGE": "5%",
    "PATCH_CANARIES": "1",
    "PATCH_CANARY_MACHINES": "web-kiosk-*",
    "PATCH_GROUP_SCOPE": "resource-group",
    "PATCH_ROLLOUT_SCOPE": "subscription",
    "PATCH_BAKE_MINUTES": "1440",
    "PATCH_SUCCESS_PERCENT": "90",
    "PATCH_BREAKER": "3 in 7 days",
    "PATCH_ROLLOUT_DAYS": "14",
    "PATCH_PAUSE": "on",
    "PATCH_PACE_PERCENT": "75",
    "PATCH_RETRY_MINUTES": "15",
    "PATCH_READY_MINUTES": "2",
    "PATCH_SLA_DAYS": "Critical 7, Security 30",
    "PATCH_NOTICES": "https://notices.westeurope-1.eventgrid.azure.net/api/events",
    "PATCH_NOTICE_MINUTES": "60",
    "ARM_ENDPOINT": "https://management.azure.com",
    "ARM_COMPUTE_VERSION": "2024-11-01",
    "ARM_ENDPOINT_ALLOW": "known",
    "PATCH_USE_PROXY": "on",
    "RECONCILE_SCHEDULE": "0 */5 * * * *",
}
# Any text is some tag's name, and one with a look-alike is another tag.
FREE = {"PATCH_OWNER_TAG"}


def is_refused(error: SettingsError, name: str) -> None:
    is_clear(str(error))
    assert {problem.name for problem in error.problems} == {name}


def test_every_setting_has_a_right_value_to_start_from() -> None:
    assert {*RIGHT, *FREE} == {setting.name for setting in SETTINGS}
    read_settings({**REQUIRED, **RIGHT})


@pytest.mark.parametrize("name", RIGHT)
@given(st.data())
def test_a_setting_in_look_alike_letters_is_refused_by_name_or_means_the_same(name: str, data: st.DataObject) -> None:
    text = data.draw(look_alikes(RIGHT[name]))
    setting = next(setting for setting in SETTINGS if setting.name == name)
    try:
        read = read_settings({**REQUIRED, **RIGHT, name: text})
    except SettingsError as error:
        is_refused(error, name)
        return
    if name == "RECONCILE_SCHEDULE":
        assert text.split() == RIGHT[name].split()
    elif name in ("PATCH_PACKAGES_INCLUDE", "PATCH_PACKAGES_EXCLUDE"):  # guests compare them with case
        assert text.isascii()
    else:
        right = read_settings({**REQUIRED, **RIGHT})
        assert getattr(read, setting.field) == getattr(right, setting.field)


@pytest.mark.parametrize("name", ["AzureWebJobsStorage__queueServiceUri", "AzureWebJobsStorage__tableServiceUri"])
@given(st.data())
def test_a_storage_address_in_look_alike_letters_is_refused_by_name(name: str, data: st.DataObject) -> None:
    right = "https://patcher.queue.core.windows.net"
    text = data.draw(look_alikes(right))
    try:
        read = read_settings({**REQUIRED, name: text})
    except SettingsError as error:
        is_refused(error, name)
    else:
        assert {read.queue_endpoint.lower(), read.table_endpoint.lower()} & {right}


TAG_VALUES = {
    "patch-mode": "off",
    "patch-reboot": "Never",
    "patch-hold-until": "2027-01-15",
    "patch-ring": "7",
    "patch-window": "Sat 22:00-02:00 Europe/Paris",
    "patch-sla": "Critical 3, Security 14",
    "patch-start": "no",
}


@pytest.mark.parametrize("tag", TAG_VALUES)
@given(st.data())
def test_a_tag_in_look_alike_letters_narrows_as_much_or_more(tag: str, data: st.DataObject) -> None:
    text = data.draw(look_alikes(TAG_VALUES[tag]))
    overrides, right = read_tags({tag: text}, {}), read_tags({tag: TAG_VALUES[tag]}, {})
    if overrides.problem:
        is_clear(overrides.problem)
        assert overrides.mode is Mode.OFF
    else:
        assert (overrides.mode, overrides.reboot, overrides.hold_until, overrides.window) == (
            right.mode,
            right.reboot,
            right.hold_until,
            right.window,
        )
        assert (overrides.ring, overrides.sla, overrides.may_start) == (right.ring, right.sla, right.may_start)


def test_every_tag_that_forbids_is_among_them() -> None:
    left = {each.name for each in TAGS} - set(TAG_VALUES)
    # A group has any name, so a look-alike is another group; the owner's mark can only be missed, and then all is off.
    assert left == {"patch-group", "patch-owner"}
    assert read_tags({"patch-owner": "im\u0430ge-patcher"}, {}).mode is Mode.OFF


# -- the journal: whatever it is given

secrets = st.sampled_from(
    [SIGNED_URL, CONNECTION_STRING, TOKEN, f"Bearer {TOKEN}", f"https://me:{SECRET}@host.example/"]
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(JUNK),
    secrets,
    st.timedeltas(),
    st.datetimes(),
    st.builds(lambda text, secret, more: f"{text} {secret} {more}", st.text(), secrets, st.text()),
)
fields = st.dictionaries(
    st.from_regex(r"[a-z_]{1,20}", fullmatch=True).filter(lambda name: name != "event"),
    st.one_of(plain, st.lists(plain, max_size=3), st.dictionaries(st.text(max_size=5), secrets, max_size=3)),
    max_size=12,
)


@given(fields)
@example({"count": float("nan")})
@example({f"count{number}": 10**4200 for number in range(9)})  # cutting texts made such a line no shorter: no end
@example({"count": 10**5000})
@example({"reboot": {"claims": {"upn": f"{SECRET}@contoso.example"}}})
@example({f"text{number}": "\u0000" * 3_000 for number in range(9)})
def test_any_line_is_json_within_the_limit_and_without_secrets(given_fields: dict[str, Any]) -> None:
    with journal_lines() as lines:
        journal.write("step.failed", **given_fields)
    [line] = lines
    assert json.loads(line, parse_constant=no_json)["event"] == "step.failed"
    assert len(line.encode("utf-16-le")) // 2 <= journal.MAX_LINE
    assert SECRET not in line
    assert "\n" not in line


def test_the_mutations_reach_what_they_say() -> None:
    """A fuzzer that changes nothing finds nothing."""
    seen: set[str] = set()

    @hypothesis_settings(max_examples=300, derandomize=True)
    @given(mutations)
    def run(mutation: Any) -> None:
        if json.dumps(mutation.of(EVENT), default=str) != json.dumps(EVENT):
            seen.add(mutation.what)

    run()
    assert seen >= {"drop", "put", "nest", "rename", "break", "as text", "add", "look-alike", "swap case", "another"}
