"""What the owner wants of the whole app: the app settings, read once into frozen values.

A wrong setting never fails an import and is never guessed at: read_settings() collects every problem and raises one
SettingsError, and each trigger then refuses, saying what is wrong.

SETTINGS is the list: name, default, grammar, meaning. docs/settings.md is tested against it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from functions.model.machine import CLASSIFICATIONS
from functions.model.text import GUID, BadInput, quoted
from functions.policy.grammar import (
    SWITCH,
    choice,
    number,
    read_blackout_setting,
    read_classifications,
    read_created_after,
    read_duration_minutes,
    read_endpoint,
    read_packages,
    read_schedule,
    read_scope,
    read_tag_name,
    read_window_setting,
    span,
)
from functions.policy.window_grammar import BLACKOUT_GRAMMAR
from functions.policy.window_grammar import GRAMMAR as WINDOW_GRAMMAR
from functions.policy.windows import Blackouts, Windows

# former name → name. Refused, because an ignored limit is no limit.
FORMER_NAMES = {"PATCH_ROUND_DAYS": "PATCH_ROLLOUT_DAYS", "PATCH_SETTLE_MINUTES": "PATCH_MIN_AGE_MINUTES"}

# The timer's first tick comes up to one schedule after the app went live; machines made meanwhile are ours too.
FIRST_DEPLOYMENT_MARGIN = timedelta(minutes=5)


class Mode(IntEnum):
    """How much the app may do. The smaller of setting and tag wins."""

    OFF = 0
    PLAN = 1  # decide and say it, call nothing
    ASSESS = 2
    INSTALL = 3


class Reboot(IntEnum):
    """The reboot setting of an installation, from least to most. The smaller of setting and tag wins."""

    NEVER = 0
    IF_REQUIRED = 1
    ALWAYS = 2

    @property
    def wire(self) -> str:
        """As the API spells it (`VMGuestPatchRebootSetting`)."""
        return ("Never", "IfRequired", "Always")[self]


MODES = {"off": Mode.OFF, "plan": Mode.PLAN, "assess": Mode.ASSESS, "install": Mode.INSTALL}


REBOOTS = {reboot.wire: reboot for reboot in Reboot}


@dataclass(frozen=True)
class Problem:
    """One wrong setting: its name, the value found (short), and what is allowed."""

    name: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.name} is {self.value}; allowed: {self.allowed}"


class SettingsError(ValueError):
    """One or more app settings are wrong. Nothing may be called until they are put right."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


@dataclass(frozen=True)
class Breaker:
    """So many failures within this span open the breaker of an image."""

    failures: int
    span: timedelta


@dataclass(frozen=True)
class Settings:
    """The app settings. Durations are timedeltas; `created_after` None means since the first deployment."""

    scope_subscriptions: tuple[str, ...]
    scope_management_groups: tuple[str, ...]
    mode: Mode
    all_images: bool
    include_scheduled: bool
    created_after: datetime | None
    classifications: tuple[str, ...]
    packages_include: tuple[str, ...]
    packages_exclude: tuple[str, ...]
    reboot: Reboot
    max_duration_minutes: int
    window: Windows | None  # None: not set
    blackouts: Blackouts
    first_span: timedelta  # the first patching of a machine this young need not wait for the window
    min_age: timedelta
    assess_after: timedelta
    fresh: timedelta
    min_interval: timedelta
    max_in_flight: int
    max_per_image: int
    canaries: int
    bake: timedelta
    success_percent: int
    breaker: Breaker
    rollout_length: timedelta
    paused: bool
    pace_percent: int
    first_retry: timedelta
    first_look: timedelta
    arm_endpoint: str
    queue_endpoint: str
    table_endpoint: str
    client_id: str
    use_proxy: bool
    schedule: str
    sla: timedelta  # within this time of its publication a Critical or Security patch should be in
    owner_tag: str  # "": nobody is named

    def covers(self, subscription: str) -> bool:
        """Whether a subscription may be in scope. Under management groups only Azure knows, and its events say so."""
        return not self.scope_subscriptions or subscription in self.scope_subscriptions


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings from the environment. Raises SettingsError naming every wrong one."""
    values: dict[str, Any] = {}
    problems = _renamed(environ)
    for setting in SETTINGS:
        text = environ.get(setting.name, "").strip()
        try:
            values[setting.field] = setting.read(text or setting.default)
        except ValueError as error:
            precise = f" ({error})" if isinstance(error, BadInput) else ""
            problems.append(Problem(setting.name, quoted(text) if text else "not set", f"{setting.grammar}{precise}"))
    values["queue_endpoint"] = _storage(environ, "queue", problems)
    values["table_endpoint"] = _storage(environ, "table", problems)
    values["client_id"] = _client_id(environ, problems)
    if values.get("mode") is Mode.INSTALL and "window" in values and values["window"] is None:
        problems.append(Problem("PATCH_WINDOW", "not set", f"{WINDOW_GRAMMAR}; PATCH_MODE=install is refused without"))
    if values.get("bake", timedelta(0)) >= values.get("rollout_length", timedelta.max):
        problems.append(Problem("PATCH_BAKE_MINUTES", "longer than a round", "less than PATCH_ROLLOUT_DAYS"))
    if problems:
        raise SettingsError(problems)
    scope = values.pop("scope")
    values["scope_subscriptions"] = tuple(item for item in scope if GUID.fullmatch(item))
    values["scope_management_groups"] = tuple(item for item in scope if not GUID.fullmatch(item))
    return Settings(**values)


def _renamed(environ: Mapping[str, str]) -> list[Problem]:
    """The settings whose name is a former one. A limit set under it would otherwise vanish without a word."""
    given = {former: name for former, name in FORMER_NAMES.items() if environ.get(former, "").strip()}
    return [Problem(former, "a former name", name) for former, name in given.items()]


def _storage(environ: Mapping[str, str], service: str, problems: list[Problem]) -> str:
    """The endpoint of the host's own storage account, where the ledger and the queues are. By identity only."""
    name = f"AzureWebJobsStorage__{service}ServiceUri"
    uri = environ.get(name, "")
    account = environ.get("AzureWebJobsStorage__accountName", "")
    if not uri and re.fullmatch(r"[a-z0-9]{3,24}", account):
        return f"https://{account}.{service}.core.windows.net"
    if re.fullmatch(r"https://[\w.-]+(:\d+)?(/\w+)?/?", uri, re.ASCII):
        return uri.rstrip("/")
    problems.append(
        Problem(name, quoted(uri) if uri else "not set", "https://<account>.<service>.core.windows.net, without a key")
    )
    return ""


def _client_id(environ: Mapping[str, str], problems: list[Problem]) -> str:
    """The client id of a user-assigned identity; "" for the system's own."""
    name = next((name for name in ("AzureWebJobsStorage__clientId", "AZURE_CLIENT_ID") if environ.get(name)), "")
    text = environ.get(name, "")
    if not re.fullmatch(r"[\w-]{0,64}", text, re.ASCII):
        problems.append(Problem(name, quoted(text), "the client id of a user-assigned identity"))
    return text


def read_breaker(text: str) -> Breaker:
    match = re.fullmatch(r"(\d{1,3}) in (\d{1,3}) days?", text, re.IGNORECASE | re.ASCII)
    if not match or not 1 <= int(match[1]) <= 100 or not 1 <= int(match[2]) <= 90:
        raise ValueError
    return Breaker(int(match[1]), timedelta(days=int(match[2])))


@dataclass(frozen=True)
class Setting:
    """One app setting: its name, the field of Settings it fills, the default, how it is read, what it may be and is."""

    name: str
    field: str
    default: str
    read: Callable[[str], Any]
    grammar: str
    meaning: str


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "PATCH_SCOPE",
        "scope",
        "",
        read_scope,
        "subscription ids, or management group names, separated by commas",
        "Where to look. Empty: everything the app's identity may read.",
    ),
    Setting(
        "PATCH_MODE",
        "mode",
        "assess",
        choice(MODES),
        "off, plan, assess or install",
        "How much the app may do; plan decides and says it, and calls nothing.",
    ),
    Setting(
        "PATCH_IMAGES",
        "all_images",
        "custom",
        choice({"custom": False, "all": True}),
        "custom or all",
        "Customized images only, or marketplace images too.",
    ),
    Setting(
        "PATCH_SCHEDULED",
        "include_scheduled",
        "leave",
        choice({"leave": False, "include": True}),
        "leave or include",
        "Whether machines that a maintenance configuration patches are installed here too.",
    ),
    Setting(
        "PATCH_CREATED_AFTER",
        "created_after",
        "first-deployment",
        read_created_after,
        "an ISO time such as 2026-11-25T00:00:00Z, first-deployment or always",
        "Older machines are out of scope.",
    ),
    Setting(
        "PATCH_CLASSIFICATIONS",
        "classifications",
        "Critical,Security",
        read_classifications,
        ", ".join(CLASSIFICATIONS) + ", separated by commas",
        "Which patches to install. Linux knows Critical, Security and Other.",
    ),
    Setting(
        "PATCH_PACKAGES_INCLUDE",
        "packages_include",
        "",
        read_packages,
        "KB numbers or package masks, separated by commas",
        "Installed besides the classifications.",
    ),
    Setting(
        "PATCH_PACKAGES_EXCLUDE",
        "packages_exclude",
        "",
        read_packages,
        "KB numbers or package masks, separated by commas",
        "Never installed.",
    ),
    Setting(
        "PATCH_REBOOT",
        "reboot",
        "IfRequired",
        choice(REBOOTS),
        "IfRequired, Never or Always",
        "The reboot setting of every installation.",
    ),
    Setting(
        "PATCH_MAX_DURATION",
        "max_duration_minutes",
        "PT2H",
        read_duration_minutes,
        "PT30M to PT3H55M, hours and minutes only",
        "How long an installation may take.",
    ),
    Setting(
        "PATCH_WINDOW",
        "window",
        "",
        read_window_setting,
        WINDOW_GRAMMAR,
        "When installations may run. PATCH_MODE=install is refused without.",
    ),
    Setting(
        "PATCH_BLACKOUT",
        "blackouts",
        "",
        read_blackout_setting,
        BLACKOUT_GRAMMAR,
        "Days on which no installation runs, whatever the window.",
    ),
    Setting(
        "PATCH_FIRST_HOURS",
        "first_span",
        "24",
        span("hours", 0, 720),
        "hours, 0 to 720",
        "The first patching of a machine this young need not wait for the window; 0: it waits.",
    ),
    Setting(
        "PATCH_MIN_AGE_MINUTES",
        "min_age",
        "60",
        span("minutes", 0, 10080),
        "minutes, 0 to 10080",
        "No installation before a machine has this age.",
    ),
    Setting(
        "PATCH_ASSESS_AFTER_MINUTES",
        "assess_after",
        "0",
        span("minutes", 0, 10080),
        "minutes, 0 to 10080",
        "No assessment before a machine has this age; raise it where first-boot scripts run long.",
    ),
    Setting(
        "PATCH_FRESH_HOURS",
        "fresh",
        "24",
        span("hours", 0.01, 160),
        "hours, up to 160",
        "How old a support state may be at an installation. Resource Graph forgets it after 7 days.",
    ),
    Setting(
        "PATCH_MIN_INTERVAL_HOURS",
        "min_interval",
        "144",
        span("hours", 0.01, 160),
        "hours, up to 160",
        "At most one installation, and at least one assessment, of a machine in this time.",
    ),
    Setting(
        "PATCH_MAX_IN_FLIGHT",
        "max_in_flight",
        "10",
        number(0, 10000),
        "0 to 10000",
        "Installations under way at once in the fleet.",
    ),
    Setting(
        "PATCH_MAX_PER_IMAGE",
        "max_per_image",
        "5",
        number(1, 10000),
        "1 to 10000",
        "Installations under way at once on machines of one image version.",
    ),
    Setting(
        "PATCH_CANARIES",
        "canaries",
        "1",
        number(0, 100),
        "0 to 100",
        "How many machines of an image prove each round before the others.",
    ),
    Setting(
        "PATCH_BAKE_MINUTES",
        "bake",
        "1440",
        span("minutes", 0, 43200),
        "minutes, 0 to 43200, less than PATCH_ROLLOUT_DAYS",
        "How long canaries, and then each ring, are watched before the next goes.",
    ),
    Setting(
        "PATCH_SUCCESS_PERCENT",
        "success_percent",
        "90",
        number(0, 100),
        "0 to 100",
        "How many installations of the rings before must have succeeded.",
    ),
    Setting(
        "PATCH_BREAKER",
        "breaker",
        "3 in 7 days",
        read_breaker,
        "failures in days, such as 3 in 7 days",
        "So many failures of one image stop its installations until a person closes the breaker.",
    ),
    Setting(
        "PATCH_ROLLOUT_DAYS",
        "rollout_length",
        "14",
        span("days", 0.001, 90),
        "days, up to 90",
        "How long what canaries and rings proved holds; then a new round begins.",
    ),
    Setting(
        "PATCH_PAUSE",
        "paused",
        "off",
        choice(SWITCH),
        "off or on",
        "No new call while on; docs/stop.md has the faster switch.",
    ),
    Setting(
        "PATCH_PACE_PERCENT",
        "pace_percent",
        "75",
        number(1, 100),
        "1 to 100",
        "The share of Azure's quota of patch calls that sweeps may use, per subscription and region.",
    ),
    Setting(
        "PATCH_RETRY_MINUTES",
        "first_retry",
        "15",
        span("minutes", 0.01, 1440),
        "minutes, up to 1440",
        "The first wait after a passing failure; it doubles, up to a day.",
    ),
    Setting(
        "PATCH_READY_MINUTES",
        "first_look",
        "2",
        span("minutes", 0.01, 60),
        "minutes, up to 60",
        "The first wait for a machine that is still being built; it doubles, four times.",
    ),
    Setting(
        "PATCH_SLA_DAYS",
        "sla",
        "30",
        span("days", 0.001, 3650),
        "days, up to 3650",
        "How soon a Critical or Security patch should be in; the census says who is late.",
    ),
    Setting(
        "PATCH_OWNER_TAG",
        "owner_tag",
        "owner",
        read_tag_name,
        "the name of a tag",
        "The tag of machine or resource group that names its owner in the census; its value reaches the logs.",
    ),
    Setting(
        "ARM_ENDPOINT",
        "arm_endpoint",
        "https://management.azure.com",
        read_endpoint,
        "https:// and a host",
        "Azure Resource Manager's address; another one in sovereign clouds and in the simulator.",
    ),
    Setting(
        "PATCH_USE_PROXY",
        "use_proxy",
        "off",
        choice(SWITCH),
        "off or on",
        "Whether HTTP(S)_PROXY is honoured; looking for it costs half of the CPU of a call.",
    ),
    Setting(
        "RECONCILE_SCHEDULE",
        "schedule",
        "",
        read_schedule,
        "an NCRONTAB expression such as 0 */5 * * * *",
        "When the sweep runs. Required: the Functions host reads it too.",
    ),
)
