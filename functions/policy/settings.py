"""What the owner wants of the whole app: the app settings, read once into a frozen value.

A wrong setting never fails an import and is never guessed at: read_settings() collects every problem and raises one
SettingsError, and each trigger then refuses, saying what is wrong.

Settings declares each setting once, beside the field that holds its value: name, default, reader with its grammar, and
meaning. SETTINGS is the table of these declarations; `python -m scripts.settings_page` writes it into docs/settings.md.
"""

# ruff: noqa: RUF009 - setting() gives a dataclass field, as field() does

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from functions.model.machine import MachineId
from functions.model.text import quoted
from functions.policy import grammar
from functions.policy.grammar import Reader, choice, duration, number, optional, percent
from functions.policy.names import nearest
from functions.policy.values import (
    MODES,
    REBOOTS,
    Breaker,
    Cap,
    Mode,
    Reboot,
    RolloutScope,
    Scope,
    SlaByOwner,
    count_or_percent,
    days_by_owner,
    machines_in_days,
    machines_named,
    off_or_cap,
    subscriptions_or_management_groups,
)
from functions.policy.windows import ANY, HORIZON, NO_BLACKOUTS, Blackouts, Windows

T = TypeVar("T")

# former name → name. Refused, because an ignored limit is not a limit.
FORMER_NAMES = {"PATCH_ROUND_DAYS": "PATCH_ROLLOUT_DAYS", "PATCH_SETTLE_MINUTES": "PATCH_MIN_AGE_MINUTES"}

# The timer's first tick comes up to one schedule after the app went live; machines created meanwhile are ours too.
FIRST_DEPLOYMENT_MARGIN = timedelta(minutes=5)

# The shortest installation there is: a package on Linux, and the reserve for its reboot (Azure/LinuxPatchExtension).
MIN_INSTALLATION = timedelta(minutes=20)
# On Windows a step and the reserve for its reboot: 15 + 10 minutes, with service packs 20 + 10 (Update Manager's
# troubleshooting page).
_MIN_ON_WINDOWS = timedelta(minutes=25)
_MIN_WITH_SERVICE_PACKS = timedelta(minutes=30)
_MIN_INSTALLATION_TEXT = "20 minutes"
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)  # how long windows are open does not depend on the year

# Resource Manager's addresses, with whom a token is for: public, US Government and China (azure-mgmt-core,
# tools.get_arm_endpoints).
ARM_ENDPOINTS = {
    "https://management.azure.com": "https://management.azure.com",
    "https://management.usgovcloudapi.net": "https://management.core.usgovcloudapi.net",
    "https://management.chinacloudapi.cn": "https://management.chinacloudapi.cn",
}


def audience_of(arm_endpoint: str) -> str:
    """Whom a token for this address is for: in Azure's own clouds as its SDK has it, else the address itself."""
    return ARM_ENDPOINTS.get(arm_endpoint, arm_endpoint)


# The stable versions of Microsoft.Compute's interface (bicep-types-az), from that on in which a machine shows
# bypassPlatformSafetyChecksOnUserSchedule (azure-mgmt-compute 30.0.0): without it a schedule's machine looks like ours.
COMPUTE_VERSIONS = (
    *("2023-03-01", "2023-07-01", "2023-09-01", "2024-03-01", "2024-07-01", "2024-11-01", "2025-04-01"),
    *("2025-11-01", "2026-04-01"),
)


# The domains of Event Grid's topics in the same clouds (learn.microsoft.com, Azure for US Government developers' guide
# and Azure China developers' guide).
TOPIC_DOMAINS = (".eventgrid.azure.net", ".eventgrid.azure.us", ".eventgrid.azure.cn")


class Setting(NamedTuple):
    """One app setting, as a field of Settings declares it."""

    field: str
    name: str
    default: str | None  # a text for the reader; None: the setting is required, and the reader refuses an empty text
    reader: Reader[object]
    meaning: str


def setting(name: str, default: str | None, read_by: Reader[T], *, meaning: str) -> T:
    """Declares the setting that a field is read from.

    It gives a dataclass field. To mypy it gives what the reader reads, so that mypy compares reader and field.
    """
    declared: T = field(metadata={"setting": (name, default, read_by, meaning)})
    return declared


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The app settings."""

    scope: Scope = setting(
        "PATCH_SCOPE",
        "",
        subscriptions_or_management_groups,
        meaning="Where to look. Empty: everything the app's identity may read.",
    )
    mode: Mode = setting(
        "PATCH_MODE", "assess", MODES, meaning="How much the app may do; plan assesses, and says what install would do."
    )
    all_images: bool = setting(
        "PATCH_IMAGES",
        "custom",
        choice({"custom": False, "all": True}),
        meaning="Customized images only, or marketplace images too.",
    )
    include_scale_sets: bool = setting(
        "PATCH_SCALE_SETS",
        "leave",
        choice({"leave": False, "include": True}),
        meaning="Whether members of Flexible scale sets are patched here, where their set neither repairs nor upgrades "
        "them.",
    )
    include_arc: bool = setting(
        "PATCH_ARC",
        "off",
        grammar.switch,
        meaning="Whether Arc-enabled servers are assessed and patched here. Azure charges for each one that is "
        "assessed.",
    )
    start_stopped: Cap | None = setting(  # None: a stopped machine is left stopped
        "PATCH_START_STOPPED",
        "off",
        off_or_cap,
        meaning="How many stopped machines the app may have running at once: started in their window, patched, stopped "
        "again.",
    )
    include_scheduled: bool = setting(
        "PATCH_SCHEDULED",
        "leave",
        choice({"leave": False, "include": True}),
        meaning="Whether machines that a maintenance configuration patches are installed here too.",
    )
    created_after: datetime | None = setting(  # None: the first deployment
        "PATCH_CREATED_AFTER",
        "first-deployment",
        grammar.time_or_first_deployment,
        meaning="Older machines are out of scope.",
    )
    classifications: tuple[str, ...] = setting(
        "PATCH_CLASSIFICATIONS",
        "Critical,Security",
        grammar.classifications,
        meaning="Which patches to install. Linux knows Critical, Security and Other; it installs Critical and Security "
        "together, and refuses Critical with Other alone.",
    )
    packages_include: tuple[str, ...] = setting(
        "PATCH_PACKAGES_INCLUDE",
        "",
        grammar.packages,
        meaning="Installed besides the classifications. Windows takes masks of letters, digits, * and ? only.",
    )
    packages_exclude: tuple[str, ...] = setting(
        "PATCH_PACKAGES_EXCLUDE",
        "",
        grammar.packages,
        meaning="Never installed. Windows takes masks of letters, digits, * and ? only.",
    )
    reboot: Reboot = setting("PATCH_REBOOT", "IfRequired", REBOOTS, meaning="The reboot setting of every installation.")
    max_duration_minutes: int = setting(
        "PATCH_MAX_DURATION", "PT2H", grammar.iso_duration_minutes, meaning="How long an installation may take."
    )
    window: Windows | None = setting(
        "PATCH_WINDOW",
        "",
        optional(grammar.windows),
        meaning="When installations may run. PATCH_MODE=install is refused without.",
    )
    canary_window: Windows | None = setting(  # None: canaries go in PATCH_WINDOW, too
        "PATCH_CANARY_WINDOW",
        "",
        optional(grammar.windows),
        meaning="When canaries may be installed instead, so that the others' opening is not spent on watching. Empty: "
        "in PATCH_WINDOW.",
    )
    blackouts: Blackouts = setting(
        "PATCH_BLACKOUT", "", grammar.blackouts, meaning="Days on which no installation runs, whatever the window."
    )
    first_span: timedelta = setting(
        "PATCH_FIRST_HOURS",
        "0",
        duration("hours", 0, 720),
        meaning="The first patching of a machine this young need not wait for the window; 0: it waits.",
    )
    first_reboot: Reboot = setting(
        "PATCH_FIRST_REBOOT",
        "Never",
        choice({"Never": Reboot.NEVER, "IfRequired": Reboot.IF_REQUIRED}),
        meaning="The reboot setting of an installation outside the window, by PATCH_FIRST_HOURS.",
    )
    min_age: timedelta = setting(
        "PATCH_MIN_AGE_MINUTES",
        "60",
        duration("minutes", 0, 10_080),
        meaning="No installation before a machine has this age.",
    )
    assess_after: timedelta = setting(
        "PATCH_ASSESS_AFTER_MINUTES",
        "15",
        duration("minutes", 0, 10_080),
        meaning="No assessment before a machine has this age: extensions that a template adds after its creation go "
        "first.",
    )
    assess_every: timedelta = setting(
        "PATCH_ASSESS_HOURS",
        "24",
        duration("hours", 1, 160),
        meaning="Every machine is assessed at least this often, spread over that time; to be installed, at least daily "
        "while its window is open or opens within a day.",
    )
    fresh: timedelta = setting(
        "PATCH_FRESH_HOURS",
        "48",
        duration("hours", 0.01, 160),
        meaning="How old a support state may be at an installation. Resource Graph forgets it after 7 days.",
    )
    min_interval: timedelta = setting(
        "PATCH_MIN_INTERVAL_HOURS",
        "144",
        duration("hours", 0.01, 160),
        meaning="At most one installation of a machine in this time; while they fail, two more.",
    )
    max_in_flight: Cap = setting(
        "PATCH_MAX_IN_FLIGHT",
        "10",
        count_or_percent,
        meaning="Installations under way at once in the fleet. To stop installations: PATCH_PAUSE=on or "
        "PATCH_MODE=assess.",
    )
    max_per_image: Cap = setting(
        "PATCH_MAX_PER_IMAGE",
        "5",
        count_or_percent,
        meaning="Installations under way at once on machines of one image version.",
    )
    wide_groups: bool = setting(
        "PATCH_GROUP_SCOPE",
        "resource-group",
        choice({"resource-group": False, "subscription": True}),
        meaning="How far a member of a patch-group that is off or unhealthy holds back the others.",
    )
    canaries: int = setting(
        "PATCH_CANARIES",
        "1",
        number(0, 100),
        meaning="How many machines of an image prove each rollout before the others.",
    )
    canary_machines: tuple[str, ...] = setting(
        "PATCH_CANARY_MACHINES",
        "",
        machines_named,
        meaning="Only these may be canaries. Empty: any, the lowest patch-ring first.",
    )
    rollout_scope: RolloutScope = setting(
        "PATCH_ROLLOUT_SCOPE",
        "subscription",
        choice({scope.value: scope for scope in RolloutScope}),
        meaning="Whose machines prove an image for each other, and stop it: those of one subscription, of one owner by "
        "PATCH_OWNER_TAG, or all.",
    )
    bake: timedelta = setting(
        "PATCH_BAKE_MINUTES",
        "1440",
        duration("minutes", 0, 43_200),
        meaning="How long canaries, and then each ring, are watched before the next goes.",
    )
    success_percent: int = setting(
        "PATCH_SUCCESS_PERCENT",
        "90",
        percent(0, 100),
        meaning="How many installations of the rings before must have succeeded.",
    )
    breaker: Breaker = setting(
        "PATCH_BREAKER",
        "3 in 7 days",
        machines_in_days,
        meaning="So many machines of one image that failed stop its installations until a person closes the breaker.",
    )
    rollout_length: timedelta = setting(
        "PATCH_ROLLOUT_DAYS",
        "6",
        duration("days", 0.001, 90),
        meaning="How long a rollout lasts at least. It ends when every ring has had its turn; then a new one may open.",
    )
    paused: bool = setting(
        "PATCH_PAUSE", "off", grammar.switch, meaning="No new call while on; docs/stop.md has the faster switch."
    )
    pace_percent: int = setting(
        "PATCH_PACE_PERCENT",
        "75",
        percent(1, 100),
        meaning="The share of Azure's quota of patch calls that sweeps may use, per subscription and region.",
    )
    first_retry: timedelta = setting(
        "PATCH_RETRY_MINUTES",
        "15",
        duration("minutes", 0.01, 1_440),
        meaning="The first wait after a passing failure; it doubles, up to a day.",
    )
    first_check: timedelta = setting(
        "PATCH_READY_MINUTES",
        "2",
        duration("minutes", 0.01, 60),
        meaning="The first wait for a machine that is still being built; it doubles, four times.",
    )
    sla: SlaByOwner = setting(
        "PATCH_SLA_DAYS",
        "30",
        days_by_owner,
        meaning="How soon a Critical or Security patch should be in; the census says who is late.",
    )
    owner_tag: str = setting(  # "": no owner is named
        "PATCH_OWNER_TAG",
        "owner",
        grammar.tag_name,
        meaning="The tag of machine or resource group that names its owner in the census; its value reaches the logs.",
    )
    notices: str = setting(  # "": none are sent
        "PATCH_NOTICES",
        "",
        grammar.topic_endpoint,
        meaning="The endpoint of an Event Grid topic that gets a CloudEvent for each move (docs/notices.md). Empty: "
        "none.",
    )
    notice_before: timedelta = setting(
        "PATCH_NOTICE_MINUTES",
        "0",
        duration("minutes", 0, 1_440),
        meaning="How long before its call an installation is announced to PATCH_NOTICES; 0: it is not announced.",
    )
    arm_endpoint: str = setting(
        "ARM_ENDPOINT",
        "https://management.azure.com",
        grammar.https_host,
        meaning="Azure Resource Manager's address; another one in sovereign clouds and in the simulator.",
    )
    compute_version: str = setting(
        "ARM_COMPUTE_VERSION",
        "2024-11-01",
        grammar.choice({each: each for each in COMPUTE_VERSIONS}),
        meaning="The version of Microsoft.Compute's interface; an older one in a cloud that does not have it yet.",
    )
    any_arm_endpoint: bool = setting(
        "ARM_ENDPOINT_ALLOW",
        "known",
        grammar.choice({"known": False, "custom": True}),
        meaning="The app's tokens go to ARM_ENDPOINT and PATCH_NOTICES: known takes only Azure's own clouds, custom "
        "any other address, too.",
    )
    use_proxy: bool = setting(
        "PATCH_USE_PROXY",
        "off",
        grammar.switch,
        meaning="Whether HTTP(S)_PROXY is honoured; looking for it costs half of the CPU of a call.",
    )
    schedule: str = setting(
        "RECONCILE_SCHEDULE",
        None,
        grammar.ncrontab,
        meaning="When the sweep runs. Required: the Functions host reads it too.",
    )

    # The Functions host's own settings name these (docs/settings.md).
    queue_endpoint: str
    table_endpoint: str
    client_id: str  # "": the system-assigned identity

    # Each setting's text by its name, given or by default: the journal shows it when it changes.
    texts: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def group_scope(self, machine: MachineId) -> str:
        """Where the members of its patch-group wait for each other to be well: an id."""
        return machine.subscription if self.wide_groups else machine.group_id

    def may_be_canary(self, machine: MachineId) -> bool:
        """Whether the owner trusts this machine to prove a rollout."""
        return not self.canary_machines or any(_names(item, machine) for item in self.canary_machines)

    def min_installation(self, *, on_windows: bool) -> timedelta:
        """The time an installation needs at least, or it installs nothing."""
        if not on_windows:
            return MIN_INSTALLATION
        return _MIN_WITH_SERVICE_PACKS if "ServicePack" in self.classifications else _MIN_ON_WINDOWS

    @property
    def caps_count_machines(self) -> bool:
        """Whether a cap depends on how many machines are in scope."""
        caps = (self.max_in_flight, self.max_per_image, self.start_stopped)
        return any(cap is not None and cap.is_percent for cap in caps)

    @property
    def windows(self) -> tuple[Windows, ...]:
        """In which some machine may be installed. Tags only narrow them."""
        return (self.window or ANY, *filter(None, [self.canary_window]))

    @property
    def arm_audience(self) -> str:
        """Whom a token for Resource Manager is for."""
        return audience_of(self.arm_endpoint)

    def some_window_open(self, now: datetime) -> bool:
        """Whether some machine could be in a window now."""
        return any(each.closes(now, self.blackouts) for each in self.windows)

    def covers(self, subscription: str) -> bool:
        """Whether a subscription may be in scope. Under management groups only Azure knows, and its events say so."""
        return not self.scope.subscriptions or subscription in self.scope.subscriptions


def _names(item: str, machine: MachineId) -> bool:
    """Whether an item of machines_named means this machine."""
    if item.startswith("/"):
        return item in (str(machine), machine.group_id)
    return fnmatchcase(machine.name, item)


SETTINGS = tuple(Setting(each.name, *each.metadata["setting"]) for each in fields(Settings) if each.metadata)


@dataclass(frozen=True)
class Problem:
    """One wrong setting: its name, and a line of at most 200 characters that says what is wrong and what is right."""

    name: str
    line: str

    def __str__(self) -> str:
        return self.line


class SettingsError(ValueError):
    """One or more app settings are wrong. Nothing may be called until they are corrected."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


def read_settings(environ: Mapping[str, str], now: datetime | None = None) -> Settings:
    """The settings from the environment. Raises SettingsError naming every wrong one.

    Given `now`, black-outs that leave a window no opening are wrong, too.
    """
    problems = _wrong_names(environ)
    # By field. Any is sound here: each value comes from the reader that mypy compared with its field (see setting()).
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for each in SETTINGS:
        text = environ.get(each.name, "").strip()
        texts[each.name] = text or each.default or ""
        try:
            values[each.field] = each.reader.read(texts[each.name])
        except ValueError as error:
            problems.append(Problem(each.name, grammar.refusal(each.name, text, read_by=each.reader, error=error)))
    queue_endpoint = _storage(environ, "queue", problems)
    table_endpoint = _storage(environ, "table", problems)
    client_id = _client_id(environ, problems)
    problems += _contradictions(values)
    problems += _useless_windows(values, now)
    if problems:
        raise SettingsError(problems)
    return Settings(
        **values, queue_endpoint=queue_endpoint, table_endpoint=table_endpoint, client_id=client_id, texts=texts
    )


def _wrong_names(environ: Mapping[str, str]) -> list[Problem]:
    """The names that are nearly a setting's. One without a value is left alone, as a setting without one is."""
    known = [each.name for each in SETTINGS]
    given = (name for name, value in environ.items() if value.strip() and name not in known)
    return [problem for name in given if (problem := _wrong_name(name, known))]


def _wrong_name(name: str, known: list[str]) -> Problem | None:
    """What is wrong with a name of the environment that is not a setting's; None where it is another program's.

    Names of app settings have letters, digits, `.` and `_`, and keep their case on Linux, where `.` becomes `_`
    (learn.microsoft.com, Configure an App Service app). A file of local settings may hold any name.
    """
    shown = quoted(name, limit=60)[1:-1]
    plain = re.sub(r"[-. ]", "_", name.upper())
    if name in FORMER_NAMES:
        return Problem(name, f"{name} is a former name; write {FORMER_NAMES[name]}")
    if plain in known:
        return Problem(shown, f"{shown} is not a setting; write {plain}")
    if plain.startswith("PATCH_"):
        near = nearest(plain, known, prefix="PATCH_")
        hint = f"did you mean {near}?" if near else "docs/settings.md lists all of them"
        return Problem(shown, f"{shown} is not a setting; {hint}")
    if plain.startswith(("RECONCILE", "ARM_E")):  # others' names may begin so, too
        near = nearest(plain, known, cutoff=0.85)
        return Problem(shown, f"{shown} is not a setting; did you mean {near}?") if near else None
    return None


def _contradictions(values: Mapping[str, Any]) -> list[Problem]:
    """The settings that are wrong beside another one. `values` lacks those that could not be read."""
    problems = []
    if values.get("mode") is Mode.INSTALL and values.get("window", Windows()) is None:
        right = "write one such as Sat 22:00-02:00 Europe/Paris, or any (docs/windows.md)"
        line = f"PATCH_WINDOW is not set; PATCH_MODE=install is refused without; {right}"
        problems.append(Problem("PATCH_WINDOW", line))
    arm = values.get("arm_endpoint", next(iter(ARM_ENDPOINTS)))
    if arm not in ARM_ENDPOINTS and values.get("any_arm_endpoint") is False:
        right = "it is none of Azure's clouds, so set ARM_ENDPOINT_ALLOW=custom if it is right"
        problems.append(Problem("ARM_ENDPOINT", f"ARM_ENDPOINT is {quoted(arm, limit=60)}; {right}"))
    topic = urlsplit(values.get("notices", "")).hostname or ""
    if topic and not topic.endswith(TOPIC_DOMAINS) and values.get("any_arm_endpoint") is False:
        right = "it is not a topic of Azure's clouds, so set ARM_ENDPOINT_ALLOW=custom if it is right"
        problems.append(Problem("PATCH_NOTICES", f"PATCH_NOTICES is {quoted(topic, limit=60)}; {right}"))
    return problems


def _useless_windows(values: Mapping[str, Any], now: datetime | None) -> list[Problem]:
    """The windows in which no installation fits, ever or because of the black-outs."""
    problems = []
    for name, windows in (("PATCH_WINDOW", values.get("window")), ("PATCH_CANARY_WINDOW", values.get("canary_window"))):
        if not windows:
            continue
        if not windows.opens_for(MIN_INSTALLATION, now or _SOME_DAY):
            remedy = f"none of its openings lasts {_MIN_INSTALLATION_TEXT}, so nothing is ever installed"
        elif now and not windows.opens_for(MIN_INSTALLATION, now, values.get("blackouts", NO_BLACKOUTS)):
            remedy = f"PATCH_BLACKOUT leaves it no opening of {_MIN_INSTALLATION_TEXT} within {HORIZON.days} days"
        else:
            continue
        problems.append(Problem(name, f"{name} is {quoted(windows.text, limit=60)}; {remedy}"))
    return problems


def _storage(environ: Mapping[str, str], service: str, problems: list[Problem]) -> str:
    """The endpoint of the host's own storage account, where the ledger and the queues are. By identity only."""
    name = f"AzureWebJobsStorage__{service}ServiceUri"
    uri = environ.get(name, "")
    account = environ.get("AzureWebJobsStorage__accountName", "")
    if not uri and re.fullmatch(r"[a-z0-9]{3,24}", account):
        return f"https://{account}.{service}.core.windows.net"
    if re.fullmatch(r"https://[\w.-]+(:\d+)?(/\w+)?/?", uri, re.ASCII):
        return uri.rstrip("/")
    value = quoted(uri, limit=60) if uri else "not set"
    problems.append(
        Problem(name, f"{name} is {value}; allowed: https://<account>.{service}.core.windows.net, without a key")
    )
    return ""


def _client_id(environ: Mapping[str, str], problems: list[Problem]) -> str:
    """The client id of a user-assigned identity; "" for the system-assigned one."""
    name = next((name for name in ("AzureWebJobsStorage__clientId", "AZURE_CLIENT_ID") if environ.get(name)), "")
    text = environ.get(name, "")
    if not re.fullmatch(r"[\w-]{0,64}", text, re.ASCII):
        line = f"{name} is {quoted(text, limit=60)}; allowed: the client id of a user-assigned identity"
        problems.append(Problem(name, line))
    return text
