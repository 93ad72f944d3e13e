"""What the owner wants: app settings and tags.

Factors: each setting left out, given well, given badly; several bad at once; where the storage is; the two tag sets,
the narrower winning. SETTINGS itself says what exists, and every entry of it must have a row here.
"""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.decisions.question import min_minutes
from functions.model.machine import LAST_RING, OsType
from functions.policy.advice import advice
from functions.policy.settings import MIN_INSTALLATION, SETTINGS, Settings, SettingsError, read_settings
from functions.policy.tags import TAGS, TagOverrides, read_tags
from functions.policy.values import Breaker, Cap, Mode, Reboot, RolloutScope, Scope, Sla, SlaByOwner
from functions.policy.window_grammar import read_blackouts, read_windows
from functions.policy.windows import NO_BLACKOUTS, both
from tests.support import DAY, REQUIRED, SUBSCRIPTION, a_machine, machine_id, settings

NIGHTS = "Sat 22:00-02:00 Europe/Paris"
OTHER = "00000000-0000-0000-0000-000000000002"
RESOURCE_GROUP = f"/subscriptions/{OTHER}/resourceGroups/rg-Web"
A_MACHINE = f"{RESOURCE_GROUP}/providers/Microsoft.Compute/virtualMachines/Web-1"

TOPIC = "https://notices.westeurope-1.eventgrid.azure.net/api/events"

# setting → field, value when it is left out
DEFAULTS: dict[str, tuple[str, Any]] = {
    "PATCH_SCOPE": ("scope", Scope()),
    "PATCH_MODE": ("mode", Mode.ASSESS),
    "PATCH_IMAGES": ("all_images", False),
    "PATCH_SCALE_SETS": ("include_scale_sets", False),
    "PATCH_ARC": ("include_arc", False),
    "PATCH_START_STOPPED": ("start_stopped", None),
    "PATCH_SCHEDULED": ("include_scheduled", False),
    "PATCH_CREATED_AFTER": ("created_after", None),
    "PATCH_CLASSIFICATIONS": ("classifications", ("Critical", "Security")),
    "PATCH_PACKAGES_INCLUDE": ("packages_include", ()),
    "PATCH_PACKAGES_EXCLUDE": ("packages_exclude", ()),
    "PATCH_REBOOT": ("reboot", Reboot.IF_REQUIRED),
    "PATCH_MAX_DURATION": ("max_duration_minutes", 120),
    "PATCH_WINDOW": ("window", None),
    "PATCH_CANARY_WINDOW": ("canary_window", None),
    "PATCH_BLACKOUT": ("blackouts", NO_BLACKOUTS),
    "PATCH_FIRST_HOURS": ("first_span", timedelta(0)),
    "PATCH_FIRST_REBOOT": ("first_reboot", Reboot.NEVER),
    "PATCH_MIN_AGE_MINUTES": ("min_age", timedelta(hours=1)),
    "PATCH_ASSESS_AFTER_MINUTES": ("assess_after", timedelta(minutes=15)),
    "PATCH_ASSESS_HOURS": ("assess_every", timedelta(hours=24)),
    "PATCH_FRESH_HOURS": ("fresh", timedelta(hours=48)),
    "PATCH_MIN_INTERVAL_HOURS": ("min_interval", timedelta(hours=144)),
    "PATCH_MAX_IN_FLIGHT": ("max_in_flight", Cap(10)),
    "PATCH_MAX_PER_IMAGE": ("max_per_image", Cap(5)),
    "PATCH_GROUP_SCOPE": ("wide_groups", False),
    "PATCH_CANARIES": ("canaries", 1),
    "PATCH_CANARY_MACHINES": ("canary_machines", ()),
    "PATCH_ROLLOUT_SCOPE": ("rollout_scope", RolloutScope.SUBSCRIPTION),
    "PATCH_BAKE_MINUTES": ("bake", timedelta(days=1)),
    "PATCH_SUCCESS_PERCENT": ("success_percent", 90),
    "PATCH_BREAKER": ("breaker", Breaker(3, timedelta(days=7))),
    "PATCH_ROLLOUT_DAYS": ("rollout_length", timedelta(days=6)),
    "PATCH_PAUSE": ("paused", False),
    "PATCH_PACE_PERCENT": ("pace_percent", 75),
    "PATCH_RETRY_MINUTES": ("first_retry", timedelta(minutes=15)),
    "PATCH_READY_MINUTES": ("first_check", timedelta(minutes=2)),
    "PATCH_SLA_DAYS": ("sla", SlaByOwner(Sla(timedelta(days=30), timedelta(days=30)))),
    "PATCH_OWNER_TAG": ("owner_tag", "owner"),
    "PATCH_NOTICES": ("notices", ""),
    "PATCH_NOTICE_MINUTES": ("notice_before", timedelta(0)),
    "ARM_ENDPOINT": ("arm_endpoint", "https://management.azure.com"),
    "ARM_COMPUTE_VERSION": ("compute_version", "2024-11-01"),
    "ARM_ENDPOINT_ALLOW": ("any_arm_endpoint", False),
    "PATCH_USE_PROXY": ("use_proxy", False),
    "RECONCILE_SCHEDULE": ("schedule", REQUIRED["RECONCILE_SCHEDULE"]),
}

# setting → [(text, value of its field)]
GOOD: dict[str, list[tuple[str, Any]]] = {
    "PATCH_SCOPE": [
        (SUBSCRIPTION, Scope((SUBSCRIPTION,))),
        (f" {SUBSCRIPTION} , {OTHER},", Scope((SUBSCRIPTION, OTHER))),
        (
            "platform,Landing-Zones",
            Scope(management_groups=("platform", "landing-zones"), unmarked=("platform", "landing-zones")),
        ),
        ("mg:platform, MG:Landing-Zones", Scope(management_groups=("platform", "landing-zones"))),
        (f"mg:{OTHER}", Scope(management_groups=(OTHER,))),
        (f"platform,mg:{OTHER}", Scope(management_groups=("platform", OTHER), unmarked=("platform",))),
        ("", Scope()),
    ],
    "PATCH_MODE": [("off", Mode.OFF), ("Plan", Mode.PLAN), ("ASSESS", Mode.ASSESS), ("  assess ", Mode.ASSESS)],
    "PATCH_IMAGES": [("custom", False), ("all", True), ("ALL", True)],
    "PATCH_SCALE_SETS": [("leave", False), ("include", True)],
    "PATCH_ARC": [("off", False), ("on", True)],
    "PATCH_START_STOPPED": [
        ("off", None),
        ("OFF", None),
        ("0", None),
        ("0%", None),
        ("1", Cap(1)),
        ("5%", Cap(5, is_percent=True)),
    ],
    "PATCH_SCHEDULED": [("leave", False), ("include", True)],
    "PATCH_CREATED_AFTER": [
        ("first-deployment", None),
        ("always", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2026-11-25T00:00:00Z", datetime(2026, 11, 25, tzinfo=UTC)),
        ("2026-11-25", datetime(2026, 11, 25, tzinfo=UTC)),
        ("2026-11-25T02:00:00+02:00", datetime(2026, 11, 25, tzinfo=UTC)),
    ],
    "PATCH_CLASSIFICATIONS": [
        ("security", ("Security",)),
        ("Security, critical,security", ("Security", "Critical")),
        ("UpdateRollUp,Other", ("UpdateRollUp", "Other")),
    ],
    "PATCH_PACKAGES_INCLUDE": [("KB5001234, openssl*", ("KB5001234", "openssl*")), ("lib-x:1~a+b", ("lib-x:1~a+b",))],
    "PATCH_PACKAGES_EXCLUDE": [("kernel*", ("kernel*",)), ("a?c", ("a?c",))],
    "PATCH_REBOOT": [("never", Reboot.NEVER), ("Always", Reboot.ALWAYS)],
    "PATCH_MAX_DURATION": [
        ("PT30M", 30),
        ("PT3H55M", 235),
        ("pt1h30m", 90),
        ("PT90M", 90),
        ("2h", 120),
        ("90M", 90),
        ("1.5 h", 90),
    ],
    "PATCH_WINDOW": [("any", read_windows("any")), (NIGHTS, read_windows(NIGHTS))],
    "PATCH_BLACKOUT": [("2026-12-20..2027-01-05", read_blackouts("2026-12-20..2027-01-05"))],
    "PATCH_CANARY_WINDOW": [("any", read_windows("any")), (NIGHTS, read_windows(NIGHTS))],
    "PATCH_FIRST_REBOOT": [("never", Reboot.NEVER), ("IfRequired", Reboot.IF_REQUIRED)],
    "PATCH_ASSESS_HOURS": [
        ("1", timedelta(hours=1)),
        ("160", timedelta(hours=160)),
        ("2D", timedelta(days=2)),
        ("90m", timedelta(minutes=90)),
    ],
    "PATCH_FIRST_HOURS": [
        ("0", timedelta(0)),
        ("720", timedelta(days=30)),
        ("30d", timedelta(days=30)),
        ("0h", timedelta(0)),
    ],
    "PATCH_MIN_AGE_MINUTES": [
        ("0", timedelta(0)),
        ("0.5", timedelta(seconds=30)),
        ("10080", timedelta(days=7)),
        ("1h", timedelta(hours=1)),
        ("7 d", timedelta(days=7)),
    ],
    "PATCH_ASSESS_AFTER_MINUTES": [("30", timedelta(minutes=30)), ("1.5h", timedelta(minutes=90))],
    "PATCH_FRESH_HOURS": [("24h", timedelta(days=1)), ("160", timedelta(hours=160)), ("0.01", timedelta(seconds=36))],
    "PATCH_MIN_INTERVAL_HOURS": [("24", timedelta(days=1)), ("6d", timedelta(days=6))],
    "PATCH_MAX_IN_FLIGHT": [("1", Cap(1)), ("10000", Cap(10_000)), ("1%", Cap(1, True)), ("100 %", Cap(100, True))],
    "PATCH_MAX_PER_IMAGE": [("1", Cap(1)), ("25%", Cap(25, True))],
    "PATCH_GROUP_SCOPE": [("Subscription", True)],
    "PATCH_CANARIES": [("0", 0), ("100", 100)],
    "PATCH_CANARY_MACHINES": [
        ("web-canary-*, DB-0?", ("web-canary-*", "db-0?")),
        (f"{RESOURCE_GROUP}/", (RESOURCE_GROUP.lower(),)),
        (A_MACHINE, (A_MACHINE.lower(),)),
    ],
    "PATCH_ROLLOUT_SCOPE": [("Owner", RolloutScope.OWNER), ("fleet", RolloutScope.FLEET)],
    "PATCH_BAKE_MINUTES": [("0", timedelta(0)), ("10079", timedelta(minutes=10079)), ("1d", timedelta(days=1))],
    "PATCH_SUCCESS_PERCENT": [("0", 0), ("100", 100), ("90%", 90), ("90 %", 90)],
    "PATCH_BREAKER": [
        ("1 in 1 day", Breaker(1, timedelta(days=1))),
        ("100 IN 90 days", Breaker(100, 90 * DAY)),
        ("3 in 7d", Breaker(3, 7 * DAY)),
        ("3 in 7 D", Breaker(3, 7 * DAY)),
    ],
    "PATCH_ROLLOUT_DAYS": [("30", timedelta(days=30)), ("36h", timedelta(hours=36))],
    "PATCH_PAUSE": [("on", True), ("true", True), ("False", False)],
    "PATCH_PACE_PERCENT": [("1", 1), ("100", 100), ("75%", 75)],
    "PATCH_RETRY_MINUTES": [("1440", timedelta(days=1)), ("24h", timedelta(days=1))],
    "PATCH_READY_MINUTES": [("60", timedelta(hours=1)), ("2m", timedelta(minutes=2))],
    "PATCH_SLA_DAYS": [
        ("7d", SlaByOwner(Sla(7 * DAY, 7 * DAY))),
        ("Critical 48h, Security 30d", SlaByOwner(Sla(2 * DAY, 30 * DAY))),
        ("7.5", SlaByOwner(Sla(7.5 * DAY, 7.5 * DAY))),
        ("Critical 7, Security 30", SlaByOwner(Sla(7 * DAY, 30 * DAY))),
        ("security 30,critical 0.5", SlaByOwner(Sla(0.5 * DAY, 30 * DAY))),
        ("30; owner shop: 3", SlaByOwner(Sla(30 * DAY, 30 * DAY), (("shop", Sla(3 * DAY, 3 * DAY)),))),
        (
            "Critical 7, Security 30; owner Web Team: Critical 3, Security 30d ;OWNER a:b@c.example : 36h",
            SlaByOwner(
                Sla(7 * DAY, 30 * DAY),
                (("web team", Sla(3 * DAY, 30 * DAY)), ("a:b@c.example", Sla(1.5 * DAY, 1.5 * DAY))),
            ),
        ),
    ],
    "PATCH_OWNER_TAG": [("Cost-Centre", "cost-centre"), ("team name", "team name")],
    "PATCH_NOTICES": [
        (TOPIC, TOPIC),
        ("https://Notices.westeurope-1.eventgrid.azure.net", TOPIC),
        (f"{TOPIC}/", TOPIC),
        (
            "https://n.usgovvirginia-1.eventgrid.azure.us/api/events",
            "https://n.usgovvirginia-1.eventgrid.azure.us/api/events",
        ),
    ],
    "PATCH_NOTICE_MINUTES": [("60", timedelta(hours=1)), ("2h", timedelta(hours=2)), ("1440", timedelta(days=1))],
    "ARM_ENDPOINT": [
        ("https://management.chinacloudapi.cn/", "https://management.chinacloudapi.cn"),
        ("https://management.usgovcloudapi.net", "https://management.usgovcloudapi.net"),
        ("https://MANAGEMENT.azure.com/", "https://management.azure.com"),
    ],
    "ARM_COMPUTE_VERSION": [("2023-03-01", "2023-03-01"), (" 2025-04-01 ", "2025-04-01")],
    "ARM_ENDPOINT_ALLOW": [("custom", True), ("Known", False)],
    "PATCH_USE_PROXY": [("on", True), ("Off", False), ("TRUE", True)],
    "RECONCILE_SCHEDULE": [
        ("0 */5 * * * *", "0 */5 * * * *"),
        ("*/5 * * * *", "*/5 * * * *"),
        ("0 0,30 6-20 * * 1-5", "0 0,30 6-20 * * 1-5"),
        ("0 0-30/10 * 1 1 0", "0 0-30/10 * 1 1 0"),
        ("0 30 9 * Jan Mon", "0 30 9 * Jan Mon"),
        ("0 0 9-17 * * MON-FRI", "0 0 9-17 * * MON-FRI"),
        ("0 0 0 1 January,july,DEC sunday,wed/2", "0 0 0 1 January,july,DEC sunday,wed/2"),
    ],
}

BAD: dict[str, list[str]] = {
    "PATCH_SCOPE": [
        "/subscriptions/x",
        "a b",
        f"{SUBSCRIPTION},my-group",
        f"{SUBSCRIPTION},mg:{OTHER}",
        "mg:",
        "x" * 91,
        "'; drop",
        "wee\u212a",
        "mg:\u0130",
    ],
    "PATCH_MODE": ["on", "installl", "2", "assess,install"],
    "PATCH_IMAGES": ["custom,all", "marketplace", "true"],
    "PATCH_SCALE_SETS": ["yes", "included"],
    "PATCH_ARC": ["include", "2"],
    "PATCH_START_STOPPED": ["on", "-1", "10001", "101%", "5 %%", "some"],
    "PATCH_SCHEDULED": ["yes", "included"],
    "PATCH_CREATED_AFTER": [
        "yesterday",
        "2026-13-01",
        "25.11.2026",
        "Always!",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59Z",
    ],
    "PATCH_CLASSIFICATIONS": ["Critical;Security", "Important", ",", "Critical,Securty"],
    "PATCH_PACKAGES_INCLUDE": [
        "a b",
        "lib=1",
        "$(reboot)",
        "x" * 201,
        'a"b',
        "*",
        "openssl*,**",
        "?*",
        "CVE-2024-3094",
        "cve-2024-3094",
    ],
    "PATCH_PACKAGES_EXCLUDE": ["a\nb", "a/b", "*", "kernel*,CVE-2024-3094"],
    "PATCH_REBOOT": ["IfNeeded", "no"],
    "PATCH_MAX_DURATION": [
        "PT",
        "PT29M",
        "PT3H56M",
        "PT4H",
        "P1D",
        "P1W",
        "PT2H0M0S",
        "-PT2H",
        "120",
        "29m",
        "4h",
        "1d",
        "0.51h",
        "2",
        "h",
    ],
    "PATCH_WINDOW": ["none", "Sat 22-02", "Sat 22:00-02:00 Europe/Pariss", "Sat 25:00-26:00", "22:00-02:00 Sat"],
    "PATCH_BLACKOUT": ["Christmas", "2027-01-05..2026-12-20", "2026-02-30"],
    "PATCH_CANARY_WINDOW": ["Sat", "2nd Tue 22:00"],
    "PATCH_FIRST_REBOOT": ["Always", "later"],
    "PATCH_ASSESS_HOURS": ["0", "161", "daily", "7d", "161h", "24 hours", "1w", "h", "99999999999d"],
    "PATCH_FIRST_HOURS": ["-1", "721", "a day"],
    "PATCH_MIN_AGE_MINUTES": [
        "-1",
        "10081",
        "8d",
        "169h",
        "1h30m",
        "-1h",
        "60s",
        "1.h",
        "99999999.999999d",
        "1e3",
        "NaN",
        "inf",
        "1,5",
    ],
    "PATCH_ASSESS_AFTER_MINUTES": ["-0.1", "soon"],
    "PATCH_FRESH_HOURS": ["0", "161", "7d", "\u0662\u0664h"],
    "PATCH_MIN_INTERVAL_HOURS": ["0", "160.1", "weekly"],
    "PATCH_MAX_IN_FLIGHT": ["0", "-1", "10001", "1.5", "ten", "0x10", "0%", "101%", "0.5%", "%", "10%%", "10 percent"],
    "PATCH_MAX_PER_IMAGE": ["0", "10001", "0%", "-5%"],
    "PATCH_GROUP_SCOPE": ["fleet", "owner"],
    "PATCH_CANARIES": ["-1", "101", "one"],
    "PATCH_CANARY_MACHINES": [
        "a b",
        "/subscriptions/x",
        "[ab]",
        "\u0130*",
        "wee\u212a*",
        f"{RESOURCE_GROUP}/providers",
        "a" * 65,
    ],
    "PATCH_ROLLOUT_SCOPE": ["resource-group", "all"],
    "PATCH_BAKE_MINUTES": ["43201", "31d"],
    "PATCH_SUCCESS_PERCENT": ["101", "101%", "%", "90%%", "0.9", "9O%"],
    "PATCH_BREAKER": [
        "3",
        "0 in 7 days",
        "3 in 0 days",
        "101 in 7 days",
        "3 in 91 days",
        "3 per week",
        "3 in 7",
        "3 in 7h",
        "3 in 91d",
    ],
    "PATCH_ROLLOUT_DAYS": ["0", "91", "weekly"],
    "PATCH_PAUSE": ["1", "paused"],
    "PATCH_PACE_PERCENT": ["0", "0%", "101", "1_0"],
    "PATCH_RETRY_MINUTES": ["0", "1441"],
    "PATCH_READY_MINUTES": ["0", "61"],
    "PATCH_SLA_DAYS": [
        "0",
        "3651",
        "monthly",
        "Critical 7",
        "Critical 7, Security",
        "Critical 7, Security 0",
        "Critical 7, Security 30, Other 90",
        "Critical 7, Critical 7, Security 30",
        "Critical 7 Security 30",
        "7, 30",
        "7; shop: 3",
        "7; owner shop",
        "7; owner: 3",
        "7; owner shop: soon",
        "7; owner shop: Critical 3",
        "7; owner shop: 0",
        "7;",
        "owner shop: 3",
        "7; owner shop: 3; owner SHOP: 4",
        "7; owner shop: 8",
        "Critical 7, Security 30; owner shop: 14",
        "Critical 7 days, Security 30 days",
    ],
    "PATCH_OWNER_TAG": ["a<b", "a\\b", "n" * 513, "patch-owner", "Patch_Team"],
    "PATCH_NOTICES": [
        TOPIC.replace("https", "http"),
        TOPIC.removeprefix("https://"),
        f"{TOPIC}?api-version=2018-01-01",
        f"{TOPIC}/more",
        "https://user@notices.westeurope-1.eventgrid.azure.net",
        "on",
    ],
    "PATCH_NOTICE_MINUTES": ["-1", "1441", "25h", "an hour"],
    "ARM_ENDPOINT": [
        "http://management.azure.com",
        "management.azure.com",
        "https://user@management.azure.com",
        "https://management.azure.com/path",
        "https://management.azure.com?x=1",
        "https://",
    ],
    "ARM_COMPUTE_VERSION": ["2021-07-01", "2024-11", "latest", "2024-11-01-preview"],
    "ARM_ENDPOINT_ALLOW": ["any", "*", "https://localhost:8443"],
    "PATCH_USE_PROXY": ["1", "http://proxy:8080"],
    "RECONCILE_SCHEDULE": [
        "every 5 minutes",
        "* * * *",
        "* * * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "0 0 0 0 * *",
        "0 0 0 * 13 *",
        "0 0 0 * * 7",
        "*/0 * * * *",
        "0 0 0 MON * *",
        "0 0 0 * MON *",
        "0 0 0 * * Mo",
        "0 0 0 * * Jan",
        "@daily",
        "00:05:00",
        "1- * * * *",
        "0 */5 * * * *; DROP",
    ],
}


# Their refusals may say what exactly is wrong instead of what is allowed.
PRECISE = {
    "PATCH_WINDOW",
    "PATCH_CANARY_WINDOW",
    "PATCH_BLACKOUT",
    "PATCH_PACKAGES_INCLUDE",
    "PATCH_PACKAGES_EXCLUDE",
    "PATCH_SLA_DAYS",
}


def test_every_setting_has_rows_here() -> None:
    names = [setting.name for setting in SETTINGS]
    assert names == list(DEFAULTS)
    assert set(names) == set(GOOD) == set(BAD)
    assert all(GOOD.values())
    assert all(BAD.values())


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_a_setting_is_when_left_out(name: str) -> None:
    field, value = DEFAULTS[name]
    assert getattr(read_settings(REQUIRED), field) == value


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name != "RECONCILE_SCHEDULE"])
def test_an_empty_setting_is_one_left_out(name: str) -> None:
    """The portal keeps a setting whose value was deleted, as an empty text."""
    assert read_settings({**REQUIRED, name: "  "}) == read_settings(REQUIRED)


@pytest.mark.parametrize(
    ("name", "text", "value"), [(name, text, value) for name, rows in GOOD.items() for text, value in rows]
)
def test_good_values(name: str, text: str, value: Any) -> None:
    assert getattr(read_settings({**REQUIRED, name: text}), DEFAULTS[name][0]) == value


SLA_OF_OWNERS = {
    "more days than the default": ("7; owner shop: 8", "owner 'shop' has more days than the default"),
    "one of two more": ("Critical 7, Security 30; owner a: 9", "owner 'a' has more days"),
    "twice": ("7; owner Shop: 3; owner shop: 4", "owner 'shop' is named twice"),
}


@pytest.mark.parametrize(("text", "problem"), SLA_OF_OWNERS.values(), ids=SLA_OF_OWNERS)
def test_a_limit_of_an_owner_that_means_nothing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, "PATCH_SLA_DAYS": text})
    [line] = map(str, caught.value.problems)
    assert line.startswith(f"PATCH_SLA_DAYS: {problem}")
    assert len(line) <= 200


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, rows in BAD.items() for text in rows])
def test_a_bad_value_is_named_with_what_is_allowed(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, name: text})
    grammar = next(setting.reader.grammar for setting in SETTINGS if setting.name == name)
    line = str(caught.value)
    assert [problem.name for problem in caught.value.problems] == [name]
    assert line.startswith(f"{name}: ") or (line.startswith(f"{name} is '") and line.endswith(f"'; allowed: {grammar}"))
    assert line.startswith(f"{name}: ") <= (name in PRECISE)
    assert len(line) <= 200
    assert line.isprintable()


OTHER_ADDRESSES = {
    "an address of digits": "https://10.0.0.4",
    "the simulator": "https://localhost:8443",
    "another port of Azure's": "https://management.azure.com:8443",
    "a host below Azure's": "https://evil.management.azure.com",
    "a host that begins as Azure's": "https://management.azure.com.evil.example",
    "a cloud that was closed": "https://management.microsoftazure.de",
}


@pytest.mark.parametrize("address", OTHER_ADDRESSES.values(), ids=OTHER_ADDRESSES)
def test_the_token_goes_to_another_address_only_where_that_is_allowed(address: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, "ARM_ENDPOINT": address})
    [problem] = caught.value.problems
    assert problem.name == "ARM_ENDPOINT"
    assert str(problem).startswith(f"ARM_ENDPOINT is '{address}'; ")
    assert "ARM_ENDPOINT_ALLOW=custom" in str(problem)
    assert len(str(problem)) <= 200
    allowed = {**REQUIRED, "ARM_ENDPOINT": address, "ARM_ENDPOINT_ALLOW": "custom"}
    assert read_settings(allowed).arm_endpoint == address


OTHER_TOPICS = {
    "another host": "https://notices.example.com/api/events",
    "a host that begins as Azure's": "https://notices.westeurope-1.eventgrid.azure.net.evil.example/api/events",
    "a host that ends nearly as Azure's": "https://evileventgrid.azure.net/api/events",
    "the simulator": "https://localhost:8443/api/events",
}


@pytest.mark.parametrize("address", OTHER_TOPICS.values(), ids=OTHER_TOPICS)
def test_notices_go_to_another_address_only_where_that_is_allowed(address: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, "PATCH_NOTICES": address})
    [problem] = caught.value.problems
    assert problem.name == "PATCH_NOTICES"
    assert "ARM_ENDPOINT_ALLOW=custom" in str(problem)
    assert len(str(problem)) <= 200
    assert read_settings({**REQUIRED, "PATCH_NOTICES": address, "ARM_ENDPOINT_ALLOW": "custom"}).notices == address


def test_every_wrong_setting_is_named_at_once() -> None:
    environ = {"PATCH_MODE": "on", "PATCH_PACE_PERCENT": "0", "PATCH_WINDOW": "nights", "ARM_ENDPOINT": "http://x"}
    with pytest.raises(SettingsError) as caught:
        read_settings(environ)
    assert [problem.name for problem in caught.value.problems] == [
        "PATCH_MODE",
        "PATCH_WINDOW",
        "PATCH_PACE_PERCENT",
        "ARM_ENDPOINT",
        "RECONCILE_SCHEDULE",
        "AzureWebJobsStorage__queueServiceUri",
        "AzureWebJobsStorage__tableServiceUri",
    ]


def test_with_nothing_set_only_the_schedule_and_the_storage_are_missing() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({})
    assert [str(problem).partition(";")[0] for problem in caught.value.problems] == [
        "RECONCILE_SCHEDULE is not set",
        "AzureWebJobsStorage__queueServiceUri is not set",
        "AzureWebJobsStorage__tableServiceUri is not set",
    ]
    assert all(len(str(problem)) <= 200 for problem in caught.value.problems)


def test_with_only_what_is_required_nothing_is_ever_installed() -> None:
    assert read_settings(REQUIRED).mode < Mode.INSTALL


LINUX_CLASSES = json.loads(
    (Path(__file__).parents[1] / "recordings" / "linux_classifications.json").read_text(encoding="utf-8")
)["rows"]


@pytest.mark.parametrize("row", LINUX_CLASSES, ids=lambda row: "+".join(row["wanted"]))
def test_what_the_linux_extension_refuses_is_refused_before(row: dict[str, Any]) -> None:
    wanted = ",".join(row["wanted"])
    if not row["refused"]:
        assert list(settings(PATCH_CLASSIFICATIONS=wanted).classifications) == row["wanted"]
        return
    with pytest.raises(SettingsError, match="PATCH_CLASSIFICATIONS: Linux refuses Other with Critical"):
        settings(PATCH_CLASSIFICATIONS=wanted)


def test_installing_without_a_window_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"^PATCH_WINDOW is not set; PATCH_MODE=install is refused without"
    ) as caught:
        read_settings({**REQUIRED, "PATCH_MODE": "install"})
    assert len(caught.value.problems) == 1
    assert read_settings({**REQUIRED, "PATCH_MODE": "install", "PATCH_WINDOW": "any"}).mode is Mode.INSTALL


def test_the_missing_window_is_named_beside_other_problems() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, "PATCH_MODE": "install", "PATCH_PACE_PERCENT": "0"})
    assert [problem.name for problem in caught.value.problems] == ["PATCH_PACE_PERCENT", "PATCH_WINDOW"]


@pytest.mark.parametrize(
    ("former", "name"),
    [("PATCH_ROUND_DAYS", "PATCH_ROLLOUT_DAYS"), ("PATCH_SETTLE_MINUTES", "PATCH_MIN_AGE_MINUTES")],
)
def test_a_former_name_is_refused_and_the_new_one_named(former: str, name: str) -> None:
    for environ in ({former: "5"}, {former: "5", name: "5"}):
        with pytest.raises(SettingsError) as caught:
            read_settings({**REQUIRED, **environ})
        assert [str(problem) for problem in caught.value.problems] == [f"{former} is a former name; write {name}"]
    assert read_settings({**REQUIRED, former: " "}) == read_settings(REQUIRED)


YEAR_OF_BLACKOUT = "2026-11-01..2027-12-31"
# settings → the problem at NOW, whether it is one without knowing the time
USELESS_WINDOWS = {
    "of 19 minutes": ({"PATCH_WINDOW": "Sat 22:00-22:19"}, "PATCH_WINDOW is 'Sat 22:00-22:19 UTC'; none of its", True),
    "two that touch": ({"PATCH_WINDOW": "Sat 22:00-22:10; Sat 22:10-22:20"}, "", False),
    "two that do not": ({"PATCH_WINDOW": "Sat 22:00-22:10; Sat 22:11-22:20"}, "PATCH_WINDOW is ", True),
    "of 20 minutes": ({"PATCH_WINDOW": "Sat 22:00-22:20"}, "", False),
    "once a month": ({"PATCH_WINDOW": "2nd Tue +3d 22:00-02:00"}, "", False),
    "of canaries": (
        {"PATCH_WINDOW": NIGHTS, "PATCH_CANARY_WINDOW": "1st Mon 02:00-02:10"},
        "PATCH_CANARY_WINDOW is '1st Mon 02:00-02:10 UTC'; none of its openings lasts 20 minutes",
        True,
    ),
    "blacked out for more than a year": (
        {"PATCH_WINDOW": "any", "PATCH_BLACKOUT": YEAR_OF_BLACKOUT + ",2028-01-01..2028-12-31"},
        "PATCH_WINDOW is 'any'; PATCH_BLACKOUT leaves it no opening of 20 minutes within 400 days",
        False,
    ),
    "blacked out on its days": (
        {"PATCH_WINDOW": "last Sun 22:00-23:00", "PATCH_BLACKOUT": YEAR_OF_BLACKOUT},
        "PATCH_WINDOW is 'last Sun 22:00-23:00 UTC'; PATCH_BLACKOUT leaves it no opening",
        False,
    ),
    "blacked out for less": ({"PATCH_WINDOW": NIGHTS, "PATCH_BLACKOUT": "2026-11-01..2027-11-01"}, "", False),
    "a black-out without a window": ({"PATCH_BLACKOUT": YEAR_OF_BLACKOUT}, "", False),
}
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(("environ", "begins", "always"), USELESS_WINDOWS.values(), ids=USELESS_WINDOWS)
def test_a_window_in_which_no_installation_fits_is_refused(environ: dict[str, str], begins: str, always: bool) -> None:
    for now, refused in ((NOW, bool(begins)), (None, always)):
        if not refused:
            read_settings({**REQUIRED, **environ}, now)
            continue
        with pytest.raises(SettingsError) as caught:
            read_settings({**REQUIRED, **environ}, now)
        [problem] = caught.value.problems
        assert str(problem).startswith(begins)


def test_no_window_is_refused_that_the_shortest_installation_fits_in() -> None:
    shortest = [
        min_minutes(a_machine(os_type=os_type), settings(PATCH_CLASSIFICATIONS=wanted))
        for os_type in OsType
        for wanted in ("Security", "ServicePack")
    ]
    assert timedelta(minutes=min(shortest)) == MIN_INSTALLATION


ADVICE: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing to say": ({"PATCH_BLACKOUT": "2026-11-25"}, []),
    "no black-out": ({}, []),
    "a black-out that is over": ({"PATCH_BLACKOUT": "2025-12-20..2026-01-05, 2026-11-24"}, ["PATCH_BLACKOUT: "]),
    "one that is over, one to come": ({"PATCH_BLACKOUT": "2025-12-24, 2026-12-24"}, []),
    "one that ends today where it is written": ({"PATCH_BLACKOUT": "2026-11-25 Asia/Tokyo"}, []),
    "an opening of 24 minutes": ({"PATCH_WINDOW": "Sat 22:00-22:24"}, ["PATCH_WINDOW: no opening lasts 25 minutes"]),
    "an opening of 25 minutes": ({"PATCH_WINDOW": "Sat 22:00-22:25"}, ["PATCH_MAX_DURATION: "]),
    "service packs in less than 30": (
        {"PATCH_WINDOW": "Sat 22:00-22:29", "PATCH_CLASSIFICATIONS": "ServicePack"},
        ["PATCH_WINDOW: no opening lasts 30 minutes"],
    ),
    "an installation that may fill its opening": ({"PATCH_WINDOW": "Sat 22:00-00:00"}, []),
    "a longer one": ({"PATCH_WINDOW": NIGHTS, "PATCH_MAX_DURATION": "PT3H55M"}, []),
    "one longer than the opening": ({"PATCH_WINDOW": "Sat 22:00-23:59"}, ["PATCH_MAX_DURATION: longer than every"]),
    "one longer than that of canaries": (
        {"PATCH_CANARY_WINDOW": "Fri 22:00-23:00"},
        ["PATCH_MAX_DURATION: longer than every opening of PATCH_CANARY_WINDOW"],
    ),
    "a subscription's id": ({"PATCH_SCOPE": SUBSCRIPTION}, []),
    "a management group": ({"PATCH_SCOPE": "mg:platform"}, []),
    "announcements that a topic receives": ({"PATCH_NOTICE_MINUTES": "60", "PATCH_NOTICES": TOPIC}, []),
    "announcements that no topic receives": ({"PATCH_NOTICE_MINUTES": "60"}, ["PATCH_NOTICE_MINUTES: no installation"]),
    "a name": ({"PATCH_SCOPE": "My-Sub"}, ["PATCH_SCOPE: 'my-sub' is taken for a management group"]),
}


@pytest.mark.parametrize(("environ", "lines"), ADVICE.values(), ids=ADVICE)
def test_what_is_hardly_meant_is_advised_against(environ: dict[str, str], lines: list[str]) -> None:
    found = advice(settings(**environ), NOW)
    assert len(found) == len(lines)
    for line, begins in zip(found, lines, strict=True):
        assert line.startswith(begins)
        assert line.isprintable()
        assert len(line) <= 200


def test_advice_counts_windows_as_installations_do() -> None:
    for wanted, minutes in (("Security", 25), ("ServicePack", 30)):
        given = settings(PATCH_CLASSIFICATIONS=wanted, PATCH_WINDOW="Sat 22:00-22:20")
        assert min_minutes(a_machine(os_type=OsType.WINDOWS), given) == minutes
        assert advice(given, NOW) == [
            f"PATCH_WINDOW: no opening lasts {minutes} minutes, so no Windows machine is installed"
        ]


NO_SETTINGS = {
    "one letter more": ("PATCH_BLACKOUTS", "did you mean PATCH_BLACKOUT?"),
    "the plural": ("PATCH_WINDOWS", "did you mean PATCH_WINDOW?"),
    "a letter left out": ("PATCH_PACKAGE_EXCLUDE", "did you mean PATCH_PACKAGES_EXCLUDE?"),
    "a word left out": ("PATCH_EXCLUDE", "did you mean PATCH_PACKAGES_EXCLUDE?"),
    "a separator left out": ("PATCH_MAX_INFLIGHT", "did you mean PATCH_MAX_IN_FLIGHT?"),
    "two separators": ("PATCH__MODE", "did you mean PATCH_MODE?"),
    "letters swapped": ("PATCH_PUASE", "did you mean PATCH_PAUSE?"),
    "misspelt in another case": ("patch_blackouts", "did you mean PATCH_BLACKOUT?"),
    "nothing near": ("PATCH_XYZZY", "docs/settings.md lists all of them"),
    "the prefix alone": ("PATCH_", "docs/settings.md lists all of them"),
    "small letters": ("patch_mode", "write PATCH_MODE"),
    "capitals": ("Patch_Mode", "write PATCH_MODE"),
    "hyphens": ("PATCH-MODE", "write PATCH_MODE"),
    "a period": ("patch.mode", "write PATCH_MODE"),
    "a blank": ("PATCH MODE", "write PATCH_MODE"),
    "the schedule in small letters": ("reconcile_schedule", "write RECONCILE_SCHEDULE"),
    "the schedule misspelt": ("RECONCILE_SHEDULE", "did you mean RECONCILE_SCHEDULE?"),
    "the address misspelt": ("ARM_ENPOINT", "did you mean ARM_ENDPOINT?"),
    "the address in small letters": ("Arm_Endpoint", "write ARM_ENDPOINT"),
    "the clouds misspelt": ("ARM_ENDPOINT_ALLOWED", "did you mean ARM_ENDPOINT_ALLOW?"),
}


@pytest.mark.parametrize(("name", "remedy"), NO_SETTINGS.values(), ids=NO_SETTINGS)
def test_a_misspelt_name_is_refused_and_the_nearest_one_named(name: str, remedy: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, name: "1"})
    assert [str(problem) for problem in caught.value.problems] == [f"{name} is not a setting; {remedy}"]
    assert read_settings({**REQUIRED, name: " "}) == read_settings(REQUIRED), "a deleted value"


def test_a_name_of_any_length_and_letters_is_shown_on_one_short_line() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({**REQUIRED, "PATCH_\n\x00" + "x" * 5_000: "1"})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


# What Terraform and other tools read, beside what Azure Functions reads or sets.
TOOLS = [
    "ARM_CLIENT_ID",
    "ARM_ENVIRONMENT",
    "ARM_MSI_ENDPOINT",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
    "PATCH",
    "DISPATCH_X",
]


def test_what_the_platform_and_other_tools_set_is_not_a_setting_of_ours() -> None:
    flex = json.loads((Path(__file__).parents[1] / "recordings" / "flex_consumption.json").read_text(encoding="utf-8"))
    platform = sorted(set(re.findall(r'"name": "(\w+)"', json.dumps(flex))))
    assert {"FUNCTIONS_WORKER_RUNTIME", "WEBSITE_TIME_ZONE"} <= {*platform}
    assert read_settings({**REQUIRED, **dict.fromkeys([*platform, *TOOLS], "1")}) == read_settings(REQUIRED)


def test_the_table_and_the_values_have_the_same_fields() -> None:
    filled = {setting.field for setting in SETTINGS}
    assert filled | {"queue_endpoint", "table_endpoint", "client_id", "texts"} == set(Settings.__dataclass_fields__)


def test_every_setting_says_what_it_means_and_what_it_may_be() -> None:
    for setting in SETTINGS:
        assert setting.meaning.endswith("."), setting.name
        assert setting.reader.grammar, setting.name


# -- scope


@pytest.mark.parametrize(
    ("scope", "subscription", "covered"),
    [
        pytest.param("", SUBSCRIPTION, True, id="no scope: everything"),
        pytest.param(SUBSCRIPTION.upper(), SUBSCRIPTION, True, id="listed"),
        pytest.param(SUBSCRIPTION, OTHER, False, id="not listed"),
        pytest.param("some-group", OTHER, True, id="under groups only Azure knows"),
    ],
)
def test_what_the_scope_covers(scope: str, subscription: str, covered: bool) -> None:
    assert settings(PATCH_SCOPE=scope).covers(subscription) is covered


# -- storage: by identity only

QUEUE, TABLE = "AzureWebJobsStorage__queueServiceUri", "AzureWebJobsStorage__tableServiceUri"
SCHEDULE = {"RECONCILE_SCHEDULE": REQUIRED["RECONCILE_SCHEDULE"]}
CONNECTION = "DefaultEndpointsProtocol=https;AccountName=patcher;AccountKey=c2VjcmV0c2VjcmV0==;EndpointSuffix=core.x"


def test_storage_by_account_name() -> None:
    read = read_settings(REQUIRED)
    assert read.queue_endpoint == "https://patcherstorage.queue.core.windows.net"
    assert read.table_endpoint == "https://patcherstorage.table.core.windows.net"


def test_storage_by_address_wins_over_the_name() -> None:
    read = read_settings({**REQUIRED, QUEUE: "https://q.example/", TABLE: "https://localhost:10002/account1"})
    assert (read.queue_endpoint, read.table_endpoint) == ("https://q.example", "https://localhost:10002/account1")


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({"AzureWebJobsStorage": CONNECTION}, id="connection string"),
        pytest.param({"AzureWebJobsStorage": "UseDevelopmentStorage=true"}, id="development storage"),
        pytest.param({QUEUE: CONNECTION, TABLE: CONNECTION}, id="connection string as address"),
        pytest.param({"AzureWebJobsStorage__accountName": CONNECTION}, id="connection string as name"),
        pytest.param({"AzureWebJobsStorage__accountName": "Upper_Case"}, id="a name that cannot be"),
        pytest.param({QUEUE: "http://q.example", TABLE: "http://t.example"}, id="no TLS"),
        pytest.param({QUEUE: "https://q.example?sv=1&sig=c2VjcmV0", TABLE: "https://t.example?sig=c2VjcmV0"}, id="SAS"),
        pytest.param({QUEUE: "https://me:c2VjcmV0@q.example", TABLE: "https://me:c2VjcmV0@t.example"}, id="password"),
        pytest.param({QUEUE: "https://q.example\nc2VjcmV0", TABLE: "https://t.example/a/b"}, id="line break"),
    ],
)
def test_storage_is_never_reached_by_a_key(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(SCHEDULE | environ)
    line = str(caught.value)
    assert [problem.name for problem in caught.value.problems] == [QUEUE, TABLE]
    assert "without a key" in line
    assert all(len(str(problem)) <= 200 for problem in caught.value.problems)
    assert "c2VjcmV0=" not in line
    assert "c2VjcmV0c2" not in line
    assert "sig=c2" not in line
    assert ":c2VjcmV0@" not in line
    assert line.isprintable()


def test_the_identity_is_named_by_the_storage_connection_or_by_azure_client_id() -> None:
    assert read_settings(REQUIRED).client_id == ""
    assert read_settings({**REQUIRED, "AZURE_CLIENT_ID": "b"}).client_id == "b"
    both = {"AzureWebJobsStorage__clientId": "a", "AZURE_CLIENT_ID": "b"}
    assert read_settings({**REQUIRED, **both}).client_id == "a"


# -- tags

HOLD = date(2027, 1, 15)
TAG_ROWS: dict[str, tuple[dict[str, str], dict[str, str], TagOverrides]] = {
    "none": ({}, {}, TagOverrides()),
    "foreign ones": ({"env": "prod"}, {"owner": "ops"}, TagOverrides()),
    "mode on the machine": ({"patch-mode": "assess"}, {}, TagOverrides(mode=Mode.ASSESS)),
    "mode on the group": ({}, {"patch-mode": "Off"}, TagOverrides(mode=Mode.OFF)),
    "the smaller mode wins: machine": ({"patch-mode": "off"}, {"patch-mode": "install"}, TagOverrides(mode=Mode.OFF)),
    "the smaller mode wins: group": ({"patch-mode": "install"}, {"patch-mode": "off"}, TagOverrides(mode=Mode.OFF)),
    "the smaller reboot wins": (
        {"patch-reboot": "Always"},
        {"patch-reboot": "never"},
        TagOverrides(reboot=Reboot.NEVER),
    ),
    "the later hold wins": (
        {"patch-hold-until": "2026-12-01"},
        {"patch-hold-until": "2027-01-15"},
        TagOverrides(hold_until=HOLD),
    ),
    "a hold of one side": ({"patch-hold-until": "2027-01-15"}, {}, TagOverrides(hold_until=HOLD)),
    "a window of the group": ({}, {"patch-window": NIGHTS}, TagOverrides(window=read_windows(NIGHTS))),
    "a window of the machine": (
        {"patch-window": NIGHTS},
        {"patch-mode": "install"},
        TagOverrides(window=read_windows(NIGHTS)),
    ),
    "two windows: where both are open": (
        {"patch-window": NIGHTS},
        {"patch-window": "any"},
        TagOverrides(window=both(read_windows(NIGHTS), read_windows("any"))),
    ),
    "a ring": ({"patch-ring": "0"}, {}, TagOverrides(ring=0)),
    "the later ring of two": ({"patch-ring": "0"}, {"patch-ring": "3"}, TagOverrides(ring=3)),
    "the ring of the group": ({}, {"patch-ring": "1"}, TagOverrides(ring=1)),
    "no ring is the last": ({}, {}, TagOverrides(ring=LAST_RING)),
    "a group, the machine's own first": ({"patch-group": "Quorum"}, {"patch-group": "x"}, TagOverrides(group="quorum")),
    "not to be started": ({"patch-start": "no"}, {}, TagOverrides(may_start=False)),
    "a group not to be started": ({}, {"patch-start": "No"}, TagOverrides(may_start=False)),
    "an SLA": ({"patch-sla": "14"}, {}, TagOverrides(sla=Sla(14 * DAY, 14 * DAY))),
    "an SLA of the group": ({}, {"patch-sla": "critical 36h,security 14"}, TagOverrides(sla=Sla(1.5 * DAY, 14 * DAY))),
    "the shorter SLA wins, by severity": (
        {"patch-sla": "Critical 3, Security 30"},
        {"patch-sla": "7"},
        TagOverrides(sla=Sla(3 * DAY, 7 * DAY)),
    ),
    "owner": ({"patch-owner": "Image-Patcher"}, {}, TagOverrides(owned_by_us=True)),
}


@pytest.mark.parametrize(("machine", "group", "overrides"), TAG_ROWS.values(), ids=TAG_ROWS)
def test_tags(machine: dict[str, str], group: dict[str, str], overrides: TagOverrides) -> None:
    assert read_tags(machine, group) == overrides


BAD_TAGS = [
    ("patch-mode", "of"),
    ("patch-mode", ""),
    ("patch-reboot", "sometimes"),
    ("patch-hold-until", "next week"),
    ("patch-hold-until", "2027-02-30"),
    ("patch-owner", "another"),
    ("patch-window", "Saturday night"),
    ("patch-window", ""),
    ("patch-ring", "first"),
    ("patch-ring", "100"),
    ("patch-group", "a b"),
    ("patch-group", ""),
    ("patch-group", "\u0130"),
    ("patch-group", "wee\u212a"),
    ("patch-group", "größe"),
    ("patch-group", "quorum|x"),
    ("patch-group", "x" * 65),
    ("patch-start", "yes"),
    ("patch-sla", "soon"),
    ("patch-sla", "0"),
    ("patch-sla", "Critical 3"),
    ("patch-sla", "Critical 3; Security 14"),
]


@pytest.mark.parametrize(("tag", "text"), BAD_TAGS)
@pytest.mark.parametrize("on_group", [False, True], ids=["machine", "group"])
def test_a_wrong_tag_stops_everything_and_is_named(tag: str, text: str, on_group: bool) -> None:
    tags = {tag: text, "patch-owner": "image-patcher"} if tag != "patch-owner" else {tag: text}
    overrides = read_tags({} if on_group else tags, tags if on_group else {})
    grammar = next(each.reader.grammar for each in TAGS if each.name == tag)
    line = overrides.problem
    assert overrides == TagOverrides(mode=Mode.OFF, problem=line)
    assert line.startswith(f"tag {tag}: " if tag == "patch-window" else f"tag {tag} is ")
    assert tag == "patch-window" or line.endswith(f"; allowed: {grammar}")
    assert len(line) <= 200


NO_TAGS = {
    "a letter left out": ("patch-mod", "did you mean patch-mode?"),
    "an underscore": ("patch_mode", "did you mean patch-mode?"),
    "a word left out": ("patch-hold", "did you mean patch-hold-until?"),
    "the plural": ("patch-rings", "did you mean patch-ring?"),
    "another separator": ("patch-hold_until", "did you mean patch-hold-until?"),
    "nothing near": ("patch-xyzzy", f"the app's tags are {', '.join(each.name for each in TAGS)}"),
}


@pytest.mark.parametrize(("tag", "hint"), NO_TAGS.values(), ids=NO_TAGS)
@pytest.mark.parametrize("on_group", [False, True], ids=["machine", "group"])
def test_a_misspelt_tag_stops_everything_and_the_nearest_is_named(tag: str, hint: str, on_group: bool) -> None:
    tags = {tag: "", "patch-owner": "image-patcher"}
    overrides = read_tags({} if on_group else tags, tags if on_group else {})
    assert overrides == TagOverrides(mode=Mode.OFF, problem=f"tag {tag} is not a tag of the app; {hint}")


@pytest.mark.parametrize(
    "tag", ["patch group", "patchgroup", "patch", "os-patch-mode", "patching-window", "Dispatch-x"]
)
def test_the_tag_of_another_tool_is_none_of_ours(tag: str) -> None:
    assert read_tags({tag: "off"}, {tag: "off"}) == TagOverrides()


def test_every_tag_that_can_be_wrong_has_a_row() -> None:
    assert {name for name, _ in BAD_TAGS} == {each.name for each in TAGS}


WIDER: dict[str, tuple[Cap, int, Cap]] = {
    "a count": (Cap(10), 4, Cap(40)),
    "a percentage": (Cap(10, True), 4, Cap(40, True)),
    "at most as many as a setting takes": (Cap(5_000), 4, Cap(10_000)),
    "at most all machines": (Cap(40, True), 4, Cap(100, True)),
}


@pytest.mark.parametrize(("cap", "times", "wider"), WIDER.values(), ids=WIDER)
def test_a_wider_cap_is_one_that_its_setting_takes(cap: Cap, times: int, wider: Cap) -> None:
    assert cap.times(times) == wider
    assert settings(PATCH_MAX_IN_FLIGHT=str(wider)).max_in_flight == wider


CANARIES: dict[str, tuple[str, bool]] = {
    "nothing is named": ("", True),
    "a mask": ("web-*", True),
    "the name": ("WEB-1", True),
    "another name": ("web-2", False),
    "its id": (A_MACHINE, True),
    "its resource group": (RESOURCE_GROUP, True),
    "the beginning of its resource group": (RESOURCE_GROUP[:-1], False),
    "one of two": (f"db-*,{A_MACHINE}", True),
}


@pytest.mark.parametrize(("named", "may"), CANARIES.values(), ids=CANARIES)
def test_who_may_be_a_canary(named: str, may: bool) -> None:
    machine = machine_id("web-1", "rg-web", OTHER)
    assert settings(PATCH_CANARY_MACHINES=named).may_be_canary(machine) is may
