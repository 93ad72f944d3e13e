"""How the text of a setting or tag becomes a value, and what the text may be.

Each Reader carries both, so that a refusal and the documents quote the grammar that is in force.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Generic, NamedTuple, TypeVar

from functions.model.machine import CLASSIFICATIONS
from functions.model.text import BadInput, quoted
from functions.policy.window_grammar import BLACKOUT_GRAMMAR, GRAMMAR, read_blackouts, read_windows, short

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Reader(NamedTuple, Generic[T_co]):
    """Reads one kind of text. `read` returns the value or raises ValueError; `grammar` says what the text may be."""

    read: Callable[[str], T_co]
    grammar: str


def reader(grammar: str) -> Callable[[Callable[[str], T]], Reader[T]]:
    """Makes a Reader of the function below it."""
    return lambda read: Reader(read, grammar)


def refusal(name: str, text: str, *, read_by: Reader[object], error: ValueError) -> str:
    """Why `read_by` could not read a setting or tag: in 200 characters, what is right included."""
    if isinstance(error, BadInput):
        return f"{name}: {error}"
    room = 200 - len(f"{name} is '…'; allowed: {read_by.grammar}")
    return f"{name} is {quoted(text, limit=max(room, 20)) if text else 'not set'}; allowed: {read_by.grammar}"


def choice(choices: Mapping[str, T]) -> Reader[T]:
    """One of these names, in any case, and the value it stands for."""
    values = {name.lower(): value for name, value in choices.items()}

    def read(text: str) -> T:
        if text.lower() not in values:
            raise ValueError
        return values[text.lower()]

    *names, last = choices
    return Reader(read, f"{', '.join(names)} or {last}" if names else last)


def number(low: int, high: int) -> Reader[int]:
    """A whole number from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return Reader(read, f"{low} to {high}")


def percent(low: int, high: int) -> Reader[int]:
    """A whole number of percent from `low` to `high`, with or without its sign."""
    whole = number(low, high)
    return Reader(lambda text: whole.read(text.removesuffix("%").rstrip(" ")), f"{low} to {high}, with or without %")


_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def span(text: str, unit: str = "") -> timedelta:
    """A number of minutes, hours or days: 90m, 1.5h, 1d. `unit` is meant where none is written. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,8}(?:\.[0-9]{1,6})?) ?([mhd]?)", text, re.IGNORECASE | re.ASCII)
    if not match or not (match[2] or unit):
        raise ValueError
    return timedelta(**{_UNITS.get(match[2].lower(), unit): float(match[1])})


def duration(unit: str, low: float, high: float) -> Reader[timedelta]:
    """A duration from `low` to `high`, counted in `unit`: days, hours or minutes. The text may name another unit."""
    least, most = timedelta(**{unit: low}), timedelta(**{unit: high})

    def read(text: str) -> timedelta:
        found = span(text, unit)
        if not least <= found <= most:
            raise ValueError
        return found

    limits = f"{unit}, up to {high}" if low else f"{unit}, 0 to {high}"
    return Reader(read, f"{limits}, or with a unit such as 90m, 24h or 1d")


def optional(present: Reader[T]) -> Reader[T | None]:
    """None for an empty text."""
    return Reader(lambda text: present.read(text) if text else None, present.grammar)


ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)  # before Azure: every machine is younger, whatever its time of creation


switch = choice({"off": False, "on": True, "false": False, "true": True})


windows = Reader(read_windows, GRAMMAR)


blackouts = Reader(read_blackouts, BLACKOUT_GRAMMAR)


@reader(f"{', '.join(CLASSIFICATIONS)}, separated by commas")
def classifications(text: str) -> tuple[str, ...]:
    names = {name.lower(): name for name in CLASSIFICATIONS}
    wanted = [item.strip().lower() for item in text.split(",") if item.strip()]
    if not wanted or any(item not in names for item in wanted):
        raise ValueError
    if {"other", "critical"} <= {*wanted} and "security" not in wanted:  # PackageFilter of Azure/LinuxPatchExtension
        raise BadInput("Linux refuses Other with Critical but without Security; add Security, or leave one of them out")
    return tuple(names[item] for item in dict.fromkeys(wanted))


@reader("KB numbers or package masks, separated by commas")
def packages(text: str) -> tuple[str, ...]:
    items = tuple(item.strip() for item in text.split(",") if item.strip())
    if not all(re.fullmatch(r"[\w.+:~*?-]{1,200}", item, re.ASCII) for item in items):
        raise ValueError
    for item in items:
        if re.match(r"CVE-\d", item, re.IGNORECASE):
            raise BadInput(f"{short(item)} is not a package; write the package or KB number that fixes it")
        if set(item) <= {"*", "?"} and "*" in item:
            raise BadInput(f"{short(item)} is every package; PATCH_CLASSIFICATIONS says which patches go in")
    return items


@reader("an ISO time such as 2026-11-25T00:00:00Z, first-deployment or always")
def time_or_first_deployment(text: str) -> datetime | None:
    """None is the first deployment. A time without an offset is in UTC."""
    if text == "first-deployment":
        return None
    if text == "always":
        return ALWAYS
    moment = datetime.fromisoformat(text)
    if not 2000 <= moment.year < 2200:
        raise ValueError
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


@reader("PT30M to PT3H55M, hours and minutes only, or such as 90m or 2h")
def iso_duration_minutes(text: str) -> int:
    """Only PT…H…M: the Linux extension reads neither days nor weeks (Azure/LinuxPatchExtension)."""
    match = re.fullmatch(r"PT(?:(\d{1,2})H)?(?:(\d{1,3})M)?", text, re.IGNORECASE | re.ASCII)
    found = timedelta(hours=int(match[1] or 0), minutes=int(match[2] or 0)) if match else span(text)
    minutes, rest = divmod(found, timedelta(minutes=1))
    if rest or not 30 <= minutes <= 235:
        raise ValueError
    return minutes


@reader("https:// and a host")
def https_host(text: str) -> str:
    if not re.fullmatch(r"https://[\w.-]+(:\d+)?/?", text, re.ASCII):  # no host that only looks like Azure's
        raise ValueError
    return text.rstrip("/").lower()


@reader("https://, the host of a topic, and /api/events")
def topic_endpoint(text: str) -> str:
    """As Azure shows it; the path may be left out. Empty is none."""
    match = re.fullmatch(r"(https://[\w.-]+(?::\d{1,5})?)(?:/api/events)?/?|", text, re.ASCII | re.IGNORECASE)
    if not match:
        raise ValueError
    return f"{match[1].lower()}/api/events" if text else ""


# How the app's own tags begin, and names that are meant to be one of them.
RESERVED = ("patch-", "patch_")


@reader("the name of a tag that does not begin patch-")
def tag_name(text: str) -> str:
    if not re.fullmatch(r"[^<>%&\\?/\x00-\x1f]{1,512}|", text) or text.lower().startswith(RESERVED):
        raise ValueError
    return text.lower()


_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]


def _number_of(word: str, high: int) -> str:
    """The number of a month or day that is named, whole or by its first three letters; any other word as it is."""
    names, first = {12: (_MONTHS, 1), 6: (_DAYS, 0)}.get(high, ([], 0))
    name, slash, step = word.lower().partition("/")
    places = [place for place, each in enumerate(names, first) if name in (each, each[:3])]
    return f"{places[0]}{slash}{step}" if places else word


@reader("an NCRONTAB expression such as 0 */5 * * * *")
def ncrontab(text: str) -> str:
    """As the Functions host reads it: five or six fields of numbers, `*`, `,`, `-`, `/`, names of months and days."""
    fields = text.split()
    limits = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    if len(fields) not in (5, 6):
        raise ValueError
    for field, (low, high) in zip(fields, limits[-len(fields) :], strict=True):
        for part in field.split(","):
            part = "-".join(_number_of(word, high) for word in part.split("-"))
            match = re.fullmatch(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?", part, re.ASCII)
            if not match or match[3] == "0":
                raise ValueError
            if any(end and not low <= int(end) <= high for end in (match[1], match[2])):
                raise ValueError
    return text


@reader("a name of the letters a to z, digits, . _ and -")
def group_name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,64}", text, re.ASCII):  # a query asks for it; only ASCII lowers alike everywhere
        raise ValueError
    return text.lower()


@reader("a day such as 2027-01-15")
def day(text: str) -> date:
    return date.fromisoformat(text)
