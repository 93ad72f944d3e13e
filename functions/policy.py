"""What the owner wants: app settings and tags, read once into frozen values.

A wrong setting never fails an import and is never guessed at: read_settings() collects every problem and raises one
SettingsError, and each trigger then refuses, saying what is wrong. A tag, right or wrong, only ever narrows what the
settings allow (`patch-owner` is the one tag that answers a question the settings leave open: whose the machine is).

SETTINGS is the list: name, default, grammar, meaning. docs/settings.md is tested against it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Any

from functions.machine import GUID, LAST_RING, BadInput, Machine, shown
from functions.window import BLACKOUT_GRAMMAR, NO_BLACKOUTS, Blackouts, Windows, both, read_blackouts, read_windows
from functions.window import GRAMMAR as WINDOW_GRAMMAR

CLASSIFICATIONS = (
    "Critical",
    "Security",
    "UpdateRollUp",
    "FeaturePack",
    "ServicePack",
    "Definition",
    "Tools",
    "Updates",
    "Other",
)
LINUX_CLASSIFICATIONS = ("Critical", "Security", "Other")
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
    settle: timedelta
    assess_after: timedelta
    fresh: timedelta
    min_interval: timedelta
    max_in_flight: int
    max_per_image: int
    canaries: int
    bake: timedelta
    success_percent: int
    breaker: Breaker
    round_length: timedelta
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


@dataclass(frozen=True)
class Wishes:
    """What the tags of a machine and of its resource group ask for, the narrower of the two."""

    mode: Mode = Mode.INSTALL
    reboot: Reboot = Reboot.ALWAYS
    hold_until: date | None = None
    window: Windows | None = None
    ring: int = LAST_RING
    group: str = ""  # patch-group: one member at a time
    owned_by_us: bool = False
    problem: str = ""  # the first wrong tag, as one line


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings from the environment. Raises SettingsError naming every wrong one."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for setting in SETTINGS:
        text = environ.get(setting.name, "").strip()
        try:
            values[setting.field] = setting.read(text or setting.default)
        except ValueError as error:
            precise = f" ({error})" if isinstance(error, BadInput) else ""
            problems.append(Problem(setting.name, shown(text) if text else "not set", f"{setting.grammar}{precise}"))
    values["queue_endpoint"] = _storage(environ, "queue", problems)
    values["table_endpoint"] = _storage(environ, "table", problems)
    values["client_id"] = _client_id(environ, problems)
    if values.get("mode") is Mode.INSTALL and "window" in values and values["window"] is None:
        problems.append(Problem("PATCH_WINDOW", "not set", f"{WINDOW_GRAMMAR}; PATCH_MODE=install is refused without"))
    if values.get("bake", timedelta(0)) >= values.get("round_length", timedelta.max):
        problems.append(Problem("PATCH_BAKE_MINUTES", "longer than a round", "less than PATCH_ROUND_DAYS"))
    if problems:
        raise SettingsError(problems)
    scope = values.pop("scope")
    values["scope_subscriptions"] = tuple(item for item in scope if GUID.fullmatch(item))
    values["scope_management_groups"] = tuple(item for item in scope if not GUID.fullmatch(item))
    return Settings(**values)


def wishes_of(machine: Machine) -> Wishes:
    """What the tags of the machine and of its resource group ask for."""
    return read_tags(machine.tags, machine.group.tags if machine.group else {})


def read_tags(machine: Mapping[str, str], group: Mapping[str, str]) -> Wishes:
    """The wishes of both tag sets (keys lower-cased), the narrower winning. A wrong tag is a problem, never a guess."""
    wishes, problems = Wishes(), []
    for tags in (machine, group):
        try:
            wishes = _narrower(wishes, _wishes(tags))
        except ValueError as error:
            problems.append(str(error))
    return wishes if not problems else Wishes(mode=Mode.OFF, problem=problems[0])


def _narrower(one: Wishes, other: Wishes) -> Wishes:
    holds = [hold for hold in (one.hold_until, other.hold_until) if hold]
    return Wishes(
        mode=min(one.mode, other.mode),
        reboot=min(one.reboot, other.reboot),
        hold_until=max(holds, default=None),
        window=both(one.window, other.window) if one.window and other.window else one.window or other.window,
        ring=max(one.ring, other.ring) if LAST_RING not in (one.ring, other.ring) else min(one.ring, other.ring),
        group=one.group or other.group,
        owned_by_us=one.owned_by_us or other.owned_by_us,
    )


def _wishes(tags: Mapping[str, str]) -> Wishes:
    known: dict[str, Any] = {}
    for tag, field, read, grammar in TAGS:
        if tag not in tags:
            continue
        try:
            known[field] = read(tags[tag])
        except ValueError:
            raise ValueError(f"tag {tag} is {shown(tags[tag])}; allowed: {grammar}") from None
    return Wishes(**known)


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
        Problem(name, shown(uri) if uri else "not set", "https://<account>.<service>.core.windows.net, without a key")
    )
    return ""


def _client_id(environ: Mapping[str, str], problems: list[Problem]) -> str:
    """The client id of a user-assigned identity; "" for the system's own."""
    name = next((name for name in ("AzureWebJobsStorage__clientId", "AZURE_CLIENT_ID") if environ.get(name)), "")
    text = environ.get(name, "")
    if not re.fullmatch(r"[\w-]{0,64}", text, re.ASCII):
        problems.append(Problem(name, shown(text), "the client id of a user-assigned identity"))
    return text


# -- grammars: each takes the text and returns a value, or raises ValueError


def _choice(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    lowered = {name.lower(): value for name, value in choices.items()}

    def read(text: str) -> Any:
        if text.lower() not in lowered:
            raise ValueError
        return lowered[text.lower()]

    return read


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return read


def _span(unit: str, low: float, high: float) -> Callable[[str], timedelta]:
    def read(text: str) -> timedelta:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or not low <= float(text) <= high:
            raise ValueError
        return timedelta(**{unit: float(text)})

    return read


def _scope(text: str) -> tuple[str, ...]:
    items = tuple(item.strip().lower() for item in text.split(",") if item.strip())
    if not all(re.fullmatch(r"[\w().-]{1,90}", item, re.ASCII) for item in items):
        raise ValueError
    if len({bool(GUID.fullmatch(item)) for item in items}) > 1:
        raise ValueError  # Resource Graph takes subscriptions or management groups, not both
    return items


def _classifications(text: str) -> tuple[str, ...]:
    names = {name.lower(): name for name in CLASSIFICATIONS}
    wanted = [item.strip().lower() for item in text.split(",") if item.strip()]
    if not wanted or any(item not in names for item in wanted):
        raise ValueError
    return tuple(names[item] for item in dict.fromkeys(wanted))


def _packages(text: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in text.split(",") if item.strip())
    if not all(re.fullmatch(r"[\w.+:~*?-]{1,200}", item, re.ASCII) for item in items):
        raise ValueError
    return items


def _created_after(text: str) -> datetime | None:
    if text == "first-deployment":
        return None
    if text == "always":
        return datetime(2000, 1, 1, tzinfo=UTC)
    moment = datetime.fromisoformat(text)
    if not 2000 <= moment.year < 2200:
        raise ValueError
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _duration_minutes(text: str) -> int:
    """Only PT…H…M: the Linux extension reads neither days nor weeks (Azure/LinuxPatchExtension)."""
    match = re.fullmatch(r"PT(?:(\d{1,2})H)?(?:(\d{1,3})M)?", text, re.IGNORECASE | re.ASCII)
    minutes = int(match[1] or 0) * 60 + int(match[2] or 0) if match else 0
    if not 30 <= minutes <= 235:
        raise ValueError
    return minutes


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"https://[\w.-]+(:\d+)?/?", text, re.ASCII):  # no host that only looks like Azure's
        raise ValueError
    return text.rstrip("/").lower()


def _tag_name(text: str) -> str:
    if not re.fullmatch(r"[^<>%&\\?/\x00-\x1f]{1,512}|", text):
        raise ValueError
    return text.lower()


def _schedule(text: str) -> str:
    """An NCRONTAB expression as the Functions host reads it: five or six fields of numbers, `*`, `,`, `-`, `/`."""
    fields = text.split()
    limits = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    if len(fields) not in (5, 6):
        raise ValueError
    for field, (low, high) in zip(fields, limits[-len(fields) :], strict=True):
        for part in field.split(","):
            match = re.fullmatch(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", part, re.ASCII)
            if not match or match[3] == "0":
                raise ValueError
            if any(number and not low <= int(number) <= high for number in (match[1], match[2])):
                raise ValueError
    return text


def _windows(text: str) -> Windows | None:
    return read_windows(text) if text else None


def _blackouts(text: str) -> Blackouts:
    return read_blackouts(text) if text else NO_BLACKOUTS


def _breaker(text: str) -> Breaker:
    match = re.fullmatch(r"(\d{1,3}) in (\d{1,3}) days?", text, re.IGNORECASE | re.ASCII)
    if not match or not 1 <= int(match[1]) <= 100 or not 1 <= int(match[2]) <= 90:
        raise ValueError
    return Breaker(int(match[1]), timedelta(days=int(match[2])))


def _group(text: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,64}", text):
        raise ValueError
    return text.lower()


def _day(text: str) -> date:
    return date.fromisoformat(text)


_MODES = {"off": Mode.OFF, "plan": Mode.PLAN, "assess": Mode.ASSESS, "install": Mode.INSTALL}
_REBOOTS = {reboot.wire: reboot for reboot in Reboot}
_SWITCH = {"off": False, "on": True}

# tag, the field of Wishes, how to read it, what is allowed
TAGS: tuple[tuple[str, str, Callable[[str], Any], str], ...] = (
    ("patch-mode", "mode", _choice(_MODES), "off, plan, assess or install"),
    ("patch-reboot", "reboot", _choice(_REBOOTS), "Never, IfRequired or Always"),
    ("patch-hold-until", "hold_until", _day, "a day such as 2027-01-15"),
    ("patch-window", "window", read_windows, WINDOW_GRAMMAR),
    ("patch-ring", "ring", _number(0, 99), "0 to 99"),
    ("patch-group", "group", _group, "a name of letters, digits, . and -"),
    ("patch-owner", "owned_by_us", _choice({"image-patcher": True}), "image-patcher"),
)


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
        _scope,
        "subscription ids, or management group names, separated by commas",
        "Where to look. Empty: everything the app's identity may read.",
    ),
    Setting(
        "PATCH_MODE",
        "mode",
        "assess",
        _choice(_MODES),
        "off, plan, assess or install",
        "How much the app may do; plan decides and says it, and calls nothing.",
    ),
    Setting(
        "PATCH_IMAGES",
        "all_images",
        "custom",
        _choice({"custom": False, "all": True}),
        "custom or all",
        "Customized images only, or marketplace images too.",
    ),
    Setting(
        "PATCH_SCHEDULED",
        "include_scheduled",
        "leave",
        _choice({"leave": False, "include": True}),
        "leave or include",
        "Whether machines that a maintenance configuration patches are installed here too.",
    ),
    Setting(
        "PATCH_CREATED_AFTER",
        "created_after",
        "first-deployment",
        _created_after,
        "an ISO time such as 2026-11-25T00:00:00Z, first-deployment or always",
        "Older machines are out of scope.",
    ),
    Setting(
        "PATCH_CLASSIFICATIONS",
        "classifications",
        "Critical,Security",
        _classifications,
        ", ".join(CLASSIFICATIONS) + ", separated by commas",
        "Which patches to install. Linux knows Critical, Security and Other.",
    ),
    Setting(
        "PATCH_PACKAGES_INCLUDE",
        "packages_include",
        "",
        _packages,
        "KB numbers or package masks, separated by commas",
        "Installed besides the classifications.",
    ),
    Setting(
        "PATCH_PACKAGES_EXCLUDE",
        "packages_exclude",
        "",
        _packages,
        "KB numbers or package masks, separated by commas",
        "Never installed.",
    ),
    Setting(
        "PATCH_REBOOT",
        "reboot",
        "IfRequired",
        _choice(_REBOOTS),
        "IfRequired, Never or Always",
        "The reboot setting of every installation.",
    ),
    Setting(
        "PATCH_MAX_DURATION",
        "max_duration_minutes",
        "PT2H",
        _duration_minutes,
        "PT30M to PT3H55M, hours and minutes only",
        "How long an installation may take.",
    ),
    Setting(
        "PATCH_WINDOW",
        "window",
        "",
        _windows,
        WINDOW_GRAMMAR,
        "When installations may run. PATCH_MODE=install is refused without.",
    ),
    Setting(
        "PATCH_BLACKOUT",
        "blackouts",
        "",
        _blackouts,
        BLACKOUT_GRAMMAR,
        "Days on which no installation runs, whatever the window.",
    ),
    Setting(
        "PATCH_FIRST_HOURS",
        "first_span",
        "24",
        _span("hours", 0, 720),
        "hours, 0 to 720",
        "The first patching of a machine this young need not wait for the window; 0: it waits.",
    ),
    Setting(
        "PATCH_SETTLE_MINUTES",
        "settle",
        "60",
        _span("minutes", 0, 10080),
        "minutes, 0 to 10080",
        "No installation before a machine has this age.",
    ),
    Setting(
        "PATCH_ASSESS_AFTER_MINUTES",
        "assess_after",
        "0",
        _span("minutes", 0, 10080),
        "minutes, 0 to 10080",
        "No assessment before a machine has this age; raise it where first-boot scripts run long.",
    ),
    Setting(
        "PATCH_FRESH_HOURS",
        "fresh",
        "24",
        _span("hours", 0.01, 160),
        "hours, up to 160",
        "How old a support state may be at an installation. Resource Graph forgets it after 7 days.",
    ),
    Setting(
        "PATCH_MIN_INTERVAL_HOURS",
        "min_interval",
        "144",
        _span("hours", 0.01, 160),
        "hours, up to 160",
        "At most one installation, and at least one assessment, of a machine in this time.",
    ),
    Setting(
        "PATCH_MAX_IN_FLIGHT",
        "max_in_flight",
        "10",
        _number(0, 10000),
        "0 to 10000",
        "Installations under way at once in the fleet.",
    ),
    Setting(
        "PATCH_MAX_PER_IMAGE",
        "max_per_image",
        "5",
        _number(1, 10000),
        "1 to 10000",
        "Installations under way at once on machines of one image version.",
    ),
    Setting(
        "PATCH_CANARIES",
        "canaries",
        "1",
        _number(0, 100),
        "0 to 100",
        "How many machines of an image prove each round before the others.",
    ),
    Setting(
        "PATCH_BAKE_MINUTES",
        "bake",
        "1440",
        _span("minutes", 0, 43200),
        "minutes, 0 to 43200, less than PATCH_ROUND_DAYS",
        "How long canaries, and then each ring, are watched before the next goes.",
    ),
    Setting(
        "PATCH_SUCCESS_PERCENT",
        "success_percent",
        "90",
        _number(0, 100),
        "0 to 100",
        "How many installations of the rings before must have succeeded.",
    ),
    Setting(
        "PATCH_BREAKER",
        "breaker",
        "3 in 7 days",
        _breaker,
        "failures in days, such as 3 in 7 days",
        "So many failures of one image stop its installations until a person closes the breaker.",
    ),
    Setting(
        "PATCH_ROUND_DAYS",
        "round_length",
        "14",
        _span("days", 0.001, 90),
        "days, up to 90",
        "How long what canaries and rings proved holds; then a new round begins.",
    ),
    Setting(
        "PATCH_PAUSE",
        "paused",
        "off",
        _choice(_SWITCH),
        "off or on",
        "No new call while on; docs/stop.md has the faster switch.",
    ),
    Setting(
        "PATCH_PACE_PERCENT",
        "pace_percent",
        "75",
        _number(1, 100),
        "1 to 100",
        "The share of Azure's quota of patch calls that sweeps may use, per subscription and region.",
    ),
    Setting(
        "PATCH_RETRY_MINUTES",
        "first_retry",
        "15",
        _span("minutes", 0.01, 1440),
        "minutes, up to 1440",
        "The first wait after a passing failure; it doubles, up to a day.",
    ),
    Setting(
        "PATCH_READY_MINUTES",
        "first_look",
        "2",
        _span("minutes", 0.01, 60),
        "minutes, up to 60",
        "The first wait for a machine that is still being built; it doubles, four times.",
    ),
    Setting(
        "PATCH_SLA_DAYS",
        "sla",
        "30",
        _span("days", 0.001, 3650),
        "days, up to 3650",
        "How soon a Critical or Security patch should be in; the census says who is late.",
    ),
    Setting(
        "PATCH_OWNER_TAG",
        "owner_tag",
        "owner",
        _tag_name,
        "the name of a tag",
        "The tag of machine or resource group that names its owner in the census; its value reaches the logs.",
    ),
    Setting(
        "ARM_ENDPOINT",
        "arm_endpoint",
        "https://management.azure.com",
        _endpoint,
        "https:// and a host",
        "Azure Resource Manager's address; another one in sovereign clouds and in the simulator.",
    ),
    Setting(
        "PATCH_USE_PROXY",
        "use_proxy",
        "off",
        _choice(_SWITCH),
        "off or on",
        "Whether HTTP(S)_PROXY is honoured; looking for it costs half of the CPU of a call.",
    ),
    Setting(
        "RECONCILE_SCHEDULE",
        "schedule",
        "",
        _schedule,
        "an NCRONTAB expression such as 0 */5 * * * *",
        "When the sweep runs. Required: the Functions host reads it too.",
    ),
)
