"""Operators' calendars, each with a fleet, and how late a patch may be under it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from random import Random

from functions.model.machine import Image, ImageKind, MachineId, OsType
from tests.calendars.life import START, Life, Member, Patch
from tests.support import DAY, HOUR, a_machine, settings

WEEKLY = "Sat 22:00-02:00"
MONTHLY = "2nd Tue +8d 22:00-02:00"
DAYS_BETWEEN = (4, 14)  # between the publications of Linux packages that the fleet lacks
ONE = "00000000-0000-0000-0000-000000000001"
TWO = "00000000-0000-0000-0000-000000000002"
WEEK, MONTH = 7, 35  # days from one opening to the next at most: the 2nd Tuesdays are four or five weeks apart

Tags = Callable[[int], Mapping[str, str]]


def no_tags(_: int) -> Mapping[str, str]:
    return {}


def three_rings(number: int) -> Mapping[str, str]:
    """Of each ten machines one in ring 0, three in ring 1, the others in none; each ring on its own day."""
    if number % 10 == 0:
        return {"patch-ring": "0", "patch-window": "Wed 22:00-02:00"}
    if number % 10 <= 3:
        return {"patch-ring": "1", "patch-window": "Fri 22:00-02:00"}
    return {"patch-window": "Sun 22:00-02:00"}


def groups_of_three(number: int) -> Mapping[str, str]:
    return {"patch-group": f"quorum-{number // 3}"}


def by_zone(number: int) -> Mapping[str, str]:
    """As in subscription_of(): the even machines in Paris, the odd ones in New York."""
    zone = "America/New_York" if number // 2 % 2 else "Europe/Paris"
    return {"patch-window": f"{WEEKLY} {zone}"}


@dataclass(frozen=True)
class Calendar:
    """What an operator set, and for what fleet.

    `worst`: days after which a patch must be on every machine that can be installed, from the calendar: the stages that
    a patch may have to await, each an opening apart, after an opening that it just missed. `patch_tuesday`: the goal in
    days for 95 of 100 of Windows' patches that reach the crowd. `packages`: the same for Linux, whose packages are
    published on any day. One that just misses the canaries waits for their next opening: with one such opening a week
    a package may take a week longer than lies between canaries and crowd, so calendars of that kind have no such goal.
    """

    name: str
    environ: Mapping[str, str]
    worst: int
    machines: int = 60
    images: int = 2
    tags: Tags = no_tags
    patch_tuesday: float | None = None
    packages: float | None = None
    two_subscriptions: bool = False
    weekly_growth: float = 0
    half_off_at_night: bool = False
    bad_patch: date | None = None


def canary_in(window: str) -> dict[str, str]:
    return {"PATCH_CANARY_WINDOW": window}


# Room enough, so that the calendar alone decides, where no row is about the caps.
ROOMY = {"PATCH_MAX_IN_FLIGHT": "200", "PATCH_MAX_PER_IMAGE": "100"}
WITH_CANARY = {"PATCH_WINDOW": WEEKLY, **canary_in("Wed 22:00-02:00"), **ROOMY}

# A patch that is published just after a rollout opened waits for the next one, which opens when the first has ended.
# So the bound is: from one rollout's opening to the next, and from there to the end of the crowd's opening.
CALENDARS = (
    # The rollout lasts 6 days, the next one's canary goes a day later at most, and the crowd the day after.
    Calendar("daily", {"PATCH_WINDOW": "daily 22:00-02:00", **ROOMY}, worst=6 + 1 + 2 + 1, patch_tuesday=4, packages=8),
    # Missed by Wednesday's canaries: a week until the next ones, then to the end of Saturday's opening.
    Calendar("weekly, canaries on Wednesday", WITH_CANARY, worst=WEEK + 4, patch_tuesday=8),
    # The canaries a day before the others: whatever is published in a week is in by the next Saturday but one day.
    Calendar(
        "weekly, canaries on Friday",
        {"PATCH_WINDOW": WEEKLY, **canary_in("Fri 18:00-20:00"), **ROOMY},
        worst=WEEK + 2,
        patch_tuesday=8,
    ),
    # Canaries on any day, Saturday's watched until the evening: who misses a Saturday has the next, found a day later.
    Calendar(
        "weekly, canaries on any day",
        {"PATCH_WINDOW": WEEKLY, **canary_in("daily 12:00-16:00"), "PATCH_BAKE_MINUTES": "300", **ROOMY},
        worst=WEEK + 2,
        patch_tuesday=8,
        packages=8,
    ),
    # A rollout takes two openings, the canaries' and the crowd's: missed by one, two weeks until the next, then one.
    Calendar("weekly, no canary window", {"PATCH_WINDOW": WEEKLY, **ROOMY}, worst=3 * WEEK + 1),
    Calendar(
        "monthly, canaries a week before",
        {"PATCH_WINDOW": MONTHLY, **canary_in("2nd Tue +1d 22:00-02:00"), **ROOMY},
        worst=MONTH + 8,  # missed by the canaries: a month until the next ones, then a week to the crowd's opening
        patch_tuesday=12,
    ),
    Calendar("monthly, no canary window", {"PATCH_WINDOW": MONTHLY, **ROOMY}, worst=3 * MONTH + 1),
    # Canaries on Wednesday, ring 0 a week later, the others on Friday and Sunday: missed by one, two weeks to the next.
    Calendar(
        "three rings on three days",
        {"PATCH_WINDOW": "daily 22:00-02:00", **ROOMY},
        worst=3 * WEEK + 5,
        tags=three_rings,
    ),
    Calendar(
        "two subscriptions, two zones",
        {"PATCH_WINDOW": "any", **ROOMY},
        worst=3 * WEEK + 1,  # as weekly without a canary window: a subscription proves its own
        tags=by_zone,
        two_subscriptions=True,
    ),
    # Three members one after another, 40 minutes each, fit into one opening of four hours.
    Calendar("quorum groups of three", WITH_CANARY, worst=WEEK + 4, tags=groups_of_three, patch_tuesday=8),
    # Ten at once for 40 minutes: four hours hold 50 of 200 at least, so the crowd needs four openings.
    Calendar(
        "tight caps: 200 machines, 10 at once",
        {"PATCH_WINDOW": WEEKLY, **canary_in("Wed 22:00-02:00")},
        worst=WEEK + 4 * WEEK + 4,
        machines=200,
    ),
    # As weekly with canaries on Wednesday, and 17 days of black-out between.
    Calendar(
        "black-out over the holidays",
        WITH_CANARY | {"PATCH_BLACKOUT": "2026-12-18..2027-01-03"},
        worst=17 + WEEK + 4,
    ),
    Calendar("20 images, 50 machines of each", WITH_CANARY, worst=WEEK + 4, machines=1000, images=20),
    # A new machine alone opens a rollout and is its canary. Until its ring had a turn its cut-off holds for the crowd
    # too: that is a week more.
    Calendar("grows 5 % a week", WITH_CANARY, worst=WEEK + 4, weekly_growth=0.05),
    Calendar("half off at night", WITH_CANARY, worst=WEEK + 4, half_off_at_night=True),
    # Two days until the breaker is closed, and the canaries' opening is over: the next ones go a week later.
    Calendar("a bad patch in December", WITH_CANARY, worst=2 * WEEK + 4, bad_patch=date(2026, 12, 8)),
)


def life(calendar: Calendar, *, days: int, machines: int | None = None, seed: int = 1) -> Life:
    """The fleet at START; its patches are published over `days`."""
    random = Random(f"{calendar.name}/{seed}")
    count = min(machines or calendar.machines, calendar.machines)
    members = [_member(calendar, number, START - 60 * DAY) for number in range(count)]
    members += _grown(calendar, count, days)
    environ = {"PATCH_CREATED_AFTER": "always", **calendar.environ}
    return Life(settings(**environ), members, [*_published(calendar, days, random)], seed)


def _member(calendar: Calendar, number: int, created: datetime) -> Member:
    image = number % calendar.images
    machine = a_machine(
        id=MachineId(TWO if calendar.two_subscriptions and number // 2 % 2 else ONE, "rg-prod", f"vm-{number:04}"),
        vm_id=f"{number % 10}0000000-0000-0000-0000-{number:012}",
        image=Image(ImageKind.GALLERY, f"image-{image}"),
        os_type=OsType.LINUX if image % 2 else OsType.WINDOWS,
        tags=calendar.tags(number),
        created=created,
        verdict=None,
    )
    return Member(machine, off_at_night=calendar.half_off_at_night and number // 2 % 2 == 1)


def _grown(calendar: Calendar, count: int, days: int) -> Iterator[Member]:
    size, number = float(count), count
    for week in range(1, days // 7):
        size *= 1 + calendar.weekly_growth
        while number < int(size):
            yield _member(calendar, number, START + 7 * week * DAY + (number % 7) * DAY)
            number += 1


def _published(calendar: Calendar, days: int, random: Random) -> Iterator[Patch]:
    """Windows on Patch Tuesday at 18:00 UTC, Linux on days by seed. All go on to the last day."""
    end = START + days * DAY
    day = START.date()
    while (at := datetime.combine(day, time(18), START.tzinfo)) < end:
        if day.weekday() == 1 and 8 <= day.day <= 14:
            yield Patch(f"KB {day}", OsType.WINDOWS, at, bad=day == calendar.bad_patch)
        day += timedelta(days=1)
    at = START
    while (at := at + random.randint(*DAYS_BETWEEN) * DAY + random.randint(0, 23) * HOUR) < end:
        yield Patch(f"package {at:%Y-%m-%d}", OsType.LINUX, at)
