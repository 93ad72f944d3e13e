"""What the host reads before anything runs: host.json, app settings, names and connections in the declarations.

Three kinds of mistake have three consequences, as on the real host. A wrong value in host.json stops the whole host
(state Error). A wrong or missing setting that one function names disables that function alone. An unknown key of
host.json is ignored. Nothing here reads the process environment; the caller passes the settings.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_OVERRIDE_PREFIX = "AzureFunctionsJobHost__"
_TIME_SPAN = re.compile(
    r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}(?:\.\d+)?))?"
)

LOG_LEVELS = ("Trace", "Debug", "Information", "Warning", "Error", "Critical", "None")


class HostJsonError(Exception):
    """A value in host.json has the wrong type or range: the host goes into state Error."""


class SettingError(Exception):
    """A setting that a function names is missing or wrong: that function is disabled, the others run."""


@dataclass(frozen=True)
class QueueOptions:
    """extensions.queues of host.json."""

    batch_size: int = 16
    new_batch_threshold: int | None = None  # None: batch_size / 2 for each processor
    max_dequeue_count: int = 5
    visibility_timeout_seconds: float = 0.0  # how long a failed message stays away
    max_polling_interval_seconds: float = 60.0
    base64: bool = True


@dataclass(frozen=True)
class HttpOptions:
    """extensions.http of host.json; None is without limit, the default outside the Consumption plan."""

    max_concurrent_requests: int | None = None
    max_outstanding_requests: int | None = None


@dataclass(frozen=True)
class HostOptions:
    """host.json: the parts that have an effect here."""

    function_timeout_seconds: float | None = 1800.0
    queues: QueueOptions = QueueOptions()
    http: HttpOptions = HttpOptions()
    log_levels: Mapping[str, str] = field(default_factory=dict)


def read_host_json(path: Path, settings: Mapping[str, str]) -> HostOptions:
    """Parse host.json, overlaid with the app settings `AzureFunctionsJobHost__section__key`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise HostJsonError(f"host.json cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("version") != "2.0":
        raise HostJsonError("host.json: version must be 2.0")
    return _options(_Section("host.json", _overlaid(content, settings)))


def _options(root: _Section) -> HostOptions:
    queues = root.section("extensions").section("queues")
    http = root.section("extensions").section("http")
    default = QueueOptions()
    return HostOptions(
        function_timeout_seconds=_function_timeout(root),
        queues=QueueOptions(
            batch_size=queues.integer("batchSize", default.batch_size, minimum=1, maximum=32),
            new_batch_threshold=_optional_integer(queues, "newBatchThreshold", 0),
            max_dequeue_count=queues.integer("maxDequeueCount", default.max_dequeue_count, minimum=1),
            visibility_timeout_seconds=queues.time_span("visibilityTimeout", 0.0, minimum=0.0, maximum=7 * 86400.0),
            max_polling_interval_seconds=queues.time_span("maxPollingInterval", 60.0, minimum=0.1),
            base64=queues.word("messageEncoding", "base64", ("base64", "none")) == "base64",
        ),
        http=HttpOptions(_limit(http, "maxConcurrentRequests"), _limit(http, "maxOutstandingRequests")),
        log_levels=_log_levels(root.section("logging").section("logLevel")),
    )


def _function_timeout(root: _Section) -> float | None:
    if str(root.get("functionTimeout")) == "-1":
        return None
    return root.time_span("functionTimeout", 1800.0, minimum=1.0)


def _optional_integer(section: _Section, key: str, minimum: int) -> int | None:
    return None if section.get(key) is None else section.integer(key, minimum, minimum=minimum)


def _limit(section: _Section, key: str) -> int | None:
    value = section.integer(key, -1, minimum=-1)
    return None if value == -1 else value


def _log_levels(section: _Section) -> dict[str, str]:
    return {category: section.word(category, "Information", LOG_LEVELS) for category in section.categories()}


class _Section:
    """One object of host.json. Keys are compared without case; numbers may be written as text."""

    def __init__(self, path: str, content: Mapping[str, Any]) -> None:
        self._path = path
        self._content = {key.lower(): (key, value) for key, value in content.items()}

    def categories(self) -> Iterator[str]:
        return (key for key, _ in self._content.values())

    def get(self, key: str) -> Any:
        return self._content.get(key.lower(), (key, None))[1]

    def section(self, key: str) -> _Section:
        value = self.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return _Section(f"{self._path} {key}", value)

    def integer(self, key: str, default: int, *, minimum: int, maximum: int | None = None) -> int:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
            raise self._wrong(key, value, "a whole number")
        if int(value) < minimum or (maximum is not None and int(value) > maximum):
            raise self._wrong(key, value, f"{minimum} or more" if maximum is None else f"{minimum} to {maximum}")
        return int(value)

    def time_span(self, key: str, default: float, *, minimum: float, maximum: float | None = None) -> float:
        """Seconds of a [d.]hh:mm[:ss] text."""
        value = self.get(key)
        if value is None:
            return default
        seconds = parse_time_span(value) if isinstance(value, str) else None
        if seconds is None or seconds < minimum or (maximum is not None and seconds > maximum):
            raise self._wrong(key, value, "a time span hh:mm:ss in range")
        return seconds

    def word(self, key: str, default: str, words: Sequence[str]) -> str:
        value = self.get(key)
        if value is None:
            return default
        for word in words:
            if isinstance(value, str) and value.lower() == word.lower():
                return word
        raise self._wrong(key, value, " or ".join(words))

    def _wrong(self, key: str, value: object, wanted: str) -> HostJsonError:
        return HostJsonError(f"{self._path} {key} is {value!r}; it must be {wanted}")


def parse_time_span(text: str) -> float | None:
    """Seconds of a .NET time span [d.]hh:mm[:ss[.fff]], or None for another text."""
    found = _TIME_SPAN.fullmatch(text.strip())
    if found is None:
        return None
    hours, minutes, seconds = int(found["hours"]), int(found["minutes"]), float(found["seconds"] or 0)
    if hours > 23 or minutes > 59 or seconds >= 60:
        return None
    return dt.timedelta(days=int(found["days"] or 0), hours=hours, minutes=minutes, seconds=seconds).total_seconds()


def _overlaid(content: dict[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    for name in settings:
        if name.startswith(_OVERRIDE_PREFIX):
            content = _with_value(content, name.removeprefix(_OVERRIDE_PREFIX).split("__"), settings[name])
    return content


def _with_value(content: Mapping[str, Any], path: list[str], value: str) -> dict[str, Any]:
    wanted, *rest = path
    known = next((key for key in content if key.lower() == wanted.lower()), wanted)
    if not rest:
        return {**content, known: value}
    inner = content.get(known, {})
    return {**content, known: _with_value(inner if isinstance(inner, dict) else {}, rest, value)}


def resolve_names(text: str, settings: Mapping[str, str]) -> str:
    """Replace every `%NAME%` by the app setting of that name."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in settings:
            raise SettingError(f"'%{found[1]}%' does not resolve to a value: the app setting is missing")
        return settings[found[1]]

    return re.sub(r"%([^%]+)%", value, text)


def is_disabled(function: str, settings: Mapping[str, str]) -> bool:
    """The app setting `AzureWebJobs.<function>.Disabled`."""
    return settings.get(f"AzureWebJobs.{function}.Disabled", "").lower() in ("1", "true")


@dataclass(frozen=True)
class ServiceAddress:
    """One service of a storage account, reached by managed identity."""

    url: str
    client_id: str | None  # None: the system-assigned identity


def service_address(connection: str, service: str, settings: Mapping[str, str]) -> ServiceAddress:
    """Resolve an identity-based connection for `service` (blob or queue).

    Raises SettingError. On the real host a connection string would win; here it is refused, because Azurite is reached
    by identity only and ignoring it would hide which of the two is used.
    """
    if connection in settings:
        raise SettingError(f"{connection} is a connection string: this host takes identity-based connections only")
    client_id = settings.get(f"{connection}__clientId")
    credential = settings.get(f"{connection}__credential")
    if credential not in (None, "managedidentity"):
        raise SettingError(f"{connection}__credential is {credential!r}; it must be managedidentity")
    if client_id and credential is None:
        raise SettingError(f"{connection}__clientId needs {connection}__credential=managedidentity")
    url = settings.get(f"{connection}__{service}ServiceUri")
    account = settings.get(f"{connection}__accountName")
    if not url and account:
        url = f"https://{account}.{service}.core.windows.net"
    if not url:
        raise SettingError(f"the connection '{connection}' is missing: set {connection}__{service}ServiceUri")
    return ServiceAddress(url.rstrip("/"), client_id)
