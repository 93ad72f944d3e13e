"""Fleets to look at, as documents of `patcher page`: empty, calm, on a bad day, and ten thousand machines.

Every one is the same at each call. test_browser.py holds their shape to that of a real document.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from functions.model.state import State
from patcher.page.document import COLUMNS, KIND_OF, SHARED, kinds, packed

NOW = datetime(2026, 11, 25, 13, 4, 7, tzinfo=UTC)
OPENS = datetime(2026, 12, 1, 21, 0, tzinfo=UTC)
SUBSCRIPTION = "7c0f5a3e-4d52-4f0a-9a3c-2b6a1c9d0e11"
OWNERS = ("payments", "search", "shop", "warehouse", "")
IMAGES = ("web/2.4.1", "web/2.4.0", "api/1.9.3", "batch/3.0.2", "win2025/11.2.0")
Row = dict[str, Any]

# state → reason, remedy
SAID: Mapping[State, tuple[str, str]] = {
    State.PATCHED: ("nothing to install, assessed 2026-11-25 02:10 UTC", ""),
    State.WAITING_FOR_WINDOW: ("opens Tue 2026-12-01 22:00 (Tue 22:00-23:00 Europe/Paris)", ""),
    State.WAITING_FOR_RING: ("what went before it is watched until 2026-11-26 09:00 UTC", ""),
    State.WAITING_FOR_CANARY: ("a canary of its image goes first", ""),
    State.INSTALLING: ("an installation is under way", ""),
    State.ASSESSING: ("an assessment is under way", ""),
    State.POWERED_OFF: ("the machine is deallocated", "Start the machine; it is checked when it starts."),
    State.OPTED_OUT: ("tag patch-mode is off", "Remove the tag to let it be patched."),
    State.MARKETPLACE: ("a marketplace image, which Azure patches", ""),
    State.FAILED: ("2 patches failed: libssl3, linux-image-6.8.0-49", "Free disk space."),
    State.BREAKER_OPEN: ("the breaker of its image is open: 3 of 4 failed", "Close it when the cause is gone."),
    State.UNDETERMINED: ("Azure could not determine the support state", "Restart the machine."),
    State.BAD_TAG: ("tag patch-windw is not a tag of the app; did you mean patch-window?", "Correct the tag."),
    State.UNSUPPORTED: ("Azure cannot patch this operating system or image", "Patch it inside the guest."),
    State.OVERDUE: ("its installation runs since 2026-11-25 03:00 UTC", "Look at the operation in Azure."),
}
WAITS = (State.WAITING_FOR_WINDOW, State.WAITING_FOR_RING, State.WAITING_FOR_CANARY)
WITH_COMMAND = {State.UNDETERMINED: "az vm restart --ids {}", State.POWERED_OFF: "az vm start --ids {}"}


def row(number: int, state: State, **changes: Any) -> Row:
    """One machine. What is not given follows from its number."""
    owner, image = OWNERS[number % len(OWNERS)], IMAGES[number % 7 % len(IMAGES)]
    name = f"{image.partition('/')[0]}-{number:05}"
    group = (
        f"/subscriptions/{SUBSCRIPTION}/resourcegroups/rg-{owner or 'lab'}/providers/microsoft.compute/virtualmachines/"
    )
    reason, remedy = SAID[state]
    waits = state in WAITS
    late = "critical" if state in (State.FAILED, State.BREAKER_OPEN) else ""
    return {
        "group": group,
        "name": name,
        "owner": owner,
        "image": image,
        "region": ("westeurope", "northeurope")[number % 2],
        "os": "Windows" if image.startswith("win") else "Linux",
        "state": state.value,
        "reason": reason,
        "remedy": remedy,
        "command": WITH_COMMAND.get(state, "").format(group + name),
        "compliance": "late" if late else "blocked" if KIND_OF[state] == "needs a person" else "within",
        "late": late,
        "critical": 1 + number % 2 if waits or late else 0,
        "security": 3 + number % 5 if waits or late else 0,
        "other": number % 3,
        "created": seconds(NOW - timedelta(days=40 + number % 90)),
        "assessed": seconds(NOW - timedelta(hours=11, minutes=number % 60)),
        "installed": seconds(NOW - timedelta(days=6, minutes=number % 600)) if state is State.PATCHED else None,
        "expected": seconds(OPENS + timedelta(minutes=30 * (number % 2))) if waits else None,
        "canary": False,
    } | changes


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def document(rows: list[Row], **changes: Any) -> dict[str, Any]:
    """The document with these machines; all else is that of a fleet at rest."""
    texts, rows_of_words = packed(rows)
    states = Counter(each["state"] for each in rows)
    return {
        "app": "patcher-prod",
        "at": NOW,
        "zone": "Europe/Paris",
        "alive": True,
        "mode": "install",
        "window": "Tue 22:00-23:00 Europe/Paris",
        "sweep": {"last": NOW - timedelta(minutes=3), "running": False},
        "paused": None,
        "pauses": [],
        "held": 0,
        "started": {"machines": 0, "seconds": 0.0},
        "machines": len(rows),
        "states": [{"state": state, "machines": count} for state, count in states.most_common()],
        "in_flight": [],
        "runs": [],
        "breakers": [],
        "left_alone": [],
        "kinds": kinds(),
        "rollouts": [],
        "openings": [],
        "no_forecast": None,
        "sla_days": {"critical": 7.0, "security": 30.0},
        "owners": owners(rows),
        "newborn": [],
        "texts": texts,
        "columns": COLUMNS,
        "shared": SHARED,
        "rows": rows_of_words,
        "every": 60,
        "problems": [],
    } | changes


def owners(rows: list[Row]) -> list[dict[str, Any]]:
    counted = []
    for owner in sorted({each["owner"] for each in rows}):
        held = [each for each in rows if each["owner"] == owner]
        by = Counter(each["compliance"] for each in held)
        late = {f"late_{name}": sum(each["late"] == name for each in held) for name in ("critical", "security")}
        states = {name: by[name] for name in ("within", "late", "blocked", "unknown")}
        counted.append({"owner": owner, "machines": len(held), **states, **late})
    return sorted(counted, key=lambda each: (-each["late"], -each["machines"]))


def empty() -> dict[str, Any]:
    return document([])


def calm() -> dict[str, Any]:
    """All is well: most are patched, one rollout goes on."""
    rows = [row(number, State.PATCHED) for number in range(52)]
    rows += [row(number, State.WAITING_FOR_WINDOW) for number in range(52, 60)]
    rows += [row(60, State.OPTED_OUT), row(61, State.MARKETPLACE)]
    return document(
        rows,
        rollouts=[rollout("web/2.4.1", [("1", 12, 0, 0, 0), ("untagged", 20, 0, 0, 8)])],
        openings=openings(),
        newborn=NEWBORN,
    )


def bad_day() -> dict[str, Any]:
    """Failures, an open breaker, an overdue operation, a pause of one owner, and no sweep for hours."""
    states = [State.PATCHED] * 60 + [State.WAITING_FOR_WINDOW] * 30 + [State.FAILED] * 6 + [State.BREAKER_OPEN] * 18
    states += [State.OVERDUE, State.UNDETERMINED, State.UNDETERMINED, State.BAD_TAG, State.UNSUPPORTED]
    states += [State.POWERED_OFF] * 4 + [State.INSTALLING] * 5 + [State.ASSESSING] * 2 + [State.OPTED_OUT] * 3
    rows = [row(number, state) for number, state in enumerate(states)]
    key = "image-da9666267b21bb91d37d1fb4"
    breaker = {
        "image": "api/1.9.3",
        "boundary": f"subscription {SUBSCRIPTION}",
        "opening": "20261125T081500",
        "reason": "3 of 4 failed: linux-image-6.8.0-49 does not boot",
        "failures": 3,
        "last_failure": NOW - timedelta(hours=2),
        "row": key,
        "close": f"patcher breaker close {key} --opening 20261125T081500 --reason …",
    }
    flying = [
        {
            "machine": each["group"] + each["name"],
            "kind": "assessment" if each["state"] == "assessing" else "installation",
            "phase": "running",
            "since": NOW - timedelta(minutes=9 * place + 4),
            "ends_by": NOW + timedelta(hours=3),
        }
        for place, each in enumerate(rows)
        if each["state"] in ("installing", "assessing")
        for place in [place % 11]
    ]
    return document(
        rows,
        alive=False,
        sweep={"last": NOW - timedelta(hours=5), "running": False},
        pauses=[{"what": "owner shop: month-end", "end": "patcher resume --owner 'shop'"}],
        held=2,
        runs=[
            {
                "run": "20261125T1205-7k2m",
                "standing": "open",
                "kind": "install",
                "reason": "CVE-2026-1234",
                "machines": 12,
                "percent": 50,
                "outcomes": {"to-do": 4, "in-flight": 2, "succeeded": 5, "failed": 1, "gone": 0, "left": 0},
                "opened": NOW - timedelta(hours=2),
                "until": NOW + timedelta(hours=22),
                "ended": None,
                "problem": None,
            }
        ],
        in_flight=sorted(flying, key=lambda each: each["since"]),
        breakers=[breaker],
        rollouts=[
            rollout("api/1.9.3", [("1", 1, 3, 0, 18)], breaker_open=True),
            rollout("web/2.4.1", [("1", 8, 1, 3, 4), ("2", 0, 0, 0, 12)], watched_until=NOW + timedelta(hours=20)),
            rollout("batch/3.0.2", [], canaries={"succeeded": 0, "wanted": 2}),
        ],
        openings=openings(),
        newborn=NEWBORN,
        problems=["/subscriptions/…/virtualmachines/lab-3 its instance view is not available"],
    )


def ten_thousand(seed: int = 1) -> dict[str, Any]:
    """Another seed moves some machines on: what a later look at the same fleet sees."""
    chance = random.Random(seed)
    states = (
        State.PATCHED,
        State.WAITING_FOR_WINDOW,
        State.WAITING_FOR_RING,
        State.INSTALLING,
        State.FAILED,
        State.OPTED_OUT,
    )
    weights = (810, 120, 40, 6, 2, 22)
    rows = [row(number, chance.choices(states, weights)[0]) for number in range(10_000)]
    flying = [
        {
            "machine": each["group"] + each["name"],
            "kind": "installation",
            "phase": "running",
            "since": NOW - timedelta(minutes=place % 47),
            "ends_by": NOW + timedelta(hours=3),
        }
        for place, each in enumerate(rows)
        if each["state"] == "installing"
    ]
    rings = [("1", 400, 2, 30, 40), ("2", 0, 0, 0, 1200), ("untagged", 0, 0, 0, 3100)]
    return document(
        rows,
        in_flight=sorted(flying, key=lambda each: each["since"]),
        rollouts=[rollout(image, rings) for image in IMAGES],
        openings=openings(times=40),
        newborn=NEWBORN,
    )


def rollout(image: str, rings: list[tuple[str, int, int, int, int]], **changes: Any) -> dict[str, Any]:
    names = ("ring", "succeeded", "failed", "in_flight", "waiting")
    return {
        "image": image,
        "boundary": f"subscription {SUBSCRIPTION}",
        "rollout": "20261124T210000",
        "row": "image-da9666267b21bb91d37d1fb4",
        "opened": NOW - timedelta(hours=16),
        "ended_by_hand": False,
        "canaries": {"succeeded": 1, "wanted": 1},
        "rings": [dict(zip(names, each, strict=True)) for each in rings],
        "ends_not_before": NOW + timedelta(days=5),
        "last_turn": OPENS + timedelta(minutes=34),
        "breaker_open": False,
        "watched_until": None,
    } | changes


def openings(times: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "opens": OPENS + timedelta(days=7 * week),
            "closes": OPENS + timedelta(days=7 * week, hours=1),
            "window": "Tue 22:00-23:00 Europe/Paris",
            "canaries": canaries * times,
            "others": others * times,
            "left": left * times,
        }
        for week, (canaries, others, left) in enumerate([(2, 18, 10), (0, 10, 0)])
    ]


NEWBORN = [
    {"image": image, "machines": count, "critical": critical, "security": security, "other": other}
    for image, count, critical, security, other in [
        ("web/2.4.0", 12, 3.5, 21.25, 8.0),
        ("win2025/11.2.0", 3, 1.0, 4.0, 2.0),
        ("web/2.4.1", 9, 0.0, 1.1, 0.4),
    ]
]

FLEETS = {"empty": empty, "calm": calm, "bad-day": bad_day, "ten-thousand": ten_thousand}
